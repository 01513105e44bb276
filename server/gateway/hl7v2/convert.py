"""One message -> one transaction that may cross: the door into this package.

`convert` is a pure function: the same bytes under the same profile give the same bundle, byte for byte, so that a
repeat is recognised by its key and changes nothing even where it is not.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from server.decimals import text_of
from server.gateway.core.crossing import FHIR_JSON, MAX_KEY_CHARS, MAX_PATIENT_IDENTIFIERS, Crossing
from server.gateway.hl7v2 import adt, documents, orders, oru, pharmacy, referral, schedule
from server.gateway.hl7v2.bundle import Transaction
from server.gateway.hl7v2.datatypes import Context, Json
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused
from server.gateway.hl7v2.message import Message
from server.gateway.hl7v2.patient import add_encounter, nulled_of, patient_of
from server.gateway.hl7v2.profile import Profile
from server.gateway.hl7v2.signals import MERGE
from server.gateway.hl7v2.times import parse_dtm

EVENTS: Final[dict[str, frozenset[str]]] = {
    "ADT": frozenset({"A01", "A02", "A03", "A04", "A08", "A11", "A12", "A13", "A28", "A31", "A40"}),
    "ORU": frozenset({"R01"}),
    "ORM": frozenset({"O01"}),
    "OML": frozenset({"O21"}),
    "MDM": frozenset({"T02", "T04", "T08", "T10"}),
    "SIU": frozenset({"S12", "S13", "S14", "S15", "S26"}),
    "REF": frozenset({"I12"}),
    "RDE": frozenset({"O11", "O01"}),
}
"""Messages that are taken; the policy's whitelist names them as ``ADT^A01``. RDE O01 is O11 before 2.4."""
PROCESSING: Final = frozenset({"P", "D", "T"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What an acknowledgement needs of MSH."""

    control_id: str
    type: str
    event: str
    processing_id: str
    version: str
    accept_ack: str
    """MSH-15 (0155: AL, NE, ER, SU); both empty means original mode."""
    application_ack: str
    """MSH-16."""

    @property
    def kind(self) -> str:
        """``ADT^A01``."""
        return f"{self.type}^{self.event}"

    @property
    def enhanced(self) -> bool:
        """Whether the sender asks for enhanced acknowledgement."""
        return bool(self.accept_ack or self.application_ack)


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """A message as it may cross."""

    kind: str
    key: str
    patient: tuple[tuple[str, str], ...]
    """(system, value); the first finds the patient. After a merge (A40) the survivor's."""
    bundle: Json
    made_us: int
    seen: Counter[str]
    """What was tolerated, ignored or left out, by a stable word."""

    def crossing(self) -> Crossing:
        """As it is put into the outlet."""
        return Crossing(
            kind=self.kind,
            key=self.key,
            patient=self.patient[:MAX_PATIENT_IDENTIFIERS],
            media_type=FHIR_JSON,
            body=bundle_body(self.bundle),
            made_us=self.made_us,
        )


def bundle_body(bundle: Json) -> bytes:
    """A bundle as it crosses."""
    return text_of(bundle).encode()


def header_of(message: Message) -> Header:
    """MSH; the event may stand in EVN-1 where MSH-9 has the type alone (2.2 and before)."""
    msh, evn = message.msh, message.first("EVN")
    return Header(
        control_id=msh.raw(10).strip(),
        type=msh.v(9).upper(),
        event=(msh.v(9, 2) or (evn.v(1) if evn is not None else "")).upper(),
        processing_id=msh.v(11).upper(),
        version=msh.v(12),
        accept_ack=msh.v(15).upper(),
        application_ack=msh.v(16).upper(),
    )


def check_header(header: Header, seen: Counter[str]) -> None:
    """Whether it is a message for us, before anything of it is read.

    Raises:
        Hl7Refused: ``required_field``, ``message_type``, ``event``, ``version`` or ``processing_id``.
    """
    if not header.control_id:
        raise Hl7Refused(Hl7Code.REQUIRED_FIELD, "MSH-10")
    if not header.control_id.isprintable():
        raise Hl7Refused(Hl7Code.VALUE, "MSH-10")
    if header.type not in EVENTS:
        raise Hl7Refused(Hl7Code.MESSAGE_TYPE, "MSH-9.1")
    if header.event not in EVENTS[header.type]:
        raise Hl7Refused(Hl7Code.EVENT, "MSH-9.2")
    if not header.version:
        seen["no_version"] += 1
    elif not header.version.startswith("2."):
        raise Hl7Refused(Hl7Code.VERSION, "MSH-12")
    if not header.processing_id:
        seen["no_processing_id"] += 1
    elif header.processing_id not in PROCESSING:
        raise Hl7Refused(Hl7Code.PROCESSING_ID, "MSH-11")


def convert(message: Message, profile: Profile) -> Converted:
    """The transaction of a message.

    Raises:
        Hl7Refused: it cannot be one; nothing else is raised, whatever the message.
    """
    header = header_of(message)
    check_header(header, message.seen)
    msh = message.msh
    sent = parse_dtm(msh.v(7), profile.tz)
    said_zone = sent is not None and any(sign in msh.v(7) for sign in "+-")
    zone = sent.moment.tzinfo if sent is not None and said_zone else None
    ctx = Context(profile=profile, zone=zone or profile.tz, seen=message.seen)
    patient, pairs = patient_of(message, ctx)
    test = profile.is_test(pairs)
    if header.processing_id in ("D", "T") and not test:
        raise Hl7Refused(Hl7Code.TEST_PATIENT, "MSH-11")
    application, facility = msh.v(3), msh.v(4)
    # Without the control id: a result that is sent again in another message is not a new version of itself.
    source = f"urn:hl7v2:{quote(application, safe='')}:{quote(facility, safe='')}"
    category = profile.categories.get(application, "")
    transaction = Transaction(ctx, source=source, test=test, sender_category=category)
    _fill(message, header, transaction, patient, pairs)
    return Converted(
        kind=header.kind,
        key=_key(application, facility, header.kind, header.control_id, msh.v(7)),
        patient=pairs,
        bundle=transaction.bundle(),
        made_us=0 if sent is None else sent.unix_us,
        seen=message.seen,
    )


def _fill(
    message: Message, header: Header, transaction: Transaction, patient: Json, pairs: tuple[tuple[str, str], ...]
) -> None:
    """The message's own part."""
    nulls: list[str] | None = None
    if header.type == "ADT" and header.event in adt.WHOLE:
        nulls = nulled_of(message, patient)
    if header.kind == MERGE:
        patient["link"] = [adt.link_of(one) for one in adt.merged_identifiers(message, transaction, pairs)]
    transaction.patient = transaction.found_by(patient, pairs[0], whole=nulls is not None, nulls=nulls or ())
    if header.type == "ADT":
        adt.add_adt(message, header.event, transaction)
        return
    add_encounter(message, transaction, status=None)
    fallback = f"{message.msh.v(3)}|{message.msh.v(4)}|{header.control_id}|{message.msh.v(7)}"
    if header.type == "ORU":
        if not oru.add_reports(message, transaction, fallback):
            raise Hl7Refused(Hl7Code.SEGMENT, "OBR")
    elif header.type in ("ORM", "OML"):
        orders.add_orders(message, transaction, adt.add_conditions(message, transaction))
    elif header.type == "MDM":
        documents.add_document(message, header.event, transaction)
    elif header.type == "SIU":
        schedule.add_appointment(message, header.event, transaction)
    elif header.type == "RDE":
        pharmacy.add_prescriptions(message, transaction)
    else:
        adt.add_allergies(message, transaction)
        conditions = adt.add_conditions(message, transaction)
        reports = oru.add_reports(message, transaction, fallback)
        referral.add_referral(message, transaction, conditions, reports)


def _key(*parts: str) -> str:
    """Unique in one sender. Control ids alone begin anew every day in many systems: the time belongs to it."""
    text = "|".join(parts)
    if len(text) <= MAX_KEY_CHARS and text.isprintable():
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
