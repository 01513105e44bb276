"""How late an event loop wakes up, as a histogram over time.

A timer that should fire every ``step`` tells by how much the loop was late. While the loop is busy the timers that
should have fired meanwhile do not fire at all, so counting what fired would count a stall of a second once and each
quiet twentieth of a second twenty times. Each lateness is therefore counted as every timer of that stall would have
seen it: late by L, by L less a step, by L less two. A percentile is then a share of *moments*, not of wake-ups.

No clock here: who has the timer is ``media.aio.lag``.
"""

from collections.abc import Sequence
from typing import Final

BOUNDS_S: Final = (
    0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.012, 0.014, 0.016, 0.018, 0.02, 0.025, 0.03, 0.04,
    0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0,
)  # fmt: skip
"""Upper edges; narrow around 20 ms, beyond which sound and pictures feel it."""
MOST_IN_A_STALL: Final = 1_000
"""Moments that one wake-up may stand for: a machine that slept an hour had no busy loop."""


class LagHistogram:
    """Counts of moments by how late the loop was in them.

    Args:
        step_s: between two moments that are looked at.
    """

    def __init__(self, step_s: float) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        """One for each bound, and one for what is above all of them."""
        self.total_s = 0.0
        self.worst_s = 0.0
        self._step_s = step_s

    def add(self, late_s: float) -> None:
        """A wake-up, and how late it was."""
        late_s = max(0.0, late_s)
        self.worst_s = max(self.worst_s, late_s)
        for _ in range(MOST_IN_A_STALL):
            self.counts[bucket_of(late_s)] += 1
            self.total_s += late_s
            late_s -= self._step_s
            if late_s <= 0:
                return

    def absorb(self, counts: Sequence[int], total_s: float) -> None:
        """Add what another one counted.

        Raises:
            ValueError: it has other buckets.
        """
        for index, (mine, theirs) in enumerate(zip(self.counts, counts, strict=True)):
            self.counts[index] = mine + theirs
        self.total_s += total_s


def bucket_of(late_s: float) -> int:
    """The first bucket whose edge is not below."""
    for index, edge_s in enumerate(BOUNDS_S):
        if late_s <= edge_s:
            return index
    return len(BOUNDS_S)
