"""HL7 v2 data types -> FHIR elements; one function a type. None where nothing usable was sent.

What a function cannot express it leaves out and counts in ``Context.seen``; it never invents a system, a use or a time.
"""

import base64
import binascii
import re
from collections import Counter
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Final

from server.decimals import decimal_of
from server.gateway.hl7v2 import tables
from server.gateway.hl7v2.message import Composite
from server.gateway.hl7v2.profile import Profile
from server.gateway.hl7v2.times import Dtm, parse_dtm

_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9]\d*)){1,}", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_NUMBER: Final = re.compile(r"([<>]=?)?\s*([+-]?(?:\d{1,15}(?:\.\d{0,12})?|\.\d{1,12}))", re.ASCII)
_POWER: Final = re.compile(r"(?:\d+(?:\.\d+)?)?[*xX×]?10\^\d{1,2}(?:/.*)?", re.DOTALL)
_CODE: Final = re.compile(r"[^\s]+( [^\s]+)*")
COUNTED_APART: Final = frozenset({"AN", "VN"})
"""Kinds of 0203 that are no numbers of a person: an account, a visit."""
MAX_TEXT: Final = 100_000
"""Characters of one text; a longer one is a document and comes as ED."""

Json = dict[str, Any]


@dataclass(slots=True)
class Context:
    """What every mapping of one message needs."""

    profile: Profile
    zone: tzinfo
    """Of times without an offset: MSH-7's, or the profile's."""
    seen: Counter[str]


def only(**elements: Any) -> Json:
    """The elements that hold something: FHIR has no empty ones. A trailing ``_`` is for Python's keywords."""
    return {name.rstrip("_"): value for name, value in elements.items() if value not in (None, "", [], {})}


def some(element: Json) -> Json | None:
    """The element, None when it is empty."""
    return element or None


def text(value: str) -> str | None:
    """A FHIR string: no blanks around it, never empty."""
    return value.strip()[:MAX_TEXT] or None


def when(value: Composite | str, ctx: Context) -> Dtm | None:
    """DT, DTM or TS."""
    raw = value if isinstance(value, str) else value.c(1)
    if not raw.strip():
        return None
    found = parse_dtm(raw, ctx.zone)
    if found is None:
        ctx.seen["bad_time"] += 1
    return found


def date_time(value: Composite | str, ctx: Context) -> str | None:
    """DTM -> dateTime."""
    found = when(value, ctx)
    return None if found is None else found.date_time


def date(value: Composite | str, ctx: Context) -> str | None:
    """DTM -> date."""
    found = when(value, ctx)
    return None if found is None else found.date


def instant(value: Composite | str, ctx: Context) -> str | None:
    """DTM -> instant."""
    found = when(value, ctx)
    return None if found is None else found.instant


def period(start: str, end: str, ctx: Context) -> Json | None:
    """Two DTM -> Period; one that ends before it starts has no end."""
    first, last = when(start, ctx), when(end, ctx)
    if first is not None and last is not None and last.moment < first.moment and last.parts >= 4:
        ctx.seen["period_backwards"] += 1
        last = None
    return some(only(start=first and first.date_time, end=last and last.date_time))


def is_oid(value: str) -> bool:
    """Whether it is a dotted OID of a sane length."""
    return len(value) <= 128 and _OID.fullmatch(value) is not None


def uri_of(hd: Composite, ctx: Context, kind: str = "") -> str | None:
    """HD -> system, by the profile's table; a proper ISO OID or a UUID speaks for itself."""
    namespace, universal, universal_type = hd.c(1).strip(), hd.c(2).strip(), hd.c(3).strip().upper()
    for key in (f"{universal}/{kind}", f"{namespace}/{kind}", universal, namespace):
        if key and key in ctx.profile.authorities:
            return ctx.profile.authorities[key]
    if universal_type == "ISO" and is_oid(universal):
        return f"urn:oid:{universal}"
    if universal_type in ("GUID", "UUID") and _UUID.fullmatch(universal):
        return f"urn:uuid:{universal.lower()}"
    return None


def own_system(hd: Composite, ctx: Context, kind: str) -> str:
    """System of account and visit numbers: never that of the same authority's record numbers.

    An authority counts each kind from one: under one system, somebody's account number would find another patient by
    his record number. The profile may name a system for ``NAMESPACE/KIND``; else it is made of authority and kind.
    """
    for name in (hd.c(2).strip(), hd.c(1).strip()):
        if name and (named := ctx.profile.authorities.get(f"{name}/{kind}")):
            return named
    said = uri_of(hd, ctx) or hd.c(1).strip()
    return ctx.profile.urn("identifier-system", kind, *([said] if said else []))


def identifier(cx: Composite, ctx: Context, *, default: str = "") -> Json | None:
    """CX -> Identifier. The system comes from the assigning authority, never from the value.

    Args:
        default: system of a record number that says nothing about who gave it. Not of another kind of number, nor of
            one whose authority stands in the wrong component: that would make it somebody's record number.
    """
    value, kind = text(cx.st(1)), cx.c(5).strip()
    if value is None:
        return None
    system = uri_of(cx.whole(4), ctx, kind) if kind not in COUNTED_APART else own_system(cx.whole(4), ctx, kind)
    if system is None and default and not cx.raw_part(4) and not cx.raw_part(6) and kind in ("", "MR", "PI"):
        system = default
    if system is None:
        ctx.seen["authority_unknown"] += 1
    label = text(cx.c(4))
    return only(
        system=system,
        value=value,
        type=some(only(coding=[{"system": tables.IDENTIFIER_TYPES, "code": kind}] if _is_code(kind) else None)),
        period=period(cx.c(7), cx.c(8), ctx),
        assigner={"display": label} if label and system is None else None,
    )


def entity(ei: Composite, kind: str, ctx: Context) -> Json | None:
    """EI (order number, document number) -> Identifier with a v2-0203 type (PLAC, FILL, VN...)."""
    value = text(ei.st(1))
    if value is None:
        return None
    coding = {"system": tables.IDENTIFIER_TYPES, "code": kind}
    return only(system=uri_of(ei.part(2, 4), ctx, kind), value=value, type={"coding": [coding]} if kind else None)


def human_name(xpn: Composite, ctx: Context) -> Json | None:
    """XPN -> HumanName. Chinese names often stand whole in the family name; `text` shows them as they are written."""
    family, given = text(xpn.c(1)), [part for part in (text(xpn.c(2)), text(xpn.c(3))) if part]
    prefix, suffix = text(xpn.c(5)), [part for part in (text(xpn.c(4)), text(xpn.c(6))) if part]
    if family is None and not given:
        return None
    representation = tables.NAME_REPRESENTATION.get(xpn.c(8).strip().upper())
    parts = [family or "", *given]
    whole = "".join(parts) if not "".join(parts).isascii() else " ".join([*given, family or ""]).strip()
    extension = None
    if representation:
        url = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
        extension = [{"url": url, "valueCode": representation}]
    return only(
        extension=extension,
        use=tables.NAME_USE.get(xpn.c(7).strip().upper()),
        text=whole,
        family=family,
        given=given,
        prefix=[prefix] if prefix else None,
        suffix=suffix,
        period=period(xpn.c(12), xpn.c(13), ctx),
    )


def address(xad: Composite, ctx: Context) -> Json | None:
    """XAD -> Address."""
    street = text(" ".join(part for part in (xad.c(1, 1), xad.c(1, 2), xad.c(1, 3)) if part.strip()))
    lines = [line for line in (street, text(xad.c(2))) if line]
    use, kind = tables.ADDRESS_USE.get(xad.c(7).strip().upper(), (None, None))
    found = only(
        line=lines, city=text(xad.c(3)), district=text(xad.c(9)), state=text(xad.c(4)), postalCode=text(xad.c(5)),
        country=text(xad.c(6)),
    )  # fmt: skip
    return found | only(use=use, type=kind, period=period(xad.c(13), xad.c(14), ctx)) if found else None


def telecom(xtn: Composite, ctx: Context, use: str | None = None) -> Json | None:
    """XTN -> ContactPoint; e-mail from component 4, a number from 1 or from its parts 5 to 8, or 12."""
    equipment, code = xtn.c(3).strip().upper(), xtn.c(2).strip().upper()
    mail = text(xtn.c(4))
    if mail and "@" in mail and equipment not in ("PH", "CP", "FX", "BP"):
        return only(system="email", value=mail, use=tables.TELECOM_USE.get(code, use))
    parts = [f"+{xtn.c(5).strip().lstrip('+')}" if xtn.c(5).strip() else "", xtn.c(6).strip(), xtn.c(7).strip()]
    number = text(xtn.c(1)) or text(" ".join(part for part in parts if part)) or text(xtn.c(12))
    if number is None:
        return None
    if xtn.c(8).strip() and not text(xtn.c(1)):
        number += f" ext. {xtn.c(8).strip()}"
    found_use = "mobile" if equipment == "CP" else tables.TELECOM_USE.get(code, use)
    system = tables.TELECOM_SYSTEM.get(equipment, "phone")
    return only(system="phone" if system == "email" else system, value=number, use=found_use)


def _is_code(value: str) -> bool:
    return _CODE.fullmatch(value) is not None


def coding_system(name: str, ctx: Context) -> str | None:
    """Component 3 of a CWE -> URI: the profile's, a standard one, or a HL7 table."""
    name = name.strip()
    return (
        ctx.profile.coding_systems.get(name) or tables.CODE_SYSTEMS.get(name.upper()) or tables.v2_table(name) or None
    )


def concept(cwe: Composite, ctx: Context, default_system: str | None = None) -> Json | None:
    """CE, CWE, CNE (and IS, ID with a default system) -> CodeableConcept."""
    codings = []
    for at in (1, 4):
        code, display = cwe.st(at).strip(), text(cwe.st(at + 1))
        if code and _is_code(code):
            system = coding_system(cwe.c(at + 2), ctx) or (default_system if at == 1 and not cwe.c(at + 2) else None)
            if system is None and cwe.c(at + 2).strip():
                ctx.seen["coding_system_unknown"] += 1
            codings.append(only(system=system, code=code, display=display))
    words = text(cwe.st(9)) or text(cwe.st(2)) or text(cwe.st(5)) or (text(cwe.st(1)) if not codings else None)
    return some(only(coding=codings, text=words))


def practitioner(xcn: Composite, ctx: Context) -> Json | None:
    """XCN -> a reference by identifier and name: the hub knows its doctors itself and does not take them from here."""
    name = human_name(xcn.part(2, 7), ctx)
    value = text(xcn.st(1))
    who = only(system=uri_of(xcn.whole(9), ctx, xcn.c(13).strip()), value=value) if value else None
    display = name["text"] if name else None
    if who is None and display is None:
        return None
    return only(type="Practitioner", identifier=who, display=display)


def organization(xon: Composite, ctx: Context) -> Json | None:
    """XON -> a reference by name and number."""
    name, number = text(xon.st(1)), text(xon.c(10)) or text(xon.c(3))
    who = only(system=uri_of(xon.whole(6), ctx, xon.c(7).strip()), value=number) if number else None
    return only(type="Organization", identifier=who, display=name) if name or who else None


def place(pl: Composite, ctx: Context) -> Json | None:
    """PL -> a reference to a Location by its words: building, floor, point of care, room, bed."""
    words = [text(pl.c(n)) for n in (4, 7, 8, 1, 2, 3)]
    display = " / ".join(word for word in words if word) or text(pl.c(9))
    return {"type": "Location", "display": display} if display else None


def units(cwe: Composite, ctx: Context) -> Json:
    """OBX-6 -> unit, and system and code where they are UCUM."""
    code, words = cwe.st(1).strip(), text(cwe.st(2))
    if not code and words is None:
        return {}
    if _POWER.fullmatch(f"{code}^{words}"):  # 10^9/L written plainly: its caret is no separator
        return {"unit": f"{code}^{words}"}
    if coding_system(cwe.c(3), ctx) == tables.CODE_SYSTEMS["UCUM"] and _is_code(code):
        return only(unit=words or code, system=tables.CODE_SYSTEMS["UCUM"], code=code)
    return only(unit=words or code)


def number(raw: str) -> int | float | None:
    """A decimal number; None when the text is anything else."""
    match = _NUMBER.fullmatch(raw.strip())
    return None if match is None or match.group(1) else _value(match.group(2))


def quantity(raw: str, unit: Json) -> Json | None:
    """A number, possibly ``<5`` or ``>= 100`` as many systems write in NM, with its unit."""
    match = _NUMBER.fullmatch(raw.strip())
    if match is None:
        return None
    return only(comparator=match.group(1)) | {"value": _value(match.group(2))} | unit


def _value(digits: str) -> int | float:
    """As precise as it was written: 7.40 stays 7.40 (R4 section 2.24.0.1)."""
    bare = digits.lstrip("+-")
    if bare.isdigit():
        return int(digits)
    whole, _, part = bare.partition(".")
    sign = "-" if digits.startswith("-") else ""
    whole = whole.lstrip("0") or "0"
    return decimal_of(f"{sign}{whole}.{part}") if part else int(f"{sign}{whole}")


def attachment(ed: Composite, ctx: Context) -> tuple[str, bytes] | None:
    """ED -> (content type, bytes), by what the bytes are; None when they are nothing that is kept (counted)."""
    encoding, raw = ed.c(4).strip().upper(), ed.c(5)
    data: bytes | None
    if encoding in ("BASE64", ""):
        try:
            data = base64.b64decode("".join(raw.split()), validate=True)
        except (binascii.Error, ValueError):
            data = None
    elif encoding == "HEX":
        try:
            data = bytes.fromhex(raw)
        except ValueError:
            data = None
    else:
        data = raw.encode() if encoding == "A" else None
    content_type = content_of(data) if data else None
    if content_type is None or not data:
        ctx.seen["attachment_unusable"] += 1
        return None
    return content_type, data


def content_of(data: bytes) -> str | None:
    """The content type that bytes have, whatever they are called; None for what is not kept."""
    for magic, kind in (
        (b"%PDF-", "application/pdf"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
    ):
        if data.startswith(magic):
            return kind
    head = data.lstrip()[:64].lower()
    if head.startswith((b"<", b"{\\rtf", b"pk\x03\x04")) or b"\0" in data:
        return None  # markup, archives and binaries are nothing that a viewer of ours opens
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    return "text/plain; charset=utf-8"
