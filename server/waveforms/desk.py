"""Every live waveform of every consult of this process: what a frame means when it arrives, and to whom it goes.

A frame comes from a tap and goes, without waiting, to the archive, to the live ring (in batches, five times a second),
to WebSocket viewers and to the heart rate. The desk sees from the numbers what is missing and asks the worker, whose
ring has it for 30 s; what the worker has no more is lost unless its source repairs it.

Streams are announced by the media plane before their first frame and go on over worker deaths: the archive is the
same as long as consult, number, format and patient are. A consult's end closes them with their hash in the audit chain.
Long because a stream's beginning, its taps and its ends are one table's.
"""

import asyncio
import contextlib
import json
import secrets
from collections import deque
from collections.abc import Callable, Container, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from media.core.control import MediaError, MediaErrorCode
from media.core.tap import EVERYTHING
from media.core.waveform import MalformedFrame, Place, peek_stream_id
from media.core.waveform.vitals import ReportedAlarm, VitalSign, read_vital
from server.clock import NowMs
from server.metrics import WAVEFORM_STREAMS, WAVEFORM_TAP
from server.storage.consult_store import SqlConsultStore
from server.storage.database import Database
from server.waveforms import rows
from server.waveforms.archive import Archive, OpenStream
from server.waveforms.blobs import BlobCode, BlobError, BlobStore
from server.waveforms.core.stream import StreamInfo, live_info
from server.waveforms.ring import LiveRing, RingUnavailable
from server.waveforms.tap import Call, TapConnection, Tapped, Taps
from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.model import VitalsStream, WaveformStream

log = structlog.get_logger(__name__)

RING_EVERY_S: Final = 0.2
ROWS_EVERY_S: Final = 5.0
ASK_AGAIN_S: Final = 1.0
"""How long an answer of the worker may take before it is asked again, and pause before a tap is opened again."""
ASK_TIMES: Final = 3
RECENT: Final = 256
"""Frames that wait for the ring or the heart rate; both are served several times a second."""
VITALS_WAITING: Final = 20_000
SEAL_EVERY_S: Final = 30.0
"""What could not be sealed at the end of its consult (disk full, database down) is tried again."""
IDLE_STREAMS: Final = 16
"""Of one consult, that send no more and may come back; the oldest beyond it are let go."""


@dataclass(slots=True, eq=False)
class LiveStream:
    """One stream that a device sends, or sent a moment ago and may go on with."""

    info: StreamInfo
    open: OpenStream
    producer: str
    owner: str = ""
    """The device."""
    live: bool = True
    """Its DataProducer is there."""
    tap: TapConnection | None = None
    """Where it comes from."""
    for_ring: deque[tuple[Place, bytes]] = field(default_factory=lambda: deque(maxlen=RECENT))
    for_heart: deque[bytes] = field(default_factory=lambda: deque(maxlen=RECENT))
    asked: dict[tuple[int, int], tuple[float, int]] = field(default_factory=dict)
    """Ranges the worker was asked for: when, and how often."""
    context_version: int = 0
    """Of the newest frame."""
    versions: set[int] = field(default_factory=set)
    """Contexts it was announced under: frames of any other are not this patient's (W19, W20). Empty: nobody knew."""
    least_version: int = 0
    """Frames of an earlier context are another patient's: they were on their way as this one was announced."""

    @property
    def last_us(self) -> int:
        """Server time after the newest sample."""
        return self.open.state.last_us


@dataclass(slots=True, eq=False)
class _Vitals:
    stream: VitalsStream
    consult: str
    context_version: int | None


Viewer = Callable[[StreamInfo, bytes], None]
"""Takes a live frame of a consult; must not wait."""
VitalsViewer = Callable[[VitalsStream, bytes], None]


@dataclass(frozen=True, slots=True)
class Watching:
    """One WebSocket's place at the desk."""

    frame: Viewer
    vital: VitalsViewer


class WaveformDesk:
    """See the module.

    Args:
        blobs: where frames are kept for good.
        ring: the last quarter of an hour.
    """

    def __init__(self, database: Database, blobs: BlobStore, ring: LiveRing, now_ms: NowMs) -> None:
        self.database = database
        self.ring = ring
        self.now_ms = now_ms
        self.archive = Archive(blobs, ring, self._archive_trouble)
        self.taps = Taps(self)
        self._streams: dict[tuple[str, int], LiveStream] = {}
        self._vitals: dict[tuple[str, str], _Vitals] = {}
        self._vital_rows: deque[dict[str, Any]] = deque(maxlen=VITALS_WAITING)
        self._announcing: set[tuple[str, int]] = set()
        """Streams that a device is about to send."""
        self._calls: dict[Tapped, Call] = {}
        self._watching: dict[str, dict[Watching, None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._ring_down = False
        self._feeding, self._writing, self._sealing = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()

    # ------------------------------------------------------------- life

    async def start(self) -> None:
        """Listen for workers; close what an earlier process left open of consults that have ended."""
        await self.taps.start()
        self.archive.start()
        self._loops = [
            asyncio.create_task(self._every(RING_EVERY_S, self._feed_ring), name="waveform-ring"),
            asyncio.create_task(self._every(ROWS_EVERY_S, self.write_rows), name="waveform-rows"),
            asyncio.create_task(self._every(SEAL_EVERY_S, self.close_ended), name="waveform-seals"),
        ]
        self._spawn(self.close_ended(), "waveform-left-open")

    async def stop(self) -> None:
        """Write what waits; idempotent. Streams stay open: their consults may go on in the next process."""
        tasks = [*self._loops, *self._tasks]
        self._loops = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.taps.stop()
        if tasks:
            await self._feed_ring()
            with contextlib.suppress(SQLAlchemyError, OSError):
                await self.write_rows()
        await self.archive.stop()
        await self.ring.close()

    # ------------------------------------------------------------- what the media plane says

    async def announce(
        self, consult: str, worker: int, call: Call, stream: WaveformStream, owner: str = ""
    ) -> int | None:
        """A device is about to send a waveform from this worker: its archive and its tap are there when it does.

        `begun` or `not_begun` follows.

        Args:
            owner: the device.

        Returns:
            The context version that its frames must carry; None when it is not known.

        Raises:
            MediaError: ``exists``, another device sends or is about to send a stream of this number.
            SQLAlchemyError: the database cannot be used; nothing was announced.
        """
        key = (consult, stream.stream_id)
        live = self._streams.get(key)
        if key in self._announcing or (live is not None and live.live and live.owner != owner):
            raise MediaError(MediaErrorCode.EXISTS, f"stream {stream.stream_id} is another device's")
        self._announcing.add(key)  # from here to `begun` nobody else may
        try:
            return await self._announce(consult, worker, call, stream, owner)
        except BaseException:
            self._announcing.discard(key)
            raise

    async def _announce(self, consult: str, worker: int, call: Call, stream: WaveformStream, owner: str) -> int | None:
        await self._ensure_tap(Tapped(consult, worker), call)
        version = await self._bound_version(consult, owner, stream.patient)
        wanted = live_info(f"w_{secrets.token_hex(12)}", consult, stream)
        live = self._streams.get((consult, stream.stream_id))
        if live is None or live.info.wave != wanted.wave:
            live = await self._open(consult, wanted, live)
        live.owner = owner
        if version is not None:
            live.versions.add(version)
        return version

    async def _open(self, consult: str, wanted: StreamInfo, before: LiveStream | None) -> LiveStream:
        if before is not None:
            await self._retire(before)  # the number means another trace now
        info = await rows.open_archive(self.database, wanted, self.now_ms())
        made = LiveStream(info, await self.archive.open(info), producer="", live=False)
        if before is not None and before.info.patient != info.patient:
            made.least_version = before.context_version + 1
        self._streams[consult, info.stream_id] = made
        self._let_idle_go(consult, keep=made)
        WAVEFORM_STREAMS.set(sum(one.live for one in self._streams.values()))
        return made

    async def _bound_version(self, consult: str, owner: str, patient: str) -> int | None:
        """The context of the device's binding, or the open one where it has none; only of this patient."""
        state = await SqlConsultStore(self.database).load(ConsultId(consult))
        if state is None:
            return None
        binding = state.bindings.get(ParticipantId(owner))
        if binding is not None:
            return binding.context_version if binding.patient == patient else None
        context = state.context
        return context.version if context is not None and context.patient.id == patient else None

    def begun(self, consult: str, stream_id: int, producer: str) -> None:
        """The stream's DataProducer is there."""
        self._announcing.discard((consult, stream_id))
        live = self._streams.get((consult, stream_id))
        if live is not None:
            live.producer, live.live = producer, True

    def not_begun(self, consult: str, stream_id: int) -> None:
        """It was announced and will not come; idempotent."""
        self._announcing.discard((consult, stream_id))

    async def announce_vitals(
        self, consult: str, worker: int, call: Call, patient: str = "", owner: str = ""
    ) -> int | None:
        """A device is about to send vital signs from this worker; the context version that they must carry."""
        await self._ensure_tap(Tapped(consult, worker), call)
        return await self._bound_version(consult, owner, patient)

    def vitals_begun(
        self, consult: str, producer: str, stream: VitalsStream, context_version: int | None = None
    ) -> None:
        """Their DataProducer is there."""
        self._vitals[consult, producer] = _Vitals(stream, consult, context_version)

    def sources(self, consult: str, producers: Container[str]) -> None:
        """DataProducers that the consult still has; the others' streams are over or will be announced anew."""
        for live in self.streams(consult):
            if live.live and live.producer not in producers:
                live.live = False
        for key in [key for key in self._vitals if key[0] == consult and key[1] not in producers]:
            del self._vitals[key]

    def ended(self, consult: str) -> None:
        """The consult's media is closed; when the consult has ended its streams are closed for good."""
        self.sources(consult, ())
        for of in [of for of in self._calls if of.consult == consult]:
            del self._calls[of]
        self._spawn(self._close_consult(consult), f"waveform-close-{consult}")

    def worker_died(self, worker: int) -> None:
        """What it had is in the ring and the archive as far as it came."""
        for of in [of for of in self._calls if of.worker == worker]:
            del self._calls[of]

    # ------------------------------------------------------------- for others

    def streams(self, consult: str) -> list[LiveStream]:
        """Streams of a consult that are or were live in this process."""
        return [live for (of, _), live in self._streams.items() if of == consult]

    def stream(self, consult: str, stream_id: int) -> LiveStream | None:
        """One of them."""
        return self._streams.get((consult, stream_id))

    @property
    def all_streams(self) -> list[LiveStream]:
        """Of all consults."""
        return list(self._streams.values())

    def watch(self, consult: str, viewer: Watching) -> None:
        """Pass on what arrives from now on."""
        self._watching.setdefault(consult, {})[viewer] = None

    def unwatch(self, consult: str, viewer: Watching) -> None:
        """No more; idempotent."""
        watching = self._watching.get(consult)
        if watching is not None:
            watching.pop(viewer, None)
            if not watching:
                del self._watching[consult]

    async def close_ended(self, consult: str | None = None) -> None:
        """Give every stream of ended consults its end: hash, counts, audit entry. Safe to repeat."""
        async with self._sealing:
            async with self.database.read() as session:
                found = await rows.left_open(session, consult)
            for one in found:
                if self._in_use(one.info.archive):
                    continue  # its last frames are still to be taken in
                stream = await self.archive.open(one.info)
                if one.summary.frames and stream.recovered and not stream.state.frames:
                    # Another node's, or its folder is not where it was: its hash is not that of nothing.
                    log.error("waveform archive is not here", archive=one.info.archive)
                    await self.archive.release(stream, partial(self._in_use, one.info.archive))
                    continue
                await self._close(stream)

    # ------------------------------------------------------------- what taps bring

    def tapped_frame(self, source: TapConnection, frame: bytes, again: bool) -> None:
        """One frame."""
        assert source.of is not None
        stream_id = peek_stream_id(frame)
        live = self._streams.get((source.of.consult, stream_id))
        if live is None:
            WAVEFORM_TAP.labels("unknown_stream").inc()
            return
        version = int.from_bytes(frame[12:16], "little")
        if version < live.least_version or (live.versions and version not in live.versions):
            WAVEFORM_TAP.labels("other_context").inc()
            return
        live.tap = source
        before = live.open.state.current
        place = self.archive.put(live.open, frame)
        if place is None:
            return
        live.for_ring.append((place, frame))
        live.for_heart.append(frame)
        if place == live.open.state.current:
            live.context_version = version
            if not again and place.epoch == before.epoch and 0 <= before.seq < place.seq - 1:
                self._ask(live, before.seq + 1, place.seq - 1)
        for viewer in self._watching.get(source.of.consult, ()):
            viewer.frame(live.info, frame)

    def tapped_message(self, source: TapConnection, producer: str, message: bytes) -> None:
        """One vital sign."""
        assert source.of is not None
        vitals = self._vitals.get((source.of.consult, producer))
        if vitals is None:
            WAVEFORM_TAP.labels("unknown_vitals").inc()
            return
        try:
            value = read_vital(message)
        except MalformedFrame:
            WAVEFORM_TAP.labels("malformed_vital").inc()
            return
        if vitals.context_version not in (None, value.context_version):
            WAVEFORM_TAP.labels("other_context").inc()
            return
        if len(self._vital_rows) == VITALS_WAITING:
            WAVEFORM_TAP.labels("vitals_dropped").inc()
        self._vital_rows.append(_vital_row(source.of.consult, vitals.stream, value))
        for viewer in self._watching.get(source.of.consult, ()):
            viewer.vital(vitals.stream, message)

    def tapped_gone(self, source: TapConnection, stream_id: int, first: int, last: int) -> None:
        """Asked for in vain: only its source can still repair it."""
        assert source.of is not None
        live = self._streams.get((source.of.consult, stream_id))
        if live is not None:
            for asked in [one for one in live.asked if first <= one[0] and one[1] <= last]:
                del live.asked[asked]
        WAVEFORM_TAP.labels("gone").inc(last - first + 1)

    def tapped_dropped(self, source: TapConnection, count: int) -> None:
        """The worker's queue ran over: of every stream there what is new is asked for."""
        assert source.of is not None
        WAVEFORM_TAP.labels("dropped").inc(count)
        self._catch_up(source)

    def tap_ended(self, source: TapConnection) -> None:
        """Open it again while its worker lives."""
        of = source.of
        assert of is not None
        for live in self.streams(of.consult):
            if live.tap is source:
                live.tap = None
        if of in self._calls:
            self._spawn(self._tap_again(of), f"waveform-tap-{of.consult}")

    # ------------------------------------------------------------- taps

    async def _ensure_tap(self, of: Tapped, call: Call) -> None:
        self._calls[of] = call
        try:
            await self.taps.ensure(of, call)
        except MediaError as problem:
            # the frames wait in the worker's ring until the tap is there
            log.warning("no tap", consult=of.consult, worker=of.worker, code=problem.code.value)
            self._spawn(self._tap_again(of), f"waveform-tap-{of.consult}")

    async def _tap_again(self, of: Tapped) -> None:
        while (call := self._calls.get(of)) is not None and self.taps.connection(of) is None:
            await asyncio.sleep(ASK_AGAIN_S)
            try:
                await self.taps.ensure(of, call)
            except MediaError:
                continue
            await asyncio.sleep(0)
            if (source := self.taps.connection(of)) is not None:
                WAVEFORM_TAP.labels("reopened").inc()
                self._catch_up(source)

    def _catch_up(self, source: TapConnection) -> None:
        """Ask for what this tap's streams may have missed: holes, and all after the newest."""
        assert source.of is not None
        for live in self.streams(source.of.consult):
            if not live.live or live.tap not in (None, source):
                continue
            newest = live.open.state.current.seq
            for first, last in live.open.state.missing(max(0, newest - 3000), newest):
                source.ask(live.info.stream_id, first, last)
            source.ask(live.info.stream_id, newest + 1, EVERYTHING)

    def _ask(self, live: LiveStream, first: int, last: int) -> None:
        """Once now, and again with the next look at the ring as long as nothing is heard."""
        if live.tap is not None:
            live.asked[first, last] = (asyncio.get_running_loop().time(), 1)
            live.tap.ask(live.info.stream_id, first, last)
            while len(live.asked) > RECENT:
                del live.asked[next(iter(live.asked))]

    def _ask_again(self, live: LiveStream, now_s: float) -> None:
        for (first, last), (at_s, times) in list(live.asked.items()):
            missing = live.open.state.missing(first, last)
            if not missing or times >= ASK_TIMES or live.tap is None:
                del live.asked[first, last]
            elif now_s - at_s > ASK_AGAIN_S:
                live.asked[first, last] = (now_s, times + 1)
                for a, b in missing:
                    live.tap.ask(live.info.stream_id, a, b)

    # ------------------------------------------------------------- at intervals

    async def _every(self, period_s: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(period_s)
            try:
                await work()
            except (SQLAlchemyError, OSError) as problem:
                log.warning("waveform work put off", work=work.__name__, reason=type(problem).__name__)
            except Exception:  # a bug met by one stream must not end this for all
                log.exception("waveform work broke", work=work.__name__)

    async def _feed_ring(self) -> None:
        async with self._feeding:
            await self._feed_all()

    async def _feed_all(self) -> None:
        now_ms, now_s = self.now_ms(), asyncio.get_running_loop().time()
        for live in list(self._streams.values()):
            if live.asked:
                self._ask_again(live, now_s)
            if not live.for_ring:
                continue
            batch = list(live.for_ring)
            try:
                await self.ring.append(live.info.archive, batch, now_ms)
            except RingUnavailable as problem:
                if not self._ring_down:
                    self._ring_down = True
                    log.error("live ring unavailable", reason=str(problem))
                WAVEFORM_TAP.labels("ring_unavailable").inc(len(batch))
                return  # what waits is kept up to its bound
            self._ring_down = False
            given = {place for place, _ in batch}
            while live.for_ring and live.for_ring[0][0] in given:
                live.for_ring.popleft()

    async def write_rows(self) -> None:
        """Counts of streams and vital signs that wait, into the database; each vital sign once, whoever calls."""
        async with self._writing:
            await self._write_rows()

    async def _write_rows(self) -> None:
        progress = [(live.info.archive, live.open.state.summary) for live in self._streams.values() if live.live]
        if progress:
            await rows.note_progress(self.database, progress)
        if self._vital_rows:
            values = list(self._vital_rows)
            await rows.add_vitals(self.database, values)
            for value in values:
                if self._vital_rows and self._vital_rows[0] is value:  # else it gave way to a newer one meanwhile
                    self._vital_rows.popleft()
        WAVEFORM_STREAMS.set(sum(one.live for one in self._streams.values()))

    # ------------------------------------------------------------- ends

    async def _close_consult(self, consult: str) -> None:
        released: list[LiveStream] = []
        for key in [key for key in self._streams if key[0] == consult]:
            live = self._streams[key]
            if not live.live:
                await self._feed_ring()
                if self._streams.get(key) is live and not live.live:  # else somebody came back
                    del self._streams[key]
                    released.append(live)
        try:
            await rows.note_progress(self.database, [(one.info.archive, one.open.state.summary) for one in released])
            await self.write_rows()
            await self.close_ended(consult)
        finally:
            for live in released:  # of a consult that everybody has left and that has not ended
                await self._release(live)

    def _in_use(self, archive: str) -> bool:
        return any(live.info.archive == archive for live in self._streams.values())

    async def _release(self, live: LiveStream) -> None:
        await self.archive.release(live.open, partial(self._in_use, live.info.archive))

    def _let_idle_go(self, consult: str, keep: LiveStream) -> None:
        """A device that comes back under ever new numbers costs rows, not memory."""
        idle = [one for one in self.streams(consult) if not one.live and one is not keep]
        for live in idle[: max(0, len(idle) - IDLE_STREAMS)]:
            del self._streams[consult, live.info.stream_id]
            self._spawn(self._release(live), f"waveform-release-{live.info.archive}")

    async def _retire(self, live: LiveStream) -> None:
        """The device sends something else under this number now."""
        self._streams.pop((live.info.consult, live.info.stream_id), None)
        await self._close(live.open)

    async def _close(self, stream: OpenStream) -> None:
        closed = await self.archive.close(stream)
        if closed is None:
            log.error("waveform archive not closed yet", archive=stream.info.archive)
            return
        digest, summary = closed
        await rows.close_archive(self.database, stream.info, summary, digest, self.now_ms())
        with contextlib.suppress(RingUnavailable):
            await self.ring.forget(stream.info.archive)
        log.info("waveform archived", archive=stream.info.archive, frames=summary.frames, lost=summary.lost)

    def _archive_trouble(self, info: StreamInfo, code: BlobCode | None) -> None:
        """Said by the log, the metric and every list of the stream."""
        log.warning("waveform archive trouble", consult=info.consult, archive=info.archive, code=code)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, SQLAlchemyError | OSError | BlobError):
            log.warning("waveform work failed", task=task.get_name(), reason=type(error).__name__)
        else:
            log.error("waveform work broke", task=task.get_name(), exc_info=error)


def _vital_row(consult: str, stream: VitalsStream, value: VitalSign | ReportedAlarm) -> dict[str, Any]:
    content: Any
    if isinstance(value, ReportedAlarm):
        code, unit, quality, content = "alarm", "", "ok", {"text": value.text, "priority": value.priority}
    else:
        code, unit, quality, content = value.code, value.unit, value.quality, value.value
    return {
        "consult_id": consult,
        "patient_id": stream.patient,
        "device": stream.device,
        "context_version": value.context_version,
        "code": code,
        "value": json.dumps(content, ensure_ascii=False),
        "unit": unit,
        "at_us": value.at_us,
        "quality": quality,
        "simulated": stream.simulated,
    }
