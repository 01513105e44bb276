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
from server.api.fhir_shared import address_of, may, on_record, type_of
from server.api.request import services
from server.api.smart import base_of
from server.record.aio.writes import (
    Prepared,
    Result,
    Writer,
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
from server.record.core.outcome import FhirCode, FhirRefusal, Place, information, outcome
from server.record.core.reach import Reach
from server.smart.aio.access import reach_of
from server.smart.aio.bearer import AccessToken, bearer
from server.storage.chain import canonical_json

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
    return await _write(request, Step(place=0, method="DELETE", type=type_of(request), condition=condition))


async def _write(request: web.Request, step: Step) -> web.StreamResponse:
    action = {"POST": "c", "PUT": "u", "DELETE": "d"}[step.method]
    token, reach = await may(request, (action, step.type))
    await prepare_one(step)
    writer = _writer(request, token, reach)
    try:
        async with services(request).database.write() as session:
            result = await run_one(session, step, writer)
            await append_written(session, [result], writer)
    except IntegrityError:
        # On PostgreSQL two may create one id at once: one of them was too late.
        raise FhirRefusal(FhirCode.STALE) from None
    return _written(request, result)


def _written(request: web.Request, result: Result) -> web.StreamResponse:
    stored = result.stored
    if stored is None or result.step.method == "DELETE":
        return web.Response(status=204, headers={} if stored is None else version_headers(stored))
    headers = version_headers(stored)
    if result.step.method == "POST" or result.status == 201:
        headers["Location"] = f"{base_of(request)}/{stored.type}/{stored.id}/_history/{stored.version}"
    prefer = request.headers.get("Prefer", "")
    if "return=minimal" in prefer:
        return web.Response(status=result.status, headers=headers)
    if "return=OperationOutcome" in prefer:
        told = outcome([information("done")])
        return resource_answer(canonical_json(told), status=result.status, headers=headers)
    return resource_answer(stored.json, status=result.status, headers=headers)


@routes.post("/fhir")
@routes.post("/fhir/")
@fhir_route
async def bundle(request: web.Request) -> web.StreamResponse:
    """A transaction (all or nothing) or a batch (each for itself)."""
    token = await bearer(request)
    prepared = await prepare(await read_json(request))
    steps = [_action(step) for step in prepared.steps]
    async with services(request).database.read() as session:
        reach = await reach_of(session, token, steps)
    writer = _writer(request, token, reach)
    try:
        results = (
            await _transaction(request, prepared, writer)
            if prepared.transaction
            else await _batch(request, prepared, writer)
        )
    except IntegrityError:
        raise FhirRefusal(FhirCode.STALE) from None
    seen = [result for result in results if isinstance(result, Result) and result.step.method == "GET"]
    for result in seen:
        count = len((result.body or {}).get("entry", [1]))
        await on_record(request, token, "fhir_read", result.step.type, result.patients, count)
    kind = "transaction-response" if prepared.transaction else "batch-response"
    entries = [refused_entry(one) if isinstance(one, FhirRefusal) else answer_entry(one) for one in results]
    return resource_answer(canonical_json(response(kind, entries)))


def _action(step: Step) -> tuple[str, str]:
    if step.method == "GET":
        return ("r" if step.id is not None else "s", step.type)
    return ({"POST": "c", "PUT": "u", "DELETE": "d"}[step.method], step.type)


async def _transaction(request: web.Request, prepared: Prepared, writer: Writer) -> Sequence[Result | FhirRefusal]:
    async with services(request).database.write() as session:
        return await run_transaction(session, prepared, writer)


async def _batch(request: web.Request, prepared: Prepared, writer: Writer) -> Sequence[Result | FhirRefusal]:
    done: dict[int, Result | FhirRefusal] = dict(prepared.refused)
    for step in prepared.steps:
        if step.place in done:
            continue
        try:
            async with services(request).database.write() as session:
                result = await run_one(session, step, writer)
                await append_written(session, [result], writer)
                done[step.place] = result
        except FhirRefusal as refusal:
            done[step.place] = refusal
    return [done[place] for place in sorted(done)]


async def _body(request: web.Request, kind: str) -> dict[str, Any]:
    resource = await read_json(request)
    if not isinstance(resource, dict):
        raise FhirRefusal(FhirCode.NOT_JSON)
    if resource.get("resourceType") != kind:
        raise FhirRefusal(FhirCode.WRONG_ID, "the resource is not of the type of its address", [Place("resourceType")])
    return resource


def _if_match(request: web.Request) -> int | None:
    return read_etag(request.headers.get("If-Match"))


def _writer(request: web.Request, token: AccessToken, reach: Reach) -> Writer:
    parts = services(request)

    def permission(action: str, kind: str) -> None:
        if token.scopes.level_for(kind, action) is None:
            raise FhirRefusal(FhirCode.FORBIDDEN, "the scopes of the token do not cover this")

    owner = reach.owner or ""
    return Writer(actor=token.actor, at_ms=parts.now_ms(), owner=owner, reach=reach, permission=permission)


@routes.route("*", "/fhir/{rest:.*}")
@fhir_route
async def nothing_else(request: web.Request) -> web.StreamResponse:
    """Every other address."""
    return refused(FhirRefusal(FhirCode.NOT_FOUND))
