"""Scenario cameras and viewers agreed on with Janus by SDP."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from load_tests.peers import consults, sdp
from load_tests.peers.consults import Kept, Point
from load_tests.peers.janus import JanusApi, JanusFailed
from load_tests.peers.janus_room import NO_SUCH_FEED, JanusRooms, offer, streams
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


GOOD = Point(1, 1.0, 2.0, 0.0, 100.0, 5_400.0, 3.0, 0.5, 0.5, here=6, wanted=6)


def test_a_point_holds_only_when_everything_came_whole_and_says_nothing_when_the_generator_was_full() -> None:
    assert GOOD.held
    assert GOOD.valid
    for name, value, passed in (
        ("forward_p99_ms", 51.0, "late"), ("forward_p99_ms", float("inf"), "late"), ("lost_share", 0.002, "lost"),
        ("here", 5, "nothing"), ("viewer_kbps", 4_500.0, "thin"),
    ):  # fmt: skip
        assert replace(GOOD, **{name: value}).passed == [passed]
    assert not replace(GOOD, generator_share=0.95).valid


def test_points_are_kept_for_whoever_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "points.json"
    Kept(place).put("consilium", GOOD)
    began = Kept(place)
    began.put("consilium", replace(GOOD, rooms=2, forward_p99_ms=float("inf")))
    again = Kept(place)
    assert again.get("consilium", 1) == GOOD
    late = again.get("consilium", 2)
    assert late is not None
    assert late.passed == ["late"]
    assert again.get("janus_best", 1) is None
    assert Kept(None).get("consilium", 1) is None


async def test_a_relay_is_added_to_until_it_failed_twice_and_what_is_kept_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, int]] = []

    async def one_point(name: str, _side: Any, rooms: int) -> Point:
        asked.append((name, rooms))
        if name == "janus_default" and rooms == 2:
            raise JanusFailed("janus did not come up")
        late = (name == "janus_best" and rooms == 4) or asked == [("consilium", 1)]
        return replace(GOOD, rooms=rooms, forward_p99_ms=60.0 if late else 2.0)

    monkeypatch.setattr(consults, "one_point", one_point)
    monkeypatch.setattr(consults.namespaces, "relay_side", lambda _core: nullcontext())
    for measured in (11, 2):
        asked.clear()
        await consults.compare(0, [1, 2, 4], Kept(tmp_path / "points.json"))
        assert len(asked) == measured
        last = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (last["value"], last["against"]) == (4, {"janus_best": 2.0, "janus_default": 1.0})
        assert [last["params"][f"{name}_ended_by"] for name in consults.RELAYS] == ["rooms", "late", "up"]


class Behind:
    """The far end of Janus's socket: whoever asks for a feed is refused ``refusals`` times with ``code``."""

    def __init__(self, place: Path, code: int, refusals: int) -> None:
        self.code, self.refusals, self.asked = code, refusals, 0
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening.setblocking(False)
        self.listening.bind(str(place))
        self.listening.listen()

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        client, _ = await loop.sock_accept(self.listening)
        client.setblocking(False)
        with client:
            while said := await loop.sock_recv(client, 65_536):
                asked = json.loads(said)
                answer = {"transaction": asked["transaction"], **self.answer(asked)}
                await loop.sock_sendall(client, json.dumps(answer).encode())

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["janus"] == "create":
            return {"janus": "success", "data": {"id": 7}}
        self.asked += 1
        if self.asked <= self.refusals:
            refused = {"error_code": self.code, "error": "No such feed (1)"}
            return {"janus": "event", "plugindata": {"data": refused}}
        return {"janus": "event", "plugindata": {"data": {}}, "jsep": {"sdp": OFFERED}}


@pytest.mark.parametrize(("code", "asked"), [(NO_SUCH_FEED, 3), (421, 1)])
async def test_a_feed_that_is_not_there_yet_is_asked_for_again_and_nothing_else_is(
    tmp_path: Path, code: int, asked: int
) -> None:
    behind = Behind(tmp_path / "api", code, 2)
    serving = asyncio.create_task(behind.serve())
    poller: Any = None
    rooms = JanusRooms(poller, "janus_best", 1)
    rooms._api = JanusApi()
    try:
        await rooms._api.open(tmp_path / "api")
        if code == NO_SUCH_FEED:
            assert await rooms._subscribe(1, {"request": "join"}) == OFFERED
        else:
            with pytest.raises(JanusFailed, match="421"):
                await rooms._subscribe(1, {"request": "join"})
    finally:
        await rooms._api.close()
        behind.listening.close()
        await serving
    assert behind.asked == asked
