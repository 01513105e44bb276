"""A WHIP publisher's offer in the words of ORTC, and the answer to it (RFC 9725, RFC 8829).

Hardware encoders, OBS and GStreamer speak SDP over HTTP instead of our signalling. `parse_offer` turns
their offer into the same rtpParameters and dtlsParameters that every other participant sends, so
that all rules about codecs, layers and header extensions stay in ``media.core.ortc``; `build_answer`
takes what the relay then gave. The publisher's own payload types and extension ids are kept.

What is taken: at most one audio and one video section that send, all in one bundle, RTCP on the
same port. Data channels and sections that only receive are declined with port 0. Several layers come
as rid (RFC 8853) or as SSRC groups. The order of layers is the publisher's.

HTTP is ``server.api.whip``, the participant ``server.whip``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from media.core import ortc
from media.core.codecs import Codec
from media.core.ortc_fields import JsonObject, OrtcError
from media.core.ortc_transport import parse_dtls
from media.core.sdp import Description, SdpError, Section, integer, is_ice_text, is_token, parse

PROTOCOLS: Final = frozenset({"UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "TCP/TLS/RTP/SAVPF", "RTP/SAVPF"})
_CODECS: Final = {codec.value.lower(): codec for codec in Codec}
_NUMBERS: Final = frozenset({"apt", "packetization-mode", "level-asymmetry-allowed", "profile-id", "minptime"})
_ROLES: Final[Mapping[str, tuple[str, str]]] = {
    "actpass": ("client", "passive"),
    "active": ("client", "passive"),
    "passive": ("server", "active"),
}
"""By the offer's ``setup``: the publisher's DTLS role, and our answer (RFC 8842 section 5.3)."""


@dataclass(frozen=True, slots=True)
class OfferedSource:
    """A section that is taken."""

    kind: ortc.Kind
    mid: str
    protocol: str
    rtp_parameters: JsonObject
    """For ``produce``; the first codec is the medium, a second one its RTX."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a publisher wants to send."""

    sections: tuple[OfferedSource | Section, ...]
    """In the order of the offer; a `Section` is declined."""
    dtls_parameters: JsonObject
    setup: str
    """Of our answer."""
    ice_ufrag: str
    ice_password: str
    mixed_extensions: bool
    """One- and two-byte header extensions may come on one stream (RFC 8285 section 6): long descriptors need it."""

    @property
    def sources(self) -> tuple[OfferedSource, ...]:
        """The sections that are taken."""
        return tuple(section for section in self.sections if isinstance(section, OfferedSource))


@dataclass(frozen=True, slots=True)
class Fragment:
    """A trickled piece (RFC 8840)."""

    ice_ufrag: str
    ice_password: str


def parse_offer(text: str) -> Offer:
    """Read an offer.

    Raises:
        SdpError: nothing else, whatever the text.
    """
    description = parse(text)
    wanted = [section for section in description.sections if _sends(description, section)]
    for kind in ("audio", "video"):
        if sum(section.kind == kind for section in wanted) > 1:
            raise SdpError(f"more than one {kind} section sends", "unsupported")
    if not wanted:
        raise SdpError("nothing is sent", "unsupported")
    mids = [_mid(section) for section in wanted]
    if len(set(mids)) != len(mids) or not _bundled(description, mids):
        raise SdpError("the sections are not in one bundle", "unsupported")
    first = wanted[0]
    setup = first.value("setup") or description.value("setup") or ""
    if setup not in _ROLES:
        raise SdpError("setup is missing or cannot be answered")
    role, answer = _ROLES[setup]
    ufrag, password = _credentials(description, first)
    return Offer(
        sections=tuple(_source(s) if s in wanted else s for s in description.sections),
        dtls_parameters=_dtls_parameters(description, first, role),
        setup=answer,
        ice_ufrag=ufrag,
        ice_password=password,
        mixed_extensions=any(level.has("extmap-allow-mixed") for level in (description, first)),
    )


def parse_fragment(text: str) -> Fragment:
    """Read what a PATCH brings: candidates, of which a lite agent needs none, or fresh credentials.

    Raises:
        SdpError: nothing else, whatever the text.
    """
    description = parse(text, fragment=True)
    sections: Sequence[Section | None] = description.sections or (None,)
    return Fragment(*_credentials(description, sections[0]))


# ---------------------------------------------------------------- one section


def _sends(description: Description, section: Section) -> bool:
    """The section is one we could take: active, media, and its direction includes sending."""
    if section.port == 0 and not section.has("bundle-only"):
        return False
    if section.kind not in ("audio", "video"):
        return False
    directions = ("sendrecv", "sendonly", "recvonly", "inactive")
    for level in (section, description):
        for direction in directions:
            if level.has(direction):
                return direction in ("sendrecv", "sendonly")
    return True  # RFC 8866 section 6.7: sendrecv when nothing is said


def _mid(section: Section) -> str:
    mid = section.value("mid")
    if mid is None or not is_token(mid) or len(mid) > 16:
        raise SdpError("mid is missing or too long")
    return mid


def _bundled(description: Description, mids: Sequence[str]) -> bool:
    if len(mids) == 1:
        return True
    groups = [value.split(" ") for value in description.values("group")]
    return any(group[0] == "BUNDLE" and set(mids) <= set(group[1:]) for group in groups)


def _credentials(description: Description, section: Section | None) -> tuple[str, str]:
    found = []
    for name, least in (("ice-ufrag", 4), ("ice-pwd", 22)):
        value = (section.value(name) if section is not None else None) or description.value(name) or ""
        if not is_ice_text(value, least, 256):
            raise SdpError(f"{name} is missing or malformed")
        found.append(value)
    return found[0], found[1]


def _dtls_parameters(description: Description, section: Section, role: str) -> JsonObject:
    lines = list(section.values("fingerprint")) or list(description.values("fingerprint"))
    fingerprints = []
    for line in lines[:8]:
        algorithm, _, value = line.partition(" ")
        fingerprints.append({"algorithm": algorithm.lower(), "value": value.strip()})
    parameters = {"role": role, "fingerprints": fingerprints}
    try:
        parse_dtls(parameters)
    except OrtcError as error:
        raise SdpError(error.reason) from None
    return parameters


def _source(section: Section) -> OfferedSource:
    if section.protocol not in PROTOCOLS:
        raise SdpError("the transport protocol is not DTLS-SRTP", "unsupported")
    if not section.has("rtcp-mux"):
        raise SdpError("RTCP needs a port of its own", "unsupported")
    kind: ortc.Kind = "audio" if section.kind == "audio" else "video"
    codecs = _codecs(section, kind)
    extensions = _extensions(section, kind)
    parameters: JsonObject = {
        "mid": _mid(section),
        "codecs": codecs,
        "headerExtensions": extensions,
        "encodings": _encodings(section, len(codecs) > 1),
        "rtcp": {"cname": _cname(section), "reducedSize": section.has("rtcp-rsize")},
    }
    try:
        ortc.parse_producer(kind, parameters)
    except OrtcError as error:
        raise SdpError(error.reason, "unsupported") from None
    return OfferedSource(kind, _mid(section), section.protocol, parameters)


def _codecs(section: Section, kind: ortc.Kind) -> list[JsonObject]:
    """The first codec of the offer that is forwarded here, and its RTX."""
    maps, parameters = _by_format(section, "rtpmap"), _by_format(section, "fmtp")
    media: JsonObject | None = None
    for payload_type in section.formats:
        entry = _codec(section, kind, payload_type, maps, parameters)
        if entry is not None and _is_forwarded(kind, entry):
            media = entry
            break
    if media is None:
        raise SdpError(f"no {kind} codec of the offer is forwarded here", "unsupported")
    for payload_type in section.formats:
        given = _parameters(parameters.get(payload_type, ""))
        if maps.get(payload_type, "").lower() == "rtx/90000" and given.get("apt") == media["payloadType"]:
            rtx: JsonObject = {
                "mimeType": "video/rtx",
                "payloadType": _payload_type(payload_type),
                "clockRate": 90_000,
                "parameters": {"apt": media["payloadType"]},
                "rtcpFeedback": [],
            }
            return [media, rtx]
    return [media]


def _codec(
    section: Section, kind: str, payload_type: str, maps: Mapping[str, str], parameters: Mapping[str, str]
) -> JsonObject | None:
    name, _, rest = maps.get(payload_type, "").partition("/")
    codec = _CODECS.get(f"{kind}/{name.lower()}")
    if codec is None:
        return None
    clock_rate, _, channels = rest.partition("/")
    entry: JsonObject = {
        "mimeType": codec.value,
        "payloadType": _payload_type(payload_type),
        "clockRate": integer(clock_rate, 1, 1_000_000),
        "parameters": _parameters(parameters.get(payload_type, "")),
        "rtcpFeedback": _feedback(section, payload_type, codec),
    }
    if kind == "audio":
        entry["channels"] = integer(channels or "1", 1, 255)
    return entry


def _is_forwarded(kind: ortc.Kind, entry: JsonObject) -> bool:
    """Asked with a stream that is beyond doubt, so that only the codec can be refused."""
    probe = {"codecs": [entry], "encodings": [{"ssrc": 1}]}
    try:
        ortc.parse_producer(kind, probe)
    except OrtcError:
        return False
    return True


def _payload_type(text: str) -> int:
    return integer(text, 0, 127)


def _by_format(section: Section, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in section.values(name):
        payload_type, _, rest = value.partition(" ")
        found.setdefault(payload_type, rest.strip())
    return found


def _parameters(text: str) -> JsonObject:
    """``key=value;key=value``; whole numbers where ORTC has them."""
    found: JsonObject = {}
    for part in text.split(";")[:32]:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not is_token(key) or not set(value) <= _VALUE:
            continue
        small = value.isascii() and value.isdigit() and len(value) < 6
        found[key.lower()] = int(value) if small and key.lower() in _NUMBERS else value
    return found


_VALUE: Final = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/=,.-_")


def _feedback(section: Section, payload_type: str, codec: Codec) -> list[JsonObject]:
    """What both sides do, in our order."""
    offered = set()
    for value in section.values("rtcp-fb"):
        scope, _, feedback = value.partition(" ")
        if scope in (payload_type, "*"):
            name, _, parameter = feedback.strip().partition(" ")
            offered.add((name, parameter.strip()))
    ours = next(c for c in _OUR_CODECS if c["mimeType"] == codec.value)["rtcpFeedback"]
    return [
        {"type": entry["type"], "parameter": entry["parameter"]}
        for entry in ours
        if (entry["type"], entry["parameter"]) in offered
    ]


_CAPABILITIES: Final = ortc.router_capabilities()
_OUR_CODECS: Final[list[JsonObject]] = _CAPABILITIES["codecs"]


def _extensions(section: Section, kind: str) -> list[JsonObject]:
    known = {entry["uri"] for entry in _CAPABILITIES["headerExtensions"] if entry.get("kind", kind) == kind}
    found: dict[str, int] = {}
    for value in section.values("extmap"):
        head, _, rest = value.partition(" ")
        uri = rest.split(" ")[0]
        identifier = integer(head.split("/")[0], 1, 255)
        if uri in known and uri not in found and identifier not in found.values() and identifier != 15:
            found[uri] = identifier
    return [{"uri": uri, "id": identifier} for uri, identifier in found.items()]


def _encodings(section: Section, rtx: bool) -> list[JsonObject]:
    rids = _sent_rids(section)
    if rids:
        return [{"rid": rid} for rid in rids]
    ssrcs, repairs = _ssrcs(section)
    return [
        {"ssrc": ssrc} | ({"rtx": {"ssrc": repairs[ssrc]}} if rtx and ssrc in repairs else {}) for ssrc in ssrcs
    ] or [{}]


def _sent_rids(section: Section) -> list[str]:
    """RFC 8853: ``send`` and a list of streams, each the first of its alternatives, paused or not."""
    words = (section.value("simulcast") or "").split(" ")
    if "send" not in words[:-1]:
        return []
    streams = words[words.index("send") + 1].split(";")
    rids = [stream.split(",")[0].removeprefix("~") for stream in streams]
    declared = {value.split(" ")[0] for value in section.values("rid") if value.split(" ")[1:2] == ["send"]}
    if len(rids) > ortc.MAX_ENCODINGS or not set(rids) <= declared or not all(_is_rid(rid) for rid in rids):
        raise SdpError("simulcast names no known rid")
    return rids


def _is_rid(text: str) -> bool:
    return 0 < len(text) <= 255 and text.isascii() and all(letter.isalnum() or letter in "-_" for letter in text)


def _ssrcs(section: Section) -> tuple[list[int], dict[int, int]]:
    """Media SSRCs in their order, and the repair SSRC of each."""
    repairs: dict[int, int] = {}
    layers: list[int] = []
    for value in section.values("ssrc-group"):
        words = value.split(" ")
        numbers = [integer(word, 0, 0xFFFF_FFFF) for word in words[1 : 2 + ortc.MAX_ENCODINGS]]
        if words[0] == "FID" and len(numbers) == 2:
            repairs[numbers[0]] = numbers[1]
        elif words[0] == "SIM":
            layers = numbers[: ortc.MAX_ENCODINGS]
    seen = [integer(value.split(" ")[0], 0, 0xFFFF_FFFF) for value in section.values("ssrc")]
    media = [ssrc for ssrc in dict.fromkeys(seen) if ssrc not in repairs.values()]
    return list(dict.fromkeys(layers)) or media[:1], repairs


def _cname(section: Section) -> str:
    for value in section.values("ssrc"):
        name, _, cname = value.partition(" ")[2].partition(":")
        if name == "cname" and 0 < len(cname) <= 255:
            return cname
    return ""


# ---------------------------------------------------------------- our side


def build_answer(offer: Offer, transport: Mapping[str, Any], session: int) -> str:
    """The answer, with every candidate in it.

    Args:
        transport: ``ice_parameters``, ``ice_candidates`` and ``dtls_parameters`` as the relay gave them.
        session: a number for the origin line, below 2^63.
    """
    mids = " ".join(source.mid for source in offer.sources)
    lines = ["v=0", f"o=- {session} 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=ice-lite", f"a=group:BUNDLE {mids}"]
    if offer.mixed_extensions:
        lines.append("a=extmap-allow-mixed")
    for section in offer.sections:
        lines += _declined(section) if isinstance(section, Section) else _taken(section, offer.setup, transport)
    return "\r\n".join(lines) + "\r\n"


def build_fragment(ice_parameters: Mapping[str, Any], candidates: Iterable[Mapping[str, Any]]) -> str:
    """Fresh credentials after an ICE restart (RFC 9725 section 4.3.3)."""
    lines = [f"a=ice-ufrag:{ice_parameters['usernameFragment']}", f"a=ice-pwd:{ice_parameters['password']}"]
    lines += ["a=ice-lite", "m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0", *_candidates(candidates)]
    return "\r\n".join(lines) + "\r\n"


def _declined(section: Section) -> list[str]:
    lines = [f"m={section.kind} 0 {section.protocol} {' '.join(section.formats)}", "c=IN IP4 0.0.0.0"]
    mid = section.value("mid")
    return [*lines, f"a=mid:{mid}", "a=inactive"] if mid is not None and is_token(mid) else [*lines, "a=inactive"]


def _taken(source: OfferedSource, setup: str, transport: Mapping[str, Any]) -> list[str]:
    codecs = source.rtp_parameters["codecs"]
    formats = " ".join(str(codec["payloadType"]) for codec in codecs)
    ice = transport["ice_parameters"]
    lines = [f"m={source.kind} 9 {source.protocol} {formats}", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0"]
    lines += [f"a=mid:{source.mid}", f"a=ice-ufrag:{ice['usernameFragment']}", f"a=ice-pwd:{ice['password']}"]
    lines += [f"a=fingerprint:{f['algorithm']} {f['value']}" for f in transport["dtls_parameters"]["fingerprints"]]
    lines += [f"a=setup:{setup}", "a=recvonly", "a=rtcp-mux", "a=rtcp-rsize"]
    for codec in codecs:
        lines += _codec_lines(codec)
    lines += [f"a=extmap:{entry['id']} {entry['uri']}" for entry in source.rtp_parameters["headerExtensions"]]
    rids = [encoding["rid"] for encoding in source.rtp_parameters["encodings"] if "rid" in encoding]
    if rids:
        lines += [f"a=rid:{rid} recv" for rid in rids] + [f"a=simulcast:recv {';'.join(rids)}"]
    return lines + _candidates(transport["ice_candidates"])


def _codec_lines(codec: JsonObject) -> list[str]:
    payload_type = codec["payloadType"]
    name = codec["mimeType"].partition("/")[2]
    channels = f"/{codec['channels']}" if codec.get("channels", 1) > 1 else ""
    lines = [f"a=rtpmap:{payload_type} {name}/{codec['clockRate']}{channels}"]
    if codec["parameters"]:
        lines.append(f"a=fmtp:{payload_type} " + ";".join(f"{k}={v}" for k, v in codec["parameters"].items()))
    for entry in codec["rtcpFeedback"]:
        lines.append(f"a=rtcp-fb:{payload_type} {entry['type']} {entry['parameter']}".rstrip())
    return lines


def _candidates(candidates: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = []
    for one in candidates:
        tcp = f" tcptype {one.get('tcpType', 'passive')}" if one["protocol"] == "tcp" else ""
        lines.append(
            f"a=candidate:{one['foundation']} 1 {one['protocol']} {one['priority']} {one['ip']} {one['port']}"
            f" typ {one['type']}{tcp}"
        )
    return [*lines, "a=end-of-candidates"]
