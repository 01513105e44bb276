"""What we need to know of a FHIR R4 resource to file it and to find it again.

The whole resource is checked once, when it is written, against the R4B models
of fhir.resources (R4B is R4 for every type used here; the library's default is
R5, under which R4 data does not parse). Reading never validates: what was
checked on the way in is sent as it was stored.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from server.record.core.banner import BannerInvalid, banner_of
from server.record.core.elements import is_subsetted, model_of
from server.record.core.index import walk
from server.record.core.layout import kept_text
from server.record.core.outcome import FhirCode, FhirRefusal, Place
from server.record.core.params import TYPES

RECORD_TYPES = frozenset(TYPES)
"""The types the record keeps. A type outside the list is refused, not ignored."""

TEST_TAG = ("http://terminology.hl7.org/CodeSystem/v3-ActReason", "HTEST")
"""``meta.tag`` of health data that describes no real person (W9)."""

BINARY_TYPES = {
    "text/plain": "text/plain; charset=utf-8",
    "text/plain; charset=utf-8": "text/plain; charset=utf-8",
    "image/png": "image/png",
    "image/jpeg": "image/jpeg",
    "application/pdf": "application/pdf",
    "application/dicom": "application/dicom",
}
"""``Binary.contentType`` that is stored -> what it is served as. Nothing a browser would run (G12)."""
_MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "application/pdf": b"%PDF-"}

MAX_PLACES = 20
"""Problems that one refusal names."""
MAX_JSON_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 100
"""Lists and objects within each other; deeper content would reach the end of the stack of whoever walks it."""
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
_LOCAL = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?", re.ASCII)


class ResourceInvalid(FhirRefusal, ValueError):
    """The resource cannot be stored; the text says what is wrong without quoting its content."""

    def __init__(self, detail: str, places: tuple[Place, ...] = (), code: FhirCode = FhirCode.INVALID) -> None:
        super().__init__(code, detail, places)


class PatientIncomplete(ResourceInvalid):
    """A patient without what every screen must show (W18): another message may bring it."""

    def within(self, expression: str) -> "PatientIncomplete":
        """See `FhirRefusal.within`."""
        told = super().within(expression)
        return PatientIncomplete(told.detail, told.places)


@dataclass(frozen=True, kw_only=True, slots=True)
class FiledResource:
    """A checked resource with what it is filed by.

    Args:
        patient_id: of whose record it is part; None in the directory, and for a Provenance that names no patient.
        references: ``Type/id`` of everything in this store that it refers to.
        json: as kept (`layout.py`).
    """

    type: str
    id: str
    patient_id: str | None
    category: str
    test: bool
    references: frozenset[tuple[str, str]]
    content: dict[str, Any]
    json: str


def file_resource(raw: Any) -> FiledResource:
    """Check a resource as parsed from JSON and derive what it is filed by.

    Raises:
        ResourceInvalid: not an object, an unknown type, against the FHIR R4 schema,
            without id or patient, or a patient without what the banner needs (W18).
    """
    check_resource(raw)
    return file_checked(raw)


def check_resource(raw: Any) -> None:
    """Check a resource against the FHIR models: what takes time, and needs no id yet.

    Raises:
        ResourceInvalid: not an object, an unknown type, or against the FHIR R4 schema.
    """
    if not isinstance(raw, dict):
        raise ResourceInvalid("a FHIR resource is a JSON object", code=FhirCode.NOT_JSON)
    kind = raw.get("resourceType")
    if not isinstance(kind, str) or kind not in RECORD_TYPES:
        raise ResourceInvalid("resourceType is not one the record keeps", code=FhirCode.UNKNOWN_TYPE)
    _checked(kind, raw)


def file_checked(raw: dict[str, Any]) -> FiledResource:
    """Derive what a resource is filed by that has passed `check_resource`.

    Raises:
        ResourceInvalid: without id or patient, or a patient without what the banner needs (W18).
    """
    kind = raw["resourceType"]
    id_ = raw.get("id")
    if not isinstance(id_, str) or not is_id(id_):
        raise ResourceInvalid(f"{kind} has no id", (Place(f"{kind}.id", "required"),))
    if kind == "Patient":
        try:
            banner_of(raw, test=is_test(raw))
        except BannerInvalid as problem:
            raise PatientIncomplete(str(problem)) from None
    if kind == "Binary":
        _check_binary(raw)
    return FiledResource(
        type=kind,
        id=id_,
        patient_id=patient_of(kind, raw),
        category=first_code(raw.get("category")),
        test=is_test(raw),
        references=frozenset(_references(raw)),
        content=raw,
        json=kept_text(raw),
    )


def _checked(kind: str, raw: dict[str, Any]) -> None:
    try:
        _refuse_null(kind, raw)
        model_of(kind).model_validate(raw)
        if any(map(is_subsetted, (raw.get("meta") or {}).get("tag") or [])):
            detail = f"{kind} is a part of a resource (SUBSETTED): stored, it would end what it lacks"
            raise ResourceInvalid(detail, (Place(f"{kind}.meta.tag"),))
        text = kept_text(raw)
        if len(text.encode()) > MAX_JSON_BYTES:
            raise ResourceInvalid(f"{kind} is too large", code=FhirCode.TOO_LARGE)
    except ResourceInvalid:
        raise
    except ValidationError as problem:
        places = _places(kind, problem)
        named = ", ".join(f"{place.expression} ({place.problem})" for place in places[:5])
        raise ResourceInvalid(f"{kind} is not valid FHIR R4: {named}", places) from None
    except UnicodeEncodeError:
        raise ResourceInvalid(f"{kind} holds half a character") from None
    except ValueError:
        raise ResourceInvalid(f"{kind} holds a number that JSON does not have") from None


def is_id(text: str) -> bool:
    """Whether a text may be the id of a resource."""
    return _ID.fullmatch(text) is not None


def local_reference(text: str) -> tuple[str, str] | None:
    """``(type, id)`` of a reference into this store; None for any other."""
    found = _LOCAL.fullmatch(text)
    return None if found is None else (found[1], found[2])


def _references(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        reference = value.get("reference")
        if isinstance(reference, str) and (found := local_reference(reference)) is not None:
            yield found
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            if isinstance(item, (dict, list)):
                yield from _references(item)


def is_test(raw: dict[str, Any]) -> bool:
    """Whether the resource is tagged as test data."""
    tags = raw.get("meta", {}).get("tag", [])
    return any((tag.get("system"), tag.get("code")) == TEST_TAG for tag in tags)


def _refuse_null(kind: str, value: Any, depth: int = 0) -> None:
    """FHIR JSON has no null properties (section 2.6.2.1); the models would take one for a required element."""
    if depth > MAX_DEPTH:
        raise ResourceInvalid(f"{kind} is nested too deeply")
    if isinstance(value, dict):
        if any(item is None for item in value.values()):
            raise ResourceInvalid(f"{kind} has a property that is null")
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            if isinstance(item, (dict, list)):
                _refuse_null(kind, item, depth + 1)


def _places(kind: str, problem: ValidationError) -> tuple[Place, ...]:
    """Where and what kind, never the value: it may name a patient (G8)."""
    return tuple(
        # The name of a property that does not belong there is content too.
        Place(
            _expression(kind, error["loc"][:-1] if error["type"] == "extra_forbidden" else error["loc"]), error["type"]
        )
        for error in problem.errors()[:MAX_PLACES]
    )


def _expression(kind: str, location: tuple[int | str, ...]) -> str:
    """``Observation.code.coding[0]``; a name that is not one of an element may be content, and is left out."""
    text = kind
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isascii() and part.isidentifier() and len(part) <= 40:
            text += f".{part}"
        else:
            return text
    return text


def _check_binary(raw: dict[str, Any]) -> None:
    """The content is what its type says (G12)."""
    content_type = raw.get("contentType")
    if content_type not in BINARY_TYPES:
        raise ResourceInvalid("Binary has a content type that the record does not keep")
    try:
        data = base64.b64decode(raw.get("data") or "", validate=True)
    except (binascii.Error, TypeError):
        raise ResourceInvalid("Binary.data is not base64") from None
    if not data.startswith(_MAGIC.get(content_type, b"")) or not _is_dicom(content_type, data):
        raise ResourceInvalid("Binary.data is not of its content type")
    if content_type.startswith("text/"):
        try:
            data.decode()
        except UnicodeDecodeError:
            raise ResourceInvalid("Binary.data is not UTF-8 text") from None


def _is_dicom(content_type: str, data: bytes) -> bool:
    """The mark of the DICOM file format stands behind 128 bytes that may be anything (PS3.10 7.1)."""
    return content_type != "application/dicom" or data[128:132] == b"DICM"


def patient_of(kind: str, raw: dict[str, Any]) -> str | None:
    """Id of the patient whose record a resource is part of; None in the directory.

    Raises:
        ResourceInvalid: it must name one and does not, or names two.
    """
    paths = TYPES[kind].patient
    if kind == "Patient":
        return str(raw["id"])
    if not paths:
        return None
    found = set()
    for path in paths:
        for holder in walk(raw, path):
            reference = holder.get("reference") if isinstance(holder, dict) else None
            local = local_reference(reference) if isinstance(reference, str) else None
            if local is not None and local[0] == "Patient":
                found.add(local[1])
    if len(found) > 1:
        raise ResourceInvalid(f"{kind} names two patients", (Place(f"{kind}.{paths[0]}"),), FhirCode.WRONG_PATIENT)
    if not found and kind != "Provenance":
        raise ResourceInvalid(f"{kind} does not refer to a patient as Patient/<id>", (Place(f"{kind}.{paths[0]}"),))
    return found.pop() if found else None


def first_code(concept: Any) -> str:
    """The first code of a concept, a list of them, or a bare code."""
    if isinstance(concept, list):
        concept = concept[0] if concept else None
    if isinstance(concept, str):
        return concept[:64]  # AllergyIntolerance.category is a bare code
    if not isinstance(concept, dict):
        return ""
    coding = concept.get("coding") or [{}]
    return str(coding[0].get("code", ""))[:64]
