"""RDE O11: ORC, RXE (RXO), RXR, TQ1, RXC -> MedicationRequest. (guide: RDE_O11, RXE[MedicationRequest])

What the hospital prescribed, filed as it was said. Nothing here prescribes: an order of this system is written by a
doctor and reviewed (C7, C11).
"""

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
and TQ1-3/7/8 (timing) are code below; where there is no RXE the same of RXO."""


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
    rxe, rxo = group.first("RXE"), group.first("RXO")
    instructions = _instructions(rxe, 7, ctx) or _instructions(rxo, 7, ctx)
    low, high, unit = _dose(rxe, 3) if rxe is not None else _dose(rxo, 2)
    dose: Json = {}
    if low is not None and high is not None and high > low:
        dose = {"doseRange": {"low": {"value": low} | unit, "high": {"value": high} | unit}}
    elif low is not None:
        dose = {"doseQuantity": {"value": low} | unit}
    if rxe is not None and (rate := dt.number(rxe.v(23))) is not None:
        dose["rateQuantity"] = {"value": rate} | dt.units(rxe.first(24), ctx)
    found = mapped(ROUTE, group.first("RXR"), ctx) | only(
        text=instructions,
        timing=_timing(group.first("TQ1"), ctx),
        asNeededBoolean=True if _as_needed(group.first("TQ1")) else None,
        doseAndRate=[dose] if dose else None,
    )
    return [found] if found else []


def _instructions(segment: Segment | None, number: int, ctx: Context) -> str | None:
    if segment is None:
        return None
    said = [
        concept["text"] for value in segment.all(number) if (concept := dt.concept(value, ctx)) and "text" in concept
    ]
    return "\n".join(said) or None


def _dose(segment: Segment | None, first: int) -> tuple[float | None, float | None, Json]:
    """Least and greatest amount of one dose (RXE-3/4/5, RXO-2/3/4)."""
    if segment is None:
        return None, None, {}
    unit = segment.first(first + 2)
    word = dt.text(unit.c(2)) or dt.text(unit.c(1))
    return dt.number(segment.v(first)), dt.number(segment.v(first + 1)), only(unit=word)


def _as_needed(tq1: Segment | None) -> bool:
    return tq1 is not None and "PRN" in {tq1.v(9).upper(), *(value.c(1).strip().upper() for value in tq1.all(3))}


def _timing(tq1: Segment | None, ctx: Context) -> Json | None:
    """TQ1-3 as the hospital writes it (BID, Q6H, ...) and the bounds; no schedule is computed from a local code."""
    if tq1 is None:
        return None
    patterns = [text for value in tq1.all(3) if (text := dt.text(value.c(1)))]
    bounds = dt.period(tq1.v(7), tq1.v(8), ctx)
    return (
        only(
            code={"text": ", ".join(patterns)} if patterns else None,
            repeat={"boundsPeriod": bounds} if bounds else None,
        )
        or None
    )


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
