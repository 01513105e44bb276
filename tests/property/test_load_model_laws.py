"""Laws of the model: more work never needs less, and what leaves one site arrives at another."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from load_tests.model import busiest, need, uses, year
from load_tests.modelling.consult import between, shape
from load_tests.modelling.given import SITES, Cost, Costs, Kind, read_assumptions
from load_tests.plan.behaviour import BEHAVIOURS

GIVEN = read_assumptions()
PEOPLE = sorted(name for name in BEHAVIOURS if BEHAVIOURS[name].who != "hospital")
people = st.dictionaries(st.sampled_from(PEOPLE), st.integers(1, 4), min_size=1, max_size=6)
costs = st.lists(st.floats(0.001, 1000), min_size=len(Costs.model_fields), max_size=len(Costs.model_fields))


def made(values: list[float]) -> Costs:
    fields = [name for name in Costs.model_fields if name not in ("commit", "machine")]
    found = {name: Cost(value=value, unit="", run="r", how="law") for name, value in zip(fields, values, strict=False)}
    return Costs(commit="c", machine="m", **found)


@settings(max_examples=15)
@given(costs, st.floats(0.1, 100), st.floats(1, 10))
def test_more_of_everything_never_needs_less(values: list[float], scale: float, more: float) -> None:
    prices = made(values)
    one, two = (busiest(GIVEN, prices, size) for size in (scale, scale * more))
    small, large = need(one, GIVEN, prices), need(two, GIVEN, prices)
    # A node's port may be less full than before: nodes come in whole numbers.
    for name in set(asdict(small)) - {"node_network"}:
        assert getattr(large, name) >= getattr(small, name) * (1 - 1e-9), name
    before, after = asdict(year(GIVEN, prices, scale)), asdict(year(GIVEN, prices, scale * more))
    for name, value in before.items():
        assert after[name] == pytest.approx(value * more)


@settings(max_examples=15)
@given(costs, st.sampled_from(sorted(set(Costs.model_fields) - {"commit", "machine", "chain_per_s"})))
def test_what_costs_more_fills_nothing_less(values: list[float], name: str) -> None:
    prices = made(values)
    dearer = prices.model_copy(
        update={name: getattr(prices, name).model_copy(update={"value": 2 * getattr(prices, name).value})}
    )
    before = {one.name: one.share for one in uses(GIVEN, prices)}
    for one in uses(GIVEN, dearer):
        assert one.share >= before[one.name] * (1 - 1e-9), one.name


@settings(max_examples=40)
@given(people, st.data(), st.floats(0, 20_000))
def test_what_leaves_one_site_arrives_at_another(who: dict[str, int], data: st.DataObject, ecg: float) -> None:
    """Copies by way of the relay: nothing arrives that nobody published, nothing that was copied is lost."""
    sites = {name: data.draw(st.sampled_from(SITES)) for name in who}
    assumed = GIVEN.kind[0]
    kind = Kind(name="law", per="doctors", each_day=assumed.each_day, minutes=assumed.minutes, people=who, sites=sites)
    one, ways = shape(kind, ecg), between(kind, ecg)
    for to in SITES:
        assert sum(ways[source, to] for source in SITES) == pytest.approx(one.flows[to].down_bps)
    for source in SITES:
        if not one.flows[source].up_bps:
            assert sum(ways[source, to] for to in SITES) == 0
    assert one.all.down_bps == pytest.approx(sum(ways.values()))
