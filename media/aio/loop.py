"""The worker's event loop: asyncio's, with the media socket in front of it.

At the rates of a consult most wake-ups are for one packet, and asyncio's own way to a reader (ready list, handle,
context) costs as much as a third of what the packet itself does. So the selector serves the media socket where it
waits, and goes back to asyncio only when another descriptor is ready, a timer is due, or what was served
has scheduled something: `MediaLoop` tells by its own ``call_soon`` and ``call_at``.

Everything else is an ordinary loop; a `UdpPort` on a foreign loop is an ordinary reader.
"""

import asyncio
import contextvars
import logging
import os
import select
import selectors
import time
from collections.abc import Callable
from typing import Any, Final, TypeVarTuple, Unpack

log = logging.getLogger(__name__)

_EVENTS_AT_ONCE: Final = 64
_NO_HANDLES: Final = (None, None)
"""What asyncio keeps with a descriptor: neither a reader nor a writer of its own."""

Ts = TypeVarTuple("Ts")
Serve = Callable[[], None]
Wait = Callable[[int, float | None], bool]
"""``(epoll descriptor, seconds or None)``: serve until something else may be ready or the time is over (true), or
something may have been scheduled."""


class MediaSelector(selectors.EpollSelector):
    """Waits for everything and serves one socket by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stirred = False
        """Something was scheduled: asyncio must look at its lists before anybody waits again."""
        self._polled = select.epoll.fromfd(os.dup(self.fileno()))
        self._poll = self._polled.poll
        self._descriptor = -1
        self._serve: Serve | None = None
        self._wait: Wait | None = None
        self._calm: list[tuple[int, int]] = []

    def serve_first(self, descriptor: int, serve: Serve, wait: Wait | None = None) -> None:
        """Call this whenever the descriptor can be read.

        Args:
            serve: takes what is there.
            wait: waits and serves by itself, in place of ``epoll``.
        """
        self.register(descriptor, selectors.EVENT_READ, _NO_HANDLES)
        self._descriptor, self._serve, self._wait = descriptor, serve, wait
        self._calm = [(descriptor, select.EPOLLIN)]

    def serve_no_more(self) -> None:
        """The descriptor is about to be closed."""
        self._serve = self._wait = None

    def close(self) -> None:
        """As any selector."""
        self._polled.close()
        super().close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready beside the media socket, which is served here."""
        serve = self._serve
        if serve is None:
            return super().select(timeout)
        poll, calm = self._poll, self._calm
        wait_s = timeout
        until = time.monotonic() + timeout if timeout else 0.0
        while True:
            self.stirred = False
            if self._wait is not None:
                if self._waited(self._wait, wait_s):
                    return self._others(poll(0, _EVENTS_AT_ONCE))
            else:
                events = poll(wait_s, _EVENTS_AT_ONCE)
                if events != calm:
                    return self._others(events)
                self._guarded(serve)
            if self.stirred or self._serve is None:
                return []
            if timeout is not None:
                wait_s = until - time.monotonic()
                if wait_s <= 0:
                    return []

    def _others(self, events: list[tuple[int, int]]) -> list[tuple[selectors.SelectorKey, int]]:
        """Serve the media socket if it is among them; the rest as asyncio wants it."""
        ready = []
        for descriptor, event in events:
            readable = event & ~select.EPOLLOUT
            if descriptor == self._descriptor and self._serve is not None and readable:
                if self._wait is None:
                    self._guarded(self._serve)
                readable = 0
            try:
                key = self.get_key(descriptor)
            except KeyError:  # closed by what was served before it
                continue
            mask = (selectors.EVENT_READ if readable else 0) | (selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0)
            if mask & key.events:
                ready.append((key, mask & key.events))
        return ready

    def _waited(self, wait: Wait, wait_s: float | None) -> bool:
        try:
            return wait(self.fileno(), wait_s)
        except Exception:  # as in a callback of asyncio: a bug there must not end the loop
            log.exception("serving the media socket broke")
            return True

    def _guarded(self, serve: Serve) -> None:
        try:
            serve()
        except Exception:
            log.exception("serving the media socket broke")


class MediaLoop(asyncio.SelectorEventLoop):
    """An event loop that keeps a media socket in front."""

    def __init__(self) -> None:
        self.media = MediaSelector()
        super().__init__(self.media)

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """As asyncio's."""
        self.media.stirred = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """As asyncio's."""
        self.media.stirred = True
        return super().call_at(when, callback, *args, context=context)


def serve_first(descriptor: int, serve: Serve, wait: Wait | None = None) -> bool:
    """Serve a descriptor in front of the running loop; on a foreign loop it becomes a reader, and this false."""
    loop: Any = asyncio.get_running_loop()
    if isinstance(loop, MediaLoop):
        loop.media.serve_first(descriptor, serve, wait)
        return True
    loop.add_reader(descriptor, serve)
    return False


def serve_no_more(descriptor: int) -> None:
    """The descriptor is about to be closed."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, MediaLoop):
        loop.media.serve_no_more()
    loop.remove_reader(descriptor)
    loop.remove_writer(descriptor)
