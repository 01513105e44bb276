"""Transport-wide feedback, byte by byte (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1)."""

import pytest

from media.core import rtcp
from media.core.rtcp import MalformedRtcp, TransportFeedback
from media.core.twcc import MAX_RECORDED, ArrivalRecorder
from tests.feedback_report import FeedbackReport, parse_feedback

SECOND = 64_000 * 16  # a whole number of reference steps


def reports(packets: list[bytes]) -> list[FeedbackReport]:
    items = [item for packet in packets for item in rtcp.parse(packet)]
    assert all(isinstance(item, TransportFeedback) for item in items)
    return [parse_feedback(item.fci) for item in items if isinstance(item, TransportFeedback)]


def test_two_packets_and_a_hole_between_them() -> None:
    """Base, count, reference, feedback number; a run chunk; deltas of 250 us."""
    recorder = ArrivalRecorder()
    recorder.record(65535, SECOND)
    recorder.record(1, SECOND + 10_000)
    (packet,) = recorder.build(1, 2)
    # 65535 received, 0 lost, 1 received: one-bit vector 101, deltas 0 and 40 ticks
    assert packet == bytes.fromhex("8fcd0005 00000001 00000002 ffff0003 00001000 a800 00 28")


def test_a_long_run_is_one_chunk() -> None:
    recorder = ArrivalRecorder()
    for index in range(20):
        recorder.record(index, SECOND + index * 5_000)
    (packet,) = recorder.build(1, 2)
    assert packet[20:22] == bytes.fromhex("2014")  # run length, small delta, 20


def test_wide_and_negative_deltas_need_two_bytes() -> None:
    """A reordered packet came before its predecessor; the next one 100 ms later."""
    recorder = ArrivalRecorder()
    recorder.record(11, SECOND + 8_000)
    recorder.record(10, SECOND + 9_000)
    recorder.record(12, SECOND + 108_000)
    (report,) = reports(recorder.build(1, 2))
    assert report.arrivals == ((10, SECOND + 9_000), (11, SECOND + 8_000), (12, SECOND + 108_000))


def test_nothing_to_report_builds_nothing() -> None:
    recorder = ArrivalRecorder()
    assert recorder.build(1, 2) == []
    recorder.record(1, SECOND)
    assert recorder.pending
    recorder.build(1, 2)
    assert not recorder.pending
    assert recorder.build(1, 2) == []


def test_a_loss_at_the_border_of_two_reports_is_told_in_the_second() -> None:
    recorder = ArrivalRecorder()
    recorder.record(5, SECOND)
    (first,) = reports(recorder.build(1, 2))
    recorder.record(7, SECOND + 1_000)
    (second,) = reports(recorder.build(1, 2))
    assert (first.count, second.count) == (0, 1)
    assert second.arrivals == ((6, None), (7, SECOND + 1_000))


def test_a_late_packet_is_told_with_those_after_it() -> None:
    recorder = ArrivalRecorder()
    recorder.record(5, SECOND)
    recorder.record(7, SECOND + 1_000)
    recorder.build(1, 2)
    recorder.record(6, SECOND + 2_000)
    (report,) = reports(recorder.build(1, 2))
    assert report.arrivals == ((6, SECOND + 2_000), (7, SECOND + 1_000))


def test_a_repeated_number_keeps_its_first_arrival() -> None:
    recorder = ArrivalRecorder()
    recorder.record(5, SECOND)
    recorder.record(5, SECOND + 50_000)
    (report,) = reports(recorder.build(1, 2))
    assert report.arrivals == ((5, SECOND),)


def test_a_pause_beyond_the_delta_starts_another_feedback() -> None:
    """16 bits of 250 us are 8.19 s."""
    recorder = ArrivalRecorder()
    recorder.record(1, SECOND)
    recorder.record(2, SECOND + 9_000_000)
    first, second = reports(recorder.build(1, 2))
    assert first.arrivals == ((1, SECOND),)
    assert second.arrivals == ((2, SECOND + 9_000_000),)
    assert second.count == first.count + 1


def test_a_hole_wider_than_a_feedback_is_left_out() -> None:
    recorder = ArrivalRecorder()
    recorder.record(1, SECOND)
    recorder.record(20_000, SECOND + 1_000)
    first, second = reports(recorder.build(1, 2))
    assert first.arrivals == ((1, SECOND),)
    assert second.arrivals == ((20_000, SECOND + 1_000),)


def test_a_hole_wider_than_a_feedback_between_two_builds_is_left_out() -> None:
    recorder = ArrivalRecorder()
    recorder.record(1, SECOND)
    recorder.build(1, 2)
    recorder.record(20_000, SECOND + 1_000)
    (report,) = reports(recorder.build(1, 2))
    assert report.arrivals == ((20_000, SECOND + 1_000),)


def test_every_packet_of_a_flood_fits_an_mtu() -> None:
    recorder = ArrivalRecorder()
    for index in range(5_000):
        recorder.record(index & 0xFFFF, SECOND + (index * 70_001) % 1_000_000)  # every delta is wide
    packets = recorder.build(1, 2)
    assert max(map(len, packets)) <= 1_200
    assert sum(len(report.arrivals) for report in reports(packets)) == 5_000


def test_arrivals_that_nobody_reports_are_bounded() -> None:
    recorder = ArrivalRecorder()
    for index in range(60_000):
        recorder.record(index & 0xFFFF, SECOND + index * 100)
    told = sum(len(report.arrivals) for report in reports(recorder.build(1, 2)))
    assert MAX_RECORDED // 2 <= told <= MAX_RECORDED


def test_reference_time_wraps_at_24_bits() -> None:
    recorder = ArrivalRecorder()
    recorder.record(1, 64_000 * (1 << 24) + 3_000)
    (report,) = reports(recorder.build(1, 2))
    assert report.reference_us == 0
    assert report.arrivals == ((1, 3_000),)


def test_reading_the_chunk_kinds() -> None:
    """Section 3.1.3 and 3.1.4: two-bit vector, then a run; a negative delta."""
    fci = bytes.fromhex("0010000a 00000203 d900 2003 04 fffc 08 01 02 03")
    report = parse_feedback(fci)
    assert (report.base_seq, report.count, report.reference_us) == (16, 3, 128_000)
    ticks = [None if at is None else (at - 128_000) // 250 for _, at in report.arrivals]
    assert ticks == [4, 0, 8, None, None, None, None, 9, 11, 14]


@pytest.mark.parametrize(
    "fci",
    [
        "",
        "0001000100000000",  # no chunk
        "000100010000000020",  # half a chunk
        "00010001000000002001",  # no delta
        "000100010000000040 0100".replace(" ", ""),  # half a wide delta
        "00010001000000006001",  # reserved symbol
        "00010001000000002000",  # a run of none would never end
    ],
)
def test_contradictions_are_refused(fci: str) -> None:
    with pytest.raises(MalformedRtcp):
        parse_feedback(bytes.fromhex(fci))
