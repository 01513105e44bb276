"""What a camera and a microphone put on the wire: pre-encoded VP8 and Opus, at true sizes and pacing.

A picture's size follows its layer's bitrate, a key frame is `KEY_FACTOR` times as large, sizes vary from picture to
picture by the session's seed. As Chromium does it, all layers of a picture leave together, each cut into packets of
equal size, and a pacer spreads them at 2.5 times the bitrate in steps of 5 ms. Simulcast layers are told by mid and
rid, packets are numbered transport-wide, what is asked for again is sent as RTX.

Each media payload ends with where it comes from and the time of sending (`trailer`), by which viewers know how long the
way took; on a line that delays, with zeros, because there it would be the emulated line that is measured.

The sender gives way to a thin line as `rate` has it. This is the description in Python of what ``native/send.c``
does faster, and what is used where that was not built.
"""

from __future__ import annotations

import array
import asyncio
import functools
import math
import os
import random
import struct
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from pylibsrtp import Error as SrtpError

from load_tests.plan.behaviour import Layer
from load_tests.report.ledger import Ledger
from load_tests.rig.peer import LoadPeer
from load_tests.rig.traffic import ntp_now
from load_tests.session.picture import still_frames
from load_tests.session.rate import Heard, SendRate
from load_tests.session.trailer import TRAILER, build_trailer
from load_tests.session.wall import wall_ns
from media.core import ortc, rtcp, rtp, twcc
from media.core.codecs import Codec

VIDEO_PT: Final = ortc.PAYLOAD_TYPES[Codec.VP8]
RTX_PT: Final = ortc.RTX_PAYLOAD_TYPES[Codec.VP8]
AUDIO_PT: Final = ortc.PAYLOAD_TYPES[Codec.OPUS]
PAYLOAD_BYTES: Final = 1_100
KEY_FACTOR: Final = 6
PACER_S: Final = 0.005
PACER_FACTOR: Final = 2.5
AUDIO_S: Final = 0.02
AUDIO_BYTES: Final = 80
"""Opus at 32 kbit/s."""
HISTORY: Final = 512
OVERHEAD_BYTES: Final = 44
"""Headers and tag of a packet, about."""
SIZES: Final = 4096
REMEMBERED: Final = 4096
CALM_S: Final = 1.0
_FILLER = os.urandom(8_192)
_HEAD = struct.Struct("!BBHII")


@functools.cache
def picture_sizes() -> array.array[float]:
    """Sizes of a camera's pictures in shares of their mean; each session begins somewhere else in it."""
    chance = random.Random(1)
    return array.array("f", [chance.lognormvariate(-0.06, 0.35) for _ in range(SIZES)])


def size_at(chance: random.Random) -> int:
    """Where a session begins."""
    return chance.randrange(SIZES)


class Numbers:
    """Transport-wide numbers of one Transport, when they left, and what feedback says of them."""

    def __init__(self) -> None:
        self._next = 0
        self._sent: list[tuple[int, int, int]] = [(-1, 0, 0)] * REMEMBERED
        self._told = self._arrived = self._bytes = self._delays = 0
        self._delay_sum_us = self._least_us = 0.0
        self._reference: int | None = None
        self.remb_bps = 0

    def take(self, size_bytes: int) -> bytes:
        """The next one, for a packet of this size."""
        self._next = (self._next + 1) & 0xFFFF
        self._sent[self._next % REMEMBERED] = (self._next, time.monotonic_ns() // 1000, size_bytes)
        return self._next.to_bytes(2, "big")

    def told(self, feedback: twcc.ReceivedFeedback) -> None:
        """What of this Transport's packets arrived, and when."""
        reference = self._unwrapped(feedback.reference)
        self._told += feedback.statuses
        self._arrived += len(feedback.offsets)
        for offset, ticks in zip(feedback.offsets, feedback.ticks, strict=True):
            number, sent_us, size_bytes = self._sent[(feedback.base_seq + offset) % REMEMBERED]
            if number != (feedback.base_seq + offset) & 0xFFFF:
                continue
            delay_us = float(reference * 64_000 + ticks * twcc.TICK_US - sent_us)
            self._least_us = min(self._least_us, delay_us) if self._delays else delay_us
            self._delays += 1
            self._delay_sum_us += delay_us
            self._bytes += size_bytes

    def _unwrapped(self, reference: int) -> int:
        """24 bits of 64 ms wrap after 12 days, which may be now."""
        if self._reference is None:
            self._reference = reference + (1 << 24)
        step = (reference - self._reference) & 0xFF_FFFF
        self._reference += step if step < 0x80_0000 else step - (1 << 24)
        return self._reference

    def heard(self) -> Heard:
        """All of that since the last call."""
        found = Heard(
            self._told, self._arrived, self._bytes, self._delay_sum_us / max(1, self._delays), self._least_us,
            self.remb_bps,
        )  # fmt: skip
        self._told = self._arrived = self._bytes = self._delays = 0
        self._delay_sum_us = self._least_us = 0.0
        return found


class Extensions:
    """A header extension block with a hole for the transport-wide number."""

    def __init__(self, elements: Sequence[tuple[str, bytes]]) -> None:
        numbered = [(ortc.EXTENSION_IDS[ortc.TRANSPORT_CC_URI], bytes(2))]
        numbered += [(ortc.EXTENSION_IDS[uri], value) for uri, value in elements]
        block = rtp.build_extensions(numbered)
        self._before, self._after = block[:5], block[7:]  # the number is the first element

    def with_number(self, number: bytes) -> bytes:
        """The block of one packet."""
        return self._before + number + self._after


class Stream:
    """One RTP stream with its repairs."""

    def __init__(self, peer: LoadPeer, numbers: Numbers, ledger: Ledger, mid: str, rid: str = "") -> None:
        self.ssrc, self.rtx_ssrc = random.getrandbits(32), random.getrandbits(32)
        self.seq = random.getrandbits(15)
        self.began = random.getrandbits(32)
        """RTP time of its beginning; each layer of a browser's camera has its own."""
        self.packets = self.octets = 0
        self._rtx_seq = random.getrandbits(15)
        self._peer, self._numbers, self._ledger = peer, numbers, ledger
        named = [(ortc.MID_URI, mid.encode())]
        self._extensions = Extensions(named + ([(ortc.RID_URI, rid.encode())] if rid else []))
        self._rtx_extensions = Extensions(named + ([(ortc.REPAIRED_RID_URI, rid.encode())] if rid else []))
        self._history: list[tuple[int, int, bool, bytes]] = [(-1, 0, False, b"")] * HISTORY

    def send(self, payload_type: int, timestamp: int, payload: bytes, *, marker: bool, keep: bool) -> None:
        """One packet; ``timestamp`` counts from the beginning."""
        timestamp = (self.began + timestamp) & 0xFFFF_FFFF
        seq = self.seq = (self.seq + 1) & 0xFFFF
        self.packets += 1
        self.octets += len(payload)
        if keep:
            self._history[seq % HISTORY] = (seq, timestamp, marker, payload)
        block = self._extensions.with_number(self._numbers.take(len(payload) + OVERHEAD_BYTES))
        head = _HEAD.pack(0x90, marker << 7 | payload_type, seq, timestamp, self.ssrc)
        self._peer.send_rtp(head + block + payload)
        self._ledger.count("rtp_out")

    def repair(self, seq: int) -> None:
        """Send a packet again that is still kept (RFC 4588)."""
        kept, timestamp, marker, payload = self._history[seq % HISTORY]
        if kept != seq:
            return
        self._rtx_seq = (self._rtx_seq + 1) & 0xFFFF
        block = self._rtx_extensions.with_number(self._numbers.take(len(payload) + OVERHEAD_BYTES))
        head = _HEAD.pack(0x90, marker << 7 | RTX_PT, self._rtx_seq, timestamp, self.rtx_ssrc)
        self._peer.send_rtp(head + block + seq.to_bytes(2, "big") + payload)
        self._ledger.count("rtx_out")


class Camera:
    """All layers of one picture."""

    def __init__(
        self, peer: LoadPeer, numbers: Numbers, ledger: Ledger, layers: Sequence[Layer], seed: str, *, timed: bool,
        consult: int,
    ) -> None:  # fmt: skip
        self.layers = layers
        self.rate = SendRate(layers, time.monotonic())
        self.streams = [Stream(peer, numbers, ledger, "0", layer.rid) for layer in layers]
        chance = random.Random(seed)
        self._timed, self._consult = timed, consult
        self._key_wanted = [True] * len(layers)
        self._frame = 0
        self._began_s = time.monotonic()
        self._queue: deque[tuple[int, bytes, int, bool]] = deque()
        self._loop = asyncio.get_running_loop()
        self._due_s = self._loop.time() + chance.random() / layers[0].frames_per_s
        self._size_at = size_at(chance)
        self._timer = self._loop.call_at(self._due_s, self._picture)
        self._pacing: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """No more pictures."""
        self._timer.cancel()
        if self._pacing is not None:
            self._pacing.cancel()

    def key_frame(self, ssrc: int) -> None:
        """Somebody needs one; where rids tell the layers, the server may name an SSRC that it learnt."""
        for index, stream in enumerate(self.streams):
            if stream.ssrc == ssrc:
                self._key_wanted[index] = True

    def steer(self, heard: Heard) -> None:
        """Send what the line carries."""
        before = self.rate.bitrates
        if self.rate.look(time.monotonic(), heard):
            for index, (had, has) in enumerate(zip(before, self.rate.bitrates, strict=True)):
                self._key_wanted[index] = self._key_wanted[index] or (has > 0 and not had)

    @property
    def timestamp(self) -> int:
        """RTP time now."""
        return int((time.monotonic() - self._began_s) * 90_000)

    def _picture(self) -> None:
        rate = self.layers[0].frames_per_s
        # Behind by more than a picture: leave the missed ones out, as a camera does.
        self._due_s = max(self._due_s + 1 / rate, self._loop.time())
        self._timer = self._loop.call_at(self._due_s, self._picture)
        timestamp = self.timestamp
        for index, bitrate_bps in enumerate(self.rate.bitrates):
            if bitrate_bps:
                self._cut_picture(index, timestamp)
        self._frame += 1
        if self._pacing is None:
            self._pace()

    def _cut_picture(self, index: int, timestamp: int) -> None:
        layer = self.layers[index]
        key, self._key_wanted[index] = self._key_wanted[index], False
        mean_bytes = self.rate.bitrates[index] / 8 / layer.frames_per_s
        size = mean_bytes * (KEY_FACTOR if key else picture_sizes()[self._size_at % SIZES])
        self._size_at += not key
        count = max(1, math.ceil(size / PAYLOAD_BYTES))
        each = max(24, int(size / count))
        for number in range(count):
            first = number == 0
            descriptor = bytes((0x80 | (0x10 if first else 0), 0xC0)) + struct.pack(
                "!HB", 0x8000 | (self._frame & 0x7FFF), self._frame & 0xFF
            )
            room = max(0, each - TRAILER.size)
            head = (descriptor + (still_frames(layer.width, layer.height)[not key] if first else b""))[:room]
            filler = _FILLER[: room - len(head)]
            self._queue.append((index, head + filler, timestamp, number == count - 1))

    def _pace(self) -> None:
        budget_bytes = sum(self.rate.bitrates) / 8 * PACER_FACTOR * PACER_S
        while self._queue and budget_bytes > 0:
            index, payload, timestamp, last = self._queue.popleft()
            trailer = build_trailer(self._consult, wall_ns() if self._timed else 0)
            self.streams[index].send(VIDEO_PT, timestamp, payload + trailer, marker=last, keep=True)
            budget_bytes -= len(payload)
        self._pacing = self._loop.call_later(PACER_S, self._pace) if self._queue else None


class Microphone:
    """Opus packets with an audio level: two seconds of talk, two of listening."""

    def __init__(
        self, peer: LoadPeer, numbers: Numbers, ledger: Ledger, seed: str, *, timed: bool, consult: int
    ) -> None:
        self.stream = Stream(peer, numbers, ledger, "1")
        chance = random.Random(seed)
        self._phase_s, self._timed, self._consult = chance.random() * 4, timed, consult
        self._filler = _FILLER[: AUDIO_BYTES - TRAILER.size]
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._sent = 0
        self._levels = [
            Extensions([(ortc.MID_URI, b"1"), (ortc.AUDIO_LEVEL_URI, level)]) for level in (b"\x9e", b"\x7f")
        ]
        self._due_s = self._began_s + chance.random() * AUDIO_S
        self._timer = self._loop.call_at(self._due_s, self._packet)

    def close(self) -> None:
        """Silence."""
        self._timer.cancel()

    @property
    def timestamp(self) -> int:
        """RTP time of the newest packet."""
        return self._sent * 960

    def _packet(self) -> None:
        now_s = self._loop.time()
        late = int((now_s - self._due_s) / AUDIO_S)
        self._sent += 1 + late  # sound that could not be sent in time was still spoken
        self._due_s += AUDIO_S * (1 + late)
        self._timer = self._loop.call_at(self._due_s, self._packet)
        talking = (now_s + self._phase_s) % 4 < 2
        self.stream._extensions = self._levels[0 if talking else 1]
        trailer = build_trailer(self._consult, wall_ns() if self._timed else 0)
        self.stream.send(AUDIO_PT, self.timestamp, self._filler + trailer, marker=False, keep=False)


class Sender:
    """Everything that a session sends on its sending Transport, and what it is told about it."""

    def __init__(self, peer: LoadPeer, ledger: Ledger) -> None:
        self.numbers = Numbers()
        self.camera: Camera | None = None
        self.microphone: Microphone | None = None
        self._looked_s = 0.0
        self._peer, self._ledger = peer, ledger
        peer.sink = self._sink

    def close(self) -> None:
        """Stop both; idempotent."""
        for one in (self.camera, self.microphone):
            if one is not None:
                one.close()

    def steer(self) -> None:
        """Every `rate.LOOK_S`: send what the line carries; where everything passes, once a second is enough."""
        camera, now_s = self.camera, time.monotonic()
        if camera is not None and not (camera.rate.full and now_s - self._looked_s < CALM_S):
            self._looked_s = now_s
            camera.steer(self.numbers.heard())

    def report(self) -> None:
        """Sender reports of all streams."""
        parts = b""
        if self.camera is not None:
            for stream, bitrate_bps in zip(self.camera.streams, self.camera.rate.bitrates, strict=True):
                if not bitrate_bps:
                    continue
                parts += _report(stream, self.camera.timestamp)
        if self.microphone is not None:
            parts += _report(self.microphone.stream, self.microphone.timestamp)
        if parts:
            ssrc = int.from_bytes(parts[4:8], "big")
            self._peer.send_rtcp(parts + rtcp.build_sdes(ssrc, "load"))

    def _sink(self, view: memoryview, length: int, segment: int, stamp_ns: int) -> None:
        for start in range(0, length, segment):
            datagram = bytes(view[start : min(start + segment, length)])
            if rtp.is_rtcp(datagram[1]):
                try:
                    items = [
                        twcc.read_feedback(item.fci) if isinstance(item, rtcp.TransportFeedback) else item
                        for item in rtcp.parse(self._peer.unprotect_rtcp(datagram))
                    ]
                except (SrtpError, rtcp.MalformedRtcp):
                    self._ledger.error("rtcp not readable")
                    continue
                for item in items:
                    self._heard(item)

    def _heard(self, item: Any) -> None:
        camera = self.camera
        if camera is None:
            return
        match item:
            case rtcp.Nack():
                for stream in camera.streams:
                    if stream.ssrc == item.media_ssrc:
                        for seq in item.lost:
                            stream.repair(seq)
            case rtcp.Pli():
                self._ledger.count("pli_in")
                camera.key_frame(item.media_ssrc)
            case rtcp.Fir():
                self._ledger.count("pli_in")
                for ssrc, _number in item.entries:
                    camera.key_frame(ssrc)
            case twcc.ReceivedFeedback():
                self.numbers.told(item)
            case rtcp.Remb():
                self.numbers.remb_bps = item.bitrate_bps


def _report(stream: Stream, timestamp: int) -> bytes:
    if not stream.packets:
        return b""
    return rtcp.build_sender_report(
        stream.ssrc,
        ntp_now(),
        (stream.began + timestamp) & 0xFFFFFFFF,
        stream.packets & 0xFFFFFFFF,
        stream.octets & 0xFFFFFFFF,
    )
