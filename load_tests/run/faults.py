"""What a scenario breaks, really broken: processes are killed, a drive is full, a clock jumps.

Faults of lines happen in the generators. All others happen to a server that the run started itself, on this machine and
to nothing else. A fault says how it is known that it took place, by what it did and not by what was asked for: another
process has the port, a second writer was turned away, nothing more goes on the drive. One that cannot be done here, or
cannot be shown, is not done and says so, never pretended.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import errno
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import aiohttp

from load_tests.plan.scenario import Fault, FaultKind
from load_tests.run.crew import Hand
from load_tests.run.link import LinkLost
from load_tests.run.running import RunningServer
from load_tests.run.services import hold_sqlite
from load_tests.run.subject import OwnServer

FILLER: Final = "filler"
FILLER_BYTES: Final = 1 << 20
ANSWER_S: Final = 5.0
CLOCK_ERROR_S: Final = 5.0
"""A Date header has whole seconds, and what is under way takes time."""


class NotDone(Exception):
    """It did not take place; the text says why."""


class Breaker:
    """Carries out the faults of one run.

    Args:
        numbers: of all sessions.
        seed: by which it is chosen whom a fault of lines meets.
    """

    def __init__(
        self, server: OwnServer | RunningServer, hands: Sequence[Hand], numbers: Sequence[int], seed: int
    ) -> None:
        self._server, self._hands, self._numbers = server, hands, numbers
        self._chance = random.Random(f"faults-{seed}")

    async def carry_out(self, fault: Fault) -> str:
        """One fault, from its beginning to its end; how it is known that it took place.

        Raises:
            NotDone: it did not.
            RunError: what was broken does not come back.
        """
        if fault.kind in ("cut", "loss"):
            return await self._lines(fault)
        if not isinstance(self._server, OwnServer):
            raise NotDone("only a server that the run started itself is broken")
        return await KINDS[fault.kind](self._server, fault)

    async def _lines(self, fault: Fault) -> str:
        met = {number for number in self._numbers if self._chance.random() < fault.share}
        asked = []
        for hand in self._hands:
            mine = [number for number in hand.numbers if number in met]
            order = {"do": fault.kind, "numbers": mine, "for_s": fault.for_s, "share": fault.percent / 100}
            with contextlib.suppress(LinkLost):
                await hand.link.send(order)
                asked.append(hand)
        sessions = sum([await _answer(hand) for hand in asked])
        if not sessions:
            raise NotDone("no session was there whose line it could meet")
        return f"the lines of {sessions} sessions"


async def _answer(hand: Hand) -> int:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_S):
            return await hand.met.get()
    return 0


async def _kill_worker(server: OwnServer, _fault: Fault) -> str:
    pid = server.kill_worker()
    if pid is None:
        raise NotDone("there is no media worker")
    deadline_s = time.monotonic() + ANSWER_S
    while is_running(pid):
        if time.monotonic() > deadline_s:
            raise NotDone(f"media worker {pid} is still there")
        await asyncio.sleep(0.01)
    return f"media worker {pid} is gone"


async def _kill_server(server: OwnServer, fault: Fault) -> str:
    before = server.pid
    await server.kill_server(fault.for_s)
    return _replaced("server", before, server.pid)


async def _kill_redis(server: OwnServer, fault: Fault) -> str:
    assert server.redis is not None, "the scenario was checked"
    before = server.redis.pid
    await server.redis.kill(fault.for_s)
    return _replaced("redis", before, server.redis.pid) + f" after {fault.for_s:g} s, empty"


async def _restart_redis(server: OwnServer, _fault: Fault) -> str:
    assert server.redis is not None, "the scenario was checked"
    before = server.redis.pid
    await server.redis.restart()
    return _replaced("redis", before, server.redis.pid)


def _replaced(what: str, before: int | None, after: int | None) -> str:
    """Of a process that was killed and started again."""
    if before is None or after is None or before == after or is_running(before) or not is_running(after):
        raise NotDone(f"{what} {before} is still there or has no successor ({after})")
    return f"{what} {before} is gone, {after} is in its place"


def is_running(pid: int) -> bool:
    """Neither gone nor waiting to be collected."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


async def _stall_database(server: OwnServer, fault: Fault) -> str:
    if server.postgres is not None:
        stopped = await server.postgres.stall(fault.for_s)
        if not stopped:
            raise NotDone("no process of PostgreSQL was stopped")
        return f"{stopped} processes of PostgreSQL stood still for {fault.for_s:g} s"
    if not await hold_sqlite(server.data_dir / "consilium.db", fault.for_s):
        raise NotDone("another writer was let in beside the one who held the lock")
    return f"the write lock was held for {fault.for_s:g} s, and another writer turned away"


async def _fill_disk(server: OwnServer, fault: Fault) -> str:
    if server.no_drive:
        raise NotDone(server.no_drive)
    filler = server.data_dir / FILLER
    began_s = asyncio.get_running_loop().time()
    try:
        written = await asyncio.to_thread(fill, filler)
        if not await asyncio.to_thread(is_full, server.data_dir):
            raise NotDone(f"something still went on the drive after {written >> 20} MB")
        await asyncio.sleep(max(0.0, began_s + fault.for_s - asyncio.get_running_loop().time()))
    finally:
        filler.unlink(missing_ok=True)
    return f"nothing more went on the drive after {written >> 20} MB, for {fault.for_s:g} s"


def fill(filler: Path) -> int:
    """Write until nothing more goes in; bytes that did.

    Raises:
        NotDone: it cannot be written at all.
    """
    written, size = 0, FILLER_BYTES
    try:
        with filler.open("wb", buffering=0) as file:
            while size:
                try:
                    written += file.write(b"\0" * size)
                except OSError as problem:
                    if problem.errno != errno.ENOSPC:
                        raise
                    size //= 2
    except OSError as problem:
        raise NotDone(f"the drive cannot be written: {problem.strerror}") from None
    return written


def is_full(folder: Path) -> bool:
    """A page more does not go in."""
    probe = folder / f"{FILLER}-probe"
    try:
        probe.write_bytes(os.urandom(4096))
    except OSError as problem:
        return problem.errno == errno.ENOSPC
    finally:
        probe.unlink(missing_ok=True)
    return False


async def _step_clock(server: OwnServer, fault: Fault) -> str:
    server.step_clock(fault.step_s)
    try:
        off_s = await date_off_s(server.origin)
        if off_s is None or abs(off_s - fault.step_s) > CLOCK_ERROR_S:
            raise NotDone(f"the server's own Date was off by {'nothing that it said' if off_s is None else off_s} s")
        await asyncio.sleep(fault.for_s)
    finally:
        server.step_clock(0.0)
    return f"the server's own Date was off by {off_s:.0f} s, for {fault.for_s:g} s"


async def date_off_s(origin: str) -> float | None:
    """By how much the Date of a server's answer differs from our clock; None: it gave none."""
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError, TypeError):
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as http,
            http.get(f"{origin}/readyz") as answer,
        ):
            return email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    return None


KINDS: Final[dict[FaultKind, Callable[[OwnServer, Fault], Awaitable[str]]]] = {
    "kill_worker": _kill_worker, "kill_server": _kill_server, "kill_redis": _kill_redis,
    "restart_redis": _restart_redis, "stall_database": _stall_database, "fill_disk": _fill_disk,
    "step_clock": _step_clock,
}  # fmt: skip
"""Of a server of the run's own; each gives what proves it, or raises `NotDone`."""
