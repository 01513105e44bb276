"""One SCTP association over DTLS (RFC 9260 as RFC 8831 and 8841 use it), without clock or I/O.

What the peer sent goes in through `receive`, time through `tick`, messages through `send`; what should leave
comes out of `flush`, when to come back out of `deadline_us`. Call `flush` after each of them, sooner or later:
whatever has gathered by then shares packets.

Both ends begin (RFC 8841 section 9.3), so INITs cross; answering one changes nothing here, all it would change
travels in a signed cookie (RFC 9260 section 5.1.3). An established association is not restarted: within one
DTLS session no browser does that, a participant who comes back has a new Transport. The association does not
give up by itself either; ICE consent says when a peer is gone.

Long on purpose: one state machine, whose handshake, timers, answers and resets share its state.
`inbound` and `outbound` hold the two directions, `wire` the bytes. Channel ids, labels and strings are
``media.aio.sctp``'s.
"""

import hmac
from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto
from struct import Struct
from typing import Final

from media.core.sctp.inbound import WINDOW_BYTES, Inbound, Message
from media.core.sctp.outbound import RTO_INITIAL_US, RTO_MAX_US, Outbound, Outgoing
from media.core.sctp.wire import (
    HEADER_BYTES,
    IMMEDIATE,
    MAX_PACKET_BYTES,
    MAX_STREAMS,
    REFLECTED_TAG,
    Chunk,
    CookieEcho,
    Data,
    ForwardTsn,
    Heartbeat,
    Init,
    Kind,
    OtherRequest,
    Plain,
    Reconfig,
    Refused,
    ResetRequest,
    Response,
    Sack,
    SctpRefused,
    StaleCookie,
    build_chunk,
    build_init,
    build_packet,
    build_reset_request,
    build_response,
    build_sack,
    build_stale_cookie,
    parse_packet,
)
from media.core.serial import MASK_32, add32, extend32

MAX_INIT_RESENDS: Final = 8
"""Then we wait for the peer's INIT: a client may open its first channel minutes after its media."""
ACK_DELAY_US: Final = 200_000
COOKIE_LIFE_US: Final = 60_000_000
MAX_REPLIES: Final = 16
"""Handshake and housekeeping answers that may wait for the next `flush`."""
MAX_RESET_STREAMS: Final = 128
_COOKIE = Struct("!QIIIHHBB")
_MAC_BYTES: Final = 16
_NOTHING_TO_DO, _PERFORMED, _DENIED, _BAD_NUMBER, _IN_PROGRESS = 0, 1, 2, 5, 6


class State(Enum):
    """RFC 9260 section 4; shutting down is not waited for, so it has no states."""

    IDLE = auto()
    COOKIE_WAIT = auto()
    COOKIE_ECHOED = auto()
    ESTABLISHED = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Opened:
    """Messages can be sent."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The association is over: a stable reason, ``aborted`` and ``shutdown`` being the peer's wish."""

    reason: str


@dataclass(frozen=True, slots=True)
class StreamsReset:
    """The peer closed these streams in its direction; none named means all."""

    streams: list[int]


@dataclass(frozen=True, slots=True)
class ResetDone:
    """Streams we reset may be used again in our direction."""

    streams: list[int]


Event = Message | Opened | Closed | StreamsReset | ResetDone


class Association:
    """One end.

    Args:
        tag: random, not zero.
        initial_tsn: random.
        cookie_key: secret and random, 16 bytes or more.
    """

    def __init__(self, tag: int, initial_tsn: int, cookie_key: bytes) -> None:
        assert 0 < tag <= MASK_32
        self.state = State.IDLE
        self.refused: Counter[Refused] = Counter()
        """Bytes of the peer that changed nothing, by reason."""
        self._tag, self._initial_tsn, self._cookie_key = tag, initial_tsn, cookie_key
        self._peer: Init | None = None
        self._outbound = Outbound(initial_tsn)
        self._outbound_streams = 0
        self._inbound = Inbound(0)
        self._replies: list[bytes] = []
        self._alone: list[bytes] = []
        """Whole packets: what must not share one."""
        self._handshake: bytes = b""
        """INIT packet or COOKIE ECHO chunk to send again."""
        self._handshake_us: int | None = None
        self._handshake_rto_us = RTO_INITIAL_US
        self._inits_left = 0
        self._asked_us: int | None = None
        """When the only INIT so far left: its answer is the first measure of the path."""
        self._ack_now = False
        self._ack_us: int | None = None
        self._closing: dict[int, None] = {}
        self._reset: list[int] = []
        """Streams of the request that is not answered yet."""
        self._reset_us: int | None = None
        self._reset_rto_us = RTO_INITIAL_US
        self._next_request = initial_tsn
        self._peer_request = 0
        """Number of the peer's next re-configuration request."""
        self._peer_reset: ResetRequest | None = None
        """Waits for the TSNs before it."""

    # ------------------------------------------------------------- what the owner does

    def connect(self, now_us: int) -> None:
        """Begin; idempotent."""
        if self.state is State.IDLE:
            self._inits_left = MAX_INIT_RESENDS
            self._send_init(now_us)

    def send(
        self,
        stream: int,
        protocol: int,
        payload: bytes,
        *,
        ordered: bool = True,
        max_resends: int | None = None,
        expires_us: int | None = None,
    ) -> bool:
        """Queue a message.

        Args:
            stream: below what both ends announced.
            protocol: payload protocol identifier, `channels`.
            payload: 1 to 262144 bytes.
            ordered: in order with the other ordered messages of its stream.
            max_resends: given up when lost more often.
            expires_us: given up when not acknowledged by then and lost, or not sent.

        Returns:
            False when the association is not established, the stream is closing or does not exist, the message is
            too long, or too much waits.
        """
        if self.state is not State.ESTABLISHED or stream >= self._outbound_streams or self._is_closing(stream):
            return False
        return self._outbound.queue(Outgoing(stream, protocol, payload, ordered, max_resends, expires_us))

    def waiting_bytes(self, stream: int) -> int:
        """Bytes queued on a stream that have not left yet."""
        return self._outbound.waiting_bytes(stream)

    def reset(self, stream: int) -> bool:
        """Close our direction of a stream once its queue is empty; True when there is nothing to wait for."""
        if self.state is not State.ESTABLISHED or self._peer is None or not self._peer.reset:
            return True
        if not self._is_closing(stream):
            self._closing[stream] = None
        return False

    def close(self) -> None:
        """Tell the peer that it is over; the packet comes out of the next `flush`. Idempotent."""
        if self.state in (State.ESTABLISHED, State.COOKIE_ECHOED):
            self._abort()
        self.state = State.CLOSED

    # ------------------------------------------------------------- time

    @property
    def deadline_us(self) -> int | None:
        """When `tick` has something to do."""
        if self.state is State.CLOSED:
            return None
        timers = (self._handshake_us, self._ack_us, self._reset_us, self._outbound.timer_us, self._outbound.probe_us)
        return min((at for at in timers if at is not None), default=None)

    def tick(self, now_us: int) -> None:
        """Do what is due."""
        if self.state is State.CLOSED:
            return
        if self._handshake_us is not None and now_us >= self._handshake_us:
            self._resend_handshake(now_us)
        if self._ack_us is not None and now_us >= self._ack_us:
            self._ack_now = True
        if self._reset_us is not None and now_us >= self._reset_us:
            self._reset_rto_us = min(RTO_MAX_US, 2 * self._reset_rto_us)
            self._send_reset(now_us)
        if self._outbound.timer_us is not None and now_us >= self._outbound.timer_us:
            self._outbound.expired(now_us)

    def flush(self, now_us: int) -> list[bytes]:
        """Packets to send now."""
        packets, self._alone = self._alone, []
        if self._closing and not self._reset:
            self._begin_reset(now_us)
        if not (self._replies or self._ack_now or self._outbound.wants_to_send):
            return packets
        chunks, self._replies = self._replies, []
        if self.state is State.ESTABLISHED:
            if self._ack_now or self._ack_us is not None:
                chunks.append(self._sack())  # what is sent anyway takes a waiting acknowledgement along
            self._outbound.probe(now_us)
            if forward := self._outbound.forward_tsn(now_us):
                chunks.append(forward)
            *bodies, head = _bundle(chunks)
            bodies += self._outbound.packets(head, now_us)
            bodies.append(self._outbound.forward_tsn(now_us))  # a message may have expired half sent just now
        else:
            bodies = _bundle(chunks)
        tag = self._peer_tag
        return packets + [build_packet(tag, body) for body in bodies if body]

    # ------------------------------------------------------------- what the peer sends

    def receive(self, packet: bytes, now_us: int) -> list[Event]:
        """Take in one packet. What is wrong with it is counted in ``refused``; nothing is raised."""
        events: list[Event] = []
        try:
            tag, chunks = parse_packet(packet)
            if self.state is State.CLOSED:
                raise SctpRefused(Refused.STATE)
            self._check_tag(tag, chunks)
        except SctpRefused as refusal:
            self.refused[refusal.code] += 1
            return events
        had_data = False
        for chunk in chunks:
            try:
                if isinstance(chunk, Data):
                    had_data = True
                    self._on_data(chunk, events)
                elif isinstance(chunk, Sack):
                    self._established()
                    self._outbound.acknowledged(chunk, now_us)
                else:
                    self._on_control(chunk, events, now_us)
            except SctpRefused as refusal:
                self.refused[refusal.code] += 1
                if refusal.code is Refused.ENDLESS:
                    self._abort()
                    self.state = State.CLOSED
                    events.append(Closed(refusal.code))
            if self.state is State.CLOSED:
                break
        if had_data:
            self._schedule_ack(now_us)
            self._perform_reset(events)
        if self._inbound.refused:
            self.refused.update(self._inbound.refused)
            self._inbound.refused.clear()
        return events

    def _check_tag(self, tag: int, chunks: list[Chunk]) -> None:
        """RFC 9260 section 8.5."""
        for chunk in chunks:
            expected = self._tag
            if isinstance(chunk, Init) and chunk.cookie is None:
                if len(chunks) > 1:
                    raise SctpRefused(Refused.MALFORMED)
                expected = 0
            elif isinstance(chunk, Plain) and chunk.flags & REFLECTED_TAG and chunk.kind in _MAY_REFLECT:
                expected = self._peer.tag if self._peer is not None else self._tag
            if tag != expected:
                raise SctpRefused(Refused.TAG)

    def _established(self) -> None:
        if self.state is not State.ESTABLISHED:
            raise SctpRefused(Refused.STATE)

    def _on_data(self, chunk: Data, events: list[Event]) -> None:
        if self.state is not State.COOKIE_ECHOED:  # there the COOKIE ACK may be lost, and data says the same
            self._established()
        before = self._inbound.cumulative
        events += self._inbound.data(chunk)
        if chunk.flags & IMMEDIATE or self._inbound.has_gaps or self._inbound.cumulative != before + 1:
            self._ack_now = True  # a hole, a hole filled, or a duplicate (RFC 9260 section 6.7)

    def _schedule_ack(self, now_us: int) -> None:
        """Every second packet with data at once, a single one soon (RFC 9260 section 6.2)."""
        if self._ack_us is not None:
            self._ack_now = True
        else:
            self._ack_us = now_us + ACK_DELAY_US

    def _on_control(self, chunk: Chunk, events: list[Event], now_us: int) -> None:
        match chunk:
            case ForwardTsn():
                self._established()
                events += self._inbound.forward(chunk)
                self._ack_now = True
                self._perform_reset(events)
            case Init() if chunk.cookie is None:
                self._on_init(chunk, now_us)
            case Init():
                self._on_init_ack(chunk, now_us)
            case CookieEcho():
                self._on_cookie(chunk.cookie, events, now_us)
            case Heartbeat():
                self._reply(build_chunk(Kind.HEARTBEAT_ACK, 0, chunk.body))
            case Reconfig():
                self._established()
                for parameter in chunk.parameters:
                    self._on_reconfig(parameter, events, now_us)
            case StaleCookie():
                if self.state is State.COOKIE_ECHOED and self._inits_left > 1:
                    self._inits_left -= 1
                    self._send_init(now_us)
            case Plain():
                self._on_plain(chunk, events)
            case _:
                raise AssertionError("data and acknowledgements go elsewhere")

    def _on_plain(self, chunk: Plain, events: list[Event]) -> None:
        if chunk.kind is Kind.COOKIE_ACK:
            if self.state is State.COOKIE_ECHOED:
                self._establish(events)
        elif chunk.kind is Kind.ABORT:
            self.state = State.CLOSED
            events.append(Closed("aborted"))
        elif chunk.kind is Kind.SHUTDOWN:
            self._established()
            # Nothing here is worth a slow goodbye: what is in flight is given up and the peer may forget us.
            self._alone.append(build_packet(self._peer_tag, build_chunk(Kind.SHUTDOWN_ACK, 0, b"")))
            self.state = State.CLOSED
            events.append(Closed("shutdown"))

    # ------------------------------------------------------------- handshake

    def _send_init(self, now_us: int) -> None:
        self.state = State.COOKIE_WAIT
        self._handshake = build_packet(0, build_init(self._our_init(None)))
        self._handshake_rto_us = RTO_INITIAL_US
        self._handshake_us = now_us + self._handshake_rto_us
        self._asked_us = now_us
        self._alone.append(self._handshake)

    def _our_init(self, cookie: bytes | None) -> Init:
        return Init(self._tag, WINDOW_BYTES, MAX_STREAMS, MAX_STREAMS, self._initial_tsn, True, True, cookie)

    def _resend_handshake(self, now_us: int) -> None:
        self._handshake_rto_us = min(RTO_MAX_US, 2 * self._handshake_rto_us)
        self._handshake_us = now_us + self._handshake_rto_us
        if self.state is State.COOKIE_ECHOED:  # somebody is there: until consent ends
            self._replies.insert(0, self._handshake)
            return
        self._alone.append(self._handshake)
        self._asked_us = None  # of several nobody knows which one was answered (Karn)
        self._inits_left -= 1
        if not self._inits_left:
            self._handshake_us = None

    def _on_init(self, chunk: Init, now_us: int) -> None:
        peer = self._peer
        if self.state is State.ESTABLISHED and (peer is None or (chunk.tag, chunk.tsn) != (peer.tag, peer.tsn)):
            raise SctpRefused(Refused.RESTART)
        if len(self._alone) >= MAX_REPLIES:
            raise SctpRefused(Refused.FLOOD)
        self._alone.append(build_packet(chunk.tag, build_init(self._our_init(self._bake(chunk, now_us)))))

    def _on_init_ack(self, chunk: Init, now_us: int) -> None:
        assert chunk.cookie is not None
        if self._asked_us is not None:
            self._outbound.round_trip.sample(now_us - self._asked_us)
            self._asked_us = None
        if self.state is not State.COOKIE_WAIT:
            return  # section 5.2.3: late or doubled, and not an offence
        echo = build_chunk(Kind.COOKIE_ECHO, 0, chunk.cookie)
        if len(echo) > _ROOM_BYTES:
            raise SctpRefused(Refused.COOKIE)
        self._adopt(chunk)
        self.state = State.COOKIE_ECHOED
        self._handshake = echo
        self._handshake_us = now_us + self._handshake_rto_us
        self._replies = [echo]

    def _on_cookie(self, cookie: bytes, events: list[Event], now_us: int) -> None:
        chunk, baked_us = self._open_cookie(cookie)
        peer = self._peer
        if self.state is State.ESTABLISHED:
            if peer is None or (chunk.tag, chunk.tsn) != (peer.tag, peer.tsn):
                raise SctpRefused(Refused.RESTART)
        elif not 0 <= now_us - baked_us <= COOKIE_LIFE_US:
            if len(self._alone) < MAX_REPLIES:
                self._alone.append(build_packet(chunk.tag, build_stale_cookie()))
            raise SctpRefused(Refused.COOKIE)
        else:
            if peer is None or (chunk.tag, chunk.tsn) != (peer.tag, peer.tsn):
                self._adopt(chunk)
            self._establish(events)
        if _COOKIE_ACK not in self._replies:
            self._replies.insert(0, _COOKIE_ACK)

    def _adopt(self, peer: Init) -> None:
        """The peer is the one who sent this."""
        self._peer = peer
        self._inbound = Inbound(peer.tsn)
        self._peer_request = peer.tsn
        self._outbound.partial = peer.forward_tsn
        self._outbound.peer_window_bytes = peer.window_bytes
        self._outbound_streams = min(MAX_STREAMS, peer.inbound_streams)

    def _establish(self, events: list[Event]) -> None:
        self.state = State.ESTABLISHED
        self._handshake, self._handshake_us = b"", None
        self._replies.clear()  # a COOKIE ECHO that still waits has become pointless
        events.append(Opened())

    def _bake(self, peer: Init, now_us: int) -> bytes:
        """All that an INIT says, signed: nothing is kept for a peer that may never come back."""
        content = _COOKIE.pack(
            now_us,
            peer.tag,
            peer.tsn,
            peer.window_bytes,
            peer.outbound_streams,
            peer.inbound_streams,
            peer.forward_tsn,
            peer.reset,
        )
        return content + hmac.digest(self._cookie_key, content, "sha256")[:_MAC_BYTES]

    def _open_cookie(self, cookie: bytes) -> tuple[Init, int]:
        content, mac = cookie[: _COOKIE.size], cookie[_COOKIE.size :]
        if not hmac.compare_digest(hmac.digest(self._cookie_key, content, "sha256")[:_MAC_BYTES], mac):
            raise SctpRefused(Refused.COOKIE)
        baked_us, tag, tsn, window, outbound, inbound, forward_tsn, reset = _COOKIE.unpack(content)
        return Init(tag, window, outbound, inbound, tsn, bool(forward_tsn), bool(reset)), baked_us

    # ------------------------------------------------------------- streams end

    def _is_closing(self, stream: int) -> bool:
        return stream in self._closing or stream in self._reset

    def _begin_reset(self, now_us: int) -> None:
        ready = [stream for stream in self._closing if not self._outbound.waiting_bytes(stream)]
        if ready and self.state is State.ESTABLISHED:
            self._reset = ready[:MAX_RESET_STREAMS]
            for stream in self._reset:
                del self._closing[stream]
            self._reset_rto_us = self._outbound.round_trip.rto_us
            self._send_reset(now_us)

    def _send_reset(self, now_us: int) -> None:
        self._reset_us = now_us + self._reset_rto_us
        answered = add32(self._peer_request, -1)
        self._replies.append(build_reset_request(self._next_request, answered, self._outbound.last_tsn, self._reset))

    def _on_reconfig(self, parameter: ResetRequest | OtherRequest | Response, events: list[Event], now_us: int) -> None:
        if isinstance(parameter, Response):
            if self._reset and parameter.request == self._next_request and parameter.result != _IN_PROGRESS:
                # Declined or not, the channel is closed as far as its owner is concerned.
                self._outbound.reset(self._reset)
                events.append(ResetDone(self._reset))
                self._reset, self._reset_us = [], None
                self._next_request = add32(self._next_request, 1)
            return
        if parameter.request == add32(self._peer_request, -1):
            self._reply(build_response(parameter.request, _IN_PROGRESS if self._peer_reset else _PERFORMED))
        elif parameter.request != self._peer_request:
            self._reply(build_response(parameter.request, _BAD_NUMBER))
        elif isinstance(parameter, OtherRequest):
            self._peer_request = add32(self._peer_request, 1)
            self._reply(build_response(parameter.request, _DENIED))
        else:
            self._peer_request = add32(self._peer_request, 1)
            self._peer_reset = parameter
            self._perform_reset(events)
            if self._peer_reset is not None:
                self._reply(build_response(parameter.request, _IN_PROGRESS))

    def _perform_reset(self, events: list[Event]) -> None:
        """The peer's reset waits for the data sent before it (RFC 6525 section 5.2.2 E2)."""
        request = self._peer_reset
        if request is None or extend32(request.last_tsn, self._inbound.cumulative) > self._inbound.cumulative:
            return
        self._peer_reset = None
        self._inbound.reset(request.streams)
        events.append(StreamsReset(request.streams))
        self._reply(build_response(request.request, _PERFORMED))

    # ------------------------------------------------------------- answers

    @property
    def _peer_tag(self) -> int:
        return 0 if self._peer is None else self._peer.tag

    def _reply(self, chunk: bytes) -> None:
        """To be sent with the next packet."""
        if len(self._replies) >= MAX_REPLIES or len(chunk) > _ROOM_BYTES:
            raise SctpRefused(Refused.FLOOD)
        self._replies.append(chunk)

    def _abort(self) -> None:
        self._alone.append(build_packet(self._peer_tag, build_chunk(Kind.ABORT, 0, b"")))

    def _sack(self) -> bytes:
        inbound = self._inbound
        self._ack_now, self._ack_us = False, None
        duplicates, inbound.duplicates = inbound.duplicates, []
        return build_sack(inbound.cumulative & MASK_32, inbound.window_bytes, inbound.gaps(), duplicates)


_MAY_REFLECT: Final = frozenset({Kind.ABORT, Kind.SHUTDOWN_COMPLETE})
_COOKIE_ACK: Final = build_chunk(Kind.COOKIE_ACK, 0, b"")
_ROOM_BYTES: Final = MAX_PACKET_BYTES - HEADER_BYTES


def _bundle(chunks: list[bytes]) -> list[bytes]:
    """Bodies of as few packets as hold the chunks in their order; at least one, perhaps empty."""
    bodies = [b""]
    for chunk in chunks:
        if len(bodies[-1]) + len(chunk) > _ROOM_BYTES:
            bodies.append(b"")
        bodies[-1] += chunk
    return bodies
