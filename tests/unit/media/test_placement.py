"""Placement: least load first, stale reports corrected, full with hysteresis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core.control import Load
from media.core.placement import (
    CONSULT_COST,
    LEARN_FROM,
    PARTICIPANT_COST,
    PARTICIPANT_LEAST,
    RELIEF,
    SETTLE_MS,
    LoadLimits,
    WorkerLoad,
    least_busy,
)  # fmt: skip


def load(share: float, lag_ms: float = 0.0, transports: int = 0) -> Load:
    return Load(
        cpu_share=share, loop_lag_ms=lag_ms, packets_in_per_s=0, packets_out_per_s=0, transports=transports, consumers=0
    )  # fmt: skip


def at(share: float, lag_ms: float = 0.0) -> WorkerLoad:
    worker = WorkerLoad(LoadLimits())
    worker.report(load(share, lag_ms), 0)
    return worker


def test_the_least_busy_worker_takes_the_next_consult() -> None:
    workers = {0: at(0.5), 1: at(0.2), 2: at(0.3)}
    assert least_busy(workers, workers, 0) == 1
    assert least_busy(workers, [0, 2], 0) == 2
    assert least_busy(workers, [], 0) is None


def test_consults_placed_since_the_last_report_count() -> None:
    """Ten consults within one second do not all go to the worker that was idle at its last report."""
    workers = {0: at(0.10), 1: at(0.12)}
    placed = []
    for _ in range(10):
        chosen = least_busy(workers, workers, 0)
        assert chosen is not None
        workers[chosen].charge(CONSULT_COST, 0)
        placed.append(chosen)
    assert sorted(placed) == [0] * 5 + [1] * 5


def test_equal_load_is_decided_by_consults() -> None:
    workers = {0: WorkerLoad(LoadLimits(), consults=2), 1: WorkerLoad(LoadLimits(), consults=1)}
    assert least_busy(workers, workers, 0) == 1


def test_an_estimate_is_taken_back_when_reports_show_the_real_cost() -> None:
    worker = at(0.1)
    worker.charge(0.5, 1_000)
    assert worker.busy(1_000) == pytest.approx(0.6)
    assert worker.busy(1_000 + SETTLE_MS // 2) == pytest.approx(0.35)
    assert worker.busy(1_000 + SETTLE_MS) == 0.1


def test_one_busy_second_refuses_nobody_and_three_do() -> None:
    worker = at(0.2)
    worker.report(load(1.0), 1_000)
    assert worker.takes_consult(1_000)
    for second in (2, 3, 4):
        worker.report(load(1.0), second * 1_000)
    assert not worker.takes_consult(4_000)


def test_a_full_worker_takes_nobody_until_it_is_well_below_the_limit() -> None:
    worker = at(0.86)
    assert not worker.takes_consult(0)
    worker.share = 0.85 - RELIEF / 2
    assert not worker.takes_consult(0)
    worker.share = 0.85 - RELIEF - 0.01
    assert worker.takes_consult(0)
    worker.share = 0.84
    assert worker.takes_consult(0)


def test_people_of_a_consult_that_is_there_are_let_in_up_to_a_higher_limit() -> None:
    worker = at(0.9)
    assert not worker.takes_consult(0)
    assert worker.takes_participant(0)
    assert not at(0.96).takes_participant(0)


def test_a_late_loop_is_full_whatever_the_cpu_says() -> None:
    assert not at(0.1, lag_ms=100.0).takes_consult(0)
    assert at(0.1, lag_ms=50.0).takes_consult(0)


def test_what_another_is_charged_is_learnt_from_those_who_are_there() -> None:
    """Ninety who cost half a core must not make forty wait for what those would cost at four times the price."""
    worker = WorkerLoad(LoadLimits())
    for second in range(20):
        worker.report(load(0.45, transports=180), second * 1_000)
    assert worker.participant_cost == pytest.approx(1.5 * 0.45 / 90, rel=0.01)
    for _ in range(40):
        assert worker.takes_participant(19_000)
        worker.charge(worker.participant_cost, 19_000)
    for second in range(20, 40):
        worker.report(load(0.9, transports=20), second * 1_000)
    assert worker.participant_cost == PARTICIPANT_COST  # never more than the first estimate
    for second in range(40, 60):
        worker.report(load(0.001, transports=100), second * 1_000)
    assert worker.participant_cost == PARTICIPANT_LEAST  # nor next to nothing for those who send nothing yet
    worker.report(load(0.9, transports=LEARN_FROM - 1), 60_000)
    assert worker.participant_cost == PARTICIPANT_LEAST
    worker.reset()
    assert worker.participant_cost == PARTICIPANT_COST


def test_a_new_process_starts_empty() -> None:
    worker = at(0.99)
    worker.charge(0.5, 0)
    worker.reset()
    assert worker.busy(0) == 0.0


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 3_000), st.floats(0, 0.5)), max_size=60),
)
def test_placing_by_load_never_overfills_one_while_another_has_room(
    shares: list[float], arrivals: list[tuple[int, float]]
) -> None:
    """Whatever the reports said, a consult goes to a worker that had room, and to the one with least."""
    workers = {index: at(share) for index, share in enumerate(shares)}
    now_ms = 0
    for pause_ms, cost in arrivals:
        now_ms += pause_ms
        open_ones = [index for index in workers if workers[index].takes_consult(now_ms)]
        chosen = least_busy(workers, open_ones, now_ms)
        if chosen is None:
            assert all(worker.busy(now_ms) >= worker.limits.consult - RELIEF for worker in workers.values())
            continue
        assert workers[chosen].busy(now_ms) < LoadLimits().consult
        assert all(workers[chosen].busy(now_ms) <= workers[other].busy(now_ms) + 0.02 for other in open_ones)
        workers[chosen].charge(cost, now_ms)
