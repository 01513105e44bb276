"""Commands for the media plane: checked, asked of the relay, and only then true of the consult. [ME1]-[ME9]

The relay is asked outside the consult's lock, since that may take long; what it made for a command that was then not
committed is taken back.
"""

import asyncio
from dataclasses import replace

from signaling.aio.audience import Audience
from signaling.aio.changes import Changes
from signaling.aio.facts import Facts
from signaling.aio.this_node import ThisNode
from signaling.core.admission import Admission
from signaling.core.bucket import TokenBucket
from signaling.core.case import Known
from signaling.core.consult import handle
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.messages import MediaCommand, MediaResult, TransportOptions, ViewConsumer


class MediaCommands:
    """Commands that the media plane answers."""

    def __init__(self, node: ThisNode, changes: Changes, facts: Facts) -> None:
        self._node = node
        self._changes = changes
        self._facts = facts

    async def view(self, audience: Audience, actor: Admission, command: ViewConsumer) -> MediaResult:
        """Straight to the media plane: the consult does not know what its participants look at. [ME12]

        Raises:
            Refusal: the media plane's, or ``too_busy``.
        """
        handle(audience.state, actor, command, self._node.now_ms())
        full = TokenBucket(self._node.settings.views_hz, self._node.settings.views_burst)
        if not audience.views.setdefault(actor.participant, full).take(asyncio.get_running_loop().time()):
            raise Refusal(ErrorCode.TOO_BUSY, "too many views")
        return await self._node.media.ask(actor, command)

    async def carry_out(self, audience: Audience, actor: Admission, command: MediaCommand) -> MediaResult:
        """[ME1]-[ME7]

        Raises:
            Refusal: the rules', or the media plane's; nothing happened.
        """
        media, now_ms = self._node.media, self._node.now_ms
        epoch = audience.state.media_epoch
        known = Known(patient=await self._facts.patient(actor.consult, command))
        handle(audience.state, actor, command, now_ms(), known)
        result = await media.ask(actor, command)
        answered = replace(known, media=result, media_epoch=epoch)
        try:
            await self._changes.change(
                audience, actor.participant, lambda state: handle(state, actor, command, now_ms(), answered)
            )
        except Exception:  # whatever stopped the commit, nothing may stay in the relay that the state does not know
            await media.undo(actor, result)
            if actor.participant not in audience.state.participants:
                await media.release(actor.consult, actor.participant)  # it left meanwhile; this came after
            raise
        if isinstance(result, TransportOptions):
            audience.silent_transports.pop(actor.participant, None)
            return result.model_copy(update={"media_epoch": epoch})
        return result
