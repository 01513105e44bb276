"""RDE O11: ORC, RXE (RXO), RXR, TQ1, RXC -> MedicationRequest. (guide: RDE_O11, RXE[MedicationRequest])

What the hospital prescribed, filed as it was said. Nothing here prescribes: an order of this system is written by a
doctor and reviewed (C7, C11).
"""

from dataclasses import dataclass
from typing import Final

from server.gateway.hl7v2 import datatypes as dt
from server.gateway.hl7v2 import tables
from server.gateway.hl7v2.bundle import Transaction
from server.gateway.hl7v2.datatypes import Context, Json, only
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused
from server.gateway.hl7v2.message import Message, Segment
from server.gateway.hl7v2.orders import OrderGroup, order_groups, order_number, priority_of, status_of
from server.gateway.hl7v2.rows import Row, mapped, typed

PRESCRIPTION: Final = (
    Row("ORC-2", "identifier", typed("PLAC"), many=True),
    Row("ORC-3", "identifier", typed("FILL"), many=True),
    Row("ORC-4", "groupIdentifier", typed("PGN")),
    Row("ORC-9", "authoredOn", dt.date_time),
    Row("ORC-12", "requester", dt.practitioner),
    Row("ORC-16", "reasonCode", dt.concept, many=True),
)
ROUTE: Final = (
    Row("RXR-1", "route", dt.concept),
    Row("RXR-2", "site", dt.concept),
    Row("RXR-4", "method", dt.concept),
)
"""RXE-2 (drug), RXE-3 to 5 (dose), RXE-7 (instructions), RXE-10 to 12 (supply), RXE-9 (substitution), RXE-23/24 (rate)
and TQ1-3/7 to 11 or the older RXE-1 and ORC-7 (timing) are code below; where there is no RXE the same of RXO."""


def add_prescriptions(message: Message, transaction: Transaction) -> None:
    """All prescriptions of a message.

    Raises:
        Hl7Refused: none, or one without number or drug.
    """
    count = 0
    for group in order_groups(message):
        if group.first("RXE") is not None or group.first("RXO") is not None:
            _add(group, transaction)
            count += 1
    if not count:
        raise Hl7Refused(Hl7Code.SEGMENT, "RXE")


def _add(group: OrderGroup, transaction: Transaction) -> None:
    ctx, orc = transaction.ctx, group.orc
    number = order_number(orc, None)
    if number is None:
        raise Hl7Refused(Hl7Code.REQUIRED_FIELD, "ORC-2")
    drug = _drug(group, ctx)
    if drug is None:
        raise Hl7Refused(Hl7Code.REQUIRED_FIELD, "RXE-2")
    control = orc.v(1).upper() if orc is not None else ""
    status = "cancelled" if control in tables.CANCELS_MEDICATION else tables.MEDICATION_STATUS[status_of(orc)]
    request = mapped(PRESCRIPTION, orc, ctx) | only(
        status=status,
        intent="order",
        priority=priority_of(group, None),
        medicationCodeableConcept=drug,
        subject=transaction.subject,
        encounter=transaction.visit,
        dosageInstruction=_dosage(group, ctx),
        dispenseRequest=_supply(group.first("RXE"), ctx),
        substitution=_substitution(group.first("RXE")),
        note=group.notes() + _components(group, ctx),
    )
    transaction.put("MedicationRequest", request, transaction.patient, *number)


def _drug(group: OrderGroup, ctx: Context) -> Json | None:
    rxe, rxo = group.first("RXE"), group.first("RXO")
    found = dt.concept(rxe.first(2), ctx) if rxe is not None else None
    return found or (dt.concept(rxo.first(1), ctx) if rxo is not None else None)


def _dosage(group: OrderGroup, ctx: Context) -> list[Json]:
    """One instruction for each timing; what is no number stays as words, so that no part of a dose is lost."""
    rxe, rxo = group.first("RXE"), group.first("RXO")
    segment, first = (rxe, 3) if rxe is not None else (rxo, 2)
    dose, said = _dose(segment, first, ctx)
    if rxe is not None and (rate := dt.number(rxe.v(23))) is not None:
        dose["rateQuantity"] = {"value": rate} | dt.units(rxe.first(24), ctx)
    elif rxe is not None and rxe.v(23):
        said.append(" ".join(part for part in (rxe.v(23), rxe.v(24, 2) or rxe.v(24)) if part))
    instructions = _instructions(rxe, 7, ctx) or _instructions(rxo, 7, ctx)
    timings = _timings(group)
    found = []
    for number, timing in enumerate(timings or [_Timing()], 1):
        found.append(
            mapped(ROUTE, group.first("RXR"), ctx)
            | only(
                sequence=number if len(timings) > 1 else None,
                text="\n".join(part for part in (instructions, *said, *timing.words) if part),
                timing=timing.element(ctx),
                asNeededBoolean=True if timing.as_needed else None,
                doseAndRate=[dose] if dose else None,
            )
        )
    return [one for one in found if one]


def _instructions(segment: Segment | None, number: int, ctx: Context) -> str | None:
    if segment is None:
        return None
    said = [concept for value in segment.all(number) if (concept := dt.concept(value, ctx)) is not None]
    return "\n".join(str(one.get("text") or one["coding"][0]["code"]) for one in said) or None


def _dose(segment: Segment | None, first: int, ctx: Context) -> tuple[Json, list[str]]:
    """Least and greatest amount of one dose (RXE-3/4/5, RXO-2/3/4), as numbers or else as words."""
    if segment is None:
        return {}, []
    field = segment.first(first + 2)
    word = dt.text(field.st(2)) or dt.text(field.st(1))
    unit = only(unit=word)
    low, high = dt.number(segment.v(first)), dt.number(segment.v(first + 1))
    most = segment.v(first + 1)
    if low is not None and (not most or (high is not None and high == low)):
        return {"doseQuantity": {"value": low} | unit}, []
    if low is not None and high is not None and high > low:
        return {"doseRange": {"low": {"value": low} | unit, "high": {"value": high} | unit}}, []
    said = " - ".join(part for part in (segment.v(first), most) if part)
    if said:
        ctx.seen["dose_not_a_number"] += 1
    return {}, [" ".join(part for part in (said, word) if part)] if said else []


@dataclass(frozen=True, kw_only=True, slots=True)
class _Timing:
    """When it is given, as the hospital writes it (BID, Q6H, ...); no schedule is computed from a local code."""

    patterns: tuple[str, ...] = ()
    start: str = ""
    end: str = ""
    priority: str = ""
    words: tuple[str, ...] = ()

    @property
    def as_needed(self) -> bool:
        """Said by the pattern (0335) or as a priority (0485)."""
        return any(one.upper().startswith("PRN") for one in (*self.patterns, self.priority))

    def element(self, ctx: Context) -> Json | None:
        """As Timing."""
        bounds = dt.period(self.start, self.end, ctx)
        return (
            only(
                code={"text": ", ".join(self.patterns)} if self.patterns else None,
                repeat={"boundsPeriod": bounds} if bounds else None,
            )
            or None
        )


def _timings(group: OrderGroup) -> list[_Timing]:
    """TQ1; before 2.5 the type TQ in RXE-1 or ORC-7."""
    found = [
        _Timing(
            patterns=tuple(text for value in tq1.all(3) if (text := dt.text(value.c(1)))),
            start=tq1.v(7),
            end=tq1.v(8),
            priority=tq1.v(9),
            words=tuple(text for number in (10, 11) if (text := dt.text(tq1.one(number).text()))),
        )
        for tq1 in group.segments
        if tq1.name == "TQ1"
    ]
    rxe = group.first("RXE")
    old = [
        value for segment, number in ((rxe, 1), (group.orc, 7)) if segment is not None for value in segment.all(number)
    ]
    for tq in old if not found else ():
        pattern, words_ = dt.text(tq.c(2)), tuple(text for number in (7, 8) if (text := dt.text(tq.st(number))))
        made = _Timing(
            patterns=(pattern,) if pattern else (), start=tq.c(4), end=tq.c(5), priority=tq.c(6).strip(), words=words_
        )
        if made != _Timing() and made not in found:
            found.append(made)
    return found


def _supply(rxe: Segment | None, ctx: Context) -> Json | None:
    if rxe is None:
        return None
    amount, refills = dt.number(rxe.v(10)), dt.number(rxe.v(12))
    word = dt.text(rxe.first(11).c(2)) or dt.text(rxe.first(11).c(1))
    return dt.some(
        only(
            quantity={"value": amount} | only(unit=word) if amount is not None else None,
            numberOfRepeatsAllowed=refills if isinstance(refills, int) and 0 <= refills < 1000 else None,
        )
    )


def _substitution(rxe: Segment | None) -> Json | None:
    """0167: N and 1 forbid another product, 0, G and T allow one."""
    code = rxe.v(9).upper() if rxe is not None else ""
    return {"allowedBoolean": code in ("0", "G", "T")} if code in ("0", "1", "G", "N", "T") else None


def _components(group: OrderGroup, ctx: Context) -> list[Json]:
    """RXC: what a compound is made of, as text; its parts are no drugs of their own."""
    found = []
    for rxc in group.segments:
        if rxc.name == "RXC" and (concept := dt.concept(rxc.first(2), ctx)):
            amount = " ".join(part for part in (rxc.v(3), rxc.v(4, 2) or rxc.v(4)) if part)
            name = concept.get("text") or concept["coding"][0]["code"]
            found.append({"text": f"{rxc.v(1)}: {name} {amount}".strip()})
    return found
