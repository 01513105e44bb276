"""Pictures of an ImagingStudy of the open patient, drawn by the server, under the record's own guard (W19, G5).

A picture is asked for by study and instance: the study must be the open
patient's and name the instance, and the bytes must be filed under that patient
too. Whatever fails is answered like what does not exist, except a file that is
there and cannot be drawn: a reader has to know that there is one.
"""

import asyncio
import json
from typing import Any, Final

from aiohttp import web

from server.api.errors import ApiCode, ApiError
from server.api.record import note_read, open_context
from server.api.request import services
from server.imaging.find import binary_bytes, lists_instance, read_file, stored_digest
from server.imaging.render import FULL, WINDOWS, Picture, Undrawable, draw
from server.lock.aio.parts import FOLDER
from server.record.aio.store import find_one

routes = web.RouteTableDef()

AT_ONCE: web.AppKey[asyncio.Semaphore] = web.AppKey("imaging_at_once", asyncio.Semaphore)
"""A frame takes a core for some ten milliseconds and memory for its pixels; media come first on this machine."""
DRAWN_AT_ONCE: Final = 2
_WAIT_S: Final = 10.0


@routes.get("/api/consults/{consult}/record/ImagingStudy/{study}/{instance:[0-9.]{1,64}}")
async def picture(request: web.Request) -> web.Response:
    """One frame as PNG (``frame`` from 0, ``window`` by name); ``X-Picture`` says what it shows, as JSON."""
    principal, found, context = await open_context(request)
    study, instance = request.match_info["study"], request.match_info["instance"]
    frame, window = _frame(request), request.query.get("window", "")
    if window not in ("", FULL, *WINDOWS):
        raise ApiError(ApiCode.MALFORMED, "window")
    data = await _bytes(request, context.patient.id, study, instance)
    await note_read(request, principal, found, context, "ImagingStudy/instance", 0 if data is None else 1)
    if data is None:
        raise ApiError(ApiCode.NOT_FOUND)
    drawn = await _drawn(request.app[AT_ONCE], data, frame, window)
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
        digest = await stored_digest(session, patient, instance)
        own = await binary_bytes(session, patient, instance) if digest is None else None
    if digest is None:
        return own
    return await asyncio.to_thread(read_file, services(request).settings.data_dir / FOLDER, digest)


async def _drawn(places: asyncio.Semaphore, data: bytes, frame: int, window: str) -> Picture:
    """Drawn in a thread of its own.

    Raises:
        ApiError: ``picture_unreadable``, ``not_found`` or ``too_busy``.
    """
    try:
        async with asyncio.timeout(_WAIT_S):
            await places.acquire()
    except TimeoutError:
        raise ApiError(ApiCode.TOO_BUSY, "pictures", retry_after_s=2) from None
    try:
        return await asyncio.to_thread(draw, data, frame, window)
    except Undrawable as problem:
        code = ApiCode.NOT_FOUND if str(problem) == "no_such_frame" else ApiCode.PICTURE_UNREADABLE
        raise ApiError(code, str(problem)) from None
    finally:
        places.release()
