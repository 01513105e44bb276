"""A bad network between a browser and the relay: a UDP forwarder on loopback, seeded.

The browser is told the forwarder's port instead of the relay's. Every datagram of either direction may be lost, and
waits a delay with jitter; order is kept, as on most paths. A burst loses everything for a while. What is lost depends
on the seed and on how many datagrams went before, not on the time.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

Address = tuple[str, int]
STEP_S = 1e-6


@dataclass
class Weather:
    """What the path does now; may be changed at any moment.

    Attributes:
        loss: share of datagrams lost, each direction for itself.
        cut: nothing gets through.
        delay_ms: of each direction; ``jitter_ms`` is the most that is added.
    """

    loss: float = 0.0
    cut: bool = False
    delay_ms: float = 0.0
    jitter_ms: float = 0.0


class LossyPath:
    """One forwarder; each address that talks to it gets a socket of its own towards the relay."""

    def __init__(self, relay: Address, seed: int) -> None:
        self.weather = Weather()
        self.lost = self.passed = 0
        self._relay = relay
        self._random = random.Random(seed)
        self._front: asyncio.DatagramTransport
        self._back: dict[Address, asyncio.DatagramTransport] = {}
        self._due_s: dict[object, float] = {}

    async def open(self) -> int:
        """Listen; the port."""
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(lambda: _Side(self._outward), ("127.0.0.1", 0))
        port: int = self._front.get_extra_info("sockname")[1]
        return port

    def close(self) -> None:
        """Stop; idempotent."""
        for transport in (self._front, *self._back.values()):
            transport.close()

    def _outward(self, datagram: bytes, client: Address) -> None:
        back = self._back.get(client)
        if back is None:
            asyncio.get_running_loop().create_task(self._meet(datagram, client))
        else:
            self._carry(datagram, back, None)

    async def _meet(self, datagram: bytes, client: Address) -> None:
        loop = asyncio.get_running_loop()
        back, _ = await loop.create_datagram_endpoint(
            lambda: _Side(lambda data, _: self._carry(data, self._front, client)), remote_addr=self._relay
        )
        if client in self._back:  # two came before the first socket was there
            back.close()
        self._carry(datagram, self._back.setdefault(client, back), None)

    def _carry(self, datagram: bytes, through: asyncio.DatagramTransport, to: Address | None) -> None:
        weather = self.weather
        if weather.cut or self._random.random() < weather.loss:
            self.lost += 1
            return
        self.passed += 1
        loop = asyncio.get_running_loop()
        wait_s = (weather.delay_ms + self._random.random() * weather.jitter_ms) / 1000
        way = (through, to)
        # Never the same moment as the one before: asyncio calls equal ones in any order.
        at_s = max(loop.time() + wait_s, self._due_s.get(way, 0.0) + STEP_S)
        self._due_s[way] = at_s
        if wait_s == 0 and at_s <= loop.time():
            _send(through, datagram, to)
        else:
            loop.call_at(at_s, _send, through, datagram, to)


def _send(through: asyncio.DatagramTransport, datagram: bytes, to: Address | None) -> None:
    if not through.is_closing():
        through.sendto(datagram, to)


class _Side(asyncio.DatagramProtocol):
    def __init__(self, received: object) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._received(data, addr)  # type: ignore[operator]
