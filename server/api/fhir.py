"""The FHIR R4 interface: ``/fhir`` (HL7 FHIR R4 section 3.1, SMART scopes, no cookies).

Thin: what a query means is `server.record.core.query`, what may be seen is
`server.record.core.reach`, how a write is carried out `server.record.aio.writes`.
Every reading waits for its row of the audit chain (G5). What a caller may not
see is answered like what does not exist; only scopes that are too small are
told, since they are so whatever is stored.
"""

import json
from asyncio import to_thread
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from aiohttp import web

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
    some_of,
    version_headers,
)
from server.api.fhir_shared import (
    address_of,
    asking,
    count_of,
    cursor_of,
    next_url,
    on_record,
    search_place,
    self_url,
    type_of,
)
from server.api.fhircast import HUB
from server.api.request import services
from server.api.smart import allow_origin, base_of
from server.record.aio.everything import everything
from server.record.aio.search import Page, search, visible
from server.record.aio.store import Stored, one_version, read_resource, stored_of, versions_of
from server.record.core.bundle import references_in
from server.record.core.capability import capability_statement
from server.record.core.cursor import Position
from server.record.core.dates import DateInvalid, parse_date
from server.record.core.elements import parse_elements
from server.record.core.outcome import FhirCode, FhirRefusal, Place, information, outcome
from server.record.core.params import TYPES
from server.record.core.query import Query, parse_query, types_beside
from server.record.core.resource import local_reference
from server.smart.aio.bearer import AccessToken
from server.storage.chain import canonical_json

routes = web.RouteTableDef()

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
    return resource_answer(canonical_json(capability_statement(base, version("consilium"), endpoints, f"{own}{HUB}")))


@routes.options("/fhir")
@routes.options("/fhir/metadata")
@routes.options("/fhir/{rest:.*}")
async def preflight(request: web.Request) -> web.StreamResponse:
    """A browser asks before it lets an app's page send."""
    response = web.Response(status=204)
    await allow_origin(request, response)
    return response


@routes.route("*", "/fhir/metadata")
@fhir_route
async def metadata_otherwise(_request: web.Request) -> web.StreamResponse:
    """``metadata`` is no type that something could be created in."""
    return refused(FhirRefusal(FhirCode.METHOD), {"Allow": "GET, HEAD"})


# ------------------------------------------------------------------ reading


@routes.get("/fhir/{type}/{id}")
@fhir_route
async def read(request: web.Request) -> web.StreamResponse:
    """One resource, its present version."""
    kind, id_ = address_of(request)
    elements = _elements_asked(request, kind)
    async with asking(request, ("r", kind)) as (caller, session):
        found = await read_resource(session, kind, id_)
    row = found[0] if found is not None else None
    seen = row if row is not None and caller.reach.covers(row.patient_id, row.owner) else None
    shown = [seen.patient_id] if seen is not None else []
    await on_record(request, caller.token, "fhir_read", kind, shown, 0 if seen is None else 1, resource=id_)
    if seen is None:
        raise FhirRefusal(FhirCode.NOT_FOUND)
    if seen.deleted:
        raise FhirRefusal(FhirCode.DELETED)
    return _one(request, stored_of(seen), elements)


@routes.get("/fhir/{type}/{id}/_history/{version}")
@fhir_route
async def vread(request: web.Request) -> web.StreamResponse:
    """One resource, one version."""
    kind, id_ = address_of(request)
    elements = _elements_asked(request, kind)
    text = request.match_info["version"]
    stored = None
    async with asking(request, ("r", kind)) as (caller, session):
        present = await read_resource(session, kind, id_)
        if present is not None and caller.reach.covers(present[0].patient_id, present[0].owner):
            number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
            stored = await one_version(session, kind, id_, number)
    shown = [stored.patient_id] if stored is not None else []
    await on_record(request, caller.token, "fhir_read", kind, shown, len(shown), resource=id_, version=text[:10])
    if stored is None:
        raise FhirRefusal(FhirCode.NOT_FOUND)
    if not stored.json:
        raise FhirRefusal(FhirCode.DELETED)
    return _one(request, stored, elements)


@routes.get("/fhir/{type}/{id}/_history")
@fhir_route
async def history(request: web.Request) -> web.StreamResponse:
    """Every version of a resource, newest first, in pages; with ``_since`` those that were written from then on."""
    kind, id_ = address_of(request)
    async with asking(request, ("r", kind)) as (caller, session):
        asked = cursor_of(request, caller.token) or _history_asked(request)
        count, before = asked["count"], asked.get("before")
        present = await read_resource(session, kind, id_)
        covered = present is not None and caller.reach.covers(present[0].patient_id, present[0].owner)
        found = (
            await versions_of(session, kind, id_, before=before, since_ms=asked["since"], limit=count + 1)
            if covered
            else []
        )
    shown = [one.patient_id for one in found[:1]]
    await on_record(request, caller.token, "fhir_history", kind, shown, min(len(found), count), resource=id_)
    if not covered:
        raise FhirRefusal(FhirCode.NOT_FOUND)
    token = caller.token
    base = base_of(request)
    url = f"{base}/{kind}/{id_}/_history"
    links = [("self", f"{url}{_asked_with(request)}")]
    if len(found) > count:
        links.append(("next", next_url(request, token, url, {**asked, "before": found[count - 1].version})))
    return searchset((history_entry(base, one) for one in found[:count]), links, kind="history")


def _asked_with(request: web.Request) -> str:
    """The query string; nobody is named where only counts, times and types are taken."""
    raw = request.rel_url.raw_query_string
    return f"?{raw}" if raw else ""


def _history_asked(request: web.Request) -> dict[str, Any]:
    if set(request.query) - {"_count", "_since", "_format"}:
        raise FhirRefusal(FhirCode.UNSUPPORTED, "_count and _since")
    return {"count": count_of(request.query.get("_count"), 50), "since": _since(request.query.get("_since"))}


def _since(text: str | None) -> int | None:
    """Milliseconds of ``_since``."""
    try:
        return None if text is None else -(-parse_date(text.replace(" ", "+")).low_us // 1_000)
    except DateInvalid:
        raise FhirRefusal(FhirCode.QUERY, "", [Place("http._since")]) from None


def _elements_asked(request: web.Request, kind: str) -> frozenset[str] | None:
    """Of one resource; ``_elements`` may stand more than once."""
    texts = request.query.getall("_elements", [])
    try:
        return parse_elements(kind, ",".join(texts)) if any(texts) else None
    except FhirRefusal as refusal:
        raise refusal.within("http._elements") from None


def _one(request: web.Request, stored: Stored, elements: frozenset[str] | None) -> web.StreamResponse:
    headers = version_headers(stored)
    if headers["ETag"] in (one.strip() for one in request.headers.get("If-None-Match", "").split(",")):
        return web.Response(status=304, headers=headers)
    return resource_answer(some_of(stored.json, elements), headers=headers)


# ------------------------------------------------------------------ search


@routes.get("/fhir/{type}")
@fhir_route
async def search_type(request: web.Request) -> web.StreamResponse:
    """Search by the query string, or the next page of any search."""
    return await _search(request, type_of(request), [(name, value) for name, value in request.query.items()])


@routes.post("/fhir/{type}/_search")
@fhir_route
async def search_by_form(request: web.Request) -> web.StreamResponse:
    """The same with the parameters in the body, where no log keeps them (G8)."""
    pairs = [*request.query.items(), *await read_form(request)]
    return await _search(request, type_of(request), pairs)


async def _search(request: web.Request, kind: str, pairs: list[tuple[str, str]]) -> web.StreamResponse:
    after, lenient = None, "handling=lenient" in request.headers.get("Prefer", "").replace(" ", "")
    async with asking(request, ("s", kind)) as (caller, session):
        asked = cursor_of(request, caller.token)
        if asked is not None:
            if asked.get("type") != kind or len(pairs) != 1:
                raise FhirRefusal(FhirCode.QUERY, "a cursor stands alone, at its own address")
            pairs = [(str(name), str(value)) for name, value in asked["pairs"]]
            after = None if asked["at"] is None else Position(asked["at"], asked["res"])
            lenient = asked["lenient"]
        now_us = services(request).now_ms() * 1_000 if asked is None else asked.get("now")
        query = parse_query(kind, pairs, lenient=lenient, base=base_of(request), now_us=now_us)
        for beside in types_beside(query):
            caller.need("s", beside)
        page = await search(session, kind, query, reach=caller.reach, after=after)
    included = [row for row in page.included if caller.covers("r", row.type)]
    shown = [row.patient_id for row in (*page.rows, *included)]
    names = sorted({name.partition(":")[0][:40] for name, _ in query.pairs} - set(_unknown(query)))
    await on_record(request, caller.token, "fhir_search", kind, shown, len(page.rows), parameters=names)
    page = replace(page, included=included)
    base = base_of(request)
    # A part is made by reading the whole: with a thousand long ones that is nothing for the event loop.
    entries = _entries(base, query, page) if query.elements is None else await to_thread(_entries, base, query, page)
    return _page(request, caller.token, query, page, entries, lenient=lenient)


def _unknown(query: Query) -> list[str]:
    return [name.removeprefix("http.") for name in query.ignored]


def _entries(base: str, query: Query, page: Page) -> list[str]:
    entries = [entry_text(base, row, "match", query.elements) for row in page.rows]
    return entries + [entry_text(base, row, "include") for row in page.included]


def _page(
    request: web.Request, token: AccessToken, query: Query, page: Page, entries: list[str], *, lenient: bool
) -> web.StreamResponse:
    url = f"{base_of(request)}/{query.type}"
    links = [("self", self_url(request, token, query, lenient=lenient))]
    if page.following is not None:
        links.append(("next", next_url(request, token, url, search_place(query, page.following, lenient=lenient))))
    notes = [f"{name} was left out" for name in query.ignored]
    notes += ["not everything that was to be included is here"] if page.cut else []
    if notes:
        entries.append(outcome_entry(outcome([information(text, severity="warning") for text in notes])))
    return searchset(entries, links, total=page.total)


@routes.get("/fhir/Patient/{id}/$everything")
@routes.post("/fhir/Patient/{id}/$everything")
@fhir_route
async def patient_everything(request: web.Request) -> web.StreamResponse:
    """A patient's whole record in pages, with what of the directory it refers to."""
    id_ = request.match_info["id"]
    pairs = [*request.query.items(), *(await _parameters(request) if request.method == "POST" else [])]
    async with asking(request, ("r", "Patient")) as (caller, session):
        reach, token = caller.reach, caller.token
        asked = cursor_of(request, token) or _everything_asked(pairs)
        present = await read_resource(session, "Patient", id_)
        covered = present is not None and not present[0].deleted and reach.covers(id_, present[0].owner)
        types = [kind for kind in asked["types"] or sorted(TYPES) if caller.covers("r", kind)]
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
            if row.patient_id is None and caller.covers("r", row.type)
        ]
    shown = [id_] if covered else []
    await on_record(request, token, "fhir_everything", "Patient", shown, len(rows), resource=id_[:64])
    if not covered:
        raise FhirRefusal(FhirCode.NOT_FOUND)
    base = base_of(request)
    url = f"{base}/Patient/{id_}/$everything"
    links = [("self", f"{url}{_asked_with(request)}")]
    if following is not None:
        links.append(("next", next_url(request, token, url, {**asked, "after": list(following)})))
    entries = [entry_text(base, row, "match") for row in rows] + [entry_text(base, row, "include") for row in beside]
    return searchset(entries, links)


def _everything_asked(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    if {name for name, _ in pairs} - {"_count", "_since", "_type", "_format"}:
        raise FhirRefusal(FhirCode.UNSUPPORTED, "_count, _since and _type")
    types = [kind for name, value in pairs if name == "_type" for kind in value.split(",") if kind]
    if not set(types) <= set(TYPES):
        raise FhirRefusal(FhirCode.UNSUPPORTED, "a type is not kept here", [Place("http._type")])
    asked = dict(pairs)
    count = count_of(asked.get("_count"), _EVERYTHING_COUNT)
    return {"types": types, "since": _since(asked.get("_since")), "count": count, "after": None}


async def _parameters(request: web.Request) -> list[tuple[str, str]]:
    """Names and values of a Parameters resource (R4 section 3.2.0.1.2); no body is no parameters.

    Raises:
        FhirRefusal: ``not_json``, ``media_type`` or ``too_large``.
    """
    if not request.can_read_body:
        return []
    body = await read_json(request)
    given = body.get("parameter", []) if isinstance(body, dict) and body.get("resourceType") == "Parameters" else None
    if not isinstance(given, list):
        raise FhirRefusal(FhirCode.NOT_JSON, "the body is a Parameters resource")
    pairs = []
    for one in given:
        values = [value for name, value in one.items() if name.startswith("value")] if isinstance(one, dict) else []
        if len(values) != 1 or not isinstance(values[0], str | int) or not isinstance(one.get("name"), str):
            raise FhirRefusal(FhirCode.UNSUPPORTED, "parameters have a name and a simple value")
        pairs.append((one["name"], str(values[0])))
    return pairs


def _directory_references(text: str) -> set[tuple[str, str]]:
    found = {local_reference(reference) for reference in references_in(json.loads(text))}
    return {one for one in found if one is not None and one[0] in TYPES and not TYPES[one[0]].patient}
