"""One run from beginning to end: a server, generators, the timetable, faults at their times, and what was measured.

The coordinator plays no session. It keeps the time, breaks what the scenario says shall break, looks at the server
once a second, adds up what generators report (`takings`), and tells the person who waits (`progress`). Ctrl-C ends the
run early, whatever it is at; what was measured until then is kept. A generator or a server that dies ends it too, with
everything that came before, and nothing that goes wrong after the last session costs what was measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from load_tests.plan.reading import Exit, RunError
from load_tests.plan.scenario import Fault, Scenario
from load_tests.plan.timetable import files_each, timetable
from load_tests.report.histogram import Histogram
from load_tests.report.record import Record
from load_tests.run import progress
from load_tests.run.crew import Hand, crew, order_of, share_out
from load_tests.run.faults import Breaker, NotDone
from load_tests.run.hospitals import Hospitals, hospitals
from load_tests.run.inspect import ghosts, inspector_of
from load_tests.run.kept import Kept, check_kept
from load_tests.run.link import LinkLost
from load_tests.run.machine import MachineLook
from load_tests.run.profile import profiles
from load_tests.run.running import RunningServer
from load_tests.run.stores import stock
from load_tests.run.subject import Choice, OwnServer, subject
from load_tests.run.takings import take_report
from load_tests.run.witness import Witnesses, warmed_up, with_witnesses
from load_tests.session.world import needs_of

LEAD_S: Final = 1.0
"""From the order to the first session."""
SAMPLE_S: Final = 1.0
LATE_S: Final = 0.5
"""A look at the server that begins so much late is counted: then the coordinator itself had no time."""
CLOCKS_S: Final = 5.0
"""Between two comparisons of clocks."""
DONE_S: Final = 25.0
PROFILE_WRITES_S: Final = 8.0
"""What py-spy takes to begin and to write."""
PROGRESS_LINES: Final = 120
SILENT_S: Final = 35.0
"""A generator that has not said anything for so long is lost."""
ENDED_EARLY: Final = "It was ended by hand before the first session came: nothing was measured."

A = TypeVar("A")
B = TypeVar("B")
Tell = Callable[[str], None]


class Conductor:
    """One run."""

    def __init__(self, scenario: Scenario, tell: Tell, stop: asyncio.Event, witnesses: int = 0) -> None:
        planned = timetable(scenario)
        scenario, entering = warmed_up(scenario, planned, witnesses)
        self.record = Record(scenario, planned, load_before=os.getloadavg()[0], entering=entering)
        self._witnesses = Witnesses(witnesses, scenario, planned, tell)
        self.record.witnesses = self._witnesses.seen
        self._tell, self._stop = tell, stop
        self._server: OwnServer | RunningServer
        self._hospitals: Hospitals
        self._listening: list[asyncio.Task[None]] = []
        self._before: dict[str, float] = {}
        """What was stored when the first session came."""
        self._failed = asyncio.Event()
        """A work of the coordinator itself has ended with an exception."""

    async def run(self, choice: Choice, processes: int, agents: list[str], bind: str) -> Record:
        """All of it.

        Raises:
            RunError: it could not begin.
        """
        record, scenario = self.record, self.record.scenario
        if scenario.hospitals and (choice.against or agents):
            raise RunError(Exit.ARGUMENTS, "Gateways stand beside a server and generators of the run's own.")
        self._tell(f"{scenario.name}: {scenario.about}")
        self._tell(f"preparing a server and {len(agents) or processes} generators for {len(record.planned)} sessions")
        try:
            async with contextlib.AsyncExitStack() as stack:
                if await self._unless_stopped(self._prepare(stack, choice, processes, agents)):
                    await self._play(choice, bind)
                    await self._look_back()
                else:
                    record.started_s = record.ended_s = time.time()
                    record.interrupted, record.hands = True, []
                    record.notes.append(ENDED_EARLY)
        except Exception as problem:
            if not record.started_s:
                raise
            traceback.print_exc()  # it must be mended; it must not cost what was measured
            record.ended_s = record.ended_s or time.time()
            record.broken = record.broken or f"The run itself failed: {type(problem).__name__}: {problem}."
        self._count_turns()
        return record

    async def _unless_stopped(self, preparing: Coroutine[Any, Any, None]) -> bool:
        """Whether something was done before anybody had enough; if not, all that it began is undone."""
        work, stopped = asyncio.create_task(preparing), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not self._stop.is_set():
                await work
            return not self._stop.is_set()
        finally:
            for task in (work, stopped):
                task.cancel()
            await asyncio.gather(work, stopped, return_exceptions=True)

    async def _prepare(
        self, stack: contextlib.AsyncExitStack, choice: Choice, processes: int, agents: list[str]
    ) -> None:
        """A server with its world, generators and witnesses, all ready to begin."""
        record, scenario = self.record, self.record.scenario
        needs = needs_of(scenario)
        world = with_witnesses(needs, len(record.witnesses))
        server, record.hands = await _together(
            stack.enter_async_context(subject(choice, world, scenario)),
            stack.enter_async_context(crew(processes, agents, len(record.planned), files_each(record.planned))),
        )
        self._server, record.own_server = server, server.own
        beside = server.data_dir if isinstance(server, OwnServer) else Path()
        self._hospitals = await stack.enter_async_context(
            hospitals(scenario.hospitals, server.origin, beside, server.world)
        )
        share_out([one.number for one in record.planned], record.hands)
        self._before = await stock(server) if isinstance(server, OwnServer) else {}
        stack.push_async_callback(self._witnesses.close)
        await self._witnesses.open(server.origins, server.world, needs)

    async def _play(self, choice: Choice, bind: str) -> None:
        """The timetable, from the order to the generators until they have all reported."""
        record, server = self.record, self._server
        record.started_s = time.time() + LEAD_S
        await self._witnesses.begin(record.started_s)
        shared = {
            "scenario": record.scenario.model_dump(mode="json"), "origins": server.origins, "bind": bind,
            "world": server.world.model_dump(mode="json"), "hospitals": self._hospitals.ports,
        }  # fmt: skip
        for hand in record.hands:
            try:
                await hand.link.send(order_of(hand, shared, record.started_s))
            except LinkLost as problem:
                await self._lost(hand, problem)
        self._listening = [asyncio.create_task(self._listen(hand)) for hand in record.hands if not hand.lost]
        try:
            if not record.broken:
                await self._keep_time(profile=choice.profile)
        finally:
            record.ended_s = max(record.started_s, time.time())
            await asyncio.gather(self._witnesses.close(), self._end())

    async def _look_back(self) -> None:
        """What the run left behind; each look for itself, so that one which fails costs only itself."""
        record, server = self.record, self._server
        own = server if isinstance(server, OwnServer) else None
        if not record.broken:
            if own is not None:
                await self._look("What was stored", self._compare_stores(own))
            await self._look("What crossed the lock", self._audit())
            await self._look("Ghosts", self._count_ghosts())
        if own is not None:
            record.kept = Kept(problem="it was not looked at")
            await self._look("The server's end", own.stop())
            record.log = own.log_end()
            await self._look("The data folder", self._check_kept(own))

    async def _look(self, what: str, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as problem:
            traceback.print_exc()
            self.record.notes.append(f"{what} could not be looked at: {type(problem).__name__}: {problem}.")

    async def _compare_stores(self, server: OwnServer) -> None:
        after = await stock(server)
        self.record.stores = {name: value - self._before.get(name, 0.0) for name, value in after.items()}

    async def _audit(self) -> None:
        self.record.lock_mismatch = await self._hospitals.audit(self.record.totals)

    async def _count_ghosts(self) -> None:
        server, scenario = self._server, self.record.scenario
        inspector = inspector_of(needs_of(scenario))
        self.record.ghosts = await ghosts(server.origin, server.world, scenario.consults.count, inspector, self._stop)

    async def _check_kept(self, server: OwnServer) -> None:
        names, totals = [one.id for one in server.world.consults], self.record.totals
        self.record.kept = await check_kept(server.data_dir, server.environment, names, totals.acks, totals.waves)

    # ------------------------------------------------------------- time

    async def _keep_time(self, *, profile: bool) -> None:
        """Until the end of the scenario, or of patience, or of something without which it cannot go on."""
        besides = [self._profile()] if profile else []
        coroutines = (self._sample(), self._break(), self._progress(), self._compare_clocks(), *besides)
        works = [asyncio.create_task(work) for work in coroutines]
        for work in works:
            work.add_done_callback(self._ended)
        ends = (self._stop.wait(), self._whole_time(), self._all_gone(), self._server_gone(), self._failed.wait())
        waits = [asyncio.create_task(end) for end in ends]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            self.record.interrupted = self._stop.is_set()
        finally:
            for task in (*works, *waits):
                task.cancel()
            results = await asyncio.gather(*works, *waits, return_exceptions=True)
            problem = next((one for one in results if isinstance(one, Exception)), None)
            if problem is not None and not self.record.broken:
                self.record.broken = str(problem) or type(problem).__name__

    def _ended(self, work: asyncio.Task[None]) -> None:
        if not work.cancelled() and work.exception() is not None:
            self._failed.set()

    async def _profile(self) -> None:
        """Look at the server's processes from the end of warming up to the end of the run."""
        record = self.record
        await asyncio.sleep(max(0.0, record.started_s + record.scenario.measure_from_s - time.time()))
        seconds = record.started_s + record.scenario.duration_s - time.time() - PROFILE_WRITES_S
        if isinstance(self._server, OwnServer) and seconds > 1:
            record.profiled_s = seconds
            record.profiles = await profiles(self._server.processes(), seconds)
            record.notes.append("py-spy looked at the server while it ran, which slows it: not for comparisons.")

    async def _whole_time(self) -> None:
        await asyncio.sleep(max(0.0, self.record.started_s + self.record.scenario.duration_s - time.time()))

    async def _server_gone(self) -> None:
        """Until the server is no more, which was not our doing."""
        trouble = ""
        while not trouble:
            await asyncio.sleep(SAMPLE_S)
            trouble = await self._server.trouble()
        self.record.broken = self.record.broken or trouble

    async def _all_gone(self) -> None:
        await asyncio.wait(self._listening)

    async def _compare_clocks(self) -> None:
        """All times of a run are of clocks that nobody sets meanwhile: is that so?"""
        began_s = wall_ahead_s()
        while True:
            await asyncio.sleep(CLOCKS_S)
            self.record.clock_jump_s = max(self.record.clock_jump_s, abs(wall_ahead_s() - began_s))
            for hand in self.record.hands:
                with contextlib.suppress(LinkLost):
                    await hand.link.send({"do": "clock", "asked": time.time()})

    async def _end(self) -> None:
        for hand in self.record.hands:
            with contextlib.suppress(LinkLost):
                await hand.link.send({"do": "stop"})
        if self._listening:
            await asyncio.wait(self._listening, timeout=DONE_S)
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        for hand in self.record.hands:
            if not hand.done and not hand.lost:
                hand.lost = "it did not answer at the end"

    # ------------------------------------------------------------- generators

    async def _listen(self, hand: Hand) -> None:
        try:
            while not hand.done:
                async with asyncio.timeout(SILENT_S):
                    self._take(hand, await hand.link.receive())
        except (LinkLost, TimeoutError) as problem:
            await self._lost(hand, problem)

    async def _lost(self, hand: Hand, problem: Exception) -> None:
        hand.lost = await hand.last_word(problem)
        self.record.broken = self.record.broken or f"The generator {hand.name} was lost: {hand.lost}."

    def _take(self, hand: Hand, message: dict[str, Any]) -> None:
        match message["is"]:
            case "refused":
                hand.done, hand.lost = True, message["why"]
                self.record.broken = f"The generator {hand.name} declined: {message['why']}."
            case "failed":
                self._fails(hand, message["why"])
            case "clock":
                hand.take_clock(message["asked"], message["mine"], time.time())
            case "met":
                hand.met.put_nowait(message["sessions"])
            case "report" | "done":
                hand.done = message["is"] == "done"
                if message.get("why"):
                    self._fails(hand, message["why"])
                take_report(self.record, hand, message)

    def _fails(self, hand: Hand, why: str) -> None:
        hand.done, hand.lost = True, why
        self.record.broken = f"The generator {hand.name} failed: {why}."

    def _count_turns(self) -> None:
        """How long the last participant took to hear of each page turn."""
        for asked_s, heard_s, _many in self.record.totals.last_heard.values():
            self.record.totals.add("event_last_ms", (heard_s - asked_s) * 1000)

    # ------------------------------------------------------------- server and faults

    async def _sample(self) -> None:
        record, machine = self.record, MachineLook()
        due_s = time.monotonic()
        while True:
            due_s += SAMPLE_S
            wait_s = due_s - time.monotonic()
            await asyncio.sleep(max(0.0, wait_s))
            record.looks_late += wait_s > 0 and time.monotonic() - due_s > LATE_S
            found = await self._server.sample() | self._hospitals.sample(record.totals)
            at_s = time.time() - record.started_s
            if found:
                record.server.append({"t": round(at_s, 2), **found, **machine.look()})
            lags = self._server.take_lags()
            if record.measured(at_s):
                for figure, seen in lags.items():
                    record.totals.distributions.setdefault(figure, Histogram()).merge(seen)

    async def _break(self) -> None:
        """The faults of the scenario, at their times."""
        record = self.record
        breaker = Breaker(self._server, record.hands, [one.number for one in record.planned], record.scenario.seed)
        for fault in sorted(record.scenario.fault, key=lambda one: one.at_s):
            await asyncio.sleep(max(0.0, record.started_s + fault.at_s - time.time()))
            began = (time.time() - record.started_s, fault.kind)
            record.faults.append(began)
            self._tell(f"fault: {fault.kind}")
            try:
                proof = await self._carry_out(breaker, fault)
            except NotDone as reason:
                said = f"{fault.kind} was not done: {reason}."
                self._tell(said)
                record.notes.append(said)
                record.faults.remove(began)
            else:
                self._tell(f"  {proof}")
                record.proofs.append(proof)

    async def _carry_out(self, breaker: Breaker, fault: Fault) -> str:
        if fault.kind != "cut_lock":
            return await breaker.carry_out(fault)
        await self._hospitals.cut(fault.for_s, self.record.totals)
        return f"the lines of {len(self._hospitals.ports)} gateways passed nothing for {fault.for_s:g} s"

    async def _progress(self) -> None:
        while True:
            await asyncio.sleep(max(1.0, min(10.0, self.record.scenario.duration_s / PROGRESS_LINES)))
            self._tell(progress.line(self.record))


def wall_ahead_s() -> float:
    """The wall clock minus the monotonic one: only setting a clock changes it. The steadiest of some looks."""
    return sorted(time.time() - time.monotonic() for _ in range(5))[2]


async def _together(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Both results; both have ended before the problem of one is raised, so nothing is left half begun."""
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(other, BaseException):
        raise other
    return one, other
