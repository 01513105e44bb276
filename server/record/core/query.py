"""What a search asks for: read from the query string, pure.

Strict by default: a parameter that we do not know is refused, because a filter
that is silently left out shows a doctor more than she asked for, and looks like
an answer. ``Prefer: handling=lenient`` leaves it out, and the answer says so.

Chains (``patient.identifier``) and ``_has`` hold a query of their own, about the
resources at the other end; `search.py` answers it first.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from server.record.core.dates import COMPARE, DateInvalid, DateRange, compare, parse_date
from server.record.core.index import IndexValues, fold
from server.record.core.outcome import FhirCode, FhirRefusal, Place
from server.record.core.params import COMMON, DATE, INCLUDES, REFERENCE, STRING, TOKEN, TYPES, Param, clinical_date
from server.record.core.resource import is_id

DEFAULT_COUNT, MAX_COUNT = 50, 1_000
MAX_PAIRS, MAX_VALUES, MAX_VALUE_CHARS = 40, 100, 1_000
MAX_STEPS = 3
"""Of one chain."""
_MODIFIERS = {TOKEN: {"", "not"}, DATE: {""}, STRING: {"", "exact", "contains"}}
_SPLIT = re.compile(r"(?<!\\)((?:\\\\)*),")
_SAFE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_:-]{0,63}", re.ASCII)
_FORMATS = frozenset({"json", "application/json", "application/fhir+json"})


@dataclass(frozen=True, slots=True)
class TokenValue:
    """A code; ``system`` None is any, empty is none. References are codes ``Type/id``."""

    code: str
    system: str | None = None


@dataclass(frozen=True, slots=True)
class DateValue:
    """A prefix and the range it compares with."""

    prefix: str
    range: DateRange


@dataclass(frozen=True, slots=True)
class TextValue:
    """A text; ``mode`` is empty (begins with), ``exact`` or ``contains``."""

    text: str
    mode: str


@dataclass(frozen=True, slots=True)
class Criterion:
    """One parameter: any of its values fits (with ``negated``: none does)."""

    name: str
    kind: str
    values: tuple[TokenValue, ...] | tuple[DateValue, ...] | tuple[TextValue, ...]
    negated: bool = False
    clinical: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A condition on what a resource refers to, or (``reverse``) on what refers to it.

    Args:
        name: the reference, a parameter of the type that refers.
        query: what must fit at the other end.
    """

    name: str
    query: "Query"
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A search of one type; all criteria must fit.

    Args:
        links: chains and ``_has``.
        patients: the patients that the query names; None when it names none.
        ids: the ids that the query names.
        includes: ``Type:parameter``, and the one type of target that is wanted (empty: any).
        by_update: sorted by when it was written, else by the clinical date.
        ordered: the order was asked for.
        ignored: parameters that were left out.
        pairs: what was read, for the cursor.
    """

    type: str
    criteria: tuple[Criterion, ...] = ()
    links: tuple[Link, ...] = ()
    patients: frozenset[str] | None = None
    ids: frozenset[str] | None = None
    by_update: bool = False
    ordered: bool = False
    descending: bool = True
    count: int = DEFAULT_COUNT
    total: bool = False
    count_only: bool = False
    includes: tuple[tuple[str, str], ...] = ()
    revincludes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = field(default=())


def parse_query(kind: str, pairs: Sequence[tuple[str, str]], *, lenient: bool = False, base: str = "") -> Query:
    """Read a search.

    Args:
        pairs: names and values in their order, percent-decoded.
        lenient: leave out unknown parameters instead of refusing the query.
        base: our own address: a reference that begins with it is one into this store.

    Raises:
        FhirRefusal: ``query``, ``unsupported`` or ``too_many``; nothing else, whatever the text.
    """
    if kind not in TYPES:
        raise FhirRefusal(FhirCode.UNKNOWN_TYPE)
    if len(pairs) > MAX_PAIRS or any(len(value) > MAX_VALUE_CHARS * 10 for _, value in pairs):
        raise FhirRefusal(FhirCode.TOO_MANY, "a query has a limit")
    query, ignored = Query(kind), []
    for name, value in pairs:
        if value == "":
            continue  # R4 section 3.1.1.1.1: an empty parameter is no parameter
        try:
            found = _one(query, name, value, base)
        except FhirRefusal as refusal:
            raise refusal.within(_shown(name)) if not refusal.places else refusal from None
        if found is not None:
            query = found
        elif lenient:
            ignored.append(_shown(name))
        else:
            detail = "the parameter is not offered; `Prefer: handling=lenient` leaves it out"
            raise FhirRefusal(FhirCode.UNSUPPORTED, detail, [Place(_shown(name))])
    return replace(query, ignored=tuple(ignored), pairs=tuple((name, value) for name, value in pairs if value))


def _shown(name: str) -> str:
    """A parameter's name as far as it can be told without repeating what somebody typed."""
    return f"http.{name}" if _SAFE_NAME.fullmatch(name) else "http.query"


def parse_condition(kind: str, pairs: Sequence[tuple[str, str]]) -> Query:
    """Read the condition of a conditional write or reference: what it is about, and nothing else.

    Raises:
        FhirRefusal: likewise; and for what shapes an answer (``_count=0`` finds nothing, whatever is stored).
    """
    if any(name.partition(":")[0] in _CONTROLS for name, _ in pairs):
        raise FhirRefusal(FhirCode.QUERY, "a condition says what to find, not how to show it")
    query = parse_query(kind, pairs)
    if not query.criteria and not query.links and query.ids is None and query.patients is None:
        raise FhirRefusal(FhirCode.QUERY, "a condition names what it is about")
    return query


def types_beside(query: Query) -> set[str]:
    """Types that a search reads beside its own: at the ends of its chains, and what it includes by reverse."""
    beside = {include.partition(":")[0] for include in query.revincludes}
    for link in query.links:
        beside |= {link.query.type} | types_beside(link.query)
    return beside


def _one(query: Query, name: str, value: str, own: str) -> Query | None:
    """The query with one more parameter; None when there is no such parameter."""
    if name in _CONTROLS:
        return _CONTROLS[name](query, value)
    if name.startswith("_has:") or "." in name:
        return _linked(query, name, value, own)
    base, _, modifier = name.partition(":")
    param = TYPES[query.type].params.get(base)
    if param is None and base not in COMMON:
        return None
    if own and param is not None and param.kind == REFERENCE:
        value = ",".join(one.removeprefix(f"{own}/") for one in value.split(","))
    if base == "_id":
        _plain(modifier)
        ids = frozenset(one for one in _values(value) if is_id(one))
        query = replace(query, ids=ids if query.ids is None else query.ids & ids)
        return _narrow(query, ids) if query.type == "Patient" else query
    if param is not None and param.compartment:
        return _narrow(query, frozenset(_patients(value, modifier)))
    kind = COMMON[base] if param is None else param.kind
    criterion = _READERS[kind](base, modifier, _values(value), param)
    return replace(query, criteria=(*query.criteria, criterion))


def _linked(query: Query, name: str, value: str, own: str) -> Query | None:
    """With a chain (R4 section 3.1.1.4.11) or a ``_has`` (3.1.1.4.12)."""
    if name.count(".") + name.count("_has:") > MAX_STEPS:
        raise FhirRefusal(FhirCode.TOO_MANY, "the chain is too long")
    if name.startswith("_has:"):
        source, _, rest = name.removeprefix("_has:").partition(":")
        via, _, asked = rest.partition(":")
        if not asked or f"{source}:{via}" not in INCLUDES or not _can_point(f"{source}:{via}", query.type):
            return None
        link = Link(via, _at_the_end(source, asked, value, own), reverse=True)
    else:
        head, _, asked = name.partition(".")
        via, _, target = head.partition(":")
        param = TYPES[query.type].params.get(via)
        if param is None or param.kind != REFERENCE:
            return None
        if not target and len(param.targets) != 1:
            raise FhirRefusal(FhirCode.QUERY, "the chain must name a type: parameter:Type.name")
        target = target or param.targets[0]
        if target not in TYPES or (param.targets and target not in param.targets):
            raise FhirRefusal(FhirCode.UNSUPPORTED, "the parameter does not refer to that type")
        link = Link(via, _at_the_end(target, asked, value, own))
    return replace(query, links=(*query.links, link))


def _at_the_end(kind: str, name: str, value: str, own: str) -> Query:
    found = None if name.partition(":")[0] in _CONTROLS else _one(Query(kind), name, value, own)
    if found is None:
        raise FhirRefusal(FhirCode.UNSUPPORTED, "the parameter at the end of the chain is not offered")
    return found


def _narrow(query: Query, patients: frozenset[str]) -> Query:
    return replace(query, patients=patients if query.patients is None else query.patients & patients)


def _values(text: str) -> list[str]:
    """Alternatives, split at commas that are not escaped."""
    if "\0" in text:
        raise FhirRefusal(FhirCode.QUERY, "a control character")
    marked = _SPLIT.sub("\\1\0", text)
    values = [one for one in marked.split("\0") if one]
    if not values:
        raise FhirRefusal(FhirCode.QUERY, "nothing to compare with")
    if len(values) > MAX_VALUES or any(len(one) > MAX_VALUE_CHARS for one in values):
        raise FhirRefusal(FhirCode.TOO_MANY, "a parameter has a limit")
    return values


def _unescape(text: str) -> str:
    return re.sub(r"\\([\\,|$])", r"\1", text)


def _plain(modifier: str, allowed: frozenset[str] | set[str] = frozenset({""})) -> None:
    if modifier not in allowed:
        raise FhirRefusal(FhirCode.UNSUPPORTED, "the modifier is not offered")


def _token(name: str, modifier: str, values: list[str], _param: Param | None) -> Criterion:
    _plain(modifier, _MODIFIERS[TOKEN])
    return Criterion(name, TOKEN, tuple(map(_token_value, values)), negated=modifier == "not")


def _token_value(text: str) -> TokenValue:
    parts = re.split(r"(?<!\\)\|", text, maxsplit=1)
    code = _unescape(parts[-1])
    if not code:
        raise FhirRefusal(FhirCode.UNSUPPORTED, "a search for all codes of a system is not offered")
    return TokenValue(code) if len(parts) == 1 else TokenValue(code, _unescape(parts[0]))


def _date(name: str, modifier: str, values: list[str], param: Param | None) -> Criterion:
    _plain(modifier, _MODIFIERS[DATE])
    return Criterion(name, DATE, tuple(map(_date_value, values)), clinical=param is not None and param.clinical)


def _date_value(text: str) -> DateValue:
    prefix, rest = (text[:2], text[2:]) if text[:1].isalpha() else ("eq", text)
    if prefix not in COMPARE:
        raise FhirRefusal(FhirCode.UNSUPPORTED, "the prefix is not offered")
    try:
        # A plus sign arrives as a space where a client forgot to escape it.
        return DateValue(prefix, parse_date(rest.replace(" ", "+")))
    except DateInvalid:
        raise FhirRefusal(FhirCode.QUERY, "not a FHIR date") from None


def _string(name: str, modifier: str, values: list[str], _param: Param | None) -> Criterion:
    _plain(modifier, _MODIFIERS[STRING])
    if not all(fold(_unescape(one)) for one in values):
        raise FhirRefusal(FhirCode.QUERY, "nothing to compare with")
    return Criterion(name, STRING, tuple(TextValue(_unescape(one), modifier) for one in values))


def _reference(name: str, modifier: str, values: list[str], param: Param | None) -> Criterion:
    assert param is not None, "common parameters are no references"
    targets = param.targets
    if modifier:
        if modifier not in TYPES or (targets and modifier not in targets):
            raise FhirRefusal(FhirCode.UNSUPPORTED, "the modifier is not a type the parameter refers to")
        targets = (modifier,)
    return Criterion(name, TOKEN, tuple(TokenValue(_reference_value(one, targets), "") for one in values))


def _reference_value(text: str, targets: tuple[str, ...]) -> str:
    text = _unescape(text)
    if "/" in text or ":" in text:
        return text
    if not is_id(text):
        raise FhirRefusal(FhirCode.QUERY, "not a reference")
    if len(targets) != 1:
        raise FhirRefusal(FhirCode.QUERY, "the reference must name its type: Type/id")
    return f"{targets[0]}/{text}"


def _patients(value: str, modifier: str) -> list[str]:
    _plain(modifier, {"", "Patient"})
    # What cannot be an id finds nothing, like one that nobody has.
    return [id_ for text in _values(value) if is_id(id_ := _unescape(text).removeprefix("Patient/"))]


_READERS = {TOKEN: _token, DATE: _date, STRING: _string, REFERENCE: _reference}


# ------------------------------------------------------------------ result parameters


def _sort(query: Query, value: str) -> Query:
    descending, name = value.startswith("-"), value.removeprefix("-")
    if name == "_lastUpdated":
        return replace(query, by_update=True, ordered=True, descending=descending)
    if name == clinical_date(query.type):
        return replace(query, by_update=False, ordered=True, descending=descending)
    raise FhirRefusal(FhirCode.UNSUPPORTED, "sorted is by the type's own date or by _lastUpdated")


def _count(query: Query, value: str) -> Query:
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise FhirRefusal(FhirCode.QUERY, "not a number")
    number = int(value)
    return replace(query, count_only=True) if number == 0 else replace(query, count=min(number, MAX_COUNT))


def _total(query: Query, value: str) -> Query:
    if value not in ("none", "estimate", "accurate"):
        raise FhirRefusal(FhirCode.QUERY, "none, estimate or accurate")
    return replace(query, total=value != "none")


def _summary(query: Query, value: str) -> Query:
    if value == "false":
        return query
    if value != "count":
        raise FhirRefusal(FhirCode.UNSUPPORTED, "_summary is count or false")
    return replace(query, count_only=True)


def _include(query: Query, value: str) -> Query:
    value, _, target = _include_parts(value)
    if value not in INCLUDES or not value.startswith(f"{query.type}:") or not _may_lead(value, target):
        raise FhirRefusal(FhirCode.UNSUPPORTED, "this include is not offered")
    return replace(query, includes=(*query.includes, (value, target)))


def _include_parts(value: str) -> tuple[str, str, str]:
    """``Type:parameter`` and the type of the target that may follow (R4 section 3.1.1.4.14)."""
    source, _, rest = value.partition(":")
    name, mark, target = rest.partition(":")
    return f"{source}:{name}", mark, target


def _may_lead(include: str, target: str) -> bool:
    return not target or (target in TYPES and _can_point(include, target))


def _revinclude(query: Query, value: str) -> Query:
    value, _, target = _include_parts(value)
    if value not in INCLUDES or not _can_point(value, query.type) or target not in ("", query.type):
        raise FhirRefusal(FhirCode.UNSUPPORTED, "this include is not offered")
    return replace(query, revincludes=(*query.revincludes, value))


def _can_point(include: str, kind: str) -> bool:
    source, _, name = include.partition(":")
    targets = TYPES[source].params[name].targets
    return not targets or kind in targets


def _format(query: Query, value: str) -> Query:
    if value.replace(" ", "+") not in _FORMATS:
        raise FhirRefusal(FhirCode.UNSUPPORTED, "the format is JSON")
    return query


_CONTROLS = {
    "_sort": _sort,
    "_count": _count,
    "_total": _total,
    "_summary": _summary,
    "_include": _include,
    "_revinclude": _revinclude,
    "_format": _format,
}


# ------------------------------------------------------------------ the meaning, without an index


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
    return all(_fits(criterion, one) != criterion.negated for criterion in query.criteria)


def _fits(criterion: Criterion, one: Subject) -> bool:
    return any(_value_fits(criterion, value, one) for value in criterion.values)


def _value_fits(criterion: Criterion, value: Any, one: Subject) -> bool:
    name, values = criterion.name, one.values
    match value:
        case TokenValue(code=code, system=system):
            return any(
                (its_name, its_code) == (name, code) and system in (None, its_system)
                for its_name, its_system, its_code in values.tokens
            )
        case DateValue(prefix=prefix, range=asked):
            if name == "_lastUpdated":
                return compare(prefix, update_range(one.written_at_ms), asked)
            ranges = [values.clinical] if criterion.clinical else [its for at, its in values.dates if at == name]
            return any(compare(prefix, its, asked) for its in ranges)
        case TextValue(text=text, mode=mode):
            texts = [its for at, its in values.strings if at == name]
            return any(_text_fits(its, text, mode) for its in texts)
    raise AssertionError("three kinds of values")


def _text_fits(its: str, text: str, mode: str) -> bool:
    if mode == "exact":
        return its == text
    return fold(text) in fold(its) if mode == "contains" else fold(its).startswith(fold(text))


def update_range(written_at_ms: int) -> DateRange:
    """``meta.lastUpdated`` has milliseconds."""
    return DateRange(written_at_ms * 1_000, written_at_ms * 1_000 + 999)
