"""`make soak`: simulated subscribers come and go for an hour; nothing of the worker may grow.

Every half minute all of them leave and others come, in a router of their own, so
that transports, producers and consumers are made and forgotten again and
again. After each round memory and descriptors of the worker are read, and in each
round what a packet costs it is measured. The run fails when a descriptor leaks, when
memory grows by more than ``GROWTH_LIMIT_MB_PER_H`` over the second half, or when a
packet of the last quarter costs ``COST_LIMIT`` times one of the first.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from load_tests.bench.options import own_core
from load_tests.rig.contenders import session
from load_tests.rig.drive import Load, Round, measure_round, middle, send_meanwhile
from load_tests.rig.figures import emit, note
from load_tests.rig.poller import Poller
from load_tests.rig.worker_process import Worker, worker

GROWTH_LIMIT_MB_PER_H = 20.0
COST_LIMIT = 1.2
JUDGED_MINUTES = 30.0
"""A slope over less is noise: shorter runs judge only descriptors."""
ROUND_S = 30.0
WINDOW_S = 4.0
SUBSCRIBERS = 10
PPS_IN = 250
LOOPBACK = "127.0.0.1"
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


def resident_mb(relay: Worker) -> float:
    """Resident memory of the worker, megabytes."""
    return int(Path(f"/proc/{relay.process.pid}/statm").read_text().split()[1]) * PAGE_MB


def descriptors(relay: Worker) -> int:
    """Open descriptors of the worker."""
    return len(list(Path(f"/proc/{relay.process.pid}/fd").iterdir()))


def slope_per_hour(samples: list[tuple[float, float]]) -> float:
    """Least-squares slope of (seconds, value), per hour."""
    count = len(samples)
    mean_t = sum(t for t, _ in samples) / count
    mean_v = sum(v for _, v in samples) / count
    spread = sum((t - mean_t) ** 2 for t, _ in samples)
    return 3600 * sum((t - mean_t) * (v - mean_v) for t, v in samples) / spread if spread else 0.0


def quarters_us(rounds: Sequence[Round]) -> tuple[float, float]:
    """Cost of a packet in the first and in the last quarter of the rounds."""
    size = max(1, len(rounds) // 4)
    return middle(rounds[:size], lambda one: one.us_per_packet), middle(rounds[-size:], lambda one: one.us_per_packet)


async def soak(minutes: float, core: int) -> int:
    """Run rounds until the time is over; 0 when nothing grew."""
    memory: list[tuple[float, float]] = []
    rounds: list[Round] = []
    poller = Poller()
    load = Load("bursts", PPS_IN)
    async with worker(LOOPBACK, launch=["taskset", "--cpu-list", str(core)]) as relay:
        began = time.monotonic()
        first_descriptors = descriptors(relay)
        while time.monotonic() - began < minutes * 60:
            async with session(poller, relay, LOOPBACK, SUBSCRIBERS, f"soak-{len(rounds)}") as legs:
                rounds.append(measure_round(poller, legs.publisher, legs.viewers, relay.cpu_s, load, WINDOW_S))
                await send_meanwhile(legs.publisher, load, ROUND_S - WINDOW_S)
            memory.append((time.monotonic() - began, resident_mb(relay)))
            note(
                f"round {len(rounds)}: {memory[-1][1]:.1f} MB, {descriptors(relay)} descriptors, "
                f"{rounds[-1].us_per_packet:.1f} us a packet"
            )
        leaked = descriptors(relay) - first_descriptors
    await poller.close()
    growth = slope_per_hour(memory[len(memory) // 2 :])
    first_us, last_us = quarters_us(rounds)
    params = {"minutes": minutes, "rounds": len(rounds), "subscribers": SUBSCRIBERS, "pps_in": PPS_IN}
    emit("soak_memory_growth_mb_per_h", growth, "MB/h", params)
    emit("soak_leaked_descriptors", leaked, "count", params)
    emit("soak_relay_cpu_us_per_packet", last_us, "us", params, {"first_quarter": first_us})
    grew = minutes >= JUDGED_MINUTES and (growth > GROWTH_LIMIT_MB_PER_H or last_us > COST_LIMIT * first_us)
    return 1 if grew or leaked > 0 else 0


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Soak the media worker with sessions that come and go.")
    parser.add_argument("--minutes", type=float, default=60.0)
    with own_core(0) as core:
        return asyncio.run(soak(parser.parse_args().minutes, core))


if __name__ == "__main__":
    sys.exit(main())
