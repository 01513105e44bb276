"""Lab Streaming Layer: a live source on the local network (optional part ``lsl``).

A stream of type ECG with channel labels and units in its description. Integer streams keep their steps; float streams
(most) are rounded to steps of half a microvolt, a tenth of what standards ask of an ECG amplifier.
Time stamps are brought to this machine's clock by the library's ``time_correction``, asked again every five seconds.
"""

import asyncio
import importlib
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from media.core.waveform import InvalidReason, StreamFormat
from media.sources.errors import SourceError, SourceErrorCode
from media.sources.leads import standard_name, unique, wire_order
from media.sources.model import MAX_LEADS, Block, LiveFormat, LiveItem, block_of

FIND_S: Final = 5.0
CORRECT_S: Final = 5.0
SILENCE_S: Final = 5.0
HOLE_S: Final = 0.25
"""Stamps jitter by milliseconds; what jumps by more lost samples on the way."""
FLOAT_LSB_NV: Final = 500
_NANOVOLTS: Final = {
    "microvolts": 1000.0, "microvolt": 1000.0, "uv": 1000.0, "µv": 1000.0, "millivolts": 1e6, "millivolt": 1e6,
    "mv": 1e6, "volts": 1e9, "volt": 1e9, "v": 1e9, "nanovolts": 1.0, "nv": 1.0,
}  # fmt: skip


def _library() -> Any:
    try:
        return importlib.import_module("pylsl")
    except (ImportError, RuntimeError, OSError):  # the binary library beneath may be missing
        raise SourceError(SourceErrorCode.NOT_INSTALLED, "pip install consilium[lsl]") from None


class LslSource:
    """One stream, found by its name.

    Args:
        name: of the stream; empty takes the only one of type ECG.
    """

    def __init__(self, name: str, *, find_s: float = FIND_S) -> None:
        self._name, self._find_s = name, find_s
        self._inlet: Any = None
        self._format: LiveFormat | None = None
        self._order: list[int] = []
        self._steps_per_unit: NDArray[np.float64] = np.zeros(0)
        self._correction_s = 0.0
        self._corrected_at = 0.0
        self._to_monotonic_us = 0

    async def open(self) -> tuple[LiveFormat, ...]:
        """See `LiveSource`."""
        await self.close()
        format_ = await asyncio.to_thread(self._connect)
        self._format = format_
        return (format_,)

    def _connect(self) -> LiveFormat:
        lsl = _library()
        key, value = ("name", self._name) if self._name else ("type", "ECG")
        found = lsl.resolve_byprop(key, value, 1, self._find_s)
        if not found:
            raise SourceError(SourceErrorCode.NOT_FOUND, f"no LSL stream with {key} {value!r}")
        # Its own recovery would hide an outage and a restart of the device behind old numbers.
        inlet = lsl.StreamInlet(found[0], max_buflen=10, recover=False)
        try:
            info = inlet.info(self._find_s)
            format_ = self._describe(lsl, info)
            inlet.open_stream(self._find_s)
            self._correction_s = inlet.time_correction(self._find_s)
        except RuntimeError as error:  # all errors of the library are
            inlet.close_stream()
            raise SourceError(SourceErrorCode.NOT_FOUND, f"LSL stream: {type(error).__name__}") from None
        self._corrected_at = time.monotonic()
        self._to_monotonic_us = round(time.monotonic_ns() / 1000 - lsl.local_clock() * 1e6)
        self._inlet = inlet
        return format_

    def _describe(self, lsl: Any, info: Any) -> LiveFormat:
        rate_mhz = round(info.nominal_srate() * 1000)
        if not 1_000 <= rate_mhz <= 10_000_000:
            raise SourceError(SourceErrorCode.RATE, f"{info.nominal_srate()} Hz")
        if info.channel_format() == lsl.cf_string:
            raise SourceError(SourceErrorCode.UNSUPPORTED, "a stream of text")
        count = info.channel_count()
        if not 1 <= count <= MAX_LEADS:
            raise SourceError(SourceErrorCode.UNSUPPORTED, f"{count} channels; a stream has at most {MAX_LEADS}")
        labels, units = _channels(info, count)
        scales = [_NANOVOLTS.get(unit.strip().lower()) for unit in units]
        if any(scale is None for scale in scales):
            raise SourceError(SourceErrorCode.SCALE_UNKNOWN, "LSL channels without a unit in volts")
        names = unique(standard_name(label) for label in labels)
        self._order = wire_order(names)
        nanovolts = np.array([scales[row] for row in self._order], np.float64)
        whole = info.channel_format() in (lsl.cf_int8, lsl.cf_int16, lsl.cf_int32)
        lsb_nv = round(float(nanovolts[0])) if whole and len(set(nanovolts)) == 1 else FLOAT_LSB_NV
        if not 1 <= lsb_nv <= 65_535:
            raise SourceError(SourceErrorCode.SCALE_LOSSY, f"steps of {nanovolts[0]:g} nV")
        self._steps_per_unit = nanovolts / lsb_nv
        stream = StreamFormat(
            stream_id=1, leads=count, sample_rate_mhz=rate_mhz, lsb_nv=lsb_nv, simulated=False
        )  # fmt: skip
        maker = info.desc().child("acquisition").child_value("manufacturer")
        return LiveFormat(
            leads=tuple(names[row] for row in self._order),
            sample_rate_mhz=rate_mhz,
            lsb_nv=lsb_nv,
            device=f"{maker} {info.name()} (LSL)".strip()[:100],
            block_samples=stream.block_samples,
        )

    async def items(self) -> AsyncIterator[tuple[int, LiveItem]]:
        """See `LiveSource`."""
        if self._inlet is None or self._format is None:
            raise SourceError(SourceErrorCode.LOST, "not open")
        restart = True
        rest: list[list[float]] = []
        stamps: list[float] = []
        end_s: float | None = None
        wanted = self._format.block_samples
        while True:
            values, times = await asyncio.to_thread(self._pull, wanted - len(rest))
            for row, stamp in zip(values, times, strict=True):
                full = len(rest) == wanted
                if rest and (full or stamp - stamps[-1] > HOLE_S):  # a hole lies between blocks, never within one
                    block, end_s = self._block(rest, stamps, end_s, restart=restart)
                    rest, stamps, restart = [], [], False
                    yield 0, block
                rest.append(row)
                stamps.append(stamp)
            if len(rest) == wanted:
                block, end_s = self._block(rest, stamps, end_s, restart=restart)
                rest, stamps, restart = [], [], False
                yield 0, block

    def _pull(self, count: int) -> tuple[list[list[float]], list[float]]:
        """Wait for up to ``count`` samples; the time stamps come back on this machine's LSL clock."""
        deadline = time.monotonic() + SILENCE_S
        try:
            if time.monotonic() - self._corrected_at > CORRECT_S:
                self._correction_s = self._inlet.time_correction(1.0)
                self._corrected_at = time.monotonic()
            while time.monotonic() < deadline:
                values, times = self._inlet.pull_chunk(timeout=0.2, max_samples=count)
                if times:
                    return values, [stamp + self._correction_s for stamp in times]
        except RuntimeError:  # all errors of the library are
            raise SourceError(SourceErrorCode.LOST, "LSL stream lost") from None
        raise SourceError(SourceErrorCode.LOST, f"no LSL sample for {SILENCE_S:g} s")

    def _block(
        self, rows: list[list[float]], stamps: list[float], end_s: float | None, *, restart: bool
    ) -> tuple[Block, float]:
        """Steps of one block; a jump of the stamps against the samples before is a hole of that many samples."""
        known = self._format
        assert known is not None, "open"
        rate = known.sample_rate_mhz / 1000
        table = np.array(rows, np.float64)[:, self._order].T * self._steps_per_unit[:, None]
        reasons = np.zeros(table.shape, np.uint8)
        missing = ~np.isfinite(table)
        steps = np.rint(np.where(missing, 0, table))
        saturated = abs(steps) > 32_767
        reasons[saturated] = InvalidReason.SATURATED
        reasons[missing] = InvalidReason.MISSING
        samples = np.clip(steps, -32_768, 32_767).astype(np.int16)
        # Stamps of a block lie on a line; its height is the mean, free of the jitter of single stamps.
        middle = (len(stamps) - 1) / 2
        first_s = float(np.mean(stamps)) - middle / rate
        skipped = 0
        if end_s is not None and not restart and first_s - end_s > HOLE_S - 1 / rate:
            skipped = round((first_s - end_s) * rate)
        captured_us = round(first_s * 1e6) + self._to_monotonic_us
        block = block_of(samples, reasons, captured_us=captured_us)
        if skipped or restart:
            block = Block(
                samples=block.samples, captured_us=captured_us, skipped=skipped, restart=restart,
                lead_off_mask=block.lead_off_mask, saturated_mask=block.saturated_mask,
                invalid_runs=block.invalid_runs,
            )  # fmt: skip
        return block, first_s + len(stamps) / rate

    async def close(self) -> None:
        """See `LiveSource`."""
        inlet, self._inlet, self._format = self._inlet, None, None
        if inlet is not None:
            await asyncio.to_thread(inlet.close_stream)


def _channels(info: Any, count: int) -> tuple[list[str], list[str]]:
    channel = info.desc().child("channels").child("channel")
    labels, units = [], []
    for number in range(count):
        labels.append(str(channel.child_value("label")) or f"ch{number + 1}")
        units.append(str(channel.child_value("unit")))
        channel = channel.next_sibling()
    return labels, units
