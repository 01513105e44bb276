"""What the C receive path sends ahead is what pure Python would have sent, and it is booked alike [IN1] [IN2] [IN3].

Two relays with the same keys, ids and clock get the same datagrams over a real socket: one reads and sends in C, the
other in Python. Publishers are no angels: gaps, duplicates, late packets, padding, foreign payload types, odd
headers, forged and torn datagrams, strangers; viewers come, go, pause, ask again, are full or stand on TCP. Compared
are all bytes every peer received, the counters, and what the relay remembers of streams, lanes and viewers.
"""

import asyncio
import os
import random
import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pylibsrtp import Policy, Session

from media.aio.fanout import ForwardPath, ForwardUnavailable, load
from media.aio.forward import settle
from media.aio.loop import MediaLoop
from media.aio.relay import Relay
from media.core import ortc, rtcp
from media.core.congestion.pacer import Pacer
from media.core.history import HISTORY_PACKETS
from tests.integration.media.peer import (
    LEVEL_ID,
    ORIENTATION_ID,
    TWCC_ID,
    VIDEO_RTX_PT,
    audio_parameters,
    build_rtp,
    video_parameters,
)

AUDIO_PT, VIDEO_PT = 111, 96
VIDEO_ENCODINGS = [{"ssrc": 1001, "rtx": {"ssrc": 1002}}]
START_US = 1_790_000_000_000_000
PROFILE = Policy.SRTP_PROFILE_AEAD_AES_128_GCM
UDP_SEGMENT = 103
KINDS = ("video", "sound", "level")
TROUBLE = (
    "gap", "jump", "again", "late", "padding", "only padding", "type", "two-byte", "csrc", "forged", "torn",
    "empty", "orientation", "orientation", "unknown", "bare", "twice", "repair", "repair",
)  # fmt: skip


DOINGS = (
    "pause", "resume", "resume", "close", "stop producer", "start producer", "stream", "nowhere", "held", "tick",
    "tick", "nack", "pli", "feedback", "stranger", "nothing",
)  # fmt: skip


APART = ("_nacks", "payload_bytes")
"""Compared by what is missing; and told apart only where headers have contributing sources, of no use to anybody."""


@dataclass
class Step:
    """Datagrams that wait in the socket together, or something that is done in between."""

    packets: list[tuple[str, str, int, bool]]
    """Stream, trouble or nothing, payload bytes, key frame."""
    runs: bool
    """Equal ones arrive as one."""
    doing: tuple[str, int] | None


def key(index: int) -> bytes:
    return bytes([index + 1]) * 28


class Senders:
    """A publisher's packets, made once for both worlds."""

    def __init__(self, first: int) -> None:
        policy = Policy(key=key(0), ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILE)
        policy.allow_repeat_tx = True
        policy.window_size = 1024
        self.session = Session(policy=policy)
        self.seq = dict.fromkeys((*KINDS, "unknown"), first)
        self.wide = first
        self.picture = 0x7FF0
        self.last = b""
        self.left_out: list[int] = []
        """Numbers of pictures that were not sent, for repairs."""
        self.repairs = 0

    def datagram(self, kind: str, trouble: str, size: int, key_frame: bool) -> bytes:
        if trouble == "again" and self.last:
            return self.last
        if trouble == "repair":
            return self.repair(size)
        of = "unknown" if trouble == "unknown" else kind
        seq = self.seq[of] = self.seq[of] + {"gap": 3, "jump": 4000, "late": -1}.get(trouble, 1)
        if trouble == "late":
            self.seq[of] += 1
        if trouble == "gap" and kind == "video":
            self.left_out += [seq - 2, seq - 1]
        self.wide += 1
        extensions = {TWCC_ID: (self.wide & 0xFFFF).to_bytes(2, "big")}
        if kind == "level":
            extensions[LEVEL_ID] = bytes((0x80 | seq & 0x7F,))
        if trouble == "orientation":
            extensions[ORIENTATION_ID] = b"\x01"
        if trouble == "bare":
            extensions = {}
        payload = bytes((seq & 0xFF,)) * size
        if kind == "video":
            self.picture = (self.picture + key_frame) & 0x7FFF
            head = [bytes((0x90,)), bytes((0xB0 if key_frame else 0x80,))][seq & 1 and not key_frame]
            flags = 0xE0 if seq % 3 else 0x80
            tail = bytes((seq & 0xFF, 0x20)) if flags == 0xE0 else b""
            payload = (
                head[:1]
                + bytes((flags,))
                + struct.pack("!H", 0x8000 | self.picture)
                + tail
                + bytes((0 if key_frame else 1,))
                + payload
            )
        if trouble == "empty":
            payload = b""
        ssrc = {"video": 1001, "sound": 2001, "level": 3001, "unknown": 4001}[kind if trouble != "unknown" else trouble]
        types = {"video": VIDEO_PT, "sound": AUDIO_PT, "level": AUDIO_PT}
        packet = build_rtp(
            77 if trouble == "type" else types[kind], seq & 0xFFFF, (seq * 3000) & 0xFFFFFFFF, ssrc,
            b"" if trouble == "only padding" else payload, marker=seq % 4 == 0, extensions=extensions,
            padding=9 if "padding" in trouble else 0,
        )  # fmt: skip
        if trouble == "two-byte":
            packet = packet[:12] + struct.pack("!HHBBH", 0x1000, 1, TWCC_ID, 2, self.wide & 0xFFFF) + payload
            packet = bytes((packet[0] | 0x10,)) + packet[1:]
        if trouble == "csrc":
            packet = bytes((packet[0] | 1,)) + packet[1:12] + bytes(4) + packet[12:]
        if trouble == "twice":
            block = struct.pack("!HHBHBHH", 0xBEDE, 2, TWCC_ID << 4 | 1, 7, TWCC_ID << 4 | 1, 9, 0)
            packet = bytes((packet[0] | 0x10,)) + packet[1:12] + block + payload
        whole: bytes = self.session.protect(packet)
        if trouble == "forged":
            whole = whole[:-1] + bytes((whole[-1] ^ 1,))
        if trouble == "torn":
            whole = whole[: 5 + seq % 30]
        self.last = whole
        return whole

    def repair(self, size: int) -> bytes:
        """RTX of a picture that was left out, or of one that came."""
        original = self.left_out.pop() if self.left_out else self.seq["video"]
        self.repairs += 1
        self.wide += 1
        payload = struct.pack("!HBBHBB", original & 0xFFFF, 0x80, 0x80, 0x8000 | self.picture, 1, 1) + bytes(size)
        packet = build_rtp(
            VIDEO_RTX_PT, self.repairs, (original * 3000) & 0xFFFFFFFF, 1002, payload,
            extensions={TWCC_ID: (self.wide & 0xFFFF).to_bytes(2, "big")},
        )  # fmt: skip
        whole: bytes = self.session.protect(packet)
        return whole


class World:
    """One relay with a publisher and viewers who have shaken hands long ago."""

    def __init__(self, path: ForwardPath, sockets: list[socket.socket]) -> None:
        self.now_us = START_US
        self.notes: list[Any] = []
        self.relay = Relay(lambda: self.now_us, self.notes.append, ["127.0.0.1"], ["udp"], path)
        self.port = self.relay.open("127.0.0.1", 0)
        self.sockets = sockets
        self.sessions: list[Session] = []
        self.streams: list[list[bytes]] = []
        self.full: set[str] = set()
        """Whose connections have no room."""
        self.relay.open_router("r")
        self.publisher = self._transport("pub", "send", 0)
        self.relay.produce("pub", "video", "video", video_parameters(encodings=VIDEO_ENCODINGS), False)
        sound = audio_parameters(encodings=[{"ssrc": 2001}])
        sound["headerExtensions"] = [one for one in sound["headerExtensions"] if one["id"] != LEVEL_ID]
        self.relay.produce("pub", "sound", "audio", sound, False)
        self.relay.produce("pub", "level", "audio", audio_parameters(mid="2", encodings=[{"ssrc": 3001}]), False)
        self.viewers = [self._viewer(index) for index in range(1, len(sockets))]

    def _transport(self, name: str, direction: Any, index: int) -> Any:
        self.relay.create_transport("r", name, name, direction)
        transport = self.relay._transports[name]
        transport.report_turn = index
        contexts = []
        for kind in (Policy.SSRC_ANY_INBOUND, Policy.SSRC_ANY_OUTBOUND):
            policy = Policy(key=key(index), ssrc_type=kind, srtp_profile=PROFILE)
            policy.allow_repeat_tx = True
            policy.window_size = 1024
            self.sessions.append(Session(policy=policy))
            contexts.append(self.sessions[-1]._srtp[0])
        pair: Any = SimpleNamespace(forget_inbound=lambda _: None, forget_outbound=lambda _: None)
        transport.leg.srtp, transport.leg.rx, transport.leg.tx = pair, *contexts
        address = self.sockets[index].getsockname()
        transport.leg.address = address
        self.relay._mux._by_address[address] = transport
        if self.relay._mux.watch is not None:
            self.relay._mux.watch.learn(address, transport)
        self.relay.transport_ready(transport)
        return transport

    def _viewer(self, index: int) -> str:
        name = f"v{index}"
        self._transport(name, "recv", index)
        source = KINDS[(index - 1) % 3]
        capabilities = ortc.router_capabilities()
        if index % 2:
            capabilities["headerExtensions"] = [
                one for one in capabilities["headerExtensions"] if one["uri"] != ortc.ABS_SEND_TIME_URI
            ]
        self.relay.consume(name, name, source, capabilities)
        self.relay.resume_consumer(name)
        return name

    def do(self, what: str, which: int) -> None:
        name = self.viewers[which % len(self.viewers)]
        consumer = self.relay._consumers.get(name)
        if consumer is None:
            return
        leg = consumer.leg
        if what == "pause":
            self.relay.pause_consumer(name)
        elif what == "resume":
            self.relay.resume_consumer(name)
        elif what == "close":
            self.relay.close_consumer(name)
        elif what == "stop producer":
            self.relay.pause_producer(KINDS[which % 3])
        elif what == "start producer":
            self.relay.resume_producer(KINDS[which % 3])
        elif what == "full":
            self.full ^= {name}
        elif what == "stream":
            sent: list[bytes] = []
            self.streams.append(sent)

            def send_run(run: memoryview, segment_bytes: int) -> bool:
                if name in self.full:
                    return False
                # How a burst is cut into runs depends on what was handed back in between.
                sent.extend(bytes(run[at : at + segment_bytes]) for at in range(0, len(run), segment_bytes))
                return True

            leg.stream = SimpleNamespace(send_run=send_run)  # type: ignore[assignment]
            leg.address = Elsewhere(("there", 1))
        elif what == "nowhere":
            leg.stream, leg.address = None, ("127.0.0.1", 0)  # a path is the one or the other
        elif what == "held":
            consumer.held = not consumer.held
            if consumer.row is not None:
                consumer.row.held = consumer.held
        elif what == "thin":
            leg.pacer = Pacer(300_000, self.now_us)
        elif what == "wide":
            leg.pacer = Pacer(4_000_000, self.now_us)
        elif what == "wait":
            for _ in range(100):
                self.now_us += 10_000
                self.relay._forwarder._pacing.release(self.now_us)
        elif what == "tick":
            self.relay._tick(self.now_us)

    def ask(self, index: int, packet: bytes, session: Session) -> None:
        self.sockets[index].sendto(session.protect_rtcp(packet), ("127.0.0.1", self.port))

    def read(self) -> None:
        """Take in what waits in the socket."""
        loop: Any = asyncio.get_running_loop()
        intake = self.relay._lanes.intake
        if intake is None:
            while select.select([self.relay._udp.descriptor], [], [], 0)[0]:
                self.relay._udp._readable()
            return
        intake._state.fixed_us = self.now_us
        while not intake.wait(loop.media.fileno(), 0):
            pass

    def heard(self) -> list[tuple[list[bytes], list[bytes]]]:
        """What each peer received: RTP and RTCP."""
        result = []
        for sink in self.sockets:
            self.relay._udp._socket.sendto(b"end", sink.getsockname())  # type: ignore[union-attr]
            kinds: tuple[list[bytes], list[bytes]] = [], []
            while (datagram := sink.recv(2048)) != b"end":
                kinds[192 <= datagram[1] <= 223].append(datagram)
            result.append(kinds)
        return result

    def state(self) -> Any:
        relay = self.relay
        for consumer in relay._consumers.values():
            settle(consumer)
        ways = ("forward_path_c", "udp_gro_refused", "udp_gso_refused", "udp_send_errors")  # the last two by run
        lanes = [lane for p in relay._producers.values() for layer in p.layers for lane in layer.lanes if lane.source]
        sent = [t.leg.sent for t in relay._transports.values() if t.leg.sent is not None]
        return {
            "counters": {n: c for n, c in relay.counters.values.items() if c and n not in ways},
            "streams": {
                ssrc: [getattr(s.receive, name) for name in s.receive.__slots__ if name not in APART]
                + [s.receive.missing, s.layer.meter, s.layer.keyframes.wanted]
                + [getattr(s.time, name) for name in s.time.__slots__ if name != "_clock"]
                for ssrc, s in self.publisher.streams.items()
            },
            "lanes": [
                (lane.source.newest, lane.source.highest, lane.source.highest_timestamp, lane.source.highest_picture,
                 lane.source.key_timestamp, lane.source.numbers._drops,
                 [_plain(lane.source.history.get(lane.source.highest - back)) for back in range(HISTORY_PACKETS)])
                for lane in lanes if lane.source is not None
            ],
            "viewers": {
                name: (c.flow, c.packets_sent, c.octets_sent, c.held,
                       [getattr(c.numbers, slot) for slot in c.numbers.__slots__])
                for name, c in relay._consumers.items()
            },
            "purses": [list(t.leg.pacer.purse) for t in relay._transports.values() if t.leg.pacer is not None],
            "sent": [(one.next, one.send_us, one.sizes) for one in sent],
            "levels": relay._producers["level"].level._sum if hasattr(relay._producers["level"].level, "_sum") else 0,
            "arrivals": self.publisher.arrivals.build(1, 2),
            "tcp": self.streams,
        }  # fmt: skip


class Elsewhere(tuple[str, int]):
    """Looks like the address of a connection."""

    __slots__ = ()

    @property
    def stream(self) -> None:
        return None


def _plain(packet: Any) -> Any:
    if packet is None:
        return None
    return packet.number, packet.timestamp, packet.marker, packet.extensions, packet.payload, packet.picture


def make_sockets() -> Iterator[list[socket.socket]]:
    """Of the publisher, of viewers. One core while they are used: loopback keeps the order of what one core sends."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    made = []
    for _ in range(6):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(20)
        made.append(sock)
    yield made
    for sock in made:
        sock.close()
    os.sched_setaffinity(0, cores)


sockets = pytest.fixture(scope="module")(make_sockets)


def throw(sender: socket.socket, datagrams: list[bytes], runs: bool, port: int) -> None:
    """Put datagrams into the relay's socket; equal ones as one run where asked."""
    at = 0
    while at < len(datagrams):
        end = at + 1
        while runs and end < len(datagrams) and len(datagrams[end]) == len(datagrams[at]) and end - at < 20:
            end += 1
        control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", len(datagrams[at])))] if end - at > 1 else []
        sender.sendmsg(datagrams[at:end], control, 0, ("127.0.0.1", port))
        at = end


@st.composite
def scripts(draw: st.DrawFn, trouble: tuple[str, ...], doings: tuple[str, ...]) -> list[Step]:
    steps = []
    for _ in range(draw(st.integers(2, 12))):
        packets = []
        for _ in range(draw(st.integers(0, 14))):
            ill = draw(st.sampled_from(("",) * 60 + trouble))
            size = draw(st.sampled_from((0, 1, 60, 60, 300, 300, 300, 900)))
            packets.append((draw(st.sampled_from(KINDS)), ill, size, draw(st.integers(0, 9)) == 0))
        doing = draw(st.none() | st.tuples(st.sampled_from(doings), st.integers(0, 9)))
        steps.append(Step(packets, draw(st.booleans()), doing))
    return steps


class Numbers:
    """Stands for ``secrets``, alike in both worlds."""

    def __init__(self) -> None:
        self._random = random.Random(7)

    def randbits(self, bits: int) -> int:
        return self._random.getrandbits(bits)

    def token_hex(self, size: int) -> str:
        return self._random.randbytes(size).hex()


def load_or_skip() -> None:
    try:
        load("c")
    except ForwardUnavailable as problem:
        pytest.skip(str(problem))


def outcome(
    path: ForwardPath, steps: Sequence[Step | Callable[["World"], None]], first: int, sockets: list[socket.socket]
) -> Any:
    """Play a script, of steps and of what is done to the world between them.

    Returns:
        What everybody received, what is remembered, and how much was sent ahead.
    """

    async def play() -> Any:
        with patch("media.aio.relay.secrets", Numbers()):
            world = World(path, sockets)
            senders = Senders(first)
            asking = []
            for index in range(len(sockets)):
                policy = Policy(key=key(index), ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILE)
                asking.append(Session(policy=policy))
            opening = [senders.datagram(kind, "", 60, kind == "video") for kind in KINDS]
            throw(sockets[0], opening, False, world.port)
            world.read()
            for step in steps:
                if not isinstance(step, Step):
                    step(world)
                    continue
                world.now_us += 4_000
                datagrams = [senders.datagram(*packet) for packet in step.packets]
                throw(sockets[0], datagrams, step.runs, world.port)
                world.read()
                if step.doing is not None:
                    world.now_us += 1_000
                    act(world, asking, sockets, *step.doing)
            received = world.heard()
            ahead = 0 if world.relay._lanes.intake is None else world.relay._lanes.intake.booked
            state = world.state()
            world.relay._udp.close()
            await world.relay.close()
            return received, state, ahead

    with asyncio.Runner(loop_factory=MediaLoop if path == "c" else None) as runner:
        return runner.run(play())


def act(world: World, asking: list[Session], sockets: list[socket.socket], what: str, which: int) -> None:
    index = 1 + which % len(world.viewers)
    consumer = world.relay._consumers.get(world.viewers[index - 1])
    if what == "stranger":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for datagram in (b"\x80" * 40, b"", bytes(20), b"\x16" * 30, b"\xff" * 1600):
                stranger.sendto(datagram, ("127.0.0.1", world.port))
            world.read()
    elif what == "nack" and consumer is not None:
        lost = [(consumer.numbers._next + back) & 0xFFFF for back in range(3)]
        world.ask(index, rtcp.build_nack(9, consumer.ssrc, lost), asking[index])
        world.read()
    elif what == "pli" and consumer is not None:
        world.ask(index, rtcp.build_pli(9, consumer.ssrc), asking[index])
        world.read()
    elif what == "feedback" and consumer is not None and consumer.leg.sent is not None:
        count = 1 + which
        start = consumer.leg.sent.next_number - count
        fci = struct.pack("!HHIH", start & 0xFFFF, count, 1000 << 8 | which, 1 << 13 | count) + bytes(count)
        fci += bytes(-len(fci) & 3)
        world.ask(index, rtcp.build_transport_feedback(9, consumer.ssrc, fci), asking[index])
        world.read()
    else:
        world.do(what, which)


def check(sockets: list[socket.socket], steps: list[Step], first: int) -> None:
    """Both ways are one for this script."""
    try:
        load("c")
    except ForwardUnavailable as problem:
        pytest.skip(str(problem))
    expected, remembered, _ = outcome("python", steps, first, sockets)
    received, state, _ = outcome("c", steps, first, sockets)
    for index, (mine, theirs) in enumerate(zip(received, expected, strict=True)):
        assert mine == theirs, f"peer {index}"
    for name, value in remembered.items():
        assert state[name] == value, name


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=scripts(TROUBLE, DOINGS), first=st.sampled_from((100, 65_530, 40_000)))
def test_what_is_sent_ahead_is_what_python_would_send(
    sockets: list[socket.socket], steps: list[Step], first: int
) -> None:
    """[IN1] [IN2] [IN3]"""
    check(sockets, steps, first)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=scripts((), ("full", "full", "stream", "stream", "resume", "tick")))
def test_a_viewer_who_has_no_room_sees_no_hole(sockets: list[socket.socket], steps: list[Step]) -> None:
    """[RW2] Given up and let in again as often as it likes: its numbers go on, and none comes twice."""
    try:
        load("c")
    except ForwardUnavailable as problem:
        pytest.skip(str(problem))

    _, state, _ = outcome("c", steps, 100, sockets)

    for sent in state["tcp"]:
        media = [datagram for datagram in sent if not 192 <= datagram[1] <= 223]
        numbers = [int.from_bytes(datagram[2:4], "big") for datagram in media]
        assert numbers == [(numbers[0] + at) & 0xFFFF for at in range(len(numbers))]


def test_what_follows_a_burst_that_waits_waits_behind_it(sockets: list[socket.socket]) -> None:
    """A thin line holds a large burst: what is next in order is not sent ahead of it, nor left out."""
    one, many = [("video", "", 300, False)], [("video", "", 900, False)] * 10
    steps = [Step(one, False, None)] * 3 + [Step(one, False, ("thin", 0)), Step(many, True, None)]
    steps += [Step(one, False, None)] * 3 + [Step(one, False, ("wait", 0))] + [Step(one, False, None)] * 3

    check(sockets, steps, 100)
    received, state, ahead = outcome("c", steps, 100, sockets)

    assert state["counters"]["bursts_paced"] == 1
    assert len({datagram[2:4] for datagram in received[1][0]}) == 1 + 3 + 1 + 10 + 4 + 3
    assert ahead >= 6


@st.composite
def frames(draw: st.DrawFn) -> list[Step]:
    """Whole frames at once, larger than what may leave without a question, to lines of all kinds."""
    steps = []
    for _ in range(draw(st.integers(2, 14))):
        count = draw(st.sampled_from((1, 4, 7, 8, 12, 30)))
        packets = [("video", "", 900, False)] * count + [("sound", "", 60, False)] * draw(st.integers(0, 2))
        doings = ("thin", "wide", "wide", "wide", "wait", "pause", "resume", "tick")
        doing = draw(st.none() | st.tuples(st.sampled_from(doings), st.integers(0, 9)))
        steps.append(Step(packets, draw(st.booleans()), doing))
    return steps


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=frames())
def test_large_bursts_are_paid_for_alike(sockets: list[socket.socket], steps: list[Step]) -> None:
    """C asks the same lines as Python, and pays the same."""
    check(sockets, steps, 100)


def test_a_large_burst_that_all_lines_afford_is_sent_ahead(sockets: list[socket.socket]) -> None:
    """Else the law above would hold of nothing."""
    load_or_skip()
    frame = [("video", "", 900, False)] * 12
    steps = [Step([("video", "", 300, False)], False, ("wide", index)) for index in range(len(sockets))]
    steps += [*[Step([], False, ("tick", 0))] * 10, Step(frame, True, None)] * 3  # 50 ms: the purses are full again

    _, state, ahead = outcome("c", steps, 100, sockets)

    assert len(state["purses"]) == len(sockets) - 1
    assert "bursts_paced" not in state["counters"]
    assert ahead >= 3 * 12


def test_an_ordinary_stream_is_sent_ahead(sockets: list[socket.socket]) -> None:
    """Else the law above would hold of nothing."""
    try:
        load("c")
    except ForwardUnavailable as problem:
        pytest.skip(str(problem))
    steps = [Step([(kind, "", 300, False) for kind in KINDS], False, None) for _ in range(20)]

    _, _, ahead = outcome("c", steps, 100, sockets)

    assert ahead >= 3 * 18


def test_what_follows_a_repair_is_sent_once(sockets: list[socket.socket]) -> None:
    """A repair waits for the end of the batch; what came behind it in order must not be sent twice (a number, one use).

    Seen with packets that the log does not tell all of, and with bursts of which a part comes back.
    """
    one = Step([("video", "", 300, False)], False, None)
    for opening in (None, ("stream", 0)):
        steps = [one, Step([("video", "gap", 300, False)], False, opening), one, one]
        steps += [Step([("video", "repair", 300, False), ("video", "orientation", 300, False)], False, None), one, one]

        check(sockets, steps, 100)
        received, state, _ = outcome("c", steps, 100, sockets)

        sent = [state["tcp"][0], received[4][0]] if opening else [received[1][0], received[4][0]]
        for media in sent:
            numbers = [datagram[2:4] for datagram in media]
            assert len(numbers) == len(set(numbers))


def test_a_publisher_that_counts_anew_is_not_sent_ahead_as_before(sockets: list[socket.socket]) -> None:
    """A late packet, then another numbering confirmed by one that is empty: the lane begins anew with the next."""
    late, jump, empty = [("sound", trouble, 0, False) for trouble in ("late", "jump", "")]
    sound = Step([("sound", "", 60, False)], False, None)
    steps = [Step([late, jump, empty], False, None), sound, sound]

    check(sockets, steps, 100)
    received, _, _ = outcome("c", steps, 100, sockets)

    numbers = [int.from_bytes(datagram[2:4], "big") for datagram in received[2][0]]
    assert numbers == list(range(numbers[0], numbers[0] + 3))


def test_sound_that_passes_what_waits_is_counted_by_the_pacer(sockets: list[socket.socket]) -> None:
    """[IN2] A thin line holds a picture: the credit that sound takes is gone, whoever sends the sound."""
    load_or_skip()

    def credits(path: ForwardPath) -> list[int]:
        seen = []

        def look(world: World) -> None:
            pacer = world.relay._consumers["v1"].leg.pacer
            assert pacer is not None
            seen.append(pacer.credit_bytes)

        def both(world: World) -> None:
            world.relay.consume("v1", "v1-sound", "sound", ortc.router_capabilities())
            world.relay.resume_consumer("v1-sound")

        sound = [("sound", "", 300, False)]
        steps: list[Any] = [both, Step(sound, False, None), Step(sound, False, ("thin", 0))]
        steps += [Step([("video", "", 900, False)] * 10, True, None), look]
        steps += [Step(sound, False, None), look] * 3
        outcome(path, steps, 100, sockets)
        return seen

    assert credits("c") == credits("python")
    assert len(set(credits("c"))) == 4


def test_who_else_is_ready_is_told_of_in_a_flood(sockets: list[socket.socket]) -> None:
    """Control commands and connections have their turn while every look finds datagrams that Python must read."""
    load_or_skip()
    mine, theirs = socket.socketpair()

    async def play() -> None:
        loop: Any = asyncio.get_running_loop()
        world = World("c", sockets)
        loop.media.register(mine.fileno(), select.EPOLLIN, (None, None))
        theirs.send(b"command")
        intake = world.relay._lanes.intake
        assert intake is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"\xff" * 30, ("127.0.0.1", world.port))
            assert intake.wait(loop.media.fileno(), 20.0)
        assert world.relay.counters.values["datagrams_unknown_address"] == 1
        loop.media.unregister(mine.fileno())
        await world.relay.close()

    with asyncio.Runner(loop_factory=MediaLoop) as runner:
        runner.run(play())
    mine.close()
    theirs.close()


def test_nobody_reads_into_the_buffer_while_a_batch_lies_there(sockets: list[socket.socket]) -> None:
    """More than the log holds comes at once, and a connection is ready: it has its turn when the batch is over."""
    load_or_skip()
    mine, theirs = socket.socketpair()

    async def play() -> list[tuple[bool, bool]]:
        loop: Any = asyncio.get_running_loop()
        with patch("media.aio.relay.secrets", Numbers()):
            world = World("c", sockets)
        senders = Senders(100)
        throw(sockets[0], [senders.datagram("sound", "", 60, False)], False, world.port)
        world.read()
        loop.media.register(mine.fileno(), select.EPOLLIN, (None, None))
        theirs.send(b"frame")
        throw(sockets[0], [senders.datagram("sound", "", 60, False) for _ in range(600)], True, world.port)
        intake, seen = world.relay._lanes.intake, list[tuple[bool, bool]]()
        assert intake is not None
        while not seen or not seen[-1][0]:
            seen.append((intake.wait(loop.media.fileno(), 0), bool(intake._state.reading)))
        assert intake.booked == 600
        loop.media.unregister(mine.fileno())
        await world.relay.close()
        return seen

    with asyncio.Runner(loop_factory=MediaLoop) as runner:
        seen = runner.run(play())
    mine.close()
    theirs.close()
    assert seen[:-1] == [(False, True)] * (len(seen) - 1)
    assert seen[-1] == (True, False)
    assert len(seen) > 1


def test_a_viewer_on_a_connection_does_not_keep_timers_waiting(sockets: list[socket.socket]) -> None:
    """Each packet to it comes back; the time that is left is counted from the first."""
    load_or_skip()

    async def play() -> None:
        loop: Any = asyncio.get_running_loop()
        with patch("media.aio.relay.secrets", Numbers()):
            world = World("c", sockets)
        senders = Senders(100)
        throw(sockets[0], [senders.datagram("sound", "", 60, False)], False, world.port)
        world.read()
        left = [senders.datagram("sound", "", 60, False) for _ in range(3000)]
        throw(sockets[0], [left.pop(0), left.pop(0)], False, world.port)
        leg = world.relay._consumers["v2"].leg

        def send_run(_run: memoryview, _segment_bytes: int) -> bool:
            if left:
                throw(sockets[0], [left.pop(0)], False, world.port)
            return True

        leg.stream = SimpleNamespace(send_run=send_run)  # type: ignore[assignment]
        leg.address = Elsewhere(("there", 1))
        intake = world.relay._lanes.intake
        assert intake is not None
        intake.wait(loop.media.fileno(), 0.001)
        assert 0 < len(left) < 2998
        world.relay._udp.close()
        await world.relay.close()

    with asyncio.Runner(loop_factory=MediaLoop) as runner:
        runner.run(play())


@pytest.mark.parametrize("what", ["book", "decrypted"])
def test_what_was_sent_and_could_not_be_booked_keeps_its_number(sockets: list[socket.socket], what: str) -> None:
    """A bug of ours while booking: the viewer stops, starts again, and gets no number twice."""
    load_or_skip()
    trouble = "" if what == "book" else "orientation"

    def break_once(world: World) -> None:
        booking, right = world.relay._ingress, getattr(world.relay._ingress, what)

        def broken(*arguments: Any) -> None:
            setattr(booking, what, right)
            raise ZeroDivisionError

        setattr(booking, what, broken)

    one, key_frame = Step([("video", trouble, 300, False)], False, None), Step([("video", "", 300, True)], False, None)
    steps: list[Any] = [one, one, break_once, Step(one.packets, False, ("pause", 0)), Step([], False, ("resume", 0))]
    steps += [key_frame, one, one]
    received, state, ahead = outcome("c", steps, 100, sockets)

    numbers = [datagram[2:4] for datagram in received[1][0]]
    assert state["counters"]["datagram_errors"] == 1
    assert ahead >= 5
    assert len(numbers) == len(set(numbers)) == 7


def test_a_bug_in_sending_on_does_not_deafen_the_socket(sockets: list[socket.socket]) -> None:
    """Of a burst that came back, Python breaks: the other lanes, and all that follows, go on."""
    load_or_skip()

    def break_once(world: World) -> None:
        forwarder, right = world.relay._forwarder, world.relay._forwarder.resume

        def broken(*arguments: Any) -> None:
            forwarder.resume = right  # type: ignore[method-assign]
            raise ZeroDivisionError

        forwarder.resume = broken  # type: ignore[assignment,method-assign]

    both = [("video", "", 300, False), ("sound", "", 300, False)]
    steps: list[Any] = [Step(both, False, None), Step(both, False, ("stream", 0)), Step(both, False, None), break_once]
    steps += [Step(both, False, None)] * 4

    received, state, _ = outcome("c", steps, 100, sockets)

    assert state["counters"]["flush_errors"] == 1
    numbers = [datagram[2:4] for datagram in received[2][0]]
    assert len(numbers) == len(set(numbers)) == 8
    assert len(state["tcp"][0]) == 4


def test_a_calm_line_goes_on_being_heard_without_python_when_signalling_was_told_of_it(
    sockets: list[socket.socket],
) -> None:
    """What was lent is taken back for each look at a line; whoever looks has to lend it again."""
    load_or_skip()

    async def play() -> list[bool]:
        world = World("c", sockets)
        relay, transport = world.relay, world.relay._transports["v1"]
        estimator = relay._lines._lines["v1"].line.estimator
        assert estimator.account is not None
        lent = []
        for step in range(80):
            world.now_us += 64_000  # the reference time's step: nothing is ever delayed
            first = estimator.sent.take([1000] * 10, world.now_us)
            fci = struct.pack("!HHIH", first, 10, (1000 + step) << 8 | step, 1 << 13 | 10) + bytes(10)
            relay._lines.feedback(transport, fci + bytes(-len(fci) & 3), world.now_us)
            relay._tick(world.now_us)
            lent.append(estimator.account.lent)
        assert world.notes  # it was told of
        relay._udp.close()
        await relay.close()
        return lent

    with asyncio.Runner(loop_factory=MediaLoop) as runner:
        lent = runner.run(play())
    assert all(lent[lent.index(True) :])
