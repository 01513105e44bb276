"""EDF and EDF+ recordings, through edfio, with the file's exact integers.

Traps met in real files: a stated 30.5 uV for steps of 5 uV, lead-off written as 0, one data record for every
sample. So the scale is checked (`checks`), flat stretches are no signal, and discontinuous files (EDF+D) keep their
gaps.
"""

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final

import edfio
import numpy as np
from numpy.typing import NDArray

from media.core.waveform import InvalidReason
from media.sources import checks
from media.sources.errors import Notice, NoticeCode, SourceError, SourceErrorCode
from media.sources.leads import is_ecg_name, is_other_signal
from media.sources.limits import MAX_CHANNELS, bounded, exact, library, unix_us
from media.sources.model import Annotation, Patient, Recording
from media.sources.scale import MAX_TOTAL_SAMPLES, Piece, RawLead, strips_of

_NANOVOLTS: Final = {"uV": 1000, "µV": 1000, "mV": 1_000_000, "V": 10**9, "nV": 1}
MAX_ANNOTATIONS: Final = 10_000
_HEADER: Final = 256


def is_edf(data: bytes) -> bool:
    """Whether the bytes begin as an EDF file does."""
    return data[:8] == b"0       " and len(data) >= _HEADER


def read_edf(data: bytes) -> Recording:
    """The ECG leads of an EDF or EDF+ file.

    Raises:
        SourceError: no EDF, cut short, no ECG lead, or a scale that cannot be carried.
    """
    bounded(data)
    if not is_edf(data):
        raise SourceError(SourceErrorCode.UNKNOWN_FORMAT, "no EDF header")
    layout = _Layout(data)
    with library("edf"):
        edf = edfio.read_edf(data, lazy_load_data=True)
        return _recording(edf, layout)


class _Layout:
    """Sizes, checked from the raw header before the library allocates by them."""

    def __init__(self, data: bytes) -> None:
        self.discontinuous = data[192:197] == b"EDF+D"
        self.records, count = _whole(data[236:244], low=-1), _whole(data[252:256], low=1)
        if count > MAX_CHANNELS:
            raise SourceError(SourceErrorCode.TOO_LARGE, f"{count} signals")
        header = _HEADER * (1 + count)
        if len(data) < header:
            raise SourceError(SourceErrorCode.TRUNCATED, "header")
        self.per_record = [_whole(data[_HEADER + 216 * count + 8 * i :][:8], low=0) for i in range(count)]
        size = 2 * sum(self.per_record)
        if not size:
            raise SourceError(SourceErrorCode.NO_ECG, "no samples")
        there = (len(data) - header) // size
        if self.records < 0:
            self.records = there
        if there < self.records:
            raise SourceError(SourceErrorCode.TRUNCATED, f"{there} of {self.records} data records")
        if self.records * sum(self.per_record) > MAX_TOTAL_SAMPLES:
            raise SourceError(SourceErrorCode.TOO_LARGE, f"{self.records} records")
        self.duration_s = exact(data[244:252].decode("ascii", "replace"))
        self._data, self._header, self._size = data, header, size
        self._labels = [data[_HEADER + 16 * i :][:16].strip() for i in range(count)]

    def time_keeping(self) -> Iterator[bytes]:
        """The first annotation of each data record, which says when the record begins."""
        if b"EDF Annotations" not in self._labels:
            raise SourceError(SourceErrorCode.MALFORMED, "discontinuous without annotations")
        which = self._labels.index(b"EDF Annotations")
        before, own = 2 * sum(self.per_record[:which]), 2 * self.per_record[which]
        for record in range(self.records):
            at = self._header + record * self._size + before
            yield self._data[at : at + own]


def _whole(field: bytes, *, low: int) -> int:
    text = field.decode("ascii", "replace").strip()
    if re.fullmatch(r"-?\d{1,8}", text, re.ASCII) is None or int(text) < low:
        raise SourceError(SourceErrorCode.MALFORMED, f"{text!r} is no fitting whole number")
    return int(text)


def _recording(edf: edfio.Edf, layout: _Layout) -> Recording:
    notices: list[Notice] = []
    leads, filters, devices = [], [], []
    if layout.duration_s <= 0:
        raise SourceError(SourceErrorCode.RATE, "data records without duration")
    onsets = _record_onsets(layout)
    for signal in edf.signals:
        unit = _NANOVOLTS.get(signal.physical_dimension.strip())
        label = signal.label.strip()
        if unit is None or (is_other_signal(label) and not is_ecg_name(label)):
            if not signal.physical_dimension.strip() and is_ecg_name(label):
                raise SourceError(SourceErrorCode.SCALE_UNKNOWN, f"{label}: no unit")
            notices.append(Notice(NoticeCode.LEFT_OUT, label))
            continue
        leads.append(_lead(signal, unit, layout, onsets))
        if text := signal.prefiltering.strip():
            filters.append(text)
        if text := signal.transducer_type.strip():
            devices.append(text)
    if not leads:
        raise SourceError(SourceErrorCode.NO_ECG, "no channel in volts")
    strips = strips_of(leads, notices)
    return Recording(
        format="edf",
        strips=strips,
        start_us=_start(edf, notices),
        patient=_patient(edf),
        device=_device(edf, devices),
        filter=" / ".join(dict.fromkeys(filters))[:120],
        annotations=_annotations(edf, strips[0].rate, strips[0].samples.shape[1]),
        notices=tuple(notices),
    )


def _lead(signal: Any, unit: int, layout: _Layout, onsets: list[Fraction] | None) -> RawLead:
    digital_min, digital_max = int(signal.digital_min), int(signal.digital_max)
    low, high = exact(signal.physical_min), exact(signal.physical_max)
    if digital_max <= digital_min or low == high:
        raise SourceError(SourceErrorCode.SCALE_UNKNOWN, f"{signal.label}: empty range")
    gain = (high - low) / (digital_max - digital_min)
    offset = low - gain * digital_min
    rate = Fraction(int(signal.samples_per_data_record)) / layout.duration_s
    raw = np.asarray(signal.digital).astype(np.int32)
    bad = np.zeros(len(raw), np.uint8)
    bad[checks.at_the_rails(raw, digital_min, digital_max)] = InvalidReason.SATURATED
    pieces, invalid = _placed(raw, bad, rate, int(signal.samples_per_data_record), onsets)
    return RawLead(
        found=signal.label.strip(), rate=rate, length=len(invalid), invalid=invalid,
        pieces=[Piece(first=f, raw=r, nv_per_step=gain * unit, offset_nv=offset * unit) for f, r in pieces],
    )  # fmt: skip


def _placed(
    raw: NDArray[np.int32], bad: NDArray[np.uint8], rate: Fraction, per_record: int, onsets: list[Fraction] | None
) -> tuple[list[tuple[int, NDArray[np.int32]]], NDArray[np.uint8]]:
    """Samples at the time of their data record; between records of an EDF+D file they are missing."""
    if onsets is None:
        return [(0, raw)], bad
    pieces, end = [], 0
    places = []
    for record, onset in enumerate(onsets):
        place = max(end, round((onset - onsets[0]) * rate))
        places.append(place)
        end = place + per_record
        if end > MAX_TOTAL_SAMPLES:
            raise SourceError(SourceErrorCode.TOO_LARGE, "gaps of an EDF+D file")
        pieces.append((place, raw[record * per_record : (record + 1) * per_record]))
    invalid = np.full(end, InvalidReason.MISSING, np.uint8)
    for record, place in enumerate(places):
        invalid[place : place + per_record] = bad[record * per_record : (record + 1) * per_record]
    return pieces, invalid


def _record_onsets(layout: _Layout) -> list[Fraction] | None:
    """Start of each data record of an EDF+D file, from its own time-keeping annotation."""
    if not layout.discontinuous:
        return None
    onsets = []
    for tal in layout.time_keeping():
        text = tal.split(b"\x14", 1)[0].split(b"\x15", 1)[0]
        onsets.append(exact(text.decode("ascii", "replace")))
    if any(later < earlier for earlier, later in pairwise(onsets)):
        raise SourceError(SourceErrorCode.MALFORMED, "data records go back in time")
    return onsets


def _start(edf: edfio.Edf, notices: list[Notice]) -> int | None:
    try:
        moment = datetime.combine(edf.startdate, edf.starttime, UTC)
    except ValueError:  # an anonymised date ("X")
        notices.append(Notice(NoticeCode.NO_TIME))
        return None
    notices.append(Notice(NoticeCode.NO_ZONE))
    return unix_us(moment)


def _patient(edf: edfio.Edf) -> Patient:
    """EDF+ writes "code sex birthdate name"; plain EDF any text, of which the first word may be a code."""
    words = edf.local_patient_identification.split()
    found = [("" if word == "X" else word.replace("_", " ")) for word in words[:4]]
    ids = (found[0][:64],) if found and found[0] else ()
    if len(found) < 4 or found[1] not in ("", "M", "F"):
        return Patient(ids=ids)
    born = ""
    with contextlib.suppress(ValueError):
        born = datetime.strptime(found[2].title(), "%d-%b-%Y").date().isoformat()  # noqa: DTZ007 -- a date
    return Patient(ids=ids, name=found[3][:128], birth_date=born, sex=found[1])


def _device(edf: edfio.Edf, transducers: list[str]) -> str:
    try:
        equipment = edf.recording.equipment_code
    except ValueError:
        equipment = ""
    return ("" if equipment == "X" else equipment.replace("_", " ") or (transducers[0] if transducers else ""))[:120]


def _annotations(edf: edfio.Edf, rate: Fraction, length: int) -> tuple[Annotation, ...]:
    found = []
    for one in edf.annotations[:MAX_ANNOTATIONS]:
        sample = round(one.onset * float(rate))
        if 0 <= sample < length:
            found.append(Annotation(sample=sample, symbol="", text=one.text[:200]))
    return tuple(found)
