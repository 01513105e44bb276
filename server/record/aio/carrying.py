"""The steps of a Bundle, or a single one, in the caller's database transaction.

The first refusal is raised through it and takes everything back. Conditions are
settled before anything is written, with what the same Bundle deletes and writes
taken into account, so that the order of its entries does not matter (R4 section
3.1.0.11.2). The first steps ask whether the writer may, and whatever is found is
found in the writer's reach.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from server.decimals import parse_json
from server.record.aio.merge import survivor_of
from server.record.aio.search import matching_ids, search
from server.record.aio.store import (
    Stored,
    erase_resource,
    lock_rows,
    read_resource,
    resolve_patient,
    row_text,
    stored_of,
    write_resource,
)
from server.record.core.bundle import (
    Pairs,
    Step,
    conditional,
    names_of,
    references_in,
    rewritten,
    unresolved,
)
from server.record.core.cursor import Position
from server.record.core.elements import subset
from server.record.core.index import hash64, index_values
from server.record.core.layout import etag
from server.record.core.meaning import Subject, matches
from server.record.core.outcome import FhirCode, FhirRefusal, Place, information, outcome
from server.record.core.query import Query, parse_condition, parse_query, types_beside
from server.record.core.reach import Reach
from server.record.core.resource import FiledResource, ResourceInvalid, file_checked, patient_of
from server.storage import audit
from server.storage.fhir_tables import FhirResource


class Outside(Protocol):
    """Somebody who writes from outside: what they may do, and how they are answered."""

    base: str
    """Address of the interface, in front of ``Type/id``."""

    def need(self, action: str, kind: str) -> None:
        """Raise a `FhirRefusal` where an action (of ``cruds``) on a type is not allowed."""

    def covers(self, action: str, kind: str) -> bool:
        """Whether it is."""

    def next_page(self, query: Query, at: Position) -> str:
        """Address of the page of a search that begins there."""

    def this_page(self, query: Query) -> str:
        """Address of a search's first page."""

    def reading(self, result: "Result") -> audit.Entry:
        """Audit row of a step that showed something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Writer:
    """Who writes.

    Args:
        owner: hospital that new resources come from.
        reach: what conditions and reads can find.
        outside: None inside the hub, where the caller has decided.
        own_ids: new resources may be put under ids of the writer's choice.
        new_id: makes an id.
    """

    actor: str
    at_ms: int
    owner: str
    reach: Reach
    outside: Outside | None = None
    own_ids: bool = False
    new_id: Callable[[], str] = lambda: secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Result:
    """What a step came to: a write, a read, or nothing to do."""

    step: Step
    status: int
    stored: Stored | None = None
    body: dict[str, Any] | None = None
    seen: tuple[str | None, ...] | None = None
    """Patients of the resources that were shown; None where the step reads nothing."""


@dataclass(frozen=True, slots=True)
class _Settled:
    """A step, what it does (``create``, ``update``, ``delete``, ``read`` or ``nothing``), and to which id."""

    step: Step
    does: str
    id: str = ""

    @property
    def address(self) -> tuple[str, str]:
        """Type and id."""
        return self.step.type, self.id


class _within:
    """Refusals name the entry they came from."""

    def __init__(self, step: Step, placed: bool) -> None:
        self._place = f"Bundle.entry[{step.place}]" if placed else ""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, problem: BaseException | None, _trace: object) -> None:
        if isinstance(problem, FhirRefusal) and self._place:
            raise problem.within(self._place) from None


_ACTIONS = {"GET": "r", "POST": "c", "PUT": "u", "DELETE": "d"}
_TURNS = {"delete": 0, "create": 1, "update": 1, "nothing": 2, "read": 3}


class Run:
    """Some steps in one database transaction."""

    def __init__(self, session: AsyncSession, steps: Sequence[Step], writer: Writer, *, placed: bool = True) -> None:
        self._session = session
        self._steps = steps
        self._writer = writer
        self._placed = placed
        self._going: dict[str, set[str]] = {}
        """Ids that are deleted here, by type."""
        self._drafts: dict[int, dict[str, Any]] = {}
        """What is written here, with its id, by entry."""
        self._meant: dict[str, str] = {}
        """What conditional references lead to."""
        self._patients: dict[tuple[str, str], str | None] = {}
        """Of what is written here."""
        self._known: dict[str, bool] = {}
        """Patients that were asked for, and whether the writer has them."""

    async def done(self) -> list[Result]:
        """Carry all of it out.

        Raises:
            FhirRefusal: nothing must be committed.
        """
        if any(map(_needs_the_lock, self._steps)):
            await _one_at_a_time(self._session, self._writer.owner)
        settled = await self._settled()
        filed: dict[int, FiledResource] = {}
        self._draft(settled)
        for one in settled:
            if one.step.place in self._drafts:
                with _within(one.step, self._placed):
                    filed[one.step.place] = await self._filed(one)
        self._patients = {(one.type, one.id): one.patient_id for one in filed.values()}
        await lock_rows(self._session, {one.address for one in settled if one.does in ("update", "delete")})
        results = []
        for one in sorted(settled, key=_turn):
            with _within(one.step, self._placed):
                results.append(await self._carry_out(one, filed.get(one.step.place)))
        return results

    # -------------------------------------------------------------- what each step does

    async def _settled(self) -> list[_Settled]:
        settled: list[_Settled] = []
        made: dict[tuple[str, Pairs], _Settled] = {}
        touched: set[tuple[str, str]] = set()
        for step in self._steps:  # deletions come first
            with _within(step, self._placed):
                one = _once(await self._settle(step), made)
                if one.does in ("create", "update", "delete"):
                    if one.address in touched:
                        raise FhirRefusal(FhirCode.BUNDLE, "two entries are one resource")
                    touched.add(one.address)
                if one.does == "delete":
                    self._going.setdefault(step.type, set()).add(one.id)
            settled.append(one)
        return settled

    async def _settle(self, step: Step) -> _Settled:
        self._need("s" if step.method == "GET" and step.id is None else _ACTIONS[step.method], step.type)
        if step.method == "GET":
            return _Settled(step, "read", step.id or "")
        found = [] if step.condition is None else await self._matching(step.type, step.condition)
        if len(found) > 1:
            raise FhirRefusal(FhirCode.MANY_MATCH)
        id_ = step.id or (found[0] if found else None)
        if step.method == "DELETE":
            return _Settled(step, "delete", id_) if id_ else _Settled(step, "nothing")
        if found and step.type == "Patient" and (survivor := await survivor_of(self._session, found[0])) != found[0]:
            # A hospital goes on sending the number of a record that was merged: it stands for the one that stayed,
            # whose own data it does not change.
            return _Settled(step, "nothing", survivor)
        if step.method == "POST":
            return _Settled(step, "nothing", id_) if id_ else _Settled(step, "create", self._writer.new_id())
        brought = (step.resource or {}).get("id")
        if id_ is not None:
            if brought not in (None, id_):
                raise FhirRefusal(FhirCode.WRONG_ID, "", [Place("resource.id")])
            return _Settled(step, "update", id_)
        if brought is None:
            return _Settled(step, "create", self._writer.new_id())
        if not self._writer.own_ids:
            raise FhirRefusal(FhirCode.NOT_FOUND, "nothing fits, and ids are made here")
        return _Settled(step, "create", str(brought))

    def _need(self, action: str, kind: str) -> None:
        if self._writer.outside is not None:
            self._writer.outside.need(action, kind)

    async def _matching(self, kind: str, condition: Pairs, without: frozenset[str] = frozenset()) -> list[str]:
        """Ids of what is stored, fits, and stays."""
        query = parse_condition(kind, condition)
        for beside in {kind} | types_beside(query):
            self._need("s", beside)  # whether something fits is an answer too
        going = without | self._going.get(kind, set())
        return await matching_ids(self._session, query, reach=self._writer.reach, without=going)

    # -------------------------------------------------------------- references

    def _draft(self, settled: Sequence[_Settled]) -> None:
        names = {name: f"{one.step.type}/{one.id}" for one in settled if one.id for name in names_of(one.step)}
        for one in settled:
            if one.does in ("create", "update"):
                self._drafts[one.step.place] = {**rewritten(one.step.resource, names), "id": one.id}

    async def _filed(self, one: _Settled) -> FiledResource:
        """The resource with references that lead somewhere."""
        draft, replaced = self._drafts[one.step.place], {}
        for reference in set(references_in(draft)):
            if unresolved(reference):
                raise FhirRefusal(FhirCode.UNRESOLVED, "", [Place("resource")])
            asked = conditional(reference)
            if asked is not None:
                if reference not in self._meant:
                    self._meant[reference] = f"{asked[0]}/{await self._one(*asked)}"
                replaced[reference] = self._meant[reference]
        return file_checked(rewritten(draft, replaced) if replaced else draft)

    async def _one(self, kind: str, condition: Pairs) -> str:
        """The one resource that fits, stored or written here."""
        here = {draft["id"]: draft for draft in self._drafts.values() if draft["resourceType"] == kind}
        found = set(await self._matching(kind, condition, frozenset(here)))
        query = parse_condition(kind, condition)
        found |= {id_ for id_, draft in here.items() if matches(query, _subject(draft, self._writer.at_ms))}
        if len(found) != 1:
            code = FhirCode.MANY_MATCH if found else FhirCode.UNRESOLVED
            raise FhirRefusal(code, "a conditional reference", [Place("resource")])
        return found.pop()

    # -------------------------------------------------------------- carrying out

    async def _carry_out(self, one: _Settled, filed: FiledResource | None) -> Result:
        step, writer = one.step, self._writer
        if one.does == "read":
            return await self._read(step)
        fresh = one.does == "create" and not writer.own_ids
        present = None if fresh or not one.id else await read_resource(self._session, *one.address)
        row = present[0] if present is not None else None
        if row is not None and not writer.reach.covers(row.patient_id, row.owner):
            raise FhirRefusal(FhirCode.NOT_FOUND)
        if one.does == "nothing":
            return Result(step, 204) if row is None else Result(step, 200, stored_of(row), seen=(row.patient_id,))
        if one.does == "delete":
            if row is None:
                raise FhirRefusal(FhirCode.NOT_FOUND)
            erased = await erase_resource(self._session, *one.address, at_ms=writer.at_ms, if_match=step.if_match)
            return Result(step, 204, erased)
        assert filed is not None
        if one.does == "update" and row is None and not writer.own_ids:
            raise FhirRefusal(FhirCode.NOT_FOUND)
        if one.does == "create" and row is not None and not row.deleted:
            raise FhirRefusal(FhirCode.WRONG_ID, "the id is taken, by something else than the condition asks for")
        return await self._written(step, filed, fresh=fresh)

    async def _written(self, step: Step, filed: FiledResource, *, fresh: bool) -> Result:
        writer = self._writer
        patient = await resolve_patient(self._session, filed, self._patients, writer.reach)
        await self._check_patient(filed, patient)
        stored = await write_resource(
            self._session,
            filed,
            patient=patient,
            at_ms=writer.at_ms,
            if_match=step.if_match,
            owner=writer.owner,
            fresh=fresh,
        )
        return Result(step, 201 if stored.created else 200, stored)

    async def _check_patient(self, filed: FiledResource, patient: str | None) -> None:
        """Whether the writer may write for this patient.

        Raises:
            FhirRefusal: ``not_found`` for a patient out of reach, whether there is one or not.
        """
        reach = self._writer.reach
        if self._writer.outside is None:
            return
        if reach.patients is not None:
            if patient is None:
                raise FhirRefusal(FhirCode.FORBIDDEN, "the directory is not a person's to change")
            if patient not in reach.patients:
                raise FhirRefusal(FhirCode.FORBIDDEN if filed.type == "Patient" else FhirCode.NOT_FOUND)
        elif patient is not None and filed.type != "Patient" and ("Patient", patient) not in self._patients:
            if patient not in self._known:
                found = await read_resource(self._session, "Patient", patient)
                self._known[patient] = (
                    found is not None and not found[0].deleted and reach.covers(patient, found[0].owner)
                )
            if not self._known[patient]:
                raise FhirRefusal(FhirCode.NOT_FOUND, "the patient")

    # -------------------------------------------------------------- reading

    async def _read(self, step: Step) -> Result:
        if step.id is None:
            return await self._search(step)
        present = await read_resource(self._session, step.type, step.id)
        if present is None or not self._writer.reach.covers(present[0].patient_id, present[0].owner):
            raise FhirRefusal(FhirCode.NOT_FOUND)
        if present[0].deleted:
            raise FhirRefusal(FhirCode.DELETED)
        stored = stored_of(present[0])
        if etag(stored.version) in step.if_none_match:
            return Result(step, 304, stored, seen=(stored.patient_id,))
        return Result(step, 200, stored, parse_json(present[1]), seen=(stored.patient_id,))

    async def _search(self, step: Step) -> Result:
        outside = self._writer.outside
        base = outside.base if outside is not None else ""
        query = parse_query(step.type, step.condition or (), base=base, now_us=self._writer.at_ms * 1_000)
        for beside in types_beside(query):
            self._need("s", beside)
        page = await search(self._session, step.type, query, reach=self._writer.reach)
        included = [row for row in page.included if outside is None or outside.covers("r", row.type)]
        entries = [_match_entry(base, row, "match", query.elements) for row in page.rows]
        entries += [_match_entry(base, row, "include") for row in included]
        if page.cut:
            told = outcome([information("not everything that was to be included is here", severity="warning")])
            entries.append({"resource": told, "search": {"mode": "outcome"}})
        body: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
        if page.total is not None:
            body["total"] = page.total
        if outside is not None:
            body["link"] = [{"relation": "self", "url": outside.this_page(query)}]
            if page.following is not None:
                body["link"].append({"relation": "next", "url": outside.next_page(query, page.following)})
        return Result(step, 200, None, body, tuple(row.patient_id for row in (*page.rows, *included)))


def _once(one: _Settled, made: dict[tuple[str, Pairs], _Settled]) -> _Settled:
    """The same; of two that must not be there yet and would be one, the second finds the first."""
    if one.does != "create" or one.step.condition is None:
        return one
    earlier = made.setdefault((one.step.type, tuple(sorted(one.step.condition))), one)
    if earlier is one:
        return one
    if "PUT" in (one.step.method, earlier.step.method):
        raise FhirRefusal(FhirCode.BUNDLE, "two entries are one resource")
    return _Settled(one.step, "nothing", earlier.id)


def _turn(one: _Settled) -> tuple[int, bool, str, str]:
    """Deletions, writes, reads; a patient goes when the record is gone."""
    return _TURNS[one.does], one.does == "delete" and one.step.type == "Patient", *one.address


def _needs_the_lock(step: Step) -> bool:
    return step.condition is not None and step.method != "GET"


def _subject(draft: dict[str, Any], at_ms: int) -> Subject:
    try:
        patient = patient_of(draft["resourceType"], draft)
    except ResourceInvalid:
        patient = None  # refused where it is filed
    return Subject(draft["id"], patient, at_ms, index_values(draft))


async def _one_at_a_time(session: AsyncSession, owner: str) -> None:
    """Two conditional creations of one hospital must not both find nothing. SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        lock = hash64("conditions", owner)
        await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})


def _match_entry(base: str, row: FhirResource, mode: str, elements: frozenset[str] | None = None) -> dict[str, Any]:
    url = f"{base}/{row.type}/{row.id}".removeprefix("/")
    whole = parse_json(row_text(row))
    resource = whole if elements is None else subset(whole, elements)
    return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}
