"""What one forwarded packet costs the relay, and how long it stays there.

One publisher sends 250 packets a second (4/5 video of 1100 bytes, 1/5 audio of
80 bytes), N subscribers receive all of it, each over a DTLS-SRTP leg of its own
with reports, transport-wide feedback and consent running. The worker has one
core, the generator the other. Two arrivals: ``paced`` (one packet every 4 ms)
and ``bursts`` (a whole 30 fps frame at once, as encoders do).

CPU is what the kernel charged to the worker process for user and system time,
divided by the packets that arrived at the subscribers. Latency is from just
before the publisher's send to the kernel's receive stamp at the subscriber, on
every 16th packet.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

from load_tests.figures import emit, note, percentile
from load_tests.peer import LoadPeer
from load_tests.worker_process import Worker, worker
from media.core import control, rtcp

Arrival = Literal["paced", "bursts"]
VIDEO_SSRC, VIDEO_RTX_SSRC, AUDIO_SSRC = 0x11111111, 0x11111112, 0x22222222
TWCC_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
VIDEO_PPS, AUDIO_PPS, FRAMES_PER_S = 200, 50, 25
PACKETS_PER_FRAME = VIDEO_PPS // FRAMES_PER_S
SAMPLE_EVERY = 16
GENERATOR_LAG_LIMIT_MS = 20.0

VIDEO_PARAMETERS: dict[str, Any] = {
    "mid": "0",
    "codecs": [
        {
            "mimeType": "video/VP8",
            "payloadType": 96,
            "clockRate": 90_000,
            "parameters": {},
            "rtcpFeedback": [
                {"type": "nack"},
                {"type": "nack", "parameter": "pli"},
                {"type": "transport-cc"},
            ],
        },
        {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90_000, "parameters": {"apt": 96}},
    ],
    "headerExtensions": [{"uri": TWCC_URI, "id": 3}],
    "encodings": [{"ssrc": VIDEO_SSRC, "rtx": {"ssrc": VIDEO_RTX_SSRC}}],
    "rtcp": {"cname": "load", "reducedSize": True},
}
AUDIO_PARAMETERS: dict[str, Any] = {
    "mid": "1",
    "codecs": [
        {
            "mimeType": "audio/opus",
            "payloadType": 111,
            "clockRate": 48_000,
            "channels": 2,
            "parameters": {},
            "rtcpFeedback": [{"type": "transport-cc"}],
        }
    ],
    "headerExtensions": [{"uri": TWCC_URI, "id": 3}],
    "encodings": [{"ssrc": AUDIO_SSRC}],
    "rtcp": {"cname": "load", "reducedSize": True},
}


class Publisher:
    """Makes and sends the packets; key frame every second."""

    def __init__(self, peer: LoadPeer) -> None:
        self.peer = peer
        self._twcc = self._video_seq = self._audio_seq = self._frame = 0
        self._filler = os.urandom(1100)

    def video(self, index_in_frame: int) -> None:
        """One video packet of the present frame."""
        start = index_in_frame == 0
        key = self._frame % FRAMES_PER_S == 0
        descriptor = bytes([0x80 | (0x10 if start else 0), 0xC0]) + struct.pack(
            "!HB", 0x8000 | (self._frame & 0x7FFF), self._frame & 0xFF
        )
        payload = descriptor + bytes([0 if key else 1]) + self._filler[: 1100 - 8 - len(descriptor) - 1]
        marker = index_in_frame == PACKETS_PER_FRAME - 1
        self._send(96, marker, self._video_seq, self._frame * 3600, VIDEO_SSRC, payload)
        self._video_seq += 1
        self._frame += marker

    def audio(self) -> None:
        """One 20 ms audio packet."""
        self._send(111, False, self._audio_seq, self._audio_seq * 960, AUDIO_SSRC, self._filler[:72])
        self._audio_seq += 1

    def report(self) -> None:
        """Sender reports of both streams."""
        ntp = int((time.time() + 2_208_988_800) * (1 << 32))
        for ssrc, timestamp, packets in (
            (VIDEO_SSRC, self._frame * 3600, self._video_seq),
            (AUDIO_SSRC, self._audio_seq * 960, self._audio_seq),
        ):
            head = struct.pack("!BBHLQLLL", 0x80, 200, 6, ssrc, ntp, timestamp & 0xFFFFFFFF, packets, packets * 1000)
            self.peer.send_rtcp(head)

    def _send(self, payload_type: int, marker: bool, seq: int, timestamp: int, ssrc: int, payload: bytes) -> None:
        extension = struct.pack("!HHBHB", 0xBEDE, 1, 0x31, self._twcc & 0xFFFF, 0)
        self._twcc += 1
        head = struct.pack("!BBHLL", 0x90, marker << 7 | payload_type, seq & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
        self.peer.send_rtp(head + extension + payload + struct.pack("!Q", time.time_ns()))


@dataclass
class Subscriber:
    """Counts what arrives; looks into every 16th packet for its send time."""

    peer: LoadPeer | None = None
    ssrcs: list[int] = field(default_factory=list)
    packets: int = 0
    latencies_ms: list[float] = field(default_factory=list)

    def sink(self, datagram: bytes, stamp_ns: int) -> None:
        """One SRTP or SRTCP datagram."""
        if 192 <= datagram[1] <= 223:
            return
        self.packets += 1
        if self.packets % SAMPLE_EVERY == 0 and self.peer is not None and stamp_ns:
            packet = self.peer.unprotect_rtp(datagram)
            self.latencies_ms.append((stamp_ns - struct.unpack("!Q", packet[-8:])[0]) / 1e6)

    def report(self) -> None:
        """A receiver report, as every browser sends one a second."""
        assert self.peer is not None
        self.peer.send_rtcp(rtcp.build_receiver_report(1, []))


@contextlib.asynccontextmanager
async def legs(
    relay: Worker, subscribers: int, router: str = "bench"
) -> AsyncIterator[tuple[Publisher, list[Subscriber]]]:
    """One publisher and N subscribers in a router of their own, all connected and consuming."""
    capabilities = (await relay.call(control.OpenRouter(router=router)))["rtp_capabilities"]
    peers: list[LoadPeer] = []

    async def transport(name: str, direction: Literal["send", "recv"], sink: Any = None) -> LoadPeer:
        options = await relay.call(
            control.CreateTransport(router=router, transport=name, owner=name, direction=direction)
        )
        peer = LoadPeer(options, sink)
        peers.append(peer)
        await relay.call(control.ConnectTransport(transport=name, dtls_parameters=peer.dtls_parameters))
        await peer.connect()
        return peer

    try:
        publisher = Publisher(await transport("pub", "send"))
        await relay.call(control.Produce(transport="pub", producer="v", kind="video", rtp_parameters=VIDEO_PARAMETERS))
        await relay.call(control.Produce(transport="pub", producer="a", kind="audio", rtp_parameters=AUDIO_PARAMETERS))
        viewers = []
        for index in range(subscribers):
            viewer = Subscriber()
            viewer.peer = await transport(f"sub{index}", "recv", viewer.sink)
            for producer in "av":
                consumer = f"sub{index}{producer}"
                await relay.call(
                    control.Consume(
                        transport=f"sub{index}", consumer=consumer, producer=producer, rtp_capabilities=capabilities
                    )
                )
                await relay.call(control.ResumeConsumer(consumer=consumer))
            viewers.append(viewer)
        yield publisher, viewers
    finally:
        for peer in peers:
            await peer.close()
        await relay.call(control.CloseRouter(router=router))


async def drive(publisher: Publisher, viewers: list[Subscriber], arrival: Arrival, duration_s: float) -> list[float]:
    """Send for a while; how late each tick of the generator was, in ms."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    lags_ms: list[float] = []
    next_report = began
    tick = 0
    while (now := loop.time()) < began + duration_s:
        if now >= next_report:
            next_report += 1.0
            publisher.report()
            for viewer in viewers:
                viewer.report()
        # A tick is one frame time of 40 ms: 8 video and 2 audio packets, at once or spread over it.
        if arrival == "bursts":
            for index in range(PACKETS_PER_FRAME):
                publisher.video(index)
            publisher.audio()
            publisher.audio()
            due = began + (tick + 1) / FRAMES_PER_S
        else:
            position = tick % 10
            if position in (4, 9):
                publisher.audio()
            else:
                publisher.video(position - (position > 4))
            due = began + (tick + 1) * 0.004
        tick += 1
        await asyncio.sleep(max(0.0, due - loop.time()))
        lags_ms.append(max(0.0, loop.time() - due) * 1000)
    return lags_ms


async def measure(subscribers: int, arrival: Arrival, duration_s: float) -> None:
    """One run; prints its figures."""
    cores = sorted(os.sched_getaffinity(0))
    relay_core = cores[0] if len(cores) > 1 else None
    if relay_core is not None:
        os.sched_setaffinity(0, set(cores[1:]))
    try:
        async with worker(relay_core) as relay, legs(relay, subscribers) as (publisher, viewers):
            await drive(publisher, viewers, arrival, 2.0)
            for viewer in viewers:
                viewer.latencies_ms.clear()
            cpu_before, packets_before = relay.cpu_s(), sum(v.packets for v in viewers)
            began = time.monotonic()
            lags_ms = await drive(publisher, viewers, arrival, duration_s)
            elapsed_s = time.monotonic() - began
            cpu_s, packets = relay.cpu_s() - cpu_before, sum(v.packets for v in viewers) - packets_before
            latencies_ms = [latency for viewer in viewers for latency in viewer.latencies_ms]
    finally:
        os.sched_setaffinity(0, set(cores))
    lag_ms = percentile(lags_ms, 99)
    params = {
        "subscribers": subscribers,
        "pps_in": VIDEO_PPS + AUDIO_PPS,
        "arrival": arrival,
        "path": "python",
        "pps_out": round(packets / elapsed_s),
        "expected_pps_out": (VIDEO_PPS + AUDIO_PPS) * subscribers,
        "worker_core_share": round(cpu_s / elapsed_s, 3),
        "generator_lag_p99_ms": round(lag_ms, 2),
        "valid": lag_ms <= GENERATOR_LAG_LIMIT_MS
        and packets > 0.98 * (VIDEO_PPS + AUDIO_PPS) * subscribers * elapsed_s,
    }
    emit("relay_cpu_us_per_packet", cpu_s * 1e6 / max(1, packets), "us", params)
    emit("relay_added_latency_ms_p50", percentile(latencies_ms, 50), "ms", params)
    emit("relay_added_latency_ms_p99", percentile(latencies_ms, 99), "ms", params)


def run(duration_s: float = 8.0) -> None:
    """All relay figures."""
    arrivals: tuple[Arrival, ...] = ("paced", "bursts")
    for subscribers in (10, 50):
        for arrival in arrivals:
            note(f"relay: 1 publisher -> {subscribers} subscribers, {arrival}")
            asyncio.run(measure(subscribers, arrival, duration_s))


if __name__ == "__main__":
    run()
