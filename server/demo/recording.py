"""The 12-lead record that the simulated monitor plays: the sample in pydicom's own data.

Ten seconds of all leads at 1000 Hz, int16 steps of 1.25 uV, taken by a real
electrocardiograph and published with pydicom for testing. Its other group, a
median beat, is derived and is not played. Nothing is resampled or filtered [W10].
"""

from dataclasses import replace
from pathlib import Path

from pydicom.data import get_testdata_file

from media.sources import Patient, Recording, Strip, read_path

SAMPLE_BPM = 61.0
"""Of the record, for the vital signs beside it."""


class RecordingError(Exception):
    """pydicom came without its sample."""


def sample_recording() -> Recording:
    """The record that ships with pydicom, without the identity in it.

    Raises:
        RecordingError: pydicom lacks it.
    """
    found = get_testdata_file("waveform_ecg.dcm", download=False)
    if found is None:
        raise RecordingError("pydicom has no waveform_ecg.dcm")
    return replace(read_path(Path(str(found))), patient=Patient())


def sample_record() -> Strip:
    """Its rhythm strip."""
    return sample_recording().strips[0]
