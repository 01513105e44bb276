"""The administrator's view of the lock: state and figures of gateways, the log by kind, outcome, direction and time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lock_kit import POLICY, fill_hub, new_gateway_folder, running, start_hub
from server_seed import PASSWORD, QUICK
from sqlalchemy import insert

from server.gateway.inside import Inside
from server.identity.aio.passwords import Passwords
from server.lock.aio import log
from server.storage.lock_tables import LockCrossing, LockOutbox, LockQuestion
from server.storage.seeding import add_hospital, add_person

BEGIN_US = 1_700_000_000_000_000


def crossing(gateway: str, number: int, kind: str, verdict: str = "applied", **more: Any) -> dict[str, Any]:
    at_us = BEGIN_US + number * 1_000_000
    return {
        "gateway_id": gateway, "stream": "s", "sequence": number, "last": number, "source": "mllp", "kind": kind,
        "key_hash": f"{number:064x}", "size_bytes": 10 * number, "verdict": verdict, "code": "", "reason": "a path",
        # The gateway's clock is an hour ahead: only what one machine measured is subtracted.
        "made_us": at_us, "gateway_received_us": at_us + 3_600_000_000, "gateway_journaled_us": at_us,
        "gateway_sent_us": at_us + 3_600_000_000 + 2_000, "hub_received_us": at_us,
        "hub_committed_us": at_us + number * 1_000, **more,
    }  # fmt: skip


@pytest.fixture
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_hub(tmp_path_factory.mktemp("filled"))


async def test_administrators_watch_the_lock(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[G5] [G8] The log is searched by kind, outcome, direction, time; each sees her own hospital's gateways only."""
    hub = await start_hub(tmp_path, filled)
    assert hub.services is not None
    database = hub.services.database
    try:
        folder = await new_gateway_folder(hub, tmp_path / "g", POLICY)
        async with running(folder, Inside()) as one, hub.admin() as admin:
            await one.connected()
            gateway = one.gateway.identity.gateway
            base = f"/api/lock/gateways/{gateway}"
            status, empty = await admin.get("/api/lock/overview")
            assert status == 200, empty
            (shown,) = empty["gateways"]
            assert (shown["id"], shown["hospital_name"], shown["connected"]) == (gateway, "北方县医院", True)
            assert (shown["last"], shown["crossing_p50_us"], shown["software"] != "") == (None, None, True)
            assert {one["id"] for one in empty["hospitals"]} == {"hub", "north"}
            assert (await admin.get(f"{base}/crossings"))[1] == {"rows": [], "next_before": None}

            async with database.write() as session:
                rows = [crossing(gateway, number, "ORU^R01" if number % 2 else "ADT^A08") for number in range(1, 8)]
                rows.append(crossing(gateway, 8, "ORU^R01", "refused", code="wrong_patient"))
                await session.execute(insert(LockCrossing), rows)
                question = {
                    "gateway_id": gateway, "consult_id": "c1", "actor": "person:d1", "type": "Observation", "at_ms": 5,
                    "code": "", "count": 2, "size_bytes": 30, "took_us": 4_000,
                }  # fmt: skip
                await session.execute(insert(LockQuestion), [question, {**question, "code": "not_allowed"}])
                message = {
                    "gateway_id": gateway, "sequence": 1, "source": "hub", "kind": "MDM^T02", "key": "k", "body": None,
                    "media_type": "text/plain", "patient": '[["urn:mrn", "0001"]]', "about": "[]", "size_bytes": 3,
                    "mark": b"\0" * 32, "made_us": 1, "queued_us": 5_000_000, "sent_us": 5_007_000, "state": "refused",
                    "code": "not_allowed",
                }  # fmt: skip
                await session.execute(insert(LockOutbox), [message])

            async def numbers(query: str) -> list[int]:
                status, found = await admin.get(f"{base}/crossings?{query}")
                assert status == 200, found
                return [row["sequence"] for row in found["rows"]]

            assert await numbers("") == [8, 7, 6, 5, 4, 3, 2, 1]
            assert await numbers("kind=ADT%5EA08") == [6, 4, 2]
            assert await numbers("outcome=not_ok") == [8]
            assert await numbers("outcome=ok&kind=ORU%5ER01") == [7, 5, 3, 1]
            from_ms = BEGIN_US // 1_000 + 3_000
            assert await numbers(f"from_ms={from_ms}&to_ms={from_ms + 2_000}") == [4, 3]
            _status, into = await admin.get(f"{base}/crossings?direction=in&outcome=not_ok")
            assert [(row["kind"], row["state"], row["took_us"]) for row in into["rows"]] == [
                ("MDM^T02", "refused", 7_000)
            ]
            assert "0001" not in {str(value) for row in into["rows"] for value in row.values()}
            _status, asked = await admin.get(f"{base}/questions?outcome=ok")
            assert [(row["actor"], row["count"]) for row in asked["rows"]] == [("person:d1", 2)]
            for wrong in ("direction=up", "outcome=fine", "from_ms=-1", "from_ms=99999999999999999", "kind=%00"):
                assert (await admin.get(f"{base}/crossings?{wrong}"))[0] == 400, wrong

            # A rare kind in a long log: a bounded stretch for each page, nothing left out, nothing twice.
            monkeypatch.setattr(log, "STRETCH", 3)
            found, before, pages = [], "", 0
            while True:
                _status, page = await admin.get(f"{base}/crossings?kind=ADT%5EA08{before}")
                found += [row["sequence"] for row in page["rows"]]
                pages += 1
                if page["next_before"] is None:
                    break
                before = f"&before={page['next_before']}"
            assert (found, pages) == ([6, 4, 2], 3)
            monkeypatch.setattr(log, "PAGE", 2)
            assert len(await numbers("")) == 2

            (busy,) = (await admin.get("/api/lock/overview"))[1]["gateways"]
            # 1..8 ms at the hub and 2 ms at the gateway each, whatever its clock says.
            assert (busy["crossing_p50_us"], busy["crossing_p99_us"], busy["read_p50_us"]) == (6_000, 10_000, 4_000)
            assert (busy["last"]["kind"], busy["last"]["state"]) == ("ORU^R01", "refused")

            # Who is no administrator, or another hospital's, sees nothing of it.
            doctor = await hub.doctor()
            for path in ("/api/lock/overview", f"{base}/crossings", f"{base}/questions"):
                assert (await doctor.get(path))[0] == 403
            async with database.write() as session:
                await add_hospital(session, id="south", name="南方县医院")
                for hospital in ("north", "south"):
                    await add_person(session, Passwords(QUICK), id=f"a-{hospital}", hospital=hospital, name="管",
                                     role="admin", login=f"a@{hospital}", password=PASSWORD)  # fmt: skip
            async with hub.admin("a@north") as theirs, hub.admin("a@south") as others:
                _status, own = await theirs.get("/api/lock/overview")
                assert [one["id"] for one in own["hospitals"]] == ["north"]
                assert [one["id"] for one in own["gateways"]] == [gateway]
                assert (await others.get("/api/lock/overview"))[1]["gateways"] == []
                assert (await others.get(f"{base}/crossings"))[0] == 404
    finally:
        await hub.stop()
