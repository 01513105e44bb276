"""ECG against video in real Chromium, measured where a person sees it (WAVEFORM 5b).

A device stamps both with one clock: it draws the server's time as a barcode of 40 bits into each picture, encodes it as
VP8 and sends it, and a 12-lead ECG, through the relay. The page shows both. At every picture it reads the barcode
from the pixels, when that picture will be on the glass (``expectedDisplayTime``), and where the pen is at that very
moment, by the test hook of the view. The skew is the pen's sample time less the picture's.

Three times: the view drawing as early as it can (``live``), and as late as the picture (``video``), which is told
the picture's delay by the web client's `PictureTimes`, with pictures as they come and with pictures that the browser is
asked to hold 300 ms: on a fast network they are on the glass before a block of ECG is complete, and only a held one can
be met. The map from RTP timestamps to server time is the relay's, made of the device's sender reports, whose clock is
``CLOCK_US`` off. Its error is the age it gives each picture less the age by the barcode.

Valid if the page's main thread waited for a core less than ``WAIT_SHARE`` of the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import struct
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from aiortc.codecs.vpx import Vp8Encoder
from playwright.async_api import Page, async_playwright

from load_tests.chromium import CHROMIUM, QUIET
from load_tests.contenders import VIDEO_PARAMETERS, remote_of
from load_tests.ecg_latency import STREAM_ID, UNRELIABLE, WAIT_SHARE, Answers, Source
from load_tests.ecg_page import Browser, root_process, served
from load_tests.ecg_records import LEADS, record_500
from load_tests.figures import Scalar, emit, median, note, percentile
from load_tests.peer import LoadPeer
from load_tests.poller import Poller
from load_tests.raw_sctp import RawSctp
from load_tests.traffic import VIDEO_PT, VIDEO_SSRC
from load_tests.web_bundle import build_page, why_not
from load_tests.worker_process import worker
from media.core import control, rtcp
from media.core.sender_report import ntp_from_us

WINDOW_S = 15.0
SETTLE_S = 15.0
"""Pen and jitter buffer come near slowly, the pen by 1 % of the time."""
WIDTH, HEIGHT, FPS = 320, 240, 25
BITS, CELL, ROWS = 40, 8, 24
UNIT_NS = 100_000
"""One step of the barcode."""
LOOK_MS = 2
CLOCK_US = 3_600_000_000
"""What the device's clock is ahead of the server's."""

PAGE = """
import { Device } from "mediasoup-client";
import { createRoot } from "react-dom/client";
import { EcgView } from "@src/waveform/EcgView";
import { PictureTimes } from "@src/media/pictureTimes";

const device = new Device({ handlerName: "Chrome111" });
const frames = new Set(), controls = new Set(), opens = new Set();
const subscribe = (set) => (callback) => (set.add(callback), () => set.delete(callback));
let asking = null, root = null, stream = null, timing = "live", pen = [], receiver = null;
const nowUs = () => (performance.timeOrigin + performance.now()) * 1000;
const pictures = new PictureTimes((message) => channel.sendControl(message));
const delayMs = () => pictures.delayMs("camera", performance.now());
const channel = {
  open: false,
  onFrame: subscribe(frames), onControl: subscribe(controls), onOpenChange: subscribe(opens),
  sendControl: (message) => { if (asking !== null && asking.readyState === "open") asking.send(message); },
};
const plain = (value) => JSON.parse(JSON.stringify(value));
const video = document.createElement("video");
const strip = new OffscreenCanvas(BITS * CELL, ROWS).getContext("2d", { willReadFrequently: true });

function render() {
  root.render(
    <div style={{ width: "100%", height: "100%" }}>
      <EcgView stream={stream} channel={channel} contextVersion={1} theme="light" lang="en" layout="rhythm"
        timing={timing} videoDelayMs={delayMs()} />
    </div>);
}
function readBarcode() {
  strip.drawImage(video, 0, 0, BITS * CELL, ROWS, 0, 0, BITS * CELL, ROWS);
  const { data } = strip.getImageData(0, ROWS / 2, BITS * CELL, 1);
  let value = 0;
  for (let bit = 0; bit < BITS; bit += 1) value = value * 2 + (data[4 * (bit * CELL + CELL / 2)] > 128 ? 1 : 0);
  const range = 2 ** BITS, now = Math.round(nowUs() / (UNIT_NS / 1000));
  const high = Math.round((now - value) / range);
  return (high * range + value) * (UNIT_NS / 1000);
}
function onPicture(_, { expectedDisplayTime, rtpTimestamp }) {
  video.requestVideoFrameCallback(onPicture);
  const shownUs = (performance.timeOrigin + expectedDisplayTime) * 1000;
  pictures.onShown("camera", rtpTimestamp, expectedDisplayTime);
  rig.pictures.push([shownUs, readBarcode(), pictures.age("camera", expectedDisplayTime)?.ms ?? null]);
}
async function look() {
  const view = document.querySelector("[data-testid=ecg]");
  if (view?.ecgDrawn) {
    const told = await view.ecgDrawn(), at = nowUs();
    let newest = pen.at(-1)?.[1] ?? 0;
    for (const { us } of told) newest = Math.max(newest, us);
    if (newest > 0 && newest !== pen.at(-1)?.[1]) pen.push([at, newest]);
  }
  setTimeout(look, LOOK_MS);
}
window.rig = {
  pictures: [],
  async open(capabilities, send, recv, announced) {
    stream = announced;
    await device.load({ routerRtpCapabilities: capabilities });
    const wire = (transport) =>
      transport.on("connect", ({ dtlsParameters }, done, failed) =>
        ask("connect", transport.id, plain(dtlsParameters)).then(done, failed));
    const out = device.createSendTransport(send), back = device.createRecvTransport(recv);
    wire(out); wire(back);
    out.on("producedata", ({ sctpStreamParameters, label }, done, failed) =>
      ask("produce_data", out.id, label, plain(sctpStreamParameters)).then((id) => done({ id }), failed));
    asking = await out.produceData({ ordered: true, label: "ctl" });
    const picture = await back.consume(await ask("consume", back.id, "camera", plain(device.rtpCapabilities)));
    for (const what of ["ecg", "ctl"]) {
      const consumer = await back.consumeData(await ask("consume_data", back.id, what));
      consumer.on("message", (data) => {
        if (what === "ecg") for (const take of frames) take(data.slice(0));
        else if (!pictures.takeControl(new Uint8Array(data), performance.now()))
          for (const take of controls) take(new Uint8Array(data));
      });
      if (consumer.readyState !== "open") await new Promise((resolve) => consumer.once("open", resolve));
      await ask("resume_data", consumer.id);
    }
    receiver = picture.rtpReceiver;
    video.muted = true;
    video.srcObject = new MediaStream([picture.track]);
    Object.assign(video.style, { position: "fixed", right: 0, bottom: 0, width: "320px" });
    document.body.append(video);
    video.requestVideoFrameCallback(onPicture);
    await ask("resume", picture.id);
    await video.play();
    channel.open = true;
    root = createRoot(document.getElementById("root"));
    render();
    setInterval(() => { pictures.tend(performance.now()); render(); }, 500);
    look();
  },
  timing(next, holdMs) { timing = next; receiver.jitterBufferTarget = holdMs || null; render(); },
  reset() { this.pictures = []; pen = pen.slice(-1); },
  take() { return { pictures: this.pictures, pen }; },
};
"""


class Camera:
    """Pictures with the time in them, encoded and sent as they are drawn; runs until cancelled."""

    def __init__(self, peer: LoadPeer) -> None:
        self._peer = peer
        self._encoder = Vp8Encoder()
        self._seq = 0

    async def run(self) -> None:
        """25 pictures a second; a key frame each second, so a viewer may come at any time."""
        number, begun = 0, time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, begun + number / FPS - time.monotonic()))
            now_ns = time.time_ns() // UNIT_NS * UNIT_NS
            timestamp = now_ns * 9 // 100_000 & 0xFFFFFFFF
            self._send(self._picture(now_ns, timestamp), timestamp, key=number % FPS == 0)
            if number % FPS == 0:
                ntp = ntp_from_us(now_ns // 1000 + CLOCK_US)
                self._peer.send_rtcp(rtcp.build_sender_report(VIDEO_SSRC, ntp, timestamp, number, 0))
            number += 1

    def _picture(self, now_ns: int, timestamp: int) -> av.VideoFrame:
        luma = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
        # The rest of the picture flashes with the second, for people who look at it.
        luma[:HEIGHT] = 200 if now_ns // 1_000_000_000 % 2 else 60
        code = now_ns // UNIT_NS % (1 << BITS)
        bits = np.array([235 if code >> (BITS - 1 - bit) & 1 else 16 for bit in range(BITS)], np.uint8)
        luma[:ROWS] = np.repeat(bits, CELL)
        frame = av.VideoFrame.from_ndarray(luma, format="yuv420p")
        frame.pts, frame.time_base = timestamp, fractions.Fraction(1, 90_000)
        return frame

    def _send(self, picture: av.VideoFrame, timestamp: int, *, key: bool) -> None:
        payloads, _ = self._encoder.encode(picture, force_keyframe=key)
        for index, payload in enumerate(payloads):
            last = index == len(payloads) - 1
            head = struct.pack("!BBHLL", 0x80, last << 7 | VIDEO_PT, self._seq & 0xFFFF, timestamp, VIDEO_SSRC)
            self._seq += 1
            self._peer.send_rtp(head + payload)


class MoreAnswers(Answers):
    """With a picture."""

    async def __call__(self, what: str, *arguments: Any) -> Any:
        """Called from the page."""
        if what == "consume":
            transport, producer, capabilities = arguments
            made = await self._relay.call(
                control.Consume(
                    transport=transport, consumer="picture", producer=producer, rtp_capabilities=capabilities
                )
            )
            return {
                "id": "picture", "producerId": producer, "kind": made["kind"], "rtpParameters": made["rtp_parameters"]
            }  # fmt: skip
        if what == "resume":
            return await self._relay.call(control.ResumeConsumer(consumer=arguments[0]))
        return await super().__call__(what, *arguments)


@contextlib.asynccontextmanager
async def rig(address: str) -> AsyncIterator[tuple[Page, Browser]]:
    """Everything running, picture and trace on screen."""
    poller = Poller()
    async with worker() as relay, async_playwright() as playwright, contextlib.AsyncExitStack() as stack:
        capabilities = (await relay.call(control.OpenRouter(router="r")))["rtp_capabilities"]
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
        waveform = control.WaveformSource(stream_id=STREAM_ID, simulated=True)
        await relay.call(
            control.ProduceData(
                transport="device", data_producer="ecg", label="ecg", sctp_stream_parameters=UNRELIABLE,
                waveform=waveform,
            )
        )  # fmt: skip
        await relay.call(
            control.Produce(transport="device", producer="camera", kind="video", rtp_parameters=VIDEO_PARAMETERS)
        )
        await asyncio.wait_for(up.established.wait(), 20)
        profile = stack.enter_context(tempfile.TemporaryDirectory(prefix="consilium-", ignore_cleanup_errors=True))
        context = await playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=True,
            args=[*QUIET, "--autoplay-policy=no-user-gesture-required"],
        )  # fmt: skip
        page = context.pages[0]
        answers = MoreAnswers(relay, remote.address[1])
        await page.expose_function("ask", answers)
        tasks = [asyncio.create_task(Source(up).run()), asyncio.create_task(Camera(peer).run())]
        try:
            await page.goto(address)
            ends = [await answers.transport("send"), await answers.transport("recv")]
            record = record_500()
            announced = {
                "stream_id": STREAM_ID, "leads": list(LEADS), "sample_rate_mhz": record.sample_rate_mhz,
                "lsb_nv": record.lsb_nv, "device": "bench", "filter": "", "simulated": True, "patient": "p",
            }  # fmt: skip
            await page.evaluate("a => rig.open(...a)", [capabilities, *ends, announced])
            await page.wait_for_selector("[data-testid=ecg][data-state=LIVE]", timeout=30_000, state="attached")
            yield page, Browser(page, root_process(profile))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await context.close()
            await peer.close()
            await poller.close()


async def _run(address: str, window_s: float) -> None:
    async with rig(address) as (page, browser):
        for timing, hold_ms in (("live", 0), ("video", 0), ("video", 300)):
            await page.evaluate("a => rig.timing(...a)", [timing, hold_ms])
            await asyncio.sleep(SETTLE_S)
            (_, waited_s), began = browser.main_threads_s(), time.monotonic()
            await page.evaluate("rig.reset()")
            await asyncio.sleep(window_s)
            told = await page.evaluate("rig.take()")
            share = (browser.main_threads_s()[1] - waited_s) / (time.monotonic() - began)
            report(timing, hold_ms, told, share)


def report(timing: str, hold_ms: int, told: Any, wait_share: float) -> None:
    """Print one mode's figures."""
    looks = np.array(told["pen"])
    skews_ms, video_ms = [], []
    errors_ms = [abs(age - (shown - taken) / 1000) for shown, taken, age in told["pictures"] if age is not None]
    for shown_us, taken_us, _ in told["pictures"]:
        at = int(np.searchsorted(looks[:, 0], shown_us)) - 1
        if at < 0 or shown_us - looks[at, 0] > 100_000:
            continue
        # The pen moves as time does, so between two looks it is where it was and as much further.
        pen_us = looks[at, 1] + (shown_us - looks[at, 0])
        skews_ms.append((pen_us - taken_us) / 1000)
        video_ms.append((shown_us - taken_us) / 1000)
    params: dict[str, Scalar] = {
        "timing": timing, "held_ms": hold_ms, "pictures": len(skews_ms), "fps": FPS, "map": "relay",
        "look_ms": LOOK_MS,
        "video_capture_to_glass_ms": round(median(video_ms), 1), "median_signed_ms": round(median(skews_ms), 2),
        "wait_share": round(wait_share, 3), "valid": wait_share <= WAIT_SHARE,
    }  # fmt: skip
    if errors_ms:
        emit("rtp_map_error_ms_p50", median(errors_ms), "ms", params)
        emit("rtp_map_error_ms_p95", percentile(errors_ms, 95), "ms", params)
    emit("waveform_video_skew_ms_p50", abs(median(skews_ms)), "ms", params)
    emit("waveform_video_skew_ms_p95", percentile([abs(skew) for skew in skews_ms], 95), "ms", params)


def run(window_s: float = WINDOW_S) -> None:
    """The figures of both modes."""
    if (reason := why_not()) is not None:
        note(f"ecg_skew: {reason}")
        return
    constants = {"LOOK_MS": LOOK_MS, "BITS": BITS, "CELL": CELL, "ROWS": ROWS, "UNIT_NS": UNIT_NS}
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as made:
        define = {name: str(value) for name, value in constants.items()} | {"__ECG_DRAWN__": "true"}
        with served(build_page(Path(made), PAGE, define)) as address:
            asyncio.run(_run(address, window_s))


if __name__ == "__main__":
    run()
