"""How a consult came back after each fault: curves of who has what again, and the seconds that it took.

Shares are of those who had a picture, a waveform or a joined socket right before the fault, so nobody who is gone can
improve them. The time after a fault ends with the next one or with the run; who was not back by then is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

STEP_S: Final = 0.5
BEFORE_S: Final = 5.0
EARLY_S: Final = 0.6
"""An outage is dated by the last packet, which may have come a little before what broke."""
LEAVING_S: Final = 1.0
JOINED, PICTURES, WAVES = (0, 1), (3, 2), (5, 4)
"""Columns of `plots.totals_by_look`: of how many, how many have it."""


class Strict(BaseModel):
    """Base of everything here."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Back(Strict):
    """One thing that participants had before a fault."""

    had: float
    """How many."""
    lowest: float | None
    """Share that still had it when it was worst."""
    half_s: float | None
    """Seconds after the fault from which on half of them had it; None: they did not get it back."""
    most_s: float | None
    """The same of 95 %."""
    all_s: float | None
    """The same of all."""
    outages: int
    """Participants who were without it for more than half a second."""
    p50_s: float | None
    """Of these, how long."""
    p99_s: float | None
    max_s: float | None
    never: float
    """Participants who had not got it back when the time after the fault ended."""


class Events(Strict):
    """From the fault to somebody hearing of the first page turn that was made after it, by consult."""

    consults: int
    never: int
    p50_s: float | None
    p99_s: float | None
    max_s: float | None


class Recovery(Strict):
    """After one fault."""

    kind: str
    proof: str = ""
    """How it is known that it really happened; empty when the run ended before it was over."""
    at_s: float
    until_s: float
    """When the next fault came, or the run ended."""
    curve: tuple[tuple[float, float | None, float | None, float | None], ...]
    """Seconds after the fault; shares that are joined, have a picture, have a waveform."""
    joined: Back
    picture: Back
    wave: Back
    events: Events


Looks = Sequence[tuple[float, Sequence[float]]]


def recoveries(
    faults: Sequence[tuple[float, str]], end_s: float, looks: Looks,
    outages: Mapping[str, Sequence[tuple[float, int, float]]], turns: Sequence[tuple[int, float, float]], consults: int,
) -> tuple[Recovery, ...]:  # fmt: skip
    """One for each fault.

    Args:
        faults: seconds of the run and kind.
        end_s: of the run.
        looks: seconds of the run and ``[sessions, joined, pictures, wanted, waves, wanted]``.
        outages: by ``picture`` and ``wave``: when one ended, in seconds of the run, whose it was, how long in seconds.
        turns: of page turns: consult, when it was asked for and when somebody heard of it, in seconds of the run.
        consults: how many have somebody who turns pages.
    """
    ordered = sorted(faults)
    if not ordered:
        return ()
    ends = [at_s for at_s, _ in ordered[1:]] + [end_s - LEAVING_S]
    return tuple(
        _one(at_s, kind, max(at_s, until_s), looks, outages, turns, consults)
        for (at_s, kind), until_s in zip(ordered, ends, strict=True)
    )


def _one(
    at_s: float, kind: str, until_s: float, looks: Looks, outages: Mapping[str, Sequence[tuple[float, int, float]]],
    turns: Sequence[tuple[int, float, float]], consults: int,
) -> Recovery:  # fmt: skip
    seen = [(look_s - at_s, values) for look_s, values in looks if at_s - BEFORE_S <= look_s < until_s - STEP_S]
    had = {columns: _before(seen, columns) for columns in (JOINED, PICTURES, WAVES)}
    curve = [
        (round(look_s, 2), *(_share(values, columns, had[columns]) for columns in (JOINED, PICTURES, WAVES)))
        for look_s, values in seen
    ]
    joined, picture, wave = (
        _back(curve, 1 + index, had[columns], _mine(outages.get(name, ()), at_s, until_s))
        for index, (name, columns) in enumerate((("joined", JOINED), ("picture", PICTURES), ("wave", WAVES)))
    )
    return Recovery(
        kind=kind, at_s=round(at_s, 2), until_s=round(until_s, 2), curve=tuple(curve), joined=joined, picture=picture,
        wave=wave, events=_events(turns, at_s, until_s, consults),
    )  # fmt: skip


def _before(seen: Looks, columns: tuple[int, int]) -> float:
    """How many had it; the look right before the fault may already have met it."""
    return max((values[columns[1]] for look_s, values in seen if look_s < 0), default=0.0)


def _share(values: Sequence[float], columns: tuple[int, int], had: float) -> float | None:
    return round(min(1.0, values[columns[1]] / had), 4) if had else None


def _mine(outages: Sequence[tuple[float, int, float]], at_s: float, until_s: float) -> list[float]:
    """Each participant's longest outage that began after the fault, seconds."""
    longest: dict[int, float] = {}
    for ended_s, session, lasted_s in outages:
        if at_s - EARLY_S <= ended_s - lasted_s < until_s - EARLY_S:
            longest[session] = max(lasted_s, longest.get(session, 0.0))
    return sorted(longest.values())


def _back(curve: Sequence[tuple[float | None, ...]], column: int, had: float, lasted: Sequence[float]) -> Back:
    after = [(float(row[0] or 0.0), row[column]) for row in curve if (row[0] or 0.0) >= 0]
    shares = [(look_s, share) for look_s, share in after if share is not None]
    last = shares[-1][1] if shares else 1.0
    return Back(
        had=round(had, 1), lowest=min((share for _, share in shares), default=None),
        half_s=reached(shares, 0.5), most_s=reached(shares, 0.95), all_s=reached(shares, 1.0), outages=len(lasted),
        p50_s=rank(lasted, 50), p99_s=rank(lasted, 99), max_s=rank(lasted, 100), never=round(had * (1 - last), 1),
    )  # fmt: skip


def reached(shares: Sequence[tuple[float, float]], wanted: float) -> float | None:
    """From which second on a share held to the end; 0 when it always did, None when it did not at the end."""
    below = [look_s for look_s, share in shares if share < wanted - 1e-9]
    if not shares or (below and below[-1] == shares[-1][0]):
        return None
    return round(below[-1] + STEP_S, 2) if below else 0.0


def rank(values: Sequence[float], percent: float) -> float | None:
    """Nearest rank of ascending values; None of nothing."""
    if not values:
        return None
    return round(values[min(len(values) - 1, max(0, -(-len(values) * int(percent) // 100) - 1))], 3)


def _events(turns: Sequence[tuple[int, float, float]], at_s: float, until_s: float, consults: int) -> Events:
    first: dict[int, tuple[float, float]] = {}
    for consult, asked_s, heard_s in turns:
        if at_s <= asked_s < until_s and (consult not in first or asked_s < first[consult][0]):
            first[consult] = (asked_s, heard_s)
    took = sorted(heard_s - at_s for _, heard_s in first.values())
    return Events(
        consults=consults, never=max(0, consults - len(took)), p50_s=rank(took, 50), p99_s=rank(took, 99),
        max_s=rank(took, 100),
    )  # fmt: skip
