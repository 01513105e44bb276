"""The FHIR store on SQLite and on PostgreSQL: versions, search, paging, Bundles, merging; the same cases on both."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from server_postgres import postgres_folder, ready_file, ready_template, ready_url  # noqa: F401 - fixtures
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from server.record.aio.merge import merge_patient
from server.record.aio.plan import FLAT, Plan
from server.record.aio.reindex import reindex
from server.record.aio.search import Page, search
from server.record.aio.store import (
    AmbiguousPatient,
    VersionConflict,
    counts_of,
    delete_resource,
    one_version,
    patient_by_identifier,
    put_resource,
    read_resource,
    versions_of,
)
from server.record.aio.writes import apply_bundle
from server.record.core.cursor import Position
from server.record.core.dates import parse_date
from server.record.core.index import index_values
from server.record.core.meaning import Subject, matches
from server.record.core.outcome import FhirCode, FhirRefusal
from server.record.core.query import parse_query
from server.record.core.reach import Reach
from server.record.core.resource import ResourceInvalid
from server.storage import audit
from server.storage.database import Database
from server.storage.fhir_tables import FhirResource, FhirStore, FhirString, FhirToken, FhirVersion
from tests.fhir_kit import (
    CODES,
    DATES,
    LOINC,
    QUERIES,
    encounter,
    observation,
    organization,
    patient,
    record,
    some_query,
    without_id,
)

SEED = 5
PATIENTS = ("p0", "p1", "p2")
ALL = Reach.of_patients(PATIENTS)
NORTH = Reach.of_hospital("north")
WIDE = ("code", "identifier")
NOW_US = parse_date("2026-11-22T12:00:00Z").low_us


@pytest.fixture
async def database(ready_url: str) -> AsyncIterator[Database]:  # noqa: F811
    database = Database(ready_url)
    yield database
    verdict = await audit.verify(database, {})
    await database.close()
    assert verdict.broken is None


async def put(database: Database, *resources: dict[str, Any], at_ms: int = 1_000, **more: Any) -> list[Any]:
    async with database.write() as session:
        return [await put_resource(session, one, actor="person:d1", at_ms=at_ms, **more) for one in resources]


async def found(database: Database, kind: str, *pairs: tuple[str, str], reach: Reach = ALL) -> list[str]:
    async with database.read() as session:
        return [row.id for row in (await search(session, kind, pairs, reach=reach)).rows]


async def test_versions_deletion_and_history(database: Database) -> None:
    """[C23] What was said stays, under its number; a deletion is a version, and can be followed by another."""
    await put(database, patient("p0"))
    first = await put(database, observation("o1", "p0"))
    again = await put(database, observation("o1", "p0"), at_ms=2_000)
    changed = await put(database, observation("o1", "p0", status="amended"), at_ms=3_000)
    assert [(one.version, one.created, one.changed) for one in (*first, *again, *changed)] == [
        (1, True, True),
        (1, False, False),
        (2, False, True),
    ]
    async with database.write() as session:
        gone = await delete_resource(session, "Observation", "o1", actor="person:d1", at_ms=4_000, if_match=2)
    assert gone is not None
    assert (gone.version, gone.json) == (3, "")
    assert await found(database, "Observation") == []
    async with database.read() as session:
        history = await versions_of(session, "Observation", "o1")
        second = await one_version(session, "Observation", "o1", 2)
        assert [(one.version, bool(one.json)) for one in history] == [(3, False), (2, True), (1, True)]
        assert [one.version for one in await versions_of(session, "Observation", "o1", before=3, limit=1)] == [2]
        assert second is not None
        assert json.loads(second.json)["meta"]["versionId"] == "2"
        assert json.loads(second.json)["meta"]["lastUpdated"] == "1970-01-01T00:00:03.000Z"
        assert await one_version(session, "Observation", "o1", 4) is None
    back = await put(database, observation("o1", "p0"), at_ms=5_000)
    assert (back[0].version, back[0].created) == (4, True)
    assert await found(database, "Observation") == ["o1"]


async def test_a_stale_writer_changes_nothing(database: Database) -> None:
    await put(database, patient("p0"), observation("o1", "p0"))
    await put(database, observation("o1", "p0", status="amended"), if_match=1)
    for stale in (1, 3):
        with pytest.raises(VersionConflict):
            await put(database, observation("o1", "p0", status="cancelled"), if_match=stale)
    with pytest.raises(VersionConflict):
        async with database.write() as session:
            await delete_resource(session, "Observation", "o1", actor="x", at_ms=9, if_match=1)
    assert await found(database, "Observation", ("status", "amended")) == ["o1"]
    assert await found(database, "Observation", ("status", "final,cancelled")) == []


async def test_a_resource_of_another_patient_is_refused(database: Database) -> None:
    """A resource neither moves to another patient nor refers to another patient's."""
    await put(database, patient("p0"), patient("p1", "李秀英", "Li Xiuying"))
    await put(database, encounter("e1", "p1"), observation("o0", "p0"))
    for hostile in (
        observation("o0", "p1"),
        observation("o9", "p0", encounter={"reference": "Encounter/e1"}),
        observation("o9", "p0", hasMember=[{"reference": "Encounter/e1/_history/1"}]),
    ):
        with pytest.raises(ResourceInvalid) as refused:
            await put(database, hostile)
        assert refused.value.code is FhirCode.WRONG_PATIENT
    assert await found(database, "Observation") == ["o0"]


async def test_search_finds_what_the_filter_finds_page_by_page(database: Database) -> None:
    """Index = filter, pages put together = the full list, on any query; seed 5."""
    resources = record(SEED)
    async with database.write() as session:
        for number, one in enumerate(resources):
            first = {**one, "language": "en"}
            await put_resource(session, first, actor="x", at_ms=1_000 + number * 37, owner="north")
        for number in random.Random(SEED).sample(range(len(resources)), 12):
            # A second version must not leave rows of the first behind.
            if resources[number]["resourceType"] == "Observation":
                resources[number]["status"] = "corrected"
            await put_resource(session, resources[number], actor="x", at_ms=8_000 + number)
    written, found_by = {}, [index_values(one) for one in resources]
    async with database.read() as session:
        for row in await session.scalars(select(FhirResource)):
            written[(row.type, row.id)] = row.written_at_ms, row.patient_id, row.res
    chance = random.Random(SEED)
    edges = [("Observation", [("_lastUpdated", value)]) for value in QUERIES["Observation"]["_lastUpdated"]]
    quantities = QUERIES["Observation"]["value-quantity"]
    some = [one for one in quantities if "|" in one] + random.Random(SEED).sample(quantities, 24)
    numbers = [("Observation", [("value-quantity", one)]) for one in some]
    numbers += [
        ("Observation", [("code-value-quantity", one)]) for one in QUERIES["Observation"]["code-value-quantity"]
    ]
    systems = [("Observation", [("code", f"{LOINC}|")]), ("Patient", [("identifier", "urn:mrn|")]),
               ("Observation", [("status", "final"), ("code:not", f"{LOINC}|")])]  # fmt: skip
    near = [("Observation", [("date", f"ap{date}")]) for date in DATES]
    near += [("Observation", [("_lastUpdated", f"ap1970-01-01T00:00:0{at}Z")]) for at in ("2", "3", "1.222")]
    near += [("Observation", [("patient", "p1"), ("date", "ap2025-06")]), ("Encounter", [("date", "ap2020")])]
    for kind, pairs in (*edges, *numbers, *systems, *near, *(some_query(chance) for _ in range(80))):
        query = parse_query(kind, pairs, now_us=NOW_US)
        expected = []
        for one, values in zip(resources, found_by, strict=True):
            at_ms, whose, res = written[(one["resourceType"], one["id"])]
            subject = Subject(one["id"], whose, at_ms, values)
            if one["resourceType"] == kind and matches(query, subject):
                expected.append((at_ms, values.clinical.low_us, res, one["id"]))
        reach = chance.choice([ALL, NORTH])  # all of it came from one hospital: two ways to the same resources
        # A hospital that asks for what is new, and for no order, has it in the order of the news.
        led = any(one.kind == "token" and not one.negated and one.name in WIDE for one in query.criteria)
        asks_for_news = not query.ordered and not led and any(one.name == "_lastUpdated" for one in query.criteria)
        news = query.by_update or (reach is NORTH and query.patients is None and asks_for_news)
        expected.sort(key=lambda one: (one[0] if news else one[1], one[2]), reverse=query.descending)
        pages = [page async for page in every_page(database, kind, pairs, reach)]
        assert [row.id for page in pages for row in page.rows] == [one[3] for one in expected], (kind, pairs)
        assert all(len(page.rows) == query.count for page in pages[:-1])
        async with database.read() as session:
            counting = parse_query(kind, [*pairs, ("_summary", "count")], now_us=NOW_US)
            counted = await search(session, kind, counting, reach=reach)
        assert counted.total == len(expected)
    for pairs, reach in NO_SCAN:
        assert await scans(database, "Observation", pairs, reach) == [], (pairs, reach)


NO_SCAN: tuple[tuple[list[tuple[str, str]], Reach], ...] = (
    ([("patient", "p0"), ("date", "ge2024")], ALL),
    ([("patient", "p0"), ("date", "ap2020")], ALL),
    ([("code", CODES[0]), ("status", "final")], ALL),
    ([("_sort", "-_lastUpdated")], ALL),
    ([("category", "laboratory"), ("_sort", "-_lastUpdated")], ALL),
    ([("code", CODES[0]), ("date", "lt2025")], NORTH),
    ([("_lastUpdated", "gt1970-01-01")], NORTH),
    ([("_id", "o1")], ALL),
    ([("_summary", "count"), ("patient", "p1")], ALL),
    ([("patient", "p0"), ("encounter:missing", "true")], ALL),
    ([("code", CODES[0]), ("encounter:missing", "true")], NORTH),
    ([("code", f"{LOINC}|")], NORTH),
    ([("code", CODES[0]), ("value-quantity", "gt4||mg")], ALL),
    ([("code-value-quantity", f"{CODES[0]}$gt4,{CODES[1]}$lt5")], ALL),
)


async def scans(database: Database, kind: str, pairs: list[tuple[str, str]], reach: Reach) -> list[str]:
    """Where the database would read a table of the record from end to end: what grows with other people's records."""
    query = parse_query(kind, pairs, now_us=NOW_US)
    plan = Plan(query, reach)
    statement = plan.counting() if query.count_only else plan.page(None)
    async with database.read() as session:
        shown = statement.compile(
            dialect=session.get_bind().dialect, compile_kwargs={"literal_binds": True, "render_postcompile": True}
        )
        if not database.is_sqlite:
            await session.execute(text(FLAT))
        explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
        lines = (await session.execute(text(f"{explain} {str(shown).replace(':', chr(92) + ':')}"))).all()
    told = [str(line[-1]) for line in lines]
    return [line for line in told if "Seq Scan" in line or "Hash Join" in line or line in ("SCAN r", "SCAN t")]


async def every_page(
    database: Database, kind: str, pairs: list[tuple[str, str]], reach: Reach = ALL
) -> AsyncIterator[Page]:
    after: Position | None = None
    while True:
        async with database.read() as session:
            page = await search(session, kind, parse_query(kind, pairs, now_us=NOW_US), reach=reach, after=after)
        yield page
        if page.following is None:
            return
        after = page.following


async def test_pages_are_stable_while_others_write(database: Database) -> None:
    """What nobody touches comes exactly once, whatever is written, changed and deleted between two pages."""
    await put(database, patient("p0"))
    days = [f"2025-01-{day:02}" for day in range(1, 21)]
    await put(database, *(observation(f"o{n:02}", "p0", effectiveDateTime=day) for n, day in enumerate(days)))
    chance, seen, fresh = random.Random(SEED), [], 0
    touched: set[str] = set()
    async for page in every_page(database, "Observation", [("_count", "3"), ("_sort", "date")]):
        seen += [row.id for row in page.rows]
        victim = f"o{chance.randrange(20):02}"
        touched.add(victim)
        async with database.write() as session:
            await delete_resource(session, "Observation", victim, actor="x", at_ms=2_000)
        fresh += 1
        await put(database, observation(f"n{fresh}", "p0", effectiveDateTime=chance.choice(days)))
    untouched = [f"o{n:02}" for n in range(20) if f"o{n:02}" not in touched]
    assert [id_ for id_ in seen if id_ in untouched] == untouched
    assert len(seen) == len(set(seen))


async def test_nobody_finds_more_than_they_may_see(database: Database) -> None:
    """A person's search reads the partitions of her patients only; a hospital's only its own."""
    await put(database, patient("p0"), observation("o0", "p0"), owner="north")
    await put(database, patient("p1", "李秀英", "Li Xiuying"), observation("o1", "p1"), owner="south")
    await put(database, organization("h1", "North County"), owner="north")
    mine, north = Reach.of_patients(["p1"]), Reach.of_hospital("north")
    assert await found(database, "Observation", reach=mine) == ["o1"]
    for hostile in (("patient", "p0"), ("_id", "o0"), ("patient", "p0,nobody"), ("patient", "%"), ("_id", "' OR 1=1")):
        assert await found(database, "Observation", hostile, reach=mine) == []
        assert await found(database, "Observation", hostile, ("_id", "o1"), reach=Reach.of_hospital("west")) == []
    for hostile in (("_id", "p0"), ("name", "张"), ("identifier", "p0-1"), ("name:contains", "ang g")):
        assert await found(database, "Patient", hostile, reach=mine) == []
    assert await found(database, "Organization", reach=mine) == ["h1"]
    assert await found(database, "Observation", reach=north) == ["o0"]
    assert await found(database, "Observation", ("patient", "p0,p1"), reach=north) == ["o0"]
    assert await found(database, "Observation", ("_id", "o0,o1"), reach=north) == ["o0"]
    assert await found(database, "Patient", ("name", "zhang,li"), reach=north) == ["p0"]
    assert await found(database, "Observation", ("code", "2823-3"), ("status", "final"), reach=north) == ["o0"]
    assert await found(database, "Organization", ("name", "north"), reach=Reach.of_hospital("south")) == []
    assert await found(database, "Observation", reach=Reach.of_patients([])) == []


async def test_includes_stay_within_reach(database: Database) -> None:
    await put(database, patient("p0"), encounter("e0", "p0"), organization("h1", "Lab"))
    await put(
        database,
        observation("o0", "p0", encounter={"reference": "Encounter/e0"}, performer=[{"reference": "Organization/h1"}]),
    )
    asked = [("_include", "Observation:encounter"), ("_include", "Observation:performer"),
             ("_include", "Observation:patient")]  # fmt: skip
    async with database.read() as session:
        page = await search(session, "Observation", asked, reach=ALL)
        assert {f"{row.type}/{row.id}" for row in page.included} == {"Encounter/e0", "Organization/h1", "Patient/p0"}
        page = await search(session, "Encounter", [("_revinclude", "Observation:encounter")], reach=ALL)
        assert [row.id for row in page.included] == ["o0"]
        page = await search(session, "Patient", [("_revinclude", "Observation:subject")], reach=ALL)
        assert [row.id for row in page.included] == ["o0"]
        assert await counts_of(session, "p0") == {"Patient": 1, "Encounter": 1, "Observation": 1}
        only = [("_include", "Observation:performer:Organization"), ("_include", "Observation:performer:Practitioner")]
        page = await search(session, "Observation", only, reach=ALL)
        assert [row.id for row in page.included] == ["h1"]
        assert (await search(session, "Observation", only[1:], reach=ALL)).included == []
    # Written before what it refers to, which then turned out to be another patient's.
    await put(database, observation("o1", "p0", encounter={"reference": "Encounter/e9"}), patient("p1", "李", "Li X"))
    await put(database, encounter("e9", "p1"))
    await put(
        database, {"resourceType": "PractitionerRole", "id": "r1", "organization": {"reference": "Organization/h1"}}
    )
    async with database.read() as session:
        page = await search(session, "Observation", [("_id", "o1"), *asked], reach=ALL)
        assert [row.id for row in page.included] == ["p0"], "not the other patient's encounter"
        back = [("_revinclude", "PractitionerRole:organization")]
        for reach in (ALL, Reach.of_hospital("")):
            page = await search(session, "Organization", back, reach=reach)
            assert [row.id for row in page.included] == ["r1"]


async def test_identifiers_find_one_patient_or_nobody(database: Database) -> None:
    await put(database, patient("p0"), owner="north")
    async with database.read() as session:
        assert await patient_by_identifier(session, "urn:mrn", "p0-1") == "p0"
        assert await patient_by_identifier(session, "urn:mrn", "p0-1", owner="south") is None
        assert await patient_by_identifier(session, "urn:id", "p0-1") is None
    await put(database, patient("p1", identifier=patient("p0")["identifier"]), owner="south")
    async with database.read() as session:
        with pytest.raises(AmbiguousPatient):
            await patient_by_identifier(session, "urn:mrn", "p0-1")
        assert await patient_by_identifier(session, "urn:mrn", "p0-1", owner="south") == "p1"


def entry(
    method: str, url: str, resource: dict[str, Any] | None = None, name: str = "", **request: str
) -> dict[str, Any]:
    made: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    return made | ({"resource": resource} if resource else {}) | ({"fullUrl": name} if name else {})


def of(resource: dict[str, Any], whose: str) -> dict[str, Any]:
    return {**without_id(resource), "subject": {"reference": whose}}


def transaction(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


async def applied(database: Database, bundle: dict[str, Any], at_ms: int = 5_000) -> list[dict[str, Any]]:
    async with database.write() as session:
        answer = await apply_bundle(session, bundle, actor="client:gw", at_ms=at_ms, owner_hospital="north")
    return [one["response"] for one in answer["entry"]]


async def test_a_transaction_resolves_what_its_entries_call_each_other(database: Database) -> None:
    await put(database, organization("h1", "North"), owner="north")
    lab = [{"reference": "Organization?name=North"}]
    result = observation("x", "x", encounter={"reference": "urn:uuid:b"}, performer=lab)
    whole = transaction(
        entry("POST", "Observation", of(result, "urn:uuid:a")),
        entry("POST", "Encounter", of(encounter("x", "x"), "urn:uuid:a"), "urn:uuid:b"),
        entry("PUT", "Patient?identifier=urn:mrn|m-1", without_id(patient("m")), "urn:uuid:a"),
    )  # fmt: skip
    answers = await applied(database, whole)
    assert [one["status"] for one in answers] == ["201 Created"] * 3
    pat = answers[2]["location"].split("/")[1]
    north = Reach.of_hospital("north")
    assert (
        len(await found(database, "Observation", ("patient", pat), ("performer", "Organization/h1"), reach=north)) == 1
    )
    # The same message again: the patient is found, not doubled, and the rest says that it must not be there yet.
    once = {"ifNoneExist": f"patient={pat}"}
    again = transaction(
        entry("PUT", "Patient?identifier=urn:mrn|m-1", without_id(patient("m")), "urn:uuid:a"),
        entry("POST", "Encounter", of(encounter("x", "x"), "urn:uuid:a"), **once),
    )
    answers = await applied(database, again)
    assert [one["status"] for one in answers] == ["200 OK", "200 OK"]
    assert answers[0]["etag"] == 'W/"1"'
    assert len(await found(database, "Encounter", reach=north)) == 1


def during(encounter: str) -> dict[str, Any]:
    return observation("x", "p0", encounter={"reference": encounter})


HOSTILE = (
    (entry("PUT", "Observation/o0", observation("o0", "p0", status="amended"), ifMatch='W/"7"'), "stale"),
    (entry("POST", "Observation", {**observation("x", "p0"), "status": 7}), "invalid"),
    (entry("POST", "Observation", during("urn:uuid:none")), "unresolved"),
    (entry("POST", "Observation", during("Encounter/e1")), "wrong_patient"),
    (
        entry("POST", "Observation", observation("x", "p0", performer=[{"reference": "Organization?name=No"}])),
        "unresolved",
    ),
    (entry("DELETE", "Patient/p0"), "in_use"),
    (entry("DELETE", "Observation/none"), "not_found"),
    (entry("PUT", "Observation/other", observation("o5", "p0")), "wrong_id"),
    (entry("POST", "Unheard", {"resourceType": "Unheard"}), "unknown_type"),
    (entry("DELETE", "Observation?patient=p0"), "many_match"),
    (entry("POST", "Observation", without_id(observation("x", "p0")), ifNoneExist="code=9&_count=0"), "query"),
    (entry("POST", "Observation", without_id(observation("x", "p0")), ifNoneExist="code=&status=final"), "query"),
    (entry("PUT", "Patient?identifier=urn:mrn|", patient("p0")), "query"),
    (
        entry(
            "POST", "Observation", observation("x", "p0", performer=[{"reference": "Organization?identifier=urn:o|"}])
        ),
        "query",
    ),
    (entry("DELETE", "Observation?patient.identifier=urn:mrn|"), "query"),
    (entry("POST", "Observation", without_id(observation("x", "p0")), ifNoneExist=7), "bundle"),  # type: ignore[arg-type]
    (entry("DELETE", "http://["), "bundle"),
    (entry("PUT", "Encounter?identifier=urn:v|1", encounter("e1", "p1")), "wrong_id"),
)


async def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    """Whatever is wrong with one entry, none is carried out, and the refusal says which it was."""
    await put(database, patient("p0"), observation("o0", "p0"), observation("o1", "p0"), owner="north")
    await put(database, patient("p1", "李", "Li X"), encounter("e1", "p1"), owner="north")
    before = await state(database)
    for bad, code in HOSTILE:
        with pytest.raises(FhirRefusal) as refused:
            await applied(database, transaction(entry("POST", "Observation", without_id(observation("x", "p0"))), bad))
        assert refused.value.code.value == code
        assert refused.value.places[0].expression.startswith("Bundle.entry[1]")
        assert await state(database) == before


async def state(database: Database) -> tuple[Any, ...]:
    async with database.read() as session:
        rows = (await session.execute(select(FhirResource.type, FhirResource.id, FhirResource.version))).all()
        tokens = await session.scalar(select(func.count()).select_from(FhirToken))
    return sorted(map(tuple, rows)), tokens, (await audit.head(database))[0]


async def test_the_order_of_entries_does_not_matter(database: Database) -> None:
    """R4 section 3.1.0.11.2: deletions first; conditions and references see what the Bundle itself makes and takes."""
    number = {"identifier": [{"system": "urn:v", "value": "7"}]}
    await put(database, patient("p0"), observation("o0", "p0", **number), organization("h0", "Old"), owner="north")
    fresh = without_id(observation("x", "p0", performer=[{"reference": "Organization?name=New"}], **number))
    once = entry("POST", "Observation", fresh, "urn:uuid:o", ifNoneExist="identifier=urn:v|7")
    answers = await applied(database, transaction(
        once,
        entry("POST", "Encounter", without_id(encounter("x", "p0")), ifNoneExist="patient=p0"),
        entry("POST", "Encounter", without_id(encounter("x", "p0")), ifNoneExist="patient=p0"),
        entry("POST", "Organization", without_id(organization("x", "New Lab"))),
        entry("DELETE", "Observation/o0"),
    ))  # fmt: skip
    assert [one["status"][:3] for one in answers] == ["201", "201", "200", "201", "204"]
    assert answers[1]["location"] == answers[2]["location"], "two entries, one encounter"
    made = answers[0]["location"].split("/")[1]
    assert await found(database, "Observation", ("identifier", "urn:v|7"), reach=NORTH) == [made]
    assert await found(database, "Observation", ("performer:Organization.name", "new"), reach=NORTH) == [made]
    twice = entry("PUT", "Observation?identifier=urn:v|7", {**fresh, "performer": []})
    with pytest.raises(FhirRefusal) as refused:
        await applied(database, transaction(twice, {**twice, "fullUrl": "urn:uuid:2"}))
    assert refused.value.code is FhirCode.BUNDLE
    gone = [entry("DELETE", "Patient/p0"), *(entry("DELETE", f"{kind}/{one}") for kind, one in (
        ("Observation", made), ("Encounter", answers[1]["location"].split("/")[1])))]  # fmt: skip
    assert [one["status"][:3] for one in await applied(database, transaction(*gone))] == ["204"] * 3


async def test_what_comes_under_the_number_of_a_merged_patient_is_the_survivors(database: Database) -> None:
    await put(database, patient("p0"), patient("p1", "李", "Li X"), owner="north")
    async with database.write() as session:
        await merge_patient(session, survivor="p0", merged="p1", actor="client:gw", at_ms=7_000)
    old = entry("PUT", "Patient?identifier=urn:mrn|p1-1", without_id(patient("p1", "李", "Li X")), "urn:uuid:p")
    answers = await applied(
        database, transaction(old, entry("POST", "Observation", of(observation("x", "x"), "urn:uuid:p")))
    )
    assert answers[0]["location"].startswith("Patient/p0/")
    assert len(await found(database, "Observation", ("patient", "p0"), reach=NORTH)) == 1
    assert await found(database, "Patient", ("identifier", "p1-1"), ("active", "false"), reach=NORTH) == ["p1"]


async def test_two_that_write_one_resource_are_one_after_the_other(database: Database) -> None:
    """What the second waited for is what it goes on from; with If-Match it is refused."""
    await put(database, patient("p0"), observation("o0", "p0"), owner="north")

    async def change(number: int, **more: str) -> list[dict[str, Any]]:
        changed = observation("o0", "p0", valueQuantity={"value": number, "unit": "mmol/L"})
        return await applied(database, transaction(entry("PUT", "Observation/o0", changed, **more)))

    done = await asyncio.gather(*(change(number) for number in range(10, 18)))
    assert sorted(one["etag"] for (one,) in done) == sorted(f'W/"{version}"' for version in range(2, 10))
    seen = await asyncio.gather(*(change(number, ifMatch='W/"9"') for number in range(4)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in seen) == ["FhirRefusal"] * 3 + ["list"]
    once = [entry("POST", "Encounter", without_id(encounter("x", "p0")), ifNoneExist="patient=p0")]
    await asyncio.gather(*(applied(database, transaction(*once)) for _ in range(6)))
    assert len(await found(database, "Encounter", reach=NORTH)) == 1


async def test_an_error_of_the_database_quotes_no_content(database: Database) -> None:
    """[G8] It goes into the log as it is."""
    row = {"type": "Patient", "id": "p0", "version": 1, "patient_id": "p0", "json": "张桂兰", "written_at_ms": 1}
    with pytest.raises(IntegrityError) as problem:
        async with database.write() as session:
            await session.execute(insert(FhirVersion), [row, row])
    assert "fhir_version" in str(problem.value)
    assert "张桂兰" not in str(problem.value)


async def test_an_id_does_not_come_back_as_another_patients(database: Database) -> None:
    """Its history would be shown as the new one's."""
    await put(database, patient("p0"), patient("p1", "李", "Li X"), observation("o0", "p0"))
    async with database.write() as session:
        await delete_resource(session, "Observation", "o0", actor="x", at_ms=2_000)
    with pytest.raises(ResourceInvalid) as refused:
        await put(database, observation("o0", "p1"))
    assert refused.value.code is FhirCode.WRONG_PATIENT


async def test_chains_are_the_two_searches_that_they_stand_for(database: Database) -> None:
    """And reach no further: what the caller may not see does not decide what she finds."""
    await put(database, patient("p0"), patient("p1", "李秀英", "Li Xiuying"), organization("h0", "North Lab"))
    await put(database, encounter("e0", "p0", status="finished"), encounter("e1", "p1", status="in-progress"))
    await put(database, observation("o0", "p0", encounter={"reference": "Encounter/e0"}),
              observation("o1", "p1", status="amended", encounter={"reference": "Encounter/e1"}))  # fmt: skip
    cases: list[tuple[str, str, str, list[str]]] = [
        ("Observation", "patient.identifier", "urn:mrn|p1-1", ["o1"]),
        ("Observation", "subject:Patient.name", "zhang", ["o0"]),
        ("Observation", "patient.name", "nobody", []),
        ("Observation", "encounter.status", "in-progress", ["o1"]),
        ("Observation", "encounter.patient.name", "li", ["o1"]),
        ("Patient", "_has:Observation:patient:status", "amended", ["p1"]),
        ("Patient", "_has:Observation:patient:code", "2823-3", ["p1", "p0"]),
        ("Patient", "_has:Encounter:patient:_has:Observation:encounter:status", "final", ["p0"]),
        ("Encounter", "_has:Observation:encounter:status:not", "final", ["e1"]),
    ]
    for kind, name, value, expected in cases:
        assert await found(database, kind, (name, value)) == expected, name
        mine = Reach.of_patients(["p0"])
        assert await found(database, kind, (name, value), reach=mine) == [one for one in expected if one[1] == "0"]
    for wrong in ("patient.colour", "code.name", "performer.name", "patient._count", "_has:Observation:code:status",
                  "_has:Patient:patient:name", "_has:Observation:patient", "encounter:Patient.name",
                  "encounter.patient.general-practitioner:Practitioner.name._id"):  # fmt: skip
        with pytest.raises(FhirRefusal):
            parse_query("Observation", [(wrong, "x")])


async def test_entries_of_two_patients_are_not_tied_together(database: Database) -> None:
    """Nor inside one Bundle, where neither is stored yet when the other is looked at."""
    whole = transaction(
        entry("POST", "Patient", without_id(patient("a")), "urn:uuid:a"),
        entry("POST", "Patient", without_id(patient("b")), "urn:uuid:b"),
        entry("POST", "Encounter", of(encounter("x", "x"), "urn:uuid:b"), "urn:uuid:e"),
        entry("POST", "Condition", {
            "resourceType": "Condition", "subject": {"reference": "urn:uuid:a"},
            "encounter": {"reference": "urn:uuid:e"},
        }),
    )  # fmt: skip
    with pytest.raises(FhirRefusal) as refused:
        await applied(database, whole)
    assert refused.value.code is FhirCode.WRONG_PATIENT


async def test_merging_moves_the_record_and_keeps_what_was_said(database: Database) -> None:
    await put(database, patient("p0"), patient("p1", "李", "Li X"))
    await put(database, encounter("e1", "p1"), observation("o1", "p1", encounter={"reference": "Encounter/e1"}))
    for expected in (2, 0):
        async with database.write() as session:
            moved = await merge_patient(session, survivor="p0", merged="p1", actor="client:gw", at_ms=7_000)
        assert moved == expected
    assert await found(database, "Observation", ("patient", "p0"), ("encounter", "e1")) == ["o1"]
    assert await found(database, "Observation", ("patient", "p1")) == []
    async with database.read() as session:
        first = await one_version(session, "Observation", "o1", 1)
        gone = await read_resource(session, "Patient", "p1")
    assert first is not None
    assert '"Patient/p1"' in first.json
    assert gone is not None
    assert json.loads(gone[1])["active"] is False
    with pytest.raises(FhirRefusal):
        async with database.write() as session:
            await merge_patient(session, survivor="p1", merged="p0", actor="client:gw", at_ms=8_000)


async def test_the_index_is_made_anew_when_its_rules_have_changed(database: Database) -> None:
    await put(database, *record(SEED, resources=20))
    before = await state(database)
    async with database.write() as session:
        await session.execute(delete(FhirToken).where(FhirToken.res > 10))
        await session.execute(delete(FhirString))
        await session.execute(update(FhirToken).values(system=7))  # what old rules made of it
        await session.execute(update(FhirStore).values(index_version=0))
    assert len(await found(database, "Observation")) < 20
    assert await reindex(database) == 26
    assert await reindex(database) == 0
    assert await state(database) == before
    assert len(await found(database, "Observation")) == 20
