"""Nothing a stranger or a bad peer sends ends a call, changes state, or goes uncounted."""

import os
import socket
from struct import pack
from typing import Any

import pytest
import pytest_asyncio

from media.core import ortc
from media.core.control import MediaError, MediaErrorCode
from tests.integration.media.conftest import RunningWorker
from tests.integration.media.peer import (
    VIDEO_PT,
    VIDEO_SSRC,
    Peer,
    audio_parameters,
    build_rtp,
    until,
    video_parameters,
    vp8,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Call:
    """A running forward that must still run afterwards."""

    def __init__(self, worker: RunningWorker, publisher: Peer, viewer: Peer) -> None:
        self.worker, self.publisher, self.viewer = worker, publisher, viewer
        self._number = 0

    async def still_works(self) -> None:
        self._number += 1
        before = len(self.viewer.got.rtp)
        packet = build_rtp(VIDEO_PT, self._number, self._number * 3000, VIDEO_SSRC, vp8(True, self._number))
        self.publisher.send_rtp(packet)
        await until(lambda: len(self.viewer.got.rtp) > before, "a packet after the attack")
        stats = await self.worker.client.stats()
        assert stats.get("datagram_errors", 0) == 0
        assert stats["transports_connected_now"] == 2


@pytest_asyncio.fixture(loop_scope="module")
async def call(worker: RunningWorker) -> Any:
    await worker.client.open_router("r")
    publisher, viewer = Peer(worker.client, "r", "send"), Peer(worker.client, "r", "recv")
    await publisher.join()
    await viewer.join()
    await worker.client.produce(publisher.id, "cam", "video", video_parameters())
    await worker.client.consume(viewer.id, "view", "cam", ortc.router_capabilities())
    await worker.client.resume_consumer("view")
    running = Call(worker, publisher, viewer)
    await running.still_works()
    yield running
    await worker.client.close_router("r")
    await publisher.close()
    await viewer.close()


@pytest.fixture
def stranger() -> Any:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


async def test_empty_and_oversize_datagrams(call: Call, stranger: socket.socket) -> None:
    """MEDIA_PLANE d1: each of these would have closed a stock aiortc connection, from anywhere."""
    for send in (call.publisher.send_raw, lambda data: stranger.sendto(data, call.publisher.remote)):
        send(b"")
        send(b"\x80" + bytes(1600))
        send(b"\x16" + bytes(1600))
    await call.worker.until_count("datagrams_empty", 2)
    await call.worker.until_count("datagrams_oversize", 4)
    await call.still_works()


async def test_random_datagrams(call: Call, stranger: socket.socket) -> None:
    """Every first byte, from a stranger and from a learnt address."""
    for first in range(256):
        stranger.sendto(bytes((first,)) + os.urandom(60), call.publisher.remote)
        call.publisher.send_raw(bytes((first,)) + os.urandom(60))
    await call.worker.until_count("stun_malformed", 8)
    await call.worker.until_count("datagrams_unknown_address", 252)
    await call.worker.until_count("srtp_refused", 60)
    await call.worker.until_count("datagrams_unknown_kind", 256 - 4 - 44 - 64)
    await call.still_works()


async def test_a_replayed_packet_is_counted_and_not_forwarded(call: Call) -> None:
    sealed = call.publisher.protect(build_rtp(VIDEO_PT, 500, 0, VIDEO_SSRC, vp8(True, 500)))
    for _ in range(5):
        call.publisher.send_raw(sealed)
    await call.worker.until_count("srtp_replayed", 4)
    await call.still_works()
    assert sum(packet.payload == vp8(True, 500) for packet in call.viewer.got.rtp) == 1


async def test_a_wrong_integrity_learns_no_address(call: Call, stranger: socket.socket) -> None:
    """With the right ufrag and a wrong password nothing moves: neither address nor credentials."""
    forged = call.viewer.check_message(True, password="x" * 32)
    stranger.sendto(bytes(forged), call.viewer.remote)
    await call.worker.until_count("stun_bad_integrity", 1)
    stranger.sendto(call.viewer.protect(build_rtp(VIDEO_PT, 1, 0, 5, b"x")), call.viewer.remote)
    await call.worker.until_count("datagrams_unknown_address", 1)
    await call.still_works()
    assert await call.worker.count("ice_moves") == 0


async def test_checks_without_integrity_or_for_nobody(call: Call, stranger: socket.socket) -> None:
    unsigned = call.viewer.check_message(True)
    del unsigned.attributes["MESSAGE-INTEGRITY"]
    del unsigned.attributes["FINGERPRINT"]
    stranger.sendto(bytes(unsigned), call.viewer.remote)
    stranger.sendto(bytes(call.viewer.check_message(True, ufrag="nobody00")), call.viewer.remote)
    await call.worker.until_count("stun_bad_integrity", 1)
    await call.worker.until_count("stun_unknown_ufrag", 1)
    await call.still_works()


async def test_rtp_of_an_unknown_ssrc(call: Call) -> None:
    for number in range(10):
        call.publisher.send_rtp(build_rtp(VIDEO_PT, number, 0, 0xDEAD, vp8(True, 1)))
    await call.worker.until_count("rtp_unknown_ssrc", 10)
    await call.still_works()


async def test_authenticated_nonsense(call: Call) -> None:
    """Well encrypted, badly made: lengths that run out, padding longer than the packet, RTCP that is none."""
    head = pack("!BBHII", 0x90, VIDEO_PT, 100, 0, VIDEO_SSRC)
    call.publisher.send_rtp(head + pack("!HH", 0xBEDE, 1) + b"\x4f\0\0\0")
    call.publisher.send_rtp(pack("!BBHII", 0xA0, VIDEO_PT, 101, 0, VIDEO_SSRC) + b"a\xff")
    await call.worker.until_count("rtp_malformed", 2)
    call.publisher.send_rtcp(pack("!BBHI", 0x81, 205, 1, 1))
    call.publisher.send_rtcp(pack("!BBHI", 0x9F, 202, 1, 1))
    await call.worker.until_count("rtcp_malformed", 2)
    await call.still_works()


async def test_hostile_sctp(call: Call) -> None:
    """SCTP packets out of bounds are refused and counted; the association and the worker live on."""
    await call.worker.client.produce_data(call.publisher.id, "chat", "chat", "", {"streamId": 0, "ordered": True})
    channel = await call.publisher.channel({"streamId": 0, "ordered": True}, "chat")
    await until(lambda: channel.is_open, "the channel")
    header = pack("!HHII", 5000, 5000, 0, 0)
    await call.publisher.send_sctp(header + pack("!BBHHH", 4, 0, 8, 1, 0))
    await call.publisher.send_sctp(header + pack("!BBHIIHHHH", 3, 0, 20, 0, 0, 1, 0, 1, 65535))
    await call.publisher.send_sctp(os.urandom(200))
    await call.worker.until_count("sctp_refused", 3)
    assert channel.send(b"still here")
    await call.worker.until_count("data_messages_received", 1)
    await call.still_works()


async def test_refused_calls_change_nothing(call: Call) -> None:
    """Unknown ids, taken ids, wrong directions, impossible parameters: a typed code, and the same objects as before."""
    client = call.worker.client
    before = {name: count for name, count in (await client.stats()).items() if name.endswith("_now")}
    sender, receiver = call.publisher.id, call.viewer.id
    capabilities = ortc.router_capabilities()
    refused: list[tuple[Any, MediaErrorCode]] = [
        (client.create_transport("none", "t", "o", "send"), MediaErrorCode.NOT_FOUND),
        (client.create_transport("r", sender, "o", "send"), MediaErrorCode.EXISTS),
        (client.open_router("r"), MediaErrorCode.EXISTS),
        (client.connect_transport(sender, call.publisher.dtls_parameters("client")), MediaErrorCode.BAD_STATE),
        (client.connect_transport(sender, {"fingerprints": []}), MediaErrorCode.BAD_PARAMETERS),
        (client.restart_ice("none"), MediaErrorCode.NOT_FOUND),
        (client.produce(receiver, "p", "audio", audio_parameters()), MediaErrorCode.BAD_STATE),
        (client.produce(sender, "cam", "audio", audio_parameters()), MediaErrorCode.EXISTS),
        (client.produce(sender, "p", "video", video_parameters(mid="9")), MediaErrorCode.BAD_PARAMETERS),
        (client.produce(sender, "p", "video", {"codecs": 7}), MediaErrorCode.BAD_PARAMETERS),
        (
            client.produce(
                sender,
                "p",
                "video",
                video_parameters(
                    mid="8",
                    headerExtensions=[{"uri": ortc.MID_URI, "id": 4}, {"uri": ortc.RID_URI, "id": 10}],
                    encodings=[{"rid": f"r{number}"} for number in range(ortc.MAX_ENCODINGS + 1)],
                ),
            ),
            MediaErrorCode.BAD_PARAMETERS,
        ),
        (client.consume(receiver, "c", "none", capabilities), MediaErrorCode.NOT_FOUND),
        (client.consume(sender, "c", "cam", capabilities), MediaErrorCode.BAD_STATE),
        (client.consume(receiver, "view", "cam", capabilities), MediaErrorCode.EXISTS),
        (client.consume(receiver, "c", "cam", {"codecs": []}), MediaErrorCode.BAD_PARAMETERS),
        (client.resume_consumer("none"), MediaErrorCode.NOT_FOUND),
        (client.pause_producer("none"), MediaErrorCode.NOT_FOUND),
        (client.produce_data(sender, "d", "ecg", "", {"streamId": 1}), MediaErrorCode.BAD_PARAMETERS),
        (client.produce_data(sender, "d", "x", "", {"streamId": 5000}), MediaErrorCode.BAD_PARAMETERS),
        (client.consume_data(receiver, "d", "none"), MediaErrorCode.NOT_FOUND),
        (client.resume_data_consumer("none"), MediaErrorCode.NOT_FOUND),
    ]
    for work, code in refused:
        with pytest.raises(MediaError) as error:
            await work
        assert error.value.code is code, error.value.text
    for close in (
        client.close_router,
        client.close_transport,
        client.close_producer,
        client.close_consumer,
        client.close_data_producer,
        client.close_data_consumer,
    ):
        await close("none")  # closing is idempotent
    after = {name: count for name, count in (await client.stats()).items() if name.endswith("_now")}
    assert after == before
    await call.still_works()
