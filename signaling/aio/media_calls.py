"""Asking the media plane: always with a time limit, and taken back when it was for nothing."""

import asyncio
import logging
from collections.abc import Awaitable, Iterable

from signaling.core.admission import Admission
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsultId, DataProducerId, ParticipantId
from signaling.core.messages import (
    CloseConsumer,
    CloseDataConsumer,
    CloseDataProducer,
    CloseProducer,
    DataProduced,
    Done,
    MediaCommand,
    MediaResult,
    Produced,
)
from signaling.core.model import JsonObject
from signaling.core.ports import MediaPlane

log = logging.getLogger(__name__)

CLOSING = (CloseProducer, CloseDataProducer, CloseConsumer, CloseDataConsumer)


class MediaCalls:
    """The media plane as the consult service uses it."""

    def __init__(self, media: MediaPlane, timeout_s: float) -> None:
        self._media = media
        self._timeout_s = timeout_s
        self._capabilities: JsonObject | None = None

    async def capabilities(self, consult: ConsultId) -> JsonObject:
        """Place the consult. Every worker has the same capabilities, so one that restarts keeps nobody out. [ME10]

        Raises:
            Refusal: ``media_unavailable``, before any worker has ever answered; ``too_busy`` when there is no room.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                self._capabilities = await self._media.open(consult)
        except (TimeoutError, Refusal) as error:
            if isinstance(error, Refusal) and error.code is ErrorCode.TOO_BUSY:
                raise
            if self._capabilities is None:
                raise Refusal(ErrorCode.MEDIA_UNAVAILABLE) from None
        return self._capabilities

    async def ask(self, actor: Admission, command: MediaCommand) -> MediaResult:
        """Carry out one media command.

        Raises:
            Refusal: the media plane's own, or ``media_unavailable`` when it does not answer in time.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._media.call(actor.consult, actor.participant, command)
        except TimeoutError:
            raise Refusal(ErrorCode.MEDIA_UNAVAILABLE, "media plane did not answer in time") from None
        except Refusal as refusal:
            if refusal.code is ErrorCode.NOT_FOUND and isinstance(command, CLOSING):
                return Done()  # closed already, with its Transport or its source: the state must still follow
            raise

    async def undo(self, actor: Admission, result: MediaResult) -> None:
        """Take back what was done for a command that was not committed. [ME9]"""
        undo: MediaCommand
        match result:
            case Produced():
                undo = CloseProducer(producer=result.producer)
            case DataProduced():
                undo = CloseDataProducer(data_producer=result.data_producer)
            case _:
                return
        try:
            await self.ask(actor, undo)
        except Refusal as refusal:
            log.warning("media undo refused", extra={"consult": actor.consult, "code": refusal.code.value})

    async def close_feeds(
        self, consult: ConsultId, device: ParticipantId, sources: Iterable[DataProducerId]
    ) -> list[DataProducerId]:
        """Close what a device sends of a patient to whom it is not bound any more. [BI3]

        Returns:
            What could not be closed now; what is not there any more is closed.
        """
        left = []
        for source in sources:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._media.call(consult, device, CloseDataProducer(data_producer=source))
            except (TimeoutError, Refusal) as error:
                if isinstance(error, Refusal) and error.code is ErrorCode.NOT_FOUND:
                    continue
                log.warning("feed not closed", extra={"consult": consult, "error": type(error).__name__})
                left.append(source)
        return left

    async def release(self, consult: ConsultId, participant: ParticipantId) -> None:
        """Close the Transports of a participant who is gone."""
        await self._clean_up(self._media.release(consult, participant))

    async def close(self, consult: ConsultId) -> None:
        """Forget the consult."""
        await self._clean_up(self._media.close(consult))

    async def _clean_up(self, call: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await call
        except (TimeoutError, Refusal) as error:
            # The worker forgets by itself when it is replaced or the Transports lose consent.
            log.warning("media clean-up failed", extra={"error": type(error).__name__})
