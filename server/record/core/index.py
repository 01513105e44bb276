"""What a resource is found by: values taken out of it, and the index rows they become.

Values are what the parameters of `params.py` point at. Rows replace texts by
64-bit hashes, so that an index row is a few numbers; each is filed under the
partitions of those who may look (`partition`): its patient or the directory,
and, for what is also searched without a patient, the hospital it came from.

Every row of a resource can be computed from its JSON, so a changed one needs no
second index to find its old rows by. `INDEX_VERSION` must be raised with every
change of what is computed here: the store then makes all rows anew.
"""

import functools
import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from server.record.core.dates import UNDATED, DateRange, range_of
from server.record.core.params import COMPOSITE, DATE, QUANTITY, REFERENCE, STRING, TYPES, Param
from server.record.core.quantities import Quantity, quantity_of

INDEX_VERSION = 2
MAX_STRING_BYTES = 200
"""Of a text in the index; a longer one is found by its beginning."""
_MAX_VALUES = 200
"""Of one parameter of one resource: a list without end must not become rows without end."""


@dataclass(frozen=True, slots=True)
class IndexValues:
    """What a resource can be found by.

    Args:
        tokens: ``(parameter, system, code)``; a reference is the code ``Type/id``.
        dates: ``(parameter, range)`` of the dates that are not the clinical one.
        strings: ``(parameter, text as it stands)``.
        quantities: ``(parameter, quantity)``.
        present: parameters whose element is there, whether or not it says something to search by.
    """

    clinical: DateRange
    tokens: frozenset[tuple[str, str, str]]
    dates: frozenset[tuple[str, DateRange]]
    strings: frozenset[tuple[str, str]]
    quantities: frozenset[tuple[str, Quantity]]
    present: frozenset[str]


def index_values(resource: Mapping[str, Any]) -> IndexValues:
    """Values of a resource that has passed the FHIR models."""
    tokens: set[tuple[str, str, str]] = set(_meta_tokens(resource))
    dates: set[tuple[str, DateRange]] = set()
    strings: set[tuple[str, str]] = set()
    quantities: set[tuple[str, Quantity]] = set()
    present = {name for name, _, _ in tokens}
    clinical = UNDATED
    for name, param in TYPES[resource["resourceType"]].params.items():
        found = list(_all(resource, param))
        if any(_is_value(value, param) for value in found):
            present.add(name)
        if param.kind == DATE:
            ranges = [its for value in found if (its := range_of(value)) is not None]
            if param.clinical:
                clinical = ranges[0] if ranges else UNDATED
            else:
                dates.update((name, its) for its in ranges)
        elif param.kind == STRING:
            strings.update((name, text) for value in found if isinstance(text := value, str) and text)
        elif param.kind == QUANTITY:
            quantities.update((name, one) for value in found if (one := quantity_of(value)) is not None)
        elif param.compartment or param.kind == COMPOSITE:
            continue
        elif param.kind == REFERENCE:
            tokens.update((name, "", to) for value in found if (to := reference_of(value, param)))
        else:
            tokens.update((name, *token) for value in found for token in _tokens(value))
    return IndexValues(
        clinical, frozenset(tokens), frozenset(dates), frozenset(strings), frozenset(quantities), frozenset(present)
    )


def _is_value(value: Any, param: Param) -> bool:
    """Whether an element is one that the parameter means: a reference to another type is not."""
    if value in (None, "", [], {}):
        return False
    literal = isinstance(value, dict) and isinstance(value.get("reference"), str)
    return param.kind != REFERENCE or not literal or reference_of(value, param) is not None


def walk(value: Any, path: str) -> Iterator[Any]:
    """Everything a dotted path leads to; arrays on the way are walked."""
    if isinstance(value, list):
        for item in value:
            yield from walk(item, path)
    elif not path:
        yield value
    elif isinstance(value, dict):
        head, _, rest = path.partition(".")
        if head in value:
            yield from walk(value[head], rest)


def _all(resource: Mapping[str, Any], param: Param) -> Iterator[Any]:
    left = _MAX_VALUES
    for path in param.paths:
        for value in walk(resource, path):
            if left == 0:
                return
            left -= 1
            yield value


def _meta_tokens(resource: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    meta = resource.get("meta") or {}
    for tag in (meta.get("tag") or [])[:_MAX_VALUES]:
        yield from (("_tag", *token) for token in _tokens(tag))
    for profile in (meta.get("profile") or [])[:_MAX_VALUES]:
        if isinstance(profile, str):
            yield ("_profile", "", profile)


def _tokens(value: Any) -> Iterator[tuple[str, str]]:
    """``(system, code)`` of a code, boolean, Coding, CodeableConcept or Identifier."""
    if isinstance(value, bool):
        yield ("", "true" if value else "false")
    elif isinstance(value, str):
        yield ("", value)
    elif isinstance(value, dict):
        if isinstance(value.get("coding"), list):
            for coding in value["coding"]:
                yield from _tokens(coding)
        else:
            code = value.get("code", value.get("value"))
            if isinstance(code, str) and code:
                yield (str(value.get("system", "")), code)


def reference_of(value: Any, param: Param) -> str | None:
    """``Type/id`` of a Reference that is of a type the parameter means; absolute ones as they stand."""
    text = value.get("reference") if isinstance(value, dict) else None
    if not isinstance(text, str) or not text or text.startswith("#"):
        return None
    parts = text.split("/")
    if len(parts) == 4 and parts[2] == "_history":
        text = f"{parts[0]}/{parts[1]}"
    if param.targets and len(parts) in (2, 4) and parts[0] not in param.targets:
        return None
    return text


def fold(text: str) -> bytes:
    """Text for comparison: no case, no accents, one kind of space; cut between characters."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    kept = " ".join("".join(char for char in plain if not unicodedata.combining(char)).split())
    return kept.encode("utf-8", "replace")[:MAX_STRING_BYTES].decode("utf-8", "ignore").encode()


def references_by(resource: Mapping[str, Any], param: Param) -> Iterator[str]:
    """References of a resource that a parameter points at."""
    return (to for value in _all(resource, param) if (to := reference_of(value, param)))


# ------------------------------------------------------------------ rows


@functools.lru_cache(maxsize=16_384)
def hash64(*parts: str) -> int:
    """64 bits of the parts, as the signed number that databases have."""
    joined = "\0".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "big", signed=True)


def patient_partition(patient: str) -> int:
    """Rows of one patient."""
    return hash64("patient", patient)


def owner_partition(hospital: str) -> int:
    """Rows of what came from one hospital."""
    return hash64("hospital", hospital)


DIRECTORY_PARTITION = hash64("directory")
"""Rows of what belongs to no patient."""

TokenRow = tuple[int, int, int, int, int, int]
"""key, part, low_us, res, high_us, system"""
DateRow = tuple[int, int, int, int, int]
"""key, part, res, low_us, high_us"""
StringRow = tuple[int, int, bytes, int, int]
"""key, part, text, res, exact"""
QuantityRow = tuple[int, int, int, float, float, int, int, int]
"""key, part, res, low, high, system, code, unit"""


@dataclass(frozen=True, slots=True)
class IndexRows:
    """Rows of one resource for the four tables."""

    tokens: list[TokenRow]
    dates: list[DateRow]
    strings: list[StringRow]
    quantities: list[QuantityRow]


def primary_partition(patient: str | None) -> int:
    """Where all rows of a resource lie."""
    return DIRECTORY_PARTITION if patient is None else patient_partition(patient)


def index_rows(kind: str, values: IndexValues, res: int, patient: str | None, owner: str) -> IndexRows:
    """Rows of a resource of type ``kind`` with number ``res``."""
    params = TYPES[kind].params
    low_us, high_us = values.clinical.low_us, values.clinical.high_us
    home = primary_partition(patient)
    everywhere = (home, owner_partition(owner))

    def parts(name: str) -> tuple[int, ...]:
        return everywhere if name in params and params[name].wide else (home,)

    there = sum(presence_bit(kind, name) for name in values.present)
    tokens = {(type_key(kind), part, low_us, res, high_us, there) for part in everywhere}
    for name, system, code in values.tokens:
        hashed = hash64("system", system)
        keys = (token_key(kind, name, code), *([system_key(kind, name, system)] if system else []))
        tokens.update((key, part, low_us, res, high_us, hashed) for key in keys for part in parts(name))
    dates = {(param_key(kind, name), home, res, found.low_us, found.high_us) for name, found in values.dates}
    strings = {
        (param_key(kind, name), part, fold(text), res, hash64("exact", text))
        for name, text in values.strings
        for part in parts(name)
    }
    quantities = {
        (param_key(kind, name), home, res, one.low, one.high, *unit_hashes(one.system, one.code, one.unit))
        for name, one in values.quantities
    }
    return IndexRows(sorted(tokens), sorted(dates), sorted(strings), sorted(quantities))


def type_key(kind: str) -> int:
    """Key of the row that every resource of a type has; its ``system`` says which parameters have a value."""
    return hash64("type", kind)


def presence_bit(kind: str, name: str) -> int:
    """The bit of a parameter in that row."""
    return _bits(kind)[name]


@functools.cache
def _bits(kind: str) -> dict[str, int]:
    names = ("_tag", "_profile", *(name for name, param in TYPES[kind].params.items() if param.kind != COMPOSITE))
    assert len(names) < 63, "a row has 63 bits"
    return {name: 1 << place for place, name in enumerate(names)}


def token_key(kind: str, name: str, code: str) -> int:
    """Key of a code or reference."""
    return hash64("token", kind, name, code)


def system_key(kind: str, name: str, system: str) -> int:
    """Key of all codes of one system."""
    return hash64("system-of", kind, name, system)


def param_key(kind: str, name: str) -> int:
    """Key of a date, string or quantity parameter."""
    return hash64("param", kind, name)


def unit_hashes(system: str, code: str, unit: str) -> tuple[int, int, int]:
    """A unit as a row has it; code and unit are hashed alike, because ``5||mg`` may mean either."""
    return hash64("system", system), hash64("unit", code), hash64("unit", unit)
