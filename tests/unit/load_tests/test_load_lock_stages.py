"""Stages of a read through the lock: laid out from the notes of three processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from load_tests.bench.lock.stages import BESIDE, ENDED, MARKS, PATH, read_marks, stages_of

MS = 1_000_000


def noted(began_ns: int) -> list[tuple[str, int]]:
    """One read in which each stage of the path takes a millisecond, and the audit row five."""
    marks = [(end, began_ns + number * MS) for number, (_name, _start, end) in enumerate(PATH, 1) if end != ENDED]
    marks.append(("_answer begins", began_ns + MS))
    return [*marks, ("_record ends", began_ns + 7 * MS), ("note_question ends", began_ns + 6 * MS)]


def test_the_stages_of_a_path_are_the_whole_read_and_what_runs_beside_it_is_told_apart(tmp_path: Path) -> None:
    reads = [(0, 12 * MS), (100 * MS, 112 * MS), (200 * MS, 212 * MS)]
    marks = sorted(noted(0) + noted(100 * MS), key=lambda one: one[1])  # of the third nothing was noted
    for half, name in enumerate(("hub", "gateway")):
        (tmp_path / (name + MARKS)).write_text(json.dumps(marks[half::2]))
    found = stages_of(read_marks([tmp_path / "hub", tmp_path / "gateway"]), reads)
    assert {name: found[name] for name, _start, _end in PATH} == {name: [1.0, 1.0] for name, _start, _end in PATH}
    assert {name: found[name] for name, _start, _end in BESIDE} == {
        "hub_audit_row": [5.0, 5.0],
        "gateway_journal_row": [2.0, 2.0],
    }
    assert sum(found[name][0] for name, _start, _end in PATH) == pytest.approx(12)


def test_of_a_step_that_is_taken_twice_the_last_end_counts() -> None:
    """The gateway asks the hospital's server twice when it has forgotten who the patient is there."""
    marks = sorted([*noted(0), ("json begins", int(5.2 * MS)), ("json ends", int(5.5 * MS))], key=lambda one: one[1])
    found = stages_of(marks, [(0, 12 * MS)])
    assert found["hospital_server"] == [1.0]
