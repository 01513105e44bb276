"""RTCP: walk what a peer sent, build what the relay sends.

RFC 3550 (SR, RR, SDES, BYE), RFC 4585 (NACK, PLI), RFC 5104 (FIR), draft-alvestrand-rmcat-remb-03
(REMB), RFC 3611 (XR: RRTR, DLRR). aiortc's classes are not used: they read transport-cc as NACK
and break at the sequence wrap.

`parse` checks a whole compound packet before it gives anything, so a broken one changes nothing.
Packet types and formats not named above are skipped, as RFC 3550 section 6.1 asks. The body of
transport-wide congestion feedback is ``media.core.twcc``.

Times in reports: ``ntp`` is the 64-bit timestamp, ``lsr``/``lrr`` its middle 32 bits,
``dlsr``/``dlrr`` 1/65536 s. ``media.core.sender_report`` converts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct, pack
from typing import Final

from media.core.serial import MASK_16, MASK_32, diff16

Buffer = bytes | bytearray | memoryview

SR: Final = 200
RR: Final = 201
SDES: Final = 202
BYE: Final = 203
RTPFB: Final = 205
PSFB: Final = 206
XR: Final = 207

FMT_NACK: Final = 1
FMT_TRANSPORT_CC: Final = 15
FMT_PLI: Final = 1
FMT_FIR: Final = 4
FMT_AFB: Final = 15

MAX_BLOCKS: Final = 31
"""Report blocks in one SR or RR; the count has five bits."""

_HEADER: Final = Struct("!BBH")
_WORD: Final = Struct("!I")
_SENDER_INFO: Final = Struct("!QIII")
_BLOCK: Final = Struct("!IIIIII")
_FEEDBACK: Final = Struct("!II")
_PID_BLP: Final = Struct("!HH")


class MalformedRtcp(Exception):
    """Lengths or counts contradict each other; nothing of the packet is believed."""


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """Reception of one SSRC (RFC 3550 section 6.4.1)."""

    ssrc: int
    fraction_lost: int
    """0 to 255, of 256."""
    cumulative_lost: int
    """Signed 24 bits: duplicates make it negative."""
    highest_seq: int
    """Wraps in the upper 16 bits, sequence number in the lower."""
    jitter: int
    """In units of the stream's RTP clock."""
    lsr: int
    dlsr: int


@dataclass(frozen=True, slots=True)
class SenderReport:
    """SR: what a sender has sent, with its NTP-RTP pair."""

    ssrc: int
    ntp: int
    rtp_timestamp: int
    packets: int
    octets: int
    blocks: tuple[ReportBlock, ...]


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """RR: what a receiver got."""

    ssrc: int
    blocks: tuple[ReportBlock, ...]


@dataclass(frozen=True, slots=True)
class Sdes:
    """SDES: the CNAME items, as (ssrc, cname)."""

    cnames: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Bye:
    """BYE: these SSRCs are gone."""

    ssrcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Nack:
    """Generic NACK: sequence numbers asked for again, in the order of the message."""

    sender_ssrc: int
    media_ssrc: int
    lost: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pli:
    """Picture loss: a key frame is needed."""

    sender_ssrc: int
    media_ssrc: int


@dataclass(frozen=True, slots=True)
class Fir:
    """Full intra request, as (ssrc, command number); the header's media SSRC is 0 (RFC 5104 section 4.3.1)."""

    sender_ssrc: int
    entries: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Remb:
    """The receiver's estimate of what its downlink carries."""

    sender_ssrc: int
    bitrate_bps: int
    ssrcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TransportFeedback:
    """Transport-wide feedback; ``twcc.read_feedback(fci)`` reads it."""

    sender_ssrc: int
    media_ssrc: int
    fci: bytes


@dataclass(frozen=True, slots=True)
class Rrtr:
    """XR receiver reference time (RFC 3611 section 4.4); answer with `build_dlrr`."""

    sender_ssrc: int
    ntp: int


@dataclass(frozen=True, slots=True)
class DlrrBlock:
    """One receiver's part of a DLRR."""

    ssrc: int
    lrr: int
    dlrr: int


@dataclass(frozen=True, slots=True)
class Dlrr:
    """XR answer to an RRTR (RFC 3611 section 4.5)."""

    sender_ssrc: int
    blocks: tuple[DlrrBlock, ...]


RtcpItem = SenderReport | ReceiverReport | Sdes | Bye | Nack | Pli | Fir | Remb | TransportFeedback | Rrtr | Dlrr


def parse(data: Buffer) -> list[RtcpItem]:
    """Read one datagram: a compound packet, or a single one of reduced size (RFC 5506).

    Raises:
        MalformedRtcp: nothing else is ever raised, whatever the bytes.
    """
    items: list[RtcpItem] = []
    view = bytes(data)
    position, end = 0, len(view)
    if not end:
        raise MalformedRtcp("empty")
    while position < end:
        if position + 4 > end:
            raise MalformedRtcp("header cut off")
        first, kind, words = _HEADER.unpack_from(view, position)
        stop = position + 4 + 4 * words
        if first >> 6 != 2 or stop > end:
            raise MalformedRtcp("version or length")
        body = view[position + 4 : stop]
        if first & 0x20:
            body = _without_padding(body, last=stop == end)
        _parse_one(items, first & 0x1F, kind, body)
        position = stop
    return items


def read_lone_feedback(data: bytes) -> bytes | None:
    """Body (FCI) of a datagram that is one transport-wide feedback and nothing else, which most of a viewer's are.

    Returns:
        None: it is something else, or broken; `parse` tells.
    """
    length = len(data)
    if length < 12 or data[1] != RTPFB or (data[2] << 8 | data[3]) * 4 + 4 != length:
        return None
    if data[0] == 0x80 | FMT_TRANSPORT_CC:
        return data[12:]
    if data[0] == 0xA0 | FMT_TRANSPORT_CC and 0 < data[-1] <= length - 12:
        return data[12 : -data[-1]]
    return None


def _without_padding(body: bytes, *, last: bool) -> bytes:
    """Only the last packet of a compound may be padded (RFC 3550 section 6.4.1).

    The padding need not be of whole words, as it should: libwebrtc fills up transport-wide feedback with one to three
    bytes.
    """
    if not last or not body or not 0 < body[-1] <= len(body):
        raise MalformedRtcp("padding")
    return body[: -body[-1]]


def _parse_one(items: list[RtcpItem], count: int, kind: int, body: bytes) -> None:
    if kind == SR:
        items.append(_parse_sender_report(count, body))
    elif kind == RR:
        _need(body, 4)
        items.append(ReceiverReport(_WORD.unpack_from(body)[0], _parse_blocks(count, body, 4)))
    elif kind == SDES:
        items.append(_parse_sdes(count, body))
    elif kind == BYE:
        _need(body, 4 * count)
        items.append(Bye(tuple(word for (word,) in _WORD.iter_unpack(body[: 4 * count]))))
    elif kind in (RTPFB, PSFB):
        _parse_feedback(items, count, kind, body)
    elif kind == XR:
        _parse_xr(items, body)


def _need(body: bytes, length: int) -> None:
    if len(body) < length:
        raise MalformedRtcp("body cut off")


def _parse_sender_report(count: int, body: bytes) -> SenderReport:
    _need(body, 24)
    (ssrc,) = _WORD.unpack_from(body)
    ntp, timestamp, packets, octets = _SENDER_INFO.unpack_from(body, 4)
    return SenderReport(ssrc, ntp, timestamp, packets, octets, _parse_blocks(count, body, 24))


def _parse_blocks(count: int, body: bytes, position: int) -> tuple[ReportBlock, ...]:
    """What follows the blocks is a profile's extension and ignored (RFC 3550 section 6.4.3)."""
    _need(body, position + 24 * count)
    return tuple(_parse_block(body, position + 24 * index) for index in range(count))


def _parse_block(body: bytes, position: int) -> ReportBlock:
    ssrc, loss, highest, jitter, lsr, dlsr = _BLOCK.unpack_from(body, position)
    lost = loss & 0xFF_FFFF
    return ReportBlock(ssrc, loss >> 24, lost - (1 << 24) if lost >> 23 else lost, highest, jitter, lsr, dlsr)


def _parse_sdes(count: int, body: bytes) -> Sdes:
    cnames: list[tuple[int, str]] = []
    position = 0
    for _ in range(count):
        _need(body, position + 5)
        (ssrc,) = _WORD.unpack_from(body, position)
        position += 4
        while True:
            _need(body, position + 1)
            if body[position] == 0:
                break
            _need(body, position + 2)
            stop = position + 2 + body[position + 1]
            _need(body, stop)
            if body[position] == 1:
                cnames.append((ssrc, body[position + 2 : stop].decode("utf-8", "replace")))
            position = stop
        position += 4 - position % 4  # a null octet, then more to the word boundary
        _need(body, position)
    return Sdes(tuple(cnames))


def _parse_feedback(items: list[RtcpItem], fmt: int, kind: int, body: bytes) -> None:
    _need(body, 8)
    sender, media = _FEEDBACK.unpack_from(body)
    fci = body[8:]
    if kind == RTPFB and fmt == FMT_NACK:
        items.append(Nack(sender, media, _parse_nack(fci)))
    elif kind == RTPFB and fmt == FMT_TRANSPORT_CC:
        items.append(TransportFeedback(sender, media, fci))
    elif kind == PSFB and fmt == FMT_PLI:
        items.append(Pli(sender, media))
    elif kind == PSFB and fmt == FMT_FIR:
        if not fci or len(fci) % 8:
            raise MalformedRtcp("FIR entries")
        items.append(Fir(sender, tuple((ssrc, word >> 24) for ssrc, word in _FEEDBACK.iter_unpack(fci))))
    elif kind == PSFB and fmt == FMT_AFB and fci[:4] == b"REMB":
        items.append(_parse_remb(sender, fci))


def _parse_nack(fci: bytes) -> tuple[int, ...]:
    if not fci or len(fci) % 4:
        raise MalformedRtcp("NACK entries")
    lost: list[int] = []
    for first, following in _PID_BLP.iter_unpack(fci):
        lost.append(first)
        offset = 1
        while following:
            if following & 1:
                lost.append((first + offset) & MASK_16)
            following >>= 1
            offset += 1
    return tuple(lost)


def _parse_remb(sender: int, fci: bytes) -> Remb:
    _need(fci, 8)
    (word,) = _WORD.unpack_from(fci, 4)
    count = word >> 24
    _need(fci, 8 + 4 * count)
    ssrcs = tuple(ssrc for (ssrc,) in _WORD.iter_unpack(fci[8 : 8 + 4 * count]))
    return Remb(sender, (word & 0x3FFFF) << (word >> 18 & 0x3F), ssrcs)


def _parse_xr(items: list[RtcpItem], body: bytes) -> None:
    _need(body, 4)
    (sender,) = _WORD.unpack_from(body)
    position = 4
    while position < len(body):
        _need(body, position + 4)
        kind, _, words = _HEADER.unpack_from(body, position)
        position += 4
        stop = position + 4 * words
        _need(body, stop)
        if kind == 4:
            if words != 2:
                raise MalformedRtcp("RRTR length")
            items.append(Rrtr(sender, int.from_bytes(body[position:stop], "big")))
        elif kind == 5:
            if words % 3:
                raise MalformedRtcp("DLRR length")
            items.append(Dlrr(sender, tuple(DlrrBlock(*part) for part in _DLRR.iter_unpack(body[position:stop]))))
        position = stop


_DLRR: Final = Struct("!III")


def build_sender_report(
    ssrc: int, ntp: int, rtp_timestamp: int, packets: int, octets: int, blocks: Sequence[ReportBlock] = ()
) -> bytes:
    """SR; counters wrap at 2^32. At most ``MAX_BLOCKS`` blocks."""
    assert len(blocks) <= MAX_BLOCKS
    info = _SENDER_INFO.pack(ntp, rtp_timestamp, packets & MASK_32, octets & MASK_32)
    return _packet(len(blocks), SR, _WORD.pack(ssrc) + info + _pack_blocks(blocks))


def build_receiver_report(ssrc: int, blocks: Sequence[ReportBlock]) -> bytes:
    """RR; as many as the blocks need, one without blocks (an empty RR opens a compound)."""
    groups = [blocks[start : start + MAX_BLOCKS] for start in range(0, len(blocks), MAX_BLOCKS)] or [()]
    return b"".join([_packet(len(group), RR, _WORD.pack(ssrc) + _pack_blocks(group)) for group in groups])


def _pack_blocks(blocks: Sequence[ReportBlock]) -> bytes:
    return b"".join(
        [
            _BLOCK.pack(
                block.ssrc,
                block.fraction_lost << 24 | _clamp_lost(block.cumulative_lost) & 0xFF_FFFF,
                block.highest_seq & MASK_32,
                block.jitter & MASK_32,
                block.lsr,
                block.dlsr,
            )
            for block in blocks
        ]
    )


def _clamp_lost(lost: int) -> int:
    """24 bits, signed, sticking at the ends (RFC 3550 appendix A.3)."""
    return max(-0x80_0000, min(0x7F_FFFF, lost))


def build_sdes(ssrc: int, cname: str) -> bytes:
    """SDES with one CNAME; at most 255 bytes of UTF-8."""
    name = cname.encode()
    assert len(name) <= 255
    chunk = _WORD.pack(ssrc) + bytes((1, len(name))) + name
    return _packet(1, SDES, chunk + bytes(4 - len(chunk) % 4))


def build_nack(sender_ssrc: int, media_ssrc: int, lost: Sequence[int]) -> bytes:
    """Generic NACK for at least one sequence number.

    Order and duplicates do not matter; all must lie within half the circle of the first.
    """
    assert lost
    anchor = lost[0]
    entries: list[bytes] = []
    first: int | None = None
    mask = 0
    for offset in sorted({diff16(seq, anchor) for seq in lost}):
        if first is not None and offset - first <= 16:
            mask |= 1 << (offset - first - 1)
            continue
        if first is not None:
            entries.append(_PID_BLP.pack((anchor + first) & MASK_16, mask))
        first, mask = offset, 0
    assert first is not None
    entries.append(_PID_BLP.pack((anchor + first) & MASK_16, mask))
    return _feedback(FMT_NACK, RTPFB, sender_ssrc, media_ssrc, b"".join(entries))


def build_pli(sender_ssrc: int, media_ssrc: int) -> bytes:
    """Ask for a key frame."""
    return _feedback(FMT_PLI, PSFB, sender_ssrc, media_ssrc, b"")


def build_remb(sender_ssrc: int, bitrate_bps: int, ssrcs: Sequence[int]) -> bytes:
    """REMB: 18 bits of mantissa, rounded down, and 6 of exponent; at most 255 SSRCs."""
    assert 0 <= bitrate_bps < 0x3FFFF << 63
    assert len(ssrcs) <= 255
    exponent = max(0, bitrate_bps.bit_length() - 18)
    word = len(ssrcs) << 24 | exponent << 18 | bitrate_bps >> exponent
    fci = b"REMB" + _WORD.pack(word) + b"".join([_WORD.pack(ssrc) for ssrc in ssrcs])
    return _feedback(FMT_AFB, PSFB, sender_ssrc, 0, fci)


def build_transport_feedback(sender_ssrc: int, media_ssrc: int, fci: bytes) -> bytes:
    """Wrap what ``media.core.twcc`` made; ``fci`` is a whole number of words."""
    return _feedback(FMT_TRANSPORT_CC, RTPFB, sender_ssrc, media_ssrc, fci)


def build_rrtr(sender_ssrc: int, ntp: int) -> bytes:
    """XR receiver reference time: asks a pure sender for the round trip."""
    return _packet(0, XR, pack("!IBBHQ", sender_ssrc, 4, 0, 2, ntp))


def build_dlrr(sender_ssrc: int, blocks: Iterable[DlrrBlock]) -> bytes:
    """XR answer to RRTRs."""
    parts = [_DLRR.pack(block.ssrc, block.lrr, block.dlrr) for block in blocks]
    return _packet(0, XR, pack("!IBBH", sender_ssrc, 5, 0, 3 * len(parts)) + b"".join(parts))


def _feedback(fmt: int, kind: int, sender_ssrc: int, media_ssrc: int, fci: bytes) -> bytes:
    return _packet(fmt, kind, _FEEDBACK.pack(sender_ssrc, media_ssrc) + fci)


def _packet(count: int, kind: int, body: bytes) -> bytes:
    assert len(body) % 4 == 0
    return _HEADER.pack(0x80 | count, kind, len(body) >> 2) + body
