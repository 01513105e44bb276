"""HTTP to the hospital's FHIR server: who we are, bounded bodies, and how long to wait.

The secret is a file that is read again whenever it is needed, so that it can be replaced while the gateway runs: a
bearer token, ``user:password``, or the client secret of an OAuth 2 server (client credentials, RFC 6749 section 4.4).
No redirect is followed and nothing is sent to another server than the configured ones.
"""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote_plus, urlsplit

import aiohttp

from server.decimals import parse_json

ACCEPT: Final = "application/fhir+json"
READ_BYTES: Final = 64 * 1024
MAX_WAIT_S: Final = 3600.0
_TOKEN_BYTES: Final = 64 * 1024
_EARLY_S: Final = 30.0
_UNAUTHORIZED: Final = 401

Form = list[tuple[str, str]]


class HttpProblem(Exception):
    """There is no answer that can be used.

    Args:
        reason: ``status 503``, ``too_large``, ``not_json``, ``token``, or the name of a network error.
        status: of HTTP; 0 where there was none.
        wait_s: how long the server asked to be left alone.
    """

    def __init__(self, reason: str, *, status: int = 0, wait_s: float = 0) -> None:
        super().__init__(reason)
        self.reason, self.status, self.wait_s = reason, status, wait_s


Authorize = Callable[[aiohttp.ClientSession, bool], Awaitable[str]]
"""The ``Authorization`` header; the flag asks for a new one because the present one was refused."""


def bearer_of(token: Callable[[], str]) -> Authorize:
    """A token that somebody else renews."""

    async def header(_session: aiohttp.ClientSession, _renew: bool) -> str:
        return f"Bearer {token()}"

    return header


def basic_of(secret: Callable[[], str]) -> Authorize:
    """``user:password``."""

    async def header(_session: aiohttp.ClientSession, _renew: bool) -> str:
        return _basic(secret())

    return header


def _basic(secret: str) -> str:
    return "Basic " + base64.b64encode(secret.encode()).decode()


@dataclass(frozen=True, kw_only=True, slots=True)
class OAuth:
    """A client of the hospital's authorization server."""

    token_url: str
    client_id: str
    secret: Callable[[], str]
    scope: str = ""
    tls: ssl.SSLContext | None = None


def oauth_of(client: OAuth, *, now_s: Callable[[], float] = time.monotonic) -> Authorize:
    """Tokens by client credentials, renewed before they end and when they are refused."""
    held: list[tuple[str, float]] = []
    lock = asyncio.Lock()

    async def header(session: aiohttp.ClientSession, renew: bool) -> str:
        async with lock:
            if renew or not held or now_s() >= held[0][1]:
                token, life_s = await _granted(session, client)
                held[:] = [(token, now_s() + max(0.0, life_s - _EARLY_S))]
            return f"Bearer {held[0][0]}"

    return header


async def _granted(session: aiohttp.ClientSession, client: OAuth) -> tuple[str, float]:
    form = {"grant_type": "client_credentials"} | ({"scope": client.scope} if client.scope else {})
    # Section 2.3.1: both are form-encoded before they are joined.
    secret = f"{quote_plus(client.client_id)}:{quote_plus(client.secret())}"
    headers = {"Accept": "application/json", "Authorization": _basic(secret)}
    async with session.post(
        client.token_url, data=form, headers=headers, allow_redirects=False, ssl=client.tls or True
    ) as response:
        body = await response.content.read(_TOKEN_BYTES)
        try:
            found = json.loads(body)
            if response.status == 200 and found["token_type"].lower() == "bearer":
                return str(found["access_token"]), float(found.get("expires_in", 60))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise HttpProblem("token", status=response.status, wait_s=wait_of(response.headers))


class FhirHttp:
    """One session to one server; made when it is first needed."""

    def __init__(
        self, base: str, *, authorize: Authorize | None = None, tls: ssl.SSLContext | None = None, connections: int = 8
    ) -> None:
        self.base = base.rstrip("/")
        self._authorize, self._tls, self._connections = authorize, tls, connections
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Hang up; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def json(self, method: str, url: str, limit: int, *, form: Form | None = None) -> Any:
        """The body as JSON.

        Raises:
            HttpProblem: not 200, larger than ``limit`` bytes, no JSON, or no token.
            aiohttp.ClientError: the network.
        """
        assert urlsplit(url).netloc == urlsplit(self.base).netloc, "the token goes nowhere else"
        try:
            return await self._once(method, url, limit, form, renew=False)
        except HttpProblem as problem:
            if problem.status != _UNAUTHORIZED or self._authorize is None or problem.reason == "token":
                raise
        return await self._once(method, url, limit, form, renew=True)

    async def _once(self, method: str, url: str, limit: int, form: Form | None, *, renew: bool) -> Any:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._connections, ssl=self._tls or True)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        headers = {"Accept": ACCEPT, "Cache-Control": "no-cache"}
        if self._authorize is not None:
            headers["Authorization"] = await self._authorize(self._session, renew)
        async with self._session.request(method, url, data=form, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                status, wait_s = response.status, wait_of(response.headers)
                raise HttpProblem(f"status {status}", status=status, wait_s=wait_s)
            body = bytearray()
            async for chunk in response.content.iter_chunked(READ_BYTES):
                body += chunk
                if len(body) > limit:
                    raise HttpProblem("too_large")
        try:
            return parse_json(body)
        except (ValueError, RecursionError):
            raise HttpProblem("not_json") from None


def wait_of(headers: Mapping[str, str]) -> float:
    """``Retry-After``: seconds, or a date against the server's own ``Date``; never more than an hour."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_WAIT_S)
    try:
        until, now = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("Date", ""))
        return min(max(0.0, (until - now).total_seconds()), MAX_WAIT_S)
    except (TypeError, ValueError, IndexError):
        return 0.0
