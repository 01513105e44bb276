"""The witnesses of a run as its coordinator sees them: real browsers in a process of their own (`witness_process`).

They are doctors besides those of the scenario, spread over its consults, and join when everybody else of their consult
has come. They are started before the run, so that their start costs it nothing, and leave before the sessions do. What
keeps one from taking part is said in the report; it ends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from load_tests.plan.scenario import Scenario
from load_tests.plan.timetable import Planned
from load_tests.report.witness import Seen
from load_tests.session.world import World, WorldNeeds

MOST: Final = 8
READY_S: Final = 90.0
END_S: Final = 20.0
AFTER_S: Final = 2.0
"""After the last of its consult."""
ENTERING_S: Final = 10.0
"""What browsers take to join, to start their decoders and to become quiet: before that nothing is measured."""
NICE: Final = 10
"""They give way to server and generators, which would otherwise be measured while they wait for a browser."""
LINE_BYTES: Final = 1 << 22
PROGRAM: Final = (sys.executable, "-m", "load_tests.run.witness_process")


def with_witnesses(needs: WorldNeeds, witnesses: int) -> WorldNeeds:
    """A world with accounts for them too."""
    each = -(-witnesses // needs.consults)
    return needs.model_copy(update={"each": needs.each.model_copy(update={"doctors": needs.each.doctors + each})})


def warmed_up(scenario: Scenario, planned: Sequence[Planned], witnesses: int) -> tuple[Scenario, tuple[float, float]]:
    """With witnesses the warming up lasts until they are in, if the run is long enough for that.

    Gives the scenario, and the seconds of the run in which they enter: after the last session has come, and before
    anything is measured. What a browser's start costs the generators in these says nothing of any figure.
    """
    if not witnesses:
        return scenario, (0.0, 0.0)
    from_s = max((one.at_s for one in planned), default=0.0) + AFTER_S
    until_s = max(scenario.measure_from_s, from_s + ENTERING_S)
    if until_s >= scenario.duration_s:
        return scenario, (0.0, 0.0)
    return scenario.model_copy(update={"measure_from_s": until_s}), (from_s, until_s)


class Witnesses:
    """All of one run.

    Args:
        count: 0: there are none.
        needs: without them; their accounts are those after.
    """

    def __init__(self, count: int, scenario: Scenario, planned: Sequence[Planned], tell: Callable[[str], None]) -> None:
        consults = scenario.consults.count
        self.seen = [
            Seen(f"chromium-{number}", str(number % consults), scenario.measure_from_s) for number in range(count)
        ]
        self._consults, self._planned, self._tell = consults, planned, tell
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._start_s = 0.0

    async def open(
        self, origins: Sequence[str], world: World, needs: WorldNeeds, program: Sequence[str] = PROGRAM
    ) -> None:
        """Start the browsers and bring them to the doors of their consults; returns when all are there or have failed.

        What goes wrong is a problem of the witnesses: it raises nothing.
        """
        if not self.seen:
            return
        seats = [self._seat(number, origins, world, needs) for number in range(len(self.seen))]
        self._process = await asyncio.create_subprocess_exec(
            *program, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, limit=LINE_BYTES, start_new_session=True, preexec_fn=_give_way,
        )  # fmt: skip
        self._listening = asyncio.create_task(self._listen())
        await self._say({"password": world.password, "seats": seats})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                while not all(one.ready or one.problem for one in self.seen):
                    self._changed.clear()
                    await self._changed.wait()

    async def begin(self, start_s: float) -> None:
        """The run begins, at this wall clock."""
        self._start_s = start_s
        for one in self.seen:
            if not one.ready:
                self._fail(one, "it was not ready in time")
        await self._say(start_s)

    async def close(self) -> None:
        """Let them leave, and end their process; idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        if self._listening is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await self._listening
        for one in self.seen:
            if not one.joined:
                self._fail(one, "the run ended before it joined")

    def _seat(self, number: int, origins: Sequence[str], world: World, needs: WorldNeeds) -> dict[str, Any]:
        consult = number % self._consults
        secrets = world.consults[consult]
        login = secrets.doctors[needs.each.doctors + number // self._consults]
        self.seen[number].consult = secrets.id
        last_s = max((one.at_s for one in self._planned if one.consult == consult), default=0.0)
        return {
            "number": number, "origin": origins[number % len(origins)], "consult": secrets.id, "login": login,
            "cookie": secrets.cookies.get(login, ""), "join_after_s": last_s + AFTER_S,
        }  # fmt: skip

    async def _say(self, what: object) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(json.dumps(what).encode() + b"\n")
                await self._process.stdin.drain()

    async def _listen(self) -> None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        assert process.stderr is not None
        errors = asyncio.create_task(process.stderr.read())
        try:
            while line := await process.stdout.readline():
                self._take(json.loads(line))
                self._changed.set()
        finally:
            words = (await errors).decode(errors="replace").strip().splitlines()[-1:] or ["its process ended"]
            for one in self.seen:
                if not one.left:
                    self._fail(one, words[0][:300])
            self._changed.set()

    def _take(self, told: dict[str, Any]) -> None:
        one = self.seen[told["witness"]]
        match told["is"]:
            case "ready":
                one.ready = True
            case "joined":
                one.joined = True
                self._tell(f"witness {one.name} joined {one.consult}")
            case "look":
                one.look(told["at"] - self._start_s, told)
            case "left":
                one.left = True
            case "problem":
                self._fail(one, told["why"])

    def _fail(self, one: Seen, why: str) -> None:
        if not one.problem:
            one.problem = why
            self._tell(f"witness {one.name}: {why}")


def _give_way() -> None:
    """A ``preexec_fn``. The end of its input ends the process when the run is gone, and its browsers with it."""
    os.nice(NICE)
    with contextlib.suppress(OSError):  # where the kernel weighs sessions, the number above counts inside this one only
        Path("/proc/self/autogroup").write_text(str(NICE), encoding="ascii")
