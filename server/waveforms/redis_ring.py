"""`LiveRing` in redis streams: it outlives this process, and other nodes can read it.

One stream a waveform; the id of an entry is ``<epoch + 1>-<seq>``, so a range of numbers is one XRANGE. Redis takes
rising ids only, so a late frame goes to a second, small stream beside it with its place as fields. Both are cut by
length with every append and end by themselves when nothing comes.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from media.core.waveform import Place
from server.waveforms.ring import MAX_FRAMES, RING_S, RingUnavailable

PREFIX: Final = "consilium:wave:"
TIMEOUT_S: Final = 2.0
LATE_FRAMES: Final = 4096
PAGE: Final = 2000


class RedisRing:
    """In redis."""

    def __init__(self, url: str) -> None:
        self._redis: Any = Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, decode_responses=False
        )
        self._tops: dict[str, Place] = {}
        """Newest id that this process has written: what is not above it is late."""

    async def append(self, key: str, frames: Sequence[tuple[Place, bytes]], now_ms: int) -> None:
        """One round trip."""
        if not frames:
            return
        try:
            top = self._tops.get(key) or await self.newest(key) or Place(-1, -1)
            pipe = self._redis.pipeline(transaction=False)
            late = False
            for place, frame in frames:
                if place > top:
                    pipe.xadd(
                        _main(key), {"f": frame}, id=f"{place.epoch + 1}-{place.seq}", maxlen=MAX_FRAMES,
                        approximate=True,
                    )  # fmt: skip
                    top = place
                else:
                    late = True
                    fields = {"e": place.epoch, "s": place.seq, "f": frame}
                    pipe.xadd(_late(key), fields, maxlen=LATE_FRAMES, approximate=True)
            pipe.expire(_main(key), RING_S)
            if late:
                pipe.expire(_late(key), RING_S)
            await pipe.execute()
        except (RedisError, OSError) as problem:
            self._tops.pop(key, None)
            raise RingUnavailable(type(problem).__name__) from problem
        self._tops[key] = top

    async def get(self, key: str, first: Place, last: Place) -> list[tuple[Place, bytes]]:
        """Pages of the main stream, then what came late."""
        found: dict[Place, bytes] = {}
        try:
            start, end = f"{first.epoch + 1}-{first.seq}", f"{last.epoch + 1}-{last.seq}"
            while True:
                page = await self._redis.xrange(_main(key), start, end, count=PAGE)
                found |= {_place(identity): fields[b"f"] for identity, fields in page}
                if len(page) < PAGE:
                    break
                start = f"({page[-1][0].decode()}"
            for _, fields in await self._redis.xrange(_late(key)):
                place = Place(int(fields[b"e"]), int(fields[b"s"]))
                if first <= place <= last:
                    found.setdefault(place, fields[b"f"])
        except (RedisError, OSError) as problem:
            raise RingUnavailable(type(problem).__name__) from problem
        return sorted(found.items())

    async def newest(self, key: str) -> Place | None:
        """Last id of the main stream."""
        try:
            last = await self._redis.xrevrange(_main(key), count=1)
        except (RedisError, OSError) as problem:
            raise RingUnavailable(type(problem).__name__) from problem
        return _place(last[0][0]) if last else None

    async def forget(self, key: str) -> None:
        """Delete both streams."""
        self._tops.pop(key, None)
        try:
            await self._redis.delete(_main(key), _late(key))
        except (RedisError, OSError) as problem:
            raise RingUnavailable(type(problem).__name__) from problem

    async def close(self) -> None:
        """End the connections."""
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose()


def _main(key: str) -> str:
    return f"{PREFIX}{key}"


def _late(key: str) -> str:
    return f"{PREFIX}{key}:late"


def _place(identity: bytes) -> Place:
    epoch, _, seq = identity.decode().partition("-")
    return Place(int(epoch) - 1, int(seq))
