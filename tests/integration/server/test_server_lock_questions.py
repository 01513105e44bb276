"""Questions through the lock (issue 5 item 6), enrolment, and who may see what; one story on one hub."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from lock_kit import (
    MRN,
    Answerer,
    Hub,
    add_known_patient,
    fill_hub,
    new_gateway_folder,
    running,
    start_hub,
    until,
)
from sqlalchemy import text, update

from server.enrol.core.codes import CODE_MS
from server.exits import Exit, StartError
from server.gateway.config import Folder
from server.gateway.core.responder import QueryCode, QueryFailed, RecordAnswer, RecordQuery
from server.gateway.identity import enrol, load_identity
from server.gateway.inside import Inside
from server.gateway.listing import crossing_rows, status_lines
from server.lock.core.proof import enrolment_statement, public_bytes
from server.lock.core.wire import Ask
from server.storage.lock_tables import EnrolmentCode

OBSERVATION = {
    "resourceType": "Observation",
    "id": "k1",
    "status": "final",
    "code": {"text": "Potassium"},
    "subject": {"reference": "Patient/77"},
    "valueQuantity": {"value": 4.1},
    "note": [{"text": "not for outside"}],
}


UNREADABLE = Ask(
    id=0, consult="", patient=((MRN, "0001"),), type="Observation", resource_id="", params=(), page="\n", role="doctor",
    organisation="hub", purpose="consult", timeout_ms=1_000, max_bytes=1_000, max_count=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_hub(tmp_path_factory.mktemp("filled"))


@pytest.fixture
async def hub(filled: Path, tmp_path: Path) -> AsyncIterator[Hub]:
    hub = await start_hub(tmp_path, filled)
    await add_known_patient(hub)
    yield hub
    await hub.stop()


async def test_a_consults_participant_asks_her_patients_hospital(hub: Hub, tmp_path: Path) -> None:
    """[LK20] [LK21] [LK22] Exactly the open patient, by the hospital's policy, for as long as the consult runs."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    # What the hospital's server sends beside what it was asked for stays inside, also where its type has a rule.
    beside = ({"resourceType": "Provenance", "id": "x"}, {"resourceType": "Patient", "id": "y", "gender": "female"})
    inside = Answerer(resources=({**OBSERVATION}, *beside, {**OBSERVATION, "id": "k1"}))
    doctor, nurse, stranger = await hub.doctor(), await hub.doctor("n1@hub"), await hub.doctor("d2@hub")
    version = await hub.open_patient()
    path = "/api/consults/c1/lock/Observation"
    assert (await doctor.get(f"{path}?version={version}"))[1]["error"]["code"] == "hospital_unreachable"
    async with running(folder, Inside(responder=inside)) as one:
        await one.connected()
        status, bundle = await doctor.get(f"{path}?version={version}&code=2823-3&_count=20")
        assert (status, [entry["resource"]["id"] for entry in bundle["entry"]]) == (200, ["k1", "k1"])
        assert "note" not in bundle["entry"][0]["resource"]
        assert bundle["entry"][0]["resource"]["valueQuantity"] == {"value": 4.1}
        asked = inside.asked[0]
        assert (asked.patient, asked.params, asked.max_count) == (((MRN, "0001"),), (("code", "2823-3"),), 20)
        status, one_resource = await doctor.get(f"{path}/k1?version={version}")
        assert (status, one_resource["id"], inside.asked[1].resource_id) == (200, "k1", "k1")

        refused = {
            "context_changed": await doctor.get(f"{path}?version={version + 1}"),
            "malformed": await doctor.get(path),
            "not_found": await stranger.get(f"{path}?version={version}"),
            "hospital_refused": await nurse.get(f"{path}?version={version}"),
        }
        assert {code: answer["error"]["code"] for code, (_s, answer) in refused.items()} == {c: c for c in refused}
        queries = ("patient=88", "_include=Observation:subject", "subject:Patient.name=W", "performer=9")
        for query in ("/api/consults/c1/lock/Condition?", *(f"{path}?{query}&" for query in queries)):
            status, answer = await doctor.get(f"{query}version={version}")
            assert (status, answer["error"]["code"]) == (403, "hospital_refused"), query
        assert len(inside.asked) == 2, "the policy decides before anything is asked inside"
        status, answer = await doctor.get(f"{path}/other?version={version}")
        assert (status, answer["error"]["code"]) == (404, "not_found"), "another resource than the one asked for"
        status, answer = await doctor.get(f"{path}?version={version}&page=%0A")
        assert (status, answer["error"]["code"]) == (400, "malformed")
        assert hub.lock is not None
        with pytest.raises(QueryFailed) as told:
            await hub.lock.desk.ask(one.gateway.identity.gateway, replace(UNREADABLE, consult="c1"))
        assert told.value.code is QueryCode.MALFORMED
        assert one.gateway.link.state.attempts == 1, "no question ends the hospital's line"

        inside.gate = asyncio.Event()
        inside.began.clear()
        slow = asyncio.create_task(doctor.get(f"{path}?version={version}"))
        await asyncio.wait_for(inside.began.wait(), 60)
        await hub.open_patient(ended=True)
        assert (await slow)[1]["error"]["code"] == "consult_ended"
        await asyncio.wait_for(inside.cancelled.wait(), 60)
        assert (await doctor.get(f"{path}?version={version}"))[1]["error"]["code"] == "consult_ended"
        listed = status_lines(folder, one.gateway.identity)
        async with hub.admin() as admin:
            gateway = one.gateway.identity.gateway

            async def settled() -> bool:
                _status, log = await admin.get(f"/api/gateways/{gateway}/questions")
                return len(log["questions"]) == 10

            await until(settled)
            _status, log = await admin.get(f"/api/gateways/{gateway}/questions")
            assert (await doctor.get(f"/api/gateways/{gateway}/questions"))[0] == 403
    assert any("Connected." in line for line in listed)
    codes = [row["code"] for row in log["questions"]]
    assert [codes.count(code) for code in ("", "not_allowed", "not_found", "cancelled")] == [2, 6, 1, 1]
    audited = await hub.events("lock_read")
    assert len(audited) == 10
    assert {event["type"] for event in audited} == {"Observation", "Condition"}
    inside_log = [row for row in crossing_rows(folder, 50) if row["direction"] == "question"]
    assert sorted(row["code"] for row in inside_log) == ["", "", "cancelled", *["not_allowed"] * 6, "not_found"]
    assert {row["source"] for row in inside_log} == {"c1"}
    assert "0001" not in json.dumps(inside_log) + json.dumps(log) + json.dumps(audited)
    for browser in (doctor, nurse, stranger):
        await browser.http.close()


class Failing:
    """A responder that fails in every way there is."""

    def __init__(self) -> None:
        self.ways = ["unavailable", "not_found", "bug", "large", "fine"]

    async def answer(self, query: RecordQuery) -> RecordAnswer:
        way = self.ways.pop(0)
        match way:
            case "unavailable" | "not_found":
                raise QueryFailed(QueryCode(way))
            case "bug":
                raise KeyError("王芳")
            case "large":
                return RecordAnswer(resources=({**OBSERVATION, "valueString": "x" * query.max_bytes},))
        many = tuple({**OBSERVATION, "id": f"k{number}", "valueString": "值" * 3_000} for number in range(30))
        return RecordAnswer(resources=many, next_page="p2")

    async def close(self) -> None:
        """Nothing to hang up."""


async def test_what_fails_inside_ends_one_question_only(hub: Hub, tmp_path: Path) -> None:
    """[LK21] Each failure has its code; the line and the next question go on; a large answer comes in parts."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    doctor, version = await hub.doctor(), await hub.open_patient()
    path = f"/api/consults/c1/lock/Observation?version={version}"
    async with running(folder, Inside(responder=Failing())) as one:
        await one.connected()
        codes = [(await doctor.get(path))[1]["error"]["code"] for _ in range(4)]
        assert codes == ["hospital_unreachable", "not_found", "hospital_unreachable", "answer_too_large"]
        async with doctor.http.get(path) as response:
            assert len((await response.json())["entry"]) == 30
            assert response.headers["X-Next-Page"] == "p2"
        assert one.gateway.link.state.attempts == 1
    await doctor.http.close()


async def test_each_read_looks_anew_who_may_and_is_on_record_at_both_ends(hub: Hub, tmp_path: Path) -> None:
    """[LK20] [LK22] (G5) Nothing is remembered of who may; an answer of which either end has no row does not leave."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    doctor, version = await hub.doctor(), await hub.open_patient()
    path = f"/api/consults/c1/lock/Observation?version={version}"
    inside = Answerer(resources=({**OBSERVATION},))
    async with running(folder, Inside(responder=inside)) as one:
        await one.connected()

        async def told() -> str:
            status, answer = await doctor.get(path)
            return "answered" if status == 200 else str(answer["error"]["code"])

        assert await told() == "answered"
        with contextlib.closing(sqlite3.connect(hub.data_dir / "consilium.db", isolation_level=None)) as db:
            snapshot = "UPDATE consult_state SET snapshot = json_set(snapshot, '$.{}', {}) WHERE consult_id = 'c1'"
            member = "consult_member SET role = role, consult_id = ? WHERE consult_id = ? AND subject_id = 'd1'"
            for undo, without, code in (
                ("UPDATE chain_head SET id = 1", "UPDATE chain_head SET id = 2", "internal"),
                ("UPDATE person SET active = 1 WHERE id = 'd1'", "UPDATE person SET active = 0 WHERE id = 'd1'",
                 "not_signed_in"),
                (f"UPDATE {member}", f"UPDATE {member}", "not_found"),
                # Another process of this hub, between two reads that would have parsed the same snapshot.
                (snapshot.format("status", "'open'"), snapshot.format("status", "'ended'"), "consult_ended"),
                (snapshot.format("context.version", version), snapshot.format("context.version", version + 1),
                 "context_changed"),
            ):  # fmt: skip
                others = ("c1", "c2") if "?" in without else ()
                db.execute(without, others[::-1])
                assert await told() == code
                db.execute(undo, others)
                assert await told() == "answered"
        with contextlib.closing(sqlite3.connect(folder.journal, isolation_level=None)) as db:
            db.execute("ALTER TABLE question RENAME TO gone")
            assert await told() == "hospital_unreachable"
            db.execute("ALTER TABLE gone RENAME TO question")
        assert await told() == "answered"

        inside.gate = asyncio.Event()
        inside.began.clear()
        slow = asyncio.create_task(doctor.get(path))
        await asyncio.wait_for(inside.began.wait(), 60)
        assert hub.services is not None
        async with hub.services.database.write() as session:
            await session.execute(text("UPDATE web_session SET revoked = 1"))
        assert (await slow)[1]["error"]["code"] == "not_signed_in"
        await asyncio.wait_for(inside.cancelled.wait(), 60)
    await doctor.http.close()


async def test_a_code_enrols_one_gateway_of_its_hospital_once(hub: Hub, tmp_path: Path) -> None:
    """[LK1] [LK2] One use, fifteen minutes, proof of the key, a limit on guesses; the code itself is kept nowhere."""
    assert hub.services is not None
    async with hub.admin() as admin:
        assert (await admin.post("/api/gateways/codes", {"hospital": "none", "name": "x"}))[0] == 404
        _status, made = await admin.post("/api/gateways/codes", {"hospital": "north", "name": "One"})
        assert (await admin.get("/api/gateways"))[1]["codes"][0]["id"] == made["id"]
    assert made["code"] not in str(await hub.rows("SELECT * FROM enrolment_code"))
    doctor = await hub.doctor()
    assert (await doctor.post("/api/gateways/codes", {"hospital": "hub", "name": "x"}))[0] == 403
    await doctor.http.close()

    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public = public_bytes(key)

    async def post(code: str, signer: Ed25519PrivateKey) -> int:
        body = {
            "kind": "gateway", "public_key": public.hex(),
            "signature": signer.sign(enrolment_statement(code, public)).hex(),
        }  # fmt: skip
        headers = {"Authorization": f"Bearer {code}"}
        async with aiohttp.ClientSession() as http, http.post(
            f"{hub.origin}/api/enrol", json=body, headers=headers
        ) as answer:  # fmt: skip
            return answer.status

    assert await post(made["code"], other) == 400, "somebody else's key"
    one, two = await asyncio.gather(post(made["code"], key), post(made["code"], key))
    assert sorted((one, two)) == [200, 410], "of two at once, one"
    late = await hub.code()
    async with hub.services.database.write() as session:
        await session.execute(update(EnrolmentCode).values(expires_at_ms=EnrolmentCode.expires_at_ms - CODE_MS))
    assert await post(late, key) == 410, "too late"
    folder = Folder(tmp_path / "g")
    with pytest.raises(StartError) as told:
        await enrol(folder, hub=hub.origin, code=late)
    assert told.value.exit_code is Exit.REFUSED
    assert "enrolment_invalid" in str(told.value)
    assert not folder.identity.exists()
    await enrol(folder, hub=hub.origin, code=await hub.code())
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (folder.key, folder.identity)}
    assert modes == {0o600}
    folder.key.chmod(0o644)
    with pytest.raises(StartError, match="chmod 600"):
        load_identity(folder)
    statuses = [await post("ABCD-EFGH-JKLM", key) for _ in range(12)]
    assert statuses[-1] == 429
    events = await hub.events("gateway_enrolled")
    assert [event["hospital"] for event in events] == ["north", "north"]
