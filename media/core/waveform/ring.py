"""The last 30 s of one stream as whole frames, to answer who missed some."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

RING_US: Final = 30_000_000
MAX_FRAMES: Final = 3000
"""30 s of 10 ms frames."""
MAX_BYTES: Final = 4_000_000


class FrameRing:
    """Frames by sequence number; the oldest go first by age, count or bytes."""

    def __init__(self) -> None:
        self._frames: OrderedDict[int, tuple[int, bytes]] = OrderedDict()
        self._bytes = 0
        self.newest_seq = -1

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, seq: int, frame: bytes, now_us: int) -> None:
        """Keep a frame that is not kept yet, and let go of what is too old."""
        if seq not in self._frames:
            self._frames[seq] = (now_us, frame)
            self._bytes += len(frame)
            self.newest_seq = max(self.newest_seq, seq)
        while self._frames:
            kept_at, oldest = next(iter(self._frames.values()))
            if now_us - kept_at <= RING_US and len(self._frames) <= MAX_FRAMES and self._bytes <= MAX_BYTES:
                break
            self._frames.popitem(last=False)
            self._bytes -= len(oldest)

    def get(self, seq: int) -> bytes | None:
        """The frame as its source made it, without transport flags."""
        kept = self._frames.get(seq)
        return None if kept is None else kept[1]

    def after(self, seq: int) -> Iterator[int]:
        """Sequence numbers above ``seq`` that are kept, rising."""
        return iter(sorted(kept for kept in self._frames if kept > seq))

    def clear(self) -> None:
        """Forget everything (the source counts anew)."""
        self._frames.clear()
        self._bytes = 0
        self.newest_seq = -1
