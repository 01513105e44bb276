"""Archived waveforms of the open patient: lists, frames, exports, beats, uploads and strips.

The guard is the record's (`record`): there is no way to ask for a patient by id. What is served belongs to the patient
who is open in the consult now, to a member of that consult; everything else is answered like something that does not
exist. A page says with ``version`` which context it shows; when another patient has been opened meanwhile the answer is
409. Once a consult has ended nobody is open any more: then its clinicians name the patient, who must be one of it.

Every answer is audited (G5); of pages of frames, which a display asks for by the dozen, the first of each caller,
stream and ten minutes.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import BodyPartReader, web

from media.core.waveform import Place
from server.api.errors import ApiCode, ApiError
from server.api.request import member, permitted, services, throttle
from server.identity.core.policy import Action
from server.identity.core.principal import Membership, Principal
from server.identity.core.rules import WAVEFORM_BEATS, WAVEFORM_EXPORT, WAVEFORM_UPLOAD
from server.storage import audit
from server.waveforms import rows
from server.waveforms.blobs import BlobError
from server.waveforms.core.cursor import read_cursor, write_cursor
from server.waveforms.core.index import record
from server.waveforms.core.upload import RoomFull, Upload, UploadRefused
from server.waveforms.heart import Hearts, HeartUnavailable
from server.waveforms.office import (
    ALL_TIME_US,
    MAX_UPLOAD_BYTES,
    PAGE_BYTES,
    Imported,
    JobFailed,
    Office,
    PatientDiffers,
)
from server.waveforms.rows import Archived
from server.waveforms.snapshots import Snapshots
from signaling.core.ids import PatientId
from signaling.core.model import ConsultStatus, PatientBanner

OFFICE: web.AppKey[Office] = web.AppKey("waveform_office", Office)
SNAPSHOTS: web.AppKey[Snapshots] = web.AppKey("ecg_snapshots", Snapshots)
HEARTS: web.AppKey[Hearts] = web.AppKey("hearts", Hearts)

routes = web.RouteTableDef()

_BASE: Final = "/api/consults/{consult}/waveforms"
AUDIT_EVERY_MS: Final = 600_000
AUDITED: Final = 4096
"""Callers and streams remembered as audited; beyond it one is audited once more."""
PIECE_BYTES: Final = 1 << 20
DOWNLOAD_S: Final = 900.0
"""Longest download: whoever reads more slowly asks for a shorter stretch."""
UPLOAD_S: Final = 600.0
"""Longest upload of what may be held by so few at a time."""
FORM_BYTES: Final = 1 << 16
"""What a multipart body has beside its files."""
MAX_BEATS_US: Final = 600_000_000
MAX_VERSION: Final = 2**32 - 1
EXPORTS: Final = {"dcm": "application/dicom", "wfdb.zip": "application/zip", "vitals.json": "application/fhir+json"}
PRINTS: Final = {".svg": "image/svg+xml", ".pdf": "application/pdf"}
_JOB_CODES: Final = {
    "empty": ApiCode.NOT_FOUND,
    "too_large": ApiCode.TOO_LARGE,
    "unsupported": ApiCode.WAVEFORM_UNSUPPORTED,
    "busy": ApiCode.TOO_BUSY,
    "timeout": ApiCode.TOO_LARGE,
    "unavailable": ApiCode.ARCHIVE_UNAVAILABLE,
    "simulated": ApiCode.FILE_UNREADABLE,
}


@dataclass(frozen=True, slots=True)
class Viewing:
    """Who looks at whose waveforms."""

    principal: Principal
    membership: Membership
    patient: PatientBanner
    context_version: int


@routes.get(_BASE)
async def list_streams(request: web.Request) -> web.Response:
    """Streams of the open patient in this consult, oldest first."""
    viewing = await _viewing(request)
    async with services(request).database.read() as session:
        found = await rows.archives_of(session, viewing.membership.consult, viewing.patient.id)
    await _audit(request, viewing, "waveforms_listed", {"count": len(found)})
    office = request.app[OFFICE]
    return web.json_response([office.describe(one) for one in found if one.summary.frames or _is_here(office, one)])


@routes.get(_BASE + "/{stream}/frames")
async def frames(request: web.Request) -> web.Response:
    """``u32 length | frame`` again and again, as stored, at most 1 MB; ``X-Next`` is the ``next`` to ask on with."""
    viewing, found = await _found(request)
    await _audit_now_and_then(request, viewing, found)
    archive = request.app[OFFICE].desk.archive
    after = _cursor(request)
    try:
        if "first" in request.query or "last" in request.query:
            first, last = _whole(request, "first", 0), _whole(request, "last", MAX_VERSION)
            page, more = await archive.between_seq(found.info, first, last, PAGE_BYTES, after)
        else:
            from_us, to_us = _whole(request, "from_us", 0), _whole(request, "to_us", ALL_TIME_US)
            page, more = await archive.between_us(found.info, from_us, to_us, PAGE_BYTES, after)
    except BlobError as problem:
        raise ApiError(ApiCode.ARCHIVE_UNAVAILABLE, str(problem), retry_after_s=2) from problem
    headers = {"X-Context-Version": str(viewing.context_version)}
    if more is not None:
        headers["X-Next"] = write_cursor(more)
    body = b"".join(record(frame) for frame in page)
    return web.Response(body=body, content_type="application/octet-stream", headers=headers)


@routes.get(_BASE + "/{stream}.{kind:dcm|wfdb\\.zip|vitals\\.json}")
async def export(request: web.Request) -> web.StreamResponse:
    """The stream, or what lies between ``from_us`` and ``to_us``, as an object that other programs read."""
    viewing, found = await _found(request, Action.EXPORT_WAVEFORM)
    kind = request.match_info["kind"]
    from_us, to_us = _whole(request, "from_us", 0), _whole(request, "to_us", ALL_TIME_US)
    await throttle(request, WAVEFORM_EXPORT, viewing.principal.credential)
    await _audit(request, viewing, "waveform_exported", {"archive": found.info.archive, "format": kind})
    office = request.app[OFFICE]
    if kind == "vitals.json":
        name = f"vitals_{found.info.stream_id}.json"
        try:
            data = (await office.vitals(found.info, from_us, to_us)).encode()
        except JobFailed as problem:
            raise _job_error(problem) from problem
        return web.Response(body=data, headers=_download(name, kind))
    try:
        async with office.exported(found.info, kind, viewing.patient, from_us, to_us) as (name, path):
            return await _sent(request, path, _download(name, kind))
    except JobFailed as problem:
        raise _job_error(problem) from problem


@routes.get(_BASE + "/{stream}/beats")
async def beats(request: web.Request) -> web.Response:
    """R peaks and rates, computed now from what is stored; at most ten minutes at once."""
    viewing, found = await _found(request)
    await throttle(request, WAVEFORM_BEATS, viewing.principal.credential)
    await _audit_now_and_then(request, viewing, found)
    from_us = _whole(request, "from_us", found.summary.first_us)
    to_us = min(_whole(request, "to_us", from_us + MAX_BEATS_US), from_us + MAX_BEATS_US)
    try:
        answer = await request.app[HEARTS].beats(found.info, from_us, to_us)
    except (HeartUnavailable, BlobError) as problem:
        raise ApiError(ApiCode.TOO_BUSY, str(problem), retry_after_s=2) from problem
    return web.json_response({**answer, "computed": True, "context_version": viewing.context_version})


@routes.get(_BASE + "/{stream}/timeline")
async def timeline(request: web.Request) -> web.Response:
    """Gaps and new sessions of the whole stream, by time; of very many the longest, with how many there are."""
    viewing, found = await _found(request)
    await _audit_now_and_then(request, viewing, found)
    try:
        breaks, count = await request.app[OFFICE].desk.archive.breaks(found.info)
    except BlobError as problem:
        raise ApiError(ApiCode.ARCHIVE_UNAVAILABLE, str(problem), retry_after_s=2) from problem
    body = {"breaks": [one._asdict() for one in breaks], "count": count, "context_version": viewing.context_version}
    return web.json_response(body)


@routes.post(_BASE)
async def upload(request: web.Request) -> web.Response:
    """Import a recording of the open patient: multipart with ``file`` (one or several), ``title``, ``patient``."""
    viewing = await _viewing(request, Action.IMPORT_WAVEFORM)
    await throttle(request, WAVEFORM_UPLOAD, viewing.principal.credential)
    office = request.app[OFFICE]
    try:
        with office.uploads.hold(_announced_bytes(request)):
            imported = await _import(request, viewing)
    except RoomFull as problem:
        raise ApiError(ApiCode.TOO_BUSY, "uploads", retry_after_s=10) from problem
    except PatientDiffers as other:
        raise _PatientDiffersError(other) from other
    except JobFailed as problem:
        raise _job_error(problem) from problem
    streams = [office.describe(one) for one in imported.streams]
    return web.json_response(
        {"streams": streams, "format": imported.format, "notices": imported.notices, "left_out": imported.left_out},
        status=201,
    )


@routes.get("/api/consults/{consult}/snapshots/{snapshot:[A-Za-z0-9_-]+}{kind:(\\.svg|\\.pdf|\\.ecg)?}")
async def snapshot(request: web.Request) -> web.Response:
    """A stored strip: what it is as JSON, its print as SVG or PDF, or its frames."""
    viewing = await _viewing(request)
    kind = request.match_info["kind"]
    found = await request.app[SNAPSHOTS].find(
        viewing.membership.consult, viewing.patient.id, request.match_info["snapshot"]
    )
    if found is None:
        raise ApiError(ApiCode.NOT_FOUND)
    await _audit(request, viewing, "ecg_snapshot_read", {"snapshot": found.id, "format": kind or "json"})
    headers = {"X-Context-Version": str(viewing.context_version)}
    if not kind:
        return web.json_response(found.describe(), headers=headers)
    if kind == ".ecg":
        return web.Response(body=found.frames, content_type="application/octet-stream", headers=headers)
    try:
        body = await request.app[SNAPSHOTS].printed(found, kind[1:])
    except JobFailed as problem:
        raise _job_error(problem) from problem
    if kind == ".svg":
        # opened by itself it is a page: nothing in it may run, whatever a device's name says
        headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    return web.Response(body=body, content_type=PRINTS[kind], headers=headers)


def _announced_bytes(request: web.Request) -> int:
    """What an upload will hold: what its head says, or the most there may be."""
    size = request.content_length
    if size is not None and size > MAX_UPLOAD_BYTES + FORM_BYTES:
        raise ApiError(ApiCode.TOO_LARGE)
    return MAX_UPLOAD_BYTES if size is None else min(size, MAX_UPLOAD_BYTES)


async def _import(request: web.Request, viewing: Viewing) -> Imported:
    """Take the body in and archive it, if the caller still may and the same patient is still open behind each."""

    async def allowed() -> None:
        now = await _viewing(request, Action.IMPORT_WAVEFORM)
        if (now.patient.id, now.context_version) != (viewing.patient.id, viewing.context_version):
            raise ApiError(ApiCode.CONTEXT_CHANGED, "another patient was opened meanwhile")

    try:
        async with asyncio.timeout(UPLOAD_S):
            fields, data = await _upload(request)
    except TimeoutError as problem:
        raise ApiError(ApiCode.TOO_LARGE, "too slow") from problem
    await allowed()
    if fields.get("patient") != viewing.patient.id:
        raise ApiError(ApiCode.CONTEXT_CHANGED, "another patient is open")
    return await request.app[OFFICE].import_file(
        viewing.membership.consult,
        viewing.patient,
        viewing.context_version,
        data,
        fields.get("title", "").strip() or "ECG",
        viewing.principal.actor,
        patient_checked=fields.get("patient_checked") == "true",
        allowed=allowed,
    )


class _PatientDiffersError(ApiError):
    """Says which ids the file has: the person who uploads it holds it in hand."""

    def __init__(self, other: PatientDiffers) -> None:
        super().__init__(ApiCode.PATIENT_DIFFERS)
        self.reported = other.reported

    @property
    def body(self) -> dict[str, Any]:
        """With both ids the page shows in red (W22)."""
        return {"error": {**super().body["error"], "reported": list(self.reported)}}


def _download(name: str, kind: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"', "Content-Type": EXPORTS[kind]}


async def _sent(request: web.Request, path: str, headers: dict[str, str]) -> web.StreamResponse:
    """A job's file, a piece in memory at a time."""
    archive, at = request.app[OFFICE].desk.archive, 0
    response = web.StreamResponse(headers=headers)
    response.content_length = await archive.size_of(path)
    await response.prepare(request)
    try:
        async with asyncio.timeout(DOWNLOAD_S):
            while piece := await archive.read_part(path, at, PIECE_BYTES):
                await response.write(piece)
                at += len(piece)
            await response.write_eof()
    except (
        TimeoutError,
        ConnectionError,
    ):  # too slow or gone: what was sent is no whole file, and must not look like one
        if request.transport is not None:
            request.transport.abort()
    return response


async def _found(request: web.Request, action: Action = Action.SEE_WAVEFORMS) -> tuple[Viewing, Archived]:
    """The stream named in the path, if it is of the patient whom the caller looks at."""
    viewing = await _viewing(request, action)
    async with services(request).database.read() as session:
        found = await rows.find_archive(
            session, viewing.membership.consult, viewing.patient.id, request.match_info["stream"]
        )
    if found is None:
        raise ApiError(ApiCode.NOT_FOUND)
    return viewing, found


async def _viewing(request: web.Request, action: Action = Action.SEE_WAVEFORMS) -> Viewing:
    """The open patient, if the caller may see him and does not show another one.

    Raises:
        ApiError: ``not_allowed``, ``not_found``, ``malformed`` or ``context_changed``.
    """
    principal = await permitted(request, action)
    found = await member(request, principal)
    parts = services(request)
    consult = await parts.store.load(found.consult)
    if consult is None:
        raise ApiError(ApiCode.NOT_FOUND)
    shown = _whole(request, "version", -1)
    if consult.context is not None:
        if shown not in (-1, consult.context.version):
            raise ApiError(ApiCode.CONTEXT_CHANGED)
        return Viewing(principal, found, consult.context.patient, consult.context.version)
    named = request.query.get("patient", "")
    if consult.status is ConsultStatus.ENDED and named and action is not Action.IMPORT_WAVEFORM:
        await permitted(request, Action.READ_ENDED_WAVEFORMS)
        banner = await parts.store.patient(found.consult, PatientId(named))
        if banner is None:
            raise ApiError(ApiCode.NOT_FOUND)
        return Viewing(principal, found, banner, consult.context_version)
    raise ApiError(ApiCode.CONTEXT_CHANGED)


def _whole(request: web.Request, name: str, otherwise: int) -> int:
    text = request.query.get(name)
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= ALL_TIME_US):
        raise ApiError(ApiCode.MALFORMED, name)
    return int(text)


def _cursor(request: web.Request) -> Place | None:
    text = request.query.get("next")
    if text is None:
        return None
    place = read_cursor(text)
    if place is None:
        raise ApiError(ApiCode.MALFORMED, "next")
    return place


def _is_here(office: Office, one: Archived) -> bool:
    return office.desk.stream(one.info.consult, one.info.stream_id) is not None


async def _upload(request: web.Request) -> tuple[dict[str, str], bytes]:
    """Fields and file of a multipart body, read piece by piece within bounds."""
    if request.content_type != "multipart/form-data":
        raise ApiError(ApiCode.MALFORMED, "multipart/form-data")
    taken = Upload(MAX_UPLOAD_BYTES)
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise ApiError(ApiCode.MALFORMED, "multipart")
            taken.begin(part.name, part.filename)
            while piece := await part.read_chunk(1 << 16):
                taken.add(piece)
        return taken.fields, taken.data()
    except UploadRefused as problem:
        raise ApiError(ApiCode.TOO_LARGE if problem.too_large else ApiCode.MALFORMED, str(problem)) from problem
    except ValueError as problem:
        raise ApiError(ApiCode.MALFORMED, "multipart") from problem


def _job_error(problem: JobFailed) -> ApiError:
    if problem.code.startswith("source_"):
        code = ApiCode.TOO_LARGE if problem.code == "source_too_large" else ApiCode.FILE_UNREADABLE
        return ApiError(code, str(problem), sentences=problem.sentences)
    code = _JOB_CODES.get(problem.code, ApiCode.INTERNAL)
    return ApiError(code, str(problem), sentences=problem.sentences)


async def _audit_now_and_then(request: web.Request, viewing: Viewing, found: Archived) -> None:
    office, now_ms = request.app[OFFICE], services(request).now_ms()
    key = (viewing.principal.actor, found.info.archive, viewing.context_version)
    if now_ms - office.audited.get(key, -AUDIT_EVERY_MS) < AUDIT_EVERY_MS:
        return
    await _audit(request, viewing, "waveform_read", {"archive": found.info.archive})
    office.audited.pop(key, None)
    office.audited[key] = now_ms
    if len(office.audited) > AUDITED:
        del office.audited[next(iter(office.audited))]


async def _audit(request: web.Request, viewing: Viewing, kind: str, more: dict[str, Any]) -> None:
    """On record before the answer leaves."""
    body = {
        "participant": viewing.membership.participant,
        "patient": viewing.patient.id,
        "version": viewing.context_version,
        **more,
    }
    entry = audit.Entry(
        kind=kind,
        at_ms=services(request).now_ms(),
        actor=viewing.principal.actor,
        consult_id=viewing.membership.consult,
        body=body,
    )
    async with services(request).database.write() as session:
        await audit.append(session, [entry])
