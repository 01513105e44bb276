"""What others than participants ask of consults: outside programs, and a hospital whose patient has left the bed.

They need nobody to be here: a consult that nobody on this node is in is changed in the store, and who is in it at
another process hears of it there.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

from signaling.aio.audience import Audience
from signaling.aio.changes import Changes, Decide
from signaling.aio.this_node import ThisNode
from signaling.core import binding
from signaling.core.admission import Admission
from signaling.core.anchor import facts_of, shown_unopened
from signaling.core.case import Known
from signaling.core.consult import handle
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.fold import apply
from signaling.core.ids import ConsultId, ParticipantId, PatientId
from signaling.core.messages import AnyCommand, AnyEvent
from signaling.core.model import Consult, UnboundReason


@dataclass(frozen=True, slots=True)
class Step:
    """One command of an outside program, made for the state that it meets; None: nothing is left to do."""

    make: Callable[[Consult], AnyCommand | None]
    known: Known


class Outside:
    """Changes in somebody's name, or in nobody's."""

    def __init__(self, node: ThisNode, changes: Changes) -> None:
        self._node = node
        self._changes = changes

    async def act(self, actor: Admission, steps: Sequence[Step]) -> Consult:
        """An outside program asks for something in a participant's name: the same rules as for the participant. [PR1]

        The participant may be on another node. All steps are one commit.

        Returns:
            The consult after it.

        Raises:
            Refusal: declined; nothing happened. Whatever a step's ``make`` raises, likewise.
        """
        audience = await self._existing(actor.consult)

        def decide(state: Consult) -> list[AnyEvent]:
            events: list[AnyEvent] = []
            for step in steps:
                command = step.make(state)
                made = [] if command is None else handle(state, actor, command, self._node.now_ms(), step.known)
                state = reduce(apply, made, state)
                events += made
            return events

        return await self._changes.change(audience, actor.participant, decide)

    async def open_shown(self, consult: ConsultId, asker: ParticipantId) -> None:
        """A program begins to follow while a study or report is shown: it is opened, as turning to it would have. [AN7]

        In the name of the lead, whose page it is; where nobody leads or the lead's role may not, of ``asker``, whose
        program it is. Where neither may nothing is opened, as when such a person turns.

        Raises:
            Whatever the store raises; nothing happened.
        """
        audience = await self._existing(consult)
        if self._node.is_open(audience):
            await self._changes.catch_up(audience)
        command = shown_unopened(audience.state)
        context = audience.state.context
        if command is None or context is None:
            return
        async with self._node.store_time():
            found = await self._node.store.resource(consult, context.patient.id, command.resource_type, command.id)
        if found is None:
            return

        def still(state: Consult) -> AnyCommand | None:
            now = shown_unopened(state)
            return now if now is not None and (now.resource_type, now.id) == (facts.resource_type, facts.id) else None

        facts = facts_of(found)
        for who in dict.fromkeys((audience.state.lead, asker)):
            participant = audience.state.participants.get(who) if who is not None else None
            if participant is None:
                continue
            admission = Admission(
                consult=consult, participant=participant.id, role=participant.role, name=participant.name
            )
            with contextlib.suppress(Refusal):
                await self.act(admission, [Step(still, Known(anchor=facts))])
                return

    async def note(self, consult: ConsultId, actor: ParticipantId | None, decide: Decide) -> Consult:
        """Commit what is true of outside programs, whoever is here. [PR3] [PR5]

        Raises:
            Refusal: from ``decide``, or ``conflict``.
        """
        return await self._changes.change(await self._existing(consult), actor, decide)

    async def end_bindings(
        self, patient: PatientId, reason: Literal[UnboundReason.DISCHARGED, UnboundReason.TRANSFERRED]
    ) -> int:
        """A hospital says that the patient left the bed: in no consult may a device there send as the patient's. [BI7]

        Consults in which nobody is are looked at too. Safe to repeat.

        Returns:
            How many bindings ended.

        Raises:
            Refusal: ``conflict``; try again.
            TimeoutError, and whatever the store raises: try again.
        """
        ended = 0
        async with self._node.store_time():
            consults = await self._node.store.consults_of(patient)
        for consult in consults:
            audience = await self._node.heard_or_not(consult)
            if audience is None:
                continue
            events: list[AnyEvent] = []

            def decide(state: Consult, events: list[AnyEvent] = events) -> list[AnyEvent]:
                events[:] = binding.of_patient(state, patient, reason, self._node.now_ms())
                return events

            await self._changes.change(audience, None, decide)
            ended += len(events)
        return ended

    async def _existing(self, consult: ConsultId) -> Audience:
        audience = await self._node.heard_or_not(consult)
        if audience is None:
            raise Refusal(ErrorCode.NOT_FOUND)
        return audience
