"""What a hundred live ECGs cost the hub: archive, ring and heart rates of all of them in one process.

Every stream is a consult of its own; its frames come over a tap as from a media worker, ten a second, of a real record,
at phases spread over the tenth of a second. The process under test is `desk_process`, on a core of its own.

Its event loop must stay quick, because signalling runs on it: it is asked every 10 ms how late it is. Heart rates are
computed by a process beside it, which sheds streams where its core does not keep up; those are told that they have
no rate, which the screens show as "?". How many are is a figure; it needs a second core to itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load_tests.bench.ecg.rig import OTHERS_SHARE
from load_tests.browsers.page import Machine
from load_tests.rig.ecg_records import encode_all, record_500
from load_tests.rig.figures import Scalar, emit, note
from media.core.tap import TapKind, build_record

STREAMS = (10, 100)
PER_S = 10
SETTLE_S = 4.0
HEART_SETTLE_S = 12.0
"""Until its windows are full."""
WINDOW_S = 10.0
ANSWER_S = 120.0
KEPT_UP = 0.98
CRC_AT, HEADER_BYTES = 48, 52
RESTART = 128


@dataclass
class Tap:
    """A worker's end of one Router's tap."""

    stream_id: int
    writer: asyncio.StreamWriter
    phase_s: float
    sent: int = 0

    def send(self, frame: bytes) -> None:
        """The next frame, as of now."""
        head = bytearray(frame[:CRC_AT])
        head[3] &= ~RESTART
        struct.pack_into("<II", head, 4, self.stream_id, self.sent + 1)
        struct.pack_into("<qQ", head, 16, time.time_ns() // 1000 * 1000, self.sent * 50)
        crc = zlib.crc32(frame[HEADER_BYTES:], zlib.crc32(head))
        self.sent += 1
        self.writer.write(build_record(TapKind.FRAME, bytes(head) + struct.pack("<I", crc) + frame[HEADER_BYTES:]))


class Hub:
    """The process under test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.taps: list[Tap] = []

    async def line(self) -> dict[str, Any]:
        """The next of its lines."""
        assert self.process.stdout is not None
        async with asyncio.timeout(ANSWER_S):
            line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError("the hub's process ended")
        told: dict[str, Any] = json.loads(line)
        return told

    def order(self, **what: Any) -> None:
        """Tell it something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")

    async def open_taps(self) -> None:
        """Connect wherever it asks, until it is ready."""
        while "ready" not in (told := await self.line()):
            number = len(self.taps)
            _reader, writer = await asyncio.open_unix_connection(told["path"])
            writer.write(bytes.fromhex(told["key"]))
            self.taps.append(Tap(number + 1, writer, number * 0.6180339887 % 1.0 / PER_S))

    async def play(self) -> None:
        """Ten frames a second on every tap, until cancelled."""
        frames = encode_all(record_500(), redundant=False)
        order = sorted(self.taps, key=lambda tap: tap.phase_s)
        began, turn = time.monotonic(), 0
        while True:
            number, position = divmod(turn, len(order))
            await asyncio.sleep(max(0.0, began + number / PER_S + order[position].phase_s - time.monotonic()))
            order[position].send(frames[number % len(frames)])
            turn += 1


@contextlib.asynccontextmanager
async def hub(streams: int) -> AsyncIterator[Hub]:
    """So many streams that flow."""
    with tempfile.TemporaryDirectory(prefix="consilium-bench-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "load_tests.bench.ecg.desk_process", str(Path(folder)), str(streams)]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=os.environ
        )
        made = Hub(process)
        playing: asyncio.Task[None] | None = None
        try:
            await made.open_taps()
            playing = asyncio.create_task(made.play())
            yield made
        finally:
            if playing is not None:
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
            for tap in made.taps:
                tap.writer.close()
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                await process.wait()


async def measure(streams: int) -> None:
    """Without heart rates, then with them."""
    async with hub(streams) as made:
        for hearts in (False, True):
            if hearts:
                made.order(hearts=True)
            await asyncio.sleep(HEART_SETTLE_S if hearts else SETTLE_S)
            machine, sent = Machine(), sum(tap.sent for tap in made.taps)
            machine.others_share()
            made.order(window_s=WINDOW_S)
            told = await made.line()
            others = machine.others_share()
            report(streams, hearts, told, sum(tap.sent for tap in made.taps) - sent, others)


def report(streams: int, hearts: bool, told: dict[str, Any], sent: int, others_share: float) -> None:
    """The figures of one window."""
    params: dict[str, Scalar] = {
        "streams": streams, "leads": 12, "rate_hz": 500, "heart_rates": hearts, "frames": told["frames"],
        "kept_up": told["frames"] >= KEPT_UP * sent, "core_share": round(told["core_share"], 3),
        "others_share": round(others_share, 3), "valid": others_share <= OTHERS_SHARE,
    }  # fmt: skip
    emit("ecg_hub_loop_lag_ms_p99", told["lag_ms_p99"], "ms", {**params, "p50": told["lag_ms_p50"]})
    emit("ecg_hub_loop_lag_ms_max", told["lag_ms_max"], "ms", params)
    emit("ecg_hub_core_share_per_stream", told["core_share"] / streams, "share", params)
    if hearts:
        asked = max(1, told["sure"] + told["unsure"])
        due = told["seconds"] * streams
        heart: dict[str, Scalar] = {**params, "heart_core_share": round(told["heart_core_share"], 3)}
        emit("ecg_heart_rates_told_unsure", told["unsure"] / asked, "share", heart)
        emit("ecg_heart_rates_on_time", min(1.0, told["sure"] / due), "share", heart)


def run() -> None:
    """The figures."""
    for streams in STREAMS:
        note(f"ecg_archive: {streams} streams")
        asyncio.run(measure(streams))


if __name__ == "__main__":
    run()
