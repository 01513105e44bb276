"""What a file from a watched folder is, by its bytes, and the crossings it becomes; no I/O.

| bytes | becomes | known by |
| --- | --- | --- |
| HL7 v2, one or more messages | their transactions | MSH |
| DICOM | the object and its description | SOP Instance UID |
| EDF, aECG, SCP-ECG, FHIR SampledData, a ZIP of one of them or of a WFDB record | the recording as it is | hash |
| PDF | DocumentReference and Binary | hash |

The patient is whom the file names (a number of the configured authority), or, where the integrator says so, whom the
file's name names by a pattern. A file that names nobody is not taken.
"""

import hashlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import pydicom

from media.sources import SourceError, read
from media.sources.dicom import is_dicom
from media.sources.hl7v2 import is_hl7v2
from media.sources.model import Recording
from server.gateway.adapters.dicom_object import IMAGE, MAX_DOCUMENT_BYTES, Unusable, describe, describe_series, receive
from server.gateway.core.crossing import FHIR_JSON, Crossing
from server.gateway.hl7v2.bundle import Transaction
from server.gateway.hl7v2.convert import bundle_body, convert
from server.gateway.hl7v2.datatypes import Context, only
from server.gateway.hl7v2.errors import Hl7Refused
from server.gateway.hl7v2.message import parse, split_messages
from server.gateway.hl7v2.profile import Profile

MAX_MESSAGES: Final = 1_000
"""Of one batch file."""
_MEDIA_TYPES: Final = {
    "edf": "application/edf", "dicom": "application/dicom", "wfdb": "application/zip", "aecg": "application/xml",
    "fhir": "application/json", "scp": "application/x-scp-ecg",
}  # fmt: skip


class FileRefused(Exception):
    """A file is not taken and never will be.

    Args:
        code: a stable word; ``place`` where in the file.
        en: one sentence; ``zh`` the same in Chinese.
    """

    def __init__(self, code: str, en: str, zh: str, place: str = "") -> None:
        super().__init__(f"{code} {place}".rstrip())
        self.code, self.en, self.zh, self.place = code, en, zh, place


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRules:
    """How an integrator wants the files of one folder read."""

    patient_system: str = ""
    """Identifier system of the patient numbers in recordings and file names; empty: such files are not taken."""
    name_pattern: re.Pattern[str] | None = None
    """With a group ``patient``: the file's name says whose it is. Only where a file itself cannot (PDF)."""
    issuers: Mapping[str, str] = field(default_factory=dict)
    """As `dicom.DicomListen`."""


def crossings_of(name: str, data: bytes, rules: FileRules, profile: Profile, seen: Counter[str]) -> list[Crossing]:
    """What one file becomes, in order.

    Args:
        name: of the file, for the pattern only; its ending says nothing.
        seen: what had to be tolerated is counted here.

    Raises:
        FileRefused: nothing of it.
    """
    if is_hl7v2(data):
        return _messages(data, profile, seen)
    if is_dicom(data):
        return _object(data, rules, profile)
    if data.startswith(b"%PDF-"):
        return [_document(name, data, rules, profile)]
    return [_recording(name, data, rules)]


def _messages(data: bytes, profile: Profile, seen: Counter[str]) -> list[Crossing]:
    """All of a batch or nothing: a file is done or failed as a whole."""
    try:
        made = [
            convert(parse(one, default_charset=profile.charset), profile) for one in split_messages(data, MAX_MESSAGES)
        ]
    except Hl7Refused as refused:
        raise FileRefused(refused.code.value, refused.en, refused.zh, refused.place) from None
    for one in made:
        seen.update(one.seen)
    return [one.crossing() for one in made]


def _object(data: bytes, rules: FileRules, profile: Profile) -> list[Crossing]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(io.BytesIO(data), specific_tags=["SOPClassUID", "SOPInstanceUID"])
        instance, sop_class = str(header.get("SOPInstanceUID", "")), str(header.get("SOPClassUID", ""))
        one = receive(data, instance=instance, sop_class=sop_class, issuers=rules.issuers, profile=profile)
    except Unusable as problem:
        raise FileRefused(problem.reason, "The DICOM object cannot be used.", "该 DICOM 对象无法使用。") from None
    except Exception:  # whatever a parser meets in a stranger's bytes
        raise FileRefused("unreadable", "The DICOM object is damaged.", "该 DICOM 对象已损坏。") from None
    about = describe_series([one], profile) if one.kind == IMAGE else describe(one, profile)
    return [one.crossing(), about]


def _patient(name: str, ids: Iterable[str], rules: FileRules) -> tuple[str, str]:
    number = next(iter(ids), "")
    if not number and rules.name_pattern is not None and (match := rules.name_pattern.fullmatch(name)):
        number = match.groupdict().get("patient") or ""
    if not number or not rules.patient_system or not number.isprintable() or len(number) > 64:
        raise FileRefused("no_patient", "The file does not say whose it is.", "文件未标明所属患者。")
    return rules.patient_system, number


def _document(name: str, data: bytes, rules: FileRules, profile: Profile) -> Crossing:
    patient = _patient(name, (), rules)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise FileRefused("too_large", "The document is larger than is taken.", "文档超过允许的大小。")
    mark = hashlib.sha256(data).hexdigest()
    ctx = Context(profile=profile, zone=profile.tz, seen=Counter())
    transaction = Transaction(ctx, source=f"urn:sha256:{mark}", test=profile.is_test((patient,)))
    person = {"resourceType": "Patient", "identifier": [{"system": patient[0], "value": patient[1]}], "active": True}
    transaction.patient = transaction.found_by(person, patient, whole=False)
    attachment = transaction.binary("application/pdf", data, patient[1], mark)
    document = only(
        status="current", type={"text": "PDF"}, subject=transaction.subject, content=[{"attachment": attachment}]
    )
    transaction.put("DocumentReference", document, patient[1], mark)
    return Crossing(
        kind="FHIR DocumentReference",
        key=f"{mark}:{patient[1]}",
        patient=(patient,),
        media_type=FHIR_JSON,
        body=bundle_body(transaction.bundle()),
        made_us=0,
    )


def _recording(name: str, data: bytes, rules: FileRules) -> Crossing:
    try:
        found: Recording = read(data)
    except SourceError as error:
        raise FileRefused(str(error.code), error.en, error.zh) from None
    patient = _patient(name, found.patient.ids, rules)
    strip = found.strips[0] if found.strips else None
    about = {
        "format": found.format,
        "device": _printable(found.device),
        "filter": _printable(found.filter),
        "leads": ",".join(strip.names) if strip is not None else "",
        "sample_rate_mhz": str(strip.sample_rate_mhz) if strip is not None else "",
        "notices": ",".join(sorted({notice.code.value for notice in found.notices}))[:200],
        "simulated": "yes" if found.simulated else "",
    }
    return Crossing(
        kind=f"waveform {found.format}",
        key=hashlib.sha256(data).hexdigest(),
        patient=(patient,),
        media_type=_MEDIA_TYPES.get(found.format, "application/octet-stream"),
        body=data,
        made_us=max(0, found.start_us or 0),
        about=tuple((key, value) for key, value in about.items() if value),
    )


def _printable(text: str) -> str:
    return "".join(sign for sign in text if sign.isprintable()).strip()[:200]
