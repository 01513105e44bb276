"""Who may enter which consult."""

from collections.abc import Sequence

from sqlalchemy import bindparam, select
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
from server.storage.at_once import Hand, Prepared, SqlHand
from server.storage.models import ConsultMember, ConsultRow, ConsultState
from signaling.core.ids import ConsultId
from signaling.core.model import ConsultStatus, Role

_ROLE = Prepared(
    select(ConsultMember.role).where(
        ConsultMember.consult_id == bindparam("consult"),
        ConsultMember.kind == bindparam("of_kind"),
        ConsultMember.subject_id == bindparam("subject"),
    )
)
_ON_SCREENS = Prepared(
    select(ConsultRow.id)
    .join(ConsultState, ConsultState.consult_id == ConsultRow.id)
    .where(ConsultRow.station_id == bindparam("station"), ConsultState.status == ConsultStatus.OPEN.value)
    .order_by(ConsultRow.starts_at_ms.desc(), ConsultRow.id)
    .limit(1)
)


async def membership(session: AsyncSession, principal: Principal, consult: str) -> Membership | None:
    """That ``principal`` may enter ``consult``, and as what; None for "no" and for "no such consult"."""
    return await session.run_sync(lambda sync: membership_in(SqlHand(sync), principal, consult))


def membership_in(hand: Hand, principal: Principal, consult: str) -> Membership | None:
    """The same within `Database.at_once`."""
    role = _role(hand, principal, consult)
    if role is None:
        return None
    return Membership(
        consult=ConsultId(consult),
        participant=participant_id(consult, principal.kind, principal.subject),
        role=role,
    )


def _role(hand: Hand, principal: Principal, consult: str) -> Role | None:
    match principal:
        case GuestPrincipal():
            return Role.GUEST if principal.consult == consult else None
        case ScreenPrincipal():
            shown = hand.rows(_ON_SCREENS, station=principal.station)
            return Role.SCREEN if shown and shown[0][0] == consult else None
        case PersonPrincipal() | DevicePrincipal():
            rows = hand.rows(_ROLE, consult=consult, of_kind=principal.kind, subject=principal.subject)
            return Role(rows[0][0]) if rows else None
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
    rows = await session.run_sync(lambda sync: SqlHand(sync).rows(_ON_SCREENS, station=station))
    return str(rows[0][0]) if rows else None
