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

What makes a figure valid, `rig` beside this says.
"""

from __future__ import annotations

import asyncio
import fractions
import struct
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import av
import numpy as np
from aiortc.codecs.vpx import Vp8Encoder

from load_tests.bench.ecg.rig import SCRIPT, Watch, rig, watched
from load_tests.browsers.page import served
from load_tests.browsers.web_bundle import build_page, why_not
from load_tests.rig.contenders import VIDEO_PARAMETERS
from load_tests.rig.figures import Scalar, emit, median, note, percentile
from load_tests.rig.peer import LoadPeer
from load_tests.rig.traffic import VIDEO_PT, VIDEO_SSRC
from load_tests.rig.worker_process import Worker
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
import { PictureTimes } from "@src/media/pictureTimes";

let root = null, stream = null, timing = "live", pen = [], receiver = null;
const pictures = new PictureTimes((message) => channel.sendControl(message));
const delayMs = () => pictures.delayMs("camera", performance.now());
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
    const onControl = (message) => pictures.takeControl(message, performance.now());
    const back = await connect(capabilities, send, recv, { onControl });
    const picture = await back.consume(await ask("consume", back.id, "camera", plain(device.rtpCapabilities)));
    receiver = picture.rtpReceiver;
    video.muted = true;
    video.srcObject = new MediaStream([picture.track]);
    Object.assign(video.style, { position: "fixed", right: 0, bottom: 0, width: "320px" });
    document.body.append(video);
    video.requestVideoFrameCallback(onPicture);
    await ask("resume", picture.id);
    await video.play();
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


async def _camera(relay: Worker, peer: LoadPeer) -> Coroutine[Any, Any, None]:
    await relay.call(
        control.Produce(transport="device", producer="camera", kind="video", rtp_parameters=VIDEO_PARAMETERS)
    )
    return Camera(peer).run()


async def _run(address: str, window_s: float) -> None:
    async with rig(address, _camera, ["--autoplay-policy=no-user-gesture-required"]) as bench:
        for timing, hold_ms in (("live", 0), ("video", 0), ("video", 300)):
            await bench.page.evaluate("a => rig.timing(...a)", [timing, hold_ms])
            await asyncio.sleep(SETTLE_S)
            with watched(bench) as watch:
                await bench.page.evaluate("rig.reset()")
                await asyncio.sleep(window_s)
                told = await bench.page.evaluate("rig.take()")
            report(timing, hold_ms, told, watch)


def report(timing: str, hold_ms: int, told: Any, watch: Watch) -> None:
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
    if not skews_ms:
        note(f"ecg_skew: no picture beside a trace in {timing} {hold_ms}")
        return
    params: dict[str, Scalar] = {
        "timing": timing, "held_ms": hold_ms, "pictures": len(skews_ms), "fps": FPS, "map": "relay",
        "look_ms": LOOK_MS,
        "video_capture_to_glass_ms": round(median(video_ms), 1), "median_signed_ms": round(median(skews_ms), 2),
        **watch.params,
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
        with served(build_page(Path(made), SCRIPT + PAGE, define)) as address:
            asyncio.run(_run(address, window_s))


if __name__ == "__main__":
    run()
