"""What is open beside the patient: an encounter, a study, a report, and what is shared under the report. [AN1]-[AN6]

The patient decides whose record is on the screens; an anchor says which piece of work it is about. A change of
anchor raises the context version like a change of patient, so that every screen says again what it shows, but it is
the same patient: no device is unbound and nothing is wiped from the trace's marks (``fold.py``, ``_carried``).

Closing an anchor makes nothing else current, whatever was open before it (H27).

A page of the record that shows one report or study and the anchor of that kind go together while programs follow:
whoever leads opens and closes by turning pages, and what a program opens is turned to. [AN7] [AN8]
"""

from functools import reduce
from typing import Any, Final

from signaling.core.case import AnchorFacts, Case, require_context
from signaling.core.content import check_bundle
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.fold import apply
from signaling.core.messages import (
    AnchorClosed,
    AnchorOpened,
    AnyEvent,
    CloseAnchor,
    ContentSelected,
    ContentShared,
    ContextResumed,
    OpenAnchor,
    PageTurned,
    SelectContent,
    ShareContent,
)
from signaling.core.model import (
    Anchor,
    AnchorType,
    Consult,
    ContextType,
    JsonObject,
    Page,
    Role,
    SharedContent,
    View,
)
from signaling.core.policy import allows

MAX_LABEL_CHARS = 200

PAGES: Final = {AnchorType.DIAGNOSTIC_REPORT: Page.REPORTS, AnchorType.IMAGING_STUDY: Page.IMAGING}
"""Pages whose entries are what an anchor can be. An encounter has no page of its own."""

_ON_PAGE: Final = {page: kind for kind, page in PAGES.items()}


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
    shown = View(page=PAGES[facts.resource_type], item=facts.id) if facts.resource_type in PAGES else None
    if before is not None and (before.id, before.resource) == (facts.id, facts.resource):
        return _turned_to(case, resumed(case, facts.resource_type.value), shown if facts.resource is None else None)
    anchor = Anchor(**facts.model_dump(), opened_at_ms=case.now_ms, opened_by=case.me)
    opened = AnchorOpened(**case.next(), version=context.version + 1, anchor=anchor, request=case.known.request)
    return _turned_to(case, [opened], shown if facts.resource is None else None)


def close_anchor(case: Case, command: CloseAnchor) -> list[AnyEvent]:
    """[AN3] (H27)"""
    context = require_context(case.state, command.context_version)
    anchor = case.state.anchors.get(command.resource_type.value)
    if anchor is None:
        return []
    closed = AnchorClosed(
        **case.next(),
        version=context.version + 1,
        resource_type=anchor.resource_type,
        id=anchor.id,
        by=case.me,
        request=case.known.request,
    )
    was_shown = named_by(case.state.view) == (anchor.resource_type, anchor.id)
    return _turned_to(case, [closed], View(page=case.state.view.page) if was_shown else None)


# ---------------------------------------------------------------- pages


def named_by(view: View) -> tuple[AnchorType, str] | None:
    """The report or study that a page shows, whatever place in it."""
    kind, id_ = _ON_PAGE.get(view.page), view.item.partition(";")[0]
    return None if kind is None or not id_ else (kind, id_)


def opened_by_turning(state: Consult, role: Role, view: View) -> tuple[AnchorType, str] | None:
    """What turning to a page would open beside the patient: to be looked up and given as `Known.anchor`. [AN7]"""
    named = named_by(view)
    if named is None or named == named_by(state.view) or state.context is None:
        return None
    kind, id_ = named
    command = OpenAnchor(context_version=state.context.version, resource_type=kind, id=id_)
    before = state.anchors.get(kind.value)
    is_open = before is not None and before.id == id_ and state.current == kind.value
    return None if is_open or not allows(role, command) or _keeps_content(state, kind) else named


def shown_unopened(state: Consult) -> OpenAnchor | None:
    """What would be open had a program followed when the page was turned; None when nothing is missing. [AN7]"""
    named = named_by(state.view)
    if named is None or state.context is None or _keeps_content(state, named[0]):
        return None
    kind, id_ = named
    before = state.anchors.get(kind.value)
    if before is not None and before.id == id_:
        return None
    return OpenAnchor(context_version=state.context.version, resource_type=kind, id=id_)


def page_turned(case: Case, turned: PageTurned) -> list[AnyEvent]:
    """The lead leaves one report or study and opens another, for the programs beside us. [AN7]"""
    left, shown = named_by(case.state.view), named_by(turned.view)
    events: list[AnyEvent] = [turned]
    if left == shown:
        return events
    facts = case.known.anchor
    opens = facts is not None and shown == (facts.resource_type, facts.id) and not _keeps_content(case.state, shown[0])
    if left is not None and not (opens and shown is not None and shown[0] is left[0]):
        events += _left(_after(case, events), *left)
    if opens and shown is not None:
        after = _after(case, events)
        assert after.state.context is not None
        version = after.state.context.version
        events += open_anchor(after, OpenAnchor(context_version=version, resource_type=shown[0], id=shown[1]))
    return events


def _left(case: Case, kind: AnchorType, id_: str) -> list[AnyEvent]:
    """What was shared under a report stays until somebody closes it; turning a page destroys nothing."""
    anchor, context = case.state.anchors.get(kind.value), case.state.context
    command = CloseAnchor(context_version=context.version if context is not None else 1, resource_type=kind)
    if anchor is None or anchor.id != id_ or _keeps_content(case.state, kind) or not allows(case.actor.role, command):
        return []
    return close_anchor(case, command)


def _keeps_content(state: Consult, kind: AnchorType) -> bool:
    return kind is AnchorType.DIAGNOSTIC_REPORT and state.content is not None and bool(state.content.resources)


def _turned_to(case: Case, events: list[AnyEvent], view: View | None) -> list[AnyEvent]:
    """What a program opens or closes everyone sees, unless somebody else leads. [AN8] [LE1]"""
    if not events or case.known.request is None or view is None or case.state.lead not in (None, case.me):
        return events
    if named_by(case.state.view) == named_by(view) and case.state.view.page == view.page:
        return events
    return [*events, PageTurned(**_after(case, events).next(), by=case.me, view=view)]


def _after(case: Case, events: list[AnyEvent]) -> Case:
    return Case(reduce(apply, events, case.state), case.actor, case.known, case.now_ms)


# ---------------------------------------------------------------- resumed, content


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
