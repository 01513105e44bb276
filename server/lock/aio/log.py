"""The lock's log as an administrator searches it: what crossed, both ways, and what was asked; ids, codes and times.

A page is a hundred rows. A filter that seldom matches looks at a bounded stretch of the log for each page and says
where it stopped, so no question of an administrator reads a log of years at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from server.lock.core.figures import Span, percentiles
from server.storage.lock_tables import LockCrossing, LockOutbox, LockQuestion

PAGE = 100
STRETCH = 20_000
"""Rows that are looked at for one page."""
RECENT = 200
"""Crossings that the figures of the list are of."""
OUT, IN = "out", "in"
OK, NOT_OK = "ok", "not_ok"
_DONE = ("applied", "repeated")


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """What is wanted of the log; None is everything.

    Args:
        kind: as written, e.g. ``ORU^R01``; of questions the resource type.
        outcome: ``ok`` or ``not_ok``.
        from_ms, to_ms: ``[from_ms, to_ms)`` by the hub's clock.
        before: where the page before stopped.
    """

    kind: str | None = None
    outcome: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first, and where to go on; None at the end of the log."""

    rows: list[dict[str, Any]]
    next_before: int | None


async def crossed_out(session: AsyncSession, gateway: str, wanted: Filter) -> Page:
    """What came from a hospital."""
    table = LockCrossing
    about = _About(
        key=table.id, gateway=table.gateway_id, kind=table.kind, is_ok=table.verdict.in_(_DONE),
        at=table.hub_committed_us, per_ms=1_000,
    )  # fmt: skip
    found, stop = await _search(session, about, gateway, wanted)
    rows = [
        {
            "id": row.id, "sequence": row.sequence, "last": row.last, "source": row.source, "kind": row.kind,
            "size_bytes": row.size_bytes, "state": row.verdict, "code": row.code,
            "at_ms": row.hub_committed_us // 1_000, "took_us": _span(row).took_us if row.kind else None,
        }
        for row in found
    ]  # fmt: skip
    return _paged(rows, stop)


async def crossed_in(session: AsyncSession, gateway: str, wanted: Filter) -> Page:
    """What the hub sent into a hospital."""
    table = LockOutbox
    about = _About(
        key=table.sequence, gateway=table.gateway_id, kind=table.kind, is_ok=table.state != "refused",
        at=table.queued_us, per_ms=1_000,
    )  # fmt: skip
    found, stop = await _search(session, about, gateway, wanted)
    rows = [
        {
            "id": row.sequence, "sequence": row.sequence, "last": row.sequence, "source": row.source, "kind": row.kind,
            "size_bytes": row.size_bytes, "state": row.state, "code": row.code, "at_ms": row.queued_us // 1_000,
            "took_us": None if row.sent_us is None else max(0, row.sent_us - row.queued_us),
        }
        for row in found
    ]  # fmt: skip
    return _paged(rows, stop)


async def asked(session: AsyncSession, gateway: str, wanted: Filter) -> Page:
    """What was asked through the lock."""
    table = LockQuestion
    about = _About(
        key=table.id, gateway=table.gateway_id, kind=table.type, is_ok=table.code == "", at=table.at_ms, per_ms=1
    )
    found, stop = await _search(session, about, gateway, wanted)
    rows = [
        {
            "id": row.id, "consult": row.consult_id, "actor": row.actor, "kind": row.type, "at_ms": row.at_ms,
            "code": row.code, "count": row.count, "size_bytes": row.size_bytes, "took_us": row.took_us,
        }
        for row in found
    ]  # fmt: skip
    return _paged(rows, stop)


async def figures_of(session: AsyncSession, gateway: str) -> dict[str, Any]:
    """The last crossing of a gateway, and how long its newest ones took."""
    newest = select(LockCrossing).where(LockCrossing.gateway_id == gateway).order_by(LockCrossing.id.desc())
    rows = (await session.scalars(newest.limit(RECENT))).all()
    last = rows[0] if rows else None
    p50_us, p99_us = percentiles(_span(row).took_us for row in rows if row.kind)
    asks = select(LockQuestion.took_us).where(LockQuestion.gateway_id == gateway, LockQuestion.code == "")
    took = (await session.scalars(asks.order_by(LockQuestion.id.desc()).limit(RECENT))).all()
    read_p50_us, read_p99_us = percentiles(took)
    return {
        "last": None if last is None else {
            "kind": last.kind, "at_ms": last.hub_committed_us // 1_000, "state": last.verdict, "code": last.code,
        },
        "crossing_p50_us": p50_us, "crossing_p99_us": p99_us, "read_p50_us": read_p50_us, "read_p99_us": read_p99_us,
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class _About:
    """Columns of one log."""

    key: Any
    gateway: Any
    kind: Any
    is_ok: Any
    at: Any
    per_ms: int


async def _search(
    session: AsyncSession, about: _About, gateway: str, wanted: Filter
) -> tuple[Sequence[Any], int | None]:
    """Rows of one page, and the number down to which was looked; None where that was the end of the log."""
    where = [about.gateway == gateway]
    if wanted.before is not None:
        where.append(about.key < wanted.before)
    stop = await session.scalar(
        select(about.key).where(*where).order_by(about.key.desc()).offset(STRETCH - 1).limit(1)
    )  # fmt: skip
    if stop is not None:
        where.append(about.key >= stop)
    if wanted.kind is not None:
        where.append(about.kind == wanted.kind)
    if wanted.outcome is not None:
        where.append(about.is_ok if wanted.outcome == OK else ~about.is_ok)
    if wanted.from_ms is not None:
        where.append(about.at >= wanted.from_ms * about.per_ms)
    if wanted.to_ms is not None:
        where.append(about.at < wanted.to_ms * about.per_ms)
    query = select(about.key.class_).where(*where).order_by(about.key.desc()).limit(PAGE)
    return (await session.scalars(query)).all(), stop


def _paged(rows: list[dict[str, Any]], stop: int | None) -> Page:
    return Page(rows, int(rows[-1]["id"]) if len(rows) == PAGE else stop)


def _span(row: LockCrossing) -> Span:
    return Span((row.gateway_received_us, row.gateway_sent_us), (row.hub_received_us, row.hub_committed_us))
