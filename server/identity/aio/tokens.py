"""Give out consult tokens and, once each, accept them (G9).

Acceptance asks four questions beyond the signature: has this token been used,
is the session it was asked with still alive, is its owner still a member, and
in the role the token says. All answers come from the database, so a sign-out on
one node closes the door on every node.
"""

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import IntegrityError

from server.clock import NowMs
from server.identity.aio.devices import Devices
from server.identity.aio.members import membership
from server.identity.aio.sessions import Sessions
from server.identity.aio.walls import Walls
from server.identity.core.principal import DevicePrincipal, Membership, Principal, ScreenPrincipal
from server.identity.core.rules import CONSULT_TOKEN_MS
from server.identity.core.tokens import KEY_BYTES, ConsultClaims, TokenInvalid, read, sign
from server.storage import audit
from server.storage.database import Database
from server.storage.models import UsedToken
from signaling.core.admission import Admission
from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.model import Connection, Role
from signaling.core.ports import ConsultStore

KEY_FILE = "token.key"


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
        store: ConsultStore,
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
        self._store = store
        self._now_ms = now_ms
        self._admitted: dict[tuple[ConsultId, ParticipantId], str] = {}
        """Credential of each person or guest let in by this process; see `keep_connected_alive`."""

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
        async with self._database.write() as session:
            await audit.append(session, [entry])
        return IssuedToken(token=sign(claims, self._key), expires_at_ms=claims.exp_ms, participant=member.participant)

    async def accept(self, token: object) -> Admission:
        """Let the bearer in, once.

        Raises:
            TokenInvalid: forged, expired, used, revoked or no longer a member.
        """
        claims = read(token, self._key, self._now_ms())
        await self._spend(claims)
        principal = await self._principal(claims)
        if principal is None or principal.subject != claims.subject:
            raise TokenInvalid("the session is over")
        async with self._database.read() as session:
            member = await membership(session, principal, claims.consult)
        if member is None or member.role is not claims.role or member.participant != claims.participant:
            raise TokenInvalid("no longer a member in this role")
        if claims.kind in ("person", "guest"):
            self._admitted[member.consult, member.participant] = claims.credential
        screen = principal if isinstance(principal, ScreenPrincipal) else None
        return Admission(
            consult=ConsultId(claims.consult),
            participant=ParticipantId(claims.participant),
            role=Role(claims.role),
            name=principal.name,
            hospital=principal.hospital,
            screen=screen.role if screen else None,
            screen_number=screen.number if screen else None,
            simulated=isinstance(principal, DevicePrincipal) and principal.simulated,
        )

    async def keep_connected_alive(self) -> None:
        """Somebody who is connected to a consult is not idle, even with folded hands (G3).

        Without this a surgeon who only listens would have to sign in again when the line drops.
        """
        for (consult_id, participant), credential in list(self._admitted.items()):
            consult = await self._store.load(consult_id)
            present = consult.participants.get(participant) if consult is not None else None
            connected = present is not None and present.connection is not Connection.RECONNECTING
            if not connected or await self._sessions.by_credential(credential, touch=True) is None:
                self._admitted.pop((consult_id, participant), None)

    async def _spend(self, claims: ConsultClaims) -> None:
        try:
            async with self._database.write() as session:
                session.add(UsedToken(jti=claims.jti, expires_at_ms=claims.exp_ms))
        except IntegrityError:
            raise TokenInvalid("used before") from None

    async def _principal(self, claims: ConsultClaims) -> Principal | None:
        match claims.kind:
            case "person" | "guest":
                return await self._sessions.by_credential(claims.credential, touch=True)
            case "screen":
                return await self._walls.by_credential(claims.credential, seen=True)
            case "device":
                return await self._devices.by_credential(claims.credential)
            case _:
                return None


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
