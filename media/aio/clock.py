"""The worker's clock: UTC microseconds that never go back.

The wall clock is read once; from then on the monotonic clock counts. Waveform viewers and sender
reports rely on it, so a step of the system time must not reach them.
"""

import os
import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Microseconds since 1970, UTC."""


def clock_anchor_ns() -> int:
    """What makes wall time of the monotonic clock, which all processes of a machine share."""
    return time.time_ns() - time.monotonic_ns()


def start_clock(anchor_ns: int | None = None) -> Clock:
    """A clock anchored at this moment, or where the machine's other workers have theirs."""
    if anchor_ns is None:
        anchor_ns = clock_anchor_ns()
    monotonic_ns = time.monotonic_ns
    return lambda: (monotonic_ns() + anchor_ns) // 1000


_PHASE_S = os.getpid() % 97 / 97
"""So that the workers of a machine do not all wake up at once."""


def on_grid(now_s: float, step_s: float) -> float:
    """When the next step begins: periodic work that keeps to steps shares its wake-ups."""
    return ((now_s - _PHASE_S) // step_s + 1) * step_s + _PHASE_S
