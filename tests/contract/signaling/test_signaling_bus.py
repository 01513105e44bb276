"""One contract for both buses, and what only a redis that goes away can show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from signaling.aio.memory import MemoryBus
from signaling.aio.redis_bus import RedisBus
from signaling.core.ids import ConsultId
from signaling.core.ports import EventBus
from tests.signaling_kit import until

C1 = ConsultId("c1")
Heard = list[tuple[ConsultId, int]]


def hear(bus: EventBus) -> Heard:
    heard: Heard = []

    async def listener(consult: ConsultId, revision: int) -> None:
        heard.append((consult, revision))

    bus.listen(listener)
    return heard


@pytest.fixture(params=["memory", "redis"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[EventBus]:
    if request.param == "memory":
        made: EventBus = MemoryBus()
    else:
        made = RedisBus(request.getfixturevalue("redis_server").url, timeout_s=10.0)
    yield made
    await made.stop()


async def test_every_listener_hears_hints_in_order(bus: EventBus) -> None:
    """[CO6]"""
    first, second = hear(bus), hear(bus)
    await bus.start()
    for revision in range(1, 51):
        await bus.publish(C1, revision)
    await until(lambda: len(first) == 50 and len(second) == 50)
    assert first == second == [(C1, revision) for revision in range(1, 51)]


async def test_stop_is_idempotent_and_silences(bus: EventBus) -> None:
    heard = hear(bus)
    await bus.start()
    await bus.start()
    await bus.publish(C1, 1)
    await until(lambda: heard == [(C1, 1)])
    await bus.stop()
    await bus.stop()


@pytest.fixture
async def two_nodes(redis_server: Any) -> AsyncIterator[tuple[RedisBus, RedisBus]]:
    nodes = RedisBus(redis_server.url, timeout_s=10.0), RedisBus(redis_server.url, timeout_s=10.0)
    yield nodes
    for node in nodes:
        await node.stop()


async def test_nodes_hear_each_other(two_nodes: tuple[RedisBus, RedisBus]) -> None:
    one, two = two_nodes
    at_one, at_two = hear(one), hear(two)
    await one.start()
    await two.start()
    await one.publish(C1, 4)
    await until(lambda: at_one == [(C1, 4)] and at_two == [(C1, 4)])


async def test_redis_may_go_away_and_come_back(two_nodes: tuple[RedisBus, RedisBus], redis_server: Any) -> None:
    """Hints are lost and counted meanwhile, nothing raises, and the subscription mends itself."""
    one, two = two_nodes
    heard = hear(two)
    await one.start()
    await two.start()
    redis_server.kill()
    await one.publish(C1, 1)
    assert one.lost_hints == 1
    redis_server.start()

    await _publish_until(one, lambda: bool(heard))
    assert heard[0][0] == C1


async def _publish_until(bus: RedisBus, condition: Callable[[], bool]) -> None:
    for revision in range(2, 500):
        await bus.publish(C1, revision)
        try:
            await until(condition, timeout_s=0.05)
        except AssertionError:
            continue
        return
    raise AssertionError("no hint arrived")


@pytest.mark.parametrize("junk", [b"", b"\xff\xfe", b"x c1", b"-1 c1", b"7", b"9" * 5_000])
async def test_junk_on_the_channel_is_counted(redis_server: Any, junk: bytes) -> None:
    """Whoever else writes to our redis cannot stop the bus."""
    import redis.asyncio as redis

    bus = RedisBus(redis_server.url, timeout_s=10.0)
    heard = hear(bus)
    await bus.start()
    other = redis.Redis.from_url(redis_server.url)
    await other.publish("consilium:hints", junk)
    await bus.publish(C1, 2)
    await until(lambda: heard == [(C1, 2)])
    assert bus.malformed_hints == 1
    await other.aclose()
    await bus.stop()
