"""Data channels through a worker process: plain messages, waveforms, and the control channel that repairs them."""

from typing import Any

import msgpack
import numpy as np
import pytest
import pytest_asyncio

from media.core.waveform import FrameWriter, StreamFormat
from tests.integration.media.conftest import RunningWorker
from tests.integration.media.peer import Peer, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def pair(worker: RunningWorker) -> Any:
    """A source with a sending Transport; a viewer with both."""
    await worker.client.open_router("r")
    source = Peer(worker.client, "r", "send", owner="monitor")
    asks, hears = Peer(worker.client, "r", "send", owner="doctor"), Peer(worker.client, "r", "recv", owner="doctor")
    for peer in (source, asks, hears):
        await peer.join()
    yield source, asks, hears
    await worker.client.close_router("r")
    for peer in (source, asks, hears):
        await peer.close()


async def test_plain_messages_are_copied(worker: RunningWorker, pair: tuple[Peer, Peer, Peer]) -> None:
    """Text stays text, bytes stay bytes; nothing comes before the resume (ORTC traps 21, 22)."""
    source, _, hears = pair
    await worker.client.produce_data(source.id, "chat", "chat", "", {"streamId": 3, "ordered": True})
    result = await worker.client.consume_data(hears.id, "heard", "chat")
    assert result == {"sctp_stream_parameters": {"streamId": 0, "ordered": True}, "label": "chat", "protocol": ""}
    up = await source.channel({"streamId": 3, "ordered": True}, "chat")
    down = await hears.channel(result["sctp_stream_parameters"], "chat")
    await until(lambda: up.is_open and down.is_open, "both channels")

    up.send("too early")
    await worker.until_count("data_messages_received", 1)
    await worker.client.resume_data_consumer("heard")
    up.send("text")
    up.send(bytes(50_000))
    await until(lambda: len(hears.got.messages) == 2, "two messages")

    assert hears.got.messages == ["text", bytes(50_000)]


async def test_ping_and_a_waveform_with_its_repair(worker: RunningWorker, pair: tuple[Peer, Peer, Peer]) -> None:
    """ecg frames reach the viewer, a wrong one does not; ctl answers ping, NACK and what is gone."""
    source, asks, hears = pair
    client = worker.client
    unreliable = {"streamId": 0, "ordered": False, "maxRetransmits": 0}
    reliable = {"streamId": 1, "ordered": True}
    await client.produce_data(source.id, "lead", "ecg", "", unreliable, {"stream_id": 7, "simulated": True})
    await client.produce_data(asks.id, "ask", "ctl", "", reliable)
    wave = await client.consume_data(hears.id, "wave", "lead")
    answers = await client.consume_data(hears.id, "answers", "ctl")
    assert wave["sctp_stream_parameters"] == {"streamId": 0, "ordered": False, "maxRetransmits": 0}
    assert answers["label"] == "ctl"
    up = await source.channel(unreliable, "ecg")
    ask = await asks.channel(reliable, "ctl")
    await hears.channel(wave["sctp_stream_parameters"], "ecg")
    await hears.channel(answers["sctp_stream_parameters"], "ctl")
    await client.resume_data_consumer("wave")
    await client.resume_data_consumer("answers")
    await until(lambda: up.is_open and ask.is_open, "channels up")

    messages = frames(stream_id=7, count=5)
    for message in messages:
        up.send(message)
    up.send(b"\0" * 80)
    await worker.until_count("waveform_refused", 1)
    await until(lambda: len(hears.got.messages) == 5, "five frames")
    assert hears.got.messages == messages

    ask.send(msgpack.packb({"t": "ping", "c": 42}))
    ask.send(msgpack.packb({"t": "nack", "stream": 7, "first": 1, "last": 2}))
    await until(lambda: len(hears.got.messages) == 8, "a pong and two frames")
    control = [msgpack.unpackb(m) for m in hears.got.messages[5:] if m[0] == 0x83]
    assert control[0]["t"] == "pong"
    assert control[0]["c"] == 42
    assert await worker.count("waveform_resent") == 2

    await client.close_data_producer("lead")
    stats = await client.stats()
    assert stats["data_consumers_now"] == 1


def frames(stream_id: int, count: int) -> list[bytes]:
    """Wire messages of a simulated source of two leads, 100 ms each."""
    shape = StreamFormat(stream_id=stream_id, leads=2, sample_rate_mhz=250_000, lsb_nv=1000, simulated=True)
    writer = FrameWriter(shape)
    still = np.zeros((2, 25), np.int16)
    return [writer.write(still, t0_us=1_700_000_000_000_000 + 100_000 * n, context_version=1) for n in range(count)]
