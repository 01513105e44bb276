"""Loop lag as a share of moments: a stall counts for as long as it was."""

import pytest

from media.core.lag import BOUNDS_S, MOST_IN_A_STALL, LagHistogram, bucket_of


def test_a_stall_counts_as_all_the_moments_it_covers() -> None:
    seen = LagHistogram(0.02)
    seen.add(0.1)  # of a timer every 20 ms: those of 80, 60, 40 and 20 ms before never fired
    assert sum(seen.counts) == 5
    for late_s in (0.1, 0.08, 0.06, 0.04, 0.02):
        assert seen.counts[bucket_of(round(late_s, 6))] >= 1
    assert seen.total_s == pytest.approx(0.3)
    assert seen.worst_s == 0.1


def test_early_is_in_time_and_an_hour_of_sleep_is_bounded() -> None:
    seen = LagHistogram(0.02)
    seen.add(-0.5)
    assert seen.counts[0] == 1
    seen.add(3_600.0)
    assert sum(seen.counts) == 1 + MOST_IN_A_STALL
    assert seen.counts[-1] == MOST_IN_A_STALL


def test_histograms_add_up_and_strange_ones_do_not() -> None:
    one, other = LagHistogram(0.02), LagHistogram(0.05)
    one.add(0.001)
    other.add(0.019)
    one.absorb(other.counts, other.total_s)
    assert one.counts[bucket_of(0.001)] == one.counts[bucket_of(0.019)] == 1
    assert one.total_s == pytest.approx(0.02)
    with pytest.raises(ValueError, match="shorter"):
        one.absorb([0] * len(BOUNDS_S), 0.0)
    assert sum(one.counts) == 2
