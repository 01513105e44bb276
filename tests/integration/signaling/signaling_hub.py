"""One signalling node on a real port, a stock python-socketio client, and a bare WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgpack
import socketio

from signaling.aio.gateway import SignalingGateway
from signaling.aio.memory import MemoryStore
from signaling.aio.service import ConsultService
from signaling.core.admission import Admission
from signaling.core.model import Consult
from tests.signaling_kit import MemoryMedia, consult, until

ORIGIN = "https://hub.example"


@dataclass
class Hub:
    """One node. Tokens are one-use and made by `token`."""

    gateway: SignalingGateway
    service: ConsultService
    store: MemoryStore
    media: MemoryMedia
    port: int
    origins: set[str]
    tokens: dict[str, Admission] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def token(self, admitted: Admission) -> str:
        name = f"token-{len(self.tokens)}-{admitted.participant}"
        self.tokens[name] = admitted
        return name

    async def state(self) -> Consult:
        state = await self.store.load(consult().id)
        assert state is not None
        return state


class Client:
    """A participant on python-socketio's own client with its stock msgpack packets: a client nobody here wrote."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.sio = socketio.AsyncClient(serializer="msgpack", reconnection=False)
        self.events: list[dict[str, Any]] = []
        self.signals: list[dict[str, Any]] = []
        self.refused: list[Any] = []
        self.disconnected = asyncio.Event()
        self.sio.on("event", self.events.append)
        self.sio.on("signal", self.signals.append)
        self.sio.on("connect_error", self.refused.append)
        self.sio.on("disconnect", lambda *_: self.disconnected.set())

    async def connect(self, auth: dict[str, Any]) -> None:
        await self.sio.connect(self.hub.url, auth=auth, transports=["websocket"], wait_timeout=60)

    async def command(self, **command: Any) -> dict[str, Any]:
        ack = await self.sio.call("command", command, timeout=60)
        assert isinstance(ack, dict)
        return ack

    async def ok(self, **command: Any) -> dict[str, Any]:
        ack = await self.command(**command)
        assert ack["ok"], ack
        return dict(ack["result"])

    async def refusal(self, **command: Any) -> str:
        ack = await self.command(**command)
        assert not ack["ok"], ack
        return str(ack["refusal"]["code"])

    def goodbyes(self) -> list[str]:
        return [s["reason"] for s in self.signals if s["type"] == "goodbye"]

    async def heard(self, event_type: str) -> dict[str, Any]:
        await until(lambda: any(e["type"] == event_type for e in self.events))
        return next(e for e in self.events if e["type"] == event_type)


class Raw:
    """A bare WebSocket that speaks engine.io and Socket.IO by hand, and may misbehave."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.packets: list[dict[str, Any]] = []
        self.closed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.ws:
            if message.type == aiohttp.WSMsgType.TEXT and message.data == "2":
                with contextlib.suppress(ConnectionError):  # the other end has gone meanwhile
                    await self.ws.send_str("3")
            elif message.type == aiohttp.WSMsgType.BINARY:
                self.packets.append(msgpack.unpackb(message.data))
        self.closed.set()

    async def packet(self, kind: int, data: Any = None, ack_id: int | None = None, nsp: str = "/") -> None:
        packet: dict[str, Any] = {"type": kind, "nsp": nsp, "data": data}
        if ack_id is not None:
            packet["id"] = ack_id
        await self.ws.send_bytes(msgpack.packb(packet))

    async def answer(self, kind: int) -> dict[str, Any]:
        await until(lambda: any(p["type"] == kind for p in self.packets))
        return next(p for p in self.packets if p["type"] == kind)

    async def ack(self, ack_id: int) -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            return [p for p in self.packets if p["type"] == 3 and p["id"] == ack_id]

        await until(found)
        return dict(found()[0]["data"][0])

    async def close(self) -> None:
        await self.ws.close()
        await self._reader


MakeHub = Callable[..., Awaitable[Hub]]
MakeClient = Callable[..., Awaitable[Client]]
MakeRaw = Callable[..., Awaitable[Raw]]
