"""The bedside program against a whole running hub: bound, exact, healed, and ended with clear words."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import aioice.ice
import msgpack
import numpy as np
import pytest
from aiohttp import web
from server_hub import Browser, quiet_port
from server_seed import DEVICE_SECRET, fill
from test_server_session import origin  # noqa: F401 - the fixture of a whole running server

from media.core.waveform import Flag, WaveformFrame, split_message
from media.core.waveform.vitals import VitalSign, read_vital
from media.sources import LiveFormat, LiveItem, LiveSource, PatientReport
from media.sources.simulator import Settings, SimulatedMonitor, Simulator
from server.api.waveforms import OFFICE
from server.app import MEDIA, open_database
from server.bedside.client import Assignment, DataIn, DataOut, Media, Signalling, running
from server.bedside.program import Given, streams_of
from server.bedside.station import CTL, Station
from server.lifecycle import serving
from server.settings import load_settings
from server.storage.database import Database
from server.waveforms.desk import LiveStream
from signaling.core import messages as m
from signaling.core.ids import ConsultId, PatientId
from signaling.core.model import WaveformStream

pytestmark = pytest.mark.timeout(240)

SOON_S = 60.0
PATIENT = PatientId("pt1")
BAND = ("pt1-0002", " PT1-0001")
"""As somebody types them: the other way round, with a space."""


@contextlib.asynccontextmanager
async def member(address: str, login: str = "d1@hub") -> AsyncIterator[tuple[Signalling, m.Joined]]:
    browser = Browser(address)
    await browser.sign_in(login)
    _, issued = await browser.post("/api/consults/c1/token")
    await browser.http.close()
    signalling = Signalling()
    joined = await signalling.open(address, issued["token"])
    try:
        async with running(signalling.follow()):
            yield signalling, joined
    finally:
        await signalling.close()


@contextlib.asynccontextmanager
async def media_of(signalling: Signalling, capabilities: dict[str, Any]) -> AsyncIterator[Media]:
    media = Media(signalling)
    await media.load(capabilities)
    try:
        yield media
    finally:
        await media.close()


@contextlib.asynccontextmanager
async def station(
    address: str, source: LiveSource, bed: Any
) -> AsyncIterator[tuple[Station, list[str], asyncio.Task[None]]]:
    said: list[str] = []
    made = Station(source, await streams_of(source), bed, said.append)
    assignment = Assignment(origin=address, consult="c1", secret=DEVICE_SECRET)
    async with running(made.run(assignment)) as working:
        yield made, said, working
    await source.close()


async def announced(address: str) -> dict[str, Any]:
    """The data producers of the consult by label, once the device's are all there."""
    async with asyncio.timeout(SOON_S):
        while True:
            async with member(address, "n1@hub") as (_, joined):
                found = {p.label: p for p in joined.snapshot.data_producers.values()}
            if {"ecg", "vitals"} <= found.keys():
                return found
            await asyncio.sleep(0.1)


async def collect(source: DataIn, frames: dict[int, WaveformFrame], until_seq: int) -> None:
    async with asyncio.timeout(SOON_S):
        while max(frames, default=-1) < until_seq:
            for part in split_message(await source.messages.get()):
                if part is not None:
                    frames[part.seq] = part


def device_samples(settings: Settings, frame: WaveformFrame) -> np.ndarray:
    """What the device measured there; the index is its own count."""
    simulator = Simulator(settings)
    block = simulator.format.block_samples
    assert frame.first_sample % block == 0
    while simulator.position < frame.first_sample:
        simulator.block(block)
    return simulator.block(frame.n).samples


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


class Swallow(DataOut):
    """A channel of which the network loses the next live messages."""

    def __init__(self, of: DataOut, count: int) -> None:
        super().__init__(of.producer)
        self.left, self.seqs = count, [0]

    def send(self, message: bytes, *, room_bytes: int = 262_144) -> bool:
        if not self.left or split_message(message)[0].flags & Flag.RESEND:
            return super().send(message, room_bytes=room_bytes)
        self.left -= 1
        self.seqs.append(split_message(message)[0].seq)
        return True


async def test_hours_of_a_device_in_a_minute(
    origin: tuple[str, Database],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    """[W8] [W9] [W20] Exact samples and numbers; a killed worker costs none of them; unbound, it stops and says why."""
    address, settings = origin[0], Settings(seed=5, nibp_every_s=10)
    async with member(address) as (signalling, joined):
        await signalling.ask(m.OpenContext(patient=PATIENT), m.Done)
        async with station(address, SimulatedMonitor(settings), Given(BAND)) as (device, _, working):
            producers = await announced(address)
            stream: WaveformStream = producers["ecg"].waveform
            assert (stream.simulated, stream.patient, len(stream.leads)) == (True, PATIENT, 12)
            frames: dict[int, WaveformFrame] = {}
            async with media_of(signalling, joined.router_rtp_capabilities) as media:
                ecg = await media.consume_data(producers["ecg"].id)
                vitals = await media.consume_data(producers["vitals"].id)
                await collect(ecg, frames, 15)
                async with asyncio.timeout(SOON_S):
                    numbers: dict[str, VitalSign] = {}
                    while {"HR", "SpO2", "NIBP"} - numbers.keys():
                        sign = read_vital(await vitals.messages.get())
                        assert isinstance(sign, VitalSign)
                        numbers[sign.code] = sign
                # Half a second is lost on the way, more than an appended frame mends: the hub asks for it. [WF18]
                swallowed = Swallow(device._open.ecg[0], 5)
                device._open.ecg[0] = swallowed
                async with asyncio.timeout(SOON_S):
                    while swallowed.left or set(range(16, max(swallowed.seqs) + 1)) - frames.keys():
                        for part in split_message(await ecg.messages.get()):
                            if part is not None:
                                frames[part.seq] = part
                assert device.resent_frames >= 4
            assert all(n.simulated and n.context_version == 1 for n in numbers.values())
            newest = max(frames.values(), key=lambda f: f.seq)
            assert abs(numbers["HR"].at_us - newest.t0_us) < 30_000_000, "on the hub's clock"
            for frame in list(frames.values())[:5]:
                np.testing.assert_array_equal(frame.samples, device_samples(settings, frame))
                assert Flag.SIMULATED in frame.flags
                assert Flag.CLOCK_UNSYNCED not in frame.flags

            # The worker is killed (and its spare): the device comes back and brings what was measured meanwhile.
            seen, epoch = max(frames), signalling.media_epoch
            for pid in children(os.getpid()):
                os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(SOON_S):
                while signalling.media_epoch == epoch:
                    signalling.changed.clear()
                    await signalling.changed.wait()
            producers = await announced(address)
            async with media_of(signalling, joined.router_rtp_capabilities) as media:
                ecg = await media.consume_data(producers["ecg"].id)
                out = await media.produce_data("ctl", reliable=True)
                await media.consume_data(CTL)
                out.send(msgpack.packb({"t": "have", "stream": stream.stream_id, "seq": seen}))
                async with asyncio.timeout(SOON_S):
                    while not (set(range(seen + 1, max(frames) + 1)) <= frames.keys() and max(frames) > seen + 10):
                        for part in split_message(await ecg.messages.get()):
                            if part is not None:
                                frames[part.seq] = part
            assert device.resent_frames > 0
            ordered = [frames[seq] for seq in range(seen, max(frames))]
            assert all(b.first_sample == a.end_sample for a, b in pairwise(ordered)), "no hole"
            assert sum(Flag.SESSION_RESTART in f.flags for f in ordered[1:]) == 0, "the session goes on"
            np.testing.assert_array_equal(ordered[3].samples, device_samples(settings, ordered[3]))

            # Somebody in the consult ends the binding: the program stops with words.
            who = producers["ecg"].participant
            await signalling.ask(m.UnbindDevice(device=who), m.Done)
            async with asyncio.timeout(SOON_S):
                await working
            said = capsys.readouterr().out
            assert "ended by a person" in said
            assert "confirm two identifiers" in said


class SetToSomebody:
    """A device that says, after a while, whose it is."""

    def __init__(self, reported: str) -> None:
        self._monitor, self._reported = SimulatedMonitor(Settings()), reported

    async def open(self) -> tuple[LiveFormat, ...]:
        return await self._monitor.open()

    async def items(self) -> AsyncIterator[tuple[int, LiveItem]]:
        count = 0
        async for number, item in self._monitor.items():
            yield number, item
            count += 1
            if count == 60:
                yield 0, PatientReport(id=self._reported)

    async def close(self) -> None:
        await self._monitor.close()


async def test_a_device_that_names_another_patient_stops_and_both_are_shown(
    origin: tuple[str, Database],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    """[W22]; and two wrong identifiers bind nothing [W20]."""
    address = origin[0]
    async with member(address) as (signalling, _):
        await signalling.ask(m.OpenContext(patient=PATIENT), m.Done)
        async with station(address, SimulatedMonitor(Settings()), Given(("pt1-0001", "pt2-0002"))) as (_, _, working):
            async with asyncio.timeout(SOON_S):
                await working
            assert "Binding refused" in capsys.readouterr().out

        async with station(address, SetToSomebody("MRN-999"), Given(BAND)) as (_, _, working):
            async with asyncio.timeout(SOON_S):
                await working
        said = capsys.readouterr().out
        assert "MRN-999" in said
        assert "pt1-0001" in said
        async with member(address, "n1@hub") as (_, joined):
            assert not joined.snapshot.bindings
            assert not [p for p in joined.snapshot.data_producers.values() if p.waveform is not None]


async def program(*arguments: str, secret: str = DEVICE_SECRET) -> asyncio.subprocess.Process:
    environment = {**os.environ, "CONSILIUM_DEVICE_SECRET": secret, "PYTHONUNBUFFERED": "1"}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", "bedside", "--consult", "c1", *arguments, env=environment,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    async with asyncio.timeout(SOON_S):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_the_command_streams_until_ctrl_c_and_says_what_it_cannot(
    origin: tuple[str, Database],  # noqa: F811
) -> None:
    """[W20] One command at the bed; every way it cannot work is a sentence and a code, never a traceback."""
    address = origin[0]
    async with member(address) as (signalling, _):
        await signalling.ask(m.OpenContext(patient=PATIENT), m.Done)
        at_the_bed = ("--confirm", BAND[0], "--confirm", BAND[1])
        stranger = await program("--server", address, secret="0" * 43)
        process = await program("--server", address, "--source", "simulator:af", *at_the_bed)
        found = await announced(address)
        assert found["ecg"].waveform.simulated
        process.send_signal(signal.SIGINT)
        code, said = await ended(process)
        assert code == 0, said
        assert "SIMULATED" in said
        assert "Traceback" not in said
        code, said = await ended(stranger)
        assert code == 11, said
        assert "refused this device" in said
        assert "Traceback" not in said


async def test_a_hub_that_restarts_costs_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[W42] [W3] [C21] The device comes back by itself, sends what was measured meanwhile, and the archive goes on.

    So it does when the consult goes on and only the worker with the device has died, of which it is told. [ME17]
    """
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 1_000_000)  # else it finds out by itself, half a minute later
    monitor = Settings(seed=9)
    settings = load_settings({}, data_dir=tmp_path / "data", port=quiet_port(), media_port=0, media_workers=2)
    database = await open_database(settings)
    await fill(database)
    await database.close()
    address = f"http://127.0.0.1:{settings.port}"

    async def archived(app: web.Application, beyond: int) -> LiveStream:
        """The stream, once it is live, whole, and past a number."""
        async with asyncio.timeout(SOON_S):
            while True:
                for live in app[OFFICE].desk.streams("c1"):
                    newest = live.open.state.current.seq
                    if live.live and newest > beyond and not live.open.state.missing(0, newest):
                        return live
                await asyncio.sleep(0.05)

    async with contextlib.AsyncExitStack() as device:
        async with serving(settings) as app:
            async with member(address) as (signalling, _):
                await signalling.ask(m.OpenContext(patient=PATIENT), m.Done)
                pool, home = app[MEDIA].pool, app[MEDIA].home(ConsultId("c1"))
                assert home is not None
                await pool.wait_up(SOON_S, 1 - home)
                pool.loads[home].charge(1.0, 1 << 62)  # full: the device goes to the other one
                made, _, working = await device.enter_async_context(
                    station(address, SimulatedMonitor(monitor), Given(BAND))
                )
                before = await archived(app, 10)
                pid, epoch = pool.workers[1 - home].pid, signalling.media_epoch
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                before = await archived(app, before.open.state.current.seq + 20)
                assert signalling.media_epoch == epoch, "nobody else noticed"
            newest = before.open.state.current.seq
        sent = made.resent_frames
        async with serving(settings) as app:
            after = await archived(app, newest + 20)
            assert after.info == before.info, "one archive"
            assert made.resent_frames > sent
            assert not working.done()
            page, more = await app[OFFICE].desk.archive.between_us(after.info, 0, 2**53 - 1, 1 << 24)
    assert more is None
    frames = [split_message(frame)[0] for frame in page]
    assert [frame.seq for frame in frames] == [*range(len(frames))]
    assert len(frames) > newest + 20
    for frame in (frames[0], frames[newest], frames[newest + 3], frames[-1]):
        np.testing.assert_array_equal(frame.samples, device_samples(monitor, frame))
    for earlier, later in pairwise(frames):
        # a starved monitor leaves samples out by itself and says so; the hub's restart may not
        assert later.first_sample == earlier.end_sample or later.flags & Flag.GAP_BEFORE, "a hole nobody marked"
