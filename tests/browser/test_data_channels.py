"""Data channels between a real browser and the relay, without the client's code in between.

The page holds two bare peer connections, one that sends and one that receives, and the relay copies from the first
to the second. So everything that SCTP does with Chromium is here: handshakes that cross, fragments, unordered
channels, resets by either end and the use of a stream again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Page, Playwright

from load_tests.browsers.chromium import CHROMIUM, QUIET
from media.aio.supervisor import Supervisor, WorkerSettings

pytestmark = pytest.mark.browser

T = TypeVar("T")
WAIT_S = 60.0

SCRIPT = """
globalThis.ends = {};
globalThis.until = async (condition, what) => {
  const deadline = performance.now() + 40000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('never: ' + what);
    await new Promise(resolve => setTimeout(resolve, 5));
  }
};
globalThis.openChannel = (end, id, options) => {
  const channel = ends[end].pc.createDataChannel('x', {negotiated: true, id, ...options});
  channel.binaryType = 'arraybuffer';
  const got = [];
  channel.onmessage = event => got.push(event.data);
  ends[end].channels[id] = {channel, got};
};
globalThis.offer = async (end, id, options) => {
  ends[end] = {pc: new RTCPeerConnection(), channels: {}};
  openChannel(end, id, options);
  await ends[end].pc.setLocalDescription();
  return ends[end].pc.localDescription.sdp.match(/a=fingerprint:sha-256 (\\S+)/)[1];
};
globalThis.answer = (end, sdp) => ends[end].pc.setRemoteDescription({type: 'answer', sdp});
globalThis.opened = (end, id) =>
  until(() => ends[end].channels[id].channel.readyState === 'open', `open ${end} ${id}`);
globalThis.shut = (end, id) =>
  until(() => ends[end].channels[id].channel.readyState === 'closed', `closed ${end} ${id}`);
globalThis.echo = async (from, to, messages) => {
  const {channel} = ends.up.channels[from], {got} = ends.down.channels[to];
  const before = got.length;
  for (const message of messages) channel.send(message);
  await until(() => got.length >= before + messages.length, `${messages.length} messages, ${got.length - before} came`);
  return got.slice(before).map(data => typeof data === 'string' ? data : data.byteLength);
};
"""

ANSWER = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=ice-lite
a=group:BUNDLE 0
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 127.0.0.1
a=mid:0
a=ice-ufrag:{ufrag}
a=ice-pwd:{password}
a=candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host
a=fingerprint:sha-256 {fingerprint}
a=setup:passive
a=sctp-port:5000
a=max-message-size:262144
"""


class Relay:
    """A worker whose supervisor lives on a loop of its own: Playwright's occupies this thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._supervisor = self.do(self._make())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    @property
    def client(self) -> Any:
        return self._supervisor.client

    def close(self) -> None:
        try:
            self.do(self._supervisor.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(WAIT_S)
            self._loop.close()

    async def _make(self) -> Supervisor:
        async def restarted() -> None:
            pass

        supervisor = Supervisor(WorkerSettings(bind="127.0.0.1"), lambda _note: None, restarted)
        await supervisor.start()
        return supervisor


@pytest.fixture
def relay() -> Iterator[Relay]:
    with contextlib.closing(Relay()) as running:
        yield running


@pytest.fixture
def page(playwright: Playwright) -> Iterator[Page]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(QUIET))
    try:
        page = browser.new_page()
        page.evaluate(SCRIPT + "undefined")  # a function as the last value would be called
        yield page
    finally:
        browser.close()


def connect(relay: Relay, page: Page, end: str, direction: str, stream: int, options: dict[str, Any]) -> None:
    """One Transport with its first channel, at both ends."""
    made = relay.do(relay.client.create_transport("r", end, end, direction))
    fingerprint = page.evaluate("args => offer(...args)", [end, stream, options])
    parameters = {"role": "client", "fingerprints": [{"algorithm": "sha-256", "value": fingerprint}]}
    relay.do(relay.client.connect_transport(end, parameters))
    sdp = ANSWER.format(
        ufrag=made["ice_parameters"]["usernameFragment"],
        password=made["ice_parameters"]["password"],
        port=made["ice_candidates"][0]["port"],
        fingerprint=made["dtls_parameters"]["fingerprints"][0]["value"],
    )
    page.evaluate("args => answer(...args)", [end, sdp])


def test_a_browser_and_the_relay_exchange_and_close(relay: Relay, page: Page) -> None:
    client = relay.client
    reliable, live = {"ordered": True}, {"ordered": False, "maxRetransmits": 0}
    relay.do(client.open_router("r"))
    connect(relay, page, "up", "send", 0, reliable)
    connect(relay, page, "down", "recv", 0, reliable)
    relay.do(client.produce_data("up", "chat", "chat", "", {"streamId": 0, **reliable}))
    first = relay.do(client.consume_data("down", "heard", "chat"))
    assert first["sctp_stream_parameters"]["streamId"] == 0
    relay.do(client.resume_data_consumer("heard"))
    page.evaluate("Promise.all([opened('up', 0), opened('down', 0)])")

    # Text, binary, empty, and one that takes two hundred packets each way.
    sent = "['text', '', new Uint8Array(0), new Uint8Array(3), 'x'.repeat(200000), 'end']"
    assert page.evaluate(f"echo(0, 0, {sent})") == ["text", "", 0, 3, "x" * 200_000, "end"]

    # A live channel beside it.
    page.evaluate("options => openChannel('up', 1, options)", live)
    page.evaluate("options => openChannel('down', 1, options)", live)
    relay.do(client.produce_data("up", "lead", "chat", "", {"streamId": 1, **live}))
    assert relay.do(client.consume_data("down", "wave", "lead"))["sctp_stream_parameters"] == {"streamId": 1, **live}
    relay.do(client.resume_data_consumer("wave"))
    page.evaluate("Promise.all([opened('up', 1), opened('down', 1)])")
    for size in (1, 1160, 1161, 1164, 1165, 3000):
        assert page.evaluate("size => echo(1, 1, [new Uint8Array(size)])", size) == [size]

    # The relay closes a channel to the viewer, who sees it; its stream is free once the browser has answered.
    relay.do(client.close_data_consumer("heard"))
    page.evaluate("shut('down', 0)")
    again = relay.do(client.consume_data("down", "again", "chat"))["sctp_stream_parameters"]["streamId"]
    page.evaluate("args => openChannel('down', ...args)", [again, reliable])
    relay.do(client.resume_data_consumer("again"))
    page.evaluate("id => opened('down', id)", again)
    assert page.evaluate("id => echo(0, id, ['one', 'two', 'three'])", again) == ["one", "two", "three"]

    # The browser closes its own, and the stream counts from zero in the next channel.
    page.evaluate("ends.up.channels[0].channel.close()")
    page.evaluate("shut('up', 0)")
    relay.do(client.close_data_producer("chat"))
    page.evaluate("options => openChannel('up', 0, options)", reliable)
    relay.do(client.produce_data("up", "chat2", "chat", "", {"streamId": 0, **reliable}))
    heard = relay.do(client.consume_data("down", "heard2", "chat2"))["sctp_stream_parameters"]["streamId"]
    page.evaluate("args => openChannel('down', ...args)", [heard, reliable])
    relay.do(client.resume_data_consumer("heard2"))
    page.evaluate("id => Promise.all([opened('up', 0), opened('down', id)])", heard)
    assert page.evaluate("id => echo(0, id, ['after', 'all'])", heard) == ["after", "all"]

    stats = relay.do(client.stats())
    assert not [name for name in stats if name.startswith(("sctp_refused", "sctp_abuse", "turn_errors"))]
