"""When the worker collects cyclic garbage, and that it does."""

import asyncio
import gc
import weakref

from media.aio.counters import Counters
from media.aio.garbage import GarbageKeeper
from media.core.garbage import FULL, IDLE_GROWTH, LEFT_MANY, MOST_OLD, SLOW_US, YOUNG, GarbagePolicy


def test_a_worker_that_nobody_leaves_is_never_walked_as_a_whole() -> None:
    """Looks are by time: Python's count stands still while full histories put as many packets away as they take in."""
    policy = GarbagePolicy(0)
    for minute in range(100):
        for growth in (0, IDLE_GROWTH, 100 * IDLE_GROWTH):
            assert policy.due(growth, left=0, old=MOST_OLD - 1, idle=False, now_us=minute * SLOW_US) == YOUNG


def test_who_left_is_forgotten_within_a_minute_or_at_once_when_they_were_many() -> None:
    policy = GarbagePolicy(0)
    assert policy.due(0, left=1, old=0, idle=False, now_us=SLOW_US - 1) == YOUNG
    assert policy.due(0, left=1, old=0, idle=False, now_us=SLOW_US) == FULL
    policy.collected(SLOW_US)
    assert policy.due(0, left=LEFT_MANY - 1, old=0, idle=False, now_us=SLOW_US + 1) == YOUNG
    assert policy.due(0, left=LEFT_MANY, old=0, idle=False, now_us=SLOW_US + 1) == FULL


def test_what_grew_old_before_it_was_dropped_is_found_in_the_end() -> None:
    assert GarbagePolicy(0).due(0, left=0, old=MOST_OLD, idle=False, now_us=3) == FULL


def test_an_idle_worker_is_cleaned_soon() -> None:
    policy = GarbagePolicy(0)
    assert policy.due(IDLE_GROWTH - 1, left=0, old=0, idle=True, now_us=SLOW_US) is None
    assert policy.due(IDLE_GROWTH, left=0, old=0, idle=True, now_us=1) == FULL
    assert policy.due(0, left=1, old=0, idle=True, now_us=1) == FULL


class Knot:
    """Names itself, as what closes does."""

    def __init__(self) -> None:
        self.itself = self


def test_the_collector_is_off_and_asked_for() -> None:
    async def play() -> None:
        counters = Counters()
        keeper = GarbageKeeper(lambda: 0, counters, lambda: False)
        keeper.start()
        try:
            assert not gc.isenabled()
            live = [Knot() for _ in range(IDLE_GROWTH)]
            knots = [weakref.ref(knot) for knot in live]
            gc.collect(YOUNG)  # they have grown old when those who made them leave
            live.clear()
            keeper.look()
            assert all(knot() is not None for knot in knots)  # not worth it while somebody is connected
            counters.add("transports_closed", LEFT_MANY)
            keeper.look()
            assert not any(knot() is not None for knot in knots)
            assert counters.values["garbage_collections"] == 2
            assert counters.values["garbage_objects"] >= IDLE_GROWTH
            young = [weakref.ref(Knot()) for _ in range(9)]
            keeper.look()
            assert not any(knot() is not None for knot in young)  # who made them is still connected
        finally:
            keeper.stop()
        assert gc.isenabled()

    asyncio.run(play())
