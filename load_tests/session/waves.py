"""Waveforms of a session: a device that sends twelve leads at 500 Hz, a viewer that checks that nothing is missing.

The device plays a real record, encoded once for the process; each frame gets its own time, number and check sum when
it leaves, so its cost to the server is a device's, at a hundredth of the cost to the generator. It keeps 30 s for
repairs [WF18]. The viewer takes frames as the web client does: it counts what is missing, asks for it over ``ctl``
and counts what never came. It does not draw, so ages are of arrival.
"""

from __future__ import annotations

import asyncio
import functools
import random
import secrets
import struct
import time
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import msgpack

from load_tests.report.ledger import Ledger
from load_tests.rig.ecg_records import LEADS, encode_all, record_500
from load_tests.session.vitals import VitalSource
from load_tests.session.wall import wall_ns
from media.core.waveform import Flag, MalformedFrame, WaveformFrame, build_message, split_message, with_flags

FRAME_S: Final = 0.1
FRAME_US: Final = 100_000
SAMPLES: Final = 50
RATE_MHZ: Final = 500_000
KEPT: Final = 300
"""Frames: 30 s."""
RESENDS: Final = 12
"""Frames sent again with each live one."""
_MARKS_AT, _CRC_AT, _HEADER_BYTES = 4, 48, 52
NACK_TRIES, NACK_SOONEST_S, NACK_LATEST_S, GIVEN_UP_S = 5, 0.1, 1.0, 3.0
"""As the web client asks: at once, then every one and a half round trips in these limits."""
MOST_HOLE: Final = 600
"""Frames that are asked for at once; what is older than these is lost."""
USELESS_S: Final = 60.0
"""What has not come so long after it was missed nobody could place any more: it is missing."""
MOST_PAST: Final = 64
PING_S, FAST_PINGS, SLOW_PING_S = 0.2, 10, 5.0
DELAYED_S, STALE_S, LOST_S = 1.0, 3.0, 5.0
_SEEN: Final = 1024
_RUN: Final = secrets.randbelow(0xFFFF)


Ask = Callable[[bytes], object]
"""Sends a message of ``ctl`` to the relay."""
OnGap = Callable[[int], None]
"""Told how many frames of a stream will never come."""


@functools.cache
def _frames() -> tuple[bytes, ...]:
    return tuple(encode_all(record_500(), redundant=False))


def descriptor(stream_id: int, patient: str) -> dict[str, Any]:
    """What is announced with the channel."""
    return {
        "stream_id": stream_id, "leads": list(LEADS), "sample_rate_mhz": RATE_MHZ, "lsb_nv": record_500().lsb_nv,
        "device": "simulated monitor", "filter": "", "simulated": True, "patient": patient,
    }  # fmt: skip


class Source:
    """The device's stream under one binding, from now until `close`, whatever happens to its path meanwhile.

    What is measured while there is no path is kept and sent behind the live frames once there is one, as
    ``server.bedside`` does.

    Args:
        seed: of this one stream, for what it plays. The name of its counting is another in each run, since no two
            countings may have one name at a server that stays. [WF19]
    """

    def __init__(self, consult: int, stream_id: int, context_version: int, ledger: Ledger, seed: str) -> None:
        self.version = context_version
        self.numbers: VitalSource | None = None
        """What the device measures besides; goes and comes with the stream."""
        self._consult, self._stream_id, self._ledger = consult, stream_id, ledger
        self._send: Callable[[bytes], bool] | None = None
        self._unsent: deque[int] = deque(maxlen=KEPT)
        chance = random.Random(seed)
        self._numbering = 1 + (_RUN + chance.randrange(0xFFFF)) % 0xFFFF
        self._offset = chance.randrange(len(_frames()))
        self._seq = 0
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time() + chance.random() * FRAME_S
        self._began_us = wall_ns() // 1000 + round((self._began_s - self._loop.time()) * 1e6)
        self._timer = self._loop.call_at(self._began_s + FRAME_S, self._frame)

    @property
    def attached(self) -> bool:
        """It has a path."""
        return self._send is not None

    def attach(self, send: Callable[[bytes], bool]) -> None:
        """From now on it goes out by this path; ``send`` is False where the path has no room."""
        self._send = send

    def detach(self) -> None:
        """The path is gone."""
        self._send = None
        if self.numbers is not None:
            self.numbers.detach()

    def close(self) -> None:
        """End it and tell what was measured; idempotent."""
        if self.numbers is not None:
            self.numbers.close()
        if not self._timer.cancelled():
            self._timer.cancel()
            self._ledger.wave(
                self._consult, self._stream_id, self._numbering, self.version, self._seq, self._began_us, FRAME_US
            )

    def asked(self, message: bytes) -> None:
        """What the relay says on ``ctl``: send again what is still kept."""
        request = msgpack.unpackb(message)
        if request.get("t") == "nack" and request.get("stream") == self._stream_id:
            for seq in range(request["first"], min(request["last"], request["first"] + KEPT) + 1):
                self._send_again(seq)

    def _frame(self) -> None:
        seq = self._seq
        self._seq += 1
        self._timer = self._loop.call_at(self._began_s + (self._seq + 1) * FRAME_S, self._frame)
        frame = self._stamped(seq)
        before = self._kept.get(seq - 1)
        self._kept[seq] = frame
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        self._ledger.count("ecg_out")
        if self._send is None or not self._send(build_message(frame, before)):
            self._unsent.append(seq)
            return
        for _ in range(min(RESENDS, len(self._unsent))):
            self._send_again(self._unsent.popleft())

    def _send_again(self, seq: int) -> None:
        if self._send is not None and (frame := self._kept.get(seq)) is not None:
            self._send(with_flags(frame, add=Flag.RESEND))

    def _stamped(self, seq: int) -> bytes:
        frame = _frames()[(seq + self._offset) % len(_frames())]
        head = bytearray(frame[:_CRC_AT])
        head[3] &= ~Flag.SESSION_RESTART  # one session: the record's seam is the signal's business
        if seq == 0:
            head[3] |= Flag.SESSION_RESTART
        t0_ns = (self._began_us + seq * FRAME_US) * 1000
        index = self._numbering << 48 | seq * SAMPLES
        struct.pack_into("<IIIqQ", head, _MARKS_AT, self._stream_id, seq, self.version, t0_ns, index)
        crc = zlib.crc32(frame[_HEADER_BYTES:], zlib.crc32(head))
        return bytes(head) + struct.pack("<I", crc) + frame[_HEADER_BYTES:]


def stream_of(message: bytes) -> int:
    """Which stream the newest frame of a message belongs to; -1 where it is too short for one."""
    return int(struct.unpack_from("<I", message, _MARKS_AT)[0]) if len(message) >= _HEADER_BYTES else -1


class _Line:
    """One stream as a viewer has it."""

    def __init__(self, frame: WaveformFrame) -> None:
        self.numbering = frame.numbering
        self.highest = frame.seq - 1
        self.seen: OrderedDict[int, int] = OrderedDict()
        self.missing: dict[int, list[float]] = {}
        """Number -> when it was missed, when to ask, how often it was asked for."""
        self.given_up: dict[int, float] = {}
        """Number -> when it was missed: not asked for any more, and taken if it comes all the same."""
        self.newest_ns = frame.t0_ns
        self.came_s = time.monotonic()
        """When its newest frame came."""


class Viewer:
    """All streams that a session watches, for as long as it is there, whatever happens to its path meanwhile."""

    def __init__(self, ledger: Ledger) -> None:
        self.last_s = 0.0
        """When the newest frame came."""
        self._ledger = ledger
        self._ask: Ask = lambda _message: None
        self._changed: Callable[[], None] = lambda: None
        self._gap: OnGap = lambda _frames: None
        self._lines: dict[int, _Line] = {}
        self._past: set[tuple[int, int]] = set()
        """``(stream, numbering)`` of countings that are over: what still comes of them is late. [WF19]"""
        self._pings = 0
        self._ping_s = self._round_trip_s = 0.0

    def attach(self, ask: Ask, changed: Callable[[], None], gap: OnGap) -> None:
        """From now on it is told by this path."""
        self._ask, self._changed, self._gap = ask, changed, gap

    def detach(self) -> None:
        """The path is gone."""
        self._ask = lambda _message: None

    def opened(self, streams: Iterable[int]) -> None:
        """The ways of these streams are open, perhaps again: measure the clock anew, and fetch what was missed."""
        self._pings, self._ping_s = 0, 0.0
        for stream_id in streams:
            if (line := self._lines.get(stream_id)) is not None:
                self._ask(msgpack.packb({"t": "have", "stream": stream_id, "seq": line.highest}))

    def ping(self) -> None:
        """Five times a second: ask what time it is, ten times and then every 5 s, as the web client does."""
        now_s = time.monotonic()
        if now_s >= self._ping_s:
            self._pings += 1
            self._ping_s = now_s + (PING_S if self._pings <= FAST_PINGS else SLOW_PING_S) - PING_S / 2
            self._ask(msgpack.packb({"t": "ping", "c": round(now_s * 1e6)}))

    def states(self) -> dict[int, str]:
        """How each trace is, as the web client judges it (``waveform/state.ts``)."""
        now_s, now_ns = time.monotonic(), wall_ns()
        found = {}
        for stream_id, line in self._lines.items():
            age_s = (now_ns - line.newest_ns) / 1e9
            lost, stale = now_s - line.came_s >= LOST_S, age_s > STALE_S
            found[stream_id] = "LOST" if lost else "STALE" if stale else "DELAYED" if age_s > DELAYED_S else "LIVE"
        return found

    def message(self, message: bytes, arrived_ns: int = 0) -> None:
        """One message of an ``ecg`` channel; when it came, since 1970, 0: now."""
        now_s = time.monotonic()
        try:
            frame, before = split_message(message)
        except MalformedFrame:
            self._ledger.count("ecg_refused")
            return
        if (frame.stream_id, frame.numbering) in self._past:
            return
        line = self._lines.get(frame.stream_id)
        if line is None or line.numbering != frame.numbering:
            if line is not None:
                self._forget(frame.stream_id, line)
            line = self._lines[frame.stream_id] = _Line(before or frame)
        for one in (before, frame):
            if one is not None:
                self._place(line, one, now_s)
        if not message[3] & Flag.RESEND:
            self._ledger.add("ecg_age_ms", ((arrived_ns or wall_ns()) - frame.t0_ns) / 1e6)
        first, self.last_s = not self.last_s, now_s
        if first:
            self._changed()

    def control(self, message: bytes) -> None:
        """One message of ``ctl``."""
        told = msgpack.unpackb(message)
        if told.get("t") == "pong":
            self._round_trip_s = max(0.0, time.monotonic() - told["c"] / 1e6)
        elif told.get("t") == "gone" and (line := self._lines.get(told.get("stream"))) is not None:
            gone = [seq for seq in line.missing if told["first"] <= seq <= told["last"]]
            self._ledger.count("ecg_gone", len(gone))
            self._give_up(line, gone)

    def chase(self) -> None:
        """Ten times a second: ask for what is missing, as the web client does (``waveform/tracker.ts``)."""
        now_s = time.monotonic()
        every_s = min(NACK_LATEST_S, max(NACK_SOONEST_S, 1.5 * self._round_trip_s))
        for stream_id, line in self._lines.items():
            if line.given_up:
                self._lose(line, [seq for seq, missed_s in line.given_up.items() if now_s - missed_s > USELESS_S])
            if not line.missing:
                continue
            due = [seq for seq, (_, at_s, _) in line.missing.items() if at_s <= now_s]
            over = {seq for seq in due if line.missing[seq][2] >= NACK_TRIES}
            over |= {seq for seq in due if now_s - line.missing[seq][0] > GIVEN_UP_S}
            asking = [seq for seq in due if seq not in over]
            self._give_up(line, over)
            for seq in asking:
                asked = line.missing[seq]
                asked[1], asked[2] = now_s + every_s, asked[2] + 1
            for first, last in runs(asking):
                self._ask(msgpack.packb({"t": "nack", "stream": stream_id, "first": first, "last": last}))

    def close(self) -> None:
        """Count what is still missing."""
        for line in self._lines.values():
            self._lose(line, [*line.missing, *line.given_up])

    def _forget(self, stream_id: int, line: _Line) -> None:
        """The device counts anew: nothing of the counting before is to be had any more."""
        self._lose(line, [*line.missing, *line.given_up])
        if len(self._past) < MOST_PAST:
            self._past.add((stream_id, line.numbering))

    def _place(self, line: _Line, frame: WaveformFrame, now_s: float) -> None:
        seq = frame.seq
        if seq in line.seen:
            if line.seen[seq] != frame.crc:
                self._ledger.count("ecg_twice")
            return
        if seq > line.highest:
            asked_from = max(line.highest + 1, seq - MOST_HOLE)
            self._tell_lost(asked_from - line.highest - 1)
            for missed in range(asked_from, seq):
                line.missing[missed] = [now_s, now_s, 0]
            line.highest, line.newest_ns, line.came_s = seq, frame.t0_ns, now_s
        elif seq in line.missing or seq in line.given_up:
            asked = line.missing.pop(seq, None)
            missed_s = asked[0] if asked is not None else line.given_up.pop(seq)
            self._ledger.count("ecg_repaired")
            self._ledger.add("ecg_repair_ms", (now_s - missed_s) * 1000)
        else:
            return  # before this viewer came, or lost
        self._ledger.count("ecg_in")
        line.seen[seq] = frame.crc
        if len(line.seen) > _SEEN:
            line.seen.popitem(last=False)

    def _give_up(self, line: _Line, numbers: Collection[int]) -> None:
        """Ask no more; a device whose path was gone may still bring it."""
        for seq in numbers:
            line.given_up[seq] = line.missing.pop(seq)[0]

    def _lose(self, line: _Line, numbers: Sequence[int]) -> None:
        for seq in numbers:
            line.missing.pop(seq, None)
            line.given_up.pop(seq, None)
        self._tell_lost(len(numbers))

    def _tell_lost(self, frames: int) -> None:
        if frames:
            self._ledger.count("ecg_missing", frames)
            self._gap(frames)


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as ``(first, last)`` of each unbroken run."""
    found: deque[tuple[int, int]] = deque()
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return list(found)
