"""The answer to a question through the lock, from the hospital's own FHIR server.

Of exactly the asked patient: first the patient is found by identifier (one, or no answer), then what was asked is read
or searched under that patient's id, then every resource that came is looked at (`fhir_answers.belongs_to`); what is
not the patient's is dropped and counted. Nothing is kept but, for seconds, which id an identifier has.

Identifiers go in the body of a search (``POST .../_search``), not into addresses, which servers and proxies log (G8).
The address of a next page goes to the hub sealed, since it names the patient by id, and comes back for that
patient and type only.
"""

import asyncio
import base64
import json
import os
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from server.gateway.adapters import counts
from server.gateway.adapters.fhir_answers import (
    READABLE,
    SEARCHABLE,
    allowed_params,
    attachments,
    belongs_to,
    has_identifier,
    is_id,
    matches,
    next_link,
)
from server.gateway.adapters.fhir_http import Authorize, FhirHttp, Form, HttpProblem, bearer_of
from server.gateway.core.responder import QueryCode, QueryFailed, RecordAnswer, RecordQuery
from server.gateway.hl7v2.bundle import token_part

log = structlog.get_logger(__name__)

MAX_PAGE_CHARS: Final = 2_000
PAGE_S: Final = 600
REMEMBERED: Final = 1_000
MAX_BINARY_PAGES: Final = 5
_CODES: Final = {
    404: QueryCode.NOT_FOUND, 410: QueryCode.NOT_FOUND, 400: QueryCode.MALFORMED, 422: QueryCode.MALFORMED,
}  # fmt: skip
_ID_BYTES: Final = 4 * 1024 * 1024
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class FhirServer:
    """The hospital's server."""

    name: str
    base: str
    """``https://fhir.hospital.local/r4``"""
    token: Callable[[], str] | None = None
    """Bearer token, asked for each question, so that a renewed one is taken."""
    authorize: Authorize | None = None
    """Any other way to say who we are."""
    tls: ssl.SSLContext | None = None
    answer_s: float = 15
    connections: int = 8
    remember_s: float = 30
    """How long an identifier keeps its id here; a merge in the hospital is seen after that."""


class FhirResponder:
    """See the module; a `Responder`.

    Args:
        now_s: a monotonic clock.
    """

    def __init__(self, server: FhirServer, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._server, self._now_s = server, now_s
        self._base = server.base.rstrip("/")
        authorize = server.authorize or (bearer_of(server.token) if server.token is not None else None)
        self._http = FhirHttp(self._base, authorize=authorize, tls=server.tls, connections=server.connections)
        self._known: OrderedDict[tuple[tuple[str, str], ...], tuple[str, float]] = OrderedDict()
        self._pages = AESGCM(AESGCM.generate_key(256))

    async def answer(self, query: RecordQuery) -> RecordAnswer:
        """See `Responder`."""
        self._check(query)
        try:
            async with asyncio.timeout(self._server.answer_s):
                patient = await self._patient_id(query)
                if query.type == "Patient":
                    return await self._read(query, patient, query.resource_id or patient)
                if query.resource_id is not None:
                    return await self._read(query, patient, query.resource_id)
                return await self._search(query, patient)
        except TimeoutError:
            raise QueryFailed(QueryCode.TIMED_OUT) from None
        except aiohttp.ClientError as problem:
            raise QueryFailed(QueryCode.UNAVAILABLE, type(problem).__name__) from None

    async def close(self) -> None:
        """Hang up."""
        await self._http.close()

    def _check(self, query: RecordQuery) -> None:
        is_read = query.resource_id is not None or query.type == "Patient"
        if query.type not in (READABLE if is_read else SEARCHABLE):
            raise QueryFailed(QueryCode.MALFORMED, "type")
        if query.resource_id is not None and not is_id(query.resource_id):
            raise QueryFailed(QueryCode.MALFORMED, "id")
        if not query.patient or not all(system and value for system, value in query.patient):
            raise QueryFailed(QueryCode.MALFORMED, "patient")
        if not allowed_params(query.params) or (is_read and query.params):
            raise QueryFailed(QueryCode.MALFORMED, "params")

    async def _patient_id(self, query: RecordQuery) -> str:
        """Id of the one patient who has the identifiers.

        Raises:
            QueryFailed: ``not_found``: none, or several, who cannot be told apart here.
        """
        known = self._known.get(query.patient)
        if known is not None and self._now_s() - known[1] < self._server.remember_s:
            return known[0]
        found: set[str] = set()
        for system, value in query.patient:
            form = [("identifier", f"{token_part(system)}|{token_part(value)}"), ("_count", "10")]
            bundle = await self._json("POST", f"{self._base}/Patient/_search", _ID_BYTES, form=form)
            people = [one for one in matches(bundle) if has_identifier(one, ((system, value),))]
            found |= {str(one.get("id")) for one in people}
        if len(found) != 1 or not is_id(next(iter(found))):
            raise QueryFailed(QueryCode.NOT_FOUND)
        patient = found.pop()
        self._known[query.patient] = (patient, self._now_s())
        self._known.move_to_end(query.patient)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return patient

    async def _read(self, query: RecordQuery, patient: str, resource_id: str) -> RecordAnswer:
        if query.type == "Patient" and resource_id != patient:
            raise QueryFailed(QueryCode.NOT_FOUND)
        resource = await self._json("GET", f"{self._base}/{query.type}/{resource_id}", query.max_bytes)
        is_theirs = isinstance(resource, dict) and resource.get("id") == resource_id
        if is_theirs and query.type == "Binary" and "securityContext" not in resource:
            is_theirs = resource.get("resourceType") == "Binary" and await self._is_shown(query, patient, resource_id)
        else:
            is_theirs = is_theirs and belongs_to(resource, query.type, patient, query.patient, self._base)
        if not is_theirs:
            counts.REFUSED.labels(self._server.name, "other_patient").inc()
            raise QueryFailed(QueryCode.NOT_FOUND)
        return RecordAnswer(resources=(resource,))

    async def _is_shown(self, query: RecordQuery, patient: str, binary: str) -> bool:
        """Whether a document or report of the patient shows a Binary that does not say whose it is itself."""
        wanted = {f"Binary/{binary}", f"{self._base}/Binary/{binary}"}
        for kind in ("DocumentReference", "DiagnosticReport"):
            form = [("patient", patient), ("_count", "100")]
            url: str | None = None
            for _ in range(MAX_BINARY_PAGES):
                bundle = await self._page(kind, form, url, query.max_bytes)
                theirs = [one for one in matches(bundle) if belongs_to(one, kind, patient, query.patient, self._base)]
                if any(address in wanted for one in theirs for address in attachments(one)):
                    return True
                url = self._next(bundle)
                if url is None:
                    break
        return False

    async def _search(self, query: RecordQuery, patient: str) -> RecordAnswer:
        url = self._opened(query) if query.page else None
        form = [*query.params, ("patient", patient), ("_count", str(max(1, query.max_count)))]
        bundle = await self._page(query.type, form, url, query.max_bytes)
        found = matches(bundle)
        theirs = [one for one in found if belongs_to(one, query.type, patient, query.patient, self._base)]
        strangers = sum(isinstance(one, dict) and one.get("resourceType") == query.type for one in found) - len(theirs)
        if strangers:
            counts.REFUSED.labels(self._server.name, "other_patient").inc(strangers)
            log.error("hospital's server answered with another patient", responder=self._server.name, count=strangers)
        if len(theirs) > query.max_count:
            raise QueryFailed(QueryCode.TOO_LARGE, "count")
        following = self._next(bundle)
        return RecordAnswer(
            resources=tuple(theirs), next_page=self._sealed(query, following) if following is not None else ""
        )

    async def _page(self, kind: str, form: list[tuple[str, str]], url: str | None, limit: int) -> Any:
        if url is not None:
            return await self._json("GET", url, limit)
        return await self._json("POST", f"{self._base}/{kind}/_search", limit, form=form)

    def _next(self, bundle: Any) -> str | None:
        try:
            return next_link(bundle, self._base)
        except ValueError:
            raise QueryFailed(QueryCode.UNAVAILABLE, "next page") from None

    # ---------------------------------------------------------------- pages

    def _about(self, query: RecordQuery) -> bytes:
        return json.dumps([query.type, query.patient, query.params]).encode()

    def _sealed(self, query: RecordQuery, url: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        text = json.dumps([self._now_s() + PAGE_S, url]).encode()
        page = base64.urlsafe_b64encode(nonce + self._pages.encrypt(nonce, text, self._about(query))).decode()
        if len(page) > MAX_PAGE_CHARS:
            raise QueryFailed(QueryCode.UNAVAILABLE, "next page")
        return page

    def _opened(self, query: RecordQuery) -> str:
        try:
            data = base64.urlsafe_b64decode(query.page.encode("ascii"))
            text = self._pages.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], self._about(query))
            until, url = json.loads(text)
        except (ValueError, InvalidTag):
            raise QueryFailed(QueryCode.MALFORMED, "page") from None
        if self._now_s() > until:
            raise QueryFailed(QueryCode.MALFORMED, "page")
        return str(url)

    # ---------------------------------------------------------------- HTTP

    async def _json(self, method: str, url: str, limit: int, *, form: Form | None = None) -> Any:
        """The body as JSON.

        Raises:
            QueryFailed: by status, or larger than the limit, or no JSON.
        """
        try:
            return await self._http.json(method, url, limit, form=form)
        except HttpProblem as problem:
            if problem.reason == "too_large":
                raise QueryFailed(QueryCode.TOO_LARGE, "bytes") from None
            raise QueryFailed(_CODES.get(problem.status, QueryCode.UNAVAILABLE), problem.reason) from None
