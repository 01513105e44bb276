"""The HTTP side of a session: sign in, fetch a token, read the record.

One connection pool for all sessions of a process; cookies are kept here, by session, and sent by hand, because a jar
for each of hundreds of sessions would cost more than all they ask for.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

import aiohttp

from load_tests.plan.behaviour import Behaviour
from load_tests.report.ledger import Ledger
from load_tests.session.world import ConsultSecrets

ANSWER_S = 30.0
SESSION_COOKIE = "__Host-consilium"
RECORD_TYPES = ("Observation", "Condition", "MedicationStatement", "DiagnosticReport")
PAGE = 20


class HttpRefused(Exception):
    """The server answered with an error; ``code`` is its own, stable."""

    def __init__(self, status: int, code: str, retry_after_s: int = 0) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code
        self.retry_after_s = retry_after_s
        """When to ask again; 0: it was not said."""


class Office:
    """HTTP in the name of one session."""

    def __init__(self, http: aiohttp.ClientSession, origin: str, consult: ConsultSecrets, ledger: Ledger) -> None:
        self.signed_in = False
        self._http, self._origin, self._consult, self._ledger = http, origin, consult, ledger
        self._headers: dict[str, str] = {"Origin": origin}
        self._cookie = ""
        self._next = ""
        self._kind = 0

    async def sign_in(self, behaviour: Behaviour, index: int, password: str) -> None:
        """Become whoever this session is; what has a secret of its own asks nobody.

        Raises:
            HttpRefused, aiohttp.ClientError, TimeoutError: the server said no, or cannot be reached.
        """
        began = time.monotonic()
        consult = self._consult
        match behaviour.who:
            case "doctor":
                logins = consult.partner_doctors if behaviour.partner else consult.doctors
                await self._password(logins[index], password)
            case "guest":
                await self._link(consult.doctors[0], password)
            case "room" | "device":
                secrets = consult.rooms if behaviour.who == "room" else consult.devices
                self._headers["Authorization"] = f"Bearer {secrets[index]}"
            case "screen":
                slot = behaviour.screen or 1
                self._headers["X-Wall-Slot"] = str(slot)
                self._headers["Cookie"] = f"{SESSION_COOKIE}-wall-{slot}={consult.screens[slot - 1]}"
        self.signed_in = True
        if behaviour.who in ("doctor", "guest") and not (behaviour.who == "doctor" and self._consult.cookies):
            self._ledger.add("join_sign_in_ms", (time.monotonic() - began) * 1000)

    async def token(self) -> str:
        """A consult token for one connect.

        Raises:
            HttpRefused, aiohttp.ClientError, TimeoutError: as above.
        """
        began = time.monotonic()
        answer = await self._ask("POST", f"/api/consults/{self._consult.id}/token", {})
        self._ledger.add("join_token_ms", (time.monotonic() - began) * 1000)
        return str(answer["token"])

    async def read_page(self, version: int) -> None:
        """The next page of the record, or the first of the next kind of resource.

        Raises:
            HttpRefused, aiohttp.ClientError, TimeoutError: as above.
        """
        kind = RECORD_TYPES[self._kind % len(RECORD_TYPES)]
        query = urlencode({"version": version, "_count": PAGE})
        path = self._next or f"/api/consults/{self._consult.id}/record/{kind}?{query}"
        began = time.monotonic()
        self._next = ""
        answer = await self._ask("GET", path)
        self._ledger.add("page_ms", (time.monotonic() - began) * 1000)
        self._ledger.count("pages_read")
        links = {link.get("relation"): link.get("url", "") for link in answer.get("link", ())}
        self._next = links.get("next", "")
        if not self._next:
            self._kind += 1

    async def read_lock(self, version: int) -> None:
        """The patient's results in her own hospital, through the lock.

        Raises:
            HttpRefused, aiohttp.ClientError, TimeoutError: as above.
        """
        began = time.monotonic()
        query = urlencode({"version": version, "_count": PAGE})
        await self._ask("GET", f"/api/consults/{self._consult.id}/lock/Observation?{query}")
        self._ledger.add("lock_read_ms", (time.monotonic() - began) * 1000)
        self._ledger.count("lock_reads")

    def forget_page(self) -> None:
        """Another patient is open: a cursor of before leads nowhere."""
        self._next = ""

    async def _password(self, login: str, password: str) -> None:
        if (cookie := self._consult.cookies.get(login)) is not None:
            self._headers["Cookie"] = f"{SESSION_COOKIE}={cookie}"
            return
        await self._ask("POST", "/api/session", {"login": login, "password": password}, keep_cookie=True)

    async def _link(self, host: str, password: str) -> None:
        """A doctor makes a link and this session uses it; the doctor's own cookie is forgotten."""
        await self._password(host, password)
        made = await self._ask("POST", f"/api/consults/{self._consult.id}/invites", {"name": "Guest"})
        self._headers.pop("Cookie", None)
        token = str(made["url"]).partition("#")[2]
        await self._ask("POST", "/api/invites/redeem", {"token": token}, keep_cookie=True)

    async def _ask(self, method: str, path: str, body: Any = None, *, keep_cookie: bool = False) -> Any:
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        async with self._http.request(
            method, self._origin + path, json=body, headers=self._headers, timeout=timeout
        ) as answer:
            content = await answer.json(content_type=None) if answer.content_length != 0 else None
            if answer.status >= 400:
                error = content.get("error", {}) if isinstance(content, dict) else {}
                wait = answer.headers.get("Retry-After", "")
                raise HttpRefused(answer.status, str(error.get("code", "http")), int(wait) if wait.isdecimal() else 0)
            if keep_cookie and SESSION_COOKIE in answer.cookies:
                self._headers["Cookie"] = f"{SESSION_COOKIE}={answer.cookies[SESSION_COOKIE].value}"
            return content
