"""Sizes inside one stream (SVC), cut by the relay and decoded by a real browser.

A page with the stock client library publishes a drawn picture as AV1 with two sizes of three frame rates, told by the
dependency descriptor, and receives what the relay leaves of it. There is no consult around it: what decides is only how
large the viewer says it shows the picture. (Chromium sends no descriptor with VP9: its sizes go on together.)
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Page, Playwright

from load_tests.browsers import web_bundle
from load_tests.browsers.chromium import CHROMIUM, QUIET, wait_until
from tests.browser.test_data_channels import Relay

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SLOW_MS = 60_000
SIZE = (640, 360)
FPS = 15

PAGE = """
import { Device } from "mediasoup-client";

const draw = ([width, height]) => {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  let frame = 0;
  setInterval(() => {
    frame += 1;
    context.fillStyle = `hsl(${frame %% 360} 60%% 50%%)`;
    context.fillRect(0, 0, width, height);
    context.fillStyle = "black";
    for (let at = 0; at < 20; at += 1) context.fillRect((frame * 7 + at * 61) %% width, at * 17, 40, 12);
  }, 1000 / %(fps)s);
  return canvas.captureStream(%(fps)s).getVideoTracks()[0];
};

const join = async (device, direction) => {
  const wire = await relay("create_transport", "r", direction, direction, direction);
  const options = { id: direction, iceParameters: wire.ice_parameters, iceCandidates: wire.ice_candidates,
    dtlsParameters: wire.dtls_parameters, sctpParameters: wire.sctp_parameters };
  const transport = direction === "send" ? device.createSendTransport(options) : device.createRecvTransport(options);
  transport.on("connect", ({ dtlsParameters }, done, failed) =>
    relay("connect_transport", direction, dtlsParameters).then(done, failed));
  transport.on("produce", ({ kind, rtpParameters }, done, failed) => {
    relay("produce", "send", "cam", kind, rtpParameters).then(() => done({ id: "cam" }), failed);
  });
  return transport;
};

globalThis.begin = async (capabilities) => {
  const device = await Device.factory();
  await device.load({ routerRtpCapabilities: capabilities });
  const [up, down] = [await join(device, "send"), await join(device, "recv")];
  const track = draw(%(size)s);
  await up.produce({ track, codec: capabilities.codecs.find((one) => one.mimeType === "video/AV1"),
    encodings: [{ scalabilityMode: "L2T3", maxBitrate: 1_500_000 }] });
  const wire = await relay("consume", "recv", "view", "cam", device.recvRtpCapabilities);
  const rtpParameters = wire.rtp_parameters;
  const consumer = await down.consume({ id: "view", producerId: "cam", kind: "video", rtpParameters });
  await relay("resume_consumer", "view");
  const video = Object.assign(document.createElement("video"), { muted: true, autoplay: true,
    srcObject: new MediaStream([consumer.track]) });
  document.body.append(video);
  globalThis.ends = { down };
};

globalThis.seen = async () => {
  const all = [...(await ends.down.getStats()).values()];
  const { frameWidth = 0, framesDecoded = 0 } = all.find(({ type }) => type === "inbound-rtp") ?? {};
  return [frameWidth, framesDecoded];
};
"""


@pytest.fixture
def relay() -> Iterator[Relay]:
    with contextlib.closing(Relay()) as running:
        yield running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    reason = web_bundle.why_not()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("page")
    out = web_bundle.build_page(folder, PAGE % {"fps": FPS, "size": json.dumps(SIZE)})
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(out))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def page(playwright: Playwright, relay: Relay, served: str) -> Iterator[Page]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(QUIET))
    try:
        page = browser.new_page()

        def call(name: str, *args: Any) -> Any:
            return relay.do(getattr(relay.client, name)(*args))

        page.expose_function("relay", call)
        page.goto(served)
        yield page
    finally:
        browser.close()


def test_a_browser_decodes_the_sizes_that_the_relay_cuts(relay: Relay, page: Page) -> None:
    """Down at once, up with a key frame; in between the picture goes on."""
    page.evaluate("capabilities => begin(capabilities)", relay.do(relay.client.open_router("r")))
    for width, height in (SIZE, (SIZE[0] // 2, SIZE[1] // 2), SIZE):
        relay.do(relay.client.view_consumer("view", width, height, "main"))
        wait_until(page, lambda: page.evaluate("seen()")[0] == width, f"a picture {width} wide", SLOW_MS)  # noqa: B023
        decoded = page.evaluate("seen()")[1]
        wait_until(page, lambda: page.evaluate("seen()")[1] > decoded + FPS, "fifteen more of it", SLOW_MS)  # noqa: B023

    stats = relay.do(relay.client.stats())
    assert "dependency_malformed" not in stats
    assert stats["lanes_entered"] >= 3  # what is cut before the viewer first said its size is another
