"""Make all index rows anew when the rules they follow have changed with the program.

In one transaction, so that nobody ever searches half an index. A hub of a
million resources waits minutes for it, once for each such change.
"""

from typing import Any

import structlog
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server.decimals import parse_json
from server.record.core.index import INDEX_VERSION, IndexRows, index_rows, index_values, primary_partition
from server.record.core.layout import kept_text
from server.record.core.params import TYPES
from server.record.core.resource import first_code, is_test, patient_of
from server.storage.database import Database
from server.storage.fhir_tables import (
    FhirDate,
    FhirQuantity,
    FhirResource,
    FhirStore,
    FhirString,
    FhirToken,
    FhirVersion,
)

log = structlog.get_logger(__name__)

BATCH = 1_000


async def reindex(database: Database) -> int:
    """Bring the index to `INDEX_VERSION`; how many resources were looked at (0 when it was there already)."""
    async with database.read() as session:
        if await session.scalar(select(FhirStore.index_version)) == INDEX_VERSION:
            return 0
    async with database.write() as session:
        # Of two nodes that start together, the second waits here and then finds nothing to do.
        at = await session.scalar(select(FhirStore.index_version).with_for_update())
        if at == INDEX_VERSION:
            return 0
        done = await _all(session)
        await session.execute(update(FhirStore).values(index_version=INDEX_VERSION))
    log.info("record indexed", resources=done)
    return done


async def _all(session: AsyncSession) -> int:
    for table in (FhirToken, FhirDate, FhirString, FhirQuantity):
        await session.execute(delete(table))
    await _old_layouts(session)
    after, done = 0, 0
    while rows := (await session.execute(_page(after))).all():
        made: dict[Any, list[Any]] = {}
        for row in rows:
            if not row.deleted and row.type in TYPES:
                for table, some in by_table(await _one(session, row)):
                    made.setdefault(table, []).extend(some)
        for table, some in made.items():
            await _insert(session, table, sorted(some))
        after, done = rows[-1].res, done + len(rows)
    return done


def _page(after: int) -> Any:
    return (
        select(*FhirResource.__table__.columns).where(FhirResource.res > after).order_by(FhirResource.res).limit(BATCH)
    )


async def _one(session: AsyncSession, row: Any) -> IndexRows:
    """Its rows; the row of the resource itself is brought to the rules where they have changed for it."""
    content = parse_json(row.json)
    values = index_values(content)
    patient = patient_of(row.type, content)
    if row.type == "Provenance" and patient is None:
        patient = await session.scalar(select(FhirResource.patient_id).where(FhirResource.res == row.res))
    changed = {
        "patient_id": patient,
        "part": primary_partition(patient),
        "low_us": values.clinical.low_us,
        "category": first_code(content.get("category")),
        "test": is_test(content),
        "json": kept_text(content),
    }
    if any(getattr(row, name) != value for name, value in changed.items()):
        await session.execute(update(FhirResource).where(FhirResource.res == row.res).values(**changed))
    return index_rows(row.type, values, row.res, patient, row.owner)


async def _old_layouts(session: AsyncSession) -> None:
    """Versions that were kept before `layout.py` put ``meta`` in front."""
    query = select(FhirVersion.type, FhirVersion.id, FhirVersion.version, FhirVersion.json).where(
        FhirVersion.json != "", FhirVersion.json.not_like('{"meta":{%')
    )
    for kind, id_, version, text in (await session.execute(query)).all():
        where = (FhirVersion.type == kind, FhirVersion.id == id_, FhirVersion.version == version)
        await session.execute(update(FhirVersion).where(*where).values(json=kept_text(parse_json(text))))


def by_table(rows: IndexRows) -> list[tuple[Any, list[Any]]]:
    """Each index table with its rows."""
    return [
        (FhirToken, list(rows.tokens)),
        (FhirDate, list(rows.dates)),
        (FhirString, list(rows.strings)),
        (FhirQuantity, list(rows.quantities)),
    ]


async def insert_rows(session: AsyncSession, rows: IndexRows) -> None:
    """Put index rows in."""
    for table, some in by_table(rows):
        await _insert(session, table, some)


async def _insert(session: AsyncSession, table: Any, rows: list[Any]) -> None:
    if rows:
        names = [column.key for column in table.__table__.columns]
        await session.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])
