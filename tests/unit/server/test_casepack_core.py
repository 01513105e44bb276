"""Case packs: completeness tables, evidence, selection and the FHIR document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from server.casepack.aio.tables import OURS, load_tables
from server.casepack.core.brought import AnswerUnusable, brought, read_answer
from server.casepack.core.completeness import HOUR_US, State, Why, check
from server.casepack.core.document import About, ask_task, closed_task, compose, content_hash
from server.casepack.core.evidence import PART_SYSTEM, moment_us, ref_of
from server.casepack.core.request import Request, lacking
from server.casepack.core.selection import CASE_PACK, MOST, TREND, refs_of, select
from server.casepack.core.tables import Match, Table, TableInvalid, read_tables
from server.casepack.core.view import findings_now, findings_view, lines_view, value_view
from server.record.core.params import TYPES
from server.record.core.resource import file_resource

TABLES = load_tables()
NOW_US = moment_us("2026-11-22T12:00:00Z") or 0
LOINC = "http://loinc.org"


def coded(kind: str, id_: str, code: str, when: str | None = None, **more: Any) -> dict[str, Any]:
    name = "type" if kind == "DocumentReference" else "code"
    found = {
        "resourceType": kind, "id": id_, "status": "final", name: {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": "Patient/p"}, **more,
    }  # fmt: skip
    if kind == "DocumentReference":
        found["content"] = [{"attachment": {"contentType": "application/pdf", "url": f"Binary/{id_}"}}]
    if when is not None:
        found["date" if kind == "DocumentReference" else "effectiveDateTime"] = when
    return found


def troponin(id_: str, when: str | None, **more: Any) -> dict[str, Any]:
    return coded("Observation", id_, "89579-7", when, **{"valueQuantity": {"value": 9}, **more})


def judged(part: str, *resources: dict[str, Any], table: str = "cardiology", **facts: str) -> tuple[State, Why]:
    found = check(TABLES[table], resources, {key.replace("_", "-"): text for key, text in facts.items()}, NOW_US)
    one = next(one for one in found if one.part.key == part)
    return one.state, one.why


def test_our_tables_hold_what_each_specialty_asks_for() -> None:
    keys = {name: {part.key for part in table.parts} for name, table in TABLES.items()}
    general = {"problems", "medication", "allergies", "blood-pressure"}
    assert keys["general"] >= general
    assert keys["cardiology"] >= general | {"ecg-12-lead", "troponin", "creatinine", "potassium", "echo"}
    assert keys["neurology"] >= general | {"brain-imaging", "glucose", "last-known-well", "anticoagulation"}
    assert keys["critical-care"] >= general | {"blood-gas", "lactate", "chest-imaging", "oxygen-saturation"}
    assert keys["paediatrics"] >= general | {"weight", "guardian"}
    assert {match.type for table in TABLES.values() for part in table.parts for match in part.any_of} <= set(TYPES)
    echo = TABLES["cardiology"].part("echo")
    assert echo is not None
    assert echo.need == "if_known"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([], (State.MISSING, Why.NONE)),
        ([troponin("a", "2026-11-22T06:00:00Z")], (State.PRESENT, Why.FOUND)),
        ([troponin("a", "2026-11-20T06:00:00Z")], (State.STALE, Why.TOO_OLD)),
        ([troponin("a", None)], (State.STALE, Why.UNDATED)),
        ([troponin("a", "2026-11-23T06:00:00Z")], (State.STALE, Why.IN_FUTURE)),
        # Of a day only its beginning is sure.
        ([troponin("a", "2026-11-21")], (State.STALE, Why.TOO_OLD)),
        ([troponin("a", "2026-11-22T06:00:00Z", status="cancelled")], (State.MISSING, Why.NONE)),
        ([troponin("a", "2026-11-22T06:00:00Z", status="registered")], (State.MISSING, Why.NONE)),
        ([troponin("a", "2026-11-22T06:00:00Z", status="entered-in-error")], (State.MISSING, Why.NONE)),
        ([troponin("a", "2026-11-22T06:00:00Z", status="preliminary")], (State.STALE, Why.PRELIMINARY)),
        # A preliminary result does not hide a final one that still counts.
        (
            [
                troponin("a", "2026-11-22T06:00:00Z", status="preliminary"),
                troponin("b", "2026-11-22T05:00:00Z"),
            ],
            (State.PRESENT, Why.FOUND),
        ),
        ([coded("Observation", "a", "89579-7", "2026-11-22T06:00:00Z")], (State.MISSING, Why.NONE)),
        ([coded("DiagnosticReport", "a", "89579-7", "2026-11-22T06:00:00Z")], (State.MISSING, Why.NONE)),
    ],
)
def test_a_part_is_present_stale_or_missing_and_says_why(
    resources: list[dict[str, Any]], expected: tuple[State, Why]
) -> None:
    assert judged("troponin", *resources) == expected


def test_a_future_result_does_not_hide_the_newest_real_one() -> None:
    table = TABLES["cardiology"]
    some = [troponin("future", "2027-01-01T00:00:00Z"), troponin("old", "2026-11-01T00:00:00Z")]
    found = next(one for one in check(table, some, {}, NOW_US) if one.part.key == "troponin")
    assert found.evidence == ref_of(some[1])


def test_a_code_of_another_system_is_no_evidence() -> None:
    other = troponin("a", "2026-11-22T06:00:00Z")
    other["code"]["coding"][0]["system"] = "urn:local"
    assert judged("troponin", other)[0] is State.MISSING


def test_what_somebody_attached_for_a_part_is_evidence_of_it_and_of_no_other() -> None:
    attached = {
        "resourceType": "DocumentReference", "id": "d", "status": "current", "type": {"text": "scan"},
        "category": [{"coding": [{"system": PART_SYSTEM, "code": "troponin"}]}], "date": "2026-11-22T08:00:00Z",
    }  # fmt: skip
    assert judged("troponin", attached) == (State.PRESENT, Why.FOUND)
    assert judged("potassium", attached)[0] is State.MISSING
    assert judged("troponin", {**attached, "date": "2026-11-20T08:00:00Z"}) == (State.STALE, Why.TOO_OLD)


def test_a_date_without_a_time_is_told_as_a_day() -> None:
    some = [troponin("a", "2026-11-21"), coded("Observation", "b", "2823-3", "2026-11-21T00:00:00Z", valueInteger=1)]
    found = {one.part.key: one.is_day for one in check(TABLES["cardiology"], some, {}, NOW_US)}
    assert (found["troponin"], found["potassium"]) == (True, False)


def test_a_report_or_document_without_content_is_no_evidence() -> None:
    ecg = coded("DiagnosticReport", "e", "11524-6", "2026-11-22T08:00:00Z")
    assert judged("ecg-12-lead", ecg) == (State.MISSING, Why.NONE)
    assert judged("ecg-12-lead", {**ecg, "conclusion": "ST elevation"}) == (State.PRESENT, Why.FOUND)
    assert judged("ecg-12-lead", {**ecg, "conclusion": "?", "status": "partial"}) == (State.STALE, Why.PRELIMINARY)
    document = coded("DocumentReference", "d", "11524-6", "2026-11-22T08:00:00Z", status="current")
    assert judged("ecg-12-lead", document) == (State.PRESENT, Why.FOUND)
    assert judged("ecg-12-lead", {**document, "content": [{"attachment": {"title": "-"}}]})[0] is State.MISSING
    assert judged("ecg-12-lead", {**document, "docStatus": "preliminary"})[1] is Why.PRELIMINARY


def test_a_document_is_as_old_as_what_it_documents() -> None:
    """An ECG of last year that was filed today is no ECG of today."""
    filed = coded("DocumentReference", "d", "11524-6", "2026-11-22T08:00:00Z", status="current")
    old = {**filed, "context": {"period": {"start": "2025-03-01T08:00:00Z"}}}
    assert judged("ecg-12-lead", old) == (State.STALE, Why.TOO_OLD)


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ({"description": "CT Abdomen"}, (State.MISSING, Why.NONE)),
        ({}, (State.STALE, Why.UNSURE)),
        ({"description": "CT Head w/o contrast"}, (State.PRESENT, Why.FOUND)),
        ({"description": "头颅 CT 平扫"}, (State.PRESENT, Why.FOUND)),
        ({"series": [{"bodySite": {"system": "http://snomed.info/sct", "code": "69536005"}}]},
         (State.PRESENT, Why.FOUND)),
        ({"series": [{"bodySite": {"system": "http://snomed.info/sct", "code": "818981001"}}]},
         (State.MISSING, Why.NONE)),
    ],
)  # fmt: skip
def test_a_study_counts_for_the_part_of_the_body_it_shows(study: dict[str, Any], expected: tuple[State, Why]) -> None:
    """A CT of the abdomen is no brain imaging, and a CT of nobody knows what is not surely one."""
    scan = {
        "resourceType": "ImagingStudy", "id": "i", "status": "available", "subject": {"reference": "Patient/p"},
        "modality": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}],
        "started": "2026-11-22T08:00:00Z", **study,
    }  # fmt: skip
    assert judged("brain-imaging", scan, table="neurology") == expected


def test_what_was_sent_ages_until_it_is_read() -> None:
    """A pack of Friday is not complete on Monday; what was taken back since is missing."""
    found = check(TABLES["cardiology"], [troponin("t", "2026-11-22T06:00:00Z")], {}, NOW_US)
    sent = findings_view(found)

    def now(hours: int, *withdrawn: str) -> tuple[str, str]:
        shown = findings_now(sent, set(withdrawn), (NOW_US + hours * HOUR_US) // 1_000)
        return next((one["state"], one["why"]) for one in shown if one["part"] == "troponin")

    assert now(0) == ("present", "found")
    assert now(18) == ("present", "found")
    assert now(19) == ("stale", "too_old")
    assert now(0, "Observation/t") == ("missing", "withdrawn")
    assert [one["state"] for one in sent] == [one.state.value for one in found], "what was sent stays as it was"


def test_facts_are_written_by_the_sender() -> None:
    assert judged("last-known-well", table="neurology") == (State.MISSING, Why.NOT_GIVEN)
    assert judged("last-known-well", table="neurology", last_known_well="soon") == (State.STALE, Why.UNDATED)
    at = "2026-11-22T08:00:00+08:00"
    assert judged("last-known-well", table="neurology", last_known_well=at) == (State.PRESENT, Why.FOUND)
    assert judged("anticoagulation", table="neurology", anticoagulation=" ")[0] is State.MISSING
    assert judged("anticoagulation", table="neurology", anticoagulation="none")[0] is State.PRESENT


def test_a_hospitals_own_table_replaces_ours_and_errors_name_the_file(tmp_path: Path) -> None:
    own = tmp_path / "cardiology.toml"
    text = 'specialty = "cardiology"\nen = "C"\nzh = "心"\n'
    own.write_text(text + '[[part]]\nkey = "holter"\nen = "H"\nzh = "动"\nany_of = [{ type = "Media" }]\n')
    table = load_tables(tmp_path)["cardiology"]
    assert [part.key for part in table.parts] == ["holter"]
    assert "neurology" in load_tables(tmp_path)
    for wrong, place in {
        "x =": "not TOML",
        text + 'extends = "nothing"\n': "nothing",
        text + 'extends = "cardiology"\n': "extends itself",
        text + '[[part]]\nkey = "a"\nen = "A"\nzh = "A"\nany_of = [{ type = "Patients" }]\n': "part.0.any_of.0",
        text + '[[part]]\nkey = "a"\nen = "A"\nzh = "A"\n': "part.0",
        text + 2 * '[[part]]\nkey = "a"\nen = "A"\nzh = "A"\nfact = "text"\n': "stands twice",
        text + "more = 1\n": "more",
    }.items():
        own.write_text(wrong)
        with pytest.raises(TableInvalid, match=place):
            load_tables(tmp_path)
    own.unlink()
    with pytest.raises(TableInvalid):
        load_tables(tmp_path)
    assert read_tables({file.name: file.read_text() for file in OURS.glob("*.toml")}).keys() == TABLES.keys()


def test_a_pack_has_current_problems_first_and_of_each_test_a_bounded_trend() -> None:
    condition = {"resourceType": "Condition", "code": {"text": "x"}, "subject": {"reference": "Patient/p"}}
    old = condition | {"id": "old", "clinicalStatus": {"coding": [{"code": "resolved"}]}, "recordedDate": "2026-01-02"}
    now = condition | {"id": "now", "clinicalStatus": {"coding": [{"code": "active"}]}, "recordedDate": "2020-01-02"}
    wrong = condition | {"id": "wrong", "verificationStatus": {"coding": [{"code": "entered-in-error"}]}}
    labs = [
        coded("Observation", f"k{day}", "2823-3", f"2026-11-{day:02}", valueQuantity={"value": day},
              category=[{"coding": [{"code": "laboratory"}]}])
        for day in range(1, 10)
    ]  # fmt: skip
    chosen = select([old, now, wrong, *labs], TABLES["cardiology"], NOW_US, without=["Observation/k9"])
    assert [line.refs[0].id for line in chosen.lines] == ["now", "old", "k8"]
    assert [ref.id for ref in chosen.lines[2].refs] == ["k8", "k7", "k6", "k5", "k4", "k3"][:TREND]


def test_a_drug_of_unknown_state_is_never_hidden_and_a_pack_never_holds_a_pack() -> None:
    drug = {"resourceType": "MedicationRequest", "id": "m", "status": "unknown"}
    pack = {
        "resourceType": "Composition", "id": "c", "status": "final",
        "type": {"coding": [{"system": CASE_PACK[0], "code": CASE_PACK[1]}, {"system": LOINC, "code": "11488-4"}]},
    }  # fmt: skip
    chosen = select([drug, pack], TABLES["general"], NOW_US)
    assert [line.refs[0].id for line in chosen.lines] == ["m"]


def test_what_decides_a_part_is_in_the_pack_however_full_its_section_is() -> None:
    letters = [
        coded("DocumentReference", f"d{n}", "55107-7", f"2026-11-{1 + n % 20:02}", status="current")
        for n in range(MOST["documents"] + 5)
    ]
    summary = coded("DocumentReference", "summary", "18842-5", "2019-01-01", status="current")
    chosen = select([*letters, summary], TABLES["general"], NOW_US)
    assert ref_of(summary) in refs_of(chosen)
    assert chosen.left_out == {"documents": 5}


def _composed(request: Request, version: int = 1) -> tuple[Any, Table]:
    table = TABLES["cardiology"]
    some = [troponin("a", "2026-11-22T06:00:00Z", meta={"versionId": "3"})]
    chosen = select(some, table, NOW_US)
    found = check(table, some, {}, NOW_US)
    about = About(
        stem="cp-1", patient="p", version=version, title="Chest pain", author="周", hospital="North", starts_at_ms=1,
        at_ms=NOW_US // 1_000, test=True,
    )  # fmt: skip
    patient = {"resourceType": "Patient", "id": "p"}
    return compose(about, table, request, chosen, found, patient, {ref_of(one): one for one in some}), table


def test_the_document_is_valid_fhir_and_says_what_it_was_made_of() -> None:
    """[C25] Reason, purpose, time, summary, wanted speciality and title are in the request."""
    hostile = "a < b & <script>\x00</script>"
    made, _table = _composed(
        Request(reason=hostile, purpose="PCI?", summary="s", speciality="Cardiology", title="Professor"), version=2
    )
    Bundle.model_validate(json.loads(made.bundle_text))
    for one in (made.request, made.composition, made.provenance):
        file_resource(one)
    assert made.provenance["entity"] == [{"role": "source", "what": {"reference": "Observation/a/_history/3"}}]
    assert made.composition["relatesTo"][0]["targetReference"] == {"reference": "Composition/cp-1-1"}
    div = made.composition["section"][0]["text"]["div"]
    assert "<script" not in div
    assert "\x00" not in div
    assert made.request["occurrenceDateTime"] == "1970-01-01T00:00:00.001Z"
    assert made.request["performerType"] == {"text": "Cardiology · Professor"}
    assert [note["text"] for note in made.request["note"]] == ["Purpose: PCI?", "Summary: s"]
    assert lacking(Request(reason="r", speciality=" ")) == ("purpose", "summary", "speciality")


def test_the_content_hash_is_of_what_is_said_not_of_when() -> None:
    table, some = TABLES["cardiology"], [troponin("a", "2026-11-22T06:00:00Z", meta={"versionId": "1"})]

    def hashed(resources: list[dict[str, Any]], request: Request, now_us: int) -> str:
        return content_hash(table, request, select(resources, table, now_us), check(table, resources, {}, now_us))

    first = hashed(some, Request(reason="r"), NOW_US)
    assert hashed(some, Request(reason="r"), NOW_US + HOUR_US) == first
    assert hashed(some, Request(reason="s"), NOW_US) != first
    assert hashed([some[0] | {"meta": {"versionId": "2"}}], Request(reason="r"), NOW_US) != first
    assert hashed(some, Request(reason="r"), NOW_US + 48 * HOUR_US) != first, "what was present is stale now"


def test_a_task_is_asked_and_closed_with_answer_or_reason() -> None:
    """[C26] Declining carries its reason."""
    about = About(stem="ask-1", patient="p", version=1, title="", author="陈", hospital="Hub", starts_at_ms=1, at_ms=5)
    task = ask_task(about, "echo", ("Echo", "超声"), "North", "the last", "ServiceRequest/cp-1-1")
    file_resource(task)
    done = closed_task(task, at_ms=9, reason=None, outputs=["DocumentReference/d"])
    file_resource(done)
    assert (done["status"], done["output"][0]["valueReference"]["reference"]) == ("completed", "DocumentReference/d")
    no = closed_task(task, at_ms=9, reason="not done here", outputs=[])
    file_resource(no)
    assert (no["status"], no["statusReason"]) == ("rejected", {"text": "not done here"})


def test_an_answer_through_the_lock_is_of_one_patient_and_exactly_what_was_asked() -> None:
    match = Match(type="Observation", codes=[f"{LOINC}|89579-7"])

    def bundle(*resources: Any) -> bytes:
        return json.dumps({"resourceType": "Bundle", "entry": [{"resource": one} for one in resources]}).encode()

    asked = troponin("a", "2026-11-22T06:00:00Z")
    other = coded("Observation", "b", "2823-3", "2026-11-22", valueQuantity={"value": 1})
    assert read_answer(bundle(asked, other, coded("DiagnosticReport", "c", "89579-7")), match) == [asked]
    with pytest.raises(AnswerUnusable):
        read_answer(bundle(asked, troponin("z", None, subject={"reference": "Patient/q"})), match)
    for wrong in (b"", b"[]", b'{"entry": [1]}', b'{"entry": [{"resource": {}}]}', b"[" * 100_000):
        with pytest.raises(AnswerUnusable):
            read_answer(wrong, match)
    assert read_answer(b'{"resourceType": "Bundle"}', match) == []
    # Of one patient only, and that one is somebody else by a number that was asked by.
    named = {"reference": "Patient/77", "identifier": {"system": "urn:mrn", "value": "0002"}}
    stranger = bundle(troponin("s", "2026-11-22T06:00:00Z", subject=named))
    assert len(read_answer(stranger, match, (("urn:mrn", "0002"),))) == 1
    with pytest.raises(AnswerUnusable):
        read_answer(stranger, match, (("urn:mrn", "0001"),))


def test_a_document_through_the_lock_comes_with_its_bytes_or_not_at_all() -> None:
    """[G12] A pointer into the hospital's own store is nothing that an expert could open here."""
    match = Match(type="DocumentReference", codes=[f"{LOINC}|18842-5"])
    pointing = coded("DocumentReference", "d", "18842-5", "2026-11-22T08:00:00Z", status="current")
    whole = {**pointing, "content": [{"attachment": {"contentType": "application/pdf", "data": "JVBERi0x"}}]}
    body = json.dumps({"resourceType": "Bundle", "entry": [{"resource": pointing}, {"resource": whole}]}).encode()
    (kept,) = read_answer(body, match)
    binary, document = brought(kept, gateway="gw", patient="p1", test=True)
    assert (binary["resourceType"], binary["data"]) == ("Binary", "JVBERi0x")
    assert document["content"] == [{"attachment": {"contentType": "application/pdf", "url": f"Binary/{binary['id']}"}}]
    for one in (binary, document):
        assert ("Patient", "p1") in file_resource(one).references
    assert whole["content"][0]["attachment"]["data"] == "JVBERi0x", "what came is not changed"


def test_what_came_is_filed_once_under_our_patient_and_points_nowhere_else() -> None:
    theirs = troponin("a", "2026-11-22T06:00:00Z", encounter={"reference": "Encounter/9"}, performer=[
        {"reference": "Practitioner/4", "display": "Dr Wang"}], meta={"versionId": "7"}, contained=[{}])  # fmt: skip
    (filed,) = brought(theirs, gateway="gw", patient="p1", test=True)
    assert filed["subject"] == {"reference": "Patient/p1"}
    assert filed["performer"] == [{"display": "Dr Wang"}]
    assert "encounter" not in filed
    assert file_resource(filed).references == {("Patient", "p1")}
    assert file_resource(filed).test
    assert brought(theirs, gateway="gw", patient="p1", test=True)[0]["id"] == filed["id"]
    assert brought(theirs, gateway="gw", patient="p2", test=True)[0]["id"] != filed["id"]
    assert brought(theirs, gateway="g2", patient="p1", test=True)[0]["id"] != filed["id"]
    picture = {
        "resourceType": "DocumentReference",
        "id": "d",
        "status": "current",
        "subject": {"reference": "Patient/7"},
        "content": [{"attachment": {"contentType": "image/png", "url": "Binary/1"}}],
    }
    assert file_resource(brought(picture, gateway="gw", patient="p1", test=False)[-1]).content["content"] == [
        {"attachment": {"contentType": "image/png"}}
    ]


def test_a_line_shows_value_unit_flag_and_trend_as_the_laboratory_gave_them() -> None:
    pressure = coded("Observation", "bp", "85354-9", "2026-11-22T06:00:00Z", category=[
        {"coding": [{"code": "vital-signs"}]}], component=[
        {"code": {"coding": [{"code": "8480-6"}]}, "valueQuantity": {"value": 124, "unit": "mmHg"}},
        {"code": {"coding": [{"code": "8462-4"}]}, "valueQuantity": {"value": 74, "unit": "mmHg"}}])  # fmt: skip
    high = troponin("t", "2026-11-22T06:00:00Z", interpretation=[{"coding": [{"code": "HH"}]}],
                    valueQuantity={"value": 3.10, "unit": "ng/L", "comparator": ">"})  # fmt: skip
    chosen = select([pressure, high], TABLES["cardiology"], NOW_US)
    lines = lines_view(chosen.lines, {ref_of(one): one for one in (pressure, high)})
    assert [(one["value"], one["unit"], one["flag"]) for one in lines] == [
        ("124 / 74", "mmHg", ""),
        (">3.1", "ng/L", "HH"),
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 128}}}, "1:128"),
        ({"valueRange": {"low": {"value": 3}, "high": {"value": 5, "unit": "/HPF"}}}, "3–5"),
        ({"valueBoolean": False}, "−"),
        ({"component": [{"dataAbsentReason": {}}, {"valueQuantity": {"value": 74}}]}, "– / 74"),
    ],
)
def test_a_value_is_never_shown_as_another_or_as_nothing(value: dict[str, Any], shown: str) -> None:
    """Of a blood pressure of which only the lower value is there, 74 alone would look like the upper one."""
    one = {"resourceType": "Observation", "id": "v", "status": "final", **value}
    assert value_view(one)["value"] == shown
