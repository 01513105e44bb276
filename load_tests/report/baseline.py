"""An earlier run as bounds: no headline figure may be more than a tenth worse on the same machine (WEB_AND_OPS 5.2).

Only like is compared with like: the same scenario with the same numbers, on the same kind of machine, with or without
generators beside the server. A figure of milliseconds may besides be worse by two of them, which is noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from load_tests.plan.reading import Exit, RunError
from load_tests.plan.scenario import Bound, Scenario
from load_tests.report.digest import hash_of, machine
from load_tests.report.summary import Summary

WORSE: Final = 0.1
NOISE_MS: Final = 2.0
SLOWER: Final[tuple[tuple[str, Literal["95", "99"]], ...]] = (
    ("join_ms", "95"), ("forward_ms", "99"), ("ecg_age_ms", "99"), ("event_ms", "99"), ("page_ms", "95"),
)  # fmt: skip
FEWER: Final = ("packets_per_core", "tracks_share")
MORE: Final = ("server_cores",)


def read_baseline(folder: Path, scenario: Scenario) -> tuple[Bound, ...]:
    """The bounds that a run sets for a later one of the same scenario here.

    Raises:
        RunError: it is no run, or not one that this one can be held against.
    """
    try:
        before = Summary.model_validate_json((folder / "summary.json").read_text("utf-8"))
    except (OSError, ValueError) as problem:
        first = str(problem).splitlines()[0]
        raise RunError(Exit.ARGUMENTS, f"{folder} is no folder of a run of this version: {first}.") from None
    here = machine()
    for different, what in (
        (before.scenario_hash != hash_of(scenario), "is of another scenario, or of other numbers in it"),
        ((before.machine.cpu, before.machine.cores) != (here.cpu, here.cores), "was made on another machine"),
        (not before.valid or bool(before.broken) or before.interrupted, "is not a run that may be believed"),
    ):
        if different:
            raise RunError(Exit.ARGUMENTS, f"The baseline {before.id} {what}.")
    return bounds_of(before)


def bounds_of(before: Summary) -> tuple[Bound, ...]:
    """What the figures of a run must not pass; those that it did not have set no bound."""
    found = []
    for figure, percentile in SLOWER:
        spread = before.distributions.get(figure)
        value = None if spread is None else getattr(spread, f"p{percentile}")
        if value is not None:
            found.append(
                Bound(figure=figure, percentile=percentile, at_most=max(value * (1 + WORSE), value + NOISE_MS))
            )
    for names, factor in ((MORE, 1 + WORSE), (FEWER, 1 - WORSE)):
        for figure in names:
            value = before.derived.get(figure)
            if value is not None:
                limit = round(value * factor, 3)
                found.append(
                    Bound(figure=figure, percentile="value", at_most=limit)
                    if factor > 1
                    else Bound(figure=figure, percentile="value", at_least=limit)
                )
    return tuple(found)
