"""The load generator's own judgement: a figure that is wrong silently is worse than none."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import pytest

from load_tests.bench import steps as step_bench
from load_tests.bench.soak import quarters_us, slope_per_hour
from load_tests.peers import sdp
from load_tests.peers.relays import FULL_SHARE, next_rate, too_much
from load_tests.rig.drive import Load, Round, middle
from load_tests.rig.feedback_runs import RunRecorder
from load_tests.rig.traffic import NACK_EVERY, Subscriber
from media.core import rtcp
from tests.feedback_report import parse_feedback

GOOD = Round(
    elapsed_s=2.0,
    cpu_s=0.5,
    sent=500,
    send_failed=0,
    packets=25_000,
    expected=25_000,
    late_p99_ms=0.1,
    idle_share=0.8,
    overflowed=0,
    nacked=100,
    resent=100,
    latency_p50_ms=1.0,
    latency_p99_ms=3.0,
)


class TestRound:
    def test_cost_is_cpu_over_what_arrived(self) -> None:
        assert GOOD.us_per_packet == pytest.approx(20.0)
        assert GOOD.core_share == pytest.approx(0.25)
        assert GOOD.valid
        assert GOOD.kept_up

    @pytest.mark.parametrize(
        "spoiled", [{"send_failed": 1}, {"late_p99_ms": 6.0}, {"overflowed": 1}, {"idle_share": 0.01}]
    )
    def test_a_generator_that_was_the_bottleneck_makes_it_invalid(self, spoiled: dict[str, Any]) -> None:
        assert not dataclasses.replace(GOOD, **spoiled).valid

    def test_a_relay_that_loses_packets_has_not_kept_up_but_the_round_is_valid(self) -> None:
        lossy = dataclasses.replace(GOOD, packets=24_000)
        assert lossy.valid
        assert not lossy.kept_up

    def test_medians_are_over_valid_rounds(self) -> None:
        spoiled = dataclasses.replace(GOOD, cpu_s=50.0, overflowed=9)
        assert middle([GOOD, spoiled, spoiled], lambda one: one.cpu_s) == 0.5
        assert middle([spoiled, spoiled], lambda one: one.cpu_s) == 50.0, "none is valid: still a figure, marked so"

    def test_interval_of_a_burst_is_ten_packets_long(self) -> None:
        assert Load("paced", 250).interval_s == pytest.approx(0.004)
        assert Load("bursts", 250).interval_s == pytest.approx(0.04)


class TestSearchForAFullCore:
    def test_a_rate_that_leaves_room_is_raised_in_proportion(self) -> None:
        pps, ceiling = next_rate(1000.0, float("inf"), dataclasses.replace(GOOD, cpu_s=0.9))
        assert pps == pytest.approx(1000 * FULL_SHARE / 0.45)
        assert ceiling == float("inf")

    def test_a_rate_that_is_too_much_bounds_all_later_ones(self) -> None:
        lossy = dataclasses.replace(GOOD, cpu_s=1.9, packets=20_000)
        assert too_much(lossy)
        pps, ceiling = next_rate(1000.0, float("inf"), lossy)
        assert pps == 800.0
        again, _ = next_rate(pps, ceiling, dataclasses.replace(GOOD, cpu_s=0.4))
        assert pps < again < 1000.0

    def test_a_relay_that_was_kept_off_its_core_says_nothing_about_the_rate(self) -> None:
        assert not too_much(dataclasses.replace(GOOD, cpu_s=0.5, packets=20_000))

    def test_a_generator_without_time_to_spare_is_too_much(self) -> None:
        assert too_much(dataclasses.replace(GOOD, idle_share=0.0))


class FakePeer:
    """Takes what a subscriber says; a socket would add nothing here."""

    def __init__(self) -> None:
        self.said: list[rtcp.RtcpItem] = []

    def send_rtcp(self, packet: bytes) -> None:
        self.said += rtcp.parse(packet)


def packet(payload_type: int, seq: int, ssrc: int = 7, number: int | None = None, size: int = 200) -> bytes:
    """An RTP packet with an abs-send-time element (id 6) and perhaps a transport-wide number (id 5)."""
    elements = b"\x62abc" + (struct.pack("!BH", 0x51, number) if number is not None else b"")
    elements += bytes(-len(elements) & 3)
    head = struct.pack("!BBHII", 0x90, payload_type, seq & 0xFFFF, 1234, ssrc)
    whole = head + struct.pack("!HH", 0xBEDE, len(elements) // 4) + elements
    return whole + bytes(size - len(whole))


def subscriber(twcc_id: int = 0) -> tuple[Subscriber, FakePeer]:
    peer: Any = FakePeer()
    return Subscriber(peer, {96: "video", 97: "rtx", 111: "audio"}, twcc_id, samples=False), peer


def feed(viewer: Subscriber, datagrams: list[bytes], stamp_ns: int = 10**18) -> None:
    """One read of a run of datagrams; all but the last have one length."""
    run = memoryview(bytearray(b"".join(datagrams)))
    viewer.sink(run, len(run), len(datagrams[0]), stamp_ns)


class TestSubscriberCounts:
    def test_a_run_counts_each_datagram_and_a_shorter_last_one(self) -> None:
        viewer, _ = subscriber()
        feed(viewer, [packet(96, 1), packet(96, 2), packet(96, 3, size=150)])
        feed(viewer, [packet(111, 1)])
        assert viewer.packets == 4
        assert viewer.video.seq == 3

    def test_repairs_are_not_media(self) -> None:
        viewer, _ = subscriber()
        feed(viewer, [packet(97, 1, ssrc=8)])
        assert (viewer.packets, viewer.resent) == (0, 1)

    def test_a_run_of_several_streams_is_counted_one_by_one(self) -> None:
        viewer, _ = subscriber()
        feed(viewer, [packet(96, 1), packet(97, 1, ssrc=8), packet(111, 1, ssrc=9)])
        assert (viewer.packets, viewer.resent, viewer.strange) == (2, 1, 0)

    def test_what_was_not_negotiated_is_neither(self) -> None:
        viewer, _ = subscriber()
        feed(viewer, [packet(100, 1)])
        assert (viewer.packets, viewer.strange) == (0, 1)

    def test_half_a_percent_is_asked_for_again_and_an_answer_without_rtx_is_a_repair(self) -> None:
        viewer, peer = subscriber()
        for seq in range(2 * NACK_EVERY):
            feed(viewer, [packet(96, seq)])
        asked = [item for item in peer.said if isinstance(item, rtcp.Nack)]
        assert len(asked) == viewer.nacked == 2
        feed(viewer, [packet(96, asked[0].lost[0])])
        assert (viewer.packets, viewer.resent) == (2 * NACK_EVERY, 1)

    def test_reports_count_the_wraps_of_sequence_numbers(self) -> None:
        viewer, peer = subscriber()
        for seq in (65_534, 65_535, 65_536):
            feed(viewer, [packet(96, seq)])
        viewer.report()
        report = next(item for item in peer.said if isinstance(item, rtcp.ReceiverReport))
        assert report.blocks[0].highest_seq == 1 << 16


class TestTransportFeedback:
    def reported(self, peer: FakePeer) -> list[tuple[int, int | None]]:
        found: list[tuple[int, int | None]] = []
        for item in peer.said:
            if isinstance(item, rtcp.TransportFeedback):
                found += parse_feedback(item.fci).arrivals
        return found

    def test_arrivals_of_runs_and_single_packets_and_a_hole(self) -> None:
        viewer, peer = subscriber(twcc_id=5)
        start_ns = 64_000_000 * 1000
        feed(viewer, [packet(96, n, number=n) for n in (65_534, 65_535, 65_536 & 0xFFFF)], start_ns)
        feed(viewer, [packet(111, 1, number=1)], start_ns + 3_000_000)
        feed(viewer, [packet(96, 9, number=4)], start_ns + 200_000_000)
        viewer.feedback()
        came = self.reported(peer)
        assert [number for number, _ in came] == [65_534, 65_535, 0, 1, 2, 3, 4]
        first = came[0][1]
        assert first is not None
        assert [None if at is None else at - first for _, at in came] == [0, 0, 0, 3000, None, None, 200_000]

    def test_nothing_is_reported_twice(self) -> None:
        viewer, peer = subscriber(twcc_id=5)
        feed(viewer, [packet(96, 1, number=1)])
        viewer.feedback()
        viewer.feedback()
        assert len(self.reported(peer)) == 1

    def test_many_packets_are_several_feedbacks_that_fit_a_path(self) -> None:
        recorder = RunRecorder()
        for first in range(0, 4000, 8):
            recorder.record(first, 8, 10**18 + first * 10_000)
        packets = recorder.build(1, 2)
        assert all(len(one) < 1200 for one in packets)
        numbers = [
            number
            for one in packets
            for item in rtcp.parse(one)
            if isinstance(item, rtcp.TransportFeedback)
            for number, at in parse_feedback(item.fci).arrivals
            if at is not None
        ]
        assert numbers == list(range(4000))


class TestDescriptions:
    def test_what_we_offer_is_what_we_read(self) -> None:
        peer: Any = FakePeer()
        peer.address, peer.ufrag, peer.password, peer.fingerprint = ("10.0.0.1", 4711), "u", "p", "AA:BB"
        read = sdp.parse(sdp.offer(peer, "sendonly"))
        assert read.remote.address == ("10.0.0.1", 4711)
        assert (read.setup, read.twcc_id) == ("actpass", 3)
        assert read.kinds == {111: "audio", 96: "video", 97: "rtx"}
        answered = sdp.parse(sdp.answer(peer, read))
        assert (answered.setup, answered.kinds) == ("active", read.kinds)

    def test_only_addresses_a_datagram_socket_of_ipv4_reaches_are_taken(self) -> None:
        read = sdp.parse(
            "a=candidate:1 1 tcp 1 10.0.0.2 9 typ host tcptype active\r\n"
            "a=candidate:2 1 udp 1 fe80::1 1000 typ host\r\n"
            "a=candidate:3 1 udp 1 10.0.0.2 2000 typ host\r\n"
        )
        assert read.candidates == [("10.0.0.2", 2000)]


class TestSteps:
    def test_samples_are_told_apart_and_the_samplers_own_wakeups_left_out(self) -> None:
        timer = ["/x/media/aio/relay.py", 1, "_on_timer"]
        rows: step_bench.Rows = [
            (False, 3, [["/x/media/core/rtcp.py", 1, "build"], timer]),
            (False, 2, [["/x/asyncio/base_events.py", 1, "_run_once"]]),
            (True, 1, [["/x/asyncio/base_events.py", 1, "_run_once"]]),
            (False, 9, [["/x/asyncio/selector_events.py", 1, "_read_from_self"]]),
            (False, 4, [["/x/somewhere.py", 1, "f"]]),
        ]
        whole, user = step_bench.tally(rows)
        assert whole == {"ticks: reports, feedback, repairs": 3, "event loop": 2, step_bench.OTHER: 4}
        assert user == {"event loop": 1}


def test_soak_compares_the_first_quarter_with_the_last() -> None:
    rounds = [dataclasses.replace(GOOD, cpu_s=0.5 + index / 4) for index in range(8)]
    first_us, last_us = quarters_us(rounds)
    assert first_us == pytest.approx((20 + 30) / 2)
    assert last_us == pytest.approx((80 + 90) / 2)


def test_slope_is_per_hour() -> None:
    assert slope_per_hour([(0.0, 1.0), (1800.0, 2.0), (3600.0, 3.0)]) == pytest.approx(2.0)
