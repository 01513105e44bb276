"""RTP time as viewers are told of it: through a relay with real peers, against when each picture was really taken."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pytest_asyncio

from media.core import ortc, rtcp
from media.core.sender_report import ntp_from_us
from media.core.serial import MASK_32, diff32
from tests.integration.media.inside import Direct
from tests.integration.media.peer import MID_ID, VIDEO_PT, Peer, Rtp, build_rtp, until
from tests.integration.media.test_layers import LAYER_SSRC, RID_ID, layer_of, media, newest, picture, simulcast

CLOSE_US = 20_000
"""What a busy machine may take between sending and reading, at its best."""
START = (0xFFFF_0000, 7, 0x8000_0000)
"""Of each layer's timestamps; the smallest layer's wrap."""


@dataclass
class Scene:
    """A publisher of three layers with a clock of its own, and a viewer that listens."""

    direct: Direct
    publisher: Peer
    viewer: Peer
    behind_us: int = 9_000_000_000
    """Of the publisher's clock, to ours."""
    taken_us: list[int] = field(default_factory=list)
    """When each picture was taken, by its number."""
    keys: set[int] = field(default_factory=lambda: {0, 1, 2})
    plis: int = 0

    @property
    def now_us(self) -> int:
        return int(self.direct.relay._clock())

    @property
    def maps(self) -> list[dict[str, Any]]:
        messages = [m for m in self.viewer.got.messages if isinstance(m, bytes)]
        return [entry for message in map(msgpack.unpackb, messages) if message["t"] == "map" for entry in message["of"]]

    def nothing_due(self) -> None:
        """From now on only what is told at once."""
        listener = self.direct.relay._routers["r"].data.listener("doctor")
        assert listener is not None
        listener.map_due_us = self.now_us + 10**12

    def timestamp(self, layer: int, at_us: int) -> int:
        return (START[layer] + at_us * 90 // 1000) & MASK_32

    def take(self) -> None:
        """One picture in all sizes, a thirtieth of a second after the one before."""
        self.direct.skipped_us += 33_000
        requests = self.publisher.got.of(rtcp.Pli)
        self.keys |= {LAYER_SSRC.index(request.media_ssrc) for request in requests[self.plis :]}
        self.plis = len(requests)
        number, now_us = len(self.taken_us), self.now_us
        self.taken_us.append(now_us)
        for layer in range(3):
            extensions = {MID_ID: b"0", RID_ID: f"r{layer}".encode()}
            payload = picture(layer, number, key=layer in self.keys)
            timestamp, sequence = self.timestamp(layer, now_us), (number + 100 * layer) & 0xFFFF
            self.publisher.send_rtp(
                build_rtp(VIDEO_PT, sequence, timestamp, LAYER_SSRC[layer], payload, marker=True, extensions=extensions)
            )
        self.keys.clear()

    def report(self) -> None:
        """What time it is, by the publisher's clock."""
        for layer, ssrc in enumerate(LAYER_SSRC):
            now_us = self.now_us
            ntp = ntp_from_us(now_us - self.behind_us)
            self.publisher.send_rtcp(rtcp.build_sender_report(ssrc, ntp, self.timestamp(layer, now_us), 1, 100))

    async def film(self, until_true: Any, what: str, *, with_reports: bool = True) -> None:
        def next_picture() -> Any:
            self.take()
            if with_reports and len(self.taken_us) % 10 == 0:
                self.report()
            return until_true()

        await until(next_picture, what)

    def error_us(self, entry: dict[str, Any], packet: Rtp) -> int:
        """How far the map is off for a picture this viewer has got, numbered as the viewer sees it."""
        said_us = entry["s"] + diff32(packet.timestamp, entry["rtp"]) * 1000 // 90
        return int(said_us) - self.taken_us[int.from_bytes(packet.payload[-2:], "big")]


@pytest_asyncio.fixture
async def scene(direct: Direct) -> AsyncIterator[Scene]:
    client: Any = direct
    publisher, viewer = Peer(client, "r", "send"), Peer(client, "r", "recv", owner="doctor")
    for peer in (publisher, viewer):
        await peer.join()
    direct.relay.produce(publisher.id, "cam", "video", simulcast(("r0", "r1", "r2")), False)
    direct.relay.consume(viewer.id, "view", "cam", ortc.router_capabilities())
    direct.relay.view_consumer("view", 320, 180, "main")
    direct.relay.resume_consumer("view")
    down = direct.relay.consume_data(viewer.id, "told", "ctl")
    channel = await viewer.channel(down["sctp_stream_parameters"], "ctl")
    await until(lambda: channel.is_open and len(direct.states) == 2, "both connected")
    direct.relay.resume_data_consumer("told")
    yield Scene(direct, publisher, viewer)
    for peer in (publisher, viewer):
        await peer.close()


async def test_a_viewer_can_date_each_picture(scene: Scene) -> None:
    """[WF16] By arrival until the publisher reports, then by capture; over a wrap, a layer switch, a set clock."""
    viewer, relay = scene.viewer, scene.direct.relay
    await scene.film(lambda: len(scene.maps) >= 2 and media(viewer), "maps by arrival", with_reports=False)
    first = scene.maps[0]
    packet = media(viewer)[-1]
    assert (first["producer"], first["ssrc"], first["rate"], first["how"]) == ("cam", packet.ssrc, 90_000, "arrival")
    await scene.film(
        lambda: abs(scene.error_us(scene.maps[-1], media(viewer)[-1])) < CLOSE_US, "arrivals near the truth",
        with_reports=False,
    )  # fmt: skip

    told = len(scene.maps)
    await scene.film(lambda: scene.maps[-1]["how"] == "capture", "a map by capture")
    assert {m["how"] for m in scene.maps[:told]} == {"arrival"}
    await scene.film(
        lambda: abs(scene.error_us(scene.maps[-1], media(viewer)[-1])) < CLOSE_US, "captures near the truth"
    )

    small, told = media(viewer)[-1], len(scene.maps)
    relay.view_consumer("view", 1280, 720, "main")
    await scene.film(lambda: newest(viewer) == 2 and len(scene.maps) > told, "the large picture")
    changed = next(p for p in media(viewer) if layer_of(p) == 2)
    dated = scene.maps[told:]
    assert all(abs(scene.error_us(m, p)) < CLOSE_US + 1000 for m in dated for p in (small, changed)), "one time line"

    scene.nothing_due()
    told = len(scene.maps)
    scene.behind_us += 700_000
    scene.report()
    await until(lambda: len(scene.maps) > told, "news of a clock that was set back")
    await scene.film(
        lambda: abs(scene.error_us(scene.maps[-1], media(viewer)[-1])) < CLOSE_US, "captures by the new clock"
    )
    assert all(abs(scene.error_us(m, media(viewer)[-1])) < 350_000 for m in scene.maps[told:])


async def test_a_switch_is_told_at_once_and_a_viewer_gets_no_more_than_two_a_second(scene: Scene) -> None:
    """[WF16] Bounded by time, not by packets: pictures at any rate cost the same."""
    viewer, relay = scene.viewer, scene.direct.relay
    await scene.film(lambda: scene.maps and media(viewer), "a map")
    await scene.film(
        lambda: (
            abs(scene.error_us(scene.maps[-1], media(viewer)[-1])) < CLOSE_US and scene.maps[-1]["how"] == "capture"
        ),
        "a map by capture",
    )
    sent, began_us, pictures = len(scene.maps), scene.now_us, len(scene.taken_us)
    await scene.film(lambda: len(scene.taken_us) - pictures > 90, "three seconds of pictures")
    assert len(scene.maps) - sent <= (scene.now_us - began_us) // 500_000 + 2

    scene.nothing_due()
    told = len(scene.maps)
    relay.view_consumer("view", 640, 360, "main")
    await scene.film(lambda: newest(viewer) == 1 and len(scene.maps) > told, "the middle one, with its map")
    packet = next(p for p in media(viewer) if layer_of(p) == 1)
    assert abs(scene.error_us(scene.maps[told], packet)) < CLOSE_US + 1000


async def test_nobody_is_told_who_does_not_listen(scene: Scene) -> None:
    """No channel, or one that is not resumed: no map is made."""
    scene.direct.relay.close_data_consumer("told")
    sent = scene.direct.relay.stats().get("maps_sent", 0)
    pictures = len(scene.taken_us)
    await scene.film(lambda: len(media(scene.viewer)) > 5 and len(scene.taken_us) - pictures > 60, "pictures")
    assert scene.direct.relay.stats().get("maps_sent", 0) == sent
