"""The sample patients: valid FHIR R4, marked as test data, and free of contradictions."""

from __future__ import annotations

import base64
import io
import itertools
from collections import defaultdict
from datetime import date, datetime
from typing import Any

import pydicom
import pytest
from fhir.resources.R4B import get_fhir_model_class
from PIL import Image

from media.sources.dicom import read_dicom
from server.demo import patients
from server.imaging.find import binary_id
from server.imaging.render import draw
from server.record.core.banner import banner_of
from server.record.core.resource import file_resource, is_test

SEEDED = date(2026, 3, 2)
SHOWN = {
    "Patient",
    "Condition",
    "MedicationRequest",
    "AllergyIntolerance",
    "Observation",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "Binary",
}
"""What the record pane shows: a sample patient has some of each."""
RARE = {"Procedure", "Immunization", "ImagingStudy", "MedicationStatement"}
"""What the first one alone has."""
BUNDLES = {name: patients.bundle(name, SEEDED) for name in patients.STORIES}
EVERYTHING = list(itertools.chain.from_iterable(BUNDLES.values()))


def of_type(name: str, kind: str) -> list[dict[str, Any]]:
    return [r for r in BUNDLES[name] if r["resourceType"] == kind]


def labs(name: str) -> dict[str, list[dict[str, Any]]]:
    """Laboratory results by LOINC code, oldest first."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in of_type(name, "Observation"):
        if one["category"][0]["coding"][0]["code"] == "laboratory":
            found[one["code"]["coding"][0]["code"]].append(one)
    for results in found.values():
        results.sort(key=lambda r: r["effectiveDateTime"])
    return found


@pytest.mark.parametrize("name", patients.STORIES)
def test_every_resource_is_valid_fhir_and_can_be_filed(name: str) -> None:
    kinds = set()
    for resource in BUNDLES[name]:
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
        assert file_resource(resource).patient_id == BUNDLES[name][0]["id"]
        kinds.add(resource["resourceType"])

    assert kinds - RARE == SHOWN


def test_ids_are_unique_over_all_patients() -> None:
    ids = [(r["resourceType"], r["id"]) for r in EVERYTHING]
    assert len(ids) == len(set(ids))


def test_every_resource_is_marked_as_test_data() -> None:
    """[W9] A simulated source may only be bound to a patient who is marked so."""
    assert all(is_test(r) for r in EVERYTHING)


@pytest.mark.parametrize("name", patients.STORIES)
def test_the_banner_has_both_names_and_two_identifiers_that_are_plainly_no_real_ones(name: str) -> None:
    """[W18]"""
    patient = BUNDLES[name][0]
    banner = banner_of(patient, test=is_test(patient))

    assert not banner.name.isascii()
    assert banner.name_latin.isascii()
    assert banner.test
    record_number, national = banner.identifiers
    assert record_number.value.startswith("T-")
    assert national.value.startswith("TEST-")
    assert [n["use"] for n in patient["name"]] == ["official", "usual"]


def test_the_simulated_monitor_is_bound_to_the_first_patient() -> None:
    assert BUNDLES[patients.STORIES[0]][0]["id"] == patients.ECG_PATIENT


@pytest.mark.parametrize("name", patients.STORIES)
def test_there_is_enough_to_page_through(name: str) -> None:
    trends = [code for code, results in labs(name).items() if len({r["effectiveDateTime"] for r in results}) >= 6]
    assert len(trends) >= 8
    assert len(of_type(name, "Condition")) >= 5
    assert len(of_type(name, "MedicationRequest")) >= 8
    assert len(of_type(name, "AllergyIntolerance")) >= 2
    assert len(of_type(name, "DiagnosticReport")) >= 4
    assert len(of_type(name, "DocumentReference")) >= 3
    assert len(of_type(name, "Encounter")) >= 3
    assert {r["reaction"][0]["severity"] for r in of_type(name, "AllergyIntolerance")} <= {"mild", "moderate", "severe"}
    assert all(r["dosageInstruction"][0]["text"] for r in of_type(name, "MedicationRequest"))


@pytest.mark.parametrize("name", patients.STORIES)
def test_flags_follow_from_the_reference_ranges(name: str) -> None:
    for results in labs(name).values():
        for result in results:
            value, limits = result["valueQuantity"]["value"], result["referenceRange"][0]
            low = limits.get("low", {}).get("value", float("-inf"))
            high = limits.get("high", {}).get("value", float("inf"))
            flag = result["interpretation"][0]["coding"][0]["code"]
            assert low < high
            assert flag[0] == ("H" if value > high else "L" if value < low else "N"), (result["id"], value, low, high)


@pytest.mark.parametrize("name", patients.STORIES)
def test_one_test_has_one_unit_and_one_range(name: str) -> None:
    """A trend line through two units would be a lie."""
    for code, results in labs(name).items():
        assert len({r["valueQuantity"]["code"] for r in results}) == 1, code
        assert len({r["referenceRange"][0]["text"] for r in results}) == 1, code


def test_reference_ranges_depend_on_sex() -> None:
    haemoglobin = "718-7"
    assert labs("chest-pain")[haemoglobin][0]["referenceRange"][0]["text"] == "115-150"
    assert labs("heart-failure")[haemoglobin][0]["referenceRange"][0]["text"] == "130-175"


def test_loinc_codes_have_their_check_digit() -> None:
    """LOINC codes end in a mod-10 check digit; a slip of the pen does not."""

    def sound(code: str) -> bool:
        body, _, check = code.partition("-")
        doubled = [int(d) * (2 if i % 2 == 0 else 1) for i, d in enumerate(reversed(body))]
        return (10 - sum(d // 10 + d % 10 for d in doubled) % 10) % 10 == int(check)

    codes = {
        coding["code"]
        for r in EVERYTHING
        for concept in (r.get("code"), r.get("type") if isinstance(r.get("type"), dict) else None)
        if concept
        for coding in concept.get("coding", [])
        if coding["system"] == patients.LOINC
    }
    assert len(codes) > 25
    assert {code for code in codes if not sound(code)} == set()


@pytest.mark.parametrize(
    ("creatinine", "sex", "age", "expected"),
    [(88.42, "male", 50, 92), (88.42, "female", 50, 69), (44.21, "female", 30, 129), (176.84, "male", 75, 34)],
)
def test_egfr_is_that_of_ckd_epi_2021(creatinine: float, sex: str, age: int, expected: int) -> None:
    assert round(patients.egfr(creatinine, sex, age)) == expected


def test_the_kidney_disease_of_the_heart_failure_patient_is_the_stage_that_is_written() -> None:
    """Stage 3b is an eGFR of 30-44."""
    values = [r["valueQuantity"]["value"] for r in labs("heart-failure")["98979-8"]]
    assert all(30 <= value <= 44 for value in values)


def test_the_ecg_report_agrees_with_the_pulse_of_that_morning_and_with_the_record_that_is_played() -> None:
    """RR 982 ms in the record's own annotations is 61 bpm."""
    report = next(r for r in of_type("chest-pain", "DiagnosticReport") if r["id"] == "demo-shen-report-ecg-2")
    rates = [
        r["valueQuantity"]["value"]
        for r in of_type("chest-pain", "Observation")
        if r["code"]["coding"][0]["code"] == "8867-4"
        and r["effectiveDateTime"][:10] == report["effectiveDateTime"][:10]
    ]
    findings = base64.b64decode(report["presentedForm"][0]["data"]).decode()

    assert rates == [round(60_000 / 982)]
    assert "61 bpm" in findings


def test_nothing_lies_in_the_future() -> None:
    seeded = datetime(2026, 3, 2, tzinfo=patients.CHINA)
    for resource in EVERYTHING:
        for field in ("effectiveDateTime", "authoredOn", "date", "issued"):
            if field in resource:
                assert datetime.fromisoformat(resource[field]) < seeded
        if "period" in resource:
            start = datetime.fromisoformat(resource["period"]["start"])
            assert start < datetime.fromisoformat(resource["period"].get("end", seeded.isoformat())) <= seeded


def test_dates_move_with_the_day_of_seeding() -> None:
    later = patients.bundle("chest-pain", date(2026, 3, 12))
    before, after = (next(r for r in b if r["resourceType"] == "Encounter") for b in (BUNDLES["chest-pain"], later))
    moved = datetime.fromisoformat(after["period"]["start"]) - datetime.fromisoformat(before["period"]["start"])
    assert moved.days == 10


@pytest.mark.parametrize("name", patients.STORIES)
def test_references_lead_somewhere(name: str) -> None:
    present = {f"{r['resourceType']}/{r['id']}" for r in BUNDLES[name]}

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["reference"]] if isinstance(value.get("reference"), str) else []
            return own + [r for inner in value.values() for r in references(inner)]
        return [r for inner in value for r in references(inner)] if isinstance(value, list) else []

    found = references(BUNDLES[name])
    found += [r["content"][0]["attachment"]["url"] for r in of_type(name, "DocumentReference")]
    found += [f"urn:oid:{i['uid']}" for r in of_type(name, "ImagingStudy") for s in r["series"] for i in s["instance"]]
    kept = {url if url[:4] != "urn:" else f"Binary/{binary_id(url.removeprefix('urn:oid:'))}" for url in found}
    assert kept <= present


def test_every_page_of_the_record_has_something_of_the_first_patient() -> None:
    kinds = {r["resourceType"] for r in BUNDLES["chest-pain"]}
    assert kinds >= {"Procedure", "Immunization", "ImagingStudy", "MedicationStatement", "DocumentReference"}
    contents = {r["contentType"] for r in of_type("chest-pain", "Binary")}
    assert {"application/pdf", "application/dicom"} <= contents


def test_images_say_in_their_pixels_and_attributes_that_they_are_nobody_s() -> None:
    by_id = {r["id"]: r for r in of_type("chest-pain", "Binary")}
    for study in of_type("chest-pain", "ImagingStudy"):
        for instance in study["series"][0]["instance"]:
            data = base64.b64decode(by_id[binary_id(instance["uid"])]["data"])
            found = pydicom.dcmread(io.BytesIO(data))
            assert found.SOPInstanceUID == instance["uid"]
            assert found.Manufacturer == "Synthetic"
            with Image.open(io.BytesIO(draw(data, 0, "full").png)) as picture:
                corner = picture.crop((5, 4, 120, 18))
                assert corner.getextrema()[1] > 200, "the words in the corner"


def test_the_sample_trace_is_a_twelve_lead_ecg_that_calls_itself_simulated() -> None:
    document = next(r for r in of_type("chest-pain", "DocumentReference") if r["id"].endswith("trace-ecg"))
    instance = document["content"][0]["attachment"]["url"].removeprefix("urn:oid:")
    binary = next(r for r in of_type("chest-pain", "Binary") if r["id"] == binary_id(instance))
    recording = read_dicom(base64.b64decode(binary["data"]))
    assert recording.simulated
    assert len(recording.strips[0].leads) == 12
    assert recording.start_us == int(datetime.fromisoformat(document["date"]).timestamp() * 1e6)


@pytest.mark.parametrize("name", patients.STORIES)
def test_documents_are_text_in_both_languages_and_one_drawn_picture(name: str) -> None:
    by_kind = defaultdict(list)
    for binary in of_type(name, "Binary"):
        by_kind[binary["contentType"]].append(base64.b64decode(binary["data"]))

    kinds = {"text/plain; charset=utf-8", "image/png"}
    assert set(by_kind) == kinds | ({"application/pdf", "application/dicom"} if name == "chest-pain" else set())
    for text in by_kind["text/plain; charset=utf-8"]:
        assert "非真实患者" in text.decode()
        assert "not a real person" in text.decode()
    with Image.open(io.BytesIO(by_kind["image/png"][0])) as picture:
        assert picture.size == (960, 720)
        colours = picture.convert("RGB").crop((0, 670, 960, 720)).getcolors(100_000)
        assert max(colours)[1] == (255, 176, 32), "the band that says SAMPLE"


@pytest.mark.parametrize("name", patients.STORIES)
def test_reports_conclude_in_both_languages(name: str) -> None:
    for report in of_type(name, "DiagnosticReport"):
        chinese, english = report["conclusion"].split("\n\n")
        assert not chinese.isascii()
        assert english.isascii()


@pytest.mark.parametrize(
    ("value", "flag"),
    [(2.8, "LL"), (2.9, "L"), (3.4, "L"), (3.5, "N"), (5.3, "N"), (5.4, "H"), (6.1, "H"), (6.2, "HH")],
)
def test_the_limits_of_a_range_belong_to_it_and_critical_limits_to_the_danger(value: float, flag: str) -> None:
    assert patients._flag(value, 3.5, 5.3, 2.8, 6.2) == flag
