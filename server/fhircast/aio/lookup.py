"""Resources of a consult's patients that a program may mean: by our id, or by what other systems know them by."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from server.fhircast.core.match import identifiers_of
from server.record.aio.store import row_text
from server.record.core.index import hash64, token_key
from server.storage.fhir_tables import FhirResource, FhirToken
from server.storage.models import ConsultPatient
from signaling.core.model import JsonObject

MAX_IDENTIFIERS = 8
MAX_FOUND = 16


async def alike(
    session: AsyncSession, consult: str, kind: str, resource: JsonObject
) -> Sequence[tuple[str, JsonObject]]:
    """What the record has under the resource's id or one of its identifiers, with whose it is."""
    ours = select(ConsultPatient.patient_id).where(ConsultPatient.consult_id == consult)
    wanted: list[Any] = [FhirResource.id == str(resource["id"])[:64]]
    pairs = sorted(identifiers_of(resource))[:MAX_IDENTIFIERS]
    if pairs:
        keys = [(token_key(kind, "identifier", value), hash64("system", system)) for system, value in pairs]
        tokens = select(FhirToken.res).where(tuple_(FhirToken.key, FhirToken.system).in_(keys))
        wanted.append(FhirResource.res.in_(tokens))
    query = (
        select(FhirResource)
        .where(FhirResource.type == kind, FhirResource.deleted.is_(False), FhirResource.patient_id.in_(ours))
        .where(or_(*wanted))
        .limit(MAX_FOUND)
    )
    rows = (await session.scalars(query)).all()
    return [(row.patient_id or "", json.loads(row_text(row))) for row in rows]
