"""The server under test: one that the run starts on loopback, or one that runs already.

Its own is a whole one, as an administrator starts it, on a data folder that is filled before and thrown away after.
Once a second its processes are looked at from outside (CPU, memory, descriptors, threads) and asked by ``/metrics``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import aiohttp
from pydantic import ValidationError

from load_tests.demo_process import Demo, free_port
from load_tests.plan.behaviour import Behaviour
from load_tests.plan.reading import Exit, RunError
from load_tests.report.ledger import Ledger
from load_tests.session.office import HttpRefused, Office
from load_tests.session.world import World, WorldNeeds, lacking

READY_S: Final = 60.0
FILL_S: Final = 900.0
STOP_S: Final = 20.0
SILENT_S: Final = 20.0
"""A server that is not ready for so long has died."""
PAGE_MB: Final = os.sysconf("SC_PAGE_SIZE") / 1e6
TICKS: Final = os.sysconf("SC_CLK_TCK")
METRICS: Final = {
    "consilium_event_loop_lag_seconds": "loop_lag_s",
    "consilium_media_worker_loop_lag_seconds": "worker_lag_s",
    "consilium_media_worker_packets_per_second": "packets",
    "consilium_media_worker_deaths_total": "worker_deaths",
}


class OwnServer:
    """A server of this run."""

    own = True

    def __init__(self, folder: Path, workers: int | None) -> None:
        self.origin = ""
        self.world: World
        self._folder, self._workers = folder, workers
        self._demo: Demo
        self._port, self._metrics_port = free_port(), free_port()
        self._http = aiohttp.ClientSession()
        self._away = False
        """Killed by us, and not back yet."""
        self._cpu: dict[int, float] = {}
        self._sampled_s = time.monotonic()

    async def open(self, needs: WorldNeeds) -> None:
        """Fill a data folder, start.

        Raises:
            RunError: it does not fill or start.
        """
        self.world = await fill(self._folder / "data", needs)
        await self.start()

    async def start(self) -> None:
        """Start the server's process and wait until it takes consults.

        Raises:
            RunError: it ended, or is not ready in time.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CONSILIUM_")} | {
            "PYTHONUNBUFFERED": "1", "CONSILIUM_MEDIA_ADDRESSES": "127.0.0.1", "CONSILIUM_MEDIA_PORT": "0",
            "CONSILIUM_METRICS_PORT": str(self._metrics_port), "CONSILIUM_DRAIN_S": "0",
        }  # fmt: skip
        if self._workers:
            environment["CONSILIUM_MEDIA_WORKERS"] = str(self._workers)
        log = self._folder / "server.log"
        with log.open("ab") as sink:
            process = subprocess.Popen(  # noqa: ASYNC220 - a fork, before anything is measured
                [sys.executable, "-m", "server", "serve", "--port", str(self._port), "--data-dir",
                 str(self._folder / "data")],
                stdout=sink, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            )  # fmt: skip
        self._demo = Demo(f"http://127.0.0.1:{self._port}", process, log, self._folder / "data")
        self.origin = self._demo.url
        deadline = time.monotonic() + READY_S
        while not await is_ready(self._http, self.origin):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RunError(Exit.SERVER, f"The server does not start: {self._last_words()}")
            await asyncio.sleep(0.1)

    @property
    def log(self) -> Path:
        """What the server said."""
        return self._folder / "server.log"

    def kill_worker(self) -> bool:
        """SIGKILL the media worker that serves; False when there is none."""
        pid = self._demo.worker_pid()
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    async def kill_server(self, away_s: float) -> None:
        """SIGKILL the server and all its children, and start it again.

        Raises:
            RunError: it does not start again.
        """
        self._away = True
        self._kill_all()
        await asyncio.sleep(away_s)
        await self.start()
        self._away = False

    async def trouble(self) -> str:
        """Why the run cannot go on, as a sentence; empty while it can."""
        if self._away or self._demo.process.poll() is None:
            return ""
        return f"The server ended by itself with code {self._demo.process.returncode}: {self._last_words()}"

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    async def sample(self) -> dict[str, float]:
        """Processes and gauges."""
        processes = {self._demo.process.pid: "server"}
        for pid, command in self._demo.children().items():
            if "media.aio.worker" in command:
                processes[pid] = "worker"
        found = self._processes(processes)
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            url = f"http://127.0.0.1:{self._metrics_port}/metrics"
            async with self._http.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
                found |= read_metrics(await answer.text())
        return found

    async def close(self) -> None:
        """Stop it as an administrator would; what does not stop is killed."""
        await self._http.close()
        if not hasattr(self, "_demo"):
            return
        process = self._demo.process
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, STOP_S)
        self._kill_all()

    def _kill_all(self) -> None:
        pids = [self._demo.process.pid, *self._demo.children()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._demo.process.wait()

    def _processes(self, processes: Mapping[int, str]) -> dict[str, float]:
        now_s = time.monotonic()
        passed_s, self._sampled_s = max(0.001, now_s - self._sampled_s), now_s
        found: dict[str, float] = {"processes": float(len(processes))}
        cpu: dict[int, float] = {}
        for pid, kind in processes.items():
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                cpu[pid] = (int(stat[11]) + int(stat[12])) / TICKS
                resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MB
                opened = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                share = max(0.0, cpu[pid] - self._cpu.get(pid, cpu[pid])) / passed_s
                for name, value in (("cpu", share), ("rss_mb", resident), ("descriptors", opened)):
                    found[f"{kind}_{name}"] = found.get(f"{kind}_{name}", 0.0) + value
        self._cpu = cpu
        return found


class RunningServer:
    """A server that somebody else started and filled."""

    own = False

    def __init__(self, origin: str, world: World, metrics_url: str) -> None:
        self.origin, self.world = origin, world
        self._metrics_url = metrics_url
        self._answered_s = time.monotonic()
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    async def open(self, needs: WorldNeeds) -> None:
        """Look whether it is there, of our version, and has what the scenario needs.

        Raises:
            RunError: it is not.
        """
        if not await is_ready(self._http, self.origin):
            raise RunError(Exit.SERVER, f"No server is ready at {self.origin}.")
        async with self._http.get(f"{self.origin}/api/config") as answer:
            theirs = (await answer.json(content_type=None) or {}).get("version", "unknown")
        if theirs != version("consilium"):
            raise RunError(Exit.SERVER, f"The server is of version {theirs}, this program of {version('consilium')}.")
        if problem := lacking(self.world, needs):
            raise RunError(Exit.CREDENTIALS, f"The world file does not fit: {problem}.")
        office = Office(self._http, self.origin, self.world.consults[0], Ledger())
        try:
            await office.sign_in(Behaviour(who="doctor"), 0, self.world.password)
            await office.token()
        except HttpRefused as refusal:
            raise RunError(Exit.CREDENTIALS, f"The server does not know the world's accounts: {refusal}.") from None

    async def trouble(self) -> str:
        """Why the run cannot go on, as a sentence; empty while it can."""
        if await is_ready(self._http, self.origin):
            self._answered_s = time.monotonic()
        silent_s = time.monotonic() - self._answered_s
        return f"The server has not answered for {silent_s:.0f} s." if silent_s > SILENT_S else ""

    async def sample(self) -> dict[str, float]:
        """Gauges, where their address was told."""
        if self._metrics_url:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with self._http.get(self._metrics_url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
                    return read_metrics(await answer.text())
        return {}

    async def close(self) -> None:
        """Forget it."""
        await self._http.close()


async def fill(data_dir: Path, needs: WorldNeeds) -> World:
    """A data folder with the world that a scenario needs.

    Raises:
        RunError: it could not be filled.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load_tests.run.world_process", "--data-dir", str(data_dir),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("CONSILIUM_")},
    )  # fmt: skip
    try:
        async with asyncio.timeout(FILL_S):
            out, errors = await process.communicate(needs.model_dump_json().encode())
        return World.model_validate_json(out)
    except (ValidationError, TimeoutError):
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no answer in time"]
        raise RunError(Exit.SERVER, f"The test world cannot be made: {last[0]}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def is_ready(http: aiohttp.ClientSession, origin: str) -> bool:
    """The server there takes consults."""
    try:
        async with http.get(f"{origin}/readyz", timeout=aiohttp.ClientTimeout(total=5)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def read_metrics(text: str) -> dict[str, float]:
    """The gauges that a run follows; of several workers the worst lag, the sum of packets."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, rest = line.partition("{")
        name = name.split(" ", 1)[0]
        if line.startswith("#") or name not in METRICS:
            continue
        value = float(line.rsplit(" ", 1)[1])
        key = METRICS[name]
        if key == "packets":
            key = "packets_in" if 'direction="in"' in rest else "packets_out"
        found[key] = max(found.get(key, 0.0), value) if key.endswith("lag_s") else found.get(key, 0.0) + value
    return found


@dataclass(frozen=True, slots=True)
class Choice:
    """Which server is measured."""

    against: str = ""
    world_file: Path | None = None
    metrics_url: str = ""
    workers: int | None = None


@contextlib.asynccontextmanager
async def subject(choice: Choice, needs: WorldNeeds) -> AsyncIterator[OwnServer | RunningServer]:
    """The server, ready, for the length of the block.

    Raises:
        RunError: it is not there.
    """
    folder: Path | None = None
    one: OwnServer | RunningServer
    if choice.against:
        one = RunningServer(choice.against.rstrip("/"), _world(choice.world_file), choice.metrics_url)
    else:
        folder = Path(tempfile.mkdtemp(prefix="consilium-load-"))
        one = OwnServer(folder, choice.workers)
    try:
        await one.open(needs)
        yield one
    finally:
        await one.close()
        if folder is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _world(path: Path | None) -> World:
    if path is None:
        raise RunError(Exit.ARGUMENTS, "--against needs --world: the accounts that the server was filled with.")
    try:
        return World.model_validate_json(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        first = str(problem).splitlines()[0]
        raise RunError(Exit.CREDENTIALS, f"{path} is no world file: {first}.") from None
