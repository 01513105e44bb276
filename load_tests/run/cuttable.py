"""A hospital's only way out, which can be cut: an HTTP proxy to one port of this machine.

It takes one request for each connection, in the form that proxies are asked in, and gives it to the server in the
form that servers are; what follows, a WebSocket, passes as it is.

Cut, it is silent, as a line whose router lost power: connections stay open and nothing passes, new ones are taken by
the kernel and never answered. Mended, what was open before is reset, as a router does that has forgotten its tables:
what was under way at that moment is lost, and who used it has to dial again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Final, Self

CHUNK_BYTES: Final = 64 << 10
PROXY_FORM: Final = re.compile(rb"^([A-Z]+) http://[^/ ]+")


class CuttableLine:
    """A listener whose connections all go to one port."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where it is entered."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Nothing passes from now on."""
        self._whole.clear()

    def mend(self) -> None:
        """New connections pass; those of before are reset."""
        for task in self._tasks:
            task.cancel()
        self._whole.set()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            await self._whole.wait()
            head = PROXY_FORM.sub(rb"\1 ", await reader.readuntil(b"\r\n"))
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._to)
            far.write(head)
            await asyncio.gather(self._carry(reader, far), self._carry(far_reader, writer))
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # one end is gone, or this is over: the other end goes too
        finally:
            self._tasks.discard(task)
            for one in (writer, far):
                if one is not None:
                    one.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if not self._whole.is_set():
                await asyncio.Event().wait()  # lost on the way; `mend` ends this connection
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
