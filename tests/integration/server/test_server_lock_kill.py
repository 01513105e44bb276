"""SIGKILL of either end of the lock while messages flow, with real processes: nothing lost, nothing twice.

The processes are forked from this one, so that a dozen of them cost seconds. A hospital system stands in the gateway's
process: it sends result after result, writes down each that was answered AA, and after a kill sends again what was
not answered, as real ones do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from lock_kit import POLICY, Hub, fill_hub, quick_sleep, quiet_port, result, wall_us

from server.gateway.config import Folder
from server.gateway.core.crossing import LockRefused, Outlet
from server.gateway.identity import enrol
from server.gateway.inside import Inside
from server.gateway.link import Timing
from server.gateway.program import Gateway

MESSAGES = 40
DEADLINE_S = 60.0


class LaboratorySystem:
    """Sends results until all are answered; what was answered is in a file."""

    name = "lis"

    def __init__(self, answered: Path) -> None:
        self._answered = answered

    async def run(self, outlet: Outlet) -> None:
        with self._answered.open("a") as file:
            for number in range(answered_until(self._answered) + 1, MESSAGES + 1):
                while True:
                    try:
                        await outlet.put(result(number))
                        break
                    except LockRefused:
                        await asyncio.sleep(0.05)
                file.write(f"{number}\n")
                file.flush()
                await asyncio.sleep(0.01)
        await asyncio.Event().wait()


def answered_until(file: Path) -> int:
    lines = file.read_text().split("\n") if file.exists() else []
    return max((int(line) for line in lines if line), default=0)


async def hub_program(data_dir: Path, port: int) -> None:
    await Hub(data_dir=data_dir, port=port).start()
    await asyncio.Event().wait()


async def gateway_program(folder: Path, answered: Path) -> None:
    inside = Inside(adapters=(LaboratorySystem(answered),))
    await Gateway(Folder(folder), inside, Timing(now_us=wall_us, sleep=quick_sleep)).run(asyncio.Event())


async def enrolled(data_dir: Path, port: int, folder: Path) -> None:
    hub = Hub(data_dir=data_dir, port=port)
    await hub.start()
    await enrol(Folder(folder), hub=hub.origin, code=await hub.code())
    await hub.stop()
    (folder / "policy.toml").write_text(POLICY)


class Children:
    """Forked processes; none outlives the test."""

    def __init__(self) -> None:
        self._alive: set[int] = set()

    def start(self, program: Callable[[], Coroutine[Any, Any, None]]) -> int:
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(program())
            finally:
                os._exit(1)
        self._alive.add(child)
        return child

    def kill(self, child: int) -> None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self._alive.discard(child)

    def kill_all(self) -> None:
        for child in list(self._alive):
            self.kill(child)


@pytest.fixture
def children() -> Iterator[Children]:
    children = Children()
    yield children
    children.kill_all()


def rows(data_dir: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(data_dir / "consilium.db", timeout=20)) as db:
        return db.execute(query).fetchall()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until, "took too long"
        time.sleep(0.005)


def test_sigkill_of_either_side_mid_message(children: Children, tmp_path: Path) -> None:
    """[LK10] [LK12] [LK13]"""
    hub_dir, folder, answered = fill_hub(tmp_path / "hub"), tmp_path / "g", tmp_path / "answered"
    port = quiet_port()
    asyncio.run(enrolled(hub_dir, port, folder))

    def applied() -> int:
        return int(rows(hub_dir, "SELECT count(*) FROM lock_crossing")[0][0])

    hub = children.start(lambda: hub_program(hub_dir, port))
    gateway = children.start(lambda: gateway_program(folder, answered))
    for share in (4, 12):
        wait_for(lambda share=share: answered_until(answered) >= share)  # type: ignore[misc]
        children.kill(gateway)
        gateway = children.start(lambda: gateway_program(folder, answered))
    for share in (16, 26):
        wait_for(lambda share=share: applied() >= share)  # type: ignore[misc]
        children.kill(hub)
        hub = children.start(lambda: hub_program(hub_dir, port))
    wait_for(lambda: answered_until(answered) >= 30)
    children.kill(gateway)
    children.kill(hub)
    children.start(lambda: hub_program(hub_dir, port))
    children.start(lambda: gateway_program(folder, answered))
    wait_for(lambda: answered_until(answered) == MESSAGES and applied() >= MESSAGES)

    crossed = rows(hub_dir, "SELECT sequence, verdict FROM lock_crossing ORDER BY id")
    assert crossed == [(number, "applied") for number in range(1, MESSAGES + 1)]
    stored = rows(hub_dir, "SELECT id, version FROM fhir_resource WHERE id LIKE 'lab-%'")
    assert sorted(stored) == sorted((f"lab-{number}", 1) for number in range(1, MESSAGES + 1)), "each, and once"
    audited = rows(hub_dir, "SELECT body FROM event WHERE kind = 'lock_crossed' ORDER BY seq")
    assert [json.loads(body)["sequence"] for (body,) in audited] == list(range(1, MESSAGES + 1))
    connections = rows(hub_dir, "SELECT connection FROM gateway")[0][0]
    assert connections >= 3, "it came back"
