"""The static client: what is in its folder, and nothing else on the disk."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from server_hub import Hub, quiet_port

from server.http import build_web
from server.settings import load_settings

OUTSIDE = [
    "/assets/../secret.txt",
    "/assets/../../secret.txt",
    "/assets/%2e%2e/%2e%2e/secret.txt",
    "/assets/..%2f..%2fsecret.txt",
    "/assets/..%5c..%5csecret.txt",
    "/assets//etc/passwd",
    "/assets/%2fetc%2fpasswd",
    "/assets/link.txt",
    "/assets/a%00.js",
    "/assets/",
    "/assets",
    "/../secret.txt",
    "/index.html",
    "/.hidden/key",
]


async def raw_get(port: int, path: str) -> tuple[int, bytes]:
    """A GET whose path no client library has tidied up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return int(answer.split(b" ", 2)[1]), answer


@pytest.mark.parametrize("path", OUTSIDE)
async def test_nothing_outside_the_client_is_served(hub: Hub, tmp_path: Path, path: str) -> None:
    root = tmp_path / "dist"
    (root / "assets").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / ".hidden" / "key").write_text("TOP SECRET")
    (tmp_path / "secret.txt").write_text("TOP SECRET")
    (root / "assets" / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "assets" / "a.js").write_text("export {};")
    (root / "index.html").write_text("<!doctype html>")
    port = quiet_port()
    settings = load_settings({}, port=port, data_dir=tmp_path / "data")
    services = replace(hub.services, settings=settings)
    server = TestServer(build_web(services, root), host="127.0.0.1", port=port)
    await server.start_server()
    try:
        status, answer = await raw_get(port, path)
        assert status in (400, 403, 404), path
        assert b"TOP SECRET" not in answer
        assert b"root:" not in answer
        assert (await raw_get(port, "/assets/a.js"))[0] == 200
    finally:
        await server.close()
