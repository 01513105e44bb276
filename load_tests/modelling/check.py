"""The model held against a run: what it says of that run's consults, beside what was measured.

A run of several nodes (`two_nodes`) has what the model is about: people of known behaviours, redis, PostgreSQL. The
model is asked for exactly these people, second by second as they came, with the costs of `measured.json`, which come
from other runs. A ratio of measured to predicted near 1 says that the composition holds; it does not say that a
thousand nodes behave like two, nor, where all of them share a machine's cores, how they disturb each other.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from load_tests.modelling.consult import ECG_MESSAGES_PER_S, Flow, flow
from load_tests.modelling.given import Costs
from load_tests.modelling.measure import Run
from load_tests.plan.behaviour import Behaviour
from load_tests.plan.scenario import Scenario
from load_tests.plan.timetable import timetable

HINT_BYTES: Final = 60
"""Of a hint on its way to redis or to a node, with the protocol's own."""
CANNOT: Final = (
    "Two nodes on one machine share its cores and caches: CPU is comparable, delay under full load is not.",
    "What goes between them goes over loopback: no network card, no loss, no delay between sites.",
    "Two of anything show the cost of one more, not contention: the chain's lock and the hints of a thousand nodes are "
    "extrapolated.",
    "Each process has work of its own that no session asks for (beats, samples, its workers' reports): at this load a "
    "third of all CPU. The model counts by the session and leaves it out.",
    "A consult's media are on one node, so no media cross between nodes and none can be measured: with people of one "
    "consult on both nodes they do not see each other.",
    "PostgreSQL does not sync to disk here; a real one's commits wait for its drive.",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    unit: str
    predicted: float
    measured: float

    @property
    def ratio(self) -> float | None:
        """Measured over predicted."""
        return self.measured / self.predicted if self.predicted else None


def compare(run: Run, scenario: Scenario, costs: Costs) -> list[Row]:
    """The settled part of a run of several nodes, and its stores, as predicted and as measured."""
    from_s, to_s = scenario.measure_from_s, run.lasted_s
    seconds = to_s - from_s
    planned = timetable(scenario)
    flows = _flows(scenario, costs)
    pages = sum(1 / one.behaviour.page_every_s for one in planned if one.behaviour.page_every_s)
    turns = sum(1 / one.behaviour.turn_every_s for one in planned if one.leads and one.behaviour.turn_every_s)
    sessions = len(planned)
    ecg_s = sum(one.until_s - one.at_s for one in planned if one.behaviour.ecg)
    commands = sessions * costs.commands_per_session.value + turns * run.lasted_s
    rows = commands * costs.rows_per_command.value + pages * run.lasted_s * costs.rows_per_page.value
    links = commands * costs.links_per_command.value + pages * run.lasted_s * costs.links_per_page.value
    publishes = commands * costs.publishes_per_command.value
    nodes = scenario.server.nodes
    redis_us = costs.redis_fixed_us_per_s.value * run.lasted_s + publishes * (
        costs.publish_us.value + nodes * costs.delivery_us.value
    )
    redis_us += ecg_s * ECG_MESSAGES_PER_S * costs.ring_frame_us.value
    server = (
        sessions * (costs.idle_us_per_s.value + costs.active_us_per_s.value) / 1e6 + pages * costs.page_ms.value / 1e3
    )
    found = [
        Row("relay sends", "packets/s", flows.down_pps, run.total("rtp_in", from_s, to_s) / seconds),
        Row("relay takes", "packets/s", flows.up_pps, run.total("rtp_out", from_s, to_s) / seconds),
        Row(
            "relay sends, RTP without UDP and IP", "Mbit/s", _rtp_mbps(planned_flows(scenario)),
            run.total("rtp_in_bytes", from_s, to_s) * 8 / seconds / 1e6,
        ),
        Row("media workers", "cores", flows.down_pps * costs.relay_us_per_packet.value / 1e6,
            run.mean("worker_cpu", from_s, to_s)),
        Row("server processes", "cores", server, run.mean("server_cpu", from_s, to_s)),
        Row("database rows", "rows", rows, run.derived("db_rows")),
        Row("links of the chain", "links", links, run.derived("db_events")),
        Row("redis PUBLISH", "commands", publishes, run.derived("redis_publish")),
        Row("redis CPU", "s", redis_us / 1e6, run.derived("redis_cpu_s")),
        Row("redis XADD", "commands", ecg_s * ECG_MESSAGES_PER_S, run.derived("redis_xadd")),
        Row("archive of waveforms", "bytes", ecg_s * costs.ecg_bytes_per_s.value, run.derived("archive_bytes")),
        Row("pages read", "pages/s", pages, run.total("pages_read", from_s, to_s) / seconds),
    ]  # fmt: skip
    between = run.derived("redis_in_bytes") + run.derived("redis_out_bytes")
    wave = ecg_s * ECG_MESSAGES_PER_S * costs.ring_frame_bytes.value + publishes * (1 + nodes) * HINT_BYTES
    return [*found, Row("redis traffic, all nodes", "bytes", wave, between)]


def planned_flows(scenario: Scenario) -> Flow:
    """Of everybody, waveforms left out: what the generators count as RTP."""
    return _flows(scenario, None)


def _flows(scenario: Scenario, costs: Costs | None) -> Flow:
    consults: dict[int, list[Behaviour]] = defaultdict(list)
    for one in timetable(scenario):
        consults[one.consult].append(one.behaviour)
    total = Flow()
    for members in consults.values():
        for index, me in enumerate(members):
            others = [one for place, one in enumerate(members) if place != index]
            mine = me if costs is not None else me.model_copy(update={"ecg": False, "watches_ecg": False})
            total += flow(mine, others, costs.ecg_bytes_per_s.value if costs is not None else 0.0)
    return total


def _rtp_mbps(flows: Flow) -> float:
    """As the generators count bytes: header and tag, without UDP and IP."""
    return (flows.down_bps - flows.down_pps * 28 * 8) / 1e6
