"""What a gateway sent, committed: number, content and audit in one transaction. [LK12]

The gateway's row is the fence. It moves from number N-1 to N only for the connection that was let in last, of
a gateway that is not revoked, in the stream it said it has; whoever else tries finds the row moved on and has
changed nothing. So each number is applied once, whatever was sent twice, and a connection that was
replaced cannot commit what it still holds.

What cannot be applied for good is recorded as refused and the line goes on; what cannot be applied *now* (the
database does not answer) is not acknowledged and comes again. How a body becomes part of the record is
`applying.py`.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import select, update
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from server.gateway.adapters.bugs import where
from server.gateway.core.crossing import Crossing
from server.lock.core.link import Arrived
from server.lock.core.wire import MAX_FORMERS, MAX_ITEMS, Cross, Gap, crossing_of, formers_of
from server.metrics import LOCK_CROSSINGS
from server.storage import audit
from server.storage.database import Database
from server.storage.lock_tables import GatewayRow, LockCrossing

log = structlog.get_logger(__name__)

TRIES = 3
"""Of a crossing at which our own code breaks; then it is set aside (the gateway keeps its content)."""
PATIENCE = 10
"""Times TRIES is how often the database may break at one crossing while it takes others."""

APPLIED, REPEATED, REFUSED, LOST = "applied", "repeated", "refused", "lost"
Verdict = tuple[str, str, int, int]
"""(verdict, code, received_us, committed_us), as acknowledged."""


class Fenced(Exception):
    """This connection may not commit any more: replaced, revoked, or the stream was renewed."""


class CrossingRefused(Exception):
    """It can never be applied.

    Args:
        code: stable.
        reason: for administrators, without content.
    """

    def __init__(self, code: str, reason: str = "") -> None:
        super().__init__(f"{code}: {reason}" if reason else code)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class From:
    """Where a crossing came from, as it is applied and logged."""

    gateway: str
    hospital: str
    stream: str
    connection: int
    sequence: int
    source: str

    @property
    def actor(self) -> str:
        """How the audit trail names it."""
        return f"gateway:{self.gateway}"


Apply = Callable[[AsyncSession, Crossing, From, int], Awaitable[None]]
"""Make a crossing part of the record, in the given transaction, at ``at_ms``.

Raises `CrossingRefused`; whatever it did is then undone.
"""


Before = Callable[[Crossing, From], Awaitable[None]]
"""What must have happened before a crossing is committed (`leaving.py`); raises an `OSError` to have it come again."""


class Inbox:
    """Commits crossings of all gateways.

    Args:
        now_us: the hub's clock.
    """

    def __init__(
        self, database: Database, apply: Apply, now_us: Callable[[], int], before: Before | None = None
    ) -> None:
        self._database, self._apply, self._now_us, self._before = database, apply, now_us, before
        self._failures: dict[tuple[str, str, int], int] = {}

    async def commit(self, origin: From, arrived: Arrived) -> Verdict:
        """Apply one crossing; returns after the commit.

        Raises:
            Fenced: nothing was changed.
            sqlalchemy.exc.SQLAlchemyError: the database cannot now; nothing was changed.
        """
        attempt = (origin.gateway, origin.stream, origin.sequence)
        crossing = crossing_of(arrived.frame, arrived.body)
        try:
            if self._before is not None and await self._will_apply(origin, arrived):
                await self._before(crossing, origin)
            given_up = self._failures.get(attempt, 0) >= TRIES * PATIENCE
            verdict = await self._transact(origin, arrived, crossing, given_up)
        except (Fenced, OSError, InterfaceError):
            raise
        except Exception as problem:
            # Our own mistake: the line must not stand still for it, nor may the crossing be lost. It comes again, and
            # after TRIES times it is set aside. What the database calls operational may also be this crossing's own
            # (too many parameters); it counts for less, and only while the database takes other things.
            if isinstance(problem, OperationalError) and not await self._database_writes():
                raise
            cost = 1 if isinstance(problem, OperationalError) else PATIENCE
            self._failures[attempt] = self._failures.get(attempt, 0) + cost
            log.error(
                "crossing could not be applied", gateway=origin.gateway, sequence=origin.sequence,
                problem=type(problem).__name__, where=where(problem),
            )  # fmt: skip
            raise
        self._failures.pop(attempt, None)
        LOCK_CROSSINGS.labels("out", verdict[0]).inc()
        return verdict

    async def commit_gap(self, origin: From, gap: Gap) -> list[Verdict]:
        """Numbers whose content is gone at the gateway: recorded, told, and the line goes on. [LK14]

        Raises:
            Fenced: nothing was changed.
        """
        now_us = self._now_us()
        async with self._database.write() as session:
            await self._advance(session, origin, gap.first, gap.last, gap.mark)
            session.add(
                LockCrossing(
                    gateway_id=origin.gateway, stream=origin.stream, sequence=gap.first, last=gap.last, source="",
                    kind="", key_hash="", size_bytes=0, verdict=LOST, code=gap.code, reason="", made_us=0,
                    gateway_received_us=0, gateway_journaled_us=0, gateway_sent_us=0, hub_received_us=now_us,
                    hub_committed_us=now_us,
                )
            )  # fmt: skip
            await session.flush()
            body = {"gateway": origin.gateway, "first": gap.first, "last": gap.last, "code": gap.code}
            entry = audit.Entry(kind="lock_lost", at_ms=now_us // 1_000, actor=origin.actor, body=body)
            await audit.append(session, [entry])
        log.error("a gateway lost crossings", gateway=origin.gateway, first=gap.first, last=gap.last, code_=gap.code)
        LOCK_CROSSINGS.labels("out", LOST).inc(gap.last - gap.first + 1)
        return [(LOST, gap.code, now_us, now_us)] * (gap.last - gap.first + 1)

    async def verdicts(self, gateway: str, stream: str, after: int, most: int) -> list[Verdict]:
        """What became of the numbers beyond ``after``, one for each, in order, some ``most`` at a time. [LK13]"""
        query = (
            select(LockCrossing)
            .where(LockCrossing.gateway_id == gateway, LockCrossing.stream == stream)
            # A row may stand for a run of at most MAX_ITEMS numbers: bounded below, the index finds the first.
            .where(LockCrossing.sequence > after - MAX_ITEMS, LockCrossing.last > after)
            .order_by(LockCrossing.sequence)
            .limit(most)
        )
        async with self._database.read() as session:
            rows = (await session.scalars(query)).all()
        told: list[Verdict] = []
        for row in rows:
            verdict = (row.verdict, row.code, row.hub_received_us, row.hub_committed_us)
            told += [verdict] * (row.last - max(row.sequence - 1, after))
        return told

    async def _will_apply(self, origin: From, arrived: Arrived) -> bool:
        """Whether this connection may still commit, and the crossing is new: what comes before it has effects.

        Raises:
            Fenced: it may not.
        """
        async with self._database.read() as session:
            row = await session.get(GatewayRow, origin.gateway)
            if row is None or row.revoked_at_ms is not None or row.connection != origin.connection:
                raise Fenced
            return not await self._is_known(session, origin, arrived.frame)

    async def _database_writes(self) -> bool:
        try:
            async with self._database.write() as session:
                await session.execute(update(GatewayRow).where(GatewayRow.id == "").values(connection=0))
        except SQLAlchemyError:
            return False
        return True

    async def _transact(self, origin: From, arrived: Arrived, crossing: Crossing, give_up: bool) -> Verdict:
        frame = arrived.frame
        async with self._database.write() as session:
            await self._advance(session, origin, frame.sequence, frame.sequence, frame.mark)
            hashed = key_hash(origin.gateway, frame.source, frame.key)
            at_us = self._now_us()
            if await self._is_known(session, origin, frame):
                verdict, code, reason = REPEATED, "", ""
            elif give_up:
                verdict, code, reason = REFUSED, "internal", "the hub could not apply it"
            else:
                verdict, code, reason = await self._outcome(session, crossing, origin, at_us // 1_000)
            committed_us = self._now_us()
            session.add(
                LockCrossing(
                    gateway_id=origin.gateway, stream=origin.stream, sequence=frame.sequence, last=frame.sequence,
                    source=frame.source, kind=frame.kind, key_hash=hashed, size_bytes=frame.size, verdict=verdict,
                    code=code, reason=reason[:300], made_us=frame.made_us, gateway_received_us=frame.received_us,
                    gateway_journaled_us=frame.journaled_us, gateway_sent_us=frame.sent_us,
                    hub_received_us=arrived.received_us, hub_committed_us=committed_us,
                )
            )  # fmt: skip
            await session.flush()
            body = {
                "gateway": origin.gateway, "sequence": frame.sequence, "source": frame.source, "kind": frame.kind,
                "size": frame.size, "verdict": verdict, "code": code,
            }  # fmt: skip
            entry = audit.Entry(kind="lock_crossed", at_ms=at_us // 1_000, actor=origin.actor, body=body)
            await audit.append(session, [entry])
        return verdict, code, arrived.received_us, committed_us

    async def _outcome(
        self, session: AsyncSession, crossing: Crossing, origin: From, at_ms: int
    ) -> tuple[str, str, str]:
        try:
            async with session.begin_nested():
                await self._apply(session, crossing, origin, at_ms)
        except CrossingRefused as refused:
            return REFUSED, refused.code, refused.reason
        return APPLIED, "", ""

    async def _advance(self, session: AsyncSession, origin: From, first: int, last: int, mark: bytes) -> None:
        moved = await session.execute(
            update(GatewayRow)
            .where(
                GatewayRow.id == origin.gateway,
                GatewayRow.stream == origin.stream,
                GatewayRow.connection == origin.connection,
                GatewayRow.received == first - 1,
                GatewayRow.revoked_at_ms.is_(None),
            )
            .values(received=last, mark=mark)
            .returning(GatewayRow.id)
        )
        if moved.one_or_none() is None:
            raise Fenced

    async def _is_known(self, session: AsyncSession, origin: From, frame: Cross) -> bool:
        """Whether this gateway, or one that it says its machine was before, has brought it already. [LK1]

        Such a word is believed within one hospital: it can keep back nothing but the speaker's own crossing.
        """
        for gateway in dict.fromkeys((origin.gateway, *formers_of(frame)[:MAX_FORMERS])):
            query = (
                select(LockCrossing.id)
                .join(GatewayRow, GatewayRow.id == LockCrossing.gateway_id)
                .where(
                    GatewayRow.hospital_id == origin.hospital,
                    LockCrossing.gateway_id == gateway,
                    LockCrossing.key_hash == key_hash(gateway, frame.source, frame.key),
                    LockCrossing.verdict.in_((APPLIED, REPEATED)),
                )
            )
            if await session.scalar(query.limit(1)) is not None:
                return True
        return False


def key_hash(gateway: str, source: str, key: str) -> str:
    """By which a repeat is recognised over streams; a control id alone says nothing, hashed it says less."""
    return hashlib.sha256(f"{gateway}\0{source}\0{key}".encode()).hexdigest()
