"""The application's end of the taps: what every worker of this machine took of waveforms and vital signs.

One listening socket in a folder of mode 0700; a worker that was told a key with ``tap_data`` connects and shows it.
Each Router has a connection of its own, so that one consult's flood fills nobody else's. Where a connection ends while
its worker lives, it is asked for again; what was missed meanwhile is asked for by number.

The records are ``media.core.tap``, the worker's end ``media.aio.tap``. What a record means is the desk's.
"""

import asyncio
import secrets
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from media.core.control import JsonObject, Request, TapData
from media.core.tap import (
    KEY_BYTES,
    RANGE,
    MalformedTap,
    TappedDropped,
    TappedFrame,
    TappedGone,
    TappedMessage,
    TapReader,
    read_record,
)
from server.metrics import WAVEFORM_TAP

log = structlog.get_logger(__name__)

STRANGERS: Final = 64
"""Keys given out for which nobody has come yet: a worker comes within the call."""
WRITE_LIMIT_BYTES: Final = 1 << 16
"""Requests that a worker does not read; beyond it they are dropped, it is asked again."""

Call = Callable[[Request], Awaitable[JsonObject]]
"""One call of the worker that has the Router."""


@dataclass(frozen=True, slots=True)
class Tapped:
    """One Router on one worker."""

    consult: str
    worker: int


class TapSink(Protocol):
    """Who takes what comes. Nothing here may block."""

    def tapped_frame(self, source: "TapConnection", frame: bytes, again: bool) -> None:
        """One sound frame without transport flags."""

    def tapped_message(self, source: "TapConnection", producer: str, message: bytes) -> None:
        """One vital-signs message."""

    def tapped_gone(self, source: "TapConnection", stream_id: int, first: int, last: int) -> None:
        """The worker will never have these."""

    def tapped_dropped(self, source: "TapConnection", count: int) -> None:
        """Records were lost in the worker's queue."""

    def tap_ended(self, source: "TapConnection") -> None:
        """The connection is over, whoever ended it."""


class TapConnection(asyncio.Protocol):
    """One worker's tap of one Router."""

    def __init__(self, taps: "Taps") -> None:
        self._taps = taps
        self._reader = TapReader()
        self._key = b""
        self._transport: asyncio.Transport | None = None
        self.of: Tapped | None = None
        """Known once the key was shown."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A worker has come."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """The key, then records."""
        if self.of is None:
            self._key += data
            if len(self._key) < KEY_BYTES:
                return
            self._key, data = self._key[:KEY_BYTES], self._key[KEY_BYTES:]
            self.of = self._taps.greeted(self, self._key)
            if self.of is None:
                self.close()
                return
        try:
            for kind, body in self._reader.feed(data):
                self._taken(kind, body)
        except MalformedTap as problem:
            WAVEFORM_TAP.labels("malformed").inc()
            log.error("tap broken", reason=str(problem))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The worker has died, or replaced this tap."""
        del exc
        self._transport = None
        if self.of is not None:
            self._taps.ended(self)

    def ask(self, stream_id: int, first: int, last: int) -> None:
        """Have frames sent again; lost when the worker does not read."""
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size() < WRITE_LIMIT_BYTES:
            transport.write(RANGE.pack(stream_id, first, last))

    def close(self) -> None:
        """End it; idempotent."""
        if self._transport is not None:
            self._transport.close()

    def _taken(self, kind: int, body: bytes) -> None:
        sink, record = self._taps.sink, read_record(kind, body)
        try:
            match record:
                case TappedFrame():
                    sink.tapped_frame(self, record.frame, again=record.again)
                case TappedMessage():
                    sink.tapped_message(self, record.producer, record.message)
                case TappedGone():
                    sink.tapped_gone(self, record.stream_id, record.first, record.last)
                case TappedDropped():
                    sink.tapped_dropped(self, record.count)
        except Exception:  # a bug met by one record must not end the archive of the consult
            WAVEFORM_TAP.labels("broke").inc()
            log.exception("tapped record failed")


class Taps:
    """All taps of this machine's workers."""

    def __init__(self, sink: TapSink) -> None:
        self.sink = sink
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._server: asyncio.Server | None = None
        self._expected: dict[bytes, Tapped] = {}
        self._open: dict[Tapped, TapConnection] = {}

    async def start(self) -> None:
        """Listen."""
        self._folder = tempfile.TemporaryDirectory(prefix="consilium-taps-")
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: TapConnection(self), self._path)

    async def stop(self) -> None:
        """End all; idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in list(self._open.values()):
            connection.close()
        self._open.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def ensure(self, of: Tapped, call: Call) -> None:
        """Have a Router tapped, unless it is.

        Raises:
            MediaError: its worker cannot do it now.
        """
        if of in self._open or self._server is None:
            return
        key = secrets.token_bytes(KEY_BYTES)
        self._expected[key] = of
        while len(self._expected) > STRANGERS:
            del self._expected[next(iter(self._expected))]
        try:
            await call(TapData(router=of.consult, path=str(self._path), key=key.hex()))
        except BaseException:
            self._expected.pop(key, None)
            raise

    def connection(self, of: Tapped) -> TapConnection | None:
        """The Router's tap, if there is one."""
        return self._open.get(of)

    def greeted(self, connection: TapConnection, key: bytes) -> Tapped | None:
        """Whose key this is; None for nobody's."""
        of = self._expected.pop(key, None)
        if of is None:
            WAVEFORM_TAP.labels("stranger").inc()
            return None
        older = self._open.get(of)
        self._open[of] = connection
        if older is not None:
            older.close()
        return of

    def ended(self, connection: TapConnection) -> None:
        """It is over."""
        assert connection.of is not None
        if self._open.get(connection.of) is connection:
            del self._open[connection.of]
            self.sink.tap_ended(connection)

    @property
    def _path(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "tap"
