"""W19 by the clock, with the times that production has: how long until a dead program, or a dead process's, is named.

`test_server_fhircast_nodes` holds what happens then and `test_fhircast_standing` that the times add up; here they are
lived through, at several moments between two pings and two signs of life. Printed with ``-s``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fhircast_kit import ALL, Cast, Program, add_token, prepare, running_node
from server_hub import quiet_port
from test_server_fhircast_nodes import listens

from server.fhircast.aio.service import FhircastSettings
from signaling.aio.redis_bus import RedisBus
from signaling.core import messages as m
from signaling.core.ids import PatientId
from signaling.core.model import Role
from tests.contract.signaling.conftest import RedisServer, redis_server  # noqa: F401 - fixture

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

SETTINGS = FhircastSettings(sole_node=False)
NAMED_WITHIN_S = 10.0
"""(W19)"""
MOMENTS, DEATHS = 5, 3

Start = Callable[[], tuple[int, int]]


@pytest.fixture
def start(tmp_path: Path, redis_server: RedisServer) -> Iterator[Start]:  # noqa: F811
    """Starts another process of the hub, before this one has an event loop; its process id and port."""
    asyncio.run(prepare(tmp_path))
    children: list[int] = []

    def fork() -> tuple[int, int]:
        port = quiet_port()
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(_serve(tmp_path, port, redis_server.url))
            finally:
                os._exit(1)
        children.append(child)
        return child, port

    yield fork
    for child in children:
        with contextlib.suppress(ChildProcessError):  # the test has killed it
            if os.waitpid(child, os.WNOHANG) == (0, 0):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


async def _serve(folder: Path, port: int, url: str) -> None:
    async with _node(folder, port, url):
        await asyncio.Event().wait()


@asynccontextmanager
async def _node(folder: Path, port: int, url: str) -> AsyncIterator[Cast]:
    async with running_node(folder, port, RedisBus(url), SETTINGS) as cast:
        yield cast


def test_a_program_that_goes_silent_and_a_process_that_dies_are_named_in_time(
    start: Start,
    tmp_path: Path,
    redis_server: RedisServer,  # noqa: F811
) -> None:
    """(W19) (H18) Silence without a goodbye, at five moments between two pings; SIGKILL, at three between two words."""
    silent = asyncio.run(_silences(tmp_path, redis_server.url))
    killed = [asyncio.run(_death(number, *start(), tmp_path, redis_server.url)) for number in range(DEATHS)]
    print("silent program named after", [f"{one:.1f} s" for one in silent])
    print("killed process's program named after", [f"{one:.1f} s" for one in killed])
    assert max(silent) <= NAMED_WITHIN_S
    assert max(killed) <= NAMED_WITHIN_S


async def _silences(folder: Path, url: str) -> list[float]:
    async with _node(folder, quiet_port(), url) as cast:
        doctor = await cast.here("d1", Role.DOCTOR)
        await cast.consults.execute(doctor, m.OpenContext(patient=PatientId("pt1")))
        return [await _silent(cast, moment) for moment in range(MOMENTS)]


async def _death(number: int, child: int, port: int, folder: Path, url: str) -> float:
    await listens(port)
    async with _node(folder, quiet_port(), url) as cast:
        await cast.here("d1", Role.DOCTOR)
        return await _killed(cast, number, child, port)


async def _silent(cast: Cast, moment: int) -> float:
    """Seconds from a program's last sign of life until everyone is told: its machine has lost its power."""
    name = f"Silent {moment}"
    program = await cast.program(client=f"silent{moment}")
    listener = await program.follow(cast.topic, **{"subscriber.name": name})
    await listener.event("Patient-open")
    listening = asyncio.create_task(listener.ws.receive())  # answers pings as long as it is awaited
    await asyncio.sleep(SETTINGS.ping_s * (1 + moment / MOMENTS))
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    return await _until_named(cast, name, time.monotonic())


async def _killed(cast: Cast, number: int, child: int, port: int) -> float:
    """Seconds from the death of the process that a program was connected to, which does not come back."""
    name = f"Lost {number}"
    token = await add_token(cast.services.database, ALL, client=f"lost{number}")
    program = Program(f"http://127.0.0.1:{port}", token)
    cast.programs.append(program)
    listener = await program.follow(cast.topic, **{"subscriber.name": name})
    await listener.event("Patient-open")
    # It must have said that it lives; then at another moment between two such words each time.
    await asyncio.sleep(SETTINGS.alive_s * (2 + number / DEATHS))
    died_s = time.monotonic()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return await _until_named(cast, name, died_s)


async def _until_named(cast: Cast, name: str, since_s: float) -> float:
    await cast.until(lambda state: name in {one.name for one in state.programs.values()})
    return time.monotonic() - since_s
