/** A canvas that remembers the words painted on it; used by tests only. */
import type { EcgCanvas } from "./engine";

/** What an engine needs of a canvas where there is no browser. */
export class FakeCanvas extends EventTarget {
  width = 1;
  height = 1;
  /** Every text painted since the last look. */
  words: string[] = [];
  /** Strokes since the last look. */
  strokes = 0;

  getContext(): unknown {
    const known: Record<string, unknown> = {
      measureText: (text: string) => ({ width: 7 * text.length }),
      fillText: (text: string) => this.words.push(text),
      stroke: () => {
        this.strokes += 1;
      },
      createPattern: () => ({}),
    };
    return new Proxy(known, {
      get: (target, name) => target[String(name)] ?? (() => undefined),
      set: () => true,
    });
  }
}

export const asCanvas = (canvas: FakeCanvas): EcgCanvas => canvas as unknown as EcgCanvas;
