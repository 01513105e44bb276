"""What the bedside program and the demo's simulated room share: joining a consult as any client does.

Signalling is python-socketio with msgpack, media is pymediasoup on aiortc: a
client that nobody here wrote, so each of them is also a test that foreign clients
can join. Nothing in this module knows the server's inside; a consult token
comes from the HTTP API, bought with the device's own secret.

It heals by itself. Each attempt is one socket session; within it the
media is built again whenever the worker was replaced or the path broke; when
the socket is lost, everything is built again after a pause. `perform` is that loop.

Long on purpose: the socket, the media and the loop that rebuilds both are one client, and make sense together.
"""

import asyncio
import contextlib
import functools
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import aiohttp
import socketio
import structlog
from aiortc import MediaStreamTrack
from pydantic import BaseModel, ConfigDict, ValidationError
from pymediasoup import Device
from pymediasoup.data_consumer import DataConsumer
from pymediasoup.data_producer import DataProducer
from pymediasoup.handlers.aiortc_handler import AiortcHandler
from pymediasoup.models.transport import DtlsParameters, IceCandidate, IceParameters
from pymediasoup.rtp_parameters import RtpCapabilities
from pymediasoup.sctp_parameters import SctpParameters, SctpStreamParameters
from pymediasoup.transport import Transport

from signaling.core import messages as m
from signaling.core.errors import ErrorCode
from signaling.core.ids import DataProducerId, ParticipantId, TransportId
from signaling.core.model import (
    Binding,
    Consult,
    ConsultStatus,
    Context,
    MediaSource,
    Value,
    VitalsStream,
    WaveformStream,
)

log = structlog.get_logger(__name__)

ANSWER_S = 10.0
"""Longest wait for any one answer of the hub."""
OPEN_S = 15.0
"""Longest wait for a data channel to open."""
CLOSE_S = 3.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
LONGEST_TURN_S = 120
EVENT_LIMIT = 1000
TRANSPORTS = 16
"""Named as gone, not looked at yet; there are two at a time."""
MESSAGES = 1024
"""Of a channel, not taken yet: a whole ring of a stream may come at once."""

R = TypeVar("R", bound=Value)


class Assignment(BaseModel):
    """What is needed to find the consult; a secret never stands on a command line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: str
    """For instance ``http://127.0.0.1:8440``."""
    consult: str
    secret: str
    media_dir: str = ""


class Refused(Exception):
    """The hub declined; ``code`` is stable."""

    def __init__(self, code: str, retry_after_s: int = 0) -> None:
        super().__init__(code)
        self.code = code
        self.retry_after_s = retry_after_s
        """When a busy hub wants to be asked again; 0: it did not say. [SE16]"""


class Lost(Exception):
    """The session with the hub or the path of the media is gone; build it again."""


EXPECTED = (Refused, Lost, TimeoutError, OSError, aiohttp.ClientError, socketio.exceptions.SocketIOError)
"""What happens to any client of a hub that restarts; anything else is our bug."""


class Signalling:
    """One socket session: commands out, the few facts a device follows in."""

    def __init__(self) -> None:
        self.consult: Consult | None = None
        self.revision = 0
        self.media_epoch = 0
        self.context: Context | None = None
        self.you: ParticipantId | None = None
        self.binding: Binding | None = None
        """Ours, while it lasts. (W20)"""
        self.let_go: int | None = None
        """The context version under which somebody else ended it: binding anew is then up to them."""
        self.unbound: m.DeviceUnbound | None = None
        """How our last binding ended."""
        self.mismatch: m.DeviceMismatch | None = None
        """What we said of our patient when it was not the bound one. (W22)"""
        self.ended = False
        self.gone: deque[str] = deque(maxlen=TRANSPORTS)
        """Transports of ours whose worker died while others of the consult go on. [ME17]"""
        self.lost = asyncio.Event()
        self.changed = asyncio.Event()
        """Set at every change of ``context``, ``binding``, ``media_epoch`` or ``gone``; whoever waits clears it."""
        self._socket = socketio.AsyncClient(serializer="msgpack", reconnection=False, handle_sigint=False)
        self._socket.on("event", self._on_event)
        self._socket.on("signal", self._on_signal)
        self._socket.on("disconnect", self._on_disconnect)
        self._holes: asyncio.Queue[int] = asyncio.Queue(EVENT_LIMIT)

    async def open(self, origin: str, token: str) -> m.Joined:
        """Connect and join.

        Args:
            token: a consult token; it is good for this one connect.

        Raises:
            Refused: the hub does not let us in.
            TimeoutError, OSError, aiohttp.ClientError, SocketIOError: it cannot be reached.
        """
        async with asyncio.timeout(ANSWER_S):
            await self._socket.connect(
                origin,
                headers={"Origin": origin},
                transports=["websocket"],
                auth={"token": token, "protocol": m.PROTOCOL_VERSION},
                wait_timeout=ANSWER_S,
            )
        joined = await self.ask(m.Join(), m.Joined)
        self.you = joined.you
        self._take_snapshot(joined.snapshot)
        return joined

    async def ask(self, command: m.Command, answer: type[R]) -> R:
        """Send a command and wait for its result.

        Raises:
            Refused: with the hub's code.
            Lost: the socket went away meanwhile, or the answer is not what the protocol says.
            TimeoutError: no answer in time.
        """
        try:
            raw = await self._socket.call("command", command.model_dump(mode="json"), timeout=ANSWER_S)
            ack = m.Ack.model_validate(raw)
            if ack.ok:
                result: R = answer.model_validate(raw["result"])
                return result
        except socketio.exceptions.TimeoutError:
            raise TimeoutError from None
        except (socketio.exceptions.SocketIOError, ValidationError) as error:
            raise Lost(type(error).__name__) from error
        raise Refused(ack.refusal.code if ack.refusal else "malformed")

    async def follow(self) -> None:
        """Fetch what was missed whenever a hole in the revisions shows; runs as long as the session."""
        while True:
            await self._holes.get()
            missed = await self.ask(m.Sync(since=self.revision), m.SyncResult)
            if missed.snapshot is not None:
                self._take_snapshot(missed.snapshot)
            for event in missed.events:
                self._take(event)

    async def close(self) -> None:
        """Leave the socket; idempotent."""
        with contextlib.suppress(*EXPECTED):
            async with asyncio.timeout(CLOSE_S):
                await self._socket.disconnect()

    def _on_event(self, raw: Any) -> None:
        try:
            event = m.EVENTS.validate_python(raw)
        except ValidationError:
            self.lost.set()
            return
        if event.revision > self.revision + 1:
            with contextlib.suppress(asyncio.QueueFull):  # one waiting request covers every hole
                self._holes.put_nowait(event.revision)
        else:
            self._take(event)

    def _on_signal(self, raw: Any) -> None:
        if not isinstance(raw, dict):
            return
        if raw.get("type") == "goodbye":
            self.ended = self.ended or raw.get("reason") == "ended"
            self.lost.set()
        elif raw.get("type") == "transport_gone":
            self.gone.append(str(raw.get("transport")))
            self.changed.set()

    def _on_disconnect(self, *_reason: Any) -> None:
        self.lost.set()

    def _take_snapshot(self, consult: Consult) -> None:
        self.revision, self.media_epoch, self.context = consult.revision, consult.media_epoch, consult.context
        self.ended = consult.status is ConsultStatus.ENDED
        self.binding = None if self.you is None else consult.bindings.get(self.you)
        self.changed.set()

    def _take(self, event: m.AnyEvent) -> None:
        if event.revision <= self.revision:
            return
        self.revision = event.revision
        match event:
            case m.ContextOpened():
                self.context = event.context
            case m.ContextClosed():
                self.context = None
            case m.ContextResumed() | m.AnchorOpened() | m.AnchorClosed():
                self._carry(event.version)
            case m.DeviceBound() if event.binding.device == self.you:
                self.binding, self.unbound = event.binding, None
            case m.DeviceUnbound() if event.device == self.you:
                if self.binding is not None and event.by not in (None, self.you):
                    self.let_go = self.binding.context_version
                self.binding, self.unbound = None, event
            case m.DeviceMismatch() if event.mismatch.device == self.you:
                self.mismatch = event
            case m.MediaReset():
                self.media_epoch = event.media_epoch
            case m.ConsultEnded():
                self.ended = True
            case _:
                return
        self.changed.set()

    def _carry(self, version: int) -> None:
        """The same patient under another version: the binding stays, what is sent names the new one. [AN2]"""
        if self.context is not None:
            if self.let_go == self.context.version:
                self.let_go = version
            self.context = self.context.model_copy(update={"version": version})
        if self.binding is not None:
            self.binding = self.binding.model_copy(update={"context_version": version})


async def buy_token(assignment: Assignment) -> str:
    """A consult token for one connect.

    Raises:
        Refused: the hub does not know the secret, or the device is not in that consult.
        aiohttp.ClientError, OSError: it cannot be reached.
    """
    headers = {"Authorization": f"Bearer {assignment.secret}", "Origin": assignment.origin}
    url = f"{assignment.origin}/api/consults/{assignment.consult}/token"
    async with aiohttp.ClientSession() as http, http.post(url, json={}, headers=headers) as answer:
        body = await answer.json(content_type=None)
        if answer.status >= 400:
            code = str(body.get("error", {}).get("code", answer.status)) if isinstance(body, dict) else "http"
            wait = answer.headers.get("Retry-After", "")
            raise Refused(code, min(int(wait), LONGEST_TURN_S) if wait.isdecimal() else 0)
        return str(body["token"])


class _Handler(AiortcHandler):  # type: ignore[misc]  # pymediasoup has no types
    """pymediasoup announces ``maxRetransmits`` but sends reliably (ORTC.md trap 25); here it does what it says."""

    async def sendDataChannel(self, *args: Any, **kwargs: Any) -> Any:
        connection = self.pc
        connection.createDataChannel = functools.partial(
            connection.createDataChannel, maxRetransmits=kwargs.get("maxRetransmits")
        )
        try:
            return await super().sendDataChannel(*args, **kwargs)
        finally:
            del connection.createDataChannel


@dataclass(frozen=True)
class DataOut:
    """A DataProducer whose channel is open."""

    producer: DataProducer

    def send(self, message: bytes, *, room_bytes: int = 262_144) -> bool:
        """Hand over a message; False when more than ``room_bytes`` are still waiting and it was dropped.

        Raises:
            Lost: the channel is closed.
        """
        if self.producer.closed or self.producer.readyState != "open":
            raise Lost("data channel closed")
        if self.producer.bufferedAmount > room_bytes:
            return False
        self.producer.send(message)
        return True

    async def close(self) -> None:
        """Close our end; idempotent."""
        await self.producer.close()


@dataclass(frozen=True)
class DataIn:
    """A DataConsumer whose messages wait in ``messages``; when it overflows, the oldest goes."""

    consumer: DataConsumer
    messages: asyncio.Queue[bytes]


class Media:
    """Our Transports on the present worker. One call at a time: pymediasoup does not queue them."""

    def __init__(self, signalling: Signalling) -> None:
        self.broken = asyncio.Event()
        self._signalling = signalling
        self._device = Device(handlerFactory=_Handler.createFactory())
        self._transports: dict[str, Transport] = {}
        self._errors: list[Exception] = []
        self._connects: list[asyncio.Task[m.Done]] = []

    @property
    def is_gone(self) -> bool:
        """The worker of one of our Transports died. ICE would tell half a minute later, having asked in vain."""
        return any(transport.id in self._signalling.gone for transport in self._transports.values())

    async def load(self, capabilities: dict[str, Any]) -> None:
        """Take the router's capabilities; once, before anything else."""
        await self._device.load(RtpCapabilities.model_validate(capabilities))

    async def produce(self, track: MediaStreamTrack, source: MediaSource, label: str) -> None:
        """Send a track."""
        transport = await self._transport("send")
        await self._carefully(
            transport.produce(track=track, stopTracks=True, appData={"source": source, "label": label})
        )

    async def produce_data(
        self, label: str, *, reliable: bool, waveform: WaveformStream | None = None, vitals: VitalsStream | None = None
    ) -> DataOut:
        """Open a channel to the relay: ordered and reliable, or neither."""
        transport = await self._transport("send")
        options: dict[str, Any] = {"ordered": True} if reliable else {"ordered": False, "maxRetransmits": 0}
        producer = await self._carefully(
            transport.produceData(label=label, appData={"waveform": waveform, "vitals": vitals}, **options)
        )
        await self._opened(producer)
        return DataOut(producer)

    async def consume_data(self, data_producer: DataProducerId) -> DataIn:
        """Receive a channel of the relay; messages flow when this returns."""
        transport = await self._transport("recv")
        ask = m.ConsumeData(transport=TransportId(transport.id), data_producer=data_producer)
        answer = await self._signalling.ask(ask, m.ConsumingData)
        consumer = await self._carefully(
            transport.consumeData(
                id=answer.data_consumer,
                dataProducerId=answer.data_producer,
                sctpStreamParameters=SctpStreamParameters.model_validate(answer.sctp_stream_parameters),
                label=answer.label,
                protocol=answer.protocol,
            )
        )
        messages: asyncio.Queue[bytes] = asyncio.Queue(MESSAGES)

        def received(message: bytes | str) -> None:
            if messages.full():
                messages.get_nowait()
            messages.put_nowait(message if isinstance(message, bytes) else message.encode())

        consumer.on("message", received)
        await self._opened(consumer)
        await self._signalling.ask(m.ResumeDataConsumer(data_consumer=answer.data_consumer), m.Done)
        return DataIn(consumer, messages)

    async def close(self) -> None:
        """Close everything; idempotent, never takes longer than ``CLOSE_S``."""
        for task in self._connects:
            task.cancel()
        await asyncio.gather(*self._connects, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*(t.close() for t in self._transports.values()), return_exceptions=True)
        self._transports.clear()

    # ------------------------------------------------------------ inside

    async def _transport(self, direction: Literal["send", "recv"]) -> Transport:
        if direction in self._transports:
            return self._transports[direction]
        options = await self._signalling.ask(m.CreateTransport(direction=direction), m.TransportOptions)
        create = self._device.createSendTransport if direction == "send" else self._device.createRecvTransport
        transport = create(
            id=options.id,
            iceParameters=IceParameters.model_validate(options.ice_parameters),
            iceCandidates=[IceCandidate.model_validate(c) for c in options.ice_candidates],
            dtlsParameters=DtlsParameters.model_validate(options.dtls_parameters),
            sctpParameters=SctpParameters.model_validate(options.sctp_parameters),
            iceServers=[],  # aiortc would otherwise ask a public STUN server
        )
        transport.on("connect", functools.partial(self._connect, transport))
        transport.on("produce", functools.partial(self._produce, transport))
        transport.on("producedata", functools.partial(self._produce_data, transport))
        transport.on("error", self._errors.append)
        transport.on("connectionstatechange", self._state_changed)
        self._transports[direction] = transport
        if self.is_gone:
            self.broken.set()
        return transport

    def _connect(self, transport: Transport, dtls: DtlsParameters) -> None:
        """pymediasoup does not wait for this one (trap 17), so we keep the task ourselves."""
        command = m.ConnectTransport(transport=TransportId(transport.id), dtls_parameters=_plain(dtls))
        task = asyncio.create_task(self._signalling.ask(command, m.Done))
        task.add_done_callback(self._connected)
        self._connects.append(task)

    def _connected(self, task: "asyncio.Task[m.Done]") -> None:
        if not task.cancelled() and task.exception() is not None:
            self.broken.set()

    async def _produce(self, transport: Transport, kind: str, rtp_parameters: BaseModel, app_data: Any) -> str:
        command = m.Produce(
            transport=TransportId(transport.id),
            kind=cast(Literal["audio", "video"], kind),
            rtp_parameters=_plain(rtp_parameters),
            source=app_data["source"],
            label=app_data["label"],
        )
        return (await self._signalling.ask(command, m.Produced)).producer

    async def _produce_data(
        self,
        transport: Transport,
        *,
        sctpStreamParameters: BaseModel,
        label: str,
        protocol: str | None,
        appData: Any,
    ) -> str:
        parameters = _plain(sctpStreamParameters)
        command = m.ProduceData(
            transport=TransportId(transport.id),
            label=label,
            protocol=protocol or "",
            sctp_stream_parameters={k: v for k, v in parameters.items() if k not in ("label", "protocol")},
            waveform=appData["waveform"],
            vitals=appData["vitals"],
        )
        return (await self._signalling.ask(command, m.DataProduced)).data_producer

    def _state_changed(self, state: str) -> None:
        if state in ("failed", "closed"):
            self.broken.set()

    async def _carefully(self, call: Awaitable[Any]) -> Any:
        """pymediasoup swallows what its handlers raise and stumbles over the missing answer; raise the cause."""
        self._errors.clear()
        try:
            return await call
        except IndexError:
            if self._errors:
                raise self._errors[0] from None
            raise

    async def _opened(self, channel: DataProducer | DataConsumer) -> None:
        opened = asyncio.Event()
        channel.on("open", opened.set)
        if channel.readyState == "open":
            return
        try:
            async with asyncio.timeout(OPEN_S):
                await opened.wait()
        except TimeoutError:
            raise Lost("data channel did not open") from None


def _plain(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_none=True)


class _Pause:
    """How long to wait before the next attempt: short after one that held, longer each time after ones that did not."""

    def __init__(self) -> None:
        self._length_s = FIRST_PAUSE_S
        self._began_s = 0.0

    def begin(self) -> None:
        """An attempt begins now."""
        self._began_s = asyncio.get_running_loop().time()

    def next_s(self) -> float:
        """After the attempt: the pause, spread so that many clients do not come at once."""
        if asyncio.get_running_loop().time() - self._began_s > LONGEST_PAUSE_S:
            self._length_s = FIRST_PAUSE_S
        length_s = self._length_s * (0.75 + secrets.randbelow(500) / 1000)
        self._length_s = min(2 * self._length_s, LONGEST_PAUSE_S)
        return length_s


Performance = Callable[[Signalling, Media], Awaitable[None]]
"""What a participant does once it stands in the consult; runs until it is cancelled."""


async def perform(
    assignment: Assignment, performance: Performance, refused: Callable[[str], bool] = lambda _code: False
) -> None:
    """Stay in the consult and perform, whatever breaks, until the consult is ended.

    Args:
        refused: asked with the code of each refusal at the door; True ends it.
    """
    pause = _Pause()
    while True:
        pause.begin()
        turn_s = 0
        try:
            await _one_session(assignment, performance)
        except Refused as refusal:
            turn_s = refusal.retry_after_s
            if refusal.code == ErrorCode.CONSULT_ENDED:
                return
            if refused(refusal.code):
                return
            log.warning("the hub refused us", refusal=refusal.code)
        except EXPECTED as error:
            log.warning("lost the consult, coming again", reason=str(error) or type(error).__name__)
        await asyncio.sleep(turn_s + pause.next_s())


async def _one_session(assignment: Assignment, performance: Performance) -> None:
    signalling = Signalling()
    try:
        async with asyncio.timeout(ANSWER_S):
            token = await buy_token(assignment)
        joined = await signalling.open(assignment.origin, token)
        log.info("joined the consult", participant=joined.you)
        async with running(signalling.follow()) as follower:
            pause = _Pause()
            while not (signalling.lost.is_set() or signalling.ended or follower.done()):
                pause.begin()
                try:
                    await _one_media(signalling, joined.router_rtp_capabilities, performance)
                except Refused as refusal:  # the worker is being replaced: the socket stands, so try again here
                    log.info("waiting for the media plane", refusal=refusal.code)
                await _until(pause.next_s(), signalling.lost)
    finally:
        await signalling.close()


async def _one_media(signalling: Signalling, capabilities: dict[str, Any], performance: Performance) -> None:
    """Build the media and perform until something of it is gone."""
    epoch = signalling.media_epoch
    media = Media(signalling)

    async def build_and_perform() -> None:
        await media.load(capabilities)
        await performance(signalling, media)

    try:
        async with (
            running(build_and_perform()) as performing,
            running(media.broken.wait()) as broken,
            running(_epoch_passed(signalling, epoch)) as reset,
            running(_worker_gone(signalling, media)) as gone,
            running(signalling.lost.wait()) as lost,
        ):
            await asyncio.wait({performing, broken, reset, gone, lost}, return_when=asyncio.FIRST_COMPLETED)
            if performing.done():
                performing.result()
            log.info("building the media again", media_reset=reset.done(), path_broken=broken.done() or gone.done())
    finally:
        await media.close()


async def _epoch_passed(signalling: Signalling, epoch: int) -> None:
    while signalling.media_epoch == epoch and not signalling.ended:
        signalling.changed.clear()
        await signalling.changed.wait()


async def _worker_gone(signalling: Signalling, media: Media) -> None:
    while not media.is_gone:
        signalling.changed.clear()
        await signalling.changed.wait()


async def _until(timeout_s: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()


@contextlib.asynccontextmanager
async def running(work: Any) -> AsyncIterator["asyncio.Task[Any]"]:
    """A task that does not outlive the block."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
