"""Keep and find FHIR resources; every write is a new version and a row of the audit chain (C23)."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server.record.core.banner import banner_of
from server.record.core.resource import FiledResource, file_resource
from server.storage import audit
from server.storage.models import ConsultPatient, FhirResource
from signaling.core.model import PatientBanner


async def put_resource(session: AsyncSession, raw: Any, *, actor: str, at_ms: int) -> FiledResource:
    """Store a resource as its next version; unchanged content makes no new version.

    Raises:
        server.record.core.resource.ResourceInvalid: nothing was stored.
    """
    filed = file_resource(raw)
    present = await _current(session, filed.type, filed.id)
    if present is not None and present.json == filed.json:
        return filed
    version = 1 if present is None else present.version + 1
    if present is not None:
        await session.execute(
            update(FhirResource)
            .where(FhirResource.type == filed.type, FhirResource.id == filed.id, FhirResource.current)
            .values(current=False)
        )
    session.add(
        FhirResource(
            type=filed.type,
            id=filed.id,
            version=version,
            current=True,
            patient_id=filed.patient_id,
            category=filed.category,
            code=filed.code,
            date=filed.date,
            test=filed.test,
            json=filed.json,
            written_at_ms=at_ms,
        )
    )
    await session.flush()
    body = {"resource": f"{filed.type}/{filed.id}", "version": version, "patient": filed.patient_id}
    await audit.append(session, [audit.Entry(kind="record_written", at_ms=at_ms, actor=actor, body=body)])
    return filed


async def find_resources(
    session: AsyncSession, patient: str, kind: str, category: str | None = None
) -> Sequence[dict[str, Any]]:
    """Present versions of one type for one patient, newest first."""
    query = select(FhirResource.json).where(
        FhirResource.patient_id == patient, FhirResource.type == kind, FhirResource.current
    )
    if category is not None:
        query = query.where(FhirResource.category == category)
    rows = (await session.scalars(query.order_by(FhirResource.date.desc(), FhirResource.id))).all()
    return [json.loads(row) for row in rows]


async def find_one(session: AsyncSession, patient: str, kind: str, id_: str) -> dict[str, Any] | None:
    """One present resource, if it belongs to the patient."""
    row = await _current(session, kind, id_)
    return None if row is None or row.patient_id != patient else json.loads(row.json)


async def banner_in(session: AsyncSession, patient: str) -> PatientBanner | None:
    """Banner of a stored patient."""
    row = await _current(session, "Patient", patient)
    return None if row is None else banner_of(json.loads(row.json), test=row.test)


async def consult_banners(session: AsyncSession, consult: str) -> list[PatientBanner]:
    """Banners of the patients of a consult, in their order."""
    ids = (
        await session.scalars(
            select(ConsultPatient.patient_id)
            .where(ConsultPatient.consult_id == consult)
            .order_by(ConsultPatient.position)
        )
    ).all()
    found = [await banner_in(session, id_) for id_ in ids]
    return [banner for banner in found if banner is not None]


async def _current(session: AsyncSession, kind: str, id_: str) -> FhirResource | None:
    return await session.scalar(
        select(FhirResource).where(FhirResource.type == kind, FhirResource.id == id_, FhirResource.current)
    )
