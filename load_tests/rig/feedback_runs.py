"""Transport-wide feedback for a load generator that gets packets in runs.

``media.core.twcc.ArrivalRecorder`` keeps one entry a packet, right for a relay and too
dear for a generator that plays fifty browsers on one core. Here an entry is a run:
consecutive numbers that the kernel delivered at the same instant. What is built is
ordinary feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01) with run-length
chunks only, and as true as a browser's: holes are reported as lost, arrivals are the
kernel's.
"""

from __future__ import annotations

import struct

from media.core import rtcp

TICK_NS = 250_000
TICKS_PER_REFERENCE = 256
MAX_STATUSES = 900
"""Packets in one feedback: at a byte each it fits any path."""
MAX_HOLE = 400
"""More than this missing at once starts a new feedback instead of listing them."""
_LOST, _SMALL, _LARGE = 0, 1, 2


class RunRecorder:
    """Arrivals of one transport, waiting to be reported."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, int, int]] = []
        self._next: int | None = None
        self._count = 0

    def record(self, first: int, count: int, stamp_ns: int) -> None:
        """``count`` packets numbered from ``first`` on came at one instant; late ones stay reported as lost."""
        if self._next is not None and (first - self._next) & 0xFFFF >= 0x8000:
            return
        self._runs.append((first, count, stamp_ns))
        self._next = (first + count) & 0xFFFF

    def build(self, sender_ssrc: int, media_ssrc: int) -> list[bytes]:
        """RTCP packets that report everything recorded since the last call."""
        runs, self._runs = self._runs, []
        packets = []
        position = 0
        while position < len(runs):
            body, position = self._build_one(runs, position)
            packets.append(rtcp.build_transport_feedback(sender_ssrc, media_ssrc, body))
        return packets

    def _build_one(self, runs: list[tuple[int, int, int]], position: int) -> tuple[bytes, int]:
        start, _, stamp_ns = runs[position]
        reference = stamp_ns // TICK_NS // TICKS_PER_REFERENCE
        last = reference * TICKS_PER_REFERENCE
        following, statuses = start, 0
        symbols: list[tuple[int, int]] = []
        deltas = bytearray()
        while position < len(runs):
            first, count, stamp_ns = runs[position]
            hole = (first - following) & 0xFFFF
            if statuses and (hole > MAX_HOLE or statuses + hole + count > MAX_STATUSES):
                break
            delta = stamp_ns // TICK_NS - last
            if not -0x8000 <= delta <= 0x7FFF:
                break
            if hole:
                symbols.append((_LOST, hole))
            if 0 <= delta <= 0xFF:
                symbols.append((_SMALL, count))
                deltas.append(delta)
            else:
                symbols.append((_LARGE, 1))
                symbols.append((_SMALL, count - 1))
                deltas += struct.pack("!h", delta)
            deltas += bytes(count - 1)
            last += delta
            statuses += hole + count
            following = (first + count) & 0xFFFF
            position += 1
        head = struct.pack("!HHI", start, statuses, (reference & 0xFF_FFFF) << 8 | self._count)
        self._count = (self._count + 1) & 0xFF
        body = head + _chunks(symbols) + deltas
        return body + bytes(-len(body) & 3), position


def _chunks(symbols: list[tuple[int, int]]) -> bytes:
    """Run-length chunks; neighbours that agree are one."""
    merged: list[list[int]] = []
    for symbol, count in symbols:
        if merged and merged[-1][0] == symbol:
            merged[-1][1] += count
        elif count:
            merged.append([symbol, count])
    return b"".join(struct.pack("!H", symbol << 13 | count) for symbol, count in merged)
