"""Bursts in pieces: a key frame must not arrive at a thin line in one piece.

A key frame is ten times a common frame; sent at once it fills the line's buffer, and what it pushes
out is lost. So a leg has a token bucket. What is common costs nothing: a burst that is not above
``FREE_BURST_BYTES`` leaves without asking, and for a larger one a leg is asked once, which is one
comparison as long as its bucket holds enough.

What has to wait is kept here as references (the caller's lane and number, never the bytes). The bound
of the queue is time: it may take ``QUEUE_US`` at the leg's rate, a key frame's own time not counted; beyond it the
owners' waiting packets are dropped and they go on at their next key frame, as everywhere in the
relay. A key frame on its way, and what comes behind it meanwhile, is given its time: otherwise a thin line would
be asked for key frames for ever.

Sound and small bursts never wait; what leaves past others that do, they `spend`. Data and RTCP are too little to count.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

FREE_BURST_BYTES: Final = 6_000
"""Five full packets: a frame of 1.4 Mbit/s at 30 frames/s; the buffers of any line hold it."""
RATE_FACTOR: Final = 2.5
"""libwebrtc's: faster than the estimate, so that pieces add little delay, slower than the line's burst."""
FLOOR_BPS: Final = 500_000
"""Paced at less, a key frame would take longer than a viewer waits."""
BUCKET_US: Final = 20_000
LEAST_BUCKET_BYTES: Final = FREE_BURST_BYTES
QUEUE_US: Final = 300_000
KEY_FRAME_US: Final = 1_000_000
"""A key frame is through after this at the latest: the rate is raised for it."""
MAX_QUEUED: Final = 4096
"""Items, whatever their time."""

T = TypeVar("T")


@dataclass(slots=True)
class _Waiting(Generic[T]):
    item: T
    owner: str
    size_bytes: int
    key: bool


class Pacer(Generic[T]):
    """Token bucket and waiting packets of one leg; owners are Consumer ids."""

    __slots__ = (
        "_after_key",
        "_bucket_bytes",
        "_filled_us",
        "_key_bytes",
        "_key_most_bytes",
        "_queue",
        "_queued_bytes",
        "_rate_bps",
        "credit_bytes",
        "least_bps",
    )

    def __init__(self, estimate_bps: int, now_us: int) -> None:
        self.credit_bytes = LEAST_BUCKET_BYTES
        """What may leave at once; negative while sound runs ahead."""
        self._filled_us = now_us
        self._queue: deque[_Waiting[T]] = deque()
        self._queued_bytes = 0
        self._key_bytes = 0
        self._key_most_bytes = 0
        """Of the key frames that wait, when the most of them did: the rate is held until they are through."""
        self._after_key = False
        """A key frame waits or has left since the queue was empty: what came behind it has its time too."""
        self._rate_bps = 0
        self._bucket_bytes = 0
        self.least_bps = 0
        """Paced as for an estimate of this at least; takes effect with the next estimate."""
        self.set_estimate(estimate_bps)

    def set_estimate(self, estimate_bps: int) -> None:
        """The estimate of the line changed."""
        self._rate_bps = max(FLOOR_BPS, int(RATE_FACTOR * max(estimate_bps, self.least_bps)))
        self._bucket_bytes = max(LEAST_BUCKET_BYTES, self._rate_bps * BUCKET_US // 8_000_000)

    @property
    def rate_bps(self) -> int:
        """Bits a second that leave now; more than the set rate while a large key frame waits."""
        return max(self._rate_bps, self._key_most_bytes * 8_000_000 // KEY_FRAME_US)

    @property
    def waiting(self) -> bool:
        """Something waits: whatever comes for its owners must wait behind it."""
        return bool(self._queue)

    def spend(self, size_bytes: int) -> None:
        """Something left that never waits."""
        self.credit_bytes -= size_bytes
        if self.credit_bytes < -2 * self._bucket_bytes:
            self.credit_bytes = -2 * self._bucket_bytes  # what never waits must not stop the picture for good

    def passes(self, size_bytes: int, now_us: int) -> bool:
        """A burst may leave at once, in one piece; it is paid for then."""
        if self._queue:
            return False
        if size_bytes > self.credit_bytes:
            self._fill(now_us)
            if size_bytes > self.credit_bytes:
                return False
        self.credit_bytes -= size_bytes
        return True

    def offer(self, item: T, size_bytes: int, owner: str, *, key: bool) -> list[str]:
        """One packet that has to wait.

        Args:
            key: part of a key frame.

        Returns:
            Owners whose waiting packets, this one included, were dropped because too much waits: start them again
            at their next key frame. Empty nearly always.
        """
        self._queue.append(_Waiting(item, owner, size_bytes, key))
        self._queued_bytes += size_bytes
        if key:
            self._key_bytes += size_bytes
            self._key_most_bytes = max(self._key_most_bytes, self._key_bytes)
            self._after_key = True
        bound_us = QUEUE_US + KEY_FRAME_US if self._after_key else QUEUE_US
        late = self._queued_bytes * 8_000_000 > bound_us * self.rate_bps
        if not late and len(self._queue) <= MAX_QUEUED:
            return []
        owners = list(dict.fromkeys(waiting.owner for waiting in self._queue if not waiting.key))
        if not late:
            owners = list(dict.fromkeys(waiting.owner for waiting in self._queue))
        for name in owners:
            self.drop(name)
        return owners

    def drop(self, owner: str) -> None:
        """Forget what waits for this owner: it was stopped, or is to start again."""
        kept = [waiting for waiting in self._queue if waiting.owner != owner]
        self._queue = deque(kept)
        self._queued_bytes = sum(waiting.size_bytes for waiting in kept)
        self._key_bytes = sum(waiting.size_bytes for waiting in kept if waiting.key)
        self._key_most_bytes = min(self._key_most_bytes, self._key_bytes)
        self._after_key &= bool(kept)

    def release(self, now_us: int) -> list[T]:
        """What may leave now, in order; paid for."""
        self._fill(now_us)
        released: list[T] = []
        queue = self._queue
        while queue and self.credit_bytes > 0:
            waiting = queue.popleft()
            self.credit_bytes -= waiting.size_bytes
            self._queued_bytes -= waiting.size_bytes
            if waiting.key:
                self._key_bytes -= waiting.size_bytes
                if not self._key_bytes:
                    self._key_most_bytes = 0
            released.append(waiting.item)
        if not queue:
            self._after_key = False
        return released

    def due_us(self, now_us: int) -> int | None:
        """When to call `release` next; None while nothing waits. Not before the bucket holds a few packets."""
        if not self._queue:
            return None
        wanted = min(self._bucket_bytes // 4, self._queued_bytes)
        missing = wanted - self.credit_bytes
        return max(now_us, self._filled_us) + (max(0, missing) * 8_000_000 // self.rate_bps if missing > 0 else 0)

    def _fill(self, now_us: int) -> None:
        elapsed_us = min(1_000_000, now_us - self._filled_us)
        gained = elapsed_us * self.rate_bps // 8_000_000
        if gained > 0:
            self.credit_bytes = min(self._bucket_bytes, self.credit_bytes + gained)
            self._filled_us = now_us
