"""Who may enter which consult."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from server.identity.core.principal import (
    DevicePrincipal,
    GuestPrincipal,
    Membership,
    PersonPrincipal,
    Principal,
    ScreenPrincipal,
    participant_id,
)
from server.storage.models import ConsultMember, ConsultRow, ConsultState
from signaling.core.ids import ConsultId
from signaling.core.model import ConsultStatus, Role


async def membership(session: AsyncSession, principal: Principal, consult: str) -> Membership | None:
    """That ``principal`` may enter ``consult``, and as what; None for "no" and for "no such consult"."""
    role = await _role(session, principal, consult)
    if role is None:
        return None
    return Membership(
        consult=ConsultId(consult),
        participant=participant_id(consult, principal.kind, principal.subject),
        role=role,
    )


async def _role(session: AsyncSession, principal: Principal, consult: str) -> Role | None:
    match principal:
        case GuestPrincipal():
            return Role.GUEST if principal.consult == consult else None
        case ScreenPrincipal():
            return Role.SCREEN if await station_consult(session, principal.station) == consult else None
        case PersonPrincipal() | DevicePrincipal():
            role = await session.scalar(
                select(ConsultMember.role).where(
                    ConsultMember.consult_id == consult,
                    ConsultMember.kind == principal.kind,
                    ConsultMember.subject_id == principal.subject,
                )
            )
            return None if role is None else Role(role)
        case _:
            return None


async def consults_of(session: AsyncSession, principal: Principal) -> Sequence[str]:
    """Ids of the consults that ``principal`` may enter, latest start first."""
    match principal:
        case GuestPrincipal():
            return [principal.consult]
        case ScreenPrincipal():
            consult = await station_consult(session, principal.station)
            return [] if consult is None else [consult]
        case _:
            query = (
                select(ConsultRow.id)
                .join(ConsultMember, ConsultMember.consult_id == ConsultRow.id)
                .where(ConsultMember.kind == principal.kind, ConsultMember.subject_id == principal.subject)
                .order_by(ConsultRow.starts_at_ms.desc(), ConsultRow.id)
            )
            return (await session.scalars(query)).all()


async def station_consult(session: AsyncSession, station: str) -> str | None:
    """The open consult that a station's screens show; of several, the one that started last."""
    query = (
        select(ConsultRow.id)
        .join(ConsultState, ConsultState.consult_id == ConsultRow.id)
        .where(ConsultRow.station_id == station, ConsultState.status == ConsultStatus.OPEN.value)
        .order_by(ConsultRow.starts_at_ms.desc(), ConsultRow.id)
        .limit(1)
    )
    return await session.scalar(query)
