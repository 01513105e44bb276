"""How much a camera sends on the line it has: a browser's congestion control, as far as a load test needs it.

Transport-wide feedback gives delay and loss, from which a rate follows by the rules of draft-ietf-rmcat-gcc-02 (5.5,
6): up by 8 % a second, never above 1.5 times what arrives; down to 0.85 of that when a queue grows; down by half of
the loss above a tenth. It begins at 300 kbit/s and doubles while nothing is in the way, as libwebrtc's probes do. The
rate is spent from the smallest layer up, as libwebrtc's simulcast allocator spends it: a layer is sent when its least
bitrate is left for it, so the largest goes first.

The trend filter and the adaptive threshold of the draft are left out: what is asked of a simulated sender is that it
does not flood a thin line and comes back within seconds, not that it holds the last tenth of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from load_tests.plan.behaviour import Layer

START_BPS: Final = 300_000
LEAST_BPS: Final = 60_000
SOUND_BPS: Final = 50_000
"""Left for sound and headers."""
LEAST_SHARE: Final = 0.3
"""Of a layer's bitrate it is not worth sending below; the smallest goes down to `LOWEST_SHARE`."""
LOWEST_SHARE: Final = 0.2
BACK_FACTOR: Final = 1.2
"""A layer that was off comes back with so much more."""
GROWTH: Final = 1.08
ARRIVED_FACTOR: Final = 1.5
DELAY_FACTOR: Final = 0.85
HIGH_LOSS, LOW_LOSS = 0.1, 0.02
QUEUE_US: Final = 60_000
"""A standing queue of so much is too long, growing or not."""
GROWING_US: Final = 15_000
"""From one look to the next."""
BASE_S: Final = 10.0
"""The least delay of so long is the empty line's."""
LOOK_S: Final = 0.2
PAUSE_S: Final = 0.5
"""After a step down: until its effect can be seen."""
TRY_S, LONGEST_TRY_S = 5.0, 80.0
"""What is sent says nothing of what else would pass: so often twice as much is tried, rarer after each failure."""
TRIED_S: Final = 3.0
"""A step down so soon after a try is its failure."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What feedback told since the last look."""

    told: int
    arrived: int
    arrived_bytes: int
    delay_us: float
    """Mean of the packets that arrived, by two clocks that need not agree."""
    least_delay_us: float
    remb_bps: int = 0


class SendRate:
    """Rate of one sending Transport, and what its camera's layers have of it."""

    def __init__(self, layers: Sequence[Layer], now_s: float) -> None:
        self.layers = layers
        self.most_bps = sum(layer.bitrate_bps for layer in layers) + SOUND_BPS
        self.rate_bps = float(min(START_BPS, self.most_bps))
        self.bitrates = allocate(layers, self.rate_bps, [0] * len(layers))
        self._probing = True
        self._try_s = TRY_S
        self._tried_s = now_s
        self._looked_s = now_s
        self._paused_s = 0.0
        self._queue_us = 0.0
        self._bases: deque[tuple[float, float]] = deque()

    @property
    def full(self) -> bool:
        """Everything is sent."""
        return self.rate_bps >= self.most_bps

    def look(self, now_s: float, heard: Heard) -> bool:
        """Take in what was heard, every `LOOK_S` or more; True: other bitrates than before."""
        elapsed_s = max(0.01, now_s - self._looked_s)
        self._looked_s = now_s
        if not heard.told:
            return False
        arrived_bps = heard.arrived_bytes * 8 / elapsed_s
        lost = 1 - heard.arrived / heard.told
        queue_us = self._queue(now_s, heard)
        growing, self._queue_us = queue_us - self._queue_us > GROWING_US, queue_us
        if now_s < self._paused_s:
            return False
        if heard.arrived and (queue_us > QUEUE_US or (growing and queue_us > GROWING_US)):
            self._down(now_s, min(self.rate_bps, DELAY_FACTOR * max(arrived_bps, LEAST_BPS)))
        elif lost > HIGH_LOSS:
            self._down(now_s, self.rate_bps * (1 - lost / 2))
        elif self._probing:
            self.rate_bps *= 2
            self._probing = self.rate_bps < self.most_bps
        elif lost < LOW_LOSS:
            self._up(now_s, min(elapsed_s, 1), arrived_bps)
        if heard.remb_bps:
            self.rate_bps = min(self.rate_bps, heard.remb_bps)
        self.rate_bps = min(max(self.rate_bps, LEAST_BPS), self.most_bps)
        before, self.bitrates = self.bitrates, allocate(self.layers, self.rate_bps, self.bitrates)
        return before != self.bitrates

    def _up(self, now_s: float, elapsed_s: float, arrived_bps: float) -> None:
        ceiling_bps = max(self.rate_bps, ARRIVED_FACTOR * arrived_bps)
        wanted_bps = self.rate_bps * GROWTH**elapsed_s
        if wanted_bps > ceiling_bps and now_s - self._tried_s > self._try_s:
            self._tried_s, ceiling_bps, wanted_bps = now_s, self.most_bps, 2 * arrived_bps
        self.rate_bps = max(self.rate_bps, min(wanted_bps, ceiling_bps))

    def _down(self, now_s: float, rate_bps: float) -> None:
        failed = now_s - self._tried_s < TRIED_S
        self._try_s = min(2 * self._try_s, LONGEST_TRY_S) if failed else TRY_S
        self.rate_bps = rate_bps
        self._probing = False
        self._paused_s = now_s + PAUSE_S

    def _queue(self, now_s: float, heard: Heard) -> float:
        if not heard.arrived:
            return self._queue_us
        bases = self._bases
        while bases and bases[-1][1] >= heard.least_delay_us:
            bases.pop()
        bases.append((now_s, heard.least_delay_us))
        while bases[0][0] < now_s - BASE_S:
            bases.popleft()
        return heard.delay_us - bases[0][1]


def allocate(layers: Sequence[Layer], rate_bps: float, before: Sequence[int]) -> list[int]:
    """Bitrates of the layers, the smallest first; 0: not sent. What is over goes to the largest that is.

    Args:
        before: what they had; one that was off needs more to come back.
    """
    left = rate_bps - SOUND_BPS
    given = [0] * len(layers)
    for index, layer in enumerate(layers):
        least = layer.bitrate_bps * (LEAST_SHARE if index else LOWEST_SHARE)
        if index and left < least * (1 if before[index] else BACK_FACTOR):
            break
        given[index] = int(min(max(left, least), layer.bitrate_bps))
        left -= given[index]
    return given
