"""What the store knows about the patient, resource or note that a command names: `Known`, before its rule decides.

A command that names none costs nothing here. Whether the answer permits anything is for the rules in ``core/``.
"""

from collections.abc import Awaitable, Callable

from signaling.aio.this_node import ThisNode
from signaling.core import sharing
from signaling.core.admission import Admission
from signaling.core.anchor import facts_of, opened_by_turning
from signaling.core.case import AnchorFacts, Known, NoteFacts
from signaling.core.ids import ConsultId
from signaling.core.messages import (
    AnyCommand,
    MarkNoteInError,
    OpenAnchor,
    OpenContext,
    ProduceData,
    PutNote,
    TurnPage,
)
from signaling.core.model import Consult, PatientBanner


class Facts:
    """Questions to the store on behalf of one command."""

    def __init__(self, node: ThisNode) -> None:
        self._node = node
        self._are_followed: Callable[[ConsultId], Awaitable[bool]] = _by_nobody

    def use_followers(self, are_followed: Callable[[ConsultId], Awaitable[bool]]) -> None:
        """Who knows whether outside programs follow a consult; without, none do. [AN7]"""
        self._are_followed = are_followed

    async def of(self, state: Consult, actor: Admission, command: AnyCommand) -> Known:
        """Everything that a rule which the state alone answers may look at."""
        return Known(
            patient=await self.patient(actor.consult, command),
            anchor=await self._anchor(state, actor, command),
            note=await self._note(state, actor, command),
        )

    async def patient(self, consult: ConsultId, command: AnyCommand) -> PatientBanner | None:
        """The banner of the patient whom a command names, if that patient belongs to the consult."""
        if isinstance(command, OpenContext):
            patient = command.patient
        elif isinstance(command, ProduceData) and (source := command.waveform or command.vitals) is not None:
            patient = source.patient
        else:
            return None
        async with self._node.store_time():
            return await self._node.store.patient(consult, patient)

    async def _anchor(self, state: Consult, actor: Admission, command: AnyCommand) -> AnchorFacts | None:
        """[AN1] [AN7]"""
        match command:
            case OpenAnchor():
                named = command.resource_type, command.id
            case TurnPage() if (opens := opened_by_turning(state, actor.role, command.view)) is not None:
                if not await self._are_followed(state.id):
                    return None
                named = opens
            case _:
                return None
        if state.context is None:
            return None
        async with self._node.store_time():
            found = await self._node.store.resource(state.id, state.context.patient.id, *named)
        return None if found is None else facts_of(found)

    async def _note(self, state: Consult, actor: Admission, command: AnyCommand) -> NoteFacts | None:
        """[SH4] [SH6]"""
        match command:
            case PutNote():
                named = sharing.note_id(state.id, actor.participant, command.id)
            case MarkNoteInError():
                named = command.note
            case _:
                return None
        if state.context is None:
            return None
        async with self._node.store_time():
            return await self._node.store.note(state.id, state.context.patient.id, named)


async def _by_nobody(_: ConsultId) -> bool:
    return False
