"""Parts that were asked for at a hospital: asked, answered, declined with a reason (C26).

Each is a row and a Task in the record, changed in one transaction. `through_lock.py` may answer at once; else the
hospital's people see it on their home page and attach or decline.
"""

import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from server.casepack.aio.packs import Sender, latest, require_patient, write_all
from server.casepack.core.document import About, ask_task, closed_task
from server.casepack.core.refusals import PackCode, PackRefused
from server.casepack.core.tables import Part
from server.record.aio.store import banner_in, find_one
from server.storage import audit
from server.storage.casepack_tables import CaseAsk
from server.storage.models import ConsultMember, ConsultRow, ConsultState, Hospital, Person
from signaling.core.model import ConsultStatus, Role

MOST_ASKS = 200
"""Of one patient in one consult."""
CLINICIANS = frozenset({Role.DOCTOR, Role.NURSE})
"""Members of a consult who get its pack and its asks; any other role, also one that is added later, does not (G11)."""
TRY_AGAIN = frozenset({"unavailable", "timed_out", "busy", "cancelled"})
"""How a question through the lock ends that may end otherwise when it is put once more."""
ASKED, ANSWERED, DECLINED = "asked", "answered", "declined"


async def ask(
    session: AsyncSession, consult: str, patient: str, part: Part, note: str, sender: Sender, now_ms: int
) -> tuple[CaseAsk, bool]:
    """Ask the consult's partner hospital for a part.

    Returns:
        The ask, and whether it is new: one that waits because the gateway could not answer is put to it once more.

    Raises:
        PackRefused: ``not_found``, ``consult_ended``, ``already_asked`` or ``too_many_asks``.
    """
    row = await require_patient(session, consult, patient)
    key = hashlib.sha256(f"{consult}\n{patient}\n{part.key}".encode()).hexdigest()
    waiting = await session.scalar(select(CaseAsk).where(CaseAsk.open_key == key))
    if waiting is not None:
        if waiting.lock_code not in TRY_AGAIN:
            raise PackRefused(PackCode.ALREADY_ASKED)
        return waiting, False
    count = select(func.count()).where(CaseAsk.consult_id == consult, CaseAsk.patient_id == patient)
    if (await session.scalar(count) or 0) >= MOST_ASKS:
        raise PackRefused(PackCode.TOO_MANY)
    owner = await session.get(Hospital, row.partner_id)
    banner = await banner_in(session, patient)
    if owner is None or banner is None:
        raise PackRefused(PackCode.NOT_FOUND)
    made = CaseAsk(
        id=f"ask-{secrets.token_hex(12)}", consult_id=consult, patient_id=patient, part=part.key, en=part.en,
        zh=part.zh, note=note, hospital_id=owner.id, person_id=sender.person, asked_at_ms=now_ms, status=ASKED,
        open_key=key, reason="", answer="[]",
    )  # fmt: skip
    session.add(made)
    await session.flush()
    pack = await latest(session, consult, patient)
    about = About(
        stem=made.id, patient=patient, version=1, title="", author=sender.name, hospital=sender.hospital_name,
        starts_at_ms=row.starts_at_ms, at_ms=now_ms, test=banner.test,
    )  # fmt: skip
    request = None if pack is None else f"ServiceRequest/{pack.id}"
    task = ask_task(about, part.key, (part.en, part.zh), owner.name, note, request)
    entries = await write_all(session, [task], actor=sender.actor, at_ms=now_ms)
    body = {"patient": patient, "ask": made.id, "part": part.key, "hospital": owner.id}
    entries.append(_entry("casepack_asked", sender.actor, consult, body, now_ms))
    await audit.append(session, entries)
    return made, True


async def close(
    session: AsyncSession,
    ask_id: str,
    actor: str,
    now_ms: int,
    *,
    reason: str | None = None,
    resources: Sequence[dict[str, Any]] = (),
    owner: str = "",
    lock_code: str | None = None,
) -> CaseAsk:
    """Answer an ask with resources, or decline it with a reason.

    Args:
        resources: stored in the same transaction; none where what came is kept elsewhere.
        owner: hospital that they come from.
        lock_code: of an answer through the lock.

    Raises:
        PackRefused: ``not_found``, ``consult_ended`` or ``ask_closed``.
        server.record.core.resource.ResourceInvalid: a resource cannot be stored.
    """
    row, outputs = await _open_ask(session, ask_id), _outputs(resources)
    row.status, row.open_key = (ANSWERED if reason is None else DECLINED), None
    row.closed_at_ms, row.closed_by, row.reason = now_ms, actor, reason or ""
    row.answer = json.dumps(outputs := [*json.loads(row.answer), *outputs])
    if lock_code is not None:
        row.lock_code = lock_code
    await session.flush()
    entries = await write_all(session, resources, actor=actor, at_ms=now_ms, owner=owner)
    task = await find_one(session, row.patient_id, "Task", row.id)
    if task is not None:
        task = closed_task(task, at_ms=now_ms, reason=reason, outputs=outputs)
        entries += await write_all(session, [task], actor=actor, at_ms=now_ms)
    body = {"patient": row.patient_id, "ask": row.id, "part": row.part, "resources": len(outputs),
            "through_lock": lock_code is not None}  # fmt: skip
    kind = "casepack_answered" if reason is None else "casepack_declined"
    entries.append(_entry(kind, actor, row.consult_id, body, now_ms))
    await audit.append(session, entries)
    return row


async def bring(
    session: AsyncSession,
    ask_id: str,
    actor: str,
    now_ms: int,
    *,
    resources: Sequence[dict[str, Any]],
    owner: str,
    lock_code: str,
) -> CaseAsk:
    """File what came through the lock: with an empty ``lock_code`` it closes the ask, else the ask stays open.

    Raises:
        PackRefused: ``not_found``, ``consult_ended`` or ``ask_closed``.
        server.record.core.resource.ResourceInvalid: a resource cannot be stored.
    """
    if not lock_code:
        return await close(
            session, ask_id, actor, now_ms, resources=resources, owner=owner, lock_code=lock_code
        )  # fmt: skip
    row = await _open_ask(session, ask_id)
    row.lock_code, row.answer = lock_code, json.dumps(_outputs(resources))
    entries = await write_all(session, resources, actor=actor, at_ms=now_ms, owner=owner)
    body = {"patient": row.patient_id, "ask": row.id, "part": row.part, "resources": len(_outputs(resources)),
            "code": lock_code}  # fmt: skip
    entries.append(_entry("casepack_brought", actor, row.consult_id, body, now_ms))
    await audit.append(session, entries)
    return row


async def _open_ask(session: AsyncSession, ask_id: str) -> CaseAsk:
    row = await session.scalar(select(CaseAsk).where(CaseAsk.id == ask_id).with_for_update())
    if row is None:
        raise PackRefused(PackCode.NOT_FOUND)
    await require_patient(session, row.consult_id, row.patient_id)
    if row.status != ASKED:
        raise PackRefused(PackCode.ASK_CLOSED)
    return row


def _outputs(resources: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{one['resourceType']}/{one['id']}" for one in resources if one["resourceType"] != "Binary"]


async def note_lock(session: AsyncSession, ask_id: str, code: str) -> None:
    """That the lock gave nothing, and why: the ask stays open for people."""
    row = await session.get(CaseAsk, ask_id)
    if row is not None and row.status == ASKED:
        row.lock_code = code


async def find_ask(session: AsyncSession, consult: str, ask_id: str, hospital: str | None = None) -> CaseAsk:
    """An ask of a consult; with ``hospital`` only one that this hospital was asked.

    Raises:
        PackRefused: ``not_found``.
    """
    row = await session.get(CaseAsk, ask_id)
    if row is None or row.consult_id != consult or (hospital is not None and row.hospital_id != hospital):
        raise PackRefused(PackCode.NOT_FOUND)
    return row


async def asks_of(session: AsyncSession, consult: str, patient: str) -> list[dict[str, Any]]:
    """Every ask of one patient in a consult, newest first."""
    query = _query().where(CaseAsk.consult_id == consult, CaseAsk.patient_id == patient)
    return [_view(row) for row in await session.execute(query)]


async def open_asks(session: AsyncSession, consults: Sequence[str], hospital: str) -> list[dict[str, Any]]:
    """What a hospital was asked and has not answered, in these consults."""
    query = (
        _query()
        .join(ConsultState, ConsultState.consult_id == CaseAsk.consult_id)
        .where(
            CaseAsk.consult_id.in_(consults), CaseAsk.hospital_id == hospital, CaseAsk.status == ASKED,
            ConsultState.status != ConsultStatus.ENDED.value,
        )
    )  # fmt: skip
    return [_view(row) for row in await session.execute(query)]


def _query() -> Any:
    asked = aliased(Hospital)
    own = aliased(Hospital)
    reached = aliased(Person)
    reaches = (
        select(func.count())
        .select_from(ConsultMember)
        .join(reached, reached.id == ConsultMember.subject_id)
        .where(
            ConsultMember.consult_id == CaseAsk.consult_id, ConsultMember.kind == "person",
            ConsultMember.role.in_([role.value for role in CLINICIANS]), reached.hospital_id == CaseAsk.hospital_id,
        )
        .correlate(CaseAsk)
        .scalar_subquery()
    )  # fmt: skip
    return (
        select(CaseAsk, Person.name, own.name, asked.name, ConsultRow.title, reaches)
        .join(Person, Person.id == CaseAsk.person_id)
        .join(own, own.id == Person.hospital_id)
        .join(asked, asked.id == CaseAsk.hospital_id)
        .join(ConsultRow, ConsultRow.id == CaseAsk.consult_id)
        .order_by(CaseAsk.asked_at_ms.desc(), CaseAsk.id)
        .limit(MOST_ASKS)
    )


def _view(found: Any) -> dict[str, Any]:
    row, by, by_hospital, hospital, title, reaches = found
    return {
        "id": row.id, "consult": row.consult_id, "consult_title": title, "patient": row.patient_id, "part": row.part,
        "en": row.en, "zh": row.zh, "note": row.note, "status": row.status, "hospital": hospital, "by": by,
        "by_hospital": by_hospital, "asked_at_ms": row.asked_at_ms, "closed_at_ms": row.closed_at_ms,
        "reason": row.reason, "lock": row.lock_code, "through_lock": (row.closed_by or "").startswith("gateway:"),
        "answer": json.loads(row.answer), "reaches": reaches,
    }  # fmt: skip


def _entry(kind: str, actor: str, consult: str, body: dict[str, Any], now_ms: int) -> audit.Entry:
    return audit.Entry(kind=kind, at_ms=now_ms, actor=actor, consult_id=consult, body=body)
