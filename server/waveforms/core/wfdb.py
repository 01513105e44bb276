"""A stream as a WFDB record: what PhysioNet's tools read.

A multi-segment record with a layout segment: each run of samples is one segment, holes between runs are null segments
(``~``) of their exact length, holes inside a run are the format's value for "no sample". Format 16; where a valid
sample is -32768, which means "missing" there, that segment is format 32 instead, so every sample comes back exactly.
Annotations (``.atr``) name sessions, gaps, leads off and pacemaker pulses. Byte layouts: WFDB header(5), signal(5),
annot(5).
"""

import io
import json
import struct
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

import numpy as np

from server.waveforms.core.identity import ExportIdentity
from server.waveforms.core.stream import StreamInfo
from server.waveforms.core.timeline import Event, Run

MISSING_16: Final = -(2**15)
MISSING_32: Final = -(2**31)
_NOTE: Final = 22  # annotation code for a comment
_PACE: Final = 26  # a pacemaker pulse: an artificial pacemaker spike (annot(5): PACESP)
_SKIP, _NUM, _SUB, _CHAN, _AUX = 59, 60, 61, 62, 63


def build_zip(info: StreamInfo, identity: ExportIdentity, runs: Sequence[Run], vitals: str) -> bytes:
    """The record, its annotations, the vital signs and a description, in one zip.

    Times inside are fixed, so that the same stretch gives the same bytes.
    """
    name = record_name(info)
    files = build_record(info, identity, runs)
    files["description.json"] = json.dumps(describe(info, identity, runs), ensure_ascii=False, indent=1).encode()
    if vitals:
        files["vital_signs.fhir.json"] = vitals.encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path, data in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{name}/{path}", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()


def record_name(info: StreamInfo) -> str:
    """Letters, digits and underscores only, as WFDB wants it; no name of a person (G8)."""
    return f"ecg_{info.stream_id}_{info.archive[-8:]}"


def describe(info: StreamInfo, identity: ExportIdentity, runs: Sequence[Run]) -> dict[str, object]:
    """Whose and what it is, for people and programs."""
    return {
        "simulated": info.simulated,
        "patient": identity.banner.model_dump(mode="json"),
        "device": info.device,
        "filter": info.filter or "unknown",
        "leads": list(info.leads),
        "institution": identity.institution,
        "software": identity.software,
        "runs": [
            {"start_us": run.start_us, "session": run.session, "first_sample": run.first_sample, "samples": run.cells,
             "rate_mhz": run.rate_mhz, "lsb_nv": run.lsb_nv}
            for run in runs
        ],
    }  # fmt: skip


def build_record(info: StreamInfo, identity: ExportIdentity, runs: Sequence[Run]) -> dict[str, bytes]:
    """Files of the record by name.

    Raises:
        ValueError: the runs have different sampling rates: one record cannot.
    """
    if len({run.rate_mhz for run in runs}) > 1:
        raise ValueError("one WFDB record has one sampling rate")
    name = record_name(info)
    files: dict[str, bytes] = {}
    segments: list[tuple[str, int]] = [(f"{name}_layout", 0)]
    position = 0
    notes: list[tuple[int, int, int, str]] = []
    for number, run in enumerate(runs, start=1):
        start = max(position, _position(runs[0], run))
        if start > position:
            segments.append(("~", start - position))
            notes.append((position, _NOTE, 0, f"gap {start - position} samples"))
        segment = f"{name}_{number:04}"
        files |= _segment(info, segment, run)
        segments.append((segment, run.cells))
        notes += [_note(info, event, start) for event in run.events]
        position = start + run.cells
    rate = _rate(runs[0].rate_mhz if runs else info.sample_rate_mhz)
    files[f"{name}_layout.hea"] = _layout(info, name, rate, runs)
    files[f"{name}.hea"] = _master(info, identity, name, rate, runs, segments, position)
    files[f"{name}.atr"] = _annotations(notes)
    return files


def _position(first: Run, run: Run) -> int:
    """Cell of a run on the record's axis, by server time."""
    return round((run.start_us - first.start_us) * first.rate_mhz / 1e9)


def _rate(rate_mhz: int) -> str:
    exact = Fraction(rate_mhz, 1000)
    return str(exact.numerator) if exact.denominator == 1 else repr(rate_mhz / 1000)


def _gain(lsb_nv: int) -> str:
    """Steps per millivolt, with a reading that gives the step back."""
    exact = Fraction(1_000_000, lsb_nv)
    return f"{exact.numerator}" if exact.denominator == 1 else repr(float(exact))


def _segment(info: StreamInfo, name: str, run: Run) -> dict[str, bytes]:
    wide = bool((run.valid & (run.values == MISSING_16)).any())
    kind, missing, dtype = (32, MISSING_32, "<i4") if wide else (16, MISSING_16, "<i2")
    samples = np.where(run.valid, run.values.astype(np.int32), missing).astype(dtype)
    lines = [f"{name} {len(info.leads)} {_rate(run.rate_mhz)} {run.cells}"]
    for lead, row in zip(info.leads, samples, strict=True):
        checksum = int(row.astype(np.int64).sum()) & 0xFFFF
        checksum -= 0x10000 if checksum > 0x7FFF else 0
        first = int(row[0]) if run.cells else 0
        lines.append(f"{name}.dat {kind} {_gain(run.lsb_nv)}(0)/mV {8 * row.itemsize} 0 {first} {checksum} 0 {lead}")
    data = np.ascontiguousarray(samples.T).tobytes()
    return {f"{name}.hea": _text(lines), f"{name}.dat": data}


def _layout(info: StreamInfo, name: str, rate: str, runs: Sequence[Run]) -> bytes:
    gain = _gain(runs[0].lsb_nv if runs else info.lsb_nv)
    lines = [f"{name}_layout {len(info.leads)} {rate} 0"]
    lines += [f"~ 0 {gain}(0)/mV 16 0 0 0 0 {lead}" for lead in info.leads]
    return _text(lines)


def _master(
    info: StreamInfo, identity: ExportIdentity, name: str, rate: str, runs: Sequence[Run],
    segments: Sequence[tuple[str, int]], total: int,
) -> bytes:  # fmt: skip
    lines = [f"{name}/{len(segments)} {len(info.leads)} {rate} {total}"]
    if runs:
        start = datetime.fromtimestamp(runs[0].start_us / 1e6, UTC)
        micros = runs[0].start_us % 1_000_000
        lines[0] += f" {start:%H:%M:%S}.{micros // 1000:03} {start:%d/%m/%Y}"
    lines += [f"{segment} {length}" for segment, length in segments]
    banner = identity.banner
    lines += [
        *(["# SIMULATED: not from a person"] if info.simulated else []),
        "# times are UTC; first sample at " + (str(runs[0].start_us) if runs else "0") + " us since 1970",
        f"# patient: {banner.name} {banner.name_latin}".rstrip(),
        f"# identifiers: {banner.identifiers[0].label} {banner.identifiers[0].value}; "
        f"{banner.identifiers[1].label} {banner.identifiers[1].value}",
        f"# sex: {banner.sex}; born: {banner.birth_date}",
        f"# device: {info.device}",
        f"# filter: {info.filter or 'unknown'}",
        f"# institution: {identity.institution}",
        f"# software: {identity.software}",
    ]
    return _text([" ".join(line.split()) if line.startswith("#") else line for line in lines])


def _note(info: StreamInfo, event: Event, start: int) -> tuple[int, int, int, str]:
    at = start + event.sample
    length = "" if event.until is None else f" {event.until - event.sample} samples"
    lead = "" if event.lead is None or event.lead >= len(info.leads) else f" {info.leads[event.lead]}"
    if event.kind == "pace":
        return at, _PACE, 0, "pace"
    return at, _NOTE, 0 if event.lead is None else event.lead, f"{event.kind}{lead}{length}"


def _annotations(notes: Sequence[tuple[int, int, int, str]]) -> bytes:
    """MIT format: pairs of 6-bit code and 10-bit interval; long intervals and texts by escape codes."""
    out = bytearray()
    last, channel = 0, 0
    for sample, code, lead, text in sorted(notes):
        interval = sample - last
        if interval > 1023:
            # 32 bits, the high half first (PDP-11 order)
            out += struct.pack("<HHH", _SKIP << 10, interval >> 16 & 0xFFFF, interval & 0xFFFF)
            interval = 0
        out += struct.pack("<H", code << 10 | interval)
        if lead != channel:
            out += struct.pack("<H", _CHAN << 10 | lead)
            channel = lead
        aux = text.encode()[:255]
        out += struct.pack("<H", _AUX << 10 | len(aux)) + aux + bytes(len(aux) & 1)
        last = sample
    return bytes(out + b"\0\0")


def _text(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
