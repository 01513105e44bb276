"""Several processes that serve the same consults: each says that it lives, and looks who does not any more. [SE8]

The database is what they have in common; the bus may be away without anybody being taken for dead. Who could not write
to the database for so long is taken for dead by those who could, and finds out from its consults' events.
How long is long is judged in ``core/standing.py``, who had whom in ``core/seats.py``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from signaling.core.errors import Refusal
from signaling.core.ids import ConsultId
from signaling.core.ports import ConsultStore
from signaling.core.standing import Standing

log = logging.getLogger(__name__)

TakeOver = Callable[[ConsultId, Collection[str]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeTimes:
    """How often a process says that it lives and looks at the others, and after what silence it is dead."""

    alive_s: float = 1.5
    dead_s: float = 5.0
    store_s: float = 5.0


class Nodes:
    """The standing of all processes, as one of them sees it.

    Args:
        node: this process.
        take_over: called for each consult with the dead processes that have participants in it.
    """

    def __init__(self, store: ConsultStore, node: str, take_over: TakeOver, times: NodeTimes) -> None:
        self._store = store
        self._node = node
        self._take_over = take_over
        self._times = times
        self._standing = Standing(times.dead_s, times.alive_s)
        self._word = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Speak for the first time, before this process has anybody."""
        await self._speak()
        self._tasks = [asyncio.create_task(self._speak_forever()), asyncio.create_task(self._look_forever())]

    async def stop(self) -> None:
        """Say nothing more; idempotent. Whoever was here is soon another's, or may come back to it before."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _speak_forever(self) -> None:
        """In a task of its own: to take over many consults must not make this process look dead."""
        while True:
            await asyncio.sleep(self._times.alive_s)
            await self._speak()

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(self._times.alive_s)
            try:
                async with asyncio.timeout(self._times.store_s):
                    await self._look()
            except Exception as error:  # whatever the store's trouble is: the next look finds the same
                log.warning("standing not looked at", extra={"error": type(error).__name__})

    async def _speak(self) -> None:
        self._word += 1
        try:
            async with asyncio.timeout(self._times.store_s):
                await self._store.say_alive(self._node, self._word)
        except Exception as error:  # then it is silent, and the others may draw their conclusion
            log.warning("standing not said", extra={"error": type(error).__name__})

    async def _look(self) -> None:
        """Seats before words: a process speaks before it has anybody, so who is seen with a seat has spoken."""
        seated = await self._store.seated()
        words = {node: word for node, word in (await self._store.last_words()).items() if node != self._node}
        silent = self._standing.look(words, asyncio.get_running_loop().time())
        living = words.keys() - silent | {self._node}
        for consult, nodes in seated.items():
            if dead := nodes - living:
                await self._try_to_take(consult, dead)
        if over := silent - frozenset[str]().union(*seated.values()):
            await self._store.forget_nodes(over)

    async def _try_to_take(self, consult: ConsultId, dead: Collection[str]) -> None:
        try:
            await self._take_over(consult, dead)
        except Refusal as refusal:  # of one consult; another process was faster, or the next look will find it again
            log.info("not taken over", extra={"consult": consult, "code": refusal.code.value})
