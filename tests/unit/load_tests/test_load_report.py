"""What a run's report says: verdicts, the validity rule, the schema, plots, and a folder that is whole or not there."""

from __future__ import annotations

import csv
import gzip
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from load_tests.plan.reading import parse_scenario
from load_tests.plan.timetable import timetable
from load_tests.report import files, page, plots
from load_tests.report.digest import summarise
from load_tests.report.histogram import Histogram
from load_tests.report.ledger import MOST_EVENTS, Ledger
from load_tests.report.summary import SCHEMA, Summary, judge, schema_text
from load_tests.report.svg import Axis, Plot, ticks
from load_tests.report.validity import GeneratorState, busiest, reasons
from load_tests.run.conduct import Record

GOOD = GeneratorState(
    name="local-0", sessions=9, cpu_share=0.4, late_p99_ms=3, rss_mb=90, sent=100_000, own_loss=0, clock_error_ms=0
)


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
        made.curve.append([second, 2, 2, 1 + (second != 11), 2, 2, 2])
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
    return made


def summary(**changes: Any) -> Summary:
    made = summarise(record(), same_host=True)
    return made.model_copy(update={"valid": True, "bounds": (), "generators": (), **changes})


def test_a_generator_that_was_the_bottleneck_makes_the_run_invalid() -> None:
    assert reasons([GOOD]) == []
    for change, word in (
        ({"late_p99_ms": 20.5}, "late by 20 ms"), ({"cpu_share": 0.81}, "81%"), ({"own_loss": 51}, "lost 51 datagrams"),
        ({"lost": "EOFError"}, "ended early"), ({"late_p99_ms": None}, "did not say"),
    ):  # fmt: skip
        (sentence,) = reasons([GOOD, GOOD.model_copy(update=change)])
        assert word in sentence
    assert reasons([]) == ["There was no generator."]


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
    assert "| INVALID |" in page.results_row(summary(valid=False))


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
