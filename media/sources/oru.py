"""A folder into which a device gateway writes HL7 v2 ORU messages, read as a live source.

Each file is one message: waveforms (which come in pieces of seconds), vital signs, and the patient id the device has.
The folder is looked at twice a second; a file is read once its size stands still and is then left where it is.

What a piece does not cover between two pieces is a hole. The messages carry the device's wall clock: it is related to
this machine's by the quickest of the last pieces (the one that was delayed least).
"""

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from media.core.waveform import StreamFormat
from media.sources.errors import SourceError, SourceErrorCode
from media.sources.hl7v2 import read_hl7v2
from media.sources.limits import MAX_TEXT_BYTES
from media.sources.model import LiveFormat, LiveItem, PatientReport, Recording, Strip

LOOK_S: Final = 0.5
FIRST_S: Final = 60.0
"""How long `OruFolder.open` waits for the first message."""
SILENCE_S: Final = 60.0
REMEMBERED: Final = 10_000
DELAYS: Final = 20


class OruFolder:
    """See the module.

    Args:
        errors: told of a file that cannot be read; it is passed over.
    """

    def __init__(self, folder: Path, *, errors: Callable[[str, SourceError], None], first_s: float = FIRST_S) -> None:
        self._folder, self._errors, self._first_s = folder, errors, first_s
        self._seen: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._sizes: dict[str, tuple[int, int]] = {}
        self._format: LiveFormat | None = None
        self._waiting: deque[Recording] = deque()
        self._ages_us: deque[int] = deque(maxlen=DELAYS)
        self._end_us: int | None = None
        self._patient = ""

    async def open(self) -> tuple[LiveFormat, ...]:
        """See `LiveSource`; waits for the first message with a waveform, which says what leads there are."""
        if not self._folder.is_dir():
            raise SourceError(SourceErrorCode.NOT_FOUND, str(self._folder))
        for name in await asyncio.to_thread(self._names):
            with contextlib.suppress(OSError):
                self._remember(name)  # what lies there already is the past
        deadline = time.monotonic() + self._first_s
        while time.monotonic() < deadline:
            for recording in await asyncio.to_thread(self._new):
                self._waiting.append(recording)
                if recording.strips:
                    self._format = _format(recording)
            if self._format is not None:
                return (self._format,)
            await asyncio.sleep(LOOK_S)
        raise SourceError(SourceErrorCode.NOT_FOUND, f"no waveform in {self._folder.name} for {self._first_s:g} s")

    async def items(self) -> AsyncIterator[tuple[int, LiveItem]]:
        """See `LiveSource`."""
        if self._format is None:
            raise SourceError(SourceErrorCode.LOST, "not open")
        heard = time.monotonic()
        while True:
            while self._waiting:
                heard = time.monotonic()
                for item in self._pieces(self._waiting.popleft()):
                    yield 0, item
            if time.monotonic() - heard > SILENCE_S:
                raise SourceError(SourceErrorCode.LOST, "no message for a minute")
            self._waiting.extend(await asyncio.to_thread(self._new))
            if not self._waiting:
                await asyncio.sleep(LOOK_S)

    async def close(self) -> None:
        """See `LiveSource`."""
        self._format, self._end_us = None, None
        self._waiting.clear()

    def _names(self) -> list[str]:
        try:
            names = [path.name for path in self._folder.iterdir()]
        except OSError as error:
            raise SourceError(SourceErrorCode.LOST, f"{self._folder.name}: {error.strerror}") from None
        return sorted(name for name in names if name.lower().endswith((".hl7", ".oru", ".txt")))

    def _remember(self, name: str) -> None:
        stat = (self._folder / name).stat()
        self._seen[name] = (stat.st_size, stat.st_mtime_ns)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _new(self) -> list[Recording]:
        """Messages in files that are new and no longer grow."""
        found = []
        for name in self._names():
            path = self._folder / name
            try:
                stat = path.stat()
                mark = (stat.st_size, stat.st_mtime_ns)
                if self._seen.get(name) == mark:
                    continue
                if self._sizes.get(name) != mark:  # look once more
                    self._sizes[name] = mark
                    continue
                self._sizes.pop(name, None)
                self._remember(name)
                if stat.st_size > MAX_TEXT_BYTES:
                    raise SourceError(SourceErrorCode.TOO_LARGE, name)
                found.append(read_hl7v2(path.read_bytes()))
            except SourceError as error:
                self._errors(name, error)
            except OSError:
                continue  # gone again
        return found

    def _pieces(self, recording: Recording) -> Iterator[LiveItem]:
        for identifier in recording.patient.ids[:1]:
            if identifier != self._patient:
                self._patient = identifier
                yield PatientReport(id=identifier)
        if recording.strips and recording.start_us is not None:
            self._ages_us.append(time.monotonic_ns() // 1000 - (recording.start_us + recording.strips[0].duration_us))
        if not self._ages_us:
            return
        to_ours_us = min(self._ages_us)
        for vital in recording.vitals:
            yield replace(vital, at_us=vital.at_us + to_ours_us)
        for strip in recording.strips[:1]:
            yield from self._blocks(strip, recording.start_us, to_ours_us)

    def _blocks(self, strip: Strip, start_us: int | None, to_ours_us: int) -> Iterator[LiveItem]:
        known = self._format
        assert known is not None, "open"
        if start_us is None or _shape(known) != (strip.names, strip.sample_rate_mhz, strip.lsb_nv):
            raise SourceError(SourceErrorCode.LOST, "the device changed its leads, rate or scale")
        rate = strip.sample_rate_mhz
        skipped = 0 if self._end_us is None else round((start_us - self._end_us) * rate / 1e9)
        restart = self._end_us is None or skipped < 0
        self._end_us = start_us + strip.duration_us
        for block in strip.blocks(known.block_samples):
            yield replace(
                block,
                captured_us=block.captured_us + start_us + to_ours_us,
                skipped=0 if restart else block.skipped + skipped,
                restart=restart,
            )
            restart, skipped = False, 0


def _format(recording: Recording) -> LiveFormat:
    strip = recording.strips[0]
    stream = StreamFormat(
        stream_id=1, leads=len(strip.leads), sample_rate_mhz=strip.sample_rate_mhz, lsb_nv=strip.lsb_nv,
        simulated=False,
    )  # fmt: skip
    return LiveFormat(
        leads=strip.names,
        sample_rate_mhz=strip.sample_rate_mhz,
        lsb_nv=strip.lsb_nv,
        device=recording.device or "HL7 v2",
        filter=recording.filter,
        block_samples=stream.block_samples,
        reports_vitals=True,
    )


def _shape(known: LiveFormat) -> tuple[tuple[str, ...], int, int]:
    return known.leads, known.sample_rate_mhz, known.lsb_nv
