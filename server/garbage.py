"""Python's collector in the server: switched off, and asked for by time, so that its stops are short.

Left to itself it walks everything whenever a quarter more has been made: with two thousand sockets it stopped the
hub for half a second, in the middle of the rush that had made them. Nearly all that is made here dies without it.
So every `LOOK_S` it looks at what was made since the last look; what has passed a look is looked at once more when it
is `SETTLED` objects or a minute old, and then frozen: set aside, never walked again. Each of these stops is as long
as what was made since the one before, however many sockets there are.

What was set aside while it was alive and became garbage since (a socket that was open for an hour leaves some of it)
is found by looking at everything. With a hundred sessions that takes a tenth of a second, with ten thousand many
seconds, in which nobody hears a beat (W19). So it is done when as much has been set aside as there was, while all of it
is little; when nobody has been here for a while; and else only when garbage may be several times what is alive.
"""

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Final, Literal

from server.metrics import GC_PAUSES

LOOK_S: Final = 0.5
SETTLED: Final = 100_000
"""Ten milliseconds or two."""
SETTLED_S: Final = 60.0
COUNT_S: Final = 5.0
"""Between counts of what has passed a look: each is a millisecond at most."""
DEEP_LEAST: Final = 400_000
"""Objects, some 50 MB."""
QUIET_LEAST: Final = 100_000
QUIET_S: Final = 30.0
"""Nobody here for so long: after a cut all are gone at once, and about to come back."""
SHORT: Final = 1_000_000
"""Objects that are looked at in some tenths of a second."""
DEEP_MOST: Final = 8_000_000
"""Objects, a GB or less: more garbage than this, and four times what is alive, is worse than a long stop."""

What = Literal["young", "settled", "all"]


class GarbagePolicy:
    """What is to be looked at; without clock and collector.

    Args:
        now_s: any monotonic clock.
    """

    def __init__(self, now_s: float) -> None:
        self._settled_s = self._counted_s = now_s
        self._alive = 0
        """Objects, when all was looked at."""
        self._set_aside = 0
        """Since then, at most."""
        self._peopled_s = now_s
        """When somebody was here last."""

    def counts(self, now_s: float) -> bool:
        """Whether it is time to count what has passed a look."""
        if now_s - self._counted_s < COUNT_S:
            return False
        self._counted_s = now_s
        return True

    def due(self, passed: int | None, frozen: Callable[[], int], *, quiet: bool, now_s: float) -> What:
        """What is to be looked at now.

        Args:
            passed: objects that have passed a look and are not set aside; None: they were not counted.
            frozen: objects that are set aside now; asked when it matters, since it takes some milliseconds.
            quiet: nobody is here.
        """
        if not quiet:
            self._peopled_s = now_s
        if self._is_too_much(now_s):
            self._set_aside = max(0, frozen() - self._alive)  # most of what dies needs no collector, and is gone
            if self._is_too_much(now_s):
                return "all"
        if now_s - self._settled_s >= SETTLED_S or (passed is not None and passed >= SETTLED):
            return "settled"
        return "young"

    def _is_too_much(self, now_s: float) -> bool:
        if now_s - self._peopled_s >= QUIET_S:
            return self._set_aside > QUIET_LEAST
        if self._alive + self._set_aside <= SHORT:
            return self._set_aside > max(DEEP_LEAST, self._alive)
        return self._set_aside > max(DEEP_MOST, 4 * self._alive)

    def settled(self, objects: int, now_s: float) -> None:
        """So many were set aside."""
        self._set_aside += objects
        self._settled_s = now_s

    def looked_at_all(self, objects: int, now_s: float) -> None:
        """So many are alive, all of them set aside."""
        self._alive, self._set_aside, self._settled_s = objects, 0, now_s


class GarbageKeeper:
    """Owns the collector and one timer, from `start` to `stop`.

    Args:
        quiet: nobody is here.
    """

    def __init__(self, quiet: Callable[[], bool]) -> None:
        self._quiet = quiet
        self._policy = GarbagePolicy(time.monotonic())
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """What there is by now stays: classes, schemas, routes."""
        gc.disable()
        self._look_at_all(time.monotonic())
        self._later()

    def stop(self) -> None:
        """The collector is on its own again; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            gc.unfreeze()
            gc.enable()

    def look(self) -> What:
        """Look at what is due; returns what it was."""
        now_s = time.monotonic()
        passed = len(gc.get_objects(generation=2)) if self._policy.counts(now_s) else None
        what = self._policy.due(passed, gc.get_freeze_count, quiet=self._quiet(), now_s=now_s)
        began_s = time.perf_counter()
        if what == "all":
            self._look_at_all(now_s)
        elif what == "settled":
            gc.collect()
            self._policy.settled(len(gc.get_objects(generation=2)), now_s)
            gc.freeze()
        else:
            gc.collect(1)
        GC_PAUSES.labels(what).observe(time.perf_counter() - began_s)
        return what

    def _look_at_all(self, now_s: float) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._policy.looked_at_all(gc.get_freeze_count(), now_s)

    def _later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._on_timer)

    def _on_timer(self) -> None:
        self.look()
        self._later()
