"""The store contract on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from server.storage import audit
from server.storage.chain import canonical_json
from server.storage.consult_store import SqlConsultStore
from server.storage.database import Database
from server.storage.seeding import add_consult, add_hospital, add_room, put_fhir_resource
from signaling.core.model import Consult, PatientBanner, Role
from signaling.core.ports import ConsultStore
from tests.contract.consult_store_suite import REPORT, ConsultStoreSuite, MakeStore
from tests.contract.server_postgres import postgres_folder, ready_file, ready_template, ready_url  # noqa: F401 - fixtures

TEST_TAG = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}


def fhir_patient(banner: PatientBanner) -> dict[str, object]:
    """A Patient whose banner is ``banner``."""
    names = [banner.name, banner.name_latin] if banner.name_latin else [banner.name]
    return {
        "resourceType": "Patient",
        "id": banner.id,
        "meta": {"tag": [TEST_TAG] if banner.test else []},
        "name": [{"text": name} for name in names],
        "gender": banner.sex,
        "birthDate": banner.birth_date,
        "identifier": [{"type": {"text": one.label}, "value": one.value} for one in banner.identifiers],
    }


class TestSqlConsultStore(ConsultStoreSuite):
    @pytest.fixture
    async def make_store(self, ready_url: str) -> AsyncIterator[MakeStore]:  # noqa: F811
        database = Database(ready_url)

        async def make(consult: Consult, patients: Sequence[PatientBanner]) -> ConsultStore:
            async with database.write() as session:
                await add_hospital(session, id="hub", name="Hub", hub=True)
                await add_room(session, id="r", hospital="hub", name="R")
                for banner in patients:
                    await put_fhir_resource(session, fhir_patient(banner), at_ms=1)
                await put_fhir_resource(session, REPORT, at_ms=1)
                await add_consult(
                    session,
                    id=consult.id,
                    title=consult.title,
                    room="r",
                    station=None,
                    partner="hub",
                    starts_at_ms=1,
                    people={"a": Role.DOCTOR},
                    devices={},
                    patients=[banner.id for banner in patients],
                    status=consult.status,
                    limit=consult.limit,
                )
            store = SqlConsultStore(database)
            assert canonical_json((await store.load(consult.id)).model_dump()) == canonical_json(consult.model_dump())  # type: ignore[union-attr]
            return store

        yield make
        verdict = await audit.verify(database, {})
        await database.close()
        assert verdict.broken is None, "every commit is a whole link of the chain"
