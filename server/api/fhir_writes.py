"""Writing at ``/fhir``: one resource, or a Bundle; see `fhir.py`."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web
from sqlalchemy.exc import IntegrityError

from server.api.fhir_answers import (
    fhir_route,
    read_json,
    refused,
    resource_answer,
    version_headers,
)
from server.api.fhir_shared import address_of, may, next_url, on_record, search_place, self_url, type_of
from server.api.request import services
from server.api.smart import base_of
from server.decimals import text_of
from server.metrics import RECORD_READS
from server.record.aio.carrying import Result, Writer
from server.record.aio.writes import (
    Prepared,
    answer_entry,
    append_written,
    prepare,
    prepare_one,
    refused_entry,
    response,
    run_one,
    run_transaction,
)
from server.record.core.bundle import Step, read_condition, read_etag
from server.record.core.cursor import Position
from server.record.core.outcome import FhirCode, FhirRefusal, Place, information, outcome
from server.record.core.params import TYPES
from server.record.core.query import Query
from server.record.core.resource import is_id
from server.smart.aio.access import Caller, caller_of, read_entry
from server.smart.aio.bearer import AccessToken, bearer
from server.storage import audit

routes = web.RouteTableDef()


@routes.post("/fhir/{type}")
@fhir_route
async def create(request: web.Request) -> web.StreamResponse:
    """A new resource under an id of ours; with If-None-Exist only if none fits."""
    kind = type_of(request)
    exists = request.headers.get("If-None-Exist")
    condition = None if exists is None else read_condition(exists)
    step = Step(place=0, method="POST", type=kind, condition=condition, resource=await _body(request, kind))
    return await _write(request, step)


@routes.put("/fhir/{type}/{id}")
@fhir_route
async def update(request: web.Request) -> web.StreamResponse:
    """The next version of a resource; with If-Match only of the version that was seen."""
    kind, id_ = address_of(request)
    resource = await _body(request, kind)
    if resource.get("id") != id_:
        raise FhirRefusal(FhirCode.WRONG_ID, "", [Place(f"{kind}.id")])
    return await _write(
        request, Step(place=0, method="PUT", type=kind, id=id_, if_match=_if_match(request), resource=resource)
    )


@routes.put("/fhir/{type}")
@fhir_route
async def conditional_update(request: web.Request) -> web.StreamResponse:
    """The next version of the one resource that fits, or a new one."""
    kind = type_of(request)
    condition = read_condition(request.query_string)
    step = Step(
        place=0, method="PUT", type=kind, condition=condition, if_match=_if_match(request),
        resource=await _body(request, kind),
    )  # fmt: skip
    return await _write(request, step)


@routes.delete("/fhir/{type}/{id}")
@fhir_route
async def delete(request: web.Request) -> web.StreamResponse:
    """A tombstone; the versions stay (C23)."""
    kind, id_ = address_of(request)
    return await _write(request, Step(place=0, method="DELETE", type=kind, id=id_, if_match=_if_match(request)))


@routes.delete("/fhir/{type}")
@fhir_route
async def conditional_delete(request: web.Request) -> web.StreamResponse:
    """The same of the one resource that fits."""
    condition = read_condition(request.query_string)
    step = Step(place=0, method="DELETE", type=type_of(request), condition=condition, if_match=_if_match(request))
    return await _write(request, step)


async def _write(request: web.Request, step: Step) -> web.StreamResponse:
    if "If-None-Match" in request.headers:
        # Ignored, it would let a write through that was not to be (RFC 9110 section 13.1.2).
        raise FhirRefusal(FhirCode.UNSUPPORTED, "If-None-Match is for reading", [Place("http.If-None-Match")])
    caller = await may(request, *_actions(step))
    await prepare_one(step)
    writer = _writer(request, caller)
    try:
        async with services(request).database.write() as session:
            result = await run_one(session, step, writer)
            await append_written(session, [result], writer)
    except IntegrityError:
        # On PostgreSQL two may create one id at once: one of them was too late.
        raise FhirRefusal(FhirCode.STALE) from None
    return _written(request, result, caller)


def _written(request: web.Request, result: Result, caller: Caller) -> web.StreamResponse:
    stored = result.stored
    if stored is None or result.step.method == "DELETE":
        return web.Response(status=204, headers={} if stored is None else version_headers(stored))
    headers = version_headers(stored)
    if result.step.method == "POST" or result.status == 201:
        headers["Location"] = f"{base_of(request)}/{stored.type}/{stored.id}/_history/{stored.version}"
    prefer = request.headers.get("Prefer", "")
    # What was there already is somebody else's words: shown to who may read.
    if "return=minimal" in prefer or not (stored.changed or caller.covers("r", stored.type)):
        return web.Response(status=result.status, headers=headers)
    if "return=OperationOutcome" in prefer:
        told = outcome([information("done")])
        return resource_answer(text_of(told), status=result.status, headers=headers)
    return resource_answer(stored.json, status=result.status, headers=headers)


@routes.post("/fhir")
@routes.post("/fhir/")
@fhir_route
async def bundle(request: web.Request) -> web.StreamResponse:
    """A transaction (all or nothing) or a batch (each for itself)."""
    token = await bearer(request)
    prepared = await prepare(await read_json(request))
    run = _transaction if prepared.transaction else _batch
    results = await run(request, prepared, token)
    kind = "transaction-response" if prepared.transaction else "batch-response"
    entries = [refused_entry(one) if isinstance(one, FhirRefusal) else answer_entry(one) for one in results]
    return resource_answer(text_of(response(kind, entries)))


def _actions(step: Step) -> list[tuple[str, str]]:
    """What a step does; finding out whether something fits is a search."""
    if step.method == "GET":
        return [("r" if step.id is not None else "s", step.type)]
    action = ({"POST": "c", "PUT": "u", "DELETE": "d"}[step.method], step.type)
    return [action] if step.condition is None else [action, ("s", step.type)]


async def _transaction(request: web.Request, prepared: Prepared, token: AccessToken) -> Sequence[Result | FhirRefusal]:
    actions = {action for step in prepared.steps for action in _actions(step)}
    try:
        async with services(request).database.write() as session:
            caller = await caller_of(session, token, sorted(actions))
            return await run_transaction(session, prepared, _writer(request, caller))
    except IntegrityError:
        raise FhirRefusal(FhirCode.STALE) from None


async def _batch(request: web.Request, prepared: Prepared, token: AccessToken) -> Sequence[Result | FhirRefusal]:
    done: dict[int, Result | FhirRefusal] = dict(prepared.refused)
    for step in prepared.steps:
        if step.place not in done:
            done[step.place] = await _alone(request, step, token)
    return [done[place] for place in sorted(done)]


async def _alone(request: web.Request, step: Step, token: AccessToken) -> Result | FhirRefusal:
    try:
        async with services(request).database.write() as session:
            writer = _writer(request, await caller_of(session, token, _actions(step)))
            result = await run_one(session, step, writer)
            await append_written(session, [result], writer)
            return result
    except IntegrityError:
        return FhirRefusal(FhirCode.STALE)
    except FhirRefusal as refusal:
        if step.method == "GET":
            await on_record(request, token, "fhir_read", step.type, [], 0, **_named(step))
        return refusal


async def _body(request: web.Request, kind: str) -> dict[str, Any]:
    resource = await read_json(request)
    if not isinstance(resource, dict):
        raise FhirRefusal(FhirCode.NOT_JSON)
    if resource.get("resourceType") != kind:
        raise FhirRefusal(FhirCode.WRONG_ID, "the resource is not of the type of its address", [Place("resourceType")])
    return resource


def _if_match(request: web.Request) -> int | None:
    return read_etag(request.headers.get("If-Match"))


class _Door:
    """A writer from outside (`carrying.Outside`)."""

    def __init__(self, request: web.Request, caller: Caller) -> None:
        self._request = request
        self._caller = caller
        self.base = base_of(request)

    def need(self, action: str, kind: str) -> None:
        self._caller.need(action, kind)

    def covers(self, action: str, kind: str) -> bool:
        return self._caller.covers(action, kind)

    def next_page(self, query: Query, at: Position) -> str:
        url = f"{self.base}/{query.type}"
        return next_url(self._request, self._caller.token, url, search_place(query, at))

    def this_page(self, query: Query) -> str:
        return self_url(self._request, self._caller.token, query, lenient=False)

    def reading(self, result: Result) -> audit.Entry:
        step, now_ms = result.step, services(self._request).now_ms()
        RECORD_READS.labels(step.type).inc()
        what = "fhir_search" if step.method == "GET" and step.id is None else "fhir_read"
        seen = result.seen or ()
        more = _named(step)
        return read_entry(self._caller.token, what, now_ms, patients=seen, type=step.type, count=len(seen), **more)


def _named(step: Step) -> dict[str, str]:
    return {} if step.id is None else {"resource": step.id}


def _writer(request: web.Request, caller: Caller) -> Writer:
    reach, parts = caller.reach, services(request)
    return Writer(
        actor=caller.token.actor,
        at_ms=parts.now_ms(),
        owner=reach.owner or "",
        reach=reach,
        outside=_Door(request, caller),
    )


_OFFERED = (
    ("", "POST"),
    ("Type", "GET, HEAD, POST, PUT, DELETE"),
    ("Type/_search", "POST"),
    ("Patient/id/$everything", "GET, HEAD, POST"),
    ("Type/id/_history", "GET, HEAD"),
    ("Type/id/_history/id", "GET, HEAD"),
    ("Type/id", "GET, HEAD, PUT, DELETE"),
)
"""Addresses, and what each answers to (RFC 9110 section 15.5.6 wants it in ``Allow``)."""


@routes.route("*", "/fhir")
@routes.route("*", "/fhir/{rest:.*}")
@fhir_route
async def nothing_else(request: web.Request) -> web.StreamResponse:
    """Every other address, and every other method."""
    pieces = [piece for piece in request.match_info.get("rest", "").split("/") if piece]
    for pattern, methods in _OFFERED:
        if _is_like(pieces, [piece for piece in pattern.split("/") if piece]):
            return refused(FhirRefusal(FhirCode.METHOD), {"Allow": methods})
    known = not pieces or pieces[0] in TYPES or not pieces[0].isalpha()
    return refused(FhirRefusal(FhirCode.NOT_FOUND if known else FhirCode.UNKNOWN_TYPE))


def _is_like(pieces: Sequence[str], pattern: Sequence[str]) -> bool:
    def fits(piece: str, wanted: str) -> bool:
        return piece in TYPES if wanted == "Type" else is_id(piece) if wanted == "id" else piece == wanted

    return len(pieces) == len(pattern) and all(map(fits, pieces, pattern))
