"""What the hub must do beside filing the bundle: end device bindings (W21) and merge patients.

Read from the crossing's kind and its bundle alone, so that the hub needs nothing of HL7.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Ended(StrEnum):
    """Why what is bound to the patient's bed ends. (W21)"""

    DISCHARGED = "discharged"
    TRANSFERRED = "transferred"


@dataclass(frozen=True, slots=True)
class Merge:
    """Two records of one person; the retired one's data belongs to the survivor from now on."""

    survivor: tuple[tuple[str, str], ...]
    """(system, value), all of the surviving record."""
    retired: tuple[str, str]


def ended_by(kind: str) -> Ended | None:
    """Whether a crossing of this kind ends the patient's device bindings."""
    return {"ADT^A02": Ended.TRANSFERRED, "ADT^A03": Ended.DISCHARGED}.get(kind)


def merge_of(kind: str, bundle: dict[str, Any]) -> Merge | None:
    """The merge that an A40 asks for, None for every other crossing."""
    if kind != "ADT^A40":
        return None
    for entry in bundle.get("entry", []):
        patient = entry.get("resource", {})
        for link in patient.get("link", []) if patient.get("resourceType") == "Patient" else []:
            other = link.get("other", {}).get("identifier", {})
            known = [(one["system"], one["value"]) for one in patient.get("identifier", []) if one.get("system")]
            if link.get("type") == "replaces" and other.get("system") and known:
                return Merge(tuple(known), (other["system"], other["value"]))
    return None
