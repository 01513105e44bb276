"""Wall displays: pairing as the display sees it, and the station page that claims them."""

from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field

from server.api.errors import ApiCode, ApiError
from server.api.request import (
    Body,
    Empty,
    address_of,
    caller,
    permitted,
    permitted_person,
    read_body,
    services,
    set_cookie,
    throttle,
    wall_cookie,
    wall_slot,
)
from server.identity.aio.members import station_consult
from server.identity.aio.walls import CodeInvalid, PairingGone
from server.identity.core.policy import Action
from server.identity.core.principal import ScreenPrincipal
from server.identity.core.rules import CLAIM, PAIRING
from server.storage.directory import stations
from signaling.core.model import ScreenRole

routes = web.RouteTableDef()

COOKIE_S = 400 * 86_400
"""The longest that browsers keep a cookie; the credential itself lasts until it is revoked."""
SCREEN_PATH = "/api/stations/{station}/screens/{number:[1-9]}"


class PairingStatus(Body):
    """What the display was given by ``POST /api/wall/pairing``."""

    secret: Annotated[str, Field(min_length=1, max_length=100)]


class Claim(Body):
    """What a person read off the wall."""

    code: Annotated[str, Field(min_length=1, max_length=20)]
    role: Literal["record", "video", "ecg"]


def _slot(request: web.Request) -> int:
    slot = wall_slot(request)
    if slot is None:
        raise ApiError(ApiCode.MALFORMED, "X-Wall-Slot is missing")
    return slot


@routes.post("/api/wall/pairing")
async def begin_pairing(request: web.Request) -> web.Response:
    """A code to show."""
    await read_body(request, Empty)
    slot = _slot(request)
    await throttle(request, PAIRING)
    pairing = await services(request).walls.begin(slot)
    return web.json_response(
        {
            "code": pairing.code,
            "secret": pairing.secret,
            "expires_at_ms": pairing.expires_at_ms,
            "address": address_of(request),
        }
    )


@routes.post("/api/wall/pairing/status")
async def pairing_status(request: web.Request) -> web.Response:
    """Whether somebody has claimed this display; the answer that says so carries its cookie."""
    body, slot = await read_body(request, PairingStatus), _slot(request)
    try:
        cookie = await services(request).walls.status(body.secret, slot)
    except PairingGone:
        raise ApiError(ApiCode.CODE_INVALID) from None
    response = web.json_response({"state": "waiting" if cookie is None else "claimed"})
    if cookie is not None:
        set_cookie(response, wall_cookie(slot), cookie, COOKIE_S)
    return response


@routes.post("/api/wall/demo")
async def pair_demo(request: web.Request) -> web.Response:
    """Demo only: this window becomes the screen of its number at the demo station."""
    await read_body(request, Empty)
    parts, slot = services(request), _slot(request)
    if parts.demo is None:
        raise ApiError(ApiCode.NOT_FOUND)
    await throttle(request, PAIRING)
    try:
        cookie, revoked = await parts.walls.pair_without_code(parts.demo.station, slot)
    except CodeInvalid:
        raise ApiError(ApiCode.NOT_FOUND) from None
    parts.live.revoked("screen", revoked)
    response = web.Response(status=204)
    set_cookie(response, wall_cookie(slot), cookie, COOKIE_S)
    return response


@routes.get("/api/wall")
async def wall(request: web.Request) -> web.Response:
    """What this display is and which consult it shows now."""
    principal = await caller(request, active=False)
    if not isinstance(principal, ScreenPrincipal):
        raise ApiError(ApiCode.NOT_SIGNED_IN)
    parts = services(request)
    async with parts.database.read() as session:
        consult = await station_consult(session, principal.station)
    identify = principal.identify_until_ms > parts.now_ms()
    return web.json_response({"screen": screen_json(principal), "consult": consult, "identify": identify})


@routes.get("/api/stations")
async def list_stations(request: web.Request) -> web.Response:
    """Rooms, stations and screens of the caller's own hospital."""
    principal = await permitted(request, Action.SEE_STATIONS, active=False)
    parts = services(request)
    async with parts.database.read() as session:
        return web.json_response({"rooms": await stations(session, principal.hospital_id, parts.now_ms())})


@routes.post(f"{SCREEN_PATH}/claim")
async def claim(request: web.Request) -> web.Response:
    """Make the display that shows this code the screen in the path."""
    person = await permitted_person(request, Action.MANAGE_SCREENS)
    await throttle(request, CLAIM)
    body = await read_body(request, Claim)
    station, number = await _screen(request, person.hospital_id)
    try:
        revoked = await services(request).walls.claim(person, station, number, body.code, ScreenRole(body.role))
    except CodeInvalid:
        raise ApiError(ApiCode.CODE_INVALID) from None
    services(request).live.revoked("screen", revoked)
    return web.Response(status=204)


@routes.delete(SCREEN_PATH)
async def unpair(request: web.Request) -> web.Response:
    """Take a display off its screen."""
    person = await permitted_person(request, Action.MANAGE_SCREENS)
    station, number = await _screen(request, person.hospital_id)
    services(request).live.revoked("screen", await services(request).walls.unpair(person, station, number))
    return web.Response(status=204)


@routes.post(f"{SCREEN_PATH}/identify")
async def identify(request: web.Request) -> web.Response:
    """Let the display show its number."""
    await read_body(request, Empty)
    person = await permitted_person(request, Action.MANAGE_SCREENS)
    station, number = await _screen(request, person.hospital_id)
    await services(request).walls.identify(station, number)
    return web.Response(status=204)


async def _screen(request: web.Request, hospital: str) -> tuple[str, int]:
    """The screen in the path, if it exists in the caller's hospital."""
    station, number = request.match_info["station"], int(request.match_info["number"])
    async with services(request).database.read() as session:
        rooms = await stations(session, hospital, services(request).now_ms())
    known = {(one["id"], screen["number"]) for room in rooms for one in room["stations"] for screen in one["screens"]}
    if (station, number) not in known:
        raise ApiError(ApiCode.NOT_FOUND)
    return station, number


def screen_json(screen: ScreenPrincipal) -> dict[str, Any]:
    """A screen as the wall page reads it."""
    return {
        "station": screen.station,
        "station_name": screen.station_name,
        "room": screen.room,
        "number": screen.number,
        "role": screen.role.value,
    }
