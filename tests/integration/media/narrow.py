"""A network of its own in which a real Chromium, a worker and a firewall stand: what gets through is up to the test.

The namespace has no way out and is gone with its last process. Chromium runs mediasoup-client as the product
does; one page sends a picture and receives it, and what its Transports ask is answered here by the worker.
"""

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Page, async_playwright

from load_tests.browsers.chromium import CHROMIUM, QUIET
from load_tests.rig.namespaces import why_not
from media.aio.client import WorkerClient
from media.core import control

WEB_CLIENT = Path(__file__).parents[3] / "web_client"
HERE = "10.98.0.1"
BEYOND_GID = 4242
"""Group of the processes that the firewall is not for."""
WAIT_S = 100.0

ENTRY = """
import { Device } from "%(mediasoup)s";

const devices = new Device({ handlerName: "Chrome111" });
const legs = {};
const plain = (value) => JSON.parse(JSON.stringify(value));

async function leg(direction, options, extra) {
  const make = direction === "send" ? "createSendTransport" : "createRecvTransport";
  const transport = (legs[direction] = devices[make]({ ...options, ...extra }));
  transport.on("connect", ({ dtlsParameters }, done, failed) =>
    ask("connect", transport.id, plain(dtlsParameters)).then(done, failed));
  transport.on("produce", ({ kind, rtpParameters }, done, failed) =>
    ask("produce", transport.id, kind, plain(rtpParameters)).then((id) => done({ id }), failed));
  return transport;
}

function picture() {
  const canvas = document.createElement("canvas");
  canvas.width = 320;
  canvas.height = 240;
  const ctx = canvas.getContext("2d");
  let n = 0;
  setInterval(() => {
    ctx.fillStyle = `hsl(${n++ %% 360} 80%% 50%%)`;
    ctx.fillRect(0, 0, 320, 240);
  }, 33);
  return canvas.captureStream(30).getVideoTracks()[0];
}

window.network = {
  async open(capabilities, send, recv, extra) {
    if (!devices.loaded) await devices.load({ routerRtpCapabilities: capabilities });
    const began = performance.now();
    const out = await leg("send", send, extra);
    const producer = await out.produce({ track: picture() });
    const back = await leg("recv", recv, extra);
    const consumer = await back.consume(await ask("consume", back.id, producer.id, plain(devices.recvRtpCapabilities)));
    const video = document.createElement("video");
    video.muted = true;
    video.srcObject = new MediaStream([consumer.track]);
    document.body.append(video);
    const shown = new Promise((resolve) => video.requestVideoFrameCallback(resolve));
    await ask("resume", consumer.id);
    await video.play();
    await shown;
    return performance.now() - began;
  },
  async pictures() {
    for (const report of (await legs.recv.getStats()).values())
      if (report.type === "inbound-rtp" && report.kind === "video") return report.framesDecoded;
    return 0;
  },
  async ways() {
    const found = {};
    for (const [direction, transport] of Object.entries(legs)) {
      const stats = await transport.getStats();
      for (const report of stats.values()) {
        if (report.type !== "transport" || !report.selectedCandidatePairId) continue;
        const pair = stats.get(report.selectedCandidatePairId);
        const local = stats.get(pair.localCandidateId);
        found[direction] = local.candidateType === "relay" ? `relay/${local.relayProtocol}` : local.protocol;
      }
    }
    return found;
  },
  states: () => Object.fromEntries(Object.entries(legs).map(([d, t]) => [d, t.connectionState])),
  async restart(direction, iceParameters) {
    await legs[direction].restartIce({ iceParameters });
  },
};
"""

CONFIG = """
export default {
  root: %(root)s,
  logLevel: "error",
  build: { target: "es2023", minify: false, outDir: "out",
           lib: { entry: "entry.js", formats: ["iife"], name: "page", fileName: () => "page.js" } },
};
"""


def why_not_here() -> str | None:
    """The reason why these tests cannot run, None when they can."""
    if shutil.which("nft") is None or not Path(CHROMIUM).exists():
        return "Debian's nftables and chromium packages are not installed"
    if shutil.which("node") is None or not (WEB_CLIENT / "node_modules" / "vite").exists():
        return "node or its modules are not installed (npm ci in web_client)"
    return why_not()


def bundle(folder: Path) -> str:
    """The page's script."""
    mediasoup = WEB_CLIENT / "node_modules" / "mediasoup-client"
    (folder / "entry.js").write_text(ENTRY % {"mediasoup": mediasoup}, encoding="utf-8")
    (folder / "vite.config.mjs").write_text(CONFIG % {"root": json.dumps(str(folder))}, encoding="utf-8")
    vite = WEB_CLIENT / "node_modules" / "vite" / "bin" / "vite.js"
    subprocess.run(["node", str(vite), "build", "--config", str(folder / "vite.config.mjs")], check=True, timeout=100)
    return (folder / "out" / "page.js").read_text(encoding="utf-8")


@dataclass
class Network:
    """A namespace with one address, and its firewall."""

    holder: subprocess.Popen[bytes]

    @property
    def inside(self) -> list[str]:
        """Command in front of what runs there."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    @property
    def beyond(self) -> list[str]:
        """The same, on the other side of the firewall."""
        return [*self.inside, "setpriv", f"--regid={BEYOND_GID}", "--clear-groups"]

    def run(self, *command: str) -> None:
        subprocess.run([*self.inside, *command], check=True)

    def block(self, what: str) -> None:
        """Drop what the browser sends and matches, silently, as firewalls do."""
        ours = ("meta", "skgid", "!=", str(BEYOND_GID))
        self.run("nft", "add", "rule", "inet", "firewall", "out", *ours, *what.split(), "drop")

    def open(self) -> None:
        """Let everything through again."""
        self.run("nft", "flush", "chain", "inet", "firewall", "out")


@contextlib.contextmanager
def network() -> Iterator[Network]:
    holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        assert holder.stdout.readline(), "the namespace is there when unshare has become cat"
        made = Network(holder)
        made.run("ip", "link", "set", "lo", "up")
        made.run("ip", "link", "add", "card", "type", "veth", "peer", "name", "nowhere")
        made.run("ip", "address", "add", f"{HERE}/24", "dev", "card")
        made.run("ip", "link", "set", "card", "up")
        made.run("ip", "link", "set", "nowhere", "up")
        made.run("nft", "add", "table", "inet", "firewall")
        made.run("nft", "add chain inet firewall out { type filter hook output priority 0; }")
        yield made
    finally:
        holder.kill()
        holder.wait()


@dataclass
class Participant:
    """The page, and the worker that answers it."""

    page: Page
    worker: WorkerClient
    capabilities: dict[str, Any]
    numbers: list[int] = field(default_factory=lambda: [0])

    def next_id(self, what: str) -> str:
        self.numbers[0] += 1
        return f"{what}{self.numbers[0]}"

    async def answer(self, what: str, *arguments: Any) -> Any:
        """What signalling does in the product."""
        if what == "connect":
            return await self.worker.connect_transport(*arguments)
        if what == "produce":
            producer = self.next_id("p")
            await self.worker.produce(arguments[0], producer, arguments[1], arguments[2])
            return producer
        if what == "consume":
            consumer = self.next_id("c")
            result = await self.worker.consume(arguments[0], consumer, arguments[1], arguments[2])
            return {
                "id": consumer,
                "producerId": arguments[1],
                "kind": result["kind"],
                "rtpParameters": result["rtp_parameters"],
            }
        return await self.worker.resume_consumer(arguments[0])

    async def open(self, **extra: Any) -> float:
        """Send and receive; milliseconds from the first Transport to the first picture on the screen."""
        self.transports = {direction: self.next_id("t") for direction in ("send", "recv")}
        made = {
            direction: await self.worker.create_transport("r", identity, "someone", direction)  # type: ignore[arg-type]
            for direction, identity in self.transports.items()
        }
        options = [
            {
                "id": made[direction]["id"],
                "iceParameters": made[direction]["ice_parameters"],
                "iceCandidates": made[direction]["ice_candidates"],
                "dtlsParameters": made[direction]["dtls_parameters"],
                "sctpParameters": made[direction]["sctp_parameters"],
            }
            for direction in ("send", "recv")
        ]
        async with asyncio.timeout(WAIT_S):
            return float(
                await self.page.evaluate(
                    "(a) => network.open(a[0], a[1], a[2], a[3])", [self.capabilities, *options, extra]
                )
            )

    async def ways(self) -> dict[str, str]:
        found: dict[str, str] = await self.page.evaluate("() => network.ways()")
        return found

    async def states(self) -> dict[str, str]:
        found: dict[str, str] = await self.page.evaluate("() => network.states()")
        return found

    async def pictures(self) -> int:
        return int(await self.page.evaluate("() => network.pictures()"))

    async def new_pictures(self, count: int = 10) -> None:
        """Wait until so many more were decoded."""
        goal = await self.pictures() + count
        async with asyncio.timeout(WAIT_S):
            while await self.pictures() < goal:
                await asyncio.sleep(0.05)

    async def restart_ice(self) -> None:
        """As the product does when a Transport says that it is disconnected."""
        for direction, identity in self.transports.items():
            parameters = await self.worker.restart_ice(identity)
            await self.page.evaluate("(a) => network.restart(a[0], a[1])", [direction, parameters])


@contextlib.asynccontextmanager
async def worker_in(place: Network, folder: Path, *addresses: str) -> AsyncIterator[WorkerClient]:
    """A worker process in the namespace, behind the firewall."""
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    path = folder / "control"
    server = await asyncio.start_unix_server(lambda r, w: accepted.put_nowait((r, w)), path)
    command = [*place.beyond, sys.executable, "-m", "media.aio.worker", "--control", str(path)]
    for address in addresses:
        command += ["--address", address]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        async with asyncio.timeout(WAIT_S):
            reader, writer = await accepted.get()
            ready = asyncio.Event()

            def noted(note: control.AnyNotification) -> None:
                if isinstance(note, control.WorkerReady):
                    ready.set()

            client = WorkerClient(reader, writer, noted)
            await ready.wait()
        yield client
        await client.close()
        async with asyncio.timeout(WAIT_S):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        server.close()


@contextlib.asynccontextmanager
async def chromium_in(place: Network, folder: Path, *flags: str) -> AsyncIterator[Any]:
    """A browser in the namespace."""
    launcher = folder / "chromium"
    launcher.write_text(f'#!/bin/sh\nexec {" ".join(place.inside)} {CHROMIUM} "$@"\n', encoding="utf-8")
    launcher.chmod(0o755)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=launcher, args=[*QUIET, *flags])
        try:
            yield browser
        finally:
            await browser.close()


async def enter(browser: Any, script: str, worker: WorkerClient) -> Participant:
    """A fresh page in a Router of its own."""
    await worker.close_router("r")
    page = await browser.new_page()
    participant = Participant(page, worker, await worker.open_router("r"))
    await page.expose_function("ask", participant.answer)
    await page.add_script_tag(content=script)
    return participant
