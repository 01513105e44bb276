"""What a command does to a consult: `handle` decides, `apply` (in ``fold.py``) folds.

`handle` is a function of the state, the asker and the command. What it needs
from outside (a patient's banner, the media plane's answer) is looked up by
the caller and handed in as `Known`, so that a decision can be repeated when
another node was faster, and tested without a loop.

A media command passes through `handle` twice: before the media plane is asked
(``known.media is None``: only the checks, no events) and with its answer.

Roles are checked by ``policy.py``, pointer and scroll are ``signals.py``, and
what happens without anyone asking is ``occurrences.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from signaling.core import policy
from signaling.core.admission import Admission
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.fold import RevisionGap, apply
from signaling.core.ids import ParticipantId, ProducerId
from signaling.core.messages import (
    AnyCommand,
    AnyEvent,
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
    EndConsult,
    HandLead,
    Join,
    LeadChanged,
    Leave,
    MediaResult,
    OpenContext,
    PageTurned,
    ParticipantJoined,
    ParticipantLeft,
    PauseProducer,
    Point,
    Produce,
    Produced,
    ProduceData,
    ProducerAdded,
    ProducerChanged,
    ProducerClosed,
    ResumeProducer,
    Scroll,
    TakeLead,
    TurnPage,
)
from signaling.core.model import (
    Connection,
    Consult,
    ConsultStatus,
    Context,
    DataProducerInfo,
    PatientBanner,
    ProducerInfo,
    WaveformStream,
)

__all__ = ["Known", "RevisionGap", "apply", "as_admitted", "closed_sources", "handle", "require_lead"]

MAX_PRODUCERS = 8
"""Audio and video sources of one participant: camera, microphone, screen and its sound, and as many again."""

MAX_DATA_PRODUCERS = 4
"""Waveforms of one participant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the outside says about one command."""

    patient: PatientBanner | None = None
    """Banner of the patient whom the command names, if that patient belongs to the consult."""
    media: MediaResult | None = None
    """The media plane's answer; None before it was asked."""
    media_epoch: int | None = None
    """``media_epoch`` at which the media plane was asked."""


@dataclass(frozen=True, slots=True)
class _Case:
    """One command on its way through its rule."""

    state: Consult
    actor: Admission
    known: Known
    now_ms: int

    @property
    def me(self) -> ParticipantId:
        return self.actor.participant

    def next(self) -> dict[str, int]:
        """``revision`` and ``at_ms`` of the first event."""
        return {"revision": self.state.revision + 1, "at_ms": self.now_ms}


def handle(
    state: Consult, actor: Admission, command: AnyCommand, now_ms: int, known: Known = Known()
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
    return rule(_Case(state, actor, known, now_ms), command) if rule is not None else []


def as_admitted(actor: Admission, command: AnyCommand) -> AnyCommand:
    """The command as the token lets it stand: whatever a simulated participant sends is marked SIMULATED. [ME7] (W9)"""
    if isinstance(command, ProduceData) and command.waveform is not None and actor.simulated:
        return command.model_copy(update={"waveform": command.waveform.model_copy(update={"simulated": True})})
    return command


def require_lead(state: Consult, actor: ParticipantId, context_version: int) -> None:
    """Only the lead moves the others' view, and only of the patient who is open now. [LE1] [CX4]

    Raises:
        Refusal: ``not_lead``, or ``context_changed`` for another context (H21).
    """
    if state.lead != actor:
        raise Refusal(ErrorCode.NOT_LEAD)
    _require_context(state, context_version)


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


def _require_presence(state: Consult, actor: Admission, command: AnyCommand) -> None:
    if state.id != actor.consult:
        raise Refusal(ErrorCode.NOT_FOUND, "admitted to another consult")
    if state.status is ConsultStatus.ENDED and command.type != "sync":
        raise Refusal(ErrorCode.CONSULT_ENDED)
    if command.type not in ("join", "sync") and actor.participant not in state.participants:
        raise Refusal(ErrorCode.NOT_JOINED)


def _require_context(state: Consult, context_version: int) -> None:
    if state.context is None or state.context.version != context_version:
        raise Refusal(ErrorCode.CONTEXT_CHANGED)


# ---------------------------------------------------------------- presence


def _join(case: _Case, _: Join) -> list[AnyEvent]:
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


def _leave(case: _Case, _: Leave) -> list[AnyEvent]:
    return [ParticipantLeft(**case.next(), participant=case.me)]


def _end_consult(case: _Case, _: EndConsult) -> list[AnyEvent]:
    return [ConsultEnded(**case.next(), by=case.me)]


# ---------------------------------------------------------------- context


def _open_context(case: _Case, command: OpenContext) -> list[AnyEvent]:
    """Open one of the consult's own patients, under a version never used before. [CX1] [CX2] (H27, W24)"""
    patient = case.known.patient
    if patient is None or patient.id != command.patient:
        raise Refusal(ErrorCode.NOT_FOUND, "patient is not part of the consult")
    if case.state.context is not None and case.state.context.patient == patient:
        return []
    context = Context(
        version=case.state.context_version + 1, patient=patient, opened_at_ms=case.now_ms, opened_by=case.me
    )
    return [ContextOpened(**case.next(), context=context)]


def _close_context(case: _Case, _: CloseContext) -> list[AnyEvent]:
    if case.state.context is None:
        return []
    return [ContextClosed(**case.next(), by=case.me)]


def _confirm_context(case: _Case, command: ConfirmContext) -> list[AnyEvent]:
    """A confirmation of anything but the open context means nothing. [CX3] (W19, H21)"""
    _require_context(case.state, command.version)
    if case.state.participants[case.me].context_seen == command.version:
        return []
    return [ContextConfirmed(**case.next(), participant=case.me, version=command.version)]


# ---------------------------------------------------------------- lead


def _turn_page(case: _Case, command: TurnPage) -> list[AnyEvent]:
    require_lead(case.state, case.me, command.context_version)
    if command.view == case.state.view:
        return []
    return [PageTurned(**case.next(), by=case.me, view=command.view)]


def _take_lead(case: _Case, _: TakeLead) -> list[AnyEvent]:
    """Whoever may lead may take the lead at any time. [LE2]"""
    if case.state.lead == case.me:
        return []
    return [LeadChanged(**case.next(), lead=case.me)]


def _hand_lead(case: _Case, command: HandLead) -> list[AnyEvent]:
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


def _follow_me(case: _Case, command: Scroll | Point) -> list[AnyEvent]:
    require_lead(case.state, case.me, command.context_version)
    return []


# ---------------------------------------------------------------- media


def _answer(case: _Case) -> MediaResult | None:
    """The media plane's answer, or None when it was not asked yet.

    Raises:
        Refusal: ``media_unavailable``; the worker that answered is gone meanwhile. [ME5]
    """
    if case.known.media is not None and case.known.media_epoch != case.state.media_epoch:
        raise Refusal(ErrorCode.MEDIA_UNAVAILABLE, "the media worker was replaced meanwhile")
    return case.known.media


def _create_transport(case: _Case, command: CreateTransport) -> list[AnyEvent]:
    """A new sending Transport replaces the old one and what it carried. [ME1]"""
    if _answer(case) is None or command.direction == "recv":
        return []
    return closed_sources(case.state, case.me, case.now_ms)


def _produce(case: _Case, command: Produce) -> list[AnyEvent]:
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


def _own_producer(case: _Case, producer: ProducerId) -> ProducerInfo:
    """Another's Producer is as absent as one that never was. [ME3]"""
    info = case.state.producers.get(producer)
    if info is None or info.participant != case.me:
        raise Refusal(ErrorCode.NOT_FOUND)
    return info


def _pause_producer(case: _Case, command: PauseProducer | ResumeProducer) -> list[AnyEvent]:
    info = _own_producer(case, command.producer)
    paused = isinstance(command, PauseProducer)
    if _answer(case) is None or info.paused == paused:
        return []
    return [ProducerChanged(**case.next(), producer=info.id, paused=paused)]


def _close_producer(case: _Case, command: CloseProducer) -> list[AnyEvent]:
    info = _own_producer(case, command.producer)
    return [] if _answer(case) is None else [ProducerClosed(**case.next(), producer=info.id)]


def _consume(case: _Case, command: Consume) -> list[AnyEvent]:
    if command.producer not in case.state.producers:
        raise Refusal(ErrorCode.NOT_FOUND)
    _answer(case)
    return []


def _produce_data(case: _Case, command: ProduceData) -> list[AnyEvent]:
    """``ctl`` belongs to the relay and is nobody else's business; a waveform is announced to all. [ME6]"""
    if (command.label == "ecg") != (command.waveform is not None) or command.label not in ("ecg", "ctl"):
        raise Refusal(ErrorCode.BAD_MEDIA_PARAMETERS, "label ecg needs a waveform; ctl has none; there are no others")
    if command.waveform is None:
        _answer(case)
        return []
    _require_binding(case, command.waveform)
    answer = _answer(case)
    if not isinstance(answer, DataProduced):
        return []
    info = DataProducerInfo(
        id=answer.data_producer,
        participant=case.me,
        label=command.label,
        protocol=command.protocol,
        waveform=command.waveform,
    )
    return [DataProducerAdded(**case.next(), data_producer=info)]


def _require_binding(case: _Case, waveform: WaveformStream) -> None:
    """One device, one patient of this consult; simulated only with a test patient. [ME7] (W9, W20)"""
    patient = case.known.patient
    if patient is None or patient.id != waveform.patient:
        raise Refusal(ErrorCode.WRONG_PATIENT)
    if waveform.simulated and not patient.test:
        raise Refusal(ErrorCode.SIMULATED_ON_REAL_PATIENT)
    streams = [p for p in case.state.data_producers.values() if p.waveform is not None]
    mine = [p for p in streams if p.participant == case.me]
    if any(p.waveform is not None and p.waveform.patient != waveform.patient for p in mine):
        raise Refusal(ErrorCode.WRONG_PATIENT, "one device is bound to one patient")
    if any(p.waveform is not None and p.waveform.stream_id == waveform.stream_id for p in streams):
        raise Refusal(ErrorCode.CONFLICT, "stream id in use")
    if len(mine) >= MAX_DATA_PRODUCERS:
        raise Refusal(ErrorCode.TOO_BUSY, "too many data producers")


def _close_data_producer(case: _Case, command: CloseDataProducer) -> list[AnyEvent]:
    info = case.state.data_producers.get(command.data_producer)
    if info is None:
        # The asker's own ctl line is not part of the shared state; the media plane knows whose it is.
        _answer(case)
        return []
    if info.participant != case.me:
        raise Refusal(ErrorCode.NOT_FOUND)
    return [] if _answer(case) is None else [DataProducerClosed(**case.next(), data_producer=info.id)]


def _consume_data(case: _Case, command: ConsumeData) -> list[AnyEvent]:
    if command.data_producer != "ctl" and command.data_producer not in case.state.data_producers:
        raise Refusal(ErrorCode.NOT_FOUND)
    _answer(case)
    return []


_RULES: dict[type, Callable[[_Case, Any], list[AnyEvent]]] = {
    Join: _join,
    Leave: _leave,
    EndConsult: _end_consult,
    OpenContext: _open_context,
    CloseContext: _close_context,
    ConfirmContext: _confirm_context,
    TurnPage: _turn_page,
    TakeLead: _take_lead,
    HandLead: _hand_lead,
    Scroll: _follow_me,
    Point: _follow_me,
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
