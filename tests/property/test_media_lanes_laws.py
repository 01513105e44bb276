"""Laws of following layers: whatever a publisher sends and a viewer wants, it sees one unbroken stream.

A publisher of three VP8 sizes with three temporal layers each; packets are lost, overtaken and doubled on
the way in; viewers change size and allowance at any time. What leaves is caught where it would be encrypted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media.aio.counters import Counters
from media.aio.feedback import Feedback
from media.aio.lanes import Arrived, Lanes
from media.aio.objects import Consumer, InboundStream, Layer, Leg, Producer
from media.aio.steering import Steering
from media.core import ortc
from media.core.capture import CaptureClock, CaptureTime
from media.core.codecs import Codec
from media.core.layers import NOTHING, Target, View
from media.core.receive import ReceiveStream
from media.core.rewriter import ViewerNumbers
from media.core.router import ExtensionPlan, Flow, Lane
from media.core.sender_report import PublisherClock, SourceTime
from media.core.shape import read_shape

PLAN = ExtensionPlan(ids=frozenset())
PATTERN = (0, 2, 1, 2)
"""Temporal layers of libvpx's three-layer pattern."""
SIZES = ((320, 180), (640, 360), (1280, 720))
FRAME_US = 33_333


@dataclass
class Out:
    """One packet as its viewer would see it."""

    seq: int
    timestamp: int
    picture: int
    tl0: int
    layer: int
    frame: int
    temporal: int
    key: bool
    empty: bool


@dataclass
class Catcher:
    """Stands where packets are encrypted and sent."""

    seen: dict[str, list[Out]] = field(default_factory=dict)

    def flush(self, lane: Lane[Any], payload_type: int, now_us: int) -> list[Consumer]:
        burst, lane.burst = lane.burst, []
        if lane.source is None:
            return []
        for group in lane.live.values():
            for consumer in group:
                segment = consumer.numbers.now
                for packet in burst:
                    if packet.number >= segment.base:
                        self.seen.setdefault(consumer.id, []).append(self._look(packet, segment))
        lane.source.handed_out(burst)
        return []

    @staticmethod
    def _look(packet: Any, segment: Any) -> Out:
        seq = (packet.number + segment.shift) & 0xFFFF
        timestamp = (packet.timestamp + segment.timestamp_shift) & 0xFFFF_FFFF
        if not packet.payload:
            return Out(seq, timestamp, -1, -1, -1, -1, -1, False, True)
        picture = packet.picture
        written = (packet.payload[picture.at] & 0x7F) << 8 | packet.payload[picture.at + 1]
        assert written == picture.number, "the payload says what the viewer's shift is added to"
        layer, frame, temporal, key = (
            packet.payload[-4],
            packet.payload[-3] << 8 | packet.payload[-2],
            packet.payload[5],
            False,
        )
        key = packet.payload[6] & 1 == 0 and packet.payload[0] & 0x10 != 0
        return Out(
            seq, timestamp, (picture.number + segment.picture_shift) & 0x7FFF, (picture.tl0 + segment.tl0_shift) & 0xFF,
            layer, frame, temporal >> 6, key, False,
        )  # fmt: skip

    def send_sender_report(self, consumer: Consumer, now_us: int) -> None:
        pass

    def send_rtcp(self, leg: Leg, compound: bytes) -> bool:
        return True


class Publisher:
    """A camera that sends layers; a key frame of a layer when it is asked for."""

    def __init__(self, first_seq: int, first_picture: int) -> None:
        parameters = ortc.parse_producer(
            "video",
            {
                "codecs": [{"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90_000, "parameters": {}}],
                "encodings": [{"ssrc": 10 + layer} for layer in range(3)],
            },
        )
        self.leg = Leg(address=("127.0.0.1", 1))
        self.leg.tx = self.leg.rx = object()
        self.producer = Producer(
            id="cam", router_id="r", transport_id="t", leg=self.leg, parameters=parameters, is_audio=False,
            payload_type=101, forwarded_ids={}, level_id=0, dependency_id=0, level=None, voices=None, cname="c",
            content="camera", paused=False,
            layers=[Layer(index) for index in range(3)],
        )  # fmt: skip
        clock = PublisherClock()
        for layer in self.producer.layers:
            stream = InboundStream(
                10 + layer.index, self.producer, layer, False, 96,
                ReceiveStream(10 + layer.index, 90_000, nack=True), SourceTime(90_000, clock),
                CaptureTime(90_000, CaptureClock()),
            )  # fmt: skip
            layer.media = stream
        self.seq = [(first_seq + 1000 * layer) & 0xFFFF for layer in range(3)]
        self.frame = 0
        self.picture = [first_picture + 777 * layer for layer in range(3)]
        self.tl0 = [250, 3, 77]
        self.wanted: set[int] = {0, 1, 2}
        self.phase = 0

    def packets(self, layers: set[int]) -> Iterator[tuple[int, int, int, bytes]]:
        """(layer, seq, timestamp, payload) of the next frame of each layer that is sent."""
        temporal = PATTERN[self.phase % 4]
        key_layers = {layer for layer in layers if layer in self.wanted}
        if key_layers:
            temporal, self.phase = 0, 0
        for layer in sorted(layers):
            key = layer in key_layers
            if temporal == 0:
                self.tl0[layer] = (self.tl0[layer] + 1) & 0xFF
            picture = self.picture[layer] & 0x7FFF
            self.picture[layer] += 1
            sync = temporal > 0 and self.phase < 4
            head = bytes(
                (
                    0x90,
                    0xE0,
                    0x80 | picture >> 8,
                    picture & 0xFF,
                    self.tl0[layer],
                    temporal << 6 | (0x20 if sync else 0),
                )
            )
            for part in range(2):
                start = bytes((0x90 if part == 0 else 0x80,)) + head[1:]
                bits = bytes((0 if key else 1,))
                body = (
                    bytes(2)
                    + b"\x9d\x01\x2a"
                    + SIZES[layer][0].to_bytes(2, "little")
                    + SIZES[layer][1].to_bytes(2, "little")
                )
                payload = start + bits + body + bytes((layer, self.frame >> 8 & 0xFF, self.frame & 0xFF, part))
                yield layer, self.seq[layer], (self.frame * 3000 + layer * 1_000_000) & 0xFFFF_FFFF, payload
                self.seq[layer] = (self.seq[layer] + 1) & 0xFFFF
            self.wanted.discard(layer)
        self.phase += 1
        self.frame += 1


class World:
    def __init__(self, first_seq: int, first_picture: int, viewers: int) -> None:
        self.now_us = 1_000_000_000
        self.counters = Counters()
        self.catcher = Catcher()
        forwarder: Any = self.catcher
        self.feedback = Feedback(self.counters, forwarder, lambda: None)
        self.steering = Steering(self.counters, self.feedback, lambda note: None)
        self.lanes = Lanes(forwarder, self.counters, self.steering)
        self.publisher = Publisher(first_seq, first_picture)
        leg = Leg(address=("127.0.0.1", 2))
        leg.tx = leg.rx = object()
        self.viewers = [
            Consumer(
                id=f"v{index}", owner="o", producer=self.publisher.producer, transport_id="x", leg=leg, ssrc=index,
                rtx_ssrc=0, rtx_payload_type=0, plan=PLAN, numbers=ViewerNumbers(65_530), rtx_seq=0, paused=False,
            )
            for index in range(viewers)
        ]  # fmt: skip
        for viewer in self.viewers:
            self.publisher.producer.consumers[viewer.id] = viewer

    def arrive(self, layer: int, seq: int, timestamp: int, payload: bytes) -> None:
        stream = self.publisher.producer.layers[layer].media
        assert stream is not None
        if not stream.receive.on_packet(seq, timestamp, len(payload), self.now_us):
            return
        highest = stream.receive.highest
        extended = highest + ((seq - highest + 0x8000) & 0xFFFF) - 0x8000
        shape = read_shape(Codec.VP8, payload, 0, len(payload), layer)
        stream.time.on_packet(timestamp, self.now_us)
        meter = stream.layer.meter
        meter.add(layer, shape.temporal, len(payload), self.now_us)
        if shape.key:
            meter.width, meter.height = SIZES[layer]
            stream.layer.keyframes.arrived()
        self.lanes.offer(stream, Arrived(extended, timestamp, 0, [], payload, shape), self.now_us)

    def turn(self, layers: set[int], fate: list[str], *, together: bool = False) -> None:
        """One frame time: send, lose, reorder, and what is due; ``together``: the next is read in the same wake-up."""
        held = []
        for index, packet in enumerate(self.publisher.packets(layers)):
            what = fate[index] if index < len(fate) else "ok"
            if what == "lost":
                continue
            if what == "late":
                held.append(packet)
                continue
            self.arrive(*packet)
            if what == "twice":
                self.arrive(*packet)
        for packet in held:
            self.arrive(*packet)
        if not together:
            self.lanes.flush(self.now_us)
        for layer in self.publisher.producer.layers:
            if layer.keyframes.wanted:
                self.publisher.wanted.add(layer.index)
        self.steering.tick([self.publisher.producer], self.now_us)
        self.now_us += FRAME_US


views = st.one_of(
    st.none(),
    st.sampled_from([View(1920, 1080, "main"), View(640, 360, "tile"), View(200, 112, "tile"), View(0, 0, "tile")]),
)
allowances = st.one_of(st.none(), st.just(NOTHING), st.builds(Target, st.integers(0, 2), st.integers(0, 2)))
fates = st.lists(st.sampled_from(["ok", "ok", "ok", "ok", "lost", "late", "twice"]), max_size=6)
wakeups = st.booleans()
sent_layers = st.sampled_from([{0, 1, 2}, {0, 1, 2}, {0, 1}, {0}])
turns = st.lists(
    st.tuples(st.integers(1, 8), sent_layers, fates, st.integers(0, 1), views, allowances, wakeups),
    min_size=1,
    max_size=25,
)


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(turns, st.integers(0, 65_535), st.integers(0, 0x7FFF))
def test_a_viewer_sees_one_unbroken_stream(history: list[Any], first_seq: int, first_picture: int) -> None:
    """[RW1] [RW2] [RW4] [LA1] Numbers, times and pictures go on; a new size begins with a key frame."""
    world = World(first_seq, first_picture, 2)
    for viewer in world.viewers:
        world.steering.steer(viewer, world.now_us)
    lossless = True
    for repeat, layers, fate, which, view, allowed, together in history:
        viewer = world.viewers[which]
        viewer.view, viewer.allowed = view, allowed
        world.steering.steer(viewer, world.now_us)
        for _ in range(repeat):
            world.turn(layers, fate, together=together)
        lossless = lossless and "lost" not in fate and "late" not in fate
    for viewer in world.viewers:
        seen = world.catcher.seen.get(viewer.id, [])
        assert_unbroken(seen, lossless)


def assert_unbroken(seen: list[Out], lossless: bool) -> None:
    by_seq: dict[int, Out] = {}
    previous: Out | None = None
    for out in seen:
        assert out.seq not in by_seq, "a number is used once"
        by_seq[out.seq] = out
        if previous is not None and lossless:
            assert (out.seq - previous.seq) & 0xFFFF == 1, "nothing was lost, so there is no hole"
        if out.empty:
            continue
        if previous is not None and not previous.empty and lossless:
            ahead = (out.picture - previous.picture) & 0x7FFF
            if out.layer == previous.layer and out.frame == previous.frame:
                assert (ahead, out.timestamp) == (0, previous.timestamp)
            else:
                assert ahead == 1, "pictures are counted without a hole"
                assert 0 < (out.timestamp - previous.timestamp) & 0xFFFF_FFFF < 1 << 31
                assert (out.tl0 - previous.tl0) & 0xFF == (1 if out.temporal == 0 else 0)
            if out.layer != previous.layer:
                assert out.key, "another size begins with its key frame"
        previous = out


@settings(deadline=None, max_examples=60)
@given(views, allowances, st.integers(0, 65_535))
def test_a_key_frame_is_always_reachable(view: View | None, allowed: Target | None, first_seq: int) -> None:
    """[KF1] Whatever was wanted before: a viewer that may have a picture gets one as soon as the publisher answers."""
    world = World(first_seq, 0, 1)
    viewer = world.viewers[0]
    viewer.view, viewer.allowed = view, allowed
    world.steering.steer(viewer, world.now_us)
    for _ in range(40):
        world.turn({0, 1, 2}, [])
    viewer.view, viewer.allowed = View(1280, 720, "main"), None
    world.steering.steer(viewer, world.now_us)
    for _ in range(40):
        world.turn({0, 1, 2}, [])

    assert viewer.flow is Flow.LIVE
    assert world.catcher.seen["v0"][-1].layer == 2


def test_what_was_read_before_an_entrance_still_comes_from_the_old_lane() -> None:
    """[LA2] Two frames in one wake-up, the second an entrance to fewer frames a second: no frame is missed."""
    world = World(0, 0, 1)
    viewer = world.viewers[0]
    viewer.allowed = Target(0, 2)
    world.steering.steer(viewer, world.now_us)
    for _ in range(36):  # a second and more: the rates of the temporal layers are known, and the phase is 0 again
        world.turn({0}, [])
    world.turn({0}, [], together=True)
    viewer.allowed = Target(0, 0)
    world.steering.steer(viewer, world.now_us)
    for together in (True, True, True, True, False):
        world.turn({0}, [], together=together)

    frames = [out.frame for out in world.catcher.seen["v0"]]
    assert viewer.lane is not None
    assert viewer.lane.temporal == 0
    assert sorted(set(frames)) == [*range(41)]
