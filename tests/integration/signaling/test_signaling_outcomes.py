"""What is stored and not answered, asked by somebody who has gone, or missed altogether: all of it gets to its end."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from signaling_elsewhere import ELSEWHERE, Elsewhere, Listener, MakeService, join

from signaling.aio.memory import MemoryBus, MemoryStore
from signaling.aio.service import ConsultService, ServiceSettings
from signaling.core import messages as m
from signaling.core.errors import Refusal
from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.model import Connection, Consult, Page, Role, View
from signaling.core.ports import ViewShown
from tests.signaling_kit import (
    CONSULT,
    PATIENTS,
    MemoryMedia,
    admission,
    bind_device,
    consult,
    produce,
    produce_data,
    until,
    waveform,
)

MONITOR = ParticipantId("monitor")


def now(store: MemoryStore) -> Consult:
    return store._consults[CONSULT]


@pytest.mark.parametrize("sole_node", [True, False])
async def test_a_store_away_for_longer_than_the_grace_time(make_service: MakeService, sole_node: bool) -> None:
    """[SE4] Who was lost meanwhile is removed when it is back, and not shown as reconnecting for ever."""
    store = Elsewhere()
    service = await make_service(store, sole_node=sole_node, grace_s=0.02)
    await join(service, "d")
    gone = await join(service, "e")
    store.failing = True
    detaching = asyncio.create_task(service.detach(gone))
    await until(lambda: store.failed > 20)  # a hundredth of a second each: the grace time is over
    store.failing = False
    await detaching
    await until(lambda: now(store).participants.keys() == {"d"}, 60)
    await until(lambda: not service._here.audiences[CONSULT].graces, 60)


@pytest.mark.parametrize("sole_node", [True, False])
async def test_a_join_that_was_stored_and_not_answered(make_service: MakeService, sole_node: bool) -> None:
    """[SE4] Whoever gives up after it is not there for ever; whoever tries again is there."""
    store = Elsewhere()
    service = await make_service(store, sole_node=sole_node, grace_s=0.02)
    await join(service, "d")
    store.deaf = True
    for name in ("gone", "back"):
        with pytest.raises(OSError, match="lost"):
            await join(service, name)
    assert now(store).participants.keys() == {"d", "gone", "back"}
    store.deaf = False
    back = await join(service, "back")
    await until(lambda: now(store).participants.keys() == {"d", "back"}, 60)
    assert (back.reasons, back.present().participants["back"].connection) == ([], Connection.CONNECTED)


async def test_who_goes_while_the_relay_answers_leaves_nothing_there(make_service: MakeService) -> None:
    """[ME9] A Producer that its maker never heard of could not even be closed."""
    store, media = Elsewhere(), MemoryMedia()
    service = await make_service(store, media)
    here, maker = await join(service, "d"), await join(service, "e")
    media.gate = asyncio.Event()
    asking = asyncio.create_task(service.execute(maker, produce()))
    await until(lambda: media.calls)
    asking.cancel()  # as the end of its session does
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    media.gate.set()
    await until(lambda: any(isinstance(event, m.ProducerClosed) for event in here.events))
    await until(lambda: not media.owned)
    assert here.present().producers == {}


async def test_who_goes_while_the_relay_closes_has_closed(make_service: MakeService) -> None:
    """[ME9] What the relay does not have any more the state does not have either."""
    store, media = Elsewhere(), MemoryMedia()
    service = await make_service(store, media)
    here, maker = await join(service, "d"), await join(service, "e")
    made = await service.execute(maker, produce())
    assert isinstance(made, m.Produced)
    media.gate = asyncio.Event()
    media.calls.clear()
    asking = asyncio.create_task(service.execute(maker, m.CloseProducer(producer=made.producer)))
    await until(lambda: media.calls)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    media.gate.set()
    await until(lambda: not here.present().producers)
    assert media.owned == {}


async def test_a_source_that_was_stored_and_not_answered(make_service: MakeService) -> None:
    """[ME9] The relay has taken it back, so the state does as soon as it learns of it."""
    store, media = Elsewhere(), MemoryMedia()
    service = await make_service(store, media)
    here, maker = await join(service, "d"), await join(service, "e")
    store.deaf = True
    with pytest.raises(OSError, match="lost"):
        await service.execute(maker, produce())
    assert len(now(store).producers) == 1
    store.deaf = False
    await until(lambda: any(isinstance(event, m.ProducerClosed) for event in here.events))
    assert (here.present().producers, now(store).producers, media.owned) == ({}, {}, {})


class Views:
    """`signaling.core.ports.ViewLog`."""

    def __init__(self) -> None:
        self.rows: list[ViewShown] = []

    async def views_shown(self, views: list[ViewShown]) -> None:
        self.rows += views


async def test_what_is_missed_by_the_hundred_has_its_consequences(make_service: MakeService) -> None:
    """[BI3] [CO7] [VW1] The node jumps to a state in which a device is unbound, somebody removed, no page open."""
    store, media, views = Elsewhere(), MemoryMedia(), Views()
    store.add(consult(), PATIENTS)
    service = ConsultService(
        store, MemoryBus(), media, lambda: 1_000,
        ServiceSettings(beat_s=600.0, retry_s=0.01, sole_node=False, catch_up_events=2),
    )  # fmt: skip
    service.use_view_log(views)  # type: ignore[arg-type] # a list is a sequence
    await service.start()
    try:
        nurse, monitor = await join(service, "nurse", Role.NURSE), await join(service, "monitor", Role.DEVICE)
        doctor, silent = await join(service, "d"), await join(service, "silent")
        await service.execute(nurse, m.OpenContext(patient=PATIENTS[0].id))
        await service.execute(nurse, bind_device())
        await service.execute(monitor, produce_data(waveform()))
        await service.execute(silent, produce())
        view = View(page=Page.LABS)
        await service.execute(doctor, m.ShowView(context_version=1, view=view))
        await service.detach(silent)
        await store.meddle(m.Join())
        await store.meddle(m.UnbindDevice(device=MONITOR), by=nurse.admission)
        for who in (doctor, silent):
            await store.meddle(m.Leave(), by=who.admission)
        await store.meddle(m.CloseContext())
        await service.execute(nurse, m.Sync(since=0))
        await service._here.bus.publish(CONSULT, now(store).revision)
        await until(lambda: service._here.audiences[CONSULT].state == now(store))
        await until(lambda: not media.owned)
        assert (doctor.reasons, monitor.reasons, nurse.reasons) == (["removed"], [], [])
        assert set(media.released) == {"d", "silent"}
        assert service._here.audiences[CONSULT].admitted.keys() == {"nurse", "monitor"}
    finally:
        await service.stop()
    assert [(row.view, row.to_ms) for row in views.rows] == [(view, 1_000)]


async def test_many_consults_leave_nothing_behind(make_service: MakeService) -> None:
    """What orders opening and closing of a consult goes with it."""
    store = MemoryStore()
    service = await make_service(store, sole_node=True)
    for number in range(5):
        store.add(consult().model_copy(update={"id": ConsultId(f"other{number}")}), PATIENTS)
        person = Listener(admission("d", consult=f"other{number}"))
        await service.execute(person, m.Join())
        await service.execute(person, m.Leave())
        with pytest.raises(Refusal):
            await service.execute(Listener(admission("d", consult=f"none{number}")), m.Join())
    await until(lambda: not service._here._opening)


class StuckBus(MemoryBus):
    """The way to the other nodes takes whatever is put there, and gives nothing back."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def publish(self, consult: ConsultId, revision: int) -> None:
        self.asked += 1
        await asyncio.Event().wait()


async def test_an_answer_does_not_wait_for_the_other_nodes() -> None:
    """A hint is a hint: what is committed and told here is answered, whatever the bus does."""
    store, bus = MemoryStore(), StuckBus()
    store.add(consult(), PATIENTS)
    service = ConsultService(store, bus, MemoryMedia(), lambda: 1_000, ServiceSettings(sole_node=False))
    await service.start()
    try:
        async with asyncio.timeout(60):
            person = await join(service, "d")
            await service.execute(person, m.TakeLead())
        await until(lambda: bus.asked)
        assert bus.asked == 1, "what waits for the bus is one question, whatever happens meanwhile"
    finally:
        await service.stop()


async def test_one_consult_that_cannot_be_read_holds_up_no_other_hint(make_service: MakeService) -> None:
    """[CO4] Its own store question takes as long as it takes."""
    stuck = ConsultId("stuck")

    class OneStuck(Elsewhere):
        async def events_since(self, consult: ConsultId, revision: int, limit: int) -> object:
            if consult == stuck:
                await asyncio.Event().wait()
            return await super().events_since(consult, revision, limit)

    store = OneStuck()
    service = await make_service(store, beat_s=600.0, store_timeout_s=600.0)
    store.add(consult().model_copy(update={"id": stuck}), PATIENTS)
    await service.execute(Listener(admission("s", consult=stuck)), m.Join())
    person = await join(service, "d")
    await service._here.bus.publish(stuck, 99)
    await store.meddle(by=ELSEWHERE)
    await service._here.bus.publish(CONSULT, now(store).revision)
    await until(lambda: person.present() == now(store), 60)
