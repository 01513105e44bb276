"""Which process has a participant, and what happens to whom a dead one had."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from signaling.core import messages as m
from signaling.core import occurrences
from signaling.core.consult import apply, handle
from signaling.core.ids import ParticipantId
from signaling.core.model import Connection, Consult, ConsultStatus
from signaling.core.seats import moved_away, orphaned, seat_changes
from tests.signaling_kit import admission, consult

PEOPLE = [ParticipantId(name) for name in "abc"]


def joined(state: Consult, who: str) -> list[m.AnyEvent]:
    """As a process lets somebody in who may be elsewhere."""
    away = occurrences.socket_lost(state, ParticipantId(who), 1)
    return [*away, *handle(reduce(apply, away, state), admission(who), m.Join(), 1)]


def room() -> Consult:
    state = consult()
    for who in PEOPLE:
        state = reduce(apply, joined(state, who), state)
    return state


def test_the_dead_one_s_people_are_away_and_media_begins_anew() -> None:
    """[SE8] Also who was reconnecting already: another process has that grace time now. Nobody else notices."""
    state = reduce(apply, occurrences.socket_lost(room(), PEOPLE[1], 1), room())
    events = orphaned(state, PEOPLE[:2], 9)
    after = reduce(apply, events, state)
    assert [one.connection for one in after.participants.values()] == [
        Connection.RECONNECTING,
        Connection.RECONNECTING,
        Connection.CONNECTED,
    ]
    assert after.media_epoch == state.media_epoch + 1
    assert seat_changes(state, events) == (set(PEOPLE[:2]), set())
    assert moved_away(events) == set(PEOPLE[:2])


def test_nobody_is_lost_where_nobody_is() -> None:
    """[SE8] Who has left and consults that have ended are left alone."""
    assert orphaned(room(), [ParticipantId("gone")], 9) == []
    assert orphaned(room(), [], 9) == []
    over = room().model_copy(update={"status": ConsultStatus.ENDED})
    assert orphaned(over, PEOPLE, 9) == []


def test_what_the_media_path_does_moves_nobody() -> None:
    """[ME8] [SE8]"""
    assert not moved_away(occurrences.path_changed(room(), PEOPLE[0], 1, healthy=False))


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abc"), st.sampled_from(["join", "lose", "leave"]))))
def test_everyone_who_is_in_is_had_by_one_process(steps: list[tuple[str, str, str]]) -> None:
    """[SE8] Whatever comes and goes where; and a process that had somebody hears of it when another one has."""
    state, seats = consult(), {}
    for node, name, what in steps:
        who = ParticipantId(name)
        if what == "join":
            events = joined(state, name)
        elif who not in state.participants:
            continue
        elif what == "lose":
            events = occurrences.socket_lost(state, who, 1)
        else:
            events = handle(state, admission(name), m.Leave(), 1)
        gained, gone = seat_changes(state, events)
        waiting = {one.id for one in state.participants.values() if one.connection is Connection.RECONNECTING}
        if who in seats and who in gained:
            assert who in moved_away(events, waiting)
        seats = {one: had for one, had in seats.items() if one not in gone} | dict.fromkeys(gained, node)
        state = reduce(apply, events, state)
        assert seats.keys() == state.participants.keys()
