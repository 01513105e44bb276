"""DICOM into the gateway: pynetdicom's SCU as the ECG cart and the scanner, over real sockets."""

import asyncio
import contextlib
import io
import json
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pydicom
import pytest
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from media.sources.dicom import read_dicom
from server.gateway.adapters.dicom import DicomListen, DicomStore
from server.gateway.adapters.dicom_object import Unusable, receive
from server.gateway.core.crossing import LockRefused, RefusalCode
from tests.hl7v2_kit import MRN, PROFILE, Shelf, model

DEADLINE_S = 60
LISTEN = DicomListen(
    name="carts", host="127.0.0.1", port=0, callers=("CART1",), issuers={"": MRN, "OLDHIS": "urn:oid:2.999.1.2"}
)


@contextlib.asynccontextmanager
async def serving(shelf: Shelf, listen: DicomListen = LISTEN) -> AsyncIterator[DicomStore]:
    store = DicomStore(listen, PROFILE)
    task = asyncio.create_task(store.run(shelf))
    try:
        async with asyncio.timeout(DEADLINE_S):
            await store.listening.wait()
            yield store
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def send(store: DicomStore, *objects: Dataset, title: str = "CART1", to: str = "CONSILIUM") -> list[int | None]:
    """Status of each object; None where the association ended; empty where there was none."""
    entity = AE(title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = DEADLINE_S
    entity.add_requested_context(Verification)
    for one in objects:
        entity.add_requested_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", store.port, ae_title=to)
    if not association.is_established:
        return []
    found: list[int | None] = []
    for one in objects or [None]:  # type: ignore[list-item]
        with contextlib.suppress(RuntimeError):
            answer = association.send_c_store(one) if one is not None else association.send_c_echo()
            found.append(answer.Status if "Status" in answer else None)
    association.release()
    return found


async def sent(store: DicomStore, *objects: Dataset, **how: Any) -> list[int | None]:
    return await asyncio.to_thread(send, store, *objects, **how)


def ecg(**changes: Any) -> Dataset:
    path = get_testdata_file("waveform_ecg.dcm")
    assert isinstance(path, str)
    found = pydicom.dcmread(path)
    found.PatientID, found.IssuerOfPatientID = "10042", ""
    return changed(found, **changes)


def changed(found: Dataset, **changes: Any) -> Dataset:
    for name, value in changes.items():
        setattr(found, name, value)
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    return found


def made(sop_class: str, **elements: Any) -> Dataset:
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = sop_class
    found.SOPClassUID, found.SOPInstanceUID = sop_class, uid.generate_uid(entropy_srcs=[str(elements)])
    found.StudyInstanceUID, found.SeriesInstanceUID = "2.25.1", "2.25.2"
    found.PatientID, found.StudyDate, found.StudyTime, found.Modality = "10042", "20260314", "150926", "OT"
    return changed(found, **elements)


def slice_of(number: int) -> Dataset:
    return made(
        uid.CTImageStorage, InstanceNumber=number, Modality="CT", SOPInstanceUID=f"2.25.2.{number}",
        SeriesDescription="Thorax", PixelData=bytes(64), Rows=4, Columns=8, BitsAllocated=16, BitsStored=16, HighBit=15,
        SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", PixelRepresentation=0,
    )  # fmt: skip


def resources(shelf: Shelf, kind: str) -> list[dict[str, Any]]:
    found = []
    for one in shelf.kept:
        if one.media_type != "application/fhir+json":
            continue
        model("Bundle").model_validate(json.loads(one.body))
        for entry in json.loads(one.body)["entry"]:
            model(entry["resource"]["resourceType"]).model_validate(entry["resource"])
            if entry["resource"]["resourceType"] == kind:
                found.append(entry["resource"])
    return found


async def test_an_ecg_crosses_whole_with_its_patient_and_a_description() -> None:
    shelf = Shelf()
    async with serving(shelf) as store:
        assert await sent(store) == [0], "C-ECHO"
        original = ecg()
        assert await sent(store, original) == [0]
        assert await sent(store, original) == [0], "sent again, kept once"

    crossing, about = shelf.kept
    assert (crossing.kind, crossing.key, crossing.patient) == ("DICOM ECG", original.SOPInstanceUID, ((MRN, "10042"),))
    assert dict(crossing.about)["study"] == original.StudyInstanceUID
    assert read_dicom(crossing.body).strips[0].names == read_dicom(_bytes(original)).strips[0].names
    assert pydicom.dcmread(io.BytesIO(crossing.body)).WaveformSequence == original.WaveformSequence
    assert about.kind == "FHIR DocumentReference"
    (document,) = resources(shelf, "DocumentReference")
    assert document["type"]["coding"][0]["code"] == "11524-6"
    assert document["content"][0]["attachment"]["url"] == f"urn:oid:{original.SOPInstanceUID}"


def _bytes(one: Dataset) -> bytes:
    out = io.BytesIO()
    one.save_as(out, enforce_file_format=True)
    return out.getvalue()


async def test_a_pdf_becomes_a_document_and_a_series_one_study() -> None:
    shelf = Shelf()
    pdf = made(uid.EncapsulatedPDFStorage, EncapsulatedDocument=b"%PDF-1.7 x ", DocumentTitle="报告",
               SpecificCharacterSet="GB18030", MIMETypeOfEncapsulatedDocument="application/pdf")  # fmt: skip
    async with serving(shelf) as store:
        assert await sent(store, pdf) == [0]
        assert await sent(store, *(slice_of(number) for number in (1, 2, 3))) == [0, 0, 0]
        async with asyncio.timeout(DEADLINE_S):
            while len(resources(shelf, "ImagingStudy")) < 2:  # the second follows the end of the association
                await asyncio.sleep(0.01)

    assert [one.kind for one in shelf.kept if one.media_type == "application/dicom"] == [
        "DICOM document", "DICOM image", "DICOM image", "DICOM image"
    ]  # fmt: skip
    (document,) = resources(shelf, "DocumentReference")
    assert document["description"] == "报告"
    assert len(resources(shelf, "Binary")) == 1
    first, whole = resources(shelf, "ImagingStudy")
    assert first["id"] == whole["id"]
    assert (first["numberOfInstances"], whole["numberOfInstances"]) == (1, 3)
    assert [one["number"] for one in whole["series"][0]["instance"]] == [1, 2, 3]
    assert whole["started"] == "2026-03-14T15:09:26+08:00"


async def test_one_series_uid_on_two_patients_is_two_studies() -> None:
    """A device that repeats its UIDs must not list one patient's images under another's name."""
    shelf = Shelf()
    mine, other = (slice_of(n) for n in (1, 2))
    other.PatientID = "10043"
    async with serving(shelf) as store:
        assert await sent(store, mine, other, slice_of(3)) == [0, 0, 0]
        async with asyncio.timeout(DEADLINE_S):
            while len(resources(shelf, "ImagingStudy")) < 3:
                await asyncio.sleep(0.01)
    listed: dict[str, set[int]] = {}
    for one in shelf.kept:
        if one.kind == "FHIR ImagingStudy":
            (study,) = (
                e["resource"] for e in json.loads(one.body)["entry"] if e["resource"]["resourceType"] != "Patient"
            )
            listed.setdefault(one.patient[0][1], set()).update(i["number"] for i in study["series"][0]["instance"])
    assert listed == {"10042": {1, 3}, "10043": {2}}


async def test_an_object_says_who_it_is_for_the_hub_to_compare() -> None:
    """[W22] The number alone may be mistyped at the cart: name and birth date go with it where the policy lets them."""
    shelf = Shelf()
    async with serving(shelf) as store:
        named = ecg(PatientName="Wang^Xiaoming=王^小明", PatientBirthDate="19780302", SpecificCharacterSet="ISO_IR 192")
        assert await sent(store, named) == [0]
    (patient,) = resources(shelf, "Patient")
    assert ([one["text"] for one in patient["name"]], patient["birthDate"]) == (
        ["Wang Xiaoming", "王小明"],
        "1978-03-02",
    )
    about = dict(shelf.kept[0].about)
    assert (about["patient_name"], about["birth_date"]) == ("Wang Xiaoming=王小明", "1978-03-02")


async def test_what_cannot_be_read_is_answered_c000_and_not_kept() -> None:
    """Each its own instance; a good one behind them is taken."""
    shelf = Shelf()
    wrong = [
        ecg(PatientID="", SOPInstanceUID="2.25.91"),
        ecg(PatientID="10042\\10043", SOPInstanceUID="2.25.94"),
        ecg(IssuerOfPatientID="SOMEBODY", SOPInstanceUID="2.25.92"),
        ecg(WaveformSequence=[], SOPInstanceUID="2.25.93"),
        made(uid.EncapsulatedPDFStorage, EncapsulatedDocument=b"<html>  "),
        made(uid.CTImageStorage, StudyInstanceUID="2.25.x"),
    ]
    async with serving(shelf) as store:
        assert await sent(store, *wrong, slice_of(1)) == [0xC000] * 6 + [0]
    assert [one.kind for one in shelf.kept] == ["DICOM image", "FHIR ImagingStudy"]


def test_an_object_is_what_its_request_announced() -> None:
    """A900: neither another instance nor another class may come under a name that was taken."""
    one = ecg()
    how: dict[str, Any] = {"issuers": {"": MRN}, "profile": PROFILE}
    assert receive(_bytes(one), instance=one.SOPInstanceUID, sop_class=one.SOPClassUID, **how).kind == "DICOM ECG"
    for instance, sop_class in (
        ("2.25.7", one.SOPClassUID),
        (one.SOPInstanceUID, uid.GeneralECGWaveformStorage),
        (one.SOPInstanceUID, uid.BasicTextSRStorage),
    ):
        with pytest.raises(Unusable) as refused:
            receive(_bytes(one), instance=instance, sop_class=sop_class, **how)
        assert refused.value.status == 0xA900


async def test_what_the_lock_refuses_has_a_status_and_is_taken_later() -> None:
    shelf = Shelf()
    async with serving(shelf) as store:
        for code, status in (
            (RefusalCode.FULL, 0xA700), (RefusalCode.UNAVAILABLE, 0xA700), (RefusalCode.NOT_ALLOWED, 0x0124),
            (RefusalCode.KEY_REUSED, 0xC000),
        ):  # fmt: skip
            shelf.refuse = LockRefused(code)
            assert await sent(store, ecg()) == [status]
        shelf.refuse = None
        assert await sent(store, ecg()) == [0]


async def test_only_named_callers_bounded_objects_and_nothing_but_dicom() -> None:
    shelf = Shelf()
    async with serving(shelf, replace(LISTEN, max_object_bytes=100_000)) as store:
        assert await sent(store, title="STRANGER") == []
        assert await sent(store, to="SOMEBODY") == []
        big = made(uid.EncapsulatedPDFStorage, EncapsulatedDocument=b"%PDF-1.7 " + bytes(4_000_001))
        assert await sent(store, big) in ([], [None])
        endless = struct.pack(">BBL", 4, 0, 0xFFFFFFFF) + bytes(1000)
        for junk in (b"GET / HTTP/1.1\r\n\r\n", endless, b"\x01\x00\x00\x00\x00\x04junk"):
            with socket.create_connection(("127.0.0.1", store.port), timeout=DEADLINE_S) as line:
                line.sendall(junk)
        assert await sent(store, made(uid.EncapsulatedPDFStorage, EncapsulatedDocument=b"%PDF-1.7  ")) == [0]
    assert [one.kind for one in shelf.kept] == ["DICOM document", "FHIR DocumentReference"]
    async with serving(shelf, replace(LISTEN, peers=("10.0.0.0/8",))) as store:
        assert await sent(store) == []
