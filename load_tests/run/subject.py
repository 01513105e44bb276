"""The server under test: one that the run starts on loopback, or one that runs already.

Its own is a whole one, as an administrator starts it, on a data folder that is filled before and thrown away after:
one process, or several nodes on one redis (`services`), which serve the same consults.
Once a second its processes are looked at from outside (CPU, memory, descriptors, threads) and asked by ``/metrics``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import aiohttp
from pydantic import ValidationError

from load_tests.plan.behaviour import Behaviour
from load_tests.plan.reading import Exit, RunError
from load_tests.plan.scenario import Scenario, Serving
from load_tests.report.histogram import Histogram
from load_tests.report.ledger import Ledger
from load_tests.rig.demo_process import Demo, free_port
from load_tests.run.guard import RunFolder, ends_with_us, mount_small, unmount, write_step
from load_tests.run.lags import LoopLags
from load_tests.run.pinning import pin
from load_tests.run.services import Postgres, Redis
from load_tests.session.office import HttpRefused, Office
from load_tests.session.world import World, WorldNeeds, lacking

DATA: Final = "data"
STEPPED: Final = Path(__file__).parent / "stepped"
LOG_END: Final = 500_000
"""Characters of a node's log that a report keeps."""
READY_S: Final = 60.0
FILL_S: Final = 900.0
STOP_S: Final = 20.0
SILENT_S: Final = 20.0
"""A server that is not ready for so long has died."""
PAGE_MB: Final = os.sysconf("SC_PAGE_SIZE") / 1e6
TICKS: Final = os.sysconf("SC_CLK_TCK")
METRICS: Final = {
    "consilium_media_worker_packets_per_second": "packets",
    "consilium_media_worker_deaths_total": "worker_deaths",
    "consilium_asyncio_tasks": "server_tasks",
}


class Node:
    """One process of the hub, with its media workers."""

    def __init__(self, number: int, folder: Path) -> None:
        self._number, self._folder = number, folder
        self._port, self._metrics_port = free_port(), free_port()
        self.lags = LoopLags()
        self.cores: frozenset[int] = frozenset()
        """Where it runs with all that it starts; empty: anywhere."""
        self._demo: Demo | None = None
        self._cpu: dict[int, float] = {}
        self._sampled_s = time.monotonic()
        self.away = False
        """Killed by us, and not back yet."""

    @property
    def origin(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def log(self) -> Path:
        """What it said."""
        return self._folder / ("server.log" if self._number == 0 else f"server-{self._number}.log")

    async def start(self, http: aiohttp.ClientSession, environment: Mapping[str, str]) -> None:
        """Start the process and wait until it takes consults.

        Raises:
            RunError: it ended, or is not ready in time.
        """
        with self.log.open("ab") as sink:
            process = subprocess.Popen(  # noqa: ASYNC220 - a fork, before anything is measured
                [sys.executable, "-m", "server", "serve", "--port", str(self._port), "--data-dir",
                 str(self._folder / DATA)],
                stdout=sink, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=ends_with_us(),
                env={**environment, "CONSILIUM_METRICS_PORT": str(self._metrics_port)},
            )  # fmt: skip
        pin(process.pid, self.cores)
        self._demo = Demo(self.origin, process, self.log, self._folder / DATA)
        deadline = time.monotonic() + READY_S
        while not await is_ready(http, self.origin):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RunError(Exit.SERVER, f"The server does not start: {self.last_words()}")
            await asyncio.sleep(0.1)

    def kill_worker(self) -> bool:
        """SIGKILL the media worker that serves; False when there is none."""
        pid = None if self._demo is None else self._demo.worker_pid()
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    def kill(self) -> None:
        """SIGKILL the process and all its children; idempotent."""
        if self._demo is None:
            return
        for pid in [self._demo.process.pid, *self._demo.children()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._demo.process.wait()

    async def stop(self) -> None:
        """Stop it as an administrator would; what does not stop is killed."""
        if self._demo is not None and self._demo.process.poll() is None:
            self._demo.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._demo.process.wait, STOP_S)
        self.kill()

    def trouble(self) -> str:
        """Why it is not there, as a sentence; empty while it is, or should not be."""
        if self.away or self._demo is None or self._demo.process.poll() is None:
            return ""
        return f"The server ended by itself with code {self._demo.process.returncode}: {self.last_words()}"

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "it said nothing"

    def processes(self) -> dict[int, str]:
        """The server's own and its media workers' process ids, each with its kind."""
        if self._demo is None:
            return {}
        children = self._demo.children().items()
        return {self._demo.process.pid: "server"} | {
            pid: "worker" for pid, command in children if "media.aio.worker" in command
        }

    async def sample(self, http: aiohttp.ClientSession) -> dict[str, float]:
        """Processes and gauges."""
        if self._demo is None:
            return {}
        found = self._processes(self.processes())
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            url = f"http://127.0.0.1:{self._metrics_port}/metrics"
            async with http.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
                text = await answer.text()
                found |= read_metrics(text) | self.lags.take(text)
        return found

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
                threads = float(stat[17])
                for name, value in (
                    ("cpu", share), ("rss_mb", resident), ("descriptors", opened), ("threads", threads),
                ):  # fmt: skip
                    found[f"{kind}_{name}"] = found.get(f"{kind}_{name}", 0.0) + value
        self._cpu = cpu
        return found


class OwnServer:
    """A server of this run: its nodes, and what they share."""

    own = True

    def __init__(self, folder: Path, workers: int | None, serving: Serving, *, steps: bool = False) -> None:
        self.world: World
        self.no_drive = ""
        """Why the data folder has no drive of its own, which the scenario wants."""
        self._folder, self._workers = folder, workers
        self._clock = folder / "clock" if steps else None
        if serving.drive_mb:
            try:
                mount_small(self.data_dir, serving.drive_mb)
            except OSError as problem:
                self.no_drive = f"a file system of {serving.drive_mb} MB cannot be mounted here ({problem.strerror})"
        self._nodes = [Node(number, folder) for number in range(serving.nodes)]
        self.redis = Redis() if serving.redis else None
        self.postgres = Postgres(folder / "postgres") if serving.database == "postgresql" else None
        self._http = aiohttp.ClientSession()

    @property
    def origins(self) -> list[str]:
        """Of its nodes."""
        return [node.origin for node in self._nodes]

    @property
    def origin(self) -> str:
        """Of its first node."""
        return self._nodes[0].origin

    @property
    def data_dir(self) -> Path:
        """Its data folder."""
        return self._folder / DATA

    @property
    def log(self) -> Path:
        """What its first node said."""
        return self._nodes[0].log

    async def open(self, needs: WorldNeeds) -> None:
        """Start what the nodes share, fill a data folder, start them.

        Raises:
            RunError: something of it does not start, or does not fill.
        """
        if self._clock is not None:
            self.step_clock(0.0)
        if self.redis is not None:
            await self.redis.start()
        if self.postgres is not None:
            await self.postgres.start()
            await _upgrade(self.data_dir, self.environment)
        self.world = await fill(self.data_dir, needs, self.environment)
        for node in self._nodes:
            await node.start(self._http, self.environment)

    def processes(self) -> dict[int, str]:
        """Of all nodes: process ids, each with its kind."""
        return {pid: kind for node in self._nodes for pid, kind in node.processes().items()}

    def run_on(self, cores: frozenset[int]) -> None:
        """Let the nodes, when they are started, run on these cores alone; with none, anywhere."""
        for node in self._nodes:
            node.cores = cores

    @property
    def environment(self) -> dict[str, str]:
        """Of a node; nobody's settings but ours."""
        found = {name: value for name, value in os.environ.items() if not name.startswith("CONSILIUM_")} | {
            "PYTHONUNBUFFERED": "1", "CONSILIUM_MEDIA_ADDRESSES": "127.0.0.1", "CONSILIUM_MEDIA_PORT": "0",
            "CONSILIUM_DRAIN_S": "0",
        }  # fmt: skip
        if self._workers:
            found["CONSILIUM_MEDIA_WORKERS"] = str(self._workers)
        if self.redis is not None:
            found["CONSILIUM_REDIS_URL"] = self.redis.url
        if self.postgres is not None:
            found["CONSILIUM_DATABASE_URL"] = self.postgres.url
        if self._clock is not None:
            found["LOAD_CLOCK"] = str(self._clock)
            found["PYTHONPATH"] = os.pathsep.join([str(STEPPED), *filter(None, [found.get("PYTHONPATH", "")])])
        return found

    def step_clock(self, off_s: float) -> None:
        """Have the server's wall clock off by so much from now on."""
        assert self._clock is not None, "made for a scenario that steps no clock"
        write_step(self._clock, off_s)

    def kill_worker(self) -> bool:
        """SIGKILL the media worker that serves; False when there is none."""
        return self._nodes[0].kill_worker()

    async def kill_server(self, away_s: float) -> None:
        """SIGKILL the first node and all its children, and start it again.

        Raises:
            RunError: it does not start again.
        """
        node = self._nodes[0]
        node.away = True
        node.kill()
        await asyncio.sleep(away_s)
        await node.start(self._http, self.environment)
        node.away = False

    async def trouble(self) -> str:
        """Why the run cannot go on, as a sentence; empty while it can."""
        return next((said for node in self._nodes if (said := node.trouble())), "")

    async def sample(self) -> dict[str, float]:
        """Processes and gauges, of all nodes together; of lags the worst."""
        found: dict[str, float] = {}
        for number, node in enumerate(self._nodes):
            mine = await node.sample(self._http)
            for name, value in mine.items():
                before = found.get(name, 0.0)
                found[name] = max(before, value) if name.endswith("lag_s") else before + value
            if len(self._nodes) > 1:
                found |= {f"node{number}_{name}": value for name, value in mine.items() if name.endswith("_cpu")}
        return found

    def take_lags(self) -> dict[str, Histogram]:
        """How late event loops were since the last call, of all nodes, by figure."""
        found: dict[str, Histogram] = {}
        for node in self._nodes:
            for figure, seen in node.lags.pop().items():
                found.setdefault(figure, Histogram()).merge(seen)
        return found

    def log_end(self) -> str:
        """The end of what its nodes have said."""
        texts = [node.log.read_text(errors="replace")[-LOG_END:] for node in self._nodes if node.log.exists()]
        return "\n".join(texts)

    async def stop(self) -> None:
        """Stop the nodes, and leave what they share and have written."""
        await asyncio.gather(*(node.stop() for node in self._nodes))

    async def close(self) -> None:
        """Stop everything; idempotent."""
        await self._http.close()
        await self.stop()
        for service in (self.redis, self.postgres):
            if service is not None:
                await asyncio.to_thread(service.stop)
        unmount(self.data_dir)


class RunningServer:
    """A server that somebody else started and filled."""

    own = False

    def __init__(self, origin: str, world: World, metrics_url: str) -> None:
        self.origin, self.world = origin, world
        self.origins = [origin]
        self._metrics_url = metrics_url
        self.lags = LoopLags()
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
                    text = await answer.text()
                    return read_metrics(text) | self.lags.take(text)
        return {}

    def take_lags(self) -> dict[str, Histogram]:
        """As of a server of our own."""
        return self.lags.pop()

    async def close(self) -> None:
        """Forget it."""
        await self._http.close()


async def _upgrade(data_dir: Path, environment: Mapping[str, str]) -> None:
    """Bring an empty PostgreSQL to our schema; the server only demands it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", "db", "upgrade", "--data-dir", str(data_dir), env=dict(environment),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=ends_with_us(),
    )  # fmt: skip
    _, errors = await process.communicate()
    if process.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise RunError(Exit.SERVER, f"The database cannot be prepared: {last[0]}")


async def fill(data_dir: Path, needs: WorldNeeds, environment: Mapping[str, str]) -> World:
    """A data folder with the world that a scenario needs.

    Raises:
        RunError: it could not be filled.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load_tests.run.world_process", "--data-dir", str(data_dir),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=dict(environment), preexec_fn=ends_with_us(),
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
    """The gauges that a run follows; of several workers the sum."""
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
        found[key] = found.get(key, 0.0) + value
    return found


@dataclass(frozen=True, slots=True)
class Choice:
    """Which server is measured."""

    against: str = ""
    world_file: Path | None = None
    metrics_url: str = ""
    workers: int | None = None
    cores: frozenset[int] = frozenset()
    """Where the server that is started runs; empty: anywhere."""
    profile: bool = False
    """Look where its processes spend their time."""


@contextlib.asynccontextmanager
async def subject(choice: Choice, needs: WorldNeeds, scenario: Scenario) -> AsyncIterator[OwnServer | RunningServer]:
    """The server, ready, for the length of the block.

    Raises:
        RunError: it is not there.
    """
    folder: RunFolder | None = None
    one: OwnServer | RunningServer
    if choice.against:
        one = RunningServer(choice.against.rstrip("/"), _world(choice.world_file), choice.metrics_url)
    else:
        folder = RunFolder()
        steps = any(fault.kind == "step_clock" for fault in scenario.fault)
        one = OwnServer(folder.path, choice.workers, scenario.server, steps=steps)
        one.run_on(choice.cores)
    try:
        await one.open(needs)
        yield one
    finally:
        await one.close()
        if folder is not None:
            await asyncio.to_thread(folder.remove)


def _world(path: Path | None) -> World:
    if path is None:
        raise RunError(Exit.ARGUMENTS, "--against needs --world: the accounts that the server was filled with.")
    try:
        return World.model_validate_json(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        first = str(problem).splitlines()[0]
        raise RunError(Exit.CREDENTIALS, f"{path} is no world file: {first}.") from None
