"""What crossed lies sealed at the hub: not readable on its disk, read again after a restart, said when its keys are not
there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from lock_kit import Hub, Inbound, ecg, new_gateway_folder, result, running, start_hub, until

from server.__main__ import lock_forget_key, lock_rotate_key, lock_seal
from server.exits import Exit, StartError
from server.gateway.inside import Inside
from server.gateway.sealing import load_keys
from server.imaging.find import stored_digest
from server.lock.aio.vault import KeyAway

NAME = "Zhuge Confidential=诸葛机密"
INSTANCE = "1.2.826.0.1.3680043.7"
POLICY = """
version = 1
[[out]]
kind = "DICOM ECG"
media_types = ["application/dicom"]
about = ["instance", "patient_name", "birth_date"]
[[in]]
kind = "MDM^T02"
[fields.Patient]
allow = ["meta", "identifier", "name", "gender", "birthDate"]
[fields.Observation]
allow = ["status", "code", "category", "subject", "effectiveDateTime", "value[x]"]
"""
ABOUT = (("instance", INSTANCE), ("patient_name", NAME), ("birth_date", "1960-05-01"))


@pytest.fixture
async def hub(tmp_path: Path, filled: Path) -> AsyncIterator[Hub]:
    hub = await start_hub(tmp_path, filled)
    yield hub
    await hub.stop()


def lying_open(folder: Path, *words: bytes) -> list[str]:
    """Files below a folder that have one of the words in them."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert any(path.name == "consilium.db" for path in files)
    return [path.name for path in files if any(word in path.read_bytes() for word in words)]


def change(hub: Hub, *statements: str) -> None:
    with closing(sqlite3.connect(hub.data_dir / "consilium.db", isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


async def refused_start(hub: Hub, told: str) -> None:
    with pytest.raises(StartError, match=told) as refused:
        await hub.start()
    assert refused.value.exit_code is Exit.SETTINGS
    assert hub.services is not None
    await hub.services.database.close()


async def test_a_file_and_a_message_lie_sealed_and_nothing_is_lost_with_or_without_their_keys(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """[LK26] [LK27] (G4, C34) Files and rows that tell of a patient: through restarts, other keys, a change of keys."""
    inlet = Inbound()
    folder = await new_gateway_folder(hub, tmp_path / "g", POLICY)
    body = b"DICM" + NAME.encode() * 50
    words = (NAME.encode(), "诸葛机密".encode("unicode-escape"), b"Zhuge Confidential")
    async with running(folder) as one:
        await one.connected()
        gateway = one.gateway.identity.gateway
        await one.gateway.outlet("ecg").put(replace(ecg(1, 1), key="k1", body=body, about=ABOUT))
        await one.drained()
    message = replace(result(7, extra={"note": [{"text": NAME}]}), kind="MDM^T02", key="out-1", about=(("to", NAME),))
    await hub.send(gateway, message)
    assert [row[2] for row in await hub.crossed()] == ["applied"]
    digest = hashlib.sha256(body).hexdigest()
    keys, files = hub.data_dir / "lock-files.keys", hub.data_dir / "lock" / digest[:2]
    assert [path.name for path in files.iterdir()] == [f"{digest}.sealed"]
    assert lying_open(hub.data_dir, *words) == []
    assert (keys.stat().st_mode & 0o777, (files / f"{digest}.sealed").stat().st_mode & 0o777) == (0o600, 0o600)

    # Without its keys, or with others, the hub does not start, makes no new ones, and changes nothing.
    await hub.stop()
    before = {path: path.read_bytes() for path in files.parent.rglob("*") if path.is_file()}
    own = keys.read_bytes()
    keys.unlink()
    await refused_start(hub, r"lock-files\.keys is missing")
    assert not keys.exists()
    load_keys(keys)
    await refused_start(hub, "Bring the former keys back")
    keys.write_bytes(own)
    keys.chmod(0o640)
    with pytest.raises(StartError, match="chmod 600"):
        await hub.start()
    assert hub.services is not None
    await hub.services.database.close()
    keys.chmod(0o600)
    assert {path: path.read_bytes() for path in before} == before

    # A key is added while the hub runs, and what an earlier version left open is there too.
    await hub.start()
    assert hub.lock is not None
    vault = hub.lock.vault
    assert vault.read(digest) == body
    old = vault.newest
    assert await asyncio.to_thread(lock_rotate_key, data_dir=hub.data_dir) == Exit.OK
    assert vault.newest != old
    plain = b"as an earlier version kept it " + NAME.encode()
    named = hashlib.sha256(plain).hexdigest()
    (files.parent / named[:2]).mkdir(exist_ok=True)
    (files.parent / named[:2] / named).write_bytes(plain)
    about = json.dumps([["instance", "1.2.3"], ["patient_name", NAME]], ensure_ascii=False)
    change(
        hub,
        "INSERT INTO lock_file SELECT 'lf_old', gateway_id, stream, sequence, 'pt1', kind, media_type, "
        f"'{about}', '{named}', {len(plain)}, made_us, at_ms, '', '' FROM lock_file",
        "UPDATE lock_file SET patient_id = 'pt1'",
    )
    assert vault.read(named) == plain
    assert hub.services is not None
    async with hub.services.database.read() as session:
        assert await stored_digest(session, "pt1", "1.2.3") == named
        assert await stored_digest(session, "pt1", INSTANCE) == digest
    # What does not open is named and left, and its key stays in use.
    spoilt = vault.path("ab" * 32)
    spoilt.parent.mkdir(exist_ok=True)
    spoilt.write_bytes((files / f"{digest}.sealed").read_bytes())
    assert await asyncio.to_thread(lock_seal, data_dir=hub.data_dir) == Exit.CHECK_FAILED
    assert "abab" in capsys.readouterr().out
    assert (old,) in await hub.rows("SELECT id FROM lock_key")
    spoilt.unlink()
    assert await asyncio.to_thread(lock_seal, data_dir=hub.data_dir) == Exit.OK
    assert f"Key {old} seals nothing any more" in capsys.readouterr().out
    change(hub, "PRAGMA secure_delete = ON", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")
    assert lying_open(hub.data_dir, *words) == []
    assert {key for _digest, key in vault.kept()} == {vault.newest}
    async with hub.services.database.read() as session:
        assert await stored_digest(session, "pt1", "1.2.3") == named

    # The old key is taken out; everything opens, and the message that waited all the while arrives whole.
    await hub.stop()
    told = json.loads(keys.read_text())
    told["keys"] = [one for one in told["keys"] if one["id"] != old]
    keys.write_text(json.dumps(told))
    await hub.start()
    vault = hub.lock.vault
    assert (vault.read(digest), vault.read(named)) == (body, plain)
    async with running(folder, Inside(inlets=(inlet,))) as one:
        await until(lambda: hub.all_settled())
        # A row that was changed is said and left, and what comes after it is sent.
        await one.close()
        await hub.send(gateway, replace(message, key="out-2"))
        await hub.send(gateway, replace(message, key="out-3"))
        change(hub, "UPDATE lock_outbox SET patient = (SELECT patient FROM lock_outbox WHERE sequence = 3) "
                    "WHERE sequence = 2")  # fmt: skip
    async with running(folder, Inside(inlets=(inlet,))):
        await until(lambda: hub.all_settled())
    assert inlet.taken == [message, replace(message, key="out-3")]
    outbox = await hub.rows("SELECT sequence, state, code, patient, about, body IS NULL FROM lock_outbox")
    assert outbox[0] == (1, "delivered", "", "[]", "[]", 1)
    assert [row[:3] for row in outbox[1:]] == [(2, "refused", "damaged"), (3, "delivered", "")]
    assert outbox[1][5] == 0, "what is left of it stays"
    assert await hub.audit_is_whole()

    # Its keys lost for good, it starts again once that is said; what still waited is refused, and the line goes on.
    await hub.send(gateway, replace(message, key="out-4"))
    await hub.stop()
    keys.unlink()
    await refused_start(hub, "consilium lock forget-key")
    assert await asyncio.to_thread(lock_forget_key, "nonsense", data_dir=hub.data_dir) == Exit.SETTINGS
    assert await asyncio.to_thread(lock_forget_key, vault.newest, data_dir=hub.data_dir) == Exit.OK
    await hub.start()
    assert hub.lock.vault.newest != vault.newest
    with pytest.raises(KeyAway):
        hub.lock.vault.read(digest)
    await hub.send(gateway, replace(message, key="out-5"))
    async with running(folder, Inside(inlets=(inlet,))):
        await until(lambda: hub.all_settled())
    assert [crossing.key for crossing in inlet.taken] == ["out-1", "out-3", "out-5"]
    assert hub.lock.vault.keep(body) == digest
    assert hub.lock.vault.read(digest) == body
    assert await hub.audit_is_whole()
