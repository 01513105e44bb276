"""What a search means, without an index: the words that the index, and so `plan.py`, must agree with.

Used where something is not stored yet (references between the entries of a
Bundle), and by the tests that hold the index to it.
"""

from dataclasses import dataclass
from typing import Any

from server.record.core.dates import DateRange, compare
from server.record.core.index import IndexValues, fold
from server.record.core.params import COMPOSITE, TYPES
from server.record.core.quantities import AskedQuantity, quantity_fits
from server.record.core.query import Criterion, DateValue, Query, TextValue, TokenValue


@dataclass(frozen=True, slots=True)
class Subject:
    """What a query is about: one stored resource."""

    id: str
    patient: str | None
    written_at_ms: int
    values: IndexValues


def matches(query: Query, one: Subject) -> bool:
    """Whether a resource answers to a query: what the index must agree with. What lies behind links it cannot see."""
    if query.links:
        return False
    if query.ids is not None and one.id not in query.ids:
        return False
    if query.patients is not None and one.patient not in query.patients:
        return False
    return all(_fits(query.type, criterion, one) != criterion.negated for criterion in query.criteria)


def _fits(kind: str, criterion: Criterion, one: Subject) -> bool:
    parts = TYPES[kind].params[criterion.name].parts if criterion.kind == COMPOSITE else None
    if parts is not None:
        return any(
            all(_value_fits(name, value, one) for name, value in zip(parts, pair, strict=True))
            for pair in criterion.values
            if isinstance(pair, tuple)
        )
    return any(_value_fits(criterion.name, value, one, clinical=criterion.clinical) for value in criterion.values)


def _value_fits(name: str, value: Any, one: Subject, *, clinical: bool = False) -> bool:
    values = one.values
    match value:
        case bool(missing):
            return (name not in values.present) == missing
        case TokenValue(code=code, system=system):
            return any(
                its_name == name and code in ("", its_code) and system in (None, its_system)
                for its_name, its_system, its_code in values.tokens
            )
        case AskedQuantity():
            return any(its_name == name and quantity_fits(its, value) for its_name, its in values.quantities)
        case DateValue(prefix=prefix, range=asked):
            if name == "_lastUpdated":
                return compare(prefix, update_range(one.written_at_ms), asked)
            ranges = [values.clinical] if clinical else [its for at, its in values.dates if at == name]
            return any(compare(prefix, its, asked) for its in ranges)
        case TextValue(text=text, mode=mode):
            texts = [its for at, its in values.strings if at == name]
            return any(_text_fits(its, text, mode) for its in texts)
    raise AssertionError("five kinds of values")


def _text_fits(its: str, text: str, mode: str) -> bool:
    if mode == "exact":
        return its == text
    return fold(text) in fold(its) if mode == "contains" else fold(its).startswith(fold(text))


def update_range(written_at_ms: int) -> DateRange:
    """``meta.lastUpdated`` has milliseconds."""
    return DateRange(written_at_ms * 1_000, written_at_ms * 1_000 + 999)
