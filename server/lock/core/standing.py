"""What of a gateway's message may replace what the record holds: nothing newer is lost to something older; pure.

A hospital says the same thing many times, in pieces and not always in order. HL7 v2 leaves three things to the
receiver, and they are decided here, where what is there is known:

- an element that a message does not fill is left as it is (chapter 2.5.3.5); one that it deletes is named by a tag
  (`signals.NULLED`). So an admission does not wipe a photo, a merge's links or another system's numbers, and a
  cancellation that holds an order's number alone does not empty the order;
- of identifiers each system is its own list: the message speaks for the systems that it names;
- a preliminary result never replaces a final one, an older final never a newer one, and what was withdrawn is not
  brought back by a repeat of itself (chapter 7, table 0085).

An Observation is replaced whole, because half of two values would be a third that nobody measured. Descriptions that
were FHIR inside already (``FHIR ...``) are whole as well; of those too a Patient is shared with others.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from server.gateway.hl7v2.signals import NULLED

Json = dict[str, Any]

TYPES: Final = frozenset(
    {"Patient", "Encounter", "ImagingStudy", "ServiceRequest", "MedicationRequest", "Appointment", "Task",
     "Observation", "DiagnosticReport", "DocumentReference"}
)  # fmt: skip
"""Types for which what is there matters."""
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "Patient": ("deceased", "multipleBirth"),
    "ServiceRequest": ("occurrence", "asNeeded", "quantity"),
    "MedicationRequest": ("medication", "reported"),
    "DiagnosticReport": ("effective",),
}
"""Elements of which FHIR allows one form at a time."""
_STANDS: Final = frozenset({"final", "amended", "corrected", "appended", "cancelled", "entered-in-error"})
_STATUS: Final = {"Observation": "status", "DiagnosticReport": "status", "DocumentReference": "docStatus"}
_WITHDRAWN: Final = "entered-in-error"
_REOPENS: Final = frozenset({"ADT^A01", "ADT^A04", "ADT^A13"})
_UNKNOWN_CLASS: Final = "U"
_FULL_DATE: Final = 10
MAX_INSTANCES: Final = 2_000
"""Of one series; more are not listed one by one."""


def standing(present: Json, coming: Json, kind: str) -> Json | None:
    """What is to be stored where ``present`` is; None: it stays as it is.

    Args:
        kind: of the crossing.
    """
    type_ = coming["resourceType"]
    if type_ in _STATUS and _goes_back(present, coming, _STATUS[type_]):
        return None
    if not kind.startswith("FHIR ") and _is_repeat_of_withdrawn(present, coming):
        return None
    if type_ == "ImagingStudy":
        return _study(present, plain(coming))
    is_whole = kind.startswith("FHIR ") or type_ in ("Observation", "DocumentReference")
    if type_ not in TYPES or (is_whole and type_ != "Patient"):
        return plain(coming)
    kept = _kept(present, coming, _CHOICES.get(type_, ()))
    found = _overlaid(present, kept, coming)
    if type_ == "Patient":
        found["identifier"] = _identifiers(present.get("identifier", []), coming.get("identifier", []))
    elif type_ == "DiagnosticReport" and (results := _joined(present.get("result"), coming.get("result"))):
        found["result"] = results
    elif type_ == "Encounter":
        _visit(found, present, kept, coming, kind)
    return found


def overtaken(present: Json, coming: Json, kind: str) -> Json | None:
    """What is to be stored where ``coming`` is older than ``present``, whatever its status says; None: it stays.

    It adds its own lines to a report and its images to a study, and changes nothing that is there.
    """
    if coming["resourceType"] == "ImagingStudy":
        return standing(coming, present, kind)
    lines = _joined(present.get("result"), coming.get("result"))
    if coming["resourceType"] == "DiagnosticReport" and lines != present.get("result", []):
        return {**present, "result": lines}
    return None


def is_other_person(known: Json, said: Json) -> bool:
    """Whether a message with a patient's number is about somebody else: birth date and name both differ.

    One of them alone is a correction or a spelling. Names are compared in the script that both have; W22 asks the same
    of a device at the bedside.
    """
    dates = known.get("birthDate", ""), said.get("birthDate", "")
    if not all(len(one) == _FULL_DATE for one in dates) or dates[0] == dates[1]:
        return False
    ours, theirs = _names(known), _names(said)
    scripts = ours.keys() & theirs.keys()
    return bool(scripts) and all(not ours[script] & theirs[script] for script in scripts)


def _names(patient: Json) -> dict[bool, set[str]]:
    """By whether they are ASCII: the letters of each name, whatever their order and case."""
    found: dict[bool, set[str]] = {}
    for name in patient.get("name", []):
        parts = [name.get("family", ""), *name.get("given", [])]
        text = name.get("text") or " ".join(part for part in parts if part)
        if text:
            folded = "".join(sorted(sign for sign in text.casefold() if sign.isalnum()))
            found.setdefault(text.isascii(), set()).add(folded)
    return found


def _study(present: Json, coming: Json) -> Json:
    """Images of a series come over hours and over restarts of the gateway: what was listed stays listed."""
    before = {one.get("uid"): one for one in present.get("series", [])}
    series = []
    for one in coming.get("series", []):
        old = before.pop(one.get("uid"), {})
        known = {each.get("uid"): each for each in [*old.get("instance", []), *one.get("instance", [])]}
        listed = list(known.values())[:MAX_INSTANCES]
        series.append(one | ({"instance": listed, "numberOfInstances": len(listed)} if listed else {}))
    series += before.values()
    total = sum(one.get("numberOfInstances", 0) for one in series)
    return coming | {"series": series, "numberOfSeries": len(series), "numberOfInstances": total} if series else coming


def plain(resource: Json) -> Json:
    """The resource without the tags that are meant for here alone."""
    meta = resource.get("meta")
    if not isinstance(meta, dict) or not _nulled(resource):
        return resource
    tags = [tag for tag in meta["tag"] if not _is_null_tag(tag)]
    rest = {name: value for name, value in meta.items() if name != "tag"} | ({"tag": tags} if tags else {})
    return {name: value for name, value in resource.items() if name != "meta"} | ({"meta": rest} if rest else {})


def _is_null_tag(tag: Any) -> bool:
    return isinstance(tag, dict) and tag.get("system") == NULLED


def _nulled(resource: Json) -> set[str]:
    """Elements that the message deletes."""
    meta = resource.get("meta")
    tags = meta.get("tag") if isinstance(meta, dict) else None
    return {str(tag.get("code")) for tag in tags if _is_null_tag(tag)} if isinstance(tags, list) else set()


def _kept(present: Json, coming: Json, choices: Iterable[str]) -> Json:
    """What of the present resource the message leaves."""
    kept = {name: value for name, value in present.items() if name not in ("id", "meta")}
    for stem in choices:
        if any(_is_choice(name, stem) for name in coming):
            kept = {name: value for name, value in kept.items() if not _is_choice(name, stem)}
    for code in _nulled(coming):
        stem, _, inner = code.partition(".")
        if inner:
            kept[stem] = {name: value for name, value in _mapping(kept.get(stem)).items() if name != inner}
        else:
            kept = {name: value for name, value in kept.items() if name != stem and not _is_choice(name, stem)}
    return kept


def _overlaid(present: Json, kept: Json, coming: Json) -> Json:
    found = kept | plain(coming)
    tags = [tag for tag in _mapping(present.get("meta")).get("tag", []) if not _is_null_tag(tag)]
    if tags:
        meta = _mapping(found.get("meta"))
        found["meta"] = meta | {"tag": _joined(tags, meta.get("tag"))}
    return {name: value for name, value in found.items() if value not in (None, "", [], {})}


def _is_choice(name: str, stem: str) -> bool:
    return name.startswith(stem) and name[len(stem) : len(stem) + 1].isupper()


def _identifiers(present: list[Json], coming: list[Json]) -> list[Json]:
    spoken_for = {one.get("system", "") for one in coming}
    return [*coming, *(one for one in present if one.get("system", "") not in spoken_for)]


def _joined(present: list[Any] | None, coming: list[Any] | None) -> list[Any]:
    """What was there first, then what is new: a part of a report that is sent again does not end the other parts."""
    found = list(present or ())
    return found + [one for one in coming or () if one not in found]


def _visit(found: Json, present: Json, kept: Json, coming: Json, kind: str) -> None:
    """Start and end of a visit come in different messages; a finished one is opened by an admission only."""
    if period := _mapping(kept.get("period")) | _mapping(coming.get("period")):
        found["period"] = period
    was, now = present.get("status"), coming.get("status")
    if now != "finished" and (kind == "ADT^A08" or (was == "finished" and kind not in _REOPENS)):
        found["status"] = was
    if _mapping(coming.get("class")).get("code") == _UNKNOWN_CLASS and "class" in present:
        found["class"] = present["class"]


def _mapping(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _goes_back(present: Json, coming: Json, name: str) -> bool:
    was, now = present.get(name), coming.get(name)
    if was not in _STANDS:
        return False
    if now not in _STANDS:
        return True
    before, after = _moment(present.get("issued")), _moment(coming.get("issued"))
    return before is not None and after is not None and after < before


def _is_repeat_of_withdrawn(present: Json, coming: Json) -> bool:
    """HL7 v2 has no versions: what was withdrawn (W, D) comes back only as something else than it was."""
    name = _STATUS.get(coming["resourceType"])
    return (
        name is not None
        and present.get(name) == _WITHDRAWN != coming.get(name)
        and _content(present) == _content(coming)
    )


def _content(resource: Json) -> Json:
    return {name: value for name, value in resource.items() if name not in ("meta", "status", "docStatus", "id")}


def _moment(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else None
