"""MDM T02 (and T04, T08, T10 with content): TXA, OBX -> DocumentReference and Binary. (guide: MDM_T02)

The text of a document comes as many OBX of type TX, its picture as ED. A document is known by TXA-12; an addendum (T04)
and a replacement (T10) point to their parent (TXA-13).
"""

from typing import Final

from server.gateway.hl7v2 import datatypes as dt
from server.gateway.hl7v2 import tables
from server.gateway.hl7v2.bundle import Transaction
from server.gateway.hl7v2.datatypes import Context, Json, only
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused
from server.gateway.hl7v2.message import Composite, Message, Segment
from server.gateway.hl7v2.rows import Row, local_concept, mapped

DOCUMENT: Final = (
    Row("TXA-2", "type", local_concept("http://terminology.hl7.org/CodeSystem/v2-0270")),
    Row("TXA-6", "date", dt.instant),
    Row("TXA-4", "date", dt.instant),
    Row("TXA-9", "author", dt.practitioner, many=True),
    Row("TXA-10", "authenticator", dt.practitioner),
    Row("TXA-22", "authenticator", dt.practitioner),
    Row("TXA-25", "description", lambda value, _ctx: dt.text(value.text())),
)
"""TXA-12 (masterIdentifier), TXA-13 (relatesTo), TXA-17/19 (states), TXA-18 (securityLabel) are code below."""
RELATION: Final = {"T04": "appends", "T10": "replaces"}
_TEXT: Final = frozenset({"TX", "FT", "ST"})


def add_document(message: Message, event: str, transaction: Transaction) -> None:
    """The document of a message.

    Raises:
        Hl7Refused: no TXA or no document number.
    """
    txa, ctx = message.first("TXA"), transaction.ctx
    if txa is None:
        raise Hl7Refused(Hl7Code.SEGMENT, "TXA")
    number = _number(txa.first(12), ctx)
    if number is None:
        raise Hl7Refused(Hl7Code.REQUIRED_FIELD, "TXA-12")
    key = (transaction.patient, txa.raw(12))
    content = _content(message, transaction, key)
    document = mapped(DOCUMENT, txa, ctx)
    document.setdefault("type", {"text": "?"})
    if not content:  # announced, but its content is elsewhere or nothing that is kept: it is listed without
        ctx.seen["document_without_content"] += 1
        coding = document["type"].get("coding", [{}])[0]
        content = [{"title": document["type"].get("text") or coding.get("display") or coding.get("code") or "?"}]
    label = tables.CONFIDENTIALITY.get(txa.v(18).upper())
    document |= only(
        masterIdentifier=number,
        status=tables.DOC_AVAILABILITY.get(txa.v(19).upper(), "current"),
        docStatus=tables.DOC_STATUS.get(txa.v(17).upper()),
        subject=transaction.subject,
        content=[{"attachment": one} for one in content],
        context=only(encounter=[transaction.visit]) if transaction.visit else None,
        relatesTo=_parent(txa, event, ctx),
        securityLabel=[{"coding": [{"system": tables.CONFIDENTIALITY_SYSTEM, "code": label}]}] if label else None,
    )
    transaction.put("DocumentReference", document, *key)


def _number(ei: Composite, ctx: Context) -> Json | None:
    """TXA-12. Its parts are an EI, but many senders put an OID alone into it; then it names itself."""
    found = dt.entity(ei, "", ctx)
    if found is not None and "system" not in found and dt.is_oid(found["value"]):
        return {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{found['value']}"}
    return found


def _parent(txa: Segment, event: str, ctx: Context) -> list[Json] | None:
    parent = _number(txa.first(13), ctx)
    if parent is None or event not in RELATION:
        return None
    return [{"code": RELATION[event], "target": {"type": "DocumentReference", "identifier": parent}}]


def _content(message: Message, transaction: Transaction, key: tuple[str, ...]) -> list[Json]:
    """Every ED as an attachment of its own, all text together as one."""
    lines: list[str] = []
    found: list[Json] = []
    title = ""
    for obx in message.named("OBX"):
        kind = obx.v(2).upper()
        if kind in _TEXT:
            lines += [part.text() for part in obx.all(5)] or [""]
            title = title or obx.v(3, 2)
        elif kind == "ED":
            for value in obx.all(5):
                made = dt.attachment(value, transaction.ctx)
                if made is not None:
                    attachment = transaction.binary(*made, *key, obx.raw(3), obx.raw(4))
                    found.append(attachment | only(title=dt.text(obx.v(3, 2))))
        else:
            transaction.ctx.seen["document_part_left_out"] += 1
    whole = "\n".join(lines).strip()
    if whole:
        text = transaction.binary("text/plain; charset=utf-8", whole.encode(), *key, "text")
        found.insert(0, text | only(title=dt.text(title)))
    return found
