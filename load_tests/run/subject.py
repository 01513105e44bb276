"""The server under test: one that the run starts on loopback, or one that runs already (`running`).

Its own is a whole one, as an administrator starts it, on a data folder that is filled before and thrown away after:
one process (`node`), or several nodes on one redis (`services`), which serve the same consults.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from pydantic import ValidationError

from load_tests.plan.reading import Exit, RunError
from load_tests.plan.scenario import Scenario, Serving
from load_tests.report.histogram import Histogram
from load_tests.run.guard import RunFolder, ends_with_us, mount_small, unmount, write_step
from load_tests.run.node import DATA, Node
from load_tests.run.running import RunningServer, read_world
from load_tests.run.services import Postgres, Redis
from load_tests.session.world import World, WorldNeeds

STEPPED: Final = Path(__file__).parent / "stepped"
LOG_END: Final = 500_000
"""Characters of a node's log that a report keeps."""
FILL_S: Final = 900.0


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

    @property
    def pid(self) -> int | None:
        """Of its first node."""
        return self._nodes[0].pid

    def kill_worker(self) -> int | None:
        """SIGKILL the media worker that serves; its process id, None when there is none."""
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
        one = RunningServer(choice.against.rstrip("/"), read_world(choice.world_file), choice.metrics_url)
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
