"""Which run comes next when the largest number that holds is looked for: grow by half, then bisect. No clock, no I/O.

A run *holds* or *breaks*, or is *invalid*: then the generators were the bottleneck and it says nothing of the server.
An invalid run is never counted as either: it is run again at once, for something else may have had the machine. Only a
number that was invalid `TRIES` times closes the way up, for a larger run asks more of the same generators; what is
found below it is then a least number: "at least n, the generators ended first".

The search believes that what breaks with n breaks with more. Runs near the edge go either way, so a number that held in
one run and broke in another has broken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

TRIES: Final = 2
"""Runs of one number, all invalid, after which the generators are taken to have ended there."""


class Outcome(StrEnum):
    """What a run said of its number."""

    HELD = "held"
    BROKE = "broke"
    INVALID = "invalid"


@dataclass
class Search:
    """The largest number from 1 to ``most`` that holds."""

    start: int
    most: int
    tried: dict[int, list[Outcome]] = field(default_factory=dict)

    def book(self, number: int, outcome: Outcome) -> None:
        """What a run came to."""
        self.tried.setdefault(number, []).append(outcome)

    @property
    def held(self) -> int:
        """The largest that held, below all that broke; 0: none."""
        return max(
            (n for n, all_of in self.tried.items() if verdict(all_of) is Outcome.HELD and n < self.broke), default=0
        )

    @property
    def broke(self) -> int:
        """The smallest that broke; above ``most``: none."""
        return min((n for n, all_of in self.tried.items() if verdict(all_of) is Outcome.BROKE), default=self.most + 1)

    @property
    def ceiling(self) -> int:
        """The smallest above ``held`` that is not worth trying: it broke, or the generators ended there."""
        ended = (n for n, all_of in self.tried.items() if verdict(all_of) is Outcome.INVALID and n > self.held)
        return min([self.broke, *ended])

    @property
    def generators_ended(self) -> bool:
        """The answer is a least number: nothing has broken where the search ended."""
        return self.ceiling < self.broke

    def next(self) -> int | None:
        """The number to run now; None: the answer is known."""
        for number, outcomes in self.tried.items():
            if verdict(outcomes) is Outcome.INVALID and len(outcomes) < TRIES and self.held < number < self.broke:
                return number
        held, ceiling = self.held, self.ceiling
        if ceiling <= held + 1:
            return None
        if not self.tried:
            return min(self.start, self.most)
        if ceiling > self.most:
            return min(max(held + 1, held * 3 // 2), self.most)
        return (held + ceiling) // 2


def verdict(outcomes: list[Outcome]) -> Outcome:
    """Of several runs of one number."""
    for one in (Outcome.BROKE, Outcome.HELD):
        if one in outcomes:
            return one
    return Outcome.INVALID
