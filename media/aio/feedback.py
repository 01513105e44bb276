"""RTCP both ways: what peers report and ask, and what the relay tells them in time.

Towards a publisher the relay is the receiver: NACK and key frame requests, transport-cc every
100 ms (REMB for those that know only that), receiver reports about every second. Towards a viewer it is
the sender: it answers NACK from the history as RTX, passes key frame requests on merged, answers
RRTR, and sends a sender report at the start and every second.

``tick`` drives what is periodic; formats and rules are in ``media.core``.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from media.aio.counters import Counters
from media.aio.forward import Forwarder
from media.aio.objects import Consumer, InboundStream, Layer, Producer
from media.aio.transport import REPORT_TURNS, Transport
from media.core import rtcp
from media.core.remb import LossBasedEstimate
from media.core.rewriter import Segment
from media.core.router import Flow, Packet, Source, let_go
from media.core.sender_report import compact_ntp, round_trip_us

TRANSPORT_CC_INTERVAL_US = 100_000
RELAY_SSRC = 1
"""Sender of reports to publishers; no media has it, so no viewer ever meets it."""
ASSUMED_ROUND_TRIP_US = 50_000
"""Between NACKs for the same packet: a publisher gets no media from us to measure its round trip with."""


class LineListener(Protocol):
    """What viewers say of their lines."""

    def feedback(self, transport: Transport, fci: bytes, now_us: int) -> None:
        """Which transport-wide numbers have come; raises `MalformedRtcp`."""

    def settle(self, transport: Transport, now_us: int) -> None:
        """Calm feedback was taken in elsewhere (``media.core.congestion.account``)."""

    def remb(self, transport: Transport, bitrate_bps: int, now_us: int) -> None:
        """The viewer's own estimate."""

    def report(self, transport: Transport, lost: float, round_trip_us: int | None) -> None:
        """A receiver report of all its streams."""


class Feedback:
    """RTCP of all Transports of one worker.

    Args:
        hurry: called when ``busy`` has become true.
    """

    def __init__(self, counters: Counters, forwarder: Forwarder, hurry: Callable[[], None]) -> None:
        self._counters = counters
        self._forwarder = forwarder
        self._hurry = hurry
        self._repairing: dict[tuple[str, int], tuple[Transport, InboundStream]] = {}
        """By Transport and SSRC: clients choose SSRCs, so two consults may have the same."""
        self._wanting: dict[Layer, Producer] = {}
        self._estimates: dict[str, LossBasedEstimate] = {}
        self._round_trips_us: dict[tuple[str, str], int] = {}
        """Of participants that are sent something: a publisher's own Transport gets no media to measure with."""
        self._lines: LineListener | None = None
        self.on_jump: Callable[[Producer], None] | None = None
        """Told of a Producer whose timestamps mean another time than before."""
        self._transport_cc_due_us = 0
        self._turn = 0

    def attach(self, lines: LineListener) -> None:
        """Give it the listener, which needs it first."""
        self._lines = lines

    @property
    def busy(self) -> bool:
        """Something is asked for again until it comes: ``tick`` is needed every 20 ms."""
        return bool(self._repairing or self._wanting)

    # ------------------------------------------------------------- decisions others ask for

    def want_keyframe(self, producer: Producer, layer: Layer, now_us: int) -> None:
        """A viewer needs a key frame of this layer."""
        if producer.is_audio:
            return
        was_busy = self.busy
        self._wanting[layer] = producer
        if not was_busy:
            self._hurry()
        if layer.keyframes.want(now_us // 1000):
            self._ask_keyframe(producer, layer)

    def media_began(self, producer: Producer, layer: Layer) -> None:
        """Its SSRC is known only now: ask for what was wanted before (ORTC trap 6)."""
        if layer in self._wanting:
            self._ask_keyframe(producer, layer)

    def renew_picture(self, consumer: Consumer, now_us: int) -> None:
        """A viewer has lost its picture: a key frame of what it follows."""
        lane = consumer.lane or consumer.entrance
        if lane is not None:
            self.want_keyframe(consumer.producer, consumer.producer.layer_of(lane), now_us)

    def repair(self, transport: Transport, stream: InboundStream, now_us: int) -> None:
        """Packets of a publisher are missing: ask for them, or for a key frame when they are too many."""
        round_trip_us = self._round_trips_us.get((transport.router_id, transport.owner), ASSUMED_ROUND_TRIP_US)
        lost = stream.receive.nacks_due(now_us, round_trip_us)
        if lost:
            self._forwarder.send_rtcp(transport.leg, rtcp.build_nack(RELAY_SSRC, stream.ssrc, lost))
            self._counters.add("nacks_sent")
        if stream.receive.take_key_frame_request():
            self.want_keyframe(stream.producer, stream.layer, now_us)
        if stream.receive.missing:
            was_busy = self.busy
            self._repairing[transport.id, stream.ssrc] = transport, stream
            if not was_busy:
                self._hurry()
        else:
            self._repairing.pop((transport.id, stream.ssrc), None)

    def forget(self, producer: Producer) -> None:
        """The Producer is gone."""
        for layer in producer.layers:
            self._wanting.pop(layer, None)
        for key in [k for k, (_, stream) in self._repairing.items() if stream.producer is producer]:
            del self._repairing[key]

    def forget_transport(self, transport: Transport) -> None:
        """The Transport is gone."""
        self._estimates.pop(transport.id, None)
        if transport.direction == "recv":
            self._round_trips_us.pop((transport.router_id, transport.owner), None)

    def round_trip_us(self, router: str, owner: str) -> int | None:
        """Last measured to a participant that is sent something."""
        return self._round_trips_us.get((router, owner))

    # ------------------------------------------------------------- what peers say

    def received(self, transport: Transport, compound: bytes, now_us: int) -> None:
        """One decrypted RTCP datagram."""
        fci = rtcp.read_lone_feedback(compound)
        if fci is not None:
            self._feedback(transport, fci, now_us)
            return
        try:
            items = rtcp.parse(compound)
        except rtcp.MalformedRtcp:
            self._counters.add("rtcp_malformed")
            return
        reference: rtcp.Rrtr | None = None
        for item in items:
            match item:
                case rtcp.TransportFeedback():
                    self._feedback(transport, item.fci, now_us)
                case rtcp.Remb() if self._lines is not None:
                    self._lines.remb(transport, item.bitrate_bps, now_us)
                case rtcp.SenderReport():
                    self._sender_report(transport, item, now_us)
                case rtcp.ReceiverReport():
                    self._report_blocks(transport, item.blocks, now_us)
                case rtcp.Nack():
                    self._nack(transport, item, now_us)
                case rtcp.Pli():
                    self._picture_lost(transport, (item.media_ssrc,), now_us)
                case rtcp.Fir():
                    self._picture_lost(transport, [ssrc for ssrc, _ in item.entries], now_us)
                case rtcp.Rrtr():
                    reference = item  # of several the last: an answer to each would be many times as long
                case _:
                    pass  # SDES, BYE and what does not concern a relay: nothing depends on them
        if reference is not None:
            self._reference_time(transport, reference)

    def settle(self, transport: Transport, now_us: int) -> None:
        """Transport-wide feedback was taken in without coming here."""
        if self._lines is not None:
            self._lines.settle(transport, now_us)

    def _feedback(self, transport: Transport, fci: bytes, now_us: int) -> None:
        if self._lines is not None:
            try:
                self._lines.feedback(transport, fci, now_us)
            except rtcp.MalformedRtcp:
                self._counters.add("rtcp_malformed")

    def _sender_report(self, transport: Transport, report: rtcp.SenderReport, now_us: int) -> None:
        stream = transport.streams.get(report.ssrc)
        if stream is not None:
            stream.receive.on_sender_report(report.ntp, now_us)
            if not stream.is_rtx:
                stream.time.on_sender_report(report.ntp, report.rtp_timestamp, now_us)
                jumped = stream.capture.on_sender_report(report.ntp, report.rtp_timestamp, now_us)
                if jumped and self.on_jump is not None:
                    self.on_jump(stream.producer)
        self._report_blocks(transport, report.blocks, now_us)

    def _report_blocks(self, transport: Transport, blocks: Iterable[rtcp.ReportBlock], now_us: int) -> None:
        lost = round_trip = 0
        heard = False
        for block in blocks:
            consumer = transport.consumers.get(block.ssrc)
            if consumer is not None:
                heard = True
                self._counters.values["receiver_reports"] += 1
                lost = max(lost, block.fraction_lost)
                found_us = round_trip_us(now_us, block.lsr, block.dlsr)
                if found_us is not None:
                    consumer.round_trip_us = round_trip = found_us
        if round_trip:
            self._round_trips_us[transport.router_id, transport.owner] = round_trip
        if heard and self._lines is not None:
            self._lines.report(transport, lost / 256, round_trip or None)

    def _nack(self, transport: Transport, nack: rtcp.Nack, now_us: int) -> None:
        consumer = transport.consumers.get(nack.media_ssrc)
        if consumer is None:
            self._counters.add("rtcp_unknown_ssrc")
            return
        if not consumer.rtx_payload_type or consumer.flow is not Flow.LIVE:
            return
        for seq in nack.lost:
            self._counters.values["nacks_received"] += 1
            found = _sent(consumer, seq)
            if found is None:
                self._counters.values["nacks_missed"] += 1
            elif not consumer.may_resend(now_us):
                self._counters.values["nacks_over_budget"] += 1
            elif self._forwarder.resend(consumer, *found, now_us):
                consumer.resends_left -= 1
                self._counters.values["rtx_sent"] += 1

    def _picture_lost(self, transport: Transport, ssrcs: Iterable[int], now_us: int) -> None:
        for ssrc in ssrcs:
            consumer = transport.consumers.get(ssrc)
            if consumer is None:
                self._counters.add("rtcp_unknown_ssrc")
            else:
                self._counters.values["plis_received"] += 1
                self.renew_picture(consumer, now_us)

    def _reference_time(self, transport: Transport, reference: rtcp.Rrtr) -> None:
        """A viewer that sends no media asks for the round trip; libwebrtc wants it from each stream's SSRC."""
        block = rtcp.DlrrBlock(reference.sender_ssrc, compact_ntp(reference.ntp), 0)
        answer = b"".join(rtcp.build_dlrr(ssrc, (block,)) for ssrc in list(transport.consumers)[:16])
        if self._forwarder.send_rtcp(transport.leg, answer):
            self._counters.add("dlrr_sent")

    # ------------------------------------------------------------- what is due

    def tick(self, transports: Iterable[Transport], now_us: int) -> None:
        """Do what is due; call every 20 ms while ``busy``, else every 100 ms."""
        for transport, stream in list(self._repairing.values()):
            self.repair(transport, stream, now_us)
        for layer, producer in list(self._wanting.items()):
            if not (layer.keyframes.wanted and layer.lanes):
                del self._wanting[layer]
            elif layer.keyframes.due(now_us // 1000):
                self._ask_keyframe(producer, layer)
        if now_us < self._transport_cc_due_us:
            return
        self._transport_cc_due_us = now_us + TRANSPORT_CC_INTERVAL_US
        self._turn = (self._turn + 1) % REPORT_TURNS
        for transport in transports:
            if transport.streams:
                self._transport_cc(transport)
            if transport.report_turn == self._turn and transport.leg.ready:
                self._report(transport, now_us)

    def _transport_cc(self, transport: Transport) -> None:
        arrivals = transport.arrivals
        if arrivals.pending and transport.leg.ready:
            for packet in arrivals.build(RELAY_SSRC, next(iter(transport.streams))):
                self._forwarder.send_rtcp(transport.leg, packet)
                self._counters.values["transport_cc_sent"] += 1

    def _report(self, transport: Transport, now_us: int) -> None:
        for consumer in transport.consumers.values():
            if consumer.flow is Flow.LIVE:
                self._forwarder.send_sender_report(consumer, now_us)
            let_go(consumer, now_us // 1000)
        if transport.streams:
            self._receiver_report(transport, now_us)

    def _receiver_report(self, transport: Transport, now_us: int) -> None:
        blocks = []
        lost = 0.0
        for stream in transport.streams.values():
            block = stream.receive.report_block(now_us)
            if block is not None:
                blocks.append(block)
                if not stream.is_rtx:  # what is lost of repairs and padding is no loss of the media
                    lost = max(lost, block.fraction_lost / 256)
        if not blocks:
            return
        for start in range(rtcp.MAX_BLOCKS, len(blocks), rtcp.MAX_BLOCKS):  # a datagram each: all would not fit one
            more = rtcp.build_receiver_report(RELAY_SSRC, blocks[start : start + rtcp.MAX_BLOCKS])
            self._forwarder.send_rtcp(transport.leg, more)
        compound = rtcp.build_receiver_report(RELAY_SSRC, blocks[: rtcp.MAX_BLOCKS])
        remb = [
            layer.media.ssrc
            for producer in transport.producers.values()
            if producer.parameters.feedback.remb and not producer.parameters.feedback.transport_cc
            for layer in producer.layers
            if layer.media
        ]
        if remb:
            estimate = self._estimates.setdefault(transport.id, LossBasedEstimate())
            compound += rtcp.build_remb(RELAY_SSRC, estimate.update(lost), remb)
            self._counters.values["remb_sent"] += 1
        self._forwarder.send_rtcp(transport.leg, compound)

    def _ask_keyframe(self, producer: Producer, layer: Layer) -> None:
        media = layer.media
        if media is None:
            return  # nothing has come yet; an encoder's first frame is a key frame
        request = rtcp.build_pli(RELAY_SSRC, media.ssrc)  # every client that knows FIR knows PLI
        if self._forwarder.send_rtcp(producer.leg, request):
            self._counters.add("plis_sent")


def _sent(consumer: Consumer, seq: int) -> tuple[Packet, Segment] | None:
    """What a viewer got under this number, from the lane it follows or the one it has just left."""
    numbers = consumer.numbers
    for segment in (numbers.now, numbers.before):
        source: Source | None = None if segment is None else segment.source
        if source is None or segment is None:
            continue
        number = segment.lane_number(seq, source.highest)
        packet = None if number is None else source.history.get(number)
        if packet is not None:
            return packet, segment
    return None
