"""Commands carried out: decide, commit, tell.

    policy and rules -> media plane, where the command needs it -> commit against
    the revision -> events to the local sessions in revision order -> hint to the
    other nodes

The store is the truth and the bus a hint: hints may be lost, so each beat
first asks the store for what this node has not seen. A beat therefore vouches for
the state, and when the store cannot be reached no beat is sent and the clinical
views blank themselves (W19).

One lock per consult orders what this node does; compare-and-set orders it
against other nodes. Media calls are made outside the lock: they may take long.

A long file on purpose: commands, lost sockets, grace timers, hints and the media
plane's news all end in the same `_change`, and are safe only because they do.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any, Literal

from signaling.aio.audience import BEAT_PARTS, Audience, Peer
from signaling.aio.media_calls import MediaCalls
from signaling.aio.nodes import Nodes, NodeTimes
from signaling.aio.viewing import Viewing
from signaling.core import binding, ecg, occurrences, sharing
from signaling.core.admission import Admission
from signaling.core.anchor import facts_of, opened_by_turning, shown_unopened
from signaling.core.attempts import Attempts
from signaling.core.bucket import TokenBucket
from signaling.core.case import AnchorFacts, Case, NoteFacts
from signaling.core.consult import NOTHING_KNOWN, Known, as_admitted, closed_sources, handle
from signaling.core.errors import ErrorCode, Refusal, ServerStopping
from signaling.core.fold import apply
from signaling.core.ids import ConsultId, ParticipantId, PatientId, ProducerId, TransportId
from signaling.core.messages import (
    ActiveSpeaker,
    AnchorClosed,
    AnchorOpened,
    AnyCommand,
    AnyEvent,
    Beat,
    BindDevice,
    ConsultEnded,
    ConsumerLayers,
    ContextClosed,
    ContextOpened,
    ContextResumed,
    DeviceUnbound,
    Done,
    FreezePage,
    HeartRate,
    Ink,
    Join,
    Joined,
    LineQuality,
    MarkNoteInError,
    MediaCommand,
    MediaReset,
    MediaResult,
    OpenAnchor,
    OpenContext,
    ParticipantLeft,
    Point,
    PointEcg,
    ProduceData,
    PutEcgMark,
    PutNote,
    ReportEcgState,
    ReportWrongPatient,
    Scroll,
    ShareContent,
    ShowHighlight,
    ShowView,
    SkipIdentityCheck,
    SnapshotOrdered,
    Sync,
    SyncResult,
    TakeEcgSnapshot,
    TransportGone,
    TransportOptions,
    TurnPage,
    ViewConsumer,
)
from signaling.core.model import Connection, Consult, PatientBanner, Role, UnboundReason, Value
from signaling.core.ports import Conflict, ConsultStore, EventBus, MediaPlane, SnapshotOrder, ViewLog, WaveformArchive
from signaling.core.seats import moved_away, orphaned
from signaling.core.signals import signal_of
from signaling.core.surnames import namesakes

log = logging.getLogger(__name__)

Decide = Callable[[Consult], list[AnyEvent]]

_OTHER_CONTEXT = (ContextOpened, ContextClosed, ContextResumed, AnchorOpened, AnchorClosed, ConsultEnded)
"""After these nobody shows what was shown before: every page says anew what it shows."""

_PEOPLE = frozenset({Role.DOCTOR, Role.NURSE, Role.GUEST})

_PLAIN = frozenset(
    {
        "leave",
        "end_consult",
        "open_context",
        "close_context",
        "confirm_context",
        "open_anchor",
        "close_anchor",
        "share_content",
        "select_content",
        "dismiss_program",
        "turn_page",
        "take_lead",
        "hand_lead",
        "unbind_device",
        "report_patient",
        "freeze_ecg",
        "release_ecg",
        "put_ecg_mark",
        "remove_ecg_mark",
        "report_ecg_state",
        "highlight",
        "clear_highlight",
        "freeze_page",
        "release_page",
        "put_note",
        "mark_note_in_error",
        "tick_identity",
        "skip_identity_check",
        "report_wrong_patient",
    }
)
"""Commands that the state alone answers."""

_TRACE_BUDGET: dict[type, tuple[float, int]] = {
    ReportEcgState: (0.5, 6),
    PutEcgMark: (5.0, 30),
    TakeEcgSnapshot: (0.5, 5),
    ShareContent: (2.0, 20),
    ShowHighlight: (5.0, 20),
    FreezePage: (1.0, 10),
    PutNote: (0.5, 5),
    Ink: (10.0, 40),
    MarkNoteInError: (0.5, 5),
    ShowView: (2.0, 20),
    SkipIdentityCheck: (0.2, 5),
    ReportWrongPatient: (0.2, 5),
}
"""So many a second, so many at once, of each participant: each is an entry of the log that stays, or, of ink, a page
of numbers for everyone.

[EC3] [EC5] [AN5] [SH5] [SH7] [VW2]"""

_GUESSED_TOO_OFTEN = (
    "Too many wrong identifiers. Check the wristband and try again in a minute.",
    "身份标识多次不符，请核对腕带，一分钟后再试。",
)


@dataclass(frozen=True, slots=True)
class Step:
    """One command of an outside program, made for the state that it meets; None: nothing is left to do."""

    make: Callable[[Consult], AnyCommand | None]
    known: Known


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceSettings:
    """Times and limits of the consult service."""

    grace_s: float = 60.0
    """How long a participant without a socket stays one (ARCHITECTURE section 8)."""
    beat_s: float = 2.0
    """A clinical view blanks after 5 s: one beat may be lost."""
    commit_tries: int = 3
    catch_up_events: int = 200
    """What more than this was missed is replaced by a snapshot."""
    media_timeout_s: float = 10.0
    store_timeout_s: float = 5.0
    views_hz: float = 20.0
    """A page says what it looks at when that has settled; forty tiles at once after a layout change."""
    views_burst: int = 80
    strip_s: float = 60.0
    """How long the archive may take for a strip: 10 s of it are still to come, and a repair may be late."""
    retry_s: float = 1.0
    """Pause before what must be stored is tried again."""
    sole_node: bool = True
    """No other node serves these consults: whoever has no socket here has none. [SE8]"""
    nodes: NodeTimes = field(default_factory=NodeTimes)
    """Where others do: how each finds out which of them is dead."""


class ConsultService:
    """Everything that happens in consults on this node; the media plane's listener.

    Args:
        now_ms: wall clock, milliseconds since 1970.
    """

    def __init__(
        self,
        store: ConsultStore,
        bus: EventBus,
        media: MediaPlane,
        now_ms: Callable[[], int],
        settings: ServiceSettings = ServiceSettings(),
    ) -> None:
        self._store = store
        self._bus = bus
        self._media = MediaCalls(media, settings.media_timeout_s)
        self._now_ms = now_ms
        self._settings = settings
        self.node = secrets.token_hex(8)
        """This process, by a name that no other one has or had."""
        self._nodes = Nodes(store, self.node, self._take_over, settings.nodes)
        self._audiences: dict[ConsultId, Audience] = {}
        self._opening: dict[ConsultId, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._joins: set[asyncio.Task[Joined]] = set()
        self._beats: asyncio.Task[None] | None = None
        self._stops_at_ms: int | None = None
        self._quiet = asyncio.Event()
        self._archive: WaveformArchive | None = None
        self._are_followed: Callable[[ConsultId], Awaitable[bool]] = _by_nobody
        self._guesses = Attempts()
        self._viewing = Viewing(now_ms)
        self._comparing = False
        """Family names are being asked for."""
        self._surnames: dict[PatientId, frozenset[str]] = {}
        """Of who is open now."""
        self._namesakes: frozenset[ConsultId] = frozenset()
        """Consults whose patient shares a family name with another consult's. [SN1]"""
        bus.listen(self._hinted)
        media.listen(self)

    def use_archive(self, archive: WaveformArchive) -> None:
        """Keep strips here; without, they are refused as ``archive_unavailable``. [EC5]"""
        self._archive = archive

    def use_followers(self, are_followed: Callable[[ConsultId], Awaitable[bool]]) -> None:
        """Who knows whether outside programs follow a consult; without, none do. [AN7]"""
        self._are_followed = are_followed

    def use_view_log(self, log: ViewLog) -> None:
        """Keep here who saw what; without, it is not kept. [VW1]"""
        self._viewing.use(log)

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Listen to the other nodes and begin to beat."""
        await self._bus.start()
        if not self._settings.sole_node:
            await self._nodes.start()
        self._viewing.start()
        self._beats = asyncio.create_task(self._beat_forever())
        if self._archive is not None:
            self._spawn(self._resume_strips(self._archive))

    async def stop(self) -> None:
        """End every task and timer; idempotent. Participants stay: they may come back to the next process."""
        await self._nodes.stop()
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *self._joins, *([self._beats] if self._beats else [])]
        for audience in self._audiences.values():
            for participant in list(audience.graces):
                audience.stop_grace(participant)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._beats = None
        self._audiences.clear()
        await self._viewing.stop()
        await self._bus.stop()

    # ------------------------------------------------------------ drain

    @property
    def running(self) -> int:
        """Consults in which a person is, or may come back. Displays and devices alone keep no server running."""
        return sum(_has_people(audience) for audience in self._audiences.values())

    def drain(self, stops_at_ms: int) -> None:
        """From now on no consult begins here, and everyone is told by when those that run must end. [SE14]"""
        self._stops_at_ms = stops_at_ms
        for audience in self._audiences.values():
            self._beat(audience)
        self._look_quiet()

    async def quiet(self) -> None:
        """Wait, while draining, until the last consult has ended."""
        await self._quiet.wait()

    def _look_quiet(self) -> None:
        if self._stops_at_ms is not None and not self.running:
            self._quiet.set()

    # ------------------------------------------------------------ commands

    async def execute(self, peer: Peer, command: AnyCommand) -> Value:
        """Carry out one command of one session.

        Raises:
            Refusal: declined; nothing happened. ``store_unavailable``: it may have, the next snapshot tells.
        """
        try:
            return await self._execute(peer, command)
        except Exception as error:
            if not (isinstance(error, TimeoutError) or self._store.is_trouble(error)):
                raise
            kind = type(error).__name__
            log.warning("store unavailable", extra={"consult": peer.admission.consult, "error": kind})
            raise Refusal(ErrorCode.STORE_UNAVAILABLE, kind) from error

    async def _execute(self, peer: Peer, command: AnyCommand) -> Value:
        if isinstance(command, Join):
            return await self._join(peer)
        command = as_admitted(peer.admission, command)
        audience = self._audience_of(peer)
        if isinstance(command, Sync):
            return await self._sync(audience, peer.admission, command)
        if isinstance(command, Scroll | Point | PointEcg | Ink):
            self._spend(audience, peer.admission, command)
            handle(audience.state, peer.admission, command, self._now_ms())
            audience.signal(signal_of(peer.admission, command), skip=peer)
            return Done()
        if isinstance(command, ViewConsumer):
            return await self._view(audience, peer.admission, command)
        self._spend(audience, peer.admission, command)
        if isinstance(command, ShowView):
            return self._show(audience, peer.admission, command)
        if isinstance(command, BindDevice):
            return await self._bind(audience, peer.admission, command)
        if isinstance(command, TakeEcgSnapshot):
            return await self._order_strip(audience, peer.admission, command)
        if command.type in _PLAIN:
            return await self._plain(audience, peer.admission, command)
        return await self._with_media(audience, peer.admission, command)  # type: ignore[arg-type] # the rest is MediaCommand

    async def detach(self, peer: Peer) -> None:
        """A session's socket is gone. The participant may come back within the grace time. [SE3] [SE4]"""
        audience = self._audiences.get(peer.admission.consult)
        who = peer.admission.participant
        if audience is None or audience.peers.get(who) is not peer:
            return
        del audience.peers[who]
        self._viewing.end(audience.state.id, who)
        self._start_grace(audience, who)
        await self._insist(audience, lambda state: self._absent(audience, who, state, occurrences.socket_lost))

    def dismiss(self, over: Callable[[Admission], bool]) -> None:
        """Whoever came in by a right that is over leaves now, media and all, with or without a socket. [SE12]"""
        for audience in self._audiences.values():
            for who, admission in audience.admitted.items():
                if over(admission):
                    self._spawn(self._insist(audience, partial(self._dismissed, audience, who, admission)))

    def _dismissed(
        self, audience: Audience, who: ParticipantId, admission: Admission, state: Consult
    ) -> list[AnyEvent]:
        """Nothing when the participant has meanwhile come back by another right."""
        if audience.admitted.get(who) is not admission:
            return []
        return occurrences.dismissed(state, who, self._now_ms())

    @property
    def admitted(self) -> list[Admission]:
        """The rights by which participants are in consults on this node, those in their grace time included."""
        return [admission for audience in self._audiences.values() for admission in audience.admitted.values()]

    async def _join(self, peer: Peer) -> Joined:
        """[CO1] [CO2] [SE5] A commit cannot be called back: once begun, a join runs to its end without its asker."""
        audience = await self._open(peer.admission.consult)
        audience.arrivals += 1
        entering = asyncio.create_task(self._enter(audience, peer))
        self._joins.add(entering)
        entering.add_done_callback(self._joins.discard)
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            self._spawn(self._out_again(entering, peer))
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
        actor = peer.admission
        try:
            if audience.peers.get(actor.participant) is peer:
                raise Refusal(ErrorCode.ALREADY_JOINED)
            handle(audience.state, actor, Join(), self._now_ms())
            if self._stops_at_ms is not None and actor.role in _PEOPLE and not _has_people(audience):
                raise ServerStopping
            capabilities = await self._media.capabilities(actor.consult)
            deaf: list[Peer] = []
            snapshot = await self._change(
                audience,
                actor.participant,
                lambda state: self._entering(audience, state, actor),
                committed=lambda: deaf.extend(self._admit(audience, peer)),
            )
            if deaf:
                await self._media.release(actor.consult, actor.participant)
        finally:
            audience.arrivals -= 1
            self._desert_if_empty(audience)
        return Joined(
            you=actor.participant,
            snapshot=snapshot,
            router_rtp_capabilities=capabilities,
            server_time_ms=self._now_ms(),
        )

    def _entering(self, audience: Audience, state: Consult, actor: Admission) -> list[AnyEvent]:
        """A page that takes over from another one has shown nothing yet: it starts as one that was away. [SE5]

        Here or at another process, which learns by it that the participant is elsewhere (`seats.moved_away`).

        Whoever cannot be told to stop sending is stopped with the same commit. [SE15]
        """
        older = audience.peers.get(actor.participant)
        away = occurrences.socket_lost(state, actor.participant, self._now_ms())
        if older is not None and not older.hears:
            away += closed_sources(reduce(apply, away, state), actor.participant, self._now_ms())
        back = handle(reduce(apply, away, state), actor, Join(), self._now_ms())
        return [*away, *back]

    def _admit(self, audience: Audience, peer: Peer) -> list[Peer]:
        """Returns who was replaced and cannot hear it."""
        who = peer.admission.participant
        older = audience.peers.get(who)
        self._viewing.end(audience.state.id, who)
        if older is not None:
            older.goodbye("replaced")
        peer.hold_events()
        audience.peers[who] = peer
        audience.admitted[who] = peer.admission
        audience.elsewhere.discard(who)
        audience.stop_grace(who)
        return [] if older is None or older.hears else [older]

    async def _sync(self, audience: Audience, actor: Admission, command: Sync) -> SyncResult:
        """[CO4]"""
        handle(audience.state, actor, command, self._now_ms())
        if command.since > audience.state.revision:
            return SyncResult(snapshot=audience.state)
        async with asyncio.timeout(self._settings.store_timeout_s):
            events = await self._store.events_since(actor.consult, command.since, self._settings.catch_up_events)
        if events is None:
            return SyncResult(snapshot=audience.state)
        return SyncResult(events=tuple(events))

    async def _plain(self, audience: Audience, actor: Admission, command: AnyCommand) -> Done:
        known = Known(
            patient=await self._patient(actor.consult, command),
            anchor=await self._anchor(audience.state, actor, command),
            note=await self._note(audience.state, actor, command),
        )
        await self._change(
            audience, actor.participant, lambda state: handle(state, actor, command, self._now_ms(), known)
        )
        return Done()

    # ------------------------------------------------------------ outside programs

    async def act(self, actor: Admission, steps: Sequence[Step]) -> Consult:
        """An outside program asks for something in a participant's name: the same rules as for the participant. [PR1]

        The participant may be on another node. All steps are one commit.

        Returns:
            The consult after it.

        Raises:
            Refusal: declined; nothing happened. Whatever a step's ``make`` raises, likewise.
        """
        audience = await self._heard_or_not(actor.consult)

        def decide(state: Consult) -> list[AnyEvent]:
            events: list[AnyEvent] = []
            for step in steps:
                command = step.make(state)
                made = [] if command is None else handle(state, actor, command, self._now_ms(), step.known)
                state = reduce(apply, made, state)
                events += made
            return events

        return await self._change(audience, actor.participant, decide)

    async def open_shown(self, consult: ConsultId, asker: ParticipantId) -> None:
        """A program begins to follow while a study or report is shown: it is opened, as turning to it would have. [AN7]

        In the name of the lead, whose page it is; where nobody leads or the lead's role may not, of ``asker``, whose
        program it is. Where neither may nothing is opened, as when such a person turns.

        Raises:
            Whatever the store raises; nothing happened.
        """
        audience = await self._heard_or_not(consult)
        if self._audiences.get(consult) is audience:
            await self._catch_up(audience)
        command = shown_unopened(audience.state)
        context = audience.state.context
        if command is None or context is None:
            return
        async with asyncio.timeout(self._settings.store_timeout_s):
            found = await self._store.resource(consult, context.patient.id, command.resource_type, command.id)
        if found is None:
            return

        def still(state: Consult) -> AnyCommand | None:
            now = shown_unopened(state)
            return now if now is not None and (now.resource_type, now.id) == (facts.resource_type, facts.id) else None

        facts = facts_of(found)
        for who in dict.fromkeys((audience.state.lead, asker)):
            participant = audience.state.participants.get(who) if who is not None else None
            if participant is None:
                continue
            admission = Admission(
                consult=consult, participant=participant.id, role=participant.role, name=participant.name
            )
            with contextlib.suppress(Refusal):
                await self.act(admission, [Step(still, Known(anchor=facts))])
                return

    async def note(self, consult: ConsultId, actor: ParticipantId | None, decide: Decide) -> Consult:
        """Commit what is true of outside programs, whoever is here. [PR3] [PR5]

        Raises:
            Refusal: from ``decide``, or ``conflict``.
        """
        return await self._change(await self._heard_or_not(consult), actor, decide)

    async def _heard_or_not(self, consult: ConsultId) -> Audience:
        audience = self._audiences.get(consult) or await self._unheard(consult)
        if audience is None:
            raise Refusal(ErrorCode.NOT_FOUND)
        return audience

    async def _anchor(self, state: Consult, actor: Admission, command: AnyCommand) -> AnchorFacts | None:
        """[AN1] [AN7]"""
        match command:
            case OpenAnchor():
                named = command.resource_type, command.id
            case TurnPage() if (opens := opened_by_turning(state, actor.role, command.view)) is not None:
                if not await self._are_followed(state.id):
                    return None
                named = opens
            case _:
                return None
        if state.context is None:
            return None
        async with asyncio.timeout(self._settings.store_timeout_s):
            found = await self._store.resource(state.id, state.context.patient.id, *named)
        return None if found is None else facts_of(found)

    async def _note(self, state: Consult, actor: Admission, command: AnyCommand) -> NoteFacts | None:
        """[SH4] [SH6]"""
        match command:
            case PutNote():
                named = sharing.note_id(state.id, actor.participant, command.id)
            case MarkNoteInError():
                named = command.note
            case _:
                return None
        if state.context is None:
            return None
        async with asyncio.timeout(self._settings.store_timeout_s):
            return await self._store.note(state.id, state.context.patient.id, named)

    def _show(self, audience: Audience, actor: Admission, command: ShowView) -> Done:
        """What somebody's page shows is nobody else's business: it goes to the log alone. [VW1]"""
        state = audience.state
        handle(state, actor, command, self._now_ms())
        if command.view is None or state.context is None:
            self._viewing.end(state.id, actor.participant)
        else:
            self._viewing.show(state.id, actor.participant, state.context, command.view)
        return Done()

    async def _view(self, audience: Audience, actor: Admission, command: ViewConsumer) -> MediaResult:
        """Straight to the media plane: the consult does not know what its participants look at. [ME12]"""
        handle(audience.state, actor, command, self._now_ms())
        full = TokenBucket(self._settings.views_hz, self._settings.views_burst)
        if not audience.views.setdefault(actor.participant, full).take(asyncio.get_running_loop().time()):
            raise Refusal(ErrorCode.TOO_BUSY, "too many views")
        return await self._media.ask(actor, command)

    async def _with_media(self, audience: Audience, actor: Admission, command: MediaCommand) -> MediaResult:
        """[ME1]-[ME7]"""
        epoch = audience.state.media_epoch
        known = Known(patient=await self._patient(actor.consult, command))
        handle(audience.state, actor, command, self._now_ms(), known)
        result = await self._media.ask(actor, command)
        answered = replace(known, media=result, media_epoch=epoch)
        try:
            await self._change(
                audience, actor.participant, lambda state: handle(state, actor, command, self._now_ms(), answered)
            )
        except Exception:  # whatever stopped the commit, nothing may stay in the relay that the state does not know
            await self._media.undo(actor, result)
            if actor.participant not in audience.state.participants:
                await self._media.release(actor.consult, actor.participant)  # it left meanwhile; this came after
            raise
        if isinstance(result, TransportOptions):
            audience.silent_transports.pop(actor.participant, None)
            return result.model_copy(update={"media_epoch": epoch})
        return result

    # ------------------------------------------------------------ trace

    def _spend(self, audience: Audience, actor: Admission, command: AnyCommand) -> None:
        """What leaves an entry in the log for good has a budget. Asking too often changes nothing."""
        limits = _TRACE_BUDGET.get(type(command))
        if limits is None:
            return
        budgets = audience.budgets.setdefault(actor.participant, {})
        budget = budgets.setdefault(command.type, TokenBucket(*limits))
        if not budget.take(asyncio.get_running_loop().time()):
            raise Refusal(ErrorCode.TOO_BUSY, f"too many {command.type}")

    async def _bind(self, audience: Audience, actor: Admission, command: BindDevice) -> Done:
        """A wrong identifier costs an attempt of the device, whoever tries. [BI8]"""
        key = (actor.consult, command.device)
        if not self._guesses.take(key, asyncio.get_running_loop().time()):
            raise Refusal(ErrorCode.TOO_BUSY, "too many wrong identifiers", _GUESSED_TOO_OFTEN)
        try:
            done = await self._plain(audience, actor, command)
        except BaseException as error:
            if isinstance(error, Refusal) and error.code is ErrorCode.IDENTIFIERS_WRONG:
                log.warning("identifiers refused", extra={"consult": actor.consult, "by": actor.participant})
            else:
                self._guesses.give_back(key)
            raise
        self._guesses.give_back(key)
        return done

    async def end_bindings(
        self, patient: PatientId, reason: Literal[UnboundReason.DISCHARGED, UnboundReason.TRANSFERRED]
    ) -> int:
        """A hospital says that the patient left the bed: in no consult may a device there send as the patient's. [BI7]

        Consults in which nobody is are looked at too. Safe to repeat.

        Returns:
            How many bindings ended.

        Raises:
            Refusal: ``conflict``; try again.
            TimeoutError, and whatever the store raises: try again.
        """
        ended = 0
        async with asyncio.timeout(self._settings.store_timeout_s):
            consults = await self._store.consults_of(patient)
        for consult in consults:
            audience = self._audiences.get(consult) or await self._unheard(consult)
            if audience is None:
                continue
            events: list[AnyEvent] = []

            def decide(state: Consult, events: list[AnyEvent] = events) -> list[AnyEvent]:
                events[:] = binding.of_patient(state, patient, reason, self._now_ms())
                return events

            await self._change(audience, None, decide)
            ended += len(events)
        return ended

    async def _unheard(self, consult: ConsultId) -> Audience | None:
        """A consult that nobody on this node is in, to change it in the store."""
        async with asyncio.timeout(self._settings.store_timeout_s):
            state = await self._store.load(consult)
        return None if state is None else Audience(state)

    async def _expire(self, audience: Audience) -> None:
        """[BI3] (W20)"""
        if binding.expired(audience.state, self._now_ms()):
            await self._change(audience, None, lambda state: binding.expired(state, self._now_ms()))

    async def _order_strip(self, audience: Audience, actor: Admission, command: TakeEcgSnapshot) -> SnapshotOrdered:
        """[EC5] (W33)"""
        handle(audience.state, actor, command, self._now_ms())
        if self._archive is None:
            raise Refusal(ErrorCode.ARCHIVE_UNAVAILABLE)
        case = Case(audience.state, actor, NOTHING_KNOWN, self._now_ms())
        order = ecg.snapshot_order(case, command, secrets.token_hex(8))
        try:
            async with asyncio.timeout(self._settings.store_timeout_s):
                await self._archive.order_snapshot(order)
        except TimeoutError:
            raise Refusal(ErrorCode.ARCHIVE_UNAVAILABLE, "archive did not answer in time") from None
        self._spawn(self._keep_strip(self._archive, audience, order))
        return SnapshotOrdered(snapshot=order.id)

    async def _keep_strip(self, archive: WaveformArchive, audience: Audience, order: SnapshotOrder) -> None:
        """Tell everyone how it ended, once the 10 s after are in."""
        code = ErrorCode.INTERNAL
        try:
            async with asyncio.timeout(self._settings.strip_s):
                stored = await archive.snapshot_stored(order.id)
        except TimeoutError:
            code = ErrorCode.ARCHIVE_UNAVAILABLE
        except Refusal as refusal:
            code = refusal.code
        except Exception:  # whatever went wrong in the archive, whoever asked must hear that there is no strip
            log.exception("strip failed", extra={"consult": order.consult})
        else:
            await self._insist(audience, lambda state: ecg.snapshot_taken(state, stored, self._now_ms()))
            return
        with contextlib.suppress(Exception):  # taken up again at the next start, then
            async with asyncio.timeout(self._settings.store_timeout_s):
                await archive.snapshot_failed(order.id, code.value)
        await self._insist(audience, lambda state: ecg.snapshot_failed(state, order.id, order.by, code, self._now_ms()))

    async def _resume_strips(self, archive: WaveformArchive) -> None:
        """What an earlier process did not bring to its end. [EC5] (W33)"""
        if not self._settings.sole_node:
            await asyncio.sleep(self._settings.strip_s)  # by then another node's are done
        since_ms = self._now_ms() - (0 if self._settings.sole_node else int(self._settings.strip_s * 1000))
        for order in await self._unfinished(archive):
            if order.at_ms > since_ms:
                continue
            audience = self._audiences.get(order.consult) or await self._unheard(order.consult)
            if audience is not None:
                await self._keep_strip(archive, audience, order)

    async def _unfinished(self, archive: WaveformArchive) -> Sequence[SnapshotOrder]:
        while True:
            try:
                async with asyncio.timeout(self._settings.store_timeout_s):
                    return await archive.unfinished()
            except Exception as error:  # whatever the archive's trouble is, the orders are not forgotten
                log.warning("strips put off", extra={"error": type(error).__name__})
            await asyncio.sleep(self._settings.retry_s)

    def heart_rate(self, consult: ConsultId, rate: HeartRate) -> None:
        """Pass on what was computed from a trace, while that context is open. [EC7] (H21)"""
        audience = self._audiences.get(consult)
        context = audience.state.context if audience is not None else None
        if audience is not None and context is not None and context.version == rate.context_version:
            audience.signal(rate)

    async def _patient(self, consult: ConsultId, command: AnyCommand) -> PatientBanner | None:
        if isinstance(command, OpenContext):
            patient = command.patient
        elif isinstance(command, ProduceData) and (source := command.waveform or command.vitals) is not None:
            patient = source.patient
        else:
            return None
        async with asyncio.timeout(self._settings.store_timeout_s):
            return await self._store.patient(consult, patient)

    # ------------------------------------------------------------ the one way to change a consult

    async def _change(
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
            await self._bus.publish(after.id, after.revision)
        return after

    async def _commit(
        self, audience: Audience, actor: ParticipantId | None, decide: Decide, told: list[AnyEvent]
    ) -> list[AnyEvent]:
        """Commit what ``decide`` wants; what other nodes did meanwhile is told and added to ``told``."""
        for _ in range(self._settings.commit_tries):
            before = audience.state
            events = decide(before)
            if not events:
                return []
            try:
                async with asyncio.timeout(self._settings.store_timeout_s):
                    await self._store.commit(before, reduce(apply, events, before), events, actor, self.node)
            except Conflict:
                told += await self._fetch_missed(audience)
            else:
                return events
        raise Refusal(ErrorCode.CONFLICT)

    def _consequences(self, audience: Audience, events: Sequence[AnyEvent]) -> None:
        """What an event means for sessions and media on this node, whichever node decided it."""
        for event in events:
            if isinstance(event, _OTHER_CONTEXT):
                self._viewing.end_all(audience.state.id, event.at_ms)
            if isinstance(event, ParticipantLeft):
                self._gone(audience, event.participant)
            elif isinstance(event, DeviceUnbound):
                self._spawn(self._close_feeds(audience, event))
            elif isinstance(event, MediaReset):
                audience.silent_transports.clear()
            elif isinstance(event, ConsultEnded):
                self._ended(audience)
        self._desert_if_empty(audience)
        self._look_quiet()

    async def _close_feeds(self, audience: Audience, event: DeviceUnbound) -> None:
        """Close at the relay what the state has closed, and do not give up while the relay may still carry it. [BI3]

        Only where the device's media is; with a device, a worker or a consult that is gone all of it went anyway.
        """
        consult, epoch, left = audience.state.id, audience.state.media_epoch, list(event.closed)
        while (
            left
            and self._audiences.get(consult) is audience
            and event.device in audience.admitted
            and audience.state.media_epoch == epoch
        ):
            left = await self._media.close_feeds(consult, event.device, left)
            if left:
                await asyncio.sleep(self._settings.retry_s)

    def _gone(self, audience: Audience, who: ParticipantId) -> None:
        peer = audience.peers.get(who)
        self._viewing.end(audience.state.id, who)
        audience.forget(who)
        audience.elsewhere.discard(who)
        if peer is not None:
            peer.goodbye("removed")
        self._spawn(self._media.release(audience.state.id, who))

    def _ended(self, audience: Audience) -> None:
        for who in [*audience.peers, *audience.graces]:
            peer = audience.peers.get(who)
            audience.forget(who)
            if peer is not None:
                peer.goodbye("ended")

    def _desert_if_empty(self, audience: Audience) -> None:
        """Nobody is left: the consult costs nothing until someone comes."""
        consult = audience.state.id
        if audience.deserted and self._audiences.get(consult) is audience:
            del self._audiences[consult]
            self._spawn(self._close_media(consult))

    async def _close_media(self, consult: ConsultId) -> None:
        async with self._opening.setdefault(consult, asyncio.Lock()):
            if consult not in self._audiences:
                await self._media.close(consult)

    # ------------------------------------------------------------ catching up

    async def _hinted(self, consult: ConsultId, revision: int) -> None:
        audience = self._audiences.get(consult)
        if audience is not None and revision > audience.state.revision:
            await self._catch_up(audience)

    async def _catch_up(self, audience: Audience) -> None:
        async with audience.lock:
            told = await self._fetch_missed(audience)
        self._consequences(audience, told)

    async def _fetch_missed(self, audience: Audience) -> list[AnyEvent]:
        """Tell what other nodes committed. When that is too much the state jumps, and a beat makes the clients sync."""
        consult = audience.state.id
        async with asyncio.timeout(self._settings.store_timeout_s):
            missed = await self._store.events_since(consult, audience.state.revision, self._settings.catch_up_events)
            if missed is not None:
                told = audience.tell(missed)
                self._let_go(audience, moved_away(told, audience.graces))
                return told
            state = await self._store.load(consult)
            _, seats = await self._store.seats(consult)
        if state is not None and state.revision > audience.state.revision:
            audience.state = state
            self._let_go(audience, {who for who in audience.peers if seats.get(who) != self.node})
            self._beat(audience)
        return []

    def _let_go(self, audience: Audience, moved: Collection[ParticipantId]) -> None:
        """Another process has these now: they came back to it, or it took this one for dead. [SE5] [SE8]

        Whoever still has a socket here is told to go, with the media that is here, and comes back as a newcomer does.
        """
        if self._settings.sole_node:
            return
        audience.elsewhere.update(moved)
        for who in moved:
            if who in audience.admitted:
                self._spawn(self._media.release(audience.state.id, who))
            peer = audience.peers.get(who)
            if peer is None:
                continue
            now = audience.state.participants.get(who)
            is_back = now is not None and now.connection is not Connection.RECONNECTING
            self._viewing.end(audience.state.id, who)
            audience.forget(who)
            peer.goodbye("replaced" if is_back else "server_stopping")

    async def _open(self, consult: ConsultId) -> Audience:
        """The consult's audience on this node, made when its first session comes.

        Raises:
            Refusal: ``not_found``.
        """
        async with self._opening.setdefault(consult, asyncio.Lock()):
            audience = self._audiences.get(consult)
            if audience is not None:
                return audience
            async with asyncio.timeout(self._settings.store_timeout_s):
                state = await self._store.load(consult)
            if state is None:
                raise Refusal(ErrorCode.NOT_FOUND)
            audience = Audience(state)
            if self._settings.sole_node:
                await self._adopt(audience)
            self._audiences[consult] = audience
            return audience

    async def _adopt(self, audience: Audience) -> None:
        await self._change(audience, None, lambda state: occurrences.adopted(state, (), self._now_ms()))
        await self._expire(audience)
        for participant in audience.state.participants:
            self._start_grace(audience, participant)

    async def _take_over(self, consult: ConsultId, dead: Collection[str]) -> None:
        """Whom dead processes had is without a socket, and this one gives them their grace time. [SE8]

        Of several processes that find the same the first commit counts: the seats of the others are older than it.

        Raises:
            Refusal: nothing happened, or another process was faster.
        """
        audience = await self._open(consult)
        taken: list[ParticipantId] = []
        async with asyncio.timeout(self._settings.store_timeout_s):
            revision, seats = await self._store.seats(consult)
        await self._catch_up(audience)

        def decide(state: Consult) -> list[AnyEvent]:
            taken[:] = [who for who, node in seats.items() if node in dead] if state.revision == revision else []
            return orphaned(state, taken, self._now_ms())

        try:
            await self._change(audience, None, decide)
        finally:  # also when it is not known whether it was stored: whose they are is asked when the grace time is over
            for who in taken:
                if who not in audience.peers:
                    self._start_grace(audience, who)
        if taken:
            log.warning("taken over", extra={"consult": consult, "participants": len(taken)})
        self._desert_if_empty(audience)

    def _audience_of(self, peer: Peer) -> Audience:
        audience = self._audiences.get(peer.admission.consult)
        if audience is None or audience.peers.get(peer.admission.participant) is not peer:
            raise Refusal(ErrorCode.NOT_JOINED)
        return audience

    # ------------------------------------------------------------ time

    def _start_grace(self, audience: Audience, who: ParticipantId) -> None:
        audience.stop_grace(who)
        loop = asyncio.get_running_loop()
        audience.graces[who] = loop.call_later(
            self._settings.grace_s, lambda: self._spawn(self._grace_over(audience, who))
        )

    async def _grace_over(self, audience: Audience, who: ParticipantId) -> None:
        if await self._is_mine(audience, who):
            await self._insist(audience, lambda state: self._absent(audience, who, state, occurrences.grace_over))
        elif who not in audience.peers:
            audience.forget(who)
        audience.stop_grace(who)
        self._desert_if_empty(audience)

    async def _is_mine(self, audience: Audience, who: ParticipantId) -> bool:
        """Whether no other process has the participant: that one has a grace time of its own for it. [SE4] [SE8]"""
        while not self._settings.sole_node and self._audiences.get(audience.state.id) is audience:
            try:
                async with asyncio.timeout(self._settings.store_timeout_s):
                    _, seats = await self._store.seats(audience.state.id)
                is_mine = seats.get(who, self.node) == self.node
                if is_mine:
                    audience.elsewhere.discard(who)
                return is_mine
            except Exception as error:  # as in `_insist`
                log.warning("grace put off", extra={"consult": audience.state.id, "error": type(error).__name__})
            await asyncio.sleep(self._settings.retry_s)
        return True

    def _absent(
        self,
        audience: Audience,
        who: ParticipantId,
        state: Consult,
        occurrence: Callable[[Consult, ParticipantId, int], list[AnyEvent]],
    ) -> list[AnyEvent]:
        """What happens to a participant who has no socket here, unless it came back meanwhile, here or elsewhere."""
        here = who in audience.peers or who in audience.elsewhere
        return [] if here else occurrence(state, who, self._now_ms())

    async def _insist(self, audience: Audience, decide: Decide) -> None:
        """Change what has happened in any case: when the store fails, again until it does not.

        Without its audience there is nobody it would be told to; who opens the consult next takes stock then.
        """
        while True:
            try:
                await self._change(audience, None, decide)
                return
            except Exception as error:  # whatever the store's trouble is, the truth must still get there
                log.warning("change put off", extra={"consult": audience.state.id, "error": type(error).__name__})
            await asyncio.sleep(self._settings.retry_s)
            if self._audiences.get(audience.state.id) is not audience:
                return

    async def _beat_forever(self) -> None:
        """Each consult at its own moment of the interval: the beats of hundreds at once would hold up the loop.

        None waits for another's store. One that is still waiting for its own has no beat, and so vouches for nothing.
        """
        loop, part_s = asyncio.get_running_loop(), self._settings.beat_s / BEAT_PARTS
        due_s, part = loop.time(), 0
        while True:
            due_s = max(due_s + part_s, loop.time())
            await asyncio.sleep(due_s - loop.time())
            part = (part + 1) % BEAT_PARTS
            if part == 0 and not self._comparing:
                self._comparing = True
                self._spawn(self._find_namesakes())
            for audience in self._audiences.values():
                if audience.beats_at == part and not audience.refreshing:
                    audience.refreshing = True
                    self._spawn(self._refresh(audience))

    async def _find_namesakes(self) -> None:
        """[SN1] (W25) While the store cannot be asked, what was known before counts."""
        shown = {a.state.id: a.state.context.patient.id for a in self._audiences.values() if a.state.context}
        try:
            async with asyncio.timeout(self._settings.store_timeout_s):
                if not self._settings.sole_node and shown:
                    shown = {**await self._store.shown_elsewhere(), **shown}
                for patient in set(shown.values()) - self._surnames.keys():
                    self._surnames[patient] = await self._store.surnames(patient)
        except Exception as error:  # whatever the store's trouble is: a beat does not wait for this
            log.warning("family names put off", extra={"error": type(error).__name__})
            return
        finally:
            self._comparing = False
        self._surnames = {patient: self._surnames[patient] for patient in shown.values()}
        self._namesakes = frozenset(namesakes(shown, self._surnames))

    async def _refresh(self, audience: Audience) -> None:
        try:
            async with asyncio.timeout(self._settings.beat_s):
                await self._catch_up(audience)
                await self._expire(audience)
        except Exception as error:  # any store failure means the same: what we know may be old, so do not vouch for it
            log.warning("no beat", extra={"consult": audience.state.id, "error": type(error).__name__})
        else:
            self._beat(audience)
        finally:
            audience.refreshing = False

    def _beat(self, audience: Audience) -> None:
        state = audience.state
        audience.signal(
            Beat(
                revision=state.revision,
                context_version=state.context.version if state.context else 0,
                server_time_ms=self._now_ms(),
                same_surname=state.id in self._namesakes,
                stops_at_ms=self._stops_at_ms,
            )
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", exc_info=error)

    # ------------------------------------------------------------ media plane

    async def media_reset(self, consult: ConsultId) -> None:
        """The worker of this consult was replaced. [ME4]"""
        audience = self._audiences.get(consult)
        if audience is not None:
            await self._insist(audience, lambda state: occurrences.worker_replaced(state, self._now_ms()))

    async def transport_changed(
        self, consult: ConsultId, participant: ParticipantId, transport: TransportId, connection: Connection
    ) -> None:
        """A Transport fell silent (7 s), closed (30 s) or is alive again. [ME8]"""
        audience = self._audiences.get(consult)
        if audience is None or participant not in audience.state.participants or participant in audience.elsewhere:
            return
        silent = audience.silent_transports.setdefault(participant, set())
        if connection is Connection.CONNECTED:
            silent.discard(transport)
        else:
            silent.add(transport)
        await self._insist(
            audience,
            lambda state: occurrences.path_changed(state, participant, self._now_ms(), healthy=not silent),
        )

    async def producers_closed(self, consult: ConsultId, participant: ParticipantId) -> None:
        """A participant's sending Transport died; what it sent is gone. [ME1]"""
        audience = self._audiences.get(consult)
        if audience is not None and participant not in audience.elsewhere:
            await self._insist(audience, lambda state: closed_sources(state, participant, self._now_ms()))

    async def active_speaker(self, consult: ConsultId, producer: ProducerId | None) -> None:
        """The loudest Producer changed."""
        audience = self._audiences.get(consult)
        if audience is not None:
            audience.signal(ActiveSpeaker(producer=producer))

    async def line_news(
        self, consult: ConsultId, participant: ParticipantId, news: ConsumerLayers | LineQuality | TransportGone
    ) -> None:
        """To the one participant it is about; nobody keeps it. [ME13] [ME14]"""
        audience = self._audiences.get(consult)
        if audience is not None:
            audience.whisper(participant, news)


async def _by_nobody(_: ConsultId) -> bool:
    return False


def _has_people(audience: Audience) -> bool:
    here = (audience.admitted.get(who) for who in (*audience.peers, *audience.graces))
    return any(admission is not None and admission.role in _PEOPLE for admission in here)
