"""Whether a run may be believed: who was late, what was lost, whose clock moved, what grew; nothing hides in a mean."""

from __future__ import annotations

import asyncio
import random
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.plan.reading import parse_scenario, read_scenario
from load_tests.plan.timetable import timetable
from load_tests.report.digest import derive, growth, summarise
from load_tests.report.histogram import MOST_IN_A_STALL, Histogram, over_time
from load_tests.report.ledger import Ledger
from load_tests.report.record import Record
from load_tests.report.slope import slope_of
from load_tests.report.validity import GeneratorState, exhausted, reasons
from load_tests.run import conduct, progress
from load_tests.run.conduct import Conductor, wall_ahead_s
from load_tests.run.crew import Hand
from load_tests.run.machine import read_cores
from load_tests.run.takings import take_report
from load_tests.run.witness import AFTER_S, ENTERING_S, warmed_up

GOOD = GeneratorState(
    name="local-0", sessions=9, cpu_share=0.4, late_p99_ms=3, rss_mb=90, sent=100_000, own_loss=0, clock_error_ms=0
)
SCENARIO: dict[str, Any] = {
    "name": "small", "about": "", "duration_s": 20, "measure_from_s": 5, "population": [{"behaviour": "doctor"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"late_p99_ms": 20.5}, "was late by 20 ms"), ({"play_late_p99_ms": 31.0}, "plays media, was late by 31 ms"),
        ({"late_p99_ms": None}, "did not say"), ({"cpu_share": 0.81}, "81%"), ({"own_loss": 51}, "lost 51 datagrams"),
        ({"exhausted": 1}, "refused open files"), ({"silent_s": 6.0}, "said nothing for 6 s"),
        ({"clock_error_ms": 12.0}, "only known to 12 ms"), ({"clock_drift_ms": 40.0}, "40 ms that it moved"),
        ({"lost": "EOFError"}, "ended early"),
    ],
)  # fmt: skip
def test_what_was_the_generators_fault_makes_the_run_invalid_and_is_said(change: dict[str, Any], word: str) -> None:
    assert reasons([GOOD, GOOD]) == []
    (sentence,) = reasons([GOOD, GOOD.model_copy(update=change)])
    assert word in sentence


def test_so_does_a_coordinator_that_had_no_time_or_whose_clock_was_set() -> None:
    assert reasons([GOOD], looks_late=3, looks=60) == []
    assert "late 4 times of 60" in reasons([GOOD], looks_late=4, looks=60)[0]
    assert reasons([GOOD], clock_jump_ms=9) == []
    assert "was set by 3600000 ms" in reasons([GOOD], clock_jump_ms=3_600_000)[0]
    assert reasons([]) == ["There was no generator."]


def test_errors_of_our_own_making_are_told_from_the_servers() -> None:
    assert exhausted({"ClientConnectorError ECONNREFUSED": 9, "OSError EMFILE": 2, "ClientOSError ENOBUFS": 1}) == 3


def test_a_stall_is_late_for_every_moment_that_it_covers() -> None:
    """Twenty seconds of a timer of 20 ms that stood still for half a second three times."""
    fired = Histogram()
    fired.add(0.1, 925)
    fired.add(500, 3)
    assert (fired.percentile(99) or 0) < 1  # what fires hides it
    moments = over_time(fired, 20)
    assert moments.count == pytest.approx(1000, abs=4)
    assert (moments.percentile(99) or 0) > 300
    for _ in range(2):
        moments.merge(over_time(fired, 20))
    assert moments.count == pytest.approx(3000, abs=12)
    slept = Histogram()
    slept.add(3_600_000)
    assert over_time(slept, 20).count == MOST_IN_A_STALL


def report(at_s: float, **more: Any) -> dict[str, Any]:
    ledger = Ledger()
    for name, value in more.pop("late", {}).items():
        ledger.add(name, value)
    for kind, times in more.pop("errors", {}).items():
        ledger.error(kind, times)
    for name, times in more.pop("counts", {}).items():
        ledger.count(name, times)
    nothing = {"is": "report", "at": 1_000 + at_s, "curve": [], "cpu_s": 0.1, "rss_mb": 50, "plays": "C"}
    return {**nothing, "ledger": ledger.take(), **more}


def run(**changes: Any) -> Record:
    scenario = parse_scenario({**SCENARIO, **changes}, "x")
    hands = [Hand(name, None) for name in ("one", "other")]  # type: ignore[arg-type]  # no link: nothing is sent
    return Record(scenario, timetable(scenario), started_s=1_000.0, ended_s=1_020.0, hands=hands)


def test_what_generators_report_of_themselves_reaches_the_rule() -> None:
    record = run()
    one, other = record.hands
    for at in range(1, 20):
        take_report(record, one, report(at, late={"generator_late_ms": 1, "generator_play_late_ms": 2}))
        if not 8 <= at < 16:
            take_report(record, other, report(at, late={"generator_late_ms": 1}, errors={"OSError EMFILE": 1}))
    other.take_clock(asked=1_000.0, mine=1_000.5, now=1_000.002)
    record.clock_jump_s, record.looks_late = 1.0, 9
    said = " ".join(summarise(record, same_host=True).invalid_because)
    for word in ("other was refused open files, memory or ports 11 times", "other said nothing for 9 s",
                 "generator other is only known to 49", "late 9 times of 0", "was set by 1000 ms"):  # fmt: skip
        assert word in said
    assert "one" not in said.split()
    state = summarise(record, same_host=True).generators[0]
    assert (state.plays, state.late_p99_ms, state.play_late_p99_ms) == ("C", 1.0, 2.0)


def test_a_clock_is_only_called_moved_by_what_is_certain() -> None:
    hand = Hand("x", None, clock_off_s=0.5, clock_error_s=0.001)  # type: ignore[arg-type]
    hand.take_clock(asked=10.0, mine=10.9, now=10.8)  # the answer took 0.8 s: it may still be 0.5
    assert hand.clock_drift_s == 0
    hand.take_clock(asked=10.0, mine=10.601, now=10.002)
    assert hand.clock_drift_s == pytest.approx(0.098, abs=1e-6)
    assert abs(wall_ahead_s() - wall_ahead_s()) < 0.5


def test_a_generator_that_ended_takes_its_sessions_with_it() -> None:
    record = run()
    for at in range(1, 20):
        looks = [[1_000 + at - 0.5, 4, 4, 4, 4, 0, 0], [1_000 + at - 0.25, 4, 4, 2, 4, 0, 0]]
        take_report(record, record.hands[0], report(at, curve=looks))
        if at <= 10:
            take_report(record, record.hands[1], report(at, curve=[[1_000 + at - 0.5, 6, 6, 6, 6, 0, 0]]))
    curve = dict(record.curve.totals(20))
    assert curve[5.5][:3] == [10, 10, 9]  # both, each as the mean of its looks
    assert curve[10.5][0] == 10  # one look that is late is no loss
    assert curve[15.5][:3] == [4, 4, 3]  # the other is not taken to be like the one
    assert record.curve.now()[:2] == [10, 10]
    assert "10/10 joined" in progress.line(record)


def test_while_witnesses_come_in_the_generators_are_not_judged_and_nothing_is_measured() -> None:
    scenario = read_scenario("steady_hub")
    planned = timetable(scenario)
    last_s = max(one.at_s for one in planned)
    assert warmed_up(scenario, planned, 0) == (scenario, (0.0, 0.0))
    longer, (from_s, until_s) = warmed_up(scenario, planned, 2)
    assert from_s == last_s + AFTER_S
    assert longer.measure_from_s == until_s >= max(scenario.measure_from_s, from_s + ENTERING_S)
    short = scenario.model_copy(update={"duration_s": until_s})
    assert warmed_up(short, planned, 2) == (short, (0.0, 0.0))  # no time for it: nothing is made up

    record = run(measure_from_s=12)
    record.entering = (8.0, 12.0)
    for at in range(1, 20):
        late = 90 if 8 < at < 12 else 1
        take_report(record, record.hands[0], report(at, late={"generator_late_ms": late}))
    state = summarise(record, same_host=True).generators[0]
    assert state.late_p99_ms == 1
    record.entering = (0.0, 0.0)
    take_report(record, record.hands[0], report(20, late={"generator_late_ms": 90}))
    assert summarise(record, same_host=True).generators[0].late_p99_ms == pytest.approx(90, rel=0.01)


def test_who_never_got_a_picture_is_in_every_denominator() -> None:
    record = run(consults={"count": 2}, population=[{"behaviour": "doctor", "each": 2}])
    ledger = record.totals
    ledger.count("joins_tried", 4)
    ledger.count("joins_done", 3)
    ledger.count("tracks_expected", 8)
    ledger.count("tracks_received", 6)
    for value in (100, 200, 300):
        ledger.add("join_ms", value)
    ledger.miss("join_ms")
    ledger.events += [[1_001.0, number, "doctor", "complete", 100.0] for number in (0, 1, 2)]
    made = summarise(record, same_host=True)
    assert made.derived["joins_share"] == 0.75
    assert made.derived["tracks_share"] == 0.75
    assert made.derived["consults_finished"] == 1
    assert (made.distributions["join_ms"].p50, made.distributions["join_ms"].p95) == (
        pytest.approx(200, rel=0.01),
        None,
    )
    ledger.events_left_out = 1
    assert derive(record)["consults_finished"] is None  # some of it is not known


def test_a_run_that_ended_while_it_warmed_up_has_no_speeds_and_holds_no_bound() -> None:
    record = run(bound=[{"figure": "ecg_missing", "percentile": "value", "at_most": 0}])
    record.ended_s = 1_003.0
    made = summarise(record, same_host=True)
    assert made.measured_s == 0
    assert (made.derived["packets_in_per_s"], made.derived["received_mbps"]) == (None, None)
    assert [(one.value, one.held) for one in made.bounds] == [(None, False)]


@given(st.floats(-500, 500), st.integers(0, 2**32))
def test_a_slope_is_found_whatever_a_few_samples_say(per_hour: float, seed: int) -> None:
    chance = random.Random(seed)
    points = [(float(at), 100 + per_hour * at / 3600 + chance.gauss(0, 0.05)) for at in range(900)]
    for start in (chance.randrange(850), chance.randrange(850)):  # a process looked at while it is made anew
        points[start : start + 40] = [(at, 3_000.0) for at, _ in points[start : start + 40]]
    found = slope_of(points)
    assert found is not None
    assert found.per_hour == pytest.approx(per_hour, abs=2)
    assert found.low <= found.per_hour <= found.high


def test_a_leak_of_one_descriptor_in_ten_minutes_is_seen_and_a_short_run_says_nothing() -> None:
    def sample(at: float) -> dict[str, float]:
        return {"t": at, "server_descriptors": 60 + at // 600, "worker_descriptors": 20.0}

    samples = [sample(at) for at in range(3_600)]
    found = growth(samples, "server_descriptors", "worker_descriptors")
    assert found is not None
    assert found.per_hour == pytest.approx(6, abs=1)
    assert growth(samples[:100], "server_descriptors", "worker_descriptors") is None
    # While a worker is away its descriptors are not missing from the sum.
    gone = [{"t": one["t"], "server_descriptors": 60.0} if 2_000 < one["t"] < 2_060 else
            {**one, "server_descriptors": 60.0} for one in samples]  # fmt: skip
    assert growth(gone, "server_descriptors", "worker_descriptors") == (0, 0, 0, (2728.5, 80.0))


def test_cores_are_read_as_the_kernel_has_them() -> None:
    text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 8 7 6 5 4 3 2 1 0 0\nintr 5\n"
    assert read_cores(text) == {"0": [1, 2, 3, 4, 5, 6, 7, 8], "1": [8, 7, 6, 5, 4, 3, 2, 1]}


# ------------------------------------------------------------- Ctrl-C, and what goes wrong around a run


async def test_ctrl_c_while_it_is_prepared_undoes_it_and_keeps_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, undone = asyncio.Event(), asyncio.Event()

    async def prepare(*_: object) -> None:
        stop.set()
        try:
            await asyncio.Event().wait()
        finally:
            undone.set()

    conductor = Conductor(parse_scenario(SCENARIO, "x"), lambda _text: None, stop)
    monkeypatch.setattr(conductor, "_prepare", prepare)
    record = await conductor.run(conduct.Choice(), 1, [], "127.0.0.1")
    assert undone.is_set()
    assert record.interrupted
    made = summarise(record, same_host=True)
    assert conduct.ENDED_EARLY in made.notes
    assert not made.valid


async def test_what_fails_after_the_run_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    conductor = Conductor(parse_scenario(SCENARIO, "x"), lambda _text: None, asyncio.Event())

    async def fine(*_: object) -> None:
        conductor.record.started_s, conductor.record.ended_s = 1_000.0, 1_020.0
        conductor.record.totals.add("join_ms", 7)

    async def fails() -> None:
        raise struct.error("of a library")

    monkeypatch.setattr(conductor, "_prepare", fine)
    monkeypatch.setattr(conductor, "_play", fine)
    monkeypatch.setattr(conductor, "_look_back", fails)
    record = await conductor.run(conduct.Choice(), 1, [], "127.0.0.1")
    assert "struct" in record.broken or "error: of a library" in record.broken
    assert summarise(record, same_host=True).distributions["join_ms"].count == 2
    await conductor._look("The thing", fails())
    assert any(note.startswith("The thing could not be looked at: error: of a library") for note in record.notes)
