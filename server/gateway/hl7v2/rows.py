"""A mapping table: one `Row` for one field of a segment and one FHIR element.

What several fields decide together, or what a table of codes cannot say, stands in the message's module as code, right
below its table.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from server.gateway.hl7v2 import datatypes as dt
from server.gateway.hl7v2.datatypes import Context, Json
from server.gateway.hl7v2.message import Composite, Segment

Make = Callable[[Composite, Context], Any]


@dataclass(frozen=True, slots=True)
class Row:
    """``PID-5`` -> ``name``, made by `datatypes.human_name`; ``many`` takes every repetition into a list."""

    field: str
    element: str
    make: Make
    many: bool = False

    @property
    def number(self) -> int:
        """The field's number in its segment."""
        return int(self.field.partition("-")[2])


def mapped(rows: Iterable[Row], segment: Segment | None, ctx: Context) -> Json:
    """The elements that a segment gives; several rows of one ``many`` element add up.

    A dotted element is an element inside another (``period.start``).
    """
    found: Json = {}
    if segment is None:
        return found
    for row in rows:
        at, *inner = row.element.split(".")
        values = [value for field in segment.all(row.number) if (value := row.make(field, ctx)) not in (None, "", {})]
        if not values:
            continue
        if row.many:
            found.setdefault(at, []).extend(one for one in values if one not in found.get(at, []))
        elif inner:
            found.setdefault(at, {}).setdefault(inner[0], values[0])
        else:
            found.setdefault(at, values[0])
    return found


def coded(table: Mapping[str, str]) -> Make:
    """A code of a table; another one is left out and counted."""

    def make(value: Composite, ctx: Context) -> str | None:
        code = value.c(1).strip().upper()
        if code and code not in table:
            ctx.seen["code_unknown"] += 1
        return table.get(code)

    return make


def words(value: Composite, _ctx: Context) -> str | None:
    """The field as text."""
    return dt.text(value.text())


def typed(kind: str) -> Make:
    """EI or CX -> Identifier of a v2-0203 type."""

    def make(value: Composite, ctx: Context) -> Json | None:
        return dt.entity(value, kind, ctx)

    return make


def listed(make: Make) -> Make:
    """One value as a list of one, for elements that repeat where the field does not."""

    def wrapped(value: Composite, ctx: Context) -> list[Any] | None:
        made = make(value, ctx)
        return None if made is None else [made]

    return wrapped


def local_concept(system: str) -> Make:
    """A code of a HL7 table that senders write without its name."""

    def make(value: Composite, ctx: Context) -> Json | None:
        return dt.concept(value, ctx, system)

    return make
