"""How bad a participant's way to the server is, and what becomes of each datagram on it.

A line is two queues, one for each direction, that lose, delay and throttle. Whether a datagram is lost depends on the
seed and on how many went before, so a run is repeated; when it arrives depends on its size and on what waits before it.
A queue that would take longer than ``QUEUE_S`` to empty drops what comes, as a router does. Order is kept.

TCP is not emulated packet by packet: signalling gets the line's delay and its cuts, not its losses. Nothing here has
a clock: ``now_s`` comes in, the moment of arrival goes out.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, lt=1)]
Milliseconds = Annotated[float, Field(ge=0, le=10_000)]
Bits = Annotated[int, Field(ge=0, le=10_000_000_000)]

QUEUE_S: Final = 0.3
"""What may wait in a throttled direction; more is dropped."""
STEP_S: Final = 1e-6
_MASK_64: Final = (1 << 64) - 1


class Line(BaseModel):
    """One participant's line; both directions are alike in loss and delay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: Share = 0.0
    """Of datagrams, each direction for itself."""
    delay_ms: Milliseconds = 0.0
    """Of each direction."""
    jitter_ms: Milliseconds = 0.0
    """Most that is added to the delay."""
    up_bps: Bits = 0
    """0: no limit."""
    down_bps: Bits = 0

    @property
    def perfect(self) -> bool:
        """Nothing to emulate."""
        return self == Line()


LINES: Final[dict[str, Line]] = {
    "lan": Line(),
    "hospital": Line(delay_ms=5, jitter_ms=1),
    "province": Line(loss=0.001, delay_ms=20, jitter_ms=4, up_bps=20_000_000, down_bps=50_000_000),
    "mobile": Line(loss=0.01, delay_ms=35, jitter_ms=20, up_bps=5_000_000, down_bps=15_000_000),
    "poor": Line(loss=0.05, delay_ms=60, jitter_ms=30, up_bps=1_500_000, down_bps=4_000_000),
}
"""The lines that scenarios name; a scenario may define more."""


class Dice:
    """Random numbers that Python and C roll alike (splitmix64)."""

    def __init__(self, seed: int | str) -> None:
        digest = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
        self.state = int.from_bytes(digest, "big")

    def roll(self) -> float:
        """The next number: 0 or more, below 1."""
        self.state = z = (self.state + 0x9E37_79B9_7F4A_7C15) & _MASK_64
        z = (z ^ z >> 30) * 0xBF58_476D_1CE4_E5B9 & _MASK_64
        z = (z ^ z >> 27) * 0x94D0_49BB_1331_11EB & _MASK_64
        return ((z ^ z >> 31) >> 11) * 2.0**-53


class Direction:
    """One direction of a line; ``native/line.c`` has its twin."""

    def __init__(self, line: Line, rate_bps: int, seed: int | str) -> None:
        self.line = line
        self.rate_bps = rate_bps
        self.lost = self.dropped = self.passed = 0
        """Datagrams by what became of them: lost on the way, dropped by a full queue or a cut, arrived."""
        self.dice = Dice(seed)
        self._free_s = 0.0
        """When the throttle has sent all that waits."""
        self._last_s = 0.0

    def admit(self, now_s: float, size_bytes: int) -> float | None:
        """When a datagram that is handed over now arrives; None when it never does."""
        line = self.line
        if line.loss and self.dice.roll() < line.loss:
            self.lost += 1
            return None
        at_s = now_s
        if self.rate_bps:
            begin_s = max(now_s, self._free_s)
            if begin_s - now_s > QUEUE_S:
                self.dropped += 1
                return None
            at_s = self._free_s = begin_s + size_bytes * 8 / self.rate_bps
        at_s += line.delay_ms / 1000
        if line.jitter_ms:
            at_s += self.dice.roll() * line.jitter_ms / 1000
        self.passed += 1
        self._last_s = max(at_s, self._last_s + STEP_S)
        return self._last_s
