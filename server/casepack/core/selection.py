"""Which resources of a record belong into a pack, in which order, and each as one line.

Current problems and medication first, of laboratory tests the newest value with those before it (trend), of everything
else the newest. Every section is bounded, and says how many it left out: an expert must know that there is more.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from server.casepack.core.completeness import check
from server.casepack.core.evidence import Ref, Resource, categories_of, codes_of, is_said, matches, ref_of, when_us
from server.casepack.core.tables import SECTIONS, Table

MOST = {
    "problems": 60, "medication": 60, "allergies": 40, "vitals": 12, "labs": 40, "imaging": 20, "ecg": 10,
    "documents": 20, "opinions": 10,
}  # fmt: skip
"""Lines of a section; of laboratory tests and vital signs, kinds of values."""
TREND = 6
"""Values of one test."""
CASE_PACK = ("https://consilium.example/fhir/document", "case-pack")
"""Coding of our own compositions: a pack never holds a pack."""
_ECG = {("http://loinc.org", "11524-6"), ("http://loinc.org", "34534-8"), ("http://loinc.org", "18754-2")}
_OPINION = {("http://loinc.org", "11488-4"), ("http://loinc.org", "34099-2")}
"""Consultation notes."""
_PAST = frozenset({"inactive", "remission", "resolved"})
_ENDED = frozenset({"completed", "stopped"})


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of a section.

    Args:
        refs: newest first; more than one are the values of a trend.
    """

    section: str
    refs: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What goes into a pack: lines in order, and how many each section left out for want of room."""

    lines: tuple[Line, ...]
    left_out: dict[str, int]


def select(resources: Sequence[Resource], table: Table, now_us: int, without: Collection[str] = ()) -> Selection:
    """Choose from one patient's record.

    What decides a part of the table is always in, however full its section is: judging the pack and judging the
    record it was made from come to the same.

    Args:
        without: ``Type/id`` that the sender has taken out.
    """
    shown = [one for one in resources if _shown(one) and ref_of(one).plain not in without]
    by_section: dict[str, list[Resource]] = {name: [] for name in SECTIONS}
    for one in shown:
        section = section_of(one) or _asked_section(one, table)
        if section is not None:
            by_section[section].append(one)
    lines: list[Line] = []
    left_out: dict[str, int] = {}
    for section in SECTIONS:
        some = _grouped(section, by_section[section], table) if section in ("labs", "vitals") else [
            [one] for one in sorted(by_section[section], key=lambda one: _order(section, one))
        ]  # fmt: skip
        chosen = [Line(section, tuple(map(ref_of, group))) for group in some[: MOST[section]]]
        chosen += [Line(section, (ref,)) for ref in _deciding(by_section[section], table, now_us) - _refs(chosen)]
        if len(some) > len(chosen):
            left_out[section] = len(some) - len(chosen)
        lines += chosen
    return Selection(tuple(lines), left_out)


def refs_of(selection: Selection) -> set[Ref]:
    """Everything that is in."""
    return _refs(selection.lines)


def _refs(lines: Iterable[Line]) -> set[Ref]:
    return {ref for line in lines for ref in line.refs}


def _deciding(resources: Sequence[Resource], table: Table, now_us: int) -> set[Ref]:
    return {one.evidence for one in check(table, resources, {}, now_us) if one.evidence is not None}


def _asked_section(resource: Resource, table: Table) -> str | None:
    if CASE_PACK in codes_of(resource):
        return None
    return next((part.section for part in table.parts if any(matches(one, resource) for one in part.any_of)), None)


def section_of(resource: Resource) -> str | None:
    """The section that a resource belongs to; None for what a pack does not hold."""
    kind, codes = resource["resourceType"], set(codes_of(resource))
    if kind in _PLAIN:
        return _PLAIN[kind]
    if CASE_PACK in codes:
        return None
    if kind == "Observation":
        found = {code for _system, code in categories_of(resource)}
        return (
            "vitals" if "vital-signs" in found else "labs" if found & {"laboratory", "LAB", ""} or not found else None
        )
    if kind in ("DiagnosticReport", "DocumentReference"):
        if codes & _ECG or {code for _s, code in categories_of(resource)} & {"EC", "ECG"}:
            return "ecg"
        if codes & _OPINION:
            return "opinions"
        if kind == "DocumentReference":
            return "documents"
        return "imaging" if _is_imaging(resource) else "documents"
    if kind == "Composition":
        return "opinions" if codes & _OPINION else None
    return None


_PLAIN = {
    "Condition": "problems", "MedicationRequest": "medication", "MedicationStatement": "medication",
    "AllergyIntolerance": "allergies", "ImagingStudy": "imaging",
}  # fmt: skip
_IMAGING = frozenset({"RAD", "CUS", "CT", "NMR", "NMS", "OUS", "RUS", "RX", "VUS", "XRC", "imaging", "IMG"})
"""HL7 table 0074 and observation-category."""


def _is_imaging(resource: Resource) -> bool:
    return bool({code for _s, code in categories_of(resource)} & _IMAGING) or bool(resource.get("imagingStudy"))


def _shown(resource: Resource) -> bool:
    if resource["resourceType"] == "MedicationRequest" and resource.get("status") == "unknown":
        return True  # a drug that the patient may be taking is never hidden
    return is_said(resource)


def _grouped(section: str, resources: Iterable[Resource], table: Table) -> list[list[Resource]]:
    """Values of one test together, newest first; what the specialty asks for before the rest, then the newest."""
    groups: dict[tuple[str, str], list[Resource]] = {}
    for one in sorted(resources, key=_newest):
        key = next(codes_of(one), ("", _text(one.get("code"))))
        groups.setdefault(key, []).append(one)
    asked = [match for part in table.parts if part.section == section for match in part.any_of]

    def place(group: list[Resource]) -> tuple[int, Any]:
        wanted = next((n for n, match in enumerate(asked) if matches(match, group[0])), len(asked))
        return wanted, _newest(group[0])

    return [group[:TREND] for group in sorted(groups.values(), key=place)]


def _newest(resource: Resource) -> tuple[int, str, str]:
    at_us = when_us(resource)
    return (0 if at_us is None else -at_us, *_id(resource))


def _id(resource: Resource) -> tuple[str, str]:
    return resource["resourceType"], resource["id"]


def _order(section: str, resource: Resource) -> tuple[Any, ...]:
    past = False
    if section == "problems":
        past = bool({code for _s, code in _status_codes(resource)} & _PAST)
    elif section == "medication":
        past = resource.get("status") in _ENDED
    return (past, *_newest(resource))


def _status_codes(resource: Resource) -> Iterable[tuple[str, str]]:
    status = resource.get("clinicalStatus") or {}
    return [("", str(one.get("code", ""))) for one in status.get("coding", [])] if isinstance(status, dict) else []


def _text(concept: Any) -> str:
    return str(concept.get("text", "")) if isinstance(concept, dict) else ""
