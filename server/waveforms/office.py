"""What people ask of archived waveforms: lists, pages of frames, exports, imports.

Who may ask is the HTTP layer's question; here everything is named by a stream that was already found to be theirs.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from server.storage.models import VitalSignRow
from server.waveforms import rows
from server.waveforms.archive import UNWRITTEN_BYTES
from server.waveforms.blobs import FolderBlobs
from server.waveforms.core.identity import ExportIdentity, ExportJob
from server.waveforms.core.index import LENGTH
from server.waveforms.core.stream import StreamInfo
from server.waveforms.core.upload import Room
from server.waveforms.core.vitals import vitals_bundle
from server.waveforms.desk import WaveformDesk
from server.waveforms.jobs import JobFailed, Jobs
from server.waveforms.rows import Archived
from signaling.core.model import PatientBanner

PAGE_BYTES: Final = 1 << 20
"""Frames in one answer: five minutes of twelve leads."""
MAX_UPLOAD_BYTES: Final = 64 << 20
ALL_UPLOADS_BYTES: Final = 3 * MAX_UPLOAD_BYTES
"""On their way, or being read, at one time."""
SIMULATED_REFUSED: Final = (
    "This recording says that it is simulated. It can be imported for a test patient only.",
    "该记录标明为模拟信号，只能导入测试患者。",
)
ALL_TIME_US: Final = 2**53 - 1
VITALS_LIMIT: Final = 200_000
EXPORTS_AT_ONCE: Final = 8
"""Made or on their way to whoever asked, however slowly they read."""
VITALS_PAGE: Final = 2_000
"""Rows that are made into objects in one go: the loop breathes between pages."""
IMPORT_BATCH: Final = 2_000
IMPORT_BYTES: Final = UNWRITTEN_BYTES // 2
"""What an archive holds back beyond `UNWRITTEN_BYTES` it leaves to the ring, which knows nothing of an import."""

__all__ = [
    "ALL_TIME_US",
    "MAX_UPLOAD_BYTES",
    "PAGE_BYTES",
    "Imported",
    "JobFailed",
    "Office",
    "PatientDiffers",
    "software",
]


class PatientDiffers(Exception):
    """The file names another patient than the open one (W22)."""

    def __init__(self, reported: tuple[str, ...]) -> None:
        super().__init__("the file names another patient")
        self.reported = reported


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an upload."""

    streams: list[Archived]
    format: str
    notices: list[dict[str, str]]
    """``code``, ``en``, ``zh``, ``detail``."""
    left_out: int


class Office:
    """See the module."""

    def __init__(self, desk: WaveformDesk, blobs: FolderBlobs, software: str, institution: str) -> None:
        self.desk = desk
        self._blobs = blobs
        self._software = software
        self._institution = institution
        self.jobs = Jobs(blobs.root / "jobs")
        self.prints = Jobs(blobs.root / "jobs")
        """Of strips: they never wait behind exports and imports, which take minutes."""
        self._exports = 0
        self.uploads = Room(ALL_UPLOADS_BYTES)
        self.audited: dict[tuple[str, str, int], int] = {}
        """Who has looked at which stream in which context, and when that was last put on record."""

    def describe(self, one: Archived) -> dict[str, Any]:
        """One entry of the list; a live stream's counts are those of this moment."""
        info = one.info
        live = self.desk.stream(info.consult, info.stream_id)
        is_here = live is not None and live.info.archive == info.archive
        summary = live.open.state.summary if live is not None and is_here else one.summary
        trouble = live.open.trouble if live is not None and is_here else None
        return {
            "id": info.archive,
            "stream_id": info.stream_id,
            "kind": info.kind,
            "title": info.title,
            "device": info.device,
            "leads": list(info.leads),
            "sample_rate_mhz": info.sample_rate_mhz,
            "lsb_nv": info.lsb_nv,
            "filter": info.filter,
            "simulated": info.simulated,
            "patient": info.patient,
            "context_version": summary.context_version,
            "first_us": summary.first_us,
            "last_us": summary.last_us,
            "frames": summary.frames,
            "gaps": summary.gaps,
            "lost": summary.lost,
            "live": live is not None and is_here and live.live,
            "sha256": one.sha256,
            "trouble": None if trouble is None else trouble.value,
        }

    async def export(
        self, info: StreamInfo, kind: str, banner: PatientBanner, from_us: int, to_us: int
    ) -> tuple[str, bytes]:
        """A file's name and content, as `exported`."""
        async with self.exported(info, kind, banner, from_us, to_us) as (name, path):
            return name, await self.desk.archive.read_file(path)

    @contextlib.asynccontextmanager
    async def exported(
        self, info: StreamInfo, kind: str, banner: PatientBanner, from_us: int, to_us: int
    ) -> AsyncIterator[tuple[str, str]]:
        """A file's name and where it is, for the length of the block: hours of samples are hundreds of megabytes.

        Raises:
            JobFailed: ``empty``, ``too_large``, ``unsupported``, ``busy``, ``timeout`` or ``broken``.
        """
        if self._exports >= EXPORTS_AT_ONCE:
            raise JobFailed("busy")
        self._exports += 1
        try:
            with self.jobs.workspace() as folder:
                name = await self._export(folder, info, kind, banner, from_us, to_us)
                yield name, f"{folder}/out"
        finally:
            self._exports -= 1

    async def _export(
        self, folder: str, info: StreamInfo, kind: str, banner: PatientBanner, from_us: int, to_us: int
    ) -> str:
        await self.desk.archive.flush()
        vitals = ""
        if kind == "wfdb.zip":
            vitals = await self.vitals(info, from_us, to_us)
        identity = ExportIdentity(
            banner=banner,
            institution=self._institution,
            made_at_us=self.desk.now_ms() * 1000,
            software=self._software,
        )
        job = ExportJob(
            kind=kind, info=info, identity=identity, folder=str(self._blobs.root), from_us=from_us, to_us=to_us,
            vitals=vitals,
        )  # fmt: skip
        await self.jobs.run({"job": "export", "export": job.model_dump(mode="json"), "out": f"{folder}/out"})
        return f"ecg_{info.stream_id}.{kind}"

    async def vitals(self, info: StreamInfo, from_us: int, to_us: int) -> str:
        """Vital signs of the stream's patient in this consult, as a FHIR bundle.

        Raises:
            JobFailed: ``too_large``; all of them or none, so that nobody takes a part for the whole.
        """
        await self.desk.write_rows()
        found: list[VitalSignRow] = []
        async with self.desk.database.read() as session:
            while len(found) % VITALS_PAGE == 0:
                page = await rows.vitals_between(
                    session, info.consult, info.patient, from_us, to_us, VITALS_PAGE, len(found)
                )
                if not page:
                    break
                found += page
                if len(found) > VITALS_LIMIT:
                    raise JobFailed("too_large", f"more than {VITALS_LIMIT} vital signs")
        return await asyncio.to_thread(lambda: json.dumps(vitals_bundle(found), ensure_ascii=False))

    async def import_file(
        self,
        consult: str,
        banner: PatientBanner,
        context_version: int,
        data: bytes,
        title: str,
        actor: str,
        *,
        patient_checked: bool,
        allowed: Callable[[], Awaitable[object]] | None = None,
    ) -> Imported:
        """Read an uploaded recording in a process of its own and archive it.

        Args:
            allowed: raises when the person may not do this any more, or another patient is open. Reading takes up to
                minutes; it is asked right before each row is written, and nothing is kept where it raises.

        Raises:
            PatientDiffers: the file names somebody else, and nobody has said that this was checked.
            JobFailed: it cannot be read (a ``source_...`` code with sentences), or it is simulated and the patient
                is not.
        """
        archive = self.desk.archive
        with self.jobs.workspace() as folder:
            source, out = f"{folder}/source", f"{folder}/out"
            await archive.write_file(source, data)
            found = await self.jobs.run(
                {
                    "job": "import",
                    "source": source,
                    "out": out,
                    "first_stream_id": 1 + secrets.randbelow(2**32 - 64),
                    "context_version": context_version,
                }
            )
            reported = tuple(str(one) for one in found["patient_ids"])
            known = {identifier.value.casefold() for identifier in banner.identifiers}
            if reported and not patient_checked and not known & {one.casefold() for one in reported}:
                raise PatientDiffers(reported)
            if found["simulated"] and not banner.test:
                raise JobFailed("simulated", "not from a person", SIMULATED_REFUSED)
            streams = []
            for number, strip in enumerate(found["strips"]):
                frames = await archive.read_file(f"{out}.{number}")
                streams.append(await self._keep(consult, banner.id, title, found, strip, frames, actor, allowed))
            if found["vitals"]:
                if allowed is not None:
                    await allowed()
                await rows.add_vitals(self.desk.database, _vitals(consult, banner.id, context_version, found))
        return Imported(streams, found["format"], found["notices"], found["left_out"])

    async def _keep(
        self,
        consult: str,
        patient: str,
        title: str,
        found: dict[str, Any],
        strip: dict[str, Any],
        data: bytes,
        by: str,
        allowed: Callable[[], Awaitable[object]] | None = None,
    ) -> Archived:
        info = StreamInfo(
            archive=f"w_{secrets.token_hex(12)}",
            consult=consult,
            stream_id=strip["stream_id"],
            kind="import",
            title=title[:200],
            device=str(found["device"])[:200],
            leads=tuple(strip["leads"]),
            sample_rate_mhz=strip["sample_rate_mhz"],
            lsb_nv=strip["lsb_nv"],
            filter=str(found["filter"])[:200],
            simulated=bool(found["simulated"]),
            patient=patient,
        )
        archive, database = self.desk.archive, self.desk.database
        stream = await archive.open(info)
        at = 0
        while at < len(data):
            for _ in range(IMPORT_BATCH):  # the loop breathes between batches, and what waits is bounded
                if at >= len(data) or stream.unwritten_bytes > IMPORT_BYTES:
                    break
                (size,) = LENGTH.unpack_from(data, at)
                archive.put(stream, data[at + 4 : at + 4 + size])
                at += 4 + size
            await archive.flush_one(stream)
            if stream.trouble is not None:
                await archive.discard(stream)
                raise JobFailed("unavailable", stream.trouble.value)
        try:
            if allowed is not None:
                await allowed()
            await rows.add_import(database, info, self.desk.now_ms())
        except BaseException:
            await archive.discard(stream)
            raise
        closed = await archive.close(stream)
        if closed is None:
            raise JobFailed("unavailable", "not stored")
        digest, summary = closed
        await rows.close_archive(database, info, summary, digest, self.desk.now_ms(), by)
        return Archived(info, summary, digest, closed=True)


def software() -> str:
    """What exports and strips say they were made by (W45)."""
    try:
        return f"consilium {version('consilium')}"
    except PackageNotFoundError:
        return "consilium"


def _vitals(consult: str, patient: str, version: int, found: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "consult_id": consult,
            "patient_id": patient,
            "device": str(found["device"])[:200],
            "context_version": version,
            "code": one["code"],
            "value": json.dumps(one["value"]),
            "unit": one["unit"],
            "at_us": one["at_us"],
            "quality": one["quality"],
            "simulated": bool(found["simulated"]),
        }
        for one in found["vitals"]
    ]
