"""A device in a consult: bound, announced, sent, and healed, for hours.

Two loops that never wait for each other. One reads the source as long as it lives, whatever the network does. The other
stands in the consult (`client.perform`): it keeps the hub's clock, binds or waits to be bound (W20), opens the
channels and closes them when the binding is over. What is measured while a path is being rebuilt is kept 30 s and sent
behind the live frames; what is measured without a binding is dropped.

Who binds, and what happens when it is over, is the caller's `Bedside`.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgpack
import structlog

from media.sources import Block, LiveSource, PatientReport, SourceError, SourceErrorCode, Vital
from server.bedside.client import Assignment, DataIn, DataOut, Lost, Media, Refused, Signalling, perform, running
from server.bedside.clock import HubClock
from server.bedside.stream import OutStream
from signaling.core import messages as m
from signaling.core.errors import ErrorCode
from signaling.core.ids import DataProducerId
from signaling.core.model import Binding, Context, Mismatch, UnboundReason, VitalsStream

log = structlog.get_logger(__name__)

CTL: Final = DataProducerId("ctl")
FIRST_PINGS, FIRST_PING_S, PING_S = 5, 0.2, 5.0
PONG_US: Final = 2_000_000
PINGS_OPEN: Final = 8
"""Questions that may still be answered."""
WORD_S: Final = 5.0
"""How much later than the end of the channel the hub's word for it may come."""
SYNC_S: Final = 3.0
"""Frames wait so long for the hub's clock; later they go out and say that their time is our own."""
FULL_BYTES: Final = 16_384
"""Of unsent frames: a path that is this far behind loses live frames; they are sent again when it has room."""
RESEND_ROOM_BYTES: Final = 4_096
RESENDS: Final = 12
"""Frames sent again with each live one: 30 s are made up for in a few."""
REPORT_EVERY_US: Final = 60_000_000
REOPEN_S: Final = (0.5, 1.0, 2.0, 5.0)
"""Pauses before a source that was lost is opened again; the last one goes on."""
VITAL_KEEP_US: Final = 60_000_000


class Bedside(Protocol):
    """The people at the bed, as far as the program needs them."""

    async def identifiers(self, context: Context) -> tuple[str, str] | None:
        """Two identifiers read at the bed, now that this patient is open; None: somebody else will bind."""

    def refused(self, code: ErrorCode) -> bool:
        """The binding was refused; True stops the program."""

    def unbound(self, reason: UnboundReason | None, mismatch: Mismatch | None) -> bool:
        """The binding is over (None: while the hub could not be reached); True stops the program."""


def now_us() -> int:
    """The clock of live sources."""
    return time.monotonic_ns() // 1000


class _Stop(Exception):
    """The bedside said that it is enough."""


@dataclass
class _Open:
    """Channels of one binding on one Transport."""

    binding: Binding
    clock: HubClock
    ecg: list[DataOut] = field(default_factory=list)
    vitals: DataOut | None = None


class Station:
    """One source in one consult.

    Args:
        streams: one for each format of ``source.open()``, which was called before.
        say: told, in a sentence in two languages, what a person should know.
    """

    def __init__(
        self, source: LiveSource, streams: list[OutStream], bedside: Bedside, say: Callable[[str], None]
    ) -> None:
        self._source, self._streams, self._bedside, self._say = source, streams, bedside, say
        self._clock = HubClock()
        self._binding: Binding | None = None
        """The last one known; while the hub cannot be reached it is taken to hold."""
        self._open: _Open | None = None
        self._broken = asyncio.Event()
        self._synced = asyncio.Event()
        self._reported: str | None = None
        self._report_news = asyncio.Event()
        self._vitals: dict[str, Vital] = {}
        self._told_us = 0
        self.sent_frames = 0
        self.resent_frames = 0

    async def run(self, assignment: Assignment, refused: Callable[[str], bool] = lambda _code: False) -> None:
        """Send until the consult is ended or the bedside says stop.

        Raises:
            SourceError: the source cannot be opened again in the shape it had.
        """
        async with (
            running(self._read()) as reading,
            running(perform(assignment, self._perform, refused)) as performing,
        ):
            await asyncio.wait({reading, performing}, return_when=asyncio.FIRST_COMPLETED)
            with contextlib.suppress(_Stop):
                for task in (reading, performing):
                    if task.done():
                        task.result()

    # ------------------------------------------------------------ the source

    async def _read(self) -> None:
        attempt = 0
        while True:
            try:
                async for number, item in self._source.items():
                    attempt = 0
                    self._take(number, item)
                return
            except SourceError as error:
                if error.code is not SourceErrorCode.LOST:
                    raise
                log.warning("source lost", detail=error.detail)
                self._say(f"{error.zh} {error.en}")
            await self._source.close()
            await asyncio.sleep(REOPEN_S[min(attempt, len(REOPEN_S) - 1)])
            attempt += 1
            try:
                await self._reopen()
            except SourceError as error:
                if error.code not in (SourceErrorCode.LOST, SourceErrorCode.NOT_FOUND):
                    raise

    async def _reopen(self) -> None:
        formats = await self._source.open()
        if [f.leads for f in formats] != [s.source.leads for s in self._streams] or any(
            (f.sample_rate_mhz, f.lsb_nv) != (s.source.sample_rate_mhz, s.source.lsb_nv)
            for f, s in zip(formats, self._streams, strict=True)
        ):
            raise SourceError(SourceErrorCode.UNSUPPORTED, "the device came back with other leads, rate or scale")

    def _take(self, number: int, item: Block | Vital | PatientReport) -> None:
        match item:
            case Block():
                self._block(self._streams[number], number, item)
            case Vital():
                self._vital(item)
            case PatientReport():
                if item.id != self._reported:
                    self._reported = item.id
                    self._report_news.set()

    def _block(self, stream: OutStream, number: int, block: Block) -> None:
        binding = self._binding
        if binding is None:
            stream.drop(block)
            return
        message = stream.frame(block, self._clock, time.time_ns() // 1000 - now_us(), binding.context_version)
        self._tell(stream)
        channels = self._open
        if channels is None or channels.binding != binding:
            return
        try:
            channel = channels.ecg[number]
            if channel.send(message, room_bytes=FULL_BYTES):
                self.sent_frames += 1
            else:
                stream.missed(stream.writer.seq - 1)
            self._send_again(stream, channel)
        except Lost:
            self._broken.set()

    def _send_again(self, stream: OutStream, channel: DataOut) -> None:
        if stream.waiting and channel.producer.bufferedAmount < RESEND_ROOM_BYTES:
            for frame in stream.resends(RESENDS):
                channel.send(frame)
                self.resent_frames += 1

    def _vital(self, vital: Vital) -> None:
        if self._binding is None:
            return
        self._vitals[vital.code] = vital
        channels = self._open
        if channels is not None and channels.vitals is not None and channels.binding == self._binding:
            self._send_vital(channels, vital)

    def _send_vital(self, channels: _Open, vital: Vital) -> None:
        if not self._clock.synced or channels.vitals is None:
            return  # a number without a known time is not shown (W8)
        message = {
            "t": "vital",
            "cv": channels.binding.context_version,
            "code": vital.code,
            "v": list(vital.value) if isinstance(vital.value, tuple) else vital.value,
            "u": vital.unit,
            "at": vital.at_us + self._clock.offset_at(vital.at_us),
            "q": vital.quality,
            "sim": self._streams[0].source.simulated,
        }
        try:
            channels.vitals.send(msgpack.packb(message))
        except Lost:
            self._broken.set()

    def _tell(self, stream: OutStream) -> None:
        """Clock corrections at once, drift once a minute, into the log. (W16)"""
        while stream.corrections:
            made = stream.corrections.popleft()
            log.warning(
                "device clock corrected, a new session begins",
                stream=stream.stream_id,
                reason=made.reason,
                by_ms=round(made.by_us / 1000, 1),
                device_ppm=round(made.drift_ppm, 1),
            )
        at_us = now_us()
        if at_us - self._told_us >= REPORT_EVERY_US and self._clock.synced:
            self._told_us = at_us
            log.info(
                "device clock",
                offset_ms=round(self._clock.offset_us / 1000, 3),
                error_ms=round(self._clock.error_us / 1000, 3),
                hub_ppm=round(self._clock.drift_ppm, 1),
                device_ppm=round(stream.samples.ppm, 1),
            )

    # ------------------------------------------------------------ the consult

    async def _perform(self, signalling: Signalling, media: Media) -> None:
        clock = HubClock()  # media made anew may be another process, with a clock of its own
        self._synced.clear()
        ctl_out = await media.produce_data("ctl", reliable=True)
        ctl_in = await media.consume_data(CTL)
        sent: deque[int] = deque(maxlen=PINGS_OPEN)
        async with (
            running(_ping(ctl_out, sent)) as pinging,
            running(self._hear(ctl_in, sent, clock)) as hearing,
            running(self._report(signalling)) as reporting,
            running(self._stay_bound(signalling, media, clock)) as playing,
        ):
            tasks = (pinging, hearing, reporting, playing)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()

    async def _hear(self, ctl_in: DataIn, sent: deque[int], clock: HubClock) -> None:
        """What the hub says on the control channel: its time, and what it lacks; runs until cancelled."""
        while True:
            raw = await ctl_in.messages.get()
            received_us = now_us()
            match _control(raw):
                case {"t": "pong", "c": int(sent_us), "s": int(hub_us)} if (
                    sent_us in sent and received_us - sent_us < PONG_US
                ):
                    sent.remove(sent_us)
                    clock.add(sent_us, received_us, hub_us)
                    self._synced.set()
                case {"t": "nack", "stream": int(stream_id), "first": int(first), "last": int(last)}:
                    self._asked(stream_id, first, last)

    def _asked(self, stream_id: int, first: int, last: int) -> None:
        """Send again what the hub lacks: the path lost more than the frame appended to the next one mends. [WF18]"""
        channels = self._open
        for number, stream in enumerate(self._streams):
            if stream.stream_id != stream_id or channels is None or channels.binding != self._binding:
                continue
            stream.asked(first, last)
            with contextlib.suppress(Lost):  # whoever sends the next block finds out too
                self._send_again(stream, channels.ecg[number])

    async def _report(self, signalling: Signalling) -> None:
        """Tell the hub whose patient the device says it has, at once and at each change (W22); runs until cancelled."""
        while True:
            self._report_news.clear()
            if self._reported is not None:
                await signalling.ask(m.ReportPatient(reported=self._reported[:100]), m.Done)
            await self._report_news.wait()

    async def _stay_bound(self, signalling: Signalling, media: Media, clock: HubClock) -> None:
        while True:
            binding = await self._bound(signalling)
            if binding != self._binding:
                self._let_go()
            async with self._channels(media, binding, clock):
                self._binding = binding
                if await self._until_over(signalling, binding):
                    continue
            await self._over(signalling)

    async def _bound(self, signalling: Signalling) -> Binding:
        """The binding, once there is one: by the bedside, or by somebody in the consult. [BI1] (W20)"""
        asked: int | None = None
        while (binding := signalling.binding) is None:
            if self._binding is not None:  # it ended while we were away
                await self._over(signalling)
            context = signalling.context
            if context is not None and context.version not in (asked, signalling.let_go):
                asked = context.version
                await self._bind(signalling, context)
                continue  # others clear the event too: look again before waiting for it
            signalling.changed.clear()
            await signalling.changed.wait()
        return binding

    async def _bind(self, signalling: Signalling, context: Context) -> None:
        async with running(self._bedside.identifiers(context)) as asking:
            # Whoever is asked may take minutes; meanwhile somebody else may bind, or another patient be opened.
            while not asking.done() and signalling.binding is None and signalling.context == context:
                async with running(signalling.changed.wait()) as changed:
                    await asyncio.wait({asking, changed}, return_when=asyncio.FIRST_COMPLETED)
                signalling.changed.clear()
            identifiers = asking.result() if asking.done() else None
        if identifiers is None:
            return
        assert signalling.you is not None, "joined"
        command = m.BindDevice(
            device=signalling.you,
            patient=context.patient.id,
            context_version=context.version,
            confirmed=identifiers,
        )
        try:
            await signalling.ask(command, m.Done)
        except Refused as refusal:
            log.warning("binding refused", refusal=refusal.code)
            with contextlib.suppress(ValueError):
                if self._bedside.refused(ErrorCode(refusal.code)):
                    raise _Stop from None

    @contextlib.asynccontextmanager
    async def _channels(self, media: Media, binding: Binding, clock: HubClock) -> AsyncIterator[None]:
        """Open what the binding allows, and hand it to the reader for the length of the block."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SYNC_S):
                await self._synced.wait()
        opened = _Open(binding, clock)
        source = self._streams[0].source
        try:
            for stream in self._streams:
                opened.ecg.append(
                    await media.produce_data("ecg", reliable=False, waveform=stream.announcement(binding.patient))
                )
            if source.reports_vitals:
                vitals = VitalsStream(
                    device=source.device[:100] or "?", simulated=source.simulated, patient=binding.patient
                )
                opened.vitals = await media.produce_data("vitals", reliable=True, vitals=vitals)
            if clock is not self._clock:
                self._clock = clock
                for stream in self._streams:
                    stream.clock_changed()
            self._broken.clear()
            # Only now: what was measured while the channels were opening was missed too.
            for stream in self._streams:
                stream.missed()
            self._open = opened
            self._send_kept(opened)
            yield
        finally:
            self._open = None
            for channel in (*opened.ecg, *([opened.vitals] if opened.vitals else [])):
                with contextlib.suppress(Exception):  # the library's ends of a dead path
                    await channel.close()

    def _send_kept(self, channels: _Open) -> None:
        """The newest of each number that a break may have swallowed: a cuff measures every few minutes only."""
        for vital in self._vitals.values():
            if now_us() - vital.at_us < VITAL_KEEP_US or vital.code == "NIBP":
                self._send_vital(channels, vital)

    async def _until_over(self, signalling: Signalling, binding: Binding) -> bool:
        """Wait until the binding is not the one it was; True when another took its place.

        Raises:
            Lost: the path broke by itself.
        """
        while (now := signalling.binding) == binding or _is_carried(binding, now):
            if now is not None and now != binding and self._open is not None:
                binding = self._binding = self._open.binding = now
            async with running(self._broken.wait()) as broken, running(signalling.changed.wait()) as changed:
                await asyncio.wait({broken, changed}, return_when=asyncio.FIRST_COMPLETED)
                if broken.done():
                    await self._word(signalling, binding)
            signalling.changed.clear()
        return signalling.binding is not None

    async def _word(self, signalling: Signalling, binding: Binding) -> None:
        """A channel closed: the hub closes it with the binding and says so after it.

        Raises:
            Lost: it said nothing, so the channel broke by itself.
        """
        try:
            async with asyncio.timeout(WORD_S):
                while signalling.binding == binding:
                    signalling.changed.clear()
                    await signalling.changed.wait()
        except TimeoutError:
            raise Lost("data channel closed") from None

    async def _over(self, signalling: Signalling) -> None:
        """The binding is over: keep nothing of it, and ask whether to stay.

        Raises:
            _Stop: no.
        """
        self._let_go()
        event, mismatch = signalling.unbound, signalling.mismatch
        reason = None if event is None else event.reason
        log.warning("binding over", reason=reason)
        if self._bedside.unbound(reason, None if mismatch is None else mismatch.mismatch):
            raise _Stop

    def _let_go(self) -> None:
        self._binding = None
        self._vitals.clear()
        for stream in self._streams:
            stream.forget()


def _is_carried(before: Binding, now: Binding | None) -> bool:
    """The same binding under another context version: something else of the patient was opened. [AN2]"""
    if now is None:
        return False
    return before != now and before == now.model_copy(update={"context_version": before.context_version})


async def _ping(ctl_out: DataOut, sent: deque[int]) -> None:
    """Ask for the hub's clock again and again; runs until cancelled."""
    count = 0
    while True:
        sent.append(now_us())
        ctl_out.send(msgpack.packb({"t": "ping", "c": sent[-1]}))
        count += 1
        await asyncio.sleep(FIRST_PING_S if count < FIRST_PINGS else PING_S)


def _control(raw: bytes) -> dict[str, object]:
    """A control message of the hub; empty for what is none."""
    try:
        fields = msgpack.unpackb(raw)
    except (ValueError, msgpack.UnpackException):
        return {}
    return fields if isinstance(fields, dict) else {}
