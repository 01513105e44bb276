"""Carry out writes, one or a Bundle of them; the only way from outside into the store.

What costs time, checking resources against the FHIR models, is done before
(`prepare`), while nobody waits for the database; the steps themselves are `carrying.py`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from server.record.aio.carrying import Result, Run, Writer
from server.record.aio.store import (
    written_entry,
)
from server.record.core.bundle import (
    Step,
    plan,
)
from server.record.core.layout import etag, instant
from server.record.core.outcome import FhirCode, FhirRefusal, Place
from server.record.core.reach import Reach
from server.record.core.resource import check_resource
from server.storage import audit


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
    planned = plan(bundle)
    refused = dict(planned.refused)
    for step in planned.steps:
        if step.resource is None:
            continue
        try:
            check_resource(step.resource)
        except FhirRefusal as refusal:
            told = refusal.within(f"Bundle.entry[{step.place}].resource")
            if planned.transaction:
                raise told from None
            refused[step.place] = told
    return Prepared(planned.transaction, planned.steps, refused)


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
    results = await Run(session, prepared.steps, writer).done()
    await append_written(session, results, writer)
    return sorted(results, key=lambda result: result.step.place)


async def append_written(session: AsyncSession, results: Sequence[Result], writer: Writer) -> None:
    """Audit rows of what was changed and shown (G5): the last thing that a transaction does."""
    written = [result.stored for result in results if result.stored is not None and result.stored.changed]
    entries = [written_entry(stored, writer.actor, writer.at_ms) for stored in written]
    if writer.outside is not None:
        entries += [writer.outside.reading(result) for result in results if result.seen is not None]
    await audit.append(session, entries)


async def run_one(session: AsyncSession, step: Step, writer: Writer) -> Result:
    """A single step whose resource has been checked.

    Raises:
        FhirRefusal: nothing must be committed.
    """
    results = await Run(session, [step], writer, placed=False).done()
    return results[0]


# ------------------------------------------------------------------ answers


def response(kind: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """A response Bundle."""
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


_STATUS = {200: "200 OK", 201: "201 Created", 204: "204 No Content", 304: "304 Not Modified"}


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
