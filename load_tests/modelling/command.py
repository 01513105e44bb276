"""``python -m load_tests model``: the model's page and JSON, held against a run where one is given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from load_tests.model import Model
from load_tests.modelling.check import Row, compare
from load_tests.modelling.given import ASSUMPTIONS, MEASURED, read_assumptions, read_costs
from load_tests.modelling.measure import read_run
from load_tests.modelling.page import write
from load_tests.plan.reading import Exit, RunError, parse_scenario


def model(
    *, assumptions: Path = ASSUMPTIONS, measured: Path = MEASURED, check: Path | None = None,
    results: Path = Path("results"),
) -> int:  # fmt: skip
    """From measured costs to 1,900 hospitals, 200,000 doctors and 6,000 teams: model.html and model.json.

    Args:
        assumptions: TOML with how many, how often, how long, each with its reason.
        measured: costs, as `python -m load_tests.modelling.measure` wrote them.
        check: folder of a run of two nodes (`python -m load_tests two_nodes`) that the model is held against.
        results: folder that gets both files.
    """
    try:
        made = Model(read_assumptions(assumptions), read_costs(measured))
        rows, name = _checked(made, check)
        page = write(made, results, rows, name)
    except RunError as problem:
        print(f"load_tests: {problem}", file=sys.stderr)
        return problem.exit_code
    except OSError as problem:
        print(f"load_tests: {problem.filename}: {problem.strerror}.", file=sys.stderr)
        return Exit.STORAGE
    except ValueError as problem:
        print(f"load_tests: {str(problem).splitlines()[0]}", file=sys.stderr)
        return Exit.ARGUMENTS
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        print(f"  {row.what:<36} {row.predicted:14.2f} {row.measured:14.2f} {ratio:>6}  {row.unit}")
    print(f"report: {page}")
    return Exit.OK


def _checked(made: Model, folder: Path | None) -> tuple[list[Row], str]:
    if folder is None:
        return [], ""
    run = read_run(folder)
    content = json.loads((folder / "manifest.json").read_text("utf-8"))["scenario"]
    return compare(run, parse_scenario(content, folder.name), made.costs), run.id
