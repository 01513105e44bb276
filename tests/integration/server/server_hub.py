"""A browser and a running HTTP API, as the tests of the server handle them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from server_seed import PASSWORD

from server.api.services import Services
from server.identity.core.rules import SessionLimits
from server.lifecycle import free_port

LIMITS = SessionLimits(idle_ms=3_600_000, length_ms=12 * 3_600_000)


def quiet_port() -> int:
    """A free port below those the system gives to outgoing connections, which could take it before we do."""
    for _ in range(100):
        wanted = random.randrange(20_000, 32_000)
        if free_port("127.0.0.1", wanted) == wanted:
            return wanted
    raise AssertionError("no free port")


class Clock:
    """The server's clock in a test's hand."""

    def __init__(self) -> None:
        self.ms = 1_750_000_000_000

    def __call__(self) -> int:
        return self.ms


class Browser:
    """One browser: its cookies, its origin."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        jar = aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=[origin])
        self.http = aiohttp.ClientSession(origin, cookie_jar=jar)

    async def send(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Status and JSON body (None when there is none)."""
        headers = {"Origin": self.origin, **more.pop("headers", {})}
        if body is not None:
            more["json"] = body
        async with self.http.request(method, path, headers=headers, **more) as response:
            text = await response.text()
            return response.status, (await response.json(content_type=None)) if text else None

    async def get(self, path: str, **more: Any) -> tuple[int, Any]:
        return await self.send("GET", path, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        return await self.send("POST", path, {} if body is None else body, **more)

    async def sign_in(self, login: str) -> None:
        status, answer = await self.post("/api/session", {"login": login, "password": PASSWORD})
        assert status == 200, answer


@dataclass
class Hub:
    """A running HTTP API."""

    origin: str
    services: Services
    clock: Clock
    browser: Callable[[], Browser]

    async def doctor(self, login: str = "d1@hub") -> Browser:
        browser = self.browser()
        await browser.sign_in(login)
        return browser
