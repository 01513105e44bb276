"""What the relay must know of a payload: where a key frame starts, and how large its picture is.

Nothing is decoded. A viewer may only be let in at the first packet of a key frame. What VP8 counts and where its
layers lie is ``shape``.

Every function reads ``data[start:end]`` where the packet lies, never outside it, and raises
nothing whatever the bytes: a payload too short to tell is "not a key frame".
Payloads whose padding or RTX prefix is not yet cut off are the caller's mistake.
"""

from enum import StrEnum

Buffer = bytes | bytearray | memoryview


class Codec(StrEnum):
    """What the Router forwards; the value is the MIME type of ORTC."""

    OPUS = "audio/opus"
    VP8 = "video/VP8"
    H264 = "video/H264"
    VP9 = "video/VP9"
    AV1 = "video/AV1"


def is_key_frame(codec: Codec, data: Buffer, start: int, end: int) -> bool:
    """The payload begins a key frame. True of every Opus packet: a listener may join anywhere."""
    if codec is Codec.VP8:
        return vp8_starts_key_frame(data, start, end)
    if codec is Codec.H264:
        return h264_starts_key_frame(data, start, end)
    if codec is Codec.VP9:
        return vp9_starts_key_frame(data, start, end)
    if codec is Codec.AV1:
        return start < end and data[start] & 0x08 != 0  # N: a new coded video sequence (AV1 RTP section 4.4)
    return True


def vp9_starts_key_frame(data: Buffer, start: int, end: int) -> bool:
    """P clear and B set, on the lowest spatial layer (RFC 9628 section 4.2)."""
    if start >= end or data[start] & 0x48 != 0x08:
        return False
    if not data[start] & 0x20:
        return True
    at = start + 1
    if data[start] & 0x80:
        if at >= end:
            return False
        at += 2 if data[at] & 0x80 else 1
    return at < end and data[at] & 0x0E == 0


def key_frame_size(codec: Codec, data: Buffer, start: int, end: int) -> tuple[int, int] | None:
    """Width and height in pixels told by the first packet of a key frame; None where it does not tell."""
    if codec is not Codec.VP8:
        return None
    at = _vp8_payload(data, start, end)
    # Frame tag, start code, then 14 bits each (RFC 6386 section 9.1).
    if at + 10 > end or bytes(data[at + 3 : at + 6]) != b"\x9d\x01\x2a":
        return None
    return (data[at + 7] << 8 | data[at + 6]) & 0x3FFF, (data[at + 9] << 8 | data[at + 8]) & 0x3FFF


def vp8_starts_key_frame(data: Buffer, start: int, end: int) -> bool:
    """S set, partition 0, and the P bit of the frame header clear (RFC 7741 sections 4.2, 4.3)."""
    if end - start < 2 or data[start] & 0x17 != 0x10:
        return False
    position = _vp8_payload(data, start, end)
    return position < end and not data[position] & 1


def _vp8_payload(data: Buffer, start: int, end: int) -> int:
    """Offset behind the descriptor; ``end`` or more when it is cut off."""
    if end - start < 2:
        return end
    position = start + 1
    if data[start] & 0x80:
        flags = data[position]
        position += 1
        if flags & 0x80:
            if position >= end:
                return end
            position += 2 if data[position] & 0x80 else 1
        if flags & 0x40:
            position += 1
        if flags & 0x30:
            position += 1
    return position


def h264_starts_key_frame(data: Buffer, start: int, end: int) -> bool:
    """The packet carries an SPS or the start of an IDR slice (RFC 6184 sections 5.6, 5.7.1, 5.8).

    An IDR picture comes behind its SPS and PPS; whichever packet is first is where to start.
    """
    if start >= end:
        return False
    nal = data[start] & 0x1F
    if nal == 24:
        return _stap_a_has_key(data, start + 1, end)
    if nal == 28:
        return start + 1 < end and data[start + 1] & 0x80 != 0 and data[start + 1] & 0x1F in (5, 7)
    return nal in (5, 7)


def _stap_a_has_key(data: Buffer, position: int, end: int) -> bool:
    while position + 2 < end:
        length = data[position] << 8 | data[position + 1]
        position += 2
        if length == 0 or position + length > end:
            return False
        if data[position] & 0x1F in (5, 7):
            return True
        position += length
    return False
