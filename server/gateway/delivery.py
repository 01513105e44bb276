"""What the hub sent, handed to the hospital's systems: in order for each inlet, until taken or refused for good.

It waits in the journal meanwhile, so neither a hospital system that is down nor a SIGKILL loses it. Its outcome
goes back through the journal too. An inlet whose system is down stands still alone; others go on.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import structlog

from server.gateway.adapters.bugs import where
from server.gateway.core.crossing import DeliveryFailed, Inlet, LockRefused
from server.gateway.core.policy import Policy
from server.gateway.journal import Journal, Stored

log = structlog.get_logger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LOOK_S = 5.0
TRIES = 10
"""Of a message at which an inlet's own code breaks; then it is refused, or those behind it would wait for ever."""
NO_INLET, INLET_BROKE = "no_inlet", "inlet_broke"
Sleep = Callable[[float], Awaitable[None]]


class Delivery:
    """One task for each inlet, and one for what none of them takes."""

    def __init__(
        self, journal: Journal, inlets: Sequence[Inlet], policy: Callable[[], Policy], sleep: Sleep = asyncio.sleep
    ) -> None:
        self._journal, self._inlets, self._policy, self._sleep = journal, inlets, policy, sleep
        taken = [kind for inlet in inlets for kind in inlet.kinds]
        assert len(taken) == len(set(taken)), "no two inlets share a kind"
        self._taken = frozenset(taken)
        self._broke: dict[int, int] = {}
        self._hints = [asyncio.Event() for _ in range(len(inlets) + 1)]

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._spread())
            for place, inlet in enumerate(self._inlets):
                group.create_task(self._serve(inlet, self._hints[place]), name=f"inlet-{inlet.name}")
            group.create_task(self._strays(self._hints[-1]))

    async def _spread(self) -> None:
        """One event of the journal wakes everybody."""
        while True:
            await self._journal.inward_event.wait()
            self._journal.inward_event.clear()
            for hint in self._hints:
                hint.set()

    async def _serve(self, inlet: Inlet, hint: asyncio.Event) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            hint.clear()
            try:
                stored = await self._journal.next_inward(inlet.kinds)
                if stored is None:
                    await _wait(hint)
                    continue
                await self._journal.delivered(stored, await self._hand_over(inlet, stored))
            except LockRefused as refused:
                log.error("the journal does not take an outcome", code_=refused.code.value)
                await self._sleep(pause_s)
            except _Later:
                await self._sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S

    async def _hand_over(self, inlet: Inlet, stored: Stored) -> str:
        """Empty when the hospital has it, else why it never will.

        Raises:
            _Later: not now.
        """
        crossing = stored.crossing
        try:
            self._policy().inward(crossing)
        except LockRefused as refused:
            await self._journal.note_refusal("in", "hub", crossing.kind, refused.code.value, refused.reason)
            return refused.code.value
        try:
            await inlet.deliver(crossing)
        except DeliveryFailed as failed:
            log.warning("not delivered", inlet=inlet.name, reason=failed.reason, again=failed.retry)
            if failed.retry:
                raise _Later from None
            await self._journal.note_refusal("in", "hub", crossing.kind, "delivery_failed", failed.reason)
            return failed.reason[:64] or "delivery_failed"
        except Exception as problem:  # an inlet's own mistake must not end the gateway
            return await self._broken(inlet, stored, problem)
        self._broke.pop(stored.id, None)
        return ""

    async def _broken(self, inlet: Inlet, stored: Stored, problem: Exception) -> str:
        tries = self._broke[stored.id] = self._broke.get(stored.id, 0) + 1
        log.error("inlet broke", inlet=inlet.name, tries=tries, problem=type(problem).__name__, where=where(problem))
        if tries < TRIES:
            raise _Later from None
        del self._broke[stored.id]
        await self._journal.note_refusal("in", "hub", stored.crossing.kind, INLET_BROKE, where(problem))
        return INLET_BROKE

    async def _strays(self, hint: asyncio.Event) -> None:
        while True:
            hint.clear()
            try:
                for kind in await self._journal.inward_kinds() - self._taken:
                    while (stored := await self._journal.next_inward([kind])) is not None:
                        await self._journal.note_refusal("in", "hub", kind, NO_INLET, "nothing here takes it")
                        await self._journal.delivered(stored, NO_INLET)
            except LockRefused as refused:
                log.error("the journal does not take an outcome", code_=refused.code.value)
            await _wait(hint)


class _Later(Exception):
    """The hospital's system does not take it now."""


async def _wait(hint: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOOK_S):
            await hint.wait()
