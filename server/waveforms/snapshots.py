"""Strips: 10 s before and 10 s after a moment, kept with the record (W33).

An order is a row at once, so that it survives this process. The strip is made when the 10 s after are in, or will not
come: its frames as they were sent, identity, settings, state, gaps and a hash over the frames. It becomes a
DocumentReference with its print in the record, in the same transaction as its row and its entry in the audit chain.
The print is made from the stored frames and nothing else, so a reprint is the same to the byte.
"""

import asyncio
import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from media.core.waveform import MalformedFrame, parse_frame
from server.record.aio.store import put_resource
from server.record.core.resource import TEST_TAG
from server.storage import audit
from server.storage.models import EcgSnapshotRow
from server.waveforms import rows
from server.waveforms.blobs import BlobError
from server.waveforms.core.index import record
from server.waveforms.core.order import RESTART, Head, read_head
from server.waveforms.core.stream import StreamInfo
from server.waveforms.desk import WaveformDesk
from server.waveforms.jobs import JobFailed, Jobs
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.model import EcgSnapshot
from signaling.core.ports import SnapshotOrder

BEFORE_US: Final = 10_000_000
AFTER_US: Final = 10_000_000
LATE_US: Final = 5_000_000
"""How much later than the 10 s the last sample may be on its way."""
LOOK_EVERY_S: Final = 0.25
STRIP_BYTES: Final = 4 << 20
MEND_MS: Final = 3_000
"""How long a hole may take to be mended once all the rest is in."""
STRIP_FRAMES: Final = 500
"""No strip of live frames has more that could still be mended."""
UNFINISHED: Final = 1000
"""Orders that a start takes up again."""


@dataclass(frozen=True, slots=True)
class StoredStrip:
    """A strip as it is read again."""

    id: str
    order: SnapshotOrder
    info: StreamInfo
    stored: EcgSnapshot | None
    failed: str | None
    """Why there is none and never will be."""
    frames: bytes

    def describe(self) -> dict[str, Any]:
        """For a page."""
        return {
            "id": self.id,
            "state": "failed" if self.failed else "ordered" if self.stored is None else "stored",
            "snapshot": None if self.stored is None else self.stored.model_dump(mode="json"),
            "order": self.order.model_dump(mode="json"),
            "stream": self.info.model_dump(mode="json", exclude={"archive", "consult"}),
            "bytes": len(self.frames),
        }


class Snapshots:
    """`WaveformArchive` of signalling."""

    def __init__(self, desk: WaveformDesk, jobs: Jobs) -> None:
        self._desk = desk
        self._jobs = jobs

    async def order_snapshot(self, order: SnapshotOrder) -> None:
        """Take note of an order."""
        database = self._desk.database
        if order.at_us > self._desk.now_ms() * 1000 + AFTER_US:
            raise Refusal(ErrorCode.NOT_FOUND, "a strip of the future")
        async with database.write() as session:
            found = await rows.find_archive(session, order.consult, order.patient.id, str(order.stream_id))
            if found is None:
                raise Refusal(ErrorCode.NOT_FOUND, "no such stream of that patient")
            row = EcgSnapshotRow(
                id=order.id,
                consult_id=order.consult,
                archive_id=found.info.archive,
                patient_id=order.patient.id,
                ordered=order.model_dump_json(),
            )
            await rows.order_snapshot(session, row)
            entry = audit.Entry(
                kind="ecg_snapshot_ordered",
                at_ms=order.at_ms,
                actor=order.by,
                consult_id=order.consult,
                body={"snapshot": order.id, "archive": found.info.archive, "patient": order.patient.id},
            )
            await audit.append(session, [entry])

    async def unfinished(self) -> list[SnapshotOrder]:
        """Orders of which nothing came yet, oldest first."""
        async with self._desk.database.read() as session:
            found = await rows.unfinished_snapshots(session, UNFINISHED)
        return sorted((SnapshotOrder.model_validate_json(one) for one in found), key=lambda order: order.at_ms)

    async def snapshot_failed(self, snapshot: str, code: str) -> None:
        """On record: whoever asks for it later is not told to wait."""
        async with self._desk.database.write() as session:
            row = await session.get(EcgSnapshotRow, snapshot)
            if row is None or row.stored is not None:
                return
            row.stored = json.dumps({"failed": code})
            entry = audit.Entry(
                kind="ecg_snapshot_failed",
                at_ms=self._desk.now_ms(),
                consult_id=row.consult_id,
                body={"snapshot": snapshot, "patient": row.patient_id, "code": code},
            )
            await audit.append(session, [entry])

    async def snapshot_stored(self, snapshot: str) -> EcgSnapshot:
        """Wait for the 10 s after, then store the strip."""
        order, info, stored = await self._load(snapshot)
        if stored is not None:
            return stored
        await self._wait(order, info)
        frames = await self._collect(order, info)
        made = measure(order, frames)
        data = b"".join(record(frame) for frame in frames)
        try:
            printed = await self._print(order, info, made, data, "pdf")
        except JobFailed as problem:
            raise Refusal(ErrorCode.ARCHIVE_UNAVAILABLE, str(problem)) from problem
        await self._store(order, info, made, data, printed)
        return made

    async def find(self, consult: str, patient: str, snapshot: str) -> StoredStrip | None:
        """A strip of a patient in a consult."""
        async with self._desk.database.read() as session:
            row = await rows.find_snapshot(session, consult, patient, snapshot)
            archived = None if row is None else await rows.archive_by_id(session, row.archive_id)
        if row is None or archived is None:
            return None
        stored, failed = _outcome(row)
        order = SnapshotOrder.model_validate_json(row.ordered)
        return StoredStrip(row.id, order, archived.info, stored, failed, row.frames or b"")

    async def printed(self, strip: StoredStrip, kind: str) -> bytes:
        """The print as ``svg`` or ``pdf``, made again from the stored frames.

        Raises:
            JobFailed: it cannot be made now.
        """
        if strip.stored is None:
            raise JobFailed("empty", "the strip is not complete yet")
        return await self._print(strip.order, strip.info, strip.stored, strip.frames, kind)

    async def _load(self, snapshot: str) -> tuple[SnapshotOrder, StreamInfo, EcgSnapshot | None]:
        async with self._desk.database.read() as session:
            row = await session.get(EcgSnapshotRow, snapshot)
            archived = None if row is None else await rows.archive_by_id(session, row.archive_id)
        if row is None or archived is None:
            raise Refusal(ErrorCode.NOT_FOUND, "no such order")
        stored, failed = _outcome(row)
        if failed is not None:
            raise Refusal(ErrorCode.NOT_FOUND, failed)
        return SnapshotOrder.model_validate_json(row.ordered), archived.info, stored

    async def _wait(self, order: SnapshotOrder, info: StreamInfo) -> None:
        """Until the 10 s after are in without a hole that may still be mended, or they are too late to come.

        A stream that is not here now may be on its way back: its worker or this process was replaced.
        """
        until_us, whole_at_ms = order.at_us + AFTER_US, 0
        while self._desk.now_ms() * 1000 <= until_us + LATE_US:
            live = self._desk.stream(info.consult, info.stream_id)
            if live is not None and live.info.archive == info.archive and live.last_us >= until_us:
                newest, now_ms = live.open.state.current.seq, self._desk.now_ms()
                whole_at_ms = whole_at_ms or now_ms
                mended = not live.open.state.missing(max(0, newest - STRIP_FRAMES), newest)
                if mended or now_ms - whole_at_ms > MEND_MS:
                    return
            await asyncio.sleep(LOOK_EVERY_S)

    async def _collect(self, order: SnapshotOrder, info: StreamInfo) -> list[bytes]:
        try:
            frames, more = await self._desk.archive.between_us(
                info, max(0, order.at_us - BEFORE_US), order.at_us + AFTER_US, STRIP_BYTES
            )
        except BlobError as problem:
            raise Refusal(ErrorCode.ARCHIVE_UNAVAILABLE, str(problem)) from problem
        if not frames or more is not None:
            raise Refusal(ErrorCode.NOT_FOUND, "no samples around that moment")
        return frames

    async def _print(self, order: SnapshotOrder, info: StreamInfo, made: EcgSnapshot, data: bytes, kind: str) -> bytes:
        archive = self._desk.archive
        with self._jobs.workspace() as folder:
            source, out = f"{folder}/frames", f"{folder}/out"
            await archive.write_file(source, data)
            await self._jobs.run(
                {
                    "job": "print",
                    "kind": kind,
                    "source": source,
                    "out": out,
                    "info": info.model_dump(mode="json"),
                    "order": order.model_dump(mode="json"),
                    "snapshot": made.model_dump(mode="json"),
                }
            )
            return await archive.read_file(out)

    async def _store(
        self, order: SnapshotOrder, info: StreamInfo, made: EcgSnapshot, data: bytes, printed: bytes
    ) -> None:
        now_ms = self._desk.now_ms()
        resources = record_resources(order, info, made, printed)
        async with self._desk.database.write() as session:
            row = await session.get(EcgSnapshotRow, order.id)
            assert row is not None, "orders are never deleted"
            if row.stored is not None:  # given up meanwhile, and everyone was told so
                raise Refusal(ErrorCode.NOT_FOUND, "given up")
            row.stored, row.frames = made.model_dump_json(), data
            await session.flush()
            for resource in resources:
                await put_resource(session, resource, actor=order.by, at_ms=now_ms)
            body = {"snapshot": order.id, "patient": order.patient.id, "sha256": made.sha256, "gaps": made.gaps,
                    "lost": made.lost, "simulated": info.simulated}  # fmt: skip
            entry = audit.Entry(
                kind="ecg_snapshot_stored", at_ms=now_ms, actor=order.by, consult_id=order.consult, body=body
            )
            await audit.append(session, [entry])


def _outcome(row: EcgSnapshotRow) -> tuple[EcgSnapshot | None, str | None]:
    """The strip, or why there is none; neither while it may still come."""
    if row.stored is None:
        return None, None
    fields = json.loads(row.stored)
    return (None, str(fields["failed"])) if "failed" in fields else (EcgSnapshot.model_validate_json(row.stored), None)


def measure(order: SnapshotOrder, frames: Sequence[bytes]) -> EcgSnapshot:
    """What the strip has and lacks. ``frames`` are in the order of the stream and not empty."""
    heads = [head for head in map(read_head, frames) if head.n]
    gaps = lost = 0
    for before, after in pairwise(heads):
        missing = _missing(before, after)
        gaps += missing > 0
        lost += missing
    digest = hashlib.sha256(b"".join(record(frame) for frame in frames)).hexdigest()
    return EcgSnapshot(
        id=order.id,
        stream_id=order.stream_id,
        context_version=order.context_version,
        at_us=order.at_us,
        from_us=min(head.t0_us for head in heads),
        to_us=max(head.t0_us + (head.n - 1) * 1_000_000_000 // head.sample_rate_mhz for head in heads),
        by=order.by,
        at_ms=order.at_ms,
        sha256=digest,
        gaps=gaps,
        lost=lost,
    )


def _missing(before: Head, after: Head) -> int:
    """Samples per lead between two frames: by index within a session, by time between sessions."""
    goes_on = not after.flags & RESTART and after.numbering == before.numbering and after.seq > before.seq
    if goes_on and after.first_sample >= before.first_sample + before.n:
        return after.first_sample - before.first_sample - before.n
    return max(0, round((after.t0_us - before.end_us) * after.sample_rate_mhz / 1e9))


def record_resources(order: SnapshotOrder, info: StreamInfo, made: EcgSnapshot, printed: bytes) -> list[dict[str, Any]]:
    """The strip in the record: its print, and the document that names it."""
    subject = {"reference": f"Patient/{order.patient.id}"}
    meta = {"meta": {"tag": [{"system": TEST_TAG[0], "code": TEST_TAG[1]}]}}
    tagged = meta if info.simulated or order.patient.test else {}
    taken = datetime.fromtimestamp(order.at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    title = ("SIMULATED " if info.simulated else "") + f"ECG {info.device}".strip()
    binary = {
        "resourceType": "Binary",
        "id": f"ecg-{order.id}"[:64],
        "contentType": "application/pdf",
        "securityContext": subject,
        "data": base64.b64encode(printed).decode(),
        **tagged,
    }
    document = {
        "resourceType": "DocumentReference",
        "id": f"ecg-{order.id}"[:64],
        "status": "current",
        "type": {"coding": [{"system": "http://loinc.org", "code": "11524-6", "display": "EKG study"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "11524-6"}]}],
        "subject": subject,
        "date": taken,
        "description": f"{title}: 10 s before and after {taken}; gaps {made.gaps}, sha256 {made.sha256}",
        "content": [
            {
                "attachment": {
                    "contentType": "application/pdf",
                    "url": f"Binary/{binary['id']}",
                    "title": title,
                    "size": len(printed),
                    "hash": base64.b64encode(hashlib.sha1(printed, usedforsecurity=False).digest()).decode(),
                    "creation": taken,
                }
            }
        ],
        **tagged,
    }
    return [binary, document]


def split_records(data: bytes) -> list[bytes]:
    """Frames of ``u32 length | frame`` runs.

    Raises:
        MalformedFrame: a record is torn or no frame.
    """
    frames = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        frame = data[at + 4 : at + 4 + size]
        if len(frame) != size:
            raise MalformedFrame("torn record")
        parse_frame(frame)
        frames.append(frame)
        at += 4 + size
    return frames


def print_job(request: dict[str, Any]) -> bytes:
    """The print of a stored strip; runs in a job's process."""
    from pathlib import Path

    from server.waveforms.core.paper import Strip, pages, pdf, svg
    from server.waveforms.core.timeline import read_runs

    info = StreamInfo.model_validate(request["info"])
    order = SnapshotOrder.model_validate_json(json.dumps(request["order"]))
    made = EcgSnapshot.model_validate_json(json.dumps(request["snapshot"]))
    runs = read_runs(info, split_records(Path(request["source"]).read_bytes()))
    strip = Strip(
        info=info, banner=order.patient, runs=runs, settings=order.settings, at_us=order.at_us, from_us=made.from_us,
        to_us=made.to_us, state=order.state.value, age_ms=order.age_ms, sha256=made.sha256, gaps=made.gaps,
        lost=made.lost, id=order.id,
    )  # fmt: skip
    return (svg if request["kind"] == "svg" else pdf)(pages(strip))
