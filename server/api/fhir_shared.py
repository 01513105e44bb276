"""What the FHIR routes share: who asks and how far they reach, addresses, cursors, and the row of the audit chain."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from os import urandom
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from server.api.record import CURSOR_KEY, RECORDER
from server.api.request import services
from server.api.smart import base_of
from server.metrics import RECORD_READS
from server.record.core.cursor import NONCE_BYTES, Position, seal, unseal
from server.record.core.outcome import FhirCode, FhirRefusal, Place
from server.record.core.params import TYPES
from server.record.core.query import MAX_COUNT, Query, names_nobody
from server.record.core.resource import is_id
from server.smart.aio.access import Caller, caller_of, read_entry
from server.smart.aio.bearer import AccessToken, bearer_in


@contextlib.asynccontextmanager
async def asking(request: web.Request, *steps: tuple[str, str]) -> AsyncIterator[tuple[Caller, AsyncSession]]:
    """Who asks for these ``(action, type)``, and the transaction in which that was found and the answer is read.

    Raises:
        ApiError: ``not_signed_in``.
        FhirRefusal: ``forbidden``.
    """
    async with services(request).database.read() as session:
        token = await bearer_in(session, request)
        yield await caller_of(session, token, steps), session


async def may(request: web.Request, *steps: tuple[str, str]) -> Caller:
    """The same for who reads nothing with it.

    Raises:
        ApiError: likewise.
        FhirRefusal: likewise.
    """
    async with asking(request, *steps) as (caller, _):
        return caller


def type_of(request: web.Request) -> str:
    """Type in the address.

    Raises:
        FhirRefusal: ``unknown_type``.
    """
    kind = request.match_info["type"]
    if kind not in TYPES:
        raise FhirRefusal(FhirCode.UNKNOWN_TYPE)
    return kind


def address_of(request: web.Request) -> tuple[str, str]:
    """Type and id in the address; what cannot be an id is nobody's.

    Raises:
        FhirRefusal: ``unknown_type`` or ``not_found``.
    """
    id_ = request.match_info["id"]
    if not is_id(id_):
        raise FhirRefusal(FhirCode.NOT_FOUND)
    return type_of(request), id_


def count_of(text: str | None, usual: int) -> int:
    """How many a page holds.

    Raises:
        FhirRefusal: ``query``.
    """
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise FhirRefusal(FhirCode.QUERY, "", [Place("http._count")])
    return min(int(text), MAX_COUNT)


def _bound(request: web.Request, token: AccessToken) -> str:
    return f"{token.actor}\n{token.client}\n{request.path}"


def cursor_of(request: web.Request, token: AccessToken) -> dict[str, Any] | None:
    """What the request's cursor holds, None without one.

    Raises:
        FhirRefusal: ``query``: not one of ours, not for this caller, or not for this address.
    """
    text = request.query.get("_cursor")
    return None if text is None else unseal(request.app[CURSOR_KEY], _bound(request, token), text)


def next_url(request: web.Request, token: AccessToken, url: str, content: dict[str, Any]) -> str:
    """Address of the next page, which only this caller can use."""
    bound = f"{token.actor}\n{token.client}\n{url.removeprefix(base_of(request).removesuffix('/fhir'))}"
    return f"{url}?_cursor={seal(request.app[CURSOR_KEY], urandom(NONCE_BYTES), bound, content)}"


def search_place(query: Query, at: Position | None, *, lenient: bool = False) -> dict[str, Any]:
    """What the cursor of a search's page holds; ``at`` is None for the first."""
    place = [None, None] if at is None else [at.at, at.res]
    told = {"type": query.type, "pairs": query.pairs, "lenient": lenient, "at": place[0], "res": place[1]}
    return {**told, "now": query.now_us}


def self_url(request: web.Request, token: AccessToken, query: Query, *, lenient: bool) -> str:
    """Address of this very page, with what was searched by (R4 section 3.1.1.3.2).

    In plain where it names nobody; else sealed, since addresses get into logs (G8).
    """
    url = f"{base_of(request)}/{query.type}"
    if "_cursor" in request.query:
        return f"{url}?_cursor={request.query['_cursor']}"
    ignored = {name.removeprefix("http.") for name in query.ignored}
    used = [(name, value) for name, value in query.pairs if name not in ignored]
    if not all(names_nobody(query.type, name) for name, _ in used):
        return next_url(request, token, url, search_place(query, None, lenient=lenient))
    return f"{url}?{urlencode(used, safe=':,|/$')}" if used else url


async def on_record(
    request: web.Request,
    token: AccessToken,
    what: str,
    kind: str,
    patients: Sequence[str | None],
    count: int,
    **more: str | Sequence[str],
) -> None:
    """Return once the reading is on record (G5).

    Raises:
        FhirRefusal: ``too_many``.
    """
    RECORD_READS.labels(kind).inc()
    entry = read_entry(token, what, services(request).now_ms(), patients=patients, type=kind, count=count, **more)
    await request.app[RECORDER].record([entry])
