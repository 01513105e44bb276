"""WFDB records (PhysioNet): header, signal files, segments with gaps, numerics, annotations.

A small reader of our own: the reference library brings pandas and plotting. The
tests compare the two, value for value. A record of several segments has null
segments and missing signals; these are missing samples here, as are the format's
"no value" codes. What is not an ECG lead is left out, and numerics become vital signs.

Format: https://wfdb.io/spec/header-files and signal-files. Long because a record is one thing: the header names what
each file holds, and segments are records again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.core.waveform import InvalidReason
from media.sources.errors import Notice, NoticeCode, SourceError, SourceErrorCode
from media.sources.files import Files, plain_name
from media.sources.leads import is_ecg_name, is_other_signal
from media.sources.limits import MAX_CHANNELS, SIMULATED, exact, library, unix_us
from media.sources.model import Annotation, Patient, Recording, Vital, VitalCode
from media.sources.scale import MAX_TOTAL_SAMPLES, Piece, RawLead, strips_of
from media.sources.wfdb_annotations import read_annotations
from media.sources.wfdb_formats import FORMATS, unpack

MAX_SEGMENTS: Final = 2000
MAX_HEADER_BYTES: Final = 1 << 20
_NANOVOLTS: Final = {"mV": 1_000_000, "uV": 1000, "µV": 1000, "V": 10**9, "nV": 1, "mv": 1_000_000, "MV": 1_000_000}
_NUMERICS: Final[dict[str, VitalCode]] = {
    "HR": "HR", "PULSE": "Pulse", "RESP": "Resp", "SPO2": "SpO2", "TEMP": "Temp",
}  # fmt: skip
_UNITS: Final[dict[VitalCode, str]] = {"HR": "/min", "Pulse": "/min", "Resp": "/min", "SpO2": "%", "Temp": "Cel"}
_PRESSURE: Final = {"NBPSYS": 0, "NBPDIAS": 1, "NBPMEAN": 2, "NBP SYS": 0, "NBP DIAS": 1, "NBP MEAN": 2}

_FORMAT: Final = re.compile(r"^(\d{1,4})(?:x(\d{1,4}))?(?::(\d{1,6}))?(?:\+(\d{1,9}))?$", re.ASCII)
_GAIN: Final = re.compile(r"^([^(/]*)(?:\((-?\d{1,9})\))?(?:/(\S{1,16}))?$", re.ASCII)


@dataclass(frozen=True)
class _Signal:
    file: str
    format: int
    per_frame: int
    skew: int
    byte_offset: int
    gain: Fraction
    baseline: int
    unit: str
    checksum: int | None
    name: str


@dataclass(frozen=True)
class _Header:
    name: str
    rate: Fraction
    length: int
    """Frames; 0 = not stated."""
    start: datetime | None
    signals: tuple[_Signal, ...]
    segments: tuple[tuple[str, int], ...]
    comments: tuple[str, ...]


def read_wfdb(files: Files, record: str) -> Recording:
    """One record by its name, with its annotations (``.atr``) if they are there.

    Raises:
        SourceError: see `errors`; nothing else, whatever the bytes.
    """
    with library("wfdb"):
        return _Reader(files).recording(record)


class _Reader:
    def __init__(self, files: Files) -> None:
        self._files = files
        self._total = 0
        self.notices: list[Notice] = []

    def recording(self, record: str) -> Recording:
        header = _header(record, self._files)
        leads, length = (
            self._segmented(header) if header.segments else self._plain(header, header.length, 0, header.rate)
        )
        ecg = [lead for lead in leads if lead.unit_nv is not None and lead.rate >= 1]
        vitals = _vitals(leads, self._start_us(header) or 0)
        kept = {id(lead) for lead in ecg}
        for lead in leads:
            if id(lead) not in kept and not _is_numeric(lead):
                self.notices.append(Notice(NoticeCode.LEFT_OUT, lead.name))
        if not ecg and not vitals:
            raise SourceError(SourceErrorCode.NO_ECG, ", ".join(lead.name for lead in leads)[:120])
        strips = strips_of([lead.raw_lead() for lead in ecg], self.notices)
        start_us = self._start_us(header)
        if start_us is None:
            self.notices.append(Notice(NoticeCode.NO_TIME))
        else:
            self.notices.append(Notice(NoticeCode.NO_ZONE))
        return Recording(
            format="wfdb",
            strips=strips,
            start_us=start_us,
            patient=_patient(header.comments),
            simulated=any(comment.upper().startswith(SIMULATED) for comment in header.comments),
            device=f"WFDB {header.name}",
            annotations=self._annotations(header.name, length),
            vitals=vitals,
            notices=tuple(self.notices),
        )

    def _start_us(self, header: _Header) -> int | None:
        return None if header.start is None else unix_us(header.start)

    def _plain(self, header: _Header, frames: int, first: int, rate: Fraction) -> "tuple[list[_Channel], int]":
        """Channels of a record without segments; the raw values begin at frame ``first`` of the whole."""
        channels = []
        length = frames
        for group in _by_file(header.signals):
            data = self._files.read(plain_name(group[0].file))
            raws, missing, found = self._signal_file(data, group, frames)
            length = length or found
            for signal, raw, gone in zip(group, raws, missing, strict=True):
                self._check_sum(signal, raw, gone)
                channels.append(_Channel.of(signal, rate, raw, gone, first))
        order = {id(s): i for i, s in enumerate(header.signals)}
        channels.sort(key=lambda c: order[id(c.signal)])
        return channels, length

    def _signal_file(
        self, data: bytes, group: Sequence[_Signal], frames: int
    ) -> tuple[list[NDArray[np.int32]], list[NDArray[np.bool_]], int]:
        kinds = {signal.format for signal in group}
        if len(kinds) != 1:
            raise SourceError(SourceErrorCode.UNSUPPORTED, "formats mixed in one file")
        kind = FORMATS.get(kinds.pop())
        if kind is None:
            raise SourceError(SourceErrorCode.UNSUPPORTED, f"signal format {group[0].format}")
        per_frame = sum(signal.per_frame for signal in group)
        body = data[group[0].byte_offset :]
        there = kind.samples_in(len(body)) // per_frame
        skew = max(signal.skew for signal in group)
        wanted = frames + skew if frames else there
        if there < wanted:
            if there < wanted - skew:
                self.notices.append(Notice(NoticeCode.TRUNCATED, f"{there} of {frames} frames"))
            if not there:
                raise SourceError(SourceErrorCode.TRUNCATED, group[0].file)
            wanted = there
        self._take(wanted * per_frame)
        table = unpack(kind, body, wanted * per_frame).reshape(wanted, per_frame)
        length = frames or wanted
        raws, gone, column = [], [], 0
        for signal in group:
            values = table[:, column : column + signal.per_frame].reshape(-1)
            column += signal.per_frame
            raw = np.zeros(length * signal.per_frame, np.int32)
            missing = np.ones(len(raw), np.bool_)
            part = values[signal.skew * signal.per_frame :][: len(raw)]
            raw[: len(part)] = part
            missing[: len(part)] = part == kind.no_value
            raws.append(raw)
            gone.append(missing)
        return raws, gone, length

    def _take(self, samples: int) -> None:
        self._total += samples
        if self._total > MAX_TOTAL_SAMPLES:
            raise SourceError(SourceErrorCode.TOO_LARGE, f"more than {MAX_TOTAL_SAMPLES} samples")

    def _check_sum(self, signal: _Signal, raw: NDArray[np.int32], missing: NDArray[np.bool_]) -> None:
        if signal.checksum is None or signal.skew:
            return
        if (int(raw.sum(dtype=np.int64)) - signal.checksum) & 0xFFFF:
            self.notices.append(Notice(NoticeCode.CHECKSUM, signal.name))

    def _segmented(self, header: _Header) -> "tuple[list[_Channel], int]":
        """Segments end to end on one axis; a signal is recognised in each by its name."""
        channels: dict[str, _Channel] = {}
        at = 0
        for name, frames in header.segments:
            if frames and name != "~":
                segment = _header(name, self._files)
                if segment.segments:
                    raise SourceError(SourceErrorCode.UNSUPPORTED, "segments within segments")
                if segment.rate != header.rate:
                    raise SourceError(SourceErrorCode.UNSUPPORTED, f"segment {name} at another rate")
                for channel in self._plain(segment, frames, at, header.rate)[0]:
                    known = channels.get(channel.name)
                    if known is None:
                        channels[channel.name] = channel
                    else:
                        known.extend(channel)
            at += frames
        total = header.length or at
        # Samples before a signal's first segment and after its last are part of the record too.
        self._take(total * max(1, len(channels)))
        for channel in channels.values():
            channel.length = total * channel.signal.per_frame
        return list(channels.values()), total

    def _annotations(self, record: str, length: int) -> tuple[Annotation, ...]:
        name = f"{record}.atr"
        return read_annotations(self._files.read(name), length) if name in self._files.names() else ()


class _Channel:
    """One signal over the whole record; its pieces each with their own gain."""

    def __init__(self, signal: _Signal, rate: Fraction, length: int) -> None:
        self.signal, self.rate, self.length = signal, rate * signal.per_frame, length
        self.name = signal.name
        self.parts: list[tuple[int, NDArray[np.int32], NDArray[np.bool_], _Signal]] = []

    @classmethod
    def of(
        cls, signal: _Signal, rate: Fraction, raw: NDArray[np.int32], missing: NDArray[np.bool_], first: int
    ) -> "_Channel":
        channel = cls(signal, rate, len(raw))
        channel.parts.append((first * signal.per_frame, raw, missing, signal))
        return channel

    @property
    def unit_nv(self) -> int | None:
        """Nanovolts per unit when this is an ECG lead."""
        unit = _NANOVOLTS.get(self.signal.unit)
        return None if unit is None or (is_other_signal(self.name) and not is_ecg_name(self.name)) else unit

    def extend(self, other: "_Channel") -> None:
        if other.signal.per_frame != self.signal.per_frame:
            raise SourceError(SourceErrorCode.UNSUPPORTED, f"{self.name} at another rate in a later segment")
        self.parts += other.parts

    def raw_lead(self) -> RawLead:
        unit_nv = self.unit_nv
        assert unit_nv is not None, "only ECG leads come here"
        invalid = np.full(self.length, InvalidReason.MISSING, np.uint8)
        pieces = []
        for first, raw, missing, signal in self.parts:
            raw, missing = raw[: self.length - first], missing[: self.length - first]
            invalid[first : first + len(raw)] = np.where(missing, InvalidReason.MISSING, 0)
            if not signal.gain:
                raise SourceError(SourceErrorCode.SCALE_UNKNOWN, signal.name)
            step = Fraction(_NANOVOLTS.get(signal.unit, unit_nv)) / signal.gain
            values = np.where(missing, 0, raw - signal.baseline).astype(np.int32)
            pieces.append(Piece(first=first, raw=values, nv_per_step=step))
        return RawLead(found=self.name, rate=self.rate, length=self.length, pieces=pieces, invalid=invalid)


def _header(record: str, files: Files) -> _Header:
    data = files.read(plain_name(f"{record}.hea"))
    if len(data) > MAX_HEADER_BYTES:
        raise SourceError(SourceErrorCode.TOO_LARGE, f"{record}.hea")
    lines = data.decode("utf-8", "replace").splitlines()
    comments = tuple(line[1:].strip() for line in lines if line.startswith("#"))
    body = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    if not body or len(body[0]) < 2:
        raise SourceError(SourceErrorCode.MALFORMED, f"{record}.hea has no record line")
    name, _, segment_count = body[0][0].partition("/")
    count = _int(body[0][1], MAX_CHANNELS)
    rate = exact(body[0][2].split("/")[0].split("(")[0]) if len(body[0]) > 2 else Fraction(250)
    length = _int(body[0][3], 2**40) if len(body[0]) > 3 else 0
    if rate <= 0:
        raise SourceError(SourceErrorCode.RATE, str(rate))
    start = _time(body[0][4:6])
    if segment_count:
        segments = _segments(body[1 : 1 + _int(segment_count, MAX_SEGMENTS)], _int(segment_count, MAX_SEGMENTS))
        return _Header(plain_name(name), rate, length, start, (), segments, comments)
    if len(body) < 1 + count or not count:
        raise SourceError(SourceErrorCode.MALFORMED, f"{record}.hea: {len(body) - 1} of {count} signals")
    signals = tuple(_signal(fields, number) for number, fields in enumerate(body[1 : 1 + count]))
    return _Header(plain_name(name), rate, length, start, signals, (), comments)


def _segments(rows: list[list[str]], count: int) -> tuple[tuple[str, int], ...]:
    if len(rows) < count:
        raise SourceError(SourceErrorCode.TRUNCATED, f"{len(rows)} of {count} segments")
    segments = tuple((row[0] if row[0] == "~" else plain_name(row[0]), _int(row[1], 2**40)) for row in rows)
    if sum(frames for _, frames in segments) > MAX_TOTAL_SAMPLES:
        raise SourceError(SourceErrorCode.TOO_LARGE, "segments")
    return segments


def _signal(fields: list[str], number: int) -> _Signal:
    if len(fields) < 2 or (kind := _FORMAT.match(fields[1])) is None:
        raise SourceError(SourceErrorCode.MALFORMED, f"signal line {number}")
    gain, baseline, unit = Fraction(0), None, "mV"
    if len(fields) > 2:
        stated = _GAIN.match(fields[2])
        if stated is None:
            raise SourceError(SourceErrorCode.MALFORMED, f"gain {fields[2][:24]!r}")
        gain = exact(stated[1]) if stated[1] else Fraction(0)
        baseline = int(stated[2]) if stated[2] else None
        unit = stated[3] or "mV"
    zero = _int(fields[4], 2**31) if len(fields) > 4 else 0
    return _Signal(
        file=fields[0],
        format=int(kind[1]),
        per_frame=int(kind[2] or 1) or 1,
        skew=int(kind[3] or 0),
        byte_offset=int(kind[4] or 0),
        gain=gain,
        baseline=zero if baseline is None else baseline,
        unit=unit,
        checksum=_int(fields[6], 2**31) if len(fields) > 6 else None,
        name=" ".join(fields[8:])[:64] or f"signal {number}",
    )


def _int(text: str, limit: int) -> int:
    if re.fullmatch(r"-?\d{1,13}", text, re.ASCII) is None or abs(int(text)) > limit:
        raise SourceError(SourceErrorCode.MALFORMED, f"{text[:24]!r} is no fitting whole number")
    return int(text)


def _time(fields: list[str]) -> datetime | None:
    """Base time and date; a time without a date says nothing about when."""
    if len(fields) < 2:
        return None
    for layout in ("%H:%M:%S.%f %d/%m/%Y", "%H:%M:%S %d/%m/%Y"):
        try:
            return datetime.strptime(" ".join(fields[:2]), layout).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _by_file(signals: Sequence[_Signal]) -> list[list[_Signal]]:
    groups: dict[str, list[_Signal]] = {}
    for signal in signals:
        groups.setdefault(signal.file, []).append(signal)
    return list(groups.values())


def _is_numeric(channel: _Channel) -> bool:
    key = channel.name.upper()
    return channel.rate <= 2 and (key in _NUMERICS or key in _PRESSURE)


def _vitals(channels: list[_Channel], start_us: int) -> tuple[Vital, ...]:
    """Numerics at the time of their sample; a missing value is no measurement and gives nothing (W8)."""
    found: list[Vital] = []
    pressures: dict[int, dict[int, float]] = {}
    for channel in channels:
        if not _is_numeric(channel):
            continue
        key = channel.name.upper()
        for first, raw, missing, signal in channel.parts:
            for sample in np.flatnonzero(~missing):
                at_us = start_us + round((first + int(sample)) * 1_000_000 / channel.rate)
                value = float((int(raw[sample]) - signal.baseline) / (signal.gain or 1))
                if key in _PRESSURE:
                    pressures.setdefault(at_us, {})[_PRESSURE[key]] = value
                else:
                    code = _NUMERICS[key]
                    found.append(Vital(code=code, value=value, unit=_UNITS[code], at_us=at_us))
    for at_us, parts in pressures.items():
        if len(parts) == 3:
            found.append(Vital(code="NIBP", value=(parts[0], parts[1], parts[2]), unit="mm[Hg]", at_us=at_us))
    return tuple(sorted(found, key=lambda vital: vital.at_us))


def _patient(comments: Sequence[str]) -> Patient:
    """Only the sex is ever in a WFDB comment in a form that can be relied on."""
    text = " ".join(comments)
    sex = re.search(r"(?i)<?sex>?:?\s*(female|male|f|m)\b", text)
    return Patient(sex="" if sex is None else sex[1][0].upper())
