"""The lines to viewers: what each carries, and what of it each picture gets.

One `ViewerLine` (``media.core.congestion``) for every Transport that receives. It is fed with what the
viewer reports, asked when it is due (ten times a second while something is wanting, else hardly ever), and what it
decides is carried out here: layers change through
``steering``, probes leave as padding in small pieces, signalling learns how the line is.

A line of which nothing has been heard limits nobody: a viewer that sends no feedback is no slower for
it, and the first picture of a new one does not wait for an estimate. From then on nothing that has only
one layer is taken away before the line has shown that it is too thin.
"""

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from media.aio.counters import Counters
from media.aio.forward import Forwarder, settle
from media.aio.objects import Consumer
from media.aio.steering import Steering, offers
from media.aio.transport import Transport
from media.core import control
from media.core.congestion.allocator import Demand
from media.core.congestion.delay import Usage
from media.core.congestion.line import Plan, ViewerLine
from media.core.congestion.probe import Probe
from media.core.layers import NOTHING, Offer, Target

RESERVE_US = 1_000_000
"""Between measurements of sound."""
QUALITY_US = 2_000_000
WAVEFORM_BPS = 90_000
"""One 12-lead ECG at 500 Hz with its redundancy, DTLS and IP: measured 717 bytes on average, ten times a second."""
PACKET_OVERHEAD_BYTES = 66
"""IP, UDP, RTP with extensions, and the tag."""
PROBE_PIECE_S = 0.005
"""A probe leaves in pieces so far apart: in one piece it would be a burst, which measures a buffer."""
LOSS_THAT_LIMITS = 0.10
_NEVER = 1 << 62
FIRST_RESERVE_US = 200_000
"""Ten packets of sound; less would make one of them megabits."""
UNKNOWN_PACE_BPS = 4_000_000
"""Large bursts are paced for a line of this as long as it has not shown that it is thinner: the estimate begins low and
grows by probes, and the first key frame must not wait for it."""


class Line:
    """One viewer's line, and how far it has been told of."""

    __slots__ = (
        "due_us",
        "heard",
        "limited",
        "line",
        "measured_us",
        "media_octets",
        "quality_due_us",
        "reserved_bps",
        "transport",
    )

    def __init__(self, transport: Transport, now_us: int) -> None:
        self.transport = transport
        self.line: ViewerLine[str] = ViewerLine(now_us)
        self.heard = False
        """The viewer has sent feedback that an estimate can be made of."""
        self.line.pacer.least_bps = UNKNOWN_PACE_BPS
        self.limited = False
        """It has shown that it does not carry everything."""
        self.media_octets = 0
        self.measured_us = now_us
        self.reserved_bps = 0
        self.quality_due_us = now_us + QUALITY_US
        self.due_us = _NEVER
        """When to look at it next; an earlier appointment in `Lines` that says otherwise is void."""


class Lines:
    """Congestion control towards all viewers of one worker.

    Args:
        notify: tells signalling; must not block.
    """

    def __init__(
        self,
        counters: Counters,
        forwarder: Forwarder,
        steering: Steering,
        notify: Callable[[control.AnyNotification], None],
    ) -> None:
        self._counters = counters
        self._forwarder = forwarder
        self._steering = steering
        self._notify = notify
        self._lines: dict[str, Line] = {}
        self._due: list[tuple[int, int, Line]] = []
        """A heap of (when, order of making, line)."""
        self._appointments = count()
        steering.on_change = self.changed

    # ------------------------------------------------------------- what viewers say

    def began(self, transport: Transport, now_us: int) -> None:
        """SRTP towards a viewer is up."""
        line = self._lines[transport.id] = Line(transport, now_us)
        transport.leg.keep_line(line.line.estimator)
        self._look(line, line.quality_due_us)

    def ended(self, transport: Transport) -> None:
        """The Transport is gone."""
        found = self._lines.pop(transport.id, None)
        if found is not None:
            found.due_us = -1
            self._book(found.line)

    def feedback(self, transport: Transport, fci: bytes, now_us: int) -> None:
        """Which transport-wide numbers have come, and when.

        Raises:
            MalformedRtcp: nothing was changed.
        """
        found = self._lines.get(transport.id)
        if found is None:
            return
        urgent = found.line.on_feedback(fci, now_us)
        if not found.heard:
            self._hear(found, now_us)
        self._counters.values["transport_cc_received"] += 1
        if urgent:
            self._decide(found, now_us)

    def settle(self, transport: Transport, now_us: int) -> None:
        """Calm feedback was taken in elsewhere (``media.core.congestion.account``)."""
        found = self._lines.get(transport.id)
        if found is not None and found.line.settle(now_us):
            self._decide(found, now_us)

    def remb(self, transport: Transport, bitrate_bps: int, now_us: int) -> None:
        """The viewer's own estimate."""
        found = self._lines.get(transport.id)
        if found is None:
            return
        if not found.heard:
            self._hear(found, now_us)
        if found.line.on_remb(bitrate_bps, now_us):
            self._decide(found, now_us)

    def report(self, transport: Transport, lost: float, round_trip_us: int | None) -> None:
        """A receiver report."""
        found = self._lines.get(transport.id)
        if found is not None:
            found.line.on_report(lost, round_trip_us)

    def viewed(self, transport: Transport, now_us: int) -> None:
        """What the viewer wants has changed."""
        found = self._lines.get(transport.id)
        if found is not None and found.heard:
            self._decide(found, now_us)

    def changed(self, consumer: Consumer, now_us: int) -> None:
        """What a Consumer gets, or could get, is another."""
        found = self._lines.get(consumer.transport_id)
        if found is not None and found.heard:
            found.line.hurry()
            self._look(found, now_us)

    def _hear(self, found: Line, now_us: int) -> None:
        """The line is known from now on."""
        found.heard = True
        found.transport.leg.pacer = found.line.pacer
        self._look(found, now_us)

    def _look(self, found: Line, when_us: int) -> None:
        """Look at a line then, unless an earlier look is due."""
        if when_us < found.due_us:
            found.due_us = when_us
            heappush(self._due, (when_us, next(self._appointments), found))

    # ------------------------------------------------------------- what is due

    def tick(self, now_us: int) -> None:
        """Call at every tick: looks at the lines that are due and at no others."""
        due = self._due
        while due and due[0][0] <= now_us:
            when_us, _, found = heappop(due)
            if when_us == found.due_us:
                found.due_us = _NEVER
                try:
                    self._attend(found, now_us)
                except Exception:  # a bug met by one line must neither end its care nor keep the others waiting
                    self._counters.broke("line_errors")
                    self._look(found, now_us + QUALITY_US)

    def _attend(self, found: Line, now_us: int) -> None:
        line, transport = found.line, found.transport
        watching = bool(transport.consumers)
        if found.heard and watching and line.tick(now_us):
            self._decide(found, now_us)
        if now_us >= found.quality_due_us:
            found.quality_due_us = now_us + QUALITY_US
            self._book(line)
            if watching:
                self._tell(transport, found, now_us)
        next_us = found.quality_due_us
        if found.heard and watching:
            next_us = min(next_us, line.tick_us(now_us))
        self._look(found, next_us)

    def _book(self, line: ViewerLine[str]) -> None:
        """What a line counted of useless feedback belongs to the worker's counters."""
        estimator, sent = line.estimator, line.sent
        if estimator.ignored or sent.unknown or sent.late:
            self._counters.add("feedback_over_budget", estimator.ignored)
            self._counters.add("feedback_of_unknown", sent.unknown)
            self._counters.add("feedback_too_late", sent.late)
            estimator.ignored = sent.unknown = sent.late = 0

    # ------------------------------------------------------------- deciding

    def _decide(self, found: Line, now_us: int) -> None:
        transport = found.transport
        estimator = found.line.estimator
        estimator.settle()
        if estimator.usage is Usage.OVER or estimator.lost > LOSS_THAT_LIMITS:
            found.limited = True
            found.line.pacer.least_bps = 0
        seen: dict[str, list[Offer]] = {}
        demands = []
        for consumer in transport.consumers.values():
            producer = consumer.producer
            if producer.is_audio or consumer.paused or producer.paused:
                continue
            if producer.id not in seen:
                seen[producer.id] = offers(producer, now_us)
            demands.append(
                Demand(consumer.id, seen[producer.id], producer.spatial_layers, producer.content, consumer.view)
            )
        plan = found.line.decide(demands, self._reserved(transport, found, now_us), now_us)
        self._carry_out(transport, found, plan, now_us)
        if plan.probe is not None:
            self._probe(transport, plan.probe, plan.probe.size_bytes, now_us)
        self._look(found, found.line.tick_us(now_us))

    def _carry_out(self, transport: Transport, found: Line, plan: Plan[str], now_us: int) -> None:
        grants = plan.allocation.grants
        for consumer in list(transport.consumers.values()):
            grant = grants.get(consumer.id)
            if grant is None:
                continue
            allowed: Target | None = grant.target
            if grant.limited_by != "line":
                allowed = None
            elif grant.target == NOTHING and not found.limited:
                allowed = Target(0, 0)
            if allowed != consumer.allowed:
                consumer.allowed = allowed
                self._steering.steer(consumer, now_us)

    def _reserved(self, transport: Transport, found: Line, now_us: int) -> int:
        """Bits per second of sound and waveforms towards this viewer."""
        elapsed_us = now_us - found.measured_us
        if elapsed_us >= RESERVE_US or (not found.reserved_bps and elapsed_us >= FIRST_RESERVE_US):
            octets = sum(_audio_octets(consumer) for consumer in transport.consumers.values())
            if elapsed_us > 0 and octets >= found.media_octets:
                found.reserved_bps = (octets - found.media_octets) * 8_000_000 // elapsed_us
            found.media_octets, found.measured_us = octets, now_us
        return found.reserved_bps + WAVEFORM_BPS * transport.waveforms

    def _tell(self, transport: Transport, found: Line, now_us: int) -> None:
        estimator = found.line.estimator
        if found.line.settle(now_us):
            self._decide(found, now_us)
        heard = estimator.round_trip_us if found.heard else None
        self._notify(
            control.LineQuality(
                router=transport.router_id,
                owner=transport.owner,
                transport=transport.id,
                estimate_bps=estimator.estimate_bps,
                round_trip_ms=None if heard is None else heard / 1000,
                lost=round(estimator.lost, 4),
                protocol="udp" if transport.leg.stream is None else "tcp",
            )
        )

    # ------------------------------------------------------------- probing

    def _probe(self, transport: Transport, probe: Probe, left_bytes: int, now_us: int) -> None:
        """Send a piece of a probe now and the rest a few milliseconds later."""
        consumer = _repairable(transport)
        if consumer is None or transport.closed or left_bytes <= 0:
            return
        piece = min(left_bytes, max(1, int(probe.rate_bps * PROBE_PIECE_S / 8)))
        sent = self._forwarder.send_padding(consumer, piece, probe.cluster, now_us)
        if not sent or sent >= left_bytes:
            return
        began = asyncio.get_running_loop().time()

        def go_on() -> None:
            passed_us = int((asyncio.get_running_loop().time() - began) * 1e6)
            self._probe(transport, probe, left_bytes - sent, now_us + passed_us)

        asyncio.get_running_loop().call_later(sent * 8 / probe.rate_bps, go_on)


def _audio_octets(consumer: Consumer) -> int:
    if not consumer.producer.is_audio:
        return 0
    settle(consumer)
    return consumer.octets_sent + consumer.packets_sent * PACKET_OVERHEAD_BYTES


def _repairable(transport: Transport) -> Consumer | None:
    """A Consumer whose repair stream can carry padding."""
    for consumer in transport.consumers.values():
        if consumer.rtx_payload_type and (consumer.lane is not None or consumer.numbers.before is not None):
            return consumer
    return None
