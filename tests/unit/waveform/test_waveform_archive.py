"""The archive on a real folder: order, crash, a full disk, sealing; each frame once and none invented."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from media.core.waveform import FrameWriter, Place, StreamFormat, split_message
from server.waveforms import archive as archive_module
from server.waveforms.archive import Archive, OpenStream, frames_in_order, layout_of, read_spots, segment_name
from server.waveforms.blobs import BlobCode, BlobError, FolderBlobs
from server.waveforms.core import index
from server.waveforms.core.index import record
from server.waveforms.core.order import read_head
from server.waveforms.core.stream import StreamInfo
from server.waveforms.ring import MemoryRing

INFO = StreamInfo(
    archive="w_0123456789abcdef", consult="c1", stream_id=7, kind="live", title="t", device="d", leads=("I", "II"),
    sample_rate_mhz=500_000, lsb_nv=1000, filter="", simulated=True, patient="p1",
)  # fmt: skip
ALL = 2**53 - 1


def frames(count: int) -> list[bytes]:
    writer = FrameWriter(StreamFormat(stream_id=7, leads=2, sample_rate_mhz=500_000, lsb_nv=1000, simulated=True))
    noise = np.random.default_rng(5)
    return [
        split_message(
            writer.write(
                noise.integers(-900, 900, (2, 50)).astype(np.int16), t0_us=10**9 + n * 100_000, context_version=3
            )
        )[0].encoded
        for n in range(count)
    ]


class Folder(FolderBlobs):
    """A real folder on a disk that can be full, also in the middle of a write."""

    full = False

    def append(self, name: str, at: int, data: bytes) -> None:
        if self.full and data:
            with (self.root / name).open("ab") as file:
                file.write(data[: len(data) // 2])
            raise BlobError(BlobCode.NO_SPACE, "No space left on device")
        super().append(name, at, data)


@pytest.fixture
def blobs(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "waves")


def open_archive(blobs: FolderBlobs, ring: MemoryRing | None = None) -> tuple[Archive, list[BlobCode | None]]:
    said: list[BlobCode | None] = []
    return Archive(blobs, ring or MemoryRing(), lambda _info, code: said.append(code)), said


async def everything(archive: Archive) -> list[bytes]:
    found: list[bytes] = []
    after: Place | None = None
    while True:
        page, after = await archive.between_us(INFO, 0, ALL, 3_000, after)
        found += page
        if after is None:
            return found


async def test_late_frames_are_put_in_their_place_and_pages_join_without_a_seam(blobs: Folder) -> None:
    """[WF8] [W3] Whatever was written and whatever still waits."""
    sent = frames(40)
    archive, _ = open_archive(blobs)
    stream = await archive.open(INFO)
    for n in (*range(20), *range(25, 30)):
        assert archive.put(stream, sent[n]) is not None
    assert archive.put(stream, sent[3]) is None
    await archive.flush()
    for n in (23, 20, *range(30, 40), 22, 21):
        archive.put(stream, sent[n])
    assert await everything(archive) == [frame for n, frame in enumerate(sent) if n != 24]
    await archive.flush()
    assert await everything(archive) == [frame for n, frame in enumerate(sent) if n != 24]
    page, _ = await archive.between_seq(INFO, 18, 26, 1 << 20)
    assert [read_head(frame).seq for frame in page] == [18, 19, 20, 21, 22, 23, 25, 26]
    assert stream.state.missing(0, 39) == [(24, 24)]
    await archive.stop()


async def test_what_a_batch_costs_does_not_grow_with_its_segment(
    blobs: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment has tens of thousands of frames and a batch ten; late frames count for its extent like others."""
    looked: list[int] = []
    real = index.bounds

    def counting(segment: int, size: int, spots: Sequence[index.Spot]) -> index.Segment:
        looked.append(len(spots))
        return real(segment, size, spots)

    monkeypatch.setattr(index, "bounds", counting)
    monkeypatch.setattr(archive_module, "bounds", counting)
    sent = frames(40)
    archive, _ = open_archive(blobs)
    stream = await archive.open(INFO)
    for at in [*range(10, 40, 2), *range(11, 40, 2), *range(9, -1, -1)]:
        archive.put(stream, sent[at])
        await archive.flush()
        assert stream.segments == [real(1, stream.segments[0].size, stream.tail)]
    assert len(stream.tail) == 40
    assert max(looked) == 1
    await archive.stop()


async def test_a_torn_record_is_cut_and_said_and_the_stream_goes_on(
    blobs: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies in a write leaves half a record; everything before it counts."""
    monkeypatch.setattr(index, "SEGMENT_BYTES", 4_000)
    monkeypatch.setattr("server.waveforms.archive.SEGMENT_BYTES", 4_000)
    sent = frames(60)
    archive, _ = open_archive(blobs)
    stream = await archive.open(INFO)
    for at in range(0, 50, 5):
        for frame in sent[at : at + 5]:
            archive.put(stream, frame)
        await archive.flush()
    assert len(stream.segments) > 2
    number, size = stream.segments[-1].number, stream.segments[-1].size
    if not size:
        number -= 1
    path = blobs.root / segment_name(INFO.archive, number)
    whole = path.stat().st_size
    torn = whole - 9
    os.truncate(path, torn)

    other, _ = open_archive(blobs)
    again = await other.open(INFO)
    lost = 50 - again.state.frames
    assert lost == 1
    assert again.cut_bytes > 0
    for frame in sent[49:]:
        other.put(again, frame)
    await other.flush(sync=True)
    assert await everything(other) == sent
    closed = await other.close(again)
    assert closed is not None
    digest, summary = closed
    assert digest == hashlib.sha256(b"".join(map(record, sent))).hexdigest()
    assert (summary.frames, summary.lost, summary.gaps) == (60, 0, 0)
    third, _ = open_archive(blobs)
    assert await everything(third) == sent
    for one in (archive, other, third):
        await one.stop()


async def test_a_full_disk_is_said_once_loses_nothing_and_is_made_up_for(
    blobs: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed, announced; what no longer fits in memory comes from the ring when the disk is back."""
    monkeypatch.setattr("server.waveforms.archive.UNWRITTEN_BYTES", 2_000)
    sent = frames(80)
    ring = MemoryRing()
    archive, said = open_archive(blobs, ring)
    stream = await archive.open(INFO)

    def arrive(some: list[bytes]) -> None:
        for frame in some:
            place = archive.put(stream, frame)
            assert place is not None
            ring.put(INFO.archive, [(place, frame)], 1)

    arrive(sent[:10])
    await archive.flush()
    blobs.full = True
    for at in range(10, 60, 10):
        arrive(sent[at : at + 10])
        await archive.flush()
    assert said == [BlobCode.NO_SPACE]
    assert stream.trouble is BlobCode.NO_SPACE
    assert stream.absent
    assert stream.unwritten_bytes <= 2_000
    assert await archive.close(stream) is None  # not sealed with a hole it could still fill
    blobs.full = False
    for _ in range(40):
        await archive.flush()
    for at in (60, 70):
        arrive(sent[at : at + 10])
        await archive.flush()
    assert said == [BlobCode.NO_SPACE, None]
    assert await everything(archive) == sent
    assert (stream.state.summary.frames, stream.state.summary.lost) == (80, 0)
    await archive.stop()


async def test_what_neither_disk_nor_ring_has_is_counted_lost(blobs: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """[W2] An archive does not pretend."""
    monkeypatch.setattr("server.waveforms.archive.UNWRITTEN_BYTES", 2_000)
    sent = frames(40)
    archive, _ = open_archive(blobs)
    stream = await archive.open(INFO)
    archive.put(stream, sent[0])
    await archive.flush()
    blobs.full = True
    for frame in sent[1:39]:
        archive.put(stream, frame)
    await archive.flush()
    blobs.full = False
    await archive.flush()
    archive.put(stream, sent[39])
    await archive.flush()
    await archive.flush()
    kept = await everything(archive)
    assert 0 < len(kept) < 40
    assert stream.state.summary.lost == 40 - len(kept)
    assert stream.state.summary.gaps == 1
    await archive.stop()


async def test_a_store_that_is_away_at_the_start_is_joined_when_it_comes(tmp_path: Path) -> None:
    """Frames wait; nothing that was written before is overwritten."""
    sent = frames(30)
    blobs = FolderBlobs(tmp_path / "waves")
    first, _ = open_archive(blobs)
    stream = await first.open(INFO)
    for frame in sent[:20]:
        first.put(stream, frame)
    await first.flush(sync=True)
    (tmp_path / "waves").rename(tmp_path / "away")
    (tmp_path / "waves").write_text("not a folder")
    second, said = open_archive(blobs)
    again: OpenStream = await second.open(INFO)
    assert said == [BlobCode.IO]
    for frame in sent[18:]:
        second.put(again, frame)
    await second.flush()
    (tmp_path / "waves").unlink()
    (tmp_path / "away").rename(tmp_path / "waves")
    await second.flush()
    assert await everything(second) == sent
    assert again.state.places.has(Place(0, 0))
    for one in (first, second):
        await one.stop()


def restarted(count: int, again: int, again_us: int = 2 * 10**9, *, named: bool = False) -> list[bytes]:
    """A device that is switched on again and counts from zero."""
    sent: list[bytes] = []
    form = StreamFormat(stream_id=7, leads=2, sample_rate_mhz=500_000, lsb_nv=1000, simulated=True)
    for numbering, (first_us, many) in enumerate(((10**9, count), (again_us, again)), start=1):
        writer = FrameWriter(form, numbering=numbering if named else 0)
        noise = np.random.default_rng(first_us)
        for n in range(many):
            samples = noise.integers(-900, 900, (2, 50)).astype(np.int16)
            sent.append(
                split_message(writer.write(samples, t0_us=first_us + n * 100_000, context_version=3))[0].encoded
            )
    return sent


async def test_a_restart_in_an_earlier_segment_hides_nothing_from_who_reads_beside_the_writer(
    blobs: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[W5] An export reads the folder of a live stream by itself: numbers that come twice are two frames."""
    monkeypatch.setattr("server.waveforms.archive.SEGMENT_BYTES", 4_000)
    sent = restarted(30, 60)
    archive, _ = open_archive(blobs)
    stream = await archive.open(INFO)
    for at in range(0, 90, 10):
        for frame in sent[at : at + 10]:
            archive.put(stream, frame)
        await archive.flush()
    assert len(stream.segments) > 3
    spots = read_spots(blobs, INFO, layout_of(blobs, INFO))
    assert list(frames_in_order(blobs, INFO.archive, spots)) == sent
    beside, _ = open_archive(blobs)
    assert await everything(beside) == sent
    for one in (archive, beside):
        await one.stop()


@pytest.mark.parametrize("named", [True, False])
async def test_a_clock_that_steps_back_as_the_device_restarts_loses_and_repeats_nothing(
    blobs: Folder, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """[W5] [WF19] 6 s on, then 5 s back: every frame is stored, paged, sealed and found again by number."""
    monkeypatch.setattr("server.waveforms.archive.SEGMENT_BYTES", 4_000)
    sent = restarted(60, 60, 10**9 + 1_000_000, named=named)
    archive, _ = open_archive(blobs)
    stream = await archive.open(INFO)
    for at in range(0, 120, 10):
        for frame in sent[at : at + 10]:
            assert archive.put(stream, frame) is not None
        await archive.flush()
    assert await everything(archive) == sent
    page, more = await archive.between_seq(INFO, 3, 5, 1 << 20)
    assert (page, more) == (sent[63:66], None)
    archive.put(stream, sent[2])
    assert (stream.state.places.repeated, stream.state.summary.lost, stream.state.summary.frames) == (1, 0, 120)
    beside, _ = open_archive(blobs)
    assert await everything(beside) == sent, "whoever reads beside the writer"
    again = await beside.open(INFO)
    assert (again.state.summary, again.state.current) == (stream.state.summary, stream.state.current)
    closed = await archive.close(stream)
    assert closed is not None
    assert closed[0] == hashlib.sha256(b"".join(map(record, sent))).hexdigest()
    for one in (archive, beside):
        await one.stop()


async def test_a_page_by_time_goes_on_by_place_where_a_session_stepped_back_in_time(blobs: Folder) -> None:
    """[W3] Numbers go on, the clock does not: a page that ends there neither skips nor repeats."""
    form = StreamFormat(stream_id=7, leads=2, sample_rate_mhz=500_000, lsb_nv=1000, simulated=True)
    writer = FrameWriter(form, numbering=9)
    block = np.zeros((2, 50), np.int16)
    sent = [
        split_message(writer.write(block + n, t0_us=10**9 + n * 100_000 - (n > 20) * 1_500_000, context_version=1))[0]
        for n in range(40)
    ]
    archive, _ = open_archive(blobs)
    stream = await archive.open(INFO)
    for frame in sent:
        archive.put(stream, frame.encoded)
    for limit in (len(sent[0].encoded) * pieces + 1 for pieces in (1, 2, 7, 21)):
        for from_us, to_us in ((0, ALL), (10**9 + 700_000, 10**9 + 1_800_000)):
            got: list[bytes] = []
            after: Place | None = None
            while got == [] or after is not None:
                page, after = await archive.between_us(INFO, from_us, to_us, limit, after)
                got += page
            assert got == [one.encoded for one in sent if one.t0_us + 100_000 > from_us and one.t0_us < to_us]
    await archive.stop()


class Watched(FolderBlobs):
    """Counts what is read of which files."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read_of: dict[str, int] = {}

    def read(self, name: str, at: int, size: int) -> bytes:
        found = super().read(name, at, size)
        self.read_of[name] = self.read_of.get(name, 0) + len(found)
        return found


async def test_a_range_by_number_reads_no_more_than_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hours: the few bytes that say how far each segment reaches, and one whole index."""
    monkeypatch.setattr("server.waveforms.archive.SEGMENT_BYTES", 4_000)
    blobs = Watched(tmp_path / "waves")
    sent = frames(400)
    archive, _ = open_archive(blobs)
    stream = await archive.open(INFO)
    for at in range(0, 400, 10):
        for frame in sent[at : at + 10]:
            archive.put(stream, frame)
        await archive.flush()
    segments = len(stream.segments)
    assert segments > 20
    blobs.read_of.clear()
    assert (await archive.between_seq(INFO, 150, 152, 1 << 20))[0] == sent[150:153]
    assert len(blobs.read_of) <= 4, "one or two segments with their indexes"
    await archive.close(stream)
    blobs.read_of.clear()
    assert (await archive.between_seq(INFO, 150, 152, 1 << 20))[0] == sent[150:153]
    wholly = [name for name, size in blobs.read_of.items() if name.endswith(".idx") and size > 2 * index.TRAILER_BYTES]
    assert len(wholly) <= 2
    assert sum(name.endswith(".ecg") for name in blobs.read_of) <= 2
    await archive.stop()


async def test_a_stream_that_is_used_again_is_not_forgotten(blobs: Folder) -> None:
    """Everybody left, somebody came back while the last of it was written."""
    sent = frames(10)
    archive, _ = open_archive(blobs)
    stream = await archive.open(INFO)
    for frame in sent[:5]:
        archive.put(stream, frame)
    await archive.release(stream, lambda: True)
    for frame in sent[5:]:
        archive.put(stream, frame)
    await archive.flush()
    assert not stream.unwritten
    await archive.release(stream, lambda: False)
    assert archive.opened(INFO.archive) is None
    await archive.stop()


async def test_what_is_discarded_leaves_no_file(blobs: Folder) -> None:
    """An import that the disk did not hold does not keep what it took."""
    archive, _ = open_archive(blobs)
    stream = await archive.open(INFO)
    for frame in frames(5):
        archive.put(stream, frame)
    await archive.flush()
    assert blobs.names(stream.folder)
    await archive.discard(stream)
    assert not blobs.names(stream.folder)
    assert archive.opened(INFO.archive) is None
    await archive.stop()
