"""Reception of one SSRC: RFC 3550 appendix A, and what is asked for again (RFC 4585)."""

import pytest

from media.core import receive
from media.core.receive import (
    FRESH,
    FRESH_AFTER_GAP,
    MAX_DROPOUT,
    MAX_NACK_AGE_US,
    MAX_NACK_BATCH,
    MAX_NACK_GAP,
    MAX_NACK_TRIES,
    MAX_NACKS,
    STALE,
    WINDOW,
    ReceiveStream,
)

NOW = 1_800_000_000_000_000
RTT = 50_000


def video() -> ReceiveStream:
    return ReceiveStream(7, 90_000, nack=True)


def feed(stream: ReceiveStream, *seqs: int, now_us: int = NOW) -> list[int]:
    return [stream.on_packet(seq & 0xFFFF, 0, 100, now_us) for seq in seqs]


def test_in_order_over_the_wrap_is_fresh() -> None:
    stream = video()
    assert feed(stream, 65534, 65535, 0, 1) == [FRESH] * 4
    assert stream.received == 4
    assert stream.payload_bytes == 400
    block = stream.report_block(NOW)
    assert block is not None
    assert block.highest_seq == 0x0001_0001
    assert (block.fraction_lost, block.cumulative_lost) == (0, 0)


def test_nothing_to_report_before_the_first_packet() -> None:
    stream = video()
    assert stream.report_block(NOW) is None
    assert stream.cumulative_lost == 0
    assert stream.nacks_due(NOW, RTT) == []
    assert not stream.take_key_frame_request()


def test_a_gap_is_asked_for_at_once_and_again_each_round_trip() -> None:
    stream = video()
    assert feed(stream, 65534, 1) == [FRESH, FRESH_AFTER_GAP]
    assert stream.nacks_due(NOW, RTT) == [65535, 0]
    assert stream.nacks_due(NOW + RTT - 1, RTT) == []
    assert stream.nacks_due(NOW + RTT, RTT) == [65535, 0]
    assert not stream.take_key_frame_request()


@pytest.mark.parametrize(("rtt_us", "retry_us"), [(0, 20_000), (5_000_000, 100_000)])
def test_retries_are_neither_hasty_nor_lazy(rtt_us: int, retry_us: int) -> None:
    stream = video()
    feed(stream, 1, 3)
    stream.nacks_due(NOW, rtt_us)
    assert stream.nacks_due(NOW + retry_us - 1, rtt_us) == []
    assert stream.nacks_due(NOW + retry_us, rtt_us) == [2]


def test_ten_tries_then_a_key_frame() -> None:
    stream = video()
    feed(stream, 1, 3)
    asked = [stream.nacks_due(NOW + step * 20_000, 0) for step in range(MAX_NACK_TRIES + 2)]
    assert asked == [[2]] * MAX_NACK_TRIES + [[], []]
    assert stream.missing == 0
    assert stream.take_key_frame_request()
    assert not stream.take_key_frame_request()


def test_an_old_hole_is_given_up() -> None:
    stream = video()
    feed(stream, 1, 3)
    assert stream.nacks_due(NOW + MAX_NACK_AGE_US, RTT) == [2]
    assert stream.nacks_due(NOW + MAX_NACK_AGE_US + 100_000, RTT) == []
    assert stream.missing == 0
    assert stream.take_key_frame_request()


def test_a_late_packet_fills_its_hole() -> None:
    stream = video()
    assert feed(stream, 1, 3, 2, 2) == [FRESH, FRESH_AFTER_GAP, FRESH, STALE]
    assert stream.missing == 0
    assert stream.duplicates == 1


def test_a_retransmission_fills_a_hole_but_the_loss_stays_reported() -> None:
    stream = video()
    feed(stream, 1, 3)
    assert [stream.on_repaired(2), stream.on_repaired(2), stream.on_repaired(1)] == [FRESH, STALE, STALE]
    assert stream.missing == 0
    assert stream.cumulative_lost == 1
    assert feed(stream, 2) == [STALE]


def test_a_retransmission_of_the_unknown_is_not_believed() -> None:
    stream = video()
    assert stream.on_repaired(5) == STALE
    feed(stream, 10)
    assert [stream.on_repaired(9), stream.on_repaired(11)] == [STALE, STALE]


def test_a_gap_too_wide_wants_a_key_frame_instead() -> None:
    stream = video()
    feed(stream, 1, 2 + MAX_NACK_GAP + 1)
    assert stream.nacks_due(NOW, RTT) == []
    assert stream.take_key_frame_request()
    exactly = video()
    feed(exactly, 1, 2 + MAX_NACK_GAP)
    assert exactly.missing == MAX_NACK_GAP


def test_the_list_is_bounded_in_all() -> None:
    stream = video()
    feed(stream, *range(1, 2 * MAX_NACKS, 2))
    assert stream.missing == MAX_NACKS - 1
    feed(stream, 2 * MAX_NACKS + 1, 2 * MAX_NACKS + 3)
    assert stream.missing == 0
    assert stream.take_key_frame_request()


def test_one_message_is_bounded_and_the_rest_follows() -> None:
    stream = video()
    feed(stream, *range(1, 800, 2))
    first = stream.nacks_due(NOW, RTT)
    second = stream.nacks_due(NOW, RTT)
    assert first == list(range(2, 2 + 2 * MAX_NACK_BATCH, 2))
    assert second == list(range(2 + 2 * MAX_NACK_BATCH, 799, 2))


def test_a_key_frame_makes_older_holes_pointless() -> None:
    stream = video()
    feed(stream, 65530, 65533, 65535, 1)
    stream.on_key_frame(65535)
    assert stream.nacks_due(NOW, RTT) == [0]
    assert not stream.take_key_frame_request()


def test_without_nack_nothing_is_asked_for() -> None:
    stream = ReceiveStream(7, 48_000, nack=False)
    assert feed(stream, 1, 5, 3000) == [FRESH, FRESH_AFTER_GAP, FRESH_AFTER_GAP]
    assert stream.nacks_due(NOW, RTT) == []
    assert not stream.take_key_frame_request()


def test_fraction_lost_is_since_the_last_report() -> None:
    """RFC 3550 A.3: 2 of 8 lost is 64/256; then nothing."""
    stream = video()
    feed(stream, 0, 1, 2, 3, 6, 7)
    first = stream.report_block(NOW)
    feed(stream, 8, 9)
    second = stream.report_block(NOW)
    assert first is not None
    assert second is not None
    assert (first.fraction_lost, first.cumulative_lost) == (64, 2)
    assert (second.fraction_lost, second.cumulative_lost) == (0, 2)


def test_duplicates_make_the_loss_negative_but_never_the_fraction() -> None:
    """RFC 3550 A.3."""
    stream = video()
    feed(stream, 1, 1, 1)
    block = stream.report_block(NOW)
    assert block is not None
    assert (block.fraction_lost, block.cumulative_lost) == (0, -2)


def test_what_the_first_packet_overtook_is_kept() -> None:
    """Else the first packet of a key frame may be thrown away at the very start."""
    stream = video()
    assert feed(stream, 0, 65535) == [FRESH, FRESH]
    assert stream.cumulative_lost == 0


def test_jitter_follows_the_rfc() -> None:
    """A.8: 20 ms packets, the third 10 ms late: |D| = 480 twice, each smoothed by 1/16."""
    stream = ReceiveStream(7, 48_000, nack=False)
    stream.on_packet(1, 0, 100, NOW)
    stream.on_packet(2, 960, 100, NOW + 20_000)
    assert stream.jitter == 0
    stream.on_packet(3, 1920, 100, NOW + 50_000)
    assert stream.jitter == 480 // 16
    stream.on_packet(4, 2880, 100, NOW + 60_000)
    assert stream.jitter == (480 + 480 - 30) // 16


def test_jitter_is_blind_to_the_timestamp_wrap() -> None:
    stream = ReceiveStream(7, 48_000, nack=False)
    stream.on_packet(1, 0xFFFF_FFFF - 959, 100, NOW)
    stream.on_packet(2, 0, 100, NOW + 20_000)
    assert stream.jitter == 0


def test_a_lone_stray_far_away_changes_nothing() -> None:
    """RFC 3550 A.1: one packet beyond MAX_DROPOUT is not believed."""
    stream = video()
    assert feed(stream, 100, 100 + MAX_DROPOUT + 1, 101) == [FRESH, STALE, FRESH]
    assert stream.missing == 0


def test_two_packets_in_order_far_away_are_a_restart() -> None:
    stream = video()
    assert feed(stream, 100, 40_000, 40_001, 40_002) == [FRESH, STALE, FRESH_AFTER_GAP, FRESH]
    block = stream.report_block(NOW)
    assert block is not None
    assert (block.highest_seq, block.cumulative_lost) == (40_002, 0)
    assert stream.take_key_frame_request()


def test_a_restart_just_behind_does_not_meet_old_memories() -> None:
    stream = video()
    feed(stream, *range(10_000, 10_000 + WINDOW))
    first = 10_000 - WINDOW
    assert feed(stream, first, first + 1, first + 2) == [STALE, FRESH_AFTER_GAP, FRESH]
    assert feed(stream, *range(first + 3, first + 3 + 2 * WINDOW)) == [FRESH] * (2 * WINDOW)


def test_last_sender_report_and_the_delay_since() -> None:
    """RFC 3550 section 6.4.1: LSR is the middle of the NTP, DLSR in 1/65536 s."""
    stream = video()
    feed(stream, 1)
    early = stream.report_block(NOW)
    stream.on_sender_report(0x0102030405060708, NOW)
    late = stream.report_block(NOW + 1_500_000)
    assert early is not None
    assert late is not None
    assert (early.lsr, early.dlsr) == (0, 0)
    assert (late.lsr, late.dlsr) == (0x03040506, 98_304)


def test_verdicts_read_as_truth_values() -> None:
    """``if not verdict: drop`` is how the packet path asks."""
    assert not receive.STALE
    assert receive.FRESH
    assert receive.FRESH_AFTER_GAP
