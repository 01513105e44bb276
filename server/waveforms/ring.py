"""The last quarter of an hour of every live stream: what answers "I have up to N" when the worker cannot.

A worker keeps 30 s and dies with them. This ring outlives workers (memory) and the server process (redis). It answers
viewers on a WebSocket, and the archive when its disk was away. Frames are kept by place, so late ones are found like
any other; by age, count and bytes the oldest arrivals go first.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from media.core.waveform import Place

RING_S: Final = 15 * 60
MAX_FRAMES: Final = 18_000
"""A quarter of an hour of 50 ms frames."""
MAX_BYTES: Final = 8 << 20
STREAMS: Final = 256
"""Rings at one time; beyond it the one that was silent longest goes."""


class RingUnavailable(Exception):
    """The ring cannot be reached now."""


class LiveRing(Protocol):
    """Frames of live streams; ``key`` names a stream."""

    async def append(self, key: str, frames: Sequence[tuple[Place, bytes]], now_ms: int) -> None:
        """Keep frames as they came.

        Raises:
            RingUnavailable: none of them, or only some, are kept.
        """

    async def get(self, key: str, first: Place, last: Place) -> list[tuple[Place, bytes]]:
        """Kept frames from ``first`` to ``last``, both included, in the order of the stream.

        Raises:
            RingUnavailable: nobody knows now.
        """

    async def newest(self, key: str) -> Place | None:
        """Place of the newest frame kept.

        Raises:
            RingUnavailable: nobody knows now.
        """

    async def forget(self, key: str) -> None:
        """The stream has ended for good; idempotent.

        Raises:
            RingUnavailable: it stays until its time is over.
        """

    async def close(self) -> None:
        """Release everything; idempotent."""


@dataclass(slots=True)
class _Stream:
    frames: dict[Place, bytes] = field(default_factory=dict)
    arrivals: deque[tuple[int, Place, int]] = field(default_factory=deque)
    bytes: int = 0
    newest: Place | None = None


class MemoryRing:
    """In this process."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}

    async def append(self, key: str, frames: Sequence[tuple[Place, bytes]], now_ms: int) -> None:
        """Keep them."""
        self.put(key, frames, now_ms)

    def put(self, key: str, frames: Iterable[tuple[Place, bytes]], now_ms: int) -> None:
        """The same without waiting."""
        stream = self._streams.pop(key, None) or _Stream()
        self._streams[key] = stream
        if len(self._streams) > STREAMS:
            del self._streams[next(iter(self._streams))]
        for place, frame in frames:
            if place in stream.frames:
                continue
            stream.frames[place] = frame
            stream.arrivals.append((now_ms, place, len(frame)))
            stream.bytes += len(frame)
            if stream.newest is None or place > stream.newest:
                stream.newest = place
        oldest_ms = now_ms - RING_S * 1000
        while stream.arrivals and (
            stream.arrivals[0][0] < oldest_ms or len(stream.frames) > MAX_FRAMES or stream.bytes > MAX_BYTES
        ):
            _, place, size = stream.arrivals.popleft()
            del stream.frames[place]
            stream.bytes -= size

    async def get(self, key: str, first: Place, last: Place) -> list[tuple[Place, bytes]]:
        """By number where the range is small, else by looking at all."""
        stream = self._streams.get(key)
        if stream is None:
            return []
        if first.epoch == last.epoch and last.seq - first.seq < len(stream.frames):
            places = [Place(first.epoch, seq) for seq in range(first.seq, last.seq + 1)]
            return [(place, stream.frames[place]) for place in places if place in stream.frames]
        return [(place, stream.frames[place]) for place in sorted(stream.frames) if first <= place <= last]

    async def newest(self, key: str) -> Place | None:
        """Newest kept."""
        stream = self._streams.get(key)
        return None if stream is None or not stream.frames else stream.newest

    async def forget(self, key: str) -> None:
        """Drop it."""
        self._streams.pop(key, None)

    async def close(self) -> None:
        """Drop all."""
        self._streams.clear()
