"""When a picture or sound was taken, by the server's clock: what an ECG beside it is held to (WAVEFORM_WIRE [WF16]).

A viewer sees an RTP timestamp with each picture. To lay a trace beside it, it must know which server time
that is. The publisher's sender reports pair its RTP timestamps with its own NTP clock. That clock is tied to ours
here: a report cannot arrive before it was written, so the least of "arrived less written" in the last minute is the
difference of the clocks and the shortest way here. Half the publisher's shortest round trip is taken off for the
way, which leaves at most that half as error; where no round trip is known nothing is, and the error is not known.

Where no report has come, or its clock was set since, a picture is dated by its arrival, and the map says so.

``sender_report.PublisherClock`` serves lip sync: there the error must be the same for all streams and may not
jump, here it must be small, and jumps where the clock did. ``now_us`` is the server clock in microseconds.
"""

from typing import Final, Literal, NamedTuple

from media.core.sender_report import us_from_ntp
from media.core.serial import MASK_32, diff32

WINDOW_US: Final = 60_000_000
BUCKET_US: Final = 5_000_000
STEP_US: Final = 100_000
"""A report that contradicts the one before by more tells that a clock was set: some publishers write reports up to
a frame late. A smaller step forward is followed at once, one back within the window."""
DRIFT_PPM: Final = 500
"""Two sound clocks drift apart no faster."""
LATE_US: Final = 1_000_000
"""A report this much later than the earliest is of a clock that was set back, not of a slow way."""
SILENT_US: Final = 2_000_000
"""Arrivals of before tell nothing of what may come next."""

How = Literal["capture", "arrival"]


class TimeMap(NamedTuple):
    """One RTP timestamp and the server time it means."""

    timestamp: int
    server_us: int
    how: How
    error_us: int | None
    """It is off by at most this; None: not known, and the true time is not later."""


class Least:
    """The least of what was measured in the last minute, in buckets of 5 s."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: list[tuple[int, int]] = []

    def add(self, value: int, now_us: int) -> None:
        """One measurement."""
        began_us = now_us - now_us % BUCKET_US
        if self._buckets and self._buckets[-1][0] == began_us:
            self._buckets[-1] = began_us, min(value, self._buckets[-1][1])
        else:
            self._buckets = [b for b in self._buckets if b[0] > now_us - WINDOW_US]
            self._buckets.append((began_us, value))

    def get(self) -> int | None:
        """None before anything was measured."""
        return min((value for _, value in self._buckets), default=None)

    def forget(self) -> None:
        """What was measured means nothing any more."""
        self._buckets.clear()


class CaptureClock:
    """What ties one publisher's NTP clock to ours; shared by all its streams."""

    __slots__ = ("behind", "epoch", "round_trip")

    def __init__(self) -> None:
        self.behind = Least()
        """Our clock less the publisher's, the way here included."""
        self.round_trip = Least()
        self.epoch = 0
        """Grows when the clock was set: what a stream reported before means nothing."""

    def begin(self) -> None:
        """The clock was set."""
        self.behind.forget()
        self.epoch += 1


class CaptureTime:
    """Dates the RTP timestamps of one incoming SSRC."""

    __slots__ = ("_arrived", "_arrived_at", "_clock", "_epoch", "_rate_hz", "_report_timestamp", "_report_us")

    def __init__(self, clock_rate_hz: int, clock: CaptureClock) -> None:
        self._rate_hz = clock_rate_hz
        self._clock = clock
        self._epoch = -1
        self._report_us = 0
        self._report_timestamp = 0
        self._arrived = Least()
        self._arrived_at: tuple[int, int] | None = None

    def on_sender_report(self, ntp: int, timestamp: int, now_us: int) -> bool:
        """The publisher's own pair; an NTP of 0 means it has no clock (RFC 3550 section 6.4.1).

        Returns:
            True when timestamps mean another time than before: the first pair, or a clock was set.
        """
        if ntp == 0:
            return False
        clock, source_us = self._clock, us_from_ntp(ntp)
        behind_us, least_us = now_us - source_us, clock.behind.get()
        is_new = self._epoch != clock.epoch
        if is_new:  # with nothing of its own to compare with
            was_set = least_us is not None and behind_us - least_us > LATE_US
        else:
            was_set = self._contradicts(source_us, timestamp)
        if was_set:
            clock.begin()
        clock.behind.add(behind_us, now_us)
        self._report_us, self._report_timestamp, self._epoch = source_us, timestamp, clock.epoch
        return is_new or was_set

    def _contradicts(self, source_us: int, timestamp: int) -> bool:
        passed_us = source_us - self._report_us
        counted_us = diff32(timestamp, self._report_timestamp) * 1_000_000 // self._rate_hz
        return abs(passed_us - counted_us) > STEP_US + abs(passed_us) * DRIFT_PPM // 1_000_000

    def date(self, timestamp: int, arrived_us: int, now_us: int) -> TimeMap | None:
        """What the newest timestamp means; call some times a second.

        Args:
            timestamp: of the newest packet.
            arrived_us: when that came.
            now_us: server time.

        Returns:
            None when nothing has come lately and no report tells.
        """
        behind_us = self._clock.behind.get()
        if self._epoch == self._clock.epoch and behind_us is not None:
            trip_us = self._clock.round_trip.get()
            half_us = 0 if trip_us is None else trip_us // 2
            since_us = diff32(timestamp, self._report_timestamp) * 1_000_000 // self._rate_hz
            server_us = self._report_us + behind_us - half_us + since_us
            return TimeMap(timestamp, server_us, "capture", None if trip_us is None else half_us)
        if now_us - arrived_us > SILENT_US:
            return None
        return TimeMap(timestamp, self._by_arrival(timestamp, arrived_us), "arrival", None)

    def _by_arrival(self, timestamp: int, arrived_us: int) -> int:
        """By the earliest arrivals: what came later was held up on its way."""
        if self._arrived_at is None:
            self._arrived_at = timestamp, arrived_us
        reference, reference_us = self._arrived_at
        line_us = reference_us + diff32(timestamp, reference) * 1_000_000 // self._rate_hz
        least_us = self._arrived.get()
        if least_us is not None and abs(arrived_us - line_us - least_us) > LATE_US:  # the timestamps began anew
            self._arrived.forget()
        self._arrived.add(arrived_us - line_us, arrived_us)
        return line_us + (self._arrived.get() or 0)


def shifted(found: TimeMap, shift: int) -> TimeMap:
    """The same in the numbering of a viewer, whose timestamps are ``shift`` more."""
    return found._replace(timestamp=(found.timestamp + shift) & MASK_32)
