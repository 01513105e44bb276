"""ORTC parameters against the traps seen with real clients: "[ORTC trap n]" is the number in the notes."""

import copy
from typing import Any

import pytest

from media.core import ortc, ortc_transport
from media.core.codecs import Codec
from media.core.ortc import (
    ABS_CAPTURE_TIME_URI,
    ABS_SEND_TIME_URI,
    AUDIO_LEVEL_URI,
    DEPENDENCY_URI,
    MID_URI,
    PLAYOUT_DELAY_URI,
    REPAIRED_RID_URI,
    RID_URI,
    TRANSPORT_CC_URI,
    VIDEO_ORIENTATION_URI,
    Encoding,
    StreamMatch,
    match_stream,
)
from media.core.ortc_fields import OrtcError
from media.core.ortc_transport import DtlsParameters, SctpStream

Json = dict[str, Any]

FEEDBACK = [
    {"type": "goog-remb", "parameter": ""},
    {"type": "transport-cc"},
    {"type": "ccm", "parameter": "fir"},
    {"type": "nack", "parameter": ""},
    {"type": "nack", "parameter": "pli"},
]


def voice(*more: Json) -> Json:
    """What Chromium sends for a microphone."""
    opus = {"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}
    return {"codecs": [opus, *more], "encodings": [{"ssrc": 7}]}


def red(payload_type: int) -> Json:
    return {"mimeType": "audio/red", "payloadType": payload_type, "clockRate": 48000, "channels": 2}


def test_red_is_taken_from_those_who_name_it_and_never_offered_by_us() -> None:
    """Whoever loads the Router's capabilities promises to receive what they list; few can write RED's format line."""
    assert "audio/red" not in [entry["mimeType"] for entry in ortc.router_capabilities()["codecs"]]
    producer = ortc.parse_producer("audio", voice(red(63)))
    assert (producer.payload_type, producer.red_payload_type) == (111, 63)
    match = match_stream([("mic", producer)], 7, 63, None, None, None)
    assert match == StreamMatch("mic", 0, False)
    assert ortc.parse_producer("audio", voice()).red_payload_type is None
    with pytest.raises(OrtcError, match="shares the payload type"):
        ortc.parse_producer("audio", voice(red(111)))

    # A viewer under another payload type means something else than we would send.
    capabilities = ortc.router_capabilities()
    for payload_type, takes in ((ortc.RED_PAYLOAD_TYPE, True), (63, False)):
        named = {"mimeType": "audio/red", "preferredPayloadType": payload_type}
        viewer = ortc.parse_capabilities(capabilities | {"codecs": [*capabilities["codecs"], named]})
        assert ortc.consumer_parameters(producer, viewer, 8, 9, "0", "c").redundant is takes


def simulcast_video() -> Json:
    """What Chromium sends for three layers of VP8."""
    return {
        "mid": "0",
        "codecs": [
            {
                "mimeType": "video/VP8",
                "payloadType": 96,
                "clockRate": 90000,
                "parameters": {},
                "rtcpFeedback": copy.deepcopy(FEEDBACK),
            },
            {
                "mimeType": "video/rtx",
                "payloadType": 97,
                "clockRate": 90000,
                "parameters": {"apt": 96},
                "rtcpFeedback": [],
            },
        ],
        "headerExtensions": [
            {"uri": MID_URI, "id": 9, "encrypt": False, "parameters": {}},
            {"uri": RID_URI, "id": 10, "encrypt": False, "parameters": {}},
            {"uri": REPAIRED_RID_URI, "id": 11, "encrypt": False, "parameters": {}},
            {"uri": TRANSPORT_CC_URI, "id": 4, "encrypt": False, "parameters": {}},
            {"uri": "urn:example:unknown", "id": 12},
        ],
        "encodings": [
            {"active": True, "scaleResolutionDownBy": 4, "rid": "r0", "scalabilityMode": "L1T3", "dtx": False},
            {"active": True, "rid": "r1"},
            {"active": True, "rid": "r2"},
        ],
        "rtcp": {"cname": "", "reducedSize": True},
        "msid": "a b",
    }


def single_video(mid: str = "1") -> Json:
    """One stream that announces its SSRCs, as pymediasoup and Chromium without simulcast do."""
    parameters = simulcast_video()
    parameters["mid"] = mid
    parameters["encodings"] = [{"ssrc": 84294073, "rtx": {"ssrc": 3648524556}, "dtx": False}]
    parameters["rtcp"]["cname"] = "someone"
    return parameters


def opus() -> Json:
    return {
        "mid": "2",
        "codecs": [
            {
                "mimeType": "audio/opus",
                "payloadType": 111,
                "clockRate": 48000,
                "channels": 2,
                "parameters": {"minptime": 10},
                "rtcpFeedback": [{"type": "transport-cc", "parameter": ""}],
            }
        ],
        "headerExtensions": [{"uri": MID_URI, "id": 9}, {"uri": AUDIO_LEVEL_URI, "id": 1}],
        "encodings": [{"ssrc": 5}],
        "rtcp": {"cname": "someone"},
    }


def h264(profile: str = "42e01f", mode: int = 1) -> Json:
    parameters = single_video()
    parameters["codecs"][0]["mimeType"] = "video/H264"
    parameters["codecs"][0]["parameters"] = {"profile-level-id": profile, "packetization-mode": mode}
    return parameters


def viewer(*, pts: tuple[int, ...] = (100, 101, 102, 103, 104), ext_kind: str | None = None) -> Json:
    """rtpCapabilities of a browser that takes all the Router has."""
    caps = ortc.router_capabilities()
    caps["codecs"] = [codec for codec in caps["codecs"] if codec["preferredPayloadType"] in pts]
    if ext_kind is not None:
        once = {ext["uri"]: ext | {"kind": ext_kind} for ext in caps["headerExtensions"]}
        caps["headerExtensions"] = list(once.values())
    return caps


def consume(parameters: Json, capabilities: Json, kind: ortc.Kind = "video") -> ortc.ConsumerParameters:
    producer = ortc.parse_producer(kind, parameters)
    return ortc.consumer_parameters(producer, ortc.parse_capabilities(capabilities), 1111, 2222, "0", "c-anna")


# ---------------------------------------------------------------- router


def test_router_says_all_that_load_needs() -> None:
    """[ORTC trap 1] preferredPayloadType, numeric apt and the extension's kind are mandatory."""
    caps = ortc.router_capabilities()
    assert [(codec["mimeType"], codec["preferredPayloadType"]) for codec in caps["codecs"]] == [
        ("audio/opus", 100),
        ("video/VP8", 101),
        ("video/rtx", 102),
        ("video/H264", 103),
        ("video/rtx", 104),
        ("video/VP9", 105),
        ("video/rtx", 106),
        ("video/AV1", 107),
        ("video/rtx", 108),
    ]
    assert [codec["parameters"].get("apt") for codec in caps["codecs"]] == [
        None,
        None,
        101,
        None,
        103,
        None,
        105,
        None,
        107,
    ]
    assert caps["codecs"][3]["parameters"] == {
        "level-asymmetry-allowed": 1,
        "packetization-mode": 1,
        "profile-level-id": "42e01f",
    }
    assert {ext["kind"] for ext in caps["headerExtensions"]} == {"audio", "video"}


def test_router_extensions_and_directions() -> None:
    """[ORTC traps 3, 5] One id per URI; mid and both rids offered, to be received only."""
    table = {
        (ext["kind"], ext["uri"]): (ext["preferredId"], ext["direction"])
        for ext in ortc.router_capabilities()["headerExtensions"]
    }
    both = {
        MID_URI: (1, "recvonly"),
        TRANSPORT_CC_URI: (5, "sendrecv"),
        ABS_SEND_TIME_URI: (4, "sendrecv"),
        ABS_CAPTURE_TIME_URI: (13, "recvonly"),
    }
    video = {
        RID_URI: (2, "recvonly"),
        REPAIRED_RID_URI: (3, "recvonly"),
        VIDEO_ORIENTATION_URI: (11, "sendrecv"),
        PLAYOUT_DELAY_URI: (14, "sendrecv"),
        DEPENDENCY_URI: (8, "sendrecv"),
    }
    expected = {("audio", uri): entry for uri, entry in both.items()} | {("audio", AUDIO_LEVEL_URI): (10, "sendrecv")}
    expected |= {("video", uri): entry for uri, entry in (both | video).items()}
    assert table == expected


def test_capture_time_never_reaches_a_viewer() -> None:
    """It is on the publisher's clock and our sender reports are on ours: passed on it would be a wrong time."""
    for parameters, kind in ((opus(), "audio"), (simulcast_video(), "video")):
        assert ABS_CAPTURE_TIME_URI not in consume(parameters, viewer(), kind).extension_ids  # type: ignore[arg-type]


def test_router_avoids_the_probators_numbers() -> None:
    """[ORTC trap 13] PT 127 and SSRC 1234 belong to a section the client makes by itself."""
    assert 127 not in {codec["preferredPayloadType"] for codec in ortc.router_capabilities()["codecs"]}
    producer = ortc.parse_producer("video", single_video())
    with pytest.raises(AssertionError):
        ortc.consumer_parameters(producer, ortc.parse_capabilities(viewer()), 1234, 2, "0", "c")
    with pytest.raises(AssertionError):
        ortc.consumer_parameters(producer, ortc.parse_capabilities(viewer()), 1, 2, "probator", "c")


def test_each_client_gets_its_own_copy() -> None:
    ortc.router_capabilities()["codecs"].clear()
    assert len(ortc.router_capabilities()["codecs"]) == 9


# ---------------------------------------------------------------- publishers


def test_simulcast_publisher() -> None:
    """[ORTC trap 7] Its cname is empty; the caller names the publisher."""
    producer = ortc.parse_producer("video", simulcast_video())
    assert (producer.codec, producer.payload_type, producer.rtx_payload_type) == (Codec.VP8, 96, 97)
    assert (producer.mid, producer.cname, producer.simulcast) == ("0", "", True)
    assert producer.encodings == (Encoding(rid="r0"), Encoding(rid="r1"), Encoding(rid="r2"))
    assert dict(producer.extension_ids) == {MID_URI: 9, RID_URI: 10, REPAIRED_RID_URI: 11, TRANSPORT_CC_URI: 4}
    feedback = producer.feedback
    assert (feedback.transport_cc, feedback.remb, feedback.nack, feedback.pli, feedback.fir) == (True,) * 5


def test_pymediasoup_publisher() -> None:
    """[ORTC trap 25] SSRC and rtx in the encoding, nulls everywhere, no fir and no transport-cc."""
    parameters = single_video()
    parameters["codecs"][0]["rtcpFeedback"] = [
        {"type": "nack", "parameter": ""},
        {"type": "nack", "parameter": "pli"},
        {"type": "goog-remb", "parameter": ""},
    ]
    parameters["headerExtensions"] = [{"uri": MID_URI, "id": 1}, {"uri": ABS_SEND_TIME_URI, "id": 2}]
    parameters["encodings"][0] |= {"rid": None, "maxBitrate": None}
    parameters |= {"msid": None}
    producer = ortc.parse_producer("video", parameters)
    assert producer.encodings == (Encoding(ssrc=84294073, rtx_ssrc=3648524556),)
    assert not producer.simulcast
    feedback = producer.feedback
    assert (feedback.transport_cc, feedback.fir, feedback.remb, feedback.nack) == (False, False, True, True)


def test_opus_nack_is_what_the_client_says() -> None:
    """[ORTC trap 4] Stripped by clients with codecOptions; never assume it."""
    parameters = opus()
    assert not ortc.parse_producer("audio", parameters).feedback.nack
    parameters["codecs"][0]["rtcpFeedback"].append({"type": "nack"})
    assert ortc.parse_producer("audio", parameters).feedback.nack


def test_recycled_section_has_no_transport_cc() -> None:
    """[ORTC trap 9] mid, twcc and abs-send-time are gone after audio, video, audio, video again; rid is left."""
    parameters = simulcast_video()
    parameters["headerExtensions"] = [{"uri": RID_URI, "id": 10}, {"uri": REPAIRED_RID_URI, "id": 11}]
    producer = ortc.parse_producer("video", parameters)
    assert not producer.feedback.transport_cc
    assert producer.feedback.remb


@pytest.mark.parametrize("profile", ["42e01f", "42c00a", "42E034", "4d8028", "58c01f"])
def test_constrained_baseline_in_all_spellings(profile: str) -> None:
    """RFC 6184 section 8.1, table 5."""
    assert ortc.parse_producer("video", h264(profile)).codec is Codec.H264


@pytest.mark.parametrize(("profile", "mode"), [("42e01f", 0), ("640032", 1), ("42001f", 1), ("42e0", 1), ("zzzzzz", 1)])
def test_other_h264_is_refused(profile: str, mode: int) -> None:
    with pytest.raises(OrtcError):
        ortc.parse_producer("video", h264(profile, mode))


def broken(change: str, value: object) -> Json:
    """``single_video`` with one place changed; a path like ``codecs.0.payloadType``."""
    parameters = single_video()
    place: Any = parameters
    *way, last = change.split(".")
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[int(last) if last.isdigit() else last] = value
    return parameters


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("codecs", []),
        ("codecs", None),
        ("codecs", [7]),
        ("codecs.0.mimeType", "video/H265"),
        ("codecs.0.mimeType", "audio/opus"),
        ("codecs.0.clockRate", 48000),
        ("codecs.0.payloadType", 128),
        ("codecs.0.payloadType", True),
        ("codecs.0.payloadType", 72),  # would read as RTCP (RFC 5761)
        ("codecs.0.rtcpFeedback", [{}]),
        ("codecs.1.payloadType", 96),
        ("codecs.1.parameters", {"apt": "96"}),
        ("mid", 5),
        ("mid", "x" * 17),
        ("headerExtensions", {}),
        ("headerExtensions", [{"uri": MID_URI, "id": 0}]),
        ("headerExtensions", [{"uri": MID_URI, "id": 1, "encrypt": True}]),
        ("headerExtensions", [{"uri": MID_URI, "id": 1}, {"uri": RID_URI, "id": 1}]),
        ("headerExtensions", [{"uri": f"urn:{n}", "id": 1} for n in range(200)]),
        ("encodings", [{}, {}]),
        ("encodings", [{"ssrc": 1}, {"ssrc": 1}]),
        ("encodings", [{"rid": "a"}, {"rid": "a"}]),
        ("encodings", [{"ssrc": 1, "rtx": {"ssrc": 1}}]),
        ("encodings", [{"rtx": {"ssrc": 1}}]),
        ("encodings", [{"ssrc": n} for n in range(5)]),
        ("encodings", [{"ssrc": 1 << 32}]),
        ("encodings", [{"ssrc": 1.5}]),
        ("encodings", [{"ssrc": 1, "rtx": {}}]),
        ("rtcp", []),
        ("rtcp", {"cname": 5}),
    ],
)
def test_a_wrong_field_is_refused_with_the_stable_code(change: str, value: object) -> None:
    with pytest.raises(OrtcError) as caught:
        ortc.parse_producer("video", broken(change, value))
    assert caught.value.code == "bad_parameters"
    assert caught.value.reason


def test_simulcast_without_the_rid_extension_is_refused() -> None:
    """[ORTC trap 5] Its packets could not be told apart."""
    parameters = simulcast_video()
    parameters["headerExtensions"] = [{"uri": MID_URI, "id": 9}]
    with pytest.raises(OrtcError):
        ortc.parse_producer("video", parameters)


def test_a_stream_nothing_can_tell_is_refused() -> None:
    """[ORTC trap 5] Single streams work by SSRC, or by mid; not by neither."""
    parameters = single_video()
    parameters["encodings"] = [{}]
    assert ortc.parse_producer("video", parameters).encodings == (Encoding(),)
    parameters["headerExtensions"] = []
    with pytest.raises(OrtcError):
        ortc.parse_producer("video", parameters)


# ---------------------------------------------------------------- which stream a packet is


def without_mid(parameters: Json) -> Json:
    parameters["headerExtensions"] = [ext for ext in parameters["headerExtensions"] if ext["uri"] != MID_URI]
    return parameters


def producers(**parameters: Json) -> list[tuple[str, ortc.ProducerParameters]]:
    return [(name, ortc.parse_producer("video", value)) for name, value in parameters.items()]


def test_announced_ssrcs_need_no_names() -> None:
    known = producers(cam=single_video())
    assert match_stream(known, 84294073, 96, None, None, None) == StreamMatch("cam", 0, False)
    assert match_stream(known, 3648524556, 97, None, None, None) == StreamMatch("cam", 0, True)
    assert match_stream(known, 84294073, 97, None, None, None) is None  # a media SSRC with rtx's payload type
    assert match_stream(known, 5, 96, None, None, None) is None


def test_layers_are_told_by_mid_first() -> None:
    """[ORTC trap 8] Two cameras of one client: both name their layers r0, r1, r2 and share payload types."""
    second = simulcast_video() | {"mid": "3"}
    known = producers(cam=simulcast_video(), screen=second)
    assert match_stream(known, 1, 96, "3", "r1", None) == StreamMatch("screen", 1, False)
    assert match_stream(known, 2, 97, "0", None, "r2") == StreamMatch("cam", 2, True)
    assert match_stream(known, 3, 96, "0", None, None) is None
    assert match_stream(known, 3, 96, "0", "r7", None) is None
    assert match_stream(known, 3, 96, "9", "r0", None) is None


def test_without_mid_only_a_producer_that_has_none_fits() -> None:
    """[ORTC trap 9] The recycled section is found by rid and payload type, if only one fits."""
    recycled = without_mid(simulcast_video() | {"mid": "1"})
    known = producers(cam=simulcast_video(), again=recycled)
    assert match_stream(known, 1, 96, None, "r1", None) == StreamMatch("again", 1, False)
    assert match_stream(known, 1, 97, None, None, "r1") == StreamMatch("again", 1, True)
    assert match_stream(known, 1, 96, None, None, None) is None
    twice = producers(one=recycled, two=recycled | {"mid": "4"})
    assert match_stream(twice, 1, 96, None, "r1", None) is None


def test_packets_before_produce_and_after_close_match_nothing() -> None:
    """[ORTC traps 6, 10] RTP comes before its Producer is registered, and after it is closed."""
    assert match_stream(producers(), 1, 96, "0", "r0", None) is None


# ---------------------------------------------------------------- viewers


def test_consumer_of_a_simulcast_video() -> None:
    """[ORTC traps 1, 12] The Router's payload type comes first; one SSRC; a cname."""
    result = consume(simulcast_video(), viewer())
    assert result.rtp_parameters == {
        "mid": "0",
        "codecs": [
            {
                "mimeType": "video/VP8",
                "payloadType": 101,
                "clockRate": 90000,
                "parameters": {},
                "rtcpFeedback": [
                    {"type": "nack", "parameter": ""},
                    {"type": "nack", "parameter": "pli"},
                    {"type": "ccm", "parameter": "fir"},
                    {"type": "goog-remb", "parameter": ""},
                    {"type": "transport-cc", "parameter": ""},
                ],
            },
            {
                "mimeType": "video/rtx",
                "payloadType": 102,
                "clockRate": 90000,
                "parameters": {"apt": 101},
                "rtcpFeedback": [],
            },
        ],
        "headerExtensions": [
            {"uri": uri, "id": identifier, "encrypt": False, "parameters": {}}
            for uri, identifier in (
                (ABS_SEND_TIME_URI, 4),
                (TRANSPORT_CC_URI, 5),
                (VIDEO_ORIENTATION_URI, 11),
                (PLAYOUT_DELAY_URI, 14),
            )
        ],
        "encodings": [{"ssrc": 1111, "rtx": {"ssrc": 2222}}],
        "rtcp": {"cname": "c-anna", "reducedSize": True},
    }
    assert (result.payload_type, result.rtx_payload_type) == (101, 102)


def test_consumer_of_opus() -> None:
    """No rtx, so no NACK is offered; channels are mandatory for opus."""
    result = consume(opus(), viewer(), "audio")
    (codec,) = result.rtp_parameters["codecs"]
    assert (codec["payloadType"], codec["channels"], codec["rtcpFeedback"]) == (
        100,
        2,
        [{"type": "transport-cc", "parameter": ""}],
    )
    assert result.rtp_parameters["encodings"] == [{"ssrc": 1111}]
    assert result.rtx_payload_type is None
    assert result.extension_ids == {ABS_SEND_TIME_URI: 4, TRANSPORT_CC_URI: 5, AUDIO_LEVEL_URI: 10}


def test_consumer_of_h264() -> None:
    result = consume(h264(), viewer())
    assert [codec["payloadType"] for codec in result.rtp_parameters["codecs"]] == [103, 104]
    assert result.rtp_parameters["codecs"][0]["parameters"]["profile-level-id"] == "42e01f"


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_shared_extensions_are_taken_whatever_kind_the_viewer_lists(kind: str) -> None:
    """[ORTC trap 2] A shared id is listed once, with the last section's kind."""
    result = consume(opus(), viewer(ext_kind=kind), "audio")
    assert result.extension_ids == {ABS_SEND_TIME_URI: 4, TRANSPORT_CC_URI: 5, AUDIO_LEVEL_URI: 10}


def test_extensions_under_another_id_are_left_out() -> None:
    """[ORTC traps 2, 3] URI and id together; a second id would collide in the browser."""
    caps = viewer()
    caps["headerExtensions"] = [{"kind": "video", "uri": ABS_SEND_TIME_URI, "preferredId": 7}]
    assert consume(simulcast_video(), caps).extension_ids == {}


def test_extension_ids_never_differ_between_consumers() -> None:
    """[ORTC trap 3] Chromium rejects a collision in one transport."""
    ids: dict[str, int] = {}
    for parameters, kind in ((opus(), "audio"), (simulcast_video(), "video"), (h264(), "video")):
        for uri, identifier in consume(parameters, viewer(), kind).extension_ids.items():  # type: ignore[arg-type]
            assert ids.setdefault(uri, identifier) == identifier
    assert len(set(ids.values())) == len(ids)


def test_a_viewer_without_rtx_gets_none() -> None:
    result = consume(simulcast_video(), viewer(pts=(100, 101)))
    assert result.rtx_payload_type is None
    assert result.rtp_parameters["encodings"] == [{"ssrc": 1111}]
    assert len(result.rtp_parameters["codecs"]) == 1


def test_a_viewer_that_cannot_decode_is_refused() -> None:
    producer = ortc.parse_producer("video", h264())
    caps = ortc.parse_capabilities(viewer(pts=(100, 101, 102)))
    assert not ortc.can_consume(producer, caps)
    with pytest.raises(OrtcError):
        ortc.consumer_parameters(producer, caps, 1, 2, "0", "c")


def test_another_payload_type_for_our_codec_is_no_match() -> None:
    """[ORTC trap 1] consume() throws unless the payload type is the Router's."""
    caps = viewer()
    caps["codecs"][1]["preferredPayloadType"] = 96
    assert not ortc.can_consume(ortc.parse_producer("video", single_video()), ortc.parse_capabilities(caps))


def test_feedback_is_what_both_know() -> None:
    """[ORTC trap 25] pymediasoup knows no ccm fir."""
    caps = viewer()
    caps["codecs"][1]["rtcpFeedback"] = [{"type": "nack"}, {"type": "nack", "parameter": "pli"}, {"type": "goog-remb"}]
    (media, _) = consume(simulcast_video(), caps).rtp_parameters["codecs"]
    assert [(entry["type"], entry["parameter"]) for entry in media["rtcpFeedback"]] == [
        ("nack", ""),
        ("nack", "pli"),
        ("goog-remb", ""),
    ]


def test_cname_is_never_empty() -> None:
    """[ORTC trap 12] Without it two videos play nothing."""
    producer = ortc.parse_producer("video", simulcast_video())
    with pytest.raises(AssertionError):
        ortc.consumer_parameters(producer, ortc.parse_capabilities(viewer()), 1, 2, "0", "")


def test_mids_count_up() -> None:
    """[ORTC trap 11] Duplicates throw; a counter never repeats."""
    assert [ortc.consumer_mid(n) for n in (0, 1, 10)] == ["0", "1", "10"]


@pytest.mark.parametrize(
    "caps",
    [
        None,
        [],
        {"codecs": 5},
        {"codecs": [{}]},
        {"codecs": [{"mimeType": "video/VP8", "preferredPayloadType": "101"}]},
        {"headerExtensions": [{"uri": MID_URI}]},
    ],
)
def test_broken_capabilities_are_refused(caps: object) -> None:
    with pytest.raises(OrtcError):
        ortc.parse_capabilities(caps)


# ---------------------------------------------------------------- transports

FINGERPRINT = ":".join(["E0", "0D"] * 16)


@pytest.mark.parametrize(
    ("role", "ours"), [("auto", "server"), ("client", "server"), ("server", "client"), (None, "server")]
)
def test_we_take_the_other_dtls_role(role: str | None, ours: str) -> None:
    """[ORTC traps 16, 17] Browsers are client; pymediasoup's send Transport is always server."""
    value: Json = {
        "fingerprints": [{"algorithm": "sha-1", "value": "00"}, {"algorithm": "SHA-256", "value": FINGERPRINT.lower()}]
    }
    if role is not None:
        value["role"] = role
    assert ortc_transport.parse_dtls(value) == DtlsParameters(ours, "sha-256", FINGERPRINT)  # type: ignore[arg-type]


def test_a_client_with_only_a_longer_hash_is_taken() -> None:
    """[ORTC trap 25] pymediasoup gives sha-512 alone; of several, sha-256 is what we check."""
    long = {"algorithm": "sha-512", "value": ":".join(["0A"] * 64)}
    short = {"algorithm": "sha-256", "value": FINGERPRINT}
    assert ortc_transport.parse_dtls({"fingerprints": [long]}).algorithm == "sha-512"
    assert ortc_transport.parse_dtls({"fingerprints": [long, short]}).algorithm == "sha-256"


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"fingerprints": []},
        {"fingerprints": [{"algorithm": "sha-1", "value": FINGERPRINT}]},
        {"fingerprints": [{"algorithm": "sha-512", "value": FINGERPRINT}]},
        {"fingerprints": [{"algorithm": "sha-256", "value": FINGERPRINT[:-3]}]},
        {"fingerprints": [{"algorithm": "sha-256", "value": FINGERPRINT.replace("E0", "G0")}]},
        {"role": "actpass", "fingerprints": [{"algorithm": "sha-256", "value": FINGERPRINT}]},
        {"role": ["client"], "fingerprints": [{"algorithm": "sha-256", "value": FINGERPRINT}]},
    ],
)
def test_broken_dtls_parameters_are_refused(value: object) -> None:
    with pytest.raises(OrtcError):
        ortc_transport.parse_dtls(value)


def test_transport_options() -> None:
    """[ORTC traps 16, 18, 20, 24] Role auto, lite, ip and address, both clients' SCTP words."""
    options = ortc_transport.transport_options(
        "t1",
        "ufrag",
        "pwd",
        ortc_transport.ice_candidates(["192.0.2.7", "2001:db8::1", "127.0.0.1"], 7100),
        FINGERPRINT,
    )
    assert options["id"] == "t1"
    assert options["ice_parameters"] == {"usernameFragment": "ufrag", "password": "pwd", "iceLite": True}
    assert options["dtls_parameters"] == {
        "role": "auto",
        "fingerprints": [{"algorithm": "sha-256", "value": FINGERPRINT}],
    }
    assert options["sctp_parameters"] == {
        "port": 5000,
        "OS": 1024,
        "MIS": 1024,
        "maxMessageSize": 262144,
        "maxSendMessageSize": 262144,
        "maxReceiveMessageSize": 262144,
    }
    candidates = options["ice_candidates"]
    assert candidates[0] == {
        "foundation": "udp0",
        "priority": 2130706431,
        "ip": "192.0.2.7",
        "address": "192.0.2.7",
        "protocol": "udp",
        "port": 7100,
        "type": "host",
    }
    assert candidates[3] == {
        "foundation": "tcp0",
        "priority": 1520435199,
        "ip": "192.0.2.7",
        "address": "192.0.2.7",
        "protocol": "tcp",
        "tcpType": "passive",
        "port": 7100,
        "type": "host",
    }
    assert [candidate["ip"] for candidate in candidates] == ["192.0.2.7", "2001:db8::1", "127.0.0.1"] * 2
    priorities = [candidate["priority"] for candidate in candidates]
    assert priorities == sorted(set(priorities), reverse=True)
    assert len({candidate["foundation"] for candidate in candidates}) == 6


def test_only_what_is_listened_on_is_announced() -> None:
    for protocol in ortc_transport.PROTOCOLS:
        candidates = ortc_transport.ice_candidates(["192.0.2.7"], 7100, [protocol])
        assert [candidate["protocol"] for candidate in candidates] == [protocol]


def test_a_candidate_must_be_an_address() -> None:
    with pytest.raises(ValueError):
        ortc_transport.ice_candidates(["localhost"], 7100)


# ---------------------------------------------------------------- data


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"streamId": 0, "ordered": True}, SctpStream(0, True, None, None)),
        ({"streamId": 3}, SctpStream(3, True, None, None)),
        ({"streamId": 0, "ordered": False, "maxRetransmits": 0}, SctpStream(0, False, 0, None)),
        ({"streamId": 65534, "maxPacketLifeTime": 500}, SctpStream(65534, False, None, 500)),
        # pymediasoup's default beside a limit of 0, which it takes for none
        ({"streamId": 1, "ordered": True, "maxRetransmits": 0}, SctpStream(1, False, 0, None)),
        ({"streamId": 1, "ordered": False, "maxRetransmits": None}, SctpStream(1, False, None, None)),
    ],
)
def test_data_channel_parameters(value: Json, expected: SctpStream) -> None:
    """[ORTC traps 21, 25] No parity of ids; a limit makes it unordered."""
    assert ortc_transport.parse_sctp_stream(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"streamId": 65535},
        {"streamId": -1},
        {"streamId": 0, "ordered": 1},
        {"streamId": 0, "maxRetransmits": 1, "maxPacketLifeTime": 1},
        {"streamId": 0, "maxRetransmits": 65536},
        {"streamId": 0, "maxRetransmits": "0"},
    ],
)
def test_broken_data_channel_parameters_are_refused(value: object) -> None:
    with pytest.raises(OrtcError):
        ortc_transport.parse_sctp_stream(value)


def test_data_channel_goes_on_under_a_number_of_the_viewers_transport() -> None:
    """[ORTC trap 21] The relay numbers each receiving Transport from 0."""
    stream = ortc_transport.parse_sctp_stream({"streamId": 7, "ordered": False, "maxRetransmits": 0})
    assert stream.renumbered(0).parameters() == {"streamId": 0, "ordered": False, "maxRetransmits": 0}
    reliable = ortc_transport.parse_sctp_stream({"streamId": 7})
    assert reliable.parameters() == {"streamId": 7, "ordered": True}
