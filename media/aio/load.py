"""How busy this worker is: one ``Load`` notification a second.

A timer that should come twenty times a second tells by how much the event loop is late (``media.core.lag``); the
process's CPU clock covers all threads, the encrypting ones too. Both cost microseconds, so the measuring may go on in
an idle worker.

What is made of it is ``media.core.placement``.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from media.aio.clock import on_grid
from media.aio.lag import LagProbe
from media.core.control import Load

REPORT_S = 1.0
LOOK_S = 0.05
"""A wake-up that serves nobody: not as often as in the server's own process."""


class LoadMeter:
    """Owns two timers.

    Args:
        stats: counters of the relay by name.
        notify: takes each report; must not block.
    """

    def __init__(self, stats: Callable[[], Mapping[str, int]], notify: Callable[[Load], None]) -> None:
        self._stats = stats
        self._notify = notify
        self._timer: asyncio.TimerHandle | None = None
        self._probe = LagProbe(LOOK_S)
        self._began = 0.0
        self._cpu = 0.0
        self._packets = (0, 0)

    def start(self) -> None:
        """Begin a first second."""
        self._begin(asyncio.get_running_loop().time())
        self._probe.start()
        self._schedule()

    def stop(self) -> None:
        """No more reports; idempotent."""
        self._probe.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self, now: float) -> None:
        self._began = now
        self._cpu = time.process_time()
        stats = self._stats()
        self._packets = (stats.get("rtp_received", 0), stats.get("rtp_sent", 0))

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(on_grid(loop.time(), REPORT_S), self._report)

    def _report(self) -> None:
        now = asyncio.get_running_loop().time()
        elapsed = now - self._began
        if elapsed < REPORT_S / 2:  # the first one: so short a time says nothing
            self._schedule()
            return
        cpu, late, (received, sent) = self._cpu, self._probe.take(), self._packets
        self._begin(now)
        self._schedule()
        stats = self._stats()
        self._notify(
            Load(
                cpu_share=round((self._cpu - cpu) / elapsed, 4),
                loop_lag_ms=round(late.worst_s * 1000, 1),
                loop_lags=late.counts,
                loop_lags_s=round(late.total_s, 4),
                packets_in_per_s=round((self._packets[0] - received) / elapsed),
                packets_out_per_s=round((self._packets[1] - sent) / elapsed),
                transports=stats.get("transports_now", 0),
                consumers=stats.get("consumers_now", 0),
            )
        )
