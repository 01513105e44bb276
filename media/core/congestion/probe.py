"""When to send padding to learn whether a line carries more, how much, and what came of it.

A relay cannot send a little more video: the next layer is a step, often of several times the rate.
Sending it to see what happens costs a torn picture when it fails; a short cluster of padding costs
60 ms of a queue. So before a step up the rate of the step is probed.

* At the start, exponentially from three times the start value, for as long as clusters get through.
* Before an up-switch, when the allocator says what the next step needs.
* After a drop of the estimate, soon: most are short.

Never while the queue grows or loss is heavy; one cluster at a time; after a failure the pause doubles.
Result of a cluster as in libwebrtc: the lesser of the rates it was sent and received at, all packets
between its first and last counted, media too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from media.core.congestion.sent import Told

START_FACTOR: Final = 3.0
GROW_FACTOR: Final = 2.0
SUCCESS: Final = 0.9
"""Share of the rate it was sent at that must come out; only then a larger one follows."""
STEP_FACTOR: Final = 3.0
"""A later cluster goes no further above the estimate than this."""
NEED_MARGIN: Final = 1.2
"""Frames between the padding blur the result by a tenth: aim above the need and be content with the need."""
PROBE_US: Final = 60_000
"""Longer than the gaps of a radio scheduler, shorter than a queue that is seen."""
LEAST_BYTES: Final = 5_000
MOST_BYTES: Final = 60_000
PAUSE_US: Final = 3_000_000
LONGEST_PAUSE_US: Final = 8_000_000
"""60 ms of a queue in 8 s are not seen; a minute with too small a picture is."""
AFTER_DROP_US: Final = 2_000_000
DROP: Final = 0.66
RESULT_TIMEOUT_US: Final = 1_500_000
CALM_QUEUE_US: Final = 40_000
ENOUGH: Final = 0.8
"""Share of a cluster that must have arrived to mean anything."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Send ``size_bytes`` of padding (or RTX) at ``rate_bps`` now, noted under ``cluster``."""

    cluster: int
    size_bytes: int
    rate_bps: int


class ProbeMeter:
    """What became of one cluster."""

    __slots__ = ("_arrived", "_first", "_last", "_passed", "_pending", "_told", "probe")

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self._first: Told | None = None
        self._last: Told | None = None
        self._told = 0
        """Bytes of the cluster that are accounted for."""
        self._arrived = 0
        self._passed = 0
        """Bytes received between the first and the last of the cluster, both included, media too."""
        self._pending = 0

    def update(self, told: Iterable[Told]) -> bool:
        """Take the packets of one feedback in order of sending; true when the cluster is complete."""
        cluster = self.probe.cluster
        for item in told:
            ours = item.cluster == cluster
            if ours:
                self._told += item.size_bytes
            if item.arrive_us is None or (self._first is None and not ours):
                continue
            self._pending += item.size_bytes
            if ours:
                self._arrived += item.size_bytes
                self._first = self._first or item
                self._last = item
                self._passed += self._pending
                self._pending = 0
        return self._told >= 0.95 * self.probe.size_bytes

    def result_bps(self) -> int | None:
        """Rate the line carried; None when too little arrived."""
        first, last = self._first, self._last
        if first is None or last is None or self._arrived < ENOUGH * self.probe.size_bytes:
            return None
        assert first.arrive_us is not None
        assert last.arrive_us is not None
        received_us = last.arrive_us - first.arrive_us
        sent_us = last.send_us - first.send_us
        if received_us <= 0:
            return None  # all at once: the viewer's clock, not the line
        received = (self._passed - first.size_bytes) * 8e6 / received_us
        sent = (self._passed - last.size_bytes) * 8e6 / sent_us if sent_us > 0 else float(self.probe.rate_bps)
        if received < SUCCESS * sent:
            return int(0.95 * received)  # the line was full: leave room for its queue
        return int(min(sent, received))


class ProbePlanner:
    """Clusters of one leg."""

    __slots__ = ("_cluster", "_enough_bps", "_growing", "_meter", "_next_us", "_pause_us", "_sent_us", "_started")

    def __init__(self) -> None:
        self._cluster = 0
        self._meter: ProbeMeter | None = None
        self._enough_bps = 0.0
        """Result with which the open cluster counts as a success."""
        self._sent_us = 0
        self._growing = 0.0
        """Rate of the next cluster of an exponential row, 0 when there is none."""
        self._started = False
        self._pause_us = PAUSE_US
        self._next_us = 0

    @property
    def is_open(self) -> bool:
        """A cluster is on its way."""
        return self._meter is not None

    def on_told(self, told: Iterable[Told], now_us: int) -> int | None:
        """Take the packets of one feedback; the rate a complete cluster has shown, if one has just ended."""
        meter = self._meter
        if meter is None or not meter.update(told):
            return None
        return self._finish(meter, now_us)

    def dropped(self, before_bps: float, after_bps: float, now_us: int) -> None:
        """The estimate was lowered."""
        self._growing = 0.0
        if after_bps < DROP * before_bps and now_us - self._sent_us > RESULT_TIMEOUT_US:
            self._pause_us = PAUSE_US
            self._next_us = now_us + AFTER_DROP_US
        else:
            self._next_us = max(self._next_us, now_us + self._pause_us)

    def plan(self, estimate_bps: float, need_bps: int, ceiling_bps: int, *, calm: bool, now_us: int) -> Probe | None:
        """What to send now, if anything; call at every tick.

        Args:
            need_bps: what the next step up takes in all; 0: nothing more is wanted.
            ceiling_bps: what everything that is wanted takes; more is never probed.
            calm: the queue neither grows nor stands and loss is low.
        """
        if self._meter is not None:
            if now_us - self._sent_us < RESULT_TIMEOUT_US:
                return None
            self._finish(self._meter, now_us)
        if not calm or need_bps <= estimate_bps:
            if need_bps <= estimate_bps:
                self._growing = 0.0
            return None
        ceiling = ceiling_bps * NEED_MARGIN
        if not self._started:
            self._started = True
            rate = min(START_FACTOR * estimate_bps, ceiling)
        elif self._growing:
            rate = min(self._growing, ceiling)
        elif now_us >= self._next_us:
            rate = min(need_bps * NEED_MARGIN, STEP_FACTOR * estimate_bps)
        else:
            return None
        return self._send(rate, need_bps, now_us)

    def _send(self, rate_bps: float, need_bps: int, now_us: int) -> Probe:
        self._growing = 0.0
        self._enough_bps = min(SUCCESS * rate_bps, need_bps)
        self._cluster += 1
        size = min(MOST_BYTES, max(LEAST_BYTES, int(rate_bps * PROBE_US / 8e6)))
        probe = Probe(self._cluster, size, int(rate_bps))
        self._meter = ProbeMeter(probe)
        self._sent_us = now_us
        return probe

    def _finish(self, meter: ProbeMeter, now_us: int) -> int | None:
        self._meter = None
        result = meter.result_bps()
        if result is not None and result >= self._enough_bps:
            self._growing = result * GROW_FACTOR
            self._pause_us = PAUSE_US
            self._next_us = now_us
        else:
            self._next_us = now_us + self._pause_us
            self._pause_us = min(LONGEST_PAUSE_US, 2 * self._pause_us)
        return result
