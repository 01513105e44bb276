"""The true order of a stream's frames, however they arrived, and what is missing between them.

A frame is named by its *place*: epoch and sequence number. A device that was switched on again counts anew; a lower
number at a later time therefore begins an epoch [WF7]. Late and repaired frames take the place their number and time
give them, and no place is filled twice [WF8]. Only headers are read here: the worker has checked the rest.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final, NamedTuple

from media.core.waveform.frame import HEADER, HEADER_BYTES, Flag

RESTART: Final = int(Flag.SESSION_RESTART)


class Head(NamedTuple):
    """What the archive needs of a frame's header."""

    seq: int
    flags: int
    context_version: int
    t0_us: int
    first_sample: int
    sample_rate_mhz: int
    n: int

    @property
    def end_us(self) -> int:
        """Server time of the sample after the last one."""
        return self.t0_us + self.n * 1_000_000_000 // self.sample_rate_mhz


def read_head(frame: bytes) -> Head:
    """Header of a frame that is known to be sound."""
    assert len(frame) >= HEADER_BYTES
    (_, _, flags, _, seq, version, t0_ns, first, rate, n, _, _, _, _, _, _) = HEADER.unpack_from(frame)
    return Head(seq, flags, version, t0_ns // 1000, first, rate, n)


class Place(NamedTuple):
    """Where a frame belongs; sorts in the order of the stream."""

    epoch: int
    seq: int


class Ordering:
    """Gives each frame of one stream its place, in the order of arrival."""

    def __init__(self) -> None:
        self.newest_seq = -1
        """Of the newest epoch."""
        self.newest_t0_us = -1
        self._began_us: list[int] = []
        """Of each epoch but the first, rising: frames at or after it are of that epoch or a later one."""

    @property
    def epoch(self) -> int:
        """The newest."""
        return len(self._began_us)

    def place(self, seq: int, t0_us: int) -> Place:
        """The frame's place; the same frame always has the same one."""
        if seq <= self.newest_seq and t0_us > self.newest_t0_us:
            self._began_us.append(self.newest_t0_us + 1)
            self.newest_seq, self.newest_t0_us = seq, t0_us
            return Place(self.epoch, seq)
        epoch = bisect_right(self._began_us, t0_us)
        if epoch == self.epoch and seq > self.newest_seq:
            self.newest_seq, self.newest_t0_us = seq, max(t0_us, self.newest_t0_us)
        return Place(epoch, seq)


class Ranges:
    """A set of whole numbers that come mostly in order: a handful of ranges however many they are."""

    def __init__(self) -> None:
        self._first: list[int] = []
        self._last: list[int] = []

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._first, number) - 1
        return at >= 0 and number <= self._last[at]

    def add(self, number: int) -> bool:
        """Enter a number; False when it is there."""
        first, last = self._first, self._last
        if last and number == last[-1] + 1:
            last[-1] = number
            return True
        at = bisect_right(first, number)
        if at and number <= last[at - 1]:
            return False
        joins_left = at > 0 and last[at - 1] + 1 == number
        joins_right = at < len(first) and first[at] == number + 1
        if joins_left and joins_right:
            last[at - 1] = last[at]
            del first[at], last[at]
        elif joins_left:
            last[at - 1] = number
        elif joins_right:
            first[at] = number
        else:
            first.insert(at, number)
            last.insert(at, number)
        return True

    def discard(self, number: int) -> None:
        """Take a number out; idempotent."""
        at = bisect_right(self._first, number) - 1
        if at < 0 or number > self._last[at]:
            return
        first, last = self._first.pop(at), self._last.pop(at)
        for low, high in ((number + 1, last), (first, number - 1)):
            if low <= high:
                self._first.insert(at, low)
                self._last.insert(at, high)

    @property
    def holes(self) -> list[tuple[int, int]]:
        """Inclusive ranges between the first and the last that are not there."""
        return [(last + 1, first - 1) for last, first in zip(self._last, self._first[1:], strict=False)]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a list says of a stream."""

    frames: int
    first_us: int
    last_us: int
    gaps: int
    """Places within a session where samples are missing, whoever lost them."""
    lost: int
    """Frames that their source numbered and that never came."""
    sessions: int
    context_version: int = 0
    """Of the newest frame."""


class StreamState:
    """Every frame of a stream once, and counts that need no second look at them."""

    def __init__(self) -> None:
        self.ordering = Ordering()
        self.frames = 0
        self.first_us = self.last_us = 0
        self.restarts = 0
        self.source_gaps = 0
        self.context_version = 0
        self._present: list[Ranges] = [Ranges()]
        self._newest: Head | None = None

    def accept(self, head: Head) -> Place | None:
        """The frame's place, or None when it is taken."""
        place = self.ordering.place(head.seq, head.t0_us)
        while len(self._present) <= place.epoch:
            self._present.append(Ranges())
        if not self._present[place.epoch].add(head.seq):
            return None
        self.first_us = min(self.first_us, head.t0_us) if self.frames else head.t0_us
        self.last_us = max(self.last_us, head.end_us)
        self.frames += 1
        if place == (self.ordering.epoch, self.ordering.newest_seq):
            self._count(head)
            self._newest = head
        return place

    def forget(self, place: Place) -> None:
        """The frame could not be kept after all."""
        if place.seq in self._present[place.epoch]:
            self._present[place.epoch].discard(place.seq)
            self.frames -= 1

    def missing(self, first: int, last: int) -> list[tuple[int, int]]:
        """Ranges of the newest epoch between two numbers that are not there."""
        holes = self._present[-1].holes
        return [(max(a, first), min(b, last)) for a, b in holes if a <= last and b >= first]

    @property
    def summary(self) -> Summary:
        """The counts."""
        holes = [hole for present in self._present for hole in present.holes]
        lost = sum(last - first + 1 for first, last in holes)
        sessions = self.restarts + (self.frames > 0)
        gaps = len(holes) + self.source_gaps
        return Summary(self.frames, self.first_us, self.last_us, gaps, lost, sessions, self.context_version)

    def _count(self, head: Head) -> None:
        last = self._newest
        self.context_version = head.context_version
        if last is None:
            return
        if head.flags & RESTART or head.seq <= last.seq or head.first_sample < last.first_sample + last.n:
            self.restarts += 1
        elif head.seq == last.seq + 1 and head.first_sample > last.first_sample + last.n:
            self.source_gaps += 1
