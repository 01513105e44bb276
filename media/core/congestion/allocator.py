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

What a layer costs is its rate of the last second, smoothed here: it follows upwards in seconds, so that one key
frame moves nobody, and downwards slowly, because a still picture costs little only until somebody moves.

``estimator`` says what the line carries, ``media.core.layers`` what a view needs and what layers measure.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from media.core.layers import NOTHING, Offer, Target, View, best_for_view

K = TypeVar("K", bound=Hashable)

LimitedBy = Literal["nothing", "view", "line", "source"]

UP_MARGIN: Final = 1.15
"""A layer's rate varies about this much; a step up that lasts no minute is worse than none."""
UP_HOLD_US: Final = 1_000_000
LONGEST_HOLD_US: Final = 60_000_000
FAILED_WITHIN_US: Final = 10_000_000
"""A step down so soon after one up says that the step up was wrong."""
PROVEN_US: Final = 60_000_000
"""After so long without a step down the hold is halved."""
PRICE_UP_US: Final = 1_000_000
PRICE_DOWN_US: Final = 10_000_000
"""Time constants of a layer's price."""
GUESS_BITS_PER_PIXEL_S: Final = 1.5
"""Price of a layer that was not measured yet: 1.4 Mbit/s for 1280x720."""
GUESS_BPS: Final = 150_000
"""The same where the size is not known either; times four for each layer above."""
LAST_LAYER_BPS: Final = 100_000
"""A main view's lowest layer up to this is kept while any bits are left."""
LAST_LAYER_FACTOR: Final = 1.5
"""A dearer one only while it takes no more than this of what is left: sound and ECG share the line, and what
overfills it drowns them."""


class Layer(NamedTuple):
    """One thing that can be forwarded: everything of a spatial layer up to a temporal one."""

    spatial: int
    temporal: int
    bitrate_bps: int


@dataclass(frozen=True, slots=True)
class Demand(Generic[K]):
    """One video Consumer that is not paused."""

    consumer: K
    offers: Sequence[Offer]
    """What the publisher sends now."""
    spatial_layers: int
    """How many layers it may send."""
    content: Literal["camera", "screen"] = "camera"
    view: View | None = None
    """None: the viewer does not tell; it is served as ``main`` at the picture's own size."""


class Grant(NamedTuple):
    """What a Consumer is to get, and what keeps it from the best."""

    target: Target
    limited_by: LimitedBy


@dataclass(frozen=True, slots=True)
class Allocation(Generic[K]):
    """What all Consumers of one viewer are to get."""

    grants: dict[K, Grant]
    allocated_bps: int
    """All of them together, without the reserve."""
    need_bps: int
    """Least estimate above the present one that allows more, reserve and margin included; 0: there is no more."""
    ceiling_bps: int
    """Estimate at which everything wanted is sent."""


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
    is_main: bool


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

    __slots__ = ("_better_since_us", "_hold_us", "_known", "_priced_us", "_prices", "_raised_us", "_stable_since_us")

    def __init__(self) -> None:
        self._known: dict[K, tuple[Layer | None, View | None]] = {}
        """What each Consumer was given, and for which view."""
        self._prices: dict[tuple[K, int, int], float] = {}
        self._priced_us = 0
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
        lines = self._price(demands, now_us)
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
            line.demand.consumer: (line.steps[step] if step >= 0 else None, line.demand.view)
            for line, step in zip(lines, chosen, strict=True)
        }
        grants = {line.demand.consumer: _grant(line, step) for line, step in zip(lines, chosen, strict=True)}
        need, ceiling = _next_need(lines, order, chosen, budget / UP_MARGIN)
        allocated = _cost(lines, chosen)
        return Allocation(
            grants,
            allocated,
            int(need * UP_MARGIN) + reserved_bps + 1 if need else 0,
            int(ceiling * UP_MARGIN) + reserved_bps + 1,
        )

    def _price(self, demands: Sequence[Demand[K]], now_us: int) -> list[_Line[K]]:
        """Ladders of what each view needs, at smoothed prices."""
        elapsed_us = max(0, now_us - self._priced_us)
        self._priced_us = now_us
        up, down = elapsed_us / (elapsed_us + PRICE_UP_US), elapsed_us / (elapsed_us + PRICE_DOWN_US)
        prices: dict[tuple[K, int, int], float] = {}
        lines = []
        for demand in demands:
            top = best_for_view(demand.offers, demand.view)
            layers = []
            for offer in demand.offers:
                if offer.spatial > top:
                    break
                for temporal, measured in enumerate(offer.bps):
                    key = (demand.consumer, offer.spatial, temporal)
                    bps = float(measured or guess_bps(offer))
                    before = self._prices.get(key)
                    if before is not None:
                        bps = before + (bps - before) * (up if bps > before else down)
                    prices[key] = bps
                    layers.append(Layer(offer.spatial, temporal, int(bps)))
            cut = bool(demand.offers) and top < demand.offers[-1].spatial
            is_main = demand.view is None or demand.view.rank == "main"
            lines.append(_Line(demand, ladder(layers, demand.content), cut, is_main))
        self._prices = prices
        return lines

    def _held(self, line: _Line[K]) -> int:
        """Step of the present ladder that stands for what the Consumer has."""
        layer = self._known.get(line.demand.consumer, (None, None))[0]
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
        return known is None or known[1] != line.demand.view

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


def _rank(order: Sequence[tuple[int, int]], chosen: Sequence[int]) -> list[bool]:
    """Steps taken, in order of service; the greater list is the better allocation."""
    return [chosen[index] >= step for index, step in order]


def _grant(line: _Line[K], step: int) -> Grant:
    view = line.demand.view
    reason: LimitedBy = "nothing"
    if step < len(line.steps) - 1:
        reason = "line"
    elif line.cut_by_view or (view is not None and view.hidden):
        reason = "view"
    elif not line.steps or line.steps[-1].spatial < line.demand.spatial_layers - 1:
        reason = "source"
    return Grant(Target(*line.steps[step][:2]) if step >= 0 else NOTHING, reason)


def _next_need(
    lines: Sequence[_Line[K]], order: Sequence[tuple[int, int]], chosen: Sequence[int], budget_bps: float
) -> tuple[int, int]:
    """Least bits above the budget at which another step can be taken (0: none), and bits of everything.

    A step is paid for before all that is served later, so only what comes earlier counts beside it: what of it
    is taken now, or all of it, when steps that the budget has room for are only being held back.
    """
    needs = []
    taken = everything = 0
    for index, step in order:
        steps = lines[index].steps
        price = steps[step].bitrate_bps - (steps[step - 1].bitrate_bps if step else 0)
        everything += price
        if step <= chosen[index]:
            taken += price
            continue
        needs.append(everything)
        if step == chosen[index] + 1:
            needs.append(taken + price)
    return min((need for need in needs if need > budget_bps), default=0), everything


def guess_bps(offer: Offer) -> int:
    """Price of a layer that was not measured yet."""
    if offer.width and offer.height:
        return int(offer.width * offer.height * GUESS_BITS_PER_PIXEL_S)
    return int(GUESS_BPS * 4**offer.spatial)
