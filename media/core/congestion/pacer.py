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

from array import array
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

_CREDIT, _FILLED, _BUCKET, _RATE = range(4)

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
        "_key_bytes",
        "_key_most_bytes",
        "_queue",
        "_queued_bytes",
        "least_bps",
        "purse",
    )

    def __init__(self, estimate_bps: int, now_us: int) -> None:
        self.purse = array("q", (LEAST_BUCKET_BYTES, now_us, 0, 0))
        """Credit, when it was filled last, the bucket, and the rate it fills at: in an array, where the packet path
        in C takes from it by the rule of `passes` as long as nothing waits (``media/native/intake.c``)."""
        self._queue: deque[_Waiting[T]] = deque()
        self._queued_bytes = 0
        self._key_bytes = 0
        self._key_most_bytes = 0
        """Of the key frames that wait, when the most of them did: the rate is held until they are through."""
        self._after_key = False
        """A key frame waits or has left since the queue was empty: what came behind it has its time too."""
        self.least_bps = 0
        """Paced as for an estimate of this at least; takes effect with the next estimate."""
        self.set_estimate(estimate_bps)

    def set_estimate(self, estimate_bps: int) -> None:
        """The estimate of the line changed."""
        rate_bps = self.purse[_RATE] = max(FLOOR_BPS, int(RATE_FACTOR * max(estimate_bps, self.least_bps)))
        self.purse[_BUCKET] = max(LEAST_BUCKET_BYTES, rate_bps * BUCKET_US // 8_000_000)

    @property
    def credit_bytes(self) -> int:
        """What may leave at once; negative while sound runs ahead."""
        return self.purse[_CREDIT]

    @property
    def rate_bps(self) -> int:
        """Bits a second that leave now; more than the set rate while a large key frame waits."""
        return max(self.purse[_RATE], self._key_most_bytes * 8_000_000 // KEY_FRAME_US)

    @property
    def waiting(self) -> bool:
        """Something waits: whatever comes for its owners must wait behind it."""
        return bool(self._queue)

    def spend(self, size_bytes: int) -> None:
        """Something left that never waits."""
        purse = self.purse
        # what never waits must not stop the picture for good
        purse[_CREDIT] = max(purse[_CREDIT] - size_bytes, -2 * purse[_BUCKET])

    def passes(self, size_bytes: int, now_us: int) -> bool:
        """A burst may leave at once, in one piece; it is paid for then."""
        if self._queue:
            return False
        purse = self.purse
        if size_bytes > purse[_CREDIT]:
            self._fill(now_us)
            if size_bytes > purse[_CREDIT]:
                return False
        purse[_CREDIT] -= size_bytes
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
        queue, purse = self._queue, self.purse
        while queue and purse[_CREDIT] > 0:
            waiting = queue.popleft()
            purse[_CREDIT] -= waiting.size_bytes
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
        wanted = min(self.purse[_BUCKET] // 4, self._queued_bytes)
        missing = wanted - self.credit_bytes
        return max(now_us, self.purse[_FILLED]) + (max(0, missing) * 8_000_000 // self.rate_bps if missing > 0 else 0)

    def _fill(self, now_us: int) -> None:
        purse = self.purse
        elapsed_us = min(1_000_000, now_us - purse[_FILLED])
        gained = elapsed_us * self.rate_bps // 8_000_000
        if gained > 0:
            purse[_CREDIT] = min(purse[_BUCKET], purse[_CREDIT] + gained)
            purse[_FILLED] = now_us
