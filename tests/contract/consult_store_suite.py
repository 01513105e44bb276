"""What every `ConsultStore` must do. Subclass it, give it a fixture ``make_store``, and pytest runs it all.

class TestMyStore(ConsultStoreSuite):
    @pytest.fixture
    async def make_store(self) -> MakeStore: ...
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import reduce

import pytest

from signaling.core.case import NoteFacts
from signaling.core.consult import Known, apply, handle
from signaling.core.ids import ConsultId, PatientId
from signaling.core.messages import (
    AnyCommand,
    AnyEvent,
    CloseContext,
    EndConsult,
    FreezePage,
    Join,
    Leave,
    MarkNoteInError,
    OpenContext,
    PutNote,
    TakeLead,
)
from signaling.core.model import AnchorType, Consult, PatientBanner, View
from signaling.core.occurrences import socket_lost
from signaling.core.ports import Conflict, ConsultStore
from tests.signaling_kit import CONSULT, PATIENTS, admission, consult
from tests.signaling_world import PEOPLE, SHAPE, Aimed, Asked, Step, run

MakeStore = Callable[[Consult, Sequence[PatientBanner]], Awaitable[ConsultStore]]
"""A store that holds this consult with these patients and nothing else."""

ACTOR = admission("a")
REPORT = {
    "resourceType": "DiagnosticReport",
    "id": "r1",
    "status": "final",
    "code": {"text": "心电图报告"},
    "subject": {"reference": f"Patient/{PATIENTS[0].id}"},
}
"""In every store that is made."""

BEDSIDE: list[Step] = [
    *(Asked(person, Join()) for person in PEOPLE[:7]),
    *(Aimed(what, 0) for what in ("open", "bind", "stream", "mark", "freeze", "state")),
    *(Aimed(what, 0) for what in ("report open", "share", "select")),
    Aimed("report", 2),
    Aimed("mark", 1),
]
"""A device is bound, sends, is drawn on, and then says that it is somebody else's."""


def step(state: Consult, command: AnyCommand) -> tuple[Consult, list[AnyEvent]]:
    events = handle(state, ACTOR, command, 1_700_000_000_000, Known(patient=PATIENTS[0]))
    return reduce(apply, events, state), events


class ConsultStoreSuite:
    """The contract."""

    async def test_what_was_committed_is_loaded(self, make_store: MakeStore) -> None:
        """[CO6] State and events survive the round trip exactly, Chinese names and all."""
        store = await make_store(consult(), PATIENTS)
        state, history = consult(), []
        for command in (Join(), TakeLead(), OpenContext(patient=PATIENTS[0].id)):
            after, events = step(state, command)
            await store.commit(state, after, events, ACTOR.participant)
            state, history = after, [*history, *events]
        assert await store.load(CONSULT) == state
        assert list(await store.events_since(CONSULT, 0, 10) or ()) == history

    async def test_the_slower_of_two_commits_conflicts(self, make_store: MakeStore) -> None:
        """[CO6] And leaves nothing behind."""
        store = await make_store(consult(), PATIENTS)
        before = consult()
        after, events = step(before, Join())
        await store.commit(before, after, events, ACTOR.participant)
        with pytest.raises(Conflict):
            await store.commit(before, after.model_copy(update={"title": "of the slower"}), events, ACTOR.participant)
        assert await store.load(CONSULT) == after
        assert len(await store.events_since(CONSULT, 0, 10) or ()) == len(events)

    async def test_of_many_commits_at_once_one_wins(self, make_store: MakeStore) -> None:
        """[CO6]"""
        store = await make_store(consult(), PATIENTS)
        before = consult()
        after, events = step(before, Join())
        outcomes = await asyncio.gather(
            *(store.commit(before, after, events, None) for _ in range(8)), return_exceptions=True
        )
        assert sum(outcome is None for outcome in outcomes) == 1
        assert all(outcome is None or isinstance(outcome, Conflict) for outcome in outcomes)

    async def test_who_commits_a_connection_has_the_participant(self, make_store: MakeStore) -> None:
        """[SE8] With the commit or not at all; who commits for nobody takes nobody."""
        store = await make_store(consult(), PATIENTS)
        before, who = consult(), ACTOR.participant
        assert (await store.seated(), await store.seats(CONSULT)) == ({}, (0, {}))
        after, events = step(before, Join())
        await store.commit(before, after, events, who, "n1")
        with pytest.raises(Conflict):
            await store.commit(before, after, events, who, "n2")
        led, events = step(after, TakeLead())
        await store.commit(after, led, events, who, "n2")
        assert await store.seats(CONSULT) == (led.revision, {who: "n1"})
        away = socket_lost(led, who, 1)
        lost = reduce(apply, away, led)
        await store.commit(led, lost, away, None, "n2")
        assert (await store.seated(), (await store.seats(CONSULT))[1]) == ({CONSULT: {"n2"}}, {who: "n2"})
        left, events = step(lost, Leave())
        await store.commit(lost, left, events, who)
        assert (await store.seated(), await store.seats(CONSULT)) == ({}, (left.revision, {}))

    async def test_processes_speak_until_they_are_forgotten(self, make_store: MakeStore) -> None:
        """[SE8]"""
        store = await make_store(consult(), PATIENTS)
        for node, word in (("n1", 1), ("n2", 1), ("n1", 2)):
            await store.say_alive(node, word)
        assert await store.last_words() == {"n1": 2, "n2": 1}
        await store.forget_nodes({"n1", "n3"})
        assert await store.last_words() == {"n2": 1}

    async def test_commit_to_a_consult_that_is_not_there_conflicts(self, make_store: MakeStore) -> None:
        store = await make_store(consult(), PATIENTS)
        stranger = consult().model_copy(update={"id": ConsultId("c2")})
        with pytest.raises(Conflict):
            await store.commit(stranger, stranger.model_copy(update={"revision": 1}), [], None)

    async def test_events_since_is_oldest_first_and_exact(self, make_store: MakeStore) -> None:
        """[CO4] Neither the named revision nor any later one is missing or doubled."""
        store = await make_store(consult(), PATIENTS)
        state = consult()
        for command in (Join(), TakeLead(), OpenContext(patient=PATIENTS[0].id)):
            after, events = step(state, command)
            await store.commit(state, after, events, ACTOR.participant)
            state = after
        assert [event.revision for event in await store.events_since(CONSULT, 1, 2) or ()] == [2, 3]
        assert list(await store.events_since(CONSULT, 3, 2) or ()) == []
        assert await store.events_since(CONSULT, 0, 2) is None

    async def test_what_is_not_there_is_none(self, make_store: MakeStore) -> None:
        store = await make_store(consult(), PATIENTS)
        assert await store.load(ConsultId("nowhere")) is None
        assert await store.patient(ConsultId("nowhere"), PATIENTS[0].id) is None
        assert list(await store.events_since(ConsultId("nowhere"), 0, 5) or ()) == []

    async def test_only_patients_of_the_consult_are_found(self, make_store: MakeStore) -> None:
        """[CX1]"""
        store = await make_store(consult(), PATIENTS[:2])
        assert await store.patient(CONSULT, PATIENTS[1].id) == PATIENTS[1]
        assert await store.patient(CONSULT, PATIENTS[2].id) is None
        assert await store.patient(CONSULT, PatientId("p9")) is None

    async def test_a_note_is_filed_with_its_event_and_marked_with_another(self, make_store: MakeStore) -> None:
        """[SH4] [SH6] Found under its patient only; of a commit that was too slow there is no note."""
        store = await make_store(consult(), PATIENTS)
        state, who, patient = consult(), ACTOR.participant, PATIENTS[0]
        opened = [Join(), OpenContext(patient=patient.id)]
        frozen = FreezePage(id="z", context_version=1, view=View(), shape=SHAPE)
        for command in (*opened, frozen):
            after, events = step(state, command)
            await store.commit(state, after, events, who)
            state = after
        put = PutNote(id="n", freeze="z", context_version=1, strokes=((0, 0, 9, 9),))
        after, events = step(state, put)
        named = events[0].note.id  # type: ignore[union-attr]
        assert await store.note(CONSULT, patient.id, named) is None
        await store.commit(state, after, events, who)
        slow, again = step(state, put.model_copy(update={"id": "slow"}))
        with pytest.raises(Conflict):
            await store.commit(state, slow, again, who)
        assert await store.note(CONSULT, patient.id, again[0].note.id) is None  # type: ignore[union-attr]
        facts = await store.note(CONSULT, patient.id, named)
        assert facts == NoteFacts(id=named, by=who, in_error=False)
        assert await store.note(CONSULT, PATIENTS[1].id, named) is None
        mark = MarkNoteInError(note=named, context_version=1, reason="wrong page")
        marked = handle(after, ACTOR, mark, 1_700_000_000_001, Known(note=facts))
        await store.commit(after, reduce(apply, marked, after), marked, who)
        assert await store.note(CONSULT, patient.id, named) == NoteFacts(id=named, by=who, in_error=True)

    async def test_who_is_open_where_somebody_is(self, make_store: MakeStore) -> None:
        """[SN1]"""
        store = await make_store(consult(), PATIENTS)
        assert dict(await store.shown_elsewhere()) == {}
        state = consult()
        for command in (Join(), OpenContext(patient=PATIENTS[0].id)):
            after, events = step(state, command)
            await store.commit(state, after, events, ACTOR.participant)
            state = after
        assert dict(await store.shown_elsewhere()) == {CONSULT: PATIENTS[0].id}
        assert dict(await store.shown_elsewhere()) == {CONSULT: PATIENTS[0].id}, "also when nothing has changed"
        shown = {CONSULT: PATIENTS[0].id}
        for command, then in ((CloseContext(), {}), (OpenContext(patient=PATIENTS[0].id), shown), (Leave(), {})):
            after, events = step(state, command)
            await store.commit(state, after, events, ACTOR.participant)
            state = after
            assert dict(await store.shown_elsewhere()) == then
        assert await store.surnames(PATIENTS[0].id) == frozenset("患")
        assert await store.surnames(PatientId("nobody")) == frozenset()

    async def test_resources_of_patients_of_the_consult_only(self, make_store: MakeStore) -> None:
        """[AN1] Neither another patient's, nor a patient's who is not in this consult."""
        store = await make_store(consult(), PATIENTS[:2])
        mine, other, absent = (patient.id for patient in PATIENTS)
        report = AnchorType.DIAGNOSTIC_REPORT
        found = await store.resource(CONSULT, mine, report, "r1")
        assert found is not None
        assert (found["resourceType"], found["id"]) == ("DiagnosticReport", "r1")
        assert await store.resource(CONSULT, mine, AnchorType.ENCOUNTER, "r1") is None
        assert await store.resource(CONSULT, other, report, "r1") is None
        assert await store.resource(CONSULT, absent, report, "r1") is None
        assert await store.resource(ConsultId("nowhere"), mine, report, "r1") is None

    async def test_consults_of_a_patient_until_they_end(self, make_store: MakeStore) -> None:
        """[BI7] What a discharge has to look at."""
        store = await make_store(consult(), PATIENTS[:2])
        assert list(await store.consults_of(PATIENTS[0].id)) == [CONSULT]
        assert list(await store.consults_of(PATIENTS[2].id)) == []
        state = consult()
        for command in (Join(), EndConsult()):
            after, events = step(state, command)
            await store.commit(state, after, events, ACTOR.participant)
            state = after
        assert list(await store.consults_of(PATIENTS[0].id)) == []

    async def test_the_bedside_survives_the_round_trip(self, make_store: MakeStore) -> None:
        """[CO6] Bindings, their ends and what is drawn on a trace, as events and as state."""
        store = await make_store(consult(), PATIENTS)
        state, history = run(consult(), BEDSIDE)
        kinds = {event.type for event in history}
        assert {"device_bound", "device_mismatch", "device_unbound", "ecg_mark_put", "ecg_frozen"} <= kinds
        assert {"anchor_opened", "content_shared"} <= kinds
        await store.commit(consult(), state, history, None)
        assert await store.load(CONSULT) == state
        assert list(await store.events_since(CONSULT, 0, 100) or ()) == history
