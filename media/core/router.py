"""Producer -> Consumers of one Router: who gets the next packet, and who waits to be let in.

What viewers follow is a `Lane`: one numbered sequence of packets, a layer of a Producer up to one
temporal layer. A viewer's numbers are a constant shift of its lane's, so one template serves all of a lane and
one history answers them. Changing layers is leaving one lane and joining another.

A Consumer is *idle* (paused, its Producer paused, or its Transport not up), *waiting* (everything is
up; video starts with a key frame only) or *live*, perhaps waiting for another lane at the same time.
Only live Consumers are touched per packet, so they lie in lists the forwarding loop walks
without asking. Consumers that negotiated the same header extensions form a group, because they
get the same bytes but for twelve (and three more of a VP8 picture put together from several lanes).

Building and encrypting those bytes is ``media.aio.forward``; numbers are ``rewriter``; which lane
a viewer should follow is ``layers``.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, TypeVar

from media.core.history import HISTORY_PACKETS, History
from media.core.rewriter import Position, Segment, SourceNumbers, ViewerNumbers


class Flow(Enum):
    """What a Consumer gets now."""

    IDLE = "idle"
    WAITING = "waiting"
    LIVE = "live"


class ExtensionPlan(NamedTuple):
    """Header extensions of one group of Consumers, by the Router's ids.

    MID is not among them: viewers find their stream by SSRC (``ortc.SENT_EXTENSIONS``).
    """

    ids: frozenset[int]
    abs_send_time_id: int = 0
    """0: not negotiated. Filled in with the time of sending: receivers measure delay with it."""
    transport_cc_id: int = 0
    """0: not negotiated. Filled in with the leg's own number: feedback names packets by it."""


class Packet(NamedTuple):
    """One RTP packet on its way from a source to its viewers."""

    number: int
    """Continuous number of the source."""
    timestamp: int
    marker: int
    """0 or 0x80: the bit as it stands in the second byte."""
    extensions: list[tuple[int, bytes]]
    """Under the Router's ids, only those that are passed on."""
    payload: bytes
    picture: "Picture | None" = None
    """What VP8 counts pictures with; None for payloads without."""

    def position(self) -> Position:
        """Its place in its lane."""
        picture = self.picture
        if picture is None:
            return Position(self.number, self.timestamp)
        return Position(self.number, self.timestamp, picture.number, picture.tl0)


Kept = tuple[int, int, int, Sequence[tuple[int, bytes]], bytes, tuple[int, bool, int, int, int] | None]
"""A `Packet` in a history: fields of plain tuples, which Python's collector looks at once and never again. Named tuples
it keeps on its list: of nine consults a hundred thousand, a quarter of a second to walk."""


class PacketHistory:
    """The last packets of a source by their number."""

    __slots__ = ("_ring",)

    def __init__(self, size: int = HISTORY_PACKETS) -> None:
        self._ring: History[Kept] = History(size)

    @property
    def size(self) -> int:
        """How many packets it keeps at most."""
        return self._ring.size

    def tail(self, highest: int) -> "PacketHistory":
        """The last few up to this number, in a history of their own."""
        made = PacketHistory(REMAINING_PACKETS)
        for number in range(highest - REMAINING_PACKETS + 1, highest + 1):
            kept = self._ring.get(number)
            if kept is not None:
                made._ring.put(number, kept)
        return made

    def put(self, packet: "Packet") -> None:
        """Keep a packet."""
        number, timestamp, marker, extensions, payload, picture = packet
        plain = None if picture is None else tuple.__new__(tuple, picture)
        self._ring.put(number, (number, timestamp, marker, tuple(extensions), payload, plain))

    def put_all(self, first: int, rows: Sequence[Kept]) -> None:
        """`put` for packets whose numbers follow each other."""
        self._ring.put_all(first, rows)

    def get(self, number: int) -> "Packet | None":
        """The packet of this number, or None when it was overwritten or never here."""
        kept = self._ring.get(number)
        if kept is None:
            return None
        _, timestamp, marker, extensions, payload, plain = kept
        return Packet(number, timestamp, marker, list(extensions), payload, None if plain is None else Picture(*plain))


class Picture(NamedTuple):
    """Counters of a VP8 payload that a viewer must see go on without a step back (RFC 7741 section 4.2)."""

    at: int
    """Offset of PictureID in the payload."""
    wide: bool
    """15 bits instead of 7."""
    number: int
    tl0_at: int
    """Offset of TL0PICIDX, -1 without."""
    tl0: int


REMAINING_PACKETS: Final = 64
"""Kept of a lane that a viewer left: a probe whether its line can carry the picture again is made of them."""
REMEMBERED_MS: Final = 3_000
"""A viewer asks for packets of what it has left within a few round trips; a history holds about as much."""


@dataclass(slots=True, eq=False)
class ConsumerState:
    """The forwarding side of one Consumer."""

    ssrc: int
    rtx_ssrc: int
    """0: RTX was not negotiated."""
    plan: ExtensionPlan
    numbers: ViewerNumbers
    rtx_seq: int
    flow: Flow = Flow.IDLE
    lane: "Lane[Any] | None" = None
    """The one it is live in."""
    entrance: "Lane[Any] | None" = None
    """The one it waits to be let into, first or in place of ``lane``."""
    packets_sent: int = 0
    octets_sent: int = 0


C = TypeVar("C", bound=ConsumerState)


@dataclass(slots=True, eq=False)
class Source:
    """Numbers and history of the SSRC a lane is fed from now."""

    ssrc: int
    newest: int
    """Highest extended sequence number when the last packet came."""
    numbers: SourceNumbers = field(default_factory=SourceNumbers)
    pictures: SourceNumbers = field(default_factory=SourceNumbers)
    """The same for VP8 picture ids, extended: lanes without the upper temporal layers count their own."""
    picture: int = -1
    """Highest extended picture id so far."""
    history: PacketHistory = field(default_factory=PacketHistory)
    key_timestamp: int = -1
    """Of the last key frame."""
    highest: int = -1
    """Highest number handed to viewers."""
    highest_timestamp: int = 0
    highest_picture: Picture | None = None

    def ended(self) -> "Source":
        """What is left of it for who followed it long ago: where it is now, and its last few packets."""
        return Source(
            self.ssrc, self.newest, highest=self.highest, highest_timestamp=self.highest_timestamp,
            highest_picture=self.highest_picture, history=self.history.tail(self.highest),
        )  # fmt: skip

    def handed_out(self, burst: list[Packet]) -> None:
        """These packets are the viewers' now."""
        for packet in burst:
            if packet.number > self.highest:
                self.highest, self.highest_timestamp = packet.number, packet.timestamp
                if packet.picture is not None:
                    self.highest_picture = packet.picture

    def end(self) -> Position:
        """Where a viewer is that has been handed everything."""
        picture = self.highest_picture
        if picture is None:
            return Position(self.highest, self.highest_timestamp)
        return Position(self.highest, self.highest_timestamp, picture.number, picture.tl0)


@dataclass(slots=True, eq=False, weakref_slot=True)
class Lane(Generic[C]):
    """One sequence of packets that viewers can follow.

    No cycle leads through it: its history is a megabyte, which goes with the last who followed.
    """

    spatial: int
    """Layer of the Producer, 0 the smallest."""
    temporal: int
    """Temporal layers above this one are left out; ``EVERY_TEMPORAL`` leaves out none."""
    redundant: bool = False
    """Of a sound that is sent as RED: it is passed on so. The other lane has each packet once."""
    source: Source | None = None
    live: dict[ExtensionPlan, list[C]] = field(default_factory=dict)
    waiting: list[C] = field(default_factory=list)
    burst: list[Packet] = field(default_factory=list)
    prepared: dict[ExtensionPlan, Any] = field(default_factory=dict)
    """What the sender keeps of each group from burst to burst; gone as soon as somebody comes or goes."""
    armed: Any = None
    """What the receiver keeps of the whole lane (``media.aio.intake``), good as long as it is ``still``."""
    still: "array[int]" = field(default_factory=lambda: array("b", (0,)))
    """One entry, in an array so that C reads it. 1: nobody came, went or waits since the receiver set it."""

    def disturb(self) -> None:
        """What was written down of the lane is no longer so."""
        self.still[0] = 0

    @property
    def watched(self) -> bool:
        """Somebody gets packets or would."""
        return bool(self.waiting or self.live)

    def wait(self, consumer: C) -> None:
        """Let this Consumer in at the next entrance; until then it stays where it is."""
        if consumer.entrance is self:
            return
        if consumer.entrance is not None:
            consumer.entrance.waiting.remove(consumer)
        consumer.entrance = self
        self.waiting.append(consumer)
        self.disturb()
        if consumer.flow is Flow.IDLE:
            consumer.flow = Flow.WAITING

    def let_in(self, consumer: C) -> None:
        """The Consumer is at an entrance of this lane and gets all that follows."""
        assert consumer.entrance is self
        self.waiting.remove(consumer)
        consumer.entrance = None
        if consumer.lane is not None:
            consumer.lane.let_out(consumer)
        consumer.lane = self
        consumer.flow = Flow.LIVE
        self.live.setdefault(consumer.plan, []).append(consumer)
        self.prepared.pop(consumer.plan, None)
        self.disturb()

    def let_out(self, consumer: C) -> None:
        """The Consumer gets nothing more from here."""
        self.disturb()
        self.prepared.pop(consumer.plan, None)
        group = self.live[consumer.plan]
        group.remove(consumer)
        if not group:
            del self.live[consumer.plan]
        consumer.lane = None


def stop(consumer: ConsumerState) -> bool:
    """It gets nothing more and waits for nothing; True when it was live."""
    if consumer.entrance is not None:
        consumer.entrance.waiting.remove(consumer)
        consumer.entrance = None
    was_live = consumer.lane is not None
    if consumer.lane is not None:
        consumer.lane.let_out(consumer)
    consumer.flow = Flow.IDLE
    return was_live


def let_go(consumer: ConsumerState, now_ms: int) -> None:
    """A viewer that left a lane a while ago no longer keeps what was sent there: a megabyte for each that changed."""
    numbers = consumer.numbers
    if now_ms - numbers.stopped_ms < REMEMBERED_MS:
        return
    if numbers.before is not None:
        numbers.before = _without_packets(numbers.before)
    if consumer.lane is None:
        numbers.now = _without_packets(numbers.now)


def _without_packets(segment: Segment) -> Segment:
    source: Source | None = segment.source
    if source is None or source.history.size <= REMAINING_PACKETS:
        return segment
    return replace(segment, source=source.ended())


EVERY_TEMPORAL: Final = 7
"""Above what any codec's descriptor can name (RFC 7741: 2 bits; dependency descriptor: 3 bits)."""

RUN_PACKETS: Final = 16
"""Packets in one send: longer trains pay little and overrun Wi-Fi queues."""

Row = tuple[bytes, int, int, int, int, int, Picture | None, int]
"""Template, its length, first two header bytes as a number, lane's number, timestamp, payload bytes, picture, and
offset of the transport-wide number (-1 without).

Offsets of the picture count from the beginning of the template.
"""


def plan_runs(sizes: list[int]) -> list[tuple[int, int]]:
    """Cut a burst into runs for UDP_SEGMENT: equal sizes, only the last may be smaller.

    Returns:
        ``(start, end)`` index pairs that cover ``sizes``.
    """
    runs = []
    start = 0
    count = len(sizes)
    while start < count:
        size = sizes[start]
        end = start + 1
        while end < count and end - start < RUN_PACKETS and sizes[end] == size:
            end += 1
        if end < count and end - start < RUN_PACKETS and sizes[end] < size:
            end += 1
        runs.append((start, end))
        start = end
    return runs
