"""What was sent on one leg under transport-wide numbers, matched against what the viewer says arrived.

The packet path calls `SentPackets.note` once per burst and viewer, so it keeps references only: the
list of sizes is the burst's own and shared by all viewers. Work per packet is done when feedback
comes, and only for the numbers it covers and that are still remembered.

Numbers are extended here and never wrap; the viewer's clock is unwrapped from its 24-bit reference.
A number counts as received once; one told lost and then received (late by reordering) is both, and
the loss count takes the first back. Reading the bytes is ``media.core.twcc``.
"""

from array import array
from bisect import bisect_right
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
_TRIM: Final = 128
"""Bursts between two looks at what can be forgotten: it costs nothing per burst."""


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

    __slots__ = (
        "_bursts",
        "_firsts",
        "_look_at",
        "_reference",
        "_told",
        "late",
        "lost",
        "next_number",
        "received",
        "unknown",
    )

    def __init__(self, first: int = 0) -> None:
        """Nothing sent yet.

        Args:
            first: 16-bit transport-wide number of the first packet.
        """
        self.next_number = first + MASK_16 + 1
        """Extended number of the next packet: its lower 16 bits are what goes on the wire."""
        self.received = 0
        self.lost = 0
        """Told lost and not received since."""
        self.late = 0
        self.unknown = 0
        """Numbers in feedback that were never sent."""
        self._firsts: list[int] = []
        self._bursts: list[tuple[Sequence[int], int, int]] = []
        self._look_at = _TRIM
        self._told = array("q", bytes(8 * REMEMBERED))
        """Per slot: number * 2 + received, of the last number there that was told."""
        self._reference: int | None = None

    def note(self, first: int, sizes: Sequence[int], now_us: int, cluster: int = NO_CLUSTER) -> None:
        """A burst left.

        Args:
            first: 16-bit transport-wide number of its first packet; normally ``next_number & 0xFFFF``.
            sizes: bytes of each packet in order; kept, not copied: do not change it afterwards.
            cluster: the probe it belongs to.
        """
        number = self.next_number
        number += ((first - number + HALF_16) & MASK_16) - HALF_16  # serial.extend16
        self.next_number = number + len(sizes)
        firsts = self._firsts
        firsts.append(number)
        self._bursts.append((sizes, now_us, cluster))
        if len(firsts) > self._look_at:
            self._forget(now_us)

    def _forget(self, now_us: int) -> None:
        """Drop what is too old or too much."""
        firsts, bursts = self._firsts, self._bursts
        keep = max(bisect_right(firsts, self.next_number - REMEMBERED) - 1, len(firsts) - REMEMBERED, 0)
        while keep < len(bursts) and now_us - bursts[keep][1] > REMEMBERED_US:
            keep += 1
        del firsts[:keep]
        del bursts[:keep]
        self._look_at = len(firsts) + _TRIM

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
        if not self._firsts or not feedback.statuses:
            return []
        came = {start + offset: tick for offset, tick in zip(feedback.offsets, feedback.ticks, strict=True)}
        first = max(start, self.next_number - REMEMBERED, end - MAX_LOOKED_AT)
        results: list[Told] = []
        for index in range(max(0, bisect_right(self._firsts, first) - 1), len(self._firsts)):
            number = self._firsts[index]
            if number >= end:
                break
            self._match_burst(index, first, end, came, arrive_base_us, results)
        return results

    def _match_burst(
        self, index: int, start: int, end: int, came: dict[int, int], arrive_base_us: int, results: list[Told]
    ) -> None:
        """Take over what is new of the numbers from ``start`` to before ``end`` that are in one burst."""
        sizes, send_us, cluster = self._bursts[index]
        number = self._firsts[index] - 1
        told, make = self._told, Told._make
        for size in sizes:
            number += 1
            if number < start:
                continue
            if number >= end:
                return
            slot = number & REMEMBERED - 1
            before = told[slot]
            tick = came.get(number)
            if tick is None:
                if before >> 1 != number:
                    told[slot] = number << 1
                    self.lost += 1
                    results.append(make((send_us, None, size, cluster)))
            elif before != number << 1 | 1:
                if before == number << 1:
                    self.lost -= 1
                    self.late += 1
                told[slot] = number << 1 | 1
                self.received += 1
                results.append(make((send_us, arrive_base_us + tick * TICK_US, size, cluster)))

    def _unwrap(self, reference: int) -> int:
        """Reference time without its wrap at 24 bits; starts one circle up, so that nothing is negative."""
        if self._reference is None:
            self._reference = reference + 0x100_0000
        else:
            self._reference += ((reference - self._reference + 0x80_0000) & 0xFF_FFFF) - 0x80_0000
        return self._reference
