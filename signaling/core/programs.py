"""Outside programs that follow a consult: which of them are not in sync, and what they tell each other. [PR1]-[PR5]

A program that shows the record of another patient on the screen beside ours is as dangerous as one of our own
screens that lags behind, so it is named to everyone until it follows or somebody has looked (W19). Who the programs
are and whether they follow is found out by the FHIRcast hub; here is what a consult knows of it.
"""

from signaling.core.case import Case
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ParticipantId
from signaling.core.messages import AnyEvent, DismissProgram, ProgramInStep, ProgramOutOfStep, ProgramSaid
from signaling.core.model import Consult, ConsultStatus, JsonObject, ProgramTrouble, Request

MAX_PROGRAMS = 64
"""Named at one time; beyond that the oldest gives way, and nobody reads sixty names."""


def out_of_step(state: Consult, trouble: ProgramTrouble, now_ms: int) -> list[AnyEvent]:
    """It does not show what is open. The first reason for a context stands. [PR3] (W19)"""
    if state.status is ConsultStatus.ENDED:
        return []
    before = state.programs.get(trouble.id)
    if before is not None and before.model_copy(update={"at_ms": trouble.at_ms}) == trouble:
        return []
    events: list[AnyEvent] = []
    if before is None and len(state.programs) >= MAX_PROGRAMS:
        oldest = min(state.programs.values(), key=lambda one: one.at_ms)
        events.append(ProgramInStep(revision=state.revision + 1, at_ms=now_ms, program=oldest.id))
    revision = state.revision + 1 + len(events)
    return [*events, ProgramOutOfStep(revision=revision, at_ms=now_ms, program=trouble)]


def in_step(state: Consult, program: str, now_ms: int, *, by: ParticipantId | None = None) -> list[AnyEvent]:
    """It follows, has said goodbye, or was looked at. [PR4]"""
    if program not in state.programs:
        return []
    return [ProgramInStep(revision=state.revision + 1, at_ms=now_ms, program=program, by=by)]


def dismiss(case: Case, command: DismissProgram) -> list[AnyEvent]:
    """[PR4]"""
    return in_step(case.state, command.program, case.now_ms, by=case.me)


def said(
    state: Consult, by: ParticipantId, request: Request, context: tuple[JsonObject, ...], now_ms: int
) -> list[AnyEvent]:
    """Passed on to the other programs; nothing here changes. [PR5]

    Raises:
        Refusal: ``not_joined`` or ``consult_ended``.
    """
    if state.status is ConsultStatus.ENDED:
        raise Refusal(ErrorCode.CONSULT_ENDED)
    if by not in state.participants:
        raise Refusal(ErrorCode.NOT_JOINED)
    return [ProgramSaid(revision=state.revision + 1, at_ms=now_ms, by=by, request=request, context=context)]
