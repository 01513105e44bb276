"""An outside app and a hospital's gateway, as they use the authorization server and the FHIR interface."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
from joserfc import jwt
from joserfc.jwk import ECKey
from server_hub import Browser, Hub

from server.smart.aio.clients import NewClient, register
from server.smart.core.pkce import challenge_of
from signaling.core.fold import apply
from signaling.core.ids import ConsultId, PatientId
from signaling.core.messages import ContextOpened
from signaling.core.model import ConsultStatus, Context

REDIRECT = "http://localhost:9999/callback"
JSON = "application/fhir+json"
VERIFIER = "v" * 43
EVERYTHING = "openid fhirUser online_access launch launch/patient user/*.cruds patient/*.cruds fhircast/*.*"


@cache
def gateway_key() -> ECKey:
    return ECKey.generate_key("P-384", parameters={"kid": "gw-1"})


async def open_patient(hub: Hub, patient: str = "pt1", consult: str = "c1") -> None:
    store = hub.services.store
    state = await store.load(ConsultId(consult))
    banner = await store.patient(ConsultId(consult), PatientId(patient))
    assert state is not None
    assert banner is not None
    context = Context(
        version=state.context_version + 1,
        patient=banner,
        opened_at_ms=hub.clock(),
        opened_by="p_doctor",  # type: ignore[arg-type]
    )
    event = ContextOpened(revision=state.revision + 1, at_ms=hub.clock(), context=context)
    await store.commit(state, apply(state, event), [event], None)


async def end(hub: Hub, consult: str) -> None:
    """The consult is over."""
    state = await hub.services.store.load(ConsultId(consult))
    assert state is not None
    over = state.model_copy(update={"status": ConsultStatus.ENDED, "revision": state.revision + 1})
    await hub.services.store.commit(state, over, [], None)


async def register_clients(hub: Hub) -> None:
    keys = {"keys": [gateway_key().as_dict(private=False)]}
    clients = [
        NewClient(id="app", name="心电应用 <ECG>", kind="public", scopes=EVERYTHING, redirect_uris=[REDIRECT],
                  launch_uri="http://localhost:9999/launch"),
        NewClient(id="offline", name="Reports", kind="public", redirect_uris=[REDIRECT],
                  scopes="offline_access patient/Observation.rs launch/patient"),
        NewClient(id="gw", name="North", kind="backend", scopes="system/*.cruds", jwks=keys, hospital="north"),
        NewClient(id="gw-hub", name="Hub", kind="backend", scopes="system/*.cruds", jwks=keys, hospital="hub"),
    ]  # fmt: skip
    async with hub.services.database.write() as session:
        for client in clients:
            await register(session, client, actor="person:a1", at_ms=1)


def query(hub: Hub, client: str = "app", **more: str) -> dict[str, str]:
    return {
        "response_type": "code",
        "client_id": client,
        "redirect_uri": REDIRECT,
        "scope": EVERYTHING,
        "state": "s" * 22,
        "aud": f"{hub.origin}/fhir",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
        **more,
    }


async def decide(browser: Browser, asked: dict[str, str], **more: str) -> dict[str, str]:
    """Answer of the authorization endpoint to the person's decision, as the app receives it."""
    form = {"decision": "allow", "consult": "c1", **asked, **more}
    headers = {"Origin": browser.origin}
    async with browser.http.post("/smart/authorize", data=form, headers=headers, allow_redirects=False) as answer:
        assert answer.status == 303, await answer.text()
        location = answer.headers["Location"]
    assert location.startswith(REDIRECT)
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


@dataclass
class App:
    """A program: no cookies, an access token once it has one."""

    origin: str
    http: aiohttp.ClientSession
    token: str = ""

    async def form(self, path: str, **fields: str) -> tuple[int, dict[str, Any]]:
        async with self.http.post(f"{self.origin}{path}", data=fields) as answer:
            text = await answer.text()
            return answer.status, await answer.json(content_type=None) if text else {}

    async def redeem(self, code: str, client: str = "app", **more: str) -> tuple[int, dict[str, Any]]:
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "client_id": client,
                  "code_verifier": VERIFIER, **more}  # fmt: skip
        return await self.form("/smart/token", **fields)

    async def fhir(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and body; header names with underscores for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent: dict[str, Any] = {"headers": {"Authorization": f"Bearer {self.token}", **named}}
        if body is not None:
            sent["json"] = body
            sent["headers"].setdefault("Content-Type", JSON)
        url = path if path.startswith("http") else f"{self.origin}/fhir{path}"
        async with self.http.request(method, url, **sent) as answer:
            text = await answer.text()
            assert not text or answer.content_type == JSON, text
            self.headers = answer.headers
            return answer.status, await answer.json(content_type=None) if text else None

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        return await self.fhir("GET", path, **headers)

    async def ids(self, path: str) -> list[str]:
        status, bundle = await self.get(path)
        assert status == 200, bundle
        return [one["resource"]["id"] for one in bundle.get("entry", []) if one["search"]["mode"] == "match"]

    async def allowed(self, browser: Browser, hub: Hub, scope: str = EVERYTHING, **more: str) -> dict[str, Any]:
        """Let the person allow, and take the token."""
        answer = await decide(browser, query(hub, scope=scope), **more)
        status, tokens = await self.redeem(answer["code"])
        assert status == 200, tokens
        self.token = tokens["access_token"]
        return tokens

    async def as_gateway(self, hub: Hub, client: str = "gw", scope: str = "system/*.cruds") -> None:
        """Prove to be a hospital's gateway."""
        status, tokens = await self.form("/smart/token", **assertion(hub, client), scope=scope)
        assert status == 200, tokens
        self.token = tokens["access_token"]


def assertion(hub: Hub, client: str = "gw", **changed: Any) -> dict[str, str]:
    """Form fields of a client that proves itself by its key."""
    now_s = hub.clock() // 1_000
    claims = {"iss": client, "sub": client, "aud": f"{hub.origin}/smart/token", "exp": now_s + 200,
              "jti": secrets.token_hex(16), **changed}  # fmt: skip
    signed = jwt.encode({"alg": "ES384", "kid": "gw-1"}, claims, gateway_key(), algorithms=["ES384"])
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": signed,
    }


def refusal(answer: tuple[int, Any]) -> tuple[int, str]:
    """Status and code of a refusal that came as an OperationOutcome."""
    status, outcome = answer
    assert outcome["resourceType"] == "OperationOutcome", outcome
    return status, outcome["issue"][0]["details"]["coding"][0]["code"]
