"""Does a simulated session still say what the real client says? Both join one consult, and their commands are compared.

The simulation drifting from the client is the worst lie that a load test can tell: a server would be measured with
people who do not exist. Compared are the kinds of command, how often each is said by what there is to be had, the
fields of each kind, and that what builds on something comes behind it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgpack
from playwright.sync_api import Page, WebSocket

from load_tests.browsers.chromium import Visitor, wait_until
from load_tests.browsers.steps import join_from_prejoin
from load_tests.plan.behaviour import BEHAVIOURS
from load_tests.plan.line import Line
from load_tests.plan.timetable import Planned
from load_tests.report.ledger import Ledger
from load_tests.rig.poller import Poller
from load_tests.run.agent import begin_engine
from load_tests.session.office import SESSION_COOKIE
from load_tests.session.participant import Participant, Setting
from load_tests.session.signalling import Signalling
from load_tests.session.world import ConsultSecrets, World

WITHIN_S: Final = 100
TRIES: Final = 3
Command = Mapping[str, Any]

CASUAL: Final = frozenset({"view_consumer", "confirm_context", "report_ecg_state"})
"""How often these are said depends on what is on the page and when; that they are said does not."""
OPTIONAL: Final = {"produce": {"label"}, "produce_data": {"protocol"}}
"""Fields with a default that the simulation leaves out."""
BEHIND: Final = (
    ("create_transport", "connect_transport"), ("join", "create_transport"), ("create_transport", "produce"),
    ("create_transport", "consume"), ("consume", "resume_consumer"), ("consume_data", "resume_data_consumer"),
    ("consume", "view_consumer"), ("create_transport", "produce_data"),
)  # fmt: skip


class Overheard:
    """The commands of a page's Socket.IO session."""

    def __init__(self, page: Page) -> None:
        self.commands: list[Command] = []
        page.on("websocket", self._opened)

    def _opened(self, socket: WebSocket) -> None:
        if "/socket.io/" in socket.url:
            socket.on("framesent", self._sent)

    def _sent(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            packet = msgpack.unpackb(frame, strict_map_key=False)
            if packet.get("type") == 2 and packet["data"][0] == "command":
                self.commands.append(packet["data"][1])


def simulated_guest(origin: str, consult: str, patient: str, host_cookie: str) -> list[Command]:
    """The commands of a simulated guest until it has everything and its trace has been reported."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:  # Playwright's own loop runs in this thread
        return pool.submit(asyncio.run, _guest(origin, consult, patient, host_cookie)).result()


async def _guest(origin: str, consult: str, patient: str, host_cookie: str) -> list[Command]:
    secrets = ConsultSecrets(
        id=consult, patient=patient, identifiers=("", ""), doctors=("host",), partner_doctors=(), rooms=(), devices=(),
        screens=(), cookies={"host": host_cookie},
    )  # fmt: skip
    said: list[Command] = []
    ask = Signalling.ask

    async def overheard(self: Signalling, command: Command, *rest: Any) -> Any:
        said.append(command)
        return await ask(self, command, *rest)

    plan = Planned(0, 0, BEHAVIOURS["guest"], "guest", 0, Line(), 0, WITHIN_S)
    poller, engine = Poller(), begin_engine()
    try:
        Signalling.ask = overheard  # type: ignore[method-assign]
        world = World.model_construct(consults=(secrets,), password="")
        setting = Setting(
            origins=(origin,), world=world, poller=poller, ledger=Ledger(), engine=engine
        )  # fmt: skip
        session = asyncio.create_task(Participant(plan, setting).run())
        async with asyncio.timeout(WITHIN_S):
            while not _has_everything(said):
                await asyncio.sleep(0.1)
        session.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await session
    finally:
        Signalling.ask = ask  # type: ignore[method-assign]
        await poller.close()
        if engine is not None:
            engine.close()
    return said


def _has_everything(said: Sequence[Command]) -> bool:
    """The trace has been reported, and what was asked for meanwhile flows."""
    count = Counter(one["type"] for one in said)
    return count["report_ecg_state"] > 0 and count["consume"] == count["resume_consumer"]


def was_disturbed(said: Sequence[Command]) -> bool:
    """More than a join: on a machine that stood still, socket or media were given up and made anew, or caught up."""
    count = Counter(one["type"] for one in said)
    return count["join"] > 1 or count["create_transport"] > 2 or count["sync"] + count["restart_ice"] > 0


def differences(real: Sequence[Command], simulated: Sequence[Command]) -> list[str]:
    """In words; none where the simulation says what the client says."""
    found = []
    counts = [Counter(one["type"] for one in said if one["type"] != "leave") for said in (real, simulated)]
    for kind in sorted(counts[0].keys() ^ counts[1].keys()):
        found.append(f"only the {'client' if counts[0][kind] else 'simulation'} says {kind}")
    for kind in counts[0].keys() & counts[1].keys() - CASUAL - {"consume", "resume_consumer"}:
        if counts[0][kind] != counts[1][kind]:
            found.append(f"the client says {kind} {counts[0][kind]} times, the simulation {counts[1][kind]}")
    for who, said, count in zip(("client", "simulation"), (real, simulated), counts, strict=True):
        if count["consume"] != count["resume_consumer"]:
            found.append(f"the {who} resumes {count['resume_consumer']} of {count['consume']}")
        kinds = [one["type"] for one in said]
        for first, later in BEHIND:
            if first in kinds and later in kinds and kinds.index(first) > kinds.index(later):
                found.append(f"the {who} says {later} before {first}")
    for kind in sorted(counts[0].keys() & counts[1].keys()):
        fields = [{name for one in said if one["type"] == kind for name in one} for said in (real, simulated)]
        if fields[0] - OPTIONAL.get(kind, set()) != fields[1] - OPTIONAL.get(kind, set()):
            found.append(f"{kind}: only one of both says {sorted(fields[0] ^ fields[1])}")
    return found


def expect_same_commands(person: Visitor, overheard: Overheard, simulate: Callable[[], Sequence[Command]]) -> None:
    """The page says what the simulation says. A busy browser opens its camera long after it has joined: it has time.

    Where either was disturbed there is nothing to compare: the page is loaded anew, the simulation begins again.
    """
    page, found = person.page, list[str]()
    for _ in range(TRIES):
        simulated = simulate()

        def settled(simulated: Sequence[Command] = simulated) -> bool:
            found[:] = differences(overheard.commands, simulated)
            return not found or was_disturbed(overheard.commands) or was_disturbed(simulated)

        with contextlib.suppress(AssertionError):  # the differences say more
            wait_until(page, settled, "the same commands", timeout_ms=WITHIN_S * 1000)
        if not was_disturbed(overheard.commands) and not was_disturbed(simulated):
            break
        if was_disturbed(overheard.commands):
            page.reload()
            overheard.commands.clear()  # what the page before said until it went
            join_from_prejoin(person)
            expect_traced(page, overheard)
    assert not found, found


def expect_traced(page: Page, overheard: Overheard) -> None:
    """The page has said how the trace is there, which it does last."""
    wait_until(
        page, lambda: any(one["type"] == "report_ecg_state" for one in overheard.commands), "a trace's report"
    )  # fmt: skip


def host_cookie(cookies: Sequence[Mapping[str, Any]]) -> str:
    """The session of a page's context."""
    return str(next(one["value"] for one in cookies if one["name"] == SESSION_COOKIE))
