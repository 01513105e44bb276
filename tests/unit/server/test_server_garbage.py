"""When the server has Python's collector look: stops that do not grow with what is there, garbage that is bounded."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from server.garbage import (
    DEEP_LEAST,
    DEEP_MOST,
    LOOK_S,
    QUIET_LEAST,
    QUIET_S,
    SETTLED,
    SETTLED_S,
    SHORT,
    GarbageKeeper,
    GarbagePolicy,
)


class Knot:
    """Names itself, so only the collector frees it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def keeper() -> Iterator[GarbageKeeper]:
    was_on = gc.isenabled()
    gc.disable()
    yield GarbageKeeper(lambda: False)
    gc.unfreeze()
    if was_on:
        gc.enable()


def test_what_is_made_and_dropped_is_freed_at_the_next_look(keeper: GarbageKeeper) -> None:
    gone = weakref.ref(Knot())
    assert gone() is not None
    assert keeper.look() == "young"
    assert gone() is None


def test_garbage_among_what_was_set_aside_is_found_when_all_is_looked_at(keeper: GarbageKeeper) -> None:
    knot = Knot()
    gc.collect()
    gc.freeze()
    gone = weakref.ref(knot)
    del knot
    keeper.look()
    assert gone() is not None
    keeper._look_at_all(0.0)
    assert gone() is None
    assert gc.get_freeze_count(), "and what is alive is set aside again"


def test_what_stays_is_set_aside_in_pieces_and_all_is_looked_at_when_as_much_has_come_as_there_was() -> None:
    """A hub that fills from nothing to 400,000 objects; then as many leave as come."""
    policy, now_s = GarbagePolicy(0.0), 0.0
    policy.looked_at_all(300_000, now_s)
    alive, known, everything, set_aside, most = 300_000, 300_000, 0, 0, 0
    for _ in range(4_000):
        now_s += LOOK_S
        policy.counts(now_s)
        match policy.due(SETTLED, lambda there=known + set_aside: there, quiet=False, now_s=now_s):  # type: ignore[misc]
            case "settled":
                policy.settled(SETTLED, now_s)
                alive, set_aside = min(alive + SETTLED, 400_000), set_aside + SETTLED
            case "all":
                everything += 1
                policy.looked_at_all(alive, now_s)
                known, set_aside = alive, 0
            case "young":
                pytest.fail("a full piece was left")
        most = max(most, set_aside)
    assert most <= DEEP_LEAST + SETTLED, "no more garbage can be there than what is alive, and a piece"
    assert everything <= 4_000 * SETTLED / DEEP_LEAST


def test_who_only_stays_is_never_walked_again() -> None:
    policy, now_s, looks = GarbagePolicy(0.0), 0.0, []
    policy.looked_at_all(3_000_000, now_s)
    while now_s < 24 * 3_600:
        now_s += 10.0
        what = policy.due(100, lambda: 3_000_000, quiet=False, now_s=now_s)
        looks.append(what)
        if what == "settled":
            policy.settled(100, now_s)
    assert "all" not in looks
    assert looks.count("settled") == pytest.approx(24 * 3_600 / SETTLED_S, abs=2)


def test_less_is_enough_where_nobody_has_been_for_a_while() -> None:
    """Not at the moment of a cut: all are gone then, and about to come back."""
    policy = GarbagePolicy(0.0)
    policy.looked_at_all(3_000_000, 0.0)
    policy.settled(QUIET_LEAST + 1, 1.0)

    def due(*, quiet: bool, now_s: float) -> str:
        return policy.due(None, lambda: 3_000_001 + QUIET_LEAST, quiet=quiet, now_s=now_s)

    assert due(quiet=False, now_s=2.0) == "young"
    assert due(quiet=True, now_s=3.0) == "young"
    assert due(quiet=True, now_s=2.0 + QUIET_S) == "all"


def test_thousands_of_sessions_are_stopped_for_a_look_at_everything_only_when_memory_would_run_away() -> None:
    policy = GarbagePolicy(0.0)
    policy.looked_at_all(SHORT, 0.0)
    policy.settled(DEEP_MOST, 1.0)
    assert policy.due(None, lambda: SHORT + DEEP_MOST, quiet=False, now_s=1.0) == "young"
    policy.settled(1, 2.0)
    assert policy.due(None, lambda: SHORT + DEEP_MOST + 1, quiet=False, now_s=2.0) == "all"


def test_what_died_by_itself_is_not_counted_as_garbage() -> None:
    policy = GarbagePolicy(0.0)
    policy.looked_at_all(300_000, 0.0)
    policy.settled(DEEP_LEAST + 1, 1.0)
    assert policy.due(None, lambda: 310_000, quiet=False, now_s=2.0) == "young"
    policy.settled(DEEP_LEAST - 5_000, 2.0)
    assert policy.due(None, lambda: 300_000 + DEEP_LEAST + 5_000, quiet=False, now_s=3.0) == "all"


def test_counting_is_rare() -> None:
    policy = GarbagePolicy(0.0)
    assert sum(policy.counts(step * LOOK_S) for step in range(1_000)) <= 100
