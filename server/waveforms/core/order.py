"""What the archive counts of a stream's frames, however they arrived: how many, what is missing and who lost it.

Which frame is which is decided by `media.core.waveform.places`, for the relay alike. Only headers are read here: the
worker has checked the rest.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from media.core.waveform.frame import HEADER, HEADER_BYTES, Flag, split_index
from media.core.waveform.places import Place, Places

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
    numbering: int = 0
    crc: int = 0

    @property
    def end_us(self) -> int:
        """Server time of the sample after the last one."""
        return self.t0_us + self.n * 1_000_000_000 // self.sample_rate_mhz


def read_head(frame: bytes) -> Head:
    """Header of a frame that is known to be sound."""
    assert len(frame) >= HEADER_BYTES
    (_, _, flags, _, seq, version, t0_ns, index, rate, n, _, _, _, _, _, crc) = HEADER.unpack_from(frame)
    first, numbering = split_index(index)
    return Head(seq, flags, version, t0_ns // 1000, first, rate, n, numbering, crc)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a list says of a stream."""

    frames: int
    first_us: int
    last_us: int
    gaps: int
    """Places within a session where samples are missing, whoever lost them."""
    lost: int
    """Frames that their source numbered and that never came, or of which nobody can say where they belong."""
    sessions: int
    context_version: int = 0
    """Of the newest frame."""


class StreamState:
    """Every frame of a stream once, and counts that need no second look at them."""

    def __init__(self) -> None:
        self.places = Places()
        self.frames = 0
        self.first_us = self.last_us = 0
        self.restarts = 0
        self.source_gaps = 0
        self.refused_gaps = 0
        """Stretches of frames that were refused."""
        self.context_version = 0
        self._newest: Head | None = None
        self._refusing = False

    @property
    def current(self) -> Place:
        """Place of the newest frame of the epoch that goes on; its number is -1 before the first."""
        return Place(self.places.current, self.places.newest_seq)

    def accept(self, head: Head) -> Place | None:
        """The frame's place; None when it came before, or belongs to no session that is known for sure (refused)."""
        before = self.places.refused
        place = self.places.accept(head)
        if place is None:
            refused = self.places.refused > before
            self.refused_gaps += refused and not self._refusing
            self._refusing = self._refusing or refused
            return None
        self._refusing = False
        self._note(place, head)
        return place

    def adopt(self, place: Place, head: Head) -> bool:
        """Enter a frame that was stored before; False when its place is taken."""
        if self.places.has(place):
            return False
        self.places.adopt(place, head)
        self._note(place, head)
        return True

    def forget(self, place: Place) -> None:
        """The frame could not be kept after all."""
        if self.places.has(place):
            self.places.forget(place)
            self.frames -= 1

    def missing(self, first: int, last: int) -> list[tuple[int, int]]:
        """Ranges of the current epoch between two numbers that are not there."""
        return self.places.missing(first, last)

    @property
    def summary(self) -> Summary:
        """The counts. A frame that was refused is lost, and a stretch of them a gap."""
        holes = self.places.holes
        lost = sum(last - first + 1 for first, last in holes) + self.places.refused
        sessions = self.restarts + (self.frames > 0)
        gaps = len(holes) + self.source_gaps + self.refused_gaps
        return Summary(self.frames, self.first_us, self.last_us, gaps, lost, sessions, self.context_version)

    def _note(self, place: Place, head: Head) -> None:
        self.first_us = min(self.first_us, head.t0_us) if self.frames else head.t0_us
        self.last_us = max(self.last_us, head.end_us)
        self.frames += 1
        if place == self.current:
            self._count(head)
            self._newest = head

    def _count(self, head: Head) -> None:
        last = self._newest
        self.context_version = head.context_version
        if last is None:
            return
        if head.flags & RESTART or head.seq <= last.seq or head.first_sample < last.first_sample + last.n:
            self.restarts += 1
        elif head.seq == last.seq + 1 and head.first_sample > last.first_sample + last.n:
            self.source_gaps += 1
