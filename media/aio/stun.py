"""STUN binding requests in, authenticated answers out (RFC 8489, RFC 8445 section 7.3).

Parsing is aioice's; it was not written for hostile input, so whatever it raises becomes
``BadStun``. Nothing here learns anything: a request is believed only after ``authenticate``.
"""

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from aioice import stun

from media.core.ice import Address

MAX_STUN_BYTES = 548
"""RFC 8489 section 6.1: what fits any path; a check is about 100 bytes."""


class BadStun(Exception):
    """Not a STUN binding request we can answer."""


@dataclass(frozen=True, slots=True)
class BindingRequest:
    """A check as it claims to be."""

    message: stun.Message
    ufrag: str
    """The receiver's half of USERNAME."""
    use_candidate: bool


def parse_binding_request(datagram: bytes) -> BindingRequest:
    """Read one check.

    Raises:
        BadStun: anything else, whatever the bytes.
    """
    if len(datagram) > MAX_STUN_BYTES:
        raise BadStun("too long")
    try:
        message = stun.parse_message(datagram)
    except Exception as error:  # struct.error, ValueError, UnicodeDecodeError, KeyError ... from hostile bytes
        raise BadStun("malformed") from error
    if message.message_method != stun.Method.BINDING or message.message_class != stun.Class.REQUEST:
        raise BadStun("not a binding request")
    username = message.attributes.get("USERNAME", "")
    return BindingRequest(message, username.partition(":")[0], "USE-CANDIDATE" in message.attributes)


def authenticate(request: BindingRequest, password: str) -> bool:
    """Whether MESSAGE-INTEGRITY was made with ``password``."""
    return bool(request.message.check_message_integrity(password.encode()))


def build_success(request: BindingRequest, address: Address, password: str) -> bytes:
    """The answer: the client's address as we see it, signed."""
    response = stun.Message(
        stun.Method.BINDING,
        stun.Class.RESPONSE,
        request.message.transaction_id,
        {"XOR-MAPPED-ADDRESS": (_plain(address[0]), address[1])},
    )
    response.add_message_integrity(password.encode())
    return bytes(response)


def _plain(host: str) -> str:
    """The host as its owner knows it: a socket for both families gives IPv4 in an IPv6 dress (RFC 4291 2.5.5.2)."""
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return host if mapped is None else str(mapped)
