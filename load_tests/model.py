"""From measured costs to a country: what so many hospitals, doctors and teams need by hour of day, and what gives out.

Pure arithmetic. In come assumptions (`assumptions.toml` in `modelling/`: how many, how often, how long, each with its
reason) and costs (`measured.json` there: what a packet, a join, a page, a crossing costs on a machine that was
measured, each with the run and commit it comes from). Out comes a day: concurrent consults by Little's law, packets
and bits by who publishes and who looks in each kind of consult, cores, nodes, redis operations, database rows, and
how full each thing is of which there is only one.

The product as it is decides the shapes: a consult's media are on the node that has its sockets (pipes lead between
workers of one machine, not between machines), each node hears every hint of every other, every clinical change is a
link of one hash chain. Both files are read by `modelling.given`; what one consult does is `modelling.consult`, how
costs are measured `modelling.measure`, page and plots `modelling.page`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from load_tests.modelling.consult import ECG_MESSAGES_PER_S, Flow, Shape, shape
from load_tests.modelling.given import SITES, Assumptions, Cost, Costs, Site

REDIS_CORE: Final = 1.0
"""redis works on one core."""


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
