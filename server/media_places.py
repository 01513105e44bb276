"""Where the media of each consult are: which worker has its Router, and what each participant has there.

A consult is placed on the worker with most room when its first participant comes, refused with `MediaFull` when
there is none, and stays until it is closed. When its worker dies it is placed again at once, on another worker if one
lives: nobody waits for the replacement then. A consult that has seen two workers die within a minute may be the cause;
it waits for its own worker's replacement instead of being carried from worker to worker.

Commands are carried out by ``server.media_plane``; load and limits are ``media.aio.pool`` and ``media.core.placement``.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable
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
    """One consult on its worker."""

    home: int
    capabilities: JsonObject
    participants: dict[ParticipantId, Belongings] = field(default_factory=dict)

    def of(self, participant: ParticipantId) -> Belongings:
        """Belongings of a participant, empty at first."""
        return self.participants.setdefault(participant, Belongings())

    def everyone(self, kind: Literal["producers", "data_producers"]) -> set[Any]:
        """All ids of one kind in this consult: what may be consumed."""
        return {identity for belongings in self.participants.values() for identity in getattr(belongings, kind)}


class Places:
    """All consults of this machine's workers."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self.consults: dict[ConsultId, Placement] = {}
        self._opening: dict[ConsultId, asyncio.Lock] = {}
        self._homeless: dict[ConsultId, int] = {}
        """Consults whose worker has died, with that worker: they are placed again whatever the load."""
        self._deaths: dict[ConsultId, deque[float]] = {}

    async def find(self, consult: ConsultId) -> Placement:
        """The consult's placement, made when there is none.

        Raises:
            MediaError: ``worker_gone`` when no worker came back in time.
            MediaFull: no worker has room for another consult.
        """
        async with self._opening.setdefault(consult, asyncio.Lock()):
            placement = self.consults.get(consult)
            return placement if placement is not None else await self._place(consult)

    async def settle_again(self, consult: ConsultId) -> None:
        """Place a consult whose worker died, however long that takes; returns when it is placed or closed."""
        while consult in self._homeless:
            try:
                await self.find(consult)
            except MediaError as error:  # the replacement died too, or is slow to come: its successor will do
                log.warning("consult not placed again", consult=consult, code=error.code.value)

    def seat(self, placement: Placement, mine: Belongings) -> int:
        """The worker for a participant's Transports; the same for both.

        Raises:
            MediaFull: he is new and there is no room for him.
        """
        if mine.worker is None:
            if not self._pool.admits(placement.home):
                raise MediaFull("participant")
            mine.worker = placement.home
            self._pool.joined(placement.home)
        return mine.worker

    def lose(self, worker: int) -> list[ConsultId]:
        """A worker died: forget what it had; the consults that must be placed again."""
        lost = [consult for consult, placement in self.consults.items() if placement.home == worker]
        now_s = time.monotonic()
        for consult in lost:
            del self.consults[consult]
            self._homeless[consult] = worker
            self._deaths.setdefault(consult, deque(maxlen=SUSPICIOUS_DEATHS)).append(now_s)
        return lost

    async def close(self, consult: ConsultId) -> None:
        """Forget a consult and close its Router; idempotent."""
        self._homeless.pop(consult, None)
        self._deaths.pop(consult, None)
        self._opening.pop(consult, None)
        placement = self.consults.pop(consult, None)
        if placement is not None:
            self._pool.removed(placement.home)
            await self.each(placement.home, [control.CloseRouter(router=consult)])

    async def each(self, worker: int, requests: Iterable[control.Request]) -> None:
        """Ask for what a worker that is gone has done already."""
        for request in requests:
            with contextlib.suppress(MediaError):
                await self._pool.client(worker).call(request)

    async def _place(self, consult: ConsultId) -> Placement:
        lost_on = self._homeless.get(consult)
        only = lost_on if self._is_suspicious(consult) else None
        await self._pool.wait_up(WORKER_RETURN_S, only)
        home = only if only is not None else self._pool.choose(urgent=lost_on is not None)
        if home is None:
            raise MediaFull("consult")
        self._pool.placed(home)
        try:
            client = self._pool.client(home)
            capabilities = await open_router(client, consult)
            if client.closed.is_set():
                raise MediaError(MediaErrorCode.WORKER_GONE, "the media worker died meanwhile")
        except BaseException:
            self._pool.removed(home)
            raise
        self._homeless.pop(consult, None)
        placement = self.consults[consult] = Placement(home, capabilities)
        return placement

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
