"""Does relaying a live ECG delay media?

Fifty viewers receive video and audio (`bench.relay`); in every second round they also receive one 12-lead
ECG (10 messages a second of about 800 bytes, each to all) and ask ``ctl`` for the time once a second. Rounds
alternate in one run over the same legs, so that what else the machine does meets both alike, and medians of
the rounds are compared. Aim: media p99 within 10 % of the rounds without waveforms.

The waveform's own delay is from just before the source's send to the viewer's handler, in one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import msgpack
import numpy as np

from load_tests.bench.options import own_core
from load_tests.rig.contenders import Session, session
from load_tests.rig.drive import Arrival, Load, send_meanwhile
from load_tests.rig.figures import emit, median, note, percentile
from load_tests.rig.poller import Poller
from load_tests.rig.raw_sctp import RawSctp
from load_tests.rig.worker_process import Worker, worker
from media.core import control
from media.core.waveform import FrameWriter, StreamFormat

ROUTER = "bench"
VIEWERS = 50
MESSAGES_PER_S = 10
SAMPLES_PER_FRAME = 50
ROUNDS = 6
"""Of each kind."""
ROUND_S = 5.0
PPS_IN = 250
UNRELIABLE = {"streamId": 0, "ordered": False, "maxRetransmits": 0}
RELIABLE = {"streamId": 1, "ordered": True}
OPEN_TIMEOUT_S = 20.0
CONTEXT_VERSION = 1
JITTER_S = 0.04


class Monitor:
    """The ECG source and all viewers' ends of the waveform channels."""

    def __init__(self) -> None:
        self.source: RawSctp | None = None
        self.asking: list[RawSctp] = []
        self.hearing: list[RawSctp] = []
        self.sent = self.received = self.pongs = 0
        self.message_bytes = 0
        self.latencies_ms: list[float] = []
        self._sent_at: dict[bytes, int] = {}
        shape = StreamFormat(stream_id=1, leads=12, sample_rate_mhz=500_000, lsb_nv=1000, simulated=True)
        self._writer = FrameWriter(shape)
        self._noise = np.random.default_rng(1)

    def heard(self, stream_id: int, message: bytes) -> None:
        """A viewer got a message of the relay."""
        if stream_id == 0:
            self.received += 1
            self.latencies_ms.append((time.monotonic_ns() - self._sent_at[message]) / 1e6)
        else:
            self.pongs += 1

    async def run(self) -> None:
        """Send until cancelled."""
        assert self.source is not None
        loop = asyncio.get_running_loop()
        due, tick = loop.time(), 0
        while True:
            samples = self._noise.normal(0, 5, (12, SAMPLES_PER_FRAME)).astype(np.int16)
            message = self._writer.write(samples, t0_us=time.time_ns() // 1000, context_version=CONTEXT_VERSION)
            self.message_bytes = len(message)
            self._sent_at = {message: time.monotonic_ns(), **dict(list(self._sent_at.items())[:20])}
            await self.source.send(0, message, ordered=False)
            self.sent += 1
            for asker in self.asking[tick % MESSAGES_PER_S :: MESSAGES_PER_S]:
                await asker.send(1, msgpack.packb({"t": "ping", "c": tick}), ordered=True)
            tick += 1
            due += 1 / MESSAGES_PER_S
            # Without jitter one round would meet the same moment between two video frames again and again.
            await asyncio.sleep(max(0.0, due + self._noise.uniform(0, JITTER_S) - loop.time()))


@contextlib.asynccontextmanager
async def waveform(relay: Worker, legs: Session) -> AsyncIterator[Monitor]:
    """One ECG source, its copies and a control channel to every viewer, all open."""
    monitor = Monitor()

    async def sender(name: str, owner: str) -> RawSctp:
        return RawSctp(await legs.transport(name, "send", owner), lambda _stream, _message: None)

    monitor.source = await sender("monitor", "monitor")
    await relay.call(
        control.ProduceData(
            transport="monitor",
            data_producer="ecg",
            label="ecg",
            protocol="",
            sctp_stream_parameters=UNRELIABLE,
            waveform=control.WaveformSource(stream_id=1, simulated=True),
        )
    )
    for index, viewer in enumerate(legs.viewers):
        name = f"{ROUTER}-sub{index}"
        monitor.hearing.append(RawSctp(viewer.peer, monitor.heard))
        monitor.asking.append(await sender(f"ask{index}", name))
        await relay.call(
            control.ProduceData(
                transport=f"ask{index}",
                data_producer=f"ctl{index}",
                label="ctl",
                protocol="",
                sctp_stream_parameters=RELIABLE,
            )
        )
        for consumer, producer in ((f"{name}ecg", "ecg"), (f"{name}ctl", "ctl")):
            await relay.call(control.ConsumeData(transport=name, data_consumer=consumer, data_producer=producer))
            await relay.call(control.ResumeDataConsumer(data_consumer=consumer))
    async with asyncio.timeout(OPEN_TIMEOUT_S):
        for end in (monitor.source, *monitor.asking, *monitor.hearing):
            await end.established.wait()
    yield monitor


async def measure(arrival: Arrival, rounds: int, round_s: float, core: int) -> None:
    """One run of interleaved rounds; prints its figures."""
    p99_ms: dict[bool, list[float]] = {False: [], True: []}
    p50_ms: dict[bool, list[float]] = {False: [], True: []}
    share: dict[bool, list[float]] = {False: [], True: []}
    lags_ms: list[float] = []
    poller = Poller()
    load = Load(arrival, PPS_IN)
    try:
        async with (
            worker(launch=["taskset", "--cpu-list", str(core)]) as relay,
            session(poller, relay, "127.0.0.1", VIEWERS, ROUTER) as legs,
            waveform(relay, legs) as monitor,
        ):
            await send_meanwhile(legs.publisher, load, 2.0)
            for number in range(2 * rounds):
                with_waveform = number % 2 == 1
                for viewer in legs.viewers:
                    viewer.latencies_ms.clear()
                sending = asyncio.create_task(monitor.run()) if with_waveform else None
                cpu_before, began = relay.cpu_s(), time.monotonic()
                lags_ms += await send_meanwhile(legs.publisher, load, round_s)
                share[with_waveform].append((relay.cpu_s() - cpu_before) / (time.monotonic() - began))
                if sending is not None:
                    sending.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await sending
                latencies_ms = [latency for viewer in legs.viewers for latency in viewer.latencies_ms]
                p99_ms[with_waveform].append(percentile(latencies_ms, 99))
                p50_ms[with_waveform].append(percentile(latencies_ms, 50))
            _report(arrival, monitor, p50_ms, p99_ms, share, lags_ms)
    finally:
        await poller.close()


def _report(
    arrival: Arrival,
    monitor: Monitor,
    p50_ms: dict[bool, list[float]],
    p99_ms: dict[bool, list[float]],
    share: dict[bool, list[float]],
    lags_ms: list[float],
) -> None:
    params = {
        "viewers": VIEWERS,
        "arrival": arrival,
        "rounds": len(p99_ms[True]),
        "messages_per_s": MESSAGES_PER_S,
        "message_bytes": monitor.message_bytes,
        "waveform_lost": monitor.sent * VIEWERS - monitor.received,
        "pongs": monitor.pongs,
        "generator_lag_p99_ms": round(percentile(lags_ms, 99), 2),
    }
    for name, values, unit in (
        ("data_media_latency_ms_p50", p50_ms, "ms"),
        ("data_media_latency_ms_p99", p99_ms, "ms"),
        ("data_worker_core_share", share, "share"),
    ):
        emit(name, median(values[True]), unit, params, {"without_waveform": median(values[False])})
    emit("data_waveform_latency_ms_p50", percentile(monitor.latencies_ms, 50), "ms", params)
    emit("data_waveform_latency_ms_p99", percentile(monitor.latencies_ms, 99), "ms", params)


def run(rounds: int = ROUNDS, round_s: float = ROUND_S) -> None:
    """The figures for both arrivals of media."""
    arrivals: tuple[Arrival, ...] = ("paced", "bursts")
    for arrival in arrivals:
        note(f"data: {VIEWERS} viewers with and without a waveform, {arrival}")
        with own_core(0) as core:
            asyncio.run(measure(arrival, rounds, round_s, core))


if __name__ == "__main__":
    run()
