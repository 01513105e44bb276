"""Seal with the newest key what lies open or under older keys: after an upgrade, or before a key is taken out.

It runs beside the hub. Each file is replaced whole and each batch of rows is one transaction, so it may be stopped and
begun again. A key counts as unused only when a pass over everything has found nothing under it; what does not open is
left as it is, and keeps its key.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server.gateway.sealing import NotAuthentic
from server.lock.aio.applying import instance_of
from server.lock.aio.outbox import read_pairs
from server.lock.aio.vault import Vault
from server.storage.database import Database
from server.storage.lock_tables import LockFile, LockKey, LockOutbox

BATCH = 100


@dataclass
class Resealed:
    """What one pass did.

    Args:
        unopened: what did not open, in the words of an administrator.
        met: how often each key was met; the empty one stands for what lay open.
    """

    files: int = 0
    rows: int = 0
    unopened: list[str] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)


async def reseal(vault: Vault, database: Database) -> tuple[Resealed, list[str]]:
    """One pass, and another to see that nothing is left; what was done, and ids of keys that seal nothing any more.

    Raises:
        OSError, sqlalchemy.exc.SQLAlchemyError: the disk or the database cannot; what is done stays done.
    """
    done = await _pass(vault, database)
    again = await _pass(vault, database)
    async with database.write() as session:
        used = {*again.met, vault.newest}
        gone = (await session.scalars(select(LockKey.id).where(LockKey.id.not_in(used)))).all()
        if not again.unopened:
            await session.execute(delete(LockKey).where(LockKey.id.in_(gone)))
    done.files, done.rows, done.unopened = done.files + again.files, done.rows + again.rows, again.unopened
    return done, [] if again.unopened else list(gone)


async def _pass(vault: Vault, database: Database) -> Resealed:
    done = Resealed()
    await asyncio.to_thread(_files, vault, done)
    after: tuple[str, int] | None = ("", -1)
    while after is not None:
        async with database.write() as session:
            after = await _outbox(session, vault, done, after)
    last: str | None = ""
    while last is not None:
        async with database.write() as session:
            last = await _file_rows(session, vault, done, last)
    return done


def _files(vault: Vault, done: Resealed) -> None:
    for digest, key in list(vault.kept()):
        done.met[key] += 1
        if key == vault.newest:
            continue
        try:
            body = vault.read(digest)
        except NotAuthentic:
            body = None
        if body is None:
            done.unopened.append(f"file {digest}")
        elif key:
            vault.write(digest, body)
            done.files += 1
        else:
            vault.keep(body)
            done.files += 1


async def _outbox(
    session: AsyncSession, vault: Vault, done: Resealed, after: tuple[str, int]
) -> tuple[str, int] | None:
    """One batch; where the next begins, None at the end."""
    gateway, number = after
    beyond = or_(LockOutbox.gateway_id > gateway, (LockOutbox.gateway_id == gateway) & (LockOutbox.sequence > number))
    query = select(LockOutbox).where(beyond, LockOutbox.body.is_not(None))
    ordered = query.order_by(LockOutbox.gateway_id, LockOutbox.sequence).limit(BATCH).with_for_update()
    rows = (await session.scalars(ordered)).all()
    for row in rows:
        table, key = LockOutbox.__tablename__, (row.gateway_id, row.sequence)
        done.met[row.sealed_with] += 1
        if row.sealed_with == vault.newest or row.body is None:
            continue
        try:
            values: dict[str, Any] = {
                "body": vault.unseal(row.sealed_with, row.body, table, *key, "body"),
                "patient": vault.unseal_text(row.sealed_with, row.patient, table, *key, "patient"),
                "about": vault.unseal_text(row.sealed_with, row.about, table, *key, "about"),
            }
        except NotAuthentic:
            done.unopened.append(f"message {row.sequence} to {row.gateway_id}")
            continue
        here = update(LockOutbox).where(LockOutbox.gateway_id == row.gateway_id, LockOutbox.sequence == row.sequence)
        await session.execute(here.values(**vault.seal_row(table, *key, **values)))
        done.rows += 1
    return (rows[-1].gateway_id, rows[-1].sequence) if rows else None


async def _file_rows(session: AsyncSession, vault: Vault, done: Resealed, after: str) -> str | None:
    """One batch; where the next begins, None at the end."""
    query = select(LockFile).where(LockFile.id > after).order_by(LockFile.id).limit(BATCH).with_for_update()
    rows = (await session.scalars(query)).all()
    for row in rows:
        done.met[row.sealed_with] += 1
        if row.sealed_with == vault.newest:
            continue
        try:
            about = vault.unseal_text(row.sealed_with, row.about, LockFile.__tablename__, row.id, "about")
        except NotAuthentic:
            done.unopened.append(f"row of file {row.sha256}")
            continue
        values = vault.seal_row(LockFile.__tablename__, row.id, about=about)
        values["instance"] = instance_of(read_pairs(about))
        await session.execute(update(LockFile).where(LockFile.id == row.id).values(**values))
        done.rows += 1
    return rows[-1].id if rows else None
