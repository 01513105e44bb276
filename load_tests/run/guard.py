"""What a run starts ends with it, however it ends: also when it is killed and can do nothing any more.

The kernel does it (`PR_SET_PDEATHSIG`): a child that was started with `ends_with_us` gets SIGKILL when the thread that
started it is gone, so children are started by the main thread only. Folders cannot be ended by the kernel. Each has a
file that its run keeps locked; the next run removes those that nobody locks. Mounts are made in a mount namespace of
the run's own, which goes with its last process.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

PREFIX: Final = "consilium-load-"
LOCK: Final = ".run"
_PDEATHSIG: Final = 1
_NEW_MOUNTS: Final = 0x00020000
_PRIVATE, _RECURSIVE = 1 << 18, 1 << 14
_libc = ctypes.CDLL(None, use_errno=True)


def ends_with_us() -> Callable[[], None]:
    """A ``preexec_fn``: the child is killed when this process is gone."""
    parent = os.getpid()

    def promise() -> None:
        _libc.prctl(_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # gone before the promise
            os._exit(1)

    return promise


class RunFolder:
    """A temporary folder of this run; what dead runs have left is removed on the way."""

    def __init__(self) -> None:
        sweep()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock: IO[bytes] = (self.path / LOCK).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """With everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def sweep() -> None:
    """Remove folders whose runs are dead."""
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError), lock.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


def mount_small(folder: Path, size_mb: int) -> None:
    """Put a file system of this size at a folder, for this process and its children only.

    Raises:
        OSError: this process may not mount, or the machine has no tmpfs.
    """
    if _libc.unshare(_NEW_MOUNTS) or _libc.mount(b"none", b"/", None, _PRIVATE | _RECURSIVE, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = f"size={size_mb}m,mode=0700".encode()
    if _libc.mount(b"none", str(folder).encode(), b"tmpfs", 0, options):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def unmount(folder: Path) -> None:
    """Undo `mount_small`; what is not mounted is left alone."""
    if folder.is_mount():
        _libc.umount2(str(folder).encode(), 2)


def command_of(name: str) -> str | None:
    """A program of the system, also of those that are in no path of ordinary users."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


def end(process: subprocess.Popen[bytes], within_s: float) -> None:
    """Ask a child to end, then end it."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(within_s)
    if process.poll() is None:
        process.kill()
    process.wait()


def write_step(file: Path, step_s: float) -> None:
    """Tell processes that were started with `load_tests/run/stepped` how far their wall clock is off."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(handle, round(step_s * 1e9).to_bytes(8, "little", signed=True), 0)
    finally:
        os.close(handle)
