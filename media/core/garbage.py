"""When the worker looks for cyclic garbage: not while packets wait, and often enough that memory stays bounded.

Nearly all that a consult makes dies when it is no longer used. What closes (a Transport with all that is on it) is a
knot of objects that name each other, which only Python's collector frees. Left to itself that runs by counts of
allocations, walks everything there is (7 to 11 ms at 100 viewers), and finds nothing as long as nobody leaves. So it is
switched off, and asked for here, by how many objects more there are than after the last time: a worker in a steady
state is never stopped, one that people leave is stopped for milliseconds once a minute or once for sixty of them.
"""

from typing import Final

IDLE_GROWTH: Final = 1_000
"""Objects more than after the last time that are worth a look while nobody would notice."""
SLOW_GROWTH: Final = 2_000
"""The same after ``SLOW_US``: a few viewers."""
SLOW_US: Final = 60_000_000
LEAST_GROWTH: Final = 20_000
"""The same at any time: about sixty viewers, ten megabytes."""
GROWTH_SHARE: Final = 0.5
"""Of what lived after the last time: the work is in proportion to what was made."""


class GarbagePolicy:
    """Decides; `collected` must be told of each time."""

    def __init__(self, now_us: int) -> None:
        self._last_us = now_us
        self._live = 0

    def is_due(self, growth: int, *, idle: bool, now_us: int) -> bool:
        """Call about once a second.

        Args:
            growth: objects that were made and not freed since the last time.
            idle: nobody is connected.
        """
        if idle and growth >= IDLE_GROWTH:
            return True
        if growth >= SLOW_GROWTH and now_us - self._last_us >= SLOW_US:
            return True
        return growth >= max(LEAST_GROWTH, GROWTH_SHARE * self._live)

    def collected(self, live: int, now_us: int) -> None:
        """That was done; so many objects live."""
        self._live, self._last_us = live, now_us
