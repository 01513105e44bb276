"""Where the milliseconds of a read through the lock go: stages between notes of client, hub and gateway.

The client asks one read at a time, so whatever was noted between its beginning and its end belongs to it. A stage lasts
from one note to the next of the path; what runs beside the path (the two rows that are written while the hospital's
server answers) is told on its own, from its beginning.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

MARKS = ".marks"
"""What a traced process leaves beside its data folder."""
BEGAN, ENDED = "client begins", "client ends"
Marks = list[tuple[str, int]]
"""Names, and CLOCK_MONOTONIC in ns, in the order of time."""

PATH = (
    ("request_in", BEGAN, "_answer begins"),
    ("hub_permission", "_answer begins", "_ask begins"),
    ("hub_to_line", "_ask begins", "say Ask"),
    ("wire_in", "say Ask", "take"),
    ("gateway_policy", "take", "json begins"),
    ("hospital_server", "json begins", "json ends"),
    ("gateway_filter", "json ends", "_body"),
    ("gateway_journal_left", "_body", "answer begins"),
    ("wire_out", "answer begins", "_answered"),
    ("hub_audit_left", "_answered", "_ask ends"),
    ("hub_still_there", "_ask ends", "_still ends"),
    ("answer_out", "_still ends", ENDED),
)
"""Stage, from, to; together they are the whole read."""
BESIDE = (
    ("hub_audit_row", "_ask begins", "_record ends"),
    ("gateway_journal_row", "take", "note_question ends"),
)


def read_marks(folders: Iterable[Path]) -> Marks:
    """Notes of all traced processes, by time."""
    files = (folder.with_name(folder.name + MARKS) for folder in folders)
    noted = (json.loads(file.read_text("utf-8")) for file in files)
    return sorted(((str(name), int(at_ns)) for marks in noted for name, at_ns in marks), key=lambda one: one[1])


def stages_of(marks: Marks, reads: Sequence[tuple[int, int]]) -> dict[str, list[float]]:
    """Milliseconds of each stage, one for each read that passed all of them.

    Args:
        reads: beginning and end of each at the client, ns.
    """
    times = [at_ns for _name, at_ns in marks]
    found: dict[str, list[float]] = {name: [] for name, _from, _to in (*PATH, *BESIDE)}
    for began, ended in reads:
        here = {BEGAN: began, ENDED: ended}
        for name, at_ns in marks[bisect.bisect_left(times, began) : bisect.bisect_right(times, ended)]:
            if name.endswith(" ends") or name not in here:
                here[name] = at_ns
        stages = [(name, here.get(start), here.get(end)) for name, start, end in (*PATH, *BESIDE)]
        if all(start is not None and end is not None for _name, start, end in stages):
            for name, start, end in stages:
                found[name].append(((end or 0) - (start or 0)) / 1e6)
    return found
