"""Arrivals: never more than the bound, nobody without a time to come again, and all of them in, in the end. [SE16]"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from signaling.core.arrivals import Arrival, ArrivalLimits, Arrivals, TurnedAway

LOOK_S = 0.05


@dataclass
class Door:
    """People who obey, before a server that lets in ``hz`` a second; each step of theirs takes ``line_s``."""

    hz: float
    line_s: float = 0.1
    arrivals: Arrivals = field(default_factory=Arrivals)
    seed: int = 0

    def let_in(self, at_s: dict[str, float], until_s: float = 3_600.0) -> dict[str, float]:
        """When each was in, of those who were by ``until_s``."""
        chance, door = random.Random(self.seed), self.arrivals
        todo: list[tuple[float, str, Arrival | None]] = [(when, who, None) for who, when in at_s.items()]
        heapq.heapify(todo)
        self.waits: list[tuple[float, int]] = []
        inside: dict[str, float] = {}
        busy_until_s, look_s = 0.0, min(at_s.values())
        while todo and todo[0][0] < until_s:
            now_s, who, arrival = heapq.heappop(todo)
            while look_s <= now_s:
                door.lagged(0.0, look_s)
                look_s += LOOK_S
            if arrival is not None:
                entering = door.enter(who, now_s)
                if entering is not None:
                    door.arrived(entering, now_s)
                inside[who] = now_s
                continue
            answer = door.knock(who, now_s)
            assert door.under_way <= max(door.bound, door.limits.at_once)
            if isinstance(answer, TurnedAway):
                self.waits.append((now_s, answer.retry_after_s))
                heapq.heappush(todo, (now_s + answer.retry_after_s + chance.random(), who, None))
            else:
                door.expect(answer, who, now_s)
                busy_until_s = max(busy_until_s, now_s) + 1 / self.hz
                heapq.heappush(todo, (busy_until_s + self.line_s, who, answer))
        return inside


def at_once(count: int, name: str = "p") -> dict[str, float]:
    return {f"{name}{number}": 10 + number / 10_000 for number in range(count)}


@pytest.mark.parametrize("hz", [25.0, 80.0, 300.0])
def test_a_hospital_that_comes_at_once_is_in_as_fast_as_can_be(hz: float) -> None:
    """1,200 at one moment. To learn a rate that lies far from the first guess costs what waits no longer than that."""
    door = Door(hz)
    inside = door.let_in(at_once(1_200))
    assert len(inside) == 1_200
    took_s = max(inside.values()) - 10
    assert took_s <= 1.15 * 1_200 / hz + 20
    assert all(1 <= wait_s <= 60 for _, wait_s in door.waits)
    assert len(door.waits) <= 1_200 * (2 + took_s / 4), "who waits asks now and then, not all the time"


def test_who_is_turned_away_at_one_moment_does_not_come_back_at_one_moment() -> None:
    """However many: beyond a minute, where no place is known, too."""
    arrivals = Arrivals()
    waits = Counter(
        answer.retry_after_s
        for number in range(20_000)
        if isinstance(answer := arrivals.knock(number, 1 + number / 1e6), TurnedAway)
    )
    pace_hz = arrivals.rate_hz * arrivals.limits.haste
    assert set(waits) == set(range(1, 61))
    assert all(count <= pace_hz + 1 for wait_s, count in waits.items() if wait_s < 16)
    far = [count for wait_s, count in waits.items() if wait_s > 16]
    assert max(far) < 2 * min(far)


def test_what_keeps_the_server_from_letting_in_for_a_while_is_not_its_pace() -> None:
    """Thousands whose sockets were lost are put down as away first: whoever asks then is not sent off for a minute."""
    arrivals = Arrivals()
    held = [arrivals.knock(number, 0) for number in range(40)]
    assert all(isinstance(one, Arrival) for one in held)
    for step in range(40):
        arrivals.knock(100 + step, 1 + step / 2)
        arrivals.lagged(0.4, 1 + step / 2)
    assert arrivals.rate_hz == arrivals.limits.rate_hz


def test_who_asks_all_the_time_gains_nothing_and_takes_nothing() -> None:
    arrivals = Arrivals(ArrivalLimits(at_once=1, fewest=1, rate_hz=1))
    assert isinstance(arrivals.knock("first", 0), Arrival)
    waits = [arrivals.knock("restless", step / 100) for step in range(100)]
    assert {wait.retry_after_s for wait in waits if isinstance(wait, TurnedAway)} == {1}
    patient = arrivals.knock("patient", 1)
    assert isinstance(patient, TurnedAway)
    assert patient.retry_after_s == 1, "a hundred knocks are one place"
    assert arrivals.waiting == 2


def test_who_comes_back_goes_before_who_was_not_here() -> None:
    """A reconnect of a running consult; the others get their share all the same."""
    door = Door(hz=40)
    door.let_in(at_once(600, "known"))
    again = {who: 1_000.0 + number / 1e4 for number, who in enumerate(at_once(600, "known"))}
    new = {f"new{number}": 1_000.0 + number / 1e4 for number in range(600)}
    inside = door.let_in(again | new)
    assert len(inside) == 1_200
    middle = sorted(inside[who] for who in again)[300], sorted(inside[who] for who in new)[300]
    assert middle[0] < middle[1]
    halfway = sorted(inside.values())[600]
    early_new = sum(inside[who] <= halfway for who in new)
    assert 60 <= early_new <= 240, "about a quarter of those who were let in while both waited"


def test_who_never_comes_frees_the_place() -> None:
    limits = ArrivalLimits(at_once=2, fewest=2)
    arrivals = Arrivals(limits)
    for who in ("a", "b"):
        arrival = arrivals.knock(who, 0)
        assert isinstance(arrival, Arrival)
        arrivals.expect(arrival, who, 0.5)
    assert isinstance(arrivals.knock("c", 1), TurnedAway)
    arrivals.came("b", 3)
    arrivals.lagged(0, 0.5 + limits.client_s)
    assert arrivals.under_way == 1, "b has shown its token and has until 8 s"
    assert isinstance(arrivals.knock("c", 6), Arrival)
    arrivals.lagged(0, 3 + limits.client_s)
    assert arrivals.under_way == 1
    assert arrivals.enter("b", 9) is None


def test_whose_turn_is_ours_is_not_given_up() -> None:
    """A store that stands still lets nobody in meanwhile: work would pile up behind it."""
    arrivals = Arrivals(ArrivalLimits(at_once=1, fewest=1))
    arrival = arrivals.knock("a", 0)
    assert isinstance(arrival, Arrival)
    arrivals.lagged(0, 1_000)
    assert isinstance(arrivals.knock("b", 1_000), TurnedAway)
    arrivals.give_up(arrival)
    assert isinstance(arrivals.knock("b", 1_001), Arrival)


def test_a_place_whose_owner_stays_away_is_forgotten() -> None:
    arrivals = Arrivals(ArrivalLimits(at_once=0, fewest=0))
    for number in range(500):
        arrivals.knock(number, 1)
    for now_s in range(2, 120):
        arrivals.lagged(0.1, now_s)
    assert arrivals.waiting == 0
    answer = arrivals.knock("late", 120)
    assert answer == TurnedAway(1), "nobody is before it any more"


def test_places_are_bounded() -> None:
    arrivals = Arrivals(ArrivalLimits(at_once=0, fewest=0, places=10, known=3))
    answers = [arrivals.knock(number, 1) for number in range(50)]
    assert all(isinstance(answer, TurnedAway) for answer in answers)
    assert arrivals.waiting == 10


@given(late=st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_the_bound_follows_the_lag(late: list[float]) -> None:
    arrivals = Arrivals()
    limits = arrivals.limits
    for step, late_s in enumerate(late):
        before = arrivals.bound
        arrivals.lagged(late_s, step)
        assert limits.fewest <= arrivals.bound <= limits.most
        if late_s > limits.late_s:
            assert arrivals.bound < before or arrivals.bound == limits.fewest
        else:
            assert arrivals.bound == before, "nobody was turned away"


def test_a_slow_store_shrinks_the_bound_too() -> None:
    arrivals = Arrivals()
    arrival = arrivals.knock("a", 0)
    assert isinstance(arrival, Arrival)
    arrivals.expect(arrival, "a", arrivals.limits.slow_s + 1)
    assert arrivals.bound == 32


class Anything(RuleBasedStateMachine):
    """Whatever clients do, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals = Arrivals(ArrivalLimits(at_once=3, fewest=2, most=5, places=8, known=4))
        self.now_s = 0.0
        self.open: list[Arrival] = []
        self.highest = 3

    @rule(who=st.integers(0, 12))
    def knock(self, who: int) -> None:
        answer = self.arrivals.knock(who, self.now_s)
        if isinstance(answer, TurnedAway):
            assert 1 <= answer.retry_after_s <= 60
        else:
            self.open.append(answer)

    @rule(pick=st.integers(0, 20), who=st.integers(0, 6))
    def expect(self, pick: int, who: int) -> None:
        asking = [one for one in self.open if one.participant is None]
        if asking:
            self.arrivals.expect(asking[pick % len(asking)], who, self.now_s)

    @rule(who=st.integers(0, 6), came=st.booleans())
    def go_on(self, who: int, *, came: bool) -> None:
        if came:
            self.arrivals.came(who, self.now_s)
        elif (arrival := self.arrivals.enter(who, self.now_s)) is not None:
            self.arrivals.arrived(arrival, self.now_s)

    @rule(pick=st.integers(0, 20))
    def fail(self, pick: int) -> None:
        if self.open:
            self.arrivals.give_up(self.open.pop(pick % len(self.open)))

    @rule(seconds=st.floats(0, 100), late_s=st.floats(0, 1))
    def time(self, seconds: float, late_s: float) -> None:
        self.now_s += seconds
        self.arrivals.lagged(late_s, self.now_s)
        self.highest = max(self.highest, self.arrivals.bound)

    @invariant()
    def counts_are_what_they_count(self) -> None:
        arrivals = self.arrivals
        assert arrivals.under_way <= self.highest
        assert arrivals._others == sum(not one.back for one in arrivals._under_way)
        assert set(arrivals._expected.values()) <= arrivals._under_way
        assert arrivals.waiting <= 8
        assert arrivals._back.waiting + arrivals._new.waiting == arrivals.waiting
        assert len(arrivals._known) <= 4


TestAnything = Anything.TestCase
