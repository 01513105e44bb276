"""What one session has yet to be told, bounded.

A browser on a bad line may stop reading for seconds. Signals (pointer, beat)
are worth nothing by then: a newer one replaces the pending one of the same
kind, and all of them go first when room is needed. Events and answers are never
dropped singly, because the client would act on a state that never was: when
they alone fill the outbox the session ends with ``too_slow`` and the client
comes back for a snapshot, so nothing is lost. [SE6]

Nearly always nothing is pending and the line has room: then a frame leaves in the
call that offers it. A task exists only while something waits.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class _Entry:
    frame: bytes
    key: str | None
    """Kind of a signal; None for what must arrive."""


class Outbox:
    """A queue of frames with one sender.

    Args:
        send_now: puts one frame on the wire if that needs no waiting; whether it did.
        send: puts one frame on the wire and returns when there is room for the next.
        limit: events and answers that may wait.
        overflowed: called once when more would have to wait; everything pending is then forgotten.
    """

    def __init__(
        self,
        send_now: Callable[[bytes], bool],
        send: Callable[[bytes], Awaitable[None]],
        limit: int,
        overflowed: Callable[[], None],
    ) -> None:
        self._send_now = send_now
        self._send = send
        self._limit = limit
        self._overflowed = overflowed
        self._entries: deque[_Entry] = deque()
        self._signals: dict[str, _Entry] = {}
        self._sender: asyncio.Task[None] | None = None
        """Works off the entries; None when there are none. One that failed stays: nothing may follow what was lost."""
        self._finished = False
        self.dropped_signals = 0

    def __len__(self) -> int:
        return len(self._entries)

    def offer(self, frame: bytes, key: str | None = None) -> None:
        """Take a frame without waiting; ``key`` marks a signal and says what it replaces."""
        if self._finished or (self._sender is None and self._send_now(frame)):
            return
        if key is not None:
            self._offer_signal(frame, key)
        elif len(self._entries) - len(self._signals) >= self._limit:
            self._entries.clear()
            self._signals.clear()
            self._overflowed()
        else:
            self._append(_Entry(frame, None))

    def finish(self, frame: bytes) -> None:
        """This is the last frame."""
        if self._finished:
            return
        self._finished = True
        if self._sender is not None or not self._send_now(frame):
            self._append(_Entry(frame, None))

    async def flushed(self, timeout_s: float) -> None:
        """Wait until nothing is pending, at most ``timeout_s``."""
        if self._sender is not None:
            await asyncio.wait([self._sender], timeout=timeout_s)

    async def stop(self) -> None:
        """Forget what is pending, and take nothing more; idempotent.

        Raises:
            Exception: what ended the sending early, if anything did.
        """
        self._finished = True
        sender, self._sender = self._sender, None
        self._entries.clear()
        self._signals.clear()
        if sender is not None:
            sender.cancel()
            (outcome,) = await asyncio.gather(sender, return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome

    async def _work(self) -> None:
        while self._entries:
            entry = self._entries.popleft()
            if entry.key is not None:
                del self._signals[entry.key]
            await self._send(entry.frame)
        self._sender = None

    def _append(self, entry: _Entry) -> None:
        self._entries.append(entry)
        if self._sender is None:
            self._sender = asyncio.create_task(self._work())

    def _offer_signal(self, frame: bytes, key: str) -> None:
        pending = self._signals.pop(key, None)
        if pending is not None:
            # To the end of the queue: a beat must not overtake the events it vouches for.
            self._entries.remove(pending)
            self.dropped_signals += 1
        elif len(self._entries) >= self._limit:
            self.dropped_signals += 1
            return
        self._signals[key] = entry = _Entry(frame, key)
        self._append(entry)
