"""The computed heart rate on real records and on what must not become a number. The figures are printed (``-s``)."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
import wfdb
from numpy.typing import NDArray

from media.core.waveform import FrameWriter, StreamFormat, split_message
from server.waveforms.core.beats import HeartWindow, Rate, beats_of

T0_US = 1_700_000_000_000_000


def play(
    samples: NDArray[np.int16], rate_mhz: int, lsb_nv: int, *, off: int = 0, seconds: int | None = None
) -> tuple[list[Rate], float]:
    """The signal second by second, as the server computes it; CPU milliseconds per second of it."""
    stream = StreamFormat(stream_id=1, leads=len(samples), sample_rate_mhz=rate_mhz, lsb_nv=lsb_nv, simulated=False)
    writer, window = FrameWriter(stream), HeartWindow(len(samples), rate_mhz, lsb_nv)
    per_s, block = rate_mhz // 1000, stream.block_samples
    total = samples.shape[1] // per_s if seconds is None else seconds
    rates, cpu_s = [], 0.0
    for second in range(total):
        frames = []
        for at in range(second * per_s, (second + 1) * per_s, block):
            stop = min(at + block, (second + 1) * per_s)
            message = writer.write(
                samples[:, at:stop], t0_us=T0_US + at * 1_000_000_000 // rate_mhz, context_version=1, lead_off_mask=off
            )
            frames.append(split_message(message)[0].encoded)
        began = time.process_time()
        window.push(frames)
        rates.append(window.rate(T0_US + (second + 1) * 1_000_000))
        cpu_s += time.process_time() - began
    return rates, 1000 * cpu_s / total


def shared(name: str) -> str:
    for folder in Path(__file__).resolve().parents:
        for place in (folder / "shared/data/ecg" / name, folder.parent / "shared/data/ecg" / name):
            if place.with_suffix(".hea").exists():
                return str(place)
    pytest.skip(f"sample data {name} is not at hand")


def synthetic(bpm: float, seconds: int, rate_hz: int = 250, leads: int = 2) -> NDArray[np.int16]:
    """Narrow QRS complexes with a T wave, in steps of 1 uV."""
    t = np.arange(seconds * rate_hz) / rate_hz
    phase = (t * bpm / 60) % 1 * 60 / bpm
    wave = 1000 * np.exp(-(((phase - 0.2) / 0.012) ** 2)) + 200 * np.exp(-(((phase - 0.45) / 0.05) ** 2))
    noise = np.random.default_rng(3).normal(0, 8, (leads, len(t)))
    return (wave * np.linspace(1, 0.7, leads)[:, None] + noise).astype(np.int16)


def test_mit_bih_100_beat_by_beat(capsys: pytest.CaptureFixture[str]) -> None:
    """Two leads, 360 Hz, every second of ten minutes: sensitivity and positive predictive value within 150 ms."""
    path = shared("mitdb/100")
    stop = 600 * 360
    record, notes = wfdb.rdrecord(path, physical=False, sampto=stop), wfdb.rdann(path, "atr", sampto=stop)
    rates, cost_ms = play((record.d_signal.T - 1024).astype(np.int16), 360_000, 5_000)
    found = np.array([at for rate in rates for at in rate.beats_us])
    beats = [s for s, kind in zip(notes.sample, notes.symbol, strict=True) if kind in "NLRBAaJSVrFejnE/fQ"]
    truth = T0_US + np.array(beats) * 1_000_000_000 // 360_000
    truth = truth[truth <= found[-1] + 150_000]
    hit = sum(np.abs(found - at).min() <= 150_000 for at in truth)
    right = sum(np.abs(truth - at).min() <= 150_000 for at in found)
    sensitivity, precision = hit / len(truth), right / len(found)
    with capsys.disabled():
        print(f"\nheart rate, MIT-BIH 100: Se {sensitivity:.4f} PPV {precision:.4f} CPU {cost_ms:.2f} ms/s of 2 leads")
    assert sensitivity >= 0.995
    assert precision >= 0.995
    later = rates[10:]
    assert sum(rate.bpm is None or rate.unsure for rate in later) <= 0.02 * len(later)
    intervals = np.diff(truth)
    assert abs(np.median([rate.bpm for rate in later if rate.bpm]) - 6e7 / np.median(intervals)) < 2


def test_pydicoms_twelve_leads(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten seconds, twelve leads: the same rate as from the whole, and from few seconds on."""
    dataset = pydicom.dcmread(str(pydicom.data.get_testdata_file("waveform_ecg.dcm", download=False)))
    raw = np.frombuffer(dataset.WaveformSequence[0].WaveformData, "<i2").reshape(-1, 12).T.astype(np.int16).copy()
    rates, cost_ms = play(raw, 1_000_000, 1250)
    cells, unsure = beats_of(raw, np.ones(raw.shape, np.bool_), 1000, 1250)
    whole = 60_000 / float(np.median(np.diff(cells)))
    with capsys.disabled():
        print(f"\nheart rate, pydicom: {rates[-1].bpm} bpm, whole {whole:.1f}, CPU {cost_ms:.2f} ms/s of 12 leads")
    assert not unsure
    assert rates[-1].bpm is not None
    assert abs(rates[-1].bpm - whole) < 5


@pytest.mark.parametrize("bpm", [40, 75, 140])
def test_known_rates_come_out(bpm: float) -> None:
    """5 % or 5 bpm is what bedside monitors promise."""
    rates, _ = play(synthetic(bpm, 20), 250_000, 1_000)
    assert rates[-1].bpm is not None
    assert abs(rates[-1].bpm - bpm) <= 2
    assert not rates[-1].unsure


def test_no_number_of_noise_flat_line_lead_off_or_hole() -> None:
    """[W35] [W6] [W2] "?" instead of a number."""
    noise = np.random.default_rng(1).normal(0, 300, (2, 250 * 15)).astype(np.int16)
    flat = np.zeros((2, 250 * 15), np.int16)
    for samples, off in ((noise, 0), (flat, 0), (synthetic(70, 15), 3)):
        rates, _ = play(samples, 250_000, 1_000, off=off)
        assert all(rate.bpm is None and rate.unsure for rate in rates)


def test_a_silent_source_has_no_rate_after_three_seconds() -> None:
    """[W8] [W12]"""
    window = HeartWindow(2, 250_000, 1_000)
    writer = FrameWriter(StreamFormat(stream_id=1, leads=2, sample_rate_mhz=250_000, lsb_nv=1000, simulated=False))
    samples = synthetic(70, 12)
    for at in range(0, samples.shape[1], 25):
        message = writer.write(samples[:, at : at + 25], t0_us=T0_US + at * 4000, context_version=1)
        window.push([split_message(message)[0].encoded])
    end_us = T0_US + 12_000_000
    assert window.rate(end_us).bpm is not None
    assert window.rate(end_us + 2_900_000).bpm is not None
    assert window.rate(end_us + 3_100_000) == Rate(None, (), end_us, unsure=True)


def test_leads_that_disagree_for_five_seconds_have_no_rate() -> None:
    """Two leads of two rhythms: first unsure, then "?"."""
    samples = synthetic(70, 40)
    samples[1] = synthetic(100, 40)[1]
    rates, _ = play(samples, 250_000, 1_000)
    assert rates[-1].bpm is None
    assert all(rate.unsure for rate in rates[8:])


def test_one_lead_needs_a_second_opinion() -> None:
    rates, _ = play(synthetic(72, 20, leads=1), 250_000, 1_000)
    assert rates[-1].bpm is not None
    assert abs(rates[-1].bpm - 72) <= 2
    assert not rates[-1].unsure


def test_beats_are_told_once_and_never_closer_than_the_refractory_time() -> None:
    rates, _ = play(synthetic(140, 30), 250_000, 1_000)
    beats = [at for rate in rates for at in rate.beats_us]
    assert len(beats) == pytest.approx(140 / 60 * 29, abs=4)
    assert min(np.diff(beats)) >= 250_000
