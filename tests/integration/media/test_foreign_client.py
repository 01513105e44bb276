"""An unmodified pymediasoup publishes and receives through a worker process, and what arrives decodes."""

import asyncio
import itertools

import numpy as np
import pytest

from tests.integration.media.conftest import RunningWorker
from tests.integration.media.foreign import TONE_HZ, ForeignClient, MovingPicture, Tone, frames

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_picture_and_sound_arrive_and_decode(worker: RunningWorker) -> None:
    """ORTC traps 1, 11-14, 16, 17, 24, 25 as one journey: publish, consume, resume, decode."""
    capabilities = await worker.client.open_router("consult")
    publisher = ForeignClient(worker.client, "consult", capabilities)
    viewer = ForeignClient(worker.client, "consult", capabilities)
    picture, tone = MovingPicture(), Tone()
    await publisher.join([picture, tone])
    await viewer.join([])
    await publisher.send.produce(track=picture)
    await publisher.send.produce(track=tone)

    video = await viewer.consume(publisher.produced[0])
    audio = await viewer.consume(publisher.produced[1])
    pictures, sounds = await asyncio.gather(frames(video.track, 20), frames(audio.track, 60))

    shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in pictures]
    assert shown[0].shape == (240, 320, 3)
    assert all(np.abs(a - b).max() > 50 for a, b in itertools.pairwise(shown))
    heard = np.concatenate([frame.to_ndarray().reshape(-1, 2)[:, 0] for frame in sounds[20:]]).astype(float)
    spectrum = np.abs(np.fft.rfft(heard))
    assert abs(np.argmax(spectrum) * sounds[0].sample_rate / len(heard) - TONE_HZ) < 10
    async with asyncio.timeout(60):  # reports have a rhythm of their own
        while not (stats := await worker.client.stats()).get("remb_sent"):
            await asyncio.sleep(0.1)
    assert stats["keyframes_received"] >= 1
    await publisher.close()
    await viewer.close()


async def test_h264_arrives_and_decodes(worker: RunningWorker) -> None:
    """The other video codec of the router, through the same path: its key frames open the viewer's gate too."""
    capabilities = await worker.client.open_router("h264")
    publisher = ForeignClient(worker.client, "h264", capabilities)
    viewer = ForeignClient(worker.client, "h264", capabilities)
    picture = MovingPicture()
    await publisher.join([picture])
    await viewer.join([])
    h264 = next(c for c in publisher.device.rtpCapabilities.codecs if c.mimeType.lower() == "video/h264")
    await publisher.send.produce(track=picture, codec=h264)

    video = await viewer.consume(publisher.produced[0])
    assert video.rtpParameters.codecs[0].mimeType.lower() == "video/h264"
    shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in await frames(video.track, 20)]
    assert shown[0].shape == (240, 320, 3)
    assert all(np.abs(a - b).max() > 50 for a, b in itertools.pairwise(shown))
    await publisher.close()
    await viewer.close()
