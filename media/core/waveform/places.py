"""Which frame is which: the place of every frame of a stream, however it came, and what is missing between them.

A frame is named by its *place*: an epoch and a sequence number. A device that was switched on again counts anew and
begins an epoch. Time cannot tell epochs apart, since clocks are set back; so a source names each of its countings with
a number of its own that every frame carries (`WaveformFrame.numbering`, [WF19]), and that name alone decides. Within a
name a number is one frame: another frame of that number is refused, whatever it claims.

A source that names none (0) is followed by its lines of time: within a session time and index rise together. A frame
is put only where it lies on such a line, or carries one on; one that begins a session, or whose number is taken by
another frame, begins an epoch where it lies on none. What may be of several is refused and counted. [WF7] [WF8]

The archive and the relay share this. Where samples are drawn is `gaps.py`.
"""

from bisect import bisect_right, insort
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from media.core.waveform.frame import Flag
from media.core.waveform.gaps import TOLERANCE_US

SEEN_FRAMES: Final = 4096
"""Frames whose bytes are remembered by their check sum: seven minutes of 100 ms frames."""
MAX_EPOCHS: Final = 4096
MAX_LINES: Final = 4096
"""Sessions of an epoch that are remembered."""
RECENT_EPOCHS: Final = 16
"""A late frame may be of one of these: what a source that counts anew all the time costs is bounded."""
RETURNS: Final = 3
"""Frames in a row by which an earlier epoch shows that it is the one that goes on; fewer are late ones."""


class Numbered(Protocol):
    """What decides a frame's place."""

    @property
    def seq(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def t0_us(self) -> int: ...
    @property
    def first_sample(self) -> int: ...
    @property
    def sample_rate_mhz(self) -> int: ...
    @property
    def numbering(self) -> int: ...
    @property
    def crc(self) -> int: ...


class Place(NamedTuple):
    """Where a frame belongs; sorts in the order of the stream."""

    epoch: int
    seq: int


class Ranges:
    """A set of whole numbers that come mostly in order: a handful of ranges however many they are.

    Args:
        limit: ranges kept; beyond it the lowest hole is forgotten, as if its numbers were there.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        self._limit = limit

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
            if self._limit is not None and len(first) > self._limit:
                del first[1], last[0]
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

    def fill(self) -> None:
        """Forget all holes, and those before the first number."""
        if self._last:
            self._first, self._last = [0], [self._last[-1]]

    @property
    def holes(self) -> list[tuple[int, int]]:
        """Inclusive ranges between the first and the last that are not there."""
        return [(last + 1, first - 1) for last, first in zip(self._last, self._first[1:], strict=False)]

    def holes_from(self, number: int) -> list[tuple[int, int]]:
        """Those that end at ``number`` or later; looked for from the end."""
        found: list[tuple[int, int]] = []
        for at in range(len(self._first) - 1, 0, -1):
            if self._first[at] - 1 < number:
                break
            found.append((self._last[at - 1] + 1, self._first[at] - 1))
        return found[::-1]


@dataclass(slots=True)
class _Line:
    """How time and index go together in one session."""

    start_seq: int
    index: int
    t0_us: int
    rate_mhz: int

    def fits(self, frame: Numbered) -> bool:
        said_us = self.t0_us + (frame.first_sample - self.index) * 1_000_000_000 / self.rate_mhz
        return frame.sample_rate_mhz == self.rate_mhz and abs(frame.t0_us - said_us) <= TOLERANCE_US


@dataclass(slots=True)
class _Epoch:
    name: int
    present: Ranges
    newest_seq: int = -1
    newest_t0_us: int = -1
    lines: list[_Line] = field(default_factory=list)

    def continues(self, frame: Numbered) -> bool:
        """Whether a frame beyond the newest goes on with the newest session."""
        return bool(self.lines) and not frame.flags & Flag.SESSION_RESTART and self.lines[-1].fits(frame)

    def fits(self, frame: Numbered) -> bool:
        """Whether a frame lies on a session's line, before or behind what has come of it."""
        at = bisect_right(self.lines, frame.seq, key=_start) - 1
        if at >= 0 and self.lines[at].fits(frame):
            return not frame.flags & Flag.SESSION_RESTART or self.lines[at].start_seq == frame.seq
        return at + 1 < len(self.lines) and self.lines[at + 1].fits(frame)

    def enter(self, frame: Numbered) -> None:
        """Take note of a frame that is of this epoch."""
        self.present.add(frame.seq)
        if frame.seq > self.newest_seq:
            self.newest_seq = frame.seq
            if self.continues(frame):  # jitter and drift are followed where the line grows
                line = self.lines[-1]
                line.index, line.t0_us = frame.first_sample, frame.t0_us
            else:
                self._line(frame)
        else:
            self._line(frame)
        self.newest_t0_us = max(self.newest_t0_us, frame.t0_us)

    def forget(self) -> None:
        """It is long over: none of its numbers is looked for any more."""
        self.present.fill()
        self.lines.clear()

    def _line(self, frame: Numbered) -> None:
        at = bisect_right(self.lines, frame.seq, key=_start) - 1
        restart = bool(frame.flags & Flag.SESSION_RESTART)
        if at >= 0 and self.lines[at].fits(frame) and not restart:
            return
        if at + 1 < len(self.lines) and self.lines[at + 1].fits(frame):
            self.lines[at + 1].start_seq = frame.seq
        elif not (restart and at >= 0 and self.lines[at].start_seq == frame.seq):
            line = _Line(frame.seq, frame.first_sample, frame.t0_us, frame.sample_rate_mhz)
            insort(self.lines, line, key=_start)
            del self.lines[:-MAX_LINES]


class Places:
    """Gives each frame of one stream its place, once.

    Args:
        ranges: bound on the ranges of numbers kept of one epoch; then of epochs, too, only ``RECENT_EPOCHS`` are kept
            in detail. None: all is kept, since somebody counts what is missing of it.
    """

    def __init__(self, ranges: int | None = None) -> None:
        self.repeated = 0
        """Frames that came again."""
        self.refused = 0
        """Frames that are of no session that is known for sure."""
        self.current = 0
        """The epoch that goes on."""
        self._ranges = ranges
        self._epochs: list[_Epoch] = []
        self._of_name: dict[int, list[int]] = {}
        self._seen: OrderedDict[Place, tuple[int, int, int]] = OrderedDict()
        self._returning = 0

    @property
    def newest_seq(self) -> int:
        """Of the current epoch; -1 before its first frame."""
        return self._epochs[self.current].newest_seq if self._epochs else -1

    @property
    def epochs(self) -> int:
        """How many there are."""
        return len(self._epochs)

    def accept(self, frame: Numbered) -> Place | None:
        """The frame's place, or None when it came before or is refused; both are counted."""
        own = self._of_name.get(frame.numbering, [])
        if len(own) > RECENT_EPOCHS:
            own = own[-RECENT_EPOCHS:]
        epoch = own[0] if len(own) == 1 and self._follows(frame, own[0]) else self._epoch_of(frame, own)
        if epoch is None:
            if any(self._knows(frame, at) for at in own):
                self.repeated += 1
            else:
                self.refused += 1
            return None
        place = Place(epoch, frame.seq)
        self.adopt(place, frame)
        return place

    def adopt(self, place: Place, frame: Numbered) -> None:
        """Enter a frame whose place is known from before."""
        while len(self._epochs) <= place.epoch:
            self._epochs.append(_Epoch(-1, Ranges(self._ranges)))
            if self._ranges is not None and len(self._epochs) > RECENT_EPOCHS:
                self._epochs[-1 - RECENT_EPOCHS].forget()
        epoch = self._epochs[place.epoch]
        if epoch.name < 0:
            epoch.name = frame.numbering
            insort(self._of_name.setdefault(frame.numbering, []), place.epoch)
        begins, newer = epoch.newest_seq < 0, frame.seq > epoch.newest_seq
        epoch.enter(frame)
        self._seen[place] = _content(frame)
        if len(self._seen) > SEEN_FRAMES:
            self._seen.popitem(last=False)
        if newer:
            self._went_on(place.epoch, begins)

    def forget(self, place: Place) -> None:
        """The frame could not be kept after all, and may come again."""
        self._epochs[place.epoch].present.discard(place.seq)
        self._seen.pop(place, None)

    def has(self, place: Place) -> bool:
        """Whether a frame has this place."""
        return place.epoch < len(self._epochs) and place.seq in self._epochs[place.epoch].present

    def missing(self, first: int, last: int) -> list[tuple[int, int]]:
        """Ranges of the current epoch between two numbers that are not there."""
        if not self._epochs:
            return []
        holes = self._epochs[self.current].present.holes_from(first)
        return [(max(a, first), min(b, last)) for a, b in holes if a <= last]

    @property
    def holes(self) -> list[tuple[int, int]]:
        """Of all epochs."""
        return [hole for epoch in self._epochs for hole in epoch.present.holes]

    def _follows(self, frame: Numbered, epoch: int) -> bool:
        """The next frame of the only epoch of its name: nearly every frame is, and there is nothing to look up."""
        only = self._epochs[epoch]
        return frame.seq == only.newest_seq + 1 and (frame.numbering != 0 or only.continues(frame))

    def _epoch_of(self, frame: Numbered, own: list[int]) -> int | None:
        if not own:
            return len(self._epochs) if len(self._epochs) < MAX_EPOCHS else None
        if any(self._knows(frame, at) for at in own):
            return None
        if frame.numbering:
            return own[-1] if frame.seq not in self._epochs[own[-1]].present else None
        return self._by_line(frame, own)

    def _by_line(self, frame: Numbered, own: list[int]) -> int | None:
        """Of a source that names no numbering: by sessions."""
        last = self._epochs[own[-1]]
        free = [at for at in reversed(own) if frame.seq not in self._epochs[at].present]
        if frame.seq > last.newest_seq:
            if frame.flags & Flag.SESSION_RESTART or last.continues(frame):
                return own[-1]
            return next((at for at in free if self._epochs[at].fits(frame)), own[-1])
        fitting = [at for at in free if self._epochs[at].fits(frame)]
        if fitting:
            return fitting[0]
        anew = frame.flags & Flag.SESSION_RESTART or frame.t0_us > last.newest_t0_us or not free
        return len(self._epochs) if anew and len(self._epochs) < MAX_EPOCHS else None

    def _knows(self, frame: Numbered, epoch: int) -> bool:
        """Whether this very frame came before; of one that is long gone its number and its session tell."""
        place = Place(epoch, frame.seq)
        content = self._seen.get(place)
        if content is None:
            return frame.seq in self._epochs[epoch].present and self._epochs[epoch].fits(frame)
        return content == _content(frame)

    def _went_on(self, epoch: int, begins: bool) -> None:
        self._returning = 0 if epoch == self.current else self._returning + 1
        if begins or self._returning >= RETURNS:
            self.current, self._returning = epoch, 0


def _start(line: _Line) -> int:
    return line.start_seq


def _content(frame: Numbered) -> tuple[int, int, int]:
    return frame.t0_us, frame.first_sample, frame.crc
