"""The worker's end of a tap: copies of a Router's waveforms to the application, beside media and never before it.

Records wait in a queue of at most 1 MB and leave in the turns that data channels take (``turns``), so a socket is
looked at between two slices of a quarter of a millisecond whatever the application does. When it does not read, the
oldest records give way, counted and said (`TapKind.DROPPED`); the application then asks for what its numbers show is
missing, and gets it from the Router's 30 s ring, behind what is live.

The records are ``media.core.tap``.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from media.aio.counters import Counters
from media.aio.turns import Turns
from media.core.control import MediaError, MediaErrorCode
from media.core.tap import COUNT, RANGE, TapKind, build_record

QUEUE_BYTES = 1 << 20
"""Half a minute of 10 twelve-lead streams."""
AGAIN_ROOM_BYTES = 1 << 17
"""Frames that were asked for are put in while less than this waits."""
AGAIN_PER_TURN = 32
REQUESTS = 64
"""Ranges that may wait; an application asks for one after the other."""
BATCH_BYTES = 1 << 16

Ask = Callable[[int, int, int], Iterator[bytes]]
"""Records that answer for one range of a stream."""


class DataTap:
    """One connection to the application.

    Args:
        ask: what is kept of a stream's range, lazily.
        over: called once when the application's end is gone.

    Raises:
        MediaError: ``worker_gone``, nobody listens there.
    """

    def __init__(
        self, path: Path, key: bytes, counters: Counters, turns: Turns, ask: Ask, over: Callable[["DataTap"], None]
    ) -> None:
        self._counters = counters
        self._turns = turns
        self._ask = ask
        self._over = over
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._partial = b""
        self._dropped = 0
        self._requests: deque[Iterator[bytes]] = deque(maxlen=REQUESTS)
        self._request_bytes = b""
        self._blocked = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(str(path))
            self._socket.send(key)
        except OSError as error:
            self._socket.close()
            raise MediaError(MediaErrorCode.WORKER_GONE, "the tap cannot be connected") from error
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def put(self, kind: TapKind, body: bytes) -> None:
        """Queue one record; never waits."""
        record = build_record(kind, body)
        self._queue.append(record)
        self._bytes += len(record)
        self._counters.add("tap_records")
        while self._bytes > QUEUE_BYTES:
            self._bytes -= len(self._queue.popleft())
            self._dropped += 1
            self._counters.add("tap_dropped")
        if not self._blocked:
            self._turns.wake(self._flush)

    def close(self) -> None:
        """End the connection; idempotent."""
        self._turns.forget(self._flush)
        self._queue.clear()
        self._requests.clear()
        if self._socket.fileno() >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.fileno())
            loop.remove_writer(self._socket.fileno())
            self._socket.close()

    def _flush(self) -> None:
        """One turn: a batch of what waits, then a few of those that were asked for."""
        if self._socket.fileno() < 0:
            return
        if self._requests and self._bytes < AGAIN_ROOM_BYTES:
            self._fill()
        data = self._partial or self._batch()
        if not data:
            return
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._end()
            return
        self._partial = data[sent:]
        if self._partial:
            self._block()
        elif self._queue or self._requests:
            self._turns.wake(self._flush)

    def _batch(self) -> bytes:
        parts: list[bytes] = []
        if self._dropped:
            parts.append(build_record(TapKind.DROPPED, COUNT.pack(self._dropped)))
            self._dropped = 0
        size = 0
        while self._queue and size < BATCH_BYTES:
            part = self._queue.popleft()
            size += len(part)
            parts.append(part)
        self._bytes -= size
        return b"".join(parts)

    def _fill(self) -> None:
        for _ in range(AGAIN_PER_TURN):
            record = next(self._requests[0], None)
            if record is None:
                self._requests.popleft()
                if not self._requests:
                    return
                continue
            self._queue.append(record)
            self._bytes += len(record)

    def _block(self) -> None:
        if not self._blocked:
            self._blocked = True
            asyncio.get_running_loop().add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        self._blocked = False
        asyncio.get_running_loop().remove_writer(self._socket.fileno())
        self._turns.wake(self._flush)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(65_536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        self._request_bytes += data
        while len(self._request_bytes) >= RANGE.size:
            stream, first, last = RANGE.unpack_from(self._request_bytes)
            self._request_bytes = self._request_bytes[RANGE.size :]
            if len(self._requests) == REQUESTS:
                self._counters.add("tap_requests_dropped")
            self._requests.append(self._ask(stream, first, last))
        if not self._blocked:
            self._turns.wake(self._flush)

    def _end(self) -> None:
        if self._socket.fileno() >= 0:
            with contextlib.suppress(OSError):
                self.close()
            self._over(self)
