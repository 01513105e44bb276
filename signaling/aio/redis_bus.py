"""`EventBus` over redis pub/sub: which consult moved on, and how far; and beside it signals, on a channel of their own.

A hint carries nothing else; what happened is read from the store. Publishing
never fails: while redis is away hints are lost and counted, and the beat's own look
into the store finds what they would have told (``beats.py``). The
subscription comes back by itself.

A signal (a pointer, a scroll, a stroke) carries itself, and is worth nothing a second later. The first goes at once,
then what has come together in `GATHER_S`, of each key the newest alone: a pointer that moves a thousand times a second
costs redis fifty messages. What does not fit under ``limit``, or meets a redis that does not answer, is dropped and
counted.
"""

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Awaitable, Callable

import redis.asyncio as redis
from redis.exceptions import RedisError

from signaling.core.ids import ConsultId

log = logging.getLogger(__name__)

MAX_HINT_BYTES = 256
"""A consult id is at most 64 characters."""

GATHER_S = 0.02

MAX_SIGNAL_BYTES = 16 * 1024
"""A stroke of 512 coordinates is about 4 kB."""


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
        self._signal_channel = f"{channel}:signals"
        self._own = secrets.token_hex(8)
        """In front of our own signals: redis sends them back to us too."""
        self._signal_listeners: list[Callable[[ConsultId, bytes], None]] = []
        self._signals: dict[tuple[ConsultId, str], bytes] = {}
        """That wait to be sent."""
        self._most_signals = limit
        self._signal_came = asyncio.Event()
        self.lost_signals = 0
        self.malformed_signals = 0

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

    def pass_on(self, consult: ConsultId, key: str, body: bytes) -> None:
        """Send a signal to every other node soon; one that cannot be sent is counted and forgotten."""
        place = (consult, key)
        if place not in self._signals and len(self._signals) >= self._most_signals:
            self.lost_signals += 1
            return
        self._signals[place] = body
        self._signal_came.set()

    def listen_to_signals(self, listener: Callable[[ConsultId, bytes], None]) -> None:
        """Call ``listener`` for each signal of another node."""
        self._signal_listeners.append(listener)

    async def start(self) -> None:
        """Begin to receive; waits a moment for redis, but not for ever: it may come later."""
        if self._tasks:
            return
        work = (self._subscribe_forever(), self._deliver(), self._send_signals())
        self._tasks = [asyncio.create_task(one) for one in work]
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
            await subscription.subscribe(self._channel, self._signal_channel)
            async for message in subscription.listen():
                if message["type"] == "subscribe" and message["data"] == 2:
                    self._subscribed.set()
                elif message["type"] == "message":
                    is_signal = message["channel"] == self._signal_channel.encode()
                    (self._take_signal if is_signal else self._take)(message["data"])

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

    def _take_signal(self, raw: bytes) -> None:
        """Hand a signal on at once: the sessions' own outboxes hold what a slow socket has not taken yet."""
        head, _, body = raw.partition(b"\n")
        node, _, consult = head[:MAX_HINT_BYTES].decode("ascii", "replace").partition(" ")
        if not (node and consult and body and len(raw) <= MAX_SIGNAL_BYTES):
            self.malformed_signals += 1
        elif node != self._own:
            for listener in self._signal_listeners:
                listener(ConsultId(consult), body)

    async def _send_signals(self) -> None:
        while True:
            await self._signal_came.wait()
            self._signal_came.clear()
            waiting, self._signals = self._signals, {}
            try:
                async with asyncio.timeout(self._timeout_s), self._publisher.pipeline(transaction=False) as pipeline:
                    for (consult, _), body in waiting.items():
                        pipeline.publish(self._signal_channel, f"{self._own} {consult}\n".encode() + body)
                    await pipeline.execute()
            except (RedisError, OSError, TimeoutError):
                self.lost_signals += len(waiting)
            await asyncio.sleep(GATHER_S)

    async def _deliver(self) -> None:
        while True:
            consult, revision = await self._hints.get()
            for listener in self._listeners:
                try:
                    await listener(consult, revision)
                except Exception:  # one consult's trouble must not stop the hints of all others
                    log.exception("hint listener failed", extra={"consult": consult})
