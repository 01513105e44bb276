"""Scenario cameras and viewers agreed on with Janus by SDP."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from load_tests.peers import sdp
from load_tests.peers.consults import Point
from load_tests.peers.janus_room import offer, streams
from load_tests.plan.behaviour import CAMERAS
from media.core import ortc

PEER: Any = SimpleNamespace(address=("10.0.0.1", 4000), ufrag="u", password="p", fingerprint="AA:BB")

OFFERED = """v=0\r
m=audio 9 UDP/TLS/RTP/SAVPF 111\r
a=mid:0\r
a=sendonly\r
a=rtpmap:111 opus/48000/2\r
a=ssrc:11 cname:janus\r
a=ssrc:11 msid:janus janus0\r
m=video 9 UDP/TLS/RTP/SAVPF 96 97\r
a=mid:1\r
a=rtpmap:96 VP8/90000\r
a=rtpmap:97 rtx/90000\r
a=ssrc-group:FID 21 22\r
a=ssrc:21 cname:janus\r
a=ssrc:22 cname:janus\r
m=video 0 UDP/TLS/RTP/SAVPF 96\r
a=mid:2\r
a=inactive\r
"""


def test_what_a_relay_will_send_is_told_as_consume_tells_it() -> None:
    sound, picture = [one.made() for one in streams(OFFERED)]
    assert (sound["kind"], sound["consumer"]) == ("audio", "0")
    assert sound["rtp_parameters"] == {"encodings": [{"ssrc": 11}], "codecs": [{"clockRate": 48_000}]}
    assert picture["rtp_parameters"] == {
        "encodings": [{"ssrc": 21, "rtx": {"ssrc": 22}}], "codecs": [{"clockRate": 90_000}],
    }  # fmt: skip


def test_a_camera_offers_its_layers_largest_first_and_the_extensions_that_its_packets_have() -> None:
    text = offer(PEER, CAMERAS["720p"])
    lines = text.split("\r\n")
    assert "a=simulcast:send r2;r1;r0" in lines
    for uri in (ortc.MID_URI, ortc.RID_URI, ortc.REPAIRED_RID_URI, ortc.TRANSPORT_CC_URI):
        assert f"a=extmap:{ortc.EXTENSION_IDS[uri]} {uri}" in lines
    read = sdp.parse(text)
    assert [(one.kind, one.mid) for one in read.sections] == [("video", "0"), ("audio", "1")]
    assert read.remote.address == ("10.0.0.1", 4000)


def test_a_point_holds_only_when_everything_came_and_says_nothing_when_the_generator_was_full() -> None:
    good = Point(1, 1.0, 2.0, 0.0, 100.0, 100.0, 3.0, 0.5, 0.5, here=6, wanted=6)
    assert good.held
    assert good.valid
    for name, value in (("forward_p99_ms", 51.0), ("lost_share", 0.002), ("here", 5), ("forward_p99_ms", float("inf"))):
        assert not Point(**{**{f: getattr(good, f) for f in good.__slots__}, name: value}).held
    full = {f: getattr(good, f) for f in good.__slots__} | {"generator_share": 0.95}
    assert not Point(**full).valid
