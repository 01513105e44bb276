"""What time it is in the run: the coordinator's wall clock, as this machine's tells it.

Generators on several machines have clocks of their own. By how much each is before the coordinator's is measured over
the link (`load_tests.run.crew`) and told to the generator, which takes it off every time that it writes or reads: of
what a packet or a frame says when it left, of the kernel's stamps of arrival, of page turns. So a one-way time is as
good as the two clocks were compared, and no worse by how they are set. One process plays one run at a time.
"""

from __future__ import annotations

import time

_ahead_ns = 0


def set_ahead(ahead_s: float) -> None:
    """From now on this machine's clock counts as so much before the coordinator's."""
    global _ahead_ns
    _ahead_ns = round(ahead_s * 1e9)


def ahead_ns() -> int:
    """What is to be taken off a time of this machine's clock."""
    return _ahead_ns


def wall_ns() -> int:
    """Since 1970."""
    return time.time_ns() - _ahead_ns


def wall_s() -> float:
    """Since 1970."""
    return time.time() - _ahead_ns / 1e9
