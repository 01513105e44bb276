"""Every frame of a stream for good: the very bytes that were sent, appended as they came.

What the loop gives waits at most a second; then one thread of the archive's own writes the batch of each stream with
one call. Policy of durability: a batch is in the kernel within a second (a crash of this process loses at most that,
and the ring has it), and on the disk within ten seconds and when a segment or a stream ends (so much a power cut may
take; the ring in redis, or the source, may still have it).

When the store cannot take it (disk full), the frames stay unwritten up to a bound, beyond which only their places are
kept; nothing else notices. Once the store is back they come from the ring; what the ring has no more is counted lost.

How frames are found again is ``core.index``; rows in the database are ``rows``. Long because writing, going on after a
crash and reading share one view of what is on disk and what still waits.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog

from media.core.waveform import Place
from server.metrics import WAVEFORM_ARCHIVE
from server.waveforms.blobs import BlobCode, BlobError, BlobStore
from server.waveforms.core.breaks import Break, breaks_of
from server.waveforms.core.index import (
    SEGMENT_BYTES,
    TRAILER_BYTES,
    Segment,
    Spot,
    bounds,
    build_index,
    extended,
    load_bounds,
    load_index,
    record,
    spots_of,
    walk,
)
from server.waveforms.core.order import StreamState, Summary, read_head
from server.waveforms.core.stream import StreamInfo
from server.waveforms.ring import LiveRing, RingUnavailable

log = structlog.get_logger(__name__)

FLUSH_S: Final = 1.0
SYNC_S: Final = 10.0
UNWRITTEN_BYTES: Final = 2 << 20
"""Of one stream: some ten minutes of twelve leads."""
UNWRITTEN_PLACES: Final = 100_000
READ_THREADS: Final = 2

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class OpenStream:
    """One stream that is being written."""

    info: StreamInfo
    state: StreamState
    segments: list[Segment]
    """The last one is not full."""
    tail: list[Spot] = field(default_factory=list)
    """Frames of the last one."""
    unwritten: dict[Place, bytes] = field(default_factory=dict)
    unwritten_bytes: int = 0
    absent: dict[Place, None] = field(default_factory=dict)
    """Places whose frames are in the ring only."""
    trouble: BlobCode | None = None
    cut_bytes: int = 0
    """Torn off the end when it was opened again."""
    unsynced: bool = False
    recovered: bool = True
    """What was written before is known: until then nothing is written."""
    written: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def folder(self) -> str:
        """Where its segments are."""
        return folder_of(self.info.archive)


def folder_of(archive: str) -> str:
    """Folder of an archive's segments."""
    return f"{archive[:2]}/{archive}"


def segment_name(archive: str, number: int) -> str:
    """A segment's file."""
    return f"{folder_of(archive)}/{number:06}.ecg"


def index_name(archive: str, number: int) -> str:
    """The copy of its index."""
    return f"{folder_of(archive)}/{number:06}.idx"


@dataclass(frozen=True, slots=True)
class Layout:
    """What is stored of a stream: the extent of each segment, and the frames of those without an index."""

    segments: list[Segment]
    held: dict[int, list[Spot]]


class Archive:
    """Writes and reads all streams; one task, three threads.

    Args:
        announce: called when a stream's store fails or works again.
    """

    def __init__(
        self, blobs: BlobStore, ring: LiveRing, announce: Callable[[StreamInfo, BlobCode | None], None]
    ) -> None:
        self.blobs = blobs
        self._ring = ring
        self._announce = announce
        self._open: dict[str, OpenStream] = {}
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="waveform-archive")
        self._readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="waveform-reader")
        self._task: asyncio.Task[None] | None = None
        self._synced_s = time.monotonic()

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="waveform-archive")

    async def stop(self) -> None:
        """Write what waits and end; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.flush(sync=True)
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True, cancel_futures=True)

    # ------------------------------------------------------------- writing

    async def open(self, info: StreamInfo) -> OpenStream:
        """Begin a stream, or go on with it: its torn end is cut. Where the store is away, frames wait for it."""
        known = self._open.get(info.archive)
        if known is not None:
            return known
        try:
            stream = await self._in(self._writer, recover, self.blobs, info)
        except BlobError as problem:
            stream = OpenStream(info, StreamState(), [], recovered=False)
            self._failed(stream, problem)
        self._say_cut(stream)
        return self._open.setdefault(info.archive, stream)

    async def release(self, stream: OpenStream, in_use: Callable[[], bool]) -> None:
        """Write what waits and forget the stream, which may be opened again; it stays while it cannot be written.

        Args:
            in_use: whether somebody has opened it again while it was written.
        """
        await self._flush(stream, sync=True)
        if not stream.unwritten and not stream.absent and not in_use():
            self._open.pop(stream.info.archive, None)

    async def _recover(self, stream: OpenStream) -> None:
        """Go on where an earlier process ended, with what has come meanwhile.

        Raises:
            BlobError: the store is still away.
        """
        found = await self._in(self._writer, recover, self.blobs, stream.info)
        waiting = list(stream.unwritten.values())
        stream.state, stream.segments, stream.tail = found.state, found.segments, found.tail
        stream.cut_bytes = found.cut_bytes
        stream.unwritten.clear()
        stream.absent.clear()  # the ring has them under places that may not hold any more
        stream.unwritten_bytes = 0
        stream.recovered = True
        for frame in waiting:
            self.put(stream, frame)
        self._say_cut(stream)

    def _say_cut(self, stream: OpenStream) -> None:
        if stream.cut_bytes:
            WAVEFORM_ARCHIVE.labels("cut").inc()
            log.warning("torn end of a waveform archive cut", archive=stream.info.archive, bytes_=stream.cut_bytes)

    def put(self, stream: OpenStream, frame: bytes) -> Place | None:
        """Take in one frame; None when it came before or is of no session that is known for sure, both counted."""
        refused = stream.state.places.refused
        place = stream.state.accept(read_head(frame))
        if place is None:
            WAVEFORM_ARCHIVE.labels("repeated" if stream.state.places.refused == refused else "refused").inc()
            return None
        stream.unwritten[place] = frame
        stream.unwritten_bytes += len(frame)
        while stream.unwritten_bytes > UNWRITTEN_BYTES:
            oldest = next(iter(stream.unwritten))
            stream.unwritten_bytes -= len(stream.unwritten.pop(oldest))
            self._leave_to_ring(stream, oldest)
        return place

    async def flush(self, *, sync: bool = False) -> None:
        """Write what waits, of every stream; trouble with one is not another's."""
        for stream in list(self._open.values()):
            if stream.unwritten or stream.absent or (sync and stream.unsynced):
                await self._flush(stream, sync)

    async def flush_one(self, stream: OpenStream) -> None:
        """Write what waits of one stream now."""
        await self._flush(stream, sync=False)

    async def discard(self, stream: OpenStream) -> None:
        """Forget a stream that nobody has been told of, and what was written of it."""
        async with stream.written:
            self._open.pop(stream.info.archive, None)
            await self._in(self._writer, self.blobs.remove, stream.folder)

    async def close(self, stream: OpenStream) -> tuple[str, Summary] | None:
        """End a stream: its hash over all records in their order, and its counts.

        None when the store cannot take the rest now; the stream stays open, to be closed later.
        """
        await self._flush(stream, sync=True)
        if stream.absent:
            await self._flush(stream, sync=True)
        if stream.unwritten or not stream.recovered:
            return None
        for place in stream.absent:
            stream.state.forget(place)
            WAVEFORM_ARCHIVE.labels("lost").inc()
        stream.absent.clear()
        try:
            digest = await self._in(self._writer, partial(_seal, self.blobs, stream))
        except BlobError as problem:
            self._failed(stream, problem)
            return None
        self._open.pop(stream.info.archive, None)
        return digest, stream.state.summary

    async def _flush(self, stream: OpenStream, sync: bool) -> None:
        async with stream.written:
            if stream.absent and stream.trouble is None:
                await self._fetch_absent(stream)
            try:
                if not stream.recovered:
                    await self._recover(stream)
                batch = list(stream.unwritten.items())
                written = await self._in(self._writer, partial(_write, self.blobs, stream, batch, sync))
            except BlobError as problem:
                self._failed(stream, problem)
                return
            stream.segments, stream.tail = written
            stream.unsynced = not sync
            for place, frame in batch:
                if stream.unwritten.pop(place, None) is not None:
                    stream.unwritten_bytes -= len(frame)
            WAVEFORM_ARCHIVE.labels("written").inc(len(batch))
            if stream.trouble is not None:
                stream.trouble = None
                log.info("waveform archive works again", archive=stream.info.archive)
                self._announce(stream.info, None)
                if stream.absent:
                    await self._fetch_absent(stream)

    async def _fetch_absent(self, stream: OpenStream) -> None:
        """Bring frames back from the ring to where they wait to be written."""
        places = list(stream.absent)
        try:
            found = dict(await self._ring.get(stream.info.archive, min(places), max(places)))
        except RingUnavailable:
            return
        for place in places:
            frame = found.get(place)
            if frame is not None:
                if stream.unwritten_bytes + len(frame) > UNWRITTEN_BYTES:
                    break  # the rest with the next flush
                stream.unwritten[place] = frame
                stream.unwritten_bytes += len(frame)
            else:
                stream.state.forget(place)
                WAVEFORM_ARCHIVE.labels("lost").inc()
            del stream.absent[place]

    def _leave_to_ring(self, stream: OpenStream, place: Place) -> None:
        stream.absent[place] = None
        WAVEFORM_ARCHIVE.labels("waiting").inc()
        if len(stream.absent) > UNWRITTEN_PLACES:
            oldest = next(iter(stream.absent))
            del stream.absent[oldest]
            stream.state.forget(oldest)
            WAVEFORM_ARCHIVE.labels("lost").inc()

    def _failed(self, stream: OpenStream, problem: BlobError) -> None:
        WAVEFORM_ARCHIVE.labels("failed").inc()
        if stream.trouble is not problem.code:
            stream.trouble = problem.code
            log.error("waveform archive cannot write", archive=stream.info.archive, code=problem.code.value)
            self._announce(stream.info, problem.code)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            sync = time.monotonic() - self._synced_s >= SYNC_S
            if sync:
                self._synced_s = time.monotonic()
            try:
                await self.flush(sync=sync)
            except Exception:  # a bug with one stream must not end the archive of all
                log.exception("waveform archive broke")

    # ------------------------------------------------------------- reading

    async def between_us(
        self, info: StreamInfo, from_us: int, to_us: int, limit: int, after: Place | None = None
    ) -> tuple[list[bytes], Place | None]:
        """Frames with samples in ``from_us <= t < to_us``, in the order of the stream, at most ``limit`` bytes.

        Args:
            after: where an earlier page ended: nothing before this place is looked at, whatever its time.

        Returns:
            The frames, and the place of the next one when there are more.

        Raises:
            BlobError: they cannot be read now.
        """
        fresh = self._unwritten(info)
        layout = await self._layout(info)
        least = after or Place(0, 0)

        def may_have(segment: Segment) -> bool:
            return segment.last_us > from_us and segment.first_us < to_us and (segment.last or least) >= least

        spots = await self._spots(info, layout, may_have)
        wanted = [s for s in spots if s.place >= least and s.head.end_us > from_us and s.head.t0_us < to_us]
        frames = await self._frames(info, wanted, limit)
        frames += [
            (place, frame)
            for place, frame in fresh
            if place >= least and read_head(frame).end_us > from_us and read_head(frame).t0_us < to_us
        ]
        return _page(frames, limit)

    async def between_seq(
        self, info: StreamInfo, first: int, last: int, limit: int, after: Place | None = None
    ) -> tuple[list[bytes], Place | None]:
        """The same by number, of the epoch that goes on or was the last.

        Raises:
            BlobError: they cannot be read now.
        """
        fresh = self._unwritten(info)
        stream = self._open.get(info.archive)
        layout = await self._layout(info)
        if stream is not None:
            epoch = stream.state.current.epoch
        else:
            epoch = max((segment.last.epoch for segment in layout.segments if segment.last), default=0)
        if after is not None:
            epoch, first = after.epoch, max(first, after.seq)
        low, high = Place(epoch, first), Place(epoch, last)

        def may_have(segment: Segment) -> bool:
            return (segment.first or low) <= high and (segment.last or high) >= low

        spots = await self._spots(info, layout, may_have)
        frames = await self._frames(info, [spot for spot in spots if low <= spot.place <= high], limit)
        frames += [(place, frame) for place, frame in fresh if low <= place <= high]
        return _page(frames, limit)

    async def breaks(self, info: StreamInfo) -> tuple[list[Break], int]:
        """Gaps and new sessions of the whole stream, from its index, and how many there are.

        Raises:
            BlobError: it cannot be read now.
        """
        fresh = self._unwritten(info)
        spots = await self._spots(info, await self._layout(info), lambda _: True)
        heads = [spot.head for spot in spots] + [read_head(frame) for _, frame in fresh]
        return await self._in(self._readers, breaks_of, heads)

    async def read_file(self, path: str) -> bytes:
        """A job's file, read off the loop."""
        return await self._in(self._readers, Path(path).read_bytes)

    async def size_of(self, path: str) -> int:
        """Bytes of a job's file."""
        return await self._in(self._readers, lambda: Path(path).stat().st_size)

    async def read_part(self, path: str, at: int, size: int) -> bytes:
        """Up to ``size`` bytes of a job's file from ``at``; empty at its end."""

        def read() -> bytes:
            with Path(path).open("rb") as file:
                file.seek(at)
                return file.read(size)

        return await self._in(self._readers, read)

    async def write_file(self, path: str, data: bytes) -> None:
        """A job's file."""
        await self._in(self._readers, Path(path).write_bytes, data)

    def opened(self, archive: str) -> OpenStream | None:
        """The stream, if it is being written."""
        return self._open.get(archive)

    async def _layout(self, info: StreamInfo) -> Layout:
        """Called at once after `_unwritten`: a frame is then in one of the two, and where in both, taken once."""
        stream = self._open.get(info.archive)
        if stream is not None:
            held = {stream.segments[-1].number: stream.tail} if stream.segments else {}
            return Layout([one for one in stream.segments if one.size], held)
        return await self._in(self._readers, layout_of, self.blobs, info)

    async def _spots(self, info: StreamInfo, layout: Layout, wanted: Callable[[Segment], bool]) -> list[Spot]:
        return await self._in(self._readers, partial(read_spots, self.blobs, info, layout, wanted))

    def _unwritten(self, info: StreamInfo) -> list[tuple[Place, bytes]]:
        stream = self._open.get(info.archive)
        return [] if stream is None else list(stream.unwritten.items())

    async def _frames(self, info: StreamInfo, spots: list[Spot], limit: int) -> list[tuple[Place, bytes]]:
        return await self._in(self._readers, partial(_read_frames, self.blobs, info.archive, sorted(spots), limit))

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, partial(work, *arguments))


# ----------------------------------------------------------------- in the archive's threads


def recover(blobs: BlobStore, info: StreamInfo) -> OpenStream:
    """State of a stream from what is on disk; the torn end of its last segment is cut.

    Raises:
        BlobError: it cannot be read.
    """
    stream = OpenStream(info, StreamState(), [])
    found = segments_of(blobs, info.archive)
    for segment in found:
        spots, torn = _enter_segment(blobs, info, segment, stream.state)
        if torn:
            stream.cut_bytes += torn
            blobs.append(segment_name(info.archive, segment.number), segment.size - torn, b"")
        stream.segments.append(bounds(segment.number, segment.size - torn, spots))
        if segment is found[-1]:
            stream.tail = spots
        elif not segment.known:
            _write_index(blobs, info.archive, stream.segments[-1], spots)
    return stream


def _enter_segment(blobs: BlobStore, info: StreamInfo, segment: Segment, state: StreamState) -> tuple[list[Spot], int]:
    """Frames of a segment, entered in the state of all before it, and how many torn bytes it ends with."""
    if not segment.known:
        data = blobs.read(segment_name(info.archive, segment.number), 0, segment.size)
        return walk(segment.number, data, info.stream_id, state)
    spots = _load(blobs, info.archive, segment)
    return [spot for spot in spots if state.adopt(spot.place, spot.head)], 0


def _load(blobs: BlobStore, archive: str, segment: Segment) -> list[Spot]:
    """Frames of a segment that has an index."""
    spots = load_index(segment.number, segment.size, blobs.read(index_name(archive, segment.number), 0, 1 << 24))
    if spots is None:
        raise BlobError(BlobCode.IO, "an index has changed")
    return spots


def segments_of(blobs: BlobStore, archive: str) -> list[Segment]:
    """Segments of an archive, with the extent of those that have an index.

    Raises:
        BlobError: they cannot be read.
    """
    sizes = blobs.names(folder_of(archive))
    found = []
    for name in sorted(name for name in sizes if name.endswith(".ecg")):
        number = int(name[-10:-4])
        index = index_name(archive, number)
        known = None
        if index in sizes:
            trailer = blobs.read(index, max(0, sizes[index] - TRAILER_BYTES), TRAILER_BYTES)
            known = load_bounds(number, sizes[name], sizes[index], trailer)
        found.append(known or Segment(number, sizes[name]))
    return found


def layout_of(blobs: BlobStore, info: StreamInfo) -> Layout:
    """What is stored of a stream that this process does not write; where another one does, as far as that has come.

    Raises:
        BlobError: it cannot be read.
    """
    segments = segments_of(blobs, info.archive)
    held: dict[int, list[Spot]] = {}
    if not all(segment.known for segment in segments):
        state = StreamState()
        for at, segment in enumerate(segments):
            spots, _ = _enter_segment(blobs, info, segment, state)
            if not segment.known:
                held[segment.number] = spots
                segments[at] = bounds(segment.number, segment.size, spots)
    return Layout(segments, held)


def read_spots(
    blobs: BlobStore, info: StreamInfo, layout: Layout, wanted: Callable[[Segment], bool] = lambda _: True
) -> list[Spot]:
    """Where the frames of the wanted segments are, in the order of the stream; each place once.

    Raises:
        BlobError: they cannot be read.
    """
    found: dict[Place, Spot] = {}
    for segment in layout.segments:
        if segment.known and wanted(segment):
            spots = layout.held.get(segment.number)
            for spot in _load(blobs, info.archive, segment) if spots is None else spots:
                found.setdefault(spot.place, spot)
    return sorted(found.values())


def _read_frames(blobs: BlobStore, archive: str, spots: list[Spot], limit: int) -> list[tuple[Place, bytes]]:
    """A little more than ``limit`` bytes of them, by reading each segment's stretch at once."""
    chosen: list[Spot] = []
    size = 0
    for spot in spots:
        chosen.append(spot)
        size += spot.size
        if size > limit:
            break
    stretches: dict[int, tuple[int, int]] = {}
    for spot in chosen:
        low, high = stretches.get(spot.segment, (spot.offset, 0))
        stretches[spot.segment] = (min(low, spot.offset), max(high, spot.offset + 4 + spot.size))
    data = {
        number: blobs.read(segment_name(archive, number), low, high - low) for number, (low, high) in stretches.items()
    }
    frames = []
    for spot in chosen:
        at = spot.offset + 4 - stretches[spot.segment][0]
        frames.append((spot.place, data[spot.segment][at : at + spot.size]))
    return frames


def _page(frames: list[tuple[Place, bytes]], limit: int) -> tuple[list[bytes], Place | None]:
    page: list[bytes] = []
    size = 0
    for place, frame in sorted(dict(frames).items()):
        if page and size + len(frame) > limit:
            return page, place
        page.append(frame)
        size += len(frame)
    return page, None


def _write(
    blobs: BlobStore, stream: OpenStream, batch: list[tuple[Place, bytes]], sync: bool
) -> tuple[list[Segment], list[Spot]]:
    """Append a batch and, where a segment is full, finish it; the stream's segments and the last one's frames."""
    archive, after, tail = stream.info.archive, list(stream.segments), list(stream.tail)
    if not after:
        after.append(Segment(1, 0))
    last = after[-1]
    if batch:
        data = b"".join(record(frame) for _, frame in batch)
        blobs.append(segment_name(archive, last.number), last.size, data)
        fresh = spots_of(last.number, last.size, batch)
        tail += fresh
        last = after[-1] = extended(last, last.size + len(data), fresh)
    full = last.size >= SEGMENT_BYTES
    if (sync or full) and last.size:
        blobs.sync(segment_name(archive, last.number))
    if full:
        _write_index(blobs, archive, last, tail)
        after.append(Segment(last.number + 1, 0))
        tail = []
    return after, tail


def _write_index(blobs: BlobStore, archive: str, segment: Segment, spots: list[Spot]) -> None:
    """The index of a segment that will not grow any more."""
    if spots:
        blobs.append(index_name(archive, segment.number), 0, build_index(spots, segment.size))


def _seal(blobs: BlobStore, stream: OpenStream) -> str:
    """Finish the last segment; SHA-256 over all records in the order of the stream."""
    archive = stream.info.archive
    segments = [segment for segment in stream.segments if segment.size]
    held: dict[int, list[Spot]] = {}
    if segments and segments[-1] is stream.segments[-1]:
        held[segments[-1].number] = stream.tail
        _write_index(blobs, archive, segments[-1], stream.tail)
    digest = hashlib.sha256()
    spots = read_spots(blobs, stream.info, Layout(segments, held))
    for frame in frames_in_order(blobs, archive, spots):
        digest.update(record(frame))
    return digest.hexdigest()


def frames_in_order(blobs: BlobStore, archive: str, spots: list[Spot]) -> Iterable[bytes]:
    """Frames one after another, a segment in memory at a time where they lie in order.

    Raises:
        BlobError: one cannot be read.
    """
    number, data = -1, b""
    for spot in spots:
        if spot.segment != number:
            number, data = spot.segment, blobs.read(segment_name(archive, spot.segment), 0, 1 << 26)
        at = spot.offset + 4
        yield data[at : at + spot.size]
