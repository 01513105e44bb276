"""What real browsers saw of a run: figures of their own, never added to those of simulated sessions.

A browser decodes, buffers and draws, and it shares the machine with everything that is measured; so its figures stand
in a table of their own, and beside the simulated ones only where both measure the same thing (`BESIDE`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from load_tests.report.histogram import Histogram, merged

FIGURES: Final[dict[str, str]] = {
    "first_picture_ms": "from pressing Join to the first decoded picture, as the page marked it",
    "frames_per_s": "pictures decoded, of each video and second",
    "jitter_buffer_ms": "mean wait in the jitter buffer, of each track and second",
    "forward_ms": "sender's send of a picture's last packet to the browser having the whole picture",
    "ecg_age_ms": "age of the newest sample drawn, as the view itself says while it is LIVE",
    "event_ms": "lead turns a page to the page's script hearing of it",
    "turn_shown_ms": "lead turns a page to the record pane showing it",
}
COUNTS: Final[dict[str, str]] = {
    "frames_decoded": "pictures decoded",
    "frames_dropped": "of these, not shown",
    "freezes": "times that a picture stood, as WebRTC counts them",
    "packets": "RTP packets received",
    "packets_lost": "never came",
    "ecg_looks": "times that the ECG view was looked at",
    "ecg_live": "of these, LIVE",
}


class Pair(NamedTuple):
    """A figure that both kinds measure."""

    witness: str
    simulated: str
    note: str


BESIDE: Final[tuple[Pair, ...]] = (
    Pair(
        "first_picture_ms", "join_first_picture_ms",
        "a witness decodes it, and counts from the click; a session from its first request, signing in included",
    ),
    Pair("forward_ms", "forward_ms", "a witness's has the way through the browser's processes in it"),
    Pair(
        "ecg_age_ms", "ecg_age_ms",
        "a witness's is of the newest sample drawn; a session's of the oldest of a frame, 100 ms older, on arrival",
    ),
    Pair("event_ms", "event_ms", ""),
)  # fmt: skip


class Spread(BaseModel):
    """A distribution of one witness."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    p50: float | None
    p99: float | None
    max: float | None


class WitnessState(BaseModel):
    """One real browser."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    consult: str
    problem: str
    """Why it did not take part, or not to the end; empty when it did."""
    watched_s: float
    cpu_cores: float
    """Of all its processes, mean; it shared the machine."""
    distributions: dict[str, Spread]
    counts: dict[str, int]


class Beside(BaseModel):
    """A figure of all witnesses together and the one of the simulated sessions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    witness: str
    simulated: str
    note: str
    witness_p50: float | None
    witness_p99: float | None
    simulated_p50: float | None
    simulated_p99: float | None


@dataclass
class Seen:
    """What one witness told, as it comes in.

    Args:
        measure_from_s: what came before, on the run's clock, is warming up; how it joined counts all the same.
    """

    name: str
    consult: str
    measure_from_s: float = 0.0
    problem: str = ""
    ready: bool = False
    joined: bool = False
    left: bool = False
    histograms: dict[str, Histogram] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _before: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Statistics of each track at the last look."""
    _first: tuple[float, float] | None = None
    _last: tuple[float, float] | None = None
    """``(at, CPU)`` of the first and the last look that count."""

    def look(self, at_s: float, told: Mapping[str, Any]) -> None:
        """Once a second: the page's statistics and notes.

        Args:
            at_s: on the run's clock.
        """
        first_ms = told["clickToFirstFrameMs"]
        if first_ms is not None and "first_picture_ms" not in self.histograms:
            self._add("first_picture_ms", first_ms)
        measured = at_s >= self.measure_from_s
        passed_s = at_s - self._last[0] if self._last is not None else 0.0
        before, self._before = self._before, {one["id"]: one for one in told["tracks"]}
        if not measured:
            return
        self._last = (at_s, told["cpu_s"])
        self._first = self._first or self._last
        for name in ("forward_ms", "event_ms", "turn_shown_ms", "ecg_age_ms"):
            for value in told[name]:
                self._add(name, value)
        for name in ("ecg_looks", "ecg_live"):
            self._count(name, told[name])
        for track, now in self._before.items():
            if (then := before.get(track)) is not None and passed_s > 0:
                self._track(then, now, passed_s)

    def _track(self, then: Mapping[str, Any], now: Mapping[str, Any], passed_s: float) -> None:
        def more(name: str) -> int:
            return max(0, int(now[name]) - int(then[name]))

        self._count("packets", more("packetsReceived"))
        self._count("packets_lost", more("packetsLost"))
        if (emitted := more("jitterBufferEmittedCount")) > 0:
            waited_s = now["jitterBufferDelay"] - then["jitterBufferDelay"]
            self._add("jitter_buffer_ms", max(0.0, waited_s) / emitted * 1000)
        if now["kind"] == "video":
            self._count("frames_decoded", more("framesDecoded"))
            self._count("frames_dropped", more("framesDropped"))
            self._count("freezes", more("freezeCount"))
            self._add("frames_per_s", more("framesDecoded") / passed_s)

    def _add(self, name: str, value: float) -> None:
        self.histograms.setdefault(name, Histogram()).add(value)

    def _count(self, name: str, times: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + times

    def state(self) -> WitnessState:
        """In the words of the summary."""
        (from_s, spent_s), (until_s, all_s) = self._first or (0.0, 0.0), self._last or (0.0, 0.0)
        watched_s = until_s - from_s
        return WitnessState(
            name=self.name, consult=self.consult, problem=self.problem, watched_s=round(watched_s, 1),
            cpu_cores=round((all_s - spent_s) / watched_s, 3) if watched_s > 0 else 0.0,
            distributions={name: _spread(self.histograms[name]) for name in FIGURES if name in self.histograms},
            counts={name: self.counts[name] for name in COUNTS if name in self.counts},
        )  # fmt: skip


def beside(witnesses: Sequence[Seen], simulated: Mapping[str, Histogram]) -> tuple[Beside, ...]:
    """Where both measured the same thing."""
    found = []
    for pair in BESIDE:
        ours = merged(one.histograms[pair.witness] for one in witnesses if pair.witness in one.histograms)
        theirs = simulated.get(pair.simulated, Histogram())
        if ours.count and theirs.count:
            found.append(
                Beside(
                    witness=pair.witness, simulated=pair.simulated, note=pair.note,
                    witness_p50=_rounded(ours.percentile(50)), witness_p99=_rounded(ours.percentile(99)),
                    simulated_p50=_rounded(theirs.percentile(50)), simulated_p99=_rounded(theirs.percentile(99)),
                )
            )  # fmt: skip
    return tuple(found)


def of_witnesses(witnesses: Sequence[Seen]) -> list[str]:
    """What a reader must know of them, a sentence each."""
    found = [f"Witness {one.name} did not take part to the end: {one.problem}." for one in witnesses if one.problem]
    if witnesses:
        cores = sum(one.state().cpu_cores for one in witnesses)
        found.append(
            f"{len(witnesses)} real Chromiums took part as viewers and used {cores:.2f} cores of this machine. "
            "Simulated cameras send a still picture in packets of true size: cheaper to decode than a real one."
        )
    return found


def _spread(one: Histogram) -> Spread:
    return Spread(
        count=one.count, p50=_rounded(one.percentile(50)), p99=_rounded(one.percentile(99)),
        max=_rounded(one.highest if one.count else None),
    )  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
