"""The model: what its numbers say, where they come from, and what is said of a wrong file."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest

from load_tests.model import Model, busiest, day, need, poisson_most, uses, year
from load_tests.modelling.check import Row, compare
from load_tests.modelling.command import model
from load_tests.modelling.consult import flow, shape, shown, stream
from load_tests.modelling.given import Assumptions, Cost, Costs, Kind, read_assumptions, read_costs
from load_tests.modelling.measure import ALONE, Run, costs_alone
from load_tests.modelling.page import html, plots
from load_tests.plan.behaviour import BEHAVIOURS, CAMERAS
from load_tests.plan.reading import Exit, read_scenario


def cost(value: float) -> Cost:
    return Cost(value=value, unit="", run="a run", how="made up for this test")


COSTS = Costs(
    commit="0" * 40, machine="none",
    **{
        name: cost(value)
        for name, value in {
            "relay_us_per_packet": 10, "idle_us_per_s": 100, "active_us_per_s": 1000, "join_ms": 20, "password_ms": 50,
            "page_ms": 5, "crossing_ms": 10, "gateway_ms": 8, "session_kb": 100, "commands_per_session": 10,
            "rows_per_command": 2, "rows_per_page": 1, "rows_per_crossing": 5, "bytes_per_row": 400,
            "links_per_command": 1, "links_per_page": 1, "links_per_crossing": 2,
            "redis_fixed_us_per_s": 1000, "publishes_per_command": 1, "publish_us": 10, "delivery_us": 2,
            "ring_frame_us": 10, "ring_frame_bytes": 800, "ring_frames": 300, "hint_us": 50,
            "chain_per_s": 1000, "ecg_bytes_per_s": 6000,
        }.items()
    },
)  # fmt: skip
GIVEN = read_assumptions()


def changed(given: Assumptions, **values: float) -> Assumptions:
    """The first kind of consult with other numbers."""
    first = given.kind[0]
    update = {name: getattr(first, name).model_copy(update={"value": value}) for name, value in values.items()}
    return given.model_copy(update={"kind": (first.model_copy(update=update), *given.kind[1:])})


def test_layers_are_those_that_the_relay_forwards() -> None:
    """A wall of 720 lines gets the largest, a tile the middle one, a phone the smallest."""
    by_view = {view: shown("720p", view).height for view in ((1280, 720), (640, 360), (360, 200))}
    assert by_view == {(1280, 720): 720, (640, 360): 360, (360, 200): 180}
    packets, bits = stream(CAMERAS["720p"][2])
    assert 200 < packets < 240  # 7 kB thirty times a second
    assert bits > 1_700_000


def test_two_doctors_send_three_layers_and_get_one() -> None:
    doctor = BEHAVIOURS["doctor"]
    mine = flow(doctor, [doctor], 0)
    layers = [stream(one) for one in CAMERAS["720p"]]
    assert mine.up_pps == pytest.approx(sum(packets for packets, _ in layers) + 50)
    assert mine.down_pps == pytest.approx(layers[1][0] + 50)
    assert flow(doctor, [BEHAVIOURS["wall_record"]], 0).down_pps == 0
    wall = flow(BEHAVIOURS["wall_ecg"], [BEHAVIOURS["bedside_monitor"]], 4000)
    assert wall.down_bps == flow(BEHAVIOURS["bedside_monitor"], [], 4000).up_bps > 8 * 2 * 4000


def test_littles_law_and_units() -> None:
    """Twice as long is twice as many at a time and no more joins; twice as often is both."""
    base = busiest(GIVEN, COSTS)
    first = GIVEN.kind[0]
    longer = busiest(changed(GIVEN, minutes=2 * first.minutes.value), COSTS)
    oftener = busiest(changed(GIVEN, each_day=2 * first.each_day.value), COSTS)
    assert longer.joins == pytest.approx(base.joins)
    assert longer.consults - base.consults == pytest.approx(oftener.consults - base.consults)
    assert oftener.joins > base.joins
    share = max(GIVEN.by_hour.shares)
    begun = GIVEN.size.expert_teams.value * first.each_day.value * share
    assert longer.consults - base.consults == pytest.approx(begun * first.minutes.value / 60)


def test_a_day_is_its_hours_and_a_year_its_days() -> None:
    after = year(GIVEN, COSTS)
    assert sum(GIVEN.by_hour.shares) == pytest.approx(1)
    assert after.crossings == pytest.approx(
        GIVEN.size.hospitals.value * GIVEN.lock.messages.value * GIVEN.working_days.value
    )
    ecg_hours = sum(
        getattr(GIVEN.size, one.per).value * one.each_day.value * one.minutes.value / 60
        for one in GIVEN.kind if "bedside_monitor" in one.people
    )  # fmt: skip
    assert after.archive_bytes == pytest.approx(ecg_hours * 3600 * 6000 * GIVEN.working_days.value)


def test_hints_to_every_node_end_what_more_nodes_can_do() -> None:
    """Where hints fill a node's core there is no number of nodes that would do, and the page says so."""
    small, large = (need(busiest(GIVEN, COSTS, scale), GIVEN, COSTS) for scale in (1, 1000))
    assert math.isfinite(small.signalling_nodes)
    assert large.signalling_nodes == math.inf
    # Redis has not less to do because there is no answer any more.
    steps = [need(busiest(GIVEN, COSTS, scale), GIVEN, COSTS) for scale in range(1, 400, 7)]
    assert steps[-1].signalling_nodes == math.inf
    assert all(one.redis_ops <= two.redis_ops for one, two in itertools.pairwise(steps))
    assert "cannot" in html(Model(GIVEN, COSTS, scales=(1.0, 1000.0)), (), "")


def test_what_runs_out_first_is_the_fullest() -> None:
    found = uses(GIVEN, COSTS, 10)
    assert [one.share for one in found] == sorted((one.share for one in found), reverse=True)
    slow = COSTS.model_copy(update={"chain_per_s": cost(0.001)})
    assert uses(GIVEN, slow)[0].name == "event chain"
    assert all(one.design for one in found)


def test_a_run_is_held_against_what_its_own_people_should_have_done() -> None:
    """Predicted from the scenario, measured from the run's files; the settled part only."""
    scenario = read_scenario("two_nodes", {"consults.count": 1, "duration_s": 40})
    quiet = [{"t": float(at), "rtp_in": 9e9} for at in range(20)]
    settled = [{"t": float(at), "rtp_in": 2500.0, "server_cpu": 0.1, "worker_cpu": 0.05} for at in range(20, 40)]
    summary = {"lasted_s": 40, "sessions": 8, "derived": {"db_rows": 100, "redis_xadd": 395}, "counts": {}}
    rows = {one.what: one for one in compare(Run("a run", summary, quiet + settled), scenario, COSTS)}
    assert rows["relay sends"].measured == 2500
    assert rows["relay sends"].ratio == pytest.approx(1, abs=0.05)
    assert rows["redis XADD"].predicted == pytest.approx(390)  # ten frames a second from the first second on
    assert rows["database rows"].measured == 100
    assert Row("nothing", "", 0, 1).ratio is None
    assert "Checked against a run" in html(Model(GIVEN, COSTS), list(rows.values()), "a run")


def test_a_part_that_is_measured_alone_gives_its_own_numbers_only() -> None:
    found = costs_alone({"links_per_s": 5.25, "links_per_s_of_1": 4.0}, "0123456789")
    assert {name: (one.value, one.run) for name, one in found.items()} == {
        "chain_per_s": (5.25, "modelling.process 01234567")
    }
    assert {name for name, *_ in ALONE} <= set(Costs.model_fields)


def test_a_hospitals_line_is_for_as_many_consults_as_it_nearly_always_has() -> None:
    assert [poisson_most(mean, 0.999) for mean in (0, 0.01, 1, 10)] == [0, 1, 5, 21]


def test_sensitivity_names_every_number_and_the_largest_effect_first() -> None:
    found = Model(GIVEN, COSTS).sensitivity()
    assert {"measured relay_us_per_packet", "size.doctors", "online visit: minutes"} <= {one.name for one in found}
    assert abs(found[0].nodes - 1) + abs(found[0].rows - 1) + abs(found[0].first - 1) > 0.3


def test_kinds_name_known_behaviours_and_say_where_they_are() -> None:
    content = GIVEN.kind[0].model_dump()
    with pytest.raises(ValueError, match="no behaviour 'docter'"):
        Kind.model_validate({**content, "people": {"docter": 1}, "sites": {"docter": "hub"}})
    with pytest.raises(ValueError, match="different behaviours"):
        Kind.model_validate({**content, "sites": {"doctor": "hub"}})
    assert shape(GIVEN.kind[0], 6000).sessions == sum(GIVEN.kind[0].people.values())


def test_the_command_writes_page_and_json_of_the_measured_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every cost names its run; a file that is not right is a sentence and an exit code."""
    costs = read_costs()
    assert all(getattr(costs, name).run and getattr(costs, name).how for name in Costs.model_fields if name not in
               ("commit", "machine"))  # fmt: skip
    assert model(results=tmp_path) == Exit.OK
    content = json.loads((tmp_path / "model.json").read_text())
    assert len(content["by_hour"]) == 24
    assert set(content["scales"]) == {"1", "10", "100"}
    page = (tmp_path / "model.html").read_text()
    assert page.count("<svg") == len(plots(Model(GIVEN, costs))) == 6
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    assert model(measured=wrong, results=tmp_path) == Exit.ARGUMENTS
    assert model(measured=tmp_path / "none.json", results=tmp_path) == Exit.STORAGE
    assert "none.json: No such file" in capsys.readouterr().err
    assert len(day(GIVEN, costs)) == 24
