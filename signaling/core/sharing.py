"""Marks on the record that all look at: a highlight for now, a note that stays. [SH1]-[SH6]

A page of the record is laid out anew on every screen, so a place on it means nothing by itself. A mark therefore says
how the page was laid out where it was made (`PageShape`); whoever shows it lays the page out the same and scales
the whole, or does not paint the mark over the page. Everything names the context it was made for and goes with it: no
stroke of one patient is ever over another (W24).

A note is a document of the patient's record. The event carries it whole, the store files it in the transaction that
commits the event, and the shared state keeps nothing of it: who comes later reads the record.
"""

import hashlib

from signaling.core.case import Case, require_context
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.messages import (
    AnyEvent,
    ClearHighlight,
    FreezePage,
    HighlightCleared,
    Highlighted,
    Ink,
    MarkNoteInError,
    NoteMarkedInError,
    NotePut,
    PageFrozen,
    PageReleased,
    PutNote,
    ReleasePage,
    ShowHighlight,
    ShowView,
)
from signaling.core.model import Consult, Highlight, Note, PageFreeze, PageShape, Role, View

PAGE_WIDTH = 10_000
"""Units across a page."""

MAX_POINTS = 4_000
"""Of all strokes of a note: a page full of handwriting has fewer, and the event stays below 40 KiB."""

_DRAWING = ("Somebody else is drawing on this page.", "其他参会者正在此页上书写。")


def highlight(case: Case, command: ShowHighlight) -> list[AnyEvent]:
    """Of the page that all look at, else nobody would see it. [SH1]"""
    _require_page(case.state, command.context_version, command.view)
    drawn = Highlight(
        by=case.me,
        context_version=command.context_version,
        view=command.view,
        shape=command.shape,
        target=command.target,
        area=command.area,
        at_ms=case.now_ms,
    )
    before = case.state.highlights.get(case.me)
    if before is not None and before.model_copy(update={"at_ms": case.now_ms}) == drawn:
        return []
    return [Highlighted(**case.next(), highlight=drawn)]


def clear_highlight(case: Case, _: ClearHighlight) -> list[AnyEvent]:
    """One's own. [SH1]"""
    return [HighlightCleared(**case.next(), by=case.me)] if case.me in case.state.highlights else []


def freeze(case: Case, command: FreezePage) -> list[AnyEvent]:
    """One at a time: who draws must not lose the page under the pen. [SH3]"""
    _require_page(case.state, command.context_version, command.view)
    now = case.state.page_freeze
    if now is not None and now.by != case.me:
        raise Refusal(ErrorCode.CONFLICT, "frozen by another", _DRAWING)
    if now is not None and now.id == command.id:
        return []
    frozen = PageFreeze(
        id=command.id,
        context_version=command.context_version,
        view=command.view,
        shape=command.shape,
        by=case.me,
        at_ms=case.now_ms,
    )
    return [PageFrozen(**case.next(), freeze=frozen)]


def release(case: Case, _: ReleasePage) -> list[AnyEvent]:
    """Anyone who may freeze may release: its author may have lost the line. [SH3]"""
    return [] if case.state.page_freeze is None else [PageReleased(**case.next(), by=case.me)]


def put_note(case: Case, command: PutNote) -> list[AnyEvent]:
    """[SH4] [SH5] The same note sent again, its answer having been lost, changes nothing."""
    context = require_context(case.state, command.context_version)
    if case.known.note is not None:
        return []
    frozen = case.state.page_freeze
    if frozen is None or frozen.id != command.freeze:
        raise Refusal(ErrorCode.PAGE_CHANGED, "that page is not frozen")
    _check_strokes(command, frozen.shape)
    me = case.state.participants[case.me]
    note = Note(
        id=note_id(case.state.id, case.me, command.id),
        patient=context.patient.id,
        context_version=context.version,
        view=frozen.view,
        shape=frozen.shape,
        strokes=command.strokes,
        text=command.text,
        by=case.me,
        by_name=me.name,
        by_hospital=me.hospital,
        at_ms=case.now_ms,
    )
    return [NotePut(**case.next(), note=note)]


def ink(case: Case, command: Ink) -> list[AnyEvent]:
    """Checked, passed on, not kept: only the author of the frozen page draws, and only on it. [SH7]"""
    require_context(case.state, command.context_version)
    frozen = case.state.page_freeze
    if frozen is None or frozen.id != command.freeze or frozen.by != case.me:
        raise Refusal(ErrorCode.PAGE_CHANGED, "that page is not frozen")
    if command.stroke >= max(command.of, 1) or (command.points and not _is_on_page(command.points, frozen.shape)):
        raise Refusal(ErrorCode.MALFORMED, "a stroke that leaves the page")
    return []


def mark_in_error(case: Case, command: MarkNoteInError) -> list[AnyEvent]:
    """Its author, or a doctor. Marked once, it stays marked. [SH6] (C23)"""
    context = require_context(case.state, command.context_version)
    note = case.known.note
    if note is None or note.id != command.note:
        raise Refusal(ErrorCode.NOT_FOUND, "no such note of the open patient")
    if note.by != case.me and case.actor.role is not Role.DOCTOR:
        raise Refusal(ErrorCode.NOT_ALLOWED, "another's note")
    if note.in_error:
        return []
    marked = NoteMarkedInError(
        **case.next(),
        note=note.id,
        patient=context.patient.id,
        by=case.me,
        by_name=case.state.participants[case.me].name,
        reason=command.reason,
    )
    return [marked]


def show_view(case: Case, command: ShowView) -> list[AnyEvent]:
    """Checked here, kept by the view log. To show nothing is true of any context. [VW1]"""
    if command.view is not None:
        require_context(case.state, command.context_version)
    return []


def note_id(consult: str, author: str, chosen: str) -> str:
    """Id of a note's document: its author chooses part of it, and can meet no other document's."""
    return "note-" + hashlib.sha256(f"{consult}\0{author}\0{chosen}".encode()).hexdigest()[:40]


def _require_page(state: Consult, context_version: int, view: View) -> None:
    require_context(state, context_version)
    if state.view != view:
        raise Refusal(ErrorCode.PAGE_CHANGED)


def _check_strokes(command: PutNote, shape: PageShape) -> None:
    """Whole points, all of them on the page. [SH5]"""
    if sum(map(len, command.strokes)) > 2 * MAX_POINTS:
        raise Refusal(ErrorCode.CONTENT_TOO_LARGE, "too many points")
    if not all(_is_on_page(stroke, shape) for stroke in command.strokes):
        raise Refusal(ErrorCode.MALFORMED, "a stroke that leaves the page")


def _is_on_page(stroke: tuple[int, ...], shape: PageShape) -> bool:
    bottom = PAGE_WIDTH * shape.height // shape.width + 1
    return len(stroke) % 2 == 0 and max(stroke[::2]) <= PAGE_WIDTH and max(stroke[1::2]) <= bottom
