"""How late a server's event loops were in each second, from the histograms that ``/metrics`` shows.

The server counts moments into buckets that only grow (``media.core.lag``); the difference of two looks is what happened
between them. A value becomes its bucket's upper edge, so a bound that holds for it holds. A counter that went back
belongs to another process: it is taken as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from load_tests.report.histogram import Histogram

METRICS: Final = {
    "consilium_event_loop_lag_seconds_bucket": "server_loop_lag_ms",
    "consilium_media_worker_loop_lag_seconds_bucket": "worker_loop_lag_ms",
}
ABOVE_ALL: Final = 2.0
"""What is above the highest edge counts as so many times that edge."""


class LoopLags:
    """Remembers what the last look showed; one for each server."""

    def __init__(self) -> None:
        self._before: dict[str, dict[float, float]] = {}
        self._new: dict[str, Histogram] = {}

    def take(self, text: str) -> dict[str, float]:
        """Look at what ``/metrics`` answered; the worst of each figure since the look before, seconds."""
        found: dict[str, Histogram] = {}
        for (figure, series), counts in read_buckets(text).items():
            before = self._before.get(series, {})
            if any(count < before.get(edge, 0.0) for edge, count in counts.items()):
                before = {}
            self._before[series] = counts
            seen = found.setdefault(figure, Histogram())
            for edge_s, times in added(counts, before):
                seen.add(edge_s * 1000, times)
        names = {"server_loop_lag_ms": "loop_lag_s", "worker_loop_lag_ms": "worker_lag_s"}
        for figure, seen in found.items():
            self._new.setdefault(figure, Histogram()).merge(seen)
        return {names[figure]: seen.highest / 1000 for figure, seen in found.items() if seen.count}

    def pop(self) -> dict[str, Histogram]:
        """By figure: what was new since the last call."""
        new, self._new = self._new, {}
        return new


def read_buckets(text: str) -> dict[tuple[str, str], dict[float, float]]:
    """By figure and series: upper edge in seconds, cumulative count."""
    found: dict[tuple[str, str], dict[float, float]] = {}
    for line in text.splitlines():
        name, brace, rest = line.partition("{")
        if name not in METRICS or not brace:
            continue
        labels, _, value = rest.partition("} ")
        edge = next((label[4:-1] for label in labels.split(",") if label.startswith('le="')), "")
        series = name + ",".join(label for label in labels.split(",") if not label.startswith("le="))
        found.setdefault((METRICS[name], series), {})[float(edge)] = float(value.split()[0])
    return found


def added(now: Mapping[float, float], before: Mapping[float, float]) -> list[tuple[float, int]]:
    """``(edge, count)`` of what is new in each bucket."""
    new, under, below = [], 0.0, 0.0
    for edge in sorted(now):
        cumulative = now[edge] - before.get(edge, 0.0)
        if cumulative > under:
            new.append((edge if edge != float("inf") else below * ABOVE_ALL, round(cumulative - under)))
        under, below = cumulative, edge
    return new
