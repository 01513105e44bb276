"""The content that is shared under an open report: transactions of FHIR resources. [AN5] (H25)

`check_bundle` decides whether a transaction may be applied, `fold_content` applies one that was; the browser has
the second half too (``store/apply.ts``). Resources are not validated as FHIR here: nobody keeps them, and a
program that shares half-finished work is what this is for. They must be whole enough to be found again, and
nothing in them may name another patient.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from signaling.core.errors import ErrorCode, Refusal
from signaling.core.model import JsonObject, Reference

MAX_ENTRIES = 64
"""Of one transaction; FHIRcast speaks of dozens."""
MAX_RESOURCES = 256
MAX_CONTENT_BYTES = 65_536
"""Of everything that is shared at a time: it is part of the consult's snapshot."""

_REFERENCE: TypeAdapter[str] = TypeAdapter(Reference)
_SUBJECTS = ("subject", "patient", "beneficiary", "for")


def fold_content(resources: Mapping[str, JsonObject], bundle: JsonObject) -> dict[str, JsonObject]:
    """The resources after a transaction that `check_bundle` let pass."""
    after = dict(resources)
    for entry in bundle["entry"]:
        if entry["request"]["method"] == "DELETE":
            after.pop(entry["fullUrl"], None)
        else:
            resource = entry["resource"]
            after[f"{resource['resourceType']}/{resource['id']}"] = resource
    return after


def check_bundle(resources: Mapping[str, JsonObject], bundle: JsonObject, patient: str, fixed: str) -> JsonObject:
    """The transaction as it will be told to everyone: what a hub needs of it and nothing else.

    Args:
        patient: id of the open patient; no resource may be another's.
        fixed: reference of the report itself, which may be changed and not removed.

    Raises:
        Refusal: ``malformed``, ``wrong_patient`` or ``content_too_large``; nothing is applied.
    """
    entries = bundle.get("entry", [])
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") != "transaction" or not isinstance(entries, list):
        raise Refusal(ErrorCode.MALFORMED, "not a transaction")
    if len(entries) > MAX_ENTRIES:
        raise Refusal(ErrorCode.CONTENT_TOO_LARGE, "too many entries")
    seen: set[str] = set()
    kept: list[JsonObject] = []
    for entry in entries:
        reference, clean = _entry(entry, patient)
        if reference in seen or (reference == fixed and clean["request"]["method"] == "DELETE"):
            raise Refusal(ErrorCode.MALFORMED, "an entry twice, or the report removed")
        seen.add(reference)
        kept.append(clean)
    checked: JsonObject = {"resourceType": "Bundle", "type": "transaction", "entry": kept}
    if isinstance(bundle.get("id"), str):
        checked["id"] = bundle["id"][:64]
    after = fold_content(resources, checked)
    if len(after) > MAX_RESOURCES or size_bytes(after) > MAX_CONTENT_BYTES or size_bytes(checked) > MAX_CONTENT_BYTES:
        raise Refusal(ErrorCode.CONTENT_TOO_LARGE)
    return checked


def size_bytes(value: Any) -> int:
    """What a JSON value takes on the wire.

    Raises:
        Refusal: ``malformed``; nested too deeply, or with numbers that JSON does not have.
    """
    try:
        return len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, TypeError, RecursionError):
        raise Refusal(ErrorCode.MALFORMED, "not JSON") from None


def names_other_patient(resource: JsonObject, patient: str) -> bool:
    """Whether a resource says that it belongs to somebody else."""
    if resource.get("resourceType") == "Patient":
        return resource.get("id") != patient
    for name in _SUBJECTS:
        subject = resource.get(name)
        if subject is None:
            continue
        # Another server's Patient of the same id is another patient, and so may be one that is named by a number only.
        if not isinstance(subject, dict) or subject.get("reference") != f"Patient/{patient}":
            return True
    return any(names_other_patient(one, patient) for one in _contained(resource))


def _contained(resource: JsonObject) -> list[JsonObject]:
    inside = resource.get("contained")
    return [one for one in inside if isinstance(one, dict)] if isinstance(inside, list) else []


def _entry(entry: Any, patient: str) -> tuple[str, JsonObject]:
    request = entry.get("request") if isinstance(entry, dict) else None
    if not isinstance(request, dict):
        raise Refusal(ErrorCode.MALFORMED, "an entry without a request")
    method = request.get("method")
    if method == "DELETE":
        reference = _reference(entry.get("fullUrl") or request.get("url"))
        return reference, {"fullUrl": reference, "request": {"method": "DELETE"}}
    resource = entry.get("resource") if method == "PUT" else None
    if not isinstance(resource, dict):
        raise Refusal(ErrorCode.MALFORMED, "an entry is a PUT with its resource or a DELETE")
    kind, identity = resource.get("resourceType"), resource.get("id")
    if not (isinstance(kind, str) and isinstance(identity, str)):
        raise Refusal(ErrorCode.MALFORMED, "a resource without type or id")
    reference = _reference(f"{kind}/{identity}")
    if names_other_patient(resource, patient):
        raise Refusal(ErrorCode.WRONG_PATIENT)
    return reference, {"request": {"method": "PUT"}, "resource": resource}


def _reference(text: Any) -> str:
    try:
        return _REFERENCE.validate_python(text, strict=True)
    except ValidationError:
        raise Refusal(ErrorCode.MALFORMED, "not a reference") from None
