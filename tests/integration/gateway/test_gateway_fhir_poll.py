"""News of the hospital's own FHIR server: everything once, nothing lost, nothing of nobody; and who we are there."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from server.gateway.adapters.fhir_http import FhirHttp, HttpProblem, OAuth, basic_of, bearer_of, oauth_of, wait_of
from server.gateway.adapters.fhir_poll import FhirPoll
from server.gateway.adapters.settings import SettingsInvalid, build_adapter
from server.gateway.core.crossing import LockRefused, RefusalCode
from tests.hl7v2_kit import MRN, PROFILE, Shelf, model

DEADLINE_S = 60
DAY = "2026-03-14T"
PDF = base64.b64encode(b"%PDF-1.7 echo").decode()


class Hospital:
    """A FHIR server of two patients; pages of two, ``_lastUpdated`` at second precision, histories, whims."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.deleted: list[tuple[str, str, dict[str, Any]]] = []
        self.asked: list[str] = []
        self.answers: list[web.Response] = []
        self.history = True
        self.accepted = {"Bearer inside"}
        self.granted = 0
        for id_, number in (("p1", "10042"), ("p2", "10043"), ("p3", "")):
            system = MRN if number else "urn:elsewhere"
            self.put({
                "resourceType": "Patient", "id": id_, "birthDate": "1978-03-02", "name": [{"text": f"N {id_}"}],
                "identifier": [{"system": "urn:inside", "value": "7"}, {"system": system, "value": number or "1"}],
            }, "08:00:00")  # fmt: skip

    def put(self, resource: dict[str, Any], at: str, version: str = "1") -> None:
        resource["meta"] = {"versionId": version, "lastUpdated": f"{DAY}{at}+00:00"}
        self.resources[f"{resource['resourceType']}/{resource['id']}"] = resource

    def delete(self, path: str, at: str) -> None:
        self.deleted.append((path, f"{DAY}{at}+00:00", self.resources.pop(path)))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        if request.path == "/token":
            return await self._token(request)
        if request.headers.get("Authorization") not in self.accepted:
            return web.Response(status=401)
        if self.answers:
            return self.answers.pop(0)
        path = request.path.removeprefix("/r4/")
        if path.endswith("/_history"):
            return self._history(path.removesuffix("/_history"))
        if "/" in path:
            found = self.resources.get(path)
            return web.json_response(found) if found else web.Response(status=404)
        since = request.query["_lastUpdated"].removeprefix("ge")
        every = [one for one in self.resources.values() if one["resourceType"] == path]
        every = sorted(
            (one for one in every if one["meta"]["lastUpdated"] >= since), key=lambda r: r["meta"]["lastUpdated"]
        )
        start = int(request.query.get("_page", "0"))
        page = {
            "resourceType": "Bundle",
            "type": "searchset",
            "entry": [{"resource": one} for one in every[start : start + 2]],
        }
        if start + 2 < len(every):
            page["link"] = [
                {"relation": "next", "url": f"{path}?_lastUpdated=ge{since.replace('+', '%2B')}&_page={start + 2}"}
            ]
        return web.json_response(page)

    def _history(self, path: str) -> web.Response:
        if not self.history:
            return web.Response(status=501)
        entries: list[dict[str, Any]] = []
        for place, at, resource in self.deleted:
            if place == path or place.startswith(f"{path}/"):
                entries.append(
                    {"request": {"method": "DELETE", "url": place}, "response": {"lastModified": at, "etag": 'W/"9"'}}
                )
                if place == path:
                    entries.append({"resource": resource, "request": {"method": "PUT", "url": place}})
        return web.json_response({"resourceType": "Bundle", "type": "history", "entry": entries})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        basic = "Basic " + base64.b64encode(b"gw:secret").decode()
        if request.headers.get("Authorization") != basic or form["grant_type"] != "client_credentials":
            return web.Response(status=400)
        self.granted += 1
        self.accepted = {f"Bearer t{self.granted}"}
        return web.json_response({"access_token": f"t{self.granted}", "token_type": "Bearer", "expires_in": 3600})


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[tuple[Hospital, str]]:
    here = Hospital()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", here.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield here, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def built(folder: Path, origin: str, pauses: list[float] | None = None, **changes: Any) -> FhirPoll:
    """As ``gateway.toml`` says; pauses are written down instead of waited for."""
    (folder / "token").write_text("inside")
    table = {
        "type": "fhir", "name": "fhir", "base": f"{origin}/r4", "types": ["Patient", "Observation", "DiagnosticReport"],
        "identifier_systems": [MRN], "since": f"{DAY}00:00:00Z", "token_file": "token", "overlap_s": 60,
    }  # fmt: skip
    adapter = build_adapter(table | changes, PROFILE, folder)
    assert isinstance(adapter, FhirPoll)

    async def sleep(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)
        await asyncio.sleep(0.001)

    adapter._sleep = sleep
    return adapter


@contextlib.asynccontextmanager
async def polling(adapter: FhirPoll, shelf: Shelf) -> AsyncIterator[Callable[[], Any]]:
    task = asyncio.create_task(adapter.run(shelf))

    async def a_round() -> None:
        """Two ends of a round, so that one whole round lies between."""
        end = adapter.rounds + 2
        while adapter.rounds < end:
            assert not task.done(), task.result()
            await asyncio.sleep(0.001)

    try:
        yield a_round
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def observation(id_: str, patient: str = "Patient/p1", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation", "id": id_, "status": "final", "code": {"text": "K"},
        "subject": {"reference": patient}, "text": {"status": "generated", "div": "<div>inside</div>"},
        "performer": [{"reference": "Practitioner/d1", "display": "Dr Li"}], "valueString": "x", **more,
    }  # fmt: skip


def told(shelf: Shelf, kind: str) -> list[dict[str, Any]]:
    found = []
    for one in shelf.kept:
        bundle = json.loads(one.body)
        model("Bundle").model_validate(bundle)
        urls = {entry["fullUrl"] for entry in bundle["entry"]}
        for entry in bundle["entry"]:
            resource = entry["resource"]
            model(resource["resourceType"]).model_validate(resource)
            if resource["resourceType"] == kind:
                found.append(resource)
            if resource["resourceType"] not in ("Patient", "Binary"):
                assert resource["subject"]["reference"] in urls
    return found


async def test_news_cross_once_with_their_patient_and_nothing_of_the_servers_own(tmp_path: Path) -> None:
    shelf = Shelf()
    async with served() as (here, origin):
        for number in range(5):
            here.put(observation(f"o{number}"), f"09:00:0{number}")
        here.put(observation("mine", f"{origin}/r4/Patient/p2"), "09:01:00")
        here.put(observation("unknown", "Patient/p3"), "09:01:01")
        here.put(observation("nobody", "Group/g"), "09:01:02")
        here.put({"resourceType": "Binary", "id": "b1", "contentType": "application/pdf", "data": PDF}, "09:00:00")
        here.put({
            "resourceType": "DiagnosticReport", "id": "r1", "status": "final", "code": {"text": "Echo"},
            "subject": {"reference": "Patient/p1"}, "result": [{"reference": "Observation/o1/_history/1"}],
            "presentedForm": [{"url": "Binary/b1", "title": "Echo"}, {"url": "http://elsewhere.example/x"}],
        }, "09:02:00")  # fmt: skip
        async with polling(built(tmp_path, origin), shelf) as a_round:
            await a_round()
            first = [one.key for one in shelf.kept]
            here.put(observation("o1", valueString="corrected"), "09:05:00", "2")
            await a_round()
            here.put(observation("late"), "09:04:30")  # stamped before what was read meanwhile
            await a_round()
        assert len(first) == len(set(first)) == 9
        assert [one.key for one in shelf.kept][9:] == ["Observation/o1/2", "Observation/late/1"]
        async with polling(
            built(tmp_path, origin), shelf
        ) as a_round:  # restarted: the overlap again, known by its keys
            await a_round()
        assert len(shelf.kept) == 11
    every = told(shelf, "Observation")
    assert len({one["id"] for one in every}) == 7, "the next version is the same resource"
    text = "".join(one.body.decode() for one in shelf.kept)
    for inside in ("Patient/p", "Practitioner/d1", "urn:inside", "<div", "elsewhere", "127.0.0.1"):
        assert inside not in text
    assert every[0]["performer"][0]["display"] == "Dr Li"
    (report,) = told(shelf, "DiagnosticReport")
    assert report["result"][0]["reference"] in {f"Observation/{one['id']}" for one in every}
    assert [one.get("contentType") for one in report["presentedForm"]] == ["application/pdf", None]
    (pages,) = told(shelf, "Binary")
    assert pages["data"] == PDF
    assert {one.patient for one in shelf.kept} == {((MRN, "10042"),), ((MRN, "10043"),)}
    assert {one.kind for one in shelf.kept} == {"FHIR Patient", "FHIR Observation", "FHIR DiagnosticReport"}


async def test_what_was_deleted_crosses_as_entered_in_error_where_the_server_tells(tmp_path: Path) -> None:
    shelf = Shelf()
    async with served() as (here, origin):
        here.put(observation("o1"), "09:00:00")
        async with polling(built(tmp_path, origin), shelf) as a_round:
            await a_round()
            here.delete("Observation/o1", "09:00:30")
            await a_round()
            await a_round()
        before, after = told(shelf, "Observation")
        assert (before["id"], before["status"]) == (after["id"], "final")
        assert after["status"] == "entered-in-error"
        here.history = False
        here.put(observation("o2"), "09:00:40")
        async with polling(built(tmp_path, origin), shelf) as a_round:
            await a_round()
            asked = sum("_history" in one for one in here.asked)
            await a_round()
            assert sum("_history" in one for one in here.asked) == asked, "a server without a history is asked once"
        assert len(told(shelf, "Observation")) == 3


async def test_a_full_journal_and_a_crash_lose_nothing_and_the_place_moves_only_behind_them(tmp_path: Path) -> None:
    shelf, pauses = Shelf(), list[float]()
    async with served() as (here, origin):
        here.put(observation("o1"), "23:00:00")  # far beyond the overlap of what follows
        here.put(observation("o0"), "09:00:00")
        shelf.refuse = LockRefused(RefusalCode.FULL)
        adapter = built(tmp_path, origin, pauses)
        async with polling(adapter, shelf):
            while len(pauses) < 3:
                await asyncio.sleep(0.001)
        assert adapter.rounds == 0
        assert pauses[:3] == [1, 2, 4]
        shelf.refuse = None
        async with polling(built(tmp_path, origin), shelf) as a_round:
            await a_round()
        assert len(told(shelf, "Observation")) == 2
        (place,) = tmp_path.glob("*.place")
        assert place.stat().st_mode & 0o077 == 0
        assert "10042" not in place.read_text()
        place.write_text("{")
        with pytest.raises(OSError, match="damaged"):
            await built(tmp_path, origin).run(shelf)


async def test_a_server_that_asks_for_patience_is_given_it_and_one_page_elsewhere_is_not_followed(
    tmp_path: Path,
) -> None:
    shelf, pauses = Shelf(), list[float]()
    away = {
        "resourceType": "Bundle",
        "type": "searchset",
        "link": [{"relation": "next", "url": "http://elsewhere/r4/x"}],
    }
    async with served() as (here, origin):
        here.put(observation("o1"), "09:00:00")
        here.answers = [
            web.Response(status=503, headers={"Retry-After": "77"}),
            web.Response(status=302, headers={"Location": "/x"}),
            web.json_response(away), web.Response(text="not JSON"),
            web.json_response({"resourceType": "Bundle", "type": "searchset", "entry": 7}),
        ]  # fmt: skip
        async with polling(built(tmp_path, origin, pauses), shelf) as a_round:
            await a_round()
    assert pauses[:5] == [77, 2, 4, 8, 30]
    assert len(told(shelf, "Observation")) == 1
    assert wait_of({"Retry-After": "Sat, 14 Mar 2026 08:00:30 GMT", "Date": "Sat, 14 Mar 2026 08:00:00 GMT"}) == 30
    assert [wait_of({"Retry-After": text}) for text in ("999999999", "soon", "-1")] == [3600, 0, 0]


async def test_secrets_are_read_anew_and_tokens_renewed_when_they_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    async with served() as (here, origin):
        asked = f"{origin}/r4/Patient/p1"
        client = OAuth(token_url=f"{origin}/token", client_id="gw", secret=secret.read_text)
        http = FhirHttp(f"{origin}/r4", authorize=oauth_of(client))
        for _ in range(2):
            assert (await http.json("GET", asked, 10_000))["id"] == "p1"
        assert here.granted == 1
        here.accepted = {"Bearer somebody else's"}  # ours was revoked
        assert (await http.json("GET", asked, 10_000))["id"] == "p1"
        assert here.granted == 2
        secret.write_text("wrong")
        here.accepted = set()
        with pytest.raises(HttpProblem, match="token"):
            await http.json("GET", asked, 10_000)
        await http.close()
        here.accepted = {"Basic " + base64.b64encode(b"u:p").decode(), "Bearer new"}
        for authorize in (basic_of(lambda: "u:p"), bearer_of(lambda: "new")):
            http = FhirHttp(f"{origin}/r4", authorize=authorize)
            assert (await http.json("GET", asked, 10_000))["id"] == "p1"
            with pytest.raises(HttpProblem, match="too_large"):
                await http.json("GET", asked, 10)
            await http.close()


def test_a_source_that_cannot_be_is_told_at_the_start(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"types": ["Practitioner"]}, {"types": []}, {"identifier_systems": []}, {"since": "yesterday"},
        {"basic_file": "token"}, {"token_file": "none"}, {"base": "ftp://x"},
        {"oauth": {"token_url": "x", "client_id": "c", "secret_file": "token"}, "token_file": None},
    ]  # fmt: skip
    for changes in wrong:
        with pytest.raises(SettingsInvalid):
            built(tmp_path, "http://127.0.0.1:1", **changes)
