"""The WebSocket way of waveforms with a real redis behind it: numbers, a slow reader, a redis that dies, strangers.

Real tokens, store, desk, ring and sockets; what a worker's tap would bring is handed in.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from server_hub import Hub

from media.core.waveform import FrameWriter, StreamFormat, split_message, with_flags
from media.core.waveform.frame import Flag
from server.clock import server_clock
from server.metrics import WAVEFORM_FEED
from server.waveforms.blobs import FolderBlobs
from server.waveforms.desk import WaveformDesk
from server.waveforms.feed import WaveformFeed
from server.waveforms.redis_ring import RedisRing
from server.waveforms.tap import TapConnection, Tapped
from signaling.core.ids import ConsultId, ParticipantId, PatientId
from signaling.core.model import Context, Participant, Role, VitalsStream, WaveformStream
from tests.contract.signaling.conftest import RedisServer, redis_server  # noqa: F401 - fixture
from tests.integration.media.peer import until
from tests.integration.server.test_server_waveform_desk import no_worker

C1, VERSION, LEADS, N = ConsultId("c1"), 3, 16, 200
FORMAT = StreamFormat(stream_id=7, leads=LEADS, sample_rate_mhz=4_000_000, lsb_nv=1000, simulated=True)
STREAM = WaveformStream(
    stream_id=7, leads=tuple(f"X{n}" for n in range(LEADS)), sample_rate_mhz=4_000_000, lsb_nv=1000, device="d",
    simulated=True, patient=PatientId("pt1"),
)  # fmt: skip


def counted(name: str) -> float:
    return float(WAVEFORM_FEED.labels(name)._value.get())


class Feed:
    """The feed on a port of its own, and a device that a tap would bring."""

    def __init__(self, hub: Hub, desk: WaveformDesk, server: TestServer) -> None:
        self.hub, self.desk, self.server = hub, desk, server
        self.writer, self.noise = FrameWriter(FORMAT, numbering=5), np.random.default_rng(3)
        self.tap = TapConnection(desk.taps)
        self.tap.of = Tapped("c1", 0)
        self.sent: list[bytes] = []

    async def begin(self) -> None:
        store = self.hub.services.store
        state, banner = await store.load(C1), await store.patient(C1, PatientId("pt1"))
        assert state is not None
        assert banner is not None
        changes = {
            "context": Context(version=VERSION, patient=banner, opened_at_ms=1, opened_by=ParticipantId("p_d1")),
            "context_version": VERSION,
            "revision": state.revision + 1,
        }
        await store.commit(state, state.model_copy(update=changes), [], None)
        assert await self.desk.announce("c1", 0, no_worker, STREAM, "p_device") == VERSION
        self.desk.begun("c1", 7, "wave")

    def send(self, frames: int) -> None:
        """Samples that cannot be packed: 6.4 kB each."""
        for _ in range(frames):
            samples = self.noise.integers(-32768, 32767, (LEADS, N)).astype(np.int16)
            message = self.writer.write(samples, t0_us=10**15 + self.writer.seq * 50_000, context_version=VERSION)
            self.sent.append(split_message(message)[0].encoded)
            self.desk.tapped_frame(self.tap, self.sent[-1], again=False)

    async def viewer(self) -> aiohttp.ClientWebSocketResponse:
        """A doctor who has said hello and was welcomed."""
        doctor = await self.hub.doctor()
        _, token = await doctor.post("/api/consults/c1/token")
        store = self.hub.services.store
        state = await store.load(C1)
        assert state is not None
        me = Participant(id=ParticipantId(token["participant"]), role=Role.DOCTOR, name="d", joined_at_ms=1)
        people = {**state.participants, me.id: me}
        changes = {"participants": people, "revision": state.revision + 1}
        await store.commit(state, state.model_copy(update=changes), [], None)
        ws = await doctor.http.ws_connect(self.server.make_url("/ws/waveforms"), max_msg_size=1 << 16)
        await ws.send_bytes(b"\0" + msgpack.packb({"t": "hello", "token": token["token"]}))
        welcome = await asyncio.wait_for(ws.receive_bytes(), 60)
        assert msgpack.unpackb(welcome[1:])["t"] == "welcome"
        return ws


@pytest.fixture
async def feed(
    tmp_path: Path,
    make_hub: Callable[..., Awaitable[Hub]],
    redis_server: RedisServer,  # noqa: F811
) -> AsyncIterator[Feed]:
    hub = await make_hub()
    services = hub.services
    desk = WaveformDesk(services.database, FolderBlobs(tmp_path / "waves"), RedisRing(redis_server.url), server_clock())
    await desk.start()
    served = WaveformFeed(desk, services.store, services.tokens, lambda: services.now_ms() * 1000)
    app = web.Application()
    served.attach(app)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    made = Feed(hub, desk, server)
    await made.begin()
    yield made
    await served.stop()
    await server.close()
    await desk.stop()


async def receive(ws: aiohttp.ClientWebSocketResponse, kind: int = 1) -> bytes:
    """The next of a kind, without its first byte."""
    async with asyncio.timeout(60):
        while True:
            data: bytes = await ws.receive_bytes()
            if data[0] == kind:
                return data[1:]


async def test_numbers_come_along_and_a_slow_reader_loses_live_frames_that_it_gets_again(feed: Feed) -> None:
    """[W8] [W4] [WF8] [WF10] What one reader does not take is counted, and repaired from redis byte for byte."""
    ws = await feed.viewer()
    vitals = VitalsStream(device="d", simulated=True, patient=PatientId("pt1"))
    feed.desk.vitals_begun("c1", "numbers", vitals, VERSION)
    feed.desk.vitals_begun("c1", "others", vitals.model_copy(update={"patient": PatientId("pt2")}), VERSION)

    def pulse(value: int, version: int = VERSION) -> bytes:
        sign = {"t": "vital", "cv": version, "code": "HR", "v": value, "u": "/min", "at": 5, "q": "ok", "sim": True}
        return bytes(msgpack.packb(sign))

    feed.desk.tapped_message(feed.tap, "others", pulse(50))
    feed.desk.tapped_message(feed.tap, "numbers", pulse(55, VERSION - 1))
    feed.desk.tapped_message(feed.tap, "numbers", pulse(60))
    assert await receive(ws) == pulse(60), "of this patient and context, as it came"

    assert ws._response.connection is not None
    transport: Any = ws._response.connection.transport
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    transport.pause_reading()
    dropped = counted("dropped")

    def flood() -> bool:
        waiting = sum(len(live.for_ring) for live in feed.desk.streams("c1"))
        if counted("dropped") == dropped and waiting < 100:
            feed.send(4)
        return counted("dropped") > dropped

    await until(flood, "frames are dropped for who does not read")
    feed.send(4)
    transport.resume_reading()
    await until(lambda: not any(live.for_ring for live in feed.desk.streams("c1")), "the ring has it")
    got: dict[int, bytes] = {}

    def take(frame: bytes) -> None:
        parsed, _ = split_message(frame)
        assert parsed.seq not in got, "nothing comes twice"
        got[parsed.seq] = parsed.encoded

    def goes_through() -> bool:
        before = counted("dropped")
        feed.send(1)
        return counted("dropped") == before

    await until(goes_through, "live again")
    while len(feed.sent) - 1 not in got:
        take(await receive(ws))
    lacking = [seq for seq in range(len(feed.sent)) if seq not in got]
    assert len(lacking) >= counted("dropped") - dropped > 0
    for seq in lacking:
        await ws.send_bytes(b"\0" + msgpack.packb({"t": "nack", "stream": 7, "first": seq, "last": seq}))
        again = await receive(ws)
        assert again == with_flags(feed.sent[seq], add=Flag.RESEND)
        take(again)
    assert [got[seq] for seq in sorted(got)] == feed.sent


async def test_a_redis_that_is_away_stops_repairs_and_nothing_else(feed: Feed, redis_server: RedisServer) -> None:  # noqa: F811
    """[W4] Live goes on, the question is counted, and is answered once redis is back with what waited."""
    ws = await feed.viewer()
    feed.send(3)
    for _ in range(3):
        await receive(ws)
    await until(lambda: not any(live.for_ring for live in feed.desk.streams("c1")), "the ring has it")
    redis_server.kill()
    unavailable = counted("ring_unavailable")
    ask = b"\0" + msgpack.packb({"t": "nack", "stream": 7, "first": 0, "last": 0})
    await ws.send_bytes(ask)
    await until(lambda: counted("ring_unavailable") > unavailable, "said")
    feed.send(2)
    assert [await receive(ws), await receive(ws)] == feed.sent[3:]
    redis_server.start()
    await until(lambda: not any(live.for_ring for live in feed.desk.streams("c1")), "the ring takes what waited")
    await ws.send_bytes(b"\0" + msgpack.packb({"t": "nack", "stream": 7, "first": 3, "last": 4}))
    again = [await receive(ws), await receive(ws)]
    assert again == [with_flags(frame, add=Flag.RESEND) for frame in feed.sent[3:]]


async def test_strangers_of_one_address_do_not_keep_others_out(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """[G13] Who says nothing has a short while, and a share of the room."""
    monkeypatch.setattr("server.waveforms.feed.STRANGERS_PER_ADDRESS", 3)
    monkeypatch.setattr("server.waveforms.feed.STRANGERS", 5)
    monkeypatch.setattr("server.waveforms.feed.HELLO_S", 600.0)
    url = feed.server.make_url("/ws/waveforms")

    def of(address: str) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0)))

    async with of("127.0.0.2") as crowd, of("127.0.0.3") as other, of("127.0.0.4") as third:
        held = [await crowd.ws_connect(url) for _ in range(3)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await crowd.ws_connect(url)
        assert refused.value.status == 503
        held += [await other.ws_connect(url) for _ in range(2)]
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await third.ws_connect(url)  # all of them together
        monkeypatch.setattr("server.waveforms.feed.STRANGERS", 50)
        monkeypatch.setattr("server.waveforms.feed.HELLO_S", 0.2)
        ws = await third.ws_connect(url)
        assert (await asyncio.wait_for(ws.receive(), 60)).type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code == 4400
