"""The server as a program: start, refusal to start, stop, TLS, audit from the command line."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from server_hub import quiet_port
from server_seed import fill
from sqlalchemy import func, select

from server.app import ANCHORS, open_database
from server.exits import Exit, StartError
from server.identity.aio.tokens import token_key
from server.lifecycle import free_port, listen, serving
from server.record.aio.store import versions_of
from server.record.core.resource import ResourceInvalid
from server.settings import Settings, load_settings
from server.storage import audit
from server.storage.audit import AnchorFile
from server.storage.database import Database
from server.storage.fhir_tables import FhirResource
from server.storage.models import EventRow
from server.storage.seeding import put_fhir_resource
from server.tls import AuthorityFiles, CertificateWatch, TlsError, make_authority, renew_if_due, server_context
from server.trust import build_trust_app

NOW = datetime.datetime.now(datetime.UTC)
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("CONSILIUM_")}


async def consilium(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run the command to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**CLEAN, **environment},
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


# ------------------------------------------------------ refusal to start


async def test_a_port_in_use_is_one_sentence_and_its_own_code(tmp_path: Path) -> None:
    with contextlib.closing(listen("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = await consilium("serve", "--port", str(port), "--data-dir", str(tmp_path / "d"))
        assert free_port("127.0.0.1", port) != port
    assert code == Exit.PORT_IN_USE
    assert err.strip() == (
        f"consilium: Port {port} on 127.0.0.1 is in use by another program. "
        "Stop it, or choose another with --port or CONSILIUM_PORT."
    )
    assert not (tmp_path / "d").exists(), "nothing was made for a server that cannot run"


async def test_a_media_port_in_use_is_named(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        arguments = ["serve", "--port", str(quiet_port()), "--data-dir", str(tmp_path)]
        code, _, err = await consilium(*arguments, CONSILIUM_MEDIA_PORT=str(port), CONSILIUM_LOG_JSON="true")
    assert code == Exit.PORT_IN_USE
    assert f"consilium: The media port, UDP {port} on 127.0.0.1, cannot be used: Address already in use." in err
    assert "Traceback" not in err


async def test_a_data_folder_that_cannot_be_written_is_one_sentence_and_its_own_code(tmp_path: Path) -> None:
    """Tests may run as root, whom permissions do not stop: a file in the way does."""
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "data"
    code, _, err = await consilium("serve", "--port", str(quiet_port()), "--data-dir", str(folder))
    assert code == Exit.DATA_DIR
    assert err.startswith(f"consilium: The data folder {folder} cannot be written: Not a directory. Choose another")
    assert "Traceback" not in err


async def test_a_read_only_data_folder_is_refused(tmp_path: Path) -> None:
    """On a file system mounted read-only, which stops root too."""
    folder = tmp_path / "ro"
    folder.mkdir()
    mount = f"mount -t tmpfs -o ro none {folder} && exec {sys.executable} -m server serve --port {quiet_port()}"
    process = await asyncio.create_subprocess_exec(
        "unshare", "--mount", "sh", "-c", f"{mount} --data-dir {folder}",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=CLEAN,
    )  # fmt: skip
    _, err = await asyncio.wait_for(process.communicate(), 60)
    if b"unshare" in err or b"mount:" in err:
        pytest.skip(f"no mount namespaces here: {err.decode().strip()}")
    assert process.returncode == Exit.DATA_DIR
    assert "cannot be written: Read-only file system" in err.decode()


@pytest.mark.parametrize(
    ("arguments", "environment", "code"),
    [
        (["serve", "--host", "0.0.0.0"], {}, Exit.SETTINGS),
        (["serve"], {"CONSILIUM_PROT": "1"}, Exit.SETTINGS),
        (["serve"], {"CONSILIUM_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, Exit.DATABASE),
        (["serve"], {"CONSILIUM_TLS_CERT_FILE": "/none.crt", "CONSILIUM_TLS_KEY_FILE": "/none.key"}, Exit.TLS),
        (["serve", "--host", "203.0.113.1"], {}, Exit.SETTINGS),
        (["audit", "verify"], {}, Exit.DATABASE),
    ],
)
async def test_what_stands_in_the_way_is_told_without_a_traceback(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], code: Exit
) -> None:
    port = {"CONSILIUM_PORT": str(quiet_port())}
    found, out, err = await consilium(*arguments, "--data-dir", str(tmp_path / "d"), **port, **environment)
    assert found == code, err
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("consilium: ")
    assert "Traceback" not in out + err


def test_the_signing_key_is_private_and_stays(tmp_path: Path) -> None:
    key = token_key(tmp_path)
    assert token_key(tmp_path) == key
    assert len(key) == 32
    assert stat.S_IMODE((tmp_path / "token.key").stat().st_mode) == 0o600
    (tmp_path / "token.key").write_bytes(b"short")
    with pytest.raises(ValueError, match="32-byte"):
        token_key(tmp_path)


# -------------------------------------------------------------- audit


@pytest.fixture
async def filled(tmp_path: Path) -> AsyncIterator[tuple[Settings, Database]]:
    settings = load_settings({}, data_dir=tmp_path / "data", port=quiet_port(), media_port=0)
    database = await open_database(settings)
    await fill(database)
    yield settings, database
    await database.close()


async def verify(settings: Settings) -> tuple[int, str]:
    code, out, err = await consilium("audit", "verify", "--data-dir", str(settings.data_dir))
    assert not err
    return code, out


async def test_audit_verify_finds_a_changed_row_and_names_it(filled: tuple[Settings, Database]) -> None:
    """[G5] Someone with the database file in hand, past the triggers."""
    settings, database = filled
    code, out = await verify(settings)
    assert (code, "rows whole" in out) == (Exit.OK, True)
    assert database.file is not None
    with contextlib.closing(sqlite3.connect(database.file)) as intruder:
        intruder.execute("DROP TRIGGER event_no_update")
        intruder.execute("UPDATE event SET actor = 'person:d2' WHERE seq = 3")
        intruder.commit()

    code, out = await verify(settings)

    assert code == Exit.AUDIT_BROKEN
    assert out.startswith("BROKEN at row 3: the content of the row is not what was written.")


async def test_audit_verify_finds_a_cut_off_end_by_its_anchor(filled: tuple[Settings, Database]) -> None:
    settings, database = filled
    seq, digest = await audit.head(database)
    AnchorFile(settings.data_dir / ANCHORS).write(seq, digest, 1)
    assert database.file is not None
    with contextlib.closing(sqlite3.connect(database.file)) as intruder:
        intruder.execute("DROP TRIGGER event_no_delete")
        intruder.execute("DELETE FROM event WHERE seq > ?", (seq - 2,))
        (kept,) = intruder.execute("SELECT hash FROM event WHERE seq = ?", (seq - 2,)).fetchone()
        intruder.execute("UPDATE chain_head SET seq = ?, hash = ?", (seq - 2, kept))
        intruder.commit()

    code, out = await verify(settings)

    assert code == Exit.AUDIT_BROKEN
    assert out.startswith(f"BROKEN at row {seq - 1}: the end of the chain was cut off here.")


async def test_a_row_added_by_hand_is_found(filled: tuple[Settings, Database]) -> None:
    settings, database = filled
    seq, _ = await audit.head(database)
    assert database.file is not None
    with contextlib.closing(sqlite3.connect(database.file)) as intruder:
        intruder.execute(
            "INSERT INTO event (seq, kind, at_ms, actor, body, prev_hash, hash) "
            "VALUES (?, 'login', 1, 'x', '{}', ?, ?)",
            (seq + 1, bytes(32), bytes(32)),
        )
        intruder.commit()
    code, out = await verify(settings)
    assert code == Exit.AUDIT_BROKEN
    assert out.startswith(f"BROKEN at row {seq + 1}")


def test_a_torn_line_in_the_anchor_file_is_skipped(tmp_path: Path) -> None:
    anchors = AnchorFile(tmp_path / "anchors")
    assert anchors.write(7, b"\x01" * 32, 1)
    assert not anchors.write(7, b"\x01" * 32, 2), "an unchanged head is not written again"
    with anchors.path.open("a") as file:
        file.write('{"seq": 8, "ha')
    assert anchors.read() == {7: b"\x01" * 32}


async def test_a_resource_that_does_not_parse_stores_nothing(filled: tuple[Settings, Database]) -> None:
    _, database = filled

    async def counts() -> tuple[int | None, int | None]:
        async with database.read() as session:
            return (
                await session.scalar(select(func.count()).select_from(FhirResource)),
                await session.scalar(select(func.count()).select_from(EventRow)),
            )

    before = await counts()
    broken = {"resourceType": "Observation", "id": "k0", "status": "final", "subject": {"reference": "Patient/pt1"}}
    with pytest.raises(ResourceInvalid):
        async with database.write() as session:
            await put_fhir_resource(session, broken, at_ms=5)
    assert await counts() == before


async def test_a_changed_resource_keeps_its_former_version(filled: tuple[Settings, Database]) -> None:
    """[C23]"""
    _, database = filled
    changed = {
        "resourceType": "Observation",
        "id": "k0",
        "status": "amended",
        "code": {"text": "K"},
        "subject": {"reference": "Patient/pt1"},
    }
    async with database.write() as session:
        await put_fhir_resource(session, changed, at_ms=9)
    async with database.read() as session:
        versions = await versions_of(session, "Observation", "k0")
        last = (await session.scalars(select(EventRow).order_by(EventRow.seq.desc()).limit(1))).one()
    assert [(one.version, "amended" in one.json) for one in versions] == [(2, True), (1, False)]
    assert (last.kind, last.at_ms) == ("record_written", 9)


# ---------------------------------------------------------------- TLS


def authority(folder: Path, *hosts: str, now: datetime.datetime = NOW) -> AuthorityFiles:
    return make_authority(folder, hosts or ("hub.lan", "127.0.0.1", "localhost"), now)


async def handshake(context: ssl.SSLContext, trusted: Path | None, name: str) -> str:
    """Connect as a browser would; the serial number of the certificate shown."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    client = ssl.create_default_context(cafile=trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", server.sockets[0].getsockname()[1], ssl=client, server_hostname=name
        )
        serial = str(writer.get_extra_info("peercert")["serialNumber"])
        writer.close()
        with contextlib.suppress(ssl.SSLError, OSError):
            await writer.wait_closed()
        return serial
    finally:
        server.close()


async def test_the_local_authoritys_certificate_is_accepted_where_it_is_trusted(tmp_path: Path) -> None:
    files = authority(tmp_path)
    context = server_context(files.cert, files.key)
    for name in ("hub.lan", "127.0.0.1"):
        assert await handshake(context, files.ca_cert, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(context, None, "hub.lan")
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(context, files.ca_cert, "other.lan")
    for private in (files.ca_key, files.key):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600


@pytest.mark.parametrize("host", ["192.168.1.20", "127.0.0.1", "::1"])
async def test_a_certificate_for_an_address_alone_is_accepted(tmp_path: Path, host: str) -> None:
    """Without a DNS name, OpenSSL measures the common name against the authority's constraints: it must be none."""
    files = authority(tmp_path, host)
    assert await handshake(server_context(files.cert, files.key), files.ca_cert, host)


@pytest.mark.parametrize("host", ["bank.example.com", "8.8.8.8", "lan.example.com", "notlan"])
def test_the_authority_vouches_for_local_names_only(tmp_path: Path, host: str) -> None:
    authority(tmp_path, "hub.lan")
    with pytest.raises(TlsError, match="outside the names"):
        authority(tmp_path, host)
    authority(tmp_path, "other.local", "192.168.7.7", "ward.hub.lan")


@pytest.mark.parametrize("hosts", [[], ["医院.lan"]])
def test_hosts_must_be_names_or_addresses(tmp_path: Path, hosts: list[str]) -> None:
    with pytest.raises(TlsError):
        make_authority(tmp_path, hosts, NOW)


async def test_a_renewed_certificate_is_taken_over_by_a_running_server(tmp_path: Path) -> None:
    files = authority(tmp_path)
    context = server_context(files.cert, files.key)
    watch = CertificateWatch(context, files.cert, files.key)
    first = await handshake(context, files.ca_cert, "hub.lan")
    assert not watch.check()

    authority(tmp_path)
    assert watch.check()
    second = await handshake(context, files.ca_cert, "hub.lan")
    assert second != first

    files.cert.write_text("not a certificate")
    assert not watch.check()
    assert await handshake(context, files.ca_cert, "hub.lan") == second, "a broken file leaves the old one in use"


def test_the_certificate_is_renewed_in_its_last_third(tmp_path: Path) -> None:
    files = authority(tmp_path, now=NOW)
    before = files.cert.read_bytes()
    assert not renew_if_due(tmp_path, NOW + datetime.timedelta(days=200))
    assert files.cert.read_bytes() == before
    assert renew_if_due(tmp_path, NOW + datetime.timedelta(days=300))
    assert files.cert.read_bytes() != before


async def test_the_trust_page_gives_the_certificate_and_nothing_else(tmp_path: Path) -> None:
    from aiohttp.test_utils import TestClient, TestServer

    files = authority(tmp_path)
    async with TestClient(TestServer(build_trust_app(files.ca_cert, "https://hub.lan:8440"))) as client:
        page = await (await client.get("/trust")).text()
        assert "https://hub.lan:8440" in page
        crt = await client.get("/trust/consilium-ca.crt")
        assert crt.content_type == "application/x-x509-ca-cert"
        assert ssl.DER_cert_to_PEM_cert(await crt.read()).split() == files.ca_cert.read_text().split()
        assert (await client.get("/trust/consilium-ca.mobileconfig")).status == 200
        assert (await client.get("/api/session", allow_redirects=False)).headers["Location"] == "/trust"


# --------------------------------------------------------- whole server


async def test_the_whole_server_starts_is_ready_and_stops(filled: tuple[Settings, Database]) -> None:
    """With its real media worker; the token of a device opens a real socket handshake."""
    settings, database = filled
    settings = settings.model_copy(update={"metrics_port": quiet_port()})
    async with serving(settings) as app, aiohttp.ClientSession(settings.main_origin) as http:
        async with http.get("/readyz") as ready:
            assert ready.status == 200
        metrics = f"http://127.0.0.1:{settings.metrics_port}/metrics"
        async with http.get(metrics) as answer:
            shown = await answer.text()
            for name in ("event_loop_lag_seconds", "gc_pause_seconds", "outbox_fullest", "database_writes_waiting"):
                assert f"consilium_{name}" in shown
        async with http.get("/socket.io/?EIO=4&transport=polling", headers={"Origin": "http://evil"}) as answer:
            assert answer.status == 403
        assert app is not None
    with contextlib.closing(socket.socket()) as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", settings.port))
    anchors = AnchorFile(settings.data_dir / ANCHORS).read()
    seq, digest = await audit.head(database)
    assert anchors[seq] == digest, "the chain is anchored at every stop"


async def test_a_second_server_on_the_same_port_is_refused_and_the_first_goes_on(
    filled: tuple[Settings, Database],
) -> None:
    settings, _ = filled
    async with serving(settings), aiohttp.ClientSession(settings.main_origin) as http:
        with pytest.raises(StartError) as caught:
            async with serving(settings):
                pass
        assert caught.value.exit_code is Exit.PORT_IN_USE
        async with http.get("/readyz") as ready:
            assert ready.status == 200


async def test_sigterm_stops_the_server_with_code_0(tmp_path: Path) -> None:
    port = quiet_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", "serve", "--port", str(port), "--data-dir", str(tmp_path),
        stderr=subprocess.PIPE, env={**CLEAN, "CONSILIUM_MEDIA_PORT": "0", "CONSILIUM_LOG_JSON": "true"},
    )  # fmt: skip
    assert process.stderr is not None
    async with asyncio.timeout(60):
        async for line in process.stderr:
            if b'"ready"' in line:
                break
        else:
            pytest.fail("the server ended before it was ready")
        process.terminate()
        rest = await process.stderr.read()
        assert await process.wait() == Exit.OK, rest
    assert b"Traceback" not in rest
