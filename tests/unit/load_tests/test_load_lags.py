"""Loop lag from the server's histograms to a run's: what a run reads is what the server has counted, and no more."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from load_tests.run.lags import LoopLags
from media.core.lag import BOUNDS_S, LagHistogram
from server.metrics import LAG_STEP_S
from server.metrics import LoopLags as ServerLags


class Exported:
    """A server's ``/metrics``."""

    def __init__(self) -> None:
        self.lags = ServerLags()
        self._registry = CollectorRegistry()
        self._registry.register(self.lags)

    def worker(self, name: str, *late_s: float) -> None:
        seen = LagHistogram(LAG_STEP_S)
        for one in late_s:
            seen.add(one)
        self.lags.worker(name, seen.counts, seen.total_s)

    def text(self) -> str:
        return generate_latest(self._registry).decode()


def test_a_run_reads_what_is_new_of_the_server_and_of_all_its_workers() -> None:
    server, reader = Exported(), LoopLags()
    for late_s in (0.0005, 0.012, 0.019):
        server.lags.server.add(late_s)
    server.worker("0", 0.004)
    server.worker("1", 0.045)  # late for three moments: 45, 25 and 5 ms
    worst = reader.take(server.text())
    assert worst == {"loop_lag_s": 0.02, "worker_lag_s": 0.05}
    seen = reader.pop()
    assert seen["server_loop_lag_ms"].count == 3
    assert seen["server_loop_lag_ms"].percentile(100) == 20.0  # the bucket's upper edge: never too low
    assert seen["worker_loop_lag_ms"].count == 4
    assert reader.pop() == {}

    assert reader.take(server.text()) == {}  # nothing since
    server.lags.server.add(0.3)
    assert reader.take(server.text())["loop_lag_s"] == pytest.approx(0.3)
    assert reader.pop()["server_loop_lag_ms"].count == 15


def test_another_process_begins_anew_and_what_is_above_all_edges_counts() -> None:
    server, reader = Exported(), LoopLags()
    for _ in range(50):
        server.lags.server.add(0.001)
    reader.take(server.text())
    reader.pop()
    again = Exported()
    again.lags.server.add(0.0)
    assert reader.take(again.text()) == {"loop_lag_s": BOUNDS_S[0]}
    assert reader.pop()["server_loop_lag_ms"].count == 1
    again.lags.server.counts[-1] += 1
    assert reader.take(again.text()) == {"loop_lag_s": 2 * BOUNDS_S[-1]}


def test_what_a_worker_of_an_older_kind_leaves_out_is_left_out() -> None:
    server = Exported()
    server.lags.worker("0", [], 0.0)
    assert LoopLags().take(server.text()) == {}
