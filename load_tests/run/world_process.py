"""Fill a server's database with the accounts and records that a scenario needs; alone in a process.

What is measured runs in processes of its own, so of the load tests only such modules (``…process``) import the
server. Standard input has a `WorldNeeds`, standard output gets the `World`: names, and the secrets that only whoever
made them knows. The database belongs to a server for tests: all patients are labelled test data [W9], everybody has
the same password. For a server that runs elsewhere its administrator runs this beside it, before it starts::

    python -m load_tests.run.world_process --data-dir DIR < needs.json > world.json

Passwords are hashed once for all accounts, with the real work factor, so that signing in costs what it costs.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from load_tests.session.hospital import ID, MRN
from load_tests.session.world import SCREENS_EACH, ConsultSecrets, World, WorldNeeds, partner_id
from server.app import check_schema, prepare_data_dir
from server.clock import server_clock
from server.identity.aio.passwords import Passwords
from server.identity.aio.walls import Walls
from server.identity.core.secret import encode_secret, hash_secret
from server.settings import load_settings
from server.storage.database import Database
from server.storage.models import WebSession
from server.storage.seeding import (
    SCREENS,
    add_consult,
    add_device_account,
    add_hospital,
    add_person,
    add_room,
    add_station,
    put_fhir_resource,
)
from signaling.core.model import Role

HUB = "load-hub"
PATIENTS = 16
"""Records are shared by consults beyond this many: what a page costs depends on one record, not on their number."""
AT_ONCE = 200
LENGTH_MS = 12 * 3_600_000
TEST = {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}
LABS = (("2823-3", "Potassium", "mmol/L", 4.1), ("2951-2", "Sodium", "mmol/L", 139.0),
        ("2160-0", "Creatinine", "umol/L", 84.0), ("718-7", "Hemoglobin", "g/L", 131.0))  # fmt: skip


class OneHash(Passwords):
    """Hashes the one password of the world once."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[str, str] = {}

    async def hash(self, password: str) -> str:
        """The same string for the same password."""
        if password not in self._made:
            self._made[password] = await super().hash(password)
        return self._made[password]


def identifiers(number: int) -> tuple[str, str]:
    """A patient's two identifiers."""
    return f"LOAD-{number:05d}", f"ID-{900_000 + number}"


def patient(number: int) -> dict[str, Any]:
    """A test patient."""
    first, second = identifiers(number)
    return {
        "resourceType": "Patient", "id": f"load-patient-{number}", "meta": TEST,
        "name": [{"text": f"测试{number}"}, {"text": f"Test Patient {number}"}], "gender": "female",
        "birthDate": "1957-03-01",
        "identifier": [
            {"type": {"text": "MRN"}, "system": MRN, "value": first},
            {"type": {"text": "ID"}, "system": ID, "value": second},
        ],
    }  # fmt: skip


def result(number: int, of: int) -> dict[str, Any]:
    """One of a patient's laboratory results."""
    code, name, unit, value = LABS[number % len(LABS)]
    day = f"2025-{1 + number // 28 % 12:02d}-{1 + number % 28:02d}"
    return {
        "resourceType": "Observation", "id": f"load-{of}-{number}", "status": "final",
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": name}], "text": name},
        "subject": {"reference": f"Patient/load-patient-{of}"}, "effectiveDateTime": day,
        "valueQuantity": {"value": round(value * (1 + number % 7 / 100), 2), "unit": unit},
    }  # fmt: skip


async def fill(database: Database, needs: WorldNeeds) -> World:
    """Put everything in and give back what sessions must know."""
    passwords, password = OneHash(), secrets.token_urlsafe(18)
    async with database.write() as session:
        await add_hospital(session, id=HUB, name="压力测试中心", name_latin="Load hub", hub=True)
        for number in range(needs.hospitals):
            await add_hospital(session, id=partner_id(number), name="压力测试协作医院", name_latin="Load partner")
    for number in range(min(PATIENTS, needs.consults)):
        await _record(database, number, needs)
    walls = Walls(database, server_clock())
    made = [await _consult(database, walls, passwords, password, number, needs) for number in range(needs.consults)]
    return World(password=password, consults=tuple(made))


async def _record(database: Database, number: int, needs: WorldNeeds) -> None:
    at_ms = server_clock()()
    owner = partner_id(number % needs.hospitals) if needs.hospitals > 1 else ""
    everything = [patient(number), *(result(one, number) for one in range(needs.record_resources))]
    for start in range(0, len(everything), AT_ONCE):
        async with database.write() as session:
            for resource in everything[start : start + AT_ONCE]:
                await put_fhir_resource(session, resource, at_ms=at_ms, owner=owner)


async def _consult(
    database: Database, walls: Walls, passwords: Passwords, password: str, number: int, all_needs: WorldNeeds
) -> ConsultSecrets:
    name, of, needs = f"load-{number}", number % PATIENTS, all_needs.each
    partner = partner_id(number % all_needs.hospitals)
    cookies: dict[str, str] = {}
    people: dict[str, Role] = {}
    devices: dict[str, Role] = {}
    told: dict[str, list[str]] = {"doctors": [], "partner_doctors": [], "rooms": [], "devices": []}
    async with database.write() as session:
        await add_room(session, id=f"{name}-room", hospital=HUB, name=f"Room {number}")
        if needs.walls:
            # A consult has one station; a second room's screens go on where the first's end.
            await add_station(
                session, id=f"{name}-station", room=f"{name}-room", name=f"Station {number}",
                screens=SCREENS * needs.walls,
            )  # fmt: skip
        for kind, hospital, count in (
            ("doctors", HUB, needs.doctors), ("partner_doctors", partner, needs.partner_doctors),
        ):  # fmt: skip
            for index in range(count):
                person = f"{name}-{kind.replace('_', '-')}-{index}"
                await add_person(
                    session, passwords, id=person, hospital=hospital, name=f"医生{number}.{index}",
                    name_latin=f"Doctor {number}.{index}", role="doctor", login=person, password=password,
                )  # fmt: skip
                if all_needs.signed_in:
                    cookies[person] = _signed_in(session, person)
                people[person] = Role.DOCTOR
                told[kind].append(person)
        for kind, role, count in (("rooms", Role.ROOM, needs.rooms), ("devices", Role.DEVICE, needs.devices)):
            for index in range(count):
                device, secret = f"{name}-{kind}-{index}", secrets.token_urlsafe(24)
                await add_device_account(
                    session, id=device, hospital=partner, name=f"{kind} {number}.{index}", role=role, secret=secret,
                    simulated=True,
                )  # fmt: skip
                devices[device] = role
                told[kind].append(secret)
        await add_consult(
            session, id=name, title=f"Load {number}", room=f"{name}-room",
            station=f"{name}-station" if needs.walls else None, partner=partner, starts_at_ms=1, people=people,
            devices=devices, patients=[f"load-patient-{of}"], limit=500,
        )  # fmt: skip
    numbers = range(1, SCREENS_EACH * needs.walls + 1)
    screens = [(await walls.pair_without_code(f"{name}-station", one))[0] for one in numbers]
    return ConsultSecrets(
        id=name, patient=f"load-patient-{of}", identifiers=identifiers(of), screens=tuple(screens),
        cookies=cookies,
        **{kind: tuple(secrets_of) for kind, secrets_of in told.items()},
    )  # fmt: skip


def _signed_in(session: AsyncSession, person: str) -> str:
    """A session as `Sessions` opens one; its cookie."""
    cookie, now_ms = encode_secret(secrets.token_bytes(32)), server_clock()()
    session.add(
        WebSession(
            id_hash=hash_secret(cookie), person_id=person, created_at_ms=now_ms, last_seen_ms=now_ms,
            expires_at_ms=now_ms + LENGTH_MS,
        )
    )  # fmt: skip
    return cookie


async def _main(data_dir: Path, needs: WorldNeeds) -> None:
    settings = load_settings(data_dir=data_dir)
    prepare_data_dir(settings.data_dir)
    database = Database(settings.database)
    try:
        await check_schema(database)
        print((await fill(database, needs)).model_dump_json())
    finally:
        await database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fill a test server's database for a load scenario.")
    parser.add_argument("--data-dir", type=Path, required=True)
    asyncio.run(_main(parser.parse_args().data_dir, WorldNeeds.model_validate_json(sys.stdin.read())))
