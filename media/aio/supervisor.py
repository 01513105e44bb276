"""Keep one media worker process alive.

The supervisor takes a loaded worker from ``spare``, tells it its port and waits until it has said ``ready``. When
the worker dies, which its control connection tells at once, ``on_death`` is called and it is started again
on the same port: immediately when it had lived for a while, else after a pause that doubles with every
quick death. Then ``on_restart`` is called: everything in the worker is gone (DTLS keys do not outlive
it), so signalling tells all clients to make their Transports again.

Several workers are a ``pool``; what one does is ``media.aio.worker``; calls to it go through ``client``.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from media.aio.client import NotificationCallback, WorkerClient
from media.aio.spare import Loaded, Loader, WorkerSettings, end_process
from media.aio.spawner import Child
from media.core import control
from media.core.control import MediaError, MediaErrorCode
from media.core.heartbeat import LOOK_S, Heartbeat, Vitals

log = logging.getLogger(__name__)

_TICKS = os.sysconf("SC_CLK_TCK")


class PortTaken(MediaError):
    """The worker cannot have its port: another program uses it, or it is not this machine's to use."""

    def __init__(self, port: int, bind: str) -> None:
        super().__init__(MediaErrorCode.WORKER_GONE, f"media port {port} on {bind} cannot be used")
        self.port = port


EXIT_PORT = 3
"""Exit code of a worker that could not have its port."""

__all__ = ["PortTaken", "Supervisor", "WorkerSettings"]


def _nothing() -> None:
    pass


class Supervisor:
    """Owns the worker process and its control connection.

    Args:
        on_notification: what the worker says unasked; must not block.
        on_restart: another worker has taken over, empty.
        on_death: the worker is gone, and nothing has been done about it yet; must not block.
        loader: where workers come from; one of its own when not given.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        on_notification: NotificationCallback,
        on_restart: Callable[[], Awaitable[None]],
        on_death: Callable[[], None] = _nothing,
        loader: Loader | None = None,
    ) -> None:
        self._settings = settings
        self._on_notification = on_notification
        self._on_restart = on_restart
        self._on_death = on_death
        self._owns_loader = loader is None
        self._loader = loader if loader is not None else Loader(settings)
        self._process: Child | None = None
        self._client: WorkerClient | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._heard = False
        """The worker has said something since it was last looked after."""
        self._retiring = False
        self.pipe: Path | None = None
        """Where other workers reach the present one."""
        self.port = settings.port
        """UDP port in use; known after ``start``."""
        self.restarts = 0
        self.turn_us = 0
        """Length of the turns that the kernel grants the present worker; 0 where it has one for all."""

    @property
    def client(self) -> WorkerClient:
        """The live connection.

        Raises:
            MediaError: ``worker_gone`` while there is none.
        """
        if self._client is None or self._client.closed.is_set():
            raise MediaError(MediaErrorCode.WORKER_GONE, "the media worker is being restarted")
        return self._client

    @property
    def pid(self) -> int | None:
        """Process id of the present worker."""
        return None if self._process is None else self._process.pid

    @property
    def up(self) -> bool:
        """A worker is there and ready."""
        return self._up.is_set() and self._client is not None and not self._client.closed.is_set()

    async def start(self) -> None:
        """Start the first worker and keep one running.

        Raises:
            MediaError: ``worker_gone`` when it does not come up; `PortTaken` when that is for its port.
        """
        try:
            await self._spawn()
        except BaseException:
            await self.stop()
            raise
        self.keep()

    def keep(self) -> None:
        """Keep a worker running from now on, whether the first one could be started or not."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="media-supervisor")

    async def wait_up(self, timeout_s: float) -> WorkerClient:
        """The live connection, waiting through a restart.

        Raises:
            MediaError: ``worker_gone`` when none came in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            raise MediaError(MediaErrorCode.WORKER_GONE, "the media worker did not come back") from None
        return self.client

    async def replace(self) -> None:
        """End the worker on purpose; another one takes over as after a death. Returns when it has."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._retiring = True
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        async with asyncio.timeout(self._settings.ready_timeout_s):
            while self._process is None or self._process is process or not self._up.is_set():
                self._up.clear()
                await self._up.wait()

    async def stop(self) -> None:
        """End the worker and its keeper; idempotent."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        if self._owns_loader:
            await self._loader.stop()
        await self._end_worker()

    async def _keep(self) -> None:
        pause_s = 0.0
        while True:
            if self._client is not None:
                began = time.monotonic()
                await self._watch(self._client)
                self._tell_death()
                if time.monotonic() - began > self._settings.steady_after_s:
                    pause_s = 0.0
            await self._end_worker()
            await asyncio.sleep(pause_s)
            pause_s = min(max(2 * pause_s, self._settings.first_pause_s), self._settings.longest_pause_s)
            try:
                await self._spawn()
            except MediaError as error:
                log.error("media worker did not start", extra={"reason": error.text})
                continue
            self.restarts += 1
            try:
                await self._on_restart()
            except Exception:  # the listener's bug must not leave the next death unattended
                log.exception("restart listener failed")

    def _tell_death(self) -> None:
        self._up.clear()
        level = logging.INFO if self._retiring else logging.ERROR
        self._retiring = False
        log.log(level, "media worker ended", extra={"pid": self.pid, "restarts": self.restarts})
        try:
            self._on_death()
        except Exception:  # as above
            log.exception("death listener failed")

    async def _watch(self, client: WorkerClient) -> None:
        """Return when the worker is gone; one whose loop does not turn any more is killed."""
        heartbeat = Heartbeat(time.monotonic())
        while not client.closed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await client.closed.wait()
            process, heard = self._process, self._heard
            self._heard = False
            if process is None or process.returncode is not None:
                continue
            vitals = None if heard else read_vitals(process.pid)
            if heartbeat.look(time.monotonic(), heard, vitals):
                log.error("media worker hangs", extra={"pid": process.pid, "state": vitals.state if vitals else "?"})
                process.kill()
                await client.closed.wait()

    async def _spawn(self) -> None:
        """Start a worker.

        Raises:
            MediaError: it did not become ready; nothing is left running.
        """
        loaded = await self._loader.take()
        self._process, self.pipe = loaded.process, loaded.pipe
        try:
            async with asyncio.timeout(self._settings.ready_timeout_s):
                await self._greet(loaded)
        except TimeoutError:
            await self._end_worker()
            raise MediaError(MediaErrorCode.WORKER_GONE, "the media worker was not ready in time") from None
        except MediaError:
            await self._end_worker()
            raise
        self._loader.prepare()

    async def _greet(self, loaded: Loaded) -> None:
        """Tell a loaded worker to start and wait until it is ready."""
        ready: asyncio.Future[control.WorkerReady] = asyncio.get_running_loop().create_future()

        def notified(notification: control.AnyNotification) -> None:
            self._heard = True
            if not isinstance(notification, control.WorkerReady):
                self._on_notification(notification)
            elif not ready.done():
                ready.set_result(notification)

        loaded.writer.write(control.build_frame({"call": control.Start(port=self.port).model_dump()}))
        self._client = WorkerClient(loaded.reader, loaded.writer, notified)
        gone = asyncio.create_task(self._client.closed.wait())
        try:
            either: set[asyncio.Future[Any]] = {ready, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        if not ready.done():
            code = None if self._process is None else await self._process.wait()
            if code == EXIT_PORT:
                raise PortTaken(self.port, self._settings.bind)
            raise MediaError(MediaErrorCode.WORKER_GONE, f"the media worker ended with code {code}")
        self.port, self.turn_us = ready.result().port, ready.result().turn_us
        self._up.set()
        log.info("media worker ready", extra={"pid": self.pid, "port": self.port, "turn_us": self.turn_us})

    async def _end_worker(self) -> None:
        self._up.clear()
        if self._client is not None:
            await self._client.close()
            self._client = None
        process, self._process = self._process, None
        if process is not None:
            await end_process(process, self._settings.stop_timeout_s)


def read_vitals(pid: int) -> Vitals | None:
    """State and processor time of a process; None where there is no ``/proc``, or no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # what is before may contain anything
    return Vitals(fields[0], (int(fields[11]) + int(fields[12])) / _TICKS)
