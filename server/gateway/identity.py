"""Who this gateway is: a key pair made here, bound to a hospital at the hub by a one-time code.

The private key is made on this machine and never leaves it. Enrolment happens once, over TLS that is verified
against the authority given with it (``--ca``) or the machine's own; if the hub's certificate is of the hub's own
authority, the hub's answer brings that authority along, and from then on nothing else is trusted.
"""

import asyncio
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from yarl import URL

from server.enrol.core.codes import read_enrolment_code
from server.exits import Exit, StartError
from server.gateway.config import Folder
from server.gateway.sealing import read_private, write_private
from server.lock.core.proof import enrolment_statement, public_bytes

ENROL_S = 20.0
LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """An enrolled gateway."""

    gateway: str
    name: str
    hospital: str
    hospital_name: str
    origin: str
    hub_key: bytes
    key: Ed25519PrivateKey
    authority: Path | None

    def tls(self) -> ssl.SSLContext | None:
        """How the hub's certificate is checked; None for a hub on this machine without TLS.

        Raises:
            StartError: the authority's file cannot be used.
        """
        return None if self.origin.startswith("http:") else tls_context(self.authority)


def tls_context(authority: Path | None) -> ssl.SSLContext:
    """TLS 1.2 and later that trusts one authority, or the machine's own when none is named.

    Raises:
        StartError: the file does not hold a certificate.
    """
    try:
        context = ssl.create_default_context(cafile=None if authority is None else str(authority))
    except (OSError, ssl.SSLError) as problem:
        raise StartError(Exit.TLS, f"{authority} does not hold a certificate: {problem}.") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def hub_origin(typed: str) -> str:
    """The hub's origin from what somebody typed.

    Raises:
        StartError: no https address (plain http reaches this machine only).
    """
    parts = urlsplit(typed if "//" in typed else f"https://{typed}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise StartError(Exit.SETTINGS, f"--hub must be the hub's address, like https://hub.example, not {typed!r}.")
    if parts.scheme == "http" and parts.hostname not in LOCAL:
        raise StartError(Exit.SETTINGS, "A hub on another machine is reached by https only.")
    return f"{parts.scheme}://{parts.netloc}"


def load_identity(folder: Folder) -> Identity:
    """Who this gateway is.

    Raises:
        StartError: it was not enrolled, or its files cannot be used.
    """
    if not folder.identity.exists():
        raise StartError(
            Exit.SETTINGS,
            f"No gateway is enrolled in {folder.path}. Ask the hub's administrator for a code and run "
            "`consilium gateway enrol --hub https://... --code XXXX-XXXX-XXXX`.",
        )
    try:
        value: dict[str, Any] = json.loads(read_private(folder.identity))
        return Identity(
            gateway=value["gateway"], name=value["name"], hospital=value["hospital"],
            hospital_name=value["hospital_name"], origin=value["origin"], hub_key=bytes.fromhex(value["hub_key"]),
            key=Ed25519PrivateKey.from_private_bytes(read_private(folder.key)),
            authority=folder.authority if folder.authority.exists() else None,
        )  # fmt: skip
    except (ValueError, KeyError, TypeError):
        raise StartError(Exit.SETTINGS, f"{folder.identity} or {folder.key} is damaged. Enrol again.") from None


async def enrol(
    folder: Folder, *, hub: str, code: str, authority: Path | None = None, proxy: str | None = None, again: bool = False
) -> Identity:
    """Make a key pair and bind it at the hub.

    Args:
        again: replace an identity that is here; the journal stays and its waiting crossings go to the new one's hub.

    Raises:
        StartError: with what to do.
    """
    folder.prepare()
    if folder.identity.exists() and not again:
        raise StartError(Exit.SETTINGS, f"A gateway is enrolled in {folder.path} already. --again replaces it.")
    origin, readable = hub_origin(hub), read_enrolment_code(code)
    given = b"" if authority is None else await asyncio.to_thread(authority.read_bytes)
    if readable is None:
        raise StartError(Exit.SETTINGS, "The code has twelve letters and digits, like ABCD-EFGH-JKLM.")
    key = Ed25519PrivateKey.generate()
    public = public_bytes(key)
    body = {
        "kind": "gateway",
        "public_key": public.hex(),
        "signature": key.sign(enrolment_statement(readable, public)).hex(),
    }
    answer = await _post(origin, readable, body, authority, proxy)
    try:
        identity = {
            "gateway": str(answer["gateway"]), "name": str(answer["name"]), "hospital": str(answer["hospital"]["id"]),
            "hospital_name": str(answer["hospital"]["name"]), "origin": origin,
            "hub_key": bytes.fromhex(answer["hub_key"]).hex(),
        }  # fmt: skip
        pem = str(answer.get("authority", ""))
    except (KeyError, TypeError, ValueError):
        raise StartError(Exit.REFUSED, f"{origin} does not answer like a hub.") from None
    # The key first: a crash between the two leaves a folder that is not enrolled, never one without its key.
    write_private(folder.key, key.private_bytes_raw())
    pinned = pem.encode() if pem else given
    if pinned:
        write_private(folder.authority, pinned)
    else:
        folder.authority.unlink(missing_ok=True)
    write_private(folder.identity, json.dumps(identity, ensure_ascii=False, indent=1).encode())
    return load_identity(folder)


def only_to(origin: str) -> aiohttp.ClientMiddlewareType:
    """A client that goes nowhere else: a redirect would leave the hub's certificate, even TLS, behind."""

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if request.url.origin() != URL(origin).origin():
            raise aiohttp.ClientConnectionError("the hub sends its callers elsewhere")
        return await handler(request)

    return middleware


def reason_of(problem: BaseException) -> str:
    """What went wrong, in the words of whoever noticed it."""
    return str(problem) or type(problem).__name__


async def _post(
    origin: str, code: str, body: dict[str, str], authority: Path | None, proxy: str | None
) -> dict[str, Any]:
    context = None if origin.startswith("http:") else tls_context(authority)
    try:
        async with (
            asyncio.timeout(ENROL_S),
            aiohttp.ClientSession(middlewares=(only_to(origin),)) as http,
            http.post(
                f"{origin}/api/enrol",
                json=body,
                headers={"Authorization": f"Bearer {code}"},
                ssl=context if context is not None else True,
                proxy=proxy,
                allow_redirects=False,
            ) as response,
        ):
            answer = await response.json(content_type=None)
            status = response.status
    except aiohttp.ClientConnectorCertificateError as problem:
        raise StartError(
            Exit.TLS,
            f"The certificate of {origin} is not trusted: {problem.certificate_error}. If the hub has its own "
            "authority, give its certificate with --ca (the hub's /trust page has it).",
        ) from None
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as problem:
        raise StartError(Exit.REFUSED, f"{origin} cannot be reached: {reason_of(problem)}.") from None
    if status == 200 and isinstance(answer, dict):
        return answer
    error = answer.get("error", {}) if isinstance(answer, dict) else {}
    said = f"{error.get('en', 'The hub refused.')} {error.get('zh', '')}".strip()
    raise StartError(Exit.REFUSED, f"{said} ({status} {error.get('code', '')})")
