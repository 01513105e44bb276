"""A whole transaction in one visit to the database: for what somebody waits for at every step.

A session of SQLAlchemy visits SQLite's thread for BEGIN, for each statement and for the end, and each visit wakes
another thread; most of its time, on a process that has just been idle, is the session's own code. What a read through
the lock needs (who asks, may she, does the consult still show this patient, the audit row) is a few rows by key: here
it is a function that is given a `Hand` and runs to its end in SQLite's thread, with statements compiled once. On
PostgreSQL the same function runs on a pooled connection.

Writes that wait for each other share the next transaction, as in the gateway's `scribe.py`: a commit is an fsync. If
one of them fails, all are rolled back and run again one by one, so that each gets its own outcome.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import Executable
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.engine import Connection as SqlConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session
from sqlalchemy.sql import ClauseElement

from server.storage.sqlite import Connection

BATCH = 64
T = TypeVar("T")
_SQLITE = SQLiteDialect_aiosqlite(paramstyle="qmark")


class Prepared:
    """A statement that is compiled once, with `sqlalchemy.bindparam` where values come.

    Its columns are text, numbers, booleans and bytes: what a driver takes and gives as it is (on SQLite a boolean is 0
    or 1). Every value is given: defaults of a model are not put in.
    """

    def __init__(self, statement: Executable) -> None:
        assert isinstance(statement, ClauseElement)
        self.statement, self.is_select = statement, statement.is_select
        compiled = statement.compile(dialect=_SQLITE)
        self._text, self._names = str(compiled), tuple(getattr(compiled, "positiontup", None) or ())
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}
        assert "POSTCOMPILE" not in self._text, "a list of values has no fixed text"

    def on(self, connection: sqlite3.Connection, values: dict[str, Any]) -> list[Any]:
        """Execute; all rows."""
        merged = self._fixed | values
        try:
            return connection.execute(self._text, [merged[name] for name in self._names]).fetchall()
        except sqlite3.Error as problem:
            raise _told(problem, self._text) from None


class Hand(Protocol):
    """Executes statements within one transaction."""

    def rows(self, what: Prepared, **values: Any) -> Sequence[Any]:
        """Rows, each a tuple; none of a statement that gives none."""
        ...

    def many(self, what: Prepared, values: Sequence[dict[str, Any]]) -> None:
        """The same statement with each of these, in one visit; it gives no rows."""
        ...

    def at_end(self, work: "Work", items: Sequence[Any]) -> None:
        """Have this done when all who share the transaction have done their own: a row that everybody locks is last.

        It is done once, with the items of all of them in the order in which they came, so that what all of them wait
        for costs them together what it costs one.
        """
        ...


Job = Callable[[Hand], T]
Work = Callable[[Hand, Sequence[Any]], None]


class SqlHand:
    """In a transaction of SQLAlchemy: `AsyncSession.run_sync` and `AsyncConnection.run_sync` give what it needs."""

    def __init__(self, session: Session | SqlConnection) -> None:
        self._session = session

    def rows(self, what: Prepared, **values: Any) -> Sequence[Any]:
        """See `Hand`."""
        done = self._session.execute(what.statement, values)
        return done.all() if what.is_select else []

    def many(self, what: Prepared, values: Sequence[dict[str, Any]]) -> None:
        """See `Hand`."""
        self._session.execute(what.statement, values)

    def at_end(self, work: Work, items: Sequence[Any]) -> None:
        """At once: nobody shares this transaction."""
        work(self, items)


class _SqliteHand:
    """In SQLite's thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, what: Prepared, **values: Any) -> Sequence[Any]:
        return what.on(self._connection, values)

    def many(self, what: Prepared, values: Sequence[dict[str, Any]]) -> None:
        for one in values:
            what.on(self._connection, one)

    def at_end(self, work: Work, items: Sequence[Any]) -> None:
        work(self, items)


class _SharedHand:
    """Of several jobs in one transaction."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._last: dict[Work, list[Any]] = {}

    def rows(self, what: Prepared, **values: Any) -> Sequence[Any]:
        return self._hand.rows(what, **values)

    def many(self, what: Prepared, values: Sequence[dict[str, Any]]) -> None:
        self._hand.many(what, values)

    def at_end(self, work: Work, items: Sequence[Any]) -> None:
        self._last.setdefault(work, []).extend(items)

    def finish(self) -> None:
        for work, items in self._last.items():
            work(self._hand, items)


class _GivenUp(Exception):
    """Nobody waits any more for one of a batch: it is not done, and the others again without it."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A write that somebody waits for."""

    job: Job[Any]
    future: asyncio.Future[Any]
    revocable: bool

    @property
    def revoked(self) -> bool:
        return self.revocable and self.future.cancelled()


class _Visits:
    """One SQLite connection, opened when it is first needed."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], begin: str, end: str) -> None:
        self._connect, self._begin, self._end = connect, begin, end
        self._opening = asyncio.Lock()
        self._connection: Connection | None = None

    async def run(self, job: Job[T]) -> T:
        """One transaction, in one visit."""
        if self._connection is None:
            await self._open()
        assert self._connection is not None
        return await self._connection.apply(lambda connection: self._in(connection, job))

    async def _open(self) -> None:
        async with self._opening:
            if self._connection is None:
                self._connection = await self._connect()

    def _in(self, connection: sqlite3.Connection, job: Job[T]) -> T:
        try:
            connection.execute(self._begin)
            result = job(_SqliteHand(connection))
            connection.execute(self._end)
        except sqlite3.Error as problem:
            raise _told(problem, "transaction") from None
        finally:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
        return result

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


class AtOnce:
    """Reads and writes of one database.

    Args:
        connect: a further connection to SQLite, ready for use; None on PostgreSQL.
        turn: SQLite's one writer in this process.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        connect: Callable[[], Awaitable[Connection]] | None,
        turn: contextlib.AbstractAsyncContextManager[Any],
    ) -> None:
        self._engine, self._turn = engine, turn
        self._reads = None if connect is None else _Visits(connect, "BEGIN", "ROLLBACK")
        self._writes = None if connect is None else _Visits(connect, "BEGIN IMMEDIATE", "COMMIT")
        self._waiting: list[_Waiting] = []
        self._working: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Writes whose transaction has not begun."""
        return len(self._waiting)

    async def read(self, job: Job[T]) -> T:
        """One consistent reading of a few rows; nothing is committed."""
        if self._reads is not None:
            return await self._reads.run(job)
        async with self._engine.connect() as connection:
            return await connection.run_sync(lambda sync: job(SqlHand(sync)))

    async def write(self, job: Job[T], *, revocable: bool = False) -> T:
        """The result of ``job`` after its commit.

        ``job`` may run twice (see the module), so it changes nothing but the database.

        Args:
            revocable: a call that is cancelled before its commit has begun is not done. Otherwise a cancelled call
                takes nothing back.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(job, future, revocable))
        if self._working is None:
            self._working = asyncio.create_task(self._work(), name="database-writes")
        return await future

    async def _work(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                async with self._turn:
                    batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                    await self._commit(batch)
        finally:
            self._working = None
            for one in (*batch, *self._waiting):
                one.future.cancel()  # only where this task itself was cancelled: settled ones do not mind

    async def _commit(self, batch: list[_Waiting]) -> None:
        wanted = [one for one in batch if not one.revoked]
        if not wanted:
            return
        try:
            results = await self._together(wanted)
        except Exception as problem:  # whatever it was, each runs again alone and gets its own outcome
            if len(wanted) > 1:
                for one in wanted:
                    await self._commit([one])
            elif not wanted[0].future.done():
                wanted[0].future.set_exception(problem)
            return
        for one, result in zip(wanted, results, strict=True):
            if not one.future.done():
                one.future.set_result(result)

    async def _together(self, batch: list[_Waiting]) -> list[Any]:
        def all_of(hand: Hand) -> list[Any]:
            shared = _SharedHand(hand)
            results = [one.job(shared) for one in batch]
            shared.finish()
            if any(one.revoked for one in batch):
                raise _GivenUp
            return results

        if self._writes is not None:
            return await self._writes.run(all_of)
        async with self._engine.begin() as connection:
            return await connection.run_sync(lambda sync: all_of(SqlHand(sync)))

    async def close(self) -> None:
        """Finish what was begun; idempotent."""
        if self._working is not None:
            await asyncio.wait([self._working])
        for visits in (self._reads, self._writes):
            if visits is not None:
                await visits.close()


def _told(problem: sqlite3.Error, statement: str) -> DBAPIError:
    """As SQLAlchemy tells it: the statement, never its values (G8)."""
    told = DBAPIError.instance(statement, None, problem, sqlite3.Error, hide_parameters=True, dialect=_SQLITE)
    assert isinstance(told, DBAPIError)
    return told
