"""What a received DICOM object is: its kind, its patient, and a short FHIR description; no I/O.

The object itself crosses as it came. What must be known of it to decide and to file it stands in the crossing's
``about``; a description in FHIR crosses beside it, so that it shows in the record: a DocumentReference for an ECG or an
encapsulated PDF, an ImagingStudy for the images of one series.
"""

import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import pydicom
from pydicom import uid

from media.sources import SourceError
from media.sources.dicom import dicom_time, read_dicom
from media.sources.limits import unix_us
from server.gateway.core.crossing import Crossing
from server.gateway.hl7v2.bundle import Transaction
from server.gateway.hl7v2.convert import bundle_body
from server.gateway.hl7v2.datatypes import Context, Json, only
from server.gateway.hl7v2.profile import Profile

ECG: Final = "DICOM ECG"
IMAGE: Final = "DICOM image"
DOCUMENT: Final = "DICOM document"

KINDS: Final[dict[str, str]] = {
    uid.TwelveLeadECGWaveformStorage: ECG,
    uid.GeneralECGWaveformStorage: ECG,
    uid.AmbulatoryECGWaveformStorage: ECG,
    uid.EncapsulatedPDFStorage: DOCUMENT,
    uid.SecondaryCaptureImageStorage: IMAGE,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage: IMAGE,
    uid.ComputedRadiographyImageStorage: IMAGE,
    uid.DigitalXRayImageStorageForPresentation: IMAGE,
    uid.CTImageStorage: IMAGE,
    uid.EnhancedCTImageStorage: IMAGE,
    uid.MRImageStorage: IMAGE,
    uid.EnhancedMRImageStorage: IMAGE,
    uid.UltrasoundImageStorage: IMAGE,
    uid.UltrasoundMultiFrameImageStorage: IMAGE,
}
"""SOP classes that are taken."""
_TAGS: Final = [
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID",
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "PatientName", "PatientBirthDate",
    "Modality", "StudyDate", "StudyTime", "ContentDate",
    "ContentTime", "AcquisitionDateTime", "AccessionNumber", "StudyDescription", "SeriesDescription", "DocumentTitle",
    "TimezoneOffsetFromUTC", "Manufacturer", "ManufacturerModelName", "InstanceNumber", "NumberOfFrames",
]  # fmt: skip
_EKG: Final = {"system": "http://loinc.org", "code": "11524-6", "display": "EKG study"}
_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_PDF: Final = b"%PDF-"
MAX_INSTANCES: Final = 2_000
MAX_DOCUMENT_BYTES: Final = 5_900_000
"""In base64 what the hub keeps of one resource; a larger document crosses as the DICOM object only."""


class Unusable(Exception):
    """An object is not taken.

    Args:
        status: DICOM status of the C-STORE response (PS3.4 B.2.3).
        reason: a stable word, also the error comment.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


CANNOT_UNDERSTAND: Final = 0xC000
DOES_NOT_MATCH: Final = 0xA900
OUT_OF_RESOURCES: Final = 0xA700
NOT_AUTHORIZED: Final = 0x0124
SUCCESS: Final = 0x0000


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """One object, looked at."""

    kind: str
    sop_class: str
    instance: str
    study: str
    series: str
    patient: tuple[str, str]
    """(system, value)."""
    names: tuple[str, ...]
    """As the device has them, one for each script; with the birth date the hub compares them with its patient's."""
    birth_date: str
    modality: str
    taken: datetime | None
    made_us: int
    title: str
    accession: str
    simulated: bool
    number: int | None
    data: bytes

    def crossing(self) -> Crossing:
        """The object as it crosses."""
        about = {
            "sop_class": self.sop_class, "study": self.study, "series": self.series, "instance": self.instance,
            "modality": self.modality, "accession": self.accession, "title": self.title,
            "taken": "" if self.taken is None else self.taken.isoformat(),
            "simulated": "yes" if self.simulated else "",
            "patient_name": "=".join(self.names)[:200], "birth_date": self.birth_date,
        }  # fmt: skip
        return Crossing(
            kind=self.kind,
            key=self.instance,
            patient=(self.patient,),
            media_type="application/dicom",
            body=self.data,
            made_us=self.made_us,
            about=tuple((name, value) for name, value in about.items() if value),
        )


def receive(data: bytes, *, instance: str, sop_class: str, issuers: Mapping[str, str], profile: Profile) -> Received:
    """Look at an object.

    Args:
        data: DICOM file format.
        instance: what the C-STORE request says that it is.
        sop_class: likewise.
        issuers: IssuerOfPatientID, or its universal id -> identifier system; ``""`` for objects without an issuer.

    Raises:
        Unusable: with the status to answer.
    """
    kind = KINDS.get(sop_class)
    if kind is None:
        raise Unusable(DOES_NOT_MATCH, "sop_class")
    said, patient = _header(data, issuers)
    if said["SOPInstanceUID"] != instance or said["SOPClassUID"] != sop_class:
        raise Unusable(DOES_NOT_MATCH, "not_what_was_announced")
    if not all(_is_uid(said[name]) for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")):
        raise Unusable(CANNOT_UNDERSTAND, "uid")
    simulated = _content(kind, data)
    taken = _taken(said, profile)
    number = said["InstanceNumber"]
    return Received(
        kind=kind,
        sop_class=sop_class,
        instance=instance,
        study=said["StudyInstanceUID"],
        series=said["SeriesInstanceUID"],
        patient=patient,
        names=_names(said["PatientName"]),
        birth_date=_birth_date(said["PatientBirthDate"]),
        modality=said["Modality"][:16],
        taken=taken,
        made_us=max(0, (unix_us(taken) or 0)) if taken is not None else 0,
        title=said["DocumentTitle"] or said["SeriesDescription"] or said["StudyDescription"],
        accession=said["AccessionNumber"][:16],
        simulated=simulated,
        number=int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None,
        data=data,
    )


def _header(data: bytes, issuers: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, str]]:
    """The elements that are looked at, as text, and the patient."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=_TAGS)
            said = {tag: _text(found.get(tag)) for tag in _TAGS}
            return said, _patient(found, said, issuers)
    except Unusable:
        raise
    except Exception:  # whatever a parser meets in a stranger's bytes
        raise Unusable(CANNOT_UNDERSTAND, "unreadable") from None


def _text(value: Any) -> str:
    return "".join(sign for sign in str(value if value is not None else "") if sign.isprintable()).strip()[:200]


def _names(text: str) -> tuple[str, ...]:
    """PN: alphabetic=ideographic=phonetic, of which the first two; Chinese names without blanks."""
    found = []
    for group in text.split("=")[:2]:
        parts = [part.strip() for part in group.split("^")[:3] if part.strip()]
        found.append((" " if group.isascii() else "").join(parts))
    return tuple(name for name in found if name)


def _birth_date(text: str) -> str:
    if len(text) != 8 or not (text.isascii() and text.isdigit()):
        return ""
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:])).isoformat()
    except ValueError:
        return ""


def _is_uid(text: str) -> bool:
    return 0 < len(text) <= 64 and uid.UID(text).is_valid


def _patient(found: Any, said: dict[str, str], issuers: Mapping[str, str]) -> tuple[str, str]:
    if not said["PatientID"] or not isinstance(found.get("PatientID"), str):  # two of them are nobody's
        raise Unusable(CANNOT_UNDERSTAND, "no_patient_id")
    qualifiers = found.get("IssuerOfPatientIDQualifiersSequence") or [{}]
    universal = _text(qualifiers[0].get("UniversalEntityID"))
    named = [name for name in (universal, said["IssuerOfPatientID"]) if name]
    for name in named or [""]:
        if name in issuers:
            return issuers[name], said["PatientID"]
    raise Unusable(CANNOT_UNDERSTAND, "issuer_of_patient_id")


def _content(kind: str, data: bytes) -> bool:
    """Whether what is inside is what the class promises; tells if it calls itself simulated (W9)."""
    if kind == ECG:
        try:
            return read_dicom(data).simulated
        except SourceError as error:
            raise Unusable(CANNOT_UNDERSTAND, str(error.code)) from None
    if kind == DOCUMENT and not document_of(data).startswith(_PDF):
        raise Unusable(CANNOT_UNDERSTAND, "not_a_pdf")
    return False


def document_of(data: bytes) -> bytes:
    """The PDF inside an encapsulated document; empty where there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pydicom.dcmread(io.BytesIO(data), specific_tags=["EncapsulatedDocument"])
            return bytes(found.get("EncapsulatedDocument") or b"")
    except Exception:
        return b""


def _taken(said: dict[str, str], profile: Profile) -> datetime | None:
    texts = (
        said["AcquisitionDateTime"], said["ContentDate"] + said["ContentTime"], said["StudyDate"] + said["StudyTime"]
    )  # fmt: skip
    for text in texts:
        moment = dicom_time(text, said["TimezoneOffsetFromUTC"])
        if moment is not None and unix_us(moment) is not None:
            return moment if moment.tzinfo is not None else moment.replace(tzinfo=profile.tz)
    return None


def describe(one: Received, profile: Profile) -> Crossing:
    """DocumentReference of an ECG or a document."""
    transaction, patient = _transaction(one, profile)
    if one.kind == DOCUMENT and len(one.data) <= MAX_DOCUMENT_BYTES:
        attachment = transaction.binary("application/pdf", document_of(one.data), one.patient[1], one.instance)
    else:
        attachment = {"contentType": "application/dicom", "url": f"urn:oid:{one.instance}", "size": len(one.data)}
    type_: Json = {"coding": [_EKG]} if one.kind == ECG else {"text": one.title or "Document"}
    document = only(
        masterIdentifier={"system": "urn:dicom:uid", "value": f"urn:oid:{one.instance}"},
        status="current",
        type=type_,
        subject=transaction.subject,
        date=None if one.taken is None else one.taken.isoformat(),
        description=one.title,
        content=[{"attachment": attachment | only(title=one.title)}],
        context={"related": [{"type": "ImagingStudy", "identifier": _study(one)}]},
    )
    transaction.put("DocumentReference", document, patient, one.instance)
    return _crossing(one, "FHIR DocumentReference", one.instance, transaction)


def describe_series(instances: Iterable[Received], profile: Profile) -> Crossing:
    """ImagingStudy of what is known of one series; each series is a resource of its own, found by the study's UID."""
    every = list(instances)[:MAX_INSTANCES]
    one = every[0]
    transaction, patient = _transaction(one, profile)
    listed = [
        only(uid=each.instance, sopClass={"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{each.sop_class}"},
             number=each.number)
        for each in every
    ]  # fmt: skip
    modality = {"system": _DCM, "code": one.modality or "OT"}
    study = only(
        identifier=[_study(one)],
        status="available",
        modality=[modality],
        subject=transaction.subject,
        started=None if one.taken is None else one.taken.isoformat(),
        numberOfSeries=1,
        numberOfInstances=len(listed),
        description=one.title,
        series=[{"uid": one.series, "modality": modality, "numberOfInstances": len(listed), "instance": listed}],
    )
    transaction.put("ImagingStudy", study, patient, one.study, one.series)
    mark = hashlib.sha256("|".join(each.instance for each in every).encode()).hexdigest()[:32]
    return _crossing(one, "FHIR ImagingStudy", f"{one.series}#{mark}", transaction)


def _study(one: Received) -> Json:
    return {"system": "urn:dicom:uid", "value": f"urn:oid:{one.study}"}


def _transaction(one: Received, profile: Profile) -> tuple[Transaction, str]:
    ctx = Context(profile=profile, zone=profile.tz, seen=Counter())
    test = profile.is_test((one.patient,))
    transaction = Transaction(ctx, source=f"urn:oid:{one.instance}", test=test)
    system, value = one.patient
    patient = only(
        resourceType="Patient",
        identifier=[{"system": system, "value": value}],
        active=True,
        name=[{"text": name} for name in one.names],
        birthDate=one.birth_date,
    )
    transaction.patient = transaction.found_by(patient, one.patient, whole=False)
    return transaction, value


def _crossing(one: Received, kind: str, key: str, transaction: Transaction) -> Crossing:
    return Crossing(
        kind=kind,
        key=f"{key}#about",
        patient=(one.patient,),
        media_type="application/fhir+json",
        body=bundle_body(transaction.bundle()),
        made_us=one.made_us,
    )
