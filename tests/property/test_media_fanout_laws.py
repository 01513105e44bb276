"""Both ways to send a burst are one: the C function and pure Python produce the same datagrams and the same state.

Two worlds with the same keys, viewers and bursts, one on each path, send over real sockets on loopback. Compared
are the bytes each viewer received in order, who was given up and where its numbering was closed, counters, and the
record of transport-wide numbers. A socket that is full is a port that holds runs back and refuses some of them, for
both alike; a thin line is a pacer.
"""

import asyncio
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pylibsrtp import Policy, Session

from media.aio.counters import Counters
from media.aio.fanout import FanOut, ForwardUnavailable, load
from media.aio.forward import Forwarder, settle
from media.aio.objects import Consumer, Leg
from media.aio.udp import UdpPort
from media.core.congestion.pacer import Pacer
from media.core.congestion.sent import SentPackets
from media.core.ice import Address
from media.core.rewriter import Position, Segment, ViewerNumbers
from media.core.router import ExtensionPlan, Lane, Packet, Picture, Source, stop

MAX_VIEWERS = 5
NOW_US = 1_790_000_000_123_456
PROFILES = {Policy.SRTP_PROFILE_AEAD_AES_128_GCM: 28, Policy.SRTP_PROFILE_AES128_CM_SHA1_80: 30}
PLANS = [
    ExtensionPlan(frozenset()),
    ExtensionPlan(frozenset({4, 10, 11}), abs_send_time_id=4),
    ExtensionPlan(frozenset({4, 5, 10, 11, 13}), abs_send_time_id=4, transport_cc_id=5),
    ExtensionPlan(frozenset({5, 11}), transport_cc_id=5),
]


@dataclass
class Viewer:
    """What both worlds make the same Consumer of."""

    profile: int
    key: bytes
    plan: int
    ssrc: int
    segment: Segment
    reached: str
    counter: int
    estimate_bps: int | None
    """Of its line; None: not known, so nothing waits for it."""


@dataclass
class Case:
    viewers: list[Viewer]
    bursts: list[list[Packet]]
    full: bool
    refused: set[int]
    """Which sends find no room, when the socket is full."""


class Port(UdpPort):
    """A UDP port that can be full."""

    def __init__(self, counters: Counters) -> None:
        super().__init__(counters, lambda: NOW_US, lambda *_: None, lambda _: None)
        self.full = False
        self.no_room: set[int] = set()
        self.sends = 0

    @property
    def direct_fd(self) -> int:
        return -1 if self.full else super().direct_fd

    def send_one(self, datagram: memoryview, address: Address) -> bool:
        if self.full:
            return self.send_run(datagram, len(datagram), address)
        return super().send_one(datagram, address)

    def send_run(self, run: memoryview, segment_bytes: int, address: Address) -> bool:
        if self.full:
            self.sends += 1
            if self.sends in self.no_room:
                return False
        return super().send_run(run, segment_bytes, address)


@dataclass
class Stream:
    """Stands where a TCP connection would."""

    sent: list[tuple[bytes, int]] = field(default_factory=list)

    def send_run(self, run: memoryview, segment_bytes: int) -> bool:
        self.sent.append((bytes(run), segment_bytes))
        return True


class World:
    """One path with its Consumers."""

    def __init__(self, case: Case, fan: FanOut | None, sinks: list[socket.socket]) -> None:
        self.counters = Counters()
        self.port = Port(self.counters)
        self.port.open("127.0.0.1", 0)
        self.port.full, self.port.no_room = case.full, case.refused
        self.forwarder = Forwarder(self.port, self.counters, fan)
        self.lane: Lane[Consumer] = Lane(0, 7)
        self.lane.source = Source(77, newest=0)
        self.sessions: list[Session] = []
        self.streams: list[Stream] = []
        self.consumers = [self._consumer(viewer, sinks[at]) for at, viewer in enumerate(case.viewers)]
        self.lost: list[str] = []
        self.forwarder.on_lost = self._lose
        self.now_us = NOW_US

    def _consumer(self, viewer: Viewer, sink: socket.socket) -> Consumer:
        policy = Policy(key=viewer.key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=viewer.profile)
        policy.allow_repeat_tx = True
        policy.window_size = 1024
        self.sessions.append(Session(policy=policy))
        leg = Leg()
        leg.tx = self.sessions[-1]._srtp[0]
        leg.sent = SentPackets(viewer.counter)
        if viewer.estimate_bps is not None:
            leg.pacer = Pacer(viewer.estimate_bps, NOW_US)
        host, port = sink.getsockname()
        leg.address = (host, 0) if viewer.reached == "nowhere" else (host, port)
        if viewer.reached == "stream":
            stream: Any = Stream()
            leg.stream = stream
            leg.address = StreamLike(host, port, stream)
            self.streams.append(stream)
        camera: Any = SimpleNamespace(is_audio=False)
        made = Consumer(
            id=f"v{len(self.sessions)}", owner="o", producer=camera, transport_id="t", leg=leg, rtx_payload_type=0,
            ssrc=viewer.ssrc, rtx_ssrc=0, plan=PLANS[viewer.plan], numbers=ViewerNumbers(0), rtx_seq=0,
        )  # fmt: skip
        made.numbers.start(77, Position(viewer.segment.base, 0), 0, 90_000)
        made.numbers.now = viewer.segment
        self.lane.wait(made)
        self.lane.let_in(made)
        if viewer.reached == "keyless":
            leg.tx = None
        return made

    def send(self, burst: list[Packet]) -> None:
        self.lane.burst = list(burst)
        for consumer in self.forwarder.flush(self.lane, 101, self.now_us):
            self._lose(consumer, self.now_us)
        self.now_us += 7_000
        self.forwarder._pacing.release(self.now_us)

    def _lose(self, consumer: Consumer, now_us: int) -> None:
        self.lost.append(consumer.id)
        if consumer.lane is not None:
            stop(consumer)

    def close(self) -> None:
        self.forwarder.close()
        self.port.close()

    def state(self) -> Any:
        for consumer in self.consumers:
            settle(consumer)
        counts = {name: count for name, count in self.counters.values.items() if count and name != "forward_path_c"}
        return {
            "lost": self.lost,
            "counters": counts,
            "held": [consumer.held for consumer in self.consumers],
            "streams": [stream.sent for stream in self.streams],
            "numbers": [[getattr(c.numbers, name) for name in ViewerNumbers.__slots__] for c in self.consumers],
            "sent": [(c.packets_sent, c.octets_sent) for c in self.consumers],
            "noted": [
                (leg.sent.next, leg.sent.send_us, leg.sent.sizes)
                for leg in [consumer.leg for consumer in self.consumers]
                if leg.sent is not None
            ],
        }


class StreamLike(tuple[str, int, Any]):
    """The address of a TCP connection."""

    __slots__ = ()

    def __new__(cls, host: str, port: int, stream: Any) -> "StreamLike":
        return super().__new__(cls, (host, port, stream))

    @property
    def stream(self) -> Any:
        return self[2]


numbers_16 = st.integers(0, 0xFFFF)
numbers_32 = st.integers(0, 0xFFFFFFFF)


@st.composite
def packets(draw: st.DrawFn) -> list[list[Packet]]:
    number = draw(st.integers(3000, 1 << 20))
    bursts = []
    for _ in range(draw(st.integers(1, 3))):
        sizes = draw(st.lists(st.sampled_from([0, 3, 20, 700, 700, 1180, 1180, 1180]), min_size=1, max_size=40))
        sizes *= draw(st.sampled_from([1] * 20 + [12]))  # more than one call takes
        burst = []
        for size in sizes:
            number += 1
            far_back = draw(st.integers(0, 40)) == 0
            picture = None
            if size >= 20 and draw(st.booleans()):
                wide = draw(st.booleans())
                picture = Picture(
                    2, wide, draw(st.integers(0, 0x7FFF if wide else 0x7F)), draw(st.sampled_from([-1, 5])), -1
                )
                picture = picture._replace(tl0=draw(st.integers(0, 255)) if picture.tl0_at >= 0 else -1)
            extensions = draw(
                st.sampled_from(
                    [[], [], [(11, b"\x01")], [(10, b"\x42"), (11, b"\x02")], [(13, bytes(20))], [(11, b"abc")]]
                )
            )
            marker = draw(st.sampled_from([0, 0x80]))
            payload = (draw(st.binary(min_size=1, max_size=9)) * (size + 1))[:size]
            burst.append(
                Packet(number - 2500 if far_back else number, draw(numbers_32), marker, extensions, payload, picture)
            )
        bursts.append(burst)
    return bursts


@st.composite
def cases(draw: st.DrawFn) -> Case:
    bursts = draw(packets())
    start = bursts[0][0].number
    viewers = []
    for ssrc in draw(st.lists(numbers_32, min_size=1, max_size=MAX_VIEWERS, unique=True)):
        profile = draw(st.sampled_from(sorted(PROFILES)))
        late = draw(st.sampled_from([-4000, -4000, 0, 1, 5]))
        segment = Segment(
            max(0, start + late), draw(numbers_16), draw(numbers_32),
            draw(st.sampled_from([0, 0, 1, 0x7FFF])), draw(st.sampled_from([0, 0, 200])),
        )  # fmt: skip
        viewers.append(
            Viewer(
                profile,
                draw(st.binary(min_size=PROFILES[profile], max_size=PROFILES[profile])),
                draw(st.integers(0, len(PLANS) - 1)),
                ssrc,
                segment,
                draw(st.sampled_from(["socket"] * 6 + ["stream", "nowhere", "keyless"])),
                draw(numbers_16),
                draw(st.sampled_from([None, None, 100_000, 5_000_000])),
            )
        )
    return Case(viewers, bursts, draw(st.integers(0, 2)) == 0, draw(st.sets(st.integers(1, 12), max_size=3)))


@pytest.fixture(scope="module")
def sinks() -> Iterator[list[socket.socket]]:
    """Sockets of viewers. One core while they are used: loopback keeps the order of what one core sends."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    made = []
    for _ in range(MAX_VIEWERS):
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sink.bind(("127.0.0.1", 0))
        sink.settimeout(20)
        made.append(sink)
    yield made
    for sink in made:
        sink.close()
    os.sched_setaffinity(0, cores)


def heard(world: World, sinks: list[socket.socket]) -> list[list[bytes]]:
    """What each viewer received, up to a last word sent by the same socket."""
    received = []
    for sink in sinks:
        assert world.port._socket is not None
        world.port._socket.sendto(b"end", sink.getsockname())
        datagrams = []
        while (datagram := sink.recv(2048)) != b"end":
            datagrams.append(datagram)
        received.append(datagrams)
    return received


async def outcome(case: Case, fan: FanOut | None, sinks: list[socket.socket]) -> tuple[list[list[bytes]], Any]:
    world = World(case, fan, sinks)
    for burst in case.bursts:
        world.send(burst)
    received = heard(world, sinks)
    world.close()
    return received, world.state()


def the_c_function() -> FanOut:
    try:
        made = load("c")
    except ForwardUnavailable as problem:
        pytest.skip(str(problem))
    assert made is not None
    return made


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_c_and_python_send_the_same(sinks: list[socket.socket], case: Case) -> None:
    """Same datagrams byte for byte, same order, same counters, same closing of numbering."""
    fan = the_c_function()

    expected, python_state = asyncio.run(outcome(case, None, sinks))
    sent, c_state = asyncio.run(outcome(case, fan, sinks))

    assert sent == expected
    assert c_state == python_state


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    bursts=st.lists(st.tuples(st.integers(1, 60), st.booleans(), st.integers(0, 200_000)), min_size=2, max_size=12),
    estimate_bps=st.integers(50_000, 20_000_000),
    in_c=st.booleans(),
)
def test_what_waits_leaves_in_order_and_without_a_hole(
    sinks: list[socket.socket], bursts: list[tuple[int, bool, int]], estimate_bps: int, in_c: bool
) -> None:
    """[RW2] Whatever waits, leaves late or is dropped: a viewer's numbers are consecutive."""
    fan = the_c_function() if in_c else None
    viewer = Viewer(
        Policy.SRTP_PROFILE_AEAD_AES_128_GCM, bytes(28), 2, 5, Segment(100, 7, 0, 0, 0), "socket", 0, estimate_bps
    )

    async def run() -> list[bytes]:
        world = World(Case([viewer], [], False, set()), fan, sinks)
        (consumer,), source = world.consumers, world.lane.source
        assert source is not None
        number = 100
        for count, key, passed_us in bursts:
            if key:
                source.key_timestamp = number
                if consumer.lane is None:  # it was given up and comes back at a key frame
                    consumer.numbers.start(77, Position(number, number), world.now_us // 1000, 90_000)
                    world.lane.wait(consumer)
                    world.lane.let_in(consumer)
            world.send([Packet(number + at, number, 0, [], bytes(1100)) for at in range(count)])
            number += count
            world.now_us += passed_us
        world.forwarder._pacing.release(world.now_us)
        world.now_us += 60_000_000
        world.forwarder._pacing.release(world.now_us)
        while consumer.held:
            world.now_us += 1_000_000
            world.forwarder._pacing.release(world.now_us)
        received = heard(world, sinks)[0]
        world.close()
        return received

    received = asyncio.run(run())

    sequence = [int.from_bytes(datagram[2:4], "big") for datagram in received]
    assert sequence == list(range(107, 107 + len(sequence)))
    counted = [int.from_bytes(datagram[21:23], "big") for datagram in received]
    assert counted == list(range(len(counted)))
    assert sequence or not bursts[0][1]
