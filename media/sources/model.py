"""What every source of waveforms gives, whatever it was read from.

A `Recording` is a finished file: one or more `Strip`s (each exactly what one
waveform stream can carry: at most 16 leads, one rate, one int16 scale), and what
the file says about patient, device and time. A `LiveSource` gives `Block`s as
they are taken. Both end in the same `Block`, so a file that is played and a
device that is read go the same way.

Samples that are no signal are marked, never filled: ``Strip.invalid`` holds the
reason of each (0 = signal), and a stretch in which no lead has anything is a
hole between blocks (W1, W2, W6).
"""

from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from media.core.waveform import InvalidReason, InvalidRun
from media.sources.errors import Notice

MAX_LEADS = 16
MAX_PACE_EVENTS = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Lead:
    """One lead of a strip, and what the file said about it."""

    name: str
    """Standard name (`leads.standard_name`), 1 to 8 characters; not changed into another lead (MLII is not II)."""
    found: str
    """Name as the source wrote it."""
    nv_per_step: Fraction
    """The file's own scale, exactly; of the first segment where segments differ."""
    offset_nv: Fraction = Fraction(0)
    """Constant that the samples leave out, smaller than one step; add it for absolute DC."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patient:
    """Patient as the file names it: to be compared with the bound one (W22), never to be trusted instead of it."""

    ids: tuple[str, ...] = ()
    name: str = ""
    birth_date: str = ""
    """YYYY-MM-DD or empty."""
    sex: str = ""

    def __repr__(self) -> str:
        return "Patient(<private>)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """A remark at a sample of the first strip."""

    sample: int
    symbol: str
    """Short code as the source has it, e.g. a WFDB beat type."""
    text: str = ""


VitalCode = Literal["HR", "SpO2", "NIBP", "Resp", "Temp", "Pulse"]
VITAL_UNITS: dict[VitalCode, str] = {
    "HR": "/min", "SpO2": "%", "NIBP": "mm[Hg]", "Resp": "/min", "Temp": "Cel", "Pulse": "/min",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Vital:
    """One measured number with its own time (W8)."""

    code: VitalCode
    value: float | tuple[float, float, float] | None
    """NIBP: systolic, diastolic, mean. None: measured, but no number came of it."""
    unit: str
    at_us: int
    """When it was determined: the source's clock for a live source, since 1970 for a recording with a known start."""
    quality: Literal["ok", "questionable", "invalid"] = "ok"


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Successive samples of all leads of one stream, as they go into one frame."""

    samples: NDArray[np.int16]
    """Shape (leads, n); rows of leads that are off hold anything."""
    captured_us: int
    """When the first sample was taken, on the source's clock, or since the start of a recording."""
    skipped: int = 0
    """Samples that the source does not have, right before this block."""
    restart: bool = False
    """Counting begins anew here (a record loops, a device was switched on)."""
    lead_off_mask: int = 0
    saturated_mask: int = 0
    invalid_runs: tuple[InvalidRun, ...] = ()
    pace_offsets: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PatientReport:
    """The device says whose signal it is (W22)."""

    id: str

    def __repr__(self) -> str:
        return "PatientReport(<private>)"


@dataclass(frozen=True, kw_only=True)
class Strip:
    """What one stream carries."""

    leads: tuple[Lead, ...]
    rate: Fraction
    """Samples per second and lead, exactly as the source states it."""
    lsb_nv: int
    """Nanovolts per step of every lead, 1 to 65535."""
    samples: NDArray[np.int16]
    """Shape (leads, n)."""
    invalid: NDArray[np.uint8]
    """Same shape: 0 = signal, else an `InvalidReason`."""
    pace: tuple[int, ...] = ()
    """Rising sample numbers at which the device saw a pacemaker pulse."""
    offset_us: int = 0
    """Start of this strip after the start of the recording."""

    @property
    def names(self) -> tuple[str, ...]:
        """Lead names in row order."""
        return tuple(lead.name for lead in self.leads)

    @property
    def sample_rate_mhz(self) -> int:
        """Samples per second and lead, times 1000, as frames carry it."""
        return round(self.rate * 1000)

    @property
    def duration_us(self) -> int:
        """Length of the strip."""
        return int(self.samples.shape[1]) * 1_000_000_000 // self.sample_rate_mhz

    def blocks(self, block_samples: int, first: int = 0) -> Iterator[Block]:
        """The strip from sample ``first`` on, as blocks of at most ``block_samples``; holes lie between them.

        ``captured_us`` counts from the start of the strip.
        """
        at, skipped = first, 0
        while (block := self.block(at, block_samples)) is not None:
            start, cut = block
            if cut is None:  # a hole up to ``start``
                skipped += start - at
                at = start
                continue
            yield replace(cut, skipped=skipped)
            at, skipped = start + cut.samples.shape[1], 0

    def block(self, at: int, block_samples: int) -> tuple[int, Block | None] | None:
        """The block at sample ``at``, or (where the hole ends, None) in a hole, or None after the end."""
        total = self.samples.shape[1]
        if at >= total:
            return None
        stop = min(at + block_samples, total)
        reasons = self.invalid[:, at:stop]
        empty = (reasons == InvalidReason.MISSING).all(axis=0)
        if empty[0]:
            present = np.flatnonzero(~empty)
            return (at + int(present[0]) if len(present) else stop), None
        if empty.any():
            stop = at + int(np.flatnonzero(empty)[0])
            reasons = self.invalid[:, at:stop]
        first, last = bisect_left(self.pace, at), bisect_left(self.pace, stop)
        pace = tuple(p - at for p in self.pace[first:last])
        captured_us = at * 1_000_000_000 // self.sample_rate_mhz
        return at, block_of(self.samples[:, at:stop], reasons, captured_us=captured_us, pace=pace)


def block_of(
    samples: NDArray[np.int16], reasons: NDArray[np.uint8], *, captured_us: int, pace: tuple[int, ...] = ()
) -> Block:
    """A block from samples and the reason of each (0 = signal), both of shape (leads, n)."""
    off = (reasons == InvalidReason.LEAD_OFF).all(axis=1)
    saturated = (reasons == InvalidReason.SATURATED).any(axis=1)
    return Block(
        samples=samples,
        captured_us=captured_us,
        lead_off_mask=_mask(off),
        saturated_mask=_mask(saturated & ~off),
        invalid_runs=tuple(_runs(reasons, off)),
        pace_offsets=pace[:MAX_PACE_EVENTS],
    )


def _mask(leads: NDArray[np.bool_]) -> int:
    return sum(1 << int(lead) for lead in np.flatnonzero(leads))


def _runs(reasons: NDArray[np.uint8], off: NDArray[np.bool_]) -> Iterator[InvalidRun]:
    for lead in np.flatnonzero(reasons.any(axis=1) & ~off):
        row = reasons[lead]
        edges = np.flatnonzero(np.diff(row, prepend=-1, append=-1))
        for first, stop in pairwise(edges):
            if row[first]:
                yield InvalidRun(int(lead), int(row[first]), int(first), int(stop - first))


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A finished file."""

    format: str
    """Short name: dicom, wfdb, edf, scp, aecg, fhir, hl7v2."""
    strips: tuple[Strip, ...]
    """At least one, or none where the file has vital signs only."""
    start_us: int | None = None
    """When the first sample was taken, microseconds since 1970; None when the file does not say."""
    patient: Patient = Patient()
    device: str = ""
    filter: str = ""
    """Bandwidth as the file states it (W29); empty means unknown."""
    mains_hz: int | None = None
    simulated: bool = False
    """The file says that it is not from a person: our own exports do, and keep saying so when they come back (W9)."""
    annotations: tuple[Annotation, ...] = ()
    vitals: tuple[Vital, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LiveFormat:
    """What a live source sends, known once it is open."""

    leads: tuple[str, ...]
    sample_rate_mhz: int
    lsb_nv: int
    device: str
    filter: str = ""
    simulated: bool = False
    block_samples: int = 0
    """Samples per block that the source makes; 0 when the source decides from block to block."""
    reports_vitals: bool = False


LiveItem = Block | Vital | PatientReport


class LiveSource(Protocol):
    """A device that is read as it measures. Its capture times are on this machine's monotonic clock, microseconds."""

    async def open(self) -> tuple[LiveFormat, ...]:
        """Connect; one format per stream.

        Raises:
            SourceError: not found, not installed, or nothing that can be carried.
        """

    def items(self) -> AsyncIterator[tuple[int, LiveItem]]:
        """Pairs of stream number (index into what `open` gave) and what came, as it comes, for ever.

        Raises:
            SourceError: the device is gone; the caller may `open` again.
        """

    async def close(self) -> None:
        """Let go; idempotent."""
