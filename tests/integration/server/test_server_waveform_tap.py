"""The tap between a relay and the desk: an application that does not read loses nothing the relay still has.

The relay runs in this process, the device is a real peer; the socket between them is the real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from server_seed import fill

from media.core.control import JsonObject, Request, TapData, VitalsSource, WaveformSource
from media.core.waveform import FrameWriter, StreamFormat, split_message
from server.app import check_schema
from server.clock import server_clock
from server.storage.database import Database
from server.waveforms.blobs import FolderBlobs
from server.waveforms.desk import WaveformDesk
from server.waveforms.heart import Hearts
from server.waveforms.ring import MemoryRing
from server.waveforms.tap import Tapped
from signaling.core.ids import PatientId
from signaling.core.messages import HeartRate
from signaling.core.model import VitalsStream, WaveformStream
from tests.integration.media.inside import Direct
from tests.integration.media.peer import Peer, until

STREAM = WaveformStream(
    stream_id=7, leads=("I", "II"), sample_rate_mhz=500_000, lsb_nv=1000, device="d", simulated=True,
    patient=PatientId("pt1"),
)  # fmt: skip
ORDERED = {"streamId": 0, "ordered": True}


@pytest.fixture
async def direct() -> AsyncIterator[Direct]:
    inside = Direct()
    inside.relay.open_router("c1")
    yield inside
    await inside.relay.close()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[WaveformDesk]:
    database = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    await check_schema(database)
    await fill(database)
    made = WaveformDesk(database, FolderBlobs(tmp_path / "waves"), MemoryRing(), server_clock())
    await made.start()
    yield made
    await made.stop()
    await database.close()


class Monitor:
    """A device with one stream and vital signs."""

    def __init__(self, direct: Direct, desk: WaveformDesk) -> None:
        self.direct, self.desk = direct, desk
        fmt = StreamFormat(stream_id=7, leads=2, sample_rate_mhz=500_000, lsb_nv=1000, simulated=True)
        self.writer = FrameWriter(fmt)
        self.sent: list[bytes] = []
        self.t0_us = desk.now_ms() * 1000

    async def call(self, request: Request) -> JsonObject:
        if isinstance(request, TapData):
            self.direct.relay.tap_data(request.router, request.path, request.key)
        return {}

    async def connect(self) -> None:
        client: Any = self.direct
        peer = Peer(client, "c1", "send")
        await peer.join()
        await self.desk.announce("c1", 0, self.call, STREAM)
        await client.produce_data(peer.id, "wave", "ecg", "", ORDERED, WaveformSource(stream_id=7, simulated=True))
        vitals = {"streamId": 1, "ordered": True}
        await client.produce_data(peer.id, "numbers", "vitals", "", vitals, None, VitalsSource(simulated=True))
        self.desk.begun("c1", 7, "wave")
        self.desk.vitals_begun("c1", "numbers", VitalsStream(device="d", simulated=True, patient=PatientId("pt1")))
        self.channel = await peer.channel(ORDERED, "ecg")
        self.numbers = await peer.channel(vitals, "vitals")
        await until(lambda: self.channel.is_open and self.numbers.is_open, "channels")

    def send(self, count: int, signal: Any = None) -> None:
        for _ in range(count):
            at = 50 * len(self.sent)
            block = np.zeros((2, 50), np.int16) if signal is None else np.ascontiguousarray(signal[:, at : at + 50])
            message = self.writer.write(block, t0_us=self.t0_us + at * 2000, context_version=1)
            self.channel.send(message)
            self.sent.append(split_message(message)[0].encoded)


async def test_an_application_that_does_not_read_gets_everything_once_it_does(
    direct: Direct, desk: WaveformDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[WF8] The oldest records give way, that is said, and the relay's ring fills the hole; media never waits."""
    monkeypatch.setattr("media.aio.tap.QUEUE_BYTES", 4_000)
    monitor = Monitor(direct, desk)
    await monitor.connect()
    live = desk.stream("c1", 7)
    assert live is not None
    monitor.send(5)
    await until(lambda: live.open.state.frames == 5, "frames")
    connection = desk.taps.connection(Tapped("c1", 0))
    assert connection is not None
    assert connection._transport is not None
    connection._transport.pause_reading()
    dropped = direct.relay.counters.values
    await until(lambda: monitor.send(40) or dropped["tap_dropped"] > 50, "records give way")
    connection._transport.resume_reading()
    await until(lambda: live.open.state.frames == len(monitor.sent), "everything")
    page, _ = await desk.archive.between_us(live.info, 0, 2**53 - 1, 1 << 24)
    assert page == monitor.sent
    assert (live.open.state.summary.lost, live.open.state.summary.gaps) == (0, 0)


async def test_a_tap_that_breaks_is_opened_again_and_what_was_missed_is_asked_for(
    direct: Direct, desk: WaveformDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker lives on: nobody else notices."""
    monkeypatch.setattr("server.waveforms.desk.ASK_AGAIN_S", 0.05)
    monitor = Monitor(direct, desk)
    await monitor.connect()
    live = desk.stream("c1", 7)
    assert live is not None
    monitor.send(3)
    await until(lambda: live.open.state.frames == 3, "frames")
    connection = desk.taps.connection(Tapped("c1", 0))
    assert connection is not None
    connection.close()
    monitor.send(20)
    await until(lambda: live.open.state.frames == 23, "everything")
    monitor.numbers.send(
        msgpack.packb({"t": "vital", "cv": 1, "code": "SpO2", "v": 97, "u": "%", "at": 5, "q": "ok", "sim": True})
    )
    monitor.numbers.send(b"nonsense")
    monitor.numbers.send(
        msgpack.packb({"t": "vital", "cv": 1, "code": "SpO2", "v": 97, "u": "%", "at": 5, "q": "ok", "sim": False})
    )
    counters = direct.relay.counters.values
    await until(lambda: counters["vitals_simulated_flag"] == 1, "a number that hides where it is from (W9)")
    assert counters["vitals_malformed"] == 1
    await until(lambda: len(desk._vital_rows) == 1, "the sound one")
    reader, writer = await asyncio.open_unix_connection(desk.taps._path)
    writer.write(bytes(16))
    assert await asyncio.wait_for(reader.read(), 60) == b""  # a stranger is shown the door
    writer.close()


async def test_the_heart_rate_of_a_live_stream_is_told(direct: Direct, desk: WaveformDesk) -> None:
    """[EC7] Computed in a process of its own, from the samples that came through the relay; gone when they stop."""
    t = np.arange(15 * 500) / 500
    phase = t * 75 / 60 % 1 * 60 / 75
    wave = 1000 * np.exp(-(((phase - 0.2) / 0.012) ** 2)) + np.random.default_rng(1).normal(0, 5, (2, len(t)))
    told: list[HeartRate] = []
    monitor = Monitor(direct, desk)
    now_us = [monitor.t0_us + 12_000_000]
    hearts = Hearts(desk, lambda consult, rate: told.append(rate) if consult == "c1" else None, lambda: now_us[0])
    await monitor.connect()
    monitor.send(120, wave.astype(np.int16))
    live = desk.stream("c1", 7)
    assert live is not None
    await until(lambda: live.open.state.frames == 120, "twelve seconds")
    hearts.start()
    try:
        await until(lambda: any(rate.bpm is not None for rate in told), "a rate")
        rate = next(rate for rate in told if rate.bpm is not None)
        assert abs(rate.bpm - 75) <= 1
        assert (rate.stream_id, rate.context_version, rate.unsure) == (7, 1, False)
        assert len(rate.beats_us) >= 8
        now_us[0] += 10_000_000
        await until(lambda: told[-1].bpm is None and told[-1].unsure, "no rate of old samples (W8)")
    finally:
        await hearts.stop()
