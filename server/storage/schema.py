"""Bring a database to the schema of this version, by Alembic, from code.

There is no alembic.ini: the connection, and with it every address and password,
comes from the settings. A SQLite file is copied before it is changed.
"""

import asyncio
import contextlib
import functools
import sqlite3
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from server.storage import casepack_tables, fhir_tables, fhircast_tables, lock_tables, smart_tables
from server.storage.database import Database
from server.storage.models import Base

__all__ = ["SQLAlchemyError", "downgrade", "drift", "newest", "present", "upgrade"]

MIGRATIONS = Path(__file__).parent.parent / "migrations"
_TABLES = (Base, casepack_tables, fhir_tables, fhircast_tables, lock_tables, smart_tables)
"""Every module with tables: a class that is not imported is not part of the schema."""


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@functools.cache
def newest() -> str:
    """Revision that this version of the program needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "the package carries its migrations"
    return head


async def present(database: Database) -> str | None:
    """Revision the database is at; None for an empty one."""
    async with database.engine.connect() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


async def upgrade(database: Database, revision: str = "head") -> Path | None:
    """Apply what is missing, in one transaction.

    Returns:
        The copy made of a SQLite file that already held data, else None.
    """
    at = await present(database)
    if revision == "head" and at == newest():
        return None
    copy = await asyncio.to_thread(_copy_file, database.file, at) if at is not None else None
    async with database.writing_engine.begin() as connection:
        await connection.run_sync(lambda sync: command.upgrade(_config(sync), revision))
    return copy


async def downgrade(database: Database, revision: str) -> None:
    """Take migrations back to ``revision`` (``base`` for none)."""
    async with database.writing_engine.begin() as connection:
        await connection.run_sync(lambda sync: command.downgrade(_config(sync), revision))


async def drift(database: Database) -> list[str]:
    """What differs between the tables in the database and in `models.py`; empty when clean."""
    async with database.engine.connect() as connection:
        found = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync, opts={"compare_type": True}), Base.metadata)
        )
    return [repr(difference) for difference in found]


def _copy_file(file: Path | None, revision: str) -> Path | None:
    if file is None or not file.exists():
        return None
    copy = file.with_name(f"{file.name}.before-{newest()}.from-{revision}")
    # SQLite's own backup: a plain copy of the file would miss what is still in the write-ahead log.
    with contextlib.closing(sqlite3.connect(file)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy
