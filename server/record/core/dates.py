"""FHIR dates as ranges, and the nine ways of comparing them (R4 search, section 3.1.1.4.7).

A FHIR date says as much as it was written with: ``2026-03`` is the whole of
March. Every date is therefore a range of microseconds since 1970, ends included.
A date without a zone is taken as UTC, on both sides of a comparison.
"""

import re
from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

UNDATED_US = -(2**62)
"""Both ends of a resource that has no date: below everything, so it sorts as the oldest and compares with nothing."""
PAST_US, FUTURE_US = -(2**61), 2**61
"""Ends of an open period."""

_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DateInvalid(ValueError):
    """Not a FHIR date, dateTime or instant."""


@dataclass(frozen=True, slots=True)
class DateRange:
    """Microseconds since 1970, both ends included."""

    low_us: int
    high_us: int


UNDATED = DateRange(UNDATED_US, UNDATED_US)


def parse_date(text: str) -> DateRange:
    """Range of a date as written.

    Raises:
        DateInvalid: nothing else, whatever the text.
    """
    found = _DATE.fullmatch(text)
    if found is None:
        raise DateInvalid("not a FHIR date")
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    whole_second = min(int(second or 0), 59)  # FHIR allows the leap second, datetime does not
    try:
        start = datetime(
            int(year),
            int(month or 1),
            int(day or 1),
            int(hour or 0),
            int(minute or 0),
            whole_second,
            tzinfo=_zone(zone),
        )
        low_us = (start - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise DateInvalid("no such day or time") from None
    if fraction is not None:
        digits = fraction[1:7]
        low_us += int(digits.ljust(6, "0"))
        return DateRange(low_us, low_us + 10 ** (6 - len(digits)) - 1)
    return DateRange(low_us, low_us + _length_us(start, month, day, hour, second) - 1)


def _zone(text: str | None) -> timezone:
    if text is None or text == "Z":
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[4:6])
    if int(text[1:3]) > 14 or int(text[4:6]) > 59:
        raise ValueError("no such zone")
    return timezone(timedelta(minutes=minutes if text[0] == "+" else -minutes))


def _length_us(start: datetime, month: str | None, day: str | None, hour: str | None, second: str | None) -> int:
    if second is not None:
        return 1_000_000
    if hour is not None:
        return 60_000_000
    days = 1 if day is not None else monthrange(start.year, start.month)[1] if month is not None else _year_days(start)
    return days * 86_400_000_000


def _year_days(start: datetime) -> int:
    return 366 if monthrange(start.year, 2)[1] == 29 else 365


def range_of(value: Any) -> DateRange | None:
    """Range of a date, a Period or a Timing as found in a resource; None when it has none."""
    try:
        if isinstance(value, str):
            return parse_date(value)
        if not isinstance(value, dict):
            return None
        events = [parse_date(one) for one in value.get("event", []) if isinstance(one, str)]
        if events:
            return DateRange(min(one.low_us for one in events), max(one.high_us for one in events))
        repeat = value.get("repeat")
        if isinstance(repeat, dict):
            return range_of(repeat.get("boundsPeriod"))
        start, end = value.get("start"), value.get("end")
        if not isinstance(start, str) and not isinstance(end, str):
            return None
        low_us = parse_date(start).low_us if isinstance(start, str) else PAST_US
        high_us = parse_date(end).high_us if isinstance(end, str) else FUTURE_US
        return DateRange(low_us, max(low_us, high_us))
    except DateInvalid:
        return None


Compare = Callable[[DateRange, DateRange], bool]
"""``(the resource's, the asked one)``."""


def around(asked: DateRange, now_us: int) -> DateRange:
    """What is near a date: it, and on both sides a tenth of the time between it and now (R4 section 3.1.1.4.6).

    Today is today to the microsecond; a day of ten years ago is that day, a year before and a year after it.
    """
    gap_us = max(0, asked.low_us - now_us, now_us - asked.high_us) // 10
    return DateRange(asked.low_us - gap_us, asked.high_us + gap_us)


def _eq(its: DateRange, asked: DateRange) -> bool:
    return asked.low_us <= its.low_us and its.high_us <= asked.high_us


def _gt(its: DateRange, asked: DateRange) -> bool:
    return its.high_us > asked.high_us


def _lt(its: DateRange, asked: DateRange) -> bool:
    return its.low_us < asked.low_us


COMPARE: dict[str, Compare] = {
    "eq": _eq,
    "ne": lambda its, asked: not _eq(its, asked),
    "gt": _gt,
    "lt": _lt,
    "ge": lambda its, asked: _gt(its, asked) or _eq(its, asked),
    "le": lambda its, asked: _lt(its, asked) or _eq(its, asked),
    "sa": lambda its, asked: its.low_us > asked.high_us,
    "eb": lambda its, asked: its.high_us < asked.low_us,
    "ap": lambda its, asked: its.low_us <= asked.high_us and its.high_us >= asked.low_us,
}
"""By prefix. With ``ap`` the asked one has been widened (`around`), and any part in common is enough."""


def compare(prefix: str, its: DateRange, asked: DateRange) -> bool:
    """Whether a resource's range answers to ``prefix`` and the asked one; the undated never do."""
    return its.low_us != UNDATED_US and COMPARE[prefix](its, asked)
