"""What every request passes: host and origin checks, size limits, errors, headers.

A mutating request must come from a page of ours. Browsers say so in ``Origin``;
a program without one must instead carry a bearer secret, which no browser adds
by itself. The socket's handshake is a GET but opens a two-way channel, so it
counts as mutating.
"""

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestPayloadError

from server.api.errors import ApiCode, ApiError
from server.api.services import SERVICES
from server.metrics import HTTP_REFUSALS
from server.storage.database import TROUBLE

log = structlog.get_logger(__name__)

BODY_LIMIT_BYTES = 64 * 1024
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SOCKET_PATHS = ("/socket.io", "/ws/")
BEARER_PATHS = ("/fhircast", "/api/hub")
"""No cookie is looked at there, so a foreign page can do nothing that its program could not do itself. (H29)"""
PROGRAM_PATHS = ("/fhir/", "/smart/token", "/smart/introspect", "/smart/revoke")
"""Where no cookie is ever looked at: no page can act for somebody there who did not give it a token."""
HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
"""Asked by address, not by name, by whoever watches the process."""

CSP = "; ".join(
    [
        "default-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "worker-src 'self'",
        "connect-src 'self'",
        "object-src 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self), window-management=(self), "
    "screen-wake-lock=(self), autoplay=(self), geolocation=()",
}
STORE_RETRY_S = 2
HANG_UP_S = 5
_HTTP_ERRORS = {
    404: ApiCode.NOT_FOUND,
    405: ApiCode.METHOD_NOT_ALLOWED,
    413: ApiCode.TOO_LARGE,
}


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check, call, and turn whatever goes wrong into a typed answer."""
    try:
        _check_host(request)
        _check_origin(request)
        return await handler(request)
    except ApiError as refusal:
        return _answer(refusal, request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _answer(ApiError(_HTTP_ERRORS.get(error.status, ApiCode.MALFORMED), str(error.status)), request)
    except (RequestPayloadError, ConnectionError) as broken:
        # The body does not decode, or its sender has gone: nobody's bug, and not worth a traceback each.
        return _answer(ApiError(ApiCode.MALFORMED, type(broken).__name__), request)
    except TROUBLE as problem:
        log.error("request not stored", method=request.method, route=_route(request), error=type(problem).__name__)
        return _answer(ApiError(ApiCode.STORE_UNAVAILABLE, retry_after_s=STORE_RETRY_S), request)
    except Exception:  # the last net: a bug becomes one log entry and an answer that says nothing about it
        log.exception("request failed", method=request.method, route=_route(request))
        return _answer(ApiError(ApiCode.INTERNAL), request)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """``on_response_prepare``: security headers on everything, no-store on the API."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.path.startswith("/api/"):
        response.headers["Cache-Control"] = "no-store"
    elif request.path.startswith("/assets/"):
        # Names carry a hash of the content.
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    else:
        response.headers.setdefault("Cache-Control", "no-cache")
    if request.app[SERVICES].settings.secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")


def bearer(request: web.Request) -> str | None:
    """The secret of an ``Authorization: Bearer`` header."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" and secret.strip() else None


def _check_host(request: web.Request) -> None:
    """A name that is not ours means a rebinding attack or a proxy that was set up wrongly."""
    if request.path in HEALTH_PATHS:
        return
    origins = request.app[SERVICES].settings.origins
    if not any(origin.partition("://")[2] == request.host.lower() for origin in origins):
        raise ApiError(ApiCode.WRONG_HOST)


def _check_origin(request: web.Request) -> None:
    if request.path.startswith(BEARER_PATHS):
        return
    changes = request.method not in SAFE_METHODS or request.path.startswith(SOCKET_PATHS)
    if not changes or request.path == "/fhir" or request.path.startswith(PROGRAM_PATHS):
        return
    origin = request.headers.get("Origin")
    if origin is None:
        if request.method in SAFE_METHODS or bearer(request) is not None:
            return  # the socket's handshake is checked by its token
        raise ApiError(ApiCode.WRONG_ORIGIN, "no origin")
    if origin not in request.app[SERVICES].settings.origins:
        raise ApiError(ApiCode.WRONG_ORIGIN)


def _answer(refusal: ApiError, request: web.Request) -> web.Response:
    HTTP_REFUSALS.labels(refusal.code.value).inc()
    log.debug("request refused", code_=refusal.code.value, detail=refusal.detail, route=_route(request))
    headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
    answer = web.json_response(refusal.body, status=refusal.status, headers=headers)
    if refusal.code is ApiCode.TOO_BUSY and (refusal.retry_after_s or 0) >= HANG_UP_S:
        answer.force_close()  # thousands who wait for their turn must not hold a descriptor each meanwhile [SE16]
    return answer


def _route(request: web.Request) -> str:
    """The route's pattern: the path itself may hold ids."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "(none)"
