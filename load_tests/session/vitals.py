"""Vital signs of a simulated bedside monitor: the numbers that the product's own simulator measures, as it sends them.

Four messages a second and a cuff's pressure every five minutes, over a reliable channel beside the waveform's
(media/WAVEFORM_WIRE.md section 6). They are measured once for the process; each message gets its own time when it
leaves. What was newest when a path broke goes out again on the next one, as ``server.bedside`` does.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Final

import msgpack

from load_tests.report.ledger import Ledger
from load_tests.session.wall import wall_ns
from media.sources.model import Vital
from media.sources.simulator.monitor import Settings, Simulator

CYCLE_S: Final = 300
"""Between two measurements of the cuff; then everything begins anew."""
KEEP_US: Final = 60_000_000
TICK_S: Final = 1.0


@functools.cache
def measured() -> tuple[tuple[Vital, ...], ...]:
    """What is determined in each second of a cycle; times from its beginning."""
    simulator = Simulator(Settings(nibp_every_s=CYCLE_S))
    seconds = []
    for _ in range(CYCLE_S):
        simulator.skip(simulator.settings.sample_rate_hz)
        seconds.append(tuple(simulator.vitals()))
    return tuple(seconds)


def descriptor(patient: str) -> dict[str, Any]:
    """What is announced with the channel."""
    return {"device": "simulated monitor", "simulated": True, "patient": patient}  # (W9)


class VitalSource:
    """The numbers of one binding, from now until `close`, whatever happens to their path meanwhile."""

    def __init__(self, context_version: int, ledger: Ledger, first: int) -> None:
        self._version, self._ledger = context_version, ledger
        self._send: Callable[[bytes], bool] | None = None
        self._newest: dict[str, tuple[int, bytes]] = {}
        """By code: when it was measured, and its message."""
        self._second = first % CYCLE_S
        self._loop = asyncio.get_running_loop()
        self._due_s = self._loop.time() + TICK_S
        self._timer = self._loop.call_at(self._due_s, self._tick)

    def attach(self, send: Callable[[bytes], bool]) -> None:
        """From now on they go out by this path, the newest first."""
        self._send = send
        now_us = wall_ns() // 1000
        for code, (at_us, message) in self._newest.items():
            if now_us - at_us < KEEP_US or code == "NIBP":
                self._out(message)

    def detach(self) -> None:
        """The path is gone."""
        self._send = None

    def close(self) -> None:
        """The binding is over; idempotent."""
        self._timer.cancel()

    def _tick(self) -> None:
        self._due_s = max(self._due_s + TICK_S, self._loop.time())
        self._timer = self._loop.call_at(self._due_s, self._tick)
        at_us = wall_ns() // 1000
        for vital in measured()[self._second]:
            message = self._message(vital, at_us)
            self._newest[vital.code] = (at_us, message)
            self._out(message)
        self._second = (self._second + 1) % CYCLE_S

    def _message(self, vital: Vital, at_us: int) -> bytes:
        value = list(vital.value) if isinstance(vital.value, tuple) else vital.value
        fields = {
            "t": "vital", "cv": self._version, "code": vital.code, "v": value, "u": vital.unit, "at": at_us,
            "q": vital.quality, "sim": True,
        }  # fmt: skip
        return bytes(msgpack.packb(fields))

    def _out(self, message: bytes) -> None:
        if self._send is not None and self._send(message):
            self._ledger.count("vitals_out")
