"""What programs are told is made from the consult's state and events, and nothing else."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest

from server.fhircast.core.notices import Notice, blamed_event, current_context, needed, notices_of, present
from server.smart.core.scopes import Scopes
from signaling.core import messages as m
from signaling.core import programs
from signaling.core.anchor import facts_of
from signaling.core.case import Known
from signaling.core.consult import apply, handle
from signaling.core.model import AnchorType, Consult, Request
from tests.signaling_kit import PATIENTS, admission, consult
from tests.signaling_world import bundle, put, request, trouble

DOC = admission("doc")
ALL = Scopes.parse("fhircast/*.*")
REPORT = {
    "resourceType": "DiagnosticReport",
    "id": "r1",
    "status": "final",
    "imagingStudy": [{"reference": "ImagingStudy/s1"}],
}
RECORD: dict[str, Any] = {
    "Patient/p1": {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"system": "urn:mrn", "value": "1"}],
        "name": [{"text": "患者"}],
        "birthDate": "1957-03-01",
        "gender": "female",
        "address": [{"text": "nobody's business"}],
        "telecom": [{"value": "13800000000"}],
    },
    "DiagnosticReport/r1": REPORT,
}


class World:
    """A consult, and what its programs have been told."""

    def __init__(self) -> None:
        self.state = consult()
        self.told: list[Notice] = []
        self.do(m.Join())

    def do(self, command: m.AnyCommand, asked: Request | None = None, at_ms: int = 1_000) -> list[Notice]:
        """The notices of a command."""
        known: dict[str, Any] = {"request": asked}
        if isinstance(command, m.OpenContext):
            known["patient"] = next(one for one in PATIENTS if one.id == command.patient)
        if isinstance(command, m.OpenAnchor):
            foreign = command.resource_type is not AnchorType.DIAGNOSTIC_REPORT
            resource = {"resourceType": command.resource_type.value, "id": command.id}
            known["anchor"] = facts_of(resource, foreign=foreign)
        return self.happen(handle(self.state, DOC, command, at_ms, Known(**known)))

    def happen(self, events: list[m.AnyEvent]) -> list[Notice]:
        now: list[Notice] = []
        for event in events:
            after = apply(self.state, event)
            now += notices_of("t1", self.state, event, after, RECORD)
            self.state = after
        self.told += now
        return now

    def anchor(self, kind: AnchorType, id_: str, asked: Request | None = None) -> list[Notice]:
        return self.do(m.OpenAnchor(context_version=self.state.context_version, resource_type=kind, id=id_), asked)


@pytest.fixture
def world() -> World:
    made = World()
    made.do(m.OpenContext(patient=PATIENTS[0].id), at_ms=1_500)
    return made


def event(notice: Notice, scopes: Scopes = ALL) -> Any:
    return notice.wire("t1", scopes)["event"]


def test_an_event_on_the_wire(world: World) -> None:
    """(H10) (H24) Who the patient is, and nothing more of them."""
    [opened] = world.told
    assert opened.wire("t1", ALL) == {
        "timestamp": "1970-01-01T00:00:01.500Z",
        "id": opened.id,
        "event": {
            "hub.topic": "t1",
            "hub.event": "Patient-open",
            "context.versionId": "1",
            "context": [
                {
                    "key": "patient",
                    "resource": {
                        "resourceType": "Patient",
                        "id": "p1",
                        "identifier": [{"system": "urn:mrn", "value": "1"}],
                        "name": [{"text": "患者"}],
                        "gender": "female",
                        "birthDate": "1957-03-01",
                    },
                }
            ],
        },
    }


def test_the_same_event_has_the_same_id_everywhere(world: World) -> None:
    """(H14) (H6) A node that comes to it later, or tells it again, tells the same; another event has another."""
    [opened] = world.told
    assert present("t1", world.state, RECORD) == [opened]
    world.do(m.CloseContext())
    again = world.do(m.OpenContext(patient=PATIENTS[0].id))[0]
    assert len({one.id for one in (opened, *world.told[1:])}) == 3
    assert again.id != opened.id
    assert world.do(m.OpenContext(patient=PATIENTS[1].id), request(7))[0].id == "q7"


def test_what_is_open_of_each_type(world: World) -> None:
    """(H6) Oldest first; what was closed is not told."""
    world.anchor(AnchorType.ENCOUNTER, "e1")
    world.anchor(AnchorType.DIAGNOSTIC_REPORT, "r1", request(2))
    now = present("t1", world.state, RECORD)
    assert [(one.name, one.id) for one in now] == [(one.name, one.id) for one in world.told]
    assert [one.at_ms for one in now] == [1_500, 1_000, 1_000]
    closing = m.CloseAnchor(context_version=world.state.context_version, resource_type=AnchorType.ENCOUNTER)
    world.do(closing)
    assert [one.name for one in present("t1", world.state, RECORD)] == ["Patient-open", "DiagnosticReport-open"]
    world.do(m.CloseContext())
    assert present("t1", world.state, RECORD) == []


def test_each_event_is_understood_alone(world: World) -> None:
    """(H12) The anchor, what it is about, and the patient; on closing too."""
    world.anchor(AnchorType.IMAGING_STUDY, "s1")
    [opened] = world.anchor(AnchorType.DIAGNOSTIC_REPORT, "r1")
    assert [one["key"] for one in opened.context] == ["report", "study", "patient"]
    assert opened.context[0]["resource"] == REPORT
    version = world.state.context_version
    [closed] = world.do(m.CloseAnchor(context_version=version, resource_type=AnchorType.DIAGNOSTIC_REPORT))
    assert (closed.name, [one["key"] for one in closed.context]) == (
        "DiagnosticReport-close",
        ["report", "study", "patient"],
    )
    *_, gone = world.do(m.CloseContext(), request(3, "Patient-close"))
    assert (gone.name, gone.id, gone.context[0]["resource"]["id"]) == ("Patient-close", "q3", "p1")


def test_a_report_brings_its_own_study_only(world: World) -> None:
    """(H12) Two studies of one patient are not to be mixed up either."""
    world.anchor(AnchorType.ENCOUNTER, "e1")
    world.anchor(AnchorType.IMAGING_STUDY, "of-another-report")
    [opened] = world.anchor(AnchorType.DIAGNOSTIC_REPORT, "r1")
    assert [one["key"] for one in opened.context] == ["report", "patient"]


@pytest.mark.parametrize("how", ["another", "close", "home", "end"])
def test_what_is_open_beside_a_patient_is_closed_with_the_patient(world: World, how: str) -> None:
    """(H12) (H27) (W19) A program that hears of studies only would go on showing the former patient's."""
    world.anchor(AnchorType.IMAGING_STUDY, "s1")
    world.anchor(AnchorType.DIAGNOSTIC_REPORT, "r1")
    told = {
        "another": lambda: world.do(m.OpenContext(patient=PATIENTS[1].id), request(6)),
        "close": lambda: world.do(m.CloseContext()),
        "home": lambda: world.do(m.CloseContext(), request(6, "Home-open")),
        "end": lambda: world.do(m.EndConsult()),
    }[how]()
    names = [one.name for one in told]
    assert names[:2] == ["DiagnosticReport-close", "ImagingStudy-close"]
    assert names[2] == {"another": "Patient-open"}.get(how, "Patient-close")
    assert [one.context[0]["resource"]["id"] for one in told[:2]] == ["r1", "s1"]
    assert {one.context[-1]["resource"]["id"] for one in told[:2]} == {"p1"}
    assert len({one.id for one in told}) == len(told)


def test_going_home_closes_first(world: World) -> None:
    """(H14) The request's own event has its id."""
    closed, home = world.do(m.CloseContext(), request(4, "Home-open"))
    assert (closed.name, home.name, home.id, home.context) == ("Patient-close", "Home-open", "q4", ())
    assert closed.id != "q4"


@pytest.mark.parametrize(
    ("scopes", "keys"),
    [
        ("fhircast/*.read", ["report", "study", "patient"]),
        ("fhircast/DiagnosticReport-open.read", ["report"]),
        ("fhircast/DiagnosticReport-open.read fhircast/patient-open.*", ["report", "patient"]),
    ],
)
def test_only_resources_that_the_scopes_cover(world: World, scopes: str, keys: list[str]) -> None:
    """(H23)"""
    world.anchor(AnchorType.IMAGING_STUDY, "s1")
    [opened] = world.anchor(AnchorType.DIAGNOSTIC_REPORT, "r1")
    assert [one["key"] for one in event(opened, Scopes.parse(scopes))["context"]] == keys


def test_content_names_both_versions(world: World) -> None:
    """(H25)"""
    [opened] = world.anchor(AnchorType.DIAGNOSTIC_REPORT, "r1")
    assert event(opened)["context.versionId"] == "2"
    [shared] = world.do(m.ShareContent(report="r1", version="2", bundle=bundle(put("k1"))), request(5))
    told = event(shared)
    assert (told["hub.event"], told["context.versionId"], told["context.priorVersionId"]) == (
        "DiagnosticReport-update",
        "2.1",
        "2",
    )
    assert [one["key"] for one in told["context"]] == ["report", "patient", "updates"]
    select = m.SelectContent(context_version=2, report="r1", selected=("Observation/k1",))
    assert event(world.do(select)[0])["context"][2] == {"key": "select", "reference": {"reference": "Observation/k1"}}
    # (H6) Whoever comes later is told the version that an update must name now.
    assert present("t1", world.state, RECORD)[1].version == "2.1"


def test_the_current_context(world: World) -> None:
    """(H26) (H23)"""
    world.anchor(AnchorType.DIAGNOSTIC_REPORT, "r1")
    world.do(m.ShareContent(report="r1", version="2", bundle=bundle(put("k1"))))
    now = current_context(world.state, "t1", RECORD, ALL)
    assert (now["context.type"], now["context.versionId"]) == ("DiagnosticReport", "2.1")
    assert [one["key"] for one in now["context"]] == ["report", "patient", "content"]
    content = now["context"][2]["resource"]
    assert content["type"] == "collection"
    assert [list(one) for one in content["entry"]] == [["resource"]]
    none = current_context(world.state, "t1", RECORD, Scopes.parse("fhircast/Patient-open.read"))
    assert (none["context.type"], none["context"]) == ("", [])
    part = current_context(world.state, "t1", RECORD, Scopes.parse("fhircast/DiagnosticReport-open.read"))
    assert [one["key"] for one in part["context"]] == ["report", "content"]
    assert part["context"][1]["resource"]["entry"] == []


def test_what_is_closed_makes_nothing_current(world: World) -> None:
    """(H27) Closing the second patient does not bring back the first."""
    assert current_context(world.state, "t1", RECORD, ALL)["context.type"] == "Patient"
    world.do(m.OpenContext(patient=PATIENTS[1].id))
    world.do(m.CloseContext())
    now = current_context(world.state, "t1", RECORD, ALL)
    assert now == {"context.type": "", "context.versionId": "3", "context": []}


def test_a_sync_error(world: World) -> None:
    """(H17) For all but the one it is about."""
    [error] = world.happen(programs.out_of_step(world.state, trouble(), 9_000))
    assert (error.name, error.skip) == ("SyncError", "f1")
    [issue] = error.context[0]["resource"]["issue"]
    assert (issue["severity"], issue["code"]) == ("warning", "processing")
    systems = [one["system"] for one in issue["details"]["coding"]]
    assert systems == [
        f"https://fhircast.hl7.org/events/syncerror/{name}" for name in ("eventid", "eventname", "subscriber")
    ]
    assert "PACS" in issue["diagnostics"]


def test_what_a_subscribers_sync_error_is_about() -> None:
    """(H16)"""
    system = "https://fhircast.hl7.org/events/syncerror/"
    coding = [{"system": system + "eventid", "code": "e1"}, {"system": system + "eventname", "code": "Patient-open"}]
    outcome = {"resourceType": "OperationOutcome", "issue": [{"details": {"coding": coding}}]}
    assert blamed_event([{"key": "operationoutcome", "resource": outcome}]) == ("e1", "Patient-open", "")
    for broken in ([], [{"key": "x"}], [{"key": "x", "resource": {"issue": [{"details": {"coding": "e1"}}]}}]):
        assert blamed_event(broken) is None


def test_leaving_and_ending(world: World) -> None:
    """(H30) A person's own programs hear of their leaving; the end closes the patient first, for all."""
    other = World()
    other.happen(handle(other.state, admission("doc2"), m.Join(), 1))
    left = m.ParticipantLeft(revision=other.state.revision + 1, at_ms=5, participant=admission("doc2").participant)
    [told] = other.happen([left])
    assert (told.name, told.only) == ("UserLogout", "doc2")
    assert [(one.name, one.only) for one in world.do(m.EndConsult())] == [("Patient-close", None), ("UserLogout", None)]


def test_what_is_looked_up(world: World) -> None:
    """Of the record, what is in the record; what a program described is in the state."""
    world.anchor(AnchorType.IMAGING_STUDY, "s1")
    world.anchor(AnchorType.DIAGNOSTIC_REPORT, "r1")
    assert needed(world.state) == ["Patient/p1", "DiagnosticReport/r1"]
    assert needed(consult()) == []
    bare = present("t1", world.state, {})
    patient = bare[0].context[0]["resource"]
    assert (patient["id"], [one["value"] for one in patient["identifier"]]) == ("p1", ["p1", "xp1"])


def test_most_events_are_nobodys_business_outside(world: World) -> None:
    """[PR2] Pages, leads, media and marks are not told."""
    state: Consult = world.state
    events = [m.LeadChanged(revision=state.revision + 1, at_ms=1, lead=None)]
    assert notices_of("t1", state, events[0], reduce(apply, events, state), RECORD) == []
