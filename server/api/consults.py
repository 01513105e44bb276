"""Consults: lists, consult tokens, patients and guest links."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from server.api.arriving import arriving, expected
from server.api.errors import ApiCode, ApiError
from server.api.request import Body, Empty, member, permitted, permitted_person, read_body, services, throttle
from server.identity.aio.members import consults_of
from server.identity.core.policy import Action, allowed
from server.identity.core.rules import TOKEN
from server.metrics import TOKENS
from server.record.aio.store import consult_banners
from server.storage.directory import consult_cards
from signaling.core.model import ConsultStatus

routes = web.RouteTableDef()


class NewInvite(Body):
    """Whom the link is for, as the others will see it."""

    name: Annotated[str, Field(min_length=1, max_length=80, pattern=r"\S")]


@routes.get("/api/consults")
async def list_consults(request: web.Request) -> web.Response:
    """The caller's consults."""
    principal = await permitted(request, Action.SEE_CONSULT, active=False)
    with_patients = allowed(principal.access, Action.SEE_PATIENTS)
    async with services(request).database.read() as session:
        ids = await consults_of(session, principal)
        cards = await consult_cards(session, ids, with_patients=with_patients)
    return web.json_response({"consults": cards})


@routes.get("/api/consults/{consult}")
async def one_consult(request: web.Request) -> web.Response:
    """One of them."""
    principal = await permitted(request, Action.SEE_CONSULT)
    found = await member(request, principal)
    with_patients = allowed(principal.access, Action.SEE_PATIENTS)
    async with services(request).database.read() as session:
        cards = await consult_cards(session, [found.consult], with_patients=with_patients)
    return web.json_response(cards[0])


@routes.post("/api/consults/{consult}/token")
async def token(request: web.Request) -> web.Response:
    """A token for exactly one socket connect; ``too_busy`` before anything else when too many come at once. [SE16]"""
    with arriving(request) as arrival:
        await read_body(request, Empty)
        principal = await permitted(request, Action.ENTER_CONSULT)
        found = await member(request, principal)
        await throttle(request, TOKEN, principal.credential)
        consult = await services(request).store.load(found.consult)
        if consult is None or consult.status is ConsultStatus.ENDED:
            raise ApiError(ApiCode.CONSULT_ENDED)
        issued = await services(request).tokens.issue(principal, found)
        expected(request, arrival, issued)
    TOKENS.labels("issued").inc()
    return web.json_response(
        {"token": issued.token, "expires_at_ms": issued.expires_at_ms, "participant": issued.participant}
    )


@routes.get("/api/consults/{consult}/patients")
async def patients(request: web.Request) -> web.Response:
    """Banners of the patients who may be opened."""
    principal = await permitted(request, Action.SEE_PATIENTS)
    found = await member(request, principal)
    async with services(request).database.read() as session:
        banners = await consult_banners(session, found.consult)
    return web.json_response({"patients": [banner.model_dump(mode="json") for banner in banners]})


@routes.post("/api/consults/{consult}/invites")
async def invite(request: web.Request) -> web.Response:
    """A one-time link. Its token is in the fragment, which no browser sends and no server logs."""
    person = await permitted_person(request, Action.INVITE_GUEST)
    found = await member(request, person)
    body = await read_body(request, NewInvite)
    parts = services(request)
    consult = await parts.store.load(found.consult)
    if consult is None or consult.status is ConsultStatus.ENDED:
        raise ApiError(ApiCode.CONSULT_ENDED)
    made = await parts.invites.create(person, found.consult, body.name.strip())
    origin = request.headers.get("Origin", parts.settings.main_origin)  # checked by the guard
    return web.json_response({"url": f"{origin}/join#{made.token}", "expires_at_ms": made.expires_at_ms})
