"""`SqlConsultStore`: the truth about consults, with each commit one transaction.

The snapshot is replaced by compare-and-set on its revision and the events are
chained in the same transaction: there is never a state without its events, nor
an event without its state. Publishing follows the commit and is not done here.
"""

import json
from collections.abc import Sequence

from sqlalchemy import select, update

from server.record.aio.store import banner_in, find_one
from server.storage import audit
from server.storage.database import Database
from server.storage.models import ConsultPatient, ConsultState, EventRow
from signaling.core.ids import ConsultId, ParticipantId, PatientId
from signaling.core.messages import EVENTS, AnyEvent
from signaling.core.model import AnchorType, Consult, ConsultStatus, JsonObject, PatientBanner
from signaling.core.ports import Conflict


class SqlConsultStore:
    """`signaling.core.ports.ConsultStore` on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, consult: ConsultId) -> Consult | None:
        """Present snapshot, or None when there is no such consult."""
        query = select(ConsultState.snapshot).where(ConsultState.consult_id == consult)
        async with self._database.read() as session:
            snapshot = await session.scalar(query)
        return None if snapshot is None else Consult.model_validate_json(snapshot)

    async def commit(
        self, before: Consult, after: Consult, events: Sequence[AnyEvent], actor: ParticipantId | None
    ) -> None:
        """Store ``after`` and chain ``events``.

        Raises:
            Conflict: the stored revision is no longer ``before.revision``.
        """
        swap = (
            update(ConsultState)
            .where(ConsultState.consult_id == before.id, ConsultState.revision == before.revision)
            .values(revision=after.revision, status=after.status.value, snapshot=after.model_dump_json())
            .returning(ConsultState.consult_id)
        )
        async with self._database.write() as session:
            if await session.scalar(swap) is None:
                raise Conflict(f"consult {before.id} is no longer at revision {before.revision}")
            await audit.append(session, [_entry(before.id, event, actor) for event in events])

    async def events_since(self, consult: ConsultId, revision: int, limit: int) -> Sequence[AnyEvent] | None:
        """Events after ``revision``, oldest first; None when there are more than ``limit``."""
        query = (
            select(EventRow.body)
            .where(EventRow.consult_id == consult, EventRow.revision > revision)
            .order_by(EventRow.revision)
            .limit(limit + 1)
        )
        async with self._database.read() as session:
            bodies = (await session.scalars(query)).all()
        if len(bodies) > limit:
            return None
        return [EVENTS.validate_json(body) for body in bodies]

    async def patient(self, consult: ConsultId, patient: PatientId) -> PatientBanner | None:
        """Banner of a patient who belongs to the consult, else None."""
        member = select(ConsultPatient.patient_id).where(
            ConsultPatient.consult_id == consult, ConsultPatient.patient_id == patient
        )
        async with self._database.read() as session:
            if await session.scalar(member) is None:
                return None
            return await banner_in(session, patient)

    async def resource(
        self, consult: ConsultId, patient: PatientId, resource_type: AnchorType, id_: str
    ) -> JsonObject | None:
        """A FHIR resource of a patient who belongs to the consult, else None."""
        member = select(ConsultPatient.patient_id).where(
            ConsultPatient.consult_id == consult, ConsultPatient.patient_id == patient
        )
        async with self._database.read() as session:
            if await session.scalar(member) is None:
                return None
            return await find_one(session, patient, resource_type.value, id_)

    async def consults_of(self, patient: PatientId) -> Sequence[ConsultId]:
        """Consults that have not ended to which the patient belongs."""
        query = (
            select(ConsultState.consult_id)
            .join(ConsultPatient, ConsultPatient.consult_id == ConsultState.consult_id)
            .where(ConsultPatient.patient_id == patient, ConsultState.status != ConsultStatus.ENDED.value)
        )
        async with self._database.read() as session:
            return [ConsultId(consult) for consult in await session.scalars(query)]


def _entry(consult: ConsultId, event: AnyEvent, actor: ParticipantId | None) -> audit.Entry:
    return audit.Entry(
        kind=event.type,
        at_ms=event.at_ms,
        actor=actor or audit.SERVER,
        body=json.loads(event.model_dump_json()),
        consult_id=consult,
        revision=event.revision,
    )
