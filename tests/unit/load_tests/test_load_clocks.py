"""Generators on several machines: by how much each clock is before the run's is taken off all its times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from load_tests.report.ledger import Ledger
from load_tests.report.validity import GeneratorState, between_ms, reasons
from load_tests.run.crew import Hand, compared, order_of
from load_tests.session import engine, wall, waves


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    wall.set_ahead(0.0)


def machine(monkeypatch: pytest.MonkeyPatch, ahead_s: float, told_s: float) -> None:
    """From now on this process is on a machine whose clock is so much ahead, and was told another number."""
    clock = SimpleNamespace(
        time=lambda: time.time() + ahead_s, time_ns=lambda: time.time_ns() + round(ahead_s * 1e9)
    )  # fmt: skip
    monkeypatch.setattr(wall, "time", clock)
    wall.set_ahead(told_s)


@pytest.mark.parametrize(("device_s", "viewer_s"), [(-30.0, 2.0), (86_400.0, 86_430.0), (-90.0, -20.0)])
async def test_an_age_between_two_machines_has_no_difference_of_clocks_in_it(
    monkeypatch: pytest.MonkeyPatch, device_s: float, viewer_s: float
) -> None:
    ages = []
    for is_known in (True, False):
        ledger, sent = Ledger(), list[bytes]()
        machine(monkeypatch, device_s, device_s * is_known)
        source = waves.Source(0, 7, 3, ledger, "s")
        source.attach(lambda message, sent=sent: not sent.append(message))
        source._frame()
        source.close()
        machine(monkeypatch, viewer_s, viewer_s * is_known)
        waves.Viewer(ledger).message(sent[0])
        ages.append(ledger.distributions["ecg_age_ms"].total)
    assert ages[0] < 20_000  # of a machine under load
    assert ages[1] > (viewer_s - device_s) * 1000 - 1_000


def test_what_is_measured_over_the_link_is_what_a_generator_is_told() -> None:
    error_s, off_s = compared(asked=100.0, mine=130.004, now=100.01)
    assert (error_s, off_s) == (pytest.approx(0.005), pytest.approx(29.999))
    hand = Hand("x", None, clock_off_s=off_s, numbers=[3])  # type: ignore[arg-type]  # nothing is sent
    told = order_of(hand, {}, 1_000.0)
    assert (told["start_at"], told["ahead_s"]) == (1_000.0, off_s)


def test_what_is_not_known_of_clocks_adds_up_and_ends_belief() -> None:
    def state(error_ms: float, drift_ms: float) -> GeneratorState:
        return GeneratorState(
            name="x", sessions=1, cpu_share=0.1, late_p99_ms=1, rss_mb=1, sent=1, own_loss=0, clock_ahead_ms=90_000,
            clock_error_ms=error_ms, clock_drift_ms=drift_ms,
        )  # fmt: skip

    assert not reasons([state(4, 5)])  # how far it is off does not matter: that is taken out
    assert "only known to 12 ms (6 ms as it was measured, 6 ms that it moved)" in reasons([state(6, 6)])[0]
    assert between_ms([state(1, 0), state(3, 2), state(0, 4)]) == 9
    assert between_ms([]) == 0


def test_a_build_that_cannot_take_it_off_does_not_play() -> None:
    with pytest.raises(engine.EngineUnavailable, match="clocks differ"):
        engine.Engine(SimpleNamespace(NULL=None), SimpleNamespace(), ahead_ns=1)
