"""What came through the lock, made part of the hub's record: checked, of one patient, under ids of the hub's own; pure.

A hospital's answer speaks of its own ids. Here it keeps its own identity as an identifier, is filed under an id
that the same answer always gets (asked twice, it is there once), and refers to nothing but our patient: what it pointed
to over there is not here.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from server.casepack.core.evidence import counts, matches
from server.casepack.core.tables import Match

MOST = 50
"""Resources taken of one answer."""
_PATIENT = ("subject", "patient", "for")
_SOURCE = "https://consilium.example/fhir/gateway"
_DROPPED = ("contained", "text", "meta", "id", "extension", "modifierExtension", "implicitRules")


class AnswerUnusable(Exception):
    """The answer cannot be taken: not FHIR, or of more than one patient."""


def read_answer(body: bytes, match: Match) -> list[dict[str, Any]]:
    """What a hospital's Bundle holds of exactly what was asked for; anything else in it is left aside.

    Raises:
        AnswerUnusable: nothing of it may be shown.
    """
    try:
        bundle = json.loads(body)
        entries = bundle["entry"] if bundle.get("entry") else []
        found = [one["resource"] for one in entries]
        found = [one for one in found if one["resourceType"] == match.type]
        patients = {_patient_of(one) for one in found}
        found = [one for one in found if counts(one) and matches(match, one)]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise AnswerUnusable("not a Bundle") from None
    if len(patients) > 1:
        raise AnswerUnusable("more than one patient")
    return found[:MOST]


def brought(resource: Mapping[str, Any], *, gateway: str, patient: str, test: bool) -> dict[str, Any]:
    """One of them as it is filed here."""
    kind, theirs = resource["resourceType"], str(resource.get("id", ""))
    digest = hashlib.sha256(f"{gateway}\n{patient}\n{kind}\n{theirs or json.dumps(resource, sort_keys=True)}".encode())
    kept = {name: _local(value) for name, value in resource.items() if name not in _DROPPED and name not in _PATIENT}
    kept = {name: value for name, value in kept.items() if value not in ({}, [], None)}
    kept["id"] = f"lk-{digest.hexdigest()[:32]}"
    kept["patient" if kind == "AllergyIntolerance" else "subject"] = {"reference": f"Patient/{patient}"}
    if theirs:
        own = {"system": f"{_SOURCE}/{gateway}", "value": theirs}
        kept["identifier"] = [*kept.get("identifier", []), own]
    tags = [{"system": _SOURCE, "code": gateway}]
    if test:
        tags.append({"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"})
    kept["meta"] = {"tag": tags}
    return kept


def _local(value: Any) -> Any:
    """A copy without references into the other hospital's store; what they display stays."""
    if isinstance(value, list):
        kept = [_local(one) for one in value]
        return [one for one in kept if one not in ({}, [], None)]
    if isinstance(value, dict):
        if isinstance(value.get("url"), str) and ("contentType" in value or "title" in value):
            value = {name: part for name, part in value.items() if name != "url"} or {"title": "-"}
        return {name: _local(part) for name, part in value.items() if name != "reference"}
    return value


def _patient_of(resource: Mapping[str, Any]) -> str:
    for name in _PATIENT:
        holder = resource.get(name)
        if isinstance(holder, dict) and isinstance(holder.get("reference"), str):
            return str(holder["reference"])
    return ""
