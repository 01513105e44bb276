"""Whom and what a program means: its patient found among the consult's, its resource as we keep it. (H24)

Another system may know our patient by another id, never by other identifiers. So the patient of an event is the one
of the consult's patients who has one of its identifiers, system and value. Whoever says the id of one of our patients
with identifiers that are not that patient's, or with another birth date or sex, means somebody else: refused,
because two records that are mixed up are worse than one that does not open.
"""

from collections.abc import Iterable
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


def foreign_anchor(resource: JsonObject, claim: JsonObject, patient: str) -> AnchorFacts:
    """A resource that is not in our record, as everyone will see it: of our patient, by our id.

    Args:
        claim: the Patient of the same event, whose id its references use.

    Raises:
        HubRefusal: 400, or 409 for a resource of somebody else.
    """
    subject = resource.get("patient" if "patient" in resource else "subject")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    if reference is not None and reference not in (f"Patient/{claim['id']}", f"Patient/{patient}"):
        raise HubRefusal(409, "wrong_patient", "The resource belongs to another patient than the event names.")
    named = {"reference": f"Patient/{patient}"}
    kept = {name: value for name, value in resource.items() if name not in ("subject", "patient", "text", "contained")}
    try:
        return facts_of({**kept, "subject": named}, foreign=True)
    except ValidationError:
        raise malformed("The resource has no usable id.") from None


def _identifiers(patient: JsonObject) -> set[tuple[str, str]]:
    found = patient.get("identifier")
    return {pair for one in found if (pair := _pair(one)) is not None} if isinstance(found, list) else set()


def _pair(identifier: Any) -> tuple[str, str] | None:
    if not isinstance(identifier, dict):
        return None
    system, value = identifier.get("system", ""), identifier.get("value")
    return (system, value) if isinstance(value, str) and value and isinstance(system, str) else None


def _not_the_same() -> HubRefusal:
    return HubRefusal(
        409, "identifiers_wrong", "The patient's identifiers, birth date or gender do not agree with ours."
    )


def _depth(value: Any, at: int = 0) -> int:
    if at > MAX_DEPTH or not isinstance(value, dict | list):
        return at
    inside = value.values() if isinstance(value, dict) else value
    return max((_depth(one, at + 1) for one in inside), default=at)
