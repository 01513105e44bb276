"""The simulated monitor, and a record that is played: what leaves them is marked and timed, sample by sample."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from media.core.waveform import Flag, split_message
from media.sources import Block, LiveSource, Strip, Vital
from media.sources.playback import Playback, PlayedRecording
from media.sources.simulator import SimulatedMonitor
from server.bedside.clock import HubClock
from server.bedside.stream import OutStream
from server.demo.monitor import PATIENT, SampleBed, sample_monitor, wristband
from signaling.core.ids import ParticipantId, PatientId
from signaling.core.model import Context, Identifier, PatientBanner
from tests.pydicom_record import sample_record, sample_recording

UNIX_US = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def recording() -> Strip:
    return sample_record()


async def stream_of(source: LiveSource) -> OutStream:
    (made,) = await source.open()
    return OutStream(made, stream_id=77)


def synced(offset_us: int) -> HubClock:
    clock = HubClock()
    clock.add(0, 100, offset_us + 50)
    return clock


def test_the_record_is_the_rhythm_strip_in_wire_order(recording: Strip) -> None:
    dataset = pydicom.dcmread(str(get_testdata_file("waveform_ecg.dcm", download=False)))
    microvolts = dataset.waveform_array(0)  # the RHYTHM group, scaled by pydicom itself

    assert recording.names == ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    assert recording.samples.shape == (12, 10_000)
    assert recording.sample_rate_mhz == 1_000_000
    assert recording.lsb_nv == 1250
    assert sample_recording().filter == "0.05-300 Hz, no notch"
    np.testing.assert_array_equal(recording.samples * 1.25, microvolts.T)


def test_the_identity_in_the_sample_file_is_not_passed_on() -> None:
    assert sample_recording().patient.ids == ()


async def test_frames_carry_exactly_the_samples_and_begin_anew_at_each_seam(recording: Strip) -> None:
    """[W9] [W10] Native rate, every sample, SIMULATED on every frame, a restart at every seam and nowhere else."""
    stream, clock = await stream_of(PlayedRecording(sample_recording())), synced(UNIX_US)
    playback = Playback(recording, stream.writer.stream.block_samples)
    now_us = 5_000_000
    frames = []
    for _ in range(450):
        due = playback.next(now_us)
        now_us = due.due_us
        frames.append(split_message(stream.frame(due.block, clock, 0, context_version=3))[0])

    sent = np.concatenate([f.samples for f in frames], axis=1)
    np.testing.assert_array_equal(sent[:, :10_000], recording.samples)
    np.testing.assert_array_equal(sent[:, 10_000:20_000], recording.samples)
    assert {f.n for f in frames} == {50}
    assert [i for i, f in enumerate(frames) if Flag.SESSION_RESTART in f.flags] == [0, 200, 400]
    assert [f.first_sample for f in frames[198:203]] == [9900, 9950, 0, 50, 100]
    assert [f.seq for f in frames] == list(range(450))
    assert all(Flag.SIMULATED in f.flags and Flag.CLOCK_UNSYNCED not in f.flags for f in frames)
    assert {f.context_version for f in frames} == {3}
    assert [f.t0_us for f in frames] == [UNIX_US + 5_000_000 + 50_000 * i for i in range(450)]


async def test_the_demo_s_stream_has_no_seam() -> None:
    """[W5] A minute of it is one session, whole; what is said of its beginning is said of no other moment."""
    source = sample_monitor()
    assert isinstance(source, SimulatedMonitor)
    stream, clock = await stream_of(source), synced(UNIX_US)
    size = stream.writer.stream.block_samples
    blocks = [source.simulator.block(size) for _ in range(60 * 500 // size)]
    frames = [split_message(stream.frame(block, clock, 0, context_version=3))[0] for block in blocks]
    assert [i for i, f in enumerate(frames) if Flag.SESSION_RESTART in f.flags] in ([], [0])
    assert [f.first_sample for f in frames] == [size * i for i in range(len(frames))]
    assert all(Flag.SIMULATED in f.flags for f in frames)


async def test_the_stream_is_announced_as_simulated_and_bound_to_the_test_patient() -> None:
    """[W9] [W20] [W29]"""
    stream = (await stream_of(sample_monitor())).announcement(PATIENT)
    assert stream.simulated
    assert stream.patient == "demo-shen"
    assert stream.leads == ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    assert "simulated" in stream.filter
    assert "模拟" in stream.device
    assert "Simulated" in stream.device


async def test_it_sends_vital_signs_beside_the_trace() -> None:
    """[W8] Each with its own time, on the clock of the blocks."""
    source = sample_monitor()
    assert isinstance(source, SimulatedMonitor)
    source.simulator.skip(6 * 500)
    seen: set[str] = set()
    last_us = 0
    async for _, item in source.items():
        if isinstance(item, Vital):
            assert item.at_us <= last_us + 200_000
            seen.add(item.code)
        if isinstance(item, Block):
            if seen:
                break
            last_us = item.captured_us
    assert {"HR", "SpO2", "NIBP", "Resp", "Pulse"} <= seen


async def test_the_bed_confirms_its_own_patient_and_no_other() -> None:
    """[W20] The wristband is read only where its patient is open."""

    def opened(patient: str) -> Context:
        banner = PatientBanner(
            id=PatientId(patient), name="n", sex="male", birth_date="1960-01-01", test=True,
            identifiers=(Identifier(label="a", value="1"), Identifier(label="b", value="2")),
        )  # fmt: skip
        return Context(version=1, patient=banner, opened_at_ms=1, opened_by=ParticipantId("p"))

    assert await SampleBed().identifiers(opened(PATIENT)) == wristband()
    assert await SampleBed().identifiers(opened("demo-gu")) is None
