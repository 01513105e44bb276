"""What a network must let through for consults to work, in the words of those who run firewalls, and what of it can be
tried from here: whose addresses are announced, and whether every way to the TURN server leads to an allocation.

Whether a participant far away gets through is shown by the network test of the web client; see NETWORK.md.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from aioice import stun, turn

from server.settings import Settings, is_local
from server.tls import AuthorityFiles
from server.turn import make_credentials, turn_secret
from server.turn_urls import TurnUrl, parse_turn_url

TURN_TIMEOUT_S = 6.0
"""aioice asks seven times within about 30 s; on a line that works the first answer takes milliseconds."""
CREDENTIAL_S = 60


@dataclass(frozen=True, slots=True)
class TurnFailed(Exception):
    """One way to the TURN server does not lead to an allocation."""

    url: str
    reason: str

    def __str__(self) -> str:
        return f"{self.url}: {self.reason}"


def openings(settings: Settings) -> list[str]:
    """What a firewall must let through, a sentence each: protocol, port, direction, what for."""
    here = ", ".join(address for address in settings.media_addresses if not is_local(address))
    if not here:
        return ["Nothing: only this machine can take part (CONSILIUM_MEDIA_ADDRESSES)."]
    ports = "any port that is free (set CONSILIUM_MEDIA_PORT)"
    if settings.media_port:
        first, last = settings.media_ports[0], settings.media_ports[-1]
        ports = str(first) if first == last else f"{first} to {last}"
    web = f"TCP {settings.port}, inward from participants to {settings.host}"
    if is_local(settings.host):
        web = (
            f"The port of the HTTPS server that passes on to {settings.host}:{settings.port}, inward from participants"
        )
    lines = [f"{web}: pages and signalling (HTTPS)."]
    if "udp" in settings.media_protocols:
        lines.append(f"UDP {ports}, inward from participants to {here}: sound, picture, waveforms; the best way.")
    if "tcp" in settings.media_protocols:
        lines.append(f"TCP {ports}, inward from participants to {here}: the same where a firewall blocks UDP.")
    for url in map(parse_turn_url, settings.turn_urls):
        lines.append(f"{url.words}, inward from participants to {url.host}: TURN, the same for those shut in further.")
    if settings.turn_urls:
        lines.append(f"UDP {ports}, from the TURN server to {here}: what it passes on, unless it is this machine.")
    lines.append("Answers to all of these. Nothing outward has to be opened for media.")
    return lines


def foreign_addresses(addresses: Sequence[str]) -> list[str]:
    """Announced addresses that are not this machine's: a router has to pass the media ports on."""
    return [address for address in addresses if not _is_ours(address)]


def _is_ours(address: str) -> bool:
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    with contextlib.suppress(OSError), contextlib.closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
        probe.bind((address, 0))
        return True
    return False


async def try_turn(settings: Settings, now_s: int) -> list[str]:
    """Ask for an allocation on every way to the TURN server; what each is called.

    Raises:
        TurnFailed: the first that does not lead to one.
    """
    username, password = make_credentials(turn_secret(settings), "doctor", now_s + CREDENTIAL_S)
    ways = []
    for text in settings.turn_urls:
        url = parse_turn_url(text)
        await _allocate(text, url, username, password, trusting(settings))
        ways.append(url.words)
    return ways


async def _allocate(text: str, url: TurnUrl, username: str, password: str, context: ssl.SSLContext) -> None:
    if url.secure and url.transport == "udp":
        raise TurnFailed(
            text, "TLS over UDP cannot be tried from here; browsers take it for TLS over TCP or not at all"
        )
    try:
        async with asyncio.timeout(TURN_TIMEOUT_S):
            allocation, _ = await turn.create_turn_endpoint(
                asyncio.DatagramProtocol,
                (url.host.strip("[]"), url.port),
                username,
                password,
                ssl=context if url.secure else None,
                transport=url.transport,
            )
    except TimeoutError:
        raise TurnFailed(text, "no answer: a firewall drops it, or nothing listens there") from None
    except ssl.SSLCertVerificationError as problem:
        raise TurnFailed(text, f"its certificate is not believed ({problem.verify_message})") from None
    except stun.TransactionFailed as problem:
        code = problem.response.attributes.get("ERROR-CODE", (0, ""))[0]
        why = "it has another secret than we, or another idea of the time" if code == 401 else f"refused, code {code}"
        raise TurnFailed(text, why) from None
    except ConnectionRefusedError:
        raise TurnFailed(text, "refused: nothing listens there, or a firewall says so") from None
    except (OSError, stun.TransactionError) as problem:
        raise TurnFailed(text, getattr(problem, "strerror", None) or type(problem).__name__) from None
    allocation.close()
    await asyncio.sleep(0)  # the goodbye begins; coturn ends what is left of it with the connection


def trusting(settings: Settings) -> ssl.SSLContext:
    """A client's view of TLS: the system's authorities, and our own where ``consilium ca`` made one."""
    context = ssl.create_default_context()
    files = AuthorityFiles(folder=settings.data_dir / "tls")
    if files.ca_cert.exists():
        context.load_verify_locations(files.ca_cert)
    return context
