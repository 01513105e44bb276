"""Where each frame of an archived stream lies.

A stream is kept in *segments*: runs of ``u32 length | frame`` in the order of arrival. The index finds a frame by its
place or its time whatever that order was. A finished segment has its index beside it, which ends with the segment's
bounds: who wants a range reads those few bytes of each segment and whole indexes only where the range lies.

A segment without an index (the last one of a stream that somebody writes or that a crash has left) is walked; the
places of its frames follow from all frames before them, as they did when they were taken in. A record that a crash has
torn ends the walk: what is before it counts, the rest is cut.
"""

from collections.abc import Sequence
from struct import Struct, error
from typing import Final, NamedTuple

from media.core.waveform import MalformedFrame, Place, parse_frame
from server.waveforms.core.order import Head, StreamState, read_head

LENGTH: Final = Struct("<I")
SEGMENT_BYTES: Final = 512 * 1024
"""Some 27 minutes of twelve leads at 500 Hz: what a page of history has to look through."""
_ENTRY: Final = Struct("<IIIIIHHQqIHI")
_TRAILER: Final = Struct("<8sQIqqIIII")
_MAGIC: Final = b"ECGINDX2"
TRAILER_BYTES: Final = _TRAILER.size


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

    @property
    def place(self) -> Place:
        """Where it belongs."""
        return Place(self.epoch, self.seq)


class Segment(NamedTuple):
    """One run of records."""

    number: int
    size: int
    first_us: int = 0
    last_us: int = 0
    first: Place | None = None
    """Its lowest place; None while its frames are not known."""
    last: Place | None = None

    @property
    def known(self) -> bool:
        """Its bounds are."""
        return self.first is not None


def record(frame: bytes) -> bytes:
    """A frame as it is appended and as it is sent over HTTP."""
    return LENGTH.pack(len(frame)) + frame


def spots_of(segment: int, at: int, batch: Sequence[tuple[Place, bytes]]) -> list[Spot]:
    """Where frames lie whose records are appended at ``at``."""
    found: list[Spot] = []
    for place, frame in batch:
        found.append(Spot(*place, segment, at, len(frame), read_head(frame)))
        at += LENGTH.size + len(frame)
    return found


def walk(segment: int, data: bytes, stream_id: int, state: StreamState) -> tuple[list[Spot], int]:
    """Frames of a segment, in the order of arrival, each entered in the state of all before it.

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
        place = state.accept(head)
        if place is not None:  # what is stored was accepted once: the same place is there twice after a crash only
            found.append(Spot(*place, segment, at, size, head))
        at = end
    return found, len(data) - at


def bounds(segment: int, size: int, spots: Sequence[Spot]) -> Segment:
    """A segment's extent in time and in places."""
    if not spots:
        return Segment(segment, size)
    return Segment(
        segment,
        size,
        min(spot.head.t0_us for spot in spots),
        max(spot.head.end_us for spot in spots),
        min(spot.place for spot in spots),
        max(spot.place for spot in spots),
    )


def extended(segment: Segment, size: int, spots: Sequence[Spot]) -> Segment:
    """Its extent when these frames have come behind what it had."""
    added = bounds(segment.number, size, spots)
    if segment.first is None or segment.last is None or added.first is None or added.last is None:
        return added if added.known else segment._replace(size=size)
    return Segment(
        segment.number,
        size,
        min(segment.first_us, added.first_us),
        max(segment.last_us, added.last_us),
        min(segment.first, added.first),
        max(segment.last, added.last),
    )


def build_index(spots: Sequence[Spot], segment_bytes: int) -> bytes:
    """The index that is kept beside a finished segment."""
    body = b"".join(
        _ENTRY.pack(s.epoch, s.seq, s.offset, s.size, s.head.sample_rate_mhz, s.head.n, s.head.flags,
                    s.head.first_sample, s.head.t0_us, s.head.context_version, s.head.numbering, s.head.crc)
        for s in spots
    )  # fmt: skip
    _, _, first_us, last_us, first, last = bounds(0, 0, spots)
    extent = (first_us, last_us, *(first or (0, 0)), *(last or (0, 0)))
    return body + _TRAILER.pack(_MAGIC, segment_bytes, len(spots), *extent)


def load_bounds(segment: int, segment_bytes: int, index_bytes: int, trailer: bytes) -> Segment | None:
    """A segment's extent from the end of its index; None when that is not of this segment."""
    try:
        magic, size, count, first_us, last_us, *places = _TRAILER.unpack(trailer)
    except error:
        return None
    if (magic, size) != (_MAGIC, segment_bytes) or not count or count * _ENTRY.size + _TRAILER.size != index_bytes:
        return None
    return Segment(segment, segment_bytes, first_us, last_us, Place(*places[:2]), Place(*places[2:]))


def load_index(segment: int, segment_bytes: int, data: bytes) -> list[Spot] | None:
    """Frames of a segment from its index; None when the index is not one of this segment."""
    if load_bounds(segment, segment_bytes, len(data), data[-_TRAILER.size :]) is None:
        return None
    return [
        Spot(epoch, seq, segment, offset, length, Head(seq, flags, version, t0_us, first, rate, n, numbering, crc))
        for epoch, seq, offset, length, rate, n, flags, first, t0_us, version, numbering, crc in _ENTRY.iter_unpack(
            data[: -_TRAILER.size]
        )
    ]
