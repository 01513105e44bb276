"""Sockets that have shown no token yet: few, short-lived, and none left behind. [SE7] [SE13]"""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from signaling_hub import MakeClient, MakeHub, MakeRaw

from signaling.aio.gateway import GatewaySettings
from tests.signaling_kit import until


async def test_strangers_are_few_and_keep_nobody_out_for_long(
    make_hub: MakeHub, make_raw: MakeRaw, make_client: MakeClient
) -> None:
    """[SE13] One too many is answered 503 before it costs a socket; a stranger that leaves makes room."""
    hub = await make_hub(gateway=GatewaySettings(strangers=3, strangers_per_address=3, handshake_s=600))
    strangers = [await make_raw(hub, None) for _ in range(3)]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await make_raw(hub, None)
    assert refused.value.status == 503
    assert hub.gateway.counters["too_many_strangers"] == 1

    await strangers[0].close()
    await until(lambda: hub.gateway.strangers == 2)
    await make_client(hub, "a")
    assert hub.gateway.strangers == 2, "who has shown a token is no stranger"


async def test_one_address_cannot_take_all_places(make_hub: MakeHub, make_raw: MakeRaw) -> None:
    """[SE13] Every address of 127.0.0.0/8 is this machine's own, so the second person comes from another one."""
    hub = await make_hub(gateway=GatewaySettings(strangers=5, strangers_per_address=2, handshake_s=600))
    for _ in range(2):
        await make_raw(hub, None)
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await make_raw(hub, None)
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=connector) as elsewhere:
        url = f"{hub.url}/socket.io/?EIO=4&transport=websocket"
        async with elsewhere.ws_connect(url) as welcome:
            assert (await welcome.receive(timeout=60)).type is aiohttp.WSMsgType.TEXT


@pytest.mark.parametrize(
    "headers",
    [b"", b"Sec-WebSocket-Version: 13\r\n", b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"],
    ids=["no version", "no key", "bad key"],
)
async def test_a_handshake_that_fails_leaves_nothing_behind(
    make_hub: MakeHub, headers: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """[SE7]"""
    hub = await make_hub(gateway=GatewaySettings(handshake_s=0.2, ping_interval_s=0.2, ping_timeout_s=0.2))
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
        writer.write(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + headers + b"\r\n"
        )
        assert (await asyncio.wait_for(reader.readline(), 60)).startswith(b"HTTP/1.1 400")
        writer.close()
    await until(lambda: hub.gateway.strangers == 0 and not hub.gateway._sio.eio.sockets)
    assert "Traceback" not in caplog.text


async def test_a_participant_keeps_few_sockets_open(make_hub: MakeHub, make_client: MakeClient) -> None:
    """[SE13] Tokens are free to members: whoever connects again and again and never joins replaces the oldest."""
    hub = await make_hub(gateway=GatewaySettings(sockets_per_participant=2))
    first = await make_client(hub, "a")
    idle = [await make_client(hub, "a", join=False) for _ in range(3)]
    await until(lambda: hub.gateway.sessions == 2)
    await until(lambda: [one.goodbyes() for one in (first, *idle)] == [["replaced"], ["replaced"], [], []])
