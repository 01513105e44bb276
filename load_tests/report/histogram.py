"""Full histograms with a bounded relative error, that add up over processes and machines.

Percentiles of a run must come from all of its values: an average of percentiles is no percentile. So every process
counts its values in buckets that all of them share, and the buckets are added. Values are kept to one part in 128
(0.8 %), from 1 unit of ``scale`` on; below that to one unit. The layout is HdrHistogram's: powers of two, each cut
into 128 equal parts, so a bucket is found by shifts. It is ours because the library of that name would be one more
binary for what is a page of arithmetic, and knows neither what is missing nor our wire.

What never came is counted too (``missing``): a percentile over those that succeeded alone would get better the more
of them fail. Percentiles are nearest-rank with the missing as larger than any value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

HALF_BITS: Final = 7
PARTS: Final = 1 << HALF_BITS
"""Parts of a power of two: the relative error is at most 1 / PARTS."""
MAX_UNITS: Final = (1 << 40) - 1
ERROR: Final = 1 / PARTS
MOST_IN_A_STALL: Final = 1_000
"""Moments that one wake-up may stand for: a machine that slept an hour had no busy loop."""


def bucket_of(units: int) -> int:
    """Number of the bucket of a value of whole units, 0 or more."""
    shift = max(0, units.bit_length() - HALF_BITS - 1)
    return (shift << HALF_BITS) + (units >> shift)


def top_of(bucket: int) -> int:
    """Largest value of a bucket."""
    if bucket < 2 * PARTS:
        return bucket
    shift = (bucket >> HALF_BITS) - 1
    return (((bucket & (PARTS - 1)) + PARTS + 1) << shift) - 1


class Histogram:
    """Counts of non-negative values.

    Args:
        scale: units in one of the values' own unit: 1000 keeps milliseconds to a microsecond.
    """

    __slots__ = ("_counts", "count", "highest", "lowest", "missing", "scale", "total")

    def __init__(self, scale: int = 1000) -> None:
        self.scale = scale
        self.count = 0
        self.missing = 0
        """Of what was waited for and never came."""
        self.total = 0.0
        self.lowest = math.inf
        self.highest = 0.0
        self._counts: dict[int, int] = {}

    def add(self, value: float, times: int = 1) -> None:
        """Count a value; negative ones, which only a clock that was set can make, count as 0."""
        value = max(0.0, value)
        units = min(MAX_UNITS, round(value * self.scale))
        bucket = bucket_of(units)
        self._counts[bucket] = self._counts.get(bucket, 0) + times
        self.count += times
        self.total += value * times
        self.lowest = min(self.lowest, value)
        self.highest = max(self.highest, value)

    def merge(self, other: Histogram) -> None:
        """Add another one's counts.

        Raises:
            ValueError: it has another scale.
        """
        if other.scale != self.scale:
            raise ValueError(f"histograms of scale {self.scale} and {other.scale}")
        for bucket, times in other._counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + times
        self.count += other.count
        self.missing += other.missing
        self.total += other.total
        self.lowest = min(self.lowest, other.lowest)
        self.highest = max(self.highest, other.highest)

    def percentile(self, percent: float) -> float | None:
        """Nearest-rank percentile; None when it is one of the missing, or nothing was counted.

        Too high by at most ``ERROR``, never too low: a bound that holds for it holds.
        """
        everything = self.count + self.missing
        rank = max(1, math.ceil(everything * percent / 100))
        if rank > self.count:
            return None
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= rank:
                return min(self.highest, top_of(bucket) / self.scale)
        raise AssertionError("counts do not add up")

    @property
    def mean(self) -> float | None:
        """Of the values that came."""
        return self.total / self.count if self.count else None

    def share_above(self, value: float) -> float:
        """Share of everything that is in a bucket above the value's, the missing included."""
        edge = bucket_of(min(MAX_UNITS, round(value * self.scale)))
        above = sum(times for bucket, times in self._counts.items() if bucket > edge) + self.missing
        return above / max(1, self.count + self.missing)

    def steps(self) -> list[tuple[float, int]]:
        """``(largest value, count)`` of each bucket that has any, ascending."""
        return [(top_of(bucket) / self.scale, self._counts[bucket]) for bucket in sorted(self._counts)]

    def encode(self) -> dict[str, Any]:
        """For the wire and for files: plain values, as small as what was counted."""
        return {
            "scale": self.scale, "missing": self.missing, "total": self.total,
            "lowest": self.lowest if self.count else 0.0, "highest": self.highest,
            "counts": [part for pair in sorted(self._counts.items()) for part in pair],
        }  # fmt: skip

    @classmethod
    def decode(cls, value: Mapping[str, Any]) -> Histogram:
        """What `encode` made.

        Raises:
            ValueError: something else.
        """
        try:
            made = cls(int(value["scale"]))
            flat = [int(part) for part in value["counts"]]
            made._counts = dict(zip(flat[::2], flat[1::2], strict=True))
            made.missing, made.total = int(value["missing"]), float(value["total"])
            made.highest = float(value["highest"])
            lowest = float(value["lowest"])
        except (KeyError, TypeError) as problem:
            raise ValueError("not a histogram") from problem
        if made.scale < 1 or made.missing < 0 or any(k < 0 or n < 1 for k, n in made._counts.items()):
            raise ValueError("not a histogram")
        made.count = sum(made._counts.values())
        made.lowest = lowest if made.count else math.inf
        return made


def over_time(late: Histogram, step: float) -> Histogram:
    """Wake-ups by how late they were, as moments: late by L, by L less a step, by L less two, as each would have been.

    While a loop stands still its timers do not fire, so counting what fires counts a stall once, however long it was,
    and each quiet moment once too: a percentile of that hides what it is to find. (`media.core.lag` does the same.)
    """
    made = Histogram(late.scale)
    made.missing = late.missing
    for value, times in late.steps():
        value = min(value, late.highest)
        for number in range(min(MOST_IN_A_STALL, 1 + int(value / step))):
            made.add(value - number * step, times)
    return made


def merged(parts: Iterable[Histogram]) -> Histogram:
    """All of them as one; an empty one when there are none."""
    result: Histogram | None = None
    for one in parts:
        if result is None:
            result = Histogram(one.scale)
        result.merge(one)
    return result if result is not None else Histogram()
