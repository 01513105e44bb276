"""From a request to checked values: body, caller, permission, membership."""

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from server.api.errors import ApiCode, ApiError
from server.api.guard import bearer
from server.api.services import SERVICES, Services
from server.identity.aio.members import membership_in
from server.identity.aio.sessions import Beside
from server.identity.aio.throttle import TooManyAttempts
from server.identity.core.policy import Action, allowed
from server.identity.core.principal import Membership, PersonPrincipal, Principal
from server.identity.core.rules import Throttle

SESSION_COOKIE = "__Host-consilium"
MAX_SECRET_CHARS = 128
SLOTS = range(1, 10)


class Body(BaseModel):
    """Base of request bodies: unknown fields are refused, types are not guessed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


AnyBody = TypeVar("AnyBody", bound=Body)


class Empty(Body):
    """For requests that carry nothing."""


async def read_body(request: web.Request, model: type[AnyBody]) -> AnyBody:
    """The JSON body as ``model``; no body reads as an empty object.

    Raises:
        ApiError: ``not_json``, ``too_large`` or ``malformed``.
    """
    if request.can_read_body and request.content_type != "application/json":
        raise ApiError(ApiCode.NOT_JSON)
    raw = await request.read()  # aiohttp raises 413 beyond the application's limit
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as problem:
        places = {".".join(str(part) for part in e["loc"]) + ":" + e["type"] for e in problem.errors()}
        raise ApiError(ApiCode.MALFORMED, ", ".join(sorted(places)[:5])) from None


def services(request: web.Request) -> Services:
    """The server's parts."""
    return request.app[SERVICES]


def address_of(request: web.Request) -> str:
    """The peer's address, for throttling only. A proxy's headers are not believed."""
    return request.remote or "unknown"


async def throttle(request: web.Request, limit: Throttle, who: str = "") -> None:
    """Count this request against ``who``, or else its address.

    Raises:
        ApiError: ``too_many_attempts``.
    """
    try:
        await services(request).attempts.take(limit, who or address_of(request))
    except TooManyAttempts as many:
        raise ApiError(ApiCode.TOO_MANY_ATTEMPTS, retry_after_s=many.retry_after_s) from None


def wall_cookie(slot: int) -> str:
    """Name of the cookie of one wall window; three windows of one machine share a cookie jar."""
    return f"__Host-consilium-wall-{slot}"


def wall_slot(request: web.Request) -> int | None:
    """The window a wall says it is; None when the caller is not a wall.

    Raises:
        ApiError: ``malformed``.
    """
    text = request.headers.get("X-Wall-Slot")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) == 1 and int(text) in SLOTS):
        raise ApiError(ApiCode.MALFORMED, "X-Wall-Slot")
    return int(text)


async def caller(request: web.Request, *, active: bool = True, beside: Beside | None = None) -> Principal:
    """Who asks.

    Args:
        active: False on what a page asks again and again by itself: that keeps nobody signed in (G3).
        beside: what else is read of whoever it is; where it can be, in the same visit to the database.

    Raises:
        ApiError: ``not_signed_in``.
    """
    parts = services(request)
    found: Principal | None = None
    slot = wall_slot(request)
    secret = bearer(request)
    if slot is not None:
        cookie = _cookie(request, wall_cookie(slot))
        found = await parts.walls.find(cookie) if cookie else None
    elif secret is not None:
        found = await parts.devices.find(secret) if len(secret) <= MAX_SECRET_CHARS else None
    elif cookie := _cookie(request, SESSION_COOKIE):
        found = await parts.sessions.find(cookie, touch=active, beside=beside)
        beside = None
    if found is None:
        raise ApiError(ApiCode.NOT_SIGNED_IN)
    if beside is not None:
        also, known = beside, found
        await parts.database.at_once.read(lambda hand: also(hand, known))
    return found


async def permitted(
    request: web.Request, action: Action, *, active: bool = True, beside: Beside | None = None
) -> Principal:
    """Who asks, if their role may do this at all; arguments as of `caller`.

    Raises:
        ApiError: ``not_signed_in`` or ``not_allowed``.
    """
    principal = await caller(request, active=active, beside=beside)
    if not allowed(principal.access, action):
        raise ApiError(ApiCode.NOT_ALLOWED)
    return principal


async def permitted_person(request: web.Request, action: Action, *, active: bool = True) -> PersonPrincipal:
    """The same for what only people with an account do."""
    principal = await permitted(request, action, active=active)
    if not isinstance(principal, PersonPrincipal):
        raise ApiError(ApiCode.NOT_ALLOWED)
    return principal


async def member(request: web.Request, principal: Principal) -> Membership:
    """The caller's membership of the consult in the path.

    Raises:
        ApiError: ``not_found``, whether the consult exists or not.
    """
    consult = request.match_info["consult"]
    found = await services(request).database.at_once.read(lambda hand: membership_in(hand, principal, consult))
    if found is None:
        raise ApiError(ApiCode.NOT_FOUND)
    return found


def secret_of(request: web.Request) -> str:
    """What the caller is known by, unchecked; empty when there is nothing.

    Raises:
        ApiError: ``malformed``.
    """
    slot = wall_slot(request)
    if slot is not None:
        return _cookie(request, wall_cookie(slot)) or ""
    return bearer(request) or _cookie(request, SESSION_COOKIE) or ""


def _cookie(request: web.Request, name: str) -> str | None:
    value = request.cookies.get(name)
    return value if value and len(value) <= MAX_SECRET_CHARS else None


def set_cookie(response: web.StreamResponse, name: str, value: str, max_age_s: int) -> None:
    """``__Host-`` rules: Secure, Path=/, no Domain. Browsers keep Secure cookies on http://localhost too."""
    response.set_cookie(name, value, max_age=max_age_s, path="/", secure=True, httponly=True, samesite="Strict")


def drop_cookie(response: web.StreamResponse, name: str) -> None:
    """Take a cookie out of the browser."""
    response.del_cookie(name, path="/", secure=True, httponly=True, samesite="Strict")
