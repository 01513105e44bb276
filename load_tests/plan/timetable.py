"""From a scenario and its seed to the list of sessions: who, in which consult, when, on which line.

The same scenario and seed give the same timetable on every machine and however many processes share it, so a run can
be repeated and a session be talked about by its number.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from load_tests.plan.behaviour import Behaviour
from load_tests.plan.line import Line
from load_tests.plan.scenario import Arrival, Consults, Scenario


@dataclass(frozen=True, slots=True)
class Planned:
    """One session."""

    number: int
    consult: int
    """0 to ``consults.count - 1``."""
    behaviour: Behaviour
    kind: str
    """Name of the behaviour."""
    index: int
    """Which of its kind in the consult, from 0; together with the behaviour it chooses an account."""
    line: Line
    at_s: float
    """When it comes, from the beginning of the run."""
    until_s: float
    """When it leaves."""
    leads: bool = False
    of: int = 0
    """The scenario's seed."""

    @property
    def seed(self) -> str:
        """Of everything random that it does, and of what its line loses."""
        return f"{self.of}-session-{self.number}"


FILES_EACH = 5
"""Two Transports, a WebSocket and two HTTP connections."""
FILES_SOCKET_ONLY = 3
"""Without media: a WebSocket, the one before it while that closes, and an HTTP connection."""
FILES_BESIDE = 256


def files_for(sessions: int, each: int = FILES_EACH) -> int:
    """Open files that a process with so many sessions needs."""
    return each * sessions + FILES_BESIDE


def files_each(planned: Iterable[Planned]) -> int:
    """What the one of them who needs most needs."""
    return max((FILES_EACH if needs_many(one.behaviour) else FILES_SOCKET_ONLY for one in planned), default=FILES_EACH)


def needs_many(behaviour: Behaviour) -> bool:
    """Whether it has media, or more than one request under way."""
    return bool(behaviour.media or behaviour.page_every_s or behaviour.lock_read_every_s or behaviour.who == "hospital")


def timetable(scenario: Scenario) -> list[Planned]:
    """All sessions, by the time they come."""
    chance = random.Random(scenario.seed)
    begins = consult_begins(scenario.consults, chance)
    planned: list[Planned] = []
    for consult, begin_s in enumerate(begins):
        length_s = scenario.consults.length_s
        until_s = min(scenario.duration_s, begin_s + length_s) if length_s else scenario.duration_s
        counts: dict[tuple[str, bool, int | None], int] = {}
        led = False
        for population in scenario.population:
            behaviour = scenario.behaviour_of(population)
            account = (behaviour.who, behaviour.partner, behaviour.screen)
            for offset_s in arrivals(population.arrival, population.each, chance):
                index = counts[account] = counts.get(account, -1) + 1
                planned.append(
                    Planned(
                        number=len(planned), consult=consult, behaviour=behaviour, kind=population.behaviour,
                        index=index, line=scenario.line_of(population), at_s=begin_s + offset_s, until_s=until_s,
                        leads=behaviour.leads and not led, of=scenario.seed,
                    )
                )  # fmt: skip
                led = led or behaviour.leads
    return sorted((one for one in planned if one.at_s < one.until_s), key=lambda one: (one.at_s, one.number))


def consult_begins(consults: Consults, chance: random.Random) -> list[float]:
    """When each consult begins, ascending."""
    over_s = consults.begin_over_s
    if not consults.by_hour or sum(consults.by_hour) == 0:
        return [over_s * number / consults.count for number in range(consults.count)]
    part_s = over_s / len(consults.by_hour)
    hours = chance.choices(range(len(consults.by_hour)), consults.by_hour, k=consults.count)
    return sorted((hour + chance.random()) * part_s for hour in hours)


def arrivals(arrival: Arrival, count: int, chance: random.Random) -> Sequence[float]:
    """Offsets from the beginning of the consult."""
    if arrival.order == "random":
        return sorted(arrival.from_s + chance.random() * arrival.over_s for _ in range(count))
    return [arrival.from_s + arrival.over_s * number / count for number in range(count)]
