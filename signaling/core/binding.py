"""Whose signals a device sends: bound at the bedside, for a time, and never by guess. [BI1]-[BI8] (W20, W21, W22)

A wave under the wrong name is the worst that can happen here, so a binding is an
explicit act: someone at the bedside reads two identifiers of the patient
there, and they must be those of the banner that is open. It belongs to that
context and to nothing else: when another patient is opened, nobody looks at
this device's trace any more, so nobody would notice that it was moved to another
bed. Coming back costs one scan.

Like ``consult.py``: state in, events out. Everything that takes a binding away
is `ending`, and the fold of its event takes the feed with it.
"""

import unicodedata
from collections.abc import Iterable
from functools import reduce

from signaling.core.case import Case, require_context
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.fold import apply
from signaling.core.ids import ParticipantId, PatientId
from signaling.core.messages import (
    AnyEvent,
    BindDevice,
    DeviceBound,
    DeviceMismatch,
    DeviceReported,
    DeviceUnbound,
    ReportPatient,
    UnbindDevice,
)
from signaling.core.model import Binding, Consult, Identifier, Mismatch, Participant, Role, UnboundReason

MINUTE_MS = 60_000


def normalised(identifier: str) -> str:
    """An identifier without what typing and scanning change: width, case, spaces, a scanner's control characters."""
    folded = unicodedata.normalize("NFKC", identifier).casefold()
    return "".join(char for char in folded if unicodedata.category(char)[0] not in "ZC")


def confirms(identifiers: tuple[Identifier, Identifier], confirmed: tuple[str, str]) -> bool:
    """Whether both identifiers were given, in either order; two that are the same are not two."""
    wanted = sorted(normalised(identifier.value) for identifier in identifiers)
    return wanted[0] != wanted[1] and all(wanted) and wanted == sorted(map(normalised, confirmed))


def names(identifiers: tuple[Identifier, Identifier], reported: str) -> bool:
    """Whether what a device says of its own accord is one of the two."""
    return normalised(reported) in {normalised(identifier.value) for identifier in identifiers}


def active(state: Consult, device: ParticipantId, now_ms: int) -> Binding | None:
    """The device's binding if it still counts; time is looked at here too, whatever timer is late. [BI3]"""
    binding = state.bindings.get(device)
    return binding if binding is not None and now_ms < binding.until_ms else None


# ---------------------------------------------------------------- commands


def bind(case: Case, command: BindDevice) -> list[AnyEvent]:
    """[BI1] [BI2] (W20, W9)"""
    device = _device(case.state, command.device)
    _require_bedside(case, device)
    context = require_context(case.state, command.context_version)
    patient = context.patient
    if patient.id != command.patient:
        raise Refusal(ErrorCode.WRONG_PATIENT, "not the open patient")
    if device.simulated and not patient.test:
        raise Refusal(ErrorCode.SIMULATED_ON_REAL_PATIENT)
    if not confirms(patient.identifiers, command.confirmed):
        raise Refusal(ErrorCode.IDENTIFIERS_WRONG)
    reported = case.state.reported.get(device.id, "")
    if reported and not names(patient.identifiers, reported):
        raise Refusal(ErrorCode.DEVICE_MISMATCH)
    binding = Binding(
        device=device.id,
        patient=patient.id,
        context_version=context.version,
        identifiers=patient.identifiers,
        bound_by=case.me,
        bound_at_ms=case.now_ms,
        until_ms=case.now_ms + command.minutes * MINUTE_MS,
    )
    return [DeviceBound(**case.next(), binding=binding)]


def unbind(case: Case, command: UnbindDevice) -> list[AnyEvent]:
    """Stopping is always safe: whoever may bind here or anywhere else may do it; a device only for itself. [BI4]"""
    _own_if_device(case, command.device)
    if command.device not in case.state.participants:
        raise Refusal(ErrorCode.NOT_FOUND)
    return ending(case.state, command.device, UnboundReason.BY_PERSON, case.now_ms, by=case.me)


def report(case: Case, command: ReportPatient) -> list[AnyEvent]:
    """What the device says counts against the binding, never for it. [BI6] (W22)"""
    events: list[AnyEvent] = []
    if case.state.reported.get(case.me, "") != command.reported:
        events.append(DeviceReported(**case.next(), device=case.me, reported=command.reported))
    binding = case.state.bindings.get(case.me)
    if binding is None or not command.reported or names(binding.identifiers, command.reported):
        return events
    state = reduce(apply, events, case.state)
    mismatch = DeviceMismatch(
        revision=state.revision + 1,
        at_ms=case.now_ms,
        mismatch=Mismatch(
            device=case.me,
            patient=binding.patient,
            identifiers=binding.identifiers,
            reported=command.reported,
            context_version=binding.context_version,
            at_ms=case.now_ms,
        ),
    )
    over = ending(apply(state, mismatch), case.me, UnboundReason.MISMATCH, case.now_ms, by=case.me)
    return [*events, mismatch, *over]


# ---------------------------------------------------------------- endings


def ending(
    state: Consult, device: ParticipantId, reason: UnboundReason, now_ms: int, by: ParticipantId | None = None
) -> list[AnyEvent]:
    """The device's binding ends, and with it all that it sends of the patient; nothing when it has none. [BI3]"""
    binding = state.bindings.get(device)
    if binding is None:
        return []
    closed = tuple(
        info.id
        for info in state.data_producers.values()
        if info.participant == device and (info.waveform is not None or info.vitals is not None)
    )
    return [
        DeviceUnbound(
            revision=state.revision + 1,
            at_ms=now_ms,
            device=device,
            patient=binding.patient,
            reason=reason,
            by=by,
            closed=closed,
        )
    ]


def all_ending(state: Consult, reason: UnboundReason, now_ms: int, by: ParticipantId | None = None) -> list[AnyEvent]:
    """Every binding ends. [BI5] (W21)"""
    return _each(state, state.bindings, reason, now_ms, by)


def expired(state: Consult, now_ms: int) -> list[AnyEvent]:
    """Bindings whose time is over end. [BI3] (W20)"""
    return _each(
        state, [b.device for b in state.bindings.values() if b.until_ms <= now_ms], UnboundReason.EXPIRED, now_ms
    )


def of_patient(state: Consult, patient: PatientId, reason: UnboundReason, now_ms: int) -> list[AnyEvent]:
    """Bindings to a patient who was discharged or transferred end. [BI7] (W21)"""
    devices = [b.device for b in state.bindings.values() if b.patient == patient]
    return _each(state, devices, reason, now_ms)


def _each(
    state: Consult,
    devices: Iterable[ParticipantId],
    reason: UnboundReason,
    now_ms: int,
    by: ParticipantId | None = None,
) -> list[AnyEvent]:
    events: list[AnyEvent] = []
    for device in list(devices):
        over = ending(state, device, reason, now_ms, by)
        state = reduce(apply, over, state)
        events += over
    return events


# ---------------------------------------------------------------- who


def _device(state: Consult, device: ParticipantId) -> Participant:
    participant = state.participants.get(device)
    if participant is None or participant.role is not Role.DEVICE:
        raise Refusal(ErrorCode.NOT_FOUND)
    return participant


def _require_bedside(case: Case, device: Participant) -> None:
    """Who stands there: staff or the room of the device's hospital, or the device's own operator. [BI2]"""
    _own_if_device(case, device.id)
    me = case.state.participants[case.me]
    if me.id != device.id and not (me.hospital and me.hospital == device.hospital):
        raise Refusal(ErrorCode.NOT_AT_BEDSIDE)


def _own_if_device(case: Case, device: ParticipantId) -> None:
    if case.actor.role is Role.DEVICE and device != case.me:
        raise Refusal(ErrorCode.NOT_FOUND)
