"""Where archived frames lie: named runs of bytes that only grow at their end.

One adapter, a folder. Everything here blocks and is called from the archive's own thread. Names are made by the
archive from random ids, never from what a peer sent.
"""

import errno
import os
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class BlobCode(StrEnum):
    """Why bytes could not be kept or read."""

    NO_SPACE = "no_space"
    IO = "io"


class BlobError(Exception):
    """The store cannot do it now; nothing was changed."""

    def __init__(self, code: BlobCode, text: str) -> None:
        super().__init__(f"{code.value}: {text}")
        self.code = code


class BlobStore(Protocol):
    """Named runs of bytes."""

    def append(self, name: str, at: int, data: bytes) -> None:
        """Write ``data`` at the end, which is at ``at``: what a broken write left beyond it is cut first.

        Raises:
            BlobError: the run ends where it ended.
        """

    def sync(self, name: str) -> None:
        """What was appended survives a power cut when this returns.

        Raises:
            BlobError: it may not.
        """

    def read(self, name: str, at: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``at``.

        Raises:
            BlobError: no such run, or it cannot be read.
        """

    def names(self, folder: str) -> dict[str, int]:
        """Names of the runs below a folder with their sizes; empty when there are none."""

    def remove(self, folder: str) -> None:
        """Forget all below a folder; idempotent."""


class FolderBlobs:
    """Runs of bytes as files below one folder of mode 0700."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def append(self, name: str, at: int, data: bytes) -> None:
        """Write at the end."""
        path = self.root / name
        try:
            handle = self._open(path)
            try:
                if os.fstat(handle).st_size != at:
                    os.ftruncate(handle, at)
                self._write(handle, at, data)
            finally:
                os.close(handle)
        except OSError as problem:
            raise _typed(problem) from problem

    def sync(self, name: str) -> None:
        """To the disk, the name included."""
        try:
            for path in (self.root / name, (self.root / name).parent):
                handle = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        except OSError as problem:
            raise _typed(problem) from problem

    def read(self, name: str, at: int, size: int) -> bytes:
        """From the file."""
        try:
            with (self.root / name).open("rb") as file:
                file.seek(at)
                return file.read(size)
        except OSError as problem:
            raise _typed(problem) from problem

    def names(self, folder: str) -> dict[str, int]:
        """Files directly in the folder."""
        path = self.root / folder
        try:
            return {f"{folder}/{one.name}": one.stat().st_size for one in sorted(path.iterdir()) if one.is_file()}
        except FileNotFoundError:
            return {}
        except OSError as problem:
            raise _typed(problem) from problem

    def remove(self, folder: str) -> None:
        """With everything in it."""
        shutil.rmtree(self.root / folder, ignore_errors=True)

    def _open(self, path: Path) -> int:
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)

    def _write(self, handle: int, at: int, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(handle, data[done:], at + done)
        except OSError:
            os.ftruncate(handle, at)
            raise


def _typed(problem: OSError) -> BlobError:
    full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
    return BlobError(BlobCode.NO_SPACE if full else BlobCode.IO, problem.strerror or type(problem).__name__)
