"""Sent case packs for their readers: as they were sent, checked, with what became of it since.

A sent pack is checked against its own hash and the audit chain's (`PackCode.DAMAGED`). Beside it stands what the record
has changed or taken back since, what has grown too old on the way, and what was answered to asks.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from server.casepack.aio.packs import HASHED, digest_of, latest, record, require_patient
from server.casepack.core.completeness import State
from server.casepack.core.evidence import is_said, ref_of
from server.casepack.core.refusals import PackCode, PackRefused
from server.casepack.core.selection import Line, section_of
from server.casepack.core.view import findings_now, lines_view
from server.record.aio.store import find_one, row_text
from server.storage.casepack_tables import CaseAsk, CasePack
from server.storage.fhir_tables import FhirResource
from server.storage.models import ConsultState, EventRow, Hospital, Person
from signaling.core.model import ConsultStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A sent version for a reader, and what became of its resources since.

    Args:
        whole: it is what was sent, by its own hash and by the audit chain's.
        newest: number of the newest version.
        since: ``Type/id`` to ``changed`` or ``withdrawn``.
    """

    pack: CasePack
    whole: bool
    newest: int
    by: str
    hospital: str
    since: Mapping[str, str]

    def findings(self, now_ms: int) -> list[dict[str, Any]]:
        """What it lacks now."""
        withdrawn = {ref for ref, what in self.since.items() if what == WITHDRAWN}
        return findings_now(json.loads(self.pack.findings), withdrawn, now_ms)

    def lines(self) -> list[dict[str, Any]]:
        """What it says; of values that the record has changed or taken back since it says so."""
        return [
            line | {"since": max((self.since.get(ref, "") for ref in line["refs"]), default="")}
            for line in json.loads(self.pack.lines)
        ]  # fmt: skip

    def require_whole(self) -> None:
        """That it is as it was sent.

        Raises:
            PackRefused: ``casepack_damaged``.
        """
        if not self.whole:
            raise PackRefused(PackCode.DAMAGED)


CHANGED, WITHDRAWN = "changed", "withdrawn"
"""The greater word is the graver one."""


async def sent(
    session: AsyncSession, consult: str, patient: str, version: int | None, actor: str, participant: str, now_ms: int
) -> Opened:
    """A sent version, for a reader: on record before it is shown (G5), also when it is damaged.

    Args:
        version: None for the newest.

    Raises:
        PackRefused: ``not_found`` or ``consult_ended``.
    """
    await require_patient(session, consult, patient, changing=False)
    newest = await latest(session, consult, patient)
    pack = newest
    if version is not None:
        pack = await session.scalar(
            select(CasePack).where(
                CasePack.consult_id == consult, CasePack.patient_id == patient, CasePack.version == version
            )
        )
    if pack is None or newest is None:
        raise PackRefused(PackCode.NOT_FOUND)
    whole = digest_of({name: getattr(pack, name) for name in HASHED}) == pack.sha256 and await _is_sealed(session, pack)
    body = {"patient": patient, "version": pack.version, "participant": participant, "whole": whole}
    await record(session, "casepack_read", actor, consult, body, now_ms)
    person, hospital = await session.get(Person, pack.person_id), await session.get(Hospital, pack.hospital_id)
    return Opened(
        pack=pack, whole=whole, newest=newest.version, by=person.name if person is not None else "",
        hospital=hospital.name if hospital is not None else "", since=await _since(session, pack) if whole else {},
    )  # fmt: skip


async def _is_sealed(session: AsyncSession, pack: CasePack) -> bool:
    """Whether the audit chain has this hash for this version: who changes the row changes its own hash with it."""
    query = select(EventRow.body).where(
        EventRow.consult_id == pack.consult_id, EventRow.kind == "casepack_sent", EventRow.at_ms == pack.sent_at_ms
    )
    wanted = (pack.patient_id, pack.version, pack.sha256)
    bodies = [json.loads(body) for body in await session.scalars(query)]
    return any((body["patient"], body["version"], body["sha256"]) == wanted for body in bodies)


async def _since(session: AsyncSession, pack: CasePack) -> dict[str, str]:
    """What the record has changed or taken back of what a pack holds; another patient's it is not hers any more."""
    by_type: dict[str, list[str]] = {}
    for line in json.loads(pack.lines):
        for ref in line["refs"]:
            kind, _slash, id_ = ref.partition("/")
            by_type.setdefault(kind, []).append(id_)
    found: dict[str, str] = {}
    for kind, ids in by_type.items():
        query = select(FhirResource).where(
            FhirResource.type == kind, FhirResource.id.in_(ids), FhirResource.written_at_ms > pack.sent_at_ms
        )
        for row in await session.scalars(query):
            is_hers = not row.deleted and row.patient_id == pack.patient_id
            found[f"{kind}/{row.id}"] = CHANGED if is_hers and is_said(json.loads(row_text(row))) else WITHDRAWN
    return found


async def lines_of(session: AsyncSession, patient: str, refs: Iterable[str]) -> list[dict[str, Any]]:
    """Resources of a patient as lines, in the order of ``refs``; without those that the record has no more."""
    found: list[dict[str, Any]] = []
    for ref in refs:
        kind, _slash, id_ = ref.partition("/")
        resource = await find_one(session, patient, kind, id_)
        if resource is not None and is_said(resource):
            one = ref_of(resource)
            found += lines_view([Line(section_of(resource) or "documents", (one,))], {one: resource})
    return found


async def summaries(session: AsyncSession, consults: Sequence[str], now_ms: int) -> list[dict[str, Any]]:
    """For the list of consults: which patients have a pack, of when and by whom, and what is missing in it by now.

    ``asked`` are the parts that somebody waits for, ``news_ms`` is when an ask was made or closed last.
    """
    newest = (
        select(CasePack.consult_id, CasePack.patient_id, func.max(CasePack.version).label("version"))
        .where(CasePack.consult_id.in_(consults))
        .group_by(CasePack.consult_id, CasePack.patient_id)
        .subquery()
    )
    query = (
        select(CasePack.consult_id, CasePack.patient_id, CasePack.version, CasePack.sent_at_ms, CasePack.specialty,
               CasePack.findings, Hospital.name)
        .join(newest, (newest.c.consult_id == CasePack.consult_id) & (newest.c.patient_id == CasePack.patient_id)
              & (newest.c.version == CasePack.version))
        .join(Hospital, Hospital.id == CasePack.hospital_id)
        .join(ConsultState, ConsultState.consult_id == CasePack.consult_id)
        .where(ConsultState.status != ConsultStatus.ENDED.value)
    )  # fmt: skip
    rows = (await session.execute(query)).all()
    asks = await _asks_by_patient(session, [row.consult_id for row in rows])
    return [
        {
            "consult": row.consult_id, "patient": row.patient_id, "version": row.version,
            "sent_at_ms": row.sent_at_ms, "hospital": row.name, "specialty": row.specialty,
            "missing": [
                one for one in findings_now(json.loads(row.findings), (), now_ms) if one["state"] != State.PRESENT
            ],
            "asked": sorted({one.part for one in asks.get((row.consult_id, row.patient_id), ()) if one.open_key}),
            "news_ms": max(
                (one.closed_at_ms or one.asked_at_ms for one in asks.get((row.consult_id, row.patient_id), ())),
                default=None,
            ),
        }
        for row in rows
    ]  # fmt: skip


async def _asks_by_patient(session: AsyncSession, consults: Sequence[str]) -> dict[tuple[str, str], list[CaseAsk]]:
    found: dict[tuple[str, str], list[CaseAsk]] = {}
    for row in await session.scalars(select(CaseAsk).where(CaseAsk.consult_id.in_(consults))):
        found.setdefault((row.consult_id, row.patient_id), []).append(row)
    return found
