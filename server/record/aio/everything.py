"""All of one patient's record, page by page (``Patient/$everything``), by type and then by age in the store.

A page begins where the last one ended in one index, so the thousandth page costs
what the first did.
"""

from collections.abc import Sequence

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from server.storage.fhir_tables import FhirResource

Place = tuple[str, int]
"""Type and number of the last row of a page."""


async def everything(
    session: AsyncSession,
    patient: str,
    *,
    types: Sequence[str] | None = None,
    since_ms: int | None = None,
    after: Place | None = None,
    count: int = 100,
) -> tuple[list[FhirResource], Place | None]:
    """One page, and where the next one begins; what is written meanwhile comes with it or not, but nothing twice."""
    query = select(FhirResource).where(FhirResource.patient_id == patient, FhirResource.deleted.is_(False))
    if types is not None:
        query = query.where(FhirResource.type.in_(sorted(types)))
    if since_ms is not None:
        query = query.where(FhirResource.written_at_ms >= since_ms)
    if after is not None:
        kind, res = after
        query = query.where(
            FhirResource.type >= kind,
            or_(FhirResource.type > kind, and_(FhirResource.type == kind, FhirResource.res > res)),
        )
    rows = list(await session.scalars(query.order_by(FhirResource.type, FhirResource.res).limit(count + 1)))
    following = (rows[count - 1].type, rows[count - 1].res) if len(rows) > count else None
    return rows[:count], following
