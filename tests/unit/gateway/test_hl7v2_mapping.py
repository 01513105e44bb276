"""Each message family by example; every bundle is also checked against the R4B models (`hl7v2_kit.check`)."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from server.gateway.core.policy import parse_policy
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused
from server.gateway.hl7v2.signals import NULLED, Ended, ended_by, merge_of
from server.record.core.bundle import read_condition
from server.record.core.query import TokenValue, parse_query
from tests.hl7v2_kit import MRN, OLD, PID, PROFILE, PV1, converted, message, only, request, resources
from tests.shared_data import shared

PDF = base64.b64encode(b"%PDF-1.7 report").decode()


def test_adt_a01_admits_with_the_whole_patient() -> None:
    made = converted(message("ADT^A01", PV1, "AL1|1|DA^^HL70127|7980^Penicillin^RXNORM|SV|rash~wheeze",
                             "DG1|1||I21.0^Anterior STEMI^I10|||F"))  # fmt: skip

    patient = only(made, "Patient")
    assert request(made, "Patient") == {"method": "PUT", "url": f"Patient?identifier={MRN}|10042"}
    assert made.patient == ((MRN, "10042"), ("http://example.org/national-id", "330402197803020011"))
    assert [(n["text"], n["extension"][0]["valueCode"]) for n in patient["name"]] == [
        ("王小明", "IDE"), ("Xiaoming Wang", "ABC")
    ]  # fmt: skip
    assert (patient["gender"], patient["birthDate"]) == ("male", "1978-03-02")
    assert patient["telecom"] == [{"system": "phone", "value": "+86 13800000000", "use": "mobile"}]
    assert patient["address"][0]["city"] == "Jiaxing"
    encounter = only(made, "Encounter")
    assert (encounter["status"], encounter["class"]["code"]) == ("in-progress", "IMP")
    assert encounter["period"] == {"start": "2026-03-14T09:00:00+08:00"}
    assert encounter["location"][0]["location"]["display"] == "H1 / W3 / 12 / B"
    assert encounter["participant"][0]["individual"]["display"] == "Wei Li"
    allergy = only(made, "AllergyIntolerance")
    assert allergy["code"]["coding"][0]["system"] == "http://www.nlm.nih.gov/research/umls/rxnorm"
    assert allergy["reaction"] == [{"manifestation": [{"text": "rash"}, {"text": "wheeze"}], "severity": "severe"}]
    condition = only(made, "Condition")
    assert condition["verificationStatus"]["coding"][0]["code"] == "confirmed"
    assert condition["encounter"] == {"reference": made.bundle["entry"][1]["fullUrl"]}


def test_adt_a02_moves_and_a03_discharges_and_both_end_bindings() -> None:
    """[W21] The hub learns it from the crossing's kind; a transfer keeps where the patient was."""
    moved = converted(message("ADT^A02", PV1.replace("||| ^^^", "|||W1^3^A^H1")))
    left = converted(message("ADT^A03", PV1 + "|20260314170000"))

    places = [(place["location"]["display"], place["status"]) for place in only(moved, "Encounter")["location"]]
    assert places == [("H1 / W3 / 12 / B", "active"), ("H1 / W1 / 3 / A", "completed")]
    assert only(left, "Encounter")["status"] == "finished"
    assert only(left, "Encounter")["period"]["end"] == "2026-03-14T17:00:00+08:00"
    assert [ended_by(made.kind) for made in (moved, left)] == [Ended.TRANSFERRED, Ended.DISCHARGED]
    assert ended_by("ADT^A08") is None
    assert request(moved, "Patient")["method"] == "POST", "a transfer does not rewrite the registration"


def test_what_was_cancelled_is_taken_back_and_persons_come_without_a_visit() -> None:
    """[W21] A11 and A12 move the patient as well: bindings end."""
    admitted, transferred, discharged = (converted(message(f"ADT^{event}", PV1)) for event in ("A11", "A12", "A13"))
    assert [only(made, "Encounter")["status"] for made in (admitted, transferred, discharged)] == [
        "cancelled", "in-progress", "in-progress"
    ]  # fmt: skip
    assert only(discharged, "Encounter")["meta"]["tag"] == [{"system": NULLED, "code": "period.end"}]
    ended = [ended_by(made.kind) for made in (admitted, transferred, discharged)]
    assert ended == [Ended.DISCHARGED, Ended.TRANSFERRED, None]
    for event in ("A28", "A31"):
        made = converted(message(f"ADT^{event}", PV1, "AL1|1|DA|7980^Penicillin^RXNORM"))
        assert request(made, "Patient")["method"] == "PUT"
        assert [e["resource"]["resourceType"] for e in made.bundle["entry"]] == ["Patient", "AllergyIntolerance"]


def test_adt_a04_registers_and_a08_follows_the_discharge_date() -> None:
    assert only(converted(message("ADT^A04", PV1)), "Encounter")["status"] == "arrived"
    assert only(converted(message("ADT^A08", PV1)), "Encounter")["status"] == "in-progress"
    assert only(converted(message("ADT^A08", PV1 + "|20260314170000")), "Encounter")["status"] == "finished"


def test_adt_a08_names_what_it_deletes_and_says_nothing_of_what_is_empty() -> None:
    """Two quotes never become a value; the hub is told by a tag what is deleted."""
    pid = PID.replace("19780302", "").replace("|1|||Xinhua", '|""|||Xinhua').replace("||zh|M|", '||""|M|')
    patient = only(converted(message("ADT^A08", pid=pid)), "Patient")
    assert not {"birthDate", "gender", "communication"} & set(patient)
    assert patient["meta"]["tag"] == [{"system": NULLED, "code": "communication"}, {"system": NULLED, "code": "gender"}]
    visit = PV1.replace("|20260314090000", '|""|""')
    tags = only(converted(message("ADT^A08", visit)), "Encounter")["meta"]["tag"]
    assert [tag["code"] for tag in tags] == ["period.start", "period.end"]
    assert "tag" not in only(converted(message("ORU^R01", *ORU[:2], pid=pid)), "Patient")["meta"]


def test_adt_a40_names_survivor_and_retired_by_identifier() -> None:
    made = converted(message("ADT^A40", "MRG|77^^^OLDHIS^MR"))

    merge = merge_of(made.kind, made.bundle)
    assert merge is not None
    assert merge.retired == ((OLD, "77"),)
    several = converted(message("ADT^A40", "MRG|77^^^OLDHIS^MR~330402197803020011^^^NOBODY~10042^^^HIS^MR~8^^^HIS"))
    merge = merge_of(several.kind, several.bundle)
    assert merge is not None
    assert merge.retired == ((OLD, "77"), (MRN, "8")), "what the survivor has too names no other record"
    assert merge.survivor[0] == (MRN, "10042")
    assert [entry["resource"]["resourceType"] for entry in made.bundle["entry"]] == ["Patient"]


@pytest.mark.parametrize(
    ("segments", "place"),
    [((), "MRG"), (("MRG|1^^^OLDHIS", "MRG|2^^^OLDHIS"), "MRG"), (("MRG|77^^^NOBODY",), "MRG-1"),
     (("MRG|10042^^^HIS",), "MRG-1")],
)  # fmt: skip
def test_a_merge_that_cannot_be_followed_is_refused(segments: tuple[str, ...], place: str) -> None:
    with pytest.raises(Hl7Refused) as refused:
        converted(message("ADT^A40", *segments))
    assert refused.value.place == place


ORU = (
    "OBR|1|P9^HIS|F77^LIS|24323-8^Metabolic panel^LN|||20260314080000|||||||||||||||20260314093000||HM|F",
    "OBX|1|NM|2160-0^Creatinine^LN||88.5|umol/L^^UCUM|44-97|N|||F|||20260314081500",
    "OBX|2|NM|6598-7^Troponin T^LN||<0.01|ng/mL|<=0.014|L~A|||P",
    "OBX|3|SN|5048-4^ANA^LN||^1^:^160||||||F",
    "OBX|4|SN|X1^Count^99LAB||>^100|{cells}^^UCUM|||||C",
    "OBX|5|CWE|600-7^Culture^LN||3092008^Staphylococcus aureus^SCT||||||F",
    "OBX|6|ST|X2^Colour^99LAB||straw \\T\\ clear||||||D",
    "OBX|7|DT|X3^Taken^99LAB||20260313||||||F",
    "OBX|8|TS|X4^At^99LAB||20260313101500||||||F",
    "OBX|9|TM|X5^Time^99LAB||101500||||||F",
    "OBX|10|NM|X6^None^99LAB||||||||X",
    "OBX|11|NM|X7^Odd^99LAB||haemolysed||||||F",
    "NTE|1||seen by phone",
    "OBX|12|TX|X8^Comment^99LAB||first line||||||F",
    "OBX|13|TX|X8^Comment^99LAB||second line||||||F",
    "OBX|14|NM|8867-4^Heart rate^LN||60~120|/min^^UCUM|||||F",
)


def test_oru_r01_values_units_ranges_flags_and_states() -> None:
    made = converted(message("ORU^R01", *ORU, app="LIS"))

    report = only(made, "DiagnosticReport")
    assert (report["status"], report["issued"]) == ("final", "2026-03-14T09:30:00+08:00")
    assert report["effectiveDateTime"] == "2026-03-14T08:00:00+08:00"
    assert [one["value"] for one in report["identifier"]] == ["P9", "F77"]
    found = resources(made, "Observation")
    assert [f"Observation/{one['id']}" for one in found] == [one["reference"] for one in report["result"]]
    creatinine, troponin, ratio, above, coded, text, day, moment, time, absent, odd, comment, pulse = found
    unit = {"unit": "umol/L", "system": "http://unitsofmeasure.org", "code": "umol/L"}
    assert creatinine["valueQuantity"] == {"value": 88.5} | unit
    assert creatinine["referenceRange"] == [
        {"text": "44-97", "low": {"value": 44} | unit, "high": {"value": 97} | unit}
    ]
    assert creatinine["effectiveDateTime"] == "2026-03-14T08:15:00+08:00"
    assert creatinine["category"][0]["coding"][0]["code"] == "laboratory"
    assert troponin["valueQuantity"] == {"comparator": "<", "value": 0.01, "unit": "ng/mL"}
    assert troponin["referenceRange"][0]["high"]["value"] == 0.014
    assert [flag["coding"][0]["code"] for flag in troponin["interpretation"]] == ["L", "A"]
    assert troponin["effectiveDateTime"] == report["effectiveDateTime"]
    assert ratio["valueRatio"] == {"numerator": {"value": 1}, "denominator": {"value": 160}}
    assert above["valueQuantity"]["comparator"] == ">"
    assert above["code"]["coding"][0]["system"] == "http://example.org/lab"
    assert coded["valueCodeableConcept"]["coding"][0]["code"] == "3092008"
    assert text["valueString"] == "straw & clear"
    assert day["valueDateTime"] == "2026-03-13"
    assert moment["valueDateTime"] == "2026-03-13T10:15:00+08:00"
    assert time["valueTime"] == "10:15:00"
    assert absent["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    assert (odd["valueString"], odd["note"]) == ("haemolysed", [{"text": "seen by phone"}])
    assert comment["valueString"] == "first line\nsecond line"
    assert [part["valueQuantity"]["value"] for part in pulse["component"]] == [60, 120]
    assert pulse["category"][0]["coding"][0]["code"] == "vital-signs"
    assert [one["status"] for one in found] == [
        "final", "preliminary", "final", "corrected", "final", "entered-in-error", "final", "final", "final",
        "cancelled", "final", "final", "final",
    ]  # fmt: skip


def test_oru_correction_is_the_same_report_and_the_same_result() -> None:
    first = converted(message("ORU^R01", *ORU[:2]))
    corrected = [
        line.replace("||HM|F", "||HM|C").replace("|88.5|", "|91|").replace("N|||F", "N|||C") for line in ORU[:2]
    ]
    second = converted(message("ORU^R01", *corrected, control="C2"))

    ids = [
        [one["id"] for one in (only(made, "DiagnosticReport"), only(made, "Observation"))] for made in (first, second)
    ]
    assert ids[0] == ids[1]
    assert only(second, "Observation")["status"] == only(second, "DiagnosticReport")["status"] == "corrected"
    assert first.key != second.key


def test_oru_embedded_pdf_becomes_a_binary_and_what_is_none_is_said_to_be_absent() -> None:
    made = converted(message("ORU^R01", ORU[0], f"OBX|1|ED|PDF^Report^L||^application^pdf^Base64^{PDF}||||||F",
                             "OBX|2|ED|HTML^Page^L||^text^html^Base64^PGh0bWw+||||||F"))  # fmt: skip

    form = only(made, "DiagnosticReport")["presentedForm"]
    binary = only(made, "Binary")
    assert form == [{"contentType": "application/pdf", "url": f"Binary/{binary['id']}", "size": 15, "title": "Report"}]
    assert base64.b64decode(binary["data"]) == b"%PDF-1.7 report"
    assert only(made, "Observation")["dataAbsentReason"]["coding"][0]["code"] == "unsupported"
    assert made.seen["attachment_left_out"] == 1


def test_orm_o01_and_oml_o21_orders_keep_their_number_and_a_cancellation_wins() -> None:
    order = "OBR|1|P9^HIS||24725-4^CT head^LN|||||||||||||||||||||||S^^^20260315^^S"
    new = converted(
        message("ORM^O01", PV1, "ORC|NW|P9^HIS||||||20260315|20260314100000|||D7^Li^Wei", order, "NTE|1||fasting")
    )
    gone = converted(message("OML^O21", "ORC|CA|P9^HIS|||IP", "TQ1|1||||||20260315083000||S", order))

    request_, cancelled = only(new, "ServiceRequest"), only(gone, "ServiceRequest")
    assert (request_["status"], request_["intent"], request_["priority"]) == ("active", "order", "stat")
    assert request_["authoredOn"] == "2026-03-14T10:00:00+08:00"
    assert request_["requester"]["identifier"]["value"] == "D7"
    assert request_["note"] == [{"text": "fasting"}]
    assert [one["value"] for one in request_["identifier"]] == ["P9"], "ORC-2 and OBR-2 are one number"
    assert request_["id"] == cancelled["id"]
    assert cancelled["status"] == "revoked", "ORC-5 IP beside a cancellation is stale"
    assert cancelled["occurrenceDateTime"] == "2026-03-15T08:30:00+08:00"


def test_an_order_without_a_number_is_refused() -> None:
    with pytest.raises(Hl7Refused) as refused:
        converted(message("ORM^O01", "ORC|NW", "OBR|1|||X^Y^L"))
    assert (refused.value.code, refused.value.place) == (Hl7Code.REQUIRED_FIELD, "ORC-2")


TXA = "TXA|1|DS^Discharge summary^L|TX|20260314150000|D7^Li^Wei|20260314151000|||D7^Li^Wei|||DOC-5^HIS|||||LA|R|AV"


def test_mdm_t02_text_and_pdf() -> None:
    made = converted(message("MDM^T02", PV1, TXA, "OBX|1|TX|T^Text^L||Chest pain\\.br\\for two days||||||F",
                             "OBX|2|TX|T^Text^L||~better now||||||F",
                             f"OBX|3|ED|P^Pages^L||^application^pdf^Base64^{PDF}||||||F"))  # fmt: skip

    document = only(made, "DocumentReference")
    assert (document["status"], document["docStatus"]) == ("current", "final")
    assert document["masterIdentifier"] == {"system": MRN, "value": "DOC-5"}
    assert document["date"] == "2026-03-14T15:10:00+08:00"
    assert document["securityLabel"][0]["coding"][0]["code"] == "R"
    pages, text = resources(made, "Binary")
    assert base64.b64decode(text["data"]).decode() == "Chest pain\nfor two days\nbetter now"
    assert [content["attachment"]["contentType"] for content in document["content"]] == [
        "text/plain; charset=utf-8", "application/pdf"
    ]  # fmt: skip
    assert pages["securityContext"] == document["subject"]


def test_mdm_t10_replaces_its_parent_and_a_document_without_content_is_listed() -> None:
    made = converted(message("MDM^T10", TXA.replace("DOC-5^HIS", "DOC-6^HIS|DOC-5^HIS").replace("||||LA", "|||LA")))
    document = only(made, "DocumentReference")
    assert document["relatesTo"][0]["code"] == "replaces"
    assert document["relatesTo"][0]["target"]["identifier"]["value"] == "DOC-5"
    assert document["content"] == [{"attachment": {"title": "Discharge summary"}}]


SCH = (
    "SCH|P3^HIS|F3^HIS|||||PAIN^Chest pain^L|FU^Follow-up^L|30|min|^^^20260320140000^20260320143000||||||||||||||Booked"
)
AIS = "AIS|1||CARD^Cardiology^L|20260320140000"


@pytest.mark.parametrize(
    ("event", "status"),
    [("S12", "booked"), ("S13", "booked"), ("S14", "booked"), ("S15", "cancelled"), ("S26", "noshow")],
)
def test_siu_appointments(event: str, status: str) -> None:
    made = converted(message(f"SIU^{event}", SCH, AIS, "AIP|1||D7^Li^Wei", "AIL|1||R2^^^H1"))

    appointment = only(made, "Appointment")
    assert appointment["status"] == status
    assert appointment["start"] == "2026-03-20T14:00:00+08:00"
    assert appointment["end"] == "2026-03-20T14:30:00+08:00"
    assert [one["actor"].get("display") for one in appointment["participant"][1:]] == ["Wei Li", "H1 / R2"]
    assert appointment["id"] == only(converted(message("SIU^S12", SCH, AIS)), "Appointment")["id"]


def test_siu_length_comes_from_the_message_or_the_profile_or_not_at_all() -> None:
    """FHIR app-2: a start without an end is no appointment, and a length is never guessed."""
    by_length = SCH.replace("^20260320143000", "").replace("|30|min|", "|1|h|")
    assert only(converted(message("SIU^S12", by_length, AIS)), "Appointment")["end"] == "2026-03-20T15:00:00+08:00"
    with pytest.raises(Hl7Refused) as refused:
        converted(message("SIU^S12", by_length.replace("|1|h|", "|||"), AIS))
    assert refused.value.place == "SCH-9"


def test_ref_i12_referral_with_task_diagnosis_and_results() -> None:
    made = converted(
        message("REF^I12", "RF1|P^Pending^HL70283|A^ASAP^HL70280|Med^Medical^HL70281|||R-8^HIS|20260314|20260401|20260314||X-1",  # noqa: E501 -- a segment is one line
                "PRD|RP|Chen^Yu^^^Dr|||||E1^L", "PRD|RT|Zhao^Min^^^Dr|||||E2^L", "DG1|1||I50.9^Heart failure^I10|||W",
                *ORU[:2])
    )  # fmt: skip

    request_, task = only(made, "ServiceRequest"), only(made, "Task")
    assert (request_["status"], request_["priority"], task["status"]) == ("active", "asap", "requested")
    assert request_["requester"]["display"] == "Yu Chen"
    assert request_["performer"][0]["display"] == task["owner"]["display"] == "Min Zhao"
    assert request_["occurrencePeriod"] == {"start": "2026-03-14", "end": "2026-04-01"}
    assert request_["reasonReference"] == [{"reference": f"Condition/{only(made, 'Condition')['id']}"}]
    assert request_["supportingInfo"] == [{"reference": f"DiagnosticReport/{only(made, 'DiagnosticReport')['id']}"}]
    assert task["focus"] == {"reference": f"ServiceRequest/{request_['id']}"}


def test_rde_o11_prescription() -> None:
    made = converted(
        message("RDE^O11", "ORC|NW|RX5^HIS|||||||20260314100000|||D7^Li^Wei",
                "TQ1|1||BID~PRN||||20260314|20260321|R", "RXE||1191^Aspirin^RXNORM|75|100|mg^mg^UCUM||^with food||N|14|tab^tablet^L|2",  # noqa: E501 -- a segment is one line
                "RXR|PO^Oral^HL70162", "RXC|A|7980^Penicillin^RXNORM|5|mg")
    )  # fmt: skip

    drug = only(made, "MedicationRequest")
    assert (drug["status"], drug["intent"]) == ("active", "order")
    assert drug["medicationCodeableConcept"]["text"] == "Aspirin"
    (dosage,) = drug["dosageInstruction"]
    assert dosage["doseAndRate"][0]["doseRange"]["high"] == {"value": 100, "unit": "mg"}
    assert (dosage["text"], dosage["route"]["coding"][0]["code"], dosage["asNeededBoolean"]) == (
        "with food",
        "PO",
        True,
    )
    assert dosage["timing"]["code"]["text"] == "BID, PRN"
    assert drug["dispenseRequest"] == {"quantity": {"value": 14, "unit": "tablet"}, "numberOfRepeatsAllowed": 2}
    assert drug["substitution"] == {"allowedBoolean": False}
    assert drug["note"] == [{"text": "A: Penicillin 5 mg"}]
    stopped = converted(message("RDE^O11", "ORC|DC|RX5^HIS", "RXE||1191^Aspirin^RXNORM"))
    assert only(stopped, "MedicationRequest")["status"] == "stopped"
    assert only(stopped, "MedicationRequest")["id"] == drug["id"]


def dosages(*segments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = only(converted(message("RDE^O11", "ORC|NW|RX5^HIS", *segments)), "MedicationRequest")[
        "dosageInstruction"
    ]
    return found


def test_no_part_of_a_dose_is_lost_in_silence() -> None:
    """Words for a dose, an instruction without a code's name, a timing of before 2.5, two timings."""
    (words,) = dosages("RXE||1^X^L|1-2|x|tab^tablet||Take with water")
    assert words == {"text": "Take with water\n1-2 - x tablet"}
    (backwards,) = dosages("RXE||1^X^L|10|5|mg")
    assert (backwards["text"], "doseAndRate" in backwards) == ("10 - 5 mg", False), "which is meant is not guessed"
    (old,) = dosages("RXE|1^Q6H&0600,1200^^20260314^20260315^PRN|1^X^L|5||mg")
    assert old["timing"]["code"] == {"text": "Q6H"}
    assert old["timing"]["repeat"]["boundsPeriod"] == {"start": "2026-03-14", "end": "2026-03-15"}
    assert old["asNeededBoolean"] is True
    first, second = dosages("TQ1|1||BID", "TQ1|2||QHS||||||||after food", "RXE||1^X^L|5||mg")
    assert [one["timing"]["code"]["text"] for one in (first, second)] == ["BID", "QHS"]
    assert [one["sequence"] for one in (first, second)] == [1, 2]
    assert second["text"] == "after food"
    assert converted(message("RDE^O01", "ORC|NW|RX5^HIS", "RXE||1^X^L|5||mg")).kind == "RDE^O01"


@pytest.mark.parametrize(
    ("unit", "meant"),
    [
        ("10^9/L", "10^9/L"),
        ("x10^12/L", "x10^12/L"),
        ("*10^3", "*10^3"),
        ("mmol/L^millimole", "millimole"),
        ("10", "10"),
    ],
)
def test_a_power_of_ten_in_a_unit_is_not_cut_at_its_caret(unit: str, meant: str) -> None:
    made = converted(message("ORU^R01", "OBR|1||F1|X^Y^L", f"OBX|1|NM|A^B^L||5|{unit}|||||F"))
    assert only(made, "Observation")["valueQuantity"]["unit"] == meant


def test_an_ampersand_that_was_not_escaped_cuts_nothing() -> None:
    """Components of type ST have no subcomponents: a name or a number is not its first half."""
    made = converted(message("RDE^O11", "ORC|NW|RX5^HIS", "RXE||7&1^amoxicillin & clavulanate^L|5||mg"))
    drug = only(made, "MedicationRequest")["medicationCodeableConcept"]
    assert (drug["text"], drug["coding"][0]["code"]) == ("amoxicillin & clavulanate", "7&1")
    assert converted(message("ADT^A08", pid=PID.replace("10042^", "100&42^"))).patient[0] == (MRN, "100&42")


def test_a_patient_with_one_number_has_that_of_the_visit_beside_it() -> None:
    """[W18] Two identifiers stand on every screen; the second finds nobody."""
    thin = "PID|1||10042^^^HIS^MR||Wang^Xiaoming||19780302|1"
    made = converted(message("ADT^A01", PV1, pid=thin))
    assert made.patient == ((MRN, "10042"),)
    found = only(made, "Patient")["identifier"]
    assert [(one["value"], one["type"]["coding"][0]["code"]) for one in found] == [("10042", "MR"), ("V55", "VN")]
    assert "V55" not in request(made, "Patient")["url"]
    assert [one["value"] for one in only(converted(message("ADT^A01", pid=thin)), "Patient")["identifier"]] == ["10042"]
    assert "V55" not in [one["value"] for one in only(converted(message("ADT^A01", PV1)), "Patient")["identifier"]]


def test_an_account_or_visit_number_is_nobodys_record_number() -> None:
    """One authority counts each kind from one: account 10043 of patient 10042 must not be found as patient 10043."""
    visit = PV1.replace("V55^^^HIS", "10043^^^HIS")
    plain = "PID|1||10042^^^HIS^MR~10043^^^HIS^AN||Wang^Xiaoming||19780302|1"
    for pid in (plain, plain.replace("~10043^^^HIS^AN", "") + "|" * 10 + "10043^^^HIS^AN", plain.partition("~")[0]):
        made = converted(message("ADT^A01", visit, pid=pid))
        assert made.patient == ((MRN, "10042"),)
        assert (MRN, "10043") not in {(one["system"], one["value"]) for one in only(made, "Patient")["identifier"]}
    with pytest.raises(Hl7Refused) as refused:  # and by itself it names nobody
        converted(message("ADT^A01", pid=plain.replace("10042^^^HIS^MR~", "")))
    assert refused.value.code is Hl7Code.PATIENT_IDENTIFIER
    named = replace(PROFILE, authorities={**PROFILE.authorities, "HIS/AN": "urn:accounts"})
    found = only(converted(message("ADT^A01", pid=plain), named), "Patient")["identifier"]
    assert found[1]["system"] == "urn:accounts"


def test_results_of_several_patients_in_one_message_are_nobodys() -> None:
    """ORU R01 may repeat the patient; filed under the first, the second's results would be the first's."""
    result = ("OBR|1||F1|X^Y^L", "OBX|1|NM|A^B^L||1||||||F")
    with pytest.raises(Hl7Refused) as refused:
        converted(message("ORU^R01", *result, PID.replace("10042", "10043"), *result))
    assert (refused.value.code, refused.value.place) == (Hl7Code.SEGMENT, "PID")


def test_a_comma_in_a_number_asks_for_one_patient() -> None:
    """In a FHIR search a comma means "or": ``10042,77`` must not find patient 77."""
    made = converted(message("ADT^A08", pid=PID.replace("10042^", "10042,77^")))
    (_, asked) = request(made, "Patient")["url"].split("?")
    ((_name, value),) = read_condition(asked)
    (criterion,) = parse_query("Patient", [("identifier", value)]).criteria
    assert criterion.values == (TokenValue("10042,77", MRN),)


@pytest.mark.parametrize(
    ("states", "status"),
    [("F", "final"), ("FP", "preliminary"), ("AF", "amended"), ("FX", "final"), ("X", "cancelled"),
     ("WD", "entered-in-error"), ("F?", "unknown")],
)  # fmt: skip
def test_a_report_without_a_state_is_as_far_as_its_results(states: str, status: str) -> None:
    results = [f"OBX|{n}|NM|A{n}^B^L||1||||||{state}" for n, state in enumerate(states)]
    assert only(converted(message("ORU^R01", "OBR|1||F1|X^Y^L", *results)), "DiagnosticReport")["status"] == status


@pytest.mark.parametrize(
    ("availability", "completion", "status", "doc_status"),
    [("AV", "LA", "current", "final"), ("AV", "AU", "current", "final"), ("CA", "LA", "entered-in-error", "final"),
     ("OB", "DO", "superseded", "preliminary"), ("", "CA", "current", "entered-in-error")],
)  # fmt: skip
def test_states_of_a_document(availability: str, completion: str, status: str, doc_status: str) -> None:
    txa = TXA.replace("|LA|R|AV", f"|{completion}|R|{availability}")
    document = only(converted(message("MDM^T02", txa, "OBX|1|TX|T^T^L||x||||||F")), "DocumentReference")
    assert (document["status"], document["docStatus"]) == (status, doc_status)


def test_patients_are_found_by_a_known_authority_only() -> None:
    """C.2: never match on name; a number whose authority is not configured finds nobody."""
    unknown = PID.replace("10042^^^HIS^MR", "10042^^^SOMEBODY^MR").replace("330402197803020011", "")
    with pytest.raises(Hl7Refused) as refused:
        converted(message("ADT^A08", pid=unknown))
    assert (refused.value.code, refused.value.place) == (Hl7Code.PATIENT_IDENTIFIER, "PID-3")

    several = PID.replace("10042^^^HIS^MR", "S-1^^^&2.999.9&ISO^SB~10042^^^HIS^MR~9^^^SOMEBODY")
    made = converted(message("ADT^A08", pid=several))
    assert made.patient[:2] == (("urn:oid:2.999.9", "S-1"), (MRN, "10042"))
    assert [one.get("system") for one in only(made, "Patient")["identifier"]][2] is None


def test_an_empty_authority_is_the_default_one_only_for_record_numbers() -> None:
    """A social security number in the wrong component must not become somebody's record number."""
    plain = converted(message("ADT^A08", pid=PID.replace("10042^^^HIS^MR", "10042")))
    assert plain.patient[0] == (MRN, "10042")
    for other in ("10042^^^^SS", "10042^^^^^USSSA"):
        made = converted(message("ADT^A08", pid=PID.replace("10042^^^HIS^MR", other)))
        assert MRN not in dict(made.patient)


def test_test_messages_only_concern_test_patients_and_test_patients_are_tagged() -> None:
    """[W9] MSH-11 T and D."""
    test_pid = PID.replace("10042^^^HIS^MR", "TEST-1^^^HIS^MR")
    for processing in ("T", "D"):
        with pytest.raises(Hl7Refused) as refused:
            converted(message("ADT^A08", processing=processing))
        assert refused.value.code is Hl7Code.TEST_PATIENT
        assert converted(message("ADT^A08", processing=processing, pid=test_pid)).patient[0] == (MRN, "TEST-1")
    tagged = converted(message("ORU^R01", *ORU[:2], pid=test_pid))
    assert all(entry["resource"]["meta"]["tag"][0]["code"] == "HTEST" for entry in tagged.bundle["entry"])
    assert "tag" not in only(converted(message("ADT^A08")), "Patient")["meta"]


def test_the_same_bytes_are_the_same_crossing() -> None:
    one, two = (converted(message("ORU^R01", *ORU)).crossing() for _ in range(2))
    assert one == two
    assert one.key == "HIS|H1|ORU^R01|C1|20260314150926+0800"


def test_two_hospitals_never_share_a_resource() -> None:
    profiles = (PROFILE, replace(PROFILE, hospital="h-other"))
    found = [[e["resource"] for e in converted(message("ORU^R01", *ORU), one).bundle["entry"]] for one in profiles]
    ids = [{one["id"] for one in every if "id" in one} for every in found]
    assert len(ids[0]) > 10
    assert not ids[0] & ids[1]


@pytest.mark.parametrize(
    ("name", "kind", "types"),
    [
        ("ADT-A01-01.hl7", "ADT^A01", {"Patient", "Encounter", "AllergyIntolerance", "Condition"}),
        ("LAB-ORU-1.hl7", "ORU^R01", {"Patient", "DiagnosticReport", "Observation"}),
        ("MDM-T02-01.hl7", "MDM^T02", {"Patient", "Encounter", "DocumentReference"}),
        ("ORM-O01-01.hl7", "ORM^O01", {"Patient", "Encounter", "Condition", "ServiceRequest"}),
        ("RDE-O11-01.hl7", "RDE^O11", {"Patient", "Encounter", "MedicationRequest"}),
        ("REF-I12-01.hl7", "REF^I12", {"Patient", "Encounter", "ServiceRequest", "Task", "Observation", "Condition",
                                       "DiagnosticReport", "AllergyIntolerance"}),
    ],
)  # fmt: skip
def test_public_sample_messages(name: str, kind: str, types: set[str]) -> None:
    """LF line ends, two BOMs, and senders of another country."""
    profile = replace(
        PROFILE,
        authorities={"2.16.1": "urn:oid:2.16.1", "ADT1": "urn:oid:2.999.3", "1": "urn:oid:2.999.4"},
        test_patients=frozenset({("urn:oid:2.999.4", "10006579"), (MRN, "10006579")}),
    )
    made = converted(shared(f"hl7v2/{name}").read_bytes(), profile)
    assert made.kind == kind
    assert {entry["resource"]["resourceType"] for entry in made.bundle["entry"]} == types
    assert made.seen["lf"] == 1


@pytest.mark.parametrize(
    ("written", "crosses"),
    [("7.40", "7.40"), ("+07.50", "7.50"), ("-.5", "-0.5"), ("12.", "12"), ("120", "120"), ("0.00", "0.00")],
)
def test_a_number_crosses_as_precise_as_it_was_written(written: str, crosses: str) -> None:
    """R4 section 2.24.0.1: 7.40 says more than 7.4; by the mapping, the crossing's body and the hospital's policy."""
    made = converted(message("ORU^R01", "OBR|1||L1|1^Gas", f"OBX|1|NM|2744-1^pH^LN||{written}|||N|||F"))
    rules = (
        '[[out]]\nkind = "*"\ntypes = ["Observation", "Patient"]\n[fields.Observation]\nallow = ["status", "value[x]"]'
    )
    policy = parse_policy(f'version = 1\n{rules}\n[fields.Patient]\nallow = ["identifier"]', b"s" * 32)

    crossed = policy.outward("lis", made.crossing())
    for body in (made.crossing().body, crossed.crossing.body):
        assert f'"value":{crosses}' in body.decode()


def test_a_number_of_the_person_that_cannot_be_carried_refuses_the_message() -> None:
    """Escaped control characters within an identifier; the refusal names the place, never the value (G8)."""
    with pytest.raises(Hl7Refused) as refused:
        converted(message("ADT^A01", PV1).replace(b"330402197803020011", b"3304\n02197803020011"))
    assert (refused.value.code, refused.value.place) == (Hl7Code.PATIENT_IDENTIFIER, "PID")
