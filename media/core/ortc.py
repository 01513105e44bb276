"""ORTC parameter objects: what the Router offers, what clients may say, what viewers are told.

Foreign clients (mediasoup-client, pymediasoup) negotiate with these objects instead of SDP. Payload
types and extension ids of everything the relay sends are fixed here, so they can never collide
between two Consumers of one Transport; what a publisher sends uses the publisher's own numbers.

A choice that a foreign client forces on us cites the trap it avoids by its number in the
project's ORTC notes: "[trap 12]". Every ``parse_*`` takes any JSON value and raises `OrtcError`,
nothing else.

Transports and data channels are ``ortc_transport``. Which stream a packet belongs to is
`match_stream`; the tables of SSRCs are the caller's. Router, publishers and viewers stay in one file
because they are one agreement on the same payload types and extension ids.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Generic, Literal, TypeVar

from media.core.codecs import Codec
from media.core.ortc_fields import (
    JsonObject,
    OrtcError,
    integer_of,
    list_of,
    object_of,
    optional_integer,
    optional_text,
    text_of,
)

Kind = Literal["audio", "video"]
K = TypeVar("K")

MID_URI: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID_URI: Final = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID_URI: Final = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
ABS_SEND_TIME_URI: Final = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
TRANSPORT_CC_URI: Final = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
AUDIO_LEVEL_URI: Final = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
VIDEO_ORIENTATION_URI: Final = "urn:3gpp:video-orientation"
ABS_CAPTURE_TIME_URI: Final = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
DEPENDENCY_URI: Final = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
PLAYOUT_DELAY_URI: Final = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"

EXTENSION_IDS: Final[Mapping[str, int]] = MappingProxyType(
    {
        MID_URI: 1,
        RID_URI: 2,
        REPAIRED_RID_URI: 3,
        ABS_SEND_TIME_URI: 4,
        TRANSPORT_CC_URI: 5,
        AUDIO_LEVEL_URI: 10,
        VIDEO_ORIENTATION_URI: 11,
        DEPENDENCY_URI: 8,
        ABS_CAPTURE_TIME_URI: 13,
        PLAYOUT_DELAY_URI: 14,
    }
)
"""Ids of everything the relay sends, the same for every Consumer of every Transport [trap 3]."""

SENT_EXTENSIONS: Final[Mapping[Kind, tuple[str, ...]]] = MappingProxyType(
    {
        "audio": (ABS_SEND_TIME_URI, TRANSPORT_CC_URI, AUDIO_LEVEL_URI),
        "video": (ABS_SEND_TIME_URI, TRANSPORT_CC_URI, VIDEO_ORIENTATION_URI, PLAYOUT_DELAY_URI, DEPENDENCY_URI),
    }
)
"""What a viewer may get.

Not mid: a viewer finds its stream by the SSRC we announce [trap 12]. Not the capture time: it is on
the publisher's clock, while our sender reports are on ours, so passed on as it is it would be wrong.
"""

PER_VIEWER: Final = frozenset({ABS_SEND_TIME_URI, TRANSPORT_CC_URI})
"""Extensions the relay writes itself, for each viewer."""

_RECEIVED_ONLY: Final[Mapping[Kind, tuple[str, ...]]] = MappingProxyType(
    {
        "audio": (MID_URI, ABS_CAPTURE_TIME_URI),
        "video": (MID_URI, RID_URI, REPAIRED_RID_URI, ABS_CAPTURE_TIME_URI),
    }
)
"""What publishers may send us and no viewer gets. mid and rid are needed for simulcast [trap 5]."""

PROBATOR_PAYLOAD_TYPE: Final = 127
PROBATOR_SSRC: Final = 1234
PROBATOR_MID: Final = "probator"
"""mediasoup-client makes a section with these of its own accord; nothing of ours may use them [trap 13]."""

PAYLOAD_TYPES: Final[Mapping[Codec, int]] = MappingProxyType(
    {Codec.OPUS: 100, Codec.VP8: 101, Codec.H264: 103, Codec.VP9: 105, Codec.AV1: 107}
)
RTX_PAYLOAD_TYPES: Final[Mapping[Codec, int]] = MappingProxyType(
    {Codec.VP8: 102, Codec.H264: 104, Codec.VP9: 106, Codec.AV1: 108}
)
CLOCK_RATES_HZ: Final[Mapping[Codec, int]] = MappingProxyType(
    {Codec.OPUS: 48_000, Codec.VP8: 90_000, Codec.H264: 90_000, Codec.VP9: 90_000, Codec.AV1: 90_000}
)
RED_PAYLOAD_TYPE: Final = 109
"""Opus with redundancy (``red``).

Not among the capabilities of the Router: browsers take RED only with a format line ("100/100") that foreign client
libraries cannot write, and these promise to receive whatever both sides list. A client that writes the line itself
names ``audio/red`` of its own accord, behind Opus: as a publisher with its own payload type, as a viewer with this.
"""
_RED: Final = "audio/red"
LAYERED_IN_ONE_STREAM: Final = frozenset({Codec.VP9, Codec.AV1})
"""Codecs whose layers may all be in one stream (SVC), told by the dependency descriptor."""
MAX_ENCODINGS: Final = 4

_H264_PARAMETERS: Final = {"level-asymmetry-allowed": 1, "packetization-mode": 1, "profile-level-id": "42e01f"}
_VIDEO_PARAMETERS: Final[Mapping[Codec, Mapping[str, object]]] = MappingProxyType(
    {Codec.VP8: {}, Codec.H264: _H264_PARAMETERS, Codec.VP9: {"profile-id": 0}, Codec.AV1: {}}
)
"""In order of preference: clients send the first they can, and VP8 costs a station's processor least."""
_VIDEO_FEEDBACK: Final = (
    ("nack", ""),
    ("nack", "pli"),
    ("ccm", "fir"),
    ("goog-remb", ""),
    ("transport-cc", ""),
)
_AUDIO_FEEDBACK: Final = (("nack", ""), ("transport-cc", ""))


# ---------------------------------------------------------------- router capabilities


def router_capabilities() -> JsonObject:
    """routerRtpCapabilities for ``Device.load``; a fresh copy, the client library modifies it.

    Every codec has ``preferredPayloadType``, every rtx a numeric ``apt``, every extension its
    ``kind``: without them load() throws [trap 1].
    """
    codecs: list[JsonObject] = [
        _codec_capability("audio", Codec.OPUS, {"minptime": 10, "useinbandfec": 1}, _AUDIO_FEEDBACK) | {"channels": 2}
    ]
    for codec, parameters in _VIDEO_PARAMETERS.items():
        codecs.append(_codec_capability("video", codec, parameters, _VIDEO_FEEDBACK))
        codecs.append(
            {
                "kind": "video",
                "mimeType": "video/rtx",
                "preferredPayloadType": RTX_PAYLOAD_TYPES[codec],
                "clockRate": CLOCK_RATES_HZ[codec],
                "parameters": {"apt": PAYLOAD_TYPES[codec]},
                "rtcpFeedback": [],
            }
        )
    return {"codecs": codecs, "headerExtensions": _extension_capabilities()}


def _codec_capability(
    kind: Kind, codec: Codec, parameters: Mapping[str, object], feedback: Iterable[tuple[str, str]]
) -> JsonObject:
    return {
        "kind": kind,
        "mimeType": codec.value,
        "preferredPayloadType": PAYLOAD_TYPES[codec],
        "clockRate": CLOCK_RATES_HZ[codec],
        "parameters": dict(parameters),
        "rtcpFeedback": [{"type": name, "parameter": parameter} for name, parameter in feedback],
    }


def _extension_capabilities() -> list[JsonObject]:
    """One entry per kind; the direction is the Router's."""
    return [
        {
            "kind": kind,
            "uri": uri,
            "preferredId": EXTENSION_IDS[uri],
            "preferredEncrypt": False,
            "direction": direction,
        }
        for direction, table in (("recvonly", _RECEIVED_ONLY), ("sendrecv", SENT_EXTENSIONS))
        for kind, uris in table.items()
        for uri in uris
    ]


# ---------------------------------------------------------------- publishers


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """One RTP stream of a publisher: a simulcast layer, or the only one."""

    ssrc: int | None = None
    """Announced SSRC; None when packets say who they are by mid and rid."""
    rtx_ssrc: int | None = None
    rid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """RTCP feedback the publisher will act on; sending any other is waste."""

    transport_cc: bool = False
    remb: bool = False
    nack: bool = False
    pli: bool = False
    fir: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerParameters:
    """A publisher's rtpParameters, checked. All numbers are the publisher's own."""

    kind: Kind
    codec: Codec
    payload_type: int
    rtx_payload_type: int | None
    red_payload_type: int | None = None
    """Opus with redundancy may come under this one, and without it under the other at any time."""
    clock_rate_hz: int
    mid: str | None
    encodings: tuple[Encoding, ...]
    """At least one, lowest quality first; the first rids may be the only ones sent."""
    extension_ids: Mapping[str, int]
    """Id of each known URI in this publisher's packets; unknown URIs are left out."""
    feedback: Feedback
    cname: str
    """Often empty with simulcast [trap 7]: name the publisher yourself towards viewers."""

    def carries(self, payload_type: int) -> bool:
        """Packets of this payload type are its media, not its repairs."""
        return payload_type in (self.payload_type, self.red_payload_type)

    @property
    def simulcast(self) -> bool:
        """More than one layer, each a stream."""
        return len(self.encodings) > 1

    @property
    def nested(self) -> bool:
        """All layers may be in one stream (SVC), told by its dependency descriptor."""
        return self.codec in LAYERED_IN_ONE_STREAM and not self.simulcast


def parse_producer(kind: Kind, value: object) -> ProducerParameters:
    """Check rtpParameters of ``produce``.

    The first codec is the one sent; the rest may hold its rtx. pymediasoup sends what a browser
    sends, without simulcast, transport-cc and fir [trap 25].

    Raises:
        OrtcError: a missing, wrong or contradictory field, or a codec the Router does not forward.
    """
    parameters = object_of(value, "rtpParameters")
    codecs = [object_of(entry, "codecs") for entry in list_of(parameters, "codecs")]
    if not codecs:
        raise OrtcError("codecs is empty")
    codec = _media_codec(kind, codecs[0])
    payload_type = _payload_type(codecs[0], "payloadType")
    rtx_payload_type = _rtx_payload_type(codecs, kind, payload_type)
    extension_ids = _extension_ids(parameters)
    mid = optional_text(parameters, "mid", 16)
    encodings = _encodings(parameters, mid, extension_ids)
    if rtx_payload_type is None and any(encoding.rtx_ssrc is not None for encoding in encodings):
        raise OrtcError("rtx SSRC without an rtx codec")
    rtcp = parameters.get("rtcp")
    return ProducerParameters(
        kind=kind,
        codec=codec,
        payload_type=payload_type,
        rtx_payload_type=rtx_payload_type,
        red_payload_type=_red_payload_type(codecs, codec, payload_type),
        clock_rate_hz=CLOCK_RATES_HZ[codec],
        mid=mid,
        encodings=encodings,
        extension_ids=extension_ids,
        feedback=_feedback(codecs[0], extension_ids),
        cname=(optional_text(object_of(rtcp, "rtcp"), "cname", 255) or "") if rtcp is not None else "",
    )


def _media_codec(kind: Kind, entry: JsonObject) -> Codec:
    mime = text_of(entry, "mimeType", 64).lower()
    codec = next((known for known in Codec if known.value.lower() == mime), None)
    if codec is None or not mime.startswith(f"{kind}/"):
        raise OrtcError("codec is not forwarded here")
    if integer_of(entry, "clockRate", 1, 1 << 20) != CLOCK_RATES_HZ[codec]:
        raise OrtcError("clockRate does not fit the codec")
    if codec is Codec.OPUS and entry.get("channels") != 2:
        raise OrtcError("opus has two channels on the wire")
    if codec is Codec.H264 and not _is_forwarded_h264(object_of(entry.get("parameters"), "parameters")):
        raise OrtcError("H264 must be constrained baseline with packetization-mode 1")
    if codec is Codec.VP9 and object_of(entry.get("parameters") or {}, "parameters").get("profile-id", 0) not in (
        0,
        "0",
    ):
        raise OrtcError("VP9 must be profile 0")
    return codec


def _is_forwarded_h264(parameters: JsonObject) -> bool:
    """Constrained baseline in any of its spellings (RFC 6184 section 8.1, table 5)."""
    profile = parameters.get("profile-level-id", "42000a")
    if parameters.get("packetization-mode") not in (1, "1") or not isinstance(profile, str) or len(profile) != 6:
        return False
    try:
        profile_idc, constraints = int(profile[:2], 16), int(profile[2:4], 16)
        int(profile[4:], 16)
    except ValueError:
        return False
    needed = {0x42: 0x40, 0x4D: 0x80, 0x58: 0xC0}.get(profile_idc)
    return needed is not None and constraints & needed == needed


def _rtx_payload_type(codecs: Sequence[JsonObject], kind: Kind, payload_type: int) -> int | None:
    for entry in codecs[1:]:
        if text_of(entry, "mimeType", 64).lower() != f"{kind}/rtx":
            continue
        if integer_of(object_of(entry.get("parameters"), "parameters"), "apt", 0, 127) == payload_type:
            rtx = _payload_type(entry, "payloadType")
            if rtx == payload_type:
                raise OrtcError("rtx shares the payload type of its codec")
            return rtx
    return None


def _red_payload_type(codecs: list[JsonObject], codec: Codec, payload_type: int) -> int | None:
    if codec is not Codec.OPUS:
        return None
    for entry in codecs:
        if text_of(entry, "mimeType", 64).lower() == _RED:
            red = _payload_type(entry, "payloadType")
            if red == payload_type:
                raise OrtcError("red shares the payload type of its codec")
            return red
    return None


def _payload_type(entry: JsonObject, key: str) -> int:
    payload_type = integer_of(entry, key, 0, 127)
    if 64 <= payload_type <= 95:
        raise OrtcError("payload type reads as RTCP")  # RFC 5761 section 4
    return payload_type


def _extension_ids(parameters: JsonObject) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for entry in list_of(parameters, "headerExtensions", optional=True):
        extension = object_of(entry, "headerExtensions")
        uri = text_of(extension, "uri", 256)
        identifier = integer_of(extension, "id", 1, 255)
        if extension.get("encrypt"):
            raise OrtcError("encrypted header extensions are not read here")
        if uri not in EXTENSION_IDS:
            continue
        if found.get(uri, identifier) != identifier or (uri not in found and identifier in found.values()):
            raise OrtcError("header extension ids collide")
        found[uri] = identifier
    return MappingProxyType(found)


def _encodings(parameters: JsonObject, mid: str | None, extension_ids: Mapping[str, int]) -> tuple[Encoding, ...]:
    entries = list_of(parameters, "encodings", optional=True) or [{}]
    if len(entries) > MAX_ENCODINGS:
        raise OrtcError("too many encodings")
    encodings = tuple(_encoding(object_of(entry, "encodings")) for entry in entries)
    ssrcs = [ssrc for encoding in encodings for ssrc in (encoding.ssrc, encoding.rtx_ssrc) if ssrc is not None]
    rids = [encoding.rid for encoding in encodings if encoding.rid is not None]
    if len(set(ssrcs)) != len(ssrcs) or len(set(rids)) != len(rids):
        raise OrtcError("encodings are not distinct")
    if len(encodings) > 1 and any(encoding.ssrc is None and encoding.rid is None for encoding in encodings):
        raise OrtcError("an encoding of several has neither ssrc nor rid")
    # [trap 5] Such packets could never be assigned. By mid alone only a single stream can.
    if any(encoding.ssrc is None and encoding.rid is not None for encoding in encodings):
        if RID_URI not in extension_ids:
            raise OrtcError("rid without its header extension")
    elif encodings[0].ssrc is None and (mid is None or MID_URI not in extension_ids):
        raise OrtcError("neither ssrc, rid nor mid tells the packets")
    return encodings


def _encoding(entry: JsonObject) -> Encoding:
    rtx = entry.get("rtx")
    ssrc = optional_integer(entry, "ssrc", 0, 0xFFFF_FFFF)
    rtx_ssrc = integer_of(object_of(rtx, "rtx"), "ssrc", 0, 0xFFFF_FFFF) if rtx is not None else None
    if rtx_ssrc is not None and ssrc is None:
        raise OrtcError("rtx SSRC without a media SSRC")
    return Encoding(ssrc=ssrc, rtx_ssrc=rtx_ssrc, rid=optional_text(entry, "rid", 255))


def _feedback(entry: JsonObject, extension_ids: Mapping[str, int]) -> Feedback:
    offered = _feedback_pairs(entry)
    return Feedback(
        # [trap 9] A recycled section lists transport-cc without its extension: then it does not work.
        transport_cc=("transport-cc", "") in offered and TRANSPORT_CC_URI in extension_ids,
        remb=("goog-remb", "") in offered,
        nack=("nack", "") in offered,  # [trap 4] depends on the client's codecOptions for opus
        pli=("nack", "pli") in offered,
        fir=("ccm", "fir") in offered,
    )


def _feedback_pairs(entry: JsonObject) -> set[tuple[str, str]]:
    pairs = set()
    for item in list_of(entry, "rtcpFeedback", optional=True):
        feedback = object_of(item, "rtcpFeedback")
        pairs.add((text_of(feedback, "type", 64), optional_text(feedback, "parameter", 64) or ""))
    return pairs


# ---------------------------------------------------------------- packets of unknown SSRC


@dataclass(frozen=True, slots=True)
class StreamMatch(Generic[K]):
    """Which stream a new SSRC is."""

    key: K
    encoding: int
    """Index into ``ProducerParameters.encodings``."""
    rtx: bool


def match_stream(
    producers: Iterable[tuple[K, ProducerParameters]],
    ssrc: int,
    payload_type: int,
    mid: str | None,
    rid: str | None,
    repaired_rid: str | None,
) -> StreamMatch[K] | None:
    """Assign the first packet of an SSRC to a Producer of its Transport.

    By announced SSRC, else by mid (and rid within it), else by rid and payload type, and that only
    when a single Producer fits that has no mid extension [traps 8, 9]: all clients name their
    layers r0, r1, r2.

    Args:
        producers: the open Producers of the Transport; closed ones must not be in it [trap 10].
        mid, rid, repaired_rid: what the packet's header extensions say, None when absent.

    Returns:
        None when nothing fits, or not only one: drop the packet, and send no report about it, so
        that the client goes on to name mid and rid [trap 6].
    """
    candidates = list(producers)
    for key, parameters in candidates:
        for index, encoding in enumerate(parameters.encodings):
            if ssrc == encoding.ssrc and parameters.carries(payload_type):
                return StreamMatch(key, index, False)
            if ssrc == encoding.rtx_ssrc and payload_type == parameters.rtx_payload_type:
                return StreamMatch(key, index, True)
    if mid is not None:
        fitting = [pair for pair in candidates if pair[1].mid == mid]
    else:
        fitting = [pair for pair in candidates if MID_URI not in pair[1].extension_ids]
    found = [
        match
        for key, parameters in fitting
        if (match := _match_by_rid(key, parameters, payload_type, rid, repaired_rid)) is not None
        and (mid is not None or parameters.encodings[match.encoding].rid is not None)
    ]
    return found[0] if len(found) == 1 else None


def _match_by_rid(
    key: K, parameters: ProducerParameters, payload_type: int, rid: str | None, repaired_rid: str | None
) -> StreamMatch[K] | None:
    if parameters.carries(payload_type):
        rtx, name = False, rid
    elif payload_type == parameters.rtx_payload_type:
        rtx, name = True, repaired_rid or rid
    else:
        return None
    for index, encoding in enumerate(parameters.encodings):
        if encoding.ssrc is None and encoding.rid == name:
            return StreamMatch(key, index, rtx)
    return None


# ---------------------------------------------------------------- viewers


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerCapabilities:
    """What a client can receive, reduced to what the Router sends."""

    codecs: Mapping[Codec, frozenset[tuple[str, str]]]
    """Each codec it takes under our payload type, with its feedback pairs (type, parameter)."""
    rtx: frozenset[Codec]
    red: bool = False
    """It takes Opus with redundancy."""
    extensions: frozenset[tuple[str, int]]
    """(URI, id) pairs."""


def parse_capabilities(value: object) -> ViewerCapabilities:
    """Check rtpCapabilities of ``consume``.

    Codecs count by payload type, extensions by URI and id, never by ``kind``: clients list an
    extension that audio and video share once, with either kind [traps 1, 2].

    Raises:
        OrtcError: a missing or wrong field. Unknown codecs and extensions are no error.
    """
    capabilities = object_of(value, "rtpCapabilities")
    codecs: dict[Codec, frozenset[tuple[str, str]]] = {}
    rtx: set[Codec] = set()
    red = False
    for item in list_of(capabilities, "codecs", optional=True):
        entry = object_of(item, "codecs")
        mime = text_of(entry, "mimeType", 64).lower()
        payload_type = integer_of(entry, "preferredPayloadType", 0, 127)
        red = red or (mime == _RED and payload_type == RED_PAYLOAD_TYPE)
        for codec in Codec:
            if mime == codec.value.lower() and payload_type == PAYLOAD_TYPES[codec]:
                codecs[codec] = frozenset(_feedback_pairs(entry))
            elif mime == "video/rtx" and payload_type == RTX_PAYLOAD_TYPES.get(codec):
                rtx.add(codec)
    extensions = set()
    for item in list_of(capabilities, "headerExtensions", optional=True):
        entry = object_of(item, "headerExtensions")
        extensions.add((text_of(entry, "uri", 256), integer_of(entry, "preferredId", 1, 255)))
    return ViewerCapabilities(
        codecs=MappingProxyType(codecs), rtx=frozenset(rtx), red=red, extensions=frozenset(extensions)
    )


def can_consume(producer: ProducerParameters, viewer: ViewerCapabilities) -> bool:
    """The viewer can decode what this Producer sends."""
    return producer.codec in viewer.codecs


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerParameters:
    """How one Producer goes to one viewer."""

    rtp_parameters: JsonObject
    """For mediasoup-client's ``transport.consume``."""
    payload_type: int
    rtx_payload_type: int | None
    """None when the viewer does not take rtx: then NACK is not answered."""
    redundant: bool
    """It gets RED where the publisher sends it."""
    extension_ids: Mapping[str, int]
    """URI to id of what may be put into this viewer's packets."""


def consumer_parameters(
    producer: ProducerParameters, viewer: ViewerCapabilities, ssrc: int, rtx_ssrc: int, mid: str, cname: str
) -> ConsumerParameters:
    """Make the parameters of one Consumer.

    Args:
        ssrc, rtx_ssrc: random, unique in the Transport, not ``PROBATOR_SSRC`` [trap 13].
        mid: unique in the Transport, never used again: count up, ``consumer_mid`` [trap 11].
        cname: not empty, or two videos play nothing [trap 12]; one per publisher, for its sound
            and picture alike, or they are not synchronised [trap 7].

    Raises:
        OrtcError: the viewer cannot decode it.
    """
    assert cname
    assert mid not in ("", PROBATOR_MID)
    assert PROBATOR_SSRC not in (ssrc, rtx_ssrc)
    assert ssrc != rtx_ssrc
    if not can_consume(producer, viewer):
        raise OrtcError("the viewer cannot decode this codec")
    codec = producer.codec
    rtx_payload_type = RTX_PAYLOAD_TYPES.get(codec) if codec in viewer.rtx else None
    redundant = producer.red_payload_type is not None and viewer.red
    left_out = set()
    if not producer.nested:
        left_out.add(DEPENDENCY_URI)  # frame numbers of one simulcast layer mean nothing in another
    if ("transport-cc", "") not in viewer.codecs[codec]:
        left_out.add(TRANSPORT_CC_URI)
    extension_ids = {
        uri: EXTENSION_IDS[uri]
        for uri in SENT_EXTENSIONS[producer.kind]
        if uri not in left_out and (uri, EXTENSION_IDS[uri]) in viewer.extensions
    }
    encoding: JsonObject = {"ssrc": ssrc}
    if rtx_payload_type is not None:
        encoding["rtx"] = {"ssrc": rtx_ssrc}
    return ConsumerParameters(
        rtp_parameters={
            "mid": mid,
            "codecs": _consumer_codecs(codec, viewer, rtx_payload_type, redundant),
            "headerExtensions": [
                {"uri": uri, "id": identifier, "encrypt": False, "parameters": {}}
                for uri, identifier in extension_ids.items()
            ],
            "encodings": [encoding],
            "rtcp": {"cname": cname, "reducedSize": True},
        },
        payload_type=PAYLOAD_TYPES[codec],
        rtx_payload_type=rtx_payload_type,
        redundant=redundant,
        extension_ids=MappingProxyType(extension_ids),
    )


def _consumer_codecs(
    codec: Codec, viewer: ViewerCapabilities, rtx_payload_type: int | None, redundant: bool
) -> list[JsonObject]:
    """First the media codec, under the Router's payload type, or consume() throws [trap 1]."""
    ours = next(entry for entry in _CAPABILITIES["codecs"] if entry["preferredPayloadType"] == PAYLOAD_TYPES[codec])
    feedback = [
        entry
        for entry in ours["rtcpFeedback"]
        # No NACK for audio: there is no rtx to answer it with.
        if (codec is not Codec.OPUS or entry["type"] != "nack")
        and (entry["type"], entry["parameter"]) in viewer.codecs[codec]
    ]
    media = {
        "mimeType": codec.value,
        "payloadType": PAYLOAD_TYPES[codec],
        "clockRate": CLOCK_RATES_HZ[codec],
        "parameters": ours["parameters"],
        "rtcpFeedback": feedback,
    }
    if codec is Codec.OPUS:
        media["channels"] = 2
    codecs = [media]
    if redundant:
        red = {"mimeType": _RED, "payloadType": RED_PAYLOAD_TYPE, "clockRate": CLOCK_RATES_HZ[codec], "channels": 2}
        codecs.append(red | {"parameters": {}, "rtcpFeedback": []})
    if rtx_payload_type is not None:
        codecs.append(
            {
                "mimeType": "video/rtx",
                "payloadType": rtx_payload_type,
                "clockRate": CLOCK_RATES_HZ[codec],
                "parameters": {"apt": PAYLOAD_TYPES[codec]},
                "rtcpFeedback": [],
            }
        )
    return deepcopy(codecs)


_CAPABILITIES: Final = router_capabilities()


def consumer_mid(counter: int) -> str:
    """mid of a Transport's n-th Consumer: a plain number, as the client itself would count [trap 11]."""
    return str(counter)
