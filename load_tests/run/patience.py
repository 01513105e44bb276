"""Ctrl-C and SIGTERM, from the first moment to the last: a run ends early, and its report is written all the same.

The handlers are Python's own and stay when the event loop is gone, so that no signal finds the default one: not while a
server is being prepared, not between the run and its report, not while the report is written. Whoever presses Ctrl-C
once more is told again what is going on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
ENDING: Final = "ending early: what was measured until now is being written"


class Patience:
    """Whether anybody has had enough; made in the main thread."""

    def __init__(self) -> None:
        self.over = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None
        for number in SIGNALS:
            signal.signal(number, self._take)

    def event(self) -> asyncio.Event:
        """Set when it is over; of the loop that runs now."""
        self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()
        if self.over:
            self._event.set()
        return self._event

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self.over = True
        with contextlib.suppress(OSError):  # nobody reads any more
            os.write(2, f"{ENDING}\n".encode())  # a handler may find `print` in the middle of its work
        if self._loop is not None and self._event is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the report is being written
                self._loop.call_soon_threadsafe(self._event.set)
