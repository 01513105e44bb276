"""How busy this worker is: one ``Load`` notification a second.

A timer that should come every 200 ms tells by how much the event loop is late; the process's CPU clock covers
all threads, the encrypting ones too. Both cost microseconds, so the measuring may go on in an idle worker.

What is made of it is ``media.core.placement``.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from media.aio.clock import on_grid
from media.core.control import Load

LOOK_S = 0.2
REPORT_LOOKS = 5
"""Looks in one report."""


class LoadMeter:
    """Owns one timer.

    Args:
        stats: counters of the relay by name.
        notify: takes each report; must not block.
    """

    def __init__(self, stats: Callable[[], Mapping[str, int]], notify: Callable[[Load], None]) -> None:
        self._stats = stats
        self._notify = notify
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._began = 0.0
        self._looks = 0
        self._late = 0.0
        self._cpu = 0.0
        self._packets = (0, 0)

    def start(self) -> None:
        """Begin a first second."""
        self._begin(asyncio.get_running_loop().time())
        self._schedule()

    def stop(self) -> None:
        """No more reports; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self, now: float) -> None:
        self._began, self._looks, self._late = now, 0, 0.0
        self._cpu = time.process_time()
        stats = self._stats()
        self._packets = (stats.get("rtp_received", 0), stats.get("rtp_sent", 0))

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = on_grid(loop.time(), LOOK_S)
        self._timer = loop.call_at(self._due, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        self._late = max(self._late, now - self._due)
        self._looks += 1
        if self._looks == REPORT_LOOKS:
            self._report(now)
        self._schedule()

    def _report(self, now: float) -> None:
        elapsed = now - self._began
        cpu, late, (received, sent) = self._cpu, self._late, self._packets
        self._begin(now)
        stats = self._stats()
        self._notify(
            Load(
                cpu_share=round((self._cpu - cpu) / elapsed, 4),
                loop_lag_ms=round(late * 1000, 1),
                packets_in_per_s=round((self._packets[0] - received) / elapsed),
                packets_out_per_s=round((self._packets[1] - sent) / elapsed),
                transports=stats.get("transports_now", 0),
                consumers=stats.get("consumers_now", 0),
            )
        )
