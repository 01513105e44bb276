"""An archived stream as runs of samples, each at its time: what every export is made of.

Frames go through the same placement as at a viewer (`media.core.waveform.GapTracker`), so an export has its gaps where
the screen had them. A *run* is one session's stretch without a hole longer than `SPLIT_S`; shorter holes are cells
that are not valid. Nothing is resampled, filtered or filled (W10, W2).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from media.core.waveform import Flag, GapTracker, InvalidReason, WaveformFrame, parse_frame
from server.waveforms.core.stream import StreamInfo

SPLIT_S: Final = 60
"""A hole longer than this separates two runs instead of being written out cell by cell."""
MAX_CELLS: Final = 250_000_000
"""Samples of all leads in one export: 500 MB of int16. Beyond it a shorter stretch must be asked for."""

EventKind = Literal[
    "session", "gap", "lost", "source_gap", "lead_off", "pace", "clock_unsynced", "stream_end", "artefact", "saturated"
]


class ExportTooLarge(ValueError):
    """The stretch has more samples than one object may hold."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a reader of the export must know, at a sample of a run."""

    sample: int
    """First cell in the run."""
    kind: EventKind
    lead: int | None = None
    """Row of the stream's leads; None: all."""
    until: int | None = None
    """Cell after the last one; None: a moment."""


@dataclass(slots=True)
class Run:
    """Successive cells of one session."""

    start_us: int
    """Server time of cell 0."""
    first_sample: int
    """Index of cell 0 in its session."""
    session: int
    rate_mhz: int
    lsb_nv: int
    values: NDArray[np.int16]
    """Shape (leads, cells)."""
    valid: NDArray[np.bool_]
    """Same shape: cells that hold a received sample that is signal."""
    events: list[Event] = field(default_factory=list)

    @property
    def cells(self) -> int:
        """Length."""
        return int(self.values.shape[1])

    def time_us(self, cell: int) -> int:
        """Server time of a cell."""
        return self.start_us + cell * 1_000_000_000 // self.rate_mhz


@dataclass(slots=True)
class _Piece:
    frame: WaveformFrame
    position: int
    session: int
    begins: bool


def read_runs(info: StreamInfo, frames: Iterable[bytes]) -> list[Run]:
    """Place frames, which come in the order of the stream; each has a place of its own and none is left out for it.

    Raises:
        ExportTooLarge: too many samples for one object.
        MalformedFrame: a frame does not decode; the archive was damaged.
    """
    return [_fill(info, pieces) for pieces in _stretches(info, frames)]


def _stretches(info: StreamInfo, frames: Iterable[bytes]) -> Iterator[list[_Piece]]:
    """Frames grouped into runs."""
    tracker: GapTracker | None = None
    pieces: list[_Piece] = []
    cells, end = 0, 0
    session = 0
    before: WaveformFrame | None = None
    for encoded in frames:
        frame = parse_frame(encoded)
        if frame.n == 0:
            continue
        if tracker is None or before is None or _counts_anew(before, frame):
            tracker = GapTracker(frame.sample_rate_mhz)
        before = frame
        placement = tracker.offer(frame)
        if placement is None:  # index and time contradict what is before, and nothing says that a session began
            tracker = GapTracker(frame.sample_rate_mhz)
            placement = tracker.offer(frame)
            assert placement is not None, "a first frame has a place"
        last = pieces[-1] if pieces else None
        begins = placement.restart or last is None
        lsb_changed = last is not None and _lsb(info, last.frame) != _lsb(info, frame)
        if last is not None and (
            begins or lsb_changed or placement.position - end > SPLIT_S * frame.sample_rate_mhz // 1000
        ):
            yield pieces
            pieces = []
        session += begins and last is not None
        if placement.position < end and pieces:
            continue  # an overlap: what is there stays (WF8)
        pieces.append(_Piece(frame, placement.position, session, begins))
        cells += (frame.n + max(0, placement.position - end if len(pieces) > 1 else 0)) * len(info.leads)
        if cells > MAX_CELLS:
            raise ExportTooLarge(f"more than {MAX_CELLS} samples")
        end = placement.position + frame.n
    if pieces:
        yield pieces


def _counts_anew(before: WaveformFrame, frame: WaveformFrame) -> bool:
    """Whether another epoch, or another rate, begins here."""
    return (before.numbering, before.sample_rate_mhz) != (
        frame.numbering,
        frame.sample_rate_mhz,
    ) or frame.seq <= before.seq


def _fill(info: StreamInfo, pieces: list[_Piece]) -> Run:
    first, last = pieces[0], pieces[-1]
    cells = last.position + last.frame.n - first.position
    leads = len(info.leads)
    run = Run(
        start_us=first.frame.t0_us,
        first_sample=first.frame.first_sample,
        session=first.session,
        rate_mhz=first.frame.sample_rate_mhz,
        lsb_nv=_lsb(info, first.frame),
        values=np.zeros((leads, cells), np.int16),
        valid=np.zeros((leads, cells), np.bool_),
    )
    if first.begins:
        run.events.append(Event(0, "session"))
    end, seq = 0, first.frame.seq - 1
    unsynced = False
    off: dict[int, int] = {}
    for piece in pieces:
        frame, at = piece.frame, piece.position - first.position
        if at > end:
            run.events += [Event(since, "lead_off", lead, end) for lead, since in off.items()]
            off.clear()  # nobody knows of the hole
            run.events.append(Event(end, "lost" if frame.seq > seq + 1 else "source_gap", None, at))
        rows = [lead for lead in frame.leads if lead < leads]
        for row, lead in enumerate(frame.leads):
            if lead < leads:
                run.values[lead, at : at + frame.n] = frame.samples[row]
                run.valid[lead, at : at + frame.n] = frame.valid[row]
        _note_frame(run, frame, at, off, rows)
        if bool(frame.flags & Flag.CLOCK_UNSYNCED) is not unsynced:
            unsynced = not unsynced
            if unsynced:
                run.events.append(Event(at, "clock_unsynced"))
        end, seq = at + frame.n, frame.seq
        if frame.flags & Flag.STREAM_END:
            run.events.append(Event(end - 1, "stream_end"))
    for lead, since in off.items():
        run.events.append(Event(since, "lead_off", lead, end))
    run.events.sort(key=lambda event: (event.sample, event.kind, -1 if event.lead is None else event.lead))
    return run


def _note_frame(run: Run, frame: WaveformFrame, at: int, off: dict[int, int], present: list[int]) -> None:
    """Lead-off stretches, invalid runs and pacemaker pulses of one frame."""
    for lead in [one for one in off if one in present]:
        run.events.append(Event(off.pop(lead), "lead_off", lead, at))
    for lead in range(run.values.shape[0]):
        if frame.lead_off_mask >> lead & 1:
            off.setdefault(lead, at)
    kinds: dict[int, EventKind] = {
        InvalidReason.LEAD_OFF: "lead_off",
        InvalidReason.SATURATED: "saturated",
        InvalidReason.ARTEFACT: "artefact",
    }
    for invalid in frame.invalid_runs:
        kind = kinds.get(invalid.reason, "gap")
        run.events.append(Event(at + invalid.first, kind, invalid.lead, at + invalid.first + invalid.count))
    run.events.extend(Event(at + offset, "pace") for offset in frame.pace_offsets)


def _lsb(info: StreamInfo, frame: WaveformFrame) -> int:
    return frame.lsb_nv or info.lsb_nv
