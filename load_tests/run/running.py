"""A server that somebody else started and filled: reached by its address, known by its own answers alone."""

from __future__ import annotations

import contextlib
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

import aiohttp

from load_tests.plan.behaviour import Behaviour
from load_tests.plan.reading import Exit, RunError
from load_tests.report.histogram import Histogram
from load_tests.report.ledger import Ledger
from load_tests.run.lags import LoopLags
from load_tests.run.node import is_ready, read_metrics
from load_tests.session.office import HttpRefused, Office
from load_tests.session.world import World, WorldNeeds, lacking

SILENT_S: Final = 20.0
"""A server that is not ready for so long has died."""
ANSWER_S: Final = 10.0
METRICS_S: Final = 2.0
UNREADABLE: Final = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


class RunningServer:
    """One of somebody else's.

    Args:
        metrics_url: of its ``/metrics``; empty: its side is not looked at.
    """

    own = False

    def __init__(self, origin: str, world: World, metrics_url: str) -> None:
        self.origin, self.world = origin, world
        self.origins = [origin]
        self._metrics_url = metrics_url
        self.lags = LoopLags()
        self._answered_s = time.monotonic()
        self._http = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=ANSWER_S)
        )

    async def open(self, needs: WorldNeeds) -> None:
        """Look whether it is there, of our version, and has what the scenario needs.

        Raises:
            RunError: it is not.
        """
        if not await is_ready(self._http, self.origin):
            raise RunError(Exit.SERVER, f"No server is ready at {self.origin}.")
        theirs = await self._version()
        if theirs != version("consilium"):
            raise RunError(Exit.SERVER, f"The server is of version {theirs}, this program of {version('consilium')}.")
        if lack := lacking(self.world, needs):
            raise RunError(Exit.CREDENTIALS, f"The world file does not fit: {lack}.")
        office = Office(self._http, self.origin, self.world.consults[0], Ledger())
        try:
            await office.sign_in(Behaviour(who="doctor"), 0, self.world.password)
            await office.token()
        except HttpRefused as refusal:
            raise RunError(Exit.CREDENTIALS, f"The server does not know the world's accounts: {refusal}.") from None
        except UNREADABLE as problem:
            raise RunError(Exit.SERVER, f"{self.origin} does not answer: {_said(problem)}.") from None
        await self._check_metrics()

    async def _version(self) -> str:
        try:
            async with self._http.get(f"{self.origin}/api/config") as answer:
                return str((await answer.json(content_type=None))["version"])
        except (*UNREADABLE, KeyError, TypeError) as problem:
            said = f"What answers at {self.origin} is no Consilium server: {_said(problem)}."
            raise RunError(Exit.SERVER, said) from None

    async def _check_metrics(self) -> None:
        """Figures that were asked for and cannot be had are a mistake before the run, not a hole after it."""
        if not self._metrics_url:
            return
        try:
            found = await self._metrics()
        except UNREADABLE as problem:
            said = f"No figures of the server at {self._metrics_url}: {_said(problem)}."
            raise RunError(Exit.SERVER, said) from None
        if not found:
            raise RunError(Exit.SERVER, f"What {self._metrics_url} answers are no figures of a Consilium server.")

    async def trouble(self) -> str:
        """Why the run cannot go on, as a sentence; empty while it can."""
        if await is_ready(self._http, self.origin):
            self._answered_s = time.monotonic()
        silent_s = time.monotonic() - self._answered_s
        return f"The server has not answered for {silent_s:.0f} s." if silent_s > SILENT_S else ""

    async def sample(self) -> dict[str, float]:
        """Gauges, where their address was told."""
        if self._metrics_url:
            with contextlib.suppress(*UNREADABLE):
                return await self._metrics()
        return {}

    async def _metrics(self) -> dict[str, float]:
        async with self._http.get(self._metrics_url, timeout=aiohttp.ClientTimeout(total=METRICS_S)) as answer:
            text = await answer.text()
        return read_metrics(text) | self.lags.take(text)

    def take_lags(self) -> dict[str, Histogram]:
        """As of a server of our own."""
        return self.lags.pop()

    async def close(self) -> None:
        """Forget it."""
        await self._http.close()


def read_world(path: Path | None) -> World:
    """The accounts of such a server.

    Raises:
        RunError: no file was named, or it is none.
    """
    if path is None:
        raise RunError(Exit.ARGUMENTS, "--against needs --world: the accounts that the server was filled with.")
    try:
        return World.model_validate_json(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        first = str(problem).splitlines()[0]
        raise RunError(Exit.CREDENTIALS, f"{path} is no world file: {first}.") from None


def _said(problem: Exception) -> str:
    return str(problem) or type(problem).__name__
