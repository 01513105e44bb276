"""The generators' C side at whatever RTCP a server sends it under the right keys: strict as ``media.core.rtcp`` is.

The reader in Python is the law: what it refuses, C refuses whole and counts once; of what it reads, C has heard the
same. Coverage is the law's, since C has none to tell.
"""

from __future__ import annotations

from typing import Any

from pylibsrtp import Error as SrtpError

from load_tests.session import engine as engines
from media.core import rtcp, twcc
from tests.generator_kit import Bench

MOST_BPS = (1 << 63) - 1
BEGIN_S = 100.0


def believed(data: bytes) -> list[Any] | None:
    """What the law reads, feedback as `twcc.ReceivedFeedback`; None: it refuses."""
    try:
        return [
            twcc.read_feedback(item.fci) if isinstance(item, rtcp.TransportFeedback) else item
            for item in rtcp.parse(data)
        ]
    except rtcp.MalformedRtcp:
        return None


class Generator:
    """One Transport that sends, and its far end."""

    def __init__(self) -> None:
        self._bench: Bench | None = None
        self._heard: Any = None
        self._remb_bps = 0

    def __call__(self, data: bytes) -> None:
        items = believed(data)
        if engines.load() is None or not (8 <= len(data) <= 1_300 and data[0] >> 6 == 2 and 192 <= data[1] <= 223):
            return  # not built, or it goes another way
        if self._bench is None:
            self._bench = _sending()
            self._heard = self._bench.engine.ffi.new("gen_heard *")
        bench, heard = self._bench, self._heard
        before = bench.counted().errors["rtcp not readable"], bench.ledger.counts["pli_in"]
        try:
            protected = bytes(bench.to_near.protect_rtcp(data))
        except SrtpError:
            return
        bench.far.send(protected)
        bench.turn(BEGIN_S)
        bench.lib.gen_hear(bench.state, bench.handle, heard)
        refused = bench.counted().errors["rtcp not readable"] - before[0]
        asked = bench.ledger.counts["pli_in"] - before[1]
        assert refused == (items is None), "refused by one of both"
        feedback = [item for item in items or () if isinstance(item, twcc.ReceivedFeedback)]
        assert heard.told == sum(one.statuses for one in feedback)
        assert heard.arrived == sum(len(one.offsets) for one in feedback)
        assert asked == sum(isinstance(item, rtcp.Pli | rtcp.Fir) for item in items or ())
        for item in items or ():
            self._remb_bps = min(item.bitrate_bps, MOST_BPS) if isinstance(item, rtcp.Remb) else self._remb_bps
        assert heard.remb_bps == self._remb_bps


def _sending() -> Bench:
    bench = Bench()
    level = bench.engine.ffi.new("gen_layer *")
    level.block_bytes = 12
    bench.lib.gen_microphone(bench.state, bench.handle, level, float("inf"), 0.0, 111, 11, False)
    return bench
