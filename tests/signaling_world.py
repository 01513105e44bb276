"""People, patients and devices among whom random scripts play, for property tests and golden vectors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

from hypothesis import strategies as st

from signaling.core import binding, ecg, occurrences, programs
from signaling.core import messages as m
from signaling.core.admission import Admission
from signaling.core.anchor import facts_of
from signaling.core.case import NoteFacts
from signaling.core.consult import Known, apply, handle
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import DataProducerId, ParticipantId, PatientId, ProducerId, TransportId
from signaling.core.model import (
    AnchorType,
    Area,
    Connection,
    Consult,
    EcgMarkDraft,
    EcgSnapshot,
    EcgState,
    IdentityPart,
    MediaSource,
    Page,
    PageShape,
    PatientBanner,
    ProgramTrouble,
    Request,
    Role,
    UnboundReason,
    View,
)
from tests.signaling_kit import (
    PATIENTS,
    admission,
    bind_device,
    consult,
    produce,
    produce_data,
    produce_vitals,
    vitals,
    waveform,
)

REPORT = "DiagnosticReport"


def put(id_: str, of: str = "p1", note: str = "") -> dict[str, object]:
    """An entry of a transaction: somebody's measurement."""
    resource = {"resourceType": "Observation", "id": id_, "subject": {"reference": f"Patient/{of}"}, "note": note}
    return {"request": {"method": "PUT"}, "resource": resource}


def bundle(*entries: dict[str, object]) -> dict[str, object]:
    return {"resourceType": "Bundle", "id": "b1", "type": "transaction", "entry": list(entries)}


def request(number: int, event: str = "Patient-open") -> Request:
    return Request(id=f"q{number}", program="PACS", event=event)


def trouble(number: int = 1, version: int = 1) -> ProgramTrouble:
    return ProgramTrouble(id=f"f{number}", key="k", name="PACS", reason="refused", context_version=version, at_ms=9)


SHAPE = PageShape(content="0" * 16, width=800, height=1600, language="zh-CN")

PEOPLE = (
    admission("doc", Role.DOCTOR).model_copy(update={"hub": True}),
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
    request: Request | None = None
    """Of an outside program that asks in the actor's name."""


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

AIMS = (
    *("open", "close", "lead", "turn", "confirm", "produce", "mute", "unmute", "stop", "stream", "unplug", "send"),
    *("bind", "bind", "stream", "vitals", "unbind", "report", "freeze", "release", "mark", "erase", "state"),
    *("highlight", "unlight", "page freeze", "page release", "note", "note error", "tick", "skip", "wrong"),
    *("anchor", "report open", "ask again", "anchor closed", "share", "select", "dismiss"),
)
HAPPENINGS = (
    *("lost", "grace over", "reset", "silent", "healthy", "adopted"),
    *("expired", "moved", "strip", "old strip", "no strip"),
    *("program out", "program in", "program said"),
)

_small = st.integers(0, 3)
_views = st.builds(View, page=st.sampled_from(Page), item=st.sampled_from(["", "glucose"]))
_fractions = st.floats(0, 1)
_people = st.sampled_from([p.participant for p in PEOPLE])
_patients = st.sampled_from([*BY_ID, PatientId("nobody")])
_producers = st.sampled_from([ProducerId(f"m{n}") for n in range(1, 5)])
_data_producers = st.sampled_from([DataProducerId(f"m{n}") for n in range(1, 5)])
_transport = st.just(TransportId("t"))
_devices = st.sampled_from([ParticipantId("monitor"), ParticipantId("ecg"), ParticipantId("doc")])
_places = st.integers(0, 5_000_000)
_marks = st.builds(
    EcgMarkDraft,
    id=st.sampled_from(["m1", "m2"]),
    stream_id=st.integers(1, 2),
    context_version=_small,
    kind=st.sampled_from(["marker", "note"]),
    lead=st.just("II"),
    from_us=_places,
    from_uv=st.integers(-5000, 5000),
)

_anchors = st.sampled_from(list(AnchorType))
_ids = st.sampled_from(["r1", "r2", "e1"])
_observations = st.sampled_from(["k1", "k2"])
_entries = st.one_of(
    st.builds(put, _observations, _patients),
    st.builds(lambda id_: {"fullUrl": f"Observation/{id_}", "request": {"method": "DELETE"}}, _observations),
    st.sampled_from([{}, {"request": {"method": "POST"}}, {"request": {"method": "PUT"}, "resource": {"id": 7}}]),
)
_bundles = st.builds(
    lambda entries: {"resourceType": "Bundle", "type": "transaction", "entry": entries}, st.lists(_entries, max_size=3)
)

_heard = st.lists(st.sampled_from(IdentityPart), min_size=2, max_size=4).map(tuple)
_strokes = st.lists(st.lists(st.integers(0, 20_000), min_size=4, max_size=9).map(tuple), min_size=1, max_size=2)

commands: st.SearchStrategy[m.AnyCommand] = st.one_of(
    st.builds(
        m.ShowHighlight,
        context_version=_small,
        view=_views,
        shape=st.just(SHAPE),
        area=st.just(Area(x=1, y=2, width=3, height=4)),
    ),
    st.builds(m.ClearHighlight),
    st.builds(
        m.FreezePage,
        id=st.sampled_from(["z1", "z2"]),
        context_version=_small,
        view=st.just(View()),
        shape=st.just(SHAPE),
    ),
    st.builds(m.ReleasePage),
    st.builds(
        m.PutNote,
        id=st.sampled_from(["n1", "n2"]),
        freeze=st.sampled_from(["z1", "z2"]),
        context_version=_small,
        strokes=_strokes.map(tuple),
    ),
    st.builds(m.MarkNoteInError, note=st.just("note-1"), context_version=_small, reason=st.just("wrong side")),
    st.builds(m.ShowView, context_version=_small, view=st.none() | _views),
    st.builds(m.TickIdentity, context_version=_small, heard=_heard),
    st.builds(m.SkipIdentityCheck, context_version=_small, reason=st.just("arrest")),
    st.builds(m.ReportWrongPatient, context_version=_small, reason=st.just("another name")),
    st.builds(m.OpenAnchor, context_version=_small, resource_type=_anchors, id=_ids),
    st.builds(m.CloseAnchor, context_version=_small, resource_type=_anchors),
    st.builds(m.ShareContent, report=_ids, version=st.sampled_from(["1", "2", "2.1", "3"]), bundle=_bundles),
    st.builds(
        m.SelectContent, context_version=_small, report=_ids, selected=st.sampled_from([(), ("Observation/k1",)])
    ),
    st.builds(m.DismissProgram, program=st.sampled_from(["f1", "f2"])),
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
    st.builds(bind_device, _devices, _patients, _small, minutes=st.integers(1, 1440)),
    st.builds(m.UnbindDevice, device=_devices),
    st.builds(m.ReportPatient, reported=st.sampled_from(["", "P1", "xp2", "stranger"])),
    st.builds(m.FreezeEcg, stream_id=st.integers(1, 2), context_version=_small, at_us=_places),
    st.builds(m.ReleaseEcg),
    st.builds(m.PutEcgMark, mark=_marks),
    st.builds(m.RemoveEcgMark, id=st.sampled_from(["m1", "m2"])),
    st.builds(
        m.ReportEcgState, stream_id=st.integers(1, 2), context_version=_small, state=st.sampled_from(list(EcgState))
    ),
    st.builds(produce_vitals, st.builds(vitals, _patients, simulated=st.booleans())),
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
    st.builds(Happened, st.sampled_from(HAPPENINGS), _people),
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
    if aimed.what in ("anchor", "report open", "ask again", "anchor closed", "share", "select", "dismiss"):
        return _aim_anchor(state, aimed.what, number, one(Role.DOCTOR, Role.NURSE))
    if aimed.what in (
        "highlight",
        "unlight",
        "page freeze",
        "page release",
        "note",
        "note error",
        "tick",
        "skip",
        "wrong",
    ):
        return _aim_mark(state, aimed.what, number, one(Role.DOCTOR, Role.NURSE, Role.GUEST))
    devices = [person for person in here if person.role is Role.DEVICE]
    device = devices[number % len(devices)] if devices else None
    if aimed.what in ("bind", "unbind", "stream", "vitals", "report"):
        return _aim_device(state, aimed.what, number, device, one(Role.DOCTOR, Role.NURSE, Role.ROOM))
    draft = EcgMarkDraft(
        id=f"k{number % 3}",
        stream_id=1,
        context_version=version,
        kind="note",
        lead="V1",
        from_us=number,
        from_uv=number,
    )
    actor, command = {
        "freeze": (one(Role.DOCTOR, Role.GUEST), m.FreezeEcg(stream_id=1, context_version=version, at_us=number)),
        "release": (one(Role.NURSE, Role.GUEST), m.ReleaseEcg()),
        "mark": (one(Role.DOCTOR, Role.GUEST), m.PutEcgMark(mark=draft)),
        "erase": (one(Role.DOCTOR, Role.GUEST), m.RemoveEcgMark(id=draft.id)),
        "state": (
            one(Role.DOCTOR, Role.SCREEN),
            m.ReportEcgState(stream_id=1, context_version=version, state=list(EcgState)[number % 4]),
        ),
        "open": (one(Role.DOCTOR, Role.NURSE), m.OpenContext(patient=list(BY_ID)[number % len(BY_ID)])),
        "close": (one(Role.DOCTOR, Role.NURSE), m.CloseContext()),
        "lead": (one(Role.DOCTOR, Role.GUEST), m.TakeLead()),
        "confirm": (one(Role.DOCTOR, Role.GUEST, Role.SCREEN), m.ConfirmContext(version=version)),
        "produce": (one(Role.DOCTOR, Role.GUEST, Role.ROOM), produce(list(MediaSource)[number % 4])),
        "send": (one(Role.DOCTOR, Role.GUEST, Role.ROOM, Role.DEVICE), m.CreateTransport(direction="send")),
    }[aimed.what]
    return Asked(actor, command) if actor is not None else None


def _aim_anchor(state: Consult, what: str, number: int, actor: Admission | None) -> Asked | None:
    """Work on a report, by somebody here or by a program in their name."""
    version, content = state.context_version, state.content
    kind = list(AnchorType)[number % 3]
    asked = request(number) if number % 2 else None
    if actor is None:
        return None
    match what:
        case "report open":
            command: m.AnyCommand = m.OpenAnchor(context_version=version, resource_type=REPORT, id=f"r{number % 2}")
        case "ask again" if state.context is not None:
            command, asked = m.OpenContext(patient=state.context.patient.id), request(number)
        case "anchor closed":
            command = m.CloseAnchor(context_version=version, resource_type=kind)
        case "share" if content is not None and state.context is not None:
            gone = {"fullUrl": "Observation/k0", "request": {"method": "DELETE"}}
            entries = (
                put(f"k{number % 3}", state.context.patient.id, str(number)),
                *([gone] if number % 4 == 1 else []),
            )
            command = m.ShareContent(report=content.report, version=content.version, bundle=bundle(*entries))
        case "select" if content is not None:
            chosen = tuple(content.resources)[: number % 3]
            command = m.SelectContent(context_version=version, report=content.report, selected=chosen)
        case "dismiss" if state.programs:
            command = m.DismissProgram(program=next(iter(state.programs)))
        case "anchor":
            command = m.OpenAnchor(context_version=version, resource_type=kind, id=f"r{number % 2}")
        case _:
            return None
    return Asked(actor, command, asked)


def _aim_mark(state: Consult, what: str, number: int, actor: Admission | None) -> Asked | None:
    """Marks on the page that all look at, and the identity check."""
    version, view, area = state.context_version, state.view, Area(x=number, y=9, width=100, height=50)
    if actor is None:
        return None
    held = state.page_freeze.id if state.page_freeze is not None else "none"
    commands: dict[str, m.AnyCommand] = {
        "highlight": m.ShowHighlight(context_version=version, view=view, shape=SHAPE, area=area),
        "unlight": m.ClearHighlight(),
        "page freeze": m.FreezePage(id=f"z{number}", context_version=version, view=view, shape=SHAPE),
        "page release": m.ReleasePage(),
        "note": m.PutNote(
            id=f"n{number}", freeze=held, context_version=version, strokes=((0, 0, 9_999, number),), text="看这里"
        ),
        "note error": m.MarkNoteInError(note="note-1", context_version=version, reason="wrong side"),
        "tick": m.TickIdentity(context_version=version, heard=(IdentityPart.NAME, IdentityPart.BIRTH_DATE)),
        "skip": m.SkipIdentityCheck(context_version=version, reason="arrest"),
        "wrong": m.ReportWrongPatient(context_version=version, reason="another name"),
    }
    return Asked(actor, commands[what])


def _aim_device(
    state: Consult, what: str, number: int, device: Admission | None, staff: Admission | None
) -> Asked | None:
    """What a device and the people at its bedside do."""
    if device is None:
        return None
    bound = state.bindings.get(device.participant)
    patient = BY_ID[bound.patient] if bound is not None else PATIENTS[0]
    pretended = patient.test and number % 2 == 0
    match what:
        case "bind":
            if state.context is None:
                return None
            command = bind_device(device.participant, state.context.patient.id, state.context.version)
            return Asked(staff if staff is not None and number % 3 else device, command)
        case "unbind":
            return Asked(device if staff is None else staff, m.UnbindDevice(device=device.participant))
        case "report":
            return Asked(device, m.ReportPatient(reported=["", patient.id, "stranger"][number % 3]))
        case "stream":
            return Asked(device, produce_data(waveform(number + 1, patient.id, simulated=pretended)))
        case _:
            return Asked(device, produce_vitals(vitals(patient.id, simulated=pretended)))


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
    elif isinstance(command, m.ProduceData) and (source := command.waveform or command.vitals) is not None:
        wanted = source.patient
    patient = BY_ID.get(wanted) if wanted is not None else None
    anchor = None
    if isinstance(command, m.OpenAnchor):
        anchor = facts_of({"resourceType": command.resource_type, "id": command.id, "description": "Thorax"})
    note = None
    if isinstance(command, m.MarkNoteInError):
        note = NoteFacts(id=command.note, by=PEOPLE[0].participant, in_error=False)
    first = Known(patient=patient, anchor=anchor, note=note, request=asked.request)
    handle(state, asked.actor, command, now_ms, first)
    known = replace(first, media=answer(state, command), media_epoch=state.media_epoch)
    return handle(state, asked.actor, command, now_ms, known)


def happen(state: Consult, happened: Happened, now_ms: int) -> list[m.AnyEvent]:
    match happened.what:
        case "lost":
            return occurrences.socket_lost(state, happened.who, now_ms)
        case "grace over":
            who = state.participants.get(happened.who)
            is_away = who is not None and who.connection is Connection.RECONNECTING
            return occurrences.removed(state, happened.who, now_ms) if is_away else []
        case "silent" | "healthy" as what:
            return occurrences.path_changed(state, happened.who, now_ms, healthy=what == "healthy")
        case "reset":
            return occurrences.worker_replaced(state, now_ms)
        case "expired":
            return binding.expired(state, now_ms + 4 * 3_600_000)
        case "moved":
            return binding.of_patient(state, PATIENTS[0].id, UnboundReason.TRANSFERRED, now_ms)
        case "strip":
            return ecg.snapshot_taken(state, strip(state.revision, state.context_version), now_ms)
        case "old strip":
            return ecg.snapshot_taken(state, strip(state.revision, state.context_version + 1), now_ms)
        case "no strip":
            return ecg.snapshot_failed(state, f"s{state.revision}", ParticipantId("doc"), ErrorCode.NOT_FOUND, now_ms)
        case "program out":
            return programs.out_of_step(state, trouble(1 + now_ms % 2, state.context_version), now_ms)
        case "program in":
            return programs.in_step(state, f"f{1 + now_ms % 2}", now_ms)
        case "program said":
            return programs.said(state, happened.who, request(1, "UserLogout"), ({"key": "k"},), now_ms)
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


def strip(number: int, version: int) -> EcgSnapshot:
    """What an archive stored."""
    return EcgSnapshot(
        id=f"s{number}",
        stream_id=1,
        context_version=version,
        at_us=11_000_000,
        from_us=1_000_000,
        to_us=21_000_000,
        by=ParticipantId("doc"),
        at_ms=11_000,
        sha256="0" * 64,
        gaps=0,
        lost=0,
    )


def empty() -> Consult:
    return consult(limit=5)
