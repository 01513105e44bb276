"""A consult over real sockets, with a client nobody here wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from signaling_hub import Client, Hub, MakeClient, MakeHub

from signaling.aio.memory import MemoryStore
from signaling.aio.service import ServiceSettings
from signaling.core.consult import apply
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.messages import EVENTS, AnyEvent, HeartRate
from signaling.core.model import Connection, Consult, Role
from tests.signaling_kit import PATIENTS, consult, until, waveform


def view(page: str) -> dict[str, Any]:
    return {"page": page, "item": ""}


async def test_two_doctors_open_a_patient_and_turn_pages(hub: Hub, make_client: MakeClient) -> None:
    """[CO2] [CX1] [LE1] The follower's snapshot plus the events it heard is the store's state."""
    a = await make_client(hub, "a")
    b = await make_client(hub, "b", Role.GUEST, join=False)
    joined = await b.ok(type="join")

    await a.ok(type="take_lead")
    await a.ok(type="open_context", patient="p1")
    await a.ok(type="turn_page", context_version=1, view=view("labs"))
    await b.ok(type="confirm_context", version=1)
    await b.heard("context_confirmed")

    state = Consult.model_validate(joined["snapshot"])
    for event in b.events:
        state = apply(state, EVENTS.validate_python(event))
    assert state == await hub.state()
    assert state.view.page == "labs"
    assert [e["revision"] for e in b.events] == list(range(2, 7))


async def test_only_the_lead_turns_pages(hub: Hub, make_client: MakeClient) -> None:
    """[LE1] [CX4] Refused with a code, and nothing happens."""
    a, b = await make_client(hub, "a"), await make_client(hub, "b")
    await a.ok(type="take_lead")
    await a.ok(type="open_context", patient="p1")
    before = await hub.state()

    assert await b.refusal(type="turn_page", context_version=1, view=view("labs")) == "not_lead"
    assert await a.refusal(type="turn_page", context_version=0, view=view("labs")) == "context_changed"
    assert await hub.state() == before


async def test_pointer_goes_to_the_others_only(hub: Hub, make_client: MakeClient) -> None:
    """[LE4] A signal: no revision, not to its sender."""
    a, b = await make_client(hub, "a"), await make_client(hub, "b")
    await a.ok(type="take_lead")
    await a.ok(type="open_context", patient="p1")
    revision = (await hub.state()).revision

    await a.ok(type="point", context_version=1, view=view("summary"), x=0.5, y=0.25, visible=True)

    await until(lambda: any(s["type"] == "pointed" for s in b.signals))
    assert not any(s["type"] == "pointed" for s in a.signals)
    assert (await hub.state()).revision == revision


async def test_a_heart_rate_reaches_every_socket_of_its_consult_and_context(hub: Hub, make_client: MakeClient) -> None:
    """[EC7] (H21) Computed at the server: a signal to all, none of a context that is not open."""
    a, b = await make_client(hub, "a"), await make_client(hub, "b", Role.SCREEN)
    await a.ok(type="open_context", patient="p1")
    revision = (await hub.state()).revision
    rate = HeartRate(stream_id=7, context_version=1, bpm=72.5, beats_us=(1, 2), at_us=3, unsure=False)
    for version, bpm in ((2, 60.0), (1, 72.5)):
        hub.service.heart_rate(consult().id, rate.model_copy(update={"context_version": version, "bpm": bpm}))
    for client in (a, b):
        await until(lambda client=client: any(s["type"] == "heart_rate" for s in client.signals))
        (heard,) = [s for s in client.signals if s["type"] == "heart_rate"]
        assert HeartRate.model_validate(heard) == rate
    assert (await hub.state()).revision == revision


async def test_beats_name_revision_and_context(hub: Hub, make_client: MakeClient) -> None:
    """[SE10] A beat vouches for the revision and the open context."""
    a = await make_client(hub, "a")
    await a.ok(type="open_context", patient="p1")
    revision = (await hub.state()).revision
    await until(
        lambda: any(s["type"] == "beat" and s["revision"] == revision and s["context_version"] == 1 for s in a.signals)
    )


async def test_lost_socket_is_seen_at_once_and_mended_by_coming_back(hub: Hub, make_client: MakeClient) -> None:
    """[SE3] [SE5] Same participant, not a second one; what it showed must be confirmed again (W19)."""
    a, b = await make_client(hub, "a"), await make_client(hub, "b")
    await a.ok(type="open_context", patient="p1")
    await b.ok(type="confirm_context", version=1)

    await b.sio.disconnect()
    changed = await a.heard("connection_changed")
    assert changed["connection"] == "reconnecting"
    assert (await hub.state()).participants[ParticipantId("b")].context_seen == 0

    await make_client(hub, "b")
    state = await hub.state()
    assert state.participants[ParticipantId("b")].connection is Connection.CONNECTED
    assert len(state.participants) == 2


async def test_participant_is_removed_after_the_grace_time(make_hub: MakeHub, make_client: MakeClient) -> None:
    """[SE4] Producers, lead and Transports go with it."""
    hub = await make_hub(service=ServiceSettings(grace_s=0.05, beat_s=0.2))
    a, b = await make_client(hub, "a"), await make_client(hub, "b")
    await b.ok(type="take_lead")
    await b.ok(type="produce", transport="t", kind="video", rtp_parameters={}, source="camera")

    await b.sio.disconnect()
    await a.heard("participant_left")

    state = await hub.state()
    assert list(state.participants) == ["a"]
    assert state.lead is None
    assert state.producers == {}
    await until(lambda: hub.media.released == ["b"])


async def test_second_connection_replaces_the_first(hub: Hub, make_client: MakeClient) -> None:
    """[SE5] The older session is told why and closed; it must not take the newer one down with it."""
    old = await make_client(hub, "a")
    new = await make_client(hub, "a")

    await until(lambda: old.goodbyes() == ["replaced"])
    await old.disconnected.wait()
    await new.ok(type="take_lead")
    state = await hub.state()
    assert state.participants[ParticipantId("a")].connection is Connection.CONNECTED


async def test_leaving_answers_first_and_says_goodbye(hub: Hub, make_client: MakeClient) -> None:
    """[CO7]"""
    a, b = await make_client(hub, "a"), await make_client(hub, "b")
    await b.ok(type="leave")
    await a.heard("participant_left")
    await until(lambda: b.goodbyes() == ["removed"])


async def test_ending_says_goodbye_to_everyone(hub: Hub, make_client: MakeClient) -> None:
    """[CO8] The event, then the goodbye; nobody comes back; the worker forgets the consult."""
    a, b = await make_client(hub, "a"), await make_client(hub, "b", Role.SCREEN)
    await a.ok(type="end_consult")
    for client in (a, b):
        await client.heard("consult_ended")
        await until(lambda c=client: c.goodbyes() == ["ended"])
    await until(lambda: hub.media.consults == set())

    late = await make_client(hub, "late", join=False)
    assert await late.refusal(type="join") == "consult_ended"


async def test_commands_take_effect_in_the_order_sent(hub: Hub, make_client: MakeClient) -> None:
    """[SE1] Thirty pages fired without waiting end on the last one, acknowledged in order."""
    a = await make_client(hub, "a")
    await a.ok(type="take_lead")
    await a.ok(type="open_context", patient="p1")
    acks: list[int] = []
    for number in range(30):
        command = {"type": "turn_page", "context_version": 1, "view": {"page": "labs", "item": str(number)}}
        await a.sio.emit("command", command, callback=lambda _, n=number: acks.append(n))
    await until(lambda: len(acks) == 30)
    assert acks == list(range(30))
    assert (await hub.state()).view.item == "29"


async def test_media_failure_leaves_no_trace(hub: Hub, make_client: MakeClient) -> None:
    """[ME9] A refusal of the media plane is passed on; the state does not change."""
    a = await make_client(hub, "a")
    before = await hub.state()
    hub.media.failing = Refusal(ErrorCode.BAD_MEDIA_PARAMETERS)
    produce = {"type": "produce", "transport": "t", "kind": "video", "rtp_parameters": {}, "source": "camera"}
    assert await a.refusal(**produce) == "bad_media_parameters"
    assert await hub.state() == before


async def test_worker_replacement_reaches_everyone(hub: Hub, make_client: MakeClient) -> None:
    """[ME2] [ME4] New epoch, nothing produced any more, and new Transports carry the new epoch."""
    a = await make_client(hub, "a")
    await a.ok(type="produce", transport="t", kind="video", rtp_parameters={}, source="camera")
    await hub.service.news.media_reset((await hub.state()).id)
    assert (await a.heard("media_reset"))["media_epoch"] == 1
    assert (await hub.state()).producers == {}
    assert (await a.ok(type="create_transport", direction="send"))["media_epoch"] == 1


async def test_answer_of_a_dead_worker_is_not_believed(hub: Hub, make_client: MakeClient) -> None:
    """[ME5] The worker was replaced while it was asked: refused, and the new worker keeps nothing."""
    a = await make_client(hub, "a")
    hub.media.gate = asyncio.Event()
    asked = asyncio.create_task(
        a.refusal(type="produce", transport="t", kind="video", rtp_parameters={}, source="camera")
    )
    await until(lambda: hub.media.calls)
    await hub.service.news.media_reset((await hub.state()).id)
    hub.media.gate.set()
    assert await asked == "media_unavailable"
    assert (await hub.state()).producers == {}
    assert hub.media.owned == {}


async def test_simulated_source_is_marked_and_kept_from_real_patients(hub: Hub, make_client: MakeClient) -> None:
    """[ME7] (W9) A simulated monitor that calls itself real is marked all the same."""
    device = await make_client(hub, "m", Role.DEVICE, simulated=True)
    doctor = await make_client(hub, "d")
    await doctor.ok(type="open_context", patient="p1")
    await device.ok(type="bind_device", device="m", patient="p1", context_version=1, confirmed=["xp1", "p1"])

    def ecg(patient: str) -> dict[str, Any]:
        return {
            "type": "produce_data",
            "transport": "t",
            "label": "ecg",
            "sctp_stream_parameters": {"streamId": 0},
            "waveform": waveform(of=patient, simulated=False).model_dump(mode="json"),
        }

    assert await device.refusal(**ecg("real")) == "simulated_on_real_patient"
    assert await device.refusal(**ecg("stranger")) == "wrong_patient"
    await device.ok(**ecg("p1"))
    (stream,) = (await hub.state()).data_producers.values()
    assert stream.waveform is not None
    assert stream.waveform.simulated
    asked = hub.media.calls[-1]
    assert asked.type == "produce_data"
    assert asked.waveform is not None
    assert asked.waveform.simulated


async def test_silent_transport_shows_as_unstable(hub: Hub, make_client: MakeClient) -> None:
    """[ME8]"""
    a, b = await make_client(hub, "a"), await make_client(hub, "b")
    state, who = await hub.state(), ParticipantId("b")
    await hub.service.news.transport_changed(state.id, who, "t1", Connection.UNSTABLE)
    await hub.service.news.transport_changed(state.id, who, "t2", Connection.UNSTABLE)
    await hub.service.news.transport_changed(state.id, who, "t1", Connection.CONNECTED)
    assert (await hub.state()).participants[who].connection is Connection.UNSTABLE
    await hub.service.news.transport_changed(state.id, who, "t2", Connection.CONNECTED)
    assert (await hub.state()).participants[who].connection is Connection.CONNECTED
    assert a.sio.connected
    assert b.sio.connected


async def test_sync_gives_what_was_missed(hub: Hub, make_client: MakeClient) -> None:
    """[CO4]"""
    a = await make_client(hub, "a")
    await a.ok(type="take_lead")
    await a.ok(type="open_context", patient="p1")
    result = await a.ok(type="sync", since=1)
    assert [e["type"] for e in result["events"]] == ["lead_changed", "context_opened"]
    assert result["snapshot"] is None


async def test_sync_gives_a_snapshot_when_too_much_was_missed(make_hub: MakeHub, make_client: MakeClient) -> None:
    """[CO4]"""
    hub = await make_hub(service=ServiceSettings(catch_up_events=1, beat_s=0.2))
    a = await make_client(hub, "a")
    await a.ok(type="take_lead")
    await a.ok(type="open_context", patient="p1")
    result = await a.ok(type="sync", since=0)
    assert result["events"] == []
    assert Consult.model_validate(result["snapshot"]) == await hub.state()


class StuckStore(MemoryStore):
    """One consult's events cannot be read."""

    async def events_since(self, consult: ConsultId, revision: int, limit: int) -> Sequence[AnyEvent] | None:
        if consult == "c1":
            await asyncio.Event().wait()
        return await super().events_since(consult, revision, limit)


async def test_a_store_that_is_stuck_for_one_consult_keeps_no_beat_from_another(
    make_hub: MakeHub, make_client: MakeClient
) -> None:
    """[SE10] (W19) And the consult whose state cannot be known has no beat."""
    store = StuckStore()
    others = [ConsultId(f"c{number}") for number in range(2, 6)]
    for one in (ConsultId("c1"), *others):
        store.add(consult(50).model_copy(update={"id": one}), PATIENTS)
    hub = await make_hub(store=store)  # a stuck refresh ends after 0.2 s, which is also the time between two beats
    stuck = await make_client(hub, "a", consult="c1")
    fine = [await make_client(hub, f"b-{one}", consult=one) for one in others]

    def beats(client: Client) -> int:
        return sum(signal["type"] == "beat" for signal in client.signals)

    await until(lambda: all(beats(client) >= 5 for client in fine))
    assert beats(stuck) == 0


class FullStore(MemoryStore):
    """Takes nothing more, as on a full disk."""

    full = False

    def is_trouble(self, error: Exception) -> bool:
        return isinstance(error, OSError)

    async def commit(
        self, before: Consult, after: Consult, events: Sequence[AnyEvent], actor: ParticipantId | None, node: str = ""
    ) -> None:
        if self.full:
            raise OSError("no space left")
        await super().commit(before, after, events, actor, node)


async def test_who_asks_while_nothing_can_be_stored_is_told_so(make_hub: MakeHub, make_client: MakeClient) -> None:
    """[SE2] And goes on when it can again."""
    store = FullStore()
    store.add(consult(50), PATIENTS)
    hub = await make_hub(store=store)
    a = await make_client(hub, "a")
    store.full = True
    assert await a.refusal(type="open_context", patient="p1") == "store_unavailable"
    store.full = False
    await a.ok(type="open_context", patient="p1")


@pytest.mark.parametrize("first", [{"type": "sync", "since": 0}, {"type": "take_lead"}, {"type": "leave"}])
async def test_join_comes_first(hub: Hub, make_client: MakeClient, first: dict[str, Any]) -> None:
    """[CO1]"""
    a = await make_client(hub, "a", join=False)
    assert await a.refusal(**first) == "not_joined"


async def test_joining_twice_is_refused(hub: Hub, make_client: MakeClient) -> None:
    """[CO1]"""
    a = await make_client(hub, "a")
    assert await a.refusal(type="join") == "already_joined"


async def test_a_full_consult_refuses(make_hub: MakeHub, make_client: MakeClient) -> None:
    """[CO1]"""
    hub = await make_hub(limit=1)
    await make_client(hub, "a")
    b = await make_client(hub, "b", join=False)
    assert await b.refusal(type="join") == "consult_full"


async def test_a_new_process_takes_over_what_an_old_one_left(make_hub: MakeHub, make_client: MakeClient) -> None:
    """[SE8] After a crash nobody shows as connected who is not, and no dead camera stays."""
    old = await make_hub()
    a = await make_client(old, "a")
    await make_client(old, "b")
    await a.ok(type="produce", transport="t", kind="video", rtp_parameters={}, source="camera")

    new = await make_hub(store=old.store, service=ServiceSettings(grace_s=0.2, beat_s=0.2))
    back = await make_client(new, "a")
    state = await new.state()
    assert state.participants[ParticipantId("b")].connection is Connection.RECONNECTING
    assert state.producers == {}
    assert state.media_epoch == 1
    assert (await back.heard("participant_left"))["participant"] == "b"


async def test_stopping_says_so(make_hub: MakeHub, make_client: MakeClient) -> None:
    """[SE9]"""
    hub = await make_hub()
    a = await make_client(hub, "a")
    await hub.gateway.stop()
    await until(lambda: a.goodbyes() == ["server_stopping"])
    await a.disconnected.wait()


async def test_two_nodes_on_one_store(make_hub: MakeHub, make_client: MakeClient) -> None:
    """[CO6] Without a single hint between them (the bus may lose any) both nodes' people see the same."""
    one = await make_hub(service=ServiceSettings(sole_node=False, beat_s=0.1))
    two = await make_hub(service=ServiceSettings(sole_node=False, beat_s=0.1), store=one.store)
    a, b = await make_client(one, "a"), await make_client(two, "b")
    await a.ok(type="take_lead")
    await b.ok(type="open_context", patient="p1")
    await a.heard("context_opened")
    await a.ok(type="turn_page", context_version=1, view=view("labs"))
    await b.heard("page_turned")
    assert [e["revision"] for e in b.events] == list(range(b.events[0]["revision"], b.events[-1]["revision"] + 1))
