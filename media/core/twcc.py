"""Transport-wide congestion feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).

A publisher numbers all packets of its Transport together; `ArrivalRecorder` notes when each came
and turns that into feedback from which the publisher estimates its uplink. Without any feedback
Chromium stays near 300 kbit/s.

One feedback covers an unbroken run of numbers from the first that was not reported yet, so a
packet that is missing at the border is reported as lost once. A packet that comes after that (late
by reordering) makes the next feedback start with it again; recent arrivals are kept for this.

Arrivals are in microseconds of any steady clock; on the wire they are steps of 250 us from a
reference in steps of 64 ms. The RTCP header around the body is ``media.core.rtcp``.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import sub
from struct import Struct, pack
from typing import Final, NamedTuple

from media.core.rtcp import Buffer, MalformedRtcp, build_transport_feedback
from media.core.serial import HALF_16, MASK_16

TICK_US: Final = 250
TICKS_PER_REFERENCE: Final = 256
"""64 ms of ticks."""
MAX_STATUSES: Final = 1024
"""Packets in one feedback, missing ones included; a wider hole is left out."""
MAX_BODY_BYTES: Final = 1100
"""Keeps the RTCP packet with its SRTCP trailer inside any path MTU."""
REORDER_WINDOW: Final = 256
"""A packet later than this is not reported again."""
MAX_RECORDED: Final = 8192
"""Arrivals kept when nobody builds feedback; the oldest are dropped."""

_HEAD: Final = Struct("!HHI")
_HEAD_AND_CHUNK: Final = Struct("!HHIH")
_DELTA: Final = Struct("!h")
_LOST, _SMALL, _LARGE = 0, 1, 2


class ArrivalRecorder:
    """Arrivals of one publishing Transport, waiting to be reported.

    Numbers that come in order are kept as runs of times; only what is out of order is told apart number by number.
    """

    __slots__ = ("_arrivals", "_count", "_highest", "_next", "_oldest_new", "_recent", "_reported", "_run")

    def __init__(self) -> None:
        self._arrivals: dict[int, int] = {}
        """Ticks by number, of what is neither in ``_run`` nor in ``_recent``."""
        self._run: list[int] = []
        """Ticks of the numbers that came in order behind ``_highest``."""
        self._recent: deque[tuple[int, list[int]]] = deque()
        """Runs that are reported, by their first number: kept for what comes late."""
        self._highest = -1
        self._next = -1
        """The 16 bits that prolong the run."""
        self._reported = -1
        """First number that no feedback has covered."""
        self._oldest_new = -1
        self._count = 0

    @property
    def pending(self) -> bool:
        """There is something to report."""
        return self._oldest_new >= 0 or bool(self._run)

    def record(self, seq: int, now_us: int) -> None:
        """A packet with this transport-wide number came in; a repeated number keeps its first time."""
        if seq == self._next and len(self._run) < MAX_RECORDED // 2:
            self._next = seq + 1 & MASK_16
            self._run.append(now_us // TICK_US)
            return
        self._tell_apart()
        highest = self._highest
        if highest < 0:
            number = seq + HALF_16 * 2  # room below for what was overtaken
            self._reported = number
        else:
            number = highest + ((seq - highest + HALF_16) & MASK_16) - HALF_16  # serial.extend16
        arrivals = self._arrivals
        if number in arrivals or number < self._reported - REORDER_WINDOW:
            return
        arrivals[number] = now_us // TICK_US
        if number > highest:
            self._highest = number
            self._next = number + 1 & MASK_16
        if self._oldest_new < 0 or number < self._oldest_new:
            self._oldest_new = number
        if len(arrivals) > MAX_RECORDED:
            self._forget_oldest()

    def record_all(self, seqs: tuple[int, ...], times_us: Sequence[int]) -> None:
        """`record` for several packets, in order."""
        run, expected, count = self._run, self._next, len(seqs)
        if seqs == tuple(range(expected, expected + count)) and len(run) + count < MAX_RECORDED // 2:
            self._next = expected + count & MASK_16
            run += [now_us // TICK_US for now_us in times_us]
            return
        for seq, now_us in zip(seqs, times_us, strict=True):
            if seq == expected and len(run) < MAX_RECORDED // 2:
                expected = self._next = seq + 1 & MASK_16
                run.append(now_us // TICK_US)
            else:
                self.record(seq, now_us)
                run, expected = self._run, self._next

    def _tell_apart(self) -> None:
        """Write the runs down number by number."""
        arrivals = self._arrivals
        for first, ticks in self._recent:
            arrivals.update(enumerate(ticks, first))
        self._recent.clear()
        if self._run:
            if self._oldest_new < 0:
                self._oldest_new = self._highest + 1
            arrivals.update(enumerate(self._run, self._highest + 1))
            self._highest += len(self._run)
            self._run = []
        if len(arrivals) > MAX_RECORDED:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        for number in sorted(self._arrivals)[: -MAX_RECORDED // 2]:
            del self._arrivals[number]
        oldest = min(self._arrivals)
        self._reported = max(self._reported, oldest)
        self._oldest_new = max(self._oldest_new, oldest)

    def build(self, sender_ssrc: int, media_ssrc: int) -> list[bytes]:
        """RTCP packets that report everything pending; empty when nothing is.

        Args:
            sender_ssrc: ours.
            media_ssrc: any SSRC of the publisher; only the Transport counts.
        """
        if not self.pending:
            return []
        whole = self._build_run() if self._oldest_new < 0 and self._reported == self._highest + 1 else None
        if whole is not None:
            return [build_transport_feedback(sender_ssrc, media_ssrc, whole)]
        self._tell_apart()
        numbers = sorted(number for number in self._arrivals if number >= min(self._oldest_new, self._reported))
        if numbers[0] > self._reported and numbers[0] - self._reported < MAX_STATUSES:
            start = self._reported  # what lies between was lost
        else:
            start = numbers[0]
        packets = []
        position = 0
        while position < len(numbers):
            body, position, start = self._build_one(numbers, position, start)
            packets.append(build_transport_feedback(sender_ssrc, media_ssrc, body))
        self._reported = self._highest + 1
        self._oldest_new = -1
        for number in [number for number in self._arrivals if number < self._reported - REORDER_WINDOW]:
            del self._arrivals[number]
        return packets

    def _build_run(self) -> bytes | None:
        """Body of one feedback of all that came when it came in order and in time, as nearly always; None: it did not.

        The same bytes as `_build_one` gives.
        """
        run = self._run
        count = len(run)
        if count + count // 3 + 12 > MAX_BODY_BYTES:
            return None
        reference = run[0] // TICKS_PER_REFERENCE
        try:
            deltas = bytes((run[0] % TICKS_PER_REFERENCE, *map(sub, run[1:], run)))
        except ValueError:
            return None
        first = self._highest + 1
        word = (reference & 0xFF_FFFF) << 8 | self._count
        body = _HEAD_AND_CHUNK.pack(first & MASK_16, count, word, _SMALL << 13 | count) + deltas
        self._count = (self._count + 1) & 0xFF
        self._recent.append((first, run))
        self._run = []
        self._highest = first + count - 1
        self._reported = first + count
        kept = self._reported - REORDER_WINDOW
        while self._recent[0][0] + len(self._recent[0][1]) <= kept:
            self._recent.popleft()
        return body + bytes(-len(body) & 3)

    def _build_one(self, numbers: list[int], position: int, start: int) -> tuple[bytes, int, int]:
        """Body of one feedback from ``start``; ``numbers[position:]`` are the arrivals not in one yet.

        Returns:
            The body, the position after what it covers, and where the next one starts.
        """
        arrivals = self._arrivals
        ticks = arrivals[numbers[position]]
        reference = ticks // TICKS_PER_REFERENCE
        last = reference * TICKS_PER_REFERENCE
        symbols: list[int] = []
        deltas = bytearray()
        following = start
        while position < len(numbers):
            number = numbers[position]
            ticks = arrivals[number]
            delta = ticks - last
            lost = number - following
            if symbols and (
                not -0x8000 <= delta <= 0x7FFF
                or len(symbols) + lost >= MAX_STATUSES
                or len(deltas) + (len(symbols) + lost) // 3 + 12 > MAX_BODY_BYTES
            ):
                break
            symbols.extend([_LOST] * lost)
            if 0 <= delta <= 0xFF:
                symbols.append(_SMALL)
                deltas.append(delta)
            else:
                symbols.append(_LARGE)
                deltas += _DELTA.pack(delta)
            last = ticks
            following = number + 1
            position += 1
        body = _HEAD.pack(start & MASK_16, len(symbols), (reference & 0xFF_FFFF) << 8 | self._count)
        self._count = (self._count + 1) & 0xFF
        body += _build_chunks(symbols) + deltas
        if position < len(numbers) and numbers[position] - following >= MAX_STATUSES:
            following = numbers[position]  # too wide a hole to report: the publisher knows it is one
        return body + bytes(-len(body) & 3), position, following


def _build_chunks(symbols: list[int]) -> bytes:
    """Greedy: a run where 14 or more agree, else 14 one-bit symbols, else 7 two-bit symbols."""
    chunks = bytearray()
    position, end = 0, len(symbols)
    while position < end:
        symbol = symbols[position]
        run = 1
        while position + run < end and run < 0x1FFF and symbols[position + run] == symbol:
            run += 1
        if run >= 14 or position + run == end or (run >= 7 and symbol == _LARGE):
            chunk, taken = symbol << 13 | run, run
        elif _LARGE not in symbols[position : position + 14]:
            chunk, taken = _vector(0x8000, symbols[position : position + 14], 1)
        else:
            chunk, taken = _vector(0xC000, symbols[position : position + 7], 2)
        chunks += pack("!H", chunk)
        position += taken
    return bytes(chunks)


def _vector(head: int, symbols: list[int], bits: int) -> tuple[int, int]:
    shift = 14
    for symbol in symbols:
        shift -= bits
        head |= symbol << shift
    return head, len(symbols)


@dataclass(slots=True)
class ReceivedFeedback:
    """One feedback as it came in: only what arrived is listed, so its size is that of the bytes."""

    base_seq: int
    statuses: int
    """Numbers it covers, from ``base_seq``; those without an offset are missing."""
    count: int
    """Feedback number of the sender, modulo 256: a hole means a lost feedback."""
    reference: int
    """24 bits in steps of 64 ms; wraps after 12 days (``congestion.sent`` unwraps it)."""
    offsets: Sequence[int]
    """Of arrived numbers from ``base_seq``, rising."""
    ticks: list[int]
    """When each of them arrived: steps of 250 us from the reference."""


class WholeFeedback(NamedTuple):
    """Feedback that says: all of this has come, and no two of it far apart."""

    base_seq: int
    statuses: int
    """Numbers it covers; every one has arrived."""
    reference: int
    """As in `ReceivedFeedback`."""
    deltas: bytes
    """Ticks, a byte for each: from the reference, then from packet to packet."""


def read_whole(fci: bytes) -> WholeFeedback | None:
    """Read feedback that has only small deltas and no hole, without unpacking it.

    Returns:
        None: it is not such a one, or broken; `read_feedback` tells.
    """
    length = len(fci)
    if length < 10:
        return None
    base, count, word, chunk = _HEAD_AND_CHUNK.unpack_from(fci)
    position = 10
    if chunk >> 13 != _SMALL or chunk & 0x1FFF < count:  # not a single run, as browsers write it
        position = _skip_small(fci, count)
    if not count or not position or length < position + count:
        return None
    return WholeFeedback(base, count, word >> 8, fci[position : position + count])


def _skip_small(fci: bytes, count: int) -> int:
    """Position behind the chunks when they say "small" of all the ``count`` statuses, else 0."""
    position, left = 8, count
    while left > 0:
        if position + 2 > len(fci):
            return 0
        chunk = fci[position] << 8 | fci[position + 1]
        position += 2
        if chunk >> 13 == _SMALL and chunk & 0x1FFF:
            left -= chunk & 0x1FFF
        elif chunk >> 14 == 2 and chunk & 0x3FFF == 0x3FFF & -1 << max(0, 14 - left):
            left -= 14
        elif chunk >> 14 == 3 and chunk & 0x3FFF == 0x1555 & -1 << 2 * max(0, 7 - left):
            left -= 7
        else:
            return 0
    return position


def read_feedback(fci: Buffer) -> ReceivedFeedback:
    """Read the body of a transport-wide feedback; cost is bound by its length, whatever it claims to cover.

    Raises:
        MalformedRtcp: cut off, an empty run or the reserved symbol; nothing else, whatever the bytes.
    """
    whole = read_whole(bytes(fci))
    if whole is not None:
        base, statuses, reference, deltas = whole
        return ReceivedFeedback(base, statuses, fci[7], reference, range(statuses), list(accumulate(deltas)))
    if len(fci) < 8:
        raise MalformedRtcp("feedback header cut off")
    base, statuses, word = _HEAD.unpack_from(fci)
    offsets, symbols, position = _read_chunks(fci, statuses)
    return ReceivedFeedback(
        base, statuses, word & 0xFF, word >> 8, offsets, _read_deltas(memoryview(fci)[position:], symbols)
    )


def _read_chunks(fci: Buffer, statuses: int) -> tuple[list[int], list[int], int]:
    """Offsets and symbols of what arrived, and the position of the first delta."""
    offsets: list[int] = []
    symbols: list[int] = []
    covered, position, length = 0, 8, len(fci)
    while covered < statuses:
        if position + 2 > length:
            raise MalformedRtcp("status chunk cut off")
        chunk = fci[position] << 8 | fci[position + 1]
        position += 2
        if not chunk & 0x8000:
            covered = _read_run(chunk, covered, statuses, length, offsets, symbols)
            continue
        if chunk & 0x4000:
            taken, bits, mask = 7, 2, 3
        else:
            taken, bits, mask = 14, 1, 1
        shift = 14
        for offset in range(covered, min(covered + taken, statuses)):
            shift -= bits
            symbol = chunk >> shift & mask
            if symbol:
                offsets.append(offset)
                symbols.append(symbol)
        covered += taken
    if 3 in symbols:
        raise MalformedRtcp("reserved symbol")
    return offsets, symbols, position


def _read_run(chunk: int, covered: int, statuses: int, length: int, offsets: list[int], symbols: list[int]) -> int:
    """A run-length chunk; the number of statuses covered with it."""
    run, symbol = min(chunk & 0x1FFF, statuses - covered), chunk >> 13
    if not run:
        raise MalformedRtcp("run of no packets")
    if symbol:
        if symbol == 3:
            raise MalformedRtcp("reserved symbol")
        if len(offsets) + run > length:
            raise MalformedRtcp("delta cut off")
        offsets.extend(range(covered, covered + run))
        symbols.extend([symbol] * run)
    return covered + run


def _read_deltas(deltas: memoryview, symbols: list[int]) -> list[int]:
    """Ticks since the reference, one for each symbol."""
    if _LARGE not in symbols:
        if len(deltas) < len(symbols):
            raise MalformedRtcp("delta cut off")
        return list(accumulate(deltas[: len(symbols)]))
    if len(deltas) < sum(symbols):  # a symbol is the bytes of its delta
        raise MalformedRtcp("delta cut off")
    ticks: list[int] = []
    now = position = 0
    for symbol in symbols:
        now += deltas[position] if symbol == _SMALL else _DELTA.unpack_from(deltas, position)[0]
        position += symbol
        ticks.append(now)
    return ticks
