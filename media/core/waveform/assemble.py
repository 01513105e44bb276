"""The receiving end: samples of one stream in their places, and nothing that was not received.

A ring of one minute of cells. A cell is filled at most once, from one received
sample of one lead; a cell nobody sent anything for stays blank and is never
interpolated (W1, W2). What comes too late for the ring is counted (W4).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.core.waveform.errors import MalformedFrame
from media.core.waveform.frame import Flag, WaveformFrame, split_message
from media.core.waveform.gaps import GapTracker, Placement

RING_S: Final = 60


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a display may paint of one lead: parallel arrays, rising position, valid samples only."""

    position: NDArray[np.int64]
    value: NDArray[np.int16]
    joined: NDArray[np.bool_]
    """Whether a line may lead here from the position before."""


class Assembler:
    """Places the frames of one stream of ``leads`` leads."""

    def __init__(self, leads: int, sample_rate_mhz: int, *, ring_s: int = RING_S) -> None:
        self.tracker = GapTracker(sample_rate_mhz)
        self.capacity = max(1, sample_rate_mhz * ring_s // 1000)
        self.end = 0
        """Position after the newest sample placed."""
        self.late_lost = 0
        self.overlapping = 0
        self.malformed = 0
        self._started = False
        self._values = np.zeros((leads, self.capacity), np.int16)
        self._valid = np.zeros((leads, self.capacity), np.bool_)
        self._seq = np.full(self.capacity, -1, np.int64)
        self._breaks = np.zeros(self.capacity, np.bool_)

    def accept(self, message: bytes) -> list[Placement]:
        """Place what a message brings, the older frame first; bad bytes are counted and change nothing."""
        try:
            frame, previous = split_message(message)
            parts = [part for part in (previous, frame) if part is not None]
            for part in parts:
                self._check(part)
        except MalformedFrame:
            self.malformed += 1
            return []
        placed = [self.place(part) for part in parts]
        return [placement for placement in placed if placement is not None]

    def place(self, frame: WaveformFrame) -> Placement | None:
        """Place one frame; None when it was seen before, is too late or fits nowhere (all counted).

        Raises:
            MalformedFrame: the samples do not decode; nothing was changed.
        """
        self._check(frame)
        placement = self.tracker.offer(frame)
        if placement is None:
            return None
        stop = placement.position + frame.n
        if not self._started:
            self._started, self.end = True, placement.position
        if placement.position < self.end - self.capacity:
            self.late_lost += frame.n
            return None
        self._advance(stop)
        cells = np.arange(placement.position, stop) % self.capacity
        if bool((self._seq[cells] >= 0).any()):
            self.overlapping += 1
            return None
        self._seq[cells] = frame.seq
        self._breaks[cells[0]] = placement.restart or bool(frame.flags & Flag.SESSION_RESTART)
        for row, lead in enumerate(frame.leads):
            self._values[lead, cells] = frame.samples[row]
            self._valid[lead, cells] = frame.valid[row]
        return placement

    def drawn(self, lead: int) -> Drawn:
        """Everything of one lead that may be painted now."""
        position = np.arange(self.end - self.capacity, self.end)
        cells = position % self.capacity
        valid, seq = self._valid[lead, cells], self._seq[cells]
        step = np.diff(seq, prepend=-2)
        # Two cells are neighbours in the signal only if their frames are.
        joined = valid & np.roll(valid, 1) & ((step == 0) | (step == 1)) & ~self._breaks[cells]
        joined[0] = False
        return Drawn(position[valid], self._values[lead, cells][valid], joined[valid])

    def clear(self) -> None:
        """Forget every sample: another patient's context was opened (W24)."""
        self._valid[:] = False
        self._seq[:] = -1
        self._breaks[:] = False

    def _check(self, frame: WaveformFrame) -> None:
        if frame.lead_mask.bit_length() > len(self._values) or frame.samples.shape != frame.valid.shape:
            raise MalformedFrame("a lead that the stream does not have")

    def _advance(self, stop: int) -> None:
        if stop <= self.end:
            return
        fresh = np.arange(max(self.end, stop - self.capacity), stop) % self.capacity
        self._valid[:, fresh] = False
        self._seq[fresh] = -1
        self._breaks[fresh] = False
        self.end = stop
