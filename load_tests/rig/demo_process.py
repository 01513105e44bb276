"""`consilium demo` as a child process, for tests and benchmarks that need the whole system."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MEDIA_ADDRESS = "127.0.0.1"
"""Load goes to loopback only, never to the machine's address on its network; a namespace of one's own has others."""


def free_port() -> int:
    """A free TCP port below those the system gives to outgoing connections, which could take it before a server does.

    Processes that ask at the same time get different ones, as nearly as chance can say.
    """
    while True:
        wanted = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", wanted))
            return wanted


def started_at(pid: int) -> int:
    """Kernel ticks since boot when a process began; huge when it is gone already."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 1 << 62


@dataclass
class Demo:
    """A running demo: its address, process and log."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    data_dir: Path

    def children(self) -> dict[int, str]:
        """Process ids of all descendants with their command lines."""
        found: dict[int, str] = {}
        parents = {self.process.pid}
        table = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError, ValueError):
                    stat = (entry / "stat").read_text().rpartition(")")[2].split()
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    table.append((int(entry.name), int(stat[1]), command))
        for _ in range(4):
            for pid, parent, command in table:
                if parent in parents:
                    parents.add(pid)
                    found[pid] = command
        return found

    def worker_pid(self) -> int | None:
        """Process id of the media worker that serves, None while there is none.

        A loaded spare stands beside it; the one that serves was started first.
        """
        workers = [pid for pid, command in self.children().items() if "media.aio.worker" in command]
        return min(workers, key=started_at, default=None)

    def api(self, path: str) -> object:
        """GET a JSON document without signing in."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def stop(self, timeout_s: float = 60.0) -> int:
        """Ctrl-C, as a person would; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout_s)


@contextlib.contextmanager
def demo(
    data_dir: Path, *extra: str, ready_within_s: float = 300.0, module: str = "server", film_of: Demo | None = None
) -> Iterator[Demo]:
    """Start a demo on a free port and stop it at the end.

    Args:
        module: what to run; may be one that only changes the demo's parts.
        film_of: another demo whose film is shown, so that none has to be made.
    """
    port = free_port()
    data_dir.mkdir(parents=True, exist_ok=True)
    if film_of is not None:
        shutil.copytree(film_of.data_dir / "media", data_dir / "media")
    log = data_dir.parent / f"{data_dir.name}.log"
    # A hospital beside it would send results while a test looks at the record.
    command = [sys.executable, "-m", module, "demo", "--no-hospital"]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*command, "--data-dir", str(data_dir), "--port", str(port), *extra],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=os.environ
            | {"PYTHONUNBUFFERED": "1", "CONSILIUM_MEDIA_ADDRESSES": MEDIA_ADDRESS, "CONSILIUM_MEDIA_PORT": "0"},
        )
    running = Demo(f"http://localhost:{port}", process, log, data_dir)
    try:
        deadline = time.monotonic() + ready_within_s
        while True:
            if process.poll() is not None:
                raise AssertionError(f"demo ended with {process.returncode}:\n{log.read_text()[-4000:]}")
            with (
                contextlib.suppress(urllib.error.URLError, OSError),
                urllib.request.urlopen(running.url + "/readyz", timeout=2),
            ):
                break
            if time.monotonic() > deadline:
                raise AssertionError(f"demo not ready:\n{log.read_text()[-4000:]}")
            time.sleep(0.2)
        yield running
    finally:
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.stop()
        if process.poll() is None:
            process.kill()
            process.wait()
