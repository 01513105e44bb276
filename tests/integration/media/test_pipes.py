"""A publisher on one worker, viewers on another: media, messages, key frames, sender reports, and a worker's death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgpack
import pytest
import pytest_asyncio

from media.aio.counters import Counters
from media.aio.pipe import PipeOut
from media.aio.pool import WorkerPool
from media.aio.spare import WorkerSettings
from media.aio.transport import TAPPED_DATA, TAPPED_RTP
from media.core import control, ortc, rtcp
from media.core.control import MediaError
from media.core.placement import LoadLimits
from media.core.serial import diff32
from tests.integration.media.peer import (
    AUDIO_PT,
    AUDIO_SSRC,
    VIDEO_PT,
    VIDEO_RTX_PT,
    VIDEO_RTX_SSRC,
    VIDEO_SSRC,
    Peer,
    Rtp,
    audio_parameters,
    build_rtp,
    until,
    video_parameters,
    vp8,
)
from tests.integration.media.test_layers import LAYER_SSRC, Camera, simulcast

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Two:
    """Two workers, A and B."""

    pool: WorkerPool
    notes: list[tuple[int, control.AnyNotification]]

    async def count(self, worker: int, name: str) -> int:
        return (await self.pool.client(worker).stats()).get(name, 0)

    async def until_count(self, worker: int, name: str, least: int) -> None:
        async with asyncio.timeout(90):
            while await self.count(worker, name) < least:
                await asyncio.sleep(0.01)

    async def pipe(self, router: str, peer: Peer, to: int = 1) -> str:
        """What the publisher on A sends arrives at the other worker too, under the id that is returned."""
        key, transport = secrets.token_hex(16), f"{peer.id}-pipe"
        path = self.pool.workers[to].pipe
        await self.pool.client(to).call(
            control.AcceptPipe(router=router, transport=transport, owner=peer.owner, key=key)
        )
        await self.pool.client(0).call(control.OpenPipe(transport=peer.id, path=str(path), key=key))
        return transport


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two() -> AsyncIterator[Two]:
    async def restarted(_index: int) -> None: ...

    notes: list[tuple[int, control.AnyNotification]] = []
    settings = WorkerSettings(bind="127.0.0.1", standby_after_s=0.0)
    pool = WorkerPool(
        settings, 2, LoadLimits(), lambda index, note: notes.append((index, note)), lambda _: None, restarted
    )
    await pool.start()
    await pool.started()
    try:
        yield Two(pool, notes)
    finally:
        await pool.stop()


@dataclass
class Spanning:
    """A publisher on A, a viewer on A and one on B."""

    publisher: Peer
    near: Peer
    far: Peer
    pipe: str


@pytest_asyncio.fixture(loop_scope="module")
async def spanning(two: Two) -> AsyncIterator[Spanning]:
    await two.pool.wait_up(90, 0)
    await two.pool.wait_up(90, 1)
    a, b = two.pool.client(0), two.pool.client(1)
    router = secrets.token_hex(4)
    for client in (a, b):
        await client.open_router(router)
    publisher, near, far = Peer(a, router, "send"), Peer(a, router, "recv"), Peer(b, router, "recv")
    for peer in (publisher, near, far):
        await peer.join()
    await a.produce(publisher.id, f"{router}-cam", "video", video_parameters())
    await a.produce(publisher.id, f"{router}-mic", "audio", audio_parameters())
    pipe = await two.pipe(router, publisher)
    await b.produce(pipe, f"{router}-cam", "video", video_parameters())
    await b.produce(pipe, f"{router}-mic", "audio", audio_parameters())
    for client, peer in ((a, near), (b, far)):
        for source in ("cam", "mic"):
            consumer = f"{peer.id}-{source}"
            await client.consume(peer.id, consumer, f"{router}-{source}", ortc.router_capabilities())
            await client.resume_consumer(consumer)
    two.notes.clear()
    yield Spanning(publisher, near, far, pipe)
    for index in two.pool.up:
        with contextlib.suppress(MediaError):  # the one that was killed may not be missed yet
            await two.pool.client(index).close_router(router)
    for peer in (publisher, near, far):
        await peer.close()


def frame(number: int, key: bool) -> bytes:
    return build_rtp(VIDEO_PT, number, number * 3000, VIDEO_SSRC, vp8(key, number))


def video(peer: Peer) -> list[bytes]:
    return [packet.payload for packet in peer.got.rtp if packet.payload_type not in (100, 111) and packet.payload]


async def test_viewers_of_both_workers_see_the_same_packets(two: Two, spanning: Spanning) -> None:
    for number in range(1, 31):
        spanning.publisher.send_rtp(frame(number, number == 1))
    await until(lambda: len(spanning.far.got.rtp) >= 30, "thirty packets on B")
    await until(lambda: len(spanning.near.got.rtp) >= 30, "thirty packets on A")

    assert [p.payload for p in spanning.far.got.rtp] == [p.payload for p in spanning.near.got.rtp]
    numbers = [p.seq for p in spanning.far.got.rtp]
    assert [(n - numbers[0]) & 0xFFFF for n in numbers] == list(range(30))
    assert await two.count(0, "pipe_batches_dropped") == 0


async def test_a_key_frame_that_a_viewer_on_b_wants_is_asked_of_the_publisher(two: Two, spanning: Spanning) -> None:
    spanning.publisher.send_rtp(frame(1, True))
    await until(lambda: spanning.far.got.rtp and spanning.near.got.rtp, "both see it")
    asked = len(spanning.publisher.got.of(rtcp.Pli))
    ssrc = spanning.far.got.rtp[0].ssrc

    await asyncio.sleep(0.4)  # past the throttle: a request right after a key frame is answered by that one
    spanning.far.send_rtcp(rtcp.build_pli(1, ssrc))

    await until(lambda: len(spanning.publisher.got.of(rtcp.Pli)) > asked, "the publisher is asked")
    assert spanning.publisher.got.of(rtcp.Pli)[-1].media_ssrc == VIDEO_SSRC


async def test_what_the_publisher_repairs_reaches_b_in_its_place(two: Two, spanning: Spanning) -> None:
    spanning.publisher.send_rtp(frame(1, True))
    spanning.publisher.send_rtp(frame(3, False))
    await until(lambda: spanning.publisher.got.of(rtcp.Nack), "A asks")
    assert spanning.publisher.got.of(rtcp.Nack)[0].lost == (2,)
    repaired = (2).to_bytes(2, "big") + vp8(False, 2)
    spanning.publisher.send_rtp(build_rtp(VIDEO_RTX_PT, 9, 6000, VIDEO_RTX_SSRC, repaired))
    await until(lambda: len(spanning.far.got.rtp) == 3, "all three on B")
    first = min(p.timestamp for p in spanning.far.got.rtp)
    ordered = sorted(spanning.far.got.rtp, key=lambda p: (p.timestamp - first) & 0xFFFFFFFF)
    assert [(p.seq - ordered[0].seq) & 0xFFFF for p in ordered] == [0, 1, 2]


async def test_sound_and_picture_are_on_one_clock_on_b_too(two: Two, spanning: Spanning) -> None:
    """The publisher's sender reports cross: they came together, but the sound was made 200 ms before the picture."""
    spanning.publisher.send_rtp(frame(1, True))
    spanning.publisher.send_rtp(build_rtp(AUDIO_PT, 1, 480, AUDIO_SSRC, b"opus"))
    await until(lambda: len(spanning.far.got.rtp) == 2, "picture and sound on B")
    ntp = 0xE000_0000 << 32
    for ssrc, timestamp in ((VIDEO_SSRC, 3000), (AUDIO_SSRC, 480 + 9600)):
        spanning.publisher.send_rtcp(rtcp.build_sender_report(ssrc, ntp, timestamp, 1, 100))

    def captured_s(packet: Rtp) -> float:
        """By the relay's clock, from the newest report that B has sent of the packet's stream."""
        reports = [r for r in spanning.far.got.of(rtcp.SenderReport) if r.ssrc == packet.ssrc]
        if not reports:
            return 0.0
        ahead = (packet.timestamp - reports[-1].rtp_timestamp + (1 << 31)) % (1 << 32) - (1 << 31)
        return float(reports[-1].ntp / (1 << 32) + ahead / (48_000 if packet.payload == b"opus" else 90_000))

    sound, picture = sorted(spanning.far.got.rtp, key=lambda packet: packet.payload != b"opus")
    await until(lambda: abs(captured_s(picture) - captured_s(sound) - 0.2) < 0.005, "reports that say so")

    # Whoever listens on ctl is told the same [WF16].
    b, name = two.pool.client(1), f"{spanning.far.id}-told"
    answer = await b.consume_data(spanning.far.id, name, "ctl")
    channel = await spanning.far.channel(answer["sctp_stream_parameters"], "ctl")
    await until(lambda: channel.is_open, "the viewer's ctl")
    await b.resume_data_consumer(name)
    messages = spanning.far.got.messages
    await until(lambda: messages, "a map")
    assert isinstance(messages[-1], bytes)
    maps = {entry["ssrc"]: entry for entry in msgpack.unpackb(messages[-1])["of"]}

    def taken_us(packet: Rtp) -> float:
        said = maps[packet.ssrc]
        assert (said["how"], said["err"]) == ("capture", None)
        return float(said["s"] + diff32(packet.timestamp, said["rtp"]) * 1e6 / said["rate"])

    assert abs(taken_us(picture) - taken_us(sound) - 200_000) < 5000


async def test_layers_that_nobody_follows_do_not_cross_and_come_when_somebody_does(two: Two) -> None:
    """B knows what it could have without having it, and misses nothing of what was left out."""
    for index in (0, 1):
        await two.pool.wait_up(90, index)
    a, b = two.pool.client(0), two.pool.client(1)
    router = secrets.token_hex(4)
    for client in (a, b):
        await client.open_router(router)
    publisher, far = Peer(a, router, "send"), Peer(b, router, "recv")
    await publisher.join()
    await far.join()
    source, camera = f"{router}-cam", Camera(publisher)
    parameters = simulcast(("r0", "r1", "r2"))
    await a.produce(publisher.id, source, "video", parameters)
    await b.produce(await two.pipe(router, publisher), source, "video", parameters)
    await b.consume(far.id, f"{far.id}-cam", source, ortc.router_capabilities())
    await b.view_consumer(f"{far.id}-cam", 320, 180, "main")
    await b.resume_consumer(f"{far.id}-cam")

    async def frames(count: int, pause_s: float = 0.005) -> tuple[int, int]:
        """Pictures the viewer got, and packets that crossed for them."""
        before, crossed = len(far.got.rtp), await two.count(1, "rtp_received")
        for _ in range(count):
            camera.send(0, 1, 2)
            await asyncio.sleep(pause_s)
        return len(far.got.rtp) - before, await two.count(1, "rtp_received") - crossed

    async with asyncio.timeout(100):
        while True:
            shown, crossed = await frames(30)
            if shown > 25 and crossed < 1.2 * shown:
                break
    assert {packet.payload[-3] for packet in far.got.rtp[-20:]} == {0}

    # Longer than a silent layer counts as there, and further than any loss: the publisher begins to count anew.
    camera.number += 20_000
    began_s = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() < began_s + 1.5:
        await frames(30)
    await b.view_consumer(f"{far.id}-cam", 1280, 720, "main")
    await until(
        lambda: any(one.media_ssrc == LAYER_SSRC[2] for one in publisher.got.of(rtcp.Pli)[camera.seen_plis :]), "a wish"
    )
    camera.send(0, 1, 2)
    await until(
        lambda: far.got.rtp[-1].payload[-3] == 2, "the key frame that was asked for, whole from its first packet"
    )
    assert int.from_bytes(far.got.rtp[-1].payload[-2:], "big") == camera.number - 1
    numbers = [packet.seq for packet in far.got.rtp if packet.payload_type == ortc.PAYLOAD_TYPES[ortc.Codec.VP8]]
    assert {(new - old) & 0xFFFF for old, new in pairwise(numbers)} == {1}
    for client in (a, b):
        await client.close_router(router)
    for peer in (publisher, far):
        await peer.close()


async def test_messages_of_a_data_producer_cross(two: Two, spanning: Spanning) -> None:
    a, b = two.pool.client(0), two.pool.client(1)
    stream = {"streamId": 1, "ordered": True}
    name = f"{spanning.publisher.id}-chat"
    await a.produce_data(spanning.publisher.id, name, "chat", "", stream)
    await b.produce_data(spanning.pipe, name, "chat", "", stream)
    answer = await b.consume_data(spanning.far.id, f"{name}-far", name)
    await spanning.far.channel(answer["sctp_stream_parameters"], "chat")
    await b.resume_data_consumer(f"{name}-far")
    sending = await spanning.publisher.channel(stream, "chat")
    async with asyncio.timeout(90):
        while not spanning.far.got.messages:  # before both ends are up a message is nobody's
            sending.send("一")
            sending.send(b"\x00\x01")
            await asyncio.sleep(0.05)
    await until(lambda: {"一", b"\x00\x01"} <= set(spanning.far.got.messages), "text and bytes")


async def test_b_closes_what_came_through_the_pipe_when_the_publisher_goes(two: Two, spanning: Spanning) -> None:
    before = await two.count(1, "producers_now")
    await two.pool.client(0).close_transport(spanning.publisher.id)
    async with asyncio.timeout(90):
        while await two.count(1, "producers_now") > before - 2:
            await asyncio.sleep(0.01)
    closed = [n.consumer for index, n in two.notes if index == 1 and isinstance(n, control.ConsumerClosed)]
    assert sorted(closed) == [f"{spanning.far.id}-cam", f"{spanning.far.id}-mic"]


async def test_a_pipe_needs_the_key_that_was_told(two: Two, spanning: Spanning) -> None:
    strangers = await two.count(1, "pipe_strangers")
    path = two.pool.workers[1].pipe
    wrong = control.OpenPipe(transport=spanning.publisher.id, path=str(path), key=secrets.token_hex(16))
    await two.pool.client(0).call(wrong)
    await two.until_count(1, "pipe_strangers", strangers + 1)
    spanning.publisher.send_rtp(frame(1, True))
    await until(lambda: spanning.far.got.rtp, "the right pipe goes on")


async def test_the_death_of_b_leaves_the_viewers_of_a_untouched(two: Two, spanning: Spanning) -> None:
    spanning.publisher.send_rtp(frame(1, True))
    await until(lambda: spanning.near.got.rtp and spanning.far.got.rtp, "both see it")
    pid = two.pool.workers[1].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    for number in range(2, 40):
        spanning.publisher.send_rtp(frame(number, False))
    await until(lambda: len(spanning.near.got.rtp) == 39, "everything on A")
    numbers = [p.seq for p in spanning.near.got.rtp]
    assert [(n - numbers[0]) & 0xFFFF for n in numbers] == list(range(39))
    assert not [note for index, note in two.notes if index == 0 and isinstance(note, control.TransportState)]


async def test_messages_wait_for_a_worker_that_is_behind_while_media_do_not(tmp_path: Path) -> None:
    """A waveform has no key frame to heal with: what A's viewers have, B's get too, in order."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(tmp_path / "pipe"))
    listener.listen()
    counters = Counters()
    pipe = PipeOut(tmp_path / "pipe", b"k" * 16, counters, lambda ssrc: None, lambda ended: None, [])
    behind, _ = listener.accept()
    assert behind.recv(64) == b"k" * 16
    while not counters.values["pipe_batches_dropped"]:
        pipe.offer(TAPPED_RTP, bytes(20_000))
        pipe.flush()
    for number in range(50):
        pipe.data("ecg", number.to_bytes(2, "big"))
    pipe.offer(TAPPED_RTP, bytes(1000))
    pipe.flush()
    assert counters.values["pipe_batches_dropped"] == 2, "media do not overtake what waits"

    behind.setblocking(False)
    got: list[int] = []

    def read_on() -> bool:
        with contextlib.suppress(BlockingIOError):
            while message := behind.recv(65_536):
                if message[0] == TAPPED_DATA:
                    got.append(int.from_bytes(message[-2:], "big"))
        return len(got) == 50

    await until(read_on, "all messages")
    assert got == list(range(50))
    pipe.close()
    behind.close()
    listener.close()
