"""What happens to a consult without anyone asking: sockets and workers come and go.

Like `handle` in ``consult.py``: the state in, events out, and nothing else. The
shell decides *when* (a lost socket, 60 s of grace, a dead worker).
"""

from collections.abc import Collection
from itertools import count

from signaling.core import binding
from signaling.core.ids import ParticipantId
from signaling.core.messages import AnyEvent, ConnectionChanged, MediaReset, ParticipantLeft
from signaling.core.model import Connection, Consult, ConsultStatus, UnboundReason


def socket_lost(state: Consult, who: ParticipantId, now_ms: int) -> list[AnyEvent]:
    """The others see at once that someone is reconnecting. [SE3]"""
    return _connection(state, who, now_ms, Connection.RECONNECTING)


def removed(state: Consult, who: ParticipantId, now_ms: int) -> list[AnyEvent]:
    """Not back in time, or without the right to be here: gone with what it sent, and the lead if it led. [SE4] [SE12]

    Connected or not, as far as the state knows: a loss may not have been stored.
    """
    if who not in state.participants:
        return []
    return _left(state, who, now_ms)


def path_changed(state: Consult, who: ParticipantId, now_ms: int, *, healthy: bool) -> list[AnyEvent]:
    """The media path fell silent or woke up, while the socket stands. [ME8]"""
    participant = state.participants.get(who)
    if participant is None or participant.connection is Connection.RECONNECTING:
        return []
    return _connection(state, who, now_ms, Connection.CONNECTED if healthy else Connection.UNSTABLE)


def worker_replaced(state: Consult, now_ms: int) -> list[AnyEvent]:
    """All Transports and Producers are gone; clients make new ones by themselves. [ME4]"""
    if state.status is ConsultStatus.ENDED:
        return []
    return [MediaReset(revision=state.revision + 1, at_ms=now_ms, media_epoch=state.media_epoch + 1)]


def adopted(state: Consult, present: Collection[ParticipantId], now_ms: int) -> list[AnyEvent]:
    """This process takes over a consult that an earlier one left behind. [SE8]

    Whoever is not in ``present`` has no socket any more, and the earlier
    process's media workers are gone with it.
    """
    if state.status is ConsultStatus.ENDED:
        return []
    events: list[AnyEvent] = []
    revision = count(state.revision + 1)
    for participant in state.participants.values():
        if participant.id not in present and participant.connection is not Connection.RECONNECTING:
            events.append(
                ConnectionChanged(
                    revision=next(revision),
                    at_ms=now_ms,
                    participant=participant.id,
                    connection=Connection.RECONNECTING,
                )
            )
    if state.producers or state.data_producers or state.participants:
        events.append(MediaReset(revision=next(revision), at_ms=now_ms, media_epoch=state.media_epoch + 1))
    return events


def _left(state: Consult, who: ParticipantId, now_ms: int) -> list[AnyEvent]:
    """A device that is gone for good is bound to nobody. [BI5]"""
    unbound = binding.ending(state, who, UnboundReason.DEVICE_LEFT, now_ms)
    revision = state.revision + 1 + len(unbound)
    return [*unbound, ParticipantLeft(revision=revision, at_ms=now_ms, participant=who)]


def _connection(state: Consult, who: ParticipantId, now_ms: int, connection: Connection) -> list[AnyEvent]:
    participant = state.participants.get(who)
    if participant is None or participant.connection is connection:
        return []
    return [ConnectionChanged(revision=state.revision + 1, at_ms=now_ms, participant=who, connection=connection)]
