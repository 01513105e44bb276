"""Exports read back by other people's readers: every sample where it was, every hole where it was."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from media.core.waveform import FrameWriter, InvalidReason, InvalidRun, StreamFormat, split_message
from media.sources import read
from server.waveforms.core import wfdb as wfdb_export
from server.waveforms.core.dicom import AMBULATORY, GENERAL, TWELVE_LEAD, RateUnsupported, build_dicom
from server.waveforms.core.identity import ExportIdentity
from server.waveforms.core.stream import StreamInfo
from server.waveforms.core.timeline import Event, Run, read_runs
from server.waveforms.core.wfdb import build_zip
from signaling.core.ids import PatientId
from signaling.core.model import Identifier, PatientBanner

TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
BANNER = PatientBanner(
    id=PatientId("p"), name="张三", name_latin="Zhang San", sex="male", birth_date="1950-01-02",
    identifiers=(Identifier(label="MRN", value="0017"), Identifier(label="ID", value="330482")), test=True,
)  # fmt: skip
IDENTITY = ExportIdentity(banner=BANNER, institution="Hub", made_at_us=1_700_000_000_000_000, software="consilium 1")
T0_US = 1_700_000_000_000_000


def info(leads: tuple[str, ...], rate_mhz: int, *, simulated: bool = True) -> StreamInfo:
    return StreamInfo(
        archive="w_0123456789abcdef", consult="c1", stream_id=7, kind="live", title="t", device="Monitor 监护仪",
        leads=leads, sample_rate_mhz=rate_mhz, lsb_nv=1250, filter="0.05-150 Hz, notch 50 Hz", simulated=simulated,
        patient="p",
    )  # fmt: skip


class Source:
    """Makes frames, and the truth about them on one axis: values, and whether there is a sample."""

    def __init__(self, of: StreamInfo, block: int = 50) -> None:
        self.info, self.block = of, block
        fmt = StreamFormat(
            stream_id=7, leads=len(of.leads), sample_rate_mhz=of.sample_rate_mhz, lsb_nv=1250, simulated=of.simulated
        )
        self.writer = FrameWriter(fmt)
        self.frames: list[bytes] = []
        self.at = 0
        self.values: dict[int, NDArray[np.int16]] = {}
        self.valid: dict[int, NDArray[np.bool_]] = {}

    def take(
        self, samples: NDArray[np.int16], *, keep: bool = True, off: int = 0, bad: tuple[InvalidRun, ...] = ()
    ) -> None:
        t0_us = T0_US + self.at * 1_000_000_000 // self.info.sample_rate_mhz
        message = self.writer.write(samples, t0_us=t0_us, context_version=1, lead_off_mask=off, invalid_runs=bad)
        if keep:
            frame, _ = split_message(message)
            self.frames.append(frame.encoded)
            held = np.ones(samples.shape, np.bool_)
            for lead in range(len(samples)):
                held[lead] = not off >> lead & 1
            for run in bad:
                held[run.lead, run.first : run.first + run.count] = False
            self.values[self.at], self.valid[self.at] = samples, held
        self.at += samples.shape[1]

    def hole(self, samples: int, *, session: bool = False) -> None:
        if session:
            self.writer.restart()
        else:
            self.writer.skip(samples)
        self.at += samples

    def truth(self, missing: int) -> NDArray[np.int64]:
        end = max(at + block.shape[1] for at, block in self.values.items())
        axis = np.full((len(self.info.leads), end), missing, np.int64)
        for at, block in self.values.items():
            axis[:, at : at + block.shape[1]] = np.where(self.valid[at], block.astype(np.int64), missing)
        return axis


def decode_wfdb(of: StreamInfo, runs: list[Run], folder: Path) -> tuple[NDArray[np.int64], wfdb.Record]:
    data = wfdb_export.build_zip(of, IDENTITY, runs, "{}")
    zipfile.ZipFile(io.BytesIO(data)).extractall(folder)
    name = wfdb_export.record_name(of)
    record = wfdb.rdrecord(str(folder / name / name), physical=False, m2s=True)
    return record.d_signal.T.astype(np.int64), record


def decode_dicom(data: bytes) -> tuple[pydicom.Dataset, list[NDArray[np.int64]]]:
    dataset = pydicom.dcmread(io.BytesIO(data))
    groups = []
    for group in dataset.WaveformSequence:
        padding = int.from_bytes(group[0x5400100A].value[:2], "little", signed=True)
        raw = np.frombuffer(group.WaveformData, "<i2").reshape(-1, group.NumberOfWaveformChannels).T.astype(np.int64)
        groups.append(np.where(raw == padding, -99_999, raw))
    return dataset, groups


STEP = st.sampled_from(["take", "take", "lose", "hole", "off", "bad", "session"])


@settings(max_examples=12)
@given(st.lists(STEP, min_size=1, max_size=12), st.sampled_from([250_000, 500_000, 360_000]), st.integers(0, 2**31))
def test_any_history_comes_back_sample_for_sample(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], rate: int, seed: int
) -> None:
    """[W2] [W3] [W10] Through frames, placement and both formats, decoded by wfdb and pydicom."""
    of = info(("I", "II", "V1"), rate)
    source, noise = Source(of), np.random.default_rng(seed)
    for step in ["take", *steps, "take"]:
        samples = noise.integers(-32_767, 32_767, (3, 50)).astype(np.int16)
        if step == "hole":
            source.hole(37)
        elif step == "session":
            source.hole(2 * rate // 1000, session=True)
        else:
            bad = (InvalidRun(1, InvalidReason.ARTEFACT, 10, 20),) if step == "bad" else ()
            source.take(samples, keep=step != "lose", off=2 if step == "off" else 0, bad=bad)
    runs = read_runs(of, source.frames)
    truth = source.truth(-99_999)

    found, record = decode_wfdb(of, runs, tmp_path_factory.mktemp("wfdb"))
    assert (np.where(found == -32_768, -99_999, found) == truth).all()
    assert record.adc_gain == [800.0] * 3

    dataset, groups = decode_dicom(build_dicom(of, IDENTITY, runs))
    if len(groups) == len(runs):
        for run, group in zip(runs, groups, strict=True):
            at = round((run.start_us - T0_US) * rate / 1e9)
            assert (group == truth[:, at : at + run.cells]).all()
    else:
        assert (groups[0] == truth).all()
    assert dataset.PatientComments == "SIMULATED: not from a person"


def test_a_sample_that_means_missing_elsewhere_comes_back_all_the_same(tmp_path: Path) -> None:
    """[W10] -32768 is a sample here: format 32 and another padding value."""
    of = info(("I", "II"), 500_000)
    source = Source(of)
    samples = np.tile(np.array([-32_768, 32_767, 0, 5, -1], np.int16), (2, 10))
    source.take(samples)
    source.hole(20)
    source.take(samples)
    runs = read_runs(of, source.frames)
    found, _ = decode_wfdb(of, runs, tmp_path)
    truth = source.truth(-99_999)
    held = truth != -99_999
    assert (found[held] == truth[held]).all()
    assert (found[~held] == -(2**31)).all()
    _, (group,) = decode_dicom(build_dicom(of, IDENTITY, runs))
    assert (group == truth).all()


@pytest.mark.parametrize(
    ("leads", "rate", "frames", "sessions", "sop", "groups"),
    [
        (TWELVE, 500_000, 20, 1, TWELVE_LEAD, 1),
        (TWELVE, 500_000, 20, 3, TWELVE_LEAD, 3),
        (TWELVE, 500_000, 330, 1, GENERAL, 1),
        (TWELVE, 500_000, 20, 7, GENERAL, 1),
        (("I", "II"), 500_000, 20, 1, GENERAL, 1),
        (("II", "V"), 125_000, 20, 2, AMBULATORY, 1),
    ],
)
def test_the_object_fits_rate_leads_and_sessions(
    leads: tuple[str, ...], rate: int, frames: int, sessions: int, sop: str, groups: int
) -> None:
    """PS3.3 A.34: 12-lead to 16384 samples and 5 groups, General from 200 Hz to 4 groups, else Ambulatory."""
    of = info(leads, rate)
    source = Source(of)
    for session in range(sessions):
        if session:
            source.hole(rate // 1000, session=True)
        for _ in range(frames):
            source.take(np.ones((len(leads), 50), np.int16))
    dataset, found = decode_dicom(build_dicom(of, IDENTITY, read_runs(of, source.frames)))
    assert dataset.SOPClassUID == sop
    assert len(found) == groups
    assert sum(int((group != -99_999).sum()) for group in found) == len(leads) * 50 * frames * sessions
    channel = dataset.WaveformSequence[0].ChannelDefinitionSequence[0]
    assert float(channel.ChannelSensitivity) == 1.25
    assert (str(channel.FilterLowFrequency), str(channel.NotchFilterFrequency)) == ("0.05", "50")
    assert str(dataset.PatientName) == "Zhang San=张三"
    assert (dataset.PatientID, dataset.OtherPatientIDsSequence[0].PatientID) == ("0017", "330482")
    physical = dataset.waveform_array(0)
    assert physical[0, 0] == 1.25


def test_a_rate_that_dicom_lacks_is_refused() -> None:
    of = info(("I",), 2_000_000)
    source = Source(of)
    source.take(np.ones((1, 50), np.int16))
    with pytest.raises(RateUnsupported):
        build_dicom(of, IDENTITY, read_runs(of, source.frames))


def test_an_export_too_full_of_remarks_keeps_those_of_missing_signal_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """[W2] [W6] Hours of a pacemaker: its pulses give way, holes do not."""
    monkeypatch.setattr("server.waveforms.core.dicom.MAX_ANNOTATIONS", 30)
    of = info(TWELVE, 500_000)
    source = Source(of)
    for number in range(60):
        source.take(np.zeros((12, 50), np.int16), keep=number != 50)
    runs = read_runs(of, source.frames)
    runs[0].events = [*(Event(n, "pace") for n in range(100)), *runs[0].events]
    dataset, _ = decode_dicom(build_dicom(of, IDENTITY, runs))
    texts = [str(item.UnformattedTextValue) for item in dataset.WaveformAnnotationSequence]
    assert len(texts) == 30
    assert "lost" in texts
    assert "SIMULATED: not from a person" in texts
    assert texts[-1].startswith("annotations left out: ")


def test_an_export_that_comes_back_is_still_simulated() -> None:
    """[W9] The mark cannot be washed off by a download and an upload."""
    for simulated in (True, False):
        of = info(TWELVE, 500_000, simulated=simulated)
        source = Source(of)
        for number in range(30):
            source.take(np.full((12, 50), number, np.int16))
        runs = read_runs(of, source.frames)
        for data in (build_dicom(of, IDENTITY, runs), build_zip(of, IDENTITY, runs, "")):
            assert read(data).simulated is simulated


def test_holes_sessions_and_leads_off_are_named_and_identity_goes_along(tmp_path: Path) -> None:
    """[W5] [W6] [W9] [W18] [W29]"""
    of = info(TWELVE, 500_000)
    source = Source(of)
    block = np.zeros((12, 50), np.int16)
    source.take(block)
    source.take(block, keep=False)
    source.take(block, off=4)
    source.hole(10)
    source.take(block)
    source.hole(500, session=True)
    source.take(block)
    runs = read_runs(of, source.frames)
    _, record = decode_wfdb(of, runs, tmp_path)
    name = wfdb_export.record_name(of)
    notes = wfdb.rdann(str(tmp_path / name / name), "atr")
    said = dict(zip(notes.sample.tolist(), notes.aux_note, strict=True))
    assert said[50] == "lost 50 samples"
    assert "lead_off III 50 samples" in notes.aux_note
    assert said[150] == "source_gap 10 samples"
    assert said[210] == "gap 500 samples"
    assert said[710] == "session"
    assert (
        any("SIMULATED" in line for line in record.comments or [])
        or "SIMULATED" in (tmp_path / name / f"{name}.hea").read_text()
    )
    head = (tmp_path / name / f"{name}.hea").read_text()
    for wanted in ("0017", "330482", "Zhang San", "0.05-150 Hz", "监护仪"):
        assert wanted in head, wanted
