"""A real 12-lead record that everybody has: the sample in pydicom's own data.

Ten seconds of all leads at 1000 Hz, int16 steps of 1.25 uV, taken by a real
electrocardiograph and published with pydicom for testing. Its other group, a
median beat, is derived and is not played. Nothing is resampled or filtered [W10].
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydicom.data import get_testdata_file

from media.sources import Patient, Recording, Strip, read_path


def sample_recording() -> Recording:
    """The record, without the identity in it."""
    found = get_testdata_file("waveform_ecg.dcm", download=False)
    assert found is not None, "pydicom came without its sample"
    return replace(read_path(Path(str(found))), patient=Patient())


def sample_record() -> Strip:
    """Its rhythm strip."""
    return sample_recording().strips[0]
