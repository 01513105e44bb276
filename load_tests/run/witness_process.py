"""Real Chromiums that take part in a run, alone in a process: each a doctor who watches and listens.

Standard input has a line with what to do (`Order`), later one with the wall clock's time at which the run begins; a
third, or its end, ends all witnesses. Standard output has a line of JSON for each thing that happened: ``ready``,
``joined``, ``look`` (once a second and witness), ``problem``, ``left``. A witness sends no picture: what it would cost
the machine to encode is not what is asked.

The figures are the page's own: statistics of its connections, and what ``witness.js`` notes. Its CPU time is that of
its browser's processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from playwright.async_api import BrowserContext, Page, Playwright, async_playwright
from playwright.async_api import Error as BrowserError
from pydantic import BaseModel, ConfigDict

from load_tests.browsers.chromium import CHROMIUM, DESKTOP, MEDIA, QUIET
from load_tests.browsers.page import descendants, root_process
from load_tests.rig.drive import process_cpu_s

COOKIE: Final = "__Host-consilium"
SCRIPT: Final = Path(__file__).with_name("witness.js")
LOOK_S: Final = 1.0
PAGE_S: Final = 60.0
LEAVE_S: Final = 10.0
FLAGS: Final = (*QUIET, MEDIA[0], "--allow-loopback-in-peer-connection")
TAKE: Final = "() => window.__witness.take()"


class Seat(BaseModel):
    """One witness."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    origin: str
    consult: str
    login: str
    cookie: str = ""
    """Of a session; empty: it signs in."""
    join_after_s: float
    """From the beginning of the run."""


class Order(BaseModel):
    """What to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    password: str
    seats: tuple[Seat, ...]


def say(message: dict[str, Any]) -> None:
    """One line to the other end."""
    print(json.dumps(message), flush=True)


class Witness:
    """One browser."""

    def __init__(self, seat: Seat, password: str) -> None:
        self.seat, self._password = seat, password
        self._context: BrowserContext
        self._page: Page
        self._pid = 0

    @contextlib.asynccontextmanager
    async def opened(self, playwright: Playwright) -> AsyncIterator[None]:
        """A browser at the door of the consult, signed in; it ends with the block."""
        with tempfile.TemporaryDirectory(prefix="consilium-witness-", ignore_cleanup_errors=True) as profile:
            context = await playwright.chromium.launch_persistent_context(
                profile, executable_path=CHROMIUM, headless=True, args=list(FLAGS), bypass_csp=True,
                viewport=DESKTOP,  # type: ignore[arg-type]
            )  # fmt: skip
            try:
                self._context, self._page = context, context.pages[0]
                self._pid = root_process(profile)
                context.set_default_timeout(PAGE_S * 1000)
                await context.add_init_script(path=SCRIPT)
                await self._sign_in()
                await self._page.goto(f"{self.seat.origin}/consult/{self.seat.consult}")
                await self._page.get_by_test_id("prejoin-join").wait_for()
                yield
            finally:
                with contextlib.suppress(BrowserError):
                    await context.close()

    async def _sign_in(self) -> None:
        seat = self.seat
        if seat.cookie:
            await self._context.add_cookies(
                [{"name": COOKIE, "value": seat.cookie, "url": seat.origin.replace("http:", "https:"), "secure": True}]
            )
            return
        answer = await self._context.request.post(
            f"{seat.origin}/api/session", data={"login": seat.login, "password": self._password},
            headers={"Origin": seat.origin},
        )  # fmt: skip
        if not answer.ok:
            raise BrowserError(f"signing in was answered with {answer.status}")

    async def join(self) -> None:
        """Press Join, and be at the desk."""
        await self._page.get_by_test_id("prejoin-join").click()
        await self._page.get_by_test_id("desk-root").wait_for()

    async def look(self) -> dict[str, Any]:
        """Everything since the last look."""
        seen: dict[str, Any] = await self._page.evaluate(TAKE)
        return {**seen, "cpu_s": self._cpu_s()}

    async def leave(self) -> None:
        """As a person does, so that nobody is waited for."""
        with contextlib.suppress(BrowserError, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._page.get_by_test_id("btn-leave").click()
                await self._page.get_by_test_id("leave-confirm").click()
                await self._page.get_by_test_id("desk-root").wait_for(state="detached")

    def _cpu_s(self) -> float:
        total = 0.0
        for pid in (self._pid, *descendants(self._pid)):
            with contextlib.suppress(OSError):
                total += process_cpu_s(pid)
        return total


class Times:
    """When the run begins and ends, as this process is told."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.start_s = 0.0
        self.over = asyncio.Event()

    async def follow(self, lines: asyncio.StreamReader) -> None:
        """Read until told to end."""
        with contextlib.suppress(ValueError):
            self.start_s = float(await lines.readline())
            self.began.set()
            await lines.readline()
        self.over.set()
        self.began.set()

    async def passed(self, after_s: float) -> bool:
        """Wait until so long after the beginning; False when it ended before."""
        await self.began.wait()
        return not await self.ended_within(self.start_s + after_s - time.time())

    async def ended_within(self, seconds: float) -> bool:
        """Wait so long, or until the end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self.over.wait()
        return self.over.is_set()


async def attend(playwright: Playwright, seat: Seat, password: str, times: Times) -> None:
    """One witness from its browser's start to its leaving."""
    witness = Witness(seat, password)
    try:
        async with witness.opened(playwright):
            say({"is": "ready", "witness": seat.number})
            if not await times.passed(seat.join_after_s):
                return
            await witness.join()
            say({"is": "joined", "witness": seat.number, "at": time.time()})
            while not times.over.is_set():
                say({"is": "look", "witness": seat.number, "at": time.time(), **await witness.look()})
                await times.ended_within(LOOK_S)
            await witness.leave()
            say({"is": "left", "witness": seat.number})
    except (BrowserError, OSError, ValueError) as problem:
        first = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        say({"is": "problem", "witness": seat.number, "why": first[:300]})


async def main() -> None:
    """All witnesses of one order."""
    lines = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    order = Order.model_validate_json(await lines.readline())
    times = Times()
    async with async_playwright() as playwright:
        told = asyncio.create_task(times.follow(lines))
        await asyncio.gather(*(attend(playwright, seat, order.password, times) for seat in order.seats))
        told.cancel()


if __name__ == "__main__":
    asyncio.run(main())
