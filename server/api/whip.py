"""WHIP: hospital encoders, OBS and GStreamer publish into a consult by HTTP (RFC 9725).

``POST /api/consults/{consult}/whip`` takes an SDP offer and answers 201 with the session's address;
``PATCH`` there takes trickled candidates (a lite agent needs none) or restarts ICE; ``DELETE`` ends it.
The bearer is a consult token, good for one session as for one socket, or the secret of a room account,
which an encoder keeps for years: then membership is asked at each POST. (An account for a device sends waveforms
and no pictures.) The later requests carry the same bearer.

The session itself is ``server.whip.sessions``; what the offer means is ``media.core.whip``.
"""

import secrets

from aiohttp import web

from media.core.sdp import SdpError
from media.core.whip import Offer, build_answer, build_fragment, parse_fragment, parse_offer
from server.api.arriving import arrived, arriving, expected
from server.api.errors import ApiCode, ApiError
from server.api.guard import bearer
from server.api.request import MAX_SECRET_CHARS, services, throttle
from server.identity.aio.members import membership
from server.identity.core.policy import Action, allowed
from server.identity.core.rules import TOKEN, WHIP
from server.identity.core.tokens import MAX_TOKEN_CHARS, TokenInvalid
from server.metrics import TOKENS
from server.whip.sessions import WhipSession, WhipSessions
from signaling.core.admission import Admission
from signaling.core.errors import ErrorCode, Refusal, ServerStopping
from signaling.core.model import ConsultStatus

SESSIONS: web.AppKey[WhipSessions] = web.AppKey("whip", WhipSessions)
SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"

routes = web.RouteTableDef()

_REFUSALS = {
    ErrorCode.NOT_ALLOWED: ApiCode.NOT_ALLOWED,
    ErrorCode.NOT_FOUND: ApiCode.NOT_FOUND,
    ErrorCode.NOT_JOINED: ApiCode.NOT_FOUND,
    ErrorCode.CONSULT_ENDED: ApiCode.CONSULT_ENDED,
    ErrorCode.CONSULT_FULL: ApiCode.CONSULT_FULL,
    ErrorCode.BAD_MEDIA_PARAMETERS: ApiCode.SDP_UNSUPPORTED,
    ErrorCode.CONFLICT: ApiCode.MEDIA_UNAVAILABLE,
    ErrorCode.MEDIA_UNAVAILABLE: ApiCode.MEDIA_UNAVAILABLE,
}
RETRY_AFTER_S = 2
"""Of what passes by itself: a worker is replaced, somebody else was faster."""
BUSY_RETRY_AFTER_S = 30
"""Of what waits for others to end; thousands of encoders that come again at once would make it worse."""


@routes.options("/api/consults/{consult}/whip")
async def describe(_request: web.Request) -> web.Response:
    """What may be posted here; says nothing about the consult."""
    return web.Response(status=204, headers={"Accept-Post": SDP, "Allow": "OPTIONS, POST"})


@routes.post("/api/consults/{consult}/whip")
async def publish(request: web.Request) -> web.Response:
    """An offer in, an answer out."""
    key = _key(request)
    await throttle(request, WHIP)
    offer = _offer(await _text(request, SDP))
    admission = await _admitted(request, key)
    try:
        session = await request.app[SESSIONS].begin(admission, offer, key)
    except Refusal as refusal:
        raise _api_error(refusal) from refusal
    assert session.options is not None
    answer = build_answer(offer, session.options.model_dump(mode="json"), secrets.randbits(62))
    headers = {"Location": f"/api/whip/{session.id}", "ETag": f'"{session.etag}"'}
    return web.Response(status=201, body=answer.encode(), content_type=SDP, headers=headers)


@routes.options("/api/whip/{session}")
async def describe_session(_request: web.Request) -> web.Response:
    """What may be patched here; says nothing about the session."""
    return web.Response(status=204, headers={"Accept-Patch": FRAGMENT, "Allow": "DELETE, OPTIONS, PATCH"})


@routes.patch("/api/whip/{session}")
async def patch(request: web.Request) -> web.Response:
    """Trickled candidates change nothing here; fresh credentials restart ICE (RFC 9725 section 4.3)."""
    session = _session(request)
    try:
        fragment = parse_fragment(await _text(request, FRAGMENT))
    except SdpError as error:
        raise ApiError(ApiCode.MALFORMED, error.reason) from None
    async with session.patching:
        restart = fragment.ice_ufrag != session.remote_ufrag
        _check_etag(request, session, restart=restart)
        if not restart:
            return web.Response(status=204)
        try:
            ice = await request.app[SESSIONS].restart_ice(session, fragment.ice_ufrag)
        except Refusal as refusal:
            raise _api_error(refusal) from refusal
        assert session.options is not None
        body = build_fragment(ice, session.options.ice_candidates).encode()
        return web.Response(body=body, content_type=FRAGMENT, headers={"ETag": f'"{session.etag}"'})


@routes.delete("/api/whip/{session}")
async def end(request: web.Request) -> web.Response:
    """Stop publishing and leave."""
    await request.app[SESSIONS].end(_session(request))
    return web.Response()


@routes.route("*", "/api/consults/{consult}/whip")
@routes.route("*", "/api/whip/{session}")
async def nothing_else(_request: web.Request) -> web.Response:
    """RFC 9725 section 4.1: there is nothing to read here."""
    raise ApiError(ApiCode.METHOD_NOT_ALLOWED)


# ---------------------------------------------------------------- parts


def _key(request: web.Request) -> str:
    key = bearer(request)
    if key is None or len(key) > MAX_TOKEN_CHARS or not key.isascii():
        raise ApiError(ApiCode.NOT_SIGNED_IN)
    return key


def _session(request: web.Request) -> WhipSession:
    session = request.app[SESSIONS].find(request.match_info["session"], _key(request))
    if session is None:
        raise ApiError(ApiCode.NOT_FOUND)
    return session


async def _text(request: web.Request, content_type: str) -> str:
    if request.content_type != content_type:
        raise ApiError(ApiCode.NOT_SDP)
    raw = await request.read()  # aiohttp raises 413 beyond the application's limit
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ApiError(ApiCode.MALFORMED, "not UTF-8") from None


def _offer(text: str) -> Offer:
    try:
        return parse_offer(text)
    except SdpError as error:
        code = ApiCode.SDP_UNSUPPORTED if error.code == "unsupported" else ApiCode.MALFORMED
        raise ApiError(code, error.reason) from None


async def _admitted(request: web.Request, key: str) -> Admission:
    """By a consult token, which is then spent, or by a device's secret."""
    parts = services(request)
    token = key if key.count(".") == 2 else await _token_of_device(request, key)
    try:
        admission = await parts.tokens.accept(token)
    except TokenInvalid as problem:
        TOKENS.labels("refused").inc()
        raise ApiError(ApiCode.NOT_SIGNED_IN, str(problem)) from None
    TOKENS.labels("accepted").inc()
    arrived(request, admission.consult, admission.participant)
    if admission.consult != request.match_info["consult"]:
        raise ApiError(ApiCode.NOT_FOUND)
    return admission


async def _token_of_device(request: web.Request, secret: str) -> str:
    """What ``POST .../token`` would give this device, under the same rules."""
    parts = services(request)
    with arriving(request) as arrival:
        device = await parts.devices.find(secret) if len(secret) <= MAX_SECRET_CHARS else None
        if device is None:
            raise ApiError(ApiCode.NOT_SIGNED_IN)
        if not allowed(device.access, Action.ENTER_CONSULT):
            raise ApiError(ApiCode.NOT_ALLOWED)
        async with parts.database.read() as session:
            found = await membership(session, device, request.match_info["consult"])
        if found is None:
            raise ApiError(ApiCode.NOT_FOUND)
        await throttle(request, TOKEN, device.credential)
        consult = await parts.store.load(found.consult)
        if consult is None or consult.status is ConsultStatus.ENDED:
            raise ApiError(ApiCode.CONSULT_ENDED)
        issued = await parts.tokens.issue(device, found)
        expected(request, arrival, issued)
    return issued.token


def _check_etag(request: web.Request, session: WhipSession, *, restart: bool) -> None:
    """RFC 9725 section 4.3.1: a trickle names the ICE session it belongs to, a restart names none."""
    given = request.headers.get("If-Match")
    if given is None:
        raise ApiError(ApiCode.PRECONDITION_REQUIRED)
    if given.strip() != ("*" if restart else f'"{session.etag}"'):
        raise ApiError(ApiCode.PRECONDITION_FAILED)


def _api_error(refusal: Refusal) -> ApiError:
    if refusal.code is ErrorCode.TOO_BUSY:
        # Used up, or about to restart: which of them, and what to do, the refusal says itself.
        code = ApiCode.STOPPING if isinstance(refusal, ServerStopping) else ApiCode.TOO_BUSY
        return ApiError(code, refusal.detail, retry_after_s=BUSY_RETRY_AFTER_S, sentences=(refusal.en, refusal.zh))
    code = _REFUSALS.get(refusal.code, ApiCode.INTERNAL)
    retry_after_s = RETRY_AFTER_S if code is ApiCode.MEDIA_UNAVAILABLE else None
    return ApiError(code, refusal.detail, retry_after_s=retry_after_s)
