"""Who is speaking: client-to-mixer audio levels (RFC 6464) to one active speaker or none.

Each audio Producer has an `AudioLevel` that the packet path feeds one byte per packet. From time
to time `SpeakerDetector.update` smooths them and decides, with three brakes against flapping: a
challenger must be clearly louder, a speaker is kept for a while, and silence must last before
nobody is active.

The level is -dBov: 0 is loudest, 127 silent. Here loudness is ``127 - level``, so more is louder.
No clock here: ``now_us`` is an argument.
"""

from typing import Final, Generic, TypeVar

K = TypeVar("K")

SPEECH_LOUDNESS: Final = 127 - 50
"""Above this someone speaks; a quiet room's microphone stays below -60 dBov."""
MARGIN_DB: Final = 4
"""How much louder than the active speaker a challenger must be."""
SMOOTHING_US: Final = 400_000
"""Time constant: shorter reacts to coughs, longer loses the first sentence."""
HOLD_US: Final = 1_500_000
"""Least time between two speakers."""
SILENCE_US: Final = 2_000_000
"""The active speaker must be silent this long before there is none: a breath is not the end."""


class AudioLevel:
    """Levels of one Producer since the last update."""

    __slots__ = ("_count", "_sum", "loudness")

    def __init__(self) -> None:
        self._sum = 0
        self._count = 0
        self.loudness = 0.0
        """Smoothed, 0 to 127."""

    def add(self, level_byte: int) -> None:
        """One packet's extension byte: voice flag in the top bit, level below (RFC 6464 section 3)."""
        self._sum += 127 - (level_byte & 0x7F)
        self._count += 1

    def smooth(self, weight: float) -> None:
        """Fold what came since the last call into ``loudness``; nothing came means silence (DTX, mute)."""
        mean = self._sum / self._count if self._count else 0.0
        self._sum = self._count = 0
        self.loudness += (mean - self.loudness) * weight


class SpeakerDetector(Generic[K]):
    """The active speaker of one Router; keys are the caller's Producer ids."""

    def __init__(self) -> None:
        self.active: K | None = None
        self._levels: dict[K, AudioLevel] = {}
        self._updated_us: int | None = None
        self._switched_us = 0
        self._heard_us = 0

    def add(self, key: K) -> AudioLevel:
        """Start to watch a Producer; feed its packets to the result."""
        level = self._levels[key] = AudioLevel()
        return level

    def remove(self, key: K) -> None:
        """Stop watching; the active speaker ends at the next update. Unknown keys are ignored."""
        self._levels.pop(key, None)

    def update(self, now_us: int) -> bool:
        """Smooth and decide; call every 100 to 300 ms.

        Returns:
            True when ``active`` changed.
        """
        elapsed = max(0, now_us - self._updated_us) if self._updated_us is not None else SMOOTHING_US
        self._updated_us = now_us
        weight = elapsed / (elapsed + SMOOTHING_US)
        for level in self._levels.values():
            level.smooth(weight)
        chosen = self._choose(now_us)
        if chosen == self.active:
            return False
        self.active = chosen
        self._switched_us = now_us
        return True

    def _choose(self, now_us: int) -> K | None:
        loudest = max(self._levels, key=lambda key: self._levels[key].loudness, default=None)
        if loudest is None:
            return None
        best = self._levels[loudest].loudness
        current = self._levels.get(self.active) if self.active is not None else None
        if current is None:
            if best < SPEECH_LOUDNESS:
                return None
            self._heard_us = now_us
            return loudest
        if current.loudness >= SPEECH_LOUDNESS:
            self._heard_us = now_us
        held = now_us - self._switched_us < HOLD_US
        if best >= SPEECH_LOUDNESS and best >= current.loudness + MARGIN_DB and not held:
            self._heard_us = now_us
            return loudest
        return None if now_us - self._heard_us >= SILENCE_US else self.active
