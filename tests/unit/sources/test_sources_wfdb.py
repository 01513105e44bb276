"""WFDB records: value for value what the reference library reads, and typed errors for everything else."""

from __future__ import annotations

import io
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import wfdb

from media.core.waveform import InvalidReason
from media.sources import NoticeCode, Recording, SourceError, SourceErrorCode, read, read_path
from media.sources.files import Folder, Uploaded, unzip
from media.sources.wfdb import read_wfdb
from tests.shared_data import shared


def microvolts(recording: Recording, row: int = 0, strip: int = 0) -> np.ndarray:
    """One lead in millivolts as float, NaN where the source has nothing."""
    found = recording.strips[strip]
    return np.where(
        found.invalid[row] == InvalidReason.MISSING, np.nan, found.samples[row].astype(float) * found.lsb_nv / 1e6
    )


def test_ptb_is_the_reference_librarys_fifteen_leads_exactly() -> None:
    """Real record: 1000 Hz, 2000 adu/mV. Every one of 576,000 samples."""
    path = shared("ecg/ptb/s0010_re.hea")
    ours, theirs = read_path(path), wfdb.rdrecord(str(path)[:-4], physical=False)
    (strip,) = ours.strips
    assert strip.names == (
        "I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6", "vx", "vy", "vz",
    )  # fmt: skip
    assert (strip.rate, strip.lsb_nv) == (1000, 500)
    order = [theirs.sig_name.index(lead.found) for lead in strip.leads]
    np.testing.assert_array_equal(strip.samples, theirs.d_signal.T[order])
    assert not strip.invalid.any()


def test_mit_bih_100_is_the_reference_librarys_with_all_its_annotations() -> None:
    """Real record: format 212, 360 Hz, offset of the ADC; MLII is not II."""
    path = shared("ecg/mitdb/100.hea")
    ours, theirs = read_path(path), wfdb.rdrecord(str(path)[:-4])
    assert ours.strips[0].names == ("MLII", "V5")
    assert ours.strips[0].rate == 360
    for row, name in enumerate(("MLII", "V5")):
        np.testing.assert_array_equal(microvolts(ours, row), theirs.p_signal[:, theirs.sig_name.index(name)])
    beats = wfdb.rdann(str(path)[:-4], "atr")
    assert [a.sample for a in ours.annotations] == list(beats.sample)
    assert [a.symbol for a in ours.annotations] == beats.symbol
    assert len(ours.annotations) == 2274


def test_a_monitor_record_in_twenty_segments_keeps_every_hole() -> None:
    """[W2] Real record: gaps, a gain per segment. Missing where the reference has NaN, else within half a fine step."""
    path = shared("ecg/gaps_s25047/s25047-2704-05-04-10-44.hea")
    ours, theirs = read_path(path), wfdb.rdrecord(str(path)[:-4])
    strip = ours.strips[0]
    assert strip.names == ("II", "V")
    assert strip.samples.shape == (2, 543_240)
    for row, name in enumerate(strip.names):
        reference = theirs.p_signal[:, theirs.sig_name.index(name)]
        mine = microvolts(ours, row)
        np.testing.assert_array_equal(np.isnan(mine), np.isnan(reference))
        assert np.nanmax(abs(mine - reference)) <= strip.lsb_nv / 2e6 + 1e-9
    codes = {notice.code for notice in ours.notices}
    assert NoticeCode.SCALE_FINER in codes
    assert NoticeCode.LEFT_OUT in codes, "the arterial pressure is no ECG lead, and that is said"
    blocks = list(strip.blocks(12))
    assert sum(b.samples.shape[1] + b.skipped for b in blocks) == 543_240
    assert blocks[0].skipped == 25_740, "the first 205.9 s are a hole, not samples"


def test_numerics_become_vital_signs_at_their_own_times() -> None:
    """[W8] A missing value is no measurement: nothing is made of -32768."""
    path = shared("ecg/gaps_s25047/s25047-2704-05-04-10-44n.hea")
    ours, theirs = read_path(path), wfdb.rdrecord(str(path)[:-4])
    assert ours.strips == ()
    for code, name in (("HR", "HR"), ("Pulse", "PULSE"), ("Resp", "RESP"), ("SpO2", "SpO2")):
        reference = theirs.p_signal[:, theirs.sig_name.index(name)]
        values = [v.value for v in ours.vitals if v.code == code]
        assert values == list(reference[~np.isnan(reference)])
    pressures = [v for v in ours.vitals if v.code == "NIBP"]
    assert len(pressures) == int((~np.isnan(theirs.p_signal[:, theirs.sig_name.index("NBPSys")])).sum())
    assert all(isinstance(v.value, tuple) and v.value[0] > v.value[2] > v.value[1] for v in pressures)


@pytest.mark.parametrize("fmt", ["16", "24", "32", "61", "80", "160", "212"])
def test_every_format_reads_what_the_reference_library_wrote(tmp_path: Path, fmt: str) -> None:
    bits = {"80": 7, "212": 11}.get(fmt, 14)
    rng = np.random.default_rng(int(fmt))
    digital = np.cumsum(rng.integers(-3, 4, (500, 3)), axis=0)
    digital = np.clip(digital, -(2 ** (bits - 1)), 2 ** (bits - 1)).astype(np.int64)
    written = fmt if fmt not in ("61", "160") else "16"  # the library reads these two, but does not write them
    wfdb.wrsamp(
        "r", fs=250, units=["mV"] * 3, sig_name=["V1", "II", "AVR"], d_signal=digital, fmt=[written] * 3,
        adc_gain=[200.0] * 3, baseline=[5, -3, 0], write_dir=str(tmp_path),
    )  # fmt: skip
    if written != fmt:
        raw = digital.astype(">i2") if fmt == "61" else (digital + 32_768).astype("<u2")
        (tmp_path / "r.dat").write_bytes(raw.tobytes())
        text = (tmp_path / "r.hea").read_text()
        (tmp_path / "r.hea").write_text(text.replace("r.dat 16 ", f"r.dat {fmt} "))
    ours = read_wfdb(Folder(tmp_path), "r")
    theirs = wfdb.rdrecord(str(tmp_path / "r"))
    assert ours.strips[0].names == ("II", "aVR", "V1"), "in the order of the wire"
    for row, column in enumerate((1, 2, 0)):
        np.testing.assert_allclose(microvolts(ours, row), theirs.p_signal[:, column], atol=1e-12)


def test_other_rates_in_one_record_are_streams_of_their_own(tmp_path: Path) -> None:
    """Real monitors mix 249.9 and 125 Hz; nothing is resampled [W10]."""
    rng = np.random.default_rng(2)
    frames = rng.integers(-900, 900, (300, 3)).astype("<i2")
    (tmp_path / "m.hea").write_text("m 2 124.95 300\nm.dat 16x2 200/mV 16 0 0 0 0 II\nm.dat 16 200/mV 16 0 0 0 0 V\n")
    (tmp_path / "m.dat").write_bytes(frames.tobytes())
    ours = read_wfdb(Folder(tmp_path), "m")
    assert [(s.names, s.rate) for s in ours.strips] == [(("II",), Fraction("249.9")), (("V",), Fraction("124.95"))]
    np.testing.assert_array_equal(ours.strips[0].samples[0], frames[:, :2].reshape(-1))
    np.testing.assert_array_equal(ours.strips[1].samples[0], frames[:, 2])
    assert NoticeCode.SPLIT in {n.code for n in ours.notices}
    assert [s.sample_rate_mhz for s in ours.strips] == [249_900, 124_950]


def test_no_value_codes_and_skew_are_missing_samples(tmp_path: Path) -> None:
    """[W6]"""
    table = np.array([[1, 10], [-32768, 20], [3, 30], [4, 40]], "<i2")
    (tmp_path / "s.hea").write_text("s 2 250 3\ns.dat 16:0 200 16 0 0 0 0 I\ns.dat 16:1 200 16 0 0 0 0 II\n")
    (tmp_path / "s.dat").write_bytes(table.tobytes())
    strip = read_wfdb(Folder(tmp_path), "s").strips[0]
    assert strip.invalid.tolist() == [[0, InvalidReason.MISSING, 0], [0, 0, 0]]
    assert strip.samples[1].tolist() == [20, 30, 40]


def header(line: str, signals: str = "a.dat 16 200 16 0 0 0 0 I\n") -> dict[str, bytes]:
    return {"a.hea": (line + "\n" + signals).encode(), "a.dat": np.arange(400, dtype="<i2").tobytes()}


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({}, SourceErrorCode.FILE_MISSING),
        ({"a.hea": b""}, SourceErrorCode.MALFORMED),
        (header("a 1 250 200", "../../etc/passwd 16 200 16 0 0 0 0 I\n"), SourceErrorCode.UNSAFE),
        (header("a 1 250 200", "a.dat 508 200 16 0 0 0 0 I\n"), SourceErrorCode.UNSUPPORTED),
        (header("a 1 250 200", "a.dat 16 0 16 0 0 0 0 I\n"), SourceErrorCode.SCALE_UNKNOWN),
        (header("a 1 1e999999999 200"), SourceErrorCode.MALFORMED),
        (header("a 1 0 200"), SourceErrorCode.RATE),
        (header("a 1 250 99999999999999"), SourceErrorCode.MALFORMED),
        (header("a 999999 250 200"), SourceErrorCode.MALFORMED),
        (header("a 2 250 200"), SourceErrorCode.MALFORMED),
        (header("a/3 1 250 9000000", "a 1\n~ 90000000000\na 1\n"), SourceErrorCode.TOO_LARGE),
        (header("a/2 1 250 400", "a 200\na 200\n"), SourceErrorCode.UNSUPPORTED),
        (header("a 1 250 200", "b.dat 16 200 16 0 0 0 0 I\n"), SourceErrorCode.FILE_MISSING),
        (header("a 1 250 200", "a.dat 16 200/mmHg 16 0 0 0 0 ABP\n"), SourceErrorCode.NO_ECG),
    ],
)
def test_a_hostile_or_broken_record_is_one_typed_error(files: dict[str, bytes], code: SourceErrorCode) -> None:
    with pytest.raises(SourceError) as raised:
        read_wfdb(Uploaded(files), "a")
    assert raised.value.code is code
    assert raised.value.en
    assert raised.value.zh


def test_a_record_cut_short_is_read_as_far_as_it_goes_and_says_so() -> None:
    """[W2] What the header promised and the file does not have is missing, not zero."""
    recording = read_wfdb(Uploaded(header("a 1 250 1000")), "a")
    assert recording.strips[0].samples.shape == (1, 1000)
    assert (recording.strips[0].invalid[0, 400:] == InvalidReason.MISSING).all()
    assert NoticeCode.TRUNCATED in {n.code for n in recording.notices}


def test_samples_that_were_changed_do_not_pass_unseen() -> None:
    files = header("a 1 250 400", f"a.dat 16 200 16 0 0 {sum(range(400)) & 0xFFFF} 0 I\n")
    assert NoticeCode.CHECKSUM not in {n.code for n in read_wfdb(Uploaded(files), "a").notices}
    files["a.dat"] = files["a.dat"][:-1] + b"\x07"
    assert NoticeCode.CHECKSUM in {n.code for n in read_wfdb(Uploaded(files), "a").notices}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_an_uploaded_zip_is_read_whatever_folder_its_files_are_in() -> None:
    files = {f"some/folder/{name}": content for name, content in header("a 1 250 400").items()}
    assert read(zipped(files)).strips[0].samples[0, 7] == 7


def test_a_segmented_record_in_a_zip_is_found_by_its_master_header() -> None:
    files = header("a 1 250 400")
    files["whole.hea"] = b"whole/3 1 250 900\na 400\n~ 100\na 400\n"
    strip = read(zipped(files)).strips[0]
    assert strip.samples.shape == (1, 900)
    assert (strip.invalid[0] == InvalidReason.MISSING).sum() == 100


@pytest.mark.parametrize("bomb", [zipped({"a.hea": bytes(80 << 20)}), b"PK\x03\x04" + bytes(40)])
def test_a_zip_bomb_or_a_broken_zip_costs_nothing(bomb: bytes) -> None:
    with pytest.raises(SourceError) as raised:
        unzip(bomb)
    assert raised.value.code in (SourceErrorCode.TOO_LARGE, SourceErrorCode.MALFORMED)
