"""Questions through the lock against a FHIR server that answers more, less and other than it was asked."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from server.gateway.adapters.fhir_answers import allowed_params, belongs_to, next_link
from server.gateway.adapters.fhir_client import FhirResponder, FhirServer
from server.gateway.core.responder import QueryCode, QueryFailed, RecordQuery
from tests.hl7v2_kit import MRN

WANG, LIN = (MRN, "10042"), (MRN, "10043")
PEOPLE = {"p1": WANG, "p2": LIN}


def observation(id_: str, patient: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": id_, "subject": {"reference": patient}} | more


class Hospital:
    """The server: what it holds, how it answers, and what it was asked."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.extra: list[dict[str, Any]] = []
        self.status = 200
        self.next: str | None = None
        self.loose = False
        self.stall = asyncio.Event()
        self.stall.set()

    def add(self, *resources: dict[str, Any]) -> None:
        self.resources |= {f"{one['resourceType']}/{one['id']}": one for one in resources}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        await self.stall.wait()
        if request.headers.get("Authorization") != "Bearer inside":
            return web.Response(status=401)
        if self.status != 200:
            return web.Response(status=self.status, headers={"Location": "http://elsewhere.example/"})
        path = request.path.removeprefix("/r4/")
        if path.endswith("/_search"):
            return web.json_response(self._search(path.partition("/")[0], dict(parse_qsl(await request.text()))))
        if path == "page2":
            return web.json_response(self._bundle([observation("o9", "Patient/p1")]))
        found = self.resources.get(path)
        return web.json_response(found) if found is not None else web.Response(status=404)

    def _search(self, kind: str, form: dict[str, str]) -> dict[str, Any]:
        every = [one for one in self.resources.values() if one["resourceType"] == kind]
        if kind == "Patient" and not self.loose:
            system, _, value = form["identifier"].partition("|")
            every = [one for one in every if {"system": system, "value": value} in one["identifier"]]
        elif kind != "Patient":
            theirs = f"Patient/{form['patient']}"
            every = [one for one in every if one.get("subject", {}).get("reference") == theirs] + self.extra
        return self._bundle(every)

    def _bundle(self, resources: list[dict[str, Any]]) -> dict[str, Any]:
        links = [{"relation": "next", "url": self.next}] if self.next is not None else []
        entries = [{"resource": one, "search": {"mode": "match"}} for one in resources]
        entries.append({"resource": {"resourceType": "Practitioner", "id": "d"}, "search": {"mode": "include"}})
        return {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries}


@contextlib.asynccontextmanager
async def hospital(answer_s: float = 60) -> AsyncIterator[tuple[Hospital, FhirResponder]]:
    here = Hospital()
    for id_, (system, value) in PEOPLE.items():
        here.add({"resourceType": "Patient", "id": id_, "identifier": [{"system": system, "value": value}]})
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", here.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    responder = FhirResponder(
        FhirServer(name="fhir", base=f"http://127.0.0.1:{port}/r4", token=lambda: "inside", answer_s=answer_s)
    )
    try:
        yield here, responder
    finally:
        here.stall.set()
        await responder.close()
        await runner.cleanup()


def query(type_: str = "Observation", id_: str | None = None, *params: tuple[str, str], **how: Any) -> RecordQuery:
    given: dict[str, Any] = {"patient": (WANG,), "max_bytes": 1_000_000, "max_count": 50} | how
    return RecordQuery(type=type_, resource_id=id_, params=params, **given)


async def code_of(responder: FhirResponder, asked: RecordQuery) -> QueryCode:
    with pytest.raises(QueryFailed) as failed:
        await responder.answer(asked)
    return failed.value.code


async def test_a_search_is_of_the_asked_patient_whatever_the_server_adds() -> None:
    """What the server adds of others, by itself or as an include, never leaves; no identifier in an address (G8)."""
    async with hospital() as (here, responder):
        here.add(observation("o1", "Patient/p1"), observation("o2", "Patient/p2"))
        here.extra = [
            observation("o3", "Patient/p2"), observation("o4", "Patient/p11"), observation("o5", "Group/p1"),
            observation("o6", "http://elsewhere.example/Patient/p1"), {"resourceType": "Observation", "id": "o7"},
            observation("o8", "Patient/p1", subject={"identifier": {"system": MRN, "value": "10043"}}),
            {"resourceType": "Patient", "id": "p2"}, {"resourceType": "OperationOutcome"},
            observation("o9", "Patient/p1", subject={"identifier": {"system": MRN, "value": "10042"}}),
        ]  # fmt: skip
        found = await responder.answer(query("Observation", None, ("code", "2160-0"), ("_sort", "-date")))
        assert [one["id"] for one in found.resources] == ["o1", "o9"]
        assert all("10042" not in address for address in here.asked)


async def test_a_read_of_another_patient_is_not_found_like_one_that_is_not_there() -> None:
    async with hospital() as (here, responder):
        here.add(observation("o1", "Patient/p1"), observation("o2", "Patient/p2"))
        assert [one["id"] for one in (await responder.answer(query("Observation", "o1"))).resources] == ["o1"]
        assert [one["id"] for one in (await responder.answer(query("Patient"))).resources] == ["p1"]
        for asked in (
            query("Observation", "o2"), query("Observation", "nothing"), query("Patient", "p2"),
            query("Observation", "o1", patient=((MRN, "99"),)), query("Observation", "o1", patient=(WANG, LIN)),
        ):  # fmt: skip
            assert await code_of(responder, asked) is QueryCode.NOT_FOUND


async def test_a_server_that_finds_patients_loosely_does_not_choose_for_us() -> None:
    async with hospital() as (here, responder):
        here.loose = True
        assert (await responder.answer(query("Patient"))).resources[0]["id"] == "p1"
        here.add({"resourceType": "Patient", "id": "p3", "identifier": [{"system": MRN, "value": "77"}]},
                 {"resourceType": "Patient", "id": "p4", "identifier": [{"system": MRN, "value": "77"}]})  # fmt: skip
        assert await code_of(responder, query("Patient", patient=((MRN, "77"),))) is QueryCode.NOT_FOUND


async def test_a_binary_is_read_only_where_a_document_of_the_patient_shows_it() -> None:
    async with hospital() as (here, responder):
        here.add(
            {"resourceType": "Binary", "id": "b1", "contentType": "application/pdf"},
            {"resourceType": "Binary", "id": "b2", "contentType": "application/pdf"},
            {"resourceType": "Binary", "id": "b3", "securityContext": {"reference": "Patient/p2"}},
            {"resourceType": "DocumentReference", "id": "d1", "subject": {"reference": "Patient/p1"},
             "content": [{"attachment": {"url": "Binary/b1"}}]},
            {"resourceType": "DocumentReference", "id": "d2", "subject": {"reference": "Patient/p2"},
             "content": [{"attachment": {"url": "Binary/b2"}}]},
        )  # fmt: skip
        assert (await responder.answer(query("Binary", "b1"))).resources[0]["id"] == "b1"
        assert await code_of(responder, query("Binary", "b2")) is QueryCode.NOT_FOUND
        assert await code_of(responder, query("Binary", "b3")) is QueryCode.NOT_FOUND


async def test_pages_are_sealed_and_good_for_the_same_question_only() -> None:
    async with hospital() as (here, responder):
        here.add(observation("o1", "Patient/p1"))
        here.next = "page2?patient=p1&mark=the-hospital-s-own"
        first = await responder.answer(query())
        here.next = None
        assert "the-hospital-s-own" not in first.next_page
        second = await responder.answer(query(page=first.next_page))
        assert [one["id"] for one in second.resources] == ["o9"]
        assert second.next_page == ""
        others = [query(page=first.next_page, patient=(LIN,)), query("Condition", page=first.next_page)]
        others += [query(page="AAAA"), query(page="é"), query("Observation", None, ("code", "1"), page=first.next_page)]
        for other in others:
            assert await code_of(responder, other) is QueryCode.MALFORMED
        for elsewhere in (
            "http://elsewhere.example/r4/page2",
            "//elsewhere.example/r4",
            "http://x@127.0.0.1/r4",
            "../admin",
        ):
            here.next = elsewhere
            assert await code_of(responder, query()) is QueryCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, QueryCode.NOT_FOUND), (410, QueryCode.NOT_FOUND), (400, QueryCode.MALFORMED), (401, QueryCode.UNAVAILABLE),
     (302, QueryCode.UNAVAILABLE), (503, QueryCode.UNAVAILABLE)],
)  # fmt: skip
async def test_statuses_of_the_hospital(status: int, code: QueryCode) -> None:
    async with hospital() as (here, responder):
        here.status = status
        assert await code_of(responder, query()) is code


async def test_bounds_on_bytes_count_and_time() -> None:
    async with hospital() as (here, responder):
        here.add(*(observation(f"o{n}", "Patient/p1", note="x" * 1000) for n in range(20)))
        assert await code_of(responder, query(max_bytes=5_000)) is QueryCode.TOO_LARGE
        assert await code_of(responder, query(max_count=10)) is QueryCode.TOO_LARGE
        assert len((await responder.answer(query())).resources) == 20
    async with hospital(answer_s=0.2) as (here, responder):
        here.stall.clear()
        assert await code_of(responder, query()) is QueryCode.TIMED_OUT
    assert await code_of(responder, query()) is QueryCode.UNAVAILABLE, "the server is gone"
    await responder.close()


@pytest.mark.parametrize(
    "asked",
    [
        query("Practitioner"), query("Binary"), query("Observation", "../Patient/p2"), query("Observation", "o1?x=1"),
        query("Observation", None, ("patient", "p2")), query("Observation", None, ("subject", "Patient/p2")),
        query("Observation", None, ("subject:Patient", "p2")), query("Observation", None, ("patient.name", "x")),
        query("Observation", None, ("_include", "Observation:subject")),
        query("Observation", None, ("_has:x:y:z", "1")),
        query("Observation", None, ("_elements", "code")), query("Observation", None, ("code", "")),
        query("Observation", "o1", ("code", "1")), query(patient=()), query(patient=((MRN, ""),)),
    ],
)  # fmt: skip
async def test_questions_that_lead_beyond_the_patient_are_not_asked(asked: RecordQuery) -> None:
    async with hospital() as (here, responder):
        assert await code_of(responder, asked) is QueryCode.MALFORMED
        assert here.asked == []


def test_an_appointment_of_two_patients_is_nobody_s_alone() -> None:
    def appointment(*patients: str) -> dict[str, Any]:
        actors = [{"actor": {"reference": one}} for one in (*patients, "Practitioner/d")]
        return {"resourceType": "Appointment", "id": "a", "participant": actors}

    def is_theirs(resource: Any) -> bool:
        return belongs_to(resource, "Appointment", "p1", (WANG,), "http://h/r4")

    assert is_theirs(appointment("Patient/p1"))
    assert is_theirs(appointment("http://h/r4/Patient/p1"))
    assert not is_theirs(appointment("Patient/p1", "Patient/p2"))
    assert not is_theirs(appointment())
    assert not is_theirs(json.loads("[]"))
    assert (
        next_link({"link": [{"relation": "next", "url": "http://h/r4?page=2"}]}, "http://h/r4") == "http://h/r4?page=2"
    )
    assert allowed_params((("date", "ge2026"), ("code:not", "x"), ("_lastUpdated", "gt2026")))
