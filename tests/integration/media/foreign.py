"""pymediasoup, an ORTC client nobody here wrote, joined to a worker through its control protocol.

It negotiates and decodes by itself; this file only carries parameters between it and `WorkerClient`,
as signalling does in the product.
"""

import asyncio
import itertools
from fractions import Fraction
from typing import Any

import numpy as np
from aiortc import AudioStreamTrack, VideoStreamTrack
from av import AudioFrame, VideoFrame
from pymediasoup import AiortcHandler, Device
from pymediasoup.rtp_parameters import RtpCapabilities

from media.aio.client import WorkerClient

TONE_HZ = 440
AUDIO_RATE_HZ = 48_000


class MovingPicture(VideoStreamTrack):
    """320 x 240 with a bar that moves: no two frames alike."""

    def __init__(self) -> None:
        super().__init__()
        self._n = 0

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        picture = np.full((240, 320, 3), 60, np.uint8)
        left = self._n * 4 % 300
        picture[:, left : left + 20] = (40, 220, 90)
        self._n += 1
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = pts, time_base
        return frame


class Tone(AudioStreamTrack):
    """A sine one can hear the absence of."""

    async def recv(self) -> AudioFrame:
        frame = await super().recv()
        samples = frame.samples
        rate = frame.sample_rate
        t = (np.arange(samples) + (frame.pts or 0)) / rate
        wave = (np.sin(2 * np.pi * TONE_HZ * t) * 8000).astype(np.int16).reshape(1, -1)
        toned = AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        toned.sample_rate, toned.pts, toned.time_base = rate, frame.pts, Fraction(1, rate)
        return toned


class ForeignClient:
    """One participant with a sending and a receiving Transport."""

    _numbers = itertools.count()

    def __init__(self, worker: WorkerClient, router: str, capabilities: dict[str, Any]) -> None:
        self._worker = worker
        self._router = router
        self._capabilities = capabilities
        self.name = f"p{next(self._numbers)}"
        self.device: Any = None
        self.send: Any = None
        self.recv: Any = None
        self.produced: list[str] = []

    async def join(self, tracks: list[Any]) -> None:
        self.device = Device(handlerFactory=AiortcHandler.createFactory(tracks=tracks))
        await self.device.load(RtpCapabilities(**self._capabilities))
        self.send = await self._transport("send")
        self.recv = await self._transport("recv")

    async def _transport(self, direction: str) -> Any:
        name = f"{self.name}-{direction}"
        options = await self._worker.create_transport(self._router, name, self.name, direction)  # type: ignore[arg-type]
        make = self.device.createSendTransport if direction == "send" else self.device.createRecvTransport
        transport = make(
            id=options["id"],
            iceParameters=options["ice_parameters"],
            iceCandidates=options["ice_candidates"],
            dtlsParameters=options["dtls_parameters"],
            sctpParameters=options["sctp_parameters"],
        )

        @transport.on("connect")
        async def connect(parameters: Any) -> None:
            await self._worker.connect_transport(name, parameters.model_dump(exclude_none=True))

        if direction == "send":

            @transport.on("produce")
            async def produce(kind: Any, rtp_parameters: Any, app_data: Any) -> str:
                identity = f"{self.name}-{kind}"
                await self._worker.produce(name, identity, kind, rtp_parameters.model_dump(exclude_none=True))
                self.produced.append(identity)
                return identity

            @transport.on("producedata")
            async def produce_data(sctpStreamParameters: Any, label: str, protocol: str, appData: Any) -> str:
                identity = f"{self.name}-data-{label}"
                await self._worker.produce_data(
                    name,
                    identity,
                    label,
                    protocol or "",
                    sctpStreamParameters.model_dump(exclude_none=True, exclude={"label", "protocol"}),
                    appData.get("waveform"),
                )
                return identity

        return transport

    async def consume(self, producer: str) -> Any:
        identity = f"{self.name}<-{producer}"
        result = await self._worker.consume(
            self.recv.id, identity, producer, self.device.rtpCapabilities.model_dump(exclude_none=True)
        )
        consumer = await self.recv.consume(
            id=identity, producerId=producer, kind=result["kind"], rtpParameters=result["rtp_parameters"]
        )
        await self._worker.resume_consumer(identity)
        return consumer

    async def consume_data(self, producer: str) -> Any:
        identity = f"{self.name}<-{producer}"
        result = await self._worker.consume_data(self.recv.id, identity, producer)
        consumer = await self.recv.consumeData(
            id=identity,
            dataProducerId=producer,
            sctpStreamParameters=result["sctp_stream_parameters"],
            label=result["label"],
            protocol=result["protocol"],
        )
        await self._worker.resume_data_consumer(identity)
        return consumer

    async def close(self) -> None:
        for transport in (self.send, self.recv):
            if transport is not None:
                await transport.close()


async def frames(track: Any, count: int, timeout_s: float = 90.0) -> list[Any]:
    """The next decoded frames of a track."""
    async with asyncio.timeout(timeout_s):
        return [await track.recv() for _ in range(count)]
