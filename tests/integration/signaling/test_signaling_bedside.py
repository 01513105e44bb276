"""The consult service at the bedside: what ends at the relay, time that runs out, strips that arrive later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import reduce
from typing import Any

import msgpack
import pytest

from signaling.aio.memory import MemoryBus, MemoryStore
from signaling.aio.service import ConsultService, ServiceSettings
from signaling.core import messages as m
from signaling.core.admission import Admission
from signaling.core.consult import apply
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ParticipantId
from signaling.core.messages import EVENTS, AnyEvent
from signaling.core.model import Consult, EcgSettings, EcgSnapshot, EcgState, Role, UnboundReason
from signaling.core.ports import SnapshotOrder
from tests.signaling_kit import (
    CONSULT,
    PATIENTS,
    MemoryMedia,
    admission,
    bind_device,
    consult,
    produce_data,
    produce_vitals,
    until,
    waveform,
)
from tests.signaling_world import strip

P1 = PATIENTS[0]
MONITOR = ParticipantId("monitor")


class Clock:
    """Wall clock of the service."""

    ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


class Archive:
    """`signaling.core.ports.WaveformArchive` that stores when it is told to."""

    def __init__(self) -> None:
        self.orders: list[SnapshotOrder] = []
        self.stored: asyncio.Future[EcgSnapshot] = asyncio.get_running_loop().create_future()
        self.left: list[SnapshotOrder] = []
        """Of an earlier process."""
        self.given_up: list[tuple[str, str]] = []

    async def unfinished(self) -> list[SnapshotOrder]:
        return self.left

    async def snapshot_failed(self, snapshot: str, code: str) -> None:
        self.given_up.append((snapshot, code))

    async def order_snapshot(self, order: SnapshotOrder) -> None:
        if order.stream_id == 404:
            raise Refusal(ErrorCode.NOT_FOUND)
        self.orders.append(order)

    async def snapshot_stored(self, snapshot: str) -> EcgSnapshot:
        return (await asyncio.shield(self.stored)).model_copy(update={"id": snapshot})


class Listener:
    """A peer that keeps what it was told."""

    def __init__(self, admitted: Admission) -> None:
        self.admission = admitted
        self.goodbye_reason: str | None = None
        self.hears = True
        self.state: Consult | None = None
        self.events: list[AnyEvent] = []
        self.signals: list[dict[str, Any]] = []

    def deliver(self, frame: bytes, key: str | None = None) -> None:
        name, payload = msgpack.unpackb(frame)["data"]
        if name == "event":
            self.events.append(EVENTS.validate_python(payload))
        elif payload["type"] != "beat":
            self.signals.append(payload)

    def hold_events(self) -> None:
        """`test_signaling_consult` checks the order on the wire."""

    def goodbye(self, reason: str) -> None:
        self.goodbye_reason = reason

    @property
    def present(self) -> Consult:
        assert self.state is not None
        return reduce(apply, self.events, self.state)

    def said(self, kind: str) -> list[AnyEvent]:
        return [event for event in self.events if event.type == kind]


class Bedside:
    """A service, its clock, store and media plane, with a nurse and a monitor who sends of p1."""

    def __init__(self) -> None:
        self.clock, self.store, self.media = Clock(), MemoryStore(), MemoryMedia()
        self.store.add(consult(), PATIENTS)
        self.services: list[ConsultService] = []

    async def serve(self, archive: Archive | None = None, **settings: Any) -> ConsultService:
        quick = {"beat_s": 0.02, "retry_s": 0.01, "grace_s": 30.0, **settings}
        service = ConsultService(self.store, MemoryBus(), self.media, self.clock, ServiceSettings(**quick))
        if archive is not None:
            service.use_archive(archive)
        await service.start()
        self.services.append(service)
        return service

    async def join(self, service: ConsultService, name: str, role: Role = Role.NURSE) -> Listener:
        listener = Listener(admission(name, role))
        joined = await service.execute(listener, m.Join())
        assert isinstance(joined, m.Joined)
        listener.state = joined.snapshot
        return listener

    async def stored(self) -> Consult:
        state = await self.store.load(CONSULT)
        assert state is not None
        return state


Start = Callable[[], Awaitable[tuple[ConsultService, Listener, Listener]]]


@pytest.fixture
async def bedside() -> AsyncIterator[Bedside]:
    made = Bedside()
    yield made
    for service in made.services:
        await service.stop()


@pytest.fixture
def start(bedside: Bedside) -> Start:
    async def begin() -> tuple[ConsultService, Listener, Listener]:
        service = await bedside.serve()
        nurse = await bedside.join(service, "nurse")
        monitor = await bedside.join(service, "monitor", Role.DEVICE)
        await service.execute(nurse, m.OpenContext(patient=P1.id))
        await service.execute(nurse, bind_device(minutes=10))
        await service.execute(monitor, produce_data(waveform()))
        await service.execute(monitor, produce_vitals())
        return service, nurse, monitor

    return begin


def feeds(bedside: Bedside) -> list[str]:
    """What the relay has of the monitor."""
    return [identity for identity, owner in bedside.media.owned.items() if owner == MONITOR]


async def test_unbinding_closes_the_feed_at_the_relay(bedside: Bedside, start: Start) -> None:
    """[BI3] Both channels, at once, and everyone is told why in the same breath."""
    service, nurse, monitor = await start()
    sent = feeds(bedside)
    assert len(sent) == 2
    await service.execute(nurse, m.UnbindDevice(device=MONITOR))
    (unbound,) = monitor.said("device_unbound")
    assert isinstance(unbound, m.DeviceUnbound)
    assert set(unbound.closed) == set(sent)
    assert monitor.present.data_producers == {}
    await until(lambda: not feeds(bedside))


async def test_a_relay_that_does_not_answer_is_asked_again(bedside: Bedside, start: Start) -> None:
    """[BI3] A feed must not go on because one message was lost."""
    service, nurse, _ = await start()
    bedside.media.failing = Refusal(ErrorCode.MEDIA_UNAVAILABLE)
    await service.execute(nurse, m.UnbindDevice(device=MONITOR))
    await until(lambda: isinstance(bedside.media.calls[-1], m.CloseDataProducer))
    bedside.media.failing = None
    await until(lambda: not feeds(bedside))


async def test_a_mismatch_stops_the_wave_for_everyone(bedside: Bedside, start: Start) -> None:
    """[BI6] (W22)"""
    service, nurse, monitor = await start()
    await service.execute(monitor, m.ReportPatient(reported="MRN-9"))
    assert nurse.present.mismatches[MONITOR].reported == "MRN-9"
    await until(lambda: not feeds(bedside))
    late = await bedside.join(service, "late", Role.GUEST)
    assert late.present.mismatches == nurse.present.mismatches
    with pytest.raises(Refusal) as refused:
        await service.execute(monitor, produce_data(waveform()))
    assert refused.value.code is ErrorCode.DEVICE_NOT_BOUND


async def test_time_ends_a_binding_by_itself(bedside: Bedside, start: Start) -> None:
    """[BI3] (W20) The service's beat is the timer."""
    _, nurse, _ = await start()
    bedside.clock.ms += 10 * 60_000
    await until(lambda: nurse.said("device_unbound"))
    assert [e.reason for e in nurse.said("device_unbound") if isinstance(e, m.DeviceUnbound)] == [UnboundReason.EXPIRED]
    await until(lambda: not feeds(bedside))


async def test_time_runs_out_while_no_server_runs(bedside: Bedside, start: Start) -> None:
    """[BI3] [SE8] A binding survives a restart; one whose time has passed does not."""
    service, _, _ = await start()
    await service.stop()
    bedside.clock.ms += 10 * 60_000 - 1
    second = await bedside.serve(beat_s=60.0)
    nurse = await bedside.join(second, "nurse")
    assert list(nurse.present.bindings) == [MONITOR]
    await second.stop()
    bedside.clock.ms += 1
    third = await bedside.serve(beat_s=60.0)
    assert (await bedside.join(third, "nurse")).present.bindings == {}


async def test_no_beat_vouches_for_a_binding_that_cannot_be_ended(bedside: Bedside, start: Start) -> None:
    """[BI3] [SE10] The store is full: clinical views blank rather than show a wave beyond its time."""
    service, _, _ = await start()
    beats: list[bytes] = []
    wall = Listener(admission("wall", Role.SCREEN))
    await service.execute(wall, m.Join())

    tries: list[int] = []

    async def fail(*_: Any) -> None:
        tries.append(len(beats))
        raise OSError("disk full")

    bedside.store.commit = fail  # type: ignore[method-assign] # the disk of this test
    bedside.clock.ms += 10 * 60_000
    wall.deliver = lambda frame, key=None: beats.append(frame)  # type: ignore[method-assign,assignment]
    await until(lambda: len(tries) >= 4)
    assert set(tries) == {tries[0]}, "the first try ends the beats"


async def test_identifiers_cannot_be_tried_out(bedside: Bedside, start: Start) -> None:
    """[BI8] By nobody, from however many sessions; right ones are not charged."""
    service, nurse, monitor = await start()
    for _ in range(20):
        await service.execute(nurse, bind_device())
    wrong = bind_device().model_copy(update={"confirmed": ("p1", "guess")})
    codes = []
    for attempt in range(8):
        with pytest.raises(Refusal) as refused:
            await service.execute((nurse, monitor)[attempt % 2], wrong)
        codes.append(refused.value.code)
    assert codes == [ErrorCode.IDENTIFIERS_WRONG] * 5 + [ErrorCode.TOO_BUSY] * 3
    with pytest.raises(Refusal) as refused:
        await service.execute(nurse, bind_device())
    assert refused.value.code is ErrorCode.TOO_BUSY
    assert list(nurse.present.bindings) == [MONITOR], "the binding of before stands"


async def test_a_discharge_ends_the_binding_where_people_are(bedside: Bedside, start: Start) -> None:
    """[BI7] (W21)"""
    service, nurse, _ = await start()
    assert await service.end_bindings(PATIENTS[1].id, UnboundReason.DISCHARGED) == 0
    assert await service.end_bindings(P1.id, UnboundReason.DISCHARGED) == 1
    assert [e.reason for e in nurse.said("device_unbound") if isinstance(e, m.DeviceUnbound)] == [
        UnboundReason.DISCHARGED
    ]
    await until(lambda: not feeds(bedside))
    assert await service.end_bindings(P1.id, UnboundReason.DISCHARGED) == 0


async def test_a_transfer_ends_the_binding_where_nobody_is(bedside: Bedside, start: Start) -> None:
    """[BI7] (W21) And does not make the consult cost anything."""
    service, _, _ = await start()
    await service.stop()
    bedside.media.consults.clear()
    second = await bedside.serve()
    assert await second.end_bindings(P1.id, UnboundReason.TRANSFERRED) == 1
    assert (await bedside.stored()).bindings == {}
    assert bedside.media.consults == set()


SETTINGS = EcgSettings(speed=25, gain=10, layout="auto", order="standard", filter="off", calibration="", software="x")


def order(stream: int = 7) -> m.TakeEcgSnapshot:
    return m.TakeEcgSnapshot(
        stream_id=stream, context_version=1, at_us=999_000_000, settings=SETTINGS, age_ms=90, state=EcgState.LIVE
    )


async def test_without_an_archive_a_strip_is_refused(start: Start) -> None:
    """[EC5] Never promised and never kept."""
    service, nurse, _ = await start()
    with pytest.raises(Refusal) as refused:
        await service.execute(nurse, order())
    assert refused.value.code is ErrorCode.ARCHIVE_UNAVAILABLE


async def test_a_strip_is_told_when_it_is_stored(start: Start) -> None:
    """[EC5] (W33) The id comes at once, the event when the 10 s after are in."""
    service, nurse, monitor = await start()
    archive = Archive()
    service.use_archive(archive)
    with pytest.raises(Refusal) as refused:
        await service.execute(nurse, order(404))
    assert refused.value.code is ErrorCode.NOT_FOUND
    ordered = await service.execute(nurse, order())
    assert isinstance(ordered, m.SnapshotOrdered)
    assert [(o.id, o.patient, o.by) for o in archive.orders] == [(ordered.snapshot, P1, "nurse")]
    assert not nurse.said("ecg_snapshot_taken")
    archive.stored.set_result(strip(1, 1))
    await until(lambda: monitor.said("ecg_snapshot_taken"))
    assert list(nurse.present.ecg_snapshots) == [ordered.snapshot]


async def test_a_strip_that_failed_is_told_too(start: Start) -> None:
    """[EC5] Nobody believes that it is in the record."""
    service, nurse, _ = await start()
    archive = Archive()
    service.use_archive(archive)
    await service.execute(nurse, order())
    archive.stored.set_exception(OSError("disk full"))
    await until(lambda: nurse.said("ecg_snapshot_failed"))
    assert [e.code for e in nurse.said("ecg_snapshot_failed") if isinstance(e, m.EcgSnapshotFailed)] == ["internal"]


@pytest.mark.parametrize("well", [True, False])
async def test_a_strip_that_a_restart_interrupted_is_taken_up_again(bedside: Bedside, start: Start, well: bool) -> None:
    """[EC5] (W33) Ordered is ordered: whoever is there afterwards hears how it ended, and it is on record."""
    first, nurse, _ = await start()
    before, after = Archive(), Archive()
    first.use_archive(before)
    ordered = await first.execute(nurse, order())
    assert isinstance(ordered, m.SnapshotOrdered)
    await first.stop()
    assert not before.given_up
    after.left = before.orders
    bedside.clock.ms += 1
    second = await bedside.serve(after)
    back = await bedside.join(second, "nurse")
    if well:
        after.stored.set_result(strip(1, 1))
        await until(lambda: back.said("ecg_snapshot_taken"))
        assert not after.given_up
    else:
        after.stored.set_exception(Refusal(ErrorCode.NOT_FOUND))
        await until(lambda: back.said("ecg_snapshot_failed"))
        assert after.given_up == [(ordered.snapshot, "not_found")]


async def test_a_heart_rate_is_passed_on_while_its_context_is_open(start: Start) -> None:
    """[EC7] (H21)"""
    service, nurse, _ = await start()
    rate = m.HeartRate(stream_id=7, context_version=1, bpm=72.5, beats_us=(1, 2), at_us=3, unsure=False)
    service.heart_rate(CONSULT, rate.model_copy(update={"context_version": 2}))
    service.heart_rate(CONSULT, rate)
    assert [(s["type"], s["context_version"], s["bpm"]) for s in nurse.signals] == [("heart_rate", 1, 72.5)]


async def test_a_pointer_reaches_the_others_and_no_log(start: Start) -> None:
    """[EC4]"""
    service, nurse, monitor = await start()
    revision = nurse.present.revision
    await service.execute(nurse, m.PointEcg(stream_id=7, context_version=1, lead="II", at_us=5, uv=6))
    assert [s["type"] for s in monitor.signals] == ["ecg_pointed"]
    assert nurse.signals == []
    assert nurse.present.revision == revision


async def test_what_stays_in_the_log_has_a_budget(start: Start) -> None:
    """[EC6] A line that comes and goes does not fill the protocol."""
    service, nurse, _ = await start()
    codes = []
    for number in range(40):
        state = EcgState.LOST if number % 2 else EcgState.LIVE
        try:
            await service.execute(nurse, m.ReportEcgState(stream_id=7, context_version=1, state=state))
        except Refusal as refusal:
            codes.append(refusal.code)
    assert len(nurse.said("ecg_state_reported")) <= 8
    assert set(codes) == {ErrorCode.TOO_BUSY}


async def test_what_was_produced_while_the_binding_ended_does_not_stay(bedside: Bedside, start: Start) -> None:
    """[BI3] [ME9] The relay had said yes already."""
    service, nurse, monitor = await start()
    before = set(feeds(bedside))
    bedside.media.gate = asyncio.Event()
    asked = asyncio.create_task(service.execute(monitor, produce_data(waveform(8))))
    await until(lambda: isinstance(bedside.media.calls[-1], m.ProduceData))
    await service.execute(nurse, m.UnbindDevice(device=MONITOR))
    bedside.media.gate.set()
    with pytest.raises(Refusal) as refused:
        await asked
    assert refused.value.code is ErrorCode.DEVICE_NOT_BOUND
    await until(lambda: not feeds(bedside))
    assert before
