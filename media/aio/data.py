"""Data channels of one Router: waveforms, their control channel, and plain messages.

A DataProducer's label decides what its messages mean: ``ecg`` are waveform frames that the Router's
`WaveformHub` checks and keeps, ``vitals`` are numbers that a `VitalsGate` checks, ``ctl`` are a client's
requests that the hub answers on the client's own channels, everything else is copied to the DataConsumers unread.

Waveforms and vital signs of the Router's own clients are copied to the application where it has asked for them
(``tap``); those of clients on another worker are copied there.

A slow viewer must not fill memory or delay others, nor see as live what is not. Live frames are dropped for it while
more than 32 kB wait, and those that have not left within half a second are given up (an ordinary gap; the viewer asks
again over ``ctl``). What it asked for waits in a bounded backlog and leaves as its channel drains, a packet or two at a
time, so that live frames hardly wait for it.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from media.aio.clock import Clock
from media.aio.counters import Counters
from media.aio.sctp import MAX_STREAMS, ChannelPort
from media.aio.tap import DataTap
from media.aio.transport import Transport
from media.aio.turns import Turns
from media.core.control import MediaError, MediaErrorCode, WaveformSource
from media.core.ortc_transport import SctpStream
from media.core.tap import RANGE, TapKind, build_record
from media.core.waveform import StreamInUse, WaveformHub, peek_stream_id
from media.core.waveform.vitals import MalformedVital, read_vital

ECG = "ecg"
CTL = "ctl"
VITALS = "vitals"
LIVE_LIMIT_BYTES = 32_768
"""Of one viewer, whatever the frames' size."""
LIVE_LIFE_MS = 500
"""What has not left by then is late; on a line that is too slow those after it come in time for it."""
BACKLOG_LIMIT_BYTES = 2_048
"""Resent frames leave only while less than this waits: on a line that just carries live ones, less than their life."""
MESSAGE_LIMIT_BYTES = 1 << 20
"""What may wait on a channel that is not a live waveform."""
BACKLOG_FRAMES = 1024
"""One ring of a stream."""
VITALS_PER_S = 20.0
VITALS_BURST = 60.0
"""A monitor says six numbers a second and then all it has after a change."""


@dataclass(slots=True, eq=False, kw_only=True)
class DataConsumer:
    """A copy of a DataProducer, or the relay's own ``ctl``, to one client."""

    id: str
    transport: Transport
    source: "DataProducer | None"
    """None: the relay's ``ctl`` answers."""
    stream: SctpStream
    channel: ChannelPort
    resumed: bool = False
    map_due_us: int = 0
    """Of the ``ctl`` channel: when the next time maps go out (``maps``)."""
    backlog: deque[bytes] = field(default_factory=lambda: deque(maxlen=BACKLOG_FRAMES))

    @property
    def is_waveform(self) -> bool:
        """It carries live samples."""
        return self.source is not None and self.source.label == ECG


class VitalsGate:
    """Lets sound vital signs of one source through: whole, not too many, and marked simulated exactly if it is (W9)."""

    def __init__(self, simulated: bool, context_version: int | None = None) -> None:
        self.simulated = simulated
        self.context_version = context_version
        self._tokens, self._at_us = VITALS_BURST, 0

    def refusal(self, message: bytes, now_us: int) -> str | None:
        """Name of the counter of what is wrong with it, or None."""
        elapsed_us = max(0, now_us - self._at_us)
        self._tokens = min(VITALS_BURST, self._tokens + elapsed_us * VITALS_PER_S / 1e6)
        self._at_us = now_us
        if self._tokens < 1:
            return "vitals_too_many"
        self._tokens -= 1
        try:
            vital = read_vital(message)
        except MalformedVital:
            return "vitals_malformed"
        if self.context_version is not None and vital.context_version != self.context_version:
            return "vitals_other_context"  # of the patient before (W19, W20)
        return None if vital.simulated is self.simulated else "vitals_simulated_flag"


@dataclass(slots=True, eq=False, kw_only=True)
class DataProducer:
    """An SCTP stream a client sends on."""

    id: str
    transport: Transport
    label: str
    protocol: str
    stream: SctpStream
    waveform_stream: int | None
    vitals: VitalsGate | None = None
    channel: ChannelPort | None = None
    consumers: dict[str, DataConsumer] = field(default_factory=dict)


class DataPlane:
    """Data channels of one Router."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self.hub = WaveformHub()
        self._counters = counters
        self._clock = clock
        self._backlogged: set[DataConsumer] = set()
        self._lacking: set[DataProducer] = set()
        """Sources of whose frames some are missing."""
        self._ctl: dict[str, DataConsumer] = {}
        """The relay's answering channel, by owner."""
        self._ecg: dict[tuple[str, int], DataConsumer] = {}
        """Waveform channels, by owner and stream."""
        self._tap: DataTap | None = None

    def produce(self, producer: DataProducer, announced: WaveformSource | None = None) -> None:
        """Open the channel of a DataProducer.

        Raises:
            MediaError: the waveform stream or the SCTP stream id is taken.
        """
        waveform = producer.waveform_stream
        if announced is not None:
            try:
                self.hub.open_stream(announced.stream_id, announced.simulated, announced.context_version)
            except StreamInUse as error:
                raise MediaError(MediaErrorCode.EXISTS, str(error)) from error
        try:
            producer.channel = producer.transport.sctp.open_channel(
                producer.stream, producer.label, producer.protocol, lambda message: self._received(producer, message)
            )
        except ValueError as error:
            if waveform is not None:
                self.hub.close_stream(waveform)
            raise MediaError(MediaErrorCode.BAD_PARAMETERS, "the SCTP stream id is taken") from error

    def close_producer(self, producer: DataProducer) -> None:
        """Close the channel and forget the waveform stream; its DataConsumers are closed by the caller."""
        self._lacking.discard(producer)
        if producer.channel is not None:
            producer.channel.close()
        if producer.waveform_stream is not None:
            self.hub.close_stream(producer.waveform_stream)
        if producer.label == CTL:
            self.hub.close_viewer(producer.transport.owner)

    def consume(
        self, identity: str, transport: Transport, source: DataProducer | None, taken: set[int]
    ) -> DataConsumer:
        """Open a channel to a client on the first stream id not ``taken`` and not being reset; silent until resumed.

        Raises:
            MediaError: ``limit`` when the Transport has no stream id left, ``exists`` for a second ``ctl``.
        """
        if source is None and transport.owner in self._ctl:
            raise MediaError(MediaErrorCode.EXISTS, "this owner has its ctl channel already")
        sctp = transport.sctp
        free = next((n for n in range(MAX_STREAMS) if n not in taken and not sctp.takes(n)), None)
        if free is None:
            raise MediaError(MediaErrorCode.LIMIT, "no SCTP stream id is left")
        # the viewer's channel promises what the source's does; the relay's own ctl is ordered and reliable
        stream = SctpStream(free, True, None, None) if source is None else source.stream.renumbered(free)
        label, protocol = (CTL, "") if source is None else (source.label, source.protocol)
        channel = sctp.open_channel(stream, label, protocol, None)
        consumer = DataConsumer(id=identity, transport=transport, source=source, stream=stream, channel=channel)
        if source is None:
            self._ctl[transport.owner] = consumer
        else:
            source.consumers[identity] = consumer
            if source.waveform_stream is not None:
                self._ecg[transport.owner, source.waveform_stream] = consumer
        return consumer

    def close_consumer(self, consumer: DataConsumer) -> None:
        """Close the channel to a client."""
        consumer.channel.close()
        self._backlogged.discard(consumer)
        source, owner = consumer.source, consumer.transport.owner
        if source is None:
            if self._ctl.get(owner) is consumer:
                del self._ctl[owner]
            return
        source.consumers.pop(consumer.id, None)
        key = (owner, source.waveform_stream or 0)
        if self._ecg.get(key) is consumer:
            del self._ecg[key]

    def listener(self, owner: str) -> DataConsumer | None:
        """The ``ctl`` channel of an owner that hears it."""
        found = self._ctl.get(owner)
        return found if found is not None and found.resumed else None

    def listeners(self) -> list[DataConsumer]:
        """All ``ctl`` channels that are heard."""
        return [consumer for consumer in self._ctl.values() if consumer.resumed]

    @property
    def backlogged(self) -> bool:
        """Frames wait for a channel to drain, or for their source: ``tick`` is needed often."""
        return bool(self._backlogged or self._lacking)

    def tick(self) -> None:
        """Let backlogs follow where channels have drained, and ask sources again for what did not come.

        Call some 40 times a second while ``backlogged``.
        """
        for producer in list(self._lacking):
            self._ask_source(producer)
        self._drain()

    def _drain(self) -> None:
        for consumer in list(self._backlogged):
            while consumer.backlog and consumer.channel.buffered_bytes < BACKLOG_LIMIT_BYTES:
                consumer.channel.send(consumer.backlog.popleft())
            if not consumer.backlog:
                self._backlogged.discard(consumer)

    def tap(self, path: Path, key: bytes, turns: Turns) -> None:
        """Copy waveforms and vital signs to the application from now on, over a connection of their own.

        Raises:
            MediaError: ``worker_gone``, nobody listens there.
        """
        tap = DataTap(path, key, self._counters, turns, self._kept, self._tap_over)
        self.end_tap()
        self._tap = tap

    def end_tap(self) -> None:
        """Copy no more; idempotent."""
        tap, self._tap = self._tap, None
        if tap is not None:
            tap.close()

    def piped(self, producer: DataProducer, message: bytes | str) -> None:
        """One message of a client that is on another worker."""
        self._received(producer, message, own=False)

    def _tap_over(self, tap: DataTap) -> None:
        if self._tap is tap:
            self._tap = None

    def _kept(self, stream_id: int, first: int, last: int) -> Iterator[bytes]:
        """Records that answer the application, made as they leave."""
        gone: tuple[int, int] | None = None
        for seq, frame in self.hub.kept(stream_id, first, last):
            if frame is None:
                gone = (gone[0] if gone else seq, seq)
                continue
            if gone is not None:
                yield build_record(TapKind.GONE, RANGE.pack(stream_id, *gone))
                gone = None
            yield build_record(TapKind.AGAIN, frame)
        if gone is not None:
            yield build_record(TapKind.GONE, RANGE.pack(stream_id, *gone))

    def _received(self, producer: DataProducer, message: bytes | str, own: bool = True) -> None:
        """One message of a client, inside the association's receive path."""
        if producer.label != CTL:
            for tap in tuple(producer.transport.taps):
                tap.data(producer.id, message)
        self._counters.add("data_messages_received")
        if producer.label in (ECG, CTL, VITALS) and not isinstance(message, bytes):
            self._counters.add("data_text_refused")
        elif producer.waveform_stream is not None:
            assert isinstance(message, bytes)
            checked = self.hub.accept(producer.waveform_stream, message, self._clock())
            if checked is None:
                self._counters.add("waveform_refused")
            else:
                if own and self._tap is not None:
                    for frame in self.hub.fresh:
                        self._tap.put(TapKind.FRAME, frame)
                self._copy(producer, checked, LIVE_LIMIT_BYTES, LIVE_LIFE_MS)
                if own and self.hub.awaits_source(producer.waveform_stream):
                    self._ask_source(producer)
        elif producer.label == CTL:
            assert isinstance(message, bytes)
            self._answer(producer.transport.owner, message)
        elif producer.vitals is not None:
            assert isinstance(message, bytes)
            self._vital(producer, producer.vitals, message, own)
        else:
            self._copy(producer, message, MESSAGE_LIMIT_BYTES)

    def _ask_source(self, producer: DataProducer) -> None:
        """Have a source send again what has not come, over the line on which it is answered. [WF18]"""
        assert producer.waveform_stream is not None
        line = self.listener(producer.transport.owner)
        if line is None or not self.hub.awaits_source(producer.waveform_stream):
            self._lacking.discard(producer)  # where nobody listens, its next frame is soon enough to look again
            return
        self._lacking.add(producer)
        if line.channel.buffered_bytes > BACKLOG_LIMIT_BYTES:
            return
        for message in self.hub.ask_source(producer.waveform_stream, self._clock()):
            line.channel.send(message)

    def _vital(self, producer: DataProducer, gate: VitalsGate, message: bytes, own: bool) -> None:
        refusal = gate.refusal(message, self._clock())
        if refusal is not None:
            self._counters.add(refusal)
            return
        if own and self._tap is not None:
            identity = producer.id.encode()
            self._tap.put(TapKind.MESSAGE, bytes((len(identity),)) + identity + message)
        self._copy(producer, message, MESSAGE_LIMIT_BYTES)

    def _copy(self, producer: DataProducer, message: bytes | str, limit_bytes: int, life_ms: int | None = None) -> None:
        for consumer in producer.consumers.values():
            if not consumer.resumed:
                continue
            if consumer.channel.buffered_bytes > limit_bytes:
                self._counters.add("data_messages_dropped")
            elif consumer.channel.send(message, life_ms):
                self._counters.add("data_messages_sent")

    def _answer(self, owner: str, message: bytes) -> None:
        for channel, reply in self.hub.control(owner, message, self._clock()):
            if channel == CTL:
                consumer = self._ctl.get(owner)
                if consumer is None or not consumer.resumed:
                    self._counters.add("ctl_answers_without_channel")
                elif consumer.channel.buffered_bytes > MESSAGE_LIMIT_BYTES or not consumer.channel.send(reply):
                    self._counters.add("data_messages_dropped")
            else:
                self._resend(owner, reply)

    def _resend(self, owner: str, frame: bytes) -> None:
        consumer = self._ecg.get((owner, peek_stream_id(frame)))
        if consumer is None or not consumer.resumed:
            self._counters.add("resends_without_channel")
            return
        if len(consumer.backlog) == BACKLOG_FRAMES:
            self._counters.add("data_messages_dropped")
        consumer.backlog.append(frame)
        self._backlogged.add(consumer)
        if len(consumer.backlog) == 1:
            self._drain()
