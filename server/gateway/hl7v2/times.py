"""DTM with its precision and its zone -> FHIR date, dateTime, instant.

A time without an offset is in the zone of MSH-7 (chapter 2.5.5.2: "the default time zone of the sender"), or else in
the configured one; it is never left without. A date stays a date. Hours without minutes become hh:00, because FHIR has
no such precision (section "dateTime"); seconds that were not sent are zero, for the same reason.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

_DTM: Final = re.compile(
    r"(\d{4})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(\.\d{1,9})?)?)?)?)?)?([+-]\d{4})?", re.ASCII
)
_TM: Final = re.compile(r"(\d{2})(\d{2})(?:(\d{2})(\.\d{1,9})?)?(?:[+-]\d{4})?", re.ASCII)
_MAX_OFFSET: Final = timedelta(hours=14)


@dataclass(frozen=True, slots=True)
class Dtm:
    """A point in time as precisely as it was said."""

    moment: datetime
    """With a zone; what was not said is at its smallest."""
    parts: int
    """1 year, 2 month, 3 day, 4 hour and more."""

    @property
    def date(self) -> str:
        """FHIR date: the calendar day where it was said, whatever the zone."""
        day = self.moment.date().isoformat()
        return day[: (4, 7, 10)[min(self.parts, 3) - 1]]

    @property
    def date_time(self) -> str:
        """FHIR dateTime."""
        return self.date if self.parts < 4 else self.moment.isoformat()

    @property
    def instant(self) -> str | None:
        """FHIR instant, None where only a day is known."""
        return None if self.parts < 5 else self.moment.isoformat()

    @property
    def unix_us(self) -> int:
        """Microseconds since 1970, 0 for what was before."""
        since = self.moment - datetime(1970, 1, 1, tzinfo=UTC)
        return max(0, (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


def parse_dtm(text: str, zone: tzinfo) -> Dtm | None:
    """A value of type DT, DTM or TS (its first component); None when it is no time.

    Args:
        zone: of a time that brings none.
    """
    match = _DTM.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        where = zone if offset is None else offset_zone(offset)
        moment = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), _leap(second),
            int((fraction or ".0")[1:7].ljust(6, "0")), tzinfo=where,
        )  # fmt: skip
        moment = moment.replace(tzinfo=timezone(_whole_minutes(moment.utcoffset() or timedelta())))
        _ = moment.astimezone(UTC)  # 0001-01-01+14:00 is before the first day
    except (ValueError, OverflowError):
        return None
    return Dtm(moment, sum(part is not None for part in (year, month, day, hour, minute, second)))


def _leap(second: str | None) -> int:
    """datetime and FHIR's time have no leap second; its place is the second before."""
    return 59 if second == "60" else int(second or 0)


def _whole_minutes(offset: timedelta) -> timedelta:
    """Zones before 1901 were local mean time, whose seconds FHIR cannot write."""
    return timedelta(minutes=round(offset.total_seconds() / 60))


def parse_time(text: str) -> str | None:
    """A value of type TM -> FHIR time, None when it is none."""
    match = _TM.fullmatch(text.strip())
    if match is None:
        return None
    hour, minute, second, fraction = match.groups()
    if int(hour) > 23 or int(minute) > 59 or int(second or 0) > 59:
        return None
    return f"{hour}:{minute}:{second or '00'}{fraction or ''}"


def offset_zone(text: str) -> tzinfo:
    """+hhmm as a zone.

    Raises:
        ValueError: more than 14 hours, or no minutes of an hour.
    """
    size = timedelta(hours=int(text[1:3]), minutes=int(text[3:5]))
    if size > _MAX_OFFSET or int(text[3:5]) > 59:
        raise ValueError("offset")
    return timezone(-size if text[0] == "-" else size)


def format_dtm(moment: datetime) -> str:
    """A moment as DTM with seconds and offset."""
    return moment.strftime("%Y%m%d%H%M%S%z")


def instant_us(text: object) -> int:
    """A FHIR instant as microseconds since 1970; 0 where it is none."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
        if found is None or found.tzinfo is None:
            return 0
        since = found - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return 0
    return max(0, (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


def us_instant(at_us: int) -> str:
    """Microseconds since 1970 as a FHIR instant."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).isoformat()
