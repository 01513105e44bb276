"""Which layer of a Producer a viewer should follow, as far as the picture alone decides.

A camera sends up to three sizes at once (simulcast) or inside each other (SVC), each perhaps at several
frame rates (temporal layers). A viewer needs the smallest one that is not smaller than the area it shows the
picture in; what its line has room for is a second limit, from ``congestion``. A publisher switches layers
off when its own uplink is thin or its camera small, so only layers that have lately sent
something count.

Moving a viewer is ``router``; this file only measures and chooses. No clock and no I/O here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

Rank = Literal["main", "tile"]

SILENT_US: Final = 1_000_000
"""A layer that has sent nothing for this long is off: the slowest camera worth showing gives two frames in it."""
WINDOW_US: Final = 1_000_000
"""Rates are told over this; shorter windows see a key frame as a change of rate."""
MAX_TEMPORAL_LAYERS: Final = 4
TOLERATED_SHORTAGE: Final = 0.8
"""A layer a little smaller than its area is not worth four times the bits: 80 % of the height still looks sharp."""


class View(NamedTuple):
    """What a screen shows of a picture."""

    width: int
    """Device pixels; 0 by 0 is not visible."""
    height: int
    rank: Rank

    @property
    def hidden(self) -> bool:
        """Nothing needs to be sent."""
        return self.width == 0 or self.height == 0


class Target(NamedTuple):
    """A layer and how many of its frames; ``(-1, -1)`` is nothing."""

    spatial: int
    temporal: int


NOTHING: Final = Target(-1, -1)


@dataclass(slots=True)
class LayerMeter:
    """Size and rate of one incoming stream, told apart by spatial (SVC) and temporal layer.

    ``add`` runs for every packet, so it only adds up; rates are worked out when somebody asks.
    """

    width: int = 0
    """Pixels of the last key frame; 0 where the codec does not say."""
    height: int = 0
    last_us: int = -SILENT_US
    _bytes: dict[tuple[int, int], int] = field(default_factory=dict)
    """By (spatial, temporal)."""
    _since_us: int = -1
    _rates: dict[Target, int] = field(default_factory=dict)

    def add(self, spatial: int, temporal: int, size_bytes: int, now_us: int) -> None:
        """One packet of media."""
        sums, key = self._bytes, (spatial, temporal)
        sums[key] = sums.get(key, 0) + size_bytes
        self.last_us = now_us

    def active(self, now_us: int) -> bool:
        """It has lately sent something."""
        return now_us - self.last_us < SILENT_US

    def rates(self, now_us: int) -> dict[Target, int]:
        """Bits per second of each layer by itself over the last second or so; empty before the first is over."""
        if self._since_us < 0:
            self._since_us = now_us
            return self._rates
        elapsed_us = now_us - self._since_us
        if elapsed_us >= WINDOW_US:
            self._rates = {Target(*key): size * 8_000_000 // elapsed_us for key, size in self._bytes.items() if size}
            self._bytes = {}
            self._since_us = now_us
        return self._rates

    def told(self, width: int, height: int, rates: dict[Target, int], now_us: int) -> None:
        """What another meter has measured of the same stream, which itself does not come here now."""
        if width and height:
            self.width, self.height = width, height
        self.last_us = self._since_us = now_us
        self._bytes, self._rates = {}, rates


class Offer(NamedTuple):
    """One spatial layer that can be followed now."""

    spatial: int
    width: int
    """Pixels, 0 when unknown."""
    height: int
    bps: tuple[int, ...]
    """Bits per second with temporal layers up to 0, 1, ... included; at least one entry, 0 when not yet known."""


def cumulative(rates: dict[Target, int], spatial: int, nested: bool) -> tuple[int, ...]:
    """Bits per second of a spatial layer up to each temporal layer.

    Args:
        rates: of each layer by itself.
        nested: SVC, where an upper spatial layer needs the lower ones too.
    """
    by_temporal: dict[int, int] = {}
    for target, bps in rates.items():
        if target.spatial == spatial or (nested and target.spatial < spatial):
            by_temporal[target.temporal] = by_temporal.get(target.temporal, 0) + bps
    if not by_temporal:
        return (0,)
    total, sums = 0, []
    for temporal in range(min(max(by_temporal) + 1, MAX_TEMPORAL_LAYERS)):
        total += by_temporal.get(temporal, 0)
        sums.append(total)
    return tuple(sums)


def best_for_view(offers: Sequence[Offer], view: View | None) -> int:
    """The spatial layer a viewer would get if its line had no limit; -1 for nothing.

    Args:
        offers: what the publisher sends now, smallest first.
        view: None shows it at its own size.
    """
    if not offers or (view is not None and view.hidden):
        return -1
    if view is None:
        return offers[-1].spatial
    for offer in offers:
        if not offer.width or not offer.height:
            continue
        # The picture is fitted into the area, so the tighter side decides.
        scale = min(view.width / offer.width, view.height / offer.height)
        if scale <= 1 / TOLERATED_SHORTAGE:
            return offer.spatial
    return offers[-1].spatial
