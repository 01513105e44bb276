"""The desk when things go wrong around it: sealed in the end, each number once, nobody under another's name.

Real database, folder and ring; what a worker's tap would bring is handed in.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from server_seed import fill
from sqlalchemy import func, select

from media.core.control import JsonObject, MediaError, MediaErrorCode, Request
from media.core.waveform import Flag, FrameWriter, StreamFormat, split_message
from server.app import check_schema
from server.clock import server_clock
from server.storage.consult_store import SqlConsultStore
from server.storage.database import Database
from server.storage.models import EventRow, VitalSignRow, WaveformArchiveRow
from server.waveforms.blobs import BlobCode, BlobError, FolderBlobs
from server.waveforms.desk import IDLE_STREAMS, WaveformDesk
from server.waveforms.jobs import JobFailed
from server.waveforms.office import Office
from server.waveforms.ring import MemoryRing
from server.waveforms.snapshots import Snapshots
from server.waveforms.tap import TapConnection, Tapped
from signaling.core.errors import Refusal
from signaling.core.ids import ConsultId, ParticipantId, PatientId
from signaling.core.model import ConsultStatus, Context, EcgSettings, EcgState, VitalsStream, WaveformStream
from signaling.core.ports import SnapshotOrder
from tests.integration.media.peer import until

C1 = ConsultId("c1")
ALL = 2**53 - 1
FORMAT = StreamFormat(stream_id=7, leads=2, sample_rate_mhz=500_000, lsb_nv=1000, simulated=True)


class Disk(FolderBlobs):
    """A real folder on a disk that can be full."""

    full = False

    def append(self, name: str, at: int, data: bytes) -> None:
        if self.full:
            raise BlobError(BlobCode.NO_SPACE, "No space left on device")
        super().append(name, at, data)


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WaveformDesk]:
    monkeypatch.setattr("server.waveforms.desk.SEAL_EVERY_S", 0.2)
    monkeypatch.setattr("server.storage.database.BUSY_TIMEOUT_MS", 300)
    database = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    await check_schema(database)
    await fill(database)
    made = WaveformDesk(database, Disk(tmp_path / "waves"), MemoryRing(), server_clock())
    await made.start()
    yield made
    await made.stop()
    await database.close()


async def no_worker(_request: Request) -> JsonObject:
    raise MediaError(MediaErrorCode.WORKER_GONE, "no worker here")


def announced(stream_id: int = 7, patient: str = "pt1") -> WaveformStream:
    return WaveformStream(
        stream_id=stream_id, leads=("I", "II"), sample_rate_mhz=500_000, lsb_nv=1000, device="d", simulated=True,
        patient=PatientId(patient),
    )  # fmt: skip


def tap(desk: WaveformDesk) -> TapConnection:
    made = TapConnection(desk.taps)
    made.of = Tapped("c1", 0)
    return made


def frames(desk: WaveformDesk, count: int, version: int = 1, first_seq: int = 0) -> list[bytes]:
    fmt = StreamFormat(stream_id=7, leads=2, sample_rate_mhz=500_000, lsb_nv=1000, simulated=True)
    writer, t0_us = FrameWriter(fmt, first_seq=first_seq), desk.now_ms() * 1000
    return [
        split_message(writer.write(np.full((2, 50), n, np.int16), t0_us=t0_us + n * 100_000, context_version=version))[
            0
        ].encoded
        for n in range(count)
    ]


async def end_consult(desk: WaveformDesk) -> None:
    store = SqlConsultStore(desk.database)
    state = await store.load(C1)
    assert state is not None
    over = {"status": ConsultStatus.ENDED, "revision": state.revision + 1}
    await store.commit(state, state.model_copy(update=over), [], None)
    desk.ended("c1")


async def sealed(desk: WaveformDesk) -> list[str | None]:
    async with desk.database.read() as session:
        return [row.sha256 for row in (await session.scalars(select(WaveformArchiveRow))).all()]


async def all_sealed(desk: WaveformDesk) -> None:
    async with asyncio.timeout(60):
        while not all(await sealed(desk)):
            await asyncio.sleep(0.05)


async def seals(desk: WaveformDesk) -> int:
    async with desk.database.read() as session:
        query = select(func.count()).select_from(EventRow).where(EventRow.kind == "waveform_archived")
        return int(await session.scalar(query) or 0)


async def test_a_stream_whose_disk_was_full_at_the_end_is_sealed_when_there_is_room(desk: WaveformDesk) -> None:
    """[C21] [G5] [W42] Not at the next restart: soon, once, and whole."""
    blobs: Any = desk.archive.blobs
    await desk.announce("c1", 0, no_worker, announced())
    desk.begun("c1", 7, "wave")
    sent, source = frames(desk, 20), tap(desk)
    for frame in sent:
        desk.tapped_frame(source, frame, again=False)
    blobs.full = True
    await end_consult(desk)
    await until(lambda: desk.stream("c1", 7) is None, "the stream is over")
    await asyncio.sleep(0)
    assert await sealed(desk) == [None]
    blobs.full = False
    await all_sealed(desk)
    assert await seals(desk) == 1
    async with desk.database.read() as session:
        (row,) = (await session.scalars(select(WaveformArchiveRow))).all()
    assert (row.frames, row.lost) == (20, 0)


async def test_what_came_while_the_database_was_down_is_there_when_it_is_back(desk: WaveformDesk) -> None:
    """[W42] [C21] Frames at once, numbers afterwards and each once; a consult that ended meanwhile is sealed."""
    await desk.announce("c1", 0, no_worker, announced())
    desk.begun("c1", 7, "wave")
    desk.vitals_begun("c1", "numbers", VitalsStream(device="d", simulated=True, patient=PatientId("pt1")))
    source, sent = tap(desk), frames(desk, 20)
    for frame in sent[:10]:
        desk.tapped_frame(source, frame, again=False)
    assert desk.database.file is not None
    other = sqlite3.connect(desk.database.file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")  # as a backup or a hanging disk would hold it
    try:
        for number, frame in enumerate(sent[10:]):
            desk.tapped_frame(source, frame, again=False)
            desk.tapped_message(source, "numbers", pulse(desk, 60 + number))
        await desk.archive.flush()
        live = desk.stream("c1", 7)
        assert live is not None
        assert not live.open.unwritten, "frames need no database"
        page, _ = await desk.archive.between_us(live.info, 0, ALL, 1 << 24)
        assert page == sent
        with pytest.raises(Exception, match="locked"):
            await desk.write_rows()
        desk.ended("c1")
        await until(lambda: desk.stream("c1", 7) is None, "the stream is over")
    finally:
        other.execute("ROLLBACK")
        other.close()
    await end_consult(desk)
    await all_sealed(desk)
    assert await numbers(desk) == [60 + number for number in range(10)]


def pulse(desk: WaveformDesk, value: int) -> bytes:
    sign = {"t": "vital", "cv": 1, "code": "HR", "v": value, "u": "/min", "at": desk.now_ms() * 1000, "q": "ok",
            "sim": True}  # fmt: skip
    return bytes(msgpack.packb(sign))


async def numbers(desk: WaveformDesk) -> list[int]:
    async with desk.database.read() as session:
        query = select(VitalSignRow.value).order_by(VitalSignRow.id)
        return [int(float(value)) for value in (await session.scalars(query)).all()]


async def test_vital_signs_are_written_once_however_many_ask_for_them_at_once(desk: WaveformDesk) -> None:
    """[W8] An export writes what waits while the desk does."""
    desk.vitals_begun("c1", "numbers", VitalsStream(device="d", simulated=True, patient=PatientId("pt1")))
    source = tap(desk)
    for value in range(40, 60):
        desk.tapped_message(source, "numbers", pulse(desk, value))
    writing = [asyncio.create_task(desk.write_rows()) for _ in range(3)]
    await asyncio.sleep(0)
    for value in range(60, 80):
        desk.tapped_message(source, "numbers", pulse(desk, value))
    await asyncio.gather(*writing)
    await desk.write_rows()
    assert await numbers(desk) == [*range(40, 80)]


async def test_what_was_on_its_way_of_one_patient_is_not_kept_under_the_next(desk: WaveformDesk) -> None:
    """[W24] [W20] The device was bound anew, to the next patient, while the tap still held frames of the former one."""
    await desk.announce("c1", 0, no_worker, announced())
    desk.begun("c1", 7, "one")
    source = tap(desk)
    of_first, of_second = frames(desk, 8), frames(desk, 4, version=2, first_seq=8)
    for frame in of_first[:6]:
        desk.tapped_frame(source, frame, again=False)
    await desk.announce("c1", 0, no_worker, announced(patient="pt2"))
    desk.begun("c1", 7, "two")
    for frame in [*of_first[6:], *of_second]:
        desk.tapped_frame(source, frame, again=False)
    live = desk.stream("c1", 7)
    assert live is not None
    assert live.info.patient == "pt2"
    page, _ = await desk.archive.between_us(live.info, 0, ALL, 1 << 24)
    assert page == of_second
    assert live.context_version == 2


async def open_context(desk: WaveformDesk, version: int, patient: str = "pt1") -> None:
    store = SqlConsultStore(desk.database)
    state, banner = await store.load(C1), await store.patient(C1, PatientId(patient))
    assert state is not None
    assert banner is not None
    opened = Context(version=version, patient=banner, opened_at_ms=1, opened_by=ParticipantId("p_d1"))
    changes = {"context": opened, "context_version": version, "revision": state.revision + 1}
    await store.commit(state, state.model_copy(update=changes), [], None)


async def test_a_frame_or_number_of_a_context_that_the_stream_was_not_announced_under_is_kept_by_nobody(
    desk: WaveformDesk,
) -> None:
    """[W19] [W20] [W24] Earlier or later; the same patient opened again goes on with the same archive."""
    await open_context(desk, 3)
    assert await desk.announce("c1", 0, no_worker, announced(), "p_device") == 3
    desk.begun("c1", 7, "wave")
    vitals = VitalsStream(device="d", simulated=True, patient=PatientId("pt1"))
    assert await desk.announce_vitals("c1", 0, no_worker, "pt1", "p_device") == 3
    desk.vitals_begun("c1", "numbers", vitals, 3)
    source, written = tap(desk), FrameWriter(FORMAT)
    block, t0_us = np.zeros((2, 50), np.int16), desk.now_ms() * 1000

    def sent(version: int) -> bytes:
        message = written.write(block, t0_us=t0_us + written.index * 2000, context_version=version)
        return split_message(message)[0].encoded

    first = [sent(3), sent(2), sent(3), sent(4)]
    for frame in first:
        desk.tapped_frame(source, frame, again=False)
    desk.tapped_message(source, "numbers", pulse(desk, 60))  # of context 1
    desk.sources("c1", ())
    await open_context(desk, 5)
    assert await desk.announce("c1", 0, no_worker, announced(), "p_device") == 5
    desk.begun("c1", 7, "wave2")
    again = [sent(5), sent(4)]
    for frame in again:
        desk.tapped_frame(source, frame, again=False)
    live = desk.stream("c1", 7)
    assert live is not None
    page, _ = await desk.archive.between_us(live.info, 0, ALL, 1 << 24)
    assert page == [first[0], first[2], again[0]]
    await desk.write_rows()
    assert await numbers(desk) == []
    assert await desk.announce("c1", 0, no_worker, announced(8, "pt2"), "p_device") is None, "not open"


async def test_of_two_devices_that_announce_one_number_at_once_one_wins(desk: WaveformDesk) -> None:
    """[WF10] [W20] The other is refused with a code and changes nothing; the number is free when the first has gone."""
    device = announced()
    other = device.model_copy(update={"device": "other"})
    results = await asyncio.gather(
        desk.announce("c1", 0, no_worker, device, "p_a"),
        desk.announce("c1", 1, no_worker, other, "p_b"),
        return_exceptions=True,
    )
    (refused,) = [one for one in results if isinstance(one, BaseException)]
    assert isinstance(refused, MediaError)
    assert refused.code is MediaErrorCode.EXISTS
    live = desk.stream("c1", 7)
    assert live is not None
    winner = live.info.device
    desk.begun("c1", 7, "wave")
    for who, stream in (("p_a", device), ("p_b", other)):
        if stream.device != winner:
            with pytest.raises(MediaError):
                await desk.announce("c1", 1, no_worker, stream, who)
    assert desk.stream("c1", 7) is live
    assert len(await sealed(desk)) == 1
    desk.sources("c1", ())
    await desk.announce("c1", 1, no_worker, other, "p_b")
    desk.not_begun("c1", 7)  # the relay could not take it
    await desk.announce("c1", 1, no_worker, device, "p_a")
    desk.begun("c1", 7, "wave2")


async def test_a_device_that_comes_back_under_ever_new_numbers_fills_no_memory(desk: WaveformDesk) -> None:
    for stream_id in range(1, IDLE_STREAMS + 11):
        await desk.announce("c1", 0, no_worker, announced(stream_id))
        desk.begun("c1", stream_id, f"wave{stream_id}")
        desk.sources("c1", ())
    assert len(desk.streams("c1")) <= IDLE_STREAMS + 1
    await until(lambda: len(desk.archive._open) <= IDLE_STREAMS + 1, "what is let go is closed")


async def test_an_import_of_large_frames_loses_none(
    desk: WaveformDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[W10] [WF8] Many leads at a high rate: more in one batch than the archive holds back."""
    fmt = StreamFormat(stream_id=9, leads=16, sample_rate_mhz=4_000_000, lsb_nv=1000, simulated=False)
    writer, noise = FrameWriter(fmt), np.random.default_rng(1)
    samples = noise.integers(-32768, 32767, (16, 200)).astype(np.int16)
    made = [split_message(writer.write(samples, t0_us=10**15 + n * 50_000, context_version=1))[0] for n in range(600)]
    data = b"".join(len(frame.encoded).to_bytes(4, "little") + frame.encoded for frame in made)
    office = Office(desk, desk.archive.blobs, "test", "here")  # type: ignore[arg-type]
    found = {"device": "d", "filter": "", "simulated": False}
    strip = {"stream_id": 9, "leads": [f"X{n}" for n in range(16)], "sample_rate_mhz": 4_000_000, "lsb_nv": 1000}
    kept = await office._keep("c1", "pt1", "t", found, strip, data, "someone")
    assert (kept.summary.frames, kept.summary.lost) == (600, 0)


async def test_an_order_outlives_its_process_and_a_failure_is_on_record(desk: WaveformDesk) -> None:
    """[W33] [G5] What is unfinished is found at the next start; what has failed stays failed."""
    store = SqlConsultStore(desk.database)
    banner = await store.patient(C1, PatientId("pt1"))
    assert banner is not None
    await desk.announce("c1", 0, no_worker, announced())
    desk.begun("c1", 7, "wave")
    source = tap(desk)
    fmt = StreamFormat(stream_id=7, leads=2, sample_rate_mhz=500_000, lsb_nv=1000, simulated=True)
    writer, t0_us = FrameWriter(fmt), (desk.now_ms() - 60_000) * 1000
    for n in range(300):
        frame = writer.write(np.full((2, 50), n, np.int16), t0_us=t0_us + n * 100_000, context_version=1)
        desk.tapped_frame(source, split_message(frame)[0].encoded, again=False)
    jobs = Office(desk, desk.archive.blobs, "test", "here").prints  # type: ignore[arg-type]
    before = Snapshots(desk, jobs)
    settings = EcgSettings(speed=25, gain=10, layout="12x1", order="standard", filter="off", calibration="",
                           software="t")  # fmt: skip
    orders = [
        SnapshotOrder(id=name, consult=C1, patient=banner, context_version=1, stream_id=7, at_us=t0_us + at_us,
                      by=ParticipantId("p_d1"), at_ms=number, settings=settings, age_ms=1, state=EcgState.LIVE)
        for number, (name, at_us) in enumerate([("strip1", 15_000_000), ("strip2", -40_000_000)])
    ]  # fmt: skip
    for order in orders:
        await before.order_snapshot(order)
    after = Snapshots(desk, jobs)
    assert await after.unfinished() == orders
    made = await asyncio.wait_for(after.snapshot_stored("strip1"), 60)
    assert (made.from_us, made.lost) == (t0_us + 5_000_000, 0)
    with pytest.raises(Refusal, match="no samples"):
        await after.snapshot_stored("strip2")
    await after.snapshot_failed("strip2", "not_found")
    await after.snapshot_failed("strip1", "internal")
    assert await after.unfinished() == []
    found = [await after.find("c1", "pt1", order.id) for order in orders]
    assert [one and one.describe()["state"] for one in found] == ["stored", "failed"]
    with pytest.raises(Refusal):
        await after.snapshot_stored("strip2")


async def test_a_simulated_recording_is_not_imported_for_a_person(desk: WaveformDesk) -> None:
    """[W9] What was downloaded of a simulator stays simulated when it is uploaded again."""
    office = Office(desk, desk.archive.blobs, "test", "here")  # type: ignore[arg-type]
    banner = await SqlConsultStore(desk.database).patient(C1, PatientId("pt1"))
    assert banner is not None
    await desk.announce("c1", 0, no_worker, announced())
    for frame in frames(desk, 30):
        desk.tapped_frame(tap(desk), frame, again=False)
    live = desk.stream("c1", 7)
    assert live is not None
    _, data = await office.export(live.info, "wfdb.zip", banner, 0, ALL)
    person, test = (banner.model_copy(update={"test": test}) for test in (False, True))
    with pytest.raises(JobFailed, match="simulated"):
        await office.import_file("c1", person, 1, data, "t", "someone", patient_checked=True)
    imported = await office.import_file("c1", test, 1, data, "t", "someone", patient_checked=True)
    assert [one.info.simulated for one in imported.streams] == [True]
    page, _ = await desk.archive.between_us(imported.streams[0].info, 0, ALL, 1 << 24)
    assert all(frame[3] & Flag.SIMULATED for frame in page)
