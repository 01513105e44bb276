"""Every distinct frame that arrived has one place of its own, or is counted as refused and named in a gap.

Whatever devices and clocks do: switched on again, set back by any step, twice in quick succession; whatever the way
does: loss (also of the frame that begins a session), repetition, reordering within the repair window.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from media.core.waveform import Flag, Place, WaveformHub, build_frame
from server.waveforms.core.order import Head, StreamState, read_head
from server.waveforms.core.stream import StreamInfo
from server.waveforms.core.timeline import read_runs

RATE = 500_000
N = 50
FRAME_US = 100_000
START_US = 1_763_712_000_000_000
WINDOW = 12
"""Frames by which one may be late: what a repair takes."""


@dataclass(frozen=True)
class Session:
    """A stretch of a device's life."""

    frames: int
    step_us: int
    """By which its clock is off what the one before said."""
    power_cycle: bool
    """It was switched on and counts anew; else it goes on counting and says that time and index begin anew."""


sessions = st.lists(
    st.builds(Session, st.integers(1, 30), st.integers(-6_000_000, 2_000_000), st.booleans()), min_size=1, max_size=6
)
INFO = StreamInfo(
    archive="w_1", consult="c", stream_id=7, kind="live", title="", device="", leads=("I", "II"),
    sample_rate_mhz=RATE, lsb_nv=1000, filter="", simulated=True, patient="p",
)  # fmt: skip
BACK_5_S = [Session(60, 0, True), Session(60, -5_000_000, True)]
QUICK = [Session(20, 0, True), Session(1, -3_000_000, True), Session(20, -3_000_000, True)]


def heads_of(life: list[Session], *, named: bool) -> list[tuple[int, Head]]:
    """Frames in the order they were sent, each with its true session."""
    found: list[tuple[int, Head]] = []
    now_us, seq, numbering = START_US, 0, 0
    for number, session in enumerate(life):
        now_us += session.step_us
        if session.power_cycle or not number:
            seq, numbering = 0, number + 1
        for n in range(session.frames):
            flags = int(Flag.SESSION_RESTART) if n == 0 else 0
            # the check sum stands for the samples: no two frames of a patient are alike
            found.append((number, Head(seq, flags, 1, now_us, n * N, RATE, N, numbering if named else 0, len(found))))
            seq, now_us = seq + 1, now_us + FRAME_US
    return found


def arrivals(sent: list[tuple[int, Head]], rng: random.Random, loss: float) -> list[tuple[int, Head]]:
    """Some lost, some twice, each up to the window late."""
    order: list[tuple[float, int, Head]] = []
    for at, (session, head) in enumerate(sent):
        for _ in range(0 if rng.random() < loss else rng.choice((1, 1, 1, 2))):
            order.append((at + rng.choice((0, 0, 0, rng.uniform(0, WINDOW))), session, head))
    return [(session, head) for _, session, head in sorted(order, key=lambda one: one[0])]


def taken(came: list[tuple[int, Head]]) -> tuple[StreamState, dict[Place, tuple[int, Head]]]:
    state, kept = StreamState(), {}
    for session, head in came:
        place = state.accept(head)
        if place is not None:
            assert place not in kept, "one place, one frame"
            kept[place] = (session, head)
    return state, kept


@settings(max_examples=80, deadline=None)
@given(sessions, st.randoms(use_true_random=False), st.sampled_from([0.0, 0.1, 0.4]))
@example(BACK_5_S, random.Random(1), 0.0)
@example(BACK_5_S, random.Random(2), 0.4)
@example(QUICK, random.Random(3), 0.1)
def test_a_source_that_names_its_countings_has_every_frame_stored_once_in_its_session(
    life: list[Session], rng: random.Random, loss: float
) -> None:
    """[WF19] [WF8] Nothing is refused, nothing is silently dropped, no epoch has frames of two countings."""
    came = arrivals(heads_of(life, named=True), rng, loss)
    state, kept = taken(came)
    assert {head.crc for _, head in kept.values()} == {head.crc for _, head in came}
    assert (state.places.refused, state.places.repeated) == (0, len(came) - len(kept))
    assert all(place.seq == head.seq for place, (_, head) in kept.items())
    countings = {(place.epoch, head.numbering) for place, (_, head) in kept.items()}
    assert len({epoch for epoch, _ in countings}) == len({name for _, name in countings}) == len(countings)


@settings(max_examples=80, deadline=None)
@given(sessions, st.randoms(use_true_random=False), st.sampled_from([0.0, 0.1, 0.4]))
@example(BACK_5_S, random.Random(1), 0.0)
@example(BACK_5_S, random.Random(2), 0.4)
@example(QUICK, random.Random(3), 0.1)
def test_of_a_source_that_names_none_a_frame_is_stored_once_or_refused_counted_and_a_gap(
    life: list[Session], rng: random.Random, loss: float
) -> None:
    """[WF7] [WF8] A repeat is one only of the very same frame."""
    came = arrivals(heads_of(life, named=False), rng, loss)
    state, kept = taken(came)
    stored = {head.crc for _, head in kept.values()}
    distinct = {head.crc for _, head in came}
    assert len(stored) == len(kept) == state.frames
    assert state.places.refused >= len(distinct - stored)
    assert state.places.repeated + state.places.refused == len(came) - len(kept)
    summary = state.summary
    assert summary.lost >= state.places.refused
    assert summary.gaps >= (state.places.refused > 0)


@settings(max_examples=50, deadline=None)
@given(sessions)
@example(BACK_5_S)
@example(QUICK)
def test_on_a_clean_line_the_flag_of_a_session_is_enough(life: list[Session]) -> None:
    """[WF7] No name, no loss: every frame is there, in the order it was sent."""
    sent = heads_of(life, named=False)
    state, kept = taken(sent)
    assert [kept[place][1].crc for place in sorted(kept)] == [head.crc for _, head in sent]
    assert (state.places.refused, state.places.repeated, state.summary.lost) == (0, 0, 0)


def one(seq: int, t0_us: int, *, flags: int = 0, numbering: int = 0, crc: int | None = None) -> Head:
    return Head(seq, flags, 1, START_US + t0_us, seq * N, RATE, N, numbering, seq if crc is None else crc)


def test_a_flag_begins_an_epoch_also_where_its_number_was_lost_before() -> None:
    """[WF7] The first frames of the former session never came: the place is free, and is not the new session's."""
    state = StreamState()
    for seq in range(3, 60):
        assert state.accept(one(seq, seq * FRAME_US)) == Place(0, seq)
    places = [
        state.accept(one(seq, seq * FRAME_US - 9_000_000, flags=0 if seq else Flag.SESSION_RESTART, crc=1000 + seq))
        for seq in range(5)
    ]
    assert places == [Place(1, seq) for seq in range(5)]


@pytest.mark.parametrize("numbering", [0, 4])
def test_what_belongs_nowhere_is_counted_lost_and_a_gap(numbering: int) -> None:
    """[WF8] [W2] Neither dropped in silence nor put where it may not belong."""
    state = StreamState()
    for seq in (0, 1, 2, 3, 6, 7):
        state.accept(one(seq, seq * FRAME_US, numbering=numbering))
    strange = one(5, -20_000_000, crc=99) if not numbering else one(3, 3 * FRAME_US, numbering=4, crc=99)
    assert [state.accept(strange), state.accept(strange)] == [None, None]
    summary = state.summary
    assert (summary.frames, summary.lost, summary.gaps, state.places.refused) == (6, 2 + 2, 1 + 1, 2)
    assert state.accept(one(7, 7 * FRAME_US, numbering=numbering)) is None
    assert (state.places.refused, state.places.repeated) == (2, 1)


def test_a_straggler_of_the_session_before_does_not_take_the_streams_lead() -> None:
    """[WF19] A late frame beyond the newest of its counting is stored there; what goes on is the new one."""
    state = StreamState()
    for seq in range(10):
        state.accept(one(seq, seq * FRAME_US, numbering=1))
    for seq in range(4):
        state.accept(one(seq, seq * FRAME_US - 500_000, numbering=2))
    assert state.accept(one(10, 10 * FRAME_US, numbering=1)) == Place(0, 10)
    assert state.current == Place(1, 3)
    for seq in range(11, 14):
        state.accept(one(seq, seq * FRAME_US, numbering=1))
    assert state.current == Place(0, 13), "it is the one that goes on after all"


def encoded(sent: list[tuple[int, Head]]) -> list[bytes]:
    return [
        build_frame(
            stream_id=7, seq=head.seq, context_version=1, t0_us=head.t0_us, first_sample=head.first_sample,
            sample_rate_mhz=RATE, numbering=head.numbering, flags=Flag(head.flags) | Flag.SIMULATED,
            samples=np.full((2, N), head.crc, np.int16),
        )
        for _, head in sent
    ]  # fmt: skip


@pytest.mark.parametrize("named", [True, False])
def test_what_the_relay_tells_the_archive_and_an_export_of_it_have_every_frame(named: bool) -> None:
    """[W5] [WF19] A device that is switched on again on one channel while its clock goes back 5 s."""
    frames = encoded(heads_of(BACK_5_S, named=named))
    hub = WaveformHub()
    hub.open_stream(7, True)
    state = StreamState()
    kept: dict[Place, bytes] = {}
    for at, message in enumerate([*frames[:60], *frames[60:], *frames[58:62]]):
        assert hub.accept(7, message, at * FRAME_US) is not None
        for frame in hub.fresh:
            place = state.accept(read_head(frame))
            assert place is not None
            kept[place] = frame
    assert [kept[place] for place in sorted(kept)] == frames
    runs = read_runs(INFO, [kept[place] for place in sorted(kept)])
    assert [run.values[0, ::N].tolist() for run in runs] == [[*range(60)], [*range(60, 120)]]


def test_an_export_leaves_no_stored_frame_out_whatever_its_time_says() -> None:
    """[WF7] [W1] A counting that begins anew at the very times of the one before; a clock set back without a word."""
    again = [(number, one(seq, seq * FRAME_US + number * 10_000, crc=10 * number + seq)) for number in (0, 1)
             for seq in range(10)]  # fmt: skip
    runs = read_runs(INFO, encoded(again))
    assert [run.values[0, ::N].tolist() for run in runs] == [[*range(10)], [*range(10, 20)]]
    stepped = [(0, one(seq, seq * FRAME_US - (seq >= 6) * 5_000_000, numbering=4)) for seq in range(12)]
    runs = read_runs(INFO, encoded(stepped))
    assert [run.values[0, ::N].tolist() for run in runs] == [[*range(6)], [*range(6, 12)]]
