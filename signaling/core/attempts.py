"""Wrong guesses, counted: so many for each key, then one a while. Time comes in as an argument. [BI8]

A token bucket that right answers cost nothing: whoever knows the identifiers is
never kept waiting, whoever tries them out is, from however many sockets.
"""

from collections import OrderedDict
from collections.abc import Hashable

from signaling.core.bucket import TokenBucket

MAX_KEYS = 4096
"""The longest unused is forgotten; a key is a device in a consult, which nobody makes by the thousand."""


class Attempts:
    """Attempts that may still fail, by key.

    Args:
        burst: failures at once.
        refill_s: after which one more is allowed.
    """

    def __init__(self, burst: int = 5, refill_s: float = 60.0) -> None:
        self._burst, self._refill_s = burst, refill_s
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def take(self, key: Hashable, now_s: float) -> bool:
        """Begin an attempt; False when there were too many wrong ones."""
        bucket = self._buckets.pop(key, None) or TokenBucket(1 / self._refill_s, self._burst)
        self._buckets[key] = bucket
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        return bucket.take(now_s)

    def give_back(self, key: Hashable) -> None:
        """It was not a wrong guess."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.give_back()
