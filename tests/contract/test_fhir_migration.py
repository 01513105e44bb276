"""A database of the last version with records in it, brought to this one and searched."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from server_postgres import database_url, postgres_folder, postgres_url  # noqa: F401 - fixtures
from sqlalchemy import text

from server.record.aio.reindex import reindex
from server.record.aio.search import search
from server.record.aio.store import banner_in, one_version, put_resource, versions_of
from server.record.core.reach import Reach
from server.storage import schema
from server.storage.chain import canonical_json
from server.storage.database import Database
from tests.fhir_kit import observation, patient

INSERT = text(
    "INSERT INTO fhir_resource "
    "(type, id, version, current, patient_id, category, code, date, test, json, written_at_ms) "
    "VALUES (:type, :id, :version, :current, 'p0', '', '', '', true, :json, :at)"
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:  # noqa: F811
    database = Database(database_url)
    yield database
    await database.close()


async def test_records_of_the_last_version_are_found_with_their_history(database: Database) -> None:
    """[C23]"""
    await schema.upgrade(database, "0002")
    rows = [
        (patient("p0"), 1, True),
        (observation("o1", "p0", status="preliminary"), 1, False),
        (observation("o1", "p0"), 2, True),
    ]
    async with database.write() as session:
        for at, (one, version, current) in enumerate(rows):
            values = {"type": one["resourceType"], "id": one["id"], "version": version, "current": current, "at": at}
            await session.execute(INSERT, {**values, "json": canonical_json(one)})
    await schema.upgrade(database)
    assert await reindex(database) == 2
    async with database.read() as session:
        page = await search(session, "Observation", [("code", "2823-3")], reach=Reach.of_patients(["p0"]))
        first = await one_version(session, "Observation", "o1", 1)
        banner = await banner_in(session, "p0")
        assert [json.loads(one)["meta"]["versionId"] for one in page.texts] == ["2"]
        assert [one.version for one in await versions_of(session, "Observation", "o1")] == [2, 1]
    assert first is not None
    assert json.loads(first.json)["status"] == "preliminary"
    assert banner is not None
    assert banner.test
    async with database.write() as session:
        again = await put_resource(session, observation("o1", "p0"), actor="x", at_ms=9)
        assert (again.version, again.changed) == (2, False), "the same content is the same text"
    await schema.downgrade(database, "0002")
    async with database.read() as session:
        kept = (
            await session.execute(text("SELECT id, version, current FROM fhir_resource ORDER BY id, version"))
        ).all()
    assert [(row[0], row[1], bool(row[2])) for row in kept] == [("o1", 1, False), ("o1", 2, True), ("p0", 1, True)]
