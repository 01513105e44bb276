"""Sockets: the only importer of python-socketio.

python-socketio keeps the connections (handshake, ping, close); everything a
client sends passes `decode_frame` first. Commands never reach its dispatcher:
they go to the session's inbox, and answers and events leave through the
session's outbox in one order.

What is relied on without being documented, each held by a test against a real
server in ``tests/integration/signaling``: ``eio.handlers`` (to wrap the three engine
events), ``eio.sockets[...]`` with its ``closed`` and ``last_ping`` (while that is None
the engine makes no pings) and ``eio._async["websocket"]`` (``line.py``: what reads,
writes and pings in the engine's stead).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any

import socketio
from aiohttp import web
from pydantic import Field, ValidationError
from socketio.exceptions import ConnectionRefusedError as SocketRefused
from socketio.packet import Packet

from signaling.aio.line import Line
from signaling.aio.pings import Pings
from signaling.aio.service import ConsultService
from signaling.aio.session import Session, SessionLimits
from signaling.core import frames
from signaling.core.admission import Admission
from signaling.core.arrivals import Arrivals
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.messages import PROTOCOL_VERSION, AnyCommand, Join, RefusalBody
from signaling.core.model import Value

log = logging.getLogger(__name__)

VerifyToken = Callable[[str], Awaitable[Admission]]

_CONNECTION = "consilium.connection"
"""Key of our connection in python-engineio's environ."""

_AT_ONCE_BYTES = 16 * 1024
"""A frame of this size fits any transport's empty buffer; longer ones wait their turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewaySettings:
    """Times and limits of sockets."""

    path: str = "/socket.io/"
    ping_interval_s: float = 5.0
    ping_timeout_s: float = 5.0
    """With the interval, a dead wall display is noticed within 10 s (ARCHITECTURE section 8)."""
    handshake_s: float = 5.0
    """A socket that has shown no valid token by then is closed."""
    verify_timeout_s: float = 5.0
    strangers: int = 1024
    """Sockets without a token at one time; each costs a descriptor."""
    strangers_per_address: int = 512
    """Of these, from one address: twice as many as may be on the way in, since a hospital, or a proxy, may sit behind
    one; but one must not keep all others out."""
    lag_look_s: float = 0.05
    """How often it is looked how late the event loop is, which decides how many may come at once. [SE16]"""
    sockets_per_participant: int = 4
    """A page that reconnects has two for a moment; whoever collects more loses the oldest."""
    goodbye_s: float = 2.0
    """How long a goodbye may take to leave before the connection is cut."""
    malformed_limit: int = 5
    too_busy_pause_s: float = 0.02
    """Pause in reading per command refused as too_busy: a flood is slowed by its own TCP window."""
    session: SessionLimits = field(default_factory=SessionLimits)


class Hello(Value):
    """The ``auth`` of a connect. [SE7]"""

    token: str = Field(min_length=1, max_length=4096)
    protocol: int


@dataclass(slots=True, eq=False)
class _Connection:
    """One WebSocket."""

    eio_sid: str
    request: web.Request
    deadline: asyncio.TimerHandle
    stranger: bool = True
    """Has shown no token yet."""
    sid: str = ""
    websocket: Line | None = None
    greeted: bool = False
    """A connect was sent; there is only one."""
    malformed: int = 0
    session: Session | None = None
    closer: "asyncio.Task[None] | None" = None


class _MsgPackPacket(Packet):  # type: ignore[misc] # python-socketio has no types
    """python-socketio's own packets (connect answers, disconnects) in our encoding."""

    uses_binary_events = False

    def encode(self) -> bytes:
        return frames.encode_frame(frames.Frame(self.packet_type, self.data, self.id))

    def decode(self, encoded_packet: object) -> int:
        frame = frames.decode_frame(encoded_packet)
        self.packet_type, self.data, self.id, self.namespace = frame.type, frame.data, frame.id, "/"
        return 0


class SignalingGateway:
    """The signalling socket of one server.

    Args:
        verify_token: admits or raises ``Refusal``; a token is good for one connect.
        origins: public origins of pages that may connect, or a function that knows them.
            Programs send no Origin and are let through: they still need a token.
        arrivals: the door where tokens are given out; one of its own unless given.
    """

    def __init__(
        self,
        service: ConsultService,
        verify_token: VerifyToken,
        origins: Collection[str] | Callable[[str], bool],
        settings: GatewaySettings = GatewaySettings(),
        arrivals: Arrivals | None = None,
    ) -> None:
        self.arrivals = arrivals or Arrivals()
        """Who is on the way in; told how late the event loop is. [SE16]"""
        self.counters: Counter[str] = Counter()
        """``malformed_frames``, ``refused_connects``, ``too_busy``, ``goodbye_<reason>``; only ever grow."""
        self._service = service
        self._verify_token = verify_token
        self._origins = origins if callable(origins) else frozenset(origins).__contains__
        self._settings = settings
        self._connections: dict[str, _Connection] = {}
        self._strangers: Counter[str | None] = Counter()
        """By address, of those who are here."""
        self._looking: asyncio.TimerHandle | None = None
        self._open: dict[tuple[str, str], list[Session]] = {}
        """Sessions by consult and participant, the oldest first."""
        self._pings = Pings(settings.ping_interval_s, settings.ping_timeout_s)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._sio = self._build_server()
        self._sio.on("connect", self._greet)
        engine = self._sio.eio
        self._dispatch = engine.handlers["message"]
        self._engine_opened = engine.handlers["connect"]
        self._engine_closed = engine.handlers["disconnect"]
        engine.on("connect", self._opened)
        engine.on("message", self._received)
        engine.on("disconnect", self._closed)
        engine._async = {**engine._async, "websocket": self._websocket}

    def _build_server(self) -> Any:
        quiet = logging.getLogger("signaling.socketio")
        quiet.setLevel(logging.WARNING)  # below that it logs every packet, tokens included
        return socketio.AsyncServer(
            async_mode="aiohttp",
            serializer=_MsgPackPacket,
            transports=["websocket"],
            cors_allowed_origins=self._is_allowed_origin,
            always_connect=False,
            max_http_buffer_size=frames.MAX_FRAME_BYTES,
            ping_interval=self._settings.ping_interval_s,
            ping_timeout=self._settings.ping_timeout_s,
            monitor_clients=False,
            logger=quiet,
            engineio_logger=quiet,
        )

    # ------------------------------------------------------------ life

    @property
    def sessions(self) -> int:
        """Sockets that have been admitted."""
        return len(self._connections) - self.strangers

    @property
    def fullest_outbox(self) -> int:
        """Frames that wait for the socket that has most of them waiting; looks at every session."""
        return max((one.pending for same in self._open.values() for one in same), default=0)

    @property
    def strangers(self) -> int:
        """Sockets that have not, or not yet."""
        return self._strangers.total()

    @property
    def admissions(self) -> list[Admission]:
        """The rights by which somebody is here now, or may come back without a word: what is to be looked at again."""
        live = [c.session.admission for c in self._connections.values() if c.session is not None]
        return list({id(one): one for one in [*live, *self._service.admitted]}.values())

    def drop(self, over: Callable[[Admission], bool]) -> None:
        """End every session whose right is over, now: goodbye, the participant leaves, its media stops. [SE12]"""
        for connection in list(self._connections.values()):
            if connection.session is not None and over(connection.session.admission):
                connection.session.goodbye("removed", at_once=True)
        self._service.dismiss(over)

    def attach(self, app: web.Application) -> None:
        """Serve on the application's router. Only GET: there is no long polling."""
        app.router.add_get(self._settings.path, self._handle)

    async def _handle(self, request: web.Request) -> Any:
        """A request for a socket, turned away before it costs one when too many strangers are here. [SE13]"""
        most, most_here = self._settings.strangers, self._settings.strangers_per_address
        if self.strangers >= most or self._strangers[request.remote] >= most_here:
            self.counters["too_many_strangers"] += 1
            return web.Response(status=503, headers={"Retry-After": "5"})
        return await self._sio.handle_request(request)

    async def start(self) -> None:
        """Start the service behind it."""
        await self._service.start()
        self._look_later()

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._settings.lag_look_s
        self._looking = loop.call_at(due_s, self._look, due_s)

    def _look(self, due_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        self.arrivals.lagged(now_s - due_s, now_s)
        self._look_later()

    async def drain(self, stops_at_ms: int) -> None:
        """Let no consult begin, tell everyone until when those that run may go on, and return when none does. [SE14]"""
        self._service.drain(stops_at_ms)
        await self._service.quiet()

    @property
    def running(self) -> int:
        """Consults in which a person is."""
        return self._service.running

    async def stop(self) -> None:
        """Say goodbye to everyone, then end the service; idempotent. [SE9]"""
        if self._stopping:
            return
        self._stopping = True
        if self._looking is not None:
            self._looking.cancel()
        for connection in list(self._connections.values()):
            if connection.session is not None:
                connection.session.goodbye("server_stopping")
            else:
                self._cut(connection)
        closing = [self._spawn(self._gone(c, c.session)) for c in self._connections.values() if c.session is not None]
        if closing:
            await asyncio.wait(closing, timeout=2 * self._settings.goodbye_s)
        while self._connections:
            _, connection = self._connections.popitem()
            self._no_stranger(connection)
            self._cut(connection)
            await self._drop(connection)
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.goodbye_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._service.stop()
        await self._sio.shutdown()

    # ------------------------------------------------------------ connect

    def _is_allowed_origin(self, origin: str | None, environ: object) -> bool:
        """The Origin header against our own list; never the Host or X-Forwarded-* that anyone can send. [SE7]"""
        return origin is not None and self._origins(origin)

    def _websocket(self, handler: Any, server: Any) -> Line:
        return Line(handler, server, self._pings, lambda environ: environ[_CONNECTION], self._text_frame)

    async def _opened(self, eio_sid: str, environ: dict[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        connection = _Connection(
            eio_sid,
            environ["aiohttp.request"],
            loop.call_later(self._settings.handshake_s, lambda: self._cut_stranger(eio_sid)),
        )
        environ[_CONNECTION] = connection
        self._connections[eio_sid] = connection
        self._sio.eio.sockets[eio_sid].last_ping = None
        self._strangers[connection.request.remote] += 1
        return await self._engine_opened(eio_sid, environ)

    async def _greet(self, sid: str, environ: dict[str, Any], auth: object) -> None:
        """python-socketio's connect handler: admit or refuse. [SE7]"""
        connection: _Connection = environ[_CONNECTION]
        try:
            admission = await self._admit(auth)
        except Refusal as refusal:
            self.counters["refused_connects"] += 1
            connection.deadline.cancel()
            loop = asyncio.get_running_loop()
            # The answer leaves first; the client has no business here after it.
            connection.deadline = loop.call_later(1.0, lambda: self._cut_stranger(connection.eio_sid))
            body = RefusalBody(code=refusal.code.value, en=refusal.en, zh=refusal.zh)
            raise SocketRefused(refusal.code.value, body.model_dump()) from None
        connection.deadline.cancel()
        connection.sid = sid
        self.arrivals.came((admission.consult, admission.participant), asyncio.get_running_loop().time())
        self._no_stranger(connection)
        connection.session = self._new_session(connection, admission)
        self._bound_sockets(connection, connection.session)

    def _bound_sockets(self, connection: _Connection, session: Session) -> None:
        """[SE13]"""
        if self._connections.get(connection.eio_sid) is not connection:
            return  # lost while its token was looked at
        same = self._open.setdefault(_seat(session.admission), [])
        same.append(session)
        staying = [one for one in same if one.goodbye_reason is None]
        for older in staying[: -self._settings.sockets_per_participant]:
            older.goodbye("replaced")

    def _no_stranger(self, connection: _Connection) -> None:
        """It has shown a token, or is gone; idempotent."""
        if connection.stranger:
            connection.stranger = False
            address = connection.request.remote
            self._strangers[address] -= 1
            if not self._strangers[address]:
                del self._strangers[address]

    async def _admit(self, auth: object) -> Admission:
        try:
            hello = Hello.model_validate(auth)
        except ValidationError:
            raise Refusal(ErrorCode.TOKEN_INVALID) from None
        if hello.protocol != PROTOCOL_VERSION:
            raise Refusal(ErrorCode.PROTOCOL_VERSION)
        if self._stopping:
            raise Refusal(ErrorCode.TOO_BUSY)
        try:
            async with asyncio.timeout(self._settings.verify_timeout_s):
                return await self._verify_token(hello.token)
        except Refusal:
            raise
        except Exception:  # a bug in the check must not let anyone in, nor leave the client without an answer
            log.exception("token check failed")
            raise Refusal(ErrorCode.INTERNAL) from None

    def _new_session(self, connection: _Connection, admission: Admission) -> Session:
        def finished() -> None:
            assert connection.session is not None
            connection.closer = self._spawn(self._close_finished(connection, connection.session))

        return Session(
            admission,
            lambda frame: self._send_now(connection, frame),
            lambda frame: self._send(connection, frame),
            self._execute,
            finished,
            asyncio.get_running_loop().time,
            self._settings.session,
        )

    async def _execute(self, session: Session, command: AnyCommand) -> Value:
        """Carry out a command; a join is the last step of an arrival, whatever comes of it. [SE16]"""
        if not isinstance(command, Join):
            return await self._service.execute(session, command)
        now_s = asyncio.get_running_loop().time
        arrival = self.arrivals.enter((session.admission.consult, session.admission.participant), now_s())
        try:
            joined = await self._service.execute(session, command)
            if arrival is not None:
                self.arrivals.arrived(arrival, now_s())
            return joined
        finally:
            if arrival is not None:
                self.arrivals.give_up(arrival)

    # ------------------------------------------------------------ traffic

    async def _received(self, eio_sid: str, data: object) -> None:
        """Every message of every socket, in the order of each; the engine reads on when this returns."""
        connection = self._connections.get(eio_sid)
        if connection is None or connection.malformed > self._settings.malformed_limit:
            return
        try:
            frame = frames.decode_frame(data)
            if (frame.type == frames.CONNECT) == connection.greeted:
                raise frames.MalformedFrame("connect comes first, and once")
        except frames.MalformedFrame:
            self._count_malformed(connection)
            return
        if frame.type == frames.EVENT:
            await self._command(connection, frame)
        else:
            connection.greeted = True
            await self._dispatch(eio_sid, data)
            if frame.type == frames.DISCONNECT:
                self._hang_up(connection)

    async def _command(self, connection: _Connection, frame: frames.Frame) -> None:
        if connection.session is None or connection.session.goodbye_reason is not None:
            return
        assert frame.id is not None
        if not connection.session.receive(frame.id, frame.data[1]):
            self.counters["too_busy"] += 1
            await asyncio.sleep(self._settings.too_busy_pause_s)

    def _text_frame(self, environ: dict[str, Any], text: str) -> bool:
        """Of engine.io's text frames a client may send pong and close; whether to go on. [WF4]"""
        connection: _Connection | None = environ.get(_CONNECTION)
        if connection is None:
            return False
        self._count_malformed(connection)
        return connection.malformed <= self._settings.malformed_limit

    def _count_malformed(self, connection: _Connection) -> None:
        """One counter, no log line per frame; the limit ends the connection. [WF3]"""
        self.counters["malformed_frames"] += 1
        connection.malformed += 1
        if connection.malformed == self._settings.malformed_limit:
            if connection.session is not None:
                connection.session.goodbye("malformed")
            else:
                self._cut(connection)

    def _send_now(self, connection: _Connection, frame: bytes) -> bool:
        """Put a frame on the wire if all before it has left this process; whether that was so."""
        socket, websocket = self._sio.eio.sockets.get(connection.eio_sid), connection.websocket
        transport = connection.request.transport
        if (
            socket is None
            or websocket is None
            or transport is None
            or len(frame) > _AT_ONCE_BYTES
            or socket.closed
            or transport.get_write_buffer_size()
        ):
            return False
        if not websocket.write_now(frame):
            self._cut(connection)  # it comes back and asks for what it missed
        return True

    async def _send(self, connection: _Connection, frame: bytes) -> None:
        """Put a frame on the wire; returns when there is room for another.

        Waiting for it here makes the session's outbox the only place where
        frames pile up.
        """
        socket = self._sio.eio.sockets.get(connection.eio_sid)
        if socket is None or socket.closed or connection.websocket is None:
            return
        try:
            await connection.websocket.write(frame)
        except (ConnectionError, RuntimeError):  # as aiohttp says that it is closed, or closing
            self._cut(connection)

    # ------------------------------------------------------------ close

    async def _gone(self, connection: _Connection, session: Session) -> None:
        """Wait for the end of who was told goodbye, and who may still be waiting for an answer before it."""
        await session.answered()
        if connection.closer is not None:
            await asyncio.wait([connection.closer])

    async def _close_finished(self, connection: _Connection, session: Session) -> None:
        """After a goodbye: flush, disconnect, close; cut when the peer does not read."""
        self.counters[f"goodbye_{session.goodbye_reason}"] += 1
        await session.flushed(self._settings.goodbye_s)
        try:
            async with asyncio.timeout(self._settings.goodbye_s):
                await self._sio.disconnect(connection.sid)
        except TimeoutError:
            self.counters["cut"] += 1
        self._hang_up(connection)

    def _hang_up(self, connection: _Connection) -> None:
        """Close the TCP connection once what was written has left, and soon in any case."""
        transport = connection.request.transport
        if transport is not None:
            transport.close()
            asyncio.get_running_loop().call_later(self._settings.goodbye_s, transport.abort)

    def _cut(self, connection: _Connection) -> None:
        transport = connection.request.transport
        if transport is not None:
            transport.abort()

    def _cut_stranger(self, eio_sid: str) -> None:
        connection = self._connections.get(eio_sid)
        if connection is not None and connection.session is None:
            self._cut(connection)

    async def _closed(self, eio_sid: str, reason: str) -> None:
        """The engine has lost the socket, for whatever reason."""
        connection = self._connections.pop(eio_sid, None)
        if connection is not None:
            self._no_stranger(connection)
        await self._engine_closed(eio_sid, reason)
        if connection is not None:
            connection.deadline.cancel()
            self._spawn(self._drop(connection))

    async def _drop(self, connection: _Connection) -> None:
        session = connection.session
        if session is None:
            return
        same = self._open.get(_seat(session.admission), [])
        if session in same:
            same.remove(session)
        if not same:
            self._open.pop(_seat(session.admission), None)
        await session.stop()
        if session.goodbye_reason == "removed":
            # Again, for the case that a `join` was under way when the right ended.
            self._service.dismiss(lambda admission: admission is session.admission)
        elif not self._stopping:
            await self._service.detach(session)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("connection task failed", exc_info=error)


def _seat(admission: Admission) -> tuple[str, str]:
    return admission.consult, admission.participant
