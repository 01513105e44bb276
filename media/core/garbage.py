"""When the worker looks for cyclic garbage: not while packets wait, and often enough that memory stays bounded.

Nearly all that a consult makes dies when it is no longer used. What closes (a Transport with all that is on it) is a
knot of objects that name each other, which only Python's collector frees. Left to itself that runs by counts of
allocations, walks everything there is, and finds nothing as long as nobody leaves: at nine consults it stopped the
relay for up to a quarter of a second, whenever some more packets were kept. It is switched off, and asked for here:

* *young*, only what was made since the last time, which costs in proportion to that: milliseconds;
* *full*, everything, only when somebody has left since the last: at once when they were many or nobody is there any
  more, else once a minute.
"""

from typing import Final

YOUNG, FULL = 0, 2
"""Python's generations."""
IDLE_GROWTH: Final = 1_000
"""Objects made and not freed that are worth a look while nobody would notice."""
YOUNG_GROWTH: Final = 8_000
"""The same at any time."""
MOST_KEPT: Final = 1_000_000
"""What young looks have kept since everything was looked at: more is no consult, and may be garbage that had grown old
when it was dropped."""
LEFT_MANY: Final = 60
"""Transports that closed: thirty people, tens of megabytes."""
SLOW_US: Final = 60_000_000
"""For fewer."""


class GarbagePolicy:
    """Decides; `collected` must be told of each time."""

    def __init__(self, now_us: int) -> None:
        self._full_us = now_us
        self._kept = 0

    def due(self, growth: int, *, left: int, idle: bool, now_us: int) -> int | None:
        """The generation to look at; None: not now. Call about once a second.

        Args:
            growth: objects that were made and not freed since the last time.
            left: Transports that closed since everything was looked at.
            idle: nobody is connected.
        """
        if idle and (left or growth >= IDLE_GROWTH):
            return FULL
        if left >= LEFT_MANY or (left and now_us - self._full_us >= SLOW_US):
            return FULL
        if growth < YOUNG_GROWTH:
            return None
        return FULL if self._kept >= MOST_KEPT else YOUNG

    def collected(self, generation: int, kept: int, now_us: int) -> None:
        """That was done; ``kept`` of what was made since the time before live."""
        if generation == FULL:
            self._kept, self._full_us = 0, now_us
        else:
            self._kept += kept
