"""The generators of a run as its coordinator sees them: started here, or reached on other machines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from load_tests.plan.reading import Exit, RunError
from load_tests.report.ledger import Ledger
from load_tests.run.link import KEY_VARIABLE, Link, LinkLost, greet, new_key, read_key

START_S: Final = 60.0
CLOCK_ASKS: Final = 5
ENDING_S: Final = 3.0


@dataclass
class Hand:
    """One generator."""

    name: str
    link: Link
    clock_off_s: float = 0.0
    """Its wall clock minus ours."""
    clock_error_s: float = 0.0
    numbers: list[int] = field(default_factory=list)
    done: bool = False
    lost: str = ""
    cpu: list[float] = field(default_factory=list)
    """CPU share of each second."""
    rss_mb: float = 0.0
    reported_s: float = 0.0
    process: asyncio.subprocess.Process | None = None
    """Where this run started it."""
    counts: Ledger = field(default_factory=Ledger)
    """What it counted of itself."""

    async def last_word(self, problem: Exception) -> str:
        """Why it is gone: how its process ended, where that is known, else what the link said."""
        if self.process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENDING_S):
                    code = await self.process.wait()
                return f"killed by signal {-code}" if code < 0 else f"its process ended with code {code}"
        return str(problem) or type(problem).__name__

    async def set_clock(self) -> None:
        """Measure how its clock differs; the quickest of some answers counts.

        Raises:
            LinkLost: it is not there, or has another key.
        """
        best: tuple[float, float] | None = None
        for _ in range(CLOCK_ASKS):
            asked = time.time()
            await self.link.send({"do": "clock", "asked": asked})
            answer = await self.link.receive()
            now = time.time()
            found = (now - asked, answer["mine"] - (asked + now) / 2)
            best = min(best, found) if best is not None else found
        assert best is not None
        self.clock_error_s, self.clock_off_s = best[0] / 2, best[1]


@contextlib.asynccontextmanager
async def crew(processes: int, agents: Sequence[str]) -> AsyncIterator[list[Hand]]:
    """Generators, connected, their clocks measured: ``processes`` of our own, or those at ``agents``.

    Raises:
        RunError: one cannot be reached or started, or has another key.
    """
    hands: list[Hand] = []
    addresses: list[tuple[str, str, int, asyncio.subprocess.Process | None]]
    async with contextlib.AsyncExitStack() as stack:
        if agents:
            try:
                key = read_key(os.environ.get(KEY_VARIABLE, ""))
            except ValueError as problem:
                raise RunError(Exit.ARGUMENTS, f"{KEY_VARIABLE} must hold the agents' key: {problem}.") from None
            addresses = [(name, *_address(name), None) for name in agents]
        else:
            text = new_key()
            key = read_key(text)
            started = await asyncio.gather(*(_start(stack, text) for _ in range(processes)))
            addresses = [
                (f"local-{index}", "127.0.0.1", port, process) for index, (port, process) in enumerate(started)
            ]
        for name, host, port, process in addresses:
            hand = await _reach(stack, name, host, port, key)
            hand.process = process
            hands.append(hand)
        yield hands


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise RunError(Exit.ARGUMENTS, f"{text!r} is not HOST:PORT.")
    return host, int(port)


async def _reach(stack: contextlib.AsyncExitStack, name: str, host: str, port: int, key: bytes) -> Hand:
    try:
        async with asyncio.timeout(START_S):
            reader, writer = await asyncio.open_connection(host, port)
            link = await greet(reader, writer, key, coordinator=True)
            hand = Hand(name, link)
            stack.push_async_callback(link.close)
            await hand.set_clock()
    except (OSError, TimeoutError, LinkLost) as problem:
        reason = str(problem) or type(problem).__name__
        raise RunError(Exit.GENERATOR, f"The generator {name} ({host}:{port}) cannot be used: {reason}.") from None
    return hand


async def _start(stack: contextlib.AsyncExitStack, key: str) -> tuple[int, asyncio.subprocess.Process]:
    """A generator of our own, and the port it listens on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load_tests.run.agent", "--once", stdout=subprocess.PIPE,
        env={**os.environ, KEY_VARIABLE: key, "PYTHONUNBUFFERED": "1"}, start_new_session=True,
    )  # fmt: skip
    stack.push_async_callback(_end, process)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            line = (await process.stdout.readline()).decode()
    except TimeoutError:
        line = ""
    if not line.startswith("listening "):
        raise RunError(Exit.GENERATOR, "A generator process does not start.")
    return int(line.split()[1]), process


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()


def share_out(numbers: Sequence[int], hands: Sequence[Hand]) -> None:
    """Give each generator its sessions: in turns, so that each has some of every consult."""
    for position, number in enumerate(numbers):
        hands[position % len(hands)].numbers.append(number)


def order_of(hand: Hand, shared: dict[str, Any], start_s: float) -> dict[str, Any]:
    """What a generator is told at the beginning; the start by its own clock."""
    return {"do": "play", **shared, "numbers": hand.numbers, "start_at": start_s + hand.clock_off_s}
