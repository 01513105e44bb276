"""When the worker looks for cyclic garbage: not while packets wait, and often enough that memory stays bounded.

Nearly all that a consult makes dies when it is no longer used. What closes (a Transport with all that is on it) is a
knot of objects that name each other, which only Python's collector frees. Left to itself that runs by counts of
allocations, walks everything there is, and finds nothing as long as nobody leaves: at nine consults it stopped the
relay for up to a quarter of a second, whenever some more packets were kept. It is switched off, and asked for here:

* *young*, only what was made since the last time, at every look while somebody is connected. By time and not by
  Python's count: that one falls with each packet that leaves a history, so that when histories are full it stands
  still while ever more packets wait to be walked (130,000 at twelve consults, 75 ms).
* *full*, everything, when somebody has left since the last: at once when they were many or nobody is there any more,
  else once a minute; and when much has grown old, for it may be garbage that was not yet garbage when it was young.
"""

from typing import Final

YOUNG, FULL = 0, 2
"""Python's generations."""
LOOK_US: Final = 250_000
"""Between looks: some thousand packets, a millisecond or two."""
IDLE_GROWTH: Final = 1_000
"""Objects made and not freed that are worth a look while nobody would notice."""
MOST_OLD: Final = 1_000_000
"""Objects that young looks have passed and that are still there: no worker's consults have so many."""
LEFT_MANY: Final = 60
"""Transports that closed: thirty people, tens of megabytes."""
SLOW_US: Final = 60_000_000
"""For fewer."""
COUNT_US: Final = 300_000_000
"""Between counts of what has grown old: each is a walk itself."""


class GarbagePolicy:
    """Decides; `collected` must be told of each time that everything was looked at."""

    def __init__(self, now_us: int) -> None:
        self._full_us = now_us

    def due(self, growth: int, *, left: int, old: int, idle: bool, now_us: int) -> int | None:
        """The generation to look at; None: not now. Call every `LOOK_US`.

        Args:
            growth: objects that were made and not freed since the last time, at least.
            left: Transports that closed since everything was looked at.
            old: objects that young looks have passed since then, as they were counted last.
            idle: nobody is connected.
        """
        if idle:
            return FULL if left or growth >= IDLE_GROWTH else None
        if left >= LEFT_MANY or (left and now_us - self._full_us >= SLOW_US) or old >= MOST_OLD:
            return FULL
        return YOUNG

    def collected(self, now_us: int) -> None:
        """Everything was looked at."""
        self._full_us = now_us
