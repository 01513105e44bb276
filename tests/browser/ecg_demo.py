"""`consilium demo` with the web client that notes what it draws, with `ecg_device` as its monitor and an empty room."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from server import http
from server.__main__ import main
from server.demo import run
from server.demo.simulators import simulator

WEB = "TEST_WEB_ROOT"


async def _no_film(*_arguments: object) -> None:
    pass


def _chosen(module: str, *arguments: Any) -> contextlib.AbstractAsyncContextManager[None]:
    if module == "server.demo.monitor":
        return simulator("tests.browser.ecg_device", *arguments)
    return contextlib.nullcontext()


def begin() -> None:
    """Change what differs, then be the demo."""
    patched: Any = run
    patched._prepare_media, patched.simulator = _no_film, _chosen
    http.WEB_ROOTS = (Path(os.environ[WEB]), *http.WEB_ROOTS[1:])
    main()


if __name__ == "__main__":
    sys.exit(begin())
