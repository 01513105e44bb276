"""What we need to know of a FHIR R4 resource to file it and to find it again.

The whole resource is checked once, when it is written, against the R4B models
of fhir.resources (R4B is R4 for every type used here; the library's default is
R5, under which R4 data does not parse). Reading never validates: what was
checked on the way in is sent as it was stored.
"""

import base64
import binascii
import importlib
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from server.record.core.banner import BannerInvalid, banner_of
from server.storage.chain import canonical_json

RECORD_TYPES = frozenset(
    {
        "Patient",
        "Condition",
        "MedicationRequest",
        "AllergyIntolerance",
        "Observation",
        "DiagnosticReport",
        "DocumentReference",
        "Encounter",
        "Binary",
    }
)
"""The types the record keeps. A type outside the list is refused, not ignored."""

TEST_TAG = ("http://terminology.hl7.org/CodeSystem/v3-ActReason", "HTEST")
"""``meta.tag`` of health data that describes no real person (W9)."""

BINARY_TYPES = {
    "text/plain": "text/plain; charset=utf-8",
    "text/plain; charset=utf-8": "text/plain; charset=utf-8",
    "image/png": "image/png",
    "image/jpeg": "image/jpeg",
    "application/pdf": "application/pdf",
}
"""``Binary.contentType`` that is stored -> what it is served as. Nothing a browser would run (G12)."""
_MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "application/pdf": b"%PDF-"}

_DATES = ("effectiveDateTime", "authoredOn", "recordedDate", "onsetDateTime", "issued", "date", "birthDate")
_MAX_PROBLEMS = 5


class ResourceInvalid(ValueError):
    """The resource cannot be stored; the text says what is wrong without quoting its content."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FiledResource:
    """A checked resource with the values it is found by."""

    type: str
    id: str
    patient_id: str
    category: str
    code: str
    date: str
    test: bool
    json: str


def file_resource(raw: Any) -> FiledResource:
    """Check a resource as parsed from JSON and derive its index values.

    Raises:
        ResourceInvalid: not an object, an unknown type, against the FHIR R4 schema,
            without id or patient, or a patient without what the banner needs (W18).
    """
    if not isinstance(raw, dict):
        raise ResourceInvalid("a FHIR resource is a JSON object")
    kind = raw.get("resourceType")
    if not isinstance(kind, str) or kind not in RECORD_TYPES:
        raise ResourceInvalid("resourceType is not one the record keeps")
    try:
        _refuse_null(kind, raw)
        _model(kind).model_validate(raw)
        text = canonical_json(raw)
    except ResourceInvalid:
        raise
    except ValidationError as problem:
        raise ResourceInvalid(f"{kind} is not valid FHIR R4: {_places(problem)}") from None
    except ValueError:
        raise ResourceInvalid(f"{kind} holds a number that JSON does not have") from None
    except RecursionError:
        raise ResourceInvalid(f"{kind} is nested too deeply") from None
    id_ = raw.get("id")
    if not isinstance(id_, str) or not id_:
        raise ResourceInvalid(f"{kind} has no id")
    if kind == "Patient":
        try:
            banner_of(raw, test=is_test(raw))
        except BannerInvalid as problem:
            raise ResourceInvalid(str(problem)) from None
    if kind == "Binary":
        _check_binary(raw)
    return FiledResource(
        type=kind,
        id=id_,
        patient_id=_patient_of(kind, raw),
        category=_first_code(raw.get("category")),
        code=_first_code(raw.get("code") or raw.get("medicationCodeableConcept") or raw.get("type")),
        date=_date_of(raw),
        test=is_test(raw),
        json=text,
    )


def is_test(raw: dict[str, Any]) -> bool:
    """Whether the resource is tagged as test data."""
    tags = raw.get("meta", {}).get("tag", [])
    return any((tag.get("system"), tag.get("code")) == TEST_TAG for tag in tags)


def _model(kind: str) -> type[BaseModel]:
    # One module per type: importing all of R4B takes seconds.
    found: type[BaseModel] = getattr(importlib.import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)
    return found


def _refuse_null(kind: str, value: Any) -> None:
    """FHIR JSON has no null properties (section 2.6.2.1); the models would take one for a required element."""
    if isinstance(value, dict):
        if any(item is None for item in value.values()):
            raise ResourceInvalid(f"{kind} has a property that is null")
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _refuse_null(kind, item)


def _places(problem: ValidationError) -> str:
    """Where and what kind, never the value: it may name a patient (G8)."""
    places = [f"{'.'.join(str(part) for part in e['loc']) or 'resource'} ({e['type']})" for e in problem.errors()]
    more = len(places) - _MAX_PROBLEMS
    return ", ".join(places[:_MAX_PROBLEMS]) + (f" and {more} more" if more > 0 else "")


def _check_binary(raw: dict[str, Any]) -> None:
    """The content is what its type says (G12)."""
    content_type = raw.get("contentType")
    if content_type not in BINARY_TYPES:
        raise ResourceInvalid("Binary has a content type that the record does not keep")
    try:
        data = base64.b64decode(raw.get("data") or "", validate=True)
    except (binascii.Error, TypeError):
        raise ResourceInvalid("Binary.data is not base64") from None
    if not data.startswith(_MAGIC.get(content_type, b"")):
        raise ResourceInvalid("Binary.data is not of its content type")
    if content_type.startswith("text/"):
        try:
            data.decode()
        except UnicodeDecodeError:
            raise ResourceInvalid("Binary.data is not UTF-8 text") from None


def _patient_of(kind: str, raw: dict[str, Any]) -> str:
    if kind == "Patient":
        return str(raw["id"])
    holder = raw.get("securityContext") if kind == "Binary" else raw.get("subject") or raw.get("patient")
    reference = holder.get("reference") if isinstance(holder, dict) else None
    if not isinstance(reference, str) or not reference.startswith("Patient/") or reference.count("/") != 1:
        raise ResourceInvalid(f"{kind} does not refer to a patient as Patient/<id>")
    return reference.removeprefix("Patient/")


def _first_code(concept: Any) -> str:
    if isinstance(concept, list):
        concept = concept[0] if concept else None
    if isinstance(concept, str):
        return concept[:64]  # AllergyIntolerance.category is a bare code
    if not isinstance(concept, dict):
        return ""
    coding = concept.get("coding") or [{}]
    return str(coding[0].get("code", ""))[:64]


def _date_of(raw: dict[str, Any]) -> str:
    for name in _DATES:
        if isinstance(raw.get(name), str):
            return str(raw[name])[:40]
    for name in ("effectivePeriod", "period"):
        period = raw.get(name)
        if isinstance(period, dict) and isinstance(period.get("start"), str):
            return str(period["start"])[:40]
    return ""
