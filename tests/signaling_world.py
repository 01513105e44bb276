"""People, patients and devices among whom random scripts play, for property tests and golden vectors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

from hypothesis import strategies as st

from signaling.core import messages as m
from signaling.core import occurrences
from signaling.core.admission import Admission
from signaling.core.consult import Known, apply, handle
from signaling.core.errors import Refusal
from signaling.core.ids import DataProducerId, ParticipantId, PatientId, ProducerId, TransportId
from signaling.core.model import Consult, MediaSource, Page, PatientBanner, Role, View
from tests.signaling_kit import PATIENTS, admission, consult, produce, produce_data, waveform

PEOPLE = (
    admission("doc", Role.DOCTOR),
    admission("doc2", Role.DOCTOR),
    admission("guest", Role.GUEST),
    admission("nurse", Role.NURSE),
    admission("wall", Role.SCREEN),
    admission("room", Role.ROOM),
    admission("monitor", Role.DEVICE, simulated=True),
    admission("ecg", Role.DEVICE),
    admission("stranger", Role.DOCTOR, consult="other"),
)
BY_ID: dict[PatientId, PatientBanner] = {patient.id: patient for patient in PATIENTS}


@dataclass(frozen=True)
class Asked:
    """Someone asks for something."""

    actor: Admission
    command: m.AnyCommand


@dataclass(frozen=True)
class Happened:
    """Something happens to someone."""

    what: str
    who: ParticipantId


@dataclass(frozen=True)
class Aimed:
    """Someone asks for what makes sense now; random commands alone hardly ever turn a page."""

    what: str
    number: int


Step = Asked | Happened | Aimed

AIMS = ("open", "close", "lead", "turn", "confirm", "produce", "mute", "unmute", "stop", "stream", "unplug", "send")

_small = st.integers(0, 3)
_views = st.builds(View, page=st.sampled_from(Page), item=st.sampled_from(["", "glucose"]))
_fractions = st.floats(0, 1)
_people = st.sampled_from([p.participant for p in PEOPLE])
_patients = st.sampled_from([*BY_ID, PatientId("nobody")])
_producers = st.sampled_from([ProducerId(f"m{n}") for n in range(1, 5)])
_data_producers = st.sampled_from([DataProducerId(f"m{n}") for n in range(1, 5)])
_transport = st.just(TransportId("t"))

commands: st.SearchStrategy[m.AnyCommand] = st.one_of(
    st.builds(m.Join),
    st.builds(m.Sync, since=_small),
    st.builds(m.Leave),
    st.builds(m.OpenContext, patient=_patients),
    st.builds(m.CloseContext),
    st.builds(m.ConfirmContext, version=_small),
    st.builds(m.TurnPage, context_version=_small, view=_views),
    st.builds(m.TakeLead),
    st.builds(m.HandLead, to=_people),
    st.builds(m.Scroll, context_version=_small, view=_views, y=_fractions),
    st.builds(m.Point, context_version=_small, view=_views, x=_fractions, y=_fractions, visible=st.booleans()),
    st.builds(m.CreateTransport, direction=st.sampled_from(["send", "recv"])),
    st.builds(m.ConnectTransport, transport=_transport, dtls_parameters=st.just({})),
    st.builds(produce, st.sampled_from(MediaSource)),
    st.builds(m.PauseProducer, producer=_producers),
    st.builds(m.ResumeProducer, producer=_producers),
    st.builds(m.CloseProducer, producer=_producers),
    st.builds(m.Consume, transport=_transport, producer=_producers, rtp_capabilities=st.just({})),
    st.builds(
        produce_data,
        st.none() | st.builds(waveform, st.integers(1, 2), _patients, simulated=st.booleans()),
        st.sampled_from(["ecg", "ecg", "ctl", "chat"]),
    ),
    st.builds(m.CloseDataProducer, data_producer=_data_producers),
    st.builds(m.ConsumeData, transport=_transport, data_producer=_data_producers | st.just(DataProducerId("ctl"))),
)

steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Asked, st.sampled_from(PEOPLE), commands),
    st.builds(Asked, st.sampled_from(PEOPLE), st.builds(m.Join)),
    st.builds(Asked, st.just(PEOPLE[0]), commands),
    st.builds(Aimed, st.sampled_from(AIMS), st.integers(0, 7)),
    st.builds(Aimed, st.sampled_from(AIMS), st.integers(0, 7)),
    st.builds(Happened, st.sampled_from(["lost", "grace over", "reset", "silent", "healthy", "adopted"]), _people),
)
scripts = st.lists(steps, max_size=40)
endings = st.sampled_from([[], [Asked(PEOPLE[0], m.Join()), Asked(PEOPLE[0], m.EndConsult())]])


def aim(state: Consult, aimed: Aimed) -> Asked | None:
    """The command that the state makes possible, by someone who may."""
    here = [person for person in PEOPLE if person.participant in state.participants]
    number = aimed.number

    def one(*roles: Role) -> Admission | None:
        fitting = [person for person in here if person.role in roles]
        return fitting[number % len(fitting)] if fitting else None

    version = state.context.version if state.context else 0
    producers = list(state.producers.values())
    streams = list(state.data_producers.values())
    if aimed.what in ("mute", "unmute", "stop"):
        if not producers:
            return None
        producer = producers[number % len(producers)]
        kind = {"mute": m.PauseProducer, "unmute": m.ResumeProducer, "stop": m.CloseProducer}[aimed.what]
        return _by(producer.participant, kind(producer=producer.id))
    if aimed.what == "unplug":
        if not streams:
            return None
        stream = streams[number % len(streams)]
        return _by(stream.participant, m.CloseDataProducer(data_producer=stream.id))
    if aimed.what == "turn":
        view = View(page=list(Page)[number % len(Page)], item="k" * (number % 2))
        return _by(state.lead, m.TurnPage(context_version=version, view=view)) if state.lead else None
    actor, command = {
        "open": (one(Role.DOCTOR, Role.NURSE), m.OpenContext(patient=list(BY_ID)[number % len(BY_ID)])),
        "close": (one(Role.DOCTOR, Role.NURSE), m.CloseContext()),
        "lead": (one(Role.DOCTOR, Role.GUEST), m.TakeLead()),
        "confirm": (one(Role.DOCTOR, Role.GUEST, Role.SCREEN), m.ConfirmContext(version=version)),
        "produce": (one(Role.DOCTOR, Role.GUEST, Role.ROOM), produce(list(MediaSource)[number % 4])),
        "stream": (one(Role.DEVICE), produce_data(waveform(number + 1, "p1", simulated=number % 2 == 0))),
        "send": (one(Role.DOCTOR, Role.GUEST, Role.ROOM, Role.DEVICE), m.CreateTransport(direction="send")),
    }[aimed.what]
    return Asked(actor, command) if actor is not None else None


def _by(participant: ParticipantId, command: m.AnyCommand) -> Asked:
    return Asked(next(person for person in PEOPLE if person.participant == participant), command)


def answer(state: Consult, command: m.AnyCommand) -> m.MediaResult:
    """What a media plane says; ids never repeat because the revision does not."""
    name = f"m{state.revision}"
    match command:
        case m.Produce():
            return m.Produced(producer=ProducerId(name))
        case m.ProduceData():
            return m.DataProduced(data_producer=DataProducerId(name))
        case _:
            return m.Done()


def ask(state: Consult, asked: Asked, now_ms: int) -> list[m.AnyEvent]:
    """Everything the shell does around `handle`, without a shell."""
    command = asked.command
    wanted = None
    if isinstance(command, m.OpenContext):
        wanted = command.patient
    elif isinstance(command, m.ProduceData) and command.waveform is not None:
        wanted = command.waveform.patient
    patient = BY_ID.get(wanted) if wanted is not None else None
    handle(state, asked.actor, command, now_ms, Known(patient=patient))
    known = Known(patient=patient, media=answer(state, command), media_epoch=state.media_epoch)
    return handle(state, asked.actor, command, now_ms, known)


def happen(state: Consult, happened: Happened, now_ms: int) -> list[m.AnyEvent]:
    match happened.what:
        case "lost":
            return occurrences.socket_lost(state, happened.who, now_ms)
        case "grace over":
            return occurrences.grace_over(state, happened.who, now_ms)
        case "silent" | "healthy" as what:
            return occurrences.path_changed(state, happened.who, now_ms, healthy=what == "healthy")
        case "reset":
            return occurrences.worker_replaced(state, now_ms)
        case _:
            return occurrences.adopted(state, (), now_ms)


def events_of(state: Consult, step: Step, now_ms: int) -> list[m.AnyEvent]:
    """The events of one step; a refusal is no event."""
    if isinstance(step, Aimed):
        aimed = aim(state, step)
        if aimed is None:
            return []
        step = aimed
    try:
        return ask(state, step, now_ms) if isinstance(step, Asked) else happen(state, step, now_ms)
    except Refusal:
        return []


def run(state: Consult, script: Iterable[Step], now_ms: int = 1_000) -> tuple[Consult, list[m.AnyEvent]]:
    """Play a script; the state at its end and every event on the way."""
    history: list[m.AnyEvent] = []
    for step in script:
        now_ms += 10
        events = events_of(state, step, now_ms)
        state = reduce(apply, events, state)
        history += events
    return state, history


def empty() -> Consult:
    return consult(limit=5)
