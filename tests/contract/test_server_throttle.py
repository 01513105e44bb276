"""Throttling counts alike in memory and in a real redis."""

from __future__ import annotations

import asyncio
import gc

import pytest

from server.clock import server_clock
from server.identity.aio.throttle import Attempts, ForgettingMemory, TooManyAttempts
from server.identity.core.rules import Throttle
from tests.contract.signaling.conftest import RedisServer, redis_server  # noqa: F401 - fixture

LIMIT = Throttle(name="test", attempts=3, window_s=60)


@pytest.fixture(params=["memory", "redis"])
async def attempts(request: pytest.FixtureRequest) -> Attempts:
    url = "" if request.param == "memory" else request.getfixturevalue("redis_server").url
    return Attempts(url, server_clock())


async def test_the_attempt_after_the_last_is_refused_and_says_for_how_long(attempts: Attempts) -> None:
    for _ in range(3):
        await attempts.take(LIMIT, "login", "10.0.0.1")
    with pytest.raises(TooManyAttempts) as caught:
        await attempts.take(LIMIT, "login", "10.0.0.1")
    assert 1 <= caught.value.retry_after_s <= 60
    with pytest.raises(TooManyAttempts):
        await attempts.check(LIMIT, "login", "10.0.0.1")


async def test_others_are_not_affected(attempts: Attempts) -> None:
    for _ in range(3):
        await attempts.take(LIMIT, "login", "10.0.0.1")
    await attempts.take(LIMIT, "login", "10.0.0.2")
    await attempts.take(LIMIT, "login2", "10.0.0.1")
    await attempts.take(LIMIT, "login\n10.0.0.1")


async def test_checking_counts_nothing_and_a_success_forgets(attempts: Attempts) -> None:
    for _ in range(9):
        await attempts.check(LIMIT, "login")
    for _ in range(3):
        await attempts.take(LIMIT, "login")
    await attempts.forget(LIMIT, "login")
    await attempts.take(LIMIT, "login")


async def test_attempts_at_once_do_not_slip_through(attempts: Attempts) -> None:
    outcomes = await asyncio.gather(*(attempts.take(LIMIT, "login") for _ in range(20)), return_exceptions=True)
    assert sum(outcome is None for outcome in outcomes) == 3


async def test_the_memory_tidies_up_now_and_then_and_not_beside_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It visits a thread for every key: with many people, somebody would always be waiting behind that."""
    attempts, began = Attempts("", server_clock()), set[object]()
    for number in range(20):
        await attempts.take(LIMIT, str(number))
        began.add(attempts._limiter.storage.timer)
        await others_done()
    assert len(began) == 1
    monkeypatch.setattr(ForgettingMemory, "TIDY_S", 0.0)
    attempts._limiter.storage._tidy_at_s = 0.0
    attempts._limiter.storage.events["gone"] = []
    await attempts.take(LIMIT, "x")
    await others_done()
    assert "gone" not in attempts._limiter.storage.events


async def test_forgetting_while_the_memory_tidies_up_leaves_no_broken_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign-in succeeds, and is forgotten, just while the storage looks through what it keeps."""
    monkeypatch.setattr(ForgettingMemory, "TIDY_S", 0.0)
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    attempts = Attempts("", server_clock())
    for login in ("first", "second", "third", "fourth"):
        await attempts.take(LIMIT, login)
        await others_done()
    await attempts.take(LIMIT, "fifth")
    await asyncio.sleep(0)
    for login in ("second", "third", "fourth"):
        await attempts.forget(LIMIT, login)
    await others_done()
    del attempts  # holds the tidying task, whose failure is told when nobody can ask for it any more
    gc.collect()
    await asyncio.sleep(0)
    assert failures == []


async def others_done() -> None:
    """Wait for every other task of this loop."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
