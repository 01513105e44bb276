"""The simulated patient: leads that agree, rhythms that are what they are called, artefacts that are said."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import sleepecg
from hypothesis import given, settings
from hypothesis import strategies as st

from media.core.waveform import InvalidReason
from media.sources import Block, Vital
from media.sources.leads import STANDARD
from media.sources.simulator import Artefact, ArtefactKind, Rhythm, Settings, SimulatedMonitor, Simulator, Territory


def record(seconds: int, **given_settings: object) -> tuple[Simulator, np.ndarray, list[Block]]:
    simulator = Simulator(Settings(**given_settings))  # type: ignore[arg-type]
    per_block = simulator.format.block_samples
    blocks = [simulator.block(per_block) for _ in range(seconds * simulator.settings.sample_rate_hz // per_block)]
    return simulator, np.concatenate([b.samples for b in blocks], axis=1).astype(int), blocks


def latest(simulator: Simulator) -> dict[str, Vital]:
    return {vital.code: vital for vital in simulator.vitals()}


@settings(max_examples=40)
@given(
    st.sampled_from(list(Rhythm)),
    st.sampled_from([250, 500, 1000]),
    st.integers(0, 2**31),
    st.sets(st.sampled_from([k for k in ArtefactKind if k not in (ArtefactKind.OFF, ArtefactKind.SATURATED)])),
)
def test_limb_leads_agree_exactly_whatever_happens(
    rhythm: Rhythm, rate_hz: int, seed: int, artefacts: set[ArtefactKind]
) -> None:
    """[W7] III = II - I in every sample, the augmented leads within a step, also under every artefact."""
    _, leads, _ = record(
        2, rhythm=rhythm, sample_rate_hz=rate_hz, seed=seed, artefacts=tuple(Artefact(kind=k) for k in artefacts)
    )
    one, two, three, avr, avl, avf = leads[:6]
    np.testing.assert_array_equal(three, two - one)
    assert abs(2 * avr + one + two).max() <= 1
    assert abs(2 * avl - (one - three)).max() <= 1
    assert abs(2 * avf - (two + three)).max() <= 1


def test_the_same_seed_is_the_same_patient_and_another_is_another() -> None:
    first, again, other = (record(3, seed=seed)[1] for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_mark_cannot_be_taken_away() -> None:
    """[W9] No setting has it, and the format says it."""
    assert "simulated" not in {field.lower() for field in Settings.__dataclass_fields__}
    assert Simulator(Settings()).format.simulated
    assert asyncio.run(SimulatedMonitor(Settings()).open())[0].simulated


@pytest.mark.parametrize(
    ("rhythm", "bpm"),
    [
        (Rhythm.SINUS, 72), (Rhythm.BRADYCARDIA, 42), (Rhythm.TACHYCARDIA, 132),
        (Rhythm.PACED, 70), (Rhythm.VT, 168), (Rhythm.ATRIAL_FLUTTER, 75), (Rhythm.ATRIAL_FIBRILLATION, 96),
    ],
)  # fmt: skip
def test_a_detector_finds_the_rate_that_the_monitor_says(rhythm: Rhythm, bpm: float) -> None:
    """Trace and number belong to the same heart."""
    simulator, leads, _ = record(40, rhythm=rhythm)
    peaks = sleepecg.detect_heartbeats(leads[STANDARD.index("II")].astype(float), 500)
    found = 60 * 500 * (len(peaks) - 1) / (peaks[-1] - peaks[0])
    said = latest(simulator)["HR"].value
    tolerance = 12 if rhythm is Rhythm.ATRIAL_FIBRILLATION else 4
    assert abs(found - bpm) <= tolerance
    assert isinstance(said, float)
    assert abs(said - bpm) <= tolerance


def test_atrial_fibrillation_is_irregular_and_sinus_is_not() -> None:
    spread = {}
    for rhythm in (Rhythm.SINUS, Rhythm.ATRIAL_FIBRILLATION):
        simulator, _, _ = record(30, rhythm=rhythm)
        times = np.array([b.at_s for b in simulator.heart.beats(18, 30)])
        spread[rhythm] = np.diff(times).std() / np.diff(times).mean()
    assert spread[Rhythm.SINUS] < 0.04
    assert spread[Rhythm.ATRIAL_FIBRILLATION] > 0.12


def test_every_second_beat_of_bigeminy_is_early_wide_and_without_a_pulse() -> None:
    simulator, _, _ = record(30, rhythm=Rhythm.BIGEMINY)
    beats = simulator.heart.beats(18, 30)
    assert [b.ventricular for b in beats[:6]] in ([True, False] * 3, [False, True] * 3)
    vitals = latest(simulator)
    assert vitals["HR"].value == pytest.approx(2 * float(vitals["Pulse"].value), abs=6)  # type: ignore[arg-type]


def test_wenckebach_drops_every_fourth_beat() -> None:
    simulator, _, _ = record(30, rhythm=Rhythm.AV_BLOCK_2)
    gaps = np.diff([b.at_s for b in simulator.heart.beats(16, 30)])
    assert (gaps > 1.2).sum() >= 3
    assert 2 <= (gaps < 1.2).sum() / (gaps > 1.2).sum() <= 3


def test_pacer_pulses_are_marked_a_moment_before_each_paced_beat() -> None:
    """[W6] Marks, not spikes in the signal."""
    simulator, _, blocks = record(20, rhythm=Rhythm.PACED)
    marks = [(i * 50 + p) / 500 for i, b in enumerate(blocks) for p in b.pace_offsets]
    beats = [b.at_s for b in simulator.heart.beats(10, 20)]
    assert all(min(abs(beat - 0.04 - mark) for mark in marks) <= 0.003 for beat in beats)
    assert len(marks) == pytest.approx(20 * 70 / 60, abs=2)


@pytest.mark.parametrize("rhythm", [Rhythm.VF, Rhythm.ASYSTOLE])
def test_without_a_pulse_there_are_no_numbers_of_one(rhythm: Rhythm) -> None:
    """[W8] Said as absent, not left standing."""
    simulator, leads, _ = record(20, rhythm=rhythm)
    vitals = latest(simulator)
    for code in ("Pulse", "SpO2", "NIBP"):
        assert (vitals[code].value, vitals[code].quality) == (None, "invalid")
    swing_mv = np.ptp(leads[1]) * 2500 / 1e6
    assert (swing_mv > 0.4) if rhythm is Rhythm.VF else (swing_mv < 0.1)


@pytest.mark.parametrize(
    ("territory", "raised", "other"),
    [
        (Territory.INFERIOR, ("II", "III", "aVF"), "V2"), (Territory.ANTERIOR, ("V2", "V3"), "aVF"),
        (Territory.LATERAL, ("I", "V5", "V6"), "V1"),
    ],
)  # fmt: skip
def test_st_elevation_is_where_its_territory_is(territory: Territory, raised: tuple[str, ...], other: str) -> None:
    """80 ms after the end of QRS against the PR segment, in the mean of many beats."""

    def st_mv(**more: object) -> dict[str, float]:
        simulator, leads, _ = record(20, rate_bpm=60, rhythm=Rhythm.SINUS, **more)
        at = [round(b.at_s * 500) for b in simulator.heart.beats(10, 19)]
        return {
            name: float(np.mean([leads[row, a + 65] - leads[row, a - 35] for a in at])) * 0.0025
            for row, name in enumerate(simulator.leads)
        }

    plain, lifted = st_mv(), st_mv(st_mv={territory: 0.3})
    change = {name: lifted[name] - plain[name] for name in plain}
    assert all(change[name] > 0.1 for name in raised), change
    assert change[other] < 0.1


def off(where: str, **more: float) -> Artefact:
    return Artefact(kind=ArtefactKind.OFF, where=where, **more)


@pytest.mark.parametrize(
    ("electrode", "dead"),
    [("V2", {"V2"}), ("RA", set(STANDARD) - {"III"}), ("LA", set(STANDARD) - {"II"}), ("LL", set(STANDARD) - {"I"})],
)
def test_an_electrode_that_falls_off_takes_every_lead_that_needs_it(electrode: str, dead: set[str]) -> None:
    """[W6]"""
    simulator, _, blocks = record(1, artefacts=(off(electrode),))
    mask = blocks[0].lead_off_mask
    assert {name for row, name in enumerate(simulator.leads) if mask >> row & 1} == dead


def test_one_that_falls_off_within_a_block_is_an_invalid_run_from_there() -> None:
    """[W6] To the sample, and back on to the sample."""
    simulator, _, blocks = record(1, artefacts=(off("V3", from_s=0.13, until_s=0.33),))
    row = simulator.leads.index("V3")
    assert [(r.lead, r.reason, r.first, r.count) for r in blocks[1].invalid_runs] == [
        (row, InvalidReason.LEAD_OFF, 15, 35)
    ]
    assert blocks[2].lead_off_mask == 1 << row
    assert [(r.first, r.count) for r in blocks[3].invalid_runs] == [(0, 15)]
    assert blocks[4].invalid_runs == ()


def test_a_saturated_lead_says_so() -> None:
    """[W6]"""
    simulator, _, blocks = record(1, artefacts=(Artefact(kind=ArtefactKind.SATURATED, where="V1"),))
    assert blocks[0].saturated_mask == 1 << simulator.leads.index("V1")
    assert {r.reason for r in blocks[0].invalid_runs} == {InvalidReason.SATURATED}


def test_swapped_arms_look_as_swapped_arms_do() -> None:
    """I upside down, II and III for each other, aVR and aVL for each other; chest leads as they were."""
    _, good, _ = record(4)
    _, swapped, _ = record(4, artefacts=(Artefact(kind=ArtefactKind.REVERSED),))
    np.testing.assert_allclose(swapped[0], -good[0], atol=1)
    np.testing.assert_allclose(swapped[1], good[2], atol=1)
    np.testing.assert_allclose(swapped[3], good[4], atol=2)
    np.testing.assert_allclose(swapped[6:], good[6:], atol=1)


def test_mains_hum_is_at_the_mains_frequency() -> None:
    _, leads, _ = record(4, rhythm=Rhythm.ASYSTOLE, artefacts=(Artefact(kind=ArtefactKind.MAINS),), mains_hz=60.0)
    spectrum = abs(np.fft.rfft(leads[1]))
    assert np.fft.rfftfreq(leads.shape[1], 1 / 500)[spectrum.argmax()] == pytest.approx(60, abs=0.3)


def test_numbers_come_at_their_own_times_and_what_is_off_does_not_come() -> None:
    """[W8] NIBP every two minutes; a sensor that is not connected is absent, not zero."""
    simulator = Simulator(Settings(nibp_every_s=120, vitals=frozenset({"HR", "NIBP"})))
    simulator.skip(250 * 500)
    seen = list(simulator.vitals())
    assert {v.code for v in seen} == {"HR", "NIBP"}
    assert [v.at_us for v in seen if v.code == "NIBP"] == [4_000_000, 124_000_000, 244_000_000]
    assert list(simulator.vitals()) == [], "each once"


def test_up_to_four_extra_leads_make_a_stream_of_sixteen() -> None:
    simulator, leads, _ = record(1, extra_leads=4)
    assert simulator.leads[12:] == ("V7", "V8", "V9", "V3R")
    assert leads.shape[0] == 16


@pytest.mark.parametrize(
    "wrong", [{"sample_rate_hz": 300}, {"extra_leads": 5}, {"rate_bpm": 5}, {"lsb_nv": 1}, {"nibp_every_s": 0}]
)
def test_settings_that_no_monitor_has_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Settings(**wrong)  # type: ignore[arg-type]


async def test_live_it_keeps_pace_with_its_clock_and_after_a_sleep_leaves_a_hole() -> None:
    """[W13] A machine that slept goes on in the present; the missed part is a gap, not old samples as live."""
    now = 1_000_000_000
    source = SimulatedMonitor(Settings(vitals=frozenset()), now_us=lambda: now)
    items = source.items()
    _, first = await anext(items)
    now += 200_000
    _, second = await anext(items)
    now += 7_300_000
    _, third = await anext(items)
    assert isinstance(first, Block)
    assert isinstance(second, Block)
    assert isinstance(third, Block)
    assert (first.captured_us, second.captured_us, second.skipped) == (1_000_000_000, 1_000_100_000, 0)
    assert third.skipped > 3000
    assert third.captured_us == second.captured_us + 100_000 + third.skipped * 2000
    assert abs(now - third.captured_us) <= 200_000
