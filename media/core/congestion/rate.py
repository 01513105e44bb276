"""How fast to send, from what the delay says: additive or multiplicative increase, multiplicative decrease.

draft-ietf-rmcat-gcc-02 section 5.5 with libwebrtc's additions: near the rate where the line was full
last time the increase is about one packet per response time, elsewhere 8 % a second; and nothing is
gained on a line that is not used, so the estimate rises little above what arrives. A relay's
layers are steps, so most of the time a line is used less than the estimate allows; reaching the
next step is the task of ``probe``. What does arrive, without a queue, the line carries: a picture
with a single size may be sent above the estimate, and the estimate then catches up at once.

`ArrivedRate` measures what arrives.
"""

from collections import deque
from math import sqrt
from typing import Final

from media.core.congestion.delay import Usage

DECREASE: Final = 0.85
DRAIN_DECREASE: Final = 0.7
"""Of what arrives, when a queue of ``DRAIN_QUEUE_US`` has to go as well."""
DRAIN_QUEUE_US: Final = 60_000
UNUSED_DECREASE: Final = 0.6
"""Of the estimate, at most in one step: on a line that is hardly used, a small queue is weak evidence."""
INCREASE_PER_S: Final = 1.08
UNUSED_FACTOR: Final = 1.1
"""Growth above what arrives is a guess. libwebrtc's 1.5 suits an encoder that follows at once and so finds out; a
relay would put a whole layer on that guess. Beyond this the probe knows."""
UNUSED_ROOM_BPS: Final = 10_000
CARRIED: Final = 0.95
"""Of what arrives, measured over half a second, without a queue: as good as a probe of 60 ms."""
CARRIED_QUEUE_US: Final = 12_000
CARRIED_AFTER_US: Final = 1_500_000
"""Since the last decrease: what was on its way then has arrived, and is no longer counted."""
PACKET_BITS: Final = 1200 * 8
RESPONSE_EXTRA_US: Final = 100_000
SETTLE_US: Final = 400_000
SETTLE_QUEUE_US: Final = 20_000
RATE_WINDOW_US: Final = 500_000
"""Frames come every 33 to 200 ms: shorter windows measure them and not the line."""
LEAST_RATE_WINDOW_US: Final = 150_000
CAPACITY_WEIGHT: Final = 0.05


class ArrivedRate:
    """Bitrate that arrives at the viewer, over the last half second of its clock."""

    __slots__ = ("_bytes", "_pieces", "bps")

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, int]] = deque()
        """(latest arrival, bytes) per feedback."""
        self._bytes = 0
        self.bps: int | None = None

    def add(self, latest: int, size_bytes: int) -> None:
        """Take what arrived by one feedback: how much, and when the last of it."""
        pieces = self._pieces
        if pieces and not -2_000_000 <= latest - pieces[-1][0] <= 2_000_000:
            pieces.clear()  # a long silence, or another clock
            self._bytes = 0
        pieces.append((latest, size_bytes))
        self._bytes += size_bytes
        while len(pieces) > 2 and latest - pieces[1][0] >= RATE_WINDOW_US:
            self._bytes -= pieces.popleft()[1]
        since, first_bytes = pieces[0]
        if latest - since >= LEAST_RATE_WINDOW_US:
            self.bps = (self._bytes - first_bytes) * 8_000_000 // (latest - since)

    @property
    def lately_bps(self) -> int:
        """Over the shortest time that can be measured: while the queue grows, this is the line itself."""
        size_bytes = 0
        for arrive_us, piece in reversed(self._pieces):
            elapsed_us = self._pieces[-1][0] - arrive_us
            if elapsed_us >= LEAST_RATE_WINDOW_US:
                return size_bytes * 8_000_000 // elapsed_us
            size_bytes += piece
        return 0


class LineCapacity:
    """Rate at which the line was full, remembered over several times."""

    __slots__ = ("_deviation", "_mean")

    def __init__(self) -> None:
        self._mean: float | None = None
        self._deviation = 0.4

    def full_at(self, bps: float) -> None:
        """The queue grew while this arrived."""
        kbps = bps / 1000
        if self._mean is None:
            self._mean = kbps
            return
        change = kbps - self._mean
        self._mean += CAPACITY_WEIGHT * change
        scale = max(self._mean, 1.0)
        self._deviation += CAPACITY_WEIGHT * (change * change / scale - self._deviation)
        self._deviation = min(2.5, max(0.4, self._deviation))

    def near(self, bps: float) -> bool:
        """About this rate is known to fill the line; what is far from the memory ends it."""
        if self._mean is None:
            return False
        spread = 3 * sqrt(self._deviation * self._mean)
        kbps = bps / 1000
        if kbps > self._mean + spread:
            self._mean = None
            return False
        return kbps > self._mean - spread

    def forget_outside(self, bps: float) -> None:
        """A decrease to far below what was remembered: the line is another one now."""
        if self._mean is not None and bps / 1000 < self._mean - 3 * sqrt(self._deviation * self._mean):
            self._mean = None


class DelayRate:
    """Estimate by delay alone."""

    __slots__ = ("_capacity", "_decreased_us", "_hold", "_max_bps", "_min_bps", "_queue_us", "_updated_us", "bps")

    def __init__(self, start_bps: int, min_bps: int, max_bps: int) -> None:
        self.bps = float(start_bps)
        self._min_bps = min_bps
        self._max_bps = max_bps
        self._capacity = LineCapacity()
        self._hold = False
        self._updated_us: int | None = None
        self._decreased_us = -1_000_000_000
        self._queue_us = 0
        """Queue at the last decrease."""

    def update(self, usage: Usage, rate: ArrivedRate, queue_us: int, rtt_us: int, now_us: int) -> bool:
        """Take the state of the line; True when the estimate was decreased."""
        elapsed_us = min(1_000_000, now_us - self._updated_us) if self._updated_us is not None else 0
        self._updated_us = now_us
        if usage is Usage.OVER:
            return self._decrease(rate, queue_us, rtt_us, now_us)
        if usage is Usage.NORMAL and rate.bps is not None:
            if self._hold:
                self._hold = False  # gcc-02: after a decrease or a draining queue one step of patience
            else:
                self._increase(rate.bps, rtt_us, elapsed_us)
                if rate.bps > self.bps and queue_us < CARRIED_QUEUE_US:
                    self._catch_up(rate.bps, now_us)
        elif usage is Usage.UNDER:
            self._hold = True
        return False

    def _catch_up(self, arrived_bps: int, now_us: int) -> None:
        """More arrives than was thought possible."""
        if now_us - self._decreased_us >= CARRIED_AFTER_US and not self._capacity.near(arrived_bps):
            self.reached(CARRIED * arrived_bps)

    def reached(self, bps: float) -> None:
        """A probe has shown that the line carries this."""
        self.bps = min(float(self._max_bps), max(self.bps, bps))

    def lower_to(self, bps: float) -> None:
        """Something else than delay says that the line carries no more than this."""
        self.bps = max(float(self._min_bps), min(self.bps, bps))

    def _decrease(self, rate: ArrivedRate, queue_us: int, rtt_us: int, now_us: int) -> bool:
        self._hold = True
        felt_us = now_us - self._decreased_us - min(500_000, rtt_us) - RESPONSE_EXTRA_US
        if felt_us < 0 or (felt_us < SETTLE_US and queue_us <= self._queue_us + SETTLE_QUEUE_US):
            return False  # the last decrease has not been felt yet, or its queue is still draining
        self._decreased_us = now_us
        self._queue_us = queue_us
        arrived = self.bps if rate.bps is None else float(max(rate.bps, rate.lately_bps))
        self._capacity.forget_outside(arrived)
        if arrived > 0.6 * self.bps:
            self._capacity.full_at(arrived)
        if queue_us > DRAIN_QUEUE_US:
            self.lower_to(arrived * DRAIN_DECREASE)
        else:
            self.lower_to(max(arrived * DECREASE, self.bps * UNUSED_DECREASE))
        return True

    def _increase(self, arrived_bps: int, rtt_us: int, elapsed_us: int) -> None:
        limit = arrived_bps * UNUSED_FACTOR + UNUSED_ROOM_BPS
        if self.bps >= limit:
            return
        if self._capacity.near(self.bps):
            raised = self.bps + max(4000.0, PACKET_BITS * 1e6 / (rtt_us + RESPONSE_EXTRA_US)) * elapsed_us / 1e6
        else:
            raised = self.bps * INCREASE_PER_S ** (elapsed_us / 1e6)
        self.bps = min(raised, limit, float(self._max_bps))
