"""The network test's way to the media plane, for whoever may enter consults.

``POST /api/nettest`` begins a test, ``POST /api/nettest/call`` carries out one media command of it (a signalling
command, answered like one: ``{ok, result}`` or ``{ok, refusal}``), ``DELETE /api/nettest`` ends it. A test belongs to
the caller's credential; there is no id that anybody else could name. What runs behind it is ``server.nettest``.
"""

from aiohttp import web
from pydantic import ValidationError

from server.api.errors import ApiCode, ApiError
from server.api.request import Body, Empty, permitted, read_body, services, throttle
from server.identity.core.policy import Action
from server.identity.core.principal import Principal
from server.identity.core.rules import NETTEST
from server.nettest import COMMANDS, LIFE_S, NetTests
from signaling.core.errors import Refusal
from signaling.core.messages import RefusalBody
from signaling.core.model import JsonObject

NETTESTS: web.AppKey[NetTests] = web.AppKey("nettests", NetTests)

routes = web.RouteTableDef()


class Call(Body):
    """One media command."""

    command: JsonObject


@routes.post("/api/nettest")
async def begin(request: web.Request) -> web.Response:
    """A test of one's own; one that ran before ends."""
    await read_body(request, Empty)
    principal = await _tester(request)
    await throttle(request, NETTEST, principal.credential)
    if services(request).state.stopping:
        raise ApiError(ApiCode.STOPPING)
    try:
        capabilities = await request.app[NETTESTS].open(principal.credential)
    except Refusal as refusal:
        return _refused(refusal)
    result = {"router_rtp_capabilities": capabilities, "life_s": LIFE_S}
    return web.json_response({"ok": True, "result": result})


@routes.post("/api/nettest/call")
async def call(request: web.Request) -> web.Response:
    """One step of it."""
    body = await read_body(request, Call)
    principal = await _tester(request)
    try:
        command = COMMANDS.validate_python(body.command)
    except (ValidationError, RecursionError):
        raise ApiError(ApiCode.MALFORMED, "not a command of a network test") from None
    try:
        result = await request.app[NETTESTS].call(principal.credential, command)
    except Refusal as refusal:
        return _refused(refusal)
    return web.json_response({"ok": True, "result": result.model_dump(mode="json")})


@routes.delete("/api/nettest")
async def end(request: web.Request) -> web.Response:
    """Done; idempotent."""
    principal = await _tester(request)
    request.app[NETTESTS].close(principal.credential)
    return web.json_response({"ok": True, "result": {}})


async def _tester(request: web.Request) -> Principal:
    return await permitted(request, Action.ENTER_CONSULT, active=False)


def _refused(refusal: Refusal) -> web.Response:
    body = RefusalBody(code=refusal.code.value, en=refusal.en, zh=refusal.zh)
    return web.json_response({"ok": False, "refusal": body.model_dump(mode="json")})
