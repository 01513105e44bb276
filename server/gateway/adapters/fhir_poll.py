"""What is new on the hospital's own FHIR server, type by type, for hospitals that do not send HL7 v2.

Asked is ``_lastUpdated`` from the newest that was seen, less an overlap: a transaction that ends late is stamped
earlier than what was read meanwhile. What the overlap brings again is known by its version and, after a restart, by the
journal. The place is kept in a file and moves only when everything before it is durable in the journal, so a crash
repeats and loses nothing; it is a time of the server's clock, never of ours.

Deleted resources come from the type's history (R4 section 3.1.0.13) and cross as entered in error. A server that does
not offer it is told once; its deletions are then not seen.

An answer that asks for patience (429, 503, ``Retry-After``) is given it. Everything else that is wrong with the server
is tried again with growing pauses and told when it changes.
"""

import asyncio
import base64
import binascii
import json
import os
import ssl
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import structlog

from server.gateway.adapters import counts
from server.gateway.adapters.bugs import where
from server.gateway.adapters.fhir_answers import is_id, matches, next_link
from server.gateway.adapters.fhir_http import Authorize, FhirHttp, HttpProblem
from server.gateway.adapters.fhir_news import (
    NoNews,
    Person,
    attachments_in,
    changed_us,
    crossing_of,
    patient_id_of,
    person_of,
    retracted,
    version_of,
)
from server.gateway.core.crossing import LockRefused, Outlet
from server.gateway.hl7v2.datatypes import Json
from server.gateway.hl7v2.profile import Profile
from server.gateway.hl7v2.times import instant_us, us_instant

log = structlog.get_logger(__name__)

MAX_PAGE_BYTES: Final = 32 * 1024 * 1024
MAX_BINARY_BYTES: Final = 8 * 1024 * 1024
MAX_PAGES: Final = 10_000
"""Of one look at one type; what is left comes with the next."""
REMEMBERED: Final = 50_000
PEOPLE: Final = 2_000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
_NOT_NOW: Final = frozenset({401, 429, 502, 503, 504})
_NOT_FHIR: Final = (KeyError, TypeError, AttributeError, ValueError, RecursionError)
"""What our reading meets in JSON of another shape than FHIR's."""
_NO_HISTORY: Final = frozenset({400, 403, 404, 405, 410, 422, 501})


@dataclass(frozen=True, kw_only=True, slots=True)
class FhirSource:
    """The hospital's server, and what is read from it."""

    name: str
    base: str
    types: tuple[str, ...]
    identifier_systems: tuple[str, ...]
    """Systems by which patients are named outside; the first that a patient has finds him."""
    place: Path
    """File in which it is kept how far it was read."""
    since: str = ""
    """Where it begins the first time (FHIR instant); empty: with what changes from then on."""
    authorize: Authorize | None = None
    tls: ssl.SSLContext | None = None
    every_s: float = 30
    overlap_s: float = 120
    page_count: int = 100
    answer_s: float = 60
    person_s: float = 300
    """How long a patient's identifiers are remembered."""


class _Later(Exception):
    """The journal takes nothing more for now."""


class FhirPoll:
    """See the module; an `Adapter`.

    Args:
        now_us: wall clock, for the first beginning only.
    """

    def __init__(
        self, source: FhirSource, profile: Profile, *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000, now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self.name = source.name
        self.rounds = 0
        """Times that all types were read to the end."""
        self._source, self._profile = source, profile
        self._now_us, self._now_s, self._sleep = now_us, now_s, sleep
        self._http = FhirHttp(source.base, authorize=source.authorize, tls=source.tls)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._people: OrderedDict[str, tuple[Person, float]] = OrderedDict()
        self._no_history: set[str] = set()
        self._trouble = ""

    async def run(self, outlet: Outlet) -> None:
        """See `Adapter`.

        Raises:
            OSError: the place cannot be read or written.
        """
        places = await asyncio.to_thread(_read_places, self._source.place)
        kept = dict(places)
        begins_us = instant_us(self._source.since) or self._now_us()
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                wait_s = self._source.every_s
                try:
                    for kind in self._source.types:
                        place_us = places.setdefault(kind, begins_us)
                        places[kind] = max(place_us, await self._news(kind, place_us, outlet))
                        if places != kept:
                            kept = dict(places)
                            await asyncio.to_thread(_write_places, self._source.place, kept)
                    self.rounds, pause_s = self.rounds + 1, FIRST_PAUSE_S
                    self._tell("")
                except _NOT_FHIR as bug:  # a page that is none
                    self._tell(f"not_fhir {type(bug).__name__} {where(bug)}")
                    wait_s, pause_s = max(pause_s, wait_s), min(2 * pause_s, LONGEST_PAUSE_S)
                except (HttpProblem, aiohttp.ClientError, TimeoutError, _Later) as problem:
                    self._tell(str(problem) if isinstance(problem, (HttpProblem, _Later)) else type(problem).__name__)
                    wait_s = max(pause_s, problem.wait_s if isinstance(problem, HttpProblem) else 0)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                await self._sleep(wait_s)
        finally:
            await self._http.close()

    def _tell(self, trouble: str) -> None:
        """Once for each change."""
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble:
            log.warning("hospital's server cannot be read", adapter=self.name, reason=trouble)
        else:
            log.info("hospital's server is read again", adapter=self.name)

    async def _news(self, kind: str, place_us: int, outlet: Outlet) -> int:
        """Put everything that is new of a type; its newest time, once all of it is durable."""
        since = us_instant(max(0, place_us - round(self._source.overlap_s * 1e6)))
        newest_us = 0
        query = {"_lastUpdated": f"ge{since}", "_sort": "_lastUpdated", "_count": str(self._source.page_count)}
        async for bundle in self._pages(f"{kind}?{urlencode(query)}"):
            for resource in matches(bundle):
                if isinstance(resource, dict):
                    await self._one(kind, resource, outlet, deleted=False)
                    newest_us = max(newest_us, changed_us(resource))
        if kind != "Patient" and kind not in self._no_history:
            query = {"_since": since, "_count": str(self._source.page_count)}
            async for id_, version, at_us in self._deleted(kind, query):
                await self._gone(kind, id_, version, outlet)
                newest_us = max(newest_us, at_us)
        return newest_us

    async def _pages(self, path: str) -> AsyncIterator[Any]:
        url: str | None = f"{self._http.base}/{path}"
        asked: set[str] = set()
        while url is not None and url not in asked and len(asked) < MAX_PAGES:
            asked.add(url)
            bundle = await self._json(url, MAX_PAGE_BYTES)
            yield bundle
            try:
                url = next_link(bundle, self._http.base)
            except ValueError:
                raise HttpProblem("next page is elsewhere") from None
        if url is not None:
            raise HttpProblem("pages without end")

    async def _deleted(self, kind: str, query: dict[str, str]) -> AsyncIterator[tuple[str, str, int]]:
        """(id, version, time) of deletions."""
        try:
            async for bundle in self._pages(f"{kind}/_history?{urlencode(query)}"):
                for entry in bundle.get("entry") or () if isinstance(bundle, dict) else ():
                    if (found := _deletion(entry, kind)) is not None:
                        yield found
        except HttpProblem as problem:
            if problem.status not in _NO_HISTORY:
                raise
            self._no_history.add(kind)
            counts.REFUSED.labels(self.name, "no_history").inc()
            log.warning("hospital's server has no history: deletions are not seen", adapter=self.name, type=kind)

    async def _gone(self, kind: str, id_: str, version: str, outlet: Outlet) -> None:
        """The last version that was there, as entered in error."""
        if f"{kind}/{id_}/{version}" in self._seen:
            return
        try:
            history = await self._json(f"{self._http.base}/{kind}/{id_}/_history", MAX_PAGE_BYTES)
        except HttpProblem as problem:
            if problem.status not in _NO_HISTORY:
                raise
            history = None
        entries = (history.get("entry") or ()) if isinstance(history, dict) else ()
        before = [entry.get("resource") for entry in entries if isinstance(entry, dict)]
        last = next((one for one in before if isinstance(one, dict) and one.get("id") == id_), None)
        if last is None:
            counts.REFUSED.labels(self.name, "deleted_unknown").inc()
            return
        await self._one(kind, last, outlet, deleted=True, version=version)

    async def _one(self, kind: str, resource: Json, outlet: Outlet, *, deleted: bool, version: str = "") -> None:
        """One version of one resource into the journal.

        Raises:
            _Later: the journal is full; nothing was kept.
        """
        if not is_id(str(resource.get("id"))):
            counts.REFUSED.labels(self.name, "no_id").inc()
            return
        version = version or version_of(resource)
        mark = f"{kind}/{resource['id']}/{version}"
        if mark in self._seen:
            self._seen.move_to_end(mark)
            return
        try:
            person = await self._person(kind, resource)
            said = retracted(resource) if deleted else resource
            crossing = crossing_of(
                said, person, name=self.name, base=self._http.base, profile=self._profile, version=version,
                binaries={} if deleted else await self._binaries(resource),
            )  # fmt: skip
            receipt = await outlet.put(crossing)
        except NoNews as refused:
            counts.REFUSED.labels(self.name, str(refused)).inc()
        except LockRefused as refused:
            counts.REFUSED.labels(self.name, refused.code.value).inc()
            if not refused.is_final:
                raise _Later(refused.code.value) from None
        except _NOT_FHIR as bug:
            log.error("resource could not be handled", adapter=self.name, error=type(bug).__name__, where=where(bug))
            counts.REFUSED.labels(self.name, "malformed").inc()
        else:
            counts.TAKEN.labels(self.name, crossing.kind).inc()
            if receipt.repeated:
                counts.REPEATED.labels(self.name).inc()
        self._seen[mark] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    async def _person(self, kind: str, resource: Json) -> Person:
        """Whose it is.

        Raises:
            NoNews: nobody's, or somebody's without a number that is known outside.
        """
        id_ = patient_id_of(resource, kind, self._http.base)
        if kind == "Patient":
            return person_of(resource, self._source.identifier_systems)
        known = self._people.get(id_)
        if known is None or self._now_s() - known[1] >= self._source.person_s:
            try:
                found = await self._json(f"{self._http.base}/Patient/{id_}", MAX_PAGE_BYTES)
            except HttpProblem as problem:
                if problem.status in (404, 410):
                    raise NoNews("no_patient") from None
                raise
            if not isinstance(found, dict) or found.get("resourceType") != "Patient" or found.get("id") != id_:
                raise NoNews("no_patient")
            known = person_of(found, self._source.identifier_systems), self._now_s()
            self._people[id_] = known
            self._people.move_to_end(id_)
            if len(self._people) > PEOPLE:
                self._people.popitem(last=False)
        return known[0]

    async def _binaries(self, resource: Json) -> dict[str, bytes]:
        """Content of the attachments that are resources of the same server; the others are left where they are."""
        found: dict[str, bytes] = {}
        for one in attachments_in(resource):
            url = str(one.get("url", ""))
            path = url.removeprefix(f"{self._http.base}/")
            if not path.startswith("Binary/") or not is_id(path.removeprefix("Binary/")):
                continue
            try:
                binary = await self._json(f"{self._http.base}/{path}", MAX_BINARY_BYTES)
                found[url] = base64.b64decode(binary["data"], validate=True)
            except HttpProblem as problem:
                if problem.status in _NOT_NOW or problem.reason == "token":
                    raise
                counts.REFUSED.labels(self.name, "attachment").inc()
            except (KeyError, TypeError, binascii.Error, ValueError):
                counts.REFUSED.labels(self.name, "attachment").inc()
        return found

    async def _json(self, url: str, limit: int) -> Any:
        async with asyncio.timeout(self._source.answer_s):
            return await self._http.json("GET", url, limit)


def _deletion(entry: Any, kind: str) -> tuple[str, str, int] | None:
    """(id, version, time) of a history entry that is a deletion."""
    request = entry.get("request") if isinstance(entry, dict) else None
    if not isinstance(request, dict) or request.get("method") != "DELETE":
        return None
    type_, _, rest = str(request.get("url", "")).removeprefix("/").rpartition(f"{kind}/")
    id_ = rest.partition("/")[0]
    if (type_ and not type_.endswith("/")) or not is_id(id_):
        return None
    answer = entry.get("response")
    answer = answer if isinstance(answer, dict) else {}
    at_us = instant_us(answer.get("lastModified"))
    word = str(answer.get("etag") or at_us)
    return id_, "deleted-" + "".join(sign for sign in word if sign.isalnum())[:40], at_us


def _read_places(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise OSError(f"{path.name} is damaged: remove it to begin at `since`") from None
    return {str(kind): int(at_us) for kind, at_us in found.items()} if isinstance(found, dict) else {}


def _write_places(path: Path, places: dict[str, int]) -> None:
    draft = path.with_suffix(".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(places, file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
