"""From measured costs to a country: what so many hospitals, doctors and teams need by hour of day, and what gives out.

Pure arithmetic. In come assumptions (`assumptions.toml` in `modelling/`: how many, how often, how long, each with its
reason) and costs (`measured.json` there: what a packet, a join, a page, a crossing costs on a machine that was
measured, each with the run and commit it comes from). Out comes a day: concurrent consults by Little's law, packets
and bits by who publishes and who looks in each kind of consult, cores, nodes, redis operations, database rows, and
how full each thing is of which there is only one.

The product as it is decides the shapes: a consult's media are on the node that has its sockets (pipes lead between
workers of one machine, not between machines), each node hears every hint of every other, every clinical change is a
link of one hash chain. How costs are measured is `modelling.measure`; page and plots are `modelling.page`.
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from load_tests.plan.behaviour import BEHAVIOURS, CAMERAS, Behaviour, Layer

ASSUMPTIONS: Final = Path(__file__).parent / "modelling/assumptions.toml"
MEASURED: Final = Path(__file__).parent / "modelling/measured.json"

PAYLOAD_BYTES: Final = 1_100
"""Of a full video packet, as the generators and browsers cut them."""
HEADER_BYTES: Final = 12 + 16 + 16 + 8 + 20
"""RTP, its extensions, SRTP's tag, UDP, IPv4."""
SOUND_PPS, SOUND_BYTES = 50, 80
SOUND_BPS: Final = SOUND_PPS * 8 * (SOUND_BYTES + HEADER_BYTES)
LOUDEST: Final = 6
"""Sounds that are forwarded at a time (`media.core.loudest`)."""
TOLERATED_SHORTAGE: Final = 0.8
"""Of a picture's area, as the relay chooses layers (`media.core.layers`)."""
ECG_COPIES: Final = 2
"""Each message brings the frame before again."""
ECG_MESSAGES_PER_S: Final = 10
ECG_OVERHEAD_BYTES: Final = 12 + 16 + 37 + 8 + 20
"""SCTP, its chunk, DTLS, UDP, IPv4, for each message."""
REDIS_CORE: Final = 1.0
"""redis works on one core."""
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


@dataclass(frozen=True, slots=True)
class Flow:
    """What crosses the line of one participant, RTP and waveforms with all headers."""

    up_bps: float = 0.0
    down_bps: float = 0.0
    up_pps: float = 0.0
    down_pps: float = 0.0

    def __add__(self, other: Flow) -> Flow:
        return Flow(
            self.up_bps + other.up_bps, self.down_bps + other.down_bps, self.up_pps + other.up_pps,
            self.down_pps + other.down_pps,
        )  # fmt: skip

    def times(self, factor: float) -> Flow:
        """So many of them."""
        return Flow(*(factor * one for one in (self.up_bps, self.down_bps, self.up_pps, self.down_pps)))


@functools.cache
def stream(layer: Layer) -> tuple[float, float]:
    """Packets and bits a second of one picture size: frames cut into packets, the last one half full on average."""
    frame_bytes = layer.bitrate_bps / 8 / layer.frames_per_s
    packets = layer.frames_per_s * max(1.0, frame_bytes / PAYLOAD_BYTES + 0.5)
    return packets, layer.bitrate_bps + packets * HEADER_BYTES * 8


@functools.cache
def shown(camera: str, view: tuple[int, int]) -> Layer:
    """The layer that the relay forwards into a view: the smallest that fills 80 % of it."""
    layers = CAMERAS[camera]
    for layer in layers:
        if min(view[0] / layer.width, view[1] / layer.height) <= 1 / TOLERATED_SHORTAGE:
            return layer
    return layers[-1]


def sent(me: Behaviour, ecg_bytes_per_s: float) -> Flow:
    """What one participant gives the relay."""
    total = Flow()
    for layer in CAMERAS[me.camera] if me.camera else ():
        packets, bits = stream(layer)
        total += Flow(up_bps=bits, up_pps=packets)
    if me.microphone:
        total += Flow(up_bps=SOUND_BPS, up_pps=SOUND_PPS)
    if me.ecg:
        total += Flow(up_bps=wave_bps(ecg_bytes_per_s))
    return total


def copied(source: Behaviour, me: Behaviour, sounds: int, ecg_bytes_per_s: float) -> Flow:
    """What one participant gets of another, of ``sounds`` that it could hear."""
    total = Flow()
    if me.sees and source.camera:
        packets, bits = stream(shown(source.camera, me.view))
        total += Flow(down_bps=bits, down_pps=packets)
    if me.hears and source.microphone:
        heard = min(1.0, LOUDEST / sounds)
        total += Flow(down_bps=heard * SOUND_BPS, down_pps=heard * SOUND_PPS)
    if me.watches_ecg and source.ecg:
        total += Flow(down_bps=wave_bps(ecg_bytes_per_s))
    return total


def wave_bps(ecg_bytes_per_s: float) -> float:
    """Of one ECG source to one viewer, with all headers; RTP it is not, so it has no packets here."""
    return 8 * (ECG_COPIES * ecg_bytes_per_s + ECG_MESSAGES_PER_S * ECG_OVERHEAD_BYTES)


def flow(me: Behaviour, others: list[Behaviour], ecg_bytes_per_s: float) -> Flow:
    """One participant among others."""
    sounds = sum(one.microphone for one in others)
    return sum((copied(one, me, sounds, ecg_bytes_per_s) for one in others), sent(me, ecg_bytes_per_s))


def between(kind: Kind, ecg_bytes_per_s: float) -> dict[tuple[Site, Site], float]:
    """Bits a second of copies from publishers' sites to viewers' sites, by way of the relay, of one consult."""
    everybody = [name for name, count in kind.people.items() for _ in range(count)]
    found: dict[tuple[Site, Site], float] = dict.fromkeys(((one, two) for one in SITES for two in SITES), 0.0)
    for place, name in enumerate(everybody):
        others = [one for index, one in enumerate(everybody) if index != place]
        sounds = sum(BEHAVIOURS[one].microphone for one in others)
        for other in others:
            copy = copied(BEHAVIOURS[other], BEHAVIOURS[name], sounds, ecg_bytes_per_s)
            found[kind.sites[other], kind.sites[name]] += copy.down_bps
    return found


def people(kind: Kind) -> Iterator[tuple[Behaviour, list[Behaviour], Site]]:
    """Each participant with all the others and where it is."""
    everybody = [name for name, count in kind.people.items() for _ in range(count)]
    for index, name in enumerate(everybody):
        others = [BEHAVIOURS[one] for place, one in enumerate(everybody) if place != index]
        yield BEHAVIOURS[name], others, kind.sites[name]


@dataclass(frozen=True, slots=True)
class Shape:
    """One consult of a kind, while it runs."""

    flows: Mapping[Site, Flow]
    sessions: int
    ecgs: int
    pages_per_s: float
    turns_per_s: float
    passwords: int

    @property
    def all(self) -> Flow:
        """Of all sites: up is what the relay takes, down what it sends."""
        return sum(self.flows.values(), Flow())


def shape(kind: Kind, ecg_bytes_per_s: float) -> Shape:
    """What a consult of this kind does."""
    flows = dict.fromkeys(SITES, Flow())
    pages = 0.0
    members = [BEHAVIOURS[name] for name, count in kind.people.items() for _ in range(count)]
    for me, others, site in people(kind):
        flows[site] += flow(me, others, ecg_bytes_per_s)
        pages += 1 / me.page_every_s if me.page_every_s else 0.0
    leader = next((one for one in members if one.leads), None)
    return Shape(
        flows=flows, sessions=len(members), ecgs=sum(one.ecg for one in members), pages_per_s=pages,
        turns_per_s=1 / leader.turn_every_s if leader and leader.turn_every_s else 0.0,
        passwords=sum(one.who == "doctor" for one in members),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do in one hour, all in units a second unless the name says otherwise."""

    hour: int
    consults: float
    """Running at a time, mean."""
    consult_sessions: float
    idle_sessions: float
    joins: float
    passwords: float
    pages: float
    commands: float
    crossings: float
    lock_reads: float
    ecgs: float
    """Sources at a time."""
    flows: Mapping[Site, Flow]

    @property
    def relayed(self) -> Flow:
        """All sites' lines together."""
        return sum(self.flows.values(), Flow())

    def rows(self, costs: Costs) -> float:
        """Database rows."""
        return self._sum(costs.rows_per_command, costs.rows_per_page, costs.rows_per_crossing)

    def links(self, costs: Costs) -> float:
        """Of these, of the event chain."""
        return self._sum(costs.links_per_command, costs.links_per_page, costs.links_per_crossing)

    def _sum(self, command: Cost, page: Cost, crossing: Cost) -> float:
        read = self.pages + self.lock_reads
        return self.commands * command.value + read * page.value + self.crossings * crossing.value


def day(given: Assumptions, costs: Costs, scale: float = 1.0) -> list[Work]:
    """The 24 hours of a working day, of ``scale`` times the size."""
    shapes = [shape(kind, costs.ecg_bytes_per_s.value) for kind in given.kind]
    return [_hour(given, costs, shapes, scale, hour) for hour in range(24)]


def _hour(given: Assumptions, costs: Costs, shapes: Sequence[Shape], scale: float, hour: int) -> Work:
    share, peak = given.by_hour.shares[hour], max(given.by_hour.shares)
    flows = dict.fromkeys(SITES, Flow())
    found = dict.fromkeys(("consults", "sessions", "joins", "pages", "commands", "reads", "ecgs", "passwords"), 0.0)
    for kind, one in zip(given.kind, shapes, strict=True):
        begin_per_s = scale * getattr(given.size, kind.per).value * kind.each_day.value * share / 3600
        running = begin_per_s * kind.minutes.value * 60
        for site in SITES:
            flows[site] += one.flows[site].times(running)
        found["consults"] += running
        found["sessions"] += running * one.sessions
        found["ecgs"] += running * one.ecgs
        found["joins"] += begin_per_s * one.sessions
        found["pages"] += running * one.pages_per_s
        found["commands"] += begin_per_s * one.sessions * costs.commands_per_session.value + running * one.turns_per_s
        found["reads"] += begin_per_s * given.lock.reads.value
    doctors = scale * given.size.doctors.value
    found["passwords"] += (
        doctors * given.connected.doctors_at_peak.value * given.connected.sign_ins.value * share / 3600
    )
    return Work(
        hour=hour, consults=found["consults"], consult_sessions=found["sessions"],
        idle_sessions=doctors * given.connected.doctors_at_peak.value * share / peak,
        joins=found["joins"], passwords=found["passwords"], pages=found["pages"], commands=found["commands"],
        crossings=scale * given.size.hospitals.value * given.lock.messages.value * share / 3600,
        lock_reads=found["reads"], ecgs=found["ecgs"], flows=flows,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Need:
    """What an hour's work needs."""

    media_cores: float
    signalling_cores: float
    """Without hints."""
    hint_core: float
    """Of each node: to hear what concerns others."""
    media_nodes: float
    signalling_nodes: float
    """Infinite where hints alone fill a node's core."""
    ports: int
    """UDP and TCP, of media workers, on all nodes."""
    memory_gb: float
    redis_ops: float
    redis_core: float
    redis_gb: float
    """Memory of the live rings."""
    links: float
    chain: float
    """Share of what the chain can take."""
    rows: float
    hub_bps: float
    node_network: float
    """Share of a media node's port, of its fuller direction."""

    @property
    def nodes(self) -> float:
        """Server processes, each with the media workers of its share; a machine may have several."""
        return max(self.media_nodes, self.signalling_nodes)


def need(work: Work, given: Assumptions, costs: Costs) -> Need:
    """Of one hour."""
    limits = given.limits
    relayed = work.relayed
    media = relayed.down_pps * costs.relay_us_per_packet.value / 1e6
    sessions = work.consult_sessions + work.idle_sessions
    own = (
        sessions * costs.idle_us_per_s.value / 1e6
        + work.consult_sessions * costs.active_us_per_s.value / 1e6
        + work.joins * costs.join_ms.value / 1e3
        + work.passwords * costs.password_ms.value / 1e3
        + (work.pages + work.lock_reads) * costs.page_ms.value / 1e3
        + work.crossings * costs.crossing_ms.value / 1e3
    )
    publishes = work.commands * costs.publishes_per_command.value
    hints = publishes * costs.hint_us.value / 1e6
    spare = limits.signalling_use.value - hints
    signalling_nodes = max(1.0, math.ceil(own / spare)) if spare > 0 else math.inf
    workers = limits.node_cores.value - 1
    fuller = max(relayed.up_bps, relayed.down_bps)
    media_nodes = max(
        1.0,
        math.ceil(media / (workers * limits.media_use.value)),
        math.ceil(fuller / (limits.node_network_bps.value * limits.single_use.value)),
    )
    # At least so many listen; as many as hints make necessary would be more, and where none would do, none can be said.
    listening = max(media_nodes, math.ceil(own / limits.signalling_use.value))
    frames = work.ecgs * ECG_MESSAGES_PER_S
    redis_us = costs.redis_fixed_us_per_s.value + publishes * (
        costs.publish_us.value + listening * costs.delivery_us.value
    )
    rows = work.rows(costs)
    links = work.links(costs)
    return Need(
        media_cores=media, signalling_cores=own, hint_core=hints, media_nodes=media_nodes,
        signalling_nodes=signalling_nodes, ports=int(2 * math.ceil(media / limits.media_use.value)),
        memory_gb=sessions * costs.session_kb.value / 1e6, redis_ops=publishes * (1 + listening) + frames,
        redis_core=(redis_us + frames * costs.ring_frame_us.value) / 1e6 / REDIS_CORE,
        redis_gb=work.ecgs * costs.ring_frames.value * costs.ring_frame_bytes.value / 1e9, links=links,
        chain=links / costs.chain_per_s.value if costs.chain_per_s.value else math.inf, rows=rows,
        hub_bps=relayed.up_bps + relayed.down_bps, node_network=fuller / media_nodes / limits.node_network_bps.value,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Year:
    """What a year leaves behind."""

    rows: float
    database_bytes: float
    archive_bytes: float
    consults: float
    crossings: float


def year(given: Assumptions, costs: Costs, scale: float = 1.0) -> Year:
    """Of working days like the modelled one."""
    hours, seconds = day(given, costs, scale), 3600 * given.working_days.value
    rows = seconds * sum(one.rows(costs) for one in hours)
    begun = sum(getattr(given.size, kind.per).value * kind.each_day.value for kind in given.kind)
    return Year(
        rows=rows, database_bytes=rows * costs.bytes_per_row.value,
        archive_bytes=seconds * sum(one.ecgs for one in hours) * costs.ecg_bytes_per_s.value
        * given.keep.ecg_share.value,
        consults=scale * begun * given.working_days.value, crossings=seconds * sum(one.crossings for one in hours),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Use:
    """How full something is at the busiest hour, and what would be done about it."""

    name: str
    share: float
    """1: full, of what may be used of it."""
    design: str


DESIGNS: Final = {
    "event chain": "One chain for each hospital or consult, their heads sealed into a chain of heads every second: "
    "links of different consults no longer wait for each other, and the order within each is kept.",
    "hints to every node": "Hints by consult instead of to all: each node subscribes to the channels of consults it "
    "has (sharded pub/sub), so that a node hears what it serves.",
    "redis core": "Live rings with the node that has the consult (its media workers keep 30 s already); what is left, "
    "hints, in a cluster with sharded pub/sub: channels are by consult, and consults do not meet.",
    "redis memory": "The same: rings beside the consult; or a redis for each few hundred consults.",
    "database disk, one year": "Partitions of the event log by month, older ones to the object store with their "
    "anchors; the record's older versions likewise.",
    "waveform archive, one year": "Lossless coding above the wire's, and less than every beat after the lawful time: a "
    "matter of policy, not of speed.",
    "a hospital's line": "Pipes between nodes: one copy of each publisher to a node at the hospital or in its region, "
    "and one SVC stream instead of simulcast up.",
}


def uses(given: Assumptions, costs: Costs, scale: float = 1.0) -> list[Use]:
    """What there is only one of (the whole hub's, or a hospital's), the fullest first."""
    peak = busiest(given, costs, scale)
    wanted, after = need(peak, given, costs), year(given, costs, scale)
    single = given.limits.single_use.value
    shares = {
        "event chain": wanted.chain / single,
        "hints to every node": wanted.hint_core / given.limits.signalling_use.value,
        "redis core": wanted.redis_core / single,
        "redis memory": wanted.redis_gb * 1e9 / given.limits.redis_bytes.value / single,
        "database disk, one year": after.database_bytes / given.limits.disk_bytes.value / single,
        "waveform archive, one year": after.archive_bytes / given.limits.archive_bytes.value / single,
        "a hospital's line": hospital_line(given, costs) / given.limits.partner_line_bps.value / single,
    }
    return sorted((Use(name, share, DESIGNS[name]) for name, share in shares.items()), key=lambda one: -one.share)


def busiest(given: Assumptions, costs: Costs, scale: float = 1.0) -> Work:
    """The hour with most consults."""
    return max(day(given, costs, scale), key=lambda one: one.consults)


def hospital_line(given: Assumptions, costs: Costs) -> float:
    """Bits a second of the fuller direction at one partner hospital: as many consults at once as it has in 99.9 %.

    It does not grow with the number of hospitals.
    """
    share, needed = max(given.by_hour.shares), 0.0
    for kind in given.kind:
        of = shape(kind, costs.ecg_bytes_per_s.value).flows["partner"]
        a_day = getattr(given.size, kind.per).value * kind.each_day.value / max(1.0, given.size.hospitals.value)
        running = a_day * share / 3600 * kind.minutes.value * 60
        needed += poisson_most(running, 0.999) * max(of.up_bps, of.down_bps)
    return needed


def poisson_most(mean: float, share: float) -> int:
    """The smallest number that is not passed in this share of the time."""
    if mean <= 0:
        return 0
    if mean > 500:
        return math.ceil(mean + 3.1 * math.sqrt(mean))
    term = total = math.exp(-mean)
    number = 0
    while total < share:
        number += 1
        term *= mean / number
        total += term
    return number


@dataclass(frozen=True, slots=True)
class Change:
    """What one number half as large again does."""

    name: str
    nodes: float
    """Factor of the nodes at the busiest hour."""
    rows: float
    first: float
    """Factor of the share of what is fullest."""


@dataclass
class Model:
    """Both files, and the questions that are asked of them."""

    given: Assumptions
    costs: Costs
    scales: tuple[float, ...] = field(default=(1.0, 10.0, 100.0))

    def sensitivity(self, by: float = 1.5) -> list[Change]:
        """Each number alone times ``by``; what moves most first."""
        nodes, rows, first = self._answer(self.given, self.costs)
        found = []
        for name, given, costs in self._varied(by):
            other = self._answer(given, costs)
            found.append(Change(name, other[0] / nodes, other[1] / rows, other[2] / first))
        return sorted(found, key=lambda one: -max(abs(one.nodes - 1), abs(one.rows - 1), abs(one.first - 1)))

    def _varied(self, by: float) -> Iterator[tuple[str, Assumptions, Costs]]:
        for name in Costs.model_fields:
            cost = getattr(self.costs, name)
            if isinstance(cost, Cost):
                more = cost.model_copy(update={"value": cost.value * by})
                yield f"measured {name}", self.given, self.costs.model_copy(update={name: more})
        for table in ("size", "connected", "lock", "limits"):
            part = getattr(self.given, table)
            for name in type(part).model_fields:
                assumed = getattr(part, name)
                other = part.model_copy(update={name: assumed.model_copy(update={"value": assumed.value * by})})
                yield f"{table}.{name}", self.given.model_copy(update={table: other}), self.costs
        for index, kind in enumerate(self.given.kind):
            for name in ("each_day", "minutes"):
                assumed = getattr(kind, name)
                dearer = kind.model_copy(update={name: assumed.model_copy(update={"value": assumed.value * by})})
                kinds = (*self.given.kind[:index], dearer, *self.given.kind[index + 1 :])
                yield f"{kind.name}: {name}", self.given.model_copy(update={"kind": kinds}), self.costs

    def _answer(self, given: Assumptions, costs: Costs) -> tuple[float, float, float]:
        wanted = need(busiest(given, costs), given, costs)
        cores = wanted.media_cores + wanted.signalling_cores / (given.limits.signalling_use.value)
        return cores / given.limits.node_cores.value, year(given, costs).rows, uses(given, costs)[0].share


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
