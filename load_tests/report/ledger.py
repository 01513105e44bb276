"""What one process counts between two reports, and the same added up over all of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from load_tests.report.figures import COUNTS, DISTRIBUTIONS
from load_tests.report.histogram import Histogram

MOST_EVENTS = 200_000
"""Events kept of a run; the rest are counted as left out."""
MOST_ACKNOWLEDGED = 200_000
"""Acknowledged actions that are looked for afterwards."""
MOST_ERRORS = 200
"""Different kinds of error that are told apart."""


class Ledger:
    """Histograms, counts, errors and events."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.distributions: dict[str, Histogram] = {}
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.events: list[list[Any]] = []
        """``[wall time in s, session, kind, what, value]``."""
        self.events_left_out = 0
        self.acks: list[list[Any]] = []
        """``[kind, consult, name, wall time in s]`` of what the server said it had done: it must be found there."""
        self.acks_left_out = 0
        """Of these too many to be kept."""
        self.waves: list[list[int]] = []
        """``[consult, stream, numbering, context version, frames, start in us, frame in us]`` of what was measured."""
        self.last_heard: dict[str, list[float]] = {}
        """By page turn: when it was asked for, the latest any process here heard of it, and how many did."""

    def add(self, figure: str, value: float, times: int = 1) -> None:
        """A value of a distribution."""
        assert figure in DISTRIBUTIONS, figure
        found = self.distributions.get(figure)
        if found is None:
            found = self.distributions[figure] = Histogram()
        found.add(value, times)

    def miss(self, figure: str, times: int = 1) -> None:
        """What should have become a value of a distribution and never did."""
        assert figure in DISTRIBUTIONS, figure
        self.distributions.setdefault(figure, Histogram()).missing += times

    def count(self, figure: str, times: int = 1) -> None:
        """Something more of a count."""
        assert figure in COUNTS, figure
        self.counts[figure] += times

    def merge(self, figure: str, values: Histogram) -> None:
        """Values of a distribution that were counted elsewhere."""
        assert figure in DISTRIBUTIONS, figure
        self.distributions.setdefault(figure, Histogram()).merge(values)

    def error(self, kind: str, times: int = 1) -> None:
        """Something went wrong."""
        self.counts["errors"] += times
        if kind in self.errors or len(self.errors) < MOST_ERRORS:
            self.errors[kind] += times

    def event(self, at_s: float, session: int, kind: str, what: str, value: float = 0.0) -> None:
        """Something that happened to one session."""
        if len(self.events) < MOST_EVENTS:
            self.events.append([round(at_s, 4), session, kind, what, round(value, 3)])
        else:
            self.events_left_out += 1

    def acknowledged(self, kind: str, consult: int, name: str) -> None:
        """The server has said that something is done: an event of this kind, known by its name in a consult."""
        if len(self.acks) < MOST_ACKNOWLEDGED:
            self.acks.append([kind, consult, name, round(time.time(), 4)])
        else:
            self.acks_left_out += 1

    def wave(self, *stream: int) -> None:
        """What a device has measured; see `waves`."""
        self.waves.append(list(stream))

    def take(self) -> dict[str, Any]:
        """Everything since the last call, as plain values; then it is empty."""
        report = {
            "distributions": {name: one.encode() for name, one in self.distributions.items()},
            "counts": dict(self.counts), "errors": dict(self.errors), "events": self.events,
            "events_left_out": self.events_left_out, "last_heard": self.last_heard,
            "acks": self.acks, "acks_left_out": self.acks_left_out, "waves": self.waves,
        }  # fmt: skip
        self._clear()
        return report

    def absorb(self, report: Mapping[str, Any]) -> None:
        """Add what `take` gave, here or in another process."""
        for name, encoded in report["distributions"].items():
            if name in DISTRIBUTIONS:
                self.distributions.setdefault(name, Histogram()).merge(Histogram.decode(encoded))
        self.counts.update({name: times for name, times in report["counts"].items() if name in COUNTS})
        for kind, times in report["errors"].items():
            if kind in self.errors or len(self.errors) < MOST_ERRORS:
                self.errors[kind] += times
        room = MOST_EVENTS - len(self.events)
        self.events += report["events"][:room]
        self.events_left_out += report["events_left_out"] + max(0, len(report["events"]) - room)
        acks = report.get("acks", [])
        free = MOST_ACKNOWLEDGED - len(self.acks)
        self.acks += acks[:free]
        self.acks_left_out += report.get("acks_left_out", 0) + max(0, len(acks) - free)
        self.waves += report.get("waves", [])
        for turn, (asked_s, heard_s, many) in report["last_heard"].items():
            mine = self.last_heard.setdefault(turn, [asked_s, heard_s, 0])
            mine[1] = max(mine[1], heard_s)
            mine[2] += many
