"""TURN for participants whose firewall lets neither UDP nor TCP to the media port: coturn, and who may use it.

Signalling gives every participant credentials of its own that end by themselves, made from a secret that only
this server and coturn know (draft-uberti-behave-turn-rest-00): the user name is ``expiry:participant``, the password
its HMAC. coturn keeps no accounts and asks nobody.

``coturn_configuration`` writes what coturn needs. A TURN server sends what outsiders give it from inside the
hospital, so ours reaches the media addresses and nothing else: every other peer is denied, not only the
well-known private networks. The reasons of each line are in the file itself, for its administrator.
"""

import base64
import contextlib
import hashlib
import hmac
import ipaddress
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from server.exits import Exit, StartError
from server.settings import Settings
from server.turn_urls import TurnUrl, parse_turn_url
from signaling.core.ids import ParticipantId
from signaling.core.messages import IceServer

SECRET_FILE: Final = "turn-secret"  # noqa: S105 - a file's name
CONFIG_FILE: Final = "turnserver.conf"
SECRET_LETTERS: Final = 32
"""The shortest secret that is taken: whoever guesses it makes credentials without end."""
USER_ALLOCATIONS: Final = 48
"""Of one participant: two connections, each with every URL from every network card, and again after an ICE restart."""
TOTAL_ALLOCATIONS: Final = 2_400
SESSION_BYTES_PER_S: Final = 6_250_000
"""50 Mbit/s: a screen full of pictures."""

Servers = Callable[[ParticipantId], tuple[IceServer, ...]]
"""The TURN servers of one participant, with credentials that begin now."""


def no_servers(_participant: ParticipantId) -> tuple[IceServer, ...]:
    """Where no TURN server is configured."""
    return ()


def turn_servers(settings: Settings, now_ms: Callable[[], int]) -> Servers:
    """Who may use which TURN server until when.

    Raises:
        StartError: the secret cannot be used.
    """
    if not settings.turn_urls:
        return no_servers
    secret = turn_secret(settings)

    def issue(participant: ParticipantId) -> tuple[IceServer, ...]:
        username, password = make_credentials(secret, participant, now_ms() // 1000 + settings.turn_lifetime_s)
        return (IceServer(urls=settings.turn_urls, username=username, credential=password),)

    return issue


def make_credentials(secret: str, participant: str, expires_s: int) -> tuple[str, str]:
    """User name and password that coturn accepts for new allocations until a moment.

    Args:
        expires_s: Unix time.
    """
    username = f"{expires_s}:{participant}"
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1)  # what the draft and coturn use
    return username, base64.b64encode(digest.digest()).decode()


def turn_secret(settings: Settings) -> str:
    """The secret shared with coturn: from the environment, a file, or one that is made in the data folder.

    Raises:
        StartError: it cannot be read or is too short.
    """
    if settings.turn_secret is not None:
        secret = settings.turn_secret.get_secret_value()
        place = "CONSILIUM_TURN_SECRET"
    else:
        path = settings.turn_secret_file or settings.data_dir / SECRET_FILE
        place = str(path)
        try:
            if settings.turn_secret_file is None:
                _make_secret(path)
            secret = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else "not text"
            raise StartError(Exit.SETTINGS, f"The TURN secret in {path} cannot be read: {reason}.") from None
    if len(secret) < SECRET_LETTERS or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise StartError(
            Exit.SETTINGS,
            f"The TURN secret in {place} is not {SECRET_LETTERS} or more letters and digits without spaces.",
        )
    return secret


def _make_secret(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secrets.token_hex(SECRET_LETTERS) + "\n")


# ---------------------------------------------------------------- coturn


def coturn_configuration(settings: Settings, *, peers: Sequence[str] = (), listen: Sequence[str] = ()) -> str:
    """The whole ``turnserver.conf`` for the configured URLs; it holds the secret.

    Args:
        peers: further addresses under which coturn reaches the media workers. Those announced stay allowed, because
            they are what browsers ask permissions for (RFC 8656 section 9); a NAT on the way may translate them.
        listen: addresses coturn listens on; empty for all of the machine.

    Raises:
        StartError: no URL, URLs that one coturn cannot serve, a peer that is no address, no certificate for TLS, or no
            secret.
    """
    urls = [parse_turn_url(url) for url in settings.turn_urls]
    if not urls:
        raise StartError(
            Exit.SETTINGS,
            "Name the TURN server first, for instance CONSILIUM_TURN_URLS=turn:hub.hospital.cn:3478,"
            "turn:hub.hospital.cn:3478?transport=tcp,turns:hub.hospital.cn:443?transport=tcp",
        )
    plain = _one_port(urls, secure=False)
    tls = _one_port(urls, secure=True)
    announced = [ipaddress.ip_address(address) for address in settings.media_addresses]
    if peers or not all(address.is_loopback for address in announced):
        announced = [address for address in announced if not address.is_loopback]  # other services trust loopback
    allowed = list(dict.fromkeys([*announced, *map(_peer, peers)]))
    lines = [
        "# coturn for Consilium, written by `consilium turn config`. It holds a secret: mode 0600.",
        f"realm={urls[0].host.strip('[]')}",
        *(f"listening-ip={address}" for address in listen),
        f"listening-port={plain or tls}",
        *_tls_lines(settings, tls),
        *([] if any(not url.secure and url.transport == "udp" for url in urls) else ["no-udp"]),
        *([] if any(not url.secure and url.transport == "tcp" for url in urls) else ["no-tcp"]),
        *([] if any(url.secure and url.transport == "udp" for url in urls) else ["no-dtls"]),
        "",
        "# Credentials come from Consilium and end by themselves; there are no accounts and no database.",
        "fingerprint",
        "use-auth-secret",
        f"static-auth-secret={turn_secret(settings)}",
        "stale-nonce=600",
        "no-auth-pings",
        "no-dynamic-ip-list",
        "no-dynamic-realms",
        "userdb=:memory:",
        "",
        "# Peers: the media workers and nothing else, so that nobody reaches the hospital's network through this.",
        "denied-peer-ip=0.0.0.0-255.255.255.255",
        "denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        *(f"allowed-peer-ip={address}" for address in allowed),
        *(["allow-loopback-peers"] if any(address.is_loopback for address in allowed) else []),
        "no-multicast-peers",
        "no-tcp-relay",
        "",
        "# Bounds for one participant and for all.",
        f"user-quota={USER_ALLOCATIONS}",
        f"total-quota={TOTAL_ALLOCATIONS}",
        f"max-bps={SESSION_BYTES_PER_S}",
        "max-allocate-lifetime=3600",
        "",
        "# Nothing that is not needed: no command line, no web page, no plain STUN for strangers to reflect from.",
        "no-cli",
        "no-stun",
        "no-rfc5780",
        "no-stun-backward-compatibility",
        "response-origin-only-with-rfc5780",
        "no-software-attribute",
        "log-file=stdout",
        "simple-log",
        "",
    ]
    return "\n".join(lines)


def _peer(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        raise StartError(Exit.SETTINGS, f"--peer: {text} is not an IP address.") from None


def _one_port(urls: Sequence[TurnUrl], *, secure: bool) -> int | None:
    ports = {url.port for url in urls if url.secure is secure}
    if len(ports) > 1:
        kind = "turns:" if secure else "turn:"
        raise StartError(Exit.SETTINGS, f"CONSILIUM_TURN_URLS: all {kind} addresses of one coturn have the same port.")
    return next(iter(ports), None)


def _tls_lines(settings: Settings, port: int | None) -> list[str]:
    if port is None:
        return ["no-tls"]
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        raise StartError(
            Exit.SETTINGS,
            "turns: needs a certificate for the TURN server's name: CONSILIUM_TLS_CERT_FILE, CONSILIUM_TLS_KEY_FILE.",
        )
    return [
        f"tls-listening-port={port}",
        f"cert={settings.tls_cert_file.absolute()}",
        f"pkey={settings.tls_key_file.absolute()}",
        "no-tlsv1",
        "no-tlsv1_1",
    ]


def write_configuration(path: Path, text: str) -> None:
    """Write it so that nobody else reads it, not even for a moment.

    Raises:
        StartError: it cannot be written.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as problem:
        raise StartError(Exit.DATA_DIR, f"{path} cannot be written: {problem.strerror}.") from None


def coturn_command(configuration: Path) -> list[str]:
    """How to start coturn in the foreground.

    Raises:
        StartError: it is not installed.
    """
    program = shutil.which("turnserver")
    if program is None:
        raise StartError(Exit.SETTINGS, "coturn is not installed. On Debian: apt-get install coturn.")
    return [program, "-c", str(configuration.absolute()), "--pidfile="]
