"""A device's samples on their way out: place, time, corrections, what is sent again and what never is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.core.waveform import Assembler, Flag, InvalidReason, InvalidRun, WaveformFrame, split_message
from media.sources import Block, LiveFormat
from server.bedside.clock import HubClock, SampleClock
from server.bedside.stream import DRIFT_US, OutStream
from signaling.core.ids import PatientId

UNIX_US = 1_700_000_000_000_000
N = 50


def made(rate_hz: int = 500, leads: tuple[str, ...] = ("II", "V5"), simulated: bool = False) -> OutStream:
    source = LiveFormat(
        leads=leads, sample_rate_mhz=rate_hz * 1000, lsb_nv=2500, device="d", simulated=simulated, block_samples=N
    )
    return OutStream(source, stream_id=5)


def synced(offset_us: int = UNIX_US) -> HubClock:
    clock = HubClock()
    clock.add(0, 100, offset_us + 50)
    return clock


def block(captured_us: int, *, first: int = 0, skipped: int = 0, restart: bool = False) -> Block:
    samples = np.stack([np.arange(first, first + N), -np.arange(first, first + N)]).astype(np.int16)
    return Block(samples=samples, captured_us=captured_us, skipped=skipped, restart=restart)


def sent(stream: OutStream, one: Block, clock: HubClock, version: int = 1, unix_us: int = 0) -> WaveformFrame:
    return split_message(stream.frame(one, clock, unix_us, version))[0]


def test_before_the_hub_answers_frames_say_that_the_clock_is_our_own_and_then_step_at_once() -> None:
    """[W11] [W16] Our wall clock may be off by hours: the hub's time is a session of its own, and an event."""
    stream, clock, hours_us = made(), HubClock(), 3 * 3_600_000_000
    frames = []
    for i in range(4):
        if i == 2:
            clock.add(0, 100, UNIX_US + 50)
        frames.append(sent(stream, block(i * 100_000), clock, unix_us=UNIX_US + hours_us))

    assert [Flag.CLOCK_UNSYNCED in f.flags for f in frames] == [True, True, False, False]
    assert [Flag.SESSION_RESTART in f.flags for f in frames] == [True, False, True, False]
    assert [f.t0_us - UNIX_US for f in frames] == [hours_us, hours_us + 100_000, 200_000, 300_000]
    assert [(c.reason, c.by_us) for c in stream.corrections] == [("synced", -hours_us)]


def test_within_a_session_time_follows_the_index_whatever_single_stamps_say() -> None:
    """Jitter of stamps moves no sample: t0 and index agree exactly."""
    stream, clock = made(), synced()
    rng = np.random.default_rng(3)
    frames = [sent(stream, block(i * 100_000 + int(rng.integers(-15_000, 15_000))), clock) for i in range(900)]
    assert {f.t0_us - frames[0].t0_us - f.first_sample * 2000 for f in frames} == {0}
    assert sum(Flag.SESSION_RESTART in f.flags for f in frames) == 1


@pytest.mark.parametrize("ppm", [-120.0, 120.0])
def test_a_crystal_that_runs_off_is_measured_and_put_right_as_an_event(ppm: float) -> None:
    """[W16] Never more than 20 ms off (and what the fit needs to see it), each correction told and a new session."""
    stream, clock = made(), synced()
    worst, corrections, restarts = 0, [], 0
    for i in range(6000):  # ten minutes
        true_us = round(i * 100_000 * (1 + ppm / 1e6))
        frame = sent(stream, block(true_us), clock)
        worst = max(worst, abs(frame.t0_us - UNIX_US - true_us))
        restarts += Flag.SESSION_RESTART in frame.flags
        while stream.corrections:
            corrections.append(stream.corrections.popleft())
    assert worst <= DRIFT_US + 1_000
    assert restarts == 1 + len(corrections)
    assert 2 <= len(corrections) <= 4
    assert {c.reason for c in corrections} == {"drift"}
    assert all(abs(c.drift_ppm - ppm) < 3 for c in corrections)
    assert abs(stream.samples.ppm - ppm) < 3


def test_a_clock_that_steps_begins_a_new_session_after_three_stamps() -> None:
    """[W16] One late stamp is jitter; three are a step."""
    stream, clock = made(), synced()
    frames = []
    for i in range(30):
        jump_us = 2_000_000 if i >= 20 else 400_000 if i == 10 else 0
        frames.append(sent(stream, block(i * 100_000 + jump_us), clock))
    assert [i for i, f in enumerate(frames) if Flag.SESSION_RESTART in f.flags] == [0, 22]
    assert frames[22].t0_us == UNIX_US + 2_200_000 + 2_000_000
    assert [c.reason for c in stream.corrections] == ["step"]


def test_the_index_is_the_devices_own_count_also_over_a_correction() -> None:
    stream, clock = made(), synced()
    for i in range(5):
        sent(stream, block(i * 100_000), clock)
    stream.forget()
    stream.drop(block(500_000))
    after = sent(stream, block(600_000), clock, version=2)
    assert (after.first_sample, after.seq) == (6 * N, 5)
    assert Flag.SESSION_RESTART in after.flags
    anew = sent(stream, block(700_000, restart=True), clock, version=2)
    assert (anew.first_sample, anew.seq) == (0, 6)


def test_a_hole_of_the_device_is_a_hole_of_that_width() -> None:
    """[W2] [W3]"""
    stream, clock = made(), synced()
    first = sent(stream, block(0), clock)
    second = sent(stream, block(100_000 + 34_000, skipped=17), clock)
    assert second.first_sample == first.end_sample + 17
    assert Flag.GAP_BEFORE in second.flags
    assert Flag.SESSION_RESTART not in second.flags
    assert second.t0_us - first.t0_us == 134_000


def test_what_the_device_says_of_its_leads_reaches_the_frame() -> None:
    """[W6] Lead-off, saturation, invalid samples and pacer pulses."""
    stream = made()
    given_block = Block(
        samples=np.ones((2, N), np.int16), captured_us=0, lead_off_mask=2, saturated_mask=1,
        invalid_runs=(InvalidRun(0, InvalidReason.SATURATED, 3, 4),), pace_offsets=(7, 30),
    )  # fmt: skip
    frame = sent(stream, given_block, synced())
    assert (frame.lead_mask, frame.lead_off_mask, frame.saturated_mask) == (1, 2, 1)
    assert frame.pace_offsets == (7, 30)
    assert frame.valid[0].sum() == N - 4


def test_what_was_missed_is_sent_again_once_oldest_first_and_marked() -> None:
    stream, clock = made(), synced()
    originals = {f.seq: f for f in (sent(stream, block(i * 100_000, first=i), clock) for i in range(40))}
    stream.missed()
    again = [split_message(m)[0] for m in stream.resends(15)]
    flags = [m[3] for m in stream.resends(15)]
    assert [f.seq for f in again] == list(range(15))
    assert all(f.encoded == originals[f.seq].encoded for f in again), "without its transport flags it is the very frame"
    assert all(flag & Flag.RESEND for flag in flags)
    assert stream.waiting == 10


def test_only_the_last_thirty_seconds_are_kept() -> None:
    stream, clock = made(), synced()
    for i in range(500):
        sent(stream, block(i * 100_000), clock)
    stream.missed()
    first = split_message(next(stream.resends(1)))[0]
    assert first.seq == 499 - 300


def test_nothing_of_an_ended_binding_is_ever_sent() -> None:
    """[W20] [W21] Not even what was waiting to be sent again."""
    stream, clock = made(), synced()
    for i in range(10):
        sent(stream, block(i * 100_000), clock)
    stream.missed()
    stream.forget()
    assert list(stream.resends(99)) == []
    stream.missed()
    assert list(stream.resends(99)) == []


def test_the_mark_of_a_simulated_device_is_on_every_frame_and_in_the_announcement() -> None:
    """[W9]"""
    stream = made(simulated=True)
    assert stream.announcement(PatientId("p")).simulated
    assert all(Flag.SIMULATED in sent(stream, block(i * 100_000), synced()).flags for i in range(3))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 30), st.booleans()), min_size=1, max_size=25),
    st.randoms(use_true_random=False),
)
def test_whatever_is_lost_and_sent_again_the_receiver_has_the_devices_samples_or_a_hole(
    steps: list[tuple[bool, int, bool]], random: object
) -> None:
    """[W1] [W3] Loss, holes at the device and a reconnect: every cell is the sample of its number, or blank."""
    stream, clock = made(), synced()
    receiver = Assembler(2, 500_000)
    truth: dict[int, int] = {}
    at = 0
    for arrived, hole, reconnect in steps:
        at += hole
        for i in range(N):
            truth[at + i] = (at + i) % 30_000
        samples = np.array([[truth[at + i] for i in range(N)]] * 2, np.int16)
        one = Block(samples=samples, captured_us=at * 2000, skipped=hole)
        message = stream.frame(one, clock, 0, 1)
        at += N
        if arrived:
            receiver.accept(message)
        if reconnect:
            stream.missed()
    stream.missed()
    for message in stream.resends(9999):
        receiver.accept(message)
    first = steps[0][1]
    for row in (0, 1):
        drawn = receiver.drawn(row)
        origin = None
        for position, value in zip(drawn.position, drawn.value, strict=True):
            origin = position - value if origin is None else origin
            assert position - value == origin, "no sample at a wrong place"
        assert len(drawn.value) == len(truth), "what was recoverable is there"
        assert int(drawn.value[0]) == first


class TestClocks:
    def test_the_hub_clock_trusts_the_quickest_ping(self) -> None:
        clock = HubClock(keep=3)
        assert not clock.synced
        clock.add(1_000, 9_000, 505_000)
        clock.add(10_000, 10_200, 511_100)
        clock.add(20_000, 23_000, 530_000)
        assert clock.offset_us == 511_100 - 10_100
        assert clock.error_us == 100

        for at in (30_000, 40_000, 50_000):  # the quick one is forgotten after three more
            clock.add(at, at + 1_000, at + 600_500)
        assert clock.offset_us == 600_000

    def test_drift_between_the_machines_is_seen_and_followed(self) -> None:
        """60 pings, one each 5 s, 80 ppm, asymmetric delays of up to 20 ms on every second one."""
        clock, rng = HubClock(), np.random.default_rng(1)
        at = 0
        for i in range(60):
            at = i * 5_000_000
            out, back = (300, 300) if i % 2 else (300, 300 + int(rng.integers(0, 20_000)))
            hub = UNIX_US + round((at + out) * (1 + 80e-6))
            clock.add(at, at + out + back, hub)
        assert abs(clock.drift_ppm - 80) < 2
        assert abs(clock.offset_at(at) - (UNIX_US + round(at * 80e-6))) < 700

    def test_a_sample_clock_says_nothing_before_it_knows(self) -> None:
        clock = SampleClock(500_000)
        for i in range(100):
            clock.add(i * 50, i * 100_000)
        assert not clock.ready
        assert clock.time_of(5000) is None
        assert clock.ppm == 0
