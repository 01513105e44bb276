"""Each command to where it is carried out, within the budget of who asks.

Joining is ``attendance.py``; media are ``media_commands.py``, strips of a trace ``strips.py``. Here is what the state
alone answers, what only passes through to the others (pointer, ink), and what a page says it shows.
"""

import asyncio
import logging

from signaling.aio.audience import Audience, Peer
from signaling.aio.changes import Changes
from signaling.aio.facts import Facts
from signaling.aio.media_commands import MediaCommands
from signaling.aio.passing import Passing
from signaling.aio.strips import Strips
from signaling.aio.this_node import ThisNode
from signaling.core.admission import Admission
from signaling.core.attempts import Attempts
from signaling.core.bucket import TokenBucket
from signaling.core.consult import as_admitted, handle
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.messages import (
    AnyCommand,
    BindDevice,
    Done,
    FreezePage,
    Ink,
    MarkNoteInError,
    Point,
    PointEcg,
    PutEcgMark,
    PutNote,
    ReportEcgState,
    ReportWrongPatient,
    Scroll,
    ShareContent,
    ShowHighlight,
    ShowView,
    SkipIdentityCheck,
    Sync,
    SyncResult,
    TakeEcgSnapshot,
    ViewConsumer,
)
from signaling.core.model import Value
from signaling.core.signals import signal_of

log = logging.getLogger(__name__)

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


class Commands:
    """Commands of participants who are in."""

    def __init__(
        self,
        node: ThisNode,
        changes: Changes,
        facts: Facts,
        media_commands: MediaCommands,
        strips: Strips,
        passing: Passing,
    ) -> None:
        self._node = node
        self._passing = passing
        self._changes = changes
        self._facts = facts
        self._media_commands = media_commands
        self._strips = strips
        self._guesses = Attempts()

    async def carry_out(self, peer: Peer, command: AnyCommand) -> Value:
        """Everything but ``join``.

        Raises:
            Refusal: declined; nothing happened.
        """
        command = as_admitted(peer.admission, command)
        audience, actor = self._node.audience_of(peer), peer.admission
        if isinstance(command, Sync):
            return await self._sync(audience, actor, command)
        if isinstance(command, Scroll | Point | PointEcg | Ink):
            self._spend(audience, actor, command)
            handle(audience.state, actor, command, self._node.now_ms())
            signal = signal_of(actor, command)
            audience.signal(signal, skip=peer)
            self._passing.pass_on(audience, signal)
            return Done()
        if isinstance(command, ViewConsumer):
            return await self._media_commands.view(audience, actor, command)
        self._spend(audience, actor, command)
        if isinstance(command, ShowView):
            return self._show(audience, actor, command)
        if isinstance(command, BindDevice):
            return await self._bind(audience, actor, command)
        if isinstance(command, TakeEcgSnapshot):
            return await self._strips.order(audience, actor, command)
        if command.type in _PLAIN:
            return await self._plain(audience, actor, command)
        return await self._media_commands.carry_out(audience, actor, command)  # type: ignore[arg-type] # the rest is MediaCommand

    async def _plain(self, audience: Audience, actor: Admission, command: AnyCommand) -> Done:
        known = await self._facts.of(audience.state, actor, command)
        await self._changes.change(
            audience, actor.participant, lambda state: handle(state, actor, command, self._node.now_ms(), known)
        )
        return Done()

    async def _sync(self, audience: Audience, actor: Admission, command: Sync) -> SyncResult:
        """[CO4]"""
        handle(audience.state, actor, command, self._node.now_ms())
        if command.since > audience.state.revision:
            return SyncResult(snapshot=audience.state)
        async with self._node.store_time():
            events = await self._node.store.events_since(
                actor.consult, command.since, self._node.settings.catch_up_events
            )
        if events is None:
            return SyncResult(snapshot=audience.state)
        return SyncResult(events=tuple(events))

    def _show(self, audience: Audience, actor: Admission, command: ShowView) -> Done:
        """What somebody's page shows is nobody else's business: it goes to the log alone. [VW1]"""
        state, viewing = audience.state, self._node.viewing
        handle(state, actor, command, self._node.now_ms())
        if command.view is None or state.context is None:
            viewing.end(state.id, actor.participant)
        else:
            viewing.show(state.id, actor.participant, state.context, command.view)
        return Done()

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

    def _spend(self, audience: Audience, actor: Admission, command: AnyCommand) -> None:
        """What leaves an entry in the log for good has a budget. Asking too often changes nothing."""
        limits = _TRACE_BUDGET.get(type(command))
        if limits is None:
            return
        budgets = audience.budgets.setdefault(actor.participant, {})
        budget = budgets.setdefault(command.type, TokenBucket(*limits))
        if not budget.take(asyncio.get_running_loop().time()):
            raise Refusal(ErrorCode.TOO_BUSY, f"too many {command.type}")
