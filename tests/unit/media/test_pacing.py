"""Bursts of several Consumers on one thin line: what is held, and what the others take of it meanwhile."""

import asyncio
from types import SimpleNamespace
from typing import Any

from media.aio.counters import Counters
from media.aio.objects import Consumer, Leg
from media.aio.pacing import Pacing
from media.core.congestion.pacer import Pacer
from media.core.rewriter import Position, Segment, ViewerNumbers
from media.core.router import ExtensionPlan, Packet, Source

ESTIMATE_BPS = 200_000
PACED_BPS = 500_000
PIECE_US = 4_000


class Line:
    """One viewer with a picture and a sound, and what left of the picture."""

    def __init__(self) -> None:
        self.now_us = 1_000_000
        self.sent: list[tuple[int, int]] = []
        """(us, bytes)."""
        self.pacing = Pacing(lambda: self.now_us, Counters(), self._send, lambda consumer, now_us: None)
        self._leg = Leg()
        self._leg.pacer = Pacer(ESTIMATE_BPS, self.now_us)
        self.camera, self.voice = self._consumer("camera", False), self._consumer("voice", True)

    def _consumer(self, name: str, is_audio: bool) -> Consumer:
        producer: Any = SimpleNamespace(is_audio=is_audio)
        made = Consumer(
            id=name, owner="o", producer=producer, transport_id="t", leg=self._leg, rtx_payload_type=0, ssrc=1,
            rtx_ssrc=0, plan=ExtensionPlan(frozenset()), numbers=ViewerNumbers(0), rtx_seq=0,
        )  # fmt: skip
        made.numbers.start(77, Position(0, 0), 0, 90_000)
        return made

    def _send(self, consumer: Consumer, segment: Segment, packets: Any, payload_type: int, now_us: int) -> int:
        self.sent.append((now_us, sum(len(packet.payload) for packet in packets)))
        return len(packets)

    def offer(self, consumer: Consumer, sizes: list[int]) -> None:
        burst = [Packet(number, 0, 0, [], bytes(size)) for number, size in enumerate(sizes)]
        source = Source(77, newest=0, key_timestamp=0)  # a key frame is not given up for its length
        self.pacing.sort_out([consumer], sizes, sum(sizes), burst, source, 100, self.now_us)

    def run(self, voice_bytes: int) -> int:
        """How long a frame of 30 kB takes beside a sound every 20 ms."""
        self.offer(self.camera, [1_000] * 30)
        began_us = self.now_us
        while self.pacing.holds:
            self.now_us += PIECE_US
            if voice_bytes and (self.now_us - began_us) % 20_000 == 0:
                self.offer(self.voice, [voice_bytes])
            self.pacing.release(self.now_us)
        return self.now_us - began_us


def test_what_sound_takes_of_a_line_is_not_there_for_the_picture() -> None:
    """Picture and sound together leave at the line's pace, or the sound would come on top of it."""

    async def measure() -> tuple[int, int]:
        return Line().run(0), Line().run(250)

    alone_us, beside_us = asyncio.run(measure())
    # 100 kbit/s of 500 are the sound's; the picture's first 6 kB leave at once in both.
    expected = PACED_BPS / (PACED_BPS - 250 * 8 * 50)
    assert 0.95 * expected < beside_us / alone_us < 1.1 * expected


def test_sound_is_free_while_nothing_waits() -> None:
    line = Line()
    assert line.voice.leg.pacer is not None
    before = line.voice.leg.pacer.credit_bytes
    for _ in range(100):
        line.offer(line.voice, [250])
    assert line.voice.leg.pacer.credit_bytes == before


def test_a_thin_line_is_looked_at_when_it_has_room() -> None:
    """The timer waits for a piece, not for its next turn; never longer than somebody new may wait."""

    async def pauses() -> list[float]:
        line = Line()
        line.offer(line.camera, [1_000] * 30)
        found = []
        while line.pacing.holds:
            pause_s = line.pacing._pause_s(line.now_us)
            found.append(pause_s)
            line.now_us += int(pause_s * 1e6) + 1
            line.pacing.release(line.now_us)
        return found

    found = asyncio.run(pauses())
    assert all(0.004 <= pause_s <= 0.02 for pause_s in found)
    assert max(found) > 0.01
