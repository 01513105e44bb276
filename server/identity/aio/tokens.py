"""Give out consult tokens and, once each, accept them (G9).

Acceptance asks four questions beyond the signature: has this token been used,
is the session it was asked with still alive, is its owner still a member, and
in the role the token says. All answers come from the database, so a sign-out on
one node closes the door on every node. `still_good` asks the last three again
while the socket is open.
"""

import contextlib
import os
import secrets
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import bindparam, insert, select
from sqlalchemy.exc import IntegrityError

from server.clock import NowMs
from server.identity.aio.devices import Devices
from server.identity.aio.members import membership_in
from server.identity.aio.sessions import Sessions
from server.identity.aio.walls import Walls
from server.identity.core.principal import DevicePrincipal, Membership, Principal, ScreenPrincipal
from server.identity.core.rules import CONSULT_TOKEN_MS
from server.identity.core.tokens import KEY_BYTES, ConsultClaims, TokenInvalid, read, sign
from server.storage import audit
from server.storage.at_once import Hand, Prepared
from server.storage.database import Database
from server.storage.models import Hospital, UsedToken
from signaling.core.admission import Admission
from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.model import Role

KEY_FILE = "token.key"

_AT_HUB = Prepared(select(Hospital.hub).where(Hospital.id == bindparam("hospital")))
_USED = Prepared(select(UsedToken.jti).where(UsedToken.jti == bindparam("jti")))
_SPEND = Prepared(insert(UsedToken))


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedToken:
    """For exactly one socket connect."""

    token: str
    expires_at_ms: int
    participant: ParticipantId


class ConsultTokens:
    """Issue and accept."""

    def __init__(
        self,
        key: bytes,
        database: Database,
        sessions: Sessions,
        walls: Walls,
        devices: Devices,
        now_ms: NowMs,
    ) -> None:
        self._key = key
        self._database = database
        self._sessions = sessions
        self._walls = walls
        self._devices = devices
        self._now_ms = now_ms

    async def issue(self, principal: Principal, member: Membership) -> IssuedToken:
        """A token for a member; recorded."""
        now_ms = self._now_ms()
        claims = ConsultClaims(
            jti=secrets.token_hex(16),
            exp_ms=now_ms + CONSULT_TOKEN_MS,
            consult=member.consult,
            participant=member.participant,
            kind=principal.kind,
            subject=principal.subject,
            role=member.role,
            credential=principal.credential,
        )
        entry = audit.Entry(
            kind="token_issued",
            at_ms=now_ms,
            actor=principal.actor,
            consult_id=member.consult,
            body={"participant": member.participant, "role": member.role.value, "jti": claims.jti},
        )
        await self._database.at_once.write(lambda hand: audit.append_at_once(hand, [entry]))
        return IssuedToken(token=sign(claims, self._key), expires_at_ms=claims.exp_ms, participant=member.participant)

    async def accept(self, token: object) -> Admission:
        """Let the bearer in, once.

        Raises:
            TokenInvalid: forged, expired, used, revoked or no longer a member.
        """
        claims = read(token, self._key, self._now_ms())
        await self._spend(claims)
        principal = await self._principal(claims.kind, claims.credential)
        if principal is None or principal.subject != claims.subject:
            raise TokenInvalid("the session is over")

        def standing(hand: Hand) -> tuple[Membership | None, bool]:
            hub = hand.rows(_AT_HUB, hospital=principal.hospital_id)
            return membership_in(hand, principal, claims.consult), bool(hub and hub[0][0])

        member, at_hub = await self._database.at_once.read(standing)
        if member is None or member.role is not claims.role or member.participant != claims.participant:
            raise TokenInvalid("no longer a member in this role")
        screen = principal if isinstance(principal, ScreenPrincipal) else None
        return Admission(
            consult=ConsultId(claims.consult),
            participant=ParticipantId(claims.participant),
            role=Role(claims.role),
            name=principal.name,
            hospital=principal.hospital,
            screen=screen.role if screen else None,
            screen_number=screen.number if screen else None,
            grant=grant_of(claims.kind, claims.credential),
            simulated=isinstance(principal, DevicePrincipal) and principal.simulated,
            hub=at_hub,
        )

    async def still_good(self, admission: Admission) -> bool:
        """Whether what an open socket was admitted by still stands.

        Somebody who is connected to a consult is not idle, even with folded hands (G3): asking keeps their session
        alive, so that a surgeon who only listens need not sign in again when the line drops. A session that has
        nevertheless run out of time is not revoked, and its consult goes on.
        """
        kind, _, credential = admission.grant.partition(":")
        member: Membership | None = None

        def membership(hand: Hand, who: Principal) -> None:
            nonlocal member
            member = membership_in(hand, who, admission.consult)

        if kind in ("person", "guest"):
            principal: Principal | None = await self._sessions.by_credential(
                credential, touch=True, lapsed=True, beside=membership
            )
        else:
            principal = await self._principal(kind, credential, lapsed=True)
            if principal is not None:
                await self._database.at_once.read(partial(membership, who=principal))
        if principal is None:
            return False
        screen = principal.role if isinstance(principal, ScreenPrincipal) else None
        return (
            member is not None
            and (member.role, member.participant) == (admission.role, admission.participant)
            and screen is admission.screen
        )

    async def _spend(self, claims: ConsultClaims) -> None:
        def spend(hand: Hand) -> bool:
            fresh = not hand.rows(_USED, jti=claims.jti)
            if fresh:
                hand.rows(_SPEND, jti=claims.jti, expires_at_ms=claims.exp_ms)
            return fresh

        try:
            fresh = await self._database.at_once.write(spend)
        except IntegrityError:  # on PostgreSQL another node may be doing the same
            fresh = False
        if not fresh:
            raise TokenInvalid("used before")

    async def _principal(self, kind: str, credential: str, *, lapsed: bool = False) -> Principal | None:
        match kind:
            case "person" | "guest":
                return await self._sessions.by_credential(credential, touch=True, lapsed=lapsed)
            case "screen":
                return await self._walls.by_credential(credential, seen=not lapsed)
            case "device":
                return await self._devices.by_credential(credential)
            case _:
                return None


def grant_of(kind: str, credential: str) -> str:
    """How an admission names the credential it rests on."""
    return f"{kind}:{credential}"


def token_key(data_dir: Path) -> bytes:
    """The signing key of this installation, made at the first start.

    Raises:
        OSError: the folder cannot be written, or the file not be read.
        ValueError: the file does not hold a key.
    """
    path = data_dir / KEY_FILE
    with contextlib.suppress(FileExistsError):
        # O_EXCL: of two processes that start together, one makes the key and both read it.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} does not hold a {KEY_BYTES}-byte key; remove it to have a new one made")
    return key
