"""Wall displays: show a code, be claimed by a person, and from then on be that screen.

The display asks with a secret that only it knows; a person who reads the code
off the wall claims it for one screen. The cookie is made when the display comes
back with its secret, so the person who claims never sees it.
"""

import secrets
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from server.clock import NowMs
from server.identity.core.principal import AccessRole, PersonPrincipal, ScreenPrincipal
from server.identity.core.rules import IDENTIFY_MS, PAIRING_MS, TOUCH_MS, pairing_code, read_code
from server.identity.core.secret import encode_secret, hash_secret
from server.storage import audit
from server.storage.at_once import Prepared
from server.storage.database import Database
from server.storage.models import Hospital, Pairing, Room, Screen, ScreenCredential, Station
from signaling.core.model import ScreenRole

_SCREEN = Prepared(
    select(
        Screen.station_id, Screen.number, Screen.role, Screen.identify_until_ms, Screen.last_seen_ms, Station.name,
        Room.name, Hospital.id, Hospital.name,
    )
    .select_from(ScreenCredential)
    .join(Screen, (Screen.station_id == ScreenCredential.station_id) & (Screen.number == ScreenCredential.number))
    .join(Station, Station.id == Screen.station_id)
    .join(Room, Room.id == Station.room_id)
    .join(Hospital, Hospital.id == Room.hospital_id)
    .where(ScreenCredential.id_hash == bindparam("credential"), ~ScreenCredential.revoked)
)  # fmt: skip
_SEEN = Prepared(
    update(Screen)
    .where(Screen.station_id == bindparam("station"), Screen.number == bindparam("of_number"))
    .values(last_seen_ms=bindparam("now_ms"))
)

SEEN_EVERY_MS = 5_000
_CODE_TRIES = 5
assert SEEN_EVERY_MS <= TOUCH_MS


class CodeInvalid(Exception):
    """No display shows this code now, or there is no such screen."""


class PairingGone(Exception):
    """The display's secret is unknown or its five minutes are over: it asks for a new code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewPairing:
    """What the display shows (``code``) and keeps (``secret``)."""

    code: str
    secret: str
    expires_at_ms: int


class Walls:
    """Pair, recognise and unpair wall displays."""

    def __init__(self, database: Database, now_ms: NowMs) -> None:
        self._database = database
        self._now_ms = now_ms

    async def begin(self, slot: int) -> NewPairing:
        """A code for one display."""
        now_ms = self._now_ms()
        secret = encode_secret(secrets.token_bytes(32))
        for _ in range(_CODE_TRIES):
            code = pairing_code(secrets.token_bytes(4))
            try:
                async with self._database.write() as session:
                    await session.execute(delete(Pairing).where(Pairing.expires_at_ms <= now_ms))
                    session.add(
                        Pairing(
                            secret_hash=hash_secret(secret), code=code, slot=slot, expires_at_ms=now_ms + PAIRING_MS
                        )
                    )
                    await session.flush()
                    await audit.append(session, [audit.Entry(kind="pairing_begun", at_ms=now_ms)])
            except IntegrityError:
                continue  # another display shows this very code
            return NewPairing(code=code, secret=secret, expires_at_ms=now_ms + PAIRING_MS)
        raise RuntimeError("no free pairing code among 2**30")

    async def claim(self, by: PersonPrincipal, station: str, number: int, typed: str, role: ScreenRole) -> list[str]:
        """Make the display that shows ``typed`` screen ``number`` of a station, showing ``role``.

        Returns:
            The credentials of whatever display was that screen until now: revoked.

        Raises:
            CodeInvalid: no such code or no such screen.
        """
        now_ms, code = self._now_ms(), read_code(typed)
        if code is None:
            raise CodeInvalid
        async with self._database.write() as session:
            if await session.get(Screen, (station, number)) is None:
                raise CodeInvalid
            claimed = await session.scalar(
                update(Pairing)
                .where(Pairing.code == code, Pairing.expires_at_ms > now_ms, Pairing.station_id.is_(None))
                .values(station_id=station, number=number)
                .returning(Pairing.secret_hash)
            )
            if claimed is None:
                raise CodeInvalid
            await session.execute(
                update(Screen).where(Screen.station_id == station, Screen.number == number).values(role=role.value)
            )
            body = {"station": station, "screen": number, "role": role.value}
            await audit.append(session, [audit.Entry(kind="screen_claimed", at_ms=now_ms, actor=by.actor, body=body)])
            return await _revoke(session, station, number)

    async def status(self, secret: str, slot: int) -> str | None:
        """The new cookie when somebody has claimed this display, else None. A cookie is given out once.

        Raises:
            PairingGone: ask for a new code.
        """
        now_ms = self._now_ms()
        async with self._database.read() as session:
            row = await session.get(Pairing, hash_secret(secret))
        if row is None or row.expires_at_ms <= now_ms or row.slot != slot:
            raise PairingGone
        if row.station_id is None or row.number is None:
            return None
        async with self._database.write() as session:
            gone = await session.scalar(
                delete(Pairing).where(Pairing.secret_hash == row.secret_hash).returning(Pairing.code)
            )
            if gone is None:
                raise PairingGone
            cookie, _ = await self._credential(session, row.station_id, row.number, audit.SERVER)
        return cookie

    async def pair_without_code(self, station: str, number: int) -> tuple[str, list[str]]:
        """A cookie for a screen of the demo station; the caller has checked that this is a demo.

        Returns:
            The cookie, and the credentials that were revoked for it.

        Raises:
            CodeInvalid: no such screen.
        """
        async with self._database.write() as session:
            if await session.get(Screen, (station, number)) is None:
                raise CodeInvalid
            return await self._credential(session, station, number, audit.SERVER)

    async def _credential(self, session: AsyncSession, station: str, number: int, actor: str) -> tuple[str, list[str]]:
        cookie, now_ms = encode_secret(secrets.token_bytes(32)), self._now_ms()
        revoked = await _revoke(session, station, number)
        session.add(
            ScreenCredential(id_hash=hash_secret(cookie), station_id=station, number=number, created_at_ms=now_ms)
        )
        await session.flush()
        body = {"station": station, "screen": number}
        await audit.append(session, [audit.Entry(kind="screen_paired", at_ms=now_ms, actor=actor, body=body)])
        return cookie, revoked

    async def unpair(self, by: PersonPrincipal, station: str, number: int) -> list[str]:
        """Take the cookie's power away.

        Returns:
            The credentials that were revoked.
        """
        now_ms = self._now_ms()
        async with self._database.write() as session:
            revoked = await _revoke(session, station, number)
            body = {"station": station, "screen": number}
            await audit.append(session, [audit.Entry(kind="screen_unpaired", at_ms=now_ms, actor=by.actor, body=body)])
        return revoked

    async def identify(self, station: str, number: int) -> None:
        """Let the screen show its number large for ten seconds.

        Raises:
            CodeInvalid: no such screen.
        """
        async with self._database.write() as session:
            found = await session.scalar(
                update(Screen)
                .where(Screen.station_id == station, Screen.number == number)
                .values(identify_until_ms=self._now_ms() + IDENTIFY_MS)
                .returning(Screen.number)
            )
        if found is None:
            raise CodeInvalid

    async def find(self, cookie: str) -> ScreenPrincipal | None:
        """Which screen this cookie is, if it is still paired."""
        return await self.by_credential(hash_secret(cookie), seen=True)

    async def by_credential(self, credential: str, *, seen: bool) -> ScreenPrincipal | None:
        """The same by the stored hash."""
        rows = await self._database.at_once.read(lambda hand: hand.rows(_SCREEN, credential=credential))
        if not rows:
            return None
        (
            station, number, screen_role, identify_until_ms, last_seen_ms, station_name, room, hospital_id, hospital,
        ) = rows[0]  # fmt: skip
        now_ms = self._now_ms()
        if seen and now_ms - last_seen_ms >= SEEN_EVERY_MS:
            await self._database.at_once.write(
                lambda hand: hand.rows(_SEEN, station=station, of_number=number, now_ms=now_ms)
            )
        role = ScreenRole(screen_role)
        return ScreenPrincipal(
            kind="screen",
            subject=f"{station}.{number}",
            access=AccessRole.RECORD_SCREEN if role is ScreenRole.RECORD else AccessRole.OTHER_SCREEN,
            credential=credential,
            name=f"{station_name} · {number}",
            hospital_id=hospital_id,
            hospital=hospital,
            station=station,
            station_name=station_name,
            room=room,
            number=number,
            role=role,
            identify_until_ms=identify_until_ms,
        )


async def _revoke(session: AsyncSession, station: str, number: int) -> list[str]:
    rows = await session.scalars(
        update(ScreenCredential)
        .where(ScreenCredential.station_id == station, ScreenCredential.number == number, ~ScreenCredential.revoked)
        .values(revoked=True)
        .returning(ScreenCredential.id_hash)
    )
    return list(rows)
