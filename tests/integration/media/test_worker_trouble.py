"""A machine that has no process, memory or descriptor for another worker just now."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from media.aio.pool import WorkerPool
from media.aio.spare import WorkerSettings
from media.aio.spawner import Spawner
from media.aio.supervisor import Supervisor
from media.core.control import MediaError, MediaErrorCode
from media.core.placement import LoadLimits

SETTINGS = WorkerSettings(bind="127.0.0.1", first_pause_s=0.01, longest_pause_s=0.05, standby_after_s=600.0)


async def restarted() -> None:
    pass


def fail_first(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, times: int, code: int) -> list[int]:
    """The next calls of this function fail as the system makes them fail; then they work again."""
    real, left = getattr(owner, name), [times]

    async def call(*arguments: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(code, "refused by the system")
        return await real(*arguments, **options)

    monkeypatch.setattr(owner, name, call)
    return left


@pytest.mark.parametrize(
    ("owner", "name", "code"), [(Spawner, "start", errno.EAGAIN), (asyncio, "start_unix_server", errno.EMFILE)]
)
async def test_a_worker_the_machine_cannot_start_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, code: int
) -> None:
    """The first start says so as a ``MediaError``; the keeper outlives two more failures."""
    left = fail_first(monkeypatch, owner, name, 3, code)
    worker = Supervisor(SETTINGS, lambda note: None, restarted)
    try:
        with pytest.raises(MediaError) as gone:
            await worker.start()
        assert gone.value.code is MediaErrorCode.WORKER_GONE
        worker.keep()
        await worker.wait_up(60)
        assert left == [0]
    finally:
        await worker.stop()


async def test_further_workers_the_machine_cannot_start_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WorkerPool(SETTINGS, 2, LoadLimits(), lambda i, note: None, lambda i: None, lambda i: restarted())
    try:
        await pool.workers[0].start()
        fail_first(monkeypatch, Spawner, "start", 2, errno.ENOMEM)
        await pool._start_others()
        await pool.wait_up(60, 1)
    finally:
        await pool.stop()


@pytest.mark.parametrize("refused", [False, True])
async def test_a_process_is_waited_for_also_where_there_are_no_process_descriptors(
    monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """Before Linux 5.3, and in containers that do not allow ``pidfd_open``."""

    def not_allowed(pid: int) -> int:
        raise OSError(errno.EPERM, "refused by the system")

    if refused:
        monkeypatch.setattr(os, "pidfd_open", not_allowed)
    spawner = Spawner()
    async with asyncio.timeout(60):
        assert await (await spawner.start(["sh", "-c", "exit 7"])).wait() == 7
        slow = await spawner.start(["sleep", "1000"])
        assert slow.returncode is None
        slow.kill()
        assert await slow.wait() == -signal.SIGKILL == slow.returncode
        slow.kill()  # has ended: nobody minds


async def test_a_start_that_is_given_up_leaves_no_process() -> None:
    spawner = Spawner()
    starting = asyncio.create_task(spawner.start(["sleep", "1000.25"]))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    children = [pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]
    assert not [pid for pid in children if b"1000.25" in Path(f"/proc/{pid}/cmdline").read_bytes()]
