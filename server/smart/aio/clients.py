"""Registered programs: an administrator's act, and a row of the audit chain each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server.smart.core.assertion import read_jwks
from server.smart.core.request import App, check_uri, origin_of_uri
from server.smart.core.scopes import Scopes
from server.storage import audit
from server.storage.models import Hospital
from server.storage.smart_tables import SmartClient, SmartGrant

PUBLIC, APP, BACKEND = "public", "app", "backend"
MAX_URIS = 10


class ClientInvalid(ValueError):
    """It cannot be registered; the text says why and may be shown to the administrator."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewClient:
    """What is registered; which parts a kind needs is `register`'s to check."""

    id: str
    name: str
    kind: str
    scopes: str
    redirect_uris: Sequence[str] = ()
    launch_uri: str = ""
    jwks: Mapping[str, Any] | None = None
    hospital: str | None = None


async def register(session: AsyncSession, new: NewClient, *, actor: str, at_ms: int) -> None:
    """Register a client.

    Raises:
        ClientInvalid: nothing was stored.
    """
    if await session.get(SmartClient, new.id) is not None:
        raise ClientInvalid("the id is taken")
    try:
        keys = "" if new.jwks is None else read_jwks(dict(new.jwks))
        uris = [check_uri(uri) for uri in new.redirect_uris]
        launch_uri = check_uri(new.launch_uri) if new.launch_uri else ""
    except ValueError as problem:
        raise ClientInvalid(str(problem)) from None
    scopes = Scopes.parse(new.scopes)
    _check_kind(new, scopes, has_keys=bool(keys))
    if new.hospital is not None and await session.get(Hospital, new.hospital) is None:
        raise ClientInvalid("there is no such hospital")
    session.add(
        SmartClient(
            id=new.id,
            name=new.name,
            kind=new.kind,
            hospital_id=new.hospital,
            redirect_uris=json.dumps(uris),
            launch_uri=launch_uri,
            jwks=keys,
            scopes=scopes.text,
            created_at_ms=at_ms,
        )
    )
    await session.flush()
    body = {"client": new.id, "kind": new.kind, "scopes": scopes.text, "hospital": new.hospital}
    await audit.append(session, [audit.Entry(kind="smart_client_registered", at_ms=at_ms, actor=actor, body=body)])


def _check_kind(new: NewClient, scopes: Scopes, *, has_keys: bool) -> None:
    words = len(new.scopes.split())
    if not scopes.text or len(scopes.text.split()) != words:
        raise ClientInvalid("a scope that is not known")
    if new.kind == BACKEND:
        if not has_keys or new.hospital is None or new.redirect_uris:
            raise ClientInvalid("a backend has keys and a hospital, and no redirect URI")
        if scopes.has_level("patient") or scopes.has_level("user") or scopes.plain:
            raise ClientInvalid("a backend has system scopes")
        return
    if new.kind not in (PUBLIC, APP):
        raise ClientInvalid("public, app or backend")
    if scopes.has_level("system") or new.hospital is not None:
        raise ClientInvalid("system scopes belong to backends")
    if not 1 <= len(new.redirect_uris) <= MAX_URIS:
        raise ClientInvalid("one to ten redirect URIs")
    if (new.kind == APP) != has_keys:
        raise ClientInvalid("an app that keeps a secret has keys, a public one has none")


async def revoke_client(session: AsyncSession, id_: str, *, actor: str, at_ms: int) -> bool:
    """Close a client: from now on nothing of it works. Whether there was one that worked."""
    client = await session.get(SmartClient, id_)
    if client is None or not client.active:
        return False
    client.active = False
    await session.execute(update(SmartGrant).where(SmartGrant.client_id == id_).values(revoked=True))
    await session.flush()
    entry = audit.Entry(kind="smart_client_revoked", at_ms=at_ms, actor=actor, body={"client": id_})
    await audit.append(session, [entry])
    return True


async def replace_keys(session: AsyncSession, id_: str, jwks: Mapping[str, Any], *, actor: str, at_ms: int) -> bool:
    """Give a client other public keys. Whether there was one that works and has keys.

    Raises:
        ClientInvalid: nothing was changed.
    """
    try:
        keys = read_jwks(dict(jwks))
    except ValueError as problem:
        raise ClientInvalid(str(problem)) from None
    client = await session.get(SmartClient, id_)
    if client is None or not client.active or not client.jwks:
        return False
    client.jwks = keys
    await session.flush()
    body = {"client": id_, "keys": [key["kid"] for key in json.loads(keys)["keys"]]}
    await audit.append(session, [audit.Entry(kind="smart_client_keys", at_ms=at_ms, actor=actor, body=body)])
    return True


async def find_client(session: AsyncSession, id_: str) -> SmartClient | None:
    """A client that may be used."""
    client = await session.get(SmartClient, id_) if len(id_) <= 64 else None
    return client if client is not None and client.active else None


async def all_clients(session: AsyncSession) -> Sequence[SmartClient]:
    """Every client there ever was."""
    return (await session.scalars(select(SmartClient).order_by(SmartClient.created_at_ms, SmartClient.id))).all()


def app_of(client: SmartClient | None) -> App | None:
    """The client as an app that people use; None for a backend."""
    if client is None or client.kind == BACKEND:
        return None
    return App(
        id=client.id,
        name=client.name,
        redirect_uris=tuple(json.loads(client.redirect_uris)),
        scopes=Scopes.parse(client.scopes),
    )


async def known_origins(session: AsyncSession) -> frozenset[str]:
    """Origins of the pages of registered apps: the only ones that browsers may let read our answers."""
    texts = await session.scalars(select(SmartClient.redirect_uris).where(SmartClient.active))
    return frozenset(origin_of_uri(uri) for text in texts for uri in json.loads(text))
