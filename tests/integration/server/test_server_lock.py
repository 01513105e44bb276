"""The lock end to end on real sockets and files: out, in, faults of both sides, nothing lost and nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from lock_kit import Hub, Inbound, ecg, fill_hub, new_gateway_folder, result, running, start_hub, until, wall_us
from server_hub import quiet_port

from server.gateway.config import Folder
from server.gateway.core.crossing import LockRefused, RefusalCode
from server.gateway.inside import Inside
from server.gateway.link import Timing
from server.gateway.listing import crossing_rows
from server.lock.aio.pipe import Pipe
from server.lock.core.wire import PATH, Bye, Challenge, Frame, Hello, Proof, decode


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_hub(tmp_path_factory.mktemp("filled"))


@pytest.fixture
async def hub(filled: Path, tmp_path: Path) -> AsyncIterator[Hub]:
    hub = await start_hub(tmp_path, filled)
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
    ((about, size),) = await hub.rows("SELECT about, size_bytes FROM lock_file")
    assert (json.loads(about), size) == ([["SOPInstanceUID", "1.2.3.2"]], 200_000)
    assert await hub.audit_is_whole()


async def test_an_hour_without_hub_and_a_clock_that_jumps(hub: Hub, tmp_path: Path) -> None:
    """[LK9] [LK13] Everything waits in order; the pauses between dials are bounded; times order nothing."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    waited_s, jump_us = 0.0, 0

    async def sleep(seconds: float) -> None:
        nonlocal waited_s
        waited_s += seconds
        await asyncio.sleep(0)

    await hub.stop()
    timing = Timing(now_us=lambda: wall_us() + int(waited_s * 1e6) + jump_us, sleep=sleep, jitter=lambda: 0.5)
    async with running(folder, timing=timing) as one:
        outlet = one.gateway.outlet("lis")
        for number, jump in enumerate((0, -3_600_000_000, 86_400_000_000, -5, 0), 1):
            jump_us = jump
            await outlet.put(result(number))
        await one.until(lambda: waited_s > 3_600)
        assert one.gateway.link.state.code == "down"
        assert one.gateway.link.state.attempts >= 3_600 / 30, "it goes on dialling"
        assert (await one.gateway.journal.level()).waiting == 5
        await hub.start()
        await one.drained()
        await one.until(lambda: "This machine's clock differs" in one.gateway.link.state.text)
    assert [row[0] for row in await hub.crossed()] == [1, 2, 3, 4, 5]
    keys = await hub.rows("SELECT id FROM fhir_version WHERE type = 'Observation' AND id LIKE 'lab-%'")
    present = await hub.rows("SELECT id FROM fhir_resource WHERE id LIKE 'lab-%' ORDER BY id")
    assert [id_ for (id_,) in present] == [f"lab-{number}" for number in range(1, 6)]
    assert keys == [], "each was written once"


async def test_revoked_means_cut_now_and_kept_here(hub: Hub, tmp_path: Path) -> None:
    """[LK19]"""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    async with running(folder) as one:
        await one.connected()
        async with hub.admin() as admin:
            path = f"/api/gateways/{one.gateway.identity.gateway}"
            assert (await admin.send("DELETE", path))[0] == 204
            assert (await admin.send("DELETE", path))[0] == 404
        await one.until(lambda: one.gateway.link.state.code == "revoked" and one.gateway.link.state.attempts > 1)
        await one.gateway.outlet("lis").put(result(1))
        assert "撤销" in one.gateway.link.state.text
        assert (await one.gateway.journal.level()).waiting == 1
    assert await hub.crossed() == []
    assert [event["gateway"] for event in await hub.events("gateway_revoked")] == [one.gateway.identity.gateway]


async def test_a_clone_is_refused_while_the_first_answers_and_recognised_when_it_went(hub: Hub, tmp_path: Path) -> None:
    """[LK9] [LK17] Two machines with one identity and one journal: an alarm, and nothing lost or taken twice."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    async with running(folder) as one:
        await one.gateway.outlet("lis").put(result(1))
        await one.drained()
    shutil.copytree(folder.path, tmp_path / "clone")
    clone = Folder(tmp_path / "clone")
    async with running(folder) as one:
        await one.connected()
        async with running(clone) as other:
            await other.until(lambda: other.gateway.link.state.code == "already_connected")
            await other.gateway.outlet("lis").put(result(2, value=5.5))
            await one.gateway.outlet("lis").put(result(3))
            await one.drained()
            assert one.gateway.link.state.connected
    assert [event["code"] for event in await hub.events("lock_alarm")] == ["already_connected"]
    async with running(clone) as other:
        # Its number 2 is not the hub's number 2: the marks tell, and what waits is numbered anew.
        await other.drained()
    assert [row[1:3] for row in await hub.crossed()] == [("ORU^R01", "applied")] * 3
    present = await hub.rows("SELECT id FROM fhir_resource WHERE id LIKE 'lab-%' ORDER BY id")
    assert [id_ for (id_,) in present] == ["lab-1", "lab-2", "lab-3"]


async def test_a_journal_restored_from_a_backup_repeats_nothing(hub: Hub, tmp_path: Path) -> None:
    """[LK9] The hub has later numbers than the copy: numbered anew, known by their keys, the new one is applied."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    await hub.stop()
    async with running(folder) as one:
        await one.gateway.outlet("lis").put(result(1))
        await one.gateway.outlet("lis").put(result(2))
    shutil.copytree(folder.path, tmp_path / "backup")
    await hub.start()
    async with running(folder) as one:
        await one.gateway.outlet("lis").put(result(3))
        await one.drained()
    async with running(Folder(tmp_path / "backup")) as restored:
        await restored.gateway.outlet("lis").put(result(4))
        await restored.drained()
    verdicts = [row[2] for row in await hub.crossed()]
    assert verdicts == ["applied", "applied", "applied", "repeated", "repeated", "applied"]
    versions = await hub.rows("SELECT id, version FROM fhir_resource WHERE id LIKE 'lab-%' ORDER BY id")
    assert versions == [(f"lab-{number}", 1) for number in range(1, 5)]


async def test_a_disk_that_fails_under_the_line_ends_neither_program_nor_data(hub: Hub, tmp_path: Path) -> None:
    """[LK12] While the journal cannot be written sources are refused and the line waits; then everything goes on."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    async with running(folder) as one:
        await one.gateway.outlet("lis").put(result(1))
        await one.drained()
        with contextlib.closing(sqlite3.connect(folder.journal, isolation_level=None)) as db:
            db.execute("ALTER TABLE meta RENAME TO gone")
            with pytest.raises(LockRefused) as told:
                await one.gateway.outlet("lis").put(result(2))
            assert told.value.code is RefusalCode.UNAVAILABLE
            await hub.stop()
            await hub.start()
            await one.until(lambda: one.gateway.link.state.code == "journal")
            db.execute("ALTER TABLE gone RENAME TO meta")
        await one.gateway.outlet("lis").put(result(2))
        await one.drained()
    assert [row[2] for row in await hub.crossed()] == ["applied", "applied"]


async def test_a_hub_restored_from_a_backup_says_what_it_lost(hub: Hub, tmp_path: Path) -> None:
    """[LK9] [LK14] Content that is gone is a gap in the record of both sides; numbers go on, each way."""
    inlet = Inbound()
    folder = await new_gateway_folder(hub, tmp_path / "g")
    await hub.stop()
    shutil.copytree(hub.data_dir, tmp_path / "backup")
    await hub.start()
    async with running(folder, Inside(inlets=(inlet,))) as one:
        await one.connected()
        await one.gateway.outlet("lis").put(result(1))
        await hub.send(one.gateway.identity.gateway, replace(result(7), kind="MDM^T02", key="in-1"))
        await until(lambda: hub.all_settled() if inlet.taken else False)
        await one.drained()
    await hub.stop()
    shutil.rmtree(hub.data_dir)
    shutil.copytree(tmp_path / "backup", hub.data_dir)
    await hub.start()
    async with running(folder, Inside(inlets=(inlet,))) as one:
        await one.gateway.outlet("lis").put(result(2))
        await one.connected()
        await hub.send(one.gateway.identity.gateway, replace(result(8), kind="MDM^T02", key="in-2"))
        await one.drained()
        await one.until(lambda: len(inlet.taken) == 2)
        await one.drained()
    assert [crossing.key for crossing in inlet.taken] == ["in-1", "in-2"]
    verdicts = [row[2:] for row in await hub.crossed()]
    assert verdicts == [("lost", "forgotten"), ("lost", "forgotten"), ("applied", ""), ("applied", "")]
    assert len(await hub.events("lock_lost")) == 2


async def test_two_processes_of_one_hub_never_both_commit(hub: Hub, tmp_path: Path) -> None:
    """[LK8] Clones at two processes of one hub: the database fences the older connection, each time."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    second = Hub(data_dir=hub.data_dir, port=quiet_port())
    await second.start()
    shutil.copytree(folder.path, tmp_path / "clone")
    clone = Folder(tmp_path / "clone")
    clone.identity.write_text(clone.identity.read_text().replace(hub.origin, second.origin))
    async with running(folder) as one:
        await one.connected()
        async with running(clone) as other:
            await other.connected()
            await one.gateway.outlet("lis").put(result(1))
            await one.until(lambda: one.gateway.link.state.attempts > 1)
            assert one.gateway.link.state.code != "protocol"
    async with running(clone) as other:
        await other.gateway.outlet("lis").put(result(2))
        await other.drained()
    async with running(folder) as one:
        await one.drained()
    present = await hub.rows("SELECT id, version FROM fhir_resource WHERE id LIKE 'lab-%' ORDER BY id")
    assert present == [("lab-1", 1), ("lab-2", 1)]
    assert await hub.audit_is_whole()
    await second.stop()


async def test_a_recorded_connection_is_worth_nothing(hub: Hub, tmp_path: Path) -> None:
    """[LK6] [LK7] Every byte of a gateway that was let in, sent again: refused, and nothing changes."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    recorded: list[bytes] = []
    kept = Pipe.send_now

    async def recording(self: Pipe, frame: Frame) -> bytes:
        data = await kept(self, frame)
        if isinstance(frame, (Hello, Proof)):
            recorded.append(data)
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipe, "send_now", recording)
        async with running(folder) as one:
            await one.gateway.outlet("lis").put(result(1))
            await one.drained()
    before = await hub.rows("SELECT connection, received FROM gateway")
    async with aiohttp.ClientSession() as http, http.ws_connect(hub.origin + PATH) as socket:
        await socket.send_bytes(recorded[0])
        assert isinstance(decode(await socket.receive_bytes()), Challenge)
        await socket.send_bytes(recorded[1])
        assert decode(await socket.receive_bytes()) == Bye(code="refused", reason="")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    assert await hub.rows("SELECT connection, received FROM gateway") == before
    assert len(await hub.crossed()) == 1


async def test_what_the_hub_sends_is_delivered_in_order_and_its_outcome_comes_back(hub: Hub, tmp_path: Path) -> None:
    """[LK18] Through a hub restart and an inlet that is down; what nobody takes, or the policy refuses, is said."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    inlet = Inbound(failures=3)
    async with running(folder, Inside(inlets=(inlet,))) as one:
        await one.connected()
        gateway = one.gateway.identity.gateway
        sent = [replace(result(number), kind=kind, key=f"out-{number}") for number, kind in enumerate(
            ("MDM^T02", "MDM^T02", "SIU^S12", "MDM^T02"), 1)]  # fmt: skip
        for crossing in sent[:3]:
            await hub.send(gateway, crossing)
        await until(lambda: inlet.tries >= 2)
        await hub.stop()
        await hub.start()
        await hub.send(gateway, sent[3])
        await hub.send(gateway, sent[3])
        await one.until(lambda: len(inlet.taken) == 3)
        await until(lambda: hub.all_settled())
    assert inlet.taken == [sent[0], sent[1], sent[3]]
    outbox = await hub.rows("SELECT sequence, state, code, body FROM lock_outbox ORDER BY sequence")
    assert outbox == [
        (1, "delivered", "", None), (2, "delivered", "", None), (3, "refused", "no_inlet", None),
        (4, "delivered", "", None),
    ]  # fmt: skip
    assert next(row for row in crossing_rows(folder, 50) if row.get("reason"))["code"] == "no_inlet"
    assert await hub.audit_is_whole()


async def test_what_the_hub_cannot_apply_is_kept_inside_and_the_line_goes_on(hub: Hub, tmp_path: Path) -> None:
    """[LK12] [LK14] Refused by the record, and a row of the journal that is no longer what was written."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    await hub.stop()
    async with running(folder) as one:
        outlet = one.gateway.outlet("lis")
        await outlet.put(result(1, extra={"valueQuantity": {"value": "four"}}))
        await outlet.put(result(2))
        await outlet.put(result(3))
    with contextlib.closing(sqlite3.connect(folder.journal)) as db:
        db.execute("UPDATE outward SET sealed = (SELECT sealed FROM outward WHERE id = 3) WHERE id = 2")
        db.commit()
    await hub.start()
    async with running(folder) as one:
        await one.drained()
        level = await one.gateway.journal.level()
    assert [row[2:] for row in await hub.crossed()] == [("refused", "invalid"), ("lost", "corrupt"), ("applied", "")]
    assert (level.waiting, level.parked) == (0, 2), "their content stays for the hospital's operator"
    assert [event["code"] for event in await hub.events("lock_lost")] == ["corrupt"]
    assert "lab-1" not in str(await hub.rows("SELECT reason FROM lock_crossing"))
    async with hub.admin() as admin:
        _status, log = await admin.get(f"/api/gateways/{one.gateway.identity.gateway}/crossings?limit=2")
    assert [row["verdict"] for row in log["crossings"]] == ["applied", "lost"]
    assert log["crossings"][0]["hub_committed_us"] >= log["crossings"][0]["hub_received_us"] > 0
