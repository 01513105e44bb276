/**
 * Puts beside our own files what PDF.js reads by name: character maps, standard fonts, decoders without WebAssembly.
 *
 * The folder carries the version, so that it can be cached for ever like everything else under assets/.
 */
import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Plugin } from "vite";

const HOME = resolve(import.meta.dirname, "node_modules/pdfjs-dist");
const FOLDERS: Readonly<Record<string, RegExp>> = {
  cmaps: /\.bcmap$/,
  standard_fonts: /\.(pfb|ttf)$/,
  // WebAssembly would need a weaker Content-Security-Policy.
  wasm: /_nowasm_fallback\.js$/,
};

export function pdfjsFiles(): Plugin {
  return {
    name: "pdfjs-files",
    apply: "build",
    generateBundle() {
      const { version } = JSON.parse(readFileSync(resolve(HOME, "package.json"), "utf8")) as { version: string };
      for (const [folder, wanted] of Object.entries(FOLDERS)) {
        for (const name of readdirSync(resolve(HOME, folder)).filter((file) => wanted.test(file))) {
          const fileName = `assets/pdfjs-${version}/${folder}/${name}`;
          this.emitFile({ type: "asset", fileName, source: readFileSync(resolve(HOME, folder, name)) });
        }
      }
    },
  };
}
