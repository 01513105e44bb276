"""Several processes of one hub: which of them has a gateway's connection, and questions that go there.

A gateway has one connection, to one process; a doctor's request comes to any. Each process tells the others every
``TELL_S`` which gateways it has, over redis, and passes on what only that process can do: ask, look
whether somebody answers (two programs with one identity, LK17), cut what was revoked, send what was queued. Nothing is
kept in redis. What goes over it is sealed with a key made of the hub's lock key, which its processes share:
whoever reads redis reads neither questions nor answers, and whoever writes to it asks no hospital.

Without redis, or while it does not answer, a process knows its own connections only; what must never happen (two
connections that both commit, a revoked one that commits) the database fences by itself.
"""

import asyncio
import contextlib
import os
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import msgpack
import redis.asyncio as redis
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from redis.exceptions import RedisError

from server.gateway.core.responder import QueryCode, QueryFailed
from server.lock.core.answers import WholeAnswer
from server.lock.core.wire import Ask, WireError, decode, encode

log = structlog.get_logger(__name__)

CHANNEL = "consilium:lock"
TELL_S = 5.0
BELIEVE_S = 16.0
"""A process that was not heard for this long has no connections any more."""
TIMEOUT_S = 2.0
LATE_S = 2.0
"""Above what the question itself may take."""
FRESH_MS = 30_000
"""Older words of redis are not heeded: recorded ones are worth nothing."""
MOST_TASKS = 256
_NONCE = 12
_INFO = b"consilium lock nodes 1"

Here: TypeAlias = tuple[str, int]
"""(instance, connection number) of a gateway's connection."""
Seal = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    node: str
    instance: str
    connection: int
    until: float


class Local(Protocol):
    """What the others may want of this process: `desk.LockDesk`."""

    def here(self) -> dict[str, Here]: ...
    async def ask_here(self, gateway: str, question: Ask) -> WholeAnswer: ...
    async def answers_here(self, gateway: str) -> bool: ...
    def revoked_here(self, gateway: str) -> None: ...
    def outbox_grew_here(self, gateway: str) -> None: ...
    def came_elsewhere(self, gateway: str, connection: int) -> None: ...


class LockNodes:
    """The other processes of this hub, as this one sees them.

    Args:
        secret: private key of the hub's lock.
        wall_ms: for the age of what is heard.
    """

    def __init__(self, url: str, secret: bytes, wall_ms: Callable[[], int], channel: str = CHANNEL) -> None:
        self.node = secrets.token_hex(8)
        self._channel, self._wall_ms = channel, wall_ms
        self._key = AESGCM(HKDF(hashes.SHA256(), 32, None, _INFO).derive(secret))
        self._publisher = redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        self._subscriber = redis.Redis.from_url(url, socket_connect_timeout=TIMEOUT_S)
        self._local: Local | None = None
        self._elsewhere: dict[str, _Elsewhere] = {}
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._subscribed = asyncio.Event()
        self._tell_now = asyncio.Event()

    # ------------------------------------------------------------ life

    async def start(self, local: Local) -> None:
        """Begin to hear and tell; waits a moment for redis, but not for ever: it may come later."""
        self._local = local
        if self._tasks:
            return
        self._tasks = [asyncio.create_task(self._listen_forever()), asyncio.create_task(self._tell_forever())]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                await self._subscribed.wait()

    async def stop(self) -> None:
        """Idempotent."""
        tasks, self._tasks = [*self._tasks, *self._serving.values()], []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in (self._publisher, self._subscriber):
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()

    # ------------------------------------------------------------ what this process asks of others

    def has(self, gateway: str) -> bool:
        """Whether another process has this gateway's connection."""
        return self._where(gateway) is not None

    def instance_of(self, gateway: str) -> str | None:
        """Which run of the gateway's program is connected to another process."""
        found = self._where(gateway)
        return None if found is None else found.instance

    async def ask(self, gateway: str, question: Ask) -> WholeAnswer:
        """Ask through the process that has the connection.

        Raises:
            QueryFailed: as from `LockSession.ask`, or ``unavailable``.
        """
        found = self._where(gateway)
        if found is None:
            raise QueryFailed(QueryCode.UNAVAILABLE)
        within_s = question.timeout_ms / 1_000 + LATE_S
        answer = await self._call(found.node, ["ask", gateway, encode(question)], within_s)
        if answer is None:
            raise QueryFailed(QueryCode.UNAVAILABLE)
        code, count, next_page, body = answer
        if code:
            raise QueryFailed(QueryCode(code) if code in set(QueryCode) else QueryCode.UNAVAILABLE)
        return WholeAnswer(id=0, code="", count=count, next_page=next_page, body=body)

    async def answers_ping(self, gateway: str, within_s: float) -> bool:
        """Whether the gateway connected to another process is really there."""
        found = self._where(gateway)
        return found is not None and bool(await self._call(found.node, ["ping", gateway], within_s))

    async def tell_revoked(self, gateway: str) -> None:
        """Have it cut where it is connected."""
        await self._say(self._channel, ["revoked", gateway])

    def outbox_grew(self, gateway: str) -> None:
        """Have it sent where it is connected; lost, it is found there by looking."""
        self._serve(secrets.token_hex(8), self._say(self._channel, ["outbox", gateway]))

    def changed(self) -> None:
        """A gateway came or left here: tell now."""
        self._tell_now.set()

    # ------------------------------------------------------------ words

    def _where(self, gateway: str) -> _Elsewhere | None:
        found = self._elsewhere.get(gateway)
        return found if found is not None and time.monotonic() < found.until else None

    async def _call(self, node: str, words: list[Any], within_s: float) -> Any:
        """What another process answers; None when it does not."""
        id_ = secrets.token_hex(12)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[id_] = future
        try:
            if not await self._say(self._of(node), ["call", id_, self.node, *words]):
                return None
            async with asyncio.timeout(within_s):
                return await future
        except TimeoutError:
            return None
        finally:
            del self._waiting[id_]
            if not future.done() or future.cancelled():
                self._serve(id_, self._say(self._of(node), ["cancel", id_]))

    def _of(self, node: str) -> str:
        return f"{self._channel}:{node}"

    async def _say(self, channel: str, words: list[Any]) -> bool:
        nonce = os.urandom(_NONCE)
        sealed = self._key.encrypt(nonce, msgpack.packb([self._wall_ms(), *words]), channel.encode())
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return int(await self._publisher.publish(channel, nonce + sealed)) > 0
        except (RedisError, OSError, TimeoutError):
            return False

    def _serve(self, id_: str, work: Coroutine[Any, Any, Any]) -> None:
        if len(self._serving) >= MOST_TASKS:
            work.close()
            return
        task = asyncio.create_task(work, name="lock-node")
        self._serving[id_] = task
        task.add_done_callback(lambda _task: self._serving.pop(id_, None))

    # ------------------------------------------------------------ tasks

    async def _tell_forever(self) -> None:
        while True:
            self._tell_now.clear()
            here = {} if self._local is None else self._local.here()
            rows = [[gateway, instance, connection] for gateway, (instance, connection) in here.items()]
            await self._say(self._channel, ["here", self.node, rows])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TELL_S):
                    await self._tell_now.wait()

    async def _listen_forever(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):
                await self._listen()
            self._subscribed.clear()
            await asyncio.sleep(1 + random.random())  # noqa: S311 - jitter, not a secret

    async def _listen(self) -> None:
        own = self._of(self.node)
        async with self._subscriber.pubsub() as subscription:
            await subscription.subscribe(self._channel, own)
            async for message in subscription.listen():
                if message["type"] == "subscribe" and message["channel"] == own.encode():
                    self._subscribed.set()
                    self._tell_now.set()
                elif message["type"] == "message":
                    self._hear(message["channel"], message["data"])

    def _hear(self, channel: bytes, data: bytes) -> None:
        try:
            packed = self._key.decrypt(data[:_NONCE], data[_NONCE:], channel)
            at_ms, *words = msgpack.unpackb(packed)
            if abs(self._wall_ms() - at_ms) <= FRESH_MS:
                self._take(words)
        except (InvalidTag, ValueError, TypeError, WireError):
            log.warning("not a word of this hub's processes")

    def _take(self, words: list[Any]) -> None:
        assert self._local is not None, "heard after the start only"
        match words:
            case ["here", node, rows] if node != self.node:
                self._learn(node, rows)
            case ["revoked", gateway]:
                self._local.revoked_here(gateway)
            case ["outbox", gateway]:
                self._local.outbox_grew_here(gateway)
            case ["call", id_, node, "ask", gateway, frame]:
                question = decode(frame)
                if isinstance(question, Ask):
                    self._serve(id_, self._answer(id_, node, self._asked(gateway, question)))
            case ["call", id_, node, "ping", gateway]:
                self._serve(id_, self._answer(id_, node, self._local.answers_here(gateway)))
            case ["cancel", id_] if id_ in self._serving:
                self._serving[id_].cancel()
            case ["answer", id_, value] if id_ in self._waiting and not self._waiting[id_].done():
                self._waiting[id_].set_result(value)
            case _:
                pass  # a newer process's word

    def _learn(self, node: str, rows: list[Any]) -> None:
        assert self._local is not None, "heard after the start only"
        self._elsewhere = {gateway: one for gateway, one in self._elsewhere.items() if one.node != node}
        until = time.monotonic() + BELIEVE_S
        for gateway, instance, connection in rows:
            known = self._elsewhere.get(gateway)
            if known is None or known.connection < connection:
                self._elsewhere[gateway] = _Elsewhere(node, instance, connection, until)
            self._local.came_elsewhere(gateway, connection)

    async def _asked(self, gateway: str, question: Ask) -> list[Any]:
        assert self._local is not None, "heard after the start only"
        try:
            answer = await self._local.ask_here(gateway, question)
        except QueryFailed as failed:
            return [failed.code.value, 0, "", b""]
        return ["", answer.count, answer.next_page, answer.body]

    async def _answer(self, id_: str, node: str, work: Awaitable[Any]) -> None:
        await self._say(self._of(node), ["answer", id_, await work])
