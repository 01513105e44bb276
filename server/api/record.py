"""The record of the open patient, bound to the context version the caller shows (W19).

There is no way to ask for a patient by id. A caller names the context version it
shows; when another patient has been opened meanwhile, the answer is 409 and the
view has to clear itself first. Every answer is an audited read (G5).
"""

import base64
import binascii
import json
from os import urandom
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from server.api.errors import ApiCode, ApiError
from server.api.request import permitted, services
from server.identity.aio.members import membership_in
from server.identity.core.policy import Action
from server.identity.core.principal import Membership, Principal
from server.metrics import RECORD_READS
from server.record.aio.search import search as find_page
from server.record.aio.store import counts_of, find_one, find_texts
from server.record.core.cursor import NONCE_BYTES, Position, seal, unseal
from server.record.core.outcome import FhirRefusal
from server.record.core.query import parse_query
from server.record.core.reach import Reach
from server.record.core.resource import BINARY_TYPES, RECORD_TYPES
from server.smart.aio.access import Recorder
from server.storage import audit
from server.storage.at_once import Hand
from server.storage.consult_store import Meanings, snapshot_in
from signaling.core.ids import ConsultId
from signaling.core.model import Context

routes = web.RouteTableDef()

CURSOR_KEY: web.AppKey[bytes] = web.AppKey("record_cursor_key", bytes)
"""Seals cursors, here and at ``/fhir``."""

RECORDER: web.AppKey[Recorder] = web.AppKey("record_recorder", Recorder)
"""Puts readings on record, here and at ``/fhir``; those of one page share a transaction."""

MEANINGS: web.AppKey[Meanings] = web.AppKey("record_meanings", Meanings)

_MAX_VERSION = 2**32 - 1


@routes.get("/api/consults/{consult}/record/Binary/{id}")
async def binary(request: web.Request) -> web.Response:
    """The bytes of one document with their own content type."""
    principal, found, context = await open_context(request)
    async with services(request).database.read() as session:
        resource = await find_one(session, context.patient.id, "Binary", request.match_info["id"])
    await note_read(request, principal, found, context, "Binary", 0 if resource is None else 1)
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


@routes.get("/api/consults/{consult}/record")
async def counts(request: web.Request) -> web.Response:
    """How many resources of each type the open patient has: what there is to page through."""
    principal, found, context = await open_context(request)
    async with services(request).database.read() as session:
        numbers = await counts_of(session, context.patient.id)
    await note_read(request, principal, found, context, "counts", 0)
    headers = {"X-Context-Version": str(context.version)}
    return web.json_response({"version": context.version, "counts": numbers}, headers=headers)


@routes.get("/api/consults/{consult}/record/{type}")
async def search(request: web.Request) -> web.Response:
    """Present resources of one type of the open patient, newest first, as a searchset Bundle.

    Without ``_count`` all of them. With it pages: ``next`` of the Bundle's links leads on until the patient is closed,
    also under a later version that a report opened beside has made ([AN2]). ``code``, ``category`` and
    ``category:not`` choose as in FHIR; ``since`` (a FHIR instant) leaves out what was written before.
    """
    kind = request.match_info["type"]
    if kind not in RECORD_TYPES or kind == "Binary":
        raise ApiError(ApiCode.NOT_FOUND)
    principal, found, context = await open_context(request)
    category = request.query.get("category")
    if category is not None and not 0 < len(category) <= 64:
        raise ApiError(ApiCode.MALFORMED, "category")
    bound = f"{principal.actor}\n{found.consult}\n{context.patient.id} {context.opened_at_ms}\n{kind}"
    async with services(request).database.read() as session:
        if request.query.keys() & {"_count", "_cursor", "since"}:
            texts, total, following = await _paged(request, session, kind, context, bound)
        else:
            texts = await find_texts(session, context.patient.id, kind, category)
            total, following = len(texts), None
    await note_read(request, principal, found, context, kind, len(texts))
    head: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if total is not None:
        head["total"] = total
    if following is not None:
        query = urlencode({"version": context.version, "_cursor": following})
        head["link"] = [{"relation": "next", "url": f"{request.path}?{query}"}]
    entries = ",".join(f'{{"resource":{text},"search":{{"mode":"match"}}}}' for text in texts)
    headers = {"X-Context-Version": str(context.version), "Content-Type": "application/fhir+json"}
    return web.Response(text=f'{json.dumps(head)[:-1]},"entry":[{entries}]}}', headers=headers)


async def _paged(
    request: web.Request, session: AsyncSession, kind: str, context: Context, bound: str
) -> tuple[list[str], int | None, str | None]:
    """Texts of a page, how many there are in all (told on the first), and the cursor of the next."""
    key, after = request.app[CURSOR_KEY], None
    whose = ("_id" if kind == "Patient" else "patient", context.patient.id)
    asked = {"category": "category", "category:not": "category:not", "code": "code", "_count": "_count"}
    pairs = [(asked[name], value) for name, value in request.query.items() if name in asked]
    pairs += [("_lastUpdated", f"ge{value}") for value in request.query.getall("since", [])]
    try:
        if (cursor := request.query.get("_cursor")) is not None:
            place = unseal(key, bound, cursor)
            pairs = [(str(name), str(value)) for name, value in place["pairs"]]
            after = Position(place["at"], place["res"])
        query = parse_query(kind, [whose, *pairs, ("_total", "none" if after else "accurate")])
    except FhirRefusal as refusal:
        raise ApiError(ApiCode.MALFORMED, refusal.detail) from None
    page = await find_page(session, kind, query, reach=Reach.of_patients([context.patient.id]), after=after)
    content = page.following and {"pairs": pairs, "at": page.following.at, "res": page.following.res}
    return page.texts, page.total, seal(key, urandom(NONCE_BYTES), bound, content) if content else None


async def open_context(request: web.Request) -> tuple[Principal, Membership, Context]:
    """The open patient, if the caller may read and shows the right version.

    Raises:
        ApiError: ``not_allowed``, ``not_found``, ``malformed`` or ``context_changed``.
    """
    consult = ConsultId(request.match_info["consult"])
    standing: list[tuple[Membership | None, str | None]] = []

    def look(hand: Hand, principal: Principal) -> None:
        standing.append((membership_in(hand, principal, consult), snapshot_in(hand, consult)))

    principal = await permitted(request, Action.READ_RECORD, beside=look)
    ((found, snapshot),) = standing
    if found is None:
        raise ApiError(ApiCode.NOT_FOUND)
    text = request.query.get("version", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_VERSION):
        raise ApiError(ApiCode.MALFORMED, "version")
    shown = request.app[MEANINGS].of(consult, snapshot)
    context = shown.context if shown is not None else None
    if context is None or context.version != int(text):
        raise ApiError(ApiCode.CONTEXT_CHANGED)
    return principal, found, context


async def note_read(
    request: web.Request, principal: Principal, found: Membership, context: Context, kind: str, count: int
) -> None:
    """The read is on record before the answer leaves.

    Raises:
        ApiError: ``too_busy``.
    """
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
    try:
        await request.app[RECORDER].record([entry])
    except FhirRefusal:
        raise ApiError(ApiCode.TOO_BUSY, "readers", retry_after_s=1) from None
