"""The search for the capacity: which run comes next, what the answer is, what a run that says nothing does to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.plan.reading import RunError
from load_tests.plan.search import Outcome, Search
from load_tests.report.capacity import Found, Step, answer, html, markdown
from load_tests.report.summary import Verdict
from load_tests.run.capacity import capacity
from load_tests.run.pinning import apart, cores_of, usable_cores

HELD, BROKE, INVALID = Outcome.HELD, Outcome.BROKE, Outcome.INVALID


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 256), st.integers(1, 300))
def test_the_search_finds_the_edge_or_where_the_generators_end(holds: int, start: int, most: int, end: int) -> None:
    search, runs = Search(start, most), 0
    while (number := search.next()) is not None:
        assert 1 <= number <= most
        search.book(number, INVALID if number >= end else HELD if number <= holds else BROKE)
        runs += 1
    assert search.held == min(holds, most, end - 1)
    assert search.generators_ended == (end <= min(holds + 1, most))
    assert runs <= 30
    assert all(len(outcomes) == 1 for outcomes in search.tried.values())


def test_what_held_once_and_broke_once_has_broken() -> None:
    search = Search(4, 64)
    for number, outcome in ((4, HELD), (8, BROKE), (6, HELD), (7, HELD), (6, BROKE)):
        search.book(number, outcome)
    assert search.held == 4
    assert search.broke == 6
    assert search.next() == 5


def bound(value: float | None) -> Verdict:
    held = value is not None and value <= 50
    return Verdict(figure="forward_ms", percentile="99", at_most=50, at_least=None, value=value, held=held)


def step(consults: int, outcome: Outcome, *bounds: Verdict) -> Step:
    because = ("Generator local-0 used 93% of its core.",) if outcome is INVALID else ()
    return Step(
        consults=consults, outcome=outcome, folder=f"run-{consults}", sessions=10 * consults, bounds=bounds,
        because=because, packets_per_s=2_300.0, server_cores=0.5, hub_cores=0.1, generator_share=0.5,
        generator_late_ms=3.0,
    )  # fmt: skip


def found(*steps: Step) -> Found:
    return Found(
        scenario="two_rooms", scenario_hash="h", commit="c", dirty=False, where="here", notes=("Apart.",), start=4,
        most=64, steps=steps,
    )  # fmt: skip


def test_the_answer_names_the_bound_that_broke_and_never_an_invalid_run() -> None:
    worse = Verdict(figure="event_ms", percentile="99", at_most=200, at_least=None, value=2_000, held=False)
    sure = found(step(4, HELD, bound(2)), step(5, BROKE, bound(51), worse))
    assert answer(sure) == "4 consults. With 5, event_ms p99 <= 200 was 2000, and 1 more."
    ended = found(step(4, HELD, bound(2)), step(5, INVALID, bound(900)))
    assert answer(ended).startswith("At least 4 consults. The generators ended first")
    open_yet = found(step(4, HELD, bound(2)))
    assert answer(open_yet) == "At least 4 consults. The search has not ended."
    for text in (markdown(ended), html(ended)):
        assert "INVALID, says nothing of the server: Generator local-0 used 93%" in text
        assert "Apart." in text
    assert Found.model_validate_json(sure.model_dump_json()) == sure


def test_nothing_holds_when_one_consult_breaks() -> None:
    none = found(step(4, BROKE, bound(60)), step(2, BROKE, bound(55)), step(1, BROKE, bound(None)))
    assert none.search().next() is None
    assert answer(none) == "0 consults. With 1, forward_ms p99 <= 50 was -."


def test_cores_are_named_as_people_name_them() -> None:
    mine = min(usable_cores())
    assert cores_of("") == frozenset()
    assert cores_of(f"{mine}") == cores_of(f"{mine}-{mine}") == frozenset({mine})
    for wrong in ("a", "1-", "0-4095", "4095"):
        with pytest.raises(RunError):
            cores_of(wrong)
    assert apart(frozenset(), frozenset()) == ""
    assert "shared" not in apart(frozenset({0}), frozenset({1}))
    assert "they shared cores" in apart(frozenset({0}), frozenset({0, 1}))
    assert "they shared cores" in apart(frozenset({0}), frozenset())


def test_a_search_that_cannot_begin_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity("two_room", results=tmp_path) == 2
    assert "Did you mean 'two_rooms'?" in capsys.readouterr().err
    assert capacity(resume=tmp_path, results=tmp_path) == 2
    assert "is no search that could go on" in capsys.readouterr().err
    assert capacity(server_cores="x", results=tmp_path) == 2
    bare = tmp_path / "bare.toml"
    bare.write_text('name = "bare"\nabout = ""\nduration_s = 5\n[[population]]\nbehaviour = "listener"\n')
    assert capacity(str(bare), results=tmp_path) == 2
    assert "no bounds" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bare.toml"]
