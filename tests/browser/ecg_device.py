"""The demo's simulated monitor with a record and faults that a test chose: run as a child of `ecg_demo`.

Everything is the product's own (joining, binding, clock, framing) but three things: which record is played, what a
message meets on its way into the channel, and whether a lead has contact. The folder in ``TEST_ECG_FOLDER``
holds the orders (`Orders` as JSON, read before each message) and a log of every frame as the device made it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = "TEST_ECG_FOLDER"
ORDERS, FRAMES, RECORD = "orders.json", "frames.bin", "record"


@dataclass(frozen=True)
class Orders:
    """What happens to messages from now on.

    Attributes:
        lose: share that never leaves.
        double: each that leaves does so twice.
        swap: every second one leaves after the next.
        lead_off: mask of leads without contact.
        life: another number than before, and the device falls dead.
    """

    lose: float = 0.0
    double: bool = False
    swap: bool = False
    lead_off: int = 0
    life: int = 0

    def write(self, folder: Path) -> None:
        """From the test; the device sees all of it or nothing."""
        text = folder / (ORDERS + ".new")
        text.write_text(json.dumps(dataclasses.asdict(self)))
        text.rename(folder / ORDERS)


def read_log(folder: Path) -> list[bytes]:
    """Every frame so far, in order."""
    data = (folder / FRAMES).read_bytes() if (folder / FRAMES).exists() else b""
    frames, at = [], 0
    while at + 4 <= len(data) and at + 4 + (size := struct.unpack_from("<I", data, at)[0]) <= len(data):
        frames.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return frames


class Fate:
    """Stands where messages leave."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._random = random.Random(42)
        self._log = (folder / FRAMES).open("ab", buffering=0)
        self._held: bytes | None = None
        self._life = self.orders().life

    def orders(self) -> Orders:
        path = self._folder / ORDERS
        return Orders(**json.loads(path.read_text())) if path.exists() else Orders()

    def made(self, frame: bytes) -> None:
        """One write: the device may die in the middle of anything else."""
        self._log.write(struct.pack("<I", len(frame)) + frame)

    def leaving(self, message: bytes) -> list[bytes]:
        """What leaves instead."""
        orders = self.orders()
        if orders.life != self._life:
            os._exit(1)
        if self._random.random() < orders.lose:
            return []
        if orders.swap and self._held is None:
            self._held = message
            return []
        out = [message] if self._held is None else [message, self._held]
        self._held = None
        return [one for one in out for _ in range(1 + orders.double)]


def record_monitor(recording: Any) -> Any:
    """A recording with simulated vital signs beside it, over and over, as a `LiveSource`."""
    from media.sources.model import VITAL_UNITS
    from media.sources.playback import PlayedRecording
    from media.sources.simulator import Heart, Rhythm, VitalSigns
    from media.sources.simulator.monitor import DEVICE

    class RecordMonitor(PlayedRecording):
        async def open(self) -> Any:
            (made,) = await super().open()
            return (dataclasses.replace(made, device=f"{DEVICE}: {made.device}", reports_vitals=True),)

        async def items(self) -> Any:
            vitals = VitalSigns(Heart(Rhythm.SINUS, rate_bpm=61.0, seed=20), frozenset(VITAL_UNITS), 120.0)
            start_us = time.monotonic_ns() // 1000
            async for number, item in super().items():
                yield number, item
                for vital in vitals.until((time.monotonic_ns() // 1000 - start_us) / 1e6):
                    yield 0, dataclasses.replace(vital, at_us=vital.at_us + start_us)

    return RecordMonitor(recording)


def install(fate: Fate) -> None:
    """Put the record and the faults in place."""
    from media.core.waveform import FrameWriter, split_message
    from media.sources import Patient, read_path
    from server.bedside import client
    from server.demo import monitor
    from tests.pydicom_record import sample_recording

    path = Path(os.environ[FOLDER], RECORD).read_text()
    found = dataclasses.replace(read_path(Path(path)), patient=Patient()) if path else sample_recording()
    monitor.sample_monitor = lambda: record_monitor(found)
    write, send = FrameWriter.write, client.DataOut.send

    def written(self: FrameWriter, *arguments: Any, **options: Any) -> bytes:
        options["lead_off_mask"] = options.get("lead_off_mask", 0) | fate.orders().lead_off
        message = write(self, *arguments, **options)
        fate.made(split_message(message)[0].encoded)
        return message

    def sent(self: client.DataOut, message: bytes, **options: Any) -> bool:
        if message[:2] != b"EC":
            return send(self, message, **options)
        results = [send(self, one, **options) for one in fate.leaving(message)]
        return all(results)

    FrameWriter.write = written  # type: ignore[method-assign]
    client.DataOut.send = sent  # type: ignore[method-assign]


if __name__ == "__main__":
    from server.demo import child, monitor

    install(Fate(Path(os.environ[FOLDER])))
    sys.exit(child.main(monitor.work))
