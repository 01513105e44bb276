"""What a search asks for: read from the query string, pure.

Strict by default: a parameter that we do not know is refused, because a filter
that is silently left out shows a doctor more than she asked for, and looks like
an answer. ``Prefer: handling=lenient`` leaves it out, and the answer says so.

Chains (``patient.identifier``) and ``_has`` hold a query of their own, about the
resources at the other end; `search.py` answers it first. What a search means is
`meaning.py` without an index and `plan.py` with one.

In one file, because the readers of parameters, chains and composites call each other.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from server.record.core.dates import COMPARE, DateInvalid, DateRange, around, parse_date
from server.record.core.elements import parse_elements
from server.record.core.index import fold
from server.record.core.outcome import FhirCode, FhirRefusal, Place
from server.record.core.params import (
    COMMON,
    COMPOSITE,
    DATE,
    INCLUDES,
    QUANTITY,
    REFERENCE,
    STRING,
    TOKEN,
    TYPES,
    Param,
    clinical_date,
)
from server.record.core.quantities import (
    QUANTITY_COMPARE,
    AskedQuantity,
    QuantityInvalid,
    parse_quantity,
)
from server.record.core.resource import is_id

DEFAULT_COUNT, MAX_COUNT = 50, 1_000
MAX_PAIRS, MAX_VALUES, MAX_VALUE_CHARS = 40, 100, 1_000
MAX_STEPS = 3
"""Of one chain."""
_MODIFIERS = {TOKEN: {"", "not"}, DATE: {""}, STRING: {"", "exact", "contains"}}
MISSING = "missing"
"""Kind of a criterion that asks whether there is a value at all."""
_SPLIT = re.compile(r"(?<!\\)((?:\\\\)*),")
_BAR, _DOLLAR = (re.compile(rf"(?<!\\)((?:\\\\)*){mark}") for mark in (r"\|", r"\$"))
_SAFE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_:-]{0,63}", re.ASCII)
_FHIRS_OWN = ("http://hl7.org/fhir/", "http://terminology.hl7.org/CodeSystem/")
_FORMATS = frozenset({"json", "application/json", "application/fhir+json"})


@dataclass(frozen=True, slots=True)
class TokenValue:
    """A code; ``system`` None is any, empty is none. References are codes ``Type/id``.

    Without a ``code``: any code of the system.
    """

    code: str
    system: str | None = None


@dataclass(frozen=True, slots=True)
class DateValue:
    """A prefix and the range it compares with; with ``ap`` what is near enough."""

    prefix: str
    range: DateRange


@dataclass(frozen=True, slots=True)
class TextValue:
    """A text; ``mode`` is empty (begins with), ``exact`` or ``contains``."""

    text: str
    mode: str


Pair = tuple[TokenValue, AskedQuantity]
"""Of a composite: both fit."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One parameter: any of its values fits (with ``negated``: none does).

    Args:
        values: of `MISSING` one: whether the resource must be without a value.
    """

    name: str
    kind: str
    values: (
        tuple[TokenValue, ...]
        | tuple[DateValue, ...]
        | tuple[TextValue, ...]
        | tuple[AskedQuantity, ...]
        | tuple[Pair, ...]
        | tuple[bool]
    )
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
        elements: the elements that are wanted of what fits; None for whole resources.
        ignored: parameters that were left out.
        pairs: what was read, for the cursor.
        now_us: what ``ap`` of a date was reckoned from, for the cursor.
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
    elements: frozenset[str] | None = None
    ignored: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = field(default=())
    now_us: int | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """Where and when a query is asked."""

    base: str
    now_us: int | None


def parse_query(
    kind: str,
    pairs: Sequence[tuple[str, str]],
    *,
    lenient: bool = False,
    base: str = "",
    now_us: int | None = None,
) -> Query:
    """Read a search.

    Args:
        pairs: names and values in their order, percent-decoded.
        lenient: leave out unknown parameters instead of refusing the query.
        base: our own address: a reference that begins with it is one into this store.
        now_us: microseconds since 1970, the same for all pages of a search; without it no date is asked for by ``ap``.

    Raises:
        FhirRefusal: ``query``, ``unsupported`` or ``too_many``; nothing else, whatever the text.
    """
    if kind not in TYPES:
        raise FhirRefusal(FhirCode.UNKNOWN_TYPE)
    if len(pairs) > MAX_PAIRS or any(len(value) > MAX_VALUE_CHARS * 10 for _, value in pairs):
        raise FhirRefusal(FhirCode.TOO_MANY, "a query has a limit")
    query, asked, ignored = Query(kind), _Asked(base, now_us), []
    for name, value in pairs:
        if value == "":
            continue  # R4 section 3.1.1.1.1: an empty parameter is no parameter
        try:
            found = _one(query, name, value, asked)
        except FhirRefusal as refusal:
            raise refusal.within(_shown(name)) if not refusal.places else refusal from None
        if found is not None:
            query = found
        elif lenient:
            ignored.append(_shown(name))
        else:
            detail = "the parameter is not offered; `Prefer: handling=lenient` leaves it out"
            raise FhirRefusal(FhirCode.UNSUPPORTED, detail, [Place(_shown(name))])
    kept = tuple((name, value) for name, value in pairs if value)
    return replace(query, ignored=tuple(ignored), pairs=kept, now_us=now_us)


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
    if any(isinstance(value, TokenValue) and not value.code for one in _criteria(query) for value in one.values):
        # A number that is empty (`urn:mrn|`) would fit everybody who has one.
        raise FhirRefusal(FhirCode.QUERY, "a condition names a code, not a system alone")
    if not query.criteria and not query.links and query.ids is None and query.patients is None:
        raise FhirRefusal(FhirCode.QUERY, "a condition names what it is about")
    return query


def _criteria(query: Query) -> Iterator[Criterion]:
    """With those at the ends of its chains."""
    yield from query.criteria
    for link in query.links:
        yield from _criteria(link.query)


_NAMES_SOMEBODY = frozenset({"identifier", "accession", "birthdate", "death-date"})


def names_nobody(kind: str, name: str) -> bool:
    """Whether the values of a parameter may be shown in an address: no number, name or birthday of a person (G8)."""
    base = name.partition(":")[0]
    if base in _CONTROLS or base in COMMON:
        return True
    param = TYPES[kind].params.get(base)
    return "." not in name and param is not None and param.kind != STRING and base not in _NAMES_SOMEBODY


def types_beside(query: Query) -> set[str]:
    """Types that a search reads beside its own: at the ends of its chains, and what it includes by reverse."""
    beside = {include.partition(":")[0] for include in query.revincludes}
    for link in query.links:
        beside |= {link.query.type} | types_beside(link.query)
    return beside


def _one(query: Query, name: str, value: str, asked: _Asked) -> Query | None:
    """The query with one more parameter; None when there is no such parameter."""
    if name in _CONTROLS:
        return _CONTROLS[name](query, value)
    if name.startswith("_has:") or "." in name:
        return _linked(query, name, value, asked)
    base, _, modifier = name.partition(":")
    param = TYPES[query.type].params.get(base)
    if param is None and base not in COMMON:
        return None
    if modifier == MISSING:
        return _with(query, _missing(base, value, param))
    if asked.base and param is not None and param.kind == REFERENCE:
        value = ",".join(one.removeprefix(f"{asked.base}/") for one in value.split(","))
    if base == "_id":
        _plain(modifier)
        ids = frozenset(one for one in _values(value) if is_id(one))
        query = replace(query, ids=ids if query.ids is None else query.ids & ids)
        return _narrow(query, ids) if query.type == "Patient" else query
    if param is not None and param.compartment:
        return _narrow(query, frozenset(_patients(value, modifier)))
    if param is not None and param.parts is not None:
        return _with(query, *_composite(base, modifier, _values(value), param.parts))
    kind = COMMON[base] if param is None else param.kind
    if kind == DATE:
        return _with(query, _date(base, modifier, _values(value), param, asked.now_us))
    return _with(query, _READERS[kind](base, modifier, _values(value), param))


def _with(query: Query, *criteria: Criterion) -> Query:
    return replace(query, criteria=(*query.criteria, *criteria))


def _missing(name: str, value: str, param: Param | None) -> Criterion:
    if name in ("_id", "_lastUpdated") or (param is not None and param.parts is not None):
        raise FhirRefusal(FhirCode.UNSUPPORTED, "the modifier is not offered")
    if value not in ("true", "false"):
        raise FhirRefusal(FhirCode.QUERY, "true or false")
    return Criterion(name, MISSING, (value == "true",))


def _linked(query: Query, name: str, value: str, place: _Asked) -> Query | None:
    """With a chain (R4 section 3.1.1.4.11) or a ``_has`` (3.1.1.4.12)."""
    if name.count(".") + name.count("_has:") > MAX_STEPS:
        raise FhirRefusal(FhirCode.TOO_MANY, "the chain is too long")
    if name.startswith("_has:"):
        source, _, rest = name.removeprefix("_has:").partition(":")
        via, _, asked = rest.partition(":")
        if not asked or f"{source}:{via}" not in INCLUDES or not _can_point(f"{source}:{via}", query.type):
            return None
        link = Link(via, _at_the_end(source, asked, value, place), reverse=True)
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
        link = Link(via, _at_the_end(target, asked, value, place))
    return replace(query, links=(*query.links, link))


def _at_the_end(kind: str, name: str, value: str, place: _Asked) -> Query:
    found = None if name.partition(":")[0] in _CONTROLS else _one(Query(kind), name, value, place)
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


def _token(name: str, modifier: str, values: list[str], param: Param | None) -> Criterion:
    _plain(modifier, _MODIFIERS[TOKEN])
    tokens = tuple(map(_token_value, values))
    if param is not None and param.bare:
        tokens = tuple(map(_without_its_system, tokens))
    return Criterion(name, TOKEN, tokens, negated=modifier == "not")


def _without_its_system(token: TokenValue) -> TokenValue:
    """A ``code`` element has no system in the resource; in a search it may have FHIR's own (R4 section 3.1.1.4.10)."""
    if not (token.system or "").startswith(_FHIRS_OWN):
        return token
    if not token.code:
        raise FhirRefusal(FhirCode.UNSUPPORTED, "all codes of the one system there is: use :missing=false")
    return TokenValue(token.code, "")


def _token_value(text: str) -> TokenValue:
    parts = _split(_BAR, text, 1)
    code, system = _unescape(parts[-1]), None if len(parts) == 1 else _unescape(parts[0])
    if not code and not system:
        raise FhirRefusal(FhirCode.QUERY, "neither a code nor a system")
    return TokenValue(code, system)


def _split(mark: re.Pattern[str], text: str, most: int = 0) -> list[str]:
    """At marks that are not escaped; there is no NUL in the text, `_values` has seen to it."""
    return mark.sub("\\1\0", text, count=most).split("\0")


def _date(name: str, modifier: str, values: list[str], param: Param | None, now_us: int | None) -> Criterion:
    _plain(modifier, _MODIFIERS[DATE])
    dates = tuple(_date_value(value, now_us) for value in values)
    return Criterion(name, DATE, dates, clinical=param is not None and param.clinical)


def _date_value(text: str, now_us: int | None) -> DateValue:
    prefix, rest = (text[:2], text[2:]) if text[:1].isalpha() else ("eq", text)
    if prefix not in COMPARE:
        raise FhirRefusal(FhirCode.UNSUPPORTED, "the prefix is not offered")
    try:
        # A plus sign arrives as a space where a client forgot to escape it.
        asked = parse_date(rest.replace(" ", "+"))
    except DateInvalid:
        raise FhirRefusal(FhirCode.QUERY, "not a FHIR date") from None
    if prefix != "ap":
        return DateValue(prefix, asked)
    if now_us is None:
        raise FhirRefusal(FhirCode.UNSUPPORTED, "a condition of a write does not ask for what is near")
    return DateValue(prefix, around(asked, now_us))


def _quantity(name: str, modifier: str, values: list[str], _param: Param | None) -> Criterion:
    _plain(modifier)
    return Criterion(name, QUANTITY, tuple(map(_quantity_value, values)))


def _quantity_value(text: str) -> AskedQuantity:
    prefix, rest = (text[:2], text[2:]) if text[:1].isalpha() else ("eq", text)
    if prefix not in QUANTITY_COMPARE:
        raise FhirRefusal(FhirCode.UNSUPPORTED, "the prefix is not offered")
    number, *unit = map(_unescape, _split(_BAR, rest))
    if len(unit) not in (0, 2) or (unit and unit[0] and not unit[1]):
        raise FhirRefusal(FhirCode.QUERY, "number, number|system|code or number||code")
    try:
        # A plus sign arrives as a space; `5||` names no unit.
        return parse_quantity(prefix, number.replace(" ", "+"), (unit[0], unit[1]) if any(unit) else None)
    except QuantityInvalid:
        raise FhirRefusal(FhirCode.QUERY, "not a number") from None


def _composite(name: str, modifier: str, values: list[str], parts: tuple[str, str]) -> list[Criterion]:
    """Its codes alone, which may lead; and which quantity goes with which of them."""
    _plain(modifier)
    split = [_split(_DOLLAR, one) for one in values]
    if any(len(one) != 2 or not all(one) for one in split):
        raise FhirRefusal(FhirCode.QUERY, "two values: code$number")
    pairs = tuple((_token_value(code), _quantity_value(number)) for code, number in split)
    codes = Criterion(parts[0], TOKEN, tuple(code for code, _ in pairs))
    if len(pairs) == 1:
        return [codes, Criterion(parts[1], QUANTITY, (pairs[0][1],))]
    return [codes, Criterion(name, COMPOSITE, pairs)]


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


_READERS = {TOKEN: _token, STRING: _string, REFERENCE: _reference, QUANTITY: _quantity}


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


def _some_elements(query: Query, value: str) -> Query:
    names = parse_elements(query.type, value)
    return replace(query, elements=names if query.elements is None else query.elements | names)


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
    "_elements": _some_elements,
    "_include": _include,
    "_revinclude": _revinclude,
    "_format": _format,
}
