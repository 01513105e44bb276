"""RED for Opus (RFC 2198): each packet carries the one before it once more, so a single loss costs no sound.

A publisher that can sends its sound so. Viewers that said they read it get it whole; the others, foreign clients
among them, get the newest block alone, which is exactly the Opus packet that would have been sent without RED. Whole
packets name their blocks by the publisher's payload type, so it is replaced by the Router's.

No clock and no I/O here; which viewer gets which form is ``ortc``, the two sequences are lanes of their own.
"""

from typing import Final, NamedTuple

Buffer = bytes | bytearray | memoryview

MAX_BLOCKS: Final = 9
"""Browsers send two; libwebrtc can be told to send nine."""
_BLOCK_HEADER_BYTES: Final = 4


class MalformedRed(Exception):
    """Not the blocks of one codec, or shorter than they say."""


class Forms(NamedTuple):
    """One packet of sound, as both kinds of viewers get it."""

    whole: bytes
    plain: bytes


def forms(data: Buffer, start: int, end: int, theirs: int, ours: int) -> Forms:
    """Read the RED payload ``data[start:end]``.

    Args:
        theirs: payload type of Opus at the publisher.
        ours: the one that viewers know.

    Raises:
        MalformedRed: the blocks do not add up, are too many, or are of another codec.
    """
    headers = bytearray()
    redundant_bytes = 0
    at = start
    while at < end and data[at] & 0x80:
        if at + _BLOCK_HEADER_BYTES >= end or data[at] & 0x7F != theirs or len(headers) >= 4 * (MAX_BLOCKS - 1):
            raise MalformedRed
        headers += bytes((0x80 | ours, data[at + 1], data[at + 2], data[at + 3]))
        redundant_bytes += (data[at + 2] & 0x03) << 8 | data[at + 3]
        at += _BLOCK_HEADER_BYTES
    newest = at + 1 + redundant_bytes
    if at >= end or data[at] != theirs or newest > end:
        raise MalformedRed
    headers.append(ours)
    return Forms(bytes(headers) + bytes(data[at + 1 : end]), bytes(data[newest:end]))


def wrapped(data: Buffer, start: int, end: int, ours: int) -> Forms:
    """An Opus packet that the publisher sent without RED, which it may at any time."""
    plain = bytes(data[start:end])
    return Forms(bytes((ours,)) + plain, plain)
