"""What the hub sends into a hospital: queued in the sender's own transaction, gone when the hospital has it.

`enqueue` belongs into the transaction of whatever makes the message (a signed opinion, a report), so the two are
never apart. Numbers are the gateway's own; the body stays until the outcome came back (`outcome`), which the
gateway sends as an ordinary crossing and therefore exactly once. [LK18] Until then it lies sealed (`vault.py`).
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import msgpack
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from server.gateway.core.crossing import Crossing, LockRefused, RefusalCode, check_crossing
from server.lock.aio.vault import Vault
from server.lock.core.proof import next_mark
from server.lock.core.wire import GENESIS, Pairs
from server.storage import audit
from server.storage.lock_tables import GatewayRow, LockOutbox

SOURCE = "hub"
DAMAGED = "damaged"
CONTENT_GONE: dict[str, Any] = {"body": None, "patient": "[]", "about": "[]", "sealed_with": ""}

MOST_WAITING, MOST_BYTES = 10_000, 1024**3
"""Of one hospital, until its gateway has it; then whoever makes messages for it is told that it is full."""


class NoGateway(Exception):
    """The hospital has no gateway that is not revoked."""


class MalformedOutcome(Exception):
    """Not an outcome of anything sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Queued:
    """Where a message stands."""

    gateway: str
    sequence: int


async def enqueue(
    session: AsyncSession,
    vault: Vault,
    gateway: str,
    crossing: Crossing,
    *,
    actor: str,
    now_us: int,
    consult: str | None = None,
) -> Queued:
    """Queue a message for a hospital, in the caller's write transaction; the same key again queues nothing new.

    Raises:
        NoGateway: unknown or revoked.
        server.gateway.core.crossing.LockRefused: it cannot cross at all, or ``full``: too much waits already.
    """
    check_crossing(crossing)
    row = await session.scalar(
        select(GatewayRow).where(GatewayRow.id == gateway, GatewayRow.revoked_at_ms.is_(None)).with_for_update()
    )
    if row is None:
        raise NoGateway
    known = await session.scalar(
        select(LockOutbox.sequence).where(LockOutbox.gateway_id == gateway, LockOutbox.key == crossing.key)
    )
    if known is not None:
        return Queued(gateway=gateway, sequence=known)
    await _check_room(session, row, len(crossing.body))
    sequence = row.outbox_last + 1
    digest = hashlib.sha256(crossing.body).digest()
    mark = next_mark(row.outbox_mark, sequence, SOURCE, crossing.key, digest)
    row.outbox_last, row.outbox_mark = sequence, mark
    sealed = vault.seal_row(
        LockOutbox.__tablename__, gateway, sequence,
        body=crossing.body, patient=json.dumps(crossing.patient), about=json.dumps(crossing.about),
    )  # fmt: skip
    session.add(
        LockOutbox(
            gateway_id=gateway, sequence=sequence, source=SOURCE, kind=crossing.kind, key=crossing.key,
            media_type=crossing.media_type, size_bytes=len(crossing.body), mark=mark, made_us=crossing.made_us,
            queued_us=now_us, state="waiting", **sealed,
        )
    )  # fmt: skip
    await session.flush()
    body = {"gateway": gateway, "sequence": sequence, "kind": crossing.kind, "size": len(crossing.body)}
    entry = audit.Entry(kind="lock_queued", at_ms=now_us // 1_000, actor=actor, body=body, consult_id=consult)
    await audit.append(session, [entry])
    return Queued(gateway=gateway, sequence=sequence)


async def _check_room(session: AsyncSession, row: GatewayRow, size: int) -> None:
    query = select(func.count(), func.coalesce(func.sum(LockOutbox.size_bytes), 0)).where(
        LockOutbox.gateway_id == row.id, LockOutbox.sequence > row.outbox_acked, LockOutbox.state == "waiting"
    )
    count, waiting_bytes = (await session.execute(query)).one()
    if count >= MOST_WAITING or waiting_bytes + size > MOST_BYTES:
        raise LockRefused(RefusalCode.FULL, f"{count} messages with {waiting_bytes} bytes wait for the hospital")


async def outbox_inside(session: AsyncSession, gateway: str, up_to: int) -> None:
    """The gateway has everything up to here."""
    inside = update(LockOutbox).where(
        LockOutbox.gateway_id == gateway, LockOutbox.sequence <= up_to, LockOutbox.state == "waiting"
    )
    await session.execute(inside.values(state="inside"))
    await session.execute(
        update(GatewayRow).where(GatewayRow.id == gateway, GatewayRow.outbox_acked < up_to).values(outbox_acked=up_to)
    )


async def outbox_fits(session: AsyncSession, gateway: str, up_to: int, mark: bytes) -> bool:
    """Whether a gateway's word on the hub's numbers is true of this database. [LK9]"""
    if up_to == 0:
        return mark == GENESIS
    stored = await session.scalar(
        select(LockOutbox.mark).where(LockOutbox.gateway_id == gateway, LockOutbox.sequence == up_to)
    )
    return stored is not None and bytes(stored) == mark


async def next_out(session: AsyncSession, gateway: str, first: int, count: int) -> list[LockOutbox]:
    """Rows from ``first`` on, in order, without their content: that is read one by one (`content_of`)."""
    content = (LockOutbox.body, LockOutbox.patient, LockOutbox.about)
    query = (
        select(LockOutbox)
        .options(*(defer(column, raiseload=True) for column in content))
        .where(LockOutbox.gateway_id == gateway, LockOutbox.sequence >= first)
        .order_by(LockOutbox.sequence)
        .limit(count)
    )
    return list((await session.scalars(query)).all())


@dataclass(frozen=True, slots=True)
class Content:
    """What of a row tells of a patient."""

    body: bytes
    patient: Pairs
    about: Pairs


async def content_of(session: AsyncSession, vault: Vault, gateway: str, sequence: int) -> Content | None:
    """Of one row, opened; None when it is gone.

    Raises:
        server.lock.aio.vault.KeyAway: sealed with a key that is not here.
        server.gateway.sealing.NotAuthentic: it is not what was queued.
    """
    query = select(LockOutbox.body, LockOutbox.patient, LockOutbox.about, LockOutbox.sealed_with)
    row = (
        await session.execute(query.where(LockOutbox.gateway_id == gateway, LockOutbox.sequence == sequence))
    ).one_or_none()
    if row is None or row.body is None:
        return None
    place, key = (LockOutbox.__tablename__, gateway, sequence), row.sealed_with
    return Content(
        vault.unseal(key, row.body, *place, "body"),
        read_pairs(vault.unseal_text(key, row.patient, *place, "patient")),
        read_pairs(vault.unseal_text(key, row.about, *place, "about")),
    )


async def give_up_damaged(session: AsyncSession, gateway: str, sequence: int) -> None:
    """A row that does not open under its own key is not sent; what is left of it stays."""
    row = update(LockOutbox).where(LockOutbox.gateway_id == gateway, LockOutbox.sequence == sequence)
    await session.execute(row.values(state="refused", code=DAMAGED))


async def outcome(session: AsyncSession, gateway: str, body: bytes) -> None:
    """The hospital has a message, or has refused it for good.

    Raises:
        MalformedOutcome: not an outcome of anything sent.
    """
    try:
        value = msgpack.unpackb(body)
        key, code, at_us = str(value["key"]), str(value["code"])[:64], int(value["at_us"])
        if not 0 <= at_us < 2**63:
            raise ValueError
    except Exception:  # the decoder documents no closed list of what it raises on hostile bytes
        raise MalformedOutcome from None
    done = await session.execute(
        update(LockOutbox)
        .where(LockOutbox.gateway_id == gateway, LockOutbox.key == key)
        .values(state="refused" if code else "delivered", code=code, delivered_us=at_us, **CONTENT_GONE)
        .returning(LockOutbox.sequence)
    )
    if done.one_or_none() is None:
        raise MalformedOutcome


def read_pairs(text: str) -> Pairs:
    """A column of pairs, as JSON."""
    return tuple((name, value) for name, value in json.loads(text))
