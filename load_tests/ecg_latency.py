"""From capture to pixel in real Chromium, through the relay and a bad network.

A 12-lead 500 Hz device plays a real record to a worker; a page with our view receives it over real ICE, DTLS and SCTP
through `lossy_path`. The view is built with its test hook: it tells each sample that it stroked, read back from the
stroke's own pixels, and the page notes when it first heard so, every ``LOOK_MS``. The delay of a sample is that moment
less the sample's own time: capture, block, network, waiting for the pen and painting, looked at a little late.

Frames are lost on both legs: datagrams of the browser's path in both directions, and messages of the device (which
never sends again here). A frame is recoverable if the device's message or the next one, which carries it too, reached
the relay. For each condition it must hold that every recoverable sample of lead II was drawn, none that is not, none
with another value; else ``exact`` is false.

How long a frame takes to the page, repairs included, is a figure of its own: from the end of its last sample to its
first arrival. The figures of the transport study were taken with 30 ms each way, so that path is among the conditions.

All of it shares one machine. A condition is valid if the machine had a core for the page: its main thread waited
for one less than ``WAIT_SHARE`` of the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Page, async_playwright

from load_tests.chromium import CHROMIUM, QUIET
from load_tests.contenders import remote_of
from load_tests.ecg_page import Browser, root_process, served
from load_tests.ecg_records import LEADS, record_500
from load_tests.figures import Scalar, emit, median, note, percentile
from load_tests.lossy_path import LossyPath, Weather
from load_tests.peer import LoadPeer
from load_tests.poller import Poller
from load_tests.raw_sctp import RawSctp
from load_tests.web_bundle import build_page, why_not
from load_tests.worker_process import Worker, worker
from media.core import control
from media.core.waveform import FrameWriter

LOOK_MS = 8
WINDOW_S = 20.0
SETTLE_S = 6.0
"""Until the pen's delay has been learnt and repairs are done."""
LATE_MS = 150.0
WAIT_SHARE = 0.1
SEED = 11
STREAM_ID = 77
RECOVER_S = 4.0
LEAD = "II"
UNRELIABLE = {"streamId": 0, "ordered": False, "maxRetransmits": 0}

PAGE = """
import { Device } from "mediasoup-client";
import { createRoot } from "react-dom/client";
import { EcgView } from "@src/waveform/EcgView";
import { parseMessage } from "@src/waveform/frame";

const device = new Device({ handlerName: "Chrome111" });
const frames = new Set(), controls = new Set(), opens = new Set();
const subscribe = (set) => (callback) => (set.add(callback), () => set.delete(callback));
let asking = null;
let arrivals = {};
function arrived(message) {
  const at = now(), told = parseMessage(new Uint8Array(message));
  if (!told.ok) return;
  for (const frame of [told.frame, told.previous]) {
    if (frame !== null) arrivals[frame.t0Us] ??= at - frame.t0Us - frame.n * 1e9 / frame.sampleRateMhz;
  }
}
const now = () => (performance.timeOrigin + performance.now()) * 1000;
const channel = {
  open: false,
  onFrame: subscribe(frames), onControl: subscribe(controls), onOpenChange: subscribe(opens),
  sendControl: (message) => { if (asking !== null && asking.readyState === "open") asking.send(message); },
};
const plain = (value) => JSON.parse(JSON.stringify(value));

window.rig = {
  async open(capabilities, send, recv, stream) {
    await device.load({ routerRtpCapabilities: capabilities });
    const wire = (transport) =>
      transport.on("connect", ({ dtlsParameters }, done, failed) =>
        ask("connect", transport.id, plain(dtlsParameters)).then(done, failed));
    const out = device.createSendTransport(send), back = device.createRecvTransport(recv);
    wire(out); wire(back);
    out.on("producedata", ({ sctpStreamParameters, label }, done, failed) =>
      ask("produce_data", out.id, label, plain(sctpStreamParameters)).then((id) => done({ id }), failed));
    asking = await out.produceData({ ordered: true, label: "ctl" });
    for (const [what, set] of [["ecg", frames], ["ctl", controls]]) {
      const consumer = await back.consumeData(await ask("consume_data", back.id, what));
      consumer.on("message", (data) => {
        if (what === "ecg") arrived(data);
        for (const callback of set) callback(what === "ecg" ? data.slice(0) : new Uint8Array(data));
      });
      if (consumer.readyState !== "open") await new Promise((resolve) => consumer.once("open", resolve));
      await ask("resume_data", consumer.id);
    }
    if (asking.readyState !== "open") await new Promise((resolve) => asking.once("open", resolve));
    channel.open = true;
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
    const at = now();
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


@dataclass
class Sent:
    """What the device did in one condition."""

    samples: dict[int, int] = field(default_factory=dict)
    """Time of each sample of the lead -> its value, of recoverable frames."""
    lost: set[int] = field(default_factory=set)
    """Times of samples that never reached the relay."""


@dataclass(frozen=True)
class Condition:
    """One weather.

    Attributes:
        loss: of each direction of the viewer's path, and of the device's messages.
        bursts: the viewer's path is cut for 2 s so often in the window.
        delay_ms: each way, and up to 5 ms more.
    """

    loss: float
    bursts: int = 0
    delay_ms: float = 0.0


CONDITIONS = (
    *(Condition(loss) for loss in (0.0, 0.01, 0.03, 0.05, 0.08, 0.20)),
    *(Condition(loss, delay_ms=30.0) for loss in (0.0, 0.03, 0.08)),
    Condition(0.0, bursts=2),
)


class Source:
    """The device: frames at their times, messages lost as told; one session for the whole run."""

    def __init__(self, up: RawSctp) -> None:
        self.loss = 0.0
        self.sent = Sent()
        self._up = up
        self._record = record_500()
        self._writer = FrameWriter(self._record.stream(STREAM_ID))
        self._random = random.Random(SEED)

    async def run(self) -> None:
        """Play until cancelled."""
        block = self._record.stream().block_samples
        step_us = 1_000_000_000 // self._record.sample_rate_mhz
        start_us = time.time_ns() // 1000
        begun = time.monotonic()
        row, length = LEADS.index(LEAD), self._record.samples.shape[1]
        previous: dict[int, int] = {}
        number = 0
        while True:
            await asyncio.sleep(max(0.0, begun + (number + 1) * block * step_us / 1e6 - time.monotonic()))
            first = number * block
            samples = self._record.samples[:, first % length : first % length + block]
            t0_us = start_us + first * step_us
            message = self._writer.write(samples, t0_us=t0_us, context_version=1)
            mine = {t0_us + k * step_us: int(value) for k, value in enumerate(samples[row])}
            if self._random.random() < self.loss:
                self.sent.lost |= previous.keys()
                previous = mine
            else:
                await self._up.send(0, message, ordered=False)
                self.sent.samples |= previous | mine
                previous = {}
            number += 1


@dataclass
class Rig:
    """Worker, path, device and page, connected."""

    relay: Worker
    path: LossyPath
    source: Source
    page: Page
    browser: Browser


class Answers:
    """What signalling does for the page in the product."""

    def __init__(self, relay: Worker, port: int) -> None:
        self._relay, self._port, self._number = relay, port, 0

    async def __call__(self, what: str, *arguments: Any) -> Any:
        """Called from the page."""
        self._number += 1
        name = f"{what}-{self._number}"
        if what == "connect":
            transport, parameters = arguments
            return await self._relay.call(control.ConnectTransport(transport=transport, dtls_parameters=parameters))
        if what == "produce_data":
            transport, label, stream = arguments
            await self._relay.call(
                control.ProduceData(transport=transport, data_producer=name, label=label, sctp_stream_parameters=stream)
            )
            return name
        if what == "consume_data":
            transport, producer = arguments
            made = await self._relay.call(
                control.ConsumeData(transport=transport, data_consumer=name, data_producer=producer)
            )
            return {
                "id": name, "dataProducerId": producer, "label": made["label"], "protocol": made["protocol"],
                "sctpStreamParameters": made["sctp_stream_parameters"],
            }  # fmt: skip
        return await self._relay.call(control.ResumeDataConsumer(data_consumer=arguments[0]))

    async def transport(self, direction: Any) -> dict[str, Any]:
        """Options for mediasoup-client, with the bad path's port for the relay's."""
        made = await self._relay.call(
            control.CreateTransport(router="r", transport=f"page-{direction}", owner="page", direction=direction)
        )
        candidate = next(one for one in made["ice_candidates"] if one["protocol"] == "udp")
        return {
            "id": made["id"],
            "iceParameters": made["ice_parameters"],
            "iceCandidates": [candidate | {"port": self._port}],
            "dtlsParameters": made["dtls_parameters"],
            "sctpParameters": made["sctp_parameters"],
        }


@contextlib.asynccontextmanager
async def rig(address: str) -> AsyncIterator[Rig]:
    """Everything running and the first samples on screen."""
    poller = Poller()
    async with worker() as relay, async_playwright() as playwright, contextlib.AsyncExitStack() as stack:
        capabilities = (await relay.call(control.OpenRouter(router="r")))["rtp_capabilities"]
        options = await relay.call(
            control.CreateTransport(router="r", transport="device", owner="device", direction="send")
        )
        peer = LoadPeer(poller, "127.0.0.1")
        fingerprint = {"algorithm": "sha-256", "value": peer.fingerprint}
        await relay.call(
            control.ConnectTransport(
                transport="device", dtls_parameters={"role": "client", "fingerprints": [fingerprint]}
            )
        )
        remote = remote_of(options)
        await peer.connect(remote)
        up = RawSctp(peer, lambda _stream, _message: None)
        waveform = control.WaveformSource(stream_id=STREAM_ID, simulated=True)
        await relay.call(
            control.ProduceData(
                transport="device", data_producer="ecg", label="ecg", sctp_stream_parameters=UNRELIABLE,
                waveform=waveform,
            )
        )  # fmt: skip
        await asyncio.wait_for(up.established.wait(), 20)
        path = LossyPath(remote.address, SEED)
        port = await path.open()
        profile = stack.enter_context(tempfile.TemporaryDirectory(prefix="consilium-", ignore_cleanup_errors=True))
        context = await playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=True, args=list(QUIET)
        )
        page = context.pages[0]
        answers = Answers(relay, port)
        await page.expose_function("ask", answers)
        source = Source(up)
        playing = asyncio.create_task(source.run())
        try:
            await page.goto(address)
            ends = [await answers.transport("send"), await answers.transport("recv")]
            record = record_500()
            stream = {
                "stream_id": STREAM_ID, "leads": list(LEADS), "sample_rate_mhz": record.sample_rate_mhz,
                "lsb_nv": record.lsb_nv, "device": "bench", "filter": "", "simulated": True, "patient": "p",
            }  # fmt: skip
            await page.evaluate("a => rig.open(...a)", [capabilities, *ends, stream])
            await page.wait_for_selector("[data-testid=ecg][data-state=LIVE]", timeout=30_000, state="attached")
            yield Rig(relay, path, source, page, Browser(page, root_process(profile)))
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            await context.close()
            path.close()
            await peer.close()
            await poller.close()


@dataclass(frozen=True)
class Result:
    """What one condition gave."""

    delays_ms: list[float]
    frames_ms: list[float]
    lost_datagrams: int
    missing: int
    wrong: int
    invented: int
    unrecoverable: int
    back_ms: list[float]
    wait_share: float

    @property
    def exact(self) -> bool:
        """Every recoverable sample drawn at its time with its value, and nothing else."""
        return self.missing == self.wrong == self.invented == 0


async def measure(bench: Rig, condition: Condition, window_s: float) -> Result:
    """One window."""
    jitter_ms = 5.0 if condition.delay_ms else 0.0
    bench.path.weather = Weather(loss=condition.loss, delay_ms=condition.delay_ms, jitter_ms=jitter_ms)
    bench.source.loss = condition.loss
    await asyncio.sleep(SETTLE_S)
    lost = bench.path.lost
    bench.source.sent = Sent()
    from_us = time.time_ns() // 1000
    (_, waited_s), began = bench.browser.main_threads_s(), time.monotonic()
    await bench.page.evaluate("rig.reset()")
    ends_us = await _weather_over(bench, condition, window_s)
    bench.path.weather, bench.source.loss = Weather(), 0.0
    until_us = time.time_ns() // 1000
    share = (bench.browser.main_threads_s()[1] - waited_s) / (time.monotonic() - began)
    await asyncio.sleep(RECOVER_S)
    told = await bench.page.evaluate("rig.take()")
    drawn = {int(us): (values[0], *values[1:]) for us, values in told["drawn"]}
    sent = bench.source.sent
    # Edges: a frame that was half outside the window is judged by nobody.
    inner = {us: value for us, value in sent.samples.items() if from_us + 300_000 <= us <= until_us - 300_000}
    seen = {us: values for us, values in drawn.items() if from_us + 300_000 <= us <= until_us - 300_000}
    back_ms = []
    for end_us in ends_us:
        after = [at for us, (at, *_) in seen.items() if us > end_us and at > end_us]
        back_ms.append((min(after, default=float("inf")) - end_us) / 1000)
    return Result(
        delays_ms=[(seen[us][0] - us) / 1000 for us in inner if us in seen],
        frames_ms=[late_us / 1000 for t0_us, late_us in told["arrivals"] if from_us <= int(t0_us) < until_us],
        lost_datagrams=bench.path.lost - lost,
        missing=sum(us not in seen for us in inner),
        wrong=sum(us in seen and set(seen[us][1:]) != {value} for us, value in inner.items()),
        invented=sum(us not in inner for us in seen),
        unrecoverable=len(sent.lost),
        back_ms=back_ms,
        wait_share=share,
    )


async def _weather_over(bench: Rig, condition: Condition, window_s: float) -> list[int]:
    """Wait the window out; when each burst ended, microseconds since 1970."""
    ends_us = []
    calm_s = (window_s - 2.0 * condition.bursts) / (condition.bursts + 1)
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
        "wait_share": round(result.wait_share, 3), "valid": result.wait_share <= WAIT_SHARE, "look_ms": LOOK_MS,
    }  # fmt: skip
    emit("ecg_capture_to_pixel_ms_p50", median(delays_ms), "ms", params)
    emit("ecg_capture_to_pixel_ms_p99", percentile(delays_ms, 99), "ms", params)
    late = sum(taken > LATE_MS for taken in frames_ms) / len(frames_ms)
    emit("ecg_frames_later_than_150_ms", late, "share", {**params, "frames": len(frames_ms)})
    if result.back_ms:
        emit("ecg_live_again_after_burst_ms", max(result.back_ms), "ms", params)


async def _run(address: str, window_s: float) -> bool:
    exact = True
    async with rig(address) as bench:
        for condition in CONDITIONS:
            result = await measure(bench, condition, window_s)
            note(f"ecg_latency: {condition} {len(result.delays_ms)} samples, exact {result.exact}")
            report(condition, result)
            exact &= result.exact
    return exact


def run(window_s: float = WINDOW_S) -> None:
    """The figures; raises when a sample was drawn that should not have been, or one was not that should."""
    if (reason := why_not()) is not None:
        note(f"ecg_latency: {reason}")
        return
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as made:
        constants = {"LEAD": json.dumps(LEAD), "LOOK_MS": str(LOOK_MS), "__ECG_DRAWN__": "true"}
        with served(build_page(Path(made), PAGE, constants)) as address:
            if not asyncio.run(_run(address, window_s)):
                note("ecg_latency: NOT EXACT, see the figures")


if __name__ == "__main__":
    run()
