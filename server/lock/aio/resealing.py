"""Seal with the newest key what lies open or under older keys: after an upgrade, or before a key is taken out.

It runs beside the hub. Each file is replaced whole and rows are changed in small transactions, so it may be stopped and
begun again. What does not open is left as it is. A key counts as unused only when afterwards nothing names it, neither
file nor row: processes of the hub use a new key from when it is in the file.
"""

import asyncio
from dataclasses import dataclass, field

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server.gateway.sealing import NotAuthentic
from server.lock.aio.applying import instance_of
from server.lock.aio.outbox import CONTENT_GONE, DAMAGED, read_pairs
from server.lock.aio.vault import Vault
from server.storage import audit
from server.storage.database import Database
from server.storage.lock_tables import LockFile, LockKey, LockOutbox

BATCH = 100


@dataclass
class Resealed:
    """What was done.

    Args:
        unopened: what did not open, in the words of an administrator.
        unused: ids of keys that seal nothing any more.
    """

    files: int = 0
    rows: int = 0
    unopened: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


async def reseal(vault: Vault, database: Database) -> Resealed:
    """All of it.

    Raises:
        OSError, sqlalchemy.exc.SQLAlchemyError: the disk or the database cannot; what is done stays done.
    """
    done = Resealed()
    await asyncio.to_thread(_files, vault, done)
    async with database.read() as session:
        query = select(LockOutbox.gateway_id, LockOutbox.sequence).where(LockOutbox.body.is_not(None))
        waiting = (await session.execute(query.where(LockOutbox.sealed_with != vault.newest))).all()
    for gateway, sequence in waiting:  # one by one: a body may be large
        async with database.write() as session:
            await _message(session, vault, done, str(gateway), int(sequence))
    after: str | None = ""
    while after is not None:
        async with database.write() as session:
            after = await _file_rows(session, vault, done, after)
    async with database.write() as session:
        used = {vault.newest, *await asyncio.to_thread(lambda: {key for _digest, key in vault.kept()})}
        used |= set((await session.scalars(select(LockFile.sealed_with).distinct())).all())
        used |= set((await session.scalars(select(LockOutbox.sealed_with).distinct())).all())
        unused = (await session.scalars(select(LockKey.id).where(LockKey.id.not_in(used)))).all()
        await session.execute(delete(LockKey).where(LockKey.id.in_(unused)))
    done.unused = sorted(unused)
    return done


async def forget(database: Database, key: str, now_ms: int) -> int | None:
    """Give up a key that is lost, so that the hub starts without it; how many messages went with it, None: no such key.

    Files that it sealed stay where they are and say that their key is away. Messages that wait for a hospital under it
    are refused as `damaged`: nothing else would let those behind them go on.
    """
    async with database.write() as session:
        gone = await session.execute(delete(LockKey).where(LockKey.id == key).returning(LockKey.id))
        if gone.one_or_none() is None:
            return None
        rows = update(LockOutbox).where(LockOutbox.sealed_with == key, LockOutbox.body.is_not(None))
        given_up = await session.execute(
            rows.values(state="refused", code=DAMAGED, **CONTENT_GONE).returning(LockOutbox.sequence)
        )
        count = len(given_up.all())
        entry = audit.Entry(kind="lock_key_forgotten", at_ms=now_ms, body={"key": key, "messages": count})
        await audit.append(session, [entry])
    return count


def _files(vault: Vault, done: Resealed) -> None:
    for digest, key in list(vault.kept()):
        if key == vault.newest:
            continue
        try:
            body = vault.read(digest)
        except NotAuthentic:
            body = None
        if body is None:
            done.unopened.append(f"file {digest}")
            continue
        if key:
            vault.write(digest, body)
        else:
            vault.keep(body)
        done.files += 1


async def _message(session: AsyncSession, vault: Vault, done: Resealed, gateway: str, sequence: int) -> None:
    here = (LockOutbox.gateway_id == gateway, LockOutbox.sequence == sequence)
    row = await session.scalar(select(LockOutbox).where(*here).with_for_update())
    if row is None or row.body is None:
        return  # its outcome has come meanwhile
    table, key = LockOutbox.__tablename__, row.sealed_with
    try:
        body = vault.unseal(key, row.body, table, gateway, sequence, "body")
        patient = vault.unseal_text(key, row.patient, table, gateway, sequence, "patient")
        about = vault.unseal_text(key, row.about, table, gateway, sequence, "about")
    except NotAuthentic:
        done.unopened.append(f"message {sequence} to {gateway}")
        return
    values = vault.seal_row(table, gateway, sequence, body=body, patient=patient, about=about)
    await session.execute(update(LockOutbox).where(*here).values(**values))
    done.rows += 1


async def _file_rows(session: AsyncSession, vault: Vault, done: Resealed, after: str) -> str | None:
    """One batch; where the next begins, None at the end."""
    query = select(LockFile).where(LockFile.id > after, LockFile.sealed_with != vault.newest)
    rows = (await session.scalars(query.order_by(LockFile.id).limit(BATCH).with_for_update())).all()
    for row in rows:
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
