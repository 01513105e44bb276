"""Several services on one store: one of them dies, or is only taken for dead. [SE8]"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest

from signaling.aio.memory import MemoryBus, MemoryStore
from signaling.aio.nodes import NodeTimes
from signaling.aio.service import ConsultService, ServiceSettings
from signaling.core import messages as m
from signaling.core.admission import Admission
from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.model import Connection, Consult
from tests.signaling_kit import CONSULT, PATIENTS, MemoryMedia, admission, consult, until

AWAY, HERE = Connection.RECONNECTING, Connection.CONNECTED


class Page:
    """A peer that keeps why it was told to go."""

    def __init__(self, admitted: Admission) -> None:
        self.admission = admitted
        self.goodbye_reason: str | None = None
        self.hears = True

    def deliver(self, frame: bytes, key: str | None = None) -> None:
        """What it is told is looked at in the store."""

    def hold_events(self) -> None:
        """Nothing is on a wire."""

    def goodbye(self, reason: str) -> None:
        self.goodbye_reason = self.goodbye_reason or reason


class Node:
    """A service with media of its own, on a bus of its own: every hint to the others is lost."""

    def __init__(self, store: MemoryStore, dead_s: float, grace_s: float, beat_s: float) -> None:
        times = NodeTimes(alive_s=dead_s / 5, dead_s=dead_s)
        settings = ServiceSettings(beat_s=beat_s, retry_s=0.01, sole_node=False, nodes=times, grace_s=grace_s)
        self.media = MemoryMedia()
        self.service = ConsultService(store, MemoryBus(), self.media, lambda: 1_000, settings)

    async def join(self, name: str) -> Page:
        page = Page(admission(name))
        await self.service.execute(page, m.Join())
        return page


MakeNode = Callable[..., Awaitable[Node]]


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.add(consult(), PATIENTS)
    return store


@pytest.fixture
async def make_node(store: MemoryStore) -> AsyncIterator[MakeNode]:
    running: list[Node] = []

    async def make(dead_s: float = 1.0, grace_s: float = 60.0, beat_s: float = 0.1) -> Node:
        running.append(Node(store, dead_s, grace_s, beat_s))
        await running[-1].service.start()
        return running[-1]

    yield make
    for node in running:
        await node.service.stop()


def now(store: MemoryStore) -> Consult:
    return store._consults[CONSULT]


def connections(store: MemoryStore) -> dict[str, Connection]:
    return {who: one.connection for who, one in now(store).participants.items()}


async def test_a_dead_process_is_found_by_all_and_acted_on_once(store: MemoryStore, make_node: MakeNode) -> None:
    """[SE4] [SE8] Whoever does not come back goes after the grace time, the lead with them; who does is the same."""
    dead, *others = [await make_node(), await make_node(grace_s=2.0), await make_node(grace_s=2.0)]
    a = await dead.join("a")
    await dead.service.execute(a, m.TakeLead())
    await dead.join("b")
    await dead.service.detach(await dead.join("c"))
    d = await others[0].join("d")
    await dead.service.stop()  # it says nothing to anybody any more, and nothing about its people
    assert connections(store) == {"a": HERE, "b": HERE, "c": AWAY, "d": HERE}
    await until(lambda: now(store).media_epoch, 60)
    assert connections(store) == {"a": AWAY, "b": AWAY, "c": AWAY, "d": HERE}
    await others[1].join("b")
    await until(lambda: now(store).participants.keys() == {"b", "d"}, 60)
    assert now(store).lead is None
    events = await store.events_since(CONSULT, 0, 1_000) or []
    assert sum(isinstance(event, m.MediaReset) for event in events) == 1
    lost = [e.participant for e in events if isinstance(e, m.ConnectionChanged) and e.participant == "a"]
    assert (len(lost), d.goodbye_reason) == (1, None)
    await until(lambda: dead.service.node not in store._words, 60)


async def test_who_is_taken_for_dead_lets_its_people_go(store: MemoryStore, make_node: MakeNode) -> None:
    """[SE8] It could not write; then it can read again, and finds that it has nobody. They may come back to it."""
    cut, other = await make_node(), await make_node()
    a = await cut.join("a")
    say, served = store.say_alive, cut.service.node

    async def unless_cut(node: str, word: int) -> None:
        if node == served:
            raise OSError("no way to the database")
        await say(node, word)

    store.say_alive = unless_cut  # type: ignore[method-assign]
    await until(lambda: a.goodbye_reason, 60)
    assert (a.goodbye_reason, cut.media.released) == ("server_stopping", ["a"])
    assert (connections(store), now(store).media_epoch) == ({"a": AWAY}, 1)
    store.say_alive = say  # type: ignore[method-assign]
    await until(lambda: served in store._words, 60)
    back = await cut.join("a")
    assert connections(store) == {"a": HERE}
    assert (await store.seats(CONSULT))[1] == {ParticipantId("a"): served}
    assert back.goodbye_reason is None
    assert other.media.released == []


async def test_who_comes_to_another_process_is_there_only(store: MemoryStore, make_node: MakeNode) -> None:
    """[SE5] The former session goes with its media, and what its process still says of it counts for nothing."""
    one, two = await make_node(60.0, grace_s=0.3), await make_node(60.0)
    a = await one.join("a")
    await one.service.detach(await one.join("b"))
    await two.join("a")
    await two.join("b")
    await until(lambda: a.goodbye_reason)
    assert a.goodbye_reason == "replaced"
    await until(lambda: set(one.media.released) == {"a", "b"})
    before = now(store).revision
    await one.service.detach(a)
    await one.service.news.producers_closed(CONSULT, ParticipantId("a"))
    await until(lambda: not one.service._here.audiences[CONSULT].graces)
    assert (connections(store), now(store).revision) == ({"a": HERE, "b": HERE}, before)


async def test_a_socket_that_is_lost_late_takes_nobody_back(store: MemoryStore, make_node: MakeNode) -> None:
    """[SE3] [SE5] The former process has not heard yet that the participant is elsewhere."""
    late, two = await make_node(60.0, beat_s=600.0), await make_node(60.0)
    a = await late.join("a")
    again = await two.join("a")
    await late.service.detach(a)
    assert (connections(store), again.goodbye_reason) == ({"a": HERE}, None)
    assert (await store.seats(CONSULT))[1] == {ParticipantId("a"): two.service.node}


async def test_two_that_find_the_same_at_the_same_moment(store: MemoryStore, make_node: MakeNode) -> None:
    """[CO6] [SE8] The one whose commit is the later has taken nobody, though it saw the same seats."""
    dead, *others = [await make_node(60.0) for _ in range(3)]
    await dead.join("a")
    await dead.service.stop()
    seats, both = store.seats, asyncio.Barrier(2)

    async def seen_by_both(consult: ConsultId) -> tuple[int, Mapping[ParticipantId, str]]:
        found = await seats(consult)
        await both.wait()
        return found

    store.seats = seen_by_both  # type: ignore[method-assign]
    await asyncio.gather(*(one.service._attendance.take_over(CONSULT, {dead.service.node}) for one in others))
    assert (connections(store), now(store).media_epoch) == ({"a": AWAY}, 1)


async def test_a_process_without_its_bus_is_not_dead(store: MemoryStore, make_node: MakeNode) -> None:
    """[SE8] Here no hint ever arrives: it speaks through the store, and nobody is thrown out."""
    one, two = await make_node(0.5), await make_node(0.5)
    a, b = await one.join("a"), await two.join("b")
    first = (await store.last_words())[one.service.node]
    await until(lambda: store._words[one.service.node] > first + 10, 60)
    assert (connections(store), now(store).media_epoch) == ({"a": HERE, "b": HERE}, 0)
    assert (a.goodbye_reason, b.goodbye_reason) == (None, None)
