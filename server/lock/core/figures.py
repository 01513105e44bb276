"""How long the lock took, as an administrator reads it; pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Times of one crossing at the machine that measured them, in microseconds: two clocks, never compared.

    Args:
        inside: gateway had it, gateway had sent it.
        outside: hub had it, hub had committed it.
    """

    inside: tuple[int, int]
    outside: tuple[int, int]

    @property
    def took_us(self) -> int:
        """In the lock: on both machines, without the way between them."""
        return sum(max(0, end - begin) for begin, end in (self.inside, self.outside))


def percentiles(values: Iterable[int]) -> tuple[int | None, int | None]:
    """p50 and p99 by nearest rank; None of nothing."""
    ordered = sorted(values)
    return _rank(ordered, 0.50), _rank(ordered, 0.99)


def _rank(ordered: Sequence[int], share: float) -> int | None:
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else None
