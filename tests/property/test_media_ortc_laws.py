"""ORTC: no JSON breaks the readers, and a foreign client's own rules accept what we make."""

import contextlib
import copy
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pymediasoup import ortc as foreign
from pymediasoup.rtp_parameters import RtpCapabilities, RtpParameters

from media.core import ortc, ortc_transport
from media.core.ortc_fields import OrtcError

leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4)
json = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)

GOOD: list[tuple[Callable[[object], object], dict[str, Any]]] = [
    (
        lambda value: ortc.parse_producer("video", value),
        {
            "mid": "0",
            "codecs": [
                {
                    "mimeType": "video/H264",
                    "payloadType": 96,
                    "clockRate": 90000,
                    "parameters": {"packetization-mode": 1, "profile-level-id": "42e01f"},
                    "rtcpFeedback": [{"type": "nack", "parameter": "pli"}],
                },
                {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000, "parameters": {"apt": 96}},
            ],
            "headerExtensions": [{"uri": ortc.MID_URI, "id": 1}, {"uri": ortc.RID_URI, "id": 2}],
            "encodings": [{"rid": "r0"}, {"ssrc": 5, "rtx": {"ssrc": 6}}],
            "rtcp": {"cname": "x"},
        },
    ),
    (ortc.parse_capabilities, ortc.router_capabilities()),
    (
        ortc_transport.parse_dtls,
        {"role": "auto", "fingerprints": [{"algorithm": "sha-256", "value": ":".join(["AB"] * 32)}]},
    ),
    (ortc_transport.parse_sctp_stream, {"streamId": 0, "ordered": False, "maxRetransmits": 0}),
]


def places(value: object) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    found: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return found
    for key, inner in items:
        found.append((value, key))
        found.extend(places(inner))
    return found


def test_the_unbroken_examples_are_accepted() -> None:
    for parse, example in GOOD:
        parse(example)


@given(json)
def test_any_json_is_parsed_or_refused(value: object) -> None:
    for parse, _ in GOOD:
        with contextlib.suppress(OrtcError):
            parse(value)


@settings(max_examples=400)
@given(st.sampled_from(GOOD), st.data())
def test_one_wrong_place_is_parsed_or_refused(
    example: tuple[Callable[[object], object], dict[str, Any]], data: st.DataObject
) -> None:
    """Deep inside an otherwise good object, where random JSON never gets."""
    parse, good = example
    value = copy.deepcopy(good)
    container, key = data.draw(st.sampled_from(places(value)))
    if data.draw(st.booleans()):
        container[key] = data.draw(json)
    else:
        del container[key]
    with contextlib.suppress(OrtcError):
        parse(value)


def capabilities_of(codecs: list[dict[str, Any]], extensions: list[dict[str, Any]]) -> RtpCapabilities:
    return RtpCapabilities.model_validate({"codecs": codecs, "headerExtensions": extensions})


router = ortc.router_capabilities()
native_pts = st.permutations(range(96, 126))


@given(
    native_pts, st.sets(st.sampled_from(range(len(router["headerExtensions"])))), st.sampled_from(["audio", "video"])
)
def test_a_foreign_client_publishes_and_consumes(pts: list[int], extensions: set[int], kind: ortc.Kind) -> None:
    """pymediasoup's own algorithm (the same as mediasoup-client's) between our two ends.

    Whatever payload types and extension subset the client has natively, what it would send parses,
    and what we then tell it to receive passes its own checks. [ORTC traps 1, 2, 3]
    """
    codecs = copy.deepcopy(router["codecs"])
    own = {codec["preferredPayloadType"]: pt for codec, pt in zip(codecs, pts, strict=False)}
    for codec in codecs:
        codec["preferredPayloadType"] = own[codec["preferredPayloadType"]]
        if "apt" in codec["parameters"]:
            codec["parameters"]["apt"] = own[codec["parameters"]["apt"]]
    native = capabilities_of(codecs, [router["headerExtensions"][index] for index in sorted(extensions)])
    ours = RtpCapabilities.model_validate(ortc.router_capabilities())
    foreign.validateAndNormalizeRtpCapabilities(ours)
    extended = foreign.getExtendedRtpCapabilities(native, ours)

    sending = foreign.getSendingRtpParameters(kind, extended)
    sending.codecs = foreign.reduceCodecs(sending.codecs, None)
    sent = sending.model_dump(exclude_none=True) | {"encodings": [{"ssrc": 7}], "rtcp": {"cname": "x"}}
    producer = ortc.parse_producer(kind, sent)
    assert producer.payload_type == sending.codecs[0].payloadType
    assert (producer.rtx_payload_type is None) == (kind == "audio")

    receiving = foreign.getRecvRtpCapabilities(extended)
    viewer = ortc.parse_capabilities(receiving.model_dump(exclude_none=True))
    consumer = ortc.consumer_parameters(producer, viewer, 11, 12, "0", "c-x")
    told = RtpParameters.model_validate(consumer.rtp_parameters)
    foreign.validateAndNormalizeRtpParameters(told)
    assert foreign.canReceive(told, extended)
