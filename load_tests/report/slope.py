"""Does something grow? The slope of a gauge over time, by an estimate that a few odd values do not move.

Least squares follow a single step: a garbage collection at the end of an hour, or a file that was open for a minute,
becomes so many megabytes or descriptors an hour. The estimate is Theil's and Sen's: the median of the slopes between
all pairs of points, of up to 29 % odd ones none has any weight. Neighbouring samples are not independent of each other
(memory grows in steps), so they are first put together in blocks, each with its median; the interval is Sen's at 95 %
over these blocks, by Kendall's variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

BLOCKS: Final = 40
LEAST_BLOCKS: Final = 4
STEADY_S: Final = 60.0
"""A slope over less is noise."""
SURE: Final = 1.96
"""Standard deviations of 95 %."""

Sample = tuple[float, float]


class Slope(NamedTuple):
    """A growth, an hour."""

    per_hour: float
    low: float
    high: float
    """The interval in which it lies, 95 %."""
    middle: Sample
    """A point of the line: median of the times, median of the values less what they grew."""

    @property
    def error(self) -> float:
        """Half of the interval."""
        return (self.high - self.low) / 2


def slope_of(samples: Sequence[Sample]) -> Slope | None:
    """Of ``(seconds, value)``; None when that is too short to say."""
    if len(samples) < LEAST_BLOCKS or samples[-1][0] - samples[0][0] < STEADY_S:
        return None
    points = blocks(samples)
    slopes = sorted(
        (later[1] - one[1]) / (later[0] - one[0])
        for number, one in enumerate(points)
        for later in points[number + 1 :]
        if later[0] > one[0]
    )
    if not slopes:
        return None
    count = len(points)
    spread = SURE * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = slopes[max(0, math.floor((len(slopes) - spread) / 2))]
    high = slopes[min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))]
    mean = median(slopes)
    at_s = median(at for at, _ in points)
    value = median(one - mean * (at - at_s) for at, one in points)
    return Slope(mean * 3600, low * 3600, high * 3600, (at_s, value))


def blocks(samples: Sequence[Sample]) -> list[Sample]:
    """At most `BLOCKS`: of each run of neighbours the median time and the median value."""
    size = max(1, math.ceil(len(samples) / BLOCKS))
    parts = [samples[start : start + size] for start in range(0, len(samples), size)]
    return [(median(at for at, _ in part), median(value for _, value in part)) for part in parts]


def later_half(samples: Sequence[Sample]) -> Sequence[Sample]:
    """What is judged: at the beginning caches fill, which is growth and no leak."""
    return samples[len(samples) // 2 :]
