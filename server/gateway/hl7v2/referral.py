"""REF I12: RF1, PRD -> ServiceRequest (the referral) and Task (what the receiver does with it). (guide: REF_I12)

Diagnoses (DG1), allergies (AL1) and results (OBR, OBX) that come with it are filed as in their own messages; the
referral refers to them.
"""

from typing import Final

from server.gateway.hl7v2 import datatypes as dt
from server.gateway.hl7v2 import tables
from server.gateway.hl7v2.bundle import Transaction
from server.gateway.hl7v2.datatypes import Context, Json, only
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused
from server.gateway.hl7v2.message import Message, Segment
from server.gateway.hl7v2.rows import Row, mapped, typed

REFERRAL: Final = (
    Row("RF1-6", "identifier", typed("PLAC"), many=True),
    Row("RF1-11", "identifier", typed("FILL"), many=True),
    Row("RF1-2", "priority", lambda value, _ctx: tables.PRIORITY.get(value.c(1).strip().upper())),
    Row("RF1-3", "code", dt.concept),
    Row("RF1-9", "authoredOn", dt.date_time),
    Row("RF1-10", "reasonCode", dt.concept, many=True),
)
"""RF1-1 (status), RF1-7/8 (period) and PRD-1 (who) are code below."""
_CATEGORY: Final = {"system": "http://snomed.info/sct", "code": "3457005", "display": "Patient referral"}
_FULFILL: Final = {"system": "http://hl7.org/fhir/CodeSystem/task-code", "code": "fulfill"}


def add_referral(message: Message, transaction: Transaction, conditions: list[str], reports: list[str]) -> None:
    """The referral of a message.

    Raises:
        Hl7Refused: no RF1 or no referral number.
    """
    rf1, ctx = message.first("RF1"), transaction.ctx
    if rf1 is None:
        raise Hl7Refused(Hl7Code.SEGMENT, "RF1")
    number = rf1.raw(6) if rf1.v(6) else rf1.raw(11) if rf1.v(11) else ""
    if not number:
        raise Hl7Refused(Hl7Code.REQUIRED_FIELD, "RF1-6")
    state = rf1.v(1).upper()
    by, to = _provider(message, "RP", ctx), _provider(message, "RT", ctx)
    request = mapped(REFERRAL, rf1, ctx) | only(
        status=tables.REFERRAL_REQUEST.get(state, "unknown"),
        intent="order",
        category=[{"coding": [_CATEGORY]}],
        subject=transaction.subject,
        encounter=transaction.visit,
        occurrencePeriod=dt.period(rf1.v(7), rf1.v(8), ctx),
        requester=by,
        performer=[to] if to else None,
        reasonReference=[{"reference": one} for one in conditions],
        supportingInfo=[{"reference": one} for one in reports],
    )
    reference = transaction.put("ServiceRequest", request, transaction.patient, "referral", number)
    task = only(
        status=tables.REFERRAL_TASK.get(state, "requested"),
        intent="order",
        code={"coding": [_FULFILL]},
        focus={"reference": reference},
        basedOn=[{"reference": reference}],
        for_=transaction.subject,
        encounter=transaction.visit,
        authoredOn=request.get("authoredOn"),
        requester=by,
        owner=to,
        priority=request.get("priority"),
    )
    transaction.put("Task", task, transaction.patient, "referral", number)


def _provider(message: Message, role: str, ctx: Context) -> Json | None:
    """PRD of a role (0286: RP refers, RT is referred to) -> a reference by name and number."""
    for prd in message.named("PRD"):
        if role in {value.c(1).strip().upper() for value in prd.all(1)}:
            return _person(prd, ctx)
    return None


def _person(prd: Segment, ctx: Context) -> Json | None:
    name = dt.human_name(prd.first(2), ctx)
    value = dt.text(prd.first(7).c(1))
    display = name["text"] if name else dt.text(prd.first(4).c(9))
    who = {"value": value} if value else None
    return only(type="Practitioner", identifier=who, display=display) if who or display else None
