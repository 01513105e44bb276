"""When the worker collects cyclic garbage, and that it does."""

import asyncio
import gc
import weakref

from media.aio.counters import Counters
from media.aio.garbage import GarbageKeeper
from media.core.garbage import IDLE_GROWTH, LEAST_GROWTH, SLOW_GROWTH, SLOW_US, GarbagePolicy


def test_a_worker_in_a_steady_state_is_never_stopped() -> None:
    policy = GarbagePolicy(0)
    assert not any(policy.is_due(SLOW_GROWTH - 1, idle=False, now_us=hour * 3_600_000_000) for hour in range(100))


def test_who_left_is_forgotten_within_a_minute_or_at_once_when_they_were_many() -> None:
    policy = GarbagePolicy(0)
    assert not policy.is_due(SLOW_GROWTH, idle=False, now_us=SLOW_US - 1)
    assert policy.is_due(SLOW_GROWTH, idle=False, now_us=SLOW_US)
    policy.collected(30_000, SLOW_US)
    assert not policy.is_due(LEAST_GROWTH - 1, idle=False, now_us=SLOW_US + 1)
    assert policy.is_due(LEAST_GROWTH, idle=False, now_us=SLOW_US + 1)


def test_a_large_worker_is_stopped_for_a_share_of_what_it_has() -> None:
    policy = GarbagePolicy(0)
    policy.collected(200_000, 0)
    assert not policy.is_due(99_999, idle=False, now_us=1)
    assert policy.is_due(100_000, idle=False, now_us=1)


def test_an_idle_worker_is_cleaned_soon() -> None:
    policy = GarbagePolicy(0)
    assert not policy.is_due(IDLE_GROWTH - 1, idle=True, now_us=SLOW_US)
    assert policy.is_due(IDLE_GROWTH, idle=True, now_us=1)


class Knot:
    """Names itself, as what closes does."""

    def __init__(self) -> None:
        self.itself = self


def test_the_collector_is_off_and_asked_for() -> None:
    async def play() -> None:
        counters, idle = Counters(), False
        keeper = GarbageKeeper(lambda: 0, counters, lambda: idle)
        keeper.start()
        try:
            assert not gc.isenabled()
            knots = [weakref.ref(Knot()) for _ in range(IDLE_GROWTH)]
            keeper.look()
            assert all(knot() is not None for knot in knots)  # not worth it while somebody is connected
            idle = True
            keeper.look()
            assert not any(knot() is not None for knot in knots)
            assert counters.values["garbage_collections"] == 1
            assert counters.values["garbage_objects"] >= IDLE_GROWTH
        finally:
            keeper.stop()
        assert gc.isenabled()

    asyncio.run(play())
