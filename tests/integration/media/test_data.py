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
    down = await hears.channel(wave["sctp_stream_parameters"], "ecg")
    told = await hears.channel(answers["sctp_stream_parameters"], "ctl")
    await client.resume_data_consumer("wave")
    await client.resume_data_consumer("answers")
    await until(lambda: all(one.is_open for one in (up, ask, down, told)), "all channels")

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


async def test_a_viewer_that_does_not_answer_loses_live_frames_and_nobody_else_does(
    worker: RunningWorker, pair: tuple[Peer, Peer, Peer]
) -> None:
    """Frames are dropped for it beyond 32 kB; when it answers again it goes on with those of now."""
    source, _, hears = pair
    client = worker.client
    unreliable = {"streamId": 0, "ordered": False, "maxRetransmits": 0}
    silent = Peer(client, "r", "recv", owner="silent")
    await silent.join()
    await client.produce_data(source.id, "lead", "ecg", "", unreliable, {"stream_id": 9, "simulated": True})
    for peer, consumer in ((hears, "wave"), (silent, "silence")):
        wave = await client.consume_data(peer.id, consumer, "lead")
        channel = await peer.channel(wave["sctp_stream_parameters"], "ecg")
        await until(lambda channel=channel: channel.is_open, "the viewer's channel")  # type: ignore[misc]
        await client.resume_data_consumer(consumer)
    up = await source.channel(unreliable, "ecg")
    await until(lambda: up.is_open, "the source's channel")

    hear_again = silent.stop_hearing()
    # So long that 32 kB wait before half a second is over, however slow this machine is.
    writer = FrameWriter(StreamFormat(stream_id=9, leads=12, sample_rate_mhz=500_000, lsb_nv=1000, simulated=True))
    noise = np.random.default_rng(1).integers(-(2**15), 2**15, (12, 300)).astype(np.int16)
    sent: list[bytes] = []

    def send() -> None:
        sent.append(writer.write(noise, t0_us=1_700_000_000_000_000 + 600_000 * len(sent), context_version=1))
        up.send(sent[-1])

    for number in range(40):
        send()
        await until(lambda n=number: len(hears.got.messages) > n, "the frame at the healthy viewer")  # type: ignore[misc]
    assert hears.got.messages == sent
    assert 0 < await worker.count("data_messages_dropped") < 40

    def heard() -> bool:
        send()
        return bool(silent.got.messages)

    hear_again()
    await until(heard, "a frame of now")
    assert set(silent.got.messages) <= set(sent)
    await client.close_data_producer("lead")
    await silent.close()


async def test_a_hostile_association_costs_only_its_own_transport(
    worker: RunningWorker, pair: tuple[Peer, Peer, Peer]
) -> None:
    """A message without end: the sender's Transport is closed, the others' go on."""
    source, asks, hears = pair
    client = worker.client
    await client.produce_data(source.id, "chat", "chat", "", {"streamId": 3, "ordered": True})
    await client.produce_data(asks.id, "bad", "chat", "", {"streamId": 3, "ordered": True})
    result = await client.consume_data(hears.id, "heard", "chat")
    up = await source.channel({"streamId": 3, "ordered": True}, "chat")
    bad = await asks.channel({"streamId": 3, "ordered": True}, "chat")
    down = await hears.channel(result["sctp_stream_parameters"], "chat")
    await client.resume_data_consumer("heard")
    await until(lambda: all(one.is_open for one in (up, bad, down)), "all channels")

    await asks.send_endless_message()
    await worker.until_count("sctp_abuse", 1)
    up.send("still here")
    await until(lambda: "still here" in hears.got.messages, "a message of somebody else")
    assert (await client.stats())["transports_connected_now"] == 2


def frames(stream_id: int, count: int, leads: int = 2, noise: int = 0) -> list[bytes]:
    """Wire messages of a simulated source, 100 ms each, as long as the noise makes them."""
    shape = StreamFormat(stream_id=stream_id, leads=leads, sample_rate_mhz=250_000, lsb_nv=1000, simulated=True)
    writer = FrameWriter(shape)
    still = np.random.default_rng(1).integers(-noise, noise + 1, (leads, 25)).astype(np.int16)
    return [writer.write(still, t0_us=1_700_000_000_000_000 + 100_000 * n, context_version=1) for n in range(count)]
