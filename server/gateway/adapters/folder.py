"""A folder into which the hospital's devices and programs write files.

A file is read once its size and time have stood still; nothing is assumed about how its writer names it, except that
names that begin with a dot or end as unfinished transfers do are left alone. After the journal has what it
became, the file moves to ``done``, or, if it can never be taken, to ``failed`` with a ``.reason.txt`` beside it. A full
journal leaves it where it is. Moving is one rename in the same folder: after a crash a file is either still there, and
what it became is known by its key, or it is done.

A subfolder is one record of several files (WFDB): it is taken as a ZIP of them.
"""

import asyncio
import errno
import io
import os
import shutil
import stat
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from server.gateway.adapters import counts
from server.gateway.adapters.bugs import where
from server.gateway.adapters.files import FileRefused, FileRules, crossings_of
from server.gateway.core.crossing import MAX_BODY_BYTES, LockRefused, Outlet
from server.gateway.hl7v2.profile import Profile

log = structlog.get_logger(__name__)

DONE: Final = "done"
FAILED: Final = "failed"
_UNFINISHED: Final = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".lock", "~")
MAX_ENTRIES: Final = 10_000
"""Looked at in one round; the rest waits."""
MAX_RECORD_FILES: Final = 500
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_TOO_LARGE: Final = FileRefused("too_large", "The file is larger than is taken.", "文件超过允许的大小。")
_NO_FILE: Final = FileRefused("not_a_file", "It is no plain file.", "不是普通文件。")


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedFolder:
    """Which folder, and how."""

    name: str
    path: Path
    rules: FileRules = field(default_factory=FileRules)
    stable_s: float = 2.0
    """How long a file must not have changed."""
    look_s: float = 1.0
    keep_done: bool = True
    """False deletes a file instead of moving it to ``done``: the hospital's copy is elsewhere."""
    max_bytes: int = MAX_BODY_BYTES


@dataclass(frozen=True, slots=True)
class _Mark:
    """What must stand still."""

    size: int
    changed_ns: int


class FolderWatch:
    """See the module; an `Adapter`.

    Args:
        now_s: a monotonic clock.
    """

    def __init__(
        self, watched: WatchedFolder, profile: Profile, *, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = watched.name
        self.rounds = 0
        """Times the folder was looked through to the end."""
        self._watched, self._profile, self._now_s = watched, profile, now_s
        self._seen: dict[str, tuple[_Mark, float]] = {}
        self._stuck: dict[str, _Mark] = {}
        """What could not be moved after it was handled."""

    async def run(self, outlet: Outlet) -> None:
        """See `Adapter`.

        Raises:
            OSError: the folder cannot be read or written.
        """
        for folder in (DONE, FAILED):
            await asyncio.to_thread((self._watched.path / folder).mkdir, mode=0o700, parents=True, exist_ok=True)
        while True:
            for name in await asyncio.to_thread(self._stable):
                if not await self._take(name, outlet):
                    break
            self.rounds += 1
            await asyncio.sleep(self._watched.look_s)

    def _stable(self) -> list[str]:
        """Names of what has stood still, oldest first."""
        now, found, present = self._now_s(), [], set()
        with os.scandir(self._watched.path) as entries:
            for number, entry in enumerate(entries):
                if number >= MAX_ENTRIES:
                    break
                if entry.name in (DONE, FAILED) or entry.name.startswith(".") or entry.name.endswith(_UNFINISHED):
                    continue
                try:
                    mark = _mark(Path(entry.path))
                except FileNotFoundError:
                    continue
                present.add(entry.name)
                known = self._seen.get(entry.name)
                if known is None or known[0] != mark:
                    self._seen[entry.name] = (mark, now)
                elif now - known[1] >= self._watched.stable_s and self._stuck.get(entry.name) != mark:
                    found.append((mark.changed_ns, entry.name))
        self._seen = {name: one for name, one in self._seen.items() if name in present}
        self._stuck = {name: mark for name, mark in self._stuck.items() if name in present}
        return [name for _changed, name in sorted(found)]

    async def _take(self, name: str, outlet: Outlet) -> bool:
        """One file; False when the journal takes nothing more for now."""
        seen: Counter[str] = Counter()
        try:
            data = await asyncio.to_thread(self._read, name)
            if data is None:
                return True
            made = await asyncio.to_thread(crossings_of, name, data, self._watched.rules, self._profile, seen)
            for crossing in made:
                receipt = await outlet.put(crossing)
                counts.TAKEN.labels(self.name, crossing.kind).inc()
                if receipt.repeated:
                    counts.REPEATED.labels(self.name).inc()
        except LockRefused as refused:
            counts.REFUSED.labels(self.name, refused.code.value).inc()
            if not refused.is_final:
                return False
            problem = FileRefused(refused.code.value, "The lock does not take it.", "闸门不接收该文件。")
        except FileRefused as refused:
            counts.REFUSED.labels(self.name, refused.code).inc()
            problem = refused
        except Exception as bug:
            log.error("file could not be handled", adapter=self.name, error=type(bug).__name__, where=where(bug))
            problem = FileRefused("internal", "The gateway failed on it.", "网关处理该文件时出错。")
        else:
            counts.tolerated(self.name, seen)
            await self._put_away(name, None)
            return True
        log.warning("file refused", adapter=self.name, reason=problem.code, place=problem.place)
        await self._put_away(name, problem)
        return True

    async def _put_away(self, name: str, problem: FileRefused | None) -> None:
        """To ``done`` or ``failed``.

        One that cannot be moved is left alone until it changes, and holds up no other; its name, which may be a
        patient's, is in no log (G8).
        """
        try:
            if problem is None:
                await asyncio.to_thread(self._done, name)
            else:
                await asyncio.to_thread(self._fail, name, problem)
        except OSError as error:
            counts.REFUSED.labels(self.name, "not_moved").inc()
            log.error("file could not be moved", adapter=self.name, reason=error.strerror)
            known = self._seen.get(name)
            if known is not None:
                self._stuck[name] = known[0]

    def _read(self, name: str) -> bytes | None:
        """Its bytes, None when it is gone or was changed meanwhile."""
        path = self._watched.path / name
        try:
            before = _mark(path)
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                data = self._zipped(path)
            elif stat.S_ISREG(mode):
                if before.size > self._watched.max_bytes:
                    raise _TOO_LARGE
                data = _bytes_of(path, self._watched.max_bytes)
            else:  # a link may lead out of the folder, a device never ends
                raise _NO_FILE
            return data if _mark(path) == before else None
        except FileNotFoundError:
            return None

    def _zipped(self, folder: Path) -> bytes:
        """The files of a record, the same bytes each time."""
        out, size = io.BytesIO(), 0
        files = sorted(one for one in folder.iterdir() if stat.S_ISREG(one.lstat().st_mode))[:MAX_RECORD_FILES]
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                size += file.stat().st_size
                if size > self._watched.max_bytes:
                    raise _TOO_LARGE
                data = _bytes_of(file, self._watched.max_bytes)
                archive.writestr(zipfile.ZipInfo(file.name, _EPOCH), data, zipfile.ZIP_DEFLATED)
        return out.getvalue()

    def _done(self, name: str) -> None:
        path = self._watched.path / name
        if self._watched.keep_done:
            _move(path, self._watched.path / DONE)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def _fail(self, name: str, problem: FileRefused) -> None:
        target = self._watched.path / FAILED
        moved = _move(self._watched.path / name, target)
        text = f"{problem.code} {problem.place}".rstrip() + f"\n{problem.en}\n{problem.zh}\n"
        (target / f"{moved}.reason.txt").write_text(text, "utf-8")


def _mark(path: Path) -> _Mark:
    """Size and time of a file, or of all files of a record."""
    own = path.lstat()
    if not stat.S_ISDIR(own.st_mode):
        return _Mark(own.st_size, own.st_mtime_ns)
    inside = [one.lstat() for one in list(path.iterdir())[:MAX_RECORD_FILES]]
    return _Mark(sum(one.st_size for one in inside), max([own.st_mtime_ns, *(one.st_mtime_ns for one in inside)]))


def _bytes_of(path: Path, limit: int) -> bytes:
    """A plain file's bytes. Opened so that a link put in its place meanwhile is not followed, nor a pipe waited for.

    Raises:
        FileRefused: it is neither plain nor small enough by now.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise _NO_FILE from None
        raise
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _NO_FILE
        data = file.read(limit + 1)
    if len(data) > limit:
        raise _TOO_LARGE
    return data


def _move(path: Path, folder: Path) -> str:
    """Rename into a folder beside it; never over what is there."""
    name, number = path.name, 0
    while os.path.lexists(folder / name):
        number += 1
        name = f"{path.stem}.{number}{path.suffix}"
    path.rename(folder / name)
    return name
