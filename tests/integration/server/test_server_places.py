"""Placements and what crosses them: deaths, closings and renewals while a Router is being opened. Real workers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from media.aio.client import WorkerClient
from media.aio.spare import WorkerSettings
from media.core.control import MediaError, MediaErrorCode
from server import media_places
from server.media_plane import WorkerMediaPlane
from signaling.core import messages as m
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.model import JsonObject
from tests.integration.media.peer import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALICE, CARL = ParticipantId("alice"), ParticipantId("carl")
SEND = m.CreateTransport(direction="send")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[WorkerMediaPlane]:
    plane = WorkerMediaPlane(WorkerSettings(bind="127.0.0.1", standby_after_s=0.0), count=2)
    await plane.start()
    await plane.pool.started()
    yield plane
    await plane.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def plane(running: WorkerMediaPlane) -> AsyncIterator[WorkerMediaPlane]:
    for index in range(2):
        await running.pool.wait_up(90, index)
        running.pool.loads[index].reset()
    yield running
    for consult in list(running._places.consults):
        await running.close(consult)


class Held:
    """Routers are opened, but nobody hears of it before ``let_go``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()
        real = media_places.open_router

        async def held(client: WorkerClient, consult: ConsultId) -> JsonObject:
            answer = await real(client, consult)
            self.begun.set()
            await self.let_go.wait()
            return answer

        monkeypatch.setattr(media_places, "open_router", held)


def counted(plane: WorkerMediaPlane) -> list[int]:
    return [load.consults for load in plane.pool.loads.values()]


async def kill(plane: WorkerMediaPlane, index: int) -> None:
    """Returns when the pool knows."""
    pid, client = plane.pool.workers[index].pid, plane.pool.client(index)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await client.closed.wait()
    await until(lambda: not plane.pool.workers[index]._up.is_set() or plane.pool.workers[index].pid != pid, "noticed")


async def test_a_death_while_placing_leaves_the_count_right(
    plane: WorkerMediaPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count below nothing would let a renewal end a running consult later."""
    plane.pool.draining.add(1)
    held = Held(monkeypatch)
    opening = asyncio.create_task(plane.open(ConsultId("dying")))
    await held.begun.wait()
    await kill(plane, 0)
    held.let_go.set()
    plane.pool.draining.clear()
    with pytest.raises(Refusal) as refused:
        await opening
    assert refused.value.code is ErrorCode.MEDIA_UNAVAILABLE
    assert counted(plane) == [0, 0]
    await plane.pool.wait_up(90, 0)
    plane.pool.draining.add(1)
    await plane.open(ConsultId("after"))
    plane.pool.draining.clear()
    assert counted(plane) == [1, 0]
    pid = plane.pool.workers[0].pid
    with pytest.raises(MediaError):
        await plane.pool.renew(0, within_s=0.0)
    assert plane.pool.workers[0].pid == pid


async def test_a_consult_closed_while_it_is_placed_stays_closed(
    plane: WorkerMediaPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for before is closed with the rest; a later one is a new consult."""
    consult = ConsultId("closing")
    held = Held(monkeypatch)
    opening = asyncio.create_task(plane.open(consult))
    await held.begun.wait()
    waiting = asyncio.create_task(plane.call(consult, ALICE, SEND))
    await asyncio.sleep(0)
    closing = asyncio.create_task(plane.close(consult))
    await asyncio.sleep(0)
    held.let_go.set()
    await asyncio.gather(opening, closing)
    with pytest.raises(Refusal) as refused:
        await waiting
    assert refused.value.code is ErrorCode.NOT_FOUND
    assert plane.home(consult) is None
    assert counted(plane) == [0, 0]
    assert plane._places._gates == {}
    assert (await plane.stats())["routers_now"] == 0
    await plane.open(consult)
    assert sum(counted(plane)) == 1


async def test_a_consult_closed_while_it_waits_for_a_new_home_gets_none(
    plane: WorkerMediaPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by the placing that was under way nor by one that queued behind the closing."""
    consult = ConsultId("homeless")
    plane._places._homeless[consult] = 0
    held = Held(monkeypatch)
    settling = asyncio.create_task(plane._places.settle_again(consult))
    await held.begun.wait()
    closing = asyncio.create_task(plane.close(consult))
    await until(lambda: plane._places._gates[consult].users == 2, "the closing waits")
    behind = asyncio.create_task(plane._places.settle_again(consult))
    await until(lambda: plane._places._gates[consult].users == 3, "another placing waits")
    held.let_go.set()
    await asyncio.gather(settling, closing, behind)
    assert plane.home(consult) is None
    assert counted(plane) == [0, 0]


async def test_a_home_that_dies_while_the_consult_grows_leaves_no_stray_router(
    plane: WorkerMediaPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    consult = ConsultId("growing")
    await plane.open(consult)
    home = plane.home(consult)
    assert home is not None
    plane.pool.loads[home].charge(1.0, 1 << 62)
    with monkeypatch.context() as patch:
        held = Held(patch)
        joining = asyncio.create_task(plane.call(consult, CARL, SEND))
        await held.begun.wait()
        await kill(plane, home)
        held.let_go.set()
        with pytest.raises(Refusal) as refused:
            await joining
    assert refused.value.code is ErrorCode.MEDIA_UNAVAILABLE
    await until(lambda: plane.home(consult) is not None, "placed again")
    assert sum(counted(plane)) == 1
    await plane.close(consult)
    await plane.pool.wait_up(90, home)
    assert counted(plane) == [0, 0]
    assert (await plane.stats())["routers_now"] == 0


async def test_while_all_workers_are_renewed_consults_are_placed(plane: WorkerMediaPlane) -> None:
    """A renewal ends at its bound, says what it waited for, and the next one works."""
    plane.pool.draining |= {0, 1}
    await plane.open(ConsultId("during"))
    plane.pool.draining.clear()
    home = plane.home(ConsultId("during"))
    assert home is not None
    with pytest.raises(MediaError) as late:
        await plane.pool.renew(home, within_s=0.02, remind_every_s=0.005)
    assert late.value.code is MediaErrorCode.TIMEOUT
    assert "1 consults" in late.value.text
    assert plane.pool.draining == set()
    await plane.close(ConsultId("during"))
    pid = plane.pool.workers[home].pid
    await plane.pool.renew(home)
    assert plane.pool.workers[home].pid != pid


async def test_a_consult_that_never_ends_keeps_no_other_worker_from_being_renewed(
    plane: WorkerMediaPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own worker is renewed when it does end, without being asked again."""
    monkeypatch.setattr("media.aio.pool.RENEW_PAUSE_S", 0.01)
    await plane.open(ConsultId("endless"))
    home = plane.home(ConsultId("endless"))
    assert home is not None
    other = 1 - home
    pids = [worker.pid for worker in plane.pool.workers]

    renewal = asyncio.create_task(plane.pool.renew_all(turn_s=0.02))
    await until(lambda: plane.pool.workers[other].pid not in (None, pids[other]), "the other to be replaced")
    assert plane.pool.workers[home].pid == pids[home]
    assert not renewal.done()
    await plane.close(ConsultId("endless"))
    async with asyncio.timeout(60):
        await renewal
    assert plane.pool.workers[home].pid not in (None, pids[home])
    assert plane.pool.draining == set()
