"""Two ends of an SCTP association and the line between them, all in virtual time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from struct import pack, pack_into, unpack_from

from google_crc32c import value as crc32c

from media.core.sctp import Association, Closed, Event, Message, Opened, ResetDone, StreamsReset
from tests.netem import Link

TAG, PEER_TAG = 0x11111111, 0x22222222
TSN, PEER_TSN = 1000, 5000
KEY = b"k" * 16


def seal(chunks: bytes, tag: int = TAG) -> bytes:
    """A packet with a right checksum."""
    packet = bytearray(pack("!HHII", 5000, 5000, tag, 0) + chunks)
    pack_into("<I", packet, 8, crc32c(bytes(packet)))
    return bytes(packet)


def chunk(kind: int, body: bytes, *, flags: int = 0, length: int | None = None) -> bytes:
    return pack("!BBH", kind, flags, 4 + len(body) if length is None else length) + body + bytes(-len(body) & 3)


def data(tsn: int, payload: bytes = b"x", *, stream: int = 0, number: int = 0, flags: int = 3) -> bytes:
    return chunk(0, pack("!IHHI", tsn, stream, number, 53) + payload, flags=flags)


def sack(cumulative: int, *gaps: tuple[int, int], window: int = 1 << 20) -> bytes:
    body = pack("!IIHH", cumulative & 0xFFFFFFFF, window, len(gaps), 0)
    return chunk(3, body + b"".join(pack("!HH", *gap) for gap in gaps))


def kinds(packets: list[bytes]) -> list[int]:
    """Types of all chunks, in order."""
    found = []
    for packet in packets:
        position = 12
        while position < len(packet):
            found.append(packet[position])
            length = unpack_from("!H", packet, position + 2)[0]
            position += length + (-length & 3)
    return found


def init(tag: int = PEER_TAG, tsn: int = PEER_TSN) -> bytes:
    """A peer's INIT packet with the extensions of a browser."""
    parameters = pack("!HH", 0xC000, 4) + pack("!HHBBxx", 0x8008, 6, 130, 192)
    return seal(chunk(1, pack("!IIHHI", tag, 1 << 20, 1024, 1024, tsn) + parameters), 0)


def cookie_of(init_ack: bytes) -> bytes:
    """The state cookie of an INIT ACK packet."""
    position = 12 + 4 + 16
    while True:
        kind, length = unpack_from("!HH", init_ack, position)
        if kind == 7:
            return init_ack[position + 4 : position + length]
        position += length + (-length & 3)


def established(now_us: int = 0, *, peer_tsn: int = PEER_TSN) -> Association:
    """An association with a peer of whom only the packets are made by hand."""
    end = Association(TAG, TSN, KEY)
    end.receive(init(tsn=peer_tsn), now_us)
    (answer,) = end.flush(now_us)
    assert end.receive(seal(chunk(10, cookie_of(answer))), now_us) == [Opened()]
    assert kinds(end.flush(now_us)) == [11]
    return end


@dataclass
class Line:
    """How packets fare, drawn from a seed."""

    seed: int = 0
    loss: float = 0.0
    doubling: float = 0.0
    delay_us: tuple[int, int] = (1_000, 1_000)
    cut_us: tuple[int, int] = (0, 0)
    """From when to when nothing gets through."""


@dataclass
class End:
    """One association and what it said."""

    association: Association
    messages: list[Message] = field(default_factory=list)
    opened: int = 0
    closed: list[str] = field(default_factory=list)
    reset_by_peer: list[int] = field(default_factory=list)
    reset_done: list[int] = field(default_factory=list)

    def take(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Message():
                    self.messages.append(event)
                case Opened():
                    self.opened += 1
                case Closed():
                    self.closed.append(event.reason)
                case StreamsReset():
                    self.reset_by_peer += event.streams
                case ResetDone():
                    self.reset_done += event.streams


class Pair:
    """Both ends over a line, or over two links of the emulator, one for each way."""

    def __init__(
        self,
        line: Line,
        first_tsn: int = TSN,
        second_tsn: int = PEER_TSN,
        links: tuple[Link, Link] | None = None,
    ) -> None:
        self.ends = (
            End(Association(TAG, first_tsn, b"a" * 16)),
            End(Association(PEER_TAG, second_tsn, b"b" * 16)),
        )
        self.line = line
        self.links = links
        self.now_us = 0
        self.packets = 0
        self.sent: list[tuple[int, int, bytes]] = []
        """``(when, which end, packet)`` of all that left."""
        self._random = Random(line.seed)
        self._flying: list[tuple[int, int, int, bytes]] = []

    def connect(self) -> None:
        for end in self.ends:
            end.association.connect(self.now_us)
        self.run(lambda: all(end.opened for end in self.ends))

    def run(self, done: Callable[[], bool], limit_us: int = 600_000_000) -> None:
        """Let time pass until it is done.

        Raises:
            TimeoutError: it is not done within the limit, or nothing will ever happen again.
        """
        until_us = self.now_us + limit_us
        while not done():
            if self.now_us >= until_us or not self.step(until_us):
                raise TimeoutError

    def settle(self, limit_us: int = 600_000_000) -> None:
        """Until nothing flies and no timer runs.

        Raises:
            TimeoutError: something still goes on after the limit.
        """
        until_us = self.now_us + limit_us
        while self.step(until_us):
            if self.now_us >= until_us:
                raise TimeoutError

    def step(self, until_us: int) -> bool:
        """Go to what happens next, or to ``until_us`` when nothing does before; False when nothing ever will."""
        self._flush()
        deadlines = [end.association.deadline_us for end in self.ends]
        due = [at for at in deadlines if at is not None] + [flight[0] for flight in self._flying[:1]]
        if not due:
            return False
        self.now_us = max(self.now_us, min(*due, until_us))
        while self._flying and self._flying[0][0] <= self.now_us:
            _, _, side, packet = heappop(self._flying)
            self.ends[side].take(self.ends[side].association.receive(packet, self.now_us))
        for end in self.ends:
            end.association.tick(self.now_us)
        self._flush()
        return True

    def _flush(self) -> None:
        for side, end in enumerate(self.ends):
            for packet in end.association.flush(self.now_us):
                assert len(packet) <= 1192
                self.sent.append((self.now_us, side, packet))
                for at_us in self._arrivals(side, len(packet)):
                    self.packets += 1
                    heappush(self._flying, (at_us, self.packets, 1 - side, packet))

    def _arrivals(self, side: int, size_bytes: int) -> list[int]:
        if self.links is not None:
            return self.links[side].send(self.now_us, size_bytes)
        line = self.line
        is_cut = line.cut_us[0] <= self.now_us < line.cut_us[1]
        if is_cut or self._random.random() < line.loss:
            return []
        copies = 1 + (self._random.random() < line.doubling)
        return [self.now_us + self._random.randint(*line.delay_us) for _ in range(copies)]
