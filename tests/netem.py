"""Network emulator in virtual time: seeded, pure, for closed loops of cores and for numbering laws.

A `Link` carries datagrams one way. In this order a datagram may be lost (a `Loss` model), wait in a
drop-tail queue for a bottleneck whose rate may change (`Rate`), be delayed with jitter, be reordered
and be duplicated. The same seed and the same calls give the same result.

Times are microseconds. Real packets between real peers need network namespaces instead.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

Loss = Callable[[Random, int], bool]
"""Is the datagram sent at this time lost?"""


def no_loss(_random: Random, _now_us: int) -> bool:
    return False


def random_loss(share: float) -> Loss:
    """Independent losses."""
    return lambda random, _now_us: random.random() < share


def cut(start_us: int, end_us: int, otherwise: Loss = no_loss) -> Loss:
    """Nothing gets through for a while."""
    return lambda random, now_us: start_us <= now_us < end_us or otherwise(random, now_us)


class GilbertElliott:
    """Bursts of loss: a two-state chain that steps once per datagram."""

    def __init__(self, to_bad: float, to_good: float, loss_bad: float = 1.0, loss_good: float = 0.0) -> None:
        self._step = {False: to_bad, True: to_good}
        self._loss = {False: loss_good, True: loss_bad}
        self._bad = False

    def __call__(self, random: Random, _now_us: int) -> bool:
        if random.random() < self._step[self._bad]:
            self._bad = not self._bad
        return random.random() < self._loss[self._bad]


class Rate:
    """Capacity over time: steps of (from us, bit/s), repeated for ever after ``period_us``."""

    def __init__(self, steps: Sequence[tuple[int, int]], period_us: int = 0) -> None:
        assert steps[0][0] == 0
        self._starts = [start for start, _ in steps]
        self._values = [value for _, value in steps]
        self._period_us = period_us

    def at(self, now_us: int) -> int:
        if self._period_us:
            now_us %= self._period_us
        return self._values[bisect_right(self._starts, now_us) - 1]


def constant(bps: int) -> Rate:
    return Rate([(0, bps)])


def load_rate(path: Path) -> Rate:
    """A trace file: comment lines, then ``ms bps`` per line; repeats after its last line's own length."""
    rows = [line.split() for line in path.read_text().splitlines() if line and not line.startswith("#")]
    steps = [(int(ms) * 1000, int(bps)) for ms, bps in rows]
    return Rate(steps, period_us=2 * steps[-1][0] - steps[-2][0])


def load_deliveries(path: Path, *, from_ms: int = 0, length_ms: int = 100_000, step_ms: int = 100) -> Rate:
    """A line as recorded with a saturating sender: the ms at which one packet of 1500 bytes got through, one per row.

    That is how recordings of mobile networks are published. Silence is taken as 8 kbit/s: what waits is not for ever.
    """
    delivered = Counter(
        (int(ms) - from_ms) // step_ms for ms in path.read_text().split() if from_ms <= int(ms) < from_ms + length_ms
    )
    count = max(delivered) + 1
    steps = [(n * step_ms * 1000, max(8_000, delivered[n] * 1500 * 8 * 1000 // step_ms)) for n in range(count)]
    return Rate(steps, period_us=count * step_ms * 1000)


@dataclass
class Link:
    """One direction of a line."""

    seed: int = 0
    rate: Rate | None = None
    """None: no bottleneck."""
    queue_us: int = 300_000
    """Longest wait for the bottleneck; what would wait longer is dropped."""
    delay_us: int = 20_000
    jitter_us: int = 0
    """Mean of an exponential extra delay, cut at five times it. Order is kept, as by Wi-Fi's retries."""
    loss: Loss = no_loss
    reorder: float = 0.0
    """Share of datagrams that are held back by ``reorder_us``, overtaken by others."""
    reorder_us: int = 15_000
    duplicate: float = 0.0
    sent: int = field(default=0, init=False)
    dropped: int = field(default=0, init=False)
    queue_delay_us: int = field(default=0, init=False)
    """Wait of the last datagram at the bottleneck."""

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._free_us = 0
        self._last_us = 0

    def send(self, now_us: int, size_bytes: int) -> list[int]:
        """Times at which a datagram arrives: none, one, or two when it is duplicated."""
        random = self._random
        self.sent += 1
        if self.loss(random, now_us):
            self.dropped += 1
            return []
        leaves_us = now_us
        if self.rate is not None:
            start_us = max(self._free_us, now_us)
            if start_us - now_us > self.queue_us:
                self.dropped += 1
                return []
            leaves_us = start_us + size_bytes * 8_000_000 // max(1_000, self.rate.at(start_us))
            self._free_us = leaves_us
            self.queue_delay_us = start_us - now_us
        arrives_us = leaves_us + self.delay_us
        if self.jitter_us:
            arrives_us += int(min(5 * self.jitter_us, random.expovariate(1 / self.jitter_us)))
        if self.reorder and random.random() < self.reorder:
            return [arrives_us + self.reorder_us]
        self._last_us = arrives_us = max(arrives_us, self._last_us)
        if self.duplicate and random.random() < self.duplicate:
            return [arrives_us, arrives_us + 1_000 + random.randrange(20_000)]
        return [arrives_us]


class Cubic:
    """A TCP download that always has more to send: slow start, then CUBIC (RFC 9438 sections 4.1 to 4.6).

    What the caller drives it with: `room` packets may leave now; `acked` and `lost` tell what became of one. A loss
    is told when the sender would know of it, a round trip later; losses of one round trip count once.
    """

    BETA = 0.7
    C = 0.4

    def __init__(self) -> None:
        self.window = 10.0
        """Packets."""
        self.in_flight = 0
        self.delivered = 0
        self._threshold = float("inf")
        self._peak = 0.0
        self._since_us = 0
        self._recovery_until_us = 0

    def room(self) -> int:
        """Packets that may leave now; they count as sent."""
        count = max(0, int(self.window) - self.in_flight)
        self.in_flight += count
        return count

    def acked(self, now_us: int, round_trip_us: int) -> None:
        """One packet has arrived."""
        self.in_flight -= 1
        self.delivered += 1
        if self.window < self._threshold:
            self.window += 1
            return
        ahead_s = (now_us + round_trip_us - self._since_us) / 1e6
        plateau_s = (self._peak * (1 - self.BETA) / self.C) ** (1 / 3)
        target = min(self.C * (ahead_s - plateau_s) ** 3 + self._peak, 1.5 * self.window)
        self.window += max(0.01, target - self.window) / self.window

    def lost(self, now_us: int, round_trip_us: int) -> None:
        """One packet is known to be lost."""
        self.in_flight -= 1
        if now_us < self._recovery_until_us:
            return
        self._recovery_until_us = now_us + round_trip_us
        self._peak, self._since_us = self.window, now_us
        self.window = self._threshold = max(2.0, self.window * self.BETA)
