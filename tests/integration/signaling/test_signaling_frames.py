"""What a hostile or broken client can send: a bare WebSocket against the real server."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import aiohttp
import msgpack
import pytest
from signaling_hub import ORIGIN, Hub, MakeClient, MakeHub, MakeRaw

from signaling.aio.gateway import GatewaySettings
from signaling.aio.session import SessionLimits
from signaling.core.frames import MAX_FRAME_BYTES
from signaling.core.ids import ParticipantId
from tests.signaling_kit import admission, until


def nested(levels: int) -> bytes:
    """A command whose one value is that many lists in each other."""
    value: Any = None
    for _ in range(levels):
        value = [value]
    return bytes(msgpack.packb({"type": 2, "nsp": "/", "data": ["command", {"type": "join", "x": value}], "id": 1}))


MALFORMED: dict[str, bytes | str] = {
    "garbage": b"\xc1\xc1\xc1",
    "empty": b"",
    "truncated": msgpack.packb({"type": 2, "nsp": "/", "data": ["command", {"type": "join"}]})[:-3],
    "not a map": msgpack.packb([1, 2]),
    "no type": msgpack.packb({"nsp": "/", "data": []}),
    "type out of range": msgpack.packb({"type": 99, "nsp": "/", "data": []}),
    "ack": msgpack.packb({"type": 3, "nsp": "/", "data": [], "id": 1}),
    "connect_error": msgpack.packb({"type": 4, "nsp": "/", "data": {}}),
    "binary event": msgpack.packb({"type": 5, "nsp": "/", "data": []}),
    "other namespace": msgpack.packb({"type": 2, "nsp": "/admin", "data": ["command", {}], "id": 1}),
    "unknown field": msgpack.packb({"type": 2, "nsp": "/", "data": ["command", {}], "id": 1, "attachments": 3}),
    "extension type": msgpack.packb({"type": 2, "nsp": "/", "data": ["command", {"t": msgpack.ExtType(0, b"")}]}),
    "nested": nested(12),
    "nested beyond the parser": b"\x81\xa4data" + b"\x91" * 5_000 + b"\xc0",
    "event without id": msgpack.packb({"type": 2, "nsp": "/", "data": ["command", {"type": "join"}]}),
    "unknown event": msgpack.packb({"type": 2, "nsp": "/", "data": ["message", {}], "id": 1}),
    "reserved connect": msgpack.packb({"type": 2, "nsp": "/", "data": ["connect", {}, {"token": "x"}], "id": 1}),
    "reserved disconnect": msgpack.packb({"type": 2, "nsp": "/", "data": ["disconnect", "i lied"], "id": 1}),
    "huge array": msgpack.packb({"type": 2, "nsp": "/", "data": ["command", {"a": [0] * 5_000}], "id": 1}),
    "text message": "4hello",
    "text json": '42["command",{"type":"join"}]',
    "text nested": "4" + "[" * 20_000,
    "text unknown type": "9",
    "text letter": "x",
    "text base64": "b!!!!",
    "text ping": "2",
    "text upgrade": "5",
}


@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_frame_costs_one_count_and_no_log(
    hub: Hub, make_raw: MakeRaw, caplog: pytest.LogCaptureFixture, frame: bytes | str
) -> None:
    """[WF1] [WF3] The session goes on and still works; nothing is logged."""
    raw = await make_raw(hub)
    with caplog.at_level(logging.WARNING):
        await (raw.ws.send_str(frame) if isinstance(frame, str) else raw.ws.send_bytes(frame))
        await raw.packet(2, ["command", {"type": "join"}], ack_id=1)
        assert (await raw.ack(1))["ok"]
    assert hub.gateway.counters["malformed_frames"] == 1
    assert caplog.records == []


@pytest.mark.parametrize("frame", [b"\xc1", "9"], ids=["binary", "text"])
async def test_flood_of_malformed_frames_ends_the_session(
    hub: Hub, make_raw: MakeRaw, caplog: pytest.LogCaptureFixture, frame: bytes | str
) -> None:
    """[WF3] Five, then goodbye and close; the rest of the flood is not even counted; the log stays quiet."""
    raw = await make_raw(hub)
    with caplog.at_level(logging.WARNING):
        for _ in range(1_000):
            try:
                await (raw.ws.send_str(frame) if isinstance(frame, str) else raw.ws.send_bytes(frame))
            except (ConnectionError, aiohttp.ClientError):
                break
        await raw.closed.wait()
    goodbyes = [p["data"][1] for p in raw.packets if p["type"] == 2 and p["data"][0] == "signal"]
    assert {"type": "goodbye", "reason": "malformed"} in goodbyes
    assert hub.gateway.counters["malformed_frames"] <= 6
    assert caplog.records == []


async def test_flood_before_any_token_is_cut(hub: Hub, make_raw: MakeRaw, caplog: pytest.LogCaptureFixture) -> None:
    """[WF3] [SE7] A stranger gets five frames, too."""
    raw = await make_raw(hub, None)
    with caplog.at_level(logging.WARNING):
        for _ in range(6):
            await raw.ws.send_bytes(b"\xc1")
        await raw.closed.wait()
    assert caplog.records == []
    await until(lambda: hub.gateway.sessions == 0)


async def test_reserved_events_run_nothing(hub: Hub, make_raw: MakeRaw) -> None:
    """[WF2] A client cannot call connect with another's token, nor disconnect while it stays."""
    raw = await make_raw(hub, "raw")
    stolen = hub.token(admission("victim"))
    await raw.packet(2, ["connect", {"REMOTE_ADDR": "1.2.3.4"}, {"token": stolen, "protocol": 1}], ack_id=1)
    await raw.packet(2, ["disconnect", "i lied"], ack_id=2)
    await raw.packet(2, ["command", {"type": "join"}], ack_id=3)
    ack = await raw.ack(3)
    assert ack["result"]["you"] == "raw"
    assert stolen in hub.tokens
    assert list((await hub.state()).participants) == ["raw"]


async def test_the_answer_to_join_comes_before_any_event(hub: Hub, make_raw: MakeRaw) -> None:
    """[CO2] The newcomer hears of itself after its snapshot, which already contains it."""
    raw = await make_raw(hub)
    await raw.packet(2, ["command", {"type": "join"}], ack_id=1)
    await raw.packet(2, ["command", {"type": "take_lead"}], ack_id=2)
    await raw.ack(2)
    packets = [packet for packet in raw.packets if packet["type"] in (2, 3)]
    kinds = [(p["type"], p["data"][1]["type"] if p["type"] == 2 else p["id"]) for p in packets]
    told = [kind for kind in kinds if kind != (2, "beat")]
    assert told[:2] == [(3, 1), (2, "participant_joined")]
    assert set(told[2:]) == {(2, "lead_changed"), (3, 2)}
    assert (await raw.ack(1))["result"]["snapshot"]["participants"].keys() == {"raw"}


async def test_second_connect_is_malformed(hub: Hub, make_raw: MakeRaw) -> None:
    """[SE7] One connect per socket: a session never changes whose it is."""
    raw = await make_raw(hub, "raw")
    other = hub.token(admission("other"))
    await raw.packet(0, {"token": other, "protocol": 1})
    await raw.packet(2, ["command", {"type": "join"}], ack_id=1)
    assert (await raw.ack(1))["result"]["you"] == "raw"
    assert other in hub.tokens
    assert hub.gateway.counters["malformed_frames"] == 1


async def test_event_before_connect_is_malformed(hub: Hub, make_raw: MakeRaw) -> None:
    """[SE7]"""
    raw = await make_raw(hub, None)
    await raw.packet(2, ["command", {"type": "join"}], ack_id=1)
    await until(lambda: hub.gateway.counters["malformed_frames"] == 1)
    assert (await hub.state()).participants == {}


async def test_oversize_frame_closes_the_socket_quietly(
    hub: Hub, make_raw: MakeRaw, caplog: pytest.LogCaptureFixture
) -> None:
    """[WF5]"""
    raw = await make_raw(hub)
    with caplog.at_level(logging.WARNING):
        await raw.ws.send_bytes(b"\0" * (MAX_FRAME_BYTES + 1))
        await raw.closed.wait()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("auth", "code"),
    [
        ({"token": "forged", "protocol": 1}, "token_invalid"),
        ({"token": "", "protocol": 1}, "token_invalid"),
        ({"protocol": 1}, "token_invalid"),
        (None, "token_invalid"),
        ({"token": "t" * 5_000, "protocol": 1}, "token_invalid"),
        ({"token": "t", "protocol": 1, "role": "doctor"}, "token_invalid"),
        ({"token": "t", "protocol": 2}, "protocol_version"),
    ],
)
async def test_connect_without_a_good_token_is_refused_and_closed(
    hub: Hub, make_raw: MakeRaw, auth: Any, code: str
) -> None:
    """[SE7] A refusal with code and both languages, then the socket is closed."""
    raw = await make_raw(hub, None)
    await raw.packet(0, auth)
    refusal = (await raw.answer(4))["data"]["data"]
    assert refusal["code"] == code
    assert refusal["en"]
    assert refusal["zh"]
    await raw.closed.wait()
    assert hub.gateway.sessions == 0


async def test_token_is_good_once(hub: Hub, make_raw: MakeRaw) -> None:
    """[SE7]"""
    token = hub.token(admission("a"))
    first, second = await make_raw(hub, None), await make_raw(hub, None)
    await first.packet(0, {"token": token, "protocol": 1})
    await first.answer(0)
    await second.packet(0, {"token": token, "protocol": 1})
    assert (await second.answer(4))["data"]["data"]["code"] == "token_invalid"


async def test_silent_stranger_is_closed(make_hub: MakeHub, make_raw: MakeRaw) -> None:
    """[SE7] A socket that never shows a token does not stay."""
    hub = await make_hub(gateway=GatewaySettings(handshake_s=0.05))
    raw = await make_raw(hub, None)
    await raw.closed.wait()


async def test_only_our_origins_may_connect(hub: Hub, make_raw: MakeRaw) -> None:
    """[SE7] Behind TLS the page's origin is https, whatever engine.io makes of the scheme; Host headers do not help."""
    good = await make_raw(hub, "good", headers={"Origin": ORIGIN})
    await good.packet(2, ["command", {"type": "join"}], ack_id=1)
    assert (await good.ack(1))["ok"]
    forged = {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    for headers in (forged, {"Origin": f"http://127.0.0.1:{hub.port}"}, {"Origin": "null"}):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await make_raw(hub, None, headers=headers)
        assert refused.value.status == 400


async def test_there_is_no_long_polling(hub: Hub) -> None:
    """[SE7] Only the WebSocket transport is served."""
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{hub.url}/socket.io/?EIO=4&transport=polling") as answer:
            assert answer.status == 400
        async with http.post(f"{hub.url}/socket.io/?EIO=4&transport=polling&sid=x", data=b"4hi") as answer:
            assert answer.status == 405


@pytest.mark.parametrize(
    "command",
    [
        {},
        {"type": "nonsense"},
        {"type": "take_lead", "extra": 1},
        {"type": "sync", "since": -1},
        {"type": "scroll", "context_version": 1, "view": {"page": "labs"}, "y": float("nan")},
        {"type": "scroll", "context_version": 2**32, "view": {"page": "labs"}, "y": 0.5},
        {"type": "open_context", "patient": {"id": "p1"}},
        {"type": "turn_page", "context_version": 1, "view": {"page": "nowhere"}},
    ],
)
async def test_well_formed_frame_with_a_bad_command_is_refused(
    hub: Hub, make_client: MakeClient, command: dict[str, Any]
) -> None:
    """[SE2] Refused as malformed, the session goes on, nothing happens."""
    a = await make_client(hub, "a")
    before = await hub.state()
    assert await a.refusal(**command) == "malformed"
    assert await hub.state() == before
    assert hub.gateway.counters["malformed_frames"] == 0


async def test_a_bug_in_a_command_is_answered(
    hub: Hub, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """[SE2] No acknowledgement is left hanging; one log line with the traceback."""
    a = await make_client(hub, "a")
    hub.media.failing = ZeroDivisionError()  # type: ignore[assignment] # what a bug looks like
    assert await a.refusal(type="create_transport", direction="send") == "internal"
    assert [r.exc_info is not None for r in caplog.records if r.levelno >= logging.ERROR] == [True]
    hub.media.failing = None
    await a.ok(type="create_transport", direction="send")


async def test_command_flood_is_refused_not_queued(make_hub: MakeHub, make_raw: MakeRaw) -> None:
    """[SE11] Beyond the burst every command is answered too_busy; in order, and the session lives on."""
    hub = await make_hub(gateway=GatewaySettings(session=SessionLimits(commands_hz=0.001, commands_burst=10)))
    raw = await make_raw(hub)
    for number in range(40):
        await raw.packet(2, ["command", {"type": "sync", "since": 0}], ack_id=number)
    await until(lambda: sum(p["type"] == 3 for p in raw.packets) == 40)
    codes = [p["data"][0]["refusal"]["code"] for p in raw.packets if p["type"] == 3]
    assert codes.count("not_joined") >= 10
    assert codes.count("too_busy") >= 20
    assert hub.gateway.counters["too_busy"] == codes.count("too_busy")


async def test_reader_that_stops_is_closed_and_loses_nothing(make_hub: MakeHub, make_client: MakeClient) -> None:
    """[SE6] Full outbox: the slow one is sent away; others do not wait; coming back brings the whole present."""
    hub = await make_hub(gateway=GatewaySettings(goodbye_s=0.2, session=SessionLimits(outbox=64, commands_hz=5_000)))
    lead = await make_client(hub, "lead")
    await lead.ok(type="take_lead")
    await lead.ok(type="open_context", patient="p1")

    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port, limit=1024)
    await _handshake_and_join(hub, reader, writer)
    await lead.heard("participant_joined")
    await until(
        lambda: any(e["type"] == "participant_joined" and e["participant"]["id"] == "slow" for e in lead.events)
    )
    _shrink_buffers(hub, "slow")
    item = "x" * 64
    turned = 0
    while hub.gateway.counters["goodbye_too_slow"] == 0:
        await lead.ok(type="turn_page", context_version=1, view={"page": "labs", "item": f"{turned:05}{item[:50]}"})
        turned += 1
        assert turned < 60_000
    await until(lambda: hub.gateway.sessions == 1)
    await until(
        lambda: any(
            event["type"] == "connection_changed" and event["connection"] == "reconnecting" for event in lead.events
        )
    )
    state = await hub.state()
    assert state.participants[ParticipantId("slow")].connection.value == "reconnecting"
    writer.close()

    back = await make_client(hub, "slow", join=False)
    joined = await back.ok(type="join")
    assert joined["snapshot"]["view"]["item"].startswith(f"{turned - 1:05}")


def _shrink_buffers(hub: Hub, name: str) -> None:
    """Let the kernel hold little for this connection, so that megabytes are not needed to fill it."""
    for connection in hub.gateway._connections.values():
        if connection.session is not None and connection.session.admission.participant == name:
            transport = connection.request.transport
            assert transport is not None
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            transport.set_write_buffer_limits(high=1024)


async def _handshake_and_join(hub: Hub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Join on a plain TCP socket that then never reads again."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    writer.write(
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    auth = {"token": hub.token(admission("slow")), "protocol": 1}
    for packet in (
        {"type": 0, "nsp": "/", "data": auth},
        {"type": 2, "nsp": "/", "data": ["command", {"type": "join"}], "id": 1},
    ):
        writer.write(_masked(msgpack.packb(packet)))
    await writer.drain()


def _masked(payload: bytes) -> bytes:
    """A client's binary WebSocket frame with an all-zero mask (RFC 6455 section 5.2)."""
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return b"\x82" + length + b"\0\0\0\0" + payload
