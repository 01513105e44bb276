"""The C side of the generators does what its twins in Python do: what is counted, answered and lost, byte for byte."""

from __future__ import annotations

import errno
import itertools
import math
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pylibsrtp import Error as SrtpError

from load_tests.plan.behaviour import CAMERAS
from load_tests.plan.line import Dice, Direction, Line
from load_tests.report.histogram import Histogram
from load_tests.report.ledger import Ledger
from load_tests.rig.peer import PeerFailed
from load_tests.rig.poller import Poller
from load_tests.session import engine as engines
from load_tests.session import receiving, sending, wall
from load_tests.session.path import Path as LinePath
from load_tests.session.receiving import FEEDBACK_S, OWN_SSRC, REPORT_S, Receiver
from load_tests.session.sending import HISTORY, KEY_FACTOR, Numbers, picture_sizes
from load_tests.session.swift import SwiftPeer, SwiftReceiver, SwiftSender
from load_tests.session.trailer import build_trailer, read_trailer
from media.core import ortc, rtcp, rtp, twcc
from media.core.codecs import vp8_starts_key_frame
from tests.generator_kit import Bench

VIDEO, RTX, AUDIO, STRANGE = 0x1000, 0x1001, 0x2000, 0x9999
BEGIN_S = 100.0
HEADER = Path(__file__).parents[2] / "load_tests/native/generator.h"
MADE = [
    {"consumer": "c1", "producer": "p1", "kind": "video",
     "rtp_parameters": {"encodings": [{"ssrc": VIDEO, "rtx": {"ssrc": RTX}}], "codecs": [{"clockRate": 90_000}]}},
    {"consumer": "c2", "producer": "p2", "kind": "audio",
     "rtp_parameters": {"encodings": [{"ssrc": AUDIO}], "codecs": [{"clockRate": 48_000}]}},
]  # fmt: skip


@contextmanager
def bench(line: Line | None = None) -> Iterator[Bench]:
    made = Bench(line or Line())
    try:
        yield made
    finally:
        made.close()


class Twin:
    """The Python receiver at the same packets; it is the peer that it sends by."""

    sink: Any = None

    def __init__(self, bench: Bench) -> None:
        self.ledger, self.sent = Ledger(), list[bytes]()
        self._receive = session_of(bench)
        self.receiver = Receiver(self, self.ledger, lambda: None, timed=True, consult=0)  # type: ignore[arg-type]

    def unprotect_rtp(self, datagram: bytes) -> bytes:
        return bytes(self._receive.unprotect(datagram))

    def unprotect_rtcp(self, datagram: bytes) -> bytes:
        return bytes(self._receive.unprotect_rtcp(datagram))

    def send_rtcp(self, packet: bytes) -> None:
        self.sent.append(packet)


def session_of(bench: Bench) -> Any:
    from pylibsrtp import Policy

    from tests.generator_kit import KEYS, session

    return session(KEYS[0], Policy.SSRC_ANY_INBOUND)


def packet(
    ssrc: int, seq: int, timestamp: int, number: int, *, marker: bool, key: bool, consult: int, sent_ns: int,
    repaired: int = 0,
) -> bytes:  # fmt: skip
    elements = [(ortc.EXTENSION_IDS[ortc.ABS_SEND_TIME_URI], b"abc")]
    elements.append((ortc.EXTENSION_IDS[ortc.TRANSPORT_CC_URI], struct.pack("!H", number & 0xFFFF)))
    payload = b"\x90\x80\x00" + (b"\x10" if key else b"\x11") + bytes(40) + build_trailer(consult, sent_ns)
    if ssrc == RTX:
        payload = struct.pack("!H", repaired & 0xFFFF) + payload
    head = struct.pack("!BBHII", 0x90, marker << 7 | 100, seq & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
    return head + rtp.build_extensions(elements) + payload


steps = st.lists(
    st.tuples(
        st.sampled_from([VIDEO, VIDEO, VIDEO, VIDEO, AUDIO, RTX, STRANGE]),
        st.sampled_from([1, 1, 1, 1, 1, 2, 3, 20, 0, -1, -3, 600]),  # how far the number goes on
        st.sampled_from([1, 1, 1, 1, 2, 5, 0, -2, 450, 0x8800]),  # and the transport-wide one
        st.booleans(),
        st.sampled_from([False, False, False, True]),  # the beginning of a key frame
        st.sampled_from([0.0, 0.001, 0.02, 0.06, 0.3, 1.05, 1.3]),  # time that passes before
        st.sampled_from([0, 0, 0, 4]),  # consult it comes from
        st.sampled_from(["", "", "", "", "junk", "report", "broken report"]),
    ),
    min_size=10,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(0, 0xFFFF))
def test_it_receives_as_its_twin(play: Any, first: int) -> None:
    """Counts, histograms, transport-wide feedback, NACK, PLI and receiver reports are the same, byte for byte."""
    with bench() as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(receiving, "time", made.clock)
        patch.setattr(wall, "time", made.clock)
        twin = Twin(made)
        made.lib.gen_listen(made.state, made.handle, True, BEGIN_S, BEGIN_S + 0.05)
        for one in MADE:
            twin.receiver.add(one)
            encoding = one["rtp_parameters"]["encodings"][0]  # type: ignore[index]
            made.lib.gen_track_new(
                made.state, made.handle, encoding["ssrc"], encoding.get("rtx", {}).get("ssrc", 0),
                one["kind"] == "video", one["rtp_parameters"]["codecs"][0]["clockRate"],  # type: ignore[index]
            )  # fmt: skip
        now_s, seqs, number = BEGIN_S, dict.fromkeys((VIDEO, AUDIO, RTX, STRANGE), first), first
        due = {"feedback": BEGIN_S, "report": BEGIN_S + 0.05}
        for ssrc, ahead, wide, marker, key, wait_s, consult, other in [(VIDEO, 1, 1, True, True, 0, 0, ""), *play]:
            now_s += wait_s
            seqs[ssrc], number = seqs[ssrc] + ahead, number + wide
            made.clock.now_s = now_s
            sent_ns = made.clock.time_ns() - 3_000_000
            if other == "junk":
                datagram = b"\x80\x64" + bytes(40)
            elif other:
                report = rtcp.build_sender_report(ssrc, 7 << 40 | 5 << 20, 1000, 1, 1)
                datagram = bytes(made.to_near.protect_rtcp(report if other == "report" else report[:8] + report[:20]))
            else:
                plain = packet(ssrc, seqs[ssrc], seqs[ssrc] * 3000, number, marker=marker, key=key, consult=consult,
                               sent_ns=sent_ns, repaired=seqs[VIDEO] - 1)  # fmt: skip
                try:
                    datagram = bytes(made.to_near.protect(plain))
                except Exception:  # libsrtp protects no number that is too old for its window
                    continue
            made.far.send(datagram)
            went = made.plain(made.turn(now_s))[1]
            twin.sent.clear()
            twin.receiver._sink(memoryview(datagram), len(datagram), len(datagram), 0)
            for name, interval_s in (("feedback", FEEDBACK_S), ("report", REPORT_S)):
                if due[name] <= now_s:
                    due[name] = max(due[name], now_s) + interval_s if due[name] + interval_s <= now_s else (
                        due[name] + interval_s)  # fmt: skip
                    getattr(twin.receiver, name)()
            assert went == twin.sent
        twin.receiver.close()
        made.lib.gen_peer_free(made.state, made.handle)
        counted, expected = made.counted(), twin.ledger
        assert counted.counts == expected.counts
        assert counted.errors == expected.errors
        for figure in ("forward_ms", "jitter_ms", "freeze_ms"):
            assert same(counted.distributions.get(figure), expected.distributions.get(figure)), figure


def same(left: Histogram | None, right: Histogram | None) -> bool:
    if left is None or right is None:
        return left is right
    mine, theirs = left.encode(), right.encode()
    return mine["counts"] == theirs["counts"] and all(
        math.isclose(mine[name], theirs[name], rel_tol=1e-9, abs_tol=1e-9) for name in ("total", "lowest", "highest")
    )


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        Line,
        loss=st.sampled_from([0, 0.05, 0.5]),
        delay_ms=st.sampled_from([0, 5, 80]),
        jitter_ms=st.sampled_from([0, 30]),
        down_bps=st.sampled_from([0, 100_000, 2_000_000]),
    ),
    st.lists(st.tuples(st.sampled_from([0.0, 0.001, 0.02, 0.1]), st.integers(1, 1400)), max_size=60),
)
def test_a_line_loses_and_delays_as_its_twin(line: Line, play: Any) -> None:
    """The same datagrams come through, in the same order, none before the time its twin says."""
    with bench(line) as made:
        direction = Direction(line, line.down_bps, 0)
        direction.dice.state = made.path.seeds[1]
        now_s, expected, times = BEGIN_S, list[bytes](), list[float]()
        for index, (wait_s, size) in enumerate(play):
            now_s += wait_s
            datagram = bytes([1]) + struct.pack("!H", index) + bytes(size)
            made.far.send(datagram)
            made.turn(now_s)
            at_s = direction.admit(now_s, len(datagram))
            if at_s is not None:
                expected.append(datagram)
                times.append(at_s)
            here = sum(one <= now_s for one in times)
            # what is due at this very moment was looked for before it came in
            assert here - 1 <= len(made.handed) <= here or len(made.handed) == sum(one < now_s for one in times)
        made.turn(now_s + 10)
        assert [one for one, _ in made.handed] == expected
        assert made.counted().counts["line_lost"] == len(play) - len(expected)


def test_dice_are_rolled_alike() -> None:
    rolls = [Dice("a").roll(), Dice("b").roll()]
    assert rolls[0] != rolls[1]
    assert all(0 <= one < 1 for one in rolls)
    dice = Dice(3)
    mean = sum(dice.roll() for _ in range(10_000)) / 10_000
    assert abs(mean - 0.5) < 0.02


def play_camera(made: Bench, seconds: float, *, begin_s: float = BEGIN_S) -> list[bytes]:
    """RTP packets of so long, in steps of a millisecond."""
    packets = []
    for step in range(round(seconds * 1000)):
        packets += made.plain(made.turn(begin_s + step / 1000))[0]
    return packets


def ssrc_of(one: bytes) -> int:
    return int.from_bytes(one[8:12], "big")


def payload_of(one: bytes) -> bytes:
    return one[receiving._payload_at(one) :]


def begin(made: Bench, patch: Any) -> tuple[SwiftSender, list[Any]]:
    from load_tests.session import swift

    patch.setattr(swift, "time", made.clock)
    peer: Any = SimpleNamespace(engine=made.engine, handle=made.handle, open_handle=made.handle)
    sender = SwiftSender(peer, "s", timed=True)
    sender.begin_camera(CAMERAS["720p"])
    layers = list(CAMERAS["720p"])
    made.lib.gen_rates(made.state, made.handle, [one.bitrate_bps for one in layers], 3)
    return sender, layers


def test_a_camera_sends_what_a_browser_sends() -> None:
    """Sizes, pacing, numbering, key frames on demand, repairs: all as on the wire of a real one."""
    with bench() as made, pytest.MonkeyPatch.context() as patch:
        _, layers = begin(made, patch)
        packets = play_camera(made, 6)
        streams: dict[int, list[bytes]] = {}
        for one in packets:
            streams.setdefault(ssrc_of(one), []).append(one)
        assert len(streams) == 3
        rates = sorted(sum(len(payload_of(one)) for one in stream) * 8 / 6 for stream in streams.values())
        assert rates == pytest.approx([layer.bitrate_bps for layer in layers], rel=0.15)
        numbers = []
        for stream in streams.values():
            seqs = [int.from_bytes(one[2:4], "big") for one in stream]
            assert all((after - before) & 0xFFFF == 1 for before, after in itertools.pairwise(seqs))
            assert sum(one[1] >> 7 for one in stream) == pytest.approx(6 * 30, abs=3)  # a marker a picture
            assert [vp8_starts_key_frame(one, receiving._payload_at(one), len(one)) for one in stream].count(True) == 1
            assert all(read_trailer(payload_of(one)) is not None for one in stream)
            assert all(len(one) <= 1200 for one in stream)
        for one in packets:
            elements, _ = rtp.read_extensions(bytearray(one), 12, len(one))
            at = {name: one[where : where + size] for name, where, size in elements}
            numbers.append(int.from_bytes(at[ortc.EXTENSION_IDS[ortc.TRANSPORT_CC_URI]], "big"))
            assert at[ortc.EXTENSION_IDS[ortc.MID_URI]] == b"0"
        assert numbers == list(range(1, len(packets) + 1))

        wanted = ssrc_of(packets[-1])
        lost = next(one for one in reversed(streams[wanted]) if one[1] & 0x80)
        made.far.send(bytes(made.to_near.protect_rtcp(rtcp.build_pli(1, wanted))))
        made.far.send(bytes(made.to_near.protect_rtcp(rtcp.build_nack(1, wanted, [int.from_bytes(lost[2:4], "big")]))))
        after = play_camera(made, 0.3, begin_s=BEGIN_S + 6)
        repair = next(one for one in after if one[1] & 0x7F == sending.RTX_PT)
        assert payload_of(repair) == lost[2:4] + payload_of(lost)  # RFC 4588
        assert repair[4:8] == lost[4:8]
        assert repair[1] >> 7 == lost[1] >> 7  # also the marker is the original's (section 4)
        pictures: dict[bytes, int] = {}
        for one in (one for one in after if ssrc_of(one) == wanted):
            pictures[one[4:8]] = pictures.get(one[4:8], 0) + len(payload_of(one))
        layer = next(
            row for row in layers
            if row.bitrate_bps == min(layers, key=lambda it: abs(it.bitrate_bps - sum(
                len(payload_of(one)) for one in streams[wanted]) * 8 / 6)).bitrate_bps
        )  # fmt: skip
        assert max(pictures.values()) == pytest.approx(KEY_FACTOR * layer.bitrate_bps / 8 / 30, rel=0.05)
        assert made.counted().counts["pli_in"] == 1
        assert made.counted().counts["rtx_out"] == 1

        made.lib.gen_rates(made.state, made.handle, [150_000, 0, 0], 3)
        play_camera(made, 0.2, begin_s=BEGIN_S + 6.4)
        assert len({ssrc_of(one) for one in play_camera(made, 0.5, begin_s=BEGIN_S + 6.6)}) == 1


def test_a_microphone_speaks_every_20_ms_and_reports() -> None:
    with bench() as made, pytest.MonkeyPatch.context() as patch:
        from load_tests.session import swift

        patch.setattr(swift, "time", made.clock)
        peer: Any = SimpleNamespace(engine=made.engine, handle=made.handle, open_handle=made.handle)
        ssrc = SwiftSender(peer, "s", timed=True).begin_microphone()
        sound, reports = [], []
        for step in range(5000):
            plain = made.plain(made.turn(BEGIN_S + step / 1000))
            sound += plain[0]
            reports += plain[1]
        assert len(sound) == pytest.approx(250, abs=2)
        levels = set()
        for one in sound:
            elements, _ = rtp.read_extensions(bytearray(one), 12, len(one))
            levels |= {one[where] for name, where, _ in elements if name == ortc.EXTENSION_IDS[ortc.AUDIO_LEVEL_URI]}
            assert len(payload_of(one)) == sending.AUDIO_BYTES
        assert levels == {0x9E, 0x7F}  # talking with the voice bit, and listening
        told = [item for one in reports for item in rtcp.parse(one) if isinstance(item, rtcp.SenderReport)]
        assert len(told) == pytest.approx(5, abs=1)
        assert {one.ssrc for one in told} == {ssrc}
        assert told[-1].packets <= len(sound)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_feedback_is_read_as_its_twin_reads_it(data: Any) -> None:
    """What arrived and how delayed, from whatever feedback the server makes, and from bytes that are none."""
    with bench() as made, pytest.MonkeyPatch.context() as patch:
        begin(made, patch)
        patch.setattr(sending, "time", made.clock)
        patch.setattr(wall, "time", made.clock)
        numbers = Numbers()
        for step in range(40):
            for one in made.turn(BEGIN_S + step / 1000):
                if not 192 <= one[1] <= 223:
                    numbers.take(len(one))
        recorder = twcc.ArrivalRecorder()
        for number in data.draw(st.lists(st.integers(0, 60), max_size=30)):
            recorder.record(number, 5_000_000 + data.draw(st.integers(0, 200_000)))
        bodies = recorder.build(1, 2)
        if data.draw(st.booleans()):
            bodies.append(rtcp.build_transport_feedback(1, 2, data.draw(st.binary(min_size=4, max_size=40).map(
                lambda raw: raw[: len(raw) // 4 * 4]))))  # fmt: skip
        broken = 0
        for one in bodies:
            made.far.send(bytes(made.to_near.protect_rtcp(one)))
            try:
                for item in rtcp.parse(one):
                    if isinstance(item, rtcp.TransportFeedback):
                        numbers.told(twcc.read_feedback(item.fci))
            except rtcp.MalformedRtcp:
                broken += 1
        made.turn(BEGIN_S + 0.5)
        heard = made.engine.ffi.new("gen_heard *")
        made.lib.gen_hear(made.state, made.handle, heard)
        expected = numbers.heard()
        assert (heard.told, heard.arrived) == (expected.told, expected.arrived)
        assert made.counted().errors.get("rtcp not readable", 0) == broken


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["raw", "rtp", "rtcp"]), st.integers(128, 191), st.binary(max_size=120)), max_size=20
    )
)
def test_whatever_comes_is_survived_and_counted(play: Any) -> None:
    """Bytes of no meaning, in the clear and under the right keys: nothing ends, nothing is sent for them."""
    with bench() as made, pytest.MonkeyPatch.context() as patch:
        begin(made, patch)
        made.lib.gen_listen(made.state, made.handle, True, math.inf, math.inf)
        made.lib.gen_track_new(made.state, made.handle, VIDEO, RTX, True, 90_000)
        made.lib.gen_track_new(made.state, made.handle, AUDIO, 0, False, 48_000)
        made.lib.gen_speak(made.state, made.handle, math.inf)
        ssrcs = struct.pack("!II", VIDEO, RTX)
        for how, first, body in play:
            datagram = bytes((first,)) + body
            try:
                if how == "rtp":
                    datagram = bytes(made.to_near.protect(bytes((0x90, 100)) + body[:6].ljust(6) + ssrcs[:4] + body))
                elif how == "rtcp":
                    head = bytes((first, 200 + len(body) % 8, 0, len(body) // 4 % 32)) + ssrcs[4:] + body
                    datagram = bytes(made.to_near.protect_rtcp(head))
            except SrtpError:
                continue
            made.far.send(datagram)
            made.turn(BEGIN_S)
        assert all(192 <= one[1] <= 223 or one[1] & 0x7F == sending.RTX_PT for one in made.turn(BEGIN_S + 0.001))
        before = made.counted().counts["rtp_in"]
        sound = packet(AUDIO, 60_000, 0, 60_000, marker=True, key=True, consult=0, sent_ns=1)
        made.far.send(bytes(made.to_near.protect(sound)))
        made.turn(BEGIN_S + 0.002)
        assert made.counted().counts["rtp_in"] == before + 1  # it goes on


def test_the_histories_and_tables_that_both_sides_count_on_are_alike() -> None:
    with bench() as made:
        assert len(made.engine.ffi.new("gen_figures *").histograms[0].buckets) >= 4352
        assert len(picture_sizes()) == sending.SIZES
        assert HISTORY == 512
        assert OWN_SSRC == 0x33333333


def test_a_build_of_another_day_is_told_to_be_installed_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another version, or without any one of the names: a sentence; media then goes in Python, or not at all."""
    declared = set(re.findall(r"\b(gen_\w+)\(", HEADER.read_text())) | set(
        re.findall(r"define (GEN_\w+)", HEADER.read_text())
    )
    assert set(engines.NEEDED) == declared - {"GEN_VERSION", engines.AHEAD}
    whole: dict[str, Any] = dict.fromkeys(engines.NEEDED, 1) | {"GEN_VERSION": engines.VERSION}
    for gone in (*engines.NEEDED, "GEN_VERSION"):
        lib = SimpleNamespace(**{name: value for name, value in whole.items() if name != gone})
        stale = SimpleNamespace(ffi=None, lib=lib)
        monkeypatch.setattr(engines, "importlib", SimpleNamespace(import_module=lambda _name, stale=stale: stale))
        monkeypatch.setenv(engines.VARIABLE, "c")
        with pytest.raises(engines.EngineUnavailable, match="install again"):
            engines.load()
        monkeypatch.setenv(engines.VARIABLE, "auto")
        assert engines.load() is None
        assert capsys.readouterr().err.count("install again") == 1


@pytest.mark.parametrize("exponent", [0, 17, 45, 46, 63])
def test_the_most_that_a_receiver_takes_is_never_less_than_it_said(exponent: int) -> None:
    """REMB has 18 bits of mantissa and 6 of exponent: more than 63 bits hold is as much as they hold."""
    with bench() as made:
        heard = made.engine.ffi.new("gen_heard *")
        for mantissa in (1, 2, 0x3FFFF):
            one = bytearray(rtcp.build_remb(1, 0, []))
            struct.pack_into("!I", one, 16, exponent << 18 | mantissa)
            (item,) = rtcp.parse(bytes(one))
            assert isinstance(item, rtcp.Remb)
            made.far.send(bytes(made.to_near.protect_rtcp(bytes(one))))
            made.turn(BEGIN_S)
            made.lib.gen_hear(made.state, made.handle, heard)
            assert heard.remb_bps == min(item.bitrate_bps, (1 << 63) - 1)


def test_a_flood_to_one_transport_does_not_keep_the_others_waiting() -> None:
    """What is too much for one look is taken at the next ones, in order."""
    with bench() as made:
        for index in range(200):
            made.far.send(bytes([1, index]))
        made.turn(BEGIN_S)
        assert len(made.handed) == 128
        made.turn(BEGIN_S + 0.001)
        assert [one[1] for one, _ in made.handed] == list(range(200))


def test_tracks_that_were_closed_are_remembered_as_its_twin_remembers_them() -> None:
    """64 streams, and one without repairs is one; what stands still as a clock is not divided by."""
    with bench() as made:
        made.lib.gen_listen(made.state, made.handle, True, math.inf, BEGIN_S + 0.5)
        for ssrc in range(1, 51):
            track = made.lib.gen_track_new(made.state, made.handle, ssrc, 0, False, 48_000)
            made.lib.gen_track_forget(made.state, made.handle, track)
        made.lib.gen_track_new(made.state, made.handle, AUDIO, 0, False, 0)
        for ssrc, seq in ((1, 1), (50, 1), (AUDIO, 1), (AUDIO, 2), (AUDIO, 3), (STRANGE, 1)):
            plain = packet(ssrc, seq, seq * 960, seq, marker=False, key=False, consult=0, sent_ns=0)
            made.far.send(bytes(made.to_near.protect(plain)))
            made.turn(BEGIN_S)
        made.turn(BEGIN_S + 1)
        counted = made.counted()
        assert counted.counts["rtp_strange"] == 1
        assert math.isfinite(counted.distributions["jitter_ms"].total)


def test_a_camera_that_begins_again_sends_nothing_of_the_first() -> None:
    with bench() as made, pytest.MonkeyPatch.context() as patch:
        sender, _ = begin(made, patch)
        first = {ssrc_of(one) for one in play_camera(made, 0.05)}  # within its first pictures, which are paced
        sender.begin_camera(CAMERAS["720p"])
        again = play_camera(made, 0.3, begin_s=BEGIN_S + 0.05)
        assert again
        assert first.isdisjoint(ssrc_of(one) for one in again)
        assert all(read_trailer(payload_of(one)) is not None for one in again)


async def test_what_was_freed_is_never_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Transport or an engine that is closed takes its tracks along, whoever still has them; a socket that cannot be
    waited for is told."""
    monkeypatch.setenv(engines.VARIABLE, "auto")
    found = engines.load()
    if found is None:
        pytest.skip("the generator's C side was not built")
    engine, poller, ledger = engines.Engine(*found), Poller(), Ledger()
    peer = SwiftPeer(engine, poller, "127.0.0.1", LinePath(Line(), "s", ledger), ledger, 0)
    receiver = SwiftReceiver(peer, lambda: None, timed=True)
    audio = receiver.add(MADE[1])
    again = receiver.add(MADE[1])  # in its place
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        plain = packet(AUDIO, 1, 0, 1, marker=True, key=True, consult=0, sent_ns=0)
        far.sendto(plain, peer._socket.getsockname())
        engine.lib.gen_turn(engine.state, BEGIN_S, 0)
    assert (again.here, audio.here) == (True, False)
    with pytest.raises(OSError, match="Bad file") as why:
        engine.open(-1, LinePath(Line(), "s", ledger), 0, 1, lambda *_: None, lambda: None, lambda: None)
    assert why.value.errno == errno.EBADF
    engine.close()
    assert not receiver.tracks
    assert not again.here
    assert again.last_frame_s == 0
    receiver.close()
    for build in (lambda: receiver.add(MADE[0]), lambda: SwiftSender(peer, "s", timed=True)):
        with pytest.raises(PeerFailed, match="closed meanwhile"):
            build()
    peer._socket.close()
    await poller.close()
