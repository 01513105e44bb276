"""A token bucket: so many at once, so many a second after that. The time comes in as an argument."""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """``burst`` tokens at the start, refilled at ``rate_hz``."""

    rate_hz: float
    burst: int
    _level: float = -1.0
    _at_s: float = 0.0

    def take(self, now_s: float) -> bool:
        """Take one token if there is one; ``now_s`` never runs backwards."""
        if self._level < 0:
            self._level, self._at_s = float(self.burst), now_s
        self._level = min(float(self.burst), self._level + (now_s - self._at_s) * self.rate_hz)
        self._at_s = now_s
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True

    def give_back(self) -> None:
        """What was taken was not used."""
        self._level = min(float(self.burst), self._level + 1.0)
