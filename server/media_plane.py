"""The media plane as signalling sees it: the port ``MediaPlane`` on top of one supervised worker.

Signalling speaks of consults and participants and refuses with ``Refusal``; the
worker speaks of routers and owners and refuses with ``MediaError``. This adapter
translates, chooses the ids of all media objects and checks that an id named in a
command belongs to the participant who names it: an id of somebody else is
answered like one that does not exist.

A worker that died takes everything with it. The supervisor starts another; this
adapter then forgets what it handed out, opens the routers of the live consults
again and tells signalling, which tells the clients (ARCHITECTURE section 2).
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import structlog

from media.aio.client import WorkerClient
from media.aio.supervisor import Supervisor, WorkerSettings
from media.core import control
from media.core.control import MediaError, MediaErrorCode
from signaling.core import messages as m
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import (
    ConsultId,
    ConsumerId,
    DataConsumerId,
    DataProducerId,
    ParticipantId,
    ProducerId,
    TransportId,
)
from signaling.core.model import Connection, JsonObject, MediaSource
from signaling.core.ports import MediaListener

log = structlog.get_logger(__name__)

WORKER_RETURN_S = 5.0
"""How long a command waits for a worker that is being replaced before it is refused."""
NOTIFICATION_LIMIT = 4096
"""Notifications not yet passed on; speaker changes are dropped first, states never until this is full."""
CTL = DataProducerId("ctl")

REFUSALS: dict[MediaErrorCode, ErrorCode] = {
    MediaErrorCode.NOT_FOUND: ErrorCode.NOT_FOUND,
    MediaErrorCode.BAD_PARAMETERS: ErrorCode.BAD_MEDIA_PARAMETERS,
    MediaErrorCode.EXISTS: ErrorCode.CONFLICT,
    MediaErrorCode.BAD_STATE: ErrorCode.CONFLICT,
    MediaErrorCode.LIMIT: ErrorCode.TOO_BUSY,
    MediaErrorCode.WORKER_GONE: ErrorCode.MEDIA_UNAVAILABLE,
    MediaErrorCode.TIMEOUT: ErrorCode.MEDIA_UNAVAILABLE,
    MediaErrorCode.INTERNAL: ErrorCode.INTERNAL,
}

CONNECTIONS = {
    "connected": Connection.CONNECTED,
    "unstable": Connection.UNSTABLE,
    "closed": Connection.RECONNECTING,
}

NewId = TypeVar("NewId", bound=str)


@dataclass
class Belongings:
    """What one participant has in the worker."""

    transports: dict[str, TransportId] = field(default_factory=dict)
    """By direction: at most one of each."""
    producers: set[ProducerId] = field(default_factory=set)
    consumers: dict[ConsumerId, ProducerId] = field(default_factory=dict)
    data_producers: set[DataProducerId] = field(default_factory=set)
    data_consumers: dict[DataConsumerId, DataProducerId] = field(default_factory=dict)
    layers: dict[ConsumerId, control.ConsumerLayers] = field(default_factory=dict)
    """The last word on each video: a page whose socket was away asks again by viewing."""

    def forget(self, direction: str) -> None:
        """What the Transport of one direction carried went with it."""
        if direction == "send":
            self.producers.clear()
            self.data_producers.clear()
        else:
            self.consumers.clear()
            self.layers.clear()
            self.data_consumers.clear()


@dataclass
class Placement:
    """One consult on the worker."""

    capabilities: JsonObject
    participants: dict[ParticipantId, Belongings] = field(default_factory=dict)

    def of(self, participant: ParticipantId) -> Belongings:
        """Belongings of a participant, empty at first."""
        return self.participants.setdefault(participant, Belongings())

    def everyone(self, kind: Literal["producers", "data_producers"]) -> set[Any]:
        """All ids of one kind in this consult: what may be consumed."""
        return {identity for belongings in self.participants.values() for identity in getattr(belongings, kind)}


class WorkerMediaPlane:
    """``MediaPlane`` on one supervised worker process."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._supervisor = Supervisor(settings, self._notified, self._restarted)
        self._placements: dict[ConsultId, Placement] = {}
        self._opening: dict[ConsultId, asyncio.Lock] = {}
        self._listener: MediaListener | None = None
        self._notes: asyncio.Queue[control.AnyNotification] = asyncio.Queue(NOTIFICATION_LIMIT)
        self._pump: asyncio.Task[None] | None = None
        self._abandoned: set[asyncio.Task[None]] = set()
        self._epoch = 0

    @property
    def supervisor(self) -> Supervisor:
        """The worker's supervisor: port, process id, restarts."""
        return self._supervisor

    async def start(self) -> None:
        """Start the worker.

        Raises:
            MediaError: it does not come up, for instance because its port is in use.
        """
        await self._supervisor.start()
        self._pump = asyncio.create_task(self._pass_on(), name="media-notifications")

    async def stop(self) -> None:
        """End the worker; idempotent."""
        if self._pump is not None:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump
            self._pump = None
        for task in self._abandoned:
            task.cancel()
        await asyncio.gather(*self._abandoned, return_exceptions=True)
        await self._supervisor.stop()

    async def stats(self) -> dict[str, int]:
        """Counters of the worker."""
        return await self._supervisor.client.stats()

    # ------------------------------------------------------------- the port

    def listen(self, listener: MediaListener) -> None:
        """Register the one listener."""
        self._listener = listener

    async def open(self, consult: ConsultId) -> JsonObject:
        """Place the consult; idempotent."""
        with refusing():
            return (await self._placed(consult)).capabilities

    async def call(self, consult: ConsultId, participant: ParticipantId, command: m.MediaCommand) -> m.MediaResult:
        """Carry out one media command; see ``MediaPlane.call``."""
        with refusing():
            placement = await self._placed(consult)
            return await self._carry_out(consult, placement.of(participant), participant, command)

    async def release(self, consult: ConsultId, participant: ParticipantId) -> None:
        """Close the participant's Transports; idempotent."""
        placement = self._placements.get(consult)
        belongings = placement.participants.pop(participant, None) if placement else None
        for transport in belongings.transports.values() if belongings else ():
            with contextlib.suppress(MediaError):  # a worker that is gone has closed it already
                await self._supervisor.client.close_transport(transport)

    async def close(self, consult: ConsultId) -> None:
        """Forget the consult; idempotent."""
        self._opening.pop(consult, None)
        if self._placements.pop(consult, None) is not None:
            with contextlib.suppress(MediaError):
                await self._supervisor.client.close_router(consult)

    # ------------------------------------------------------------- commands

    async def _placed(self, consult: ConsultId) -> Placement:
        async with self._opening.setdefault(consult, asyncio.Lock()):
            placement = self._placements.get(consult)
            if placement is None:
                worker = await self._supervisor.wait_up(WORKER_RETURN_S)
                placement = Placement(await worker.open_router(consult))
                self._placements[consult] = placement
            return placement

    async def _carry_out(
        self, consult: ConsultId, mine: Belongings, owner: ParticipantId, command: m.MediaCommand
    ) -> m.MediaResult:
        worker = await self._supervisor.wait_up(WORKER_RETURN_S)
        match command:
            case m.CreateTransport():
                return await self._create_transport(worker, consult, mine, owner, command)
            case m.ConnectTransport():
                await worker.connect_transport(own_transport(mine, command.transport), command.dtls_parameters)
            case m.RestartIce():
                return m.IceRestarted(ice_parameters=await worker.restart_ice(own_transport(mine, command.transport)))
            case m.Produce():
                return await self._produce(worker, mine, command)
            case m.PauseProducer():
                await worker.pause_producer(own(mine.producers, command.producer))
            case m.ResumeProducer():
                await worker.resume_producer(own(mine.producers, command.producer))
            case m.CloseProducer():
                await worker.close_producer(own(mine.producers, command.producer))
                mine.producers.discard(command.producer)
            case m.Consume():
                return await self._consume(worker, consult, mine, command)
            case m.PauseConsumer():
                await worker.pause_consumer(own(mine.consumers, command.consumer))
            case m.ResumeConsumer():
                await worker.resume_consumer(own(mine.consumers, command.consumer))
            case m.ViewConsumer():
                viewed = own(mine.consumers, command.consumer)
                await worker.view_consumer(viewed, command.width, command.height, command.rank)
                if (layers := mine.layers.get(viewed)) is not None:
                    self._notified(layers)
            case m.CloseConsumer():
                await worker.close_consumer(own(mine.consumers, command.consumer))
                mine.consumers.pop(command.consumer, None)
                mine.layers.pop(command.consumer, None)
            case m.ProduceData():
                return await self._produce_data(worker, mine, command)
            case m.CloseDataProducer():
                await worker.close_data_producer(own(mine.data_producers, command.data_producer))
                mine.data_producers.discard(command.data_producer)
            case m.ConsumeData():
                return await self._consume_data(worker, consult, mine, command)
            case m.ResumeDataConsumer():
                await worker.resume_data_consumer(own(mine.data_consumers, command.data_consumer))
            case m.CloseDataConsumer():
                await worker.close_data_consumer(own(mine.data_consumers, command.data_consumer))
                mine.data_consumers.pop(command.data_consumer, None)
        return m.Done()

    async def _create_transport(
        self,
        worker: WorkerClient,
        consult: ConsultId,
        mine: Belongings,
        owner: ParticipantId,
        command: m.CreateTransport,
    ) -> m.TransportOptions:
        """A second one of the same direction replaces the first: the client has lost that one."""
        old = mine.transports.pop(command.direction, None)
        if old is not None:
            mine.forget(command.direction)
            await worker.close_transport(old)
        transport = new_id(TransportId)
        try:
            options = await worker.create_transport(consult, transport, owner, command.direction)
        except BaseException:  # cancelled or too late: the worker may have made it, and nobody would ever close it
            self._abandon(worker, transport)
            raise
        placement = self._placements.get(consult)
        if placement is None or placement.participants.get(owner) is not mine:
            # Released while the worker made it: nobody would ever close it.
            await worker.close_transport(transport)
            raise MediaError(MediaErrorCode.NOT_FOUND, "the participant is gone")
        mine.transports[command.direction] = transport
        return m.TransportOptions(**options, media_epoch=self._epoch)

    def _abandon(self, worker: WorkerClient, transport: TransportId) -> None:
        """Close what nobody waits for any more, without waiting either."""

        async def close() -> None:
            with contextlib.suppress(MediaError):  # a worker that is gone has closed it already
                await worker.close_transport(transport)

        task = asyncio.create_task(close(), name=f"abandon-{transport}")
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    async def _produce(self, worker: WorkerClient, mine: Belongings, command: m.Produce) -> m.Produced:
        producer = new_id(ProducerId)
        transport = own_transport(mine, command.transport)
        content: Literal["camera", "screen"] = "screen" if command.source is MediaSource.SCREEN else "camera"
        await worker.produce(transport, producer, command.kind, command.rtp_parameters, command.paused, content)
        mine.producers.add(producer)
        return m.Produced(producer=producer)

    async def _consume(
        self, worker: WorkerClient, consult: ConsultId, mine: Belongings, command: m.Consume
    ) -> m.Consuming:
        own(self._placements[consult].everyone("producers"), command.producer)
        consumer = new_id(ConsumerId)
        transport = own_transport(mine, command.transport)
        answer = await worker.consume(transport, consumer, command.producer, command.rtp_capabilities)
        for old in [one for one, producer in mine.consumers.items() if producer == command.producer]:
            # The client has lost that one. Every copy costs the hub's uplink: nobody gets the same picture twice.
            del mine.consumers[old]
            mine.layers.pop(old, None)
            await worker.close_consumer(old)
        mine.consumers[consumer] = command.producer
        return m.Consuming(
            consumer=consumer,
            producer=command.producer,
            kind=answer["kind"],
            rtp_parameters=answer["rtp_parameters"],
            producer_paused=answer["producer_paused"],
        )

    async def _produce_data(self, worker: WorkerClient, mine: Belongings, command: m.ProduceData) -> m.DataProduced:
        data_producer = new_id(DataProducerId)
        transport = own_transport(mine, command.transport)
        wave = command.waveform
        await worker.produce_data(
            transport,
            data_producer,
            command.label,
            command.protocol,
            command.sctp_stream_parameters,
            None if wave is None else {"stream_id": wave.stream_id, "simulated": wave.simulated},
        )
        mine.data_producers.add(data_producer)
        return m.DataProduced(data_producer=data_producer)

    async def _consume_data(
        self, worker: WorkerClient, consult: ConsultId, mine: Belongings, command: m.ConsumeData
    ) -> m.ConsumingData:
        if command.data_producer != CTL:
            own(self._placements[consult].everyone("data_producers"), command.data_producer)
        data_consumer = new_id(DataConsumerId)
        transport = own_transport(mine, command.transport)
        answer = await worker.consume_data(transport, data_consumer, command.data_producer)
        for old in [one for one, source in mine.data_consumers.items() if source == command.data_producer]:
            del mine.data_consumers[old]
            await worker.close_data_consumer(old)
        mine.data_consumers[data_consumer] = command.data_producer
        return m.ConsumingData(
            data_consumer=data_consumer,
            data_producer=command.data_producer,
            sctp_stream_parameters=answer["sctp_stream_parameters"],
            label=answer["label"],
            protocol=answer["protocol"],
        )

    # ------------------------------------------------------------- news from the worker

    async def _restarted(self) -> None:
        """Forget everything handed out, open the routers again, tell signalling."""
        self._epoch += 1
        consults = list(self._placements)
        self._placements.clear()
        while not self._notes.empty():  # what the dead worker said is no longer true
            self._notes.get_nowait()
        for consult in consults:
            try:
                await self._placed(consult)
            except MediaError as error:  # the worker died again at once; the next restart tells them
                log.warning("consult not placed again", consult=consult, code=error.code.value)
            if self._listener is not None:
                await self._listener.media_reset(consult)

    def _notified(self, note: control.AnyNotification) -> None:
        try:
            self._notes.put_nowait(note)
        except asyncio.QueueFull:
            log.warning("notification dropped", notification=note.event)

    async def _pass_on(self) -> None:
        while True:
            note = await self._notes.get()
            if self._listener is None:
                continue
            try:
                await self._tell(self._listener, note)
            except Exception:  # a bug in the listener must not end the pump for all consults
                log.exception("media listener failed", notification=note.event)

    async def _tell(self, listener: MediaListener, note: control.AnyNotification) -> None:
        match note:
            case control.TransportState():
                await self._tell_transport(listener, note)
            case control.ActiveSpeaker():
                producer = None if note.producer is None else ProducerId(note.producer)
                await listener.active_speaker(ConsultId(note.router), producer)
            case control.ConsumerLayers() | control.LineQuality():
                await self._tell_line(listener, note)
            case control.ProducerClosed() | control.ConsumerClosed() | control.WorkerReady() | control.Load():
                pass  # transport_state says it for all of them

    async def _tell_line(self, listener: MediaListener, note: control.ConsumerLayers | control.LineQuality) -> None:
        """To the participant it belongs to; what was closed meanwhile is no news."""
        consult, participant = ConsultId(note.router), ParticipantId(note.owner)
        placement = self._placements.get(consult)
        mine = placement.participants.get(participant) if placement else None
        told = note.model_dump(exclude={"event", "router", "owner"})
        match note:
            case control.ConsumerLayers() if mine is not None and note.consumer in mine.consumers:
                mine.layers[ConsumerId(note.consumer)] = note
                await listener.line_news(consult, participant, m.ConsumerLayers(**told))
            case control.LineQuality() if mine is not None and note.transport in mine.transports.values():
                await listener.line_news(consult, participant, m.LineQuality(**told))

    async def _tell_transport(self, listener: MediaListener, note: control.TransportState) -> None:
        consult, participant = ConsultId(note.router), ParticipantId(note.owner)
        transport = TransportId(note.transport)
        placement = self._placements.get(consult)
        mine = placement.participants.get(participant) if placement else None
        direction = next((d for d, t in mine.transports.items() if t == transport), None) if mine else None
        if mine is None or direction is None:
            return  # closed on request: no news to anybody
        if note.state == "closed":
            del mine.transports[direction]
            mine.forget(direction)
            if direction == "send":
                await listener.producers_closed(consult, participant)
        await listener.transport_changed(consult, participant, transport, CONNECTIONS[note.state])


@contextlib.contextmanager
def refusing() -> Any:
    """Turn the worker's errors into refusals; the worker's text goes to the log only."""
    try:
        yield
    except MediaError as error:
        raise Refusal(REFUSALS[error.code], error.text) from error


def new_id(kind: Callable[[str], NewId]) -> NewId:
    """A fresh unguessable id of one kind."""
    return kind(secrets.token_urlsafe(9))


def own(owned: Container[NewId], identity: NewId) -> NewId:
    """The id itself when it is in the set.

    Raises:
        MediaError: ``not_found``, whether it is another's or nobody's.
    """
    if identity not in owned:
        raise MediaError(MediaErrorCode.NOT_FOUND, "no such id here")
    return identity


def own_transport(mine: Belongings, transport: TransportId) -> TransportId:
    """The Transport's id when it is the participant's; see ``own``."""
    return own(set(mine.transports.values()), transport)
