"""What a scenario breaks, really broken: processes are killed, a drive is full, a clock jumps.

Faults of lines happen in the generators. All others happen to a server that the run started itself, on this machine and
to nothing else: a fault that cannot be done here says so and is not done, never pretended.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from load_tests.plan.scenario import Fault, FaultKind
from load_tests.run.crew import Hand
from load_tests.run.link import LinkLost
from load_tests.run.services import hold_sqlite
from load_tests.run.subject import OwnServer, RunningServer

FILLER: Final = "filler"
FILLER_BYTES: Final = 1 << 20


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
        """One fault, from its beginning to its end; why it was not done, as a sentence, else empty.

        Raises:
            RunError: what was broken does not come back.
        """
        if fault.kind in ("cut", "loss"):
            return await self._lines(fault)
        if not isinstance(self._server, OwnServer):
            return f"{fault.kind} was not done: only a server that the run started itself is broken."
        kinds: dict[FaultKind, Callable[[OwnServer, Fault], Awaitable[str]]] = {
            "kill_worker": _kill_worker, "kill_server": _kill_server, "kill_redis": _kill_redis,
            "restart_redis": _restart_redis, "stall_database": _stall_database, "fill_disk": _fill_disk,
            "step_clock": _step_clock,
        }  # fmt: skip
        return await kinds[fault.kind](self._server, fault)

    async def _lines(self, fault: Fault) -> str:
        met = {number for number in self._numbers if self._chance.random() < fault.share}
        for hand in self._hands:
            mine = [number for number in hand.numbers if number in met]
            order = {"do": fault.kind, "numbers": mine, "for_s": fault.for_s, "share": fault.percent / 100}
            with contextlib.suppress(LinkLost):
                await hand.link.send(order)
        return ""


async def _kill_worker(server: OwnServer, _fault: Fault) -> str:
    return "" if server.kill_worker() else "kill_worker was not done: there is no media worker."


async def _kill_server(server: OwnServer, fault: Fault) -> str:
    await server.kill_server(fault.for_s)
    return ""


async def _kill_redis(server: OwnServer, fault: Fault) -> str:
    assert server.redis is not None, "the scenario was checked"
    await server.redis.kill(fault.for_s)
    return ""


async def _restart_redis(server: OwnServer, _fault: Fault) -> str:
    assert server.redis is not None, "the scenario was checked"
    await server.redis.restart()
    return ""


async def _stall_database(server: OwnServer, fault: Fault) -> str:
    if server.postgres is not None:
        await server.postgres.stall(fault.for_s)
    else:
        await hold_sqlite(server.data_dir / "consilium.db", fault.for_s)
    return ""


async def _fill_disk(server: OwnServer, fault: Fault) -> str:
    if server.no_drive:
        return f"fill_disk was not done: {server.no_drive}."
    filler = server.data_dir / FILLER
    try:
        left = await asyncio.to_thread(fill, filler, asyncio.get_running_loop().time() + fault.for_s)
        await asyncio.sleep(max(0.0, left - asyncio.get_running_loop().time()))
    finally:
        filler.unlink(missing_ok=True)
    return ""


def fill(filler: Path, until_s: float) -> float:
    """Write until nothing more goes in; gives ``until_s`` back."""
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        size = FILLER_BYTES
        while size:
            try:
                file.write(b"\0" * size)
            except OSError as problem:
                if problem.errno != errno.ENOSPC:
                    raise
                size //= 2
    return until_s


async def _step_clock(server: OwnServer, fault: Fault) -> str:
    server.step_clock(fault.step_s)
    try:
        await asyncio.sleep(fault.for_s)
    finally:
        server.step_clock(0.0)
    return ""
