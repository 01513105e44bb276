"""The way back: an opinion or report of the hub as ORU R01 or MDM T02 for the hospital's own system.

The message is a pure function of the crossing, control id included, so that after a crash the hospital sees the same
message again and not a second one. What its charset cannot write is refused: a name or a drug with question marks in
it is never sent.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from server.gateway.hl7v2.charset import codec_of
from server.gateway.hl7v2.datatypes import content_of
from server.gateway.hl7v2.message import NULL, STANDARD

_GENDER: Final = {"male": "M", "female": "F", "other": "O", "unknown": "U"}
_REPORT_STATUS: Final = {
    "registered": "I", "partial": "A", "preliminary": "P", "final": "F", "amended": "C", "corrected": "C",
    "appended": "C", "cancelled": "X",
}  # fmt: skip
_RESULT_STATUS: Final = {
    "registered": "I", "preliminary": "P", "final": "F", "amended": "C", "corrected": "C", "cancelled": "X",
    "entered-in-error": "W",
}  # fmt: skip
_TIME: Final = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(\.\d{1,6})?\d*(Z|[+-]\d\d:\d\d))?)?)?")
Json = Mapping[str, Any]

_ESCAPES: Final = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}


class CannotBuild(ValueError):
    """The hub's crossing cannot be said in this message; the text names the part, not its value (G8)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """How the hospital's system wants it."""

    application: str
    facility: str
    authorities: Mapping[str, str]
    """Identifier system -> assigning authority as PID-3.4 has it, e.g. ``urn:oid:1.2`` -> ``HIS&1.2&ISO``."""
    charset: str = "UNICODE UTF-8"
    version: str = "2.5.1"
    sending_application: str = "CONSILIUM"
    sending_facility: str = ""
    processing_id: str = "P"


@dataclass(slots=True)
class Writer:
    """Segments with escaping. Field values are text, or `Raw` where separators are meant."""

    lines: list[str] = field(default_factory=list)

    def segment(self, name: str, fields: Mapping[int, "str | Raw | None"]) -> None:
        """Add one line; fields count as in the standard."""
        last = max((number for number, value in fields.items() if value), default=0)
        values = [_written(fields.get(number)) for number in range(1, last + 1)]
        self.lines.append("|".join([name, *values]))


class Raw(str):
    """A field whose separators are meant; its parts went through `escaped`."""

    __slots__ = ()


def escaped(text: str) -> str:
    """Text as a value: delimiters and line ends as escape sequences, control characters left out."""
    if text == NULL:
        return '\\X22\\"'  # two quotes alone would say "delete"
    out = []
    for sign in text.replace("\r\n", "\n").replace("\r", "\n"):
        if sign == "\n":
            out.append("\\.br\\")
        elif sign in _ESCAPES:
            out.append(_ESCAPES[sign])
        elif sign == "\t":
            out.append(" ")
        elif sign >= " " and not "\x7f" <= sign <= "\x9f":
            out.append(sign)
    return "".join(out)


def joined(*components: str, by: str = "^") -> Raw:
    """Components of one field, each escaped."""
    return Raw(by.join(escaped(part) for part in components).rstrip(by))


def _written(value: "str | Raw | None") -> str:
    if value is None:
        return ""
    return value if isinstance(value, Raw) else escaped(value)


def control_id(key: str) -> str:
    """MSH-10 of a crossing: the same for a repeat, at most 20 characters (2.5 and before)."""
    return "C" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:19].upper()


def dtm(value: str) -> str:
    """FHIR date, dateTime or instant -> DTM with the same precision; empty where it is none."""
    match = _TIME.fullmatch(value)
    if match is None:
        return ""
    *parts, fraction, zone = match.groups()
    return (
        "".join(part or "" for part in parts) + (fraction or "") + (zone or "").replace("Z", "+0000").replace(":", "")
    )


def encoded(lines: Iterable[str], charset: str) -> bytes:
    """The message's bytes.

    Raises:
        CannotBuild: a character that the charset does not have.
    """
    try:
        return ("\r".join(lines) + "\r").encode(codec_of(charset) or "ascii")
    except UnicodeEncodeError:
        raise CannotBuild("a character that the receiver's charset does not have") from None


def build(
    kind: str, bundle: Json, patient: Iterable[tuple[str, str]], key: str, made_us: int, to: Destination
) -> bytes:
    """ORU^R01 of the bundle's DiagnosticReport or MDM^T02 of its DocumentReference.

    Args:
        patient: the crossing's identifiers.
        key: the crossing's dedupe key; makes MSH-10.
        made_us: when the hub made it; makes MSH-7.

    Raises:
        CannotBuild: the bundle lacks what the message needs.
    """
    resources = [entry["resource"] for entry in bundle.get("entry", []) if isinstance(entry.get("resource"), dict)]
    writer = Writer()
    _msh(writer, kind, key, made_us, to)
    try:
        if kind == "ORU^R01":
            _pid(writer, resources, patient, to)
            _oru(writer, resources, to.version)
        elif kind == "MDM^T02":
            moment = datetime.fromtimestamp(made_us / 1e6, UTC).strftime("%Y%m%d%H%M%S%z")
            writer.segment("EVN", {1: "T02", 2: moment})
            _pid(writer, resources, patient, to)
            writer.segment("PV1", {1: "1", 2: "U"})
            _mdm(writer, resources)
        else:
            raise CannotBuild("kind")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise CannotBuild("a resource is not as it should be") from None
    return encoded(writer.lines, to.charset)


def _msh(writer: Writer, kind: str, key: str, made_us: int, to: Destination) -> None:
    type_, _, event = kind.partition("^")
    moment = datetime.fromtimestamp(made_us / 1e6, UTC).strftime("%Y%m%d%H%M%S%z")
    fields: dict[int, str | Raw | None] = {
        1: Raw(STANDARD.msh2), 2: to.sending_application, 3: to.sending_facility, 4: to.application, 5: to.facility,
        6: moment, 8: joined(type_, event, f"{type_}_{event}"), 9: control_id(key), 10: to.processing_id,
        11: to.version, 17: to.charset,
    }  # fmt: skip
    writer.segment("MSH", fields)  # MSH-1 is the separator itself: every number is one less


def _pid(writer: Writer, resources: list[Any], patient: Iterable[tuple[str, str]], to: Destination) -> None:
    known = [(value, to.authorities[system]) for system, value in patient if system in to.authorities]
    if not known:
        raise CannotBuild("no identifier of the patient is one that the receiver knows")
    identifiers = [f"{escaped(value)}^^^{authority}^MR" for value, authority in known]
    person: Json = next((one for one in resources if one.get("resourceType") == "Patient"), {})
    names = [_xpn(name) for name in person.get("name", [])]
    writer.segment(
        "PID",
        {
            1: "1",
            3: Raw("~".join(identifiers)),
            5: Raw("~".join(name for name in names if name)),
            7: dtm(person.get("birthDate", "")),
            8: _GENDER.get(person.get("gender", ""), ""),
        },
    )


def _xpn(name: Json) -> str:
    family, given = name.get("family", ""), name.get("given", [])
    if not family and not given:
        family = name.get("text", "")
    return joined(family, *(given[:1] or [""]), " ".join(given[1:]))


def _cwe(concept: Json | None) -> Raw:
    if not concept:
        return Raw("")
    coding = (concept.get("coding") or [{}])[0]
    system = {"http://loinc.org": "LN", "http://snomed.info/sct": "SCT", "http://hl7.org/fhir/sid/icd-10": "I10"}
    display = concept.get("text") or coding.get("display", "")
    return joined(coding.get("code", ""), display, system.get(coding.get("system", ""), "L" if coding else ""))


def _number_of(resource: Json) -> str:
    identifiers = [resource.get("masterIdentifier"), *resource.get("identifier", [])]
    return next((str(one["value"]) for one in identifiers if one and one.get("value")), str(resource["id"]))


def _oru(writer: Writer, resources: list[Any], version: str) -> None:
    report = next((one for one in resources if one.get("resourceType") == "DiagnosticReport"), None)
    if report is None:
        raise CannotBuild("DiagnosticReport")
    status = _REPORT_STATUS.get(report["status"])
    if status is None:
        raise CannotBuild("DiagnosticReport.status")
    span = report.get("effectivePeriod", {})
    who = report.get("resultsInterpreter") or report.get("performer") or [{}]
    writer.segment(
        "OBR",
        {
            1: "1",
            3: _number_of(report),
            4: _cwe(report["code"]),
            7: dtm(report.get("effectiveDateTime") or span.get("start", "")),
            8: dtm(span.get("end", "")),
            22: dtm(report.get("issued", "")),
            25: status,
            32: joined("", who[0].get("display", ""), by="&"),
        },
    )
    at = 0
    for one in resources:
        if one.get("resourceType") == "Observation":
            at = _obx(writer, at, one, version)
    if report.get("conclusion"):
        at += 1
        name = Raw("CONCLUSION^Conclusion^L")
        writer.segment("OBX", {1: str(at), 2: "FT", 3: name, 5: report["conclusion"], 11: status})
    for form in report.get("presentedForm", []):
        at += 1
        _document(writer, at, form, resources, status)


def _obx(writer: Writer, at: int, observation: Json, version: str, sub_id: str = "") -> int:
    """One result, or one line for each of its components under a common sub-id.

    Returns:
        The number of the last line.
    """
    parts = observation.get("component", [])
    shared = {name: observation[name] for name in ("status", "effectiveDateTime") if name in observation}
    has_value = any(name.startswith("value") for name in observation)
    if has_value or not parts:
        at += 1
        status = _RESULT_STATUS.get(observation["status"], "P")
        fields: dict[int, str | Raw | None] = {
            1: str(at), 3: _cwe(observation["code"]), 4: sub_id, 11: status,
            14: dtm(observation.get("effectiveDateTime", "")),
        }  # fmt: skip
        if "dataAbsentReason" not in observation or has_value:
            fields |= _value(observation, version)
        flags = [flag["coding"][0]["code"] for flag in observation.get("interpretation", []) if flag.get("coding")]
        ranges = [one["text"] for one in observation.get("referenceRange", []) if one.get("text")]
        fields |= {7: ranges[0] if ranges else None, 8: Raw("~".join(map(escaped, flags)))}
        writer.segment("OBX", fields)
    group = sub_id or str(at + 1)
    for part in parts:
        at = _obx(writer, at, {**shared, **part}, version, group)
    return at


def _value(observation: Json, version: str) -> dict[int, "str | Raw | None"]:
    """OBX-2, 5 and 6.

    Raises:
        CannotBuild: left out in silence it would be a result without its value.
    """
    if quantity := observation.get("valueQuantity"):
        unit = joined(quantity.get("code", ""), quantity.get("unit", ""), "UCUM") if "code" in quantity else None
        value = _plain(quantity["value"])
        if quantity.get("comparator"):
            return {2: "SN", 5: joined(quantity["comparator"], value), 6: unit or quantity.get("unit")}
        return {2: "NM", 5: value, 6: unit or quantity.get("unit")}
    if "valueInteger" in observation:
        return {2: "NM", 5: _plain(observation["valueInteger"])}
    if "valueCodeableConcept" in observation:
        return {2: "CWE", 5: _cwe(observation["valueCodeableConcept"])}
    if "valueBoolean" in observation:
        return {2: "CWE", 5: Raw("Y^Yes^HL70136" if observation["valueBoolean"] else "N^No^HL70136")}
    if "valueString" in observation:
        return {2: "FT", 5: observation["valueString"]}
    if when := dtm(observation.get("valueDateTime", "")):
        return {2: "DTM" if version >= "2.6" else "TS", 5: when}
    for name, sign, ends in (("valueRange", "-", ("low", "high")), ("valueRatio", ":", ("numerator", "denominator"))):
        if name in observation:
            first, second = (observation[name][end] for end in ends)
            return {2: "SN", 5: joined("", _plain(first["value"]), sign, _plain(second["value"])), 6: first.get("unit")}
    raise CannotBuild("Observation.value")


def _plain(number: float | int) -> str:
    """A number without an exponent, which NM does not have."""
    return format(Decimal(str(number)), "f")


def _mdm(writer: Writer, resources: list[Any]) -> None:
    document = next((one for one in resources if one.get("resourceType") == "DocumentReference"), None)
    if document is None:
        raise CannotBuild("DocumentReference")
    authors = [one.get("display", "") for one in document.get("author", [])]
    writer.segment(
        "TXA",
        {
            1: "1",
            2: _cwe(document.get("type")),
            3: "AP",
            4: dtm(document.get("date", "")),
            6: dtm(document.get("date", "")),
            9: Raw("~".join(joined("", author) for author in authors)),
            12: _number_of(document),
            17: _completion(document),
            19: "AV",
        },
    )
    for at, content in enumerate(document["content"], 1):
        _document(writer, at, content["attachment"], resources, "F")


def _completion(document: Json) -> str:
    """TXA-17 (0271). That a document is authenticated is said of none that nobody calls final."""
    if document.get("docStatus") in ("final", "amended"):
        return "LA" if document.get("authenticator") else "AU"
    return {"entered-in-error": "CA", "preliminary": "IN"}.get(document.get("docStatus", ""), "DO")


def _document(writer: Writer, at: int, attachment: Json, resources: list[Any], status: str) -> None:
    data = attachment.get("data") or _binary(attachment.get("url", ""), resources)
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise CannotBuild("an attachment is not base64") from None
    kind = content_of(content)
    if kind is None or not content:
        raise CannotBuild("an attachment is nothing that is sent")
    name = Raw(joined("DOC", attachment.get("title", "Document"), "L"))
    if kind.startswith("text/"):
        writer.segment("OBX", {1: str(at), 2: "FT", 3: name, 4: str(at), 5: content.decode(), 11: status})
        return
    family, _, subtype = kind.partition("/")
    value = Raw(f"^{family}^{subtype}^Base64^{base64.b64encode(content).decode()}")
    writer.segment("OBX", {1: str(at), 2: "ED", 3: name, 4: str(at), 5: value, 11: status})


def _binary(url: str, resources: list[Any]) -> str:
    for one in resources:
        if one.get("resourceType") == "Binary" and url in (f"Binary/{one.get('id')}", one.get("id")):
            return str(one.get("data", ""))
    raise CannotBuild("an attachment's content did not come with it")
