"""How far the other end's clock is off, from pings (RFC 5905 section 8 without its filters).

Of the last samples the one with the shortest way there and back is believed: the way was then least
uneven, and half of it bounds the error.
"""

from collections import deque
from dataclasses import dataclass

SAMPLES = 16
SUSPECT_US = 5_000_000
"""Beyond this a clock is called wrong: times in the two logs could no longer be put side by side by a person."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Offset:
    """Other clock minus own clock."""

    offset_us: int
    error_us: int


class ClockOffset:
    """Estimate from (sent, other, returned)."""

    def __init__(self) -> None:
        self._samples: deque[Offset] = deque(maxlen=SAMPLES)

    def take(self, *, sent_us: int, other_us: int, returned_us: int) -> None:
        """A ping that came back; one that came back before it was sent is a clock that was set, and starts over."""
        way = returned_us - sent_us
        if way < 0:
            self._samples.clear()
            return
        self._samples.append(Offset(offset_us=other_us - (sent_us + way // 2), error_us=way // 2 + 1))

    @property
    def best(self) -> Offset | None:
        """The estimate, None before the first ping came back."""
        return min(self._samples, key=lambda one: one.error_us, default=None)


def is_suspect(offset: Offset | None) -> bool:
    """Whether the difference is beyond doubt and too large."""
    return offset is not None and abs(offset.offset_us) - offset.error_us > SUSPECT_US
