"""One process of the server under test with its media workers: started, looked at once a second, killed, stopped.

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
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aiohttp

from load_tests.plan.reading import Exit, RunError
from load_tests.rig.demo_process import Demo, free_port
from load_tests.run.guard import ends_with_us
from load_tests.run.lags import LoopLags
from load_tests.run.pinning import pin

DATA: Final = "data"
READY_S: Final = 60.0
STOP_S: Final = 20.0
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

    @property
    def pid(self) -> int | None:
        """Its process."""
        return None if self._demo is None else self._demo.process.pid

    def kill_worker(self) -> int | None:
        """SIGKILL the media worker that serves; its process id, None when there is none."""
        pid = None if self._demo is None else self._demo.worker_pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return pid

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
