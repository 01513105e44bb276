"""What a run's report says: verdicts, the validity rule, the schema, plots, and a folder that is whole or not there."""

from __future__ import annotations

import asyncio
import csv
import errno
import gzip
import json
import os
import re
import signal
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from load_tests.plan.reading import Exit, RunError, parse_scenario
from load_tests.plan.timetable import timetable
from load_tests.report import files, page, plots, rows
from load_tests.report.baseline import read_baseline
from load_tests.report.digest import summarise
from load_tests.report.figures import COUNTS
from load_tests.report.histogram import Histogram
from load_tests.report.ledger import MOST_EVENTS, Ledger
from load_tests.report.record import Record
from load_tests.report.summary import SCHEMA, Summary, judge, schema_text
from load_tests.report.svg import Axis, Plot, ticks
from load_tests.report.validity import busiest
from load_tests.run import patience
from load_tests.run.command import main, put_row
from load_tests.run.pinning import apart


def record() -> Record:
    """A run of 20 s, as measured."""
    scenario = parse_scenario(
        {
            "name": "small", "about": "", "duration_s": 20, "measure_from_s": 5, "consults": {"count": 2},
            "population": [{"behaviour": "doctor"}],
            "fault": [{"at_s": 10, "kind": "kill_worker"}],
            "bound": [
                {"figure": "join_ms", "percentile": "95", "at_most": 3000}, {"figure": "forward_ms", "at_most": 1},
                {"figure": "ecg_missing", "percentile": "value", "at_most": 0},
                {"figure": "page_ms", "percentile": "50", "at_most": 10},
            ],
        },
        "x",
    )  # fmt: skip
    made = Record(scenario, timetable(scenario), started_s=1_000.0, ended_s=1_020.0)
    for second in range(20):
        made.seconds[second] = {name: Histogram() for name in ("forward_ms", "ecg_age_ms")}
        made.seconds[second]["forward_ms"].add(0.2 + second)
        made.seconds[second]["ecg_age_ms"].add(100 + second)
        made.counts[second] = {"rtp_in": 500, "errors": second % 2}
        made.curve.add("local-0", second, [2, 2, 1 + (second != 11), 2, 2, 2])
        made.server.append(
            {"t": second, "server_cpu": 0.1, "worker_cpu": 0.2, "server_rss_mb": 100 + second, "worker_rss_mb": 80,
             "packets_out": 500 + second, "worker_lag_s": 0.002}
        )  # fmt: skip
    made.totals.add("join_ms", 900)
    made.totals.miss("join_ms")
    made.totals.add("forward_ms", 0.5)
    made.totals.count("joins_tried", 2)
    made.totals.event(1_003.0, 1, "doctor", "ecg gap", 2)
    made.faults.append((10.0, "kill_worker"))
    made.proofs.append("media worker 7 is gone")
    return made


def summary(**changes: Any) -> Summary:
    made = summarise(record(), same_host=True)
    return made.model_copy(update={"valid": True, "bounds": (), "generators": (), **changes})


def test_a_short_peak_of_cpu_is_no_bottleneck_but_five_seconds_are() -> None:
    assert busiest([0.2, 1.0, 0.2, 0.2, 0.2, 0.2]) < 0.4
    assert busiest([0.2, *[0.9] * 5, 0.2]) == pytest.approx(0.9)
    assert busiest([]) == 0


def test_what_is_missing_counts_against_a_bound_and_what_was_not_measured_does_not_hold() -> None:
    made = summarise(record(), same_host=True)
    held = {one.figure: (one.value, one.held) for one in made.bounds}
    assert held["join_ms"] == (None, False)  # one of two never joined: the 95th percentile is one of the missing
    assert held["forward_ms"] == (0.5, True)
    assert held["ecg_missing"] == (0, True)
    assert held["page_ms"] == (None, False)
    assert not made.valid  # no generator told how it fared
    assert judge(record().scenario.bound[1], Ledger(), {}).held is False


def test_the_kept_schema_is_that_of_the_classes_and_a_summary_fits_it() -> None:
    assert SCHEMA.read_text("utf-8") == schema_text(), "run `python -m load_tests.report.summary`"
    text = summary().model_dump_json()
    assert Summary.model_validate_json(text) == summary(started=Summary.model_validate_json(text).started)
    assert set(json.loads(text)) == set(json.loads(schema_text())["properties"])


def test_the_folder_has_every_file_and_every_plot_is_well_formed(tmp_path: Path) -> None:
    made = record()
    first, second = (files.write(tmp_path, made, summary()) for _ in range(2))
    assert second.name == f"{first.name}-2"  # never over an earlier run
    assert not list(tmp_path.glob(".*"))
    names = {path.name for path in first.iterdir()}
    assert {"manifest.json", "summary.json", "histograms.json", "samples.csv.gz", "events.csv.gz", "report.html",
            "report.md"} < names  # fmt: skip
    drawn = sorted(name for name in names if name.endswith(".svg"))
    assert [name[0] for name in drawn] == list("12345678")
    for name in drawn:
        ET.fromstring((first / name).read_text())
    html = (first / "report.html").read_text()
    assert html.count("<svg") == 8
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")  # nothing is fetched
    with gzip.open(first / "events.csv.gz", "rt") as text:
        assert list(csv.reader(text)) == [
            ["t", "session", "behaviour", "what", "value"], ["3.0", "1", "doctor", "ecg gap", "2"]
        ]  # fmt: skip
    with gzip.open(first / "samples.csv.gz", "rt") as text:
        rows = list(csv.DictReader(text))
    assert [row["rtp_in"] for row in rows] == ["500"] * 20
    full = json.loads((first / "histograms.json").read_text())
    assert Histogram.decode(full["join_ms"]).missing == 1


@pytest.mark.parametrize("length_s", [0.0, 0.4, 3.0])
def test_a_run_in_which_nothing_came_has_a_whole_report_all_the_same(tmp_path: Path, length_s: float) -> None:
    full = record()
    made = Record(full.scenario, full.planned, started_s=1_000.0, ended_s=1_000.0 + length_s, interrupted=True)
    folder = files.write(tmp_path, made, summarise(made, same_host=True))
    html = (folder / "report.html").read_text()
    assert html.count("<svg") == 8
    assert "cannot be drawn" not in html
    assert "cannot be drawn" not in (tmp_path / files.write(tmp_path, full, summary()) / "report.html").read_text()


def test_a_plot_that_fails_costs_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "knee", lambda _samples: 1 / 0)
    folder = files.write(tmp_path, record(), summary())
    assert "cannot be drawn: ZeroDivisionError" in (folder / "2-cost.svg").read_text()
    assert (folder / "summary.json").exists()


def test_where_nothing_can_be_written_the_summary_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full while the report is written: nothing half is left; then the temporary folder, then who started the run."""
    written, room = Path.write_text, 3

    def full(path: Path, text: str, *rest: str) -> int:
        nonlocal room
        room -= 1
        if room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return written(path, text, *rest)

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match="No space"):
        files.write(tmp_path / "results", record(), summary())
    assert not list((tmp_path / "results").iterdir())
    said = files.rescue(record(), summary())
    assert Summary.model_validate_json(said.partition("\n")[2]).scenario == "small"
    room = 1_000
    assert Path(files.rescue(record(), summary())[len("It is in ") : -1], "summary.json").exists()


def test_a_tenth_worse_than_an_earlier_run_is_a_broken_bound(tmp_path: Path) -> None:
    full = record()
    for _ in range(99):
        full.totals.add("event_ms", 100)
    before = summarise(full, same_host=True).model_copy(update={"valid": True})
    (tmp_path / "summary.json").write_text(before.model_dump_json())
    full.bounds = read_baseline(tmp_path, full.scenario)
    assert "event_ms" in {one.figure for one in full.bounds}
    assert all(one.held for one in summarise(full, same_host=True).bounds[len(full.scenario.bound) :])
    for _ in range(99):
        full.totals.add("event_ms", 115)
    worse = [one.figure for one in summarise(full, same_host=True).bounds[len(full.scenario.bound) :] if not one.held]
    assert worse == ["event_ms"]
    other = full.scenario.model_copy(update={"duration_s": 21})
    with pytest.raises(RunError, match="is of another scenario"):
        read_baseline(tmp_path, other)
    with pytest.raises(RunError, match="is no folder of a run"):
        read_baseline(tmp_path / "none", other)
    (tmp_path / "summary.json").write_text(before.model_copy(update={"valid": False}).model_dump_json())
    with pytest.raises(RunError, match="may be believed"):
        read_baseline(tmp_path, full.scenario)


def test_a_row_is_of_a_run_that_may_be_believed_and_stands_there_once(tmp_path: Path) -> None:
    table, folder = tmp_path / "RESULTS.md", tmp_path / "run"
    table.write_text(f"# Results\n\n{rows.HEAD}\n## Capacity\n\n| a | b |\n")
    first = summary(commit="abcdef0123", started="2026-11-22T14:00:00+00:00")
    later = summary(commit="abcdef0123", started="2026-11-22T15:00:00+00:00", dirty=True)
    assert len(rows.add_rows(table, [later, first])) == 2
    assert rows.add_rows(table, [first]) == []
    lines = table.read_text().splitlines()
    assert [line.split(" | ")[0][-8:] for line in lines[4:6]] == ["14:00:00", "15:00:00"]
    assert "abcdef01+" in lines[5]
    for note, said in (
        (apart(frozenset({0}), frozenset({1})), ", apart |"), (apart(frozenset({0}), frozenset({0})), ", shared |"),
        ("", ", shared |"),
    ):  # fmt: skip
        assert said in rows.row(summary(commit="a", notes=(note,)))
    assert ", apart" not in rows.row(summary(commit="a", same_host=False))
    assert lines[6:] == ["", "## Capacity", "", "| a | b |"]
    for wrong, said in (
        ({"valid": False, "invalid_because": ("Late.",)}, "INVALID: Late."), ({"broken": "It died."}, "It died."),
        ({"interrupted": True}, "ended by hand"), ({"commit": ""}, "no commit"),
    ):  # fmt: skip
        assert said in rows.why_not(summary(**{"commit": "a", **wrong}))
    with pytest.raises(ValueError, match="has no table"):
        rows.add_rows(Path(__file__), [first])
    folder.mkdir()
    (folder / "summary.json").write_text(summary(commit="a", valid=False).model_dump_json())
    assert put_row(folder, table=table) == Exit.INVALID
    assert put_row(tmp_path, table=table) == Exit.ARGUMENTS
    assert table.read_text().splitlines() == lines
    assert rows.HEAD in (Path(page.__file__).parent.parent / "RESULTS.md").read_text()


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Handlers that a test installs go with it."""
    before = {number: signal.getsignal(number) for number in patience.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_signals")
def test_a_mistake_in_the_arguments_has_one_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for tokens, said in (
        (["steady_hub", "--procesess", "2"], "procesess"), ([], "--scenario"),
        (["steady_hub", "--processes", "0"], ">= 1"), (["steady_hub", "--workers=-1"], ">= 1"),
        (["steady_hub", "--set", "x"], "is not FIELD=VALUE"), (["steady_hubb"], "Did you mean 'steady_hub'?"),
        (["steady_hub", "--witnesses", "9"], "there are 8 at most"),
    ):  # fmt: skip
        assert main(tokens) == Exit.ARGUMENTS, tokens
        assert said in "".join(capsys.readouterr())


def test_every_event_and_sample_is_explained_to_whoever_reads_the_files() -> None:
    """What sessions write into events.csv.gz stands in the README; so does each column of samples.csv.gz."""
    root = Path(page.__file__).parent.parent
    text = (root / "README.md").read_text("utf-8")
    sources = "".join(one.read_text("utf-8") for one in (root / "session").glob("*.py"))
    told = set(re.findall(r'_event\("([^"]+)"', sources))
    assert len(told) > 5
    columns = set(files.samples(record())[0]) - {"t"} - set(COUNTS)
    for name in (*told, "picture back", "wave back", *columns, "stolen", "core0_busy", "server_tasks", "worker_deaths"):
        assert f"`{name}`" in text, name


@pytest.mark.usefixtures("own_signals")
def test_ctrl_c_is_taken_before_and_after_the_loop_too(capfd: pytest.CaptureFixture[str]) -> None:
    mine = patience.Patience()
    signal.raise_signal(signal.SIGINT)  # while nothing runs yet
    assert asyncio.run(_is_set(mine))
    mine.over = False

    async def told() -> None:
        event = mine.event()
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await event.wait()

    asyncio.run(told())
    signal.raise_signal(signal.SIGINT)  # while the report is written
    assert capfd.readouterr().err.count(patience.ENDING) == 3


async def _is_set(mine: patience.Patience) -> bool:
    return mine.event().is_set()


def test_the_trend_shows_valid_earlier_runs_of_the_same_scenario(tmp_path: Path) -> None:
    files.write(tmp_path, record(), summary(valid=False))
    files.write(tmp_path, record(), summary())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "summary.json").write_text("{")
    assert len(files.earlier(tmp_path, summary())) == 1


def test_the_headline_says_the_worst_first() -> None:
    assert page.headline(summary()) == "no bounds were set"
    assert page.headline(summary(valid=False)).startswith("INVALID")
    assert "join_ms p95 <= 3000" in page.headline(summary(bounds=summarise(record(), same_host=True).bounds))


def test_the_knee_is_where_a_packet_becomes_dear() -> None:
    steady = [(float(1000 * n), 0.01 * n) for n in range(1, 30)]
    assert plots.knee(steady) is None
    flat = [(1500.0 + n % 7, 0.1 + 0.08 * (n % 5)) for n in range(60)]
    assert plots.knee(flat) is None  # noise at one load is no knee
    bent = [*steady, *((float(30_000 + 1000 * n), 0.3 + 0.1 * n) for n in range(1, 10))]
    found = plots.knee(bent)
    assert found is not None
    assert 30_000 < found < 37_000


def test_axes_have_round_ticks_inside_their_range() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(0, 0.7) == pytest.approx([0, 0.2, 0.4, 0.6])
    assert ticks(5, 5)[0] == 5
    plot = Plot("<t>", Axis("x", 0, 1), Axis("y", 0.1, 100, log=True))
    plot.line([(0, 1), (2, 1e9)], "c1", "a & b")
    ET.fromstring(plot.svg(alone=True))


def test_a_ledger_adds_up_over_processes_and_keeps_bounded_events() -> None:
    one, other, whole = Ledger(), Ledger(), Ledger()
    for ledger, value in ((one, 1.0), (other, 3.0)):
        ledger.add("ack_ms", value)
        ledger.count("commands")
        ledger.error("Lost socket")
        ledger.last_heard["0:7"] = [10.0, 10.0 + value, 2]
    one.events = [[0.0, 1, "d", "x", 0.0]] * MOST_EVENTS
    one.event(1.0, 1, "d", "one more")
    for part in (one, other):
        whole.absorb(json.loads(json.dumps(part.take())))
    assert not one.counts
    assert not one.events
    assert whole.distributions["ack_ms"].count == 2
    assert whole.counts == {"commands": 2, "errors": 2}
    assert whole.errors == {"Lost socket": 2}
    assert whole.last_heard == {"0:7": [10.0, 13.0, 4]}
    assert (len(whole.events), whole.events_left_out) == (MOST_EVENTS, 1)
