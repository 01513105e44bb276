"""Guest links: one use, fifteen minutes, then a cookie in that browser for the length of the consult."""

import secrets
from dataclasses import dataclass

from sqlalchemy import select, update

from server.clock import NowMs
from server.identity.core.principal import PersonPrincipal
from server.identity.core.rules import INVITE_MS, SessionLimits
from server.identity.core.secret import encode_secret, hash_secret
from server.storage import audit
from server.storage.database import Database
from server.storage.models import ConsultState, Invite, WebSession
from signaling.core.ids import ConsultId
from signaling.core.model import ConsultStatus


class InviteInvalid(Exception):
    """Unknown, used, expired or for an ended consult: nobody is told which (G13)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewInvite:
    """``token`` goes into the fragment of a link, which browsers never send to a server or write to its log."""

    token: str
    expires_at_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Redeemed:
    """The guest's session."""

    cookie: str
    consult: ConsultId
    name: str
    expires_at_ms: int


class Invites:
    """Make and redeem guest links."""

    def __init__(self, database: Database, limits: SessionLimits, now_ms: NowMs) -> None:
        self._database = database
        self._limits = limits
        self._now_ms = now_ms

    async def create(self, by: PersonPrincipal, consult: ConsultId, name: str) -> NewInvite:
        """A link for somebody called ``name``; the caller has checked that ``by`` may invite here."""
        token, now_ms = encode_secret(secrets.token_bytes(32)), self._now_ms()
        invite = Invite(
            id=f"i_{secrets.token_hex(10)}",
            token_hash=hash_secret(token),
            consult_id=consult,
            name=name,
            created_by=by.subject,
            expires_at_ms=now_ms + INVITE_MS,
        )
        entry = audit.Entry(
            kind="invite_made", at_ms=now_ms, actor=by.actor, body={"invite": invite.id}, consult_id=consult
        )
        async with self._database.write() as session:
            session.add(invite)
            await session.flush()
            await audit.append(session, [entry])
        return NewInvite(token=token, expires_at_ms=now_ms + INVITE_MS)

    async def redeem(self, token: str) -> Redeemed:
        """Turn a link into a guest session, once.

        Raises:
            InviteInvalid: for whatever reason.
        """
        cookie, now_ms = encode_secret(secrets.token_bytes(32)), self._now_ms()
        async with self._database.write() as session:
            # One UPDATE decides: of two browsers at the same instant, one gets the row.
            invite_id = await session.scalar(
                update(Invite)
                .where(
                    Invite.token_hash == hash_secret(token),
                    Invite.redeemed_at_ms.is_(None),
                    Invite.expires_at_ms > now_ms,
                    Invite.consult_id.in_(
                        select(ConsultState.consult_id).where(ConsultState.status != ConsultStatus.ENDED.value)
                    ),
                )
                .values(redeemed_at_ms=now_ms)
                .returning(Invite.id)
            )
            invite = None if invite_id is None else await session.get(Invite, invite_id)
            if invite is None:
                await audit.append(session, [audit.Entry(kind="invite_refused", at_ms=now_ms)])
            else:
                session.add(
                    WebSession(
                        id_hash=hash_secret(cookie),
                        invite_id=invite.id,
                        created_at_ms=now_ms,
                        last_seen_ms=now_ms,
                        expires_at_ms=now_ms + self._limits.length_ms,
                    )
                )
                await session.flush()
                await audit.append(
                    session,
                    [
                        audit.Entry(
                            kind="invite_redeemed",
                            at_ms=now_ms,
                            actor=f"guest:{invite.id}",
                            consult_id=invite.consult_id,
                        )
                    ],
                )
        if invite is None:
            raise InviteInvalid
        return Redeemed(
            cookie=cookie,
            consult=ConsultId(invite.consult_id),
            name=invite.name,
            expires_at_ms=now_ms + self._limits.length_ms,
        )
