"""How many ECGs one worker on one core relays to six viewers each before p99 of the relay's delay passes 20 ms.

Every stream is a consult of its own, as in a hospital: twelve leads at 500 Hz, ten messages a second of a real
record, each with the frame before it, to six viewers. Each of the seven has a transport of its own with real ICE
checks, DTLS and SCTP. Devices are not synchronised: streams are spread over the tenth of a second.

The relay's delay is from just before the source's send to the kernel's stamp on the viewer's datagram, so how
quickly this process reads does not matter; the time of sending is the frame's own ``t0``. Streams are doubled
until the limit is passed, then the bracket is halved. Transports of streams that do not send stay connected.

Beside it, in the same run: what a copy costs us and the common alternative, an aiohttp server that copies WebSocket
messages over TLS (`ws_hub`), each on the same core with `COMPARED` streams and as many viewers. Ours is taken before
the search: what that overloads has repairs to send for a while, which would be counted as the price of a copy.

A point counts only if the generator was not what limited it, by the rules of ``drive``; where it was, the search
stops, and the figure says that it is a lower bound (``limit: generator``, ``valid: false``).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

from google_crc32c import value as crc32c
from OpenSSL import SSL

from load_tests.bench.options import Options, own_core
from load_tests.peers import ws_hub
from load_tests.rig.contenders import remote_of
from load_tests.rig.drive import IDLE_FLOOR, LATE_LIMIT_MS, overflowed_datagrams
from load_tests.rig.ecg_records import encode_all, record_500
from load_tests.rig.figures import Scalar, emit, note, percentile
from load_tests.rig.peer import ANCILLARY_BYTES, SO_TIMESTAMPNS, LoadPeer
from load_tests.rig.poller import Poller
from load_tests.rig.raw_sctp import RawSctp
from load_tests.rig.worker_process import Worker, worker
from media.core import control

VIEWERS = 6
MESSAGES_PER_S = 10
LIMIT_MS = 20.0
FIRST, MOST = 16, 512
COMPARED = 16
CLOSE = 1.12
"""The bracket is narrow enough when its ends differ by less."""
SETTLE_S, WINDOW_S = 1.0, 3.0
SEARCH_S = 240.0
"""Then the bracket found so far is the answer, and says so."""
KEPT_UP = 0.999
UNRELIABLE = {"streamId": 0, "ordered": False, "maxRetransmits": 0}
OPEN_TIMEOUT_S = 20.0
T0_AT, SEQ_AT, INDEX_AT, STREAM_AT, CRC_AT, HEADER_BYTES = 16, 8, 24, 4, 48, 52
_DATA, _SACK = 0, 3
_READ = bytearray(2048)


class QuickPeer(LoadPeer):
    """A `LoadPeer` whose data channel is served in the reading itself, with the kernel's time of arrival.

    aiortc does the handshake and SCTP's; after `take_over` it does not see another packet.
    """

    def __init__(self, poller: Poller, bind: str) -> None:
        super().__init__(poller, bind)
        self.delays_ms: list[float] = []
        self.received = 0
        self._ssl: Any = None
        self._tag = self._cumulative = self._unanswered = 0

    def take_over(self, sctp: RawSctp) -> None:
        """From now on packets are counted, acknowledged every second one, and nothing else."""
        self._ssl = self.dtls._ssl
        self._tag, self._cumulative = sctp.peer_tag, sctp.cumulative

    def read_one(self) -> None:
        """One datagram."""
        if self._ssl is None:
            super().read_one()
            return
        try:
            length, ancillary, _flags, _address = self._socket.recvmsg_into([_READ], ANCILLARY_BYTES)
        except (BlockingIOError, ConnectionRefusedError):
            return
        if not length or not 20 <= _READ[0] < 64:
            if length and _READ[0] < 4:
                self._stun(bytes(_READ[:length]))
            return
        stamp_ns = 0
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = struct.unpack_from("=qq", value)
                stamp_ns = seconds * 1_000_000_000 + nanoseconds
        self._ssl.bio_write(bytes(_READ[:length]))
        with contextlib.suppress(SSL.Error):
            self._packet(self._ssl.recv(1500), stamp_ns)

    def send_sctp(self, chunk: bytes, tag: int) -> bool:
        """One SCTP packet; False when the socket is full."""
        packet = struct.pack("!HHII", 5000, 5000, tag, 0) + chunk
        ssl: Any = self.dtls._ssl
        ssl.send(packet[:8] + struct.pack("<I", crc32c(packet)) + packet[12:])
        return self._send_now(ssl.bio_read(1500))

    def _packet(self, packet: bytes, stamp_ns: int) -> None:
        at = 12
        while at + 4 <= len(packet):
            kind, length = packet[at], struct.unpack_from("!H", packet, at + 2)[0]
            if length < 4:
                return
            if kind == _DATA:
                self._cumulative = max(self._cumulative, struct.unpack_from("!I", packet, at + 4)[0])
                (t0_ns,) = struct.unpack_from("<q", packet, at + 16 + T0_AT)
                self.received += 1
                self._unanswered += 1
                if stamp_ns:
                    self.delays_ms.append((stamp_ns - t0_ns) / 1e6)
            at += length + (-length & 3)
        if self._unanswered >= 2:
            self._unanswered = 0
            self.send_sctp(struct.pack("!BBHIIHH", _SACK, 0, 16, self._cumulative, 1 << 20, 0, 0), self._tag)


@dataclass(slots=True)
class Device:
    """One stream's source: a record cut into messages before, stamped when sent."""

    stream_id: int
    peer: QuickPeer
    sctp: RawSctp
    bodies: list[tuple[bytes, bytes]]
    """``(frame, frame before)`` of each message of the record."""
    phase_s: float
    sent: int = 0
    failed: int = 0

    def send(self) -> None:
        """The next message; the time in its first frame is now."""
        frame, before = self.bodies[self.sent % len(self.bodies)]
        now_ns = time.time_ns()
        seq = self.sent + 1
        message = self._stamped(frame, seq, now_ns) + self._stamped(before, seq - 1, now_ns - 100_000_000)
        self.sent += 1
        self.failed += not self.peer.send_sctp(self.sctp.data_chunk(0, message, ordered=False), self.sctp.peer_tag)

    def _stamped(self, frame: bytes, seq: int, t0_ns: int) -> bytes:
        head = bytearray(frame[:CRC_AT])
        head[3] &= ~128  # one session: the record's seam is the signal's business, not the relay's
        struct.pack_into("<II", head, STREAM_AT, self.stream_id, seq)
        # Whole microseconds, as frames have them.
        struct.pack_into("<qQ", head, T0_AT, t0_ns // 1000 * 1000, seq * 50)
        crc = zlib.crc32(frame[HEADER_BYTES:], zlib.crc32(head))
        return bytes(head) + struct.pack("<I", crc) + frame[HEADER_BYTES:]


@dataclass(frozen=True, slots=True)
class Point:
    """One number of streams."""

    streams: int
    p50_ms: float
    p99_ms: float
    delivered: float
    core_share: float
    cpu_us_per_copy: float
    late_p99_ms: float
    idle_share: float
    overflowed: int
    failed: int

    @property
    def valid(self) -> bool:
        """The generator was not the bottleneck."""
        return (
            self.failed == 0
            and self.overflowed == 0
            and self.late_p99_ms <= LATE_LIMIT_MS
            and self.idle_share >= IDLE_FLOOR
        )

    @property
    def good(self) -> bool:
        """Within the limit, nothing lost."""
        return self.p99_ms <= LIMIT_MS and self.delivered >= KEPT_UP


@dataclass(slots=True)
class Ward:
    """Streams of one worker, connected as they are needed."""

    poller: Poller
    relay: Worker
    bind: str
    devices: list[Device] = field(default_factory=list)
    viewers: list[QuickPeer] = field(default_factory=list)

    async def grow(self, streams: int) -> None:
        """Connect more until there are so many; 8 at a time."""
        while len(self.devices) < streams:
            batch = range(len(self.devices), min(streams, len(self.devices) + 8))
            made = await asyncio.gather(*(self._stream(number) for number in batch))
            for device, viewers in made:
                self.devices.append(device)
                self.viewers += viewers

    async def close(self) -> None:
        """Close all peers."""
        for peer in (*(device.peer for device in self.devices), *self.viewers):
            await peer.close()

    async def _stream(self, number: int) -> tuple[Device, list[QuickPeer]]:
        router, stream_id = f"r{number}", number + 1
        await self.relay.call(control.OpenRouter(router=router))
        source = await self._peer(router, f"{router}-in", "send")
        up = RawSctp(source, lambda _stream, _message: None)
        await self.relay.call(
            control.ProduceData(
                transport=f"{router}-in",
                data_producer=f"{router}-ecg",
                label="ecg",
                sctp_stream_parameters=UNRELIABLE,
                waveform=control.WaveformSource(stream_id=stream_id, simulated=True),
            )
        )
        viewers, ends = [], [up]
        for index in range(VIEWERS):
            name = f"{router}-v{index}"
            viewer = await self._peer(router, name, "recv")
            ends.append(RawSctp(viewer, lambda _stream, _message: None))
            await self.relay.call(
                control.ConsumeData(transport=name, data_consumer=f"{name}-ecg", data_producer=f"{router}-ecg")
            )
            await self.relay.call(control.ResumeDataConsumer(data_consumer=f"{name}-ecg"))
            viewers.append(viewer)
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            for end in ends:
                await end.established.wait()
        for viewer, end in zip(viewers, ends[1:], strict=True):
            viewer.take_over(end)
        # Golden-ratio steps: any number of streams is spread evenly over the interval.
        phase_s = (number * 0.6180339887) % 1.0 / MESSAGES_PER_S
        return Device(stream_id, source, up, _bodies(), phase_s), viewers

    async def _peer(self, router: str, name: str, direction: Literal["send", "recv"]) -> QuickPeer:
        options = await self.relay.call(
            control.CreateTransport(router=router, transport=name, owner=name, direction=direction)
        )
        peer = QuickPeer(self.poller, self.bind)
        fingerprint = {"algorithm": "sha-256", "value": peer.fingerprint}
        await self.relay.call(
            control.ConnectTransport(transport=name, dtls_parameters={"role": "client", "fingerprints": [fingerprint]})
        )
        await peer.connect(remote_of(options))
        return peer


_made: list[tuple[bytes, bytes]] = []


def _bodies() -> list[tuple[bytes, bytes]]:
    if not _made:
        frames = encode_all(record_500(), redundant=False)
        _made.extend((_with_flag(frame), before) for before, frame in itertools.pairwise(frames))
    return _made


def _with_flag(frame: bytes) -> bytes:
    """Say that the frame before follows; the CRC is made when it is sent."""
    return frame[:3] + bytes((frame[3] | 32,)) + frame[4:]


def measure_point(ward: Ward, streams: int, window_s: float) -> Point:
    """Spin for a settling time, then for the window; what is on its way at its ends is waited for."""
    devices, viewers = ward.devices[:streams], ward.viewers[: streams * VIEWERS]
    _spin(ward.poller, devices, SETTLE_S)
    ward.poller.drain()
    for viewer in viewers:
        viewer.delays_ms.clear()
    overflowed = overflowed_datagrams()
    sent, failed = sum(d.sent for d in devices), sum(d.failed for d in devices)
    received, cpu_s = sum(v.received for v in viewers), ward.relay.cpu_s()
    late_ms, idle_share, elapsed_s = _spin(ward.poller, devices, window_s)
    ward.poller.drain()
    spent_s = ward.relay.cpu_s() - cpu_s
    copies = sum(v.received for v in viewers) - received
    delays_ms = [delay for viewer in viewers for delay in viewer.delays_ms] or [float("inf")]
    return Point(
        streams=streams,
        p50_ms=percentile(delays_ms, 50),
        p99_ms=percentile(delays_ms, 99),
        delivered=copies / max(1, (sum(d.sent for d in devices) - sent) * VIEWERS),
        core_share=spent_s / elapsed_s,
        cpu_us_per_copy=spent_s * 1e6 / max(1, copies),
        late_p99_ms=percentile(late_ms or [0.0], 99),
        idle_share=idle_share,
        overflowed=overflowed_datagrams() - overflowed,
        failed=sum(d.failed for d in devices) - failed,
    )


def _spin(poller: Poller, devices: list[Device], duration_s: float) -> tuple[list[float], float, float]:
    """Each device sends at its phase; ``(how late each was, share of time with nothing to do, seconds)``."""
    clock = time.monotonic
    interval_s = 1 / MESSAGES_PER_S
    order = sorted(devices, key=lambda device: device.phase_s)
    late_ms: list[float] = []
    began = before = clock()
    idle_s, busy, turn = 0.0, True, 0
    while (now := clock()) < began + duration_s:
        if not busy:
            idle_s += now - before
        before, busy = now, False
        round_number, position = divmod(turn, len(order))
        due = began + round_number * interval_s + order[position].phase_s
        if now >= due:
            late_ms.append((now - due) * 1000)
            order[position].send()
            turn += 1
            busy = True
        if poller.serve():
            busy = True
        poller.do_chores(now)
    elapsed_s = clock() - began
    return late_ms, idle_s / elapsed_s, elapsed_s


@dataclass(frozen=True, slots=True)
class Found:
    """What the search ended with."""

    best: Point
    worse: Point | None
    """First point beyond the limit, None when there was none."""
    limit: Literal["relay", "generator", "most", "time"]


async def search(ward: Ward, window_s: float) -> Found | None:
    """The bracket's lower end; None when not even the first point is good."""
    began = time.monotonic()
    best: Point | None = None
    worse: Point | None = None
    streams = FIRST
    while True:
        await ward.grow(streams)
        point = _judged(ward, streams, window_s)
        if not point.valid:
            return Found(best or point, worse, "generator")
        if point.good:
            best = point
        else:
            worse = point
        if best is None:
            return _below(ward, streams, window_s)
        if worse is None and streams >= MOST:
            return Found(best, None, "most")
        if worse is not None and worse.streams <= best.streams * CLOSE:
            return Found(best, worse, "relay")
        if time.monotonic() - began > SEARCH_S:
            return Found(best, worse, "time")
        streams = min(MOST, 2 * best.streams) if worse is None else (best.streams + worse.streams) // 2


def _below(ward: Ward, streams: int, window_s: float) -> Found | None:
    """A slow machine: halve until it is good."""
    worse: Point | None = None
    while streams > 1:
        streams //= 2
        point = _judged(ward, streams, window_s)
        if point.good and point.valid:
            return Found(point, worse, "relay")
        worse = point
    return None


def _judged(ward: Ward, streams: int, window_s: float) -> Point:
    """One point; a second chance where somebody else took the core."""
    point = measure_point(ward, streams, window_s)
    if not (point.valid and point.good):
        second = measure_point(ward, streams, window_s)
        point = min((point, second), key=lambda one: (not one.valid, not one.good, one.p99_ms))
    note(
        f"{streams} streams: p50 {point.p50_ms:.2f} ms, p99 {point.p99_ms:.1f} ms, delivered {point.delivered:.4f}, "
        f"core {point.core_share:.2f}, generator idle {point.idle_share:.2f}, late {point.late_p99_ms:.2f} ms"
        + ("" if point.valid else " (generator was the bottleneck)")
    )
    return point


@contextlib.asynccontextmanager
async def ward_of(relay: Worker, bind: str) -> AsyncIterator[Ward]:
    """Streams through a worker, none connected yet."""
    poller = Poller()
    ward = Ward(poller, relay, bind)
    try:
        yield ward
    finally:
        await ward.close()
        await poller.close()


async def measure(window_s: float, core: int) -> None:
    """The search, and its figures."""
    async with (
        worker(launch=["taskset", "--cpu-list", str(core)]) as relay,
        ward_of(relay, "127.0.0.1") as ward,
    ):
        path = await relay.path()
        await ward.grow(COMPARED)
        ours = _judged(ward, COMPARED, window_s)
        found = await search(ward, window_s)
    await compare(ours, window_s, core)
    if found is None:
        note("ecg_relay: not one stream within the limit")
        return
    best = found.best
    params: dict[str, Scalar] = {
        "viewers": VIEWERS, "leads": 12, "rate_hz": 500, "messages_per_s": MESSAGES_PER_S, "limit_p99_ms": LIMIT_MS,
        "limit": found.limit, "path": path, "worker_cores": 1, "worse_at": found.worse.streams if found.worse else 0,
        "generator_idle": round(best.idle_share, 3), "generator_late_p99_ms": round(best.late_p99_ms, 2),
        "valid": found.limit != "generator" and best.valid,
    }  # fmt: skip
    emit("ecg_relay_streams", best.streams, "count", params)
    emit("ecg_relay_delay_ms_p50", best.p50_ms, "ms", {**params, "streams": best.streams})
    emit("ecg_relay_delay_ms_p99", best.p99_ms, "ms", {**params, "streams": best.streams})
    emit("ecg_relay_core_share", best.core_share, "share", {**params, "streams": best.streams})
    emit("ecg_relay_cpu_us_per_copy_at_most", best.cpu_us_per_copy, "us", {**params, "streams": best.streams})


async def compare(ours: Point, window_s: float, core: int) -> None:
    """The alternative's cost of a copy beside ours, and how many streams either would fill a core with."""
    theirs_us = await ws_hub.cpu_us_per_copy(
        encode_all(record_500(), redundant=True), streams=ours.streams, viewers=VIEWERS, per_s=MESSAGES_PER_S,
        seconds=window_s, launch=["taskset", "--cpu-list", str(core)],
    )  # fmt: skip
    params: dict[str, Scalar] = {
        "streams": ours.streams, "viewers": VIEWERS, "messages_per_s": MESSAGES_PER_S, "valid": ours.valid,
    }  # fmt: skip
    name = "aiohttp_websocket_tls"
    emit("ecg_relay_cpu_us_per_copy", ours.cpu_us_per_copy, "us", params, {name: theirs_us})
    per_stream = VIEWERS * MESSAGES_PER_S / 1e6
    fill = {one: 1 / (us * per_stream) for one, us in (("ours", ours.cpu_us_per_copy), (name, theirs_us))}
    emit("ecg_relay_streams_that_fill_a_core", fill.pop("ours"), "count", params, fill)


def run(options: Options | None = None, window_s: float = WINDOW_S) -> None:
    """The figures."""
    with own_core((options or Options()).nice) as core:
        asyncio.run(measure(window_s, core))


if __name__ == "__main__":
    run()
