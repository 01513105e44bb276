"""The time-out at the start: both sides say aloud who the patient is, and tick it. [IC1]-[IC4] (W23)

Screens can agree with each other and still all show the wrong person. So with each patient that is opened a check
begins: at the hub and at the partner somebody hears at least two identifiers read aloud and compares them with the
banner. It never stands in the way of care: it may be skipped with a reason, and the bar says so as long as the patient
is open. What does not agree closes the record everywhere.
"""

from functools import reduce

from signaling.core import binding
from signaling.core.case import Case, require_context
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.fold import apply
from signaling.core.messages import (
    AnyEvent,
    ContextClosed,
    IdentityCheckSkipped,
    IdentityTicked,
    ReportWrongPatient,
    SkipIdentityCheck,
    TickIdentity,
    WrongPatientReported,
)
from signaling.core.model import IdentityCheck, IdentitySkip, IdentityTick, UnboundReason


def tick(case: Case, command: TickIdentity) -> list[AnyEvent]:
    """For the side that one belongs to; a side's first tick counts. [IC2] (W23)"""
    check = _open_check(case, command.context_version)
    if len(set(command.heard)) < 2:
        raise Refusal(ErrorCode.MALFORMED, "one identifier twice is not two")
    hub = case.state.participants[case.me].hub
    if (check.hub if hub else check.partner) is not None:
        return []
    heard = IdentityTick(by=case.me, at_ms=case.now_ms, heard=tuple(dict.fromkeys(command.heard)))
    side: str = "hub" if hub else "partner"
    return [IdentityTicked(**case.next(), context_version=command.context_version, side=side, tick=heard)]


def skip(case: Case, command: SkipIdentityCheck) -> list[AnyEvent]:
    """With a reason; both sides may still tick. [IC4]"""
    check = _open_check(case, command.context_version)
    if check.skipped is not None or (check.hub is not None and check.partner is not None):
        return []
    skipped = IdentitySkip(by=case.me, at_ms=case.now_ms, reason=command.reason)
    return [IdentityCheckSkipped(**case.next(), context_version=command.context_version, skip=skipped)]


def wrong_patient(case: Case, command: ReportWrongPatient) -> list[AnyEvent]:
    """Close on every screen, devices first. Whoever notices may do it: closing is always safe. [IC3] (W23, W21)"""
    context = require_context(case.state, command.context_version)
    reported = WrongPatientReported(
        **case.next(),
        patient=context.patient.id,
        context_version=context.version,
        by=case.me,
        reason=command.reason,
    )
    events: list[AnyEvent] = [reported]
    state = apply(case.state, reported)
    events += binding.all_ending(state, UnboundReason.CONTEXT_CHANGED, case.now_ms, by=case.me)
    last = reduce(apply, events, case.state).revision
    return [*events, ContextClosed(revision=last + 1, at_ms=case.now_ms, by=case.me, request=case.known.request)]


def _open_check(case: Case, context_version: int) -> IdentityCheck:
    require_context(case.state, context_version)
    check = case.state.identity_check
    if check is None:
        # A consult that was stored before there were checks: there is nothing to tick until a patient is opened.
        raise Refusal(ErrorCode.CONTEXT_CHANGED, "no check")
    return check
