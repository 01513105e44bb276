"""The media plane on two workers: placement, capacity, consults that span both, and the death of either."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from media.aio.spare import WorkerSettings
from media.core import ortc
from server.media_plane import WorkerMediaPlane
from signaling.core import messages as m
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsultId, ParticipantId, ProducerId, TransportId
from signaling.core.model import Connection, MediaSource
from tests.integration.media.peer import VIDEO_PT, VIDEO_SSRC, Peer, build_rtp, until, video_parameters, vp8

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALICE, BOB, CARL = ParticipantId("alice"), ParticipantId("bob"), ParticipantId("carl")


class Listener:
    """What signalling would hear."""

    def __init__(self) -> None:
        self.resets: list[ConsultId] = []
        self.gone: list[tuple[ParticipantId, TransportId]] = []
        self.silenced: list[ParticipantId] = []

    async def media_reset(self, consult: ConsultId) -> None:
        self.resets.append(consult)

    async def transport_changed(
        self, consult: ConsultId, participant: ParticipantId, transport: TransportId, connection: Connection
    ) -> None: ...

    async def producers_closed(self, consult: ConsultId, participant: ParticipantId) -> None:
        self.silenced.append(participant)

    async def active_speaker(self, consult: ConsultId, producer: ProducerId | None) -> None: ...

    async def line_news(self, consult: ConsultId, participant: ParticipantId, news: Any) -> None:
        if isinstance(news, m.TransportGone):
            self.gone.append((participant, news.transport))


class Hands:
    """Gives a `Peer` its Transport through the media plane."""

    def __init__(self, plane: WorkerMediaPlane, consult: ConsultId) -> None:
        self.plane, self.consult = plane, consult

    async def create_transport(self, _router: str, _id: str, owner: str, direction: str) -> dict[str, Any]:
        who = ParticipantId(owner)
        made = await self.plane.call(self.consult, who, m.CreateTransport.model_validate({"direction": direction}))
        assert isinstance(made, m.TransportOptions)
        self.made = made.id
        return made.model_dump()

    async def connect_transport(self, _id: str, dtls_parameters: dict[str, Any]) -> None:
        command = m.ConnectTransport(transport=self.made, dtls_parameters=dtls_parameters)
        await self.plane.call(self.consult, self.who, command)

    who = ALICE


class Person:
    """One participant with real peers behind the media plane."""

    def __init__(self, plane: WorkerMediaPlane, consult: ConsultId, who: ParticipantId) -> None:
        self.plane, self.consult, self.who = plane, consult, who
        self.peers: list[Peer] = []

    async def join(self, direction: str) -> tuple[Peer, TransportId]:
        hands = Hands(self.plane, self.consult)
        hands.who = self.who
        peer = Peer(hands, self.consult, direction, owner=self.who)  # type: ignore[arg-type]
        await peer.join()
        self.peers.append(peer)
        return peer, hands.made

    async def publish(self) -> tuple[Peer, ProducerId]:
        peer, transport = await self.join("send")
        command = m.Produce(
            transport=transport, kind="video", rtp_parameters=video_parameters(), source=MediaSource.CAMERA
        )
        made = await self.plane.call(self.consult, self.who, command)
        assert isinstance(made, m.Produced)
        return peer, made.producer

    async def view(self, producer: ProducerId) -> Peer:
        peer, transport = await self.join("recv")
        command = m.Consume(transport=transport, producer=producer, rtp_capabilities=ortc.router_capabilities())
        made = await self.plane.call(self.consult, self.who, command)
        assert isinstance(made, m.Consuming)
        await self.plane.call(self.consult, self.who, m.ResumeConsumer(consumer=made.consumer))
        return peer

    async def close(self) -> None:
        for peer in self.peers:
            await peer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[tuple[WorkerMediaPlane, Listener]]:
    plane = WorkerMediaPlane(WorkerSettings(bind="127.0.0.1", standby_after_s=0.0), count=2)
    listener = Listener()
    plane.listen(listener)
    await plane.start()
    await plane.pool.started()
    yield plane, listener
    await plane.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def plane(running: tuple[WorkerMediaPlane, Listener]) -> AsyncIterator[WorkerMediaPlane]:
    plane, listener = running
    for index in range(2):
        await plane.pool.wait_up(90, index)
        calm(plane, index)
    listener.__init__()  # type: ignore[misc]
    yield plane
    for index in range(2):
        calm(plane, index)
    for consult in list(plane._places.consults):
        await plane.close(consult)


@pytest.fixture
def listener(running: tuple[WorkerMediaPlane, Listener]) -> Listener:
    return running[1]


def calm(plane: WorkerMediaPlane, index: int) -> None:
    """As a worker looks that has just started."""
    plane.pool.loads[index].reset()


def fill(plane: WorkerMediaPlane, index: int, share: float = 1.0) -> None:
    """From now on this worker has so much to do, whatever it reports."""
    load = plane.pool.loads[index]
    load.reset()
    load.charge(share, 1 << 62)


def frame(number: int, key: bool) -> bytes:
    return build_rtp(VIDEO_PT, number, number * 3000, VIDEO_SSRC, vp8(key, number))


def home_of(plane: WorkerMediaPlane, consult: ConsultId) -> int:
    home = plane.home(consult)
    assert home is not None
    return home


async def spread(plane: WorkerMediaPlane, consult: ConsultId) -> tuple[int, Person, Person, Person]:
    """Alice and Bob at home, Carl on the other worker because home is full."""
    people = [Person(plane, consult, who) for who in (ALICE, BOB, CARL)]
    await plane.open(consult)
    return home_of(plane, consult), people[0], people[1], people[2]


async def test_consults_go_where_there_is_room(plane: WorkerMediaPlane) -> None:
    """That many spread evenly is a law of `media.core.placement`; here a worker's own report may come in between."""
    for number, full in enumerate((0, 1, 0)):
        fill(plane, full)
        calm(plane, 1 - full)
        consult = ConsultId(f"place-{number}")
        await plane.open(consult)
        assert home_of(plane, consult) == 1 - full


async def test_at_capacity_new_consults_are_refused_in_words_and_running_ones_go_on(plane: WorkerMediaPlane) -> None:
    running = ConsultId("full-running")
    await plane.open(running)
    fill(plane, 0, 0.9)
    fill(plane, 1, 0.9)
    with pytest.raises(Refusal) as refused:
        await plane.open(ConsultId("full-new"))
    assert refused.value.code is ErrorCode.TOO_BUSY
    assert "capacity is used up" in refused.value.en
    assert "容量已用完" in refused.value.zh
    assert await plane.open(running)
    alice = Person(plane, running, ALICE)
    await alice.join("send")
    fill(plane, 0, 0.99)
    fill(plane, 1, 0.99)
    with pytest.raises(Refusal) as late:
        await Person(plane, running, BOB).join("send")
    assert late.value.code is ErrorCode.TOO_BUSY
    await alice.join("recv")
    await alice.close()


async def test_a_consult_larger_than_a_worker_spans_two(plane: WorkerMediaPlane) -> None:
    """Picture both ways; pausing and closing a Producer is felt on the other worker too."""
    consult = ConsultId("span")
    home, alice, bob, carl = await spread(plane, consult)
    camera, picture = await alice.publish()
    near = await bob.view(picture)
    fill(plane, home)
    far = await carl.view(picture)
    far_camera, far_picture = await carl.publish()
    back = await bob.view(far_picture)
    assert (await plane.pool.client(1 - home).stats())["consumers_now"] == 1

    for number in range(1, 21):
        camera.send_rtp(frame(number, number == 1))
        far_camera.send_rtp(frame(number, number == 1))
    for viewer in (far, back):
        await until(lambda viewer=viewer: len(viewer.got.rtp) >= 20, "twenty packets across")  # type: ignore[misc]
    del near

    await plane.call(consult, ALICE, m.PauseProducer(producer=picture))
    before = len(far.got.rtp)
    for number in range(21, 31):
        camera.send_rtp(frame(number, False))
        far_camera.send_rtp(frame(number, False))
    await until(lambda: len(back.got.rtp) >= 30, "the other direction goes on")
    assert len(far.got.rtp) == before
    await plane.call(consult, ALICE, m.CloseProducer(producer=picture))
    assert (await plane.pool.client(1 - home).stats())["consumers_now"] == 0
    for person in (alice, bob, carl):
        await person.close()


async def test_the_death_of_a_further_worker_concerns_only_those_who_were_there(
    plane: WorkerMediaPlane, listener: Listener
) -> None:
    """[ME17] Carl makes new Transports; Alice's and Bob's picture goes on without a missing packet."""
    consult = ConsultId("far-death")
    home, alice, bob, carl = await spread(plane, consult)
    camera, picture = await alice.publish()
    near = await bob.view(picture)
    fill(plane, home)
    await carl.view(picture)
    await carl.publish()
    pid = plane.pool.workers[1 - home].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: len(listener.gone) == 2 and listener.silenced == [CARL], "Carl is told")
    for number in range(1, 31):
        camera.send_rtp(frame(number, number == 1))
    await until(lambda: len(near.got.rtp) == 30, "Bob sees everything")
    assert {who for who, _ in listener.gone} == {CARL}
    assert listener.resets == []

    await plane.pool.wait_up(90, 1 - home)
    again = await carl.view(picture)
    camera.send_rtp(frame(31, True))
    await until(lambda: again.got.rtp, "Carl sees again")
    for person in (alice, bob, carl):
        await person.close()


async def test_the_death_of_the_home_resets_the_consult_and_another_worker_takes_it(
    plane: WorkerMediaPlane, listener: Listener
) -> None:
    """At once, on the worker that lives; nobody waits for the replacement."""
    consult = ConsultId("home-death")
    home, alice, bob, carl = await spread(plane, consult)
    _, picture = await alice.publish()
    fill(plane, home)
    await carl.view(picture)
    calm(plane, home)
    pid = plane.pool.workers[home].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: listener.resets == [consult] and plane.home(consult) is not None, "placed again")
    assert home_of(plane, consult) == 1 - home
    again = Person(plane, consult, ALICE)
    camera, picture = await again.publish()
    viewer = await Person(plane, consult, BOB).view(picture)
    camera.send_rtp(frame(1, True))
    await until(lambda: viewer.got.rtp, "a picture again")
    for person in (alice, bob, carl, again):
        await person.close()


async def test_a_consult_that_saw_two_workers_die_stays_where_it_is(
    plane: WorkerMediaPlane, listener: Listener
) -> None:
    """It may be what kills them: the consults of the other worker are not put at risk."""
    consult = ConsultId("suspicious")
    await plane.open(consult)
    homes = []
    for deaths in (1, 2):
        home = home_of(plane, consult)
        homes.append(home)
        pid = plane.pool.workers[home].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda deaths=deaths: len(listener.resets) == deaths, "told")  # type: ignore[misc]
        await until(lambda: plane.home(consult) is not None, "placed again")
        await plane.pool.wait_up(90, home)
    assert homes[1] != homes[0]
    assert home_of(plane, consult) == homes[1]


async def test_a_worker_whose_port_is_taken_leaves_the_others_alone() -> None:
    """[Bad input] The second port is taken: the first worker serves, the second comes when its port is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        first = free.getsockname()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        try:
            taken.bind(("127.0.0.1", first + 1))
        except OSError:
            pytest.skip("the port after a free one is in use here")
        plane = WorkerMediaPlane(
            WorkerSettings(bind="127.0.0.1", port=first, longest_pause_s=0.2, standby_after_s=0.0), count=2
        )
        await plane.start()
        try:
            await plane.pool.started()
            assert plane.pool.up == [0]
            await plane.open(ConsultId("alone"))
            taken.close()
            async with asyncio.timeout(60):
                await plane.pool.wait_up(60, 1)
            assert plane.pool.workers[1].port == first + 1
        finally:
            await plane.stop()
