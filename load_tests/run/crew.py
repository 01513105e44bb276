"""The generators of a run as its coordinator sees them: started here, or reached on other machines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from load_tests.plan.reading import Exit, RunError
from load_tests.plan.timetable import FILES_EACH, files_for
from load_tests.report.ledger import Ledger
from load_tests.run.guard import ends_with_us
from load_tests.run.link import KEY_VARIABLE, Link, LinkLost, greet, new_key, read_key

START_S: Final = 60.0
CLOCK_ASKS: Final = 5
ENDING_S: Final = 3.0
LAST_LINES: Final = 20


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
    reported_s: float | None = None
    """When its last report was made, seconds of the run."""
    silent_s: float = 0.0
    """Longest time between two of its reports."""
    clock_drift_s: float = 0.0
    """By how much its clock has gone another way than ours since the beginning, beyond what cannot be told."""
    plays: str = ""
    """What plays its media: ``C`` or ``Python``."""
    process: asyncio.subprocess.Process | None = None
    """Where this run started it."""
    said: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    """The last lines of what such a process said."""
    files: int = 0
    """How many it may have open."""
    counts: Ledger = field(default_factory=Ledger)
    """What it counted of itself."""
    met: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    """Of each fault of lines that it was told: how many of its sessions it met."""

    async def last_word(self, problem: Exception) -> str:
        """Why it is gone: how its process ended, where that is known, else what the link said."""
        if self.process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENDING_S):
                    return how_ended(await self.process.wait(), self.said)
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
            found = compared(asked, answer["mine"], time.time())
            best = min(best, found) if best is not None else found
        assert best is not None
        self.clock_error_s, self.clock_off_s = best
        self.files = answer.get("files", 0)

    def take_clock(self, asked: float, mine: float, now: float) -> None:
        """Compare clocks again, while the run goes on: by what is certain, has one of them moved?"""
        error_s, off_s = compared(asked, mine, now)
        certain_s = abs(off_s - self.clock_off_s) - error_s - self.clock_error_s
        self.clock_drift_s = max(self.clock_drift_s, certain_s)


def compared(asked: float, mine: float, now: float) -> tuple[float, float]:
    """Of an answer between ``asked`` and ``now`` by our clock: by how much it may be wrong, and how theirs differs."""
    return (now - asked) / 2, mine - (asked + now) / 2


def how_ended(code: int, said: Sequence[str]) -> str:
    """How a process ended, in words, and what it said last."""
    how = f"killed by {_signal_name(-code)}" if code < 0 else f"its process ended with code {code}"
    last = [line for line in said if line.strip()][-3:]
    return f"{how}; it said last: {' / '.join(last)}" if last else how


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextlib.asynccontextmanager
async def crew(
    processes: int, agents: Sequence[str], sessions: int = 0, each: int = FILES_EACH
) -> AsyncIterator[list[Hand]]:
    """Generators, connected, their clocks measured: ``processes`` of our own, or those at ``agents``.

    Args:
        sessions: that they will share.
        each: open files of one of them.

    Raises:
        RunError: one cannot be reached or started, has another key, or may not have as many open files as it needs.
    """
    hands: list[Hand] = []
    addresses: list[tuple[str, str, int, Started | None]]
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
            addresses = [(f"local-{index}", "127.0.0.1", one.port, one) for index, one in enumerate(started)]
        for name, host, port, mine in addresses:
            hand = await _reach(stack, name, host, port, key)
            if mine is not None:
                hand.process, hand.said = mine.process, mine.said
                hand.clock_off_s = hand.clock_error_s = 0.0  # one machine has one clock
            hands.append(hand)
        check_files(hands, sessions, each)
        yield hands


def check_files(hands: Sequence[Hand], sessions: int, each: int = FILES_EACH) -> None:
    """Each may have the open files that its share of the sessions needs.

    Raises:
        RunError: one may not.
    """
    needed = files_for(-(-sessions // max(1, len(hands))), each)
    for hand in hands:
        if 0 < hand.files < needed:
            raise RunError(
                Exit.GENERATOR,
                f"The generator {hand.name} may have {hand.files} open files, its share of {sessions} sessions needs "
                f"{needed}: raise its limit (ulimit -n), or spread them over more processes or machines.",
            )


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


@dataclass
class Started:
    """A generator of our own."""

    process: asyncio.subprocess.Process
    said: deque[str]
    """Its last lines."""
    port: int = 0


async def _start(stack: contextlib.AsyncExitStack, key: str) -> Started:
    """A generator of our own, listening."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "load_tests.run.agent", "--once", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, KEY_VARIABLE: key, "PYTHONUNBUFFERED": "1"}, start_new_session=True,
        preexec_fn=ends_with_us(),
    )  # fmt: skip
    one = Started(process, deque(maxlen=LAST_LINES))
    listening = asyncio.create_task(_listen(one))
    stack.push_async_callback(_end, process, listening)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            line = (await process.stdout.readline()).decode()
    except TimeoutError:
        line = ""
    if not line.startswith("listening "):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S):
                await process.wait()
        why = "it said nothing in time" if process.returncode is None else how_ended(process.returncode, one.said)
        raise RunError(Exit.GENERATOR, f"A generator process does not start: {why}.")
    one.port = int(line.split()[1])
    return one


async def _listen(one: Started) -> None:
    """Pass on what it says, and keep the end of it."""
    assert one.process.stderr is not None
    with contextlib.suppress(ValueError):  # a line longer than any of ours
        while line := await one.process.stderr.readline():
            text = line.decode(errors="replace").rstrip()
            one.said.append(text[:300])
            print(text, file=sys.stderr)


async def _end(process: asyncio.subprocess.Process, listening: asyncio.Task[None]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


def share_out(numbers: Sequence[int], hands: Sequence[Hand]) -> None:
    """Give each generator its sessions: in turns, so that each has some of every consult."""
    for position, number in enumerate(numbers):
        hands[position % len(hands)].numbers.append(number)


def order_of(hand: Hand, shared: dict[str, Any], start_s: float) -> dict[str, Any]:
    """What a generator is told at the beginning: times by our clock, and by how much its own is before that."""
    return {"do": "play", **shared, "numbers": hand.numbers, "start_at": start_s, "ahead_s": hand.clock_off_s}
