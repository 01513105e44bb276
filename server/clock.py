"""The server's clock: UTC milliseconds that never run backwards.

Anchored once to the wall clock at start, then carried by the monotonic clock: a
correction of the machine's time while consults run would otherwise reorder the
audit trail and end sessions early. The cost is that a clock that was wrong at
start stays wrong until a restart; ``consilium doctor`` checks it.
"""

import time
from collections.abc import Callable

NowMs = Callable[[], int]
"""What everything that needs the time takes as an argument."""


def server_clock() -> NowMs:
    """A clock anchored now."""
    now_us = server_clock_us()

    def now_ms() -> int:
        return now_us() // 1_000

    return now_ms


def server_clock_us() -> Callable[[], int]:
    """The same in microseconds."""
    anchor_us = time.time_ns() // 1_000 - time.monotonic_ns() // 1_000

    def now_us() -> int:
        return anchor_us + time.monotonic_ns() // 1_000

    return now_us
