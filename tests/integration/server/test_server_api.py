"""The HTTP API as browsers, walls and devices use it, and as others try to misuse it.

One file on purpose: every route of one API against one running hub.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from server_hub import Browser, Hub
from server_seed import DEVICE_SECRET, PASSWORD, fill
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from server.identity.aio.tokens import token_key
from server.identity.core.tokens import TokenInvalid, read, sign
from server.storage import audit
from server.storage.fhir_tables import FhirResource
from server.storage.models import EventRow
from signaling.core.ids import PatientId
from signaling.core.messages import ContextOpened
from signaling.core.model import Consult, Context, Role, ScreenRole

MakeHub = Callable[..., Awaitable[Hub]]
BEARER = {"Authorization": f"Bearer {DEVICE_SECRET}"}


def code(answer: Any) -> str:
    return str(answer["error"]["code"])


async def open_patient(hub: Hub, patient: str = "pt1") -> int:
    """Open a patient as signalling would; the new context version."""
    before = await hub.services.store.load("c1")  # type: ignore[arg-type]
    assert before is not None
    banner = await hub.services.store.patient(before.id, PatientId(patient))
    assert banner is not None
    version = before.context_version + 1
    context = Context(version=version, patient=banner, opened_at_ms=1, opened_by="p_x")  # type: ignore[arg-type]
    after = before.model_copy(update={"revision": before.revision + 1, "context": context, "context_version": version})
    event = ContextOpened(revision=after.revision, at_ms=1, context=context)
    await hub.services.store.commit(before, Consult.model_validate(after.model_dump()), [event], None)
    return version


async def kinds(hub: Hub) -> list[str]:
    async with hub.services.database.read() as session:
        return list(await session.scalars(select(EventRow.kind).order_by(EventRow.seq)))


# ------------------------------------------------------------------ sign-in


async def test_sign_in_gives_a_host_cookie_and_the_person(hub: Hub) -> None:
    browser = hub.browser()
    headers = {"Origin": hub.origin}
    async with browser.http.post(
        "/api/session", json={"login": "D1@hub ", "password": PASSWORD}, headers=headers
    ) as answer:
        person = (await answer.json())["person"]
        cookie = answer.headers["Set-Cookie"]

    assert person == {
        "id": "d1",
        "name": "人d1",
        "name_latin": "Person d1",
        "role": "doctor",
        "hospital": {"id": "hub", "name": "乌镇互联网医院"},
    }
    for part in ("__Host-consilium=", "HttpOnly", "Path=/", "SameSite=Strict", "Secure"):
        assert part in cookie
    assert "Domain" not in cookie
    assert (await browser.get("/api/session"))[1] == {"kind": "person", "person": person}


async def test_unknown_login_and_wrong_password_get_the_same_answer(hub: Hub) -> None:
    browser = hub.browser()

    unknown = await browser.post("/api/session", {"login": "nobody", "password": PASSWORD})
    wrong = await browser.post("/api/session", {"login": "d1@hub", "password": "not the password"})

    assert unknown == wrong
    assert (unknown[0], code(unknown[1])) == (401, "bad_credentials")
    assert (await kinds(hub))[-2:] == ["login_failed", "login_failed"]


async def test_sign_out_ends_the_session_on_the_server(hub: Hub) -> None:
    browser = await hub.doctor()
    stolen = {cookie.key: cookie.value for cookie in browser.http.cookie_jar}

    assert (await browser.send("DELETE", "/api/session"))[0] == 204

    thief = hub.browser()
    status, answer = await thief.get("/api/session", cookies=stolen)
    assert (status, code(answer)) == (401, "not_signed_in")


async def test_an_idle_session_ends_and_polling_does_not_keep_it(hub: Hub) -> None:
    """[G3] [C34]"""
    browser = await hub.doctor()
    for _ in range(6):
        hub.clock.ms += 11 * 60_000
        status, _answer = await browser.get("/api/consults")

    assert status == 401


async def test_a_used_session_lasts_until_the_end_of_the_shift(hub: Hub) -> None:
    browser = await hub.doctor()
    for _ in range(12 * 2 - 1):
        hub.clock.ms += 30 * 60_000
        assert (await browser.get("/api/session"))[0] == 200
    hub.clock.ms += 30 * 60_000

    assert (await browser.get("/api/session"))[0] == 401


async def test_guessing_is_throttled_and_says_when_to_come_back(hub: Hub) -> None:
    browser = hub.browser()
    answers = [await browser.post("/api/session", {"login": "d1@hub", "password": f"guess {n}"}) for n in range(5)]
    assert {status for status, _ in answers} == {401}

    async with browser.http.post(
        "/api/session", json={"login": "d1@hub", "password": PASSWORD}, headers={"Origin": hub.origin}
    ) as refused:
        assert refused.status == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 300
    assert (await browser.post("/api/session", {"login": "n1@hub", "password": PASSWORD}))[0] == 200


# ------------------------------------------------------------ bad requests


async def test_a_flood_of_attempts_is_a_line_in_the_audit_trail_not_a_flood(hub: Hub) -> None:
    """Whoever is refused before any check must not fill the disk with the trail of it."""
    browser = hub.browser()
    wrong = {"login": "d1@hub", "password": "wrong"}
    answers = [(await browser.post("/api/session", wrong))[0] for _ in range(30)]
    assert answers.count(429) >= 20
    assert (await kinds(hub)).count("login_throttled") == 1


async def test_attempts_sent_all_at_once_are_refused_without_being_checked(hub: Hub) -> None:
    """One password takes tens of milliseconds: a thousand at once would keep everybody else waiting for minutes."""
    browser = hub.browser()
    logins = [{"login": f"nobody{number}", "password": "wrong"} for number in range(60)]
    answers = await asyncio.gather(*(browser.post("/api/session", one) for one in logins))
    assert [status for status, _ in answers].count(429) >= 20
    assert (await kinds(hub)).count("login_failed") <= 40
    await hub.doctor()


async def test_tokens_are_not_for_hoarding(hub: Hub) -> None:
    browser, other = await hub.doctor(), await hub.doctor("n1@hub")
    answers = [(await browser.post("/api/consults/c1/token"))[0] for _ in range(61)]
    assert answers == [200] * 60 + [429]
    assert (await other.post("/api/consults/c1/token"))[0] == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.example", 403), ("null", 403), (None, 403)],
)
async def test_a_mutating_request_from_another_origin_is_refused(hub: Hub, origin: str | None, status: int) -> None:
    browser = hub.browser()
    headers = {} if origin is None else {"Origin": origin}
    async with browser.http.post(
        "/api/session", json={"login": "d1@hub", "password": PASSWORD}, headers=headers
    ) as answer:
        assert answer.status == status
        assert code(await answer.json()) == "wrong_origin"
        assert "Set-Cookie" not in answer.headers


async def test_a_host_name_that_is_not_ours_is_refused(hub: Hub) -> None:
    browser = hub.browser()
    status, answer = await browser.get("/api/config", headers={"Host": "evil.example"})
    assert (status, code(answer)) == (421, "wrong_host")
    async with browser.http.get("/healthz", headers={"Host": "10.0.0.7"}) as health:
        assert health.status == 200


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, (400, "malformed")),
        ({"data": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}, (400, "malformed")),
        ({"json": {"login": "d1@hub", "password": PASSWORD, "admin": True}}, (400, "malformed")),
        ({"json": {"login": 5, "password": PASSWORD}}, (400, "malformed")),
        ({"json": {"login": ["d1@hub"], "password": {}}}, (400, "malformed")),
        ({"json": {"login": "", "password": PASSWORD}}, (400, "malformed")),
        ({"json": []}, (400, "malformed")),
        ({"data": b"[" * 30_000, "headers": {"Content-Type": "application/json"}}, (400, "malformed")),
        ({"data": {"login": "d1@hub", "password": PASSWORD}}, (415, "not_json")),
        ({"json": {"login": "x" * 70_000, "password": "y"}}, (413, "too_large")),
    ],
)
async def test_a_bad_body_gets_a_typed_answer(hub: Hub, kwargs: dict[str, Any], expected: tuple[int, str]) -> None:
    browser = hub.browser()
    headers = {"Origin": hub.origin, **kwargs.pop("headers", {})}
    async with browser.http.post("/api/session", headers=headers, **kwargs) as answer:
        body = await answer.json()
    assert (answer.status, code(body)) == expected
    assert set(body["error"]) == {"code", "en", "zh"}


@pytest.mark.parametrize("path", ["/api/nothing", "/api/consults/c1/record/Nothing", "/api/consults/c1/nothing"])
async def test_unknown_paths_answer_in_the_same_shape(hub: Hub, path: str) -> None:
    browser = await hub.doctor()
    status, answer = await browser.get(path)
    assert (status, code(answer)) == (404, "not_found")


async def test_every_answer_carries_the_security_headers(hub: Hub) -> None:
    browser = hub.browser()
    for path in ("/api/config", "/api/session", "/", "/healthz"):
        async with browser.http.get(path) as answer:
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'; ")
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            if path.startswith("/api"):
                assert answer.headers["Cache-Control"] == "no-store"


async def test_a_bug_leaks_nothing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: object, __: str, **___: object) -> None:
        raise RuntimeError("SELECT secret FROM somewhere")

    monkeypatch.setattr(type(hub.services.sessions), "find", broken)
    browser = hub.browser()
    status, answer = await browser.get("/api/session", headers={"Cookie": "__Host-consilium=x"})

    assert (status, code(answer)) == (500, "internal")
    assert "secret" not in str(answer)

    async def full(_: object, __: str, **___: object) -> None:
        raise OperationalError("INSERT INTO secret", None, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(type(hub.services.sessions), "find", full)
    status, answer = await browser.get("/api/session", headers={"Cookie": "__Host-consilium=x"})
    assert (status, code(answer)) == (503, "store_unavailable")
    assert "secret" not in str(answer)


# ---------------------------------------------------------------- consults


async def test_consults_are_the_callers_own(hub: Hub) -> None:
    browser = await hub.doctor()
    status, answer = await browser.get("/api/consults")

    assert status == 200
    assert [one["id"] for one in answer["consults"]] == ["c1", "c3"]
    first = answer["consults"][0]
    assert (first["room"], first["hub"], first["partner"]) == ("第一诊室", "乌镇互联网医院", "北方县医院")
    assert [patient["name"] for patient in first["patients"]] == ["张桂兰", "李秀英"]
    assert (await browser.get("/api/consults/c1"))[1] == first


async def test_a_hidden_consult_and_an_absent_one_look_the_same(hub: Hub) -> None:
    """[G13]"""
    browser = await hub.doctor()
    for path in ("", "/patients", "/record/Condition?version=1"):
        hidden = await browser.get(f"/api/consults/c2{path}")
        absent = await browser.get(f"/api/consults/nothing{path}")
        assert hidden == absent
        assert hidden[0] == 404


async def test_an_administrator_sees_stations_but_no_patients(hub: Hub) -> None:
    """[C34] separated roles."""
    browser = await hub.doctor("a1@hub")
    assert (await browser.get("/api/consults"))[1] == {"consults": []}
    assert (await browser.get("/api/stations"))[0] == 200
    for path in ("patients", "record/Condition?version=0"):
        status, answer = await browser.get(f"/api/consults/c1/{path}")
        assert (status, code(answer)) == (403, "not_allowed")


# ------------------------------------------------------------------ tokens


async def issue(browser: Browser, consult: str = "c1") -> dict[str, Any]:
    status, answer = await browser.post(f"/api/consults/{consult}/token")
    assert status == 200, answer
    return dict(answer)


async def test_a_token_admits_once_as_who_asked(hub: Hub) -> None:
    """[G9]"""
    browser = await hub.doctor()
    issued = await issue(browser)

    admission = await hub.services.tokens.accept(issued["token"])

    assert (admission.consult, admission.participant) == ("c1", issued["participant"])
    assert (admission.role, admission.name, admission.hospital) == (Role.DOCTOR, "人d1", "乌镇互联网医院")
    assert not admission.simulated
    with pytest.raises(TokenInvalid, match="used before"):
        await hub.services.tokens.accept(issued["token"])


async def test_the_participant_is_the_same_after_another_sign_in(hub: Hub) -> None:
    first = await issue(await hub.doctor())
    second = await issue(await hub.doctor())
    other = await issue(await hub.doctor("n1@hub"))

    assert first["participant"] == second["participant"] != other["participant"]


async def test_an_expired_token_is_refused(hub: Hub) -> None:
    issued = await issue(await hub.doctor())
    hub.clock.ms += 60_000
    with pytest.raises(TokenInvalid, match="expired"):
        await hub.services.tokens.accept(issued["token"])


async def test_a_token_dies_with_its_session(hub: Hub) -> None:
    browser = await hub.doctor()
    issued = await issue(browser)
    await browser.send("DELETE", "/api/session")
    with pytest.raises(TokenInvalid, match="session"):
        await hub.services.tokens.accept(issued["token"])


async def test_a_token_whose_claims_were_changed_and_signed_again_by_us_is_still_not_a_membership(hub: Hub) -> None:
    """Even a stolen key does not turn a doctor into a member of another consult, or a nurse into a doctor."""
    issued = await issue(await hub.doctor())
    key = token_key(hub.services.settings.data_dir)
    claims = read(issued["token"], key, hub.clock.ms)
    for change in ({"consult": "c2"}, {"role": Role.NURSE}, {"participant": "p_other"}, {"subject": "d2"}):
        forged = sign(claims.model_copy(update={"jti": f"j{len(str(change))}", **change}), key)
        with pytest.raises(TokenInvalid):
            await hub.services.tokens.accept(forged)


async def test_somebody_connected_to_a_consult_is_not_idle(hub: Hub) -> None:
    """[G3] A surgeon who only listens does not have to sign in again when the line drops."""
    browser = await hub.doctor()
    admission = await hub.services.tokens.accept((await issue(browser))["token"])
    for _ in range(3):
        hub.clock.ms += 40 * 60_000
        assert await hub.services.tokens.still_good(admission)
    assert (await browser.get("/api/session"))[0] == 200


async def test_a_session_out_of_time_is_good_for_the_running_consult_only(hub: Hub) -> None:
    """[G3] It opens nothing new; an administrator, or a sign-out, still ends it."""
    browser, other = await hub.doctor(), await hub.doctor()
    admission = await hub.services.tokens.accept((await issue(browser))["token"])
    second = await hub.services.tokens.accept((await issue(other))["token"])
    await other.send("DELETE", "/api/session")
    hub.clock.ms += 13 * 3_600_000
    assert await hub.services.tokens.still_good(admission)
    assert (await browser.get("/api/session"))[0] == 401
    assert not await hub.services.tokens.still_good(second)


async def test_no_token_for_an_ended_consult(hub: Hub) -> None:
    status, answer = await (await hub.doctor()).post("/api/consults/c3/token")
    assert (status, code(answer)) == (409, "consult_ended")


async def test_a_device_comes_with_its_secret_and_stays_marked_simulated(hub: Hub) -> None:
    """[W9]"""
    device = hub.browser()
    async with device.http.post("/api/consults/c1/token", json={}, headers=BEARER) as answer:
        issued = await answer.json()
    admission = await hub.services.tokens.accept(issued["token"])
    assert (admission.role, admission.simulated) == (Role.DEVICE, True)

    for path in ("patients", "record/Condition?version=0"):
        async with device.http.get(f"/api/consults/c1/{path}", headers=BEARER) as answer:
            assert answer.status == 403
    async with device.http.post("/api/consults/c1/token", json={}, headers={"Authorization": "Bearer wrong"}) as answer:
        assert answer.status == 401


# ------------------------------------------------------------- guest links


async def guest_link(browser: Browser) -> str:
    status, answer = await browser.post("/api/consults/c1/invites", {"name": "Dr Guest"})
    assert status == 200
    return str(answer["url"])


async def test_a_guest_link_works_once_and_opens_one_consult(hub: Hub) -> None:
    url = await guest_link(await hub.doctor())
    assert url.startswith(f"{hub.origin}/join#")
    token = url.partition("#")[2]
    guest = hub.browser()

    assert await guest.post("/api/invites/redeem", {"token": token}) == (200, {"consult": "c1", "name": "Dr Guest"})

    assert (await guest.get("/api/session"))[1] == {"kind": "guest", "guest": {"name": "Dr Guest", "consult": "c1"}}
    assert [one["id"] for one in (await guest.get("/api/consults"))[1]["consults"]] == ["c1"]
    assert (await guest.get("/api/consults/c3"))[0] == 404
    first, again = await issue(guest), await issue(guest)
    assert first["participant"] == again["participant"]
    assert (await hub.services.tokens.accept(first["token"])).role is Role.GUEST
    assert (await guest.post("/api/consults/c1/invites", {"name": "x"}))[0] == 403


async def test_a_refused_link_never_says_why(hub: Hub) -> None:
    """[G13] Unknown, used and expired are one answer."""
    doctor, guest = await hub.doctor(), hub.browser()
    used, expired = [(await guest_link(doctor)).partition("#")[2] for _ in range(2)]
    await hub.browser().post("/api/invites/redeem", {"token": used})
    hub.clock.ms += 15 * 60_000

    answers = [await guest.post("/api/invites/redeem", {"token": one}) for one in (used, expired, "unknown")]

    assert answers[0] == answers[1] == answers[2]
    assert (answers[0][0], code(answers[0][1])) == (410, "invite_invalid")


# ------------------------------------------------------------------ record


async def test_the_record_is_that_of_the_open_patient(hub: Hub) -> None:
    """[W19]"""
    browser, version = await hub.doctor(), await open_patient(hub)
    headers = {"Origin": hub.origin}
    async with browser.http.get(
        f"/api/consults/c1/record/Observation?version={version}&category=laboratory", headers=headers
    ) as answer:
        bundle = await answer.json(content_type=None)
        assert answer.headers["X-Context-Version"] == str(version)
        assert answer.headers["Cache-Control"] == "no-store"

    assert [entry["resource"]["id"] for entry in bundle["entry"]] == ["k1", "k2", "k0"]
    assert (bundle["resourceType"], bundle["type"], bundle["total"]) == ("Bundle", "searchset", 3)


async def test_a_long_record_is_opened_by_counts_and_pages(hub: Hub) -> None:
    """[W19] [AN2] A page belongs to the opening it was asked in, whose version may rise beside the same patient."""
    browser, version = await hub.doctor(), await open_patient(hub)
    status, answer = await browser.get(f"/api/consults/c1/record?version={version}")
    assert (status, answer["counts"]) == (200, {"Patient": 1, "Observation": 4, "Binary": 1})
    path = f"/api/consults/c1/record/Observation?version={version}&category=laboratory"
    status, first = await browser.get(f"{path}&_count=2")
    assert ([one["resource"]["id"] for one in first["entry"]], first["total"]) == (["k1", "k2"], 3)
    following = first["link"][0]["url"]
    status, second = await browser.get(following)
    assert [one["resource"]["id"] for one in second["entry"]] == ["k0"]
    assert "link" not in second
    assert (await browser.get(f"{path}&since=2000-01-01&_count=9"))[1]["total"] == 0
    for wrong in ("_count=x", "since=yesterday", "_cursor=AAAA"):
        assert (await browser.get(f"{path}&{wrong}"))[0] == 400
    risen = await open_patient(hub)
    assert (await browser.get(following))[0] == 409
    status, again = await browser.get(following.replace(f"version={version}", f"version={risen}"))
    assert [one["resource"]["id"] for one in again["entry"]] == ["k0"]
    later = await open_patient(hub, "pt2")
    assert (await browser.get(following))[0] == 409
    assert (await browser.get(following.replace(f"version={version}", f"version={later}")))[0] == 400


async def test_another_context_version_is_answered_with_409(hub: Hub) -> None:
    """[W19] A view that is out of step gets nothing of either patient."""
    browser = await hub.doctor()
    old = await open_patient(hub, "pt1")
    await open_patient(hub, "pt2")

    for version in (old, old + 2, 0):
        status, answer = await browser.get(f"/api/consults/c1/record/Observation?version={version}")
        assert (status, code(answer)) == (409, "context_changed")
    for version in ("", "x", "-1", "99999999999", "1.0", "²"):
        status, answer = await browser.get(f"/api/consults/c1/record/Observation?version={version}")
        assert (status, code(answer)) == (400, "malformed")


async def test_a_document_is_served_with_its_own_type_and_only_for_the_open_patient(hub: Hub) -> None:
    browser, version = await hub.doctor(), await open_patient(hub, "pt1")
    async with browser.http.get(f"/api/consults/c1/record/Binary/scan?version={version}") as answer:
        assert answer.status == 200
        assert answer.content_type == "image/png"
        assert (await answer.read()).startswith(b"\x89PNG")
    version = await open_patient(hub, "pt2")
    assert (await browser.get(f"/api/consults/c1/record/Binary/scan?version={version}"))[0] == 404


async def test_every_read_is_on_record_without_what_was_read(hub: Hub) -> None:
    """[G5] [G8]"""
    browser, version = await hub.doctor(), await open_patient(hub)
    await browser.get(f"/api/consults/c1/record/Patient?version={version}")

    async with hub.services.database.read() as session:
        row = (await session.scalars(select(EventRow).where(EventRow.kind == "record_read"))).one()
    assert row.actor == "person:d1"
    assert '"patient":"pt1"' in row.body
    assert '"type":"Patient"' in row.body
    assert "张桂兰" not in row.body


# ------------------------------------------------------------------- walls


async def pair(hub: Hub, doctor: Browser, wall: Browser, number: int, role: str, slot: str = "1") -> None:
    slot_header = {"X-Wall-Slot": slot}
    _, pairing = await wall.post("/api/wall/pairing", headers=slot_header)
    waiting = await wall.post("/api/wall/pairing/status", {"secret": pairing["secret"]}, headers=slot_header)
    assert waiting == (200, {"state": "waiting"})
    claim = {"code": pairing["code"].lower(), "role": role}
    assert (await doctor.post(f"/api/stations/st1/screens/{number}/claim", claim))[0] == 204
    claimed = await wall.post("/api/wall/pairing/status", {"secret": pairing["secret"]}, headers=slot_header)
    assert claimed == (200, {"state": "claimed"})


async def test_a_wall_is_paired_by_its_code_and_becomes_a_participant(hub: Hub) -> None:
    doctor, wall = await hub.doctor(), hub.browser()
    slot = {"X-Wall-Slot": "1"}
    assert (await wall.get("/api/wall", headers=slot))[0] == 401

    await pair(hub, doctor, wall, 1, "record")

    _, answer = await wall.get("/api/wall", headers=slot)
    assert answer == {
        "screen": {
            "station": "st1",
            "station_name": "Station 1",
            "room": "第一诊室",
            "number": 1,
            "role": "record",
        },
        "consult": "c1",
        "identify": False,
    }
    _, issued = await wall.post("/api/consults/c1/token", headers=slot)
    admission = await hub.services.tokens.accept(issued["token"])
    assert (admission.role, admission.screen, admission.screen_number) == (Role.SCREEN, ScreenRole.RECORD, 1)
    _, stations = await doctor.get("/api/stations")
    screens = stations["rooms"][0]["stations"][0]["screens"]
    assert [(one["number"], one["paired"], one["online"]) for one in screens] == [
        (1, True, True),
        (2, False, False),
        (3, False, False),
    ]


async def test_three_windows_of_one_machine_are_three_screens(hub: Hub) -> None:
    doctor, machine = await hub.doctor(), hub.browser()
    for number, role in ((1, "record"), (2, "video"), (3, "ecg")):
        await pair(hub, doctor, machine, number, role, slot=str(number))
    seen = [(await machine.get("/api/wall", headers={"X-Wall-Slot": str(n)}))[1]["screen"]["number"] for n in (1, 2, 3)]
    assert seen == [1, 2, 3]


async def test_only_the_record_screen_reads_the_record(hub: Hub) -> None:
    """[G11] [W18] The others get the banner only."""
    doctor, wall, version = await hub.doctor(), hub.browser(), await open_patient(hub)
    await pair(hub, doctor, wall, 1, "record", slot="1")
    await pair(hub, doctor, wall, 3, "ecg", slot="3")
    path = f"/api/consults/c1/record/Condition?version={version}"

    assert (await wall.get(path, headers={"X-Wall-Slot": "1"}))[0] == 200
    assert (await wall.get(path, headers={"X-Wall-Slot": "3"}))[0] == 403
    assert (await wall.get("/api/consults/c1/patients", headers={"X-Wall-Slot": "3"}))[0] == 200


async def test_a_code_is_good_once_and_for_five_minutes(hub: Hub) -> None:
    doctor, wall, slot = await hub.doctor(), hub.browser(), {"X-Wall-Slot": "1"}
    _, first = await wall.post("/api/wall/pairing", headers=slot)
    claim = {"code": first["code"], "role": "record"}
    assert (await doctor.post("/api/stations/st1/screens/1/claim", claim))[0] == 204
    status, answer = await doctor.post("/api/stations/st1/screens/2/claim", claim)
    assert (status, code(answer)) == (404, "code_invalid")

    _, second = await wall.post("/api/wall/pairing", headers=slot)
    hub.clock.ms += 5 * 60_000
    late = await doctor.post("/api/stations/st1/screens/2/claim", {"code": second["code"], "role": "video"})
    assert late[0] == 404
    assert (await wall.post("/api/wall/pairing/status", {"secret": second["secret"]}, headers=slot))[0] == 404


async def test_an_unpaired_or_replaced_wall_is_out(hub: Hub) -> None:
    doctor, first, second = await hub.doctor(), hub.browser(), hub.browser()
    slot = {"X-Wall-Slot": "1"}
    await pair(hub, doctor, first, 1, "record")
    _, issued = await first.post("/api/consults/c1/token", headers=slot)
    await pair(hub, doctor, second, 1, "record")
    assert (await first.get("/api/wall", headers=slot))[0] == 401
    with pytest.raises(TokenInvalid):
        await hub.services.tokens.accept(issued["token"])

    assert (await doctor.send("DELETE", "/api/stations/st1/screens/1"))[0] == 204
    assert (await second.get("/api/wall", headers=slot))[0] == 401


async def test_identify_shows_the_number_for_ten_seconds(hub: Hub) -> None:
    doctor, wall, slot = await hub.doctor(), hub.browser(), {"X-Wall-Slot": "2"}
    await pair(hub, doctor, wall, 2, "video", slot="2")
    assert (await doctor.post("/api/stations/st1/screens/2/identify"))[0] == 204
    assert (await wall.get("/api/wall", headers=slot))[1]["identify"] is True
    hub.clock.ms += 10_000
    assert (await wall.get("/api/wall", headers=slot))[1]["identify"] is False


async def test_screens_of_another_hospital_cannot_be_touched(hub: Hub) -> None:
    doctor = await hub.doctor()
    for method, path, body in (
        ("POST", "/api/stations/st9/screens/1/claim", {"code": "ABCDEF", "role": "record"}),
        ("DELETE", "/api/stations/st9/screens/1", None),
        ("POST", "/api/stations/st9/screens/1/identify", {}),
    ):
        assert (await doctor.send(method, path, body))[0] == 404


async def test_demo_doors_exist_only_in_a_demo(hub: Hub, make_hub: MakeHub) -> None:
    slot = {"X-Wall-Slot": "2"}
    _, plain = await hub.browser().get("/api/config")
    assert (plain["demo"], plain["demo_logins"]) == (False, [])
    assert (await hub.browser().post("/api/wall/demo", headers=slot))[0] == 404

    demo = await make_hub(demo=True)
    _, config = await demo.browser().get("/api/config")
    assert config["demo_logins"] == [{"login": "d1@hub", "password": PASSWORD, "name": "d1", "role": "doctor"}]
    wall = demo.browser()
    assert (await wall.post("/api/wall/demo", headers=slot))[0] == 204
    assert (await wall.get("/api/wall", headers=slot))[1]["screen"]["number"] == 2


@pytest.mark.parametrize("slot", [None, "0", "10", "x", "²", ""])
async def test_a_wall_must_say_a_possible_slot(hub: Hub, slot: str | None) -> None:
    headers = {} if slot is None else {"X-Wall-Slot": slot}
    status, answer = await hub.browser().post("/api/wall/pairing", headers=headers)
    assert (status, code(answer)) == (400, "malformed")


async def test_the_chain_holds_after_all_this(hub: Hub) -> None:
    doctor, wall = await hub.doctor(), hub.browser()
    await pair(hub, doctor, wall, 1, "record")
    await guest_link(doctor)
    await open_patient(hub)

    verdict = await audit.verify(hub.services.database, {})

    assert verdict.broken is None
    assert verdict.rows == len(await kinds(hub))
    assert {"login", "screen_claimed", "screen_paired", "invite_made", "context_opened"} <= set(await kinds(hub))


async def test_seeding_again_changes_nothing(hub: Hub) -> None:
    before = await kinds(hub)
    await fill(hub.services.database)
    assert await kinds(hub) == before
    async with hub.services.database.read() as session:
        assert await session.scalar(select(func.count()).where(FhirResource.version > 1)) == 0
