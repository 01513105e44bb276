"""A stream as a DICOM waveform object (PS3.3 A.34, C.10.9).

12-lead ECG where the standard's limits hold (twelve standard leads, 200 to 1000 Hz, at most 5 groups of 16384 samples),
else General ECG (200 to 1000 Hz, up to 4 groups), else Ambulatory ECG (50 to 1000 Hz, one group). Each run is a
multiplex group with its own time; where there are more than the object may have, they share one group on the time
axis. A cell without a sample holds the padding value, which is one that no valid sample has, and is named by an
annotation; sessions, leads off, pacemaker pulses and SIMULATED are annotations too.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from server.waveforms.core.identity import ExportIdentity
from server.waveforms.core.stream import StreamInfo
from server.waveforms.core.timeline import MAX_CELLS, Event, ExportTooLarge, Run

TWELVE_LEAD: Final = "1.2.840.10008.5.1.4.1.1.9.1.1"
GENERAL: Final = "1.2.840.10008.5.1.4.1.1.9.1.2"
AMBULATORY: Final = "1.2.840.10008.5.1.4.1.1.9.1.3"
STANDARD_12: Final = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
MAX_ANNOTATIONS: Final = 20_000
_LEAD_CODES: Final = {
    "I": 1, "II": 2, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8, "V7": 9, "V3R": 11, "V4R": 12, "V5R": 13,
    "V6R": 14, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64, "V8": 66, "V9": 67,
}  # fmt: skip
"""ISO/IEEE 11073-10102 lead numbers, as CID 3001 uses them (``2:n``, scheme MDC)."""
_SEX: Final = {"female": "F", "male": "M", "other": "O"}
_BAND: Final = re.compile(r"(\d+(?:\.\d+)?)\s*[-\u2013]\s*(\d+(?:\.\d+)?)\s*Hz")
_NOTCH: Final = re.compile(r"notch\s+(\d+(?:\.\d+)?)", re.IGNORECASE)


class RateUnsupported(ValueError):
    """No DICOM ECG object holds this sampling rate; WFDB does."""


def build_dicom(info: StreamInfo, identity: ExportIdentity, runs: Sequence[Run]) -> bytes:
    """The object as a file (explicit little endian).

    Raises:
        RateUnsupported: below 50 or above 1000 Hz.
        ExportTooLarge: more groups than an object may have, and they cannot share one.
    """
    sop_class, groups = _choose(info, runs)
    dataset = _header(info, identity, sop_class, runs)
    padding = _padding(groups)
    dataset.WaveformSequence = DicomSequence([_group(info, runs[0], run, padding) for run in groups])
    annotations = [
        item for number, run in enumerate(groups, start=1) for item in _annotations(info, run, number, len(groups))
    ]
    if info.simulated:
        annotations.insert(0, _text_annotation(1, 0, "SIMULATED: not from a person", (1,)))
    if len(annotations) > MAX_ANNOTATIONS:
        # pacemaker pulses come by the thousand: what says where there is no signal stays before them
        annotations.sort(key=lambda item: item.UnformattedTextValue == "pace")
        left_out = len(annotations) - MAX_ANNOTATIONS + 1
        annotations[MAX_ANNOTATIONS - 1 :] = [_text_annotation(1, 0, f"annotations left out: {left_out}", (1,))]
    if annotations:
        dataset.WaveformAnnotationSequence = DicomSequence(annotations)
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def _choose(info: StreamInfo, runs: Sequence[Run]) -> tuple[str, list[Run]]:
    rates = {run.rate_mhz for run in runs}
    if not runs or min(rates) < 50_000 or max(rates) > 1_000_000:
        raise RateUnsupported("DICOM ECG objects hold 50 to 1000 Hz")
    slow = min(rates) < 200_000
    short = len(runs) <= 5 and all(run.cells <= 16_384 for run in runs)
    if not slow and short and set(info.leads) == set(STANDARD_12):
        return TWELVE_LEAD, list(runs)
    if not slow and len(runs) <= 4:
        return GENERAL, list(runs)
    return (AMBULATORY if slow else GENERAL), [_merge(runs)]


def _merge(runs: Sequence[Run]) -> Run:
    """All runs on one axis, by server time."""
    first = runs[0]
    if len(runs) == 1:
        return first
    if len({(run.rate_mhz, run.lsb_nv) for run in runs}) > 1:
        raise ExportTooLarge("too many sessions of different scale for one object")
    starts: list[int] = []
    end = 0
    for run in runs:
        start = max(end, round((run.start_us - first.start_us) * first.rate_mhz / 1e9))
        starts.append(start)
        end = start + run.cells
    leads = first.values.shape[0]
    if end * leads > MAX_CELLS:
        raise ExportTooLarge(f"more than {MAX_CELLS} samples with the time between sessions")
    merged = Run(
        first.start_us, first.first_sample, first.session, first.rate_mhz, first.lsb_nv,
        np.zeros((leads, end), np.int16), np.zeros((leads, end), np.bool_),
    )  # fmt: skip
    last = 0
    for run, start in zip(runs, starts, strict=True):
        if start > last:
            merged.events.append(Event(last, "gap", None, start))
        merged.values[:, start : start + run.cells] = run.values
        merged.valid[:, start : start + run.cells] = run.valid
        merged.events += [
            Event(e.sample + start, e.kind, e.lead, None if e.until is None else e.until + start) for e in run.events
        ]
        last = start + run.cells
    return merged


def _padding(runs: Sequence[Run]) -> int | None:
    """A value that no valid sample has; None where every one of the 65536 is taken."""
    taken = np.zeros(65_536, np.bool_)
    for run in runs:
        taken[run.values[run.valid].view(np.uint16)] = True
    if not taken[0x8000]:
        return -0x8000
    free = np.flatnonzero(~taken)
    return None if not len(free) else int(np.uint16(free[0]).astype(np.int16))


def _header(info: StreamInfo, identity: ExportIdentity, sop_class: str, runs: Sequence[Run]) -> Dataset:
    banner, start_us = identity.banner, runs[0].start_us
    start = datetime.fromtimestamp(start_us / 1e6, UTC)
    made = datetime.fromtimestamp(identity.made_at_us / 1e6, UTC)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = _uid("instance", info.archive, start_us, runs[-1].start_us, runs[-1].cells)
    meta.ImplementationClassUID = _uid("implementation")
    ds = Dataset()
    ds.file_meta = meta
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = _uid("study", info.consult), _uid("series", info.archive)
    ds.InstanceCreationDate, ds.InstanceCreationTime = f"{made:%Y%m%d}", f"{made:%H%M%S}"
    ds.StudyDate = ds.ContentDate = f"{start:%Y%m%d}"
    ds.StudyTime = ds.ContentTime = f"{start:%H%M%S.%f}"
    ds.AcquisitionDateTime = f"{start:%Y%m%d%H%M%S.%f}+0000"
    ds.TimezoneOffsetFromUTC = "+0000"
    ds.Modality = "ECG"
    ds.Manufacturer = _long(info.device)
    ds.ManufacturerModelName = _long(info.device)
    ds.SoftwareVersions = _long(identity.software)
    ds.InstitutionName = _long(identity.institution)
    ds.SeriesDescription = _long(("SIMULATED " if info.simulated else "") + info.title)
    ds.AccessionNumber = ds.ReferringPhysicianName = ds.StudyID = ""
    ds.SeriesNumber, ds.InstanceNumber = 1, 1
    names = [name.replace("=", " ").replace("^", " ") for name in (banner.name_latin or banner.name, banner.name)]
    ds.PatientName = names[0] if names[0] == names[1] else f"{names[0]}={names[1]}"
    ds.PatientID = _long(banner.identifiers[0].value)
    ds.IssuerOfPatientID = _long(banner.identifiers[0].label)
    other = Dataset()
    other.PatientID, other.TypeOfPatientID = _long(banner.identifiers[1].value), "TEXT"
    other.IssuerOfPatientID = _long(banner.identifiers[1].label)
    ds.OtherPatientIDsSequence = DicomSequence([other])
    ds.PatientBirthDate = banner.birth_date.replace("-", "")
    ds.PatientSex = _SEX.get(banner.sex, "")
    if info.simulated or banner.test:
        ds.QualityControlSubject = "YES"
        ds.PatientComments = "SIMULATED: not from a person" if info.simulated else "test patient"
    ds.AcquisitionContextSequence = DicomSequence([])
    return ds


def _group(info: StreamInfo, first: Run, run: Run, padding: int | None) -> Dataset:
    group = Dataset()
    group.MultiplexGroupTimeOffset = _decimal((run.start_us - first.start_us) / 1000)
    group.WaveformOriginality = "ORIGINAL"
    group.NumberOfWaveformChannels = len(info.leads)
    group.NumberOfWaveformSamples = run.cells
    group.SamplingFrequency = _decimal(run.rate_mhz / 1000)
    group.MultiplexGroupLabel = "RHYTHM"
    group.ChannelDefinitionSequence = DicomSequence([_channel(info, run, lead) for lead in info.leads])
    group.WaveformBitsAllocated = 16
    group.WaveformSampleInterpretation = "SS"
    samples = run.values if padding is None else np.where(run.valid, run.values, np.int16(padding))
    if padding is not None:
        group.add_new(0x5400100A, "OW", padding.to_bytes(2, "little", signed=True))
    group.add_new(0x54001010, "OW", np.ascontiguousarray(samples.T).astype("<i2").tobytes())
    return group


def _channel(info: StreamInfo, run: Run, lead: str) -> Dataset:
    channel = Dataset()
    channel.ChannelLabel = lead
    channel.ChannelSourceSequence = DicomSequence([_code(f"2:{_LEAD_CODES.get(lead, 0)}", "MDC", f"Lead {lead}")])
    channel.ChannelSensitivity = _decimal(run.lsb_nv / 1000)
    channel.ChannelSensitivityUnitsSequence = DicomSequence([_code("uV", "UCUM", "microvolt")])
    channel.ChannelSensitivityCorrectionFactor = "1"
    channel.ChannelBaseline = "0"
    channel.ChannelSampleSkew = "0"
    channel.WaveformBitsStored = 16
    if (band := _BAND.search(info.filter)) is not None:
        channel.FilterLowFrequency, channel.FilterHighFrequency = band.group(1), band.group(2)
    if (notch := _NOTCH.search(info.filter)) is not None:
        channel.NotchFilterFrequency = notch.group(1)
    return channel


def _annotations(info: StreamInfo, run: Run, group: int, groups: int) -> list[Dataset]:
    """What the run's events say."""
    items = [_text_annotation(group, 0, f"filter: {info.filter or 'unknown'}", (1,))] if group == 1 else []
    if groups > 1 or run.events:
        items.append(_text_annotation(group, 0, f"index of first sample: {run.first_sample}", (1,)))
    for event in run.events:
        channel = 0 if event.lead is None else event.lead + 1
        last = run.cells if event.until is None else event.until
        positions = (event.sample + 1,) if event.until is None else (event.sample + 1, max(event.sample + 1, last))
        items.append(_text_annotation(group, channel, event.kind, positions))
    return items


def _text_annotation(group: int, channel: int, text: str, positions: tuple[int, ...]) -> Dataset:
    item = Dataset()
    item.ReferencedWaveformChannels = [group, channel]
    item.TemporalRangeType = "POINT" if len(positions) == 1 else "SEGMENT"
    item.ReferencedSamplePositions = list(positions)
    item.AnnotationGroupNumber = 1
    item.UnformattedTextValue = text
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _decimal(value: float) -> str:
    """A DS has at most 16 characters."""
    for digits in range(15, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise AssertionError("no number needs more")


def _long(text: str) -> str:
    """An LO has at most 64 characters and no backslash."""
    return text.replace("\\", "/")[:64]


def _uid(*parts: Any) -> UID:
    """The same for the same thing: a UUID-derived UID (PS3.5 B.2)."""
    digest = hashlib.sha256("\n".join(["consilium", *map(str, parts)]).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")
