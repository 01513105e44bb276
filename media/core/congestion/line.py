"""Everything about one viewer's line in one object: what `media.aio` talks to.

`ViewerLine` joins the record of what was sent, the estimate, the allocation, probes and the pacer. It
has no clock and sends nothing: calls come in with their time, and a `Plan` says what to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic

from media.core.congestion.allocator import Allocation, Allocator, Demand, K
from media.core.congestion.estimator import MAX_BPS, MIN_BPS, START_BPS, LineEstimator
from media.core.congestion.pacer import Pacer
from media.core.congestion.probe import Probe

MOST_REPAIRS: Final = 0.1
"""Share of the estimate kept for retransmissions at most, and as much as is lost."""


@dataclass(frozen=True, slots=True)
class Plan(Generic[K]):
    """What to do after a decision."""

    allocation: Allocation[K]
    probe: Probe | None
    estimate_bps: int


DECIDE_US: Final = 400_000
"""Between decisions that nothing calls for: a step up waits longer than this anyway."""
CALM_DECIDE_US: Final = 2_000_000
"""The same while everything wanted is sent: only prices can change, and `ViewerLine.on_feedback` sees them rise."""
TICK_US: Final = 100_000
DEARER: Final = 1.25
DEARER_BPS: Final = 100_000
"""What arrives beyond what was allocated before a calm line is decided anew; what a key frame and repairs add."""
_NEVER: Final = 1 << 62


class ViewerLine(Generic[K]):
    """Congestion control of one leg towards a viewer."""

    __slots__ = ("_allocator", "_decided_us", "_due_us", "_expected_bps", "_spent_bps", "estimator", "pacer", "sent")

    def __init__(
        self, now_us: int, *, start_bps: int = START_BPS, min_bps: int = MIN_BPS, max_bps: int = MAX_BPS
    ) -> None:
        self.estimator = LineEstimator(start_bps=start_bps, min_bps=min_bps, max_bps=max_bps)
        self.sent = self.estimator.sent
        """``sent.note`` per burst; ``sent.next_number & 0xFFFF`` is the next transport-wide number."""
        self.pacer: Pacer[Any] = Pacer(self.estimator.estimate_bps, now_us)
        self._allocator: Allocator[K] = Allocator()
        self._decided_us = self._due_us = now_us
        self._spent_bps = 0
        """What was allocated last, reserve included."""
        self._expected_bps = _NEVER
        """While everything wanted is sent: more arriving than this calls for a decision."""

    def on_feedback(self, fci: bytes, now_us: int) -> bool:
        """Body of a transport-wide feedback; true when it is time to `decide`: mostly to lower pictures.

        Raises:
            MalformedRtcp: nothing was changed.
        """
        if self.estimator.hear(fci, now_us):
            estimate = self.estimator.estimate_bps
            self.pacer.set_estimate(estimate)
            if estimate < self._spent_bps:
                return True
        return self._is_dearer(now_us)

    def settle(self, now_us: int) -> bool:
        """Book what others have taken in for the estimator (``account``) and let them go on; true as above."""
        self.estimator.settle()
        self.estimator.lend(now_us)
        return self._is_dearer(now_us)

    def _is_dearer(self, now_us: int) -> bool:
        """More arrives than was allotted."""
        arrived = self.estimator.arrived.bps
        return arrived is not None and arrived > self._expected_bps and now_us - self._decided_us >= DECIDE_US

    def on_remb(self, bitrate_bps: int, now_us: int) -> bool:
        """The viewer's REMB; true as for `on_feedback`."""
        self.estimator.on_remb(bitrate_bps, now_us)
        return self.estimator.estimate_bps < self._spent_bps

    def on_report(self, fraction_lost: float, round_trip_us: int | None) -> bool:
        """The viewer's receiver report, all its streams together, see `LineEstimator.on_report`; true as above."""
        self.estimator.on_report(fraction_lost, round_trip_us)
        return self._is_short()

    def tick(self, now_us: int) -> bool:
        """Call every 100 ms, or when `tick_us` says; true when it is time to `decide`."""
        self.estimator.tick(now_us)
        if now_us >= self._due_us:
            return True
        return self._is_short()

    def _is_short(self) -> bool:
        """Less is left than was allocated."""
        if self.estimator.estimate_bps >= self._spent_bps:
            return False
        self.estimator.settle()  # calm feedback may have raised it
        return self.estimator.estimate_bps < self._spent_bps

    def tick_us(self, now_us: int) -> int:
        """When to call `tick` next if no decision comes before."""
        if self._expected_bps == _NEVER:
            return now_us + TICK_US
        return max(now_us + TICK_US, min(self._due_us, self.estimator.silent_us))

    def hurry(self) -> None:
        """Something changed that a decision depends on: the next `tick` asks for one."""
        self._due_us = 0

    def decide(self, demands: Sequence[Demand[K]], reserved_bps: int, now_us: int) -> Plan[K]:
        """Decide anew; call when one of the others says so, and when a view or a Consumer changed.

        Args:
            demands: video Consumers that are not paused, in the viewer's order of importance.
            reserved_bps: measured rate of sound, waveforms and data towards this viewer.
        """
        self.estimator.settle()
        estimate = self.estimator.estimate_bps
        self.pacer.set_estimate(estimate)
        repairs = int(min(MOST_REPAIRS, self.estimator.lost) * estimate)
        allocation = self._allocator.allocate(estimate, reserved_bps + repairs, demands, now_us)
        self._spent_bps = allocation.allocated_bps + reserved_bps
        probe = self.estimator.plan_probe(allocation.need_bps, allocation.ceiling_bps, now_us)
        short = any(grant.limited_by == "line" for grant in allocation.grants.values())
        calm = not (short or self.estimator.probes.is_open or estimate < self._spent_bps)
        self._expected_bps = int(self._spent_bps * DEARER) + DEARER_BPS if calm else _NEVER
        self._decided_us = now_us
        self._due_us = now_us + (CALM_DECIDE_US if calm else DECIDE_US)
        self.estimator.lend(now_us)
        return Plan(allocation, probe, estimate)
