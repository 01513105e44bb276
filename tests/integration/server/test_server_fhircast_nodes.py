"""Two processes of one hub on a real redis and one database: one is killed, its people and programs go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fhircast_kit import ALL, Cast, Program, add_token, prepare, quick, running_node
from server_hub import quiet_port

from signaling.aio.redis_bus import RedisBus
from signaling.core import messages as m
from signaling.core.ids import PatientId
from signaling.core.model import Connection, Role
from tests.contract.signaling.conftest import RedisServer, redis_server  # noqa: F401 - fixture

SETTINGS = replace(quick(answer_ms=600_000), sole_node=False, dead_s=3.0)
"""Dead sooner than a slow machine answers would make it; that 10 s are kept is in `test_fhircast_standing`."""

CLIENTS = ("back", "gone")


@pytest.fixture
def first(tmp_path: Path, redis_server: RedisServer) -> Iterator[tuple[int, int]]:  # noqa: F811
    """Process id and port of the hub's first process: forked before this one has an event loop."""
    asyncio.run(prepare(tmp_path))
    port = quiet_port()
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(_serve(tmp_path, port, redis_server.url))
        finally:
            os._exit(1)
    yield child, port
    with contextlib.suppress(ChildProcessError):  # the test has killed it
        if os.waitpid(child, os.WNOHANG) == (0, 0):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


async def _serve(folder: Path, port: int, url: str) -> None:
    """A doctor who leads is here, and somebody who has just lost the socket; their media too."""
    async with _node(folder, port, url) as cast:
        leader = await cast.here("d2", Role.DOCTOR)
        await cast.consults.execute(leader, m.TakeLead())
        await cast.consults.detach(await cast.here("d3", Role.DOCTOR))
        await asyncio.Event().wait()


@asynccontextmanager
async def _node(folder: Path, port: int, url: str) -> AsyncIterator[Cast]:
    bus = RedisBus(url)
    async with running_node(folder, port, bus, SETTINGS) as cast:
        yield cast


async def listens(port: int) -> None:
    """Wait until a process answers there."""
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def test_a_process_that_is_killed(first: tuple[int, int], tmp_path: Path, redis_server: RedisServer) -> None:  # noqa: F811
    """[SE8] [PR2] [PR3] [PR4] (H6) (H14) (H19) (W19) Who comes to the other goes on there; who does not is named."""
    asyncio.run(_killed(*first, tmp_path, redis_server.url))


async def _killed(child: int, port: int, folder: Path, url: str) -> None:
    await listens(port)
    async with _node(folder, quiet_port(), url) as cast:
        doctor = await cast.here("d1", Role.DOCTOR)
        left = (await cast.until(lambda state: state.lead and len(state.participants) == 3)).media_epoch
        origin = f"http://127.0.0.1:{port}"
        back, gone = [Program(origin, await add_token(cast.services.database, ALL, client=one)) for one in CLIENTS]
        cast.programs += [back, gone]
        there, lost = await back.follow(cast.topic), await gone.follow(cast.topic, **{"subscriber.name": "Lost PACS"})
        here = await (await cast.program(client="here")).follow(cast.topic)
        # What happens at one process is told at the other, the same.
        await cast.consults.execute(doctor, m.OpenContext(patient=PatientId("pt1")))
        told = [await listener.event("Patient-open") for listener in (there, lost, here)]
        assert {one["id"] for one in told} == {told[0]["id"]}
        assert not (await cast.state()).programs

        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert await there.next() == 1006
        again = await cast.program(client="back")
        resumed = await again.socket(back.endpoint)
        assert (await resumed.next())["hub.mode"] == "subscribe"
        assert await resumed.event("Patient-open") == told[0]
        state = await cast.until(lambda state: state.programs)
        assert [(one.name, one.reason) for one in state.programs.values()] == [("Lost PACS", "lost")]
        error = await here.event("SyncError", status=None)
        assert "Lost PACS" in str(error["event"]["context"])
        # The one that came back follows what happens now, and is never named.
        await cast.consults.execute(doctor, m.OpenContext(patient=PatientId("pt2")))
        await resumed.event("SyncError", status=None)
        assert (await resumed.event("Patient-open"))["event"]["context"][0]["resource"]["id"] == "pt2"
        assert (await cast.log("program_in_step")) == []
        assert [one.name for one in (await cast.state()).programs.values()] == ["Lost PACS"]
        # Whoever was there has no socket; who was here stays, and media begins anew.
        state = await cast.until(lambda state: state.media_epoch > left)
        shown = {one.name: one.connection for one in state.participants.values()}
        away = Connection.RECONNECTING
        assert shown == {"d1": Connection.CONNECTED, "d2": away, "d3": away}
        assert len(await cast.log("media_reset")) == 1
        assert set((await cast.services.store.seats(state.id))[1].values()) == {cast.consults.node}
