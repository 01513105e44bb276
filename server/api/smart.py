"""The authorization server over HTTP: SMART App Launch 2.2, Backend Services, introspection, revocation, JWKS.

Two kinds of callers. A person's browser comes with our session cookie to
``/smart/authorize`` and decides. Programs come to the other endpoints without
any cookie and prove themselves; these endpoints therefore need no check of the
Origin (`guard.py`), and pages of registered apps may read their answers (CORS).
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal

import structlog
from aiohttp import web
from joserfc.jwk import RSAKey
from pydantic import Field

from server.api.errors import ApiCode, ApiError
from server.api.fhircast import launch_context
from server.api.request import (
    SESSION_COOKIE,
    Body,
    member,
    permitted,
    permitted_person,
    read_body,
    services,
    throttle,
)
from server.api.smart_pages import again_page, consent_page, refusal_page, sign_in_page
from server.identity.core.policy import Action
from server.identity.core.principal import PersonPrincipal
from server.identity.core.rules import SMART as LIMIT
from server.record.aio.store import banner_in
from server.smart.aio.clients import (
    ClientInvalid,
    NewClient,
    all_clients,
    app_of,
    find_client,
    known_origins,
    register,
    replace_keys,
    revoke_client,
)
from server.smart.aio.grants import Choice, Grants, without_patient
from server.smart.core.errors import OAuthCode, OAuthError
from server.smart.core.request import Asked, RedirectError, answer_location, origin_of_uri, read_asked
from server.smart.core.scopes import Scopes

log = structlog.get_logger(__name__)
routes = web.RouteTableDef()

GRANTS: web.AppKey[Grants] = web.AppKey("smart_grants", Grants)
FHIR = "/fhir"
CAPABILITIES = [
    "launch-ehr",
    "launch-standalone",
    "authorize-post",
    "client-public",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-banner",
    "context-ehr-patient",
    "context-standalone-patient",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
    "permission-v1",
    "permission-v2",
]
_PROGRAM_PATHS = ("/smart/token", "/smart/introspect", "/smart/revoke")
_FORM_CHARS = 20_000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def base_of(request: web.Request) -> str:
    """The FHIR endpoint, and issuer of everything here, under the name that the caller used."""
    origins = services(request).settings.origins
    # The guard has checked that the host is one of ours.
    found = next((one for one in sorted(origins) if one.partition("://")[2] == request.host.lower()), None)
    return f"{found or services(request).settings.main_origin}{FHIR}"


def _own(request: web.Request) -> str:
    return base_of(request).removesuffix(FHIR)


# ------------------------------------------------------------------ discovery


@routes.get("/.well-known/smart-configuration")
@routes.get(f"{FHIR}/.well-known/smart-configuration")
async def configuration(request: web.Request) -> web.Response:
    """Where what is (SMART App Launch 2.2 section 4.1)."""
    own = _own(request)
    told = {
        "issuer": base_of(request),
        "jwks_uri": f"{own}/smart/jwks",
        "authorization_endpoint": f"{own}/smart/authorize",
        "token_endpoint": f"{own}/smart/token",
        "introspection_endpoint": f"{own}/smart/introspect",
        "revocation_endpoint": f"{own}/smart/revoke",
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "none"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "subject_types_supported": ["public"],
        "authorization_response_iss_parameter_supported": True,
        "scopes_supported": [
            "openid", "fhirUser", "launch", "launch/patient", "online_access", "offline_access",
            "patient/*.cruds", "user/*.cruds", "system/*.cruds", "fhircast/*.*",
        ],
        "capabilities": CAPABILITIES,
    }  # fmt: skip
    return _json(told, headers={"Access-Control-Allow-Origin": "*"})


@routes.get(f"{FHIR}/.well-known/openid-configuration")
async def openid_configuration(request: web.Request) -> web.StreamResponse:
    """The same for who looks by OpenID Connect's name."""
    return await configuration(request)


@routes.get("/smart/jwks")
async def jwks(request: web.Request) -> web.Response:
    """The hub's public key."""
    key: RSAKey = request.app[GRANTS].key
    return _json({"keys": [key.as_dict(private=False)]}, headers={"Access-Control-Allow-Origin": "*"})


# ------------------------------------------------------------------ a person allows


@routes.get("/smart/authorize")
@routes.post("/smart/authorize")
async def authorize(request: web.Request) -> web.StreamResponse:
    """Show what an app asks for; on ``decision`` in the body, carry it out."""
    form = await _form(request) if request.method == "POST" else dict(request.query)
    try:
        return await _authorize(request, form)
    except RedirectError as refusal:
        raise web.HTTPSeeOther(refusal.location) from None
    except OAuthError as refusal:
        log.debug("authorization refused", code_=refusal.code.value, detail=refusal.detail)
        return refusal_page()


async def _authorize(request: web.Request, form: dict[str, str]) -> web.StreamResponse:
    parts, grants, issuer = services(request), request.app[GRANTS], base_of(request)
    async with parts.database.read() as session:
        app = app_of(await find_client(session, form.get("client_id", "")))
    asked = read_asked(form, app, issuer=issuer)
    assert app is not None, "read_asked refuses"
    if SESSION_COOKIE not in request.cookies and "again" not in form:
        # The session's cookie does not come along from another site's page; from our own it does.
        return again_page(form)
    try:
        person = await permitted_person(request, Action.READ_RECORD)
    except ApiError as refusal:
        if refusal.code is ApiCode.NOT_SIGNED_IN:
            return sign_in_page(form)
        raise _refused(asked, issuer, OAuthCode.ACCESS_DENIED) from None
    choices = await _choices(grants, person, asked)
    decision = form.get("decision") if request.method == "POST" else None
    if decision is None:
        names = await _names(request, choices)
        return consent_page(app.name, origin_of_uri(asked.redirect_uri), asked.scopes, choices, names, form)
    if decision != "allow":
        raise _refused(asked, issuer, OAuthCode.ACCESS_DENIED)
    code = await _allow(grants, person, asked, choices, form.get("consult", ""), issuer)
    answer = {"code": code, "state": asked.state, "iss": issuer}
    raise web.HTTPSeeOther(answer_location(asked.redirect_uri, answer))


async def _choices(grants: Grants, person: PersonPrincipal, asked: Asked) -> list[Choice]:
    """The patients that may be chosen; of an app started from our pages only the one it was started for."""
    if asked.scopes == without_patient(asked.scopes):
        return []
    open_now = await grants.choices(person.subject)
    if not asked.launch:
        return open_now
    meant = await grants.launched(person.subject, asked.client, asked.launch)
    # The patient may have been changed since: then nothing is chosen, rather than somebody else.
    return [one for one in open_now if meant and (one.consult, one.patient) == (meant.consult, meant.patient)]


async def _allow(
    grants: Grants, person: PersonPrincipal, asked: Asked, choices: list[Choice], consult: str, issuer: str
) -> str:
    choice = next((one for one in choices if one.consult == consult), None)
    try:
        return await grants.allow(person, asked, choice)
    except OAuthError as refusal:
        raise _refused(asked, issuer, refusal.code) from None


def _refused(asked: Asked, issuer: str, code: OAuthCode) -> RedirectError:
    return RedirectError(code, asked.redirect_uri, asked.state, issuer)


async def _names(request: web.Request, choices: list[Choice]) -> Mapping[str, str]:
    """Name and first identifier of the patients, for the person who chooses (W18)."""
    names = {}
    async with services(request).database.read() as session:
        for one in choices:
            banner = await banner_in(session, one.patient)
            if banner is not None:
                names[one.patient] = f"{banner.name} {banner.birth_date} {banner.identifiers[0].value}"
    return names


# ------------------------------------------------------------------ programs


def _program(handler: Handler) -> Handler:
    """OAuth's refusals, no caching, and CORS for pages of registered apps."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            await throttle(request, LIMIT)
            response = await handler(request)
        except OAuthError as refusal:
            log.debug("token endpoint refused", code_=refusal.code.value, detail=refusal.detail)
            response = _json({"error": refusal.code.value}, status=refusal.status)
            if refusal.status == 401:
                response.headers["WWW-Authenticate"] = "Bearer"
        response.headers["Cache-Control"] = "no-store"
        response.headers["Pragma"] = "no-cache"
        await allow_origin(request, response)
        return response

    return answer


@routes.post("/smart/token")
@_program
async def token(request: web.Request) -> web.StreamResponse:
    """RFC 6749 section 3.2."""
    form, grants = await _form(request), request.app[GRANTS]
    client = await grants.authenticate(form, _audience(request))
    match form.get("grant_type"):
        case "authorization_code":
            redirect_uri, verifier = form.get("redirect_uri", ""), form.get("code_verifier", "")
            answer = await grants.redeem(client, form.get("code", ""), verifier, redirect_uri, base_of(request))
            return _json(answer | await launch_context(request, answer["access_token"]))
        case "refresh_token":
            refresh, scope = form.get("refresh_token", ""), form.get("scope")
            answer = await grants.refresh(client, refresh, scope, base_of(request))
            return _json(answer | await launch_context(request, answer["access_token"]))
        case "client_credentials":
            return _json(await grants.backend(client, form.get("scope", "")))
        case _:
            raise OAuthError(OAuthCode.UNSUPPORTED_GRANT_TYPE)


@routes.post("/smart/introspect")
@_program
async def introspect(request: web.Request) -> web.StreamResponse:
    """RFC 7662, for a client's own tokens."""
    form, grants = await _form(request), request.app[GRANTS]
    client = await grants.authenticate(form, _audience(request))
    if not client.proved:
        raise OAuthError(OAuthCode.INVALID_CLIENT, "a public client proves nothing")
    return _json(await grants.introspect(client, form.get("token", "")))


@routes.post("/smart/revoke")
@_program
async def revoke(request: web.Request) -> web.StreamResponse:
    """RFC 7009."""
    form, grants = await _form(request), request.app[GRANTS]
    client = await grants.authenticate(form, _audience(request))
    await grants.revoke(client, form.get("token", ""))
    return web.Response()


@routes.options("/smart/{rest:.*}")
async def preflight(request: web.Request) -> web.StreamResponse:
    """A browser asks before it lets an app's page send."""
    response = web.Response(status=204)
    await allow_origin(request, response)
    return response


async def allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Let pages of registered apps read the answer. Never with cookies: these endpoints know none."""
    origin = request.headers.get("Origin")
    if origin is None:
        return
    async with services(request).database.read() as session:
        known = origin in await known_origins(session)
    if known:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] = "Origin"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE"
        response.headers["Access-Control-Allow-Headers"] = (
            "Authorization, Content-Type, If-Match, If-None-Exist, If-None-Match, Prefer"
        )
        response.headers["Access-Control-Expose-Headers"] = "ETag, Location, Last-Modified, WWW-Authenticate"


def _audience(request: web.Request) -> frozenset[str]:
    own = _own(request)
    return frozenset({*(f"{own}{path}" for path in _PROGRAM_PATHS), base_of(request)})


async def _form(request: web.Request) -> dict[str, str]:
    """A form's fields; one that comes twice is refused (RFC 6749 section 3.2)."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise OAuthError(OAuthCode.INVALID_REQUEST, "not a form")
    fields = await request.post()
    found: dict[str, str] = {}
    for name, value in fields.items():
        if name in found or not isinstance(value, str) or len(value) > _FORM_CHARS:
            raise OAuthError(OAuthCode.INVALID_REQUEST, "a field twice, or no text")
        found[name] = value
    return found


def _json(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response(value, status=status, headers=headers)


# ------------------------------------------------------------------ our own pages and the administrator


class Launch(Body):
    """Which app to start."""

    client: Annotated[str, Field(min_length=1, max_length=64)]


@routes.post("/api/consults/{consult}/smart/launch")
async def launch(request: web.Request) -> web.Response:
    """Address that starts an app for the open patient (EHR launch)."""
    person = await permitted_person(request, Action.READ_RECORD)
    found = await member(request, person)
    body = await read_body(request, Launch)
    async with services(request).database.read() as session:
        client = await find_client(session, body.client)
    choices = await request.app[GRANTS].choices(person.subject)
    choice = next((one for one in choices if one.consult == found.consult), None)
    if client is None or not client.launch_uri:
        raise ApiError(ApiCode.NOT_FOUND)
    if choice is None:
        raise ApiError(ApiCode.CONTEXT_CHANGED)
    secret = await request.app[GRANTS].launch(person, client, found.consult, choice.patient)
    return _json({"url": answer_location(client.launch_uri, {"iss": base_of(request), "launch": secret})})


class Registration(Body):
    """What an administrator registers."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    kind: Literal["public", "app", "backend"]
    scopes: Annotated[str, Field(max_length=4_000)]
    redirect_uris: Annotated[list[str], Field(max_length=10)] = Field(default_factory=list)
    launch_uri: Annotated[str, Field(max_length=500)] = ""
    jwks: dict[str, Any] | None = None
    hospital: Annotated[str, Field(max_length=64)] | None = None


@routes.post("/api/smart/clients")
async def add_client(request: web.Request) -> web.Response:
    """Register a program."""
    principal = await permitted(request, Action.MANAGE_CLIENTS)
    body = await read_body(request, Registration)
    new = NewClient(**body.model_dump())
    try:
        async with services(request).database.write() as session:
            await register(session, new, actor=principal.actor, at_ms=services(request).now_ms())
    except ClientInvalid as problem:
        raise ApiError(ApiCode.MALFORMED, str(problem)) from None
    return _json({"id": new.id}, status=201)


@routes.get("/api/smart/clients")
async def list_clients(request: web.Request) -> web.Response:
    """All of them, closed ones too."""
    await permitted(request, Action.MANAGE_CLIENTS)
    async with services(request).database.read() as session:
        rows = await all_clients(session)
    told = [
        {
            "id": row.id,
            "name": row.name,
            "kind": row.kind,
            "hospital": row.hospital_id,
            "scopes": Scopes.parse(row.scopes).text,
            "redirect_uris": json.loads(row.redirect_uris),
            "active": row.active,
        }
        for row in rows
    ]
    return _json({"clients": told})


class NewKeys(Body):
    """A client's public keys from now on; old and new ones side by side while it changes over."""

    jwks: dict[str, Any]


@routes.put("/api/smart/clients/{id}/keys")
async def change_keys(request: web.Request) -> web.Response:
    """Replace a client's keys: what is signed with one that is not among them is worth nothing at once."""
    principal = await permitted(request, Action.MANAGE_CLIENTS)
    body = await read_body(request, NewKeys)
    try:
        async with services(request).database.write() as session:
            at_ms = services(request).now_ms()
            done = await replace_keys(session, request.match_info["id"], body.jwks, actor=principal.actor, at_ms=at_ms)
    except ClientInvalid as problem:
        raise ApiError(ApiCode.MALFORMED, str(problem)) from None
    if not done:
        raise ApiError(ApiCode.NOT_FOUND)
    return web.Response(status=204)


@routes.delete("/api/smart/clients/{id}")
async def close_client(request: web.Request) -> web.Response:
    """From now on nothing of it works."""
    principal = await permitted(request, Action.MANAGE_CLIENTS)
    async with services(request).database.write() as session:
        at_ms = services(request).now_ms()
        done = await revoke_client(session, request.match_info["id"], actor=principal.actor, at_ms=at_ms)
    if not done:
        raise ApiError(ApiCode.NOT_FOUND)
    return web.Response(status=204)
