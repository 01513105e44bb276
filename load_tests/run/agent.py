"""A generator: one process with as many sessions as its core carries, told what to do by a coordinator.

``python -m load_tests.run.agent --listen HOST:PORT`` with the key in ``CONSILIUM_LOAD_KEY`` serves one coordinator
after another on any machine; a run on one machine starts its own. It sends to loopback, and to the addresses that
``--target`` names, whatever a coordinator says. It stops when its coordinator is gone or the time of the run is over.

Once a second it reports what was counted since the last report, and how it fares itself: CPU share and how late its
timers fire, by which a run is judged valid or not. Lateness is counted over time, as the server's is (`lags`): a stall
of a second is late for all the moments that it covers, else nearly all moments of a generator that stands still now and
then would be good ones.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import functools
import gc
import os
import resource
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, Final

from load_tests.plan.reading import Exit
from load_tests.plan.scenario import Scenario
from load_tests.plan.timetable import Planned, files_each, files_for, timetable
from load_tests.report.histogram import Histogram, over_time
from load_tests.report.ledger import Ledger
from load_tests.rig.poller import Poller
from load_tests.run.limits import allowed_target, open_files, own_drops, raise_descriptors
from load_tests.run.link import HELLO_S, KEY_VARIABLE, Link, LinkLost, greet, read_key
from load_tests.session.engine import Engine, EngineUnavailable, load
from load_tests.session.hospital import HospitalSystem
from load_tests.session.participant import EXPECTED, Participant, Setting
from load_tests.session.wall import ahead_ns, set_ahead, wall_s
from load_tests.session.world import World

REPORT_S: Final = 1.0
LOOK_S: Final = 0.25
PROBE_S: Final = 0.02
GRACE_S: Final = 30.0
"""After the end of its run a generator waits so long for its coordinator, then stops by itself."""
FRESH_S: Final = 1.0
LEAVE_S: Final = 10.0
ORDER_S: Final = 1_200.0
"""A coordinator that has said who it is has so long to get its server ready."""
MOST_STUMBLES: Final = 20
STRANGERS: Final = 16
"""Connections at one time."""


class Generator:
    """One run's share of sessions."""

    def __init__(self, link: Link, allowed: frozenset[str]) -> None:
        self._link, self._allowed = link, allowed
        self._ledger = Ledger()
        self._sessions: dict[int, Participant | HospitalSystem] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._faults: set[asyncio.Task[None]] = set()
        """Of lines, under way."""
        self._curve: list[list[float]] = []
        self._cpu_s = time.process_time()
        self._drops = 0
        self._stumbles: set[str] = set()
        """Kinds of failure that were said."""
        self._engine: Engine | None = None
        self._end_s = float("inf")
        """On the event loop's clock: from then on what stops coming stops because people leave."""

    async def run(self, order: dict[str, Any]) -> None:
        """Play the sessions of an order until the coordinator says stop, or is gone, or the time is over."""
        scenario = Scenario.model_validate(order["scenario"])
        mine = set(order["numbers"])
        plans = [one for one in timetable(scenario) if one.number in mine]
        raise_descriptors(files_for(len(plans), files_each(plans)))
        set_ahead(order["ahead_s"])
        start_s = order["start_at"]
        limit_s = scenario.duration_s + max(0.0, start_s - wall_s()) + GRACE_S
        asyncio.get_running_loop().set_exception_handler(self._stumbled)
        poller = Poller()
        self._engine = begin_engine()
        gc.freeze()
        setting = Setting(
            origins=tuple(order["origins"]), spread=scenario.server.spread,
            world=World.model_validate(order["world"]), poller=poller, ledger=self._ledger,
            bind=order["bind"], allowed=self._allowed,
            hospitals=tuple(order["hospitals"]), engine=self._engine,
        )  # fmt: skip
        works = [
            asyncio.create_task(work)
            for work in (
                self._play(plans, setting, start_s, scenario.duration_s),
                self._probe(),
                self._look(),
                self._report(),
            )
        ]
        why = ""
        try:
            await self._until_told(works, limit_s)
        except Exception as problem:
            traceback.print_exc()
            why = in_words(problem)
        finally:
            try:
                await self._wind_up(works, why)
                await poller.close()
            finally:  # its thread must not outlive the sessions whose keys it has
                if self._engine is not None:
                    self._engine.close()
                    self._engine = None

    async def _wind_up(self, works: list[asyncio.Task[None]], why: str) -> None:
        """Let everybody leave, and say what was counted to the end."""
        for work in works[:1]:
            work.cancel()
        self._end_s = 0.0
        self._count_drops()  # of sockets that are closed nobody can tell any more
        await self._leave()
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        self._count_drops()
        with contextlib.suppress(LinkLost):
            await self._link.send({"is": "done", "why": why, **self._content()})

    def _stumbled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback or a task that nobody waits for has failed: counted, and said once of each kind."""
        problem = context.get("exception")
        if isinstance(problem, Exception) and not isinstance(problem, EXPECTED):
            kind = f"bug: {type(problem).__name__}: {problem}"[:160]
            self._ledger.error(kind)
            if kind in self._stumbles or len(self._stumbles) >= MOST_STUMBLES:
                return
            self._stumbles.add(kind)
        loop.default_exception_handler(context)

    async def _until_told(self, works: list[asyncio.Task[None]], limit_s: float) -> None:
        """Until the coordinator says stop, or is gone, or the time is over.

        Raises:
            Exception: what one of the works ended with: a generator that went on without it would report lies.
        """
        obeying = asyncio.create_task(self._obey())
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def ended(work: asyncio.Task[None]) -> None:
            if not work.cancelled() and (problem := work.exception()) is not None and not failed.done():
                failed.set_exception(problem)

        for work in works:
            work.add_done_callback(ended)
        try:
            await asyncio.wait((obeying, failed), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            if obeying.done():
                with contextlib.suppress(LinkLost):
                    obeying.result()
        finally:
            obeying.cancel()
            failed.cancel()

    async def _obey(self) -> None:
        """Orders while the run goes on; returns when told to stop."""
        while True:
            order = await self._link.receive()
            match order["do"]:
                case "stop":
                    return
                case "cut" | "loss":
                    met = [one for number in order["numbers"] if (one := self._sessions.get(number)) is not None]
                    task = asyncio.create_task(self._suffer(met, order["do"], order["share"], order["for_s"]))
                    self._faults.add(task)
                    task.add_done_callback(self._faults.discard)
                    await self._link.send({"is": "met", "sessions": len(met)})
                case "clock":
                    await self._link.send({"is": "clock", "asked": order["asked"], "mine": time.time()})

    async def _play(self, plans: list[Planned], setting: Setting, start_s: float, length_s: float) -> None:
        """Let each session come and go at its time."""
        loop = asyncio.get_running_loop()
        began_s = loop.time() + start_s - wall_s()
        self._end_s = min(self._end_s, began_s + length_s)
        for plan in plans:
            await asyncio.sleep(max(0.0, began_s + plan.at_s - loop.time()))
            kind = HospitalSystem if plan.behaviour.who == "hospital" else Participant
            session = self._sessions[plan.number] = kind(plan, setting)
            task = self._tasks[plan.number] = asyncio.create_task(session.run())
            leave_s = began_s + plan.until_s
            loop.call_at(leave_s, end_once, task)
            task.add_done_callback(functools.partial(self._ended, plan.number))

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        self._tasks.pop(number, None)
        self._sessions.pop(number, None)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._ledger.error(f"bug: {type(problem).__name__}: {problem}"[:160])

    async def _leave(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            end_once(task)
        if tasks:
            await asyncio.wait(tasks, timeout=LEAVE_S)

    async def _suffer(self, met: Sequence[Participant | HospitalSystem], what: str, share: float, for_s: float) -> None:
        """A fault of these lines, from its beginning to its end."""
        for session in met:
            if what == "cut":
                session.path.set_cut(True)
            else:
                session.path.set_loss(share)
        await asyncio.sleep(for_s)
        for session in met:
            if what == "cut":
                session.path.set_cut(False)
            else:
                session.path.set_loss(0.0)

    async def _probe(self) -> None:
        """How late timers fire here, of every moment that has one."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            due_s = max(due_s + PROBE_S, loop.time())
            await asyncio.sleep(due_s - loop.time())
            late = Histogram()
            late.add(max(0.0, loop.time() - due_s) * 1000)
            self._ledger.merge("generator_late_ms", over_time(late, PROBE_S * 1000))

    async def _look(self) -> None:
        """Four times a second: how many sessions have what they should have."""
        while True:
            await asyncio.sleep(LOOK_S)
            now_s = time.monotonic()
            joined = pictures = wanted = waves = waves_wanted = 0
            for session in self._sessions.values():
                if asyncio.get_running_loop().time() < self._end_s:
                    session.watch(now_s)
                joined += session.joined
                wants = session.plan.behaviour
                others = any(one["participant"] != session.view.you for one in session.view.producers.values())
                if wants.sees and (session.picture.had_s or others):
                    wanted += 1
                    pictures += now_s - session.picture.had_s < FRESH_S
                if wants.watches_ecg and (session.wave.had_s or session.view.waves):
                    waves_wanted += 1
                    waves += now_s - session.wave.had_s < FRESH_S
            self._curve.append([wall_s(), len(self._sessions), joined, pictures, wanted, waves, waves_wanted])

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            if int(time.monotonic()) % 5 == 0:
                self._count_drops()
            try:
                await self._link.send({"is": "report", **self._content()})
            except LinkLost:
                return

    def _content(self) -> dict[str, Any]:
        if self._engine is not None:
            self._engine.settle(self._ledger)
            if (late := self._ledger.distributions.get("generator_play_late_ms")) is not None:
                self._ledger.distributions["generator_play_late_ms"] = over_time(late, PROBE_S * 1000)
        cpu_s, self._cpu_s = self._cpu_s, time.process_time()
        curve, self._curve = self._curve, []
        return {
            "at": wall_s(), "ledger": self._ledger.take(), "curve": curve, "cpu_s": self._cpu_s - cpu_s,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "sessions": len(self._sessions),
            "plays": "Python" if self._engine is None else "C",
        }  # fmt: skip

    def _count_drops(self) -> None:
        now = own_drops()
        if now > self._drops:
            self._ledger.count("own_drops", now - self._drops)
        self._drops = now


def in_words(problem: Exception) -> str:
    """A failure of our own, for the coordinator."""
    return f"{type(problem).__name__}: {problem}"[:300]


def begin_engine() -> Engine | None:
    """The C side, playing; None where it was not built or is not wanted.

    Raises:
        EngineUnavailable: it was asked for.
    """
    found = load()
    if found is None:
        return None
    engine = Engine(*found, ahead_ns=ahead_ns())
    engine.start()
    return engine


def end_once(task: asyncio.Task[None]) -> None:
    """Let a session leave; one that is leaving already is not disturbed."""
    if not task.cancelling():
        task.cancel()


async def serve(listen: str, key: bytes, allowed: frozenset[str], *, once: bool) -> int:
    """Take coordinators, one at a time; with ``once`` only one."""
    host, _, port = listen.rpartition(":")
    busy = asyncio.Lock()
    ended = asyncio.Event()

    connected = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        if connected >= STRANGERS:
            writer.close()
            return
        connected += 1
        try:
            link = await greet(reader, writer, key, coordinator=False)
            await _one_run(link, busy, allowed)
        except (LinkLost, TimeoutError):
            writer.close()
            return
        finally:
            connected -= 1
        if once:
            ended.set()

    server = await asyncio.start_server(take, host, int(port))
    print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        if not once:
            await asyncio.Event().wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(24 * 3600):
                await ended.wait()
    return Exit.OK


async def _one_run(link: Link, busy: asyncio.Lock, allowed: frozenset[str]) -> None:
    try:
        async with asyncio.timeout(HELLO_S):
            order = await link.receive()
        async with asyncio.timeout(ORDER_S):
            while order["do"] == "clock":
                mine = {"asked": order["asked"], "mine": time.time(), "files": open_files()}
                await link.send({"is": "clock", **mine})
                order = await link.receive()
        if busy.locked():
            await link.send({"is": "refused", "why": "it is in another run"})
        elif not all([await allowed_target(one, allowed) for one in order["origins"]]):
            await link.send({"is": "refused", "why": "it may not send there; start it with --target"})
        else:
            async with busy:
                await Generator(link, allowed).run(order)
    except (LinkLost, TimeoutError):
        raise
    except (OSError, EngineUnavailable) as problem:
        await link.send({"is": "refused", "why": str(problem)})
    except Exception as problem:
        traceback.print_exc()
        await link.send({"is": "failed", "why": in_words(problem)})
    finally:
        await link.close()


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Play sessions for the coordinator of a load run.")
    parser.add_argument("--listen", default="127.0.0.1:0", help="HOST:PORT; port 0: any, told on the first line")
    parser.add_argument("--target", action="append", default=[], help="address that may be sent to besides loopback")
    parser.add_argument("--once", action="store_true", help="end after one run")
    chosen = parser.parse_args()
    try:
        key = read_key(os.environ.get(KEY_VARIABLE, ""))
    except ValueError as problem:
        print(f"{KEY_VARIABLE}: {problem}.", file=sys.stderr)
        return Exit.ARGUMENTS
    faulthandler.enable()  # what ends a process without a word says where
    raise_descriptors()
    try:
        return asyncio.run(serve(chosen.listen, key, frozenset(chosen.target), once=chosen.once))
    except (OSError, ValueError) as problem:
        print(f"Cannot listen on {chosen.listen}: {problem}.", file=sys.stderr)
        return Exit.ARGUMENTS
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
