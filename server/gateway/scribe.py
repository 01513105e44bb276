"""One SQLite connection in a thread of its own; what waits together is committed together.

A commit is an fsync, and a hospital's interface engine sends on several connections at once. Jobs
that have queued up while the disk was busy therefore share the next transaction. If anything in it fails, it is
rolled back whole and its jobs run again one by one, so that each gets its own outcome: one message that
does not fit never takes another with it.

``synchronous=FULL`` in WAL mode: when `run` returns, a power cut takes nothing back. Jobs that are ``lazy`` (a log, or
what the other side would tell again) are not worth a sync of their own: SIGKILL takes nothing of them back either, a
power cut may take the last of them, and never anything from before a job that is not.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from server.exits import Exit, StartError
from server.gateway.core.crossing import LockRefused

BATCH = 64
QUEUE = 10_000
BUSY_S = 5.0
T = TypeVar("T")
After = Callable[[Any], None]
_Job = tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any], asyncio.AbstractEventLoop, After | None, bool]


class ScribeBusy(Exception):
    """More waits for the disk than may wait."""


class Scribe:
    """The thread. ``run`` from the event loop; ``close`` waits for what was begun."""

    def __init__(self, path: Path, schema: str, begin: Callable[[sqlite3.Connection], Any]) -> None:
        """Open or make the file; ``begin`` runs once, before anything else.

        Raises:
            StartError: it cannot be used.
        """
        self._path = path
        try:
            self._connection = _open(path, schema)
            begin(self._connection)
        except sqlite3.Error as problem:
            raise StartError(Exit.DATABASE, f"The journal {path} cannot be used: {problem}.") from None
        except StartError:
            self._connection.close()
            raise
        self._is_full = True
        self._jobs: queue.Queue[_Job | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    async def run(
        self, job: Callable[[sqlite3.Connection], T], *, lazy: bool = False, after: Callable[[T], None] | None = None
    ) -> T:
        """The result of ``job``, after its commit.

        Args:
            after: called in the event loop with what was committed, also when whoever waited for it is gone: a
                cancelled call takes nothing back, so nobody else may miss what it did.

        ``job`` may run twice (see above), so it changes nothing but the database. A `LockRefused` it raises before it
        has written anything: that alone does not undo what others wrote.

        Raises:
            ScribeBusy: the queue is full.
            sqlite3.Error: it was rolled back.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        try:
            self._jobs.put_nowait((job, future, loop, after, lazy))
        except queue.Full:
            raise ScribeBusy from None
        return await future

    async def close(self) -> None:
        """Idempotent."""
        if self._thread.is_alive():
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    # ------------------------------------------------------------ the thread

    def _work(self) -> None:
        with contextlib.closing(self._connection):
            while (batch := self._batch()) is not None:
                if not self._together(batch):
                    for job in batch:
                        self._alone(job)

    def _batch(self) -> list[_Job] | None:
        first = self._jobs.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < BATCH:
            try:
                following = self._jobs.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._jobs.put(None)
                break
            batch.append(following)
        return batch

    def _together(self, batch: list[_Job]) -> bool:
        results: list[Any] = []
        try:
            self._sync(full=not all(lazy for *_job, lazy in batch))
            self._connection.execute("BEGIN IMMEDIATE")
            results.extend(self._result(job) for job, *_rest in batch)
            self._connection.execute("COMMIT")
        except Exception as problem:  # whatever it was, each job runs again alone and gets its own outcome
            self._roll_back()
            if len(batch) == 1:
                _settle(batch[0], None, problem)
                return True
            return False
        for job, result in zip(batch, results, strict=True):
            refused = result if isinstance(result, LockRefused) else None
            _settle(job, None if refused else result, refused)
        return True

    def _sync(self, *, full: bool) -> None:
        if full != self._is_full:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
            self._is_full = full

    def _result(self, job: Callable[[sqlite3.Connection], Any]) -> Any:
        try:
            return job(self._connection)
        except LockRefused as refused:
            return refused

    def _alone(self, job: _Job) -> None:
        self._together([job])

    def _roll_back(self) -> None:
        # A full disk may have rolled back by itself.
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            # On a full disk the log cannot grow to where it would begin anew by itself: what it holds goes into the
            # file, and the next job finds its room.
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()


def _settle(job: _Job, result: Any, problem: Exception | None) -> None:
    _job, future, loop, after, _lazy = job

    def settle() -> None:
        if problem is None and after is not None:
            after(result)
        if future.done():
            return
        if problem is not None:
            future.set_exception(problem)
        else:
            future.set_result(result)

    with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
        loop.call_soon_threadsafe(settle)


def _open(path: Path, schema: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
    path.chmod(0o600)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=1000"):
        connection.execute(f"PRAGMA {pragma}")
    connection.executescript(schema)
    connection.row_factory = sqlite3.Row
    return connection
