"""SCP-ECG (EN 1064) through ecgdatakit, an optional part: few hospitals still send it.

The library opens many files and refuses some real ones; that is said as "unsupported", never guessed around.
"""

import importlib
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from media.sources.errors import Notice, NoticeCode, SourceError, SourceErrorCode
from media.sources.limits import bounded, exact, library, unix_us
from media.sources.model import Patient, Recording
from media.sources.scale import Piece, RawLead, strips_of


def is_scp(data: bytes) -> bool:
    """Whether a record length and section 0 stand where SCP-ECG has them."""
    if len(data) < 32:
        return False
    (length,) = struct.unpack_from("<I", data, 2)
    return data[16:22] == b"SCPECG" or (bytes(data[8:10]) == b"\0\0" and length == len(data) and data[14:16] == b"\0\0")


def read_scp(data: bytes) -> Recording:
    """The rhythm of an SCP-ECG file.

    Raises:
        SourceError: ``not_installed`` without the optional part, ``unsupported`` where the library refuses.
    """
    bounded(data)
    try:
        parsers: Any = importlib.import_module("ecgdatakit")
    except ImportError:
        raise SourceError(SourceErrorCode.NOT_INSTALLED, "pip install consilium[scp]") from None
    with library("scp"), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.scp"
        path.write_bytes(data)
        try:
            record = parsers.FileParser.parse(path, auto_scale=False)
        except Exception as error:
            raise SourceError(SourceErrorCode.UNSUPPORTED, f"{type(error).__name__}: {error}") from error
        return _recording(record)


def _recording(record: Any) -> Recording:
    notices: list[Notice] = []
    leads = [_lead(lead) for lead in record.leads]
    if not leads:
        raise SourceError(SourceErrorCode.NO_ECG, "no lead")
    start = getattr(record.recording, "date", None)
    start_us = None if start is None else unix_us(start)
    notices.append(Notice(NoticeCode.NO_TIME if start_us is None else NoticeCode.NO_ZONE))
    patient, device = record.patient, record.recording.device
    return Recording(
        format="scp",
        strips=strips_of(leads, notices),
        start_us=start_us,
        patient=Patient(
            ids=(str(patient.patient_id)[:64],) if patient.patient_id else (),
            name=f"{patient.first_name or ''} {patient.last_name or ''}".strip()[:128],
            sex=str(patient.sex or "")[:1].upper(),
        ),
        device=" ".join(str(getattr(device, key, "") or "") for key in ("manufacturer", "model")).strip()[:120],
        notices=tuple(notices),
    )


def _lead(lead: Any) -> RawLead:
    """The library gives the file's integers as floats, and its resolution as nanovolts per step."""
    step = exact(lead.adc_resolution)
    if lead.adc_resolution_unit != "nV" or step <= 0 or not lead.is_raw or lead.offset:
        raise SourceError(SourceErrorCode.SCALE_UNKNOWN, str(lead.label))
    raw = np.asarray(lead.samples, np.float64)
    if (
        not len(raw)
        or not np.isfinite(raw).all()
        or bool((raw != np.rint(raw)).any())
        or float(abs(raw).max()) >= 2**31
    ):
        raise SourceError(SourceErrorCode.SCALE_LOSSY, str(lead.label))
    return RawLead(
        found=str(lead.label)[:64], rate=exact(lead.sampling_rate), length=len(raw),
        invalid=np.zeros(len(raw), np.uint8),
        pieces=[Piece(first=0, raw=raw.astype(np.int32), nv_per_step=step)],
    )  # fmt: skip
