"""The simulated partner room: a process that sends the prepared loop as camera and microphone.

It joins with role ``room`` like any client (`client`). aiortc sends packets that
are already encoded when a track hands it ``av.Packet``s, so the whole room costs
a few percent of a core. A request for a key frame cannot be obeyed by a
recording; the loop has one every half second instead (`media`).
"""

import asyncio
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from aiortc import MediaStreamTrack
from av.packet import Packet

from server.bedside.client import Assignment, Media, Signalling, perform
from server.demo import child
from server.demo.media import AUDIO_RATE_HZ, FPS, OPUS_SAMPLES, MediaLoop, prepare
from signaling.core.model import MediaSource

LABEL = "Consulting room 会诊室"
VIDEO_RATE_HZ = 90_000
LATE_S = 0.5
"""Later than this and the track jumps ahead: a viewer wants the present, not a burst of the past."""


class LoopTrack(MediaStreamTrack):
    """Plays encoded packets in real time, for ever, with rising timestamps.

    Args:
        kind: ``video`` or ``audio``.
        packets: one round of the loop.
        step: length of one packet on the track's clock.
        rate_hz: ticks of that clock per second.
        start_s: event loop time of the first packet; tracks with one start stay in step.
        entries: indices where a decoder can start.
    """

    def __init__(
        self, kind: str, packets: tuple[bytes, ...], step: int, rate_hz: int, start_s: float, entries: frozenset[int]
    ) -> None:
        super().__init__()
        self.kind = kind
        self._packets, self._entries = packets, entries
        self._step, self._rate_hz, self._start_s = step, rate_hz, start_s
        self._index = 0

    async def recv(self) -> "Packet[Any]":
        """The next packet, when its time has come."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now - self._due_s(self._index) > LATE_S:
            self._index = self._entry_after(int((now - self._start_s) * self._rate_hz / self._step))
        await asyncio.sleep(max(0.0, self._due_s(self._index) - loop.time()))
        packet: Packet[Any] = av.Packet(self._packets[self._index % len(self._packets)])
        packet.pts = packet.dts = self._index * self._step
        packet.time_base = Fraction(1, self._rate_hz)
        self._index += 1
        return packet

    def _due_s(self, index: int) -> float:
        return self._start_s + index * self._step / self._rate_hz

    def _entry_after(self, index: int) -> int:
        while index % len(self._packets) not in self._entries:
            index += 1
        return index


def tracks(loop: MediaLoop, start_s: float) -> tuple[LoopTrack, LoopTrack]:
    """Picture and sound of the room, in step."""
    every = frozenset(range(len(loop.audio)))
    return (
        LoopTrack("video", loop.video, VIDEO_RATE_HZ // FPS, VIDEO_RATE_HZ, start_s, loop.key_frames),
        LoopTrack("audio", loop.audio, OPUS_SAMPLES, AUDIO_RATE_HZ, start_s, every),
    )


async def work(assignment: Assignment) -> None:
    """Send the room until cancelled."""
    loop = await asyncio.to_thread(prepare, Path(assignment.media_dir))

    async def performance(_: Signalling, media: Media) -> None:
        video, audio = tracks(loop, asyncio.get_running_loop().time())
        await media.produce(video, MediaSource.CAMERA, LABEL)
        await media.produce(audio, MediaSource.MICROPHONE, LABEL)
        await asyncio.Event().wait()

    await perform(assignment, performance)


if __name__ == "__main__":
    sys.exit(child.main(work))
