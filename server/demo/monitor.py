"""The simulated bedside monitor: a process that plays the sample ECG as a live device.

It is the bedside program with a record as its device. Its stream is marked
simulated and bound to the test patient [W9, W20]; it sends only while bound, and at its
simulated bedside it binds itself, with the two identifiers of the sample
patient's wristband, whenever that patient is opened [W20, W21]. Vital signs beside
the ECG are simulated for the record's heart rate.
"""

import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from media.sources import LiveFormat, LiveItem
from media.sources.model import VITAL_UNITS
from media.sources.playback import PlayedRecording
from media.sources.simulator import DEVICE, Heart, Rhythm, VitalSigns
from server.bedside.client import Assignment
from server.bedside.program import streams_of
from server.bedside.station import Station
from server.demo import child, patients
from server.demo.recording import SAMPLE_BPM, sample_recording
from server.record.core.banner import banner_of
from signaling.core.errors import ErrorCode
from signaling.core.ids import PatientId
from signaling.core.model import Context, Mismatch, UnboundReason

PATIENT = PatientId(patients.ECG_PATIENT)
NIBP_EVERY_S = 120.0


class SampleMonitor:
    """The sample record with simulated vital signs, as a `LiveSource`."""

    def __init__(self) -> None:
        self._player = PlayedRecording(sample_recording())
        heart = Heart(Rhythm.SINUS, rate_bpm=SAMPLE_BPM, seed=20)
        self._vitals = VitalSigns(heart, frozenset(VITAL_UNITS), NIBP_EVERY_S)
        self._start_us = time.monotonic_ns() // 1000

    async def open(self) -> tuple[LiveFormat, ...]:
        """See `LiveSource`."""
        made = self._player.format
        return (replace(made, device=f"{DEVICE}: {made.device}", reports_vitals=True),)

    async def items(self) -> AsyncIterator[tuple[int, LiveItem]]:
        """See `LiveSource`."""
        async for number, item in self._player.items():
            yield number, item
            for vital in self._vitals.until((time.monotonic_ns() // 1000 - self._start_us) / 1e6):
                yield 0, replace(vital, at_us=vital.at_us + self._start_us)

    async def close(self) -> None:
        """See `LiveSource`."""
        await self._player.close()


class SampleBed:
    """The simulated patient's bed: whoever stands there reads the wristband whenever asked."""

    async def identifiers(self, context: Context) -> tuple[str, str] | None:
        """See `Bedside`."""
        return wristband() if context.patient.id == PATIENT else None

    def refused(self, code: ErrorCode) -> bool:
        """See `Bedside`."""
        return False

    def unbound(self, reason: UnboundReason | None, mismatch: Mismatch | None) -> bool:
        """See `Bedside`."""
        return False


def wristband() -> tuple[str, str]:
    """The two identifiers at the simulated patient's wrist: of the sample record, not of what the consult shows."""
    person = patients.bundle(patients.STORIES[0], patients.today())[0]
    first, second = banner_of(person, test=True).identifiers
    return first.value, second.value


async def work(assignment: Assignment) -> None:
    """Play the record until cancelled or the consult is ended."""
    source = SampleMonitor()
    streams = await streams_of(source)
    await Station(source, streams, SampleBed(), lambda _sentence: None).run(assignment)


if __name__ == "__main__":
    sys.exit(child.main(work))
