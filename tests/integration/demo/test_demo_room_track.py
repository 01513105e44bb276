"""The room's packet track through real peers: aiortc sends what was encoded before, and it decodes."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from server.demo import media
from server.demo.media import MediaLoop
from server.demo.room import LoopTrack, tracks


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> MediaLoop:
    return media.prepare(tmp_path_factory.mktemp("film"))


async def test_a_viewer_decodes_picture_and_sound_of_the_loop(loop: MediaLoop) -> None:
    """Two real peers on this machine; no encoder runs in the sender."""
    configuration = RTCConfiguration(iceServers=[])
    room, viewer = RTCPeerConnection(configuration), RTCPeerConnection(configuration)
    arrived = {"video": asyncio.Queue(), "audio": asyncio.Queue()}

    @viewer.on("track")
    def on_track(track) -> None:  # type: ignore[no-untyped-def]
        async def pump() -> None:
            for _ in range(40):
                await arrived[track.kind].put(await track.recv())

        pumps.append(asyncio.create_task(pump()))

    pumps: list[asyncio.Task[None]] = []
    try:
        for track in tracks(loop, asyncio.get_running_loop().time()):
            room.addTrack(track)
        await room.setLocalDescription(await room.createOffer())
        await viewer.setRemoteDescription(room.localDescription)
        await viewer.setLocalDescription(await viewer.createAnswer())
        await room.setRemoteDescription(viewer.localDescription)
        async with asyncio.timeout(90):
            await asyncio.gather(*pumps)
    finally:
        for pump in pumps:
            pump.cancel()
        await room.close()
        await viewer.close()

    pictures = [arrived["video"].get_nowait() for _ in range(40)]
    sound = [arrived["audio"].get_nowait() for _ in range(40)]
    assert {(p.width, p.height) for p in pictures} == {(1280, 720)}
    assert all(b.pts > a.pts for a, b in itertools.pairwise(pictures))
    assert max(abs(frame.to_ndarray()).max() for frame in sound) > 100


async def test_timestamps_rise_through_the_seam() -> None:
    now = asyncio.get_running_loop().time()
    track = LoopTrack("audio", (b"a", b"b", b"c"), 960, 48_000, now, frozenset({0, 1, 2}))
    packets = [await track.recv() for _ in range(8)]
    assert [bytes(p) for p in packets] == [b"a", b"b", b"c", b"a", b"b", b"c", b"a", b"b"]
    assert [p.pts for p in packets] == [960 * i for i in range(8)]


async def test_a_track_that_was_held_up_goes_on_in_the_present_at_a_key_frame() -> None:
    """A burst of old pictures would only make every viewer late."""
    start_s = asyncio.get_running_loop().time() - 10.0
    track = LoopTrack("video", tuple(bytes([i]) for i in range(30)), 3000, 90_000, start_s, frozenset({0, 15}))
    packet = await track.recv()
    assert bytes(packet) in (b"\x00", b"\x0f")
    assert packet.pts >= 10 * 90_000
