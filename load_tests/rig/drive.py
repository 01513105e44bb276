"""Send at a given rate for a while, serve all subscribers meanwhile, and say whether it can be believed.

The loop spins (``poller``): sends leave when they are due, arrivals are taken as they
come, and the share of time in which there was nothing to do tells how near the generator
is to being the bottleneck itself. CPU of the relay is what the kernel charged to its
process for user and system time, all threads, nanoseconds (its process CPU clock), and
that holds the receive side of the virtual link too, the same for every relay.

A round is **valid** only if the generator was not what limited it:

* every send was tried, none was dropped by a full socket;
* the 99th percentile of how late a send left is at most ``LATE_LIMIT_MS``;
* no subscriber's socket overflowed;
* the generator was idle for at least ``IDLE_FLOOR`` of the time.

Whether the relay kept up is another matter (``Round.kept_up``): at least 99 % arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from load_tests.rig.figures import median, percentile
from load_tests.rig.poller import Poller
from load_tests.rig.traffic import PACKETS_PER_FRAME, Publisher, Subscriber, total_packets

Arrival = Literal["paced", "bursts"]

LATE_LIMIT_MS = 5.0
IDLE_FLOOR = 0.03
KEPT_UP = 0.99
WARM_UP_S = 0.4


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: ``pps`` packets a second, one at a time or a frame of ten at once."""

    arrival: Arrival
    pps: float

    @property
    def interval_s(self) -> float:
        """Between two sends."""
        return (PACKETS_PER_FRAME if self.arrival == "bursts" else 1) / self.pps


@dataclass(frozen=True, slots=True)
class Round:
    """One measured window."""

    elapsed_s: float
    cpu_s: float
    sent: int
    send_failed: int
    packets: int
    expected: int
    late_p99_ms: float
    idle_share: float
    overflowed: int
    nacked: int
    resent: int
    latency_p50_ms: float
    latency_p99_ms: float

    @property
    def us_per_packet(self) -> float:
        """CPU time of the relay over the packets that arrived."""
        return self.cpu_s * 1e6 / max(1, self.packets)

    @property
    def core_share(self) -> float:
        """CPU time of the relay over time."""
        return self.cpu_s / self.elapsed_s

    @property
    def delivered(self) -> float:
        """Share of what should have arrived."""
        return self.packets / max(1, self.expected)

    @property
    def kept_up(self) -> bool:
        """The relay forwarded (nearly) everything."""
        return self.delivered >= KEPT_UP

    @property
    def valid(self) -> bool:
        """The generator was not the bottleneck."""
        return (
            self.send_failed == 0
            and self.late_p99_ms <= LATE_LIMIT_MS
            and self.overflowed == 0
            and self.idle_share >= IDLE_FLOOR
        )


def overflowed_datagrams() -> int:
    """Datagrams that full receive buffers have dropped in this network namespace, all sockets that are open."""
    total = 0
    for name in ("udp", "udp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                total += int(line.rsplit(None, 1)[1])
    return total


def process_cpu_s(pid: int) -> float:
    """CPU time of a process so far, user and system, all its threads, living and ended; nanosecond steps."""
    # The kernel's encoding of "process CPU clock of pid" (man 3 clock_getcpuclockid).
    return time.clock_gettime((~pid << 3) | 2)


@dataclass(slots=True)
class Pacing:
    """How well a stretch of sending went."""

    late_ms: list[float]
    idle_s: float
    elapsed_s: float


def send_for(poller: Poller, publisher: Publisher, load: Load, duration_s: float) -> Pacing:
    """Spin for ``duration_s``: send what is due, read what comes, do the chores."""
    clock = time.monotonic
    began = before = due = clock()
    late_ms: list[float] = []
    idle_s = 0.0
    tick = 0
    busy = True
    interval_s = load.interval_s
    bursts = load.arrival == "bursts"
    while (now := clock()) < began + duration_s:
        if not busy:
            idle_s += now - before
        before = now
        busy = False
        if now >= due:
            late_ms.append((now - due) * 1000)
            if bursts:
                publisher.burst()
            else:
                publisher.one(tick % PACKETS_PER_FRAME)
            tick += 1
            due = began + tick * interval_s
            busy = True
        if poller.serve():
            busy = True
        poller.do_chores(now)
    return Pacing(late_ms, idle_s, clock() - began)


async def send_meanwhile(publisher: Publisher, load: Load, duration_s: float) -> list[float]:
    """The same load under asyncio, for benchmarks that do other things meanwhile; how late each send was, ms.

    Sockets and chores are served by the poller's asyncio mode. The clock of asyncio is coarse: not for CPU figures
    near the generator's limit.
    """
    loop = asyncio.get_running_loop()
    began = due = loop.time()
    late_ms: list[float] = []
    tick = 0
    while due < began + duration_s:
        await asyncio.sleep(max(0.0, due - loop.time()))
        late_ms.append(max(0.0, loop.time() - due) * 1000)
        if load.arrival == "bursts":
            publisher.burst()
        else:
            publisher.one(tick % PACKETS_PER_FRAME)
        tick += 1
        due = began + tick * load.interval_s
    return late_ms


def measure_round(
    poller: Poller,
    publisher: Publisher,
    viewers: Sequence[Subscriber],
    cpu_s: Callable[[], float],
    load: Load,
    window_s: float,
) -> Round:
    """Warm up, then measure one window; what is on its way at its ends is waited for and counted."""
    pps_out = load.pps * len(viewers)
    for viewer in viewers:
        viewer.sample_every = max(16, int(pps_out / 2000))
    send_for(poller, publisher, load, WARM_UP_S)
    poller.drain()
    for viewer in viewers:
        viewer.latencies_ms.clear()
    overflowed = overflowed_datagrams()
    sent, failed, arrived = publisher.sent, publisher.send_failed, total_packets(viewers)
    nacked, resent = sum(v.nacked for v in viewers), sum(v.resent for v in viewers)
    began_cpu_s = cpu_s()
    pacing = send_for(poller, publisher, load, window_s)
    poller.drain()
    spent_s = cpu_s() - began_cpu_s
    latencies_ms = [latency for viewer in viewers for latency in viewer.latencies_ms] or [0.0]
    return Round(
        elapsed_s=pacing.elapsed_s,
        cpu_s=spent_s,
        sent=publisher.sent - sent,
        send_failed=publisher.send_failed - failed,
        packets=total_packets(viewers) - arrived,
        expected=(publisher.sent - sent) * len(viewers),
        late_p99_ms=percentile(pacing.late_ms, 99) if pacing.late_ms else 0.0,
        idle_share=pacing.idle_s / pacing.elapsed_s,
        overflowed=overflowed_datagrams() - overflowed,
        nacked=sum(v.nacked for v in viewers) - nacked,
        resent=sum(v.resent for v in viewers) - resent,
        latency_p50_ms=percentile(latencies_ms, 50),
        latency_p99_ms=percentile(latencies_ms, 99),
    )


def middle(rounds: Sequence[Round], of: Callable[[Round], float]) -> float:
    """Median over the valid rounds, over all of them when none is."""
    trusted = [one for one in rounds if one.valid] or list(rounds)
    return median([of(one) for one in trusted])
