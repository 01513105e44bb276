"""A pack as lines that a page can show, read out of what was sent; pure.

Nothing is computed here that the resources do not say; a value stands with its unit, its time and the flag that the
laboratory gave it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from server.casepack.core.completeness import HOUR_US, Finding, State, Why
from server.casepack.core.evidence import Ref, Resource, attachments_of, codes_of, is_day, when_us
from server.casepack.core.selection import Line

Json = dict[str, Any]


def lines_view(lines: Sequence[Line], resources: Mapping[Ref, Resource]) -> list[Json]:
    """Each line with title, value, time, and the former values of a trend."""
    return [_line(line, resources) for line in lines]


def findings_view(findings: Sequence[Finding]) -> list[Json]:
    """Each part of the table with its state and why."""
    return [
        {
            "part": one.part.key, "en": one.part.en, "zh": one.part.zh, "section": one.part.section,
            "need": one.part.need, "fact": one.part.fact, "state": one.state.value, "why": one.why.value,
            "evidence": None if one.evidence is None else one.evidence.plain,
            "at_ms": None if one.at_us is None else one.at_us // 1_000, "is_day": one.is_day,
            "fresh_h": one.part.fresh_h,
        }
        for one in findings
    ]  # fmt: skip


def findings_now(findings: Sequence[Mapping[str, Any]], withdrawn: Collection[str], now_ms: int) -> list[Json]:
    """Findings of a sent pack as they stand now: what was fresh at sending ages on the way to its reader.

    Args:
        withdrawn: ``Type/id`` that the record has taken back since.
    """
    return [_now(dict(one), withdrawn, now_ms) for one in findings]


def _now(one: Json, withdrawn: Collection[str], now_ms: int) -> Json:
    fresh_h, at_ms = one.get("fresh_h"), one["at_ms"]
    if one["evidence"] in withdrawn:
        return one | {"state": State.MISSING.value, "why": Why.WITHDRAWN.value}
    if one["state"] == State.PRESENT and fresh_h and at_ms is not None and now_ms - at_ms > fresh_h * HOUR_US // 1_000:
        return one | {"state": State.STALE.value, "why": Why.TOO_OLD.value}
    return one


def _line(line: Line, resources: Mapping[Ref, Resource]) -> Json:
    newest = resources[line.refs[0]]
    return {
        "section": line.section,
        "ref": line.refs[0].plain,
        "refs": [ref.plain for ref in line.refs],
        "title": title_of(newest),
        "status": _status(newest),
        **value_view(newest),
        "trend": [value_view(resources[ref]) for ref in line.refs],
        "attachments": attachments(newest),
        "test_code": next((code for _s, code in codes_of(newest)), ""),
    }


def value_view(resource: Resource) -> Json:
    """Value, unit, flag and time of one resource."""
    at_us = when_us(resource)
    value, unit = _value(resource)
    parts = [part for part in resource.get("component", []) if isinstance(part, dict)]
    if not value and parts:
        shown = [_value(part) for part in parts]
        # A part without a value keeps its place: of a blood pressure the lower one must not look like the upper.
        value = " / ".join(text or "–" for text, _unit in shown) if any(text for text, _unit in shown) else ""
        unit = next((one for _text, one in shown if one), "")
    return {
        "value": value,
        "unit": unit,
        "flag": _flag(resource),
        "at_ms": None if at_us is None else at_us // 1_000,
        "is_day": is_day(resource),
    }


def title_of(resource: Resource) -> str:
    """What it is, in the hospital's own words where there are any."""
    for name in ("code", "medicationCodeableConcept", "type", "vaccineCode"):
        if text := concept_text(resource.get(name)):
            return text
    for name in ("description", "title"):
        if isinstance(resource.get(name), str):
            return str(resource[name])
    medication = resource.get("medicationReference")
    if isinstance(medication, dict) and medication.get("display"):
        return str(medication["display"])
    return str(resource["resourceType"])


def concept_text(concept: Any) -> str:
    """Text of a concept: its own, else the first display, else the first code."""
    if not isinstance(concept, dict):
        return ""
    codings = [one for one in concept.get("coding", []) if isinstance(one, dict)]
    said = concept.get("text") or next((one["display"] for one in codings if one.get("display")), "")
    return str(said or next((one["code"] for one in codings if one.get("code")), ""))


def attachments(resource: Resource) -> list[Json]:
    """Documents of a DocumentReference or DiagnosticReport that are in the record."""
    return [
        {
            "binary": str(one["url"]).removeprefix("Binary/"),
            "type": str(one.get("contentType", "")),
            "title": str(one.get("title", "")),
        }
        for one in attachments_of(resource)
        if str(one.get("url", "")).startswith("Binary/")
    ]


def _status(resource: Resource) -> str:
    clinical = resource.get("clinicalStatus")
    if isinstance(clinical, dict):
        return next((str(one.get("code", "")) for one in clinical.get("coding", []) if isinstance(one, dict)), "")
    return str(resource.get("status", ""))


def _value(resource: Mapping[str, Any]) -> tuple[str, str]:
    if isinstance(quantity := resource.get("valueQuantity"), dict):
        return _quantity(quantity)
    if isinstance(whole := resource.get("valueRange"), dict):
        return _two(whole, "low", "high", "–")
    if isinstance(whole := resource.get("valueRatio"), dict):
        return _two(whole, "numerator", "denominator", ":")
    if isinstance(whole := resource.get("valuePeriod"), dict):
        return "–".join(str(whole.get(name, "")) for name in ("start", "end")), ""
    if isinstance(truth := resource.get("valueBoolean"), bool):
        return ("+" if truth else "−"), ""
    for name in ("valueString", "valueInteger", "valueDateTime", "valueTime", "conclusion"):
        if resource.get(name) is not None:
            return str(resource[name]), ""
    if text := concept_text(resource.get("valueCodeableConcept")):
        return text, ""
    doses = [one["text"] for one in resource.get("dosageInstruction", []) if isinstance(one, dict) and one.get("text")]
    doses += [one["text"] for one in resource.get("dosage", []) if isinstance(one, dict) and one.get("text")]
    return "; ".join(map(str, doses)), ""


def _quantity(quantity: Mapping[str, Any]) -> tuple[str, str]:
    number = quantity.get("value")
    text = "" if number is None else f"{quantity.get('comparator', '')}{number}"
    return text, str(quantity.get("unit") or quantity.get("code") or "")


def _two(whole: Mapping[str, Any], first: str, second: str, between: str) -> tuple[str, str]:
    ends = [_quantity(one) if isinstance(one := whole.get(name), dict) else ("", "") for name in (first, second)]
    return between.join(text for text, _unit in ends), next((unit for _text, unit in ends if unit), "")


def _flag(resource: Resource) -> str:
    for concept in resource.get("interpretation", []):
        for one in concept.get("coding", []) if isinstance(concept, dict) else []:
            if one.get("code"):
                return str(one["code"])
    return ""
