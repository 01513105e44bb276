"""The sample hub: hospitals, rooms, people, patients, one running consult and one that is planned.

Run at every start of the demo: what is there stays as people left it, what is
missing is added. Three things are renewed each time: the secrets of the two
simulators, a consult that can be joined (a new one when the last was ended),
and the open patient, because a demo should start with its ECG running.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from server.api.services import DemoInfo, DemoLogin
from server.clock import NowMs
from server.demo import patients
from server.demo.casepack import seed_case_pack
from server.identity.aio.passwords import Passwords
from server.identity.core.principal import participant_id
from server.record.aio.store import banner_in
from server.storage.consult_store import SqlConsultStore
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
from signaling.core.fold import apply
from signaling.core.ids import ConsultId, PatientId
from signaling.core.messages import ContextOpened
from signaling.core.model import ConsultStatus, Context, Role

PASSWORD = "consilium-demo"  # noqa: S105 - printed at start and shown on the sign-in page, of a demo only
HUB, PARTNER, SECOND_PARTNER = "demo-hub", "demo-partner", "demo-partner-2"
ROOM_DEVICE, MONITOR_DEVICE = "demo-room-camera", "demo-bedside-monitor"
STATION = "demo-station-1"
OWNERS = {"chest-pain": PARTNER, "heart-failure": SECOND_PARTNER, "atrial-fibrillation": PARTNER}
"""Whose records they are: what a hospital's gateway sends of a patient is filed with these."""
PATIENTS = ("demo-shen", "demo-gu", "demo-yan")


@dataclass(frozen=True)
class _Person:
    id: str
    hospital: str
    login: str
    name: str
    name_latin: str
    role: str


PEOPLE = (
    _Person("demo-chen", HUB, "chen", "陈若水", "Chen Ruoshui", "doctor"),
    _Person("demo-lu", HUB, "lu", "陆知行", "Lu Zhixing", "doctor"),
    _Person("demo-xu", HUB, "xu", "徐安", "Xu An", "nurse"),
    _Person("demo-zhou", PARTNER, "zhou", "周明远", "Zhou Mingyuan", "doctor"),
    _Person("demo-lin", PARTNER, "lin", "林小禾", "Lin Xiaohe", "nurse"),
    _Person("demo-he", SECOND_PARTNER, "he", "何文静", "He Wenjing", "doctor"),
    _Person("demo-sun", HUB, "sun", "孙谨", "Sun Jin", "admin"),
)


@dataclass(frozen=True)
class Seeded:
    """What the demo runner needs to go on."""

    info: DemoInfo
    consult: ConsultId
    room_secret: str
    monitor_secret: str


async def seed(database: Database, now_ms: NowMs) -> Seeded:
    """Put the sample hub into the database; see the module's first lines for what a second call does."""
    await _places_and_people(database)
    await _records(database, now_ms)
    room_secret, monitor_secret = await _devices(database)
    consult = await _consults(database, now_ms)
    await seed_case_pack(database, now_ms, consult="demo-planned", patient="demo-gu", sender="demo-he")
    await _open_first_patient(database, consult, now_ms)
    logins = tuple(
        DemoLogin(login=p.login, password=PASSWORD, name=f"{p.name} {p.name_latin}", role=p.role) for p in PEOPLE
    )
    return Seeded(DemoInfo(logins=logins, station=STATION), consult, room_secret, monitor_secret)


async def _places_and_people(database: Database) -> None:
    passwords = Passwords()
    async with database.write() as session:
        await add_hospital(
            session, id=HUB, name="云溪互联网医院（示例）", name_latin="Yunxi Internet Hospital (sample)", hub=True
        )
        await add_hospital(session, id=PARTNER, name="示例协作医院", name_latin="Sample Partner Hospital")
        await add_hospital(session, id=SECOND_PARTNER, name="示例第二医院", name_latin="Second Sample Hospital")
        for number, chinese in ((1, "一"), (2, "二")):
            room = f"demo-room-{number}"
            await add_room(session, id=room, hospital=HUB, name=f"{chinese}号会诊室 Consulting room {number}")
            await add_station(
                session,
                id=f"demo-station-{number}",
                room=room,
                name=f"三屏工作站 {number} Three-screen station {number}",
            )
        for person in PEOPLE:
            await add_person(
                session,
                passwords,
                id=person.id,
                hospital=person.hospital,
                name=person.name,
                name_latin=person.name_latin,
                role=person.role,
                login=person.login,
                password=PASSWORD,
            )


async def _records(database: Database, now_ms: NowMs) -> None:
    """Each patient's record once, with dates that end the day before the first start."""
    for name, patient in zip(patients.STORIES, PATIENTS, strict=True):
        async with database.write() as session:
            if await banner_in(session, patient) is not None:
                continue
            for resource in patients.bundle(name, patients.today()):
                await put_fhir_resource(session, resource, at_ms=now_ms(), owner=OWNERS[name])


async def _devices(database: Database) -> tuple[str, str]:
    room_secret, monitor_secret = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    async with database.write() as session:
        await add_device_account(
            session,
            id=ROOM_DEVICE,
            hospital=PARTNER,
            name="示例协作医院会诊室（模拟） Sample Partner Hospital (simulated)",
            role=Role.ROOM,
            secret=room_secret,
            simulated=True,
        )
        await add_device_account(
            session,
            id=MONITOR_DEVICE,
            hospital=PARTNER,
            name="床旁监护仪（模拟） Bedside monitor (simulated)",
            role=Role.DEVICE,
            secret=monitor_secret,
            simulated=True,
        )
    return room_secret, monitor_secret


async def _consults(database: Database, now_ms: NowMs) -> ConsultId:
    """The planned consult, and the one to join: the first that was not ended."""
    store = SqlConsultStore(database)
    number = 1
    while (found := await store.load(_running_id(number))) is not None and found.status is ConsultStatus.ENDED:
        number += 1
    running = _running_id(number)
    async with database.write() as session:
        if found is None:
            await add_consult(
                session,
                id=running,
                title="心内科远程会诊 Cardiology teleconsult",
                room="demo-room-1",
                station=STATION,
                partner=PARTNER,
                starts_at_ms=now_ms(),
                people=_members("demo-chen", "demo-lu", "demo-xu", "demo-zhou", "demo-lin"),
                devices={ROOM_DEVICE: Role.ROOM, MONITOR_DEVICE: Role.DEVICE},
                patients=PATIENTS,
            )
        planned = await store.load(ConsultId("demo-planned"))
        if planned is None or planned.status is ConsultStatus.SCHEDULED:  # always tomorrow
            await add_consult(
                session,
                id="demo-planned",
                title="心衰与 CRT-D 讨论 Heart failure and CRT-D",
                room="demo-room-2",
                station="demo-station-2",
                partner=SECOND_PARTNER,
                starts_at_ms=_tomorrow_at_nine_ms(),
                people=_members("demo-chen", "demo-lu", "demo-xu", "demo-he"),
                devices={},
                patients=("demo-gu",),
                status=ConsultStatus.SCHEDULED,
            )
    return running


def _running_id(number: int) -> ConsultId:
    return ConsultId("demo-consult" if number == 1 else f"demo-consult-{number}")


def _members(*ids: str) -> Mapping[str, Role]:
    return {person.id: Role(person.role) for person in PEOPLE if person.id in ids}


def _tomorrow_at_nine_ms() -> int:
    day = datetime.now(UTC).astimezone(patients.CHINA).date() + timedelta(days=1)
    return int(datetime.combine(day, time(9), patients.CHINA).timestamp() * 1000)


async def _open_first_patient(database: Database, consult: ConsultId, now_ms: NowMs) -> None:
    """Raise the context to the patient whose ECG is simulated, as the first doctor would. [H27]"""
    store = SqlConsultStore(database)
    state = await store.load(consult)
    patient = await store.patient(consult, PatientId(patients.ECG_PATIENT))
    assert state is not None, "seeded a moment ago"
    assert patient is not None, "seeded a moment ago"
    if state.context is not None and state.context.patient.id == patient.id:
        return
    doctor = participant_id(consult, "person", PEOPLE[0].id)
    at_ms = now_ms()
    version = state.context_version + 1
    context = Context(version=version, patient=patient, opened_at_ms=at_ms, opened_by=doctor, first_version=version)
    event = ContextOpened(revision=state.revision + 1, at_ms=at_ms, context=context)
    await store.commit(state, apply(state, event), [event], doctor)
