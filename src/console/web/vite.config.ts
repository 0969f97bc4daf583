import { readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

/** The page is embedded into a binary that is handed out, so the map library's licence goes with it. */
function licences(): Plugin {
  return {
    name: "licences",
    generateBundle() {
      const source = readFileSync(new URL("node_modules/maplibre-gl/LICENSE.txt", import.meta.url), "utf8");
      this.emitFile({ type: "asset", fileName: "licences.txt", source });
    },
  };
}

export default defineConfig({
  // Relative, so the page also works behind a reverse proxy's path.
  base: "./",
  plugins: [licences()],
  build: {
    // MapLibre stringifies its worker: a lower target makes esbuild add helpers that the worker does not have.
    target: "es2022",
    // MapLibre alone is a megabyte; it comes from the station itself, so one file is right.
    chunkSizeWarningLimit: 1500,
    reportCompressedSize: false,
    modulePreload: false,
  },
  server: { proxy: { "/api": "http://127.0.0.1:8099" } },
});
