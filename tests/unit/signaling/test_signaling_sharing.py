"""Marks on the record, the identity check, who saw what, and patients of the same name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import reduce

import pytest

from signaling.aio.viewing import Viewing
from signaling.core import messages as m
from signaling.core.admission import Admission
from signaling.core.case import NoteFacts
from signaling.core.consult import Known, apply, handle
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsultId, ParticipantId, PatientId
from signaling.core.model import Area, Consult, IdentityPart, Page, Role, UnboundReason, View
from signaling.core.ports import ViewShown
from signaling.core.sharing import note_id
from signaling.core.signals import key_of, signal_of
from signaling.core.surnames import keys_of, namesakes
from tests.signaling_kit import PATIENTS, admission, bind_device, consult, until
from tests.signaling_world import SHAPE

DOC = admission("doc").model_copy(update={"hub": True})
NURSE, GUEST, WALL = admission("nurse", Role.NURSE), admission("guest", Role.GUEST), admission("wall", Role.SCREEN)
MONITOR = admission("monitor", Role.DEVICE)
P1, P2, _ = PATIENTS
SUMMARY, LABS = View(), View(page=Page.LABS)
NOTHING = Known()
STROKE = (10, 20, 30, 40)


def ask(state: Consult, actor: Admission, command: m.AnyCommand, known: Known = NOTHING) -> list[m.AnyEvent]:
    return handle(state, actor, command, 1_000, known)


def do(state: Consult, actor: Admission, command: m.AnyCommand, known: Known = NOTHING) -> Consult:
    return reduce(apply, ask(state, actor, command, known), state)


def refused(state: Consult, actor: Admission, command: m.AnyCommand, known: Known = NOTHING) -> ErrorCode:
    with pytest.raises(Refusal) as refusal:
        ask(state, actor, command, known)
    return refusal.value.code


@pytest.fixture
def opened() -> Consult:
    """Everybody is here, the doctor leads, and patient p1 is open under version 1."""
    state = consult()
    for person in (DOC, NURSE, GUEST, WALL, MONITOR):
        state = do(state, person, m.Join())
    state = do(state, DOC, m.OpenContext(patient=P1.id), Known(patient=P1))
    return do(state, DOC, m.TakeLead())


def highlight(view: View = SUMMARY, version: int = 1, x: int = 5, target: str = "") -> m.ShowHighlight:
    area = Area(x=x, y=1, width=100, height=100)
    return m.ShowHighlight(context_version=version, view=view, shape=SHAPE, area=area, target=target)


def freeze(name: str = "z1", view: View = SUMMARY, version: int = 1) -> m.FreezePage:
    return m.FreezePage(id=name, context_version=version, view=view, shape=SHAPE)


def note(*strokes: tuple[int, ...], frozen: str = "z1", version: int = 1) -> m.PutNote:
    return m.PutNote(id="n1", freeze=frozen, context_version=version, strokes=strokes or (STROKE,), text="这里")


# ---------------------------------------------------------------- highlights


def test_each_has_one_highlight_and_takes_away_its_own(opened: Consult) -> None:
    """[SH1]"""
    state = do(do(opened, DOC, highlight()), NURSE, highlight(x=9))
    state = do(state, DOC, highlight(x=7, target="lab-glucose"))
    assert {by: (one.area.x, one.target) for by, one in state.highlights.items()} == {
        "doc": (7, "lab-glucose"),
        "nurse": (9, ""),
    }
    assert ask(state, DOC, highlight(x=7, target="lab-glucose")) == []
    state = do(state, DOC, m.ClearHighlight())
    assert list(state.highlights) == ["nurse"]
    assert ask(state, DOC, m.ClearHighlight()) == []
    assert do(state, NURSE, m.Leave()).highlights == {}


@pytest.mark.parametrize("command", [highlight(LABS), freeze(view=LABS)])
def test_only_the_page_that_all_look_at_is_marked(opened: Consult, command: m.AnyCommand) -> None:
    """[SH1] [SH3]"""
    assert refused(opened, DOC, command) is ErrorCode.PAGE_CHANGED


@pytest.mark.parametrize(
    "change",
    [
        m.TurnPage(context_version=1, view=LABS),
        m.CloseContext(),
        m.OpenContext(patient=P2.id),
        m.EndConsult(),
    ],
)
def test_marks_go_with_the_page_and_the_patient(opened: Consult, change: m.AnyCommand) -> None:
    """[SH2] (W24) No stroke of one patient is over another."""
    state = do(do(opened, NURSE, highlight()), NURSE, freeze())
    state = do(state, DOC, change, Known(patient=P2))
    assert (state.highlights, state.page_freeze) == ({}, None)


@pytest.mark.parametrize(
    "command",
    [
        highlight(version=2),
        freeze(version=2),
        note(version=2),
        m.MarkNoteInError(note="note-1", context_version=2, reason="wrong side"),
        m.Ink(freeze="z1", context_version=2, stroke=0, of=1, points=STROKE),
        m.ShowView(context_version=2, view=LABS),
        m.TickIdentity(context_version=2, heard=(IdentityPart.NAME, IdentityPart.BIRTH_DATE)),
        m.SkipIdentityCheck(context_version=2, reason="arrest"),
        m.ReportWrongPatient(context_version=2, reason="another name"),
    ],
)
def test_everything_names_the_open_context(opened: Consult, command: m.AnyCommand) -> None:
    """[SH2] [VW1] [IC2] (H21)"""
    assert refused(opened, NURSE, command) is ErrorCode.CONTEXT_CHANGED


# ---------------------------------------------------------------- notes


def test_one_draws_at_a_time_and_anyone_may_release(opened: Consult) -> None:
    """[SH3]"""
    state = do(opened, DOC, freeze())
    assert refused(state, NURSE, freeze("z2")) is ErrorCode.CONFLICT
    assert ask(state, DOC, freeze()) == []
    assert do(state, NURSE, m.ReleasePage()).page_freeze is None
    assert do(state, DOC, m.Leave()).page_freeze is None


def test_a_note_says_who_when_where_and_how_the_page_stood(opened: Consult) -> None:
    """[SH4] (C23)"""
    state = do(opened, NURSE, freeze())
    (event,) = ask(state, NURSE, note())
    assert isinstance(event, m.NotePut)
    kept = event.note
    assert (kept.patient, kept.context_version, kept.view, kept.shape) == (P1.id, 1, View(), SHAPE)
    assert (kept.by, kept.by_name, kept.by_hospital, kept.at_ms) == ("nurse", "NURSE", "H1", 1_000)
    assert (kept.strokes, kept.text) == ((STROKE,), "这里")
    assert kept.id == note_id(opened.id, "nurse", "n1") != note_id(opened.id, "doc", "n1")
    assert apply(state, event).model_copy(update={"revision": state.revision}) == state


def test_a_note_sent_again_is_the_same_note(opened: Consult) -> None:
    """[SH4] Also when the page was released meanwhile: the answer may have been lost."""
    known = Known(note=NoteFacts(id=note_id(opened.id, "nurse", "n1"), by="nurse", in_error=False))
    assert ask(opened, NURSE, note(), known) == []


@pytest.mark.parametrize(
    ("strokes", "code"),
    [
        (((0, 0, 10_000, 20_001),), None),
        (((0, 0, 10_001, 0),), ErrorCode.MALFORMED),
        (((0, 0, 0, 20_002),), ErrorCode.MALFORMED),
        (((0, 0, 5, 5, 5),), ErrorCode.MALFORMED),
        (((1, 1) * 256,) * 15, None),
        (((1, 1) * 256,) * 16, ErrorCode.CONTENT_TOO_LARGE),
    ],
)
def test_strokes_are_on_the_page_and_bounded(
    opened: Consult, strokes: tuple[tuple[int, ...], ...], code: ErrorCode | None
) -> None:
    """[SH5] A page 800 wide and 1600 high is 20000 units long."""
    state = do(opened, NURSE, freeze())
    command = note(*strokes)
    if code is None:
        assert ask(state, NURSE, command)
    else:
        assert refused(state, NURSE, command) is code


def test_ink_is_of_the_freezes_author_on_the_page_and_leaves_nothing(opened: Consult) -> None:
    """[SH7] Passed on whole, by stroke; of two undelivered ones of a stroke the newer counts."""

    def ink(stroke: int = 0, of: int = 1, points: tuple[int, ...] = STROKE, frozen: str = "z1") -> m.Ink:
        return m.Ink(freeze=frozen, context_version=1, stroke=stroke, of=of, points=points)

    state = do(opened, NURSE, freeze())
    assert ask(state, NURSE, ink()) == []
    assert ask(state, NURSE, ink(of=0, points=())) == []
    for wrong in ((1, 2, 3), (10_001, 2), (1, 20_002)):
        assert refused(state, NURSE, ink(points=wrong)) is ErrorCode.MALFORMED
    assert refused(state, NURSE, ink(stroke=1)) is ErrorCode.MALFORMED
    assert refused(state, NURSE, ink(frozen="z2")) is ErrorCode.PAGE_CHANGED
    assert refused(state, DOC, ink()) is ErrorCode.PAGE_CHANGED
    assert refused(do(state, DOC, m.ReleasePage()), NURSE, ink()) is ErrorCode.PAGE_CHANGED
    first, second = (signal_of(NURSE, ink(stroke, 2)) for stroke in (0, 1))
    assert first == m.Inked(by=NURSE.participant, freeze="z1", context_version=1, stroke=0, of=2, points=STROKE)
    assert len({key_of(first), key_of(second), key_of(signal_of(NURSE, ink(0, 2, (1, 1, 2, 2))))}) == 2


def test_a_note_needs_its_frozen_page(opened: Consult) -> None:
    """[SH3]"""
    assert refused(opened, NURSE, note()) is ErrorCode.PAGE_CHANGED
    assert refused(do(opened, NURSE, freeze()), NURSE, note(frozen="z2")) is ErrorCode.PAGE_CHANGED


@pytest.mark.parametrize(("who", "may"), [(NURSE, True), (DOC, True), (GUEST, False)])
def test_a_mistake_is_marked_by_its_author_or_a_doctor(opened: Consult, who: Admission, may: bool) -> None:
    """[SH6] (C23)"""
    command = m.MarkNoteInError(note="note-1", context_version=1, reason="wrong side")
    known = Known(note=NoteFacts(id="note-1", by="nurse", in_error=False))
    if not may:
        assert refused(opened, who, command, known) is ErrorCode.NOT_ALLOWED
        return
    (event,) = ask(opened, who, command, known)
    assert isinstance(event, m.NoteMarkedInError)
    assert (event.note, event.patient, event.by, event.reason) == ("note-1", P1.id, who.participant, "wrong side")
    assert ask(opened, who, command, Known(note=NoteFacts(id="note-1", by="nurse", in_error=True))) == []
    assert refused(opened, who, command) is ErrorCode.NOT_FOUND


# ---------------------------------------------------------------- identity check


def tick(*heard: IdentityPart) -> m.TickIdentity:
    return m.TickIdentity(context_version=1, heard=heard or (IdentityPart.NAME, IdentityPart.SECOND_IDENTIFIER))


def test_both_sides_tick_what_they_heard(opened: Consult) -> None:
    """[IC1] [IC2] (W23)"""
    assert opened.identity_check is not None
    state = do(opened, DOC, tick())
    assert state.identity_check is not None
    assert state.identity_check.partner is None
    assert ask(state, DOC, tick(IdentityPart.NAME, IdentityPart.BIRTH_DATE)) == []
    check = do(state, GUEST, tick()).identity_check
    assert check is not None
    assert check.hub is not None
    assert check.partner is not None
    assert (check.patient, check.context_version, check.hub.by, check.partner.by) == (P1.id, 1, "doc", "guest")
    assert check.hub.heard == (IdentityPart.NAME, IdentityPart.SECOND_IDENTIFIER)


def test_one_identifier_twice_is_not_two(opened: Consult) -> None:
    """[IC2]"""
    assert refused(opened, DOC, tick(IdentityPart.NAME, IdentityPart.NAME)) is ErrorCode.MALFORMED


def test_each_patient_that_is_opened_is_checked_anew(opened: Consult) -> None:
    """[IC1] (W23)"""
    state = do(do(opened, DOC, tick()), DOC, m.OpenContext(patient=P2.id), Known(patient=P2))
    assert state.identity_check is not None
    assert (state.identity_check.patient, state.identity_check.hub) == (P2.id, None)
    assert do(state, DOC, m.CloseContext()).identity_check is None


def test_what_does_not_agree_closes_the_patient_everywhere(opened: Consult) -> None:
    """[IC3] (W23, W21) Devices first; a guest who may not open may still close."""
    state = do(opened, NURSE, bind_device())
    events = ask(state, GUEST, m.ReportWrongPatient(context_version=1, reason="another birth date"))
    assert [event.type for event in events] == ["wrong_patient_reported", "device_unbound", "context_closed"]
    assert [event.revision for event in events] == [state.revision + n for n in (1, 2, 3)]
    assert isinstance(events[1], m.DeviceUnbound)
    assert events[1].reason is UnboundReason.CONTEXT_CHANGED
    after = reduce(apply, events, state)
    assert (after.context, after.context_version, after.bindings) == (None, 2, {})


def test_the_check_stands_in_nobodys_way(opened: Consult) -> None:
    """[IC4] Skipped with a reason, and still to be made."""
    state = do(opened, NURSE, m.SkipIdentityCheck(context_version=1, reason="cardiac arrest"))
    assert state.identity_check is not None
    assert state.identity_check.skipped is not None
    assert (state.identity_check.skipped.by, state.identity_check.skipped.reason) == ("nurse", "cardiac arrest")
    assert ask(state, DOC, m.SkipIdentityCheck(context_version=1, reason="again")) == []
    check = do(do(state, DOC, tick()), GUEST, tick()).identity_check
    assert check is not None
    assert check.hub is not None
    assert check.partner is not None
    assert check.skipped is not None


# ---------------------------------------------------------------- namesakes


@pytest.mark.parametrize(
    ("families", "names", "keys"),
    [
        ((), ("陈秀英",), {"陈"}),
        ((), ("欧阳修",), {"欧阳"}),
        ((), ("Xiuying Chen", ""), set()),
        (("Chen",), ("陈 秀英", "Chen Xiuying"), {"chen", "陈"}),
        (("ＣＨＥＮ ",), (), {"chen"}),
    ],
)
def test_family_names_are_taken_as_given_or_from_chinese_names(
    families: tuple[str, ...], names: tuple[str, ...], keys: set[str]
) -> None:
    """[SN1] (W25) A Latin text that does not say which word is the family's is left out."""
    assert keys_of(families, names) == keys


def test_two_patients_of_one_name_warn_both_consults() -> None:
    """[SN1] (W25) The same patient in two consults is nobody's namesake."""
    shown = {ConsultId(c): PatientId(p) for c, p in (("c1", "a"), ("c2", "b"), ("c3", "c"), ("c4", "c"))}
    keys = {
        PatientId("a"): frozenset({"陈", "chen"}),
        PatientId("b"): frozenset({"chen"}),
        PatientId("c"): frozenset("李"),
    }
    assert namesakes(shown, keys) == {"c1", "c2"}


# ---------------------------------------------------------------- who saw what


class Book:
    """`signaling.core.ports.ViewLog`."""

    def __init__(self) -> None:
        self.rows: list[ViewShown] = []
        self.failing = False

    async def views_shown(self, views: Sequence[ViewShown]) -> None:
        if self.failing:
            raise OSError
        self.rows += views


class Clock:
    ms = 0

    def __call__(self) -> int:
        return self.ms


async def test_a_showing_has_a_beginning_and_an_end(opened: Consult, monkeypatch: pytest.MonkeyPatch) -> None:
    """[VW1] [VW2] (G5, C21) What began and ended between two writes is one row; a failed write is made again."""
    monkeypatch.setattr("signaling.aio.viewing.GATHER_S", 0.0)
    book, clock, who = Book(), Clock(), ParticipantId("doc")
    viewing = Viewing(clock)
    viewing.use(book)
    viewing.start()
    assert opened.context is not None
    viewing.show(opened.id, who, opened.context, View())
    viewing.show(opened.id, who, opened.context, View())
    await until(lambda: len(book.rows) == 1)
    book.failing, clock.ms = True, 5
    viewing.show(opened.id, who, opened.context, LABS)
    await asyncio.sleep(0)
    clock.ms = 9
    viewing.end_all(opened.id, 8)
    viewing.end(opened.id, who)
    book.failing = False
    await viewing.stop()
    assert [(row.view.page, row.from_ms, row.to_ms) for row in book.rows] == [
        (Page.SUMMARY, 0, None),
        (Page.SUMMARY, 0, 5),
        (Page.LABS, 5, 8),
    ]
    assert book.rows[0].id == book.rows[1].id
    assert {row.patient for row in book.rows} == {P1.id}


async def test_what_waits_is_bounded(opened: Consult, monkeypatch: pytest.MonkeyPatch) -> None:
    """[VW2] The oldest rows are given up and counted."""
    monkeypatch.setattr("signaling.aio.viewing.MAX_ROWS", 4)
    viewing = Viewing(Clock())
    book = Book()
    viewing.use(book)
    assert opened.context is not None
    for number in range(7):
        viewing.show(opened.id, ParticipantId(f"p{number}"), opened.context, LABS)
    assert viewing.lost == 3
    viewing.start()
    await viewing.stop()
    assert len(book.rows) == 4
