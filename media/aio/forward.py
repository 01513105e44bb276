"""The packets out: one burst of a Producer to all of its Consumers.

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
from media.core.rewriter import ViewerNumbers
from media.core.router import RUN_PACKETS, ExtensionPlan, Packet, Row, Source, plan_runs
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

    def flush(self, producer: Producer, now_us: int) -> list[Consumer]:
        """Send the burst a Producer has gathered; the Consumers that could not be served, now stopped."""
        fanout = producer.fanout
        burst = fanout.burst
        fanout.burst = []
        source = producer.source
        if source is None or not burst:
            return []
        failed: list[Consumer] = []
        layouts: dict[ExtensionPlan, Layout] = {}
        for plan, group in fanout.live.items():
            layout = layouts[plan] = _lay_out(burst, plan, producer.payload_type, now_us)
            self._send_rows(group, layout, source, now_us, failed)
        if fanout.waiting:
            for consumer in self._start_waiting(producer, burst, now_us):
                plan = consumer.plan
                layout = layouts.get(plan) or _lay_out(burst, plan, producer.payload_type, now_us)
                layouts[plan] = layout
                self._send_rows([consumer], layout, source, now_us, failed)
        for packet in burst:
            if packet.number > source.highest:
                source.highest, source.highest_timestamp = packet.number, packet.timestamp
        for consumer in failed:
            fanout.stop(consumer)
        return failed

    def _start_waiting(self, producer: Producer, burst: list[Packet], now_us: int) -> list[Consumer]:
        first = next((packet for packet in burst if packet.key), None)
        if first is None or producer.source is None:
            return []
        started = list(producer.fanout.waiting)
        for consumer in started:
            consumer.numbers.start(
                producer.source.ssrc, first.number, first.timestamp, now_us // 1000, producer.parameters.clock_rate_hz
            )
            producer.fanout.go_live(consumer)
            self.send_sender_report(consumer, now_us)
        producer.fanout.keyframes.arrived()
        return started

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
            leg, numbers, ssrc = consumer.leg, consumer.numbers, consumer.ssrc
            address, stream, context = leg.address, leg.stream, leg.tx
            assert address is not None, "a live consumer's transport has an address"
            base, shift, timestamp_shift = numbers.base, numbers.shift, numbers.timestamp_shift
            packets = octets = 0
            for start, end in runs:
                position = segment = 0
                for template, size, word, number, timestamp, payload_bytes in rows[start:end]:
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
                    _close_numbering(numbers, rows[:start], source, now_us)
                    failed.append(consumer)
                    break
            consumer.packets_sent += packets
            consumer.octets_sent += octets
            sent += packets
        self._counters.values["rtp_sent"] += sent

    def resend(self, consumer: Consumer, packet: Packet, now_us: int) -> bool:
        """Send a packet of the history again, as RTX with a number of its own (RFC 4588 section 4)."""
        leg = consumer.leg
        if leg.tx is None or leg.address is None:
            return False
        numbers = consumer.numbers
        extensions = _extension_block(packet, consumer.plan, now_us)
        word = 0x8000 | (0x1000 if extensions else 0) | packet.marker | consumer.rtx_payload_type
        timestamp = (packet.timestamp + numbers.timestamp_shift) & 0xFFFFFFFF
        header = rtp.OUTBOUND.pack(word, consumer.rtx_seq, timestamp, consumer.rtx_ssrc)
        original = ((packet.number + numbers.shift) & 0xFFFF).to_bytes(2, "big")
        consumer.rtx_seq = (consumer.rtx_seq + 1) & 0xFFFF
        return self._send_protected(leg, header + extensions + original + packet.payload, srtp_protect)

    def send_sender_report(self, consumer: Consumer, now_us: int) -> None:
        """Tell a viewer what time its stream is at now, so that sound and picture meet from the first frame."""
        media = consumer.producer.media
        if media is None:
            return
        report = build_sender_report(
            media.time,
            now_us,
            consumer.ssrc,
            consumer.numbers.timestamp_shift,
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

    def _send_protected(self, leg: Leg, packet: bytes, protect: Callable[..., int]) -> bool:
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


def _close_numbering(numbers: ViewerNumbers, left: list[Row], source: Source, now_us: int) -> None:
    """Nothing after these rows of a burst has left."""
    number, timestamp = source.highest, source.highest_timestamp
    for row in left:
        if row[3] > number:
            number, timestamp = row[3], row[4]
    numbers.stop(number, timestamp, now_us // 1000)


def _lay_out(burst: list[Packet], plan: ExtensionPlan, payload_type: int, now_us: int) -> Layout:
    """Templates of a burst for one group of Consumers, and how to cut them into runs."""
    rows = []
    room = bytes(rtp.FIXED_HEADER_BYTES)
    for packet in burst:
        extensions = _extension_block(packet, plan, now_us)
        template = room + extensions + packet.payload
        word = (0x9000 if extensions else 0x8000) | packet.marker | payload_type
        rows.append((template, len(template), word, packet.number, packet.timestamp, len(packet.payload)))
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
