"""Places of frames, what is missing, and the answers of the WebSocket: pure parts of the server's waveforms."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core.tap import MAX_BODY_BYTES, MalformedTap, TapKind, TapReader, build_record
from media.core.waveform import Flag, FrameWriter, StreamFormat, WaveformHub, split_message
from media.core.waveform.places import RECENT_EPOCHS, Place, Places, Ranges
from media.core.waveform.vitals import MalformedVital, ReportedAlarm, VitalSign, read_vital
from server.waveforms.core.answers import Asker, ControlRefused, Wanted
from server.waveforms.core.order import Head, StreamState
from server.waveforms.core.upload import Upload, UploadRefused

RATE = 500_000


def head(seq: int, t0_us: int, first: int, n: int = 50, flags: int = 0) -> Head:
    return Head(seq, flags, 1, t0_us, first, RATE, n)


@given(st.lists(st.integers(0, 60), max_size=80), st.lists(st.integers(0, 60), max_size=20))
def test_ranges_are_a_set(added: list[int], taken: list[int]) -> None:
    ranges, model = Ranges(), set()
    for number in added:
        assert ranges.add(number) is (number not in model)
        model.add(number)
    for number in taken:
        ranges.discard(number)
        model.discard(number)
    assert all((number in ranges) is (number in model) for number in range(62))
    missing = {n for first, last in ranges.holes for n in range(first, last + 1)}
    assert missing == (set(range(min(model), max(model) + 1)) - model if model else set())


@given(st.permutations(range(12)))
def test_every_order_of_arrival_gives_the_same_places(order: list[int]) -> None:
    """[WF8] Late and repaired frames take their own place; counts do not depend on the way."""
    heads = [head(n, n * 100_000, n * 50) for n in range(12)]
    state = StreamState()
    places = {state.accept(heads[n]) for n in order}
    assert places == {Place(0, n) for n in range(12)}
    assert all(state.accept(heads[n]) is None for n in order)
    summary = state.summary
    assert (summary.frames, summary.lost, summary.gaps, summary.first_us, summary.last_us) == (12, 0, 0, 0, 1_200_000)


def often_anew(places: Places, times: int, *, named: bool) -> None:
    """A source that counts anew all the time, and leaves holes."""
    for epoch in range(times):
        for seq in range(0, 20, 2):
            flags = 0 if seq else Flag.SESSION_RESTART
            t0_us = epoch * 10_000_000 + seq * 100_000
            places.accept(Head(seq, flags, 1, t0_us, seq * 50, RATE, 50, (epoch + 1) * named, epoch * 100 + seq))
    assert places.epochs == times


@pytest.mark.parametrize("limit", [None, 8192])
def test_what_a_frame_costs_does_not_grow_with_how_often_its_source_began(
    limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile source must not keep the relay from everybody's media."""
    places = Places(limit)
    often_anew(places, 200, named=False)
    looked = 0
    real = Ranges.__contains__

    def counting(ranges: Ranges, number: int) -> bool:
        nonlocal looked
        looked += 1
        return real(ranges, number)

    monkeypatch.setattr(Ranges, "__contains__", counting)
    assert places.accept(head(5, 12_345, 250)) is None
    assert places.accept(head(20, 199 * 10_000_000 + 2_000_000, 1000)) == Place(199, 20)
    assert places.refused == 1
    assert 0 < looked <= 6 * RECENT_EPOCHS


@pytest.mark.parametrize("named", [False, True])
def test_the_relay_remembers_only_the_last_of_many_countings(named: bool) -> None:
    """[WF19] What it has of older ones is their newest number: nothing of them comes in twice."""
    places = Places(8192)
    often_anew(places, 200, named=named)
    assert len(places.holes) == 9 * RECENT_EPOCHS
    assert sum(len(epoch.lines) for epoch in places._epochs) <= RECENT_EPOCHS
    if named:
        for seq in (0, 1, 18):
            assert places.accept(Head(seq, 0, 1, seq * 100_000, seq * 50, RATE, 50, 1, seq)) is None
    everything = Places()
    often_anew(everything, 200, named=named)
    assert len(everything.holes) == 9 * 200, "the archive counts all that is missing"


def test_a_device_that_counts_anew_begins_an_epoch_and_late_frames_of_before_stay_there() -> None:
    """[W5] [WF7]"""
    places = Places()
    first = [head(seq, seq * 100_000, seq * 50) for seq in range(9)]
    again = [head(seq, 60_000_000 + seq * 100_000, seq * 50) for seq in range(9)]
    assert [places.accept(first[seq]) for seq in (5, 6, 8)] == [(0, 5), (0, 6), (0, 8)]
    assert [places.accept(again[seq]) for seq in (0, 1)] == [(1, 0), (1, 1)]
    assert places.accept(first[7]) == (0, 7)
    assert places.accept(again[0]) is None
    assert (places.repeated, places.refused, places.current) == (1, 0, 1)


def test_gaps_are_counted_by_who_lost_them() -> None:
    """[W2] A missing number is loss, a jump of the index without one is the source's own hole."""
    state = StreamState()
    for one in (head(0, 0, 0), head(1, 100_000, 50), head(4, 400_000, 200), head(5, 600_000, 300),
                head(6, 700_000, 0, flags=Flag.SESSION_RESTART)):  # fmt: skip
        state.accept(one)
    summary = state.summary
    assert (summary.lost, summary.gaps, summary.sessions) == (2, 2, 2)
    assert state.missing(0, 10) == [(2, 3)]


# ------------------------------------------------------------- tap


@given(st.lists(st.tuples(st.sampled_from(list(TapKind)), st.binary(max_size=80)), max_size=20), st.integers(1, 50))
def test_tap_records_survive_any_cut(sent: list[tuple[TapKind, bytes]], step: int) -> None:
    data = b"".join(build_record(kind, body) for kind, body in sent)
    reader, got = TapReader(), []
    for at in range(0, len(data), step):
        got += list(reader.feed(data[at : at + step]))
    assert got == sent


def test_a_tap_record_of_impossible_length_ends_the_connection() -> None:
    with pytest.raises(MalformedTap):
        list(TapReader().feed(b"\x01" + (MAX_BODY_BYTES + 1).to_bytes(4, "little")))


def test_the_hub_says_which_frames_are_new_and_what_it_keeps() -> None:
    """A frame that came with its successor and alone is told once."""
    hub = WaveformHub()
    hub.open_stream(7, True)
    writer = FrameWriter(StreamFormat(stream_id=7, leads=2, sample_rate_mhz=RATE, lsb_nv=1000, simulated=True))
    block = np.zeros((2, 50), np.int16)
    messages = [writer.write(block, t0_us=10**9 + n * 100_000, context_version=1) for n in range(6)]
    told = []
    for n in (0, 2, 2, 1, 5):
        assert hub.accept(7, messages[n], 10**9) is not None
        told += [split_message(frame)[0].seq for frame in hub.fresh]
    assert told == [0, 1, 2, 4, 5]
    assert [(seq, frame is None) for seq, frame in hub.kept(7, 0, 2**32 - 1)] == [
        (0, False), (1, False), (2, False), (3, True), (4, False), (5, False)
    ]  # fmt: skip


# ------------------------------------------------------------- answers


@given(st.sets(st.integers(0, 40)), st.integers(0, 45), st.integers(0, 45))
def test_the_answer_names_every_frame_of_the_range_once(kept: set[int], first: int, last: int) -> None:
    """[WF10] As the relay: sent again, gone, or too new to be called gone."""
    newest = max(kept, default=-1)
    asked = Wanted(7, min(first, last), max(first, last))
    again, gone = Asker().answer(asked, {n: n.to_bytes(4, "little") for n in kept}, newest, 0.0)
    resent = {int.from_bytes(frame, "little") for frame in again}
    lost = {n for a, b in gone for n in range(a, b + 1)}
    whole = set(range(asked.first, (asked.last or 0) + 1))
    assert resent == kept & whole
    assert lost == {n for n in whole - kept if n <= newest - 2}


@pytest.mark.parametrize(
    "message",
    [b"", b"\xc1", msgpack.packb([1]), msgpack.packb({"t": "x"}), msgpack.packb({"t": "ping", "c": "1"}),
     msgpack.packb({"t": "nack", "stream": 1, "first": 9, "last": 3}),
     msgpack.packb({"t": "have", "stream": -1, "seq": 1}),
     msgpack.packb({"t": "nack", "stream": 1, "first": 0, "last": 5000}), bytes(600)],
)  # fmt: skip
def test_a_malformed_question_is_refused(message: bytes) -> None:
    with pytest.raises(ControlRefused):
        Asker().read(message, 0.0)


def test_questions_and_repairs_have_the_relays_budgets() -> None:
    asker = Asker()
    ping = msgpack.packb({"t": "ping", "c": 1})
    for _ in range(80):
        asker.read(ping, 0.0)
    with pytest.raises(ControlRefused, match="control_rate"):
        asker.read(ping, 0.0)
    kept = dict.fromkeys(range(1000), b"x")
    assert len(Asker().answer(Wanted(7, 0, 999), kept, 999, 0.0)[0]) == 700


# ------------------------------------------------------------- vital signs


FIELDS = st.sampled_from(["t", "cv", "code", "v", "u", "at", "q", "sim", "prio", "text"])
VALUES = (
    st.none() | st.booleans() | st.integers(-5, 2**60) | st.floats() | st.sampled_from(["vital", "alarm", "HR", "ok"])
)


@given(st.binary(max_size=600) | st.dictionaries(FIELDS, VALUES | st.lists(VALUES, max_size=3)).map(msgpack.packb))
def test_whatever_the_bytes_a_vital_sign_is_sound_or_refused(message: bytes) -> None:
    try:
        value = read_vital(message)
    except MalformedVital:
        return
    assert isinstance(value, VitalSign | ReportedAlarm)


def test_vital_signs_carry_their_own_time_and_absence() -> None:
    """[W8] [W36]"""
    base = {"t": "vital", "cv": 3, "at": 5, "q": "ok", "u": "mm[Hg]", "sim": False}
    assert read_vital(msgpack.packb({**base, "code": "NIBP", "v": [120, 80, None]})) == VitalSign(
        3, "NIBP", (120, 80, None), "mm[Hg]", 5, "ok", False
    )
    alarm = {"t": "alarm", "cv": 3, "at": 5, "text": "VT", "prio": "high"}
    assert read_vital(msgpack.packb(alarm)) == ReportedAlarm(3, "VT", 5, "high", False)
    for broken in ({"code": "XX"}, {"v": float("nan")}, {"v": [1, 2]}, {"at": -1}, {"extra": 1}, {"q": "fine"}):
        with pytest.raises(MalformedVital):
            read_vital(msgpack.packb({**base, "code": "NIBP", "v": 1, **broken}))


# ------------------------------------------------------------- upload


def test_an_upload_is_bounded_while_it_comes() -> None:
    """[G12]"""
    upload = Upload(100)
    upload.begin("patient", None)
    upload.add(b"pt1")
    upload.begin("file", "../../etc/a.hea")
    upload.add(b"x" * 50)
    upload.begin("file", "a.dat")
    upload.add(b"y" * 40)
    assert upload.fields == {"patient": "pt1"}
    assert upload.data().startswith(b"PK")
    with pytest.raises(UploadRefused):
        upload.add(b"z" * 20)
    for name in ("patient", "unknown"):
        with pytest.raises(UploadRefused):
            upload.begin(name, None)
