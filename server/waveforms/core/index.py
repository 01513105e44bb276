"""Where each frame of an archived stream lies.

A stream is kept in *segments*: runs of ``u32 length | frame`` in the order of arrival. The index finds a frame by its
place or its time whatever that order was; it is made by walking a segment, or read from the copy that is written
beside a finished one. A record that a crash has torn ends the walk: what is before it counts, the rest is cut.
"""

from struct import Struct, error
from typing import Final, NamedTuple

from media.core.waveform import MalformedFrame, parse_frame
from server.waveforms.core.order import Head, Ordering, Place, read_head

LENGTH: Final = Struct("<I")
SEGMENT_BYTES: Final = 512 * 1024
"""Some 27 minutes of twelve leads at 500 Hz: what a page of history has to look through."""
_ENTRY: Final = Struct("<IIIIIHHQqI")
_TRAILER: Final = Struct("<8sQI")
_MAGIC: Final = b"ECGINDX1"


class Spot(NamedTuple):
    """One frame in a segment; sorts in the order of the stream."""

    epoch: int
    seq: int
    segment: int
    offset: int
    """Of its length field."""
    size: int
    """Of the frame."""
    head: Head


class Segment(NamedTuple):
    """One run of records."""

    number: int
    size: int
    first_us: int
    last_us: int


def record(frame: bytes) -> bytes:
    """A frame as it is appended and as it is sent over HTTP."""
    return LENGTH.pack(len(frame)) + frame


def walk(segment: int, data: bytes, stream_id: int, ordering: Ordering) -> tuple[list[Spot], int]:
    """Frames of a segment, in the order of arrival.

    Returns:
        The frames, and how many bytes at the end are none: what a crash cut off.
    """
    found: list[Spot] = []
    at = 0
    while at + LENGTH.size <= len(data):
        (size,) = LENGTH.unpack_from(data, at)
        end = at + LENGTH.size + size
        if end > len(data):
            break
        try:
            frame = parse_frame(data[at + LENGTH.size : end])
        except MalformedFrame:
            break
        if frame.stream_id != stream_id:
            break
        head = read_head(frame.encoded)
        found.append(Spot(*ordering.place(head.seq, head.t0_us), segment, at, size, head))
        at = end
    return found, len(data) - at


def bounds(segment: int, size: int, spots: list[Spot]) -> Segment:
    """A segment's extent in time."""
    first_us = min((spot.head.t0_us for spot in spots), default=0)
    return Segment(segment, size, first_us, max((spot.head.end_us for spot in spots), default=0))


def build_index(spots: list[Spot], segment_bytes: int) -> bytes:
    """The copy that is kept beside a finished segment."""
    body = b"".join(
        _ENTRY.pack(s.epoch, s.seq, s.offset, s.size, s.head.sample_rate_mhz, s.head.n, s.head.flags,
                    s.head.first_sample, s.head.t0_us, s.head.context_version)
        for s in spots
    )  # fmt: skip
    return body + _TRAILER.pack(_MAGIC, segment_bytes, len(spots))


def load_index(segment: int, segment_bytes: int, data: bytes) -> list[Spot] | None:
    """Frames of a segment from its copy; None when the copy is not one of this segment."""
    try:
        magic, size, count = _TRAILER.unpack(data[-_TRAILER.size :])
        if (magic, size) != (_MAGIC, segment_bytes) or count * _ENTRY.size + _TRAILER.size != len(data):
            return None
        entries = list(_ENTRY.iter_unpack(data[: -_TRAILER.size]))
    except error:
        return None
    return [
        Spot(epoch, seq, segment, offset, length, Head(seq, flags, version, t0_us, first, rate, n))
        for epoch, seq, offset, length, rate, n, flags, first, t0_us, version in entries
    ]


def place_of(spot: Spot) -> Place:
    """Its place."""
    return Place(spot.epoch, spot.seq)
