"""Sender reports for viewers: NTP is ours, RTP follows the publisher."""

import pytest

from media.core import rtcp
from media.core.rtcp import Sdes, SenderReport
from media.core.sender_report import (
    PublisherClock,
    SourceTime,
    build_sender_report,
    compact_ntp,
    ntp_from_us,
    round_trip_us,
    us_from_ntp,
)

NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000


def test_ntp_counts_from_1900() -> None:
    assert ntp_from_us(0) == 2_208_988_800 << 32
    assert ntp_from_us(500_000) & 0xFFFF_FFFF == 0x8000_0000
    assert us_from_ntp(2_208_988_800 << 32 | 0x8000_0000) == 500_000
    assert compact_ntp(0x0102030405060708) == 0x03040506


def test_by_arrival_until_a_report_comes() -> None:
    source = SourceTime(90_000, PublisherClock())
    assert source.timestamp_at(NOW) is None
    assert source.time_of(5) is None
    source.on_packet(0xFFFF_FFF0, NOW)
    assert source.timestamp_at(NOW + 1_000_000) == 90_000 - 0x10
    assert source.time_of(90_000 - 0x10) == NOW + 1_000_000


def test_an_older_packet_does_not_move_the_reference() -> None:
    source = SourceTime(90_000, PublisherClock())
    source.on_packet(9_000, NOW)
    source.on_packet(0, NOW + 500_000)  # sent 100 ms earlier, came 500 ms later
    assert source.timestamp_at(NOW) == 9_000


def test_a_frame_is_dated_by_its_first_packet() -> None:
    """The rest of a large picture trickles in later under the same timestamp."""
    source = SourceTime(90_000, PublisherClock())
    source.on_packet(9_000, NOW)
    source.on_packet(9_000, NOW + 30_000)
    assert source.time_of(9_000) == NOW


def test_from_the_publishers_report_even_when_its_clock_is_an_hour_off() -> None:
    source = SourceTime(90_000, PublisherClock())
    source.on_packet(1, NOW - 40_000)
    source.on_sender_report(ntp_from_us(NOW + HOUR), 900_000, NOW)
    assert source.timestamp_at(NOW + 2_000_000) == 900_000 + 180_000


def test_sound_and_picture_stay_together_when_a_report_was_delayed() -> None:
    """The picture's report hung 80 ms in a queue; both lines share one clock, so nothing shifts."""
    clock = PublisherClock()
    sound, picture = SourceTime(48_000, clock), SourceTime(90_000, clock)
    sound.on_sender_report(ntp_from_us(NOW - HOUR), 48_000, NOW)
    picture.on_sender_report(ntp_from_us(NOW - HOUR), 90_000, NOW + 80_000)
    later = NOW + 3_000_000
    sound_us = (sound.timestamp_at(later) or 0) * 1_000_000 // 48_000
    picture_us = (picture.timestamp_at(later) or 0) * 1_000_000 // 90_000
    assert abs(sound_us - picture_us) < 50


def test_a_less_delayed_report_corrects_the_clock_at_once_and_a_later_one_slowly() -> None:
    clock = PublisherClock()
    clock.observe(NOW, NOW + 100_000)
    clock.observe(NOW, NOW + 20_000)
    assert clock.offset_us == -20_000
    clock.observe(NOW, NOW + 84_000)
    assert clock.offset_us == -21_000


def test_a_publisher_that_sets_its_clock_is_followed_and_old_reports_are_forgotten() -> None:
    clock = PublisherClock()
    sound, picture = SourceTime(48_000, clock), SourceTime(90_000, clock)
    picture.on_packet(1_000, NOW)
    sound.on_sender_report(ntp_from_us(NOW), 0, NOW)
    picture.on_sender_report(ntp_from_us(NOW), 1_000, NOW)
    sound.on_sender_report(ntp_from_us(NOW + HOUR), 48_000, NOW + 1_000_000)
    assert sound.timestamp_at(NOW + 1_000_000) == 48_000
    assert picture.timestamp_at(NOW + 1_000_000) == 91_000  # by arrival, not an hour away


def test_a_report_without_a_clock_is_no_reference() -> None:
    """RFC 3550 section 6.4.1: NTP zero means the sender has no notion of time."""
    source = SourceTime(90_000, PublisherClock())
    source.on_sender_report(0, 5, NOW)
    assert source.timestamp_at(NOW) is None


def test_the_report_a_joining_viewer_gets() -> None:
    source = SourceTime(90_000, PublisherClock())
    assert build_sender_report(source, NOW, 7, 0, 0, 0, "c-1") is None
    source.on_packet(0xFFFF_0000, NOW)
    compound = build_sender_report(source, NOW + 1_000_000, 7, 0x20000, 3, 1234, "c-1")
    assert compound is not None
    assert rtcp.parse(compound) == [
        SenderReport(7, ntp_from_us(NOW + 1_000_000), 0x10000 + 90_000, 3, 1234, ()),
        Sdes(((7, "c-1"),)),
    ]


def test_round_trip_of_a_viewer() -> None:
    """RFC 3550 section 6.4.1: A - LSR - DLSR."""
    sent = compact_ntp(ntp_from_us(NOW))
    measured = round_trip_us(NOW + 300_000, sent, 65_536 // 4)
    assert measured == pytest.approx(50_000, abs=32)


@pytest.mark.parametrize(("lsr", "dlsr"), [(0, 0), (compact_ntp(ntp_from_us(NOW)), 10 * 65_536), (12345, 0)])
def test_a_round_trip_that_cannot_be_is_none(lsr: int, dlsr: int) -> None:
    assert round_trip_us(NOW + 1_000, lsr, dlsr) is None
