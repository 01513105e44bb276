"""A program beside ours: what it opens is on our screens, and when it does not follow, our screens say so. (W19)"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from playwright.sync_api import expect

from load_tests.browsers.chromium import Visitor, wait_until
from load_tests.browsers.steps import (
    expect_live_ecg,
    first_doctor,
    open_running_consult,
    samples_drawn,
    shown_patient,
    sign_in,
    take_lead,
    with_monitored_patient,
)
from load_tests.rig.demo_process import Demo

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(400)]

SECRET = "browser-test-token"
EVENTS = "Patient-open,Patient-close,ImagingStudy-open,ImagingStudy-close"


def give_token(hub: Demo, person: str) -> None:
    """What our authorization server gives an app, put where it keeps it."""
    until = round(time.time() * 1000) + 3_600_000
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    with sqlite3.connect(hub.data_dir / "consilium.db", timeout=10) as database:
        database.execute(
            "INSERT INTO smart_client (id, name, kind, redirect_uris, launch_uri, jwks, scopes, active, created_at_ms)"
            " VALUES ('pacs', 'Acme PACS', 'public', '[]', '', '', 'fhircast/*.*', 1, 0)"
        )
        database.execute(
            "INSERT INTO smart_grant (id, client_id, person_id, scopes, redirect_uri, challenge, nonce, created_at_ms,"
            " expires_at_ms, revoked) VALUES ('g', 'pacs', ?, 'fhircast/*.*', '', '', '', 0, ?, 0)",
            (person, until),
        )
        database.execute(
            "INSERT INTO smart_token (token_hash, grant_id, kind, scopes, expires_at_ms, used)"
            " VALUES (?, 'g', 'access', 'fhircast/*.*', ?, 0)",
            (digest, until),
        )


class Program(threading.Thread):
    """Follows the topic in a loop of its own; refuses what it is told to refuse."""

    def __init__(self, hub: str, topic: str) -> None:
        super().__init__(daemon=True)
        self.hub = hub
        self.topic = topic
        self.status = 200
        self.opened: list[tuple[str, str]] = []
        """What it was told of studies: event and id."""
        self.over = threading.Event()
        self.following = threading.Event()
        self.start()

    def run(self) -> None:
        asyncio.run(self._follow())

    async def _follow(self) -> None:
        headers = {"Authorization": f"Bearer {SECRET}"}
        form = {"hub.channel.type": "websocket", "hub.mode": "subscribe", "hub.topic": self.topic}
        form |= {"hub.events": EVENTS, "subscriber.name": "Acme PACS"}
        async with aiohttp.ClientSession(headers=headers) as http:
            async with http.post(self.hub, data=form) as answer:
                endpoint = (await answer.json())["hub.channel.endpoint"]
            async with http.ws_connect(endpoint) as ws:
                while not self.over.is_set():
                    try:
                        message = await ws.receive_json(timeout=0.2)
                    except TimeoutError:
                        continue
                    if "event" in message:
                        event = message["event"]
                        if event["hub.event"].startswith("ImagingStudy-"):
                            self.opened.append((event["hub.event"], event["context"][0]["resource"]["id"]))
                        await ws.send_json({"id": message["id"], "status": self.status})
                    self.following.set()


def test_a_program_beside_ours_drives_and_is_named(hub: Demo, open_visitor: Callable[..., Visitor]) -> None:
    """[PR1] [PR3] [PR4] (H14) (H17) (W19)"""
    anna = open_visitor("anna", camera=False)
    sign_in(anna, first_doctor(hub))
    consult = open_running_consult(anna)
    page = anna.page
    before = shown_patient(page)
    person = page.evaluate("async () => (await (await fetch('/api/session')).json()).person.id")
    give_token(hub, person)
    session = page.evaluate("async (id) => (await fetch(`/api/consults/${id}/fhircast`)).json()", consult)
    listed = page.evaluate("async (id) => (await fetch(`/api/consults/${id}/patients`)).json()", consult)
    other = next(one for one in listed["patients"] if one["id"] != before)

    def opens(patient: str) -> None:
        answer = page.request.post(
            session["hub.url"],
            headers={"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"},
            data=json.dumps(opening(hub, session["hub.topic"], patient)),
        )
        assert answer.status == 202, answer.text()
        expect(page.get_by_test_id("patient-banner").first).to_have_attribute("data-patient", patient)

    program = Program(session["hub.url"], session["hub.topic"])
    assert program.following.wait(60)
    try:
        program.status = 409
        opens(other["id"])
        named = page.get_by_test_id("program-not-in-sync")
        expect(named).to_contain_text("Acme PACS")
        named.get_by_role("button").click()
        expect(named).to_have_count(0)
        program.status = 200
        opens(before)  # as it was, for the tests that share this hub
        expect(named).to_have_count(0)
        pages_go_together(hub, anna, program, session["hub.topic"])
    finally:
        program.over.set()
        program.join(20)


def pages_go_together(hub: Demo, anna: Visitor, program: Program, topic: str) -> None:
    """[AN7] [AN8] The lead's study is the program's; what the program opens is on the page. [AN2] The trace goes on."""
    with_monitored_patient(anna)
    page, patient = anna.page, shown_patient(anna.page)
    take_lead(anna)
    expect_live_ecg(page)
    version = page.get_by_test_id("record-page").get_attribute("data-context")
    page.get_by_test_id("ecg").evaluate("ecg => { ecg.dataset.same = 'yes'; }")
    drawn = samples_drawn(page)
    page.get_by_test_id("record-tab-imaging").click()
    study = page.locator("[data-testid^=study-]").first
    expect(study).to_be_visible()
    id_ = str(study.get_attribute("data-testid")).removeprefix("study-")
    study.click()
    expect(page.get_by_test_id("not-for-diagnosis")).to_be_visible()
    wait_until(page, lambda: program.opened == [("ImagingStudy-open", id_)], "the program was told of the study")
    expect(page.locator(f"[data-testid=record-page]:not([data-context='{version}'])")).to_be_visible()
    expect(page.locator("[data-testid=ecg][data-same=yes]")).to_be_visible()
    wait_until(page, lambda: samples_drawn(page) > drawn, "the trace goes on from where it was")
    page.get_by_test_id("record-tab-summary").click()
    wait_until(page, lambda: program.opened[1:] == [("ImagingStudy-close", id_)], "and that it was left")
    said = opening(hub, topic, patient)
    ours = {"resourceType": "ImagingStudy", "id": id_, "subject": {"reference": f"Patient/{patient}"}}
    said["event"] |= {
        "hub.event": "ImagingStudy-open",
        "context": [{"key": "study", "resource": ours}, *said["event"]["context"]],
    }
    answer = page.request.post(
        f"{hub.url}/fhircast",
        headers={"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"},
        data=json.dumps(said | {"id": "a-study-of-the-pacs"}),
    )
    assert answer.status == 202, answer.text()
    expect(page.get_by_test_id("not-for-diagnosis")).to_be_visible()
    expect(page.get_by_test_id("program-not-in-sync")).to_have_count(0)


def opening(hub: Demo, topic: str, patient: str) -> dict[str, Any]:
    """``Patient-open`` with the identifiers that the record has."""
    with sqlite3.connect(hub.data_dir / "consilium.db", timeout=10) as database:
        query = "SELECT json FROM fhir_resource WHERE type = 'Patient' AND id = ?"
        stored = json.loads(database.execute(query, (patient,)).fetchone()[0])
    resource = {name: stored[name] for name in ("resourceType", "id", "identifier")}
    event = {"hub.topic": topic, "hub.event": "Patient-open", "context": [{"key": "patient", "resource": resource}]}
    return {"timestamp": datetime.now(UTC).isoformat(), "id": f"from-the-pacs-{patient}", "event": event}
