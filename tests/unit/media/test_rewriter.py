"""Numbering towards viewers: continuous, whatever is dropped, paused or switched on the way."""

from hypothesis import given
from hypothesis import strategies as st

from media.core.rewriter import REMEMBERED_DROPS, Position, SourceNumbers, ViewerNumbers


def test_a_dropped_packet_leaves_no_hole() -> None:
    numbers = SourceNumbers()
    numbers.drop(102)

    assert [numbers.number(n) for n in (100, 101, 103, 104)] == [100, 101, 102, 103]


def test_a_late_packet_lands_in_the_hole_it_left() -> None:
    """101 was lost before 102 was dropped: its place is still before the drop."""
    numbers = SourceNumbers()
    numbers.drop(102)

    assert [numbers.number(n) for n in (100, 103, 101)] == [100, 102, 101]


@given(st.lists(st.booleans(), max_size=3 * REMEMBERED_DROPS))
def test_forwarded_numbers_are_consecutive(kept: list[bool]) -> None:
    """[RW1] However many are dropped, those forwarded count up by one."""
    numbers = SourceNumbers()
    given_out = []
    for extended, keep in enumerate(kept, start=70_000):
        if keep:
            given_out.append(numbers.number(extended))
        else:
            numbers.drop(extended)

    assert given_out == list(range(70_000, 70_000 + len(given_out)))


def seqs(viewer: ViewerNumbers, numbers: range) -> list[int]:
    return [(number + viewer.now.shift) & 0xFFFF for number in numbers]


def test_a_pause_costs_no_sequence_number_even_at_the_wrap() -> None:
    """[RW2] The packet after a pause follows the last before it."""
    viewer = ViewerNumbers(65_534)
    viewer.start(1, Position(1_000, 0), 0, 90_000)
    before = seqs(viewer, range(1_000, 1_003))
    viewer.stop(Position(1_002, 0), 0)
    viewer.start(1, Position(5_000, 0), 0, 90_000)

    assert before + seqs(viewer, range(5_000, 5_002)) == [65_534, 65_535, 0, 1, 2]


def test_a_start_that_sent_nothing_uses_no_number() -> None:
    viewer = ViewerNumbers(10)
    viewer.start(1, Position(1_000, 0), 0, 90_000)
    viewer.stop(Position(999, 0), 0)
    viewer.start(1, Position(2_000, 0), 0, 90_000)

    assert seqs(viewer, range(2_000, 2_001)) == [10]


def test_timestamps_of_the_same_source_pass_unchanged() -> None:
    viewer = ViewerNumbers(0)
    viewer.start(1, Position(1_000, 0xFFFF_FFFF), 0, 90_000)
    viewer.stop(Position(1_000, 0xFFFF_FFFF), 0)
    viewer.start(1, Position(2_000, 5_000_000), 10_000, 90_000)

    assert viewer.now.timestamp_shift == 0


def test_another_source_goes_on_where_time_stands() -> None:
    """A second later, a second further: whatever base the new SSRC's timestamps have."""
    viewer = ViewerNumbers(0)
    viewer.start(1, Position(1_000, 90_000), 0, 90_000)
    viewer.stop(Position(1_010, 180_000), 1_000)
    viewer.start(2, Position(70_000, 3_000_000_000), 2_000, 90_000)

    assert (3_000_000_000 + viewer.now.timestamp_shift) & 0xFFFF_FFFF == 270_000


def test_what_was_sent_can_be_found_again() -> None:
    viewer = ViewerNumbers(65_530)
    viewer.start(1, Position(1_000, 0), 0, 90_000)

    assert viewer.now.lane_number(65_530, 1_009) == 1_000
    assert viewer.now.lane_number(3, 1_009) == 1_009


def test_what_was_never_sent_is_not_found() -> None:
    """Before the start, and beyond the newest."""
    viewer = ViewerNumbers(65_530)
    viewer.start(1, Position(1_000, 0), 0, 90_000)

    assert viewer.now.lane_number(65_529, 1_009) is None
    assert viewer.now.lane_number(4, 1_009) is None


@given(st.integers(0, 0x7FFF), st.integers(65_536, 10**9), st.integers(0, 1_000), st.integers(0, 1_000))
def test_finding_undoes_shifting(first: int, base: int, sent: int, back: int) -> None:
    """[RW3] For every packet of a viewer, its sequence number leads back to it and to nothing else."""
    viewer = ViewerNumbers(first)
    viewer.start(1, Position(base, 0), 0, 90_000)
    number = base + max(0, sent - back)

    assert viewer.now.lane_number((number + viewer.now.shift) & 0xFFFF, base + sent) == number


def test_a_number_from_before_the_remembered_drops_is_not_guessed() -> None:
    """[RW3] A packet so late that folded drops lie behind it could only be given another packet's number."""
    source = SourceNumbers()
    for extended in range(1000, 1000 + REMEMBERED_DROPS + 1):
        source.drop(extended)

    assert source.number(999) is None
    assert source.number(1001 + REMEMBERED_DROPS) == 1000


def test_pictures_go_on_over_a_change_of_layer() -> None:
    """[RW4] PictureID and TL0PICIDX of another stream continue those seen, also at their wraps."""
    viewer = ViewerNumbers(0)
    viewer.start(1, Position(1_000, 0, 32_766, 254), 0, 90_000)
    viewer.stop(Position(1_010, 0, 32_767, 255), 0)
    viewer.start(2, Position(70_000, 0, 5, 9), 0, 90_000)

    assert (5 + viewer.now.picture_shift) & 0x7FFF == 0
    assert (9 + viewer.now.tl0_shift) & 0xFF == 0


def test_pictures_of_the_same_stream_keep_their_base_layer_count() -> None:
    """[RW4] Taking in other temporal layers of one stream renumbers pictures, not TL0PICIDX."""
    viewer = ViewerNumbers(0)
    viewer.start(1, Position(1_000, 0, 100, 20), 0, 90_000)
    viewer.stop(Position(1_010, 0, 110, 22), 0)
    viewer.start(1, Position(2_000, 0, 60, 23), 0, 90_000)

    assert 60 + viewer.now.picture_shift == 111
    assert viewer.now.tl0_shift == 0


def test_the_publishers_reports_place_another_layer_in_time() -> None:
    """[RW5] A shift that its sender reports give is taken; one that would go back or far ahead is not."""
    viewer = ViewerNumbers(0)
    viewer.start(1, Position(1_000, 90_000), 0, 90_000)
    viewer.stop(Position(1_010, 180_000), 1_000)
    viewer.start(2, Position(70_000, 5_000), 1_000, 90_000, 178_000)
    assert viewer.now.timestamp_shift == 178_000

    viewer.stop(Position(70_001, 8_000), 2_000)
    viewer.start(1, Position(1_100, 185_000), 2_000, 90_000, 0)
    assert (185_000 + viewer.now.timestamp_shift) & 0xFFFF_FFFF == 186_001


def test_what_was_followed_before_can_still_be_asked_for() -> None:
    """[RW3] A packet lost just before a change of lane is found by the shift it was sent with."""
    viewer = ViewerNumbers(10)
    viewer.start(1, Position(1_000, 0), 0, 90_000)
    viewer.stop(Position(1_004, 0), 0)
    viewer.start(2, Position(9_000, 0), 0, 90_000)

    assert viewer.before is not None
    assert viewer.before.lane_number(14, 1_004) == 1_004
    assert viewer.now.lane_number(14, 9_000) is None
    assert viewer.now.lane_number(15, 9_000) == 9_000
