"""Does a packet cost more when the worker has more to look after?

One consult under load, and beside it 0, 10, 100 and 1000 idle ones: a router each, with a
publisher and a viewer connected by ICE and DTLS, producers and consumers in place, consent
kept fresh, nothing sent. What the idle ones cost by themselves is measured without media
(``relay_idle_core_share``) and taken off, so that ``relay_linear_us_per_packet`` is the cost
of a packet alone: it should not grow.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from functools import partial

from load_tests.bench.options import Options, own_core
from load_tests.bench.relay import LOOPBACK
from load_tests.rig.contenders import Session, session
from load_tests.rig.drive import Load, Round, measure_round, middle
from load_tests.rig.figures import Scalar, emit, median, note
from load_tests.rig.poller import Poller
from load_tests.rig.worker_process import Worker, worker

IDLE_CONSULTS = (0, 10, 100, 1000)
SUBSCRIBERS = 20
LOAD = Load("bursts", 1000)
AT_ONCE = 8
"""Consults connected at the same time: handshakes wait for each other's round trips, not for cores."""
DESCRIPTORS_PER_CONSULT = 2
DESCRIPTORS_SPARE = 500


def allow_descriptors(consults: int) -> None:
    """Raise the limit of open files as far as needed and allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = consults * DESCRIPTORS_PER_CONSULT + DESCRIPTORS_SPARE
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


async def idle_consults(poller: Poller, relay: Worker, have: list[Session], count: int) -> None:
    """Open more until there are ``count``."""
    while len(have) < count:
        first = len(have)
        batch = [
            Session(poller, relay, LOOPBACK, f"idle-{number}", reporting=False)
            for number in range(first, min(count, first + AT_ONCE))
        ]
        await asyncio.gather(*(_open(one) for one in batch))
        have += batch


async def _open(one: Session) -> None:
    await one.open()
    await one.add_viewers(1)


def measure_idle(poller: Poller, cpu_s: Callable[[], float], window_s: float) -> float:
    """Share of a core that the worker takes while nothing is sent."""
    began, before_s = time.monotonic(), cpu_s()
    while (now := time.monotonic()) < began + window_s:
        poller.serve()
        poller.do_chores(now)
    return (cpu_s() - before_s) / (time.monotonic() - began)


def own_cost_us(one: Round, idle_share: float) -> float:
    """Cost of a packet without what the worker takes anyway."""
    return (one.cpu_s - idle_share * one.elapsed_s) * 1e6 / max(1, one.packets)


async def measure(options: Options, core: int) -> None:
    """All points on one worker, with more and more idle consults."""
    poller = Poller()
    waiting: list[Session] = []
    alone_us = 0.0
    try:
        async with (
            worker(launch=["taskset", "--cpu-list", str(core)]) as relay,
            session(poller, relay, LOOPBACK, SUBSCRIBERS) as busy,
        ):
            for count in IDLE_CONSULTS:
                note(f"linear: {count} idle consults")
                await idle_consults(poller, relay, waiting, count)
                shares: list[float] = []
                rounds: list[Round] = []
                for _ in range(options.rounds):
                    shares.append(measure_idle(poller, relay.cpu_s, options.seconds))
                    rounds.append(
                        measure_round(poller, busy.publisher, busy.viewers, relay.cpu_s, LOAD, options.seconds)
                    )
                    await asyncio.sleep(0.05)
                share = median(shares)
                cost_us = middle(rounds, partial(own_cost_us, idle_share=share))
                alone_us = alone_us or cost_us
                params: dict[str, Scalar] = {
                    "idle_consults": count,
                    "subscribers": SUBSCRIBERS,
                    "pps_in": LOAD.pps,
                    "path": await relay.path(),
                    "delivered": round(middle(rounds, lambda one: one.delivered), 4),
                    "rounds_valid": sum(one.valid for one in rounds),
                }
                emit("relay_linear_us_per_packet", cost_us, "us", params, {"alone": alone_us})
                emit("relay_idle_core_share", share, "share", {"idle_consults": count})
    finally:
        await poller.close()


def run(options: Options | None = None) -> None:
    """Cost of a packet by the number of idle consults."""
    chosen = options or Options()
    allow_descriptors(max(IDLE_CONSULTS))
    with own_core(chosen.nice) as core:
        asyncio.run(measure(chosen, core))


if __name__ == "__main__":
    run()
