"""The 12-lead record that the simulated monitor plays: the sample in pydicom's own data.

Ten seconds of all leads at 1000 Hz, int16 steps of 1.25 uV, taken by a real
electrocardiograph and published with pydicom for testing. Its other group, a
median beat, is derived and is not played. Nothing is resampled or filtered [W10].
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Wire order (WAVEFORM.md section 4)."""

_SCPECG_LEADS = {
    "5.6.3-9-1": "I", "5.6.3-9-2": "II", "5.6.3-9-61": "III", "5.6.3-9-62": "aVR", "5.6.3-9-63": "aVL",
    "5.6.3-9-64": "aVF", "5.6.3-9-3": "V1", "5.6.3-9-4": "V2", "5.6.3-9-5": "V3", "5.6.3-9-6": "V4",
    "5.6.3-9-7": "V5", "5.6.3-9-8": "V6",
}  # fmt: skip
"""DICOM CID 3001 as this record codes it."""


class RecordingError(Exception):
    """The record is not what the monitor can play."""


@dataclass(frozen=True)
class Recording:
    """A rhythm strip in wire order."""

    samples: NDArray[np.int16]
    """Raw steps, shape (12, n)."""
    sample_rate_mhz: int
    """Samples per second and lead, times 1000."""
    lsb_nv: int
    filter: str
    """Bandwidth as the record states it [W29]; empty when it does not."""
    device: str


def sample_record() -> Recording:
    """The record that ships with pydicom.

    Raises:
        RecordingError: pydicom lacks it.
    """
    found = get_testdata_file("waveform_ecg.dcm", download=False)
    if found is None:
        raise RecordingError("pydicom has no waveform_ecg.dcm")
    return read(Path(str(found)))


def read(path: Path) -> Recording:
    """The rhythm group of a DICOM 12-lead ECG.

    Raises:
        RecordingError: no rhythm group, leads missing, other scaling per lead, or not int16.
    """
    dataset = pydicom.dcmread(path)
    group = next((g for g in dataset.get("WaveformSequence", ()) if g.get("MultiplexGroupLabel") == "RHYTHM"), None)
    if group is None or group.WaveformBitsAllocated != 16 or group.WaveformSampleInterpretation != "SS":
        raise RecordingError("no rhythm group of 16-bit samples")
    channels = list(group.ChannelDefinitionSequence)
    rows = {_lead(channel): number for number, channel in enumerate(channels)}
    if any(lead not in rows for lead in LEADS):
        raise RecordingError("not a 12-lead record")
    interleaved = np.frombuffer(group.WaveformData, "<i2").reshape(-1, len(channels))
    samples = np.ascontiguousarray(interleaved.T[[rows[lead] for lead in LEADS]].astype(np.int16))
    return Recording(
        samples=samples,
        sample_rate_mhz=round(float(group.SamplingFrequency) * 1000),
        lsb_nv=_step_nv(channels),
        filter=_filter(channels[0]),
        device=f"{dataset.get('ManufacturerModelName', '')} (pydicom sample record)".strip(),
    )


def _lead(channel: Any) -> str:
    return _SCPECG_LEADS.get(str(channel.ChannelSourceSequence[0].CodeValue), "")


def _step_nv(channels: list[Any]) -> int:
    steps = {
        (
            float(c.ChannelSensitivity) * float(c.get("ChannelSensitivityCorrectionFactor", 1)),
            float(c.get("ChannelBaseline", 0)),
            str(c.ChannelSensitivityUnitsSequence[0].CodeValue),
        )
        for c in channels
    }
    if len(steps) != 1:
        raise RecordingError("leads are scaled differently")
    step_uv, baseline, unit = steps.pop()
    if unit != "uV" or baseline != 0:
        raise RecordingError("not in microvolts around zero")
    return round(step_uv * 1000)


def _filter(channel: Any) -> str:
    low, high = channel.get("FilterLowFrequency"), channel.get("FilterHighFrequency")
    if low is None or high is None:
        return ""
    notch = float(channel.get("NotchFilterFrequency") or 0)
    return f"{float(low):g}-{float(high):g} Hz, " + (f"notch {notch:g} Hz" if notch else "no notch")
