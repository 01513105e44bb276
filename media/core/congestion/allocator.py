"""Spends the estimate of one viewer's line among its pictures, by what its screen shows.

Sound, waveforms and other data come first (``reserved_bps``), then ``main`` views, then tiles; what is not
visible gets nothing. Within a class everybody gets a first layer before anybody gets a second.

A picture's layers form a **ladder** of steps, each better and dearer than the one below. A camera gives up resolution
and keeps its frames; a shared screen keeps resolution and gives up frames, because text that is scaled
down cannot be read. The ladder ends at the smallest layer that fills the view.

All ladders together give one fixed order of steps, and a budget takes each step it can pay for. So
what is allocated grows with the estimate in that order: the first step in which two budgets
differ is taken by the larger.

Hysteresis. Down is at once: a queue that grows hurts everything. Up only when the estimate has
exceeded the need by a margin for a time, and that time doubles whenever a step up had to be taken
back. What the user changes (another view) is not made to wait.

``estimator`` says what the line carries; `RateMeter` measures layers.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

K = TypeVar("K", bound=Hashable)

LimitedBy = Literal["nothing", "view", "line", "source"]

UP_MARGIN: Final = 1.15
"""A layer's rate varies about this much; a step up that lasts no minute is worse than none."""
UP_HOLD_US: Final = 1_000_000
LONGEST_HOLD_US: Final = 60_000_000
FAILED_WITHIN_US: Final = 30_000_000
"""A step down so soon after one up says that the step up was wrong."""
PROVEN_US: Final = 60_000_000
"""After so long without a step down the hold is halved."""
FILLS: Final = 1.15
"""A layer may be scaled up by this before the next larger one is worth its bits."""
LAST_LAYER_BPS: Final = 100_000
"""A main view's lowest layer up to this is kept while any bits are left."""
LAST_LAYER_FACTOR: Final = 1.5
"""A dearer one only while it takes no more than this of what is left: sound and ECG share the line, and what
overfills it drowns them."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One thing that can be forwarded: everything of a spatial layer up to a temporal one."""

    spatial: int
    temporal: int
    bitrate_bps: int
    """Measured (`RateMeter`), lower temporal layers included, retransmissions not."""
    width: int = 0
    height: int = 0
    """0: not known, then it counts as not too large."""


@dataclass(frozen=True, slots=True)
class Demand(Generic[K]):
    """One video Consumer that is not paused."""

    consumer: K
    layers: Sequence[Layer]
    """Those the publisher sends now, in any order."""
    spatial_layers: int
    """How many it may send."""
    rank: Literal["main", "tile"] = "tile"
    content: Literal["camera", "screen"] = "camera"
    width: int = 0
    height: int = 0
    """Of the view, device pixels; 0 by 0 is not visible."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a Consumer is to get."""

    spatial: int
    """-1: nothing."""
    temporal: int
    limited_by: LimitedBy


@dataclass(frozen=True, slots=True)
class Allocation(Generic[K]):
    """What all Consumers of one viewer are to get."""

    targets: dict[K, Target]
    allocated_bps: int
    """All targets together, without the reserve."""
    need_bps: int
    """Estimate at which the next step up is taken, reserve and margin included; 0: everything wanted is sent."""
    ceiling_bps: int
    """Estimate at which everything wanted is sent."""


NOTHING: Final = -1


def needed_layers(demand: Demand[K]) -> tuple[list[Layer], bool]:
    """Layers that are not larger than the view needs, and whether larger ones were left out."""
    if demand.width <= 0 or demand.height <= 0:
        return [], bool(demand.layers)
    enough = [layer.spatial for layer in demand.layers if _fills(layer, demand.width, demand.height)]
    top = min(enough, default=1 << 30)
    needed = [layer for layer in demand.layers if layer.spatial <= top]
    return needed, len(needed) < len(demand.layers)


def _fills(layer: Layer, width: int, height: int) -> bool:
    """The picture, scaled to fit into the view, is hardly enlarged."""
    if layer.width <= 0 or layer.height <= 0:
        return False
    return min(width / layer.width, height / layer.height) <= FILLS


def ladder(layers: Sequence[Layer], content: Literal["camera", "screen"]) -> list[Layer]:
    """Steps from least to best; each dearer than the one before, what is dearer and worse is left out."""
    if not layers:
        return []
    if content == "screen":
        top = max(layer.spatial for layer in layers)
        # Below the top resolution a screen only has its cheapest form: better small than dark.
        order = sorted(
            (layer for layer in layers if layer.spatial == top or layer.temporal == _least(layers, layer.spatial)),
            key=lambda layer: (layer.spatial, layer.temporal),
        )
    else:
        low = min(layer.spatial for layer in layers)
        order = sorted(
            (layer for layer in layers if layer.spatial == low or layer.temporal == _most(layers, layer.spatial)),
            key=lambda layer: (layer.spatial, layer.temporal),
        )
    steps: list[Layer] = []
    for layer in reversed(order):
        if not steps or layer.bitrate_bps < steps[-1].bitrate_bps:
            steps.append(layer)
    steps.reverse()
    return steps


def _least(layers: Sequence[Layer], spatial: int) -> int:
    return min(layer.temporal for layer in layers if layer.spatial == spatial)


def _most(layers: Sequence[Layer], spatial: int) -> int:
    return max(layer.temporal for layer in layers if layer.spatial == spatial)


@dataclass(slots=True)
class _Line(Generic[K]):
    """One Consumer's ladder while an allocation is made."""

    demand: Demand[K]
    steps: list[Layer]
    cut_by_view: bool

    @property
    def is_main(self) -> bool:
        return self.demand.rank == "main"


def _order(lines: Sequence[_Line[K]]) -> list[tuple[int, int]]:
    """(index of line, step) in the order they are served."""
    order: list[tuple[int, int]] = []
    for main in (True, False):
        members = [index for index, line in enumerate(lines) if line.is_main is main]
        deepest = max((len(lines[index].steps) for index in members), default=0)
        order.extend((index, step) for step in range(deepest) for index in members if step < len(lines[index].steps))
    return order


def _cost(lines: Sequence[_Line[K]], chosen: Sequence[int]) -> int:
    return sum(line.steps[step].bitrate_bps for line, step in zip(lines, chosen, strict=True) if step >= 0)


def _spend(
    lines: Sequence[_Line[K]],
    order: Sequence[tuple[int, int]],
    budget_bps: float,
    start: Sequence[int],
    limit: Sequence[int] | None = None,
) -> list[int]:
    """Take each step the budget can pay for.

    Args:
        start: steps that are taken already; -1 for none.
        limit: highest step of each line. With it, what is there already is defended: see ``LAST_LAYER_BPS``.

    Returns:
        Step of each line; -1: nothing.
    """
    chosen = list(start)
    left = budget_bps - _cost(lines, chosen)
    for index, step in order:
        line = lines[index]
        have = chosen[index]
        if step != have + 1 or (limit is not None and step > limit[index]):
            continue
        price = line.steps[step].bitrate_bps - (line.steps[have].bitrate_bps if have >= 0 else 0)
        defended = limit is not None and step == 0 and line.is_main and left > 0
        if price <= left or (defended and price <= max(LAST_LAYER_BPS, LAST_LAYER_FACTOR * left)):
            chosen[index] = step
            left -= price
    return chosen


class Allocator(Generic[K]):
    """Allocation of one viewer over time."""

    __slots__ = ("_better_since_us", "_hold_us", "_known", "_raised_us", "_stable_since_us")

    def __init__(self) -> None:
        self._known: dict[K, tuple[Layer | None, tuple[object, ...]]] = {}
        """What each Consumer was given, and of which view and rank."""
        self._better_since_us: int | None = None
        self._hold_us = UP_HOLD_US
        self._raised_us: int | None = None
        self._stable_since_us = 0

    def allocate(
        self, estimate_bps: int, reserved_bps: int, demands: Sequence[Demand[K]], now_us: int
    ) -> Allocation[K]:
        """Decide what everybody gets; call at every tick, when the estimate was lowered, and when a view changed.

        Args:
            estimate_bps: of the line, in all.
            reserved_bps: sound, waveforms, data and a part for retransmissions.
            demands: video Consumers in the viewer's own order of importance.
        """
        lines = [self._line(demand) for demand in demands]
        order = _order(lines)
        budget = max(0, estimate_bps - reserved_bps)
        bottom = [-1] * len(lines)
        held = [self._held(line) for line in lines]
        asked = [self._asked_for(line) for line in lines]
        limit = [
            0 if ask and line.is_main and have < 0 else have for ask, line, have in zip(asked, lines, held, strict=True)
        ]
        kept = _spend(lines, order, budget, bottom, limit)
        self._note_lowered(held, kept, now_us)
        chosen = self._raise(lines, order, budget, kept, asked, now_us)
        self._known = {
            line.demand.consumer: (line.steps[step] if step >= 0 else None, _view(line.demand))
            for line, step in zip(lines, chosen, strict=True)
        }
        targets = {line.demand.consumer: _target(line, step) for line, step in zip(lines, chosen, strict=True)}
        need, ceiling = _next_need(lines, order, chosen)
        allocated = _cost(lines, chosen)
        return Allocation(
            targets,
            allocated,
            int(need * UP_MARGIN) + reserved_bps + 1 if need else 0,
            int(ceiling * UP_MARGIN) + reserved_bps + 1,
        )

    @staticmethod
    def _line(demand: Demand[K]) -> _Line[K]:
        layers, cut = needed_layers(demand)
        return _Line(demand, ladder(layers, demand.content), cut)

    def _held(self, line: _Line[K]) -> int:
        """Step of the present ladder that stands for what the Consumer has."""
        layer = self._known.get(line.demand.consumer, (None, ()))[0]
        if layer is None:
            return -1
        best = -1
        for index, step in enumerate(line.steps):
            if (step.spatial, step.temporal) <= (layer.spatial, layer.temporal):
                best = index
        return max(best, 0) if line.steps else -1

    def _asked_for(self, line: _Line[K]) -> bool:
        """New, or its view has changed: the user waits for it."""
        known = self._known.get(line.demand.consumer)
        return known is None or known[1] != _view(line.demand)

    def _note_lowered(self, held: Sequence[int], kept: Sequence[int], now_us: int) -> None:
        if all(after >= before for after, before in zip(kept, held, strict=True)):
            if now_us - self._stable_since_us > PROVEN_US and self._hold_us > UP_HOLD_US:
                self._hold_us = max(UP_HOLD_US, self._hold_us // 2)
                self._stable_since_us = now_us
            return
        if self._raised_us is not None and now_us - self._raised_us < FAILED_WITHIN_US:
            self._hold_us = min(LONGEST_HOLD_US, 2 * self._hold_us)
            self._raised_us = None
        self._stable_since_us = now_us
        self._better_since_us = None

    def _raise(
        self,
        lines: Sequence[_Line[K]],
        order: Sequence[tuple[int, int]],
        budget: int,
        kept: list[int],
        asked: Sequence[bool],
        now_us: int,
    ) -> list[int]:
        """What the estimate would allow with a margin, if it has done so for long enough."""
        afresh = _spend(lines, order, budget / UP_MARGIN, [-1] * len(lines))
        more = _spend(lines, order, budget / UP_MARGIN, kept)
        wanted = afresh if _rank(order, afresh) > _rank(order, more) else more
        if wanted == kept:
            self._better_since_us = None
            return kept
        if any(asked):
            self._better_since_us = None
            return wanted
        if self._better_since_us is None:
            self._better_since_us = now_us
        if now_us - self._better_since_us < self._hold_us:
            return kept
        self._better_since_us = None
        self._raised_us = self._stable_since_us = now_us
        return wanted


def _view(demand: Demand[K]) -> tuple[object, ...]:
    return demand.rank, demand.width, demand.height


def _rank(order: Sequence[tuple[int, int]], chosen: Sequence[int]) -> list[bool]:
    """Steps taken, in order of service; the greater list is the better allocation."""
    return [chosen[index] >= step for index, step in order]


def _target(line: _Line[K], step: int) -> Target:
    if step < len(line.steps) - 1:
        reason: LimitedBy = "line"
    elif line.cut_by_view:
        reason = "view"
    elif not line.steps or line.steps[-1].spatial < line.demand.spatial_layers - 1:
        reason = "view" if line.demand.width <= 0 or line.demand.height <= 0 else "source"
    else:
        reason = "nothing"
    if step < 0:
        return Target(NOTHING, NOTHING, reason)
    layer = line.steps[step]
    return Target(layer.spatial, layer.temporal, reason)


def _next_need(lines: Sequence[_Line[K]], order: Sequence[tuple[int, int]], chosen: Sequence[int]) -> tuple[int, int]:
    """Bits at which the cheapest next step is taken (0: none), and bits of everything.

    A step is paid for before all that is served later, so only what comes earlier counts beside it.
    """
    needs = []
    before = 0
    for index, step in order:
        steps = lines[index].steps
        price = steps[step].bitrate_bps - (steps[step - 1].bitrate_bps if step else 0)
        if step <= chosen[index]:
            before += price
        elif step == chosen[index] + 1:
            needs.append(before + price)
    return min(needs, default=0), sum(line.steps[-1].bitrate_bps for line in lines if line.steps)


class RateMeter:
    """Bitrate of one layer over time: rises with the last seconds, falls slowly.

    A still picture costs little until somebody moves; an allocation that believed it would be wrong then.
    """

    __slots__ = ("_bytes", "_since_us", "bps")

    PERIOD_US: Final = 500_000
    FALL: Final = 0.06

    def __init__(self, now_us: int) -> None:
        self.bps = 0
        self._bytes = 0
        self._since_us = now_us

    def update(self, total_bytes: int, now_us: int) -> int:
        """Take what the layer has sent so far, header included; call at every tick."""
        elapsed_us = now_us - self._since_us
        if elapsed_us >= self.PERIOD_US:
            measured = (total_bytes - self._bytes) * 8_000_000 // elapsed_us
            rise = 0.5 if self.bps else 1.0
            self.bps += int((measured - self.bps) * (rise if measured > self.bps else self.FALL))
            self._bytes = total_bytes
            self._since_us = now_us
        return self.bps
