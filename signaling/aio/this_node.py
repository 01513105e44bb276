"""What this process has: its consults, and the tools that every room of the service works with.

Nothing is decided here and nothing stored. An audience is made by ``attendance.py`` when its first session comes, and
ends here when nobody is left; its state moves in ``changes.py`` and nowhere else.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from signaling.aio.audience import Audience, Peer
from signaling.aio.media_calls import MediaCalls
from signaling.aio.settings import ServiceSettings
from signaling.aio.viewing import Viewing
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsultId
from signaling.core.messages import Beat
from signaling.core.model import Role
from signaling.core.ports import ConsultStore, EventBus

log = logging.getLogger(__name__)

PEOPLE = frozenset({Role.DOCTOR, Role.NURSE, Role.GUEST})
"""Displays and devices alone keep no server running, and begin no consult on one that stops."""


class ThisNode:
    """One process among those that may serve the same consults.

    Args:
        now_ms: wall clock, milliseconds since 1970.
    """

    def __init__(
        self,
        store: ConsultStore,
        bus: EventBus,
        media: MediaCalls,
        now_ms: Callable[[], int],
        settings: ServiceSettings,
    ) -> None:
        self.store = store
        self.bus = bus
        self.media = media
        self.now_ms = now_ms
        self.settings = settings
        self.name = secrets.token_hex(8)
        """By which other processes know this one; none has or had the same."""
        self.viewing = Viewing(now_ms)
        self.audiences: dict[ConsultId, Audience] = {}
        self._opening: dict[ConsultId, tuple[asyncio.Lock, int]] = {}
        """With how many hold or want it."""
        self.namesakes: frozenset[ConsultId] = frozenset()
        """Consults whose patient shares a family name with another consult's. [SN1]"""
        self.stops_at_ms: int | None = None
        """By when every consult must have ended; None: this process goes on."""
        self.quiet = asyncio.Event()
        """This process stops, and the last consult has ended."""
        self._tasks: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------ tasks

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this beside; it ends by itself, or in `stop`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", exc_info=error)

    async def stop(self) -> None:
        """End what was spawned and every grace time, and know no consult any more; idempotent."""
        while tasks := list(self._tasks):  # one that ends may leave another to be done
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for audience in self.audiences.values():
            for participant in list(audience.graces):
                audience.stop_grace(participant)
        self.audiences.clear()

    def store_time(self) -> asyncio.Timeout:
        """How long the store may take: every question to it is asked within."""
        return asyncio.timeout(self.settings.store_timeout_s)

    # ------------------------------------------------------------ consults

    def audience_of(self, peer: Peer) -> Audience:
        """Where a session is in.

        Raises:
            Refusal: ``not_joined``.
        """
        audience = self.audiences.get(peer.admission.consult)
        if audience is None or audience.peers.get(peer.admission.participant) is not peer:
            raise Refusal(ErrorCode.NOT_JOINED)
        return audience

    def is_open(self, audience: Audience) -> bool:
        """Whether this is still its consult's audience here."""
        return self.audiences.get(audience.state.id) is audience

    async def heard_or_not(self, consult: ConsultId) -> Audience | None:
        """A consult to be changed, whether anybody on this node is in it or not; None when there is no such consult.

        Without anybody it is an audience for this one change, which the store alone hears of.
        """
        audience = self.audiences.get(consult)
        if audience is not None:
            return audience
        async with self.store_time():
            state = await self.store.load(consult)
        return None if state is None else self.audiences.get(consult) or Audience(state)

    def desert_if_empty(self, audience: Audience) -> None:
        """Nobody is left: the consult costs nothing until someone comes."""
        if audience.deserted and self.is_open(audience):
            del self.audiences[audience.state.id]
            self.spawn(self._close_media(audience.state.id))

    @contextlib.asynccontextmanager
    async def opening(self, consult: ConsultId) -> AsyncIterator[None]:
        """Held while a consult's audience is made, or its media closed because it has none."""
        lock, users = self._opening.get(consult) or (asyncio.Lock(), 0)
        self._opening[consult] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            _, users = self._opening.pop(consult)
            if users > 1:
                self._opening[consult] = lock, users - 1

    async def _close_media(self, consult: ConsultId) -> None:
        async with self.opening(consult):
            if consult not in self.audiences:
                await self.media.close(consult)

    # ------------------------------------------------------------ beat and drain

    def beat(self, audience: Audience) -> None:
        """Vouch for what everyone here has been told. (W19)"""
        state = audience.state
        audience.signal(
            Beat(
                revision=state.revision,
                context_version=state.context.version if state.context else 0,
                server_time_ms=self.now_ms(),
                same_surname=state.id in self.namesakes,
                stops_at_ms=self.stops_at_ms,
            )
        )

    @property
    def running(self) -> int:
        """Consults in which a person is, or may come back."""
        return sum(has_people(audience) for audience in self.audiences.values())

    def drain(self, stops_at_ms: int) -> None:
        """From now on no consult begins here, and everyone is told by when those that run must end. [SE14]"""
        self.stops_at_ms = stops_at_ms
        for audience in self.audiences.values():
            self.beat(audience)
        self.look_quiet()

    def look_quiet(self) -> None:
        """Somebody has left."""
        if self.stops_at_ms is not None and not self.running:
            self.quiet.set()


def has_people(audience: Audience) -> bool:
    """Whether a person is here, or may come back."""
    here = (audience.admitted.get(who) for who in (*audience.peers, *audience.graces))
    return any(admission is not None and admission.role in PEOPLE for admission in here)
