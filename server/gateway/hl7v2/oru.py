"""ORU R01 (and the results inside REF I12): OBR -> DiagnosticReport, OBX -> Observation. (guide: ORU_R01)

What real laboratories send and the guide does not say is decided here:

- a report written as many OBX of type TX or FT with one code is one text, not one Observation a line;
- ``<5`` in a NM is a comparator; a NM that is no number stays as text, so that nothing is lost;
- several values in OBX-5 become components of one Observation;
- ED becomes a Binary to which ``presentedForm`` refers, by what its bytes are;
- an empty OBX-5 has a dataAbsentReason; a result that was withdrawn (D, W) is entered-in-error and stays.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from server.gateway.hl7v2 import datatypes as dt
from server.gateway.hl7v2 import tables
from server.gateway.hl7v2.bundle import Transaction
from server.gateway.hl7v2.datatypes import Context, Json, only
from server.gateway.hl7v2.message import Composite, Message, Segment
from server.gateway.hl7v2.rows import Row, listed, local_concept, mapped, typed
from server.gateway.hl7v2.times import parse_time

REPORT: Final = (
    Row("OBR-2", "identifier", typed("PLAC"), many=True),
    Row("OBR-3", "identifier", typed("FILL"), many=True),
    Row("OBR-4", "code", dt.concept),
    Row("OBR-22", "issued", dt.instant),
    Row("OBR-24", "category", listed(local_concept("http://terminology.hl7.org/CodeSystem/v2-0074"))),
)
"""OBR-7/8 (effective), OBR-25 (status), OBR-32 (interpreter) and NTE are code below."""
RESULT: Final = (
    Row("OBX-3", "code", dt.concept),
    Row("OBX-17", "method", dt.concept),
    Row("OBX-19", "issued", dt.instant),
    Row("OBX-16", "performer", dt.practitioner, many=True),
    Row("OBX-23", "performer", dt.organization, many=True),
)
"""OBX-2/5 (value), OBX-6 (unit), OBX-7 (range), OBX-8 (flags), OBX-11 (status), OBX-14 (time) are code below."""

NOTE_EXTENSION: Final = "http://hl7.org/fhir/5.0/StructureDefinition/extension-DiagnosticReport.note"
_ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_RANGE: Final = re.compile(r"([+-]?\d{1,12}(?:\.\d{1,8})?)\s*(?:-|--|~|～|—)\s*([+-]?\d{1,12}(?:\.\d{1,8})?)", re.ASCII)
_LIMIT: Final = re.compile(r"(<|>|<=|>=|≤|≥)\s*([+-]?\d{1,12}(?:\.\d{1,8})?)", re.ASCII)
_LONG_TEXT: Final = frozenset({"TX", "FT"})
_CODED: Final = frozenset({"CE", "CF", "CWE", "CNE", "IS"})
_NOT_HERE: Final = {
    "NA": "waveform_left_out", "MA": "waveform_left_out", "CD": "waveform_left_out", "ED": "attachment_left_out",
    "RP": "pointer_left_out",
}  # fmt: skip
"""Waveforms go through `media.sources`; an ED that is not kept and a pointer to elsewhere are said to be absent."""


@dataclass(slots=True)
class Result:
    """An OBX with the OBX that continue its text and its notes."""

    obx: Segment
    more: list[Segment] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Order:
    """An OBR with what belongs to it."""

    obr: Segment
    orc: Segment | None
    results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def orders_of(message: Message) -> Iterator[Order]:
    """The OBR groups of a message, in order; OBX before any OBR belong to none and are counted."""
    orc: Segment | None = None
    order: Order | None = None
    for segment in message.segments:
        if segment.name == "ORC":
            orc = segment
        elif segment.name == "OBR":
            if order is not None:
                yield order
            order, orc = Order(segment, orc), None
        elif segment.name == "OBX" and order is None:
            message.seen["obx_without_obr"] += 1
        elif segment.name == "OBX" and order is not None:
            _append(order.results, segment)
        elif segment.name == "NTE" and order is not None:
            notes = order.results[-1].notes if order.results else order.notes
            if comment := dt.text(_lines(segment, 3)):
                notes.append(comment)
    if order is not None:
        yield order


def _append(results: list[Result], obx: Segment) -> None:
    last = results[-1].obx if results else None
    if (
        last is not None
        and not results[-1].notes
        and obx.v(2) in _LONG_TEXT
        and (last.v(2), last.raw(3), last.raw(4)) == (obx.v(2), obx.raw(3), obx.raw(4))
    ):
        results[-1].more.append(obx)
    else:
        results.append(Result(obx))


def _lines(segment: Segment, number: int) -> str:
    """A text field; its repetitions are lines."""
    return "\n".join(part.text() for part in segment.all(number))


def add_reports(message: Message, transaction: Transaction, fallback: str) -> list[str]:
    """All OBR of a message.

    Args:
        fallback: key of a report without an order number: the message itself.

    Returns:
        References of the reports.
    """
    return [
        _add_report(order, transaction, f"{fallback}#{number}") for number, order in enumerate(orders_of(message), 1)
    ]


def order_key(orc: Segment | None, obr: Segment | None, fallback: str) -> tuple[str, ...]:
    """What an order is known by: the filler's number with the code, else the placer's, else the message."""
    code = obr.v(4) or obr.v(4, 2) if obr is not None else ""
    for number, kind in ((3, "filler"), (2, "placer")):
        for segment in (obr, orc):
            if segment is not None and segment.v(number):
                return (kind, segment.raw(number), code)
    return ("message", fallback, code)


def _add_report(order: Order, transaction: Transaction, fallback: str) -> str:
    ctx, obr = transaction.ctx, order.obr
    key = (transaction.patient, *order_key(order.orc, obr, fallback))
    report = mapped(REPORT, obr, ctx)
    report.setdefault("code", {"text": "?"})
    status = tables.REPORT_STATUS.get(obr.v(25).upper()) or _status_of_results(order.results)
    effective = _effective(obr, ctx)
    results, forms = [], []
    for result in order.results:
        if result.obx.v(2) == "ED" and (found := _attachments(result, transaction, key)):
            forms += found
            continue
        category = _category(obr, result.obx, transaction)
        results.append(_add_result(result, transaction, key, effective, category))
    interpreters = [who for field_ in obr.all(32) if (who := _interpreter(field_, ctx)) is not None]
    notes = [{"url": NOTE_EXTENSION, "valueAnnotation": {"text": text}} for text in order.notes]
    report |= effective | only(
        extension=notes,
        status=status,
        subject=transaction.subject,
        encounter=transaction.visit,
        result=[{"reference": reference} for reference in results],
        resultsInterpreter=interpreters,
        presentedForm=forms,
    )
    return transaction.put("DiagnosticReport", report, *key)


def _status_of_results(results: list[Result]) -> str:
    """OBR-25 is empty: the least advanced of its results decides, and nothing is called final that nobody did."""
    found = {tables.RESULT_STATUS.get(result.obx.v(11).upper(), "unknown") for result in results}
    ranks = ("unknown", "registered", "preliminary", "corrected", "amended", "final", "cancelled", "entered-in-error")
    return next((status for status in ranks if status in found), "unknown")


def _effective(obr: Segment, ctx: Context) -> Json:
    if obr.v(8):
        span = dt.period(obr.v(7), obr.v(8), ctx)
        return {"effectivePeriod": span} if span else {}
    at = dt.date_time(obr.first(7), ctx)
    return {"effectiveDateTime": at} if at else {}


def _interpreter(value: Composite, ctx: Context) -> Json | None:
    """NDL: its first component is a CNN, which is a XCN in subcomponents."""
    return dt.practitioner(value.whole(1), ctx)


def _category(obr: Segment, obx: Segment, transaction: Transaction) -> Json | None:
    code = "vital-signs" if obx.v(3) in tables.VITAL_SIGNS else tables.SECTION_CATEGORY.get(obr.v(24).upper())
    code = code or transaction.sender_category
    return {"coding": [{"system": tables.OBSERVATION_CATEGORY_SYSTEM, "code": code}]} if code else None


def _attachments(result: Result, transaction: Transaction, key: tuple[str, ...]) -> list[Json]:
    found = []
    title = dt.text(result.obx.v(3, 2))
    for value in result.obx.all(5):
        made = dt.attachment(value, transaction.ctx)
        if made is not None:
            attachment = transaction.binary(*made, *key, "form", result.obx.raw(3), result.obx.raw(4))
            found.append(attachment | only(title=title))
    return found


def _add_result(
    result: Result, transaction: Transaction, key: tuple[str, ...], effective: Json, category: Json | None
) -> str:
    ctx, obx = transaction.ctx, result.obx
    observation = mapped(RESULT, obx, ctx)
    observation.setdefault("code", {"text": "?"})
    status = tables.RESULT_STATUS.get(obx.v(11).upper(), "unknown")
    at = dt.date_time(obx.first(14), ctx)
    unit = dt.units(obx.first(6), ctx)
    observation |= ({"effectiveDateTime": at} if at else effective) | only(
        status=status,
        category=[category] if category else None,
        subject=transaction.subject,
        encounter=transaction.visit,
        interpretation=[flag for field_ in obx.all(8) if (flag := _flag(field_)) is not None],
        referenceRange=_range(obx, unit),
        note=[{"text": text} for text in result.notes],
    )
    observation |= _values(result, unit, ctx)
    # OBX-21 names the result; without it, code and sub-id do within the report.
    about = ("id", obx.raw(21)) if obx.v(21) else (obx.v(3) or obx.v(3, 2), obx.v(4))
    return transaction.put("Observation", observation, *key, *about)


def _flag(value: Composite) -> Json | None:
    code, words = value.c(1).strip().upper(), dt.text(value.c(2))
    if code in tables.INTERPRETATION:
        return {"coding": [only(system=tables.INTERPRETATION_SYSTEM, code=code, display=words)]}
    text = words or dt.text(value.c(1))
    return {"text": text} if text else None


def _range(obx: Segment, unit: Json) -> list[Json] | None:
    """OBX-7 as text always, and as numbers where it can only mean one thing."""
    text = dt.text(obx.one(7).text())
    if text is None:
        return None
    found: Json = {"text": text}
    if match := _RANGE.fullmatch(text):
        low, high = dt.number(match.group(1)), dt.number(match.group(2))
        if low is not None and high is not None and low <= high:
            found |= {"low": {"value": low} | unit, "high": {"value": high} | unit}
    elif (match := _LIMIT.fullmatch(text)) and match.group(1) in ("<=", "≤", ">=", "≥"):
        # A limit that is itself outside the range ("< 5") has no place in low or high, which are inclusive.
        found["high" if match.group(1) in ("<=", "≤") else "low"] = {"value": dt.number(match.group(2))} | unit
    return [found]


def _values(result: Result, unit: Json, ctx: Context) -> Json:
    obx, kind = result.obx, result.obx.v(2).upper()
    if kind in _LONG_TEXT or kind == "ST":
        text = dt.text("\n".join(_lines(one, 5) for one in (obx, *result.more)))
        return {"valueString": text} if text else absent("unknown")
    values = obx.all(5)
    if not values:
        return absent("unknown")
    made = [value_of(kind, value, unit, ctx) for value in values]
    if len(made) == 1:
        return made[0]
    code = dt.concept(obx.first(3), ctx) or {"text": "?"}
    return {"component": [{"code": code} | one for one in made]}


def absent(reason: str) -> Json:
    """Why there is no value."""
    return {"dataAbsentReason": {"coding": [{"system": _ABSENT, "code": reason}]}}


def value_of(kind: str, value: Composite, unit: Json, ctx: Context) -> Json:
    """``value[x]`` of one repetition of OBX-5, by OBX-2."""
    made: Json = {}
    if kind == "NM":
        made = only(valueQuantity=dt.quantity(value.text(), unit))
        if not made:
            ctx.seen["nm_not_a_number"] += 1
    elif kind == "SN":
        made = _structured(value, unit)
    elif kind in _CODED:
        made = only(valueCodeableConcept=dt.concept(value, ctx))
    elif kind in ("DT", "TS", "DTM"):
        made = only(valueDateTime=dt.date_time(value, ctx))
    elif kind == "TM":
        made = only(valueTime=parse_time(value.text()))
    elif kind == "DR":
        made = only(valuePeriod=dt.period(value.c(1), value.c(2), ctx))
    elif kind in _NOT_HERE:
        ctx.seen[_NOT_HERE[kind]] += 1
        return absent("unsupported")
    text = dt.text(value.text())
    return made or ({"valueString": text} if text else absent("unknown"))


def _structured(value: Composite, unit: Json) -> Json:
    """SN: ``>^100``, ``^1^:^128`` (ratio), ``^10^-^20`` (range); anything else stays as its text."""
    comparator, first, sign, second = (value.c(n).strip() for n in (1, 2, 3, 4))
    one, two = dt.number(first), dt.number(second)
    if one is not None and not sign and not second and comparator in ("", "<", ">", "<=", ">=", "="):
        return {"valueQuantity": only(comparator="" if comparator == "=" else comparator) | {"value": one} | unit}
    if one is not None and two is not None and sign in (":", "/") and not comparator:
        return {"valueRatio": {"numerator": {"value": one}, "denominator": {"value": two}}}
    if one is not None and two is not None and sign == "-" and not comparator and one <= two:
        return {"valueRange": {"low": {"value": one} | unit, "high": {"value": two} | unit}}
    return only(valueString=dt.text(" ".join(part for part in (comparator, first, sign, second) if part)))
