"""The statement of a query: one range of one index, and probes for the rest.

A query is led by one row of `FhirToken`: the code it names, or else the row that
every resource of the type has. Its key, its partition and its date order make
one range of the primary key, read from where the last page ended: a page costs
the same in a store of ten thousand and of a million. Other criteria are looked
up for each row on the way, by primary key too.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, and_, exists, func, or_, select, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import aliased
from sqlalchemy.sql.functions import FunctionElement

from server.record.core.cursor import Position
from server.record.core.dates import UNDATED_US, DateRange
from server.record.core.index import (
    fold,
    hash64,
    param_key,
    presence_bit,
    system_key,
    token_key,
    type_key,
    unit_hashes,
)
from server.record.core.params import COMPOSITE, DATE, QUANTITY, STRING, TOKEN, TYPES, Param
from server.record.core.quantities import AskedQuantity
from server.record.core.query import MISSING, Criterion, DateValue, Query, TextValue, TokenValue
from server.record.core.reach import Reach, in_compartment
from server.storage.fhir_tables import FhirDate, FhirQuantity, FhirResource, FhirString, FhirToken

_TEXT_END = b"\xff"
"""Sorts after every UTF-8 text."""


FLAT = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off"
"""For PostgreSQL, in front of a search: where it takes many rows to be wanted it would rather read the whole store
once than probe the index, and the answer would take longer with every resource of somebody else's."""


class Plan:
    """The statement of a query."""

    def __init__(self, query: Query, reach: Reach) -> None:
        self._query = query
        self._reach = reach
        self._parts = reach.partitions(query.type, query.patients)
        self._wide = reach.owner is not None and query.patients is None
        self._lead, self._others = _lead(query, wide=self._wide)
        self._row = aliased(FhirResource, name="r")
        self._token = aliased(FhirToken, name="t")
        asks_for_news = self._wide and self._lead is None and any(one.name == "_lastUpdated" for one in query.criteria)
        # A hospital's news come in the order they are kept in, where no other was asked for.
        self._by_update = query.by_update or (asks_for_news and not query.ordered)
        # Sorted by update, and found by id, there is no use for the order of the dates.
        self._from_row = query.ids is not None or (
            self._lead is None and (asks_for_news or (self._by_update and in_compartment(query.type)))
        )
        self._at = (
            self._row.written_at_ms if self._by_update else self._row.low_us if self._from_row else self._token.low_us
        )

    @property
    def empty(self) -> bool:
        """Whether nothing can be found, whatever is stored."""
        nothing_asked = any(not one.values and not one.negated for one in self._query.criteria)
        return not self._parts or self._query.ids == frozenset() or nothing_asked

    def patients(self, most: int) -> Select[Any]:
        """Whose resources fit."""
        row = aliased(FhirResource, name="w")
        number = self._row.res if self._from_row else self._token.res
        statement = self._where(select(row.patient_id)).join(row, row.res == number)
        return statement.where(row.patient_id.is_not(None)).distinct().limit(most)

    def counting(self) -> Select[Any]:
        """How many fit."""
        number = self._row.res if self._needs_row else self._token.res
        return self._where(select(func.count(number if self._once else number.distinct())))

    @property
    def _once(self) -> bool:
        """Whether a resource is met once: it has one row for its type, but one for each of its codes."""
        return self._lead is None

    def page(self, after: Position | None) -> Select[Any]:
        """One more row than a page holds, with its place."""
        query = self._query
        number = self._row.res if self._from_row or self._by_update else self._token.res
        columns: Any = select(self._at.label("at"), number.label("number"))
        inner = self._where(columns)
        if not self._once:
            inner = inner.group_by(self._at, number)
        if after is not None:
            inner = inner.where(_beyond(self._at, number, after, descending=query.descending))
        order = (self._at.desc(), number.desc()) if query.descending else (self._at, number)
        page = inner.order_by(*order).limit(query.count + 1).subquery("page")
        place = (page.c.at, page.c.number)
        outer = select(page.c.at, page.c.number, FhirResource).join(FhirResource, FhirResource.res == page.c.number)
        return outer.order_by(*(column.desc() for column in place) if query.descending else place)

    @property
    def _needs_row(self) -> bool:
        probes = any(not self._from_lead(one) for one in self._others)
        owned = self._reach.owner is not None and self._query.patients is not None
        return self._from_row or self._by_update or probes or owned

    def _from_lead(self, criterion: Criterion) -> bool:
        """Whether the leading row is enough to tell."""
        if criterion.kind == MISSING:
            return self._lead is None
        return criterion.kind == STRING or (criterion.kind == DATE and criterion.clinical)

    def _where(self, statement: Select[Any]) -> Select[Any]:
        row, token, query = self._row, self._token, self._query
        if self._from_row:
            statement = statement.select_from(row).where(row.type == query.type, row.deleted.is_(False), self._home())
            if query.ids is not None:
                statement = statement.where(row.id.in_(sorted(query.ids)))
        else:
            statement = statement.select_from(token).where(*self._led())
            if self._needs_row:
                statement = statement.join(row, row.res == token.res)
        if self._reach.owner is not None and self._needs_row:
            statement = statement.where(row.owner == self._reach.owner)
        return statement.where(*(self._condition(one) for one in self._others))

    def _home(self) -> ColumnElement[bool]:
        """The same partitions for a row that is not found by a token."""
        if self._reach.owner is not None:
            return self._row.patient_id.in_(sorted(self._query.patients)) if self._query.patients else true()
        if self._query.ids is not None:
            return self._row.part.in_(self._parts)
        return self._row.patient_id.in_(self._reach.whose(self._query.patients))

    def _led(self) -> list[ColumnElement[bool]]:
        token, lead = self._token, self._lead
        keys = [type_key(self._query.type)] if lead is None else _keys(self._query.type, lead)
        parts = self._parts
        conditions = [
            token.key == keys[0] if len(keys) == 1 else token.key.in_(keys),
            token.part == parts[0] if len(parts) == 1 else token.part.in_(parts),
        ]
        return conditions + ([_systems(self._query.type, lead, token)] if lead is not None else [])

    def _condition(self, criterion: Criterion) -> ColumnElement[bool]:
        readers = {
            TOKEN: self._has_token,
            DATE: self._has_date,
            STRING: self._has_text,
            QUANTITY: self._has_quantity,
            COMPOSITE: self._has_both,
            MISSING: self._is_missing,
        }
        found = readers[criterion.kind](criterion)
        return ~found if criterion.negated else found

    def _is_missing(self, criterion: Criterion) -> ColumnElement[bool]:
        bit, empty = presence_bit(self._query.type, criterion.name), criterion.values == (True,)
        if self._lead is None and not self._from_row:
            there = self._token.system.bitwise_and(bit)
            return there == 0 if empty else there != 0
        probe, row = aliased(FhirToken), self._row
        there = probe.system.bitwise_and(bit)
        return exists().where(
            probe.key == type_key(self._query.type),
            probe.part == row.part,
            probe.low_us == row.low_us,
            probe.res == row.res,
            there == 0 if empty else there != 0,
        )

    def _has_quantity(self, criterion: Criterion) -> ColumnElement[bool]:
        probe, row = aliased(FhirQuantity), self._row
        asked = [_quantity(value, probe) for value in criterion.values if isinstance(value, AskedQuantity)]
        return exists().where(
            probe.key == param_key(self._query.type, criterion.name),
            probe.part == row.part,
            probe.res == row.res,
            or_(*asked),
        )

    def _has_both(self, criterion: Criterion) -> ColumnElement[bool]:
        parts = TYPES[self._query.type].params[criterion.name].parts
        assert parts is not None, "a composite has two parts"
        return or_(
            *(
                and_(
                    self._has_token(Criterion(parts[0], TOKEN, (pair[0],))),
                    self._has_quantity(Criterion(parts[1], QUANTITY, (pair[1],))),
                )
                for pair in criterion.values
                if isinstance(pair, tuple)
            )
        )

    def _has_token(self, criterion: Criterion) -> ColumnElement[bool]:
        probe, row = aliased(FhirToken), self._row
        return exists().where(
            probe.key.in_(_keys(self._query.type, criterion)),
            probe.part == row.part,
            probe.low_us == row.low_us,
            probe.res == row.res,
            _systems(self._query.type, criterion, probe),
        )

    def _has_date(self, criterion: Criterion) -> ColumnElement[bool]:
        values = [value for value in criterion.values if isinstance(value, DateValue)]
        if criterion.name == "_lastUpdated":
            return or_(*(_updates(value, self._row.written_at_ms) for value in values))
        if criterion.clinical:
            low, high = self._clinical()
            return or_(*(_dates(value, low, high) for value in values))
        probe, row = aliased(FhirDate), self._row
        return exists().where(
            probe.key == param_key(self._query.type, criterion.name),
            probe.part == row.part,
            probe.res == row.res,
            or_(*(_dates(value, probe.low_us, probe.high_us) for value in values)),
        )

    def _clinical(self) -> tuple[Any, Any]:
        if not self._from_row:
            return self._token.low_us, self._token.high_us
        probe, row = aliased(FhirToken), self._row
        high = select(func.max(probe.high_us)).where(
            probe.key == type_key(self._query.type),
            probe.part == row.part,
            probe.low_us == row.low_us,
            probe.res == row.res,
        )
        return row.low_us, high.scalar_subquery()

    def _has_text(self, criterion: Criterion) -> ColumnElement[bool]:
        probe = aliased(FhirString)
        texts = [_text(probe, value) for value in criterion.values if isinstance(value, TextValue)]
        number = self._row.res if self._from_row else self._token.res
        # The texts' own partition: a wide search reads the texts that are filed under the hospital.
        parts = [self._row.part] if self._from_row else self._parts
        return number.in_(
            select(probe.res).where(
                probe.key == param_key(self._query.type, criterion.name), probe.part.in_(parts), or_(*texts)
            )
        )


def _lead(query: Query, *, wide: bool) -> tuple[Criterion | None, list[Criterion]]:
    """The criterion that leads, and the others; None: the type alone."""
    params = TYPES[query.type].params
    able = [
        one
        for one in query.criteria
        if one.kind == TOKEN and not one.negated and (not wide or (one.name in params and params[one.name].wide))
    ]
    if query.ids is not None or not able:
        return None, list(query.criteria)
    lead = min(able, key=lambda one: (_shared_by(one, params), len(one.values)))
    return lead, [one for one in query.criteria if one is not lead]


def _shared_by(criterion: Criterion, params: Mapping[str, Param]) -> int:
    """How many resources share a criterion: the fewer, the better it leads."""
    usual = _SELECTIVE.get(criterion.name, 1 if params.get(criterion.name) else 9)
    systems = any(isinstance(value, TokenValue) and not value.code for value in criterion.values)
    return max(usual, 3) if systems else usual


_SELECTIVE = {"identifier": 0, "status": 5, "category": 4, "intent": 5, "active": 5, "gender": 5}
"""What to be led by, least first: what few resources share."""


def _keys(kind: str, criterion: Criterion) -> list[int]:
    return sorted({_key(kind, criterion.name, value) for value in criterion.values if isinstance(value, TokenValue)})


def _key(kind: str, name: str, value: TokenValue) -> int:
    return token_key(kind, name, value.code) if value.code else system_key(kind, name, value.system or "")


def _systems(kind: str, criterion: Criterion, token: Any) -> ColumnElement[bool]:
    """Each code in its system; nothing to check where no value names one."""
    values = [value for value in criterion.values if isinstance(value, TokenValue)]
    if all(value.system is None for value in values):
        return true()
    return or_(
        *(and_(token.key == _key(kind, criterion.name, value), *_system(token, value.system)) for value in values)
    )


def _system(token: Any, system: str | None) -> list[ColumnElement[bool]]:
    return [] if system is None else [token.system == hash64("system", system)]


def _dates(value: DateValue, low: Any, high: Any) -> ColumnElement[bool]:
    """`dates.COMPARE` in SQL; bounds of ``low`` are added where they follow, because the index is sorted by it."""
    asked: DateRange = value.range
    inside = and_(low >= asked.low_us, low <= asked.high_us, high <= asked.high_us)
    conditions: dict[str, ColumnElement[bool]] = {
        "eq": inside,
        "ne": or_(low < asked.low_us, high > asked.high_us),
        "gt": high > asked.high_us,
        "lt": low < asked.low_us,
        "ge": or_(high > asked.high_us, inside),
        "le": and_(low <= asked.high_us, or_(low < asked.low_us, inside)),
        "sa": low > asked.high_us,
        "eb": and_(low < asked.low_us, high < asked.low_us),
        "ap": and_(low <= asked.high_us, high >= asked.low_us),
    }
    return and_(low > UNDATED_US, conditions[value.prefix])


def _quantity(asked: AskedQuantity, its: Any) -> ColumnElement[bool]:
    """`quantities.QUANTITY_COMPARE` and `quantities.unit_fits` in SQL."""
    inside = and_(its.low >= asked.low, its.high < asked.high)
    conditions: dict[str, ColumnElement[bool]] = {
        "eq": inside,
        "ne": or_(its.low < asked.low, its.high >= asked.high),
        "gt": its.high > asked.exact,
        "lt": its.low < asked.exact,
        "ge": its.high >= asked.exact,
        "le": its.low <= asked.exact,
        "sa": its.low > asked.exact,
        "eb": its.high < asked.exact,
        "ap": and_(its.low <= asked.high, its.high >= asked.low),
    }
    if asked.system is None:
        return conditions[asked.prefix]
    system, code, unit = unit_hashes(asked.system, asked.code, asked.code)
    fits = and_(its.system == system, its.code == code) if asked.system else or_(its.code == code, its.unit == unit)
    return and_(conditions[asked.prefix], fits)


def _updates(value: DateValue, at_ms: Any) -> ColumnElement[bool]:
    """The same for a time in milliseconds, each of which lasts a thousand microseconds: bounds of the column alone."""
    low, high = value.range.low_us, value.range.high_us
    first, last = -(-low // 1_000), (high - 999) // 1_000  # that lie in the range whole
    conditions: dict[str, ColumnElement[bool]] = {
        "eq": and_(at_ms >= first, at_ms <= last),
        "ne": or_(at_ms < first, at_ms > last),
        "gt": at_ms > last,
        "lt": at_ms < first,
        "ge": at_ms >= min(first, last + 1),
        "le": at_ms <= max(first - 1, last),
        "sa": at_ms > high // 1_000,
        "eb": at_ms < -(-(low - 999) // 1_000),
        "ap": and_(at_ms >= -(-(low - 999) // 1_000), at_ms <= high // 1_000),
    }
    return conditions[value.prefix]


def _text(probe: Any, value: TextValue) -> ColumnElement[bool]:
    folded = fold(value.text)
    begins = and_(probe.text >= folded, probe.text < folded + _TEXT_END)
    if value.mode == "exact":
        return and_(begins, probe.exact == hash64("exact", value.text))
    if value.mode == "contains":
        return _Position(probe.text, folded) > 0
    return begins


class _Position(FunctionElement[int]):
    """Where the second argument begins in the first (bytes); 0 for nowhere."""

    type = Integer()
    inherit_cache = True


@compiles(_Position)
def _instr(element: Any, compiler: Any, **more: Any) -> str:
    return f"instr({compiler.process(element.clauses, **more)})"


@compiles(_Position, "postgresql")
def _position_in(element: Any, compiler: Any, **more: Any) -> str:
    whole, part = (compiler.process(clause, **more) for clause in element.clauses)
    return f"position({part} in {whole})"


def _beyond(at: Any, number: Any, after: Position, *, descending: bool) -> ColumnElement[bool]:
    # The first bound alone tells the database where in the index to begin.
    if descending:
        return and_(at <= after.at, or_(at < after.at, number < after.res))
    return and_(at >= after.at, or_(at > after.at, number > after.res))
