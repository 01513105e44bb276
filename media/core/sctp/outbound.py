"""The sending half of an association: queues, fragments, flight, what was lost, what is given up.

TSNs and stream numbers are given out when a fragment leaves, not when its message is queued: streams take
turns message by message whatever waits in front of another, and a message that expires unsent leaves no hole
for the peer to be told of. Of a message given up half way the unsent rest takes one TSN that is never sent:
with it FORWARD TSN can tell a peer that already has every fragment sent that no more will come.

Congestion control is RFC 9260 section 7 as it stands (slow start, avoidance, fast retransmit, at most four
packets at once). TSNs in here are extended to integers that do not wrap.

The timer backs off (RFC 9260 section 6.3.3 E2), and after a timeout one packet may be in flight (section 7.2.3):
whatever is sent into a dead line would shut it until the timer runs out again, and a line that returns would be found
up to `RTO_MAX_US` later. What must arrive bears that. New messages that may be lost need not: a packet that left a
round trip ago is in flight no more, so then one may leave with such a message (`probe`), and of those before it what
is never resent is given up, as RFC 3758 lets the sender decide. One packet a round trip is what RFC 8085 section 3.1.3
allows to anyone who sends little. So the first message after the line's return, or a round trip after it, finds it.

Long on purpose: queue, flight and what is given up share one account of outstanding bytes.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from media.core.sctp.inbound import MAX_MESSAGE_BYTES
from media.core.sctp.wire import (
    DATA_HEADER_BYTES,
    FIRST,
    HEADER_BYTES,
    LAST,
    MAX_FRAGMENT_BYTES,
    MAX_PACKET_BYTES,
    UNORDERED,
    Data,
    Refused,
    Sack,
    SctpRefused,
    build_data,
    build_forward_tsn,
)
from media.core.serial import MASK_32, add16, extend32

INITIAL_WINDOW_BYTES: Final = 4380
MAX_WINDOW_BYTES: Final = 262_144
"""Of our congestion window: a second of 2 Mbit/s, far above what any channel here carries."""
MAX_OUTSTANDING: Final = 1024
"""Chunks in flight; bounds what one SACK may cost."""
MAX_BURST_PACKETS: Final = 4
MAX_QUEUED_BYTES: Final = 16 << 20
"""Of one association, every message counted with `QUEUED_OVERHEAD_BYTES`."""
QUEUED_OVERHEAD_BYTES: Final = 256
MISSES_BEFORE_RESEND: Final = 3
RTO_INITIAL_US: Final = 1_000_000
RTO_MIN_US: Final = 400_000
"""Below RFC 9260's second, above the 200 ms by which a peer may delay an acknowledgement."""
RTO_MAX_US: Final = 4_000_000
"""So that a path that was away is tried within 4 s of its return; consent ends it after 30 s."""
PROBE_MIN_US: Final = 20_000
"""Shorter than any frame; on a path of no length a window that is shut stays shut as long."""
MAX_SKIPPED_STREAMS: Final = 256


@dataclass(slots=True)
class Outgoing:
    """A message on its way."""

    stream: int
    protocol: int
    payload: bytes
    ordered: bool
    max_resends: int | None
    expires_us: int | None
    number: int = 0
    taken_bytes: int = 0
    first_tsn: int = 0
    last_tsn: int = 0
    abandoned: bool = False

    def is_over(self, times: int, now_us: int) -> bool:
        """A fragment of it that left so often and is lost is not sent again."""
        if self.max_resends is not None and times > self.max_resends:
            return True
        return self.expires_us is not None and now_us >= self.expires_us


@dataclass(slots=True)
class _Sent:
    tsn: int
    chunk: bytes
    size: int
    message: Outgoing
    sent_us: int = 0
    times: int = 0
    misses: int = 0
    in_flight: bool = False
    acked: bool = False
    lost: bool = False
    resent_fast: bool = False


@dataclass(slots=True)
class _RoundTrip:
    """RFC 9260 section 6.3.1."""

    rto_us: int = RTO_INITIAL_US
    smoothed_us: float = 0.0
    variation_us: float = 0.0

    def sample(self, round_trip_us: int) -> None:
        if self.smoothed_us:
            self.variation_us += (abs(self.smoothed_us - round_trip_us) - self.variation_us) / 4
            self.smoothed_us += (round_trip_us - self.smoothed_us) / 8
        else:
            self.smoothed_us, self.variation_us = float(max(1, round_trip_us)), round_trip_us / 2
        self.rto_us = round(min(RTO_MAX_US, max(RTO_MIN_US, self.smoothed_us + 4 * self.variation_us)))

    def back_off(self) -> None:
        self.rto_us = min(RTO_MAX_US, 2 * self.rto_us)


@dataclass(slots=True)
class _Window:
    """How much may be in flight."""

    congestion: int = INITIAL_WINDOW_BYTES
    threshold: int = MAX_WINDOW_BYTES
    timed_out: bool = False
    """The timer ran out and nothing has been acknowledged since."""
    partial: int = 0
    recovery_until: int | None = None
    """Fast recovery lasts until this TSN is acknowledged."""

    def grow(self, acked_bytes: int) -> None:
        if self.congestion <= self.threshold:
            self.congestion += min(acked_bytes, MAX_PACKET_BYTES)
        else:
            self.partial += acked_bytes
            if self.partial >= self.congestion:
                self.partial -= self.congestion
                self.congestion += MAX_PACKET_BYTES
        self.congestion = min(self.congestion, MAX_WINDOW_BYTES)

    def shrink(self, to: int | None = None) -> None:
        self.threshold = max(self.congestion // 2, 4 * MAX_PACKET_BYTES)
        self.congestion = to or self.threshold
        self.partial = 0


@dataclass(slots=True)
class _Queue:
    messages: deque[Outgoing] = field(default_factory=deque)
    waiting_bytes: int = 0
    number: int = 0


class Outbound:
    """What goes to the peer.

    Args:
        initial_tsn: the first TSN to use.
    """

    def __init__(self, initial_tsn: int) -> None:
        self.next_tsn = initial_tsn + (1 << 32)
        self.cumulative = self.next_tsn - 1
        """Everything up to here the peer has, or knows to be given up."""
        self.partial = False
        """The peer understands FORWARD TSN; without it nothing sent is ever given up."""
        self.peer_window_bytes = 0
        self.timer_us: int | None = None
        """When the oldest of what is in flight counts as lost (T3-rtx)."""
        self.round_trip = _RoundTrip()
        self.window = _Window()
        self.flight_bytes = 0
        self._queues: dict[int, _Queue] = {}
        self._turns: deque[int] = deque()
        """Streams with messages; the first one's message is the next to leave."""
        self._queued_bytes = 0
        self._sent: dict[int, _Sent] = {}
        """All TSNs from ``cumulative + 1`` to ``next_tsn - 1``, in order."""
        self._acked_ahead = 0
        self._lost: list[int] = []
        self._resend_at_once = False
        self._left_us = 0
        """When chunks last left, or might have."""
        self._may_probe = False
        self._abandoned_to = self.cumulative
        self._forward_due = False
        self._skipped: list[tuple[int, int, int]] = []
        """Ordered messages given up: last TSN, stream, number."""

    @property
    def last_tsn(self) -> int:
        """The last TSN given out, as on the wire."""
        return (self.next_tsn - 1) & MASK_32

    @property
    def wants_to_send(self) -> bool:
        """Something waits, whether or not the windows let it go."""
        return bool(self._turns or self._lost or self._forward_due)

    def waiting_bytes(self, stream: int) -> int:
        """Bytes of this stream that have not left for the first time."""
        queue = self._queues.get(stream)
        return 0 if queue is None else queue.waiting_bytes

    def queue(self, message: Outgoing) -> bool:
        """Let a message wait for its turn; False when it is too long or too much waits."""
        cost = len(message.payload) + QUEUED_OVERHEAD_BYTES
        if not 0 < len(message.payload) <= MAX_MESSAGE_BYTES or self._queued_bytes + cost > MAX_QUEUED_BYTES:
            return False
        queue = self._queues.get(message.stream)
        if queue is None:
            queue = self._queues[message.stream] = _Queue()
        if not queue.messages:
            self._turns.append(message.stream)
        queue.messages.append(message)
        queue.waiting_bytes += len(message.payload)
        self._queued_bytes += cost
        return True

    def reset(self, streams: Iterable[int]) -> None:
        """The peer knows that these streams begin anew."""
        streams = set(streams)
        self._skipped = [skip for skip in self._skipped if skip[1] not in streams]
        for stream in streams:
            queue = self._queues.get(stream)
            if queue is not None:
                queue.number = 0
                if not queue.messages:
                    del self._queues[stream]

    # ------------------------------------------------------------- acknowledgements

    def acknowledged(self, sack: Sack, now_us: int) -> None:
        """Take in a SACK; an old one is nothing.

        Raises:
            SctpRefused: ``unsent``, it names what was never sent; nothing is changed.
        """
        cumulative = extend32(sack.cumulative, self.cumulative)
        newest = cumulative + (sack.gaps[-1][1] if sack.gaps else 0)
        if newest >= self.next_tsn:
            raise SctpRefused(Refused.UNSENT)
        if cumulative < self.cumulative:
            return
        was_full = self.flight_bytes + MAX_PACKET_BYTES > self.window.congestion
        advanced = cumulative > self.cumulative
        newly = self._take_cumulative(cumulative, now_us)
        highest_new = cumulative
        if sack.gaps or self._acked_ahead:
            ahead, highest_new = self._take_gaps(sack.gaps, now_us)
            newly += ahead
        in_recovery = self.window.recovery_until is not None
        if self.window.recovery_until is not None and cumulative >= self.window.recovery_until:
            self.window.recovery_until, in_recovery = None, False
        if advanced or newly:
            self.window.timed_out = False
        if advanced and was_full and not in_recovery:
            self.window.grow(newly)
        if sack.gaps:
            self._strike(newest if advanced and in_recovery else highest_new, sack.gaps, now_us)
        self.peer_window_bytes = max(0, sack.window_bytes - self.flight_bytes)
        self._advance_abandoned()
        self._forward_due = self._abandoned_to > self.cumulative
        if not self._sent:
            self.timer_us = None
        elif advanced:
            self.timer_us = now_us + self.round_trip.rto_us

    def _take_cumulative(self, cumulative: int, now_us: int) -> int:
        newly, sample = 0, None
        for tsn in range(self.cumulative + 1, cumulative + 1):
            sent = self._sent.pop(tsn)
            if sent.acked:
                self._acked_ahead -= 1
            elif sent.chunk and not sent.message.abandoned:  # of those nobody knows whether they came
                newly += sent.size
                if sent.times == 1:
                    sample = now_us - sent.sent_us
            self._leave_flight(sent)
        self.cumulative = cumulative
        if sample is not None:
            self.round_trip.sample(sample)
        if self._skipped:
            self._skipped = [skip for skip in self._skipped if skip[0] > cumulative]
        return newly

    def _take_gaps(self, gaps: list[tuple[int, int]], now_us: int) -> tuple[int, int]:
        """Bytes newly acknowledged, and the highest TSN among them. What a gap no longer names is missing again."""
        newly, highest, place, sample = 0, self.cumulative, 0, None
        for tsn, sent in self._sent.items():
            offset = tsn - self.cumulative
            while place < len(gaps) and gaps[place][1] < offset:
                place += 1
            named = place < len(gaps) and gaps[place][0] <= offset
            if named and not sent.acked:
                sent.acked, sent.lost = True, False
                self._acked_ahead += 1
                newly += sent.size
                highest = tsn
                if sent.times == 1:
                    sample = now_us - sent.sent_us
                self._leave_flight(sent)
            elif sent.acked and not named:
                sent.acked = False
                self._acked_ahead -= 1
                if not sent.message.abandoned:
                    self._enter_flight(sent)
        if sample is not None:  # as long as something is missing this is all that tells how long the path is
            self.round_trip.sample(sample)
        return newly, highest

    def _strike(self, up_to: int, gaps: list[tuple[int, int]], now_us: int) -> None:
        """Count those missing below something that came (RFC 9260 section 7.2.4)."""
        found = False
        for tsn, sent in list(self._sent.items()):  # giving up may add one
            if tsn >= up_to:
                break
            if sent.acked or sent.lost or sent.resent_fast or sent.message.abandoned:
                continue
            sent.misses += 1
            if sent.misses >= MISSES_BEFORE_RESEND:
                sent.resent_fast = found = True
                self._lose(sent, now_us)
        if found and self.window.recovery_until is None:
            self.window.shrink()
            self.window.recovery_until = self.next_tsn - 1
            self._resend_at_once = True

    def expired(self, now_us: int) -> None:
        """The timer ran out: all that is in flight counts as lost (RFC 9260 section 6.3.3)."""
        self.round_trip.back_off()
        self.window.shrink(MAX_PACKET_BYTES)
        self.window.recovery_until, self.window.timed_out = None, True
        for sent in list(self._sent.values()):
            if not sent.acked and not sent.lost and not sent.message.abandoned:
                sent.misses, sent.resent_fast = 0, False
                self._lose(sent, now_us)
        self._advance_abandoned()
        self._forward_due = self._abandoned_to > self.cumulative
        self.timer_us = now_us + self.round_trip.rto_us if self._sent else None

    @property
    def probe_us(self) -> int | None:
        """When `probe` has something to do."""
        is_shut = self.flight_bytes >= (1 if self.window.timed_out else self.window.congestion)
        may_leave = self.partial and len(self._sent) < MAX_OUTSTANDING
        if not (is_shut and may_leave) or self._unreliable_turn() is None:
            return None
        return self._left_us + max(PROBE_MIN_US, round(self.round_trip.smoothed_us or RTO_INITIAL_US))

    def probe(self, now_us: int) -> None:
        """Where the window is shut, let what may be given up leave a round trip after the packet before."""
        due_us, turn = self.probe_us, self._unreliable_turn()
        if due_us is None or turn is None or now_us < due_us:
            return
        self._turns.rotate(-turn)
        self._left_us, self._may_probe = now_us, True
        for sent in list(self._sent.values()):
            if sent.in_flight and sent.message.is_over(sent.times, now_us):
                self._lose(sent, now_us)
        self._advance_abandoned()
        self._forward_due = self._abandoned_to > self.cumulative

    def _unreliable_turn(self) -> int | None:
        """Whose turn it would be if only messages counted that may be given up; None behind half of another one."""
        for turn, stream in enumerate(self._turns):
            message = self._queues[stream].messages[0]
            if message.max_resends is not None or message.expires_us is not None:
                return turn
            if message.taken_bytes:
                return None
        return None

    # ------------------------------------------------------------- giving up

    def _lose(self, sent: _Sent, now_us: int) -> None:
        if sent.in_flight:
            self.peer_window_bytes += sent.size  # RFC 9260 section 6.2.1 C
        self._leave_flight(sent)
        message = sent.message
        if self.partial and message.is_over(sent.times, now_us):
            self._abandon(message)
        else:
            sent.lost = True
            heappush(self._lost, sent.tsn)

    def _abandon(self, message: Outgoing) -> None:
        """RFC 3758 section 3.5 A3: a message goes as a whole."""
        message.abandoned = True
        if message.taken_bytes < len(message.payload):
            self._drop_rest(message)
            self._sent[self.next_tsn] = _Sent(self.next_tsn, b"", 0, message)
            message.last_tsn = self.next_tsn
            self.next_tsn += 1
        for tsn in range(max(message.first_tsn, self.cumulative + 1), message.last_tsn + 1):
            sent = self._sent[tsn]
            sent.lost = False
            self._leave_flight(sent)
        if message.ordered:
            self._skipped.append((message.last_tsn, message.stream, message.number))

    def _drop_rest(self, message: Outgoing) -> None:
        queue = self._queues[message.stream]
        assert queue.messages[0] is message, "only the first message of a stream can be half sent"
        self._forget_first(message.stream, queue, len(message.payload) - message.taken_bytes)

    def _advance_abandoned(self) -> None:
        """RFC 3758 section 3.5 C1: as far as everything in a row is given up, and its streams fit one packet."""
        point = self.cumulative
        streams: set[int] = set()
        while (sent := self._sent.get(point + 1)) is not None and sent.message.abandoned:
            if sent.message.ordered:
                streams.add(sent.message.stream)
            if len(streams) > MAX_SKIPPED_STREAMS:
                break
            point += 1
        self._abandoned_to = point

    # ------------------------------------------------------------- sending

    def forward_tsn(self, now_us: int) -> bytes:
        """The FORWARD TSN chunk that is due, or nothing; it is sent until it is acknowledged."""
        if not self._forward_due:
            return b""
        self._forward_due = False
        if self.timer_us is None:
            self.timer_us = now_us + self.round_trip.rto_us
        skipped = {stream: number for tsn, stream, number in sorted(self._skipped) if tsn <= self._abandoned_to}
        return build_forward_tsn(self._abandoned_to & MASK_32, list(skipped.items()))

    def packets(self, head: bytes, now_us: int) -> list[bytes]:
        """Chunks of the packets that may leave now.

        Args:
            head: chunks that leave in any case, first; at most a packet.

        Returns:
            Bodies of packets, each of whole chunks; none when nothing may leave.
        """
        packets: list[bytes] = []
        parts, room = [head] if head else [], MAX_PACKET_BYTES - HEADER_BYTES - len(head)
        limit = min(self.window.congestion, self.flight_bytes + MAX_BURST_PACKETS * MAX_PACKET_BYTES)
        if self._may_probe:
            limit, self._may_probe = self.flight_bytes + MAX_PACKET_BYTES, False
        elif self.window.timed_out and self.flight_bytes:
            limit = 0
        largest = MAX_PACKET_BYTES
        while (sent := self._next(limit, largest, now_us)) is not None:
            if len(sent.chunk) > room:
                packets.append(b"".join(parts))
                parts, room = [], MAX_PACKET_BYTES - HEADER_BYTES
            parts.append(sent.chunk)
            room -= len(sent.chunk)
            if self.window.timed_out:
                largest = room  # one packet only (RFC 9260 section 7.2.3)
            self._enter_flight(sent)
            self.peer_window_bytes = max(0, self.peer_window_bytes - sent.size)
            sent.times += 1
            sent.sent_us = self._left_us = now_us
            if self.timer_us is None or (sent.times > 1 and sent.tsn == self.cumulative + 1):
                self.timer_us = now_us + self.round_trip.rto_us
        if parts:
            packets.append(b"".join(parts))
        return packets

    def _next(self, limit: int, largest: int, now_us: int) -> _Sent | None:
        """What leaves next, lost chunks first, as far as the windows allow and it is no larger."""
        while self._lost:
            sent = self._sent.get(self._lost[0])
            if sent is None or not sent.lost:
                heappop(self._lost)
                continue
            if (self.flight_bytes >= limit and not self._resend_at_once) or len(sent.chunk) > largest:
                return None
            heappop(self._lost)
            self._resend_at_once = sent.lost = False
            return sent
        while self._turns and self.flight_bytes < limit and len(self._sent) < MAX_OUTSTANDING:
            message = self._queues[self._turns[0]].messages[0]
            if message.expires_us is not None and now_us >= message.expires_us and self._give_up_waiting(message):
                continue
            size = min(MAX_FRAGMENT_BYTES, len(message.payload) - message.taken_bytes)
            if size > self.peer_window_bytes and self.flight_bytes:
                return None  # one chunk may probe a closed window (RFC 9260 section 6.1 A)
            if DATA_HEADER_BYTES + size + (-size & 3) > largest:
                return None
            return self._fragment(message, size)
        return None

    def _give_up_waiting(self, message: Outgoing) -> bool:
        if not message.taken_bytes:
            self._forget_first(message.stream, self._queues[message.stream], len(message.payload))
            return True
        if not self.partial:
            return False
        self._abandon(message)
        self._advance_abandoned()
        self._forward_due = self._abandoned_to > self.cumulative
        return True

    def _fragment(self, message: Outgoing, size: int) -> _Sent:
        queue = self._queues[message.stream]
        start, end = message.taken_bytes, message.taken_bytes + size
        flags = 0 if message.ordered else UNORDERED
        if not start:
            flags |= FIRST
            message.first_tsn = self.next_tsn
            if message.ordered:
                message.number, queue.number = queue.number, add16(queue.number, 1)
        if end == len(message.payload):
            flags |= LAST
        payload = message.payload if size == len(message.payload) else message.payload[start:end]
        tsn = message.last_tsn = self.next_tsn
        self.next_tsn += 1
        chunk = build_data(Data(tsn & MASK_32, message.stream, message.number, message.protocol, flags, payload))
        sent = self._sent[tsn] = _Sent(tsn, chunk, size, message)
        message.taken_bytes = end
        if flags & LAST:
            self._forget_first(message.stream, queue, size)
        else:
            queue.waiting_bytes -= size
        return sent

    def _forget_first(self, stream: int, queue: _Queue, remaining_bytes: int) -> None:
        """The first message of a stream leaves its queue; the next stream's turn."""
        message = queue.messages.popleft()
        queue.waiting_bytes -= remaining_bytes
        self._queued_bytes -= len(message.payload) + QUEUED_OVERHEAD_BYTES
        turn = self._turns.popleft()
        assert turn == stream, "only the message whose turn it is leaves its queue"
        if queue.messages:
            self._turns.append(stream)

    def _enter_flight(self, sent: _Sent) -> None:
        if not sent.in_flight:
            sent.in_flight = True
            self.flight_bytes += sent.size

    def _leave_flight(self, sent: _Sent) -> None:
        if sent.in_flight:
            sent.in_flight = False
            self.flight_bytes -= sent.size
