"""A real worker process under a real supervisor."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest_asyncio

from media.aio.client import WorkerClient
from media.aio.supervisor import Supervisor, WorkerSettings
from media.core.control import AnyNotification


@dataclass
class RunningWorker:
    supervisor: Supervisor
    notifications: list[AnyNotification] = field(default_factory=list)

    @property
    def client(self) -> WorkerClient:
        return self.supervisor.client


@pytest_asyncio.fixture
async def worker() -> AsyncIterator[RunningWorker]:
    async def restarted() -> None:
        pass

    notifications: list[AnyNotification] = []
    supervisor = Supervisor(WorkerSettings(bind="127.0.0.1"), notifications.append, restarted)
    await supervisor.start()
    try:
        yield RunningWorker(supervisor, notifications)
    finally:
        await supervisor.stop()
