"""Signed-in browsers: server-side sessions behind an opaque cookie.

The cookie is 256 random bits; the table holds its hash. Signing out, an idle
hour and the end of a shift each end the session on the server, whatever the
browser keeps.
"""

import contextlib
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import bindparam, select, update

from server.clock import NowMs
from server.identity.aio.passwords import Passwords
from server.identity.aio.throttle import Attempts, TooManyAttempts
from server.identity.core.principal import AccessRole, GuestPrincipal, PersonPrincipal, Principal
from server.identity.core.rules import (
    LOGIN_ADDRESS,
    LOGIN_AND_ADDRESS,
    LOGIN_NOTED,
    LOGIN_ONLY,
    LOGINS_AT_ONCE,
    TOUCH_MS,
    SessionLimits,
    session_alive,
)
from server.identity.core.secret import encode_secret, hash_secret
from server.storage import audit
from server.storage.at_once import Hand, Prepared
from server.storage.database import Database
from server.storage.models import Account, ConsultState, Hospital, Invite, Person, WebSession
from signaling.core.ids import ConsultId
from signaling.core.model import ConsultStatus

Beside = Callable[[Hand, Principal], None]
"""Reads more of somebody in the visit that finds her; what it finds is worth nothing unless she is found alive."""


class BadCredentials(Exception):
    """Unknown login, wrong password or a closed account: nobody is told which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedIn:
    """A fresh session; ``cookie`` leaves the server once."""

    cookie: str
    person: PersonPrincipal


class Sessions:
    """Sign in, recognise, sign out."""

    def __init__(
        self, database: Database, passwords: Passwords, attempts: Attempts, limits: SessionLimits, now_ms: NowMs
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._attempts = attempts
        self._limits = limits
        self._now_ms = now_ms
        self._checking: Counter[str] = Counter()
        """Passwords being checked, by address."""

    async def sign_in(self, login: str, password: str, address: str) -> SignedIn:
        """Open a session.

        Raises:
            BadCredentials: after the same work for a known and an unknown login.
            TooManyAttempts: from this address on this login, or on either alone.
        """
        login = login.strip().lower()
        await self._throttled(login, address)
        if self._checking[address] >= LOGINS_AT_ONCE:
            raise TooManyAttempts(1)
        self._checking[address] += 1
        try:
            return await self._checked(login, password, address)
        finally:
            self._checking[address] -= 1
            if not self._checking[address]:
                del self._checking[address]

    async def _checked(self, login: str, password: str, address: str) -> SignedIn:
        async with self._database.read() as session:
            row = (
                await session.execute(
                    select(Account.password_hash, Person, Hospital.name.label("hospital"))
                    .join(Person, Person.id == Account.person_id)
                    .join(Hospital, Hospital.id == Person.hospital_id)
                    .where(Account.login == login)
                )
            ).one_or_none()
        fits = await self._passwords.check(row.password_hash if row else None, password)
        if row is None or not fits or not row.Person.active:
            await self._failed(login, address, row.Person.id if row else None)
            raise BadCredentials
        await self._attempts.forget(LOGIN_AND_ADDRESS, login, address)
        return await self._open(row.Person, row.hospital)

    async def _throttled(self, login: str, address: str) -> None:
        try:
            await self._attempts.check(LOGIN_ADDRESS, address)
            await self._attempts.check(LOGIN_ONLY, login)
            # Counted before the password is checked: attempts sent at once must not all slip through.
            await self._attempts.take(LOGIN_AND_ADDRESS, login, address)
        except TooManyAttempts:
            with contextlib.suppress(TooManyAttempts):
                await self._attempts.take(LOGIN_NOTED, address)
                await self._record("login_throttled", audit.SERVER, {})
            raise

    async def _failed(self, login: str, address: str, person: str | None) -> None:
        for throttle, who in ((LOGIN_ADDRESS, address), (LOGIN_ONLY, login)):
            try:
                await self._attempts.take(throttle, who)
            except TooManyAttempts:
                continue  # this attempt was already answered; the next one will be refused
        await self._record("login_failed", audit.SERVER, {"person": person})

    async def _open(self, person: Person, hospital: str) -> SignedIn:
        cookie, now_ms = encode_secret(secrets.token_bytes(32)), self._now_ms()
        credential = hash_secret(cookie)
        principal = _person(person, hospital, credential)
        async with self._database.write() as session:
            session.add(
                WebSession(
                    id_hash=credential,
                    person_id=person.id,
                    created_at_ms=now_ms,
                    last_seen_ms=now_ms,
                    expires_at_ms=now_ms + self._limits.length_ms,
                )
            )
            await session.flush()
            await audit.append(session, [audit.Entry(kind="login", at_ms=now_ms, actor=principal.actor)])
        return SignedIn(cookie=cookie, person=principal)

    async def find(
        self, cookie: str, *, touch: bool, beside: Beside | None = None
    ) -> PersonPrincipal | GuestPrincipal | None:
        """Who this cookie belongs to, if its session is alive; ``touch`` keeps it alive."""
        return await self.by_credential(hash_secret(cookie), touch=touch, beside=beside)

    async def by_credential(
        self, credential: str, *, touch: bool, lapsed: bool = False, beside: Beside | None = None
    ) -> PersonPrincipal | GuestPrincipal | None:
        """The same by the stored hash.

        Args:
            lapsed: also whose session has run out of time, as long as nobody has ended it.
            beside: what else is read of whoever it is, in the same visit to the database.
        """

        def look(hand: Hand) -> tuple[_SessionRow | None, PersonPrincipal | GuestPrincipal | None]:
            row = _session_row(hand, credential)
            principal = None if row is None else _principal(row, credential)
            if principal is not None and beside is not None:
                beside(hand, principal)
            return row, principal

        now_ms = self._now_ms()
        row, principal = await self._database.at_once.read(look)
        if row is None:
            return None
        alive = session_alive(
            now_ms=now_ms,
            last_seen_ms=row.last_seen_ms,
            expires_at_ms=row.expires_at_ms,
            revoked=bool(row.revoked),
            idle_ms=self._limits.idle_ms,
        )
        if row.revoked or not (alive or lapsed):
            return None
        if principal is not None and alive and touch and now_ms - row.last_seen_ms >= TOUCH_MS:
            await self._database.at_once.write(lambda hand: hand.rows(_TOUCH, credential=credential, now_ms=now_ms))
        return principal

    async def sign_out(self, principal: PersonPrincipal | GuestPrincipal) -> None:
        """End the session now; tokens asked with it die with it."""
        now_ms = self._now_ms()
        async with self._database.write() as session:
            await session.execute(
                update(WebSession).where(WebSession.id_hash == principal.credential).values(revoked=True)
            )
            await audit.append(session, [audit.Entry(kind="logout", at_ms=now_ms, actor=principal.actor)])

    async def _record(self, kind: str, actor: str, body: dict[str, str | None]) -> None:
        async with self._database.write() as session:
            await audit.append(session, [audit.Entry(kind=kind, at_ms=self._now_ms(), actor=actor, body=body)])


_TOUCH = Prepared(
    update(WebSession).where(WebSession.id_hash == bindparam("credential")).values(last_seen_ms=bindparam("now_ms"))
)
_SESSION = Prepared(
    select(
        WebSession.last_seen_ms, WebSession.expires_at_ms, WebSession.revoked,
        Person.id, Person.role, Person.name, Person.name_latin, Person.hospital_id, Hospital.name, Person.active,
        Invite.id, Invite.name, Invite.consult_id, ConsultState.status,
    )
    .select_from(WebSession)
    .outerjoin(Person, Person.id == WebSession.person_id)
    .outerjoin(Hospital, Hospital.id == Person.hospital_id)
    .outerjoin(Invite, Invite.id == WebSession.invite_id)
    .outerjoin(ConsultState, ConsultState.consult_id == Invite.consult_id)
    .where(WebSession.id_hash == bindparam("credential"))
)  # fmt: skip


class _SessionRow(NamedTuple):
    """A session, and the person or the guest whose it is: columns of ``_SESSION``."""

    last_seen_ms: int
    expires_at_ms: int
    revoked: bool
    person: str | None
    role: str
    name: str
    name_latin: str
    hospital_id: str
    hospital: str
    active: bool
    invite: str
    guest: str
    consult: str
    status: str | None


def _session_row(hand: Hand, credential: str) -> _SessionRow | None:
    rows = hand.rows(_SESSION, credential=credential)
    return _SessionRow(*rows[0]) if rows else None


def _principal(row: _SessionRow, credential: str) -> PersonPrincipal | GuestPrincipal | None:
    if row.person is not None:
        return _person_of(row, row.person, credential) if row.active else None
    if row.status == ConsultStatus.ENDED.value:
        return None  # a guest's cookie lasts as long as the consult
    return GuestPrincipal(
        kind="guest",
        subject=row.invite,
        access=AccessRole.GUEST,
        credential=credential,
        name=row.guest,
        hospital_id="",
        hospital="",
        consult=ConsultId(row.consult),
    )


def _person_of(row: _SessionRow, person: str, credential: str) -> PersonPrincipal:
    return PersonPrincipal(
        kind="person",
        subject=person,
        access=AccessRole(row.role),
        credential=credential,
        name=row.name,
        name_latin=row.name_latin,
        hospital_id=row.hospital_id,
        hospital=row.hospital,
    )


def _person(person: Person, hospital: str, credential: str) -> PersonPrincipal:
    return PersonPrincipal(
        kind="person",
        subject=person.id,
        access=AccessRole(person.role),
        credential=credential,
        name=person.name,
        name_latin=person.name_latin,
        hospital_id=person.hospital_id,
        hospital=hospital,
    )
