"""What a command does to a consult: `handle` decides, `apply` (in ``fold.py``) folds.

`handle` is a function of the state, the asker and the command. What it needs
from outside (a patient's banner, the media plane's answer) is looked up by
the caller and handed in as `Known`, so that a decision can be repeated when
another node was faster, and tested without a loop.

A media command passes through `handle` twice: before the media plane is asked
(``known.media is None``: only the checks, no events) and with its answer.

Roles are checked by ``policy.py``, pointer and scroll are ``signals.py``, whose
signals a device sends is ``binding.py``, work on the trace is ``ecg.py``, marks on the
record are ``sharing.py``, the identity check is ``identity.py``, what is open beside
the patient is ``anchor.py``, outside programs are ``programs.py``, and what happens
without anyone asking is ``occurrences.py``.
"""

from collections.abc import Callable
from itertools import count
from typing import Any

from signaling.core import anchor, binding, ecg, identity, policy, programs, sharing
from signaling.core.admission import Admission
from signaling.core.case import Case, Known, require_context
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.fold import RevisionGap, apply
from signaling.core.ids import DataProducerId, ParticipantId, ProducerId
from signaling.core.messages import (
    AnyCommand,
    AnyEvent,
    BindDevice,
    ClearHighlight,
    CloseAnchor,
    CloseContext,
    CloseDataProducer,
    CloseProducer,
    ConfirmContext,
    ConnectionChanged,
    ConsultEnded,
    Consume,
    ConsumeData,
    ContextClosed,
    ContextConfirmed,
    ContextOpened,
    CreateTransport,
    DataProduced,
    DataProducerAdded,
    DataProducerClosed,
    DismissProgram,
    EndConsult,
    FreezeEcg,
    FreezePage,
    HandLead,
    Ink,
    Join,
    LeadChanged,
    Leave,
    MarkNoteInError,
    MediaResult,
    OpenAnchor,
    OpenContext,
    PageTurned,
    ParticipantJoined,
    ParticipantLeft,
    PauseProducer,
    Point,
    PointEcg,
    Produce,
    Produced,
    ProduceData,
    ProducerAdded,
    ProducerChanged,
    ProducerClosed,
    PutEcgMark,
    PutNote,
    ReleaseEcg,
    ReleasePage,
    RemoveEcgMark,
    ReportEcgState,
    ReportPatient,
    ReportWrongPatient,
    ResumeProducer,
    Scroll,
    SelectContent,
    ShareContent,
    ShowHighlight,
    ShowView,
    SkipIdentityCheck,
    TakeEcgSnapshot,
    TakeLead,
    TickIdentity,
    TurnPage,
    UnbindDevice,
)
from signaling.core.model import (
    Connection,
    Consult,
    ConsultStatus,
    Context,
    DataProducerInfo,
    ProducerInfo,
    UnboundReason,
    VitalsStream,
    WaveformStream,
)

__all__ = ["Known", "RevisionGap", "apply", "as_admitted", "closed_sources", "handle", "require_lead"]

MAX_PRODUCERS = 8
"""Audio and video sources of one participant: camera, microphone, screen and its sound, and as many again."""

MAX_DATA_PRODUCERS = 4
"""Waveforms of one participant; its vital signs come on one more."""

NOTHING_KNOWN = Known()


def handle(
    state: Consult, actor: Admission, command: AnyCommand, now_ms: int, known: Known = NOTHING_KNOWN
) -> list[AnyEvent]:
    """Decide what happens. [CO5]

    Returns:
        The events, revisions counting up from the state's; empty when the
        command changes nothing.

    Raises:
        Refusal: the rules do not allow it; nothing happens. Nothing else is ever raised.
    """
    policy.check(actor.role, command)
    command = as_admitted(actor, command)
    _require_presence(state, actor, command)
    rule = _RULES.get(type(command))
    return rule(Case(state, actor, known, now_ms), command) if rule is not None else []


def as_admitted(actor: Admission, command: AnyCommand) -> AnyCommand:
    """The command as the token lets it stand: whatever a simulated participant sends is marked SIMULATED. [ME7] (W9)"""
    if not (isinstance(command, ProduceData) and actor.simulated):
        return command
    marked = {
        name: source.model_copy(update={"simulated": True})
        for name, source in (("waveform", command.waveform), ("vitals", command.vitals))
        if source is not None
    }
    return command.model_copy(update=marked) if marked else command


def require_lead(state: Consult, actor: ParticipantId, context_version: int) -> None:
    """Only the lead moves the others' view, and only of the patient who is open now. [LE1] [CX4]

    Raises:
        Refusal: ``not_lead``, or ``context_changed`` for another context (H21).
    """
    if state.lead != actor:
        raise Refusal(ErrorCode.NOT_LEAD)
    require_context(state, context_version)


def closed_sources(state: Consult, participant: ParticipantId, now_ms: int) -> list[AnyEvent]:
    """Everything a participant sends goes away: its sending Transport is gone. [ME1]"""
    revision = count(state.revision + 1)
    closed: list[AnyEvent] = [
        ProducerClosed(revision=next(revision), at_ms=now_ms, producer=p.id)
        for p in state.producers.values()
        if p.participant == participant
    ]
    closed += [
        DataProducerClosed(revision=next(revision), at_ms=now_ms, data_producer=p.id)
        for p in state.data_producers.values()
        if p.participant == participant
    ]
    return closed


def taken_back(state: Consult, source: str, now_ms: int) -> list[AnyEvent]:
    """The relay has closed a source that was stored: nobody heard of it, or of that. [ME9]"""
    if source in state.producers:
        return [ProducerClosed(revision=state.revision + 1, at_ms=now_ms, producer=ProducerId(source))]
    if source in state.data_producers:
        return [DataProducerClosed(revision=state.revision + 1, at_ms=now_ms, data_producer=DataProducerId(source))]
    return []


def _require_presence(state: Consult, actor: Admission, command: AnyCommand) -> None:
    if state.id != actor.consult:
        raise Refusal(ErrorCode.NOT_FOUND, "admitted to another consult")
    if state.status is ConsultStatus.ENDED and command.type != "sync":
        raise Refusal(ErrorCode.CONSULT_ENDED)
    if command.type not in ("join", "sync") and actor.participant not in state.participants:
        raise Refusal(ErrorCode.NOT_JOINED)


# ---------------------------------------------------------------- presence


def _join(case: Case, _: Join) -> list[AnyEvent]:
    """Enter, or come back as the same participant. [CO1] [CO2] [SE5]"""
    present = case.state.participants.get(case.me)
    if present is None:
        if len(case.state.participants) >= case.state.limit:
            raise Refusal(ErrorCode.CONSULT_FULL)
        return [ParticipantJoined(**case.next(), participant=case.actor.as_participant(case.now_ms))]
    admitted = case.actor.as_participant(present.joined_at_ms)
    if admitted.model_copy(update={"connection": present.connection, "context_seen": present.context_seen}) != present:
        return [ParticipantJoined(**case.next(), participant=admitted)]
    if present.connection is Connection.CONNECTED:
        return []
    return [ConnectionChanged(**case.next(), participant=case.me, connection=Connection.CONNECTED)]


def _leave(case: Case, _: Leave) -> list[AnyEvent]:
    """What the participant was bound as goes first, with its reason. [BI5]"""
    unbound = binding.ending(case.state, case.me, UnboundReason.DEVICE_LEFT, case.now_ms, by=case.me)
    return [*unbound, ParticipantLeft(**_after(case, unbound), participant=case.me)]


def _end_consult(case: Case, _: EndConsult) -> list[AnyEvent]:
    """[CO8] (W21)"""
    unbound = binding.all_ending(case.state, UnboundReason.CONSULT_ENDED, case.now_ms, by=case.me)
    return [*unbound, ConsultEnded(**_after(case, unbound), by=case.me)]


def _after(case: Case, events: list[AnyEvent]) -> dict[str, int]:
    """``revision`` and ``at_ms`` of the event that follows these."""
    return {"revision": case.state.revision + 1 + len(events), "at_ms": case.now_ms}


# ---------------------------------------------------------------- context


def _open_context(case: Case, command: OpenContext) -> list[AnyEvent]:
    """Open one of the consult's own patients, under a version never used before. [CX1] [CX2] (H27, W24)"""
    patient = case.known.patient
    if patient is None or patient.id != command.patient:
        raise Refusal(ErrorCode.NOT_FOUND, "patient is not part of the consult")
    if case.state.context is not None and case.state.context.patient == patient:
        return anchor.resumed(case, "Patient")
    version = case.state.context_version + 1
    context = Context(
        version=version, patient=patient, opened_at_ms=case.now_ms, opened_by=case.me, first_version=version
    )
    unbound = binding.all_ending(case.state, UnboundReason.CONTEXT_CHANGED, case.now_ms, by=case.me)
    return [*unbound, ContextOpened(**_after(case, unbound), context=context, request=case.known.request)]


def _close_context(case: Case, _: CloseContext) -> list[AnyEvent]:
    if case.state.context is None:
        return []
    unbound = binding.all_ending(case.state, UnboundReason.CONTEXT_CHANGED, case.now_ms, by=case.me)
    return [*unbound, ContextClosed(**_after(case, unbound), by=case.me, request=case.known.request)]


def _confirm_context(case: Case, command: ConfirmContext) -> list[AnyEvent]:
    """A confirmation of anything but the open context means nothing. [CX3] (W19, H21)"""
    require_context(case.state, command.version)
    if case.state.participants[case.me].context_seen == command.version:
        return []
    return [ContextConfirmed(**case.next(), participant=case.me, version=command.version)]


# ---------------------------------------------------------------- lead


def _turn_page(case: Case, command: TurnPage) -> list[AnyEvent]:
    require_lead(case.state, case.me, command.context_version)
    if command.view == case.state.view:
        return []
    return anchor.page_turned(case, PageTurned(**case.next(), by=case.me, view=command.view))


def _take_lead(case: Case, _: TakeLead) -> list[AnyEvent]:
    """Whoever may lead may take the lead at any time. [LE2]"""
    if case.state.lead == case.me:
        return []
    return [LeadChanged(**case.next(), lead=case.me)]


def _hand_lead(case: Case, command: HandLead) -> list[AnyEvent]:
    """The lead goes to a present participant whose role may lead. [LE3]"""
    if case.state.lead != case.me:
        raise Refusal(ErrorCode.NOT_LEAD)
    heir = case.state.participants.get(command.to)
    if heir is None:
        raise Refusal(ErrorCode.NOT_FOUND)
    policy.check(heir.role, TakeLead())
    if command.to == case.me:
        return []
    return [LeadChanged(**case.next(), lead=command.to)]


def _follow_me(case: Case, command: Scroll | Point) -> list[AnyEvent]:
    require_lead(case.state, case.me, command.context_version)
    return []


# ---------------------------------------------------------------- media


def _answer(case: Case) -> MediaResult | None:
    """The media plane's answer, or None when it was not asked yet.

    Raises:
        Refusal: ``media_unavailable``; the worker that answered is gone meanwhile. [ME5]
    """
    if case.known.media is not None and case.known.media_epoch != case.state.media_epoch:
        raise Refusal(ErrorCode.MEDIA_UNAVAILABLE, "the media worker was replaced meanwhile")
    return case.known.media


def _create_transport(case: Case, command: CreateTransport) -> list[AnyEvent]:
    """A new sending Transport replaces the old one and what it carried. [ME1]"""
    if _answer(case) is None or command.direction == "recv":
        return []
    return closed_sources(case.state, case.me, case.now_ms)


def _produce(case: Case, command: Produce) -> list[AnyEvent]:
    mine = sum(p.participant == case.me for p in case.state.producers.values())
    if mine >= MAX_PRODUCERS:
        raise Refusal(ErrorCode.TOO_BUSY, "too many producers")
    answer = _answer(case)
    if not isinstance(answer, Produced):
        return []
    info = ProducerInfo(
        id=answer.producer,
        participant=case.me,
        kind=command.kind,
        source=command.source,
        label=command.label,
        paused=command.paused,
    )
    return [ProducerAdded(**case.next(), producer=info)]


def _own_producer(case: Case, producer: ProducerId) -> ProducerInfo:
    """Another's Producer is as absent as one that never was. [ME3]"""
    info = case.state.producers.get(producer)
    if info is None or info.participant != case.me:
        raise Refusal(ErrorCode.NOT_FOUND)
    return info


def _pause_producer(case: Case, command: PauseProducer | ResumeProducer) -> list[AnyEvent]:
    info = _own_producer(case, command.producer)
    paused = isinstance(command, PauseProducer)
    if _answer(case) is None or info.paused == paused:
        return []
    return [ProducerChanged(**case.next(), producer=info.id, paused=paused)]


def _close_producer(case: Case, command: CloseProducer) -> list[AnyEvent]:
    info = _own_producer(case, command.producer)
    return [] if _answer(case) is None else [ProducerClosed(**case.next(), producer=info.id)]


def _consume(case: Case, command: Consume) -> list[AnyEvent]:
    if command.producer not in case.state.producers:
        raise Refusal(ErrorCode.NOT_FOUND)
    _answer(case)
    return []


_KIND = {"ecg": "waveform", "vitals": "vitals", "ctl": None}
"""Which descriptor a label needs. [ME6]"""


def _produce_data(case: Case, command: ProduceData) -> list[AnyEvent]:
    """``ctl`` belongs to the relay and is nobody else's business; what comes from a patient is announced. [ME6]"""
    described = [name for name in ("waveform", "vitals") if getattr(command, name) is not None]
    if command.label not in _KIND or described != [kind for kind in (_KIND[command.label],) if kind]:
        raise Refusal(ErrorCode.BAD_MEDIA_PARAMETERS, "ecg needs a waveform, vitals vitals, ctl none; no other labels")
    source = command.waveform or command.vitals
    if source is None:
        _answer(case)
        return []
    _require_binding(case, source)
    _require_room(case, command)
    answer = _answer(case)
    if not isinstance(answer, DataProduced):
        return []
    info = DataProducerInfo(
        id=answer.data_producer,
        participant=case.me,
        label=command.label,
        protocol=command.protocol,
        waveform=command.waveform,
        vitals=command.vitals,
    )
    return [DataProducerAdded(**case.next(), data_producer=info)]


def _require_binding(case: Case, source: WaveformStream | VitalsStream) -> None:
    """Nothing of a patient is sent but by a device that is bound to the patient; simulated only of a test patient.

    [ME7] [BI3] (W9, W20)
    """
    patient = case.known.patient
    if patient is None or patient.id != source.patient:
        raise Refusal(ErrorCode.WRONG_PATIENT)
    if source.simulated and not patient.test:
        raise Refusal(ErrorCode.SIMULATED_ON_REAL_PATIENT)
    bound = binding.active(case.state, case.me, case.now_ms)
    if bound is None or bound.patient != source.patient:
        raise Refusal(ErrorCode.DEVICE_NOT_BOUND)


def _require_room(case: Case, command: ProduceData) -> None:
    """[ME7] [ME11]"""
    sources = case.state.data_producers.values()
    mine = [p for p in sources if p.participant == case.me]
    if command.vitals is not None:
        if any(p.vitals is not None for p in mine):
            raise Refusal(ErrorCode.TOO_BUSY, "one source of vital signs for each device")
        return
    assert command.waveform is not None
    if any(p.waveform is not None and p.waveform.stream_id == command.waveform.stream_id for p in sources):
        raise Refusal(ErrorCode.CONFLICT, "stream id in use")
    if sum(p.waveform is not None for p in mine) >= MAX_DATA_PRODUCERS:
        raise Refusal(ErrorCode.TOO_BUSY, "too many data producers")


def _close_data_producer(case: Case, command: CloseDataProducer) -> list[AnyEvent]:
    info = case.state.data_producers.get(command.data_producer)
    if info is None:
        # The asker's own ctl line is not part of the shared state; the media plane knows whose it is.
        _answer(case)
        return []
    if info.participant != case.me:
        raise Refusal(ErrorCode.NOT_FOUND)
    return [] if _answer(case) is None else [DataProducerClosed(**case.next(), data_producer=info.id)]


def _consume_data(case: Case, command: ConsumeData) -> list[AnyEvent]:
    if command.data_producer != "ctl" and command.data_producer not in case.state.data_producers:
        raise Refusal(ErrorCode.NOT_FOUND)
    _answer(case)
    return []


_RULES: dict[type, Callable[[Case, Any], list[AnyEvent]]] = {
    Join: _join,
    Leave: _leave,
    EndConsult: _end_consult,
    OpenContext: _open_context,
    CloseContext: _close_context,
    ConfirmContext: _confirm_context,
    OpenAnchor: anchor.open_anchor,
    CloseAnchor: anchor.close_anchor,
    ShareContent: anchor.share,
    SelectContent: anchor.select,
    DismissProgram: programs.dismiss,
    TurnPage: _turn_page,
    TakeLead: _take_lead,
    HandLead: _hand_lead,
    Scroll: _follow_me,
    Point: _follow_me,
    BindDevice: binding.bind,
    UnbindDevice: binding.unbind,
    ReportPatient: binding.report,
    FreezeEcg: ecg.freeze,
    ReleaseEcg: ecg.release,
    PutEcgMark: ecg.put_mark,
    RemoveEcgMark: ecg.remove_mark,
    PointEcg: ecg.point,
    TakeEcgSnapshot: ecg.check_snapshot,
    ReportEcgState: ecg.report_state,
    ShowHighlight: sharing.highlight,
    ClearHighlight: sharing.clear_highlight,
    FreezePage: sharing.freeze,
    ReleasePage: sharing.release,
    PutNote: sharing.put_note,
    Ink: sharing.ink,
    MarkNoteInError: sharing.mark_in_error,
    ShowView: sharing.show_view,
    TickIdentity: identity.tick,
    SkipIdentityCheck: identity.skip,
    ReportWrongPatient: identity.wrong_patient,
    CreateTransport: _create_transport,
    Produce: _produce,
    PauseProducer: _pause_producer,
    ResumeProducer: _pause_producer,
    CloseProducer: _close_producer,
    Consume: _consume,
    ProduceData: _produce_data,
    CloseDataProducer: _close_data_producer,
    ConsumeData: _consume_data,
}
"""Commands without a rule here touch no shared state; the media plane checks whose ids they name."""
