"""Case packs (issue 5 item 7) on a running hub with a gateway: prepared, asked for, sent, read; one story."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fhir.resources.R4B.bundle import Bundle
from lock_kit import MRN, POLICY, Answerer, Hub, add_known_patient, fill_hub, new_gateway_folder, running, start_hub
from server_hub import Browser
from server_seed import PASSWORD, QUICK
from sqlalchemy import select, text

from server.casepack.aio.packs import HASHED, digest_of
from server.gateway.core.responder import QueryCode, QueryFailed, RecordAnswer, RecordQuery
from server.gateway.inside import Inside
from server.identity.aio.passwords import Passwords
from server.record.aio.store import find_one
from server.storage.casepack_tables import CasePack
from server.storage.models import ConsultMember
from server.storage.seeding import add_person, put_fhir_resource

BASE = "/api/consults/c1/casepack/pt1"
WRITTEN = {"reason": "Chest pain", "purpose": "PCI?", "summary": "Since 06:00 <b>", "speciality": "Cardiology"}
TROPONIN = {
    "resourceType": "Observation", "id": "lab-9", "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "89579-7"}], "text": "Troponin I"},
    "subject": {"reference": "Patient/77"}, "effectiveDateTime": "2025-01-01T06:00:00Z",
    "valueQuantity": {"value": 4.1, "unit": "ng/L"}, "encounter": {"reference": "Encounter/5"},
}  # fmt: skip
FRESH = {
    **TROPONIN, "id": "lab-10", "code": {"coding": [{"system": "http://loinc.org", "code": "2823-3"}], "text": "K"},
    "effectiveDateTime": (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds"),
    "valueQuantity": {"value": 3.3, "unit": "mmol/L"},
}  # fmt: skip
PDF = b"%PDF-1.4 a discharge letter"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_hub(tmp_path_factory.mktemp("filled"))


@pytest.fixture
async def hub(filled: Path, tmp_path: Path) -> AsyncIterator[Hub]:
    hub = await start_hub(tmp_path, filled)
    await add_known_patient(hub)
    assert hub.services is not None
    async with hub.services.database.write() as session:
        for id_, role in (("e1", "doctor"), ("e2", "doctor")):
            await add_person(session, Passwords(QUICK), id=id_, hospital="north", name=f"人{id_}", role=role,
                             login=f"{id_}@north", password=PASSWORD)  # fmt: skip
        session.add(ConsultMember(consult_id="c1", kind="person", subject_id="e1", role="doctor"))
        # A role that is neither doctor nor nurse of the consult, as a trainee's would be.
        session.add(ConsultMember(consult_id="c1", kind="person", subject_id="e2", role="guest"))
    yield hub
    await hub.stop()


def code(answer: tuple[int, Any]) -> str:
    return str(answer[1]["error"]["code"])


def state(view: dict[str, Any], part: str) -> str:
    return next(one["state"] for one in view["findings"] if one["part"] == part)


async def away(_query: RecordQuery) -> RecordAnswer:
    raise QueryFailed(QueryCode.UNAVAILABLE, "down")


async def upload(browser: Browser, path: str, **fields: Any) -> tuple[int, Any]:
    form = aiohttp.FormData()
    for name, value in fields.items():
        if name == "file":
            form.add_field("file", value, filename="letter.pdf")
        else:
            form.add_field(name, value)
    return await browser.send("POST", path, data=form)


async def test_a_pack_is_prepared_asked_for_sent_and_read(hub: Hub, tmp_path: Path) -> None:
    """[C25] [C26] [G5] [G11] What is missing is named and asked for; a sent version is what it was for good."""
    hub_doctor, nurse, expert, trainee = (
        await hub.doctor(), await hub.doctor("n1@hub"), await hub.doctor("e1@north"), await hub.doctor("e2@north"),
    )  # fmt: skip
    draft = {"specialty": "cardiology", "request": {"reason": "Chest pain"}}

    # Prepared: judged by the table, told what C25 lacks, and nobody else's to see.
    status, first = await hub_doctor.post(f"{BASE}/draft", draft)
    assert status == 200, first
    assert (state(first, "potassium"), state(first, "troponin")) == ("stale", "missing")
    assert first["lacking"] == ["purpose", "summary", "speciality"]
    assert next(line["trend"][0]["value"] for line in first["lines"] if line["test_code"] == "2823-3") == "4.1"
    assert (await expert.get(f"{BASE}/draft"))[1]["request"]["reason"] == ""
    send = {"content_hash": first["content_hash"]}
    assert code(await hub_doctor.post(f"{BASE}/send", send)) == "casepack_unfinished"
    assert code(await nurse.post(f"{BASE}/send", send)) == "not_allowed"
    assert code(await expert.get(BASE)) == "not_found", "nothing was sent yet"

    # Asked: the lock answers what the policy allows; the rest is for the partner's people.
    folder = await new_gateway_folder(hub, tmp_path / "g", POLICY)
    inside = Answerer(resources=({**TROPONIN}, {**TROPONIN, "id": "void", "status": "cancelled"}))
    async with running(folder, Inside(responder=inside)) as one:
        await one.connected()
        ask = {"specialty": "cardiology", "part": "troponin"}
        status, asked = await hub_doctor.post(f"{BASE}/asks", ask)
        # What came is shown and filed; it is of last year, so people are asked for today's.
        assert (status, asked["ask"]["status"], asked["ask"]["lock"]) == (201, "asked", "not_fresh"), asked
        assert [(one["title"], one["value"]) for one in asked["came"]] == [("Troponin I", "4.1")]
        assert asked["ask"]["reaches"] == 1, "one clinician of the asked hospital is in this consult"
        assert (inside.asked[0].patient, inside.asked[0].type) == (((MRN, "0001"),), "Observation")
        params = dict(inside.asked[0].params)
        assert params["code"].startswith("http://loinc.org|89579-7,")
        assert params["_sort"] == "-date"
        inside.resources = ({**FRESH},)
        # Asked when the gateway's record system was away, asked again when it is there: one ask.
        answer = inside.answer
        inside.answer = away  # type: ignore[method-assign]
        _status, first = await hub_doctor.post(f"{BASE}/asks", {**ask, "part": "potassium"})
        assert (first["ask"]["status"], first["ask"]["lock"]) == ("asked", "unavailable")
        inside.answer = answer  # type: ignore[method-assign]
        status, fresh = await hub_doctor.post(f"{BASE}/asks", {**ask, "part": "potassium"})
        assert fresh["ask"]["id"] == first["ask"]["id"]
        assert (status, fresh["ask"]["status"], fresh["ask"]["through_lock"]) == (201, "answered", True), fresh
        # No policy for documents, and one hospital's refusal leaves the ask open.
        letter = {"specialty": "cardiology", "part": "discharge-summary", "note": "the last one"}
        status, waiting = await hub_doctor.post(f"{BASE}/asks", letter)
        assert (status, waiting["ask"]["status"], waiting["ask"]["lock"]) == (201, "asked", "not_allowed"), waiting
    assert code(await hub_doctor.post(f"{BASE}/asks", letter)) == "already_asked"
    status, other = await hub_doctor.post(f"{BASE}/asks", {"specialty": "cardiology", "part": "echo"})
    assert (status, other["ask"]["lock"]) == (201, "unavailable"), "its gateway is not connected"
    assert code(await hub_doctor.post(f"{BASE}/asks", {"specialty": "cardiology", "part": "echo"})) == "already_asked"

    # The asked hospital sees its asks, attaches and declines; nobody else may.
    seen = (await expert.get("/api/casepack"))[1]["asks"]
    assert {one["part"] for one in seen} == {"discharge-summary", "echo", "troponin"}
    assert (await hub_doctor.get("/api/casepack"))[1]["asks"] == []
    path = f"/api/consults/c1/casepack-asks/{waiting['ask']['id']}"
    assert code(await hub_doctor.post(f"{path}/decline", {"reason": "x"})) == "not_found"
    assert code(await trainee.post(f"{path}/decline", {"reason": "x"})) == "not_found"
    assert code(await upload(expert, f"{path}/answer", file=PDF, taken="yesterday")) == "malformed"
    assert (await upload(expert, f"{path}/answer", file=PDF, title="出院小结", taken="2025-02-01"))[0] == 200
    assert code(await upload(expert, f"{path}/answer", file=PDF)) == "ask_closed"
    declined = f"/api/consults/c1/casepack-asks/{other['ask']['id']}/decline"
    assert code(await expert.post(declined, {"reason": " "})) == "malformed"
    at_once = await asyncio.gather(*(expert.post(declined, {"reason": "not done here"}) for _ in range(2)))
    assert sorted(status for status, _body in at_once) == [200, 409], "an ask is closed once"

    # Sent: only what was looked at.
    draft["request"] = WRITTEN
    status, second = await hub_doctor.post(f"{BASE}/draft", draft)
    assert [state(second, part) for part in ("troponin", "potassium", "discharge-summary")] == [
        "stale", "present", "present",
    ], second  # fmt: skip
    assert {(one["part"], one["status"]) for one in second["asks"]} == {
        ("troponin", "asked"), ("potassium", "answered"), ("discharge-summary", "answered"), ("echo", "declined"),
    }  # fmt: skip
    assert hub.services is not None
    async with hub.services.database.write() as session:
        late = {**TROPONIN, "id": "late", "subject": {"reference": "Patient/pt1"}}
        late.pop("encounter")
        await put_fhir_resource(session, late, at_ms=5)
    assert code(await hub_doctor.post(f"{BASE}/send", {"content_hash": second["content_hash"]})) == "casepack_changed"
    _status, third = await hub_doctor.get(f"{BASE}/draft")
    status, pack = await hub_doctor.post(f"{BASE}/send", {"content_hash": third["content_hash"]})
    assert (status, pack["version"]) == (201, 1), pack
    assert code(await hub_doctor.post(f"{BASE}/send", {"content_hash": third["content_hash"]})) == "casepack_unchanged"

    # Read: by the consult's clinicians, with what is missing, as it was sent.
    status, read = await expert.get(BASE)
    assert (status, read["sha256"], read["request"]["reason"]) == (200, pack["sha256"], "Chest pain")
    attachment = next(file for line in read["lines"] for file in line["attachments"])
    async with expert.http.get(f"{BASE}/binary/{attachment['binary']}") as response:
        assert (response.content_type, await response.read()) == ("application/pdf", PDF)
    home = (await expert.get("/api/casepack"))[1]["packs"]
    assert [(one["consult"], one["version"]) for one in home] == [("c1", 1)]
    assert {one["part"] for one in home[0]["missing"]} >= {"troponin", "allergies"}
    assert (read["by"], read["hospital"], read["newest"]) == ("人d1", "乌镇互联网医院", 1)
    assert {line["since"] for line in read["lines"]} == {""}

    # Before the call the expert asks for what is missing; the answer stands beside what was sent, which stays.
    status, beside = await expert.post(f"{BASE}/asks", {"specialty": "cardiology", "part": "ecg-12-lead"})
    assert (status, beside["ask"]["status"]) == (201, "asked"), beside
    answer = f"/api/consults/c1/casepack-asks/{beside['ask']['id']}/answer"
    scan = PDF + b" and a scanned ECG"
    assert (await upload(expert, answer, file=scan, title="ECG", taken=FRESH["effectiveDateTime"]))[0] == 200
    status, later = await expert.get(BASE)
    came = next(one["came"] for one in later["asks"] if one["part"] == "ecg-12-lead")
    assert ([one["title"] for one in came], later["lines"]) == (["ECG"], read["lines"])
    async with expert.http.get(f"{BASE}/binary/{came[0]['attachments'][0]['binary']}") as response:
        assert await response.read() == scan
    async with expert.http.get(f"{BASE}/binary/scan") as response:
        assert response.status == 404, "a document of hers that neither the pack nor an answer holds"

    # What the laboratory takes back after sending is told, and no longer makes the pack complete.
    potassium = next(one["evidence"] for one in read["findings"] if one["part"] == "potassium")
    async with hub.services.database.write() as session:
        raw = await find_one(session, "pt1", *potassium.split("/"))
        assert raw is not None
        await put_fhir_resource(session, raw | {"status": "entered-in-error"}, at_ms=pack["sent_at_ms"] + 1)
    _status, taken = await expert.get(BASE)
    assert [line["since"] for line in taken["lines"] if potassium in line["refs"]] == ["withdrawn"]
    assert {line["since"] for line in taken["lines"] if potassium not in line["refs"]} == {""}
    assert next(one["why"] for one in taken["findings"] if one["part"] == "potassium") == "withdrawn"
    status, document = await expert.get(f"{BASE}/document")
    Bundle.model_validate(document)
    kinds = [entry["resource"]["resourceType"] for entry in document["entry"]]
    assert kinds[:3] == ["Composition", "Patient", "ServiceRequest"]
    assert kinds[-1] == "Provenance"
    assert {"Observation", "DocumentReference"} <= set(kinds)
    assert code(await trainee.get(BASE)) == "not_found", "a member who is no clinician of the consult (G11)"
    assert code(await (await hub.doctor("d2@hub")).get(BASE)) == "not_found"

    # A new version beside the old, which stays as it was.
    draft["request"] = {**WRITTEN, "summary": "worse"}
    _status, fourth = await hub_doctor.post(f"{BASE}/draft", draft)
    status, newer = await hub_doctor.post(f"{BASE}/send", {"content_hash": fourth["content_hash"]})
    assert (status, newer["version"]) == (201, 2)
    first_again = (await expert.get(f"{BASE}?v=1"))[1]
    assert (first_again["sha256"], first_again["version"], first_again["newest"]) == (pack["sha256"], 1, 2)
    assert (await expert.get(BASE))[1]["request"]["summary"] == "worse"
    composition = await hub.rows("SELECT id, json FROM fhir_resource WHERE type = 'Composition' ORDER BY id")
    assert [json.loads(raw)["status"] for _id, raw in composition] == ["final", "final"]
    tasks = await hub.rows("SELECT json FROM fhir_resource WHERE type = 'Task'")
    assert sorted(json.loads(raw)["status"] for (raw,) in tasks) == ["completed"] * 3 + ["rejected", "requested"]

    # What was changed behind the server's back is not shown, and that somebody tried is on record.
    async with hub.services.database.write() as session:
        await session.execute(text("UPDATE case_pack SET lines = '[]' WHERE version = 2"))
    assert code(await expert.get(BASE)) == "casepack_damaged"
    # Nor is what was changed together with its own hash: the audit chain has another.
    async with hub.services.database.write() as session:
        row = await session.scalar(select(CasePack).where(CasePack.version == 2))
        assert row is not None
        row.sha256 = digest_of({name: getattr(row, name) for name in HASHED})
    assert code(await expert.get(BASE)) == "casepack_damaged"

    # With the consult it ends.
    await hub.open_patient(ended=True)
    assert code(await expert.get(f"{BASE}?v=1")) == "consult_ended"
    assert code(await hub_doctor.post(f"{BASE}/asks", letter)) == "consult_ended"
    assert (await expert.get("/api/casepack"))[1]["packs"] == []

    counts = {kind: len(await hub.events(f"casepack_{kind}")) for kind in
              ("assembled", "sent", "read", "asked", "brought", "answered", "declined")}  # fmt: skip
    assert counts == {
        "assembled": 3, "sent": 2, "read": 11, "asked": 5, "brought": 1, "answered": 3, "declined": 1,
    }  # fmt: skip
    assert (await hub.events("casepack_sent"))[0]["sha256"] == pack["sha256"]
    assert await hub.audit_is_whole()
