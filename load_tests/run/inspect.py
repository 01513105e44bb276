"""After a run: who is still in the consults that everybody has left? Each such participant is a ghost."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp

from load_tests.plan.behaviour import Behaviour
from load_tests.plan.line import Line
from load_tests.report.ledger import Ledger
from load_tests.session.office import Office
from load_tests.session.participant import EXPECTED
from load_tests.session.path import Path
from load_tests.session.signalling import Refused, Signalling
from load_tests.session.world import World

AT_ONCE: Final = 8
MOST_CONSULTS: Final = 64
EACH_S: Final = 40.0
FULL_PAUSE_S: Final = 1.0


class NotLooked(Exception):
    """A consult could not be looked at; the text says which and why."""


async def ghosts(origin: str, world: World, consults: int) -> int:
    """Participants besides the one who looks, over the first consults.

    Raises:
        NotLooked: one could not be looked at.
    """
    ledger, room = Ledger(), asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:

        async def one(number: int) -> int:
            async with room:
                try:
                    async with asyncio.timeout(EACH_S):
                        return await _when_let_in(http, origin, world, number, ledger)
                except EXPECTED as problem:
                    said = str(problem) or type(problem).__name__
                    raise NotLooked(f"{world.consults[number].id}: {said}") from None

        looks = [one(number) for number in range(min(consults, MOST_CONSULTS))]
        found = await asyncio.gather(*looks, return_exceptions=True)
    problem = next((each for each in found if isinstance(each, BaseException)), None)
    if problem is not None:
        raise problem
    return sum(each for each in found if isinstance(each, int))


async def _when_let_in(http: aiohttp.ClientSession, origin: str, world: World, number: int, ledger: Ledger) -> int:
    """A server that was full until just now lets nobody begin an empty consult for some seconds."""
    while True:
        try:
            return await _others(http, origin, world, number, ledger)
        except Refused as problem:
            if problem.code != "too_busy":
                raise
        await asyncio.sleep(FULL_PAUSE_S)


async def _others(http: aiohttp.ClientSession, origin: str, world: World, number: int, ledger: Ledger) -> int:
    office = Office(http, origin, world.consults[number], ledger)
    await office.sign_in(Behaviour(who="doctor"), 0, world.password)
    signalling = Signalling(http, origin, Path(Line(), "inspect", ledger), ledger)
    try:
        await signalling.open(await office.token(), lambda _event: None, lambda _signal: None)
        joined = await signalling.ask({"type": "join"})
        await signalling.ask({"type": "leave"})
        return len(joined["snapshot"]["participants"]) - 1
    finally:
        await signalling.close()
