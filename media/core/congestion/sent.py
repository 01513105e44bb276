"""What was sent on one leg under transport-wide numbers, matched against what the viewer says arrived.

The record is two rings of plain integers, so that the packet path in C writes it without coming back to Python
(``media/native/fanout.c``); the path in Python calls `SentPackets.note` once per burst and viewer. The rest of the work
is done when feedback comes, and only for the numbers it covers and that are still remembered.

Numbers are extended here and never wrap; the viewer's clock is unwrapped from its 24-bit reference.
A number counts as received once; one told lost and then received (late by reordering) is both, and
the loss count takes the first back. Reading the bytes is ``media.core.twcc``.
"""

from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple

from media.core.serial import HALF_16, MASK_16
from media.core.twcc import TICK_US, TICKS_PER_REFERENCE, ReceivedFeedback

REMEMBERED: Final = 4096
"""Numbers kept, a power of two: 2 s at 2000 packets/s."""
REMEMBERED_US: Final = 2_000_000
"""Older than any round trip we wait for."""
NO_CLUSTER: Final = -1
MAX_LOOKED_AT: Final = 1024
"""Numbers of one feedback, the newest: a few bytes may claim 65535 losses."""
_CLUSTER_BIT: Final = 16
"""Where the probe, counted from one, stands above a packet's size."""


class Told(NamedTuple):
    """What one feedback says of one packet."""

    send_us: int
    arrive_us: int | None
    """On the viewer's clock, microseconds, unwrapped; None: lost so far."""
    size_bytes: int
    cluster: int
    """Probe it was part of, or ``NO_CLUSTER``."""


class SentPackets:
    """The last packets sent on one leg."""

    __slots__ = ("_reference", "_told", "late", "lost", "next", "received", "send_us", "sizes", "unknown")

    def __init__(self, first: int = 0) -> None:
        """Nothing sent yet.

        Args:
            first: 16-bit transport-wide number of the first packet.
        """
        self.next = array("q", [first + MASK_16 + 1])
        """Extended number of the next packet, alone in an array: C counts it on."""
        self.send_us = array("q", [-1]) * REMEMBERED
        """Per slot (number modulo ``REMEMBERED``): when it was sent; -1: nothing was."""
        self.sizes = array("q", bytes(8 * REMEMBERED))
        """Per slot: bytes, and above ``_CLUSTER_BIT`` the probe plus one."""
        self.received = 0
        self.lost = 0
        """Told lost and not received since."""
        self.late = 0
        self.unknown = 0
        """Numbers in feedback that were never sent."""
        self._told = array("q", bytes(8 * REMEMBERED))
        """Per slot: number * 2 + received, of the last number there that was told."""
        self._reference: int | None = None

    @property
    def next_number(self) -> int:
        """Extended number of the next packet: its lower 16 bits are what goes on the wire."""
        return self.next[0]

    def note(self, first: int, sizes: Sequence[int], now_us: int, cluster: int = NO_CLUSTER) -> None:
        """A burst left.

        Args:
            first: 16-bit transport-wide number of its first packet; normally ``next_number & 0xFFFF``.
            sizes: bytes of each packet in order.
            cluster: the probe it belongs to.
        """
        expected = number = self.next[0]
        number += ((first - number + HALF_16) & MASK_16) - HALF_16  # serial.extend16
        for skipped in range(expected, min(number, expected + REMEMBERED)):
            self.send_us[skipped & REMEMBERED - 1] = -1
        self.next[0] = number + len(sizes)
        what = (cluster + 1) << _CLUSTER_BIT
        for size in sizes:
            slot = number & REMEMBERED - 1
            self.send_us[slot] = now_us
            self.sizes[slot] = size | what
            number += 1

    def match(self, feedback: ReceivedFeedback) -> list[Told]:
        """What is new in a feedback, in order of the numbers.

        Numbers told received before, lost again, forgotten or never sent are left out, and so are all but the
        newest ``MAX_LOOKED_AT``.
        """
        start = self.next_number - 1
        start += ((feedback.base_seq - start + HALF_16) & MASK_16) - HALF_16  # serial.extend16
        end = start + feedback.statuses
        arrive_base_us = self._unwrap(feedback.reference) * (TICKS_PER_REFERENCE * TICK_US)
        if end > self.next_number:
            self.unknown += end - max(start, self.next_number)
            end = self.next_number
        if not feedback.statuses:
            return []
        first = max(start, self.next_number - REMEMBERED, end - MAX_LOOKED_AT)
        came = {start + offset: tick for offset, tick in zip(feedback.offsets, feedback.ticks, strict=True)}
        return self._match(first, end, came, arrive_base_us)

    def _match(self, start: int, end: int, came: dict[int, int], arrive_base_us: int) -> list[Told]:
        """Take over what is new of the numbers from ``start`` to before ``end``."""
        results: list[Told] = []
        told, make, times, sizes = self._told, Told._make, self.send_us, self.sizes
        forgotten_us = times[self.next_number - 1 & REMEMBERED - 1] - REMEMBERED_US
        for number in range(start, end):
            slot = number & REMEMBERED - 1
            send_us, size = times[slot], sizes[slot]
            if send_us < 0 or send_us < forgotten_us:
                continue
            before = told[slot]
            tick = came.get(number)
            if tick is None:
                if before >> 1 != number:
                    told[slot] = number << 1
                    self.lost += 1
                    results.append(make((send_us, None, size & MASK_16, (size >> _CLUSTER_BIT) - 1)))
            elif before != number << 1 | 1:
                if before == number << 1:
                    self.lost -= 1
                    self.late += 1
                told[slot] = number << 1 | 1
                self.received += 1
                arrive_us = arrive_base_us + tick * TICK_US
                results.append(make((send_us, arrive_us, size & MASK_16, (size >> _CLUSTER_BIT) - 1)))
        return results

    def _unwrap(self, reference: int) -> int:
        """Reference time without its wrap at 24 bits; starts one circle up, so that nothing is negative."""
        if self._reference is None:
            self._reference = reference + 0x100_0000
        else:
            self._reference += ((reference - self._reference + 0x80_0000) & 0xFF_FFFF) - 0x80_0000
        return self._reference
