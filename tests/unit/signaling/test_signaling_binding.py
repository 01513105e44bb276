"""Whose signals a device sends: every way in, every way out."""

from __future__ import annotations

from functools import reduce

import pytest
from pydantic import ValidationError

from signaling.core import binding, occurrences
from signaling.core import messages as m
from signaling.core.admission import Admission
from signaling.core.attempts import Attempts
from signaling.core.consult import Known, apply, handle
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import DataProducerId
from signaling.core.model import Consult, Identifier, Role, UnboundReason
from tests.signaling_kit import (
    PATIENTS,
    admission,
    bind_device,
    consult,
    produce_data,
    produce_vitals,
    vitals,
    waveform,
)

DOC, NURSE, ROOM = admission("doc"), admission("nurse", Role.NURSE), admission("room", Role.ROOM)
GUEST, MONITOR, PUMP = admission("guest", Role.GUEST), admission("monitor", Role.DEVICE), admission("pump", Role.DEVICE)
FAR = admission("far", Role.NURSE).model_copy(update={"hospital": "H2"})
NOWHERE = admission("nowhere", Role.NURSE).model_copy(update={"hospital": ""})
P1, P2, REAL = PATIENTS
NOW_MS = 1_000_000
NOTHING = Known()


def do(state: Consult, actor: Admission, command: m.AnyCommand, known: Known = NOTHING) -> Consult:
    return reduce(apply, handle(state, actor, command, NOW_MS, known), state)


def refused(state: Consult, actor: Admission, command: m.AnyCommand, known: Known = NOTHING) -> ErrorCode:
    with pytest.raises(Refusal) as refusal:
        handle(state, actor, command, NOW_MS, known)
    return refusal.value.code


@pytest.fixture
def bedside() -> Consult:
    """Everybody is here and patient p1 is open."""
    state = consult()
    for person in (DOC, NURSE, ROOM, GUEST, MONITOR, PUMP, FAR, NOWHERE):
        state = do(state, person, m.Join())
    return do(state, DOC, m.OpenContext(patient=P1.id), Known(patient=P1))


def sending(state: Consult, name: str = "ecg1", *, at_ms: int = NOW_MS) -> Consult:
    answer = m.DataProduced(data_producer=DataProducerId(name))
    known = Known(patient=P1, media=answer, media_epoch=state.media_epoch)
    return reduce(apply, handle(state, MONITOR, produce_data(waveform()), at_ms, known), state)


def last(events: list[m.AnyEvent]) -> m.DeviceUnbound:
    (unbound,) = [event for event in events if isinstance(event, m.DeviceUnbound)]
    return unbound


def test_nothing_of_a_patient_flows_before_the_binding(bedside: Consult) -> None:
    """[BI3] (W20) Neither waves nor vital signs."""
    for command in (produce_data(waveform()), produce_vitals()):
        assert refused(bedside, MONITOR, command, Known(patient=P1)) is ErrorCode.DEVICE_NOT_BOUND
    bound = do(bedside, NURSE, bind_device())
    assert list(sending(bound).data_producers) == ["ecg1"]
    assert refused(bound, PUMP, produce_data(waveform()), Known(patient=P1)) is ErrorCode.DEVICE_NOT_BOUND


def test_a_binding_says_who_whose_and_until_when(bedside: Consult) -> None:
    """[BI1] (W20)"""
    (bound,) = do(bedside, NURSE, bind_device(minutes=30)).bindings.values()
    assert (bound.device, bound.patient, bound.context_version, bound.bound_by) == ("monitor", "p1", 1, "nurse")
    assert bound.identifiers == P1.identifiers
    assert (bound.bound_at_ms, bound.until_ms) == (NOW_MS, NOW_MS + 30 * 60_000)


@pytest.mark.parametrize("minutes", [0, -1, 1441])
def test_a_binding_is_for_a_minute_to_a_day(minutes: int) -> None:
    """[BI1] (W20)"""
    with pytest.raises(ValidationError):
        bind_device(minutes=minutes)


@pytest.mark.parametrize(
    ("typed", "matches"),
    [
        (("p1", "xp1"), True),
        (("xp1", "p1"), True),
        (("Ｐ１", " X P 1 "), True),
        (("p1\r\n", "\x1dxp1\t"), True),
        (("p1", "p1"), False),
        (("p1", "xp2"), False),
        (("p1", "xp1x"), False),
        ((" ", "\r"), False),
    ],
)
def test_two_identifiers_whatever_the_scanner_adds(bedside: Consult, typed: tuple[str, str], matches: bool) -> None:
    """[BI1] (W20) Width, case, spaces and control characters do not count; everything else does."""
    command = bind_device().model_copy(update={"confirmed": typed})
    if matches:
        assert do(bedside, NURSE, command).bindings
    else:
        assert refused(bedside, NURSE, command) is ErrorCode.IDENTIFIERS_WRONG


def test_one_identifier_twice_is_not_two() -> None:
    """[BI1] (W20) A banner whose two identifiers are the same identifies by one."""
    twice = (Identifier(label="MRN", value="A 1"), Identifier(label="ID", value="a1"))
    assert not binding.confirms(twice, ("A1", "A1"))


@pytest.mark.parametrize("who", [DOC, NURSE, ROOM, MONITOR])
def test_whoever_stands_at_the_bedside_may_bind(bedside: Consult, who: Admission) -> None:
    """[BI2] Staff and the room of the device's hospital, and its own operator."""
    assert do(bedside, who, bind_device()).bindings[MONITOR.participant].bound_by == who.participant


@pytest.mark.parametrize(
    ("who", "code"),
    [
        (FAR, ErrorCode.NOT_AT_BEDSIDE),
        (NOWHERE, ErrorCode.NOT_AT_BEDSIDE),
        (PUMP, ErrorCode.NOT_FOUND),
        (GUEST, ErrorCode.NOT_ALLOWED),
    ],
)
def test_nobody_else_may(bedside: Consult, who: Admission, code: ErrorCode) -> None:
    """[BI2] No hospital is not the same hospital; another device is another bed."""
    assert refused(bedside, who, bind_device()) is code


def test_two_without_a_hospital_are_not_at_one_bedside(bedside: Consult) -> None:
    """[BI2] Not knowing where either is proves nothing."""
    homeless = admission("homeless", Role.DEVICE).model_copy(update={"hospital": ""})
    state = do(bedside, homeless, m.Join())
    assert refused(state, NOWHERE, bind_device("homeless")) is ErrorCode.NOT_AT_BEDSIDE
    assert do(state, homeless, bind_device("homeless")).bindings


def test_only_devices_are_bound_and_only_to_the_open_patient(bedside: Consult) -> None:
    """[BI1] [CX4]"""
    assert refused(bedside, NURSE, bind_device("doc")) is ErrorCode.NOT_FOUND
    assert refused(bedside, NURSE, bind_device("gone")) is ErrorCode.NOT_FOUND
    assert refused(bedside, NURSE, bind_device(of="p2")) is ErrorCode.WRONG_PATIENT
    assert refused(bedside, NURSE, bind_device(version=2)) is ErrorCode.CONTEXT_CHANGED
    closed = do(bedside, DOC, m.CloseContext())
    assert refused(closed, NURSE, bind_device()) is ErrorCode.CONTEXT_CHANGED


def test_a_simulator_is_bound_to_test_patients_only(bedside: Consult) -> None:
    """[BI1] (W9)"""
    simulator = admission("sim", Role.DEVICE, simulated=True)
    state = do(bedside, simulator, m.Join())
    state = do(state, DOC, m.OpenContext(patient=REAL.id), Known(patient=REAL))
    assert refused(state, NURSE, bind_device("sim", "real", 2)) is ErrorCode.SIMULATED_ON_REAL_PATIENT


def test_a_longer_time_interrupts_nothing(bedside: Consult) -> None:
    """[BI1] Binding the bound device again renews it; what it sends goes on."""
    state = sending(do(bedside, NURSE, bind_device(minutes=5)))
    again = do(state, NURSE, bind_device(minutes=60))
    assert again.data_producers == state.data_producers
    assert again.bindings[MONITOR.participant].until_ms == NOW_MS + 60 * 60_000


def test_unbinding_ends_the_feed_with_the_same_event(bedside: Consult) -> None:
    """[BI3] [BI4] Waves and vital signs; what another device sends stays."""
    state = sending(do(do(bedside, NURSE, bind_device()), NURSE, bind_device("pump")))
    more = Known(patient=P1, media=m.DataProduced(data_producer=DataProducerId("v1")), media_epoch=0)
    state = do(state, MONITOR, produce_vitals(), more)
    others = Known(patient=P1, media=m.DataProduced(data_producer=DataProducerId("v2")), media_epoch=0)
    state = do(state, PUMP, produce_vitals(vitals()), others)
    events = handle(state, GUEST, m.UnbindDevice(device=MONITOR.participant), NOW_MS)
    unbound = last(events)
    assert (unbound.reason, unbound.by, unbound.patient) == (UnboundReason.BY_PERSON, "guest", "p1")
    assert set(unbound.closed) == {"ecg1", "v1"}
    after = reduce(apply, events, state)
    assert list(after.data_producers) == ["v2"]
    assert list(after.bindings) == ["pump"]
    assert handle(after, GUEST, m.UnbindDevice(device=MONITOR.participant), NOW_MS) == []


def test_a_device_unbinds_itself_and_no_other(bedside: Consult) -> None:
    """[BI4]"""
    state = do(bedside, NURSE, bind_device())
    assert refused(state, PUMP, m.UnbindDevice(device=MONITOR.participant)) is ErrorCode.NOT_FOUND
    assert not do(state, MONITOR, m.UnbindDevice(device=MONITOR.participant)).bindings


def test_time_ends_a_binding_even_before_anyone_says_so(bedside: Consult) -> None:
    """[BI3] (W20) To the millisecond, and also at use when the timer is late."""
    state = do(bedside, NURSE, bind_device(minutes=1))
    until_ms = NOW_MS + 60_000
    assert binding.expired(state, until_ms - 1) == []
    assert sending(state, at_ms=until_ms - 1).data_producers
    with pytest.raises(Refusal) as late:
        sending(state, at_ms=until_ms)
    assert late.value.code is ErrorCode.DEVICE_NOT_BOUND
    unbound = last(binding.expired(sending(state), until_ms))
    assert (unbound.reason, unbound.by, unbound.closed) == (UnboundReason.EXPIRED, None, ("ecg1",))


@pytest.mark.parametrize("command", [m.OpenContext(patient=P2.id), m.CloseContext()])
def test_a_binding_ends_with_its_context(bedside: Consult, command: m.AnyCommand) -> None:
    """[BI5] (W19, W20, W21) Before the new name is there, the old feed is gone. Coming back is binding anew."""
    state = sending(do(bedside, NURSE, bind_device()))
    events = handle(state, DOC, command, NOW_MS, Known(patient=P2))
    assert events[0].type == "device_unbound"
    assert last(events).reason is UnboundReason.CONTEXT_CHANGED
    after = reduce(apply, events, state)
    assert (after.bindings, after.data_producers) == ({}, {})
    back = do(after, DOC, m.OpenContext(patient=P1.id), Known(patient=P1))
    assert refused(back, MONITOR, produce_data(waveform()), Known(patient=P1)) is ErrorCode.DEVICE_NOT_BOUND


def test_a_context_that_changes_by_its_event_alone_takes_the_feed_too(bedside: Consult) -> None:
    """[BI5] Whatever wrote the event: the fold itself keeps the law."""
    state = sending(do(bedside, NURSE, bind_device()))
    after = apply(state, m.ContextClosed(revision=state.revision + 1, at_ms=NOW_MS, by=DOC.participant))
    assert (after.bindings, after.data_producers) == ({}, {})


def test_a_binding_ends_with_the_consult(bedside: Consult) -> None:
    """[BI5] [CO8] (W21)"""
    events = handle(sending(do(bedside, NURSE, bind_device())), DOC, m.EndConsult(), NOW_MS)
    assert [event.type for event in events] == ["device_unbound", "consult_ended"]
    assert last(events).reason is UnboundReason.CONSULT_ENDED


def test_a_binding_ends_when_the_device_leaves_for_good(bedside: Consult) -> None:
    """[BI5] Its lost socket alone does not end it: it may come back within its grace time."""
    state = sending(do(bedside, NURSE, bind_device()))
    who = MONITOR.participant
    away = reduce(apply, occurrences.socket_lost(state, who, NOW_MS), state)
    assert away.bindings
    for events in (
        handle(state, MONITOR, m.Leave(), NOW_MS),
        occurrences.removed(away, who, NOW_MS),
        occurrences.removed(state, who, NOW_MS),
    ):
        assert [event.type for event in events] == ["device_unbound", "participant_left"]
        assert last(events).reason is UnboundReason.DEVICE_LEFT


def test_a_replaced_worker_ends_the_feed_and_not_the_binding(bedside: Consult) -> None:
    """[BI5] [ME4] The device sends again by itself."""
    state = sending(do(bedside, NURSE, bind_device()))
    after = reduce(apply, occurrences.worker_replaced(state, NOW_MS), state)
    assert (list(after.bindings), after.data_producers) == (["monitor"], {})


@pytest.mark.parametrize("reason", [UnboundReason.DISCHARGED, UnboundReason.TRANSFERRED])
def test_a_patient_who_leaves_the_bed_is_unbound_there(bedside: Consult, reason: UnboundReason) -> None:
    """[BI7] (W21) Only that patient."""
    state = sending(do(bedside, NURSE, bind_device()))
    assert binding.of_patient(state, P2.id, reason, NOW_MS) == []
    assert last(binding.of_patient(state, P1.id, reason, NOW_MS)).reason is reason


def test_a_device_that_names_another_patient_is_stopped(bedside: Consult) -> None:
    """[BI6] (W22) Both ids are there for everybody to see, and the wave cannot run until it is bound anew."""
    state = sending(do(bedside, NURSE, bind_device()))
    events = handle(state, MONITOR, m.ReportPatient(reported="MRN-9"), NOW_MS)
    assert [event.type for event in events] == ["device_reported", "device_mismatch", "device_unbound"]
    assert last(events).reason is UnboundReason.MISMATCH
    blocked = reduce(apply, events, state)
    assert blocked.data_producers == {}
    mismatch = blocked.mismatches[MONITOR.participant]
    assert (mismatch.reported, mismatch.identifiers, mismatch.patient) == ("MRN-9", P1.identifiers, "p1")
    assert refused(blocked, MONITOR, produce_data(waveform()), Known(patient=P1)) is ErrorCode.DEVICE_NOT_BOUND

    # The right identifiers do not help while the device says otherwise; set right, they do, and the red goes.
    assert refused(blocked, NURSE, bind_device()) is ErrorCode.DEVICE_MISMATCH
    corrected = do(blocked, MONITOR, m.ReportPatient(reported="p1"))
    assert corrected.mismatches, "it stays until somebody binds anew"
    anew = do(corrected, NURSE, bind_device())
    assert (anew.mismatches, list(anew.bindings)) == ({}, ["monitor"])


def test_what_a_device_says_is_no_binding(bedside: Consult) -> None:
    """[BI6] (W20) It counts against, never for; agreeing or saying nothing changes nothing."""
    said = do(bedside, MONITOR, m.ReportPatient(reported="P1"))
    assert refused(said, MONITOR, produce_data(waveform()), Known(patient=P1)) is ErrorCode.DEVICE_NOT_BOUND
    state = do(said, NURSE, bind_device())
    assert handle(state, MONITOR, m.ReportPatient(reported="P1"), NOW_MS) == []
    assert do(state, MONITOR, m.ReportPatient(reported=" xp1 ")).bindings
    assert do(state, MONITOR, m.ReportPatient(reported="")).reported == {}


def test_a_report_before_the_binding_counts(bedside: Consult) -> None:
    """[BI6] (W22) Also over a change of patient: what the device is set to does not change with the screen."""
    state = do(bedside, MONITOR, m.ReportPatient(reported="p1"))
    state = do(state, DOC, m.OpenContext(patient=P2.id), Known(patient=P2))
    assert refused(state, NURSE, bind_device(of="p2", version=2)) is ErrorCode.DEVICE_MISMATCH


def test_a_mismatch_is_not_painted_under_another_name(bedside: Consult) -> None:
    """[BI6] [EC1] (W24) It goes with its patient's context."""
    state = do(do(bedside, NURSE, bind_device()), MONITOR, m.ReportPatient(reported="x"))
    assert state.mismatches
    assert do(state, DOC, m.OpenContext(patient=P2.id), Known(patient=P2)).mismatches == {}


def test_wrong_guesses_run_out_and_come_back_slowly() -> None:
    """[BI8] Right ones cost nothing; each device has its own."""
    attempts = Attempts(burst=3, refill_s=60)
    for _ in range(50):
        assert attempts.take("a", 0.0)
        attempts.give_back("a")
    assert [attempts.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert attempts.take("b", 0.0)
    assert [attempts.take("a", 60.0), attempts.take("a", 60.0)] == [True, False]
