"""Count attempts per key in a moving window; in memory, or in redis where nodes share the count."""

import hashlib
import json
import math
import time
from typing import ClassVar

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, MovingWindowSupport, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.storage import storage_from_string

from server.clock import NowMs
from server.identity.core.rules import Throttle


class TooManyAttempts(Exception):
    """Wait ``retry_after_s`` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class ForgettingMemory(MemoryStorage):
    """The library's memory storage, which may also be told to forget while it tidies up.

    Its own ``clear`` takes the key away under the tidying task, which then ends with
    a ``KeyError`` that nobody awaits. An emptied list instead is something that
    task expects; it drops the key itself. And it tidies up beside each attempt,
    with a visit to a thread for every key there is, in the way of whoever is
    waiting; here it does so now and then.
    """

    TIDY_S: ClassVar[float] = 10.0
    STORAGE_SCHEME: ClassVar[list[str]] = []  # type: ignore[misc]  # found by no URI: the library's own class stays that

    def __init__(self) -> None:
        super().__init__()
        self._tidy_at_s = 0.0

    async def _MemoryStorage__schedule_expiry(self) -> None:
        """The library's private method, by the name that Python gives it: what begins a tidying up."""
        now_s = time.monotonic()
        if now_s >= self._tidy_at_s:
            self._tidy_at_s = now_s + self.TIDY_S
            await super()._MemoryStorage__schedule_expiry()  # type: ignore[misc]

    async def clear(self, key: str) -> None:
        """Forget what was counted under a key."""
        if key in self.events:
            self.events[key] = []


class Attempts:
    """Attempts by what and by whom."""

    def __init__(self, redis_url: str, wall_ms: NowMs) -> None:
        if redis_url:
            storage = storage_from_string(f"async+{redis_url}", implementation="redispy")
        else:
            storage = ForgettingMemory()
        assert isinstance(storage, Storage)
        assert isinstance(storage, MovingWindowSupport)
        self._limiter = MovingWindowRateLimiter(storage)
        self._wall_ms = wall_ms

    async def take(self, throttle: Throttle, *who: str) -> None:
        """Count one attempt.

        Raises:
            TooManyAttempts: and nothing was counted.
        """
        item, key = _item(throttle), _key(who)
        if not await self._limiter.hit(item, throttle.name, key):
            raise await self._refused(item, throttle.name, key)

    async def check(self, throttle: Throttle, *who: str) -> None:
        """Like `take`, without counting."""
        item, key = _item(throttle), _key(who)
        if not await self._limiter.test(item, throttle.name, key):
            raise await self._refused(item, throttle.name, key)

    async def forget(self, throttle: Throttle, *who: str) -> None:
        """Start over after a success."""
        await self._limiter.clear(_item(throttle), throttle.name, _key(who))

    async def _refused(self, item: RateLimitItem, name: str, key: str) -> TooManyAttempts:
        stats = await self._limiter.get_window_stats(item, name, key)
        wait_s = math.ceil(stats.reset_time - self._wall_ms() / 1_000)
        return TooManyAttempts(min(item.get_expiry(), max(1, wait_s)))


def _item(throttle: Throttle) -> RateLimitItem:
    return RateLimitItemPerSecond(throttle.attempts, throttle.window_s)


def _key(who: tuple[str, ...]) -> str:
    """Hashed: what somebody typed as a login may be their password, and must not lie in redis.

    As JSON, because a login may hold any separator.
    """
    return hashlib.sha256(json.dumps(who).encode()).hexdigest()
