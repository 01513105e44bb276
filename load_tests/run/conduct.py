"""One run from beginning to end: a server, generators, the timetable, faults at their times, and what was measured.

The coordinator plays no session. It keeps the time, breaks what the scenario says shall break, looks at the server
once a second, adds up what generators report, and tells the person who waits. Ctrl-C ends the run early; what was
measured until then is kept. A generator or a server that dies ends it too, with everything that came before.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from load_tests.plan.reading import Exit, RunError
from load_tests.plan.scenario import Scenario
from load_tests.plan.timetable import Planned, timetable
from load_tests.report.histogram import Histogram
from load_tests.report.ledger import Ledger
from load_tests.report.witness import Seen
from load_tests.run.crew import Hand, crew, order_of, share_out
from load_tests.run.faults import Breaker
from load_tests.run.hospitals import Hospitals, hospitals
from load_tests.run.inspect import ghosts
from load_tests.run.kept import Kept, check_kept
from load_tests.run.link import LinkLost
from load_tests.run.profile import profiles
from load_tests.run.stores import stock
from load_tests.run.subject import Choice, OwnServer, RunningServer, subject
from load_tests.run.witness import Witnesses, with_witnesses
from load_tests.session.world import needs_of

LEAD_S: Final = 1.0
"""From the order to the first session."""
SAMPLE_S: Final = 1.0
DONE_S: Final = 25.0
PROFILE_WRITES_S: Final = 8.0
"""What py-spy takes to begin and to write."""
MOST_CURVE = 100_000
PROGRESS_LINES: Final = 120
KEPT_EACH_SECOND: Final = ("forward_ms", "ecg_age_ms", "event_ms", "ack_ms", "generator_late_ms")
SILENT_S: Final = 10.0
"""A generator that has not reported for so long is lost."""


@dataclass
class Record:
    """Everything that was measured."""

    scenario: Scenario
    planned: list[Planned]
    started_s: float = 0.0
    """Wall clock when the timetable began."""
    ended_s: float = 0.0
    interrupted: bool = False
    broken: str = ""
    """Why the run could not go on, as a sentence."""
    totals: Ledger = field(default_factory=Ledger)
    """Of the measured time; the join figures of the whole run."""
    seconds: dict[int, dict[str, Histogram]] = field(default_factory=dict)
    """Some distributions of each second of the run."""
    counts: dict[int, dict[str, int]] = field(default_factory=dict)
    """Counts of each second."""
    curve: list[list[float]] = field(default_factory=list)
    """``[s, sessions, joined, pictures, wanted, waves, wanted]`` of each look of each generator."""
    server: list[dict[str, float]] = field(default_factory=list)
    """Samples, each with ``t``, seconds since the beginning."""
    faults: list[tuple[float, str]] = field(default_factory=list)
    hands: list[Hand] = field(default_factory=list)
    own_server: bool = True
    notes: list[str] = field(default_factory=list)
    """What the reader of the figures must know besides."""
    stores: dict[str, float] = field(default_factory=dict)
    """By how much database, archive and redis's counts grew (`stores`); empty where the server is not ours."""
    lock_mismatch: int | None = None
    """Messages through the lock that are not where they should be, exactly once and in order; None: nobody looked."""
    profiles: dict[str, str] = field(default_factory=dict)
    """Folded stacks by process, where they were asked for; see ``run.profile``."""
    profiled_s: float = 0.0
    witnesses: Sequence[Seen] = ()
    """What real browsers saw; never in `totals`."""
    log: str = ""
    """The end of what a server of our own said."""
    kept: Kept | None = None
    """What the server's data folder held afterwards; None: it was not ours to look into."""
    ghosts: int | None = None
    """Participants that consults still had when everybody had left; None: nobody looked."""

    @property
    def length_s(self) -> float:
        """Of the run as it was."""
        return max(0.001, self.ended_s - self.started_s)

    def measured(self, at_s: float) -> bool:
        """Warming up is over at a moment of the run."""
        return at_s >= self.scenario.measure_from_s


A = TypeVar("A")
B = TypeVar("B")
Tell = Callable[[str], None]


class Conductor:
    """One run."""

    def __init__(self, scenario: Scenario, tell: Tell, stop: asyncio.Event, witnesses: int = 0) -> None:
        self.record = Record(scenario, timetable(scenario))
        self._witnesses = Witnesses(witnesses, scenario, self.record.planned, tell)
        self.record.witnesses = self._witnesses.seen
        self._tell, self._stop = tell, stop
        self._server: OwnServer | RunningServer
        self._hospitals: Hospitals
        self._listening: list[asyncio.Task[None]] = []

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
        async with contextlib.AsyncExitStack() as stack:
            needs = needs_of(scenario)
            world = with_witnesses(needs, len(record.witnesses))
            server, hands = await _together(
                stack.enter_async_context(subject(choice, world, scenario)),
                stack.enter_async_context(crew(processes, agents, len(record.planned))),
            )
            self._server, record.hands, record.own_server = server, hands, server.own
            beside = server.data_dir if isinstance(server, OwnServer) else Path()
            self._hospitals = await stack.enter_async_context(
                hospitals(scenario.hospitals, server.origin, beside, server.world)
            )
            share_out([one.number for one in record.planned], hands)
            before = await stock(server) if isinstance(server, OwnServer) else {}
            stack.push_async_callback(self._witnesses.close)
            await self._witnesses.open(server.origins, server.world, needs)
            record.started_s = time.time() + LEAD_S
            await self._witnesses.begin(record.started_s)
            shared = {
                "scenario": scenario.model_dump(mode="json"), "origins": server.origins, "bind": bind,
                "world": server.world.model_dump(mode="json"), "hospitals": self._hospitals.ports,
            }  # fmt: skip
            for hand in hands:
                await hand.link.send(order_of(hand, shared, record.started_s))
            self._listening = [asyncio.create_task(self._listen(hand)) for hand in hands]
            try:
                await self._keep_time(profile=choice.profile)
            finally:
                record.ended_s = max(record.started_s, time.time())
                await asyncio.gather(self._witnesses.close(), self._end())
            if not record.broken:
                if isinstance(server, OwnServer):
                    after = await stock(server)
                    record.stores = {name: value - before.get(name, 0.0) for name, value in after.items()}
                record.lock_mismatch = await self._hospitals.audit(record.totals)
                record.ghosts = await ghosts(server.origin, server.world, scenario.consults.count)
            if isinstance(server, OwnServer):
                await server.stop()
                record.log = server.log_end()
                names = [one.id for one in server.world.consults]
                totals = record.totals
                record.kept = await check_kept(server.data_dir, server.environment, names, totals.acks, totals.waves)
        self._count_turns()
        return record

    async def _keep_time(self, *, profile: bool) -> None:
        """Until the end of the scenario, or of patience."""
        besides = [self._profile()] if profile else []
        works = [asyncio.create_task(work) for work in (self._sample(), self._break(), self._progress(), *besides)]
        ends = (self._stop.wait(), self._whole_time(), self._all_gone(), self._server_gone())
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
                async with asyncio.timeout(SILENT_S + DONE_S):
                    self._take(hand, await hand.link.receive())
        except (LinkLost, TimeoutError) as problem:
            hand.lost = await hand.last_word(problem)
            self.record.broken = self.record.broken or f"The generator {hand.name} was lost: {hand.lost}."

    def _take(self, hand: Hand, message: dict[str, Any]) -> None:
        match message["is"]:
            case "refused":
                hand.done, hand.lost = True, message["why"]
                self.record.broken = f"The generator {hand.name} declined: {message['why']}."
            case "failed":
                self._failed(hand, message["why"])
            case "report" | "done":
                hand.done = message["is"] == "done"
                if message.get("why"):
                    self._failed(hand, message["why"])
                self._add(hand, message)

    def _failed(self, hand: Hand, why: str) -> None:
        hand.done, hand.lost = True, why
        self.record.broken = f"The generator {hand.name} failed: {why}."

    def _add(self, hand: Hand, report: dict[str, Any]) -> None:
        record = self.record
        at_s = report["at"] - hand.clock_off_s - record.started_s
        if hand.reported_s and at_s > hand.reported_s:
            hand.cpu.append(report["cpu_s"] / max(0.2, at_s - hand.reported_s))
        hand.reported_s, hand.rss_mb = at_s, report["rss_mb"]
        ledger = report["ledger"]
        own = {name: value for name, value in ledger["distributions"].items() if name.startswith("generator_")}
        counted = {name: ledger["counts"].get(name, 0) for name in ("send_failed", "own_drops", "rtp_out")}
        hand.counts.absorb({**_nothing(), "distributions": own, "counts": counted})
        second = self.record.seconds.setdefault(max(0, int(at_s)), {})
        for name in KEPT_EACH_SECOND:
            if name in ledger["distributions"]:
                second.setdefault(name, Histogram()).merge(Histogram.decode(ledger["distributions"][name]))
        counts = record.counts.setdefault(max(0, int(at_s)), {})
        for name, times in ledger["counts"].items():
            counts[name] = counts.get(name, 0) + times
        if not record.measured(at_s):
            ledger = _only_joins(ledger)
        record.totals.absorb(ledger)
        for look in report["curve"]:
            if len(record.curve) < MOST_CURVE:
                record.curve.append([look[0] - hand.clock_off_s - record.started_s, *look[1:]])

    def _count_turns(self) -> None:
        """How long the last participant took to hear of each page turn."""
        for asked_s, heard_s, _many in self.record.totals.last_heard.values():
            self.record.totals.add("event_last_ms", (heard_s - asked_s) * 1000)

    # ------------------------------------------------------------- server and faults

    async def _sample(self) -> None:
        due_s = time.monotonic()
        while True:
            due_s += SAMPLE_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            found = await self._server.sample() | self._hospitals.sample(self.record.totals)
            at_s = time.time() - self.record.started_s
            if found:
                self.record.server.append({"t": round(at_s, 2), **found})
            lags = self._server.take_lags()
            if self.record.measured(at_s):
                for figure, seen in lags.items():
                    self.record.totals.distributions.setdefault(figure, Histogram()).merge(seen)

    async def _break(self) -> None:
        """The faults of the scenario, at their times."""
        record = self.record
        breaker = Breaker(self._server, record.hands, [one.number for one in record.planned], record.scenario.seed)
        for fault in sorted(self.record.scenario.fault, key=lambda one: one.at_s):
            await asyncio.sleep(max(0.0, self.record.started_s + fault.at_s - time.time()))
            began = (time.time() - self.record.started_s, fault.kind)
            self.record.faults.append(began)
            self._tell(f"fault: {fault.kind}")
            if fault.kind == "cut_lock":
                await self._hospitals.cut(fault.for_s, record.totals)
                continue
            problem = await breaker.carry_out(fault)
            if problem:
                self._tell(problem)
                self.record.notes.append(problem)
                self.record.faults.remove(began)

    # ------------------------------------------------------------- progress

    async def _progress(self) -> None:
        while True:
            await asyncio.sleep(max(1.0, min(10.0, self.record.scenario.duration_s / PROGRESS_LINES)))
            self._tell(self._line())

    def _line(self) -> str:
        record = self.record
        recent = record.curve[-len(record.hands) :] if record.curve else []
        sessions, joined = (int(sum(look[index] for look in recent)) for index in (1, 2))
        totals, server = record.totals, record.server[-1] if record.server else {}
        last = max(record.counts, default=0)
        packets = record.counts.get(last - 1, {}).get("rtp_in", 0)
        parts = [
            f"{time.time() - record.started_s:6.1f} s", f"{joined}/{sessions} joined",
            f"{totals.counts['joins_done']} complete",
            f"{totals.counts['tracks_received']}/{totals.counts['tracks_expected']} tracks", f"{packets} packets/s in",
        ]  # fmt: skip
        if "server_cpu" in server:
            parts.append(f"server {server['server_cpu'] + server.get('worker_cpu', 0):.2f} cores")
        parts.append(f"generators {sum(hand.cpu[-1] for hand in record.hands if hand.cpu):.2f} cores")
        if totals.counts["errors"]:
            parts.append(f"{totals.counts['errors']} errors")
        return ", ".join(parts)


async def _together(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Both results; both have ended before the problem of one is raised, so nothing is left half begun."""
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(other, BaseException):
        raise other
    return one, other


def _nothing() -> dict[str, Any]:
    return {"distributions": {}, "counts": {}, "errors": {}, "events": [], "events_left_out": 0, "last_heard": {}}


def _only_joins(ledger: dict[str, Any]) -> dict[str, Any]:
    """Of a report from the warming up: joins and what went wrong count, speeds do not."""
    kept = ("joins_tried", "joins_done", "errors", "tracks_expected", "tracks_received", "refused", "lock_taken",
            "lock_unsure")  # fmt: skip
    return {
        **ledger, "last_heard": {},
        "distributions": {name: one for name, one in ledger["distributions"].items() if name.startswith("join_")},
        "counts": {name: times for name, times in ledger["counts"].items() if name in kept},
    }  # fmt: skip
