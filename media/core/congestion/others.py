"""Is the queue on a viewer's line somebody else's?

A download over TCP fills the buffer of the line and keeps it full. Whoever gives way to every standing queue then gives
way until nothing is left, and gains nothing: the download takes it. A queue of our own goes when less is sent: at 0.7
of what the line carries it falls by 300 ms a second. So a high queue that stays although much less of us arrives is
taken for foreign. Its ups and downs say nothing of us then: part of what was given up in vain is taken back, and only
loss counts, as it does for the download. The first time the queue is short, all that is forgotten.
"""

from typing import Final

HIGH_QUEUE_US: Final = 150_000
"""A queue that stands this high is overuse even when it grows no more: a full buffer does not."""
SHORT_QUEUE_US: Final = 60_000
PATIENCE_US: Final = 1_500_000
"""Our own queue has gone by then."""
YIELDED: Final = 0.6
"""Less than this must arrive of what did while the queue was short, before its staying says anything."""
STAYED: Final = 0.6
"""Of the queue, all the time."""
TAKEN_BACK: Final = 0.4
"""Of what arrived before: less than a fair part, for the line may have become thinner as well."""


class OthersQueue:
    """The watch on one line's standing queue."""

    __slots__ = ("_arrived_bps", "_began_us", "_queue_us", "foreign")

    def __init__(self) -> None:
        self.foreign = False
        """The standing queue is not ours."""
        self._began_us = -1
        self._queue_us = 0
        self._arrived_bps = 0
        """While the queue was short."""

    def look(self, queue_us: int, arrived_bps: int, now_us: int) -> int:
        """Call with each feedback; bits a second to take back, 0 nearly always."""
        if queue_us < SHORT_QUEUE_US:
            self.foreign, self._began_us = False, -1
            self._arrived_bps = arrived_bps
            return 0
        if self.foreign:
            return 0
        if self._began_us < 0 or queue_us < STAYED * self._queue_us:
            self._began_us, self._queue_us = (now_us, queue_us) if queue_us > HIGH_QUEUE_US else (-1, 0)
            return 0
        if now_us - self._began_us < PATIENCE_US or arrived_bps > YIELDED * self._arrived_bps:
            return 0
        self.foreign = True
        return int(TAKEN_BACK * self._arrived_bps)
