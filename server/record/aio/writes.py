"""Carry out writes, one or a Bundle of them; the only way from outside into the store.

All steps of a transaction run in the caller's database transaction: the first
refusal is raised through it and takes everything back. What costs time, checking
resources against the FHIR models, is done before (`prepare`), while nobody waits
for the database.
"""

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from server.record.aio.search import matching_ids, search
from server.record.aio.store import (
    Stored,
    erase_resource,
    read_resource,
    resolve_patient,
    row_text,
    stored_of,
    write_resource,
    written_entry,
)
from server.record.core.bundle import (
    Step,
    conditional,
    names_of,
    plan,
    references_in,
    rewritten,
    unresolved,
)
from server.record.core.layout import etag, instant
from server.record.core.outcome import FhirCode, FhirRefusal, Place
from server.record.core.reach import Reach
from server.record.core.resource import FiledResource, check_resource, file_checked
from server.storage import audit
from server.storage.fhir_tables import FhirResource

CONDITIONS_LOCK = 4_605_510
"""PostgreSQL advisory lock (the letters FHIR make no number): two conditional creations must not both find nothing."""


Permission = Callable[[str, str], None]
"""``(action, type)`` with an action of ``cruds``; raises a `FhirRefusal` where the writer may not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Writer:
    """Who writes.

    Args:
        owner: hospital that new resources come from.
        reach: what conditions and reads can find.
        permission: None inside the hub, where the caller has decided.
        own_ids: new resources may be put under ids of the writer's choice.
        new_id: makes an id.
    """

    actor: str
    at_ms: int
    owner: str
    reach: Reach
    permission: Permission | None = None
    own_ids: bool = False
    new_id: Callable[[], str] = lambda: secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Result:
    """What a step came to: a write, a read, or nothing to do."""

    step: Step
    status: int
    stored: Stored | None = None
    body: dict[str, Any] | None = None
    patients: tuple[str | None, ...] = ()
    """Whose records were read."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A Bundle whose resources have passed the FHIR models."""

    transaction: bool
    steps: list[Step]
    refused: Mapping[int, FhirRefusal]
    """By entry; only in a batch."""


async def prepare(bundle: Any) -> Prepared:
    """Check a Bundle in a thread of its own.

    Raises:
        FhirRefusal: it cannot be carried out.
    """
    return await asyncio.to_thread(prepare_now, bundle)


async def prepare_one(step: Step) -> None:
    """Check the resource of a single step, likewise.

    Raises:
        FhirRefusal: it cannot be stored.
    """
    if step.resource is not None:
        await asyncio.to_thread(check_resource, step.resource)


def prepare_now(bundle: Any) -> Prepared:
    """The same at once."""
    transaction, steps = plan(bundle)
    refused: dict[int, FhirRefusal] = {}
    for step in steps:
        if step.resource is None:
            continue
        try:
            check_resource(step.resource)
        except FhirRefusal as refusal:
            told = refusal.within(f"Bundle.entry[{step.place}].resource")
            if transaction:
                raise told from None
            refused[step.place] = told
    return Prepared(transaction, steps, refused)


async def apply_bundle(
    session: AsyncSession, bundle: Any, *, actor: str, at_ms: int, owner_hospital: str
) -> dict[str, Any]:
    """Carry out a transaction for a hospital, all or nothing, in the caller's database transaction.

    For callers inside the hub who have decided that it may be: conditions find what came from this hospital, and
    a PUT may bring its own id.

    Returns:
        The transaction-response Bundle.

    Raises:
        FhirRefusal: nothing must be committed.
    """
    prepared = await prepare(bundle)
    if not prepared.transaction:
        raise FhirRefusal(FhirCode.BUNDLE, "a transaction", [Place("Bundle.type")])
    writer = Writer(
        actor=actor, at_ms=at_ms, owner=owner_hospital, reach=Reach.of_hospital(owner_hospital), own_ids=True
    )
    results = await run_transaction(session, prepared, writer)
    return response("transaction-response", [answer_entry(result) for result in results])


async def run_transaction(session: AsyncSession, prepared: Prepared, writer: Writer) -> list[Result]:
    """All steps, in the order of their entries.

    Raises:
        FhirRefusal: with the entry it is about; nothing must be committed.
    """
    results = await _run(session, prepared.steps, writer)
    await append_written(session, results, writer)
    return sorted(results, key=lambda result: result.step.place)


async def append_written(session: AsyncSession, results: Sequence[Result], writer: Writer) -> None:
    """Audit rows of what was changed: the last thing that a transaction does."""
    written = [result.stored for result in results if result.stored is not None and result.stored.changed]
    await audit.append(session, [written_entry(stored, writer.actor, writer.at_ms) for stored in written])


async def run_one(session: AsyncSession, step: Step, writer: Writer) -> Result:
    """A single step whose resource has been checked.

    Raises:
        FhirRefusal: nothing must be committed.
    """
    results = await _run(session, [step], writer, placed=False)
    return results[0]


@dataclass(frozen=True, slots=True)
class _Settled:
    """A step, what it does (``create``, ``update``, ``delete``, ``read`` or ``nothing``), and to which id."""

    step: Step
    does: str
    id: str = ""


async def _run(session: AsyncSession, steps: Sequence[Step], writer: Writer, *, placed: bool = True) -> list[Result]:
    if any(step.condition is not None and step.method != "GET" for step in steps):
        await _one_at_a_time(session)
    settled: list[_Settled] = []
    for step in steps:
        with _within(step, placed):
            settled.append(await _settle(session, step, writer))
    names = {name: f"{one.step.type}/{one.id}" for one in settled if one.id for name in names_of(one.step)}
    filed: dict[int, FiledResource] = {}
    for one in settled:
        if one.does in ("create", "update"):
            with _within(one.step, placed):
                filed[one.step.place] = await _filed(session, one, names, writer)
    patients = {(one.type, one.id): one.patient_id for one in filed.values()}
    results = []
    for one in sorted(settled, key=_locking_order):
        with _within(one.step, placed):
            results.append(await _carry_out(session, one, filed.get(one.step.place), patients, writer))
    return results


def _locking_order(one: _Settled) -> tuple[int, str, str]:
    """Rows are locked in one order by all, so that two transactions cannot wait for each other in a circle."""
    return ({"delete": 0, "read": 2}.get(one.does, 1), one.step.type, one.id)


class _within:
    """Refusals name the entry they came from."""

    def __init__(self, step: Step, placed: bool) -> None:
        self._place = f"Bundle.entry[{step.place}]" if placed else ""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, problem: BaseException | None, _trace: object) -> None:
        if isinstance(problem, FhirRefusal) and self._place:
            raise problem.within(self._place) from None


async def _one_at_a_time(session: AsyncSession) -> None:
    """SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": CONDITIONS_LOCK})


_ACTIONS = {"GET": "r", "POST": "c", "PUT": "u", "DELETE": "d"}


async def _settle(session: AsyncSession, step: Step, writer: Writer) -> _Settled:
    if writer.permission is not None:
        searches = step.method == "GET" and step.id is None
        writer.permission("s" if searches else _ACTIONS[step.method], step.type)
    if step.method == "GET":
        return _Settled(step, "read", step.id or "")
    found: list[str] = []
    if step.condition is not None:
        found = await matching_ids(session, step.type, step.condition, reach=writer.reach)
    if len(found) > 1:
        raise FhirRefusal(FhirCode.MANY_MATCH)
    id_ = step.id or (found[0] if found else None)
    match step.method:
        case "DELETE":
            return _Settled(step, "delete", id_) if id_ else _Settled(step, "nothing")
        case "POST":
            return _Settled(step, "nothing", id_) if id_ else _Settled(step, "create", writer.new_id())
    brought = (step.resource or {}).get("id")
    if id_ is None:
        return _Settled(step, "create", brought if writer.own_ids and isinstance(brought, str) else writer.new_id())
    if brought not in (None, id_):
        raise FhirRefusal(FhirCode.WRONG_ID, "", [Place("resource.id")])
    return _Settled(step, "update", id_)


async def _filed(session: AsyncSession, one: _Settled, names: Mapping[str, str], writer: Writer) -> FiledResource:
    """The resource with its id and with references that lead somewhere."""
    assert one.step.resource is not None
    resource = one.step.resource
    replaced = dict(names)
    for reference in set(references_in(resource)) - names.keys():
        if unresolved(reference):
            raise FhirRefusal(FhirCode.UNRESOLVED, "", [Place("resource")])
        if (condition := conditional(reference)) is not None:
            found = await matching_ids(session, condition[0], condition[1], reach=writer.reach)
            if len(found) != 1:
                code = FhirCode.MANY_MATCH if found else FhirCode.UNRESOLVED
                raise FhirRefusal(code, "a conditional reference", [Place("resource")])
            replaced[reference] = f"{condition[0]}/{found[0]}"
    return file_checked({**rewritten(resource, replaced), "id": one.id})


async def _carry_out(
    session: AsyncSession,
    one: _Settled,
    filed: FiledResource | None,
    patients: Mapping[tuple[str, str], str | None],
    writer: Writer,
) -> Result:
    step = one.step
    if one.does == "read":
        return await _read(session, step, writer)
    present = await read_resource(session, step.type, one.id) if one.id else None
    row = present[0] if present is not None else None
    if row is not None and not writer.reach.covers(row.patient_id, row.owner):
        raise FhirRefusal(FhirCode.NOT_FOUND)
    if one.does == "nothing":
        return Result(step, 200 if row is not None else 204, None if row is None else stored_of(row))
    if one.does == "delete":
        if row is None:
            raise FhirRefusal(FhirCode.NOT_FOUND)
        erased = await erase_resource(session, step.type, one.id, at_ms=writer.at_ms, if_match=step.if_match)
        return Result(step, 204, erased)
    assert filed is not None
    if one.does == "update" and row is None and not writer.own_ids:
        raise FhirRefusal(FhirCode.NOT_FOUND)
    patient = await resolve_patient(session, filed, patients)
    await _check_patient(session, filed, patient, patients, writer)
    stored = await write_resource(
        session, filed, patient=patient, at_ms=writer.at_ms, if_match=step.if_match, owner=writer.owner
    )
    return Result(step, 201 if stored.created else 200, stored)


async def _check_patient(
    session: AsyncSession,
    filed: FiledResource,
    patient: str | None,
    patients: Mapping[tuple[str, str], str | None],
    writer: Writer,
) -> None:
    """Whether the writer may write for this patient.

    Raises:
        FhirRefusal: ``not_found`` for a patient out of reach, whether there is one or not.
    """
    if writer.permission is None:
        return
    if writer.reach.patients is not None:
        if patient is None:
            raise FhirRefusal(FhirCode.FORBIDDEN, "the directory is not a person's to change")
        if patient not in writer.reach.patients:
            raise FhirRefusal(FhirCode.FORBIDDEN if filed.type == "Patient" else FhirCode.NOT_FOUND)
    elif patient is not None and filed.type != "Patient" and ("Patient", patient) not in patients:
        known = await read_resource(session, "Patient", patient)
        if known is None or known[0].deleted or not writer.reach.covers(known[0].patient_id, known[0].owner):
            raise FhirRefusal(FhirCode.NOT_FOUND, "the patient")


async def _read(session: AsyncSession, step: Step, writer: Writer) -> Result:
    if step.id is None:
        page = await search(session, step.type, list(step.condition or ()), reach=writer.reach)
        entries = [match_entry(row, "match") for row in page.rows]
        body = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
        return Result(step, 200, None, body, tuple(row.patient_id for row in page.rows))
    present = await read_resource(session, step.type, step.id)
    if present is None or not writer.reach.covers(present[0].patient_id, present[0].owner):
        raise FhirRefusal(FhirCode.NOT_FOUND)
    if present[0].deleted:
        raise FhirRefusal(FhirCode.DELETED)
    stored = stored_of(present[0])
    return Result(step, 200, stored, json.loads(present[1]), (stored.patient_id,))


# ------------------------------------------------------------------ answers


def match_entry(row: FhirResource, mode: str) -> dict[str, Any]:
    """An entry of a searchset."""
    return {"fullUrl": f"{row.type}/{row.id}", "resource": json.loads(row_text(row)), "search": {"mode": mode}}


def response(kind: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """A response Bundle."""
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


_STATUS = {200: "200 OK", 201: "201 Created", 204: "204 No Content"}


def answer_entry(result: Result) -> dict[str, Any]:
    """What a step came to, as an entry."""
    told: dict[str, Any] = {"status": _STATUS[result.status]}
    stored = result.stored
    if stored is not None:
        told |= {"etag": etag(stored.version), "lastModified": instant(stored.written_at_ms)}
        if result.step.method != "GET":
            told["location"] = f"{stored.type}/{stored.id}/_history/{stored.version}"
    return {"response": told} | ({"resource": result.body} if result.body is not None else {})


def refused_entry(refusal: FhirRefusal) -> dict[str, Any]:
    """The same for a step of a batch that was declined."""
    return {"response": {"status": str(refusal.status), "outcome": refusal.outcome}}
