"""A multipart upload of one recording, taken piece by piece: few fields, a bound on everything.

A WFDB record is several files: they become one ZIP, which is how a reader takes it. What all uploads of a moment may
hold together is a `Room`.
"""

import contextlib
import io
import zipfile
from collections.abc import Iterator
from typing import Final

FIELDS: Final = frozenset({"patient", "title", "patient_checked"})
MAX_FIELD_BYTES: Final = 800
MAX_FILES: Final = 16
MAX_NAME: Final = 80


class UploadRefused(ValueError):
    """Not what may be uploaded."""

    def __init__(self, text: str, *, too_large: bool = False) -> None:
        super().__init__(text)
        self.too_large = too_large


class RoomFull(Exception):
    """All others together leave no room now."""


class Room:
    """Bytes that may be held at one time, whoever holds them.

    Args:
        most_bytes: of all.
    """

    def __init__(self, most_bytes: int) -> None:
        self.free_bytes = most_bytes

    @contextlib.contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Have so much for the length of the block.

        Raises:
            RoomFull: before anything was held.
        """
        if size > self.free_bytes:
            raise RoomFull
        self.free_bytes -= size
        try:
            yield
        finally:
            self.free_bytes += size


class Upload:
    """What has come so far."""

    def __init__(self, most_bytes: int) -> None:
        self._room = most_bytes
        self._raw: dict[str, bytearray] = {}
        self._files: dict[str, bytearray] = {}
        self._present: bytearray | None = None
        self._is_field = False

    def begin(self, name: str, filename: str | None) -> None:
        """The next part.

        Raises:
            UploadRefused: unknown, twice, or too many.
        """
        self._present = bytearray()
        self._is_field = name != "file"
        if self._is_field:
            if name not in FIELDS or name in self._raw:
                raise UploadRefused(f"field {name[:20]!r}")
            self._raw[name] = self._present
            return
        base = (filename or "").replace("\\", "/").rsplit("/", 1)[-1][:MAX_NAME] or "file"
        if base in self._files or len(self._files) >= MAX_FILES:
            raise UploadRefused("too many files, or two of one name")
        self._files[base] = self._present

    def add(self, piece: bytes) -> None:
        """More of the present part.

        Raises:
            UploadRefused: too large.
        """
        assert self._present is not None, "a part has begun"
        self._room -= len(piece)
        if self._room < 0 or (self._is_field and len(self._present) + len(piece) > MAX_FIELD_BYTES):
            raise UploadRefused("too large", too_large=True)
        self._present += piece

    @property
    def fields(self) -> dict[str, str]:
        """Text fields.

        Raises:
            UploadRefused: not UTF-8.
        """
        try:
            return {name: raw.decode() for name, raw in self._raw.items()}
        except UnicodeDecodeError:
            raise UploadRefused("text is not UTF-8") from None

    def data(self) -> bytes:
        """The recording: the one file, or all of them in a ZIP.

        Raises:
            UploadRefused: there is none.
        """
        if not self._files:
            raise UploadRefused("no file")
        if len(self._files) == 1:
            return bytes(next(iter(self._files.values())))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, content in self._files.items():
                archive.writestr(zipfile.ZipInfo(name), bytes(content))
        return buffer.getvalue()
