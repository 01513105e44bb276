"""What programs send: forms, events, answers; and whom they mean."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from server.api.fhircast import socket_url
from server.fhircast.core import names
from server.fhircast.core.match import (
    check_subject,
    claimed_anchor,
    claimed_patient,
    find_anchor,
    find_patient,
    foreign_anchor,
)
from server.fhircast.core.refusals import HubRefusal
from server.fhircast.core.requests import (
    Answer,
    EventRequest,
    Subscribe,
    Unsubscribe,
    read_answer,
    read_event,
    read_form,
    read_timestamp,
)
from server.settings import SettingsError, load_settings

FORM = {
    "hub.channel.type": "websocket",
    "hub.mode": "subscribe",
    "hub.topic": "t1",
    "hub.events": "Patient-open,PATIENT-OPEN, patient-close,Unheard-of",
    "hub.lease_seconds": "600",
    "subscriber.name": " Acme\n PACS ",
}


def form(**changes: str | None) -> str:
    """The form with fields changed (``__`` for dots) or, for None, left out."""
    fields = FORM | {name.replace("__", "."): value for name, value in changes.items()}
    return urlencode({name: value for name, value in fields.items() if value is not None})


def refusal(body: str) -> HubRefusal:
    with pytest.raises(HubRefusal) as refused:
        read_form(body)
    return refused.value


def test_a_subscription_is_read() -> None:
    """(H1) Events are a set and fold case; those that this hub does not have are left out (H4)."""
    assert read_form(form()) == Subscribe(
        topic="t1", events=("Patient-open", "Patient-close"), lease_s=600, endpoint=None, name="Acme PACS"
    )
    bare = read_form(form(hub__lease_seconds=None, subscriber__name=None))
    assert isinstance(bare, Subscribe)
    assert (bare.lease_s, bare.name) == (None, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"hub__channel__type": None},
        {"hub__channel__type": "webhook"},
        {"hub__mode": "follow"},
        {"hub__mode": None},
        {"hub__topic": None},
        {"hub__topic": "x" * 129},
        {"hub__events": None},
        {"hub__events": "Unheard-of"},
        {"hub__events": ",".join(["Patient-open"] * 65)},
        {"hub__lease_seconds": "0"},
        {"hub__lease_seconds": "-5"},
        {"hub__lease_seconds": "1e3"},
        {"hub__lease_seconds": "９"},
    ],
)
def test_a_bad_subscription_is_refused_with_a_reason(changes: dict[str, str | None]) -> None:
    """(H1) (H3)"""
    refused = refusal(form(**changes))
    assert refused.status == 400
    assert refused.text.startswith("malformed: ")
    assert len(refused.text) > 20


def test_no_parameter_twice() -> None:
    """(H1)"""
    assert refusal(form() + "&hub.topic=t2").code == "malformed"
    assert refusal("\x00 not a form").code == "malformed"


def test_unsubscribing_names_its_endpoint() -> None:
    """(H8)"""
    url = "wss://hub/fhircast/ws/abc\n"
    asked = read_form(form(hub__mode="unsubscribe", hub__channel__endpoint=url))
    assert asked == Unsubscribe(topic="t1", endpoint="wss://hub/fhircast/ws/abc")
    assert refusal(form(hub__mode="unsubscribe")).code == "malformed"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("patient-OPEN", "Patient-open"),
        ("diagnosticreport-update", "DiagnosticReport-update"),
        ("SYNCERROR", "SyncError"),
        ("userlogout", "UserLogout"),
        ("home-open", "Home-open"),
        ("org.example.wave_marker", "org.example.wave_marker"),
        ("org.example.patient-open", None),
        ("Observation-open", None),
        ("Patient-open.", None),
        ("patient", None),
        ("", None),
        ("org." + "x" * 80, None),
    ],
)
def test_names_of_events(given: str, name: str | None) -> None:
    """(H11) Own events are reverse domains without a dash."""
    assert names.canonical(given) == name


def test_who_must_answer() -> None:
    """(H20) Never to an update or a selection."""
    assert names.is_answered("Patient-close")
    assert names.is_answered("UserLogout")
    for name in ("DiagnosticReport-update", "DiagnosticReport-select", "SyncError", "org.example.mark"):
        assert not names.is_answered(name)


def body(**event: Any) -> dict[str, Any]:
    inner = {"hub.topic": "t1", "hub.event": "patient-open", "context": [{"key": "patient", "resource": {}}], **event}
    return {"timestamp": "2026-01-08T01:40:05.140Z", "id": "q1", "event": inner}


def test_an_event_is_read() -> None:
    """(H10)"""
    request = read_event(body(**{"context.versionId": "7.1"}))
    assert (request.id, request.topic, request.name, request.version) == ("q1", "t1", "Patient-open", "7.1")
    assert request.resource("patient") == {}
    assert read_event(body(versionId="8")).version == "8"


@pytest.mark.parametrize(
    "broken",
    [
        {"timestamp": "2026-01-08T01:40:05Z", "id": "q1"},
        body() | {"id": ""},
        body() | {"id": 7},
        body() | {"id": "x" * 129},
        body() | {"timestamp": "yesterday"},
        body() | {"timestamp": None},
        body(**{"hub.topic": None}),
        body(**{"hub.event": "Observation-open"}),
        body(context={"key": "patient"}),
        body(context=["patient"]),
        body(context=[{"resource": {}}]),
        body(context=[{"key": "a"}] * 33),
    ],
)
def test_a_bad_event_is_refused(broken: dict[str, Any]) -> None:
    """(H3) (H10)"""
    with pytest.raises(HubRefusal) as refused:
        read_event(broken)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:01.500Z", 1_500),
        ("1970-01-01T00:00:01.5", 1_599),
        ("1970-01-01T00:00:01Z", 1_999),
        ("1970-01-01T00:00:01.123456789Z", 1_123),
        ("1970-01-01T01:00:01.000+01:00", 1_000),
        ("1970-01-01 00:01", 119_999),
    ],
)
def test_a_timestamp_is_the_last_moment_it_can_mean(text: str, ms: int) -> None:
    """(H10) (H21) Without a zone it is UTC; a whole second is not older than half of it."""
    assert read_timestamp(text) == ms


@pytest.mark.parametrize("text", ["1970-13-01T00:00:00Z", "1970-01-01", "01/02/2026 10:00", "1970-01-01T25:00:00Z"])
def test_what_is_no_timestamp(text: str) -> None:
    """(H10)"""
    with pytest.raises(HubRefusal):
        read_timestamp(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"id": "a", "status": 200}', Answer("a", 200)),
        ('{"id": "a", "status": "200"}', Answer("a", 200)),
        ('{"id": "a", "status": "409", "diagnostics": "no"}', Answer("a", 409)),
        ('{"id": "a", "timestamp": "2026-01-08T01:40:05.140Z"}', Answer("a", 202)),
        ('{"id": "a", "status": "OK"}', None),
        ('{"id": "a", "status": true}', None),
        ('{"id": "a", "status": 99}', None),
        ('{"status": 200}', None),
        ('["a", 200]', None),
        ("{", None),
        ("[" * 100_000, None),
    ],
)
def test_an_answer_by_number_or_by_digits(text: str, answer: Answer | None) -> None:
    """(H15) Without a status it was received, no more (H16)."""
    assert read_answer(text) == answer


def test_sockets_are_under_tls_wherever_we_are() -> None:
    """(H29) Plain only on this machine: settings refuse any other origin without TLS."""
    assert socket_url("https://hub.hospital.cn", "abc") == "wss://hub.hospital.cn/fhircast/ws/abc"
    assert socket_url("http://localhost:8440", "abc") == "ws://localhost:8440/fhircast/ws/abc"
    with pytest.raises(SettingsError):
        load_settings({}, public_origins="http://hub.hospital.cn")


# ---------------------------------------------------------------- whom

OURS = {
    "resourceType": "Patient",
    "id": "pt1",
    "birthDate": "1948-03-09",
    "gender": "female",
    "identifier": [{"system": "urn:mrn", "value": "1"}, {"value": "2"}],
}
SECOND = {**OURS, "id": "pt2", "birthDate": "1950-01-01", "identifier": [{"system": "urn:mrn", "value": "2"}]}


def opened(patient: Any, name: str = "Patient-open", **more: Any) -> EventRequest:
    context = [{"key": "patient", "resource": patient}, *({"key": key, "resource": one} for key, one in more.items())]
    return read_event(body(**{"hub.event": name, "context": context}))


@pytest.mark.parametrize(
    "patient",
    [
        None,
        {"resourceType": "Observation", "id": "k"},
        {**OURS, "id": None},
        {**OURS, "identifier": []},
        {**OURS, "identifier": [{"system": "urn:mrn"}]},
    ],
)
def test_a_patient_needs_id_and_identifier(patient: Any) -> None:
    """(H24)"""
    with pytest.raises(HubRefusal) as refused:
        claimed_patient(opened(patient))
    assert refused.value.status == 400


def test_closing_needs_no_identifier() -> None:
    """(H24)"""
    bare = {"resourceType": "Patient", "id": "pt1"}
    assert find_patient(claimed_patient(opened(bare, "Patient-close")), [OURS, SECOND]) == OURS


@pytest.mark.parametrize(
    "claim",
    [
        {"id": "elsewhere", "identifier": [{"system": "urn:mrn", "value": "1"}]},
        {"id": "pt1", "identifier": [{"value": "2"}], "birthDate": "1948-03-09", "gender": "unknown"},
    ],
)
def test_the_patient_is_found_by_identifiers(claim: Any) -> None:
    """(H24) Another system's id does not matter."""
    assert find_patient(claim, [OURS, SECOND]) == OURS


@pytest.mark.parametrize(
    ("claim", "status"),
    [
        ({"id": "pt1", "identifier": [{"system": "urn:mrn", "value": "9"}]}, 409),
        ({"id": "pt9", "identifier": [{"system": "urn:mrn", "value": "9"}]}, 404),
        ({"id": "pt9", "identifier": [{"value": "1"}]}, 404),
        ({"id": "pt1", "identifier": [{"system": "urn:mrn", "value": "2"}]}, 409),
        ({"id": "pt1", "identifier": [{"system": "urn:mrn", "value": "1"}], "birthDate": "1948-03-10"}, 409),
        ({"id": "pt1", "identifier": [{"system": "urn:mrn", "value": "1"}], "gender": "male"}, 409),
        ({"id": "pt1", "identifier": [{"system": "urn:mrn", "value": str(n)} for n in (1, 2)]}, 409),
        ({"id": "pt9", "identifier": [{"value": "2"}, {"system": "urn:mrn", "value": "9"}]}, 409),
    ],
)
def test_somebody_else_is_refused(claim: Any, status: int) -> None:
    """(H24) Neither our id with another's or no identifiers, nor identifiers of two, nor another birth date."""
    with pytest.raises(HubRefusal) as refused:
        find_patient(claim, [OURS, SECOND])
    assert refused.value.status == status


def test_a_foreign_resource_becomes_our_patients() -> None:
    """[AN1] Its references use the other system's id; text that could show another name is left out."""
    study = {
        "resourceType": "ImagingStudy",
        "id": "s1",
        "description": "CT",
        "subject": {"reference": "Patient/x"},
        "text": "<div/>",
    }
    facts = foreign_anchor(study, "pt1", {"Encounter": "e7"})
    assert facts.resource is not None
    assert (facts.label, facts.resource["subject"]) == ("CT", {"reference": "Patient/pt1"})
    assert facts.resource["encounter"] == {"reference": "Encounter/e7"}
    assert "text" not in facts.resource
    report = {"resourceType": "DiagnosticReport", "id": "r1", "imagingStudy": [{"reference": "ImagingStudy/theirs"}]}
    described = foreign_anchor(report, "pt1", {"ImagingStudy": "s1"}).resource
    assert described is not None
    assert described["imagingStudy"] == [{"reference": "ImagingStudy/s1"}]


@pytest.mark.parametrize(
    "subject",
    [
        {"subject": {"reference": "Patient/y"}},
        {"subject": {"reference": "https://elsewhere.example/Patient/x"}},
        {"subject": {"identifier": {"system": "urn:mrn", "value": "9"}}},
        {"subject": "Patient/x"},
        {"patient": {"reference": "Patient/y"}},
        {"patient": {"reference": "Patient/y"}, "subject": {"reference": "Patient/x"}},
        {"patient": {"reference": "Patient/x"}, "subject": {"reference": "Patient/y"}},
    ],
)
def test_a_resource_of_somebody_else(subject: Any) -> None:
    """[AN1] (W19) Whatever way it says whose it is."""
    claim = {"id": "x", "identifier": [{"system": "urn:mrn", "value": "1"}]}
    with pytest.raises(HubRefusal) as refused:
        check_subject({"resourceType": "ImagingStudy", "id": "s1", **subject}, claim, "pt1")
    assert (refused.value.status, refused.value.code) == (409, "wrong_patient")
    check_subject({"subject": {"reference": "Patient/x", "identifier": claim["identifier"][0]}}, claim, "pt1")
    check_subject({"patient": {"reference": "Patient/pt1"}}, claim, "pt1")


def uid(value: str) -> Any:
    return {"identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{value}"}]}


STUDY = {"resourceType": "ImagingStudy", "id": "s1", **uid("1.2.3")}


def test_a_study_is_found_by_its_uid() -> None:
    """[AN1] (H24) Our id or another system's; an id that another system gave to something else is a coincidence."""
    assert find_anchor({"id": "theirs", **uid("1.2.3")}, "pt1", [("pt1", STUDY)]) == STUDY
    assert find_anchor({"id": "s1"}, "pt1", [("pt1", STUDY)]) == STUDY
    assert find_anchor({"id": "s1", **uid("9.9")}, "pt2", [("pt1", STUDY)]) is None
    assert find_anchor({"id": "s9"}, "pt1", []) is None


@pytest.mark.parametrize(
    ("resource", "patient", "code"),
    [
        ({"id": "s1"}, "pt2", "wrong_patient"),
        ({"id": "theirs", **uid("1.2.3")}, "pt2", "wrong_patient"),
        ({"id": "s1", **uid("9.9")}, "pt1", "identifiers_wrong"),
        ({"id": "s2", **uid("1.2.3")}, "pt1", "identifiers_wrong"),
    ],
)
def test_a_study_of_somebody_else_is_refused(resource: Any, patient: str, code: str) -> None:
    """[AN1] (H24) (W19)"""
    candidates = [("pt1", STUDY), ("pt1", {"resourceType": "ImagingStudy", "id": "s2"})]
    with pytest.raises(HubRefusal) as refused:
        find_anchor(resource, patient, [one for one in candidates if one[1]["id"] != "s2" or resource["id"] == "s2"])
    assert (refused.value.status, refused.value.code) == (409, code)


@pytest.mark.parametrize(
    ("resource", "status"),
    [
        (None, 400),
        ({"resourceType": "Encounter", "id": "e"}, 400),
        ({"resourceType": "ImagingStudy"}, 400),
        ({"resourceType": "ImagingStudy", "id": "s", "note": "x" * 20_000}, 413),
        ({"resourceType": "ImagingStudy", "id": "s", "a": [[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]]}, 413),
    ],
)
def test_a_resource_that_is_none(resource: Any, status: int) -> None:
    """(H12) (H25)"""
    with pytest.raises(HubRefusal) as refused:
        claimed_anchor(opened(OURS, "ImagingStudy-open", study=resource), "ImagingStudy")
    assert refused.value.status == status
