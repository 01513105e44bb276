"""The hub's own part of many live waveforms, alone in a process: archive, ring and heart rates, as the server has them.

What is measured runs here, so this module alone of the load tests imports the server. It opens as many consults with
one stream each as it is told, asks for their taps on standard output as it would ask a media worker, and then says on
standard output how it fared: how late its event loop woke up, what CPU time it took, how many frames it has.
Lines of JSON, in and out; `archive` is the other end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from load_tests.rig.ecg_records import LEADS
from load_tests.rig.figures import percentile
from media.core.control import JsonObject, Request, TapData
from server.app import check_schema
from server.clock import server_clock, server_clock_us
from server.storage.database import Database
from server.storage.seeding import add_consult, add_hospital, add_room, put_fhir_resource
from server.waveforms.blobs import FolderBlobs
from server.waveforms.desk import WaveformDesk
from server.waveforms.heart import Hearts
from server.waveforms.ring import MemoryRing
from server.waveforms.tap import Tapped
from signaling.core.ids import PatientId
from signaling.core.messages import HeartRate
from signaling.core.model import WaveformStream

EVERY_S = 0.01
"""How often the loop is asked how late it is."""
PATIENT = {
    "resourceType": "Patient", "id": "p", "name": [{"text": "P"}], "gender": "female", "birthDate": "1948-03-09",
    "identifier": [{"type": {"text": "MRN"}, "value": "1"}, {"type": {"text": "ID"}, "value": "2"}],
    "meta": {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]},
}  # fmt: skip


def say(message: dict[str, Any]) -> None:
    """One line to the other end."""
    print(json.dumps(message), flush=True)


@dataclass
class Look:
    """One window."""

    lag_ms: list[float] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    """Heart rates that went out: with a number, or unsure, which is shown as "?"."""


class Bench:
    """The desk and what is seen of it."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder / 'hub.db'}")
        self.desk = WaveformDesk(self.database, FolderBlobs(folder / "waves"), MemoryRing(), server_clock())
        self.look = Look()
        self.hearts = Hearts(self.desk, self._rate, server_clock_us())

    async def open(self, streams: int) -> None:
        """Consults, archives and taps of so many streams."""
        await check_schema(self.database)
        async with self.database.write() as session:
            await add_hospital(session, id="h", name="H", name_latin="H", hub=True)
            await add_room(session, id="r", hospital="h", name="R")
            await put_fhir_resource(session, PATIENT, at_ms=1)
            for number in range(streams):
                await add_consult(
                    session, id=f"c{number}", title="T", room="r", station=None, partner="h", starts_at_ms=1,
                    people={}, devices={}, patients=["p"],
                )  # fmt: skip
        await self.desk.start()
        for number in range(streams):
            stream = WaveformStream(
                stream_id=number + 1, leads=LEADS, sample_rate_mhz=500_000, lsb_nv=2500, device="d", simulated=True,
                patient=PatientId("p"),
            )  # fmt: skip
            await self.desk.announce(f"c{number}", 0, self._call, stream)
            self.desk.begun(f"c{number}", number + 1, "ecg")

    async def close(self) -> None:
        """End all."""
        await self.hearts.stop()
        await self.desk.stop()
        await self.database.close()

    async def _call(self, request: Request) -> JsonObject:
        """As the worker's control connection; returns when the tap is there."""
        assert isinstance(request, TapData)
        say({"tap": request.router, "path": request.path, "key": request.key})
        while self.desk.taps.connection(Tapped(request.router, 0)) is None:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.002)
        return {}

    def _rate(self, _consult: str, rate: HeartRate) -> None:
        self.look.told["unsure" if rate.bpm is None or rate.unsure else "sure"] += 1

    async def window(self, seconds: float) -> None:
        """Look so long, and say what was seen."""
        self.look = look = Look()
        cpu_s, heart_s, ticks = time.process_time(), self.hearts.cpu_s, self.hearts.ticks
        frames, began = self._frames(), time.monotonic()
        due = began
        while due < began + seconds:
            due = max(due + EVERY_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            look.lag_ms.append((time.monotonic() - due) * 1000)
        passed_s = time.monotonic() - began
        say(
            {
                "lag_ms_p50": percentile(look.lag_ms, 50),
                "lag_ms_p99": percentile(look.lag_ms, 99),
                "lag_ms_max": max(look.lag_ms),
                "core_share": (time.process_time() - cpu_s) / passed_s,
                "heart_core_share": (self.hearts.cpu_s - heart_s) / passed_s,
                "heart_ticks": self.hearts.ticks - ticks,
                "frames": self._frames() - frames,
                "sure": look.told["sure"],
                "unsure": look.told["unsure"],
                "seconds": passed_s,
            }
        )

    def _frames(self) -> int:
        return sum(one.open.state.frames for one in self.desk.all_streams)


async def _main(folder: Path, streams: int) -> None:
    bench = Bench(folder)
    await bench.open(streams)
    say({"ready": streams})
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            if order.get("hearts"):
                bench.hearts.start()
            if "window_s" in order:
                await bench.window(order["window_s"])
    finally:
        await bench.close()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
