"""`ConsultService`: everything that happens in consults on this node, behind one door.

    who is in, and whose seat it is      attendance.py
    a command, to where it is answered   commands.py: media_commands.py, strips.py, facts.py for what it names
    the media plane's own news           media_news.py
    outside programs, hospitals          outside.py
    all of it ends in                    changes.py: decide, commit, tell, consequences
    what a beat vouches for              beats.py
    pointers and strokes, elsewhere too  passing.py
    what they share                      this_node.py: this process and its consults; audience.py: one of them

Here the rooms are put together, started and stopped. Sockets are ``gateway.py``.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from signaling.aio.attendance import Attendance
from signaling.aio.audience import Peer
from signaling.aio.beats import Beats
from signaling.aio.changes import Changes, Decide
from signaling.aio.commands import Commands
from signaling.aio.facts import Facts
from signaling.aio.media_calls import MediaCalls
from signaling.aio.media_commands import MediaCommands
from signaling.aio.media_news import MediaNews
from signaling.aio.nodes import Nodes
from signaling.aio.outside import Outside, Step
from signaling.aio.passing import Passing
from signaling.aio.settings import DEFAULTS, ServiceSettings
from signaling.aio.strips import Strips
from signaling.aio.this_node import ThisNode
from signaling.core.admission import Admission
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsultId, ParticipantId, PatientId
from signaling.core.messages import AnyCommand, HeartRate, Join
from signaling.core.model import Consult, UnboundReason, Value
from signaling.core.ports import ConsultStore, EventBus, MediaPlane, ViewLog, WaveformArchive

__all__ = ["ConsultService", "ServiceSettings", "Step"]

log = logging.getLogger(__name__)


class ConsultService:
    """The consults of this node.

    Args:
        now_ms: wall clock, milliseconds since 1970.
    """

    def __init__(
        self,
        store: ConsultStore,
        bus: EventBus,
        media: MediaPlane,
        now_ms: Callable[[], int],
        settings: ServiceSettings = DEFAULTS,
    ) -> None:
        self._settings = settings
        self._here = ThisNode(store, bus, MediaCalls(media, settings.media_timeout_s), now_ms, settings)
        changes = Changes(self._here)
        self._attendance = Attendance(self._here, changes)
        self._nodes = Nodes(store, self._here.name, self._attendance.take_over, settings.nodes)
        self._beats = Beats(self._here, changes)
        self._facts = Facts(self._here)
        self._strips = Strips(self._here, changes)
        self._media_commands = MediaCommands(self._here, changes, self._facts)
        self._passing = Passing(self._here)
        self._commands = Commands(self._here, changes, self._facts, self._media_commands, self._strips, self._passing)
        self._outside = Outside(self._here, changes)
        self.news = MediaNews(self._here, changes)
        """The media plane's listener."""
        media.listen(self.news)

    @property
    def node(self) -> str:
        """This process, by a name that no other one has or had."""
        return self._here.name

    # ------------------------------------------------------------ what others lend

    def use_archive(self, archive: WaveformArchive) -> None:
        """Keep strips here; without, they are refused as ``archive_unavailable``. [EC5]"""
        self._strips.use(archive)

    def use_followers(self, are_followed: Callable[[ConsultId], Awaitable[bool]]) -> None:
        """Who knows whether outside programs follow a consult; without, none do. [AN7]"""
        self._facts.use_followers(are_followed)

    def use_view_log(self, view_log: ViewLog) -> None:
        """Keep here who saw what; without, it is not kept. [VW1]"""
        self._here.viewing.use(view_log)

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Listen to the other nodes and begin to beat."""
        await self._here.bus.start()
        if not self._settings.sole_node:
            await self._nodes.start()
        self._here.viewing.start()
        self._beats.start()
        self._strips.start()

    async def stop(self) -> None:
        """End every task and timer; idempotent. Participants stay: they may come back to the next process."""
        await self._nodes.stop()
        await self._beats.stop()
        await self._attendance.stop()
        await self._media_commands.stop()
        await self._here.stop()
        await self._here.viewing.stop()
        await self._here.bus.stop()

    @property
    def running(self) -> int:
        """Consults in which a person is, or may come back. Displays and devices alone keep no server running."""
        return self._here.running

    def drain(self, stops_at_ms: int) -> None:
        """From now on no consult begins here, and everyone is told by when those that run must end. [SE14]"""
        self._here.drain(stops_at_ms)

    async def quiet(self) -> None:
        """Wait, while draining, until the last consult has ended."""
        await self._here.quiet.wait()

    # ------------------------------------------------------------ sessions

    async def execute(self, peer: Peer, command: AnyCommand) -> Value:
        """Carry out one command of one session.

        Raises:
            Refusal: declined; nothing happened. ``store_unavailable``: it may have, the next snapshot tells.
        """
        try:
            if isinstance(command, Join):
                return await self._attendance.join(peer)
            return await self._commands.carry_out(peer, command)
        except Exception as error:
            if not (isinstance(error, TimeoutError) or self._here.store.is_trouble(error)):
                raise
            kind = type(error).__name__
            log.warning("store unavailable", extra={"consult": peer.admission.consult, "error": kind})
            raise Refusal(ErrorCode.STORE_UNAVAILABLE, kind) from error

    async def detach(self, peer: Peer) -> None:
        """A session's socket is gone. The participant may come back within the grace time. [SE3] [SE4]"""
        await self._attendance.detach(peer)

    def dismiss(self, over: Callable[[Admission], bool]) -> None:
        """Whoever came in by a right that is over leaves now, media and all, with or without a socket. [SE12]"""
        self._attendance.dismiss(over)

    @property
    def admitted(self) -> list[Admission]:
        """The rights by which participants are in consults on this node, those in their grace time included."""
        return self._attendance.admitted

    def heart_rate(self, consult: ConsultId, rate: HeartRate) -> None:
        """Pass on what was computed from a trace, while that context is open. [EC7] (H21)"""
        audience = self._here.audiences.get(consult)
        context = audience.state.context if audience is not None else None
        if audience is not None and context is not None and context.version == rate.context_version:
            audience.signal(rate)

    # ------------------------------------------------------------ others than participants

    async def act(self, actor: Admission, steps: Sequence[Step]) -> Consult:
        """An outside program asks in a participant's name; see `Outside.act`. [PR1]"""
        return await self._outside.act(actor, steps)

    async def open_shown(self, consult: ConsultId, asker: ParticipantId) -> None:
        """A program begins to follow what is shown; see `Outside.open_shown`. [AN7]"""
        await self._outside.open_shown(consult, asker)

    async def note(self, consult: ConsultId, actor: ParticipantId | None, decide: Decide) -> Consult:
        """Commit what is true of outside programs; see `Outside.note`. [PR3] [PR5]"""
        return await self._outside.note(consult, actor, decide)

    async def end_bindings(
        self, patient: PatientId, reason: Literal[UnboundReason.DISCHARGED, UnboundReason.TRANSFERRED]
    ) -> int:
        """The patient left the bed; how many bindings ended; see `Outside.end_bindings`. [BI7]"""
        return await self._outside.end_bindings(patient, reason)
