"""A machine that has no process, memory or descriptor for another worker just now."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from media.aio.pool import WorkerPool
from media.aio.spare import WorkerSettings
from media.aio.supervisor import Supervisor
from media.core.control import MediaError, MediaErrorCode
from media.core.placement import LoadLimits

SETTINGS = WorkerSettings(bind="127.0.0.1", first_pause_s=0.01, longest_pause_s=0.05, standby_after_s=600.0)


async def restarted() -> None:
    pass


def fail_first(monkeypatch: pytest.MonkeyPatch, name: str, times: int, code: int) -> list[int]:
    """The next calls of this function of asyncio fail as the system makes them fail; then they work again."""
    real, left = getattr(asyncio, name), [times]

    async def call(*arguments: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(code, "refused by the system")
        return await real(*arguments, **options)

    monkeypatch.setattr(asyncio, name, call)
    return left


@pytest.mark.parametrize(
    ("name", "code"), [("create_subprocess_exec", errno.EAGAIN), ("start_unix_server", errno.EMFILE)]
)
async def test_a_worker_the_machine_cannot_start_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    """The first start says so as a ``MediaError``; the keeper outlives two more failures."""
    left = fail_first(monkeypatch, name, 3, code)
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
        fail_first(monkeypatch, "create_subprocess_exec", 2, errno.ENOMEM)
        await pool._start_others()
        await pool.wait_up(60, 1)
    finally:
        await pool.stop()
