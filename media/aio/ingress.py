"""The packets in: decrypt in place, find the stream, count, gather for forwarding.

Runs once per datagram of an authenticated peer, so it reads the packet where the socket left it and
copies only the payload. RTX is unwrapped, duplicates and padding end here. What is to be forwarded
waits in its Producer's burst until the read batch is over (``flush``), so that a run of packets leaves
in one call per viewer. Nothing here waits.

RTCP is handed to ``feedback``; laying out and sending is ``forward``.
"""

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
from media.aio.forward import Forwarder
from media.aio.objects import InboundStream, Producer
from media.aio.transport import Transport
from media.core import codecs, ortc, rtp
from media.core.receive import FRESH_AFTER_GAP, MAX_DROPOUT, ReceiveStream
from media.core.router import Packet, Source
from media.core.sender_report import SourceTime
from media.core.serial import HALF_16, MASK_16

MIN_SRTP_BYTES = 22
"""Fixed header and the shortest tag."""
MAX_STREAMS_PER_TRANSPORT = 64
"""SSRCs one client may have in use."""
MAX_HEARD_SSRCS = 256
"""SSRCs libsrtp may hold a context for, per client; beyond it those that are not in use are forgotten."""


class Ingress:
    """Receives SRTP and SRTCP of all Transports of one worker."""

    def __init__(self, buffer: NativeBuffer, counters: Counters, feedback: Feedback, forwarder: Forwarder) -> None:
        self._data = buffer.data
        self._view = buffer.view
        self._pointer = buffer.pointer
        self._counters = counters
        self._feedback = feedback
        self._forwarder = forwarder
        self._length = new_length()
        self._gathered: list[Producer] = []

    def srtp(self, transport: Transport, offset: int, size: int, now_us: int) -> None:
        """One datagram whose first byte says SRTP, from a Transport that has keys."""
        if size < MIN_SRTP_BYTES:
            self._counters.add("rtp_malformed")
            return
        length = self._length
        length[0] = size
        is_rtcp = rtp.is_rtcp(self._data[offset + 1])
        unprotect = srtp_unprotect_rtcp if is_rtcp else srtp_unprotect
        status = unprotect(transport.leg.rx, self._pointer + offset, length)
        if status != SRTP_OK:
            self._counters.add("srtp_replayed" if status in SRTP_REPLAYED else "srtp_refused")
            return
        end = offset + length[0]
        if is_rtcp:
            self._hear(transport, int.from_bytes(self._view[offset + 4 : offset + 8], "big"))
            self._feedback.received(transport, bytes(self._view[offset:end]), now_us)
            return
        try:
            self._rtp(transport, offset, end, now_us)
        except (rtp.MalformedPacket, StructError):
            self._counters.add("rtp_malformed")

    def flush(self, now_us: int) -> None:
        """The read batch is over: send what it brought."""
        gathered, self._gathered = self._gathered, []
        for producer in gathered:
            try:
                self._flush(producer, now_us)
            except Exception:  # a bug met by one Producer must not keep what the others have gathered
                self._counters.broke("flush_errors")

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

    def _flush(self, producer: Producer, now_us: int) -> None:
        for consumer in self._forwarder.flush(producer, now_us):
            self._counters.add("consumers_skipped_to_keyframe")
            self._feedback.start(consumer, now_us)

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
        producer = stream.producer
        fresh = stream.receive.on_packet(seq, timestamp, size, now_us)
        if not fresh:
            self._counters.add("rtp_duplicates")
            return
        self._counters.values["rtp_received"] += 1
        if second & 0x7F != stream.payload_type:
            self._counters.add("rtp_wrong_payload_type")
            position = end  # goes the way of padding: not forwarded, and leaves no hole
        if stream.is_rtx:
            if end - position < 2 or producer.media is None:
                return  # padding probe, or a repair of what was never seen
            seq = data[position] << 8 | data[position + 1]
            position += 2
            stream = producer.media
            if not stream.receive.on_repaired(seq):
                self._counters.add("rtp_duplicates")
                return
            self._counters.add("rtp_repaired")
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
        """Gather one media packet that was not seen before."""
        producer = stream.producer
        highest = stream.receive.highest
        source = producer.source
        if source is None or source.ssrc != stream.ssrc or not 0 <= highest - source.newest <= MAX_DROPOUT:
            source = self._new_source(producer, stream, now_us)
        source.newest = highest
        extended = highest + ((seq - highest + HALF_16) & MASK_16) - HALF_16  # serial.extend16
        if start == end and extended == highest:
            source.numbers.drop(extended)
            self._counters.add("rtp_padding")
            return
        stream.time.on_packet(timestamp, now_us)
        fanout = producer.fanout
        key = producer.is_audio or codecs.is_key_frame(producer.parameters.codec, self._data, start, end)
        if key and not producer.is_audio:
            stream.receive.on_key_frame(seq)
            fanout.keyframes.arrived()
            self._counters.values["keyframes_received"] += 1
        if producer.paused:
            return
        if producer.level is not None:
            for identifier, at, count in elements:
                if identifier == producer.level_id and count == 1:
                    producer.level.add(self._data[at])
        if not fanout.watched:
            return
        number = source.numbers.number(extended)
        if number is None:
            self._counters.add("rtp_too_late")
            return
        data = self._data
        forwarded = []
        for identifier, at, count in elements:
            ours = producer.forwarded_ids.get(identifier)
            if ours is not None and count:  # an empty one says nothing and would force the two-byte form on viewers
                forwarded.append((ours, bytes(data[at : at + count])))
        packet = Packet(number, timestamp, second & 0x80, forwarded, bytes(self._view[start:end]), key)
        source.history.put(number, packet)
        if not fanout.burst:
            self._gathered.append(producer)
        fanout.burst.append(packet)

    def _new_source(self, producer: Producer, stream: InboundStream, now_us: int) -> Source:
        """Another SSRC or another numbering carries this Producer: viewers go on with it at its key frame."""
        had = producer.source is not None
        if producer.fanout.burst:
            self._flush(producer, now_us)
        if had:
            for consumer in [c for group in producer.fanout.live.values() for c in group]:
                self._feedback.restart(consumer, now_us)
        source = producer.source = Source(stream.ssrc, newest=stream.receive.highest)
        return source

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
        nack = parameters.feedback.nack and not match.rtx
        stream = InboundStream(
            ssrc=ssrc,
            producer=producer,
            is_rtx=match.rtx,
            payload_type=payload_type,
            receive=ReceiveStream(ssrc, parameters.clock_rate_hz, nack=nack),
            time=SourceTime(parameters.clock_rate_hz, transport.publisher_clock),
        )
        if not match.rtx:
            if producer.media is not None:
                transport.streams.pop(producer.media.ssrc, None)
            producer.media = stream
            self._feedback.media_began(producer)
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
