"""DICOM waveforms: 12-lead, general and ambulatory ECG (PS3.3 A.34, C.10.9).

A file may hold several multiplex groups. Only recorded rhythm is taken: groups
whose originality is DERIVED, or whose label names a median or representative
beat, look like an ECG and are none. Codes of leads are SCP-ECG's or 11073's (CID 3001).
"""

import io
import struct
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import numpy as np
import pydicom
from numpy.typing import NDArray

from media.core.waveform import InvalidReason
from media.sources import checks
from media.sources.errors import Notice, NoticeCode, SourceError, SourceErrorCode
from media.sources.leads import standard_name
from media.sources.limits import MAX_CHANNELS, SIMULATED, bounded, exact, library, unix_us
from media.sources.model import Annotation, Patient, Recording, Strip
from media.sources.scale import MAX_TOTAL_SAMPLES, Piece, RawLead, strips_of

DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
_NOT_RHYTHM: Final = ("MEDIAN", "REPRESENTATIVE", "AVERAGE", "TEMPLATE")
_NANOVOLTS: Final = {"uV": 1000, "mV": 1_000_000, "nV": 1, "V": 10**9}
_SAMPLE_TYPES: Final = {("SS", 16): "<i2", ("US", 16): "<u2", ("SB", 8): "i1", ("UB", 8): "u1"}
MAX_ANNOTATIONS: Final = 10_000


def is_dicom(data: bytes) -> bool:
    """Whether the bytes begin as a DICOM file does."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes) -> Recording:
    """The rhythm of a DICOM waveform file.

    Raises:
        SourceError: not DICOM, no waveform, no rhythm, or a scale that cannot be carried.
    """
    bounded(data)
    if not is_dicom(data):
        raise SourceError(SourceErrorCode.UNKNOWN_FORMAT, "no DICOM preamble")
    if _transfer_syntax(data) == DEFLATED:  # a few kB may become gigabytes, and nobody writes waveforms so
        raise SourceError(SourceErrorCode.UNSUPPORTED, "deflated transfer syntax")
    with library("dicom"):
        dataset = pydicom.dcmread(io.BytesIO(data))
        return _recording(dataset)


def _transfer_syntax(data: bytes) -> bytes:
    """Transfer syntax from the file meta group (always explicit, little endian), without the library."""
    at = 132
    for _ in range(64):
        if at + 8 > len(data):
            break
        group, element, vr, length = struct.unpack_from("<HH2sH", data, at)
        if group != 2:
            break
        at += 8
        if vr in (b"OB", b"OW", b"UN", b"SQ", b"UT", b"OF"):
            if at + 4 > len(data):
                break
            (length,) = struct.unpack_from("<I", data, at)
            at += 4
        if element == 0x10:
            return bytes(data[at : at + length]).rstrip(b"\0 ")
        at += length
    return b""


def _recording(dataset: pydicom.Dataset) -> Recording:
    groups = list(dataset.get("WaveformSequence", ()))
    if not groups:
        raise SourceError(SourceErrorCode.NO_ECG, "no waveform sequence")
    rhythms = [group for group in groups if _is_rhythm(group)]
    if not rhythms:
        raise SourceError(SourceErrorCode.NO_RHYTHM, ", ".join(str(g.get("MultiplexGroupLabel", "?")) for g in groups))
    notices = [Notice(NoticeCode.LEFT_OUT, _label(g)) for g in groups if not _is_rhythm(g)]
    strips: list[Strip] = []
    filters: list[str] = []
    for group in rhythms:
        strips += _strips(group, notices, filters)
    if not strips:
        raise SourceError(SourceErrorCode.NO_ECG, "no channel in volts")
    start_us = _start(dataset, notices)
    return Recording(
        format="dicom",
        strips=tuple(sorted(strips, key=lambda strip: -len(strip.leads))),
        start_us=start_us,
        patient=_patient(dataset),
        device=_device(dataset),
        filter=filters[0] if filters else "",
        simulated=_says_simulated(dataset),
        annotations=_annotations(dataset, groups.index(rhythms[0]) + 1),
        notices=tuple(notices),
    )


def _is_rhythm(group: Any) -> bool:
    label = _label(group).upper()
    return str(group.get("WaveformOriginality", "")) != "DERIVED" and not any(word in label for word in _NOT_RHYTHM)


def _label(group: Any) -> str:
    return str(group.get("MultiplexGroupLabel", "") or "")


def _strips(group: Any, notices: list[Notice], filters: list[str]) -> tuple[Strip, ...]:
    channels = list(group.ChannelDefinitionSequence)
    total = int(group.NumberOfWaveformSamples)
    if not 1 <= len(channels) <= MAX_CHANNELS or total < 1 or total * len(channels) > MAX_TOTAL_SAMPLES:
        raise SourceError(SourceErrorCode.TOO_LARGE, f"{len(channels)} channels of {total} samples")
    values = _values(group, len(channels), total)
    rate = exact(group.SamplingFrequency)
    pad = _padding(group)
    leads = []
    for row, channel in enumerate(channels):
        source = channel.ChannelSourceSequence[0]
        unit = _unit(channel)
        if unit is None:
            notices.append(Notice(NoticeCode.LEFT_OUT, _found(source)))
            continue
        raw = np.ascontiguousarray(values[:, row])
        invalid = np.zeros(total, np.uint8)
        low, high = _range(group)
        invalid[checks.at_the_rails(raw, low, high)] = InvalidReason.SATURATED
        if pad is not None:
            invalid[raw == pad] = InvalidReason.MISSING
            raw = np.where(raw == pad, 0, raw).astype(np.int32)
        gain = exact(channel.ChannelSensitivity) * exact(channel.get("ChannelSensitivityCorrectionFactor") or 1)
        baseline = exact(channel.get("ChannelBaseline") or 0)
        piece = Piece(first=0, raw=raw, nv_per_step=gain * unit, offset_nv=baseline * unit)
        code = standard_name(str(source.get("CodeValue", "")))
        meaning = standard_name(str(source.get("CodeMeaning", "")))
        name = code if str(source.get("CodeValue", "")) != code and code else meaning
        leads.append(RawLead(found=_found(source), name=name, rate=rate, length=total, pieces=[piece], invalid=invalid))
        if (text := _filter(channel)) and text not in filters:
            filters.append(text)
    if not leads:
        return ()
    offset_us = round(float(group.get("MultiplexGroupTimeOffset") or 0) * 1000)
    return strips_of(leads, notices, offset_us=offset_us)


def _values(group: Any, channels: int, total: int) -> NDArray[np.int32]:
    kind = (str(group.WaveformSampleInterpretation), int(group.WaveformBitsAllocated))
    if kind not in _SAMPLE_TYPES:
        raise SourceError(SourceErrorCode.UNSUPPORTED, f"sample type {kind[0]} of {kind[1]} bits")
    data = bytes(group.WaveformData)
    dtype = np.dtype(_SAMPLE_TYPES[kind])
    if len(data) < total * channels * dtype.itemsize:
        raise SourceError(SourceErrorCode.TRUNCATED, f"{len(data)} bytes for {total} samples of {channels} channels")
    return np.frombuffer(data, dtype, total * channels).reshape(total, channels).astype(np.int32)


def _range(group: Any) -> tuple[int, int]:
    bits = int(group.WaveformBitsAllocated)
    if str(group.WaveformSampleInterpretation).startswith("U"):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _padding(group: Any) -> int | None:
    raw = group.get("WaveformPaddingValue")
    if raw is None:
        return None
    if isinstance(raw, bytes):
        kind = (str(group.WaveformSampleInterpretation), int(group.WaveformBitsAllocated))
        dtype = np.dtype(_SAMPLE_TYPES[kind])
        return int(np.frombuffer(raw, dtype, 1)[0]) if len(raw) >= dtype.itemsize else None
    return int(raw)


def _unit(channel: Any) -> int | None:
    """Nanovolts per unit of the channel, None when it is not a voltage.

    Raises:
        SourceError: it has no sensitivity at all, so nobody can say how large it is.
    """
    units = channel.get("ChannelSensitivityUnitsSequence")
    if channel.get("ChannelSensitivity") is None or not units:
        raise SourceError(SourceErrorCode.SCALE_UNKNOWN, _found(channel.ChannelSourceSequence[0]))
    return _NANOVOLTS.get(str(units[0].get("CodeValue", "")))


def _found(source: Any) -> str:
    return str(source.get("CodeMeaning") or source.get("CodeValue") or "")[:64]


def _filter(channel: Any) -> str:
    low, high = channel.get("FilterLowFrequency"), channel.get("FilterHighFrequency")
    if low is None or high is None:
        return ""
    notch = float(channel.get("NotchFilterFrequency") or 0)
    return f"{float(low):g}-{float(high):g} Hz, " + (f"notch {notch:g} Hz" if notch else "no notch")


def _device(dataset: pydicom.Dataset) -> str:
    """Maker and model; some write the same into both."""
    named = (str(dataset.get(k, "")).strip() for k in ("Manufacturer", "ManufacturerModelName"))
    return " ".join(dict.fromkeys(filter(None, named)))[:120]


def _patient(dataset: pydicom.Dataset) -> Patient:
    ids = [str(dataset.get("PatientID") or "")]
    ids += [str(other.get("PatientID") or "") for other in list(dataset.get("OtherPatientIDsSequence") or ())[:8]]
    born = str(dataset.get("PatientBirthDate") or "")
    return Patient(
        ids=tuple(dict.fromkeys(i[:64] for i in ids if i)),
        name=str(dataset.get("PatientName") or "").replace("^", " ").strip()[:128],
        birth_date=f"{born[:4]}-{born[4:6]}-{born[6:8]}" if len(born) == 8 and born.isdigit() else "",
        sex=str(dataset.get("PatientSex") or "")[:1],
    )


def _says_simulated(dataset: pydicom.Dataset) -> bool:
    """Any of the three places where our exports say it: one may have been edited away. (W9)"""
    notes = list(dataset.get("WaveformAnnotationSequence") or ())[:MAX_ANNOTATIONS]
    texts = [dataset.get("PatientComments"), dataset.get("SeriesDescription")]
    texts += [item.get("UnformattedTextValue") for item in notes]
    return any(str(text or "").upper().startswith(SIMULATED) for text in texts)


def _start(dataset: pydicom.Dataset, notices: list[Notice]) -> int | None:
    text = str(dataset.get("AcquisitionDateTime") or "")
    if not text:
        text = str(dataset.get("ContentDate") or dataset.get("StudyDate") or "") + str(
            dataset.get("ContentTime") or dataset.get("StudyTime") or ""
        )
    moment = dicom_time(text, str(dataset.get("TimezoneOffsetFromUTC") or ""))
    if moment is None:
        notices.append(Notice(NoticeCode.NO_TIME))
        return None
    if moment.tzinfo is None:
        notices.append(Notice(NoticeCode.NO_ZONE))
    return unix_us(moment)


def dicom_time(text: str, zone: str = "") -> datetime | None:
    """A DICOM DT value, or the same layout in HL7: YYYYMMDDHHMMSS[.ffffff][+ZZZZ]; None when it is none."""
    body, offset = text.strip(), zone.strip()
    for sign in "+-":
        if sign in body:
            body, _, rest = body.partition(sign)
            offset = sign + rest
    digits, _, fraction = body.partition(".")
    if not digits.isdigit() or not 8 <= len(digits) <= 14 or (fraction and not fraction.isdigit()):
        return None
    try:
        moment = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007 -- the zone is added below
        if fraction:
            moment += timedelta(microseconds=int(fraction[:6].ljust(6, "0")))
        if len(offset) == 5 and offset[1:].isdigit():
            minutes = int(offset[1:3]) * 60 + int(offset[3:])
            moment = moment.replace(tzinfo=timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))
    except (ValueError, OverflowError):
        return None
    return moment


def _annotations(dataset: pydicom.Dataset, group_number: int) -> tuple[Annotation, ...]:
    """Remarks with a place in the rhythm group; measurements without one are the interpreter's, not the trace's."""
    found = []
    for item in list(dataset.get("WaveformAnnotationSequence") or ())[:MAX_ANNOTATIONS]:
        positions = item.get("ReferencedSamplePositions")
        channels = item.get("ReferencedWaveformChannels")
        if positions is None or (channels is not None and len(channels) > 1 and channels[0] != group_number):
            continue
        first = positions[0] if hasattr(positions, "__getitem__") else positions
        names = item.get("ConceptNameCodeSequence")
        text = str(names[0].get("CodeMeaning", "")) if names else str(item.get("UnformattedTextValue") or "")
        found.append(Annotation(sample=int(first) - 1, symbol="", text=text[:200]))
    return tuple(found)
