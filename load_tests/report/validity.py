"""Whether a run may be believed: the generator must not have been what limited it.

By WEB_AND_OPS: a run is INVALID if the generators' own event loops were late by more than 20 ms in one case of a
hundred, or if one used more than 80 % of its core. Here also if a generator lost datagrams of its own, or ended early,
for then what is missing is missing by its fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

LATE_P99_MS: Final = 20.0
CPU_SHARE: Final = 0.8
OWN_LOSS_SHARE: Final = 0.0005
"""Datagrams dropped by the generators' own sockets, of those sent."""


class GeneratorState(BaseModel):
    """How one generator fared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sessions: int
    cpu_share: float
    """The highest mean of five seconds."""
    late_p99_ms: float | None
    rss_mb: float
    sent: int
    own_loss: int
    clock_error_ms: float
    lost: str = ""
    """Why it ended early; empty when it did not."""


def reasons(generators: Sequence[GeneratorState]) -> list[str]:
    """Why the run is invalid, a sentence each; none when it is valid."""
    found = []
    if not generators:
        return ["There was no generator."]
    for one in generators:
        if one.lost:
            found.append(f"Generator {one.name} ended early: {one.lost}.")
        if one.late_p99_ms is None:
            found.append(f"Generator {one.name} did not say how late its timers were.")
        elif one.late_p99_ms > LATE_P99_MS:
            found.append(
                f"Generator {one.name} was late by {one.late_p99_ms:.0f} ms (p99), more than {LATE_P99_MS:g} ms."
            )
        if one.cpu_share > CPU_SHARE:
            found.append(
                f"Generator {one.name} used {one.cpu_share:.0%} of its core, more than {CPU_SHARE:.0%}: "
                "give it fewer sessions, or more processes."
            )
        if one.own_loss > OWN_LOSS_SHARE * max(1, one.sent):
            found.append(f"Generator {one.name} lost {one.own_loss} datagrams in its own sockets.")
    return found


def busiest(shares: Sequence[float], window: int = 5) -> float:
    """Highest mean of ``window`` neighbours; of all of them when there are fewer."""
    if not shares:
        return 0.0
    if len(shares) < window:
        return sum(shares) / len(shares)
    return max(sum(shares[start : start + window]) / window for start in range(len(shares) - window + 1))
