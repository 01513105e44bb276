"""The front door as machines in a hospital use it: TLS with the certificate of `consilium ca`, whole server."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path

import aiohttp
import pytest
import socketio
from server_hub import quiet_port
from server_seed import PASSWORD, fill
from test_server_process import consilium

from server.app import open_database
from server.exits import Exit
from server.lifecycle import serving
from server.settings import Settings, load_settings
from server.tls import AuthorityFiles


@dataclass
class Front:
    """A running server and what a browser that trusts the authority has."""

    settings: Settings
    trust: ssl.SSLContext

    @property
    def origin(self) -> str:
        return f"https://localhost:{self.settings.port}"

    def http(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.origin, connector=aiohttp.TCPConnector(ssl=self.trust))

    async def token(self, http: aiohttp.ClientSession) -> str:
        headers = {"Origin": self.origin}
        body = {"login": "d1@hub", "password": PASSWORD}
        async with http.post("/api/session", json=body, headers=headers) as answer:
            assert answer.status == 200
        async with http.post("/api/consults/c1/token", json={}, headers=headers) as answer:
            return str((await answer.json())["token"])


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    code, out, err = await consilium("ca", "localhost", "127.0.0.1", "--data-dir", str(tmp_path / "data"))
    assert code == Exit.OK, err
    files = AuthorityFiles(folder=tmp_path / "data" / "tls")
    assert str(files.cert) in out
    settings = load_settings(
        {},
        data_dir=tmp_path / "data",
        port=quiet_port(),
        media_port=0,
        tls_cert_file=files.cert,
        tls_key_file=files.key,
    )
    database = await open_database(settings)
    await fill(database)
    await database.close()
    async with serving(settings):
        yield Front(settings, ssl.create_default_context(cafile=files.ca_cert))


async def test_page_cookie_and_headers(front: Front) -> None:
    """[G9] A cookie that only this host gets back, and only over TLS."""
    async with front.http() as http:
        async with http.get("/") as page:
            assert page.headers["Strict-Transport-Security"].startswith("max-age=")
            assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        body = {"login": "d1@hub", "password": PASSWORD}
        async with http.post("/api/session", json=body, headers={"Origin": front.origin}) as answer:
            assert answer.status == 200
            cookie = SimpleCookie(answer.headers["Set-Cookie"])["__Host-consilium"]
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Strict")
        assert (cookie["path"], cookie["domain"]) == ("/", "")
        async with http.get("/api/session") as me:
            assert (await me.json())["person"]["id"] == "d1"


async def test_the_socket_knows_its_own_https_origin(front: Front) -> None:
    """Trap 3 of the front door: behind TLS the engine takes its own origin for http and would answer 400."""
    async with front.http() as http:
        token = await front.token(http)
        sio = socketio.AsyncClient(serializer="msgpack", reconnection=False, http_session=http)
        await sio.connect(
            front.origin,
            auth={"token": token, "protocol": 1},
            headers={"Origin": front.origin},
            transports=["websocket"],
            wait_timeout=60,
        )
        joined = await sio.call("command", {"type": "join"}, timeout=60)
        assert joined["ok"], joined
        await sio.disconnect()


FOREIGN = {
    "foreign": {"Origin": "https://evil.example"},
    "plain http": {"Origin": "http://localhost:{port}"},
    "other port": {"Origin": "https://localhost"},
    "null": {"Origin": "null"},
    "forwarded": {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
    "rebound": {"Origin": "https://localhost:{port}", "Host": "evil.example"},
}


async def test_no_other_origin_opens_a_socket(front: Front) -> None:
    """Not even with a cookie. [SE7]"""
    answers: dict[str, int] = {}
    async with front.http() as http:
        await front.token(http)
        for name, headers in FOREIGN.items():
            sent = {key: value.format(port=front.settings.port) for key, value in headers.items()}
            try:
                await http.ws_connect("/socket.io/?EIO=4&transport=websocket", headers=sent)
            except aiohttp.WSServerHandshakeError as refused:
                answers[name] = refused.status
    assert answers == {**dict.fromkeys(FOREIGN, 403), "rebound": 421}


async def test_neither_plain_http_nor_a_machine_without_the_authority_gets_in(front: Front) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"http://127.0.0.1:{front.settings.port}/api/config")
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get(f"{front.origin}/healthz")


async def test_plain_http_for_other_machines_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """A camera, a worker and a ``__Host-`` cookie need TLS anywhere but on localhost."""
    code, _, err = await consilium("serve", "--host", "0.0.0.0", "--data-dir", str(tmp_path / "d"))
    assert code == Exit.SETTINGS
    assert err.strip() == (
        "consilium: host 0.0.0.0 is reachable from other machines and needs TLS: give tls_cert_file and "
        "tls_key_file, or run `consilium ca` to make a local certificate authority"
    )
    origin = {"CONSILIUM_PUBLIC_ORIGINS": "http://hub.lan:8440"}
    code, _, err = await consilium("serve", "--data-dir", str(tmp_path / "d"), **origin)
    assert code == Exit.SETTINGS
    assert "would be plain HTTP" in err
    assert not (tmp_path / "d").exists()
