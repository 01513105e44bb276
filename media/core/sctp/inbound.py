"""The receiving half of an association: which TSNs came, whole messages out of fragments, in order where asked.

Fragments of a message have consecutive TSNs, so they are joined by TSN alone, as runs that know both their
ends: a fragment costs the same whether its message has two or two hundred, and however they are shuffled.
What came is kept as ranges (RFC 9260 section 6.7); their number, their distance, and the bytes held for
incomplete or early messages are bounded. What is beyond a bound is dropped unacknowledged, like loss, and the
sender sends it again; only what no honest sender can cause ends the association (`SctpRefused` with ``endless``).

TSNs in here are extended to integers that do not wrap. When to acknowledge is ``association``'s decision.
"""

from bisect import bisect_right
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from media.core.sctp.wire import FIRST, LAST, MAX_STREAMS, UNORDERED, Data, ForwardTsn, Refused, SctpRefused
from media.core.serial import HALF_32, MASK_32, add16, extend32, newer16

WINDOW_BYTES: Final = 1 << 20
"""Held for messages that are not complete or not next, the bookkeeping included."""
MAX_MESSAGE_BYTES: Final = 262_144
HELD_OVERHEAD_BYTES: Final = 128
"""Counted for each fragment or message held, so that tiny ones cannot take many times the window."""
MAX_RANGES: Final = 256
"""Of TSNs received beyond a hole; as many gap blocks as fit a packet."""
MAX_AHEAD_TSNS: Final = 16_384
MAX_DUPLICATES: Final = 16


@dataclass(slots=True)
class Message:
    """One whole message of the peer."""

    stream: int
    protocol: int
    payload: bytes


@dataclass(slots=True)
class _Run:
    """Consecutive fragments of one message that is not complete."""

    first: int
    last: int
    head: Data
    begins: bool
    ends: bool
    pieces: deque[bytes]
    size: int
    held: int


@dataclass(slots=True)
class _Stream:
    next: int = 0
    waiting: dict[int, Message] = field(default_factory=dict)


class Inbound:
    """What the peer sends.

    Args:
        initial_tsn: the first TSN the peer will use.
    """

    def __init__(self, initial_tsn: int) -> None:
        self.cumulative = initial_tsn - 1 + (1 << 32)
        """Everything up to here came or was given up by the sender."""
        self.duplicates: list[int] = []
        self.refused: Counter[Refused] = Counter()
        self.held_bytes = 0
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._by_first: dict[int, _Run] = {}
        self._by_last: dict[int, _Run] = {}
        self._streams: dict[int, _Stream] = {}

    @property
    def has_gaps(self) -> bool:
        """Something is missing before what came."""
        return bool(self._firsts)

    @property
    def window_bytes(self) -> int:
        """Room to advertise."""
        return max(0, WINDOW_BYTES - self.held_bytes)

    def gaps(self) -> list[tuple[int, int]]:
        """Ranges beyond the cumulative TSN, as offsets from it."""
        base = self.cumulative
        return [(first - base, last - base) for first, last in zip(self._firsts, self._lasts, strict=True)]

    def data(self, chunk: Data) -> list[Message]:
        """Take in a chunk; the messages it completes, in the order they are to be delivered.

        Raises:
            SctpRefused: ``endless``; the association must end.
        """
        tsn = extend32(chunk.tsn, self.cumulative)
        place = bisect_right(self._firsts, tsn) - 1
        if tsn <= self.cumulative or (place >= 0 and tsn <= self._lasts[place]):
            if len(self.duplicates) < MAX_DUPLICATES:
                self.duplicates.append(chunk.tsn)
            return []
        size = len(chunk.payload) + HELD_OVERHEAD_BYTES
        if tsn != self.cumulative + 1 and (
            tsn - self.cumulative > MAX_AHEAD_TSNS
            or self.held_bytes + size > WINDOW_BYTES
            or (len(self._firsts) >= MAX_RANGES and not self._touches(place, tsn))
        ):
            self.refused[Refused.WINDOW] += 1
            return []
        self._mark(place, tsn)
        if chunk.stream >= MAX_STREAMS:
            self.refused[Refused.STREAM] += 1  # acknowledged and dropped, RFC 9260 section 6.5
            return []
        message = self._join(tsn, chunk, size)
        done = [] if message is None else self._deliver(message, chunk)
        if self.held_bytes > WINDOW_BYTES + 2 * MAX_MESSAGE_BYTES:
            raise SctpRefused(Refused.ENDLESS)  # in order and yet never deliverable
        return done

    def forward(self, chunk: ForwardTsn) -> list[Message]:
        """The sender gave something up (RFC 3758 section 3.6); messages that now are next."""
        offset = (chunk.cumulative - self.cumulative) & MASK_32
        if not 0 < offset < HALF_32:
            return []
        to = self.cumulative + offset
        self.cumulative = to
        keep = bisect_right(self._firsts, to)
        if keep and self._lasts[keep - 1] > to:
            self.cumulative = self._lasts[keep - 1]
        del self._firsts[:keep], self._lasts[:keep]
        self._swallow()
        for run in [run for run in self._by_first.values() if run.first <= to + (not run.begins)]:
            # Not one TSN of it may be missing at or below ``to``, or it can never be complete.
            if not run.begins or run.last < to:
                self._drop(run)
        done = []
        for stream, number in chunk.streams:
            if stream < MAX_STREAMS:
                done += self._skip(self._streams.setdefault(stream, _Stream()), number)
        return done

    def reset(self, streams: list[int]) -> None:
        """The peer numbers these streams from 0 again; none named means all."""
        for stream in streams or list(self._streams):
            found = self._streams.pop(stream, None)
            if found is not None:
                self.held_bytes -= sum(_held(message) for message in found.waiting.values())

    # ------------------------------------------------------------- what came

    def _touches(self, place: int, tsn: int) -> bool:
        return (place >= 0 and self._lasts[place] == tsn - 1) or (
            place + 1 < len(self._firsts) and self._firsts[place + 1] == tsn + 1
        )

    def _mark(self, place: int, tsn: int) -> None:
        firsts, lasts = self._firsts, self._lasts
        if tsn == self.cumulative + 1:
            self.cumulative = tsn
            self._swallow()
            return
        follows = place >= 0 and lasts[place] == tsn - 1
        precedes = place + 1 < len(firsts) and firsts[place + 1] == tsn + 1
        if follows and precedes:
            lasts[place] = lasts[place + 1]
            del firsts[place + 1], lasts[place + 1]
        elif follows:
            lasts[place] = tsn
        elif precedes:
            firsts[place + 1] = tsn
        else:
            firsts.insert(place + 1, tsn)
            lasts.insert(place + 1, tsn)

    def _swallow(self) -> None:
        if self._firsts and self._firsts[0] == self.cumulative + 1:
            self.cumulative = self._lasts[0]
            del self._firsts[0], self._lasts[0]

    # ------------------------------------------------------------- fragments

    def _join(self, tsn: int, chunk: Data, size: int) -> Message | None:
        begins, ends = bool(chunk.flags & FIRST), bool(chunk.flags & LAST)
        left, right = self._by_last.get(tsn - 1), self._by_first.get(tsn + 1)
        if left is not None and not left.ends and (begins or not _same(left.head, chunk)):
            self._drop(left, Refused.FRAGMENT)
        if right is not None and not right.begins and (ends or not _same(right.head, chunk)):
            self._drop(right, Refused.FRAGMENT)
        if begins and ends:
            return Message(chunk.stream, chunk.protocol, chunk.payload)
        run = _Run(tsn, tsn, chunk, begins, ends, deque((chunk.payload,)), len(chunk.payload), size)
        if left is not None and not left.ends and not begins and left.last in self._by_last:
            run = self._merge(left, run)
        else:
            self._by_first[run.first] = run
        self._by_last[run.last] = run
        self.held_bytes += size
        if right is not None and not right.begins and not ends and right.first in self._by_first:
            run = self._merge(run, right)
            self._by_last[run.last] = run
        if run.size > MAX_MESSAGE_BYTES:
            raise SctpRefused(Refused.ENDLESS)
        if not (run.begins and run.ends):
            return None
        self._drop(run)
        return Message(run.head.stream, run.head.protocol, b"".join(run.pieces))

    def _merge(self, left: _Run, right: _Run) -> _Run:
        """Both into one, at the cost of the smaller; the caller enters its last TSN."""
        self._by_first.pop(left.first, None)
        self._by_first.pop(right.first, None)
        self._by_last.pop(left.last, None)
        if len(left.pieces) >= len(right.pieces):
            left.pieces.extend(right.pieces)
            pieces = left.pieces
        else:
            right.pieces.extendleft(reversed(left.pieces))
            pieces = right.pieces
        run = _Run(
            left.first,
            right.last,
            left.head,
            left.begins,
            right.ends,
            pieces,
            left.size + right.size,
            left.held + right.held,
        )
        self._by_first[run.first] = run
        return run

    def _drop(self, run: _Run, reason: Refused | None = None) -> None:
        self._by_first.pop(run.first, None)
        self._by_last.pop(run.last, None)
        self.held_bytes -= run.held
        if reason is not None:
            self.refused[reason] += 1

    # ------------------------------------------------------------- order

    def _deliver(self, message: Message, chunk: Data) -> list[Message]:
        if chunk.flags & UNORDERED:
            return [message]
        stream = self._streams.setdefault(message.stream, _Stream())
        if chunk.number == stream.next:
            stream.next = add16(stream.next, 1)
            return [message, *self._following(stream)] if stream.waiting else [message]
        if not newer16(chunk.number, stream.next) or chunk.number in stream.waiting:
            self.refused[Refused.REPLAYED] += 1
            return []
        stream.waiting[chunk.number] = message
        self.held_bytes += _held(message)
        return []

    def _following(self, stream: _Stream) -> list[Message]:
        done = []
        while (message := stream.waiting.pop(stream.next, None)) is not None:
            self.held_bytes -= _held(message)
            stream.next = add16(stream.next, 1)
            done.append(message)
        return done

    def _skip(self, stream: _Stream, number: int) -> list[Message]:
        """Nothing up to ``number`` comes any more; what did come of it still counts."""
        if number != stream.next and not newer16(number, stream.next):
            return []
        done = []
        early = [n for n in stream.waiting if n == number or newer16(number, n)]
        for early_number in sorted(early, key=lambda n: add16(n, -stream.next)):
            message = stream.waiting.pop(early_number)
            self.held_bytes -= _held(message)
            done.append(message)
        stream.next = add16(number, 1)
        return done + self._following(stream)


def _same(one: Data, other: Data) -> bool:
    """Two fragments can be of one message."""
    unordered = one.flags & UNORDERED
    if one.stream != other.stream or unordered != other.flags & UNORDERED:
        return False
    return bool(unordered) or one.number == other.number


def _held(message: Message) -> int:
    return len(message.payload) + HELD_OVERHEAD_BYTES
