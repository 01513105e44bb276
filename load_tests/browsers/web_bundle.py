"""A script of ours built together with modules of the web client, for pages and Node programs of benchmarks."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

WEB_CLIENT = Path(__file__).resolve().parents[2] / "web_client"
BUILD_TIMEOUT_S = 110

_CONFIG = """
export default {
  root: %(root)s,
  base: "./",
  logLevel: "error",
  define: %(define)s,
  resolve: { alias: %(alias)s, dedupe: ["react", "react-dom"] },
  build: %(build)s,
  worker: { format: "es" },
};
"""


def why_not() -> str | None:
    """The reason why nothing can be built here, None when it can."""
    if shutil.which("node") is None or not (WEB_CLIENT / "node_modules" / "vite").exists():
        return "node or its modules are not installed (npm ci in web_client)"
    return None


def build_program(folder: Path, source: str) -> Path:
    """One file for Node; ``@src`` in its imports is the web client's source folder."""
    (folder / "entry.ts").write_text(source, encoding="utf-8")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    build = {
        "target": "node20",
        "outDir": "out",
        "lib": {"entry": "entry.ts", "formats": ["es"], "fileName": "program"},
        "rollupOptions": {"external": ["node:fs", "node:zlib"]},
    }
    _build(folder, build, {})
    return folder / "out" / "program.js"


def build_page(folder: Path, source: str, define: Mapping[str, str] | None = None) -> Path:
    """A folder with an ``index.html`` that runs a TypeScript module with JSX; ``@src`` as above.

    Args:
        define: compile-time constants, as JavaScript expressions.
    """
    (folder / "main.tsx").write_text(source, encoding="utf-8")
    (folder / "index.html").write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>bench</title>'
        "<style>html,body,#root{width:100%;height:100%;margin:0}</style></head>"
        '<body><div id="root"></div><script type="module" src="./main.tsx"></script></body></html>',
        encoding="utf-8",
    )
    _build(folder, {"target": "es2023", "outDir": "out", "assetsInlineLimit": 0}, define or {})
    return folder / "out"


def _build(folder: Path, build: Mapping[str, object], define: Mapping[str, str]) -> None:
    # What the script imports by name is the web client's own, whatever folder the script is in.
    modules = folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(WEB_CLIENT / "node_modules")
    config = _CONFIG % {
        "root": json.dumps(str(folder)),
        "define": json.dumps(dict(define)),
        "alias": json.dumps({"@src": str(WEB_CLIENT / "src")}),
        "build": json.dumps(build),
    }
    (folder / "vite.config.mjs").write_text(config, encoding="utf-8")
    vite = WEB_CLIENT / "node_modules" / "vite" / "bin" / "vite.js"
    command = ["node", str(vite), "build", "--config", str(folder / "vite.config.mjs")]
    subprocess.run(command, check=True, timeout=BUILD_TIMEOUT_S, cwd=folder)
