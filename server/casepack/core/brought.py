"""What came through the lock, made part of the hub's record: checked, of one patient, under ids of the hub's own; pure.

A hospital's answer speaks of its own ids. Here it keeps its own identity as an identifier, is filed under an id
that the same answer always gets (asked twice, it is there once), and refers to nothing but our patient: what it pointed
to over there is not here.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from server.casepack.core.evidence import attachments_of, counts, matches
from server.casepack.core.tables import Match
from server.decimals import parse_json
from server.record.core.resource import BINARY_TYPES

MOST = 50
"""Resources taken of one answer."""
_PATIENT = ("subject", "patient", "for")
_SOURCE = "https://consilium.example/fhir/gateway"
_DROPPED = ("contained", "text", "meta", "id", "extension", "modifierExtension", "implicitRules")


class AnswerUnusable(Exception):
    """The answer cannot be taken: not FHIR, or of more than one patient."""


def read_answer(body: bytes, match: Match, patient: tuple[tuple[str, str], ...] = ()) -> list[dict[str, Any]]:
    """What a hospital's Bundle holds of exactly what was asked for; anything else in it is left aside.

    A document that only points into the hospital's own store is left aside too: here there would be nothing to look at.

    Args:
        patient: the identifiers by which was asked.

    Raises:
        AnswerUnusable: nothing of it may be shown.
    """
    try:
        bundle = parse_json(body)
        entries = bundle["entry"] if bundle.get("entry") else []
        found = [one["resource"] for one in entries]
        found = [one for one in found if one["resourceType"] == match.type]
        patients = {_patient_of(one) for one in found}
        strangers = [one for one in found if _names_another(one, patient)]
        found = [one for one in found if counts(_own(one)) and matches(match, one)]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise AnswerUnusable("not a Bundle") from None
    if len(patients) > 1 or strangers:
        raise AnswerUnusable("more than one patient")
    return found[:MOST]


def brought(resource: Mapping[str, Any], *, gateway: str, patient: str, test: bool) -> list[dict[str, Any]]:
    """One of them as it is filed here: the bytes of its documents first, each as a Binary, then the resource."""
    kind, theirs = resource["resourceType"], str(resource.get("id", ""))
    digest = hashlib.sha256(f"{gateway}\n{patient}\n{kind}\n{theirs or json.dumps(resource, sort_keys=True)}".encode())
    kept = _own(resource)
    kept["id"] = f"lk-{digest.hexdigest()[:32]}"
    subject = {"reference": f"Patient/{patient}"}
    kept["patient" if kind == "AllergyIntolerance" else "subject"] = subject
    if theirs:
        own = {"system": f"{_SOURCE}/{gateway}", "value": theirs}
        kept["identifier"] = [*kept.get("identifier", []), own]
    tags = [{"system": _SOURCE, "code": gateway}]
    if test:
        tags.append({"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"})
    kept["meta"] = {"tag": tags}
    return [*_files(kept, subject), kept]


def _files(kept: dict[str, Any], subject: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Bytes inside of attachments, taken out into Binary resources that the attachments then refer to."""
    for number, one in enumerate(attachments_of(kept)):
        if one.get("contentType") not in BINARY_TYPES or not isinstance(one.get("data"), str):
            continue
        assert isinstance(one, dict), "of a copy that was just made"
        id_ = f"{kept['id']}-{number}"
        data = one.pop("data")
        one["url"] = f"Binary/{id_}"
        yield {
            "resourceType": "Binary", "id": id_, "contentType": one["contentType"], "securityContext": dict(subject),
            "data": data, "meta": kept["meta"],
        }  # fmt: skip


def _own(resource: Mapping[str, Any]) -> dict[str, Any]:
    """What of it can stand here: neither ids nor references of the other store."""
    kept = {name: _local(value) for name, value in resource.items() if name not in _DROPPED and name not in _PATIENT}
    return {name: value for name, value in kept.items() if value not in ({}, [], None)}


def _names_another(resource: Mapping[str, Any], patient: tuple[tuple[str, str], ...]) -> bool:
    """Whether it is said to be of somebody who has another number in a system that was asked by."""
    for name in _PATIENT:
        holder = resource.get(name)
        one = holder.get("identifier") if isinstance(holder, dict) else None
        if not isinstance(one, dict):
            continue
        same = [value for system, value in patient if system == one.get("system")]
        if same and one.get("value") not in same:
            return True
    return False


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
