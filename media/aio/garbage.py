"""Python's collector, switched off and asked for when it suits (``media.core.garbage`` decides).

Only for a process that relays and nothing else: the collector is one for all of it.
"""

import asyncio
import gc
from collections.abc import Callable

from media.aio.clock import Clock, on_grid
from media.aio.counters import Counters
from media.core.garbage import COUNT_US, FULL, LOOK_US, GarbagePolicy


class GarbageKeeper:
    """Owns one timer and the collector, from `start` to `stop`.

    Args:
        is_idle: nobody is connected.
    """

    def __init__(self, clock: Clock, counters: Counters, is_idle: Callable[[], bool]) -> None:
        self._clock = clock
        self._counters = counters
        self._is_idle = is_idle
        self._policy = GarbagePolicy(clock())
        self._closed = 0
        """Transports that had closed when everything was looked at."""
        self._old = 0
        self._counted_us = clock()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """What there is by now stays: it is never looked at again."""
        gc.collect()
        gc.freeze()
        gc.disable()
        self._schedule()

    def stop(self) -> None:
        """The collector is on its own again; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            gc.unfreeze()
            gc.enable()

    def look(self) -> None:
        """Collect if it is time."""
        began_us = self._clock()
        growth, closed = gc.get_count()[0], self._counters.values.get("transports_closed", 0)
        if began_us - self._counted_us >= COUNT_US:
            self._old, self._counted_us = len(gc.get_objects(generation=1)), began_us
        generation = self._policy.due(
            growth, left=closed - self._closed, old=self._old, idle=self._is_idle(), now_us=began_us
        )
        if generation is None:
            return
        found = gc.collect(generation)
        now_us = self._clock()
        self._counters.add("garbage_collections")
        self._counters.add("garbage_objects", found)
        self._counters.add("garbage_us", now_us - began_us)
        if generation == FULL:
            self._policy.collected(now_us)
            self._closed, self._old = closed, 0

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(on_grid(loop.time(), LOOK_US / 1e6), self._on_timer)

    def _on_timer(self) -> None:
        self.look()
        self._schedule()
