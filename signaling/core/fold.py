"""State + event -> state: the one meaning of every event.

The browser folds the same events with ``web_client/src/store/apply.ts``; golden
vectors in ``tests/vectors/signaling`` hold the two together. Deciding which
events happen is ``consult.py``.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from signaling.core.content import fold_content
from signaling.core.ids import ParticipantId
from signaling.core.messages import (
    AnchorClosed,
    AnchorOpened,
    AnyEvent,
    ConnectionChanged,
    ConsultEnded,
    ContentSelected,
    ContentShared,
    ContextClosed,
    ContextConfirmed,
    ContextOpened,
    ContextResumed,
    DataProducerAdded,
    DataProducerClosed,
    DeviceBound,
    DeviceMismatch,
    DeviceReported,
    DeviceUnbound,
    EcgFrozen,
    EcgMarkPut,
    EcgMarkRemoved,
    EcgReleased,
    EcgSnapshotFailed,
    EcgSnapshotTaken,
    EcgStateReported,
    HighlightCleared,
    Highlighted,
    IdentityCheckSkipped,
    IdentityTicked,
    LeadChanged,
    MediaReset,
    NoteMarkedInError,
    NotePut,
    PageFrozen,
    PageReleased,
    PageTurned,
    ParticipantJoined,
    ParticipantLeft,
    ProducerAdded,
    ProducerChanged,
    ProducerClosed,
    ProgramInStep,
    ProgramOutOfStep,
    ProgramSaid,
    WrongPatientReported,
)
from signaling.core.model import (
    AnchorType,
    Connection,
    Consult,
    ConsultStatus,
    ContextType,
    IdentityCheck,
    Opened,
    SharedContent,
    View,
)

Changes = dict[str, Any]

_NO_TRACE: Changes = {
    "bindings": {},
    "mismatches": {},
    "ecg_freeze": None,
    "ecg_marks": {},
    "ecg_snapshots": {},
    "ecg_states": {},
}
"""What was bound to, drawn on or said of the former patient's trace ends with the context. [EC1] (W24)"""
_NO_ANCHOR: Changes = {"anchors": {}, "current": None, "opens": {}, "content": None}
"""What was open beside the former patient goes with the patient. [AN1] (H27)"""
_NO_MARKS: Changes = {"highlights": {}, "page_freeze": None}
"""What was drawn on a page goes with the page. [SH2]"""
K = TypeVar("K")
V = TypeVar("V")


class RevisionGap(Exception):
    """The event does not follow the state: one in between is missing. [CO4]"""


def apply(state: Consult, event: AnyEvent) -> Consult:
    """The state after ``event``; an event the state already contains changes nothing. [CO3]

    Raises:
        RevisionGap: the event's revision is not the next one.
    """
    if event.revision <= state.revision:
        return state
    if event.revision != state.revision + 1:
        raise RevisionGap(f"revision {event.revision} does not follow {state.revision}")
    changes = _FOLDS[type(event)](state, event)
    return state.model_copy(update={**changes, "revision": event.revision})


def _participant_joined(state: Consult, event: ParticipantJoined) -> Changes:
    return {"participants": {**state.participants, event.participant.id: event.participant}}


def _participant_left(state: Consult, event: ParticipantLeft) -> Changes:
    gone = event.participant
    return {
        "participants": _without(state.participants, gone),
        "producers": {i: p for i, p in state.producers.items() if p.participant != gone},
        "data_producers": {i: p for i, p in state.data_producers.items() if p.participant != gone},
        "lead": None if state.lead == gone else state.lead,
        "bindings": _without(state.bindings, gone),
        "reported": _without(state.reported, gone),
        "mismatches": _without(state.mismatches, gone),
        "ecg_states": _without(state.ecg_states, gone),
        "highlights": _without(state.highlights, gone),
        "page_freeze": None if state.page_freeze and state.page_freeze.by == gone else state.page_freeze,
    }


def _connection_changed(state: Consult, event: ConnectionChanged) -> Changes:
    changes: Changes = {"connection": event.connection}
    if event.connection is Connection.RECONNECTING:
        # Nobody can vouch for what a display without a connection shows (W19).
        changes["context_seen"] = 0
    return _patch_participant(state, event.participant, changes)


def _context_opened(state: Consult, event: ContextOpened) -> Changes:
    return {
        "context": event.context,
        "context_version": event.context.version,
        "context_changed_at_ms": event.at_ms,
        "view": View(),
        **_NO_ANCHOR,
        "current": "Patient",
        "opens": _opens(state, {}, "Patient", event),
        **_NO_MARKS,
        "identity_check": IdentityCheck(patient=event.context.patient.id, context_version=event.context.version),
        **_NO_TRACE,
        **_no_feed(state),
    }


def _context_closed(state: Consult, event: ContextClosed) -> Changes:
    return {
        "context": None,
        "context_version": state.context_version + 1,
        "context_changed_at_ms": event.at_ms,
        "view": View(),
        **_NO_ANCHOR,
        **_NO_MARKS,
        "identity_check": None,
        **_NO_TRACE,
        **_no_feed(state),
    }


def _context_resumed(state: Consult, event: ContextResumed) -> Changes:
    carried = {} if event.version == state.context_version else _carried(state, event.version)
    return {
        **carried,
        "context_changed_at_ms": event.at_ms,
        "current": event.current,
        "opens": _opens(state, state.opens, event.current, event),
    }


def _anchor_opened(state: Consult, event: AnchorOpened) -> Changes:
    """[AN2] A report that is opened begins with nothing shared under it. (H25)"""
    anchor = event.anchor
    changes = {
        **_carried(state, event.version),
        "context_changed_at_ms": event.at_ms,
        "anchors": {**state.anchors, anchor.resource_type.value: anchor},
        "current": anchor.resource_type.value,
        "opens": _opens(state, state.opens, anchor.resource_type.value, event),
    }
    if anchor.resource_type is AnchorType.DIAGNOSTIC_REPORT:
        changes["content"] = SharedContent(report=anchor.id, version=str(event.version))
    return changes


def _anchor_closed(state: Consult, event: AnchorClosed) -> Changes:
    """Nothing that was open before becomes current again. [AN3] (H27)"""
    closed = event.resource_type.value
    return {
        **_carried(state, event.version),
        "context_changed_at_ms": event.at_ms,
        "anchors": _without(state.anchors, closed),
        "current": None if state.current == closed else state.current,
        "opens": _without(state.opens, closed),
        "content": None if event.resource_type is AnchorType.DIAGNOSTIC_REPORT else state.content,
    }


def _content_shared(state: Consult, event: ContentShared) -> Changes:
    before = state.content
    if before is None or before.report != event.report:
        return {}
    resources = fold_content(before.resources, event.bundle)
    selected = tuple(one for one in before.selected if one in resources)
    return {
        "content": before.model_copy(update={"version": event.version, "resources": resources, "selected": selected})
    }


def _content_selected(state: Consult, event: ContentSelected) -> Changes:
    if state.content is None or state.content.report != event.report:
        return {}
    return {"content": state.content.model_copy(update={"selected": event.selected})}


def _program_out_of_step(state: Consult, event: ProgramOutOfStep) -> Changes:
    return {"programs": {**state.programs, event.program.id: event.program}}


def _program_in_step(state: Consult, event: ProgramInStep) -> Changes:
    return {"programs": _without(state.programs, event.program)}


def _program_said(state: Consult, event: ProgramSaid) -> Changes:
    return {}


def _context_confirmed(state: Consult, event: ContextConfirmed) -> Changes:
    return _patch_participant(state, event.participant, {"context_seen": event.version})


def _lead_changed(state: Consult, event: LeadChanged) -> Changes:
    return {"lead": event.lead}


def _page_turned(state: Consult, event: PageTurned) -> Changes:
    return {"view": event.view, **_NO_MARKS}


def _producer_added(state: Consult, event: ProducerAdded) -> Changes:
    return {"producers": {**state.producers, event.producer.id: event.producer}}


def _producer_changed(state: Consult, event: ProducerChanged) -> Changes:
    producer = state.producers.get(event.producer)
    if producer is None:
        return {}
    changed = producer.model_copy(update={"paused": event.paused})
    return {"producers": {**state.producers, event.producer: changed}}


def _producer_closed(state: Consult, event: ProducerClosed) -> Changes:
    return {"producers": _without(state.producers, event.producer)}


def _data_producer_added(state: Consult, event: DataProducerAdded) -> Changes:
    return {"data_producers": {**state.data_producers, event.data_producer.id: event.data_producer}}


def _data_producer_closed(state: Consult, event: DataProducerClosed) -> Changes:
    return {"data_producers": _without(state.data_producers, event.data_producer)}


def _device_bound(state: Consult, event: DeviceBound) -> Changes:
    device = event.binding.device
    return {
        "bindings": {**state.bindings, device: event.binding},
        "mismatches": _without(state.mismatches, device),
    }


def _device_unbound(state: Consult, event: DeviceUnbound) -> Changes:
    """No binding, no feed: both go with the one event. [BI3]"""
    return {
        "bindings": _without(state.bindings, event.device),
        "data_producers": {i: p for i, p in state.data_producers.items() if i not in event.closed},
    }


def _device_reported(state: Consult, event: DeviceReported) -> Changes:
    reported = _without(state.reported, event.device)
    return {"reported": {**reported, event.device: event.reported} if event.reported else reported}


def _device_mismatch(state: Consult, event: DeviceMismatch) -> Changes:
    return {"mismatches": {**state.mismatches, event.mismatch.device: event.mismatch}}


def _ecg_frozen(state: Consult, event: EcgFrozen) -> Changes:
    return {"ecg_freeze": event.freeze}


def _ecg_released(state: Consult, event: EcgReleased) -> Changes:
    return {"ecg_freeze": None}


def _ecg_mark_put(state: Consult, event: EcgMarkPut) -> Changes:
    return {"ecg_marks": {**state.ecg_marks, event.mark.id: event.mark}}


def _ecg_mark_removed(state: Consult, event: EcgMarkRemoved) -> Changes:
    return {"ecg_marks": _without(state.ecg_marks, event.id)}


def _ecg_snapshot_taken(state: Consult, event: EcgSnapshotTaken) -> Changes:
    """A strip of a former context is in the record, and not on anybody's screen. [EC1]"""
    snapshot = event.snapshot
    if state.context is None or state.context.version != snapshot.context_version:
        return {}
    return {"ecg_snapshots": {**state.ecg_snapshots, snapshot.id: snapshot}}


def _ecg_snapshot_failed(state: Consult, event: EcgSnapshotFailed) -> Changes:
    return {}


def _ecg_state_reported(state: Consult, event: EcgStateReported) -> Changes:
    return {"ecg_states": {**state.ecg_states, event.report.participant: event.report}}


def _highlighted(state: Consult, event: Highlighted) -> Changes:
    return {"highlights": {**state.highlights, event.highlight.by: event.highlight}}


def _highlight_cleared(state: Consult, event: HighlightCleared) -> Changes:
    return {"highlights": _without(state.highlights, event.by)}


def _page_frozen(state: Consult, event: PageFrozen) -> Changes:
    return {"page_freeze": event.freeze}


def _page_released(state: Consult, event: PageReleased) -> Changes:
    return {"page_freeze": None}


def _note_put(state: Consult, event: NotePut) -> Changes:
    """The record has it. [SH4]"""
    return {}


def _note_marked_in_error(state: Consult, event: NoteMarkedInError) -> Changes:
    return {}


def _identity_ticked(state: Consult, event: IdentityTicked) -> Changes:
    return _patch_check(state, {event.side: event.tick})


def _identity_check_skipped(state: Consult, event: IdentityCheckSkipped) -> Changes:
    return _patch_check(state, {"skipped": event.skip})


def _wrong_patient_reported(state: Consult, event: WrongPatientReported) -> Changes:
    return {}


def _patch_check(state: Consult, changes: Changes) -> Changes:
    check = state.identity_check
    return {} if check is None else {"identity_check": check.model_copy(update=changes)}


def _media_reset(state: Consult, event: MediaReset) -> Changes:
    return {"media_epoch": event.media_epoch, "producers": {}, "data_producers": {}}


def _consult_ended(state: Consult, event: ConsultEnded) -> Changes:
    """Cameras, feeds and bindings end with the consult (W21)."""
    return {
        "status": ConsultStatus.ENDED,
        "participants": {},
        "producers": {},
        "data_producers": {},
        "lead": None,
        "context": None,
        "context_version": state.context_version + (state.context is not None),
        "context_changed_at_ms": event.at_ms if state.context is not None else state.context_changed_at_ms,
        **_NO_ANCHOR,
        "programs": {},
        "view": View(),
        **_NO_MARKS,
        "identity_check": None,
        **_NO_TRACE,
        "reported": {},
    }


def _opens(
    state: Consult,
    before: Mapping[str, Opened],
    of: ContextType,
    event: ContextOpened | ContextResumed | AnchorOpened,
) -> dict[str, Opened]:
    return {**before, of: Opened(revision=event.revision, at_ms=event.at_ms, request=event.request)}


def _carried(state: Consult, version: int) -> Changes:
    """The same patient under another version: a device stays bound, marks and strips stay with the trace. [AN2]

    The identity check stays too. A frozen trace runs again and every viewer says anew what its trace is: their samples
    are of the former version.
    """
    if state.context is None:
        return {}
    update = {"context_version": version}
    return {
        "context": state.context.model_copy(update={"version": version}),
        "context_version": version,
        "bindings": {i: one.model_copy(update=update) for i, one in state.bindings.items()},
        "mismatches": {i: one.model_copy(update=update) for i, one in state.mismatches.items()},
        "ecg_marks": {i: one.model_copy(update=update) for i, one in state.ecg_marks.items()},
        "ecg_snapshots": {i: one.model_copy(update=update) for i, one in state.ecg_snapshots.items()},
        "ecg_freeze": None,
        "ecg_states": {},
        **_NO_MARKS,
        "identity_check": state.identity_check and state.identity_check.model_copy(update=update),
    }


def _no_feed(state: Consult) -> Changes:
    """A device sends under one context only. [BI5] (W19, W20)"""
    return {"data_producers": {i: p for i, p in state.data_producers.items() if not (p.waveform or p.vitals)}}


def _patch_participant(state: Consult, who: ParticipantId, changes: Changes) -> Changes:
    participant = state.participants.get(who)
    if participant is None:
        return {}
    return {"participants": {**state.participants, who: participant.model_copy(update=changes)}}


def _without(entries: Mapping[K, V], gone: K) -> dict[K, V]:
    return {key: value for key, value in entries.items() if key != gone}


_FOLDS: dict[type, Callable[[Consult, Any], Changes]] = {
    ParticipantJoined: _participant_joined,
    ParticipantLeft: _participant_left,
    ConnectionChanged: _connection_changed,
    ContextOpened: _context_opened,
    ContextClosed: _context_closed,
    ContextResumed: _context_resumed,
    AnchorOpened: _anchor_opened,
    AnchorClosed: _anchor_closed,
    ContentShared: _content_shared,
    ContentSelected: _content_selected,
    ProgramOutOfStep: _program_out_of_step,
    ProgramInStep: _program_in_step,
    ProgramSaid: _program_said,
    ContextConfirmed: _context_confirmed,
    LeadChanged: _lead_changed,
    PageTurned: _page_turned,
    ProducerAdded: _producer_added,
    ProducerChanged: _producer_changed,
    ProducerClosed: _producer_closed,
    DataProducerAdded: _data_producer_added,
    DataProducerClosed: _data_producer_closed,
    DeviceBound: _device_bound,
    DeviceUnbound: _device_unbound,
    DeviceReported: _device_reported,
    DeviceMismatch: _device_mismatch,
    EcgFrozen: _ecg_frozen,
    EcgReleased: _ecg_released,
    EcgMarkPut: _ecg_mark_put,
    EcgMarkRemoved: _ecg_mark_removed,
    EcgSnapshotTaken: _ecg_snapshot_taken,
    EcgSnapshotFailed: _ecg_snapshot_failed,
    EcgStateReported: _ecg_state_reported,
    Highlighted: _highlighted,
    HighlightCleared: _highlight_cleared,
    PageFrozen: _page_frozen,
    PageReleased: _page_released,
    NotePut: _note_put,
    NoteMarkedInError: _note_marked_in_error,
    IdentityTicked: _identity_ticked,
    IdentityCheckSkipped: _identity_check_skipped,
    WrongPatientReported: _wrong_patient_reported,
    MediaReset: _media_reset,
    ConsultEnded: _consult_ended,
}
"""A test checks that no event class is missing."""
