"""What is open beside the patient, what is shared under a report, and programs that do not follow."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest

from signaling.core import messages as m
from signaling.core import programs
from signaling.core.anchor import facts_of, opened_by_turning
from signaling.core.case import Known
from signaling.core.consult import apply, handle
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ParticipantId
from signaling.core.model import AnchorType, Consult, Page, Role, View
from tests.signaling_kit import PATIENTS, admission, bind_device, consult, produce_data, waveform
from tests.signaling_world import bundle, put, request, trouble

DOC = admission("doc")
MONITOR = admission("monitor", Role.DEVICE, simulated=True)
REPORT = AnchorType.DIAGNOSTIC_REPORT
STUDY = AnchorType.IMAGING_STUDY


def ask(state: Consult, command: m.AnyCommand, who: Any = DOC, at_ms: int = 100, **known: Any) -> Consult:
    """The state after a command."""
    if isinstance(command, m.OpenAnchor):
        kind = command.resource_type.value
        known.setdefault("anchor", facts_of({"resourceType": kind, "id": command.id, "description": "Thorax"}))
    if isinstance(command, m.OpenContext):
        known["patient"] = next(patient for patient in PATIENTS if patient.id == command.patient)
    return reduce(apply, handle(state, who, command, at_ms, Known(**known)), state)


@pytest.fixture
def opened() -> Consult:
    """A doctor is here, a patient is open under version 1."""
    return ask(ask(consult(), m.Join()), m.OpenContext(patient=PATIENTS[0].id))


def anchor(kind: AnchorType = REPORT, id_: str = "r1", version: int = 1) -> m.OpenAnchor:
    return m.OpenAnchor(context_version=version, resource_type=kind, id=id_)


def refused(state: Consult, command: m.AnyCommand, who: Any = DOC, **known: Any) -> ErrorCode:
    with pytest.raises(Refusal) as refusal:
        ask(state, command, who, **known)
    return refusal.value.code


def test_an_anchor_raises_the_version_and_is_current(opened: Consult) -> None:
    """[AN1] [AN2] (H21)"""
    state = ask(opened, anchor(), at_ms=200)
    assert state.context is not None
    assert (state.context.version, state.context_version, state.current) == (2, 2, "DiagnosticReport")
    assert state.context.patient == PATIENTS[0]
    assert (state.anchors["DiagnosticReport"].label, state.context_changed_at_ms) == ("Thorax", 200)
    assert state.participants[ParticipantId("doc")].context_seen < state.context.version


def test_only_a_resource_of_the_open_patient(opened: Consult) -> None:
    """[AN1] What is absent and what is another patient's are the same."""
    assert refused(opened, anchor(), anchor=None) is ErrorCode.NOT_FOUND
    other = facts_of({"resourceType": "DiagnosticReport", "id": "r2"})
    assert refused(opened, anchor(), anchor=other) is ErrorCode.NOT_FOUND
    assert refused(opened, anchor(version=7)) is ErrorCode.CONTEXT_CHANGED
    assert refused(ask(opened, m.CloseContext()), anchor(version=2)) is ErrorCode.CONTEXT_CHANGED


def test_what_closes_makes_nothing_else_current(opened: Consult) -> None:
    """[AN3] (H27) The study stays open, and nobody is made to look at it."""
    state = ask(ask(opened, anchor(STUDY, "s1")), anchor(version=2))
    closed = ask(state, m.CloseAnchor(context_version=3, resource_type=REPORT))
    assert (closed.current, list(closed.anchors), closed.context_version) == (None, ["ImagingStudy"], 4)
    other = ask(state, m.CloseAnchor(context_version=3, resource_type=STUDY))
    assert other.current == "DiagnosticReport"
    nothing = m.CloseAnchor(context_version=3, resource_type=AnchorType.ENCOUNTER)
    assert ask(state, nothing) == state


def test_another_patient_takes_all_of_it_away(opened: Consult) -> None:
    """[AN1] (W24)"""
    state = ask(ask(opened, anchor()), m.OpenContext(patient=PATIENTS[1].id))
    assert (state.anchors, state.content, state.current, list(state.opens)) == ({}, None, "Patient", ["Patient"])
    assert ask(state, m.EndConsult()).current is None


def test_the_device_stays_bound_and_marks_stay(opened: Consult) -> None:
    """[AN2] A report is opened while the trace runs: nobody has to go to the bedside for that."""
    state = ask(ask(opened, m.Join(), MONITOR), bind_device())
    data = m.DataProduced(data_producer="d1")  # type: ignore[arg-type]
    known = {"patient": PATIENTS[0], "media": data, "media_epoch": 0}
    state = ask(state, produce_data(waveform()), MONITOR, **known)
    mark = {"id": "k", "stream_id": 7, "context_version": 1, "kind": "note", "lead": "II", "from_us": 1, "from_uv": 0}
    state = ask(state, m.PutEcgMark.model_validate({"mark": mark}))
    state = ask(state, m.FreezeEcg(stream_id=7, context_version=1, at_us=1))
    after = ask(state, anchor())
    assert {one.context_version for one in (*after.bindings.values(), *after.ecg_marks.values())} == {2}
    assert after.bindings.keys() == state.bindings.keys() == {"monitor"}
    assert after.data_producers == state.data_producers != {}
    assert after.ecg_freeze is None


def test_what_is_open_is_opened_again(opened: Consult) -> None:
    """[AN4] [CX2] Told on for a program, a version of its own only when something else was looked at."""
    again = m.OpenContext(patient=PATIENTS[0].id)
    assert ask(opened, again) == opened
    told = ask(opened, again, request=request(1), at_ms=300)
    assert (told.context, told.opens["Patient"].request, told.opens["Patient"].at_ms) == (
        opened.context,
        request(1),
        300,
    )
    report = ask(opened, anchor())
    assert ask(report, anchor(version=2)) == report
    assert ask(report, again) == report
    back = ask(report, again, request=request(2))
    assert (back.current, back.context_version, list(back.anchors)) == ("Patient", 3, ["DiagnosticReport"])


def share(version: str, *entries: Any) -> m.ShareContent:
    return m.ShareContent(report="r1", version=version, bundle=bundle(*entries))


DELETE = {"fullUrl": "Observation/k1", "request": {"method": "DELETE"}}


def test_content_moves_from_version_to_version(opened: Consult) -> None:
    """[AN5] (H25)"""
    state = ask(opened, anchor())
    assert state.content is not None
    assert (state.content.version, state.content.resources) == ("2", {})
    first = ask(state, share("2", put("k1"), put("k2")))
    assert first.content is not None
    assert (first.content.version, list(first.content.resources)) == ("2.1", ["Observation/k1", "Observation/k2"])
    second = ask(first, share("2.1", DELETE))
    assert second.content is not None
    assert (second.content.version, list(second.content.resources)) == ("2.2", ["Observation/k2"])
    assert refused(second, share("2.1", put("k3"))) is ErrorCode.CONTENT_CHANGED
    assert second.context_version == state.context_version
    closed = ask(second, m.CloseAnchor(context_version=2, resource_type=REPORT))
    assert closed.content is None
    reopened = ask(closed, anchor(version=3))
    assert reopened.content is not None
    assert (reopened.content.version, reopened.content.resources) == ("4", {})


def of(id_: str, kind: str = "Observation", **more: Any) -> Any:
    """An entry whose resource says in its own way whose it is."""
    return {"request": {"method": "PUT"}, "resource": {"resourceType": kind, "id": id_, **more}}


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([put("k1"), put("k9", of="p2")], ErrorCode.WRONG_PATIENT),
        ([of("k1", subject={"reference": "https://elsewhere.example/fhir/Patient/p1"})], ErrorCode.WRONG_PATIENT),
        ([of("k1", subject={"identifier": {"system": "urn:mrn", "value": "2"}})], ErrorCode.WRONG_PATIENT),
        ([of("k1", contained=[{"resourceType": "Patient", "id": "p2"}])], ErrorCode.WRONG_PATIENT),
        ([of("t1", "Task", **{"for": {"reference": "Patient/p2"}})], ErrorCode.WRONG_PATIENT),
        (
            [put("k1"), {"request": {"method": "PUT"}, "resource": {"resourceType": "Patient", "id": "p2"}}],
            "wrong_patient",
        ),
        ([put("k1"), put("k1", note="twice")], ErrorCode.MALFORMED),
        ([put("k1"), {"request": {"method": "POST"}, "resource": put("k2")["resource"]}], ErrorCode.MALFORMED),
        ([put("k1"), {"fullUrl": "DiagnosticReport/r1", "request": {"method": "DELETE"}}], ErrorCode.MALFORMED),
        ([put("k1"), {"fullUrl": "../etc", "request": {"method": "DELETE"}}], ErrorCode.MALFORMED),
        ([put("k1"), {"request": {"method": "PUT"}, "resource": {"resourceType": "Observation"}}], ErrorCode.MALFORMED),
        ([put("k1"), "entry"], ErrorCode.MALFORMED),
        ([put("k1", note="x" * 70_000)], ErrorCode.CONTENT_TOO_LARGE),
        ([put(f"k{n}") for n in range(65)], ErrorCode.CONTENT_TOO_LARGE),
    ],
)
def test_all_of_a_transaction_or_nothing(opened: Consult, entries: list[Any], code: str) -> None:
    """[AN5] (H25)"""
    state = ask(opened, anchor())
    assert refused(state, share("2", *entries)) == code


def test_what_is_shared_is_bounded_over_many_transactions(opened: Consult) -> None:
    """[AN5] It is part of every snapshot."""
    state = ask(opened, anchor())
    for number in range(4):
        assert state.content is not None
        state = ask(state, share(state.content.version, put(f"k{number}", note="x" * 15_000)))
    assert state.content is not None
    assert refused(state, share(state.content.version, put("k9", note="x" * 15_000))) is ErrorCode.CONTENT_TOO_LARGE


def test_only_what_is_shared_is_selected(opened: Consult) -> None:
    """[AN6]"""
    state = ask(ask(opened, anchor()), share("2", put("k1")))

    def select(*what: str, version: int = 2) -> m.SelectContent:
        return m.SelectContent(context_version=version, report="r1", selected=what)

    chosen = ask(state, select("Observation/k1"))
    assert chosen.content is not None
    assert chosen.content.selected == ("Observation/k1",)
    assert ask(chosen, select("Observation/k1")) == chosen
    assert refused(state, select("Observation/k7")) is ErrorCode.NOT_FOUND
    assert refused(state, select(version=1)) is ErrorCode.CONTEXT_CHANGED
    gone = ask(chosen, share("2.1", DELETE))
    assert gone.content is not None
    assert gone.content.selected == ()


def test_a_request_of_a_program_goes_with_its_event(opened: Consult) -> None:
    """[PR1] (H14)"""
    state = ask(opened, anchor(), request=request(5, "DiagnosticReport-open"))
    assert state.opens["DiagnosticReport"].request == request(5, "DiagnosticReport-open")
    [event] = handle(state, DOC, m.CloseContext(), 1, Known(request=request(6, "Patient-close")))
    assert isinstance(event, m.ContextClosed)
    assert event.request == request(6, "Patient-close")


def test_a_program_is_named_until_it_follows_or_somebody_looked(opened: Consult) -> None:
    """[PR3] [PR4] (W19)"""
    state = reduce(apply, programs.out_of_step(opened, trouble(), 5), opened)
    assert [one.name for one in state.programs.values()] == ["PACS"]
    assert programs.out_of_step(state, trouble(), 6) == []
    other = ask(state, m.OpenContext(patient=PATIENTS[1].id))
    assert other.programs == state.programs
    assert ask(state, m.DismissProgram(program="f1")).programs == {}
    assert reduce(apply, programs.in_step(state, "f1", 7), state).programs == {}
    assert programs.in_step(opened, "f1", 7) == []
    assert ask(state, m.EndConsult()).programs == {}


def test_the_list_of_programs_is_bounded(opened: Consult) -> None:
    """[PR3]"""
    state = opened
    for number in range(programs.MAX_PROGRAMS + 3):
        one = trouble(number).model_copy(update={"at_ms": number})
        state = reduce(apply, programs.out_of_step(state, one, number), state)
    assert len(state.programs) == programs.MAX_PROGRAMS
    assert "f2" not in state.programs


def test_a_program_speaks_for_somebody_who_is_here(opened: Consult) -> None:
    """[PR5] [PR1]"""
    [event] = programs.said(opened, DOC.participant, request(1, "UserLogout"), (), 5)
    assert apply(opened, event).model_copy(update={"revision": opened.revision}) == opened
    with pytest.raises(Refusal) as refusal:
        programs.said(opened, ParticipantId("gone"), request(1), (), 5)
    assert refusal.value.code is ErrorCode.NOT_JOINED


# ---------------------------------------------------------------- pages


def turn(state: Consult, page: str, item: str = "", **known: Any) -> Consult:
    """The lead turns a page; the resource that it shows is looked up when a program follows."""
    view = View(page=Page(page), item=item)
    named = opened_by_turning(state, Role.DOCTOR, view)
    if named is not None:
        resource = {"resourceType": named[0].value, "id": named[1]}
        known.setdefault("anchor", facts_of(resource))
    return ask(state, m.TurnPage(context_version=state.context_version, view=view), **known)


@pytest.fixture
def leading(opened: Consult) -> Consult:
    return ask(opened, m.TakeLead())


def anchors(state: Consult) -> dict[str, str]:
    return {kind: one.id for kind, one in state.anchors.items()}


def test_turning_to_a_study_opens_it_and_leaving_closes_it(leading: Consult) -> None:
    """[AN7] In one commit with the page; places within it change nothing."""
    state = turn(leading, "imaging", "s1")
    assert (anchors(state), state.current, state.view.item) == ({"ImagingStudy": "s1"}, "ImagingStudy", "s1")
    assert state.context_version == 2
    leafed = turn(state, "imaging", "s1;p=3")
    assert (leafed.anchors, leafed.context_version, leafed.view.item) == (state.anchors, 2, "s1;p=3")
    next_one = turn(leafed, "imaging", "s2")
    assert (anchors(next_one), next_one.context_version) == ({"ImagingStudy": "s2"}, 3)
    report = turn(next_one, "reports", "r1")
    assert (anchors(report), report.current) == ({"DiagnosticReport": "r1"}, "DiagnosticReport")
    left = turn(report, "labs")
    assert (left.anchors, left.current, left.view.page) == ({}, None, "labs")


def test_pages_that_nobody_follows_open_nothing(leading: Consult) -> None:
    """[AN7] No version is raised for programs that are not there; what is not in the record is no anchor either."""
    state = turn(leading, "imaging", "s1", anchor=None)
    assert (state.anchors, state.context_version, state.view.item) == ({}, 1, "s1")
    assert turn(state, "labs").context_version == 1
    other = facts_of({"resourceType": "ImagingStudy", "id": "s9"})
    assert turn(leading, "imaging", "s1", anchor=other).anchors == {}


def test_what_a_role_may_not_open_it_does_not_open_by_turning(leading: Consult) -> None:
    """[AN7] [AN1]"""
    view = View(page=Page.REPORTS, item="r1")
    assert opened_by_turning(leading, Role.DOCTOR, view) == (REPORT, "r1")
    assert opened_by_turning(leading, Role.GUEST, view) is None
    assert opened_by_turning(leading, Role.DOCTOR, View(page=Page.LABS, item="r1")) is None


def test_turning_a_page_destroys_nothing_that_is_shared(leading: Consult) -> None:
    """[AN7] (H25) Content under a report stays until somebody closes the report."""
    state = turn(leading, "reports", "r1")
    state = ask(state, m.ShareContent(report="r1", version="2", bundle=bundle(put("k1"))))
    for elsewhere in (turn(state, "labs"), turn(state, "reports", "r2")):
        assert (elsewhere.content, anchors(elsewhere)) == (state.content, {"DiagnosticReport": "r1"})
    study = turn(state, "imaging", "s1")
    assert anchors(study) == {"DiagnosticReport": "r1", "ImagingStudy": "s1"}
    assert study.content == state.content


def test_an_anchor_of_a_program_is_not_closed_by_other_pages(leading: Consult) -> None:
    """[AN7] Only the page that showed it is left."""
    foreign = facts_of({"resourceType": "ImagingStudy", "id": "s7"}, foreign=True)
    state = ask(leading, anchor(STUDY, "s7"), anchor=foreign, request=request(1))
    assert state.view == leading.view  # nothing of it is in the record
    assert anchors(turn(turn(state, "labs"), "vitals")) == {"ImagingStudy": "s7"}


def test_what_a_program_opens_is_turned_to(opened: Consult) -> None:
    """[AN8] [LE1] For all, unless somebody else leads; closed, the list is shown."""
    state = ask(opened, anchor(STUDY, "s1"), request=request(1))
    assert state.view == View(page=Page.IMAGING, item="s1")
    again = ask(state, anchor(STUDY, "s1", 2), request=request(2))
    assert again.view == state.view
    closed = ask(state, m.CloseAnchor(context_version=2, resource_type=STUDY), request=request(3))
    assert closed.view == View(page=Page.IMAGING)
    encounter = ask(opened, anchor(AnchorType.ENCOUNTER, "e1"), request=request(4))
    assert encounter.view == opened.view
    other = admission("other")
    led = ask(ask(opened, m.Join(), other), m.TakeLead(), other)
    unmoved = ask(led, anchor(STUDY, "s1"), request=request(5))
    assert (anchors(unmoved), unmoved.view) == ({"ImagingStudy": "s1"}, led.view)
    mine = ask(ask(opened, m.TakeLead()), anchor(REPORT, "r1"), request=request(6))
    assert mine.view == View(page=Page.REPORTS, item="r1")
