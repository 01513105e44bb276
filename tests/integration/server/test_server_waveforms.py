"""Waveforms through the whole server: relay, tap, ring, archive, list, frames, exports, strips, WebSocket.

One server with a real worker; a device and a viewer are real peers (ICE, DTLS, SCTP). The device plays pydicom's
12-lead record. What is compared is samples: those that were sent against those that come out.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
import signal
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import msgpack
import numpy as np
import pydicom
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from server_hub import Browser, quiet_port
from server_seed import PASSWORD, QUICK, fill
from sqlalchemy import func, select, update

from media.core.waveform import FrameWriter, StreamFormat, WaveformFrame, parse_frame, split_message
from server.api.services import SERVICES
from server.api.waveforms import OFFICE, SNAPSHOTS
from server.app import MEDIA, check_schema, prepare_data_dir
from server.identity.aio.passwords import Passwords
from server.imaging.find import binary_id
from server.lifecycle import serving
from server.record.aio.store import put_resource
from server.settings import load_settings
from server.storage.database import Database
from server.storage.fhir_tables import FhirResource
from server.storage.models import ConsultMember, EventRow, VitalSignRow, WaveformArchiveRow
from server.storage.seeding import add_person
from server.waveforms.desk import WaveformDesk
from signaling.core import messages as m
from signaling.core.ids import ConsultId, ParticipantId, PatientId
from signaling.core.model import (
    ConsultStatus,
    Context,
    EcgSettings,
    EcgState,
    Participant,
    Role,
    VitalsStream,
    WaveformStream,
)
from signaling.core.ports import SnapshotOrder
from tests.integration.media.peer import Peer, until

# One consult from its first frame to its seal: the tests are its chapters, in their order, in one process.
pytestmark = pytest.mark.asyncio(loop_scope="module")
CONSULT, DEVICE = ConsultId("c1"), ParticipantId("p_device")
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
SETTINGS = EcgSettings(
    speed=25, gain=10, layout="12x1", order="standard", filter="off", calibration="cal-1", software="web 1"
)


class Hands:
    """Gives a `Peer` its Transport through the media plane."""

    def __init__(self, server: Server, who: ParticipantId) -> None:
        self.server, self.who = server, who

    async def create_transport(self, _router: str, _id: str, _owner: str, direction: str) -> dict[str, Any]:
        made = await self.server.call(self.who, m.CreateTransport.model_validate({"direction": direction}))
        assert isinstance(made, m.TransportOptions)
        self.made = made.id
        return made.model_dump()

    async def connect_transport(self, _id: str, dtls_parameters: dict[str, Any]) -> None:
        await self.server.call(self.who, m.ConnectTransport(transport=self.made, dtls_parameters=dtls_parameters))


class Server:
    """A running server and the hands of a test on it."""

    def __init__(self, app: Any, origin: str) -> None:
        self.app, self.origin = app, origin
        self.browsers: list[Browser] = []

    @property
    def desk(self) -> WaveformDesk:
        return self.app[OFFICE].desk  # type: ignore[no-any-return]

    async def call(self, who: ParticipantId, command: Any) -> Any:
        return await self.app[MEDIA].call(CONSULT, who, command)

    async def open_context(self, patient: str, version: int) -> None:
        """As an event of signalling would, which has tests of its own."""
        store = self.app[SERVICES].store
        state = await store.load(CONSULT)
        banner = await store.patient(CONSULT, PatientId(patient))
        assert banner is not None
        opened = Context(version=version, patient=banner, opened_at_ms=1, opened_by=DEVICE)
        changes = {"context": opened, "context_version": version, "revision": state.revision + 1}
        await store.commit(state, state.model_copy(update=changes), [], None)

    async def admit(self, who: str) -> None:
        store = self.app[SERVICES].store
        state = await store.load(CONSULT)
        people = {
            **state.participants,
            who: Participant(id=ParticipantId(who), role=Role.DOCTOR, name="d", joined_at_ms=1),
        }
        await store.commit(
            state, state.model_copy(update={"participants": people, "revision": state.revision + 1}), [], None
        )

    async def end(self) -> None:
        store = self.app[SERVICES].store
        state = await store.load(CONSULT)
        over = {"status": ConsultStatus.ENDED, "context": None, "revision": state.revision + 1}
        await store.commit(state, state.model_copy(update=over), [], None)
        await self.app[MEDIA].close(CONSULT)

    async def browser(self, login: str = "d1@hub") -> Browser:
        browser = Browser(self.origin)
        self.browsers.append(browser)
        await browser.sign_in(login)
        return browser

    async def raw(self, browser: Browser, path: str, status: int = 200) -> tuple[bytes, Any]:
        async with browser.http.get(path, headers={"Origin": self.origin}) as response:
            body = await response.read()
            assert response.status == status, (path, response.status, body[:300])
            return body, response.headers


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    folder: Path = tmp_path_factory.mktemp("waveforms")
    port = quiet_port()
    settings = load_settings({}, port=port, data_dir=folder / "data", media_port=0, media_workers=1)
    prepare_data_dir(settings.data_dir)
    database = Database(settings.database)
    await check_schema(database)
    await fill(database)
    await database.close()
    async with serving(settings) as app:
        running = Server(app, f"http://127.0.0.1:{port}")
        await app[MEDIA].open(CONSULT)
        await running.open_context("pt1", 3)
        yield running
        for browser in running.browsers:
            await browser.http.close()


def source_samples() -> NDArray[np.int16]:
    found = pydicom.data.get_testdata_file("waveform_ecg.dcm", download=False)
    dataset = pydicom.dcmread(str(found))
    group = dataset.WaveformSequence[0]
    return np.frombuffer(group.WaveformData, "<i2").reshape(-1, 12).T.astype(np.int16).copy()


def stream(stream_id: int, patient: str = "pt1") -> WaveformStream:
    return WaveformStream(
        stream_id=stream_id, leads=LEADS, sample_rate_mhz=1_000_000, lsb_nv=1250, device="bedside",
        filter="0.05-150 Hz", simulated=True, patient=PatientId(patient),
    )  # fmt: skip


class Device:
    """A bedside device: its peer, its numbering, what it sent."""

    def __init__(self, server: Server, stream_id: int, version: int = 3) -> None:
        self.server, self.stream = server, stream(stream_id)
        self.version = version
        self.samples = source_samples()
        fmt = StreamFormat(stream_id=stream_id, leads=12, sample_rate_mhz=1_000_000, lsb_nv=1250, simulated=True)
        self.writer = FrameWriter(fmt)
        self.t0_us = self.server.app[SERVICES].now_ms() * 1000 - 9_000_000
        self.sent: dict[int, WaveformFrame] = {}
        self.at = 0

    async def connect(self) -> None:
        hands = Hands(self.server, DEVICE)
        peer = Peer(hands, "", "send", owner=DEVICE)  # type: ignore[arg-type]
        await peer.join()
        params = {"streamId": 0, "ordered": False, "maxRetransmits": 0}
        wave = m.ProduceData(transport=hands.made, label="ecg", sctp_stream_parameters=params, waveform=self.stream)
        await self.server.call(DEVICE, wave)
        vital = VitalsStream(device="bedside", simulated=True, patient=PatientId("pt1"))
        ordered = {"streamId": 1, "ordered": True}
        await self.server.call(
            DEVICE, m.ProduceData(transport=hands.made, label="vitals", sctp_stream_parameters=ordered, vitals=vital)
        )
        self.channel = await peer.channel(params, "ecg")
        self.vitals = await peer.channel(ordered, "vitals")
        await until(lambda: self.channel.is_open and self.vitals.is_open, "channels")
        self.peer = peer

    def send(self, frames: int, *, keep: bool = True) -> None:
        """Blocks of 50 samples; ``keep`` False: never leaves the device (lost)."""
        for _ in range(frames):
            first = self.at % (self.samples.shape[1] - 50)
            block = np.ascontiguousarray(self.samples[:, first : first + 50])
            message = self.writer.write(block, t0_us=self.t0_us + self.at * 1000, context_version=self.version)
            self.at += 50
            if keep:
                frame, _ = split_message(message)
                self.sent[frame.seq] = frame
                # alone: a frame that is lost in these tests is not repaired by the one after it
                self.channel.send(frame.encoded)

    def skip(self, samples: int) -> None:
        self.writer.skip(samples)
        self.at += samples

    async def archived(self, count: int) -> None:
        live = self.server.desk.stream(CONSULT, self.stream.stream_id)
        assert live is not None
        await until(lambda: live.open.state.frames >= count, f"{count} frames")


def records(body: bytes) -> list[WaveformFrame]:
    frames, at = [], 0
    while at < len(body):
        size = int.from_bytes(body[at : at + 4], "little")
        frames.append(parse_frame(body[at + 4 : at + 4 + size]))
        at += 4 + size
    return frames


async def test_what_was_sent_is_what_is_stored_listed_served_and_exported(server: Server) -> None:
    """[W2] [W10] Samples, holes and numbers survive tap, archive, a worker's death and both export formats exactly."""
    device = Device(server, 71)
    await device.connect()
    device.send(20)
    device.skip(37)
    device.send(10)
    device.send(2, keep=False)
    device.send(10)
    await device.archived(40)
    for number in range(3):
        device.vitals.send(
            msgpack.packb({"t": "vital", "cv": 3, "code": "HR", "v": 70 + number, "u": "/min",
                           "at": device.t0_us + number * 1_000_000, "q": "ok", "sim": True})
        )  # fmt: skip
    device.vitals.send(msgpack.packb({"t": "vital", "cv": 3, "code": "HR", "v": 1, "u": "", "at": 5, "q": "ok"}))

    await until(lambda: len(server.desk._vital_rows) == 3, "three vital signs; the unmarked one is refused (W9)")

    worker = server.app[MEDIA].pool.workers[0]
    restarts = worker.restarts
    os.kill(worker.pid, signal.SIGKILL)
    await until(lambda: worker.restarts > restarts, "another worker")
    await server.app[MEDIA].open(CONSULT)
    await device.peer.close()
    await device.connect()
    device.send(30)
    await device.archived(70)

    doctor = await server.browser()
    status, listed = await doctor.get("/api/consults/c1/waveforms?version=3")
    assert status == 200
    assert len(listed) == 1
    entry = listed[0]
    assert (entry["stream_id"], entry["kind"], entry["simulated"], entry["patient"]) == (71, "live", True, "pt1")
    assert (entry["frames"], entry["gaps"], entry["lost"], entry["live"]) == (70, 2, 2, True)
    assert (entry["context_version"], entry["leads"]) == (3, list(LEADS))

    body, _ = await server.raw(doctor, "/api/consults/c1/waveforms/71/frames?version=3")
    got = records(body)
    assert [frame.seq for frame in got] == sorted(device.sent)
    assert all(frame.encoded == device.sent[frame.seq].encoded for frame in got)
    body, _ = await server.raw(doctor, "/api/consults/c1/waveforms/71/frames?first=25&last=33")
    assert [frame.seq for frame in records(body)] == [25, 26, 27, 28, 29, 32, 33]
    from_us = device.sent[5].t0_us
    body, _ = await server.raw(
        doctor, f"/api/consults/c1/waveforms/71/frames?from_us={from_us}&to_us={from_us + 150_000}"
    )
    assert [frame.seq for frame in records(body)] == [5, 6, 7]

    status, told = await doctor.get("/api/consults/c1/waveforms/71/timeline?version=3")
    assert status == 200
    gaps = [(one["from_us"], one["to_us"]) for one in told["breaks"] if one["kind"] == "gap"]
    assert told["count"] == len(told["breaks"])
    assert gaps[:2] == [
        (device.sent[19].t0_us + 50_000, device.sent[20].t0_us),
        (device.sent[29].t0_us + 50_000, device.sent[32].t0_us),
    ]

    want, held = expected(device)
    body, headers = await server.raw(doctor, "/api/consults/c1/waveforms/71.dcm")
    assert headers["Content-Disposition"] == 'attachment; filename="ecg_71.dcm"'
    dataset = pydicom.dcmread(io.BytesIO(body))
    (group,) = dataset.WaveformSequence
    samples = np.frombuffer(group.WaveformData, "<i2").reshape(-1, 12).T
    padding = int.from_bytes(group[0x5400100A].value[:2], "little", signed=True)
    assert (samples == np.where(held, want, padding)).all()
    texts = [item.UnformattedTextValue for item in dataset.WaveformAnnotationSequence]
    assert texts[0] == "SIMULATED: not from a person"
    assert {"lost", "source_gap"} <= set(texts)
    body, _ = await server.raw(doctor, "/api/consults/c1/waveforms/71.wfdb.zip")
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        names = archive.namelist()
        vitals = [name for name in names if name.endswith("vital_signs.fhir.json")]
        import json

        bundle = json.loads(archive.read(vitals[0]))
    assert [one["resource"]["valueQuantity"]["value"] for one in bundle["entry"]] == [70, 71, 72]


def expected(device: Device) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Every sample that was sent, at its index; and where there is none."""
    total = max(frame.end_sample for frame in device.sent.values())
    want, held = np.zeros((12, total), np.int16), np.zeros((12, total), np.bool_)
    for frame in device.sent.values():
        want[:, frame.first_sample : frame.end_sample] = frame.samples
        held[:, frame.first_sample : frame.end_sample] = True
    return want, held


async def test_a_strip_is_stored_with_its_record_and_prints_the_same_again(server: Server) -> None:
    """[W33] [W45] [W15] [W9] Frames, identity, settings, gaps and hash; the print is a function of what is stored."""
    device = Device(server, 72)
    await device.connect()
    device.send(150)
    device.send(4, keep=False)
    device.send(246)
    await device.archived(396)
    snapshots, store = server.app[SNAPSHOTS], server.app[SERVICES].store
    banner = await store.patient(CONSULT, PatientId("pt1"))
    assert banner is not None
    order = SnapshotOrder(
        id="strip1", consult=CONSULT, patient=banner, context_version=3, stream_id=72, at_us=device.t0_us + 10_000_000,
        by=ParticipantId("p_d1"), at_ms=1, settings=SETTINGS, age_ms=180, state=EcgState.LIVE,
    )  # fmt: skip
    await snapshots.order_snapshot(order)
    made = await asyncio.wait_for(snapshots.snapshot_stored("strip1"), 60)
    assert (made.gaps, made.lost) == (1, 200)
    assert (made.from_us, made.to_us) == (device.t0_us, device.t0_us + 19_999_000)

    doctor = await server.browser()
    frames, _ = await server.raw(doctor, "/api/consults/c1/snapshots/strip1.ecg")
    assert hashlib.sha256(frames).hexdigest() == made.sha256
    assert [f.encoded for f in records(frames)] == [device.sent[seq].encoded for seq in sorted(device.sent)]
    status, described = await doctor.get("/api/consults/c1/snapshots/strip1")
    assert status == 200
    assert described["order"]["settings"]["calibration"] == "cal-1"
    svg, headers = await server.raw(doctor, "/api/consults/c1/snapshots/strip1.svg")
    again, _ = await server.raw(doctor, "/api/consults/c1/snapshots/strip1.svg")
    assert svg == again
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    text = svg.decode()
    for wanted in ("SIMULATED", "张桂兰", "pt1-0001", "pt1-0002", "25 mm/s", "10 mm/mV", made.sha256, "cal-1", "web 1",
                   "LOST", "Not for defibrillation", "0.05-150 Hz", "1948-03-09"):  # fmt: skip
        assert wanted in text, wanted
    printed, _ = await server.raw(doctor, "/api/consults/c1/snapshots/strip1.pdf")
    status, documents = await doctor.get("/api/consults/c1/record/DocumentReference?version=3")
    (document,) = [one["resource"] for one in documents["entry"] if one["resource"]["id"] == "ecg-strip1"]
    binary, _ = await server.raw(
        doctor, f"/api/consults/c1/record/{document['content'][0]['attachment']['url']}?version=3"
    )
    assert binary == printed
    await server.raw(doctor, "/api/consults/c1/snapshots/other", 404)


async def test_a_websocket_gets_what_a_data_channel_would(server: Server) -> None:
    """[WF10] [W24] Live frames of the open context only, ping, nack and have; whoever is not here gets nothing."""
    device = Device(server, 73)
    await device.connect()
    device.send(10)
    await device.archived(10)
    doctor = await server.browser()
    headers = {"Origin": server.origin}
    token = (await doctor.post("/api/consults/c1/token"))[1]
    async with doctor.http.ws_connect("/ws/waveforms", headers=headers) as ws:
        await ws.send_bytes(b"\0" + msgpack.packb({"t": "hello", "token": token["token"]}))
        assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE  # a member, but not in the consult
        assert ws.close_code == 4403
    await server.admit(token["participant"])
    async with doctor.http.ws_connect("/ws/waveforms", headers=headers) as ws:
        await ws.send_bytes(b"\0" + msgpack.packb({"t": "hello", "token": token["token"]}))
        await ws.receive()
        assert ws.close_code == 4401  # used before
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await doctor.http.ws_connect("/ws/waveforms", headers={"Origin": "https://elsewhere.example"})

    token = (await doctor.post("/api/consults/c1/token"))[1]["token"]
    async with doctor.http.ws_connect("/ws/waveforms", headers=headers) as ws:
        got: list[WaveformFrame] = []
        said: list[dict[str, Any]] = []

        async def listen(until_frames: int, until_said: int) -> None:
            async with asyncio.timeout(60):
                while len(got) < until_frames or len(said) < until_said:
                    data = await ws.receive_bytes()
                    if data[0] == 1 and data[1:3] == b"EC":
                        got.append(parse_frame(data[1:]))
                    elif data[0] == 0:
                        said.append(msgpack.unpackb(data[1:]))

        def ask(**fields: Any) -> Any:
            return ws.send_bytes(b"\0" + msgpack.packb(fields))

        await ask(t="hello", token=token)
        await listen(0, 1)
        assert said[0]["t"] == "welcome"
        await ask(t="ping", c=5)
        await ask(t="have", stream=73, seq=3)
        await listen(6, 2)
        assert (said[1]["t"], said[1]["c"]) == ("pong", 5)
        assert abs(said[1]["s"] - server.app[SERVICES].now_ms() * 1000) < 60_000_000
        assert [frame.seq for frame in got] == [4, 5, 6, 7, 8, 9]
        device.send(3, keep=False)
        device.send(5)
        await listen(11, 2)
        assert [frame.seq for frame in got[6:]] == [13, 14, 15, 16, 17]
        await ask(t="nack", stream=73, first=8, last=12)
        await listen(13, 3)
        assert said[2] == {"t": "gone", "stream": 73, "first": 10, "last": 12}
        assert [frame.seq for frame in got[11:]] == [8, 9]
        # another patient: not a frame of the one before, asked for or not
        await server.open_context("pt2", 4)
        await until(lambda: all(c.version == 4 for c in contexts(server)), "the context has moved on")
        device.send(3)
        await device.archived(18)
        await ask(t="nack", stream=73, first=1, last=5)
        await ask(t="ping", c=6)
        await listen(13, 4)
        assert len(got) == 13
        assert said[3]["c"] == 6
    status, listed = await doctor.get("/api/consults/c1/waveforms")
    assert (status, listed) == (200, [])
    await server.raw(doctor, "/api/consults/c1/waveforms/73/frames", 404)
    await server.raw(doctor, "/api/consults/c1/waveforms/73/frames?version=3", 409)
    await server.open_context("pt1", 5)


def contexts(server: Server) -> list[Any]:
    handlers = [r.handler for r in server.app.router.routes() if r.resource and r.resource.canonical == "/ws/waveforms"]
    return list(handlers[0].__self__._contexts.values())


async def test_an_uploaded_recording_becomes_a_stream_of_the_open_patient(server: Server) -> None:
    """[W10] [W22] Every sample as in the file; a file of somebody else is refused with the id that it names."""
    doctor = await server.browser()
    source = Path(str(pydicom.data.get_testdata_file("waveform_ecg.dcm", download=False))).read_bytes()

    async def upload(data: bytes, **fields: str) -> tuple[int, Any]:
        form = aiohttp.FormData()
        for name, value in fields.items():
            form.add_field(name, value)
        form.add_field("file", data, filename="a.dcm")
        async with doctor.http.post(
            "/api/consults/c1/waveforms", data=form, headers={"Origin": server.origin}
        ) as response:
            return response.status, await response.json()

    status, answer = await upload(source, patient="pt1", title="ECG of last year")
    assert (status, answer["error"]["code"]) == (409, "patient_differs")
    assert answer["error"]["reported"]
    status, answer = await upload(source, patient="pt1", title="ECG of last year", patient_checked="true")
    assert status == 201, answer
    (entry,) = answer["streams"]
    assert (entry["kind"], entry["title"], entry["frames"], entry["gaps"]) == ("import", "ECG of last year", 200, 0)
    assert entry["sha256"]
    told = {notice["code"]: notice for notice in answer["notices"]}
    assert told["notice_no_zone"]["en"].startswith("The file's time has no time zone")
    assert "UTC" in told["notice_no_zone"]["zh"]
    body, _ = await server.raw(doctor, f"/api/consults/c1/waveforms/{entry['stream_id']}/frames")
    frames = records(body)
    samples = np.concatenate([frame.samples for frame in frames], axis=1)
    assert (samples == source_samples()).all()
    assert hashlib.sha256(body).hexdigest() == entry["sha256"]
    status, beats = await doctor.get(f"/api/consults/c1/waveforms/{entry['id']}/beats")
    assert status == 200
    assert 8 <= len(beats["beats_us"]) <= 20
    assert beats["computed"] is True
    for data, code in ((b"nothing", "file_unreadable"), (source[:4000], "file_unreadable")):
        status, answer = await upload(data, patient="pt1", title="x")
        assert (status, answer["error"]["code"]) == (422, code), answer
    assert (await upload(source, patient="pt2", title="x"))[0] == 409
    assert (await upload(source, patient="pt1", title="x", other="1"))[0] == 400
    await _answer_an_ask_with(server, doctor, source)


async def _answer_an_ask_with(server: Server, doctor: Browser, source: bytes) -> None:
    """[C26] [W22] A recording answers a case pack's ask: kept as a recording, its own time in the record."""
    async with server.app[SERVICES].database.write() as session:
        await add_person(session, Passwords(QUICK), id="e1", hospital="north", name="何", role="doctor",
                         login="e1@north", password=PASSWORD)  # fmt: skip
        session.add(ConsultMember(consult_id="c1", kind="person", subject_id="e1", role="doctor"))
    pack, wanted = "/api/consults/c1/casepack/pt1", {"specialty": "cardiology", "part": "ecg-12-lead"}
    status, asked = await doctor.post(f"{pack}/asks", wanted)
    assert (status, asked["ask"]["status"], asked["ask"]["reaches"]) == (201, "asked", 1), asked
    partner = await server.browser("e1@north")

    async def answer(**fields: str) -> tuple[int, Any]:
        form = aiohttp.FormData()
        for name, value in fields.items():
            form.add_field(name, value)
        form.add_field("file", source, filename="a.dcm")
        return await partner.send("POST", f"/api/consults/c1/casepack-asks/{asked['ask']['id']}/answer", data=form)

    status, refused = await answer(title="ECG")
    assert (status, refused["error"]["code"]) == (409, "patient_differs"), refused
    assert (await answer(title="ECG", patient_checked="true"))[0] == 200
    assert (await answer(title="ECG", patient_checked="true"))[1]["error"]["code"] == "ask_closed"
    # The strip of this hour would be the better evidence; once it is taken back, it is none.
    async with server.app[SERVICES].database.write() as session:
        for row in (await session.scalars(select(FhirResource).where(FhirResource.type == "DocumentReference"))).all():
            if row.id.startswith("ecg-strip"):
                taken_back = {**json.loads(row.json), "status": "entered-in-error"}
                await put_resource(session, taken_back, actor="test", at_ms=1)
    _status, draft = await doctor.post(f"{pack}/draft", {"specialty": "cardiology", "request": {}})
    part = next(one for one in draft["findings"] if one["part"] == "ecg-12-lead")
    # The file is of 2004 or so: as old as its first sample, however lately it came.
    assert (part["state"], part["why"]) == ("stale", "too_old"), part
    status, streams = await doctor.get("/api/consults/c1/waveforms")
    assert part["evidence"] in {f"DocumentReference/doc-{one['id']}".replace("_", "-") for one in streams}


async def test_an_upload_counts_only_for_who_still_may_and_for_who_is_still_open_when_it_is_in(server: Server) -> None:
    """[W19] [W22] [G12] A body takes minutes: who may and who is open is asked again behind it; the sum is bounded."""
    doctor = await server.browser()
    source = Path(str(pydicom.data.get_testdata_file("waveform_ecg.dcm", download=False))).read_bytes()
    fields = "".join(
        f'--cut\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("patient", "pt1"), ("title", "x"), ("patient_checked", "true"))
    )
    head = f'{fields}--cut\r\nContent-Disposition: form-data; name="file"; filename="a.dcm"\r\n\r\n'.encode()
    body = head + source + b"\r\n--cut--\r\n"
    database, room = server.app[SERVICES].database, server.app[OFFICE].uploads
    free = room.free_bytes

    async def upload(meanwhile: Any = None) -> tuple[int, str]:
        async def pieces() -> AsyncIterator[bytes]:
            yield body[:5_000]
            await until(lambda: room.free_bytes < free, "the server has looked who this is, and takes the body in")
            await meanwhile()
            yield body[5_000:]

        headers = {"Origin": server.origin, "Content-Type": "multipart/form-data; boundary=cut"}
        data: Any = body if meanwhile is None else pieces()
        async with doctor.http.post("/api/consults/c1/waveforms", data=data, headers=headers) as response:
            answer = await response.json()
            return response.status, answer["error"]["code"] if "error" in answer else ""

    async def rows() -> int:
        async with database.read() as session:
            query = select(func.count()).select_from(WaveformArchiveRow).where(WaveformArchiveRow.kind == "import")
            return int(await session.scalar(query) or 0)

    async def removed(*, removed: bool = True) -> None:
        async with database.write() as session:
            mine = (ConsultMember.consult_id == "c1", ConsultMember.subject_id.in_(("d1", "away")))
            await session.execute(update(ConsultMember).where(*mine).values(subject_id="away" if removed else "d1"))

    before = await rows()
    assert await upload(lambda: server.open_context("pt2", 6)) == (409, "context_changed")
    assert await upload(lambda: server.open_context("pt1", 7)) == (409, "context_changed"), "opened for another"
    assert await upload(removed) == (404, "not_found")
    await removed(removed=False)
    assert await rows() == before
    room.free_bytes = len(body) - 1
    assert await upload() == (503, "too_busy")
    room.free_bytes = len(body)
    assert await upload() == (201, "")
    assert room.free_bytes == len(body), "given back"
    room.free_bytes = free
    assert await rows() == before + 1


VITALS_ONLY = (
    "MSH|^~\\&|M|H|C|H|20260102030406+0800||ORU^R01^ORU_R01|1|P|2.6\r"
    "PID|||T-1^^^H^MR\r"
    "OBR|1|||182777000^monitoring of patient^SCT|||20260102030406+0800\r"
    "OBX|1|NM|147842^MDC_ECG_HEART_RATE^MDC|1.1.2.1|78|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||R|||20260102030406+0800\r"
)


async def test_an_upload_of_vital_signs_alone_counts_only_for_who_still_may_once_it_is_read(server: Server) -> None:
    """[W22] [G12] There is no stream whose row would be asked for."""
    doctor = await server.browser()
    database, jobs = server.app[SERVICES].database, server.app[OFFICE].jobs
    run = jobs.run

    async def stored() -> int:
        async with database.read() as session:
            return int(await session.scalar(select(func.count()).select_from(VitalSignRow)) or 0)

    async def upload() -> int:
        form = aiohttp.FormData({"patient": "pt1", "title": "x", "patient_checked": "true"})
        form.add_field("file", VITALS_ONLY.encode(), filename="a.hl7")
        async with doctor.http.post(
            "/api/consults/c1/waveforms", data=form, headers={"Origin": server.origin}
        ) as response:
            return response.status

    async def removed(*, removed: bool = True) -> None:
        async with database.write() as session:
            mine = (ConsultMember.consult_id == "c1", ConsultMember.subject_id.in_(("d1", "away")))
            await session.execute(update(ConsultMember).where(*mine).values(subject_id="away" if removed else "d1"))

    async def read_by_then(request: dict[str, Any]) -> Any:
        found = await run(request)
        await removed()
        return found

    before = await stored()
    with patch.object(jobs, "run", read_by_then):
        assert await upload() == 404
    await removed(removed=False)
    assert await stored() == before
    assert await upload() == 201
    assert await stored() == before + 1


async def test_nobody_else_learns_that_a_stream_exists(server: Server) -> None:
    """[G11] [G13] Not the doctor of another consult, not the administrator, not whoever is not signed in."""
    other, admin = await server.browser("d2@hub"), await server.browser("a1@hub")
    for path in ("", "/71/frames", "/71.dcm", "/71/beats", "/999/frames"):
        await server.raw(other, f"/api/consults/c1/waveforms{path}", 404)
        await server.raw(admin, f"/api/consults/c1/waveforms{path}", 403)
    await server.raw(other, "/api/consults/c1/snapshots/strip1", 404)


async def test_the_stored_ecg_of_a_record_is_served_and_another_patients_is_not(server: Server) -> None:
    """[W19] [W22] (G5) The file must be the open patient's by its own word too; nothing of another one leaves."""
    app, doctor = server.app, await server.browser()
    state = await app[SERVICES].store.load(CONSULT)
    assert state.context is not None
    patient, version = state.context.patient, state.context.version
    source = pydicom.dcmread(str(pydicom.data.get_testdata_file("waveform_ecg.dcm", download=False)))

    def file(named: str, instance: str) -> bytes:
        source.PatientID, source.SOPInstanceUID = named, instance
        source.file_meta.MediaStorageSOPInstanceUID = instance
        out = io.BytesIO()
        source.save_as(out)
        return out.getvalue()

    def resources(name: str, instance: str, data: bytes, whose: str = patient.id) -> list[dict[str, Any]]:
        subject = {"reference": f"Patient/{whose}"}
        attachment = {"contentType": "application/dicom", "url": f"urn:oid:{instance}"}
        return [
            {"resourceType": "DocumentReference", "id": name, "status": "current", "subject": subject,
             "content": [{"attachment": attachment}]},
            {"resourceType": "Binary", "id": binary_id(instance), "contentType": "application/dicom",
             "securityContext": subject, "data": base64.b64encode(data).decode()},
        ]  # fmt: skip

    own = resources("ecg-own", "1.2.3.71", file(patient.identifiers[1].value, "1.2.3.71"))
    named_other = resources("ecg-other", "1.2.3.72", file("somebody else", "1.2.3.72"))
    broken = resources("ecg-broken", "1.2.3.73", b"x" * 128 + b"DICMxxxx")
    empty = resources("ecg-gone", "1.2.3.74", b"")[:1]
    foreign = resources("ecg-pt2", "1.2.3.75", file(patient.identifiers[1].value, "1.2.3.75"), "pt2")
    async with app[SERVICES].database.write() as session:
        for resource in (*own, *named_other, *broken, *empty, *foreign):
            await put_resource(session, resource, actor="test", at_ms=1)

    def path(name: str, of: int = version) -> str:
        return f"/api/consults/c1/record/DocumentReference/{name}/ecg?version={of}"

    body, headers = await server.raw(doctor, path("ecg-own"))
    told = json.loads(headers["X-Stream"])
    assert (headers["X-Context-Version"], told["patient"]) == (str(version), patient.id)
    assert len(told["leads"]) == source.WaveformSequence[0].NumberOfWaveformChannels
    assert sum(frame.n for frame in records(body)) == source.WaveformSequence[0].NumberOfWaveformSamples
    for name, of, status, why in (
        ("ecg-other", version, 409, "patient_differs"),
        ("ecg-own", version + 1, 409, "context_changed"),
        ("ecg-broken", version, 422, "file_unreadable"),
        ("ecg-gone", version, 404, "not_found"),
        ("ecg-pt2", version, 404, "not_found"),
        ("no-such", version, 404, "not_found"),
    ):
        answer, _ = await server.raw(doctor, path(name, of), status)
        assert json.loads(answer)["error"]["code"] == why, name
        assert len(answer) < 1_000


async def test_the_end_of_a_consult_seals_its_streams_in_the_audit_chain(server: Server) -> None:
    """[W21] [G5] [C21] Hash over all frames in their order, once; its clinicians may still download it."""
    doctor = await server.browser()
    whole, _ = await server.raw(doctor, "/api/consults/c1/waveforms/71/frames")
    await server.end()
    async with asyncio.timeout(60):
        while True:
            status, listed = await doctor.get("/api/consults/c1/waveforms?patient=pt1")
            assert status == 200
            if all(one["sha256"] and not one["live"] for one in listed):
                break
            await asyncio.sleep(0.05)
    archive = server.desk.archive
    await until(lambda: not archive._open, "all streams closed")
    (entry,) = [one for one in listed if one["stream_id"] == 71]
    assert entry["sha256"] == hashlib.sha256(whole).hexdigest()
    assert (entry["frames"], entry["gaps"], entry["lost"]) == (70, 2, 2)
    async with server.app[SERVICES].database.read() as session:
        query = select(EventRow.body).where(EventRow.kind == "waveform_archived")
        bodies = [json.loads(body) for body in (await session.scalars(query)).all()]
    assert [one["sha256"] for one in bodies if one["stream"] == 71] == [entry["sha256"]]
    body, _ = await server.raw(doctor, "/api/consults/c1/waveforms/71/frames?patient=pt1")
    assert body == whole
    await server.raw(doctor, "/api/consults/c1/waveforms/71/frames", 409)
    await server.raw(doctor, "/api/consults/c1/waveforms/71/frames?patient=nobody", 404)
    asked = [(await doctor.get("/api/consults/c1/waveforms/71.vitals.json?patient=pt1"))[0] for _ in range(31)]
    assert asked[-1] == 429, "exports cost minutes of a core"
    assert asked[0] == 200
