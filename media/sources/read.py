"""Opening a file whose format nobody said: it is recognised by its bytes, never by its name.

A record of several files (WFDB) comes as a folder or as a ZIP.
"""

from pathlib import Path

from media.sources.aecg import is_aecg, read_aecg
from media.sources.dicom import is_dicom, read_dicom
from media.sources.edf import is_edf, read_edf
from media.sources.errors import SourceError, SourceErrorCode
from media.sources.fhir import is_fhir, read_fhir
from media.sources.files import Files, Folder, unzip
from media.sources.hl7v2 import is_hl7v2, read_hl7v2
from media.sources.limits import MAX_FILE_BYTES, bounded
from media.sources.model import Recording
from media.sources.scp import is_scp, read_scp
from media.sources.wfdb import read_wfdb

_ZIP = b"PK\x03\x04"


def read(data: bytes) -> Recording:
    """A file that was uploaded.

    Args:
        data: a DICOM, EDF, SCP-ECG, aECG, FHIR or HL7 v2 file, or a ZIP of one such file or of one WFDB record.

    Raises:
        SourceError: whatever is wrong with it.
    """
    bounded(data)
    if data.startswith(_ZIP):
        return _read_zip(data)
    if (found := _read_single(data)) is not None:
        return found
    raise SourceError(SourceErrorCode.UNKNOWN_FORMAT, f"begins with {data[:8].hex()}")


def read_path(path: Path) -> Recording:
    """A file on this machine; for WFDB its header (``.hea``) or the record's path without an ending.

    Raises:
        SourceError: as `read`; also where there is no such file.
    """
    if path.suffix == ".hea" or not path.exists():
        return read_wfdb(Folder(path.parent), path.stem if path.suffix == ".hea" else path.name)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SourceError(SourceErrorCode.TOO_LARGE, path.name)
        return read(path.read_bytes())
    except OSError as error:
        raise SourceError(SourceErrorCode.FILE_MISSING, f"{path.name}: {error.strerror}") from error


def _read_single(data: bytes) -> Recording | None:
    for recognised, reader in (
        (is_dicom, read_dicom), (is_edf, read_edf), (is_scp, read_scp), (is_aecg, read_aecg), (is_fhir, read_fhir),
        (is_hl7v2, read_hl7v2),
    ):  # fmt: skip
        if recognised(data):
            return reader(data)
    return None


def _read_zip(data: bytes) -> Recording:
    files = unzip(data)
    headers = [name for name in files.names() if name.endswith(".hea")]
    if headers:
        return read_wfdb(files, _main_record(files, headers))
    names = files.names()
    if len(names) == 1 and (found := _read_single(bounded(files.read(names[0])))) is not None:
        return found
    raise SourceError(SourceErrorCode.UNKNOWN_FORMAT, f"ZIP of {len(names)} files")


def _main_record(files: Files, headers: list[str]) -> str:
    """The record that is no segment of another one.

    Raises:
        SourceError: there are several.
    """
    text = {name: files.read(name).decode("utf-8", "replace") for name in headers}
    parts = {line.split()[0] for body in text.values() for line in body.splitlines() if line.strip()}
    masters = [name for name in headers if "/" in text[name].split(None, 1)[0]] if len(headers) > 1 else headers
    if len(headers) > 1 and not masters:
        masters = headers
    segments = {part.split("/")[0] for name in masters for part in _segment_names(text[name])} & parts
    records = [name[:-4] for name in masters if name[:-4] not in segments]
    if len(records) != 1:
        raise SourceError(SourceErrorCode.UNSUPPORTED, f"{len(records)} records in one ZIP; send one")
    return records[0]


def _segment_names(text: str) -> list[str]:
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [line[0] for line in lines[1:]]
