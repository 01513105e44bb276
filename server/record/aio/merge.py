"""Two records of one patient become one (ADT A40).

Every resource of the merged patient gets a new version that names the survivor;
what it said before stays in its history. The merged Patient stays too, inactive
and linked, because a hospital goes on sending its old number. Open consults get
the survivor among their patients: nothing is opened or closed by itself, since a
change of identity on a screen is for a person to make.
"""

import json
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from server.decimals import parse_json
from server.record.aio.store import read_resource, write_resource
from server.record.core.bundle import rewritten
from server.record.core.outcome import FhirCode, FhirRefusal
from server.record.core.resource import file_checked
from server.storage import audit
from server.storage.fhir_tables import FhirResource
from server.storage.models import ConsultPatient

MAX_CHAIN = 32
"""Merges of merges that are followed."""


async def merge_patient(session: AsyncSession, *, survivor: str, merged: str, actor: str, at_ms: int) -> int:
    """Merge ``merged`` into ``survivor``; the same call again changes nothing.

    Returns:
        How many resources moved.

    Raises:
        FhirRefusal: ``not_found`` when either is not stored, ``unsupported`` when they are one, or a circle.
    """
    if survivor == merged:
        raise FhirRefusal(FhirCode.UNSUPPORTED, "a patient is not merged into itself")
    stays, goes = await _patient(session, survivor), await _patient(session, merged)
    if await survivor_of(session, survivor) == merged or any(
        _points(link, "replaced-by", merged) for link in stays.get("link", [])
    ):
        raise FhirRefusal(FhirCode.UNSUPPORTED, "they are merged the other way round")
    names = {f"Patient/{merged}": f"Patient/{survivor}"}
    query = select(FhirResource).where(
        FhirResource.patient_id == merged, FhirResource.type != "Patient", FhirResource.deleted.is_(False)
    )
    moved = 0
    for row in (await session.scalars(query.order_by(FhirResource.type, FhirResource.id))).all():
        filed = file_checked(rewritten(parse_json(row.json), names))
        await write_resource(session, filed, patient=survivor, at_ms=at_ms, moving=True)
        moved += 1
    changed = [
        await _put(session, _linked({**goes, "active": False}, "replaced-by", survivor), at_ms),
        await _put(session, _linked(stays, "replaces", merged), at_ms),
    ]
    await _offer_survivor(session, survivor, merged)
    if moved or any(changed):
        body = {"survivor": survivor, "patient": merged, "resources": moved}
        await audit.append(session, [audit.Entry(kind="patient_merged", at_ms=at_ms, actor=actor, body=body)])
    return moved


async def survivor_of(session: AsyncSession, patient: str) -> str:
    """Whose record a patient's is now: the end of the chain of merges, or the patient."""
    seen = [patient]
    while len(seen) <= MAX_CHAIN:
        found = await read_resource(session, "Patient", seen[-1])
        links = [] if found is None or found[0].deleted else json.loads(found[0].json).get("link", [])
        others = [link["other"].get("reference", "") for link in links if link.get("type") == "replaced-by"]
        after = next((one.removeprefix("Patient/") for one in others if one.startswith("Patient/")), None)
        if after is None or after in seen:
            break
        seen.append(after)
    return seen[-1]


async def _patient(session: AsyncSession, id_: str) -> dict[str, Any]:
    found = await read_resource(session, "Patient", id_)
    if found is None or found[0].deleted:
        raise FhirRefusal(FhirCode.NOT_FOUND)
    content: dict[str, Any] = parse_json(found[0].json)
    return content


async def _put(session: AsyncSession, patient: dict[str, Any], at_ms: int) -> bool:
    stored = await write_resource(session, file_checked(patient), patient=patient["id"], at_ms=at_ms)
    return stored.changed


def _linked(patient: dict[str, Any], kind: str, other: str) -> dict[str, Any]:
    links = patient.get("link", [])
    if any(_points(link, kind, other) for link in links):
        return patient
    return {**patient, "link": [*links, {"other": {"reference": f"Patient/{other}"}, "type": kind}]}


def _points(link: dict[str, Any], kind: str, other: str) -> bool:
    return link.get("type") == kind and link.get("other", {}).get("reference") == f"Patient/{other}"


async def _offer_survivor(session: AsyncSession, survivor: str, merged: str) -> None:
    consults = await session.scalars(select(ConsultPatient.consult_id).where(ConsultPatient.patient_id == merged))
    for consult in consults.all():
        if await session.get(ConsultPatient, (consult, survivor)) is None:
            last = await session.scalar(
                select(func.max(ConsultPatient.position)).where(ConsultPatient.consult_id == consult)
            )
            session.add(ConsultPatient(consult_id=consult, patient_id=survivor, position=(last or 0) + 1))
    await session.flush()
