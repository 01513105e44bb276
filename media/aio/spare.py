"""Start worker processes, and keep one loaded in reserve.

Most of a worker's start is importing (about a second of a core), so once the workers of a machine run another one
stands by: loaded, connected, without a port. Whichever dies first gets it within milliseconds; the next spare is
loaded then. One serves all workers of a machine, since it costs some 85 MB and two rarely die within the same
seconds; when they do, the second is loaded while it is waited for.

The control sockets and the sockets between workers live in one directory of mode 0700, which is the only
authentication they need. Restarting what died is ``media.aio.supervisor``.
"""

import asyncio
import contextlib
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from media.aio.clock import clock_anchor_ns
from media.aio.spawner import Child, Spawner
from media.core.control import MediaError, MediaErrorCode
from media.core.ortc_transport import PROTOCOLS, Protocol

log = logging.getLogger(__name__)


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
    forward: Literal["auto", "c", "python"] | None = None
    """How packets are sent on (``media.aio.fanout``); None: as the environment says."""
    ready_timeout_s: float = 15.0
    """Importing the worker takes about 1 s on an idle core."""
    stop_timeout_s: float = 3.0
    """How long a worker may take to end before it is killed."""
    first_pause_s: float = 0.05
    longest_pause_s: float = 5.0
    steady_after_s: float = 10.0
    """A worker that lived this long was healthy: the next is started without a pause."""
    standby_after_s: float = 3.0
    """When a standby is loaded: not while the application itself is starting and needs the cores."""
    first: bool = True
    """Workers ask the kernel for short turns, which come sooner (``media.core.precedence``)."""
    log_level: int = logging.INFO
    """Least level of the worker's own log, on the application's standard error."""


@dataclass(slots=True, eq=False)
class Loaded:
    """A worker that has dialled in and waits for its ``start``."""

    process: Child
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pipe: Path
    """Where other workers reach it."""


class Loader:
    """Owns the directory of sockets, the spare, and every process that nobody has taken yet."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._spare: asyncio.Task[Loaded] | None = None
        self._dropped: list[asyncio.Task[Loaded]] = []
        """Loads whose taker was cancelled."""
        self._loading = False
        self._loads = 0
        self.spawner = Spawner()
        self.anchor_ns = clock_anchor_ns()
        """All workers tell the same time, also after a step of the machine's clock and across a replacement."""

    async def take(self) -> Loaded:
        """A loaded worker: the spare, the one that is loading, or one that is loaded now.

        Raises:
            MediaError: ``worker_gone`` when it ends instead, or takes too long.
        """
        return await self._take_spare() or await self._load()

    def prepare(self) -> None:
        """Load a spare before long, unless there is one."""
        spare = self._spare
        if spare is not None and not (spare.done() and not _usable(spare)):
            return
        self._spare = asyncio.create_task(self._load_later(), name="media-spare")

    @property
    def spare_ready(self) -> bool:
        """One waits that could take over now."""
        return self._spare is not None and self._spare.done() and _usable(self._spare)

    async def stop(self) -> None:
        """End the spare and remove the directory; idempotent."""
        spares = [*self._dropped, *([self._spare] if self._spare is not None else [])]
        self._spare, self._dropped = None, []
        for spare in spares:
            spare.cancel()
            await asyncio.wait({spare})
            if not spare.cancelled() and spare.exception() is None:
                loaded = spare.result()
                loaded.writer.close()
                await end_process(loaded.process, self._settings.stop_timeout_s)
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    async def _take_spare(self) -> Loaded | None:
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        if not self._loading:
            spare.cancel()
        try:
            await asyncio.wait({spare})
        except asyncio.CancelledError:
            self._dropped.append(spare)
            raise
        return spare.result() if _usable(spare) else None

    async def _load_later(self) -> Loaded:
        self._loading = False
        await asyncio.sleep(self._settings.standby_after_s)
        self._loading = True
        return await self._load()

    async def _load(self) -> Loaded:
        """Start a process and wait until it has dialled in.

        Raises:
            MediaError: it ended or was too slow, or the machine has no process, memory or descriptor for it now.
        """
        try:
            return await self._start_process()
        except TimeoutError:
            raise MediaError(MediaErrorCode.WORKER_GONE, "the media worker did not load in time") from None
        except OSError as error:
            text = f"the media worker cannot be started: {error.strerror or error}"
            raise MediaError(MediaErrorCode.WORKER_GONE, text) from error

    async def _start_process(self) -> Loaded:
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="consilium-media-")
        self._loads += 1
        path = Path(self._directory.name) / f"control-{self._loads}"
        pipe = path.with_name(f"pipe-{self._loads}")
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
            process = await self.spawner.start(self._command(path, pipe))
            async with asyncio.timeout(self._settings.ready_timeout_s):
                reader, writer = await _first(accepted, process)
        except BaseException:
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
            raise
        finally:
            server.close()
            path.unlink(missing_ok=True)
        return Loaded(process, reader, writer, pipe)

    def _command(self, path: Path, pipe: Path) -> list[str]:
        command = [sys.executable, "-m", "media.aio.worker", "--control", str(path), "--pipe", str(pipe)]
        command += ["--standby", "--bind", self._settings.bind, "--log-level", str(self._settings.log_level)]
        command += ["--clock-anchor", str(self.anchor_ns)]
        for address in self._settings.addresses:
            command += ["--address", address]
        for protocol in self._settings.protocols:
            command += ["--protocol", protocol]
        if self._settings.forward is not None:
            command += ["--forward", self._settings.forward]
        if self._settings.first:
            command.append("--first")
        return command


async def end_process(process: Child, timeout_s: float) -> None:
    """Wait for a worker whose control connection is closed: it ends by itself, or is killed."""
    if process.returncode is not None:
        return
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
    except TimeoutError:
        log.error("media worker had to be killed", extra={"pid": process.pid})
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _usable(spare: "asyncio.Task[Loaded]") -> bool:
    if spare.cancelled() or spare.exception() is not None:
        return False
    loaded = spare.result()
    if loaded.process.returncode is None:
        return True
    loaded.writer.close()
    return False


async def _first(
    accepted: "asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]",
    process: Child,
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
