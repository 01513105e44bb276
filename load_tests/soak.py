"""`make soak`: simulated subscribers come and go for an hour; nothing of the worker may grow.

Every half minute all of them leave and others come, in a router of their own, so
that transports, producers and consumers are made and forgotten again and
again. Memory and descriptors of the worker are read after each round; the run
fails when memory grows by more than ``GROWTH_LIMIT_MB_PER_H`` over the second
half, or when a descriptor leaks.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

from load_tests.figures import emit, note
from load_tests.relay_bench import drive, legs
from load_tests.worker_process import Worker, worker

GROWTH_LIMIT_MB_PER_H = 20.0
ROUND_S = 30.0
SUBSCRIBERS = 10
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


async def soak(minutes: float) -> int:
    """Run rounds until the time is over; 0 when nothing grew."""
    memory: list[tuple[float, float]] = []
    async with worker() as relay:
        began = time.monotonic()
        first_descriptors = descriptors(relay)
        rounds = 0
        while time.monotonic() - began < minutes * 60:
            async with legs(relay, SUBSCRIBERS, router=f"soak-{rounds}") as (publisher, viewers):
                await drive(publisher, viewers, "bursts", ROUND_S)
            rounds += 1
            memory.append((time.monotonic() - began, resident_mb(relay)))
            note(f"round {rounds}: {memory[-1][1]:.1f} MB, {descriptors(relay)} descriptors")
        settled = memory[len(memory) // 2 :]
        growth = slope_per_hour(settled)
        leaked = descriptors(relay) - first_descriptors
    params = {"minutes": minutes, "rounds": rounds, "subscribers": SUBSCRIBERS}
    emit("soak_memory_growth_mb_per_h", growth, "MB/h", params)
    emit("soak_leaked_descriptors", leaked, "count", params)
    # A slope over a few minutes is noise: short runs only check the descriptors.
    grew = minutes >= 30 and growth > GROWTH_LIMIT_MB_PER_H
    return 1 if grew or leaked > 0 else 0


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Soak the media worker with sessions that come and go.")
    parser.add_argument("--minutes", type=float, default=60.0)
    return asyncio.run(soak(parser.parse_args().minutes))


if __name__ == "__main__":
    sys.exit(main())
