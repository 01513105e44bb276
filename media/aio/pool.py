"""All media workers of this machine: one supervisor each, one spare for all, and where there is room.

Worker ``i`` has the port ``port + i``, so that a firewall rule can name the range; with port 0 each has any. The
first must come up before anything is served; the others follow in the background, and one that cannot start (out of
memory, its port taken meanwhile) tries again by itself and takes nobody down.

Which consult is where is ``server.media_plane``'s business, what load means ``media.core.placement``'s.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from media.aio.client import WorkerClient
from media.aio.spare import Loader, WorkerSettings
from media.aio.supervisor import Supervisor
from media.core import control
from media.core.control import MediaError, MediaErrorCode
from media.core.placement import LoadLimits, WorkerLoad, least_busy

log = logging.getLogger(__name__)

RENEW_WITHIN_S = 4 * 3600.0
"""A worker's turn in a renewal of all: longer than most consults last. Meanwhile it gets no new ones; where one goes on
day and night, that must not be so for ever, nor may it keep the other workers from being renewed."""
RENEW_PAUSE_S = 5.0
"""Before the next turn: a worker that cannot be replaced must not keep the machine busy with trying."""
RENEW_REMIND_EVERY_S = 300.0
"""How often the log says what a renewal waits for."""
NAMED = 5
"""Consults named there."""


class WorkerPool:
    """Owns the supervisors and the spare.

    Args:
        settings: of the first worker; the others differ in the port.
        count: how many workers, at least 1.
        on_notification: worker and what it says; must not block.
        on_death: a worker is gone; must not block.
        on_restart: a worker is back, empty.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        count: int,
        limits: LoadLimits,
        on_notification: Callable[[int, control.AnyNotification], None],
        on_death: Callable[[int], None],
        on_restart: Callable[[int], Awaitable[None]],
    ) -> None:
        self._on_notification = on_notification
        self._on_death = on_death
        self._loader = Loader(settings)
        self.workers = [
            Supervisor(
                replace(settings, port=settings.port + index if settings.port else 0),
                partial(self._notified, index),
                partial(on_restart, index),
                partial(self._died, index),
                self._loader,
            )
            for index in range(count)
        ]
        self.loads = {index: WorkerLoad(limits) for index in range(count)}
        self._placed: list[set[str]] = [set() for _ in range(count)]
        """Consults on each worker by id: whoever takes one off twice, or after the worker's death, changes nothing."""
        self._empty = [asyncio.Event() for _ in range(count)]
        """Set while a worker has no consult."""
        for empty in self._empty:
            empty.set()
        self.draining: set[int] = set()
        """Workers that get no new consult."""
        self._starting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the first worker, then, in the background, the others.

        Raises:
            MediaError: the first does not come up; `PortTaken` names its port.
        """
        try:
            await self.workers[0].start()
        except BaseException:
            await self._loader.stop()
            raise
        if len(self.workers) > 1:
            self._starting = asyncio.create_task(self._start_others(), name="media-pool")

    async def started(self) -> None:
        """Wait until each worker has been tried once."""
        if self._starting is not None:
            await asyncio.shield(self._starting)

    async def stop(self) -> None:
        """End all of them; idempotent."""
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        await self._loader.stop()

    @property
    def spawner_thread(self) -> int:
        """Kernel's id of the thread that starts workers: they inherit how it stands with the kernel."""
        return self._loader.spawner.thread

    @property
    def clock_anchor_ns(self) -> int:
        """What makes the workers' time of the monotonic clock."""
        return self._loader.anchor_ns

    @property
    def up(self) -> list[int]:
        """Workers that are there."""
        return [index for index, worker in enumerate(self.workers) if worker.up]

    def client(self, index: int) -> WorkerClient:
        """The live connection to a worker.

        Raises:
            MediaError: ``worker_gone`` while there is none.
        """
        return self.workers[index].client

    async def wait_up(self, timeout_s: float, only: int | None = None) -> None:
        """Wait until some worker is there, or the one named.

        Raises:
            MediaError: ``worker_gone`` when none came in time.
        """
        wanted = self.workers if only is None else [self.workers[only]]
        if any(worker.up for worker in wanted):
            return
        waiting = [asyncio.create_task(worker.wait_up(timeout_s)) for worker in wanted]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if not any(worker.up for worker in wanted):
            raise MediaError(MediaErrorCode.WORKER_GONE, "no media worker came back in time")

    def busy(self, index: int) -> float:
        """Share of a core in use or promised."""
        return self.loads[index].busy(_now_ms())

    # ------------------------------------------------------------- placing

    def choose(self, *, urgent: bool = False) -> int | None:
        """The worker for another consult; None when all are full.

        Args:
            urgent: its people are already here (their worker has died): up to the higher limit, and
                beyond it rather than not at all.
        """
        now_ms = _now_ms()
        up = self.up
        # While all are to be renewed the emptiest of them serves on: a renewal may wait, people who call may not.
        open_ones = [index for index in up if index not in self.draining] or up
        roomy = [index for index in open_ones if self.loads[index].takes_consult(now_ms)]
        best = least_busy(self.loads, roomy, now_ms)
        if best is None and urgent:
            best = least_busy(self.loads, open_ones, now_ms)
        return best

    def admits(self, index: int) -> bool:
        """Whether another participant of a consult on this worker may join it there."""
        return self.loads[index].takes_participant(_now_ms())

    def placed(self, index: int, consult: str) -> None:
        """A consult went there."""
        self._placed[index].add(consult)
        self._count(index)
        self.loads[index].charge(self.loads[index].consult_cost, _now_ms())

    def removed(self, index: int, consult: str) -> None:
        """A consult left it; idempotent."""
        self._placed[index].discard(consult)
        self._count(index)

    def joined(self, index: int) -> None:
        """A participant went there."""
        self.loads[index].charge(self.loads[index].participant_cost, _now_ms())

    async def renew(
        self, index: int, within_s: float = RENEW_WITHIN_S, remind_every_s: float = RENEW_REMIND_EVERY_S
    ) -> None:
        """Replace a worker once its last consult has ended; new ones go to the other workers meanwhile, if any is up.

        Raises:
            MediaError: ``timeout`` when consults were there all the time; the worker serves on.
        """
        self.draining.add(index)
        try:
            async with asyncio.timeout(within_s):
                await self._wait_empty(index, remind_every_s)
            await self.workers[index].replace()
        except TimeoutError:
            text = f"worker {index} not replaced: {len(self._placed[index])} consults there"
            raise MediaError(MediaErrorCode.TIMEOUT, text) from None
        finally:
            self.draining.discard(index)

    async def renew_all(self, turn_s: float = RENEW_WITHIN_S) -> None:
        """Replace every worker, one after another; returns when all are new.

        One whose consults go on for longer than its turn makes way for the others and comes round again.
        """
        waiting = deque(range(len(self.workers)))
        while waiting:
            index = waiting.popleft()
            try:
                await self.renew(index, turn_s)
            except MediaError as problem:
                log.warning("media worker not renewed yet", extra={"worker": index, "reason": problem.text})
                waiting.append(index)
                await asyncio.sleep(RENEW_PAUSE_S)

    async def _wait_empty(self, index: int, remind_every_s: float) -> None:
        empty = self._empty[index]
        while not empty.is_set():
            there = sorted(self._placed[index])
            extra = {"worker": index, "consults": len(there), "first": there[:NAMED]}
            log.info("media worker is renewed when its consults have ended", extra=extra)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remind_every_s):
                    await empty.wait()

    # ------------------------------------------------------------- news

    async def _start_others(self) -> None:
        for worker in self.workers[1:]:
            try:
                await worker.start()
            except MediaError as error:
                log.error("media worker did not start", extra={"port": worker.port, "reason": error.text})
                worker.keep()

    def _notified(self, index: int, note: control.AnyNotification) -> None:
        if isinstance(note, control.Load):
            self.loads[index].report(note, _now_ms())
        self._on_notification(index, note)

    def _died(self, index: int) -> None:
        self.loads[index].reset()
        self._placed[index].clear()
        self._count(index)
        self._on_death(index)

    def _count(self, index: int) -> None:
        self.loads[index].consults = len(self._placed[index])
        if self._placed[index]:
            self._empty[index].clear()
        else:
            self._empty[index].set()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
