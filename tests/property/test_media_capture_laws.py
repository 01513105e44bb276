"""Laws of dating pictures: however far off the publisher's clock is, however late its reports come."""

from hypothesis import given
from hypothesis import strategies as st

from media.core.capture import DRIFT_PPM, LATE_US, SILENT_US, STEP_US, CaptureClock, CaptureTime, TimeMap, shifted
from media.core.sender_report import ntp_from_us
from media.core.serial import MASK_32

NOW_US = 1_790_000_000_000_000
OFFSETS_US = st.integers(-400_000_000_000_000, 400_000_000_000_000)
RATES = st.sampled_from((48_000, 90_000))
STARTS = st.integers(0, MASK_32)
DELAYS_US = st.lists(st.integers(0, 400_000), min_size=1, max_size=40)
ROUNDING_US = 60
"""Two roundings to a tick of 48 kHz, and NTP's."""


class Publisher:
    """Takes pictures, and writes a report of the truth each second."""

    def __init__(self, clock: CaptureClock, rate_hz: int, start: int, offset_us: int) -> None:
        self.time = CaptureTime(rate_hz, clock)
        self.rate_hz, self.start, self.offset_us = rate_hz, start, offset_us

    def timestamp(self, at_us: int) -> int:
        return (self.start + (at_us - NOW_US) * self.rate_hz // 1_000_000) & MASK_32

    def report(self, at_us: int, delay_us: int) -> bool:
        return self.time.on_sender_report(ntp_from_us(at_us + self.offset_us), self.timestamp(at_us), at_us + delay_us)

    def date(self, at_us: int, delay_us: int = 0) -> TimeMap:
        found = self.time.date(self.timestamp(at_us), at_us + delay_us, at_us + delay_us)
        assert found is not None
        return found


@given(OFFSETS_US, RATES, STARTS, DELAYS_US, st.none() | st.integers(0, 800_000))
def test_a_picture_is_dated_by_the_quickest_report_and_half_the_round_trip(
    offset_us: int, rate_hz: int, start: int, delays_us: list[int], trip_us: int | None
) -> None:
    """[WF16] The error is the shortest way less half the round trip: within the bound, over any wrap of timestamps."""
    clock = CaptureClock()
    publisher = Publisher(clock, rate_hz, start, offset_us)
    for number, delay_us in enumerate(delays_us):
        publisher.report(NOW_US + number * 1_000_000, delay_us)
    if trip_us is not None:
        clock.round_trip.add(trip_us, NOW_US)

    at_us = NOW_US + len(delays_us) * 1_000_000
    found = publisher.date(at_us)
    half_us = 0 if trip_us is None else trip_us // 2

    assert found.how == "capture"
    assert found.error_us == (None if trip_us is None else half_us)
    assert abs(found.server_us - at_us - (min(delays_us) - half_us)) <= ROUNDING_US
    if trip_us is not None and min(delays_us) <= trip_us:  # else no report of the window was as quick as the way is
        assert abs(found.server_us - at_us) <= half_us + 1 + ROUNDING_US


@given(OFFSETS_US, STARTS, DELAYS_US, st.integers(STEP_US * 2, 10_000_000_000), st.booleans(), st.integers(0, 400_000))
def test_a_clock_that_was_set_is_followed_with_the_next_report(
    offset_us: int, start: int, delays_us: list[int], step_us: int, is_back: bool, after_us: int
) -> None:
    """[WF16] Forward or back, also by less than queues do; a jump of the RTP timestamps likewise."""
    for is_of_timestamps in (False, True):
        publisher = Publisher(CaptureClock(), 90_000, start, offset_us)
        for number, delay_us in enumerate(delays_us):
            publisher.report(NOW_US + number * 1_000_000, delay_us)
        moved_us = -step_us if is_back else step_us
        if is_of_timestamps:
            publisher.start += moved_us % 20_000_000_000 * 90 // 1000
        else:
            publisher.offset_us += moved_us
        at_us = NOW_US + len(delays_us) * 1_000_000

        assert publisher.report(at_us, after_us), "viewers are told at once"
        assert abs(publisher.date(at_us).server_us - at_us - after_us) <= ROUNDING_US


@given(OFFSETS_US, STARTS, STARTS, DELAYS_US, DELAYS_US)
def test_all_layers_of_a_publisher_are_on_one_line(
    offset_us: int, start: int, other: int, delays_us: list[int], delays_other_us: list[int]
) -> None:
    """[WF16] A viewer that is moved to another layer sees the same picture dated the same."""
    clock = CaptureClock()
    small, large = (Publisher(clock, 90_000, s, offset_us) for s in (start, other))
    for layer, delays in ((small, delays_us), (large, delays_other_us)):
        for number, delay_us in enumerate(delays):
            layer.report(NOW_US + number * 1_000_000, delay_us)

    assert abs(small.date(NOW_US).server_us - large.date(NOW_US).server_us) <= ROUNDING_US


def test_a_stream_that_has_not_reported_since_the_clock_was_set_is_dated_by_arrival() -> None:
    """What it said before means another time now."""
    clock = CaptureClock()
    one, two = (Publisher(clock, 90_000, s, 0) for s in (1, 2))
    for publisher in (one, two):
        publisher.report(NOW_US, 20_000)
    for publisher in (one, two):
        publisher.offset_us -= 700_000
    assert one.report(NOW_US + 1_000_000, 20_000)

    assert two.date(NOW_US + 1_500_000, 25_000) == TimeMap(
        two.timestamp(NOW_US + 1_500_000), NOW_US + 1_525_000, "arrival", None
    )
    assert two.report(NOW_US + 2_000_000, 20_000)
    assert [p.date(NOW_US + 2_100_000).how for p in (one, two)] == ["capture", "capture"]
    assert clock.epoch == 1, "the second stream does not take it for another step"


@given(RATES, STARTS, DELAYS_US)
def test_without_reports_the_earliest_arrival_counts(rate_hz: int, start: int, delays_us: list[int]) -> None:
    """[WF16] Said as such: never earlier than it was taken, nothing once nothing comes."""
    publisher = Publisher(CaptureClock(), rate_hz, start, 0)
    assert not publisher.time.on_sender_report(0, start, NOW_US), "an NTP of 0 is no clock"
    for number, delay_us in enumerate(delays_us):
        at_us = NOW_US + number * 500_000
        found = publisher.date(at_us, delay_us)
        assert (found.how, found.error_us) == ("arrival", None)
        assert abs(found.server_us - at_us - min(delays_us[: number + 1])) <= ROUNDING_US
    assert publisher.time.date(start, NOW_US, NOW_US + SILENT_US + 1) is None


def test_late_reports_of_a_slow_way_are_no_clock_that_was_set() -> None:
    """A queue of seconds moves nothing; the first report of another stream that late does."""
    clock = CaptureClock()
    publisher = Publisher(clock, 90_000, 0, 0)
    publisher.report(NOW_US, 10_000)
    assert not publisher.report(NOW_US + 1_000_000, LATE_US + 50_000)
    assert abs(publisher.date(NOW_US).server_us - NOW_US - 10_000) <= ROUNDING_US
    drifted = Publisher(clock, 90_000, 9, -LATE_US)
    assert drifted.report(NOW_US + 2_000_000, 20_000)
    assert clock.epoch == 1


def test_old_measurements_are_forgotten() -> None:
    """A clock that drifts is followed within the window."""
    clock = CaptureClock()
    publisher = Publisher(clock, 90_000, 0, 0)
    for number in range(120):
        publisher.offset_us = -number * DRIFT_PPM
        publisher.report(NOW_US + number * 1_000_000, 10_000)
    error_us = publisher.date(NOW_US + 119_000_000).server_us - NOW_US - 119_010_000
    assert -66 * DRIFT_PPM <= error_us <= 0


def test_a_viewer_has_its_own_numbering() -> None:
    """The shift wraps with the timestamps."""
    assert shifted(TimeMap(MASK_32, 5, "arrival", None), 3) == TimeMap(2, 5, "arrival", None)
