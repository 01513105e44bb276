"""The FHIRcast hub over HTTP, at ``/fhircast`` and, for programs that expect it there, ``/api/hub``.

What is refused is refused in plain text (H3). No cookie is looked at: whoever asks shows an access token, or knows a
socket's URL. So there is nothing that a foreign page could make a browser do for it, and the origin gives no right
(H29); answers may be read only by pages of registered apps.
"""

import functools
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from sqlalchemy import select

from server.api.errors import ApiCode, ApiError
from server.api.guard import bearer as bearer_secret
from server.api.request import member, permitted, services
from server.fhircast.aio.drive import Driver
from server.fhircast.aio.service import FHIRCAST_SERVICE, SOCKET_OPTIONS, FhircastService
from server.fhircast.core import names
from server.fhircast.core.refusals import HubRefusal, malformed
from server.fhircast.core.requests import Subscribe, Unsubscribe, read_event, read_fields, read_form
from server.identity.core.policy import Action
from server.metrics import HTTP_REFUSALS
from server.smart.aio.bearer import AccessToken, bearer, find_token
from server.storage.smart_tables import SmartClient

routes = web.RouteTableDef()

HUB = "/fhircast"
ALIAS = "/api/hub"
SOCKETS = f"{HUB}/ws/"
FHIRCAST_VERSION = "3.0.0"
ORIGINS_S = 30.0
"""How long the origins of registered apps are believed."""
FORM = "application/x-www-form-urlencoded"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answered(handler: Handler) -> Handler:
    """Refusals as plain text, and CORS for pages of registered apps."""

    @functools.wraps(handler)
    async def wrapped(request: web.Request) -> web.StreamResponse:
        try:
            response = await handler(request)
        except HubRefusal as refusal:
            response = _refusal(refusal)
        except ApiError as error:
            response = _refusal(HubRefusal(error.status, error.code.value, error.en))
        except web.HTTPRequestEntityTooLarge:
            response = _refusal(HubRefusal(413, "too_large", "The request is too large."))
        except TimeoutError:
            response = _refusal(HubRefusal(503, "too_busy", "The hub did not get to it in time. Try again."))
        if not response.prepared:
            await _allow_origin(request, response)
        return response

    return wrapped


@routes.get(f"{HUB}/.well-known/fhircast-configuration")
@routes.get(f"{ALIAS}/.well-known/fhircast-configuration")
@answered
async def configuration(_request: web.Request) -> web.Response:
    """What this hub can do. (H28)"""
    return web.json_response(
        {
            "eventsSupported": list(names.SUPPORTED),
            "websocketSupport": True,
            "fhircastVersion": FHIRCAST_VERSION,
            "getCurrentSupport": True,
            "capabilities": {"supportsGetCurrentContext": True, "supportsNonCurrentContextUpdates": False},
            "fhirVersion": "R4",
        }
    )


@routes.post(HUB)
@routes.post(f"{HUB}/")
@routes.post(ALIAS)
@routes.post(f"{ALIAS}/")
@answered
async def post(request: web.Request) -> web.Response:
    """Form: subscribe or unsubscribe. JSON: an event. (H1, H8, H13)"""
    token = await bearer(request)
    service = request.app[FHIRCAST_SERVICE]
    service.spend(token)
    body = await _body(request)
    topic, what = "", "request"
    try:
        if isinstance(body, dict) and "event" in body:
            event = read_event(body)
            topic, what = event.topic, event.name
            await Driver(service).take(token, event)
            return web.json_response({"id": event.id}, status=202)
        asked = read_form(body) if isinstance(body, str) else read_fields(body)
        topic, what = asked.topic, type(asked).__name__.lower()
        endpoint = await _subscription(request, service, token, asked)
    except HubRefusal as refusal:
        await service.refused(token, topic, refusal, what)
        raise
    return web.json_response({"hub.channel.endpoint": endpoint}, status=202)


@routes.get(f"{HUB}/{{topic:[A-Za-z0-9_-]{{8,64}}}}")
@routes.get(f"{ALIAS}/{{topic:[A-Za-z0-9_-]{{8,64}}}}")
@answered
async def current(request: web.Request) -> web.Response:
    """What is open now. (H26)"""
    token = await bearer(request)
    if not token.scopes.fhircast:
        raise HubRefusal(403, "not_allowed", "The token has no FHIRcast scope.")
    request.app[FHIRCAST_SERVICE].spend(token)
    context = await request.app[FHIRCAST_SERVICE].context(token, request.match_info["topic"])
    return web.json_response(context, headers={"Cache-Control": "no-store"})


@routes.get(f"{SOCKETS}{{endpoint}}")
async def socket(request: web.Request) -> web.StreamResponse:
    """A subscription's socket: its URL is the right to it. (H2, H29)"""
    ws = web.WebSocketResponse(**SOCKET_OPTIONS)
    await ws.prepare(request)

    def abort() -> None:
        if request.transport is not None:
            request.transport.abort()

    await request.app[FHIRCAST_SERVICE].serve(ws, request.match_info["endpoint"], abort)
    return ws


@routes.options(f"{HUB}{{rest:.*}}")
@routes.options(f"{ALIAS}{{rest:.*}}")
@answered
async def preflight(_request: web.Request) -> web.Response:
    """CORS, for pages of registered apps only."""
    return web.Response(status=204)


@routes.get("/api/consults/{consult}/fhircast")
async def session(request: web.Request) -> web.Response:
    """Hub and topic of a consult, for who may read its record: to start a program with."""
    principal = await permitted(request, Action.READ_RECORD)
    found = await member(request, principal)
    topic = await request.app[FHIRCAST_SERVICE].topics.topic_of(found.consult)
    if topic is None:
        raise ApiError(ApiCode.CONSULT_ENDED)
    return web.json_response({"hub.url": f"{_origin(request)}{HUB}", "hub.topic": topic})


async def _subscription(
    request: web.Request, service: FhircastService, token: AccessToken, asked: Subscribe | Unsubscribe
) -> str:
    """The socket's URL."""
    known = _secret_of(asked.endpoint) if asked.endpoint is not None else None
    if isinstance(asked, Unsubscribe):
        await service.unsubscribe(token, asked, known or "")
        return asked.endpoint
    if asked.endpoint is not None:
        asked = Subscribe(
            topic=asked.topic, events=asked.events, lease_s=asked.lease_s, endpoint=known or "", name=asked.name
        )
    made = await service.subscribe(token, bearer_secret(request) or "", asked)
    return socket_url(_origin(request), made.endpoint)


def socket_url(origin: str, endpoint: str) -> str:
    """Under TLS wherever we are: plain is only localhost, which `Settings` sees to. (H29)"""
    scheme, _, rest = origin.partition("://")
    return f"{'wss' if scheme == 'https' else 'ws'}://{rest}{SOCKETS}{endpoint}"


async def launch_context(request: web.Request, secret: str) -> dict[str, str]:
    """Hub and topic for an access token that was just made for an app in a consult, if it may use them."""
    service = request.app.get(FHIRCAST_SERVICE)
    if service is None:
        return {}
    async with services(request).database.read() as session:
        token = await find_token(session, secret, services(request).now_ms())
    if token is None or token.consult is None or not token.scopes.fhircast:
        return {}
    topic = await service.topics.topic_of(token.consult)
    return {} if topic is None else {"hub.url": f"{_origin(request)}{HUB}", "hub.topic": topic}


def _secret_of(url: str) -> str:
    return urlsplit(url).path.rpartition("/")[2]


def _origin(request: web.Request) -> str:
    """Of ours, the one that the program reaches us by, which the guard has checked. Plain only on localhost (H29)."""
    host = request.host.lower()
    settings = services(request).settings
    ours = [origin for origin in settings.origins if origin.partition("://")[2] == host]
    return min(ours, default=settings.main_origin)


async def _body(request: web.Request) -> Any:
    """Text of a form, or a JSON object whatever the request calls it: programs differ."""
    raw = await request.read() if request.can_read_body else b""
    try:
        text = raw.decode()
        if request.content_type == FORM and not text.lstrip().startswith("{"):
            return text
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise malformed("The body is neither a form nor JSON.") from None
    if not isinstance(body, dict):
        raise malformed("The body is not a JSON object.")
    return body


def _refusal(refusal: HubRefusal) -> web.Response:
    HTTP_REFUSALS.labels(refusal.code).inc()
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
    return web.Response(status=refusal.status, text=refusal.text, headers=headers)


async def _allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Vary"] = "Origin"
    origin = request.headers.get("Origin")
    if origin is None or origin not in await _registered_origins(request):
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = "GET, POST"
        response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
        response.headers["Access-Control-Max-Age"] = "600"


async def _registered_origins(request: web.Request) -> frozenset[str]:
    """Origins of the pages that registered apps run on."""
    cache = request.app[FHIRCAST_SERVICE].origins
    if time.monotonic() - cache.read_s > ORIGINS_S:
        query = select(SmartClient.redirect_uris, SmartClient.launch_uri).where(SmartClient.active)
        async with services(request).database.read() as session:
            rows = (await session.execute(query)).all()
        found = {_page_origin(url) for uris, launch in rows for url in (*json.loads(uris), launch) if url}
        cache.origins, cache.read_s = frozenset(found - {""}), time.monotonic()
    return cache.origins


def _page_origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") else ""
