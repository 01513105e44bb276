"""Read-only views of hospitals, rooms and consults, as the API shows them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from server.identity.aio.members import station_consult
from server.identity.core.rules import SCREEN_ONLINE_MS
from server.record.aio.store import consult_banners
from server.storage.models import ConsultRow, ConsultState, Hospital, Room, Screen, ScreenCredential, Station
from signaling.core.model import Connection, Consult


async def consult_cards(session: AsyncSession, ids: Sequence[str], *, with_patients: bool) -> list[dict[str, Any]]:
    """Consults in the order of ``ids``; the banners only for those who may see them."""
    hub, partner = aliased(Hospital), aliased(Hospital)
    query = (
        select(ConsultRow, ConsultState.snapshot, Room.name, hub.name, partner.name)
        .join(ConsultState, ConsultState.consult_id == ConsultRow.id)
        .join(Room, Room.id == ConsultRow.room_id)
        .join(hub, hub.id == Room.hospital_id)
        .join(partner, partner.id == ConsultRow.partner_id)
        .where(ConsultRow.id.in_(ids))
    )
    cards: dict[str, dict[str, Any]] = {}
    for row, snapshot, room_name, hub_name, partner_name in await session.execute(query):
        state = Consult.model_validate_json(snapshot)
        banners = await consult_banners(session, row.id) if with_patients else []
        cards[row.id] = {
            "id": row.id,
            "title": row.title,
            "status": state.status.value,
            "room": room_name,
            "hub": hub_name,
            "partner": partner_name,
            "starts_at_ms": row.starts_at_ms,
            "patients": [banner.model_dump(mode="json") for banner in banners],
            "participants": sum(one.connection is not Connection.RECONNECTING for one in state.participants.values()),
        }
    return [cards[id_] for id_ in ids if id_ in cards]


async def stations(session: AsyncSession, hospital: str, now_ms: int) -> list[dict[str, Any]]:
    """Rooms of a hospital with their stations and screens."""
    rooms = (await session.scalars(select(Room).where(Room.hospital_id == hospital).order_by(Room.id))).all()
    return [
        {
            "id": room.id,
            "name": room.name,
            "stations": [
                {
                    "id": station.id,
                    "name": station.name,
                    "consult": await station_consult(session, station.id),
                    "screens": await _screens(session, station.id, now_ms),
                }
                for station in await session.scalars(
                    select(Station).where(Station.room_id == room.id).order_by(Station.id)
                )
            ],
        }
        for room in rooms
    ]


async def _screens(session: AsyncSession, station: str, now_ms: int) -> list[dict[str, Any]]:
    paired = set(
        await session.scalars(
            select(ScreenCredential.number).where(ScreenCredential.station_id == station, ~ScreenCredential.revoked)
        )
    )
    screens = await session.scalars(select(Screen).where(Screen.station_id == station).order_by(Screen.number))
    return [
        {
            "number": screen.number,
            "role": screen.role,
            "paired": screen.number in paired,
            "online": screen.number in paired and now_ms - screen.last_seen_ms < SCREEN_ONLINE_MS,
        }
        for screen in screens
    ]
