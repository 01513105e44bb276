"""Addresses of TURN servers as browsers write them (RFC 7065, with the port and transport that are meant)."""

import re
from dataclasses import dataclass
from typing import Final, Literal

_URL: Final = re.compile(
    r"(?P<scheme>turns?):(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:(?P<port>[0-9]{1,5}))?"
    r"(\?transport=(?P<transport>udp|tcp))?"
)


@dataclass(frozen=True, slots=True)
class TurnUrl:
    """One way to the TURN server (RFC 7065)."""

    secure: bool
    host: str
    port: int
    transport: Literal["udp", "tcp"]

    @property
    def words(self) -> str:
        """The way as a firewall's administrator calls it."""
        return f"{'TLS over ' if self.secure else ''}{self.transport.upper()} {self.port}"


def parse_turn_url(text: str) -> TurnUrl:
    """Read ``turn:host:port?transport=tcp`` or ``turns:...``; port and transport have their defaults.

    Raises:
        ValueError: anything else.
    """
    found = _URL.fullmatch(text)
    if found is None or not 0 < int(found["port"] or 1) <= 65_535:
        raise ValueError(f"{text} is not a TURN address such as turns:turn.hospital.cn:443?transport=tcp")
    secure = found["scheme"] == "turns"
    transport: Literal["udp", "tcp"] = "tcp" if (found["transport"] or ("tcp" if secure else "udp")) == "tcp" else "udp"
    return TurnUrl(secure, found["host"], int(found["port"] or (5349 if secure else 3478)), transport)
