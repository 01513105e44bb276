"""SQLite in one visit to its thread for each statement.

A connection lives in a thread of its own (aiosqlite). The driver's cursor goes
there four times for one statement: to be made, to execute, to fetch and to be
closed; on a busy machine each visit waits for the interpreter twice. Everything
is fetched at once anyway, so this cursor does all four in one visit. It is given
to SQLAlchemy by its ``async_creator``; what it has is what the adapter asks for.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, TypeVar

import aiosqlite

T = TypeVar("T")


class Cursor:
    """One statement and its rows; attributes as in PEP 249."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> Self:
        """Execute, and fetch all there is."""
        await self._connection.visit(self, "execute", sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> Self:
        """The same for many; rows there are none."""
        await self._connection.visit(self, "executemany", sql, parameters)
        return self

    async def fetchall(self) -> Sequence[Any]:
        """Rows that have not been fetched."""
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """Nothing is open any more."""

    def take(self, done: sqlite3.Cursor) -> None:
        """What came of it; in the connection's thread."""
        self.description, self.rowcount, self.lastrowid = done.description, done.rowcount, done.lastrowid
        self._rows = done.fetchall() if done.description else []
        done.close()


class Connection(aiosqlite.Connection):
    """With cursors of ours."""

    def cursor(self) -> Any:
        """A cursor, without a visit."""
        return Cursor(self)

    async def visit(self, cursor: Cursor, how: str, sql: str, parameters: Any) -> None:
        """Execute in the connection's thread."""

        def run() -> None:
            cursor.take(getattr(self._conn, how)(sql, parameters))

        await self._execute(run)  # type: ignore[no-untyped-call]

    async def apply(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in the connection's thread (`at_once.py`)."""
        result: T = await self._execute(lambda: job(self._conn))  # type: ignore[no-untyped-call]
        return result


async def connect(*arguments: Any, **options: Any) -> Connection:
    """Open a database; arguments are those of `sqlite3.connect`, PRAGMAs are the engine's to set."""
    made = Connection(lambda: sqlite3.connect(*arguments, **options), iter_chunk_size=64)
    # A process whose engine was not closed must end all the same.
    made._thread.daemon = True
    await made
    return made
