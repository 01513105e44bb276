"""DICOM objects of the open patient, under the record's own guard (W19, G5): pictures of a study, traces of an ECG.

A picture is asked for by study and instance: the study must be the open
patient's and name the instance, and the bytes must be filed under that patient
too. Whatever fails is answered like what does not exist, except a file that is
there and cannot be drawn: a reader has to know that there is one.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from aiohttp import web

from server.api.errors import ApiCode, ApiError
from server.api.gateways import LOCK
from server.api.record import note_read, open_context
from server.api.request import services
from server.api.waveforms import OFFICE
from server.imaging.find import binary_bytes, dicom_instance, lists_instance, stored_digest
from server.imaging.render import FULL, WINDOWS, Picture, Undrawable, draw
from server.lock.aio.vault import KeyAway
from server.record.aio.store import find_one
from server.waveforms.office import JobFailed

log = structlog.get_logger(__name__)
routes = web.RouteTableDef()

AT_ONCE: web.AppKey[asyncio.Semaphore] = web.AppKey("imaging_at_once", asyncio.Semaphore)
"""A frame takes a core for some ten milliseconds and memory for its pixels; media come first on this machine."""
DRAWN_AT_ONCE: Final = 2
_WAIT_S: Final = 10.0


@routes.get("/api/consults/{consult}/record/ImagingStudy/{study}/{instance:[0-9.]{1,64}}")
async def picture(request: web.Request) -> web.Response:
    """One frame as PNG (``frame`` from 0, ``window`` by name); ``X-Picture`` says what it shows, as JSON.

    A file that names another patient, or is another instance than the study says, is refused (W19, W22).
    """
    principal, found, context = await open_context(request)
    study, instance = request.match_info["study"], request.match_info["instance"]
    frame, window = _frame(request), request.query.get("window", "")
    if window not in ("", FULL, *WINDOWS):
        raise ApiError(ApiCode.MALFORMED, "window")
    # A place first: what waits for one is a request, not half a gigabyte of pixels.
    async with _place(request.app[AT_ONCE]):
        data = await _bytes(request, context.patient.id, study, instance)
        await note_read(request, principal, found, context, "ImagingStudy/instance", 0 if data is None else 1)
        if data is None:
            raise ApiError(ApiCode.NOT_FOUND)
        drawn = await _drawn(data, frame, window)
    if drawn.instance not in ("", instance):
        raise ApiError(ApiCode.PICTURE_UNREADABLE, "another instance")
    await _require_same_patient(request, context.patient.id, drawn.patient_ids)
    headers = {
        "Content-Type": "image/png",
        "Content-Disposition": "inline",
        "X-Context-Version": str(context.version),
        "X-Picture": json.dumps(drawn.describe()),
    }
    return web.Response(body=drawn.png, headers=headers)


def _frame(request: web.Request) -> int:
    text = request.query.get("frame", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise ApiError(ApiCode.MALFORMED, "frame")
    return int(text)


async def _bytes(request: web.Request, patient: str, study: str, instance: str) -> bytes | None:
    async with services(request).database.read() as session:
        resource: dict[str, Any] | None = await find_one(session, patient, "ImagingStudy", study)
        if resource is None or not lists_instance(resource, instance):
            return None
    return await _filed(request, patient, instance, ApiCode.PICTURE_UNREADABLE)


async def _filed(request: web.Request, patient: str, instance: str, unreadable: ApiCode) -> bytes | None:
    """The bytes of an instance that are filed under this patient.

    Raises:
        ApiError: ``unreadable`` where they are there and the key that sealed them is not.
    """
    async with services(request).database.read() as session:
        digest = await stored_digest(session, patient, instance)
        own = await binary_bytes(session, patient, instance) if digest is None else None
    if digest is None:
        return own
    try:
        return await asyncio.to_thread(request.app[LOCK].vault.read, digest)
    except KeyAway as away:
        log.error("a file of the lock cannot be opened", key=away.key)
        raise ApiError(unreadable, "key") from None


@contextlib.asynccontextmanager
async def _place(places: asyncio.Semaphore) -> AsyncIterator[None]:
    """One of the few that draw at once.

    Raises:
        ApiError: ``too_busy``.
    """
    try:
        async with asyncio.timeout(_WAIT_S):
            await places.acquire()
    except TimeoutError:
        raise ApiError(ApiCode.TOO_BUSY, "pictures", retry_after_s=2) from None
    try:
        yield
    finally:
        places.release()


async def _drawn(data: bytes, frame: int, window: str) -> Picture:
    """Drawn in a thread of its own.

    Raises:
        ApiError: ``picture_unreadable`` or ``not_found``.
    """
    try:
        return await asyncio.to_thread(draw, data, frame, window)
    except Undrawable as problem:
        code = ApiCode.NOT_FOUND if str(problem) == "no_such_frame" else ApiCode.PICTURE_UNREADABLE
        raise ApiError(code, str(problem)) from None


async def _require_same_patient(request: web.Request, patient: str, named: Sequence[str]) -> None:
    """A file may name nobody; whom it names must be the open patient, by any of the identifiers (W22).

    Raises:
        ApiError: ``patient_differs``.
    """
    async with services(request).database.read() as session:
        person = await find_one(session, patient, "Patient", patient)
    known = {str(one.get("value", "")).strip().casefold() for one in (person or {}).get("identifier", [])}
    if named and not known & {one.strip().casefold() for one in named}:
        raise ApiError(ApiCode.PATIENT_DIFFERS)


@routes.get("/api/consults/{consult}/record/DocumentReference/{document}/ecg")
async def trace(request: web.Request) -> web.Response:
    """The waveform of a DICOM ECG that a document names, as frames (``u32 length | frame``); ``X-Stream`` describes it.

    It is read in a process of its own, like an upload, and nothing of it is kept. A file that names another patient,
    or a simulated one of a real patient, is refused (W9, W22).
    """
    principal, found, context = await open_context(request)
    patient = context.patient.id
    async with services(request).database.read() as session:
        document = await find_one(session, patient, "DocumentReference", request.match_info["document"])
    instance = dicom_instance(document or {})
    data = None if instance is None else await _filed(request, patient, instance, ApiCode.FILE_UNREADABLE)
    await note_read(request, principal, found, context, "DocumentReference/ecg", 0 if data is None else 1)
    if data is None:
        raise ApiError(ApiCode.NOT_FOUND)
    told, frames = await _trace(request, data)
    await _require_same_patient(request, patient, [str(one) for one in told["patient_ids"]])
    if told["simulated"] and not context.patient.test:
        raise ApiError(ApiCode.PATIENT_DIFFERS, "simulated")
    strip = told["strips"][0]
    stream = {name: strip[name] for name in ("stream_id", "leads", "sample_rate_mhz", "lsb_nv")} | {
        "device": told["device"], "filter": told["filter"], "simulated": told["simulated"], "patient": patient,
        "has_time": told["has_time"], "strips": len(told["strips"]) + told["left_out"],
    }  # fmt: skip
    headers = {"X-Context-Version": str(context.version), "X-Stream": json.dumps(stream)}
    return web.Response(body=frames, content_type="application/octet-stream", headers=headers)


async def _trace(request: web.Request, data: bytes) -> tuple[dict[str, Any], bytes]:
    """What the file says, and the frames of its first strip.

    Raises:
        ApiError: ``file_unreadable`` or ``too_busy``.
    """
    office = request.app[OFFICE]
    with office.jobs.workspace() as folder:
        source, out = Path(folder) / "source", Path(folder) / "out"
        await asyncio.to_thread(source.write_bytes, data)
        job = {"job": "import", "source": str(source), "out": str(out), "first_stream_id": 1, "context_version": 0}
        try:
            told = await office.jobs.run(job)
        except JobFailed as problem:
            code = ApiCode.TOO_BUSY if problem.code in ("busy", "timeout") else ApiCode.FILE_UNREADABLE
            raise ApiError(code, problem.code) from None
        if not told["strips"]:
            raise ApiError(ApiCode.FILE_UNREADABLE, "no ECG")
        return told, await asyncio.to_thread(out.with_name("out.0").read_bytes)
