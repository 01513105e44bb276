/** Builds the harness for the browser tests; no part of the product. */
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  root: import.meta.dirname,
  base: "./",
  plugins: [react()],
  build: { target: "es2023", emptyOutDir: true, assetsInlineLimit: 0 },
  worker: { format: "es" },
});
