"""The record of the open patient, bound to the context version the caller shows (W19).

There is no way to ask for a patient by id. A caller names the context version it
shows; when another patient has been opened meanwhile, the answer is 409 and the
view has to clear itself first. Every answer is an audited read (G5).
"""

import base64
import binascii
import json
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from server.api.errors import ApiCode, ApiError
from server.api.request import member, permitted, services
from server.identity.core.policy import Action
from server.identity.core.principal import Membership, Principal
from server.metrics import RECORD_READS
from server.record.aio.store import find_one, find_resources
from server.record.core.resource import BINARY_TYPES, RECORD_TYPES
from server.storage import audit
from signaling.core.model import Context

routes = web.RouteTableDef()

_MAX_VERSION = 2**32 - 1


@routes.get("/api/consults/{consult}/record/Binary/{id}")
async def binary(request: web.Request) -> web.Response:
    """The bytes of one document with their own content type."""
    principal, found, context = await _open_context(request)
    async with services(request).database.read() as session:
        resource = await find_one(session, context.patient.id, "Binary", request.match_info["id"])
    await _record_read(request, principal, found, context, "Binary", 0 if resource is None else 1)
    if resource is None or resource.get("contentType") not in BINARY_TYPES:
        raise ApiError(ApiCode.NOT_FOUND)
    try:
        data = base64.b64decode(resource.get("data", ""), validate=True)
    except binascii.Error:
        raise ApiError(ApiCode.NOT_FOUND, "stored data is not base64") from None
    headers = {
        "Content-Type": BINARY_TYPES[resource["contentType"]],
        "Content-Disposition": "inline",
        "X-Context-Version": str(context.version),
    }
    return web.Response(body=data, headers=headers)


@routes.get("/api/consults/{consult}/record/{type}")
async def search(request: web.Request) -> web.Response:
    """All present resources of one type of the open patient, newest first, as a searchset Bundle."""
    kind = request.match_info["type"]
    if kind not in RECORD_TYPES or kind == "Binary":
        raise ApiError(ApiCode.NOT_FOUND)
    principal, found, context = await _open_context(request)
    category = request.query.get("category")
    if category is not None and not 0 < len(category) <= 64:
        raise ApiError(ApiCode.MALFORMED, "category")
    async with services(request).database.read() as session:
        resources = await find_resources(session, context.patient.id, kind, category)
    await _record_read(request, principal, found, context, kind, len(resources))
    bundle = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(resources),
        "entry": [{"resource": resource, "search": {"mode": "match"}} for resource in resources],
    }
    headers = {"X-Context-Version": str(context.version), "Content-Type": "application/fhir+json"}
    return web.Response(text=json.dumps(bundle, ensure_ascii=False), headers=headers)


async def _open_context(request: web.Request) -> tuple[Principal, Membership, Context]:
    """The open patient, if the caller may read and shows the right version.

    Raises:
        ApiError: ``not_allowed``, ``not_found``, ``malformed`` or ``context_changed``.
    """
    principal = await permitted(request, Action.READ_RECORD)
    found = await member(request, principal)
    text = request.query.get("version", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_VERSION):
        raise ApiError(ApiCode.MALFORMED, "version")
    consult = await services(request).store.load(found.consult)
    context = consult.context if consult is not None else None
    if context is None or context.version != int(text):
        raise ApiError(ApiCode.CONTEXT_CHANGED)
    return principal, found, context


async def _record_read(
    request: web.Request, principal: Principal, found: Membership, context: Context, kind: str, count: int
) -> None:
    """The read is on record before the answer leaves."""
    RECORD_READS.labels(kind).inc()
    body: dict[str, Any] = {
        "participant": found.participant,
        "patient": context.patient.id,
        "version": context.version,
        "type": kind,
        "count": count,
    }
    entry = audit.Entry(
        kind="record_read",
        at_ms=services(request).now_ms(),
        actor=principal.actor,
        consult_id=found.consult,
        body=body,
    )
    session: AsyncSession
    async with services(request).database.write() as session:
        await audit.append(session, [entry])
