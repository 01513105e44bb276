"""The packets out: one burst of a lane to all who are live in it.

What came in during one wake-up is sent together: per group of Consumers the packets are laid
out once as templates (room for the header, extensions, payload), then per Consumer each template is
copied into one contiguous buffer, twelve header bytes are written, libsrtp encrypts in place, and
a run of equal packets leaves in one call. No await and no queue in between: a Consumer costs a
copy, a header, the encryption and its share of a system call.

A Consumer whose datagrams could not be sent is stopped and starts again at the next key frame,
which the caller asks for; the others notice nothing. Who is live is ``media.core.router``.
"""

from collections.abc import Callable

from media.aio.aiortc_port import SRTP_OK, SRTP_TRAILER_BYTES, NativeBuffer, new_length, srtp_protect, srtp_protect_rtcp
from media.aio.counters import Counters
from media.aio.objects import Consumer, Leg, Producer
from media.aio.udp import UdpPort
from media.core import rtp
from media.core.rewriter import Position, Segment, ViewerNumbers
from media.core.router import RUN_PACKETS, ExtensionPlan, Lane, Packet, Picture, Row, Source, plan_runs
from media.core.sender_report import build_sender_report

_MAX_PACKET_BYTES = 1500 + SRTP_TRAILER_BYTES

Layout = tuple[list[Row], list[tuple[int, int]]]


class Forwarder:
    """Lays out, encrypts and sends what goes to peers."""

    def __init__(self, udp: UdpPort, counters: Counters) -> None:
        self._udp = udp
        self._counters = counters
        self._buffer = NativeBuffer((RUN_PACKETS + 1) * _MAX_PACKET_BYTES)
        self._length = new_length()

    def flush(self, lane: "Lane[Consumer]", payload_type: int, now_us: int) -> list[Consumer]:
        """Send the burst a lane has gathered to all who are live in it.

        Returns:
            The Consumers that could not be served. Their numbering is closed; the caller stops them.
        """
        burst, lane.burst = lane.burst, []
        source = lane.source
        if source is None or not burst:
            return []
        failed: list[Consumer] = []
        for plan, group in lane.live.items():
            self._send_rows(group, _lay_out(burst, plan, payload_type, now_us), source, now_us, failed)
        source.handed_out(burst)
        return failed

    def _send_rows(
        self, group: list[Consumer], layout: Layout, source: Source, now_us: int, failed: list[Consumer]
    ) -> None:
        """Send a burst to each Consumer of a group.

        This is the loop that runs per forwarded packet: what does not change in it is looked up before.

        Args:
            group: live Consumers of one extension plan.
            layout: the burst as that plan wants it.
            source: what the burst came from.
            now_us: server time.
            failed: takes those whose packets could not leave, with their numbering closed behind what did.
        """
        rows, runs = layout
        data, view, pointer, length = self._buffer.data, self._buffer.view, self._buffer.pointer, self._length
        write_header, protect, ok, send_run = rtp.OUTBOUND.pack_into, srtp_protect, SRTP_OK, self._udp.send_run
        sent = 0
        for consumer in group:
            leg, ssrc, segment_of = consumer.leg, consumer.ssrc, consumer.numbers.now
            address, stream, context = leg.address, leg.stream, leg.tx
            assert address is not None, "a live consumer's transport has an address"
            base, shift, timestamp_shift = segment_of.base, segment_of.shift, segment_of.timestamp_shift
            renumber = segment_of.picture_shift or segment_of.tl0_shift
            packets = octets = 0
            for start, end in runs:
                position = segment = 0
                for template, size, word, number, timestamp, payload_bytes, picture in rows[start:end]:
                    if number < base:
                        continue  # from before this viewer's start
                    data[position : position + size] = template
                    write_header(
                        data,
                        position,
                        word,
                        (number + shift) & 0xFFFF,
                        (timestamp + timestamp_shift) & 0xFFFFFFFF,
                        ssrc,
                    )
                    if renumber and picture is not None:
                        _renumber(data, position, picture, segment_of)
                    length[0] = size
                    if protect(context, pointer + position if position else pointer, length) != ok:
                        self._counters.add("srtp_protect_errors")
                        continue
                    position += length[0]
                    segment = segment or position
                    packets += 1
                    octets += payload_bytes
                if position and not (
                    send_run(view[:position], segment, address)
                    if stream is None
                    else stream.send_run(view[:position], segment)
                ):
                    dropped = [row[5] for row in rows[start:end] if row[3] >= base]
                    packets -= len(dropped)
                    octets -= sum(dropped)
                    _close_numbering(consumer.numbers, rows[:start], source, now_us)
                    failed.append(consumer)
                    break
            consumer.packets_sent += packets
            consumer.octets_sent += octets
            sent += packets
        self._counters.values["rtp_sent"] += sent

    def resend(self, consumer: Consumer, packet: Packet, segment: Segment, now_us: int) -> bool:
        """Send a packet of the history again, as RTX with a number of its own (RFC 4588 section 4).

        Args:
            segment: how the viewer numbered the packet when it was first sent.
        """
        leg = consumer.leg
        if not leg.ready:
            return False
        extensions = _extension_block(packet, consumer.plan, now_us)
        word = 0x8000 | (0x1000 if extensions else 0) | packet.marker | consumer.rtx_payload_type
        timestamp = (packet.timestamp + segment.timestamp_shift) & 0xFFFFFFFF
        header = rtp.OUTBOUND.pack(word, consumer.rtx_seq, timestamp, consumer.rtx_ssrc)
        original = ((packet.number + segment.shift) & 0xFFFF).to_bytes(2, "big")
        whole = bytearray(header + extensions + original + packet.payload)
        if packet.picture is not None:
            _renumber(whole, len(whole) - len(packet.payload), packet.picture, segment)
        consumer.rtx_seq = (consumer.rtx_seq + 1) & 0xFFFF
        return self._send_protected(leg, whole, srtp_protect)

    def send_sender_report(self, consumer: Consumer, now_us: int) -> None:
        """Tell a viewer what time its stream is at now, so that sound and picture meet from the first frame."""
        lane = consumer.lane
        media = None if lane is None else consumer.producer.layer_of(lane).media
        if media is None:
            return
        report = build_sender_report(
            media.time,
            now_us,
            consumer.ssrc,
            consumer.numbers.now.timestamp_shift,
            consumer.packets_sent,
            consumer.octets_sent,
            consumer.producer.cname,
        )
        if report is not None and self.send_rtcp(consumer.leg, report):
            self._counters.add("sender_reports_sent")

    def send_rtcp(self, leg: Leg, compound: bytes) -> bool:
        """Send one RTCP compound; False when the peer cannot be reached."""
        if leg.tx is None or leg.address is None or not compound:
            return False
        return self._send_protected(leg, compound, srtp_protect_rtcp)

    def _send_protected(self, leg: Leg, packet: bytes | bytearray, protect: Callable[..., int]) -> bool:
        size = len(packet)
        self._buffer.data[:size] = packet
        self._length[0] = size
        if protect(leg.tx, self._buffer.pointer, self._length) != SRTP_OK:
            self._counters.add("srtp_protect_errors")
            return False
        assert leg.address is not None
        if leg.stream is not None:
            return leg.stream.send_run(self._buffer.view[: self._length[0]], self._length[0])
        return self._udp.send_run(self._buffer.view[: self._length[0]], self._length[0], leg.address)


def _renumber(data: bytearray, at: int, picture: Picture, segment: Segment) -> None:
    """Count the pictures of a VP8 payload at an offset as this viewer has seen them so far."""
    where = at + picture.at
    if picture.wide:
        shifted = (picture.number + segment.picture_shift) & 0x7FFF
        data[where] = 0x80 | shifted >> 8
        data[where + 1] = shifted & 0xFF
    else:
        data[where] = (picture.number + segment.picture_shift) & 0x7F
    if picture.tl0_at >= 0:
        data[at + picture.tl0_at] = (picture.tl0 + segment.tl0_shift) & 0xFF


def _close_numbering(numbers: ViewerNumbers, left: list[Row], source: Source, now_us: int) -> None:
    """Nothing after these rows of a burst has left."""
    end = source.end()
    for _, _, _, number, timestamp, _, picture in left:
        if number > end.number:
            end = Position(number, timestamp) if picture is None else Position(number, timestamp, picture.number, picture.tl0)
    numbers.stop(end, now_us // 1000)


def _lay_out(burst: list[Packet], plan: ExtensionPlan, payload_type: int, now_us: int) -> Layout:
    """Templates of a burst for one group of Consumers, and how to cut them into runs."""
    rows = []
    room = bytes(rtp.FIXED_HEADER_BYTES)
    for packet in burst:
        extensions = _extension_block(packet, plan, now_us)
        template = room + extensions + packet.payload
        word = (0x9000 if extensions else 0x8000) | packet.marker | payload_type
        picture = packet.picture
        if picture is not None:  # from the payload's offsets to the template's
            ahead = len(template) - len(packet.payload)
            tl0_at = picture.tl0_at + ahead if picture.tl0_at >= 0 else -1
            picture = picture._replace(at=picture.at + ahead, tl0_at=tl0_at)
        rows.append((template, len(template), word, packet.number, packet.timestamp, len(packet.payload), picture))
    return rows, plan_runs([row[1] for row in rows])


def _extension_block(packet: Packet, plan: ExtensionPlan, now_us: int) -> bytes:
    elements = []
    if plan.abs_send_time_id:
        # 24 bits of seconds in 6.18 fixed point
        stamp = (now_us << 18) // 1_000_000 & 0xFFFFFF
        elements.append((plan.abs_send_time_id, stamp.to_bytes(3, "big")))
    for element in packet.extensions:
        if element[0] in plan.ids:
            elements.append(element)
    return rtp.build_extensions(elements)
