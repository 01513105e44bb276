"""What subscribers are told, from the one truth: the consult's state and its events. (H6, H10, H12, H14, H26)

A notice is made from an event of the consult and nothing else, so every node tells the same one: its time is the
event's, its id that of the program's request or one that follows from topic and revision.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, get_args

from server.fhircast.core import names
from server.smart.core.scopes import Scopes
from signaling.core import messages as m
from signaling.core.model import AnchorType, Consult, ContextType, JsonObject, Opened, ProgramTrouble, Request

Resources = Mapping[str, JsonObject]
"""Resources of the record by reference, e.g. ``Patient/pt1``."""

_SPACE: Final = uuid.UUID("5c1f0a58-2f0e-4b46-9a1c-6a9a6b7c1f10")
_SYNC_SYSTEM: Final = "https://fhircast.hl7.org/events/syncerror/"
_TYPES: Final[tuple[ContextType, ...]] = get_args(ContextType)
_SHARED_OF_PATIENT: Final = ("identifier", "name", "gender", "birthDate")
_REASONS: Final = {
    "refused": "refused to follow the context",
    "failed": "could not follow the context",
    "silent": "did not answer",
    "lost": "lost its connection",
    "slow": "reads too slowly",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One event as FHIRcast tells it."""

    id: str
    at_ms: int
    name: str
    context: tuple[JsonObject, ...]
    version: str | None = None
    prior: str | None = None
    only: str | None = None
    """Participant whose own programs are meant; None: everybody's."""
    skip: str | None = None
    """Subscription that it is about and that is not told."""

    def wire(self, topic: str, scopes: Scopes) -> JsonObject:
        """As one subscriber gets it: resources that its scopes do not cover are left out. (H10, H23)"""
        event: JsonObject = {"hub.topic": topic, "hub.event": self.name, "context": self.visible(scopes)}
        if self.version is not None:
            event["context.versionId"] = self.version
        if self.prior is not None:
            event["context.priorVersionId"] = self.prior
        return {"timestamp": iso(self.at_ms), "id": self.id, "event": event}

    def visible(self, scopes: Scopes) -> list[JsonObject]:
        """The entries whose resources the scopes cover."""
        own = self.name.partition("-")[0]
        return [entry for entry in self.context if _covered(entry, own, scopes)]


def _covered(entry: JsonObject, own: str, scopes: Scopes) -> bool:
    resource = entry.get("resource")
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    return kind not in names.ANCHORS or kind == own or scopes.allows_event(f"{kind}-open", "read")


def iso(at_ms: int) -> str:
    """UTC with milliseconds."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def derived_id(topic: str, *parts: object) -> str:
    """The same id on every node and at every repetition, and no other event's."""
    return str(uuid.uuid5(_SPACE, "\n".join((topic, *map(str, parts)))))


def needed(state: Consult) -> list[str]:
    """References of the record's resources that a notice about this state may hold."""
    if state.context is None:
        return []
    anchors = [f"{kind}/{one.id}" for kind, one in state.anchors.items() if one.resource is None]
    return [f"Patient/{state.context.patient.id}", *anchors]


def present(topic: str, state: Consult, resources: Resources) -> list[Notice]:
    """The most recent opening of each type that is not closed, as it was told then; oldest first. (H6)"""
    opens = sorted(state.opens.items(), key=lambda one: one[1].revision)
    return [_open_notice(topic, state, kind, opened, resources) for kind, opened in opens if kind in _TYPES]


def notices_of(topic: str, before: Consult, event: m.AnyEvent, after: Consult, resources: Resources) -> list[Notice]:
    """What an event of the consult means to the programs.

    Args:
        resources: what `needed` of ``before`` and of ``after`` named.
    """
    told = _Teller(topic, before, after, resources)
    match event:
        case m.ContextOpened():
            return [*told.anchors_closed(event), *told.opened("Patient")]
        case m.ContextResumed():
            return told.opened(event.current)
        case m.AnchorOpened():
            return told.opened(event.anchor.resource_type.value)
        case m.ContextClosed():
            return [*told.anchors_closed(event), *told.closed("Patient", event, event.request)]
        case m.AnchorClosed():
            return told.closed(event.resource_type.value, event, event.request)
        case m.ContentShared():
            return told.shared(event)
        case m.ContentSelected():
            return told.selected(event)
        case m.ProgramOutOfStep():
            return [sync_error(topic, event.program, event.at_ms, event.revision)]
        case m.ProgramSaid():
            only = event.by if event.request.event in (names.USER_LOGOUT, names.USER_HIBERNATE) else None
            return [told.plain(event, event.request.event, event.request, event.context, only)]
        case m.ParticipantLeft():
            return [told.plain(event, names.USER_LOGOUT, None, (), event.participant)]
        case m.ConsultEnded():
            closed = told.closed("Patient", event, None) if before.context is not None else []
            return [*told.anchors_closed(event), *closed, told.plain(event, names.USER_LOGOUT, None, (), None)]
        case _:
            return []


@dataclass(frozen=True, slots=True)
class _Teller:
    """One event between two states."""

    topic: str
    before: Consult
    after: Consult
    resources: Resources

    def opened(self, kind: ContextType) -> list[Notice]:
        return [_open_notice(self.topic, self.after, kind, self.after.opens[kind], self.resources)]

    def closed(self, kind: ContextType, event: m.Event, request: Request | None) -> list[Notice]:
        """Going home is a request of its own; what it closes is told as closed first."""
        home = request is not None and request.event == names.HOME_OPEN
        notice = self._closing(kind, event, _id(self.topic, event.revision, None if home else request, "closed"))
        return [notice, *([self.plain(event, names.HOME_OPEN, request, (), None)] if home else [])]

    def anchors_closed(self, event: m.Event) -> list[Notice]:
        """What was open beside a patient goes with the patient, newest first: a program may hear of nothing else."""
        opens = sorted(self.before.opens.items(), key=lambda one: -one[1].revision)
        gone = [kind for kind, _ in opens if kind in _TYPES and kind in self.before.anchors]
        return [self._closing(kind, event, derived_id(self.topic, event.revision, kind, "closed")) for kind in gone]

    def _closing(self, kind: str, event: m.Event, id_: str) -> Notice:
        return Notice(
            id=id_,
            at_ms=event.at_ms,
            name=f"{kind}-close",
            context=_entries(self.before, kind, self.resources),
            version=str(self.after.context_version),
        )

    def shared(self, event: m.ContentShared) -> list[Notice]:
        context = (*self._report(event.report), {"key": "updates", "resource": event.bundle})
        notice = self.plain(event, names.REPORT_UPDATE, event.request, context, None)
        return [replace(notice, version=event.version, prior=event.prior_version)]

    def selected(self, event: m.ContentSelected) -> list[Notice]:
        chosen = tuple({"key": "select", "reference": {"reference": one}} for one in event.selected)
        return [self.plain(event, names.REPORT_SELECT, event.request, (*self._report(event.report), *chosen), None)]

    def plain(
        self, event: m.Event, name: str, request: Request | None, context: Iterable[JsonObject], only: str | None
    ) -> Notice:
        return Notice(
            id=_id(self.topic, event.revision, request, name),
            at_ms=event.at_ms,
            name=name,
            context=tuple(context),
            only=only,
        )

    def _report(self, report: str) -> tuple[JsonObject, ...]:
        patient = self.after.context.patient.id if self.after.context is not None else ""
        return (
            {"key": "report", "reference": {"reference": f"DiagnosticReport/{report}"}},
            {"key": "patient", "reference": {"reference": f"Patient/{patient}"}},
        )


def current_context(state: Consult, topic: str, resources: Resources, scopes: Scopes) -> JsonObject:
    """What is open now, for who may know; nothing for who may not. (H26, H27)"""
    kind = state.current
    opened = state.opens.get(kind) if kind is not None else None
    if kind is None or opened is None or not scopes.allows_event(f"{kind}-open", "read"):
        return {"context.type": "", "context.versionId": str(state.context_version), "context": []}
    notice = _open_notice(topic, state, kind, opened, resources)
    content: list[JsonObject] = []
    version = str(state.context_version)
    if kind == AnchorType.DIAGNOSTIC_REPORT.value and state.content is not None:
        version = state.content.version
        if scopes.allows_event(names.REPORT_UPDATE, "read"):
            content = [{"resource": one} for one in state.content.resources.values()]
    shared = {"resourceType": "Bundle", "id": derived_id(topic, version), "type": "collection", "entry": content}
    return {
        "context.type": kind,
        "context.versionId": version,
        "context": [*notice.visible(scopes), {"key": "content", "resource": shared}],
    }


def sync_error(topic: str, program: ProgramTrouble, at_ms: int, revision: int) -> Notice:
    """Somebody does not follow: for all the others. (H17, H18, H19)"""
    codes = {"eventid": program.event_id, "eventname": program.event, "subscriber": program.name}
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "warning",
                "code": "processing",
                "diagnostics": f"{program.name} {_REASONS[program.reason]}",
                "details": {"coding": [{"system": _SYNC_SYSTEM + name, "code": code} for name, code in codes.items()]},
            }
        ],
    }
    return Notice(
        id=derived_id(topic, revision, names.SYNC_ERROR),
        at_ms=at_ms,
        name=names.SYNC_ERROR,
        context=({"key": "operationoutcome", "resource": outcome},),
        skip=program.id,
    )


def refused_request(topic: str, name: str, id_: str, subscriber: str, reason: str, at_ms: int) -> Notice:
    """A request that is declined after all, for its asker only. (H13)"""
    codes = {"eventid": id_, "eventname": name, "subscriber": subscriber}
    coding = [{"system": _SYNC_SYSTEM + key, "code": code} for key, code in codes.items()]
    issue = {"severity": "warning", "code": "processing", "diagnostics": reason, "details": {"coding": coding}}
    outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
    return Notice(
        id=derived_id(topic, id_, names.SYNC_ERROR, at_ms),
        at_ms=at_ms,
        name=names.SYNC_ERROR,
        context=({"key": "operationoutcome", "resource": outcome},),
    )


def blamed_event(context: Iterable[JsonObject]) -> tuple[str, str, str] | None:
    """Id and name of the event that a subscriber's SyncError is about, and the subscriber; None: not said. (H16)"""
    for entry in context:
        resource = entry.get("resource")
        for issue in _dicts(resource.get("issue") if isinstance(resource, dict) else None):
            details = issue.get("details")
            coding = _dicts(details.get("coding") if isinstance(details, dict) else None)
            codes = {one.get("system"): one.get("code") for one in coding}
            said = [codes.get(_SYNC_SYSTEM + key) for key in ("eventid", "eventname", "subscriber")]
            id_, name, subscriber = [one if isinstance(one, str) else "" for one in said]
            if id_:
                return id_, name, subscriber
    return None


def _dicts(value: Any) -> list[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _open_notice(topic: str, state: Consult, kind: ContextType, opened: Opened, resources: Resources) -> Notice:
    version = str(state.context_version)
    if kind == AnchorType.DIAGNOSTIC_REPORT.value and state.content is not None:
        version = state.content.version
    return Notice(
        id=_id(topic, opened.revision, opened.request, f"{kind}-open"),
        at_ms=opened.at_ms,
        name=f"{kind}-open",
        context=_entries(state, kind, resources),
        version=version,
    )


def _id(topic: str, revision: int, request: Request | None, what: str) -> str:
    return request.id if request is not None else derived_id(topic, revision, what)


def _entries(state: Consult, kind: str, resources: Resources) -> tuple[JsonObject, ...]:
    """The whole context of one type: understood without any other event (H12); own resource first, patient last."""
    patient = {"key": "patient", "resource": patient_of(state, resources)}
    if kind == "Patient":
        return (patient,)
    own = _anchor(state, kind, resources)
    about = [one for one in ("Encounter", "ImagingStudy") if one != kind and one in state.anchors]
    beside = [one for one in about if f"{one}/{state.anchors[one].id}" in references_of(own)]
    found = [(kind, own), *((one, _anchor(state, one, resources)) for one in beside)]
    return (*({"key": names.KEYS[of], "resource": resource} for of, resource in found), patient)


def references_of(resource: JsonObject) -> set[str]:
    """The encounter and the studies that a report or a study says it is about.

    Whatever else happens to be open is not: two studies of one patient are as easily mixed up as two patients.
    """
    study = resource.get("imagingStudy")
    named = [resource.get("encounter"), *(study if isinstance(study, list) else [])]
    return {str(one["reference"]) for one in named if isinstance(one, dict) and one.get("reference")}


def _anchor(state: Consult, kind: str, resources: Resources) -> JsonObject:
    anchor = state.anchors[kind]
    resource = anchor.resource or resources.get(f"{kind}/{anchor.id}")
    assert state.context is not None
    subject = {"reference": f"Patient/{state.context.patient.id}"}
    return resource or {"resourceType": kind, "id": anchor.id, "subject": subject}


def patient_of(state: Consult, resources: Resources) -> JsonObject:
    """Who is open, with what another program needs to make sure that it is the same person, and no more. (H24)"""
    assert state.context is not None
    banner = state.context.patient
    stored = resources.get(f"Patient/{banner.id}", {})
    patient: JsonObject = {"resourceType": "Patient", "id": banner.id}
    patient |= {name: stored[name] for name in _SHARED_OF_PATIENT if stored.get(name)}
    patient.setdefault("identifier", [{"type": {"text": i.label}, "value": i.value} for i in banner.identifiers])
    patient.setdefault("name", [{"text": banner.name}])
    return patient
