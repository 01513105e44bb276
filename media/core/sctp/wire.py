"""SCTP packets as bytes (RFC 9260 section 3, RFC 3758 section 3, RFC 6525 section 4).

A packet is taken apart completely before any of it is acted on, so a malformed one changes nothing.
Every length, parameter, gap and stream number is checked here; what a value means for an association
(is this TSN one that was sent?) is judged by ``inbound``, ``outbound`` and ``association``.

Unknown chunks and parameters are skipped or end the walk as their two highest bits ask for; they are
never reported back, since nothing in WebRTC needs it and silence cannot be used against us.
"""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from struct import Struct
from typing import Final

from google_crc32c import value as crc32c

HEADER_BYTES: Final = 12
MAX_PACKET_BYTES: Final = 1192
"""1280 (least IPv6 MTU) less IPv6, UDP and a DTLS 1.2 AES-GCM record (48 + 37), in whole words."""
DATA_HEADER_BYTES: Final = 16
MAX_FRAGMENT_BYTES: Final = MAX_PACKET_BYTES - HEADER_BYTES - DATA_HEADER_BYTES
MAX_CHUNKS: Final = 100
"""In one packet; 1500 bytes hold fewer of the smallest chunks anybody has a reason to send together."""
MAX_STREAMS: Final = 1024
PORT: Final = 5000
"""Both ends, as everywhere in WebRTC; the DTLS session names the association, so a port is not looked at."""

LAST, FIRST, UNORDERED, IMMEDIATE = 1, 2, 4, 8
"""Flags of DATA: last and first fragment, unordered (RFC 9260), acknowledge at once (RFC 7053)."""
REFLECTED_TAG: Final = 1
"""Flag of ABORT and SHUTDOWN COMPLETE: the tag is the receiver's own, sent back."""

_HEADER = Struct("!HHII")
_CHUNK = Struct("!BBH")
_PAIR = Struct("!HH")
_DATA = Struct("!IHHI")
_DATA_CHUNK = Struct("!BBHIHHI")
_INIT = Struct("!IIHHI")
_SACK = Struct("!IIHH")
_WORD = Struct("!I")
_TWO_WORDS = Struct("!II")
_THREE_WORDS = Struct("!III")
_LITTLE_WORD = Struct("<I")
_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")
"""By length modulo four."""

_STATE_COOKIE: Final = 7
_OUTGOING_RESET, _INCOMING_RESET, _TSN_RESET, _RECONFIG_RESPONSE, _ADD_OUT, _ADD_IN = 13, 14, 15, 16, 17, 18
_SUPPORTED_EXTENSIONS, _FORWARD_TSN_SUPPORTED = 0x8008, 0xC000
_STALE_COOKIE: Final = 3


class Kind(IntEnum):
    """Chunk types."""

    DATA = 0
    INIT = 1
    INIT_ACK = 2
    SACK = 3
    HEARTBEAT = 4
    HEARTBEAT_ACK = 5
    ABORT = 6
    SHUTDOWN = 7
    SHUTDOWN_ACK = 8
    ERROR = 9
    COOKIE_ECHO = 10
    COOKIE_ACK = 11
    SHUTDOWN_COMPLETE = 14
    RECONFIG = 130
    FORWARD_TSN = 192


class Refused(StrEnum):
    """Why bytes of a peer were not acted on; stable, for counters."""

    MALFORMED = "malformed"
    CHECKSUM = "checksum"
    TAG = "tag"
    STATE = "state"
    COOKIE = "cookie"
    RESTART = "restart"
    UNSENT = "unsent"
    WINDOW = "window"
    STREAM = "stream"
    FRAGMENT = "fragment"
    REPLAYED = "replayed"
    ENDLESS = "endless"
    FLOOD = "flood"


class SctpRefused(Exception):
    """Bytes of a peer that were not acted on."""

    def __init__(self, code: Refused) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Data:
    """One DATA chunk; ``tsn`` as on the wire."""

    tsn: int
    stream: int
    number: int
    protocol: int
    flags: int
    payload: bytes


@dataclass(slots=True)
class Sack:
    """A selective acknowledgement; gaps are offsets from ``cumulative``, ascending and apart."""

    cumulative: int
    window_bytes: int
    gaps: list[tuple[int, int]]


@dataclass(slots=True)
class Init:
    """INIT, or INIT ACK when it has a cookie."""

    tag: int
    window_bytes: int
    outbound_streams: int
    inbound_streams: int
    tsn: int
    forward_tsn: bool = False
    reset: bool = False
    cookie: bytes | None = None


@dataclass(slots=True)
class CookieEcho:
    """What the peer got in our INIT ACK."""

    cookie: bytes


@dataclass(slots=True)
class ForwardTsn:
    """The sender gave up everything up to ``cumulative``; ``streams`` names the ordered numbers skipped."""

    cumulative: int
    streams: list[tuple[int, int]]


@dataclass(slots=True)
class Heartbeat:
    """To be sent back as it is."""

    body: bytes


@dataclass(slots=True)
class ResetRequest:
    """The sender resets its outgoing streams; none named means all."""

    request: int
    last_tsn: int
    streams: list[int]


@dataclass(slots=True)
class OtherRequest:
    """A re-configuration that is declined: more streams, incoming or TSN reset."""

    request: int


@dataclass(slots=True)
class Response:
    """The answer to a re-configuration request."""

    request: int
    result: int


@dataclass(slots=True)
class Reconfig:
    """One or two parameters of RFC 6525."""

    parameters: list[ResetRequest | OtherRequest | Response] = field(default_factory=list)


@dataclass(slots=True)
class Plain:
    """A chunk whose type says it all."""

    kind: Kind
    flags: int


@dataclass(slots=True)
class StaleCookie:
    """ERROR: our cookie came too late."""


Chunk = Data | Sack | Init | CookieEcho | ForwardTsn | Heartbeat | Reconfig | Plain | StaleCookie


def parse_packet(packet: bytes) -> tuple[int, list[Chunk]]:
    """Verification tag and chunks of one packet; chunks that mean nothing to us are left out.

    Raises:
        SctpRefused: ``malformed`` or ``checksum``.
    """
    end = len(packet)
    if end < HEADER_BYTES + 4:
        raise SctpRefused(Refused.MALFORMED)
    tag = _HEADER.unpack_from(packet)[2]
    if _LITTLE_WORD.unpack_from(packet, 8)[0] != crc32c(packet[:8] + b"\0\0\0\0" + packet[12:]):
        raise SctpRefused(Refused.CHECKSUM)
    chunks: list[Chunk] = []
    position = HEADER_BYTES
    for _ in range(MAX_CHUNKS):
        if position >= end:
            return tag, chunks
        if position + 4 > end:
            break
        kind, flags, length = _CHUNK.unpack_from(packet, position)
        if length < 4 or position + length > end:
            break
        chunk = _parse_chunk(kind, flags, packet[position + 4 : position + length])
        if chunk is not None:
            chunks.append(chunk)
        elif kind not in _KNOWN and not kind & 0x80:
            return tag, chunks
        position += length + (-length & 3)
    raise SctpRefused(Refused.MALFORMED)


def _parse_chunk(kind: int, flags: int, body: bytes) -> Chunk | None:
    match kind:
        case Kind.DATA:
            if len(body) <= 12:
                raise SctpRefused(Refused.MALFORMED)
            tsn, stream, number, protocol = _DATA.unpack_from(body)
            return Data(tsn, stream, number, protocol, flags, body[12:])
        case Kind.SACK:
            return _parse_sack(body)
        case Kind.INIT | Kind.INIT_ACK:
            return _parse_init(body, kind == Kind.INIT_ACK)
        case Kind.COOKIE_ECHO:
            return CookieEcho(body)
        case Kind.HEARTBEAT:
            _parameters(body)
            return Heartbeat(body)
        case Kind.FORWARD_TSN:
            if len(body) < 4 or len(body) % 4:
                raise SctpRefused(Refused.MALFORMED)
            return ForwardTsn(_WORD.unpack_from(body)[0], list(_PAIR.iter_unpack(body[4:])))
        case Kind.RECONFIG:
            return _parse_reconfig(body)
        case Kind.ERROR:
            return StaleCookie() if any(cause == _STALE_COOKIE for cause, _ in _parameters(body)) else None
        case Kind.ABORT | Kind.COOKIE_ACK | Kind.SHUTDOWN | Kind.SHUTDOWN_ACK | Kind.SHUTDOWN_COMPLETE:
            return Plain(Kind(kind), flags)
        case _:
            return None


_KNOWN: Final = frozenset(Kind)


def _parse_sack(body: bytes) -> Sack:
    if len(body) < 12:
        raise SctpRefused(Refused.MALFORMED)
    cumulative, window, count, duplicates = _SACK.unpack_from(body)
    if len(body) < 12 + 4 * (count + duplicates):
        raise SctpRefused(Refused.MALFORMED)
    gaps: list[tuple[int, int]] = list(_PAIR.iter_unpack(body[12 : 12 + 4 * count])) if count else []
    before = 0
    for first, last in gaps:
        if first <= before or last < first:  # section 3.3.4: blocks ascend and are not empty
            raise SctpRefused(Refused.MALFORMED)
        before = last
    return Sack(cumulative, window, gaps)


def _parse_init(body: bytes, is_ack: bool) -> Init:
    if len(body) < 16:
        raise SctpRefused(Refused.MALFORMED)
    tag, window, outbound, inbound, tsn = _INIT.unpack_from(body)
    if not (tag and outbound and inbound):  # section 3.3.2: none of them may be zero
        raise SctpRefused(Refused.MALFORMED)
    init = Init(tag, window, outbound, inbound, tsn)
    for kind, content in _parameters(body[16:]):
        if kind == _FORWARD_TSN_SUPPORTED:
            init.forward_tsn = True
        elif kind == _SUPPORTED_EXTENSIONS:
            init.reset = Kind.RECONFIG in content
            init.forward_tsn |= Kind.FORWARD_TSN in content
        elif kind == _STATE_COOKIE and is_ack:
            init.cookie = content
        elif not kind & 0x8000 and kind > _LAST_BASIC_PARAMETER:
            break
    if is_ack and not init.cookie:
        raise SctpRefused(Refused.MALFORMED)
    return init


_LAST_BASIC_PARAMETER: Final = 12
"""Parameters up to here are of RFC 9260 itself: addresses, lifetimes; they mean nothing over DTLS."""


def _parse_reconfig(body: bytes) -> Reconfig:
    found = Reconfig()
    for kind, content in _parameters(body)[:2]:
        if kind == _OUTGOING_RESET and len(content) >= 12 and not len(content) % 2:
            request, _, last_tsn = _THREE_WORDS.unpack_from(content)
            streams = [int.from_bytes(content[at : at + 2]) for at in range(12, len(content), 2)]
            found.parameters.append(ResetRequest(request, last_tsn, streams))
        elif kind == _RECONFIG_RESPONSE and len(content) >= 8:
            found.parameters.append(Response(*_TWO_WORDS.unpack_from(content)))
        elif kind in (_INCOMING_RESET, _TSN_RESET, _ADD_OUT, _ADD_IN) and len(content) >= 4:
            found.parameters.append(OtherRequest(_WORD.unpack_from(content)[0]))
        else:
            raise SctpRefused(Refused.MALFORMED)
    return found


def _parameters(body: bytes) -> list[tuple[int, bytes]]:
    """Type and content of each; a length below four would never end."""
    found = []
    position = 0
    while position < len(body):
        if position + 4 > len(body):
            raise SctpRefused(Refused.MALFORMED)
        kind, length = _PAIR.unpack_from(body, position)
        if length < 4 or position + length > len(body):
            raise SctpRefused(Refused.MALFORMED)
        found.append((kind, body[position + 4 : position + length]))
        position += length + (-length & 3)
    return found


# ---------------------------------------------------------------- building


def build_packet(tag: int, chunks: bytes) -> bytes:
    """One packet of whole chunks."""
    head = _HEADER.pack(PORT, PORT, tag, 0)
    return head[:8] + _LITTLE_WORD.pack(crc32c(head + chunks)) + chunks


def build_chunk(kind: Kind, flags: int, body: bytes) -> bytes:
    """A chunk, padded to whole words."""
    return _CHUNK.pack(kind, flags, 4 + len(body)) + body + _PADDING[len(body) & 3]


def build_data(data: Data) -> bytes:
    """A DATA chunk."""
    size = len(data.payload)
    head = _DATA_CHUNK.pack(
        Kind.DATA, data.flags, DATA_HEADER_BYTES + size, data.tsn, data.stream, data.number, data.protocol
    )
    return head + data.payload + _PADDING[size & 3]


def build_sack(cumulative: int, window_bytes: int, gaps: list[tuple[int, int]], duplicates: list[int]) -> bytes:
    """A SACK chunk; ``duplicates`` are TSNs as on the wire."""
    body = _SACK.pack(cumulative, window_bytes, len(gaps), len(duplicates))
    body += b"".join([_PAIR.pack(first, last) for first, last in gaps])
    return build_chunk(Kind.SACK, 0, body + b"".join([_WORD.pack(tsn) for tsn in duplicates]))


def build_init(init: Init) -> bytes:
    """INIT, or INIT ACK when there is a cookie."""
    body = _INIT.pack(init.tag, init.window_bytes, init.outbound_streams, init.inbound_streams, init.tsn)
    if init.forward_tsn:
        body += _parameter(_FORWARD_TSN_SUPPORTED, b"")
    extensions = [Kind.RECONFIG] * init.reset + [Kind.FORWARD_TSN] * init.forward_tsn
    body += _parameter(_SUPPORTED_EXTENSIONS, bytes(extensions))
    if init.cookie is None:
        return build_chunk(Kind.INIT, 0, body)
    return build_chunk(Kind.INIT_ACK, 0, body + _parameter(_STATE_COOKIE, init.cookie))


def build_forward_tsn(cumulative: int, streams: list[tuple[int, int]]) -> bytes:
    """A FORWARD TSN chunk."""
    body = _WORD.pack(cumulative) + b"".join([_PAIR.pack(*pair) for pair in streams])
    return build_chunk(Kind.FORWARD_TSN, 0, body)


def build_reset_request(request: int, response: int, last_tsn: int, streams: list[int]) -> bytes:
    """RE-CONFIG with an outgoing SSN reset request; ``response`` is the peer's last request number."""
    content = _THREE_WORDS.pack(request, response, last_tsn) + b"".join([s.to_bytes(2) for s in streams])
    return build_chunk(Kind.RECONFIG, 0, _parameter(_OUTGOING_RESET, content))


def build_response(request: int, result: int) -> bytes:
    """RE-CONFIG with the answer to a request."""
    return build_chunk(Kind.RECONFIG, 0, _parameter(_RECONFIG_RESPONSE, _TWO_WORDS.pack(request, result)))


def build_stale_cookie() -> bytes:
    """ERROR: the cookie is older than we keep to; by how much is not said."""
    return build_chunk(Kind.ERROR, 0, _parameter(_STALE_COOKIE, bytes(4)))


def _parameter(kind: int, content: bytes) -> bytes:
    return _PAIR.pack(kind, 4 + len(content)) + content + _PADDING[len(content) & 3]
