"""What was sent on one leg under transport-wide numbers, matched against what the viewer says arrived.

The record is two rings of plain integers, so that the packet path in C writes it without coming back to Python
(``media/native/fanout.c``); the path in Python calls `SentPackets.note` once per burst and viewer. The rest of the work
is done when feedback comes, and only for the numbers it covers and that are still remembered.

Numbers are extended here and never wrap; the viewer's clock is unwrapped from its 24-bit reference.
A number counts as received once; one told lost and then received (late by reordering) is both, and
the loss count takes the first back. Nearly all feedback goes on where the last one ended: then nothing has to be
looked up, and what was sent is read as slices of the rings. Reading the bytes is ``media.core.twcc``.
"""

from array import array
from collections.abc import Sequence
from operator import itemgetter
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


class Matched(NamedTuple):
    """What one feedback says that is new, in columns: a list per field and none per packet."""

    sends: list[int]
    """Of packets that arrived, in order of their numbers: when each was sent, microseconds."""
    arrives: list[int]
    """When it arrived, as in `Told`."""
    sizes: list[int]
    """Its bytes, with the probe above ``_CLUSTER_BIT``."""
    lost: list[int]
    """The same of packets told lost."""

    @property
    def size_bytes(self) -> int:
        """Of all that arrived."""
        sizes = self.sizes
        return sum(sizes) if max(sizes, default=0) <= MASK_16 else sum([size & MASK_16 for size in sizes])

    def told(self) -> list[Told]:
        """Packet by packet: those that arrived, then the lost ones."""
        arrived = [
            Told(send_us, arrive_us, size & MASK_16, (size >> _CLUSTER_BIT) - 1)
            for send_us, arrive_us, size in zip(self.sends, self.arrives, self.sizes, strict=True)
        ]
        return arrived + [Told(-1, None, size & MASK_16, (size >> _CLUSTER_BIT) - 1) for size in self.lost]


_NOTHING: Final = Matched([], [], [], [])


class SentPackets:
    """The last packets sent on one leg."""

    __slots__ = (
        "_missing",
        "_reference",
        "_told_to",
        "late",
        "lost",
        "next",
        "received",
        "send_us",
        "sizes",
        "unknown",
    )

    def __init__(self, first: int = 0) -> None:
        """Nothing sent yet.

        Args:
            first: 16-bit transport-wide number of the first packet.
        """
        self.next = array("q", [first + MASK_16 + 1] * 2)
        """In an array, where C counts on and reads: extended number of the next packet; and from here on no number was
        left out and none belongs to a probe."""
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
        self._told_to = self.next_number
        """Numbers below were told, or feedback went past them."""
        self._missing: dict[int, bool] = {}
        """Those of them that were not received; True: told lost."""
        self._reference: int | None = None

    @property
    def next_number(self) -> int:
        """Extended number of the next packet: its lower 16 bits are what goes on the wire."""
        return self.next[0]

    def take(self, sizes: Sequence[int], now_us: int) -> int:
        """A burst leaves under the next numbers; the 16 bits of the first (`note`, without a choice of them)."""
        first = number = self.next[0]
        self.next[0] = number + len(sizes)
        for size in sizes:
            slot = number & REMEMBERED - 1
            self.send_us[slot] = now_us
            self.sizes[slot] = size
            number += 1
        return first & MASK_16

    def take_one(self, size: int, now_us: int) -> int:
        """`take` for one packet."""
        following = self.next
        number = following[0]
        following[0] = number + 1
        slot = number & REMEMBERED - 1
        self.send_us[slot] = now_us
        self.sizes[slot] = size
        return number & MASK_16

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
        if cluster != NO_CLUSTER:
            self.next[1] = number + len(sizes)
        elif number != expected:
            self.next[1] = number
        what = (cluster + 1) << _CLUSTER_BIT
        for size in sizes:
            slot = number & REMEMBERED - 1
            self.send_us[slot] = now_us
            self.sizes[slot] = size | what
            number += 1

    def follows(self, base_seq: int, count: int) -> int:
        """Extended number of ``base_seq`` when ``count`` from there are the next that feedback has not told of.

        All of them were sent, are remembered, belong to no probe, and lie in one piece of the rings.

        Returns:
            -1: it is not so; `match` knows what to do.
        """
        start, upcoming = self._told_to, self.next[0]
        slot = start & REMEMBERED - 1
        if (
            start & MASK_16 != base_seq
            or start < self.next[1]
            or start + count > upcoming
            or slot + count > REMEMBERED
            or upcoming - start > REMEMBERED
            or self.send_us[slot] < self.send_us[upcoming - 1 & REMEMBERED - 1] - REMEMBERED_US
        ):
            return -1
        return start

    def arrived(self, count: int) -> tuple[int, int]:
        """All of what `follows` was asked for have arrived.

        Returns:
            When the last of them was sent, microseconds, and the bytes of all.
        """
        slot = self._told_to & REMEMBERED - 1
        self._told_to += count
        self.received += count
        return self.send_us[slot + count - 1], sum(self.sizes[slot : slot + count])

    @property
    def told(self) -> tuple[int, int]:
        """Extended number of the first packet not told of, and the last reference time: as ``account`` lends them."""
        return self._told_to, -1 if self._reference is None else self._reference

    def went_on(self, told_to: int, reference: int) -> None:
        """All up to ``told_to`` have arrived: feedback that was taken in by others."""
        self.received += told_to - self._told_to
        self._told_to, self._reference = told_to, reference

    def match(self, feedback: ReceivedFeedback) -> Matched:
        """What is new in a feedback, in order of the numbers.

        Numbers told received before, lost again, forgotten or never sent are left out, and so are all but the
        newest ``MAX_LOOKED_AT``.
        """
        upcoming = self.next_number
        start = upcoming - 1
        start += ((feedback.base_seq - start + HALF_16) & MASK_16) - HALF_16  # serial.extend16
        end = start + feedback.statuses
        arrive_us = self.unwrap_us(feedback.reference)
        if end > upcoming:
            self.unknown += end - max(start, upcoming)
            end = upcoming
        first = max(start, upcoming - REMEMBERED, end - MAX_LOOKED_AT)
        if first >= end:
            return _NOTHING
        slot, stop = first & REMEMBERED - 1, (end - 1 & REMEMBERED - 1) + 1
        forgotten_us = max(0, self.send_us[upcoming - 1 & REMEMBERED - 1] - REMEMBERED_US)
        fresh = first == start >= self._told_to and slot < stop
        if first > self._told_to:  # some feedback was lost, or comes later
            self._missing.update(dict.fromkeys(range(max(self._told_to, upcoming - REMEMBERED), first), False))
        if len(self._missing) > 2 * REMEMBERED:
            self._missing = {number: lost for number, lost in self._missing.items() if number >= upcoming - REMEMBERED}
        if fresh and min(self.send_us[slot:stop]) >= forgotten_us:
            return self._match_new(start, end, feedback, arrive_us)
        came = {start + offset: tick for offset, tick in zip(feedback.offsets, feedback.ticks, strict=True)}
        return self._match_each(first, end, came, arrive_us, forgotten_us)

    def _match_new(self, start: int, end: int, feedback: ReceivedFeedback, arrive_us: int) -> Matched:
        """Numbers that were not told of before, in one piece of the rings and all remembered."""
        slot, count = start & REMEMBERED - 1, end - start
        sends, sizes = self.send_us[slot : slot + count].tolist(), self.sizes[slot : slot + count].tolist()
        self._told_to = end
        offsets, ticks = feedback.offsets, feedback.ticks
        if feedback.statuses > count:  # more than was sent
            offsets = [offset for offset in offsets if offset < count]
            ticks = ticks[: len(offsets)]
        arrives = [arrive_us + tick * TICK_US for tick in ticks]
        self.received += len(arrives)
        if len(arrives) == count:
            return Matched(sends, arrives, sizes, [])
        self.lost += count - len(arrives)
        gone = sorted(set(range(count)).difference(offsets))
        self._missing.update(dict.fromkeys([start + offset for offset in gone], True))
        lost = [sizes[offset] for offset in gone]
        if not offsets:
            return Matched([], [], [], lost)
        if len(offsets) == 1:
            (only,) = offsets
            return Matched([sends[only]], arrives, [sizes[only]], lost)
        choose = itemgetter(*offsets)
        return Matched(list(choose(sends)), arrives, list(choose(sizes)), lost)

    def _match_each(self, first: int, end: int, came: dict[int, int], arrive_us: int, forgotten_us: int) -> Matched:
        """The general case, number by number."""
        result = Matched([], [], [], [])
        missing, told_to = self._missing, self._told_to
        for number in range(first, end):
            slot = number & REMEMBERED - 1
            send_us = self.send_us[slot]
            if send_us < forgotten_us:
                continue
            tick = came.get(number)
            if number < told_to and number not in missing:
                continue
            if tick is None:
                if not missing.get(number, False):
                    missing[number] = True
                    self.lost += 1
                    result.lost.append(self.sizes[slot])
                continue
            if missing.pop(number, False):
                self.lost -= 1
                self.late += 1
            self.received += 1
            result.sends.append(send_us)
            result.arrives.append(arrive_us + tick * TICK_US)
            result.sizes.append(self.sizes[slot])
        self._told_to = max(told_to, end)
        return result

    def unwrap_us(self, reference: int) -> int:
        """Reference time without its wrap at 24 bits; starts one circle up, so that nothing is negative."""
        if self._reference is None:
            self._reference = reference + 0x100_0000
        else:
            self._reference += ((reference - self._reference + 0x80_0000) & 0xFF_FFFF) - 0x80_0000
        return self._reference * (TICKS_PER_REFERENCE * TICK_US)
