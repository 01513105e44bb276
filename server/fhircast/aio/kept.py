"""Subscriptions in the database: what is needed to go on with one in another process. (H2, H6, H19)

A process that has subscriptions says every moment that it lives, in one row of them. One that says nothing any more
has died (`signaling/core/standing.py`), and whoever was connected to it may still show a patient: another process
finds its rows and has them named (W19). A program that
comes back to its endpoint, at whatever process, is taken over there. Of two that want the same row the database
lets one have it.
"""

import json
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import CursorResult, delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server.clock import NowMs
from server.fhircast.core.hub import Program, Reason, Subscription
from server.fhircast.core.notices import Notice
from server.identity.core.secret import hash_secret
from server.storage.database import Database
from server.storage.fhircast_tables import FhircastSubscription

_REASONS: dict[str, Reason] = {
    "refused": "refused",
    "failed": "failed",
    "silent": "silent",
    "lost": "lost",
    "slow": "slow",
}


class KeptSubscriptions:
    """Rows of this process and of others."""

    def __init__(self, database: Database, now_ms: NowMs) -> None:
        self.node = secrets.token_hex(8)
        self._database = database
        self._now_ms = now_ms

    async def put(self, session: AsyncSession, one: Subscription, consult: str, token_hash: str) -> None:
        """Write it down in the caller's transaction: a new one, or one with another list, lease and token."""
        await session.merge(
            FhircastSubscription(
                id=one.id,
                endpoint_hash=hash_secret(one.endpoint),
                consult_id=consult,
                client_id=one.program.client,
                subject_id=one.program.subject,
                name=one.program.name,
                key=one.program.key,
                token_hash=token_hash,
                created_at_ms=one.created_ms,
                node=self.node,
                seen_at_ms=self._now_ms(),
                **_changing(one),
            )
        )

    async def save(self, one: Subscription) -> bool:
        """What changes from event to event.

        Returns:
            False when another process has it by now.
        """
        own = FhircastSubscription.id == one.id, FhircastSubscription.node == self.node
        return await self._write(update(FhircastSubscription).where(*own).values(**_changing(one))) == 1

    async def drop(self, id_: str) -> None:
        """It is over; another process's is left alone."""
        own = FhircastSubscription.id == id_, FhircastSubscription.node == self.node
        await self._write(delete(FhircastSubscription).where(*own))

    async def find(self, endpoint: str) -> FhircastSubscription | None:
        """The row of an endpoint while its lease lives, whoever has it."""
        query = select(FhircastSubscription).where(
            FhircastSubscription.endpoint_hash == hash_secret(endpoint),
            FhircastSubscription.lease_until_ms > self._now_ms(),
        )
        async with self._database.read() as session:
            return await session.scalar(query)

    async def take(self, row: FhircastSubscription) -> bool:
        """From whoever has it; False when another process was faster."""
        same = FhircastSubscription.id == row.id, FhircastSubscription.node == row.node
        change = {"node": self.node, "seen_at_ms": self._now_ms()}
        return await self._write(update(FhircastSubscription).where(*same).values(change)) == 1

    async def still_mine(self) -> set[str]:
        """Which subscriptions this process has."""
        own = FhircastSubscription.node == self.node
        async with self._database.read() as session:
            return set(await session.scalars(select(FhircastSubscription.id).where(own)))

    async def alive(self, id_: str) -> bool:
        """Say that this process lives, in the row of one of its connected subscriptions; False when it has it no more.

        One row whatever their number: it is written every moment.
        """
        own = FhircastSubscription.id == id_, FhircastSubscription.node == self.node
        return await self._write(update(FhircastSubscription).where(*own).values(seen_at_ms=self._now_ms())) == 1

    async def last_words(self) -> dict[str, int]:
        """What each other process that somebody is connected to said last; another time each time."""
        query = (
            select(FhircastSubscription.node, func.max(FhircastSubscription.seen_at_ms))
            .where(FhircastSubscription.node != self.node, FhircastSubscription.connected)
            .group_by(FhircastSubscription.node)
        )
        async with self._database.read() as session:
            return {str(row[0]): int(row[1]) for row in await session.execute(query)}

    async def owner(self, id_: str) -> str | None:
        """The process that has it; None when it is over."""
        async with self._database.read() as session:
            return await session.scalar(select(FhircastSubscription.node).where(FhircastSubscription.id == id_))

    async def sweep(self) -> None:
        """Remove those of other processes that nobody waits for."""
        others = FhircastSubscription.node != self.node
        over = others, ~FhircastSubscription.connected, FhircastSubscription.lease_until_ms <= self._now_ms()
        await self._write(delete(FhircastSubscription).where(*over))

    async def orphans(self, dead: Iterable[str]) -> Sequence[FhircastSubscription]:
        """Those that were connected to these processes."""
        query = select(FhircastSubscription).where(
            FhircastSubscription.node.in_(list(dead)),
            FhircastSubscription.node != self.node,
            FhircastSubscription.connected,
        )
        async with self._database.read() as session:
            return (await session.scalars(query)).all()

    async def is_orphan(self, row: FhircastSubscription) -> bool:
        """Whether it is still so that it has not come back, and nobody has dealt with it."""
        async with self._database.read() as session:
            return bool(await session.scalar(select(exists().where(*_still(row)))))

    async def lost(self, row: FhircastSubscription) -> None:
        """Its process is gone and it has not come back."""
        change = {"connected": False, "behind": "lost"}
        await self._write(update(FhircastSubscription).where(*_still(row)).values(change))

    async def is_succeeded(self, row: FhircastSubscription, since_ms: int) -> bool:
        """Whether the same program of the same person has subscribed again since its process last spoke."""
        newer = FhircastSubscription.key == row.key, FhircastSubscription.created_at_ms > since_ms
        async with self._database.read() as session:
            return bool(await session.scalar(select(exists().where(*newer))))

    async def connected(self, consult: str) -> set[str]:
        """Ids of those that have a socket anywhere."""
        query = select(FhircastSubscription.id).where(
            FhircastSubscription.consult_id == consult, FhircastSubscription.connected
        )
        async with self._database.read() as session:
            return set(await session.scalars(query))

    async def _write(self, statement: Any) -> int:
        async with self._database.write() as session:
            result = await session.execute(statement)
            assert isinstance(result, CursorResult)
            return int(result.rowcount)


def _still(row: FhircastSubscription) -> tuple[Any, ...]:
    same = FhircastSubscription.id == row.id, FhircastSubscription.node == row.node
    return (*same, FhircastSubscription.connected)


def restored(row: FhircastSubscription, endpoint: str, topic: str, program: Program) -> Subscription:
    """As it was written down, waiting for its socket."""
    return Subscription(
        id=row.id,
        endpoint=endpoint,
        topic=topic,
        program=program,
        events=tuple(row.events.split(",")),
        created_ms=row.created_at_ms,
        lease_until_ms=min(row.lease_until_ms, program.expires_at_ms),
        connect_until_ms=None,
        shown={kind: _notice(told) for kind, told in json.loads(row.shown).items()},
        behind=_REASONS.get(row.behind or "", "lost" if row.connected else None),
    )


def _changing(one: Subscription) -> dict[str, Any]:
    shown = {
        kind: {"id": told.id, "at_ms": told.at_ms, "name": told.name, "context": told.context}
        for kind, told in one.shown.items()
    }
    return {
        "events": ",".join(one.events),
        "lease_until_ms": one.lease_until_ms,
        "shown": json.dumps(shown, ensure_ascii=False),
        "connected": one.connected,
        "behind": one.behind,
    }


def _notice(told: dict[str, Any]) -> Notice:
    return Notice(id=told["id"], at_ms=told["at_ms"], name=told["name"], context=tuple(told["context"]))
