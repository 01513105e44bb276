"""Time what a doctor waits for in a database that `bulk.py` has filled.

    python -m server.record.timing sqlite:////tmp/x.db --resources 1000000

Searches go through the store's code on one connection; what HTTP, the token and
the audit row add is not in them. Warm: after a few rounds of the same question of
other patients. Cold: ``--between`` names a command that empties every cache of the
database's before each round; the first statement on the new connection is not
timed, because a server keeps its connections. Prints one JSON object: milliseconds
of every round, by question.
"""

import argparse
import asyncio
import json
import random
import shlex
import subprocess
import sys
import time
from typing import Any

from sqlalchemy import text

from server.record.aio.everything import everything
from server.record.aio.search import search
from server.record.aio.store import counts_of, row_text
from server.record.bulk import CODES, GIANT, HOSPITAL, patients_of
from server.record.core.query import parse_query
from server.record.core.reach import Reach
from server.storage.database import Database

QUESTIONS = (
    "patient_date", "patient_code_date", "patient_code_value", "patient_missing", "giant_code_date", "giant_newest",
    "hospital_code_date", "hospital_news", "hospital_code_value", "identifier", "chain", "next_page",
)  # fmt: skip


async def _ask(session: Any, name: str, patient: str, chance: random.Random) -> None:
    code, year = chance.choice(CODES), 2016 + chance.randrange(8)
    dates = [("date", f"ge{year}"), ("date", f"lt{year + 2}"), ("_count", "50")]
    hospital, one = Reach.of_hospital(HOSPITAL), Reach.of_patients([patient])
    match name:
        case "patient_date" | "warm":
            page = await search(session, "Observation", [("patient", patient), *dates], reach=one)
        case "patient_code_date":
            page = await search(session, "Observation", [("patient", patient), ("code", code), *dates], reach=one)
        case "patient_code_value":
            over = [("patient", patient), ("code-value-quantity", f"http://loinc.org|{code}$gt100||mmol/L")]
            page = await search(session, "Observation", over, reach=one)
        case "patient_missing":
            without = [("patient", patient), ("value-quantity:missing", "true"), ("code", "http://loinc.org|")]
            page = await search(session, "Observation", without, reach=one)
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
        case "hospital_code_value":
            over = [("code-value-quantity", f"{code}$gt100"), ("_count", "50")]
            page = await search(session, "Observation", over, reach=hospital)
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


COLD = ("patient_date", "patient_code_date", "hospital_code_date", "identifier")
_WARM_ROUNDS = 10
_GIANT_ROUNDS = 20


async def timings(url: str, resources: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each question, asked ``rounds`` times of patients by chance."""
    database, found = Database(url), {}
    patients, chance = patients_of(resources), random.Random(2)  # noqa: S311 - sample data
    for name in (*QUESTIONS, "open_giant"):
        many = _GIANT_ROUNDS if name == "open_giant" else rounds
        times = [await _timed(database, name, f"p{chance.randrange(patients)}", chance)
                 for _ in range(_WARM_ROUNDS + many)]  # fmt: skip
        found[name] = times[_WARM_ROUNDS:]
    await database.close()
    return found


async def cold_timings(url: str, resources: int, rounds: int, between: str) -> dict[str, list[float]]:
    """Milliseconds of each of `COLD`, the first question after the command ``between``."""
    database, found = Database(url), dict[str, list[float]]()
    patients, chance = patients_of(resources), random.Random(3)  # noqa: S311 - sample data
    for name in COLD:
        await _timed(database, name, "p0", chance)  # what the program itself does but once
        for _ in range(rounds):
            await database.close()
            await asyncio.to_thread(subprocess.run, shlex.split(between), check=True, timeout=120)
            async with database.read() as session:
                await session.execute(text("SELECT 1"))
            taken = await _timed(database, name, f"p{chance.randrange(patients)}", chance)
            found.setdefault(name, []).append(taken)
    await database.close()
    return found


async def _timed(database: Database, name: str, patient: str, chance: random.Random) -> float:
    begun = time.perf_counter()
    async with database.read() as session:
        await _ask(session, name, patient, chance)
    return (time.perf_counter() - begun) * 1_000


def main() -> int:
    """Time."""
    parser = argparse.ArgumentParser(prog="server.record.timing")
    parser.add_argument("url")
    parser.add_argument("--resources", type=int, required=True, help="that the database was filled with")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--between", help="command that empties the caches; without it they are warm")
    asked = parser.parse_args()
    timed = (
        timings(asked.url, asked.resources, asked.rounds)
        if asked.between is None
        else cold_timings(asked.url, asked.resources, asked.rounds, asked.between)
    )
    json.dump(asyncio.run(timed), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
