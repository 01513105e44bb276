"""What the hub must do beside filing the bundle: end device bindings (W21) and merge patients.

Read from the crossing's kind and its bundle alone, so that the hub needs nothing of HL7. What a message deletes (a
field that holds ``""``) is said by tags of the system `NULLED` whose codes name elements; the hub takes them off
(`server.lock.core.standing`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

NULLED: Final = "urn:consilium:hl7v2-null"
"""``meta.tag.system`` of an element that the message deletes: ``birthDate``, ``period.end``, or a choice's stem."""
MERGE: Final = "ADT^A40"


class Ended(StrEnum):
    """Why what is bound to the patient's bed ends. (W21)"""

    DISCHARGED = "discharged"
    TRANSFERRED = "transferred"


_ENDS: Final = {
    "ADT^A02": Ended.TRANSFERRED, "ADT^A12": Ended.TRANSFERRED, "ADT^A03": Ended.DISCHARGED,
    "ADT^A11": Ended.DISCHARGED,
}  # fmt: skip
"""A transfer that is taken back moves the patient as well."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Two records of one person; the retired one's data belongs to the survivor from now on."""

    survivor: tuple[tuple[str, str], ...]
    """(system, value), all of the surviving record."""
    retired: tuple[tuple[str, str], ...]
    """(system, value), all by which the retired record may be known."""


def ended_by(kind: str) -> Ended | None:
    """Whether a crossing of this kind ends the patient's device bindings."""
    return _ENDS.get(kind)


def merge_of(kind: str, bundle: dict[str, Any]) -> Merge | None:
    """The merge that an A40 asks for; None for every other crossing, and where the policy left nothing of it."""
    if kind != MERGE:
        return None
    for entry in bundle.get("entry", []):
        patient = entry.get("resource", {})
        if patient.get("resourceType") != "Patient":
            continue
        others = [
            link.get("other", {}).get("identifier", {})
            for link in patient.get("link", [])
            if link.get("type") == "replaces"
        ]
        retired = tuple((one["system"], one["value"]) for one in others if one.get("system") and one.get("value"))
        known = tuple((one["system"], one["value"]) for one in patient.get("identifier", []) if one.get("system"))
        if retired and known:
            return Merge(known, retired)
    return None
