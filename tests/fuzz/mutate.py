"""Inputs out of inputs: seeded, without a library, with what breaks parsers of lengths and lists."""

import random
from collections.abc import Callable, Sequence

MAX_BYTES = 2_048
_EDGES = (0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)


class Mutator:
    """Endless variations of a corpus.

    Args:
        words: pieces that the format gives a meaning to.
    """

    def __init__(self, seed: int, words: Sequence[bytes] = ()) -> None:
        self.random = random.Random(seed)
        self._words = words
        self._ways: list[Callable[[bytearray, bytes], None]] = [
            self._flip,
            self._flip,
            self._byte,
            self._byte,
            self._edge,
            self._edge,
            self._length,
            self._length,
            self._insert,
            self._delete,
            self._repeat,
            self._truncate,
            self._splice,
        ]
        if words:
            self._ways += [self._word, self._word]

    def next(self, corpus: Sequence[bytes]) -> bytes:
        """One more input."""
        if self.random.random() < 0.01:
            return self.random.randbytes(self.random.randrange(200))
        data = bytearray(self.random.choice(corpus))
        other = self.random.choice(corpus)
        for _ in range(1 << self.random.randrange(5)):
            if data:
                self.random.choice(self._ways)(data, other)
            else:
                data += self.random.randbytes(self.random.randrange(1, 20))
        return bytes(data[:MAX_BYTES])

    def _at(self, data: bytearray) -> int:
        """Rather at the beginning, where headers are."""
        return min(int(self.random.random() ** 2 * len(data)), len(data) - 1)

    def _flip(self, data: bytearray, _: bytes) -> None:
        data[self._at(data)] ^= 1 << self.random.randrange(8)

    def _byte(self, data: bytearray, _: bytes) -> None:
        data[self._at(data)] = self.random.randrange(256)

    def _edge(self, data: bytearray, _: bytes) -> None:
        """An extreme number where two bytes may be a count or a length."""
        at, value = self._at(data), self.random.choice(_EDGES)
        if value > 0xFF or self.random.random() < 0.5:
            data[at : at + 2] = value.to_bytes(2, "big")
        else:
            data[at] = value

    def _length(self, data: bytearray, _: bytes) -> None:
        """A length that is right, or off by little, for what follows."""
        at = self._at(data)
        rest = len(data) - at - 2 + self.random.randrange(-8, 9)
        unit = self.random.choice((1, 4))
        if self.random.random() < 0.5:
            data[at] = max(0, rest // unit) & 0xFF
        else:
            data[at : at + 2] = (max(0, rest // unit) & 0xFFFF).to_bytes(2, "big")

    def _insert(self, data: bytearray, _: bytes) -> None:
        at = self._at(data)
        data[at:at] = self.random.randbytes(self.random.choice((1, 2, 4, 8)))

    def _delete(self, data: bytearray, _: bytes) -> None:
        at = self._at(data)
        del data[at : at + self.random.choice((1, 2, 4, 8, 16))]

    def _repeat(self, data: bytearray, _: bytes) -> None:
        at = self._at(data)
        piece = bytes(data[at : at + self.random.randrange(1, 40)])
        if len(piece) * 30 < MAX_BYTES:
            data[at:at] = piece * self.random.randrange(1, 30)

    def _truncate(self, data: bytearray, _: bytes) -> None:
        del data[self.random.randrange(len(data)) + 1 :]

    def _splice(self, data: bytearray, other: bytes) -> None:
        if other:
            data[self._at(data) :] = other[self.random.randrange(len(other)) :]

    def _word(self, data: bytearray, _: bytes) -> None:
        at, word = self._at(data), self.random.choice(self._words)
        if self.random.random() < 0.5:
            data[at:at] = word
        else:
            data[at : at + len(word)] = word
