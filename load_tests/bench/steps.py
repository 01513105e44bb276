"""Where our own path spends its time: microseconds a forwarded packet, step by step.

A worker under load (loopback, 50 subscribers) is sampled on its CPU clock
(``sampled``): the share of each step in the samples, times the measured cost of a packet
in the same window. Steps are told apart by where in the source a sample fell (``STEPS``,
the first rule that fits any frame of the stack counts); what no rule knows shows as ``other``
and so is not lost. ``params.kernel_share`` is the part of the step spent in system calls:
in the C path, copying, rewriting and protecting are its user part, sending its kernel part.

The sum of all steps is ``relay_cpu_us_per_packet`` of the same load. Steps that happen once
per incoming packet get dear with few subscribers: ``params.us_per_packet_in`` has them that way.
"""

from __future__ import annotations

import asyncio
import json
import linecache
import os
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from load_tests.bench.options import Options, own_core
from load_tests.bench.relay import LOOPBACK, PATHS
from load_tests.rig.contenders import OurWorker
from load_tests.rig.drive import Load, measure_round
from load_tests.rig.figures import Scalar, emit, note
from load_tests.rig.poller import Poller
from load_tests.rig.worker_process import MODULE, WorkerFailed

SUBSCRIBERS = 50
LOADS = (Load("paced", 230), Load("bursts", 270), Load("bursts", 2600))
"""No multiple of the kernel's tick, which would meet the same step again and again."""
SAMPLED_CPU_S = 1.6
"""Aimed at: 400 samples at a tick of 4 ms."""
WINDOW_RANGE_S = (4.0, 10.0)
PROBE_S = 0.6
WRITE_TIMEOUT_S = 10.0
OTHER: Final = "other"

STEPS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (step, re.compile(pattern))
    for step, pattern in (
        ("transport-cc of viewers: parse and match", r"media/core/(twcc\.py:read_|congestion/sent\.py)"),
        ("estimate and allocate", r"media/core/congestion/"),
        # What a timer does is one step, whatever else it calls.
        ("ticks: reports, feedback, repairs", r"media/aio/relay\.py:(_on_timer|_tick|_hurry)|/tick:"),
        ("other RTCP of peers", r"media/aio/feedback\.py:received|media/aio/ingress\.py:.*unprotect_rtcp"),
        ("ICE and DTLS", r"media/aio/(stun|mux)\.py:_stun|media/core/ice\.py|offer_dtls|aiortc/rtcdtls"),
        ("signalling and data", r"media/aio/(control_server|data|sctp)\.py"),
        # The way of a packet: system calls and libsrtp by the line that calls them.
        ("receive: system calls", r"media/aio/udp\.py:_readable:.*(recvmsg_into|recvfrom_into|recvmmsg|ioctl)"),
        ("fan-out in C: rewrite, protect, send", r"media/aio/fanout\.py:(begin|go_on):"),
        ("receive, unprotect and send ahead in C", r"media/aio/intake\.py:wait:.*self\._serve\("),
        ("book what was sent ahead", r"media/aio/intake\.py:_book_sent"),
        ("send: system calls", r"media/aio/(udp|tcp)\.py:.*(sendmsg|sendto|sendmmsg)\("),
        ("protect", r"media/aio/forward\.py:.*\bprotect\("),
        ("unprotect", r"media/aio/ingress\.py:srtp:.*unprotect\("),
        ("lay out and rewrite per viewer", r"media/aio/(forward|fanout)\.py|media/core/templates\.py"),
        ("parse and book incoming packets", r"media/aio/(ingress|lanes|steering)\.py"),
        ("demultiplex and batch", r"media/aio/(udp|mux|relay|objects|intake)\.py"),
        ("event loop", r"media/aio/loop\.py|/asyncio/|/selectors\.py"),
    )
)

Frame = Sequence[Any]
Rows = Iterable[tuple[bool, int, Sequence[Frame]]]


def step_of(stack: Sequence[Frame]) -> str:
    """The step of one sample; ``stack`` is ``(file, line, function)``, innermost first."""
    frames = [f"{file}:{function}:{linecache.getline(file, line).strip()}" for file, line, function in stack]
    for step, pattern in STEPS:
        if any(pattern.search(frame) for frame in frames):
            return step
    return OTHER


def tally(rows: Rows) -> tuple[Counter[str], Counter[str]]:
    """Samples of each step: of user and system time, and of user time alone."""
    whole: Counter[str] = Counter()
    user: Counter[str] = Counter()
    for user_only, count, stack in rows:
        if any(function == "_read_from_self" for _, _, function in stack):
            continue  # the event loop wakes up for the sampler's own signals
        (user if user_only else whole)[step_of(stack)] += count
    return whole, user


def take(out: Path) -> Rows:
    """What the sampler writes, and away with it."""
    deadline = time.monotonic() + WRITE_TIMEOUT_S
    while not out.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the sampled worker wrote nothing")
        time.sleep(0.05)
    rows: Rows = json.loads(out.read_text())
    out.unlink()
    return rows


async def measure(options: Options, core: int) -> None:
    """Both paths, all loads."""
    for forward in PATHS:
        poller = Poller()
        ours = OurWorker(poller, forward)
        with tempfile.TemporaryDirectory(prefix="consilium-steps-") as folder:
            out = Path(folder) / "samples"
            launch = ["taskset", "--cpu-list", str(core)]
            try:
                await ours.open(LOOPBACK, LOOPBACK, launch, ("-m", "load_tests.bench.sampled", str(out), MODULE[-1]))
                await ours.add_viewers(SUBSCRIBERS)
                for load in LOADS:
                    note(f"steps: {forward}, {load.arrival}, {load.pps:.0f} packets/s in")
                    await _sample(poller, ours, load, out)
            except WorkerFailed as error:
                note(f"steps: the {forward} path is left out: {error}")
            finally:
                await ours.close()
                await poller.close()


async def _sample(poller: Poller, ours: OurWorker, load: Load, out: Path) -> None:
    """One load: sample, measure, print."""
    pid = ours.relay.process.pid
    probe = measure_round(poller, ours.publisher, ours.viewers, ours.cpu_s, load, PROBE_S)
    window_s = min(WINDOW_RANGE_S[1], max(WINDOW_RANGE_S[0], SAMPLED_CPU_S / max(0.01, probe.core_share)))
    os.kill(pid, signal.SIGUSR1)
    measured = measure_round(poller, ours.publisher, ours.viewers, ours.cpu_s, load, window_s)
    os.kill(pid, signal.SIGUSR2)
    whole, user = tally(take(out))
    total = max(1, sum(whole.values()))
    fan_out = measured.packets / max(1, measured.sent)
    for step, count in whole.most_common():
        cost_us = measured.us_per_packet * count / total
        params: dict[str, Scalar] = {
            "step": step,
            "path": ours.path,
            "subscribers": SUBSCRIBERS,
            "arrival": load.arrival,
            "pps_in": round(load.pps),
            "kernel_share": round(max(0.0, 1 - user[step] / count), 2),
            "us_per_packet_in": round(cost_us * fan_out, 2),
            "samples": count,
            "all_steps_us": round(measured.us_per_packet, 3),
            "valid": measured.valid and measured.kept_up,
        }
        emit("relay_step_us_per_packet", cost_us, "us", params)


def run(options: Options | None = None) -> None:
    """Cost of each step on each path."""
    chosen = options or Options()
    with own_core(chosen.nice) as core:
        asyncio.run(measure(chosen, core))


if __name__ == "__main__":
    run()
