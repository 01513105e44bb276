"""Searches: a page of what fits (the statement is `plan.py`), what is to come with it, and chains.

Chains and ``_has`` are searches of their own, asked first and in the same reach:
what they find becomes a criterion of the search that named them.
"""

import json
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from server.record.aio.plan import FLAT, Plan
from server.record.aio.store import row_text
from server.record.core.cursor import Position
from server.record.core.index import (
    DIRECTORY_PARTITION,
    patient_partition,
    references_by,
    token_key,
    type_key,
)
from server.record.core.outcome import FhirCode, FhirRefusal
from server.record.core.params import TOKEN, TYPES
from server.record.core.query import (
    Criterion,
    Link,
    Query,
    TokenValue,
    parse_query,
)
from server.record.core.reach import Reach, in_compartment
from server.record.core.resource import local_reference
from server.storage.fhir_tables import FhirResource, FhirToken

MAX_INCLUDED = 1_000
MAX_LINKED = 500
"""Resources at the other end of a chain: more are a question of their own."""
_IN_A_QUERY = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page of a search.

    Args:
        rows: what fits, in order; ``texts`` beside them as sent.
        included: what was asked for with it.
        following: where the next page begins; None on the last one.
        total: how many fit in all, where that was asked for.
        cut: not all that was to be included is there.
    """

    rows: list[FhirResource]
    included: list[FhirResource]
    following: Position | None
    total: int | None
    cut: bool = False

    @property
    def texts(self) -> list[str]:
        """Matches as sent."""
        return [row_text(row) for row in self.rows]


async def search(
    session: AsyncSession,
    kind: str,
    parameters: Sequence[tuple[str, str]] | Query,
    *,
    reach: Reach,
    after: Position | None = None,
) -> Page:
    """One page of what fits and may be seen.

    Raises:
        FhirRefusal: the query cannot be read.
    """
    query = parameters if isinstance(parameters, Query) else parse_query(kind, parameters)
    query = await _without_links(session, query, reach)
    plan = Plan(query, reach)
    if not plan.empty and session.get_bind().dialect.name == "postgresql":
        await session.execute(text(FLAT))
    if plan.empty:
        return Page(rows=[], included=[], following=None, total=0 if query.total or query.count_only else None)
    total = (await session.execute(plan.counting())).scalar_one() if query.total or query.count_only else None
    if query.count_only:
        return Page(rows=[], included=[], following=None, total=total)
    found = (await session.execute(plan.page(after))).all()
    following = Position(found[query.count - 1].at, found[query.count - 1].number) if len(found) > query.count else None
    rows: list[FhirResource] = [row.FhirResource for row in found[: query.count]]
    rows = [row for row in rows if reach.covers(row.patient_id, row.owner)]
    included, cut = await _included(session, query, rows, reach)
    return Page(rows=rows, included=included, following=following, total=total, cut=cut)


# ------------------------------------------------------------------ includes


async def _included(
    session: AsyncSession, query: Query, rows: Sequence[FhirResource], reach: Reach
) -> tuple[list[FhirResource], bool]:
    found: dict[int, FhirResource] = {}
    contents = [(row, json.loads(row.json)) for row in rows] if query.includes else []
    for include, target in query.includes:
        param = TYPES[query.type].params[include.partition(":")[2]]
        wanted: dict[tuple[str, str], set[str | None]] = {}
        for row, content in contents:
            for to in references_by(content, param):
                local = local_reference(to)
                if local is not None and target in ("", local[0]):
                    wanted.setdefault(local, set()).add(row.patient_id)
        for row in await visible(session, wanted.keys(), reach):
            # A reference that was written before its target came may lead to another patient's. Only the links
            # between Patients are meant to.
            if row.patient_id is None or query.type == "Patient" or wanted[(row.type, row.id)] & {row.patient_id, None}:
                found.setdefault(row.res, row)
    for include in query.revincludes:
        for row in await _pointing(session, include, rows, reach):
            found.setdefault(row.res, row)
    for row in rows:
        found.pop(row.res, None)
    return list(found.values())[:MAX_INCLUDED], len(found) > MAX_INCLUDED


async def visible(session: AsyncSession, wanted: AbstractSet[tuple[str, str]], reach: Reach) -> list[FhirResource]:
    """Present resources by type and id, those that may be seen."""
    by_type: dict[str, list[str]] = {}
    for kind, id_ in sorted(wanted):
        by_type.setdefault(kind, []).append(id_)
    rows: list[FhirResource] = []
    for kind, ids in by_type.items():
        for start in range(0, len(ids), _IN_A_QUERY):
            statement = select(FhirResource).where(
                FhirResource.type == kind,
                FhirResource.id.in_(ids[start : start + _IN_A_QUERY]),
                FhirResource.deleted.is_(False),
            )
            rows.extend(await session.scalars(statement))
    return [row for row in rows if reach.covers(row.patient_id, row.owner)]


async def _pointing(
    session: AsyncSession, include: str, rows: Sequence[FhirResource], reach: Reach
) -> list[FhirResource]:
    """Resources that refer to the page's, by the parameter that ``include`` names."""
    source, _, name = include.partition(":")
    if not rows:
        return []
    parts = _parts_pointing(source, rows, reach)
    if TYPES[source].params[name].compartment:
        keys = [type_key(source)]
    else:
        keys = [token_key(source, name, f"{row.type}/{row.id}") for row in rows]
    numbers: list[int] = []
    for start in range(0, len(keys), _IN_A_QUERY):
        statement = (
            select(FhirToken.res)
            .where(FhirToken.key.in_(keys[start : start + _IN_A_QUERY]), FhirToken.part.in_(parts))
            .limit(MAX_INCLUDED + 1 - len(numbers))
        )
        numbers.extend(await session.scalars(statement))
    found: list[FhirResource] = []
    for start in range(0, len(numbers), _IN_A_QUERY):
        some = numbers[start : start + _IN_A_QUERY]
        found.extend(await session.scalars(select(FhirResource).where(FhirResource.res.in_(some))))
    return [row for row in found if not row.deleted and reach.covers(row.patient_id, row.owner)]


def _parts_pointing(source: str, rows: Sequence[FhirResource], reach: Reach) -> list[int]:
    """Where to look for what refers to a page."""
    if not in_compartment(source):
        return [DIRECTORY_PARTITION]
    parts = sorted({row.part for row in rows if row.patient_id is not None})
    if parts:
        return parts
    if reach.patients is None:
        # References are not filed under the hospital: nothing found would look like nothing there.
        raise FhirRefusal(FhirCode.UNSUPPORTED, "records that refer to the directory, without naming a patient")
    return sorted(map(patient_partition, reach.patients))


# ------------------------------------------------------------------ chains


async def _without_links(session: AsyncSession, query: Query, reach: Reach) -> Query:
    """The same query with what is at the other end of its links looked up, in the same reach."""
    for link in query.links:
        inner = await _without_links(session, link.query, reach)
        found = (
            await _pointed_at(session, query.type, link.name, inner, reach)
            if link.reverse
            else await _ids(session, inner, reach)
        )
        query = _narrowed(query, link, found)
    return replace(query, links=())


async def _ids(session: AsyncSession, query: Query, reach: Reach) -> frozenset[str]:
    page = await search(session, query.type, replace(query, count=MAX_LINKED), reach=reach)
    if page.following is not None:
        raise FhirRefusal(FhirCode.TOO_MANY, f"the chain leads to more than {MAX_LINKED}")
    return frozenset(row.id for row in page.rows)


async def _pointed_at(session: AsyncSession, kind: str, name: str, query: Query, reach: Reach) -> frozenset[str]:
    """Ids of ``kind`` that the resources which fit refer to."""
    param = TYPES[query.type].params[name]
    if param.compartment:
        plan = Plan(query, reach)
        if plan.empty:
            return frozenset()
        whose = (await session.scalars(plan.patients(MAX_LINKED + 1))).all()
        if len(whose) > MAX_LINKED:
            raise FhirRefusal(FhirCode.TOO_MANY, f"the chain leads to more than {MAX_LINKED}")
        return frozenset(one for one in whose if one is not None)
    page = await search(session, query.type, replace(query, count=MAX_LINKED), reach=reach)
    if page.following is not None:
        raise FhirRefusal(FhirCode.TOO_MANY, f"the chain begins at more than {MAX_LINKED}")
    found = (local_reference(to) for row in page.rows for to in references_by(json.loads(row.json), param))
    return frozenset(local[1] for local in found if local is not None and local[0] == kind)


def _narrowed(query: Query, link: Link, found: frozenset[str]) -> Query:
    if link.reverse:
        ids = found if query.ids is None else query.ids & found
        query = replace(query, ids=ids)
    elif not TYPES[query.type].params[link.name].compartment:
        values = tuple(TokenValue(f"{link.query.type}/{id_}", "") for id_ in sorted(found))
        return replace(query, criteria=(*query.criteria, Criterion(link.name, TOKEN, values)))
    if not link.reverse or query.type == "Patient":
        query = replace(query, patients=found if query.patients is None else query.patients & found)
    return query


async def matching_ids(
    session: AsyncSession, query: Query, *, reach: Reach, without: AbstractSet[str] = frozenset()
) -> list[str]:
    """Ids of what fits a condition, for conditional writes; two are enough to know that there are several.

    Args:
        without: ids that are on their way out.
    """
    page = await search(session, query.type, replace(query, count=2 + len(without)), reach=reach)
    return [row.id for row in page.rows if row.id not in without][:2]
