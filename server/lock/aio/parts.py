"""The hub's parts of the lock, put together, and the small tasks that outlive a request."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.clock import NowMs
from server.enrol.aio.codes import EnrolmentCodes
from server.lock.aio.admission import Admission
from server.lock.aio.applying import ApplyBundle, Applying
from server.lock.aio.desk import LockDesk
from server.lock.aio.gateways import Gateways
from server.lock.aio.inbox import Inbox
from server.lock.core.proof import public_bytes
from server.storage.database import Database

log = structlog.get_logger(__name__)

FOLDER = "lock"
"""Of files that crossed, in the data folder."""
LATER = 1_000


class LockParts:
    """What the routes of the lock need.

    Args:
        hub_key: public half of the hub's lock key.
    """

    def __init__(self, desk: LockDesk, gateways: Gateways, codes: EnrolmentCodes, hub_key: bytes) -> None:
        self.desk, self.gateways, self.codes, self.hub_key = desk, gateways, codes, hub_key
        self._tasks: set[asyncio.Task[None]] = set()

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Write something down after the answer has left; beyond ``LATER`` at once it is left out and counted."""
        if len(self._tasks) >= LATER:
            work.close()
            log.warning("outcome of a question not written down")
            return
        task = asyncio.create_task(work, name="lock-later")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("outcome of a question not written down", exc_info=problem)

    async def stop(self) -> None:
        """End connections, finish what is to be written down; idempotent."""
        await self.desk.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def build_lock(
    database: Database,
    key: Ed25519PrivateKey,
    origins: frozenset[str],
    apply_bundle: ApplyBundle,
    data_dir: Path,
    now_ms: NowMs,
    now_us: Callable[[], int],
) -> LockParts:
    """The lock of one hub process."""
    codes = EnrolmentCodes(database, now_ms)
    inbox = Inbox(database, Applying(apply_bundle, data_dir / FOLDER), now_us)
    desk = LockDesk(database, Admission(database, key, origins, now_us), inbox, now_us)
    return LockParts(desk, Gateways(database, codes, now_ms), codes, public_bytes(key))
