"""Throttling counts alike in memory and in a real redis."""

from __future__ import annotations

import asyncio

import pytest

from server.clock import server_clock
from server.identity.aio.throttle import Attempts, TooManyAttempts
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
