"""`consilium demo` as a person meets it: real processes, real sockets, a real worker that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from load_tests.rig.demo_process import Demo, demo
from media.core.waveform import Flag, WaveformFrame, split_message
from server.bedside.client import DataIn, Media, Signalling, running
from signaling.core import messages as m
from signaling.core.ids import DataProducerId, PatientId
from signaling.core.model import Consult, WaveformStream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

SOON_S = 100.0


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "data"


async def doctor_token(hub: Demo) -> str:
    """A consult token of the first sample doctor, as the sign-in page would get it."""
    config: Any = await asyncio.to_thread(hub.api, "/api/config")
    login = next(one for one in config["demo_logins"] if one["role"] == "doctor")
    async with aiohttp.ClientSession(headers={"Origin": hub.url}) as http:
        credentials = {"login": login["login"], "password": login["password"]}
        async with http.post(hub.url + "/api/session", json=credentials) as answer:
            assert answer.status == 200
            cookie = answer.headers["Set-Cookie"].split(";")[0]
        signed_in = {"Cookie": cookie}
        async with http.get(hub.url + "/api/consults", headers=signed_in) as answer:
            consults = (await answer.json())["consults"]
        running_one = next(one["id"] for one in consults if one["status"] == "open")
        path = f"{hub.url}/api/consults/{running_one}/token"
        async with http.post(path, json={}, headers=signed_in) as answer:
            return str((await answer.json())["token"])


@contextlib.asynccontextmanager
async def doctor(hub: Demo) -> AsyncIterator[tuple[Signalling, m.Joined]]:
    signalling = Signalling()
    joined = await signalling.open(hub.url, await doctor_token(hub))
    try:
        async with running(signalling.follow()):
            yield signalling, joined
    finally:
        await signalling.close()


async def complete(hub: Demo) -> Consult:
    """The consult once both simulators send everything."""
    async with asyncio.timeout(SOON_S):
        while True:
            async with doctor(hub) as (_, joined):
                consult = joined.snapshot
            if len(consult.producers) == 2 and wave_of(consult) is not None:
                return consult
            await asyncio.sleep(0.3)


def wave_of(consult: Consult) -> tuple[str, WaveformStream] | None:
    return next(((d.id, d.waveform) for d in consult.data_producers.values() if d.waveform is not None), None)


async def frames(source: DataIn, count: int) -> list[WaveformFrame]:
    async with asyncio.timeout(SOON_S):
        return [split_message(await source.messages.get())[0] for _ in range(count)]


@contextlib.asynccontextmanager
async def ecg(signalling: Signalling, joined: m.Joined) -> AsyncIterator[DataIn]:
    wave = wave_of(joined.snapshot)
    assert wave is not None
    media = Media(signalling)
    await media.load(joined.router_rtp_capabilities)
    try:
        yield await media.consume_data(DataProducerId(wave[0]))
    finally:
        await media.close()


async def test_a_doctor_finds_a_live_consult_and_everything_heals(data_dir: Path) -> None:
    """One life of the demo: what is there, the ECG of the bound patient only, a killed worker, Ctrl-C."""
    with demo(data_dir) as hub:
        consult = await complete(hub)
        assert {p.role.value for p in consult.participants.values() if p.simulated} == {"room", "device"}
        assert {p.kind for p in consult.producers.values()} == {"audio", "video"}
        assert consult.context is not None
        assert consult.context.patient.test

        # [W9] [W20] [W5] One session of leads that agree with each other, marked, under the open context's version.
        async with doctor(hub) as (signalling, joined), ecg(signalling, joined) as source:
            got = await frames(source, 40)
            ends = {frame.seq + 1: frame.end_sample for frame in got}
            assert all(frame.first_sample == ends.get(frame.seq, frame.first_sample) for frame in got)
            for frame in got:
                one, two, three = frame.samples[:3].astype(int)
                assert np.abs(three - (two - one)).max() <= 1
                assert np.ptp(frame.samples) > 0
                assert Flag.SIMULATED in frame.flags
                assert Flag.CLOCK_UNSYNCED not in frame.flags
                assert frame.context_version == consult.context.version

            # [BI5] [W20] [W21] Another patient is opened: the binding is over, and everything the device sent with it.
            bound = next(iter(joined.snapshot.bindings.values()))
            assert (bound.device, bound.context_version) == (bound.bound_by, consult.context.version)
            await signalling.ask(m.OpenContext(patient=PatientId("demo-gu")), m.Done)
        async with doctor(hub) as (signalling, joined):
            assert (joined.snapshot.bindings, wave_of(joined.snapshot)) == ({}, None)
            await signalling.ask(m.OpenContext(patient=consult.context.patient.id), m.Done)

        # Back, the simulator confirms its patient anew, and the wave runs under the new version.
        back = await complete(hub)
        assert back.context is not None
        assert back.context.version == consult.context.version + 2
        async with doctor(hub) as (signalling, joined), ecg(signalling, joined) as source:
            assert {frame.context_version for frame in await frames(source, 20)} == {back.context.version}

        # The worker is killed: both simulators come back by themselves.
        before = hub.worker_pid()
        assert before is not None
        os.kill(before, signal.SIGKILL)
        async with asyncio.timeout(SOON_S):
            while (healed := await complete(hub)).media_epoch == consult.media_epoch:
                await asyncio.sleep(0.3)
        async with doctor(hub) as (signalling, joined), ecg(signalling, joined) as source:
            assert len(await frames(source, 20)) == 20
        assert set(healed.participants) == set(consult.participants), "the same participants, none twice"

        # Ctrl-C: everything ends, in silence.
        children = set(hub.children())
        assert len(children) >= 3
        assert hub.stop() == 0
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
        log = hub.log.read_text()
        assert "Traceback" not in log
        assert "Stopped. The data stays in" in log


async def until(condition: Any) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.05)


def children_of(pid: int) -> set[int]:
    """Direct children, the simulators and the worker among them."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(entry.name))
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that still run; a zombie does not."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.add(pid)
    return found


async def test_a_demo_that_is_killed_leaves_nothing_running_and_starts_again_on_its_data(data_dir: Path) -> None:
    """No signal handler runs at SIGKILL: the children see the end of their orders and go. The next life goes on where
    this one ended: same consult, nothing seeded or drawn twice."""
    with demo(data_dir) as hub:
        first = await complete(hub)
        children = children_of(hub.process.pid)
        assert len(children) >= 3
        hub.process.kill()
        hub.process.wait(10)
        await until(lambda: not alive(children))
    with demo(data_dir) as hub:
        consult = await complete(hub)
        assert consult.id == first.id
        assert consult.context is not None
        assert consult.context.patient.id == "demo-shen"
        assert hub.stop() == 0
        log = hub.log.read_text()
    assert "100 %" not in log, "the film was made again"
    assert "Traceback" not in log


def test_a_port_in_use_is_told_and_another_is_taken(data_dir: Path) -> None:
    """And Ctrl-C as a terminal sends it: to every process of the group at once."""
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "server", "demo", "--data-dir", str(data_dir), "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ
            | {"PYTHONUNBUFFERED": "1", "CONSILIUM_MEDIA_ADDRESSES": "127.0.0.1", "CONSILIUM_MEDIA_PORT": "0"},
        )
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Stop "):
                break
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=90)

    assert "Traceback" not in rest
    assert f"Port {port} is in use by another program" in "".join(lines)
    opened = next(line for line in lines if line.startswith("Open"))
    assert f":{port} " not in opened
    assert process.returncode == 0, "".join(lines) + rest


def test_a_data_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = subprocess.run(
        [sys.executable, "-m", "server", "demo", "--data-dir", str(tmp_path / "file" / "data"), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_while_it_is_still_preparing_is_a_clean_end(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "demo", "--data-dir", str(tmp_path / "data"), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ
        | {"PYTHONUNBUFFERED": "1", "CONSILIUM_MEDIA_ADDRESSES": "127.0.0.1", "CONSILIUM_MEDIA_PORT": "0"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "25 %" in line:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    assert "Traceback" not in rest
    assert not list((tmp_path / "data" / "media").glob("*.webm")), "half a film must not look whole"
