"""The way back: what the hub sends as ORU and MDM, read by our own parser and by a foreign one."""

import base64
from dataclasses import replace
from typing import Any

import hl7
import pytest

from server.gateway.hl7v2.message import Message, parse
from server.gateway.hl7v2.outgoing import CannotBuild, Destination, build, control_id, dtm
from tests.hl7v2_kit import MRN

TO = Destination(application="HIS", facility="H1", authorities={MRN: "HIS&2.999.1.1&ISO"})
PATIENT = ((MRN, "10042"), ("http://example.org/national-id", "3304"))
PDF = base64.b64encode(b"%PDF-1.7 opinion").decode()
REPORT = {
    "resourceType": "DiagnosticReport",
    "id": "r1",
    "status": "final",
    "identifier": [{"system": "urn:hub", "value": "OP-9"}],
    "code": {"coding": [{"system": "http://loinc.org", "code": "11488-4", "display": "Consult note"}]},
    "effectiveDateTime": "2026-03-14T15:00:00+08:00",
    "issued": "2026-03-14T07:10:00.123Z",
    "resultsInterpreter": [{"display": "李 & Partner"}],
    "conclusion": "Chest | pain\nlikely ^ cardiac ~ 1\\2",
    "presentedForm": [{"contentType": "application/pdf", "data": PDF, "title": "Opinion"}],
}
OBSERVATION = {
    "resourceType": "Observation", "id": "o1", "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "6598-7", "display": "Troponin T"}]},
    "valueQuantity": {"comparator": "<", "value": 0.01, "unit": "ng/mL"},
    "interpretation": [{"coding": [{"code": "N"}]}], "referenceRange": [{"text": "<=0.014"}],
}  # fmt: skip
PERSON = {
    "resourceType": "Patient", "id": "p", "name": [{"family": "王", "given": ["小明"]}], "birthDate": "1978-03-02",
    "gender": "male",
}  # fmt: skip


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": one} for one in resources]}


def built(kind: str, *resources: dict[str, Any], to: Destination = TO) -> bytes:
    return build(kind, bundle(*resources), PATIENT, "key-1", 1_773_472_166_000_000, to)


def read(data: bytes) -> Message:
    return parse(data, default_charset="UNICODE UTF-8")


def test_an_opinion_becomes_an_oru_with_its_pdf() -> None:
    found = read(built("ORU^R01", PERSON, REPORT, OBSERVATION))

    msh, pid, obr = found.msh, found.first("PID"), found.first("OBR")
    assert pid is not None
    assert obr is not None
    assert [msh.v(n) for n in (3, 5, 6, 10, 12)] == ["CONSILIUM", "HIS", "H1", control_id("key-1"), "2.5.1"]
    assert [msh.v(9, n) for n in (1, 2, 3)] == ["ORU", "R01", "ORU_R01"]
    assert len(control_id("key-1")) == 20
    assert [(cx.c(1), cx.c(4), cx.c(4, 2), cx.c(5)) for cx in pid.all(3)] == [("10042", "HIS", "2.999.1.1", "MR")]
    assert [pid.v(5), pid.v(5, 2), pid.v(7), pid.v(8)] == ["王", "小明", "19780302", "M"]
    assert [obr.v(3), obr.v(4), obr.v(4, 3), obr.v(7), obr.v(22), obr.v(25)] == [
        "OP-9", "11488-4", "LN", "20260314150000+0800", "20260314071000.123+0000", "F"
    ]  # fmt: skip
    assert obr.v(32, 1, 2) == "李 & Partner"
    result, conclusion, form = found.named("OBX")
    assert [result.v(2), result.v(5), result.v(5, 2), result.v(7), result.v(8)] == ["SN", "<", "0.01", "<=0.014", "N"]
    assert conclusion.first(5).text() == REPORT["conclusion"]
    assert [form.v(2), form.v(5, 2), form.v(5, 3), form.v(5, 4), form.v(5, 5)] == [
        "ED", "application", "pdf", "Base64", PDF
    ]  # fmt: skip


def test_a_document_becomes_an_mdm_with_text_from_a_binary() -> None:
    text = {"resourceType": "Binary", "id": "b1", "contentType": "text/plain",
            "data": base64.b64encode("第一行\n第二行".encode()).decode()}  # fmt: skip
    document = {
        "resourceType": "DocumentReference", "id": "d1", "status": "current", "docStatus": "final",
        "masterIdentifier": {"value": "DOC-1"}, "type": {"text": "会诊意见"}, "date": "2026-03-14T15:00:00+08:00",
        "content": [{"attachment": {"url": "Binary/b1", "title": "意见"}}],
    }  # fmt: skip
    found = read(built("MDM^T02", document, text, to=replace(TO, charset="GB 18030-2000")))

    assert found.charset == "GB 18030-2000"
    assert [segment.name for segment in found.segments] == ["MSH", "EVN", "PID", "PV1", "TXA", "OBX"]
    txa, obx = found.first("TXA"), found.first("OBX")
    assert txa is not None
    assert obx is not None
    assert [txa.v(2, 2), txa.v(12), txa.v(17), txa.v(19)] == ["会诊意见", "DOC-1", "AU", "AV"]
    assert obx.first(5).text() == "第一行\n第二行"


VALUES = (
    ({"valueInteger": 7}, "NM", "7"), ({"valueQuantity": {"value": 0.00001}}, "NM", "0.00001"),
    ({"valueBoolean": True}, "CWE", "Y^Yes^HL70136"), ({"valueDateTime": "2026-03-14"}, "TS", "20260314"),
    ({"valueRange": {"low": {"value": 1, "unit": "mm"}, "high": {"value": 2}}}, "SN", "^1^-^2"),
    ({"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 160}}}, "SN", "^1^:^160"),
)  # fmt: skip


@pytest.mark.parametrize(("value", "kind", "written"), VALUES)
def test_values_of_every_kind_reach_the_hospital(value: dict[str, Any], kind: str, written: str) -> None:
    plain = {name: one for name, one in OBSERVATION.items() if name != "valueQuantity"}
    (result, *_) = read(built("ORU^R01", REPORT, plain | value)).named("OBX")
    assert (result.v(2), result.raw(5)) == (kind, written)


def test_components_go_as_lines_of_one_sub_id_and_pages_keep_theirs() -> None:
    pressure = {
        "resourceType": "Observation", "id": "bp", "status": "final", "code": {"text": "Blood pressure"},
        "component": [{"code": {"text": "systolic"}, "valueQuantity": {"value": 121, "unit": "mmHg"}},
                      {"code": {"text": "diastolic"}, "valueQuantity": {"value": 79, "unit": "mmHg"}}],
    }  # fmt: skip
    two = REPORT | {"presentedForm": [{"data": PDF, "title": "Opinion"}, {"data": PDF, "title": "Opinion"}]}
    lines = list(read(built("ORU^R01", two, pressure, OBSERVATION)).named("OBX"))
    assert [line.v(1) for line in lines] == [str(n) for n in range(1, len(lines) + 1)]
    assert [(line.v(3, 2), line.v(4), line.v(5), line.v(11)) for line in lines[:2]] == [
        ("systolic", "1", "121", "F"), ("diastolic", "1", "79", "F")
    ]  # fmt: skip
    keys = [(line.raw(3), line.raw(4)) for line in lines]
    assert len(keys) == len(set(keys)), "two pages under one code would be one"


@pytest.mark.parametrize(
    ("said", "completion"),
    [({}, "DO"), ({"docStatus": "final"}, "AU"), ({"docStatus": "final", "authenticator": {"display": "D"}}, "LA"),
     ({"docStatus": "preliminary"}, "IN"), ({"docStatus": "entered-in-error"}, "CA")],
)  # fmt: skip
def test_nothing_is_called_authenticated_that_nobody_called_final(said: dict[str, Any], completion: str) -> None:
    document = {"resourceType": "DocumentReference", "id": "d", "content": [{"attachment": {"data": PDF}}], **said}
    txa = read(built("MDM^T02", document)).first("TXA")
    assert txa is not None
    assert txa.v(17) == completion


def test_a_foreign_parser_reads_the_same_message() -> None:
    found = hl7.parse(built("ORU^R01", PERSON, REPORT).decode())
    assert str(found.segment("PID")[3][0][0]) == "10042"
    assert found.unescape(str(found.segments("OBX")[0][5])) == str(REPORT["conclusion"]).replace("\n", "\r")


def test_the_same_crossing_is_the_same_message() -> None:
    assert built("ORU^R01", PERSON, REPORT) == built("ORU^R01", PERSON, REPORT)


@pytest.mark.parametrize(
    ("resources", "to"),
    [
        ((PERSON,), TO),
        ((PERSON, REPORT), replace(TO, authorities={})),
        ((PERSON, REPORT), replace(TO, charset="ASCII")),
        ((REPORT | {"status": "entered-in-error"},), TO),
        ((REPORT | {"presentedForm": [{"url": "Binary/elsewhere"}]},), TO),
        ((REPORT | {"presentedForm": [{"data": "PGh0bWw+"}]},), TO),
        ((REPORT | {"presentedForm": [{"data": "%%%"}]},), TO),
        ((REPORT, OBSERVATION | {"valueQuantity": None, "valueRatio": {}}), TO),
        ((REPORT | {"code": ["no object"]},), TO),
    ],
)
def test_what_the_receiver_could_misread_is_refused(resources: tuple[dict[str, Any], ...], to: Destination) -> None:
    with pytest.raises(CannotBuild):
        built("ORU^R01", *resources, to=to)


def test_times_go_back_with_their_precision() -> None:
    assert [dtm(value) for value in ("2026", "2026-03", "2026-03-14", "2026-03-14T01:02:03Z", "yesterday", "")] == [
        "2026", "202603", "20260314", "20260314010203+0000", "", ""
    ]  # fmt: skip
