"""A program's event becomes the command that a participant would give, under the same rules. (H13, H24, H25) [PR1]

Nothing is decided here that a doctor's click would not decide: the commands go to `ConsultService.act`, which asks
the role table and the rules of the consult. What is particular to FHIRcast is who is meant (`core.match`), what comes
too late (H21), and that an event may say more than one command: `Encounter-open` of another patient opens both.
"""

import asyncio
from collections.abc import Callable, Sequence

from pydantic import ValidationError
from sqlalchemy import select

from server.fhircast.aio.lookup import alike
from server.fhircast.aio.service import FhircastService
from server.fhircast.aio.watch import Topic
from server.fhircast.core import names
from server.fhircast.core.match import (
    check_subject,
    claimed_anchor,
    claimed_patient,
    find_anchor,
    find_patient,
    foreign_anchor,
)
from server.fhircast.core.notices import blamed_event, derived_id, refused_request
from server.fhircast.core.refusals import HubRefusal, malformed, stale, unknown_resource
from server.fhircast.core.requests import EventRequest
from server.record.aio.store import find_one
from server.smart.aio.bearer import AccessToken
from server.storage.models import ConsultPatient
from signaling.aio.service import Step
from signaling.core import messages as m
from signaling.core import programs
from signaling.core.admission import Admission
from signaling.core.anchor import facts_of
from signaling.core.case import AnchorFacts, Known
from signaling.core.content import size_bytes
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import PatientId
from signaling.core.model import AnchorType, Consult, JsonObject, PatientBanner, ProgramTrouble, Request

MAX_SAID_BYTES = 8_192
"""Of what programs tell each other: it stays in the log."""
TAKE_S = 15.0
"""For one event of a program, its turn included; what is not done by then may be done all the same."""
OURSELVES = "Consilium"

_STATUS = {
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.NOT_ALLOWED: 403,
    ErrorCode.NOT_JOINED: 403,
    ErrorCode.MALFORMED: 400,
    ErrorCode.CONTENT_TOO_LARGE: 413,
    ErrorCode.TOO_BUSY: 503,
    ErrorCode.INTERNAL: 500,
}
"""Everything else is a conflict with what is so now."""


class Driver:
    """Events of programs, carried out."""

    def __init__(self, service: FhircastService) -> None:
        self._service = service

    async def take(self, token: AccessToken, request: EventRequest) -> None:
        """Carry out one event; when this returns it is committed and told here.

        Raises:
            HubRefusal: declined, nothing happened.
        """
        service = self._service
        topic = await service.topic_for(token, request.topic)
        if not token.scopes.allows_event(request.name, "write"):
            raise HubRefusal(403, "not_allowed", "The token's scopes do not cover this event.")
        async with asyncio.timeout(TAKE_S), topic.driving:
            try:
                await service.catch_up(topic)
                if await self._is_repeated(topic, request):
                    service.run(service.hub.tell_again(topic.name, request.id, service.now_ms()))
                    return
                await self._carry_out(token, topic, request)
            except Refusal as refusal:
                raise HubRefusal(_STATUS.get(refusal.code, 409), refusal.code.value, refusal.en) from None
            await service.catch_up(topic)

    async def _is_repeated(self, topic: Topic, request: EventRequest) -> bool:
        """The event that is open, sent once more after a SyncError (H22), or one whose answer was lost on the way.

        Raises:
            HubRefusal: 409, the id was another event's: to say yes to it would be to follow nobody.
        """
        opens = topic.state.opens.items()
        used = {f"{kind}-open" for kind, one in opens if one.request is not None and one.request.id == request.id}
        done = topic.asked.get(request.id)
        if done is not None and not (done.endswith("-open") and done == request.name):
            used.add(done)
        if not used:
            return False
        if used != {request.name} or not await self._means_what_is_open(topic, request):
            raise HubRefusal(409, "conflict", "The id was used for another event.")
        return True

    async def _means_what_is_open(self, topic: Topic, request: EventRequest) -> bool:
        kind, _, verb = request.name.partition("-")
        if verb != "open" or request.name == names.HOME_OPEN:
            return True
        patient, state = await self._patient(topic, claimed_patient(request)), topic.state
        if state.context is None or state.context.patient.id != patient["id"]:
            return False
        anchor = state.anchors.get(kind)
        if kind == "Patient" or anchor is None:
            return kind == "Patient"
        return anchor.id == await self._named(topic, PatientId(patient["id"]), request, kind)

    async def _carry_out(self, token: AccessToken, topic: Topic, request: EventRequest) -> None:
        kind, _, verb = request.name.partition("-")
        actor = await self._service.admission(token, topic)
        if request.name == names.SYNC_ERROR:
            await self._blame(token, topic, request)
        elif names.is_own(request.name) or request.name in (names.USER_LOGOUT, names.USER_HIBERNATE):
            await self._say(token, topic, actor, request)
        else:
            asked = Request(id=request.id, program=await self._name(token, topic), event=request.name)
            steps = await self._steps(topic, request, asked, kind, verb)
            await self._service.consults.act(actor, steps)

    async def _steps(self, topic: Topic, request: EventRequest, asked: Request, kind: str, verb: str) -> Sequence[Step]:
        known = Known(request=asked)
        match verb:
            case _ if request.name == names.HOME_OPEN:
                return [_step(request, lambda _: m.CloseContext(), known)]
            case "open":
                return await self._open(topic, request, asked, kind)
            case "close":
                return await self._close(topic, request, known, kind)
            case "update":
                report, bundle = _report(request), request.resource("updates")
                if bundle is None or request.version is None:
                    raise malformed("DiagnosticReport-update needs context.versionId and a Bundle under updates.")
                command = _share(report, request.version, bundle)
                return [Step(lambda state: _of_open_patient(state, request, command), known)]
            case _:
                report, chosen = _report(request), request.references("select")

                def select_content(state: Consult) -> m.AnyCommand:
                    version = state.context_version
                    return _of_open_patient(state, request, _select(version, report, chosen))

                return [_step(request, select_content, known)]

    # ------------------------------------------------------------ open and close

    async def _open(self, topic: Topic, request: EventRequest, asked: Request, kind: str) -> Sequence[Step]:
        claim = claimed_patient(request)
        patient = await self._patient(topic, claim)
        identity = PatientId(patient["id"])
        banner = await self._banner(topic, identity)
        open_patient = m.OpenContext(patient=identity)
        if kind == "Patient":
            return [_step(request, lambda _: open_patient, Known(patient=banner, request=asked))]
        anchors = await self._anchors(topic, identity, request, claim, kind)
        steps = [
            Step(_opening(facts, only_if_new=facts is not anchors[-1]), Known(anchor=facts, request=by))
            for facts in anchors
            for by in [asked if facts is anchors[-1] else _part_of(topic, request, asked, facts.resource_type.value)]
        ]
        state = topic.state
        if state.context is None or state.context.patient.id != identity:
            first = Known(patient=banner, request=_part_of(topic, request, asked, "Patient"))
            return [_step(request, lambda _: open_patient, first), *steps]
        return [_step(request, lambda now: _still(now, identity, lambda _: None), Known()), *steps]

    async def _anchors(
        self, topic: Topic, patient: PatientId, request: EventRequest, claim: JsonObject, kind: str
    ) -> list[AnchorFacts]:
        """What the event opens, what it is about before itself: a report may bring its study and encounter."""
        anchors: list[AnchorFacts] = []
        about: dict[str, str] = {}
        for one in (*names.COMPANIONS.get(kind, ()), AnchorType(kind)):
            of = one.value
            if of != kind and request.resource(names.KEYS[of]) is None:
                continue
            resource = claimed_anchor(request, of)
            check_subject(resource, claim, patient)
            stored = await self._stored(topic, patient, of, resource)
            facts = foreign_anchor(resource, patient, about) if stored is None else facts_of(stored)
            about[of] = facts.id
            anchors.append(facts)
        return anchors

    async def _close(self, topic: Topic, request: EventRequest, known: Known, kind: str) -> Sequence[Step]:
        """Only what is open, named rightly, is closed. (H27)"""
        patient = await self._patient(topic, claimed_patient(request))
        identity = PatientId(patient["id"])
        named = None if kind == "Patient" else await self._named(topic, identity, request, kind)

        def close(state: Consult) -> m.AnyCommand | None:
            if named is None:
                return _still(state, identity, lambda _: m.CloseContext())
            anchor = state.anchors.get(kind)
            if anchor is None or anchor.id != named:
                raise Refusal(ErrorCode.CONTEXT_CHANGED)
            closing = m.CloseAnchor(context_version=state.context_version, resource_type=AnchorType(kind))
            return _still(state, identity, lambda _: closing)

        return [_step(request, close, known)]

    async def _patient(self, topic: Topic, claim: JsonObject) -> JsonObject:
        """[CX1] Of this consult's patients only. (H24)"""
        query = (
            select(ConsultPatient.patient_id)
            .where(ConsultPatient.consult_id == topic.state.id)
            .order_by(ConsultPatient.position)
        )
        async with self._service.database.read() as session:
            ids = (await session.scalars(query)).all()
            stored = [await find_one(session, id_, "Patient", id_) for id_ in ids]
        return find_patient(claim, [one for one in stored if one is not None])

    async def _banner(self, topic: Topic, patient: PatientId) -> PatientBanner:
        banner = await self._service.store.patient(topic.state.id, patient)
        if banner is None:
            raise unknown_resource()
        return banner

    async def _named(self, topic: Topic, patient: PatientId, request: EventRequest, kind: str) -> str:
        """Our id of the resource that an event is about."""
        resource = claimed_anchor(request, kind)
        stored = await self._stored(topic, patient, kind, resource)
        return str(resource["id"] if stored is None else stored["id"])

    async def _stored(self, topic: Topic, patient: PatientId, kind: str, resource: JsonObject) -> JsonObject | None:
        """Ours when the record has it, by id or by identifiers. [AN1]"""
        async with self._service.database.read() as session:
            candidates = await alike(session, topic.state.id, kind, resource)
        return find_anchor(resource, patient, candidates)

    # ------------------------------------------------------------ what changes nothing

    async def _say(self, token: AccessToken, topic: Topic, actor: Admission, request: EventRequest) -> None:
        """For the other programs; of a logout our own sessions say that they do not follow. (H11, H30) [PR5]"""
        service = self._service
        if size_bytes(list(request.context)) > MAX_SAID_BYTES:
            raise Refusal(ErrorCode.CONTENT_TOO_LARGE)
        asked = Request(id=request.id, program=await self._name(token, topic), event=request.name)

        def decide(state: Consult) -> list[m.AnyEvent]:
            return programs.said(state, actor.participant, asked, request.context, service.now_ms())

        await service.consults.note(topic.state.id, actor.participant, decide)
        if not names.is_own(request.name):
            reason = f"{OURSELVES} keeps the person's own session; it ends by signing out there."
            notice = refused_request(topic.name, request.name, request.id, OURSELVES, reason, service.now_ms())
            told = service.hub.tell_asker(topic.name, token.client, token.subject or "", notice, service.now_ms())
            await service.catch_up(topic)
            service.run(told)

    async def _blame(self, token: AccessToken, topic: Topic, request: EventRequest) -> None:
        """A subscriber will not follow after all: of its own subscription here, or of one on another node. (H16)"""
        service = self._service
        blamed = blamed_event(request.context)
        if blamed is None:
            raise malformed("SyncError needs an OperationOutcome with the coding eventid.")
        subject = token.subject or ""
        actions = service.hub.blamed(topic.name, token.client, subject, blamed[0], service.now_ms(), name=blamed[2])
        service.run(actions)
        own = [one for one in service.hub.of(topic.name) if one.program.client == token.client]
        if actions or own:
            return
        program = await service.program(token, topic)
        trouble = ProgramTrouble(
            id=program.key,
            key=program.key,
            name=program.name,
            reason="refused",
            event_id=blamed[0][:128],
            event=blamed[1][:64],
            context_version=topic.state.context_version,
            at_ms=service.now_ms(),
        )
        service.accuse(topic.state.id, trouble)

    async def _name(self, token: AccessToken, topic: Topic) -> str:
        """The subscriber's own name, if this program has subscribed here."""
        for one in self._service.hub.of(topic.name):
            if (one.program.client, one.program.subject) == (token.client, token.subject):
                return one.program.name
        return (await self._service.program(token, topic)).name


def _opening(facts: AnchorFacts, *, only_if_new: bool) -> Callable[[Consult], m.AnyCommand | None]:
    def open_anchor(state: Consult) -> m.AnyCommand | None:
        before = state.anchors.get(facts.resource_type.value)
        if only_if_new and before is not None and before.id == facts.id:
            return None
        return m.OpenAnchor(context_version=state.context_version, resource_type=facts.resource_type, id=facts.id)

    return open_anchor


def _part_of(topic: Topic, request: EventRequest, asked: Request, kind: str) -> Request:
    """What is opened with what was asked for has an id of its own. (H12)"""
    event = f"{kind}-open"
    return Request(id=derived_id(topic.name, request.id, event), program=asked.program, event=event)


def _step(request: EventRequest, make: Callable[[Consult], m.AnyCommand | None], known: Known) -> Step:
    """Refused when, at the moment of the commit, something newer has set the context. (H21)"""

    def checked(state: Consult) -> m.AnyCommand | None:
        if request.latest_ms < state.context_changed_at_ms:
            raise stale()
        return make(state)

    return Step(checked, known)


def _still(state: Consult, patient: PatientId, make: Callable[[Consult], m.AnyCommand | None]) -> m.AnyCommand | None:
    if state.context is None or state.context.patient.id != patient:
        raise Refusal(ErrorCode.CONTEXT_CHANGED)
    return make(state)


def _of_open_patient(state: Consult, request: EventRequest, command: m.AnyCommand) -> m.AnyCommand:
    """The event may name its patient; then it is the open one."""
    named = request.references("patient")
    if named and (state.context is None or named[0] != f"Patient/{state.context.patient.id}"):
        raise Refusal(ErrorCode.CONTEXT_CHANGED)
    return command


def _report(request: EventRequest) -> str:
    found = request.references("report")
    if len(found) != 1 or not found[0].startswith("DiagnosticReport/"):
        raise malformed("context needs the key report with a reference to a DiagnosticReport.")
    return found[0].removeprefix("DiagnosticReport/")


def _share(report: str, version: str, bundle: JsonObject) -> m.AnyCommand:
    try:
        return m.ShareContent(report=report, version=version, bundle=bundle)
    except ValidationError:
        raise malformed("The report or context.versionId cannot be read.") from None


def _select(version: int, report: str, chosen: tuple[str, ...]) -> m.AnyCommand:
    try:
        return m.SelectContent(context_version=version, report=report, selected=chosen)
    except ValidationError:
        raise malformed("A reference cannot be read.") from None
