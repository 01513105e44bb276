"""Put hospitals, rooms, people, consults and records into the database.

Used by the demo and by tests. Each function takes the session of one
``database.write()`` block and is idempotent: the same call again changes
nothing, so a demo can run its whole seed at every start::

    async with database.write() as session:
        await add_hospital(session, id="hub", name="乌镇互联网医院", name_latin="Wuzhen Internet Hospital", hub=True)
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from server.identity.aio.passwords import Passwords
from server.identity.core.secret import hash_secret
from server.record.aio.store import banner_in, put_resource
from server.storage import audit
from server.storage.models import (
    Account,
    ConsultMember,
    ConsultPatient,
    ConsultRow,
    ConsultState,
    DeviceAccount,
    Hospital,
    Person,
    Room,
    Screen,
    Station,
)
from signaling.core.ids import ConsultId
from signaling.core.model import Consult, ConsultStatus, Role, ScreenRole

SCREENS = (ScreenRole.RECORD, ScreenRole.VIDEO, ScreenRole.ECG)
"""The three screens of a hub's station, number 1 first."""


async def add_hospital(session: AsyncSession, *, id: str, name: str, name_latin: str = "", hub: bool = False) -> None:
    """The hub or a partner hospital."""
    await session.merge(Hospital(id=id, name=name, name_latin=name_latin, hub=hub))


async def add_room(session: AsyncSession, *, id: str, hospital: str, name: str) -> None:
    """A consulting room of a hospital."""
    await session.merge(Room(id=id, hospital_id=hospital, name=name))


async def add_station(
    session: AsyncSession, *, id: str, room: str, name: str, screens: Sequence[ScreenRole] = SCREENS
) -> None:
    """A station with its screens, numbered from 1. Screens that exist keep their role."""
    await session.merge(Station(id=id, room_id=room, name=name))
    await session.flush()
    for number, role in enumerate(screens, start=1):
        if await session.get(Screen, (id, number)) is None:
            session.add(Screen(station_id=id, number=number, role=role.value))


async def add_person(
    session: AsyncSession,
    passwords: Passwords,
    *,
    id: str,
    hospital: str,
    name: str,
    name_latin: str = "",
    role: str,
    login: str,
    password: str,
) -> None:
    """A person with an account. ``role`` is doctor, nurse or admin; an existing account keeps its password."""
    await session.merge(Person(id=id, hospital_id=hospital, name=name, name_latin=name_latin, role=role, active=True))
    await session.flush()
    if await session.get(Account, id) is None:
        session.add(Account(person_id=id, login=login.lower(), password_hash=await passwords.hash(password)))


async def add_device_account(
    session: AsyncSession, *, id: str, hospital: str, name: str, role: Role, secret: str, simulated: bool
) -> None:
    """A room or device that signs in with ``Authorization: Bearer <secret>``; a new secret replaces the old."""
    assert role in (Role.ROOM, Role.DEVICE), "people have accounts, not device secrets"
    await session.merge(
        DeviceAccount(
            id=id,
            hospital_id=hospital,
            name=name,
            role=role.value,
            secret_hash=hash_secret(secret),
            simulated=simulated,
            active=True,
        )
    )


async def put_fhir_resource(session: AsyncSession, resource: Mapping[str, Any], *, at_ms: int, owner: str = "") -> None:
    """One FHIR R4 resource as parsed from JSON; unchanged content makes no new version.

    Args:
        owner: hospital it comes from.

    Raises:
        server.record.core.resource.ResourceInvalid: it does not parse; nothing was stored.
    """
    await put_resource(session, dict(resource), actor=audit.SERVER, at_ms=at_ms, owner=owner)


async def add_consult(
    session: AsyncSession,
    *,
    id: str,
    title: str,
    room: str,
    station: str | None,
    partner: str,
    starts_at_ms: int,
    people: Mapping[str, Role],
    devices: Mapping[str, Role],
    patients: Sequence[str],
    status: ConsultStatus = ConsultStatus.OPEN,
    limit: int = 50,
) -> None:
    """A consult, who may enter it and which patients may be opened in it.

    Args:
        room: the hub's room; ``station`` is the one whose screens take part.
        people: person id -> role; ``devices``: device account id -> ``room`` or ``device``.
        patients: ids of stored Patient resources, in the order they are offered.
    """
    for patient in patients:
        assert await banner_in(session, patient) is not None, f"store Patient/{patient} before the consult"
    await session.merge(
        ConsultRow(id=id, title=title, room_id=room, station_id=station, partner_id=partner, starts_at_ms=starts_at_ms)
    )
    await session.flush()
    for kind, members in (("person", people), ("device", devices)):
        for subject, role in members.items():
            await session.merge(ConsultMember(consult_id=id, kind=kind, subject_id=subject, role=role.value))
    for position, patient in enumerate(patients):
        await session.merge(ConsultPatient(consult_id=id, patient_id=patient, position=position))
    if await session.get(ConsultState, id) is None:
        consult = Consult(id=ConsultId(id), title=title, status=status, limit=limit)
        session.add(ConsultState(consult_id=id, revision=0, status=status.value, snapshot=consult.model_dump_json()))
    await session.flush()


async def is_seeded(session: AsyncSession) -> bool:
    """Whether any hospital exists."""
    return await session.scalar(select(Hospital.id).limit(1)) is not None
