"""The media plane between signalling and a real worker: nothing is left behind, nothing is handed out twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from media.aio.supervisor import WorkerSettings
from media.core import ortc
from server.media_plane import WorkerMediaPlane
from signaling.core import messages as m
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsultId, DataProducerId, ParticipantId
from signaling.core.model import MediaSource
from tests.integration.media.peer import video_parameters
from tests.signaling_kit import produce_data, waveform

CONSULT, ALICE, BOB = ConsultId("c1"), ParticipantId("alice"), ParticipantId("bob")


@pytest.fixture
async def plane() -> AsyncIterator[WorkerMediaPlane]:
    running = WorkerMediaPlane(WorkerSettings(addresses=("127.0.0.1",), bind="127.0.0.1", port=0))
    await running.start()
    await running.open(CONSULT)
    yield running
    await running.stop()


async def transport(plane: WorkerMediaPlane, who: ParticipantId, direction: str) -> m.TransportOptions:
    made = await plane.call(CONSULT, who, m.CreateTransport.model_validate({"direction": direction}))
    assert isinstance(made, m.TransportOptions)
    return made


async def test_nobody_gets_the_same_picture_twice(plane: WorkerMediaPlane) -> None:
    """A guest who asks again and again would make the hub send as many copies; the newest one counts."""
    sending, receiving = await transport(plane, ALICE, "send"), await transport(plane, BOB, "recv")
    produce = m.Produce(
        transport=sending.id, kind="video", rtp_parameters=video_parameters(), source=MediaSource.CAMERA
    )
    made = await plane.call(CONSULT, ALICE, produce)
    assert isinstance(made, m.Produced)
    consume = m.Consume(transport=receiving.id, producer=made.producer, rtp_capabilities=ortc.router_capabilities())
    answers = [await plane.call(CONSULT, BOB, consume) for _ in range(5)]
    wave = await plane.call(CONSULT, ALICE, produce_data(waveform(), transport=sending.id))
    assert isinstance(wave, m.DataProduced)
    for _ in range(5):
        await plane.call(CONSULT, BOB, m.ConsumeData(transport=receiving.id, data_producer=wave.data_producer))

    stats = await plane.stats()
    assert (stats["consumers_now"], stats["data_consumers_now"]) == (1, 1)
    first, last = answers[0], answers[-1]
    assert isinstance(first, m.Consuming)
    assert isinstance(last, m.Consuming)
    await plane.call(CONSULT, BOB, m.ResumeConsumer(consumer=last.consumer))
    with pytest.raises(Refusal) as refused:
        await plane.call(CONSULT, BOB, m.ResumeConsumer(consumer=first.consumer))
    assert refused.value.code is ErrorCode.NOT_FOUND


async def test_a_transport_made_while_its_participant_is_released_is_closed(plane: WorkerMediaPlane) -> None:
    making = [asyncio.create_task(transport(plane, ALICE, direction)) for direction in ("send", "recv")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # both requests are on their way to the worker
    await plane.release(CONSULT, ALICE)
    outcomes = await asyncio.gather(*making, return_exceptions=True)
    assert [isinstance(outcome, Refusal) for outcome in outcomes] == [True, True]
    assert (await plane.stats())["transports_now"] == 0


async def test_a_transport_that_nobody_waits_for_any_more_is_closed(plane: WorkerMediaPlane) -> None:
    """Whoever asks and hangs up at once, again and again, must not fill the worker."""
    for _ in range(5):
        making = asyncio.create_task(transport(plane, BOB, "recv"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
    assert (await plane.stats())["transports_now"] == 0


async def test_a_new_receiving_transport_starts_empty(plane: WorkerMediaPlane) -> None:
    """[ME1] Ids of the old one's Consumers are gone with it, here as in the worker."""
    receiving = await transport(plane, BOB, "recv")
    consume = m.ConsumeData(transport=receiving.id, data_producer=DataProducerId("ctl"))
    made = await plane.call(CONSULT, BOB, consume)
    assert isinstance(made, m.ConsumingData)
    await transport(plane, BOB, "recv")
    with pytest.raises(Refusal) as refused:
        await plane.call(CONSULT, BOB, m.ResumeDataConsumer(data_consumer=made.data_consumer))
    assert refused.value.code is ErrorCode.NOT_FOUND


async def test_a_view_steers_ones_own_consumer_only(plane: WorkerMediaPlane) -> None:
    """[ME3] [ME12] What somebody else receives is as absent as what nobody does; a screen is sent as a screen."""
    sending, receiving = await transport(plane, ALICE, "send"), await transport(plane, BOB, "recv")
    produce = m.Produce(
        transport=sending.id, kind="video", rtp_parameters=video_parameters(), source=MediaSource.SCREEN
    )
    made = await plane.call(CONSULT, ALICE, produce)
    assert isinstance(made, m.Produced)
    consume = m.Consume(transport=receiving.id, producer=made.producer, rtp_capabilities=ortc.router_capabilities())
    answer = await plane.call(CONSULT, BOB, consume)
    assert isinstance(answer, m.Consuming)

    view = m.ViewConsumer(consumer=answer.consumer, width=1920, height=1080, rank="main")
    assert await plane.call(CONSULT, BOB, view) == m.Done()
    with pytest.raises(Refusal) as refused:
        await plane.call(CONSULT, ALICE, view)
    assert refused.value.code is ErrorCode.NOT_FOUND
    await plane.call(CONSULT, BOB, m.CloseConsumer(consumer=answer.consumer))
    with pytest.raises(Refusal):
        await plane.call(CONSULT, BOB, view)


async def test_a_closed_producer_is_forgotten_by_its_viewers(plane: WorkerMediaPlane) -> None:
    """Also by one who stays while others turn their cameras on and off all day."""
    sending, receiving = await transport(plane, ALICE, "send"), await transport(plane, BOB, "recv")
    for _ in range(3):
        produce = m.Produce(
            transport=sending.id, kind="video", rtp_parameters=video_parameters(), source=MediaSource.CAMERA
        )
        made = await plane.call(CONSULT, ALICE, produce)
        assert isinstance(made, m.Produced)
        consume = m.Consume(transport=receiving.id, producer=made.producer, rtp_capabilities=ortc.router_capabilities())
        await plane.call(CONSULT, BOB, consume)
        await plane.call(CONSULT, ALICE, m.CloseProducer(producer=made.producer))
    assert plane._places.consults[CONSULT].of(BOB).consumers == {}
