"""Layers through a relay with real peers: which one a viewer gets, how it is moved, and what is said of it."""

import asyncio
import gc
import weakref
from itertools import pairwise
from struct import pack
from typing import Any

from media.aio.loop import MediaLoop
from media.core import ortc, rtcp
from media.core.control import ConsumerLayers
from media.core.history import HISTORY_PACKETS
from media.core.loudest import PLACES
from media.core.rewriter import ViewerNumbers
from media.core.router import REMAINING_PACKETS, REMEMBERED_MS, Source
from tests.integration.media.inside import Direct
from tests.integration.media.peer import (
    AUDIO_PT,
    LEVEL_ID,
    MID_ID,
    VIDEO_PT,
    Peer,
    Rtp,
    audio_parameters,
    build_rtp,
    until,
    video_parameters,
)

RID_ID, DEPENDENCY_ID = 10, 12
SIZES = ((320, 180), (640, 360), (1280, 720))
FILLING = (60, 450, 1050)
"""Bytes a frame: 30 a second are about 20, 120 and 260 kbit/s."""
LAYER_SSRC = (0x0A, 0x0B, 0x0C)


def simulcast(names: tuple[str, ...]) -> dict[str, Any]:
    """As Chromium announces it: layers have names, no SSRCs."""
    parameters = video_parameters(encodings=[{"rid": name} for name in names])
    parameters["headerExtensions"].append({"uri": ortc.RID_URI, "id": RID_ID})
    return parameters


def picture(layer: int, number: int, *, key: bool, temporal: int = 0) -> bytes:
    """First packet of a VP8 frame; the body names its layer and number."""
    width, height = SIZES[layer]
    head = bytes((0x90, 0xE0, 0x80 | number >> 8, number & 255, number & 255, temporal << 6))
    size = pack("<HH", width, height)
    return (
        head
        + bytes((0 if key else 1, 0, 0))
        + b"\x9d\x01\x2a"
        + size
        + bytes(FILLING[layer])
        + bytes((layer,))
        + number.to_bytes(2, "big")
    )


class Camera:
    """Sends layers; answers requests for a key frame as an encoder does."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.number = 0
        self.seen_plis = 0
        self.keys: set[int] = {0, 1, 2}

    def send(self, *layers: int) -> None:
        plis = self.peer.got.of(rtcp.Pli)
        for request in plis[self.seen_plis :]:
            self.keys.add(LAYER_SSRC.index(request.media_ssrc))
        self.seen_plis = len(plis)
        for layer in layers:
            names = {MID_ID: b"0", RID_ID: f"r{layer}".encode()}
            payload = picture(layer, self.number, key=layer in self.keys)
            timestamp = self.number * 3000 + layer * 500_000
            self.peer.send_rtp(
                build_rtp(
                    VIDEO_PT,
                    (self.number + 100 * layer) & 0xFFFF,
                    timestamp,
                    LAYER_SSRC[layer],
                    payload,
                    marker=True,
                    extensions=names,
                )
            )
            self.keys.discard(layer)
        self.number += 1


async def watching(
    direct: Direct, view: tuple[int, int], names: tuple[str, ...] = ("r0", "r1", "r2")
) -> tuple[Camera, Peer]:
    client: Any = direct
    publisher, viewer = Peer(client, "r", "send"), Peer(client, "r", "recv")
    await publisher.join()
    await viewer.join()
    direct.relay.produce(publisher.id, "cam", "video", simulcast(names), False)
    direct.relay.consume(viewer.id, "view", "cam", ortc.router_capabilities())
    direct.relay.view_consumer("view", *view, "main")
    direct.relay.resume_consumer("view")
    await until(lambda: len(direct.states) == 2, "both connected")
    return Camera(publisher), viewer


async def flow(direct: Direct, camera: Camera, layers: tuple[int, ...], until_true: Any, what: str) -> None:
    """Frames of these layers, a thirtieth of a second apart on the relay's clock, until something is so."""

    def next_frame() -> Any:
        direct.skipped_us += 33_000
        camera.send(*layers)
        return until_true()

    await until(next_frame, what)


def layer_of(packet: Rtp) -> int:
    return packet.payload[-3]


def media(viewer: Peer) -> list[Rtp]:
    return [packet for packet in viewer.got.rtp if packet.payload_type == ortc.PAYLOAD_TYPES[ortc.Codec.VP8]]


def newest(viewer: Peer) -> int:
    """Layer of the last packet, -1 before the first."""
    packets = media(viewer)
    return layer_of(packets[-1]) if packets else -1


def news(direct: Direct) -> list[tuple[int, str]]:
    return [(n.spatial, n.limited_by) for n in direct.notes if isinstance(n, ConsumerLayers)]


def assert_unbroken(packets: list[Rtp]) -> None:
    for before, after in pairwise(packets):
        assert (after.seq - before.seq) & 0xFFFF == 1
        assert 0 < (after.timestamp - before.timestamp) & 0xFFFF_FFFF < 10 * 90_000
        pictures = [(p.payload[2] & 0x7F) << 8 | p.payload[3] for p in (before, after)]
        assert (pictures[1] - pictures[0]) & 0x7FFF == 1
        if layer_of(before) != layer_of(after):
            assert after.payload[6] & 1 == 0, "another size begins with a key frame"


async def finish(*peers: Peer) -> None:
    for peer in peers:
        await peer.close()


async def test_a_viewer_gets_the_layer_that_fills_its_area(direct: Direct) -> None:
    """[LA1] Small at first, large when its tile grows, in one unbroken stream; signalling is told."""
    camera, viewer = await watching(direct, (320, 180))
    everything = (0, 1, 2)
    await flow(direct, camera, everything, lambda: len(media(viewer)) > 5, "the small picture")
    assert {layer_of(packet) for packet in media(viewer)} == {0}

    direct.relay.view_consumer("view", 1280, 720, "main")
    await flow(direct, camera, everything, lambda: newest(viewer) == 2, "the large picture")
    direct.relay.view_consumer("view", 600, 400, "tile")
    await flow(direct, camera, everything, lambda: newest(viewer) == 1, "the middle one")

    assert_unbroken(media(viewer))
    assert news(direct)[-2:] == [(2, "nothing"), (1, "view")]
    await finish(camera.peer, viewer)


async def test_layers_that_are_listed_the_other_way_round_are_ranked_by_their_size(direct: Direct) -> None:
    """Some encoders name the largest first; the area a viewer has still gets the size that fits."""
    camera, viewer = await watching(direct, (320, 180), names=("r2", "r1", "r0"))
    await flow(direct, camera, (0, 1, 2), lambda: newest(viewer) == 0, "the small picture")
    direct.relay.view_consumer("view", 1280, 720, "main")
    await flow(direct, camera, (0, 1, 2), lambda: newest(viewer) == 2, "the large picture")

    assert_unbroken(media(viewer))
    await finish(camera.peer, viewer)


async def test_a_layer_that_falls_silent_is_left(direct: Direct) -> None:
    """A publisher switches its large layers off when its uplink is thin: nobody stays with a frozen picture."""
    camera, viewer = await watching(direct, (1280, 720))
    await flow(direct, camera, (0, 1, 2), lambda: media(viewer) and newest(viewer) == 2, "the large picture")
    await flow(direct, camera, (0, 1), lambda: newest(viewer) == 1, "the middle one")

    assert_unbroken(media(viewer))
    assert news(direct)[-1] == (1, "source")
    await finish(camera.peer, viewer)


async def test_what_is_not_visible_is_not_sent(direct: Direct) -> None:
    camera, viewer = await watching(direct, (320, 180))
    await flow(direct, camera, (0, 1, 2), lambda: len(media(viewer)) > 2, "a picture")
    direct.relay.view_consumer("view", 0, 0, "tile")

    async def more() -> int:
        """Packets that the viewer has when the relay has had many more."""
        received = direct.relay.counters.values["rtp_received"]
        await flow(
            direct, camera, (0, 1, 2), lambda: direct.relay.counters.values["rtp_received"] > received + 15, "more"
        )
        return len(media(viewer))

    got = await more()  # what was on its way has come
    assert await more() == got
    assert news(direct)[-1] == (-1, "view")

    direct.relay.view_consumer("view", 320, 180, "tile")
    await flow(direct, camera, (0, 1, 2), lambda: len(media(viewer)) > got, "the picture again")
    assert_unbroken(media(viewer))
    await finish(camera.peer, viewer)


async def test_a_thin_line_gets_a_small_picture_and_a_wide_one_the_large_one_again(direct: Direct) -> None:
    """[CC1] By the viewer's own estimate (REMB), which pymediasoup sends: down at once, up when it has held."""
    camera, viewer = await watching(direct, (1280, 720))
    everything = (0, 1, 2)
    ssrc = next(iter(direct.relay._consumers.values())).ssrc
    await flow(direct, camera, everything, lambda: media(viewer) and newest(viewer) == 2, "the large picture")

    viewer.send_rtcp(rtcp.build_remb(9, 60_000, [ssrc]))
    await flow(direct, camera, everything, lambda: newest(viewer) == 0, "the small picture")
    assert news(direct)[-1] == (0, "line")

    viewer.send_rtcp(rtcp.build_remb(9, 8_000_000, [ssrc]))
    await flow(direct, camera, everything, lambda: newest(viewer) == 2, "the large picture again")
    assert_unbroken(media(viewer))
    await finish(camera.peer, viewer)


async def test_a_packet_lost_before_a_change_of_layer_is_still_sent_again(direct: Direct) -> None:
    """[RW3] The number leads back to the lane it came from."""
    camera, viewer = await watching(direct, (320, 180))
    await flow(direct, camera, (0, 1, 2), lambda: len(media(viewer)) > 5, "the small picture")
    direct.relay.view_consumer("view", 1280, 720, "main")
    await flow(direct, camera, (0, 1, 2), lambda: newest(viewer) == 2, "the large picture")
    lost = next(packet for packet in reversed(media(viewer)) if layer_of(packet) == 0)
    ssrc = next(iter(direct.relay._consumers.values())).ssrc

    def repaired() -> list[Rtp]:
        wanted = lost.seq.to_bytes(2, "big")
        return [p for p in viewer.got.rtp if p.payload_type == 102 and p.payload[:2] == wanted]

    viewer.send_rtcp(rtcp.build_nack(9, ssrc, [lost.seq]))
    await until(repaired, "the repair")
    assert repaired()[0].payload[2:] == lost.payload
    assert repaired()[0].timestamp == lost.timestamp
    await finish(camera.peer, viewer)


# ---------------------------------------------------------------- all sizes in one stream

L2T3 = bytes.fromhex(
    "c10001c00514853abfaaa18f04304302a02a006001001b934515e082704608c0c787004321651111543276813f80b3827f81678e"
)
"""A VP9 key frame's dependency descriptor as Chromium 156 sent it: 640x360 and 1280x720 built on it."""
VP9_PT = 98


def svc() -> dict[str, Any]:
    parameters = video_parameters()
    parameters["codecs"][0] |= {"mimeType": "video/VP9", "payloadType": VP9_PT, "parameters": {"profile-id": 0}}
    parameters["codecs"] = parameters["codecs"][:1]
    parameters["encodings"] = [{"ssrc": LAYER_SSRC[0]}]
    parameters["headerExtensions"].append({"uri": ortc.DEPENDENCY_URI, "id": DEPENDENCY_ID})
    return parameters


def svc_packet(seq: int, frame: int, descriptor: bytes, marker: bool) -> bytes:
    """One packet with its descriptor in the two-byte form, which long ones need (RFC 8285 section 4.3)."""
    body = bytes((DEPENDENCY_ID, len(descriptor))) + descriptor
    body += bytes(-len(body) % 4)
    head = pack("!BBHII", 0x90, marker << 7 | VP9_PT, seq, frame * 3000, LAYER_SSRC[0])
    return head + pack("!HH", 0x1000, len(body) // 4) + body + bytes((0x80,)) + frame.to_bytes(2, "big")


async def test_one_stream_with_two_sizes_is_cut_for_a_small_area(direct: Direct) -> None:
    """[LA3] Only the small frames, ending each picture for who gets no larger one, without a hole; then both."""
    client: Any = direct
    publisher, viewer = Peer(client, "r", "send"), Peer(client, "r", "recv")
    await publisher.join()
    await viewer.join()
    direct.relay.produce(publisher.id, "cam", "video", svc(), False)
    direct.relay.consume(viewer.id, "view", "cam", ortc.router_capabilities())
    direct.relay.view_consumer("view", 640, 360, "tile")
    direct.relay.resume_consumer("view")
    await until(lambda: len(direct.states) == 2, "both connected")
    seq = frame = 0
    wants_key = True

    def send() -> None:
        nonlocal seq, frame, wants_key
        direct.skipped_us += 33_000
        frame += 1
        small = L2T3 if wants_key else bytes((0xC0,)) + frame.to_bytes(2, "big")
        large = bytes((0xC6,)) + frame.to_bytes(2, "big")
        wants_key = len(publisher.got.of(rtcp.Pli)) > asked
        for descriptor, last in ((small, False), (large, True)):
            seq += 1
            publisher.send_rtp(svc_packet(seq, frame, descriptor, last))

    asked = 99

    def got(count: int) -> bool:
        send()
        return len(viewer.got.rtp) > count

    await until(lambda: got(10), "the small picture")
    small = list(viewer.got.rtp)
    assert all(packet.marker for packet in small)
    assert len({packet.timestamp for packet in small}) == len(small), "one packet of each picture"
    assert all((b.seq - a.seq) & 0xFFFF == 1 for a, b in pairwise(small))

    asked = len(publisher.got.of(rtcp.Pli))
    direct.relay.view_consumer("view", 1280, 720, "main")

    def both() -> bool:
        send()
        times = [packet.timestamp for packet in viewer.got.rtp[-6:]]
        return len(set(times)) <= 4

    await until(both, "both sizes")
    assert all((b.seq - a.seq) & 0xFFFF == 1 for a, b in pairwise(viewer.got.rtp))
    assert news(direct)[-1] == (1, "nothing")
    await finish(publisher, viewer)


# ---------------------------------------------------------------- voices


async def test_only_the_loudest_voices_of_many_are_forwarded(direct: Direct) -> None:
    """One more microphone than places: the silent one is left out, without a hole, and let in when it speaks."""
    client: Any = direct
    publisher, viewer = Peer(client, "r", "send"), Peer(client, "r", "recv")
    await publisher.join()
    await viewer.join()
    count = PLACES + 1
    names = [f"mic{index}" for index in range(count)]
    ssrcs: dict[str, int] = {}
    for index, name in enumerate(names):
        parameters = audio_parameters() | {"mid": str(index), "encodings": [{"ssrc": 1000 + index}]}
        direct.relay.produce(publisher.id, name, "audio", parameters, False)
        result = direct.relay.consume(viewer.id, f"hear{index}", name, ortc.router_capabilities())
        ssrcs[name] = result["rtp_parameters"]["encodings"][0]["ssrc"]
        direct.relay.resume_consumer(f"hear{index}")
    await until(lambda: len(direct.states) == 2, "both connected")
    number = 0

    def speak(loud: set[str]) -> None:
        nonlocal number
        number += 1
        direct.skipped_us += 20_000
        for index, name in enumerate(names):
            level = {LEVEL_ID: bytes((0x80 | (25 if name in loud else 90),))}
            publisher.send_rtp(build_rtp(AUDIO_PT, number, number * 960, 1000 + index, b"opus", extensions=level))

    def heard(name: str) -> list[Rtp]:
        return [packet for packet in viewer.got.rtp if packet.ssrc == ssrcs[name]]

    def turn(loud: set[str], name: str, more_than: int) -> bool:
        speak(loud)
        return len(heard(name)) > more_than

    first, last = set(names[:-1]), names[-1]
    await until(lambda: turn(first, names[0], 20), "the first voices")
    assert heard(last) == []
    await until(lambda: turn({last}, last, 5), "the voice that was silent")

    assert all((b.seq - a.seq) & 0xFFFF == 1 for a, b in pairwise(heard(last)))
    await finish(publisher, viewer)


def kept_before(numbers: ViewerNumbers) -> int:
    """How many packets a viewer still keeps at most of the lane it left."""
    assert numbers.before is not None
    source: Source = numbers.before.source
    return source.history.size


async def leaving_and_closing() -> None:
    direct = Direct()
    direct.relay.open_router("r")
    camera, viewer = await watching(direct, SIZES[2])
    await flow(direct, camera, (0, 1, 2), lambda: newest(viewer) == 2, "the largest")
    await flow(direct, camera, (0, 1, 2), lambda: len(media(viewer)) > 20, "more of it")
    producer = direct.relay._producers["cam"]
    left = weakref.ref(producer.layers[2].lanes[0])
    gc.collect()
    gc.disable()
    try:
        direct.relay.view_consumer("view", *SIZES[0], "main")
        await flow(direct, camera, (0, 1, 2), lambda: newest(viewer) == 0, "the smallest")
        assert producer.layers[2].lanes == []
        assert left() is None
        before = producer.consumers["view"].numbers
        assert kept_before(before) == HISTORY_PACKETS, "it may still ask for what was lost on the way"
        direct.skipped_us += REMEMBERED_MS * 1000
        await flow(direct, camera, (0, 1, 2), lambda: kept_before(before) == REMAINING_PACKETS, "letting go of it")

        streams = [weakref.ref(layer.media) for layer in producer.layers if layer.media is not None]
        assert len(streams) == 3
        direct.relay.close_producer("cam")
        assert [stream() for stream in streams] == [None] * 3
    finally:
        gc.enable()
    await viewer.close()
    await camera.peer.close()
    await direct.relay.close()


def test_what_ends_while_others_go_on_is_freed_without_the_collector() -> None:
    """A lane that everybody left, with a thousand packets, and streams: all is looked at only when somebody leaves.

    On the worker's own loop: where the C receive path was built it keeps things of each lane too.
    """
    with asyncio.Runner(loop_factory=MediaLoop) as runner:
        runner.run(leaving_and_closing())
