"""Laws of the consult, whatever people do."""

from __future__ import annotations

import contextlib
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.core import policy
from signaling.core.binding import names
from signaling.core.consult import RevisionGap, apply, handle
from signaling.core.errors import Refusal
from signaling.core.messages import AnyEvent, TakeLead
from signaling.core.model import Consult, ConsultStatus, Role
from tests.signaling_world import BY_ID, PEOPLE, Asked, Step, commands, empty, endings, events_of, run, scripts


@given(scripts, scripts, endings)
def test_snapshot_plus_later_events_is_the_present(before: list[Step], after: list[Step], ending: list[Step]) -> None:
    """[CO4] A late joiner converges, even when stale events trail in."""
    snapshot, early = run(empty(), before)
    present, late = run(snapshot, [*after, *ending])
    assert reduce(apply, late + early, snapshot) == present
    assert reduce(apply, early + late, empty()) == present


@given(scripts, endings)
def test_revisions_count_every_event(script: list[Step], ending: list[Step]) -> None:
    """[CO3]"""
    present, events = run(empty(), [*script, *ending])
    assert [event.revision for event in events] == list(range(1, len(events) + 1))
    assert present.revision == len(events)


@given(scripts, st.data())
def test_a_hole_is_never_folded_over(script: list[Step], data: st.DataObject) -> None:
    """[CO4] A missing event is noticed at the next one."""
    _, events = run(empty(), script)
    if len(events) < 2:
        return
    missing = data.draw(st.integers(0, len(events) - 2))
    with pytest.raises(RevisionGap):
        reduce(apply, events[:missing] + events[missing + 1 :], empty())


@given(scripts, st.sampled_from(PEOPLE), commands)
def test_only_refusals_are_raised(script: list[Step], actor: object, command: object) -> None:
    """[CO5] Also when the caller knows nothing about patients or media."""
    state, _ = run(empty(), script)
    untouched = state.model_copy(deep=True)
    with contextlib.suppress(Refusal):
        handle(state, actor, command, 0)  # type: ignore[arg-type] # drawn from the right types
    assert state == untouched


@given(scripts, endings)
def test_the_state_stays_in_order(script: list[Step], ending: list[Step]) -> None:
    """[CX2] [LE3] [ME7] [CO8] [BI1] [BI3] [BI5] [EC1] [AN1] after every single event."""
    state = empty()
    _, events = run(state, [*script, *ending])
    versions_opened: list[int] = []
    for event in events:
        before, state = state, apply(state, event)
        _check_people(state)
        _check_media(state)
        _check_trace(state)
        assert state.context_version >= before.context_version
        assert (state.context != before.context) == (state.context_version != before.context_version)
        if event.type == "context_opened":
            versions_opened.append(event.context.version)
        _check_anchors(before, state, event)
        _check_marks(state)
    assert versions_opened == sorted(set(versions_opened))


def _check_marks(state: Consult) -> None:
    """[SH2] [IC1] Nothing that was drawn for another patient or on another page is there to be painted (W24)."""
    version = state.context.version if state.context is not None else None
    for mark in (*state.highlights.values(), *([state.page_freeze] if state.page_freeze else ())):
        assert (mark.context_version, mark.view) == (version, state.view)
        assert mark.by in state.participants
    check = state.identity_check
    assert (check is None) == (state.context is None)
    if check is not None and state.context is not None:
        assert (check.patient, check.context_version) == (state.context.patient.id, version)


def _check_anchors(before: Consult, state: Consult, event: AnyEvent) -> None:
    """[AN1]-[AN6] What is open beside the patient is the patient's, and nothing closed becomes current again (H27)."""
    if state.context is None:
        assert (state.anchors, state.opens, state.current, state.content) == ({}, {}, None, None)
    else:
        assert state.opens.keys() == {"Patient", *state.anchors}
        assert state.current is None or state.current in state.opens
    if event.type in ("context_closed", "anchor_closed", "consult_ended"):
        assert state.current in (None, before.current)
    if (before.anchors, before.current) != (state.anchors, state.current):
        assert state.context_version == before.context_version + 1
        assert state.context_changed_at_ms == event.at_ms
    report = state.anchors.get("DiagnosticReport")
    assert (state.content is None) == (report is None)
    if state.content is not None and report is not None and state.context is not None:
        assert state.content.report == report.id
        assert set(state.content.selected) <= state.content.resources.keys()
        patients = {one["subject"]["reference"] for one in state.content.resources.values()}
        assert patients <= {f"Patient/{state.context.patient.id}"}
    if event.type in ("anchor_opened", "anchor_closed", "context_resumed"):
        # The same patient: no device loses its binding, nothing is wiped off the trace.
        assert state.bindings.keys() == before.bindings.keys()
        assert state.ecg_marks.keys() == before.ecg_marks.keys()
        assert state.data_producers == before.data_producers
    if event.type == "content_shared":
        assert before.content is not None
        assert event.prior_version == before.content.version != event.version


def _check_people(state: Consult) -> None:
    assert len(state.participants) <= state.limit
    assert all(p.context_seen <= state.context_version for p in state.participants.values())
    if state.lead is not None:
        assert policy.allows(state.participants[state.lead].role, TakeLead())
    if state.context is not None:
        assert state.context.version == state.context_version
    if state.status is ConsultStatus.ENDED:
        assert (state.participants, state.producers, state.data_producers, state.context) == ({}, {}, {}, None)


def _check_media(state: Consult) -> None:
    sources = [*state.producers.values(), *state.data_producers.values()]
    assert {source.participant for source in sources} <= state.participants.keys()
    for source in state.data_producers.values():
        described = source.waveform or source.vitals
        assert described is not None
        assert BY_ID[described.patient].test or not described.simulated
        if source.participant == "monitor":
            assert described.simulated
        # (W20) Nothing of a patient flows without a binding of its device to that patient, who is open.
        assert state.bindings[source.participant].patient == described.patient


def _check_trace(state: Consult) -> None:
    """What belongs to a context is there only while it is open (W19, W24), and of devices only while they are here."""
    of_context = [
        *state.bindings.values(),
        *state.mismatches.values(),
        *state.ecg_marks.values(),
        *state.ecg_snapshots.values(),
        *state.ecg_states.values(),
        *([state.ecg_freeze] if state.ecg_freeze else []),
    ]
    versions = {entry.context_version for entry in of_context}
    assert versions <= ({state.context.version} if state.context else set())
    for device, binding in state.bindings.items():
        assert state.participants[device].role is Role.DEVICE
        assert state.context is not None
        assert binding.patient == state.context.patient.id
        assert binding.identifiers == state.context.patient.identifiers
        assert not (state.participants[device].simulated and not state.context.patient.test)
        assert device not in state.mismatches
        assert device not in state.reported or names(binding.identifiers, state.reported[device])
    assert {*state.reported, *state.mismatches, *state.ecg_states} <= state.participants.keys()


@given(scripts, endings)
def test_state_and_events_survive_storage(script: list[Step], ending: list[Step]) -> None:
    """[CO6] What is stored as JSON is what was decided."""
    from signaling.core.messages import EVENTS

    present, events = run(empty(), [*script, *ending])
    assert Consult.model_validate_json(present.model_dump_json()) == present
    assert [EVENTS.validate_json(event.model_dump_json()) for event in events] == events


@given(scripts, st.sampled_from(PEOPLE), commands)
def test_nothing_happens_outside_the_table(script: list[Step], actor: object, command: object) -> None:
    """A command that the table does not give to the role never makes an event."""
    state, _ = run(empty(), script)
    asked = Asked(actor, command)  # type: ignore[arg-type] # drawn from the right types
    if not policy.allows(asked.actor.role, asked.command):
        assert events_of(state, asked, 0) == []
