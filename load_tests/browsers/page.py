"""A real Chromium with a page of benchmarks: served from a folder on loopback, its CPU time read from the kernel."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Playwright

from load_tests.browsers.chromium import CHROMIUM, DESKTOP, QUIET
from load_tests.rig.drive import process_cpu_s


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: standard error is for progress."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder as a web site; its address, ending in a slash."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Browser:
    """One Chromium with one page.

    Attributes:
        pid: of its first process.
    """

    def __init__(self, page: Any, pid: int) -> None:
        self.page = page
        self.pid = pid

    def processes(self) -> list[int]:
        """All of its processes."""
        return [self.pid, *descendants(self.pid)]

    def cpu_s(self) -> float:
        """CPU time of all its processes that live, so far."""
        total = 0.0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                total += process_cpu_s(pid)
        return total

    def main_threads_s(self) -> tuple[float, float]:
        """Main threads of all pages so far: ``(seconds on a core, seconds waiting for one)``."""
        ran_ns = waited_ns = 0
        for pid in self.processes():
            with contextlib.suppress(OSError, ValueError):
                if b"--type=renderer" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    ran, waited, _ = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
                    ran_ns, waited_ns = ran_ns + int(ran), waited_ns + int(waited)
        return ran_ns / 1e9, waited_ns / 1e9


class Machine:
    """Who used the machine: this benchmark, with all processes it started, or others."""

    def __init__(self) -> None:
        self._before: tuple[float, float, dict[int, float]] | None = None

    def others_share(self) -> float:
        """What others used of all cores since the last call; 0 at the first."""
        busy_s, passed_s, ours = *_machine_s(), _ours_s()
        before, self._before = self._before, (busy_s, passed_s, ours)
        if before is None:
            return 0.0
        own_s = sum(spent - before[2].get(pid, 0.0) for pid, spent in ours.items())
        return max(0.0, (busy_s - before[0] - own_s) / max(0.01, passed_s - before[1]))


def _machine_s() -> tuple[float, float]:
    """All cores so far: ``(busy seconds, all seconds)``; what a host took from a virtual machine is busy."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    tick = os.sysconf("SC_CLK_TCK")
    return (sum(fields) - fields[3] - fields[4]) / tick, sum(fields) / tick


def _ours_s() -> dict[int, float]:
    """CPU time of this process and of each below it."""
    spent = {}
    for pid in (os.getpid(), *descendants(os.getpid())):
        with contextlib.suppress(OSError):
            spent[pid] = process_cpu_s(pid)
    return spent


def descendants(root: int) -> list[int]:
    """Process ids below a process, in no order."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    below: list[int] = []
    level = {root}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        below += level
    return below


@contextlib.contextmanager
def browser(playwright: Playwright, *flags: str, viewport: dict[str, int] | None = None) -> Iterator[Browser]:
    """Start one; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="consilium-bench-", ignore_cleanup_errors=True) as profile:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            headless=True,
            args=[*QUIET, *flags],
            viewport=viewport or DESKTOP,  # type: ignore[arg-type]
        )
        try:
            yield Browser(context.pages[0], root_process(profile))
        finally:
            context.close()


def root_process(profile: str) -> int:
    """The process that was given this profile; Debian's wrapper is the same process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().split(b"\0")
                if f"--user-data-dir={profile}".encode() in command and not any(
                    c.startswith(b"--type=") for c in command
                ):
                    found.append(int(entry.name))
    return min(found)
