"""Continuous numbering, once for a source and once for each of its viewers.

`SourceNumbers` closes the holes of packets that are not forwarded (padding probes): to a viewer a
hole looks like loss and is NACKed for ever.

`ViewerNumbers` shifts those onto the one sequence a viewer sees. It starts and stops (pause,
key frame wait, another source SSRC) and must go on without a hole each time; what is older than
the last start is not for this viewer.

What may start is ``keyframes``; the packets are kept in ``history``. No clock and no I/O here.
"""

from bisect import bisect_left
from typing import Final

_SEQ: Final = 1 << 16
_HALF: Final = 1 << 15
_TS_MASK: Final = 0xFFFF_FFFF
REMEMBERED_DROPS: Final = 256
"""Dropped numbers that late packets are still placed around; the older ones are folded into the shift."""


class SourceNumbers:
    """Numbers of one incoming SSRC without the dropped ones.

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


class ViewerNumbers:
    """One viewer's shift of a source's numbers and timestamps."""

    def __init__(self, first_seq: int) -> None:
        self.base = 0
        """Least source number that is for this viewer."""
        self.shift = 0
        """Added to a source number, modulo 2^16, gives the viewer's sequence number."""
        self.timestamp_shift = 0
        self._next = first_seq
        self._source: int | None = None
        self._last_timestamp = 0
        self._last_ms = 0

    def start(self, ssrc: int, number: int, timestamp: int, now_ms: int, clock_rate_hz: int) -> None:
        """From ``number`` on packets go to the viewer, as the next of what it has seen."""
        self.base = number
        self.shift = (self._next - number) % _SEQ
        if self._source is None:
            self._source = ssrc
        elif self._source != ssrc:
            elapsed = max(1, (now_ms - self._last_ms) * clock_rate_hz // 1000)
            self.timestamp_shift = (self._last_timestamp + elapsed - timestamp) & _TS_MASK
            self._source = ssrc

    def stop(self, last_number: int, last_timestamp: int, now_ms: int) -> None:
        """``last_number`` was the highest sent; what follows must continue it."""
        if self._source is None or last_number < self.base:
            return  # nothing was sent since the start
        self._next = (last_number + 1 + self.shift) % _SEQ
        self._last_timestamp = (last_timestamp + self.timestamp_shift) & _TS_MASK
        self._last_ms = now_ms

    def source_number(self, seq: int, highest: int) -> int | None:
        """Source number of a sequence number the viewer asks for; None when it was never sent to it.

        Args:
            seq: 16 bits from the viewer's NACK.
            highest: highest number forwarded so far.
        """
        behind = (highest + self.shift - seq) % _SEQ
        number = highest - behind
        return number if behind < _HALF and number >= self.base else None
