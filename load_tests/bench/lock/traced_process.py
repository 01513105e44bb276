"""`python -m load_tests.bench.lock.traced_process …`: hub or gateway as ``consilium …``, the steps of a read timed.

Functions of the path that a read takes are wrapped so that their beginning and end are noted, two clock readings each;
at the end of the process the notes lie beside its data folder. The clock is the machine's (CLOCK_MONOTONIC), so the
notes of two processes and of their client can be laid side by side (`stages.py`).
"""

from __future__ import annotations

import atexit
import functools
import json
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from load_tests.bench.lock.stages import MARKS

_marks: list[tuple[str, int]] = []


def _note(name: str) -> None:
    _marks.append((name, time.perf_counter_ns()))


def _steps(owner: Any, name: str) -> None:
    """Note when a coroutine function begins and ends."""
    wrapped: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(wrapped)
    async def noted(*arguments: Any, **named: Any) -> Any:
        _note(f"{name} begins")
        try:
            return await wrapped(*arguments, **named)
        finally:
            _note(f"{name} ends")

    setattr(owner, name, noted)


def _calls(owner: Any, name: str, about: Callable[[Any], str] = lambda _frame: "") -> None:
    """Note when a plain function is done.

    Args:
        about: of its second argument, a word to tell its calls apart.
    """
    wrapped: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(wrapped)
    def noted(*arguments: Any, **named: Any) -> Any:
        try:
            return wrapped(*arguments, **named)
        finally:
            _note(f"{name} {about(arguments[1])}".rstrip())

    setattr(owner, name, noted)


def _type_of(frame: Any) -> str:
    return type(frame).__name__


def _trace_hub() -> None:
    from server.api import lock
    from server.lock.aio.pipe import Pipe
    from server.lock.aio.session import LockSession

    for name in ("_answer", "_ask", "_record", "_still"):
        _steps(lock, name)
    _calls(Pipe, "say", _type_of)
    _calls(LockSession, "_answered")


def _trace_gateway() -> None:
    from server.gateway.adapters.fhir_http import FhirHttp
    from server.gateway.asking import Asking
    from server.gateway.journal import Journal
    from server.lock.aio.pipe import Pipe

    _steps(FhirHttp, "json")
    _steps(Journal, "note_question")
    _steps(Pipe, "answer")
    _calls(Asking, "take")
    _calls(Asking, "_body")


def _keep(folder: Path) -> None:
    folder.with_name(folder.name + MARKS).write_text(json.dumps(_marks), "utf-8")


if __name__ == "__main__":
    atexit.register(_keep, Path(sys.argv[sys.argv.index("--data-dir") + 1]))
    _trace_gateway() if sys.argv[1] == "gateway" else _trace_hub()
    runpy.run_module("server", run_name="__main__")
