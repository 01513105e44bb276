"""Live waveforms that a monitor's system sends as HL7 v2 ORU, on their way to the bedside program of this machine.

A live signal does not cross the lock: the lock promises everything, in order, once; a monitor's screen needs what is
now. Waveforms have a way out of their own, the bedside program (`server.bedside`, ``consilium bedside --source
hl7:FOLDER``), which dials out as the gateway does and holds the rules of the bed: nothing is sent before somebody
there confirmed two identifiers (W20), and a device that says it has another patient is stopped (W22). What the gateway
adds is the inside of that way: it takes the messages over MLLP and lays the pieces into the folder of their stream.

The folder is in memory (tmpfs): pieces are never on a disk in clear. A piece is answered AA when it lies there, and is
gone after `KEEP_S` to twice that, when nobody could look at it live any more, or with the gateway. A message goes to
the stream that the configuration gives its bed or device, or nowhere.
"""

import asyncio
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from server.gateway.hl7v2.convert import check_header, header_of
from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused
from server.gateway.hl7v2.message import Message

KEEP_S: Final = 60.0
MAX_PIECES: Final = 1_000
"""Of one stream, whatever their age."""
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_WAVEFORM: Final = frozenset({"NA", "MA"})

RoutedBy = Literal["MSH-3", "PV1-3", "OBX-18"]
"""What tells streams apart, as it is sent: the sending system, the bed, or the device."""


def is_waveform(message: Message) -> bool:
    """Whether a result holds samples."""
    return any(obx.v(2).upper() in _WAVEFORM for obx in message.named("OBX"))


def is_in_memory(folder: Path, mounts: str) -> bool:
    """Whether a folder is on a file system that has no disk.

    Args:
        mounts: as in ``/proc/self/mounts``.
    """
    place, found = os.path.realpath(folder), ("", "")
    for line in mounts.splitlines():
        _device, point, kind, *_ = [*line.split(" "), "", "", ""]
        point = point.replace("\\040", " ")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(found[0]):
            found = point, kind
    return found[1] in _IN_MEMORY


@dataclass(frozen=True, kw_only=True, slots=True)
class WaveformRoutes:
    """Where which waveforms go."""

    folder: Path
    by: RoutedBy
    streams: Mapping[str, str]
    """Value of the field as it is sent -> name of a folder in ``folder``."""


@dataclass(slots=True)
class _Stream:
    """Pieces that lie in one folder: (when, path)."""

    pieces: deque[tuple[float, Path]] = field(default_factory=deque)


class WaveformSpool:
    """See the module.

    Args:
        now_s: a monotonic clock.
    """

    def __init__(self, routes: WaveformRoutes, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._routes, self._now_s = routes, now_s
        self._streams: dict[str, _Stream] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(time.time_ns())

    def prepare(self) -> None:
        """Make the folders, empty.

        Raises:
            OSError: they cannot be made.
        """
        for name in set(self._routes.streams.values()):
            folder = self._routes.folder / name
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in folder.glob("*.hl7"):
                left.unlink(missing_ok=True)
            self._streams[name] = _Stream()

    async def keep(self) -> None:
        """Take pieces away that are past, until cancelled; then all of them."""
        try:
            while True:
                await asyncio.sleep(KEEP_S)
                await asyncio.to_thread(self.expire)
        finally:
            for stream in self._streams.values():
                while stream.pieces:
                    stream.pieces.popleft()[1].unlink(missing_ok=True)

    def expire(self) -> None:
        """Take away what is past."""
        for stream in list(self._streams.values()):
            self._trim(stream.pieces, MAX_PIECES)

    def _trim(self, pieces: deque[tuple[float, Path]], most: int) -> None:
        with self._lock:
            while pieces and (self._now_s() - pieces[0][0] > KEEP_S or len(pieces) > most):
                pieces.popleft()[1].unlink(missing_ok=True)

    async def take(self, message: Message, body: bytes) -> None:
        """Lay one message into the folder of its stream.

        Raises:
            Hl7Refused: ``value`` for a bed or device that has no stream, ``test_patient`` for what MSH-11 calls a test,
                ``unavailable`` when there is no room; as `check_header` else.
        """
        header = header_of(message)
        check_header(header, message.seen)
        if header.processing_id in ("T", "D"):  # nobody could tell it from a person's on the screen (W9)
            raise Hl7Refused(Hl7Code.TEST_PATIENT, "MSH-11")
        name = self._routes.streams.get(self._said(message))
        if name is None:
            raise Hl7Refused(Hl7Code.VALUE, self._routes.by)
        try:
            await asyncio.to_thread(self._lay, name, body)
        except OSError:
            raise Hl7Refused(Hl7Code.UNAVAILABLE) from None

    def _said(self, message: Message) -> str:
        segment, _, number = self._routes.by.partition("-")
        said = {one.raw(int(number)).strip() for one in message.named(segment)} - {""}
        return said.pop() if len(said) == 1 else ""

    def _lay(self, name: str, body: bytes) -> None:
        pieces = self._streams[name].pieces
        self._trim(pieces, MAX_PIECES - 1)
        path = self._routes.folder / name / f"{next(self._numbers):020d}.hl7"
        draft = path.with_suffix(".draft")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(body)
        draft.rename(path)
        pieces.append((self._now_s(), path))
