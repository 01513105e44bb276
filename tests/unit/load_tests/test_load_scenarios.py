"""Scenario files: what they may say, what they become, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from load_tests.plan.line import QUEUE_S, Direction, Line
from load_tests.plan.reading import Exit, RunError, names, parse_scenario, read_scenario
from load_tests.plan.timetable import timetable
from load_tests.report.summary import check_bounds
from load_tests.run.command import verdict
from load_tests.session.world import ConsultSecrets, World, lacking, needs_of

SMALL: dict[str, Any] = {
    "name": "small",
    "about": "",
    "duration_s": 10,
    "population": [{"behaviour": "doctor", "each": 2, "arrival": {"over_s": 4, "order": "random"}}],
}


def refusal(change: dict[str, Any]) -> str:
    with pytest.raises(RunError) as caught:
        parse_scenario({**SMALL, **change}, "small.toml")
    assert caught.value.exit_code == Exit.ARGUMENTS
    return str(caught.value)


@pytest.mark.parametrize("name", names())
def test_every_scenario_that_comes_with_the_program_can_be_played(name: str) -> None:
    scenario = read_scenario(name)
    assert scenario.name == name
    planned = timetable(scenario)
    assert planned
    assert check_bounds(scenario) == ""
    assert needs_of(scenario).consults == scenario.consults.count
    leaders = [one.consult for one in planned if one.leads]
    assert sorted(leaders) in ([], list(range(scenario.consults.count)))  # one in each, or nobody works


def test_mistakes_are_answered_with_their_place_and_the_nearest_name() -> None:
    assert "durations_s: there is no field 'durations_s'. Did you mean 'duration_s'?" in refusal({"durations_s": 3})
    assert "Did you mean 'doctor'?" in refusal({"population": [{"behaviour": "docter"}]})
    assert "Did you mean 'mobile'?" in refusal({"population": [{"behaviour": "doctor", "line": "mobil"}]})
    assert "Did you mean 'camera'?" in refusal({"population": [{"behaviour": "doctor", "change": {"camra": ""}}]})
    assert "change.camera" in refusal({"population": [{"behaviour": "doctor", "change": {"camera": "8k"}}]})
    assert "Did you mean 'for_s'?" in refusal({"fault": [{"at_s": 1, "kind": "cut", "fors_s": 2}]})
    assert "consults.count" in refusal({"consults": {"count": 0}})
    assert "after the end" in refusal({"fault": [{"at_s": 11, "kind": "cut"}]})
    assert "either at_most or at_least" in refusal({"bound": [{"figure": "join_ms"}]})
    assert "sessions are more than" in refusal({"consults": {"count": 5000}, "population": [
        {"behaviour": "listener", "each": 1000}]})  # fmt: skip


def test_a_scenario_that_is_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Did you mean 'join_storm'"):
        read_scenario("join_strom")
    broken = tmp_path / "x.toml"
    broken.write_text("name = ")
    with pytest.raises(RunError, match="not TOML"):
        read_scenario(str(broken))
    with pytest.raises(RunError, match="does not name a field"):
        read_scenario("join_storm", {"seed.x": 1})


def test_a_bound_on_a_figure_that_is_not_measured_is_found_before_the_run() -> None:
    scenario = parse_scenario({**SMALL, "bound": [{"figure": "join_m", "at_most": 1}]}, "x")
    assert check_bounds(scenario) == "there is no figure 'join_m'. Did you mean 'join_ms'?"


def test_the_timetable_depends_on_the_seed_alone() -> None:
    first, again = (timetable(parse_scenario(SMALL, "x")) for _ in range(2))
    other = timetable(parse_scenario({**SMALL, "seed": 2}, "x"))
    assert first == again
    assert [one.at_s for one in first] != [one.at_s for one in other]
    ways = [
        Direction(Line(loss=0.5), 0, f"{one.seed}-up")
        for plan in (first, again, other) for one in sorted(plan, key=lambda one: one.number)
    ]  # fmt: skip
    drops = [[way.admit(0.0, 1) for _ in range(40)] for way in ways]
    assert drops[:2] == drops[2:4]
    assert len({str(one) for one in drops[2:]}) == 4  # neither two sessions nor two seeds lose alike
    assert [one.index for one in sorted(first, key=lambda one: one.number)] == [0, 1]


def test_everybody_leaves_when_their_consult_is_over() -> None:
    consults = {"count": 3, "begin_over_s": 9, "length_s": 4}
    planned = timetable(parse_scenario({**SMALL, "consults": consults}, "x"))
    ends = {one.consult: one.until_s for one in planned}
    assert ends == {0: 4, 1: 7, 2: 10}  # the last by the end of the run
    assert all(one.at_s < one.until_s for one in planned)


def test_consults_of_a_day_come_by_the_weights_of_its_hours() -> None:
    consults = {"count": 60, "begin_over_s": 8, "by_hour": [1, 0, 3, 0]}
    planned = timetable(parse_scenario({**SMALL, "consults": consults, "population": [
        {"behaviour": "listener"}]}, "x"))  # fmt: skip
    hours = [int(one.at_s / 2) for one in planned]
    assert set(hours) == {0, 2}
    assert hours.count(2) > hours.count(0)


def test_a_world_that_is_too_small_is_named() -> None:
    needs = needs_of(parse_scenario(SMALL, "x"))
    one = ConsultSecrets(
        id="c", patient="p", identifiers=("1", "2"), doctors=("d",), partner_doctors=(), rooms=(), devices=(),
        screens=(),
    )  # fmt: skip
    assert lacking(World(password="x", consults=()), needs) == "it has 0 consults, the scenario needs 1"
    assert lacking(World(password="x", consults=(one,)), needs) == "a consult has 1 doctors, the scenario needs 3"


def test_a_line_loses_by_its_seed_and_keeps_order_and_rate() -> None:
    line = Line(loss=0.2, delay_ms=10, jitter_ms=30, up_bps=800_000)
    first, again = (Direction(line, line.up_bps, "s") for _ in range(2))
    sent = [number * 0.02 for number in range(300)]  # 1000 bytes every 20 ms: half of what the line carries
    came = [first.admit(at, 1000) for at in sent]
    assert came == [again.admit(at, 1000) for at in sent]
    arrived = [at for at in came if at is not None]
    assert arrived == sorted(arrived)
    assert first.lost + first.passed == 300
    assert 30 < first.lost < 90
    full = Direction(Line(up_bps=80_000), 80_000, "s")  # ten of these a second
    waits = [full.admit(0.0, 1000) for _ in range(10)]
    assert sum(one is not None for one in waits) == 1 + int(QUEUE_S / 0.1)
    assert full.dropped == 10 - full.passed


def test_exit_codes_tell_what_a_run_was() -> None:
    from tests.unit.load_tests.test_load_report import summary

    assert verdict(summary()) == Exit.OK
    assert verdict(summary(valid=False)) == Exit.INVALID
    assert verdict(summary(interrupted=True)) == Exit.INTERRUPTED
    assert verdict(summary(broken="x")) == Exit.SERVER
