"""What a server of ours needs beside it: a redis-server, a PostgreSQL; real ones, of this run, on loopback.

Both are the programs of their Debian packages, keep nothing beyond the run and end with it (`guard`). They can be
broken on purpose: redis is killed or restarted on its port, a database stands still for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Final

import psycopg

from load_tests.plan.reading import Exit, RunError
from load_tests.rig.demo_process import free_port
from load_tests.run.guard import command_of, end, ends_with_us

UP_S: Final = 30.0
STOP_S: Final = 10.0
SETTLED_S: Final = 60.0
OWNER: Final = "postgres"
"""PostgreSQL refuses to run as root."""
NAME: Final = "consilium"


class Redis:
    """One redis-server that may go and come back on the same port."""

    def __init__(self) -> None:
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For ``CONSILIUM_REDIS_URL``."""
        return f"redis://127.0.0.1:{self._port}/0"

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RunError: it is not installed, or does not start.
        """
        binary = command_of("redis-server")
        if binary is None:
            raise RunError(Exit.ARGUMENTS, "redis-server is not installed (Debian package redis-server).")
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(  # noqa: ASYNC220 - a fork
            [binary, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=ends_with_us(),
        )  # fmt: skip
        deadline = time.monotonic() + UP_S
        while not _listens(self._port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RunError(Exit.SERVER, "redis-server does not start.")
            await asyncio.sleep(0.02)

    async def kill(self, away_s: float) -> None:
        """SIGKILL it, and start it again, empty."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        await asyncio.sleep(away_s)
        await self.start()

    async def restart(self) -> None:
        """As an administrator does."""
        await asyncio.to_thread(self.stop)
        await self.start()

    @property
    def pid(self) -> int | None:
        """Its process."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """End it; idempotent."""
        if self._process is not None:
            end(self._process, STOP_S)


class Postgres:
    """One PostgreSQL with one empty database, on a Unix socket in its own folder.

    It does not sync to disk: it is thrown away after the run, and figures of its disk would be this machine's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For ``CONSILIUM_DATABASE_URL``."""
        return f"postgresql://{OWNER}@/{NAME}?host={self._folder}"

    async def start(self) -> None:
        """Make it, start it and wait until it answers.

        Raises:
            RunError: it is not installed, or does not start.
        """
        initdb = _postgres_program("initdb")
        if initdb is None:
            raise RunError(Exit.ARGUMENTS, "PostgreSQL is not installed (Debian package postgresql).")
        self._folder.mkdir(mode=0o755)
        for parent in self._folder.parents[:1]:
            parent.chmod(0o711)  # its own user comes through
        if os.getuid() == 0:
            try:
                shutil.chown(self._folder, OWNER)
            except LookupError:
                raise RunError(Exit.ARGUMENTS, f"PostgreSQL refuses root and there is no user {OWNER}.") from None
        data = str(self._folder / "data")
        made = ["-D", data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--no-sync"]
        await self._wait([str(initdb), *made])
        options = ["listen_addresses=", "fsync=off", "max_connections=200", f"unix_socket_directories={self._folder}"]
        self._process = self._begin(
            [str(initdb.with_name("postgres")), "-D", data, *(part for one in options for part in ("-c", one))]
        )
        await self._create()

    async def stall(self, for_s: float) -> int:
        """Nothing of it runs for so long; its connections stand. How many processes had really stopped."""
        for pid in self.pids():
            _signal(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(for_s)
            return sum(_state(pid) == "T" for pid in self.pids())
        finally:
            for pid in self.pids():
                _signal(pid, signal.SIGCONT)

    def pids(self) -> list[int]:
        """Its processes."""
        if self._process is None:
            return []
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with contextlib.suppress(OSError):
            return [self._process.pid, *(int(one) for one in children.read_text().split())]
        return []

    def stop(self) -> None:
        """End it; idempotent. It is sent SIGINT: SIGTERM would wait for every connection."""
        if self._process is not None:
            _signal(self._process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
            end(self._process, 1.0)

    def _begin(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=self._folder, start_new_session=True,
                preexec_fn=ends_with_us(), user=OWNER if os.getuid() == 0 else None, env={"PATH": os.defpath},
            )  # fmt: skip

    async def _create(self) -> None:
        """The database, once the server takes connections."""
        deadline = time.monotonic() + SETTLED_S
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                admin = await psycopg.AsyncConnection.connect(
                    host=str(self._folder), user=OWNER, dbname=OWNER, autocommit=True
                )
                async with admin:
                    await admin.execute(f"CREATE DATABASE {NAME}")
                    return
            if time.monotonic() > deadline:
                raise RunError(Exit.SERVER, f"PostgreSQL does not start: {self._last_words()}")
            await asyncio.sleep(0.1)

    async def _wait(self, command: list[str]) -> None:
        """Run a command of PostgreSQL's to its end."""
        deadline = time.monotonic() + SETTLED_S
        process = self._begin(command)
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
            await asyncio.sleep(0.05)
        if process.returncode:
            raise RunError(Exit.SERVER, f"PostgreSQL does not start: {self._last_words()}")

    def _last_words(self) -> str:
        lines = (self._folder / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


async def hold_sqlite(file: Path, for_s: float) -> bool:
    """Hold the database's one write lock from outside: whoever writes waits, whoever reads does not.

    False: a second writer, who asked while it was held, was not turned away.
    """

    def hold() -> bool:
        with contextlib.closing(sqlite3.connect(file, timeout=10, isolation_level=None)) as mine:
            mine.execute("BEGIN IMMEDIATE")
            held = _turned_away(file)
            time.sleep(for_s)
            mine.execute("ROLLBACK")
            return held

    return await asyncio.to_thread(hold)


def _turned_away(file: Path) -> bool:
    with contextlib.closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        other.execute("ROLLBACK")
    return False


def _postgres_program(name: str) -> Path | None:
    found = shutil.which(name)
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place / name for place in places if (place / name).exists()), None)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _state(pid: int) -> str:
    """A letter, as the kernel has it; empty for what is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
