"""The search for the capacity: which run comes next, what the answer is, what a run that says nothing does to it."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.plan.reading import RunError
from load_tests.plan.search import TRIES, Outcome, Search
from load_tests.report.capacity import Found, Step, answer, causes, html, markdown, outcome_of
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
    assert runs <= 30 + TRIES
    # Nothing is run twice but what said nothing, and that no more often than it takes to believe it.
    for number, outcomes in search.tried.items():
        assert outcomes == ([INVALID] * TRIES if number >= end else outcomes[:1])


@given(st.integers(1, 60), st.lists(st.booleans(), max_size=200))
def test_runs_that_something_else_disturbed_never_lower_the_answer(holds: int, disturbed: list[bool]) -> None:
    """Each number may be invalid once, whenever; the answer is that of a machine that did nothing else."""
    search, spoiled = Search(4, 64), iter(disturbed)
    while (number := search.next()) is not None:
        spoils = INVALID not in search.tried.get(number, []) and next(spoiled, False)
        search.book(number, INVALID if spoils else HELD if number <= holds else BROKE)
    assert search.held == holds
    assert not search.generators_ended


def test_an_invalid_run_is_repeated_at_once_and_is_never_taken_as_broken() -> None:
    search = Search(4, 64)
    for outcome in (HELD, INVALID):
        number = search.next()
        assert number is not None
        search.book(number, outcome)
    assert search.next() == 6
    assert (search.held, search.broke) == (4, 65)
    search.book(6, HELD)
    assert search.next() == 9
    for _ in range(TRIES):
        search.book(9, INVALID)
    assert (search.next(), search.held, search.broke, search.generators_ended) == (7, 6, 65, True)


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
    ended = found(step(4, HELD, bound(2)), *[step(5, INVALID, bound(900))] * TRIES)
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


def test_what_a_run_says_of_its_number() -> None:
    from tests.unit.load_tests.test_load_report import summary

    assert outcome_of(summary()) is HELD
    assert outcome_of(summary(bounds=(bound(60),))) is BROKE
    assert outcome_of(summary(broken="The server ended by itself.")) is BROKE
    # Whatever its figures say: the generators were what was measured.
    assert outcome_of(summary(valid=False, bounds=(bound(60),))) is INVALID
    assert outcome_of(summary(valid=False, broken="The generator local-0 was lost.")) is INVALID


def test_a_profile_of_the_number_that_broke_stands_beside_the_answer() -> None:
    said = causes({"server": "main;loop;send 30\nmain;read 10\n", "worker": "# Permission denied\n"})
    assert said == ("server: most of its own time in send 75%, read 25%",)
    whole = found(step(4, HELD, bound(2)), step(5, BROKE, bound(51)))
    whole = whole.model_copy(update={"profile": "run-5-2", "causes": said})
    assert 'href="runs/run-5-2/profile.md"' in html(whole)
    for text in (markdown(whole), html(whole)):
        assert said[0] in text
    assert answer(whole).startswith("4 consults. With 5, forward_ms p99")  # it is no step


RUN = r"""
import json, os, pathlib, sys
arguments = sys.argv[1:]
folder = pathlib.Path(arguments[arguments.index("--results") + 1])
number = int(next(one for one in arguments if one.startswith("consults.count=")).partition("=")[2])
(folder / f"asked-{len(list(folder.glob('asked-*')))}").write_text(json.dumps(arguments))
code = json.loads(os.environ["CODES"])[str(number)]
if code != 3.5:
    made = json.loads(os.environ["SUMMARY"])
    made.update(consults=number, valid=code not in (5, 7), broken="it died" if code in (3, 5) else "")
    made["bounds"] = [{**one, "held": code != 6} for one in made["bounds"]]
    (folder / f"run-{number}-{os.getpid()}").mkdir()
    (folder / f"run-{number}-{os.getpid()}" / "summary.json").write_text(json.dumps(made))
    import gzip
    gzip.open(folder / f"run-{number}-{os.getpid()}" / "samples.csv.gz", "wt").write("t,server_cpu\n")
sys.exit(int(code))
"""


@pytest.fixture
def fake_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], None]:
    """Runs that end with these exit codes, by number of consults, and write a summary (3.5: none)."""
    from tests.unit.load_tests.test_load_report import summary

    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\nimport sys\ndel sys.argv[0:2]\n{RUN}")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("SUMMARY", summary(bounds=(bound(2),)).model_dump_json())
    return lambda codes: monkeypatch.setenv("CODES", json.dumps(codes))


def state(results: Path) -> tuple[Path, Found]:
    (folder,) = results.glob("*-capacity-*")
    return folder, Found.model_validate_json((folder / "capacity.json").read_text())


def test_a_generator_that_died_is_invalid_and_a_server_that_died_has_broken(
    tmp_path: Path, fake_runs: Callable[[dict[int, float]], None]
) -> None:
    results = tmp_path / "results"
    fake_runs({2: 0, 3: 5, 4: 3})
    assert capacity(start=2, most=4, results=results, quiet=True) == 0
    _, known = state(results)
    assert [(one.consults, one.outcome) for one in known.steps] == [(2, HELD), (3, INVALID), (3, INVALID)]
    assert answer(known).startswith("At least 2 consults. The generators ended first")


def test_a_search_goes_on_with_its_own_options_and_stops_when_a_run_cannot_begin(
    tmp_path: Path, fake_runs: Callable[[dict[int, float]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    fake_runs({2: 0, 3: 3.5})
    assert capacity(start=2, most=4, workers=1, processes=1, results=results, quiet=True) == 3
    folder, known = state(results)
    assert [one.consults for one in known.steps] == [2]
    fake_runs({3: 6})
    assert capacity(resume=folder, workers=2, results=results) == 2
    assert "had other options (--processes=1 --workers=1)" in capsys.readouterr().err
    assert capacity(resume=folder, results=results, quiet=True) == 0
    assert answer(state(results)[1]).startswith("2 consults. With 3, ")
    asked = json.loads(max((folder / "runs").glob("asked-*")).read_text())
    assert asked[-3:] == ["--processes=1", "--workers=1", "--quiet"]


def test_a_full_disk_ends_a_search_with_a_sentence_and_leaves_the_state_of_before(
    tmp_path: Path, fake_runs: Callable[[dict[int, float]], None], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    results, written = tmp_path / "results", Path.write_text
    fake_runs({2: 0, 3: 6})

    def full(path: Path, text: str, *rest: str) -> int:
        if path.name == ".capacity.json" and '"consults": 3' in text:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return written(path, text, *rest)

    monkeypatch.setattr(Path, "write_text", full)
    assert capacity(start=2, most=4, results=results, quiet=True) == 8
    assert "No space left on device" in capsys.readouterr().err
    assert [one.consults for one in state(results)[1].steps] == [2]


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
