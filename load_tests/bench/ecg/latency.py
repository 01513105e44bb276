"""From capture to pixel in real Chromium, through the relay and a bad network.

A 12-lead 500 Hz device plays a real record to a worker; a page with our view receives it over real ICE, DTLS and SCTP
through `rig.lossy_path`. The view is built with its test hook: it tells each sample that it stroked, read back from the
stroke's own pixels, and the page notes when it first heard so, every ``LOOK_MS``. The delay of a sample is that moment
less the sample's own time: capture, block, network, waiting for the pen and painting, looked at a little late.

Frames are lost on both legs: datagrams of the browser's path in both directions, and messages of the device (which
never sends again here). A frame is recoverable if the device's message or the next one, which carries it too, reached
the relay. For each condition it must hold that every recoverable sample of lead II was drawn, none that is not, none
with another value; else ``exact`` is false.

How long a frame takes to the page, repairs included, is a figure of its own: from the end of its last sample to its
first arrival. The figures of the transport study were taken with 30 ms each way, so that path is among the conditions.

The conditions are grouped so that the pen has to learn another path once only. Without delay, as on a hospital's own
network, the whole way from capture to pixel is judged; with 30 ms each way, how late frames come, what a line does that
is cut for two seconds, and a fifth of everything lost. What makes a figure valid, `rig` beside this says.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from load_tests.bench.ecg.rig import LEAD, SCRIPT, Rig, Sent, Watch, rig, watched
from load_tests.browsers.page import served
from load_tests.browsers.web_bundle import build_page, why_not
from load_tests.rig.figures import Scalar, emit, median, note, percentile
from load_tests.rig.lossy_path import Weather

LOOK_MS = 8
SETTLE_S = 3.0
"""Until what was in the air in the last condition has come."""
LEARN_S = 6.0
"""Until the pen has learnt how long another path is."""
RECOVER_S = 4.0
LATE_MS = 150.0
EDGE_US = 300_000
"""A frame that was half outside the window is judged by nobody."""

PAGE = """
import { parseMessage } from "@src/waveform/frame";

let arrivals = {};
function arrived(message) {
  const at = nowUs(), told = parseMessage(new Uint8Array(message));
  if (!told.ok) return;
  for (const frame of [told.frame, told.previous]) {
    if (frame !== null) arrivals[frame.t0Us] ??= at - frame.t0Us - frame.n * 1e9 / frame.sampleRateMhz;
  }
}
window.rig = {
  async open(capabilities, send, recv, stream) {
    await connect(capabilities, send, recv, { onFrame: arrived });
    createRoot(document.getElementById("root")).render(
      <EcgView stream={stream} channel={channel} contextVersion={1} theme="light" lang="en" layout="rhythm" />);
    requestAnimationFrame(look);
  },
  drawn: {},
  states: [],
  reset() { this.drawn = {}; this.states = []; arrivals = {}; },
  take() { return { drawn: Object.entries(this.drawn), states: this.states, arrivals: Object.entries(arrivals) }; },
};

async function look() {
  const view = document.querySelector("[data-testid=ecg]");
  if (view?.ecgDrawn) {
    const told = await view.ecgDrawn();
    const at = nowUs();
    const state = view.dataset.state;
    if (rig.states.at(-1)?.[1] !== state) rig.states.push([at, state]);
    for (const { lead, us, value } of told) {
      if (lead !== LEAD) continue;
      const known = rig.drawn[Math.round(us)];
      if (known === undefined) rig.drawn[Math.round(us)] = [at, value];
      else if (known[1] !== value) known.push(value);
    }
  }
  setTimeout(look, LOOK_MS);
}
"""


@dataclass(frozen=True)
class Condition:
    """One weather.

    Attributes:
        loss: of each direction of the viewer's path, and of the device's messages.
        bursts: the viewer's path is cut for 2 s so often in the window.
        delay_ms: each way, and up to 5 ms more.
        window_s: longer where a share is asked for.
    """

    loss: float
    bursts: int = 0
    delay_ms: float = 0.0
    window_s: float = 12.0


FAR_MS = 30.0
CONDITIONS = (
    *(Condition(loss) for loss in (0.0, 0.01, 0.05)),
    *(Condition(loss, delay_ms=FAR_MS) for loss in (0.0, 0.01)),
    Condition(0.03, delay_ms=FAR_MS, window_s=25.0),
    Condition(0.05, delay_ms=FAR_MS),
    Condition(0.08, delay_ms=FAR_MS, window_s=25.0),
    Condition(0.20, delay_ms=FAR_MS),
    Condition(0.0, bursts=3, delay_ms=FAR_MS, window_s=16.0),
)


@dataclass(frozen=True)
class Result:
    """What one condition gave.

    Attributes:
        delays_ms: of each recoverable sample, capture to pixel.
        frames_ms: of each frame, from its end to its arrival.
        back_ms: for each burst, from its end to the first pixel of a sample taken after it.
        live_share: of the window, how long the view said LIVE.
    """

    delays_ms: list[float]
    frames_ms: list[float]
    lost_datagrams: int
    missing: int
    wrong: int
    invented: int
    unrecoverable: int
    back_ms: list[float]
    live_share: float
    watch: Watch

    @property
    def exact(self) -> bool:
        """Every recoverable sample drawn at its time with its value, and nothing else."""
        return self.missing == self.wrong == self.invented == 0


async def measure(bench: Rig, condition: Condition) -> Result:
    """One window."""
    is_other_path = bench.path.weather.delay_ms != condition.delay_ms
    calm = Weather(delay_ms=condition.delay_ms, jitter_ms=5.0 if condition.delay_ms else 0.0)
    bench.path.weather = Weather(loss=condition.loss, delay_ms=calm.delay_ms, jitter_ms=calm.jitter_ms)
    bench.source.loss = condition.loss
    await asyncio.sleep(LEARN_S if is_other_path else SETTLE_S)
    lost, bench.source.sent = bench.path.lost, Sent()
    from_us = time.time_ns() // 1000
    with watched(bench) as watch:
        await bench.page.evaluate("rig.reset()")
        ends_us = await _weather_over(bench, condition)
        bench.path.weather, bench.source.loss = calm, 0.0
        until_us = time.time_ns() // 1000
    await asyncio.sleep(RECOVER_S)
    told = await bench.page.evaluate("rig.take()")
    sent = bench.source.sent
    inner = _within(sent.samples, from_us, until_us)
    seen = _within({int(us): values for us, values in told["drawn"]}, from_us, until_us)
    return Result(
        delays_ms=[(seen[us][0] - us) / 1000 for us in inner if us in seen],
        frames_ms=[late_us / 1000 for t0_us, late_us in told["arrivals"] if from_us <= int(t0_us) < until_us],
        lost_datagrams=bench.path.lost - lost,
        missing=sum(us not in seen for us in inner),
        wrong=sum(us in seen and set(seen[us][1:]) != {value} for us, value in inner.items()),
        invented=sum(us not in inner for us in seen),
        unrecoverable=len(sent.lost),
        back_ms=[
            (min((at for us, (at, *_) in seen.items() if us > end_us), default=float("inf")) - end_us) / 1000
            for end_us in ends_us
        ],
        live_share=live_share(told["states"], from_us, until_us),
        watch=watch,
    )


def _within(samples: dict[int, Any], from_us: int, until_us: int) -> dict[int, Any]:
    return {us: value for us, value in samples.items() if from_us + EDGE_US <= us <= until_us - EDGE_US}


def live_share(states: list[tuple[float, str]], from_us: float, until_us: float) -> float:
    """How long a view said LIVE, of what it was looked at.

    Args:
        states: ``(since when, state)``, rising.
    """
    told = [(at, state) for at, state in states if at < until_us]
    if not told:
        return 0.0
    live_us = sum(
        after[0] - max(from_us, before[0]) for before, after in pairwise([*told, (until_us, "")]) if before[1] == "LIVE"
    )
    return live_us / (until_us - max(from_us, told[0][0]))


async def _weather_over(bench: Rig, condition: Condition) -> list[int]:
    """Wait the window out; when each burst ended, microseconds since 1970."""
    ends_us = []
    calm_s = (condition.window_s - 2.0 * condition.bursts) / (condition.bursts + 1)
    for _ in range(condition.bursts):
        await asyncio.sleep(calm_s)
        bench.path.weather.cut = True
        await asyncio.sleep(2.0)
        bench.path.weather.cut = False
        ends_us.append(time.time_ns() // 1000)
    await asyncio.sleep(calm_s)
    return ends_us


def report(condition: Condition, result: Result) -> None:
    """Print the figures of a condition."""
    delays_ms, frames_ms = result.delays_ms or [float("nan")], result.frames_ms or [float("nan")]
    params: dict[str, Scalar] = {
        "loss": condition.loss, "delay_ms": condition.delay_ms, "bursts_of_2_s": condition.bursts, "rate_hz": 500,
        "samples": len(delays_ms), "missing": result.missing, "wrong": result.wrong, "invented": result.invented,
        "unrecoverable": result.unrecoverable, "lost_datagrams": result.lost_datagrams, "exact": result.exact,
        "look_ms": LOOK_MS, **result.watch.params,
    }  # fmt: skip
    emit("ecg_capture_to_pixel_ms_p50", median(delays_ms), "ms", params)
    emit("ecg_capture_to_pixel_ms_p99", percentile(delays_ms, 99), "ms", params)
    late = sum(taken > LATE_MS for taken in frames_ms) / len(frames_ms)
    emit("ecg_frames_later_than_150_ms", late, "share", {**params, "frames": len(frames_ms)})
    emit("ecg_live_share", result.live_share, "share", params)
    if result.back_ms:
        worst = {**params, "bursts": len(result.back_ms), "median_ms": round(median(result.back_ms), 1)}
        emit("ecg_live_again_after_burst_ms", max(result.back_ms), "ms", worst)


async def _run(address: str) -> bool:
    exact = True
    async with rig(address) as bench:
        for condition in CONDITIONS:
            result = await measure(bench, condition)
            note(f"ecg_latency: {condition} {len(result.delays_ms)} samples, exact {result.exact}")
            report(condition, result)
            exact &= result.exact
    return exact


def run() -> None:
    """The figures of all conditions, in less than four minutes; says so where a drawing was not exact."""
    if (reason := why_not()) is not None:
        note(f"ecg_latency: {reason}")
        return
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as made:
        constants = {"LEAD": json.dumps(LEAD), "LOOK_MS": str(LOOK_MS), "__ECG_DRAWN__": "true"}
        with served(build_page(Path(made), SCRIPT + PAGE, constants)) as address:
            if not asyncio.run(_run(address)):
                note("ecg_latency: NOT EXACT, see the figures")


if __name__ == "__main__":
    run()
