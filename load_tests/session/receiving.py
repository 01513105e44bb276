"""What a viewer makes of the media that comes: counts, loss, pictures, freezes, latency, and a browser's answers.

Nothing is decoded. Sequence numbers, markers and header extensions are in the clear, so most packets are never
decrypted: one in `SAMPLE_EVERY` for the time of sending it ends with, repairs, whose original number is inside, and all
while a picture cannot be decoded, since a key frame may be among them. A picture is there when nothing from the key
frame to its last packet is missing; what is given up ends that until the next key frame. When a screen shows it is
later by as much as a browser holds pictures back once repairs are frequent; only then one that comes late is a freeze.

Feedback is a browser's: receiver reports once a second, transport-wide feedback ten times a second, NACK for what is
missing, a key frame request when that does not help.
"""

from __future__ import annotations

import bisect
import math
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pylibsrtp import Error as SrtpError

from load_tests.report.ledger import Ledger
from load_tests.rig.feedback_runs import RunRecorder
from load_tests.rig.peer import LoadPeer
from load_tests.session.trailer import read_trailer
from load_tests.session.wall import wall_ns
from media.core import ortc, rtcp, rtp
from media.core.codecs import vp8_starts_key_frame

OWN_SSRC: Final = 0x33333333
SAMPLE_EVERY: Final = 16
FEEDBACK_S: Final = 0.1
REPORT_S: Final = 1.0
FORGOTTEN: Final = 64
TWCC_ID: Final = ortc.EXTENSION_IDS[ortc.TRANSPORT_CC_URI]
MOST_MISSING: Final = 512
NACK_AGAIN_S: Final = 0.1
GIVEN_UP_S: Final = 1.0
FREEZE_LEAST_S: Final = 0.15
STALE_S: Final = 1.0
"""No picture for so long: it is gone."""
PLI_AGAIN_S: Final = 1.0
KEY_WAIT_S: Final = 0.2
"""A stream that began without a key frame: as libwebrtc waits for one before it asks."""
MOST_ENDS: Final = 64
WAITS, WAITS_S, MOST_HELD_S = 3, 60.0, 0.5
"""From so many repairs within so long on pictures are held back, at most so long."""
_HEAD = struct.Struct("!xBHII")

Kind = Literal["audio", "video"]


@dataclass(slots=True, eq=False)
class Track:
    """One Consumer's stream."""

    consumer: str
    producer: str
    kind: Kind
    ssrc: int
    clock_hz: int
    highest: int = -1
    """Extended sequence number of the newest packet."""
    base: int = -1
    packets: int = 0
    first_s: float = 0.0
    picture_s: float = 0.0
    """When the first whole picture was there."""
    vp8: bool = True
    """Its key frames can be told; of another codec's nothing is known."""
    key_seen: bool = False
    """What came since can be decoded, as far as nothing is missing, from `key_number` on."""
    key_number: float = -math.inf
    ends: list[tuple[int, float]] = field(default_factory=list)
    """Last packets of pictures that wait for others, ascending, and when they came, or were missed."""
    waits: int = 0
    waited_s: float = 0.0
    wait_s: float = 0.0
    """How long repairs take,"""
    wait_off_s: float = 0.0
    """and how far that is off."""
    shown_s: float = 0.0
    """When a screen showed the newest picture."""
    last_frame_s: float = 0.0
    frame_gap_s: float = 1 / 30
    """Usual time between pictures."""
    missing: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Extended number -> when it was missed, when it was last asked for."""
    expected_told: int = 0
    packets_told: int = 0
    transit: float = 0.0
    jitter: float = 0.0
    """RFC 3550, in units of the clock."""
    lsr: int = 0
    report_s: float = 0.0
    to_sample: int = 1
    pli_s: float = 0.0

    def held_s(self, now_s: float) -> float:
        """For how long a browser holds pictures back (libwebrtc's jitter estimator adds the round trip)."""
        if self.waits < WAITS or now_s - self.waited_s > WAITS_S:
            return 0.0
        return min(self.wait_s + 2 * self.wait_off_s, MOST_HELD_S)

    def waited(self, wait_s: float, now_s: float) -> None:
        """A repair made pictures wait."""
        if now_s - self.waited_s > WAITS_S:
            self.waits = 0
        if not self.waits:
            self.wait_s, self.wait_off_s = wait_s, wait_s / 2
        else:
            self.wait_off_s += (abs(wait_s - self.wait_s) - self.wait_off_s) / 4
            self.wait_s += (wait_s - self.wait_s) / 8
        self.waits += 1
        self.waited_s = now_s

    @property
    def here(self) -> bool:
        """What it is for has been seen or heard once."""
        return self.picture_s > 0 if self.kind == "video" else self.first_s > 0


class Receiver:
    """All tracks of one receiving Transport.

    Args:
        timed: look how long packets took; not behind an emulated line, which would be measured with them.
    """

    def __init__(
        self, peer: LoadPeer, ledger: Ledger, changed: Callable[[], None], *, timed: bool, consult: int
    ) -> None:
        self.tracks: dict[int, Track] = {}
        self._consult = consult
        self._forgotten: deque[int] = deque(maxlen=FORGOTTEN)
        """SSRCs of tracks that were closed: their last packets may be on the way."""
        self._peer, self._ledger, self._changed, self._timed = peer, ledger, changed, timed
        self._arrivals = RunRecorder()
        self._repairs: dict[int, Track] = {}
        """By SSRC of the repairs."""
        self._layouts: dict[int, int] = {}
        peer.sink = self._sink

    def add(self, made: Mapping[str, Any]) -> Track:
        """Expect what ``consume`` promised."""
        parameters = made["rtp_parameters"]
        encoding = parameters["encodings"][0]
        kind: Kind = made["kind"]
        codec = parameters["codecs"][0]
        track = Track(made["consumer"], made["producer"], kind, encoding["ssrc"], codec["clockRate"])
        track.vp8 = kind == "video" and is_vp8(codec)
        track.key_seen = kind == "video" and not track.vp8
        self.tracks[track.ssrc] = track
        if "rtx" in encoding:
            self._repairs[encoding["rtx"]["ssrc"]] = track
        return track

    def forget(self, producer: str) -> None:
        """Its Producer was closed."""
        for ssrc, track in list(self.tracks.items()):
            if track.producer == producer:
                self._settle(track, math.inf)
                del self.tracks[ssrc]
                self._forgotten.append(ssrc)
        self._forgotten += [ssrc for ssrc, track in self._repairs.items() if track.producer == producer]
        self._repairs = {ssrc: track for ssrc, track in self._repairs.items() if track.producer != producer}

    def close(self) -> None:
        """Count what is still missing as lost; idempotent."""
        for track in self.tracks.values():
            self._settle(track, math.inf)

    @property
    def pictures(self) -> list[Track]:
        """The videos."""
        return [track for track in self.tracks.values() if track.kind == "video"]

    # ------------------------------------------------------------- packets

    def _sink(self, view: memoryview, length: int, segment: int, stamp_ns: int) -> None:
        if not stamp_ns:
            stamp_ns = wall_ns()
        now_s = time.monotonic()
        for start in range(0, length, segment):
            end = min(start + segment, length)
            second, seq, timestamp, ssrc = _HEAD.unpack_from(view, start)
            if rtp.is_rtcp(second):
                self._rtcp(bytes(view[start:end]))
                continue
            self._number(view, start, end, stamp_ns)
            track = self.tracks.get(ssrc)
            if track is not None:
                self._packet(track, view, start, end, second, seq, timestamp, stamp_ns, now_s)
            elif (repaired := self._repairs.get(ssrc)) is not None:
                self._repair(repaired, bytes(view[start:end]), now_s)
            elif ssrc != ortc.PROBATOR_SSRC and ssrc not in self._forgotten:
                self._ledger.count("rtp_strange")

    def _packet(
        self, track: Track, view: memoryview, start: int, end: int, second: int, seq: int, timestamp: int,
        stamp_ns: int, now_s: float,
    ) -> None:  # fmt: skip
        ledger, came_s = self._ledger, now_s
        track.packets += 1
        ledger.counts["rtp_in"] += 1
        ledger.counts["rtp_in_bytes"] += end - start
        if track.highest < 0:
            track.base = track.highest = seq
            track.first_s = now_s
            ledger.count("tracks_received")
            self._changed()
        else:
            ahead = (seq - track.highest) & 0xFFFF
            if 0 < ahead < 0x8000:
                if ahead > 1:
                    self._hole(track, ahead, now_s)
                track.highest += ahead
            else:
                came_s, _ = track.missing.pop(track.highest - (-ahead & 0xFFFF), (now_s, now_s))
        number = track.highest - ((track.highest - seq) & 0xFFFF)
        transit = stamp_ns / 1e9 * track.clock_hz - timestamp
        if track.packets > 1:
            change = abs(transit - track.transit)
            if change > track.clock_hz:  # RTP time has 32 bits (RFC 3550 section 6.4.1)
                change = abs(math.remainder(change, 4_294_967_296.0))
            track.jitter += (min(change, track.clock_hz) - track.jitter) / 16
        track.transit = transit
        track.to_sample -= 1
        if track.to_sample <= 0:
            track.to_sample = SAMPLE_EVERY
            self._sample(track, number, bytes(view[start:end]), stamp_ns)
        if track.kind == "video" and second & 0x80:
            self._picture_ended(track, number, came_s, now_s)
        elif track.ends:
            self._show(track, now_s)

    def _hole(self, track: Track, ahead: int, now_s: float) -> None:
        numbers = range(track.highest + 1, track.highest + ahead)
        if len(track.missing) + ahead > MOST_MISSING:
            self._ledger.count("rtp_lost", ahead - 1)
            self._break_off(track, track.highest + ahead, now_s)
            return
        for number in numbers:
            track.missing[number] = (now_s, now_s)
        if track.kind == "video":
            track.to_sample = 1
            self._nack(track, numbers)

    def _picture_ended(self, track: Track, number: int, came_s: float, now_s: float) -> None:
        """The last packet of a picture came."""
        del track.ends[: len(track.ends) + 1 - MOST_ENDS]
        bisect.insort(track.ends, (number, came_s), key=lambda end: end[0])
        self._show(track, now_s)

    def _show(self, track: Track, now_s: float) -> None:
        """Those of the pictures that wait which nothing is missing for any more."""
        if not track.key_seen:
            return
        first = next((number for number in track.missing if number >= track.key_number), math.inf)
        shown = bisect.bisect_left(track.ends, first, key=lambda end: end[0])
        if not shown:
            return
        if track.ends[0][1] < now_s:
            track.waited(now_s - track.ends[0][1], now_s)
        hold_s = track.held_s(now_s)
        for number, came_s in track.ends[:shown]:
            if number >= track.key_number:
                self._picture(track, max(now_s, came_s + hold_s), now_s)
        del track.ends[:shown]

    def _break_off(self, track: Track, first: float, now_s: float) -> None:
        """Pictures cannot be decoded any more: only a key frame helps, of packets from this one on."""
        if track.kind != "video":
            return
        if track.vp8:
            track.key_number, track.key_seen, track.to_sample = first, False, 1
            track.ends.clear()
        if now_s - track.pli_s > PLI_AGAIN_S:
            track.pli_s = now_s
            self._ledger.count("pli_out")
            self._peer.send_rtcp(rtcp.build_pli(OWN_SSRC, track.ssrc))

    def _picture(self, track: Track, at_s: float, now_s: float) -> None:
        """One is whole, and shown at that moment."""
        at_s = max(at_s, track.shown_s)
        self._ledger.counts["frames_in"] += 1
        if not track.picture_s:
            track.picture_s = now_s
            self._changed()
        if track.shown_s:
            gap_s = at_s - track.shown_s
            # WebRTC's definition of a freeze (webrtc-stats, freezeCount).
            if gap_s > max(3 * track.frame_gap_s, track.frame_gap_s + FREEZE_LEAST_S):
                self._ledger.count("freezes")
                self._ledger.add("freeze_ms", gap_s * 1000)
            else:
                track.frame_gap_s += (gap_s - track.frame_gap_s) / 30
        track.shown_s, track.last_frame_s = at_s, now_s

    def _look_for_key(self, track: Track, number: int, packet: bytes, at: int) -> None:
        if track.vp8 and number >= track.key_number and vp8_starts_key_frame(packet, at, len(packet)):
            track.key_seen, track.key_number = True, number

    def _sample(self, track: Track, number: int, datagram: bytes, stamp_ns: int) -> None:
        packet = self._opened(datagram)
        if packet is None:
            return
        self._look_for_key(track, number, packet, _payload_at(packet))
        if track.kind == "video" and (not track.key_seen or track.missing):
            track.to_sample = 1
        trailer = read_trailer(packet[_payload_at(packet) :])
        if trailer is None:
            return
        consult, sent_ns = trailer
        if consult != self._consult:
            self._ledger.count("rtp_foreign")
        if sent_ns and self._timed:
            self._ledger.add("forward_ms", (stamp_ns - sent_ns) / 1e6)

    def _opened(self, datagram: bytes) -> bytes | None:
        try:
            return self._peer.unprotect_rtp(datagram)
        except SrtpError:
            self._ledger.error("rtp not readable")
            return None

    def _repair(self, track: Track, datagram: bytes, now_s: float) -> None:
        self._ledger.count("rtx_in")
        packet = self._opened(datagram)
        if packet is None or track.highest < 0:
            return
        at = _payload_at(packet)
        number = track.highest - ((track.highest - int.from_bytes(packet[at : at + 2], "big")) & 0xFFFF)
        missed = track.missing.pop(number, None)
        if missed is None:
            return  # padding that probes, or too late
        self._look_for_key(track, number, packet, at + 2)
        if packet[1] & 0x80:
            self._picture_ended(track, number, missed[0], now_s)
        else:
            self._show(track, now_s)

    def _number(self, view: memoryview, start: int, end: int, stamp_ns: int) -> None:
        """Book the transport-wide number of a packet, where it has one."""
        if not view[start] & 0x10:
            return
        block = start + rtp.FIXED_HEADER_BYTES + 4 * (view[start] & 15)
        # The relay lays out the extensions of one stream always alike: look where it was the last time.
        layout = (view[start + 1] & 0x7F) << 16 | view[block + 2] << 8 | view[block + 3]
        at = self._layouts.get(layout, 0)
        if not at or view[block + at - 1] != TWCC_ID << 4 | 1:
            head = bytearray(view[block:end])
            elements, _ = rtp.read_extensions(head, 0, len(head))
            at = next((where for name, where, size in elements if name == TWCC_ID and size == 2), 0)
            if not at:
                return
            self._layouts[layout] = at
        self._arrivals.record(view[block + at] << 8 | view[block + at + 1], 1, stamp_ns)

    # ------------------------------------------------------------- answers

    def feedback(self) -> None:
        """Ten times a second: what arrived, and what is still missing."""
        media = next(iter(self.tracks), 0)
        for packet in self._arrivals.build(OWN_SSRC, media):
            self._peer.send_rtcp(packet)
        now_s = time.monotonic()
        for track in self.tracks.values():
            if track.missing or (track.vp8 and not track.key_seen):
                self._settle(track, now_s)

    def report(self) -> None:
        """Once a second: receiver reports."""
        blocks = [self._block(track) for track in self.tracks.values() if track.highest >= 0]
        self._peer.send_rtcp(rtcp.build_receiver_report(OWN_SSRC, blocks) + rtcp.build_sdes(OWN_SSRC, "load"))

    def _block(self, track: Track) -> rtcp.ReportBlock:
        self._ledger.add("jitter_ms", track.jitter / track.clock_hz * 1000)
        # RFC 3550 appendix A.3: what was expected less what came, so repairs do not mend it.
        expected = track.highest - track.base + 1
        since = expected - track.expected_told
        lately = since - (track.packets - track.packets_told)
        track.expected_told, track.packets_told = expected, track.packets
        fraction = min(255, 256 * lately // since) if since > 0 and lately > 0 else 0
        delay = int((time.monotonic() - track.report_s) * 65_536) if track.lsr else 0
        return rtcp.ReportBlock(
            track.ssrc, fraction, expected - track.packets, track.highest & 0xFFFFFFFF, int(track.jitter), track.lsr,
            delay,
        )  # fmt: skip

    def _settle(self, track: Track, now_s: float) -> None:
        """Ask again for what is missing; what does not come is lost, and pictures then need a key frame."""
        ending = now_s == math.inf
        again = []
        for number, (missed_s, asked_s) in list(track.missing.items()):
            if now_s - missed_s > GIVEN_UP_S:
                del track.missing[number]
                self._ledger.count("rtp_lost")
                if not ending and number >= track.key_number:
                    self._break_off(track, number + 1, now_s)
            elif track.kind == "video" and now_s - asked_s > NACK_AGAIN_S:
                track.missing[number] = (missed_s, now_s)
                again.append(number)
        if again:
            self._nack(track, again)
        waiting = track.vp8 and not track.key_seen and track.packets and not ending
        if waiting and now_s - track.first_s > KEY_WAIT_S:
            self._break_off(track, track.key_number, now_s)

    def _nack(self, track: Track, numbers: Any) -> None:
        asked = [number & 0xFFFF for number in numbers]
        self._ledger.count("nack_out", len(asked))
        self._peer.send_rtcp(rtcp.build_nack(OWN_SSRC, track.ssrc, asked))

    def _rtcp(self, datagram: bytes) -> None:
        try:
            items = rtcp.parse(self._peer.unprotect_rtcp(datagram))
        except (SrtpError, rtcp.MalformedRtcp):
            self._ledger.error("rtcp not readable")
            return
        for item in items:
            track = self.tracks.get(item.ssrc) if isinstance(item, rtcp.SenderReport) else None
            if track is not None and isinstance(item, rtcp.SenderReport):
                track.lsr, track.report_s = item.ntp >> 16 & 0xFFFFFFFF, time.monotonic()


def is_vp8(codec: Mapping[str, Any]) -> bool:
    """Of a Consumer's first codec."""
    return str(codec.get("mimeType", "video/VP8")).lower() == "video/vp8"


def _payload_at(packet: bytes) -> int:
    at = rtp.FIXED_HEADER_BYTES + 4 * (packet[0] & 15)
    if packet[0] & 0x10:
        at += 4 + 4 * int.from_bytes(packet[at + 2 : at + 4], "big")
    return at
