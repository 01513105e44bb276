"""The simulated monitor: what leaves it is the record, sample by sample, marked and timed."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from media.core.waveform import Flag, split_message
from server.demo.monitor import HubClock, Monitor, Playback
from server.demo.recording import LEADS, Recording, RecordingError, read, sample_record

UNIX_US = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def recording() -> Recording:
    return sample_record()


def synced(offset_us: int) -> HubClock:
    clock = HubClock()
    clock.add(0, 100, offset_us + 50)
    return clock


def test_the_record_is_the_rhythm_strip_in_wire_order(recording: Recording) -> None:
    dataset = pydicom.dcmread(str(get_testdata_file("waveform_ecg.dcm", download=False)))
    microvolts = dataset.waveform_array(0)  # the RHYTHM group, scaled by pydicom itself

    assert LEADS == ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    assert recording.samples.shape == (12, 10_000)
    assert recording.sample_rate_mhz == 1_000_000
    assert recording.lsb_nv == 1250
    assert recording.filter == "0.05-300 Hz, no notch"
    np.testing.assert_array_equal(recording.samples * 1.25, microvolts.T)


def test_the_limb_leads_are_where_einthoven_says(recording: Recording) -> None:
    """[W7] A swapped row would break these sums."""
    one, two, three, avr, avl, avf = recording.samples[:6].astype(int)
    assert np.abs(three - (two - one)).max() <= 1
    assert np.abs(avr + (one + two) / 2).max() <= 1
    assert np.abs(avl - (one - three) / 2).max() <= 1
    assert np.abs(avf - (two + three) / 2).max() <= 1


def test_a_dicom_file_without_a_rhythm_strip_is_refused() -> None:
    path = get_testdata_file("MR_small.dcm", download=False)
    with pytest.raises(RecordingError):
        read(path)


def test_frames_carry_exactly_the_samples_and_begin_anew_at_each_seam(recording: Recording) -> None:
    """[W9] [W10] Native rate, every sample, SIMULATED on every frame, a restart at every seam and nowhere else."""
    monitor, clock = Monitor(recording, stream_id=77), synced(UNIX_US)
    now_us = 5_000_000
    frames = []
    for _ in range(450):
        block = monitor.playback.next(now_us)
        now_us = block.due_us
        frames.append(split_message(monitor.frame(block, clock, 0, context_version=3))[0])

    sent = np.concatenate([f.samples for f in frames], axis=1)
    np.testing.assert_array_equal(sent[:, :10_000], recording.samples)
    np.testing.assert_array_equal(sent[:, 10_000:20_000], recording.samples)
    assert {f.n for f in frames} == {50}
    assert [i for i, f in enumerate(frames) if Flag.SESSION_RESTART in f.flags] == [0, 200, 400]
    assert [f.first_sample for f in frames[198:203]] == [9900, 9950, 0, 50, 100]
    assert [f.seq for f in frames] == list(range(450))
    assert all(Flag.SIMULATED in f.flags and Flag.CLOCK_UNSYNCED not in f.flags for f in frames)
    assert {f.context_version for f in frames} == {3}
    assert {f.sample_rate_mhz for f in frames} == {1_000_000}
    assert [f.t0_us for f in frames] == [UNIX_US + 5_000_000 + 50_000 * i for i in range(450)]


def test_each_message_carries_the_frame_before(recording: Recording) -> None:
    monitor, clock = Monitor(recording, stream_id=1), synced(0)
    messages = [monitor.frame(monitor.playback.next(0), clock, 0, context_version=1) for _ in range(3)]
    frame, previous = split_message(messages[2])
    assert previous is not None
    assert (frame.seq, previous.seq) == (2, 1)


def test_within_a_session_time_follows_the_index_whatever_the_clock_learns(recording: Recording) -> None:
    """A better clock estimate is taken up at the seam: a step of t0 without a restart would be a gap of the source."""
    monitor, clock = Monitor(recording, stream_id=1), synced(1_000_000)
    first = split_message(monitor.frame(monitor.playback.next(0), clock, 0, context_version=1))[0]
    clock.add(0, 10, 1_004_000)
    second = split_message(monitor.frame(monitor.playback.next(0), clock, 0, context_version=1))[0]
    monitor.rewind()
    third = split_message(monitor.frame(monitor.playback.next(0), clock, 0, context_version=1))[0]

    assert second.t0_us - first.t0_us == 50_000
    assert third.t0_us - first.t0_us == 4_000 - 5
    assert Flag.SESSION_RESTART in third.flags


def test_before_the_hub_answers_frames_say_that_the_clock_is_our_own(recording: Recording) -> None:
    monitor = Monitor(recording, stream_id=1)
    frame = split_message(monitor.frame(monitor.playback.next(0), HubClock(), UNIX_US, context_version=1))[0]
    assert Flag.CLOCK_UNSYNCED in frame.flags
    assert frame.t0_us == UNIX_US


def test_frames_call_the_clock_known_only_when_their_own_time_comes_from_it(recording: Recording) -> None:
    """[W11] Our wall clock may be off by hours: the hub's time is taken up at once, as a session of its own."""
    monitor, clock = Monitor(recording, stream_id=1), HubClock()
    hours_us = 3 * 3_600_000_000
    frames = []
    for i in range(4):
        if i == 2:
            clock.add(0, 100, UNIX_US + 50)
        block = monitor.playback.next(0)
        frames.append(split_message(monitor.frame(block, clock, UNIX_US + hours_us, context_version=1))[0])

    assert [Flag.CLOCK_UNSYNCED in f.flags for f in frames] == [True, True, False, False]
    assert [Flag.SESSION_RESTART in f.flags for f in frames] == [True, False, True, False]
    assert [f.t0_us - UNIX_US for f in frames] == [hours_us, hours_us + 50_000, 100_000, 150_000]


def test_the_stream_is_announced_as_simulated_and_bound_to_the_test_patient(recording: Recording) -> None:
    """[W9] [W20] [W29]"""
    stream = Monitor(recording, stream_id=9).stream
    assert stream.simulated
    assert stream.patient == "demo-shen"
    assert stream.leads == LEADS
    assert stream.filter == "0.05-300 Hz, no notch"
    assert "模拟" in stream.device
    assert "Simulated" in stream.device


def test_the_hub_clock_trusts_the_quickest_ping() -> None:
    clock = HubClock(keep=3)
    assert not clock.synced
    clock.add(1_000, 9_000, 505_000)
    clock.add(10_000, 10_200, 511_100)
    clock.add(20_000, 23_000, 530_000)
    assert clock.offset_us == 511_100 - 10_100

    for at in (30_000, 40_000, 50_000):  # the quick one is forgotten after three more
        clock.add(at, at + 1_000, at + 600_500)
    assert clock.offset_us == 600_000


def test_a_record_that_does_not_fill_its_last_block_ends_with_a_short_one() -> None:
    playback = Playback(np.arange(24, dtype=np.int16).reshape(2, 12), block_samples=5, sample_rate_mhz=1_000_000)
    blocks = [playback.next(100) for _ in range(4)]
    assert [b.samples.shape[1] for b in blocks] == [5, 5, 2, 5]
    assert [b.restart for b in blocks] == [True, False, False, True]
    assert [b.first_us for b in blocks] == [100, 5_100, 10_100, 12_100]
    assert [b.due_us for b in blocks] == [5_100, 10_100, 12_100, 17_100]
