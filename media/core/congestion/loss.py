"""What loss allows: the other half of the estimate.

The rule of draft-ietf-rmcat-gcc-02 section 6: above 10 % loss less, below 2 % more, hold between. It
bounds the estimate and is not an estimate of its own: it starts without a bound.

Radio lines lose packets whatever is sent. Loss that stays the same over seconds of different rates is
the line's own and is taken off before the rule, up to `OWN_LOSS_MAX`, which RTX repairs. A
queue that overflows does not hide behind this for long: its loss goes away with a lower rate, and
then so does the allowance.
"""

from collections import deque
from typing import Final

HIGH_LOSS: Final = 0.10
LOW_LOSS: Final = 0.02
OWN_LOSS_MAX: Final = 0.06
OWN_LOSS_PERIODS: Final = 10
"""Periods whose least loss is the line's own: one lower rate among them shows the truth."""
PERIOD_US: Final = 1_000_000
LEAST_PACKETS: Final = 20
"""Fewer in a period say nothing in per cent; longer periods are waited for."""
EARLY_US: Final = 300_000
"""Heavy loss is believed this soon."""
RISE_PER_PERIOD: Final = 1.08
RISE_BPS: Final = 1_000


class LossBound:
    """Upper bound of one leg's estimate by its loss."""

    __slots__ = ("_history", "_lost", "_max_bps", "_min_bps", "_packets", "_since_us", "bound_bps", "fraction")

    def __init__(self, min_bps: int, max_bps: int) -> None:
        self.bound_bps = float(max_bps)
        self.fraction = 0.0
        """Share lost in the last period."""
        self._min_bps = min_bps
        self._max_bps = max_bps
        self._lost = 0
        self._packets = 0
        self._since_us: int | None = None
        self._history: deque[float] = deque(maxlen=OWN_LOSS_PERIODS)

    @property
    def calm(self) -> bool:
        """Of this period no more is lost than can be: without more loss the bound stays."""
        return self._lost <= HIGH_LOSS * self._packets

    def add(self, lost: int, received: int, estimate_bps: float, now_us: int) -> bool:
        """Packets of one feedback; true when the bound was lowered.

        Args:
            lost: newly told lost, less those that came after all; may be negative.
            estimate_bps: what was allowed meanwhile; a decrease starts from it.
        """
        if self._since_us is None:
            self._since_us = now_us
        self._lost += lost
        self._packets += lost + received
        elapsed_us = now_us - self._since_us
        if self._packets < LEAST_PACKETS or elapsed_us < EARLY_US:
            return False
        fraction = min(1.0, max(0.0, self._lost / self._packets))
        if elapsed_us < PERIOD_US and fraction <= 2 * HIGH_LOSS:
            return False
        self._lost = self._packets = 0
        self._since_us = now_us
        return self.period(fraction, estimate_bps)

    def period(self, fraction: float, estimate_bps: float) -> bool:
        """The loss of one period, 0 to 1 (also from receiver reports); true when the bound was lowered."""
        self.fraction = fraction
        self._history.append(fraction)
        own = min(OWN_LOSS_MAX, *self._history) if len(self._history) == OWN_LOSS_PERIODS else 0.0
        excess = max(0.0, fraction - own)
        if excess > HIGH_LOSS:
            lowered = min(self.bound_bps, estimate_bps) * (1 - 0.5 * excess)
            self.bound_bps = max(float(self._min_bps), lowered)
            return True
        if excess < LOW_LOSS:
            self.bound_bps = min(float(self._max_bps), self.bound_bps * RISE_PER_PERIOD + RISE_BPS)
        return False

    def reached(self, bps: float) -> None:
        """A probe has shown that the line carries this."""
        self.bound_bps = min(float(self._max_bps), max(self.bound_bps, bps))
