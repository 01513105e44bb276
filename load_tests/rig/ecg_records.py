"""The waveforms that ECG figures are measured with, and their blocks as sources cut them.

The real record is the one that pydicom ships: ten seconds of twelve leads at 1000 Hz, 1.25 uV a step. Every second
sample of it stands for a 500 Hz device: no filter, so its noise is folded in and the figure is no better than a
device's own. The simulator's signal at 500 Hz is there for comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from media.core.waveform import FrameWriter, StreamFormat, split_message
from media.sources.simulator import Settings, Simulator

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
EPOCH_US = 1_700_000_000_000_000


class NoRecord(Exception):
    """The sample record is not where pydicom keeps it, or is not what it was."""


@dataclass(frozen=True, slots=True)
class Record:
    """Twelve leads in wire order.

    Attributes:
        name: how figures call it.
        samples: raw steps, int16, shape ``(12, n)``.
        lsb_nv: nanovolts per step.
    """

    name: str
    samples: NDArray[np.int16]
    sample_rate_mhz: int
    lsb_nv: int

    def stream(self, stream_id: int = 1) -> StreamFormat:
        """What a source that plays it announces."""
        return StreamFormat(
            stream_id=stream_id,
            leads=len(LEADS),
            sample_rate_mhz=self.sample_rate_mhz,
            lsb_nv=self.lsb_nv,
            simulated=True,
        )

    def blocks(self) -> Iterator[tuple[int, NDArray[np.int16]]]:
        """``(index of the first sample, samples)`` of each whole block."""
        size = self.stream().block_samples
        for first in range(0, self.samples.shape[1] - size + 1, size):
            yield first, np.ascontiguousarray(self.samples[:, first : first + size])


@cache
def sample_record() -> Record:
    """pydicom's 12-lead record as it is, 1000 Hz.

    Raises:
        NoRecord: it is not there.
    """
    found = get_testdata_file("waveform_ecg.dcm", download=False)
    groups = () if found is None else pydicom.dcmread(str(found)).WaveformSequence
    group = next((g for g in groups if g.get("MultiplexGroupLabel") == "RHYTHM"), None)
    if group is None or group.NumberOfWaveformChannels != len(LEADS):
        raise NoRecord("pydicom has no waveform_ecg.dcm with a rhythm group of twelve leads")
    # This record has its channels in wire order already.
    samples = np.frombuffer(group.WaveformData, "<i2").reshape(-1, len(LEADS)).T.astype(np.int16)
    step_uv = float(group.ChannelDefinitionSequence[0].ChannelSensitivity)
    return Record("record_1000", samples, round(float(group.SamplingFrequency) * 1000), round(step_uv * 1000))


def record_500() -> Record:
    """The same for a 500 Hz device.

    Raises:
        NoRecord: it is not there.
    """
    whole = sample_record()
    halved = np.ascontiguousarray(whole.samples[:, ::2])
    return Record("record_500", halved, whole.sample_rate_mhz // 2, whole.lsb_nv)


def simulated_500(seconds: int = 10) -> Record:
    """What the product's simulator sends unless told otherwise: sinus rhythm."""
    simulator = Simulator(Settings())
    made = simulator.format
    samples = simulator.block(made.sample_rate_mhz * seconds // 1000).samples[: len(LEADS)]
    return Record("simulator", np.ascontiguousarray(samples), made.sample_rate_mhz, made.lsb_nv)


def encode_all(record: Record, redundant: bool) -> list[bytes]:
    """The record as messages of a source, with or without the frame before each."""
    writer = FrameWriter(record.stream())
    messages = []
    for first, samples in record.blocks():
        t0_us = EPOCH_US + first * 1_000_000_000 // record.sample_rate_mhz
        message = writer.write(samples, t0_us=t0_us, context_version=1)
        messages.append(message if redundant else split_message(message)[0].encoded)
    return messages
