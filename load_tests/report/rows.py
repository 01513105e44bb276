"""The table of runs in RESULTS.md: a row a run, written by the program, and only by runs that may be believed.

A run belongs there when it is valid, went to its end or to a broken bound, and was of a source that others have. Its
row goes under the last of the table (``python -m load_tests row``), once however often it is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from load_tests.report.page import headline, percentile, shown
from load_tests.report.summary import Summary
from load_tests.run.pinning import PINNED, SHARED

COLUMNS: Final = ("run", "commit", "machine", "sessions", "packets/s", "join p95 ms", "forward p99 ms",
                  "ECG age p99 ms", "event p99 ms", "server cores", "verdict")  # fmt: skip
HEAD: Final = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"


def why_not(summary: Summary) -> str:
    """Why a run has no row, as a sentence; empty when it may have one."""
    if not summary.valid:
        return "It is INVALID: " + " ".join(summary.invalid_because)
    if summary.broken:
        return f"It could not go on: {summary.broken}"
    if summary.interrupted:
        return "It was ended by hand before its time."
    if not summary.commit:
        return "It is of no commit: nobody could repeat it."
    return ""


def row(summary: Summary) -> str:
    """One line of the table."""
    dirty = "+" if summary.dirty else ""
    figures = (
        percentile(summary, "join_ms", "p95"), percentile(summary, "forward_ms", "p99"),
        percentile(summary, "ecg_age_ms", "p99"), percentile(summary, "event_ms", "p99"),
    )  # fmt: skip
    cells = (
        f"{summary.scenario} {summary.started[:19].replace('T', ' ')}", f"{summary.commit[:8]}{dirty}",
        f"{summary.machine.cpu}, {summary.machine.cores} cores{_beside(summary)}",
        str(summary.sessions), shown(summary.derived.get("packets_in_per_s")), *map(shown, figures),
        shown(summary.derived.get("server_cores")), headline(summary),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _beside(summary: Summary) -> str:
    """Where the generators were: on another machine, on cores of their own, or on the server's."""
    if not summary.same_host:
        return ""
    pinned = [note for note in summary.notes if note.startswith(PINNED)]
    return ", apart" if pinned and not any(SHARED in note for note in pinned) else ", shared"


def add_rows(file: Path, summaries: list[Summary]) -> list[str]:
    """Put rows of these runs under the table's last; those that were new.

    Raises:
        ValueError: the file has no such table.
        OSError: it cannot be read or written.
    """
    text = file.read_text("utf-8")
    before, head, after = text.partition(HEAD)
    if not head:
        raise ValueError(f"{file} has no table with the columns {', '.join(COLUMNS)}")
    lines = after.splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))
    known = {one.split(" | ")[0] for one in lines[:end]}
    ordered = sorted(summaries, key=lambda one: one.started)
    fresh = [one for one in map(row, ordered) if one.split(" | ")[0] not in known]
    whole = "\n".join([*lines[:end], *dict.fromkeys(fresh), *lines[end:]])
    file.write_text(f"{before}{head}{whole}\n", "utf-8")
    return fresh
