"""The packets out: one burst of a lane to all who are live in it.

What came in during one wake-up is sent together: per group of Consumers the packets are laid
out once as templates (``media.core.templates``), then per Consumer each template is
copied into one contiguous buffer, twelve header bytes are written, libsrtp encrypts in place, and
a run of equal packets leaves in one call. No await and no queue in between: a Consumer costs a
copy, a header, the encryption and its share of a system call. Where the C function was built it does exactly
that (``fanout``) and hands back what the kernel did not take; what happens then is decided here for both.

A Consumer whose datagrams could not be sent is stopped and starts again at the next key frame,
which the caller asks for; the others notice nothing. Who is live is ``media.core.router``.

A burst takes its transport-wide numbers as a whole: what of it could not leave counts as lost on the way.

Long on purpose: the two ways to send and what becomes of a run that did not leave are one policy.
"""

from collections.abc import Callable, Sequence

from media.aio.aiortc_port import SRTP_OK, SRTP_TRAILER_BYTES, NativeBuffer, new_length, srtp_protect, srtp_protect_rtcp
from media.aio.counters import Counters
from media.aio.fanout import HELD, MAX_ROWS, FanOut, Table
from media.aio.intake import FailedBurst
from media.aio.objects import Consumer, Leg
from media.aio.pacing import Pacing
from media.aio.udp import UdpPort
from media.core import rtp
from media.core.congestion.pacer import FREE_BURST_BYTES
from media.core.congestion.sent import NO_CLUSTER, SentPackets
from media.core.rewriter import Segment, ViewerNumbers
from media.core.router import RUN_PACKETS, ExtensionPlan, Lane, Packet, Source
from media.core.sender_report import build_sender_report
from media.core.templates import Layout, extension_block, lay_out, renumber

_MAX_PACKET_BYTES = 1500 + SRTP_TRAILER_BYTES
MAX_PADDING_PACKETS = 64
"""Of one call."""


class Forwarder:
    """Lays out, encrypts and sends what goes to peers.

    Args:
        fan: the C function; None: pure Python.
    """

    def __init__(self, udp: UdpPort, counters: Counters, fan: FanOut | None = None) -> None:
        self._udp = udp
        self._counters = counters
        self._fan = fan
        self._buffer = NativeBuffer((RUN_PACKETS + 1) * _MAX_PACKET_BYTES)
        self._length = new_length()
        self._pacing = Pacing(udp.clock, counters, self._send_held, self._lose)
        self.on_lost: Callable[[Consumer, int], None] | None = None
        """Takes Consumers that could not be served later on; as those that `flush` returns."""
        counters.values["forward_path_c"] = int(fan is not None)

    def flush(self, lane: "Lane[Consumer]", payload_type: int, now_us: int) -> list[Consumer]:
        """Send the burst a lane has gathered to all who are live in it.

        Returns:
            The Consumers that could not be served. Their numbering is closed; the caller stops them.
        """
        burst, lane.burst = lane.burst, []
        source = lane.source
        if source is None or not burst:
            return []
        if len(burst) > MAX_ROWS:
            failed: list[Consumer] = []
            for start in range(0, len(burst), MAX_ROWS):
                self._flush(lane, source, burst[start : start + MAX_ROWS], payload_type, now_us, failed)
            return failed
        return self._flush(lane, source, burst, payload_type, now_us, [])

    def _flush(
        self,
        lane: "Lane[Consumer]",
        source: Source,
        burst: list[Packet],
        payload_type: int,
        now_us: int,
        failed: list[Consumer],
    ) -> list[Consumer]:
        try:
            # A path that breaks while it is used takes its viewer out of the lane: walk what was there before.
            for plan, group in list(lane.live.items()):
                self._flush_group(lane, plan, list(group), source, burst, payload_type, now_us, failed)
        finally:
            source.handed_out(burst)  # whatever broke, these numbers are used
        return failed

    def _flush_group(
        self,
        lane: "Lane[Consumer]",
        plan: ExtensionPlan,
        group: list[Consumer],
        source: Source,
        burst: list[Packet],
        payload_type: int,
        now_us: int,
        failed: list[Consumer],
    ) -> None:
        fan, pacing = self._fan, self._pacing
        if fan is not None:
            table: Table | None = lane.prepared.get(plan)
            if table is None:
                table = lane.prepared[plan] = fan.prepare(plan, group)
            total_bytes = fan.lay_out(table, burst, payload_type, now_us)
            if total_bytes > FREE_BURST_BYTES or pacing.holds:
                failed += pacing.sort_out(group, fan.sizes, total_bytes, burst, source, payload_type, now_us, failed)
            self._send_native(fan, table, burst, source, now_us, failed)
        else:
            layout = lay_out(burst, plan, payload_type, now_us)
            total_bytes = layout.total_bytes
            if total_bytes > FREE_BURST_BYTES or pacing.holds:
                failed += pacing.sort_out(group, layout.sizes, total_bytes, burst, source, payload_type, now_us, failed)
            self._send_rows(group, plan, layout, burst, source, now_us, failed)

    # ------------------------------------------------------------- in C

    def _send_native(
        self, fan: FanOut, table: Table, burst: list[Packet], source: Source, now_us: int, failed: list[Consumer]
    ) -> None:
        """Send the burst that was laid out to each Consumer of a group."""
        for consumer in failed:
            if consumer.row is not None:
                consumer.row.held = 1  # until it is live again
        status = fan.begin(table, now_us, self._udp.direct_fd)
        self._finish(fan, status, table, burst, source, now_us, failed)
        self.collect()

    def _finish(
        self,
        fan: FanOut,
        status: int,
        table: Table,
        burst: list[Packet],
        source: Source,
        now_us: int,
        failed: list[Consumer],
    ) -> None:
        while status:
            self._handed_back(fan, status, table, burst, source, now_us, failed)
            status = fan.go_on(self._udp.direct_fd)

    def resume(
        self, left: FailedBurst, source: Source, burst: list[Packet], payload_type: int, now_us: int
    ) -> list[Consumer]:
        """Go on with a burst that the receive path has sent in part.

        Returns:
            As `flush`.
        """
        fan, failed = self._fan, list[Consumer]()
        assert fan is not None
        try:
            self._finish(fan, left.status, left.tables[left.at][1], burst, source, now_us, failed)
            for plan, _ in left.tables[left.at + 1 :]:
                group = list(left.lane.live.get(plan, ()))  # who is there still: a path that broke takes its viewer out
                if group:
                    self._flush_group(left.lane, plan, group, source, burst, payload_type, now_us, failed)
        finally:
            source.handed_out(burst)
        return failed

    def collect(self) -> None:
        """Count what C has sent."""
        if self._fan is None:
            return
        state = self._fan.state
        self._counters.values["rtp_sent"] += state.sent
        state.sent = 0
        if state.protect_errors:
            self._counters.add("srtp_protect_errors", state.protect_errors)
            state.protect_errors = 0

    def _handed_back(
        self,
        fan: FanOut,
        status: int,
        table: Table,
        burst: list[Packet],
        source: Source,
        now_us: int,
        failed: list[Consumer],
    ) -> None:
        """A run that the C function could not send or was not to."""
        state = fan.state
        consumer = table.members[state.viewer]
        run, segment_bytes, leg = fan.view[: state.bytes], state.segment, consumer.leg
        if status == HELD or leg.address is None:
            left = self._send(leg, run, segment_bytes)
        else:
            left = self._udp.refused(run, segment_bytes, leg.address, status)
        if left:
            consumer.packets_sent += state.packets
            consumer.octets_sent += state.octets
            state.sent += state.packets
        else:
            _close_numbering(consumer.numbers, burst[: state.start], source, now_us)
            failed.append(consumer)
            consumer.row.held = 1
            fan.give_up()

    # ------------------------------------------------------------- in Python

    def _send_rows(
        self,
        group: list[Consumer],
        plan: ExtensionPlan,
        layout: Layout,
        burst: list[Packet],
        source: Source,
        now_us: int,
        failed: list[Consumer],
    ) -> None:
        """Send a burst to each Consumer of a group.

        Args:
            group: live Consumers of one extension plan.
            layout: the burst as that plan wants it.
            burst: the same packets.
            source: what the burst came from.
            now_us: server time.
            failed: takes those whose packets could not leave, with their numbering closed behind what did.
        """
        if len(layout.rows) == 1:
            self._send_one(group, layout, source, now_us, failed)
            return
        total = 0
        for consumer in group:
            if consumer.held or (failed and consumer in failed):
                continue
            segment = consumer.numbers.now
            first = 0
            if plan.transport_cc_id and consumer.leg.tx is not None:
                first = _take(consumer.leg, segment.base, layout, now_us)
            before = consumer.packets_sent
            stopped = self._send_to(consumer, segment, layout, first)
            total += consumer.packets_sent - before
            if stopped is not None:
                _close_numbering(consumer.numbers, burst[:stopped], source, now_us)
                failed.append(consumer)
        self._counters.values["rtp_sent"] += total

    def _send_to(self, consumer: Consumer, numbered: Segment, layout: Layout, first: int) -> int | None:
        """Send a burst to one Consumer.

        This is the loop that runs per forwarded packet: what does not change in it is looked up before.

        Args:
            numbered: how its packets are numbered.
            first: transport-wide number of its first packet.

        Returns:
            Index of the row that did not leave, nor those behind it; None: all have.
        """
        rows, runs = layout.rows, layout.runs
        data, view, pointer, length = self._buffer.data, self._buffer.view, self._buffer.pointer, self._length
        write_header, protect, ok, ssrc = rtp.OUTBOUND.pack_into, srtp_protect, SRTP_OK, consumer.ssrc
        base, shift, timestamp_shift = numbered.base, numbered.shift, numbered.timestamp_shift
        is_renumbered = numbered.picture_shift or numbered.tl0_shift
        leg = consumer.leg
        context = leg.tx
        if context is None:
            return None  # its Transport is closing
        for start, end in runs:
            position = segment_bytes = packets = octets = 0
            for template, size, word, number, timestamp, payload_bytes, picture, counter_at in rows[start:end]:
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
                if is_renumbered and picture is not None:
                    renumber(data, position, picture, numbered)
                if counter_at >= 0:
                    data[position + counter_at] = first >> 8 & 0xFF
                    data[position + counter_at + 1] = first & 0xFF
                    first += 1
                length[0] = size
                if protect(context, pointer + position if position else pointer, length) != ok:
                    self._counters.add("srtp_protect_errors")
                    continue
                position += length[0]
                segment_bytes = segment_bytes or position
                packets += 1
                octets += payload_bytes
            if position and not self._send(leg, view[:position], segment_bytes):
                return start
            consumer.packets_sent += packets
            consumer.octets_sent += octets
        return None

    def _send_one(
        self, group: list[Consumer], layout: Layout, source: Source, now_us: int, failed: list[Consumer]
    ) -> None:
        """`_send_rows` for a burst of one packet, as most bursts are at the rates of a consult.

        The whole of `_send_to` for one row stands in the loop: calls cost as much here as what they would do.
        """
        ((template, size, word, number, timestamp, payload_bytes, picture, counter_at),) = layout.rows
        data, view, pointer, length = self._buffer.data, self._buffer.view, self._buffer.pointer, self._length
        write_header, write_counter, protect = rtp.OUTBOUND.pack_into, rtp.WORD.pack_into, srtp_protect
        send_one = self._udp.send_one
        total = 0
        for consumer in group:
            if consumer.held or (failed and consumer in failed):
                continue
            numbered, leg = consumer.numbers.now, consumer.leg
            context = leg.tx
            if context is None or number < numbered.base:
                continue  # its Transport is closing, or it is from before this viewer's start
            data[:size] = template
            shifted, moved = (number + numbered.shift) & 0xFFFF, (timestamp + numbered.timestamp_shift) & 0xFFFFFFFF
            write_header(data, 0, word, shifted, moved, consumer.ssrc)
            if picture is not None and (numbered.picture_shift or numbered.tl0_shift):
                renumber(data, 0, picture, numbered)
            if counter_at >= 0:
                sent = leg.sent or _recorded(leg)
                write_counter(data, counter_at, sent.take_one(size, now_us))
            length[0] = size
            if protect(context, pointer, length) != SRTP_OK:
                self._counters.add("srtp_protect_errors")
                continue
            whole, address = length[0], leg.address
            if leg.stream is not None or address is None:
                left = self._send(leg, view[:whole], whole)
            else:
                left = send_one(view[:whole], address)
            if left:
                consumer.packets_sent += 1
                consumer.octets_sent += payload_bytes
                total += 1
            else:
                _close_numbering(consumer.numbers, [], source, now_us)
                failed.append(consumer)
        self._counters.values["rtp_sent"] += total

    def _send(self, leg: Leg, run: memoryview, segment_bytes: int) -> bool:
        if leg.stream is not None:
            return leg.stream.send_run(run, segment_bytes)
        address = leg.address
        return address is not None and self._udp.send_run(run, segment_bytes, address)

    # ------------------------------------------------------------- later

    def forget(self, consumer: Consumer) -> None:
        """The Consumer is closed."""
        self._pacing.forget(consumer)

    def close(self) -> None:
        """Nothing that waits is sent any more; idempotent."""
        self._pacing.close()

    def _send_held(
        self, consumer: Consumer, numbered: Segment, packets: Sequence[Packet], payload_type: int, now_us: int
    ) -> int:
        layout = lay_out(packets, consumer.plan, payload_type, now_us)
        first = _take(consumer.leg, numbered.base, layout, now_us) if consumer.plan.transport_cc_id else 0
        before = consumer.packets_sent
        stopped = self._send_to(consumer, numbered, layout, first)
        self._counters.values["rtp_sent"] += consumer.packets_sent - before
        return len(packets) if stopped is None else stopped

    def _lose(self, consumer: Consumer, now_us: int) -> None:
        if self.on_lost is not None:
            self.on_lost(consumer, now_us)

    # ------------------------------------------------------------- one packet

    def resend(self, consumer: Consumer, packet: Packet, segment: Segment, now_us: int) -> bool:
        """Send a packet of the history again, as RTX with a number of its own (RFC 4588 section 4).

        Args:
            segment: how the viewer numbered the packet when it was first sent.
        """
        return self._resend(consumer, packet, segment, NO_CLUSTER, now_us) > 0

    def send_padding(self, consumer: Consumer, wanted_bytes: int, cluster: int, now_us: int) -> int:
        """Fill a line for a probe: recent packets again, then padding, on the repair stream, whose duplicates
        receivers drop.

        Args:
            wanted_bytes: send as much or a little more, at most ``MAX_PADDING_PACKETS``.
            cluster: the probe, for the record of what was sent.

        Returns:
            Bytes that left, headers included; 0 for a viewer without a repair stream or whose own packets wait.
        """
        lane, numbers = consumer.lane, consumer.numbers
        # A picture that was taken away for its line is brought back by probes of what it was.
        segment = numbers.before if lane is None else numbers.now
        source: Source | None = None if segment is None else segment.source
        if source is None or segment is None or not consumer.rtx_payload_type or consumer.held:
            return 0  # what waits fills the line
        left_bytes = packets = 0
        number = source.highest
        while left_bytes < wanted_bytes and packets < MAX_PADDING_PACKETS:
            packet = source.history.get(number) if number >= segment.base else None
            number -= 1
            if packet is not None:
                size = self._resend(consumer, packet, segment, cluster, now_us)
            else:
                timestamp = (source.highest_timestamp + segment.timestamp_shift) & 0xFFFFFFFF
                size = self._send_repair(consumer, (), 0, timestamp, b"", 255, cluster, now_us)
            if not size:
                break
            left_bytes += size
            packets += 1
        self._counters.values["padding_sent"] += packets
        return left_bytes

    def _resend(self, consumer: Consumer, packet: Packet, segment: Segment, cluster: int, now_us: int) -> int:
        payload = bytearray(packet.payload)
        if packet.picture is not None:
            renumber(payload, 0, packet.picture, segment)
        original = ((packet.number + segment.shift) & 0xFFFF).to_bytes(2, "big")
        timestamp = (packet.timestamp + segment.timestamp_shift) & 0xFFFFFFFF
        whole = original + payload
        return self._send_repair(consumer, packet.extensions, packet.marker, timestamp, whole, 0, cluster, now_us)

    def _send_repair(
        self,
        consumer: Consumer,
        own: Sequence[tuple[int, bytes]],
        marker: int,
        timestamp: int,
        payload: bytes | bytearray,
        padding_bytes: int,
        cluster: int,
        now_us: int,
    ) -> int:
        """One packet of the repair stream; its bytes, 0 when it could not leave."""
        leg = consumer.leg
        if not leg.ready:
            return 0
        extensions, counter_at = extension_block(own, consumer.plan, now_us)
        word = 0x8000 | (0x1000 if extensions else 0) | marker | consumer.rtx_payload_type
        if padding_bytes:
            word |= 0x2000
        header = rtp.OUTBOUND.pack(word, consumer.rtx_seq, timestamp, consumer.rtx_ssrc)
        whole = bytearray(header + extensions + payload)
        if padding_bytes:
            whole += bytes(padding_bytes - 1) + bytes((padding_bytes,))
        if counter_at >= 0:
            sent = leg.sent = leg.sent or SentPackets()
            number = sent.next_number & 0xFFFF
            whole[counter_at : counter_at + 2] = number.to_bytes(2, "big")
            sent.note(number, (len(whole),), now_us, cluster)
        consumer.rtx_seq = (consumer.rtx_seq + 1) & 0xFFFF
        return len(whole) if self._send_protected(leg, whole, srtp_protect) else 0

    def send_sender_report(self, consumer: Consumer, now_us: int) -> None:
        """Tell a viewer what time its stream is at now, so that sound and picture meet from the first frame."""
        lane = consumer.lane
        media = None if lane is None else consumer.producer.layer_of(lane).media
        if media is None:
            return
        settle(consumer)
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
        if not compound:
            return False
        if leg.divert is not None:
            return leg.divert(compound)
        if leg.tx is None or leg.address is None:
            return False
        return self._send_protected(leg, compound, srtp_protect_rtcp)

    def _send_protected(self, leg: Leg, packet: bytes | bytearray, protect: Callable[..., int]) -> bool:
        size = len(packet)
        self._buffer.data[:size] = packet
        self._length[0] = size
        if protect(leg.tx, self._buffer.pointer, self._length) != SRTP_OK:
            self._counters.add("srtp_protect_errors")
            return False
        return self._send(leg, self._buffer.view[: self._length[0]], self._length[0])


def settle(consumer: Consumer) -> None:
    """Bring ``packets_sent`` and ``octets_sent`` up to date with what C has sent."""
    row = consumer.row
    if row is not None:
        consumer.packets_sent += row.packets
        consumer.octets_sent += row.octets
        row.packets = row.octets = 0


def _recorded(leg: Leg) -> SentPackets:
    """Where it is noted what is sent."""
    sent = leg.sent = leg.sent or SentPackets()
    return sent


def _take(leg: Leg, base: int, layout: Layout, now_us: int) -> int:
    """First transport-wide number of a burst towards one leg; it is noted as sent."""
    sent = _recorded(leg)
    sizes = layout.sizes
    if base > layout.least:
        sizes = [row[1] for row in layout.rows if row[3] >= base]
    return sent.take(sizes, now_us)


def _close_numbering(numbers: ViewerNumbers, left: list[Packet], source: Source, now_us: int) -> None:
    """Nothing after these packets of a burst has left."""
    end = source.end()
    for packet in left:
        if packet.number > end.number:
            end = packet.position()
    numbers.stop(end, now_us // 1000)
