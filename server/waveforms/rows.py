"""Archived streams, vital signs and strips in the database."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server.storage import audit
from server.storage.database import Database
from server.storage.models import ConsultState, EcgSnapshotRow, VitalSignRow, WaveformArchiveRow
from server.waveforms.core.order import Summary
from server.waveforms.core.stream import StreamInfo
from signaling.core.model import ConsultStatus


@dataclass(frozen=True, slots=True)
class Archived:
    """A stream and what is known of its frames."""

    info: StreamInfo
    summary: Summary
    sha256: str | None
    closed: bool


async def open_archive(database: Database, info: StreamInfo, at_ms: int) -> StreamInfo:
    """The row of a live stream: an open one of the same consult, number and format goes on, else a new one begins."""
    async with database.write() as session:
        query = select(WaveformArchiveRow).where(
            WaveformArchiveRow.consult_id == info.consult,
            WaveformArchiveRow.stream_id == info.stream_id,
            WaveformArchiveRow.kind == "live",
            WaveformArchiveRow.closed_at_ms.is_(None),
        )
        for row in (await session.scalars(query)).all():
            known = _info(row)
            if known.wave == info.wave:
                return known
        session.add(_row(info, at_ms))
        await session.flush()
        body = {
            "archive": info.archive, "stream": info.stream_id, "patient": info.patient, "kind": info.kind,
            "simulated": info.simulated,
        }  # fmt: skip
        await audit.append(
            session, [audit.Entry(kind="waveform_opened", at_ms=at_ms, body=body, consult_id=info.consult)]
        )
    return info


async def note_progress(database: Database, progress: Sequence[tuple[str, Summary]]) -> None:
    """What the list says of streams that go on."""
    async with database.write() as session:
        for archive, summary in progress:
            await session.execute(
                update(WaveformArchiveRow).where(WaveformArchiveRow.id == archive).values(**_counts(summary))
            )


async def close_archive(
    database: Database, info: StreamInfo, summary: Summary, sha256: str, at_ms: int, actor: str = audit.SERVER
) -> None:
    """The stream is over: its hash goes into its row and the chain, once."""
    values = {**_counts(summary), "sha256": sha256, "closed_at_ms": at_ms}
    body = {
        "archive": info.archive, "stream": info.stream_id, "patient": info.patient, "kind": info.kind,
        "simulated": info.simulated, "sha256": sha256, **_counts(summary),
    }  # fmt: skip
    async with database.write() as session:
        still_open = WaveformArchiveRow.closed_at_ms.is_(None)
        closing = update(WaveformArchiveRow).where(WaveformArchiveRow.id == info.archive, still_open).values(**values)
        if not (await session.execute(closing)).rowcount:  # type: ignore[attr-defined] # a cursor's result has it
            return
        await audit.append(
            session,
            [audit.Entry(kind="waveform_archived", at_ms=at_ms, actor=actor, body=body, consult_id=info.consult)],
        )


async def add_import(database: Database, info: StreamInfo, at_ms: int) -> None:
    """The row of an imported recording; `close_archive` follows once its frames are stored."""
    async with database.write() as session:
        session.add(_row(info, at_ms))


async def archives_of(session: AsyncSession, consult: str, patient: str) -> list[Archived]:
    """Streams of one patient in one consult, oldest first."""
    query = (
        select(WaveformArchiveRow)
        .where(WaveformArchiveRow.consult_id == consult, WaveformArchiveRow.patient_id == patient)
        .order_by(WaveformArchiveRow.opened_at_ms, WaveformArchiveRow.id)
    )
    return [_archived(row) for row in (await session.scalars(query)).all()]


async def find_archive(session: AsyncSession, consult: str, patient: str, name: str) -> Archived | None:
    """By the archive's id, or by the stream's number: of several with one number the newest."""
    query = select(WaveformArchiveRow).where(
        WaveformArchiveRow.consult_id == consult, WaveformArchiveRow.patient_id == patient
    )
    if name.isascii() and name.isdigit() and len(name) <= 10:
        query = query.where(WaveformArchiveRow.stream_id == int(name))
    else:
        query = query.where(WaveformArchiveRow.id == name)
    row = await session.scalar(
        query.order_by(WaveformArchiveRow.opened_at_ms.desc(), WaveformArchiveRow.id.desc()).limit(1)
    )
    return None if row is None else _archived(row)


async def archive_by_id(session: AsyncSession, archive: str) -> Archived | None:
    """One archive, whoever's it is."""
    row = await session.get(WaveformArchiveRow, archive)
    return None if row is None else _archived(row)


async def left_open(session: AsyncSession, consult: str | None = None) -> list[Archived]:
    """Streams without an end, of consults that have ended."""
    query = (
        select(WaveformArchiveRow)
        .join(ConsultState, ConsultState.consult_id == WaveformArchiveRow.consult_id)
        .where(WaveformArchiveRow.closed_at_ms.is_(None), ConsultState.status == ConsultStatus.ENDED.value)
    )
    if consult is not None:
        query = query.where(WaveformArchiveRow.consult_id == consult)
    return [_archived(row) for row in (await session.scalars(query)).all()]


async def add_vitals(database: Database, values: Sequence[dict[str, Any]]) -> None:
    """Vital signs as they came."""
    async with database.write() as session:
        await session.execute(insert(VitalSignRow), list(values))


async def vitals_between(
    session: AsyncSession, consult: str, patient: str, from_us: int, to_us: int, limit: int, offset: int = 0
) -> list[VitalSignRow]:
    """In the order of their own times, from the ``offset``-th on."""
    query = (
        select(VitalSignRow)
        .where(
            VitalSignRow.consult_id == consult,
            VitalSignRow.patient_id == patient,
            VitalSignRow.at_us >= from_us,
            VitalSignRow.at_us < to_us,
        )
        .order_by(VitalSignRow.at_us, VitalSignRow.id)
        .offset(offset)
        .limit(limit)
    )
    return list((await session.scalars(query)).all())


async def order_snapshot(session: AsyncSession, row: EcgSnapshotRow) -> None:
    """Take note of an order."""
    session.add(row)
    await session.flush()


async def unfinished_snapshots(session: AsyncSession, limit: int) -> list[str]:
    """Orders of which nothing came yet, as JSON."""
    query = select(EcgSnapshotRow.ordered).where(EcgSnapshotRow.stored.is_(None)).limit(limit)
    return list((await session.scalars(query)).all())


async def find_snapshot(session: AsyncSession, consult: str, patient: str, id_: str) -> EcgSnapshotRow | None:
    """One strip of one patient in one consult."""
    row = await session.get(EcgSnapshotRow, id_)
    return row if row is not None and (row.consult_id, row.patient_id) == (consult, patient) else None


def _counts(summary: Summary) -> dict[str, int]:
    return {
        "first_us": summary.first_us,
        "last_us": summary.last_us,
        "frames": summary.frames,
        "gaps": summary.gaps,
        "lost": summary.lost,
        "context_version": summary.context_version,
    }


def _row(info: StreamInfo, at_ms: int) -> WaveformArchiveRow:
    return WaveformArchiveRow(
        id=info.archive,
        consult_id=info.consult,
        stream_id=info.stream_id,
        kind=info.kind,
        title=info.title,
        device=info.device,
        leads=json.dumps(info.leads, ensure_ascii=False),
        sample_rate_mhz=info.sample_rate_mhz,
        lsb_nv=info.lsb_nv,
        filter=info.filter,
        simulated=info.simulated,
        patient_id=info.patient,
        context_version=0,
        opened_at_ms=at_ms,
    )


def _info(row: WaveformArchiveRow) -> StreamInfo:
    return StreamInfo(
        archive=row.id,
        consult=row.consult_id,
        stream_id=row.stream_id,
        kind="live" if row.kind == "live" else "import",
        title=row.title,
        device=row.device,
        leads=tuple(json.loads(row.leads)),
        sample_rate_mhz=row.sample_rate_mhz,
        lsb_nv=row.lsb_nv,
        filter=row.filter,
        simulated=row.simulated,
        patient=row.patient_id,
    )


def _archived(row: WaveformArchiveRow) -> Archived:
    summary = Summary(row.frames, row.first_us, row.last_us, row.gaps, row.lost, 0, row.context_version)
    return Archived(_info(row), summary, row.sha256, row.closed_at_ms is not None)
