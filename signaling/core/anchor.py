"""What is open beside the patient: an encounter, a study, a report, and what is shared under the report. [AN1]-[AN6]

The patient decides whose record is on the screens; an anchor says which piece of work it is about. A change of
anchor raises the context version like a change of patient, so that every screen says again what it shows, but it is
the same patient: no device is unbound and nothing is wiped from the trace's marks (``fold.py``, ``_carried``).

Closing an anchor makes nothing else current, whatever was open before it (H27).
"""

from typing import Any

from signaling.core.case import AnchorFacts, Case, require_context
from signaling.core.content import check_bundle
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.messages import (
    AnchorClosed,
    AnchorOpened,
    AnyEvent,
    CloseAnchor,
    ContentSelected,
    ContentShared,
    ContextResumed,
    OpenAnchor,
    SelectContent,
    ShareContent,
)
from signaling.core.model import Anchor, AnchorType, ContextType, JsonObject, SharedContent

MAX_LABEL_CHARS = 200


def facts_of(resource: JsonObject, *, foreign: bool = False) -> AnchorFacts:
    """What is kept of a resource that is to be opened; of one that is not in the record, the resource too.

    Raises:
        pydantic.ValidationError: it is none that can be an anchor.
    """
    return AnchorFacts(
        resource_type=resource["resourceType"],
        id=resource["id"],
        label=_label(resource)[:MAX_LABEL_CHARS],
        resource=resource if foreign else None,
    )


def open_anchor(case: Case, command: OpenAnchor) -> list[AnyEvent]:
    """[AN1] [AN2]"""
    context = require_context(case.state, command.context_version)
    facts = case.known.anchor
    if facts is None or (facts.resource_type, facts.id) != (command.resource_type, command.id):
        raise Refusal(ErrorCode.NOT_FOUND, "not a resource of the open patient")
    before = case.state.anchors.get(command.resource_type.value)
    if before is not None and (before.id, before.resource) == (facts.id, facts.resource):
        return resumed(case, facts.resource_type.value)
    anchor = Anchor(**facts.model_dump(), opened_at_ms=case.now_ms, opened_by=case.me)
    return [AnchorOpened(**case.next(), version=context.version + 1, anchor=anchor, request=case.known.request)]


def close_anchor(case: Case, command: CloseAnchor) -> list[AnyEvent]:
    """[AN3] (H27)"""
    context = require_context(case.state, command.context_version)
    anchor = case.state.anchors.get(command.resource_type.value)
    if anchor is None:
        return []
    return [
        AnchorClosed(
            **case.next(),
            version=context.version + 1,
            resource_type=anchor.resource_type,
            id=anchor.id,
            by=case.me,
            request=case.known.request,
        )
    ]


def resumed(case: Case, current: ContextType) -> list[AnyEvent]:
    """What is open is opened again: news only for other programs, or when something else was current. [AN4]"""
    state, request = case.state, case.known.request
    if request is None and (state.current == current or current == "Patient"):
        return []
    version = state.context_version + (state.current != current)
    return [ContextResumed(**case.next(), current=current, version=version, by=case.me, request=request)]


def share(case: Case, command: ShareContent) -> list[AnyEvent]:
    """All of the transaction or nothing, on the version that its author saw. [AN5] (H25)"""
    content = _content(case, command.report)
    if content.version != command.version:
        raise Refusal(ErrorCode.CONTENT_CHANGED)
    assert case.state.context is not None
    patient = case.state.context.patient.id
    fixed = f"{AnchorType.DIAGNOSTIC_REPORT.value}/{content.report}"
    bundle = check_bundle(content.resources, command.bundle, patient, fixed)
    return [
        ContentShared(
            **case.next(),
            report=content.report,
            version=_next_version(content.version),
            prior_version=content.version,
            bundle=bundle,
            by=case.me,
            request=case.known.request,
        )
    ]


def select(case: Case, command: SelectContent) -> list[AnyEvent]:
    """Only what is shared or open can be looked at together. [AN6]"""
    require_context(case.state, command.context_version)
    content = _content(case, command.report)
    if not set(command.selected) <= content.resources.keys():
        raise Refusal(ErrorCode.NOT_FOUND, "not shared")
    if content.selected == command.selected and case.known.request is None:
        return []
    return [
        ContentSelected(
            **case.next(), report=content.report, selected=command.selected, by=case.me, request=case.known.request
        )
    ]


def _content(case: Case, report: str) -> SharedContent:
    content = case.state.content
    if content is None or content.report != report:
        raise Refusal(ErrorCode.CONTEXT_CHANGED, "that report is not open")
    return content


def _next_version(version: str) -> str:
    """``7``, ``7.1``, ``7.2``: the context version a report was opened under never comes back, so neither do these."""
    opened, _, changes = version.partition(".")
    return f"{opened}.{int(changes or 0) + 1}"


def _label(resource: JsonObject) -> str:
    """What a person would call it: its description, its code's text, else its type."""
    if isinstance(resource.get("description"), str):
        return str(resource["description"])
    for name in ("code", "class", "type"):
        found = _concept(resource.get(name))
        if found:
            return found
    return str(resource["resourceType"])


def _concept(value: Any) -> str:
    """Text of a CodeableConcept, a Coding, or the first of a list of them."""
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        return ""
    coding = value.get("coding")
    first = coding[0] if isinstance(coding, list) and coding and isinstance(coding[0], dict) else {}
    found = value.get("text") or value.get("display") or first.get("display")
    return found if isinstance(found, str) else ""
