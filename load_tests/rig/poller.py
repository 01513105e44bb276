"""One epoll for all sockets of the load generator, driven by asyncio or by a spinning loop.

Connections are made under asyncio (signalling and DTLS handshakes wait). While something
is measured the generator spins instead: it never sleeps, so that the relay pays no
wake-up of a receiver that in reality is another machine, and sends leave on time. Both
modes serve the same sockets and the same periodic chores (reports, feedback, consent),
so a transport does not notice which one runs. All peers of all relays are in one poller:
those that are not being measured stay alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
import select
import time
from collections.abc import Callable
from itertools import count

BATCH = 256
"""Most sockets served between two looks at the clock."""
ASYNCIO_CHORES_INTERVAL_S = 0.02


class Poller:
    """Sockets and chores; belongs to the running event loop until ``close``."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._chores: list[tuple[float, int, float, Callable[[], None], object]] = []
        self._numbers = count()
        self._random = random.Random(1)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self.serve)
        self._task = asyncio.create_task(self._keep_chores())

    async def close(self) -> None:
        """Stop serving; idempotent. Sockets belong to their peers."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def add(self, descriptor: int, reader: Callable[[], None]) -> None:
        """Call ``reader`` whenever the socket has something; it takes one message a call."""
        self._readers[descriptor] = reader
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """The socket is about to be closed."""
        del self._readers[descriptor]
        self._epoll.unregister(descriptor)

    def every(self, interval_s: float, chore: Callable[[], None], owner: object) -> None:
        """Call ``chore`` again and again, from a random moment of the first interval on."""
        first = time.monotonic() + self._random.random() * interval_s
        heapq.heappush(self._chores, (first, next(self._numbers), interval_s, chore, owner))

    def forget(self, owner: object) -> None:
        """Drop the chores of an owner; idempotent."""
        self._chores = [chore for chore in self._chores if chore[4] is not owner]
        heapq.heapify(self._chores)

    def serve(self) -> int:
        """Take one message from each socket that has one; how many that were."""
        events = self._epoll.poll(0, BATCH)
        readers = self._readers
        for descriptor, _ in events:
            reader = readers.get(descriptor)
            if reader is None:
                continue
            try:
                reader()
            except Exception as problem:
                self._failed(problem)
        return len(events)

    def do_chores(self, now: float) -> None:
        """Do what is due at a time of ``time.monotonic``."""
        chores = self._chores
        while chores and chores[0][0] <= now:
            due, number, interval_s, chore, owner = chores[0]
            # Behind by more than an interval: leave the missed ones out instead of doing them all at once.
            following = due + interval_s if due + interval_s > now else now + interval_s
            heapq.heapreplace(chores, (following, number, interval_s, chore, owner))
            try:
                chore()
            except Exception as problem:
                self._failed(problem)
            chores = self._chores  # one may have forgotten its owner's

    def drain(self, quiet_s: float = 0.01, limit_s: float = 0.5) -> None:
        """Serve until nothing has come for a while, within a limit."""
        began = last = time.monotonic()
        while (now := time.monotonic()) - last < quiet_s and now - began < limit_s:
            if self.serve():
                last = now

    def _failed(self, problem: Exception) -> None:
        """What goes wrong for one peer is told to the event loop, and is no reason to leave the others alone."""
        self._loop.call_exception_handler({"message": "work of a poller", "exception": problem})

    async def _keep_chores(self) -> None:
        while True:
            await asyncio.sleep(ASYNCIO_CHORES_INTERVAL_S)
            self.do_chores(time.monotonic())
