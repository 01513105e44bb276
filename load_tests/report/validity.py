"""Whether a run may be believed: the generator must not have been what limited it.

By WEB_AND_OPS: a run is INVALID if the generators' own event loops were late by more than 20 ms in one moment of a
hundred, or if one used more than 80 % of its core. Here also if the threads that play their media were late, if a
generator lost datagrams of its own, ran out of what the system gives it, was silent or ended early; if the coordinator
looked at the server too late; or if a clock was set while the run went on. Then what is missing is missing by our
fault, or a time is not a time. An invalid run says nothing about the server, neither good nor bad.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

LATE_P99_MS: Final = 20.0
CPU_SHARE: Final = 0.8
OWN_LOSS_SHARE: Final = 0.0005
"""Datagrams dropped by the generators' own sockets, of those sent."""
CLOCK_MS: Final = 10.0
"""By so much may clocks of machines be unknown or move; bounds are of 50 ms and more."""
SILENT_S: Final = 5.0
"""A generator reports once a second."""
LOOKS_LATE: Final = 0.05
"""Share of the looks at the server that the coordinator may begin half a second late."""
EXHAUSTED: Final = frozenset({"EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EADDRNOTAVAIL"})
"""What the system says to who has too many open files, too little memory, or no port left: errors of our own making."""


class GeneratorState(BaseModel):
    """How one generator fared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sessions: int
    plays: str = ""
    """What played its media: ``C`` or ``Python``."""
    cpu_share: float
    """The highest mean of five seconds."""
    late_p99_ms: float | None
    play_late_p99_ms: float | None = None
    """The same of its thread in C; None: it has none."""
    rss_mb: float
    sent: int
    own_loss: int
    exhausted: int = 0
    """Errors by which the system said that it has no more to give (`EXHAUSTED`)."""
    silent_s: float = 0.0
    """Longest time without a report."""
    clock_ahead_ms: float = 0.0
    """Its clock before the coordinator's, as measured before the run; taken off all its times."""
    clock_error_ms: float
    """By so much that may be wrong."""
    clock_drift_ms: float = 0.0
    """By how much its clock went another way than the coordinator's during the run."""
    lost: str = ""
    """Why it ended early; empty when it did not."""


def reasons(
    generators: Sequence[GeneratorState], *, looks_late: int = 0, looks: int = 0, clock_jump_ms: float = 0.0
) -> list[str]:
    """Why the run is invalid, a sentence each; none when it is valid.

    Args:
        looks_late: times that the coordinator looked at the server late, of ``looks``.
        clock_jump_ms: by how much the coordinator's clock was set during the run.
    """
    if not generators:
        return ["There was no generator."]
    found = [sentence for one in generators for sentence in _of_one(one)]
    if looks_late > max(1, LOOKS_LATE * looks):
        found.append(f"The coordinator looked at the server late {looks_late} times of {looks}: it had no time.")
    if clock_jump_ms > CLOCK_MS:
        found.append(f"The coordinator's clock was set by {clock_jump_ms:.0f} ms during the run.")
    return found


def _of_one(one: GeneratorState) -> list[str]:
    name, found = f"Generator {one.name}", []
    if one.lost:
        found.append(f"{name} ended early: {one.lost}.")
    if one.late_p99_ms is None:
        found.append(f"{name} did not say how late its timers were.")
    for what, late_ms in (("", one.late_p99_ms), (", where it plays media,", one.play_late_p99_ms)):
        if late_ms is not None and late_ms > LATE_P99_MS:
            found.append(f"{name}{what} was late by {late_ms:.0f} ms (p99), more than {LATE_P99_MS:g} ms.")
    if one.cpu_share > CPU_SHARE:
        found.append(
            f"{name} used {one.cpu_share:.0%} of its core, more than {CPU_SHARE:.0%}: "
            "give it fewer sessions, or more processes."
        )
    if one.own_loss > OWN_LOSS_SHARE * max(1, one.sent):
        found.append(f"{name} lost {one.own_loss} datagrams in its own sockets.")
    if one.exhausted:
        found.append(
            f"{name} was refused open files, memory or ports {one.exhausted} times by its system: "
            "raise its limits (ulimit -n), or use more processes or machines."
        )
    if one.silent_s > SILENT_S:
        found.append(f"{name} said nothing for {one.silent_s:.0f} s.")
    if (unsure_ms := one.clock_error_ms + one.clock_drift_ms) > CLOCK_MS:
        found.append(
            f"The clock of generator {one.name} is only known to {unsure_ms:.0f} ms ({one.clock_error_ms:.0f} ms as it "
            f"was measured, {one.clock_drift_ms:.0f} ms that it moved): one-way times are no better."
        )
    return found


def between_ms(generators: Sequence[GeneratorState]) -> float:
    """By how much a one-way time between two of them may be wrong."""
    return sum(sorted((one.clock_error_ms + one.clock_drift_ms for one in generators), reverse=True)[:2])


def exhausted(errors: Mapping[str, int]) -> int:
    """Of errors by kind, those of our own making."""
    return sum(times for kind, times in errors.items() if kind.rpartition(" ")[2] in EXHAUSTED)


def busiest(shares: Sequence[float], window: int = 5) -> float:
    """Highest mean of ``window`` neighbours; of all of them when there are fewer."""
    if not shares:
        return 0.0
    if len(shares) < window:
        return sum(shares) / len(shares)
    return max(sum(shares[start : start + window]) / window for start in range(len(shares) - window + 1))
