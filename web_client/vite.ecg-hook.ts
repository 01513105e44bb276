/**
 * The test hook of the ECG display (src/waveform/drawn.ts): defined at build time, and proof that it is absent.
 *
 * `CONSILIUM_ECG_TEST_HOOK=1` makes a build that remembers what it strokes. Every other build fails when a trace
 * of the hook is left in any chunk, the workers' included, so no product can carry it by mistake.
 */
import type { Plugin } from "vite";

/** `MARK` of src/waveform/drawn.ts. */
const MARK = "consilium-ecg-drawn-samples";

export const hasEcgHook = process.env.CONSILIUM_ECG_TEST_HOOK === "1";

export const ecgHookDefine = { __ECG_DRAWN__: JSON.stringify(hasEcgHook) };

/** For `plugins` and `worker.plugins`. */
export function ecgHookCheck(): Plugin {
  return {
    name: "ecg-hook-check",
    generateBundle(_options, bundle) {
      if (hasEcgHook) return;
      for (const [name, part] of Object.entries(bundle)) {
        const text = part.type === "chunk" ? part.code : String(part.source);
        if (text.includes(MARK) || text.includes("ecgDrawn")) this.error(`the ECG test hook is in ${name}`);
      }
    },
  };
}
