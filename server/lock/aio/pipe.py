"""One WebSocket as both ends of the lock use it: frames in, and out in three lanes.

Small frames that somebody waits for (questions, acknowledgements, pings) overtake everything; answers and crossings
take turns, frame by frame: a body is cut into parts, so a doctor's question waits for one part at most. Of both only
one frame waits here, so what is not sent yet can still be called back (`Cancel`), and a slow line fills no memory.
One task writes; a peer that reads nothing for ``SEND_S`` is gone.
"""

import asyncio
import contextlib
from collections import deque
from typing import Any, Protocol

from aiohttp import WSMsgType

from server.lock.core.wire import Bye, Frame, WireError, decode, encode

SEND_S = 30.0
URGENT = 4_096
"""Small frames that may wait."""


class PipeClosed(Exception):
    """The connection is over: it broke, or the other end left."""


class Socket(Protocol):
    """What aiohttp's server and client sockets share."""

    @property
    def closed(self) -> bool: ...
    async def send_bytes(self, data: bytes) -> None: ...
    async def receive(self) -> Any: ...
    async def close(self) -> bool: ...


class _Lane:
    """One frame that waits, and those who wait for its place."""

    def __init__(self) -> None:
        self.frame: bytes | None = None
        self.room = asyncio.Event()


class Pipe:
    """Frames over one socket."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._urgent: deque[bytes] = deque()
        self._answers, self._bulk = _Lane(), _Lane()
        self._turn = self._answers
        self._wake = asyncio.Event()

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
        """Send a part of a crossing; waits until the one before it is out."""
        await self._queue(self._bulk, frame)

    async def answer(self, frame: Frame) -> None:
        """Send a part of an answer; waits until the one before it is out. Cancelled, it is not sent."""
        await self._queue(self._answers, frame)

    async def _queue(self, lane: _Lane, frame: Frame) -> None:
        while lane.frame is not None:
            lane.room.clear()
            await lane.room.wait()
        lane.frame = encode(frame)
        self._wake.set()

    def _next(self) -> bytes | None:
        if self._urgent:
            return self._urgent.popleft()
        other = self._bulk if self._turn is self._answers else self._answers
        lane = self._turn if self._turn.frame is not None else other
        data, lane.frame = lane.frame, None
        if data is not None:
            self._turn = self._bulk if lane is self._answers else self._answers
            lane.room.set()
        return data

    async def write(self) -> None:
        """The writing task.

        Raises:
            PipeClosed: the connection broke.
        """
        while True:
            data = self._next()
            if data is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                async with asyncio.timeout(SEND_S):
                    await self._socket.send_bytes(data)
            except (OSError, TimeoutError, RuntimeError) as problem:
                raise PipeClosed(type(problem).__name__) from None

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
