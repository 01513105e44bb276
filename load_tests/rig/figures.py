"""One figure a line, as JSON: the shape that every benchmark of this project prints."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence

Scalar = str | int | float | bool


def emit(
    figure: str,
    value: float,
    unit: str,
    params: Mapping[str, Scalar] | None = None,
    against: Mapping[str, float] | None = None,
) -> None:
    """Print one figure.

    Args:
        figure: stable snake_case name.
        value: the measured value in ``unit``.
        unit: ``us``, ``ms``, ``bytes``, ``count``...
        params: what it was measured with.
        against: value of each alternative measured in the same run; the ratio
            ``value / alternative`` is added for each.
    """
    others = dict(against or {})
    line = {
        "figure": figure,
        "value": round(value, 4),
        "unit": unit,
        "params": dict(params or {}),
        "against": others,
        "ratio": {name: round(value / other, 4) for name, other in others.items() if other},
    }
    print(json.dumps(line, ensure_ascii=False), flush=True)


def note(text: str) -> None:
    """Progress for the person who waits; never on standard output."""
    print(text, file=sys.stderr, flush=True)


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile of a non-empty sequence."""
    ordered = sorted(values)
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[max(0, rank - 1)]


def median(values: Sequence[float]) -> float:
    """Median of a non-empty sequence."""
    return statistics.median(values)
