"""Where the media of each consult are: which worker has its Router, and what each participant has there.

A consult is placed on the worker with most room when its first participant comes, refused with `MediaFull` when
there is none, and stays until it is closed. When its worker dies it is placed again at once, on another worker if one
lives: nobody waits for the replacement then. A consult that has seen two workers die within a minute may be the cause;
it waits for its own worker's replacement instead of being carried from worker to worker.

A consult that outgrows its home goes on where there is room: who comes then gets his Transports on another worker, and
what he and the others look at crosses through pipes (``media.aio.pipe``), each publisher once per worker, opened by the
first who asks. When such a further worker dies, only those who were there start anew; when the home dies, all do.

Commands are carried out by ``server.media_plane``; load and limits are ``media.aio.pool`` and ``media.core.placement``.
"""

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog

from media.aio.client import WorkerClient
from media.aio.pool import WorkerPool
from media.core import control
from media.core.control import MediaError, MediaErrorCode
from signaling.core.errors import MediaFull
from signaling.core.ids import (
    ConsultId,
    ConsumerId,
    DataConsumerId,
    DataProducerId,
    ParticipantId,
    ProducerId,
    TransportId,
)
from signaling.core.model import JsonObject

log = structlog.get_logger(__name__)

WORKER_RETURN_S = 5.0
"""How long a command waits for a worker that is being replaced before it is refused."""
SETTLE_PAUSE_S = 0.1
"""Between attempts to place a consult again."""
SUSPICIOUS_DEATHS = 2
SUSPICIOUS_WITHIN_S = 60.0


@dataclass
class Belongings:
    """What one participant has in the worker."""

    worker: int | None = None
    """Where his Transports are; None before the first."""
    transports: dict[str, TransportId] = field(default_factory=dict)
    """By direction: at most one of each."""
    producers: set[ProducerId] = field(default_factory=set)
    consumers: dict[ConsumerId, ProducerId] = field(default_factory=dict)
    data_producers: set[DataProducerId] = field(default_factory=set)
    data_consumers: dict[DataConsumerId, DataProducerId] = field(default_factory=dict)
    produced: dict[str, control.Produce | control.ProduceData] = field(default_factory=dict)
    """How each Producer and DataProducer was made: it is made so again on other workers."""
    layers: dict[ConsumerId, control.ConsumerLayers] = field(default_factory=dict)
    """The last word on each video: a page whose socket was away asks again by viewing."""


@dataclass
class Pipe:
    """One publisher's way to one other worker."""

    transport: str
    """What stands for the publisher there."""
    source: int
    open: bool = False
    made: set[str] = field(default_factory=set)
    """Producers and DataProducers that are there."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class Placement:
    """One consult on its workers."""

    home: int
    capabilities: JsonObject
    others: set[int] = field(default_factory=set)
    """Workers that have those for whom there was no room at home."""
    pipes: dict[tuple[TransportId, int], Pipe] = field(default_factory=dict)
    """By the publisher's Transport and the worker it leads to."""
    growing: asyncio.Lock = field(default_factory=asyncio.Lock)
    participants: dict[ParticipantId, Belongings] = field(default_factory=dict)

    def of(self, participant: ParticipantId) -> Belongings:
        """Belongings of a participant, empty at first."""
        return self.participants.setdefault(participant, Belongings())

    def everyone(self, kind: Literal["producers", "data_producers"]) -> set[Any]:
        """All ids of one kind in this consult: what may be consumed."""
        return {identity for belongings in self.participants.values() for identity in getattr(belongings, kind)}

    def forget(self, mine: Belongings, direction: str) -> None:
        """What a participant's Transport of one direction carried went with it, for its viewers too."""
        if direction == "send":
            sources = [*mine.producers, *mine.data_producers]
            mine.producers.clear()
            mine.data_producers.clear()
            mine.produced.clear()
            self.forget_sources(sources)
        else:
            mine.consumers.clear()
            mine.layers.clear()
            mine.data_consumers.clear()

    def forget_sources(self, sources: Iterable[str]) -> None:
        """Producers and DataProducers are closed, and with them, in the worker, all that viewed them."""
        gone = set(sources)
        for theirs in self.participants.values():
            for consumer in [one for one, producer in theirs.consumers.items() if producer in gone]:
                del theirs.consumers[consumer]
                theirs.layers.pop(consumer, None)
            for heard in [one for one, source in theirs.data_consumers.items() if source in gone]:
                del theirs.data_consumers[heard]

    def remove(self, participant: ParticipantId) -> Belongings | None:
        """Take a participant out, with what others had of his; None when he is not here."""
        mine = self.participants.pop(participant, None)
        if mine is not None:
            self.forget_sources([*mine.producers, *mine.data_producers])
        return mine

    def copies(self, identity: str) -> list[int]:
        """Other workers on which a Producer or DataProducer is."""
        return [worker for (_, worker), pipe in self.pipes.items() if identity in pipe.made]

    def forget_pipe(self, transport: str) -> None:
        """A pipe has ended at its far end."""
        for key in [key for key, pipe in self.pipes.items() if pipe.transport == transport]:
            del self.pipes[key]


@dataclass(slots=True, eq=False)
class _Gate:
    """One at a time opens, enlarges or closes a consult."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    """Who has it or waits for it; with the last the gate goes."""


@dataclass(frozen=True)
class Lost:
    """What went with a worker."""

    consults: list[ConsultId]
    """That had their home there: everything of them is gone."""
    participants: list[tuple[ConsultId, ParticipantId, Belongings]]
    """Of other consults, who had their Transports there."""


class Places:
    """All consults of this machine's workers."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self.consults: dict[ConsultId, Placement] = {}
        self._gates: dict[ConsultId, _Gate] = {}
        self._homeless: dict[ConsultId, int] = {}
        """Consults whose worker has died, with that worker: they are placed again whatever the load."""
        self._deaths: dict[ConsultId, deque[float]] = {}
        self._leftovers: dict[ConsultId, set[int]] = {}
        """Workers that still have a Router of a consult whose home has died."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """End what runs; idempotent."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def find(self, consult: ConsultId) -> Placement:
        """The consult's placement, made when there is none.

        Raises:
            MediaError: ``worker_gone`` when no worker came back in time.
            MediaFull: no worker has room for another consult.
        """
        async with self._alone(consult):
            placement = self.consults.get(consult)
            return placement if placement is not None else await self._place(consult)

    async def settle_again(self, consult: ConsultId) -> None:
        """Place a consult whose worker died, however long that takes; returns when it is placed or closed."""
        while consult in self._homeless:
            try:
                async with self._alone(consult):
                    if consult in self._homeless:  # not closed while this waited for its turn
                        await self._place(consult)
            except MediaError as error:  # the replacement died too, or is slow to come: its successor will do
                log.warning("consult not placed again", consult=consult, code=error.code.value)
                # Nothing above waits while a worker is thought to be there: that it has died is heard meanwhile.
                await asyncio.sleep(SETTLE_PAUSE_S)

    async def seat(self, consult: ConsultId, placement: Placement, mine: Belongings) -> int:
        """The worker for a participant's Transports; the same for both.

        Raises:
            MediaFull: he is new and there is no room for him on any worker.
        """
        if mine.worker is None:
            async with placement.growing:
                worker = await self._choose_seat(consult, placement)
                if mine.worker is None:
                    mine.worker = worker
                    self._pool.joined(worker)
        return mine.worker

    async def bring(self, consult: ConsultId, placement: Placement, identity: str, worker: int) -> None:
        """Make a Producer or DataProducer available on a worker, whichever its publisher is on.

        Raises:
            MediaError: one of the two workers cannot do it.
        """
        found = next(((who, one) for who, one in placement.participants.items() if identity in one.produced), None)
        if found is None or found[1].worker is None or found[1].worker == worker:
            return
        owner, theirs = found
        made = theirs.produced[identity]
        pipe = placement.pipes.setdefault(
            (TransportId(made.transport), worker), Pipe(f"pipe-{secrets.token_urlsafe(9)}", found[1].worker)
        )
        # Runs to its end even when nobody waits any more: half a pipe would be in the way of the next who asks.
        task = asyncio.create_task(self._bring(consult, owner, pipe, made, worker), name=f"pipe-{pipe.transport}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        try:
            await asyncio.shield(task)
        except MediaError:
            if not pipe.open:
                placement.forget_pipe(pipe.transport)
            raise

    def lose(self, worker: int) -> Lost:
        """A worker died: forget what it had."""
        lost = Lost([], [])
        now_s = time.monotonic()
        for consult, placement in list(self.consults.items()):
            if placement.home == worker:
                del self.consults[consult]
                self._homeless[consult] = worker
                self._leftovers.setdefault(consult, set()).update(placement.others - {worker})
                self._deaths.setdefault(consult, deque(maxlen=SUSPICIOUS_DEATHS)).append(now_s)
                lost.consults.append(consult)
            elif worker in placement.others:
                placement.others.discard(worker)
                for key in [k for k, pipe in placement.pipes.items() if worker in (k[1], pipe.source)]:
                    del placement.pipes[key]
                for who in [who for who, one in placement.participants.items() if one.worker == worker]:
                    if (theirs := placement.remove(who)) is not None:
                        lost.participants.append((consult, who, theirs))
        return lost

    async def close(self, consult: ConsultId) -> None:
        """Forget a consult and close its Routers; idempotent.

        A placement that was asked for before ends first and is closed with the rest.
        """
        # Runs to its end even when nobody waits any more: what is opened meanwhile would have no owner.
        task = asyncio.create_task(self._close(consult), name=f"close-{consult}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        await asyncio.wait({task})

    async def each(self, worker: int, requests: Iterable[control.Request]) -> None:
        """Ask for what a worker that is gone has done already."""
        for request in requests:
            with contextlib.suppress(MediaError):
                await self._pool.client(worker).call(request)

    @contextlib.asynccontextmanager
    async def _alone(self, consult: ConsultId) -> AsyncIterator[None]:
        """In the order of asking."""
        gate = self._gates.setdefault(consult, _Gate())
        gate.users += 1
        try:
            async with gate.lock:
                yield
        finally:
            gate.users -= 1
            if not gate.users:
                self._gates.pop(consult, None)

    async def _close(self, consult: ConsultId) -> None:
        async with self._alone(consult):
            self._homeless.pop(consult, None)
            self._deaths.pop(consult, None)
            placement = self.consults.pop(consult, None)
            await self._sweep(consult, None)
            if placement is not None:
                for worker in (placement.home, *placement.others):
                    self._pool.removed(worker, consult)
                    await self.each(worker, [control.CloseRouter(router=consult)])

    async def _place(self, consult: ConsultId) -> Placement:
        lost_on = self._homeless.get(consult)
        only = lost_on if self._is_suspicious(consult) else None
        await self._pool.wait_up(WORKER_RETURN_S, only)
        home = only if only is not None else self._pool.choose(urgent=lost_on is not None)
        if home is None:
            raise MediaFull("consult")
        capabilities = await self._open(home, consult)
        # Entered before the first await: a death from here on finds it and has it placed again.
        placement = self.consults[consult] = Placement(home, capabilities)
        self._homeless.pop(consult, None)
        await self._sweep(consult, home)
        if self.consults.get(consult) is not placement:
            raise MediaError(MediaErrorCode.WORKER_GONE, "the media worker died meanwhile")
        return placement

    async def _open(self, worker: int, consult: ConsultId) -> JsonObject:
        """Open the consult's Router on one more worker; one whose opening failed is swept with the consult."""
        self._pool.placed(worker, consult)
        try:
            client = self._pool.client(worker)
            capabilities = await open_router(client, consult)
            if client.closed.is_set():
                raise MediaError(MediaErrorCode.WORKER_GONE, "the media worker died meanwhile")
        except BaseException:
            self._leftovers.setdefault(consult, set()).add(worker)
            self._pool.removed(worker, consult)
            raise
        return capabilities

    async def _choose_seat(self, consult: ConsultId, placement: Placement) -> int:
        present = (placement.home, *sorted(placement.others))
        for worker in present:
            if self._pool.admits(worker):
                return worker
        chosen = self._pool.choose()
        if chosen is None:
            raise MediaFull("participant")
        if chosen not in present:
            async with self._alone(consult):
                self._check_current(consult, placement)
                await self._open(chosen, consult)
                if self.consults.get(consult) is not placement:  # its home has died: the next placing sweeps this one
                    self._leftovers.setdefault(consult, set()).add(chosen)
                self._check_current(consult, placement)
                self._leftovers.get(consult, set()).discard(chosen)
                placement.others.add(chosen)
            log.info("consult goes on on another worker", consult=consult, home=placement.home, worker=chosen)
        return chosen

    def _check_current(self, consult: ConsultId, placement: Placement) -> None:
        if self.consults.get(consult) is not placement:
            raise MediaError(MediaErrorCode.WORKER_GONE, "the consult's home died or it was closed meanwhile")

    async def _bring(
        self,
        consult: ConsultId,
        owner: ParticipantId,
        pipe: Pipe,
        made: control.Produce | control.ProduceData,
        worker: int,
    ) -> None:
        identity = made.producer if isinstance(made, control.Produce) else made.data_producer
        async with pipe.lock:
            there = self._pool.client(worker)
            if not pipe.open:
                key = secrets.token_hex(16)
                await there.call(control.AcceptPipe(router=consult, transport=pipe.transport, owner=owner, key=key))
                path = str(self._pool.workers[worker].pipe)
                try:
                    await self._pool.client(pipe.source).call(
                        control.OpenPipe(transport=made.transport, path=path, key=key)
                    )
                except MediaError:
                    await self.each(worker, [control.CloseTransport(transport=pipe.transport)])
                    raise
                pipe.open = True
            if identity not in pipe.made:
                await there.call(made.model_copy(update={"transport": pipe.transport}))
                pipe.made.add(identity)

    async def _sweep(self, consult: ConsultId, but: int | None) -> None:
        """Close what is left of a consult whose home has died."""
        for worker in self._leftovers.pop(consult, set()):
            if worker != but:
                self._pool.removed(worker, consult)
                await self.each(worker, [control.CloseRouter(router=consult)])

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who waited was told; who did not asks again

    def _is_suspicious(self, consult: ConsultId) -> bool:
        deaths = self._deaths.get(consult)
        if deaths is None or len(deaths) < SUSPICIOUS_DEATHS:
            return False
        return time.monotonic() - deaths[0] < SUSPICIOUS_WITHIN_S


async def open_router(client: WorkerClient, consult: ConsultId) -> JsonObject:
    """Make the consult's Router, empty: one that is there was opened by a call that nobody waited for."""
    try:
        return await client.open_router(consult)
    except MediaError as error:
        if error.code is not MediaErrorCode.EXISTS:
            raise
    await client.close_router(consult)
    return await client.open_router(consult)
