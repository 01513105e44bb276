"""The FHIR R4 interface: ``/fhir`` (HL7 FHIR R4 section 3.1, SMART scopes, no cookies).

Thin: what a query means is `server.record.core.query`, what may be seen is
`server.record.core.reach`, how a write is carried out `server.record.aio.writes`.
Every reading waits for its row of the audit chain (G5). What a caller may not
see is answered like what does not exist; only scopes that are too small are
told, since they are so whatever is stored.
"""

import json
from collections.abc import Sequence
from importlib.metadata import version
from os import urandom
from typing import Any

from aiohttp import web
from sqlalchemy.exc import IntegrityError

from server.api.fhir_answers import (
    entry_text,
    fhir_route,
    history_entry,
    outcome_entry,
    read_form,
    read_json,
    refused,
    resource_answer,
    searchset,
    version_headers,
)
from server.api.record import CURSOR_KEY
from server.api.request import services
from server.api.smart import allow_origin, base_of
from server.metrics import RECORD_READS
from server.record.aio.everything import everything
from server.record.aio.search import Page, search, visible
from server.record.aio.store import Stored, one_version, read_resource, stored_of, versions_of
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
from server.record.core.bundle import Step, read_condition, read_etag, references_in
from server.record.core.capability import capability_statement
from server.record.core.cursor import NONCE_BYTES, Position, seal, unseal
from server.record.core.dates import DateInvalid, parse_date
from server.record.core.outcome import FhirCode, FhirRefusal, Place, information, outcome
from server.record.core.params import TYPES
from server.record.core.query import MAX_COUNT, Query, parse_query
from server.record.core.reach import Reach
from server.record.core.resource import is_id, local_reference
from server.smart.aio.access import Recorder, reach_of, read_entry
from server.smart.aio.bearer import AccessToken, bearer
from server.storage.chain import canonical_json

routes = web.RouteTableDef()

RECORDER: web.AppKey[Recorder] = web.AppKey("fhir_recorder", Recorder)
_EVERYTHING_COUNT = 200


# ------------------------------------------------------------------ what is offered


@routes.get("/fhir/metadata")
@fhir_route
async def metadata(request: web.Request) -> web.StreamResponse:
    """CapabilityStatement; anybody may read it."""
    base = base_of(request)
    own = base.removesuffix("/fhir")
    names = {"authorize": "authorize", "token": "token", "introspect": "introspect", "revoke": "revoke"}
    endpoints = {name: f"{own}/smart/{path}" for name, path in names.items()}
    return resource_answer(canonical_json(capability_statement(base, version("consilium"), endpoints)))


@routes.options("/fhir")
@routes.options("/fhir/{rest:.*}")
async def preflight(request: web.Request) -> web.StreamResponse:
    """A browser asks before it lets an app's page send."""
    response = web.Response(status=204)
    await allow_origin(request, response)
    return response


# ------------------------------------------------------------------ reading


@routes.get("/fhir/{type}/{id}")
@fhir_route
async def read(request: web.Request) -> web.StreamResponse:
    """One resource, its present version."""
    kind, id_ = _address(request)
    token, reach = await _may(request, ("r", kind))
    async with services(request).database.read() as session:
        found = await read_resource(session, kind, id_)
    row = found[0] if found is not None else None
    seen = row if row is not None and reach.covers(row.patient_id, row.owner) else None
    shown = [seen.patient_id] if seen is not None else []
    await _on_record(request, token, "fhir_read", kind, shown, 0 if seen is None else 1, resource=id_)
    if seen is None:
        raise FhirRefusal(FhirCode.NOT_FOUND)
    if seen.deleted:
        raise FhirRefusal(FhirCode.DELETED)
    return _one(request, stored_of(seen))


@routes.get("/fhir/{type}/{id}/_history/{version}")
@fhir_route
async def vread(request: web.Request) -> web.StreamResponse:
    """One resource, one version."""
    kind, id_ = _address(request)
    token, reach = await _may(request, ("r", kind))
    text = request.match_info["version"]
    stored = None
    async with services(request).database.read() as session:
        present = await read_resource(session, kind, id_)
        if present is not None and reach.covers(present[0].patient_id, present[0].owner):
            number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
            stored = await one_version(session, kind, id_, number)
    shown = [stored.patient_id] if stored is not None else []
    await _on_record(request, token, "fhir_read", kind, shown, len(shown), resource=id_, version=text[:10])
    if stored is None:
        raise FhirRefusal(FhirCode.NOT_FOUND)
    if not stored.json:
        raise FhirRefusal(FhirCode.DELETED)
    return _one(request, stored)


@routes.get("/fhir/{type}/{id}/_history")
@fhir_route
async def history(request: web.Request) -> web.StreamResponse:
    """Every version of a resource, newest first, in pages."""
    kind, id_ = _address(request)
    token, reach = await _may(request, ("r", kind))
    asked = _cursor(request, token) or {}
    count = int(asked.get("count") or _count(request.query.get("_count"), 50))
    async with services(request).database.read() as session:
        present = await read_resource(session, kind, id_)
        covered = present is not None and reach.covers(present[0].patient_id, present[0].owner)
        found = await versions_of(session, kind, id_, before=asked.get("before"), limit=count + 1) if covered else []
    shown = [one.patient_id for one in found[:1]]
    await _on_record(request, token, "fhir_history", kind, shown, min(len(found), count), resource=id_)
    if not found:
        raise FhirRefusal(FhirCode.NOT_FOUND)
    base = base_of(request)
    url = f"{base}/{kind}/{id_}/_history"
    links = [("self", url)]
    if len(found) > count:
        links.append(("next", _next(request, token, url, {"before": found[count - 1].version, "count": count})))
    return searchset((history_entry(base, one) for one in found[:count]), links, kind="history")


def _one(request: web.Request, stored: Stored) -> web.StreamResponse:
    headers = version_headers(stored)
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    return resource_answer(stored.json, headers=headers)


# ------------------------------------------------------------------ search


@routes.get("/fhir/{type}")
@fhir_route
async def search_type(request: web.Request) -> web.StreamResponse:
    """Search by the query string, or the next page of any search."""
    return await _search(request, _type(request), [(name, value) for name, value in request.query.items()])


@routes.post("/fhir/{type}/_search")
@fhir_route
async def search_by_form(request: web.Request) -> web.StreamResponse:
    """The same with the parameters in the body, where no log keeps them (G8)."""
    pairs = [*request.query.items(), *await read_form(request)]
    return await _search(request, _type(request), pairs)


async def _search(request: web.Request, kind: str, pairs: list[tuple[str, str]]) -> web.StreamResponse:
    token, reach = await _may(request, ("s", kind))
    after, lenient = None, "handling=lenient" in request.headers.get("Prefer", "").replace(" ", "")
    asked = _cursor(request, token)
    if asked is not None:
        if asked.get("type") != kind or len(pairs) != 1:
            raise FhirRefusal(FhirCode.QUERY, "a cursor stands alone, at its own address")
        pairs = [(str(name), str(value)) for name, value in asked["pairs"]]
        after, lenient = Position(asked["at"], asked["res"]), asked["lenient"]
    query = parse_query(kind, pairs, lenient=lenient)
    await _may_include(token, query)
    async with services(request).database.read() as session:
        page = await search(session, kind, query, reach=reach, after=after)
    shown = [row.patient_id for row in (*page.rows, *page.included)]
    names = sorted({name.partition(":")[0][:40] for name, _ in query.pairs} - set(_unknown(query)))
    await _on_record(request, token, "fhir_search", kind, shown, len(page.rows), parameters=names)
    return _page(request, token, query, page, lenient=lenient)


def _unknown(query: Query) -> list[str]:
    return [name.removeprefix("http.") for name in query.ignored]


async def _may_include(token: AccessToken, query: Query) -> None:
    """What is sent along must be covered by the scopes too."""
    for include in query.revincludes:
        source = include.partition(":")[0]
        if token.scopes.level_for(source, "s") is None:
            raise FhirRefusal(FhirCode.FORBIDDEN, "the scopes of the token do not cover an include")


def _page(request: web.Request, token: AccessToken, query: Query, page: Page, *, lenient: bool) -> web.StreamResponse:
    base = base_of(request)
    url = f"{base}/{query.type}"
    # The query itself is not repeated: it may hold an identifier (G8).
    links = [("self", url)]
    if page.following is not None:
        place = {"type": query.type, "pairs": query.pairs, "lenient": lenient,
                 "at": page.following.at, "res": page.following.res}  # fmt: skip
        links.append(("next", _next(request, token, url, place)))
    entries = [entry_text(base, row, "match") for row in page.rows]
    entries += [
        entry_text(base, row, "include") for row in page.included if token.scopes.level_for(row.type, "r") is not None
    ]
    notes = [f"{name} was left out" for name in query.ignored]
    notes += ["not everything that was to be included is here"] if page.cut else []
    if notes:
        entries.append(outcome_entry(outcome([information(text, severity="warning") for text in notes])))
    return searchset(entries, links, total=page.total)


@routes.get("/fhir/Patient/{id}/$everything")
@fhir_route
async def patient_everything(request: web.Request) -> web.StreamResponse:
    """A patient's whole record in pages, with what of the directory it refers to."""
    id_ = request.match_info["id"]
    token, reach = await _may(request, ("r", "Patient"))
    asked = _cursor(request, token) or _everything_asked(request)
    async with services(request).database.read() as session:
        present = await read_resource(session, "Patient", id_)
        covered = present is not None and not present[0].deleted and reach.covers(id_, present[0].owner)
        types = [kind for kind in asked["types"] or sorted(TYPES) if token.scopes.level_for(kind, "r") is not None]
        after = (asked["after"][0], asked["after"][1]) if asked["after"] else None
        rows, following = (
            await everything(session, id_, types=types, since_ms=asked["since"], after=after, count=asked["count"])
            if covered
            else ([], None)
        )
        rows = [row for row in rows if reach.covers(row.patient_id, row.owner)]
        wanted = {one for row in rows for one in _directory_references(row.json)}
        beside = [
            row
            for row in await visible(session, wanted, reach)
            if row.patient_id is None and token.scopes.level_for(row.type, "r") is not None
        ]
    shown = [id_] if covered else []
    await _on_record(request, token, "fhir_everything", "Patient", shown, len(rows), resource=id_[:64])
    if not covered:
        raise FhirRefusal(FhirCode.NOT_FOUND)
    base = base_of(request)
    url = f"{base}/Patient/{id_}/$everything"
    links = [("self", url)]
    if following is not None:
        links.append(("next", _next(request, token, url, {**asked, "after": list(following)})))
    entries = [entry_text(base, row, "match") for row in rows] + [entry_text(base, row, "include") for row in beside]
    return searchset(entries, links)


def _everything_asked(request: web.Request) -> dict[str, Any]:
    unknown = set(request.query) - {"_count", "_since", "_type", "_format"}
    if unknown:
        raise FhirRefusal(FhirCode.UNSUPPORTED, "_count, _since and _type")
    types = [kind for kind in request.query.get("_type", "").split(",") if kind]
    if not set(types) <= set(TYPES):
        raise FhirRefusal(FhirCode.UNSUPPORTED, "a type is not kept here", [Place("http._type")])
    since = request.query.get("_since")
    try:
        since_ms = None if since is None else parse_date(since.replace(" ", "+")).low_us // 1_000
    except DateInvalid:
        raise FhirRefusal(FhirCode.QUERY, "", [Place("http._since")]) from None
    count = _count(request.query.get("_count"), _EVERYTHING_COUNT)
    return {"types": types, "since": since_ms, "count": count, "after": None}


def _directory_references(text: str) -> set[tuple[str, str]]:
    found = {local_reference(reference) for reference in references_in(json.loads(text))}
    return {one for one in found if one is not None and one[0] in TYPES and not TYPES[one[0]].patient}


# ------------------------------------------------------------------ writing


@routes.post("/fhir/{type}")
@fhir_route
async def create(request: web.Request) -> web.StreamResponse:
    """A new resource under an id of ours; with If-None-Exist only if none fits."""
    kind = _type(request)
    exists = request.headers.get("If-None-Exist")
    condition = None if exists is None else read_condition(exists)
    step = Step(place=0, method="POST", type=kind, condition=condition, resource=await _body(request, kind))
    return await _write(request, step)


@routes.put("/fhir/{type}/{id}")
@fhir_route
async def update(request: web.Request) -> web.StreamResponse:
    """The next version of a resource; with If-Match only of the version that was seen."""
    kind, id_ = _address(request)
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
    kind = _type(request)
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
    kind, id_ = _address(request)
    return await _write(request, Step(place=0, method="DELETE", type=kind, id=id_, if_match=_if_match(request)))


@routes.delete("/fhir/{type}")
@fhir_route
async def conditional_delete(request: web.Request) -> web.StreamResponse:
    """The same of the one resource that fits."""
    condition = read_condition(request.query_string)
    return await _write(request, Step(place=0, method="DELETE", type=_type(request), condition=condition))


async def _write(request: web.Request, step: Step) -> web.StreamResponse:
    action = {"POST": "c", "PUT": "u", "DELETE": "d"}[step.method]
    token, reach = await _may(request, (action, step.type))
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
        await _on_record(request, token, "fhir_read", result.step.type, result.patients, count)
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


# ------------------------------------------------------------------ shared


@routes.route("*", "/fhir/{rest:.*}")
@fhir_route
async def nothing_else(request: web.Request) -> web.StreamResponse:
    """Every other address."""
    return refused(FhirRefusal(FhirCode.NOT_FOUND))


async def _may(request: web.Request, *steps: tuple[str, str]) -> tuple[AccessToken, Reach]:
    token = await bearer(request)
    async with services(request).database.read() as session:
        return token, await reach_of(session, token, steps)


def _type(request: web.Request) -> str:
    kind = request.match_info["type"]
    if kind not in TYPES:
        raise FhirRefusal(FhirCode.UNKNOWN_TYPE)
    return kind


def _address(request: web.Request) -> tuple[str, str]:
    id_ = request.match_info["id"]
    if not is_id(id_):
        raise FhirRefusal(FhirCode.NOT_FOUND)
    return _type(request), id_


def _count(text: str | None, usual: int) -> int:
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise FhirRefusal(FhirCode.QUERY, "", [Place("http._count")])
    return min(int(text), MAX_COUNT)


def _bound(request: web.Request, token: AccessToken) -> str:
    return f"{token.actor}\n{token.client}\n{request.path}"


def _cursor(request: web.Request, token: AccessToken) -> dict[str, Any] | None:
    text = request.query.get("_cursor")
    return None if text is None else unseal(request.app[CURSOR_KEY], _bound(request, token), text)


def _next(request: web.Request, token: AccessToken, url: str, content: dict[str, Any]) -> str:
    bound = f"{token.actor}\n{token.client}\n{url.removeprefix(base_of(request).removesuffix('/fhir'))}"
    return f"{url}?_cursor={seal(request.app[CURSOR_KEY], urandom(NONCE_BYTES), bound, content)}"


async def _on_record(
    request: web.Request,
    token: AccessToken,
    what: str,
    kind: str,
    patients: Sequence[str | None],
    count: int,
    **more: str | Sequence[str],
) -> None:
    RECORD_READS.labels(kind).inc()
    entry = read_entry(token, what, services(request).now_ms(), patients=patients, type=kind, count=count, **more)
    await request.app[RECORDER].record([entry])


__all__ = ["RECORDER", "routes"]
