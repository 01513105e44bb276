"""The C receive path, where it was built (``media/native/intake.c``): it sends ahead, and this books behind it.

At the rates of a consult nearly every wake-up is for one packet, and running the Python way for one packet on cold
caches costs more than encrypting it for fifty viewers. So the C function waits for the socket itself, and what is the
next packet of an *armed* stream it sends on at once, under the number it would get here. All such packets stand
whole in a log, and `Intake` books them, many at a time, with the very code that sends where there is no compiler
(``ingress``, ``lanes``): numbers, history, statistics, layers. Whatever is not so plain comes back, decrypted, and
takes the ordinary way; so do datagrams of strangers, STUN and DTLS.

[IN1] Nothing else runs before what was sent is booked: not asyncio, not feedback (it may stop a viewer).
[IN2] A stream is armed with what the ordinary way would do next, and only where that depends on nothing but the packet.
[IN3] Who comes or goes in a lane makes the C function stop before the next packet (``Lane.still``).
[IN4] A connectivity check is answered ahead only where the last one from there said the same, was authentic and changed
nothing but the time it came; whatever may change what a check means ends that.

Long on purpose: what is armed and what is booked behind it are two halves of one promise, [IN1] to [IN4].
"""

import math
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from struct import Struct
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary, ref

from media.aio.aiortc_port import (
    hmac_addresses,
    srtp_handle,
    srtp_unprotect_address,
    srtp_unprotect_rtcp_address,
)
from media.aio.clock import Clock
from media.aio.counters import Counters
from media.aio.fanout import FanOut, Table
from media.aio.objects import Consumer, InboundStream, Producer
from media.aio.objects import InLeg as LegView
from media.aio.stun import SteadyCheck
from media.aio.tcp import StreamAddress
from media.aio.transport import Transport
from media.aio.udp import UdpPort
from media.core.codecs import Codec
from media.core.congestion.account import DELTA_BYTES, RIPE_US, ROWS, Account
from media.core.congestion.delay import BASE_SPAN_US, GROUP_US, JUMP_US
from media.core.congestion.estimator import LineEstimator
from media.core.congestion.pacer import FREE_BURST_BYTES
from media.core.congestion.quiet import CALM_US
from media.core.congestion.sent import REMEMBERED, REMEMBERED_US
from media.core.ice import Address
from media.core.router import EVERY_TEMPORAL, ExtensionPlan, Lane
from media.core.serial import MASK_16
from media.core.twcc import TICK_US, TICKS_PER_REFERENCE

SETTLE_US: Final = 110_000
"""How long packets that have left may wait to be booked, and reports to be heard, while there is nothing else to do:
as a rule the relay's own tick comes before. Each time Python is called costs more than what it then does."""
HEAR_US: Final = 20_000
"""The same for feedback that is not calm."""
CLOCK_STEP_NS: Final = 1_000_000
_ENTRY: Final = Struct("=iiiiqqIIiihhHHHBBBB2x")
_ASK: Final = 2
_LEG, _SSRC, _PLAIN = itemgetter(0), itemgetter(6), itemgetter(-1)
_SENT, _UNSENT, _FEEDBACK, _ACCOUNT = 1, 2, 3, 4
_IDLE, _DATAGRAM, _RTP, _RTCP, _BATCH_END, _SETTLE, _FAILED, _ERROR = range(8)
_SHARED: Final = {
    "IN_ROWS": ROWS,
    "IN_DELTA_BYTES": DELTA_BYTES,
    "IN_GROUP_US": GROUP_US,
    "IN_RIPE_US": RIPE_US,
    "IN_CALM_US": CALM_US,
    "IN_JUMP_US": JUMP_US,
    "IN_BASE_SPAN_US": BASE_SPAN_US,
    "IN_REMEMBERED_US": REMEMBERED_US,
    "IN_TICK_US": TICK_US,
    "IN_REFERENCE_US": TICK_US * TICKS_PER_REFERENCE,
}
"""What the C function knows of the rules of calm feedback."""


class Booking(Protocol):
    """The ordinary way, from where a packet is decrypted."""

    def decrypted(self, transport: Transport, offset: int, end: int, now_us: int, is_rtcp: bool) -> None:
        """One packet in the receive buffer, whole and authentic."""

    def book(self, transport: Transport, ahead: Sequence[tuple[int, ...]]) -> None:
        """Packets of one stream that were sent ahead, of which entries of the log say everything."""

    def arrived(self, transport: Transport, ahead: Sequence[tuple[int, ...]]) -> None:
        """Such packets of all streams of a Transport, for its transport-wide numbers."""

    def settle(self, transport: Transport, now_us: int) -> None:
        """Feedback of this viewer was taken in, and for now no more is."""

    def used(self, transport: Transport, ahead: tuple[int, ...]) -> None:
        """One that was sent ahead and could not be booked: its number is gone all the same."""


class Sending(Protocol):
    """Lanes that have gathered packets."""

    def flush(self, now_us: int) -> None:
        """Send them."""

    def put_aside(self) -> None:
        """What is gathered by now waits; what is gathered from now on has left already."""

    def sent(self, failed: "FailedBurst | None", now_us: int) -> None:
        """That has left; what was put aside is gathered again."""


class FailedBurst:
    """A burst that left in part: where to go on with it."""

    __slots__ = ("at", "lane", "packets", "producer", "status", "tables")

    def __init__(self, armed: "ArmedLane", lane: "Lane[Consumer]", packets: int, at: int, status: int) -> None:
        self.producer, self.lane, self.tables = armed.producer, lane, armed.tables
        self.packets = packets
        self.at = at
        """The group that was being served, of ``tables``; those before it have got everything."""
        self.status = status


class ArmedLane:
    """A lane as the C function reads it."""

    __slots__ = ("__weakref__", "_kept", "cdata", "lane", "producer", "tables")

    def __init__(self, ffi: Any, identity: int, producer: Producer, lane: "Lane[Consumer]") -> None:
        self.producer = producer
        self.lane = ref(lane)
        """Which has this one in turn: the two must not keep each other."""
        self.tables: list[tuple[ExtensionPlan, Table]] = [(plan, lane.prepared[plan]) for plan in lane.live]
        groups = ffi.new("in_group[]", len(self.tables))
        for row, (plan, table) in zip(groups, self.tables, strict=True):
            row.viewers, row.count = table.pointers, len(table.members)
            row.send_time_id, row.counter_id = plan.abs_send_time_id, plan.transport_cc_id
            row.ids = sum(1 << identifier for identifier in plan.ids if identifier < 16)
        still = ffi.from_buffer("int8_t *", lane.still)
        self.cdata: Any = ffi.new("in_lane *")
        self.cdata.still, self.cdata.groups, self.cdata.group_count = still, groups, len(self.tables)
        self.cdata.payload_type, self.cdata.id = producer.payload_type, identity
        if not producer.is_audio:
            members = [member.leg for _, table in self.tables for member in table.members]
            self.cdata.paced = 1 if len(set(map(id, members))) == len(members) else _ASK  # a line is asked once
        self._kept = (groups, still)


class InLeg:
    """A Transport as the C function reads it."""

    __slots__ = ("_ffi", "_heard", "_kept", "addresses", "cdata", "transport")

    def __init__(self, ffi: Any, identity: int, transport: Transport) -> None:
        self._ffi = ffi
        self.transport = transport
        self.cdata: Any = ffi.new("in_leg *")
        self.cdata.id = identity
        self.addresses: dict[Address, Any] = {}
        self._kept: dict[int, tuple[Any, ArmedLane]] = {}
        """By SSRC what the row points to: rows of streams, and what these point to."""
        self._heard: tuple[Any, ...] = ()

    def use(self, context: Any) -> None:
        """Decrypt with this; None: nothing can be read."""
        self.cdata.srtp = self._ffi.NULL if context is None else self._ffi.cast("void *", srtp_handle(context))

    def hear(self, estimator: LineEstimator) -> None:
        """Take in calm feedback of the line this is of."""
        sent, account, cdata = estimator.sent, Account(), self.cdata
        held = [
            self._ffi.from_buffer("int64_t *", one) for one in (account.fields, sent.next, sent.send_us, sent.sizes)
        ]
        deltas = self._ffi.from_buffer("unsigned char *", account.deltas)
        cdata.account = self._ffi.cast("in_account *", held[0])
        cdata.next, cdata.send_us, cdata.sizes, cdata.deltas = *held[1:], deltas
        cdata.remembered = REMEMBERED
        self._heard = (*held, deltas)
        estimator.settle()
        estimator.account = account

    def arm(self, stream: InboundStream, armed: ArmedLane) -> Any:
        """The row of a stream that feeds this lane."""
        if stream.row is None:
            stream.row = self._ffi.new("in_stream *")
            stream.row.ssrc, stream.row.payload_type = stream.ssrc, stream.payload_type
            stream.row.pictures = stream.producer.parameters.codec is Codec.VP8
            # Of other pictures only their readers know what a key frame is, and a level is heard packet by packet.
            stream.row.plain = stream.row.pictures or (stream.producer.is_audio and stream.producer.level is None)
            for theirs, ours in stream.producer.forwarded_ids.items():
                if theirs < 16:
                    stream.row.ours[theirs] = ours
            known = self.transport.streams
            kept = {ssrc: pair for ssrc, pair in self._kept.items() if ssrc in known and known[ssrc].row is pair[0]}
            kept[stream.ssrc] = stream.row, armed
            for at, (row, _) in enumerate(kept.values()):
                self.cdata.streams[at] = row
            self.cdata.stream_count = len(kept)
            self._kept = kept
        stream.row.lane = armed.cdata
        self.cdata.counter_id = self.transport.twcc_id
        self._kept[stream.ssrc] = stream.row, armed
        return stream.row

    def take_checks(self) -> list[tuple[Address, int]]:
        """From where checks were answered since this was asked last, and when, microseconds."""
        taken = []
        for address, row in self.addresses.items():
            if row.checked_us:
                taken.append((address, row.checked_us))
                row.checked_us = 0
        return taken

    def hear_checks(self) -> None:
        """What checks mean may be another now: the next is not answered without asking."""
        for row in self.addresses.values():
            row.check_bytes = 0

    def disarm(self) -> None:
        """Packets come another way now: the next of each stream is not the one that was expected."""
        for row, _ in self._kept.values():
            row.armed = 0


class Intake:
    """The C function's tables, and what it leaves to be done.

    Args:
        fan: the loaded library.
        udp: the socket; packets are read into its buffer.
        on_datagram: takes what is not decrypted, as from `UdpPort`.
    """

    def __init__(
        self,
        fan: FanOut,
        udp: UdpPort,
        counters: Counters,
        clock: Clock,
        booking: Booking,
        sending: Sending,
        on_datagram: Callable[[int, int, Address, int], None],
        on_batch_end: Callable[[int], None],
    ) -> None:
        self._fan, self._udp, self._counters, self._clock = fan, udp, counters, clock
        self._booking, self._sending = booking, sending
        self._on_datagram, self._on_batch_end = on_datagram, on_batch_end
        self._ffi, self._lib = fan.ffi, fan.lib
        state = self._state = self._ffi.new("in_state *")
        state.fan = fan.state
        state.unprotect_rtp = self._ffi.cast("in_unprotect", srtp_unprotect_address())
        state.unprotect_rtcp = self._ffi.cast("in_unprotect", srtp_unprotect_rtcp_address())
        found = hmac_addresses()
        if found is not None:
            state.hmac, state.sha1 = self._ffi.cast("in_hmac", found[0]), self._ffi.cast("void *", found[1])
        self._arena: Any = self._ffi.from_buffer("unsigned char *", udp.buffer.data)
        state.arena, state.arena_bytes = self._arena, len(udp.buffer.data)
        state.free_burst_bytes = FREE_BURST_BYTES
        state.settle_us, state.hear_us = SETTLE_US, HEAR_US
        self._log = memoryview(self._ffi.buffer(state.log))
        self._serve = self._lib.in_serve
        assert self._ffi.sizeof("in_entry") == _ENTRY.size
        assert all(getattr(self._lib, name) == value for name, value in _SHARED.items())
        self._legs: dict[int, LegView] = {}
        self._armed: WeakValueDictionary[int, ArmedLane] = WeakValueDictionary()
        self._next = 0
        self.booked = 0
        """Packets that were sent ahead."""
        self._host = self._ffi.new("char[64]")
        self._port = self._ffi.new("int *")
        self._flow, self._scope = self._ffi.new("uint32_t *"), self._ffi.new("uint32_t *")

    # ------------------------------------------------------------- tables

    def learn(self, address: Address, transport: Transport) -> None:
        """What comes from there is this Transport's."""
        if isinstance(address, StreamAddress):
            return
        leg = transport.leg.intake
        if leg is None:
            leg = InLeg(self._ffi, self._identity(), transport)
            transport.leg.keep_intake(leg)
        self._legs[leg.cdata.id] = leg
        if address not in leg.addresses:
            host, port, *rest = address
            scope = rest[1] if rest else 0
            entry = leg.addresses[address] = self._ffi.new("in_address *")
            self._lib.in_learn(self._state, entry, leg.cdata, host.encode(), port, scope, len(rest) > 0)

    def forget(self, address: Address, transport: Transport) -> None:
        """What comes from there is nobody's, or another's; unknown addresses are ignored."""
        leg = transport.leg.intake
        entry = None if leg is None else leg.addresses.pop(address, None)
        if leg is not None and entry is not None:
            self._lib.in_forget(self._state, entry)
            if not leg.addresses:
                self._legs.pop(leg.cdata.id, None)

    def answer(self, address: Address, transport: Transport, steady: SteadyCheck) -> None:
        """[IN4] Checks from there that differ from this one in nothing but their transaction are answered so."""
        leg = transport.leg.intake
        row = None if leg is None else leg.addresses.get(address)
        if row is None or self._state.hmac == self._ffi.NULL:
            return
        fields = (row.check, steady.check), (row.answer, steady.template), (row.key, steady.password)
        if any(len(value) > len(field) for field, value in fields):
            return
        for field, value in fields:
            self._ffi.memmove(field, value, len(value))
        row.check_bytes, row.answer_bytes, row.key_bytes = [len(value) for _, value in fields]

    def arm(self, producer: Producer, lane: "Lane[Consumer]") -> None:
        """[IN2] A lane was sent its burst by the ordinary way: the next packet in order may be sent ahead.

        Left to that way are lanes that hold only a part of their stream, more than one of a layer, sounds
        among which is chosen or that change their form, and publishers that are copied to another worker.
        """
        layer = producer.layer_of(lane)
        stream, source, leg = layer.media, lane.source, producer.leg.intake
        if (
            leg is None
            or stream is None
            or source is None
            or source.ssrc != stream.ssrc
            or source.newest != stream.receive.highest  # it began to count anew: so does the lane, with its next packet
            or len(layer.lanes) != 1
            or lane.waiting
            or lane.temporal != EVERY_TEMPORAL
            or producer.dependency_id
            or producer.paused
            or leg.transport.taps
            or producer.parameters.red_payload_type is not None
            or (producer.voices is not None and producer.voices.choosing)
            or not lane.live
            or lane.prepared.keys() != lane.live.keys()
        ):
            return
        armed: ArmedLane | None = lane.armed
        if armed is None or not lane.still[0]:
            armed = lane.armed = ArmedLane(self._ffi, self._identity(), producer, lane)
            self._armed[armed.cdata.id] = armed
            lane.still[0] = 1
        following = stream.receive.highest + 1
        number = source.numbers.number(following)
        if number is None:
            return
        row = leg.arm(stream, armed)
        row.number, row.expected, row.armed = number, following & MASK_16, 1

    def _identity(self) -> int:
        self._next = (self._next + 1) & 0x7FFF_FFFF
        return self._next

    # ------------------------------------------------------------- serving

    def wait(self, epoll: int, timeout_s: float | None) -> bool:
        """Serve the socket until something else is ready, the time is over, or something was left to do.

        Returns:
            One of the first two: other descriptors may be ready.
        """
        state = self._state
        began_ns = time.monotonic_ns()
        offset_ns = self._clock() * 1000 - began_ns  # too large by what passed between the two: the least is true
        if not 0 <= offset_ns - state.clock_ns <= CLOCK_STEP_NS:
            state.clock_ns = offset_ns
        timeout_ms = -1 if timeout_s is None else max(0, math.ceil(timeout_s * 1000))
        while True:
            code = self._serve(state, epoll, self._udp.descriptor, self._udp.direct_fd, timeout_ms)
            try:
                booked = self._settle(code)
                if code in (_DATAGRAM, _RTP, _RTCP):
                    self._hand_on(code)
                elif code in (_ERROR, _FAILED):
                    if code == _ERROR:
                        self._counters.add("udp_receive_errors")
                    if timeout_ms > 0:  # it may be so with every packet: others have their time all the same
                        passed_ms = (time.monotonic_ns() - began_ns) // 1_000_000
                        timeout_ms = max(0, math.ceil((timeout_s or 0) * 1000) - passed_ms)
                else:
                    if booked or code == _BATCH_END:  # booked late is a batch too: pipes send what they gathered
                        self._on_batch_end(self._clock())
                    # In the middle of a batch nobody else may read: what is left of it lies in the buffer of all.
                    return not state.reading and bool(code == _IDLE or state.others)
            except Exception:  # a bug met by one datagram must not end the read loop of every consult
                self._counters.broke("datagram_errors")

    def _hand_on(self, code: int) -> None:
        """What was handed back takes the ordinary way."""
        state = self._state
        if code == _DATAGRAM:
            self._on_datagram(state.at, state.stop - state.at, self._address(), state.now_us)
            return
        leg = self._legs.get(state.leg)
        if leg is not None:
            self._booking.decrypted(leg.transport, state.at, state.stop, state.now_us, code == _RTCP)

    def _address(self) -> Address:
        """Where the present read came from, as Python's sockets tell it."""
        family = self._lib.in_name(self._state, self._host, 64, self._port, self._flow, self._scope)
        host = self._ffi.string(self._host).decode()
        if family == 4:
            return host, self._port[0]
        return host, self._port[0], self._flow[0], self._scope[0]

    def _settle(self, code: int) -> bool:
        """[IN1] Book what was sent, send what was left to us, and only then read what was told.

        Returns:
            Whether there was anything to book.
        """
        state = self._state
        count, state.logged = state.logged, 0
        unsent, state.unsent = state.unsent, 0
        if count:
            now_us = self._clock()
            entries = list(_ENTRY.iter_unpack(self._log[: count * _ENTRY.size]))
            self._sending.put_aside()
            self._book_sent(entries, code != _FAILED)
            failed = None
            if code == _FAILED:
                armed = self._armed[state.lane]
                lane = armed.lane()
                if lane is not None:  # else nobody is left to whom the rest of it could go
                    failed = FailedBurst(armed, lane, state.row_count, state.group, state.status)
                    self._fan.go_on_with(state.templates, state.rows, state.row_count, failed.tables[failed.at][1])
            try:
                self._sending.sent(failed, now_us)
            except Exception:  # a bug met by one burst must not keep the others, nor what waits in the log
                self._counters.broke("flush_errors")
            if unsent:
                self._book_unsent(entries)
                self._sending.flush(now_us)
            self._hear(entries)
        values = self._counters.values
        if state.replayed or state.refused:
            values["srtp_replayed"] += state.replayed
            values["srtp_refused"] += state.refused
            state.replayed = state.refused = 0
        if state.calm:
            values["transport_cc_received"] += state.calm
            state.calm = 0
        if state.checks:
            values["stun_checks"] += state.checks
            state.checks = 0
        return bool(count)

    def _book_sent(self, entries: list[tuple[int, ...]], may_be_plain: bool) -> None:
        """Packets that were sent ahead, in order; of a burst that failed each is needed whole, as a part of it.

        Those of which the log says all are booked together: streams do not depend on each other.
        """
        sent = [entry for entry in entries if entry[3] == _SENT]
        if may_be_plain and all(map(_PLAIN, sent)):
            self._book_plain(sent)
            return
        plain: list[tuple[int, ...]] = []
        for entry in sent:
            if may_be_plain and entry[-1]:
                plain.append(entry)
                continue
            self._book_plain(plain)
            plain = []
            self._book_whole(entry)
        self._book_plain(plain)

    def _book_plain(self, entries: list[tuple[int, ...]]) -> None:
        for leg, of_leg in groupby(sorted(entries, key=_LEG), _LEG):
            ahead = list(of_leg)
            if leg in self._legs and self._legs[leg].transport.taps:
                for entry in ahead:
                    self._book_whole(entry)
                continue
            self.booked += len(ahead)
            for _, entries_of_stream in groupby(sorted(ahead, key=_SSRC), _SSRC):
                of_stream = list(entries_of_stream)
                try:
                    self._booking.book(self._legs[leg].transport, of_stream)
                except Exception:  # a bug met by one stream must not keep the others from being booked
                    self._broke(of_stream)
            try:
                self._booking.arrived(self._legs[leg].transport, ahead)
            except Exception:  # as above
                self._broke([])

    def _book_whole(self, entry: tuple[int, ...]) -> None:
        """By the ordinary way, which asks each packet itself."""
        self.booked += 1
        try:
            self._booking.decrypted(self._legs[entry[0]].transport, entry[1], entry[2], entry[4], False)
        except Exception:  # as above
            self._broke([entry])

    def _broke(self, entries: list[tuple[int, ...]]) -> None:
        """A bug met these: C and we may not be of one mind, the next of each stream takes the ordinary way."""
        self._counters.broke("datagram_errors")
        for leg in self._legs.values():
            leg.disarm()
        for entry in entries:
            if entry[0] in self._legs:
                self._booking.used(self._legs[entry[0]].transport, entry)

    def _book_unsent(self, entries: list[tuple[int, ...]]) -> None:
        """What the ordinary way takes from here."""
        legs = self._legs
        for entry in entries:
            if entry[3] == _UNSENT and entry[0] in legs:
                try:
                    self._booking.decrypted(legs[entry[0]].transport, entry[1], entry[2], entry[4], False)
                except Exception:  # as above
                    self._broke([])

    def _hear(self, entries: list[tuple[int, ...]]) -> None:
        """What viewers told of their lines."""
        legs = self._legs
        for entry in entries:
            kind = entry[3]
            if kind >= _FEEDBACK and entry[0] in legs:
                try:
                    if kind == _ACCOUNT:
                        self._booking.settle(legs[entry[0]].transport, entry[4])
                    else:
                        self._booking.decrypted(legs[entry[0]].transport, entry[1], entry[2], entry[4], True)
                except Exception:  # as above
                    self._broke([])
