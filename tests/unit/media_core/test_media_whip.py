"""WHIP offers as encoders write them, the answers to them, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from aiortc.sdp import SessionDescription
from hypothesis import given, settings
from hypothesis import strategies as st

from media.core import ortc, ortc_transport, sdp, whip

VECTORS = Path(__file__).parents[2] / "vectors" / "whip"
OFFERS = {file.stem: file.read_text() for file in VECTORS.glob("*.sdp")}
TRANSPORT: dict[str, Any] = {
    "ice_parameters": ortc_transport.ice_parameters("ours1234", "w" * 24),
    "ice_candidates": [
        {"foundation": "host0", "priority": 9, "ip": "192.0.2.7", "port": 8441, "type": "host", "protocol": "udp"},
        {
            "foundation": "tcp0",
            "priority": 7,
            "ip": "192.0.2.7",
            "port": 8441,
            "type": "host",
            "protocol": "tcp",
            "tcpType": "passive",
        },
    ],
    "dtls_parameters": ortc_transport.dtls_parameters(":".join(["AB"] * 32)),
}


def answer_to(text: str) -> sdp.Description:
    return sdp.parse(whip.build_answer(whip.parse_offer(text), TRANSPORT, 7))


@pytest.mark.parametrize(
    ("name", "video", "encodings"),
    [
        ("chromium", "video/VP8", [{"ssrc": 1245287230, "rtx": {"ssrc": 3410498245}}]),
        ("chromium_simulcast", "video/VP8", [{"rid": "h"}, {"rid": "m"}, {"rid": "l"}]),
        ("obs", "video/H264", [{"ssrc": 2434890176}]),
        ("gstreamer", "video/VP8", [{"ssrc": 3154928477, "rtx": {"ssrc": 2099155343}}]),
    ],
)
def test_offers_of_encoders(name: str, video: str, encodings: list[dict[str, Any]]) -> None:
    """What they send becomes the parameters any other client would send, and the answer reads well elsewhere."""
    offer = whip.parse_offer(OFFERS[name])
    sources = {source.kind: source.rtp_parameters for source in offer.sources}
    assert sources["video"]["codecs"][0]["mimeType"] == video
    assert sources["video"]["encodings"] == encodings
    assert sources["audio"]["codecs"][0]["mimeType"] == "audio/opus"
    assert offer.dtls_parameters["role"] == "client"
    for kind, parameters in sources.items():
        ortc.parse_producer(kind, parameters)  # type: ignore[arg-type]

    text = whip.build_answer(offer, TRANSPORT, 7)
    foreign = SessionDescription.parse(text)
    assert [media.kind for media in foreign.media] == [source.kind for source in offer.sources]
    for media in foreign.media:
        assert media.direction == "recvonly"
        assert media.dtls is not None
        assert media.dtls.role == "server"
        assert [c.protocol for c in media.ice_candidates] == ["udp", "tcp"]
    assert "a=ice-lite" in text
    assert text.count("a=setup:passive") == 2


@pytest.mark.parametrize("offered", [True, False])
def test_long_header_extensions_are_allowed_to_who_offers_them(offered: bool) -> None:
    """RFC 8285 section 6: without it a browser sends no dependency descriptor, and its layers cannot be told apart."""
    lines = [line for line in OFFERS["chromium"].splitlines() if line != "a=extmap-allow-mixed"]
    if offered:
        lines.insert(lines.index("t=0 0") + 1, "a=extmap-allow-mixed")
    text = "\r\n".join(lines) + "\r\n"
    assert answer_to(text).has("extmap-allow-mixed") is offered


def test_the_publishers_own_numbers_are_kept() -> None:
    video = answer_to(OFFERS["chromium"]).sections[1]
    assert video.formats == ("96", "97")
    assert "4 urn:ietf:params:rtp-hdrext:sdes:mid" in set(video.values("extmap"))
    assert {"96 nack", "96 nack pli", "96 transport-cc"} <= set(video.values("rtcp-fb"))
    assert list(video.values("fmtp")) == ["97 apt=96"]


def test_simulcast_is_answered_by_the_same_rids() -> None:
    video = answer_to(OFFERS["chromium_simulcast"]).sections[1]
    assert video.value("simulcast") == "recv h;m;l"
    assert list(video.values("rid")) == ["h recv", "m recv", "l recv"]


def test_paused_and_alternative_layers_are_their_first() -> None:
    text = OFFERS["chromium_simulcast"].replace("send h;m;l", "send h,m;~l")
    source = whip.parse_offer(text).sources[1]
    assert source.rtp_parameters["encodings"] == [{"rid": "h"}, {"rid": "l"}]


def test_layers_as_a_group_of_ssrcs() -> None:
    text = OFFERS["obs"] + "a=ssrc-group:SIM 11 12 13\na=ssrc:11 cname:x\na=ssrc:12 cname:x\na=ssrc:13 cname:x\n"
    assert whip.parse_offer(text).sources[1].rtp_parameters["encodings"] == [{"ssrc": n} for n in (11, 12, 13)]


def test_what_is_not_wanted_is_declined_in_its_place() -> None:
    """A data channel and a section that only receives: port 0, in the order of the offer, out of the bundle."""
    data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:2\na=sctp-port:5000\n"
    deaf = OFFERS["obs"][OFFERS["obs"].index("m=video") :].replace("a=mid:1", "a=mid:3").replace("sendonly", "recvonly")
    answer = answer_to(OFFERS["obs"] + data + deaf)
    assert [section.port == 0 for section in answer.sections] == [False, False, True, True]
    assert answer.value("group") == "BUNDLE 0 1"


def test_a_publisher_that_is_the_dtls_server() -> None:
    offer = whip.parse_offer(OFFERS["obs"].replace("actpass", "passive"))
    assert (offer.dtls_parameters["role"], offer.setup) == ("server", "active")


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("v=0", "v=1", "bad_sdp"),
        ("a=mid:1\n", "", "bad_sdp"),
        ("a=mid:1\n", "a=mid:" + "x" * 17 + "\n", "bad_sdp"),
        ("a=setup:actpass\n", "", "bad_sdp"),
        ("a=setup:actpass", "a=setup:holdconn", "bad_sdp"),
        ("a=ice-ufrag:eJM5", "a=ice-ufrag:e", "bad_sdp"),
        ("a=ice-pwd:bmgdRJxVXZtCzDqRdyQKsT", "a=ice-pwd:short", "bad_sdp"),
        ("sha-256 2B:F1", "sha-1 2B:F1", "bad_sdp"),
        ("2B:F1", "2B:ZZ", "bad_sdp"),
        ("a=ssrc:2434890176 cname", "a=ssrc:99999999999 cname", "bad_sdp"),
        ("m=video 9", "m=video nine", "bad_sdp"),
        ("s=-", "s=\x07", "bad_sdp"),
        ("a=group:BUNDLE 0 1", "a=group:BUNDLE 0", "unsupported"),
        ("a=mid:1", "a=mid:0", "unsupported"),
        ("a=sendonly", "a=inactive", "unsupported"),
        ("a=rtcp-mux\n", "", "unsupported"),
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "unsupported"),
        ("opus/48000/2", "opus/48000", "unsupported"),
        ("H264/90000", "H265/90000", "unsupported"),
        ("packetization-mode=1", "packetization-mode=0", "unsupported"),
        ("H264/90000", "H264/90000\na=rid:1 send\na=simulcast:send 1;2", "bad_sdp"),
    ],
)
def test_refused(old: str, new: str, code: str) -> None:
    assert old in OFFERS["obs"]
    with pytest.raises(sdp.SdpError) as refused:
        whip.parse_offer(OFFERS["obs"].replace(old, new))
    assert refused.value.code == code


def test_two_pictures_at_once_are_refused() -> None:
    """RFC 9725 knows one of each; taking the first in silence would lose a picture unnoticed."""
    second = OFFERS["obs"][OFFERS["obs"].index("m=video") :].replace("a=mid:1", "a=mid:2")
    text = (OFFERS["obs"] + second).replace("BUNDLE 0 1", "BUNDLE 0 1 2")
    with pytest.raises(sdp.SdpError) as refused:
        whip.parse_offer(text)
    assert refused.value.code == "unsupported"


def test_bounds() -> None:
    for text in ("v=0\n" + "a=x\n" * sdp.MAX_LINES, "v=0\na=" + "x" * sdp.MAX_LINE_CHARS, "v=0\n" * sdp.MAX_CHARS):
        with pytest.raises(sdp.SdpError):
            sdp.parse(text)
    with pytest.raises(sdp.SdpError):
        sdp.parse("v=0\n" + "m=audio 9 RTP/AVP 0\n" * (sdp.MAX_SECTIONS + 1))


def test_fragments() -> None:
    fragment = whip.parse_fragment("a=ice-ufrag:abcd\r\na=ice-pwd:" + "p" * 22 + "\r\na=end-of-candidates\r\n")
    assert fragment == whip.Fragment("abcd", "p" * 22)
    built = whip.build_fragment(TRANSPORT["ice_parameters"], TRANSPORT["ice_candidates"])
    assert whip.parse_fragment(built) == whip.Fragment("ours1234", "w" * 24)
    with pytest.raises(sdp.SdpError):
        whip.parse_fragment("a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n")


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(OFFERS)),
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["drop", "double", "swap"])), max_size=6),
)
def test_lines_lost_doubled_or_moved(name: str, edits: list[tuple[int, str]]) -> None:
    """Such offers are refused with the one error, or answered with a description that reads well."""
    lines = OFFERS[name].splitlines()
    for at, edit in edits:
        at %= len(lines)
        if edit == "drop" and len(lines) > 1:
            del lines[at]
        elif edit == "double":
            lines.insert(at, lines[at])
        else:
            lines[at - 1], lines[at] = lines[at], lines[at - 1]
    try:
        offer = whip.parse_offer("\n".join(lines))
    except sdp.SdpError:
        return
    answer = sdp.parse(whip.build_answer(offer, TRANSPORT, 1))
    assert len(answer.sections) == len(offer.sections)
