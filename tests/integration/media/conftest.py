"""A real worker process under a real supervisor.

Starting one costs two seconds, so the tests of a module share it; each opens a Router of its own and
reads counters as differences.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest_asyncio

from media.aio.client import WorkerClient
from media.aio.supervisor import Supervisor, WorkerSettings
from media.core.control import AnyNotification
from tests.integration.media.inside import Direct
from tests.integration.media.peer import WAIT_S


@dataclass
class RunningWorker:
    supervisor: Supervisor
    notifications: list[AnyNotification] = field(default_factory=list)

    _before: dict[str, int] = field(default_factory=dict)

    @property
    def client(self) -> WorkerClient:
        return self.supervisor.client

    async def begin(self) -> None:
        """A new test: count and listen from here."""
        self.notifications.clear()
        self._before = await self.client.stats()

    async def count(self, name: str) -> int:
        """How often something was counted in this test."""
        return (await self.client.stats()).get(name, 0) - self._before.get(name, 0)

    async def until_count(self, name: str, least: int) -> None:
        """Wait until something was counted so often."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_S
        while (seen := await self.count(name)) < least:
            assert loop.time() < deadline, f"{name} is {seen}, not {least}"
            await asyncio.sleep(0.002)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_worker() -> AsyncIterator[RunningWorker]:
    async def restarted() -> None:
        pass

    notifications: list[AnyNotification] = []
    supervisor = Supervisor(WorkerSettings(bind="127.0.0.1"), notifications.append, restarted)
    await supervisor.start()
    try:
        yield RunningWorker(supervisor, notifications)
    finally:
        await supervisor.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def worker(shared_worker: RunningWorker) -> RunningWorker:
    await shared_worker.begin()
    return shared_worker


@pytest_asyncio.fixture
async def direct() -> AsyncIterator[Direct]:
    inside = Direct()
    inside.relay.open_router("r")
    yield inside
    await inside.relay.close()
