"""Whom and what a program means: its patient found among the consult's, its resource as we keep it. (H24)

Another system may know our patient by another id, never by other identifiers. So the patient of an event is the one
of the consult's patients who has one of its identifiers, system and value. Whoever says the id of one of our patients
with identifiers that are not that patient's, with another number of the same system, or with another birth date or
sex, means somebody else: refused, because two records that are mixed up are worse than one that does not open.

The same holds for studies, reports and encounters: another system knows a study by its UID, not by our id.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from server.fhircast.core import names
from server.fhircast.core.refusals import HubRefusal, malformed, unknown_resource
from server.fhircast.core.requests import EventRequest
from signaling.core.anchor import facts_of
from signaling.core.case import AnchorFacts
from signaling.core.content import size_bytes
from signaling.core.errors import Refusal
from signaling.core.model import JsonObject

MAX_RESOURCE_BYTES = 16_384
"""Of a resource that is not in our record: it becomes part of the consult's snapshot."""
MAX_DEPTH = 16


def claimed_patient(request: EventRequest) -> JsonObject:
    """The Patient of an open or close, with id and identifier. (H24)

    Raises:
        HubRefusal: 400.
    """
    patient = request.resource("patient")
    if patient is None or patient.get("resourceType") != "Patient":
        raise malformed("context needs the key patient with a Patient resource.")
    if not isinstance(patient.get("id"), str) or not patient["id"]:
        raise malformed("Patient needs id.")
    if request.name.endswith("-open") and not _identifiers(patient):
        raise malformed("Patient needs at least one identifier with a value.")
    return patient


def find_patient(claim: JsonObject, candidates: Iterable[JsonObject]) -> JsonObject:
    """The one of the consult's patients whom the program means.

    Raises:
        HubRefusal: 404 for nobody of this session, 409 when identity does not agree.
    """
    wanted = _identifiers(claim)
    candidates = list(candidates)
    by_id = [one for one in candidates if one["id"] == claim["id"]]
    found = [one for one in candidates if _identifiers(one) & wanted] if wanted else by_id
    if by_id and found != by_id:
        raise _not_the_same()
    if len(found) != 1:
        raise unknown_resource() if not found else _not_the_same()
    patient = found[0]
    if _contradict(claim, patient):
        raise _not_the_same()
    for name in ("birthDate", "gender"):
        said, known = claim.get(name), patient.get(name)
        if said not in (None, "", "unknown") and known not in (None, "", "unknown") and said != known:
            raise _not_the_same()
    return patient


def claimed_anchor(request: EventRequest, kind: str) -> JsonObject:
    """The resource that an event is about.

    Raises:
        HubRefusal: 400, or 413 for one that is too large.
    """
    resource = request.resource(names.KEYS[kind])
    if resource is None or resource.get("resourceType") != kind or not isinstance(resource.get("id"), str):
        raise malformed(f"context needs the key {names.KEYS[kind]} with a resource of type {kind} and its id.")
    try:
        size = size_bytes(resource)
    except Refusal:
        raise malformed("The resource is not JSON.") from None
    if size > MAX_RESOURCE_BYTES or _depth(resource) > MAX_DEPTH:
        raise HubRefusal(413, "content_too_large", "The resource is too large.")
    return resource


def find_anchor(resource: JsonObject, patient: str, candidates: Iterable[tuple[str, JsonObject]]) -> JsonObject | None:
    """The resource of our record that a program means; None: it is in no record of ours.

    Args:
        candidates: resources of the consult's patients that have its id or one of its identifiers, with whose they
            are.

    Raises:
        HubRefusal: 409: of another patient of the consult, or its identifiers are not those of the one with its id.
    """
    wanted = _identifiers(resource)
    found: list[JsonObject] = []
    for owner, one in candidates:
        if not _identifiers(one) & wanted and _contradict(resource, one):
            if owner == patient and one["id"] == resource["id"]:
                raise HubRefusal(409, "identifiers_wrong", "The resource's identifiers do not agree with ours.")
            continue  # another system gave the same id to something else
        if owner != patient:
            raise _another_patients()
        found.append(one)
    if len({one["id"] for one in found}) > 1:
        raise HubRefusal(409, "identifiers_wrong", "The resource's id and identifiers are of different resources.")
    return found[0] if found else None


def check_subject(resource: JsonObject, claim: JsonObject, patient: str) -> None:
    """Whoever a resource says it belongs to is the patient of the event.

    Args:
        claim: the Patient of the same event, whose id its references use.

    Raises:
        HubRefusal: 409.
    """
    ours = f"Patient/{claim['id']}", f"Patient/{patient}"
    for name in ("subject", "patient"):
        subject = resource.get(name)
        if subject is None:
            continue
        if not isinstance(subject, dict) or subject.get("reference") not in (None, *ours):
            raise _another_patients()
        logical = _pair(subject.get("identifier"))
        if logical is not None and logical not in _identifiers(claim):
            raise _another_patients()


def foreign_anchor(resource: JsonObject, patient: str, about: Mapping[str, str]) -> AnchorFacts:
    """A resource that is not in our record, as everyone will see it: of our patient, by our id.

    Args:
        about: what the same event opens with it, by type: our ids.

    Raises:
        HubRefusal: 400.
    """
    left_out = ("subject", "patient", "text", "contained", *(("encounter",) if "Encounter" in about else ()))
    kept = {name: value for name, value in resource.items() if name not in left_out}
    kept["subject"] = {"reference": f"Patient/{patient}"}
    if "Encounter" in about:
        kept["encounter"] = {"reference": f"Encounter/{about['Encounter']}"}
    if "ImagingStudy" in about and resource["resourceType"] == "DiagnosticReport":
        kept["imagingStudy"] = [{"reference": f"ImagingStudy/{about['ImagingStudy']}"}]
    try:
        return facts_of(kept, foreign=True)
    except ValidationError:
        raise malformed("The resource has no usable id.") from None


def identifiers_of(resource: JsonObject) -> set[tuple[str, str]]:
    """System and value of each that has both: by these a resource is looked up."""
    return {pair for pair in _identifiers(resource) if pair[0]}


def _contradict(one: JsonObject, other: JsonObject) -> bool:
    """Both have numbers of one system, and none of it in common. What is not in use any more does not count."""
    mine, theirs = identifiers_of(one), identifiers_of(other)
    return any(
        {value for of, value in mine if of == system}.isdisjoint(value for of, value in theirs if of == system)
        for system in {system for system, _ in mine} & {system for system, _ in theirs}
    )


def _identifiers(patient: JsonObject) -> set[tuple[str, str]]:
    found = patient.get("identifier")
    return {pair for one in found if (pair := _pair(one)) is not None} if isinstance(found, list) else set()


def _pair(identifier: Any) -> tuple[str, str] | None:
    if not isinstance(identifier, dict):
        return None
    system, value = identifier.get("system", ""), identifier.get("value")
    if identifier.get("use") == "old":
        return None
    return (system, value) if isinstance(value, str) and value and isinstance(system, str) else None


def _another_patients() -> HubRefusal:
    return HubRefusal(409, "wrong_patient", "The resource belongs to another patient than the event names.")


def _not_the_same() -> HubRefusal:
    return HubRefusal(
        409, "identifiers_wrong", "The patient's identifiers, birth date or gender do not agree with ours."
    )


def _depth(value: Any, at: int = 0) -> int:
    if at > MAX_DEPTH or not isinstance(value, dict | list):
        return at
    inside = value.values() if isinstance(value, dict) else value
    return max((_depth(one, at + 1) for one in inside), default=at)
