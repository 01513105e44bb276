"""What one forwarded packet costs our relay on loopback, without anything to compare it with.

The quick look that needs neither root nor other relays: a worker of ours on each of its
paths (``params.path`` ``c`` or ``python``), 10 and 50 subscribers, both arrivals. What is
sent and what makes a round valid is in ``traffic`` and ``drive``; the comparison with
other relays, behind the same virtual cable, is ``peers.relays``.

Latency is from just before the publisher's send to the kernel's receive stamp at the
subscriber.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal

from load_tests.bench.options import Options, own_core
from load_tests.rig.contenders import Contender, OurWorker
from load_tests.rig.drive import Arrival, Load, Round, measure_round, middle
from load_tests.rig.figures import Scalar, emit, note
from load_tests.rig.poller import Poller
from load_tests.rig.worker_process import WorkerFailed

LOOPBACK = "127.0.0.1"
PPS_IN = 250
ARRIVALS: tuple[Arrival, ...] = ("paced", "bursts")
SUBSCRIBERS = (10, 50)
PATHS: tuple[Literal["c", "python"], ...] = ("c", "python")


@contextlib.asynccontextmanager
async def our_workers(poller: Poller, bind: str, address: str, launch: Sequence[str]) -> AsyncIterator[list[OurWorker]]:
    """A worker on each path there is here.

    Raises:
        WorkerFailed: there is none.
    """
    async with contextlib.AsyncExitStack() as stack:
        running = []
        for forward in PATHS:
            ours = OurWorker(poller, forward)
            stack.push_async_callback(ours.close)
            try:
                await ours.open(bind, address, launch)
            except WorkerFailed as error:  # where the C function was not built, a worker told to use it ends
                note(f"the worker has no {forward} path here: {error}")
            else:
                running.append(ours)
        if not running:
            raise WorkerFailed("no worker on any path")
        yield running


async def in_turns(
    poller: Poller, loads: Mapping[str, tuple[Contender, Load]], options: Options
) -> dict[str, list[Round]]:
    """Measure each in turn, several times; a round that the generator spoiled is tried once more at the end."""
    measured: dict[str, list[Round]] = {name: [] for name in loads}
    for attempt in range(2 * options.rounds):
        for name, (contender, load) in loads.items():
            good = sum(one.valid for one in measured[name])
            if attempt >= options.rounds and good >= options.rounds:
                continue
            measured[name].append(
                measure_round(poller, contender.publisher, contender.viewers, contender.cpu_s, load, options.seconds)
            )
            await asyncio.sleep(0.05)  # signalling of all relays is served in between
    return measured


def describe(rounds: Sequence[Round], load: Load, subscribers: int) -> dict[str, Scalar]:
    """What a figure was measured with, and whether to believe it."""
    return {
        "subscribers": subscribers,
        "pps_in": round(load.pps),
        "arrival": load.arrival,
        "pps_out": round(middle(rounds, lambda one: one.packets / one.elapsed_s)),
        "core_share": round(middle(rounds, lambda one: one.core_share), 3),
        "delivered": round(middle(rounds, lambda one: one.delivered), 4),
        "nacks_answered": round(sum(one.resent for one in rounds) / max(1, sum(one.nacked for one in rounds)), 3),
        "generator_late_p99_ms": round(middle(rounds, lambda one: one.late_p99_ms), 2),
        "generator_idle_share": round(middle(rounds, lambda one: one.idle_share), 3),
        "rounds": len(rounds),
        "rounds_valid": sum(one.valid for one in rounds),
        "valid": any(one.valid and one.kept_up for one in rounds),
    }


def emit_all(
    rounds: Sequence[Round], params: Mapping[str, Scalar], against: Mapping[str, Sequence[Round]] | None = None
) -> None:
    """The three figures of one point."""
    others = against or {}
    for figure, unit, of in (
        ("relay_cpu_us_per_packet", "us", lambda one: one.us_per_packet),
        ("relay_added_latency_ms_p50", "ms", lambda one: one.latency_p50_ms),
        ("relay_added_latency_ms_p99", "ms", lambda one: one.latency_p99_ms),
    ):
        values = {name: round(middle(measured, of), 4) for name, measured in others.items()}
        # 0: it was not taken (aiortc sends other packets than it gets).
        emit(figure, middle(rounds, of), unit, params, {name: value for name, value in values.items() if value})


async def measure(options: Options, core: int) -> None:
    """All points on loopback."""
    poller = Poller()
    try:
        async with our_workers(poller, LOOPBACK, LOOPBACK, ["taskset", "--cpu-list", str(core)]) as running:
            for subscribers in SUBSCRIBERS:
                for ours in running:
                    await ours.add_viewers(subscribers)
                for arrival in ARRIVALS:
                    note(f"relay: 1 publisher -> {subscribers} subscribers, {arrival}")
                    load = Load(arrival, PPS_IN)
                    rounds = await in_turns(poller, {ours.name: (ours, load) for ours in running}, options)
                    for ours in running:
                        params = describe(rounds[ours.name], load, subscribers)
                        emit_all(rounds[ours.name], {**params, "path": ours.path, "link": "loopback"})
    finally:
        await poller.close()


def run(options: Options | None = None) -> None:
    """All relay figures."""
    chosen = options or Options()
    with own_core(chosen.nice) as core:
        asyncio.run(measure(chosen, core))


if __name__ == "__main__":
    run()
