"""One WebSocket as both ends of the lock use it: frames in, and out in two lanes.

What somebody waits for (questions, answers, acknowledgements, pings) overtakes crossings, frame by frame: a body
is cut into parts, so a doctor's question waits for one part at most. One task writes; a peer that reads
nothing for ``SEND_S`` is gone.
"""

import asyncio
import contextlib
from collections import deque
from typing import Any, Protocol

from aiohttp import WSMsgType

from server.lock.core.wire import Bye, Frame, WireError, decode, encode

SEND_S = 30.0
URGENT = 4_096
"""Frames of the urgent lane that may wait; answers of all questions together are bounded before they come here."""


class PipeClosed(Exception):
    """The connection is over: it broke, or the other end left."""


class Socket(Protocol):
    """What aiohttp's server and client sockets share."""

    @property
    def closed(self) -> bool: ...
    async def send_bytes(self, data: bytes) -> None: ...
    async def receive(self) -> Any: ...
    async def close(self) -> bool: ...


class Pipe:
    """Frames over one socket."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._urgent: deque[bytes] = deque()
        self._bulk: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def say(self, frame: Frame) -> None:
        """Send before any crossing that waits; never blocks.

        Raises:
            PipeClosed: the peer takes nothing any more.
        """
        if len(self._urgent) >= URGENT:
            raise PipeClosed("the other end does not read")
        self._urgent.append(encode(frame))
        self._wake.set()

    async def carry(self, frame: Frame) -> None:
        """Send after what is urgent; waits until the frame before it is out."""
        while self._bulk:
            self._room.clear()
            await self._room.wait()
        self._bulk.append(encode(frame))
        self._wake.set()

    async def write(self) -> None:
        """The writing task.

        Raises:
            PipeClosed: the connection broke.
        """
        while True:
            lane = self._urgent or self._bulk
            if not lane:
                self._wake.clear()
                await self._wake.wait()
                continue
            data = lane.popleft()
            try:
                async with asyncio.timeout(SEND_S):
                    await self._socket.send_bytes(data)
            except (OSError, TimeoutError, RuntimeError) as problem:
                raise PipeClosed(type(problem).__name__) from None
            if not self._bulk:
                self._room.set()

    async def read(self) -> tuple[Frame, bytes]:
        """The next frame and its bytes.

        Raises:
            PipeClosed: there is none any more.
            WireError: what came is none.
        """
        message = await self._socket.receive()
        if message.type is WSMsgType.BINARY:
            return decode(message.data), message.data
        if message.type is WSMsgType.TEXT:
            raise WireError("text")
        raise PipeClosed(message.type.name.lower())

    async def send_now(self, frame: Frame) -> bytes:
        """Before the writing task runs: send one frame; its bytes.

        Raises:
            PipeClosed: the connection broke.
        """
        data = encode(frame)
        try:
            async with asyncio.timeout(SEND_S):
                await self._socket.send_bytes(data)
        except (OSError, TimeoutError, RuntimeError) as problem:
            raise PipeClosed(type(problem).__name__) from None
        return data

    async def leave(self, code: str = "", reason: str = "") -> None:
        """Say why, if there is a reason, and close; never raises, never takes long."""
        with contextlib.suppress(Exception):  # whatever a broken socket raises, it is over
            async with asyncio.timeout(2):
                if code and not self._socket.closed:
                    await self._socket.send_bytes(encode(Bye(code=code, reason=reason[:300])))
                await self._socket.close()
