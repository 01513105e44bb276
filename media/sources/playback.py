"""A finished recording played as if it were measured now: for demonstrations and for trying a display.

Always marked simulated, whoever's it is: nobody has these signals at this moment [W9].
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from media.core.waveform import StreamFormat
from media.sources.errors import SourceError, SourceErrorCode
from media.sources.model import Block, LiveFormat, LiveItem, PatientReport, Recording, Strip

LATE_US: Final = 1_000_000
"""Later than this (the machine slept) and the record goes on in the present: a hole, not old samples as live."""


@dataclass(frozen=True)
class Due:
    """A block and when its last sample would have been taken, both on the player's clock."""

    block: Block
    due_us: int


class Playback:
    """Cuts a strip into blocks and gives each its time; at its end it begins anew without a pause. No clock."""

    def __init__(self, strip: Strip, block_samples: int) -> None:
        self._strip, self._block_samples = strip, block_samples
        self._position = 0
        self._start_us: int | None = None

    def rewind(self) -> None:
        """Start anew with the next block."""
        self._position, self._start_us = 0, None

    def next(self, now_us: int) -> Due:
        """The next block; ``captured_us`` is on the player's clock. The last one of a round may be shorter."""
        strip = self._strip
        if self._start_us is None:
            self._start_us = now_us
        skipped = 0
        while True:
            found = strip.block(self._position, self._block_samples)
            if found is None:
                self._start_us += strip.duration_us
                self._position = skipped = 0
                continue
            at, block = found
            if block is not None:
                break
            skipped += at - self._position
            self._position = at
        restart = at - skipped == 0
        self._position = at + block.samples.shape[1]
        block = replace(
            block,
            captured_us=self._start_us + self._duration_us(at),
            skipped=0 if restart else skipped,
            restart=restart,
        )
        return Due(block, self._start_us + self._duration_us(self._position))

    def _duration_us(self, samples: int) -> int:
        return samples * 1_000_000_000 // self._strip.sample_rate_mhz


class PlayedRecording:
    """A recording as a `LiveSource`: its first strip over and over.

    Args:
        loop: begin anew at the end; else `items` ends there.
        report_patient: whether the file's own patient id is reported, as a device does that knows whom it is on (W22).
    """

    def __init__(
        self,
        recording: Recording,
        *,
        loop: bool = True,
        report_patient: bool = False,
        now_us: Callable[[], int] | None = None,
    ) -> None:
        if not recording.strips or bool((recording.strips[0].invalid == 1).all()):
            raise SourceError(SourceErrorCode.NO_ECG, "nothing to play")
        self._recording, self._strip = recording, recording.strips[0]
        self._loop, self._report_patient = loop, report_patient
        self._now_us = now_us or (lambda: time.monotonic_ns() // 1000)

    @property
    def format(self) -> LiveFormat:
        """What it sends. ``simulated`` is a constant [W9]."""
        strip, recording = self._strip, self._recording
        stream = StreamFormat(
            stream_id=1, leads=len(strip.leads), sample_rate_mhz=strip.sample_rate_mhz, lsb_nv=strip.lsb_nv,
            simulated=True,
        )  # fmt: skip
        return LiveFormat(
            leads=strip.names,
            sample_rate_mhz=strip.sample_rate_mhz,
            lsb_nv=strip.lsb_nv,
            device=f"{recording.device or recording.format} (record)",
            filter=recording.filter,
            simulated=True,
            block_samples=stream.block_samples,
        )

    async def open(self) -> tuple[LiveFormat, ...]:
        """See `LiveSource`."""
        return (self.format,)

    async def items(self) -> AsyncIterator[tuple[int, LiveItem]]:
        """See `LiveSource`. A block comes when its last sample would have been taken."""
        if self._report_patient:
            for identifier in self._recording.patient.ids[:1]:
                yield 0, PatientReport(id=identifier)
        for due in self._rounds():
            late_us = self._now_us() - due.due_us
            await asyncio.sleep(max(0, -late_us) / 1e6)
            yield 0, due.block

    def _rounds(self) -> Iterator[Due]:
        playback = Playback(self._strip, self.format.block_samples)
        first = True
        while True:
            due = playback.next(self._now_us())
            if due.block.restart and not first and not self._loop:
                return
            first = False
            if self._now_us() - due.due_us > LATE_US:
                playback.rewind()
                continue
            yield due

    async def close(self) -> None:
        """See `LiveSource`."""
