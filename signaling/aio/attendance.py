"""Who is in: coming, a lost socket, the grace time, and coming back, here or at another process.

A participant survives its sockets. Each has one seat, at the process that had it last; who has whom is judged in
``core/seats.py``, and which processes are dead in ``nodes.py``, which has `Attendance.take_over` called.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from functools import partial, reduce

from signaling.aio.audience import Audience, Peer
from signaling.aio.changes import Changes
from signaling.aio.this_node import PEOPLE, ThisNode, has_people
from signaling.core import occurrences
from signaling.core.admission import Admission
from signaling.core.consult import closed_sources, handle
from signaling.core.errors import ErrorCode, Refusal, ServerStopping
from signaling.core.fold import apply
from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.messages import AnyEvent, Join, Joined
from signaling.core.model import Consult
from signaling.core.seats import orphaned

log = logging.getLogger(__name__)


class Attendance:
    """The comings and goings of this node's consults."""

    def __init__(self, node: ThisNode, changes: Changes) -> None:
        self._node = node
        self._changes = changes
        self._joins: set[asyncio.Task[Joined]] = set()

    @property
    def admitted(self) -> list[Admission]:
        """The rights by which participants are in consults on this node, those in their grace time included."""
        return [admission for audience in self._node.audiences.values() for admission in audience.admitted.values()]

    async def stop(self) -> None:
        """End joins that are under way; idempotent."""
        joins = list(self._joins)
        for join in joins:
            join.cancel()
        await asyncio.gather(*joins, return_exceptions=True)

    # ------------------------------------------------------------ coming

    async def join(self, peer: Peer) -> Joined:
        """[CO1] [CO2] [SE5] A commit cannot be called back: once begun, a join runs to its end without its asker.

        Raises:
            Refusal: declined; nothing happened.
        """
        audience = await self._open(peer.admission.consult)
        audience.arrivals += 1
        entering = asyncio.create_task(self._enter(audience, peer))
        self._joins.add(entering)
        entering.add_done_callback(self._joins.discard)
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            self._node.spawn(self._out_again(entering, peer))
            raise

    async def _out_again(self, entering: asyncio.Task[Joined], peer: Peer) -> None:
        """Whose socket was lost during the join is in without one."""
        await asyncio.wait({entering})
        if entering.cancelled() or entering.exception() is not None:
            return
        if peer.goodbye_reason == "removed":
            self.dismiss(lambda admission: admission is peer.admission)
        else:
            await self.detach(peer)

    async def _enter(self, audience: Audience, peer: Peer) -> Joined:
        actor, node = peer.admission, self._node
        try:
            if audience.peers.get(actor.participant) is peer:
                raise Refusal(ErrorCode.ALREADY_JOINED)
            handle(audience.state, actor, Join(), node.now_ms())
            if node.stops_at_ms is not None and actor.role in PEOPLE and not has_people(audience):
                raise ServerStopping
            capabilities = await node.media.capabilities(actor.consult)
            deaf: list[Peer] = []
            try:
                snapshot = await self._changes.change(
                    audience,
                    actor.participant,
                    lambda state: self._entering(audience, state, actor),
                    committed=lambda: deaf.extend(self._admit(audience, peer)),
                )
            except Exception as error:
                if not isinstance(error, Refusal) and actor.participant not in audience.peers:
                    self._start_grace(audience, actor.participant)  # it may have been stored, and nobody come back
                raise
            if deaf:
                await node.media.release(actor.consult, actor.participant)
        finally:
            audience.arrivals -= 1
            node.desert_if_empty(audience)
        return Joined(
            you=actor.participant,
            snapshot=snapshot,
            router_rtp_capabilities=capabilities,
            server_time_ms=node.now_ms(),
        )

    def _entering(self, audience: Audience, state: Consult, actor: Admission) -> list[AnyEvent]:
        """A page that takes over from another one has shown nothing yet: it starts as one that was away. [SE5]

        Here or at another process, which learns by it that the participant is elsewhere (`seats.moved_away`).

        Whoever cannot be told to stop sending is stopped with the same commit. [SE15]
        """
        now_ms = self._node.now_ms()
        older = audience.peers.get(actor.participant)
        away = occurrences.socket_lost(state, actor.participant, now_ms)
        if older is not None and not older.hears:
            away += closed_sources(reduce(apply, away, state), actor.participant, now_ms)
        back = handle(reduce(apply, away, state), actor, Join(), now_ms)
        return [*away, *back]

    def _admit(self, audience: Audience, peer: Peer) -> list[Peer]:
        """Returns who was replaced and cannot hear it."""
        who = peer.admission.participant
        older = audience.peers.get(who)
        self._node.viewing.end(audience.state.id, who)
        if older is not None:
            older.goodbye("replaced")
        peer.hold_events()
        audience.peers[who] = peer
        audience.admitted[who] = peer.admission
        audience.elsewhere.discard(who)
        audience.lost.discard(who)
        audience.stop_grace(who)
        return [] if older is None or older.hears else [older]

    async def _open(self, consult: ConsultId) -> Audience:
        """The consult's audience on this node, made when its first session comes.

        Raises:
            Refusal: ``not_found``.
        """
        node = self._node
        async with node.opening(consult):
            audience = node.audiences.get(consult)
            if audience is not None:
                return audience
            async with node.store_time():
                state = await node.store.load(consult)
            if state is None:
                raise Refusal(ErrorCode.NOT_FOUND)
            audience = Audience(state)
            if node.settings.sole_node:
                await self._adopt(audience)
            node.audiences[consult] = audience
            return audience

    async def _adopt(self, audience: Audience) -> None:
        await self._changes.change(audience, None, lambda state: occurrences.adopted(state, (), self._node.now_ms()))
        await self._changes.expire(audience)
        for participant in audience.state.participants:
            self._start_grace(audience, participant)

    # ------------------------------------------------------------ going

    async def detach(self, peer: Peer) -> None:
        """A session's socket is gone. The participant may come back within the grace time. [SE3] [SE4]

        Whoever is lost while another's loss is being stored shares the next commit: after a cut the whole consult does.
        """
        audience = self._node.audiences.get(peer.admission.consult)
        who = peer.admission.participant
        if audience is None or audience.peers.get(who) is not peer:
            return
        del audience.peers[who]
        self._node.viewing.end(audience.state.id, who)
        self._start_grace(audience, who)
        audience.lost.add(who)
        stored: set[ParticipantId] = set()

        def decide(state: Consult) -> list[AnyEvent]:
            stored.clear()
            stored.update(audience.lost)
            events: list[AnyEvent] = []
            for one in sorted(stored):
                lost = self._absent(audience, one, state, occurrences.socket_lost)
                state = reduce(apply, lost, state)
                events += lost
            return events

        await self._changes.insist(audience, decide, lambda: audience.lost.difference_update(stored))

    def dismiss(self, over: Callable[[Admission], bool]) -> None:
        """Whoever came in by a right that is over leaves now, media and all, with or without a socket. [SE12]"""
        for audience in self._node.audiences.values():
            for who, admission in audience.admitted.items():
                if over(admission):
                    self._node.spawn(self._changes.insist(audience, partial(self._dismissed, audience, who, admission)))

    def _dismissed(
        self, audience: Audience, who: ParticipantId, admission: Admission, state: Consult
    ) -> list[AnyEvent]:
        """Nothing when the participant has meanwhile come back by another right."""
        if audience.admitted.get(who) is not admission:
            return []
        return occurrences.removed(state, who, self._node.now_ms())

    # ------------------------------------------------------------ grace

    def _start_grace(self, audience: Audience, who: ParticipantId) -> None:
        audience.stop_grace(who)
        loop = asyncio.get_running_loop()
        audience.graces[who] = loop.call_later(self._node.settings.grace_s, self._grace_over, audience, who)

    def _grace_over(self, audience: Audience, who: ParticipantId) -> None:
        audience.overdue.add(who)
        if not audience.removing:
            audience.removing = True
            self._node.spawn(self._remove_overdue(audience))

    async def _remove_overdue(self, audience: Audience) -> None:
        """Those whose grace time ends while others are being removed share the next commit, as their losses did."""
        try:
            while whose := frozenset(audience.overdue):
                mine = await self._mine_of(audience, whose)
                if mine:
                    await self._changes.insist(audience, partial(self._overdue, audience, mine))
                for who in whose & audience.overdue:
                    if who not in mine and who not in audience.peers:
                        audience.forget(who)
                    audience.stop_grace(who)
        finally:
            audience.removing = False
        self._node.desert_if_empty(audience)
        self._node.look_quiet()

    def _overdue(self, audience: Audience, mine: frozenset[ParticipantId], state: Consult) -> list[AnyEvent]:
        """Also of whom the state knows no loss: it could not be stored, or nobody learnt that a join was."""
        events: list[AnyEvent] = []
        for who in sorted(mine & audience.overdue):
            gone = self._absent(audience, who, state, occurrences.removed)
            state = reduce(apply, gone, state)
            events += gone
        return events

    async def _mine_of(self, audience: Audience, whose: frozenset[ParticipantId]) -> frozenset[ParticipantId]:
        """Of these, whom no other process has: that one has a grace time of its own for them. [SE4] [SE8]

        By the newest state: what was stored here without an answer looks like another's until the seats are read.
        """
        node = self._node
        while node.is_open(audience):
            try:
                await self._changes.catch_up(audience)
                if node.settings.sole_node:
                    return whose
                async with node.store_time():
                    _, seats = await node.store.seats(audience.state.id)
                mine = frozenset(who for who in whose if seats.get(who, node.name) == node.name)
                audience.elsewhere -= mine
                return mine
            except Exception as error:  # as in `Changes.insist`
                log.warning("grace put off", extra={"consult": audience.state.id, "error": type(error).__name__})
            await asyncio.sleep(node.settings.retry_s)
        return whose

    def _absent(
        self,
        audience: Audience,
        who: ParticipantId,
        state: Consult,
        occurrence: Callable[[Consult, ParticipantId, int], list[AnyEvent]],
    ) -> list[AnyEvent]:
        """What happens to a participant who has no socket here, unless it came back meanwhile, here or elsewhere."""
        here = who in audience.peers or who in audience.elsewhere
        return [] if here else occurrence(state, who, self._node.now_ms())

    # ------------------------------------------------------------ dead nodes

    async def take_over(self, consult: ConsultId, dead: Collection[str]) -> None:
        """Whom dead processes had is without a socket, and this one gives them their grace time. [SE8]

        Of several processes that find the same the first commit counts: the seats of the others are older than it.

        Raises:
            Refusal: nothing happened, or another process was faster.
        """
        node = self._node
        audience = await self._open(consult)
        taken: list[ParticipantId] = []
        async with node.store_time():
            revision, seats = await node.store.seats(consult)
        await self._changes.catch_up(audience)

        def decide(state: Consult) -> list[AnyEvent]:
            taken[:] = [who for who, seat in seats.items() if seat in dead] if state.revision == revision else []
            return orphaned(state, taken, node.now_ms())

        try:
            await self._changes.change(audience, None, decide)
        finally:  # also when it is not known whether it was stored: whose they are is asked when the grace time is over
            for who in taken:
                if who not in audience.peers:
                    self._start_grace(audience, who)
        if taken:
            log.warning("taken over", extra={"consult": consult, "participants": len(taken)})
        node.desert_if_empty(audience)
