"""Keep FHIR resources; every write is a new version and a row of the audit chain (C23).

Each function takes the session of one ``database.write()`` or ``read()`` block,
so that a caller decides what belongs into one transaction. Finding by search is
`search.py`, Bundles are `bundle.py`.
"""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from server.record.aio.reindex import by_table, insert_rows
from server.record.core.banner import banner_of
from server.record.core.dates import UNDATED_US
from server.record.core.index import (
    IndexRows,
    hash64,
    index_rows,
    index_values,
    patient_partition,
    primary_partition,
    token_key,
    type_key,
)
from server.record.core.layout import sent_text
from server.record.core.outcome import FhirCode, FhirRefusal
from server.record.core.params import TYPES
from server.record.core.reach import Reach
from server.record.core.resource import FiledResource, ResourceInvalid, file_resource
from server.storage import audit
from server.storage.fhir_tables import FhirResource, FhirToken, FhirVersion
from server.storage.models import ConsultPatient
from signaling.core.model import PatientBanner

_EMPTY = ""
"""``json`` of a deletion."""
_IDS_A_QUERY = 400


class VersionConflict(FhirRefusal):
    """The resource is not at the version that the writer has seen."""

    def __init__(self) -> None:
        super().__init__(FhirCode.STALE)


class AmbiguousPatient(ValueError):
    """Two patients have the identifier: nobody may choose between them but a person."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """What a write came to; ``changed`` is False when the content was there already.

    ``json`` is the resource as sent: with version and time; empty for a deletion.
    """

    type: str
    id: str
    version: int
    patient_id: str | None
    created: bool
    changed: bool
    written_at_ms: int
    json: str


async def put_resource(
    session: AsyncSession, raw: Any, *, actor: str, at_ms: int, if_match: int | None = None, owner: str = ""
) -> Stored:
    """Store a resource as its next version; unchanged content makes no new version.

    Args:
        if_match: the version that the writer has seen.
        owner: hospital it comes from; an existing resource keeps its own.

    Raises:
        server.record.core.resource.ResourceInvalid: nothing was stored.
        VersionConflict: it is at another version than ``if_match``.
    """
    filed = file_resource(raw)
    patient = await resolve_patient(session, filed)
    stored = await write_resource(session, filed, patient=patient, at_ms=at_ms, if_match=if_match, owner=owner)
    if stored.changed:
        await audit.append(session, [written_entry(stored, actor, at_ms)])
    return stored


def written_entry(stored: Stored, actor: str, at_ms: int) -> audit.Entry:
    """The audit row of a write."""
    body = {"resource": f"{stored.type}/{stored.id}", "version": stored.version, "patient": stored.patient_id}
    kind = "record_written" if stored.json else "record_deleted"
    return audit.Entry(kind=kind, at_ms=at_ms, actor=actor, body=body)


async def write_resource(
    session: AsyncSession,
    filed: FiledResource,
    *,
    patient: str | None,
    at_ms: int,
    if_match: int | None = None,
    owner: str = "",
    moving: bool = False,
    fresh: bool = False,
) -> Stored:
    """The same for a checked resource, without its audit row, which the caller owes.

    Args:
        patient: from `resolve_patient`.
        fresh: its id was just made by chance, so nobody has it.
        moving: it may come from another patient (`merge.py` only).

    Raises:
        server.record.core.resource.ResourceInvalid: it was another patient's.
        VersionConflict: it is at another version than ``if_match``.
    """
    present = None if fresh else await _present(session, filed.type, filed.id, lock=True)
    if if_match is not None and (present is None or present.version != if_match):
        raise VersionConflict
    # A deleted one neither: its history would be shown as another patient's.
    if present is not None and present.patient_id != patient and not moving:
        raise ResourceInvalid("a resource does not move to another patient", code=FhirCode.WRONG_PATIENT)
    if present is not None and not present.deleted and present.json == filed.json:
        return stored_of(present, created=False, changed=False)
    values = index_values(filed.content)
    # Taken now: an UPDATE also changes the object in hand.
    version = 1 if present is None else present.version + 1
    created = present is None or present.deleted
    if present is not None:
        await _retire(session, present)
    row = {
        "version": version,
        "deleted": False,
        "patient_id": patient,
        "part": primary_partition(patient),
        "low_us": values.clinical.low_us,
        "category": filed.category,
        "test": filed.test,
        "json": filed.json,
        "written_at_ms": at_ms,
    }
    if present is None:
        new = FhirResource(type=filed.type, id=filed.id, owner=owner, **row)
        session.add(new)
        await session.flush()
        res, at_home = new.res, owner
    else:
        await session.execute(update(FhirResource).where(FhirResource.res == present.res).values(**row))
        res, at_home = present.res, present.owner
    await insert_rows(session, index_rows(filed.type, values, res, patient, at_home))
    return Stored(
        type=filed.type,
        id=filed.id,
        version=version,
        patient_id=patient,
        created=created,
        changed=True,
        written_at_ms=at_ms,
        json=sent_text(filed.json, version, at_ms),
    )


async def delete_resource(
    session: AsyncSession, kind: str, id_: str, *, actor: str, at_ms: int, if_match: int | None = None
) -> Stored | None:
    """Put a tombstone; all versions stay. None when there is nothing to delete.

    Raises:
        VersionConflict: it is at another version than ``if_match``.
        FhirRefusal: ``in_use``: a patient with a record is merged, never deleted.
    """
    stored = await erase_resource(session, kind, id_, at_ms=at_ms, if_match=if_match)
    if stored is not None:
        await audit.append(session, [written_entry(stored, actor, at_ms)])
    return stored


async def erase_resource(
    session: AsyncSession, kind: str, id_: str, *, at_ms: int, if_match: int | None = None
) -> Stored | None:
    """The same without its audit row, which the caller owes."""
    present = await _present(session, kind, id_, lock=True)
    if if_match is not None and (present is None or present.version != if_match):
        raise VersionConflict
    if present is None or present.deleted:
        return None
    if kind == "Patient":
        others = select(FhirResource.res).where(
            FhirResource.patient_id == id_, FhirResource.res != present.res, FhirResource.deleted.is_(False)
        )
        if await session.scalar(others.limit(1)) is not None:
            raise FhirRefusal(FhirCode.IN_USE, "the patient has a record")
    await _retire(session, present)
    version = present.version + 1
    row = {
        "version": version,
        "deleted": True,
        "json": _EMPTY,
        "written_at_ms": at_ms,
        "low_us": UNDATED_US,
    }
    await session.execute(update(FhirResource).where(FhirResource.res == present.res).values(**row))
    return Stored(
        type=kind,
        id=id_,
        version=version,
        patient_id=present.patient_id,
        created=False,
        changed=True,
        written_at_ms=at_ms,
        json=_EMPTY,
    )


async def resolve_patient(
    session: AsyncSession,
    filed: FiledResource,
    coming: Mapping[tuple[str, str], str | None] | None = None,
    reach: Reach | None = None,
) -> str | None:
    """The patient of a resource, once nothing it refers to is another's.

    A reference that leads nowhere is let through: hospitals send a result before its order.

    Args:
        coming: patients of what is written in the same transaction, by type and id.
        reach: what the writer may see: a refusal must not tell that there is more.

    Raises:
        server.record.core.resource.ResourceInvalid: it belongs to another patient than what it refers to.
    """
    if filed.type == "Patient":
        return filed.patient_id  # its links to other patients are what merging is made of
    coming = coming or {}
    patients = {patient for one in filed.references if (patient := coming.get(one)) is not None}
    wanted = [one for one in filed.references if one[0] != "Patient" and one not in coming]
    for start in range(0, len(wanted), _IDS_A_QUERY):
        some = wanted[start : start + _IDS_A_QUERY]
        query = select(FhirResource.patient_id, FhirResource.owner).where(
            tuple_(FhirResource.type, FhirResource.id).in_(some), FhirResource.patient_id.is_not(None)
        )
        for patient, owner in (await session.execute(query)).all():
            if patient is not None and (reach is None or reach.covers(patient, owner)):
                patients.add(patient)
    if filed.patient_id is None and filed.type == "Provenance":
        if len(patients) != 1:
            raise ResourceInvalid("Provenance belongs to one patient", code=FhirCode.WRONG_PATIENT)
        return patients.pop()
    if filed.patient_id is not None and patients - {filed.patient_id}:
        raise ResourceInvalid(f"{filed.type} refers to another patient's", code=FhirCode.WRONG_PATIENT)
    return filed.patient_id


async def _retire(session: AsyncSession, present: FhirResource) -> None:
    """Move the present version to the old ones, and take its index rows out."""
    if not present.deleted:
        content = json.loads(present.json)
        rows = index_rows(present.type, index_values(content), present.res, present.patient_id, present.owner)
        await _delete_rows(session, rows)
    session.add(
        FhirVersion(
            type=present.type,
            id=present.id,
            version=present.version,
            patient_id=present.patient_id,
            json=present.json,
            written_at_ms=present.written_at_ms,
        )
    )


async def _delete_rows(session: AsyncSession, rows: IndexRows) -> None:
    for table, some in by_table(rows):
        columns = list(table.__table__.columns)
        for start in range(0, len(some), _IDS_A_QUERY // 4):
            chosen = some[start : start + _IDS_A_QUERY // 4]
            await session.execute(delete(table).where(tuple_(*columns).in_(chosen)))


# ------------------------------------------------------------------ reading


async def read_resource(session: AsyncSession, kind: str, id_: str) -> tuple[FhirResource, str] | None:
    """The present row of a resource, and its text as sent (empty for a deletion)."""
    row = await _present(session, kind, id_)
    return None if row is None else (row, row_text(row))


def row_text(row: FhirResource | FhirVersion) -> str:
    """A version as sent."""
    return sent_text(row.json, row.version, row.written_at_ms) if row.json else _EMPTY


async def versions_of(
    session: AsyncSession,
    kind: str,
    id_: str,
    *,
    before: int | None = None,
    since_ms: int | None = None,
    limit: int = 100,
) -> list[Stored]:
    """Versions of one resource, newest first, those numbered below ``before`` and written at ``since_ms`` or later."""
    present = await _present(session, kind, id_)
    if present is None:
        return []
    query = select(FhirVersion).where(FhirVersion.type == kind, FhirVersion.id == id_)
    if before is not None:
        query = query.where(FhirVersion.version < before)
    if since_ms is not None:
        query = query.where(FhirVersion.written_at_ms >= since_ms)
    older = (await session.scalars(query.order_by(FhirVersion.version.desc()).limit(limit))).all()
    newest = before is None and (since_ms is None or present.written_at_ms >= since_ms)
    rows: list[FhirResource | FhirVersion] = [*([present] if newest else []), *older]
    return [stored_of(row, created=row.version == 1, changed=True) for row in rows[:limit]]


async def one_version(session: AsyncSession, kind: str, id_: str, version: int) -> Stored | None:
    """One version of one resource."""
    found = await versions_of(session, kind, id_, before=version + 1 if version else None, limit=1)
    present = await _present(session, kind, id_)
    if present is not None and present.version == version:
        return stored_of(present, created=version == 1, changed=True)
    return next((one for one in found if one.version == version), None)


def stored_of(row: FhirResource | FhirVersion, *, created: bool = False, changed: bool = False) -> Stored:
    """A version as it is kept."""
    return Stored(
        type=row.type,
        id=row.id,
        version=row.version,
        patient_id=row.patient_id,
        created=created,
        changed=changed,
        written_at_ms=row.written_at_ms,
        json=row_text(row),
    )


async def patient_by_identifier(
    session: AsyncSession, system: str, value: str, *, owner: str | None = None
) -> str | None:
    """Id of the patient with this identifier; None when there is none.

    Args:
        owner: only among what came from this hospital.

    Raises:
        AmbiguousPatient: there are several.
    """
    query = (
        select(FhirResource.id)
        .join(FhirToken, FhirToken.res == FhirResource.res)
        .where(
            FhirToken.key == token_key("Patient", "identifier", value),
            FhirToken.system == hash64("system", system),
            FhirResource.type == "Patient",
            FhirResource.deleted.is_(False),
        )
        .distinct()
        .limit(2)
    )
    if owner is not None:
        query = query.where(FhirResource.owner == owner)
    found = (await session.scalars(query)).all()
    if len(found) > 1:
        raise AmbiguousPatient
    return found[0] if found else None


async def find_texts(session: AsyncSession, patient: str, kind: str, category: str | None = None) -> list[str]:
    """Present resources of one type for one patient as sent, newest first."""
    query = select(FhirResource).where(
        FhirResource.patient_id == patient, FhirResource.type == kind, FhirResource.deleted.is_(False)
    )
    if category is not None:
        query = query.where(FhirResource.category == category)
    rows = (await session.scalars(query.order_by(FhirResource.low_us.desc(), FhirResource.id))).all()
    return [row_text(row) for row in rows]


async def find_one(session: AsyncSession, patient: str, kind: str, id_: str) -> dict[str, Any] | None:
    """One present resource, if it belongs to the patient."""
    row = await _present(session, kind, id_)
    return None if row is None or row.deleted or row.patient_id != patient else json.loads(row_text(row))


async def counts_of(session: AsyncSession, patient: str) -> dict[str, int]:
    """How many resources of each type a patient has."""
    # Every present resource has one index row for its type: small ones, read without the resources.
    kinds = {type_key(kind): kind for kind in TYPES}
    query = (
        select(FhirToken.key, func.count())
        .where(FhirToken.key.in_(sorted(kinds)), FhirToken.part == patient_partition(patient))
        .group_by(FhirToken.key)
    )
    return {kinds[key]: number for key, number in (await session.execute(query)).all()}


async def banner_in(session: AsyncSession, patient: str) -> PatientBanner | None:
    """Banner of a stored patient."""
    row = await _present(session, "Patient", patient)
    return None if row is None or row.deleted else banner_of(json.loads(row.json), test=row.test)


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


async def _present(session: AsyncSession, kind: str, id_: str, *, lock: bool = False) -> FhirResource | None:
    query = select(FhirResource).where(FhirResource.type == kind, FhirResource.id == id_)
    if lock:
        # A row that the session has seen before is read anew: somebody may have written while we waited for the lock.
        query = query.with_for_update().execution_options(populate_existing=True)
    return await session.scalar(query)


async def lock_rows(session: AsyncSession, wanted: AbstractSet[tuple[str, str]]) -> None:
    """Lock rows in one order, whoever asks: two transactions then cannot wait for each other in a circle."""
    if session.get_bind().dialect.name != "postgresql":
        return  # SQLite has one writer
    for one in sorted(wanted):
        await _present(session, *one, lock=True)
