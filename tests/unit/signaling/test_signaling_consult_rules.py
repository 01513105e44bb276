"""Rules of the consult, each with its nasty edge."""

from __future__ import annotations

from functools import reduce
from typing import get_args

import pytest

from signaling.core import messages as m
from signaling.core import occurrences
from signaling.core.admission import Admission
from signaling.core.bucket import TokenBucket
from signaling.core.consult import MAX_PRODUCERS, Known, apply, handle
from signaling.core.errors import SENTENCES, ErrorCode, Refusal
from signaling.core.fold import _FOLDS
from signaling.core.ids import DataProducerId, ParticipantId, PatientId, ProducerId
from signaling.core.model import Connection, Consult, Page, Role, View
from tests.signaling_kit import PATIENTS, admission, bind_device, consult, produce, produce_data, waveform

DOC, GUEST, WALL = admission("doc"), admission("guest", Role.GUEST), admission("wall", Role.SCREEN)
MONITOR = admission("monitor", Role.DEVICE)
P1, P2, REAL = PATIENTS
NOTHING = Known()


def do(state: Consult, actor: Admission, command: m.AnyCommand, known: Known = NOTHING) -> Consult:
    return reduce(apply, handle(state, actor, command, 5_000, known), state)


def refused(state: Consult, actor: Admission, command: m.AnyCommand, known: Known = NOTHING) -> ErrorCode:
    with pytest.raises(Refusal) as refusal:
        handle(state, actor, command, 5_000, known)
    return refusal.value.code


def room(*people: Admission) -> Consult:
    state = consult()
    for person in people:
        state = do(state, person, m.Join())
    return state


def opened(state: Consult) -> Consult:
    return do(state, DOC, m.OpenContext(patient=P1.id), Known(patient=P1))


def made(state: Consult, name: str) -> Known:
    return Known(media=m.Produced(producer=ProducerId(name)), media_epoch=state.media_epoch)


def streamed(state: Consult, name: str, of: object = P1) -> Known:
    answer = m.DataProduced(data_producer=DataProducerId(name))
    return Known(patient=of, media=answer, media_epoch=state.media_epoch)  # type: ignore[arg-type] # a banner or None


def test_every_event_class_has_its_fold_and_every_code_its_sentences() -> None:
    """Nothing is forgotten when a class is added."""
    assert set(_FOLDS) == set(get_args(get_args(m.AnyEvent)[0]))
    assert set(SENTENCES) == set(ErrorCode)


def test_coming_back_keeps_when_one_came_first() -> None:
    """[SE5] The same participant, connected again, with nothing confirmed."""
    state = opened(room(DOC, WALL))
    state = do(state, WALL, m.ConfirmContext(version=1))
    state = reduce(apply, occurrences.socket_lost(state, WALL.participant, 6_000), state)
    assert state.participants[WALL.participant].context_seen == 0
    back = do(state, WALL, m.Join()).participants[WALL.participant]
    assert (back.connection, back.joined_at_ms, back.context_seen) == (Connection.CONNECTED, 5_000, 0)


def test_a_display_that_was_given_another_task_shows_it() -> None:
    """[SE5] What the token says now replaces what an older one said."""
    state = room(WALL)
    renamed = WALL.model_copy(update={"name": "二号屏"})
    assert do(state, renamed, m.Join()).participants[WALL.participant].name == "二号屏"


def test_closing_never_restores_an_older_context() -> None:
    """[CX2] (H27) Versions of open, close, open: 1, 2, 3."""
    state = opened(room(DOC))
    assert (state.context_version, state.context is not None) == (1, True)
    state = do(state, DOC, m.CloseContext())
    assert (state.context_version, state.context) == (2, None)
    state = opened(state)
    assert state.context is not None
    assert (state.context_version, state.context.version) == (3, 3)


def test_opening_another_patient_goes_back_to_the_summary() -> None:
    """[CX2] (W24)"""
    state = do(opened(room(DOC)), DOC, m.TakeLead())
    state = do(state, DOC, m.TurnPage(context_version=1, view=View(page=Page.LABS, item="k")))
    state = do(state, DOC, m.OpenContext(patient=P2.id), Known(patient=P2))
    assert state.view == View()


def test_opening_the_open_patient_changes_nothing() -> None:
    """[CX2]"""
    state = opened(room(DOC))
    assert opened(state) == state


@pytest.mark.parametrize("known", [None, P2])
def test_only_patients_of_the_consult_open(known: object) -> None:
    """[CX1] Absent and hidden look the same."""
    outcome = refused(room(DOC), DOC, m.OpenContext(patient=P1.id), Known(patient=known))  # type: ignore[arg-type]
    assert outcome is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("version", [0, 2])
def test_only_the_open_version_can_be_confirmed(version: int) -> None:
    """[CX3] (H21)"""
    state = opened(room(DOC, WALL))
    assert refused(state, WALL, m.ConfirmContext(version=version)) is ErrorCode.CONTEXT_CHANGED


def test_nothing_can_be_confirmed_when_nothing_is_open() -> None:
    """[CX3] Neither the version that was closed nor the number that closing gave out."""
    state = do(opened(room(DOC, WALL)), DOC, m.CloseContext())
    for version in (0, 1, 2):
        assert refused(state, WALL, m.ConfirmContext(version=version)) is ErrorCode.CONTEXT_CHANGED


def test_the_lead_can_be_taken_and_handed_on_but_not_to_a_wall() -> None:
    """[LE2] [LE3]"""
    state = do(room(DOC, GUEST, WALL), DOC, m.TakeLead())
    assert refused(state, GUEST, m.HandLead(to=GUEST.participant)) is ErrorCode.NOT_LEAD
    assert refused(state, DOC, m.HandLead(to=WALL.participant)) is ErrorCode.NOT_ALLOWED
    assert refused(state, DOC, m.HandLead(to=ParticipantId("gone"))) is ErrorCode.NOT_FOUND
    assert do(state, DOC, m.HandLead(to=GUEST.participant)).lead == "guest"
    assert do(state, GUEST, m.TakeLead()).lead == "guest"


def test_when_the_lead_leaves_nobody_leads() -> None:
    """[LE3] [CO7]"""
    state = do(room(DOC, GUEST), GUEST, m.TakeLead())
    state = do(state, GUEST, m.Produce(**produce().model_dump()), made(state, "v"))
    state = do(state, GUEST, m.Leave())
    assert (state.lead, state.producers) == (None, {})


def test_a_page_of_another_patient_is_not_turned() -> None:
    """[CX4] (H21) The command was on its way when the patient changed."""
    state = do(opened(room(DOC)), DOC, m.TakeLead())
    state = do(state, DOC, m.OpenContext(patient=P2.id), Known(patient=P2))
    late = m.TurnPage(context_version=1, view=View(page=Page.LABS))
    assert refused(state, DOC, late) is ErrorCode.CONTEXT_CHANGED


def test_a_new_sending_transport_closes_what_the_old_one_carried() -> None:
    """[ME1] Only the owner's, and a receiving one closes nothing."""
    state = room(DOC, GUEST)
    state = do(state, DOC, produce(), made(state, "d"))
    state = do(state, GUEST, produce(), made(state, "g"))
    answered = Known(media=m.Done(), media_epoch=0)
    assert set(do(state, DOC, m.CreateTransport(direction="recv"), answered).producers) == {"d", "g"}
    assert set(do(state, DOC, m.CreateTransport(direction="send"), answered).producers) == {"g"}


def test_nothing_happens_before_the_media_plane_has_answered() -> None:
    """[ME9] The first pass only checks."""
    state = room(DOC)
    assert handle(state, DOC, produce(), 0) == []
    assert handle(state, DOC, m.CreateTransport(direction="send"), 0) == []


def test_the_answer_of_a_replaced_worker_is_not_believed() -> None:
    """[ME5]"""
    state = room(DOC)
    known = made(state, "v")
    state = reduce(apply, occurrences.worker_replaced(state, 0), state)
    assert refused(state, DOC, produce(), known) is ErrorCode.MEDIA_UNAVAILABLE


@pytest.mark.parametrize("command", [m.PauseProducer, m.ResumeProducer, m.CloseProducer])
def test_another_ones_producer_does_not_exist(command: type[m.PauseProducer]) -> None:
    """[ME3]"""
    state = room(DOC, GUEST)
    state = do(state, DOC, produce(), made(state, "v"))
    assert refused(state, GUEST, command(producer=ProducerId("v"))) is ErrorCode.NOT_FOUND
    assert refused(state, GUEST, command(producer=ProducerId("none"))) is ErrorCode.NOT_FOUND


def test_producers_have_a_limit() -> None:
    """[ME11]"""
    state = room(DOC)
    for number in range(MAX_PRODUCERS):
        state = do(state, DOC, produce(), made(state, f"v{number}"))
    assert refused(state, DOC, produce()) is ErrorCode.TOO_BUSY


def test_mute_is_an_event_once() -> None:
    """[CO5]"""
    state = room(DOC)
    state = do(state, DOC, produce(), made(state, "v"))
    answered = Known(media=m.Done(), media_epoch=0)
    pause = m.PauseProducer(producer=ProducerId("v"))
    muted = do(state, DOC, pause, answered)
    assert muted.producers[ProducerId("v")].paused
    assert do(muted, DOC, pause, answered) == muted
    assert not do(muted, DOC, m.ResumeProducer(producer=ProducerId("v")), answered).producers[ProducerId("v")].paused


@pytest.mark.parametrize("command", [produce_data(None), produce_data(waveform(), "video")])
def test_an_ecg_needs_a_waveform_and_only_an_ecg_has_one(command: m.ProduceData) -> None:
    """[ME6]"""
    assert refused(room(MONITOR), MONITOR, command, Known(patient=P1)) is ErrorCode.BAD_MEDIA_PARAMETERS


def test_ctl_is_not_announced() -> None:
    """[ME6]"""
    state = room(WALL)
    assert handle(state, WALL, produce_data(None, "ctl"), 0, streamed(state, "x", None)) == []


def test_waveforms_belong_to_patients_of_the_consult() -> None:
    """[ME7] (W20) And a device to one patient."""
    state = do(opened(room(DOC, MONITOR)), DOC, bind_device())
    of_p1, of_p2 = produce_data(waveform(1, "p1")), produce_data(waveform(2, "p2"))
    assert refused(state, MONITOR, of_p1, Known()) is ErrorCode.WRONG_PATIENT
    assert refused(state, MONITOR, of_p1, Known(patient=P2)) is ErrorCode.WRONG_PATIENT
    state = do(state, MONITOR, of_p1, streamed(state, "s1"))
    assert refused(state, MONITOR, of_p2, Known(patient=P2)) is ErrorCode.DEVICE_NOT_BOUND
    assert refused(state, MONITOR, of_p1, Known(patient=P1)) is ErrorCode.CONFLICT


def test_simulated_waveforms_are_for_test_patients_only() -> None:
    """[ME7] (W9) Nobody can take the mark off."""
    simulator = admission("sim", Role.DEVICE, simulated=True)
    state = do(opened(room(DOC, MONITOR, simulator)), MONITOR, bind_device())
    state = do(state, simulator, bind_device("sim"))
    real = PatientId(REAL.id)
    for actor, claimed in ((MONITOR, True), (simulator, True), (simulator, False)):
        command = produce_data(waveform(1, real, simulated=claimed))
        assert refused(state, actor, command, Known(patient=REAL)) is ErrorCode.SIMULATED_ON_REAL_PATIENT
    state = do(state, simulator, produce_data(waveform(1, simulated=False)), streamed(state, "s"))
    info = state.data_producers[DataProducerId("s")]
    assert info.waveform is not None
    assert info.waveform.simulated
    state = do(state, DOC, m.OpenContext(patient=real), Known(patient=REAL))
    assert refused(state, DOC, bind_device("sim", real, 2)) is ErrorCode.SIMULATED_ON_REAL_PATIENT
    state = do(state, MONITOR, bind_device("monitor", real, 2))
    state = do(state, MONITOR, produce_data(waveform(2, real, simulated=False)), streamed(state, "r", REAL))
    assert list(state.data_producers) == ["r"]


def test_an_ended_consult_only_answers_sync() -> None:
    """[CO8]"""
    state = do(room(DOC, GUEST), DOC, m.EndConsult())
    for command in (m.Join(), m.TakeLead(), m.OpenContext(patient=P1.id), m.Leave()):
        assert refused(state, DOC, command) is ErrorCode.CONSULT_ENDED
    assert handle(state, DOC, m.Sync(since=0), 0) == []


def test_a_token_for_another_consult_opens_nothing_here() -> None:
    """[SE7]"""
    stranger = admission("doc", consult="c2")
    assert refused(room(DOC), stranger, m.Join()) is ErrorCode.NOT_FOUND


def test_who_is_removed_is_gone_once() -> None:
    """[SE4] [SE12] Shown as reconnecting or not: the loss of a socket may not have been stored."""
    state = room(DOC)
    away = reduce(apply, occurrences.socket_lost(state, DOC.participant, 0), state)
    for before in (state, away):
        left = occurrences.removed(before, DOC.participant, 0)
        assert [event.type for event in left] == ["participant_left"]
        assert occurrences.removed(reduce(apply, left, before), DOC.participant, 0) == []


def test_a_silent_path_does_not_hide_a_lost_socket() -> None:
    """[ME8] Reconnecting is the stronger word."""
    state = room(DOC)
    away = reduce(apply, occurrences.socket_lost(state, DOC.participant, 0), state)
    assert occurrences.path_changed(away, DOC.participant, 0, healthy=True) == []
    assert [e.type for e in occurrences.path_changed(state, DOC.participant, 0, healthy=False)] == [
        "connection_changed"
    ]


def test_the_bucket_gives_its_burst_and_then_its_rate() -> None:
    """[SE11] Never more, however long it was idle."""
    bucket = TokenBucket(rate_hz=2.0, burst=3)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(100.5), bucket.take(100.5)] == [True, False]
    assert [bucket.take(9_000.0) for _ in range(4)] == [True, True, True, False]
