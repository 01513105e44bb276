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
from signaling.core.consult import handle, taken_back
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.messages import DataProduced, MediaCommand, MediaResult, Produced, TransportOptions, ViewConsumer


class MediaCommands:
    """Commands that the media plane answers."""

    def __init__(self, node: ThisNode, changes: Changes, facts: Facts) -> None:
        self._node = node
        self._changes = changes
        self._facts = facts
        self._under_way: set[asyncio.Task[MediaResult]] = set()

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
        """[ME1]-[ME7] [ME9] The relay cannot be called back: once asked, a command runs to its end without its asker.

        Raises:
            Refusal: the rules', or the media plane's; nothing happened.
        """
        epoch = audience.state.media_epoch
        known = Known(patient=await self._facts.patient(actor.consult, command))
        handle(audience.state, actor, command, self._node.now_ms(), known)
        doing = asyncio.create_task(self._ask(audience, actor, command, replace(known, media_epoch=epoch)))
        self._under_way.add(doing)
        doing.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            self._node.spawn(self._for_nobody(doing, audience, actor))
            raise

    async def stop(self) -> None:
        """End what is under way; idempotent."""
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _ask(self, audience: Audience, actor: Admission, command: MediaCommand, known: Known) -> MediaResult:
        media = self._node.media
        result = await media.ask(actor, command)
        answered = replace(known, media=result)
        try:
            await self._changes.change(
                audience,
                actor.participant,
                lambda state: handle(state, actor, command, self._node.now_ms(), answered),
            )
        except Exception:  # whatever stopped the commit, nothing may stay in the relay that the state does not know
            if (source := _source_of(result)) is not None:
                audience.taken_back.append(source)  # it may have been stored all the same: then the state follows
            await media.undo(actor, result)
            if actor.participant not in audience.state.participants:
                await media.release(actor.consult, actor.participant)  # it left meanwhile; this came after
            raise
        if isinstance(result, TransportOptions):
            audience.silent_transports.pop(actor.participant, None)
            return result.model_copy(update={"media_epoch": known.media_epoch})
        return result

    async def _for_nobody(self, doing: asyncio.Task[MediaResult], audience: Audience, actor: Admission) -> None:
        """Who asked has gone, and never hears of what was made: it could not even close it. [ME9]"""
        await asyncio.wait({doing})
        if doing.cancelled() or doing.exception() is not None:
            return
        if (source := _source_of(doing.result())) is not None:
            await self._node.media.undo(actor, doing.result())
            await self._changes.insist(audience, lambda state: taken_back(state, source, self._node.now_ms()))


def _source_of(result: MediaResult) -> str | None:
    """What a command has made that others are told of."""
    match result:
        case Produced():
            return result.producer
        case DataProduced():
            return result.data_producer
        case _:
            return None
