"""Migrations and the audit chain on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from server_postgres import database_url, postgres_folder, postgres_url  # noqa: F401 - fixtures
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from server.storage import audit, schema
from server.storage.database import Database
from server.storage.seeding import add_consult, add_hospital, add_room, put_fhir_resource
from server.storage.views import log_of, who_saw

PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]},
    "name": [{"text": "P"}],
    "gender": "female",
    "birthDate": "1964-03-14",
    "identifier": [{"type": {"text": label}, "value": label} for label in ("MRN", "ID")],
}


@pytest.fixture
async def empty(database_url: str) -> AsyncIterator[Database]:  # noqa: F811
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def database(empty: Database) -> Database:
    await schema.upgrade(empty)
    return empty


async def tables(database: Database) -> set[str]:
    async with database.engine.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def test_up_down_and_up_again(empty: Database) -> None:
    assert await schema.present(empty) is None

    await schema.upgrade(empty)
    assert await schema.present(empty) == schema.newest()
    assert {"event", "chain_head", "consult_state", "fhir_resource"} <= await tables(empty)

    await schema.downgrade(empty, "base")
    assert await tables(empty) <= {"alembic_version"}

    await schema.upgrade(empty)
    assert await schema.drift(empty) == []


async def test_the_models_say_what_the_migrations_make(database: Database) -> None:
    assert await schema.drift(database) == []
    async with database.write() as session:
        await session.execute(text("ALTER TABLE room ADD COLUMN colour VARCHAR(8)"))
    assert len(await schema.drift(database)) == 1


async def test_who_looked_is_found_in_a_long_log(database: Database) -> None:
    """[VW3] (G5) A hundred thousand entries of other consults are not read for one patient's question."""
    async with database.write() as session:
        await add_hospital(session, id="hub", name="Hub", hub=True)
        await add_room(session, id="r", hospital="hub", name="R")
        await put_fhir_resource(session, PATIENT, at_ms=1)
        await add_consult(
            session, id="c1", title="", room="r", station=None, partner="hub", starts_at_ms=1, people={}, devices={},
            patients=["p1"],
        )  # fmt: skip
        await session.execute(
            text(
                "INSERT INTO event (seq, consult_id, revision, kind, at_ms, actor, body, prev_hash, hash) "
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
                "SELECT 1000 + i, 'other' || (i % 500), NULL, "
                "CASE i % 3 WHEN 0 THEN 'view_shown' ELSE 'record_read' END, i, 'x', '{}', "
                "(SELECT hash FROM chain_head), (SELECT hash FROM chain_head) FROM n"
            )
        )
        shown = [
            audit.Entry(
                kind="view_shown", at_ms=2 * n, actor="doc", consult_id="c1",
                body={"id": f"v{n}", "participant": "doc", "patient": "p1", "context_version": 1, "from_ms": 2 * n,
                      "to_ms": 2 * n + 1, "view": {"page": "labs", "item": ""}},
            )
            for n in range(300)
        ]  # fmt: skip
        await audit.append(session, shown)
    async with database.write() as session:
        await session.execute(text("ANALYZE"))
    async with database.read() as session:
        seen = await who_saw(session, "p1", 100, 200)
        statement = log_of("p1").compile(database.engine.sync_engine, compile_kwargs={"literal_binds": True})
        how = "EXPLAIN QUERY PLAN" if database.engine.dialect.name == "sqlite" else "EXPLAIN"
        plan = " ".join(str(tuple(row)) for row in await session.execute(text(f"{how} {statement}")))
    assert [one.from_ms for one in seen] == list(range(100, 200, 2))
    assert "ix_event_consult_kind" in plan, plan


async def test_a_failed_migration_leaves_nothing_behind(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr("alembic.op.bulk_insert", broken)
    with pytest.raises(RuntimeError):
        await schema.upgrade(empty)

    assert await tables(empty) == set()


async def test_a_sqlite_file_is_copied_before_it_is_changed(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    assert await schema.upgrade(database) is None
    async with database.write() as session:
        await audit.append(session, [audit.Entry(kind="kept", at_ms=1)])
        await session.execute(text("UPDATE alembic_version SET version_num = '0000'"))

    copy = schema._copy_file(database.file, "0000")

    assert copy is not None
    old = Database(f"sqlite:///{copy}")
    assert (await audit.head(old))[0] == 1, "what was only in the write-ahead log is in the copy"
    await old.close()
    await database.close()


async def test_the_event_table_refuses_changes(database: Database) -> None:
    async with database.write() as session:
        await audit.append(session, [audit.Entry(kind="login", at_ms=1)])
    for statement in ("UPDATE event SET kind = 'logout'", "DELETE FROM event"):
        with pytest.raises(DBAPIError, match="append-only"):
            async with database.write() as session:
                await session.execute(text(statement))
    assert (await audit.verify(database, {})).broken is None


async def test_many_writers_make_one_chain(database: Database) -> None:
    """Each appends from a transaction of its own; nobody forks the chain or is lost."""

    async def writer(number: int) -> None:
        for step in range(5):
            async with database.write() as session:
                await audit.append(
                    session,
                    [audit.Entry(kind="login", at_ms=step, actor=f"person:{number}", body={"part": p}) for p in "ab"],
                )

    await asyncio.gather(*(writer(number) for number in range(12)))

    verdict = await audit.verify(database, {})
    assert (verdict.rows, verdict.broken) == (120, None)


async def test_two_processes_on_one_sqlite_file_wait_for_each_other(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    first, second = Database(url), Database(url)
    await schema.upgrade(first)

    async def write(database: Database) -> None:
        for _ in range(20):
            async with database.write() as session:
                await audit.append(session, [audit.Entry(kind="login", at_ms=1)])

    await asyncio.gather(write(first), write(second))

    assert (await audit.verify(first, {})).rows == 40
    await first.close()
    await second.close()


async def test_a_walk_over_a_chain_that_grows_meanwhile_finds_nothing_wrong(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE_ROWS", 7)
    stop = asyncio.Event()

    async def grow() -> None:
        while not stop.is_set():
            async with database.write() as session:
                await audit.append(session, [audit.Entry(kind="login", at_ms=1)])

    async with database.write() as session:
        await audit.append(session, [audit.Entry(kind="login", at_ms=1)] * 50)
    growing = asyncio.create_task(grow())
    try:
        for _ in range(5):
            verdict = await audit.verify(database, {})
            assert verdict.broken is None
            assert verdict.rows >= 50
    finally:
        stop.set()
        await growing
