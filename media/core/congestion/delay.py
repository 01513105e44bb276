"""Does the queue towards a viewer grow? From the one-way delay of what was sent and when it arrived.

After draft-ietf-rmcat-gcc-02 section 5 and what libwebrtc made of it: delay variation between groups
of packets, a trend line over the last groups, and an adaptive threshold, so that a flow that shares
its bottleneck with a loss-driven one is not starved.

One thing is different, because a relay does not shape its packets like an encoder's pacer: it
forwards whole frames at once. The last packet of a group then carries the time the frame itself
took on the line, which varies with the frame. So the delay of a group is that of its **least delayed** packet, and
groups are long enough (30 ms) to hold one that met no frame of our own: what is left is the
standing queue. This costs next to nothing per packet and is deaf to the jitter of Wi-Fi.

What to do about it is ``rate``.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from enum import Enum
from operator import mul, sub
from typing import Final

from media.core.congestion.account import NOT_KNOWN
from media.core.congestion.others import HIGH_QUEUE_US


class Usage(Enum):
    """What the delay says of the line."""

    NORMAL = "normal"
    OVER = "over"
    """The queue grows, or stands high."""
    UNDER = "under"
    """The queue drains: wait for the end of it."""


GROUP_US: Final = 30_000
WINDOW: Final = 15
"""Groups under the trend line: 450 ms, as in libwebrtc with its 20 shorter groups."""
SMOOTHING: Final = 0.7
GAIN: Final = 240.0
"""libwebrtc's 60 deltas times 4: the threshold is in its units, so its constants hold."""
FULL_GAIN_GROUPS: Final = 10
THRESHOLD_START: Final = 12.5
THRESHOLD_MIN: Final = 6.0
THRESHOLD_MAX: Final = 600.0
THRESHOLD_UP_PER_MS: Final = 0.0087
THRESHOLD_DOWN_PER_MS: Final = 0.039
OUTLIER: Final = 15.0
"""A trend this far over the threshold is a spike, not a level to adapt to."""
OVERUSE_GROUPS: Final = 2
"""One group over the threshold is noise."""
LEAST_QUEUE_US: Final = 12_000
"""A trend below this queue is jitter: it takes nothing from anyone yet."""
BASE_SPAN_US: Final = 20_000_000
"""The empty line's delay is the least of the last 20 to 40 s: clocks drift, routes change."""
JUMP_US: Final = 3_000_000
"""Time stamps this far apart are another clock or a long silence: start anew."""


class BaseDelay:
    """Least delay of the last ``BASE_SPAN_US`` to twice that, in two buckets."""

    __slots__ = ("_current", "_previous", "_since_us", "least_us")

    def __init__(self) -> None:
        self.least_us: int | None = None
        """Of both buckets; None before the first delay."""
        self._current: int | None = None
        self._previous: int | None = None
        self._since_us = 0

    def above(self, delay_us: int, now_us: int) -> int:
        """Take one delay; how far it is above the least."""
        if self._current is None:
            self._current, self._since_us = delay_us, now_us
        elif now_us - self._since_us > BASE_SPAN_US:
            self._previous, self._current, self._since_us = self._current, delay_us, now_us
        elif delay_us < self._current:
            self._current = delay_us
        least = self._current if self._previous is None else min(self._current, self._previous)
        self.least_us = least
        return delay_us - least

    @property
    def standing(self) -> tuple[int, int, int, int]:
        """As ``account`` lends it; only after the first delay."""
        assert self.least_us is not None
        assert self._current is not None
        return self.least_us, self._current, NOT_KNOWN if self._previous is None else self._previous, self._since_us

    def went_on(self, least_us: int, current_us: int, previous_us: int, since_us: int) -> None:
        """Others have taken delays."""
        self.least_us, self._current, self._since_us = least_us, current_us, since_us
        self._previous = None if previous_us == NOT_KNOWN else previous_us


class Trend:
    """Slope of the smoothed delay over the last groups."""

    __slots__ = ("_delays", "_smoothed", "_times", "groups")

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=WINDOW)
        self._delays: deque[float] = deque(maxlen=WINDOW)
        self._smoothed = 0.0
        self.groups = 0

    def cut(self, delay_ms: float) -> None:
        """Some groups are not known; the last of them were delayed about so much."""
        self._times.clear()
        self._delays.clear()
        self._smoothed = delay_ms

    def add(self, time_ms: float, delay_ms: float) -> float:
        """Take a group; milliseconds of delay per millisecond, 0 until there are enough."""
        if not self.groups:
            self._smoothed = delay_ms
        self.groups += 1
        self._smoothed += (delay_ms - self._smoothed) * (1 - SMOOTHING)
        times, delays = self._times, self._delays
        times.append(time_ms)
        delays.append(self._smoothed)
        count = len(times)
        if count < 4:
            return 0.0
        zero = times[0]
        xs = [time - zero for time in times]
        sum_x = sum(xs)
        spread = count * sum(map(mul, xs, xs)) - sum_x * sum_x
        return (count * sum(map(mul, xs, delays)) - sum_x * sum(delays)) / spread if spread > 0 else 0.0


class DelayDetector:
    """Queue of one leg."""

    __slots__ = (
        "_base",
        "_group_arrive_us",
        "_group_delay_us",
        "_group_send_us",
        "_last_arrive_us",
        "_over_groups",
        "_previous",
        "_threshold",
        "_trend",
        "queue_us",
        "usage",
    )

    def __init__(self) -> None:
        self.usage = Usage.NORMAL
        self.queue_us = 0
        """Delay of the last group above that of the empty line."""
        self._threshold = THRESHOLD_START
        self._restart()

    def _restart(self) -> None:
        self._base = BaseDelay()
        self._trend = Trend()
        self._group_send_us = -1
        self._group_arrive_us = 0
        self._group_delay_us = 0
        self._last_arrive_us = 0
        self._over_groups = 0
        self._previous = 0.0
        self.queue_us = 0
        self.usage = Usage.NORMAL

    @property
    def group_us(self) -> int:
        """When the first packet of the group that is being gathered was sent; -1: none is."""
        return self._group_send_us

    @property
    def least_us(self) -> int | None:
        """Delay of the empty line on the viewer's clock; None before the first group."""
        return self._base.least_us

    def calm(self, delay_us: int, send_us: int) -> None:
        """A packet was so little delayed that its group cannot be overuse, whatever the rest of it was."""
        self.queue_us = self._base.above(delay_us, send_us)

    @property
    def standing(self) -> tuple[int, int, int, int]:
        """See `BaseDelay.standing`."""
        return self._base.standing

    def went_on(self, queue_us: int, *standing: int) -> None:
        """`calm` was done by others."""
        self.queue_us = queue_us
        self._base.went_on(*standing)

    def skip(self, group_us: int, delay_us: int, arrive_us: int) -> None:
        """Calm groups were left out; what comes now is a new beginning for the trend, not for the line.

        Args:
            group_us: when the group began in which it goes on, so that groups are cut as if none had been left out.
            delay_us: of the first packet of what comes now.
            arrive_us: when that arrived.
        """
        self._trend.cut(delay_us / 1000)
        self._begin(group_us, delay_us, arrive_us)
        self._over_groups = 0

    def rest(self) -> None:
        """Nothing is sent: the queue has drained, and what was known of it says nothing any more."""
        self.usage = Usage.NORMAL
        self.queue_us = 0
        self._over_groups = 0
        self._trend.cut(0.0)

    def update(self, sends: Sequence[int], arrives: Sequence[int]) -> Usage:
        """Take the packets of one feedback that arrived, in order of sending: when each was sent and came."""
        count = len(sends)
        if not count:
            return self.usage
        delays = list(map(sub, arrives, sends))
        if self._group_send_us < 0:
            self._begin(sends[0], delays[0], arrives[0])
        position = 0
        while True:
            end = bisect_right(sends, self._group_send_us + GROUP_US, position)
            if end > position:
                least = min(delays[position:end]) if end - position > 1 else delays[position]
                if least < self._group_delay_us:
                    self._group_delay_us, self._group_arrive_us = least, arrives[delays.index(least, position)]
            if end >= count:
                return self.usage
            apart_us = abs(delays[end] - self._group_delay_us)
            if apart_us > JUMP_US or sends[end] - self._group_send_us > JUMP_US:
                self._restart()
            else:
                self._group(self._group_delay_us, self._group_arrive_us, self._group_send_us)
            self._begin(sends[end], delays[end], arrives[end])
            position = end

    def _begin(self, send_us: int, delay_us: int, arrive_us: int) -> None:
        """The first packet of a group."""
        self._group_send_us, self._group_delay_us, self._group_arrive_us = send_us, delay_us, arrive_us

    def _group(self, delay_us: int, arrive_us: int, send_us: int) -> None:
        """A group is complete."""
        self.queue_us = self._base.above(delay_us, send_us)
        step_ms = min(100.0, max(0.0, (arrive_us - self._last_arrive_us) / 1000))
        self._last_arrive_us = arrive_us
        slope = self._trend.add(arrive_us / 1000, delay_us / 1000)
        trend = slope * GAIN * min(self._trend.groups, FULL_GAIN_GROUPS) / FULL_GAIN_GROUPS
        self._decide(trend)
        self._adapt(trend, step_ms)
        self._previous = trend

    def _decide(self, trend: float) -> None:
        standing = self.queue_us > HIGH_QUEUE_US and trend > -THRESHOLD_MIN
        if standing or (trend > self._threshold and self.queue_us > LEAST_QUEUE_US):
            self._over_groups += 1
            if self._over_groups >= OVERUSE_GROUPS and (standing or trend >= self._previous):
                self.usage = Usage.OVER
        elif trend < -self._threshold:
            self._over_groups = 0
            self.usage = Usage.UNDER
        else:
            self._over_groups = 0
            self.usage = Usage.NORMAL

    def _adapt(self, trend: float, step_ms: float) -> None:
        """gcc-02 section 5.4: fast down, slow up; spikes are passed over."""
        size = abs(trend)
        if size > self._threshold + OUTLIER:
            return
        speed = THRESHOLD_DOWN_PER_MS if size < self._threshold else THRESHOLD_UP_PER_MS
        moved = self._threshold + speed * (size - self._threshold) * step_ms
        self._threshold = min(THRESHOLD_MAX, max(THRESHOLD_MIN, moved))
