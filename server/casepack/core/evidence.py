"""What a resource says of itself as evidence: whether it counts, when it is of, and which codes it has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from server.casepack.core.tables import Match, Part
from server.record.core.dates import UNDATED_US, DateInvalid, parse_date
from server.record.core.index import walk
from server.record.core.params import DATE, TYPES

Resource = Mapping[str, Any]

PART_SYSTEM = "https://consilium.example/fhir/case-pack-part"
"""Category of a document that somebody attached as the answer to an ask; its code is the part's key."""

VOID = frozenset(
    {"entered-in-error", "cancelled", "not-done", "registered", "revoked", "draft", "superseded", "unknown", "rejected"}
)
"""States in which a resource is no evidence: wrong, withdrawn, or nothing in it yet."""
PRELIMINARY = frozenset({"preliminary", "partial"})
"""States in which a result may still change: it is shown, and proves nothing yet."""
_CONTENT = ("conclusion", "conclusionCode", "presentedForm", "result", "imagingStudy", "media")
"""Of a report: without any of them it says no more than that there is one."""
_VALUES = ("valueQuantity", "valueCodeableConcept", "valueString", "valueBoolean", "valueInteger", "valueRange",
           "valueRatio", "valueSampledData", "valueTime", "valueDateTime", "valuePeriod")  # fmt: skip


@dataclass(frozen=True, order=True, slots=True)
class Ref:
    """One version of one resource."""

    type: str
    id: str
    version: str

    @property
    def plain(self) -> str:
        """``Type/id``."""
        return f"{self.type}/{self.id}"

    @property
    def exact(self) -> str:
        """``Type/id/_history/version``."""
        return f"{self.plain}/_history/{self.version}"


def ref_of(resource: Resource) -> Ref:
    """Which version this is; as sent by the store, so with ``meta.versionId``."""
    return Ref(resource["resourceType"], resource["id"], str(resource.get("meta", {}).get("versionId", "1")))


def is_said(resource: Resource) -> bool:
    """Whether a resource says anything: it is not withdrawn, and a measurement has a value."""
    kind = resource["resourceType"]
    if resource.get("status") in VOID or _code(resource.get("verificationStatus")) in ("refuted", "entered-in-error"):
        return False
    if kind == "Observation":
        parts = [resource, *(part for part in resource.get("component", []) if isinstance(part, dict))]
        return any(name in part for part in parts for name in _VALUES) or bool(resource.get("hasMember"))
    return True


def counts(resource: Resource) -> bool:
    """Whether a resource is evidence of what its code says: it says something, and there is something to look at."""
    if not is_said(resource):
        return False
    kind = resource["resourceType"]
    if kind == "DiagnosticReport":
        return any(resource.get(name) for name in _CONTENT)
    if kind == "DocumentReference":
        # What was attached for a part is a recording in the archive where it is no file.
        return _is_attached(resource) or any(one.get("url") or one.get("data") for one in attachments_of(resource))
    return True


def is_preliminary(resource: Resource) -> bool:
    """Whether what it says may still change."""
    return resource.get("status") in PRELIMINARY or resource.get("docStatus") in PRELIMINARY


def attachments_of(resource: Resource) -> list[Resource]:
    """Attachments of a DocumentReference or a DiagnosticReport, as they stand."""
    held = [one.get("attachment") for one in resource.get("content") or [] if isinstance(one, dict)]
    return [one for one in [*held, *(resource.get("presentedForm") or [])] if isinstance(one, dict)]


def _is_attached(resource: Resource) -> bool:
    return any(system == PART_SYSTEM for system, _code in categories_of(resource))


def when_us(resource: Resource) -> int | None:
    """Earliest moment that the resource's clinical date allows: what is shown as fresh is so whatever was meant."""
    return _moment(_clinical_date(resource))


def is_day(resource: Resource) -> bool:
    """Whether the clinical date is a day (or less), without a time that could be shown."""
    value = _clinical_date(resource)
    if isinstance(value, dict):
        value = value.get("end") or value.get("start")
    return isinstance(value, str) and "T" not in value


def _clinical_date(resource: Resource) -> Any:
    kind = resource["resourceType"]
    if kind == "DocumentReference":
        # ``date`` is when the document was filed; what it documents may be much older.
        period = (resource.get("context") or {}).get("period")
        if _moment(period) is not None:
            return period
    for param in TYPES[kind].params.values():
        if param.kind != DATE or not param.clinical:
            continue
        for path in param.paths:
            for value in walk(resource, path):
                if _moment(value) is not None:
                    return value
    return None


def _moment(value: Any) -> int | None:
    if isinstance(value, dict):
        value = value.get("end") or value.get("start")
    if not isinstance(value, str):
        return None
    try:
        found = parse_date(value).low_us
    except DateInvalid:
        return None
    return None if found <= UNDATED_US else found


def moment_us(text: str) -> int | None:
    """Microseconds of a FHIR dateTime; None where it is none."""
    return _moment(text)


def codes_of(resource: Resource) -> Iterator[tuple[str, str]]:
    """``(system, code)`` of what a resource is about: ``code``, ``type`` or ``modality``, and its components'."""
    for name in ("code", "type", "modality", "medicationCodeableConcept", "vaccineCode"):
        yield from _codings(resource.get(name))
    for part in resource.get("component", []):
        if isinstance(part, dict):
            yield from _codings(part.get("code"))


def categories_of(resource: Resource) -> Iterator[tuple[str, str]]:
    """``(system, code)`` of its categories."""
    yield from _codings(resource.get("category"))


def _codings(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for one in value:
            yield from _codings(one)
    elif isinstance(value, str):
        yield ("", value)
    elif isinstance(value, dict):
        if isinstance(value.get("coding"), list):
            yield from _codings(value["coding"])
        elif isinstance(value.get("code"), str):
            yield (str(value.get("system", "")), value["code"])


def _code(concept: Any) -> str:
    return next((code for _system, code in _codings(concept)), "")


def matches(match: Match, resource: Resource) -> bool:
    """Whether a resource is, or may be, what a table's match means; whether it counts is another question."""
    return _is_kind(match, resource) and shows_body(match, resource) is not False


def shows_body(match: Match, resource: Resource) -> bool | None:
    """Whether a study shows the part of the body that a match is about; None when it does not say what it shows."""
    if not match.body:
        return True
    codes = list(_codings(resource.get("procedureCode")))
    for series in resource.get("series") or []:
        codes += _codings(series.get("bodySite")) if isinstance(series, dict) else []
    words = " ".join(_words(resource)).casefold()
    if _any(match.body, iter(codes)) or any(one.casefold() in words for one in match.body):
        return True
    return False if codes or words else None


def _words(resource: Resource) -> Iterator[str]:
    for value in (resource.get("description"), *(resource.get("procedureCode") or []), resource.get("series")):
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                yield one
            elif isinstance(one, dict):
                yield from (one[name] for name in ("text", "description") if isinstance(one.get(name), str))


def _is_kind(match: Match, resource: Resource) -> bool:
    return (
        resource["resourceType"] == match.type
        and (not match.statuses or resource.get("status") in match.statuses)
        and (not match.codes or _any(match.codes, codes_of(resource)))
        and (not match.categories or _any(match.categories, categories_of(resource)))
    )


def is_evidence(part: Part, resource: Resource) -> bool:
    """Whether a resource counts and is what a part means, by its codes or because it was attached for it."""
    return counts(resource) and (
        (PART_SYSTEM, part.key) in categories_of(resource) or any(matches(match, resource) for match in part.any_of)
    )


def is_unsure(part: Part, resource: Resource) -> bool:
    """Whether evidence of a part is so only if it shows what it does not say that it shows."""
    if (PART_SYSTEM, part.key) in categories_of(resource):
        return False
    return not any(_is_kind(match, resource) and shows_body(match, resource) for match in part.any_of)


def _any(wanted: list[str], found: Iterator[tuple[str, str]]) -> bool:
    have = set(found)
    return any(
        (text.partition("|")[0], text.partition("|")[2]) in have if "|" in text else any(c == text for _s, c in have)
        for text in wanted
    )
