"""Transactions on SQLite or PostgreSQL behind the same two words: ``read`` and ``write``.

SQLite lets one connection write at a time. A transaction that starts as a
reader and turns writer can fail at once with "database is locked" whatever the
busy timeout, so writers say so from the start (BEGIN IMMEDIATE), and inside one
process they queue on a lock instead of polling the file.

On PostgreSQL ``write`` is an ordinary READ COMMITTED transaction; what must be
serial takes a row lock (the chain head, the consult's state).

An error of either names the statement, never its parameters, which are what
people said: errors get into logs (G8).
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from server.storage.at_once import AtOnce
from server.storage.sqlite import Connection as SqliteConnection
from server.storage.sqlite import connect

BUSY_TIMEOUT_MS = 5_000
"""How long a writer waits for another process (the CLI beside the server) before it fails."""

POOL_SIZE = 8
TROUBLE = (OperationalError, InterfaceError, PoolTimeoutError)
"""What a database raises that is away, stands still or has a full disk; anything else is a bug of ours."""
DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


class DatabaseUrlError(ValueError):
    """The database URL cannot be used; the text is a sentence for the administrator."""


def parse_url(text: str) -> URL:
    """URL with our driver filled in.

    Raises:
        DatabaseUrlError: not a URL, or neither SQLite nor PostgreSQL.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        # The text may hold a password, so it is not repeated.
        raise DatabaseUrlError("database_url is not a database URL such as sqlite:////path/file.db") from None
    backend = url.drivername.partition("+")[0]
    if backend not in DRIVERS:
        raise DatabaseUrlError(f"database_url must name sqlite or postgresql, not {backend}")
    return url.set(drivername=DRIVERS[backend])


class Database:
    """One database; ``close`` releases every connection."""

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(self.url) if self.is_sqlite else _postgresql_engine(self.url)
        self.writing_engine = self.engine.execution_options(consilium_begin="BEGIN IMMEDIATE")
        self._turn = asyncio.Lock() if self.is_sqlite else contextlib.nullcontext()
        self.at_once = AtOnce(self.engine, partial(_connected, self.url) if self.is_sqlite else None, self._turn)

    @property
    def file(self) -> Path | None:
        """The SQLite file, if that is what this is."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """One consistent reading; nothing is committed."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            yield session

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        async with self._turn, AsyncSession(self.writing_engine, expire_on_commit=False) as session, session.begin():
            yield session

    async def close(self) -> None:
        """Idempotent."""
        await self.at_once.close()
        await self.engine.dispose()


_PRAGMAS = (
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode=WAL",
    "PRAGMA foreign_keys=ON",
    # FULL: an audit row that was acknowledged survives a power cut.
    "PRAGMA synchronous=FULL",
)


async def _opened(url: URL) -> SqliteConnection:
    arguments, options = url.get_dialect()().create_connect_args(url)
    return await connect(*arguments, **options)


async def _connected(url: URL) -> SqliteConnection:
    """One that is not the pool's: ready, and without the driver's own rules for transactions."""

    def ready(connection: sqlite3.Connection) -> None:
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            connection.execute(pragma)

    made = await _opened(url)
    await made.apply(ready)
    return made


def _sqlite_engine(url: URL) -> AsyncEngine:
    ours = partial(_opened, url)
    engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0, hide_parameters=True, async_creator=ours)

    @event.listens_for(engine.sync_engine, "connect")
    def _configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        # The driver would begin transactions by its own rules; `_begin` does it instead.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        options: dict[str, Any] = dict(connection.get_execution_options())
        connection.exec_driver_sql(options.get("consilium_begin", "BEGIN"))

    return engine


def _postgresql_engine(url: URL) -> AsyncEngine:
    # pre_ping: a restarted database costs one round trip, not one failed request per pooled connection.
    return create_async_engine(
        url, pool_size=POOL_SIZE, max_overflow=POOL_SIZE, pool_pre_ping=True, hide_parameters=True
    )
