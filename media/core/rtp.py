"""RTP headers by offset (RFC 3550 section 5.1, extensions RFC 8285).

The relay reads a packet where the socket left it and copies only what it forwards, so nothing
here builds a packet object: positions go in and come out. RTCP is ``media.core.rtcp``; the 16-bit
arithmetic is ``media.core.serial``.
"""

from struct import Struct
from typing import Final

FIXED_HEADER_BYTES: Final = 12
HEADER: Final = Struct("!BBHII")
"""First byte, marker and payload type, sequence, timestamp, SSRC."""
OUTBOUND: Final = Struct("!HHII")
"""The same on the way out, with the first two bytes as one number."""
WORD: Final = Struct("!H")
"""A transport-wide number."""
ONE_BYTE_PROFILE: Final = 0xBEDE
TWO_BYTE_PROFILE: Final = 0x1000

Extension = tuple[int, int, int]
"""Id, position of the data, its length."""

_PROFILE: Final = Struct("!HH")


class MalformedPacket(Exception):
    """The packet's lengths contradict each other; nothing of it is believed."""


def is_rtcp(second_byte: int) -> bool:
    """Tell RTCP from RTP on one port (RFC 5761 section 4)."""
    return 192 <= second_byte <= 223


def read_extensions(data: bytearray, position: int, end: int) -> tuple[list[Extension], int]:
    """Walk the extension block at ``position``.

    Returns:
        The elements in order, and the position after the block. A block of an unknown profile
        is skipped whole.

    Raises:
        MalformedPacket: an element or the block runs past its end.
    """
    if position + 4 > end:
        raise MalformedPacket
    profile, words = _PROFILE.unpack_from(data, position)
    position += 4
    stop = position + 4 * words
    if stop > end:
        raise MalformedPacket
    if profile != ONE_BYTE_PROFILE:
        return _two_byte_elements(data, position, stop) if profile & 0xFFF0 == TWO_BYTE_PROFILE else [], stop
    found: list[Extension] = []
    while position < stop:
        byte = data[position]
        position += 1
        if 0x10 <= byte < 0xF0:
            length = (byte & 15) + 1
            found.append((byte >> 4, position, length))
            position += length
        elif byte:
            break  # RFC 8285 section 4.2: padding has no length, and 15 is no id; stop here
    if position > stop:
        raise MalformedPacket
    return found, stop


def _two_byte_elements(data: bytearray, position: int, stop: int) -> list[Extension]:
    found = []
    while position < stop:
        identifier = data[position]
        position += 1
        if identifier == 0:
            continue
        if position >= stop:
            raise MalformedPacket
        length = data[position]
        position += 1
        if position + length > stop:
            raise MalformedPacket
        found.append((identifier, position, length))
        position += length
    return found


def build_extensions(elements: list[tuple[int, bytes]]) -> bytes:
    """Extension block for one packet; empty when there are no elements.

    One-byte form where it fits, since some receivers know only that (RFC 8285 section 4.2).
    """
    if not elements:
        return b""
    if all(identifier < 15 and 0 < len(value) <= 16 for identifier, value in elements):
        profile = ONE_BYTE_PROFILE
        body = b"".join([bytes((identifier << 4 | len(value) - 1,)) + value for identifier, value in elements])
    else:
        profile = TWO_BYTE_PROFILE
        body = b"".join([bytes((identifier, len(value))) + value for identifier, value in elements])
    body += bytes(-len(body) & 3)
    return _PROFILE.pack(profile, len(body) >> 2) + body
