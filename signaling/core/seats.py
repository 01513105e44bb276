"""Which process has a participant: the one that committed the last change of the participant's connection. [SE8]

It is kept beside the consult and not in it, since it is nobody's business but the processes'. It changes only with
the events that say so, in their transaction, so whoever changes it was at the newest revision: of several processes
that want a dead one's participants each participant is had by one.

Who judges which process is dead is ``standing.py``; what happens to whom a dead one had is `orphaned`.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import count

from signaling.core.ids import ParticipantId
from signaling.core.messages import (
    AnyEvent,
    ConnectionChanged,
    ConsultEnded,
    MediaReset,
    ParticipantJoined,
    ParticipantLeft,
)
from signaling.core.model import Connection, Consult, ConsultStatus


def seat_changes(before: Consult, events: Iterable[AnyEvent]) -> tuple[set[ParticipantId], set[ParticipantId]]:
    """Whom the process that commits these events has from then on, and whom nobody has any more."""
    gained: set[ParticipantId] = set()
    gone: set[ParticipantId] = set()
    for event in events:
        match event:
            case ParticipantJoined():
                gained.add(event.participant.id)
                gone.discard(event.participant.id)
            case ConnectionChanged():
                gained.add(event.participant)
            case ParticipantLeft():
                gained.discard(event.participant)
                gone.add(event.participant)
            case ConsultEnded():
                gone |= gained | before.participants.keys()
                gained = set()
    return gained, gone


def moved_away(events: Iterable[AnyEvent], waiting: Collection[ParticipantId] = ()) -> set[ParticipantId]:
    """Whom another process has since it committed these events.

    Every taking over shows the participant without a connection first, and what the media path does never does.

    Args:
        waiting: who had no connection already. With one, they are where it was committed.
    """
    moved: set[ParticipantId] = set()
    for event in events:
        match event:
            case ConnectionChanged(participant=who, connection=connection):
                if connection is Connection.RECONNECTING or who in waiting:
                    moved.add(who)
            case ParticipantJoined(participant=one) if one.id in waiting:  # back by another name or role
                moved.add(one.id)
    return moved


def orphaned(state: Consult, whose: Sequence[ParticipantId], now_ms: int) -> list[AnyEvent]:
    """The process that had these participants is dead: they have no socket, and its media is gone with it. [SE8]

    Also said of whoever was reconnecting already: the grace time begins anew, with the process that says it.
    """
    here = [who for who in whose if who in state.participants]
    if state.status is ConsultStatus.ENDED or not here:
        return []
    revision = count(state.revision + 1)
    lost: list[AnyEvent] = [
        ConnectionChanged(revision=next(revision), at_ms=now_ms, participant=who, connection=Connection.RECONNECTING)
        for who in here
    ]
    return [*lost, MediaReset(revision=next(revision), at_ms=now_ms, media_epoch=state.media_epoch + 1)]
