"""STUN binding requests in, authenticated answers out (RFC 8489, RFC 8445 section 7.3).

Parsing is aioice's; it was not written for hostile input, so whatever it raises becomes
``BadStun``. Nothing here learns anything: a request is believed only after ``authenticate``.
"""

import hmac
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from struct import Struct
from zlib import crc32

from aioice import stun

from media.core.ice import Address

MAX_STUN_BYTES = 548
"""RFC 8489 section 6.1: what fits any path; a check is about 100 bytes."""


_TAIL_BYTES = 32
"""MESSAGE-INTEGRITY and FINGERPRINT, which end a check (RFC 8489 sections 14.5 and 14.7)."""
_INTEGRITY_HEAD, _FINGERPRINT_HEAD = bytes.fromhex("00080014"), bytes.fromhex("80280004")
_FINGERPRINT_XOR = 0x5354554E
_LENGTH = Struct("!H")


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
    return _success(request.message.transaction_id, address, password)


@dataclass(frozen=True, slots=True)
class SteadyCheck:
    """A check that a peer repeats all the time, and what it is answered: only the transaction differs (RFC 7675).

    ``media/native/intake.c`` does the same where it was built.
    """

    check: bytes
    template: bytes
    """The answer to transaction 0."""
    password: bytes

    def answer(self, datagram: bytes) -> bytes | None:
        """The answer to this very check in another transaction; None: it is another, or not authentic."""
        check = self.check
        if (
            len(datagram) != len(check)
            or datagram[:8] != check[:8]
            or datagram[20:-28] != check[20:-28]
            or datagram[-8:-4] != check[-8:-4]
            or int.from_bytes(datagram[-4:], "big") != crc32(datagram[:-8]) ^ _FINGERPRINT_XOR
            or not hmac.compare_digest(self._integrity(datagram), datagram[-28:-8])
        ):
            return None
        answer = bytearray(self.template)
        answer[8:20] = datagram[8:20]
        if answer[25] == 2:  # XOR-MAPPED-ADDRESS comes first; an IPv6 address is mixed with the transaction
            answer[32:44] = bytes(a ^ b for a, b in zip(answer[32:44], datagram[8:20], strict=True))
        answer[-28:-8] = self._integrity(answer)
        answer[-4:] = (crc32(answer[:-8]) ^ _FINGERPRINT_XOR).to_bytes(4, "big")
        return bytes(answer)

    def _integrity(self, message: bytes | bytearray) -> bytes:
        """Its length field counts MESSAGE-INTEGRITY, and FINGERPRINT not."""
        signed = bytearray(message[:-_TAIL_BYTES])
        _LENGTH.pack_into(signed, 2, len(message) - 28)
        return hmac.digest(self.password, signed, "sha1")


def steady_check(check: bytes, address: Address, password: str) -> SteadyCheck | None:
    """What answers an authentic check when it is repeated; None where it is not sealed as usual."""
    template = _success(bytes(12), address, password)
    if not (_is_sealed(check) and _is_sealed(template)):
        return None
    return SteadyCheck(check, template, password.encode())


def _is_sealed(message: bytes) -> bool:
    tail = message[-_TAIL_BYTES:]
    return len(message) >= 20 + _TAIL_BYTES and tail[:4] == _INTEGRITY_HEAD and tail[-8:-4] == _FINGERPRINT_HEAD


def _success(transaction: bytes, address: Address, password: str) -> bytes:
    response = stun.Message(
        stun.Method.BINDING,
        stun.Class.RESPONSE,
        transaction,
        {"XOR-MAPPED-ADDRESS": (_plain(address[0]), address[1])},
    )
    response.add_message_integrity(password.encode())
    return bytes(response)


def _plain(host: str) -> str:
    """The host as its owner knows it: a socket for both families gives IPv4 in an IPv6 dress (RFC 4291 2.5.5.2)."""
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return host if mapped is None else str(mapped)
