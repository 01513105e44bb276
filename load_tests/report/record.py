"""Everything that a run has measured, before anybody judges it: the coordinator fills it, the report is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from load_tests.plan.scenario import Bound, Scenario
from load_tests.plan.timetable import Planned
from load_tests.report.histogram import Histogram
from load_tests.report.ledger import Ledger
from load_tests.report.witness import Seen

if TYPE_CHECKING:
    from load_tests.run.crew import Hand
    from load_tests.run.inspect import Ghosts
    from load_tests.run.kept import Kept

STEP_S: Final = 0.5
CARRIED_STEPS: Final = 4
"""So long a generator that has not looked still has what it had; then its sessions have nothing."""
CURVE: Final = ("sessions", "joined", "pictures", "pictures_wanted", "waves", "waves_wanted")
"""Columns of a look."""


class Curve:
    """How many sessions had what, of all generators together, in steps of half a second.

    A generator looks about four times a second. Its value of a step is the mean of its looks there; the values of all
    are added. So a generator that has ended takes its sessions with it, and is not taken to be like the others.
    """

    def __init__(self) -> None:
        self._steps: dict[int, dict[str, tuple[int, list[float]]]] = {}
        self._last: dict[str, list[float]] = {}

    def add(self, generator: str, at_s: float, values: Sequence[float]) -> None:
        """A look of one generator, seconds of the run; `CURVE` names the values."""
        step = self._steps.setdefault(int(at_s // STEP_S), {})
        looks, sums = step.get(generator, (0, [0.0] * len(CURVE)))
        step[generator] = looks + 1, [one + more for one, more in zip(sums, values, strict=True)]
        self._last[generator] = list(values)

    def now(self) -> list[float]:
        """The last look of each, added up; zeros when nobody has looked."""
        return [sum(column) for column in zip(*self._last.values(), strict=True)] or [0.0] * len(CURVE)

    def totals(self, until_s: float) -> list[tuple[float, list[float]]]:
        """``(seconds of the run, values)`` of each step from the beginning to an end."""
        found: list[tuple[float, list[float]]] = []
        carried: dict[str, tuple[int, list[float]]] = {}
        for step in sorted(step for step in self._steps if 0 <= step * STEP_S <= until_s):
            for generator, (looks, sums) in self._steps[step].items():
                carried[generator] = step, [one / looks for one in sums]
            here = [values for at, values in carried.values() if step - at <= CARRIED_STEPS]
            found.append((step * STEP_S, [sum(column) for column in zip(*here, strict=True)]))
        return found


@dataclass
class Record:
    """One run."""

    scenario: Scenario
    planned: list[Planned]
    load_before: float = 0.0
    """The machine's load of the minute before anything was started."""
    started_s: float = 0.0
    """Wall clock when the timetable began."""
    ended_s: float = 0.0
    interrupted: bool = False
    broken: str = ""
    """Why the run could not go on, as a sentence."""
    totals: Ledger = field(default_factory=Ledger)
    """Of the measured time; the join figures of the whole run."""
    seconds: dict[int, dict[str, Histogram]] = field(default_factory=dict)
    """Some distributions of each second of the run."""
    counts: dict[int, dict[str, int]] = field(default_factory=dict)
    """Counts of each second."""
    curve: Curve = field(default_factory=Curve)
    server: list[dict[str, float]] = field(default_factory=list)
    """Samples, each with ``t``, seconds since the beginning."""
    looks_late: int = 0
    """Times that the coordinator looked at the server more than half a second late, by its own fault."""
    clock_jump_s: float = 0.0
    """By how much the machine's wall clock was set while the run went on."""
    faults: list[tuple[float, str]] = field(default_factory=list)
    proofs: list[str] = field(default_factory=list)
    """Of each fault, in the same order: how it is known that it really happened."""
    hands: list[Hand] = field(default_factory=list)
    own_server: bool = True
    notes: list[str] = field(default_factory=list)
    """What the reader of the figures must know besides."""
    stores: dict[str, float] = field(default_factory=dict)
    """By how much database, archive and redis's counts grew (`stores`); empty where the server is not ours."""
    lock_mismatch: int | None = None
    """Messages through the lock that are not where they should be, exactly once and in order; None: nobody looked."""
    profiles: dict[str, str] = field(default_factory=dict)
    """Folded stacks by process, where they were asked for; see ``run.profile``."""
    profiled_s: float = 0.0
    witnesses: Sequence[Seen] = ()
    """What real browsers saw; never in `totals`."""
    entering: tuple[float, float] = (0.0, 0.0)
    """Seconds of the run in which witnesses come in: no session does and nothing is measured."""
    log: str = ""
    """The end of what a server of our own said."""
    kept: Kept | None = None
    """What the server's data folder held afterwards; None: it was not ours to look into."""
    ghosts: Ghosts | None = None
    """Participants that consults still had when everybody had left; None: nobody looked."""
    bounds: tuple[Bound, ...] = ()
    """Further ones, besides the scenario's: those of an earlier run."""
    command: tuple[str, ...] = ()
    """What was asked for on the command line."""

    @property
    def length_s(self) -> float:
        """Of the run as it was."""
        return max(0.001, self.ended_s - self.started_s)

    def measured(self, at_s: float) -> bool:
        """Warming up is over at a moment of the run."""
        return at_s >= self.scenario.measure_from_s

    def judged(self, at_s: float) -> bool:
        """Generators are held to account for what a report of this moment is of."""
        return not self.entering[0] < at_s < self.entering[1]
