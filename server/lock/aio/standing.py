"""A gateway's Bundle as it may be applied to this record: merged patients followed, older news left out.

In the inbox's transaction, before `server.record` carries the Bundle out:

- a hospital goes on sending the number of a patient who was merged (A40): what comes under it is the surviving
  patient's, and the retired registration is neither brought back nor written over the survivor's;
- a result whose patient has the number of one person and name and birth date of another is refused;
- where a resource is there already, `server.lock.core.standing` says what of the message may replace it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from server.decimals import parse_json
from server.gateway.hl7v2.bundle import token_part
from server.lock.aio.held import Held
from server.lock.aio.inbox import CrossingRefused
from server.lock.core.standing import TYPES, is_other_person, overtaken, plain, standing
from server.record.aio.merge import survivor_of
from server.record.aio.search import search
from server.record.aio.store import read_resource, versions_of
from server.record.core.bundle import Step, rewritten, step_of
from server.record.core.query import parse_condition
from server.record.core.reach import Reach

Json = dict[str, Any]
MAX_VERSIONS = 50
"""Of a patient that are looked at for an earlier name."""


async def settled(session: AsyncSession, bundle: Any, *, owner: str, held: Held) -> Any:
    """The Bundle that is to be applied.

    Args:
        owner: the gateway's hospital.
        held: the crossing's kind, and whether it was held back while newer ones came.

    Raises:
        CrossingRefused: ``other_person``.
        server.record.core.outcome.FhirRefusal: it is no Bundle that could be applied.
    """
    entries = bundle.get("entry") if isinstance(bundle, dict) else None
    if not isinstance(entries, list):
        return bundle
    steps = [step_of(place, entry) for place, entry in enumerate(entries)]
    reach = Reach.of_hospital(owner)
    found = [await _found(session, step, reach) for step in steps]
    names = {
        name: f"{step.type}/{one.id}"
        for step, one in zip(steps, found, strict=True)
        for name in (step.full_url, *(f"Patient/{other}" for other in one.others))
        if name and one.id is not None
    }
    kept, gone = [], set[str]()
    for step, entry, one in zip(steps, entries, found, strict=True):
        if step.type == "Patient" and step.method == "POST" and one.id is not None:
            await _refuse_other_person(session, step, one.id)
        if one.left_out:
            continue
        stored = await _entry(session, step, entry, one.id, names, held, gone)
        if stored is not None:
            kept.append(stored)
    return {**bundle, "entry": [_renamed(one, names) for one in kept if not _is_of(one, gone)]}


@dataclass(frozen=True, slots=True)
class _Found:
    """What a step is about, where it is there and is one.

    Args:
        others: records that were merged into it.
        left_out: the step is about a merged record, or only makes sure of a patient who is there.
    """

    id: str | None = None
    others: frozenset[str] = frozenset()
    left_out: bool = False


async def _found(session: AsyncSession, step: Step, reach: Reach) -> _Found:
    if step.type not in TYPES or step.method not in ("PUT", "POST"):
        return _Found()
    if step.condition is None:
        return _Found(step.id)
    ids = [
        row.id
        for row in (await search(session, step.type, parse_condition(step.type, step.condition), reach=reach)).rows
    ]
    if step.type != "Patient":
        return _Found(ids[0]) if len(ids) == 1 else _Found()
    survivors = {await survivor_of(session, one) for one in ids}
    if len(survivors) != 1:
        return _Found()
    (survivor,) = survivors
    is_retired = survivor not in ids
    return _Found(survivor, frozenset(ids) - survivors, is_retired or (len(ids) > 1 and step.method == "POST"))


async def _refuse_other_person(session: AsyncSession, step: Step, patient: str) -> None:
    """A registration may change who somebody is; a result or an ECG may not be somebody else's.

    Raises:
        CrossingRefused: ``other_person``.
    """
    if await is_stranger(session, patient, step.resource or {}):
        raise CrossingRefused("other_person", "birth date and name are not those of the patient with this number")


async def is_stranger(session: AsyncSession, patient: str, said: Json) -> bool:
    """Whether a message about a stored patient is about somebody else.

    Who came in unknown and has a name since is both: what still comes under the name of before is this patient's.
    """
    row = await read_resource(session, "Patient", patient)
    if row is None or row[0].deleted or not is_other_person(json.loads(row[0].json), said):
        return False
    versions = await versions_of(session, "Patient", patient, limit=MAX_VERSIONS)
    return all(is_other_person(json.loads(one.json), said) for one in versions if one.json)


async def patients_named(session: AsyncSession, system: str, value: str, reach: Reach) -> list[str]:
    """Every stored patient with an identifier; records that were merged into one another may share it."""
    token = ("identifier", f"{token_part(system)}|{token_part(value)}")
    # As a condition: a number that is empty is refused, or it would name everybody whom the system knows.
    return [row.id for row in (await search(session, "Patient", parse_condition("Patient", [token]), reach=reach)).rows]


async def _entry(
    session: AsyncSession,
    step: Step,
    entry: Json,
    found: str | None,
    names: Mapping[str, str],
    held: Held,
    gone: set[str],
) -> Json | None:
    """The entry as it is applied; None where what is there stays.

    Args:
        gone: to which the pages of what is older than what is there are added.
    """
    if step.resource is None:
        return entry
    said: Json = rewritten(step.resource, names)
    entry = {**entry, "resource": plain(said)}
    row = await read_resource(session, step.type, found) if found is not None and step.method == "PUT" else None
    if row is None or row[0].deleted or found is None:
        return entry
    whose = said.get("subject", {}).get("reference")
    if step.type != "Patient" and whose not in (None, f"Patient/{row[0].patient_id}"):
        return entry  # another patient's: refused where it is written
    present = parse_json(row[0].json)
    is_older = await held.is_older_than(row[0])
    becomes = overtaken(present, said, held.kind) if is_older else standing(present, said, held.kind)
    if is_older or becomes is None:
        gone |= set(_attached(entry["resource"]))
    if becomes is None:
        return None
    request = {**entry["request"], "url": f"{step.type}/{found}"}
    return {**entry, "resource": {**becomes, "id": found}, "request": request}


def _renamed(entry: Json, names: Mapping[str, str]) -> Json:
    return {**entry, "resource": rewritten(entry["resource"], names)} if "resource" in entry else entry


def _attached(resource: Json) -> list[str]:
    """Binaries that a report or document shows: an older report's pages do not replace the newer one's."""
    forms = [*resource.get("presentedForm", []), *(one.get("attachment", {}) for one in resource.get("content", []))]
    return [str(one["url"]) for one in forms if one.get("url")]


def _is_of(entry: Json, gone: set[str]) -> bool:
    return entry.get("request", {}).get("url") in gone
