"""Gateways: enrolment with a one-time code, and what administrators see and do.

An administrator of the hub manages the gateways of every hospital, one of a partner those of her own. A gateway enrols
with its code as bearer: that is the only secret it has by then.
"""

import contextlib
from typing import Annotated

from aiohttp import web
from pydantic import Field

from server.api.errors import ApiCode, ApiError
from server.api.guard import bearer
from server.api.request import (
    MAX_SECRET_CHARS,
    Body,
    address_of,
    permitted_person,
    read_body,
    services,
    throttle,
)
from server.enrol.aio.codes import CodeInvalid
from server.enrol.core.codes import ENROL, ENROL_ALL, NEW_CODE
from server.identity.aio.throttle import TooManyAttempts
from server.identity.core.policy import Action
from server.identity.core.principal import PersonPrincipal
from server.identity.core.rules import Throttle
from server.lock.aio.desk import LockDesk
from server.lock.aio.gateways import KIND, MOST_LISTED, ProofInvalid
from server.lock.aio.parts import LockParts
from server.lock.core.wire import PATH
from server.storage.lock_tables import GatewayRow
from server.storage.models import Hospital
from server.tls import AuthorityFiles

LOCK: web.AppKey[LockParts] = web.AppKey("lock", LockParts)
LISTED = 100
SEEN_MS = 30_000
"""A connection is noted every ten seconds; three missed and it is none."""

HANDSHAKE = Throttle(name="lock_handshake", attempts=60, window_s=60)
"""Failed ones; a gateway that proves its key is not counted."""

routes = web.RouteTableDef()


class NewCode(Body):
    """For which hospital, and how the gateway will be called in lists."""

    hospital: Annotated[str, Field(min_length=1, max_length=64)]
    name: Annotated[str, Field(min_length=1, max_length=200)]


class Enrolment(Body):
    """A newcomer's public key and its signature, both hexadecimal."""

    kind: Annotated[str, Field(pattern=f"^{KIND}$")]
    public_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]


@routes.get(PATH)
async def connect(request: web.Request) -> web.StreamResponse:
    """The lock's WebSocket; everything about it is LOCK_PROTOCOL.md. What fails is counted for its address. [LK7]"""
    attempts, address = services(request).attempts, address_of(request)
    try:
        await attempts.check(HANDSHAKE, address)
    except TooManyAttempts as many:
        raise ApiError(ApiCode.TOO_MANY_ATTEMPTS, retry_after_s=many.retry_after_s) from None

    async def failed() -> None:
        with contextlib.suppress(TooManyAttempts):
            await attempts.take(HANDSHAKE, address)

    return await request.app[LOCK].desk.serve(request, address, failed)


@routes.post("/api/enrol")
async def enrol(request: web.Request) -> web.Response:
    """Spend a code; the answer is all a gateway needs to know of its hub."""
    await throttle(request, ENROL)
    await throttle(request, ENROL_ALL, "all")
    code = bearer(request)
    body = await read_body(request, Enrolment)
    if code is None or len(code) > MAX_SECRET_CHARS:
        raise ApiError(ApiCode.ENROLMENT_INVALID)
    parts = request.app[LOCK]
    try:
        enrolled = await parts.gateways.enrol(code, bytes.fromhex(body.public_key), bytes.fromhex(body.signature))
    except CodeInvalid:
        raise ApiError(ApiCode.ENROLMENT_INVALID) from None
    except ProofInvalid:
        raise ApiError(ApiCode.MALFORMED, "proof") from None
    return web.json_response(
        {
            "gateway": enrolled.gateway,
            "name": enrolled.name,
            "hospital": {"id": enrolled.hospital, "name": enrolled.hospital_name},
            "hub_key": parts.hub_key.hex(),
            "authority": local_authority(request),
        }
    )


@routes.post("/api/gateways/codes")
async def make_code(request: web.Request) -> web.Response:
    """A one-time code; it is shown here and never again."""
    person, own = await administrator(request)
    await throttle(request, NEW_CODE, person.credential)
    body = await read_body(request, NewCode)
    async with services(request).database.read() as session:
        hospital = await session.get(Hospital, body.hospital)
    if hospital is None or own not in (None, hospital.id):
        raise ApiError(ApiCode.NOT_FOUND)
    made = await request.app[LOCK].codes.make(person, kind=KIND, hospital=hospital.id, name=body.name.strip())
    return web.json_response({"id": made.id, "code": made.code, "expires_at_ms": made.expires_at_ms})


@routes.get("/api/gateways")
async def list_gateways(request: web.Request) -> web.Response:
    """Gateways with what is known of their connection, and codes that wait to be used."""
    _person, own = await administrator(request, active=False)
    parts, now_ms = request.app[LOCK], services(request).now_ms()
    rows = await parts.gateways.listed(own)
    return web.json_response(
        {"gateways": [gateway_json(parts.desk, row, now_ms) for row in rows], "codes": await parts.codes.waiting(own)}
    )


@routes.delete("/api/gateways/{gateway}")
async def revoke(request: web.Request) -> web.Response:
    """End a gateway's right and its connection, now."""
    person, own = await administrator(request)
    parts, gateway = request.app[LOCK], request.match_info["gateway"]
    if not await parts.gateways.revoke(person, gateway, own):
        raise ApiError(ApiCode.NOT_FOUND)
    await parts.desk.revoked(gateway)
    return web.Response(status=204)


@routes.get("/api/gateways/{gateway}/crossings")
async def crossings(request: web.Request) -> web.Response:
    """What crossed, newest first; ``before`` is the last id of the page before."""
    gateway = await asked_gateway(request)
    before, limit = number_in(request, "before"), number_in(request, "limit") or LISTED
    found = await request.app[LOCK].gateways.crossings(gateway.id, before, min(limit, MOST_LISTED))
    return web.json_response({"crossings": found})


@routes.get("/api/gateways/{gateway}/questions")
async def questions(request: web.Request) -> web.Response:
    """What was asked through the lock, newest first."""
    gateway = await asked_gateway(request)
    before, limit = number_in(request, "before"), number_in(request, "limit") or LISTED
    found = await request.app[LOCK].gateways.questions(gateway.id, before, min(limit, MOST_LISTED))
    return web.json_response({"questions": found})


# ---------------------------------------------------------------- parts


async def administrator(request: web.Request, *, active: bool = True) -> tuple[PersonPrincipal, str | None]:
    """Who asks, and the one hospital they may manage; None is all."""
    person = await permitted_person(request, Action.MANAGE_GATEWAYS, active=active)
    async with services(request).database.read() as session:
        hospital = await session.get(Hospital, person.hospital_id)
    return person, None if hospital is not None and hospital.hub else person.hospital_id


async def asked_gateway(request: web.Request) -> GatewayRow:
    """The gateway of the address, if the caller may see it."""
    _person, own = await administrator(request, active=False)
    row = await request.app[LOCK].gateways.find(request.match_info["gateway"], own)
    if row is None:
        raise ApiError(ApiCode.NOT_FOUND)
    return row


def number_in(request: web.Request, name: str) -> int | None:
    """A natural number of the query; None when it is absent."""
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ApiError(ApiCode.MALFORMED, name)
    return int(text)


def local_authority(request: web.Request) -> str:
    """The local authority's certificate, where this hub's own comes from one: the gateway then trusts nothing else."""
    settings = services(request).settings
    own = AuthorityFiles(folder=settings.data_dir / "tls")
    if settings.tls_cert_file != own.cert or not own.ca_cert.exists():
        return ""
    return own.ca_cert.read_text("ascii")


def gateway_json(desk: LockDesk, row: GatewayRow, now_ms: int) -> dict[str, object]:
    # Of another process of this hub only the database tells, and a killed one no longer corrects it.
    elsewhere = row.connected_at_ms is not None and now_ms - (row.seen_at_ms or 0) < SEEN_MS
    return {
        "id": row.id,
        "hospital": row.hospital_id,
        "name": row.name,
        "enrolled_at_ms": row.enrolled_at_ms,
        "revoked_at_ms": row.revoked_at_ms,
        "connected": desk.connected(row.id) or elsewhere,
        "connected_at_ms": row.connected_at_ms,
        "seen_at_ms": row.seen_at_ms,
        "software": row.software,
        "policy": row.policy,
        "received": row.received,
        "outbox_waiting": row.outbox_last - row.outbox_acked,
        "offset_us": desk.offset_us(row.id) if desk.connected(row.id) else row.offset_us,
    }
