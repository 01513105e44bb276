"""Sign-in, sign-out, who am I, configuration, and guest links being redeemed."""

from importlib.metadata import version
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from server.api.errors import ApiCode, ApiError
from server.api.request import (
    SESSION_COOKIE,
    Body,
    address_of,
    caller,
    drop_cookie,
    read_body,
    services,
    set_cookie,
    throttle,
)
from server.api.walls import screen_json
from server.identity.aio.invites import InviteInvalid
from server.identity.aio.sessions import BadCredentials
from server.identity.aio.throttle import TooManyAttempts
from server.identity.core.principal import GuestPrincipal, PersonPrincipal, Principal, ScreenPrincipal
from server.identity.core.rules import REDEEM
from server.metrics import LOGINS

routes = web.RouteTableDef()


class SignIn(Body):
    """Credentials as typed."""

    login: Annotated[str, Field(min_length=1, max_length=100)]
    password: Annotated[str, Field(min_length=1, max_length=200)]


class Redeem(Body):
    """The fragment of a guest link."""

    token: Annotated[str, Field(min_length=1, max_length=100)]


@routes.post("/api/session")
async def sign_in(request: web.Request) -> web.Response:
    """Open a session and set its cookie."""
    parts, body = services(request), await read_body(request, SignIn)
    try:
        signed_in = await parts.sessions.sign_in(body.login, body.password, address_of(request))
    except BadCredentials:
        LOGINS.labels("refused").inc()
        raise ApiError(ApiCode.BAD_CREDENTIALS) from None
    except TooManyAttempts as many:
        LOGINS.labels("throttled").inc()
        raise ApiError(ApiCode.TOO_MANY_ATTEMPTS, retry_after_s=many.retry_after_s) from None
    LOGINS.labels("ok").inc()
    response = web.json_response({"person": _person_json(signed_in.person)})
    set_cookie(response, SESSION_COOKIE, signed_in.cookie, parts.settings.session_length_s)
    return response


@routes.get("/api/session")
async def who_am_i(request: web.Request) -> web.Response:
    """Who this browser is."""
    return web.json_response(_principal_json(await caller(request)))


@routes.delete("/api/session")
async def sign_out(request: web.Request) -> web.Response:
    """End the session on the server and in the browser."""
    principal = await caller(request)
    if not isinstance(principal, (PersonPrincipal, GuestPrincipal)):
        raise ApiError(ApiCode.NOT_ALLOWED)
    await services(request).sessions.sign_out(principal)
    services(request).live.revoked(principal.kind, [principal.credential])
    response = web.Response(status=204)
    drop_cookie(response, SESSION_COOKIE)
    return response


@routes.get("/api/config")
async def config(request: web.Request) -> web.Response:
    """What a page needs before anybody has signed in."""
    demo = services(request).demo
    logins = [
        {"login": one.login, "password": one.password, "name": one.name, "role": one.role}
        for one in (demo.logins if demo else ())
    ]
    return web.json_response({"demo": demo is not None, "version": version("consilium"), "demo_logins": logins})


@routes.post("/api/invites/redeem")
async def redeem(request: web.Request) -> web.Response:
    """Turn a guest link into a session, once."""
    await throttle(request, REDEEM)
    parts, body = services(request), await read_body(request, Redeem)
    try:
        redeemed = await parts.invites.redeem(body.token)
    except InviteInvalid:
        raise ApiError(ApiCode.INVITE_INVALID) from None
    response = web.json_response({"consult": redeemed.consult, "name": redeemed.name})
    set_cookie(response, SESSION_COOKIE, redeemed.cookie, parts.settings.session_length_s)
    return response


def _principal_json(principal: Principal) -> dict[str, Any]:
    match principal:
        case PersonPrincipal():
            return {"kind": "person", "person": _person_json(principal)}
        case GuestPrincipal():
            return {"kind": "guest", "guest": {"name": principal.name, "consult": principal.consult}}
        case ScreenPrincipal():
            return {"kind": "screen", "screen": screen_json(principal)}
        case _:
            return {"kind": principal.kind, "name": principal.name}


def _person_json(person: PersonPrincipal) -> dict[str, Any]:
    return {
        "id": person.subject,
        "name": person.name,
        "name_latin": person.name_latin,
        "role": person.access.value,
        "hospital": {"id": person.hospital_id, "name": person.hospital},
    }
