"""The demo's simulated partner hospital: results arrive through a real gateway, and its record can be asked."""

from __future__ import annotations

import asyncio
import itertools
from datetime import date
from pathlib import Path

import pytest
from lock_kit import Hub, quiet_port, until
from server_hub import Browser
from server_seed import QUICK

from server.app import check_schema, prepare_data_dir
from server.bedside.client import Assignment
from server.clock import server_clock
from server.demo import hospital, hospital_systems, patients
from server.demo.hospital_place import needs_code
from server.demo.hospital_systems import Laboratory
from server.demo.seed import PARTNER, PASSWORD, seed
from server.identity.aio.passwords import Passwords
from server.lock.aio.gateways import KIND
from server.settings import load_settings
from server.storage.database import Database
from signaling.core.ids import ConsultId


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laboratory that does not rest, passwords that cost little, and of each record its beginning."""

    def beginning(name: str, day: date) -> list[patients.Resource]:
        return list(itertools.islice(patients._Record(name, day).all(), 40))

    monkeypatch.setattr(patients, "bundle", beginning)
    hospital_systems.earlier.cache_clear()
    monkeypatch.setattr("server.demo.seed.Passwords", lambda: Passwords(QUICK))
    monkeypatch.setattr(hospital_systems, "ADT_EVERY", 3)
    monkeypatch.setattr(hospital, "Laboratory", _Hasty)


class _Hasty(Laboratory):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments, every_s=0.1)  # type: ignore[arg-type]


@pytest.mark.usefixtures("quick")
async def test_results_arrive_in_the_patients_record_and_her_hospital_can_be_asked(tmp_path: Path) -> None:
    """Issue 5 items 5 and 6 as a person sees them: gateway, policy and adapters are those of a hospital. [W9]"""
    hub = Hub(data_dir=tmp_path / "data", port=quiet_port())
    prepare_data_dir(hub.data_dir)
    database = Database(load_settings({}, data_dir=hub.data_dir).database)
    await check_schema(database)
    seeded = await seed(database, server_clock())
    await database.close()
    await hub.start()
    assert hub.lock is not None
    assert needs_code(tmp_path / "gateway", hub.origin)
    made = await hub.lock.codes.make(None, kind=KIND, hospital=PARTNER, name="Sample gateway")
    assignment = Assignment(
        origin=hub.origin, consult=seeded.consult, secret=made.code, media_dir=str(tmp_path / "gateway")
    )
    working = asyncio.create_task(hospital.work(assignment))
    results = (
        "SELECT count(*) FROM fhir_resource WHERE type = 'Observation' AND patient_id = 'demo-shen' "
        f"AND json LIKE '%HTEST%' AND id NOT LIKE 'demo-%' AND owner = '{PARTNER}'"
    )

    async def arrived() -> bool:
        if working.done():
            working.result()
        ((count,),) = await hub.rows(results)
        crossed = {(row[1], row[2]) for row in await hub.crossed()}
        return int(count) >= 3 and {("ORU^R01", "applied"), ("ADT^A08", "applied")} <= crossed

    await until(arrived)
    assert {row[2] for row in await hub.crossed()} == {"applied"}
    assert not needs_code(tmp_path / "gateway", hub.origin), "the next start of the demo finds it enrolled"
    await _ask(hub, str(seeded.consult))
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await hub.stop()


async def _ask(hub: Hub, consult: str) -> None:
    """What the hub does not have: a year older, by code, in the open patient's consult."""
    assert hub.services is not None
    found = await hub.services.store.load(ConsultId(consult))
    assert found is not None
    assert found.context is not None
    browser = Browser(hub.origin)
    assert (await browser.post("/api/session", {"login": "chen", "password": PASSWORD}))[0] == 200
    path, shown = f"/api/consults/{consult}/lock/Observation", f"version={found.context.version}"
    status, bundle = await browser.get(f"{path}?{shown}&category=laboratory&_count=20")
    assert status == 200, bundle
    ids = [entry["resource"]["id"] for entry in bundle["entry"]]
    assert ids
    assert all(id_.startswith("h-demo-shen-") for id_ in ids)
    status, one = await browser.get(
        f"/api/consults/{consult}/lock/Observation/{ids[0]}?version={found.context.version}"
    )
    assert (status, one["id"]) == (200, ids[0])
    strangers = [one for one in hospital_systems.older_record() if one["id"].startswith("h-demo-yan")]
    wrong = next(one["id"] for one in strangers if one["resourceType"] == "Observation")
    status, _answer = await browser.get(
        f"/api/consults/{consult}/lock/Observation/{wrong}?version={found.context.version}"
    )
    assert status == 404, "another patient of the same hospital"
    assert found.context.patient.id == patients.ECG_PATIENT
    await browser.http.close()
