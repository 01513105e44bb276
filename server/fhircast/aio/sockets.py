"""One subscriber's WebSocket: a bounded queue out, answers in, and one heartbeat driver for all of them.

A socket never makes anybody wait: what it has not taken is bounded, and a full one is closed. Pings come from the
service's one driver, not from a timer per socket.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import WSCloseCode, WSMsgType, web

from server.fhircast.core.hub import Subscription
from signaling.core.bucket import TokenBucket
from signaling.core.model import JsonObject

SEND_S = 10.0
"""A message that the network does not take for so long ends the socket."""
MAX_MESSAGE_BYTES = 16_384
"""An answer is some tens of bytes; some programs put a diagnosis into it."""
MALFORMED_LIMIT = 20
MESSAGES_HZ, MESSAGES_BURST = 50.0, 500
"""Answers, pings and pongs together; what a program may leave unanswered is half of that at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketLimits:
    """How much a subscriber may leave unread."""

    messages: int = 128
    buffered_bytes: int = 1_048_576


class Socket:
    """Messages of one subscription on their way out."""

    def __init__(
        self, ws: web.WebSocketResponse, subscription: Subscription, limits: SocketLimits, abort: Callable[[], None]
    ) -> None:
        self.ws = ws
        self.subscription = subscription
        self.heard_s = asyncio.get_running_loop().time()
        """When it last gave a sign of life."""
        self.malformed = 0
        self.is_flooding = False
        """It sends more than any program has to say."""
        self._budget = TokenBucket(MESSAGES_HZ, MESSAGES_BURST)
        self._limits = limits
        self._abort = abort
        self._queue: deque[str] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._code: int | None = None

    def offer(self, message: JsonObject) -> bool:
        """Queue a message; False when too much is unread already."""
        text = json.dumps(message, ensure_ascii=False)
        if len(self._queue) >= self._limits.messages or self._bytes + len(text) > self._limits.buffered_bytes:
            return False
        self._queue.append(text)
        self._bytes += len(text)
        self._wake.set()
        return True

    def close(self, code: int) -> None:
        """End it once what is queued has been sent; the first code stands."""
        if self._code is None:
            self._code = code
            self._wake.set()

    @property
    def closing(self) -> bool:
        """We ended it: how it goes down says nothing about the subscriber."""
        return self._code is not None

    def is_silent(self, now_s: float, longest_s: float) -> bool:
        """No pong and no answer for too long."""
        return now_s - self.heard_s > longest_s

    async def ping(self) -> None:
        """Ask for a sign of life; a socket that is gone already is found by its reader."""
        with contextlib.suppress(ConnectionError, RuntimeError, TimeoutError):
            async with asyncio.timeout(SEND_S):
                await self.ws.ping()

    async def write(self) -> None:
        """Send until closed; the caller owns this task."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    text = self._queue.popleft()
                    self._bytes -= len(text)
                    async with asyncio.timeout(SEND_S):
                        await self.ws.send_str(text)
                if self._code is not None:
                    break
        except (ConnectionError, RuntimeError, TimeoutError):
            self._code = self._code or WSCloseCode.GOING_AWAY
            self._abort()
            return
        with contextlib.suppress(ConnectionError, RuntimeError, TimeoutError):
            async with asyncio.timeout(SEND_S):
                await self.ws.close(code=self._code)

    async def read(self) -> str | None:
        """The next text; None when the socket is over."""
        while True:
            message = await self.ws.receive()
            self.heard_s = asyncio.get_running_loop().time()
            if not self._budget.take(self.heard_s):
                self.is_flooding = True
                return ""
            if message.type is WSMsgType.TEXT:
                return str(message.data)
            if message.type is WSMsgType.PING:
                with contextlib.suppress(ConnectionError, RuntimeError):
                    await self.ws.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                return None
