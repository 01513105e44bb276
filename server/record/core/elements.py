"""``_elements``: a part of a resource, as the caller named it (R4 section 3.1.1.5.8).

What is asked for is never all that is sent. A status, a negation or a merge mark
left out would turn a resource into another statement, and one without its
patient could be shown under anybody's name (W18): mandatory and modifying
elements and the reference to the patient stay. What then lacks something says so
by a tag, and a part is never taken back as a whole (`resource.check_resource`).

Names are the base names of the standard: ``value`` for ``valueQuantity``.
"""

import functools
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from server.record.core.outcome import FhirCode, FhirRefusal
from server.record.core.params import TYPES

SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
"""``meta.tag`` of a resource that is not all there."""

_ALWAYS = frozenset({"resourceType", "id", "meta", "implicitRules", "modifierExtension"})
_MODIFIERS = frozenset(
    {
        "active",
        "clinicalStatus",
        "deceased",
        "doNotPerform",
        "intent",
        "isSubpotent",
        "lifecycleStatus",
        "link",
        "mode",
        "provision",
        "relatesTo",
        "scope",
        "status",
        "verificationStatus",
    }
)
"""What R4 marks as changing the meaning of the rest, over all types kept; where a name has another use it stays too."""


def parse_elements(kind: str, text: str) -> frozenset[str]:
    """Names of a comma list.

    Raises:
        FhirRefusal: ``query``: not an element of the type.
    """
    names = frozenset(name for name in text.split(",") if name)
    if not names or not names <= _elements(kind).keys():
        raise FhirRefusal(FhirCode.QUERY, "base names of the type's own elements, e.g. code,value")
    return names


def subset(resource: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """The named elements of a resource, those that must stay, and the tag where something is left out.

    Args:
        resource: one that has passed the FHIR models.
        names: as `parse_elements` gave them.
    """
    kind = resource["resourceType"]
    wanted = {spelt for name in names for spelt in _elements(kind)[name]} | _kept(kind)
    part = {name: value for name, value in resource.items() if name.removeprefix("_") in wanted}
    if "contained" in resource and _refers_within(part):
        part["contained"] = resource["contained"]
    if part.keys() == resource.keys():
        return part
    meta = dict(part.get("meta") or {})
    others = [tag for tag in meta.get("tag", []) if not is_subsetted(tag)]
    return {**part, "meta": {**meta, "tag": [*others, SUBSETTED]}}


def is_subsetted(tag: Mapping[str, Any]) -> bool:
    """Whether a tag says that something is left out."""
    return (tag.get("system"), tag.get("code")) == (SUBSETTED["system"], SUBSETTED["code"])


@functools.cache
def _elements(kind: str) -> dict[str, frozenset[str]]:
    """Base name -> the names JSON spells it by."""
    found: dict[str, set[str]] = {}
    for name, extra, _ in _fields(kind):
        found.setdefault(str(extra.get("one_of_many") or name), set()).add(name)
    return {name: frozenset(spelt) for name, spelt in found.items()}


@functools.cache
def _kept(kind: str) -> frozenset[str]:
    """Spellings that stay, whatever was asked for."""
    whose = {path.partition(".")[0] for path in TYPES[kind].patient}
    must = {name for name, extra, required in _fields(kind) if required or extra.get("one_of_many_required")}
    modifying = {spelt for name, spellings in _elements(kind).items() if name in _MODIFIERS for spelt in spellings}
    return _ALWAYS | whose | must | modifying


def _fields(kind: str) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Elements of a type: name in JSON, what the models say of it, whether it is mandatory."""
    for name, field in model_of(kind).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("element_property"):
            yield field.alias or name, extra, field.is_required() or bool(extra.get("element_required"))


def model_of(kind: str) -> type[BaseModel]:
    """The FHIR model of a type."""
    # One module per type: importing all of R4B takes seconds.
    found: type[BaseModel] = getattr(importlib.import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)
    return found


def _refers_within(value: Any) -> bool:
    """Whether anything in it refers to a contained resource."""
    if isinstance(value, dict):
        reference = value.get("reference")
        return (isinstance(reference, str) and reference.startswith("#")) or any(map(_refers_within, value.values()))
    return isinstance(value, list) and any(map(_refers_within, value))
