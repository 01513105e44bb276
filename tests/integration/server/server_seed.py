"""A small hub for tests of the server: two hospitals, one station, four people, two patients, two consults."""

from __future__ import annotations

from typing import Any

from argon2 import PasswordHasher

from server.identity.aio.passwords import Passwords
from server.storage.database import Database
from server.storage.seeding import (
    add_consult,
    add_device_account,
    add_hospital,
    add_person,
    add_room,
    add_station,
    put_fhir_resource,
)
from signaling.core.model import ConsultStatus, Role

PASSWORD = "a long pass phrase"
DEVICE_SECRET = "s" * 43
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Real argon2id with little work: tests sign in often."""
TEST_TAG = {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}


def patient(id_: str, name: str, latin: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": id_,
        "meta": TEST_TAG,
        "name": [{"text": name}, {"text": latin}],
        "gender": "female",
        "birthDate": "1948-03-09",
        "identifier": [
            {"type": {"text": "MRN"}, "value": f"{id_}-0001"},
            {"type": {"text": "ID"}, "value": f"{id_}-0002"},
        ],
        **more,
    }


def observation(id_: str, subject: str, category: str, date: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "category": [{"coding": [{"code": category}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "2823-3"}]},
        "subject": {"reference": f"Patient/{subject}"},
        "effectiveDateTime": date,
        "valueQuantity": {"value": 4.1, "unit": "mmol/L"},
    }


PNG = "iVBORw0KGgo="
BINARY = {
    "resourceType": "Binary",
    "id": "scan",
    "contentType": "image/png",
    "securityContext": {"reference": "Patient/pt1"},
    "data": PNG,
}


async def fill(database: Database) -> None:
    """Everything; the same call again changes nothing."""
    passwords = Passwords(QUICK)
    async with database.write() as session:
        await add_hospital(session, id="hub", name="乌镇互联网医院", name_latin="Wuzhen Hub", hub=True)
        await add_hospital(session, id="north", name="北方县医院", name_latin="North County")
        await add_room(session, id="r1", hospital="hub", name="第一诊室")
        await add_station(session, id="st1", room="r1", name="Station 1")
        await add_room(session, id="r9", hospital="north", name="North room")
        await add_station(session, id="st9", room="r9", name="Station 9")
        for id_, role in (("d1", "doctor"), ("d2", "doctor"), ("n1", "nurse"), ("a1", "admin")):
            await add_person(
                session,
                passwords,
                id=id_,
                hospital="hub",
                name=f"人{id_}",
                name_latin=f"Person {id_}",
                role=role,
                login=f"{id_}@hub",
                password=PASSWORD,
            )
        await add_device_account(
            session,
            id="monitor",
            hospital="north",
            name="Monitor",
            role=Role.DEVICE,
            secret=DEVICE_SECRET,
            simulated=True,
        )
        await put_fhir_resource(session, patient("pt1", "张桂兰", "Zhang Guilan"), at_ms=1)
        await put_fhir_resource(session, patient("pt2", "李秀英", "Li Xiuying"), at_ms=1)
        for number, day in enumerate(("2025-01-01", "2025-03-01", "2025-02-01")):
            await put_fhir_resource(session, observation(f"k{number}", "pt1", "laboratory", day), at_ms=1)
        await put_fhir_resource(session, observation("v1", "pt1", "vital-signs", "2025-01-05"), at_ms=1)
        await put_fhir_resource(session, observation("other", "pt2", "laboratory", "2025-01-05"), at_ms=1)
        await put_fhir_resource(session, BINARY, at_ms=1)
        await add_consult(
            session,
            id="c1",
            title="Chest pain",
            room="r1",
            station="st1",
            partner="north",
            starts_at_ms=1_000,
            people={"d1": Role.DOCTOR, "n1": Role.NURSE},
            devices={"monitor": Role.DEVICE},
            patients=["pt1", "pt2"],
        )
        await add_consult(
            session,
            id="c2",
            title="Somebody else's",
            room="r9",
            station="st9",
            partner="north",
            starts_at_ms=2_000,
            people={"d2": Role.DOCTOR},
            devices={},
            patients=["pt2"],
        )
        await add_consult(
            session,
            id="c3",
            title="Over",
            room="r1",
            station=None,
            partner="north",
            starts_at_ms=500,
            people={"d1": Role.DOCTOR},
            devices={},
            patients=["pt1"],
            status=ConsultStatus.ENDED,
        )
