"""Continuous numbering, once for a source and once for each of its viewers.

`SourceNumbers` closes the holes of packets that are not forwarded (padding probes): to a viewer a
hole looks like loss and is NACKed for ever.

`ViewerNumbers` shifts those onto the one sequence a viewer sees. It starts and stops (pause,
key frame wait, another lane or SSRC) and must go on without a hole each time; what is older than
the last start is not for this viewer. VP8 counts pictures too, and a browser that sees those step back or leave
a hole inside a layer waits for frames that do not exist (RFC 7741 section 4.2).

What may start is ``keyframes``; the packets are kept in ``history``. No clock and no I/O here.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

_SEQ: Final = 1 << 16
_HALF: Final = 1 << 15
_TS_MASK: Final = 0xFFFF_FFFF
REMEMBERED_DROPS: Final = 256
"""Dropped numbers that late packets are still placed around; the older ones are folded into the shift."""


class SourceNumbers:
    """Numbers of a lane: those of one incoming SSRC without the dropped ones.

    Takes extended sequence numbers, which never wrap (``serial.extend16``).
    """

    def __init__(self) -> None:
        self._drops: list[int] = []
        self._folded = 0
        self._floor = 0
        """The newest drop that was folded: what is older can no longer be placed."""

    def drop(self, extended: int) -> None:
        """This number is not forwarded: later ones move down by one.

        Only for the newest number so far: viewers have been told of the others.
        """
        self._drops.append(extended)
        if len(self._drops) > REMEMBERED_DROPS:
            self._floor = self._drops.pop(0)
            self._folded += 1

    def number(self, extended: int) -> int | None:
        """Continuous number of a forwarded packet; None when it is older than the drops that are remembered.

        Any other answer could be the number of another packet, and a number that a viewer gets twice with
        two contents breaks the encryption of its leg.
        """
        if not self._drops:
            return extended
        if extended < self._floor:
            return None
        return extended - self._folded - bisect_left(self._drops, extended)


class Position(NamedTuple):
    """A place in a lane, in the lane's own numbers."""

    number: int
    timestamp: int
    picture: int = -1
    """VP8 PictureID, -1 where payloads have none."""
    tl0: int = -1


@dataclass(frozen=True, slots=True)
class Segment:
    """What is added to a lane's numbers for one viewer, from one start to the next stop."""

    base: int
    """Least number of the lane that is for this viewer."""
    shift: int
    """Added to a lane's number, modulo 2^16, gives the viewer's sequence number."""
    timestamp_shift: int
    picture_shift: int
    """Added to PictureID, modulo its width."""
    tl0_shift: int
    source: Any = field(default=None, compare=False, repr=False)
    """What the numbers are of, for who looks a packet up by them."""

    def lane_number(self, seq: int, highest: int) -> int | None:
        """The lane's number of a sequence number the viewer asks for; None when it was never sent to it.

        Args:
            seq: 16 bits from the viewer's NACK.
            highest: highest number handed to viewers so far.
        """
        behind = (highest + self.shift - seq) % _SEQ
        number = highest - behind
        return number if behind < _HALF and number >= self.base else None


class ViewerNumbers:
    """One viewer's shift of a lane's numbers, timestamps and VP8 pictures."""

    __slots__ = ("_next", "_picture", "_ssrc", "_timestamp", "_tl0", "before", "now", "stopped_ms")

    def __init__(self, first_seq: int) -> None:
        self.now = Segment(0, 0, 0, 0, 0)
        self.before: Segment | None = None
        """What was followed up to the last stop: a viewer may still ask for packets of it."""
        self._next = first_seq
        self._ssrc: int | None = None
        self._timestamp = 0
        self._picture = self._tl0 = -1
        self.stopped_ms = 0
        """When it last stopped."""

    def start(
        self,
        ssrc: int,
        at: Position,
        now_ms: int,
        clock_rate_hz: int,
        timestamp_shift: int | None = None,
        source: Any = None,
    ) -> None:
        """From ``at`` on packets go to the viewer, as the next of what it has seen.

        Args:
            ssrc: what the lane is fed from; another one than before has timestamps of its own.
            at: first packet of the lane that is for this viewer.
            now_ms: server time.
            clock_rate_hz: of the timestamps.
            timestamp_shift: what keeps this lane on the viewer's time line, where sender reports tell;
                None: by the time that has passed.
            source: kept with the segment.
        """
        was = self.now
        now_timestamp, picture, tl0 = was.timestamp_shift, was.picture_shift, was.tl0_shift
        if self._ssrc is not None and self._ssrc != ssrc:
            now_timestamp = self._place(at.timestamp, now_ms, clock_rate_hz, timestamp_shift)
            if at.tl0 >= 0 and self._tl0 >= 0:
                tl0 = (self._tl0 + 1 - at.tl0) & 0xFF
        if at.picture >= 0 and self._picture >= 0:
            picture = (self._picture + 1 - at.picture) & 0x7FFF
        self._ssrc = ssrc
        self.now = Segment(at.number, (self._next - at.number) % _SEQ, now_timestamp, picture, tl0, source)

    def _place(self, timestamp: int, now_ms: int, clock_rate_hz: int, timestamp_shift: int | None) -> int:
        elapsed = max(1, (now_ms - self.stopped_ms) * clock_rate_hz // 1000)
        if timestamp_shift is not None:
            step = (timestamp + timestamp_shift - self._timestamp) & _TS_MASK
            # The publisher's clock decides, within what can be true: never back, and not far from the time that passed.
            if 0 < step <= elapsed + clock_rate_hz:
                return timestamp_shift
            elapsed = 1 if step > _TS_MASK >> 1 else elapsed
        return (self._timestamp + elapsed - timestamp) & _TS_MASK

    def stop(self, at: Position, now_ms: int) -> None:
        """``at`` was the highest sent; what follows must continue it."""
        now = self.now
        if self._ssrc is None or at.number < now.base:
            return  # nothing was sent since the start
        self._end(at, now, now_ms)

    def rewind(self, at: Position, numbered: Segment, now_ms: int) -> None:
        """What followed ``at`` had been numbered and will never be sent: go on behind ``at``.

        Args:
            at: highest that was sent, in the numbers of ``numbered``'s lane; below its base: nothing of it.
            numbered: the segment, the present one or the one before.
        """
        if at.number < numbered.base:
            self._next = (numbered.base + numbered.shift) % _SEQ
        else:
            self._end(at, numbered, now_ms)

    def _end(self, at: Position, now: Segment, now_ms: int) -> None:
        self.before = now
        self._next = (at.number + 1 + now.shift) % _SEQ
        self._timestamp = (at.timestamp + now.timestamp_shift) & _TS_MASK
        if at.picture >= 0:
            self._picture = (at.picture + now.picture_shift) & 0x7FFF
        if at.tl0 >= 0:
            self._tl0 = (at.tl0 + now.tl0_shift) & 0xFF
        self.stopped_ms = now_ms
