"""What the load consists of: a publisher's packets, and what subscribers make of them.

The mix is 4/5 video of 1100 bytes and 1/5 audio of 80 bytes, the same towards every
relay. A subscriber behaves as a browser towards a relay does, without decoding: receiver
reports once a second, transport-wide feedback ten times a second where the relay
negotiated it, and a NACK for one video packet in two hundred, which must be answered.
The publisher sends reports, answers key frame requests with a key frame and counts what
it is told.

Header extensions and the RTP header are not encrypted, so counting and feedback need no
decryption; one packet in many is decrypted for the send time its payload ends with.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from load_tests.rig.feedback_runs import RunRecorder
from load_tests.rig.peer import LoadPeer
from media.core import rtcp, rtp

VIDEO_SSRC, VIDEO_RTX_SSRC, AUDIO_SSRC = 0x11111111, 0x11111112, 0x22222222
VIDEO_PT, RTX_PT, AUDIO_PT = 96, 97, 111
TWCC_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
TWCC_ID = 3
VIDEO_BYTES, AUDIO_BYTES = 1100, 80
VIDEO_PER_FRAME, AUDIO_PER_FRAME = 8, 2
PACKETS_PER_FRAME = VIDEO_PER_FRAME + AUDIO_PER_FRAME
FRAMES_PER_KEYFRAME = 25
NACK_EVERY = 200
"""Video packets: 0.5 %."""
REPORT_INTERVAL_S = 1.0
FEEDBACK_INTERVAL_S = 0.1
OWN_SSRC = 0x33333333
NTP_1970_S = 2_208_988_800

Kind = Literal["video", "audio", "rtx"]


def ntp_now() -> int:
    """64-bit NTP timestamp."""
    return int((time.time() + NTP_1970_S) * (1 << 32))


class Publisher:
    """Makes and sends the packets, and hears what the relay asks of it."""

    def __init__(self, peer: LoadPeer) -> None:
        self.peer = peer
        peer.sink = self.sink
        self.sent = 0
        self.send_failed = 0
        self.heard: dict[str, int] = {}
        self._twcc = self._video_seq = self._audio_seq = self._frame = 0
        self._key_wanted = True
        self._key = False
        self._began = time.monotonic()
        self._frame_time = 0
        self._filler = os.urandom(VIDEO_BYTES)

    def burst(self) -> None:
        """A whole frame at once, and its share of sound."""
        for index in range(VIDEO_PER_FRAME):
            self.video(index)
        for _ in range(AUDIO_PER_FRAME):
            self.audio()

    def one(self, position: int) -> None:
        """Packet ``position`` (0 to 9) of a frame time, for evenly spaced packets."""
        if position in (4, 9):
            self.audio()
        else:
            self.video(position - (position > 4))

    def video(self, index: int) -> None:
        """One video packet of the present frame."""
        start = index == 0
        if start:
            self._key = self._key_wanted or self._frame % FRAMES_PER_KEYFRAME == 0
            self._key_wanted = False
            self._frame_time = int((time.monotonic() - self._began) * 90_000)
        descriptor = bytes([0x80 | (0x10 if start else 0), 0xC0]) + struct.pack(
            "!HB", 0x8000 | (self._frame & 0x7FFF), self._frame & 0xFF
        )
        room = VIDEO_BYTES - rtp.FIXED_HEADER_BYTES - 8 - 8 - len(descriptor) - 1
        payload = descriptor + bytes([0 if self._key else 1]) + self._filler[:room]
        last = index == VIDEO_PER_FRAME - 1
        self.send(VIDEO_PT, last, self._video_seq, self._frame_time, VIDEO_SSRC, payload)
        self._video_seq += 1
        self._frame += last

    def audio(self) -> None:
        """One audio packet of 20 ms."""
        room = AUDIO_BYTES - rtp.FIXED_HEADER_BYTES - 8 - 8
        self.send(AUDIO_PT, False, self._audio_seq, self._audio_seq * 960, AUDIO_SSRC, self._filler[:room])
        self._audio_seq += 1

    def send(self, payload_type: int, marker: bool, seq: int, timestamp: int, ssrc: int, payload: bytes) -> None:
        """One RTP packet with its transport-wide number; its payload ends with the time of sending."""
        extension = struct.pack("!HHBHB", 0xBEDE, 1, TWCC_ID << 4 | 1, self._twcc & 0xFFFF, 0)
        self._twcc += 1
        head = struct.pack("!BBHLL", 0x90, marker << 7 | payload_type, seq & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
        if self.peer.send_rtp(head + extension + payload + self.trailer()):
            self.sent += 1
        else:
            self.send_failed += 1

    def trailer(self) -> bytes:
        """What a payload ends with: the time of sending, nanoseconds since 1970."""
        return struct.pack("!Q", time.time_ns())

    def report(self) -> None:
        """Sender reports of both streams."""
        now = int((time.monotonic() - self._began) * 90_000)
        sound = self._audio_seq * 960
        video = rtcp.build_sender_report(
            VIDEO_SSRC, ntp_now(), now & 0xFFFFFFFF, self._video_seq, self._video_seq * VIDEO_BYTES
        )
        audio = rtcp.build_sender_report(
            AUDIO_SSRC, ntp_now(), sound & 0xFFFFFFFF, self._audio_seq, self._audio_seq * AUDIO_BYTES
        )
        self.peer.send_rtcp(video + audio + rtcp.build_sdes(VIDEO_SSRC, "load"))

    def sink(self, view: memoryview, length: int, segment: int, stamp_ns: int) -> None:
        """RTCP of the relay."""
        for start in range(0, length, segment):
            datagram = bytes(view[start : min(start + segment, length)])
            if rtp.is_rtcp(datagram[1]):
                for item in rtcp.parse(self.peer.unprotect_rtcp(datagram)):
                    name = type(item).__name__
                    self.heard[name] = self.heard.get(name, 0) + 1
                    if isinstance(item, rtcp.Pli | rtcp.Fir):
                        self._key_wanted = True


@dataclass(slots=True)
class Reception:
    """One media stream as a subscriber sees it."""

    ssrc: int = 0
    seq: int = -1
    """Of the newest packet."""
    cycles: int = 0
    lsr: int = 0
    report_came: float = 0.0

    def saw(self, ssrc: int, seq: int) -> None:
        """A newer packet."""
        if seq < self.seq - 0x8000:
            self.cycles += 1
        self.ssrc, self.seq = ssrc, seq

    def block(self) -> rtcp.ReportBlock:
        """What a receiver report says of it."""
        delay = int((time.monotonic() - self.report_came) * 65_536) if self.lsr else 0
        return rtcp.ReportBlock(self.ssrc, 0, 0, self.cycles << 16 | self.seq, 20, self.lsr, delay)


@dataclass(slots=True)
class Subscriber:
    """Counts what arrives and answers as a browser would.

    Attributes:
        kinds: meaning of payload types.
        twcc_id: extension id of transport-wide numbers, 0 where the relay does not number.
        samples: decrypt some packets for the time of sending they end with.
        sample_every: one packet in this many.
        packets: media packets that arrived, repairs not counted.
        resent: packets that came as an answer to a NACK.
    """

    peer: LoadPeer
    kinds: Mapping[int, Kind]
    twcc_id: int = 0
    samples: bool = True
    sample_every: int = 16
    packets: int = 0
    resent: int = 0
    nacked: int = 0
    strange: int = 0
    sender_reports: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    video: Reception = field(default_factory=Reception)
    audio: Reception = field(default_factory=Reception)
    _arrivals: RunRecorder = field(default_factory=RunRecorder)
    _asked: set[int] = field(default_factory=set)
    _layouts: dict[int, int] = field(default_factory=dict)
    _to_nack: int = NACK_EVERY
    _to_sample: int = 1

    def sink(self, view: memoryview, length: int, segment: int, stamp_ns: int) -> None:
        """SRTP or SRTCP datagrams of one read."""
        second = view[1]
        if rtp.is_rtcp(second):
            for start in range(0, length, segment):
                self._rtcp(bytes(view[start : min(start + segment, length)]))
            return
        count = 1 if segment >= length else -(-length // segment)
        last = (count - 1) * segment
        if count > 1 and (view[last + 1] ^ second) & 0x7F:  # a run of several streams: one at a time
            for start in range(0, length, segment):
                end = min(start + segment, length)
                self.sink(view[start:end], end - start, end - start, stamp_ns)
            return
        kind = self.kinds.get(second & 0x7F)
        if self.twcc_id:
            self._number(view, count, segment, stamp_ns)
        if kind == "video":
            self._video(view, count, segment, last)
        elif kind == "audio":
            self.audio.saw(int.from_bytes(view[8:12], "big"), view[last + 2] << 8 | view[last + 3])
        elif kind == "rtx":
            self.resent += count
            return
        else:
            self.strange += count
            return
        self.packets += count
        self._to_sample -= count
        if self._to_sample <= 0:
            self._to_sample = self.sample_every
            if self.samples and stamp_ns:
                end = min(last + segment, length)
                packet = self.peer.unprotect_rtp(bytes(view[last:end]))
                self.latencies_ms.append((stamp_ns - struct.unpack("!Q", packet[-8:])[0]) / 1e6)

    def report(self) -> None:
        """A receiver report of both streams."""
        blocks = [stream.block() for stream in (self.video, self.audio) if stream.seq >= 0]
        self.peer.send_rtcp(rtcp.build_receiver_report(OWN_SSRC, blocks) + rtcp.build_sdes(OWN_SSRC, "load"))

    def feedback(self) -> None:
        """Transport-wide feedback, where the relay numbers its packets."""
        for packet in self._arrivals.build(OWN_SSRC, self.video.ssrc):
            self.peer.send_rtcp(packet)

    def _video(self, view: memoryview, count: int, segment: int, last: int) -> None:
        ssrc = int.from_bytes(view[8:12], "big")
        seq = view[2] << 8 | view[3]
        if count == 1 and seq in self._asked:  # a relay without RTX repeats the packet itself
            self._asked.discard(seq)
            self.resent += 1
            self.packets -= 1
            return
        self.video.saw(ssrc, view[last + 2] << 8 | view[last + 3])
        self._to_nack -= count
        if self._to_nack <= 0:
            self._to_nack += NACK_EVERY
            self.nacked += 1
            if len(self._asked) >= 64:
                self._asked.clear()
            self._asked.add(seq)
            self.peer.send_rtcp(rtcp.build_nack(OWN_SSRC, ssrc, (seq,)))

    def _number(self, view: memoryview, count: int, segment: int, stamp_ns: int) -> None:
        first = self._transport_number(view, 0, segment)
        if first < 0:
            return
        if count > 1:
            last = self._transport_number(view, (count - 1) * segment, segment)
            if (last - first) & 0xFFFF != count - 1:
                for start in range(0, count * segment, segment):
                    self._arrivals.record(self._transport_number(view, start, segment) & 0xFFFF, 1, stamp_ns)
                return
        self._arrivals.record(first, count, stamp_ns)

    def _transport_number(self, view: memoryview, start: int, segment: int) -> int:
        """The number in the header extension of a packet, -1 when it has none."""
        if not view[start] & 0x10:
            return -1
        block = start + rtp.FIXED_HEADER_BYTES + 4 * (view[start] & 15)
        # One relay lays out the extensions of one stream always alike: look where it was the last time.
        layout = (view[start + 1] & 0x7F) << 16 | view[block + 2] << 8 | view[block + 3]
        at = self._layouts.get(layout, 0)
        if not at or view[block + at - 1] != self.twcc_id << 4 | 1:
            head = bytearray(view[block : start + segment])
            elements, _ = rtp.read_extensions(head, 0, len(head))
            at = next((where for identifier, where, size in elements if identifier == self.twcc_id and size == 2), 0)
            if not at:
                return -1
            self._layouts[layout] = at
        return view[block + at] << 8 | view[block + at + 1]

    def _rtcp(self, datagram: bytes) -> None:
        for item in rtcp.parse(self.peer.unprotect_rtcp(datagram)):
            if isinstance(item, rtcp.SenderReport):
                self.sender_reports += 1
                for stream in (self.video, self.audio):
                    if stream.ssrc == item.ssrc:
                        stream.lsr = item.ntp >> 16 & 0xFFFFFFFF
                        stream.report_came = time.monotonic()


def total_packets(viewers: Sequence[Subscriber]) -> int:
    """Media packets that arrived at all of them."""
    return sum(viewer.packets for viewer in viewers)
