"""Case packs in the database: prepared from the record, sent once.

Each function takes the session of one ``database.write()`` or ``read()`` block and leaves the audit row with it.
A draft is a hospital's own: what the other side sees begins with sending. A sent pack is inserted and never
updated; reading it is `reading.py`.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from server.casepack.core.completeness import Finding, check, is_complete
from server.casepack.core.document import About, compose, content_hash
from server.casepack.core.evidence import Ref, ref_of
from server.casepack.core.refusals import PackCode, PackRefused
from server.casepack.core.request import Request, lacking
from server.casepack.core.selection import Selection, refs_of
from server.casepack.core.selection import select as choose
from server.casepack.core.tables import Table
from server.casepack.core.view import findings_view, lines_view
from server.record.aio.store import find_one, resolve_patient, row_text, write_resource, written_entry
from server.record.core.resource import file_resource, is_test
from server.storage import audit
from server.storage.casepack_tables import CasePack, CasePackDraft
from server.storage.fhir_tables import FhirResource
from server.storage.models import ConsultPatient, ConsultRow, ConsultState
from signaling.core.model import ConsultStatus

TYPES = (
    "Condition", "MedicationRequest", "MedicationStatement", "AllergyIntolerance", "Observation", "DiagnosticReport",
    "ImagingStudy", "DocumentReference", "Composition",
)  # fmt: skip
NEWEST = 3_000
"""Of each type: what is looked at of a very long record."""
MOST_BYTES = 16 * 1024 * 1024
"""Of a sent document."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sender:
    """A person who prepares or asks, and for which hospital."""

    person: str
    name: str
    hospital: str
    hospital_name: str
    actor: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A pack as it would be sent now."""

    table: Table
    request: Request
    selection: Selection
    findings: tuple[Finding, ...]
    resources: Mapping[Ref, Mapping[str, Any]]
    content_hash: str

    def view(self) -> dict[str, Any]:
        """What a page shows of it."""
        return {
            "specialty": self.table.specialty,
            "request": self.request.model_dump(),
            "lacking": list(lacking(self.request)),
            "lines": lines_view(self.selection.lines, self.resources),
            "left_out_by_section": self.selection.left_out,
            "findings": findings_view(self.findings),
            "complete": is_complete(self.findings),
            "content_hash": self.content_hash,
        }


async def require_patient(session: AsyncSession, consult: str, patient: str, *, changing: bool = True) -> ConsultRow:
    """The consult, if the patient belongs to it and it has not ended.

    Raises:
        PackRefused: ``not_found`` or ``consult_ended``.
    """
    query = (
        select(ConsultRow, ConsultState.status)
        .join(ConsultState, ConsultState.consult_id == ConsultRow.id)
        .join(ConsultPatient, ConsultPatient.consult_id == ConsultRow.id)
        .where(ConsultRow.id == consult, ConsultPatient.patient_id == patient)
    )
    row = (await session.execute(query.with_for_update(of=ConsultState) if changing else query)).one_or_none()
    if row is None:
        raise PackRefused(PackCode.NOT_FOUND)
    if row[1] == ConsultStatus.ENDED.value:
        raise PackRefused(PackCode.CONSULT_ENDED)
    found: ConsultRow = row[0]
    return found


async def prepare(
    session: AsyncSession, table: Table, patient: str, request: Request, without: Iterable[str], now_ms: int
) -> Prepared:
    """What a pack would hold now. Facts that the table does not ask for are left aside."""
    resources = await load_record(session, patient, _types(table))
    facts = {part.key: request.facts[part.key] for part in table.parts if part.fact and part.key in request.facts}
    request = request.model_copy(update={"facts": facts})
    selection = choose(resources, table, now_ms * 1_000, frozenset(without))
    by_ref = {ref_of(one): one for one in resources}
    held = {ref: by_ref[ref] for ref in refs_of(selection)}
    findings = check(table, list(held.values()), request.facts, now_ms * 1_000)
    return Prepared(table, request, selection, findings, held, content_hash(table, request, selection, findings))


def _types(table: Table) -> list[str]:
    return sorted({*TYPES, *(match.type for part in table.parts for match in part.any_of)})


async def load_record(session: AsyncSession, patient: str, types: Sequence[str]) -> list[dict[str, Any]]:
    """The newest present resources of each type."""
    found: list[dict[str, Any]] = []
    for kind in types:
        query = (
            select(FhirResource)
            .where(FhirResource.patient_id == patient, FhirResource.type == kind, FhirResource.deleted.is_(False))
            .order_by(FhirResource.low_us.desc(), FhirResource.id)
            .limit(NEWEST)
        )
        found += [json.loads(row_text(row)) for row in await session.scalars(query)]
    return found


# ------------------------------------------------------------------ preparing


async def draft_of(session: AsyncSession, consult: str, patient: str, hospital: str) -> CasePackDraft | None:
    """What a hospital prepares."""
    return await session.get(CasePackDraft, (consult, patient, hospital))


async def save_draft(
    session: AsyncSession,
    consult: str,
    patient: str,
    table: Table,
    request: Request,
    without: Sequence[str],
    sender: Sender,
    now_ms: int,
) -> Prepared:
    """Assemble, and keep what the sender wrote and chose.

    Raises:
        PackRefused: ``not_found`` or ``consult_ended``.
    """
    await require_patient(session, consult, patient)
    prepared = await prepare(session, table, patient, request, without, now_ms)
    await session.merge(
        CasePackDraft(
            consult_id=consult, patient_id=patient, hospital_id=sender.hospital, specialty=table.specialty,
            request=prepared.request.model_dump_json(), left_out=json.dumps(sorted(set(without))),
            content_hash=prepared.content_hash, person_id=sender.person, at_ms=now_ms,
        )
    )  # fmt: skip
    await session.flush()
    body = {
        "patient": patient, "specialty": table.specialty, "content": prepared.content_hash,
        "resources": len(prepared.resources), "complete": is_complete(prepared.findings),
    }  # fmt: skip
    await record(session, "casepack_assembled", sender.actor, consult, body, now_ms)
    return prepared


async def send(
    session: AsyncSession,
    consult: str,
    patient: str,
    tables: Mapping[str, Table],
    seen_hash: str,
    sender: Sender,
    now_ms: int,
) -> CasePack:
    """Send what was seen: assembled once more, and refused when it is not the same any more.

    Raises:
        PackRefused: ``not_found``, ``consult_ended``, ``casepack_unfinished`` (C25), ``casepack_changed``,
            ``casepack_unchanged`` or ``too_large``.
    """
    row = await require_patient(session, consult, patient)
    draft = await draft_of(session, consult, patient, sender.hospital)
    if draft is None or draft.specialty not in tables:
        raise PackRefused(PackCode.NOT_FOUND)
    request = Request.model_validate_json(draft.request)
    if lacking(request):
        raise PackRefused(PackCode.UNFINISHED, ",".join(lacking(request)))
    without = json.loads(draft.left_out)
    prepared = await prepare(session, tables[draft.specialty], patient, request, without, now_ms)
    if prepared.content_hash != seen_hash:
        raise PackRefused(PackCode.CHANGED)
    former = await latest(session, consult, patient)
    if former is not None and former.content_hash == prepared.content_hash:
        raise PackRefused(PackCode.UNCHANGED)
    pack = await _insert(session, row, patient, prepared, former, sender, now_ms)
    body = {
        "patient": patient, "version": pack.version, "sha256": pack.sha256, "composition": pack.id,
        "resources": len(prepared.resources), "complete": is_complete(prepared.findings),
    }  # fmt: skip
    await record(session, "casepack_sent", sender.actor, consult, body, now_ms)
    return pack


async def _insert(
    session: AsyncSession,
    consult: ConsultRow,
    patient: str,
    prepared: Prepared,
    former: CasePack | None,
    sender: Sender,
    now_ms: int,
) -> CasePack:
    person = await find_one(session, patient, "Patient", patient)
    if person is None:
        raise PackRefused(PackCode.NOT_FOUND)
    version = 1 if former is None else former.version + 1
    stem = f"cp-{secrets.token_hex(12)}" if former is None else former.id.rpartition("-")[0]
    about = About(
        stem=stem, patient=patient, version=version, title=consult.title, author=sender.name,
        hospital=sender.hospital_name, starts_at_ms=consult.starts_at_ms, at_ms=now_ms, test=is_test(person),
    )  # fmt: skip
    made = compose(
        about, prepared.table, prepared.request, prepared.selection, prepared.findings, person, prepared.resources
    )
    if len(made.bundle_text.encode()) > MOST_BYTES:
        raise PackRefused(PackCode.TOO_LARGE)
    view = prepared.view()
    parts = {
        "request": prepared.request.model_dump_json(),
        "findings": json.dumps(view["findings"], ensure_ascii=False),
        "lines": json.dumps(view["lines"], ensure_ascii=False),
        "bundle": made.bundle_text,
    }
    pack = CasePack(
        id=f"{stem}-{version}", consult_id=consult.id, patient_id=patient, version=version,
        hospital_id=sender.hospital, person_id=sender.person, specialty=prepared.table.specialty,
        content_hash=prepared.content_hash, sha256=digest_of(parts), sent_at_ms=now_ms, **parts,
    )  # fmt: skip
    session.add(pack)
    await session.flush()
    await audit.append(
        session,
        await write_all(session, [made.request, made.composition, made.provenance], actor=sender.actor, at_ms=now_ms),
    )
    return pack


async def write_all(
    session: AsyncSession, resources: Iterable[dict[str, Any]], *, actor: str, at_ms: int, owner: str = ""
) -> list[audit.Entry]:
    """Store resources; the audit rows are the caller's to append, last in its transaction.

    Raises:
        server.record.core.resource.ResourceInvalid: one is not FHIR, or another patient's.
    """
    entries = []
    for one in resources:
        filed = file_resource(one)
        whose = await resolve_patient(session, filed)
        stored = await write_resource(session, filed, patient=whose, at_ms=at_ms, owner=owner)
        if stored.changed:
            entries.append(written_entry(stored, actor, at_ms))
    return entries


HASHED = ("request", "findings", "lines", "bundle")
"""What the hash of a sent version is of."""


def digest_of(parts: Mapping[str, str]) -> str:
    """SHA-256 of what is sent."""
    digest = hashlib.sha256()
    for name in HASHED:
        part = parts[name].encode()
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


async def latest(session: AsyncSession, consult: str, patient: str) -> CasePack | None:
    """The newest sent version."""
    query = (
        select(CasePack)
        .where(CasePack.consult_id == consult, CasePack.patient_id == patient)
        .order_by(CasePack.version.desc())
        .limit(1)
    )
    return await session.scalar(query)


async def record(
    session: AsyncSession, kind: str, actor: str, consult: str, body: Mapping[str, Any], now_ms: int
) -> None:
    """One row of the audit chain."""
    await audit.append(session, [audit.Entry(kind=kind, at_ms=now_ms, actor=actor, consult_id=consult, body=body)])
