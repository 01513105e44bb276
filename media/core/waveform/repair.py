"""What the relay asks a source to send again: holes of one stream that the frame appended to the next one did not mend.

A hole is asked for as soon as a later frame shows it, and again when the answer takes longer than answers of this
source do, each time after a longer pause. What the source's ring of 30 s cannot have any more is not asked for; what
was asked for in vain is given up, and only then called gone. Pure: time comes in as server microseconds.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from media.core.waveform.ring import RING_US

MAX_WAITING: Final = 1024
"""Frames of one stream that are asked for at one time; a ring of 30 s has 600 of the shortest in use."""
MAX_ASKS: Final = 8
"""For one frame: ten seconds of asking."""
FIRST_WAIT_US: Final = 300_000
"""Until the first answer has shown how long one takes."""
SHORTEST_WAIT_US: Final = 100_000
"""A source may send again with its next live frame only."""
LONGEST_WAIT_US: Final = 2_000_000
MESSAGES_PER_S, MESSAGES_BURST = 20.0, 40.0
FRAMES_PER_S, FRAMES_BURST = 200.0, 700.0
"""As a viewer's budget: a whole ring at once, then all of it twice over."""


class Bucket:
    """Token bucket: ``take`` what is wanted, as far as the budget allows."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._tokens, self._at_us = burst, 0

    def take(self, now_us: int) -> bool:
        """One token; False when there is none."""
        self._tokens = min(self._burst, self._tokens + max(0, now_us - self._at_us) * self._per_s / 1e6)
        self._at_us = now_us
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(slots=True)
class _Hole:
    since_us: int
    asks: int = 0
    first_us: int = 0
    """When it was asked for first."""
    asked_us: int = 0
    due_us: int = 0


class SourceRepair:
    """Holes of one stream."""

    def __init__(self) -> None:
        self._holes: OrderedDict[int, _Hole] = OrderedDict()
        self._messages = Bucket(MESSAGES_PER_S, MESSAGES_BURST)
        self._frames = Bucket(FRAMES_PER_S, FRAMES_BURST)
        self._mean_us = 0.0
        self._variation_us = 0.0

    def __len__(self) -> int:
        return len(self._holes)

    @property
    def wait_us(self) -> int:
        """How long a first answer may take (RFC 6298 section 2, with bounds of our own)."""
        if not self._mean_us:
            return FIRST_WAIT_US
        return min(LONGEST_WAIT_US, max(SHORTEST_WAIT_US, round(self._mean_us + 4 * self._variation_us)))

    def missing(self, first: int, last: int, frame_us: int, now_us: int) -> None:
        """These numbers are missing, as a frame of ``frame_us`` after ``last`` shows."""
        held = min(MAX_WAITING, RING_US // max(1, frame_us))
        for seq in range(max(first, last - held + 1), last + 1):
            self._holes[seq] = _Hole(now_us, due_us=now_us)
        while len(self._holes) > MAX_WAITING:
            self._holes.popitem(last=False)

    def arrived(self, seq: int, now_us: int) -> None:
        """The frame has come after all."""
        hole = self._holes.pop(seq, None)
        if hole is None or not hole.asks:
            return
        if hole.asks == 1:
            self._sample(now_us - hole.asked_us)
        elif now_us - hole.asked_us < self._mean_us / 2 or not self._mean_us:
            # Too soon to answer the last asking: it was an earlier one's, and the path is longer than we thought.
            self._sample(now_us - hole.first_us)
        # else of several askings nobody knows which one was answered (Karn)

    def clear(self) -> None:
        """The source counts anew: its old numbers mean nothing any more."""
        self._holes.clear()

    def waiting(self, seq: int) -> bool:
        """It was asked for and may still come."""
        hole = self._holes.get(seq)
        return hole is not None and hole.asks > 0

    def due(self, now_us: int) -> list[tuple[int, int]]:
        """Ranges to ask for now, oldest first, as far as the budgets allow. Gives up what was asked for in vain."""
        ranges: list[tuple[int, int]] = []
        for seq, hole in list(self._holes.items()):
            if now_us < hole.due_us:
                continue
            if hole.asks >= MAX_ASKS or now_us - hole.since_us > RING_US:
                del self._holes[seq]
                continue
            extends = bool(ranges) and ranges[-1][1] == seq - 1
            if not (self._frames.take(now_us) and (extends or self._messages.take(now_us))):
                break
            if extends:
                ranges[-1] = (ranges[-1][0], seq)
            else:
                ranges.append((seq, seq))
            hole.due_us = now_us + min(LONGEST_WAIT_US, self.wait_us << hole.asks)
            hole.first_us = hole.first_us if hole.asks else now_us
            hole.asks, hole.asked_us = hole.asks + 1, now_us
        return ranges

    def _sample(self, took_us: int) -> None:
        if not self._mean_us:
            self._mean_us, self._variation_us = float(max(1, took_us)), took_us / 2
            return
        self._variation_us += (abs(self._mean_us - took_us) - self._variation_us) / 4
        self._mean_us += (took_us - self._mean_us) / 8
