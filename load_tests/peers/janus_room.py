"""A scenario's cameras and viewers in rooms of Janus VideoRoom: their Transports agreed by SDP instead of ORTC.

What is sent and what is done with what comes is the sessions' own (`load_tests.session.swift`): the same packets, the
same reports, NACK and key frame requests. Only the agreement differs. A publisher offers its simulcast by rid, largest
first as Janus counts them; a viewer has one subscription to all feeds of its room, takes Janus's default, the largest
picture, and declines transport-wide numbers, with which Janus does nothing towards viewers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from load_tests.peers import sdp
from load_tests.peers.janus import Janus, JanusFailed
from load_tests.plan.behaviour import Layer
from load_tests.rig.peer import LoadPeer, Remote
from load_tests.session.media import audio_parameters, video_parameters
from load_tests.session.sending import AUDIO_PT, RTX_PT, VIDEO_PT
from load_tests.session.swift import SwiftPeer

NO_SUCH_FEED: Final = 428
FEED_S, FEED_PAUSE_S = 15.0, 0.1


class JanusPeer(SwiftPeer):
    """A session's Transport towards a relay that may be the controlling side."""

    relay_offers = False
    dtls_role: Literal["client", "server"] = "client"

    async def connect(
        self, remote: Remote, *, dtls_role: Literal["client", "server"] = "client", controlling: bool = True
    ) -> None:
        """With the roles of the agreement."""
        await super().connect(remote, dtls_role=self.dtls_role, controlling=not self.relay_offers)

    async def _become_connected(self) -> None:
        await LoadPeer._become_connected(self)


class JanusRooms(Janus):
    """Janus with as many rooms as are asked for."""

    async def _publish(self) -> None:
        """Nobody publishes before a room is made."""

    async def make_room(self, room: int, publishers: int) -> None:
        """An empty one."""
        handle = await self._api.attach()
        made = {"request": "create", "room": room, "publishers": publishers, "audiocodec": "opus", "videocodec": "vp8"}
        await self._api.message(handle, made)

    async def publish(self, room: int, feed: int, peer: JanusPeer, layers: Sequence[Layer]) -> None:
        """Let a peer send a camera with these layers and a microphone; it is connected, and sends nothing yet."""
        handle = await self._api.attach()
        await self._api.message(handle, {"request": "join", "ptype": "publisher", "room": room, "id": feed})
        said = {"type": "offer", "sdp": offer(peer, layers)}
        _, answered = await self._api.message(handle, {"request": "publish"}, said)
        relay = sdp.parse(answered)
        peer.dtls_role = "server" if relay.setup == "active" else "client"
        await peer.connect_to(relay.remote)

    async def watch(self, room: int, feeds: Sequence[int], peer: JanusPeer) -> list[dict[str, Any]]:
        """Let a peer receive everything of some feeds; what `SwiftReceiver.add` is to be told."""
        handle = await self._api.attach()
        wanted = [{"feed": feed} for feed in feeds]
        join = {"request": "join", "ptype": "subscriber", "room": room, "streams": wanted}
        offered = await self._subscribe(handle, join)
        relay = sdp.parse(offered)
        for section in relay.sections:
            section.twcc_id = 0
        said = {"type": "answer", "sdp": sdp.answer(peer, relay)}
        await self._api.message(handle, {"request": "start"}, said)
        peer.relay_offers = True
        await peer.connect_to(relay.remote)
        return [one.made() for one in streams(offered)]

    async def _subscribe(self, handle: int, join: dict[str, Any]) -> str:
        """Janus's offer. A feed is there for it once its own end of the publisher's handshake is done, which may be
        well after ours where it is busy; until then it has no such feed.

        Raises:
            JanusFailed: still not after ``FEED_S``, or anything else.
        """
        deadline_s = time.monotonic() + FEED_S
        while True:
            try:
                _, offered = await self._api.message(handle, join)
                return offered
            except JanusFailed as problem:
                if problem.code != NO_SUCH_FEED or time.monotonic() > deadline_s:
                    raise
            await asyncio.sleep(FEED_PAUSE_S)


@dataclass(slots=True)
class Stream:
    """One m-line that a relay sends on."""

    kind: str
    mid: str = ""
    ssrcs: list[int] = field(default_factory=list)
    """The media's, and where there are repairs theirs."""

    def made(self) -> dict[str, Any]:
        """In the words of ``consume``."""
        encoding: dict[str, Any] = {"ssrc": self.ssrcs[0]}
        if len(self.ssrcs) > 1:
            encoding["rtx"] = {"ssrc": self.ssrcs[1]}
        clock_hz = 90_000 if self.kind == "video" else 48_000
        parameters = {"encodings": [encoding], "codecs": [{"clockRate": clock_hz}]}
        return {"consumer": self.mid, "producer": self.mid, "kind": self.kind, "rtp_parameters": parameters}


def streams(text: str) -> list[Stream]:
    """What a relay's offer says it will send."""
    found: list[Stream] = []
    for line in text.replace("\r", "").split("\n"):
        if line.startswith("m="):
            found.append(Stream(line[2:].split()[0]))
        elif found and line.startswith("a=mid:"):
            found[-1].mid = line[6:]
        elif found and line.startswith("a=ssrc:"):
            ssrc = int(line[7:].split()[0])
            if ssrc not in found[-1].ssrcs:
                found[-1].ssrcs.append(ssrc)
    return [one for one in found if one.ssrcs]


def offer(peer: LoadPeer, layers: Sequence[Layer]) -> str:
    """Video, then sound, as a session's ``produce`` has them: mids, payload types and extensions are the same."""
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1", "a=msid-semantic: WMS *"]
    video, audio = video_parameters(layers, (0, 0)), audio_parameters(0)
    lines += _common(peer, "video", "0", (VIDEO_PT, RTX_PT), video)
    lines += [f"a=rtpmap:{VIDEO_PT} VP8/90000", f"a=rtpmap:{RTX_PT} rtx/90000", f"a=fmtp:{RTX_PT} apt={VIDEO_PT}"]
    lines += [f"a=rtcp-fb:{VIDEO_PT} {what}" for what in ("nack", "nack pli", "ccm fir", "goog-remb", "transport-cc")]
    rids = [layer.rid for layer in reversed(layers)]
    lines += [*(f"a=rid:{rid} send" for rid in rids), f"a=simulcast:send {';'.join(rids)}"]
    lines += _common(peer, "audio", "1", (AUDIO_PT,), audio)
    lines += [f"a=rtpmap:{AUDIO_PT} opus/48000/2", f"a=fmtp:{AUDIO_PT} minptime=10;useinbandfec=1"]
    lines += [f"a=rtcp-fb:{AUDIO_PT} transport-cc"]
    return "\r\n".join(lines) + "\r\n"


def _common(
    peer: LoadPeer, kind: str, mid: str, payload_types: Sequence[int], parameters: Mapping[str, Any]
) -> list[str]:
    host, port = peer.address
    return [
        f"m={kind} {port} UDP/TLS/RTP/SAVPF {' '.join(map(str, payload_types))}", f"c=IN IP4 {host}", "a=rtcp-mux",
        "a=rtcp-rsize", f"a=mid:{mid}", "a=sendonly", f"a=ice-ufrag:{peer.ufrag}", f"a=ice-pwd:{peer.password}",
        f"a=fingerprint:sha-256 {peer.fingerprint}", "a=setup:actpass",
        f"a=candidate:1 1 udp 2130706431 {host} {port} typ host", "a=end-of-candidates", f"a=msid:load {kind}",
        *(f"a=extmap:{one['id']} {one['uri']}" for one in parameters["headerExtensions"]),
    ]  # fmt: skip
