"""Three clocks: the device's crystal, this machine's, and the hub's. Everything that is sent carries hub time.

`HubClock` learns hub time from pings: the quickest ones say the offset, and their slope over minutes says how
fast the two machines drift apart. `SampleClock` fits a line through the hub times of sample numbers over 60 s: its
slope is the device's true rate, and its height the time of a sample without the jitter of single blocks.

Pure: times are arguments, microseconds.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

PINGS: Final = 60
SLACK_US: Final = 1_000
"""Pings this much slower than the quickest still say something about the slope."""
SLOPE_SPAN_US: Final = 60_000_000
MAX_DRIFT: Final = 1e-3
"""No clock of a computer or monitor is worse; more is a wrong fit."""
FIT_US: Final = 60_000_000
FIT_MIN_US: Final = 20_000_000
FIT_EVERY_US: Final = 500_000


class HubClock:
    """The hub's clock seen from here."""

    def __init__(self, keep: int = PINGS) -> None:
        self._pings: deque[tuple[int, int, int]] = deque(maxlen=keep)

    def add(self, sent_us: int, received_us: int, hub_us: int) -> None:
        """One ping: our times, and the hub's in between."""
        middle_us = (sent_us + received_us) // 2
        self._pings.append((received_us - sent_us, hub_us - middle_us, middle_us))

    @property
    def synced(self) -> bool:
        """Whether any ping was answered."""
        return bool(self._pings)

    @property
    def error_us(self) -> int:
        """Bound of the error of `offset_us`: half of the quickest round trip."""
        return min(self._pings)[0] // 2 if self._pings else 0

    @property
    def offset_us(self) -> int:
        """Hub time minus ours, of the quickest ping; 0 until the first answer."""
        return min(self._pings)[1] if self._pings else 0

    def offset_at(self, at_us: int) -> int:
        """Hub time minus ours at a moment of our clock, drift included."""
        if not self._pings:
            return 0
        _, offset_us, quickest_at_us = min(self._pings)
        return offset_us + round(self.drift_ppm * (at_us - quickest_at_us) / 1e6)

    @property
    def drift_ppm(self) -> float:
        """How much faster the hub's clock runs; 0 until pings of a minute say it."""
        if len(self._pings) < 4:
            return 0.0
        quickest_us = min(self._pings)[0]
        good = [(at, offset) for rtt, offset, at in self._pings if rtt <= 1.5 * quickest_us + SLACK_US]
        if len(good) < 4 or good[-1][0] - good[0][0] < SLOPE_SPAN_US:
            return 0.0
        slope, _ = _line(good)
        return 0.0 if abs(slope) > MAX_DRIFT else slope * 1e6


class SampleClock:
    """When the samples of a stream were taken, from the last minute of blocks.

    Args:
        sample_rate_mhz: nominal samples per second, times 1000.
    """

    def __init__(self, sample_rate_mhz: int) -> None:
        self._us_per_sample = 1e9 / sample_rate_mhz
        self._points: deque[tuple[int, int]] = deque(maxlen=2 * FIT_US // FIT_EVERY_US)

    def clear(self) -> None:
        """The device's counting or its clock began anew."""
        self._points.clear()

    def add(self, sample: int, hub_us: int) -> None:
        """A block's first sample, counted over everything, and its hub time by its own stamp."""
        if self._points and sample <= self._points[-1][0]:
            self.clear()
        if not self._points or hub_us - self._points[-1][1] >= FIT_EVERY_US:
            self._points.append((sample, hub_us))
            while hub_us - self._points[0][1] > FIT_US:
                self._points.popleft()

    @property
    def ready(self) -> bool:
        """Whether there is enough to judge by."""
        return len(self._points) >= 4 and self._points[-1][1] - self._points[0][1] >= FIT_MIN_US

    @property
    def ppm(self) -> float:
        """How much slower than nominal the device samples (a positive number: samples come late), in 1/1,000,000."""
        if not self.ready:
            return 0.0
        slope, _ = _line(self._points)
        return (slope / self._us_per_sample - 1) * 1e6

    def time_of(self, sample: int) -> int | None:
        """Hub time of a sample by the line; None until there is one."""
        if not self.ready:
            return None
        slope, at_first = _line(self._points)
        first_sample, first_us = self._points[0]
        return first_us + round(at_first + slope * (sample - first_sample))


def _line(points: Iterable[tuple[int, int]]) -> tuple[float, float]:
    """Least squares through points: slope, and height at the first one relative to it."""
    listed = list(points)
    x0, y0 = listed[0]
    xs, ys = [x - x0 for x, _ in listed], [y - y0 for _, y in listed]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    if not spread:
        return 0.0, mean_y
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    return slope, mean_y - slope * mean_x
