"""A scenario file as values: who comes when, on what lines, what breaks, and what would be too slow.

A scenario is populations of behaviours over time, plus faults, plus bounds. Everything else follows: the world of
hospitals and accounts that the server is filled with, and the timetable (``timetable``).
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from load_tests.plan.behaviour import BEHAVIOURS, Behaviour, Seconds
from load_tests.plan.line import LINES, Line

LONGEST_S = 4 * 3600
MOST_SESSIONS = 20_000


class Part(BaseModel):
    """Base of everything in a scenario file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Arrival(Part):
    """When the members of a population come, counted from the beginning of their consult."""

    from_s: Seconds = 0
    over_s: Seconds = 0
    order: Literal["even", "random"] = "even"


class Consults(Part):
    """How many consults there are, and when each begins."""

    count: Annotated[int, Field(ge=1, le=5_000)] = 1
    begin_over_s: Seconds = 0
    """They begin spread over this; 0: all with the run."""
    by_hour: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """Weights of equal parts of ``begin_over_s``, for instance of the hours of a working day. Empty: evenly."""
    length_s: Seconds = 0
    """Everybody leaves so long after their consult began; 0: nobody leaves before the end."""


class Population(Part):
    """So many participants of one behaviour in each consult."""

    behaviour: str
    each: Annotated[int, Field(ge=1, le=1_000)] = 1
    line: str = "lan"
    arrival: Arrival = Arrival()
    change: dict[str, Any] = {}
    """Fields of the behaviour that are different here."""


class Serving(Part):
    """How a run starts the server of its own."""

    nodes: Annotated[int, Field(ge=1, le=8)] = 1
    """Server processes of one hub, each on a port of its own; more than one need redis."""
    spread: Literal["consult", "session"] = "consult"
    """Which node a session goes to: that of its consult, as a load balancer does, or the next one."""
    redis: bool = False
    database: Literal["sqlite", "postgresql"] = "sqlite"
    drive_mb: Annotated[int, Field(ge=0, le=4_096)] = 0
    """The data folder is on a file system of this size; 0: on the machine's."""

    @model_validator(mode="after")
    def _nodes_find_each_other(self) -> Self:
        if self.nodes > 1 and not self.redis:
            raise ValueError("several nodes find each other by redis = true")
        return self


FaultKind = Literal[
    "kill_worker", "kill_server", "kill_redis", "restart_redis", "stall_database", "fill_disk", "step_clock", "cut",
    "loss", "cut_lock",
]  # fmt: skip


class Fault(Part):
    """Something that breaks; ``cut_lock`` is the line between gateways and hub."""

    at_s: Seconds
    kind: FaultKind
    for_s: Seconds = 5
    """How long it lasts: a cut, loss, a full disk, a stalled database, a killed server or redis until it is started."""
    share: Annotated[float, Field(gt=0, le=1)] = 1
    """Of the participants, for a cut or loss."""
    percent: Annotated[float, Field(gt=0, le=100)] = 5
    """Of the datagrams, for loss."""
    step_s: Annotated[float, Field(ge=-86_400, le=86_400)] = 3_600
    """By how much the server's wall clock jumps, for step_clock; it jumps back after ``for_s``."""


class Bound(Part):
    """A figure that must not be passed."""

    figure: str
    percentile: Literal["50", "95", "99", "max", "value"] = "99"
    """``value``: of a count or a share that is no histogram."""
    at_most: float | None = None
    at_least: float | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("a bound has either at_most or at_least")
        return self


class Scenario(Part):
    """A whole file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]
    about: str
    seed: int = 1
    duration_s: Annotated[float, Field(gt=0, le=LONGEST_S)]
    measure_from_s: Seconds = 0
    """What happens before is warming up: counted nowhere but in the join figures."""
    sign_in: bool = True
    """People type their passwords; False: they come signed in. A password costs the server tens of milliseconds of a
    core on purpose, which hides whatever else a scenario is about when many come at once."""
    record_resources: Annotated[int, Field(ge=0, le=200_000)] = 120
    """Results in each patient's record."""
    lines: dict[str, Line] = {}
    server: Serving = Serving()
    """Of a run that starts its own; one that runs already is as it is."""
    hospitals: Annotated[int, Field(ge=0, le=16)] = 0
    """Partner hospitals with a gateway of their own, which the run starts beside the server; consult n is with
    hospital n modulo this. 0: no hospital has a gateway."""
    consults: Consults = Consults()
    population: Annotated[tuple[Population, ...], Field(min_length=1)]
    fault: tuple[Fault, ...] = ()
    bound: tuple[Bound, ...] = ()

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for one in self.population:
            if one.behaviour not in BEHAVIOURS:
                raise ValueError(unknown("behaviour", one.behaviour, BEHAVIOURS))
            if one.line not in {**LINES, **self.lines}:
                raise ValueError(unknown("line", one.line, {**LINES, **self.lines}))
            self.behaviour_of(one)
        return self

    @model_validator(mode="after")
    def _fits_in_time(self) -> Self:
        late = [fault.at_s for fault in self.fault if fault.at_s >= self.duration_s]
        if late or self.measure_from_s >= self.duration_s:
            raise ValueError(f"something is to happen after the end, duration_s = {self.duration_s:g}")
        sessions = self.consults.count * sum(one.each for one in self.population)
        if sessions > MOST_SESSIONS:
            raise ValueError(f"{sessions} sessions are more than {MOST_SESSIONS}")
        return self

    @model_validator(mode="after")
    def _lock_has_hospitals(self) -> Self:
        if self.hospitals:
            return self
        for one in self.population:
            behaviour = self.behaviour_of(one)
            if behaviour.who == "hospital" or behaviour.lock_read_every_s:
                raise ValueError(f"{one.behaviour} needs hospitals = 1 or more")
        if any(one.kind == "cut_lock" for one in self.fault):
            raise ValueError("cut_lock needs hospitals = 1 or more")
        return self

    @model_validator(mode="after")
    def _faults_have_what_breaks(self) -> Self:
        for one in self.fault:
            if one.kind in ("kill_redis", "restart_redis") and not self.server.redis:
                raise ValueError(f"{one.kind} needs [server] redis = true")
            if one.kind == "fill_disk" and not self.server.drive_mb:
                raise ValueError("fill_disk needs [server] drive_mb: only a drive of the run's own is filled")
        return self

    def behaviour_of(self, population: Population) -> Behaviour:
        """The behaviour with what this population changes.

        Raises:
            ValueError: a change that the behaviour has no field for, or of a wrong value.
        """
        base = BEHAVIOURS[population.behaviour]
        for name in population.change:
            if name not in Behaviour.model_fields:
                raise ValueError(unknown("field of a behaviour", name, Behaviour.model_fields))
        try:
            return Behaviour.model_validate({**base.model_dump(), **population.change})
        except ValidationError as problem:
            first = problem.errors()[0]
            raise ValueError(f"change.{first['loc'][0]}: {first['msg']}") from None

    def line_of(self, population: Population) -> Line:
        """The line with the name that the population gives."""
        return self.lines.get(population.line) or LINES[population.line]


def unknown(what: str, name: str, known: Any) -> str:
    """A sentence with the nearest name there is."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(sorted(known))}."
    return f"there is no {what} {name!r}. {hint}"


__all__ = ["Arrival", "Bound", "Consults", "Fault", "Population", "Scenario", "Serving", "unknown"]
