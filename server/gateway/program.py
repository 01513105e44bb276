"""``consilium gateway run``: adapters inside, one connection out, the journal between.

Start: the folder for itself, policy, journal, then the line and the adapters. Stop is the reverse: sources are cut off
first, what is in the journal gets a few seconds to cross, the hub hears goodbye. An adapter that breaks is
started again and breaks nobody else. SIGHUP takes over an edited policy, if it is valid.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from server.clock import server_clock_us
from server.exits import Exit, StartError
from server.gateway.adapters.bugs import where
from server.gateway.asking import Asking
from server.gateway.config import Folder, GatewayConfig, journal_keys, load_config, load_policy
from server.gateway.core.crossing import Adapter, LockRefused
from server.gateway.core.policy import Policy
from server.gateway.delivery import Delivery
from server.gateway.identity import Identity, load_identity
from server.gateway.inside import Inside
from server.gateway.journal import Journal
from server.gateway.link import Link, Timing
from server.gateway.outlet import JournalOutlet
from server.gateway.sentences import sentence
from server.lifecycle import stop_signals

log = structlog.get_logger(__name__)

STATUS_S = 2.0
DRAIN_S = 5.0
STOP_S = 5.0
ADAPTER_PAUSE_S, ADAPTER_LONGEST_S = 1.0, 60.0
MakeInside = Callable[[GatewayConfig, Folder], Inside]


@dataclass(slots=True)
class _Policies:
    """The policy in force."""

    present: Policy

    def __call__(self) -> Policy:
        return self.present


class Gateway:
    """One gateway, put together.

    Args:
        inside: what runs in the hospital.
        timing: clocks; tests bring their own.
    """

    def __init__(self, folder: Folder, inside: Inside, timing: Timing | None = None) -> None:
        """Read everything that can be wrong.

        Raises:
            StartError: with what to do.
        """
        inside.check()
        config = load_config(folder)
        self.folder, self.inside = folder, inside
        self.identity: Identity = load_identity(folder)
        self.identity.tls()
        self.timing = timing or Timing(now_us=server_clock_us())
        self._policies = _Policies(load_policy(folder))
        keys = journal_keys(folder)
        self.journal = Journal(
            folder.path, keys, config.journal.limits, self.timing.now_us,
            lambda source, crossing: self._policies().still_names(source, crossing),
        )  # fmt: skip
        asking = Asking(self.journal, keys, inside.responder, self._policies, self.timing.now_us)
        self.link = Link(
            self.identity, self.journal, asking, self._policies, self.timing, proxy=config.hub.proxy,
            changed=lambda: self._changed.set(),
        )  # fmt: skip
        self._delivery = Delivery(self.journal, inside.inlets, self._policies, self.timing.sleep)
        self._changed = asyncio.Event()

    def outlet(self, source: str) -> JournalOutlet:
        """The way out of one adapter."""
        return JournalOutlet(source, self.journal, self._policies, self.timing.now_us)

    def reload(self) -> bool:
        """Take over an edited policy; one that is wrong is told and the present one stays."""
        try:
            self._policies.present = load_policy(self.folder)
        except StartError as problem:
            log.error("policy not taken over", problem=str(problem))
            return False
        log.info("policy taken over", fingerprint=self._policies.present.fingerprint)
        return True

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; then cut sources off, drain, say goodbye.

        Raises:
            StartError: the journal cannot be used.
        """
        try:
            level = await self.journal.start(self.identity.gateway)
        except LockRefused as refused:
            raise StartError(Exit.DATABASE, f"{self.folder.journal} cannot be used: {refused.reason}.") from None
        log.info("gateway runs", gateway=self.identity.gateway, hub=self.identity.origin, waiting=level.waiting)
        adapters = [self._task(self._keep_alive(one), f"adapter-{one.name}") for one in self.inside.adapters]
        line = [self._task(self.link.run(), "link"), self._task(self._delivery.run(), "delivery")]
        status = self._task(self._report(), "status")
        stopping = self._task(_until(stop), "stop")
        try:
            done, _pending = await asyncio.wait([*line, status, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
        finally:
            stopping.cancel()
            await _end(adapters)
            await self.link.drained(DRAIN_S)
            await _end([*line, status])
            if self.inside.responder is not None:
                await self.inside.responder.close()
            await self._write_status("stopped")
            await self.journal.close()

    def _task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return asyncio.create_task(work, name=name)

    async def _keep_alive(self, adapter: Adapter) -> None:
        """Run an adapter, and run it again when it breaks: one bad interface must not end the others."""
        pause_s, outlet = ADAPTER_PAUSE_S, self.outlet(adapter.name)
        while True:
            began = time.monotonic()
            try:
                await adapter.run(outlet)
                log.error("adapter ended by itself", adapter=adapter.name)
            except Exception as problem:  # whatever an adapter's libraries raise, it is told each time and tried again
                log.error("adapter broke", adapter=adapter.name, problem=type(problem).__name__, where=where(problem))
            if time.monotonic() - began > ADAPTER_LONGEST_S:
                pause_s = ADAPTER_PAUSE_S
            await self.timing.sleep(pause_s)
            pause_s = min(2 * pause_s, ADAPTER_LONGEST_S)

    async def _report(self) -> None:
        while True:
            self._changed.clear()
            await self._write_status(self.link.state.code)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATUS_S):
                    await self._changed.wait()
                    await asyncio.sleep(0.1)  # several changes of one moment are one status

    async def _write_status(self, code: str) -> None:
        state = self.link.state
        try:
            level = await self.journal.level()
        except LockRefused as refused:
            log.error(sentence("journal"), reason=refused.reason)
            return
        value = {
            "at_us": self.timing.now_us(), "pid": os.getpid(), "code": code, "reason": state.reason,
            "connected": state.connected and code != "stopped", "since_us": state.since_us,
            "attempts": state.attempts, "offset_us": state.offset_us, "policy": self._policies.present.fingerprint,
            "waiting": level.waiting, "waiting_bytes": level.waiting_bytes, "parked": level.parked,
            "inward_waiting": level.inward_waiting, "almost_full": self.journal.almost_full,
            "adapters": [one.name for one in self.inside.adapters],
        }  # fmt: skip
        draft = self.folder.status.with_suffix(".draft")
        try:
            draft.write_text(json.dumps(value), "utf-8")
            draft.rename(self.folder.status)
        except OSError as problem:
            log.warning("status not written", reason=problem.strerror)


def run_gateway(folder: Folder, make_inside: MakeInside) -> int:
    """Run until SIGINT or SIGTERM.

    Raises:
        StartError: with what to do.
    """
    with folder.only_one():
        asyncio.run(_run(folder, make_inside))
    return Exit.OK


async def _run(folder: Folder, make_inside: MakeInside) -> None:
    gateway = Gateway(folder, make_inside(load_config(folder), folder))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, gateway.reload)
    try:
        with stop_signals() as stop:
            await gateway.run(stop)
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_S)
