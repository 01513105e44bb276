"""Which gateways are connected to this process, and what may be done with them.

Two connections of one identity: one program that came back (same ``instance``) replaces its former connection at once.
Another program with the same key is let in only when the present one no longer answers; while it answers, the
newcomer is refused as ``already_connected`` and an alarm is written. The other way round, the older being
fenced, two clones of one machine would throw each other out for ever, and nobody would see which of them
the hospital believes in. [LK17]

Handshake is `admission.py`, one connection `session.py`. Several hub processes on one database: each knows its own
connections; a gateway that comes to another process is fenced here by the database, but a question is
asked only by the process that has the connection.
"""

import asyncio
from collections.abc import Callable

import structlog
from aiohttp import web

from server.gateway.core.responder import QueryCode, QueryFailed
from server.lock.aio.admission import Admission, Admitted, NotLetIn, Proved
from server.lock.aio.inbox import From, Inbox
from server.lock.aio.pipe import Pipe, PipeClosed
from server.lock.aio.session import WINDOW_BYTES, WINDOW_COUNT, LockSession
from server.lock.core.answers import WholeAnswer
from server.lock.core.link import Receiver, Sender
from server.lock.core.wire import FRAME_BYTES, Ask, Welcome, WireError
from server.metrics import LOCK_GATEWAYS, LOCK_REFUSED
from server.storage import audit
from server.storage.database import Database

log = structlog.get_logger(__name__)

STRANGERS = 64
"""Connections that have not proved anything yet, at one time."""
ANSWERS_S = 3.0
"""A connection that does not answer a ping within this is given up for the one that has just come."""
ALARM_EVERY_US = 60_000_000


class LockDesk:
    """Every gateway connection of this process."""

    def __init__(self, database: Database, admission: Admission, inbox: Inbox, now_us: Callable[[], int]) -> None:
        self._database, self._admission, self._inbox, self._now_us = database, admission, inbox, now_us
        self._live: dict[str, LockSession] = {}
        self._entering: dict[str, asyncio.Lock] = {}
        self._strangers = 0
        self._alarmed: dict[str, int] = {}
        self._stopping = False
        self._connections: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------ connections

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """One WebSocket, from its first byte to its last."""
        socket = web.WebSocketResponse(max_msg_size=FRAME_BYTES, compress=False, autoping=True)
        await socket.prepare(request)
        pipe = Pipe(socket)
        if self._stopping or self._strangers >= STRANGERS:
            await pipe.leave("stopping" if self._stopping else "busy")
            return socket
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(pipe)
        finally:
            self._connections.discard(task)
        return socket

    async def _serve(self, pipe: Pipe) -> None:
        self._strangers += 1
        try:
            proved = await self._admission.prove(pipe)
        except NotLetIn as refused:
            LOCK_REFUSED.labels(refused.code).inc()
            await pipe.leave(refused.code, refused.reason)
            return
        except (WireError, PipeClosed, TimeoutError) as problem:
            LOCK_REFUSED.labels("protocol").inc()
            await pipe.leave("protocol", problem.reason if isinstance(problem, WireError) else "")
            return
        finally:
            self._strangers -= 1
        gateway = proved.hello.gateway
        lock = self._entering.setdefault(gateway, asyncio.Lock())
        async with lock:
            session = await self._enter(pipe, proved)
        if session is None:
            return
        try:
            ended = await session.run()
        finally:
            if self._live.get(gateway) is session:
                del self._live[gateway]
            LOCK_GATEWAYS.set(len(self._live))
            await asyncio.shield(self._admission.gone(gateway, session.origin.connection))
        log.info("gateway left", gateway=gateway, code_=ended.code or "gone")

    async def _enter(self, pipe: Pipe, proved: Proved) -> LockSession | None:
        gateway = proved.hello.gateway
        try:
            await self._make_room(proved)
            admitted = await self._admission.admit(proved)
        except NotLetIn as refused:
            LOCK_REFUSED.labels(refused.code).inc()
            log.warning("gateway not let in", gateway=gateway, code_=refused.code)
            await pipe.leave(refused.code, refused.reason)
            return None
        session = await self._welcome(pipe, proved, admitted)
        self._live[gateway] = session
        LOCK_GATEWAYS.set(len(self._live))
        log.info("gateway connected", gateway=gateway, connection=admitted.connection, up_to=admitted.up_to)
        return session

    async def _make_room(self, proved: Proved) -> None:
        present = self._live.get(proved.hello.gateway)
        if present is None:
            return
        if present.instance != proved.hello.instance and await present.answers_ping(ANSWERS_S):
            await self._alarm(proved.hello.gateway, "already_connected")
            raise NotLetIn("already_connected", "another program with this identity is connected and answers")
        present.end("replaced")
        await present.ended.wait()

    async def _welcome(self, pipe: Pipe, proved: Proved, admitted: Admitted) -> LockSession:
        hello = proved.hello
        origin = From(
            gateway=hello.gateway, hospital=proved.hospital, stream=hello.stream, connection=admitted.connection,
            sequence=0, source="",
        )  # fmt: skip
        session = LockSession(
            pipe,
            origin,
            hello.instance,
            Receiver(up_to=admitted.up_to, mark=admitted.mark),
            Sender(
                up_to=admitted.inward_up_to,
                settled=admitted.inward_up_to,
                window_count=WINDOW_COUNT,
                window_bytes=WINDOW_BYTES,
            ),
            self._inbox,
            self._database,
            self._now_us,
        )
        pipe.say(
            Welcome(
                connection=admitted.connection,
                up_to=admitted.up_to,
                mark=admitted.mark,
                window_count=WINDOW_COUNT,
                window_bytes=WINDOW_BYTES,
                inward_reset=admitted.inward_reset,
                now_us=self._now_us(),
            )
        )
        for first, last, verdict in await self._inbox.verdicts(hello.gateway, hello.stream, hello.settled):
            session.acknowledge(first, [verdict] * (last - first + 1))
        return session

    # ------------------------------------------------------------ use

    def connected(self, gateway: str) -> bool:
        """Whether a gateway is connected to this process."""
        return gateway in self._live

    def offset_us(self, gateway: str) -> int | None:
        """How far a connected gateway's clock is from ours."""
        session = self._live.get(gateway)
        return None if session is None else session.offset_us

    async def ask(self, gateway: str, question: Ask) -> WholeAnswer:
        """Ask a hospital.

        Raises:
            QueryFailed: ``unavailable`` when it is not connected here, or the gateway's own code.
        """
        session = self._live.get(gateway)
        if session is None:
            raise QueryFailed(QueryCode.UNAVAILABLE)
        return await session.ask(question)

    def outbox_grew(self, gateway: str) -> None:
        """Something was queued for a hospital: send it now."""
        session = self._live.get(gateway)
        if session is not None:
            session.outbox_hint.set()

    def revoked(self, gateway: str) -> None:
        """Cut the connection at once; what it still holds cannot be committed any more. [LK19]"""
        session = self._live.get(gateway)
        if session is not None:
            session.end("revoked")

    async def stop(self) -> None:
        """Say goodbye to all and wait until they are gone; idempotent."""
        self._stopping = True
        for session in list(self._live.values()):
            session.end("stopping")
        if self._connections:
            _done, late = await asyncio.wait(self._connections, timeout=5)
            for task in late:
                task.cancel()

    async def _alarm(self, gateway: str, code: str) -> None:
        """At most one row a minute for each gateway: a newcomer tries again and again."""
        now_us = self._now_us()
        log.error("second gateway with the same identity", gateway=gateway)
        if now_us - self._alarmed.get(gateway, -ALARM_EVERY_US) < ALARM_EVERY_US:
            return
        self._alarmed[gateway] = now_us
        body = {"gateway": gateway, "code": code}
        async with self._database.write() as session:
            await audit.append(session, [audit.Entry(kind="lock_alarm", at_ms=now_us // 1_000, body=body)])
