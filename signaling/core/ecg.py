"""Working on a trace together: freeze, marks, pointer, strips, and what each viewer's trace is. [EC1]-[EC6]

Places are server times of samples, so that they mean the same on every screen.
All of it belongs to the open context; the fold clears it with the context (W24).
Which streams there are, live or stored, is not asked here: a place on a
stream that a screen does not show is drawn nowhere.
"""

from signaling.core.case import Case, require_context
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ParticipantId
from signaling.core.messages import (
    AnyEvent,
    EcgFrozen,
    EcgMarkPut,
    EcgMarkRemoved,
    EcgReleased,
    EcgSnapshotFailed,
    EcgSnapshotTaken,
    EcgStateReported,
    FreezeEcg,
    PointEcg,
    PutEcgMark,
    ReleaseEcg,
    RemoveEcgMark,
    ReportEcgState,
    TakeEcgSnapshot,
)
from signaling.core.model import Consult, ConsultStatus, EcgFreeze, EcgMark, EcgSnapshot, EcgStateReport
from signaling.core.ports import SnapshotOrder

MAX_MARKS = 200
"""Marks at one time: some tens are a page that nobody can read any more."""

MAX_SNAPSHOTS = 50
"""Strips of one context."""

AHEAD_US = 10_000_000
"""How far ahead of the server's clock a place may lie: an unsynchronised source, never another day."""


def freeze(case: Case, command: FreezeEcg) -> list[AnyEvent]:
    """The newest freeze counts. [EC2]"""
    require_context(case.state, command.context_version)
    _require_past(case, command.at_us)
    now = case.state.ecg_freeze
    if now is not None and (now.stream_id, now.at_us) == (command.stream_id, command.at_us):
        return []
    frozen = EcgFreeze(
        stream_id=command.stream_id,
        at_us=command.at_us,
        context_version=command.context_version,
        by=case.me,
        at_ms=case.now_ms,
    )
    return [EcgFrozen(**case.next(), freeze=frozen)]


def release(case: Case, _: ReleaseEcg) -> list[AnyEvent]:
    """Anyone who may freeze may release. [EC2]"""
    return [] if case.state.ecg_freeze is None else [EcgReleased(**case.next(), by=case.me)]


def put_mark(case: Case, command: PutEcgMark) -> list[AnyEvent]:
    """A new mark, or another place for one's own. [EC3]"""
    draft = command.mark
    require_context(case.state, draft.context_version)
    _require_past(case, max(draft.from_us, draft.to_us or 0))
    before = case.state.ecg_marks.get(draft.id)
    if before is None and len(case.state.ecg_marks) >= MAX_MARKS:
        raise Refusal(ErrorCode.TOO_BUSY, "too many marks", ("There are too many marks.", "标记数量已达上限。"))
    if before is not None and before.by != case.me:
        raise Refusal(ErrorCode.CONFLICT, "not the author", ("This mark is somebody else's.", "该标记由他人创建。"))
    mark = EcgMark(**draft.model_dump(), by=case.me, at_ms=case.now_ms)
    if before is not None and before.model_copy(update={"at_ms": case.now_ms}) == mark:
        return []
    return [EcgMarkPut(**case.next(), mark=mark)]


def remove_mark(case: Case, command: RemoveEcgMark) -> list[AnyEvent]:
    """Anyone who may mark may clear; the log says who did. [EC3]"""
    if command.id not in case.state.ecg_marks:
        return []
    return [EcgMarkRemoved(**case.next(), id=command.id, by=case.me)]


def point(case: Case, command: PointEcg) -> list[AnyEvent]:
    """Checked, passed on, not kept. [EC4] (H21)"""
    require_context(case.state, command.context_version)
    return []


def check_snapshot(case: Case, command: TakeEcgSnapshot) -> list[AnyEvent]:
    """Whether a strip may be ordered; the archive makes it. [EC5] (W33)"""
    require_context(case.state, command.context_version)
    _require_past(case, command.at_us)
    if len(case.state.ecg_snapshots) >= MAX_SNAPSHOTS:
        raise Refusal(ErrorCode.TOO_BUSY, "too many strips", ("There are too many strips.", "心电片段数量已达上限。"))
    return []


def snapshot_order(case: Case, command: TakeEcgSnapshot, identity: str) -> SnapshotOrder:
    """What the archive is told; the caller has asked `handle`."""
    context = require_context(case.state, command.context_version)
    return SnapshotOrder(
        id=identity,
        consult=case.state.id,
        patient=context.patient,
        context_version=context.version,
        stream_id=command.stream_id,
        at_us=command.at_us,
        by=case.me,
        at_ms=case.now_ms,
        settings=command.settings,
        age_ms=command.age_ms,
        state=command.state,
    )


def snapshot_taken(state: Consult, snapshot: EcgSnapshot, now_ms: int) -> list[AnyEvent]:
    """A strip is in the record. A consult that has ended says nothing any more. [EC5] [CO8]"""
    if state.status is ConsultStatus.ENDED or snapshot.id in state.ecg_snapshots:
        return []
    return [EcgSnapshotTaken(revision=state.revision + 1, at_ms=now_ms, snapshot=snapshot)]


def snapshot_failed(state: Consult, snapshot: str, by: ParticipantId, code: ErrorCode, now_ms: int) -> list[AnyEvent]:
    """A strip is not in the record: whoever asked must know. [EC5]"""
    if state.status is ConsultStatus.ENDED:
        return []
    return [EcgSnapshotFailed(revision=state.revision + 1, at_ms=now_ms, id=snapshot, by=by, code=code.value)]


def report_state(case: Case, command: ReportEcgState) -> list[AnyEvent]:
    """[EC6] (W17)"""
    require_context(case.state, command.context_version)
    before = case.state.ecg_states.get(case.me)
    if before is not None and (before.stream_id, before.state) == (command.stream_id, command.state):
        return []
    said = EcgStateReport(
        participant=case.me,
        stream_id=command.stream_id,
        context_version=command.context_version,
        state=command.state,
        age_ms=command.age_ms,
        at_ms=case.now_ms,
    )
    return [EcgStateReported(**case.next(), report=said)]


def _require_past(case: Case, at_us: int) -> None:
    if at_us > case.now_ms * 1000 + AHEAD_US:
        raise Refusal(ErrorCode.MALFORMED, "a place in the future")
