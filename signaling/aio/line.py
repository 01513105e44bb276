"""One WebSocket beneath the engine: what the engine does for each socket with six tasks, done with none of its own.

The engine puts each packet into a queue and wakes a task that writes it, makes a task with a timer for each message
that it waits for, and another for each ping. Here the task that the HTTP server has anyway reads; what is to be
written is written in the call that wants it; pings come from one timer for all (``pings.py``). What the packets mean
stays the engine's affair.

What is relied on of python-engineio beyond its documents, each held by a test against a real server in
``tests/integration/signaling``: the driver's ``handler`` is a bound method of the engine's socket, whose ``connected``,
``upgraded``, ``queue`` and ``closed`` are the engine's own state, whose ``receive`` takes a packet and whose ``close``
tells that it is lost.

Frames are small and many, so they are not compressed: a compressor and its peer are 300 kB for each socket that is
never asked for more than a few hundred bytes.
"""

import logging
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import web
from engineio.async_drivers.aiohttp import WebSocket
from engineio.packet import Packet

from signaling.aio.pings import Pings

log = logging.getLogger(__name__)

_PING, _PONG, _CLOSE = "2", "3", "1"


class Owner(Protocol):
    """To whom a line belongs: the gateway's connection."""

    websocket: "Line | None"


class Line(WebSocket):  # type: ignore[misc] # python-engineio has no types
    """The engine's WebSocket.

    Args:
        owner_of: the connection, by the engine's environ.
        on_text: told of a text frame that a client has no reason to send; whether to go on. [WF4]
    """

    answer_due_s = 0.0
    """See `signaling.aio.pings.Pinged`."""

    def __init__(
        self,
        handler: Any,
        server: Any,
        pings: Pings,
        owner_of: Callable[[dict[str, Any]], Owner],
        on_text: Callable[[dict[str, Any], str], bool],
    ) -> None:
        super().__init__(handler, server)
        self._engine = handler.__self__
        self._pings = pings
        self._owner_of = owner_of
        self._on_text = on_text

    async def __call__(self, environ: dict[str, Any]) -> web.StreamResponse:
        """Serve this connection to its end."""
        self.environ = environ
        self._owner_of(environ).websocket = self
        engine = self._engine
        try:
            self._sock = web.WebSocketResponse(max_msg_size=self.server.max_http_buffer_size, compress=False)
            self._request = environ["aiohttp.request"]
            await self._sock.prepare(self._request)
            for name in [name for name in environ if name.isupper()]:
                del environ[name]  # as WSGI calls headers: they have been read
            engine.connected = engine.upgraded = True
            await self._take_over_queue()
            self._pings.add(self)
            await self._read()
        finally:
            self._pings.forget(self)
            await engine.close(wait=False, abort=True, reason=self.server.reason.TRANSPORT_CLOSE)
            self.server.sockets.pop(engine.sid, None)
        await self._sock.close()
        return self._sock

    async def _take_over_queue(self) -> None:
        """What the engine has said before there was a line; what it says from now on goes out at once."""
        waiting, self._engine.queue = self._engine.queue, _Through(self)
        while not waiting.empty():
            await self._engine.queue.put(waiting.get_nowait())

    async def _read(self) -> None:
        engine = self._engine
        while not engine.closed:
            try:
                data = await self.wait()
            except OSError:
                return
            if data == _PONG:
                self._pings.heard(self)
            else:
                await engine.receive(Packet(encoded_packet=data))

    # ------------------------------------------------------------ pings

    def ping(self) -> None:
        """Ask whether somebody is there."""
        self._write_now(self._sock.send_str(_PING))

    def give_up(self) -> None:
        """Nobody is: what is still to be written is not waited for."""
        transport = self._request.transport
        if transport is not None:
            transport.abort()

    # ------------------------------------------------------------ frames

    async def write(self, frame: bytes) -> None:
        """Put a binary frame on the wire; returns when there is room for another.

        Raises:
            ConnectionError, RuntimeError: it is closed, or closing.
        """
        await self._sock.send_bytes(frame)

    def write_now(self, frame: bytes) -> bool:
        """The same where nothing is to be waited for; whether the frame is on the wire."""
        return self._write_now(self._sock.send_bytes(frame))

    def _write_now(self, sending: Any) -> bool:
        """The coroutine that sends has nothing to await then, so it ends in its first step, without a task.

        Where it does wait after all, it is not known how much was written, and nothing may follow.
        """
        try:
            sending.send(None)
        except StopIteration:
            return True
        except (ConnectionError, RuntimeError):
            return False
        sending.close()
        return False

    async def wait(self) -> bytes | str:
        """The next frame for the engine: binary, pong or close.

        Raises:
            OSError: the connection is to be given up; the engine closes it quietly.
        """
        while True:
            data = await super().wait()
            if data and (isinstance(data, bytes) or data in (_PONG, _CLOSE)):
                return data  # type: ignore[no-any-return] # bytes or str by the condition
            if not self._on_text(self.environ, str(data)):
                raise OSError("too many malformed frames")


class _Through:
    """Stands where the engine's socket has its queue: what is put there is written before the call returns."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def put(self, packet: Packet) -> None:
        """Returns when there is room for another; on a line that is closed nothing is written."""
        try:
            await self._line.send(packet.encode())
        except (ConnectionError, RuntimeError) as error:
            log.debug("not written: %s", type(error).__name__)

    def empty(self) -> bool:
        """Nothing waits here."""
        return True

    async def join(self) -> None:
        """Nothing waits here."""
