"""SIU S12 (new), S13 (rescheduled), S14 (changed), S15 (cancelled), S26 (did not come): SCH, AIS, AIP, AIL ->
Appointment. (guide: SIU_S12)

FHIR has no appointment with a start and no end (rule app-2): where a message gives neither an end nor a length, the
profile's ``slot_minutes`` does, or the message is refused.
"""

from datetime import datetime, timedelta
from typing import Final

from server.gateway.hl7v2 import datatypes as dt
from server.gateway.hl7v2 import tables
from server.gateway.hl7v2.bundle import Transaction
from server.gateway.hl7v2.datatypes import Context, Json, only
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused
from server.gateway.hl7v2.message import Message, Segment
from server.gateway.hl7v2.rows import Row, mapped, typed
from server.gateway.hl7v2.times import Dtm

APPOINTMENT: Final = (
    Row("SCH-1", "identifier", typed("PLAC"), many=True),
    Row("SCH-2", "identifier", typed("FILL"), many=True),
    Row("SCH-7", "reasonCode", dt.concept, many=True),
    Row("SCH-8", "appointmentType", dt.concept),
)
SERVICE: Final = (Row("AIS-3", "serviceType", dt.concept, many=True),)
"""SCH-25 and the event (status), SCH-6 (why cancelled), SCH-9/10/11 and AIS-4/7 (time) are code below."""

EVENT_STATUS: Final = {"S12": "booked", "S13": "booked", "S14": "booked", "S15": "cancelled", "S26": "noshow"}
_DECIDES: Final = frozenset({"S15", "S26"})
RESOURCES: Final = {"AIP": 3, "AIL": 3, "AIG": 3}
_MINUTES: Final = {"": 1.0, "M": 1.0, "MIN": 1.0, "H": 60.0, "HR": 60.0, "S": 1 / 60, "SEC": 1 / 60, "D": 1440.0}


def add_appointment(message: Message, event: str, transaction: Transaction) -> None:
    """The appointment of a message.

    Raises:
        Hl7Refused: no SCH, no number, or no time in one that is not cancelled.
    """
    sch, ctx = message.first("SCH"), transaction.ctx
    if sch is None:
        raise Hl7Refused(Hl7Code.SEGMENT, "SCH")
    number = sch.raw(1) if sch.v(1) else sch.raw(2) if sch.v(2) else ""
    if not number:
        raise Hl7Refused(Hl7Code.REQUIRED_FIELD, "SCH-1")
    status = EVENT_STATUS[event]
    if event not in _DECIDES:
        status = tables.APPOINTMENT_STATUS.get(sch.v(25).upper(), status)
    times = _times(message, sch, ctx)
    if not times and status not in ("cancelled", "noshow"):
        raise Hl7Refused(Hl7Code.REQUIRED_FIELD, "SCH-11")
    appointment = mapped(APPOINTMENT, sch, ctx) | mapped(SERVICE, message.first("AIS"), ctx)
    patient = {"actor": transaction.subject, "status": "accepted"}
    appointment |= times | only(
        status=status,
        cancelationReason=dt.concept(sch.first(6), ctx) if event == "S15" else None,
        participant=[patient, *_participants(message, ctx)],
        comment=dt.text("\n".join(part.text() for nte in message.named("NTE") for part in nte.all(3))),
    )
    transaction.put("Appointment", appointment, transaction.patient, number)


def _times(message: Message, sch: Segment, ctx: Context) -> Json:
    ais, tq1 = message.first("AIS"), message.first("TQ1")
    said = [sch.v(11, 4), tq1.v(7) if tq1 is not None else "", ais.v(4) if ais is not None else ""]
    start = next((found for text in said if text and (found := dt.when(text, ctx)) and found.parts >= 5), None)
    if start is None:
        return {}
    said = [sch.v(11, 5), tq1.v(8) if tq1 is not None else ""]
    end = next((found.moment for text in said if text and (found := dt.when(text, ctx)) and found.parts >= 5), None)
    minutes = _minutes(sch.v(9), sch.v(10)) or (_minutes(ais.v(7), ais.v(8)) if ais is not None else None)
    if end is None or end <= start.moment:
        minutes = minutes or ctx.profile.slot_minutes
        if minutes is None:
            raise Hl7Refused(Hl7Code.REQUIRED_FIELD, "SCH-9")
        end = _later(start, minutes)
    return only(start=start.instant, end=end.isoformat(), minutesDuration=minutes)


def _later(start: Dtm, minutes: int) -> datetime:
    try:
        return start.moment + timedelta(minutes=minutes)
    except OverflowError:
        raise Hl7Refused(Hl7Code.VALUE, "SCH-9") from None


def _minutes(length: str, unit: str) -> int | None:
    number = dt.number(length)
    factor = _MINUTES.get(unit.strip().upper())
    if number is None or factor is None or not 0 < number * factor <= 7 * 1440:
        return None
    return max(1, round(number * factor))


def _participants(message: Message, ctx: Context) -> list[Json]:
    found = []
    for segment in message.segments:
        if segment.name not in RESOURCES:
            continue
        for value in segment.all(RESOURCES[segment.name]):
            if segment.name == "AIP":
                actor = dt.practitioner(value, ctx)
            elif segment.name == "AIL":
                actor = dt.place(value, ctx)
            else:
                actor = only(display=dt.text(value.c(2)) or dt.text(value.c(1))) or None
            if actor is not None:
                found.append({"actor": actor, "status": "accepted"})
    return found
