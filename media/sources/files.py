"""The files of one record: a folder, or what somebody uploaded. Names inside a record never lead out of it."""

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from media.sources.errors import SourceError, SourceErrorCode
from media.sources.limits import MAX_FILE_BYTES, bounded

_NAME: Final = re.compile(r"^(?!\.)[A-Za-z0-9_.~ -]{1,80}$", re.ASCII)
MAX_FILES: Final = 2000


class Files(Protocol):
    """Where a record's files come from."""

    def names(self) -> list[str]:
        """Names of what is there."""

    def read(self, name: str) -> bytes:
        """One file.

        Raises:
            SourceError: missing, too large, or a name that leads elsewhere.
        """


def plain_name(name: str) -> str:
    """The name, if it is one of a file beside the others.

    Raises:
        SourceError: it has a path in it.
    """
    if _NAME.match(name) is None:
        raise SourceError(SourceErrorCode.UNSAFE, f"file name {name[:40]!r}")
    return name


class Folder:
    """The files beside each other in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Names of the plain files there."""
        return sorted(p.name for p in self._folder.iterdir() if p.is_file())[:MAX_FILES]

    def read(self, name: str) -> bytes:
        """See `Files`."""
        path = self._folder / plain_name(name)
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise SourceError(SourceErrorCode.TOO_LARGE, name)
            return path.read_bytes()
        except OSError as error:
            raise SourceError(SourceErrorCode.FILE_MISSING, f"{name}: {error.strerror}") from error


class Uploaded:
    """Files in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = dict(files)

    def names(self) -> list[str]:
        """See `Files`."""
        return sorted(self._files)

    def read(self, name: str) -> bytes:
        """See `Files`."""
        try:
            return self._files[plain_name(name)]
        except KeyError:
            raise SourceError(SourceErrorCode.FILE_MISSING, name) from None


def unzip(data: bytes) -> Uploaded:
    """The files of a ZIP, folders left away.

    Raises:
        SourceError: no sound ZIP, or more than may be read when unpacked.
    """
    bounded(data)
    files: dict[str, bytes] = {}
    room = MAX_FILE_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MAX_FILES:
                raise SourceError(SourceErrorCode.TOO_LARGE, f"{len(entries)} files")
            for entry in entries:
                name = plain_name(entry.filename.replace("\\", "/").rsplit("/", 1)[-1])
                with archive.open(entry) as member:  # the stated size may be a lie: read one byte more than allowed
                    content = member.read(room + 1)
                room -= len(content)
                if room < 0:
                    raise SourceError(SourceErrorCode.TOO_LARGE, "unpacked")
                files[name] = content
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(SourceErrorCode.MALFORMED, f"zip: {type(error).__name__}") from error
    return Uploaded(files)
