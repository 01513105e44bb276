"""PID (and NK1) -> Patient, PV1 (and PV2) -> Encounter. (guide: segment maps PID[Patient], PV1[Encounter])

A patient is known by identifiers only, never by name. The first identifier of PID-3 whose assigning authority has a
system is the one by which the hub finds the patient; a message without any is refused.
"""

from typing import Final

from server.gateway.core.crossing import is_identifier
from server.gateway.hl7v2 import datatypes as dt
from server.gateway.hl7v2 import tables
from server.gateway.hl7v2.bundle import Transaction
from server.gateway.hl7v2.datatypes import Context, Json, only
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused
from server.gateway.hl7v2.message import Composite, Message, Segment
from server.gateway.hl7v2.rows import Row, coded, local_concept, mapped

MAX_IDENTIFIERS: Final = 16
_SHOWN: Final = 2
"""Identifiers that stand on every screen (W18). Where a sender has one number for the patient, the number of the visit
is the other: it is on the wristband too. It finds nobody, and the next visit's takes its place."""


def _marital(value: Composite, ctx: Context) -> Json | None:
    code = value.c(1).strip().upper()
    if code not in tables.MARITAL:
        return dt.concept(value, ctx)
    return {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": code}]}


def _home(value: Composite, ctx: Context) -> Json | None:
    return dt.telecom(value, ctx, "home")


def _work(value: Composite, ctx: Context) -> Json | None:
    return dt.telecom(value, ctx, "work")


def _language(value: Composite, ctx: Context) -> Json | None:
    concept = dt.concept(value, ctx)
    return None if concept is None else {"language": concept}


PATIENT: Final = (
    Row("PID-5", "name", dt.human_name, many=True),
    Row("PID-9", "name", dt.human_name, many=True),
    Row("PID-7", "birthDate", dt.date),
    Row("PID-8", "gender", coded(tables.GENDER)),
    Row("PID-11", "address", dt.address, many=True),
    Row("PID-13", "telecom", _home, many=True),
    Row("PID-14", "telecom", _work, many=True),
    Row("PID-40", "telecom", dt.telecom, many=True),
    Row("PID-15", "communication", _language, many=True),
    Row("PID-16", "maritalStatus", _marital),
)
"""PID-3 and PID-19 are read by `identifiers_of`, PID-18, PID-24/25 and PID-29/30 below. PID-2 and PID-4 are
withdrawn and left out: they repeat PID-3 without an authority."""

CONTACT: Final = (
    Row("NK1-2", "name", dt.human_name),
    Row("NK1-3", "relationship", local_concept("http://terminology.hl7.org/CodeSystem/v2-0063"), many=True),
    Row("NK1-4", "address", dt.address),
    Row("NK1-5", "telecom", _home, many=True),
    Row("NK1-6", "telecom", _work, many=True),
    Row("NK1-15", "gender", coded(tables.GENDER)),
)

ENCOUNTER: Final = (
    Row("PV1-4", "type", local_concept("http://terminology.hl7.org/CodeSystem/v2-0007"), many=True),
    Row("PV1-10", "serviceType", local_concept("http://terminology.hl7.org/CodeSystem/v2-0069")),
    Row("PV1-14", "hospitalization.admitSource", local_concept("http://terminology.hl7.org/CodeSystem/v2-0023")),
    Row(
        "PV1-36", "hospitalization.dischargeDisposition", local_concept("http://terminology.hl7.org/CodeSystem/v2-0112")
    ),
)
PARTICIPANTS: Final = (
    ("PV1-7", 7, "ATND", "attender"), ("PV1-8", 8, "REF", "referrer"), ("PV1-9", 9, "CON", "consultant"),
    ("PV1-17", 17, "ADM", "admitter"),
)  # fmt: skip
"""Field -> Encounter.participant.type (v3-ParticipationType)."""


def identifiers_of(pid: Segment, ctx: Context) -> list[Json]:
    """PID-3, and PID-19 where the profile says what it is."""
    profile = ctx.profile
    found = [dt.identifier(cx, ctx, default=profile.default_authority) for cx in pid.all(3)[:MAX_IDENTIFIERS]]
    if profile.national_id_system and (number := pid.v(19)):
        coding = {"system": tables.IDENTIFIER_TYPES, "code": "NI"}
        found.append({"system": profile.national_id_system, "value": number, "type": {"coding": [coding]}})
    unique: dict[tuple[str, str], Json] = {}
    for one in found:
        if one is not None:
            unique.setdefault((one.get("system", ""), one["value"]), one)
    return list(unique.values())


def pairs_of(identifiers: list[Json], place: str) -> tuple[tuple[str, str], ...]:
    """(system, value) of those that have a system and are a person's, in their order.

    Raises:
        Hl7Refused: one of them cannot be carried; without it the rest might be somebody else's.
    """
    persons = [one for one in identifiers if one.get("system") and not _is_counted_apart(one)]
    pairs = tuple((one["system"], one["value"]) for one in persons)
    if not all(is_identifier(*pair) for pair in pairs):
        raise Hl7Refused(Hl7Code.PATIENT_IDENTIFIER, place)
    return pairs


def _is_counted_apart(identifier: Json) -> bool:
    return any(coding.get("code") in dt.COUNTED_APART for coding in identifier.get("type", {}).get("coding", []))


def patient_of(message: Message, ctx: Context) -> tuple[Json, tuple[tuple[str, str], ...]]:
    """Patient and its (system, value) pairs, the first of which is its key.

    Raises:
        Hl7Refused: no PID, no PID-3, none with a system, or one that cannot be carried.
    """
    found = list(message.named("PID"))
    if len(found) != 1:  # ORU R01 may hold results of several patients: none of them may become another's
        raise Hl7Refused(Hl7Code.SEGMENT, "PID")
    pid = found[0]
    identifiers = identifiers_of(pid, ctx)
    if not identifiers:
        raise Hl7Refused(Hl7Code.REQUIRED_FIELD, "PID-3")
    primary = ctx.profile.primary_system
    pairs = tuple(sorted(pairs_of(identifiers, "PID"), key=lambda pair: pair[0] != primary))
    if not pairs:
        raise Hl7Refused(Hl7Code.PATIENT_IDENTIFIER, "PID-3")
    patient = {"resourceType": "Patient", "identifier": identifiers, "active": True} | mapped(PATIENT, pid, ctx)
    if (account := _account(pid, ctx)) is not None:
        identifiers.append(account)
    pv1 = message.first("PV1")
    if len(identifiers) < _SHOWN and pv1 is not None and (visit := pv1.v(19)):
        system = dt.own_system(pv1.first(19).whole(4), ctx, "VN")
        identifiers.append({"system": system, "value": visit, "type": _type("VN")})
    patient |= _death(pid, ctx) | _birth_order(pid)
    contacts = [mapped(CONTACT, nk1, ctx) for nk1 in message.named("NK1")]
    patient |= only(contact=[contact for contact in contacts if "name" in contact or "telecom" in contact])
    return patient, pairs


def nulled_of(message: Message, patient: Json) -> list[str]:
    """Elements of the patient that the message deletes: its fields hold ``""`` and no other field fills them."""
    pid = next(message.named("PID"))
    found = {row.element for row in PATIENT if pid.is_null(row.number)}
    if pid.is_null(29) or pid.is_null(30):
        found.add("deceased")
    if pid.is_null(24) or pid.is_null(25):
        found.add("multipleBirth")
    return sorted(element for element in found if not any(name.startswith(element) for name in patient))


def _account(pid: Segment, ctx: Context) -> Json | None:
    """PID-18: shown beside the record number, finds nobody (`datatypes.own_system`)."""
    if not (value := pid.v(18)):
        return None
    system = dt.own_system(pid.first(18).whole(4), ctx, "AN")
    return {"system": system, "value": value, "type": _type("AN")}


def _death(pid: Segment, ctx: Context) -> Json:
    at = dt.date_time(pid.first(29), ctx)
    if at is not None:
        return {"deceasedDateTime": at}
    flag = pid.v(30).upper()
    return {"deceasedBoolean": flag == "Y"} if flag in ("Y", "N") else {}


def _birth_order(pid: Segment) -> Json:
    order = pid.v(25)
    if order.isascii() and order.isdigit() and 0 < len(order) < 3 and int(order) > 0:
        return {"multipleBirthInteger": int(order)}
    flag = pid.v(24).upper()
    return {"multipleBirthBoolean": flag == "Y"} if flag in ("Y", "N") else {}


def visit_number(pv1: Segment | None, ctx: Context) -> tuple[str, str] | None:
    """(system, value) of PV1-19; without an authority the number is the hospital's own, and has a name made of that."""
    if pv1 is None or not (value := pv1.v(19)):
        return None
    system = dt.uri_of(pv1.first(19).whole(4), ctx, "VN") or ctx.profile.urn("visit-number-system")
    return system, value


def add_encounter(
    message: Message, transaction: Transaction, *, status: str | None, nulls: tuple[str, ...] = ()
) -> None:
    """Encounter of PV1, if it has a visit number: without one no two messages could mean the same visit.

    Args:
        status: what the event makes of it; None: the message only mentions it.
        nulls: elements that the event itself deletes.
    """
    pv1, ctx = message.first("PV1"), transaction.ctx
    number = visit_number(pv1, ctx)
    if pv1 is None or number is None:
        if pv1 is not None:
            ctx.seen["no_visit_number"] += 1
        return
    patient_class = pv1.v(2).upper()
    code, display = tables.PATIENT_CLASS.get(patient_class, ("", ""))
    class_ = only(system=tables.ACT_CODE, code=code, display=display)
    if not code:
        class_ = only(system="http://terminology.hl7.org/CodeSystem/v2-0004", code=patient_class or "U")
    span = dt.period(pv1.v(44), pv1.v(45), ctx)
    encounter = only(
        resourceType="Encounter",
        identifier=[{"system": number[0], "value": number[1], "type": _type("VN")}],
        status=status or ("finished" if span and "end" in span else "in-progress"),
        class_=class_,
        subject=transaction.subject,
        participant=_participants(pv1, ctx),
        period=span,
        reasonCode=_reason(message, ctx),
        location=_locations(pv1, status, ctx),
        serviceProvider=_facility(pv1),
    )
    encounter["class"] = class_
    encounter |= mapped(ENCOUNTER, pv1, ctx)
    transaction.encounter = transaction.found_by(
        encounter, number, whole=status is not None, nulls=(*nulls, *_nulled_visit(pv1)) if status is not None else ()
    )


def _nulled_visit(pv1: Segment) -> list[str]:
    """Elements of the visit that the message deletes."""
    found = [row.element for row in ENCOUNTER if pv1.is_null(row.number)]
    return found + [element for number, element in ((44, "period.start"), (45, "period.end")) if pv1.is_null(number)]


def _type(code: str) -> Json:
    return {"coding": [{"system": tables.IDENTIFIER_TYPES, "code": code}]}


def _participants(pv1: Segment, ctx: Context) -> list[Json]:
    found = []
    for _name, number, code, display in PARTICIPANTS:
        role = {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
            "code": code,
            "display": display,
        }
        for xcn in pv1.all(number):
            who = dt.practitioner(xcn, ctx)
            if who is not None:
                found.append({"type": [{"coding": [role]}], "individual": who})
    return found


def _locations(pv1: Segment, status: str | None, ctx: Context) -> list[Json]:
    """Where the patient is (PV1-3) and, after a transfer, was (PV1-6)."""
    now, before = dt.place(pv1.first(3), ctx), dt.place(pv1.first(6), ctx)
    found = []
    if now is not None:
        found.append({"location": now, "status": "completed" if status == "finished" else "active"})
    if before is not None and before != now:
        found.append({"location": before, "status": "completed"})
    return found


def _facility(pv1: Segment) -> Json | None:
    name = dt.text(pv1.first(3).c(4)) or dt.text(pv1.first(39).text())
    return {"type": "Organization", "display": name} if name else None


def _reason(message: Message, ctx: Context) -> list[Json] | None:
    pv2 = message.first("PV2")
    reason = dt.concept(pv2.first(3), ctx) if pv2 is not None else None
    return [reason] if reason else None
