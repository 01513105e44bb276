"""The summary of a run: every figure with what is missing, the bounds, the verdict. Its JSON schema is part of it.

``summary.schema.json`` beside this module is made from these classes; a test holds them together. Programs that
compare runs read nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from load_tests.plan.scenario import Bound, Scenario, unknown
from load_tests.report.figures import COUNTS, DISTRIBUTIONS
from load_tests.report.histogram import Histogram
from load_tests.report.ledger import Ledger
from load_tests.report.recovery import Recovery
from load_tests.report.validity import GeneratorState
from load_tests.report.witness import Beside, WitnessState

VERSION: Final = 1
SCHEMA: Final = Path(__file__).parent / "summary.schema.json"
DERIVED: Final[dict[str, str]] = {
    "joins_share": "joins that got everything, of those tried",
    "tracks_share": "tracks received, of those expected",
    "loss_share": "RTP packets that never came, of those that should have",
    "error_share": "errors, of joins, commands and pages",
    "ecg_missing_share": "waveform frames never had, of those that should have been",
    "consults_finished": "consults in which everybody who was to come got everything",
    "packets_in_per_s": "RTP packets that the server sent, a second",
    "packets_out_per_s": "RTP packets that the server received, a second",
    "received_mbps": "what viewers received, Mbit/s, header and tag included",
    "frozen_s": "seconds that pictures stood, of all viewers together",
    "server_cores": "CPU of all the server's processes, mean",
    "stolen_share": "share of the machine's cores that its host gave to others, mean",
    "us_per_packet": "CPU of the media workers over the packets they sent",
    "packets_per_core": "packets that a core of media worker sends in a second",
    "memory_slope_mb_per_h": "growth of all the server's resident memory over the later half, by Theil and Sen",
    "memory_slope_error_mb_per_h": "half of the interval in which it lies, 95 %",
    "server_memory_mb_per_h": "the same of the server's process alone",
    "worker_memory_mb_per_h": "the same of its media workers alone",
    "descriptors_per_h": "growth of open descriptors, server and workers, over the later half",
    "threads_per_h": "growth of their threads",
    "tasks_per_h": "growth of the tasks of the server's event loop",
    "sessions_per_generator_core": "sessions over the CPU that they cost the generators",
    **{
        name: f"{about}, from the first session to the last"
        for name, about in (
            ("db_rows", "rows that the database grew by"),
            ("db_events", "of these, of the audit chain"),
            ("db_bytes", "bytes that its tables and indexes grew by"),
            ("db_commits", "its transactions"),
            ("archive_bytes", "bytes that the waveform archive grew by"),
            ("redis_commands", "commands redis did"),
            ("redis_publish", "of these, publish"),
            ("redis_xadd", "of these, frames of live waveforms"),
            ("redis_in_bytes", "bytes that redis was sent"),
            ("redis_out_bytes", "bytes that redis sent"),
            ("redis_cpu_s", "CPU of redis"),
        )
    },
    "crossings_per_s": "messages that the hub applied through the lock, a second of the run",
    "lock_mismatch": "messages that are not where they should be, exactly once and in order",
    "gateway_cores": "CPU of all gateways, mean",
    "ghosts": "participants that a consult still had when everybody had left and their time of grace was over",
    "ghost_consults": "consults in which ghosts were looked for",
    "chain_rows": "rows of the event log, walked by its own verifier after the run",
    "chain_broken": "1: the event log's chain of hashes is broken",
    "acks_checked": "actions that the server had acknowledged to a session, looked for in the event log",
    "acks_lost": "of these not in the log",
    "acks_doubled": "actions that are in the log more than once",
    "wave_frames": "waveform frames that devices measured under a binding",
    "wave_kept": "of these archived, unchanged",
    "wave_in_gaps": "of these missing where the archive shows a gap",
    "wave_at_ends": "of these on their way when the device began or ended",
    "wave_silent": "of these missing, and nothing says so",
    "wave_invented": "archived frames that no device measured so, or that are there twice",
}
"""Figures that are one number."""
KEPT: Final = tuple(DERIVED)[tuple(DERIVED).index("chain_rows") :]
"""Of these, what the server's data folder held after the run (`load_tests.run.kept`)."""
NOTHING_LOST: Final = ("chain_broken", "acks_lost", "acks_doubled", "wave_silent", "wave_invented")
"""Of these, what must be none in every run."""


class Strict(BaseModel):
    """Base of everything in a summary."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Distribution(Strict):
    """Percentiles of a full histogram, nearest rank; None where that rank is one of the missing."""

    about: str
    count: int
    missing: int
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None
    mean: float | None


class Verdict(Strict):
    """One bound, judged."""

    figure: str
    percentile: str
    at_most: float | None
    at_least: float | None
    value: float | None
    """None: nothing was counted, or the rank is missing."""
    held: bool


class Machine(Strict):
    """Where it ran."""

    cpu: str
    cores: int
    memory_gb: float
    kernel: str
    python: str
    governor: str
    load_before: float
    container: str
    """Limits of the control group, as the kernel has them."""


class Summary(Strict):
    """The whole."""

    version: Literal[1] = VERSION
    id: str
    scenario: str
    scenario_hash: str
    seed: int
    started: str
    """UTC, ISO 8601."""
    planned_s: float
    lasted_s: float
    measured_s: float
    interrupted: bool
    broken: str
    """Why it could not go on; empty when it could."""
    valid: bool
    invalid_because: tuple[str, ...]
    commit: str
    dirty: bool
    same_host: bool
    """Generators and server shared a machine, so they shared its cores."""
    own_server: bool
    machine: Machine
    sessions: int
    consults: int
    generators: tuple[GeneratorState, ...]
    distributions: dict[str, Distribution]
    counts: dict[str, int]
    derived: dict[str, float | None]
    errors: dict[str, int]
    faults: tuple[tuple[float, str], ...]
    bounds: tuple[Verdict, ...]
    recoveries: tuple[Recovery, ...] = Field(default=())
    """One for each fault that was carried out, in their order."""
    witnesses: tuple[WitnessState, ...] = ()
    """Real browsers, which took part and are in no other figure."""
    beside: tuple[Beside, ...] = ()
    """Where witnesses and simulated sessions measured the same thing."""
    notes: tuple[str, ...] = Field(default=())


def schema_text() -> str:
    """The JSON schema, as it is kept."""
    return json.dumps(Summary.model_json_schema(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def describe(name: str, histogram: Histogram) -> Distribution:
    """A histogram in the words of the summary."""

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 3)

    return Distribution(
        about=DISTRIBUTIONS[name].about, count=histogram.count, missing=histogram.missing,
        p50=rounded(histogram.percentile(50)), p95=rounded(histogram.percentile(95)),
        p99=rounded(histogram.percentile(99)), max=rounded(histogram.highest) if histogram.count else None,
        mean=rounded(histogram.mean),
    )  # fmt: skip


def check_bounds(scenario: Scenario) -> str:
    """The first bound that names a figure there is not, as a sentence; empty when all are known."""
    for bound in scenario.bound:
        known: Mapping[str, Any] = {**COUNTS, **DERIVED} if bound.percentile == "value" else DISTRIBUTIONS
        if bound.figure not in known:
            return unknown("figure", bound.figure, known)
    return ""


def judge(
    bound: Bound, totals: Ledger, derived: Mapping[str, float | None], *, measured: bool = True
) -> Verdict:  # fmt: skip
    """Whether a bound held. What was not measured did not hold.

    Args:
        measured: there was time to count in; of none no count is nothing.
    """
    value: float | None
    if bound.percentile == "value":
        counted = float(totals.counts[bound.figure]) if measured else None
        value = derived.get(bound.figure, counted)
    else:
        histogram = totals.distributions.get(bound.figure, Histogram())
        percent = {"50": 50.0, "95": 95.0, "99": 99.0, "max": 100.0}[bound.percentile]
        value = histogram.percentile(percent)
    held = value is not None and (
        value <= bound.at_most if bound.at_most is not None else value >= (bound.at_least or 0.0)
    )
    return Verdict(
        figure=bound.figure, percentile=bound.percentile, at_most=bound.at_most, at_least=bound.at_least,
        value=None if value is None else round(value, 4), held=held,
    )  # fmt: skip


def write_schema() -> None:
    """Bring the kept schema up to date; for whoever changes a class above."""
    SCHEMA.write_text(schema_text(), "utf-8")


if __name__ == "__main__":
    write_schema()
