/** Builds the harness for the browser tests and the benchmark; no part of the product. Always with the test hook. */
import { resolve } from "node:path";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const page = (name: string): string => resolve(import.meta.dirname, `${name}.html`);

export default defineConfig({
  root: import.meta.dirname,
  base: "./",
  plugins: [react()],
  define: { __ECG_DRAWN__: JSON.stringify(process.env.CONSILIUM_ECG_BENCH !== "1") },
  build: {
    target: "es2023",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    rollupOptions: { input: { index: page("index"), bench: page("bench"), gallery: page("gallery") } },
  },
  worker: { format: "es" },
});
