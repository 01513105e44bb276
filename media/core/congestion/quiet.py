"""Feedback that says nothing new, taken in without looking at its packets.

On a healthy line one feedback is like the next: everything arrived, nothing waited. What the estimate needs of it are
a few sums. Only the trend of the delay wants every packet, to find the least delayed one of each group; but
when the first packet of a group was hardly delayed, so was the least delayed one, and a group below
``delay.LEAST_QUEUE_US`` is never overuse. So of each group the first packet is looked at and no other.

What a spell of calm leaves out of the trend is kept for as long as the trend is: when a feedback is not
calm, it is made up for first (`Spell.make_up`), and the decision is the one that would have been made.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from media.core.congestion.account import Row
from media.core.congestion.delay import GROUP_US, JUMP_US, LEAST_QUEUE_US, WINDOW, DelayDetector
from media.core.congestion.sent import REMEMBERED, SentPackets
from media.core.twcc import TICK_US, WholeFeedback

CALM_US: Final = 8_000
"""Of the first packet of a group, above or below the empty line's delay."""
KEPT_US: Final = (WINDOW + 14) * GROUP_US
"""The window of the trend, and some groups more for its smoothing to forget where it began."""
MAX_KEPT: Final = 64

assert CALM_US < LEAST_QUEUE_US


_Kept = tuple[int, int, int, int, bytes]
"""A feedback: when the last packet was sent and the group began that it goes on with, number, reference, deltas."""


class Spell:
    """What calm feedback has left out of one leg's trend."""

    __slots__ = ("_forgot", "_group_us", "_kept")

    def __init__(self) -> None:
        self._kept: deque[_Kept] = deque()
        self._forgot = False
        """Something of this spell is not kept any more."""
        self._group_us = -1

    def takes(self, feedback: WholeFeedback, start: int, sent: SentPackets, detector: DelayDetector) -> int:
        """Pass over a feedback if it is calm.

        Args:
            start: extended number of its first packet, as `SentPackets.follows` gives it.

        Returns:
            When its last packet arrived, microseconds on the viewer's clock; 0: it is not calm, nothing was changed.
        """
        least_us = detector.least_us
        if least_us is None:
            return 0
        deltas, times = feedback.deltas, sent.send_us
        first = start & REMEMBERED - 1
        stop = first + len(deltas)
        reference_us = sent.unwrap_us(feedback.reference)
        ticks = 0
        began_us = group_us = self._group_us if self._kept else detector.group_us
        lowest_us, highest_us = least_us - CALM_US, least_us + CALM_US
        position = first
        while (begins := bisect_right(times, group_us + GROUP_US, position, stop)) < stop:
            ticks += sum(deltas[position - first : begins + 1 - first])
            send_us = times[begins]
            delay_us = reference_us + ticks * TICK_US - send_us
            if not lowest_us <= delay_us <= highest_us or send_us - group_us > JUMP_US:
                return 0
            detector.calm(delay_us, send_us)
            group_us = send_us
            position = begins + 1
        self._group_us = group_us
        self._keep((times[stop - 1], began_us, start, reference_us, deltas))
        return reference_us + (ticks + sum(deltas[position - first :])) * TICK_US

    @property
    def group_us(self) -> int:
        """When the group began that the next feedback goes on with; only within a spell."""
        assert self._kept
        return self._group_us

    @property
    def began(self) -> bool:
        """Within a spell."""
        return bool(self._kept)

    def went_on(self, group_us: int, rows: Iterable[tuple[Row, bytes]]) -> None:
        """Others have passed over these."""
        self._group_us = group_us
        for row, deltas in rows:
            self._keep((row.newest_us, row.began_us, row.start, row.reference_us, deltas))

    def _keep(self, entry: _Kept) -> None:
        kept = self._kept
        kept.append(entry)
        while entry[0] - kept[0][0] > KEPT_US or len(kept) > MAX_KEPT:
            kept.popleft()
            self._forgot = True

    def make_up(self, sent: SentPackets, detector: DelayDetector) -> None:
        """The spell is over: give the trend what it has not seen."""
        for _, group_us, start, reference_us, deltas in self._kept:
            if sent.next_number - start > REMEMBERED:
                self._forgot = True
                continue
            slot = start & REMEMBERED - 1
            sends = sent.send_us[slot : slot + len(deltas)].tolist()
            arrives = [reference_us + ticks * TICK_US for ticks in accumulate(deltas)]
            if self._forgot:
                detector.skip(group_us, arrives[0] - sends[0], arrives[0])
                self._forgot = False
            detector.update(sends, arrives)
        self._kept.clear()
