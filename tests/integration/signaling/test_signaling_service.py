"""The consult service without sockets: other nodes, a store that fails, and people who all ask at once."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from signaling_elsewhere import Elsewhere, Listener, MakeService, join

from signaling.aio.memory import MemoryStore
from signaling.aio.service import ConsultService
from signaling.core import messages as m
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import TransportId
from signaling.core.model import Connection, Consult, MediaSource, Page, View
from signaling.core.ports import Conflict
from tests.signaling_kit import CONSULT, PATIENTS, MemoryMedia, produce, until


async def ask(service: ConsultService, peer: Listener, rng: random.Random) -> None:
    """Something a doctor does; refusals and a failing disk are part of life."""
    version = peer.present().context_version
    view = View(page=rng.choice(list(Page)), item=str(rng.randrange(9)))
    command = rng.choice(
        [
            m.TakeLead(),
            m.OpenContext(patient=rng.choice(PATIENTS).id),
            m.CloseContext(),
            m.TurnPage(context_version=version, view=view),
            m.ConfirmContext(version=version),
            produce(rng.choice(list(MediaSource))),
            m.CreateTransport(direction="send"),
        ]
    )
    with contextlib.suppress(Refusal, OSError):
        await service.execute(peer, command)
    await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(8))
async def test_everyone_converges_whatever_the_store_does(make_service: MakeService, seed: int) -> None:
    """[CO4] [CO6] Other nodes in between, failing commits, everyone at once: one history, nobody misses any of it."""
    store = Elsewhere(seed)
    store.meddling, store.failures = 0.3, 0.2
    service = await make_service(store)
    people: list[Listener] = []
    while len(people) < 4:
        with contextlib.suppress(OSError, Refusal):
            people.append(await join(service, f"d{len(people)}"))

    async def live(person: Listener) -> None:
        rng = random.Random(f"{seed} {person.admission.participant}")
        for _ in range(25):
            await ask(service, person, rng)

    await asyncio.gather(*map(live, people))
    store.meddling = store.failures = 0.0
    truth = await store.load(CONSULT)
    assert truth is not None
    await until(lambda: all(person.present().revision == truth.revision for person in people))
    for person in people:
        assert person.present() == truth
        assert [e.revision for e in person.events] == sorted({e.revision for e in person.events})
    assert truth.revision > 40


async def test_a_commit_that_always_loses_is_refused(make_service: MakeService) -> None:
    """[CO6] After three tries; the state is as the others made it."""
    store = Elsewhere()
    service = await make_service(store)
    person = await join(service, "d")
    opened: list[Consult | None] = []

    async def commit(*_: object) -> None:
        opened.append(await store.load(CONSULT))
        raise Conflict

    store.commit = commit  # type: ignore[method-assign] # always too late
    with pytest.raises(Refusal) as refused:
        await service.execute(person, m.TakeLead())
    assert refused.value.code is ErrorCode.CONFLICT
    assert len(opened) == 3


async def test_no_beat_while_the_store_cannot_be_asked(make_service: MakeService) -> None:
    """[SE10] (W19) What may be old is not vouched for; when the store is back, the beats are."""
    store = Elsewhere()
    service = await make_service(store)
    person = await join(service, "d")
    await until(lambda: person.signals)
    store.failing = True
    await until(lambda: store.failed >= 1)
    person.signals.clear()
    await until(lambda: store.failed >= 4)
    assert person.signals == []
    store.failing = False
    await until(lambda: person.signals)


async def test_a_beat_only_follows_what_it_vouches_for(make_service: MakeService) -> None:
    """[SE10] Another node opens a patient and its hint is lost: the event comes before the beat that names it."""
    store = Elsewhere()
    service = await make_service(store)
    person = await join(service, "d")
    await store.meddle()
    await store.meddle()
    truth = await store.load(CONSULT)
    assert truth is not None
    assert truth.context is not None
    await until(lambda: any(beat["revision"] == truth.revision for beat in person.signals))
    assert person.present() == truth


async def test_too_much_missed_makes_clients_sync(make_service: MakeService) -> None:
    """[CO4] The node jumps; its beat names the revision that the client lacks."""
    store = Elsewhere()
    service = await make_service(store, catch_up_events=2)
    person = await join(service, "d")
    for _ in range(6):
        await store.meddle()
    await until(lambda: any(beat["revision"] > person.present().revision for beat in person.signals))
    result = await service.execute(person, m.Sync(since=person.present().revision))
    assert isinstance(result, m.SyncResult)
    assert result.snapshot == await store.load(CONSULT)


async def test_what_happened_is_stored_in_the_end(make_service: MakeService) -> None:
    """[SE3] The store fails just when a socket is lost: the others learn it all the same."""
    store = Elsewhere()
    service = await make_service(store)
    here, gone = await join(service, "d"), await join(service, "e")
    store.failing = True
    detaching = asyncio.create_task(service.detach(gone))
    await until(lambda: store.failed >= 1)
    assert here.present().participants[gone.admission.participant].connection is Connection.CONNECTED
    store.failing = False
    await detaching
    assert here.present().participants[gone.admission.participant].connection is Connection.RECONNECTING


async def test_a_path_that_fell_silent_while_the_store_failed_is_told_in_the_end(make_service: MakeService) -> None:
    """[ME8] The last word on it counts, however often the store had no time for the ones before."""
    store = Elsewhere()
    service = await make_service(store)
    who = (await join(service, "d")).admission.participant

    async def connection() -> Connection:
        state = await store.load(CONSULT)
        assert state is not None
        return state.participants[who].connection

    store.failing = True
    telling = asyncio.create_task(service.news.transport_changed(CONSULT, who, TransportId("t"), Connection.UNSTABLE))
    await until(lambda: store.failed > 2)
    store.failing = False
    await telling
    assert await connection() is Connection.UNSTABLE
    await service.news.transport_changed(CONSULT, who, TransportId("t"), Connection.CONNECTED)
    assert await connection() is Connection.CONNECTED


async def test_nothing_is_insisted_on_for_a_consult_that_nobody_has_open(make_service: MakeService) -> None:
    """A store that stays away must not keep a task for each consult that was open when it went."""
    store = Elsewhere()
    service = await make_service(store)
    await join(service, "d")
    store.failing = True
    telling = asyncio.create_task(service.news.media_reset(CONSULT))
    await until(lambda: store.failed > 2)
    assert not telling.done()
    service._here.audiences.clear()  # as deserting does
    async with asyncio.timeout(60):
        await telling


async def test_coming_back_before_the_loss_was_stored_wins(make_service: MakeService) -> None:
    """[SE5] A late "reconnecting" must not mark someone who is there."""
    store = Elsewhere()
    service = await make_service(store)
    here, old = await join(service, "d"), await join(service, "e")
    store.failing = True
    detaching = asyncio.create_task(service.detach(old))
    await until(lambda: store.failed >= 1)
    store.failing = False
    await join(service, "e")
    await detaching
    assert here.present().participants[old.admission.participant].connection is Connection.CONNECTED


async def test_a_failed_commit_takes_the_producer_back(make_service: MakeService) -> None:
    """[ME9]"""
    store, media = Elsewhere(), MemoryMedia()
    service = await make_service(store, media)
    person = await join(service, "d")
    store.failing = True
    with pytest.raises(OSError, match="fire"):
        await service.execute(person, produce())
    assert media.owned == {}


async def test_a_removed_participant_is_told_on_every_node(make_service: MakeService) -> None:
    """[CO7] Another node decided that this one is gone."""
    store = Elsewhere()
    service = await make_service(store)
    person = await join(service, "d")
    await store.meddle(m.Leave(), by=person.admission)
    await until(lambda: person.reasons == ["removed"])
    with pytest.raises(Refusal) as refused:
        await service.execute(person, m.TakeLead())
    assert refused.value.code is ErrorCode.NOT_JOINED


async def test_an_empty_consult_costs_nothing_and_can_be_entered_again(make_service: MakeService) -> None:
    """Media is closed when the last one leaves, and opened when someone comes at that very moment."""
    media = MemoryMedia()
    service = await make_service(MemoryStore(), media, sole_node=True)
    for _ in range(20):
        first = await join(service, "d")
        _, second = await asyncio.gather(service.execute(first, m.Leave()), join(service, "e"))
        await service.execute(second, m.TakeLead())
        assert media.consults == {CONSULT}
        await service.execute(second, m.Leave())
        await until(lambda: media.consults == set())
    assert service._here.audiences == {}


async def test_a_restarting_worker_keeps_nobody_out_of_the_record(make_service: MakeService) -> None:
    """[ME10] Only before any worker has answered there is nothing to give."""
    media = MemoryMedia(failing=Refusal(ErrorCode.MEDIA_UNAVAILABLE))
    service = await make_service(MemoryStore(), media)
    with pytest.raises(Refusal) as refused:
        await join(service, "d")
    assert refused.value.code is ErrorCode.MEDIA_UNAVAILABLE
    media.failing = None
    await join(service, "d")
    media.failing = Refusal(ErrorCode.MEDIA_UNAVAILABLE)
    assert (await join(service, "e")).present().participants.keys() == {"d", "e"}


async def test_a_dead_sending_transport_takes_its_sources_along(make_service: MakeService) -> None:
    """[ME1]"""
    store = Elsewhere()
    service = await make_service(store)
    one, two = await join(service, "d"), await join(service, "e")
    await service.execute(one, produce())
    await service.execute(two, produce())
    await service.news.producers_closed(CONSULT, one.admission.participant)
    assert {p.participant for p in two.present().producers.values()} == {"e"}
