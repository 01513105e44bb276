/** One build, three pages: the app (sign-in, consults, stations), the desk and the wall. */
import { resolve } from "node:path";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import { ecgHookCheck, ecgHookDefine } from "./vite.ecg-hook.ts";
import { pdfjsFiles } from "./vite.pdfjs.ts";

const page = (name: string): string => resolve(import.meta.dirname, `${name}.html`);

export default defineConfig({
  plugins: [react(), ecgHookCheck(), pdfjsFiles()],
  define: ecgHookDefine,
  build: {
    outDir: "dist",
    target: "es2023",
    // Everything must come from our own origin and pass the CSP: no inlined data: scripts or fonts.
    assetsInlineLimit: 0,
    rollupOptions: { input: { index: page("index"), consult: page("consult"), wall: page("wall") } },
  },
  worker: { format: "es", plugins: () => [ecgHookCheck()] },
});
