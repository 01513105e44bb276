"""Give out codes and tokens, and take them back.

What a person allows is one grant; its code, access tokens and refresh tokens
hang on it. Codes and refresh tokens work once. A second use means that somebody
else has a copy, so it ends the whole grant (RFC 6749 section 4.1.2, RFC 9700
section 4.14.2), and that is a row of the audit chain.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from server.clock import NowMs
from server.identity.core.principal import PersonPrincipal
from server.identity.core.secret import encode_secret, hash_secret
from server.record.aio.store import put_resource
from server.smart.aio.bearer import AccessToken, find_token
from server.smart.aio.clients import BACKEND, PUBLIC, find_client
from server.smart.aio.keys import ALGORITHM
from server.smart.core.assertion import ASSERTION_TYPE, check_assertion, named_client
from server.smart.core.errors import OAuthCode, OAuthError
from server.smart.core.pkce import proves
from server.smart.core.request import Asked
from server.smart.core.scopes import Scopes
from server.storage import audit
from server.storage.database import Database
from server.storage.models import ConsultMember, ConsultRow, ConsultState, UsedToken, WebSession
from server.storage.smart_tables import SmartClient, SmartGrant, SmartLaunch, SmartToken
from signaling.core.model import Consult, ConsultStatus

CODE_MS = 60_000
LAUNCH_MS = 5 * 60_000
ACCESS_MS = 15 * 60_000
BACKEND_MS = 5 * 60_000
"""SMART Backend Services section 4.1.4 asks for five minutes at most."""
OFFLINE_MS = 30 * 24 * 3_600_000
"""Grants with ``offline_access``; reach ends with the person's consults all the same."""
MAX_SECRET_CHARS = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A patient that an app can be opened for: the one open in a consult of the person."""

    consult: str
    title: str
    patient: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """Who calls the token endpoint, once that is proved."""

    row: SmartClient
    proved: bool
    """By its key; False for public clients, which have none."""


class Grants:
    """The authorization server behind its HTTP endpoints."""

    def __init__(self, database: Database, now_ms: NowMs, key: Callable[[], RSAKey]) -> None:
        self._database = database
        self._now_ms = now_ms
        self._key = key

    @property
    def key(self) -> RSAKey:
        """The hub's own; made when it is first asked for."""
        return self._key()

    # -------------------------------------------------------------- people

    async def choices(self, person: str) -> list[Choice]:
        """Patients that are open now in the person's consults, the latest consult first."""
        query = (
            select(ConsultRow.title, ConsultState.snapshot)
            .join(ConsultMember, ConsultMember.consult_id == ConsultRow.id)
            .join(ConsultState, ConsultState.consult_id == ConsultRow.id)
            .where(ConsultMember.kind == "person", ConsultMember.subject_id == person)
            .where(ConsultState.status == ConsultStatus.OPEN.value)
            .order_by(ConsultRow.starts_at_ms.desc(), ConsultRow.id)
        )
        async with self._database.read() as session:
            rows = (await session.execute(query)).all()
        found = []
        for title, snapshot in rows:
            consult = Consult.model_validate_json(snapshot)
            if consult.context is not None:
                found.append(Choice(consult=consult.id, title=title, patient=consult.context.patient.id))
        return found

    async def launch(self, person: PersonPrincipal, client: SmartClient, consult: str, patient: str) -> str:
        """A ``launch`` parameter for an app that is started from our pages."""
        secret, now_ms = encode_secret(secrets.token_bytes(32)), self._now_ms()
        body = {"client": client.id, "patient": patient}
        async with self._database.write() as session:
            session.add(
                SmartLaunch(
                    launch_hash=hash_secret(secret),
                    client_id=client.id,
                    person_id=person.subject,
                    consult_id=consult,
                    patient_id=patient,
                    expires_at_ms=now_ms + LAUNCH_MS,
                )
            )
            await session.flush()
            entry = audit.Entry(kind="smart_launched", at_ms=now_ms, actor=person.actor, consult_id=consult, body=body)
            await audit.append(session, [entry])
        return secret

    async def launched(self, person: str, client: str, launch: str) -> Choice | None:
        """What a ``launch`` parameter stands for, if it is this person's, for this client, and still fresh."""
        if not launch or len(launch) > MAX_SECRET_CHARS:
            return None
        async with self._database.read() as session:
            row = await session.get(SmartLaunch, hash_secret(launch))
        if row is None or (row.person_id, row.client_id) != (person, client) or row.expires_at_ms <= self._now_ms():
            return None
        return Choice(consult=row.consult_id, title="", patient=row.patient_id or "")

    async def allow(self, person: PersonPrincipal, asked: Asked, choice: Choice | None) -> str:
        """A code for what the person allowed.

        Raises:
            OAuthError: ``invalid_scope``: nothing is left of it without a patient.
        """
        scopes = asked.scopes if choice is not None else without_patient(asked.scopes)
        if not scopes.resources and not scopes.fhircast:
            raise OAuthError(OAuthCode.INVALID_SCOPE, "nothing to see without a patient")
        now_ms, code = self._now_ms(), encode_secret(secrets.token_bytes(32))
        offline = "offline_access" in scopes.plain
        async with self._database.write() as session:
            await put_resource(session, practitioner(person), actor=audit.SERVER, at_ms=now_ms)
            until = await session.scalar(
                select(WebSession.expires_at_ms).where(WebSession.id_hash == person.credential)
            )
            grant = SmartGrant(
                id=secrets.token_hex(16),
                client_id=asked.client,
                person_id=person.subject,
                # What the person allowed for later outlives the sign-in that it was allowed in.
                credential=None if offline else person.credential,
                scopes=scopes.text,
                patient_id=choice.patient if choice is not None else None,
                consult_id=choice.consult if choice is not None else None,
                redirect_uri=asked.redirect_uri,
                challenge=asked.challenge,
                nonce=asked.nonce,
                created_at_ms=now_ms,
                expires_at_ms=now_ms + OFFLINE_MS if offline else until or now_ms,
                revoked=False,
            )
            session.add(grant)
            await session.flush()
            session.add(_token(grant, "code", code, scopes.text, now_ms + CODE_MS))
            await session.flush()
            await audit.append(session, [self._entry("smart_allowed", person.actor, grant, scopes=scopes.text)])
        return code

    # -------------------------------------------------------------- programs

    async def authenticate(self, form: Mapping[str, str], audience: frozenset[str]) -> Client:
        """Who calls, by a signed assertion, or by name for a public client.

        Raises:
            OAuthError: ``invalid_client``.
        """
        assertion = form.get("client_assertion")
        named = form.get("client_id", "") if assertion is None else named_client(assertion)
        if form.get("client_id", named) != named:
            raise OAuthError(OAuthCode.INVALID_CLIENT, "two clients")  # RFC 7521 section 4.2
        async with self._database.read() as session:
            client = await find_client(session, named)
        if client is None:
            raise OAuthError(OAuthCode.INVALID_CLIENT, "unknown")
        if client.kind == PUBLIC:
            if assertion is not None:
                raise OAuthError(OAuthCode.INVALID_CLIENT, "a public client has no key")
            return Client(row=client, proved=False)
        if assertion is None or form.get("client_assertion_type") != ASSERTION_TYPE:
            raise OAuthError(OAuthCode.INVALID_CLIENT, "no assertion")
        checked = check_assertion(
            assertion, client.jwks, client=client.id, audience=audience, now_s=self._now_ms() / 1_000
        )
        await self._spend(f"{client.id}\n{checked.jti}", checked.exp_s * 1_000)
        return Client(row=client, proved=True)

    async def _spend(self, name: str, expires_at_ms: int) -> None:
        try:
            async with self._database.write() as session:
                session.add(UsedToken(jti=hash_secret(name), expires_at_ms=expires_at_ms))
        except IntegrityError:
            raise OAuthError(OAuthCode.INVALID_CLIENT, "an assertion is used once") from None

    async def redeem(self, client: Client, code: str, verifier: str, redirect_uri: str, issuer: str) -> dict[str, Any]:
        """Tokens for a code.

        Raises:
            OAuthError: ``invalid_grant``.
        """
        async with self._database.write() as session:
            grant, fresh = await self._spent(session, client, code, "code")
            if fresh and (grant.redirect_uri != redirect_uri or not proves(verifier, grant.challenge)):
                raise OAuthError(OAuthCode.INVALID_GRANT, "redirect_uri or code_verifier")
            if fresh:
                return await self._tokens(session, grant, Scopes.parse(grant.scopes), issuer, first=True)
            await self._end(session, grant, "code used twice")
        raise OAuthError(OAuthCode.INVALID_GRANT, "code")

    async def refresh(self, client: Client, refresh: str, scope: str | None, issuer: str) -> dict[str, Any]:
        """New tokens for a refresh token, which works no more.

        Args:
            scope: fewer scopes than were granted, where the app asks for fewer.

        Raises:
            OAuthError: ``invalid_grant`` or ``invalid_scope``.
        """
        async with self._database.write() as session:
            grant, fresh = await self._spent(session, client, refresh, "refresh")
            if fresh:
                granted = Scopes.parse(grant.scopes)
                scopes = granted if scope is None else Scopes.parse(scope).within(granted)
                if not scopes.text:
                    raise OAuthError(OAuthCode.INVALID_SCOPE)
                return await self._tokens(session, grant, scopes, issuer, first=False)
            await self._end(session, grant, "refresh token used twice")
        raise OAuthError(OAuthCode.INVALID_GRANT, "refresh token")

    async def _spent(self, session: AsyncSession, client: Client, secret: str, kind: str) -> tuple[SmartGrant, bool]:
        """Use a code or refresh token: its grant, and whether this was its first use.

        Raises:
            OAuthError: ``invalid_grant``: nothing of ours, somebody else's, or over.
        """
        row = await session.get(SmartToken, hash_secret(secret)) if len(secret) <= MAX_SECRET_CHARS else None
        grant = await session.get(SmartGrant, row.grant_id) if row is not None and row.kind == kind else None
        if row is None or grant is None or grant.client_id != client.row.id:
            raise OAuthError(OAuthCode.INVALID_GRANT, "not this client's")
        now_ms = self._now_ms()
        # One statement: of two that come at once, one is the first.
        used = await session.execute(
            update(SmartToken)
            .where(SmartToken.token_hash == row.token_hash, SmartToken.used.is_(False))
            .values(used=True)
            .execution_options(synchronize_session=False)
        )
        if used.rowcount != 1:  # type: ignore[attr-defined]
            return grant, False
        if grant.revoked or now_ms >= min(row.expires_at_ms, grant.expires_at_ms):
            raise OAuthError(OAuthCode.INVALID_GRANT, "over")
        await self._check_consult(session, grant)
        if grant.credential is not None:
            signed_out = await session.scalar(select(WebSession.revoked).where(WebSession.id_hash == grant.credential))
            if signed_out is not False:
                raise OAuthError(OAuthCode.INVALID_GRANT, "signed out")
        return grant, True

    async def _check_consult(self, session: AsyncSession, grant: SmartGrant) -> None:
        if grant.consult_id is not None:
            status = await session.scalar(
                select(ConsultState.status).where(ConsultState.consult_id == grant.consult_id)
            )
            if status != ConsultStatus.OPEN.value:
                raise OAuthError(OAuthCode.INVALID_GRANT, "the consult has ended")

    async def _end(self, session: AsyncSession, grant: SmartGrant, why: str) -> None:
        await session.execute(update(SmartGrant).where(SmartGrant.id == grant.id).values(revoked=True))
        await audit.append(session, [self._entry("smart_grant_ended", audit.SERVER, grant, why=why)])

    async def backend(self, client: Client, scope: str) -> dict[str, Any]:
        """A token for a program without a person (SMART Backend Services).

        Raises:
            OAuthError: ``unauthorized_client`` or ``invalid_scope``.
        """
        if client.row.kind != BACKEND or not client.proved:
            raise OAuthError(OAuthCode.UNAUTHORIZED_CLIENT)
        scopes = Scopes.parse(scope).within(Scopes.parse(client.row.scopes))
        if not scopes.text:
            raise OAuthError(OAuthCode.INVALID_SCOPE)
        now_ms, secret = self._now_ms(), encode_secret(secrets.token_bytes(32))
        async with self._database.write() as session:
            grant = SmartGrant(
                id=secrets.token_hex(16),
                client_id=client.row.id,
                scopes=scopes.text,
                created_at_ms=now_ms,
                expires_at_ms=now_ms + BACKEND_MS,
                revoked=False,
            )
            session.add(grant)
            await session.flush()
            session.add(_token(grant, "access", secret, scopes.text, grant.expires_at_ms))
            await session.flush()
            actor = f"client:{client.row.id}"
            await audit.append(session, [self._entry("smart_token_issued", actor, grant, scopes=scopes.text)])
        return _answer(secret, scopes, BACKEND_MS)

    async def _tokens(
        self, session: AsyncSession, grant: SmartGrant, scopes: Scopes, issuer: str, *, first: bool
    ) -> dict[str, Any]:
        now_ms, access = self._now_ms(), encode_secret(secrets.token_bytes(32))
        until = min(now_ms + ACCESS_MS, grant.expires_at_ms)
        session.add(_token(grant, "access", access, scopes.text, until))
        answer = _answer(access, scopes, until - now_ms)
        if Scopes.parse(grant.scopes).plain & {"online_access", "offline_access"}:
            refresh = encode_secret(secrets.token_bytes(32))
            session.add(_token(grant, "refresh", refresh, scopes.text, grant.expires_at_ms))
            answer["refresh_token"] = refresh
        if grant.patient_id is not None:
            # The app has a window of its own, so it must show whose record it is (W18).
            answer |= {"patient": grant.patient_id, "need_patient_banner": True}
        if first and "openid" in scopes.plain:
            answer["id_token"] = self._identity(grant, scopes, issuer, now_ms)
        await session.flush()
        actor = f"person:{grant.person_id}"
        await audit.append(session, [self._entry("smart_token_issued", actor, grant, scopes=scopes.text)])
        return answer

    def _identity(self, grant: SmartGrant, scopes: Scopes, issuer: str, now_ms: int) -> str:
        claims: dict[str, Any] = {
            "iss": issuer,
            "sub": grant.person_id,
            "aud": grant.client_id,
            "iat": now_ms // 1_000,
            "exp": (now_ms + ACCESS_MS) // 1_000,
        }
        if grant.nonce:
            claims["nonce"] = grant.nonce
        if "fhirUser" in scopes.plain:
            claims["fhirUser"] = f"{issuer}/Practitioner/{grant.person_id}"
        key = self.key
        return jwt.encode({"alg": ALGORITHM, "kid": key.kid}, claims, key, algorithms=[ALGORITHM])

    # -------------------------------------------------------------- afterwards

    async def introspect(self, client: Client, secret: str) -> dict[str, Any]:
        """What an access token of this client is good for (RFC 7662); of anybody else's nothing is told."""
        async with self._database.read() as session:
            found = await find_token(session, secret, self._now_ms()) if len(secret) <= MAX_SECRET_CHARS else None
        return _introspected(found) if found is not None and found.client == client.row.id else {"active": False}

    async def revoke(self, client: Client, secret: str) -> None:
        """End the grant of a token (RFC 7009); one that is not the client's is left alone, and it is not told."""
        if len(secret) > MAX_SECRET_CHARS:
            return
        async with self._database.write() as session:
            row = await session.get(SmartToken, hash_secret(secret))
            grant = await session.get(SmartGrant, row.grant_id) if row is not None else None
            if grant is not None and grant.client_id == client.row.id and not grant.revoked:
                await self._end(session, grant, "given back")

    def _entry(self, kind: str, actor: str, grant: SmartGrant, **more: str) -> audit.Entry:
        body = {"client": grant.client_id, "grant": grant.id, "patient": grant.patient_id, **more}
        return audit.Entry(kind=kind, at_ms=self._now_ms(), actor=actor, consult_id=grant.consult_id, body=body)


def practitioner(person: PersonPrincipal) -> dict[str, Any]:
    """What ``fhirUser`` leads to."""
    names = [{"text": name} for name in (person.name, person.name_latin) if name]
    return {"resourceType": "Practitioner", "id": person.subject, "active": True, "name": names}


def without_patient(scopes: Scopes) -> Scopes:
    """What is left when no patient is open: a token for "the patient" must not mean any patient."""
    words = [word for word in scopes.text.split() if not word.startswith("patient/") and word not in _WITH_PATIENT]
    return Scopes.parse(" ".join(words))


_WITH_PATIENT = ("launch", "launch/patient", "launch/encounter")


def _token(grant: SmartGrant, kind: str, secret: str, scopes: str, expires_at_ms: int) -> SmartToken:
    return SmartToken(
        token_hash=hash_secret(secret),
        grant_id=grant.id,
        kind=kind,
        scopes=scopes,
        expires_at_ms=expires_at_ms,
        used=False,
    )


def _answer(access: str, scopes: Scopes, life_ms: int) -> dict[str, Any]:
    return {
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": max(0, life_ms // 1_000),
        "scope": scopes.text,
    }


def _introspected(token: AccessToken) -> dict[str, Any]:
    told: dict[str, Any] = {
        "active": True,
        "scope": token.scopes.text,
        "client_id": token.client,
        "exp": token.expires_at_ms // 1_000,
        "token_type": "Bearer",
    }
    return told | {name: value for name, value in (("sub", token.subject), ("patient", token.patient)) if value}
