"""Who sends an access token, and whether it is still good: asked anew for every request.

An access token is 256 random bits. All it stands for is in the database, so a
sign-out, an ended consult, a closed account and a revoked client end it at once,
on every node, whatever its own time says.
"""

from dataclasses import dataclass

from aiohttp import web
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from server.api.errors import ApiCode, ApiError
from server.api.guard import bearer as bearer_secret
from server.api.services import SERVICES
from server.identity.core.policy import Action, allowed
from server.identity.core.principal import AccessRole
from server.identity.core.secret import hash_secret
from server.smart.core.scopes import Scopes
from server.storage.models import ConsultState, Person, WebSession
from server.storage.smart_tables import SmartClient, SmartGrant, SmartToken
from signaling.core.model import ConsultStatus

MAX_SECRET_CHARS = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessToken:
    """What a good access token says.

    Args:
        client: id of the registered client.
        subject: the person it acts for; None for a backend.
        patient, consult: launch context; None where the token has none.
        hospital: what system scopes reach; None where they reach nothing.
    """

    client: str
    subject: str | None
    scopes: Scopes
    patient: str | None
    consult: str | None
    hospital: str | None
    expires_at_ms: int

    @property
    def actor(self) -> str:
        """How the audit trail names them."""
        return f"person:{self.subject}" if self.subject else f"client:{self.client}"


async def bearer(request: web.Request) -> AccessToken:
    """The access token of a request.

    Raises:
        ApiError: ``not_signed_in`` (401): none, or not good any more.
    """
    async with request.app[SERVICES].database.read() as session:
        return await bearer_in(session, request)


async def bearer_in(session: AsyncSession, request: web.Request) -> AccessToken:
    """The same for who goes on reading in ``session``.

    Raises:
        ApiError: likewise.
    """
    secret = bearer_secret(request)
    if secret is None or len(secret) > MAX_SECRET_CHARS:
        raise ApiError(ApiCode.NOT_SIGNED_IN)
    found = await find_token(session, secret, request.app[SERVICES].now_ms())
    if found is None:
        raise ApiError(ApiCode.NOT_SIGNED_IN)
    return found


async def find_token(session: AsyncSession, secret: str, now_ms: int) -> AccessToken | None:
    """The access token that ``secret`` is, if it is good now."""
    return await find_hashed(session, hash_secret(secret), now_ms)


async def find_hashed(session: AsyncSession, token_hash: str, now_ms: int) -> AccessToken | None:
    """The same for who has kept only the hash."""
    query = (
        select(SmartToken, SmartGrant, SmartClient, Person, WebSession.revoked, ConsultState.status)
        .join(SmartGrant, SmartGrant.id == SmartToken.grant_id)
        .join(SmartClient, SmartClient.id == SmartGrant.client_id)
        .outerjoin(Person, Person.id == SmartGrant.person_id)
        .outerjoin(WebSession, WebSession.id_hash == SmartGrant.credential)
        .outerjoin(ConsultState, ConsultState.consult_id == SmartGrant.consult_id)
        .where(SmartToken.token_hash == token_hash, SmartToken.kind == "access")
    )
    row = (await session.execute(query)).one_or_none()
    if row is None:
        return None
    token, grant, client, person, signed_out, status = row
    over = token.used or grant.revoked or not client.active or now_ms >= min(token.expires_at_ms, grant.expires_at_ms)
    if over or (grant.credential is not None and signed_out is not False):
        return None
    if grant.person_id is not None and not may_read(person):
        return None
    if grant.consult_id is not None and status != ConsultStatus.OPEN.value:
        return None
    return AccessToken(
        client=client.id,
        subject=grant.person_id,
        scopes=Scopes.parse(token.scopes),
        patient=grant.patient_id,
        consult=grant.consult_id,
        hospital=client.hospital_id,
        expires_at_ms=min(token.expires_at_ms, grant.expires_at_ms),
    )


def may_read(person: Person | None) -> bool:
    """An app can do for a person what the person may do: read the record."""
    return person is not None and person.active and allowed(AccessRole(person.role), Action.READ_RECORD)
