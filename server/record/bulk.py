"""Fill a database with made-up records, unchecked; `timing.py` then times what a doctor waits for.

    python -m server.record.bulk sqlite:////tmp/x.db --resources 1000000 --seconds 240

For benchmarks: a million resources through the FHIR models would take an hour
and say nothing about the store. Content, layout and index rows are those of the
store itself; only the checks are left out, and the audit rows, which is why it
refuses a database that has any. What is made up is told by its number alone, so
that filling may stop after any batch and go on later. Prints one JSON object.
"""

import argparse
import asyncio
import itertools
import json
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from server.record.core.index import index_rows, index_values, primary_partition
from server.record.core.layout import kept_text
from server.record.core.resource import first_code
from server.storage import schema
from server.storage.database import Database

HOSPITAL = "bulk"
A_PATIENT = 100
"""Resources of an ordinary patient."""
GIANT, GIANT_RESOURCES = "giant", 10_000
BATCH = 20_000
CODES = [f"{number}-{number % 10}" for number in range(10_000, 10_200)]
_START = datetime(2015, 1, 1, tzinfo=UTC)
_DAYS = 4_000
_WRITTEN_MS = 1_780_000_000_000

_TABLES = {
    "fhir_resource": ("res", "type", "id", "version", "deleted", "patient_id", "owner", "part", "low_us", "category",
                      "test", "json", "written_at_ms"),
    "fhir_token": ("key", "part", "low_us", "res", "high_us", "system"),
    "fhir_date": ("key", "part", "res", "low_us", "high_us"),
    "fhir_string": ("key", "part", "text", "res", "exact"),
    "fhir_quantity": ("key", "part", "res", "low", "high", "system", "code", "unit"),
}  # fmt: skip


def patients_of(resources: int) -> int:
    """How many ordinary patients ``resources`` are of."""
    return max(1, (resources - _of_the_giant(resources)) // A_PATIENT)


def _of_the_giant(resources: int) -> int:
    return min(GIANT_RESOURCES, resources // 2)


def made_up(resources: int, first: int = 0) -> Iterator[dict[str, Any]]:
    """Of ``resources`` of many patients and one with very many those from ``first`` on: all patients by turns."""
    patients, ordinary = patients_of(resources), resources - _of_the_giant(resources)
    chance = random.Random()  # noqa: S311 - sample data
    for place in range(first, resources):
        if place % BATCH == 0 or place == first:
            chance.seed(place)
        if place < ordinary:
            turn, number = divmod(place, patients)
            yield _resource(chance, f"p{number}", f"{number}-{turn}", turn)
        else:
            yield _resource(chance, GIANT, f"g-{place - ordinary}", place - ordinary)


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
    coding = [{"system": "http://loinc.org", "code": chance.choice(CODES), "display": "Made-up observation"}]
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
    """Rows of all tables, each in the order of its key, for resources numbered from ``first``."""
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
        rows["fhir_quantity"].extend(found.quantities)
    for table in rows.keys() - {"fhir_resource"}:
        rows[table].sort()
    return rows


Rows = dict[str, list[tuple[Any, ...]]]


def load(url: str, resources: int, seconds: float) -> dict[str, Any]:
    """Fill a database, or go on filling it, for so long at most; how far it is, and what this piece took."""
    database = Database(url)
    asyncio.run(_prepare(database))
    fill = _sqlite if database.is_sqlite else _postgresql
    begun = time.perf_counter()
    before, done = fill(url, resources, lambda: time.perf_counter() - begun > seconds)
    took_s = time.perf_counter() - begun
    return {"resources": done, "loaded": done - before, "seconds": took_s, "bytes": _size(database, url)}


async def _prepare(database: Database) -> None:
    await schema.upgrade(database)
    await database.close()


def _batches(resources: int, first: int, enough: Callable[[], bool]) -> Iterator[Rows]:
    """Rows of each batch."""
    coming = made_up(resources, first)
    while not enough() and (batch := list(itertools.islice(coming, BATCH))):
        yield rows_of(batch, first + 1)
        first += len(batch)


def _sqlite(url: str, resources: int, enough: Callable[[], bool]) -> tuple[int, int]:
    """How many resources there were, and are."""
    with closing(sqlite3.connect(str(Database(url).file))) as connection:
        before = _before(connection.execute(_USED).fetchone())
        # A file that is thrown away when this fails needs no journal.
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-2000000")
        for rows in _batches(resources, before, enough):
            for table, some in rows.items():
                connection.executemany(_insert(table), some)
            connection.commit()
        done = _before(connection.execute(_USED).fetchone())
        if done == resources:
            connection.execute("ANALYZE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.commit()
    return before, done


def _insert(table: str) -> str:
    columns = _TABLES[table]
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - our own words


def _postgresql(url: str, resources: int, enough: Callable[[], bool]) -> tuple[int, int]:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        before = _before(cursor.execute(_USED).fetchone())
        for rows in _batches(resources, before, enough):
            for table, some in rows.items():
                columns = ", ".join(_TABLES[table])
                with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                    for row in some:
                        copy.write_row(row)
            connection.commit()
        last = "SELECT setval(pg_get_serial_sequence('fhir_resource', 'res'), (SELECT max(res) FROM fhir_resource))"
        cursor.execute(last)
        done = _before(cursor.execute(_USED).fetchone())
        connection.commit()
    if done == resources:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
    return before, done


_USED = "SELECT coalesce(max(res), 0), (SELECT count(*) FROM event) FROM fhir_resource"


def _before(found: tuple[Any, ...] | None) -> int:
    assert found is not None, "an aggregate has a row"
    if found[1]:
        raise SystemExit("The database is somebody's; this is for empty ones.")
    return int(found[0])


def _size(database: Database, url: str) -> int:
    if database.file is not None:
        return database.file.stat().st_size
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(found[0]) if found else 0


def main() -> int:
    """Fill."""
    parser = argparse.ArgumentParser(prog="server.record.bulk")
    parser.add_argument("url")
    parser.add_argument("--resources", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3 * 3_600.0, help="stop after so long; the next call goes on")
    asked = parser.parse_args()
    json.dump(load(asked.url, asked.resources, asked.seconds), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
