"""The lock end to end on real sockets and files: out, in, faults of both sides, nothing lost and nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from lock_kit import Hub, Inbound, ecg, fill_hub, new_gateway_folder, result, running, start_hub, until, wall_us
from server_hub import quiet_port
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from server.exits import Exit
from server.gateway.commands import discard, queue, resend
from server.gateway.config import Folder
from server.gateway.core.crossing import Crossing, LockRefused, RefusalCode
from server.gateway.identity import enrol, load_identity
from server.gateway.inside import Inside
from server.gateway.link import Timing
from server.gateway.listing import crossing_line, crossing_rows, queue_lines
from server.gateway.sentences import code_of
from server.identity.core.rules import Throttle
from server.lock.aio.admission import Admission, Admitted, Proved
from server.lock.aio.inbox import PATIENCE, TRIES, Fenced, From, Inbox
from server.lock.aio.pipe import Pipe
from server.lock.core.link import Arrived
from server.lock.core.proof import next_mark
from server.lock.core.wire import GENESIS, PATH, Bye, Challenge, Cross, Frame, Hello, Proof, decode
from server.storage.lock_tables import GatewayRow


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
    ((file, key, about, size),) = await hub.rows("SELECT id, sealed_with, about, size_bytes FROM lock_file")
    assert hub.lock is not None
    about = hub.lock.vault.unseal_text(key, about, "lock_file", file, "about")
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


async def test_enrolled_again_it_loses_nothing_and_claims_no_loss(hub: Hub, tmp_path: Path) -> None:
    """[LK1] [LK9] The new gateway's hub has heard none of the old one's numbers: only what waits crosses."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    async with running(folder) as one:
        await one.gateway.outlet("lis").put(result(1))
        await one.drained()
    await hub.stop()
    async with running(folder) as one:
        await one.gateway.outlet("lis").put(result(2))
    await hub.start()
    former = load_identity(folder).gateway
    again = await enrol(folder, hub=hub.origin, code=await hub.code(), again=True)
    assert again.gateway != former
    async with running(folder) as one:
        await one.drained()
        assert (await one.gateway.outlet("lis").put(result(1, value=4.1))).repeated
    assert await hub.crossed() == [(1, "ORU^R01", "applied", ""), (1, "ORU^R01", "applied", "")]


async def test_enrolled_again_while_an_acknowledgement_was_lost_nothing_is_applied_twice(
    hub: Hub, tmp_path: Path
) -> None:
    """[LK1] [LK12] The hub has it, the machine does not know, and comes back under another name."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    await hub.stop()
    async with running(folder) as one:
        await one.gateway.outlet("lis").put(result(1))
        await one.gateway.outlet("ecg").put(ecg(1, 100))
    unheard = tmp_path / "unheard.db"
    shutil.copy(folder.journal, unheard)
    await hub.start()
    async with running(folder) as one:
        await one.drained()
    for name in (folder.journal.name, f"{folder.journal.name}-wal", f"{folder.journal.name}-shm"):
        folder.journal.with_name(name).unlink(missing_ok=True)
    shutil.copy(unheard, folder.journal)  # as if the line had broken before the acknowledgements came
    await enrol(folder, hub=hub.origin, code=await hub.code(), again=True)
    async with running(folder) as one:
        await one.gateway.outlet("lis").put(result(2))
        await one.drained()
    verdicts = [row[2] for row in await hub.crossed()]
    assert verdicts == ["applied", "applied", "repeated", "repeated", "applied"]
    assert await hub.rows("SELECT id, version FROM fhir_resource WHERE id LIKE 'lab-%' ORDER BY id") == [
        ("lab-1", 1),
        ("lab-2", 1),
    ]
    [(about,)] = await hub.rows("SELECT about FROM lock_file")
    assert "former" not in about


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 16 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    # At the end, also when this process is killed: the guard sees the end of its orders.
    guard = subprocess.Popen(
        ["sh", "-c", 'cat; umount -l "$0"', place], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "none", place], check=True, capture_output=True
        )
        yield place
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs to mount a file system, so root")
    finally:
        guard.communicate(timeout=60)
        assert not place.is_mount()


async def test_a_full_disk_is_said_and_empties_itself_when_the_hub_is_back(hub: Hub, small_disk: Path) -> None:
    """[LK11] [LK12] By the journal, then by others: what waits crosses once, and its room serves again."""
    folder = await new_gateway_folder(hub, small_disk, config="[journal]\nkeep_free_bytes = 1000000\n")
    async with running(folder) as one:
        outlet, numbers = one.gateway.outlet("ecg"), itertools.count(1)
        await hub.stop()

        async def fill() -> None:
            for number in numbers:
                await outlet.put(ecg(number, 100_000))

        with pytest.raises(LockRefused) as told:
            await fill()
        assert (told.value.code, told.value.reason) == (RefusalCode.FULL, "the disk is full")
        await hub.start()
        await one.drained()

        # Room that the journal has given back inside its file is nobody else's.
        with contextlib.suppress(OSError), (small_disk / "others").open("wb", buffering=0) as others:
            while others.write(bytes(4_096)):
                pass
        await outlet.put(ecg(next(numbers), 100_000))
        await one.drained()
        await hub.stop()
        with pytest.raises(LockRefused) as told:
            await fill()
        assert told.value.code is RefusalCode.FULL
        await hub.start()
        await one.drained()
        last = await outlet.put(ecg(next(numbers), 100_000))
        await one.drained()
    assert [row[:3:2] for row in await hub.crossed()] == [
        (sequence, "applied") for sequence in range(1, last.sequence + 1)
    ]


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


async def test_strangers_keep_no_gateway_out(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[LK7] A machine that opens connections and says nothing, and one that says nonsense, each from its address."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    async with contextlib.AsyncExitStack() as open_:
        silent = await open_.enter_async_context(aiohttp.ClientSession(connector=_from("127.0.0.2")))
        sockets = [await open_.enter_async_context(silent.ws_connect(hub.origin + PATH)) for _ in range(17)]
        assert decode(await sockets[-1].receive_bytes()) == Bye(code="busy", reason="")
        async with running(folder) as one:
            await one.connected()
        monkeypatch.setattr("server.api.gateways.HANDSHAKE", Throttle(name="lock_handshake", attempts=2, window_s=60))
        babbler = await open_.enter_async_context(aiohttp.ClientSession(connector=_from("127.0.0.3")))
        for _ in range(2):
            async with babbler.ws_connect(hub.origin + PATH) as socket:
                await socket.send_bytes(b"\xc1")
                assert decode(await socket.receive_bytes()) == Bye(code="protocol", reason="not msgpack")
        with pytest.raises(aiohttp.WSServerHandshakeError) as told:
            await babbler.ws_connect(hub.origin + PATH)
        assert (told.value.status, code_of(told.value)) == (429, "busy")
        async with running(folder) as one:
            await one.connected()


def _from(address: str) -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(local_addr=(address, 0))


async def test_revoked_while_it_is_let_in(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[LK19] Between the commit that lets it in and its first task: cut at once, not when somebody looks next."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    admit, said, kept = Admission.admit, list[str](), Pipe.leave

    async def revoking(self: Admission, proved: Proved) -> Admitted:
        admitted = await admit(self, proved)
        async with hub.admin() as admin:
            assert (await admin.send("DELETE", f"/api/gateways/{proved.hello.gateway}"))[0] == 204
        return admitted

    async def leaving(self: Pipe, code: str = "", reason: str = "") -> None:
        said.append(code)
        await kept(self, code, reason)

    monkeypatch.setattr(Admission, "admit", revoking)
    monkeypatch.setattr(Pipe, "leave", leaving)
    async with running(folder) as one:
        await one.until(lambda: "revoked" in said)
    assert said[0] == "revoked"


async def test_what_the_database_breaks_at_again_and_again_is_set_aside(hub: Hub, tmp_path: Path) -> None:
    """[LK12] One crossing that it never takes must not stop the line; what comes before it happens once."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    assert hub.services is not None
    gateway, database = load_identity(folder).gateway, hub.services.database
    before: list[str] = []

    async def ending(crossing: Crossing, _origin: From) -> None:
        before.append(crossing.key)

    async def apply(_session: object, crossing: Crossing, _origin: From, _at_ms: int) -> None:
        if crossing.key == "bad":
            raise OperationalError("too many SQL variables", {}, Exception())

    async with database.write() as session:
        await session.execute(update(GatewayRow).values(stream="s", connection=3))
    inbox, mark = Inbox(database, apply, wall_us, ending), GENESIS
    told = []
    for sequence, key in enumerate(("good", "good", "bad"), 1):
        digest = hashlib.sha256(b"x").digest()
        mark = next_mark(mark, sequence, "lis", key, digest)
        frame = Cross(
            sequence=sequence, source="lis", kind="ORU^R01", key=key, patient=(), about=(), media_type="text/plain",
            made_us=0, received_us=0, journaled_us=0, sent_us=0, size=1, digest=digest, mark=mark, body=b"x",
        )  # fmt: skip
        origin = From(
            gateway=gateway, hospital="north", stream="s", connection=3, sequence=sequence, source="lis"
        )  # fmt: skip
        arrived = Arrived(frame=frame, body=b"x", received_us=0)
        for _try in range(TRIES * PATIENCE + 1):
            try:
                told.append((await inbox.commit(origin, arrived))[:2])
                break
            except OperationalError:
                pass
        if key == "good":
            with pytest.raises(Fenced):
                await inbox.commit(replace(origin, connection=2), arrived)
    assert told == [("applied", ""), ("repeated", ""), ("refused", "internal")]
    assert before.count("good") == 1, "not for a repeat, and not for a connection that is fenced off"


async def test_an_operator_sends_again_and_the_hub_has_it_on_record(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """[LK23] `consilium gateway queue|resend|discard` beside the running gateway."""
    folder = await new_gateway_folder(hub, tmp_path / "g")
    unreadable = {"valueQuantity": {"value": "four"}}
    async with running(folder) as one:
        for number in (1, 2):
            await one.gateway.outlet("lis").put(result(number, extra=unreadable))
        await one.drained()
        queued = await asyncio.to_thread(queue_lines, folder)
        ids = [int(line.split()[0]) for line in queued[:2]]
        assert queued[-1].startswith("0 wait for the hub (0 bytes), 2 refused and kept")
        by_hand = ((resend, ids[0], Exit.OK), (discard, ids[1], Exit.OK), (discard, ids[1], Exit.CHECK_FAILED))
        for command, crossing, expected in by_hand:
            told = await asyncio.to_thread(command, crossing, reason="mended", data_dir=folder.path)
            assert told == expected
        assert await asyncio.to_thread(queue, data_dir=folder.path) == Exit.OK
        one.gateway.journal.put_event.set()  # it would look by itself within some seconds
        await until(lambda: hub.rows("SELECT 1 FROM lock_crossing WHERE sequence = 5"))
        await one.drained()
    assert [row[1:] for row in await hub.crossed()] == [
        ("ORU^R01", "refused", "invalid"), ("ORU^R01", "refused", "invalid"), ("ORU^R01", "refused", "invalid"),
        ("LOCK operator", "applied", ""), ("LOCK operator", "applied", ""),
    ]  # fmt: skip
    events = await hub.events("lock_operator")
    assert [(event["action"], event["sequence"], event["reason"]) for event in events] == [
        ("resend", 1, "mended"), ("discard", 2, "mended"),
    ]  # fmt: skip
    by_hand_log = [crossing_line(row) for row in crossing_rows(folder, 50) if row["direction"] == "operator"]
    assert len(by_hand_log) == 2
    assert f"discard of {ids[1]}, mended, by " in "".join(by_hand_log)
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
