"""Keep one media worker process alive.

The supervisor listens on a Unix socket in a directory of its own (mode 0700), starts
``python -m media.aio.worker`` and waits until the worker has dialled in and said ``ready``. When
the worker dies it is started again, after a pause that doubles with every quick death, on
the same UDP port, and ``on_restart`` is called: everything in the worker is gone (DTLS keys do
not outlive it), so signalling tells all clients to make their Transports again.

Most of a start is importing, so once a worker has run for a while another one stands by, loaded but
without a port; it takes over within milliseconds.

What the worker does is ``media.aio.worker``; calls to it go through ``client``.
"""

import asyncio
import contextlib
import logging
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from media.aio.client import NotificationCallback, WorkerClient
from media.core import control
from media.core.control import MediaError, MediaErrorCode
from media.core.ortc_transport import PROTOCOLS, Protocol

log = logging.getLogger(__name__)

SILENT_LIMIT = 2
"""Questions without an answer (5 s each) after which a worker is taken for hung."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """How to start the worker."""

    addresses: Sequence[str] = ("127.0.0.1",)
    """Addresses announced as ICE candidates, most preferred first."""
    bind: str = "0.0.0.0"  # noqa: S104 - media must be reachable from other hosts; peers authenticate by ICE and DTLS
    """Address the port is bound to; ``::`` takes IPv4 too."""
    port: int = 0
    """UDP and TCP port; 0 lets the system choose one, which is then kept over restarts."""
    protocols: Sequence[Protocol] = PROTOCOLS
    """What is listened on and announced."""
    ready_timeout_s: float = 15.0
    """Importing the worker takes about 1 s on an idle core."""
    stop_timeout_s: float = 3.0
    """How long a worker may take to end before it is killed."""
    first_pause_s: float = 0.05
    longest_pause_s: float = 5.0
    steady_after_s: float = 10.0
    """A worker that lived this long was healthy: the pause starts small again."""
    standby_after_s: float = 3.0
    """When a standby is loaded: not while the application itself is starting and needs the cores."""
    log_level: int = logging.INFO
    """Least level of the worker's own log, on the application's standard error."""
    ask_every_s: float = 2.0
    """How often the worker must show that its event loop turns."""


@dataclass(slots=True, eq=False)
class Loaded:
    """A worker that has dialled in and waits for its ``start``."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Supervisor:
    """Owns the worker process and its control connection."""

    def __init__(
        self,
        settings: WorkerSettings,
        on_notification: NotificationCallback,
        on_restart: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._on_notification = on_notification
        self._on_restart = on_restart
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._client: WorkerClient | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._standby: asyncio.Task[Loaded] | None = None
        self._standby_loading = False
        self._loads = 0
        self._up = asyncio.Event()
        self.port = settings.port
        """UDP port in use; known after ``start``."""
        self.restarts = 0

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

    async def start(self) -> None:
        """Start the first worker and keep one running.

        Raises:
            MediaError: ``worker_gone`` when it does not come up (for instance: port in use).
        """
        self._directory = tempfile.TemporaryDirectory(prefix="consilium-media-")
        try:
            await self._spawn()
        except BaseException:
            await self.stop()
            raise
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

    async def stop(self) -> None:
        """End the worker and its keeper; idempotent."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        if self._standby is not None:
            self._standby.cancel()
            await asyncio.wait({self._standby})
            if not self._standby.cancelled() and self._standby.exception() is None:
                await self._end(self._standby.result())
            self._standby = None
        await self._end_worker()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    async def _keep(self) -> None:
        pause_s = self._settings.first_pause_s
        while True:
            assert self._client is not None
            began = time.monotonic()
            await self._watch(self._client)
            self._up.clear()
            log.error("media worker died", extra={"pid": self.pid, "restarts": self.restarts})
            if time.monotonic() - began > self._settings.steady_after_s:
                pause_s = self._settings.first_pause_s
            while True:
                await self._end_worker()
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self._settings.longest_pause_s)
                try:
                    await self._spawn()
                    break
                except MediaError as error:
                    log.error("media worker did not start", extra={"reason": error.text})
            self.restarts += 1
            try:
                await self._on_restart()
            except Exception:  # the listener's bug must not leave the next death unattended
                log.exception("restart listener failed")

    async def _watch(self, client: WorkerClient) -> None:
        """Return when the worker is gone; one that no longer answers is killed."""
        silent = 0
        while not client.closed.is_set():
            try:
                async with asyncio.timeout(self._settings.ask_every_s):
                    await client.closed.wait()
            except TimeoutError:
                try:
                    await client.stats()
                    silent = 0
                except MediaError:
                    silent += 1
                if silent == SILENT_LIMIT and self._process is not None and self._process.returncode is None:
                    log.error("media worker does not answer", extra={"pid": self.pid})
                    self._process.kill()

    async def _spawn(self) -> None:
        """Start a worker, the one in standby if there is one.

        Raises:
            MediaError: it did not become ready; nothing is left running.
        """
        loaded = await self._take_standby() or await self._load()
        self._process = loaded.process
        try:
            async with asyncio.timeout(self._settings.ready_timeout_s):
                await self._greet(loaded)
        except TimeoutError:
            await self._end_worker()
            raise MediaError(MediaErrorCode.WORKER_GONE, "the media worker was not ready in time") from None
        except MediaError:
            await self._end_worker()
            raise
        self._standby = asyncio.create_task(self._load_later(), name="media-standby")

    async def _take_standby(self) -> Loaded | None:
        """The loaded worker, waiting for one that is loading; None when there is none."""
        standby = self._standby
        if standby is None:
            return None
        if not self._standby_loading:
            standby.cancel()
        await asyncio.wait({standby})
        self._standby = None
        if standby.cancelled() or standby.exception() is not None:
            return None
        loaded = standby.result()
        if loaded.process.returncode is not None:
            loaded.writer.close()
            return None
        return loaded

    async def _load_later(self) -> Loaded:
        self._standby_loading = False
        await asyncio.sleep(self._settings.standby_after_s)
        self._standby_loading = True
        return await self._load()

    async def _load(self) -> Loaded:
        """Start a process and wait until it has dialled in.

        Raises:
            MediaError: it ended or was too slow.
        """
        assert self._directory is not None
        self._loads += 1
        path = Path(self._directory.name) / f"control-{self._loads}"
        accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        accepted = asyncio.get_running_loop().create_future()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if accepted.done():
                writer.close()
            else:
                accepted.set_result((reader, writer))

        server = await asyncio.start_unix_server(connected, path)
        process = None
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(path),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the application's: it ends the worker in its own order
            )
            async with asyncio.timeout(self._settings.ready_timeout_s):
                reader, writer = await self._first(accepted, process)
        except BaseException as error:
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
            if isinstance(error, TimeoutError):
                raise MediaError(MediaErrorCode.WORKER_GONE, "the media worker did not load in time") from None
            raise
        finally:
            server.close()
            path.unlink(missing_ok=True)
        return Loaded(process, reader, writer)

    def _command(self, path: Path) -> list[str]:
        command = [sys.executable, "-m", "media.aio.worker", "--control", str(path)]
        command += ["--standby", "--bind", self._settings.bind, "--log-level", str(self._settings.log_level)]
        for address in self._settings.addresses:
            command += ["--address", address]
        for protocol in self._settings.protocols:
            command += ["--protocol", protocol]
        return command

    @staticmethod
    async def _first(
        accepted: "asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]",
        process: asyncio.subprocess.Process,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The worker's connection, or the news that it ended instead."""
        ended = asyncio.create_task(process.wait())
        try:
            either: set[asyncio.Future[Any]] = {accepted, ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        if accepted.done():
            return accepted.result()
        raise MediaError(MediaErrorCode.WORKER_GONE, f"the media worker ended with code {process.returncode}")

    async def _greet(self, loaded: Loaded) -> None:
        """Tell a loaded worker to start and wait until it is ready."""
        ready: asyncio.Future[control.WorkerReady] = asyncio.get_running_loop().create_future()

        def notified(notification: control.AnyNotification) -> None:
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
            raise MediaError(MediaErrorCode.WORKER_GONE, f"the media worker ended with code {code}")
        self.port = ready.result().port
        self._up.set()
        log.info("media worker ready", extra={"pid": self.pid, "port": self.port})

    async def _end_worker(self) -> None:
        self._up.clear()
        if self._client is not None:
            await self._client.close()
            self._client = None
        process, self._process = self._process, None
        if process is not None:
            await self._end_process(process)

    async def _end(self, loaded: Loaded) -> None:
        loaded.writer.close()
        await self._end_process(loaded.process)

    async def _end_process(self, process: asyncio.subprocess.Process) -> None:
        """Wait for a worker whose control connection is closed: it ends by itself, or is killed."""
        if process.returncode is not None:
            return
        try:
            async with asyncio.timeout(self._settings.stop_timeout_s):
                await process.wait()
        except TimeoutError:
            log.error("media worker had to be killed", extra={"pid": process.pid})
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
