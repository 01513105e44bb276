"""Where waveforms come from: files of seven formats, live devices, and a simulator.

`read` and `read_path` open a finished file as a `Recording`; a `LiveSource` gives blocks as they are taken.
Whatever the bytes, the only error is `SourceError`, with a stable code and a sentence in two languages.
"""

from media.sources.errors import Notice, NoticeCode, SourceError, SourceErrorCode
from media.sources.model import (
    Annotation,
    Block,
    Lead,
    LiveFormat,
    LiveItem,
    LiveSource,
    Patient,
    PatientReport,
    Recording,
    Strip,
    Vital,
)
from media.sources.read import read, read_path

__all__ = [
    "Annotation",
    "Block",
    "Lead",
    "LiveFormat",
    "LiveItem",
    "LiveSource",
    "Notice",
    "NoticeCode",
    "Patient",
    "PatientReport",
    "Recording",
    "SourceError",
    "SourceErrorCode",
    "Strip",
    "Vital",
    "read",
    "read_path",
]
