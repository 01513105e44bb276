"""Freeze, marks, pointer, strips and states of a trace."""

from __future__ import annotations

from functools import reduce

import pytest
from pydantic import ValidationError

from signaling.core import ecg
from signaling.core import messages as m
from signaling.core.admission import Admission
from signaling.core.case import Case
from signaling.core.consult import Known, apply, handle
from signaling.core.ecg import MAX_MARKS, MAX_SNAPSHOTS
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.model import Consult, EcgMarkDraft, EcgSettings, EcgState, Role
from signaling.core.signals import key_of, signal_of
from tests.signaling_kit import PATIENTS, admission, consult
from tests.signaling_world import strip

DOC, GUEST, WALL = admission("doc"), admission("guest", Role.GUEST), admission("wall", Role.SCREEN)
P1, P2, _ = PATIENTS
NOW_MS = 1_000_000
AT_US = 999_000_000
NOTHING = Known()
SETTINGS = EcgSettings(
    speed=25, gain=10, layout="3x4+1", order="standard", filter="off", calibration="", software="0.4.0"
)


def do(state: Consult, actor: Admission, command: m.AnyCommand, known: Known = NOTHING) -> Consult:
    return reduce(apply, handle(state, actor, command, NOW_MS, known), state)


def refused(state: Consult, actor: Admission, command: m.AnyCommand) -> ErrorCode:
    with pytest.raises(Refusal) as refusal:
        handle(state, actor, command, NOW_MS)
    return refusal.value.code


@pytest.fixture
def opened() -> Consult:
    state = consult()
    for person in (DOC, GUEST, WALL):
        state = do(state, person, m.Join())
    return do(state, DOC, m.OpenContext(patient=P1.id), Known(patient=P1))


def freeze(at_us: int = AT_US, version: int = 1) -> m.FreezeEcg:
    return m.FreezeEcg(stream_id=7, context_version=version, at_us=at_us)


def mark(name: str = "m1", version: int = 1, from_us: int = AT_US, **more: object) -> m.PutEcgMark:
    fields = {"kind": "marker", "lead": "II", "from_uv": -120, **more}
    draft = {"id": name, "stream_id": 7, "context_version": version, "from_us": from_us, **fields}
    return m.PutEcgMark(mark=EcgMarkDraft.model_validate(draft))


def order(at_us: int = AT_US, version: int = 1) -> m.TakeEcgSnapshot:
    return m.TakeEcgSnapshot(
        stream_id=7, context_version=version, at_us=at_us, settings=SETTINGS, age_ms=120, state=EcgState.LIVE
    )


def state_of(state: EcgState, stream: int = 7) -> m.ReportEcgState:
    return m.ReportEcgState(stream_id=stream, context_version=1, state=state, age_ms=80)


def test_everyone_freezes_at_the_same_sample(opened: Consult) -> None:
    """[EC2] The newest counts, the same again is no event, anyone may release."""
    frozen = do(opened, DOC, freeze())
    assert frozen.ecg_freeze is not None
    assert (frozen.ecg_freeze.at_us, frozen.ecg_freeze.by) == (AT_US, "doc")
    assert handle(frozen, GUEST, freeze(), NOW_MS) == []
    elsewhere = do(frozen, GUEST, freeze(AT_US - 1))
    assert elsewhere.ecg_freeze is not None
    assert elsewhere.ecg_freeze.by == "guest"
    released = do(elsewhere, DOC, m.ReleaseEcg())
    assert released.ecg_freeze is None
    assert handle(released, DOC, m.ReleaseEcg(), NOW_MS) == []


def test_a_mark_is_its_authors_to_move_and_anyones_to_remove(opened: Consult) -> None:
    """[EC3]"""
    state = do(opened, DOC, mark())
    assert handle(state, DOC, mark(), NOW_MS) == []
    assert refused(state, GUEST, mark(from_us=AT_US - 5)) is ErrorCode.CONFLICT
    moved = do(state, DOC, mark(from_us=AT_US - 5))
    assert moved.ecg_marks["m1"].from_us == AT_US - 5
    removed = handle(moved, GUEST, m.RemoveEcgMark(id="m1"), NOW_MS)
    assert [(event.type, getattr(event, "by", None)) for event in removed] == [("ecg_mark_removed", "guest")]
    assert handle(opened, GUEST, m.RemoveEcgMark(id="m1"), NOW_MS) == []


@pytest.mark.parametrize("kind", ["caliper", "qt"])
def test_what_measures_has_two_ends(kind: str) -> None:
    """[EC3] (W32)"""
    with pytest.raises(ValidationError):
        mark(kind=kind)
    with pytest.raises(ValidationError):
        mark(kind=kind, to_us=AT_US)
    assert mark(kind=kind, to_us=AT_US + 400_000, to_uv=10).mark.to_us == AT_US + 400_000


def test_there_are_so_many_marks_and_no_more(opened: Consult) -> None:
    """[EC3] One's own may still be moved."""
    state = opened
    for number in range(MAX_MARKS):
        state = do(state, DOC, mark(f"m{number}"))
    assert refused(state, DOC, mark("one-more")) is ErrorCode.TOO_BUSY
    assert do(state, DOC, mark("m0", from_us=1)).ecg_marks["m0"].from_us == 1


@pytest.mark.parametrize(
    "command",
    [
        freeze(version=2),
        mark(version=2),
        order(version=2),
        m.PointEcg(stream_id=7, context_version=2, lead="II", at_us=1, uv=0),
        m.ReportEcgState(stream_id=7, context_version=2, state=EcgState.LIVE),
    ],
)
def test_everything_names_the_open_context(opened: Consult, command: m.AnyCommand) -> None:
    """[EC1] [CX4] (H21) A click that was late is not made on another patient's trace."""
    assert refused(opened, DOC, command) is ErrorCode.CONTEXT_CHANGED


@pytest.mark.parametrize("command", [freeze(NOW_MS * 1000 + 10_000_001), mark(from_us=2**53 - 1), order(2**53 - 1)])
def test_nothing_is_placed_in_the_future(opened: Consult, command: m.AnyCommand) -> None:
    """[EC1]"""
    assert refused(opened, DOC, command) is ErrorCode.MALFORMED


@pytest.mark.parametrize("command", [m.OpenContext(patient=P2.id), m.CloseContext()])
def test_all_of_it_goes_with_the_patient(opened: Consult, command: m.AnyCommand) -> None:
    """[EC1] (W24)"""
    state = do(do(do(opened, DOC, freeze()), DOC, mark()), WALL, state_of(EcgState.STALE))
    state = reduce(apply, ecg.snapshot_taken(state, strip(1, 1), NOW_MS), state)
    assert state.ecg_freeze
    assert state.ecg_marks
    assert state.ecg_snapshots
    assert state.ecg_states
    after = do(state, DOC, command, Known(patient=P2))
    assert (after.ecg_freeze, after.ecg_marks, after.ecg_snapshots, after.ecg_states) == (None, {}, {}, {})


def test_a_pointer_is_a_signal_and_no_event(opened: Consult) -> None:
    """[EC4] One that waits is replaced by a newer one of the same person, not by another's."""
    command = m.PointEcg(stream_id=7, context_version=1, lead="V2", at_us=AT_US, uv=-40)
    assert handle(opened, GUEST, command, NOW_MS) == []
    signal = signal_of(GUEST, command)
    assert isinstance(signal, m.EcgPointed)
    assert (signal.by, signal.lead, signal.at_us, signal.uv, signal.visible) == ("guest", "V2", AT_US, -40, True)
    assert key_of(signal) != key_of(signal_of(DOC, command))


def test_an_order_carries_who_what_and_how_it_looked(opened: Consult) -> None:
    """[EC5] (W33, W45)"""
    assert handle(opened, DOC, order(), NOW_MS) == []
    made = ecg.snapshot_order(Case(opened, DOC, NOTHING, NOW_MS), order(), "s1")
    assert (made.patient, made.context_version, made.by, made.at_us) == (P1, 1, "doc", AT_US)
    assert (made.settings, made.age_ms, made.state) == (SETTINGS, 120, EcgState.LIVE)


def test_a_strip_of_a_former_patient_is_told_and_not_shown(opened: Consult) -> None:
    """[EC5] [EC1] (W24) The 10 s after may outlive the context, and the consult."""
    state = do(opened, DOC, m.OpenContext(patient=P2.id), Known(patient=P2))
    events = ecg.snapshot_taken(state, strip(1, 1), NOW_MS)
    assert [event.type for event in events] == ["ecg_snapshot_taken"]
    assert reduce(apply, events, state).ecg_snapshots == {}
    ended = do(state, DOC, m.EndConsult())
    assert ecg.snapshot_taken(ended, strip(1, 1), NOW_MS) == []
    assert ecg.snapshot_failed(ended, "s1", DOC.participant, ErrorCode.INTERNAL, NOW_MS) == []


def test_there_are_so_many_strips_and_no_more(opened: Consult) -> None:
    """[EC5]"""
    state = opened
    for number in range(MAX_SNAPSHOTS):
        state = reduce(apply, ecg.snapshot_taken(state, strip(number, 1), NOW_MS), state)
    assert refused(state, DOC, order()) is ErrorCode.TOO_BUSY


def test_a_state_is_logged_when_it_changes(opened: Consult) -> None:
    """[EC6] (W17)"""
    state = do(opened, WALL, state_of(EcgState.LIVE))
    assert handle(state, WALL, state_of(EcgState.LIVE), NOW_MS) == []
    (event,) = handle(state, WALL, state_of(EcgState.LOST), NOW_MS)
    assert isinstance(event, m.EcgStateReported)
    assert (event.report.participant, event.report.state, event.report.age_ms) == ("wall", EcgState.LOST, 80)
    assert do(state, WALL, m.Leave()).ecg_states == {}
