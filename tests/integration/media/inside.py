"""The relay in this process: a hand on its clock, its socket and its state, with real peers around it."""

import contextlib
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from media.aio.clock import start_clock
from media.aio.relay import Relay
from media.core import ortc
from media.core.control import AnyNotification
from tests.integration.media.peer import VIDEO_PT, VIDEO_SSRC, Peer, build_rtp, until, video_parameters, vp8


class Direct:
    """A relay where a peer expects a `WorkerClient`."""

    def __init__(self, addresses: Sequence[str] = ("127.0.0.1",), bind: str = "127.0.0.1") -> None:
        self.skipped_us = 0
        self._real, self._stopped_us = start_clock(), -1
        self.notes: list[AnyNotification] = []
        self.relay = Relay(self._clock, self.notes.append, addresses)
        self.relay.open(bind, 0)

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            if name == "produce":
                return self.relay.produce(*arguments, False)
            return getattr(self.relay, name)(*arguments)

        return call

    def _clock(self) -> int:
        return (self._real() if self._stopped_us < 0 else self._stopped_us) + self.skipped_us

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """The clock stands but for `pass_time`: how fast this machine is does not matter meanwhile."""
        self._stopped_us = self._real()
        try:
            yield
        finally:
            self.skipped_us -= self._real() - self._stopped_us
            self._stopped_us = -1

    def pass_time(self, seconds: float) -> None:
        self.skipped_us += int(seconds * 1e6)
        self.relay.judge_consent(self.relay._clock())

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(n.transport, n.state) for n in self.notes if n.event == "transport_state"]


async def pair(direct: Direct) -> tuple[Peer, Peer]:
    client: Any = direct
    publisher, viewer = Peer(client, "r", "send"), Peer(client, "r", "recv")
    await publisher.join()
    await viewer.join()
    direct.relay.produce(publisher.id, "cam", "video", video_parameters(), False)
    direct.relay.consume(viewer.id, "view", "cam", ortc.router_capabilities())
    direct.relay.resume_consumer("view")
    await until(lambda: len(direct.states) == 2, "both connected")
    return publisher, viewer


def frame(number: int, key: bool, size: int = 400) -> bytes:
    return build_rtp(VIDEO_PT, number, number * 3000, VIDEO_SSRC, vp8(key, number, size))


class Blocking:
    """The relay's socket while the kernel refuses: no room, no route, segments too long."""

    def __init__(self, inner: socket.socket) -> None:
        self.inner = inner
        self.full = False
        self.full_after: int | None = None
        """Sends that still find room."""
        self.error: OSError | None = None
        self.longest_segment = 65_536
        self.longest_error = OSError()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _refuse(self) -> None:
        if self.error is not None:
            raise self.error
        if self.full_after is not None:
            self.full_after -= 1
        if self.full or (self.full_after is not None and self.full_after < 0):
            raise BlockingIOError

    def sendto(self, *arguments: Any) -> int:
        self._refuse()
        return self.inner.sendto(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        self._refuse()
        _, ancillary = arguments[:2]
        if int.from_bytes(ancillary[0][2], sys.byteorder) > self.longest_segment:
            raise self.longest_error
        return self.inner.sendmsg(*arguments)
