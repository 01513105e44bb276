"""The packets in: decrypt in place, find the stream, count, gather for forwarding.

Runs once per datagram of an authenticated peer, so it reads the packet where the socket left it and
copies only the payload. RTX is unwrapped, duplicates and padding end here. What is to be forwarded
waits in the bursts of its lanes (``lanes``) until the read batch is over (``flush``), so that a run of packets
leaves in one call per viewer. Nothing here waits.

RTCP is handed to ``feedback``; laying out and sending is ``forward``.
"""

from collections.abc import Sequence
from itertools import repeat
from operator import itemgetter
from struct import error as StructError

from media.aio.aiortc_port import (
    SRTP_OK,
    SRTP_REPLAYED,
    NativeBuffer,
    new_length,
    srtp_unprotect,
    srtp_unprotect_rtcp,
)
from media.aio.counters import Counters
from media.aio.feedback import Feedback
from media.aio.lanes import Arrived, Lanes
from media.aio.objects import InboundStream, Layer, Producer
from media.aio.transport import TAPPED_RTCP, TAPPED_RTP, Transport
from media.core import codecs, ortc, rtp
from media.core.capture import CaptureTime
from media.core.dependency import DependencyReader, MalformedDescriptor
from media.core.receive import FRESH_AFTER_GAP, ReceiveStream
from media.core.red import Forms, MalformedRed, forms, wrapped
from media.core.router import Picture
from media.core.sender_report import SourceTime
from media.core.serial import HALF_16, MASK_16
from media.core.shape import SOUND, PacketShape, described, read_shape

MIN_SRTP_BYTES = 22
"""Fixed header and the shortest tag."""
MAX_STREAMS_PER_TRANSPORT = 64
"""SSRCs one client may have in use."""
MAX_HEARD_SSRCS = 256
"""SSRCs libsrtp may hold a context for, per client; beyond it those that are not in use are forgotten."""


Ahead = tuple[int, ...]
"""An entry of the log of ``intake``, its fields in order."""
_new = tuple.__new__
"""A named tuple without a call in Python."""
_COUNTER, _TIME = itemgetter(9), itemgetter(4)


class Ingress:
    """Receives SRTP and SRTCP of all Transports of one worker."""

    def __init__(self, buffer: NativeBuffer, counters: Counters, feedback: Feedback, lanes: Lanes) -> None:
        self._data = buffer.data
        self._view = buffer.view
        self._pointer = buffer.pointer
        self._counters = counters
        self._feedback = feedback
        self._lanes = lanes
        self._length = new_length()

    def srtp(self, transport: Transport, offset: int, size: int, now_us: int) -> None:
        """One datagram whose first byte says SRTP, from a Transport that has keys."""
        if transport.leg.intake is not None:
            transport.leg.intake.disarm()  # it came another way than what is sent ahead
        if size < MIN_SRTP_BYTES:
            self._counters.add("rtp_malformed")
            return
        length = self._length
        length[0] = size
        is_rtcp = 192 <= self._data[offset + 1] <= 223  # rtp.is_rtcp
        unprotect = srtp_unprotect_rtcp if is_rtcp else srtp_unprotect
        status = unprotect(transport.leg.rx, self._pointer + offset, length)
        if status != SRTP_OK:
            self._counters.add("srtp_replayed" if status in SRTP_REPLAYED else "srtp_refused")
            return
        self.decrypted(transport, offset, offset + length[0], now_us, is_rtcp)

    def decrypted(self, transport: Transport, offset: int, end: int, now_us: int, is_rtcp: bool) -> None:
        """One packet in the receive buffer, whole and authentic."""
        if transport.taps:
            for tap in tuple(transport.taps):  # one that breaks takes itself out
                tap.offer(TAPPED_RTCP if is_rtcp else TAPPED_RTP, bytes(self._view[offset:end]))
        if is_rtcp:
            self._hear(transport, int.from_bytes(self._view[offset + 4 : offset + 8], "big"))
            self._feedback.received(transport, bytes(self._view[offset:end]), now_us)
            return
        try:
            self._rtp(transport, offset, end, now_us)
        except (rtp.MalformedPacket, StructError):
            self._counters.add("rtp_malformed")

    def book(self, transport: Transport, ahead: Sequence[Ahead]) -> None:
        """Packets of one stream, in order, that were sent ahead and are plain (``intake``).

        Notes what `_rtp`, `_media` and ``lanes`` would; transport-wide numbers the caller notes (`arrived`). Column by
        column, since at a consult's rates this is most of what a packet costs in Python.
        """
        (_, ats, ends, _, times_us, numbers, ssrcs, timestamps, payload_ats, _, picture_ats, tl0_ats, picture_numbers,
         tl0s, markers, wides, temporals, keys, _) = zip(*ahead, strict=True)  # fmt: skip
        stream = transport.streams[ssrcs[0]]
        receive, layer, view = stream.receive, stream.layer, self._view
        source = layer.lanes[0].source
        count, extended = len(numbers), receive.highest + 1
        assert source is not None
        assert source.numbers.number(extended) == numbers[0] > source.highest
        receive.advance_all(timestamps, sum(ends) - sum(ats) - rtp.FIXED_HEADER_BYTES * count, times_us)
        self._counters.values["rtp_received"] += count
        stream.time.on_packets(timestamps, times_us)
        pictures: Sequence[tuple[int, bool, int, int, int] | None] = (None,) * count
        if stream.producer.is_audio:
            source.key_timestamp = timestamps[-1]
        else:
            if any(temporals):
                for temporal, start, end, now_us in zip(temporals, payload_ats, ends, times_us, strict=True):
                    layer.meter.add(layer.index, temporal, end - start, now_us)
            else:
                layer.meter.add(layer.index, 0, sum(ends) - sum(payload_ats), times_us[-1])
            if min(picture_ats) >= 0 and min(tl0_ats) >= 0:
                every = list(zip(picture_ats, map(bool, wides), picture_numbers, tl0_ats, tl0s, strict=True))
                pictures, source.highest_picture = every, _new(Picture, every[-1])
            elif max(picture_ats) >= 0:
                pictures = [
                    (at, wide != 0, number, tl0_at, tl0 if tl0_at >= 0 else -1) if at >= 0 else None
                    for at, wide, number, tl0_at, tl0 in zip(
                        picture_ats, wides, picture_numbers, tl0_ats, tl0s, strict=True
                    )
                ]
                source.highest_picture = _new(Picture, next(filter(None, reversed(pictures))))
            if any(keys):
                for at in [at for at, key in enumerate(keys) if key]:
                    self._key_frame(stream, extended + at, payload_ats[at], ends[at])
                    source.key_timestamp = timestamps[at]
        source.newest = extended + count - 1
        payloads = map(bytes, map(view.__getitem__, map(slice, payload_ats, ends)))
        rows = zip(numbers, timestamps, markers, repeat((), count), payloads, pictures, strict=True)
        source.history.put_all(numbers[0], list(rows))
        source.highest, source.highest_timestamp = numbers[-1], timestamps[-1]

    def arrived(self, transport: Transport, ahead: Sequence[Ahead]) -> None:
        """The transport-wide numbers of packets that are booked, of all streams and in order."""
        numbers, times_us = tuple(map(_COUNTER, ahead)), tuple(map(_TIME, ahead))
        if min(numbers) >= 0:
            transport.arrivals.record_all(numbers, times_us)
            return
        for number, time_us in zip(numbers, times_us, strict=True):
            if number >= 0:
                transport.arrivals.record(number, time_us)

    def settle(self, transport: Transport, now_us: int) -> None:
        """Calm feedback of this viewer was taken in by ``intake``."""
        self._feedback.settle(transport, now_us)

    def used(self, transport: Transport, ahead: Ahead) -> None:
        """Booking a packet that was sent ahead broke: whatever broke, its number is the viewers' now."""
        now_us, number, ssrc, timestamp = ahead[4:8]
        stream = transport.streams.get(ssrc)
        for lane in [] if stream is None else stream.layer.lanes:
            source = lane.source
            if source is None or stream is None or source.ssrc != ssrc:
                continue
            receive = stream.receive
            if source.numbers.number(receive.highest + 1) == number:
                receive.advance(receive.highest + 1, timestamp, 0, now_us)
            source.newest = receive.highest
            if number > source.highest:
                source.highest, source.highest_timestamp = number, timestamp

    def piped(self, transport: Transport, offset: int, end: int, now_us: int) -> None:
        """One packet of a publisher on another worker, decrypted there."""
        try:
            self._rtp(transport, offset, end, now_us)
        except (rtp.MalformedPacket, StructError):
            self._counters.add("rtp_malformed")

    def flush(self, now_us: int) -> None:
        """The read batch is over: send what it brought."""
        self._lanes.flush(now_us)

    def _hear(self, transport: Transport, ssrc: int) -> None:
        """libsrtp has authenticated this SSRC and keeps a context for it: bound how many."""
        heard = transport.heard
        if ssrc in heard:
            return
        if len(heard) >= MAX_HEARD_SSRCS and transport.leg.srtp is not None:
            for idle in heard - transport.streams.keys():
                transport.leg.srtp.forget_inbound(idle)
                heard.discard(idle)
        heard.add(ssrc)

    def _rtp(self, transport: Transport, offset: int, end: int, now_us: int) -> None:
        data = self._data
        first, second, seq, timestamp, ssrc = rtp.HEADER.unpack_from(data, offset)
        position = offset + rtp.FIXED_HEADER_BYTES + 4 * (first & 15)
        size = end - position
        elements: list[rtp.Extension] = []
        if first & 0x10:
            elements, position = rtp.read_extensions(data, position, end)
        if first & 0x20:
            end -= data[end - 1]
        if position > end:
            raise rtp.MalformedPacket
        twcc_id = transport.twcc_id
        if twcc_id:  # before anything else: the publisher counts what is not reported as lost (ORTC traps 6, 10)
            for identifier, at, count in elements:
                if identifier == twcc_id and count == 2:
                    transport.arrivals.record(data[at] << 8 | data[at + 1], now_us)
        stream = transport.streams.get(ssrc)
        if stream is None:
            self._hear(transport, ssrc)
            stream = self._adopt(transport, ssrc, second & 0x7F, elements)
            if stream is None:
                self._counters.add("rtp_unknown_ssrc")
                return
        fresh = stream.receive.on_packet(seq, timestamp, size, now_us)
        if not fresh:
            self._counters.add("rtp_duplicates")
            return
        self._counters.values["rtp_received"] += 1
        if second & 0x7F != stream.payload_type and (
            stream.is_rtx or not stream.producer.parameters.carries(second & 0x7F)
        ):
            self._counters.add("rtp_wrong_payload_type")
            position = end  # goes the way of padding: not forwarded, and leaves no hole
        if stream.is_rtx:
            media = stream.layer.media
            if end - position < 2 or media is None:
                return  # padding probe, or a repair of what was never seen
            seq = data[position] << 8 | data[position + 1]
            position += 2
            stream = media
            if not stream.receive.on_repaired(seq):
                self._counters.add("rtp_duplicates")
                return
            self._counters.add("rtp_repaired")
            if stream.row is not None:
                stream.row.armed = 0  # what follows in this batch is sent behind it
        elif fresh == FRESH_AFTER_GAP:
            self._feedback.repair(transport, stream, now_us)
        self._media(stream, seq, timestamp, second, elements, position, end, now_us)

    def _media(
        self,
        stream: InboundStream,
        seq: int,
        timestamp: int,
        second: int,
        elements: list[rtp.Extension],
        start: int,
        end: int,
        now_us: int,
    ) -> None:
        """One media packet that was not seen before: measure it and offer it to the lanes of its layer."""
        producer, layer, data = stream.producer, stream.layer, self._data
        highest = stream.receive.highest
        extended = highest + ((seq - highest + HALF_16) & MASK_16) - HALF_16  # serial.extend16
        if start == end and extended == highest:
            self._counters.add("rtp_padding")
            for lane in layer.lanes:
                self._lanes.skip(lane, stream, extended, now_us)
            return
        stream.time.on_packet(timestamp, now_us)
        sound: Forms | None = None
        if producer.is_audio:
            if not self._heard(producer, elements, now_us) and extended == highest:
                for lane in layer.lanes:
                    self._lanes.skip(lane, stream, extended, now_us)
                return
            shape = SOUND
            if producer.parameters.red_payload_type is not None and layer.lanes and not producer.paused:
                try:
                    sound = self._forms(producer.parameters, second & 0x7F, start, end)
                except MalformedRed:
                    self._counters.add("red_malformed")
                    return  # a loss to those who listen
        else:
            shape = self._shape(producer, layer, elements, start, end)
            layer.meter.add(shape.spatial, shape.temporal, end - start, now_us)
            if shape.key:
                self._key_frame(stream, seq, start, end)
        if producer.paused or not layer.lanes:
            return
        forwarded = []
        ids = producer.forwarded_ids
        if ids:
            for identifier, at, count in elements:
                ours = ids.get(identifier)
                if ours is not None and count:  # an empty one says nothing and would force the two-byte form on viewers
                    forwarded.append((ours, bytes(data[at : at + count])))
        payload, whole = (bytes(self._view[start:end]), None) if sound is None else (sound.plain, sound.whole)
        arrived = _new(Arrived, (extended, timestamp, second & 0x80, forwarded, payload, shape, whole))
        self._lanes.offer(stream, arrived, now_us)

    def _forms(self, parameters: ortc.ProducerParameters, payload_type: int, start: int, end: int) -> Forms:
        """A packet of sound with and without redundancy."""
        ours = ortc.PAYLOAD_TYPES[parameters.codec]
        if payload_type == parameters.red_payload_type:
            self._counters.values["red_received"] += 1
            return forms(self._data, start, end, parameters.payload_type, ours)
        return wrapped(self._data, start, end, ours)

    def _key_frame(self, stream: InboundStream, seq: int, start: int, end: int) -> None:
        """The first packet of a key frame."""
        layer = stream.layer
        stream.receive.on_key_frame(seq)
        layer.keyframes.arrived()
        self._counters.values["keyframes_received"] += 1
        layer.meter.width, layer.meter.height = codecs.key_frame_size(
            stream.producer.parameters.codec, self._data, start, end
        ) or (layer.meter.width, layer.meter.height)

    def _heard(self, producer: Producer, elements: list[rtp.Extension], now_us: int) -> bool:
        """Take in the level of a packet of sound; whether it is among the voices that are forwarded."""
        if producer.level is None or producer.paused:
            return True
        for identifier, at, count in elements:
            if identifier == producer.level_id and count == 1:
                level = self._data[at]
                producer.level.add(level)
                if producer.voices is not None and producer.voices.choosing:
                    return producer.voices.forwards(producer.id, level, now_us)
        return True

    def _shape(
        self, producer: Producer, layer: Layer, elements: list[rtp.Extension], start: int, end: int
    ) -> PacketShape:
        """Where a video packet lies among its Producer's layers and pictures."""
        if producer.dependency_id:
            for identifier, at, count in elements:
                if identifier == producer.dependency_id:
                    if layer.structure is None:
                        layer.structure = DependencyReader()
                    try:
                        found = layer.structure.parse(bytes(self._data[at : at + count]))
                    except MalformedDescriptor:
                        self._counters.add("dependency_malformed")
                        break
                    return described(found, layer.index if len(producer.layers) > 1 else None)
        return read_shape(producer.parameters.codec, self._data, start, end, layer.index)

    def _adopt(
        self, transport: Transport, ssrc: int, payload_type: int, elements: list[rtp.Extension]
    ) -> InboundStream | None:
        """Find the Producer of an SSRC that has not been seen before (ORTC traps 6, 8, 9, 10)."""
        if len(transport.streams) >= MAX_STREAMS_PER_TRANSPORT:
            return None
        named = self._names(transport, elements)
        match = ortc.match_stream(
            [(producer, producer.parameters) for producer in transport.producers.values()],
            ssrc,
            payload_type,
            named.get(ortc.MID_URI),
            named.get(ortc.RID_URI),
            named.get(ortc.REPAIRED_RID_URI),
        )
        if match is None:
            return None
        producer = match.key
        parameters = producer.parameters
        layer = producer.announced[match.encoding]
        nack = parameters.feedback.nack and not match.rtx
        stream = InboundStream(
            ssrc=ssrc,
            producer=producer,
            layer=layer,
            is_rtx=match.rtx,
            payload_type=payload_type,
            receive=ReceiveStream(ssrc, parameters.clock_rate_hz, nack=nack),
            time=SourceTime(parameters.clock_rate_hz, transport.publisher_clock),
            capture=CaptureTime(parameters.clock_rate_hz, transport.capture_clock),
        )
        replaced = layer.repair if match.rtx else layer.media
        if replaced is not None:
            if replaced.row is not None:
                replaced.row.armed = 0
            transport.streams.pop(replaced.ssrc, None)
        if match.rtx:
            layer.repair = stream
        else:
            layer.media = stream
            self._feedback.media_began(producer, layer)
        transport.streams[ssrc] = stream
        return stream

    def _names(self, transport: Transport, elements: list[rtp.Extension]) -> dict[str, str]:
        """mid and rids a packet carries, by extension URI."""
        named = {}
        for producer in transport.producers.values():
            for uri in (ortc.MID_URI, ortc.RID_URI, ortc.REPAIRED_RID_URI):
                identifier = producer.parameters.extension_ids.get(uri)
                for found, at, count in elements:
                    if found == identifier:
                        named[uri] = bytes(self._data[at : at + count]).decode("ascii", "replace")
        return named
