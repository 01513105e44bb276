"""The lock as administrators watch it: gateways with their figures, and the log searched by kind, outcome and time.

Enrolling and revoking are `gateways.py`. Nothing here is of a patient: kinds, sizes, codes and times. An administrator
of a partner hospital sees her own gateways only; of others there are none.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from server.api.errors import ApiCode, ApiError
from server.api.gateways import LOCK, administrator, asked_gateway, gateway_json, local_authority, number_in
from server.api.request import services
from server.lock.aio.log import IN, NOT_OK, OK, OUT, Filter, Page, asked, crossed_in, crossed_out, figures_of
from server.storage.models import Hospital

routes = web.RouteTableDef()

MAX_KIND = 64


@routes.get("/api/lock/overview")
async def overview(request: web.Request) -> web.Response:
    """Gateways with state and figures, codes that wait, and for whom a new one may be made."""
    _person, own = await administrator(request, active=False)
    parts, now_ms = request.app[LOCK], services(request).now_ms()
    rows, codes = await parts.gateways.listed(own), await parts.codes.waiting(own)
    async with services(request).database.read() as session:
        query = select(Hospital).order_by(Hospital.hub, Hospital.name)
        hospitals = (await session.scalars(query if own is None else query.where(Hospital.id == own))).all()
        names = {one.id: one.name for one in hospitals}
        gateways = [
            {
                **gateway_json(parts.desk, row, now_ms),
                "hospital_name": names.get(row.hospital_id, ""),
                **await figures_of(session, row.id),
            }
            for row in rows
        ]
    found = {
        "gateways": gateways,
        "codes": [one | {"hospital_name": names.get(str(one["hospital"]), "")} for one in codes],
        "hospitals": [{"id": one.id, "name": one.name} for one in hospitals],
        "has_authority": local_authority(request) != "",
        "now_ms": now_ms,
    }
    return web.json_response(found)


@routes.get("/api/lock/gateways/{gateway}/crossings")
async def crossings(request: web.Request) -> web.Response:
    """What crossed: ``direction`` is ``out`` of the hospital or ``in``; ``kind``, ``outcome``, times; ``before``."""
    direction = request.query.get("direction", OUT)
    if direction not in (OUT, IN):
        raise ApiError(ApiCode.MALFORMED, "direction")
    return await _page(request, crossed_out if direction == OUT else crossed_in)


@routes.get("/api/lock/gateways/{gateway}/questions")
async def questions(request: web.Request) -> web.Response:
    """What was asked through the lock; the same filters."""
    return await _page(request, asked)


async def _page(request: web.Request, search: Callable[[AsyncSession, str, Filter], Awaitable[Page]]) -> web.Response:
    gateway, wanted = await asked_gateway(request), _filter(request)
    async with services(request).database.read() as session:
        page = await search(session, gateway.id, wanted)
    answer: dict[str, Any] = {"rows": page.rows, "next_before": page.next_before}
    return web.json_response(answer)


def _filter(request: web.Request) -> Filter:
    kind, outcome = request.query.get("kind") or None, request.query.get("outcome") or None
    if kind is not None and (len(kind) > MAX_KIND or not kind.isprintable()):
        raise ApiError(ApiCode.MALFORMED, "kind")
    if outcome not in (None, OK, NOT_OK):
        raise ApiError(ApiCode.MALFORMED, "outcome")
    from_ms, to_ms, before = (number_in(request, name) for name in ("from_ms", "to_ms", "before"))
    if any(value is not None and value > 2**53 for value in (from_ms, to_ms, before)):
        raise ApiError(ApiCode.MALFORMED, "number")
    return Filter(kind=kind, outcome=outcome, from_ms=from_ms, to_ms=to_ms, before=before)
