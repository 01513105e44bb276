"""The FHIRcast hub: programs over real HTTP and real sockets follow and drive the same context as our screens. H1-H30.

What the hub decides is in the unit tests of its core; here is that it is so from end to end. Few tests, each one
server and one story, because a server with its database costs more than what is asked of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fhircast_kit import (
    EVENTS,
    ORIGIN,
    OTHER,
    PATIENT,
    REPORT,
    WAIT_S,
    Cast,
    Listener,
    entry,
    now,
    path_of,
    quick,
    reference,
    running_cast,
)
from fhircast_kit import (
    STUDY as OURS,
)
from sqlalchemy import update

from server.fhircast.core.hub import HubSettings
from server.fhircast.core.notices import iso
from server.storage import audit
from server.storage.models import ConsultMember
from server.storage.smart_tables import SmartGrant
from signaling.core import messages as m
from signaling.core.ids import PatientId
from signaling.core.model import Page, Role, View

PT1 = PatientId("pt1")
PATIENT_MS = 600_000
"""For an answer that is meant to come: a slow machine is not a silent program."""
STUDY = {
    "resourceType": "ImagingStudy",
    "id": "s7",
    "description": "CT Thorax",
    "subject": {"reference": "Patient/theirs-7"},
}


@pytest.fixture
async def cast(tmp_path: Path) -> AsyncIterator[Cast]:
    async with running_cast(tmp_path) as running:
        yield running


def keys(message: Any) -> list[str]:
    return [one["key"] for one in message["event"]["context"]]


async def test_subscribing(cast: Cast) -> None:
    """(H1) (H2) (H3) (H4) (H5) (H7) (H8) (H9) (H23) (H29)"""
    program = await cast.program(lives_ms=600_000)
    status, first = await program.subscribe(cast.topic, "patient-open,Patient-open,Observation-open")
    assert status == 202
    assert first["hub.channel.endpoint"].startswith(cast.origin.replace("http", "ws") + "/fhircast/ws/")
    assert len(path_of(first["hub.channel.endpoint"]).rpartition("/")[2]) >= 43
    _, second = await program.subscribe(cast.topic)
    assert second != first

    listener = await program.socket(first["hub.channel.endpoint"])
    confirmation = await listener.next()
    assert (confirmation["hub.mode"], confirmation["hub.topic"]) == ("subscribe", cast.topic)
    assert confirmation["hub.events"] == "Patient-open,SyncError"
    assert 0 < confirmation["hub.lease_seconds"] <= 600

    again = {"hub.channel.endpoint": first["hub.channel.endpoint"], "hub.lease_seconds": "60"}
    status, body = await program.subscribe(cast.topic, "Encounter-open", **again)
    assert (status, body) == (202, first)
    replaced = await listener.next()
    assert replaced["hub.events"] == "Encounter-open,SyncError"
    assert replaced["hub.lease_seconds"] <= 60

    status, body = await program.unsubscribe(cast.topic, first["hub.channel.endpoint"])
    assert (status, body) == (202, first)
    assert (await listener.next())["hub.mode"] == "denied"
    assert await listener.next() == 1000
    gone = await program.socket(first["hub.channel.endpoint"])
    assert (await gone.next())["hub.mode"] == "denied"
    assert (await program.unsubscribe(cast.topic, first["hub.channel.endpoint"]))[0] == 404

    bare = {"hub__mode": "subscribe", "hub__topic": cast.topic, "hub__events": "Patient-open"}
    status, reason = await program.form(**bare)
    assert (status, reason.split(":")[0]) == (400, "malformed")
    assert (await program.subscribe("no-such-topic"))[0] == 404
    # (H23) Neither without a token, nor without a scope, nor for somebody who is not in the consult.
    for stranger, expected in (
        (await cast.program("patient/*.rs"), 403),
        (await cast.program(subject="d2"), 404),
        (await cast.program(consult="c2"), 404),
        (await cast.program(subject=None), 404),
    ):
        assert (await stranger.subscribe(cast.topic))[0] == expected
    nobody = await cast.program()
    nobody.http.headers.pop("Authorization")
    assert (await nobody.subscribe(cast.topic))[0] == 401
    refused = await cast.log("fhircast_refused")
    assert {row["code"] for row in refused} >= {"malformed", "not_found", "not_allowed"}
    assert len(await cast.log("fhircast_subscribed")) == 3


async def test_how_programs_differ(cast: Cast) -> None:
    """(H28) (H29) /api/hub, forms that are JSON, JSON that is a form, CORS for pages of registered apps only."""
    await cast.here("d1", Role.DOCTOR)
    program = await cast.program()
    for hub in ("/fhircast", "/api/hub"):
        status, known = await program.get(f"{hub}/.well-known/fhircast-configuration")
        assert status == 200
        assert {"Patient-open", "DiagnosticReport-update", "SyncError", "UserLogout"} <= set(known["eventsSupported"])
        assert known["websocketSupport"] is True
        assert known["capabilities"]["supportsGetCurrentContext"] is True
        assert (known["fhirVersion"], known["fhircastVersion"]) == ("R4", "3.0.0")
    fields = {"hub.channel.type": "websocket", "hub.mode": "subscribe", "hub.topic": cast.topic, "hub.events": EVENTS}
    async with program.http.post("/api/hub", json=fields) as answer:
        assert answer.status == 202
    event = {"hub.topic": cast.topic, "hub.event": "Patient-open", "context": [entry("patient", PATIENT)]}
    body = json.dumps({"timestamp": now(), "id": "j1", "event": event})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with program.http.post("/api/hub/", data=body, headers=form) as answer:
        assert answer.status == 202
    for origin, allowed in ((ORIGIN, ORIGIN), ("https://elsewhere.example", None)):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        async with program.http.options("/fhircast", headers=headers) as answer:
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed
        async with program.http.post("/fhircast", json=fields, headers={"Origin": origin}) as answer:
            # The origin gives no right and takes none: the token does.
            assert answer.status == 202
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed
    async with program.http.post("/fhircast", data=b"\xff{") as answer:
        assert (answer.status, answer.content_type) == (400, "text/plain")
    async with program.http.post("/fhircast", data=b"x" * 70_000) as answer:
        assert answer.status == 413


async def test_driving_the_context(cast: Cast) -> None:
    """[PR1] [PR2] [AN1] (H6) (H10) (H12) (H13) (H14) (H21) (H24) (H26) (H27)"""
    doctor, program = await cast.here("d1", Role.DOCTOR), await cast.program()
    watcher = await (await cast.program(client="watcher")).follow(cast.topic)
    mine = await program.follow(cast.topic, **{"subscriber.name": "Acme PACS"})
    assert await program.get(f"/fhircast/{cast.topic}") == (
        200,
        {"context.type": "", "context.versionId": "0", "context": []},
    )
    # (H13) (H14) A program's event is everybody's, with the program's id; (H24) with what identifies the patient.
    assert await program.open_patient(cast.topic, id="a1") == (202, {"id": "a1"})
    for listener in (mine, watcher):
        event = await listener.event("Patient-open")
        assert (event["id"], keys(event)) == ("a1", ["patient"])
        patient = event["event"]["context"][0]["resource"]
        assert (patient["id"], patient["birthDate"], len(patient["identifier"])) == ("pt1", "1948-03-09", 2)
    state = await cast.state()
    assert state.context is not None
    assert (state.context.patient.id, state.context.opened_by) == ("pt1", doctor.admission.participant)
    assert event["timestamp"] == iso(state.context.opened_at_ms)
    # A doctor's click goes to all programs; (H6) whoever comes later is told the same id and the time of then.
    await cast.consults.execute(doctor, m.OpenAnchor(context_version=1, resource_type="DiagnosticReport", id="r1"))
    clicked = await mine.event("DiagnosticReport-open")
    assert keys(clicked) == ["report", "patient"]
    assert clicked["event"]["context"][0]["resource"]["code"]["text"] == "心电图报告"
    late = await (await cast.program(client="late")).follow(cast.topic)
    told = [await late.event("Patient-open"), await late.event("DiagnosticReport-open")]
    assert [(one["id"], one["timestamp"]) for one in told] == [
        ("a1", event["timestamp"]),
        (clicked["id"], clicked["timestamp"]),
    ]
    narrow = await cast.program("fhircast/DiagnosticReport-open.read")
    only_reports = await narrow.follow(cast.topic)
    heard = await only_reports.event("DiagnosticReport-open")
    assert keys(heard) == ["report"]  # (H23)
    # (H26) (H27) What closes makes nothing else current.
    _, current = await program.get(f"/fhircast/{cast.topic}")
    assert (current["context.type"], current["context.versionId"]) == ("DiagnosticReport", "2")
    assert [one["key"] for one in current["context"]] == ["report", "patient", "content"]
    assert current["context"][2]["resource"]["type"] == "collection"
    report = [entry("report", REPORT), entry("patient", PATIENT)]
    assert (await program.post(cast.topic, "DiagnosticReport-close", report, id="a2"))[0] == 202
    assert (await mine.event("DiagnosticReport-close"))["id"] == "a2"
    assert (await program.get(f"/fhircast/{cast.topic}"))[1]["context.type"] == ""
    # (H12) An encounter or study of another patient brings its patient; (H24) known there by another id.
    study = [entry("study", STUDY), entry("patient", OTHER)]
    assert (await program.post(cast.topic, "ImagingStudy-open", study, id="a3"))[0] == 202
    first, second = await mine.event("Patient-open"), await mine.event("ImagingStudy-open")
    assert (second["id"], keys(second), first["id"] != "a3") == ("a3", ["study", "patient"], True)
    assert second["event"]["context"][0]["resource"]["subject"] == {"reference": "Patient/pt2"}
    state = await cast.state()
    assert state.context is not None
    assert (state.context.patient.id, state.anchors["ImagingStudy"].label) == ("pt2", "CT Thorax")
    # (H22) The same event once more changes nothing; its id for another event is refused.
    assert (await program.post(cast.topic, "ImagingStudy-open", study, id="a3"))[0] == 202
    for name, context in (
        ("Patient-open", [entry("patient", PATIENT)]),
        ("ImagingStudy-open", [entry("study", {**STUDY, "id": "s8"}), entry("patient", OTHER)]),
    ):
        status, reason = await program.post(cast.topic, name, context, id="a3")
        assert (status, reason.split(":")[0]) == (409, "conflict")
    assert await cast.state() == state
    # (H21) Older than that comes too late; so does a patient who is none of this consult, or misnamed.
    for context, more, expected in (
        (entry("patient", PATIENT), {"at": now(-3600)}, (409, "context_changed")),
        (entry("patient", {**PATIENT, "id": "pt9", "identifier": [{"value": "9"}]}), {}, (404, "not_found")),
        (entry("patient", {**PATIENT, "identifier": [{"value": "pt2-0001"}]}), {}, (409, "identifiers_wrong")),
        (entry("patient", {**PATIENT, "identifier": []}), {}, (400, "malformed")),
    ):
        status, reason = await program.post(cast.topic, "Patient-open", [context], id="late", **more)
        assert (status, reason.split(":")[0]) == expected
    assert await cast.state() == state
    # (H24) A study that we have is found by its UID, whatever its id is elsewhere; never under another patient. [AN8]
    ct = {**OURS, "id": "theirs-ct", "subject": {"reference": "Patient/theirs-7"}}
    status, reason = await program.post(cast.topic, "ImagingStudy-open", [entry("study", ct), entry("patient", OTHER)])
    assert (status, reason.split(":")[0]) == (409, "wrong_patient")
    stolen = {**ct, "identifier": [], "id": "ct1"}
    status, reason = await program.post(
        cast.topic, "ImagingStudy-open", [entry("study", stolen), entry("patient", OTHER)]
    )
    assert (status, reason.split(":")[0]) == (409, "wrong_patient")
    assert await cast.state() == state
    # (H12) A report brings its study: a program that hears of studies only hears of it. Sent twice at once, done once.
    viewer = await (await cast.program(client="viewer")).follow(cast.topic, "ImagingStudy-open,ImagingStudy-close")
    assert (await viewer.event("ImagingStudy-open"))["id"] == "a3"
    draft = {"resourceType": "DiagnosticReport", "id": "d1", "imagingStudy": [{"reference": "ImagingStudy/theirs-ct"}]}
    brought = [
        entry("report", draft),
        entry("study", {**ct, "subject": {"reference": "Patient/pt1"}}),
        entry("patient", PATIENT),
    ]
    twice = (program.post(cast.topic, "DiagnosticReport-open", brought, id="a5") for _ in range(2))
    assert [status for status, _ in await asyncio.gather(*twice)] == [202, 202]
    for expected in ("ImagingStudy-close", "Patient-open", "ImagingStudy-open", "DiagnosticReport-open"):
        heard = await mine.event(expected)
    assert (heard["id"], keys(heard)) == ("a5", ["report", "study", "patient"])
    assert [one["resource"]["id"] for one in heard["event"]["context"]] == ["d1", "ct1", "pt1"]
    assert keys(await viewer.event("ImagingStudy-close")) == ["study", "patient"]
    assert (await viewer.event("ImagingStudy-open"))["event"]["context"][0]["resource"]["id"] == "ct1"
    state = await cast.state()
    assert {kind: one.id for kind, one in state.anchors.items()} == {"ImagingStudy": "ct1", "DiagnosticReport": "d1"}
    assert (state.current, state.view.page, state.view.item) == ("DiagnosticReport", "imaging", "ct1")
    assert (await program.post(cast.topic, "ImagingStudy-close", brought[1:], id="a6"))[0] == 202
    assert (await mine.event("ImagingStudy-close"))["id"] == "a6"
    # Going home closes the patient.
    assert (await program.post(cast.topic, "home-open", [], id="a4"))[0] == 202
    assert keys(await mine.event("DiagnosticReport-close")) == ["report", "patient"]
    assert (await mine.event("Patient-close"))["event"]["context"][0]["resource"]["id"] == "pt1"
    assert (await mine.event("Home-open"))["id"] == "a4"
    assert (await cast.state()).context is None


async def test_the_rules_of_the_person_hold_for_the_program(cast: Cast) -> None:
    """[PR1] (H23) Somebody who is here, in a role that may, with a scope that covers it."""
    program = await cast.program()
    assert (await program.open_patient(cast.topic))[0] == 403  # not here
    await cast.here("d1", Role.DOCTOR)
    reader = await cast.program("fhircast/*.read")
    assert (await reader.open_patient(cast.topic))[0] == 403
    async with cast.services.database.write() as session:
        await session.execute(update(ConsultMember).where(ConsultMember.subject_id == "n1").values(role="guest"))
    await cast.here("n1", Role.GUEST)
    guest = await cast.program(subject="n1")
    status, reason = await guest.open_patient(cast.topic)
    assert (status, reason.split(":")[0]) == (403, "not_allowed")
    assert (await program.open_patient(cast.topic))[0] == 202
    async with cast.services.database.read() as session:
        verdict = await audit.verify(cast.services.database, {})
    assert verdict.broken is None
    assert {row["code"] for row in await cast.log("fhircast_refused")} == {"not_joined", "not_allowed"}
    [opened] = await cast.log("context_opened")
    assert opened["request"] == {"id": "q1", "program": "pacs program", "event": "Patient-open"}


async def test_who_does_not_follow_is_named(tmp_path: Path) -> None:
    """[PR3] [PR4] (W19) (H15) (H16) (H17) (H19) (H22)"""
    async with running_cast(tmp_path, quick(answer_ms=PATIENT_MS, decide_ms=300, again_ms=100)) as cast:
        doctor = await cast.here("d1", Role.DOCTOR)
        good = await (await cast.program(client="good")).follow(cast.topic)
        program = await cast.program()
        bad = await program.follow(cast.topic, **{"subscriber.name": "Acme PACS"})
        await cast.consults.execute(doctor, m.OpenContext(patient=PT1))
        event = await good.event("Patient-open", status="200")  # (H15) digits
        await bad.event("Patient-open", status=409)
        # (H17) The others hear of it, and every screen.
        error = await good.event("SyncError", status=None)
        [issue] = error["event"]["context"][0]["resource"]["issue"]
        assert issue["severity"] == "warning"
        codes = {one["system"].rpartition("/")[2]: one["code"] for one in issue["details"]["coding"]}
        assert codes == {"eventid": event["id"], "eventname": "Patient-open", "subscriber": "Acme PACS"}
        [named] = (await cast.until(lambda state: state.programs)).programs.values()
        assert (named.name, named.reason) == ("Acme PACS", "refused")
        # (H22) The hub tells its own event again until it is followed.
        again = await bad.event("Patient-open", status=202)
        assert (again["id"], again["timestamp"]) == (event["id"], event["timestamp"])
        await cast.until(lambda state: not state.programs)  # (H16) 202 stands when it is not taken back
        # (H16) And is taken back by a SyncError of its own.
        await cast.consults.execute(doctor, m.CloseContext())
        await good.event("Patient-close")
        closed = await bad.event("Patient-close", status=202)
        coding = [{"system": "https://fhircast.hl7.org/events/syncerror/eventid", "code": closed["id"]}]
        outcome = {"resourceType": "OperationOutcome", "issue": [{"details": {"coding": coding}}]}
        context = [entry("operationoutcome", outcome)]
        assert (await program.post(cast.topic, "syncerror", context, id="s1"))[0] == 202
        await good.event("SyncError", status=None)
        await cast.until(lambda state: state.programs)
        # (H19) Whoever is cut off stays named until it is back; (H6) at the same endpoint.
        await bad.vanish()
        await good.event("SyncError", status=None)
        await cast.until(lambda state: [one.reason for one in state.programs.values()] == ["lost"])
        back = await program.socket()
        assert (await back.next())["hub.mode"] == "subscribe"
        await cast.until(lambda state: not state.programs)
        # (H19) Whoever says goodbye is not missed: the others hear the next event, and no SyncError before it.
        await back.ws.close(code=1001)
        await cast.consults.execute(doctor, m.OpenContext(patient=PT1))
        await good.event("Patient-open")
        answers = await cast.logged("fhircast_answered", 4)
        assert {row["status"] for row in answers} >= {200, 202, 409}


async def test_silence_ends_a_subscription(tmp_path: Path) -> None:
    """[PR3] [PR4] (H18) Denied, closed, and named until somebody looked or the same program follows again."""
    async with running_cast(tmp_path, quick(answer_ms=PATIENT_MS)) as cast:
        doctor, program = await cast.here("d1", Role.DOCTOR), await cast.program()
        witness = await (await cast.program(client="witness")).follow(cast.topic, "Encounter-open")
        for patient, looks in (("pt1", True), ("pt2", False)):
            cast.hub.hub.settings = HubSettings(answer_ms=200)
            silent = await program.follow(cast.topic, "Patient-close", **{"subscriber.name": "Dictation"})
            await cast.consults.execute(doctor, m.OpenContext(patient=PatientId(patient)))
            await cast.consults.execute(doctor, m.CloseContext())
            await silent.event("Patient-close", status=None)
            assert (await silent.next())["hub.mode"] == "denied"
            assert await silent.next() == 1008
            await witness.event("SyncError", status=None)
            [named] = (await cast.until(lambda state: state.programs)).programs.values()
            assert (named.name, named.reason) == ("Dictation", "silent")
            if looks:
                await cast.consults.execute(doctor, m.DismissProgram(program=named.id))
                assert (await cast.state()).programs == {}
                continue
            cast.hub.hub.settings = HubSettings(answer_ms=PATIENT_MS)
            back = await program.follow(cast.topic, "Patient-open", **{"subscriber.name": "Dictation"})
            await cast.consults.execute(doctor, m.OpenContext(patient=PT1))
            await back.event("Patient-open")
            await cast.until(lambda state: not state.programs)


async def test_content_is_shared(cast: Cast) -> None:
    """[AN5] [AN6] (H20) (H25) (H26)"""
    await cast.here("d1", Role.DOCTOR)
    program = await cast.program()
    listener = await program.follow(cast.topic)
    draft = {**REPORT, "id": "draft-1", "status": "unknown"}
    context = [entry("report", draft), entry("patient", PATIENT)]
    assert (await program.post(cast.topic, "DiagnosticReport-open", context, id="c1"))[0] == 202
    await listener.event("Patient-open")
    opened = await listener.event("DiagnosticReport-open")
    version = opened["event"]["context.versionId"]
    finding = {"resourceType": "Observation", "id": "k9", "subject": {"reference": "Patient/pt1"}, "status": "final"}

    def update_of(*entries: Any) -> list[Any]:
        bundle = {"resourceType": "Bundle", "id": "b7", "type": "transaction", "entry": list(entries)}
        return [reference("report", "DiagnosticReport/draft-1"), entry("updates", bundle)]

    async def share(context: list[Any], version: str, id_: str) -> tuple[int, Any]:
        return await program.post(
            cast.topic, "DiagnosticReport-update", context, id=id_, **{"context.versionId": version}
        )

    put = {"request": {"method": "PUT"}, "resource": finding}
    assert (await share(update_of(put), version, "c2"))[0] == 202
    shared = await listener.event("DiagnosticReport-update", status=409)  # (H20)
    assert (shared["id"], shared["event"]["context.priorVersionId"]) == ("c2", version)
    assert shared["event"]["context.versionId"] != version
    assert shared["event"]["context"][2]["resource"]["id"] == "b7"
    # Sent again because the answer was lost, it is done already; its id for anything else is refused.
    assert (await share(update_of(put), version, "c2"))[0] == 202
    assert (await program.post(cast.topic, "DiagnosticReport-select", update_of(), id="c2"))[0] == 409
    assert len(await cast.log("content_shared")) == 1
    # Whole or not at all; on the version that was seen; not too large; nobody else's.
    latest = shared["event"]["context.versionId"]
    theirs = {
        "request": {"method": "PUT"},
        "resource": {**finding, "id": "k1", "subject": {"reference": "Patient/pt2"}},
    }
    large = {"request": {"method": "PUT"}, "resource": {**finding, "id": "k2", "note": "x" * 66_000}}
    before = await cast.state()
    for entries, version_, expected in (
        ([put], version, 409),
        ([put, theirs], latest, 409),
        ([put, large], latest, 413),
        (["entry"], latest, 400),
    ):
        assert (await share(update_of(*entries), version_, "c3"))[0] == expected
    assert await cast.state() == before
    # (H26) What is shared is part of what is open; no entry has a request.
    _, current = await program.get(f"/fhircast/{cast.topic}")
    assert current["context.versionId"] == latest
    assert current["context"][-1]["resource"]["entry"] == [{"resource": finding}]
    assert current["context"][0]["resource"]["status"] == "unknown"
    select = [reference("report", "DiagnosticReport/draft-1"), reference("select", "Observation/k9")]
    assert (await program.post(cast.topic, "DiagnosticReport-select", select, id="c4"))[0] == 202
    assert keys(await listener.event("DiagnosticReport-select")) == ["report", "patient", "select"]
    content = (await cast.state()).content
    assert content is not None
    assert content.selected == ("Observation/k9",)
    assert (await program.post(cast.topic, "DiagnosticReport-close", context, id="c5"))[0] == 202
    assert (await cast.state()).content is None
    assert (await cast.state()).programs == {}


async def test_what_programs_tell_each_other(cast: Cast) -> None:
    """[PR5] (H11) (H30)"""
    await cast.here("d1", Role.DOCTOR)
    await cast.here("n1", Role.NURSE)
    program, nurses = await cast.program(), await cast.program(subject="n1", client="nurses")
    mine, theirs = await program.follow(cast.topic), await nurses.follow(cast.topic)
    marker = [{"key": "marker", "string": "R peak"}]
    assert (await program.post(cast.topic, "org.example.wave_marker", marker, id="m1"))[0] == 202
    for listener in (mine, theirs):
        heard = await listener.event("org.example.wave_marker")
        assert (heard["id"], heard["event"]["context"]) == ("m1", marker)
    assert (await program.post(cast.topic, "org.example.wave-marker", marker, id="m2"))[0] == 400
    # A logout is for the same person's programs; our own sessions answer that they do not follow.
    assert (await program.post(cast.topic, "UserLogout", [], id="m3"))[0] == 202
    assert (await mine.event("UserLogout"))["id"] == "m3"
    outcome = (await mine.event("SyncError", status=None))["event"]["context"][0]["resource"]
    assert outcome["issue"][0]["details"]["coding"][2]["code"] == "Consilium"
    assert (await program.open_patient(cast.topic, id="m4"))[0] == 202
    assert (await theirs.event("Patient-open"))["id"] == "m4"
    # Whoever leaves the consult leaves it with all programs; the end of the consult is the end of the topic.
    doctor = await cast.here("d1", Role.DOCTOR)
    await mine.event("Patient-open")
    await cast.consults.execute(doctor, m.EndConsult())
    for listener in (mine, theirs):
        await listener.event("Patient-close")
        await listener.event("UserLogout")
        assert (await listener.next())["hub.reason"] == "session ended"
        assert await listener.next() == 1000
    assert (await program.get(f"/fhircast/{cast.topic}"))[0] == 404
    assert (await program.subscribe(cast.topic))[0] == 404


async def test_a_program_that_asks_too_often_waits(tmp_path: Path) -> None:
    """Each request is a commit or a row of the log; another person's program is not held up."""
    async with running_cast(tmp_path, replace(quick(), requests_hz=0.001, requests_burst=3)) as cast:
        program, other = await cast.program(), await cast.program(client="other")
        statuses = [(await program.get(f"/fhircast/{cast.topic}"))[0] for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        assert (await other.get(f"/fhircast/{cast.topic}"))[0] == 200


async def test_rights_and_leases_end(cast: Cast) -> None:
    """(H5) (H9) With the token, however much of the lease is left."""
    short = await cast.program(client="short")
    assert (await short.subscribe(cast.topic, "Patient-open", **{"hub.lease_seconds": "1"}))[0] == 202
    listener = await short.socket()
    revoked = await (await cast.program(client="revoked")).follow(cast.topic, "Patient-open")
    async with cast.services.database.write() as session:
        await session.execute(update(SmartGrant).where(SmartGrant.client_id == "revoked").values(revoked=True))
    assert (await revoked.next())["hub.reason"] == "not allowed any more"
    told = await listener.next()
    if told["hub.mode"] == "subscribe":  # on a machine so slow that a second was over, it was denied at once
        told = await listener.next()
    assert told["hub.mode"] == "denied"
    assert isinstance(await listener.next(), int)
    assert {row["why"] for row in await cast.logged("fhircast_ended", 2)} >= {"not allowed any more"}


async def test_one_that_subscribes_while_rights_are_looked_at_stays(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(H2) What is not yet on record when the store is read is not another process's by the time it was read."""
    kept = cast.hub.kept
    put, still_mine = kept.put, kept.still_mine
    making, looked, subscribed = (asyncio.Event() for _ in range(3))

    async def slow_put(*arguments: Any) -> None:
        making.set()
        await looked.wait()
        await put(*arguments)

    async def slow_look() -> set[str]:
        mine = await still_mine()
        looked.set()
        await subscribed.wait()
        return mine

    await cast.here("d1", Role.DOCTOR)
    program = await cast.program()
    monkeypatch.setattr(kept, "put", slow_put)
    following = asyncio.create_task(program.follow(cast.topic, "Patient-open"))
    async with asyncio.timeout(WAIT_S):
        await making.wait()
        monkeypatch.setattr(kept, "still_mine", slow_look)
        look = asyncio.create_task(cast.hub._look_at_rights())
        listener = await following
        subscribed.set()
        await look
    assert (await program.open_patient(cast.topic))[0] == 202
    await listener.event("Patient-open")


async def test_two_nodes_tell_the_same(cast: Cast) -> None:
    """[PR2] A node that heard no hint tells the same event from the store, and what it finds out everybody hears."""
    async with cast.another_node() as origin:
        await cast.here("d1", Role.DOCTOR)
        program = await cast.program()
        here = await program.follow(cast.topic)
        there = await (await cast.program(client="there", origin=origin)).follow(cast.topic)
        assert (await program.open_patient(cast.topic, id="n1"))[0] == 202
        event = await here.event("Patient-open")
        assert await there.event("Patient-open", status=409) == event
        await here.event("SyncError", status=None)
        [named] = (await cast.until(lambda state: state.programs)).programs.values()
        assert named.name == "there program"
        # (H6) A program that comes to the other node with its endpoint is followed there, and let go of here.
        endpoint = path_of(program.endpoint).rpartition("/")[2]
        moved = await (await cast.program(origin=origin)).socket(program.endpoint)
        assert (await moved.next())["hub.mode"] == "subscribe"
        assert await moved.event("Patient-open") == event
        assert await here.next() == 1001
        assert cast.hub.hub.find(endpoint) is None
        assert set((await cast.state()).programs) == {named.id}


async def test_pages_and_programs_go_together(cast: Cast) -> None:
    """[AN7] [AN8] What the lead turns to is opened for a program that follows, and closed when it is left."""
    cast.consults.use_followers(cast.hub.is_followed)
    doctor = await cast.here("d1", Role.DOCTOR)
    await cast.consults.execute(doctor, m.OpenContext(patient=PT1))
    await cast.consults.execute(doctor, m.TakeLead())

    async def turn(page: str, item: str = "") -> None:
        version = (await cast.state()).context_version
        view = View(page=Page(page), item=item)
        await cast.consults.execute(doctor, m.TurnPage(context_version=version, view=view))

    await turn("imaging", "ct1")
    assert (await cast.state()).context_version == 1  # nobody outside follows
    # (H6) A program that starts now is told what every screen shows, not at the next turn.
    program = await cast.program()
    pacs = await program.follow(cast.topic, "ImagingStudy-open,ImagingStudy-close,DiagnosticReport-open")
    opened = await pacs.event("ImagingStudy-open")
    assert [one["resource"]["id"] for one in opened["event"]["context"]] == ["ct1", "pt1"]
    status, present = await program.get(f"/fhircast/{cast.topic}")
    assert (status, present["context.type"], present["context.versionId"]) == (200, "ImagingStudy", "2")
    assert (await cast.state()).anchors["ImagingStudy"].opened_by == doctor.admission.participant
    # Once is enough, whoever else comes.
    second = await (await cast.program(client="second")).follow(cast.topic, "ImagingStudy-open")
    assert (await second.event("ImagingStudy-open"))["id"] == opened["id"]
    await turn("summary")
    await pacs.event("ImagingStudy-close")
    assert (await cast.state()).context_version == 3
    await turn("imaging", "ct1")
    assert (await pacs.event("ImagingStudy-open"))["id"] != opened["id"]
    await turn("imaging", "ct1;p=2")
    await turn("imaging", "of-nobody")
    assert (await pacs.event("ImagingStudy-close"))["event"]["context"][0]["resource"]["id"] == "ct1"
    await turn("reports", "r1")
    assert (await pacs.event("DiagnosticReport-open"))["event"]["context"][0]["resource"]["id"] == "r1"
    await turn("labs")
    state = await cast.state()
    assert (state.anchors, state.view.page, state.programs) == ({}, "labs", {})


async def test_a_server_that_restarts(cast: Cast) -> None:
    """[PR3] [PR4] (H6) (H8) (H19) (W19) Nobody is denied; who comes back goes on, who does not is named."""
    doctor = await cast.here("d1", Role.DOCTOR)
    program, away = await cast.program(), await cast.program(client="away")
    mine, theirs = await program.follow(cast.topic), await away.follow(cast.topic, **{"subscriber.name": "Away PACS"})
    await cast.consults.execute(doctor, m.OpenContext(patient=PT1))
    await cast.consults.execute(doctor, m.OpenAnchor(context_version=1, resource_type="DiagnosticReport", id="r1"))
    for listener in (mine, theirs):
        await listener.event("Patient-open")
        await listener.event("DiagnosticReport-open")
    await cast.hub.stop()
    assert await mine.next() == 1001
    assert await theirs.next() == 1001
    await cast.consults.execute(doctor, m.OpenContext(patient=PatientId("pt2")))
    async with cast.another_node(replace(quick(), back_s=0.0)) as origin:
        again = await cast.program(origin=origin)
        back = await again.socket(program.endpoint)
        assert (await back.next())["hub.mode"] == "subscribe"
        # What it was told is open and is not any more, then what is open.
        closed = await back.event("DiagnosticReport-close")
        assert closed["event"]["context"][-1]["resource"]["id"] == "pt1"
        assert (await back.event("Patient-open"))["event"]["context"][0]["resource"]["id"] == "pt2"
        state = await cast.until(lambda state: [one.name for one in state.programs.values()] == ["Away PACS"])
        [named] = state.programs.values()
        assert named.reason == "lost"
        # It starts anew and follows: settled. (H8) What was unsubscribed is over at every node.
        anew = await (await cast.program(client="away", origin=origin)).follow(
            cast.topic, "Patient-open", **{"subscriber.name": "Away PACS"}
        )
        await anew.event("Patient-open")
        await cast.until(lambda state: not state.programs)
        await back.event("SyncError", status=None)
        assert (await again.unsubscribe(cast.topic, program.endpoint))[0] == 202
        assert (await back.next())["hub.mode"] == "denied"
        assert (await (await again.socket(program.endpoint)).next())["hub.mode"] == "denied"


async def test_sockets_are_bounded_and_kept_alive(tmp_path: Path) -> None:
    """(H19) One driver pings; whoever gives no sign of life is named; whoever sends rubbish is closed."""
    async with running_cast(tmp_path, replace(quick(), ping_s=0.05, silent_s=0.5)) as cast:
        program = await cast.program()
        await program.subscribe(cast.topic, "Patient-open")
        deaf = await program.http.ws_connect(program.endpoint, autoping=False)
        assert (await deaf.receive()).type is aiohttp.WSMsgType.TEXT
        pinged = await deaf.receive()
        assert pinged.type is aiohttp.WSMsgType.PING
        await cast.until(lambda state: [one.reason for one in state.programs.values()] == ["lost"])
        cast.hub._settings = quick()
        rude = await (await cast.program(client="rude")).follow(cast.topic, "Patient-open")
        for _ in range(30):
            await rude.ws.send_str("rubbish")
        assert (await rude.next())["hub.reason"] == "malformed"
        # So is whoever sends what is no answer, too much of it, or pings without end.
        for hostile, reason in (("bytes", None), ("large", None), ("pings", "too many messages")):
            enemy = await (await cast.program(client=hostile)).follow(cast.topic, "Patient-open")
            if hostile == "bytes":
                await enemy.ws.send_bytes(b"{}")
            elif hostile == "large":
                await enemy.ws.send_str("x" * 20_000)
            else:
                with contextlib.suppress(ConnectionError):
                    for _ in range(600):
                        await enemy.ws.ping()
            last = await enemy.next()
            assert isinstance(last, int) if reason is None else last["hub.reason"] == reason
        # A second socket at an endpoint takes the first one's place.
        other = await cast.program(client="twice")
        first = await other.follow(cast.topic, "Patient-open")
        second = await other.socket()
        assert (await second.next())["hub.mode"] == "subscribe"
        assert await first.next() == 1000
        assert isinstance(second, Listener)
        await asyncio.gather(deaf.close(), return_exceptions=True)
