"""The simulated bedside monitor: a process that sends the ECG of a simulated heart as a live device.

It is the bedside program with the simulator as its device. Its stream is marked
simulated and bound to the test patient [W9, W20]; it sends only while bound, and at its
simulated bedside it binds itself, with the two identifiers of the sample
patient's wristband, whenever that patient is opened [W20, W21]. A heart goes on as long as
anybody looks, where a record that is played has a seam each time it ends [W5].
"""

import sys

from media.sources import LiveSource
from media.sources.simulator import Rhythm, Settings, SimulatedMonitor
from server.bedside.client import Assignment
from server.bedside.program import streams_of
from server.bedside.station import Station
from server.demo import child, patients
from server.record.core.banner import banner_of
from signaling.core.errors import ErrorCode
from signaling.core.ids import PatientId
from signaling.core.model import Context, Mismatch, UnboundReason

PATIENT = PatientId(patients.ECG_PATIENT)
NIBP_EVERY_S = 120.0


def sample_monitor() -> LiveSource:
    """The device at the sample bed: twelve leads in sinus rhythm, and vital signs."""
    return SimulatedMonitor(Settings(rhythm=Rhythm.SINUS, seed=20, nibp_every_s=NIBP_EVERY_S))


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
    """Send until cancelled or the consult is ended."""
    source = sample_monitor()
    streams = await streams_of(source)
    await Station(source, streams, SampleBed(), lambda _sentence: None).run(assignment)


if __name__ == "__main__":
    sys.exit(child.main(work))
