"""Folded stacks to a table: what a function did by itself, and with what it called."""

from __future__ import annotations

import pytest

from load_tests.plan.reading import RunError
from load_tests.run.profile import find_program, markdown, numbered, table

FOLDED = "main;loop;send 30\nmain;loop;loop;read 10\nmain 10\n# said by the profiler 7\n"


def test_a_sample_counts_once_for_each_function_on_its_stack() -> None:
    total, alone, together = table(FOLDED)
    assert total == 50
    assert alone == {"send": 30, "read": 10, "main": 10}
    assert together == {"main": 50, "loop": 40, "send": 30, "read": 10}


def test_the_page_is_in_shares_of_a_core_and_says_what_could_not_be_read() -> None:
    text = markdown({"server": FOLDED, "worker": "# Permission denied\n"}, 1.0)
    assert "server: on the CPU in 50.0% of 100 looks" in text
    assert "| send | 30.00% |" in text
    assert "# Permission denied" in text


def test_processes_of_a_kind_have_names_of_their_own_and_a_missing_program_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert numbered({7: "worker", 3: "server", 9: "worker"}) == {3: "server", 7: "worker", 9: "worker-2"}
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RunError, match="pip install py-spy"):
        find_program()
