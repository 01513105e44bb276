"""Vital signs of a consult as a FHIR R4 bundle: one Observation a value, each with its own time (W8).

Codes are LOINC, as the vital-signs profile wants them; units UCUM. A value that is invalid or missing is said with
``dataAbsentReason``, never left out. Reported alarms are Communications that the device sent: text with its time (W36).
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from server.record.core.resource import TEST_TAG

_CODES: Final = {
    "HR": ("8867-4", "Heart rate", "/min"),
    "Pulse": ("8889-8", "Heart rate by pulse oximetry", "/min"),
    "SpO2": ("59408-5", "Oxygen saturation by pulse oximetry", "%"),
    "Resp": ("9279-1", "Respiratory rate", "/min"),
    "Temp": ("8310-5", "Body temperature", "Cel"),
    "NIBP": ("85354-9", "Blood pressure panel", "mm[Hg]"),
}
_PRESSURES: Final = (("8480-6", "Systolic"), ("8462-4", "Diastolic"), ("8478-0", "Mean"))
_CATEGORY: Final = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]
}


class VitalRow(Protocol):
    """What a row says."""

    id: int
    patient_id: str
    device: str
    code: str
    value: str
    unit: str
    at_us: int
    quality: str
    simulated: bool


def vitals_bundle(rows: Iterable[VitalRow]) -> dict[str, Any]:
    """A collection bundle, in the order of time."""
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": _resource(row)} for row in rows]}


def _resource(row: VitalRow) -> dict[str, Any]:
    return _alarm(row) if row.code == "alarm" else _observation(row)


def _observation(row: VitalRow) -> dict[str, Any]:
    code, display, unit = _CODES[row.code]
    value = json.loads(row.value)
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "status": "entered-in-error" if row.quality == "invalid" else "final",
        "category": [_CATEGORY],
        "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": display}]},
        "subject": {"reference": f"Patient/{row.patient_id}"},
        "effectiveDateTime": _time(row.at_us),
        "device": {"display": row.device},
    }
    if row.simulated:
        resource["meta"] = {"tag": [{"system": TEST_TAG[0], "code": TEST_TAG[1]}]}
        resource["note"] = [{"text": "SIMULATED: not from a person"}]
    if row.quality == "questionable":
        resource["interpretation"] = [{"text": "questionable"}]
    if isinstance(value, list):
        resource["component"] = [
            {
                "code": {"coding": [{"system": "http://loinc.org", "code": one, "display": name}]},
                **_quantity(part, row.unit or unit),
            }
            for (one, name), part in zip(_PRESSURES, value, strict=True)
        ]
    else:
        resource |= _quantity(value, row.unit or unit)
    return resource


def _quantity(value: float | None, unit: str) -> dict[str, Any]:
    if value is None:
        system = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
        return {"dataAbsentReason": {"coding": [{"system": system, "code": "error"}]}}
    return {"valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}}


def _alarm(row: VitalRow) -> dict[str, Any]:
    value = json.loads(row.value)
    resource: dict[str, Any] = {
        "resourceType": "Communication",
        "status": "completed",
        "category": [{"text": "alarm reported by a device"}],
        "subject": {"reference": f"Patient/{row.patient_id}"},
        "sent": _time(row.at_us),
        "sender": {"display": row.device},
        "payload": [{"contentString": f"{value['text']} ({value['priority']})"}],
    }
    if row.simulated:
        resource["meta"] = {"tag": [{"system": TEST_TAG[0], "code": TEST_TAG[1]}]}
    return resource


def _time(at_us: int) -> str:
    moment = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_us % 1_000_000:06}Z"
