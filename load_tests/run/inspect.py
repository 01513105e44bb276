"""After a run: who is still in the consults that everybody has left? Each such participant is a ghost.

Who looks is a doctor that no session was (`inspector_of`): a server takes somebody who joins twice for one person, so
one who had taken part would put out his own ghost by looking. Whoever lost the socket without leaving stands in the
consult for the server's time of grace, as promised; so whoever is found is looked for again until that has passed. A
server that was full until just now lets nobody begin an empty consult for some seconds, and is asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from load_tests.plan.behaviour import Behaviour
from load_tests.plan.line import Line
from load_tests.report.ledger import Ledger
from load_tests.session.office import HttpRefused, Office
from load_tests.session.participant import EXPECTED
from load_tests.session.path import Path
from load_tests.session.signalling import Refused, Signalling
from load_tests.session.world import World, WorldNeeds

AT_ONCE: Final = 8
EACH_S: Final = 15.0
"""One look."""
AGAIN_S: Final = 1.0
"""Before a consult that could not be looked at is looked at again."""
LOOKING_S: Final = 60.0
"""All looks together, however many consults there are."""
PASSING: Final = frozenset({"too_busy", "too_many_attempts", "media_unavailable"})
"""Refusals that another moment may not have."""
GRACE_S: Final = 75.0
"""From the last leave: a lost socket is noticed within 10 s, and its participant may come back for 60 s. [SE4]"""
GRACE_LOOK_S: Final = 5.0
EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Ghosts:
    """What was found."""

    found: int
    """Participants who are left, in the consults that could be looked at."""
    looked_at: int
    """Consults."""
    consults: int
    """That there were to look at."""
    missed: str = ""
    """Which consults could not be looked at and why, as the end of a sentence; empty when all could."""


def inspector_of(needs: WorldNeeds) -> int:
    """Which of a consult's doctors looks for ghosts: the last of those that a scenario needs."""
    return needs.each.doctors - 1


async def ghosts(
    origin: str, world: World, consults: int, inspector: int, stop: asyncio.Event, *,
    looking_s: float = LOOKING_S, grace_s: float = GRACE_S,
) -> Ghosts:  # fmt: skip
    """Who is left in the first consults of a world; the last session has left just now.

    Args:
        inspector: number of the doctor who looks.
        stop: set: nobody wants to wait any more for those whose time of grace has not passed; they are counted.
        looking_s: longest time for a look at all.
        grace_s: who is there afterwards is a ghost.
    """
    until_s = time.monotonic() + grace_s
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        look = _Look(http, origin, world, inspector)
        await look.at(range(consults), looking_s)
        while look.haunted and time.monotonic() < until_s and not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_LOOK_S):
                    await stop.wait()
            await look.at(look.haunted, looking_s)
        return Ghosts(sum(look.left.values()), len(look.left), consults, look.missed())


class _Look:
    """All looks of one run."""

    def __init__(self, http: aiohttp.ClientSession, origin: str, world: World, inspector: int) -> None:
        self.left: dict[int, int] = {}
        """By consult: how many were there when it was last looked at."""
        self._http, self._origin, self._world, self._inspector = http, origin, world, inspector
        self._ledger, self._room = Ledger(), asyncio.Semaphore(AT_ONCE)
        self._why: dict[int, str] = {}

    @property
    def haunted(self) -> list[int]:
        """Consults in which somebody was."""
        return [number for number, left in self.left.items() if left]

    def missed(self) -> str:
        """Which were never looked at, by reason."""
        reasons = Counter(why for number, why in self._why.items() if number not in self.left)
        return "; ".join(f"{times} of them: {why}" for why, times in reasons.most_common(EXAMPLES))

    async def at(self, numbers: Sequence[int], within_s: float) -> None:
        """Look at each; again, while there is time, at those that could not be looked at."""
        until_s, waiting = time.monotonic() + within_s, list(numbers)
        while waiting:
            answers = await asyncio.gather(*(self._one(number, until_s) for number in waiting))
            waiting = [number for number, again in zip(waiting, answers, strict=True) if again]
            if time.monotonic() + AGAIN_S >= until_s:
                return
            await asyncio.sleep(AGAIN_S if waiting else 0)

    async def _one(self, number: int, until_s: float) -> bool:
        """One look; whether another may see more."""
        async with self._room:
            limit_s = until_s - time.monotonic()
            if limit_s <= 0:
                self._why.setdefault(number, "no time was left")
                return False
            try:
                async with asyncio.timeout(min(EACH_S, limit_s)):
                    self.left[number] = await self._others(number)
            except EXPECTED as problem:
                self._why[number] = f"{type(problem).__name__} {problem}".strip()[:80]
                return not isinstance(problem, Refused | HttpRefused) or problem.code in PASSING
            return False

    async def _others(self, number: int) -> int:
        office = Office(self._http, self._origin, self._world.consults[number], self._ledger)
        await office.sign_in(Behaviour(who="doctor"), self._inspector, self._world.password)
        path = Path(Line(), "inspect", self._ledger)
        signalling = Signalling(self._http, self._origin, path, self._ledger)
        try:
            await signalling.open(await office.token(), lambda _event: None, lambda _signal: None)
            joined = await signalling.ask({"type": "join"})
            await signalling.ask({"type": "leave"})
            return len(set(joined["snapshot"]["participants"]) - {joined["you"]})
        finally:
            await signalling.close()
