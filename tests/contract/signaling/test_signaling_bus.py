"""One contract for both buses, and what only a redis that goes away can show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgpack
import pytest

from signaling.aio.memory import MemoryBus, MemoryStore
from signaling.aio.redis_bus import RedisBus
from signaling.aio.service import ConsultService, ServiceSettings
from signaling.core import messages as m
from signaling.core.admission import Admission
from signaling.core.ids import ConsultId, PatientId
from signaling.core.model import PageShape, View
from signaling.core.ports import EventBus
from tests.signaling_kit import CONSULT, PATIENTS, MemoryMedia, admission, consult, until

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


def hear_signals(bus: RedisBus) -> list[tuple[ConsultId, bytes]]:
    heard: list[tuple[ConsultId, bytes]] = []
    bus.listen_to_signals(lambda consult, body: heard.append((consult, body)))
    return heard


async def test_of_signals_that_wait_the_newest_goes_and_never_to_its_own_node(
    two_nodes: tuple[RedisBus, RedisBus],
) -> None:
    """[LE4] A pointer that moves a thousand times costs a message, and no more wait than a bound."""
    one, two = two_nodes
    at_one, at_two = hear_signals(one), hear_signals(two)
    await two.start()
    for place in range(1_000):
        one.pass_on(C1, "pointed", b"%d" % place)
    for place in range(1_200):
        one.pass_on(ConsultId("c2"), f"inked:{place}", b"x")
    assert one.lost_signals == 201  # of 1000 that may wait, the pointer is one
    await one.start()
    await until(lambda: len(at_two) >= 1_000)
    two.pass_on(C1, "scrolled", b"back")
    await until(lambda: bool(at_one))
    assert (at_two[0], at_one) == ((C1, b"999"), [(C1, b"back")])
    assert len(at_two) == 1_000


async def test_signals_are_dropped_while_redis_is_away(two_nodes: tuple[RedisBus, RedisBus], redis_server: Any) -> None:
    """Nothing is kept for later: what comes after the gap is what is true then. Junk is counted and stops nothing."""
    import redis.asyncio as redis

    one, two = two_nodes
    heard, hints = hear_signals(two), hear(two)
    await one.start()
    await two.start()
    redis_server.kill()
    one.pass_on(C1, "pointed", b"lost")
    await until(lambda: one.lost_signals == 1, 30)
    redis_server.start()
    await _publish_until(one, lambda: bool(hints))
    other = redis.Redis.from_url(redis_server.url)
    junk = (b"", b"\n", b"x\nbody", b"\xff \n", b"n c1\n" + b"9" * 20_000)
    for one_of_them in junk:
        await other.publish("consilium:hints:signals", one_of_them)
    await other.aclose()
    await until(lambda: two.malformed_signals == len(junk))
    one.pass_on(C1, "pointed", b"true")
    await until(lambda: bool(heard))
    assert heard == [(C1, b"true")]


class Page:
    """A peer that keeps the signals it was sent."""

    def __init__(self, admitted: Admission) -> None:
        self.admission = admitted
        self.goodbye_reason: str | None = None
        self.hears = True
        self.signals: list[dict[str, Any]] = []

    def deliver(self, frame: bytes, key: str | None = None) -> None:
        name, payload = msgpack.unpackb(frame)["data"]
        if name == "signal" and payload["type"] != "beat":
            self.signals.append(payload)

    def hold_events(self) -> None:
        """Nothing is on a wire."""

    def goodbye(self, reason: str) -> None:
        self.goodbye_reason = reason


async def test_pointer_scroll_and_ink_reach_who_is_on_another_process(two_nodes: tuple[RedisBus, RedisBus]) -> None:
    """[LE4] [SH7] (H21) Once each, not to the sender, nothing of it in the log; and nothing about another patient."""
    store = MemoryStore()
    store.add(consult(), PATIENTS)
    settings = ServiceSettings(sole_node=False, beat_s=60.0)
    one, two = (ConsultService(store, bus, MemoryMedia(), lambda: 1_000, settings) for bus in two_nodes)
    for service in (one, two):
        await service.start()
    lead, near, far = Page(admission("lead")), Page(admission("near")), Page(admission("far"))
    for service, page in ((one, lead), (one, near), (two, far)):
        await service.execute(page, m.Join())
    await one.execute(lead, m.TakeLead())
    await one.execute(lead, m.OpenContext(patient=PatientId("p1")))
    await until(lambda: two._here.audiences[CONSULT].state.context)
    logged = len(await store.events_since(CONSULT, 0, 1_000) or [])
    view, shape = View(), PageShape(content="0" * 16, width=800, height=600, language="en")
    await one.execute(lead, m.Scroll(context_version=1, view=view, y=0.5))
    await one.execute(lead, m.Point(context_version=1, view=view, x=0.25, y=0.5, visible=True))
    await until(lambda: len(far.signals) == 2)
    assert far.signals == near.signals
    assert [(heard["type"], heard["by"]) for heard in far.signals] == [("scrolled", "lead"), ("pointed", "lead")]
    await one.execute(lead, m.FreezePage(id="f1", context_version=1, view=view, shape=shape))
    await one.execute(lead, m.Ink(freeze="f1", context_version=1, stroke=0, of=1, points=(0, 0, 9, 9)))
    await until(lambda: far.signals[-1]["type"] == "inked")
    assert len(await store.events_since(CONSULT, 0, 1_000) or []) == logged + 1, "the freeze alone"
    # Late: the other process has been told of another patient meanwhile.
    two_nodes[0].pass_on(CONSULT, "pointed", m.Pointed(
        by=lead.admission.participant, context_version=7, view=view, x=0.1, y=0.1, visible=True
    ).model_dump_json().encode())  # fmt: skip
    two_nodes[0].pass_on(CONSULT, "beat", b'{"type":"goodbye","reason":"ended"}')
    await until(lambda: (two._passing.late, two._passing.malformed) == (1, 1))
    assert (len(far.signals), far.goodbye_reason, lead.signals) == (3, None, [])
    for service in (one, two):
        await service.stop()
