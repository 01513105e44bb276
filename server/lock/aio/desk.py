"""Which gateways are connected to this process, and what may be done with them.

Two connections of one identity: one program that came back (same ``instance``) replaces its former connection at once.
Another program with the same key is let in only when the present one no longer answers; while it answers, the
newcomer is refused as ``already_connected`` and an alarm is written. The other way round, the older being
fenced, two clones of one machine would throw each other out for ever, and nobody would see which of them
the hospital believes in. [LK17]

Handshake is `admission.py`, one connection `session.py`. Several hub processes on one database: each knows its own
connections, and by `nodes.py` those of the others; what an older connection still commits is fenced by the database.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from server.gateway.core.responder import QueryCode, QueryFailed
from server.lock.aio.admission import Admission, Admitted, NotLetIn, Proved
from server.lock.aio.inbox import From, Inbox
from server.lock.aio.nodes import Here, LockNodes
from server.lock.aio.pipe import Pipe, PipeClosed
from server.lock.aio.session import WINDOW_BYTES, WINDOW_COUNT, LockSession
from server.lock.aio.vault import Vault
from server.lock.core.answers import WholeAnswer
from server.lock.core.link import Receiver, Sender
from server.lock.core.wire import FRAME_BYTES, Ask, Welcome, WireError
from server.metrics import LOCK_GATEWAYS, LOCK_REFUSED
from server.storage import audit
from server.storage.database import Database

log = structlog.get_logger(__name__)

STRANGERS = 64
"""Connections that have not proved anything yet, at one time."""
STRANGERS_OF_ONE = 16
"""Of these, from one address: a machine that opens connections and says nothing keeps nobody else out."""
ANSWERS_S = 3.0
"""A connection that does not answer a ping within this is given up for the one that has just come."""
ALARM_EVERY_US = 60_000_000


async def nothing() -> None:
    """Where nobody counts failed handshakes."""


class LockDesk:
    """Every gateway connection of this process.

    Args:
        nodes: the other processes of this hub; None where there are none.
    """

    def __init__(
        self,
        database: Database,
        admission: Admission,
        inbox: Inbox,
        vault: Vault,
        now_us: Callable[[], int],
        nodes: LockNodes | None = None,
    ) -> None:
        self._database, self._admission, self._inbox, self._now_us = database, admission, inbox, now_us
        self._vault, self._nodes = vault, nodes
        self._live: dict[str, LockSession] = {}
        self._entering: dict[str, asyncio.Lock] = {}
        self._revoked: set[str] = set()
        self._strangers: Counter[str] = Counter()
        self._alarmed: dict[str, int] = {}
        self._stopping = False
        self._connections: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------ connections

    async def serve(
        self, request: web.Request, address: str = "", failed: Callable[[], Awaitable[None]] = nothing
    ) -> web.WebSocketResponse:
        """One WebSocket, from its first byte to its last.

        Args:
            address: of the caller, for the limit of strangers.
            failed: called when the handshake fails.
        """
        socket = web.WebSocketResponse(max_msg_size=FRAME_BYTES, compress=False, autoping=True)
        await socket.prepare(request)
        pipe = Pipe(socket)
        many = self._strangers.total() >= STRANGERS or self._strangers[address] >= STRANGERS_OF_ONE
        if self._stopping or many:
            await pipe.leave("stopping" if self._stopping else "busy")
            return socket
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(pipe, address, failed)
        finally:
            self._connections.discard(task)
        return socket

    async def _serve(self, pipe: Pipe, address: str, failed: Callable[[], Awaitable[None]]) -> None:
        proved = await self._proved(pipe, address, failed)
        if proved is None:
            return
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
            self._changed()
            await asyncio.shield(self._admission.gone(gateway, session.origin.connection))
        log.info("gateway left", gateway=gateway, code_=ended.code or "gone")

    async def _proved(self, pipe: Pipe, address: str, failed: Callable[[], Awaitable[None]]) -> Proved | None:
        self._strangers[address] += 1
        try:
            return await self._admission.prove(pipe)
        except NotLetIn as refused:
            code, reason = refused.code, refused.reason
        except (WireError, PipeClosed, TimeoutError) as problem:
            code, reason = "protocol", problem.reason if isinstance(problem, WireError) else ""
        except SQLAlchemyError:
            await pipe.leave("unavailable")
            return None
        finally:
            self._strangers[address] -= 1
            if not self._strangers[address]:
                del self._strangers[address]
        LOCK_REFUSED.labels(code).inc()
        await failed()
        await pipe.leave(code, reason)
        return None

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
        except SQLAlchemyError:
            await pipe.leave("unavailable")
            return None
        session = self._live[gateway] = self._welcome(pipe, proved, admitted)
        if gateway in self._revoked:  # between the commit that let it in and now
            session.end("revoked")
        LOCK_GATEWAYS.set(len(self._live))
        self._changed()
        log.info("gateway connected", gateway=gateway, connection=admitted.connection, up_to=admitted.up_to)
        return session

    async def _make_room(self, proved: Proved) -> None:
        gateway, instance = proved.hello.gateway, proved.hello.instance
        present = self._live.get(gateway)
        if present is None:
            elsewhere = None if self._nodes is None else self._nodes.instance_of(gateway)
            if self._nodes is None or elsewhere in (None, instance):
                return  # the same program's former connection ends when the others hear of this one
            if await self._nodes.answers_ping(gateway, ANSWERS_S + 1):
                await self._alarm(gateway, "already_connected")
                raise NotLetIn("already_connected", "another program with this identity is connected and answers")
            return
        if present.instance != proved.hello.instance and await present.answers_ping(ANSWERS_S):
            await self._alarm(proved.hello.gateway, "already_connected")
            raise NotLetIn("already_connected", "another program with this identity is connected and answers")
        present.end("replaced")
        await present.ended.wait()

    def _welcome(self, pipe: Pipe, proved: Proved, admitted: Admitted) -> LockSession:
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
            self._vault,
            self._database,
            self._now_us,
            hello.settled,
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
        return session

    def _changed(self) -> None:
        if self._nodes is not None:
            self._nodes.changed()

    # ------------------------------------------------------------ use

    def connected(self, gateway: str) -> bool:
        """Whether a gateway is connected to this hub."""
        return gateway in self._live or (self._nodes is not None and self._nodes.has(gateway))

    def offset_us(self, gateway: str) -> int | None:
        """How far a connected gateway's clock is from ours."""
        session = self._live.get(gateway)
        return None if session is None else session.offset_us

    async def ask(self, gateway: str, question: Ask) -> WholeAnswer:
        """Ask a hospital.

        Raises:
            QueryFailed: ``unavailable`` when it is not connected, or the gateway's own code.
        """
        if gateway not in self._live and self._nodes is not None:
            return await self._nodes.ask(gateway, question)
        return await self.ask_here(gateway, question)

    def outbox_grew(self, gateway: str) -> None:
        """Something was queued for a hospital: send it now."""
        if gateway not in self._live and self._nodes is not None:
            self._nodes.outbox_grew(gateway)
        self.outbox_grew_here(gateway)

    async def revoked(self, gateway: str) -> None:
        """Cut the connection at once, wherever it is; what it still holds cannot be committed any more. [LK19]"""
        self.revoked_here(gateway)
        if self._nodes is not None:
            await self._nodes.tell_revoked(gateway)

    # ------------------------------------------------------------ as other processes use it (`nodes.Local`)

    def here(self) -> dict[str, Here]:
        """Gateways connected to this process."""
        return {gateway: (one.instance, one.origin.connection) for gateway, one in self._live.items()}

    async def ask_here(self, gateway: str, question: Ask) -> WholeAnswer:
        """Ask a hospital whose gateway is connected to this process.

        Raises:
            QueryFailed: it is not, or as `ask`.
        """
        session = self._live.get(gateway)
        if session is None:
            raise QueryFailed(QueryCode.UNAVAILABLE)
        return await session.ask(question)

    async def answers_here(self, gateway: str) -> bool:
        """Whether a gateway connected to this process is really there."""
        session = self._live.get(gateway)
        return session is not None and await session.answers_ping(ANSWERS_S)

    def revoked_here(self, gateway: str) -> None:
        """See `revoked`."""
        self._revoked.add(gateway)
        session = self._live.get(gateway)
        if session is not None:
            session.end("revoked")

    def outbox_grew_here(self, gateway: str) -> None:
        """See `outbox_grew`."""
        session = self._live.get(gateway)
        if session is not None:
            session.outbox_hint.set()

    def came_elsewhere(self, gateway: str, connection: int) -> None:
        """Another process let a newer connection of this gateway in: the one here is fenced off already."""
        session = self._live.get(gateway)
        if session is not None and session.origin.connection < connection:
            session.end("replaced")

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
