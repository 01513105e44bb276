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

from server.metrics import WAVEFORM_ARCHIVE
from server.waveforms.blobs import BlobCode, BlobError, BlobStore
from server.waveforms.core.breaks import Break, breaks_of
from server.waveforms.core.index import (
    SEGMENT_BYTES,
    Segment,
    Spot,
    bounds,
    build_index,
    load_index,
    place_of,
    record,
    walk,
)
from server.waveforms.core.order import Ordering, Place, StreamState, Summary, read_head
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
        stream.state, stream.segments, stream.cut_bytes = found.state, found.segments, found.cut_bytes
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
        """Take in one frame; None when its place is taken."""
        place = stream.state.accept(read_head(frame))
        if place is None:
            WAVEFORM_ARCHIVE.labels("repeated").inc()
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
                segments = await self._in(self._writer, partial(_write, self.blobs, stream, batch, sync))
            except BlobError as problem:
                self._failed(stream, problem)
                return
            stream.segments = segments
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
        self, info: StreamInfo, from_us: int, to_us: int, limit: int
    ) -> tuple[list[bytes], int | None]:
        """Frames with samples in ``from_us <= t < to_us``, in the order of the stream, at most ``limit`` bytes.

        Returns:
            The frames, and from which time to ask on when there are more.

        Raises:
            BlobError: they cannot be read now.
        """

        def wanted(spot: Spot) -> bool:
            return spot.head.end_us > from_us and spot.head.t0_us < to_us

        fresh = self._unwritten(info)
        spots = await self._spots(info, from_us, to_us)
        frames = await self._frames(info, [spot for spot in spots if wanted(spot)], limit)
        frames += [
            (place, frame)
            for place, frame in fresh
            if read_head(frame).end_us > from_us and read_head(frame).t0_us < to_us
        ]
        return _page(frames, limit)

    async def between_seq(self, info: StreamInfo, first: int, last: int, limit: int) -> tuple[list[bytes], int | None]:
        """The same by number, of the newest epoch; asked on by time.

        Raises:
            BlobError: they cannot be read now.
        """
        fresh = self._unwritten(info)
        spots = await self._spots(info, None, None)
        epoch = max([spot.epoch for spot in spots] + [place.epoch for place, _ in fresh], default=0)
        chosen = [spot for spot in spots if spot.epoch == epoch and first <= spot.seq <= last]
        frames = await self._frames(info, chosen, limit)
        frames += [(place, frame) for place, frame in fresh if place.epoch == epoch and first <= place.seq <= last]
        return _page(frames, limit)

    async def breaks(self, info: StreamInfo) -> tuple[list[Break], int]:
        """Gaps and new sessions of the whole stream, from its index, and how many there are.

        Raises:
            BlobError: it cannot be read now.
        """
        fresh = self._unwritten(info)
        spots = await self._spots(info, None, None)
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

    async def _spots(self, info: StreamInfo, from_us: int | None, to_us: int | None) -> list[Spot]:
        """Called at once after `_unwritten`: a frame is then in one of the two, and where in both, taken once."""
        stream = self._open.get(info.archive)
        if stream is not None:
            segments, ordering = [one for one in stream.segments if one.size], stream.state.ordering
        else:
            segments, ordering = await self._in(self._readers, segments_of, self.blobs, info.archive), Ordering()
        if from_us is not None and to_us is not None:
            segments = [one for one in segments if not one.last_us or (one.last_us > from_us and one.first_us < to_us)]
        return await self._in(self._readers, partial(read_spots, self.blobs, info, segments, ordering))

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
    sizes = blobs.names(stream.folder)
    numbers = sorted(int(name[-10:-4]) for name in sizes if name.endswith(".ecg"))
    for number in numbers:
        name, size = segment_name(info.archive, number), sizes[segment_name(info.archive, number)]
        spots, torn = _walk_segment(blobs, info, number, size, stream.state.ordering)
        for spot in spots:
            stream.state.accept(spot.head)
        if torn:
            stream.cut_bytes += torn
            blobs.append(name, size - torn, b"")
        stream.segments.append(bounds(number, size - torn, spots))
    return stream


def _walk_segment(
    blobs: BlobStore, info: StreamInfo, number: int, size: int, ordering: Ordering
) -> tuple[list[Spot], int]:
    copy = index_name(info.archive, number)
    try:
        loaded = load_index(number, size, blobs.read(copy, 0, 1 << 24))
    except BlobError:
        loaded = None
    if loaded is not None:
        for spot in loaded:  # whoever reads on must know where the device counted anew
            ordering.place(spot.seq, spot.head.t0_us)
        return loaded, 0
    data = blobs.read(segment_name(info.archive, number), 0, size)
    return walk(number, data, info.stream_id, ordering)


def read_spots(blobs: BlobStore, info: StreamInfo, segments: Iterable[Segment], ordering: Ordering) -> list[Spot]:
    """Where the frames of some segments are; each place once.

    Raises:
        BlobError: they cannot be read.
    """
    found: dict[Place, Spot] = {}
    for segment in segments:
        for spot in _walk_segment(blobs, info, segment.number, segment.size, ordering)[0]:
            found.setdefault(place_of(spot), spot)
    return sorted(found.values())


def segments_of(blobs: BlobStore, archive: str) -> list[Segment]:
    """Segments of an archive that nobody holds open, without their times."""
    sizes = blobs.names(folder_of(archive))
    names = sorted(name for name in sizes if name.endswith(".ecg"))
    return [Segment(int(name[-10:-4]), sizes[name], 0, 0) for name in names]


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
        frames.append((place_of(spot), data[spot.segment][at : at + spot.size]))
    return frames


def _page(frames: list[tuple[Place, bytes]], limit: int) -> tuple[list[bytes], int | None]:
    ordered = dict(sorted(frames))
    page: list[bytes] = []
    size = 0
    for frame in ordered.values():
        if page and size + len(frame) > limit:
            return page, read_head(frame).t0_us
        page.append(frame)
        size += len(frame)
    return page, None


def _write(blobs: BlobStore, stream: OpenStream, batch: list[tuple[Place, bytes]], sync: bool) -> list[Segment]:
    """Append a batch and, where a segment is full, finish it; the stream's segments after it."""
    info, after = stream.info, list(stream.segments)
    if not after:
        after.append(Segment(1, 0, 0, 0))
    if batch:
        last = after[-1]
        data = b"".join(record(frame) for _, frame in batch)
        heads = [read_head(frame) for _, frame in batch]
        blobs.append(segment_name(info.archive, last.number), last.size, data)
        first_us = min(head.t0_us for head in heads)
        after[-1] = Segment(
            last.number,
            last.size + len(data),
            min(last.first_us, first_us) if last.size else first_us,
            max(last.last_us, *(head.end_us for head in heads)),
        )
    full = after[-1].size >= SEGMENT_BYTES
    if (sync or full) and after[-1].size:
        blobs.sync(segment_name(info.archive, after[-1].number))
    if full:
        _index_segment(blobs, stream, after[-1])
        after.append(Segment(after[-1].number + 1, 0, 0, 0))
    return after


def _index_segment(blobs: BlobStore, stream: OpenStream, segment: Segment) -> list[Spot]:
    """The frames of a segment that will not grow any more, and the copy of its index beside it."""
    # Places of frames that have been taken in do not change any more: here the ordering is only read.
    spots, _ = _walk_segment(blobs, stream.info, segment.number, segment.size, stream.state.ordering)
    blobs.append(index_name(stream.info.archive, segment.number), 0, build_index(spots, segment.size))
    return spots


def _seal(blobs: BlobStore, stream: OpenStream) -> str:
    """Finish the last segment; SHA-256 over all records in the order of the stream."""
    spots: dict[Place, Spot] = {}
    for segment in stream.segments:
        for spot in _index_segment(blobs, stream, segment) if segment.size else ():
            spots.setdefault(place_of(spot), spot)
    digest = hashlib.sha256()
    for frame in frames_in_order(blobs, stream.info.archive, sorted(spots.values())):
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
