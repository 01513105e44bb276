"""The folder of a run: everything that was measured, in files that other programs read, and the report for people.

==================  =====================================================================================
``manifest.json``   what was run, where, from which source, with which scenario
``summary.json``    every figure, bounds and verdict; its schema is ``summary.schema.json`` beside this module
``histograms.json`` the full histograms, to be added to those of other runs
``samples.csv.gz``  a row a second: server, machine, generators, counts (README, "Samples and events")
``events.csv.gz``   joins, reconnects, gaps and errors of each session, at most 200,000
``profile.md``      with ``--profile``: where the server's processes spent their time; ``.folded`` the stacks
``server.log``      the end of what a server of the run's own said
``report.html``     the page, alone; ``report.md`` the same as text; ``*.svg`` its plots
==================  =====================================================================================

Files are written to a folder beside the last one and then renamed, so a folder of that name is whole. What was measured
is written before what is drawn of it. Where the results' folder takes no more, the whole goes to the temporary folder,
and where that is full too the summary goes to whoever started the run (`rescue`).
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from load_tests.report import page
from load_tests.report.plots import all_plots
from load_tests.report.record import CURVE, Record
from load_tests.report.summary import Summary
from load_tests.run import profile

PACKAGES: Final = ("consilium", "aiohttp", "aiortc", "aioice", "pylibsrtp", "msgpack", "pydantic", "cryptography")
MOST_EARLIER: Final = 50
SPARE: Final = "consilium-load-report-"


def write(folder: Path, record: Record, summary: Summary) -> Path:
    """All files of a run, in ``folder / summary.id``; that path, with a number where it was taken.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = next(
        path for path in (folder / f"{summary.id}{tail}" for tail in ("", *(f"-{n}" for n in range(2, 1000))))
        if not path.exists()
    )  # fmt: skip
    fresh = folder / f".{target.name}.part"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        _fill(fresh, folder, record, summary)
        fresh.rename(target)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)  # half a folder would keep the drive full
        raise
    return target


def rescue(record: Record, summary: Summary) -> str:
    """Where a run went that its own folder did not take, as a sentence."""
    with contextlib.suppress(OSError):
        return f"It is in {write(Path(tempfile.mkdtemp(prefix=SPARE)), record, summary)}."
    with contextlib.suppress(OSError):
        kept = Path(tempfile.mkdtemp(prefix=SPARE)) / "summary.json"
        kept.write_text(summary.model_dump_json(indent=1), "utf-8")
        return f"The summary is in {kept}."
    return f"There is no room for it anywhere; this is its summary:\n{summary.model_dump_json()}"


def _fill(fresh: Path, folder: Path, record: Record, summary: Summary) -> None:
    (fresh / "summary.json").write_text(summary.model_dump_json(indent=1) + "\n", "utf-8")
    (fresh / "manifest.json").write_text(_text(manifest(record, summary)), "utf-8")
    encoded = {name: one.encode() for name, one in sorted(record.totals.distributions.items())}
    (fresh / "histograms.json").write_text(_text(encoded), "utf-8")
    _table(fresh / "samples.csv.gz", *samples(record))
    events = ([round(row[0] - record.started_s, 4), *row[1:]] for row in record.totals.events)
    _table(fresh / "events.csv.gz", ["t", "session", "behaviour", "what", "value"], events)
    if record.log:
        (fresh / "server.log").write_text(record.log, "utf-8")
    if record.profiles:
        (fresh / "profile.md").write_text(profile.markdown(record.profiles, record.profiled_s), "utf-8")
        for name, folded in record.profiles.items():
            (fresh / f"profile-{name}.folded").write_text(folded, "utf-8")
    plots = all_plots(record, [*earlier(folder, summary), json.loads(summary.model_dump_json())])
    for name, plot in plots.items():
        (fresh / f"{name}.svg").write_text(plot.svg(alone=True), "utf-8")
    (fresh / "report.html").write_text(page.html(summary, plots), "utf-8")
    (fresh / "report.md").write_text(page.markdown(summary), "utf-8")


def manifest(record: Record, summary: Summary) -> dict[str, Any]:
    """What was run."""
    return {
        "id": summary.id, "scenario": record.scenario.model_dump(mode="json"), "scenario_hash": summary.scenario_hash,
        "seed": summary.seed, "commit": summary.commit, "dirty": summary.dirty, "started": summary.started,
        "machine": summary.machine.model_dump(), "same_host": summary.same_host,
        "versions": {name: _version(name) for name in PACKAGES}, "generators": [one.name for one in record.hands],
        "command": list(record.command),
    }  # fmt: skip


def samples(record: Record) -> tuple[list[str], list[list[Any]]]:
    """Column names and a row for each second of the run."""
    by_second: dict[int, dict[str, Any]] = {}
    for sample in record.server:
        row = by_second.setdefault(int(sample["t"]), {})
        row.update({name: round(value, 4) for name, value in sample.items() if name != "t"})
    for at, counts in record.counts.items():
        by_second.setdefault(at, {}).update(counts)
    for at, one in record.seconds.items():
        for name, histogram in one.items():
            if (value := histogram.percentile(99)) is not None:  # one of the missing is no number
                by_second.setdefault(at, {})[f"{name}_p99"] = round(value, 3)
    for at_s, values in record.curve.totals(record.length_s + 1):
        by_second.setdefault(int(at_s), {}).update(
            {name: round(value, 1) for name, value in zip(CURVE, values, strict=True)}
        )
    columns = sorted({name for row in by_second.values() for name in row})
    rows = [[at, *(row.get(name, "") for name in columns)] for at, row in sorted(by_second.items())]
    return ["t", *columns], rows


def earlier(folder: Path, summary: Summary) -> list[dict[str, Any]]:
    """Summaries of valid earlier runs of the same scenario and machine, oldest first."""
    found = []
    for path in sorted(folder.glob("*/summary.json"))[-10 * MOST_EARLIER :]:
        try:
            one = json.loads(path.read_text("utf-8"))
            if one["scenario"] == summary.scenario and one["valid"] and one["machine"]["cpu"] == summary.machine.cpu:
                found.append((one["started"], one))
        except (OSError, ValueError, KeyError):
            continue
    return [one for _, one in sorted(found, key=lambda pair: str(pair[0]))][-MOST_EARLIER:]


def _table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with gzip.GzipFile(path, "wb", mtime=0) as packed, io.TextIOWrapper(packed, "utf-8", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(columns)
        writer.writerows(rows)


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
