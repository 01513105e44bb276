"""``consilium gateway`` as a program: enrolled over TLS with the hub's own authority, MLLP in, what it says."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from lock_kit import POLICY, Hub, fill_hub, quiet_port, until

from server.exits import Exit, StartError
from server.gateway.commands import crossings, status
from server.gateway.config import Folder
from server.gateway.identity import Identity, enrol, load_identity, tls_context
from server.gateway.sentences import CODES, code_of, sentence
from server.tls import make_authority, server_context

NOW = datetime.datetime.now(datetime.UTC)
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("CONSILIUM_")}
MESSAGE = (
    "MSH|^~\\&|LIS|NORTH|CONSILIUM|HUB|20261122060000+0800||ORU^R01^ORU_R01|M1|P|2.5.1|||AL|NE||UNICODE UTF-8\r"
    "PID|1||0001^^^HIS^MR~C0001^^^ID^NI||王^芳||19600501|F\r"
    "OBR|1||LAB1|K^Potassium^L|||20261122055000+0800|||||||||||||||20261122060000+0800||LAB|F\r"
    "OBX|1|NM|2823-3^Potassium^LN||4.1|mmol/L|3.5-5.1||||F|||20261122055000+0800\r"
)


@pytest.fixture
async def secure_hub(tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub on https with the authority of `consilium ca`."""
    folder = tmp_path / "hub"
    await asyncio.to_thread(fill_hub, folder)
    files = make_authority(folder / "tls", ["localhost"], NOW)
    hub = Hub(data_dir=folder, port=quiet_port(), tls=server_context(files.cert, files.key))
    await hub.start()
    yield hub
    await hub.stop()


async def consilium(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", "gateway", *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=CLEAN,
    )  # fmt: skip


async def test_a_gateway_from_enrolment_to_goodbye(
    secure_hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """[LK1] [LK3] Only the hub's own authority is trusted; a message over MLLP crosses; everything is said plainly."""
    hub, folder, port = secure_hub, Folder(tmp_path / "g"), quiet_port()
    authority = hub.data_dir / "tls" / "consilium-ca.crt"
    code = await hub.code()
    with contextlib.suppress(FileExistsError):
        folder.path.mkdir()
    identity = await enrol(folder, hub=hub.origin, code=code, authority=authority)
    assert identity.authority is not None
    assert identity.authority.read_bytes() == authority.read_bytes()
    folder.policy.write_text(POLICY.replace('"urn:north:mrn"]\n[[out]]', '"urn:north:mrn"]\ntypes = []\n[[out]]', 1))
    folder.config.write_text(
        f"""
[profile]
hospital = "north"
authorities = {{ HIS = "urn:north:mrn", ID = "urn:north:id" }}
[[adapter]]
type = "mllp"
name = "lis"
host = "127.0.0.1"
port = {port}
"""
    )
    process = await consilium("run", "--data-dir", str(folder.path))
    try:
        await until(lambda: status(data_dir=folder.path) == Exit.OK)
        assert sentence("connected") in capsys.readouterr().out
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x0b" + MESSAGE.encode() + b"\x1c\r")
        answer = await asyncio.wait_for(reader.readuntil(b"\x1c\r"), 60)
        assert b"MSA|AA|M1" in answer or b"MSA|CA|M1" in answer, answer
        await until(hub.crossed)
        with pytest.raises(StartError, match="already running") as told, folder.only_one():
            raise AssertionError("two in one folder")
        assert told.value.exit_code is Exit.PORT_IN_USE
        writer.close()
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == Exit.OK, output.decode()
    assert "王" not in output.decode()
    assert "Traceback" not in output.decode()
    assert [row[1:3] for row in await hub.crossed()] == [("ORU^R01", "applied")]
    capsys.readouterr()
    assert crossings(as_json=True, data_dir=folder.path) == Exit.OK
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row["state"] == "acknowledged"
    times = [row[name] for name in ("received_us", "journaled_us", "sent_us", "acked_us")]
    assert times == sorted(times)
    assert crossings(data_dir=folder.path) == Exit.OK
    assert "in lock" in capsys.readouterr().out
    assert status(data_dir=folder.path) == Exit.CHECK_FAILED
    await another_authority(hub, identity, tmp_path)


async def another_authority(hub: Hub, identity: Identity, tmp_path: Path) -> None:
    """A hub whose certificate is of somebody else gets nothing, not even the gateway's name."""
    import aiohttp

    other = make_authority(tmp_path / "other", ["localhost"], NOW)
    server = TestServer(aiohttp.web.Application(), host="127.0.0.1")
    await server.start_server(ssl=server_context(other.cert, other.key))
    context = tls_context(identity.authority)
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorCertificateError) as told:
            await http.ws_connect(f"https://localhost:{server.port}/ws/lock", ssl=context)
    assert code_of(told.value) == "certificate"
    await server.close()


def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    """One sentence and an exit code each; no traceback."""
    import server.gateway.commands as command

    folder = Folder(tmp_path)
    assert command.run(data_dir=tmp_path) == Exit.SETTINGS
    assert command.enrol(hub="http://hub.example", code="ABCD-EFGH-JKLM", data_dir=tmp_path) == Exit.SETTINGS
    assert command.enrol(hub="https://localhost:1", code="ABCD", data_dir=tmp_path) == Exit.SETTINGS
    folder.policy.write_text("version = 2")
    assert command.check_policy(data_dir=tmp_path) == Exit.SETTINGS
    folder.policy.write_text(POLICY)
    assert command.check_policy(data_dir=tmp_path) == Exit.OK
    assert command.rotate_key(data_dir=tmp_path) == Exit.OK
    folder.identity.write_text("{}")
    folder.identity.chmod(0o600)
    with pytest.raises(Exception, match="damaged"):
        load_identity(folder)
    for code, (en, zh) in CODES.items():
        assert en, code
        assert zh, code
