"""What the FHIR routes share: bodies, refusals as OperationOutcome, Bundles put together from stored text."""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

import structlog
from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError
from aiohttp.web_protocol import RequestPayloadError

from server.api.errors import ApiCode, ApiError
from server.api.smart import allow_origin
from server.decimals import parse_json, text_of
from server.metrics import HTTP_REFUSALS
from server.record.aio.store import Stored, row_text
from server.record.core.elements import subset
from server.record.core.layout import etag
from server.record.core.outcome import FhirCode, FhirRefusal
from server.storage.chain import canonical_json
from server.storage.fhir_tables import FhirResource

log = structlog.get_logger(__name__)

JSON_TYPE = "application/fhir+json"
BODY_TYPES = frozenset({JSON_TYPE, "application/json", "application/json+fhir"})
_JSON_NAMES = BODY_TYPES | {"", "json", "text/json", "application/*", "*/*"}
FORM_TYPE = "application/x-www-form-urlencoded"
MAX_BODY_BYTES = 16 * 1024 * 1024
"""A Bundle of 2,000 entries, or a scanned document."""
MAX_FORM_BYTES = 64 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_API_CODES = {ApiCode.NOT_SIGNED_IN: FhirCode.LOGIN, ApiCode.NOT_FOUND: FhirCode.NOT_FOUND}


def fhir_route(handler: Handler) -> Handler:
    """Whatever goes wrong becomes an OperationOutcome; apps' pages may read the answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            _check_format(request)
            response = await handler(request)
        except FhirRefusal as refusal:
            response = refused(refusal)
        except ApiError as problem:
            if problem.code not in _API_CODES:
                raise
            response = refused(FhirRefusal(_API_CODES[problem.code]))
        except (web.HTTPException, ConnectionError):
            raise
        except Exception:  # the last net, as in `guard.py`, but in the words of this interface
            log.exception("request failed", method=request.method, route="fhir")
            response = refused(FhirRefusal(FhirCode.INTERNAL))
        response.headers["Cache-Control"] = "no-store"
        await allow_origin(request, response)
        return response

    return answer


def _check_format(request: web.Request) -> None:
    """JSON is what there is; ``_format`` comes before ``Accept`` (R4 section 3.1.0.1.10).

    Raises:
        FhirRefusal: ``format``.
    """
    wanted = request.query.get("_format")
    if wanted is None:
        wanted = request.headers.get("Accept", "*/*")
    kinds = {one.partition(";")[0].strip().lower().replace(" ", "+") for one in wanted.split(",")}
    if not kinds & _JSON_NAMES:
        raise FhirRefusal(FhirCode.FORMAT)


def refused(refusal: FhirRefusal, headers: dict[str, str] | None = None) -> web.Response:
    """A refusal as an answer."""
    HTTP_REFUSALS.labels(f"fhir_{refusal.code.value}").inc()
    log.debug("fhir request refused", code_=refusal.code.value, detail=refusal.detail)
    response = resource_answer(canonical_json(refusal.outcome), status=refusal.status, headers=headers)
    if refusal.code is FhirCode.LOGIN:
        response.headers["WWW-Authenticate"] = 'Bearer realm="fhir"'
    if refusal.code is FhirCode.FORBIDDEN:
        response.headers["WWW-Authenticate"] = 'Bearer realm="fhir", error="insufficient_scope"'
    if refusal.code is FhirCode.BUSY:
        response.headers["Retry-After"] = "1"
    return response


def resource_answer(text: str, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON text as it is."""
    response = web.Response(text=text, status=status, content_type=JSON_TYPE, charset="utf-8")
    response.headers.update(headers or {})
    return response


def version_headers(stored: Stored) -> dict[str, str]:
    """ETag and Last-Modified."""
    return {"ETag": etag(stored.version), "Last-Modified": _http_date(stored.written_at_ms)}


def _http_date(at_ms: int) -> str:
    return formatdate(at_ms / 1_000, usegmt=True)


async def read_json(request: web.Request) -> Any:
    """The body.

    Raises:
        FhirRefusal: ``media_type``, ``not_json`` or ``too_large``.
    """
    if request.content_type not in BODY_TYPES:
        raise FhirRefusal(FhirCode.MEDIA_TYPE, f"the body is {JSON_TYPE}")
    try:
        return parse_json((await _limited(request, MAX_BODY_BYTES)).decode())
    except (ValueError, RecursionError):
        raise FhirRefusal(FhirCode.NOT_JSON) from None


async def read_form(request: web.Request) -> list[tuple[str, str]]:
    """Parameters of a search in the body.

    Raises:
        FhirRefusal: ``media_type``, ``query`` or ``too_large``.
    """
    if request.content_type != FORM_TYPE:
        raise FhirRefusal(FhirCode.MEDIA_TYPE, f"the body is {FORM_TYPE}")
    try:
        return parse_qsl((await _limited(request, MAX_FORM_BYTES)).decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise FhirRefusal(FhirCode.QUERY) from None


async def _limited(request: web.Request, most: int) -> bytes:
    """The body as far as it is allowed: the application's own limit is for its small requests."""
    body = bytearray()
    try:
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > most:
                raise FhirRefusal(FhirCode.TOO_LARGE)
    except (RequestPayloadError, PayloadEncodingError):
        raise FhirRefusal(FhirCode.NOT_JSON, "the body does not decode as its headers say") from None
    return bytes(body)


# ------------------------------------------------------------------ Bundles


def entry_text(base: str, row: FhirResource, mode: str, elements: frozenset[str] | None = None) -> str:
    """An entry of a searchset; the resource is the text that is stored, or the ``elements`` of it that are wanted."""
    url = json.dumps(f"{base}/{row.type}/{row.id}")
    return f'{{"fullUrl":{url},"resource":{some_of(row_text(row), elements)},"search":{{"mode":"{mode}"}}}}'


def some_of(text: str, elements: frozenset[str] | None) -> str:
    """Text of a resource, or of the elements of it that are wanted."""
    return text if elements is None else text_of(subset(parse_json(text), elements))


def outcome_entry(outcome: dict[str, Any]) -> str:
    """What a client should know of its search, as an entry (R4 section 3.1.1.3.3)."""
    return f'{{"resource":{canonical_json(outcome)},"search":{{"mode":"outcome"}}}}'


def searchset(
    entries: Iterable[str], links: Sequence[tuple[str, str]], *, total: int | None = None, kind: str = "searchset"
) -> web.Response:
    """A Bundle from texts."""
    head: dict[str, Any] = {"resourceType": "Bundle", "type": kind}
    if total is not None:
        head["total"] = total
    head["link"] = [{"relation": relation, "url": url} for relation, url in links]
    body = ",".join(entries)
    text = canonical_json(head)[:-1] + (f',"entry":[{body}]}}' if body else "}")
    return resource_answer(text)


def history_entry(base: str, stored: Stored) -> str:
    """One version of a resource (R4 section 3.1.0.13)."""
    method = "DELETE" if not stored.json else "POST" if stored.version == 1 else "PUT"
    url = stored.type if method == "POST" else f"{stored.type}/{stored.id}"
    status = {"DELETE": "204", "POST": "201", "PUT": "200"}[method]
    told = {
        "fullUrl": f"{base}/{stored.type}/{stored.id}",
        "request": {"method": method, "url": url},
        "response": {"status": status, "etag": etag(stored.version)},
    }
    text = canonical_json(told)
    return text if not stored.json else f'{text[:-1]},"resource":{stored.json}}}'
