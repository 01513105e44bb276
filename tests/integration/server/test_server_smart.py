"""The authorization server on a real port: apps of people, gateways, and everything that must not work."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from server_hub import Hub
from smart_kit import (
    EVERYTHING,
    REDIRECT,
    App,
    assertion,
    decide,
    end,
    gateway_key,
    open_patient,
    query,
    register_clients,
)
from sqlalchemy import select

from server.storage.models import EventRow
from server.storage.smart_tables import SmartToken


@pytest.fixture
async def app(hub: Hub) -> AsyncIterator[App]:
    await register_clients(hub)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield App(hub.origin, http)


async def test_an_app_gets_what_the_person_allows_for_the_open_patient(hub: Hub, app: App) -> None:
    """Discovery, consent, PKCE, launch context, identity, rotation, introspection of nothing stored in the clear."""
    await open_patient(hub)
    doctor = await hub.doctor()
    async with app.http.get(f"{hub.origin}/fhir/.well-known/smart-configuration") as answer:
        found = await answer.json()
    assert found["token_endpoint"] == f"{hub.origin}/smart/token"
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert found["authorization_response_iss_parameter_supported"] is True
    async with doctor.http.get("/smart/authorize", params=query(hub)) as answer:
        page = await answer.text()
        assert answer.status == 200
        assert "form-action 'self' http://localhost:9999" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Referrer-Policy"] == "same-origin", "or browsers send the form from nowhere"
    assert "心电应用 &lt;ECG&gt;" in page
    assert "张桂兰" in page
    answered = await decide(doctor, query(hub, nonce="n1"))
    assert (answered["state"], answered["iss"]) == ("s" * 22, f"{hub.origin}/fhir")
    status, tokens = await app.redeem(answered["code"])
    assert status == 200
    assert (tokens["patient"], tokens["token_type"], tokens["need_patient_banner"]) == ("pt1", "Bearer", True)
    async with app.http.get(found["jwks_uri"]) as answer:
        keys = KeySet.import_key_set(await answer.json())
    claims = jwt.decode(tokens["id_token"], keys, algorithms=["RS256"]).claims
    assert (claims["sub"], claims["aud"], claims["nonce"]) == ("d1", "app", "n1")
    app.token = tokens["access_token"]
    assert (await app.get(claims["fhirUser"]))[1]["name"][0]["text"] == "人d1"
    status, renewed = await app.form(
        "/smart/token", grant_type="refresh_token", client_id="app", refresh_token=tokens["refresh_token"],
        scope="patient/Observation.rs",
    )  # fmt: skip
    assert (status, renewed["scope"]) == (200, "patient/Observation.rs")
    app.token = renewed["access_token"]
    assert (await app.get("/Observation?_count=1"))[0] == 200
    assert (await app.get("/Patient/pt1"))[0] == 403
    async with hub.services.database.read() as session:
        hashes = set(await session.scalars(select(SmartToken.token_hash)))
    assert not hashes & {answered["code"], tokens["access_token"], tokens["refresh_token"]}


async def test_codes_and_refresh_tokens_work_once_and_a_second_use_ends_the_grant(hub: Hub, app: App) -> None:
    await open_patient(hub)
    doctor = await hub.doctor()
    code = (await decide(doctor, query(hub)))["code"]
    for wrong in ({"code_verifier": "w" * 43}, {"redirect_uri": REDIRECT + "/"}, {"client_id": "offline"}):
        assert (await app.redeem(code, **wrong))[1]["error"] == "invalid_grant"
    app.token = (await app.redeem(code))[1]["access_token"]
    assert (await app.get("/Patient/pt1"))[0] == 200
    assert (await app.redeem(code))[1]["error"] == "invalid_grant"
    assert (await app.get("/Patient/pt1"))[0] == 401, "somebody else has the code: nothing of it works any more"

    tokens = await app.allowed(doctor, hub)
    refresh = {"grant_type": "refresh_token", "client_id": "app", "refresh_token": tokens["refresh_token"]}
    status, renewed = await app.form("/smart/token", **refresh)
    assert status == 200
    assert (await app.form("/smart/token", **refresh))[1]["error"] == "invalid_grant"
    again = {**refresh, "refresh_token": renewed["refresh_token"]}
    assert (await app.form("/smart/token", **again))[1]["error"] == "invalid_grant"
    async with hub.services.database.read() as session:
        ended = (await session.scalars(select(EventRow.body).where(EventRow.kind == "smart_grant_ended"))).all()
    assert ["code used twice" in ended[0], "refresh token used twice" in ended[1]] == [True, True]
    expired = (await decide(doctor, query(hub)))["code"]
    hub.clock.ms += 60_000
    assert (await app.redeem(expired))[1]["error"] == "invalid_grant"


async def test_a_request_that_is_not_right_is_not_sent_back_or_says_so(hub: Hub, app: App) -> None:
    await open_patient(hub)
    doctor = await hub.doctor()
    for nowhere in ({"client_id": "none"}, {"client_id": "gw"}, {"redirect_uri": "http://localhost:9999/other"}):
        async with doctor.http.get("/smart/authorize", params=query(hub, **nowhere), allow_redirects=False) as answer:
            assert answer.status == 400
            assert "Location" not in answer.headers
    for wrong, error in (
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "x"}, "invalid_request"),
        ({"state": ""}, "invalid_request"),
        ({"state": "s" * 1_001}, "invalid_request"),
        ({"nonce": "n" * 201}, "invalid_request"),
        ({"aud": "https://elsewhere/fhir"}, "invalid_request"),
        ({"scope": "system/*.rs patient/Observation.sr"}, "invalid_scope"),
        ({"decision": "deny"}, "access_denied"),
    ):
        assert (await decide(doctor, query(hub, **wrong)))["error"] == error
    admin = await hub.doctor("a1@hub")
    assert (await decide(admin, query(hub)))["error"] == "access_denied", "who may not read lets no app read"
    stranger = hub.browser()
    async with stranger.http.get("/smart/authorize", params=query(hub)) as answer:
        assert 'http-equiv="refresh"' in await answer.text(), "a strict cookie comes only from our own page"
    async with stranger.http.get("/smart/authorize", params=query(hub, again="1")) as answer:
        assert answer.status == 401
    form = {**query(hub), "decision": "allow", "consult": "c1"}
    async with doctor.http.post("/smart/authorize", data=form, headers={"Origin": "https://evil"}) as answer:
        assert answer.status == 403, "only our own page decides"


async def test_without_an_open_patient_there_is_no_token_for_the_patient(hub: Hub, app: App) -> None:
    """A scope for "the patient" never becomes one for any patient; a launch is for the patient it was made for."""
    doctor = await hub.doctor()
    assert (await decide(doctor, query(hub, scope="patient/*.rs")))["error"] == "invalid_scope"
    tokens = await app.allowed(doctor, hub)
    assert "patient" not in tokens
    assert not any(word.startswith("patient/") for word in tokens["scope"].split())
    await open_patient(hub, "pt1")
    status, launched = await doctor.post("/api/consults/c1/smart/launch", {"client": "app"})
    assert status == 200
    launch = launched["url"].partition("launch=")[2]
    await open_patient(hub, "pt2")
    moved = await decide(doctor, query(hub, scope="launch patient/*.rs", launch=launch))
    assert moved["error"] == "invalid_scope"
    await open_patient(hub, "pt1")
    code = (await decide(doctor, query(hub, scope="launch patient/*.rs", launch=launch)))["code"]
    assert (await app.redeem(code))[1]["patient"] == "pt1"
    hub.clock.ms += 5 * 60_000
    assert (await decide(doctor, query(hub, scope="launch patient/*.rs", launch=launch)))["error"] == "invalid_scope"


async def test_what_ended_the_right_ends_the_token(hub: Hub, app: App) -> None:
    """Time, sign-out, revocation, and the administrator who closes the app."""
    await open_patient(hub)
    doctor = await hub.doctor()
    tokens = await app.allowed(doctor, hub)
    assert (await app.get("/Patient/pt1"))[0] == 200
    assert (await app.form("/smart/revoke", client_id="app", token=tokens["access_token"]))[0] == 200
    assert (await app.get("/Patient/pt1"))[0] == 401
    assert app.headers["WWW-Authenticate"].startswith("Bearer")
    await app.allowed(doctor, hub)
    hub.clock.ms += 15 * 60_000
    assert (await app.get("/Patient/pt1"))[0] == 401
    tokens = await app.allowed(doctor, hub)
    await doctor.send("DELETE", "/api/session")
    assert (await app.get("/Patient/pt1"))[0] == 401
    refresh = {"grant_type": "refresh_token", "client_id": "app", "refresh_token": tokens["refresh_token"]}
    assert (await app.form("/smart/token", **refresh))[1]["error"] == "invalid_grant"
    doctor, admin = await hub.doctor(), await hub.doctor("a1@hub")
    code = (await decide(doctor, query(hub, client="offline", scope="offline_access launch/patient patient/*.rs")))[
        "code"
    ]
    refresh = {
        **refresh,
        "client_id": "offline",
        "refresh_token": (await app.redeem(code, "offline"))[1]["refresh_token"],
    }
    await app.allowed(doctor, hub)
    assert (await doctor.send("DELETE", "/api/smart/clients/app"))[0] == 403
    assert (await admin.send("DELETE", "/api/smart/clients/app"))[0] == 204
    assert (await app.get("/Patient/pt1"))[0] == 401
    assert (await admin.send("DELETE", "/api/smart/clients/app"))[0] == 404
    await end(hub, "c1")
    assert (await app.form("/smart/token", **refresh))[1]["error"] == "invalid_grant", "its consult is over"


async def test_a_gateway_proves_itself_by_its_key(hub: Hub, app: App) -> None:
    """RFC 7523: the right key, this endpoint, a short life, and once."""
    good = assertion(hub)
    status, tokens = await app.form("/smart/token", **good, scope="system/Observation.cu user/Patient.r")
    assert (status, tokens["scope"], tokens["expires_in"]) == (200, "system/Observation.cu", 300)
    now_s = hub.clock() // 1_000
    other = ECKey.generate_key("P-384", parameters={"kid": "gw-1"})
    claims = {"iss": "gw", "sub": "gw", "aud": f"{hub.origin}/smart/token", "exp": now_s + 60, "jti": "j" * 20}
    forged = jwt.encode({"alg": "ES384", "kid": "gw-1"}, claims, other, algorithms=["ES384"])
    nameless = jwt.encode({"alg": "ES384"}, claims, gateway_key(), algorithms=["ES384"])
    hostile = [
        good,
        {**good, "client_assertion": forged},
        {**good, "client_assertion": nameless},
        {**good, "client_assertion": "a.b.c"},
        {**good, "client_assertion_type": "x", "client_assertion": assertion(hub)["client_assertion"]},
        {"grant_type": "client_credentials", "client_id": "gw"},
        assertion(hub, aud="https://elsewhere/token"),
        assertion(hub, sub="gw-hub"),
        assertion(hub, iss="nobody", sub="nobody"),
        assertion(hub, exp=now_s - 1),
        assertion(hub, exp=now_s + 4_000),
        assertion(hub, jti=""),
        assertion(hub, nbf=now_s + 120),
        assertion(hub, iat=now_s + 3_600),
        assertion(hub, nbf="now"),
        {**assertion(hub), "client_id": "gw-hub"},
    ]
    for fields in hostile:
        status, answer = await app.form("/smart/token", **fields, scope="system/*.rs")
        assert (status, answer["error"]) == (401, "invalid_client")
    assert (await app.form("/smart/token", **assertion(hub), scope="user/*.rs"))[1]["error"] == "invalid_scope"
    asked = {**assertion(hub), "grant_type": "password"}
    assert (await app.form("/smart/token", **asked))[1]["error"] == "unsupported_grant_type"
    told = (await app.form("/smart/introspect", **assertion(hub), token=tokens["access_token"]))[1]
    assert (told["active"], told["scope"], told["client_id"]) == (True, "system/Observation.cu", "gw")
    others = (await app.form("/smart/introspect", **assertion(hub, "gw-hub"), token=tokens["access_token"]))[1]
    assert others == {"active": False}
    assert (await app.form("/smart/introspect", client_id="app", token="x"))[0] == 401
    await rotated(hub, app)


async def rotated(hub: Hub, app: App) -> None:
    """Both keys while the gateway changes over, then the new one alone."""
    admin, doctor = await hub.doctor("a1@hub"), await hub.doctor()
    fresh = ECKey.generate_key("P-384", parameters={"kid": "gw-2"})
    old, new = gateway_key().as_dict(private=False), fresh.as_dict(private=False)

    async def change(*keys: dict[str, object], client: str = "gw") -> int:
        body = {"jwks": {"keys": list(keys)}}
        return (await admin.send("PUT", f"/api/smart/clients/{client}/keys", body))[0]

    async def asks(key: ECKey, kid: str) -> int:
        claims = jwt.decode(assertion(hub)["client_assertion"], gateway_key(), algorithms=["ES384"]).claims
        signed = jwt.encode({"alg": "ES384", "kid": kid}, claims, key, algorithms=["ES384"])
        fields = {**assertion(hub), "client_assertion": signed}
        return (await app.form("/smart/token", **fields, scope="system/*.rs"))[0]

    assert (await doctor.send("PUT", "/api/smart/clients/gw/keys", {"jwks": {"keys": [new]}}))[0] == 403
    assert [await change(old, new), await asks(gateway_key(), "gw-1"), await asks(fresh, "gw-2")] == [204, 200, 200]
    assert [await change(new), await asks(gateway_key(), "gw-1"), await asks(fresh, "gw-2")] == [204, 401, 200]
    assert await change(fresh.as_dict(private=True)) == 400, "a private key is not for us"
    assert [await change(), await change(new, client="none"), await change(new, client="app")] == [400, 404, 404]


async def test_only_an_administrator_registers_and_not_everything_can_be(hub: Hub, app: App) -> None:
    admin, doctor = await hub.doctor("a1@hub"), await hub.doctor()
    new = {"id": "new", "name": "New", "kind": "public", "scopes": "patient/*.rs", "redirect_uris": [REDIRECT]}
    assert (await doctor.post("/api/smart/clients", new))[0] == 403
    hostile = [
        {"id": "app"},
        {"scopes": "patient/*.rs patient/*.everything"},
        {"scopes": "system/*.rs"},
        {"redirect_uris": []},
        {"redirect_uris": ["http://other.example/callback"]},
        {"redirect_uris": ["javascript:alert(1)"]},
        {"redirect_uris": ["https://a.example/#x"]},
        {"kind": "app"},
        {"kind": "backend", "redirect_uris": []},
        {"kind": "app", "jwks": {"keys": [gateway_key().as_dict(private=True)]}},
        {"kind": "app", "jwks": {"keys": [{"kty": "RSA", "kid": "x", "n": "AQ", "e": "AQAB"}]}},
        {"kind": "app", "jwks": {"keys": [{"kty": "oct", "kid": "x", "k": "AQ"}]}},
        {"hospital": "north"},
    ]
    for wrong in hostile:
        assert (await admin.post("/api/smart/clients", {**new, **wrong}))[0] == 400, wrong
    assert await admin.post("/api/smart/clients", new) == (201, {"id": "new"})
    listed = (await admin.get("/api/smart/clients"))[1]["clients"]
    assert {one["id"] for one in listed} == {"app", "offline", "gw", "gw-hub", "new"}
    assert EVERYTHING.startswith("openid")
