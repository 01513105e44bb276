"""The sending end of one waveform stream: numbers blocks of samples and frames them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.core.waveform.frame import Flag, InvalidRun, build_frame, build_message, with_flags
from media.core.waveform.gaps import TOLERANCE_US

FAST_RATE_MHZ: Final = 1_000_000
"""From 1000 Hz on, 100 ms of twelve leads and their predecessor no longer fit one packet (WAVEFORM.md section 0)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamFormat:
    """What a source announced about its stream; the media plane's view of the descriptor."""

    stream_id: int
    leads: int
    """Number of leads, 1-16, in bit order of the lead mask."""
    sample_rate_mhz: int
    """Samples per second and lead, times 1000."""
    lsb_nv: int
    simulated: bool

    def __post_init__(self) -> None:
        if not 1 <= self.leads <= 16:
            raise ValueError(f"a stream has 1 to 16 leads, not {self.leads}")
        if not 1 <= self.stream_id < 2**32 or self.sample_rate_mhz < 1:
            raise ValueError("stream id and sample rate must be positive")

    @property
    def block_samples(self) -> int:
        """Samples per lead to send at once: 100 ms, or 50 ms of a fast stream."""
        block_ms = 50 if self.sample_rate_mhz >= FAST_RATE_MHZ else 100
        return max(1, self.sample_rate_mhz * block_ms // 1_000_000)


class FrameWriter:
    """Turns blocks of samples into messages; keeps ``seq``, index and the previous frame.

    Args:
        numbering: name of this counting, drawn at random by whoever may count anew under the same stream id. [WF19]
    """

    def __init__(self, stream: StreamFormat, *, first_seq: int = 0, numbering: int = 0) -> None:
        self.stream = stream
        self.numbering = numbering
        self.seq = first_seq
        """Sequence number of the next frame."""
        self.index = 0
        """Index of the next sample."""
        self._previous: bytes | None = None
        self._version: int | None = None
        self._pending = Flag.SESSION_RESTART
        self._anchor: tuple[int, int] | None = None

    def skip(self, samples: int) -> None:
        """The source lost ``samples`` samples: leave a hole of exactly that width."""
        if samples < 0:
            raise ValueError("a source cannot skip backwards")
        self.index += samples
        self._pending |= Flag.GAP_BEFORE

    def restart(self, index: int = 0) -> None:
        """Index and time begin anew with the next block (a recording loops, a device was switched on).

        Args:
            index: where the source's own counting stands, if it goes on.
        """
        self.index = index
        self._pending = Flag.SESSION_RESTART
        self._anchor = None

    def write(
        self,
        samples: NDArray[np.int16],
        *,
        t0_us: int,
        context_version: int,
        restart: bool = False,
        flags: Flag = Flag(0),  # noqa: B008 -- an immutable constant
        lead_off_mask: int = 0,
        saturated_mask: int = 0,
        invalid_runs: Sequence[InvalidRun] = (),
        pace_offsets: Sequence[int] = (),
    ) -> bytes:
        """One message: this block, and the block before it when both fit a packet.

        Args:
            samples: int16, shape ``(stream.leads, n)``; rows of leads that are off
                are left out of the frame, whatever they hold.
            t0_us: server time of the first sample, microseconds since 1970.
            restart: same as calling `restart` first; also done when ``t0_us`` is
                off by more than the tolerance of receivers.

        Raises:
            ValueError: arguments that no receiver would accept.
        """
        if restart or self._time_jumped(t0_us):
            self.restart()
        if samples.ndim != 2 or samples.shape[0] != self.stream.leads:
            raise ValueError(f"samples must have {self.stream.leads} rows, not shape {samples.shape}")
        present = [lead for lead in range(self.stream.leads) if not lead_off_mask >> lead & 1]
        frame = build_frame(
            stream_id=self.stream.stream_id,
            seq=self.seq,
            context_version=context_version,
            t0_us=t0_us,
            first_sample=self.index,
            sample_rate_mhz=self.stream.sample_rate_mhz,
            samples=samples[present],
            numbering=self.numbering,
            lead_mask=sum(1 << lead for lead in present),
            lead_off_mask=lead_off_mask,
            saturated_mask=saturated_mask,
            lsb_nv=self.stream.lsb_nv,
            flags=flags | self._pending | (Flag.SIMULATED if self.stream.simulated else Flag(0)),
            invalid_runs=invalid_runs,
            pace_offsets=pace_offsets,
        )
        # The frame before may be another patient's; then it is not sent again. (W20)
        message = build_message(frame, self._previous if context_version == self._version else None)
        self._version = context_version
        self._previous = with_flags(frame, remove=Flag.RESEND)
        self._pending = Flag(0)
        self._anchor = (t0_us, self.index)
        self.seq += 1
        self.index += samples.shape[1]
        return message

    def _time_jumped(self, t0_us: int) -> bool:
        """Whether a block's time does not fit its index: the clock stepped, so a new session it is."""
        if self._anchor is None:
            return False
        then_us, then_index = self._anchor
        expected_us = then_us + (self.index - then_index) * 1e9 / self.stream.sample_rate_mhz
        return abs(t0_us - expected_us) > TOLERANCE_US
