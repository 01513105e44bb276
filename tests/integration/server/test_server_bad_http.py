"""Bytes that are not HTTP, or bodies that break off: answered or cut, counted, and no traceback each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from server_hub import Hub

from server.log import BadHttp

HEAD = "POST /api/session HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Type: application/json\r\n"
BROKEN = {
    "tls": "\x16\x03\x01\x02\x00garbage\r\n\r\n",
    "version": "GET / HTTP/9.9\r\n\r\n",
    "url": "GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    "path": "GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "huge header": "GET / HTTP/1.1\r\nX: " + "a" * 20_000 + "\r\n\r\n",
    "two lengths": HEAD + "Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\nzz",
    "chunk": HEAD + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "not gzip": HEAD + "Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
}


@pytest.fixture
def quiet() -> Iterator[None]:
    """As `configure_log` sets it up."""
    logger, bad_http = logging.getLogger("aiohttp.server"), BadHttp()
    logger.addFilter(bad_http)
    yield
    logger.removeFilter(bad_http)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("request_", BROKEN.values(), ids=BROKEN.keys())
async def test_what_is_not_http_costs_no_traceback(
    hub: Hub, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], request_: str
) -> None:
    host = hub.origin.removeprefix("http://")
    for _ in range(3):
        reader, writer = await asyncio.open_connection(*host.split(":"))
        writer.write(request_.format(host=host).encode("latin-1"))
        status = await asyncio.wait_for(reader.readline(), 60)
        assert status.split(b" ")[1] == b"400", status
        writer.close()
    assert (await hub.browser().get("/api/config"))[0] == 200
    assert "Traceback" not in caplog.text + "".join(capsys.readouterr())


@pytest.mark.usefixtures("quiet")
async def test_a_body_that_breaks_off_costs_no_traceback(
    hub: Hub, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    host = hub.origin.removeprefix("http://")
    for _ in range(5):
        _, writer = await asyncio.open_connection(*host.split(":"))
        writer.write(HEAD.format(host=host).encode() + b"Content-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await hub.browser().get("/api/config"))[0] == 200
    assert "Traceback" not in caplog.text + "".join(capsys.readouterr())
