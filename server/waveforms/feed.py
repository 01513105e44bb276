"""The WebSocket way of waveforms: ``/ws/waveforms``, for browsers that no data channel reaches.

Binary messages only. The first byte is 0 for control and 1 for what a data channel would carry: a frame or a vital
sign, the same bytes. The first message is a control map ``{"t": "hello", "token": consult token}``; the token is one
of a kind with the signalling socket's, good for one connect. Then ``ping``, ``nack`` and ``have`` are answered as the
relay answers them, from the ring of a quarter of an hour.

A viewer gets what belongs to the context that is open now: frames of another version or patient are not sent (H21).
Live frames are dropped for one who is slow (more than 32 kB wait), an ordinary gap that it repairs with ``nack``; what
it asked for waits in a bounded backlog behind the live ones. Its right is looked at again every ten seconds.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack
import structlog
from aiohttp import WSMsgType, web
from sqlalchemy.exc import SQLAlchemyError

from media.core.waveform import Flag, Place, with_flags
from server.identity.aio.tokens import ConsultTokens
from server.identity.core.tokens import TokenInvalid
from server.metrics import WAVEFORM_FEED
from server.waveforms.core.answers import Asker, ControlRefused, Ping, Wanted, gone_map, pong
from server.waveforms.core.stream import StreamInfo
from server.waveforms.desk import LiveStream, Watching, WaveformDesk
from server.waveforms.ring import RingUnavailable
from signaling.core.admission import Admission
from signaling.core.arrivals import Arrivals
from signaling.core.model import Consult, Role, VitalsStream
from signaling.core.ports import ConsultStore

log = structlog.get_logger(__name__)

PATH: Final = "/ws/waveforms"
CTL, DATA = b"\x00", b"\x01"
HELLO_S: Final = 5.0
HEARTBEAT_S: Final = 5.0
LIVE_LIMIT_BYTES: Final = 32_768
BACKLOG_FRAMES: Final = 1024
BACKLOG_ROOM_BYTES: Final = 16_384
CONTROL_LIMIT: Final = 256
KERNEL_BYTES: Final = 32_768
MAX_MESSAGE_BYTES: Final = 4096
SOCKETS: Final = 2048
STRANGERS: Final = 512
"""Sockets that have not said who they are; each has `HELLO_S` for it."""
STRANGERS_PER_ADDRESS: Final = 64
"""Of these, from one address: a hospital may sit behind one, but one must not keep all others out."""
SOCKETS_PER_PARTICIPANT: Final = 4
LOOK_EVERY_S: Final = 10.0
CONTEXT_EVERY_S: Final = 2.0
SEND_S: Final = 20.0
"""A viewer that takes nothing for so long is gone."""
ROLES: Final = frozenset({Role.DOCTOR, Role.NURSE, Role.GUEST, Role.SCREEN})
CLOSE_TOKEN, CLOSE_OVER, CLOSE_BUSY, CLOSE_HELLO = 4401, 4403, 4429, 4400


@dataclass(slots=True)
class _Context:
    """What is open in a consult, as the store said last."""

    version: int = 0
    patient: str = ""
    participants: frozenset[str] = frozenset()
    stale: asyncio.Event = field(default_factory=asyncio.Event)
    viewers: int = 0
    task: asyncio.Task[None] | None = None


class FeedViewer:
    """One socket's queues; ``offer`` never waits."""

    def __init__(self, context: _Context, backlog_bytes: Callable[[], int]) -> None:
        self.context = context
        self._waiting_below = backlog_bytes
        self._control: deque[bytes] = deque()
        self._live: deque[bytes] = deque()
        self._again: deque[bytes] = deque(maxlen=BACKLOG_FRAMES)
        self._live_bytes = 0
        self.wake = asyncio.Event()

    def frame(self, info: StreamInfo, frame: bytes) -> None:
        """A live frame."""
        version = int.from_bytes(frame[12:16], "little")
        context = self.context
        if version != context.version or info.patient != context.patient:
            if version > context.version:
                context.stale.set()
            WAVEFORM_FEED.labels("other_context").inc()
            return
        self._offer(DATA + frame)

    def vital(self, stream: VitalsStream, message: bytes) -> None:
        """A vital sign; the client compares its context version."""
        if stream.patient == self.context.patient:
            self._offer(DATA + message)

    def control(self, message: bytes) -> None:
        """An answer; one who asks and does not read is not answered."""
        if len(self._control) < CONTROL_LIMIT:
            self._control.append(CTL + message)
            self.wake.set()

    def again(self, frames: list[bytes]) -> None:
        """Frames that were asked for."""
        self._again.extend(DATA + with_flags(frame, add=Flag.RESEND) for frame in frames)
        self.wake.set()

    def next(self) -> bytes | None:
        """What to send now: control, live, then what was asked for while there is room."""
        if self._control:
            return self._control.popleft()
        if self._live:
            message = self._live.popleft()
            self._live_bytes -= len(message)
            return message
        if self._again and self._waiting_below() < BACKLOG_ROOM_BYTES:
            return self._again.popleft()
        return None

    @property
    def waiting(self) -> bool:
        """Something is asked for and waits for room."""
        return bool(self._again)

    def _offer(self, message: bytes) -> None:
        if self._live_bytes + self._waiting_below() > LIVE_LIMIT_BYTES:
            WAVEFORM_FEED.labels("dropped").inc()
            return
        self._live.append(message)
        self._live_bytes += len(message)
        self.wake.set()


class WaveformFeed:
    """All sockets of this process.

    Args:
        now_us: server time, the clock that frames carry.
        arrivals: the door where its tokens were given out. [SE16]
    """

    def __init__(
        self,
        desk: WaveformDesk,
        store: ConsultStore,
        tokens: ConsultTokens,
        now_us: Callable[[], int],
        arrivals: Arrivals | None = None,
    ) -> None:
        self._desk = desk
        self._store = store
        self._tokens = tokens
        self._arrivals = arrivals or Arrivals()
        self._now_us = now_us
        self._contexts: dict[str, _Context] = {}
        self._sockets: dict[web.WebSocketResponse, Admission | None] = {}
        self._strangers: dict[str, int] = {}
        """Sockets that have not said who they are, by address."""

    def attach(self, app: web.Application) -> None:
        """Serve on the application's router."""
        app.router.add_get(PATH, self.handle)

    async def stop(self) -> None:
        """Say goodbye; idempotent."""
        sockets = list(self._sockets)
        await asyncio.gather(*(ws.close(code=1001, message=b"stopping") for ws in sockets), return_exceptions=True)
        for context in self._contexts.values():
            if context.task is not None:
                context.task.cancel()
        tasks = [context.task for context in self._contexts.values() if context.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._contexts.clear()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One socket from hello to its end. Origin and Host were checked by the guard."""
        address = request.remote or ""
        if not self._has_room(address):
            WAVEFORM_FEED.labels("too_many").inc()
            return web.Response(status=503, headers={"Retry-After": "5"})
        ws = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE_BYTES, compress=False, writer_limit=BACKLOG_ROOM_BYTES
        )
        self._sockets[ws] = None
        try:
            with self._stranger(address):
                await ws.prepare(request)
                admission = await self._hello(ws)
            if admission is not None:
                self._sockets[ws] = admission
                await self._bound(admission)
                await self._serve(request, ws, admission)
        finally:
            del self._sockets[ws]
            if ws.prepared and not ws.closed:
                with contextlib.suppress(OSError, RuntimeError):
                    await ws.close()
        return ws

    def _has_room(self, address: str) -> bool:
        strangers = sum(self._strangers.values())
        here = self._strangers.get(address, 0)
        return len(self._sockets) < SOCKETS and strangers < STRANGERS and here < STRANGERS_PER_ADDRESS

    @contextlib.contextmanager
    def _stranger(self, address: str) -> Iterator[None]:
        """Nobody yet, for the length of the block."""
        self._strangers[address] = self._strangers.get(address, 0) + 1
        try:
            yield
        finally:
            self._strangers[address] -= 1
            if not self._strangers[address]:
                del self._strangers[address]

    # ------------------------------------------------------------- hello

    async def _hello(self, ws: web.WebSocketResponse) -> Admission | None:
        """Who it is; None, and the socket closed, for nobody."""
        try:
            async with asyncio.timeout(HELLO_S):
                message = await ws.receive()
            token = _token(message.data) if message.type is WSMsgType.BINARY else None
            if token is None:
                await ws.close(code=CLOSE_HELLO, message=b"hello")
                return None
            admission = await self._tokens.accept(token)
            now_s = asyncio.get_running_loop().time()
            self._arrivals.taken((admission.consult, admission.participant), now_s)
            consult = await self._store.load(admission.consult)
        except TimeoutError:
            await ws.close(code=CLOSE_HELLO, message=b"hello")
            return None
        except TokenInvalid:
            WAVEFORM_FEED.labels("refused").inc()
            await ws.close(code=CLOSE_TOKEN, message=b"token")
            return None
        if consult is None or admission.role not in ROLES or admission.participant not in consult.participants:
            WAVEFORM_FEED.labels("refused").inc()
            await ws.close(code=CLOSE_OVER, message=b"not here")
            return None
        return admission

    async def _bound(self, admission: Admission) -> None:
        """A page that reconnects has two sockets for a moment; the oldest of more goes."""
        same = [
            ws
            for ws, other in self._sockets.items()
            if other is not None
            and (other.consult, other.participant) == (admission.consult, admission.participant)
            and not ws.closed
        ]
        for ws in same[:-SOCKETS_PER_PARTICIPANT]:
            await ws.close(code=CLOSE_BUSY, message=b"replaced")

    # ------------------------------------------------------------- a viewer

    async def _serve(self, request: web.Request, ws: web.WebSocketResponse, admission: Admission) -> None:
        transport = request.transport
        raw = transport.get_extra_info("socket") if transport is not None else None
        if raw is not None:
            with contextlib.suppress(OSError):  # what waits in the kernel is late too
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)

        def below() -> int:
            return transport.get_write_buffer_size() if transport is not None and not transport.is_closing() else 0

        context = await self._enter(admission.consult)
        viewer = FeedViewer(context, below)
        watching = Watching(viewer.frame, viewer.vital)
        self._desk.watch(admission.consult, watching)
        viewer.control(msgpack.packb({"t": "welcome", "s": self._now_us()}))
        tasks = [
            asyncio.create_task(self._send(ws, viewer), name="feed-send"),
            asyncio.create_task(self._receive(ws, viewer, admission), name="feed-receive"),
            asyncio.create_task(self._watch_right(ws, admission, context), name="feed-right"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._desk.unwatch(admission.consult, watching)
            self._leave(admission.consult)
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception) and not isinstance(result, OSError | RuntimeError | TimeoutError):
                    log.error("waveform feed broke", exc_info=result)

    async def _send(self, ws: web.WebSocketResponse, viewer: FeedViewer) -> None:
        while not ws.closed:
            message = viewer.next()
            if message is None:
                viewer.wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05 if viewer.waiting else None):
                        await viewer.wake.wait()
                continue
            async with asyncio.timeout(SEND_S):
                await ws.send_bytes(message)
            WAVEFORM_FEED.labels("sent").inc()

    async def _receive(self, ws: web.WebSocketResponse, viewer: FeedViewer, admission: Admission) -> None:
        asker = Asker()
        async for message in ws:
            if message.type is not WSMsgType.BINARY or message.data[:1] != CTL:
                WAVEFORM_FEED.labels("malformed").inc()
                continue
            try:
                asked = asker.read(message.data[1:], asyncio.get_running_loop().time())
                if isinstance(asked, Ping):
                    viewer.control(pong(asked, self._now_us()))
                else:
                    await self._answer(viewer, asker, admission.consult, asked)
            except ControlRefused as refusal:
                WAVEFORM_FEED.labels(str(refusal)).inc()

    async def _answer(self, viewer: FeedViewer, asker: Asker, consult: str, wanted: Wanted) -> None:
        live = self._desk.stream(consult, wanted.stream_id)
        if live is None or live.info.patient != viewer.context.patient:
            raise ControlRefused("control_stream")
        newest = live.open.state.current.seq
        last = newest if wanted.last is None else min(wanted.last, newest)
        if last < wanted.first:
            return
        kept = await self._kept(live, max(wanted.first, last - BACKLOG_FRAMES), last, viewer.context.version)
        frames, gone = asker.answer(wanted, kept, newest, asyncio.get_running_loop().time())
        viewer.again(frames)
        for first, until in gone:
            viewer.control(gone_map(wanted.stream_id, first, until))

    async def _kept(self, live: LiveStream, first: int, last: int, version: int) -> dict[int, bytes]:
        """Frames of a range and of this context, from the ring and from what is on its way there."""
        epoch = live.open.state.current.epoch
        fresh = list(live.for_ring)
        try:
            found = await self._desk.ring.get(live.info.archive, Place(epoch, first), Place(epoch, last))
        except RingUnavailable:
            WAVEFORM_FEED.labels("ring_unavailable").inc()
            raise ControlRefused("ring_unavailable") from None
        kept = {place.seq: frame for place, frame in found}
        kept |= {place.seq: frame for place, frame in fresh if place.epoch == epoch and first <= place.seq <= last}
        return {seq: frame for seq, frame in kept.items() if int.from_bytes(frame[12:16], "little") == version}

    async def _watch_right(self, ws: web.WebSocketResponse, admission: Admission, context: _Context) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            with contextlib.suppress(SQLAlchemyError):
                if admission.participant not in context.participants or not await self._tokens.still_good(admission):
                    await ws.close(code=CLOSE_OVER, message=b"over")
                    return

    # ------------------------------------------------------------- what is open

    async def _enter(self, consult: str) -> _Context:
        context = self._contexts.get(consult)
        if context is None:
            context = self._contexts[consult] = _Context()
            context.task = asyncio.create_task(self._follow(consult, context), name=f"feed-context-{consult}")
        context.viewers += 1
        _learn(context, await self._store.load(consult))  # type: ignore[arg-type] # an id is a string
        return context

    def _leave(self, consult: str) -> None:
        context = self._contexts[consult]
        context.viewers -= 1
        if not context.viewers:
            del self._contexts[consult]
            if context.task is not None:
                context.task.cancel()

    async def _follow(self, consult: str, context: _Context) -> None:
        """Look at the store now and then, and at once when a frame shows that the context has moved on."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONTEXT_EVERY_S):
                    await context.stale.wait()
            try:
                _learn(context, await self._store.load(consult))  # type: ignore[arg-type]
            except (SQLAlchemyError, OSError):
                # what cannot be confirmed is not shown (W19)
                context.version, context.patient = 0, ""
            await asyncio.sleep(0.1)
            context.stale.clear()


def _learn(context: _Context, consult: Consult | None) -> None:
    opened = None if consult is None else consult.context
    context.version = 0 if opened is None else opened.version
    context.patient = "" if opened is None else opened.patient.id
    context.participants = frozenset() if consult is None else frozenset(consult.participants)


def _token(data: Any) -> str | None:
    """The token of a hello."""
    if not isinstance(data, bytes) or data[:1] != CTL:
        return None
    try:
        fields = msgpack.unpackb(data[1:])
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.get("t") != "hello" or not isinstance(fields.get("token"), str):
        return None
    token: str = fields["token"]
    return token
