"""Where an archived stream is broken, read from its index alone: what the overview of hours is drawn from.

A break is a *gap*, samples missing between two frames whoever lost them, or a *session*, where the device began anew
and no line leads over (W2, W5). It is told by time: that is what people leaf by.
"""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from server.waveforms.core.order import RESTART, Head

MAX_BREAKS: Final = 2000
"""Of more, the longest are told: they are what is seen from afar."""


class Break(NamedTuple):
    """One of them; a session's is a moment."""

    from_us: int
    to_us: int
    kind: Literal["gap", "session"]


def breaks_of(heads: Iterable[Head], limit: int = MAX_BREAKS) -> tuple[list[Break], int]:
    """All breaks between frames, rising in time.

    Args:
        heads: of every frame, in any order.

    Returns:
        At most ``limit`` of them, and how many there are.
    """
    found: list[Break] = []
    end_us: int | None = None
    for head in sorted(heads, key=lambda one: one.t0_us):
        if not head.n:
            continue
        # Times are whole microseconds: less than half a sample is no hole.
        if end_us is not None and head.t0_us - end_us > 500_000_000 // head.sample_rate_mhz:
            found.append(Break(end_us, head.t0_us, "gap"))
        if end_us is not None and head.flags & RESTART:
            found.append(Break(head.t0_us, head.t0_us, "session"))
        end_us = head.end_us if end_us is None else max(end_us, head.end_us)
    longest = sorted(found, key=lambda one: one.from_us - one.to_us)[:limit]
    return sorted(longest), len(found)
