"""What workers say unasked on its way to signalling: order, trouble of one consult, overflow. No worker runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from media.aio.spare import WorkerSettings
from media.core import control
from server import media_plane
from server.media_places import Placement
from server.media_plane import WorkerMediaPlane
from signaling.core import messages as m
from signaling.core.ids import (
    ConsultId,
    ConsumerId,
    DataConsumerId,
    DataProducerId,
    ParticipantId,
    ProducerId,
    TransportId,
)
from signaling.core.model import Connection
from tests.signaling_kit import until

ONE, OTHER = ConsultId("one"), ConsultId("other")
ALICE, BOB = ParticipantId("alice"), ParticipantId("bob")
PICTURE, SEEN = ProducerId("picture"), ConsumerId("seen")


class Listener:
    """Signalling whose store does not answer for one consult."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.store = asyncio.Event()

    async def producers_closed(self, consult: ConsultId, participant: ParticipantId) -> None:
        if consult == ONE:
            await self.store.wait()
        self.heard.append((consult, "silenced"))

    async def transport_changed(
        self, consult: ConsultId, _who: ParticipantId, _transport: TransportId, connection: Connection
    ) -> None:
        self.heard.append((consult, connection))

    async def line_news(self, consult: ConsultId, _who: ParticipantId, news: Any) -> None:
        self.heard.append((consult, news))


@pytest.fixture
async def plane() -> AsyncIterator[WorkerMediaPlane]:
    plane = WorkerMediaPlane(WorkerSettings())
    plane.listen(listener := Listener())  # type: ignore[arg-type]
    plane.heard = listener  # type: ignore[attr-defined]
    for consult in (ONE, OTHER):
        placement = plane._places.consults[consult] = Placement(0, {})
        alice, bob = placement.of(ALICE), placement.of(BOB)
        alice.worker = bob.worker = 0
        alice.transports = {"send": TransportId(f"{consult}-send"), "recv": TransportId(f"{consult}-recv")}
        alice.producers = {PICTURE}
        alice.data_producers = {DataProducerId("chat")}
        bob.consumers = {SEEN: PICTURE, ConsumerId("own"): ProducerId("another")}
        bob.data_consumers = {DataConsumerId("heard"): DataProducerId("chat")}
    yield plane
    await plane.stop()


def start_pump(plane: WorkerMediaPlane) -> Listener:
    plane._pump = asyncio.create_task(plane._pass_on())
    listener: Listener = plane.heard  # type: ignore[attr-defined]
    return listener


def state(consult: ConsultId, direction: str, said: str) -> control.TransportState:
    note = {"router": consult, "transport": f"{consult}-{direction}", "owner": ALICE, "state": said}
    return control.TransportState.model_validate(note)


def word(spatial: int) -> control.ConsumerLayers:
    told = {"router": ONE, "owner": BOB, "consumer": SEEN, "spatial": spatial, "temporal": 0, "spatial_layers": 2}
    return control.ConsumerLayers.model_validate(told | {"limited_by": "view"})


async def test_a_consult_whose_store_fails_holds_up_no_other_and_hears_all_in_order(plane: WorkerMediaPlane) -> None:
    listener = start_pump(plane)
    plane._notified(0, state(ONE, "send", "closed"))
    plane._notified(0, state(ONE, "recv", "unstable"))
    plane._notified(0, state(OTHER, "send", "closed"))
    await until(lambda: listener.heard == [(OTHER, "silenced"), (OTHER, Connection.RECONNECTING)])
    plane._notified(0, state(ONE, "recv", "connected"))
    await until(lambda: plane._notes.empty())
    listener.store.set()
    await until(lambda: not plane._states)
    assert [said for consult, said in listener.heard if consult == ONE] == [
        "silenced",
        Connection.RECONNECTING,
        Connection.CONNECTED,
    ]


async def test_states_of_a_consult_that_wait_are_bounded(
    plane: WorkerMediaPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_plane, "STATES_LIMIT", 2)
    listener = start_pump(plane)
    told: list[int] = []
    plane._notified(0, state(ONE, "send", "closed"))
    await until(lambda: ONE in plane._states and ("producers", ALICE) not in plane._states[ONE])

    async def tell(number: int) -> None:
        told.append(number)

    for number in range(5):
        plane._tell_in_order(ONE, ("transport", str(number)), lambda number=number: tell(number))  # type: ignore[misc]
    listener.store.set()
    await until(lambda: not plane._states)
    assert told == [3, 4]


async def test_when_half_full_only_what_is_said_again_soon_is_dropped(
    plane: WorkerMediaPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_plane, "NOTIFICATION_LIMIT", 8)
    speaker = control.ActiveSpeaker(router=ONE, producer=None)
    for _ in range(6):
        plane._notified(0, speaker)
    assert plane._notes.qsize() == 4
    for _ in range(6):
        plane._notified(0, state(ONE, "recv", "unstable"))
    assert plane._notes.qsize() == 8


async def test_a_view_repeats_the_word_that_is_the_last_when_it_is_told(
    plane: WorkerMediaPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[ME13] Never an older one after a newer one that was on its way."""

    class Worker:
        async def view_consumer(self, *_view: Any) -> None: ...

    monkeypatch.setattr(plane._pool, "client", lambda _index: Worker())
    old, new = word(spatial=0), word(spatial=1)
    plane._places.consults[ONE].of(BOB).layers[SEEN] = old
    plane._notified(0, new)
    await plane.call(ONE, BOB, m.ViewConsumer(consumer=SEEN, width=640, height=360, rank="tile"))
    listener = start_pump(plane)
    await until(lambda: len(listener.heard) == 2)
    told = m.ConsumerLayers(**new.model_dump(exclude={"event", "router", "owner"}))
    assert [news for _, news in listener.heard] == [told, told]


async def test_a_sending_transport_that_goes_is_forgotten_by_its_viewers(plane: WorkerMediaPlane) -> None:
    """Whoever stays for a day while others come and go keeps what he views now, no more."""
    start_pump(plane)
    bob = plane._places.consults[OTHER].of(BOB)
    bob.layers[SEEN] = word(spatial=0)
    plane._notified(0, state(OTHER, "send", "closed"))
    await until(lambda: not plane._places.consults[OTHER].of(ALICE).producers)
    assert (bob.consumers, bob.layers, bob.data_consumers) == ({ConsumerId("own"): "another"}, {}, {})
    await plane.release(ONE, BOB)
    assert plane._places.consults[ONE].of(ALICE).producers == {PICTURE}


async def test_a_participant_who_leaves_is_forgotten_by_his_viewers(plane: WorkerMediaPlane) -> None:
    bob = plane._places.consults[ONE].of(BOB)
    await plane.release(ONE, ALICE)
    assert (bob.consumers, bob.data_consumers) == ({ConsumerId("own"): "another"}, {})
