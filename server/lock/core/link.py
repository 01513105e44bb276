"""The numbering of one direction on one connection: pure, at both ends.

`Sender` says what may be sent next within the window the receiver gave; `Receiver` takes frames in
order and gives out whole crossings, each exactly once. Neither keeps anything over a
connection: what is durable is the journal (or outbox) at one end and ``up_to`` with its mark at the
other, and a connection begins from these. A hole, a repeat with other content, a part out of place is a
`WireError`: the connection ends and the next one resumes, so nothing is ever skipped.
"""

import hashlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from server.gateway.core.crossing import MAX_BODY_BYTES
from server.lock.core.proof import next_mark
from server.lock.core.wire import MAX_ITEMS, PART_BYTES, Cross, Gap, Part, WireError


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What became of one number at the other end."""

    sequence: int
    verdict: str
    code: str
    received_us: int
    committed_us: int


class Sender:
    """What may be sent now, and what was settled.

    Args:
        up_to: what the other end has.
        settled: what is known to be settled there; what lies between will be acknowledged again. [LK13]
        window_count: crossings that may be under way.
        window_bytes: bytes that may be under way; one crossing may always be, however large. [LK11]
    """

    def __init__(self, *, up_to: int, settled: int, window_count: int, window_bytes: int) -> None:
        self.next = up_to + 1
        """Number to be sent next."""
        self._window_count, self._window_bytes = window_count, window_bytes
        self._under_way: deque[tuple[int, int]] = deque()
        """(last number, bytes) of each frame sent and not settled; a gap is one frame for many numbers."""
        self._bytes = 0
        self._settled = min(settled, up_to)

    @property
    def settled(self) -> int:
        """Everything up to here is durable at the other end."""
        return self._settled

    def may_send(self, size: int) -> bool:
        """Whether the window has room for a crossing of ``size`` bytes."""
        if not self._under_way:
            return True
        return len(self._under_way) < self._window_count and self._bytes + size <= self._window_bytes

    def sent(self, last: int, size: int) -> None:
        """A crossing (or a gap up to ``last``) is on its way."""
        assert last >= self.next, "numbers are sent in order"
        self.next = last + 1
        self._under_way.append((last, size))
        self._bytes += size

    def take(self, first: int, items: Iterable[tuple[str, str, int, int]]) -> list[Settled]:
        """An acknowledgement.

        Raises:
            WireError: for numbers that were not sent, or out of order. [LK12]
        """
        if first != self._settled + 1:
            raise WireError("Ack.first")
        settled = [
            Settled(sequence=first + place, verdict=verdict, code=code, received_us=received, committed_us=committed)
            for place, (verdict, code, received, committed) in enumerate(items)
        ]
        if not settled or settled[-1].sequence >= self.next:
            raise WireError("Ack.items")
        self._settled = settled[-1].sequence
        while self._under_way and self._under_way[0][0] <= self._settled:
            self._bytes -= self._under_way.popleft()[1]
        return settled


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrived:
    """A whole crossing, checked: its number is the next one, its body and its mark are right."""

    frame: Cross
    body: bytes
    received_us: int


class Receiver:
    """Takes frames of one connection.

    Args:
        up_to: what is durable here; the sender was told.
        mark: its mark.
    """

    def __init__(self, *, up_to: int, mark: bytes) -> None:
        self._up_to, self._mark = up_to, mark
        self._begun: tuple[Cross, bytearray] | None = None

    @property
    def up_to(self) -> int:
        """Last number that has come whole."""
        return self._up_to

    def take(self, frame: Cross | Part | Gap, now_us: int) -> Arrived | Gap | None:
        """One frame; a whole crossing or a gap when it completes one.

        Raises:
            WireError: it is not what comes next. [LK10]
        """
        match frame:
            case Cross():
                return self._cross(frame, now_us)
            case Part():
                return self._part(frame, now_us)
            case Gap():
                return self._gap(frame)

    def _cross(self, frame: Cross, now_us: int) -> Arrived | None:
        if self._begun is not None:
            raise WireError("Cross within a crossing")
        if frame.sequence != self._up_to + 1:
            raise WireError("Cross.sequence")
        if len(frame.body) > frame.size or len(frame.body) != min(frame.size, PART_BYTES):
            raise WireError("Cross.body")
        if frame.mark != next_mark(self._mark, frame.sequence, frame.source, frame.key, frame.digest):
            raise WireError("Cross.mark")
        return self._collect(frame, bytearray(frame.body), now_us)

    def _part(self, frame: Part, now_us: int) -> Arrived | None:
        if self._begun is None or frame.sequence != self._begun[0].sequence:
            raise WireError("Part.sequence")
        head, body = self._begun
        if frame.offset != len(body) or len(body) + len(frame.data) > head.size:
            raise WireError("Part.offset")
        body += frame.data
        return self._collect(head, body, now_us)

    def _collect(self, head: Cross, body: bytearray, now_us: int) -> Arrived | None:
        if len(body) < head.size:
            self._begun = (head, body)
            return None
        self._begun = None
        whole = bytes(body)
        if hashlib.sha256(whole).digest() != head.digest:
            raise WireError("Cross.digest")
        self._up_to, self._mark = head.sequence, head.mark
        return Arrived(frame=head, body=whole, received_us=now_us)

    def _gap(self, frame: Gap) -> Gap:
        if self._begun is not None or frame.first != self._up_to + 1 or frame.last < frame.first:
            raise WireError("Gap.first")
        if frame.last - frame.first >= MAX_ITEMS:
            raise WireError("Gap.last")
        self._up_to, self._mark = frame.last, frame.mark
        return frame


def parts_of(sequence: int, body: bytes) -> list[Part]:
    """What follows a `Cross` whose body has more than ``PART_BYTES``."""
    assert len(body) <= MAX_BODY_BYTES, "checked when it was put"
    return [
        Part(sequence=sequence, offset=offset, data=body[offset : offset + PART_BYTES])
        for offset in range(PART_BYTES, len(body), PART_BYTES)
    ]
