"""Histograms of load runs: as good as all values kept, within one part in 128, however they are split and merged."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.report.histogram import ERROR, MAX_UNITS, Histogram, bucket_of, merged, top_of

VALUES = st.lists(st.floats(0, 1e7, allow_nan=False), min_size=1, max_size=200)


def exact(values: list[float], missing: int, percent: float) -> float | None:
    """Nearest rank over everything, the missing last."""
    rank = max(1, math.ceil((len(values) + missing) * percent / 100))
    return sorted(values)[rank - 1] if rank <= len(values) else None


def of(values: list[float], missing: int = 0) -> Histogram:
    made = Histogram()
    for value in values:
        made.add(value)
    made.missing = missing
    return made


@given(VALUES, st.integers(0, 50), st.floats(0.1, 100))
def test_a_percentile_is_the_exact_one_or_a_little_above(values: list[float], missing: int, percent: float) -> None:
    truth, found = exact(values, missing, percent), of(values, missing).percentile(percent)
    if truth is None:
        assert found is None
    else:
        assert found is not None
        unit = 0.5 / 1000 + 1e-9  # half of the smallest step: values are rounded to it
        assert truth - unit <= found <= truth * (1 + ERROR) + unit


@given(VALUES, st.integers(1, 6), st.integers(0, 9))
def test_parts_of_many_processes_add_up_to_the_whole(values: list[float], parts: int, missing: int) -> None:
    split = [of(values[index::parts], missing) for index in range(parts)]
    carried = [Histogram.decode(json.loads(json.dumps(one.encode()))) for one in split]
    whole, together = of(values, missing * parts), merged(carried)
    assert together.steps() == whole.steps()
    assert (together.count, together.missing) == (whole.count, whole.missing)
    assert (together.lowest, together.highest) == (whole.lowest, whole.highest)
    for percent in (1, 50, 95, 99, 100):
        assert together.percentile(percent) == whole.percentile(percent)


@given(st.integers(0, MAX_UNITS))
def test_a_value_is_in_its_bucket_and_buckets_are_narrow(units: int) -> None:
    bucket = bucket_of(units)
    below = top_of(bucket - 1) if bucket else -1
    assert below < units <= top_of(bucket)
    assert top_of(bucket) - units <= units * ERROR


@given(VALUES, st.floats(0, 1e7))
def test_the_share_above_a_value_counts_no_bucket_twice(values: list[float], limit: float) -> None:
    found = of(values, 1)
    edge = top_of(bucket_of(round(limit * 1000))) / 1000
    above = sum(times for value, times in found.steps() if value > edge) + 1
    assert found.share_above(limit) == pytest.approx(above / (len(values) + 1))


@given(st.dictionaries(st.sampled_from(["scale", "missing", "total", "lowest", "highest", "counts"]), st.none()))
def test_what_is_no_histogram_is_refused(value: dict[str, None]) -> None:
    with pytest.raises(ValueError, match="histogram"):
        Histogram.decode(value)


def test_histograms_of_other_scales_do_not_mix() -> None:
    with pytest.raises(ValueError, match="scale"):
        Histogram(1000).merge(Histogram(10))
