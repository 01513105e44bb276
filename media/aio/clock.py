"""The worker's clock: UTC microseconds that never go back.

The wall clock is read once; from then on the monotonic clock counts. Waveform viewers and sender
reports rely on it, so a step of the system time must not reach them.
"""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Microseconds since 1970, UTC."""


def start_clock() -> Clock:
    """Anchor a clock at this moment."""
    anchor_ns = time.time_ns() - time.monotonic_ns()
    monotonic_ns = time.monotonic_ns
    return lambda: (monotonic_ns() + anchor_ns) // 1000
