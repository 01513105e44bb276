"""Files that are read as if they were devices: a record that is played, and a folder of HL7 messages."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from media.core.waveform import InvalidReason
from media.sources import (
    Block,
    Lead,
    LiveItem,
    Patient,
    PatientReport,
    Recording,
    SourceError,
    SourceErrorCode,
    Strip,
    Vital,
)
from media.sources.oru import OruFolder
from media.sources.playback import Playback, PlayedRecording

RATE = 500


def strip(samples: int, holes: tuple[tuple[int, int], ...] = ()) -> Strip:
    invalid = np.zeros((2, samples), np.uint8)
    for first, stop in holes:
        invalid[:, first:stop] = InvalidReason.MISSING
    return Strip(
        leads=tuple(Lead(name=n, found=n, nv_per_step=Fraction(2500)) for n in ("II", "V5")),
        rate=Fraction(RATE), lsb_nv=2500, samples=np.arange(2 * samples, dtype=np.int16).reshape(2, samples),
        invalid=invalid,
    )  # fmt: skip


def test_a_record_that_does_not_fill_its_last_block_ends_with_a_short_one_and_begins_anew() -> None:
    playback = Playback(strip(12), block_samples=5)
    dues = [playback.next(100) for _ in range(4)]
    assert [d.block.samples.shape[1] for d in dues] == [5, 5, 2, 5]
    assert [d.block.restart for d in dues] == [True, False, False, True]
    assert [d.block.captured_us for d in dues] == [100, 10_100, 20_100, 24_100]
    assert [d.due_us for d in dues] == [10_100, 20_100, 24_100, 34_100]


def test_holes_of_a_played_record_stay_holes() -> None:
    """[W2] Also at its beginning and its end."""
    playback = Playback(strip(50, holes=((0, 5), (20, 30), (45, 50))), block_samples=20)
    blocks = [playback.next(0).block for _ in range(4)]
    assert [(b.skipped, b.samples.shape[1], b.captured_us) for b in blocks] == [
        (0, 15, 10_000), (10, 15, 60_000), (0, 15, 110_000), (10, 15, 160_000),
    ]  # fmt: skip
    assert [b.restart for b in blocks] == [True, False, True, False]


async def test_played_it_names_its_patient_and_ends_if_it_shall_not_loop() -> None:
    """[W9] [W22]"""
    recording = Recording(format="edf", strips=(strip(120),), patient=Patient(ids=("MRN-1", "X")))
    source = PlayedRecording(recording, loop=False, report_patient=True)
    assert source.format.simulated
    items: list[LiveItem] = [item async for _, item in source.items()]
    assert items[0] == PatientReport(id="MRN-1")
    played = np.concatenate([i.samples for i in items if isinstance(i, Block)], axis=1)
    np.testing.assert_array_equal(played, strip(120).samples)


def test_a_record_with_nothing_in_it_is_not_played() -> None:
    with pytest.raises(SourceError):
        PlayedRecording(Recording(format="wfdb", strips=(strip(20, holes=((0, 20),)),)))


def message(start: datetime, values: np.ndarray, patient: str = "MRN-1") -> str:
    def stamp(at: datetime) -> str:
        return at.strftime("%Y%m%d%H%M%S.%f")[:18] + "+0000"

    return (
        f"MSH|^~\\&|GATE|W|||{stamp(start)}||ORU^R01|1|P|2.6\nPID|||{patient}\n"
        f"OBR|1|||69121^MDC_OBS_WAVE^MDC|||{stamp(start)}\n"
        f"OBX|1|NA|131330^MDC_ECG_ELEC_POTL_II^MDC|1.1.1.1|{'^'.join(map(str, values))}|262419^MDC_DIM_MICRO_VOLT^MDC\n"
        "OBX|2|NM|0^MDC_ATTR_SAMP_RATE^MDC|1.1.1.1.1|500|264608^MDC_DIM_PER_SEC^MDC\n"
        "OBX|3|NM|0^MDC_ATTR_NU_MSMT_RES^MDC|1.1.1.1.2|2.5|262419^MDC_DIM_MICRO_VOLT^MDC\n"
        f"OBX|4|NM|147842^MDC_ECG_HEART_RATE^MDC|1.1.2.1|78|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||R|||{stamp(start)}\n"
    )


async def test_a_folder_of_messages_is_a_device_with_its_own_clock_and_its_own_holes(tmp_path: Path) -> None:
    """[W2] [W8] [W22] Pieces of a second each; one never came; a file that is broken is passed over and told."""
    complaints: list[tuple[str, SourceErrorCode]] = []
    source = OruFolder(tmp_path, errors=lambda name, error: complaints.append((name, error.code)), first_s=30)
    (tmp_path / "0old.hl7").write_text(message(datetime(2020, 1, 1, tzinfo=UTC), np.arange(500)))
    opening = asyncio.ensure_future(source.open())
    await asyncio.sleep(0)
    while not source._seen:
        await asyncio.sleep(0.01)

    began = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=7)  # the device's clock is wrong by hours
    rng = np.random.default_rng(9)
    signal = rng.integers(-400, 400, 2000)
    for number in (0, 1, 3):
        part = signal[500 * number : 500 * number + 500]
        (tmp_path / f"{number}.hl7").write_text(message(began + timedelta(seconds=number), part))
    (tmp_path / "2.hl7").write_text("MSH|nonsense")
    (format_,) = await opening
    assert (format_.leads, format_.sample_rate_mhz, format_.lsb_nv, format_.simulated) == (
        ("II",), 500_000, 2500, False,
    )  # fmt: skip

    blocks: list[Block] = []
    vitals: list[Vital] = []
    reports: list[str] = []
    async with asyncio.timeout(30):
        async for _, item in source.items():
            match item:
                case Block():
                    blocks.append(item)
                case Vital():
                    vitals.append(item)
                case PatientReport():
                    reports.append(item.id)
            if len(blocks) == 30:
                break
    got = np.concatenate([b.samples for b in blocks], axis=1)[0]
    np.testing.assert_array_equal(got, np.concatenate([signal[:1000], signal[1500:]]))
    assert [(i, b.skipped) for i, b in enumerate(blocks) if b.skipped] == [(20, 500)]
    assert [b.restart for b in blocks].count(True) == 1
    now_us = time.monotonic_ns() // 1000
    assert all(now_us - 60_000_000 < b.captured_us <= now_us + 5_000_000 for b in blocks), "on this machine's clock"
    assert [v.value for v in vitals] == [78.0] * 3
    assert reports == ["MRN-1"]
    assert [name for name, _ in complaints] == ["2.hl7"]


async def test_a_folder_that_is_not_there_or_stays_silent_is_said(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(SourceError) as raised:
            await OruFolder(folder, errors=lambda _n, _e: None, first_s=0.2).open()
        assert raised.value.code is SourceErrorCode.NOT_FOUND
