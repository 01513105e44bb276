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


class ViewerLine(Generic[K]):
    """Congestion control of one leg towards a viewer."""

    __slots__ = ("_allocator", "_due_us", "_spent_bps", "estimator", "pacer", "sent")

    def __init__(
        self, now_us: int, *, start_bps: int = START_BPS, min_bps: int = MIN_BPS, max_bps: int = MAX_BPS
    ) -> None:
        self.estimator = LineEstimator(start_bps=start_bps, min_bps=min_bps, max_bps=max_bps)
        self.sent = self.estimator.sent
        """``sent.note`` per burst; ``sent.next_number & 0xFFFF`` is the next transport-wide number."""
        self.pacer: Pacer[Any] = Pacer(self.estimator.estimate_bps, now_us)
        self._allocator: Allocator[K] = Allocator()
        self._due_us = now_us
        self._spent_bps = 0
        """What was allocated last, reserve included."""

    def on_feedback(self, fci: bytes, now_us: int) -> bool:
        """Body of a transport-wide feedback; true when pictures must be lowered now: call `decide`.

        Raises:
            MalformedRtcp: nothing was changed.
        """
        return self.estimator.hear(fci, now_us) and self.estimator.estimate_bps < self._spent_bps

    def on_remb(self, bitrate_bps: int, now_us: int) -> bool:
        """The viewer's REMB; true as for `on_feedback`."""
        self.estimator.on_remb(bitrate_bps, now_us)
        return self.estimator.estimate_bps < self._spent_bps

    def on_report(self, fraction_lost: float, round_trip_us: int | None) -> bool:
        """The viewer's receiver report, all its streams together, see `LineEstimator.on_report`; true as above."""
        self.estimator.on_report(fraction_lost, round_trip_us)
        return self.estimator.estimate_bps < self._spent_bps

    def tick(self, now_us: int) -> bool:
        """Call every 100 ms; true when it is time to `decide`."""
        self.estimator.tick(now_us)
        return now_us >= self._due_us or self.estimator.estimate_bps < self._spent_bps

    def decide(self, demands: Sequence[Demand[K]], reserved_bps: int, now_us: int) -> Plan[K]:
        """Decide anew; call when one of the others says so, and when a view or a Consumer changed.

        Args:
            demands: video Consumers that are not paused, in the viewer's order of importance.
            reserved_bps: measured rate of sound, waveforms and data towards this viewer.
        """
        self._due_us = now_us + DECIDE_US
        estimate = self.estimator.estimate_bps
        self.pacer.set_estimate(estimate)
        repairs = int(min(MOST_REPAIRS, self.estimator.lost) * estimate)
        allocation = self._allocator.allocate(estimate, reserved_bps + repairs, demands, now_us)
        self._spent_bps = allocation.allocated_bps + reserved_bps
        probe = self.estimator.plan_probe(allocation.need_bps, allocation.ceiling_bps, now_us)
        return Plan(allocation, probe, estimate)
