"""A session's way to the server: its emulated line, applied to datagrams and to signalling."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Protocol

from load_tests.plan.line import STEP_S, Direction, Line
from load_tests.report.ledger import Ledger


class Carrier(Protocol):
    """A line's datagrams are carried elsewhere."""

    def set_cut(self, cut: bool) -> None:
        """Nothing passes, or again what the line lets pass."""

    def set_loss(self, share: float) -> None:
        """Lose so many besides what the line itself loses."""

    def close(self) -> None:
        """Drop what is on the way."""


class Path:
    """Both directions of one session's line, and whether it is cut."""

    def __init__(self, line: Line, seed: str, ledger: Ledger) -> None:
        self.line = line
        self.cut = False
        self.loss = 0.0
        """Besides what the line itself loses."""
        self._chance = random.Random(f"{seed}-loss")
        self.perfect = line.perfect
        """Datagrams may go straight through; asked for each of them."""
        self._up = Direction(line, line.up_bps, f"{seed}-up")
        self._down = Direction(line, line.down_bps, f"{seed}-down")
        self._open = asyncio.Event()
        self._open.set()
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()
        self._told_s = self._heard_s = 0.0
        self.carrier: Carrier | None = None
        """What carries this line's datagrams instead of this class."""

    @property
    def seeds(self) -> tuple[int, int]:
        """Where the dice of both directions stand, up and down."""
        return self._up.dice.state, self._down.dice.state

    def close(self) -> None:
        """The session is over; idempotent."""
        if self.carrier is not None:
            carrier, self.carrier = self.carrier, None
            carrier.close()

    def send(self, datagram: bytes, through: Callable[[bytes], bool]) -> bool:
        """A datagram of this session sets out; False when its own socket was full."""
        if self.perfect:
            return through(datagram)
        return self._carry(self._up, datagram, through)

    def receive(self, datagram: bytes, into: Callable[[bytes], object]) -> None:
        """A datagram for this session has come to the line's far end."""
        self._carry(self._down, datagram, into)

    def _carry(self, direction: Direction, datagram: bytes, onward: Callable[[bytes], object]) -> bool:
        now_s = self._loop.time()
        lost = self.cut or (self.loss > 0 and self._chance.random() < self.loss)
        at_s = None if lost else direction.admit(now_s, len(datagram))
        if at_s is None:
            self._ledger.count("line_lost")
        elif at_s <= now_s:
            onward(datagram)
        else:
            self._loop.call_at(at_s, onward, datagram)
        return True

    def set_cut(self, cut: bool) -> None:
        """Cut the line, or mend it."""
        self.cut = cut
        self.perfect = self.line.perfect and not cut and not self.loss
        if self.carrier is not None:
            self.carrier.set_cut(cut)
        if cut:
            self._open.clear()
        else:
            self._open.set()

    def set_loss(self, share: float) -> None:
        """Lose so many of the datagrams of both directions, besides what the line itself loses."""
        self.loss = share
        self.perfect = self.line.perfect and not self.cut and not share
        if self.carrier is not None:
            self.carrier.set_loss(share)

    async def uncut(self) -> None:
        """Wait until something can pass."""
        await self._open.wait()

    def signalling_at(self) -> float:
        """When a message that is handed over now has passed the line, on the event loop's clock."""
        self._told_s = max(self._loop.time() + self.line.delay_ms / 1000, self._told_s + STEP_S)
        return self._told_s

    async def until(self, at_s: float) -> None:
        """Wait so long, and until something can pass."""
        wait_s = at_s - self._loop.time()
        if wait_s > STEP_S:
            await asyncio.sleep(wait_s)
        await self._open.wait()

    def deliver(self, take: Callable[[Any], None], message: Any) -> None:
        """A message has come to the line's far end: hand it on when it has passed."""
        if not self.line.delay_ms:
            take(message)
            return
        self._heard_s = max(self._loop.time() + self.line.delay_ms / 1000, self._heard_s + STEP_S)
        self._loop.call_at(self._heard_s, take, message)
