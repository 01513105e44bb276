"""The one way in which a consult changes: decide, commit, tell, draw the consequences.

    decide -> commit against the revision -> events to the local sessions in
    revision order -> what they mean here -> hint to the other nodes

The store is the truth and the bus a hint: hints may be lost, so each beat
first asks the store for what this node has not seen (``beats.py``).

One lock per consult orders what this node does; compare-and-set orders it
against other nodes. Media calls are made outside the lock: they may take long.

Commands, lost sockets, grace timers, hints and the media plane's news all end in
`Changes.change`, and are safe only because they do.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import reduce

from signaling.aio.audience import Audience
from signaling.aio.this_node import ThisNode
from signaling.core import binding
from signaling.core.consult import taken_back
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.fold import apply
from signaling.core.ids import ConsultId, DataProducerId, ParticipantId
from signaling.core.messages import (
    AnchorClosed,
    AnchorOpened,
    AnyEvent,
    ConsultEnded,
    ContextClosed,
    ContextOpened,
    ContextResumed,
    DataProducerAdded,
    DeviceUnbound,
    MediaReset,
    ParticipantLeft,
    ProducerAdded,
)
from signaling.core.model import Connection, Consult, ConsultStatus
from signaling.core.ports import Conflict
from signaling.core.seats import moved_away

log = logging.getLogger(__name__)

Decide = Callable[[Consult], list[AnyEvent]]
"""What happens to a state; asked again when another node was faster."""

INSISTED_AT_ONCE = 8
"""What has happened in any case waits its turn before it takes a consult's lock: the losses and ends of thousands at
once would fill the store's queue, and the beats of those who are in, and whoever comes back, would wait behind them."""

_OTHER_CONTEXT = (ContextOpened, ContextClosed, ContextResumed, AnchorOpened, AnchorClosed, ConsultEnded)
"""After these nobody shows what was shown before: every page says anew what it shows."""


class Changes:
    """Everything that moves the state of consults on this node."""

    def __init__(self, node: ThisNode) -> None:
        self._node = node
        self._hints: dict[ConsultId, int] = {}
        """What the other nodes are still to be told."""
        self._hinting = False
        self._insisted = asyncio.Semaphore(INSISTED_AT_ONCE)
        node.bus.listen(self._hinted)

    # ------------------------------------------------------------ change

    async def change(
        self,
        audience: Audience,
        actor: ParticipantId | None,
        decide: Decide,
        committed: Callable[[], None] = lambda: None,
    ) -> Consult:
        """Decide, commit with compare-and-set, tell the local sessions, hint the other nodes.

        Args:
            committed: called after the commit and before the events are told.

        Returns:
            The state after the change.

        Raises:
            Refusal: from ``decide``; or ``conflict`` when other nodes were faster each time. [CO6]
        """
        told: list[AnyEvent] = []
        async with audience.lock:
            try:
                events = await self._commit(audience, actor, decide, told)
                committed()
                told += audience.tell(events)
            finally:
                self._consequences(audience, told)
            after = audience.state
        if events:
            self._hint(after)
        return after

    async def insist(self, audience: Audience, decide: Decide, committed: Callable[[], None] = lambda: None) -> None:
        """Change what has happened in any case: when the store fails, again until it does not.

        Without its audience there is nobody it would be told to; who opens the consult next takes stock then.
        """
        while True:
            try:
                async with self._insisted:
                    await self.change(audience, None, decide, committed)
                return
            except Exception as error:  # whatever the store's trouble is, the truth must still get there
                log.warning("change put off", extra={"consult": audience.state.id, "error": type(error).__name__})
            await asyncio.sleep(self._node.settings.retry_s)
            if not self._node.is_open(audience):
                return

    async def expire(self, audience: Audience) -> None:
        """Bindings that nobody has renewed end. [BI3] (W20)"""
        if binding.expired(audience.state, self._node.now_ms()):
            await self.change(audience, None, lambda state: binding.expired(state, self._node.now_ms()))

    async def _commit(
        self, audience: Audience, actor: ParticipantId | None, decide: Decide, told: list[AnyEvent]
    ) -> list[AnyEvent]:
        """Commit what ``decide`` wants; what other nodes did meanwhile is told and added to ``told``."""
        for _ in range(self._node.settings.commit_tries):
            before = audience.state
            events = decide(before)
            if not events:
                return []
            try:
                async with self._node.store_time():
                    await self._node.store.commit(before, reduce(apply, events, before), events, actor, self._node.name)
            except Conflict:
                told += await self._fetch_missed(audience)
            else:
                return events
        raise Refusal(ErrorCode.CONFLICT)

    # ------------------------------------------------------------ catching up

    def _hint(self, state: Consult) -> None:
        """Nobody's answer waits for the bus; what waits for it is the newest revision of each consult."""
        self._hints[state.id] = state.revision
        if not self._hinting:
            self._hinting = True
            self._node.spawn(self._send_hints())

    async def _send_hints(self) -> None:
        try:
            while self._hints:
                consult = next(iter(self._hints))
                await self._node.bus.publish(consult, self._hints.pop(consult))
        finally:
            self._hinting = False

    async def _hinted(self, consult: ConsultId, revision: int) -> None:
        """Returns at once: one consult's trouble with the store must not keep other consults' hints waiting."""
        audience = self._node.audiences.get(consult)
        if audience is None or revision <= audience.state.revision:
            return
        if not audience.hinted:
            self._node.spawn(self._follow(audience))
        audience.hinted = max(audience.hinted, revision)

    async def _follow(self, audience: Audience) -> None:
        try:
            asked_for = 0
            while audience.state.revision < audience.hinted != asked_for:
                asked_for = audience.hinted
                await self.catch_up(audience)
        except Exception as error:  # whatever the store's trouble is, the next beat asks again
            log.warning("hint put off", extra={"consult": audience.state.id, "error": type(error).__name__})
        finally:
            audience.hinted = 0

    async def catch_up(self, audience: Audience) -> None:
        """Tell what other nodes committed.

        Raises:
            TimeoutError, and whatever the store raises: nothing happened.
        """
        async with audience.lock:
            told = await self._fetch_missed(audience)
        self._consequences(audience, told)

    async def _fetch_missed(self, audience: Audience) -> list[AnyEvent]:
        """Tell what other nodes committed. When that is too much the state jumps, and a beat makes the clients sync."""
        consult, store = audience.state.id, self._node.store
        async with self._node.store_time():
            missed = await store.events_since(consult, audience.state.revision, self._node.settings.catch_up_events)
            if missed is not None:
                told = audience.tell(missed)
                self._let_go(audience, moved_away(told, audience.graces))
                return told
            state = await store.load(consult)
            _, seats = await store.seats(consult)
        if state is not None and state.revision > audience.state.revision:
            before, audience.state = audience.state, state
            self._jumped(audience, before)
            self._let_go(
                audience, {who for who in (*audience.peers, *audience.graces) if seats.get(who) != self._node.name}
            )
            self._node.beat(audience)
        return []

    # ------------------------------------------------------------ consequences

    def _consequences(self, audience: Audience, events: Sequence[AnyEvent]) -> None:
        """What an event means for sessions and media on this node, whichever node decided it."""
        for event in events:
            if isinstance(event, _OTHER_CONTEXT):
                self._node.viewing.end_all(audience.state.id, event.at_ms)
            if isinstance(event, ParticipantLeft):
                self._gone(audience, event.participant)
            elif isinstance(event, DeviceUnbound):
                self._node.spawn(self._close_feeds(audience, event.device, event.closed))
            elif isinstance(event, ProducerAdded | DataProducerAdded):
                self._close_if_taken_back(audience, event)
            elif isinstance(event, MediaReset):
                audience.silent_transports.clear()
            elif isinstance(event, ConsultEnded):
                self._ended(audience)
        self._node.desert_if_empty(audience)
        self._node.look_quiet()

    def _jumped(self, audience: Audience, before: Consult) -> None:
        """The same, where the events between two states were too many to be asked for."""
        node, after = self._node, audience.state
        ended = after.status is ConsultStatus.ENDED
        if ended or after.context_changed_at_ms != before.context_changed_at_ms:
            node.viewing.end_all(after.id, node.now_ms())
        for who in before.participants.keys() - after.participants.keys():
            self._gone(audience, who)
        closed: dict[ParticipantId, list[DataProducerId]] = {}
        for source in before.data_producers.values():
            if source.id not in after.data_producers:
                closed.setdefault(source.participant, []).append(source.id)
        for device, sources in closed.items():
            node.spawn(self._close_feeds(audience, device, sources))
        if after.media_epoch != before.media_epoch:
            audience.silent_transports.clear()
        if ended:
            self._ended(audience)

    def _close_if_taken_back(self, audience: Audience, event: ProducerAdded | DataProducerAdded) -> None:
        """A source that was stored and not answered. [ME9]"""
        source = event.producer.id if isinstance(event, ProducerAdded) else event.data_producer.id
        if source in audience.taken_back:
            now_ms = self._node.now_ms
            self._node.spawn(self.insist(audience, lambda state: taken_back(state, source, now_ms())))

    async def _close_feeds(self, audience: Audience, device: ParticipantId, closed: Iterable[DataProducerId]) -> None:
        """Close at the relay what the state has closed, and do not give up while the relay may still carry it. [BI3]

        Only where the device's media is; with a device, a worker or a consult that is gone all of it went anyway.
        """
        consult, epoch, left = audience.state.id, audience.state.media_epoch, list(closed)
        while (
            left
            and self._node.is_open(audience)
            and device in audience.admitted
            and audience.state.media_epoch == epoch
        ):
            left = await self._node.media.close_feeds(consult, device, left)
            if left:
                await asyncio.sleep(self._node.settings.retry_s)

    def _gone(self, audience: Audience, who: ParticipantId) -> None:
        peer = audience.peers.get(who)
        self._node.viewing.end(audience.state.id, who)
        audience.forget(who)
        audience.elsewhere.discard(who)
        if peer is not None:
            peer.goodbye("removed")
        self._node.spawn(self._node.media.release(audience.state.id, who))

    def _ended(self, audience: Audience) -> None:
        for who in [*audience.peers, *audience.graces]:
            peer = audience.peers.get(who)
            audience.forget(who)
            if peer is not None:
                peer.goodbye("ended")

    def _let_go(self, audience: Audience, moved: Collection[ParticipantId]) -> None:
        """Another process has these now: they came back to it, or it took this one for dead. [SE5] [SE8]

        Whoever still has a socket here is told to go, with the media that is here, and comes back as a newcomer does.
        """
        if self._node.settings.sole_node:
            return
        audience.elsewhere.update(moved)
        for who in moved:
            if who in audience.admitted:
                self._node.spawn(self._node.media.release(audience.state.id, who))
            peer = audience.peers.get(who)
            if peer is None:
                continue
            now = audience.state.participants.get(who)
            is_back = now is not None and now.connection is not Connection.RECONNECTING
            self._node.viewing.end(audience.state.id, who)
            audience.forget(who)
            peer.goodbye("replaced" if is_back else "server_stopping")
