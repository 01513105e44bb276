"""Which worker takes the next consult or participant, and when none may.

A worker reports its load once a second. That is old by the time it is used: ten consults placed within one
second would all go to the worker that was idle at its last report, and what was placed shows in no
report before its people have joined. So each placement is charged an estimate at once, which is taken back
after `SETTLE_MS`, when reports show the real cost. Reports are smoothed, so that one garbage collection refuses nobody.

The estimate is learnt: what those who are there cost, and half as much again. A fixed one was three times too high for
a consult with six wall screens, and turned people away at half a core because many came within five seconds.

A worker is *full* for newcomers above one limit and stays so until its load has fallen some way below; people of a
consult that is there already are let in up to a higher limit. Nobody who is there is ever sent away.

No clock here: times come in. Who calls is ``server.media_plane``; reports come from ``media.aio.load``.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from media.core.control import Load

SETTLE_MS = 5_000
"""A browser that has joined sends and receives at full rate within this time."""
SMOOTHING = 0.4
"""Weight of the newest report: one second of work counts less than half, three tell the truth."""
RELIEF = 0.05
"""How far below its limit a full worker must fall before it takes newcomers again."""
CONSULT_COST = 0.03
PARTICIPANT_COST = 0.02
"""Of a core: two Transports, a camera and a microphone, copies of six others, estimated from the cost of a forwarded
packet. What is charged for the first ones, and the most that is charged later."""
PARTICIPANT_LEAST = 0.004
"""Those who are there may not have begun to send."""
MARGIN = 1.5
"""Charged over what the others cost: the next one's camera goes to all of them."""
LEARN_FROM = 8
"""Transports: fewer tell nothing."""
TRANSPORTS_EACH = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadLimits:
    """When a worker is full."""

    consult: float = 0.85
    """Of one core; above it no consult is placed here."""
    participant: float = 0.95
    """Above it nobody joins a consult that is placed here: another worker takes him, or nobody."""
    loop_lag_ms: float = 100.0
    """A loop that is usually this late is as full as a core at ``consult``, whatever the CPU time says."""


@dataclass(slots=True)
class WorkerLoad:
    """What is known of one worker."""

    limits: LoadLimits
    share: float = 0.0
    """Smoothed, 1 is one core."""
    lag_ms: float = 0.0
    """Smoothed."""
    consults: int = 0
    last: Load | None = None
    participant_cost: float = PARTICIPANT_COST
    """What another participant is charged, of a core."""
    _charged: deque[tuple[int, float]] = field(default_factory=deque)
    _full: bool = False

    def report(self, load: Load, now_ms: int) -> None:
        """Take in one report."""
        first = self.last is None
        self.last = load
        weight = 1.0 if first else SMOOTHING
        self.share += weight * (load.cpu_share - self.share)
        self.lag_ms += weight * (load.loop_lag_ms - self.lag_ms)
        if load.transports >= LEARN_FROM:
            seen = MARGIN * load.cpu_share * TRANSPORTS_EACH / load.transports
            self.participant_cost += SMOOTHING * (seen - self.participant_cost)
            self.participant_cost = min(PARTICIPANT_COST, max(PARTICIPANT_LEAST, self.participant_cost))
        self._settle(now_ms)

    @property
    def consult_cost(self) -> float:
        """What another consult is charged before anybody of it is there."""
        return CONSULT_COST * self.participant_cost / PARTICIPANT_COST

    def charge(self, cost: float, now_ms: int) -> None:
        """Something was placed that no report shows yet."""
        self._charged.append((now_ms, cost))

    def reset(self) -> None:
        """Another process, with nothing on it."""
        self.share = self.lag_ms = 0.0
        self.last = None
        self.participant_cost = PARTICIPANT_COST
        self._charged.clear()
        self._full = False

    def busy(self, now_ms: int) -> float:
        """Share of a core in use or promised; 1 is all of it."""
        self._settle(now_ms)
        by_lag = self.lag_ms / self.limits.loop_lag_ms * self.limits.consult
        promised = sum(cost * (1 - max(0, now_ms - at_ms) / SETTLE_MS) for at_ms, cost in self._charged)
        return max(self.share, by_lag) + promised

    def takes_consult(self, now_ms: int) -> bool:
        """Room for another consult; with hysteresis."""
        limit = self.limits.consult - (RELIEF if self._full else 0.0)
        self._full = self.busy(now_ms) >= limit
        return not self._full

    def takes_participant(self, now_ms: int) -> bool:
        """Room for another participant of a consult that is here."""
        return self.busy(now_ms) < self.limits.participant

    def _settle(self, now_ms: int) -> None:
        while self._charged and now_ms - self._charged[0][0] >= SETTLE_MS:
            self._charged.popleft()


K = TypeVar("K")


def least_busy(workers: Mapping[K, WorkerLoad], candidates: Iterable[K], now_ms: int) -> K | None:
    """The candidate with the least load; among equals the one with fewest consults, then the first."""
    best: K | None = None
    least = (0.0, 0)
    for key in candidates:
        load = workers[key]
        weight = (round(load.busy(now_ms), 2), load.consults)
        if best is None or weight < least:
            best, least = key, weight
    return best
