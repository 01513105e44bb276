"""A program's event becomes the command that a participant would give, under the same rules. (H13, H24, H25) [PR1]

Nothing is decided here that a doctor's click would not decide: the commands go to `ConsultService.act`, which asks
the role table and the rules of the consult. What is particular to FHIRcast is who is meant (`core.match`), what comes
too late (H21), and that an event may say more than one command: `Encounter-open` of another patient opens both.
"""

from collections.abc import Callable, Sequence

from pydantic import ValidationError
from sqlalchemy import select

from server.fhircast.aio.service import FhircastService
from server.fhircast.aio.watch import Topic
from server.fhircast.core import names
from server.fhircast.core.match import claimed_anchor, claimed_patient, find_patient, foreign_anchor
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
        try:
            if await self._is_repeated(topic, request):
                service.run(service.hub.tell_again(topic.name, request.id, service.now_ms()))
                return
            await self._carry_out(token, topic, request)
        except Refusal as refusal:
            raise HubRefusal(_STATUS.get(refusal.code, 409), refusal.code.value, refusal.en) from None
        await service.catch_up(topic)

    async def _is_repeated(self, topic: Topic, request: EventRequest) -> bool:
        """The event that is open, or that was told last, sent once more after a SyncError. (H22)

        Raises:
            HubRefusal: 409, the id was another event's: to say yes to it would be to follow nobody.
        """
        opens = topic.state.opens.items()
        used = {f"{kind}-open" for kind, one in opens if one.request is not None and one.request.id == request.id}
        newest = [one.newest for one in self._service.hub.of(topic.name) if one.newest is not None]
        used |= {notice.name for notice in newest if notice.id == request.id}
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
        return kind == "Patient" or (anchor is not None and anchor.id == claimed_anchor(request, kind)["id"])

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
        resource = claimed_anchor(request, kind)
        facts = await self._facts(topic, identity, kind, resource, claim)
        first = Request(
            id=derived_id(topic.name, request.id, "Patient-open"), program=asked.program, event="Patient-open"
        )

        def open_anchor(state: Consult) -> m.AnyCommand:
            return m.OpenAnchor(context_version=state.context_version, resource_type=AnchorType(kind), id=facts.id)

        steps = [Step(open_anchor, Known(anchor=facts, request=asked))]
        state = topic.state
        if state.context is None or state.context.patient.id != identity:
            return [_step(request, lambda _: open_patient, Known(patient=banner, request=first)), *steps]
        return [_step(request, lambda now: _still(now, identity, open_anchor), steps[0].known)]

    async def _close(self, topic: Topic, request: EventRequest, known: Known, kind: str) -> Sequence[Step]:
        """Only what is open, named rightly, is closed. (H27)"""
        patient = await self._patient(topic, claimed_patient(request))
        identity = PatientId(patient["id"])
        resource = None if kind == "Patient" else claimed_anchor(request, kind)

        def close(state: Consult) -> m.AnyCommand:
            if resource is None:
                return _still(state, identity, lambda _: m.CloseContext())
            anchor = state.anchors.get(kind)
            if anchor is None or anchor.id != resource["id"]:
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

    async def _facts(
        self, topic: Topic, patient: PatientId, kind: str, resource: JsonObject, claim: JsonObject
    ) -> AnchorFacts:
        """Ours when the record has it, else as the program describes it. [AN1]"""
        stored = await self._service.store.resource(topic.state.id, patient, AnchorType(kind), resource["id"])
        return facts_of(stored) if stored is not None else foreign_anchor(resource, claim, patient)

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


def _step(request: EventRequest, make: Callable[[Consult], m.AnyCommand], known: Known) -> Step:
    """Refused when, at the moment of the commit, something newer has set the context. (H21)"""

    def checked(state: Consult) -> m.AnyCommand:
        if request.latest_ms < state.context_changed_at_ms:
            raise stale()
        return make(state)

    return Step(checked, known)


def _still(state: Consult, patient: PatientId, make: Callable[[Consult], m.AnyCommand]) -> m.AnyCommand:
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
