"""Whose resource it is, and what may be asked: the checks on questions to the hospital's FHIR server; no I/O.

The hub's policy and the gateway's have both decided before a question comes here. These checks hold even if both were
wrong, and even if the hospital's server answers with more than it was asked: nothing of another patient leaves.
"""

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

SEARCHABLE: Final = frozenset(
    {"AllergyIntolerance", "Appointment", "CarePlan", "Composition", "Condition", "DiagnosticReport",
     "DocumentReference", "Encounter", "FamilyMemberHistory", "ImagingStudy", "Immunization", "Media",
     "MedicationAdministration", "MedicationRequest", "MedicationStatement", "Observation", "Procedure",
     "QuestionnaireResponse", "ServiceRequest", "Specimen", "Task"}
)  # fmt: skip
"""Types of the patient compartment with a search parameter ``patient`` (FHIR R4)."""
READABLE: Final = SEARCHABLE | {"Patient", "Binary"}

_PARAM: Final = re.compile(r"(?:_id|_lastUpdated|_sort|[a-z][a-z-]{0,40}(?::(?:exact|not|missing|text|above|below))?)")
"""No chain (``.``), no ``_has``, no ``_include``, no ``_elements`` (it may leave out whose a resource is)."""
_RESERVED: Final = frozenset({"patient", "subject", "identifier", "actor"})
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
MAX_VALUE_CHARS: Final = 500


def is_id(text: str) -> bool:
    """A FHIR id."""
    return _ID.fullmatch(text) is not None


def allowed_params(params: tuple[tuple[str, str], ...]) -> bool:
    """Whether a search asks about the patient's own resources only."""
    return len(params) <= 20 and all(
        _PARAM.fullmatch(name) and name.partition(":")[0] not in _RESERVED and 0 < len(value) <= MAX_VALUE_CHARS
        for name, value in params
    )


def belongs_to(resource: Any, kind: str, patient_id: str, identifiers: tuple[tuple[str, str], ...], base: str) -> bool:
    """Whether a resource is of a type and of exactly one patient: that one.

    Args:
        patient_id: the patient's id on the hospital's server.
        identifiers: of the same patient, for references by identifier.
        base: the server's address, for absolute references.
    """
    if not isinstance(resource, dict) or resource.get("resourceType") != kind:
        return False
    if kind == "Patient":
        return resource.get("id") == patient_id
    found = list(owners_of(resource, kind))
    return bool(found) and all(_is(one, patient_id, identifiers, base) for one in found)


def owners_of(resource: dict[str, Any], kind: str) -> Iterator[Any]:
    """References to patients that say whose it is; an appointment of two patients is nobody's alone."""
    if kind == "Appointment":
        for participant in resource.get("participant") or ():
            actor = participant.get("actor") if isinstance(participant, dict) else None
            if isinstance(actor, dict) and _names_patient(actor):
                yield actor
        return
    for name in ("subject", "patient", "for", "securityContext"):
        if resource.get(name) is not None:
            yield resource[name]


def _names_patient(reference: dict[str, Any]) -> bool:
    text = reference.get("reference")
    return reference.get("type") == "Patient" or (isinstance(text, str) and "Patient/" in text)


def _is(reference: Any, patient_id: str, identifiers: tuple[tuple[str, str], ...], base: str) -> bool:
    if not isinstance(reference, dict):
        return False
    text = reference.get("reference")
    if isinstance(text, str):
        plain = text.partition("/_history/")[0]
        return plain in (f"Patient/{patient_id}", f"{base}/Patient/{patient_id}")
    identifier = reference.get("identifier")
    if not isinstance(identifier, dict):
        return False
    return (identifier.get("system"), identifier.get("value")) in identifiers


def has_identifier(patient: Any, identifiers: tuple[tuple[str, str], ...]) -> bool:
    """Whether a Patient resource carries one of them: a server's search may match more loosely than it was asked."""
    if not isinstance(patient, dict) or patient.get("resourceType") != "Patient":
        return False
    carried = patient.get("identifier") or ()
    return any((one.get("system"), one.get("value")) in identifiers for one in carried if isinstance(one, dict))


def matches(bundle: Any) -> list[Any]:
    """The resources that a search found; what the server included beside them is left away."""
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle" or bundle.get("type") != "searchset":
        return []
    entries = [entry for entry in bundle.get("entry") or () if isinstance(entry, dict)]
    return [
        entry.get("resource")
        for entry in entries
        if not isinstance(entry.get("search"), dict) or entry["search"].get("mode", "match") == "match"
    ]


def next_link(bundle: Any, base: str) -> str | None:
    """Address of the next page, None at the end.

    Raises:
        ValueError: it leads away from the hospital's server.
    """
    links = bundle.get("link") or () if isinstance(bundle, dict) else ()
    found = next((one.get("url") for one in links if isinstance(one, dict) and one.get("relation") == "next"), None)
    if not isinstance(found, str):
        return None
    here, there = urlsplit(base), urlsplit(found)
    if not there.scheme and not there.netloc:  # relative to the server's base
        found = f"{base}/{found.lstrip('/')}" if not found.startswith("?") else f"{base}{found}"
        there = urlsplit(found)
    same = (there.scheme, there.netloc) == (here.scheme, here.netloc)
    inside = there.path == here.path or there.path.startswith(f"{here.path}/")
    if not same or not inside or ".." in there.path.split("/") or there.username is not None:
        raise ValueError("the next page is elsewhere")
    return found


def attachments(resource: Any) -> Iterator[str]:
    """Addresses of the Binary resources that a document or report shows."""
    if not isinstance(resource, dict):
        return
    found = list(resource.get("presentedForm") or ())
    found += [one.get("attachment") for one in resource.get("content") or () if isinstance(one, dict)]
    for one in found:
        if isinstance(one, dict) and isinstance(one.get("url"), str):
            yield one["url"]
