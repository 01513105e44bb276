"""Stock aiortc as a relay: RTCPeerConnection for everybody, MediaRelay in between.

It has no encoded pass-through: what comes in is decoded and encoded again for every
subscriber. So it is fed a real VP8 and Opus stream, encoded beforehand by aiortc's own
encoders and sent in a loop, and its figure is the CPU of its process over the packets it
sent; how many those are is its encoder's decision. Latency is not taken: its packets are
not the ones that came in.

``python -m load_tests.peers.aiortc_hub`` is the relay's process: one JSON line in with an offer,
one out with the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.codecs.opus import OpusEncoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.contrib.media import MediaRelay
from av import AudioFrame, VideoFrame

from load_tests.peers import sdp
from load_tests.rig.contenders import keep_answering, keep_reporting
from load_tests.rig.drive import Load, Round, measure_round, process_cpu_s
from load_tests.rig.peer import LoadPeer
from load_tests.rig.poller import Poller
from load_tests.rig.traffic import AUDIO_PT, AUDIO_SSRC, PACKETS_PER_FRAME, VIDEO_PT, VIDEO_SSRC, Publisher, Subscriber

ANSWER_TIMEOUT_S = 15.0
FRAMES_PER_S, FRAMES = 25, 50
WIDTH, HEIGHT = 640, 480
BITRATE_BPS = 1_000_000


class HubFailed(Exception):
    """The process did not answer."""


def encode_picture() -> list[list[bytes]]:
    """Payloads of two seconds of moving noise, a key frame first."""
    encoder = Vp8Encoder()
    encoder.target_bitrate = BITRATE_BPS
    noise = np.random.default_rng(1).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    picture = np.kron(noise, np.ones((8, 8, 1), dtype=np.uint8))
    frames = []
    for index in range(FRAMES):
        frame = VideoFrame.from_ndarray(np.roll(picture, index * 3, axis=1), format="rgb24")
        frame.pts, frame.time_base = index * 90_000 // FRAMES_PER_S, fractions.Fraction(1, 90_000)
        payloads, _ = encoder.encode(frame, force_keyframe=index == 0)
        frames.append(payloads)
    return frames


def encode_sound() -> bytes:
    """Payload of 20 ms of a tone."""
    encoder = OpusEncoder()
    tone = (np.sin(np.arange(960) * 2 * np.pi * 440 / 48_000) * 8000).astype(np.int16)
    frame = AudioFrame.from_ndarray(np.repeat(tone, 2).reshape(1, -1), format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, fractions.Fraction(1, 48_000)
    payloads, _ = encoder.encode(frame)
    return payloads[0] if payloads else b"\xfc\xff\xfe"


class EncodedPublisher(Publisher):
    """Sends the encoded stream; a burst is one frame and 40 ms of sound."""

    def __init__(self, peer: LoadPeer) -> None:
        super().__init__(peer)
        self._frames = encode_picture()
        self._sound = encode_sound()

    def burst(self) -> None:
        """One frame at once."""
        payloads = self._frames[self._frame % FRAMES]
        timestamp = self._frame * 90_000 // FRAMES_PER_S
        for index, payload in enumerate(payloads):
            self.send(VIDEO_PT, index == len(payloads) - 1, self._video_seq, timestamp, VIDEO_SSRC, payload)
            self._video_seq += 1
        self._frame += 1
        for _ in range(2):
            self.send(AUDIO_PT, False, self._audio_seq, self._audio_seq * 960, AUDIO_SSRC, self._sound)
            self._audio_seq += 1

    def trailer(self) -> bytes:
        """A decoder would stumble over a time of sending."""
        return b""


class AiortcHub:
    """The process and its peers."""

    name = "aiortc"

    def __init__(self, poller: Poller) -> None:
        self.publisher: Publisher
        self.viewers: list[Subscriber] = []
        self._poller = poller
        self._bind = ""
        self._process: asyncio.subprocess.Process | None = None
        self._peers: list[LoadPeer] = []

    async def open(self, bind: str, launch: Sequence[str]) -> None:
        """Start it and its publisher.

        Raises:
            HubFailed: it does not answer.
        """
        self._bind = bind
        self._process = await asyncio.create_subprocess_exec(
            *launch,
            *(sys.executable, "-m", "load_tests.peers.aiortc_hub"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=1 << 20,
        )
        peer, _ = await self._connect("sendonly")
        self.publisher = EncodedPublisher(peer)
        keep_reporting(self._poller, self.publisher)

    async def add_viewers(self, count: int) -> None:
        """Connect more subscribers until there are ``count``."""
        while len(self.viewers) < count:
            peer, relay = await self._connect("recvonly")
            viewer = Subscriber(peer, relay.kinds, relay.twcc_id)
            peer.sink = viewer.sink
            self.viewers.append(viewer)
            keep_answering(self._poller, viewer)

    def measure(self, window_s: float) -> Round:
        """One window."""
        for viewer in self.viewers:
            viewer.samples = False
        load = Load("bursts", FRAMES_PER_S * PACKETS_PER_FRAME)
        assert self._process is not None
        pid = self._process.pid
        return measure_round(self._poller, self.publisher, self.viewers, lambda: process_cpu_s(pid), load, window_s)

    async def close(self) -> None:
        """End it; idempotent."""
        for peer in self._peers:
            await peer.close()
        self._peers.clear()
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def _connect(self, direction: sdp.Direction) -> tuple[LoadPeer, sdp.Description]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        peer = LoadPeer(self._poller, self._bind)
        self._peers.append(peer)
        line = json.dumps({"sends": direction == "sendonly", "sdp": sdp.offer(peer, direction)})
        self._process.stdin.write(line.encode() + b"\n")
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answered = await self._process.stdout.readline()
        except TimeoutError:
            raise HubFailed("no answer") from None
        if not answered:
            raise HubFailed("the process ended")
        relay = sdp.parse(json.loads(answered)["sdp"])
        await peer.connect(relay.remote, dtls_role="server" if relay.setup == "active" else "client")
        return peer, relay


async def serve() -> None:
    """The relay's process: answer offers until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    relay = MediaRelay()
    tracks: list[Any] = []
    connections = []
    while line := await reader.readline():
        asked = json.loads(line)
        connection = RTCPeerConnection()
        connections.append(connection)
        if asked["sends"]:
            connection.on("track", tracks.append)
        await connection.setRemoteDescription(RTCSessionDescription(asked["sdp"], "offer"))
        if not asked["sends"]:
            for track in tracks:
                connection.addTrack(relay.subscribe(track))
        await connection.setLocalDescription(await connection.createAnswer())
        print(json.dumps({"sdp": connection.localDescription.sdp}), flush=True)
    for connection in connections:
        await connection.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())
