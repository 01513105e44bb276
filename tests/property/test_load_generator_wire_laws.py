"""What the generators' C side believes and shows: hostile RTCP, pictures that cannot be decoded, clocks that wrap."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from load_tests.plan.behaviour import CAMERAS
from load_tests.session import sending, swift
from load_tests.session.receiving import SAMPLE_EVERY
from load_tests.session.sending import Numbers
from load_tests.session.swift import SwiftSender
from media.core import ortc, rtcp, rtp, twcc
from tests.fuzz.generator import believed
from tests.generator_kit import Bench

VIDEO, RTX, AUDIO = 0x1000, 0x1001, 0x2000
BEGIN_S = 100.0


@pytest.fixture
def made() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def camera(made: Bench, patch: pytest.MonkeyPatch) -> SwiftSender:
    """One that sends all its layers from now on."""
    patch.setattr(swift, "time", made.clock)
    peer: Any = SimpleNamespace(engine=made.engine, handle=made.handle, open_handle=made.handle)
    sender = SwiftSender(peer, "s", timed=True)
    sender.begin_camera(CAMERAS["720p"])
    made.lib.gen_rates(made.state, made.handle, [one.bitrate_bps for one in CAMERAS["720p"]], 3)
    return sender


def control(first: int, kind: int, body: bytes) -> bytes:
    assert len(body) % 4 == 0
    return bytes((first, kind)) + (len(body) // 4).to_bytes(2, "big") + body


PAIR = struct.pack("!II", 1, 2)
PLI = rtcp.build_pli(1, 2)
HOSTILE = {
    "a sender report without the block it counts": control(0x81, 200, bytes(24)),
    "a sender report cut off": control(0x80, 200, bytes(20)),
    "a receiver report with fewer blocks than it counts": control(0x82, 201, bytes(4 + 24)),
    "a receiver report of nobody": control(0x80, 201, b""),
    "a name that is longer than the packet": control(0x81, 202, bytes(4) + b"\x01\xffab"),
    "names without their end": control(0x81, 202, bytes(4) + b"\x01\x02ab"),
    "fewer names than are counted": control(0x82, 202, bytes(4) + b"\x01\x01a\0"),
    "fewer that leave than are counted": control(0x83, 203, bytes(8)),
    "feedback about nobody": control(0x81, 206, bytes(4)),
    "a NACK of nothing": control(0x81, 205, PAIR),
    "a NACK of half an entry": control(0xA1, 205, PAIR + b"\0\1\0\2"),
    "a FIR of nobody": control(0x84, 206, PAIR),
    "a FIR of half an entry": control(0x84, 206, PAIR + bytes(12)),
    "a REMB without its number": control(0x8F, 206, PAIR + b"REMB"),
    "a REMB of more streams than it names": control(0x8F, 206, PAIR + b"REMB" + b"\x09\0\0\1" + bytes(4)),
    "padding of no bytes": control(0xA1, 206, PAIR + bytes(4)),
    "padding that is longer than the packet": control(0xA1, 206, PAIR + b"\0\0\0\x0d"),
    "padding before the end": control(0xA1, 206, PAIR + b"\0\0\0\4") + PLI,
    "an extended report whose block is cut off": control(0x80, 207, bytes(4) + b"\x09\0\0\2" + bytes(4)),
    "a reference time of one word": control(0x80, 207, bytes(4) + b"\x04\0\0\1" + bytes(4)),
    "answers of half a block": control(0x80, 207, bytes(4) + b"\x05\0\0\2" + bytes(8)),
    "another version": control(0x41, 206, PAIR),
    "a header cut off": b"\x81\xce\0",
    "more words than there are": b"\x81\xce\0\3" + PAIR,
    "feedback of the reserved symbol": control(0x8F, 205, PAIR + b"\0\1\0\1\0\0\1\0" + b"\x60\1\0\0"),
    "feedback whose times are cut off": control(0x8F, 205, PAIR + b"\0\1\x10\0\0\0\1\0" + b"\x30\0\0\0"),
    "feedback of an empty run": control(0x8F, 205, PAIR + b"\0\1\0\1\0\0\1\0" + b"\0\0\0\0"),
}
UNUSUAL = {
    "an application's own": control(0x80, 204, bytes(8)),
    "a type that nobody knows": control(0x80, 210, b""),
    "a format that nobody knows": control(0x83, 206, PAIR + bytes(4)),
    "a report with a profile's extension": control(0x80, 201, bytes(12)),
    "an extended block that nobody knows": control(0x80, 207, bytes(4) + b"\x63\0\0\1" + bytes(4)),
    "names of nobody": control(0x80, 202, b""),
    "feedback filled up by two bytes": control(0xAF, 205, PAIR + b"\0\1\0\2\0\0\1\0" + b"\x20\2\1\1" + b"\0\0\0\2"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_compound_that_contradicts_itself_is_counted_and_nothing_of_it_believed(made: Bench, name: str) -> None:
    """RFC 3550 appendix A.2, RFC 4585 section 6: also not the request before it, which is sound."""
    with pytest.MonkeyPatch.context() as patch:
        camera(made, patch)
        data = PLI + rtcp.build_remb(1, 500_000, []) + HOSTILE[name]
        assert believed(data) is None
        made.far.send(bytes(made.to_near.protect_rtcp(data)))
        made.turn(BEGIN_S)
        heard = made.engine.ffi.new("gen_heard *")
        made.lib.gen_hear(made.state, made.handle, heard)
        assert (heard.told, heard.arrived, heard.remb_bps) == (0, 0, 0)
        assert made.counted().errors == {"rtcp not readable": 1}
        assert made.ledger.counts["pli_in"] == 0


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_only_unusual_is_passed_over(made: Bench, name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        camera(made, patch)
        data = PLI + UNUSUAL[name]
        assert believed(data) is not None
        made.far.send(bytes(made.to_near.protect_rtcp(data)))
        made.turn(BEGIN_S)
        assert not made.counted().errors
        assert made.ledger.counts["pli_in"] == 1


def test_feedback_of_what_was_never_sent_measures_nothing(made: Bench) -> None:
    """Nor does that of numbers so old that others have their places, nor the wrap of its clock after 12 days."""
    with pytest.MonkeyPatch.context() as patch:
        camera(made, patch)
        patch.setattr(sending, "time", made.clock)
        for step in range(30):
            made.turn(BEGIN_S + step / 1000)
        numbers, heard = Numbers(), made.engine.ffi.new("gen_heard *")
        for reference, first in ((0xFF_FFFF, 1), (0, 1), (1, 30_000), (0xFF_FFFE, 2)):
            recorder = twcc.ArrivalRecorder()
            recorder.record(first, reference * 64_000)
            (packet,) = recorder.build(1, 2)
            made.far.send(bytes(made.to_near.protect_rtcp(packet)))
            made.turn(BEGIN_S + 0.04)
        made.lib.gen_hear(made.state, made.handle, heard)
        assert (heard.told, heard.arrived, heard.delay_count) == (4, 4, 3)
        spread_us = heard.delay_sum_us / 3 - heard.delay_least_us
        assert 0 <= spread_us < 200_000  # four steps of 64 ms lie between the first and the last, not 12 days
        for reference in (0xFF_FFFF, 0, 1, 0xFF_FFFE):
            numbers.told(twcc.ReceivedFeedback(1, 1, 0, reference, [], []))
        assert numbers._reference == (1 << 24) + 0xFF_FFFE


# ---------------------------------------------------------------- pictures


class Viewer:
    """A stream of pictures of three packets, thirty a second, to one Transport."""

    def __init__(self, made: Bench, kind: str = "GEN_VP8") -> None:
        self.made, self.now_s, self.seq = made, BEGIN_S, 100
        lib = made.lib
        lib.gen_listen(made.state, made.handle, True, BEGIN_S, BEGIN_S + 1_000)
        self.track = lib.gen_track_new(made.state, made.handle, VIDEO, RTX, getattr(lib, kind), 90_000)
        self.sent: list[bytes] = []

    def packet(self, ssrc: int, seq: int, *, marker: bool, first: bool, key: bool, timestamp: int) -> bytes:
        block = rtp.build_extensions([(ortc.EXTENSION_IDS[ortc.TRANSPORT_CC_URI], bytes(2))])
        payload = bytes((0x90 if first else 0x80, 0x80, 0, 0x10 if key else 0x11)) + bytes(40)
        if ssrc == RTX:
            payload = struct.pack("!H", seq) + payload
        head = struct.pack("!BBHII", 0x90, marker << 7 | 100, seq, timestamp & 0xFFFF_FFFF, ssrc)
        return head + block + payload

    def show(self, *, key: bool = False, without: tuple[int, ...] = (), timestamp: int | None = None) -> list[Any]:
        """One picture, without some of its packets; what is said to the server meanwhile."""
        self.now_s += 1 / 30
        for number in range(3):
            if number not in without:
                self.give(number, self.seq + number, key=key, timestamp=timestamp)
        self.seq += 3
        return self.look()

    def give(
        self, number: int, seq: int, *, key: bool = False, ssrc: int = VIDEO, timestamp: int | None = None
    ) -> None:
        plain = self.packet(
            ssrc, seq, marker=number == 2, first=number == 0, key=key,
            timestamp=seq // 3 * 3_000 if timestamp is None else timestamp,
        )  # fmt: skip
        self.made.far.send(bytes(self.made.to_near.protect(plain)))

    def look(self, wait_s: float = 0.0) -> list[Any]:
        """What is said to the server meanwhile."""
        self.now_s += wait_s
        said = self.made.plain(self.made.turn(self.now_s))[1]
        return [item for one in said for item in rtcp.parse(one)]

    @property
    def shown(self) -> int:
        return int(self.made.counted().counts["frames_in"])


def test_a_picture_with_a_hole_is_not_there_until_it_is_repaired(made: Bench) -> None:
    viewer = Viewer(made)
    viewer.show(key=True)
    viewer.show()
    assert viewer.shown == 2
    viewer.show(without=(1,))
    viewer.show()
    assert viewer.shown == 2  # nor the one behind it
    viewer.give(1, viewer.seq - 5, ssrc=RTX)
    viewer.look(0.3)
    assert viewer.shown == 4
    assert viewer.made.ledger.counts["freezes"] == 1
    viewer.show(without=(2,))  # its marker, which comes with the repair
    viewer.show()
    assert viewer.shown == 4
    viewer.give(2, viewer.seq - 4, ssrc=RTX)
    viewer.look()
    assert viewer.shown == 6


def test_where_repairs_are_frequent_pictures_are_held_back_and_do_not_freeze(made: Bench) -> None:
    """As a browser's jitter buffer does it: the first few are seen, then the picture is later and goes on."""
    viewer = Viewer(made)
    viewer.show(key=True)
    freezes = []
    for number in range(12):
        part = number % 3  # the first, one within, the marker; repaired, or late on its own stream
        viewer.show(without=(part,))
        lost = viewer.seq - 3 + part
        for _ in range(6):  # 0.2 s until the repair comes
            viewer.show()
        viewer.give(part, lost, ssrc=RTX if number % 2 else VIDEO)
        viewer.look()
        for _ in range(20):
            viewer.show()
        made.counted()
        freezes.append(made.ledger.counts["freezes"])
        assert viewer.shown == 1 + 27 * (number + 1)
    assert freezes[2] == 3
    assert freezes[-1] - freezes[3] == 0
    viewer.look(61)  # calm again
    viewer.show(key=True)
    held = viewer.track.shown_s - viewer.now_s
    assert held == 0


def test_what_never_comes_ends_the_picture_until_the_next_key_frame(made: Bench) -> None:
    viewer = Viewer(made)
    viewer.show(key=True)
    viewer.show(without=(1,))
    said = []
    for _ in range(12):
        said += viewer.look(0.1)
    assert any(isinstance(item, rtcp.Pli) for item in said)
    for _ in range(2 * SAMPLE_EVERY):  # though these are whole
        viewer.show()
    assert viewer.shown == 1
    viewer.give(0, viewer.seq - 90, ssrc=RTX, key=True)  # a repair of before changes nothing
    viewer.look()
    viewer.show(key=True)
    viewer.show()
    assert viewer.shown == 3
    assert viewer.made.ledger.counts["rtp_lost"] == 1
    other = Viewer(made, "GEN_VIDEO")  # whose key frames cannot be told: what comes is shown
    assert other.track.key_seen


def test_a_key_frame_that_begins_with_a_repair_is_one(made: Bench) -> None:
    viewer = Viewer(made)
    viewer.show(key=True)
    viewer.show(without=(0, 1, 2))
    for _ in range(12):
        viewer.look(0.1)
    viewer.show()  # the hole before it is found only now, and given up
    for _ in range(12):
        viewer.look(0.1)
    viewer.show(key=True, without=(0,))
    viewer.give(0, viewer.seq - 3, ssrc=RTX, key=True)
    viewer.look()
    assert viewer.shown == 2
    assert viewer.made.ledger.counts["rtp_lost"] == 3


def test_a_stream_that_begins_without_a_key_frame_is_asked_for_one(made: Bench) -> None:
    viewer = Viewer(made)
    said = []
    for _ in range(20):
        said += viewer.show()
    assert sum(isinstance(item, rtcp.Pli) for item in said) == 1
    assert viewer.shown == 0
    assert viewer.track.picture_s == 0
    viewer.show(key=True)
    assert viewer.shown == 1
    assert viewer.track.picture_s > 0


# ---------------------------------------------------------------- reports and clocks


def test_loss_in_reports_is_what_was_expected_less_what_came(made: Bench) -> None:
    """RFC 3550 appendix A.3: at once, and a repair on its own stream does not mend it."""
    made.lib.gen_listen(made.state, made.handle, True, BEGIN_S + 50, BEGIN_S + 1)
    made.lib.gen_track_new(made.state, made.handle, VIDEO, RTX, made.lib.GEN_VP8, 90_000)
    viewer = Viewer.__new__(Viewer)
    viewer.made, viewer.now_s, viewer.seq = made, BEGIN_S, 0xFFFE
    for seq in (0xFFFE, 0xFFFF, 1, 2, 5):
        viewer.give(1, seq)
    viewer.give(1, 3, ssrc=RTX)
    viewer.look()
    (report,) = (item for item in viewer.look(1.0) if isinstance(item, rtcp.ReceiverReport))
    (block,) = report.blocks
    assert (block.cumulative_lost, block.highest_seq) == (3, 0x1_0005)
    assert block.fraction_lost == 256 * 3 // 8
    viewer.give(1, 3)
    viewer.look()
    (report,) = (item for item in viewer.look(1.0) if isinstance(item, rtcp.ReceiverReport))
    assert (report.blocks[0].cumulative_lost, report.blocks[0].fraction_lost) == (2, 0)


def test_an_hour_at_the_wrap_of_the_clock_is_no_jitter(made: Bench) -> None:
    viewer, jitter = Viewer(made), list[float]()
    for number in range(60):
        viewer.show(key=not number, timestamp=(0xFFFF_FFFF - 30 * 3_000 + number * 3_000) & 0xFFFF_FFFF)
        jitter.append(viewer.track.jitter)
    assert max(jitter) < 90  # of 90 000 a second: 1 ms


def test_reports_of_many_streams_fit_any_path_and_leave_none_out(made: Bench) -> None:
    made.lib.gen_listen(made.state, made.handle, True, math.inf, BEGIN_S + 1)
    viewer = Viewer.__new__(Viewer)
    viewer.made, viewer.now_s = made, BEGIN_S
    for number in range(64):
        made.lib.gen_track_new(made.state, made.handle, VIDEO + 2 * number, 0, made.lib.GEN_AUDIO, 48_000)
        viewer.give(1, 7, ssrc=VIDEO + 2 * number)
    made.turn(BEGIN_S)
    came = made.turn(BEGIN_S + 1)
    assert all(len(one) <= 1_200 for one in came)
    told = [block.ssrc for one in made.plain(came)[1] for item in rtcp.parse(one)
            if isinstance(item, rtcp.ReceiverReport) for block in item.blocks]  # fmt: skip
    assert told == [VIDEO + 2 * number for number in range(64)]


def test_each_layer_counts_time_from_a_beginning_of_its_own(made: Bench) -> None:
    """As in a browser; by its sender reports they mean the same moment."""
    with pytest.MonkeyPatch.context() as patch:
        camera(made, patch)
        stamps: dict[int, list[int]] = {}
        told: dict[int, rtcp.SenderReport] = {}
        for step in range(1_500):
            packets, controls = made.plain(made.turn(BEGIN_S + step / 1000))
            for one in packets:
                stamps.setdefault(int.from_bytes(one[8:12], "big"), []).append(int.from_bytes(one[4:8], "big"))
            told |= {item.ssrc: item for one in controls for item in rtcp.parse(one)
                     if isinstance(item, rtcp.SenderReport)}  # fmt: skip
        firsts = {ssrc: found[0] for ssrc, found in stamps.items()}
        assert len(set(firsts.values())) == 3
        assert len({(told[ssrc].rtp_timestamp - first) & 0xFFFF_FFFF for ssrc, first in firsts.items()}) == 1
        assert all((found[-1] - found[0]) & 0xFFFF_FFFF < 2 * 90_000 for found in stamps.values())


def test_what_comes_after_the_keys_are_gone_is_no_error(made: Bench) -> None:
    """A session that leaves: the server hears of it a little later."""
    viewer = Viewer(made)
    viewer.show(key=True)
    null = made.engine.ffi.NULL
    for _ in range(2):
        made.lib.gen_keys(made.state, made.handle, null, null)
        viewer.show(key=True)
        made.far.send(bytes(made.to_near.protect_rtcp(PLI)))
        viewer.look()
    assert not made.counted().errors
