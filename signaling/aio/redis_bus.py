"""`EventBus` over redis pub/sub: which consult moved on, and how far.

A hint carries nothing else; what happened is read from the store. Publishing
never fails: while redis is away hints are lost and counted, and the beat's own look
into the store finds what they would have told (``beats.py``). The
subscription comes back by itself.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

import redis.asyncio as redis
from redis.exceptions import RedisError

from signaling.core.ids import ConsultId

log = logging.getLogger(__name__)

MAX_HINT_BYTES = 256
"""A consult id is at most 64 characters."""


class RedisBus:
    """Hints between the nodes that share one redis.

    Args:
        url: ``redis://`` or ``rediss://`` address.
        channel: nodes of one installation use the same.
    """

    def __init__(self, url: str, channel: str = "consilium:hints", timeout_s: float = 2.0, limit: int = 1_000) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self._publisher = redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        self._subscriber = redis.Redis.from_url(url, socket_connect_timeout=timeout_s)
        self._listeners: list[Callable[[ConsultId, int], Awaitable[None]]] = []
        self._hints: asyncio.Queue[tuple[ConsultId, int]] = asyncio.Queue(limit)
        self._tasks: list[asyncio.Task[None]] = []
        self._subscribed = asyncio.Event()
        self.lost_hints = 0
        self.malformed_hints = 0

    async def publish(self, consult: ConsultId, revision: int) -> None:
        """Tell every node, this one included; a hint that cannot be sent is counted and forgotten."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._publisher.publish(self._channel, f"{revision} {consult}")
        except (RedisError, OSError, TimeoutError):
            self.lost_hints += 1

    def listen(self, listener: Callable[[ConsultId, int], Awaitable[None]]) -> None:
        """Call ``listener`` for each hint."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Begin to receive; waits a moment for redis, but not for ever: it may come later."""
        if self._tasks:
            return
        self._tasks = [asyncio.create_task(self._subscribe_forever()), asyncio.create_task(self._deliver())]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await self._subscribed.wait()

    async def stop(self) -> None:
        """Release everything; idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in (self._publisher, self._subscriber):
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()

    async def _subscribe_forever(self) -> None:
        delay_s = 0.1
        while True:
            try:
                await self._subscribe()
            except (RedisError, OSError) as error:
                log.warning("hints interrupted", extra={"error": type(error).__name__})
            if self._subscribed.is_set():
                delay_s = 0.1
            self._subscribed.clear()
            await asyncio.sleep(delay_s * (1 + random.random()))  # noqa: S311 - jitter, not a secret
            delay_s = min(2 * delay_s, 5.0)

    async def _subscribe(self) -> None:
        async with self._subscriber.pubsub() as subscription:
            await subscription.subscribe(self._channel)
            async for message in subscription.listen():
                if message["type"] == "subscribe":
                    self._subscribed.set()
                elif message["type"] == "message":
                    self._take(message["data"])

    def _take(self, raw: bytes) -> None:
        """Queue a hint; a full queue loses it, like the network may."""
        revision, _, consult = raw[:MAX_HINT_BYTES].decode("ascii", "replace").partition(" ")
        if not (revision.isascii() and revision.isdigit() and consult):
            self.malformed_hints += 1
            return
        try:
            self._hints.put_nowait((ConsultId(consult), int(revision)))
        except asyncio.QueueFull:
            self.lost_hints += 1

    async def _deliver(self) -> None:
        while True:
            consult, revision = await self._hints.get()
            for listener in self._listeners:
                try:
                    await listener(consult, revision)
                except Exception:  # one consult's trouble must not stop the hints of all others
                    log.exception("hint listener failed", extra={"consult": consult})
