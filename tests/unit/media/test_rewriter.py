"""Numbering towards viewers: continuous, whatever is dropped, paused or switched on the way."""

from hypothesis import given
from hypothesis import strategies as st

from media.core.rewriter import REMEMBERED_DROPS, SourceNumbers, ViewerNumbers


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
    return [(number + viewer.shift) & 0xFFFF for number in numbers]


def test_a_pause_costs_no_sequence_number_even_at_the_wrap() -> None:
    """[RW2] The packet after a pause follows the last before it."""
    viewer = ViewerNumbers(65_534)
    viewer.start(1, 1_000, 0, 0, 90_000)
    before = seqs(viewer, range(1_000, 1_003))
    viewer.stop(1_002, 0, 0)
    viewer.start(1, 5_000, 0, 0, 90_000)

    assert before + seqs(viewer, range(5_000, 5_002)) == [65_534, 65_535, 0, 1, 2]


def test_a_start_that_sent_nothing_uses_no_number() -> None:
    viewer = ViewerNumbers(10)
    viewer.start(1, 1_000, 0, 0, 90_000)
    viewer.stop(999, 0, 0)
    viewer.start(1, 2_000, 0, 0, 90_000)

    assert seqs(viewer, range(2_000, 2_001)) == [10]


def test_timestamps_of_the_same_source_pass_unchanged() -> None:
    viewer = ViewerNumbers(0)
    viewer.start(1, 1_000, 0xFFFF_FFFF, 0, 90_000)
    viewer.stop(1_000, 0xFFFF_FFFF, 0)
    viewer.start(1, 2_000, 5_000_000, 10_000, 90_000)

    assert viewer.timestamp_shift == 0


def test_another_source_goes_on_where_time_stands() -> None:
    """A second later, a second further: whatever base the new SSRC's timestamps have."""
    viewer = ViewerNumbers(0)
    viewer.start(1, 1_000, 90_000, 0, 90_000)
    viewer.stop(1_010, 180_000, 1_000)
    viewer.start(2, 70_000, 3_000_000_000, 2_000, 90_000)

    assert (3_000_000_000 + viewer.timestamp_shift) & 0xFFFF_FFFF == 270_000


def test_what_was_sent_can_be_found_again() -> None:
    viewer = ViewerNumbers(65_530)
    viewer.start(1, 1_000, 0, 0, 90_000)

    assert viewer.source_number(65_530, 1_009) == 1_000
    assert viewer.source_number(3, 1_009) == 1_009


def test_what_was_never_sent_is_not_found() -> None:
    """Before the start, and beyond the newest."""
    viewer = ViewerNumbers(65_530)
    viewer.start(1, 1_000, 0, 0, 90_000)

    assert viewer.source_number(65_529, 1_009) is None
    assert viewer.source_number(4, 1_009) is None


@given(st.integers(0, 0x7FFF), st.integers(65_536, 10**9), st.integers(0, 1_000), st.integers(0, 1_000))
def test_finding_undoes_shifting(first: int, base: int, sent: int, back: int) -> None:
    """[RW3] For every packet of a viewer, its sequence number leads back to it and to nothing else."""
    viewer = ViewerNumbers(first)
    viewer.start(1, base, 0, 0, 90_000)
    number = base + max(0, sent - back)

    assert viewer.source_number((number + viewer.shift) & 0xFFFF, base + sent) == number


def test_a_number_from_before_the_remembered_drops_is_not_guessed() -> None:
    """[RW3] A packet so late that folded drops lie behind it could only be given another packet's number."""
    source = SourceNumbers()
    for extended in range(1000, 1000 + REMEMBERED_DROPS + 1):
        source.drop(extended)

    assert source.number(999) is None
    assert source.number(1001 + REMEMBERED_DROPS) == 1000
