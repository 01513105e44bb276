"""One peer's doings stay its own: equal SSRCs, early and muted media, floods, broken sockets, our own bugs."""

import errno
import itertools
import logging
from struct import pack
from typing import Any

import pytest

from media.aio.forward import settle
from media.aio.ingress import MAX_HEARD_SSRCS
from media.aio.udp import OUTBOX_BYTES
from media.core import ortc, rtcp
from media.core.codecs import Codec
from media.core.remb import CEILING_BPS
from tests.feedback_report import parse_feedback
from tests.integration.media.inside import Blocking, Direct, frame, pair
from tests.integration.media.peer import (
    AUDIO_PT,
    AUDIO_SSRC,
    LEVEL_ID,
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


async def join(direct: Direct, direction: str, router: str = "r") -> Peer:
    client: Any = direct
    peer = Peer(client, router, direction)
    await peer.join()
    return peer


async def received(direct: Direct, packets: int) -> None:
    await until(lambda: direct.relay.counters.values["rtp_received"] >= packets, f"{packets} packets")


async def test_equal_ssrcs_of_two_consults_are_repaired_each(direct: Direct) -> None:
    """SSRCs are chosen by clients: a hole in one consult must not end the repair of another one's."""
    direct.relay.open_router("other")
    publishers = [await join(direct, "send"), await join(direct, "send", "other")]
    for publisher in publishers:
        direct.relay.produce(publisher.id, f"cam-{publisher.id}", "video", video_parameters(), False)
        for number in (1, 3):
            publisher.send_rtp(frame(number, number == 1))
    await until(lambda: all(len(p.got.of(rtcp.Nack)) >= 2 for p in publishers), "a repeated NACK each")

    direct.relay.close_producer(f"cam-{publishers[0].id}")
    before = len(publishers[1].got.of(rtcp.Nack))
    await until(lambda: len(publishers[1].got.of(rtcp.Nack)) > before, "repair goes on")
    for publisher in publishers:
        await publisher.close()


async def test_video_before_its_produce_is_reported_as_arrived(direct: Direct) -> None:
    """ORTC trap 6: RTP begins before `produce`; reported as lost it would push the estimate down."""
    publisher = await join(direct, "send")
    direct.relay.produce(publisher.id, "mic", "audio", audio_parameters(), False)

    def send(number: int, payload_type: int, ssrc: int, payload: bytes) -> None:
        wide = {TWCC_ID: pack("!H", number)}
        publisher.send_rtp(build_rtp(payload_type, number, number * 960, ssrc, payload, extensions=wide))

    send(0, AUDIO_PT, AUDIO_SSRC, b"opus")
    for number in (1, 2, 3):
        send(number, VIDEO_PT, VIDEO_SSRC, vp8(number == 1, number))
    send(4, AUDIO_PT, AUDIO_SSRC, b"opus")

    def arrivals() -> dict[int, int | None]:
        reports = [parse_feedback(item.fci) for item in publisher.got.of(rtcp.TransportFeedback)]
        return dict(itertools.chain.from_iterable(report.arrivals for report in reports))

    await until(lambda: 4 in arrivals(), "the feedback")
    assert {number for number, at_us in arrivals().items() if at_us is not None} == {0, 1, 2, 3, 4}
    assert direct.relay.counters.values["rtp_unknown_ssrc"] == 3
    await publisher.close()


async def test_a_muted_microphone_is_not_heard(direct: Direct) -> None:
    """A paused Producer may go on sending; it must not become the active speaker."""
    publisher = await join(direct, "send")
    direct.relay.produce(publisher.id, "mic", "audio", audio_parameters(), True)
    loud = {LEVEL_ID: bytes((0x80 | 5,))}
    for number in range(10):
        publisher.send_rtp(build_rtp(AUDIO_PT, number, number * 960, AUDIO_SSRC, b"opus", extensions=loud))
    await received(direct, 10)

    level = direct.relay._producers["mic"].level
    assert level is not None
    level.smooth(1.0)
    assert level.loudness == 0.0
    await publisher.close()


async def test_a_level_without_its_byte_is_not_read(direct: Direct) -> None:
    """A two-byte extension may be empty (RFC 8285 section 4.3); what follows it is not a level."""
    publisher, viewer = await join(direct, "send"), await join(direct, "recv")
    direct.relay.produce(publisher.id, "mic", "audio", audio_parameters(), False)
    direct.relay.consume(viewer.id, "listen", "mic", ortc.router_capabilities())
    direct.relay.resume_consumer("listen")
    block = pack("!HH", 0x1000, 1) + bytes((LEVEL_ID, 0, 0, 0))
    publisher.send_rtp(pack("!BBHII", 0x90, AUDIO_PT, 1, 960, AUDIO_SSRC) + block + b"\0opus")
    await until(lambda: viewer.got.rtp, "the packet")

    level = direct.relay._producers["mic"].level
    assert level is not None
    level.smooth(1.0)
    assert level.loudness == 0.0
    assert ortc.EXTENSION_IDS[ortc.AUDIO_LEVEL_URI] not in viewer.got.rtp[0].extensions
    for peer in (publisher, viewer):
        await peer.close()


async def test_a_late_packet_from_before_the_start_is_not_counted_as_sent(direct: Direct) -> None:
    """Sender reports count what this viewer was sent (RFC 3550 section 6.4.1)."""
    publisher, viewer = await pair(direct)
    publisher.send_rtp(frame(8, False))
    publisher.send_rtp(frame(10, True))
    publisher.send_rtp(frame(9, False))
    publisher.send_rtp(frame(11, False))
    await until(lambda: len(viewer.got.rtp) == 2, "the key frame and what follows")
    publisher.send_rtp(frame(7, False))
    await received(direct, 5)

    consumer = direct.relay._consumers["view"]
    settle(consumer)
    assert consumer.packets_sent == 2
    assert consumer.octets_sent == 2 * len(vp8(True, 1))
    assert direct.relay.counters.values["rtp_sent"] == 2
    for peer in (publisher, viewer):
        await peer.close()


async def test_every_stream_is_reported(direct: Direct) -> None:
    """More than 31 streams need more than one report, none longer than a path carries."""
    publisher = await join(direct, "send")
    for number in range(40):
        parameters = audio_parameters(mid=str(number), encodings=[{"ssrc": 1000 + number}])
        direct.relay.produce(publisher.id, f"mic{number}", "audio", parameters, False)
        publisher.send_rtp(build_rtp(AUDIO_PT, 1, 960, 1000 + number, b"opus"))
    await received(direct, 40)

    def reported() -> set[int]:
        return {block.ssrc for report in publisher.got.of(rtcp.ReceiverReport) for block in report.blocks}

    await until(lambda: len(reported()) == 40, "a block of each")
    assert max(map(len, publisher.got.raw)) < 1200
    await publisher.close()


async def test_lost_retransmissions_do_not_lower_the_bitrate(direct: Direct) -> None:
    """REMB is for the media; an RTX stream's own holes are no loss of the picture."""
    publisher = await join(direct, "send")
    parameters = video_parameters()
    parameters["codecs"][0]["rtcpFeedback"] = [{"type": "goog-remb", "parameter": ""}]
    direct.relay.produce(publisher.id, "cam", "video", parameters, False)
    for number in range(5):
        publisher.send_rtp(frame(number, number == 0))
    for number in (1, 60):
        again = pack("!H", 1) + vp8(False, 1)
        publisher.send_rtp(build_rtp(VIDEO_RTX_PT, number, 3000, VIDEO_RTX_SSRC, again))
    await received(direct, 7)
    publisher.got.reports.clear()
    await until(lambda: publisher.got.of(rtcp.Remb), "REMB")

    blocks = {block.ssrc: block for block in publisher.got.of(rtcp.ReceiverReport)[0].blocks}
    assert blocks[VIDEO_RTX_SSRC].cumulative_lost == 58
    assert abs(publisher.got.of(rtcp.Remb)[-1].bitrate_bps - CEILING_BPS) < 100
    await publisher.close()


async def test_a_flood_of_ssrcs_leaves_nothing_behind(direct: Direct) -> None:
    """libsrtp keeps a context per SSRC that authenticates: an endless row of them must not fill memory."""
    publisher, viewer = await pair(direct)
    publisher.send_rtp(frame(1, True))
    await received(direct, 1)
    transport = direct.relay._transports[publisher.id]
    for number in range(3 * MAX_HEARD_SSRCS):
        publisher.send_rtp(build_rtp(VIDEO_PT + 9, 1, 0, 100_000 + number, b"x"))
        publisher.send_rtcp(rtcp.build_receiver_report(500_000 + number, ()))
        await until(lambda n=number: direct.relay.counters.values["rtp_unknown_ssrc"] == n + 1, "the packet")
        assert len(transport.heard) <= MAX_HEARD_SSRCS

    publisher.send_rtp(frame(2, False))
    await until(lambda: len(viewer.got.rtp) == 2, "media goes on")
    for peer in (publisher, viewer):
        await peer.close()


async def test_a_key_frame_wanted_before_any_media_is_asked_for_at_once(direct: Direct) -> None:
    """ORTC trap 6: the first key frame may have come before `produce`; the viewer must not wait a second for a PLI."""
    publisher, _viewer = await pair(direct)
    assert direct.relay.counters.values["plis_sent"] == 0
    publisher.send_rtp(frame(5, False))
    await received(direct, 1)

    assert direct.relay.counters.values["plis_sent"] == 1
    for peer in (publisher, _viewer):
        await peer.close()


async def test_nobody_asks_for_a_picture_that_nobody_watches(direct: Direct) -> None:
    """A request that was not met ends with the last viewer."""
    publisher, viewer = await pair(direct)
    publisher.send_rtp(frame(5, False))
    await received(direct, 1)
    direct.relay.pause_consumer("view")
    before = direct.relay.counters.values["plis_sent"]
    for _ in range(5):
        direct.skipped_us += 1_500_000
        direct.relay._feedback.tick([], direct.relay._clock())

    assert direct.relay.counters.values["plis_sent"] == before
    for peer in (publisher, viewer):
        await peer.close()


async def test_a_run_that_left_in_part_is_not_sent_under_the_same_numbers(direct: Direct) -> None:
    """A number used twice with two contents would break the viewer's SRTP: what did not leave is lost instead."""
    publisher, viewer = await pair(direct)
    publisher.send_rtp(frame(1, True))
    await until(lambda: viewer.got.rtp, "the first packet")
    udp: Any = direct.relay._udp
    blocked = udp._socket = Blocking(udp._socket)
    udp._direct = -1  # C would not meet what stands in for the socket
    udp._gso = False
    udp._outbox_bytes = OUTBOX_BYTES
    blocked.full_after = 1
    for number in (2, 3, 4):
        publisher.send_rtp(frame(number, False))
    await received(direct, 4)
    blocked.full_after = None
    udp._outbox_bytes = 0
    publisher.send_rtp(frame(5, True))
    await until(lambda: len(viewer.got.rtp) == 3, "what follows")

    numbers = [packet.seq for packet in viewer.got.rtp]
    assert [(number - numbers[0]) & 0xFFFF for number in numbers] == [0, 1, 4]
    assert direct.relay.counters.values["consumers_skipped_to_keyframe"] == 0
    for peer in (publisher, viewer):
        await peer.close()


async def test_a_path_that_refuses_is_loss_for_its_viewer(direct: Direct) -> None:
    """No route is no congestion: asking the publisher for key frames all the time would not help."""
    publisher, viewer = await pair(direct)
    publisher.send_rtp(frame(1, True))
    await until(lambda: viewer.got.rtp, "the first packet")
    udp: Any = direct.relay._udp
    blocked = udp._socket = Blocking(udp._socket)
    udp._direct = -1  # C would not meet what stands in for the socket
    blocked.error = OSError(errno.ENETUNREACH, "no route")
    publisher.send_rtp(frame(2, False))
    await until(lambda: direct.relay.counters.values["udp_send_errors"] >= 1, "the refusal")
    blocked.error = None
    publisher.send_rtp(frame(3, False))
    await until(lambda: len(viewer.got.rtp) == 2, "the next packet")

    first, second = viewer.got.rtp
    assert (second.seq - first.seq) & 0xFFFF == 2
    for peer in (publisher, viewer):
        await peer.close()


@pytest.mark.parametrize("code", [errno.EMSGSIZE, errno.EINVAL])
async def test_packets_too_long_for_segments_leave_one_by_one(direct: Direct, code: int) -> None:
    """Segments longer than the path's MTU are refused, single datagrams are fragmented: only this run falls back."""
    publisher, viewer = await pair(direct)
    udp: Any = direct.relay._udp
    blocked = udp._socket = Blocking(udp._socket)
    udp._direct = -1  # C would not meet what stands in for the socket
    blocked.longest_segment, blocked.longest_error = 1000, OSError(code, "too long")
    for number in range(4):
        publisher.send_rtp(frame(number, number == 0, size=1300))
    await until(lambda: len(viewer.got.rtp) == 4, "all of them")

    assert udp._gso
    for peer in (publisher, viewer):
        await peer.close()


async def test_a_bug_in_one_fanout_costs_only_its_burst(direct: Direct, caplog: pytest.LogCaptureFixture) -> None:
    """What the other Producers gathered in the same wake-up leaves."""
    publisher, viewer = await pair(direct)
    direct.relay.produce(publisher.id, "mic", "audio", audio_parameters(), False)
    direct.relay.consume(viewer.id, "listen", "mic", ortc.router_capabilities())
    direct.relay.resume_consumer("listen")
    forwarder: Any = direct.relay._forwarder
    flush = forwarder.flush

    def broken(lane: Any, payload_type: int, now_us: int) -> Any:
        if payload_type == ortc.PAYLOAD_TYPES[Codec.VP8]:
            lane.burst.clear()
            raise RuntimeError("a bug")
        return flush(lane, payload_type, now_us)

    forwarder.flush = broken
    with caplog.at_level(logging.CRITICAL):
        publisher.send_rtp(frame(1, True))
        publisher.send_rtp(build_rtp(AUDIO_PT, 1, 960, AUDIO_SSRC, b"opus"))
        await until(lambda: viewer.got.rtp, "the sound")
    forwarder.flush = flush
    publisher.send_rtp(frame(2, True))
    await until(lambda: len(viewer.got.rtp) == 2, "the picture")

    assert direct.relay.counters.values["flush_errors"] == 1
    for peer in (publisher, viewer):
        await peer.close()


async def test_a_bug_in_what_is_periodic_does_not_end_it(direct: Direct, caplog: pytest.LogCaptureFixture) -> None:
    """Without the tick no publisher gets feedback and no dead peer is noticed, in every consult."""
    feedback: Any = direct.relay._feedback
    tick, calls = feedback.tick, 0

    def broken(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("a bug")
        tick(*arguments)

    feedback.tick = broken
    with caplog.at_level(logging.CRITICAL):
        await until(lambda: calls >= 3, "later ticks")
    assert direct.relay.counters.values["tick_errors"] == 1


async def test_counters_of_a_closed_consult_remain(direct: Direct) -> None:
    """`stats` only grows, waveforms of closed Routers included."""
    direct.relay._routers["r"].data.hub.counters["ping"] = 3
    assert direct.relay.stats()["waveform_ping"] == 3
    direct.relay.close_router("r")
    assert direct.relay.stats()["waveform_ping"] == 3


async def test_a_hole_wakes_a_relay_that_had_nothing_to_do(direct: Direct) -> None:
    """While nothing is asked for again the relay looks at its clock ten times a second, else fifty times."""
    publisher = await join(direct, "send")
    direct.relay.produce(publisher.id, "cam", "video", video_parameters(), False)
    await until(lambda: direct.relay._calm, "calm")
    publisher.send_rtp(frame(1, True))
    publisher.send_rtp(frame(3, False))
    await received(direct, 2)
    assert not direct.relay._calm

    await until(lambda: direct.relay._calm, "calm after giving up")
    assert len(publisher.got.of(rtcp.Nack)) > 1
    await publisher.close()
