"""One int16 scale without loss, or streams of their own, or a refusal; and what a file says that cannot be."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core.waveform import InvalidReason
from media.sources import Notice, NoticeCode, SourceError, SourceErrorCode, Strip
from media.sources.leads import standard_name, unique, wire_order
from media.sources.limits import exact
from media.sources.scale import Piece, RawLead, strips_of


def lead(name: str, raw: object, nv: Fraction | int = 2500, *, rate: int = 500, offset: Fraction | int = 0) -> RawLead:
    values = np.array(raw, np.int32)
    return RawLead(
        found=name, rate=Fraction(rate), length=len(values), invalid=np.zeros(len(values), np.uint8),
        pieces=[Piece(first=0, raw=values, nv_per_step=Fraction(nv), offset_nv=Fraction(offset))],
    )  # fmt: skip


def made(*leads: RawLead) -> tuple[tuple[Strip, ...], set[NoticeCode]]:
    notices: list[Notice] = []
    return strips_of(leads, notices), {n.code for n in notices}


wave = st.lists(st.integers(-8000, 8000), min_size=20, max_size=20)


@given(st.lists(st.tuples(wave, st.sampled_from([1250, 2500, 5000, 10_000])), min_size=1, max_size=6))
def test_gains_with_a_common_step_are_exact(leads: list[tuple[list[int], int]]) -> None:
    """[W10] Whatever the mix of gains: in nanovolts every sample is what the file said."""
    strips, _ = made(*(lead(f"V{i + 1}", raw, nv) for i, (raw, nv) in enumerate(leads)))
    found = {name: s.samples[i].astype(int) * s.lsb_nv for s in strips for i, name in enumerate(s.names)}
    for i, (raw, nv) in enumerate(leads):
        np.testing.assert_array_equal(found[f"V{i + 1}"], np.array(raw) * nv)


@given(wave, st.fractions(min_value=500, max_value=60_000))  # below, half a nanovolt is more than a thousandth
def test_one_gain_keeps_the_files_own_steps_whatever_it_is(raw: list[int], nv: Fraction) -> None:
    strips, codes = made(lead("II", raw, nv))
    np.testing.assert_array_equal(strips[0].samples[0], raw)
    if nv.denominator != 1:
        assert NoticeCode.SCALE_ROUNDED in codes or abs(strips[0].lsb_nv - nv) <= nv / 1000
    assert strips[0].leads[0].nv_per_step == nv, "the file's own scale is kept beside"


@given(st.lists(st.tuples(st.integers(11, 90), st.lists(st.integers(-100, 100), min_size=5, max_size=5)), min_size=2))
def test_a_gain_for_each_segment_comes_to_one_finer_step_that_can_be_undone(
    segments: list[tuple[int, list[int]]],
) -> None:
    """As monitors do that change their amplification: the file's integers can be computed back from the stream."""
    pieces = [
        Piece(first=5 * i, raw=np.array(raw, np.int32), nv_per_step=Fraction(1_000_000, gain))
        for i, (gain, raw) in enumerate(segments)
    ]
    whole = RawLead(
        found="II", rate=Fraction(125), length=5 * len(segments), pieces=pieces,
        invalid=np.zeros(5 * len(segments), np.uint8),
    )  # fmt: skip
    (strip,), _ = made(whole)
    for piece in pieces:
        steps = strip.samples[0, piece.first : piece.first + 5].astype(int)
        back = [round(Fraction(int(step) * strip.lsb_nv) / piece.nv_per_step) for step in steps]
        assert back == piece.raw.tolist()


def test_leads_that_share_no_step_and_use_all_bits_are_streams_of_their_own() -> None:
    loud = [-32_000, 32_000] * 10
    strips, codes = made(lead("I", loud, 5000), lead("V1", loud, 3333))
    assert [(s.names, s.lsb_nv) for s in strips] == [(("I",), 5000), (("V1",), 3333)]
    assert NoticeCode.SPLIT in codes


def test_what_does_not_fit_is_refused_with_a_reason() -> None:
    with pytest.raises(SourceError) as raised:
        made(lead("I", [0, 40_000], 5000))
    assert raised.value.code is SourceErrorCode.SCALE_LOSSY


@pytest.mark.parametrize(("rate", "nv"), [(0, 2500), (20_000, 2500), (500, 0), (500, 10**12)])
def test_rates_and_scales_out_of_reach_are_refused(rate: int, nv: int) -> None:
    with pytest.raises(SourceError) as raised:
        made(lead("I", [0, 1], nv, rate=rate))
    assert raised.value.code in (SourceErrorCode.RATE, SourceErrorCode.SCALE_UNKNOWN)


def test_a_constant_offset_goes_by_whole_steps_and_its_rest_is_kept() -> None:
    strips, codes = made(lead("II", [0, 1, 2] * 9, 1000, offset=2400))
    assert strips[0].samples[0, :3].tolist() == [2, 3, 4]
    assert strips[0].leads[0].offset_nv == 400
    assert NoticeCode.OFFSET_REMOVED in codes


def test_extra_leads_go_behind_the_twelve_in_one_order_and_more_than_sixteen_are_two_streams() -> None:
    """[W31] [WF2]"""
    rng = np.random.default_rng(1)
    twelve = ["V6", "V5", "V4", "V3", "V2", "V1", "AVF", "AVL", "AVR", "III", "II", "I"]
    extra = ["V4R", "V3R", "V9", "V8", "V7", "vx"]
    leads = [lead(name, rng.integers(-100, 100, 50)) for name in (*extra, *twelve)]
    strips, codes = made(*leads[2:])
    assert strips[0].names == (
        "I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6", "V7", "V8", "V9", "vx",
    )  # fmt: skip
    strips, codes = made(*leads)
    assert [len(s.names) for s in strips] == [12, 6]
    assert strips[1].names == ("V7", "V8", "V9", "V3R", "V4R", "vx")
    assert NoticeCode.SPLIT in codes


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ("AVR", "aVR"), ("avf", "aVF"), ("MLII", "MLII"), ("ML2", "MLII"), ("ECG II", "II"), ("EKG-V5", "V5"),
        ("Lead I (Einthoven)", "I"), ("MDC_ECG_ELEC_POTL_V3R", "V3R"), ("MDC_ECG_LEAD_AVL", "aVL"),
        ("2:61", "III"), ("5.6.3-9-11", "V3R"), ("MDC:131389", "III"), ("MDC:131329", "I"), ("X", "vx"),
        ("DII", "II"), ("C3", "V3"), ("V2-REF", "V2"), ("lead V9", "V9"), ("Wunderlich electrode", "Wunderli"),
        ("", ""), ("\x00\x07", ""),
    ],
)  # fmt: skip
def test_lead_names_come_to_one_spelling_and_never_to_another_lead(found: str, name: str) -> None:
    assert standard_name(found) == name


@given(st.lists(st.text(max_size=12), max_size=20))
def test_every_channel_gets_a_name_of_its_own_that_fits_the_wire(names: list[str]) -> None:
    result = unique(standard_name(name) for name in names)
    assert len(set(result)) == len(names)
    assert all(1 <= len(name) <= 8 for name in result)
    assert sorted(wire_order(result)) == list(range(len(names)))


class TestChecks:
    """Traps of real files."""

    def test_a_flat_lead_is_no_contact_and_never_signal(self) -> None:
        """[W6] Lead-off written as 0."""
        rng = np.random.default_rng(3)
        strips, codes = made(lead("I", [0] * 3000), lead("II", rng.integers(-200, 200, 3000)))
        assert (strips[0].invalid[0] == InvalidReason.LEAD_OFF).all()
        assert not strips[0].invalid[1].any()
        assert NoticeCode.FLAT in codes
        block = next(strips[0].blocks(50))
        assert block.lead_off_mask == 1

    def test_a_flat_stretch_is_marked_where_it_is(self) -> None:
        rng = np.random.default_rng(3)
        values = rng.integers(-200, 200, 6000)
        values[2000:3500] = 0
        strips, _ = made(lead("II", values))
        off = np.flatnonzero(strips[0].invalid[0])
        assert 1500 <= len(off) <= 1504
        assert 1998 <= off[0] <= 2000

    def test_a_limb_lead_of_thirty_millivolts_is_told(self) -> None:
        """An EDF that states 30.5 uV for steps of 5 uV."""
        rng = np.random.default_rng(3)
        beat = np.round(200 * np.sin(np.arange(2000) / 20) + rng.normal(0, 3, 2000))
        _, good = made(lead("II", beat, 5000))
        _, wrong = made(lead("II", beat, 30_500))
        assert NoticeCode.LIMB_AMPLITUDE not in good
        assert NoticeCode.LIMB_AMPLITUDE in wrong

    def test_limb_leads_that_contradict_each_other_are_told(self) -> None:
        """[W7]"""
        rng = np.random.default_rng(5)
        one, two = rng.integers(-200, 200, (2, 1000))
        _, good = made(lead("I", one), lead("II", two), lead("III", two - one))
        _, swapped = made(lead("I", one), lead("II", two), lead("III", one - two))
        assert NoticeCode.LIMB_MISMATCH not in good
        assert NoticeCode.LIMB_MISMATCH in swapped

    def test_a_limb_lead_swing_within_reason_is_silent_on_a_chest_lead(self) -> None:
        _, codes = made(lead("V2", [-1500, 1500] * 100, 2500))
        assert NoticeCode.LIMB_AMPLITUDE not in codes


@pytest.mark.parametrize("text", ["1e999999999", "nan", "inf", "1/3", "0x10", "", "1" * 40, "１２", "--1", "1e+"])
def test_numbers_that_would_take_hours_or_are_none_are_refused(text: str) -> None:
    with pytest.raises(SourceError):
        exact(text)


def test_blocks_leave_out_what_no_lead_has_and_say_how_much() -> None:
    """[W1] [W2] A stretch without any sample is a hole between blocks, in one lead it is an invalid run."""
    one = lead("I", range(100))
    two = lead("II", range(100))
    one.invalid[20:40] = InvalidReason.MISSING
    two.invalid[30:50] = InvalidReason.MISSING
    strips, _ = made(one, two)
    blocks = list(strips[0].blocks(25))
    assert [(b.skipped, b.samples.shape[1], b.captured_us) for b in blocks] == [
        (0, 25, 0), (0, 5, 50_000), (10, 25, 80_000), (0, 25, 130_000), (0, 10, 180_000),
    ]  # fmt: skip
    assert [(r.lead, r.first, r.count) for r in blocks[0].invalid_runs] == [(0, 20, 5)]
    assert [(r.lead, r.first, r.count) for r in blocks[2].invalid_runs] == [(1, 0, 10)]
