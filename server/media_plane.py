"""The media plane as signalling sees it: the port ``MediaPlane`` on top of the machine's workers.

Signalling speaks of consults and participants and refuses with ``Refusal``; a
worker speaks of routers and owners and refuses with ``MediaError``. This adapter
translates, chooses the ids of all media objects and checks that an id named in a
command belongs to the participant who names it: an id of somebody else is
answered like one that does not exist.

A worker that died takes everything with it. This adapter then forgets what it handed out
there, has its consults placed again and tells signalling, which tells the clients
(ARCHITECTURE section 2). Which worker has which consult is ``media_places``.

Long on purpose: one short method for each media command and each piece of news, which share the tables of who
owns what.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Container, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import structlog

from media.aio.client import WorkerClient
from media.aio.pool import WorkerPool
from media.aio.spare import WorkerSettings
from media.core import control
from media.core.control import MediaError, MediaErrorCode
from media.core.placement import LoadLimits
from server.media_places import Belongings, Placement, Places
from server.metrics import WorkerGauges
from server.turn import Servers, no_servers
from server.waveforms.desk import WaveformDesk
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

NOTIFICATION_LIMIT = 4096
"""Notifications not yet passed on. From half of it on, what is said anew within seconds (line quality, speakers) is
dropped; at the limit, whatever comes."""
STATES_LIMIT = 512
"""Changes of one consult that wait for the store; the newest of each Transport counts, at the limit the oldest goes."""
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
Telling = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _LayersAgain:
    """A page that views again may have missed the last word on its video: it gets what is the last word by then."""

    consult: ConsultId
    participant: ParticipantId
    consumer: ConsumerId


class WorkerMediaPlane:
    """``MediaPlane`` on a pool of supervised worker processes.

    Args:
        settings: of the first worker; see ``WorkerPool``.
        count: how many.
        limits: when a worker is full.
        ice_servers: what a participant may fall back to where no media port is reached.
        desk: where waveforms and vital signs are kept; None: nowhere.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        count: int = 1,
        limits: LoadLimits | None = None,
        ice_servers: Servers = no_servers,
        desk: WaveformDesk | None = None,
    ) -> None:
        self._desk = desk
        self._pool = WorkerPool(settings, count, limits or LoadLimits(), self._notified, self._died, self._restarted)
        self._places = Places(self._pool)
        self._ice_servers = ice_servers
        self._listener: MediaListener | None = None
        self._notes: asyncio.Queue[tuple[int, control.AnyNotification | _LayersAgain]]
        self._notes = asyncio.Queue(NOTIFICATION_LIMIT)
        self._dropping: set[str] = set()
        """Kinds of notification that are being dropped, and of which the log says so."""
        self._states: dict[ConsultId, dict[tuple[str, str], Telling]] = {}
        """What signalling must still be told, by consult in order; each has one task that tells it."""
        self._pump: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._gauges = WorkerGauges()
        self._epoch = 0

    @property
    def pool(self) -> WorkerPool:
        """The workers: ports, process ids, restarts, load."""
        return self._pool

    def home(self, consult: ConsultId) -> int | None:
        """The worker that has a consult's Router now."""
        placement = self._places.consults.get(consult)
        return None if placement is None else placement.home

    async def start(self) -> None:
        """Start the first worker; the others follow.

        Raises:
            MediaError: it does not come up, for instance because its port is in use.
        """
        await self._pool.start()
        self._pump = asyncio.create_task(self._pass_on(), name="media-notifications")

    async def stop(self) -> None:
        """End the workers; idempotent."""
        if self._pump is not None:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump
            self._pump = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._places.stop()
        await self._pool.stop()
        self._gauges.clear()

    async def stats(self) -> dict[str, int]:
        """Counters of all workers that are there, added up."""
        total: dict[str, int] = {}
        for index in self._pool.up:
            for name, count in (await self._pool.client(index).stats()).items():
                total[name] = total.get(name, 0) + count
        return total

    async def renew_workers(self) -> None:
        """Replace the workers one after another, each when its last consult has ended, however long that takes."""
        await self._pool.renew_all()

    # ------------------------------------------------------------- the port

    def listen(self, listener: MediaListener) -> None:
        """Register the one listener."""
        self._listener = listener

    async def open(self, consult: ConsultId) -> JsonObject:
        """Place the consult; idempotent."""
        with refusing():
            return (await self._places.find(consult)).capabilities

    async def call(self, consult: ConsultId, participant: ParticipantId, command: m.MediaCommand) -> m.MediaResult:
        """Carry out one media command; see ``MediaPlane.call``."""
        with refusing():
            placement = await self._places.find(consult)
            return await self._carry_out(consult, placement, participant, command)

    async def release(self, consult: ConsultId, participant: ParticipantId) -> None:
        """Close the participant's Transports; idempotent."""
        placement = self._places.consults.get(consult)
        mine = placement.remove(participant) if placement else None
        if mine is not None and mine.worker is not None:
            closing = [control.CloseTransport(transport=transport) for transport in mine.transports.values()]
            await self._places.each(mine.worker, closing)
        self._tell_sources(consult)

    async def close(self, consult: ConsultId) -> None:
        """Forget the consult; idempotent."""
        await self._places.close(consult)
        if self._desk is not None:
            self._desk.ended(consult)

    def _tell_sources(self, consult: ConsultId) -> None:
        """The desk learns which sources a consult still has."""
        if self._desk is not None:
            placement = self._places.consults.get(consult)
            self._desk.sources(consult, placement.everyone("data_producers") if placement is not None else ())

    # ------------------------------------------------------------- commands

    async def _carry_out(
        self, consult: ConsultId, placement: Placement, owner: ParticipantId, command: m.MediaCommand
    ) -> m.MediaResult:
        mine = placement.of(owner)
        if mine.worker is None and not isinstance(command, m.CreateTransport):
            raise MediaError(MediaErrorCode.NOT_FOUND, "no transport yet")
        worker = self._pool.client(await self._places.seat(consult, placement, mine))
        match command:
            case m.CreateTransport():
                return await self._create_transport(worker, consult, placement, mine, owner, command)
            case m.ConnectTransport():
                await worker.connect_transport(own_transport(mine, command.transport), command.dtls_parameters)
            case m.RestartIce():
                parameters = await worker.restart_ice(own_transport(mine, command.transport))
                return m.IceRestarted(ice_parameters=parameters, ice_servers=self._ice_servers(owner))
            case m.Produce():
                return await self._produce(worker, mine, command)
            case m.PauseProducer() | m.ResumeProducer():
                await self._pause(worker, placement, mine, command)
            case m.CloseProducer():
                await worker.close_producer(own(mine.producers, command.producer))
                mine.producers.discard(command.producer)
                placement.forget_sources([command.producer])
                await self._close_copies(placement, mine, command.producer)
            case m.Consume():
                return await self._consume(worker, consult, placement, mine, command)
            case m.PauseConsumer():
                await worker.pause_consumer(own(mine.consumers, command.consumer))
            case m.ResumeConsumer():
                await worker.resume_consumer(own(mine.consumers, command.consumer))
            case m.ViewConsumer():
                viewed = own(mine.consumers, command.consumer)
                await worker.view_consumer(viewed, command.width, command.height, command.rank)
                if viewed in mine.layers and mine.worker is not None:
                    self._queue(mine.worker, _LayersAgain(consult, owner, viewed))
            case m.CloseConsumer():
                await worker.close_consumer(own(mine.consumers, command.consumer))
                mine.consumers.pop(command.consumer, None)
                mine.layers.pop(command.consumer, None)
            case m.ProduceData():
                return await self._produce_data(worker, consult, mine, owner, command)
            case m.CloseDataProducer():
                await worker.close_data_producer(own(mine.data_producers, command.data_producer))
                mine.data_producers.discard(command.data_producer)
                placement.forget_sources([command.data_producer])
                self._tell_sources(consult)
                await self._close_copies(placement, mine, command.data_producer)
            case m.ConsumeData():
                return await self._consume_data(worker, consult, placement, mine, command)
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
        placement: Placement,
        mine: Belongings,
        owner: ParticipantId,
        command: m.CreateTransport,
    ) -> m.TransportOptions:
        """A second one of the same direction replaces the first: the client has lost that one."""
        old = mine.transports.pop(command.direction, None)
        if old is not None:
            placement.forget(mine, command.direction)
            self._tell_sources(consult)
            await worker.close_transport(old)
        transport = new_id(TransportId)
        try:
            options = await worker.create_transport(consult, transport, owner, command.direction)
        except BaseException:  # cancelled or too late: the worker may have made it, and nobody would ever close it
            self._abandon(worker, transport)
            raise
        if self._places.consults.get(consult) is not placement or placement.participants.get(owner) is not mine:
            # Released while the worker made it: nobody would ever close it.
            await worker.close_transport(transport)
            raise MediaError(MediaErrorCode.NOT_FOUND, "the participant is gone")
        mine.transports[command.direction] = transport
        return m.TransportOptions(**options, ice_servers=self._ice_servers(owner), media_epoch=self._epoch)

    def _abandon(self, worker: WorkerClient, transport: TransportId) -> None:
        """Close what nobody waits for any more, without waiting either."""

        async def close() -> None:
            with contextlib.suppress(MediaError):  # a worker that is gone has closed it already
                await worker.close_transport(transport)

        self._spawn(close(), f"abandon-{transport}")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", task=task.get_name(), exc_info=error)

    async def _produce(self, worker: WorkerClient, mine: Belongings, command: m.Produce) -> m.Produced:
        producer = new_id(ProducerId)
        transport = own_transport(mine, command.transport)
        content: Literal["camera", "screen"] = "screen" if command.source is MediaSource.SCREEN else "camera"
        request = control.Produce(
            transport=transport,
            producer=producer,
            kind=command.kind,
            rtp_parameters=command.rtp_parameters,
            paused=command.paused,
            content=content,
        )
        await worker.call(request)
        mine.producers.add(producer)
        mine.produced[producer] = request
        return m.Produced(producer=producer)

    async def _pause(
        self, worker: WorkerClient, placement: Placement, mine: Belongings, command: m.PauseProducer | m.ResumeProducer
    ) -> None:
        """On the publisher's worker, and wherever else the Producer is."""
        producer = own(mine.producers, command.producer)
        paused = isinstance(command, m.PauseProducer)
        request = control.PauseProducer(producer=producer) if paused else control.ResumeProducer(producer=producer)
        await worker.call(request)
        if producer in mine.produced:
            mine.produced[producer] = mine.produced[producer].model_copy(update={"paused": paused})
        for other in placement.copies(producer):
            await self._places.each(other, [request])

    async def _close_copies(
        self, placement: Placement, mine: Belongings, identity: ProducerId | DataProducerId
    ) -> None:
        produced = mine.produced.pop(identity, None)
        for (_, other), pipe in list(placement.pipes.items()):
            if identity in pipe.made:
                pipe.made.discard(identity)
                close = (
                    control.CloseProducer(producer=identity)
                    if isinstance(produced, control.Produce)
                    else control.CloseDataProducer(data_producer=identity)
                )
                await self._places.each(other, [close])

    async def _consume(
        self, worker: WorkerClient, consult: ConsultId, placement: Placement, mine: Belongings, command: m.Consume
    ) -> m.Consuming:
        own(placement.everyone("producers"), command.producer)
        consumer = new_id(ConsumerId)
        transport = own_transport(mine, command.transport)
        if mine.worker is not None:
            await self._places.bring(consult, placement, command.producer, mine.worker)
        answer = await worker.consume(transport, consumer, command.producer, command.rtp_capabilities)
        own(placement.everyone("producers"), command.producer)  # its publisher may have left meanwhile
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

    async def _produce_data(
        self,
        worker: WorkerClient,
        consult: ConsultId,
        mine: Belongings,
        owner: ParticipantId,
        command: m.ProduceData,
    ) -> m.DataProduced:
        data_producer = new_id(DataProducerId)
        transport = own_transport(mine, command.transport)
        wave, vitals, desk, version = command.waveform, command.vitals, self._desk, None
        if desk is not None and mine.worker is not None:
            if wave is not None:
                version = await desk.announce(consult, mine.worker, worker.call, wave, owner)
            elif vitals is not None:
                version = await desk.announce_vitals(consult, mine.worker, worker.call, vitals.patient, owner)
        try:
            request = control.ProduceData(
                transport=transport,
                data_producer=data_producer,
                label=command.label,
                protocol=command.protocol,
                sctp_stream_parameters=command.sctp_stream_parameters,
                waveform=wave
                and control.WaveformSource(stream_id=wave.stream_id, simulated=wave.simulated, context_version=version),
                vitals=vitals and control.VitalsSource(simulated=vitals.simulated, context_version=version),
            )
            await worker.call(request)
        except BaseException:
            if desk is not None and wave is not None:
                desk.not_begun(consult, wave.stream_id)
            raise
        mine.data_producers.add(data_producer)
        mine.produced[data_producer] = request
        if desk is not None and wave is not None:
            desk.begun(consult, wave.stream_id, data_producer)
        elif desk is not None and vitals is not None:
            desk.vitals_begun(consult, data_producer, vitals, version)
        return m.DataProduced(data_producer=data_producer)

    async def _consume_data(
        self, worker: WorkerClient, consult: ConsultId, placement: Placement, mine: Belongings, command: m.ConsumeData
    ) -> m.ConsumingData:
        data_consumer = new_id(DataConsumerId)
        transport = own_transport(mine, command.transport)
        if command.data_producer != CTL:
            own(placement.everyone("data_producers"), command.data_producer)
            if mine.worker is not None:
                await self._places.bring(consult, placement, command.data_producer, mine.worker)
        answer = await worker.consume_data(transport, data_consumer, command.data_producer)
        if command.data_producer != CTL:
            own(placement.everyone("data_producers"), command.data_producer)  # as above
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

    def _died(self, index: int) -> None:
        """Forget what the worker had and place its consults again; their clients are told meanwhile."""
        self._epoch += 1
        self._gauges.died(index)
        lost = self._places.lose(index)
        if self._desk is not None:
            self._desk.worker_died(index)
        for consult in {*lost.consults, *(consult for consult, _, _ in lost.participants)}:
            self._tell_sources(consult)
        for consult in lost.consults:
            self._spawn(self._places.settle_again(consult), f"settle-{consult}")
            if self._listener is not None:
                self._spawn(self._listener.media_reset(consult), f"media-reset-{consult}")
        for consult, participant, theirs in lost.participants:
            if self._listener is not None:
                self._spawn(self._tell_lost(self._listener, consult, participant, theirs), f"lost-{participant}")

    async def _tell_lost(
        self, listener: MediaListener, consult: ConsultId, participant: ParticipantId, theirs: Belongings
    ) -> None:
        """One of some whose worker died while the consult's home lives: what he sent is gone, and his paths."""
        for transport in theirs.transports.values():
            await listener.line_news(consult, participant, m.TransportGone(transport=transport))
        if "send" in theirs.transports:
            await listener.producers_closed(consult, participant)

    async def _restarted(self, index: int) -> None:
        log.info("media worker replaced", worker=index, restarts=self._pool.workers[index].restarts)

    def _notified(self, index: int, note: control.AnyNotification) -> None:
        if isinstance(note, control.Load):
            load = self._pool.loads[index]
            turn_us = self._pool.workers[index].turn_us
            self._gauges.show(index, note, self._pool.busy(index), load.consults, turn_us)
            return
        self._queue(index, note)

    def _queue(self, index: int, note: "control.AnyNotification | _LayersAgain") -> None:
        waiting, name = self._notes.qsize(), type(note).__name__
        half = NOTIFICATION_LIMIT // 2
        if waiting < half:
            self._dropping.clear()
        if waiting < (half if isinstance(note, control.LineQuality | control.ActiveSpeaker) else NOTIFICATION_LIMIT):
            self._notes.put_nowait((index, note))
        elif name not in self._dropping:
            self._dropping.add(name)
            log.warning("notifications dropped", notification=name, waiting=waiting)

    async def _pass_on(self) -> None:
        while True:
            index, note = await self._notes.get()
            if self._listener is None:
                continue
            try:
                if isinstance(note, _LayersAgain):
                    await self._tell_layers_again(self._listener, note)
                else:
                    await self._tell(self._listener, index, note)
            except Exception:  # a bug in the listener must not end the pump for all consults
                log.exception("media listener failed", notification=type(note).__name__)

    def _tell_in_order(self, consult: ConsultId, subject: tuple[str, str], telling: Telling) -> None:
        """Have signalling told what may wait on the store: one consult's trouble there is not another's.

        Args:
            subject: a later telling of the same subject takes the place of one that has not begun.
        """
        waiting = self._states.get(consult)
        if waiting is None:
            self._states[consult] = {subject: telling}
            self._spawn(self._tell_states(consult), f"states-{consult}")
            return
        waiting.pop(subject, None)
        if len(waiting) >= STATES_LIMIT:
            oldest = next(iter(waiting))
            del waiting[oldest]
            log.warning("state of a consult dropped", consult=consult, subject=oldest[0])
        waiting[subject] = telling

    async def _tell_states(self, consult: ConsultId) -> None:
        waiting = self._states[consult]
        try:
            while waiting:
                subject = next(iter(waiting))
                telling = waiting.pop(subject)
                try:
                    await telling()
                except Exception:  # as in the pump
                    log.exception("media listener failed", consult=consult, subject=subject[0])
        finally:
            del self._states[consult]

    async def _tell(self, listener: MediaListener, index: int, note: control.AnyNotification) -> None:
        match note:
            case control.TransportState():
                self._tell_transport(listener, note)
            case control.ActiveSpeaker() if index == self.home(ConsultId(note.router)):
                producer = None if note.producer is None else ProducerId(note.producer)
                await listener.active_speaker(ConsultId(note.router), producer)
            case control.ConsumerLayers() | control.LineQuality():
                await self._tell_line(listener, note)
            case _:
                pass  # transport_state says it for all that closed

    async def _tell_line(self, listener: MediaListener, note: control.ConsumerLayers | control.LineQuality) -> None:
        """To the participant it belongs to; what was closed meanwhile is no news."""
        consult, participant = ConsultId(note.router), ParticipantId(note.owner)
        placement = self._places.consults.get(consult)
        mine = placement.participants.get(participant) if placement else None
        told = note.model_dump(exclude={"event", "router", "owner"})
        match note:
            case control.ConsumerLayers() if mine is not None and note.consumer in mine.consumers:
                mine.layers[ConsumerId(note.consumer)] = note
                await listener.line_news(consult, participant, m.ConsumerLayers(**told))
            case control.LineQuality() if mine is not None and note.transport in mine.transports.values():
                await listener.line_news(consult, participant, m.LineQuality(**told))

    async def _tell_layers_again(self, listener: MediaListener, again: _LayersAgain) -> None:
        placement = self._places.consults.get(again.consult)
        mine = placement.participants.get(again.participant) if placement else None
        if mine is not None and (layers := mine.layers.get(again.consumer)) is not None:
            await self._tell_line(listener, layers)

    def _tell_transport(self, listener: MediaListener, note: control.TransportState) -> None:
        consult, participant = ConsultId(note.router), ParticipantId(note.owner)
        transport = TransportId(note.transport)
        placement = self._places.consults.get(consult)
        if placement is not None and note.state == "closed":
            placement.forget_pipe(note.transport)
        mine = placement.participants.get(participant) if placement else None
        direction = next((d for d, t in mine.transports.items() if t == transport), None) if mine else None
        if mine is None or direction is None:
            return  # closed on request: no news to anybody
        if note.state == "closed":
            del mine.transports[direction]
            if placement is not None:
                placement.forget(mine, direction)
            self._tell_sources(consult)
            if direction == "send":
                closed = partial(listener.producers_closed, consult, participant)
                self._tell_in_order(consult, ("producers", participant), closed)
        changed = partial(listener.transport_changed, consult, participant, transport, CONNECTIONS[note.state])
        self._tell_in_order(consult, ("transport", transport), changed)


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
