"""ADT A01-A04 A08 A11-A13 A28 A31 A40: who is where. (guide: message maps ADT_A01, ADT_A03, ADT_A39)

| event | Patient | Encounter.status | also |
| --- | --- | --- | --- |
| A01 admit | whole | in-progress | AL1, DG1 |
| A02 transfer | only ensured | in-progress, PV1-6 as completed location | ends device bindings (W21) |
| A03 discharge | only ensured | finished | DG1; ends device bindings (W21) |
| A04 register | whole | arrived | AL1, DG1 |
| A08 update | whole | by PV1-45 | AL1, DG1 |
| A11, A12 cancel admit, transfer | only ensured | cancelled; in-progress | end device bindings (W21) |
| A13 cancel discharge | only ensured | in-progress, without an end | |
| A28, A31 add, update person | whole | - | AL1 |
| A40 merge | ensured, ``link`` replaces every number of MRG-1 | - | the hub merges (`signals.merge_of`) |

"Whole": the message may change what the hub has. An empty field leaves it, ``""`` deletes it (`signals.NULLED`).
"""

from typing import Final

from server.gateway.hl7v2 import datatypes as dt
from server.gateway.hl7v2 import tables
from server.gateway.hl7v2.bundle import Transaction
from server.gateway.hl7v2.datatypes import Json, only
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused
from server.gateway.hl7v2.message import Message
from server.gateway.hl7v2.patient import MAX_IDENTIFIERS, add_encounter, pairs_of
from server.gateway.hl7v2.rows import Row, listed, local_concept, mapped, words

WHOLE: Final = frozenset({"A01", "A04", "A08", "A28", "A31"})
"""Events that say everything about the patient."""
ENCOUNTER_STATUS: Final[dict[str, str | None]] = {
    "A01": "in-progress", "A02": "in-progress", "A03": "finished", "A04": "arrived", "A08": "", "A11": "cancelled",
    "A12": "in-progress", "A13": "in-progress",
}  # fmt: skip
_PERSON: Final = frozenset({"A28", "A31"})
_PLACE: Final = frozenset({"A02", "A11", "A12", "A13"})
"""Events that are about the visit alone, whatever else they repeat."""

ALLERGY: Final = (
    Row("AL1-3", "code", dt.concept),
    Row("AL1-6", "onsetDateTime", dt.date_time),
)
CONDITION: Final = (
    Row("DG1-3", "code", dt.concept),
    Row("DG1-5", "onsetDateTime", dt.date_time),
    Row("DG1-16", "asserter", dt.practitioner),
    Row("DG1-19", "recordedDate", dt.date_time),
    Row("DG1-6", "category", listed(local_concept("http://terminology.hl7.org/CodeSystem/v2-0052"))),
)
VERIFICATION: Final = {"F": "confirmed", "W": "provisional", "A": "provisional"}
"""0052 (DG1-6) -> Condition.verificationStatus."""

_CLINICAL: Final = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_VERIFIED: Final = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_ALLERGY: Final = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"


def add_adt(message: Message, event: str, transaction: Transaction) -> None:
    """Everything of an ADT message beside the patient."""
    if event == "A40":
        return
    if event in _PERSON:
        add_allergies(message, transaction)
        return
    status = ENCOUNTER_STATUS[event]
    pv1 = message.first("PV1")
    if status == "" and pv1 is not None:
        status = "finished" if pv1.v(45) else "in-progress"
    add_encounter(message, transaction, status=status, nulls=("period.end",) if event == "A13" else ())
    if event in _PLACE:
        return
    add_allergies(message, transaction)
    add_conditions(message, transaction)


def add_allergies(message: Message, transaction: Transaction) -> None:
    """AL1 -> AllergyIntolerance; the same substance of one patient is one resource."""
    ctx = transaction.ctx
    for al1 in message.named("AL1"):
        found = mapped(ALLERGY, al1, ctx)
        if "code" not in found:
            continue
        words_ = [text for field in al1.all(5) if (text := words(field, ctx))]
        severity = tables.SEVERITY.get(al1.v(4).upper())
        reaction = only(manifestation=[{"text": text} for text in words_], severity=severity)
        category = tables.ALLERGY_CATEGORY.get(al1.v(2).upper())
        resource = found | only(
            patient=transaction.subject,
            clinicalStatus={"coding": [{"system": _ALLERGY, "code": "active"}]},
            category=[category] if category else None,
            reaction=[reaction] if words_ else None,
        )
        transaction.put("AllergyIntolerance", resource, transaction.patient, al1.raw(3))


def add_conditions(message: Message, transaction: Transaction) -> list[str]:
    """DG1 -> Condition; known by DG1-20, or as that diagnosis of this visit or patient.

    Returns:
        Their references.
    """
    ctx, references = transaction.ctx, []
    for dg1 in message.named("DG1"):
        found = mapped(CONDITION, dg1, ctx)
        if "code" not in found:
            text = dt.text(dg1.one(4).text())
            if text is None:
                continue
            found["code"] = {"text": text}
        deleted = dg1.v(21).upper() == "D"
        verified = "entered-in-error" if deleted else VERIFICATION.get(dg1.v(6).upper(), "unconfirmed")
        number = dt.entity(dg1.first(20), "", ctx)
        resource = found | only(
            subject=transaction.subject,
            encounter=transaction.visit,
            identifier=[number] if number else None,
            clinicalStatus=None if deleted else {"coding": [{"system": _CLINICAL, "code": "active"}]},
            verificationStatus={"coding": [{"system": _VERIFIED, "code": verified}]},
        )
        about = (dg1.raw(20),) if number else (transaction.encounter, dg1.raw(3) or dg1.raw(4))
        references.append(transaction.put("Condition", resource, transaction.patient, *about))
    return references


def merged_identifiers(
    message: Message, transaction: Transaction, survivor: tuple[tuple[str, str], ...]
) -> list[tuple[str, str]]:
    """MRG-1 of an A40: every number under which the retired record may be known, as (system, value).

    Numbers that the survivor has too say nothing about another record and are left out.

    Raises:
        Hl7Refused: several merges in one message, or none that can be followed.
    """
    ctx = transaction.ctx
    groups = list(message.named("MRG"))
    if len(groups) != 1:
        raise Hl7Refused(Hl7Code.SEGMENT, "MRG")
    default = ctx.profile.default_authority
    found = [dt.identifier(cx, ctx, default=default) for cx in groups[0].all(1)[:MAX_IDENTIFIERS]]
    pairs = pairs_of([one for one in found if one is not None], "MRG")
    if not pairs:
        raise Hl7Refused(Hl7Code.PATIENT_IDENTIFIER, "MRG-1")
    others = [pair for pair in dict.fromkeys(pairs) if pair not in survivor]
    if not others:
        raise Hl7Refused(Hl7Code.VALUE, "MRG-1")
    return others


def link_of(identifier: tuple[str, str]) -> Json:
    """Patient.link of the survivor: the other record is named by identifier, since only the hub knows its id."""
    named = {"system": identifier[0], "value": identifier[1]}
    return {"type": "replaces", "other": {"type": "Patient", "identifier": named}}
