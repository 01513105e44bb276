"""A timer on the running event loop that keeps a `LagHistogram`."""

import asyncio

from media.aio.clock import on_grid
from media.core.lag import LagHistogram


class LagProbe:
    """Owns one timer.

    Args:
        step_s: how often it looks; a look costs a wake-up.
        seen: where it counts, of the same step; one of its own unless given.
    """

    def __init__(self, step_s: float, seen: LagHistogram | None = None) -> None:
        self._step_s = step_s
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self.seen = seen if seen is not None else LagHistogram(step_s)

    def start(self) -> None:
        """Begin to look."""
        loop = asyncio.get_running_loop()
        self._due_s = on_grid(loop.time(), self._step_s)
        self._timer = loop.call_at(self._due_s, self._look)

    def stop(self) -> None:
        """No more looks; idempotent. What was seen stays."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take(self) -> LagHistogram:
        """What was seen since the last call."""
        seen, self.seen = self.seen, LagHistogram(self._step_s)
        return seen

    def _look(self) -> None:
        self.seen.add(asyncio.get_running_loop().time() - self._due_s)
        self.start()
