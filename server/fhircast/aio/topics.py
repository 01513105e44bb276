"""Topics: one opaque name for each consult, from when somebody first asks while it is open until it ends."""

import secrets

from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError

from server.clock import NowMs
from server.storage.database import Database
from server.storage.fhircast_tables import FhircastTopic
from server.storage.models import ConsultState
from signaling.core.ids import ConsultId
from signaling.core.model import ConsultStatus

TOPIC_BYTES = 32


class Topics:
    """Between consults and their topics; the database is the only memory."""

    def __init__(self, database: Database, now_ms: NowMs) -> None:
        self._database = database
        self._now_ms = now_ms

    async def topic_of(self, consult: str) -> str | None:
        """The topic of a consult that is open, else None."""
        found = await self._find(consult)
        if found is not None:
            return found
        async with self._database.read() as session:
            status = await session.scalar(select(ConsultState.status).where(ConsultState.consult_id == consult))
        if status != ConsultStatus.OPEN.value:
            return None
        try:
            async with self._database.write() as session:
                topic = secrets.token_urlsafe(TOPIC_BYTES)
                session.add(FhircastTopic(consult_id=consult, topic=topic, created_at_ms=self._now_ms()))
        except IntegrityError:  # another node was faster
            return await self._find(consult)
        return topic

    async def consult_of(self, topic: str) -> ConsultId | None:
        """The open consult behind a topic; None for one that is unknown or over."""
        query = self._open(select(FhircastTopic.consult_id)).where(FhircastTopic.topic == topic)
        async with self._database.read() as session:
            found = await session.scalar(query)
        return None if found is None else ConsultId(found)

    async def _find(self, consult: str) -> str | None:
        query = self._open(select(FhircastTopic.topic)).where(FhircastTopic.consult_id == consult)
        async with self._database.read() as session:
            return await session.scalar(query)

    def _open(self, query: Select[str]) -> Select[str]:
        return query.join(ConsultState, ConsultState.consult_id == FhircastTopic.consult_id).where(
            ConsultState.status == ConsultStatus.OPEN.value
        )
