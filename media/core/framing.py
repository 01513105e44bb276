"""Datagrams on a TCP connection: a length of two bytes before each (RFC 4571 section 2, RFC 6544 section 3).

The bytes come from anybody, so ``split`` is bounded in what it keeps (less than one frame) and believes no
length that a datagram cannot have: on a stream there is no way to find the next frame after a wrong length,
so the connection is lost with it. Sockets are ``media.aio.tcp``.
"""

from typing import Final

LENGTH_BYTES: Final = 2
MAX_FRAME_BYTES: Final = 1500
"""Longest datagram that is taken; a media packet, a check or a piece of a handshake fits any path's MTU."""
MAX_REST_BYTES: Final = LENGTH_BYTES + MAX_FRAME_BYTES - 1
"""The most that can be left of an unfinished frame."""


class MalformedFrame(Exception):
    """A length that no datagram of ours has: an attack, or a peer that speaks something else."""


def split(data: bytearray | memoryview, size: int) -> tuple[list[tuple[int, int]], int]:
    """Find the whole frames in what has come of a stream.

    Empty frames are valid and mean nothing (RFC 4571 section 2): they are left out.

    Args:
        data: a buffer that starts with the length of a frame.
        size: how many of its bytes have come.

    Returns:
        ``(offset, length)`` of each datagram, and the offset of the unfinished frame: ``data[offset:size]``,
        at most ``MAX_REST_BYTES``, belongs before what comes next.

    Raises:
        MalformedFrame: a length above ``MAX_FRAME_BYTES``, also of a frame whose end has not come. No frame of this
            call is given out then.
    """
    frames = []
    position = 0
    while size - position >= LENGTH_BYTES:
        length = data[position] << 8 | data[position + 1]
        if length > MAX_FRAME_BYTES:
            raise MalformedFrame
        start = position + LENGTH_BYTES
        if size - start < length:
            break
        if length:
            frames.append((start, length))
        position = start + length
    return frames, position


def join(run: memoryview, segment_bytes: int) -> bytearray:
    """Frame equal datagrams lying back to back (the last may be shorter).

    Args:
        run: all datagrams.
        segment_bytes: length of each, 1 to 65535.
    """
    framed = bytearray()
    for start in range(0, len(run), segment_bytes):
        datagram = run[start : start + segment_bytes]
        framed += len(datagram).to_bytes(LENGTH_BYTES, "big")
        framed += datagram
    return framed
