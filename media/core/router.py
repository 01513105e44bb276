"""Producer -> Consumers of one Router: who gets the next packet, and who waits for a key frame.

A Consumer is *idle* (paused, its Producer paused, or its Transport not up), *waiting* (everything is
up; video starts with a key frame only) or *live*. Only live Consumers are touched per packet, so
the states live in lists the forwarding loop walks without asking. Consumers that negotiated the
same header extensions form a group, because they get the same bytes but for twelve.

Building and encrypting those bytes is ``media.aio.forward``; numbers are ``rewriter``.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Generic, Literal, TypeVar

from media.core.history import History
from media.core.keyframes import KeyframeRequests
from media.core.rewriter import SourceNumbers, ViewerNumbers

MediaKind = Literal["audio", "video"]


class Flow(Enum):
    """What a Consumer gets now."""

    IDLE = "idle"
    WAITING = "waiting"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class ExtensionPlan:
    """Header extensions of one group of Consumers, by the Router's ids.

    MID is not among them: viewers find their stream by SSRC (``ortc.SENT_EXTENSIONS``).
    """

    ids: frozenset[int]
    abs_send_time_id: int = 0
    """0: not negotiated. Filled in with the time of sending: receivers measure delay with it."""


@dataclass(slots=True, eq=False)
class Packet:
    """One RTP packet on its way from a source to its viewers."""

    number: int
    """Continuous number of the source."""
    timestamp: int
    marker: int
    """0 or 0x80: the bit as it stands in the second byte."""
    extensions: list[tuple[int, bytes]]
    """Under the Router's ids, only those that are passed on."""
    payload: bytes
    key: bool
    """First packet of a key frame; always True for audio, which can start anywhere."""


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
    packets_sent: int = 0
    octets_sent: int = 0


C = TypeVar("C", bound=ConsumerState)


@dataclass(slots=True, eq=False)
class Fanout(Generic[C]):
    """Consumers of one Producer, by what they get now."""

    live: dict[ExtensionPlan, list[C]] = field(default_factory=dict)
    waiting: list[C] = field(default_factory=list)
    keyframes: KeyframeRequests = field(default_factory=KeyframeRequests)
    burst: list[Packet] = field(default_factory=list)

    @property
    def watched(self) -> bool:
        """Somebody gets packets or would."""
        return bool(self.waiting or self.live)

    def wait(self, consumer: C) -> None:
        """Everything is up for this Consumer: start it at the next key frame."""
        if consumer.flow is Flow.IDLE:
            consumer.flow = Flow.WAITING
            self.waiting.append(consumer)

    def go_live(self, consumer: C) -> None:
        """It has its key frame."""
        assert consumer.flow is Flow.WAITING
        self.waiting.remove(consumer)
        consumer.flow = Flow.LIVE
        self.live.setdefault(consumer.plan, []).append(consumer)

    def stop(self, consumer: C) -> bool:
        """It gets nothing more; True when it was live."""
        was, consumer.flow = consumer.flow, Flow.IDLE
        if was is Flow.WAITING:
            self.waiting.remove(consumer)
        elif was is Flow.LIVE:
            group = self.live[consumer.plan]
            group.remove(consumer)
            if not group:
                del self.live[consumer.plan]
        return was is Flow.LIVE


@dataclass(slots=True, eq=False)
class Source:
    """Numbers and history of the one media SSRC a Producer sends now."""

    ssrc: int
    newest: int
    """Highest extended sequence number when the last packet came."""
    numbers: SourceNumbers = field(default_factory=SourceNumbers)
    history: History[Packet] = field(default_factory=History)
    highest: int = -1
    """Highest number handed to viewers."""
    highest_timestamp: int = 0


RUN_PACKETS: Final = 16
"""Packets in one send: longer trains pay little and overrun Wi-Fi queues."""

Row = tuple[bytes, int, int, int, int, int]
"""Template, its length, first two header bytes as a number, source number, timestamp, payload bytes."""


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
