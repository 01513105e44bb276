"""What benchmarks of a live ECG share: a device, a worker, and our view in real Chromium behind a path that may be bad.

The device plays a real 12-lead record at 500 Hz to a worker; the page receives it over real ICE, DTLS and SCTP. What a
page looks at, it says itself in a script of its own behind `SCRIPT`; signalling is `Answers`, called from the page.

All of it shares one machine. What its own parts take from each other only makes a delay longer, so such a figure is an
upper bound; ``wait_share`` says how much of the time the page's main thread waited for a core. A figure is valid if
nobody else took more than `OTHERS_SHARE` of the machine meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Page, async_playwright

from load_tests.browsers.chromium import CHROMIUM, QUIET
from load_tests.browsers.page import Browser, Machine, root_process
from load_tests.rig.contenders import remote_of
from load_tests.rig.ecg_records import LEADS, record_500
from load_tests.rig.figures import Scalar
from load_tests.rig.lossy_path import LossyPath
from load_tests.rig.peer import LoadPeer
from load_tests.rig.poller import Poller
from load_tests.rig.raw_sctp import RawSctp
from load_tests.rig.worker_process import Worker, worker
from media.core import control
from media.core.waveform import FrameWriter

SEED = 11
STREAM_ID = 77
LEAD = "II"
"""The one whose samples are followed to the screen."""
OTHERS_SHARE = 0.1
UNRELIABLE = {"streamId": 0, "ordered": False, "maxRetransmits": 0}

SCRIPT = """
import { Device } from "mediasoup-client";
import { createRoot } from "react-dom/client";
import { EcgView } from "@src/waveform/EcgView";

const device = new Device({ handlerName: "Chrome111" });
const frames = new Set(), controls = new Set(), opens = new Set();
const subscribe = (set) => (callback) => (set.add(callback), () => set.delete(callback));
const nowUs = () => (performance.timeOrigin + performance.now()) * 1000;
const plain = (value) => JSON.parse(JSON.stringify(value));
let asking = null;
const channel = {
  open: false,
  onFrame: subscribe(frames), onControl: subscribe(controls), onOpenChange: subscribe(opens),
  sendControl: (message) => { if (asking !== null && asking.readyState === "open") asking.send(message); },
};

/** Open both transports and all data channels; `onFrame` and `onControl` hear messages before the view, which does
 * not get what `onControl` takes. Returns the receiving transport. */
async function connect(capabilities, send, recv, { onFrame = () => {}, onControl = () => false } = {}) {
  await device.load({ routerRtpCapabilities: capabilities });
  const wire = (transport) =>
    transport.on("connect", ({ dtlsParameters }, done, failed) =>
      ask("connect", transport.id, plain(dtlsParameters)).then(done, failed));
  const out = device.createSendTransport(send), back = device.createRecvTransport(recv);
  wire(out); wire(back);
  out.on("producedata", ({ sctpStreamParameters, label }, done, failed) =>
    ask("produce_data", out.id, label, plain(sctpStreamParameters)).then((id) => done({ id }), failed));
  asking = await out.produceData({ ordered: true, label: "ctl" });
  const take = {
    ecg: (data) => { onFrame(data); for (const callback of frames) callback(data.slice(0)); },
    ctl: (data) => {
      if (!onControl(new Uint8Array(data))) for (const callback of controls) callback(new Uint8Array(data));
    },
  };
  for (const what of ["ecg", "ctl"]) {
    const consumer = await back.consumeData(await ask("consume_data", back.id, what));
    consumer.on("message", take[what]);
    if (consumer.readyState !== "open") await new Promise((resolve) => consumer.once("open", resolve));
    await ask("resume_data", consumer.id);
  }
  if (asking.readyState !== "open") await new Promise((resolve) => asking.once("open", resolve));
  channel.open = true;
  return back;
}
"""


@dataclass
class Sent:
    """What the device did in one condition."""

    samples: dict[int, int] = field(default_factory=dict)
    """Time of each sample of the lead -> its value, of recoverable frames."""
    lost: set[int] = field(default_factory=set)
    """Times of samples that never reached the relay."""


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
        if what == "consume":
            transport, producer, capabilities = arguments
            made = await self._relay.call(
                control.Consume(transport=transport, consumer=name, producer=producer, rtp_capabilities=capabilities)
            )
            return {"id": name, "producerId": producer, "kind": made["kind"], "rtpParameters": made["rtp_parameters"]}
        if what == "resume":
            return await self._relay.call(control.ResumeConsumer(consumer=arguments[0]))
        assert what == "resume_data"
        return await self._relay.call(control.ResumeDataConsumer(data_consumer=arguments[0]))

    async def transport(self, direction: Any) -> dict[str, Any]:
        """Options for mediasoup-client, with the path's port for the relay's."""
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


@dataclass
class Rig:
    """Worker, path, device and page, connected."""

    path: LossyPath
    source: Source
    page: Page
    browser: Browser
    machine: Machine = field(default_factory=Machine)


@dataclass
class Watch:
    """How the machine was in one window."""

    wait_share: float = 0.0
    others_share: float = 0.0

    @property
    def params(self) -> dict[str, Scalar]:
        """For the figures of the window."""
        return {
            "wait_share": round(self.wait_share, 3), "others_share": round(self.others_share, 3),
            "valid": self.others_share <= OTHERS_SHARE,
        }  # fmt: skip


@contextlib.contextmanager
def watched(bench: Rig) -> Iterator[Watch]:
    """Fill in a `Watch` over the block."""
    watch = Watch()
    (_, waited_s), began = bench.browser.main_threads_s(), time.monotonic()
    bench.machine.others_share()
    yield watch
    watch.wait_share = (bench.browser.main_threads_s()[1] - waited_s) / (time.monotonic() - began)
    watch.others_share = bench.machine.others_share()


Extra = Callable[[Worker, LoadPeer], Awaitable[Coroutine[Any, Any, None]]]
"""Announces something more of the device's; what it returns is run until the end."""


@contextlib.asynccontextmanager
async def rig(address: str, extra: Extra | None = None, flags: Sequence[str] = ()) -> AsyncIterator[Rig]:
    """Everything running and the first samples on screen.

    Args:
        address: of the page, whose script has a ``rig.open(capabilities, send, recv, stream)``.
        extra: what else the device sends.
        flags: more of Chromium's.
    """
    poller = Poller()
    async with worker() as relay, async_playwright() as playwright, contextlib.AsyncExitStack() as stack:
        capabilities = (await relay.call(control.OpenRouter(router="r")))["rtp_capabilities"]
        peer, remote, up = await _device(relay, poller)
        more = [] if extra is None else [await extra(relay, peer)]
        path = LossyPath(remote, SEED)
        answers = Answers(relay, await path.open())
        profile = stack.enter_context(tempfile.TemporaryDirectory(prefix="consilium-", ignore_cleanup_errors=True))
        context = await playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=True, args=[*QUIET, *flags]
        )
        page = context.pages[0]
        await page.expose_function("ask", answers)
        source = Source(up)
        tasks = [asyncio.create_task(one) for one in (source.run(), *more)]
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
            yield Rig(path, source, page, Browser(page, root_process(profile)))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await context.close()
            path.close()
            await peer.close()
            await poller.close()


async def _device(relay: Worker, poller: Poller) -> tuple[LoadPeer, tuple[str, int], RawSctp]:
    """A peer with an open waveform channel, and the relay's address."""
    options = await relay.call(
        control.CreateTransport(router="r", transport="device", owner="device", direction="send")
    )
    peer = LoadPeer(poller, "127.0.0.1")
    fingerprint = {"algorithm": "sha-256", "value": peer.fingerprint}
    parameters = {"role": "client", "fingerprints": [fingerprint]}
    await relay.call(control.ConnectTransport(transport="device", dtls_parameters=parameters))
    remote = remote_of(options)
    await peer.connect(remote)
    up = RawSctp(peer, lambda _stream, _message: None)
    await relay.call(
        control.ProduceData(
            transport="device", data_producer="ecg", label="ecg", sctp_stream_parameters=UNRELIABLE,
            waveform=control.WaveformSource(stream_id=STREAM_ID, simulated=True),
        )
    )  # fmt: skip
    await asyncio.wait_for(up.established.wait(), 20)
    return peer, remote.address, up
