"""Which voices of a large consult are forwarded: the loudest few, without cutting words.

Thirty open microphones are thirty streams to every viewer and a mix nobody understands. With more audio Producers than
places, `LoudestVoices` decides per packet, from its audio level (RFC 6464), whether it goes on.

* A voice that starts finds a place within its first two packets, so that no first syllable is lost:
  a free one, or that of who has been silent the longest.
* Who has a place keeps it through breaths and pauses between words (``KEEP_US``). While everybody with a place
  speaks, a newcomer must be clearly louder for a time, and who has just got a place cannot lose it.

With as many Producers as places, or fewer, everything goes on and nothing is computed. Who is *the*
speaker, for a screen to show, is ``speaker``. No clock here: ``now_us`` is an argument.
"""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from media.core.speaker import SPEECH_LOUDNESS

K = TypeVar("K", bound=Hashable)

PLACES: Final = 6
"""Above what is said at once in any consult, and beside it the rooms' own sounds; a mix of more is noise."""
SPEECH_PACKETS: Final = 2
"""Packets above the level of speech in a row that make a voice; one may be a click."""
KEEP_US: Final = 2_000_000
"""A place is kept this long after the last speech: a breath or a thought is not the end."""
LEAST_US: Final = 1_000_000
"""Nobody loses a place sooner, not even to a louder voice."""
MARGIN_DB: Final = 6
"""How much louder than the quietest speaker with a place a newcomer must be..."""
LOUDER_US: Final = 300_000
"""...and for how long without a break of ``GAP_US``."""
GAP_US: Final = 100_000
SMOOTHING_US: Final = 200_000


class Voice(Generic[K]):
    """One audio Producer."""

    __slots__ = ("_packets", "_seen_us", "key", "louder_since_us", "loudness", "placed_us", "spoke_us")

    def __init__(self, key: K) -> None:
        self.key = key
        self.loudness = 0.0
        """Smoothed over speech, 0 to 127."""
        self.spoke_us = -KEEP_US
        """Last packet of speech."""
        self.placed_us: int | None = None
        """Since when it has a place; None: it has none."""
        self.louder_since_us: int | None = None
        self._packets = 0
        self._seen_us = 0

    def hear(self, level_byte: int, now_us: int) -> bool:
        """One packet; true when it is speech and not a click."""
        loudness = 127 - (level_byte & 0x7F)
        elapsed_us = max(0, now_us - self._seen_us)
        self._seen_us = now_us
        if elapsed_us > GAP_US:
            self._packets = 0
            self.louder_since_us = None
        if loudness < SPEECH_LOUDNESS:
            self._packets = 0
            return False
        self._packets += 1
        if self._packets == 1 and now_us - self.spoke_us > KEEP_US:
            self.loudness = float(loudness)
        self.loudness += (loudness - self.loudness) * elapsed_us / (elapsed_us + SMOOTHING_US)
        if self._packets < SPEECH_PACKETS:
            return False
        self.spoke_us = now_us
        return True


class LoudestVoices(Generic[K]):
    """Places of one Router; keys are the caller's Producer ids."""

    def __init__(self, places: int = PLACES) -> None:
        assert places > 0
        self._count = places
        self._voices: dict[K, Voice[K]] = {}
        self._placed: list[Voice[K]] = []

    def __len__(self) -> int:
        return len(self._voices)

    @property
    def choosing(self) -> bool:
        """There are more voices than places; while false the packet path need not ask."""
        return len(self._voices) > self._count

    @property
    def placed(self) -> list[K]:
        """Who is forwarded."""
        return [voice.key for voice in self._placed]

    def add(self, key: K) -> None:
        """A Producer is there; it takes a free place."""
        if key in self._voices:
            return
        voice = self._voices[key] = Voice(key)
        if len(self._placed) < self._count:
            self._place(voice, 0)

    def remove(self, key: K) -> None:
        """A Producer is gone or paused; its place goes to who spoke last. Unknown keys are ignored."""
        voice = self._voices.pop(key, None)
        if voice is None or voice.placed_us is None:
            return
        self._placed.remove(voice)
        waiting = [other for other in self._voices.values() if other.placed_us is None]
        if waiting:
            latest = max(waiting, key=lambda other: other.spoke_us)
            self._place(latest, latest.spoke_us)

    def forwards(self, key: K, level_byte: int, now_us: int) -> bool:
        """Take the level of one packet; whether the packet goes on to viewers.

        Args:
            key: as added; an unknown one is forwarded, as nothing is known of it.
            level_byte: voice flag in the top bit, -dBov below.
        """
        if len(self._voices) <= self._count:
            return True
        voice = self._voices.get(key)
        if voice is None:
            return True
        speech = voice.hear(level_byte, now_us)
        if voice.placed_us is not None:
            return True
        return speech and self._challenge(voice, now_us)

    def _challenge(self, voice: Voice[K], now_us: int) -> bool:
        """A voice without a place speaks; true when it has one now."""
        silent = min(self._placed, key=lambda placed: placed.spoke_us)
        if now_us - silent.spoke_us >= KEEP_US:
            self._replace(silent, voice, now_us)
            return True
        quietest = min(self._placed, key=lambda placed: placed.loudness)
        if voice.loudness < quietest.loudness + MARGIN_DB:
            voice.louder_since_us = None
            return False
        if voice.louder_since_us is None:
            voice.louder_since_us = now_us
        assert quietest.placed_us is not None
        if now_us - voice.louder_since_us < LOUDER_US or now_us - quietest.placed_us < LEAST_US:
            return False
        self._replace(quietest, voice, now_us)
        return True

    def _replace(self, loser: Voice[K], winner: Voice[K], now_us: int) -> None:
        loser.placed_us = None
        loser.louder_since_us = None
        self._placed.remove(loser)
        self._place(winner, now_us)

    def _place(self, voice: Voice[K], now_us: int) -> None:
        voice.placed_us = now_us
        voice.louder_since_us = None
        self._placed.append(voice)
