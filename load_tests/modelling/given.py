"""What the model is given: `assumptions.toml`, each number with its reason, and `measured.json`, each with its run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from load_tests.plan.behaviour import BEHAVIOURS

ASSUMPTIONS: Final = Path(__file__).with_name("assumptions.toml")
MEASURED: Final = Path(__file__).with_name("measured.json")

Site = Literal["hub", "partner", "elsewhere"]
SITES: Final[tuple[Site, ...]] = ("hub", "partner", "elsewhere")


class Part(BaseModel):
    """Base of everything in both files."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Assumed(Part):
    """A number with its reason."""

    value: Annotated[float, Field(ge=0)]
    unit: str
    why: Annotated[str, Field(min_length=5)]


class Kind(Part):
    """One kind of consult."""

    name: str
    per: Literal["hospitals", "doctors", "expert_teams"]
    each_day: Assumed
    minutes: Assumed
    people: dict[str, Annotated[int, Field(ge=1, le=500)]]
    sites: dict[str, Site]

    @model_validator(mode="after")
    def _known_and_somewhere(self) -> Self:
        if unknown := sorted(set(self.people) - set(BEHAVIOURS)):
            raise ValueError(f"{self.name}: there is no behaviour {unknown[0]!r}")
        if set(self.people) != set(self.sites):
            raise ValueError(f"{self.name}: people and sites name different behaviours")
        return self


class Size(Part):
    """How many."""

    hospitals: Assumed
    doctors: Assumed
    expert_teams: Assumed


class ByHour(Part):
    """The shape of a day."""

    weights: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=24, max_length=24)]
    why: str

    @property
    def shares(self) -> list[float]:
        """Of a day's work; they add up to 1."""
        total = sum(self.weights)
        return [one / total for one in self.weights]


class Connected(Part):
    """People without a consult."""

    doctors_at_peak: Assumed
    sign_ins: Assumed


class Lock(Part):
    """Through the lock."""

    messages: Assumed
    reads: Assumed


class Keep(Part):
    """What is kept."""

    ecg_share: Assumed


class Limits(Part):
    """How large things are, and how full they may be."""

    node_cores: Assumed
    media_use: Assumed
    signalling_use: Assumed
    single_use: Assumed
    node_network_bps: Assumed
    partner_line_bps: Assumed
    redis_bytes: Assumed
    disk_bytes: Assumed
    archive_bytes: Assumed


class Assumptions(Part):
    """The whole TOML file."""

    working_days: Assumed
    size: Size
    by_hour: ByHour
    connected: Connected
    lock: Lock
    keep: Keep
    kind: Annotated[tuple[Kind, ...], Field(min_length=1)]
    limits: Limits


class Cost(Part):
    """One measured number."""

    value: Annotated[float, Field(ge=0)]
    unit: str
    run: str
    """The run it comes from: scenario, time, commit."""
    how: str
    """Which of its figures, and what was done with them."""


class Costs(Part):
    """The whole of ``measured.json``."""

    commit: str
    machine: str
    relay_us_per_packet: Cost
    idle_us_per_s: Cost
    """CPU of the server for a session that only listens, a second."""
    active_us_per_s: Cost
    """The same above that for a session of a running consult, pages left out."""
    join_ms: Cost
    password_ms: Cost
    page_ms: Cost
    crossing_ms: Cost
    """CPU of the hub for one message through the lock, and of the gateway the next."""
    gateway_ms: Cost
    session_kb: Cost
    commands_per_session: Cost
    rows_per_command: Cost
    rows_per_page: Cost
    rows_per_crossing: Cost
    bytes_per_row: Cost
    links_per_command: Cost
    links_per_page: Cost
    links_per_crossing: Cost
    publishes_per_command: Cost
    publish_us: Cost
    """CPU of redis for a hint, and for each node that it is delivered to the next."""
    delivery_us: Cost
    redis_fixed_us_per_s: Cost
    """CPU of redis whatever it is asked."""
    ring_frame_us: Cost
    """CPU of redis for a frame of a live waveform, of which a source has ten a second."""
    ring_frame_bytes: Cost
    """Memory of redis for the same."""
    ring_frames: Cost
    """Frames of a source that it keeps."""
    hint_us: Cost
    """CPU of a node to hear one hint of a consult that it does not have."""
    chain_per_s: Cost
    """Links that the event chain takes in a second, whoever appends."""
    ecg_bytes_per_s: Cost
    """What one ECG source adds to the archive."""


def read_assumptions(path: Path = ASSUMPTIONS) -> Assumptions:
    """The TOML file.

    Raises:
        ValueError, OSError: it is not there, or not right.
    """
    return Assumptions.model_validate(tomllib.loads(path.read_text("utf-8")))


def read_costs(path: Path = MEASURED) -> Costs:
    """The measured figures.

    Raises:
        ValueError, OSError: they are not there, or not right.
    """
    return Costs.model_validate_json(path.read_text("utf-8"))
