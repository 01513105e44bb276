"""SDP for relays that negotiate with it: our few offers and answers, and the few lines we read.

Written out as templates on purpose: the peer can exactly one set of codecs, and what it
says must not depend on a library's taste. One bundle, audio first, then video with RTX,
NACK, PLI and transport-wide feedback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from load_tests.rig.peer import LoadPeer, PeerFailed, Remote
from load_tests.rig.traffic import (
    AUDIO_PT,
    AUDIO_SSRC,
    RTX_PT,
    TWCC_ID,
    TWCC_URI,
    VIDEO_PT,
    VIDEO_RTX_SSRC,
    VIDEO_SSRC,
    Kind,
)

Direction = Literal["sendonly", "recvonly"]
Setup = Literal["actpass", "active", "passive"]


@dataclass(slots=True)
class Section:
    """One m-line of a peer's description."""

    kind: str
    mid: str = ""
    payload_types: list[int] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    """Codec by payload type, lower case, as ``vp8`` or ``rtx``."""
    twcc_id: int = 0


@dataclass(slots=True)
class Description:
    """What we want to know of a relay's offer or answer."""

    ufrag: str = ""
    password: str = ""
    fingerprint: str = ""
    setup: str = ""
    candidates: list[tuple[str, int]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    @property
    def remote(self) -> Remote:
        """The relay's end.

        Raises:
            PeerFailed: it has no UDP host candidate of IPv4.
        """
        if not self.candidates:
            raise PeerFailed("no candidate")
        return Remote(self.candidates[0], self.ufrag, self.password, self.fingerprint)

    @property
    def kinds(self) -> dict[int, Kind]:
        """Meaning of payload types."""
        kinds: dict[int, Kind] = {}
        for section in self.sections:
            for payload_type in section.payload_types:
                rtx = section.names.get(payload_type) == "rtx"
                kinds[payload_type] = "rtx" if rtx else "audio" if section.kind == "audio" else "video"
        return kinds

    @property
    def twcc_id(self) -> int:
        """Extension id of transport-wide numbers, 0 when they are not negotiated."""
        return max((section.twcc_id for section in self.sections), default=0)


def parse(sdp: str) -> Description:
    """Read what a relay said."""
    found = Description()
    section: Section | None = None
    for line in sdp.replace("\r", "").split("\n"):
        kind, _, value = line.partition("=")
        if kind == "m":
            words = value.split()
            section = Section(words[0], payload_types=[int(word) for word in words[3:] if word.isdigit()])
            found.sections.append(section)
        elif kind == "a":
            _attribute(found, section, *value.partition(":")[::2])
    return found


def _attribute(found: Description, section: Section | None, name: str, value: str) -> None:
    words = value.split()
    if name == "ice-ufrag":
        found.ufrag = value
    elif name == "ice-pwd":
        found.password = value
    elif name == "fingerprint" and words[0].lower() == "sha-256":
        found.fingerprint = words[1]
    elif name == "setup":
        found.setup = value
    elif name == "candidate" and words[2].lower() == "udp" and words[7] == "host" and ":" not in words[4]:
        found.candidates.append((words[4], int(words[5])))
    elif section is not None:
        if name == "mid":
            section.mid = value
        elif name == "rtpmap":
            section.names[int(words[0])] = words[1].split("/")[0].lower()
        elif name == "extmap" and words[1] == TWCC_URI:
            section.twcc_id = int(words[0].split("/")[0])


def offer(peer: LoadPeer, direction: Direction) -> str:
    """Our offer: one audio, one video."""
    own = Section("audio", "0", [AUDIO_PT], {AUDIO_PT: "opus"}, TWCC_ID)
    picture = Section("video", "1", [VIDEO_PT, RTX_PT], {VIDEO_PT: "vp8", RTX_PT: "rtx"}, TWCC_ID)
    return build(peer, direction, "actpass", [own, picture])


def answer(peer: LoadPeer, offered: Description) -> str:
    """Our answer to a relay that sends: everything it offered, with its numbers."""
    return build(peer, "recvonly", "active", offered.sections)


def build(peer: LoadPeer, direction: Direction, setup: Setup, sections: Sequence[Section]) -> str:
    """A whole description."""
    mids = " ".join(section.mid for section in sections)
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", f"a=group:BUNDLE {mids}"]
    lines += ["a=msid-semantic: WMS *"]
    for section in sections:
        lines += _section(peer, direction, setup, section)
    return "\r\n".join(lines) + "\r\n"


def _section(peer: LoadPeer, direction: Direction, setup: Setup, section: Section) -> list[str]:
    host, port = peer.address
    main = section.payload_types[0]
    lines = [
        f"m={section.kind} {port} UDP/TLS/RTP/SAVPF {' '.join(map(str, section.payload_types))}",
        f"c=IN IP4 {host}",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        f"a=mid:{section.mid}",
        f"a={direction}",
        f"a=ice-ufrag:{peer.ufrag}",
        f"a=ice-pwd:{peer.password}",
        f"a=fingerprint:sha-256 {peer.fingerprint}",
        f"a=setup:{setup}",
        f"a=candidate:1 1 udp 2130706431 {host} {port} typ host",
        "a=end-of-candidates",
    ]
    if section.twcc_id:
        lines += [f"a=extmap:{section.twcc_id} {TWCC_URI}", f"a=rtcp-fb:{main} transport-cc"]
    for payload_type in section.payload_types:
        name = section.names[payload_type]
        rate = "48000/2" if name == "opus" else "90000"
        lines += [f"a=rtpmap:{payload_type} {name.upper() if name == 'vp8' else name}/{rate}"]
        if name == "rtx":
            lines += [f"a=fmtp:{payload_type} apt={main}"]
    if section.kind == "video":
        lines += [f"a=rtcp-fb:{main} {what}" for what in ("nack", "nack pli", "ccm fir")]
    return lines + (_sources(section) if direction == "sendonly" else [])


def _sources(section: Section) -> list[str]:
    """Who sends, with the name of the track."""
    if section.kind == "audio":
        return ["a=msid:load sound", f"a=ssrc:{AUDIO_SSRC} cname:load"]
    return [
        "a=msid:load picture",
        f"a=ssrc-group:FID {VIDEO_SSRC} {VIDEO_RTX_SSRC}",
        f"a=ssrc:{VIDEO_SSRC} cname:load",
        f"a=ssrc:{VIDEO_RTX_SSRC} cname:load",
    ]
