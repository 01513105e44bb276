"""ORTC parameter objects of a Transport and its data channels.

ICE-lite, DTLS and SCTP as mediasoup-client and pymediasoup want to read them, and what they send
back. "[trap 12]" is a number in the project's ORTC notes. Audio and video are ``media.core.ortc``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final, Literal

from media.core.ortc_fields import JsonObject, OrtcError, integer_of, list_of, object_of, optional_integer, text_of

DtlsRole = Literal["client", "server"]

MAX_MESSAGE_BYTES: Final = 262_144
MAX_STREAM_ID: Final = 65_534
"""65535 is reserved (RFC 8832 section 6)."""


@dataclass(frozen=True, slots=True)
class DtlsParameters:
    """What is needed to start DTLS with a client."""

    our_role: DtlsRole
    algorithm: str
    """``sha-256``, ``sha-384`` or ``sha-512``; the weakest a client gives is strong enough."""
    fingerprint: str
    """Upper-case hex pairs, colons between."""


def parse_dtls(value: object) -> DtlsParameters:
    """Check dtlsParameters of ``connect``.

    A client that says "server" must be called by us (pymediasoup's send Transport always [trap
    17]); "client" and "auto" call us, which is what browsers answer to our "auto" [trap 16].

    Browsers give sha-256; pymediasoup gives only the last its aiortc made, sha-512 [trap 25].

    Raises:
        OrtcError: unknown role, or no well-formed fingerprint of a SHA-2 hash.
    """
    parameters = object_of(value, "dtlsParameters")
    role = parameters.get("role", "auto")
    if role not in ("auto", "client", "server"):
        raise OrtcError("unknown DTLS role")
    given = {}
    for item in list_of(parameters, "fingerprints"):
        entry = object_of(item, "fingerprints")
        given[text_of(entry, "algorithm", 16).lower()] = text_of(entry, "value", 191)
    for algorithm, octets in _FINGERPRINT_BYTES.items():
        if algorithm in given:
            our_role: DtlsRole = "client" if role == "server" else "server"
            return DtlsParameters(our_role, algorithm, _fingerprint(given[algorithm], octets))
    raise OrtcError("no fingerprint of a SHA-2 hash")


_FINGERPRINT_BYTES: Final[Mapping[str, int]] = MappingProxyType({"sha-256": 32, "sha-384": 48, "sha-512": 64})


def _fingerprint(text: str, octets: int) -> str:
    pairs = text.upper().split(":")
    if len(pairs) != octets or any(len(pair) != 2 or not set(pair) <= set("0123456789ABCDEF") for pair in pairs):
        raise OrtcError(f"fingerprint is not {octets} hex pairs")
    return ":".join(pairs)


def ice_parameters(ufrag: str, password: str) -> JsonObject:
    """iceParameters; lite is said, or a receiving client never nominates [trap 18]."""
    return {"usernameFragment": ufrag, "password": password, "iceLite": True}


Protocol = Literal["udp", "tcp"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("udp", "tcp")


def ice_candidates(addresses: Sequence[str], port: int, protocols: Sequence[Protocol] = PROTOCOLS) -> list[JsonObject]:
    """Host candidates of every address, the first address the most preferred, UDP before passive TCP.

    Priorities are by RFC 8445 section 5.1.2.1 and RFC 6544 section 4.2. ``ip`` is for pymediasoup, ``address`` for
    newer clients. Firefox never connects to 127.0.0.1: give the network card's address too [trap 20].

    Args:
        addresses: IPv4 or IPv6 literals, not names.
        port: the same for all.
        protocols: those that are listened on.

    Raises:
        ValueError: not an address; our configuration is wrong, not a client.
    """
    return [
        {
            "foundation": f"{protocol}{index}",
            "priority": _priority(protocol, index),
            "ip": str(ip_address(address)),
            "address": str(ip_address(address)),
            "protocol": protocol,
            "port": port,
            "type": "host",
        }
        | ({"tcpType": "passive"} if protocol == "tcp" else {})
        for protocol in PROTOCOLS
        if protocol in protocols
        for index, address in enumerate(addresses)
    ]


def _priority(protocol: Protocol, index: int) -> int:
    """126 is the type preference of host candidates; a lower one keeps TCP behind every UDP pair, 4 says passive."""
    if protocol == "udp":
        return 126 << 24 | (65_535 - index) << 8 | 255
    return 90 << 24 | (4 << 13 | 8_191 - index) << 8 | 255


def dtls_parameters(sha256_fingerprint: str) -> JsonObject:
    """dtlsParameters of ours. The role stays "auto": with "client" Chromium's receiving side fails [trap 16]."""
    return {"role": "auto", "fingerprints": [{"algorithm": "sha-256", "value": sha256_fingerprint}]}


def sctp_parameters() -> JsonObject:
    """sctpParameters in the words of both clients [trap 24]."""
    return {
        "port": 5000,
        "OS": 1024,
        "MIS": 1024,
        "maxMessageSize": MAX_MESSAGE_BYTES,
        "maxSendMessageSize": MAX_MESSAGE_BYTES,
        "maxReceiveMessageSize": MAX_MESSAGE_BYTES,
    }


def transport_options(
    transport: str, ufrag: str, password: str, candidates: list[JsonObject], sha256_fingerprint: str
) -> JsonObject:
    """Everything a client needs to make its Transport, with the keys of the control protocol."""
    return {
        "id": transport,
        "ice_parameters": ice_parameters(ufrag, password),
        "ice_candidates": candidates,
        "dtls_parameters": dtls_parameters(sha256_fingerprint),
        "sctp_parameters": sctp_parameters(),
    }


@dataclass(frozen=True, slots=True)
class SctpStream:
    """One negotiated data channel; there is no DCEP, so both sides must know this [trap 21]."""

    stream_id: int
    ordered: bool
    max_retransmits: int | None
    max_packet_life_time_ms: int | None

    def parameters(self) -> JsonObject:
        """sctpStreamParameters for ``consumeData``; limits that are not set are left out."""
        result: JsonObject = {"streamId": self.stream_id, "ordered": self.ordered}
        if self.max_retransmits is not None:
            result["maxRetransmits"] = self.max_retransmits
        if self.max_packet_life_time_ms is not None:
            result["maxPacketLifeTime"] = self.max_packet_life_time_ms
        return result

    def renumbered(self, stream_id: int) -> "SctpStream":
        """The same reliability on another Transport, whose ids the relay counts from 0 [trap 21]."""
        return SctpStream(stream_id, self.ordered, self.max_retransmits, self.max_packet_life_time_ms)


def parse_sctp_stream(value: object) -> SctpStream:
    """Check sctpStreamParameters of ``produceData``.

    A limit makes the channel unordered, whatever ``ordered`` says: mediasoup-client refuses to
    consume an ordered one with a limit, and pymediasoup sends one for maxRetransmits 0 [trap 25].

    Raises:
        OrtcError: a missing or wrong field, or both limits at once.
    """
    parameters = object_of(value, "sctpStreamParameters")
    retransmits = optional_integer(parameters, "maxRetransmits", 0, 65_535)
    life_time_ms = optional_integer(parameters, "maxPacketLifeTime", 0, 65_535)
    if retransmits is not None and life_time_ms is not None:
        raise OrtcError("maxRetransmits and maxPacketLifeTime exclude each other")
    ordered = parameters.get("ordered")
    if ordered is not None and not isinstance(ordered, bool):
        raise OrtcError("ordered is not a boolean")
    return SctpStream(
        stream_id=integer_of(parameters, "streamId", 0, MAX_STREAM_ID),
        ordered=ordered is not False and retransmits is None and life_time_ms is None,
        max_retransmits=retransmits,
        max_packet_life_time_ms=life_time_ms,
    )
