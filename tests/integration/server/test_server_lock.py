"""The lock end to end on real sockets and files: out, in, faults of both sides, nothing lost and nothing twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lock_kit import Hub, ecg, new_gateway_folder, result, running, start_hub


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = await start_hub(tmp_path)
    yield hub
    await hub.stop()


async def test_a_result_crosses_once_and_field_by_field(hub: Hub, tmp_path: Path) -> None:
    """[LK10] [LK12] What the policy does not name stays inside; a repeat is told the same and crosses once."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    async with running(folder) as one:
        outlet = one.gateway.outlet("lis")
        secret = {"note": [{"text": "private"}], "performer": [{"display": "Dr. Wu"}]}
        first = await outlet.put(result(1, extra=secret))
        again = await outlet.put(result(1, extra=secret))
        await outlet.put(ecg(2, 200_000))
        await one.drained()
    assert not first.repeated
    assert again.repeated
    assert again.sequence == first.sequence
    assert await hub.crossed() == [(1, "ORU^R01", "applied", ""), (2, "DICOM ECG", "applied", "")]
    rows = await hub.rows("SELECT type, id, json FROM fhir_resource WHERE owner = 'north' ORDER BY type")
    stored = {kind: json.loads(text) for kind, _id, text in rows}
    assert set(stored) == {"Patient", "Observation"}
    assert "telecom" not in stored["Patient"]
    assert "note" not in stored["Observation"]
    assert "Dr. Wu" not in json.dumps(stored["Observation"])
    assert stored["Observation"]["performer"][0]["display"]
    (about, size), = await hub.rows("SELECT about, size_bytes FROM lock_file")
    assert (json.loads(about), size) == ([["SOPInstanceUID", "1.2.3.2"]], 200_000)
    assert await hub.audit_is_whole()
