"""Fill a database with made-up records, unchecked, and time what a doctor waits for.

    python -m server.record.bulk load sqlite:////tmp/x.db --resources 1000000
    python -m server.record.bulk time sqlite:////tmp/x.db

For benchmarks: a million resources through the FHIR models would take an hour
and say nothing about the store. Content, layout and index rows are those of the
store itself; only the checks are left out, and the audit rows, which is why it
refuses a database that has any. Each command prints one JSON object.
"""

import argparse
import asyncio
import json
import random
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from server.record.aio.everything import everything
from server.record.aio.search import search
from server.record.aio.store import counts_of, row_text
from server.record.core.index import index_rows, index_values, primary_partition
from server.record.core.layout import kept_text
from server.record.core.query import parse_query
from server.record.core.reach import Reach
from server.record.core.resource import first_code
from server.storage import schema
from server.storage.database import Database

HOSPITAL = "bulk"
A_PATIENT = 100
"""Resources of an ordinary patient."""
GIANT, GIANT_RESOURCES = "giant", 10_000
BATCH = 20_000
_START = datetime(2015, 1, 1, tzinfo=UTC)
_DAYS = 4_000
_CODES = [f"{number}-{number % 10}" for number in range(10_000, 10_200)]
_WRITTEN_MS = 1_780_000_000_000

_TABLES = {
    "fhir_resource": ("res", "type", "id", "version", "deleted", "patient_id", "owner", "part", "low_us", "category",
                      "test", "json", "written_at_ms"),
    "fhir_token": ("key", "part", "low_us", "res", "high_us", "system"),
    "fhir_date": ("key", "part", "res", "low_us", "high_us"),
    "fhir_string": ("key", "part", "text", "res", "exact"),
}  # fmt: skip


def made_up(resources: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """``resources`` of many patients and one with very many, as they come in: all patients by turns."""
    chance = random.Random(seed)  # noqa: S311 - sample data
    giant = min(GIANT_RESOURCES, resources // 2)
    patients = max(1, (resources - giant) // A_PATIENT)
    left = resources - giant
    for turn in range(A_PATIENT + 1):
        for number in range(patients):
            if left == 0:
                break
            left -= 1
            yield _resource(chance, f"p{number}", f"{number}-{turn}", turn)
    for turn in range(giant):
        yield _resource(chance, GIANT, f"g-{turn}", turn)


def _resource(chance: random.Random, patient: str, id_: str, turn: int) -> dict[str, Any]:
    if turn == 0:
        return _patient(patient)
    subject = {"reference": f"Patient/{patient}"}
    moment = _START + timedelta(days=chance.randrange(_DAYS), seconds=chance.randrange(86_400))
    when = moment.strftime("%Y-%m-%dT%H:%M:%S+08:00")
    if turn % 33 == 1:
        return {
            "resourceType": "Encounter",
            "id": id_,
            "status": "finished",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
            "subject": subject,
            "period": {"start": when, "end": when},
        }
    coding = [{"system": "http://loinc.org", "code": chance.choice(_CODES), "display": "Made-up observation"}]
    if turn % 10 == 2:
        return {
            "resourceType": "MedicationRequest",
            "id": id_,
            "status": chance.choice(["active", "completed"]),
            "intent": "order",
            "medicationCodeableConcept": {"coding": coding, "text": "Made-up medicine"},
            "subject": subject,
            "authoredOn": when,
        }
    kind = chance.choice(["laboratory", "vital-signs"])
    return {
        "resourceType": "Observation",
        "id": id_,
        "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/Observation"]},
        "status": "final",
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": kind}]}
        ],
        "code": {"coding": coding, "text": "Made-up observation"},
        "subject": subject,
        "encounter": {"reference": f"Encounter/{id_.rpartition('-')[0]}-1"},
        "effectiveDateTime": when,
        "issued": when,
        "valueQuantity": {
            "value": round(chance.uniform(1, 200), 1),
            "unit": "mmol/L",
            "system": "http://unitsofmeasure.org",
            "code": "mmol/L",
        },
        "referenceRange": [{"low": {"value": 3.5, "unit": "mmol/L"}, "high": {"value": 5.1, "unit": "mmol/L"}}],
    }


def _patient(id_: str) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": id_,
        "name": [{"text": f"患者{id_}"}, {"text": f"Patient {id_}", "family": "Patient", "given": [id_]}],
        "gender": "female",
        "birthDate": "1960-05-05",
        "identifier": [
            {"system": "urn:mrn", "type": {"text": "MRN"}, "value": f"MRN-{id_}"},
            {"system": "urn:id", "type": {"text": "ID"}, "value": f"ID-{id_}"},
        ],
    }


def rows_of(resources: Sequence[dict[str, Any]], first: int) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of all four tables, each in the order of its key, for resources numbered from ``first``."""
    rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _TABLES}
    for res, one in enumerate(resources, first):
        kind = one["resourceType"]
        patient = one["id"] if kind == "Patient" else one["subject"]["reference"].removeprefix("Patient/")
        values = index_values(one)
        found = index_rows(kind, values, res, patient, HOSPITAL)
        part, low_us, category = primary_partition(patient), values.clinical.low_us, first_code(one.get("category"))
        rows["fhir_resource"].append(
            (res, kind, one["id"], 1, False, patient, HOSPITAL, part, low_us, category, False, kept_text(one),
             _WRITTEN_MS + res)
        )  # fmt: skip
        rows["fhir_token"].extend(found.tokens)
        rows["fhir_date"].extend(found.dates)
        rows["fhir_string"].extend(found.strings)
    for table in ("fhir_token", "fhir_date", "fhir_string"):
        rows[table].sort()
    return rows


def _batches(resources: int) -> Iterator[dict[str, list[tuple[Any, ...]]]]:
    batch: list[dict[str, Any]] = []
    first = 1
    for one in made_up(resources):
        batch.append(one)
        if len(batch) == BATCH:
            yield rows_of(batch, first)
            first, batch = first + BATCH, []
    if batch:
        yield rows_of(batch, first)


def load(url: str, resources: int) -> dict[str, Any]:
    """Fill an empty database; seconds and bytes it took."""
    database = Database(url)
    asyncio.run(_prepare(database))
    begun = time.perf_counter()
    if database.is_sqlite:
        _load_sqlite(str(database.file), resources)
    else:
        _load_postgresql(url, resources)
    took_s = time.perf_counter() - begun
    return {"resources": resources, "seconds": took_s, "bytes": _size(database, url)}


async def _prepare(database: Database) -> None:
    await schema.upgrade(database)
    await database.close()


def _load_sqlite(file: str, resources: int) -> None:
    with closing(sqlite3.connect(file)) as connection:
        _refuse_used(connection.execute("SELECT count(*) FROM fhir_resource").fetchone()[0])
        # A file that is thrown away when this fails needs no journal.
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-1000000")
        for rows in _batches(resources):
            for table, some in rows.items():
                connection.executemany(_insert(table), some)
            connection.commit()
        connection.execute("ANALYZE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.commit()


def _insert(table: str) -> str:
    columns = _TABLES[table]
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - our own words


def _load_postgresql(url: str, resources: int) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        found = cursor.execute("SELECT count(*) FROM fhir_resource").fetchone()
        _refuse_used(found[0] if found else 0)
        for rows in _batches(resources):
            for table, some in rows.items():
                columns = ", ".join(_TABLES[table])
                with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                    for row in some:
                        copy.write_row(row)
        last = "SELECT setval(pg_get_serial_sequence('fhir_resource', 'res'), (SELECT max(res) FROM fhir_resource))"
        cursor.execute(last)
        connection.commit()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _refuse_used(rows: int) -> None:
    if rows:
        raise SystemExit("The database has a record already; this is for empty ones.")


def _size(database: Database, url: str) -> int:
    if database.file is not None:
        return database.file.stat().st_size
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(found[0]) if found else 0


# ------------------------------------------------------------------ timing


async def timings(url: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each question, asked ``rounds`` times of patients by chance."""
    database = Database(url)
    async with database.read() as session:
        patients = (await counts_of(session, GIANT)).get("Patient", 0) and await _patients(session)
    chance = random.Random(2)  # noqa: S311 - sample data
    found: dict[str, list[float]] = {}
    for name, rounds_of_it in {"warm": 20, **dict.fromkeys(_QUESTIONS, rounds), "open_giant": 20}.items():
        times = found.setdefault(name, [])
        for _ in range(rounds_of_it):
            patient = f"p{chance.randrange(max(1, int(patients)))}"
            begun = time.perf_counter()
            async with database.read() as session:
                await _ask(session, name, patient, chance)
            times.append((time.perf_counter() - begun) * 1_000)
    await database.close()
    found.pop("warm")
    return found


async def _patients(session: Any) -> int:
    return (
        len((await search(session, "Patient", [("_count", "1")], reach=Reach.of_hospital(HOSPITAL))).rows)
        and ((await search(session, "Patient", [("_summary", "count")], reach=Reach.of_hospital(HOSPITAL))).total or 0)
        - 1
    )


_QUESTIONS = (
    "patient_date", "patient_code_date", "giant_code_date", "giant_newest", "hospital_code_date", "hospital_news",
    "identifier", "chain", "next_page",
)  # fmt: skip


async def _ask(session: Any, name: str, patient: str, chance: random.Random) -> None:
    code, year = chance.choice(_CODES), 2016 + chance.randrange(8)
    dates = [("date", f"ge{year}"), ("date", f"lt{year + 2}"), ("_count", "50")]
    hospital, one = Reach.of_hospital(HOSPITAL), Reach.of_patients([patient])
    match name:
        case "patient_date" | "warm":
            page = await search(session, "Observation", [("patient", patient), *dates], reach=one)
        case "patient_code_date":
            page = await search(session, "Observation", [("patient", patient), ("code", code), *dates], reach=one)
        case "giant_code_date":
            pairs = [("patient", GIANT), ("code", code), *dates]
            page = await search(session, "Observation", pairs, reach=Reach.of_patients([GIANT]))
        case "giant_newest":
            pairs = [("patient", GIANT), ("category", "laboratory"), ("_sort", "-_lastUpdated"), ("_count", "50")]
            page = await search(session, "Observation", pairs, reach=Reach.of_patients([GIANT]))
        case "hospital_news":
            since = [("_lastUpdated", "ge2020"), ("_count", "50")]
            page = await search(session, "Observation", since, reach=hospital)
        case "chain":
            pairs = [("patient.identifier", f"urn:mrn|MRN-{patient}"), ("code", code), ("_count", "50")]
            page = await search(session, "Observation", pairs, reach=hospital)
        case "hospital_code_date":
            page = await search(session, "Observation", [("code", code), *dates], reach=hospital)
        case "identifier":
            page = await search(session, "Patient", [("identifier", f"urn:mrn|MRN-{patient}")], reach=hospital)
        case "next_page":
            query = parse_query("Observation", [("code", code), ("_count", "20")])
            page = await search(session, "Observation", query, reach=hospital)
            page = await search(session, "Observation", query, reach=hospital, after=page.following)
        case _:
            await _open_giant(session)
            return
    for row in page.rows:
        row_text(row)


async def _open_giant(session: Any) -> None:
    """What opening a patient asks: how much of what there is, and the first page of each type."""
    reach = Reach.of_patients([GIANT])
    for kind in await counts_of(session, GIANT):
        page = await search(session, kind, [("patient" if kind != "Patient" else "_id", GIANT)], reach=reach)
        for row in page.rows:
            row_text(row)
    await everything(session, GIANT, count=200)


def main() -> int:
    """Load or time."""
    parser = argparse.ArgumentParser(prog="server.record.bulk")
    parser.add_argument("command", choices=["load", "time"])
    parser.add_argument("url")
    parser.add_argument("--resources", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=200)
    asked = parser.parse_args()
    answer = (
        load(asked.url, asked.resources) if asked.command == "load" else asyncio.run(timings(asked.url, asked.rounds))
    )
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
