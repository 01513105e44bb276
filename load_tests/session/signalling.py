"""One Socket.IO session over a WebSocket, in msgpack: commands out, events and signals in.

Written for hundreds in one process: python-socketio's client keeps several tasks and checks for each session that a
load generator has no use for. The wire is the same: engine.io 4 over a WebSocket (text frames for open, ping and
pong, binary frames for packets), Socket.IO packets as msgpack maps (signaling/PROTOCOL.md).

A line's delay is kept in both directions, in order; while it is cut nothing leaves or comes in, and the socket stands
until somebody finds it dead: this end by the beats that no longer come, the server by its pings.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import msgpack

from load_tests.report.ledger import Ledger
from load_tests.session.path import Path

PROTOCOL_VERSION = 1
ANSWER_S = 20.0
CONNECT_S = 15.0
SILENCE_S = 5.0
"""No beat for so long: the line is dead. [SE10]"""
MOST_WAITING = 256
_CONNECT, _DISCONNECT, _EVENT, _ACK, _CONNECT_ERROR = range(5)

OnEvent = Callable[[Mapping[str, Any]], None]


class Refused(Exception):
    """The server declined a command or the connect; ``code`` is stable."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Lost(Exception):
    """The socket is gone."""


class Signalling:
    """One socket."""

    def __init__(self, http: aiohttp.ClientSession, origin: str, path: Path, ledger: Ledger) -> None:
        self.lost = asyncio.Event()
        self.goodbye = ""
        """Why the server ended it."""
        self.came_up = False
        """The WebSocket opened: from then on the token may be used up."""
        self._http, self._origin, self._path, self._ledger = http, origin, path, ledger
        self._on_event: OnEvent = lambda _event: None
        self._on_signal: OnEvent = lambda _signal: None
        self._ws: aiohttp.ClientWebSocketResponse | None = None
        self._next_id = 0
        self._waiting: dict[int, tuple[float, asyncio.Future[Any], OnEvent | None]] = {}
        self._welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outbox: asyncio.Queue[tuple[float, bytes | str]] = asyncio.Queue(MOST_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self._last_beat_s = time.monotonic()

    async def open(self, token: str, on_event: OnEvent, on_signal: OnEvent) -> None:
        """Connect with a consult token, which is good for this one time.

        Raises:
            Refused: the server does not let us in.
            Lost, TimeoutError, aiohttp.ClientError: it cannot be reached.
        """
        self._on_event, self._on_signal = on_event, on_signal
        async with asyncio.timeout(CONNECT_S):
            await self._path.uncut()
            self._ws = await self._http.ws_connect(
                f"{self._origin}/socket.io/?EIO=4&transport=websocket",
                headers={"Origin": self._origin}, max_msg_size=1 << 22, compress=0, autoclose=True,
            )  # fmt: skip
            self.came_up = True
            self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
            hello = {"token": token, "protocol": PROTOCOL_VERSION}
            self._send(msgpack.packb({"type": _CONNECT, "nsp": "/", "data": hello}))
            await self._welcome
        self._last_beat_s = time.monotonic()
        self._tasks.append(asyncio.create_task(self._watch()))

    async def ask(self, command: Mapping[str, Any], at_once: OnEvent | None = None) -> Any:
        """Send a command; its result.

        Args:
            at_once: given the result before anything that came after it is looked at.

        Raises:
            Refused: with the server's code.
            Lost: the socket went away meanwhile.
            TimeoutError: no answer in time.
        """
        if self.lost.is_set():
            raise Lost("socket gone")
        number = self._next_id
        self._next_id += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (time.monotonic(), answer, at_once)
        self._ledger.count("commands")
        try:
            self._send(msgpack.packb({"type": _EVENT, "nsp": "/", "data": ["command", command], "id": number}))
            async with asyncio.timeout(ANSWER_S):
                ack = await answer
        except TimeoutError:
            self._ledger.miss("ack_ms")
            raise
        finally:
            self._waiting.pop(number, None)
        if ack.get("ok"):
            return ack.get("result")
        self._ledger.count("refused")
        raise Refused(str(ack.get("refusal", {}).get("code", "malformed")))

    def tell(self, command: Mapping[str, Any]) -> None:
        """Send a command whose answer nobody waits for."""
        if not self.lost.is_set():
            self._ledger.count("commands")
            self._send(msgpack.packb({"type": _EVENT, "nsp": "/", "data": ["command", command], "id": 1 << 40}))

    async def close(self) -> None:
        """Leave the socket; idempotent."""
        self._fail("closed")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._ws is not None:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with asyncio.timeout(2):
                    await self._ws.close()

    def _send(self, message: bytes | str) -> None:
        try:
            self._outbox.put_nowait((self._path.signalling_at(), message))
        except asyncio.QueueFull:
            self._fail("outbox full")

    async def _write(self) -> None:
        assert self._ws is not None
        try:
            while True:
                at_s, message = await self._outbox.get()
                await self._path.until(at_s)
                await (self._ws.send_str(message) if isinstance(message, str) else self._ws.send_bytes(message))
        except (aiohttp.ClientError, OSError) as problem:
            self._fail(type(problem).__name__)

    async def _read(self) -> None:
        assert self._ws is not None
        try:
            async for message in self._ws:
                await self._path.uncut()
                if message.type is aiohttp.WSMsgType.BINARY:
                    self._path.deliver(self._packet, msgpack.unpackb(message.data, strict_map_key=False))
                elif message.type is aiohttp.WSMsgType.TEXT and message.data == "2":  # engine.io's ping
                    self._send("3")
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            self._fail(type(problem).__name__)
        else:
            self._fail("closed by the server")

    def _packet(self, packet: Any) -> None:
        kind, data = packet.get("type"), packet.get("data")
        if kind == _ACK:
            self._acknowledged(packet.get("id"), data[0])
        elif kind == _EVENT and data[0] == "event":
            self._ledger.count("events_in")
            self._on_event(data[1])
        elif kind == _EVENT:
            self._signal(data[1])
        elif kind == _CONNECT:
            if not self._welcome.done():
                self._welcome.set_result(None)
        elif kind == _CONNECT_ERROR:
            code = str((data or {}).get("message", "refused")) if isinstance(data, dict) else "refused"
            if not self._welcome.done():
                self._welcome.set_exception(Refused(code))
        elif kind == _DISCONNECT:
            self._fail("disconnected")

    def _acknowledged(self, number: object, ack: Any) -> None:
        waiting = self._waiting.get(number) if isinstance(number, int) else None
        if waiting is None or waiting[1].done():
            return
        began_s, answer, at_once = waiting
        self._ledger.add("ack_ms", (time.monotonic() - began_s) * 1000)
        if at_once is not None and ack.get("ok"):
            at_once(ack["result"])
        answer.set_result(ack)

    def _signal(self, signal: Mapping[str, Any]) -> None:
        self._ledger.count("signals_in")
        if signal["type"] == "beat":
            self._last_beat_s = time.monotonic()
        elif signal["type"] == "goodbye":
            self.goodbye = str(signal.get("reason", ""))
            self._fail(f"goodbye {self.goodbye}")
        self._on_signal(signal)

    async def _watch(self) -> None:
        while True:
            left_s = self._last_beat_s + SILENCE_S - time.monotonic()
            if left_s <= 0:
                self._fail("no beat")
                return
            await asyncio.sleep(left_s)

    def _fail(self, reason: str) -> None:
        if not self.lost.is_set():
            self.lost.set()
        if not self._welcome.done():
            self._welcome.set_exception(Lost(reason))
            self._welcome.exception()  # nobody may be waiting any more
        for _, answer, _at_once in self._waiting.values():
            if not answer.done():
                answer.set_exception(Lost(reason))
                answer.exception()
        self._waiting.clear()
