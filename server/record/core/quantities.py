"""FHIR quantities as ranges of numbers, and the nine ways of comparing them (R4 search, sections 3.1.1.4.8 and .9).

A stored quantity is a number, or with a comparator (``<5``) everything on one
side of it. A number that is asked for says as much as it was written with:
``5.4`` is everything that rounds to it, up to but without 5.45; with any prefix
but ``eq`` and ``ne`` it is the number itself. Units are compared as written:
nothing is converted.
"""

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_NUMBER = re.compile(r"[+-]?\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_MOST = sys.float_info.max
"""Ends of an open range: databases differ in how they take an infinity."""


class QuantityInvalid(ValueError):
    """Not ``number``, ``number|system|code`` or ``number||code``."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A stored one: ``low`` to ``high``, ends included; texts are empty where the resource has none."""

    low: float
    high: float
    system: str = ""
    code: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class AskedQuantity:
    """One of a search.

    Args:
        exact: the number.
        low, high: what rounds to it; ``high`` is not part of it.
        system: None asks for any unit; empty for ``code`` as the unit's code or its text, whatever the system.
    """

    prefix: str
    exact: float
    low: float
    high: float
    system: str | None = None
    code: str = ""


def quantity_of(value: Any) -> Quantity | None:
    """A Quantity as found in a resource; None when it has no number."""
    number = value.get("value") if isinstance(value, dict) else None
    if not isinstance(number, int | float) or isinstance(number, bool):
        return None
    try:
        plain = float(number) + 0.0
    except OverflowError:
        return None
    if not math.isfinite(plain):
        return None
    low, high = _ENDS[its](plain) if (its := value.get("comparator")) in _ENDS else (plain, plain)
    texts = (value.get(name) for name in ("system", "code", "unit"))
    return Quantity(low, high, *(text if isinstance(text, str) else "" for text in texts))


_ENDS: dict[str, Callable[[float], tuple[float, float]]] = {
    "<": lambda at: (-_MOST, math.nextafter(at, -math.inf)),
    "<=": lambda at: (-_MOST, at),
    ">=": lambda at: (at, _MOST),
    ">": lambda at: (math.nextafter(at, math.inf), _MOST),
}


def parse_quantity(prefix: str, number: str, unit: tuple[str, str] | None) -> AskedQuantity:
    """Read one of a search.

    Args:
        unit: system and code, None where none was named.

    Raises:
        QuantityInvalid: no FHIR decimal that can be compared; nothing else, whatever the text.
    """
    if _NUMBER.fullmatch(number) is None:
        raise QuantityInvalid("not a number")
    written = Decimal(number)
    exact = float(written) + 0.0
    exponent = written.as_tuple().exponent
    assert isinstance(exponent, int), "the pattern has no infinity"
    half = Decimal(5).scaleb(exponent - 1)
    low, high = float(written - half), float(written + half)
    if not all(map(math.isfinite, (exact, low, high))):
        raise QuantityInvalid("too large a number")
    # More digits than a float has: the range is the number.
    low, high = min(low, exact), max(high, math.nextafter(exact, math.inf))
    if prefix == "ap":
        tenth = abs(exact) / 10
        low, high = exact - tenth, exact + tenth
    return AskedQuantity(prefix, exact, low, high, *(unit or (None, "")))


def unit_fits(its: Quantity, asked: AskedQuantity) -> bool:
    """Whether a unit is the one that was asked for."""
    if asked.system is None:
        return True
    if not asked.system:
        return asked.code in (its.code, its.unit)
    return (its.system, its.code) == (asked.system, asked.code)


Compare = Callable[[Quantity, AskedQuantity], bool]


def _eq(its: Quantity, asked: AskedQuantity) -> bool:
    return asked.low <= its.low and its.high < asked.high


QUANTITY_COMPARE: dict[str, Compare] = {
    "eq": _eq,
    "ne": lambda its, asked: not _eq(its, asked),
    "gt": lambda its, asked: its.high > asked.exact,
    "lt": lambda its, asked: its.low < asked.exact,
    "ge": lambda its, asked: its.high >= asked.exact,
    "le": lambda its, asked: its.low <= asked.exact,
    "sa": lambda its, asked: its.low > asked.exact,
    "eb": lambda its, asked: its.high < asked.exact,
    "ap": lambda its, asked: its.low <= asked.high and its.high >= asked.low,
}
"""By prefix; ``ap`` is within a tenth, as the standard recommends."""


def quantity_fits(its: Quantity, asked: AskedQuantity) -> bool:
    """Whether a stored quantity answers to an asked one."""
    return unit_fits(its, asked) and QUANTITY_COMPARE[asked.prefix](its, asked)
