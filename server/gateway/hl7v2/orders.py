"""ORM O01 and OML O21: ORC, OBR (and TQ1) -> ServiceRequest. (guide: OML_O21, segment maps ORC and OBR[ServiceRequest])

An order is known by its placer's number (ORC-2, OBR-2), or else the filler's; every later message about it (a change, a
cancellation) is the same resource. ORC-1 is what happens, ORC-5 what the sender says the state is: a cancellation
always wins, or a withdrawn order would stay on the list.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from server.gateway.hl7v2 import datatypes as dt
from server.gateway.hl7v2 import tables
from server.gateway.hl7v2.bundle import Transaction
from server.gateway.hl7v2.datatypes import Context, Json, only
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused
from server.gateway.hl7v2.message import Message, Segment
from server.gateway.hl7v2.rows import Row, listed, local_concept, mapped, typed

ORDER_ORC: Final = (
    Row("ORC-2", "identifier", typed("PLAC"), many=True),
    Row("ORC-3", "identifier", typed("FILL"), many=True),
    Row("ORC-4", "requisition", typed("PGN")),
    Row("ORC-9", "authoredOn", dt.date_time),
    Row("ORC-12", "requester", dt.practitioner),
    Row("ORC-16", "reasonCode", dt.concept, many=True),
    Row("ORC-29", "locationCode", dt.concept, many=True),
)
ORDER_OBR: Final = (
    Row("OBR-2", "identifier", typed("PLAC"), many=True),
    Row("OBR-3", "identifier", typed("FILL"), many=True),
    Row("OBR-4", "code", dt.concept),
    Row("OBR-6", "occurrenceDateTime", dt.date_time),
    Row("OBR-16", "requester", dt.practitioner),
    Row("OBR-24", "category", listed(local_concept("http://terminology.hl7.org/CodeSystem/v2-0074"))),
    Row("OBR-31", "reasonCode", dt.concept, many=True),
)
"""ORC-1/5 (status) and TQ1-9, ORC-7, OBR-27, OBR-5 (priority) are code below."""


@dataclass(slots=True)
class OrderGroup:
    """An ORC with the segments that follow it."""

    orc: Segment | None
    segments: list[Segment] = field(default_factory=list)

    def first(self, name: str) -> Segment | None:
        """The first segment of a name in the group."""
        return next((segment for segment in self.segments if segment.name == name), None)

    def notes(self) -> list[Json]:
        """NTE-3 of the group as annotations."""
        texts = ["\n".join(part.text() for part in s.all(3)) for s in self.segments if s.name == "NTE"]
        return [{"text": text} for one in texts if (text := dt.text(one))]


def order_groups(message: Message) -> Iterator[OrderGroup]:
    """The orders of a message: each ORC begins one, and an OBR or RXE that has no ORC before it."""
    group: OrderGroup | None = None
    for segment in message.segments:
        begins = segment.name == "ORC" or (segment.name == "OBR" and (group is None or group.first("OBR") is not None))
        if begins:
            if group is not None:
                yield group
            group = OrderGroup(segment if segment.name == "ORC" else None)
        if group is not None and segment.name != "ORC":
            group.segments.append(segment)
    if group is not None:
        yield group


def order_number(orc: Segment | None, other: Segment | None) -> tuple[str, ...] | None:
    """What an order is known by: placer, then filler, in either segment."""
    for number, kind in ((2, "placer"), (3, "filler")):
        for segment in (orc, other):
            if segment is not None and segment.v(number):
                return (kind, segment.raw(number))
    return None


def status_of(orc: Segment | None) -> str:
    """ServiceRequest.status."""
    if orc is None:
        return "active"
    control, state = orc.v(1).upper(), orc.v(5).upper()
    if control in tables.CONTROL_DECIDES:
        return tables.ORDER_CONTROL[control]
    return tables.ORDER_STATUS.get(state) or tables.ORDER_CONTROL.get(control, "unknown")


def priority_of(group: OrderGroup, obr: Segment | None) -> str | None:
    """ServiceRequest.priority."""
    tq1 = group.first("TQ1")
    said = [tq1.v(9) if tq1 is not None else "", group.orc.v(7, 6) if group.orc is not None else ""]
    said += [obr.v(27, 6), obr.v(5)] if obr is not None else []
    return next((tables.PRIORITY[word.upper()] for word in said if word.upper() in tables.PRIORITY), None)


def add_orders(message: Message, transaction: Transaction, conditions: list[str]) -> None:
    """All orders of a message.

    Raises:
        Hl7Refused: none, or one without a number, which no later message could change.
    """
    count = 0
    for group in order_groups(message):
        _add_order(group, transaction, conditions)
        count += 1
    if not count:
        raise Hl7Refused(Hl7Code.SEGMENT, "ORC")


def _add_order(group: OrderGroup, transaction: Transaction, conditions: list[str]) -> None:
    ctx, orc, obr = transaction.ctx, group.orc, group.first("OBR")
    number = order_number(orc, obr)
    if number is None:
        raise Hl7Refused(Hl7Code.REQUIRED_FIELD, "ORC-2")
    request = mapped(ORDER_OBR, obr, ctx)
    identifiers = request.pop("identifier", [])
    request = mapped(ORDER_ORC, orc, ctx) | request
    identifiers = request.pop("identifier", []) + identifiers
    request |= only(
        identifier=[one for at, one in enumerate(identifiers) if one not in identifiers[:at]],
        status=status_of(orc),
        intent="order",
        priority=priority_of(group, obr),
        subject=transaction.subject,
        encounter=transaction.visit,
        note=group.notes(),
        reasonReference=[{"reference": one} for one in conditions],
    )
    if (start := _occurrence(group, ctx)) and "occurrenceDateTime" not in request:
        request["occurrenceDateTime"] = start
    transaction.put("ServiceRequest", request, transaction.patient, *number)


def _occurrence(group: OrderGroup, ctx: Context) -> str | None:
    tq1 = group.first("TQ1")
    if tq1 is not None and tq1.v(7):
        return dt.date_time(tq1.first(7), ctx)
    return dt.date_time(group.orc.v(7, 4), ctx) if group.orc is not None else None
