"""The generators' own waveforms: sound frames as a device sends them, and a viewer that loses count of nothing."""

from __future__ import annotations

import random
import time

import msgpack
import pytest

from load_tests.report.ledger import Ledger
from load_tests.session import waves
from load_tests.session.consult import ConsultView
from media.core.waveform import Flag, split_message, with_flags


class Pair:
    """A device and a viewer; what the network does in between is the test's."""

    def __init__(self, seed: str = "s") -> None:
        self.ledger = Ledger()
        self.sent: list[bytes] = []
        self.asked: list[bytes] = []
        self.gaps: list[int] = []
        self.source = waves.Source(0, 7, 3, self.ledger, seed)
        self.source.attach(self._send)
        self.source.close()  # frames are made by hand, not by the clock
        self.viewer = waves.Viewer(self.ledger)
        self.viewer.attach(self.asked.append, lambda: None, self.gaps.append)

    def _send(self, message: bytes) -> bool:
        self.sent.append(message)
        return True

    def play(self, frames: int) -> list[bytes]:
        """So many messages of the device."""
        self.sent.clear()
        for _ in range(frames):
            self.source._frame()
            self.source.close()
        return list(self.sent)


async def test_a_device_sends_what_a_relay_takes() -> None:
    messages = Pair().play(250)  # more than the record is long
    before_end = None
    for number, message in enumerate(messages):
        frame, before = split_message(message)  # raises on anything unsound [WF1]
        assert (frame.stream_id, frame.seq, frame.context_version) == (7, number, 3)
        assert frame.flags & Flag.SIMULATED  # [W9]
        assert bool(frame.flags & Flag.SESSION_RESTART) == (number == 0)
        assert (before is None) or before.seq == number - 1
        assert before_end in (None, frame.first_sample)  # no hole at the record's seam [WF7]
        before_end = frame.end_sample
    assert sum(split_message(message)[1] is not None for message in messages) > 200  # most fit twice [WF5]


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_lost_is_had_after_all_or_counted(seed: int) -> None:
    pair, chance = Pair(str(seed)), random.Random(seed)
    messages = pair.play(200)
    for message in messages[:1] + [one for one in messages[1:-1] if chance.random() > 0.4] + messages[-1:]:
        pair.viewer.message(message)
        if chance.random() < 0.1:
            pair.viewer.message(message)  # twice the same is nothing new
    before = dict(pair.ledger.counts)
    (line,) = pair.viewer._lines.values()
    open_gaps = len(line.missing)
    for asked in line.missing.values():
        asked[1] = 0.0  # due now
    pair.viewer.chase()
    pair.sent.clear()
    for request in pair.asked:
        told = msgpack.unpackb(request)
        assert told["stream"] == 7
        if chance.random() < 0.7:
            pair.source.asked(request)
        else:
            pair.viewer.control(msgpack.packb({**told, "t": "gone"}))
    for message in pair.sent:
        pair.viewer.message(message)
    pair.viewer.close()
    counts = pair.ledger.counts
    assert counts["ecg_in"] + counts["ecg_missing"] == 200
    assert counts["ecg_missing"] == sum(pair.gaps) == counts["ecg_gone"]
    assert counts["ecg_in"] == before["ecg_in"] + open_gaps - counts["ecg_missing"]
    assert counts["ecg_twice"] == counts["ecg_refused"] == 0


class Relay:
    """Keeps what a device sent, as the relay does, and answers who asks."""

    def __init__(self, pair: Pair, until: int) -> None:
        self.kept = {seq: frame for seq, frame in pair.source._kept.items() if seq < until}
        pair.viewer.attach(lambda message: self._asked(pair, message), lambda: None, pair.gaps.append)

    def _asked(self, pair: Pair, message: bytes) -> None:
        told = msgpack.unpackb(message)
        pair.asked.append(message)
        if told["t"] == "have":
            for seq, frame in self.kept.items():
                if seq > told["seq"]:
                    pair.viewer.message(with_flags(frame, add=Flag.RESEND))


async def test_a_new_path_goes_on_where_the_old_one_ended_and_asks_for_what_lies_between() -> None:
    pair = Pair()
    messages = pair.play(60)
    for message in messages[:20]:
        pair.viewer.message(message)
    pair.viewer.detach()
    pair.viewer.chase()
    Relay(pair, 50)
    pair.viewer.opened([7, 8])
    assert [msgpack.unpackb(one) for one in pair.asked] == [{"t": "have", "stream": 7, "seq": 19}]
    for message in messages[50:]:
        pair.viewer.message(message)
    pair.viewer.close()
    assert pair.ledger.counts["ecg_in"] == 60
    assert pair.ledger.counts["ecg_missing"] == 0 == len(pair.gaps)


async def test_what_a_new_path_never_brings_is_missing_however_long_the_hole() -> None:
    pair = Pair()
    messages = pair.play(1000)
    for message in (*messages[:10], *messages[-10:]):
        pair.viewer.message(message)
    in_hand = pair.ledger.counts["ecg_in"]
    assert pair.ledger.counts["ecg_missing"] == 1000 - in_hand - waves.MOST_HOLE  # too old to be asked for
    (line,) = pair.viewer._lines.values()
    for asked in line.missing.values():
        asked[0] -= waves.GIVEN_UP_S + 1
        asked[1] = 0.0
    pair.viewer.chase()
    assert (len(line.missing), len(line.given_up)) == (0, waves.MOST_HOLE)
    pair.viewer.message(messages[500])  # a device whose path was gone brings it later than anybody asked
    repaired = pair.ledger.counts["ecg_repaired"]
    assert 1 <= repaired <= 2  # with the frame before it
    for seq in line.given_up:
        line.given_up[seq] -= waves.USELESS_S
    pair.viewer.chase()
    counts = pair.ledger.counts
    assert counts["ecg_missing"] == sum(pair.gaps) == 1000 - counts["ecg_in"]
    pair.viewer.message(messages[600])  # nobody could place it any more
    pair.viewer.close()
    assert counts["ecg_in"] + counts["ecg_missing"] == 1000


async def test_what_comes_late_of_a_counting_that_is_over_is_not_taken_for_news() -> None:
    pair, again = Pair("a"), Pair("b")
    old, new = pair.play(5), again.play(5)
    for message in (*old[:4], *new, old[4]):  # [WF19]
        pair.viewer.message(message)
    pair.viewer.close()
    assert pair.ledger.counts["ecg_in"] == 4 + 5
    assert pair.ledger.counts["ecg_missing"] == 0


async def test_other_bytes_under_a_number_that_is_had_are_counted() -> None:
    one, other = Pair("a"), Pair("a")
    first = one.play(3)
    for message in first:
        one.viewer.message(message)
    time.sleep(0.001)
    other.source._began_us += 5_000  # the same numbers at other times
    for message in other.play(3):
        one.viewer.message(message)
    assert one.ledger.counts["ecg_twice"] > 0
    one.viewer.message(b"EC" + bytes(60))
    assert one.ledger.counts["ecg_refused"] == 1


async def test_ages_are_of_the_oldest_sample() -> None:
    pair = Pair()
    pair.source._began_us = time.time_ns() // 1000 - 300_000
    (message,) = pair.play(1)
    pair.viewer.message(message)
    assert pair.ledger.distributions["ecg_age_ms"].lowest >= 300


def test_runs_of_numbers() -> None:
    assert waves.runs([5, 1, 2, 9, 3]) == [(1, 3), (5, 5), (9, 9)]
    assert waves.runs([]) == []


def test_a_session_follows_its_consult_and_finds_holes() -> None:
    view = ConsultView()
    view.you = "p1"
    snapshot = {
        "revision": 4, "media_epoch": 1, "context_version": 0, "context": None, "lead": None, "status": "open",
        "participants": {"p1": {}}, "producers": {}, "data_producers": {}, "bindings": {},
        "view": {"page": ""},
    }  # fmt: skip
    view.take_snapshot(snapshot)
    wave = {"id": "w", "waveform": {"stream_id": 1}}
    opened = {"type": "context_opened", "revision": 6, "context": {"version": 2, "patient": {"id": "pt"}}}
    assert view.misses(opened)  # [CO4]
    assert view.take({"type": "data_producer_added", "revision": 5, "data_producer": wave})
    assert not view.take({"type": "data_producer_closed", "revision": 5, "data_producer": "w"})  # [CO3]
    assert not view.misses(opened)
    assert view.take(opened)
    assert (view.context_version, view.patient, set(view.waves)) == (2, "pt", {"w"})
    view.bound = True
    unbound = {"type": "device_unbound", "revision": 7, "device": "p1", "closed": ["w"]}
    assert view.take(unbound)
    assert (view.bound, view.waves) == (False, {})
    view.take({"type": "media_reset", "revision": 8, "media_epoch": 2})
    assert view.media_epoch == 2
