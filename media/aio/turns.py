"""Work that may wait a moment gives way to media.

Fifty data channel messages in a row would keep the loop from its socket for milliseconds. Jobs that are not
media are put here instead of being done where they arise: they run one after another in slices of a fraction of
a millisecond, and between two slices the loop looks at its sockets and serves what came.
"""

import asyncio
import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

SLICE_NS = 250_000
"""Six or seven sends; one more look at the sockets costs a fiftieth of it."""

Job = Callable[[], None]


def _log_bug(name: str) -> None:
    log.exception("a bug beside the packet path", extra={"counter": name})


class Turns:
    """A queue of jobs; one that waits already is not entered again.

    Args:
        on_bug: called with a counter's name inside the handler of an exception that a job let escape.
    """

    def __init__(self, on_bug: Callable[[str], None] = _log_bug) -> None:
        self._on_bug = on_bug
        self._jobs: dict[Job, None] = {}
        self._running = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self, job: Job) -> None:
        """Run the job soon, once."""
        self._jobs[job] = None
        if not self._running:
            self._running = True
            if self._loop is None:
                self._loop = asyncio.get_running_loop()  # asking costs a system call
            self._loop.call_soon(self._run)

    def forget(self, job: Job) -> None:
        """Do not run it; idempotent."""
        self._jobs.pop(job, None)

    def _run(self) -> None:
        until_ns = time.monotonic_ns() + SLICE_NS
        while self._jobs:
            job = next(iter(self._jobs))
            del self._jobs[job]
            try:
                job()
            except Exception:  # one peer's trouble must not end the turns of all
                self._on_bug("turn_errors")
            if time.monotonic_ns() >= until_ns:
                break
        if self._jobs:
            # Callbacks of sockets are entered behind what waits already, so the next slice is entered behind them.
            assert self._loop is not None
            self._loop.call_soon(self._yield)
        else:
            self._running = False

    def _yield(self) -> None:
        assert self._loop is not None
        self._loop.call_soon(self._run)
