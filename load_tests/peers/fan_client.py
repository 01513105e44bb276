"""A Socket.IO session cheap enough to hear what a room of hundreds is told without being what limits it.

One TCP connection each, on asyncio's own protocol: every WebSocket frame is cut and every msgpack packet decoded in the
call that the kernel's bytes arrive in, without a task or a queue of its own. The wire is the one of
`load_tests.session.signalling` (engine.io 4 over WebSocket, packets as msgpack maps), so a server cannot tell them
apart; it takes any server that speaks it. What it hears it hands to `heard`, with the moment of arrival.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgpack

ANSWER_S: Final = 60.0
MOST_BYTES: Final = 1 << 22
_CONNECT, _DISCONNECT, _EVENT, _ACK, _CONNECT_ERROR = range(5)
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10

Heard = Callable[[Mapping[str, Any], float], None]
"""Told the payload of each event and when it came, on the monotonic clock."""


class FanLost(Exception):
    """The connection is gone or was refused; the text says why."""


class FanClient(asyncio.Protocol):
    """One connection."""

    def __init__(self, heard: Heard) -> None:
        self.lost = ""
        """Why it ended; empty while it stands."""
        self._heard = heard
        self._transport: asyncio.Transport
        self._buffer = b""
        self._upgraded = False
        self._auth: Mapping[str, Any] = {}
        self._next_id = 0
        loop = asyncio.get_running_loop()
        self._welcome: asyncio.Future[None] = loop.create_future()
        self._answers: dict[int, asyncio.Future[Any]] = {}

    @classmethod
    async def open(cls, url: str, auth: Mapping[str, Any], heard: Heard) -> FanClient:
        """Connect and show who we are.

        Raises:
            FanLost: refused, or the connection broke.
            OSError, TimeoutError: nobody is there.
        """
        place = urlsplit(url)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(ANSWER_S):
            _, client = await loop.create_connection(lambda: cls(heard), place.hostname or "", place.port or 80)
            client._auth = auth
            key = base64.b64encode(os.urandom(16)).decode()
            client._transport.write(
                f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {place.netloc}\r\nOrigin: {url}\r\n"
                f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
            )
            await client._welcome
        return client

    async def ask(self, command: Mapping[str, Any]) -> Any:
        """Send a command; its result.

        Raises:
            FanLost: refused, or the connection broke, now or before.
            TimeoutError: no answer.
        """
        if self.lost:
            raise FanLost(self.lost)
        number = self._next_id
        self._next_id += 1
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(_BINARY, msgpack.packb({"type": _EVENT, "nsp": "/", "data": ["command", command], "id": number}))
            async with asyncio.timeout(ANSWER_S):
                told = await answer
        finally:
            self._answers.pop(number, None)
        if not told["ok"]:
            raise FanLost(f"{command['type']} was refused: {told['refusal']['code']}")
        return told["result"]

    def close(self) -> None:
        """Leave; idempotent."""
        self._fail("closed")
        self._transport.close()

    # ------------------------------------------------------------- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """It broke, or ended."""
        self._fail(str(exc or "closed by the server"))

    def data_received(self, data: bytes) -> None:
        """Bytes of any number of frames."""
        now_s = time.monotonic()
        buffer = self._buffer + data if self._buffer else data
        at = 0
        if not self._upgraded:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = buffer
                return
            if b" 101 " not in buffer[:16]:
                self._fail(buffer.split(b"\r\n", 1)[0].decode(errors="replace"))
                return
            self._upgraded, at = True, end + 4
        length = len(buffer)
        while length - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size >= 126:
                extra = 2 if size == 126 else 8
                if length - start < extra:
                    break
                size = int.from_bytes(buffer[start : start + extra], "big")
                start += extra
                if size > MOST_BYTES:
                    self._fail("a frame of more bytes than are taken")
                    self._transport.abort()
                    return
            if length - start < size:
                break
            self._frame(buffer[at], buffer[start : start + size], now_s)
            at = start + size
        self._buffer = buffer[at:]

    # ------------------------------------------------------------- frames

    def _frame(self, first: int, payload: bytes, now_s: float) -> None:
        kind = first & 0x0F
        if not first & 0x80 or first & 0x70:
            self._fail("a frame in parts, or with an extension that was not agreed on")
        elif kind == _BINARY:
            self._packet(msgpack.unpackb(payload, strict_map_key=False), now_s)
        elif kind == _TEXT:
            self._engine(payload)
        elif kind == _PING:
            self._send(_PONG, payload)
        elif kind == _CLOSE:
            self._fail("closed by the server")

    def _engine(self, text: bytes) -> None:
        if text == b"2":
            self._send(_TEXT, b"3")
        elif text[:1] == b"0":
            json.loads(text[1:])
            self._send(_BINARY, msgpack.packb({"type": _CONNECT, "nsp": "/", "data": self._auth}))
        elif text[:1] == b"1":
            self._fail("closed by the server")

    def _packet(self, packet: Any, now_s: float) -> None:
        kind, data = packet["type"], packet.get("data")
        if kind == _EVENT:
            if data[0] == "event":
                self._heard(data[1], now_s)
        elif kind == _ACK:
            answer = self._answers.get(packet["id"])
            if answer is not None and not answer.done():
                answer.set_result(data[0])
        elif kind == _CONNECT:
            if not self._welcome.done():
                self._welcome.set_result(None)
        elif kind in (_CONNECT_ERROR, _DISCONNECT):
            self._fail(f"refused: {(data or {}).get('message', '') if isinstance(data, dict) else data}")

    def _send(self, kind: int, payload: bytes) -> None:
        """One frame, masked as a client's must be (RFC 6455 section 5.3)."""
        mask, size = os.urandom(4), len(payload)
        head = bytes((0x80 | kind, 0x80 | size)) if size < 126 else bytes((0x80 | kind, 0xFE)) + size.to_bytes(2, "big")
        pad = mask * (size // 4 + 1)
        masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad[:size], "big")
        self._transport.write(head + mask + masked.to_bytes(size, "big"))

    def _fail(self, reason: str) -> None:
        self.lost = self.lost or reason
        for answer in (self._welcome, *self._answers.values()):
            if not answer.done():
                answer.set_exception(FanLost(reason))
                answer.exception()  # nobody may be waiting any more
