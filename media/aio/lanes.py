"""Lanes as packets come in: what belongs to which, who is let in where, and sending what was gathered.

A packet of a layer is offered to the lanes that viewers follow. A lane that leaves it out closes
its numbering over it. A packet that is an entrance (a key frame, or a frame after which another number of
temporal layers can be decoded) lets in those who wait: what was gathered before it is sent first, so that a
viewer who changes lanes gets every packet from exactly one of them.

Who should follow which lane is ``steering``; encrypting and sending is ``forward``.
"""

from collections.abc import Callable
from typing import NamedTuple

from media.aio.counters import Counters
from media.aio.forward import Forwarder
from media.aio.intake import FailedBurst, Intake
from media.aio.objects import Consumer, InboundStream, Producer
from media.aio.steering import Steering
from media.core.ortc import RED_PAYLOAD_TYPE
from media.core.receive import MAX_DROPOUT
from media.core.rewriter import Position
from media.core.router import EVERY_TEMPORAL, Lane, Packet, Picture, Source
from media.core.serial import MASK_32
from media.core.shape import PacketShape, is_entrance, takes

PICTURE_CYCLE = 1 << 15
_new = tuple.__new__
"""A named tuple without a call in Python."""


class Arrived(NamedTuple):
    """One media packet, whole and new."""

    extended: int
    """Sequence number of its stream that never wraps."""
    timestamp: int
    marker: int
    extensions: list[tuple[int, bytes]]
    payload: bytes
    shape: PacketShape
    whole: bytes | None = None
    """The payload for lanes of RED; None where the sound is not sent so, and for pictures."""


class Lanes:
    """The lanes of all Producers of one worker."""

    def __init__(self, forwarder: Forwarder, counters: Counters, steering: Steering) -> None:
        self._forwarder = forwarder
        self._counters = counters
        self._steering = steering
        self._gathered: list[tuple[Producer, Lane[Consumer]]] = []
        self._aside: list[tuple[Producer, Lane[Consumer], list[Packet]]] = []
        self.intake: Intake | None = None
        self.on_enter: Callable[[Consumer, int], None] | None = None
        """Told of a Consumer whose numbering begins, and when."""
        forwarder.on_lost = self._lose

    def offer(self, stream: InboundStream, arrived: Arrived, now_us: int) -> None:
        """A packet of a layer that somebody follows."""
        shape, highest = arrived.shape, stream.receive.highest
        lanes = stream.layer.lanes
        for lane in lanes:
            source = lane.source
            if source is not None and (  # _is_over
                source.ssrc != stream.ssrc or not 0 <= highest - source.newest <= MAX_DROPOUT
            ):
                self._renew(stream, now_us)  # its viewers may wait in lanes that are made only now
                break
        for lane in list(lanes) if shape.first else lanes:
            source = lane.source
            if source is None:
                source = lane.source = Source(stream.ssrc, newest=highest)
            source.newest = highest
            if lane.waiting and shape.first:
                self._let_in(lane, source, stream, arrived, now_us)
            if (
                (shape.spatial <= lane.spatial and shape.temporal <= lane.temporal)
                if shape.wanted is None
                else takes(shape, lane.spatial, lane.temporal)
            ):
                self._take(lane, source, stream.producer, arrived)
            else:
                self._leave_out(lane, source, stream.producer, arrived)

    def skip(self, lane: Lane[Consumer], stream: InboundStream, extended: int, now_us: int) -> None:
        """The newest packet of a layer is padding: viewers get no hole for it."""
        source = lane.source
        if source is None or _is_over(source, stream):
            return  # with its next packet it begins anew
        source.newest = stream.receive.highest
        source.numbers.drop(extended)

    def flush(self, now_us: int) -> None:
        """Send everything that was gathered."""
        gathered, self._gathered = self._gathered, []
        for producer, lane in gathered:
            try:
                self._flush(producer, lane, now_us)
                if self.intake is not None:
                    self.intake.arm(producer, lane)
            except Exception:  # a bug met by one lane must not keep what the others have gathered
                self._counters.broke("flush_errors")

    def put_aside(self) -> None:
        """What is gathered by now has still to be sent; what is gathered up to `sent` has not."""
        self._aside = [(producer, lane, lane.burst) for producer, lane in self._gathered]
        for _, lane in self._gathered:
            lane.burst = []
        self._gathered = []

    def sent(self, failed: FailedBurst | None, now_us: int) -> None:
        """What was gathered has left already (``intake``): it only counts as handed out.

        Args:
            failed: of one lane the last burst has left in part.
        """
        gathered = [(lane, lane.burst) for _, lane in self._gathered]
        for lane, _ in gathered:
            lane.burst = []
        for _, lane, burst in self._aside:
            lane.burst = burst
        self._gathered, self._aside = [(producer, lane) for producer, lane, _ in self._aside], []
        last: list[Packet] = []
        for lane, burst in gathered:
            if failed is not None and lane is failed.lane:
                burst, last = burst[: -failed.packets], burst[-failed.packets :]
            if lane.source is not None:
                lane.source.handed_out(burst)
        self._forwarder.collect()
        if failed is not None and failed.lane.source is not None:
            source, payload_type = failed.lane.source, failed.producer.payload_type
            for consumer in self._forwarder.resume(failed, source, last, payload_type, now_us):
                self._lose(consumer, now_us)
            self._forwarder.collect()

    # ------------------------------------------------------------- numbering

    def _take(self, lane: Lane[Consumer], source: Source, producer: Producer, arrived: Arrived) -> None:
        number = source.numbers.number(arrived.extended)
        if number is None:
            self._counters.add("rtp_too_late")
            return
        shape, payload, marker = arrived.shape, arrived.payload, arrived.marker
        if shape.key:
            source.key_timestamp = arrived.timestamp
        picture = shape.picture
        if picture is not None and lane.temporal != EVERY_TEMPORAL:
            picture, payload = _closed_up(source, picture, payload)
        if lane.redundant and arrived.whole is not None:
            payload = arrived.whole
        if shape.last and shape.spatial == lane.spatial:
            marker = 0x80  # the picture ends here for those who get no larger layer
        packet = _new(Packet, (number, arrived.timestamp, marker, arrived.extensions, payload, picture))
        self._gather(producer, lane, source, packet)

    def _leave_out(self, lane: Lane[Consumer], source: Source, producer: Producer, arrived: Arrived) -> None:
        picture = arrived.shape.picture
        if picture is not None and picture.wide:
            extended = _extend_picture(source, picture)
            if extended > source.picture:
                source.picture = extended
                source.pictures.drop(extended)
        if arrived.extended == source.newest:
            source.numbers.drop(arrived.extended)
            return
        number = source.numbers.number(arrived.extended)
        if number is not None:  # viewers have been given a hole for it: fill it with nothing
            self._gather(producer, lane, source, Packet(number, arrived.timestamp, 0, [], b""))

    def _gather(self, producer: Producer, lane: Lane[Consumer], source: Source, packet: Packet) -> None:
        source.history.put(packet)
        if not lane.burst:
            self._gathered.append((producer, lane))
        lane.burst.append(packet)

    def _renew(self, stream: InboundStream, now_us: int) -> None:
        """Another SSRC or another numbering feeds the layer: who follows it goes on with its first key frame."""
        for lane in list(stream.layer.lanes):
            source = lane.source
            if source is None or not _is_over(source, stream):
                continue
            self._flush(stream.producer, lane, now_us)
            lane.source = None
            for consumer in [c for group in lane.live.values() for c in group]:
                consumer.numbers.stop(source.end(), now_us // 1000)
                self._steering.restart(consumer, now_us)

    # ------------------------------------------------------------- entrances

    def _let_in(
        self, lane: Lane[Consumer], source: Source, stream: InboundStream, arrived: Arrived, now_us: int
    ) -> None:
        shape = arrived.shape
        entering = [c for c in lane.waiting if is_entrance(shape, lane.spatial, lane.temporal, _present(c, stream))]
        if not entering:
            return
        number = source.numbers.number(arrived.extended)
        if number is None:
            return
        for old in {id(c.lane): c.lane for c in entering if c.lane is not None}.values():
            self._flush(stream.producer, old, now_us)
        picture, tl0 = -1, -1
        if shape.picture is not None:
            numbered = shape.picture
            if lane.temporal != EVERY_TEMPORAL:
                numbered, _ = _closed_up(source, numbered, arrived.payload)
            picture, tl0 = numbered.number, numbered.tl0
        at = Position(number, arrived.timestamp, picture, tl0)
        for consumer in entering:
            if consumer.entrance is lane:  # it may have been stopped by the flush
                self._enter(consumer, lane, stream, at, now_us)

    def _enter(
        self, consumer: Consumer, lane: Lane[Consumer], stream: InboundStream, at: Position, now_us: int
    ) -> None:
        old, shift = consumer.lane, None
        if old is not None and old.source is not None:
            shift = _time_line(consumer, old, stream, at.timestamp)
            consumer.numbers.stop(old.source.end(), now_us // 1000)
        rate_hz = consumer.producer.parameters.clock_rate_hz
        consumer.numbers.start(stream.ssrc, at, now_us // 1000, rate_hz, shift, lane.source)
        lane.let_in(consumer)
        self._counters.values["lanes_entered"] += 1
        self._forwarder.send_sender_report(consumer, now_us)
        if self.on_enter is not None:
            self.on_enter(consumer, now_us)
        self._steering.entered(consumer, now_us)

    def _flush(self, producer: Producer, lane: Lane[Consumer], now_us: int) -> None:
        payload_type = RED_PAYLOAD_TYPE if lane.redundant else producer.payload_type
        for consumer in self._forwarder.flush(lane, payload_type, now_us):
            self._lose(consumer, now_us)

    def _lose(self, consumer: Consumer, now_us: int) -> None:
        self._counters.add("consumers_skipped_to_keyframe")
        self._steering.lost(consumer, now_us)


def _is_over(source: Source, stream: InboundStream) -> bool:
    """The stream is another than what the lane was fed from, or has begun to count anew."""
    return source.ssrc != stream.ssrc or not 0 <= stream.receive.highest - source.newest <= MAX_DROPOUT


def _present(consumer: Consumer, stream: InboundStream) -> int | None:
    """Temporal limit of the lane a viewer follows, when that is fed from this very stream."""
    lane = consumer.lane
    if lane is None or lane.source is None or lane.source.ssrc != stream.ssrc:
        return None
    return lane.temporal


def _time_line(consumer: Consumer, old: Lane[Consumer], stream: InboundStream, timestamp: int) -> int | None:
    """What keeps another stream of the same publisher on a viewer's time line; None when its reports do not tell."""
    before = consumer.producer.layer_of(old).media
    if before is None or before.ssrc == stream.ssrc:
        return None
    captured_us = stream.time.time_of(timestamp)
    meant = None if captured_us is None else before.time.timestamp_at(captured_us)
    if meant is None:
        return None
    return (meant + consumer.numbers.now.timestamp_shift - timestamp) & MASK_32


def _extend_picture(source: Source, picture: Picture) -> int:
    """PictureID without its wrap."""
    if source.picture < 0:
        return picture.number + PICTURE_CYCLE
    ahead = (picture.number - source.picture + PICTURE_CYCLE // 2) % PICTURE_CYCLE - PICTURE_CYCLE // 2
    return source.picture + ahead


def _closed_up(source: Source, picture: Picture, payload: bytes) -> tuple[Picture, bytes]:
    """A picture of a lane that leaves some out, counted without them."""
    if not picture.wide:
        return picture, payload  # 7 bits wrap within seconds: such encoders have no temporal layers
    extended = _extend_picture(source, picture)
    source.picture = max(source.picture, extended)
    number = source.pictures.number(extended)
    if number is None:
        return picture, payload
    number %= PICTURE_CYCLE
    changed = bytearray(payload)
    changed[picture.at] = 0x80 | number >> 8
    changed[picture.at + 1] = number & 0xFF
    return picture._replace(number=number), bytes(changed)
