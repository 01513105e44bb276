"""Media through a worker process, packet by packet: what changes on the way, what does not, and what is repaired."""

import itertools
import time
from struct import pack
from typing import Any

import pytest
import pytest_asyncio

from media.core import ortc, rtcp
from media.core.keyframes import MIN_INTERVAL_MS
from media.core.sender_report import ntp_from_us
from tests.integration.media.conftest import RunningWorker
from tests.integration.media.peer import (
    AUDIO_PT,
    AUDIO_SSRC,
    LEVEL_ID,
    MID_ID,
    ORIENTATION_ID,
    TWCC_ID,
    VIDEO_PT,
    VIDEO_RTX_PT,
    VIDEO_RTX_SSRC,
    VIDEO_SSRC,
    Peer,
    audio_parameters,
    build_rtp,
    until,
    video_parameters,
    vp8,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAPABILITIES = ortc.router_capabilities()


class Call:
    """A publisher, a viewer and what is negotiated between them."""

    def __init__(self, worker: RunningWorker, publisher: Peer, viewer: Peer) -> None:
        self.worker, self.publisher, self.viewer = worker, publisher, viewer
        self.ssrc = self.rtx_ssrc = 0

    async def watch(self, viewer: Peer, producer: str = "cam", resume: bool = True) -> dict[str, Any]:
        client = self.worker.client
        identity = f"{viewer.id}<-{producer}"
        result = await client.consume(viewer.id, identity, producer, CAPABILITIES)
        encoding = result["rtp_parameters"]["encodings"][0]
        self.ssrc, self.rtx_ssrc = encoding["ssrc"], encoding.get("rtx", {}).get("ssrc", 0)
        if resume:
            await client.resume_consumer(identity)
        return result

    def send(self, seq: int, payload: bytes, *, timestamp: int | None = None, **more: Any) -> None:
        at = seq * 3000 if timestamp is None else timestamp
        self.publisher.send_rtp(build_rtp(VIDEO_PT, seq & 0xFFFF, at & 0xFFFFFFFF, VIDEO_SSRC, payload, **more))


@pytest_asyncio.fixture(loop_scope="module")
async def call(worker: RunningWorker) -> Any:
    await worker.client.open_router("r")
    publisher, viewer = Peer(worker.client, "r", "send"), Peer(worker.client, "r", "recv")
    await publisher.join()
    await viewer.join()
    await worker.client.produce(publisher.id, "cam", "video", video_parameters())
    yield Call(worker, publisher, viewer)
    await worker.client.close_router("r")
    await publisher.close()
    await viewer.close()


async def test_a_packet_arrives_under_the_viewers_names(call: Call) -> None:
    """SSRC, payload type, extension ids are the Router's; timestamp, marker and payload the publisher's."""
    await call.watch(call.viewer)

    call.send(65534, vp8(True, 7), marker=False, extensions={MID_ID: b"0", ORIENTATION_ID: b"\x01", TWCC_ID: b"\0\1"})
    call.send(65535, vp8(False, 8), marker=True)
    call.send(65536, vp8(False, 9))
    await until(lambda: len(call.viewer.got.rtp) == 3, "three packets")

    first, second, third = call.viewer.got.rtp
    assert first.ssrc == call.ssrc
    assert first.payload_type == ortc.PAYLOAD_TYPES[ortc.Codec.VP8]
    assert first.timestamp == 65534 * 3000
    assert first.payload == vp8(True, 7)
    assert first.extensions[ortc.EXTENSION_IDS[ortc.VIDEO_ORIENTATION_URI]] == b"\x01"
    assert set(first.extensions) == {
        ortc.EXTENSION_IDS[ortc.VIDEO_ORIENTATION_URI],
        ortc.EXTENSION_IDS[ortc.ABS_SEND_TIME_URI],
        ortc.EXTENSION_IDS[ortc.TRANSPORT_CC_URI],
    }
    assert [first.marker, second.marker] == [False, True]
    assert [(second.seq - first.seq) & 0xFFFF, (third.seq - second.seq) & 0xFFFF] == [1, 1]


async def test_a_viewer_starts_with_a_key_frame_and_asks_for_it(call: Call) -> None:
    """Packets before the key frame are not forwarded; the PLI goes out when the viewer resumes."""
    call.send(10, vp8(True, 1))
    await call.worker.until_count("rtp_received", 1)
    await call.watch(call.viewer)
    call.send(11, vp8(False, 2))
    await until(lambda: call.publisher.got.of(rtcp.Pli), "a PLI")
    assert call.publisher.got.of(rtcp.Pli)[0].media_ssrc == VIDEO_SSRC

    call.send(12, vp8(True, 3))
    call.send(13, vp8(False, 4))
    await until(lambda: len(call.viewer.got.rtp) == 2, "the key frame and what follows")

    assert [packet.payload for packet in call.viewer.got.rtp] == [vp8(True, 3), vp8(False, 4)]


async def test_ten_viewers_that_lose_their_picture_cost_one_pli(call: Call) -> None:
    """PLI are merged per Producer."""
    await call.watch(call.viewer)
    call.send(1, vp8(True, 1))
    await until(lambda: call.viewer.got.rtp, "the first packet")
    sent, began_s = await call.worker.count("plis_sent"), time.monotonic()

    for _ in range(10):
        call.viewer.send_rtcp(rtcp.build_pli(9, call.ssrc))
    await call.worker.until_count("plis_received", 10)

    more = await call.worker.count("plis_sent") - sent
    assert more <= 1 + (time.monotonic() - began_s) * 1000 // MIN_INTERVAL_MS


async def test_what_a_viewer_lost_comes_again_as_rtx(call: Call) -> None:
    """NACK -> RTX: own SSRC, own payload type, own sequence, original number first (RFC 4588)."""
    await call.watch(call.viewer)
    for number in range(6):
        call.send(number, vp8(number == 0, number))
    await until(lambda: len(call.viewer.got.rtp) == 6, "six packets")
    lost = call.viewer.got.rtp[3]

    call.viewer.send_rtcp(rtcp.build_nack(9, call.ssrc, [lost.seq, (lost.seq + 1) & 0xFFFF]))
    await until(lambda: len(call.viewer.got.rtp) == 8, "two resent")

    again, following = call.viewer.got.rtp[6:]
    assert again.ssrc == call.rtx_ssrc
    assert again.payload_type == ortc.RTX_PAYLOAD_TYPES[ortc.Codec.VP8]
    assert again.timestamp == lost.timestamp
    assert again.payload == pack("!H", lost.seq) + lost.payload
    assert (following.seq - again.seq) & 0xFFFF == 1


async def test_nack_for_what_was_never_sent_is_counted(call: Call) -> None:
    await call.watch(call.viewer)
    call.send(0, vp8(True, 0))
    await until(lambda: call.viewer.got.rtp, "the first packet")
    before = call.viewer.got.rtp[0].seq

    call.viewer.send_rtcp(rtcp.build_nack(9, call.ssrc, [(before - 1) & 0xFFFF, (before + 5) & 0xFFFF]))
    await call.worker.until_count("nacks_missed", 2)

    assert len(call.viewer.got.rtp) == 1


async def test_what_the_publisher_lost_is_asked_for_and_its_rtx_unwrapped(call: Call) -> None:
    """A hole upstream is NACKed; the retransmission reaches the viewer under the lost number."""
    await call.watch(call.viewer)
    call.send(100, vp8(True, 0))
    call.send(102, vp8(False, 2))
    await until(lambda: call.publisher.got.of(rtcp.Nack), "a NACK")
    assert call.publisher.got.of(rtcp.Nack)[0].lost == (101,)

    repaired = pack("!H", 101) + vp8(False, 1)
    call.publisher.send_rtp(build_rtp(VIDEO_RTX_PT, 7, 101 * 3000, VIDEO_RTX_SSRC, repaired))
    await until(lambda: len(call.viewer.got.rtp) == 3, "the repaired packet")

    numbers = {packet.payload: packet.seq for packet in call.viewer.got.rtp}
    assert (numbers[vp8(False, 1)] - numbers[vp8(True, 0)]) & 0xFFFF == 1
    assert (numbers[vp8(False, 2)] - numbers[vp8(False, 1)]) & 0xFFFF == 1


async def test_duplicates_and_padding_leave_no_hole(call: Call) -> None:
    """A packet that comes again as RTX is dropped; padding-only packets vanish from the viewer's numbering."""
    await call.watch(call.viewer)
    call.send(1, vp8(True, 1))
    again = pack("!H", 1) + vp8(True, 1)
    call.publisher.send_rtp(build_rtp(VIDEO_RTX_PT, 7, 3000, VIDEO_RTX_SSRC, again))
    call.send(2, b"", padding=100)
    call.send(3, b"", padding=100)
    call.send(4, vp8(False, 4))
    await until(lambda: len(call.viewer.got.rtp) == 2, "two packets")

    first, second = call.viewer.got.rtp
    assert (second.seq - first.seq) & 0xFFFF == 1
    assert await call.worker.count("rtp_padding") == 2
    assert await call.worker.count("rtp_duplicates") == 1


async def test_another_payload_type_on_a_known_ssrc_is_not_forwarded(call: Call) -> None:
    """Viewers would decode it as what it is not; it leaves no hole either."""
    await call.watch(call.viewer)
    call.send(1, vp8(True, 1))
    call.publisher.send_rtp(build_rtp(VIDEO_PT + 5, 2, 6000, VIDEO_SSRC, vp8(True, 2)))
    call.send(3, vp8(False, 3))
    await until(lambda: len(call.viewer.got.rtp) == 2, "two packets")

    first, second = call.viewer.got.rtp
    assert (second.seq - first.seq) & 0xFFFF == 1
    assert second.payload == vp8(False, 3)
    assert await call.worker.count("rtp_wrong_payload_type") == 1


async def test_numbering_goes_on_after_a_pause(call: Call) -> None:
    """Pause and resume, of either side, cost the viewer no sequence number."""
    await call.watch(call.viewer)
    consumer = f"{call.viewer.id}<-cam"
    call.send(1, vp8(True, 1))
    await until(lambda: len(call.viewer.got.rtp) == 1, "before the pause")

    await call.worker.client.pause_consumer(consumer)
    for number in range(2, 20):
        call.send(number, vp8(False, number))
    await call.worker.until_count("rtp_received", 19)
    await call.worker.client.resume_consumer(consumer)
    call.send(20, vp8(True, 20))
    await until(lambda: len(call.viewer.got.rtp) == 2, "after the viewer's pause")

    await call.worker.client.pause_producer("cam")
    call.send(21, vp8(False, 21))
    await call.worker.until_count("rtp_received", 21)
    await call.worker.client.resume_producer("cam")
    call.send(22, vp8(True, 22))
    await until(lambda: len(call.viewer.got.rtp) == 3, "after the publisher's pause")

    numbers = [packet.seq for packet in call.viewer.got.rtp]
    assert [(b - a) & 0xFFFF for a, b in itertools.pairwise(numbers)] == [1, 1]


async def test_a_producer_without_ssrc_is_found_by_its_mid(call: Call) -> None:
    await call.worker.client.produce(call.publisher.id, "screen", "video", video_parameters(mid="5", encodings=[{}]))
    await call.watch(call.viewer, "screen")

    packet = build_rtp(VIDEO_PT, 1, 0, 0x777, vp8(True, 1), extensions={MID_ID: b"5"})
    call.publisher.send_rtp(packet)
    await until(lambda: call.viewer.got.rtp, "a packet")

    assert call.viewer.got.rtp[0].ssrc == call.ssrc


async def test_time_of_sound_and_picture(call: Call) -> None:
    """A viewer gets a sender report with its first packet, extrapolated from the publisher's."""
    call.publisher.send_rtcp(rtcp.build_sender_report(VIDEO_SSRC, ntp_from_us(1_700_000_000_000_000), 90_000, 1, 1))
    call.send(1, vp8(True, 1), timestamp=90_000)
    await call.worker.until_count("rtp_received", 1)
    call.publisher.send_rtcp(rtcp.build_sender_report(VIDEO_SSRC, ntp_from_us(1_700_000_000_000_000), 90_000, 1, 1))
    await call.watch(call.viewer)
    call.send(2, vp8(True, 2), timestamp=93_000)
    await until(lambda: call.viewer.got.of(rtcp.SenderReport), "a sender report")

    report = call.viewer.got.of(rtcp.SenderReport)[0]
    assert report.ssrc == call.ssrc
    assert 90_000 <= report.rtp_timestamp < 90_000 + 20 * 90_000
    assert call.viewer.got.of(rtcp.Sdes)[0].cnames[0][0] == call.ssrc


async def test_publishers_are_told_how_their_packets_arrive(call: Call) -> None:
    """Transport-cc within 100 ms, receiver reports within a second."""
    for number in range(20):
        call.send(number, vp8(number == 0, number), extensions={TWCC_ID: pack("!H", number)})
    await until(lambda: call.publisher.got.of(rtcp.TransportFeedback), "transport-cc")
    await until(lambda: call.publisher.got.of(rtcp.ReceiverReport), "a receiver report")

    block = call.publisher.got.of(rtcp.ReceiverReport)[0].blocks[0]
    assert block.ssrc == VIDEO_SSRC
    assert block.cumulative_lost == 0


async def test_a_viewers_clock_question_is_answered(call: Call) -> None:
    """RRTR -> DLRR: a viewer that sends no media measures its round trip (RFC 3611)."""
    await call.watch(call.viewer)
    call.viewer.send_rtcp(rtcp.build_rrtr(77, 0x1234_5678_9ABC_DEF0))
    await until(lambda: call.viewer.got.of(rtcp.Dlrr), "a DLRR")

    assert call.viewer.got.of(rtcp.Dlrr)[0].blocks == (rtcp.DlrrBlock(77, 0x5678_9ABC, 0),)


RED_PT = 63
RED = {"mimeType": "audio/red", "payloadType": RED_PT, "clockRate": 48_000, "channels": 2, "parameters": {}}


async def test_redundant_sound_goes_whole_to_those_who_take_it(call: Call) -> None:
    """RED (RFC 2198) as it came, under the Router's names; its newest block alone for viewers that did not ask."""
    parameters = audio_parameters()
    parameters["codecs"].append(RED)
    await call.worker.client.produce(call.publisher.id, "mic", "audio", parameters)
    takes_red = {"mimeType": "audio/red", "preferredPayloadType": ortc.RED_PAYLOAD_TYPE}
    wide = CAPABILITIES | {"codecs": [*CAPABILITIES["codecs"], takes_red]}
    other = Peer(call.worker.client, "r", "recv")
    await other.join()
    answers = []
    for peer, capabilities in ((call.viewer, wide), (other, CAPABILITIES)):
        answers.append(await call.worker.client.consume(peer.id, f"{peer.id}<-mic", "mic", capabilities))
        await call.worker.client.resume_consumer(f"{peer.id}<-mic")

    payloads = [
        bytes((0x80 | AUDIO_PT, 3840 >> 6, (3840 & 63) << 2, 3, AUDIO_PT)) + b"oldnew",  # 960 ticks ago, 3 octets
        bytes((0x80 | AUDIO_PT, 0, 0, 9, AUDIO_PT)) + b"short",  # says more than there is
        b"opus",
        bytes((AUDIO_PT,)) + b"alone",
    ]
    types = [RED_PT, RED_PT, AUDIO_PT, RED_PT]
    for number, (payload_type, payload) in enumerate(zip(types, payloads, strict=True)):
        call.publisher.send_rtp(build_rtp(payload_type, number, number * 960, AUDIO_SSRC, payload))
    await until(lambda: min(len(peer.got.rtp) for peer in (call.viewer, other)) == 3, "what can be read")

    opus = bytes((ortc.PAYLOAD_TYPES[ortc.Codec.OPUS],))
    older = bytes((0x80 | opus[0], 3840 >> 6, (3840 & 63) << 2, 3))
    assert [p.payload for p in call.viewer.got.rtp] == [older + opus + b"oldnew", opus + b"opus", opus + b"alone"]
    assert [p.payload for p in other.got.rtp] == [b"new", b"opus", b"alone"]
    assert {p.payload_type for p in call.viewer.got.rtp} == {ortc.RED_PAYLOAD_TYPE}
    assert {p.payload_type for p in other.got.rtp} == {opus[0]}
    mimes = [[codec["mimeType"] for codec in answer["rtp_parameters"]["codecs"]] for answer in answers]
    assert mimes == [["audio/opus", "audio/red"], ["audio/opus"]]
    assert await call.worker.until_count("red_malformed", 1) is None
    await other.close()


async def test_the_loudest_is_the_active_speaker(call: Call) -> None:
    await call.worker.client.produce(call.publisher.id, "mic", "audio", audio_parameters())

    number = 0

    def heard() -> bool:
        nonlocal number
        number += 1
        loud = {LEVEL_ID: bytes((0x80 | 20,))}
        call.publisher.send_rtp(build_rtp(AUDIO_PT, number, number * 960, AUDIO_SSRC, b"opus", extensions=loud))
        return any(n.event == "active_speaker" for n in call.worker.notifications)

    await until(heard, "a speaker")

    speaker = next(n for n in call.worker.notifications if n.event == "active_speaker")
    assert speaker.producer == "mic"
