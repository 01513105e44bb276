"""Ring of forwarded packets that answers NACK.

A packet a viewer lost is sent again as RTX (RFC 4588) from here. The ring belongs to the source
stream, not to each Consumer: a Consumer's numbering is a constant shift of the source's
(``rewriter``), so one copy of a payload serves every viewer. 1024 packets are about 3 s of
2.5 Mbit/s video.
"""

from collections.abc import Sequence
from typing import Final, Generic, TypeVar

HISTORY_PACKETS: Final = 1024
"""A power of two; ORTC peers ask within a few round trips, 512 is the least that a key frame at 1080p needs."""

P = TypeVar("P")


class History(Generic[P]):
    """The last packets by their continuous number."""

    def __init__(self, size: int = HISTORY_PACKETS) -> None:
        assert size & (size - 1) == 0, "the ring is indexed by mask"
        self._mask = size - 1
        self._numbers = [-1] * size
        self._packets: list[P | None] = [None] * size

    @property
    def size(self) -> int:
        """How many it keeps."""
        return self._mask + 1

    def put(self, number: int, packet: P) -> None:
        """Keep a packet; it replaces the one ``size`` numbers earlier."""
        slot = number & self._mask
        self._numbers[slot] = number
        self._packets[slot] = packet

    def put_all(self, first: int, packets: Sequence[P]) -> None:
        """`put` for packets whose numbers follow each other."""
        slot = first & self._mask
        if len(packets) > self._mask - slot:
            for number, packet in enumerate(packets, first):
                self.put(number, packet)
        else:
            stop = slot + len(packets)
            self._numbers[slot:stop] = range(first, first + len(packets))
            self._packets[slot:stop] = packets

    def get(self, number: int) -> P | None:
        """The packet of this number, or None when it was overwritten or never here."""
        slot = number & self._mask
        return self._packets[slot] if self._numbers[slot] == number else None
